//! Emptying a region that a customer has left: its queues are unbound, what they hold is published in the new region, and then they
//! are removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use kinetic_amqp::{
    Address, AmqpError, ConsumeOptions, Consumer, Outcome, Publisher, Topology, declare, delete_idle_queue,
    queue_depth, remove,
};
use kinetic_analyzer::machine::Slot;
use kinetic_schema::schema::QueueType;
use kinetic_wire::{Envelope, RegionName, SourceKey, Token, names};
use tokio::sync::Mutex;

use super::subscription::Subscription;
use super::{Done, PREFETCH, Shell};
use crate::topology;

/// Pause after a failure; doubles up to the longest.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest pause after failures.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often it is tried to remove an empty queue; then it is left where it is, which costs nothing but its name.
const DISCARDS_MAX: usize = 5;

/// One delivery on its way.
pub(super) struct Parcel {
    pub(super) token: Token,
    /// It holds the values of a part.
    pub(super) is_partial: bool,
    pub(super) envelope: Envelope<'static>,
    pub(super) body: Bytes,
}

/// What carries the deliveries of one slot: in their order, and no longer than the slot is subscribed.
#[derive(Default)]
pub(super) struct Cart {
    /// Whose turn it is, and whether all stands where the deliveries are carried to.
    turn: Mutex<bool>,
    has_stopped: AtomicBool,
}

impl Cart {
    pub(super) fn stop(&self) {
        self.has_stopped.store(true, Ordering::Relaxed);
    }
}

/// Where deliveries are carried to.
struct Target {
    address: Address,
    /// What takes them there.
    topology: Topology,
    publisher: Publisher,
    /// Exchange and routing key, of bodies and of parts' values.
    body: (String, String),
    partial: (String, String),
}

impl Target {
    /// Makes all that takes deliveries to their queues. An exchange that spreads by a hash would lead them to the wrong part as
    /// long as it has not all of its queues: then two parts had values of one feed.
    async fn make(&self, cart: &Cart) -> bool {
        let mut wait = RETRY_MIN;
        while let Err(error) = declare(&self.address, &self.topology).await {
            if cart.has_stopped.load(Ordering::Relaxed) {
                return false;
            }
            tracing::warn!(%error, "cannot make the queues to carry deliveries to; trying again");
            tokio::time::sleep(wait).await;
            wait = RETRY_MAX.min(wait * 2);
        }
        true
    }

    /// Publishes one until the broker has confirmed. Returns its token, or nothing once nobody waits for it.
    async fn carry(&self, cart: &Cart, parcel: &Parcel) -> Option<Token> {
        let (exchange, key) = if parcel.is_partial { &self.partial } else { &self.body };
        let mut wait = RETRY_MIN;
        loop {
            if cart.has_stopped.load(Ordering::Relaxed) {
                return None;
            }
            match self.publisher.publish(exchange, key, &parcel.envelope, parcel.body.clone(), true).await {
                Ok(Outcome::Confirmed) => return Some(parcel.token),
                Ok(Outcome::Unroutable) => {
                    if let Err(error) = declare(&self.address, &self.topology).await {
                        tracing::warn!(exchange, key, %error, "cannot make the queue to carry deliveries to");
                    }
                }
                Err(error) => {
                    tracing::warn!(exchange, key, %error, "a carried delivery was not confirmed; trying again");
                }
            }
            tokio::time::sleep(wait).await;
            wait = RETRY_MAX.min(wait * 2);
        }
    }
}

