//! Puts roles together into a process: started in the order in which they need each other, stopped in reverse.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kinetic_alert::machine::AlertConfig;
use kinetic_amqp::{Address, Identity, Plain, Secret};
use kinetic_analyzer::machine::AnalyzerConfig;
use kinetic_redirector::machine::{PlacingConfig, RedirectorConfig};
use kinetic_schema::Schema;
use kinetic_schema::schema::QueueType;
use kinetic_wire::{Incarnation, Limits, NodeId, Serves};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::BadConfig;
use crate::adapter::history::Location;
use crate::adapter::{clock, file};
use crate::cli;
use crate::shell::follow::{self, FollowConfig, Follower, SchemaWatch};
use crate::shell::{alert, analyzer, broker, health, links, reconcile, redirector};
use crate::shutdown::{self, Ender, Shutdown};
use crate::telemetry::{Health, Telemetry};

/// How long one role may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long another process may go on holding the data directory, and the pause between two looks.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Analyzers that one redirector leads.
const ANALYZERS_MAX: usize = 10_000;
/// Alerts remembered per customer.
const ALERTS_MAX: usize = 100_000;
/// Event ids remembered, over all customers: repeats of what was published in the last seconds of the worst storm are told.
const EVENT_IDS_MAX: usize = 200_000;
/// Mails waiting or in flight.
const OUTBOX_MAX: usize = 10_000;
/// Give up on a mail after this long.
const MAIL_EXPIRY: Duration = Duration::from_secs(24 * 3600);
/// A firing alert that nobody repeats for this long has ended.
const ALERT_STALE_AFTER: Duration = Duration::from_secs(15 * 60);

/// A running role.
#[derive(Debug)]
struct Role {
    name: &'static str,
    ender: Ender,
    /// Several roles may have one name, and one may have ended before it is stopped: the task itself tells.
    task: AbortHandle,
}

/// The running roles of a process.
#[derive(Debug, Default)]
pub(crate) struct Roles {
    running: Vec<Role>,
    tasks: JoinSet<(&'static str, Result<()>)>,
}

impl Roles {
    /// Starts a role.
    pub(crate) fn start<F>(&mut self, name: &'static str, role: impl FnOnce(Shutdown) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (ender, shutdown) = shutdown::channel();
        let future = role(shutdown);
        let task = self.tasks.spawn(async move { (name, future.await) });
        self.running.push(Role { name, ender, task });
    }

    /// Waits for a role to end by itself, which none should.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow::anyhow!("the {name} ended"),
            Some(Ok((name, Err(error)))) => error.context(format!("the {name} failed")),
            Some(Err(error)) => anyhow::Error::from(error).context("a role panicked"),
            None => anyhow::anyhow!("nothing runs"),
        }
    }

    /// Stops all roles, the last started first.
    pub(crate) async fn stop(mut self) {
        while let Some(role) = self.running.pop() {
            tracing::debug!(role = role.name, "stopping");
            role.ender.end();
            let ended = tokio::time::timeout(STOP_TIMEOUT, async {
                while !role.task.is_finished()
                    && let Some(ended) = self.tasks.join_next().await
                {
                    match ended {
                        Ok((name, Err(error))) => {
                            tracing::warn!(role = name, error = format!("{error:#}"), "ended with an error");
                        }
                        Ok(_) => {}
                        Err(error) => tracing::warn!(%error, "a role panicked"),
                    }
                }
            })
            .await;
            if ended.is_err() {
                tracing::warn!(role = role.name, "did not stop in time and is cut off");
                role.task.abort();
            }
        }
    }

    /// Runs until Ctrl-C or SIGTERM, or until a role fails; stops everything either way.
    pub(crate) async fn run_until_interrupted(mut self) -> Result<()> {
        let outcome = tokio::select! {
            interrupted = shutdown::interrupted() => interrupted,
            error = self.failed() => Err(error),
        };
        tracing::info!("stopping");
        self.stop().await;
        outcome
    }
}

