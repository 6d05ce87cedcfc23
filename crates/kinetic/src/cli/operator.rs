//! Arguments of the commands by which operators look at an installation and change its course.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::BrokerAddress;
use crate::cmd::moment;

/// `kinetic map`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic map --amqp amqp://kinetic@127.0.0.1/kinetic --password-file DATA/broker-secret
  kinetic map --watch --customer acme --amqp …
  kinetic map --json --amqp … | jq '.sources[] | select(.owner == null)'")]
pub(crate) struct Map {
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// Only this customer's sources
    #[arg(long, value_name = "CUSTOMER")]
    pub(crate) customer: Option<String>,
    /// Only this analyzer and what it owns
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Sources shown at most, those without an owner first
    #[arg(long, value_name = "COUNT", default_value_t = 40)]
    pub(crate) limit: usize,
    /// Look again every two seconds
    #[arg(long)]
    pub(crate) watch: bool,
    /// One JSON object with everything
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic drain`
#[derive(Debug, Args)]
#[command(after_help = "\
The analyzer is given nothing more, and its sources leave it one by one as others can take them. It goes on living, and what
nobody else can serve stays with it. Exit code 1 where no analyzer of that name has a lease.

Examples:
  kinetic drain analyzer-7 --wait --amqp amqp://kinetic@127.0.0.1/kinetic --password-file DATA/broker-secret
  kinetic drain analyzer-7 --undo --amqp …")]
pub(crate) struct DrainNode {
    /// Name of the analyzer
    #[arg(value_name = "NODE")]
    pub(crate) name: String,
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// Take it back: it may be given sources again
    #[arg(long)]
    pub(crate) undo: bool,
    /// Wait until it owns nothing any more, and say how it goes
    #[arg(long)]
    pub(crate) wait: bool,
    /// JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic dns-zone`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic dns-zone . --domain example.net > kinetic.zone
  kinetic dns-zone --schema https://git.example/schema.git --domain example.net --json

The name of a customer is <customer>.<region>.<domain>; SRV records list the region's brokers in order.")]
pub(crate) struct DnsZone {
    /// Schema folder or repository
    #[arg(value_name = "DIR", required_unless_present = "schema")]
    pub(crate) dir: Option<String>,
    /// The same, as other commands take it
    #[arg(long, value_name = "REMOTE", conflicts_with = "dir")]
    pub(crate) schema: Option<String>,
    /// Domain of the names
    #[arg(long)]
    pub(crate) domain: String,
    /// Broker of regions that name none, amqp[s]://HOST[:PORT]; several in order
    #[arg(long, value_name = "URI")]
    pub(crate) broker: Vec<String>,
    /// How long a record may be kept, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) ttl: u32,
    /// JSON instead of a zone fragment
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic silence`
#[derive(Debug, Subcommand)]
pub(crate) enum Silence {
    /// Tell nobody of something for a while
    Add(SilenceAdd),
    /// Show the silences that have not ended
    List(SilenceList),
    /// End a silence before its time
    End(SilenceEnd),
}

/// `kinetic silence add`
#[derive(Debug, Args)]
#[command(after_help = "\
An alert is meant when one of the globs of each kind that is given matches it. It is followed as ever; when the silence ends, what still
fires is mailed, and so is the end of what somebody had been told of.

Examples:
  kinetic silence add acme --origin 'web-3*' --for 2h --reason 'new disks' \\
      --amqp amqp://kinetic@127.0.0.1/kinetic --password-file DATA/broker-secret
  kinetic silence add acme --service checkout --from 22:00 --until 2026-11-21T06:00Z --reason 'release 41' --amqp …
  kinetic silence add acme --all --for 30m --reason 'network change' --amqp …")]
pub(crate) struct SilenceAdd {
    /// Whose alerts; `kinetic` for the installation's own nodes
    #[arg(value_name = "CUSTOMER")]
    pub(crate) customer: String,
    /// What is meant
    #[command(flatten)]
    pub(crate) meant: Meant,
    /// When it begins, as with --until; now by default
    #[arg(long, value_name = "TIME", value_parser = moment::until)]
    pub(crate) from: Option<i64>,
    /// When it ends
    #[command(flatten)]
    pub(crate) end: End,
    /// Why, and who says so
    #[command(flatten)]
    pub(crate) word: Word,
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a silence means.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Meant {
    /// Services, by glob
    #[arg(long, value_name = "GLOB")]
    pub(crate) service: Vec<String>,
    /// Clusters by their own name, by glob
    #[arg(long, value_name = "GLOB")]
    pub(crate) cluster: Vec<String>,
    /// Analytics, by glob
    #[arg(long, value_name = "GLOB")]
    pub(crate) analytic: Vec<String>,
    /// Origins, by glob
    #[arg(long, value_name = "GLOB")]
    pub(crate) origin: Vec<String>,
    /// Metrics, by glob
    #[arg(long, value_name = "GLOB")]
    pub(crate) metric: Vec<String>,
    /// All of the customer's alerts
    #[arg(long, conflicts_with_all = ["service", "cluster", "analytic", "origin", "metric"])]
    pub(crate) all: bool,
}

/// How long something lasts.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct End {
    /// For so long: 30m, 2h, 1h30m, 3d
    #[arg(long = "for", value_name = "DURATION", value_parser = moment::duration)]
    pub(crate) lasts: Option<Duration>,
    /// Until then: 2026-11-21T06:00Z, 2026-11-21T08:00+02:00, or 18:00, the next one; UTC where no offset is said
    #[arg(long, value_name = "TIME", value_parser = moment::until)]
    pub(crate) until: Option<i64>,
}

/// What people say for themselves.
#[derive(Clone, Debug, Args)]
pub(crate) struct Word {
    /// Why; others read it
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Who; the user of this machine by default
    #[arg(long, value_name = "NAME")]
    pub(crate) author: Option<String>,
}

/// `kinetic silence list`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic silence list --amqp amqp://kinetic@127.0.0.1/kinetic --password-file DATA/broker-secret
  kinetic silence list acme --json --amqp … | jq -r '.silences[].id'")]
pub(crate) struct SilenceList {
    /// Only this customer's
    #[arg(value_name = "CUSTOMER")]
    pub(crate) customer: Option<String>,
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic silence end`
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 1 where no silence of that name stands.

Example:
  kinetic silence end acme 5f2c81d09ab3 --amqp amqp://kinetic@127.0.0.1/kinetic --password-file DATA/broker-secret")]
pub(crate) struct SilenceEnd {
    /// Whose
    #[arg(value_name = "CUSTOMER")]
    pub(crate) customer: String,
    /// Its name, as `kinetic silence list` says it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Who ends it; the user of this machine by default
    #[arg(long, value_name = "NAME")]
    pub(crate) author: Option<String>,
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic ack`
#[derive(Debug, Args)]
#[command(after_help = "\
What fires is not repeated and not escalated until then, or until all of it is over, whichever comes first. What fires anew is mailed.
Exit code 1 where nothing fires.

Examples:
  kinetic ack acme/slow-host/checkout/frontends --for 2h --reason 'on it' \\
      --amqp amqp://kinetic@127.0.0.1/kinetic --password-file DATA/broker-secret
  kinetic ack 'acme/@team/checkout/*' --until 18:00 --reason 'waiting for disks' --author ann --amqp …")]
pub(crate) struct Ack {
    /// The group, as `kinetic episodes` names it
    #[arg(value_name = "GROUP")]
    pub(crate) group: String,
    /// When it ends
    #[command(flatten)]
    pub(crate) end: End,
    /// Why, and who says so
    #[command(flatten)]
    pub(crate) word: Word,
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic episodes`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic episodes --amqp amqp://kinetic@127.0.0.1/kinetic --password-file DATA/broker-secret
  kinetic episodes acme --json --amqp … | jq -r '.episodes[] | select(.acknowledged == null) | .group'")]
pub(crate) struct Episodes {
    /// Only this customer's
    #[arg(value_name = "CUSTOMER")]
    pub(crate) customer: Option<String>,
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
