//! The sources' subscriptions, and what must be known of one before its deliveries may be looked at.
//!
//! ```text
//! subscribed ─▶ Shut ─ the first delivery ─▶ Reading ─ what was kept has been read ─▶ Open
//!                └─ knocks: nothing comes          └─ not polled meanwhile
//! ```
//! Only one consumer of a source's queue is delivered anything. So the first delivery proves that the former owner's
//! subscription is gone, and that what it kept is all that it ever will. Where no data comes, this node sends itself a message
//! through the queue (it knocks): silent sources change hands as well.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use kinetic_amqp::{Consumer, Delivery, Event, Settle};
use kinetic_analyzer::machine::{self, Analyzer, Effect, Input, Slot};
use kinetic_wire::{RegionName, SourceKey, Token, names};
use tokio::task::AbortHandle;

use crate::adapter::clock;

/// Deliveries of one subscription that the machine is told before its effects are performed,
const BATCH_MAX: usize = 256;
/// but for no longer than this, whatever they are, nor longer than one delivery takes: it is the others' turn then.
const TURN_MAX: Duration = Duration::from_millis(2);
/// Without a delivery for this long after subscribing, this node knocks,
pub(super) const KNOCK_FIRST: Duration = Duration::from_millis(200);
/// and again after this long, then twice as long,
pub(super) const KNOCK_AGAIN: Duration = Duration::from_secs(1);
/// up to this: while a former owner hangs, each waits in the queue.
pub(super) const KNOCK_MAX: Duration = Duration::from_secs(30);

/// Whether deliveries may pass.
#[derive(Debug)]
enum Gate {
    /// Nothing has been delivered since the subscription began.
    Shut,
    /// What was kept of the source is being read; the delivery that said that it can be waits here.
    Reading(Option<Box<Delivery>>),
    Open,
}

/// One source's.
pub(super) struct Subscription {
    pub(super) slot: Slot,
    pub(super) source: SourceKey,
    pub(super) region: RegionName,
    consumer: Consumer,
    gate: Gate,
    knocking: Option<AbortHandle>,
    /// Number of the probe that waits for its answer.
    probed: Option<u64>,
}

/// What the shell is to do for a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chore {
    /// Knock until something is delivered.
    Knock(Slot),
    /// Read what was kept of the source.
    Read(Slot),
    /// A probe has come back.
    Answered(Slot),
}

/// All of them.
///
/// Customers take turns, and within a customer's turns its sources do: so whoever has many busy sources, or one that brings
/// much, gets what the others leave and no more.
#[derive(Default)]
pub(super) struct Subscriptions {
    /// By customer; of one customer, the one that is looked at first next time stands first.
    #[expect(clippy::vec_box, reason = "they change places at every turn, and each is hundreds of bytes")]
    slots: Vec<Box<Subscription>>,
    /// Where the customer stands that is looked at first next time.
    turn: usize,
    chores: VecDeque<Chore>,
}

impl Subscription {
    pub(super) fn new(slot: Slot, source: SourceKey, region: RegionName, consumer: Consumer) -> Self {
        Self { slot, source, region, consumer, gate: Gate::Shut, knocking: None, probed: None }
    }

    /// The consumer, for its end.
    pub(super) fn into_consumer(mut self) -> Consumer {
        self.stop_knocking();
        self.consumer
    }

    pub(super) fn knocks_by(&mut self, task: AbortHandle) {
        self.stop_knocking();
        self.knocking = Some(task);
    }

    fn stop_knocking(&mut self) {
        if let Some(task) = self.knocking.take() {
            task.abort();
        }
    }

    /// A probe of this number is on its way.
    pub(super) fn probes(&mut self, number: u64) {
        self.probed = Some(number);
    }

    /// The probe of this number has waited for long enough. Returns whether it was still waited for.
    pub(super) fn gives_up(&mut self, number: u64) -> bool {
        self.probed.take_if(|probed| *probed == number).is_some()
    }

    /// A message to ourselves has come through the queue; whoever's it was, it is of no further use.
    async fn take_probe(&mut self, delivery: &Delivery, chores: &mut VecDeque<Chore>) {
        self.consumer.settle(Settle::Ack(delivery.token)).await;
        let number = delivery.envelope().seq;
        if self.probed.is_some() && self.probed == number {
            self.probed = None;
            chores.push_back(Chore::Answered(self.slot));
        }
    }

    /// Deals with one event; returns a delivery that the machine is to be told.
    async fn event(&mut self, event: Event, chores: &mut VecDeque<Chore>) -> Option<Delivery> {
        match event {
            Event::Delivery(delivery) => {
                let is_probe = is_probe(&delivery);
                if is_probe {
                    self.take_probe(&delivery, chores).await;
                }
                let delivery = Some(delivery).filter(|_| !is_probe);
                if matches!(self.gate, Gate::Open) {
                    return delivery;
                }
                self.stop_knocking();
                self.gate = Gate::Reading(delivery.map(Box::new));
                chores.push_back(Chore::Read(self.slot));
            }
            Event::Subscribed => chores.push_back(Chore::Knock(self.slot)),
            Event::Lost { .. } => {
                self.stop_knocking();
                self.probed = None;
                self.gate = Gate::Shut;
            }
            Event::Cancelled => {}
        }
        None
    }
}

/// From a node of ours to itself, through the source's queue; a customer cannot publish to the default exchange.
fn is_probe(delivery: &Delivery) -> bool {
    delivery.exchange().is_empty() && delivery.envelope().kind.as_deref() == Some(names::TYPE_PROBE)
}

