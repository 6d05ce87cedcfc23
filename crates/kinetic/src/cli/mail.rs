//! Arguments of `kinetic mail`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{BrokerAddress, MailBounced, MailSuppressed, MailUnsuppress};

/// `kinetic mail`
#[derive(Debug, Subcommand)]
pub(crate) enum Mail {
    /// Show what an alert's mail looks like, with made-up numbers; nothing is sent
    Preview(MailPreview),
    /// Take a delivery report on standard input: mail to a recipient came back
    Bounced(MailBounced),
    /// Show the addresses to which nothing is sent, since relays refuse them
    Suppressed(MailSuppressed),
    /// Send mail to an address again
    Unsuppress(MailUnsuppress),
    /// Show who has taken himself off which alert, by the link in a mail
    Unsubscribed(MailUnsubscribed),
    /// Put somebody back on an alert that he has taken himself off
    Subscribe(MailSubscribe),
}

/// `kinetic mail preview`
#[derive(Debug, Args)]
#[command(after_help = "\
The mail is made by what makes real ones, templates and signature included, and is marked as a preview. It is signed only where
this machine has the key.

Examples:
  kinetic mail preview . --customer acme --alert checkout-team            the text, as a terminal shows it
  kinetic mail preview . --customer acme --alert checkout-team --out /tmp/mail
                                                                          mail.eml, mail.html, mail.png and mail.txt
  kinetic mail preview . --customer acme --alert checkout-team --eml | mutt -f /dev/stdin
  kinetic mail preview . --customer acme --alert checkout-team --webhook pager | jq .alerts[0].labels")]
pub(crate) struct MailPreview {
    /// Schema folder or repository
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) schema: String,
    /// Whose alert
    #[arg(long, value_name = "CUSTOMER")]
    pub(crate) customer: String,
    /// Name of the alert block
    #[arg(long, value_name = "ALERT")]
    pub(crate) alert: String,
    /// Write the message, its HTML, its picture and its text there
    #[arg(long, value_name = "DIR", conflicts_with = "eml")]
    pub(crate) out: Option<PathBuf>,
    /// Print what would be posted to this webhook of the alert instead
    #[arg(long, value_name = "WEBHOOK", conflicts_with_all = ["out", "eml"])]
    pub(crate) webhook: Option<String>,
    /// Print the whole message as a relay would get it
    #[arg(long)]
    pub(crate) eml: bool,
}

/// `kinetic mail unsubscribed`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic mail unsubscribed --amqp amqp://kinetic@127.0.0.1/kinetic --password-file DATA/broker-secret
  kinetic mail unsubscribed acme --json --amqp … | jq -r '.unsubscribed[].to'")]
pub(crate) struct MailUnsubscribed {
    /// Only this customer's alerts
    #[arg(value_name = "CUSTOMER")]
    pub(crate) customer: Option<String>,
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic mail subscribe`
#[derive(Debug, Args)]
#[command(after_help = "\
What fires is mailed to him as news. Exit code 1 where he has not taken himself off.

Example:
  kinetic mail subscribe acme checkout-team ann@acme.example \\
      --amqp amqp://kinetic@127.0.0.1/kinetic --password-file DATA/broker-secret")]
pub(crate) struct MailSubscribe {
    /// Whose alert; `kinetic` for the installation's watchdog
    #[arg(value_name = "CUSTOMER")]
    pub(crate) customer: String,
    /// Name of the alert block
    #[arg(value_name = "ALERT")]
    pub(crate) alert: String,
    /// The recipient, as the schema writes it and `kinetic mail unsubscribed` shows it
    #[arg(value_name = "RECIPIENT")]
    pub(crate) to: String,
    /// Who puts him back; the user of this machine by default
    #[arg(long, value_name = "NAME")]
    pub(crate) author: Option<String>,
    /// How to reach the control vhost, with the login of a node
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
