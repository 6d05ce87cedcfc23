//! Arguments of `kinetic token`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `kinetic token`
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a key that signs tokens: a file for the redirectors, one for RabbitMQ, and the block for kinetic.hcl
    New(TokenNew),
    /// Show the keys that the schema accepts, which of them signs, and which have their file here
    List(TokenList),
    /// Show what a token says, and whether it holds
    Show(TokenShow),
}

/// `kinetic token new`
#[derive(Debug, Args)]
#[command(after_help = "\
Push the printed block, give KID.pub.pem to every RabbitMQ and KID.pem (mode 600) to every redirector before it starts to
sign. docs/operations/tokens.md says how to do it with nobody noticing.

Example:
  kinetic token new 2026-b --keys /etc/kinetic/tokens --starts 2026-12-01")]
pub(crate) struct TokenNew {
    /// Name of the key
    #[arg(value_name = "KID")]
    pub(crate) name: String,
    /// Folder with the private keys
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: PathBuf,
    /// It signs from then on, a date or an instant (at once by default)
    #[arg(long, value_name = "WHEN")]
    pub(crate) starts: Option<String>,
}

/// `kinetic token list`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kinetic token list . --keys /etc/kinetic/tokens")]
pub(crate) struct TokenList {
    /// Schema folder or repository
    #[arg(value_name = "SCHEMA")]
    pub(crate) schema: String,
    /// Folder with the private keys
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
}

/// `kinetic token show`
#[derive(Debug, Args)]
#[command(after_help = "\
A token is a password: it is read from a file or from standard input, never from the command line. Exit code 1 where it
does not hold.

Example:
  kinetic locate --json --token --amqp … | jq -r .credential.token | kinetic token show - --schema .")]
pub(crate) struct TokenShow {
    /// File with the token, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
    /// Schema folder or repository
    #[arg(long, value_name = "REMOTE")]
    pub(crate) schema: String,
}
