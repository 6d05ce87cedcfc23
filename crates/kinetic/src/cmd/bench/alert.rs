//! `kinetic bench alert`: the alert node as it runs, in this process, between the embedded broker and a mail sink on loopback.
//!
//! First the store's ceiling: machine and history without a broker. Then events that are published, confirmed, consumed,
//! recorded durably and acknowledged; then mails; then how long a mail takes at 1,000 alerts a second; then how long one
//! customer's mail takes while another's alerts pour in. What is stored is read off the node's own counter of events that are
//! recorded and of those whose records are not known to be safe.

mod load;
mod sink;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hdrhistogram::Histogram;
use kinetic_amqp::{Address, Publisher};
use kinetic_schema::schema::QueueType;
use kinetic_wire::{AlertState, Envelope, Mono, NodeId, names};
use serde::Serialize;

use self::load::{GROUP_WAIT, QUIET_CUSTOMER, Source};
use self::sink::Inbox;
use crate::adapter::clock;
use crate::adapter::history::Location;
use crate::adapter::smtp_sink::SmtpSink;
use crate::node::{self, Roles, Shared};
use crate::telemetry::Telemetry;
use crate::{cli, shell, term, topology};

/// Publishes that wait for their confirms.
const IN_FLIGHT_MAX: usize = 2_000;
/// Alerts in the second of which the latency is taken.
const BURST: u32 = 1_000;
/// How long one part may take.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How often the node's counters are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// As the node renews them.
const COUNTERS_LAG: Duration = Duration::from_millis(1_200);

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// Events per second into the history, without a broker.
    store_events_per_s: f64,
    /// Events per second from publish to disk, over the embedded broker.
    events_per_s: f64,
    /// Mails per second that the sink took.
    mails_per_s: f64,
    /// From the publish of an event to its mail in the sink, beyond `group_wait`, at 1,000 alerts in a second; ms.
    p50_ms: f64,
    p99_ms: f64,
    /// The same for one alert of another customer, published when the storm begins; ms.
    storm_delay_ms: f64,
    events: u32,
    mails: u32,
    storm: u32,
}

/// `kinetic bench alert`
pub(crate) async fn run(args: cli::BenchAlert) -> Result<u8> {
    let mut temporary = tempfile::Builder::new();
    temporary.prefix("kinetic-bench-");
    let dir = match &args.dir {
        Some(dir) => temporary.tempdir_in(dir),
        None => temporary.tempdir(),
    };
    let dir = dir.context("cannot make a temporary folder")?;
    let mut roles = Roles::default();
    let outcome = tokio::select! {
        measured = measure(&args, dir.path(), &mut roles) => measured,
        interrupted = crate::shutdown::interrupted() => match interrupted {
            Ok(()) => Err(anyhow::anyhow!("interrupted")),
            Err(error) => Err(error),
        },
        error = sink::never() => Err(error),
    };
    roles.stop().await;
    print(&args, &outcome?)?;
    Ok(0)
}

/// The node with what surrounds it.
struct Ground {
    publisher: Publisher,
    telemetry: Telemetry,
    inbox: Inbox,
    source: Source,
}

async fn measure(args: &cli::BenchAlert, dir: &Path, roles: &mut Roles) -> Result<Report> {
    term::progress("history without a broker");
    let ceiling = load::ceiling(dir.join("ceiling.sqlite"), args.events).await?;
    let sink = SmtpSink::bind().await?;
    let address = sink.address();
    let (mails, server) = sink.serve();
    roles.start("mail sink", |shutdown| async move {
        tokio::select! { () = server => {}, () = shutdown.wait() => {} }
        Ok(())
    });
    let mut ground = ground(args, dir, address, Inbox::start(mails), roles).await?;
    term::progress("events into history");
    let events_per_s = ground.events(args.events).await?;
    term::progress("mails");
    let mails_per_s = ground.mails(args.mails).await?;
    term::progress("latency");
    let latency = ground.latency().await?;
    term::progress("storm");
    let storm_delay_ms = ground.storm(args.storm).await?;
    term::progress("");
    Ok(Report {
        store_events_per_s: ceiling,
        events_per_s,
        mails_per_s,
        p50_ms: latency.value_at_quantile(0.5) as f64,
        p99_ms: latency.value_at_quantile(0.99) as f64,
        storm_delay_ms,
        events: args.events,
        mails: args.mails,
        storm: args.storm,
    })
}

async fn ground(
    args: &cli::BenchAlert,
    dir: &Path,
    sink: std::net::SocketAddr,
    inbox: Inbox,
    roles: &mut Roles,
) -> Result<Ground> {
    let address: Address = super::embedded(roles).await?;
    let telemetry = Telemetry::default();
    let repository = dir.join("repository.git");
    kinetic_replica::init(
        &repository,
        &load::schema(sink),
        "#!/bin/sh\n",
        &crate::cmd::schema_repo::author(),
    )?;
    let schema = repository.to_string_lossy().into_owned();
    let (follower, watch) =
        node::open_schema(&schema, "main", Duration::from_secs(600), dir, &telemetry).await?;
    roles.start("schema follower", |shutdown| follower.run(None, shutdown));
    let shared = Shared {
        control: address.clone(),
        schema: watch,
        telemetry: telemetry.clone(),
        data_dir: dir.to_owned(),
        node: NodeId::new("bench"),
        queues: QueueType::Classic,
        token_keys: None,
    };
    let history = match &args.history {
        Some(url) => Location::parse(url, args.history_password_file.as_deref(), dir)?,
        None => shared.own_history(),
    };
    let setup = shared.alert(history)?;
    roles.start("alert node", |shutdown| shell::alert::run(setup, shutdown));
    let publisher = Publisher::start(address, topology::alerts(), IN_FLIGHT_MAX);
    Ok(Ground { publisher, telemetry, inbox, source: Source::default() })
}

