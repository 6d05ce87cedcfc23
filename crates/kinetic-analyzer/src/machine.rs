//! The analyzer machine: control protocol, subscriptions, windows and settlement, told what happens and answering
//! with effects.

mod doors;
mod evacuation;
mod ownership;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::Schema;
use kinetic_wire::{
    AlertEvent, AlertId, Breach, Envelope, Epoch, Grant, Hold, Incarnation, Listening, Mono, NodeId, Now,
    RegionName, Serves, SourceKey, Token,
};

pub use self::doors::{Effect, Input};
pub use self::ownership::PROBE_TIMEOUT;
use crate::breach::{Breaches, Watch};
use crate::carrier::Carrier;
use crate::lease::Lease;
use crate::minutes::Minutes;
use crate::source::{Shared, Source};
use crate::stats::{CustomerStats, Rejects, Stats};

/// How this analyzer runs.
#[derive(Clone, Debug)]
pub struct AnalyzerConfig {
    /// Operator's name of the node.
    pub node: NodeId,
    /// This start of it.
    pub inc: Incarnation,
    /// What it can serve.
    pub serves: Serves,
    /// Relative capacity, 100 for an ordinary node.
    pub capacity: u32,
    /// Failure domain that it is in, as its operator named it.
    pub zone: Option<String>,
    /// Deliveries held unsettled per source before the oldest are acknowledged early (counted). The shell's prefetch
    /// must be larger, or the broker stops delivering first and windows wait for the wall clock to close them.
    pub held_max: usize,
    /// Series per customer; a sample of one more is dropped (counted), even where the customer's own limit allows it.
    pub series_max: usize,
    /// Series of all customers. From then on no customer that has its share of them or more may have another.
    pub series_total_max: usize,
    /// Seed of the jitter.
    pub seed: u64,
}

/// A schema revision, as the redirector is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// The commit; empty where there is none.
    pub id: String,
    /// Commits up to and with it: a later revision of one history has more. 0 where that is not known.
    pub generation: u64,
}

impl From<&str> for Revision {
    fn from(id: &str) -> Self {
        id.to_owned().into()
    }
}

impl From<String> for Revision {
    fn from(id: String) -> Self {
        Self { id, generation: 0 }
    }
}

/// A subscription, named by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// A request to the redirector, named by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One delivery of a source's queue, borrowed from the client library.
#[derive(Clone, Debug)]
pub struct Delivery<'a> {
    /// The subscription it came on.
    pub slot: Slot,
    /// Its handle for settlement; grows by one per delivery of the slot.
    pub token: Token,
    /// The broker has delivered it before.
    pub redelivered: bool,
    /// Exchange it was first published to.
    pub exchange: &'a str,
    /// Its routing key.
    pub routing_key: &'a str,
    /// Its properties.
    pub envelope: Envelope<'a>,
    /// Its body.
    pub body: &'a [u8],
}

/// Longest time that leaving may take; then the shell may end whatever is still open.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// How far leaving has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// `drain` is asked.
    Draining,
    /// Waiting for confirms of alert events and snapshots.
    Confirming,
    /// Waiting until nothing is delivered any more.
    Unsubscribing,
    /// `goodbye` is asked.
    Leaving,
    Stopped,
}

/// The analyzer.
#[derive(Debug)]
pub struct Analyzer {
    config: AnalyzerConfig,
    schema: Arc<Schema>,
    revision: Revision,
    lease: Lease,
    /// It holds the message of its witness queue.
    has_witness: bool,
    /// Since when alert events are held back, because the witness was lost and nobody has answered since.
    muted: Option<Mono>,
    /// Those.
    withheld: Vec<AlertEvent>,
    sources: BTreeMap<Slot, Source>,
    /// Granted, but not known to the schema yet.
    waiting: BTreeMap<SourceKey, Grant>,
    /// Granted under an epoch that a later owner's snapshot exceeds, with that: such a grant is not taken up.
    outdated: BTreeMap<SourceKey, Epoch>,
    /// Granted, and elsewhere already, as the redirector says.
    moving: BTreeSet<SourceKey>,
    /// What is carried to another region.
    carriers: BTreeMap<Slot, Carrier>,
    /// Of which nothing is left in a region, with the epoch under which it was granted there, and since when.
    evacuated: BTreeMap<SourceKey, (RegionName, Epoch, Mono)>,
    /// Given up; the shell has not said yet that nothing more comes.
    leaving: BTreeMap<Slot, Hold>,
    slots: u32,
    customers: Vec<CustomerStats>,
    /// What each of them sends, in the same order.
    minutes: Vec<Minutes>,
    watch: Watch,
    stats: Stats,
    scratch: Vec<u8>,
    stage: Stage,
    /// When leaving ends at the latest.
    deadline: Mono,
    /// When a tick is wanted at the latest; may be too early, never too late.
    wakeup: Option<Mono>,
}

