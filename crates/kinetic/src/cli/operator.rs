//! Arguments of the commands by which operators look at an installation and change its course.

use clap::Args;

use super::BrokerAddress;

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
