//! Follows the schema repository: fetch, check, swap; the last good revision stays when a bad one arrives.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kinetic_amqp::{Address, ConsumeOptions, Consumer, Event};
use kinetic_replica::{Candidate, Replica, ReplicaConfig};
use kinetic_schema::{Loaded, Schema};
use tokio::sync::watch;

use crate::adapter::clock;
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Metric, Telemetry};
use crate::topology;

/// Notices are small and rare.
const NOTICE_PREFETCH: u16 = 16;
/// Name of this part on `/metrics` and `/__heartbeat__`.
const PART: &str = "schema";

/// A checked revision in force.
#[derive(Debug)]
pub(crate) struct Revision {
    /// Commit id.
    pub(crate) id: String,
    /// Commits up to and with it; a later revision of one history has more.
    pub(crate) generation: u64,
    /// What it says.
    pub(crate) schema: Arc<Schema>,
}

/// The revision in force, and a way to wait for the next.
pub(crate) type SchemaWatch = watch::Receiver<Arc<Revision>>;

/// Where the repository is and how often to look.
#[derive(Clone, Debug)]
pub(crate) struct FollowConfig {
    /// Path or URL.
    pub(crate) remote: String,
    /// Branch.
    pub(crate) branch: String,
    /// Folder for the clone.
    pub(crate) dir: PathBuf,
    /// Time between fetches.
    pub(crate) interval: Duration,
}

/// A follower whose first revision is in force.
pub(crate) struct Follower {
    replica: Option<Replica>,
    sender: watch::Sender<Arc<Revision>>,
    interval: Duration,
    telemetry: Telemetry,
    fetched_at: kinetic_wire::Wall,
    rejected: u64,
    failures: u64,
}

/// Opens the local clone, fetches once and puts the newest good revision in force. Fails only if there is none.
pub(crate) async fn open(config: FollowConfig, telemetry: Telemetry) -> Result<(Follower, SchemaWatch)> {
    let remote = config.remote.clone();
    let opening = ReplicaConfig { branch: config.branch, ..ReplicaConfig::new(config.remote, config.dir) };
    let replica = tokio::task::spawn_blocking(move || Replica::open(opening))
        .await?
        .with_context(|| format!("cannot follow the schema repository {remote}"))?;
    let kept = replica.current().map(check).transpose().map_err(|report| {
        anyhow::anyhow!(
            "the revision in force before no longer checks with this version of Kinetic:\n{report}"
        )
    })?;
    let has_kept = kept.is_some();
    let empty = || Arc::new(Revision { id: String::new(), generation: 0, schema: Arc::default() });
    let (sender, receiver) = watch::channel(kept.map_or_else(empty, Arc::new));
    let mut follower = Follower {
        replica: Some(replica),
        sender,
        interval: config.interval,
        telemetry,
        fetched_at: clock::now().wall,
        rejected: 0,
        failures: 0,
    };
    let looked = follower.look().await;
    match looked {
        Looked::Swapped | Looked::Nothing if !follower.sender.borrow().id.is_empty() => {}
        Looked::Refused(_) | Looked::Failed(_) if has_kept => {}
        Looked::Refused(report) => {
            return Err(crate::BadConfig(format!("the schema in {remote} does not check:\n{report}")).into());
        }
        Looked::Failed(error) => {
            return Err(error.context(format!("cannot fetch the schema repository {remote}")));
        }
        Looked::Swapped | Looked::Nothing => {
            bail!("the schema repository {remote} has no revision yet: push one")
        }
    }
    Ok((follower, receiver))
}

/// What one look at the remote brought.
enum Looked {
    Nothing,
    Swapped,
    Refused(String),
    Failed(anyhow::Error),
}

