//! Arguments of `kinetic plan` and `kinetic reconcile`.

use std::path::PathBuf;

use clap::Args;

use super::BrokerAddress;

/// What both commands take.
#[derive(Debug, Args)]
pub(crate) struct Reconciled {
    /// Schema folder or repository; the one in this folder by default
    #[arg(value_name = "DIR|REMOTE", default_value = ".")]
    pub(crate) schema: String,
    /// The control vhost, with the login of Kinetic's own nodes, which is the management API's as well
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// Management API of the broker of --amqp, for regions whose block has no `management`: http[s]://HOST[:PORT]
    #[arg(long, value_name = "URL")]
    pub(crate) management: Option<String>,
    /// File with the login's password at the management API, where that is another than --password-file's
    #[arg(long, value_name = "FILE")]
    pub(crate) management_password_file: Option<PathBuf>,
    /// Lines shown at most; all of them with --json
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) limit: usize,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic plan`
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0 where there is nothing to do, 2 where there is something.

Examples:
  kinetic plan . --amqp amqp://kinetic@127.0.0.1/prod --password-file pw --management http://127.0.0.1:15672
  kinetic plan https://git.example/schema.git --json --amqp amqps://kinetic@rabbit.example/prod --password-file pw")]
pub(crate) struct PlanBroker {
    /// Of what, and where
    #[command(flatten)]
    pub(crate) of: Reconciled,
}

/// `kinetic reconcile`
#[derive(Debug, Args)]
#[command(after_help = "\
Shows the plan first, and asks on a terminal. What was cut off is finished by the next run. Nothing is removed that Kinetic has not
made (docs/operations/reconcile.md). Exit code 2 where somebody has said no, or where --dry-run finds something to do.

Examples:
  kinetic reconcile . --amqp amqp://kinetic@127.0.0.1/prod --password-file pw --management http://127.0.0.1:15672
  kinetic reconcile REMOTE --yes --json --amqp amqps://kinetic@rabbit.example/prod --password-file pw")]
pub(crate) struct Reconcile {
    /// Of what, and where
    #[command(flatten)]
    pub(crate) of: Reconciled,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Only say what would be done, as `kinetic plan` does
    #[arg(long)]
    pub(crate) dry_run: bool,
}