/// What all roles of a process share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// The control vhost, and the login for all vhosts.
    pub(crate) control: Address,
    /// Schema revisions.
    pub(crate) schema: SchemaWatch,
    /// Where numbers go.
    pub(crate) telemetry: Telemetry,
    /// What must survive a restart.
    pub(crate) data_dir: PathBuf,
    /// This node.
    pub(crate) node: NodeId,
    /// How the queues of the control vhost are kept.
    pub(crate) queues: QueueType,
    /// Folder with the keys that sign tokens.
    pub(crate) token_keys: Option<PathBuf>,
}

impl Shared {
    /// A part that is about to start is not healthy yet.
    fn starting(&self, part: &'static str) {
        self.telemetry.health(part, Health::Failing("starting".into()), clock::now().wall);
    }

    /// What publishes this process's health; `roles` is what it is.
    pub(crate) fn health(&self, roles: &'static [&'static str]) -> health::Setup {
        health::Setup {
            node: self.node.clone(),
            control: self.control.clone(),
            schema: self.schema.clone(),
            telemetry: self.telemetry.clone(),
            roles,
        }
    }

    /// The redirector's setup.
    pub(crate) fn redirector(
        &self,
        ttl: Duration,
        grace: Duration,
        listen: Duration,
        advertise: Vec<String>,
    ) -> redirector::Setup {
        self.starting(redirector::PART);
        let config = RedirectorConfig {
            node: self.node.clone(),
            ttl,
            grace,
            listen,
            analyzers_max: ANALYZERS_MAX,
            locate_ttl: Duration::from_secs(300),
            limits: Limits { message_bytes: 1 << 20, batch_ms: 1_000 },
            seed: rand::random(),
            placing: PlacingConfig::default(),
        };
        redirector::Setup {
            config,
            inc: new_incarnation(),
            control: self.control.clone(),
            queues: self.queues,
            advertise,
            state_file: self.data_dir.join("redirector.json"),
            schema: self.schema.clone(),
            telemetry: self.telemetry.clone(),
            leads: watch::Sender::new(false),
            fleet: None,
            token_keys: self.token_keys.clone(),
        }
    }

    /// What reconciles brokers while this redirector leads.
    pub(crate) fn reconciler(
        &self,
        redirector: &redirector::Setup,
        password_file: Option<PathBuf>,
    ) -> reconcile::Setup {
        reconcile::Setup {
            leads: redirector.leads.subscribe(),
            control: self.control.clone(),
            password_file,
            schema: self.schema.clone(),
            telemetry: self.telemetry.clone(),
        }
    }

    /// The analyzer's setup.
    pub(crate) fn analyzer(&self, serves: Serves, capacity: u32, zone: Option<String>) -> analyzer::Setup {
        self.starting(analyzer::PART);
        let config = AnalyzerConfig {
            node: self.node.clone(),
            inc: new_incarnation(),
            serves,
            capacity,
            zone,
            held_max: analyzer::HELD_MAX,
            series_max: analyzer::SERIES_MAX,
            series_total_max: analyzer::SERIES_TOTAL_MAX,
            seed: rand::random(),
        };
        analyzer::Setup {
            config,
            control: self.control.clone(),
            queues: self.queues,
            schema: self.schema.clone(),
            telemetry: self.telemetry.clone(),
            metrics_interval: analyzer::METRICS_INTERVAL,
        }
    }

    /// Where the history is unless something else is said.
    pub(crate) fn own_history(&self) -> Location {
        Location::Sqlite(self.data_dir.join("history.sqlite"))
    }

    /// The alert node's setup.
    pub(crate) fn alert(&self, history: Location) -> Result<alert::Setup> {
        self.starting(alert::PART);
        let key =
            file::secret_or_new(&self.data_dir.join("mail-id-key"), || hex(&rand::random::<[u8; 32]>()))?;
        let id_key = unhex(key.expose())
            .context("mail-id-key in the data directory is damaged: remove it to have a new one")?;
        let config = alert_config(&self.schema.borrow().schema, id_key);
        Ok(alert::Setup {
            config,
            node: self.node.clone(),
            inc: new_incarnation(),
            control: self.control.clone(),
            queues: self.queues,
            history,
            webhook_nets: Vec::new(),
            schema: self.schema.clone(),
            telemetry: self.telemetry.clone(),
        })
    }
}

