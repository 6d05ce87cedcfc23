//! What an analyzer's shell sends.

use std::collections::VecDeque;
use std::time::Duration;

use kinetic_analyzer::machine::Slot;
use kinetic_wire::{AlertEvent, AlertId, Envelope, Epoch, Partial, SourceKey, Token, encode, names};

use super::{CLOSE_TIMEOUT, Gate, KNOCK_MAX, Kept, Shell, Subscription};
use crate::agenda::LinkId;
use crate::bug::Bug;
use crate::message::{MS, Message, Time, Up};
use crate::shell::{Job, Reach};

impl Shell {
    pub(super) fn subscribe(&mut self, slot: Slot, source: SourceKey, reach: &mut Reach<'_>) {
        let subscription = Subscription {
            link: reach.link(),
            source,
            gate: Gate::Shut,
            waiting: VecDeque::new(),
            tokens: 0,
            base: 0,
            probed: None,
            leaving: false,
        };
        self.slots.insert(slot, subscription);
    }

    /// Sends itself a message through a source's queue, while nothing is delivered.
    pub(super) fn knock(&mut self, slot: Slot, link: LinkId, wait: Time, reach: &mut Reach<'_>) {
        let Some(known) = self.slots.get(&slot).filter(|known| known.link == link && !known.leaving) else {
            return;
        };
        if known.gate != Gate::Shut || reach.net.conn(link).is_none() {
            return;
        }
        let mut message = Message::new("", &names::source_queue(&known.source), Vec::new());
        message.envelope = Envelope { kind: Some(names::TYPE_PROBE.into()), ..Envelope::default() };
        self.keeper.post_once(message, reach);
        reach.later(wait, Job::Knock(slot, link, (wait * 2).min(KNOCK_MAX)));
    }

    /// Sends itself a message through a source's queue, to see whether it is the one who is delivered it.
    pub(super) fn probe(&mut self, slot: Slot, timeout: Duration, reach: &mut Reach<'_>) {
        let Some(known) = self.slots.get_mut(&slot) else { return };
        self.numbers += 1;
        let number = self.numbers;
        known.probed = Some(number);
        let mut message = Message::new("", &names::source_queue(&known.source), Vec::new());
        message.envelope =
            Envelope { kind: Some(names::TYPE_PROBE.into()), seq: Some(number), ..Envelope::default() };
        self.keeper.post_once(message, reach);
        reach.later(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX), Job::ProbeTimeout(slot, number));
    }

    pub(super) fn keep(
        &mut self,
        (slot, seq): (Slot, u64),
        source: &SourceKey,
        epoch: Epoch,
        body: Vec<u8>,
        reach: &mut Reach<'_>,
    ) {
        let mut message = Message::new("", &names::snapshot_queue(source), body);
        message.envelope = Envelope { persistent: true, epoch: Some(epoch), ..Envelope::default() };
        self.keeper.post(Kept::Snapshot(slot, seq), message, reach);
    }

    /// Sends the values of a part's window to the owner of the source.
    pub(super) fn forward(&mut self, id: AlertId, partial: &Partial, reach: &mut Reach<'_>) {
        let queue = names::source_queue(&partial.source.with_part(0));
        let mut message = Message::new(names::PARTIALS_EXCHANGE, &queue, encode(partial));
        message.envelope = Envelope {
            kind: Some(names::TYPE_PARTIAL.into()),
            persistent: true,
            epoch: Some(partial.epoch),
            ..Envelope::default()
        };
        self.numbers += 1;
        self.keeper.post(Kept::Partial(self.numbers, id), message, reach);
    }

    /// Reads what was kept of a source.
    pub(super) fn look(&mut self, slot: Slot, link: LinkId, reach: &mut Reach<'_>) {
        if self.reader_of(link) == Some(slot) {
            let queue = names::snapshot_queue(&self.slots[&slot].source);
            reach.net.send(link, Up::Peek { queue });
        }
    }

    pub(super) fn ack(&mut self, slot: Slot, token: Token, multiple: bool, reach: &mut Reach<'_>) {
        let Some(subscription) = self.slots.get(&slot).filter(|slot| token.0 > slot.base) else { return };
        if !reach.has(Bug::AckOnReceipt) {
            let tag = token.0 - subscription.base;
            reach.net.send(subscription.link, Up::Ack { tag, multiple });
        }
    }

    /// Settlements asked for before are on their way on the same channel, ahead of the cancel.
    pub(super) fn unsubscribe(&mut self, slot: Slot, reach: &mut Reach<'_>) {
        let Some(subscription) = self.slots.get_mut(&slot) else { return };
        subscription.leaving = true;
        self.keeper.take_back(|kept| matches!(kept, Kept::Snapshot(of, _) if *of == slot));
        let link = subscription.link;
        if reach.net.send(link, Up::Cancel) {
            reach.later(CLOSE_TIMEOUT, Job::CloseTimeout(slot));
        } else {
            reach.later(MS, Job::CloseTimeout(slot));
        }
    }

    pub(super) fn publish(&mut self, event: &AlertEvent, reach: &mut Reach<'_>) {
        let mut message = Message::new(names::ALERTS, names::ALERTS, encode(event));
        message.envelope = Envelope { persistent: true, epoch: Some(event.epoch), ..Envelope::default() };
        self.alerts.post(event.id, message, reach);
    }
}
