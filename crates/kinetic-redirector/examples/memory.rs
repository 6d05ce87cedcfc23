//! Memory and time of a large installation, at every stage of its life.
//! `cargo run --release -p kinetic-redirector --example memory -- 1000000 1000`
#![expect(clippy::print_stdout, reason = "an example reports to people")]

use std::io::Read;
use std::time::Duration;

use kinetic_redirector::machine::Input;

#[path = "../benches/large/mod.rs"]
mod large;

/// Resident memory now and its highest so far, MiB (`proc(5)`).
fn memory() -> (u64, u64) {
    let mut text = String::new();
    let mut file = std::fs::File::open("/proc/self/status").expect("this runs on Linux");
    file.read_to_string(&mut text).expect("it can be read");
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).expect("the field");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Does something, and shows the processor time that the machine took for it, its longest step, and the memory left.
fn stage(name: &str, large: &mut large::Large, work: impl FnOnce(&mut large::Large)) {
    (large.busy, large.longest, large.steps) = Default::default();
    work(large);
    let (resident, highest) = memory();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{name:<20} {:>8.1} ms in {:>4} steps, longest {:>6.1} ms; {resident:>4} MiB, highest {highest}; {} moves",
        ms(large.busy),
        large.steps,
        ms(large.longest),
        large.machine.stats().moves
    );
}

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let (customers, analyzers) = (numbers.next().unwrap_or(1_000_000), numbers.next().unwrap_or(1_000));
    let mut large = large::Large::registered(large::map("r1", 1, customers), analyzers);
    stage("registered", &mut large, |_| {});
    stage("placed", &mut large, large::Large::place);
    stage("taken up", &mut large, large::Large::beat);
    large.now = large.now + Duration::from_secs(5);
    stage("held, with rates", &mut large, large::Large::beat);
    stage("one analyzer gone", &mut large, |large| {
        large.lose(analyzers / 2);
        large.settle();
    });
    large.analyzers.remove(analyzers / 2);
    let next = large::map("r2", 2, customers + 1);
    stage("next map in hand", &mut large, |_| {});
    stage("next map in force", &mut large, |large| {
        large.handle(Input::MapChanged { map: next });
        large.settle();
    });
    stage("held", &mut large, large::Large::beat);
    let stats = large.machine.stats();
    println!("{} owned, {} without an owner", stats.sources_owned, stats.sources_unowned);
}
