//! The provisioner's loop: what the leading redirector knows in, analyzers started and stopped out.
//!
//! Each second the redirector's loop shows what it knows of the fleet ([`Port`]). A listing of what the provisioner runs is
//! asked for, and with both the next step is decided (`kinetic_redirector::scaling`). While the redirector does not
//! lead it shows nothing, and nothing is decided; what runs goes on running.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use kinetic_redirector::fleet::{Demand, Instance, Listing, ScaleAction, ScalingConfig};
use kinetic_redirector::scaling::Scaling;
use kinetic_schema::schema::{Provisioner as Wanted, ProvisionerKind};
use kinetic_wire::{Mono, NodeId, RpcError, Serves};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::adapter::clock;
use crate::adapter::provision::{Launch, Provisioner};
use crate::cli::Provision;
use crate::metrics;
use crate::shell::follow::SchemaWatch;
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Telemetry};

/// Analyzers that wait to be relieved by the redirector's loop.
const RELIEVING_MAX: usize = 16;
/// How long the redirector may take to relieve one; then it is stopped, and drains by itself.
const RELIEVE_TIME: Duration = Duration::from_secs(5);
/// A listing that takes longer has failed.
const LIST_TIME: Duration = Duration::from_secs(15);
/// An analyzer that is drained may take this long to lose its sources.
const DRAIN_TIME: Duration = Duration::from_secs(60);
/// How long steps under way are waited for when this process ends.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// Name of this part on `/metrics` and `/__heartbeat__`.
pub(crate) const PART: &str = "provisioner";

/// The redirector's end: it shows what it knows and relieves whom it is told to.
#[derive(Debug)]
pub(crate) struct Port {
    /// What it knows; `None` while it does not lead.
    pub(crate) demand: watch::Sender<Option<Demand>>,
    /// Analyzers to be given nothing more.
    pub(crate) relieve: mpsc::Receiver<Relieving>,
}

/// An analyzer to be given nothing more, or something again, and where to say whether that worked.
#[derive(Debug)]
pub(crate) struct Relieving {
    /// Which.
    pub(crate) node: NodeId,
    /// It may be given something again.
    pub(crate) undo: bool,
    /// Gets the body of the redirector's answer to `relieve`.
    pub(crate) answer: oneshot::Sender<Vec<u8>>,
}

/// The provisioner's end.
#[derive(Debug)]
pub(crate) struct Fleet {
    demand: watch::Receiver<Option<Demand>>,
    relieve: mpsc::Sender<Relieving>,
}

/// Both ends.
pub(crate) fn channel() -> (Port, Fleet) {
    let (demand_in, demand) = watch::channel(None);
    let (relieve, relieving) = mpsc::channel(RELIEVING_MAX);
    (Port { demand: demand_in, relieve: relieving }, Fleet { demand, relieve })
}

/// What the loop needs.
#[derive(Debug)]
pub(crate) struct Setup {
    /// What the redirector knows.
    pub(crate) fleet: Fleet,
    /// What started analyzers are told.
    pub(crate) launch: Launch,
    /// This process's data directory.
    pub(crate) data_dir: PathBuf,
    /// This node.
    pub(crate) node: NodeId,
    /// What the command line says in place of the schema.
    pub(crate) mode: Option<Provision>,
    /// Schema revisions.
    pub(crate) schema: SchemaWatch,
    /// Where numbers go.
    pub(crate) telemetry: Telemetry,
}

/// What was done, and how often.
pub(crate) type Counts = BTreeMap<(&'static str, &'static str), u64>;

