//! Arguments of `kinetic bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{BrokerAddress, Trust};

/// `kinetic bench`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic bench                                     embedded broker
  kinetic bench --amqp amqp://guest@127.0.0.1 --password-file pw
                                                    RabbitMQ
  kinetic bench --millions 4 --json --peer          and the script that one would write instead
  kinetic bench redirector                          the redirector alone, with a million customers
  kinetic bench alert                               the alert node alone, with a mail sink")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    /// One part alone, instead of the whole line
    #[command(subcommand)]
    pub(crate) part: Option<BenchPart>,
    /// Samples to publish, in millions
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) millions: u32,
    /// RabbitMQ instead of the embedded broker
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) amqp: Vec<String>,
    /// File with the password of --amqp's login (mode 600)
    #[arg(long, value_name = "FILE", requires = "amqp")]
    pub(crate) password_file: Option<PathBuf>,
    /// Whom to trust there, and who we are
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Also run a script of pika and numpy that does the same work
    #[arg(long)]
    pub(crate) peer: bool,
    /// Times that everything is measured; the medians are printed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 1400, value_parser = clap::value_parser!(u32).range(100..=1_048_576))]
    pub(crate) body_bytes: u32,
}

/// Parts that can be measured alone.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchPart {
    /// The redirector's map in this process: locate answers, memory, placing after a loss
    Redirector(BenchRedirector),
    /// The alert node: events into history, mails out, and how far one customer's storm delays another
    Alert(BenchAlert),
}

/// `kinetic bench redirector`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic bench redirector
  kinetic bench redirector --customers 100000 --analyzers 100 --json")]
pub(crate) struct BenchRedirector {
    /// Customers in the map, each with one source
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) customers: u32,
    /// Analyzers that share them
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) analyzers: u32,
    /// Questions asked
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub(crate) questions: u32,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic bench alert`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic bench alert
  kinetic bench alert --events 1000000 --json
  kinetic bench alert --history postgres://kinetic@127.0.0.1/bench --history-password-file pw   into an empty database

Goals: 20,000 events/s, 1,000 mails/s, p99 under 1,000 ms beyond group_wait, a storm's delay under 2,000 ms.")]
pub(crate) struct BenchAlert {
    /// Events published to measure how many are stored durably
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    pub(crate) events: u32,
    /// Mails sent to a sink in this process to measure how many can be
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=9_000))]
    pub(crate) mails: u32,
    /// Alerts of the customer whose storm must not delay another's mail
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pub(crate) storm: u32,
    /// Folder for the history; a temporary one by default, and what that lies on is what is measured
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// History to write to instead, which must be empty
    #[arg(long, value_name = "URL")]
    pub(crate) history: Option<String>,
    /// File that holds the password of the PostgreSQL login
    #[arg(long, value_name = "FILE", requires = "history")]
    pub(crate) history_password_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic bench-drain`
#[derive(Debug, Args)]
pub(crate) struct BenchDrain {
    /// null or analyzer
    pub(crate) what: String,
    /// How to reach the broker
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// Schema repository
    #[arg(long)]
    pub(crate) schema: String,
    /// Bodies to drain
    #[arg(long)]
    pub(crate) bodies: u64,
    /// Samples in them
    #[arg(long)]
    pub(crate) samples: u64,
}
