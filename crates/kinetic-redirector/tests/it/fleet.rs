//! A fleet in virtual time: machines that boot, die, fill up and drain as a provisioner and a redirector would show
//! them to the decisions about its size.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_redirector::fleet::{
    Demand, Instance, Listing, Member, ScaleAction, ScalingConfig, Status, Unplaced,
};
use kinetic_redirector::scaling::Scaling;
use kinetic_wire::{DataType, Incarnation, Mono, NodeId, Serves};
use uuid::Uuid;

pub(crate) const TICK: Duration = Duration::from_secs(1);
/// How long a lease outlives its process.
const LEASE: Duration = Duration::from_secs(20);
/// How long sources take to leave a draining node.
const DRAINING: Duration = Duration::from_secs(3);
/// How long a stopped process takes to end.
const ENDING: Duration = Duration::from_secs(2);

pub(crate) fn config() -> ScalingConfig {
    ScalingConfig {
        prefix: "auto-".to_owned(),
        serves: Serves::default(),
        min: 0,
        max: 4,
        scale_up_after: Duration::from_secs(60),
        idle_after: Duration::from_secs(600),
        cool_down: Duration::from_secs(120),
        load_high: 0.8,
        load_low: 0.3,
        boot_timeout: Duration::from_secs(30),
        drain_timeout: Duration::from_secs(60),
        dry_run: false,
    }
}

/// How the next started process fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boot {
    /// Registers after so many seconds.
    After(u64),
    /// Cannot be started.
    Refused,
    /// Starts, and ends at once.
    Dies,
    /// Starts, and never registers.
    Hangs,
}

#[derive(Clone, Debug)]
struct Process {
    inc: Incarnation,
    /// When it registers.
    registers: Option<Mono>,
    /// `None` while it runs.
    ended: Option<String>,
    /// It was told to end, and has then.
    ends: Option<Mono>,
}

#[derive(Clone, Debug)]
struct Lease {
    inc: Incarnation,
    lapses: Mono,
    draining: Option<Mono>,
    serves: Serves,
}

/// The world around [`Scaling`].
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) now: Mono,
    pub(crate) scaling: Scaling,
    pub(crate) config: ScalingConfig,
    /// What there is to do, in nodes of load 1.
    pub(crate) work: f64,
    pub(crate) boot: Boot,
    /// Whether the provisioner can list.
    pub(crate) lists: bool,
    /// How often it is asked to.
    pub(crate) list_interval: Duration,
    listing: Listing,
    /// All that was decided: when, and what.
    pub(crate) log: Vec<(Mono, ScaleAction)>,
    processes: BTreeMap<NodeId, Process>,
    leases: BTreeMap<NodeId, Lease>,
    /// Names that somebody else started.
    pub(crate) manual: Vec<NodeId>,
    incs: u128,
    pub(crate) unplaced: Vec<Unplaced>,
}

impl Fleet {
    pub(crate) fn new(config: ScalingConfig) -> Self {
        Self {
            now: Mono(1_000_000_000),
            scaling: Scaling::new(config.clone()),
            config,
            work: 0.0,
            boot: Boot::After(2),
            lists: true,
            list_interval: TICK,
            listing: Listing::default(),
            log: Vec::new(),
            processes: BTreeMap::new(),
            leases: BTreeMap::new(),
            manual: Vec::new(),
            incs: 0,
            unplaced: Vec::new(),
        }
    }

    fn inc(&mut self) -> Incarnation {
        self.incs += 1;
        Incarnation(Uuid::from_u128(self.incs))
    }

    /// Somebody starts an analyzer by hand.
    pub(crate) fn join(&mut self, name: &str, serves: Serves) {
        let inc = self.inc();
        self.manual.push(name.into());
        self.leases.insert(name.into(), Lease { inc, lapses: Mono(u64::MAX), draining: None, serves });
    }

    /// And stops it.
    pub(crate) fn leave(&mut self, name: &str) {
        self.manual.retain(|node| node.as_str() != name);
        self.leases.remove(&NodeId::new(name));
    }

    /// A process ends by itself; its lease stands for a while.
    pub(crate) fn kill(&mut self, name: &NodeId) {
        if let Some(process) = self.processes.get_mut(name) {
            process.ended.get_or_insert_with(|| "signal 9".to_owned());
            process.registers = None;
        }
    }

    /// A process runs on, and is not heard of any more.
    pub(crate) fn hang(&mut self, name: &NodeId) {
        if let Some(process) = self.processes.get_mut(name) {
            process.registers = None;
        }
    }

    /// Provisioned nodes that run or may run.
    pub(crate) fn provisioned(&self) -> Vec<NodeId> {
        self.processes.keys().cloned().collect()
    }

    /// Analyzers that could serve now.
    pub(crate) fn serving(&self) -> usize {
        self.leases.values().filter(|lease| lease.draining.is_none()).count()
    }

    /// Another redirector leads from now on.
    pub(crate) fn new_leader(&mut self) {
        self.scaling = Scaling::new(self.config.clone());
    }