/// A delivery as the machine reads it.
pub(crate) fn read(slot: Slot, delivery: &Delivery) -> machine::Delivery<'_> {
    machine::Delivery {
        slot,
        token: Token(delivery.token),
        redelivered: delivery.redelivered,
        exchange: delivery.exchange(),
        routing_key: delivery.routing_key(),
        envelope: delivery.envelope(),
        body: delivery.body(),
    }
}

/// One has had its turn: it goes behind those of its customer. Returns where it stands then, and where the next customer begins.
fn pass_turn<T, C: PartialEq>(slots: &mut [T], index: usize, customer: impl Fn(&T) -> &C) -> (usize, usize) {
    let of = customer(&slots[index]);
    let others = slots[index + 1..].iter().take_while(|slot| customer(slot) == of).count();
    let end = index + 1 + others;
    // Those before it were looked at and had nothing: they keep their places.
    slots[index..end].rotate_left(1);
    (end - 1, end)
}

impl Subscriptions {
    pub(super) fn add(&mut self, subscription: Subscription) {
        let customer = &subscription.source.customer;
        let place = self.slots.partition_point(|known| known.source.customer <= *customer);
        self.slots.insert(place, Box::new(subscription));
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Subscription> {
        self.slots.iter_mut().find(|subscription| subscription.slot == slot).map(|found| &mut **found)
    }

    pub(super) fn take(&mut self, slot: Slot) -> Option<Subscription> {
        let index = self.slots.iter().position(|subscription| subscription.slot == slot)?;
        // The turn may pass to another customer by this; none is left out for longer than one round.
        Some(*self.slots.remove(index))
    }

    /// What is to be done, oldest first.
    pub(super) fn chore(&mut self) -> Option<Chore> {
        self.chores.pop_front()
    }

    /// The next event of any subscription, with its place; never, without one.
    pub(super) async fn next(&mut self) -> (usize, Event) {
        let (slots, turn) = (&mut self.slots, &mut self.turn);
        poll_fn(|cx| {
            for offset in 0..slots.len() {
                let index = (*turn + offset) % slots.len();
                if matches!(slots[index].gate, Gate::Reading(_)) {
                    continue;
                }
                if let Poll::Ready(event) = slots[index].consumer.poll_next(cx) {
                    let (place, next) = pass_turn(slots, index, |subscription| &subscription.source.customer);
                    *turn = next;
                    return Poll::Ready((place, event));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Tells the machine an event and what is ready behind it; the clock is read once for all.
    pub(super) async fn tell(
        &mut self,
        analyzer: &mut Analyzer,
        index: usize,
        first: Event,
        effects: &mut Vec<Effect>,
    ) {
        let now = clock::now();
        let subscription = &mut self.slots[index];
        let slot = subscription.slot;
        let mut next = Some(first);
        let mut told = 0;
        while let Some(event) = next {
            if let Event::Lost { reason } = &event {
                tracing::warn!(source = %subscription.source, reason, "subscription lost; it will be taken up again");
                analyzer.handle(now, Input::SubscriptionLost { slot }, effects);
            }
            if let Some(delivery) = subscription.event(event, &mut self.chores).await {
                analyzer.handle(now, Input::Delivery(read(slot, &delivery)), effects);
            }
            told += 1;
            let is_its_turn = told < BATCH_MAX && clock::now().mono.since(now.mono) < TURN_MAX;
            let goes_on = is_its_turn && !matches!(subscription.gate, Gate::Reading(_));
            next = if goes_on { subscription.consumer.try_next() } else { None };
        }
    }

    /// What was kept of a source has been read: its deliveries may pass.
    pub(super) fn open(
        &mut self,
        analyzer: &mut Analyzer,
        slot: Slot,
        snapshots: &[Vec<u8>],
        effects: &mut Vec<Effect>,
    ) {
        let Some(subscription) = self.get_mut(slot) else { return };
        let Gate::Reading(first) = std::mem::replace(&mut subscription.gate, Gate::Open) else {
            subscription.gate = Gate::Shut;
            return;
        };
        let now = clock::now();
        let snapshots: Vec<&[u8]> = snapshots.iter().map(Vec::as_slice).collect();
        analyzer.handle(now, Input::Recalled { slot, snapshots: &snapshots }, effects);
        if let Some(delivery) = first {
            analyzer.handle(now, Input::Delivery(read(slot, &delivery)), effects);
        }
    }

    pub(super) async fn settle(&mut self, slot: Slot, settle: Settle) {
        if let Some(subscription) = self.get_mut(slot) {
            subscription.consumer.settle(settle).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_take_turns_however_many_sources_they_have() {
        // Four busy sources of one customer between two others with one each, of whom the last is idle at first.
        let mut slots = ["a", "b1", "b2", "b3", "b4", "c"];
        let (mut turn, mut served) = (0, Vec::new());
        for round in 0..12 {
            let busy = |name: &str| name != "c" || round >= 6;
            let index = (0..slots.len()).map(|offset| (turn + offset) % slots.len());
            let index = index.into_iter().find(|index| busy(slots[*index])).expect("one is");
            served.push(slots[index]);
            let (place, next) = pass_turn(&mut slots, index, |name| &name.as_bytes()[0]);
            assert_eq!(slots[place], served[round], "it is found where it is said to be");
            turn = next;
        }
        assert_eq!(served, ["a", "b1", "a", "b2", "a", "b3", "c", "a", "b4", "c", "a", "b1"]);
    }
}
