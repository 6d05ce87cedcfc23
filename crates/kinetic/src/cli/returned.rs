//! Arguments of the commands about mail that came back.

use clap::Args;

use super::BrokerAddress;

/// `kinetic mail bounced`
#[derive(Debug, Args)]
#[command(after_help = "\
Reads one delivery report (RFC 3464) on standard input and tells the alert node, for which a status of class 5 counts like a refusal by
a relay: two within seven days, and nothing more is sent to that address. To be run by the mail server that receives what is
sent to `mail.bounces` of the schema; docs/alerting-delivery.md has a recipe for Postfix.

Exit code 0 when the alert node has it on disk, 65 when this is no report about a mail of this installation, 75 when it is to
be tried again later: mail servers know what these mean.

Examples:
  kinetic mail bounced --amqp amqp://kinetic@127.0.0.1/kinetic --password-file DATA/broker-secret < report.eml
  kinetic mail bounced --recipient bounces+53f1a0c2b7e4d886@acme.example --amqp … < report.eml")]
pub(crate) struct MailBounced {
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// Address to which the report came, with `+` and its token; else as its headers say
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) recipient: Option<String>,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic mail suppressed`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic mail suppressed --amqp amqp://kinetic@127.0.0.1/kinetic --password-file DATA/broker-secret
  kinetic mail suppressed --json --amqp … | jq -r '.suppressions[].address'")]
pub(crate) struct MailSuppressed {
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic mail unsuppress`
#[derive(Debug, Args)]
#[command(after_help = "\
Its recipient is told what fires, as somebody new would be. Exit code 1 where nothing keeps mail from the address.

Example:
  kinetic mail unsuppress oncall@acme.example --amqp amqp://kinetic@127.0.0.1/kinetic --password-file DATA/broker-secret")]
pub(crate) struct MailUnsuppress {
    /// The address
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// Who says that it is good again; the user of this machine by default
    #[arg(long, value_name = "NAME")]
    pub(crate) author: Option<String>,
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
