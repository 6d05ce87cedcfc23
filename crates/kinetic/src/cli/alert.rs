//! Arguments of `kinetic alert`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use kinetic_schema::Netblock;

use super::{BrokerAddress, Node};

/// `kinetic alert`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kinetic alert --amqp amqps://kinetic@rabbit.example/prod --password-file pw \\
      --schema https://git.example/schema.git --data-dir /var/lib/kinetic-alert

Of several nodes with one history one works, and the others stand by:
  kinetic alert … --history postgres://kinetic@db.example/kinetic --history-password-file db-pw")]
pub(crate) struct Alert {
    /// Where the history is: a PostgreSQL URL, or the path of a SQLite file; history.sqlite in the data directory by default
    #[arg(long, value_name = "URL|FILE")]
    pub(crate) history: Option<String>,
    /// File that holds the password of the PostgreSQL login
    #[arg(long, value_name = "FILE", requires = "history")]
    pub(crate) history_password_file: Option<PathBuf>,
    /// Private networks that webhooks may reach, such as 10.20.0.0/16 or 127.0.0.1, separated by commas: without this they
    /// reach the internet alone (docs/alerting-webhooks.md)
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    pub(crate) webhook_nets: Vec<Netblock>,
    /// Serve the pages that links in mails lead to here, behind whatever ends TLS for the schema's mail.public_url;
    /// without it, mails have no links (docs/alerting-links.md)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) links_listen: Option<SocketAddr>,
    /// How to reach the broker
    #[command(flatten)]
    pub(crate) broker: BrokerAddress,
    /// The node
    #[command(flatten)]
    pub(crate) node: Node,
}