impl Ground {
    async fn publish(&self, bodies: impl Iterator<Item = Vec<u8>>) -> Result<()> {
        let envelope = Envelope::default();
        let mut confirms = FuturesUnordered::new();
        for body in bodies {
            confirms.push(self.publisher.publish(names::ALERTS, names::ALERTS, &envelope, body, false));
            if confirms.len() >= IN_FLIGHT_MAX {
                confirms.next().await.context("confirms are awaited")??;
            }
        }
        while let Some(confirmed) = confirms.next().await {
            confirmed?;
        }
        Ok(())
    }

    /// Waits until so many events in all are recorded and safe.
    async fn wait_stored(&self, events: f64) -> Result<()> {
        let waiting = async {
            let stored = || {
                self.telemetry.value("kinetic_alert_events")
                    - self.telemetry.value("kinetic_alert_appends_pending")
            };
            while stored() < events {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(TIMEOUT, waiting).await.context("the events were not stored in time")
    }

    /// Events per second: repeats of alerts that fire, of a customer whom nobody mails, as they come from a large fleet.
    async fn events(&mut self, count: u32) -> Result<f64> {
        let warm_up = self.source.silent(count / 10);
        let before = warm_up.len() as f64;
        self.publish(warm_up.into_iter()).await?;
        self.wait_stored(before).await?;
        let bodies = self.source.silent(count);
        let started = clock::now().mono;
        self.publish(bodies.into_iter()).await?;
        self.wait_stored(before + f64::from(count)).await?;
        Ok(rate(count, started))
    }

    /// Mails per second: as many groups begin to fire at once.
    async fn mails(&mut self, count: u32) -> Result<f64> {
        let seen = self.inbox.count();
        let bodies: Vec<_> = (0..count).map(|_| self.source.new_group(load::LOUD_CUSTOMER).1).collect();
        self.publish(bodies.into_iter()).await?;
        self.inbox.wait_for(seen + 1, TIMEOUT).await?;
        let (started, already) = (clock::now().mono, self.inbox.count());
        self.inbox.wait_for(seen + count as usize, TIMEOUT).await?;
        let rest = u32::try_from(seen + count as usize - already)?;
        ensure!(rest > 0, "too few mails to measure");
        Ok(rate(rest, started))
    }

    /// From publish to mailbox beyond `group_wait`, at so many new groups spread evenly over a second; milliseconds.
    async fn latency(&mut self) -> Result<Histogram<u64>> {
        let mut sent = Vec::new();
        let seen = self.inbox.count();
        let mut pace = tokio::time::interval(Duration::from_secs(1) / BURST);
        for _ in 0..BURST {
            pace.tick().await;
            let (group, body) = self.source.new_group(load::LOUD_CUSTOMER);
            sent.push((group, clock::now().mono));
            self.publish(std::iter::once(body)).await?;
        }
        self.inbox.wait_for(seen + BURST as usize, TIMEOUT).await?;
        let mut latency = Histogram::new(3).context("a histogram")?;
        for (group, at) in sent {
            let arrived = self.inbox.arrival(&group).with_context(|| format!("no mail about {group}"))?;
            let beyond = arrived.since(at).saturating_sub(GROUP_WAIT);
            latency.saturating_record(u64::try_from(beyond.as_millis())?);
        }
        Ok(latency)
    }

    /// How long the mail of a customer takes beyond `group_wait` while another has a storm; milliseconds.
    async fn storm(&mut self, count: u32) -> Result<f64> {
        let storm = self.source.storm(count);
        let (group, body) = self.source.new_group(QUIET_CUSTOMER);
        let half = storm.len() / 2;
        let (first, second) = (storm[..half].to_vec(), storm[half..].to_vec());
        self.publish(first.into_iter()).await?;
        let at = clock::now().mono;
        self.publish(std::iter::once(body).chain(second)).await?;
        let arrived = self.inbox.wait_about(&group, TIMEOUT).await?;
        // Its own counters are of the last second.
        tokio::time::sleep(COUNTERS_LAG).await;
        Ok(arrived.since(at).saturating_sub(GROUP_WAIT).as_secs_f64() * 1e3)
    }
}

fn rate(count: u32, started: Mono) -> f64 {
    f64::from(count) / clock::now().mono.since(started).as_secs_f64()
}

fn print(args: &cli::BenchAlert, report: &Report) -> Result<()> {
    if args.json {
        term::say(&format!("{}\n", serde_json::to_string(report)?));
        return Ok(());
    }
    let rows = [
        ("events/s into history, no broker", report.store_events_per_s, "events"),
        ("events/s, publish to disk", report.events_per_s, "goal 20,000"),
        ("mails/s", report.mails_per_s, "goal 1,000"),
        ("p50 event to mail, ms", report.p50_ms, "beyond group_wait"),
        ("p99 event to mail, ms", report.p99_ms, "goal under 1,000"),
        ("delay by another's storm, ms", report.storm_delay_ms, "goal under 2,000"),
    ];
    let mut text = String::new();
    for (name, value, note) in rows {
        text.push_str(&format!("{name:<36} {value:>12.0}   {note}\n"));
    }
    term::say(&text);
    Ok(())
}

/// The state that all events of this load have.
const STATE: AlertState = AlertState::Firing;
