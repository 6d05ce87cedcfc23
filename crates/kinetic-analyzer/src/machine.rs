//! The analyzer machine: control protocol, subscriptions, windows and settlement, told what happens and answering
//! with effects.

mod ownership;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::Schema;
use kinetic_wire::{
    AlertEvent, AlertId, Envelope, Epoch, Grant, Hold, Incarnation, Mono, NodeId, Now, Partial, RegionName,
    Serves, SourceKey, Token,
};

pub use self::ownership::PROBE_TIMEOUT;
use crate::lease::Lease;
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
    /// Series per customer; a sample of one more is dropped (counted).
    pub series_max: usize,
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

/// What the analyzer is told.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "made and used up at once; a box would allocate for each delivery"
)]
pub enum Input<'a> {
    /// Time has passed.
    Tick,
    /// A new schema revision stands.
    SchemaChanged {
        /// The values.
        schema: Arc<Schema>,
        /// The commit.
        revision: Revision,
    },
    /// A redirector has something to say: heartbeat now. It carries no authority.
    Nudged,
    /// This node has come to hold the message of its witness queue, or holds it no longer. It does not at the start.
    WitnessChanged {
        /// It holds it.
        stands: bool,
    },
    /// The redirector answered a request.
    Replied {
        /// Which.
        request: RequestId,
        /// The answer's body.
        body: &'a [u8],
    },
    /// A request was not answered in time or could not be sent.
    RequestFailed {
        /// Which.
        request: RequestId,
    },
    /// A delivery.
    Delivery(Delivery<'a>),
    /// The subscription is the active one, and no former owner is delivered anything any more: these are the bodies in
    /// the source's snapshot queue. The shell must say so before it passes on a delivery of the subscription, and
    /// again after each `SubscriptionLost`.
    Recalled {
        /// Which.
        slot: Slot,
        /// The snapshots, in whatever order.
        snapshots: &'a [&'a [u8]],
    },
    /// The broker has confirmed a snapshot.
    Kept {
        /// Whose.
        slot: Slot,
        /// Its number.
        seq: u64,
    },
    /// What has come of `Effect::Probe`.
    Probed {
        /// Which subscription.
        slot: Slot,
        /// The message has come back.
        ok: bool,
    },
    /// The subscription's channel is gone; the broker will deliver again all that was not settled. The shell
    /// subscribes again by itself and goes on delivering on the same slot, with higher tokens.
    SubscriptionLost {
        /// Which.
        slot: Slot,
    },
    /// `Effect::Unsubscribe` has been carried out: nothing more comes on the slot.
    Unsubscribed {
        /// Which.
        slot: Slot,
    },
    /// The broker has confirmed an alert event, or the values of a part's window.
    Published {
        /// Which.
        id: AlertId,
    },
    /// Leave in good order: drain, settle, say goodbye, then `Effect::Stopped`.
    Shutdown,
}

