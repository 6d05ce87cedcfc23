//! `cargo xtask ci`: what CI runs, in the order in which a mistake is found soonest.

use anyhow::Result;

use crate::shell::{call, cargo, output, say};
use crate::{stories, tidy};

/// Seeds of the simulator: two minutes of one processor, on as many as there are two at a time.
const SEEDS: &str = "10000";

/// Runs everything; the first failing step ends it. The seeds of the fuzz targets, and mutations of them, are replayed by
/// the crates' own tests.
pub(crate) fn run_all() -> Result<()> {
    call(cargo(&["fmt", "--all", "--check"]))?;
    tidy::run(tidy::Mode::Check)?;
    call(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    stories::run(&stories::Options {
        required: vec!["rabbitmq", "collectd", "pika", "python", "git", "postfix", "postgresql"],
        long: false,
        args: Vec::new(),
    })?;
    // The embedded broker's conformance checks, put to the broker that they are modelled on.
    call(cargo(&["test", "--workspace", "--test", "conformance", "--", "--ignored"]))?;
    let mut seeds = cargo(&["test", "--profile", "quick", "-p", "kinetic-sim", "no_seed_breaks_a_rule"]);
    seeds.env("KINETIC_SIM_SEEDS", SEEDS);
    call(seeds)?;
    deny()
}

/// `cargo deny` says the same as tidy does of licences, wrappers and sources, and more; where it is installed, it is
/// asked as well. Advisories are left out: they need the network and change without us.
fn deny() -> Result<()> {
    if output(cargo(&["deny", "--version"])).is_err() {
        say("cargo-deny is not installed: tidy has checked licences, wrappers and sources\n");
        return Ok(());
    }
    call(cargo(&["deny", "check", "licenses", "bans", "sources"]))
}

/// `cargo xtask ci`.
pub(crate) fn run() -> Result<()> {
    run_all()?;
    say("\nci: everything passed\n");
    Ok(())
}
