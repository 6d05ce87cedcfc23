//! Repository chores, run as `cargo xtask …` (an alias in `.cargo/config.toml`).

mod ci;
mod shell;
mod stories;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask tidy [--write]      check what compilers do not: crate edges, licences, the names in ARCHITECTURE.md, …
cargo xtask test [--require-rabbitmq] [--require-tools] [--long] [ARGS]
                                build everything and run all tests, stories across processes included
                                (--long: failures by the dozen, clusters of brokers; a quarter of an hour more);
                                ARGS go to the test binaries (a name to filter by, --nocapture)
cargo xtask ci                  what CI runs: formatting, tidy, lints, all tests, licences
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first().map(|(command, rest)| (command.as_str(), rest)) {
        Some(("tidy", [])) => tidy::run(tidy::Mode::Check),
        Some(("tidy", [flag])) if flag == "--write" => tidy::run(tidy::Mode::Write),
        Some(("test", rest)) => stories::Options::parse(rest).and_then(|options| stories::run(&options)),
        Some(("ci", [])) => ci::run(),
        _ => {
            shell::say(USAGE);
            return ExitCode::from(64);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("\n{error:#}\n"));
            ExitCode::FAILURE
        }
    }
}
