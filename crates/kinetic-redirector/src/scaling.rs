//! How many analyzers there should be, and which step comes next. Whoever leads decides here; a provisioner does.
//!
//! ```text
//!           Start            registered             drained of sources         gone
//!  (nothing) ───▶ starting ───────────▶ serving ───▶ draining ───────▶ stopping ───▶ (nothing)
//!                     │ failed            │  ▲ lease                      ▲
//!                     │           no lease▼  │ again                      │
//!                     │                 silent                            │ Stop: tidies up after it, too
//!                     └─────────────────┴─── ended, or too long ──────────┘
//! ```
//! Nothing here is stored: a new leader finds what runs in the provisioner's list and in the fleet, and adopts it. Only
//! nodes that the provisioner lists, or whose names begin with its prefix, are ever drained or stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_wire::{Incarnation, Mono, NodeId};

use crate::capacity::{self, Spare};
use crate::fleet::{Demand, Instance, Listing, Member, ScaleAction, ScalingConfig, Status};

/// Whoever has served for so long before it ended is replaced at once, and earlier failures are forgotten.
pub const STABLE_AFTER: Duration = Duration::from_secs(60);
/// The fleet is smaller than `min` for so long before that is made good: whoever is restarted has the time to say so.
pub const SHORTAGE_AFTER: Duration = Duration::from_secs(5);
/// Pause after the first failed start; doubles with each further one.
pub const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest pause after failed starts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A node that was to be stopped and still runs is stopped again after this.
pub const STOP_AGAIN_AFTER: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Silent,
    Draining,
    /// `asked`: a `Stop` was said.
    Stopping {
        asked: bool,
    },
}

/// A provisioned node.
#[derive(Clone, Debug)]
struct Node {
    phase: Phase,
    /// When the phase began.
    since: Mono,
    /// When the provisioner said that it has done what it was told last.
    done: Option<Mono>,
    /// Last process of that name that had a lease; while starting, one that is not meant.
    inc: Option<Incarnation>,
    /// Why the phase began.
    why: String,
}

impl Node {
    fn new(phase: Phase, since: Mono, why: impl Into<String>) -> Self {
        Self { phase, since, done: None, inc: None, why: why.into() }
    }

    fn turn(&mut self, phase: Phase, now: Mono, why: impl Into<String>) {
        (self.phase, self.since, self.done, self.why) = (phase, now, None, why.into());
    }

    /// From when on a listing can be believed: the provisioner has done what it was told, or was told nothing.
    fn settled(&self) -> Option<Mono> {
        match self.phase {
            Phase::Starting | Phase::Stopping { .. } => self.done,
            Phase::Serving | Phase::Silent | Phase::Draining => Some(self.since),
        }
    }

    fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Serving | Phase::Silent)
    }
}

/// The decisions of one leadership.
#[derive(Clone, Debug)]
pub struct Scaling {
    config: ScalingConfig,
    nodes: BTreeMap<NodeId, Node>,
    /// Processes that were stopped, until their leases have ended too.
    gone: BTreeMap<NodeId, Incarnation>,
    /// Provisioned nodes that there should be.
    wanted: usize,
    /// Why the next one is started.
    why: String,
    shortage_since: Option<Mono>,
    need_since: Option<Mono>,
    idle_since: Option<Mono>,
    surplus_since: Option<Mono>,
    /// No decision to grow or to shrink before.
    quiet_until: Mono,
    /// No start before.
    retry_at: Mono,
    failures: u32,
    failed: u64,
    held: Option<String>,
}

impl Scaling {
    /// Knows of nothing yet.
    #[must_use]
    pub fn new(config: ScalingConfig) -> Self {
        Self {
            config,
            nodes: BTreeMap::new(),
            gone: BTreeMap::new(),
            wanted: 0,
            why: "it ran under an earlier leader".to_owned(),
            shortage_since: None,
            need_since: None,
            idle_since: None,
            surplus_since: None,
            quiet_until: Mono(0),
            retry_at: Mono(0),
            failures: 0,
            failed: 0,
            held: None,
        }
    }