impl Analyzer {
    /// An analyzer that has not registered yet; its first `Tick` registers.
    #[must_use]
    pub fn new(config: AnalyzerConfig, schema: Arc<Schema>, revision: impl Into<Revision>) -> Self {
        Self {
            lease: Lease::new(config.seed),
            config,
            schema,
            revision: revision.into(),
            has_witness: false,
            muted: None,
            withheld: Vec::new(),
            sources: BTreeMap::new(),
            waiting: BTreeMap::new(),
            outdated: BTreeMap::new(),
            moving: BTreeSet::new(),
            carriers: BTreeMap::new(),
            evacuated: BTreeMap::new(),
            leaving: BTreeMap::new(),
            slots: 0,
            customers: Vec::new(),
            minutes: Vec::new(),
            watch: Watch::default(),
            stats: Stats::default(),
            scratch: Vec::new(),
            stage: Stage::Running,
            deadline: Mono(u64::MAX),
            wakeup: Some(Mono(0)),
        }
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        if self.stage == Stage::Stopped {
            return;
        }
        if self.lease.wake(now.mono) {
            tracing::warn!("this process was suspended past its lease, letting go of all sources");
            self.fence(effects);
        }
        // Before anything is judged or sent; only an answer that waits to be heard can still renew the lease.
        if !matches!(input, Input::Replied { .. }) {
            self.let_go_if_lapsed(now, effects);
        }
        let told = effects.len();
        match input {
            Input::Delivery(delivery) => {
                self.deliver(now, &delivery, effects);
                // Deliveries may come so fast that the shell hardly gets round to a tick.
                if self.wakeup.is_none_or(|at| now.mono < at) {
                    return self.withhold(told, effects);
                }
                self.advance(now, effects);
            }
            Input::Nudged => {
                self.stats.nudges += 1;
                self.lease.hurry(now.mono);
            }
            Input::WitnessChanged { stands } => self.witness(now, stands),
            Input::Probed { slot, ok } => self.probed(now, slot, ok, effects),
            Input::Tick => self.advance(now, effects),
            Input::SchemaChanged { schema, revision } => self.adopt(now, schema, revision, effects),
            Input::Replied { request, body } => {
                let news = self.lease.replied(now.mono, request, body, &mut self.stats.replies_ignored);
                self.hear(now, news, effects);
            }
            Input::RequestFailed { request } => {
                self.stats.requests_failed += 1;
                let news = self.lease.failed(now.mono, request);
                self.hear(now, news, effects);
            }
            Input::Recalled { slot, snapshots } => self.recalled(now, slot, snapshots, effects),
            Input::Kept { slot, seq } => {
                self.carriers.get_mut(&slot).into_iter().for_each(Carrier::kept);
                self.on_source(slot, effects, |source, shared| source.kept(seq, shared));
            }
            Input::SubscriptionLost { slot } => {
                if let Some(source) = self.sources.get_mut(&slot) {
                    source.lost();
                }
                self.carriers.get_mut(&slot).into_iter().for_each(Carrier::lost);
            }
            Input::Unbound { slot } => self.carriers.get_mut(&slot).into_iter().for_each(Carrier::unbound),
            Input::Carried { slot, token } => {
                if let Some(carrier) = self.carriers.get_mut(&slot) {
                    carrier.carried(token, effects);
                }
            }
            Input::Discarded { slot, is_empty } => self.discarded(now, slot, is_empty, effects),
            Input::Unsubscribed { slot } => {
                self.carrier_unsubscribed(now, slot, effects);
                if self.leaving.remove(&slot).is_some() {
                    self.lease.hurry(now.mono);
                }
            }
            Input::Published { id } => self.confirmed(now, id, effects),
            Input::Shutdown => self.shut_down(now, effects),
        }
        self.lead_out(now, effects);
        self.keep_lease(now, effects);
        self.prove(now, effects);
        self.withhold(told, effects);
        self.wakeup = self.earliest(now);
    }

