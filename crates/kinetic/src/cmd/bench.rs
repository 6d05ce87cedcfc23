//! `kinetic bench`: the analyzer against a consumer that only acknowledges, on the same broker, in one run.
//!
//! Each consumer is a process of its own, so that its CPU time and its memory are its own; the parent publishes, and
//! holds the embedded broker unless `--amqp` names another.

mod alert;
mod drain;
mod load;
mod redirector;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kinetic_amqp::{Address, Secret};
use kinetic_broker::{Access, Broker, BrokerConfig, Names, Password, Permission, User};
use kinetic_schema::schema::QueueType;
use kinetic_wire::{NodeId, names};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

pub(crate) use self::alert::run as alert;
pub(crate) use self::drain::run as drain;
pub(crate) use self::redirector::run as redirector;

use crate::node::{self, Roles, Shared};
use crate::telemetry::Telemetry;
use crate::{cli, shell, term};

/// Memory that the embedded broker may use for the whole load.
const BROKER_BYTES_MAX: usize = 8 << 30;
/// How long one drain may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);
/// Lease of the measured analyzer.
const LEASE: Duration = Duration::from_secs(30);
/// The script that one would write instead.
const PEER_SCRIPT: &str = include_str!("bench/peer.py");

/// What one consumer achieved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Samples per second, from the first delivery to the last.
    pub(crate) samples_per_s: f64,
    /// CPU seconds of the consumer per million samples.
    pub(crate) cpu_s_per_million: f64,
    /// Peak resident memory, MB.
    pub(crate) peak_mb: f64,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    broker: &'static str,
    samples: u64,
    bodies: u64,
    body_bytes: u64,
    null: Figures,
    analyzer: Figures,
    /// Median over the rounds of analyzer rate over null rate.
    ratio: f64,
    ratios: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Figures>,
}

/// A broker to measure on, with where the parts of the run find it.
struct Ground {
    address: Address,
    password_file: PathBuf,
    trust: cli::Trust,
    schema: String,
    name: &'static str,
}

/// `kinetic bench`
pub(crate) async fn run(args: cli::Bench) -> Result<u8> {
    let dir = tempfile::Builder::new()
        .prefix("kinetic-bench-")
        .tempdir()
        .context("cannot make a temporary folder")?;
    let mut roles = Roles::default();
    let outcome = tokio::select! {
        measured = measure(&args, dir.path(), &mut roles) => measured,
        interrupted = crate::shutdown::interrupted() => match interrupted {
            Ok(()) => Err(anyhow::anyhow!("interrupted")),
            Err(error) => Err(error),
        },
    };
    roles.stop().await;
    print(&args, &outcome?)?;
    Ok(0)
}

