//! What the machine is told, and what it wants done.

use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::Schema;
use kinetic_wire::{AlertEvent, AlertId, Envelope, Epoch, Partial, RegionName, SourceKey, TestStage, Token};

use super::{Delivery, RequestId, Revision, Slot};

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
    /// The queue of `Effect::Evacuate` is bound to nothing any more.
    Unbound {
        /// Which.
        slot: Slot,
    },
    /// The broker of the new region has confirmed a delivery.
    Carried {
        /// Which subscription it came on.
        slot: Slot,
        /// Which.
        token: Token,
    },
    /// What has come of `Effect::Discard`.
    Discarded {
        /// Which.
        slot: Slot,
        /// Nothing had come into the queue.
        is_empty: bool,
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
    /// Consume what a source's queue still holds in a region that its customer has left; nothing is bound to it, and what is bound
    /// is unbound: answer with `Unbound`. What was kept is read as for `Subscribe`.
    Evacuate {
        /// Name for its deliveries.
        slot: Slot,
        /// Whose queue.
        source: SourceKey,
        /// On which broker.
        from: RegionName,
        /// Where its customer is now.
        to: RegionName,
        /// For logs and the board.
        epoch: Epoch,
    },
    /// Publish a delivery in the source's new region, persistent and confirmed; answer with `Carried`. The shell retries until
    /// it can, or until the slot is unsubscribed. Deliveries of one slot leave in the order in which they are given.
    Carry {
        /// Which subscription it came on.
        slot: Slot,
        /// Which delivery.
        token: Token,
        /// Of which source.
        source: SourceKey,
        /// On which broker.
        to: RegionName,
        /// It holds the values of a part, and goes where those go.
        is_partial: bool,
        /// Its properties.
        envelope: Box<Envelope<'static>>,
        /// Its body.
        body: Vec<u8>,
    },
    /// Remove a source's queue in a region that its customer has left, unless something has come into it; answer with `Discarded`.
    Discard {
        /// Name for the answer.
        slot: Slot,
        /// Whose queue.
        source: SourceKey,
        /// On which broker.
        region: RegionName,
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
    /// Say on `kin.trace` how far a test event has come: transient, best effort.
    Trace(Box<TestStage>),
    /// Drained: the shell may close its connections and end.
    Stopped,
}
