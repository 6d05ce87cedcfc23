//! Flags of everything that connects to a broker: whom it trusts there, and who it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

/// Whom to trust, and who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct Trust {
    /// PEM file of the certificate authorities to trust for the broker, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// PEM file of a client certificate. Without a password file it is the login (SASL EXTERNAL). It may be replaced while this
    /// runs: the new one is used within seconds, without a gap
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub(crate) client_cert: Option<PathBuf>,
    /// PEM file of its private key (mode 600)
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
    /// Allow amqp:// without TLS to other machines than this: password and data can be read on the way
    #[arg(long)]
    pub(crate) allow_plain: bool,
}

impl Trust {
    /// The same, with every path absolute, for processes that run elsewhere.
    pub(crate) fn absolute(&self) -> Result<Self> {
        let here = std::env::current_dir().context("the current folder is not known")?;
        Ok(self.each_file(|_, path| here.join(path)))
    }

    /// The same with other paths; `of` is told the flag.
    pub(crate) fn each_file(&self, mut of: impl FnMut(&str, &Path) -> PathBuf) -> Self {
        let mut new = |flag: &str, path: &Option<PathBuf>| path.as_deref().map(|path| of(flag, path));
        Self {
            ca_file: new("ca-file", &self.ca_file),
            client_cert: new("client-cert", &self.client_cert),
            client_key: new("client-key", &self.client_key),
            allow_plain: self.allow_plain,
        }
    }

    /// The words of a command line that say the same.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let files = [
            ("--ca-file", &self.ca_file),
            ("--client-cert", &self.client_cert),
            ("--client-key", &self.client_key),
        ];
        for (flag, path) in files {
            if let Some(path) = path {
                words.extend([flag.to_owned(), path.to_string_lossy().into_owned()]);
            }
        }
        if self.allow_plain {
            words.push("--allow-plain".to_owned());
        }
        words
    }
}