    /// Other bounds from now on; what is known of the nodes stays.
    pub fn reconfigure(&mut self, config: ScalingConfig) {
        self.config = config;
    }

    /// What is to be done now: any number of stops, and at most one step that makes the fleet larger or smaller.
    pub fn decide(&mut self, now: Mono, demand: &Demand) -> Vec<ScaleAction> {
        self.adopt(now, demand);
        self.follow(now, demand);
        self.watch(now, demand);
        if self.config.dry_run {
            // The clock of each reason runs on; what would be done is not taken as done.
            let mut trial = self.clone();
            let actions = trial.act(now, demand);
            self.held = trial.held;
            return actions;
        }
        self.act(now, demand)
    }

    /// The provisioner has done what it was told last about a node, or could not. `Drain` counts as told, too: where it
    /// failed, the node is stopped with what it owns.
    pub fn done(&mut self, now: Mono, node: &NodeId, outcome: Result<(), String>) {
        let Some(known) = self.nodes.get_mut(node) else { return };
        match (known.phase, outcome) {
            (Phase::Draining, Err(why)) => known.turn(Phase::Stopping { asked: false }, now, why),
            (Phase::Starting, Err(why)) => {
                known.turn(Phase::Stopping { asked: false }, now, format!("could not be started: {why}"));
                self.count_failure(now);
            }
            (_, Ok(())) => known.done = Some(now),
            // Stopped again later; until then it counts as there.
            (_, Err(_)) => {}
        }
    }

    /// How things stand.
    #[must_use]
    pub fn status(&self) -> Status {
        let count = |phase: fn(&Phase) -> bool| self.nodes.values().filter(|node| phase(&node.phase)).count();
        Status {
            wanted: self.wanted,
            running: count(|phase| matches!(phase, Phase::Serving | Phase::Silent)),
            starting: count(|phase| matches!(phase, Phase::Starting)),
            draining: count(|phase| matches!(phase, Phase::Draining)),
            stopping: count(|phase| matches!(phase, Phase::Stopping { .. })),
            failures: self.failures,
            failed: self.failed,
            held: self.held.clone(),
        }
    }

    /// Takes over what runs and is not known: an earlier leader has started it.
    fn adopt(&mut self, now: Mono, demand: &Demand) {
        let ours = |node: &NodeId| {
            self.config.prefix.len() < node.as_str().len() && node.as_str().starts_with(&self.config.prefix)
        };
        self.gone.retain(|node, inc| {
            demand.analyzers.iter().any(|member| member.node == *node && member.inc == *inc)
        });
        for member in demand.analyzers.iter().filter(|member| ours(&member.node)) {
            if !self.nodes.contains_key(&member.node) && !self.gone.contains_key(&member.node) {
                // One that is on its way out was being retired: that is brought to its end.
                let phase = if member.draining { Phase::Draining } else { Phase::Serving };
                let mut node = Node::new(phase, now, "adopted");
                node.inc = Some(member.inc);
                self.nodes.insert(member.node.clone(), node);
                self.wanted += usize::from(!member.draining);
            }
        }
        for (name, instance) in demand.listing.iter().flat_map(|listing| &listing.instances) {
            if self.nodes.contains_key(name) {
                continue;
            }
            let node = match instance {
                Instance::Running => {
                    self.wanted += 1;
                    Node { done: Some(now), ..Node::new(Phase::Starting, now, "adopted") }
                }
                Instance::Ending => {
                    Node { done: Some(now), ..Node::new(Phase::Stopping { asked: true }, now, "ends") }
                }
                Instance::Ended(why) => {
                    Node::new(Phase::Stopping { asked: false }, now, format!("has ended: {why}"))
                }
            };
            self.nodes.insert(name.clone(), node);
        }
    }

