//! Arguments of `kinetic customer`, `kinetic key` and `kinetic user`: commands that change a checkout of the schema repository.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use kinetic_schema::Netblock;

use crate::cmd::moment;

/// Which checkout, and what becomes of it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Checkout {
    /// Checkout of the schema repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) schema: PathBuf,
    /// Commit the change
    #[arg(long)]
    pub(crate) commit: bool,
    /// Commit the change and push it
    #[arg(long)]
    pub(crate) push: bool,
}

/// Where a new secret goes.
#[derive(Clone, Debug, Args)]
pub(crate) struct NewSecret {
    /// Write the secret into this new file (mode 600) instead of showing it
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
}

/// `kinetic customer`
#[derive(Debug, Subcommand)]
pub(crate) enum Customer {
    /// Take a customer in: its folder, with a source, a rule, an alert and a first key
    New(CustomerNew),
    /// List customers
    List(CustomerList),
}

/// `kinetic customer new`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic customer new acme                                 then: git add, git commit, git push
  kinetic customer new acme --push                          the same in one
  kinetic customer new acme --region us-west.aws --netblock 203.0.113.0/24 --to oncall@acme.example")]
pub(crate) struct CustomerNew {
    /// Its name: lower-case letters, digits and `-`
    pub(crate) name: String,
    /// Where its data arrives; the only region, if there is but one
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Network from which its unauthenticated carbon and statsd come; may be given several times
    #[arg(long, value_name = "NETWORK")]
    pub(crate) netblock: Vec<Netblock>,
    /// Who is mailed
    #[arg(long, value_name = "ADDRESS", default_value = "oncall@example.com")]
    pub(crate) to: String,
    /// The first key's secret
    #[command(flatten)]
    pub(crate) secret: NewSecret,
    /// The checkout
    #[command(flatten)]
    pub(crate) checkout: Checkout,
}

/// `kinetic customer list`
#[derive(Debug, Args)]
pub(crate) struct CustomerList {
    /// Schema folder or repository
    #[arg(long, value_name = "DIR|REMOTE", default_value = ".")]
    pub(crate) schema: String,
    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic key`
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key; its secret is shown once
    New(KeyNew),
    /// List keys, without their hashes
    List(OfCustomers),
    /// Make a key's successor, and let the key expire after a while in which both are good
    Rotate(KeyRotate),
    /// Take a key away: whoever uses it is refused, and disconnected
    Revoke(KeyRevoke),
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Publish the customer's data
    Publish,
    /// Read the customer's own notifications
    Read,
    /// Publish for all customers, as an edge does (a key of customer `kinetic`)
    Edge,
}

/// `kinetic key new`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic key new acme web
  kinetic key new acme collectd --may-declare --secret-file acme.collectd
  kinetic key new acme screens --purpose read --expires 2027-06-30")]
pub(crate) struct KeyNew {
    /// Customer
    pub(crate) customer: String,
    /// Name of the key; the login is CUSTOMER.NAME
    pub(crate) name: String,
    /// What it is for
    #[arg(long, value_name = "PURPOSE", default_value = "publish")]
    pub(crate) purpose: Purpose,
    /// First day (UTC) or moment at which it is good: 2027-03-01, 2027-03-01T12:00:00Z
    #[arg(long, value_name = "DATE")]
    pub(crate) starts: Option<String>,
    /// Last day (UTC) on which it is good, or the moment from which it is not
    #[arg(long, value_name = "DATE")]
    pub(crate) expires: Option<String>,
    /// It may declare the customer's exchange, as collectd and Telegraf insist on doing
    #[arg(long)]
    pub(crate) may_declare: bool,
    /// Its secret
    #[command(flatten)]
    pub(crate) secret: NewSecret,
    /// The checkout
    #[command(flatten)]
    pub(crate) checkout: Checkout,
}

/// `kinetic key list`, `kinetic user list`
#[derive(Debug, Args)]
pub(crate) struct OfCustomers {
    /// Only this customer's
    pub(crate) customer: Option<String>,
    /// Schema folder or repository
    #[arg(long, value_name = "DIR|REMOTE", default_value = ".")]
    pub(crate) schema: String,
    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

/// `kinetic key rotate`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic key rotate acme web                  web-2 is good at once, web for two more weeks
  kinetic key rotate acme web --overlap 2d --push")]
pub(crate) struct KeyRotate {
    /// Customer
    pub(crate) customer: String,
    /// Name of the key that is to go
    pub(crate) name: String,
    /// For how long both are good; a key that ends sooner still does
    #[arg(long, value_name = "DURATION", default_value = "14d", value_parser = moment::duration)]
    pub(crate) overlap: Duration,
    /// The successor's secret
    #[command(flatten)]
    pub(crate) secret: NewSecret,
    /// The checkout
    #[command(flatten)]
    pub(crate) checkout: Checkout,
}

/// `kinetic key revoke`
#[derive(Debug, Args)]
pub(crate) struct KeyRevoke {
    /// Customer
    pub(crate) customer: String,
    /// Name of the key
    pub(crate) name: String,
    /// The checkout
    #[command(flatten)]
    pub(crate) checkout: Checkout,
}

/// `kinetic user`
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Let somebody log in at the board
    New(UserNew),
    /// Give somebody another password
    Passwd(UserPassword),
    /// List users, without their passwords' hashes
    List(OfCustomers),
    /// Let somebody log in no more
    Remove(UserRemove),
    /// Try a password: who is that, and what may he do?
    Verify(UserVerify),
}

/// What a user of a customer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Look
    Viewer,
    /// And change topology, rules and silences
    Editor,
    /// And keys, certificates and users
    Owner,
}

/// `kinetic user new`
#[derive(Debug, Args)]
#[command(after_help = "\
The password is asked for twice on the terminal; without one, it is the first line of standard input.

Examples:
  kinetic user new alice@acme.example --customer acme --role owner
  kinetic user new ops@example.org                                   an operator: the installation, and all customers")]
pub(crate) struct UserNew {
    /// What he logs in with, such as his e-mail address; lower case
    pub(crate) name: String,
    /// Whose he is; without one he is an operator
    #[arg(long, value_name = "CUSTOMER")]
    pub(crate) customer: Option<String>,
    /// What he may do there
    #[arg(long, value_name = "ROLE", requires = "customer")]
    pub(crate) role: Option<Role>,
    /// File whose first line is the password (mode 600)
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The checkout
    #[command(flatten)]
    pub(crate) checkout: Checkout,
}

/// `kinetic user passwd`
#[derive(Debug, Args)]
pub(crate) struct UserPassword {
    /// What he logs in with
    pub(crate) name: String,
    /// File whose first line is the password (mode 600)
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The checkout
    #[command(flatten)]
    pub(crate) checkout: Checkout,
}

/// `kinetic user remove`
#[derive(Debug, Args)]
pub(crate) struct UserRemove {
    /// What he logs in with
    pub(crate) name: String,
    /// The checkout
    #[command(flatten)]
    pub(crate) checkout: Checkout,
}

/// `kinetic user verify`
#[derive(Debug, Args)]
pub(crate) struct UserVerify {
    /// What he logs in with
    pub(crate) name: String,
    /// File whose first line is the password (mode 600)
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Schema folder or repository
    #[arg(long, value_name = "DIR|REMOTE", default_value = ".")]
    pub(crate) schema: String,
}