/// What the analyzer wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the redirector; answer with `Replied` or `RequestFailed`.
    Request {
        /// Name for the answer.
        request: RequestId,
        /// Routing key (`kinetic_wire::names::rpc`).
        kind: &'static str,
        /// JSON body.
        body: Vec<u8>,
        /// When to give up.
        timeout: Duration,
    },
    /// Consume a source's queue.
    Subscribe {
        /// Name for its deliveries.
        slot: Slot,
        /// Whose queue.
        source: SourceKey,
        /// On which broker.
        region: RegionName,
        /// For logs and the board.
        epoch: Epoch,
    },
    /// Stop consuming, after the settlements already asked for; answer with `Unsubscribed`.
    Unsubscribe {
        /// Which.
        slot: Slot,
    },
    /// Acknowledge this and all before it of the slot (`multiple`). The token itself is unsettled.
    AckUpTo {
        /// Which subscription.
        slot: Slot,
        /// The last one.
        token: Token,
    },
    /// Acknowledge these, each by itself, both ends included.
    AckRange {
        /// Which subscription.
        slot: Slot,
        /// First.
        first: Token,
        /// Last.
        last: Token,
    },
    /// Refuse a delivery, so that the broker dead-letters it.
    Reject {
        /// Which subscription.
        slot: Slot,
        /// Which delivery.
        token: Token,
    },
    /// Publish a snapshot to the source's snapshot queue, persistent and confirmed; answer with `Kept`. The shell retries
    /// until it can, or until the slot is unsubscribed. There is one at a time per slot.
    Keep {
        /// Whose.
        slot: Slot,
        /// Its number.
        seq: u64,
        /// Of which source.
        source: SourceKey,
        /// On which broker.
        region: RegionName,
        /// The owner's epoch, for the envelope.
        epoch: Epoch,
        /// The message.
        body: Vec<u8>,
    },
    /// Publish the values of a part's window to `kin.partials` (`names::PARTIALS_EXCHANGE`), with the queue of the source as
    /// routing key, persistent and confirmed; answer with `Published`. The shell retries until it can.
    Forward {
        /// Name for the answer.
        id: AlertId,
        /// On which broker.
        region: RegionName,
        /// The message.
        partial: Box<Partial>,
    },
    /// Send a message to the source's queue and see whether this subscription is delivered it in time; answer with
    /// `Probed`. There is one at a time per slot.
    Probe {
        /// Which subscription.
        slot: Slot,
        /// When to give up.
        timeout: Duration,
    },
    /// Publish an alert event to `kin.alerts`, confirmed; answer with `Published`. The shell retries until it can.
    Publish(Box<AlertEvent>),
    /// Drained: the shell may close its connections and end.
    Stopped,
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
    /// Given up; the shell has not said yet that nothing more comes.
    leaving: BTreeMap<Slot, Hold>,
    slots: u32,
    customers: Vec<CustomerStats>,
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
            leaving: BTreeMap::new(),
            slots: 0,
            customers: Vec::new(),
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
            Input::SchemaChanged { schema, revision } => self.adopt(schema, revision, effects),
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
                self.on_source(slot, effects, |source, shared| source.kept(seq, shared));
            }
            Input::SubscriptionLost { slot } => {
                if let Some(source) = self.sources.get_mut(&slot) {
                    source.lost();
                }
            }
            Input::Unsubscribed { slot } => {
                if self.leaving.remove(&slot).is_some() {
                    self.lease.hurry(now.mono);
                }
            }
            Input::Published { id } => self.confirmed(id, effects),
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

    /// Whether a redirector has granted a lease that still stands.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.lease.is_granted()
    }

    /// Counters and gauges as they stand.
    #[must_use]
    pub fn stats(&self, now: Now) -> Stats {
        let mut stats = self.stats.clone();
        stats.alerts_pending = self.sources.values().map(Source::pending).sum();
        stats.witness = self.has_witness;
        stats.degraded = self.lease.is_degraded(now.mono);
        stats.sources = self.sources.values().map(|source| source.stats(now.mono)).collect();
        stats.customers = self.customers.clone();
        stats
    }

    fn deliver(&mut self, now: Now, delivery: &Delivery<'_>, effects: &mut Vec<Effect>) {
        // A slot that has been given up: the broker delivers it again, to whoever is next.
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
        let mut shared = Shared {
            node: &self.config.node,
            revision: &self.revision.id,
            held_max: self.config.held_max,
            series_max: self.config.series_max,
            customer: &mut self.customers[source.customer],
            stats: &mut self.stats,
            scratch: &mut self.scratch,
            effects,
        };
        Some(run(source, &mut shared))
    }

    /// A source's subscription is active: goes on where its last owner was, if that was not a later one than this node.
    fn recalled(&mut self, now: Now, slot: Slot, snapshots: &[&[u8]], effects: &mut Vec<Effect>) {
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
        for source in self.sources.values_mut() {
            let mut shared = Shared {
                node: &self.config.node,
                revision: &self.revision.id,
                held_max: self.config.held_max,
                series_max: self.config.series_max,
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

    fn confirmed(&mut self, id: AlertId, effects: &mut Vec<Effect>) {
        let mut found = false;
        self.each_source(effects, |source, shared| {
            found = found || source.confirmed(id, shared);
        });
    }

    /// Goes over to another revision.
    fn adopt(&mut self, schema: Arc<Schema>, revision: Revision, effects: &mut Vec<Effect>) {
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
        for (_, grant) in std::mem::take(&mut self.waiting) {
            self.take_up(grant, effects);
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
            series_refused: 0,
            security_events: 0,
        });
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
        [self.lease.wakeup(), sources, deadline, fence, proof].into_iter().flatten().min()
    }
}