async fn measure(args: &cli::Bench, dir: &Path, roles: &mut Roles) -> Result<Report> {
    let ground = ground(args, dir, roles).await?;
    let load = load::Load::new(u64::from(args.millions) * 1_000_000, usize::try_from(args.body_bytes)?);
    let mut queues = vec![load::NULL_QUEUE];
    if args.peer {
        queues.push(load::PEER_QUEUE);
    }
    let (mut nulls, mut analyzers, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    let first = load::first_moment(args.rounds);
    for round in 0..args.rounds {
        progress(
            args,
            &format!("round {} of {}: publishing {} M samples", round + 1, args.rounds, args.millions),
        );
        load::publish(&ground.address, &queues, &load, first, round).await?;
        progress(args, "draining: null consumer");
        nulls.push(child(&ground, "null", &load).await?);
        progress(args, "draining: analyzer");
        analyzers.push(child(&ground, "analyzer", &load).await?);
        if args.peer {
            progress(args, "draining: pika and numpy");
            peers.push(peer(&ground, dir, &load).await?);
        }
    }
    load::remove(&ground.address, &queues).await?;
    progress(args, "");
    let ratios: Vec<f64> = nulls
        .iter()
        .zip(&analyzers)
        .map(|(null, analyzer)| analyzer.samples_per_s / null.samples_per_s)
        .collect();
    Ok(Report {
        broker: ground.name,
        samples: load.samples,
        bodies: load.bodies(),
        body_bytes: load.mean_body_bytes(),
        null: median_figures(&nulls),
        analyzer: median_figures(&analyzers),
        ratio: median(ratios.clone()),
        ratios,
        peer: (!peers.is_empty()).then(|| median_figures(&peers)),
    })
}

/// The broker, the schema and the redirector.
async fn ground(args: &cli::Bench, dir: &Path, roles: &mut Roles) -> Result<Ground> {
    let password_file = dir.join("password");
    let (address, name) = match args.amqp.as_slice() {
        [_, ..] => {
            let broker = cli::BrokerAddress {
                amqp: args.amqp.clone(),
                password_file: args.password_file.clone(),
                trust: args.trust.clone(),
            };
            (node::address(&broker, "kinetic bench")?, "amqp")
        }
        [] => (embedded(roles).await?, "embedded"),
    };
    crate::adapter::file::secret_or_new(&password_file, || address.password.expose().to_owned())?;
    let repository = dir.join("repository.git");
    let files = load::schema(&address.vhost);
    kinetic_replica::init(&repository, &files, "#!/bin/sh\n", &crate::cmd::schema_repo::author())?;
    let schema = repository.to_string_lossy().into_owned();
    let telemetry = Telemetry::default();
    let (follower, watch) =
        node::open_schema(&schema, "main", Duration::from_secs(600), dir, &telemetry).await?;
    roles.start("schema follower", |shutdown| follower.run(None, shutdown));
    let shared = Shared {
        control: address.clone(),
        schema: watch,
        telemetry,
        data_dir: dir.to_owned(),
        node: NodeId::new("bench"),
        queues: QueueType::Classic,
        token_keys: None,
    };
    let setup = shared.redirector(LEASE, LEASE, Duration::ZERO, address.uris.clone());
    roles.start("redirector", |shutdown| shell::redirector::run(setup, shutdown));
    Ok(Ground { address, password_file, trust: args.trust.clone(), schema, name })
}

/// An embedded broker with room for the whole load.
async fn embedded(roles: &mut Roles) -> Result<Address> {
    let password = crate::cmd::schema_repo::new_secret();
    let all = Permission { configure: Names::All, write: Names::All, read: Names::All };
    let user = User::new(
        shell::broker::OWN_LOGIN,
        Password::Plain(password.clone()),
        BTreeMap::from([("/".to_owned(), all)]),
    );
    let access = Access {
        vhosts: BTreeSet::from(["/".to_owned()]),
        users: BTreeMap::from([(shell::broker::OWN_LOGIN.to_owned(), user)]),
        ..Access::default()
    };
    let config = BrokerConfig { memory_bytes_max: BROKER_BYTES_MAX, ..BrokerConfig::default() };
    let broker = Broker::bind(config, access).await.context("cannot listen on a loopback port")?;
    let mut address =
        Address::from_url(&format!("amqp://{}@{}", shell::broker::OWN_LOGIN, broker.local_addr()))?;
    address.password = Secret::new(password);
    let handle = broker.handle();
    roles.start("broker", |shutdown| async move {
        tokio::join!(broker.run(), async {
            shutdown.wait().await;
            handle.shutdown();
        });
        Ok(())
    });
    Ok(address)
}

/// Runs a consumer as a process of its own and reads what it reports.
async fn child(ground: &Ground, what: &str, load: &load::Load) -> Result<Figures> {
    let binary = std::env::current_exe().context("cannot tell where this binary is")?;
    let mut command = command(&binary);
    command
        .arg("bench-drain")
        .arg(what)
        .args(["--amqp", &url(&ground.address)])
        .arg("--password-file")
        .arg(&ground.password_file)
        .args(ground.trust.words())
        .args(["--schema", &ground.schema])
        .args(["--bodies", &load.bodies().to_string()])
        .args(["--samples", &load.samples.to_string()]);
    report(command, what).await
}

async fn peer(ground: &Ground, dir: &Path, load: &load::Load) -> Result<Figures> {
    let script = dir.join("peer.py");
    crate::adapter::file::write_atomically(&script, PEER_SCRIPT.as_bytes())?;
    let mut command = command(Path::new("python3"));
    command
        .arg(&script)
        .arg(url(&ground.address))
        .arg(&ground.password_file)
        .arg(load::PEER_QUEUE)
        .arg(load.bodies().to_string());
    report(command, "peer script (does python3 have pika and numpy?)").await
}

#[expect(clippy::disallowed_methods, reason = "awaited with a deadline by report(), killed when dropped")]
fn command(program: &Path) -> Command {
    let mut command = Command::from(std::process::Command::new(program));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

async fn report(mut command: Command, what: &str) -> Result<Figures> {
    let running = command.spawn().with_context(|| format!("cannot start the {what}"))?.wait_with_output();
    let output = tokio::time::timeout(DRAIN_TIMEOUT, running)
        .await
        .with_context(|| format!("the {what} did not end within {} s", DRAIN_TIMEOUT.as_secs()))??;
    if !output.status.success() {
        bail!("the {what} failed: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("the {what} reported nonsense"))
}

/// The broker as an URL without the password, which goes by file.
fn url(address: &Address) -> String {
    let uri = address.uris.first().map(String::as_str).unwrap_or_default();
    let (scheme, host) = uri.split_once("://").unwrap_or(("amqp", uri));
    let vhost = address.vhost.replace('%', "%25").replace('/', "%2f");
    format!("{scheme}://{}@{host}/{vhost}", address.login)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn median_figures(figures: &[Figures]) -> Figures {
    let of = |pick: fn(&Figures) -> f64| median(figures.iter().map(pick).collect());
    Figures {
        samples_per_s: of(|one| one.samples_per_s),
        cpu_s_per_million: of(|one| one.cpu_s_per_million),
        peak_mb: of(|one| one.peak_mb),
    }
}

/// One line that is overwritten, on a terminal and not with `--json`.
fn progress(args: &cli::Bench, what: &str) {
    if !args.json && term::is_fancy() {
        term::steer(&format!("\r\x1b[K{what}"));
    }
}

fn print(args: &cli::Bench, report: &Report) -> Result<()> {
    if args.json {
        term::say(&format!("{}\n", serde_json::to_string(report)?));
        return Ok(());
    }
    let mut text = format!(
        "{} M statsd samples, 200 hosts x 50 metrics, {} bodies of {} B, {} broker, median of {}\n\n{:<18} {:>14} {:>20} {:>10}\n",
        args.millions,
        report.bodies,
        report.body_bytes,
        report.broker,
        report.ratios.len(),
        "consumer",
        "M samples/s",
        "CPU s/M samples",
        "peak MB",
    );
    let mut row = |name: &str, figures: &Figures| {
        text.push_str(&format!(
            "{name:<18} {:>14.2} {:>20.3} {:>10.0}\n",
            figures.samples_per_s / 1e6,
            figures.cpu_s_per_million,
            figures.peak_mb,
        ));
    };
    row("null (acks only)", &report.null);
    row("analyzer", &report.analyzer);
    if let Some(peer) = &report.peer {
        row("pika and numpy", peer);
    }
    text.push_str(&format!("\nanalyzer / null: {:.2}\n", report.ratio));
    term::say(&text);
    Ok(())
}

/// The exchange that the load goes through.
pub(crate) fn exchange() -> String {
    names::ingress_exchange(&load::CUSTOMER.into())
}
