//! Keeps the RabbitMQ brokers of a schema as it wants them, while this redirector leads: at every revision, whenever a key begins
//! or ends, and every minute for what somebody else has changed.
//!
//! A new revision ends a run that is under way: the next begins with what is taken away, and finishes what the other has begun.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use kinetic_access::{Change, next_change_ms};
use kinetic_amqp::Address;
use kinetic_wire::{Mono, Wall};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::adapter::clock;
use crate::adapter::file;
use crate::adapter::management::Management;
use crate::reconcile::{self, Outcome, Target};
use crate::shell::follow::{Revision, SchemaWatch};
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Metric, Telemetry};

/// Pause between two looks at what somebody else may have changed.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A broker whose listing takes long is looked at less often: this many times as long.
const LOOK_SHARE: u32 = 20;
/// Pause after an error; it doubles.
const RETRY_MIN: Duration = Duration::from_secs(2);
/// Longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Name of this part on `/metrics` and `/__heartbeat__`.
pub(crate) const PART: &str = "reconciler";

/// What the loop needs.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Whether this process leads.
    pub(crate) leads: watch::Receiver<bool>,
    /// The control vhost, and the login for all vhosts and management APIs.
    pub(crate) control: Address,
    /// The password at management APIs, where it is another.
    pub(crate) password_file: Option<PathBuf>,
    /// Schema revisions.
    pub(crate) schema: SchemaWatch,
    /// Where numbers go.
    pub(crate) telemetry: Telemetry,
}

#[derive(Debug, Default)]
struct Counts {
    runs: u64,
    failures: u64,
    interrupted: u64,
    steps: BTreeMap<Change, u64>,
    notes: usize,
    succeeded: Option<Wall>,
}

struct Shell {
    setup: Setup,
    counts: Counts,
    /// Notes that have been logged.
    said: BTreeSet<String>,
    /// Failed runs since the last good one.
    failed: u32,
}

/// Runs until shutdown.
pub(crate) async fn run(setup: Setup, shutdown: Shutdown) -> Result<()> {
    let (mut schema, mut leads) = (setup.schema.clone(), setup.leads.clone());
    let mut shell = Shell { setup, counts: Counts::default(), said: BTreeSet::new(), failed: 0 };
    loop {
        let revision = schema.borrow_and_update().clone();
        let leading = *leads.borrow_and_update();
        let (targets, _) = reconcile::targets(&revision.schema, &shell.setup.control, None);
        let pause = if targets.is_empty() || !leading {
            if !targets.is_empty() {
                shell.health(Health::Standby("another redirector leads".into()));
            }
            None
        } else {
            tokio::select! {
                () = shutdown.wait() => break,
                pause = shell.pass(&revision, &targets) => Some(pause),
                Ok(()) = schema.changed() => {
                    shell.counts.interrupted += 1;
                    continue;
                }
                Ok(()) = leads.changed() => continue,
            }
        };
        let due = pause.map(|pause| Mono(clock::now().mono.0.saturating_add(pause.as_nanos() as u64)));
        tokio::select! {
            () = shutdown.wait() => break,
            Ok(()) = schema.changed() => {}
            Ok(()) = leads.changed() => {}
            () = clock::sleep_until(due) => {}
        }
    }
    Ok(())
}