impl Follower {
    /// Follows until shutdown; looks on an interval and whenever a notice comes on `kin.schema`.
    pub(crate) async fn run(mut self, notices: Option<Address>, shutdown: Shutdown) -> Result<()> {
        let mut notices = notices.map(|address| {
            Consumer::start(
                address,
                ConsumeOptions {
                    queue: String::new(),
                    topology: topology::schema_notices_subscription(),
                    prefetch: NOTICE_PREFETCH,
                    no_ack: true,
                    ..ConsumeOptions::default()
                },
            )
        });
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                () = shutdown.wait() => break,
                _ = ticks.tick() => {}
                event = next(&mut notices) => if !matches!(event, Event::Delivery(_)) { continue },
            }
            self.look().await;
        }
        if let Some(notices) = notices {
            notices.close().await;
        }
        Ok(())
    }

    /// Fetches, checks, swaps.
    async fn look(&mut self) -> Looked {
        let Some(mut replica) = self.replica.take() else { return Looked::Nothing };
        let worked = tokio::task::spawn_blocking(move || {
            let looked = look_at(&mut replica);
            (replica, looked)
        })
        .await;
        let looked = match worked {
            Ok((replica, looked)) => {
                self.replica = Some(replica);
                looked
            }
            Err(error) => Err(error.into()),
        };
        let now = clock::now().wall;
        let looked = match looked {
            Ok(None) => Looked::Nothing,
            Ok(Some(Ok(revision))) => {
                tracing::info!(revision = %revision.id, "schema in force");
                self.sender.send_replace(Arc::new(revision));
                Looked::Swapped
            }
            Ok(Some(Err(report))) => Looked::Refused(report),
            Err(error) => Looked::Failed(error),
        };
        match &looked {
            Looked::Failed(error) => {
                self.failures += 1;
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot fetch the schema repository; the last good revision stays"
                );
                self.telemetry.health(PART, Health::Failing(format!("cannot fetch: {error:#}")), now);
            }
            Looked::Refused(report) => {
                self.fetched_at = now;
                self.rejected += 1;
                tracing::error!(report, "a schema revision that does not check was not put in force");
                self.telemetry.health(
                    PART,
                    Health::Failing("the newest revision does not check".into()),
                    now,
                );
            }
            Looked::Swapped => {
                self.fetched_at = now;
                self.telemetry.health(PART, Health::Ok, now);
            }
            Looked::Nothing => {
                self.fetched_at = now;
                // A refused tip stays refused until a better one comes; only a failed fetch has healed.
                if self.replica.as_ref().is_some_and(|replica| replica.status().rejected.is_none()) {
                    self.telemetry.health(PART, Health::Ok, now);
                }
            }
        }
        self.show(now);
        looked
    }

    fn show(&self, now: kinetic_wire::Wall) {
        let revision = self.sender.borrow().id.clone();
        self.telemetry.show(
            PART,
            vec![
                Metric::gauge("kinetic_schema_revision_info", "1 for the revision in force.", 1.0)
                    .with("revision", revision),
                Metric::gauge(
                    "kinetic_schema_staleness_seconds",
                    "Time since the schema repository was last reached.",
                    now.since(self.fetched_at).as_secs_f64(),
                ),
                Metric::counter("kinetic_schema_rejected", "Revisions that did not check.", self.rejected),
                Metric::counter("kinetic_schema_fetch_failures", "Fetches that failed.", self.failures),
            ],
        );
    }
}

/// The next notice, or never.
async fn next(consumer: &mut Option<Consumer>) -> Event {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}

/// Blocking part of a look: a new revision in force, a report on a refused one, or nothing new.
fn look_at(replica: &mut Replica) -> Result<Option<Result<Revision, String>>> {
    let Some(candidate) = replica.fetch()? else { return Ok(None) };
    if candidate.forced {
        tracing::warn!(revision = %candidate.revision, "the schema branch was rewritten (force-push)");
    }
    match check(&candidate) {
        Ok(revision) => {
            replica.accept(&candidate.revision)?;
            Ok(Some(Ok(revision)))
        }
        Err(report) => {
            replica.reject(&candidate.revision, &report);
            Ok(Some(Err(report)))
        }
    }
}

/// A candidate's schema, or what is wrong with it, rendered.
fn check(candidate: &Candidate) -> Result<Revision, String> {
    let Loaded { schema, diagnostics } = kinetic_schema::load(&candidate.files);
    match schema {
        Some(schema) => Ok(Revision {
            id: candidate.revision.to_string(),
            generation: candidate.generation,
            schema: Arc::new(schema),
        }),
        None => Err(kinetic_schema::render(&diagnostics, &candidate.files, false, 100)),
    }
}
