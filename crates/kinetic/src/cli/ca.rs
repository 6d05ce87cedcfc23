//! Arguments of `kinetic ca`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Checkout;

/// `kinetic ca`
#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Make an authority in a folder of its own
    Init(CaInit),
    /// Issue a client's certificate, by which it logs in instead of by a key
    Issue(CaIssue),
    /// Issue a broker's certificate
    IssueServer(CaIssueServer),
    /// Show what was issued
    List(CaList),
    /// Take a client's certificate back
    Revoke(CaRevoke),
}

/// `kinetic ca init`
#[derive(Debug, Args)]
#[command(after_help = "\
DIR gets ca.pem (give it to everybody), ca.key (nobody; whoever has it is anybody), index.json and crl.pem. Keep it on a machine that
serves nothing else, and a copy in a safe. DIR is not the schema repository.

Example:
  kinetic ca init /srv/kinetic-ca --name \"Example metrics\"")]
pub(crate) struct CaInit {
    /// Folder to make
    pub(crate) dir: PathBuf,
    /// What the authority is called in its certificate; `Kinetic` and eight digits by default. No two should have one name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Days that it is good for
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}

/// `kinetic ca issue`
#[derive(Debug, Args)]
#[command(after_help = "\
The certificate's common name is the login CUSTOMER.NAME. A name is used once: the login is what is taken away to revoke, and a
successor that had the same could not be told from what it replaces. Renew by a new name; both are good until the old one is
removed, and clients of ours go over when their files are replaced.

Examples:
  kinetic ca issue /srv/kinetic-ca acme host-7 --out to-host-7 --schema . --push
  kinetic ca issue /srv/kinetic-ca acme host-7 --next               host-7-2, and next month host-7-3
  kinetic ca issue /srv/kinetic-ca acme host-7 --csr host-7.csr     the key never leaves the host")]
pub(crate) struct CaIssue {
    /// The authority's folder
    pub(crate) dir: PathBuf,
    /// Customer
    pub(crate) customer: String,
    /// Name of the certificate
    pub(crate) name: String,
    /// Take the next name (NAME-2, NAME-3, …) where this one was used
    #[arg(long)]
    pub(crate) next: bool,
    /// Days that it is good for
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=825))]
    pub(crate) days: u32,
    /// Signing request (PEM) whose key it is for; only its key is taken
    #[arg(long, value_name = "FILE")]
    pub(crate) csr: Option<PathBuf>,
    /// Folder for CUSTOMER.NAME.pem, CUSTOMER.NAME.key (mode 600) and ca.pem
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// Schema repository's checkout that gets the certificate's block
    #[command(flatten)]
    pub(crate) schema: InSchema,
    /// Print one JSON object
    #[arg(long, conflicts_with = "schema")]
    pub(crate) json: bool,
}

/// Where the block of a certificate goes, or goes from.
#[derive(Debug, Args)]
pub(crate) struct InSchema {
    /// Checkout of the schema repository, in which the certificate's block is written or removed
    #[arg(long, value_name = "DIR")]
    pub(crate) schema: Option<PathBuf>,
    /// Commit the change
    #[arg(long, requires = "schema")]
    pub(crate) commit: bool,
    /// Commit the change and push it
    #[arg(long, requires = "schema")]
    pub(crate) push: bool,
}

impl InSchema {
    /// The checkout, if one is named.
    pub(crate) fn checkout(&self) -> Option<Checkout> {
        let schema = self.schema.clone()?;
        Some(Checkout { schema, commit: self.commit, push: self.push })
    }
}

/// `kinetic ca issue-server`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kinetic ca issue-server /srv/kinetic-ca broker.example 192.0.2.7 --out to-broker")]
pub(crate) struct CaIssueServer {
    /// The authority's folder
    pub(crate) dir: PathBuf,
    /// Names and addresses by which clients reach it
    #[arg(required = true)]
    pub(crate) host: Vec<String>,
    /// Days that it is good for
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=825))]
    pub(crate) days: u32,
    /// Signing request (PEM) whose key it is for; only its key is taken
    #[arg(long, value_name = "FILE")]
    pub(crate) csr: Option<PathBuf>,
    /// Folder for HOST.pem, HOST.key (mode 600) and ca.pem
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic ca list`
#[derive(Debug, Args)]
pub(crate) struct CaList {
    /// The authority's folder
    pub(crate) dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic ca revoke`
#[derive(Debug, Args)]
#[command(after_help = "\
What revokes is that the schema's block goes: the login with it, on every broker, and its connections within seconds. The
authority's crl.pem is for whoever looks at such lists as well.

Example:
  kinetic ca revoke /srv/kinetic-ca acme host-7 --schema . --push")]
pub(crate) struct CaRevoke {
    /// The authority's folder
    pub(crate) dir: PathBuf,
    /// Customer
    pub(crate) customer: String,
    /// Name of the certificate
    pub(crate) name: String,
    /// Schema repository's checkout that loses the certificate's block
    #[command(flatten)]
    pub(crate) schema: InSchema,
}
