//! What a started analyzer is told on its command line: what its redirector was told, without any secret.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kinetic_amqp::{Address, Secret};
use kinetic_wire::NodeId;

use crate::adapter::file;

/// The words that all started analyzers have in common.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Broker, or the nodes of one in order, separated by commas; without a password.
    pub(crate) amqp: String,
    /// File with the password, absolute; `None` where none was given.
    pub(crate) password_file: Option<PathBuf>,
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

impl Launch {
    /// From a redirector's own words. A password that stands in the URL goes into a file of mode 600 in `dir`: the
    /// command lines of children are as public as our own, but there are more of them.
    pub(crate) fn new(
        amqp: &[String],
        password_file: Option<&Path>,
        address: &Address,
        dir: &Path,
    ) -> Result<Self> {
        let (amqp, inline): (Vec<String>, Vec<bool>) = amqp.iter().map(|url| without_password(url)).unzip();
        let inline = inline.contains(&true);
        let password_file = match password_file {
            Some(path) => Some(std::path::absolute(path).context("the password file has no absolute path")?),
            None if inline => {
                let path = std::path::absolute(dir.join("broker-password")).context("no absolute path")?;
                file::write_secret(&path, address.password.expose())?;
                Some(path)
            }
            None => None,
        };
        Ok(Self {
            amqp: amqp.join(","),
            password_file,
            schema: String::new(),
            branch: String::new(),
            fetch_interval: 10,
            control: address.vhost.clone(),
            secret: address.password.clone(),
        })
    }

    /// From a URL with the password in it.
    #[cfg(test)]
    pub(crate) fn for_tests(url: &str, dir: &Path) -> Self {
        let urls: Vec<String> = url.split(',').map(str::to_owned).collect();
        let address = Address::from_urls(&urls).expect("a URL");
        Self::new(&urls, None, &address, dir).expect("a launch").with_schema(
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

    /// Arguments of `kinetic` for a node.
    pub(crate) fn args(&self, node: &NodeId, data_dir: &Path, password_file: Option<&Path>) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut args = vec!["analyzer".to_owned(), "--amqp".to_owned(), self.amqp.clone()];
        if let Some(path) = password_file {
            args.extend(["--password-file".to_owned(), text(path)]);
        }
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

/// The URL without the password in it, and whether there was one.
fn without_password(url: &str) -> (String, bool) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), false) };
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    let Some(at) = rest[..authority].rfind('@') else { return (url.to_owned(), false) };
    match rest[..at].split_once(':') {
        Some((login, _)) => (format!("{scheme}://{login}{}", &rest[at..]), true),
        None => (url.to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_reaches_a_command_line() {
        let check = |url: &str, expect: &str, had: bool| {
            assert_eq!(without_password(url), (expect.to_owned(), had), "{url}");
        };
        check("amqp://host", "amqp://host", false);
        check("amqp://me@host:5672/prod", "amqp://me@host:5672/prod", false);
        check("amqp://me:pa%40ss@host:5672/prod", "amqp://me@host:5672/prod", true);
        check("amqps://me:p@ss:word@host/a@b", "amqps://me@host/a@b", true);
        check("amqp://[::1]:5672/", "amqp://[::1]:5672/", false);
    }

    #[test]
    fn a_password_from_the_url_goes_into_a_file_that_nobody_else_reads() {
        let dir = tempfile::tempdir().expect("tempdir");
        let launch = |secret: &str| {
            Launch::for_tests(&format!("amqp://me:{secret}@host,amqps://me:{secret}@other"), dir.path())
        };
        launch("before");
        let launch = launch("hunter2");
        let path = launch.password_file.clone().expect("a file");
        assert_eq!(file::read_secret(&path).expect("mode 600"), "hunter2");
        let args = launch.args(&"auto-1".into(), Path::new("/data/auto-1"), Some(&path));
        assert!(!args.iter().any(|word| word.contains("hunter2")), "{args:?}");
        assert!(!format!("{launch:?}").contains("hunter2"));
        let shown = args.join(" ").replace(&path.to_string_lossy().into_owned(), "FILE");
        assert_eq!(
            shown,
            "analyzer --amqp amqp://me@host,amqps://me@other --password-file FILE --schema https://git.example/schema.git \
             --branch main --fetch-interval 10 --data-dir /data/auto-1 --node auto-1"
        );
    }
}
