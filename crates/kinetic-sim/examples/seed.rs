//! Prints the story of one seed: `cargo run -p kinetic-sim --example seed -- SEED`.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use kinetic_sim::plan;

fn main() {
    let seed = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let outcome = plan::run(seed, &[], true);
    println!("{}", outcome.timeline);
    println!(
        "seed {seed} with {:?}: {} samples confirmed, {} late, {} alert events accepted, {} ownerships told",
        outcome.faults, outcome.confirmed, outcome.late, outcome.accepted, outcome.moves
    );
    for violation in &outcome.violations {
        println!("{violation}");
    }
}
