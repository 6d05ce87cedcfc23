//! Arguments of the commands by which people see what a client is told, and what arrives from it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::BrokerAddress;
use crate::cmd::moment;

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
    /// Show the token, where one is given: whoever has it can publish as you until it expires
    #[arg(long)]
    pub(crate) token: bool,
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

/// `kinetic test-event`
#[derive(Debug, Args)]
#[command(after_help = "\
A burst of feeds that do not exist is published where the customer's own data is, judged by itself, and mailed, marked as a test,
to those whom the customer's alerts name. Nothing of it mixes with data. Exit code 0 only when the relay has taken the mail.

Examples:
  kinetic test-event acme --schema /srv/kinetic/schema --amqp amqp://kinetic@127.0.0.1/kinetic \\
      --password-file /var/lib/kinetic/broker-secret
                                            the whole way, by the login of a node
  kinetic test-event acme … --to me@acme.example
                                            the same, with the mail to me alone
  kinetic test-event acme … --login acme.first --login-password-file key
                                            published as the customer, so that login and permissions are tested too
  kinetic test-event acme … --json | jq .ok")]
pub(crate) struct TestEvent {
    /// Whose line to test
    #[arg(value_name = "CUSTOMER")]
    pub(crate) customer: String,
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// Schema folder or repository
    #[arg(long, value_name = "DIR|REMOTE", default_value = ".")]
    pub(crate) schema: String,
    /// Which of the customer's sources; the first by name otherwise
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,
    /// Publish with this login of the customer
    #[arg(long, value_name = "LOGIN", requires = "login_password_file")]
    pub(crate) login: Option<String>,
    /// File whose first line is that login's password (mode 600)
    #[arg(long, value_name = "FILE", requires = "login")]
    pub(crate) login_password_file: Option<PathBuf>,
    /// Mail this address and nobody else; may stand more than once
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) to: Vec<String>,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = moment::duration)]
    pub(crate) timeout: Duration,
    /// Print one JSON object at the end
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic canary`
#[derive(Debug, Args)]
#[command(after_help = "\
What `kinetic test-event` does, again and again, until it is told to stop. The test's mail goes to --to, which should be a mailbox that
wakes nobody. When tests fail in a row, --alarm-to is mailed by this process itself, by the last relay that the schema names (or
--relay), and by the others when that does not take it; again after --again, and when tests arrive again. Run it on a machine of
its own: it is there for the day on which the installation cannot speak.

Example:
  kinetic canary acme --schema https://git.example/schema.git --every 15m --to canary@example.net --alarm-to ops@example.net \\
      --amqp amqps://kinetic@broker.example/kinetic --password-file /etc/kinetic/broker-secret")]
pub(crate) struct Canary {
    /// Whose lines to test, one after the other
    #[arg(value_name = "CUSTOMER", required = true)]
    pub(crate) customer: Vec<String>,
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// Schema folder or repository, read anew for every round
    #[arg(long, value_name = "DIR|REMOTE")]
    pub(crate) schema: String,
    /// Where the mails of the tests go; may stand more than once
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub(crate) to: Vec<String>,
    /// Whom to mail when tests do not arrive; may stand more than once
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub(crate) alarm_to: Vec<String>,
    /// Relay of the schema by which alarms go first; the last one otherwise
    #[arg(long, value_name = "NAME")]
    pub(crate) relay: Option<String>,
    /// Time between two rounds
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = moment::duration)]
    pub(crate) every: Duration,
    /// When a test counts as failed
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = moment::duration)]
    pub(crate) timeout: Duration,
    /// How many in a row must fail before the alarm; after the first the next comes within 30 seconds
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) fails: u32,
    /// As long as they fail, alarm again after this long
    #[arg(long, value_name = "DURATION", default_value = "4h", value_parser = moment::duration)]
    pub(crate) again: Duration,
}