enum Done {
    Acted { generation: u64, action: &'static str, node: NodeId, outcome: Result<(), String> },
    Listed { generation: u64, asked: Mono, outcome: Result<Option<BTreeMap<NodeId, Instance>>, String> },
}

/// The provisioner in use.
struct Active {
    kind: ProvisionerKind,
    provisioner: Arc<Provisioner>,
    /// `None` once the schema has no provisioner any more: what runs is looked after, nothing is decided.
    config: Option<ScalingConfig>,
    /// `None` while the redirector does not lead.
    scaling: Option<Scaling>,
    listing: bool,
    list_due: Mono,
    /// Answers to what was asked of another provisioner before are not for this one.
    generation: u64,
}

struct Shell {
    setup: Setup,
    active: Option<Active>,
    jobs: JoinSet<Done>,
    counts: Counts,
    generations: u64,
    /// What a dry run has said last, and what is held back.
    said: Vec<ScaleAction>,
    held: bool,
    trouble: Option<String>,
}

/// Runs until shutdown.
pub(crate) async fn run(setup: Setup, shutdown: Shutdown) -> Result<()> {
    let (mut schema, mut demand) = (setup.schema.clone(), setup.fleet.demand.clone());
    let mut shell = Shell {
        setup,
        active: None,
        jobs: JoinSet::new(),
        counts: Counts::new(),
        generations: 0,
        said: Vec::new(),
        held: false,
        trouble: None,
    };
    let wanted = schema.borrow_and_update().schema.provisioner.clone();
    shell.configure(wanted.as_ref()).await;
    loop {
        tokio::select! {
            () = shutdown.wait() => break,
            Ok(()) = schema.changed() => {
                let wanted = schema.borrow_and_update().schema.provisioner.clone();
                shell.configure(wanted.as_ref()).await;
            }
            Ok(()) = demand.changed() => {
                demand.mark_unchanged();
                shell.tick();
            }
            Some(done) = shell.jobs.join_next() => shell.done(done?),
        }
    }
    shell.close().await;
    Ok(())
}

impl Shell {
    /// Follows the schema: other bounds for the same provisioner, or another provisioner.
    async fn configure(&mut self, wanted: Option<&Wanted>) {
        let Some(wanted) = wanted else {
            if let Some(active) = &mut self.active
                && active.config.take().is_some()
            {
                tracing::warn!("the schema has no provisioner any more: what it has started goes on running");
                active.scaling = None;
            }
            return self.show();
        };
        if self.active.as_ref().is_none_or(|active| active.kind != wanted.kind) {
            if let Some(former) = self.active.take() {
                tracing::info!(provisioner = former.provisioner.name(), "another provisioner from now on");
                former.provisioner.close().await;
            }
            let provisioner = Provisioner::new(&wanted.kind, self.setup.launch.clone(), &self.setup.data_dir);
            self.generations += 1;
            self.active = Some(Active {
                kind: wanted.kind.clone(),
                provisioner: Arc::new(provisioner),
                config: None,
                scaling: None,
                listing: false,
                list_due: Mono(0),
                generation: self.generations,
            });
        }
        let Some(active) = &mut self.active else { return };
        let config = scaling(wanted, &active.provisioner, &self.setup.node, self.setup.mode);
        if active.config.as_ref() != Some(&config) {
            let (min, max, dry_run) = (config.min, config.max, config.dry_run);
            tracing::info!(
                provisioner = active.provisioner.name(),
                min,
                max,
                dry_run,
                "analyzers are provisioned"
            );
        }
        if let Some(scaling) = &mut active.scaling {
            scaling.reconfigure(config.clone());
        }
        active.config = Some(config);
        self.show();
    }

    /// The redirector has shown what it knows: time to look at what runs.
    fn tick(&mut self) {
        let leads = self.setup.fleet.demand.borrow().is_some();
        let Some(active) = &mut self.active else { return };
        if !leads {
            active.scaling = None;
        }
        let asked = clock::now().mono;
        if active.listing || asked < active.list_due {
            return;
        }
        active.listing = true;
        active.list_due = asked + active.provisioner.list_interval();
        let (provisioner, generation) = (Arc::clone(&active.provisioner), active.generation);
        self.jobs.spawn(async move {
            let outcome = match tokio::time::timeout(LIST_TIME, provisioner.list()).await {
                Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
                Err(_) => Err(format!("no list within {} s", LIST_TIME.as_secs())),
            };
            Done::Listed { generation, asked, outcome }
        });
    }

    fn done(&mut self, done: Done) {
        let now = clock::now().mono;
        let (Done::Acted { generation, .. } | Done::Listed { generation, .. }) = &done;
        let Some(active) = self.active.as_mut().filter(|active| active.generation == *generation) else {
            return;
        };
        match done {
            Done::Acted { action, node, outcome, .. } => {
                let result = if outcome.is_ok() { "done" } else { "failed" };
                *self.counts.entry((action, result)).or_default() += 1;
                match &outcome {
                    Ok(()) => tracing::debug!(%node, action, "done"),
                    // The redirector may lead no more; whoever is stopped drains by itself.
                    Err(error) if action == "drain" => {
                        tracing::info!(%node, error, "not drained before it is stopped")
                    }
                    Err(error) => tracing::warn!(%node, action, error, "the provisioner could not do it"),
                }
                if let Some(scaling) = &mut active.scaling {
                    scaling.done(now, &node, outcome);
                }
                active.list_due = Mono(0);
                self.tick();
            }
            Done::Listed { asked, outcome, .. } => {
                active.listing = false;
                match outcome {
                    Ok(instances) => {
                        self.trouble = None;
                        self.decide(now, instances.map(|instances| Listing { asked, instances }));
                    }
                    Err(error) => {
                        *self.counts.entry(("list", "failed")).or_default() += 1;
                        if self.trouble.is_none() {
                            tracing::warn!(
                                error,
                                "the provisioner does not say what runs: nothing is decided"
                            );
                        }
                        self.trouble = Some(error);
                    }
                }
            }
        }
        self.show();
    }

    fn decide(&mut self, now: Mono, listing: Option<Listing>) {
        let Some(active) = &mut self.active else { return };
        let Some(mut demand) = self.setup.fleet.demand.borrow().clone() else { return };
        let Some(config) = active.config.clone() else { return };
        demand.listing = listing;
        let dry_run = config.dry_run;
        let scaling = active.scaling.get_or_insert_with(|| Scaling::new(config));
        let actions = scaling.decide(now, &demand);
        let held = scaling.status().held;
        if let Some(held) = held.as_ref().filter(|_| !self.held) {
            tracing::info!(held, "no analyzer is started for now");
        }
        self.held = held.is_some();
        if dry_run {
            self.say(actions);
        } else {
            actions.into_iter().for_each(|action| self.perform(action));
        }
    }

