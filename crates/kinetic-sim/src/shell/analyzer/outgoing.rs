//! What an analyzer's shell sends.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use kinetic_analyzer::machine::{RequestId, Slot};
use kinetic_wire::{AlertId, Envelope, SourceKey, Token, encode, names};

use super::{CLOSE_TIMEOUT, Gate, KNOCK_MAX, Shell, Subscription};
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
        reach
            .net
            .send(self.keeper, Up::Publish { confirm: None, mandatory: true, message: Rc::new(message) });
        reach.later(wait, Job::Knock(slot, link, (wait * 2).min(KNOCK_MAX)));
    }

    /// Sends itself a message through a source's queue, to see whether it is the one who is delivered it.
    pub(super) fn probe(&mut self, slot: Slot, timeout: Duration, reach: &mut Reach<'_>) {
        let Some(known) = self.slots.get_mut(&slot) else { return };
        self.next_confirm += 1;
        let number = self.next_confirm;
        known.probed = Some(number);
        let mut message = Message::new("", &names::source_queue(&known.source), Vec::new());
        message.envelope =
            Envelope { kind: Some(names::TYPE_PROBE.into()), seq: Some(number), ..Envelope::default() };
        reach
            .net
            .send(self.keeper, Up::Publish { confirm: None, mandatory: true, message: Rc::new(message) });
        reach.later(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX), Job::ProbeTimeout(slot, number));
    }

    pub(super) fn keep(&mut self, slot: Slot, seq: u64, reach: &mut Reach<'_>) {
        let Some(keeping) = self.keeping.get_mut(&slot).filter(|keeping| keeping.seq == seq) else { return };
        if keeping.confirm.is_some() || reach.net.conn(self.keeper).is_none() {
            return;
        }
        let mut message = Message::new("", &keeping.queue, keeping.body.clone());
        message.envelope = Envelope { persistent: true, epoch: Some(keeping.epoch), ..Envelope::default() };
        self.next_confirm += 1;
        keeping.confirm = Some(self.next_confirm);
        let confirm = keeping.confirm;
        reach.net.send(self.keeper, Up::Publish { confirm, mandatory: true, message: Rc::new(message) });
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
        self.keeping.remove(&slot);
        let link = subscription.link;
        if reach.net.send(link, Up::Cancel) {
            reach.later(CLOSE_TIMEOUT, Job::CloseTimeout(slot));
        } else {
            reach.later(MS, Job::CloseTimeout(slot));
        }
    }

    pub(super) fn send_request(&mut self, request: RequestId, reach: &mut Reach<'_>) {
        let Some(conn) = reach.net.conn(self.rpc) else { return };
        let Some(asked) = self.asked.get_mut(&request) else { return };
        asked.sent = true;
        let mut message = Message::new(names::RPC_EXCHANGE, asked.kind, asked.body.to_vec());
        message.envelope = Envelope { user_id: Some(self.login.clone().into()), ..Envelope::default() };
        message.reply_to = Some(conn);
        message.correlation = request.0;
        message.expires = Some(asked.expires);
        let frame = Up::Publish { confirm: None, mandatory: true, message: Rc::new(message) };
        reach.net.send(self.rpc, frame);
    }

    /// Publishes an alert event that is not confirmed yet.
    pub(super) fn publish(&mut self, id: AlertId, reach: &mut Reach<'_>) {
        let Some(event) = self.events.get(&id).filter(|_| reach.net.conn(self.publisher).is_some()) else {
            return;
        };
        let mut message = Message::new(names::ALERTS, names::ALERTS, encode(&**event));
        message.envelope = Envelope { persistent: true, epoch: Some(event.epoch), ..Envelope::default() };
        self.next_confirm += 1;
        self.confirms.insert(self.next_confirm, id);
        let frame =
            Up::Publish { confirm: Some(self.next_confirm), mandatory: true, message: Rc::new(message) };
        reach.net.send(self.publisher, frame);
    }
}