    /// When the shell must send a `Tick` at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Mono> {
        self.wakeup
    }

    /// Whether a redirector has granted a lease that still stands, or this node goes on without one since the broker
    /// delivers what it owns.
    #[must_use]
    pub fn is_serving(&self, now: Now) -> bool {
        self.lease.is_granted()
            && (!self.lease.is_degraded(now.mono) || self.sources.values().any(Source::is_read))
    }

    /// Counters and gauges as they stand.
    #[must_use]
    pub fn stats(&self, now: Now) -> Stats {
        let mut stats = self.stats.clone();
        stats.alerts_pending = self.sources.values().map(Source::pending).sum();
        stats.witness = self.has_witness;
        stats.degraded = self.lease.is_degraded(now.mono);
        stats.sources = self.sources.values().map(|source| source.stats(now)).collect();
        stats.customers = self.customers.clone();
        stats
    }

    /// What is heard of publishers whose silence is an event and is due to be told, at most so many: the longest due first.
    /// What is not in it stays due.
    pub fn listening(&mut self, now: Now, max: usize) -> Vec<Listening> {
        let due = |(slot, source): (&Slot, &Source)| Some((source.listening_due(now.mono)?, *slot));
        let mut due: Vec<(Mono, Slot)> = self.sources.iter().filter_map(due).collect();
        due.sort_unstable();
        due.truncate(max);
        let mut tell = |slot| Some(self.sources.get_mut(&slot)?.listening(now.mono));
        due.into_iter().filter_map(|(_, slot)| tell(slot)).collect()
    }

    /// Limits that customers are over, and security events, as far as they are due to be told, at most so many. What is not in
    /// it stays due.
    pub fn breaches(&mut self, now: Now, max: usize) -> Vec<Breach> {
        self.watch.tell(now.mono, max)
    }

    fn deliver(&mut self, now: Now, delivery: &Delivery<'_>, effects: &mut Vec<Effect>) {
        // A slot that has been given up: the broker delivers it again, to whoever is next.
        if let Some(carrier) = self.carriers.get_mut(&delivery.slot) {
            let customer = (&mut self.customers[carrier.customer], &mut self.watch);
            return carrier.deliver(now, delivery, customer, &mut self.stats, effects);
        }
        let wakeup = self.on_source(delivery.slot, effects, |source, shared| {
            source.deliver(now, delivery, shared);
            source.wakeup(now)
        });
        self.wakeup = [self.wakeup, wakeup.flatten()].into_iter().flatten().min();
    }

    /// Does something with one source, if there is one of that slot.
    fn on_source<T>(
        &mut self,
        slot: Slot,
        effects: &mut Vec<Effect>,
        run: impl FnOnce(&mut Source, &mut Shared<'_>) -> T,
    ) -> Option<T> {
        let source = self.sources.get_mut(&slot)?;
        let customers = self.customers.len().max(1);
        let mut shared = Shared {
            node: &self.config.node,
            revision: &self.revision.id,
            held_max: self.config.held_max,
            series_max: self.config.series_max,
            series_total_max: self.config.series_total_max,
            series_share: self.config.series_total_max / customers,
            minutes: &mut self.minutes[source.customer],
            watch: &mut self.watch,
            customer: &mut self.customers[source.customer],
            stats: &mut self.stats,
            scratch: &mut self.scratch,
            effects,
        };
        Some(run(source, &mut shared))
    }

    /// A source's subscription is active: goes on where its last owner was, if that was not a later one than this node.
    fn recalled(&mut self, now: Now, slot: Slot, snapshots: &[&[u8]], effects: &mut Vec<Effect>) {
        if self.carriers.contains_key(&slot) {
            return self.carrier_recalled(slot, snapshots, effects);
        }
        let later = self.on_source(slot, effects, |source, shared| source.recall(now, snapshots, shared));
        let Some(epoch) = later.flatten() else { return };
        if let Some(source) = self.sources.remove(&slot) {
            tracing::warn!(source = %source.key, ours = %source.epoch, later = %epoch, "a later owner has been here");
            self.stats.outdated += 1;
            self.outdated.insert(source.key.clone(), epoch);
            self.forget(slot, &source, effects);
        }
    }

    /// Does something with every source.
    fn each_source(&mut self, effects: &mut Vec<Effect>, mut each: impl FnMut(&mut Source, &mut Shared<'_>)) {
        let customers = self.customers.len().max(1);
        for source in self.sources.values_mut() {
            let mut shared = Shared {
                node: &self.config.node,
                revision: &self.revision.id,
                held_max: self.config.held_max,
                series_max: self.config.series_max,
                series_total_max: self.config.series_total_max,
                series_share: self.config.series_total_max / customers,
                minutes: &mut self.minutes[source.customer],
                watch: &mut self.watch,
                customer: &mut self.customers[source.customer],
                stats: &mut self.stats,
                scratch: &mut self.scratch,
                effects,
            };
            each(source, &mut shared);
        }
    }

    fn advance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.each_source(effects, |source, shared| source.advance(now, shared));
    }

    fn confirmed(&mut self, now: Now, id: AlertId, effects: &mut Vec<Effect>) {
        let mut found = false;
        self.each_source(effects, |source, shared| {
            found = found || source.confirmed(now, id, shared);
        });
    }

    /// Goes over to another revision.
    fn adopt(&mut self, now: Now, schema: Arc<Schema>, revision: Revision, effects: &mut Vec<Effect>) {
        self.schema = schema;
        self.revision = revision;
        let schema = Arc::clone(&self.schema);
        let mut gone = Vec::new();
        self.each_source(effects, |source, shared| {
            if !source.adopt(&schema, shared) {
                gone.push(source.key.clone());
            }
        });
        for key in gone {
            if let Some((slot, source)) = self.source(&key) {
                let grant = Grant { source: key, region: source.region.clone(), epoch: source.epoch };
                self.let_go(slot, effects);
                self.waiting.insert(grant.source.clone(), grant);
            }
        }
        self.move_out(now);
        for (_, grant) in std::mem::take(&mut self.waiting) {
            self.take_up(now, grant, effects);
        }
    }

    fn source(&self, key: &SourceKey) -> Option<(Slot, &Source)> {
        self.sources.iter().find(|(_, source)| source.key == *key).map(|(slot, source)| (*slot, source))
    }

    /// Index of a customer's counters.
    fn customer(&mut self, key: &SourceKey) -> usize {
        if let Some(found) = self.customers.iter().position(|stats| stats.customer == key.customer) {
            return found;
        }
        self.customers.push(CustomerStats {
            customer: key.customer.clone(),
            rejects: Rejects::default(),
            series: 0,
            breaches: Breaches::default(),
        });
        self.minutes.push(Minutes::default());
        self.customers.len() - 1
    }

    fn earliest(&self, now: Now) -> Option<Mono> {
        if self.stage == Stage::Stopped {
            return None;
        }
        let sources = self.sources.values().filter_map(|source| source.wakeup(now)).min();
        let deadline = Some(self.deadline).filter(|at| *at != Mono(u64::MAX));
        let fence = self.lease.fence().filter(|at| *at > now.mono);
        let interval = self.lease.ttl() / 5;
        let is_degraded = self.lease.is_degraded(now.mono);
        let proof = self.sources.values().filter_map(|source| source.unproven_at(interval));
        let proof = proof.min().filter(|_| is_degraded);
        let carriers = self.carriers.values().filter_map(Carrier::wakeup).min();
        [self.lease.wakeup(), sources, carriers, deadline, fence, proof].into_iter().flatten().min()
    }
}