    /// Brings each node's phase up to date.
    fn follow(&mut self, now: Mono, demand: &Demand) {
        let members: BTreeMap<&NodeId, &Member> =
            demand.analyzers.iter().map(|member| (&member.node, member)).collect();
        let names: Vec<NodeId> = self.nodes.keys().cloned().collect();
        for name in names {
            let member = members.get(&name).copied();
            let seen = self.nodes.get(&name).map(|node| Seen::of(&name, node, demand.listing.as_ref()));
            let (Some(node), Some(seen)) = (self.nodes.get_mut(&name), seen) else { continue };
            let age = now.since(node.since);
            let member =
                member.filter(|member| node.phase != Phase::Starting || node.inc != Some(member.inc));
            match node.phase {
                Phase::Starting if member.is_some() => {
                    node.inc = member.map(|member| member.inc);
                    node.turn(Phase::Serving, now, "registered");
                    // The newcomer has to take its share before load says anything again.
                    (self.need_since, self.quiet_until) = (None, now + self.config.cool_down);
                }
                Phase::Starting => {
                    if let Some(why) =
                        seen.ended().or_else(|| too_long(age, self.config.boot_timeout, "register"))
                    {
                        node.turn(Phase::Stopping { asked: false }, now, why);
                        self.count_failure(now);
                    }
                }
                Phase::Serving | Phase::Silent => {
                    let silent = node.phase == Phase::Silent;
                    let timeout =
                        || too_long(age, self.config.boot_timeout, "renew its lease").filter(|_| silent);
                    if let Some(why) = seen.ended().or_else(|| timeout().filter(|_| member.is_none())) {
                        let served = if silent { Duration::ZERO } else { age };
                        self.why = format!("{name} {why}");
                        node.turn(Phase::Stopping { asked: false }, now, why);
                        self.lost(now, served);
                    } else if let Some(member) = member {
                        node.inc = Some(member.inc);
                        if silent {
                            node.turn(Phase::Serving, now, "has a lease again");
                        }
                    } else if !silent {
                        node.turn(Phase::Silent, now, "lost its lease");
                    }
                }
                Phase::Draining => {
                    let empty = member.is_none_or(|member| member.owned == 0);
                    if empty || seen.ended().is_some() || age >= self.config.drain_timeout {
                        let why = if empty {
                            "owns nothing any more"
                        } else {
                            "still owns sources, but its time is up"
                        };
                        node.turn(Phase::Stopping { asked: false }, now, why);
                    }
                }
                Phase::Stopping { asked: true } if node.done.is_some() && seen.gone() => {
                    if let Some(inc) = node.inc {
                        self.gone.insert(name.clone(), inc);
                    }
                    self.nodes.remove(&name);
                }
                Phase::Stopping { asked: true } if age >= STOP_AGAIN_AFTER => {
                    node.turn(Phase::Stopping { asked: false }, now, "was to be stopped and still runs");
                }
                Phase::Stopping { .. } => {}
            }
        }
    }

    fn count_failure(&mut self, now: Mono) {
        self.failed += 1;
        self.failures = self.failures.saturating_add(1);
        let doublings = (self.failures - 1).min(16);
        self.retry_at = now + (BACKOFF_MIN * (1 << doublings)).min(BACKOFF_MAX);
    }

    fn lost(&mut self, now: Mono, served: Duration) {
        if served >= STABLE_AFTER {
            (self.failures, self.retry_at) = (0, now);
        } else {
            self.count_failure(now);
        }
    }

    /// Keeps count of how long each reason to do something has stood.
    fn watch(&mut self, now: Mono, demand: &Demand) {
        let held = |since: &mut Option<Mono>, holds: bool| {
            *since = holds.then(|| since.unwrap_or(now));
        };
        let short = self.others(demand) + self.live() < self.config.min;
        held(&mut self.shortage_since, short);
        let need = capacity::need(demand, &self.config).is_some();
        held(&mut self.need_since, need);
        let idle = self.spare(demand).is_some();
        held(&mut self.idle_since, idle && !need);
        let surplus = self.others_existing(demand) + self.live() > self.config.max;
        held(&mut self.surplus_since, surplus);
        if self.failures > 0
            && self
                .nodes
                .values()
                .any(|node| node.phase == Phase::Serving && now.since(node.since) >= STABLE_AFTER)
        {
            self.failures = 0;
        }
    }