impl Shell {
    /// Makes every broker as the schema wants it. Returns when to look again.
    async fn pass(&mut self, revision: &Arc<Revision>, targets: &[Target]) -> Duration {
        let began = clock::now();
        self.counts.runs += 1;
        // All at once: one that does not answer keeps no other from losing who is to lose its rights. The jobs end with this run.
        let mut jobs = JoinSet::new();
        for target in targets {
            let (control, file) = (self.setup.control.clone(), self.setup.password_file.clone());
            jobs.spawn(settle(control, file, Arc::clone(revision), target.clone()));
        }
        let mut problems = Vec::new();
        let mut notes = BTreeSet::new();
        while let Some(done) = jobs.join_next().await {
            let (target, outcome, settled) = match done {
                Ok(done) => done,
                Err(error) => {
                    problems.push(format!("a run broke off: {error}"));
                    continue;
                }
            };
            if !outcome.steps.is_empty() {
                let count = |change| outcome.steps.get(&change).copied().unwrap_or_default();
                let (created, changed) = (count(Change::Create), count(Change::Change));
                let removed = count(Change::Remove);
                let revision = &revision.id;
                tracing::info!(broker = target.url, %revision, created, changed, removed, "reconciled");
            }
            for (change, count) in outcome.steps {
                *self.counts.steps.entry(change).or_default() += count;
            }
            notes.extend(outcome.notes.into_iter().map(|note| format!("{}: {note}", target.url)));
            if let Err(error) = settled {
                problems.push(format!("{}: {error:#}", target.url));
            }
        }
        for note in notes.difference(&self.said) {
            tracing::warn!(note, "something on a broker is not as the schema wants it, and is left so");
        }
        self.counts.notes = notes.len();
        self.said = notes;
        let now = clock::now();
        if problems.is_empty() {
            self.failed = 0;
            self.counts.succeeded = Some(now.wall);
            self.health(Health::Ok);
        } else {
            self.counts.failures += 1;
            self.failed += 1;
            self.health(Health::Failing(problems.join("; ")));
        }
        self.show();
        if self.failed > 0 {
            return RETRY_MAX.min(RETRY_MIN * 2u32.saturating_pow(self.failed - 1));
        }
        let look = LOOK_EVERY.max(now.mono.since(began.mono) * LOOK_SHARE);
        // Not from now, but from when this run read the schema: a key may have ended since.
        let change = next_change_ms(&revision.schema, began.wall);
        let until = change.map(|at| u64::try_from(at - now.wall.as_ms()).unwrap_or_default());
        until.map_or(look, |until| look.min(Duration::from_millis(until)))
    }

    fn health(&self, health: Health) {
        self.setup.telemetry.health(PART, health, clock::now().wall);
    }

    fn show(&self) {
        let Counts { runs, failures, interrupted, steps, notes, succeeded } = &self.counts;
        let mut metrics = vec![
            Metric::counter("kinetic_reconciler_runs", "Times that brokers were looked at.", *runs),
            Metric::counter(
                "kinetic_reconciler_failures",
                "Of these, such as could not be finished.",
                *failures,
            ),
            Metric::counter(
                "kinetic_reconciler_interrupted",
                "Runs that a new revision ended; the next went on.",
                *interrupted,
            ),
            Metric::gauge(
                "kinetic_reconciler_notes",
                "Conflicts and leftovers on brokers that somebody should look at (kinetic plan shows them).",
                *notes as f64,
            ),
        ];
        for change in [Change::Create, Change::Change, Change::Remove] {
            let count = steps.get(&change).copied().unwrap_or_default();
            let help = "Things created, changed and removed on brokers.";
            metrics
                .push(Metric::counter("kinetic_reconciler_steps", help, count).with("change", change.word()));
        }
        if let Some(at) = succeeded {
            let help = "When all brokers were last known to be as the schema wants them.";
            let seconds = at.as_ms() as f64 / 1_000.0;
            metrics.push(Metric::gauge("kinetic_reconciler_last_success_timestamp_seconds", help, seconds));
        }
        self.setup.telemetry.show(PART, metrics);
    }
}

async fn settle(
    control: Address,
    password_file: Option<PathBuf>,
    revision: Arc<Revision>,
    target: Target,
) -> (Target, Outcome, Result<()>) {
    let mut outcome = Outcome::default();
    let settled = attempt(&control, password_file, &revision, &target, &mut outcome).await;
    (target, outcome, settled)
}

async fn attempt(
    control: &Address,
    password_file: Option<PathBuf>,
    revision: &Revision,
    target: &Target,
    outcome: &mut Outcome,
) -> Result<()> {
    let password = match password_file {
        Some(file) => Some(tokio::task::spawn_blocking(move || file::read_secret(&file)).await??),
        None => None,
    };
    let api = Management::new(&target.url, control, password.as_ref())?;
    let first = reconcile::look(&api, &revision.schema, target).await?;
    for step in &first.steps {
        tracing::debug!(change = step.change.word(), what = %step.action, reason = step.reason, "planned");
    }
    reconcile::settle(&api, &revision.schema, target, first, outcome, &|_, _, _| {}).await
}
