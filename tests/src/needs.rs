//! What a story needs that may not be on this machine. A lack is said loudly, and is a failure where it was required.

use std::io::Write;
use std::path::Path;

use crate::process::Launch;

/// Names what must not be missing, separated by commas; `cargo xtask test --require-…` sets it.
const REQUIRE: &str = "KINETIC_STORIES_REQUIRE";
/// Names the file into which skipped stories are written, for a summary at the end.
const SKIPPED: &str = "KINETIC_STORIES_SKIPPED";

/// Set to run what takes minutes: `cargo xtask test --long` does.
const LONG: &str = "KINETIC_LONG";

/// Whether the long forms of stories are asked for.
#[must_use]
pub fn is_long() -> bool {
    std::env::var(LONG).is_ok_and(|value| !value.is_empty() && value != "0")
}

/// Something that is installed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Debian's `rabbitmq-server`.
    RabbitMq,
    /// Debian's `collectd-core` with its amqp plugin.
    Collectd,
    /// Python 3 with pika.
    Pika,
    /// Python 3 and OpenSSL's program.
    Python,
    /// The git program.
    Git,
    /// Debian's `postfix`, and root, who alone may run it.
    Postfix,
    /// Debian's `postgresql`.
    Postgres,
    /// Minutes: the story runs only where long forms are asked for.
    Patience,
}

impl Need {
    fn name(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Collectd => "collectd",
            Self::Pika => "pika",
            Self::Python => "python",
            Self::Git => "git",
            Self::Postfix => "postfix",
            Self::Postgres => "postgresql",
            Self::Patience => "patience",
        }
    }

    fn is_here(self) -> bool {
        match self {
            Self::RabbitMq => Path::new(crate::rabbit::SERVER).exists(),
            Self::Collectd => crate::tool::collectd_is_here(),
            Self::Pika => crate::tool::python_with("pika").is_some(),
            Self::Python => {
                let probe = "command -v openssl && python3 -c 'import email'";
                Launch::new("/bin/sh").args(["-c", probe]).output().status.success()
            }
            Self::Postfix => crate::postfix::is_here(),
            Self::Postgres => crate::postgres::programs().is_some(),
            Self::Patience => is_long(),
            Self::Git => Launch::new("/bin/sh").args(["-c", "git --version"]).output().status.success(),
        }
    }
}

/// Whether a story can run; if it cannot, says so where it will be seen.
///
/// # Panics
/// If something is missing that was required.
#[must_use]
pub fn all_here(story: &str, needs: &[Need]) -> bool {
    let required = std::env::var(REQUIRE).unwrap_or_default();
    let mut here = true;
    for need in needs {
        if need.is_here() {
            continue;
        }
        if *need == Need::Patience {
            // Nobody's machine lacks anything: this is the ordinary, short run.
            say(&format!("{story}: only in the long form"));
            return false;
        }
        let name = need.name();
        assert!(
            !required.split(',').any(|one| one == name),
            "{story} needs {name}, which is required and not here"
        );
        skip(&format!("{story}: {name} is not on this machine"));
        here = false;
    }
    here
}

/// Prints a line past libtest's capture, which hides what passing tests print: figures, and what did not run.
pub fn say(line: &str) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "{line}").ok();
}

fn skip(line: &str) {
    say(&format!("SKIPPED {line}"));
    if let Ok(path) = std::env::var(SKIPPED)
        && let Ok(mut file) = std::fs::File::options().create(true).append(true).open(path)
    {
        writeln!(file, "{line}").ok();
    }
}
