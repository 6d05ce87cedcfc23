//! One measured consumer: drains a known number of bodies and reports what it took.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kinetic_schema::schema::QueueType;
use kinetic_wire::{NodeId, Serves};

use super::Figures;
use super::load::NULL_QUEUE;
use crate::adapter::{clock, file};
use crate::node::{self, Roles, Shared};
use crate::telemetry::Telemetry;
use crate::{cli, shell, term};

/// How often the analyzer's count is looked at: the resolution of its time.
const LOOK: Duration = Duration::from_millis(5);

/// Deliveries in flight to the null consumer: as many as to the analyzer.
const NULL_PREFETCH: u16 = shell::analyzer::PREFETCH;
/// Deliveries that it settles with one acknowledgement.
const NULL_ACK_EVERY: u64 = 256;

/// How long the analyzer may take to close its last windows after the last sample.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// `kinetic bench-drain`
pub(crate) async fn run(args: cli::BenchDrain) -> Result<u8> {
    let figures = match args.what.as_str() {
        "null" => null(&args).await?,
        "analyzer" => analyzer(&args).await?,
        other => bail!("there is no consumer named {other}"),
    };
    term::say(&serde_json::to_string(&figures)?);
    Ok(0)
}

/// What has been used until now, for so many samples in so much time.
fn figures(args: &cli::BenchDrain, elapsed: Duration) -> Result<Figures> {
    let samples = args.samples as f64;
    let (cpu, peak_mb) = usage()?;
    Ok(Figures {
        samples_per_s: samples / elapsed.as_secs_f64(),
        cpu_s_per_million: cpu.as_secs_f64() / (samples / 1e6),
        peak_mb,
    })
}

/// Receives, counts and acknowledges, nothing else.
async fn null(args: &cli::BenchDrain) -> Result<Figures> {
    let address = node::address(&args.broker, "bench null")?;
    let mut began = clock::now().mono;
    let on_first = || began = clock::now().mono;
    kinetic_amqp::drain_plainly(&address, NULL_QUEUE, NULL_PREFETCH, NULL_ACK_EVERY, args.bodies, on_first)
        .await?;
    figures(args, clock::now().mono.since(began))
}

/// The real analyzer, registered with the redirector like any other.
async fn analyzer(args: &cli::BenchDrain) -> Result<Figures> {
    let control = node::address(&args.broker, "bench analyzer")?;
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let telemetry = Telemetry::default();
    let mut roles = Roles::default();
    let (follower, schema) =
        node::open_schema(&args.schema, "main", Duration::from_secs(600), dir.path(), &telemetry).await?;
    roles.start("schema follower", |shutdown| follower.run(None, shutdown));
    let shared = Shared {
        control,
        schema,
        telemetry: telemetry.clone(),
        data_dir: dir.path().to_owned(),
        node: NodeId::new("bench"),
        queues: QueueType::Classic,
        token_keys: None,
    };
    let mut setup = shared.analyzer(Serves::default(), 100, None);
    setup.metrics_interval = LOOK;
    roles.start("analyzer", |shutdown| shell::analyzer::run(setup, shutdown));
    let mut began = None;
    let mut looks = tokio::time::interval(LOOK);
    let measured = loop {
        tokio::select! {
            error = roles.failed() => return Err(error),
            _ = looks.tick() => {}
        }
        let counted = telemetry.value("kinetic_analyzer_samples");
        let now = clock::now().mono;
        if counted > 0.0 {
            let began = *began.get_or_insert(now);
            if counted >= args.samples as f64 {
                break figures(args, now.since(began))?;
            }
        }
    };
    // Nothing is left behind for the next round: the last windows close once the source has been silent.
    let settled = async {
        while telemetry.value("kinetic_analyzer_deliveries_held") > 0.0 {
            looks.tick().await;
        }
    };
    tokio::time::timeout(SETTLE_MAX, settled).await.context("the last windows were not closed in time")?;
    roles.stop().await;
    Ok(measured)
}

/// CPU time of this process and its peak resident memory in MB, as Linux keeps them in `/proc` (proc(5)).
fn usage() -> Result<(Duration, f64)> {
    let stat = file::read_text(Path::new("/proc/self/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat has a process name in brackets")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| -> Result<u64> {
        Ok(fields.get(index).context("/proc/self/stat is short")?.parse::<u64>()?)
    };
    // utime and stime are fields 14 and 15 counted from 1; what follows the name begins with field 3. The unit is
    // USER_HZ, which Linux fixes at 100 a second for user space.
    let cpu = Duration::from_millis((ticks(11)? + ticks(12)?) * 10);
    let status = file::read_text(Path::new("/proc/self/status"))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM in /proc/self/status")?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").trim().parse()?;
    Ok((cpu, kib * 1024.0 / 1e6))
}