    fn act(&mut self, now: Mono, demand: &Demand) -> Vec<ScaleAction> {
        let mut actions = Vec::new();
        for (name, node) in &mut self.nodes {
            if node.phase == (Phase::Stopping { asked: false }) {
                node.phase = Phase::Stopping { asked: true };
                actions.push(ScaleAction::Stop { node: name.clone(), why: node.why.clone() });
            }
        }
        self.held = None;
        self.grow(now, demand);
        let step = match self.start(now, demand) {
            Some(start) => Some(start),
            None => self.shrink(now, demand),
        };
        actions.extend(step);
        actions
    }

    /// Raises what is wanted, where there is a reason that has stood for long enough.
    fn grow(&mut self, now: Mono, demand: &Demand) {
        let others = self.others(demand);
        let stood = |since: Option<Mono>, wait: Duration| since.is_some_and(|since| now.since(since) >= wait);
        if stood(self.shortage_since, SHORTAGE_AFTER.min(self.config.scale_up_after))
            && others + self.wanted < self.config.min
        {
            self.why = format!("fewer than {} analyzers run", self.config.min);
            self.wanted = self.config.min - others;
        }
        if self.wanted > self.live() || !stood(self.need_since, self.config.scale_up_after) {
            return;
        }
        let Some(need) = capacity::need(demand, &self.config) else { return };
        if self.others_existing(demand) + self.nodes.len() >= self.config.max {
            self.held = Some(format!("another analyzer is wanted, but `max` is {}: {need}", self.config.max));
        } else if now < self.quiet_until {
            self.held = Some(format!("another analyzer is wanted after the cool-down: {need}"));
        } else {
            self.wanted += 1;
            self.why = need;
        }
    }

    /// Starts one that is wanted: one at a time, never beyond `max`, not before the pause after a failure has passed.
    fn start(&mut self, now: Mono, demand: &Demand) -> Option<ScaleAction> {
        if self.live() >= self.wanted || self.nodes.values().any(|node| node.phase == Phase::Starting) {
            return None;
        }
        if self.others_existing(demand) + self.nodes.len() >= self.config.max {
            self.held.get_or_insert_with(|| {
                format!("another analyzer is wanted, but `max` is {}", self.config.max)
            });
            return None;
        }
        if now < self.retry_at {
            let pause = self.retry_at.since(now).as_secs_f64().ceil();
            self.held = Some(format!("the next start waits for {pause} s: {}", self.why));
            return None;
        }
        let name = (1..).map(|number| NodeId::new(&format!("{}{number}", self.config.prefix)));
        let name = name
            .into_iter()
            .find(|name| !self.nodes.contains_key(name))
            .expect("there is a number above any");
        let mut node = Node::new(Phase::Starting, now, self.why.clone());
        // The lease of an earlier process of that name may still stand.
        node.inc = demand.analyzers.iter().find(|member| member.node == name).map(|member| member.inc);
        self.gone.remove(&name);
        self.quiet_until = now + self.config.cool_down;
        let why = match self.failures {
            0 => self.why.clone(),
            failures => format!("{}; failed before, times in a row: {failures}", self.why),
        };
        self.nodes.insert(name.clone(), node);
        Some(ScaleAction::Start { node: name, why })
    }