    pub(crate) fn configure(&mut self, config: ScalingConfig) {
        self.config = config.clone();
        self.scaling.reconfigure(config);
    }

    pub(crate) fn status(&self) -> Status {
        self.scaling.status()
    }

    fn pass(&mut self) {
        self.now = self.now + TICK;
        let now = self.now;
        for (name, process) in &mut self.processes {
            if process.ended.is_none() && process.registers.is_some_and(|at| at <= now) {
                let lease = Lease {
                    inc: process.inc,
                    lapses: Mono(0),
                    draining: None,
                    serves: self.config.serves.clone(),
                };
                let lease = self
                    .leases
                    .entry(name.clone())
                    .and_modify(|old| {
                        if old.inc != process.inc {
                            *old = lease.clone()
                        }
                    })
                    .or_insert(lease);
                lease.lapses = now + LEASE;
            }
        }
        let stopped: Vec<NodeId> = self
            .processes
            .iter()
            .filter(|(_, process)| process.ends.is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in stopped {
            // It said goodbye.
            self.processes.remove(&name);
            self.leases.remove(&name);
        }
        self.leases.retain(|_, lease| lease.lapses > now);
    }

    pub(crate) fn demand(&self) -> Demand {
        let serving = self.serving().max(1);
        let member = |(node, lease): (&NodeId, &Lease)| {
            let drained = lease.draining.is_some_and(|since| self.now.since(since) >= DRAINING);
            Member {
                node: node.clone(),
                inc: lease.inc,
                serves: lease.serves.clone(),
                capacity: 100,
                load: if lease.draining.is_some() { 0.0 } else { (self.work / serving as f64).min(1.0) },
                owned: if drained { 0 } else { 5 },
                draining: lease.draining.is_some(),
            }
        };
        let mut unplaced = self.unplaced.clone();
        if self.serving() == 0 && self.work > 0.0 {
            unplaced.push(Unplaced {
                region: "eu".into(),
                data_type: DataType::Statsd,
                fits: true,
                sources: 5,
            });
        }
        Demand {
            analyzers: self.leases.iter().map(member).collect(),
            unplaced,
            listing: self.lists.then(|| self.listing.clone()),
        }
    }

    fn list(&mut self) {
        let instance = |(node, process): (&NodeId, &Process)| {
            let instance = match (&process.ended, process.ends) {
                (Some(why), _) => Instance::Ended(why.clone()),
                (None, Some(_)) => Instance::Ending,
                (None, None) => Instance::Running,
            };
            (node.clone(), instance)
        };
        let instances = self.processes.iter().map(instance).collect();
        self.listing = Listing { asked: self.now, instances };
    }

    /// One second: time passes, a decision is made and carried out.
    pub(crate) fn step(&mut self) -> Vec<ScaleAction> {
        self.pass();
        if self.now.since(self.listing.asked) >= self.list_interval {
            self.list();
        }
        let demand = self.demand();
        let actions = self.scaling.decide(self.now, &demand);
        for action in &actions {
            self.log.push((self.now, action.clone()));
            if !self.config.dry_run {
                self.perform(action);
            }
        }
        actions
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn perform(&mut self, action: &ScaleAction) {
        // Whatever is done takes a moment, so that it is not in a listing asked for in the same instant.
        let done = self.now + Duration::from_millis(1);
        match action {
            ScaleAction::Start { node, .. } => {
                let (registers, ended) = match self.boot {
                    Boot::Refused => return self.scaling.done(done, node, Err("no room".to_owned())),
                    Boot::After(seconds) => (Some(self.now + Duration::from_secs(seconds)), None),
                    Boot::Dies => (None, Some("exit code 78".to_owned())),
                    Boot::Hangs => (None, None),
                };
                let process = Process { inc: self.inc(), registers, ended, ends: None };
                let before = self.processes.insert(node.clone(), process);
                assert!(before.is_none(), "{node} was started twice");
                self.scaling.done(done, node, Ok(()));
            }
            ScaleAction::Drain { node, .. } => {
                let lease = self.leases.get_mut(node).expect("who is drained has a lease");
                lease.draining = Some(self.now);
                self.scaling.done(done, node, Ok(()));
            }
            ScaleAction::Stop { node, .. } => {
                if let Some(process) = self.processes.get_mut(node) {
                    process.ends.get_or_insert(self.now + ENDING);
                    if process.ended.is_some() {
                        self.processes.remove(node);
                    }
                }
                self.scaling.done(done, node, Ok(()));
            }
        }
    }

    /// The decisions so far, one a line: seconds, what, whom, why.
    pub(crate) fn story(&self) -> String {
        let line = |(at, action): &(Mono, ScaleAction)| {
            let (what, node, why) = match action {
                ScaleAction::Start { node, why } => ("start", node, why),
                ScaleAction::Drain { node, why } => ("drain", node, why),
                ScaleAction::Stop { node, why } => ("stop", node, why),
            };
            format!("{} {what} {node}: {why}", at.since(Mono(1_000_000_000)).as_secs())
        };
        self.log.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
