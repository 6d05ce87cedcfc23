//! `kinetic.toml`, for `kinetic up`: how this installation runs on this machine. What it does stands in the schema.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use kinetic_amqp::Address;
use kinetic_schema::Netblock;
use kinetic_schema::schema::QueueType;
use serde::Deserialize;

use crate::adapter::file;
use crate::adapter::history::Location;
use crate::adapter::server_tls::TlsFiles;
use crate::cli::{BrokerAddress, Trust};
use crate::shell::broker::Listen;

/// Name of the file in a configuration folder.
pub(crate) const FILE_NAME: &str = "kinetic.toml";

/// As written; unknown fields are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    schema: String,
    branch: Option<String>,
    data_dir: PathBuf,
    fetch_interval_s: Option<u64>,
    #[serde(default)]
    listen: RawListen,
    tls: Option<RawTls>,
    #[serde(default)]
    lease: RawLease,
    #[serde(default)]
    broker: RawBroker,
    #[serde(default)]
    webhooks: RawWebhooks,
    history: Option<RawHistory>,
    token_keys: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHistory {
    url: String,
    password_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBroker {
    #[serde(default)]
    quorum: bool,
    #[serde(default)]
    amqp: Vec<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
    #[serde(default)]
    allow_plain: bool,
}

impl RawBroker {
    /// The broker that is named, if one is.
    fn check(self, folder: &Path) -> Result<Option<BrokerAddress>> {
        let Self { quorum: _, amqp, password_file, ca_file, client_cert, client_key, allow_plain } = self;
        ensure!(
            client_cert.is_some() == client_key.is_some(),
            "broker.client_cert and broker.client_key go together"
        );
        let trust = Trust { ca_file, client_cert, client_key, allow_plain };
        if amqp.is_empty() {
            ensure!(
                password_file.is_none() && trust == Trust::default(),
                "broker.amqp names no broker: the other settings of [broker] are about that one"
            );
            return Ok(None);
        }
        let trust = trust.each_file(|_, path| folder.join(path));
        let password_file = password_file.map(|path| folder.join(path));
        Ok(Some(BrokerAddress { amqp, password_file, trust }))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhooks {
    #[serde(default)]
    nets: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListen {
    amqp: Option<SocketAddr>,
    amqps: Option<SocketAddr>,
    #[serde(default)]
    allow_plain: bool,
    #[serde(default)]
    advertise: Vec<String>,
    metrics: Option<SocketAddr>,
    links: Option<SocketAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

impl RawListen {
    /// Where the embedded broker listens.
    fn check(&self, tls: Option<RawTls>, folder: &Path) -> Result<Listen> {
        let files = tls.map(|RawTls { certificate, key, client_ca }| TlsFiles {
            certificate: folder.join(certificate),
            key: folder.join(key),
            client_ca: client_ca.map(|path| folder.join(path)),
        });
        let tls = match (self.amqps, files) {
            (Some(listen), Some(files)) => Some((listen, files)),
            (Some(_), None) => bail!("listen.amqps needs [tls] with certificate and key"),
            (None, Some(_)) => bail!("[tls] is for listen.amqps, which says nowhere to listen"),
            (None, None) => None,
        };
        let plain = self.amqp.unwrap_or_else(|| ([127, 0, 0, 1], 5672).into());
        let advertise = self.advertise.iter().map(|url| {
            let address = Address::from_url(url).ok().filter(|_| !url.contains('@'));
            let address = address
                .with_context(|| format!("listen.advertise: \"{url}\" is not amqp[s]://HOST[:PORT]"))?;
            Ok(address.uris.concat())
        });
        let advertise = advertise.collect::<Result<_>>()?;
        Listen { plain, tls, advertise }.check(self.allow_plain, "listen.allow_plain = true")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLease {
    ttl_ms: Option<u64>,
    grace_ms: Option<u64>,
}

/// Checked, with every default filled in.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Schema repository.
    pub(crate) schema: String,
    /// Its branch.
    pub(crate) branch: String,
    /// What must survive a restart.
    pub(crate) data_dir: PathBuf,
    /// Time between fetches.
    pub(crate) fetch_interval: Duration,
    /// Where the embedded broker listens.
    pub(crate) listen_broker: Listen,
    /// Where `/metrics` and `/__heartbeat__` are.
    pub(crate) listen_metrics: SocketAddr,
    /// Where the pages are that links in mails lead to.
    pub(crate) listen_links: Option<SocketAddr>,
    /// Lease of the analyzer.
    pub(crate) lease_ttl: Duration,
    /// Grace after it.
    pub(crate) lease_grace: Duration,
    /// How the queues of the control vhost are kept.
    pub(crate) queues: QueueType,
    /// Where the alert history is.
    pub(crate) history: Location,
    /// The broker that is used instead of the embedded one.
    pub(crate) broker: Option<BrokerAddress>,
    /// Private networks that webhooks may reach.
    pub(crate) webhook_nets: Vec<Netblock>,
    /// Folder with the keys that sign tokens.
    pub(crate) token_keys: Option<PathBuf>,
}

impl Config {
    /// Reads a file, or the `kinetic.toml` of a folder. Relative paths in it count from its folder.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let text = file::read_text(&path)
            .context("no configuration; two lines are enough, `kinetic up --help` shows them")?;
        let raw: RawConfig =
            toml::from_str(&text).with_context(|| format!("{} is not a configuration", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::check(raw, folder).with_context(|| format!("{} does not check", path.display()))
    }

    fn check(raw: RawConfig, folder: &Path) -> Result<Self> {
        let seconds = raw.fetch_interval_s.unwrap_or(10);
        ensure!(
            (1..=86_400).contains(&seconds),
            "fetch_interval_s must be between 1 and 86400, not {seconds}"
        );
        let ttl = raw.lease.ttl_ms.unwrap_or(15_000);
        ensure!((200..=600_000).contains(&ttl), "lease.ttl_ms must be between 200 and 600000, not {ttl}");
        ensure!(
            !raw.schema.trim().is_empty(),
            "schema must name a repository: a path, or anything git can fetch"
        );
        let data_dir = folder.join(raw.data_dir);
        let history = match &raw.history {
            Some(history) => {
                let password_file = history.password_file.as_ref().map(|path| folder.join(path));
                Location::parse(&history.url, password_file.as_deref(), folder)?
            }
            None => Location::Sqlite(data_dir.join("history.sqlite")),
        };
        let net = |net: &String| net.parse().map_err(|why| anyhow!("webhooks.nets: \"{net}\": {why}"));
        Ok(Self {
            webhook_nets: raw.webhooks.nets.iter().map(net).collect::<Result<_>>()?,
            token_keys: raw.token_keys.map(|path| folder.join(path)),
            schema: local_path(&raw.schema, folder),
            branch: raw.branch.unwrap_or_else(|| "main".into()),
            data_dir,
            fetch_interval: Duration::from_secs(seconds),
            listen_broker: raw.listen.check(raw.tls, folder)?,
            listen_links: raw.listen.links,
            listen_metrics: raw.listen.metrics.unwrap_or_else(|| ([127, 0, 0, 1], 9464).into()),
            lease_ttl: Duration::from_millis(ttl),
            lease_grace: Duration::from_millis(raw.lease.grace_ms.unwrap_or(5_000)),
            history,
            queues: if raw.broker.quorum { QueueType::Quorum } else { QueueType::Classic },
            broker: raw.broker.check(folder)?,
        })
    }
}

/// A relative path counts from the configuration's folder; an URL or `host:path` stays as it is.
fn local_path(remote: &str, folder: &Path) -> String {
    let is_path = !remote.contains(':');
    if is_path { folder.join(remote).to_string_lossy().into_owned() } else { remote.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::check(toml::from_str(text)?, Path::new("/etc/kinetic"))
    }

    #[test]
    fn two_lines_are_enough() {
        let config = parse("schema = \"schema.git\"\ndata_dir = \"/var/lib/kinetic\"").expect("checks");
        assert_eq!(config.schema, "/etc/kinetic/schema.git");
        assert_eq!(config.data_dir, Path::new("/var/lib/kinetic"));
        assert_eq!(config.listen_broker.plain, ([127, 0, 0, 1], 5672).into());
        assert!(config.listen_broker.tls.is_none());
        assert_eq!(config.queues, QueueType::Classic);
        assert_eq!(config.webhook_nets, []);
        let text = "schema = \"s\"\ndata_dir = \"d\"\nwebhooks.nets = [\"127.0.0.1\"]";
        assert_eq!(parse(text).expect("checks").webhook_nets.len(), 1);
        assert_eq!(config.listen_links, None, "nothing listens for links unless it is asked to");
        let text = "schema = \"s\"\ndata_dir = \"d\"\n[listen]\nlinks = \"127.0.0.1:8480\"";
        assert_eq!(parse(text).expect("checks").listen_links, Some(([127, 0, 0, 1], 8480).into()));
        let text = "schema = \"s\"\ndata_dir = \"d\"\n[broker]\nquorum = true";
        assert_eq!(parse(text).expect("checks").queues, QueueType::Quorum);
    }

    #[test]
    fn a_broker_may_be_named() {
        let text = "schema = \"s\"\ndata_dir = \"d\"\n[broker]\namqp = [\"amqps://a/v\", \"amqps://b\"]\n\
                    ca_file = \"ca.pem\"\nclient_cert = \"/c.pem\"\nclient_key = \"c.key\"";
        let broker = parse(text).expect("checks").broker.expect("one is named");
        assert_eq!(broker.amqp, ["amqps://a/v", "amqps://b"]);
        assert_eq!(
            broker.trust.words().join(" "),
            "--ca-file /etc/kinetic/ca.pem --client-cert /c.pem --client-key /etc/kinetic/c.key"
        );
        let wrong = |text: &str| {
            parse(&format!("schema = \"s\"\ndata_dir = \"d\"\n[broker]\n{text}"))
                .expect_err("refused")
                .to_string()
        };
        assert!(wrong("ca_file = \"ca.pem\"").contains("broker.amqp"));
        assert!(wrong("amqp = [\"amqps://a\"]\nclient_cert = \"c\"").contains("client_key"));
    }

    #[test]
    fn the_world_is_listened_to_inside_tls() {
        let parse = |text: &str| parse(&format!("schema = \"s\"\ndata_dir = \"d\"\n{text}"));
        let error = |text: &str| format!("{:#}", parse(text).expect_err("refused"));
        let tls = "[tls]\ncertificate = \"broker.pem\"\nkey = \"/etc/ssl/broker.key\"";
        let listen = parse(&format!("listen.amqps = \"0.0.0.0:5671\"\n{tls}")).expect("checks").listen_broker;
        let (address, files) = listen.tls.expect("listens");
        assert_eq!(address, ([0, 0, 0, 0], 5671).into());
        assert_eq!(files.certificate, Path::new("/etc/kinetic/broker.pem"));
        assert_eq!((files.key, files.client_ca), (PathBuf::from("/etc/ssl/broker.key"), None));
        assert!(error("listen.amqps = \"0.0.0.0:5671\"").contains("[tls]"));
        assert!(error(tls).contains("listen.amqps"));
        for address in ["0.0.0.0:5672", "192.0.2.1:5672", "[::]:5672"] {
            let plain = format!("listen.amqp = \"{address}\"");
            assert!(error(&plain).contains("listen.allow_plain = true"), "{}", error(&plain));
            parse(&format!("{plain}\nlisten.allow_plain = true")).expect("allowed");
        }
        parse("listen.amqp = \"[::1]:5672\"").expect("loopback");
        let told = parse("listen.advertise = [\"amqps://broker.example\"]").expect("checks").listen_broker;
        assert_eq!(told.advertise, ["amqps://broker.example:5671"]);
        for url in ["broker.example:5671", "amqps://me@broker.example"] {
            assert!(error(&format!("listen.advertise = [\"{url}\"]")).contains(url));
        }
    }

    #[test]
    fn urls_stay_as_they_are() {
        for remote in ["https://git.example/schema.git", "git@git.example:schema.git"] {
            assert_eq!(local_path(remote, Path::new("/etc")), remote);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| format!("{:#}", parse(text).expect_err("refused"));
        assert!(error("schema = \"s\"\ndata_dir = \"d\"\ndata_dri = \"x\"").contains("data_dri"));
        assert!(error("schema = \"s\"\ndata_dir = \"d\"\nfetch_interval_s = 0").contains("fetch_interval_s"));
        assert!(error("schema = \" \"\ndata_dir = \"d\"").contains("repository"));
        assert!(error("schema = \"s\"").contains("data_dir"));
        let history = "schema = \"s\"\ndata_dir = \"d\"\n[history]\nurl = \"mysql://x\"";
        assert!(error(history).contains("mysql"));
        let net = "schema = \"s\"\ndata_dir = \"d\"\nwebhooks.nets = [\"10.0.0.1/8\"]";
        assert!(error(net).contains("\"10.0.0.0/8\""), "{}", error(net));
    }
}
