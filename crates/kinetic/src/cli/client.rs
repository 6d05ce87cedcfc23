//! Arguments of the commands by which people see what a client is told, and what arrives from it.

use clap::{Args, ValueEnum};

use super::BrokerAddress;

/// `kinetic locate`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic locate --amqp amqp://acme.first@127.0.0.1/local --password-file key
                                            where this customer publishes, as its login tells
  kinetic locate --amqp … --profile web --data-type statsd
                                            whether a source of that profile takes statsd; exit code 1 if none does
  kinetic locate --amqp … --origin web-7.example
                                            in which order that host is told the addresses
  kinetic locate --amqp … --json            the redirector's answer, or its refusal, as it came")]
pub(crate) struct Locate {
    /// How to reach the broker
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// Ask for sources of this profile
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,
    /// Ask for sources that take this; may stand more than once
    #[arg(long, value_name = "TYPE")]
    pub(crate) data_type: Vec<DataType>,
    /// Ask as this host would; this one's name by default
    #[arg(long, value_name = "NAME")]
    pub(crate) origin: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a client publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataType {
    /// statsd lines
    Statsd,
    /// collectd's Command, JSON or Graphite format
    Collectd,
    /// Graphite plaintext
    Graphite,
    /// Influx line protocol
    Influx,
    /// Any of these
    Auto,
}

/// `kinetic tap`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kinetic tap acme/web --schema /srv/kinetic/schema --amqp amqp://kinetic@127.0.0.1 \\
      --password-file /var/lib/kinetic/broker-secret")]
pub(crate) struct Tap {
    /// CUSTOMER/SOURCE
    pub(crate) source: String,
    /// How to reach the broker
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// Schema folder or repository
    #[arg(long, value_name = "DIR|REMOTE", default_value = ".")]
    pub(crate) schema: String,
    /// Print one JSON object a sample
    #[arg(long)]
    pub(crate) json: bool,
    /// End after this many samples
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Only metrics that this pattern matches
    #[arg(long, value_name = "GLOB")]
    pub(crate) metric: Option<String>,
}
