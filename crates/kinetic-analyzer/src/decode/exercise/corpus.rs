//! The fuzz targets' seeds, and a fixed set of mutations of each, through the same functions that the fuzzer calls.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Mutations tried per seed.
const MUTATIONS: u64 = 300;

/// Seeds of a target, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut seeds: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let mut body = Vec::new();
            File::open(&path).unwrap().read_to_end(&mut body).unwrap();
            (path.display().to_string(), body)
        })
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no seeds in {}", folder.display());
    seeds
}

/// A small generator of numbers (Steele's splitmix64): the same mutations on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end.max(1) as u64).unwrap()
    }
}

/// One to four small changes of a body: another byte, a sign of the grammars, a part left out or said twice.
fn mutate(body: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    const SIGNS: &[u8] = b":|@#,;=[]\"\\/{} \n\r\0\xff-+.eEN0";
    let mut body = body.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(body.len() + 1);
        let to = at + numbers.below(body.len() - at + 1);
        match numbers.below(5) {
            0 if at < body.len() => body[at] = u8::try_from(numbers.below(256)).unwrap(),
            1 if at < body.len() => body[at] = SIGNS[numbers.below(SIGNS.len())],
            2 => drop(body.drain(at..to)),
            3 => {
                let part = body[at..to].to_vec();
                body.splice(to..to, part);
            }
            _ => body.insert(at, SIGNS[numbers.below(SIGNS.len())]),
        }
    }
    body
}

fn replay(target: &str, exercise: fn(&[u8])) {
    for (name, body) in seeds(target) {
        exercise(&body);
        for seed in 0..MUTATIONS {
            let mutant = mutate(&body, &mut Numbers(seed));
            let outcome = std::panic::catch_unwind(|| exercise(&mutant));
            assert!(outcome.is_ok(), "{name}, mutation {seed}: {:?}", String::from_utf8_lossy(&mutant));
        }
    }
}

#[test]
fn statsd() {
    replay("statsd", super::statsd);
}

#[test]
fn collectd() {
    replay("collectd", super::collectd);
}

#[test]
fn graphite() {
    replay("graphite", super::graphite);
}

#[test]
fn influx() {
    replay("influx", super::influx);
}

#[test]
fn detect_inflate() {
    replay("detect_inflate", super::detect_and_inflate);
}