    /// Retires one of ours: there are more than `max`, or the others could have carried the load for long enough.
    fn shrink(&mut self, now: Mono, demand: &Demand) -> Option<ScaleAction> {
        if now < self.quiet_until || self.nodes.values().any(|node| node.phase != Phase::Serving) {
            return None;
        }
        let surplus = self.surplus_since.is_some();
        let idle = self.idle_since.is_some_and(|since| now.since(since) >= self.config.idle_after);
        if idle && self.wanted > self.live() {
            // What could not be started is not missed.
            self.wanted = self.live();
            return None;
        }
        let (node, why) = if surplus {
            let count = self.others_existing(demand) + self.live();
            let why = format!("{count} analyzers run and `max` is {}", self.config.max);
            (self.emptiest(demand)?, why)
        } else if idle {
            let Spare { node, why } = self.spare(demand)?;
            (node, why)
        } else {
            return None;
        };
        self.wanted = self.live() - 1;
        self.idle_since = None;
        self.quiet_until = now + self.config.cool_down;
        self.nodes.get_mut(&node)?.turn(Phase::Draining, now, why.clone());
        Some(ScaleAction::Drain { node, why })
    }

    /// The one to retire and why, if one fewer would do.
    fn spare(&self, demand: &Demand) -> Option<Spare> {
        if self.others(demand) + self.live() <= self.config.min {
            return None;
        }
        capacity::spare(demand, &self.config, &self.emptiest(demand)?)
    }

    /// The one of ours that serves the least.
    fn emptiest(&self, demand: &Demand) -> Option<NodeId> {
        let serving = |member: &&Member| {
            !member.draining && self.nodes.get(&member.node).is_some_and(|node| node.phase == Phase::Serving)
        };
        let emptiest = demand.analyzers.iter().filter(serving).min_by(|a, b| {
            a.owned.cmp(&b.owned).then(a.load.total_cmp(&b.load)).then_with(|| b.node.cmp(&a.node))
        });
        emptiest.map(|member| member.node.clone())
    }

    fn live(&self) -> usize {
        self.nodes.values().filter(|node| node.is_live()).count()
    }

    /// Analyzers that somebody else started and that stay.
    fn others(&self, demand: &Demand) -> usize {
        self.not_ours(demand).filter(|member| !member.draining).count()
    }

    /// All that somebody else started.
    fn others_existing(&self, demand: &Demand) -> usize {
        self.not_ours(demand).count()
    }

    fn not_ours<'a>(&'a self, demand: &'a Demand) -> impl Iterator<Item = &'a Member> {
        let ours = |node| self.nodes.contains_key(node) || self.gone.contains_key(node);
        demand.analyzers.iter().filter(move |member| !ours(&member.node))
    }
}

/// What a listing says of a node, if it is recent enough to say anything.
enum Seen<'a> {
    /// Nobody was asked since.
    Unknown,
    /// The provisioner cannot tell.
    Untold,
    Listed(&'a Instance),
    Absent,
}

impl<'a> Seen<'a> {
    fn of(name: &NodeId, node: &Node, listing: Option<&'a Listing>) -> Self {
        match listing {
            None => Self::Untold,
            // What was asked for before the last step had been taken says nothing of it.
            Some(listing) if node.settled().is_none_or(|settled| listing.asked < settled) => Self::Unknown,
            Some(listing) => listing.instances.get(name).map_or(Self::Absent, Self::Listed),
        }
    }

    /// Why it does not run, if it should and does not.
    fn ended(&self) -> Option<String> {
        match self {
            Self::Listed(Instance::Ended(why)) => Some(format!("has ended: {why}")),
            Self::Listed(Instance::Ending) => Some("was told to end by somebody else".to_owned()),
            Self::Absent => Some("is gone without a trace".to_owned()),
            Self::Listed(Instance::Running) | Self::Unknown | Self::Untold => None,
        }
    }

    fn gone(&self) -> bool {
        matches!(self, Self::Absent | Self::Untold)
    }
}

fn too_long(age: Duration, timeout: Duration, what: &str) -> Option<String> {
    (age >= timeout).then(|| format!("did not {what} within {} s", timeout.as_secs_f64()))
}