/// How the alert node runs with this schema.
pub(crate) fn alert_config(schema: &Schema, id_key: [u8; 32]) -> AlertConfig {
    AlertConfig {
        mail_domain: mail_domain(schema),
        id_key,
        serves_links: false,
        alerts_max: ALERTS_MAX,
        ids_max: EVENT_IDS_MAX,
        outbox_max: OUTBOX_MAX,
        mail_expiry: MAIL_EXPIRY,
        stale_after: ALERT_STALE_AFTER,
    }
}

/// The domain that mail comes from, for Message-IDs.
fn mail_domain(schema: &Schema) -> String {
    let from = schema.mail.as_ref().map(|mail| mail.from.as_str()).unwrap_or_default();
    let domain = from.rsplit_once('@').map(|(_, domain)| domain.trim_end_matches('>').trim());
    domain.filter(|domain| !domain.is_empty()).map_or_else(host_name, str::to_owned)
}

/// What this host calls itself.
pub(crate) fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// A start of a process.
pub(crate) fn new_incarnation() -> Incarnation {
    Incarnation(uuid::Uuid::now_v7())
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What [`hex`] wrote, of 32 bytes.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

/// A broker, or the nodes of one in order, that flags name.
pub(crate) fn address(broker: &cli::BrokerAddress, name: &str) -> Result<Address> {
    let cli::BrokerAddress { amqp: urls, password_file, trust } = broker;
    if urls.iter().any(|url| Address::names_login_and_password(url).1) {
        let text = "a password stands in --amqp, where everyone on this machine can read it (process list): write \
                    amqp[s]://LOGIN@HOST, and put it into a file of mode 600 for --password-file";
        return Err(BadConfig(text.to_owned()).into());
    }
    let mut address =
        Address::from_urls(urls).context("--amqp is not amqp[s]://LOGIN@HOST[:PORT][/VHOST]")?;
    address.ca_file.clone_from(&trust.ca_file);
    if trust.allow_plain {
        address.plain = Plain::Anywhere;
    }
    if let (Some(cert_file), Some(key_file)) = (&trust.client_cert, &trust.client_key) {
        let identity = Identity { cert_file: cert_file.clone(), key_file: key_file.clone() };
        let shown = identity.read().map_err(|error| BadConfig(error.to_string()))?;
        if password_file.is_none() {
            let says_another = |url: &String| {
                Address::names_login_and_password(url).0
                    && Address::from_url(url).is_ok_and(|one| one.login != shown.login())
            };
            if urls.iter().any(says_another) {
                let text = format!(
                    "--amqp says login {}, and the certificate in {} is {}'s: leave the login out, or give the password \
                     of the other with --password-file",
                    address.login,
                    identity.cert_file.display(),
                    shown.login()
                );
                return Err(BadConfig(text).into());
            }
            shown.login().clone_into(&mut address.login);
            address.password = Secret::default();
        }
        address.identity = Some(identity);
    }
    if let Some(path) = password_file {
        address.password = file::read_secret(path)?;
    }
    address.check_plain().map_err(|error| BadConfig(error.to_string()))?;
    Ok(address.named(name))
}

/// Makes the data directory and takes it for this process alone. One that was killed may hold it a moment longer than it is
/// seen to run, and so may one that looks whether it is used.
pub(crate) fn lock_data_dir(dir: &Path) -> Result<std::fs::File> {
    // Customers' data lies there: whatever this process makes is its user's alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    file::make_dir(dir)?;
    let path = dir.join("lock");
    let lock = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let started = clock::now().mono;
    while let Err(refused) = lock.try_lock() {
        if let std::fs::TryLockError::Error(error) = refused {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
        if clock::now().mono.since(started) >= LOCK_WAIT {
            bail!(
                "another kinetic process uses the data directory {}: give this one its own with --data-dir",
                dir.display()
            );
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Ok(lock)
}

/// Opens the schema repository for a process.
pub(crate) async fn open_schema(
    remote: &str,
    branch: &str,
    interval: Duration,
    data_dir: &Path,
    telemetry: &Telemetry,
) -> Result<(Follower, SchemaWatch)> {
    let config = FollowConfig {
        remote: remote.to_owned(),
        branch: branch.to_owned(),
        dir: data_dir.join("schema.git"),
        interval,
    };
    follow::open(config, telemetry.clone()).await
}

/// Starts `/metrics`; the address is logged.
pub(crate) async fn start_metrics(
    roles: &mut Roles,
    listen: SocketAddr,
    telemetry: &Telemetry,
) -> Result<SocketAddr> {
    let (ender, shutdown) = shutdown::channel();
    let (address, server) = telemetry.serve(listen, shutdown).await?;
    tracing::info!(%address, "serving /metrics and /__heartbeat__");
    if !address.ip().to_canonical().is_loopback() {
        tracing::warn!(
            %address,
            "whoever reaches this address reads customers' names and what is wrong with them, without TLS: keep it behind a \
             proxy or in a network of its own"
        );
    }
    let name = "metrics server";
    let task = roles.tasks.spawn(async move { (name, server.await) });
    roles.running.push(Role { name, ender, task });
    Ok(address)
}

/// Starts the pages that links in mails lead to; the address is logged.
pub(crate) async fn start_links(roles: &mut Roles, listen: SocketAddr, shared: &Shared) -> Result<()> {
    let bound = links::bind(listen).await?;
    serve_links(roles, bound, shared);
    Ok(())
}

/// The same, where the address has been taken.
pub(crate) fn serve_links(roles: &mut Roles, bound: links::Bound, shared: &Shared) {
    shared.starting(links::PART);
    let public_url = shared.schema.borrow().schema.mail.as_ref().and_then(|mail| mail.public_url.clone());
    tracing::info!(address = %bound.address(), public_url, "serving the links in mails");
    let (control, telemetry) = (shared.control.clone(), shared.telemetry.clone());
    roles.start("server of links", |shutdown| bound.run(control, telemetry, shutdown));
}

/// The embedded broker with its own login's address on it.
pub(crate) async fn embedded_broker(
    listen: broker::Listen,
    data_dir: &Path,
) -> Result<(broker::Embedded, Address)> {
    let password = file::secret_or_new(&data_dir.join("broker-secret"), || hex(&rand::random::<[u8; 24]>()))?;
    let advertise = listen.advertise.clone();
    let embedded = broker::Embedded::bind(listen, password.expose().to_owned()).await?;
    let mut address =
        Address::from_url(&format!("amqp://{}@{}", broker::OWN_LOGIN, loopback(embedded.address())))?;
    address.vhost = kinetic_wire::names::CONTROL_VHOST.to_owned();
    address.password = password;
    address.also = advertise;
    // It does not leave this machine.
    address.plain = Plain::Anywhere;
    Ok((embedded, address))
}

/// An address on which this process reaches its own listener.
fn loopback(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_both_ways_and_refuses_rubbish() {
        let bytes: [u8; 32] = std::array::from_fn(|index| u8::try_from(index * 7 % 256).expect("fits"));
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(unhex("zz"), None);
        assert_eq!(unhex(&"g".repeat(64)), None);
    }

    #[tokio::test]
    async fn roles_stop_in_reverse_order() {
        let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut roles = Roles::default();
        for name in ["first", "second", "third"] {
            let order = order.clone();
            roles.start(name, |shutdown| async move {
                shutdown.wait().await;
                order.lock().expect("lock").push(name);
                Ok(())
            });
        }
        roles.stop().await;
        assert_eq!(*order.lock().expect("lock"), ["third", "second", "first"]);
    }

    #[tokio::test]
    async fn a_role_that_has_failed_holds_up_nobody() {
        let mut roles = Roles::default();
        let waiting = |shutdown: Shutdown| async move {
            shutdown.wait().await;
            Ok(())
        };
        roles.start("same name", waiting);
        roles.start("broken", |_| async { bail!("at once") });
        roles.start("same name", waiting);
        assert!(format!("{:#}", roles.failed().await).contains("broken failed: at once"));
        let stopped = tokio::time::timeout(STOP_TIMEOUT / 3, roles.stop()).await;
        assert!(stopped.is_ok(), "stop waited for a task that had ended before");
    }

    #[test]
    fn a_data_directory_has_one_process() {
        let dir = tempfile::tempdir().expect("tempdir");
        let held = lock_data_dir(dir.path()).expect("first");
        let error = lock_data_dir(dir.path()).expect_err("second").to_string();
        assert!(error.contains("another kinetic process"), "{error}");
        drop(held);
        lock_data_dir(dir.path()).expect("free again");
    }
}
