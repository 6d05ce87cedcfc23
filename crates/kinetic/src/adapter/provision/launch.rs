//! What a started analyzer is told on its command line: what its redirector was told, without any secret.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kinetic_amqp::{Address, Secret};
use kinetic_wire::NodeId;

use crate::cli::{BrokerAddress, Trust};

/// The words that all started analyzers have in common.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Broker, or the nodes of one in order, separated by commas; without a password.
    pub(crate) amqp: String,
    /// Files by which it is reached.
    pub(crate) files: Files,
    /// Schema repository.
    pub(crate) schema: String,
    /// Its branch.
    pub(crate) branch: String,
    /// Seconds between fetches of it.
    pub(crate) fetch_interval: u64,
    /// Control vhost: one for each installation on a broker.
    pub(crate) control: String,
    /// The password itself, so that it can be kept out of what is logged.
    pub(crate) secret: Secret,
}

/// Files that a started analyzer reads, by their absolute paths.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// With the password, where one was given.
    pub(crate) password: Option<PathBuf>,
    /// Whom to trust, and who we are.
    pub(crate) trust: Trust,
}

impl Launch {
    /// From a redirector's own words, which have no secret in them.
    pub(crate) fn new(broker: &BrokerAddress, address: &Address) -> Result<Self> {
        let absolute = |path: &PathBuf| std::path::absolute(path);
        let password = broker.password_file.as_ref().map(absolute).transpose();
        Ok(Self {
            amqp: broker.amqp.join(","),
            files: Files {
                password: password.context("the password file has no absolute path")?,
                trust: broker.trust.absolute()?,
            },
            schema: String::new(),
            branch: String::new(),
            fetch_interval: 10,
            control: address.vhost.clone(),
            secret: address.password.clone(),
        })
    }

    /// From URLs, with the password `hunter2` in a file of this folder.
    #[cfg(test)]
    pub(crate) fn for_tests(urls: &str, dir: &Path) -> Self {
        let password_file = dir.join("broker-password");
        crate::adapter::file::write_secret(&password_file, "hunter2").expect("written");
        let broker = BrokerAddress {
            amqp: urls.split(',').map(str::to_owned).collect(),
            password_file: Some(password_file),
            trust: Trust { allow_plain: true, ..Trust::default() },
        };
        let address = crate::node::address(&broker, "test").expect("an address");
        Self::new(&broker, &address).expect("a launch").with_schema(
            "https://git.example/schema.git",
            "main",
            10,
        )
    }

    /// With the schema's whereabouts. A repository on this machine is named by its absolute path.
    pub(crate) fn with_schema(mut self, remote: &str, branch: &str, fetch_interval: u64) -> Self {
        let local = Path::new(remote).exists().then(|| std::path::absolute(remote).ok()).flatten();
        self.schema = local.map_or_else(|| remote.to_owned(), |path| path.to_string_lossy().into_owned());
        self.branch = branch.to_owned();
        self.fetch_interval = fetch_interval;
        self
    }

    /// Arguments of `kinetic` for a node that finds the files where these say.
    pub(crate) fn args(&self, node: &NodeId, data_dir: &Path, files: &Files) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut args = vec!["analyzer".to_owned(), "--amqp".to_owned(), self.amqp.clone()];
        if let Some(path) = &files.password {
            args.extend(["--password-file".to_owned(), text(path)]);
        }
        args.extend(files.trust.words());
        let pairs = [
            ("--schema", self.schema.clone()),
            ("--branch", self.branch.clone()),
            ("--fetch-interval", self.fetch_interval.to_string()),
            ("--data-dir", text(data_dir)),
            ("--node", node.to_string()),
        ];
        args.extend(pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_started_analyzer_is_told_the_files_and_no_secret() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut launch = Launch::for_tests("amqp://me@host,amqps://me@other", dir.path());
        let cert = dir.path().join("node.pem");
        launch.files.trust.client_cert = Some(cert.clone());
        launch.files.trust.client_key = Some(dir.path().join("node.key"));
        let args = launch.args(&"auto-1".into(), Path::new("/data/auto-1"), &launch.files);
        assert!(!args.iter().any(|word| word.contains("hunter2")), "{args:?}");
        assert!(!format!("{launch:?}").contains("hunter2"));
        let shown = args.join(" ").replace(&dir.path().to_string_lossy().into_owned(), "DIR");
        assert_eq!(
            shown,
            "analyzer --amqp amqp://me@host,amqps://me@other --password-file DIR/broker-password --client-cert DIR/node.pem \
             --client-key DIR/node.key --allow-plain --schema https://git.example/schema.git --branch main \
             --fetch-interval 10 --data-dir /data/auto-1 --node auto-1"
        );
    }
}
