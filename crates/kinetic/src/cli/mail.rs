//! Arguments of `kinetic mail`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `kinetic mail`
#[derive(Debug, Subcommand)]
pub(crate) enum Mail {
    /// Show what an alert's mail looks like, with made-up numbers; nothing is sent
    Preview(MailPreview),
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
