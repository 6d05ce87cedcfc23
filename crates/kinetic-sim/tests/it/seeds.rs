//! Random seeds: nothing that may never happen happens. `KINETIC_SIM_SEEDS=N` runs so many, `KINETIC_SIM_SEED=S` only
//! that one, with its story.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use kinetic_sim::plan::{self, Outcome};

/// Seeds that every run of the tests goes through.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch, for people at a terminal")]
    std::env::var(name).ok()?.parse().ok()
}

/// The outcomes of seeds that broke a rule, lowest first.
fn broken(from: u64, to: u64) -> Vec<Outcome> {
    let next = AtomicU64::new(from);
    let work = || {
        let mut found = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= to {
                return found;
            }
            let outcome = plan::run(seed, &[], false);
            if !outcome.violations.is_empty() {
                found.push(outcome);
            }
        }
    };
    let mut found = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a seed panicked")).collect::<Vec<_>>()
    });
    found.sort_by_key(|outcome: &Outcome| outcome.seed);
    found
}

#[test]
fn no_seed_breaks_a_rule() {
    if let Some(seed) = number("KINETIC_SIM_SEED") {
        let outcome = plan::run(seed, &[], true);
        println!("{}", outcome.timeline);
        assert!(outcome.violations.is_empty(), "{}", told(&[outcome]));
        return;
    }
    let found = broken(0, number("KINETIC_SIM_SEEDS").unwrap_or(SEEDS));
    assert!(found.is_empty(), "{}", told(&found));
}

fn told(found: &[Outcome]) -> String {
    let mut text = format!("{} seeds broke a rule\n", found.len());
    for outcome in found.iter().take(20) {
        writeln!(text, "seed {} with {:?}:", outcome.seed, outcome.faults).expect("text");
        for violation in outcome.violations.iter().take(3) {
            writeln!(text, "  {violation}").expect("text");
        }
    }
    if let Some(first) = found.first() {
        let seed = first.seed;
        writeln!(text, "its story: KINETIC_SIM_SEED={seed} cargo test -p kinetic-sim no_seed -- --nocapture")
            .expect("text");
    }
    text
}

#[test]
fn one_seed_is_one_run() {
    let (one, other) = (plan::run(7, &[], true), plan::run(7, &[], true));
    assert!(!one.timeline.is_empty() && one.timeline == other.timeline);
    assert_ne!(one.timeline, plan::run(8, &[], true).timeline);
}