impl Shell {
    /// Subscribes to what is left, and unbinds it.
    pub(super) fn evacuate(&mut self, slot: Slot, key: &SourceKey, from: &RegionName, to: &RegionName) {
        let revision = self.schema.borrow().clone();
        let schema = &revision.schema;
        let source =
            schema.customers.get(&key.customer).and_then(|customer| customer.sources.get(&key.source));
        let (Some(source), Some(left), Some(entered)) =
            (source, schema.regions.get(from), schema.regions.get(to))
        else {
            // The machine gives it up after a while.
            tracing::warn!(source = %key, %from, "the schema in force does not say where to empty the source's queue");
            return;
        };
        let (address, queues) =
            (topology::region_address(&self.control, left), topology::queues_of(schema, &left.vhost));
        self.snapshots.reach(from, &address, queues);
        let entered_queues = topology::queues_of(schema, &entered.vhost);
        self.snapshots.reach(to, &topology::region_address(&self.control, entered), entered_queues);
        let queue = names::source_queue(key);
        let mut declared = topology::dead_letters(&key.customer);
        declared
            .queues
            .extend([topology::source_queue(queue.clone(), &key.customer, source), topology::snapshots(key)]);
        let options = ConsumeOptions {
            queue,
            topology: topology::kept(declared, queues),
            prefetch: PREFETCH,
            ..ConsumeOptions::default()
        };
        let consumer = Consumer::start(address.clone(), options);
        self.subscriptions.add(Subscription::new(slot, key.clone(), from.clone(), consumer));
        let cart = Arc::new(Cart::default());
        self.carts.insert(slot, Arc::clone(&cart));
        let ways = topology::ways_to(key, source);
        self.jobs.spawn(async move {
            let mut wait = RETRY_MIN;
            while let Err(error) = remove(&address, &ways).await {
                if cart.has_stopped.load(Ordering::Relaxed) {
                    break;
                }
                tracing::warn!(%error, "cannot unbind a queue that is to be emptied; trying again");
                tokio::time::sleep(wait).await;
                wait = RETRY_MAX.min(wait * 2);
            }
            Done::Unbound { slot }
        });
    }

    /// Publishes deliveries in the new region, in their order.
    pub(super) fn carry(&mut self, slot: Slot, key: &SourceKey, to: &RegionName, parcels: Vec<Parcel>) {
        let (Some(cart), Some(target)) = (self.carts.get(&slot).cloned(), self.target(key, to)) else {
            tracing::warn!(source = %key, %to, "the schema in force does not say where to carry deliveries");
            return;
        };
        self.jobs.spawn(async move {
            let mut turn = cart.turn.lock().await;
            if !*turn {
                *turn = target.make(&cart).await;
            }
            let carried = join_all(parcels.iter().map(|parcel| target.carry(&cart, parcel))).await;
            drop(turn);
            Done::Carried { slot, tokens: carried.into_iter().flatten().collect() }
        });
    }

    fn target(&self, key: &SourceKey, to: &RegionName) -> Option<Target> {
        let revision = self.schema.borrow().clone();
        let customer = revision.schema.customers.get(&key.customer)?;
        let source = customer.sources.get(&key.source)?;
        let region = revision.schema.regions.get(to)?;
        let queues = topology::queues_of(&revision.schema, &region.vhost);
        let own = names::source_queue(&key.with_part(0));
        let body = if source.partitions > 1 {
            (names::split_exchange(key), own.clone())
        } else {
            (String::new(), own.clone())
        };
        Some(Target {
            address: topology::region_address(&self.control, region),
            topology: topology::kept(topology::source(customer, source), queues),
            publisher: self.snapshots.publisher(to),
            body,
            partial: (names::PARTIALS_EXCHANGE.to_owned(), own),
        })
    }

    /// Removes an empty queue, where the broker can do that without a gap between looking and removing.
    pub(super) fn discard(&mut self, slot: Slot, key: &SourceKey, region: &RegionName) {
        let revision = self.schema.borrow().clone();
        let queue = names::source_queue(key);
        let known = revision.schema.regions.get(region).map(|region| {
            let queues = topology::queues_of(&revision.schema, &region.vhost);
            (topology::region_address(&self.control, region), queues)
        });
        self.jobs.spawn(async move {
            let Some((address, queues)) = known else { return Done::Discarded { slot, is_empty: true } };
            for _ in 0..DISCARDS_MAX {
                match discarded(&address, queues, &queue).await {
                    Ok(is_empty) => return Done::Discarded { slot, is_empty },
                    Err(error) => {
                        tracing::warn!(queue, %error, "cannot remove an emptied queue; trying again")
                    }
                }
                tokio::time::sleep(RETRY_MIN).await;
            }
            Done::Discarded { slot, is_empty: true }
        });
    }
}

/// Whether nothing has come into a queue; then it is removed. A replicated one is not: no broker looks and removes at once there.
async fn discarded(address: &Address, queues: QueueType, queue: &str) -> Result<bool, AmqpError> {
    match queues {
        QueueType::Quorum => Ok(queue_depth(address, queue).await?.is_none_or(|depth| depth.messages == 0)),
        QueueType::Classic => delete_idle_queue(address, queue).await,
    }
}