    /// A dry run says each decision once, not each second that it stands.
    fn say(&mut self, actions: Vec<ScaleAction>) {
        let names = |actions: &[ScaleAction]| -> Vec<(&'static str, NodeId)> {
            actions.iter().map(|action| (words(action).0, words(action).1.clone())).collect()
        };
        if names(&actions) != names(&self.said) {
            for action in &actions {
                let (name, node, why) = words(action);
                *self.counts.entry((name, "planned")).or_default() += 1;
                tracing::info!(action = name, %node, why, "dry run: this would be done");
            }
            self.said = actions;
        }
    }

    fn perform(&mut self, action: ScaleAction) {
        let Some(active) = &self.active else { return };
        let (provisioner, generation) = (Arc::clone(&active.provisioner), active.generation);
        let relieve = self.setup.fleet.relieve.clone();
        let (name, node, why) = words(&action);
        tracing::info!(action = name, %node, why, provisioner = provisioner.name(), "provisioning");
        let node = node.clone();
        self.jobs.spawn(async move {
            let outcome = match &action {
                ScaleAction::Start { .. } => {
                    // One of that name may have been drained before, and the redirector remembers names. It refuses
                    // where there is nothing to take back.
                    let undone = relieved(relieve, node.clone(), true).await;
                    tracing::debug!(%node, ?undone, "may be given sources");
                    provisioner.start(&node).await.map_err(|error| format!("{error:#}"))
                }
                ScaleAction::Stop { .. } => {
                    provisioner.stop(&node).await.map_err(|error| format!("{error:#}"))
                }
                ScaleAction::Drain { .. } => relieved(relieve, node.clone(), false).await,
            };
            Done::Acted { generation, action: words(&action).0, node, outcome }
        });
    }

    /// Numbers and health as they are now.
    fn show(&self) {
        let Some(active) = &self.active else { return };
        let status = active.scaling.as_ref().map(Scaling::status).unwrap_or_default();
        let health = match (&self.trouble, &status.held) {
            (Some(trouble), _) => Health::Failing(trouble.clone()),
            (None, Some(_)) if status.failures > 1 => {
                Health::Failing(format!("analyzers cannot be started: {} attempts in a row", status.failures))
            }
            (None, _) => Health::Ok,
        };
        self.setup.telemetry.health(PART, health, clock::now().wall);
        self.setup.telemetry.show(PART, metrics::provision(&status, &self.counts, active.scaling.is_some()));
    }

    async fn close(mut self) {
        let waited = async { while self.jobs.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_TIME, waited).await.is_err() {
            self.jobs.shutdown().await;
        }
        if let Some(active) = self.active {
            active.provisioner.close().await;
        }
    }
}

/// Has the redirector give a node nothing more, or something again.
async fn relieved(relieve: mpsc::Sender<Relieving>, node: NodeId, undo: bool) -> Result<(), String> {
    let (answer, answered) = oneshot::channel();
    let asked = async {
        relieve.send(Relieving { node, undo, answer }).await.ok()?;
        answered.await.ok()
    };
    match tokio::time::timeout(RELIEVE_TIME, asked).await {
        Ok(Some(body)) => match kinetic_wire::decode::<RpcError>(&body) {
            Ok(refused) if !refused.ok => Err(format!("the redirector refused: {}", refused.message)),
            _ => Ok(()),
        },
        Ok(None) => Err("the redirector ends".to_owned()),
        Err(_) => Err("the redirector does not answer".to_owned()),
    }
}

fn words(action: &ScaleAction) -> (&'static str, &NodeId, &str) {
    match action {
        ScaleAction::Start { node, why } => ("start", node, why),
        ScaleAction::Drain { node, why } => ("drain", node, why),
        ScaleAction::Stop { node, why } => ("stop", node, why),
    }
}

/// What the schema says, in the terms of the decisions.
fn scaling(
    wanted: &Wanted,
    provisioner: &Provisioner,
    node: &NodeId,
    mode: Option<Provision>,
) -> ScalingConfig {
    let count = |count: u32| usize::try_from(count).expect("usize has 32 bits at least");
    ScalingConfig {
        prefix: provisioner.prefix(node),
        serves: Serves::default(),
        min: count(wanted.min),
        max: count(wanted.max),
        scale_up_after: wanted.scale_up_after,
        idle_after: wanted.idle_after,
        cool_down: wanted.cool_down,
        load_high: wanted.load_high,
        load_low: wanted.load_low,
        boot_timeout: provisioner.boot_timeout(),
        drain_timeout: DRAIN_TIME,
        dry_run: mode.map_or(wanted.dry_run, |mode| mode == Provision::DryRun),
    }
}
