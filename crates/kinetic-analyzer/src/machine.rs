//! The analyzer machine: control protocol, subscriptions, windows and settlement, told what happens and answering
//! with effects.

use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::Schema;
use kinetic_wire::{
    AlertEvent, AlertId, Envelope, Epoch, Incarnation, Mono, NodeId, Now, RegionName, Serves, SourceKey,
    Token,
};

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
    /// Deliveries held unsettled per source before the oldest are acknowledged early (counted).
    pub held_max: usize,
    /// Series per customer; a sample of one more is dropped (counted).
    pub series_max: usize,
    /// Seed of the jitter.
    pub seed: u64,
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
pub enum Input<'a> {
    /// Time has passed.
    Tick,
    /// A new schema revision stands.
    SchemaChanged {
        /// The values.
        schema: Arc<Schema>,
        /// The commit.
        revision: String,
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
    /// The broker has confirmed an alert event.
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
    /// Publish an alert event to `kin.alerts`, confirmed; answer with `Published`. The shell retries until it can.
    Publish(Box<AlertEvent>),
    /// Drained: the shell may close its connections and end.
    Stopped,
}

/// The analyzer.
#[derive(Debug)]
pub struct Analyzer {
    config: AnalyzerConfig,
}

impl Analyzer {
    /// An analyzer that has not registered yet; its first `Tick` registers.
    #[must_use]
    pub fn new(config: AnalyzerConfig, schema: Arc<Schema>, revision: String) -> Self {
        let _ = (schema, revision);
        Self { config }
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        let _ = (now, input, effects, &self.config);
    }

    /// When the shell must send a `Tick` at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Mono> {
        None
    }
}
