//! Webhooks as ways out: each is a circuit of its own, so that one that fails or is slow holds up nobody else's. And what
//! becomes of what waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::Schema;
use kinetic_wire::CustomerName;

use crate::circuit::{Circuit, Verdict};
use crate::clock::Steady;
use crate::deliver::Ending;
use crate::id::StreamKey;
use crate::machine::{Alert, Effect};
use crate::webhook;

/// Posts under way to one receiver.
const IN_FLIGHT_PER_RECEIVER_MAX: usize = 4;
/// Posts under way to all of them. A customer may have hundreds that hang for 15 s each.
const IN_FLIGHT_MAX: usize = 64;
/// Posts under way to all receivers of one customer, so that those leave room for the others'.
const IN_FLIGHT_PER_CUSTOMER_MAX: usize = 16;

/// One customer's webhook, by its name as a recipient.
pub(crate) type Receiver = (CustomerName, Arc<str>);

/// All webhooks to which something was posted lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receivers {
    circuits: BTreeMap<Receiver, Circuit>,
}

impl Receivers {
    fn in_flight(&self) -> usize {
        self.circuits.values().map(Circuit::in_flight).sum()
    }

    fn in_flight_of(&self, customer: &CustomerName) -> usize {
        let first = (customer.clone(), Arc::from(""));
        let own = self.circuits.range(first..).take_while(|((name, _), _)| name == customer);
        own.map(|(_, circuit)| circuit.in_flight()).sum()
    }

    /// Posts under way, and how many receivers have failed and not worked since.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let failing = self.circuits.values().filter(|circuit| !circuit.is_closed()).count();
        (self.in_flight(), failing)
    }

    /// Whether any post may begin.
    fn has_room(&self) -> bool {
        self.in_flight() < IN_FLIGHT_MAX
    }

    /// Whether a post to this receiver may begin.
    fn takes(&self, receiver: &Receiver, now: Steady) -> bool {
        let circuit = self.circuits.get(receiver);
        circuit.is_none_or(|circuit| circuit.takes(now, IN_FLIGHT_PER_RECEIVER_MAX))
            && self.in_flight_of(&receiver.0) < IN_FLIGHT_PER_CUSTOMER_MAX
    }

    fn begin(&mut self, receiver: &Receiver) {
        self.circuits.entry(receiver.clone()).or_default().begin();
    }

    /// A post has ended. Returns whether its receiver's circuit has been opened by it.
    pub(crate) fn end(
        &mut self,
        receiver: &Receiver,
        now: Steady,
        verdict: Verdict,
        patience: Duration,
    ) -> bool {
        let Some(circuit) = self.circuits.get_mut(receiver) else { return false };
        let opens = circuit.end(now, verdict, patience);
        if circuit.is_closed() && circuit.in_flight() == 0 {
            self.circuits.remove(receiver);
        }
        opens
    }

    /// When one that failed is to be probed, of those for which something waits.
    fn next(&self, waits: impl Fn(&Receiver) -> bool) -> Option<Steady> {
        let waiting = self.circuits.iter().filter(|(receiver, _)| waits(receiver));
        // Where there is no place for the probe, an attempt that ends makes one.
        let probe = |(receiver, circuit): (&Receiver, &Circuit)| {
            circuit.probe_at().filter(|at| self.takes(receiver, *at))
        };
        waiting.filter_map(probe).min()
    }

    /// Forgets those that the schema names no more, once nothing is on its way to them.
    pub(crate) fn follow(&mut self, schema: &Schema) {
        self.circuits.retain(|(customer, to), circuit| {
            circuit.in_flight() > 0 || webhook::declared(schema, customer, to).is_some()
        });
    }
}

impl Alert {
    /// Whether there is any way by which this recipient may be told.
    pub(crate) fn has_way(&self, stream: &StreamKey) -> bool {
        self.schema.mail.is_some() || webhook::is_webhook(&stream.to)
    }

    /// When a receiver that failed may take what waits for it.
    pub(crate) fn next_receiver(&self) -> Option<Steady> {
        if !self.receivers.has_room() {
            return None;
        }
        self.receivers.next(|receiver| self.outbox.waits_for(receiver))
    }

    /// As many posts as their receivers have places for, in turn.
    pub(crate) fn posts_in_line(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        while self.receivers.has_room() {
            let Some((id, mail)) = self.outbox.next_post(|receiver| self.receivers.takes(receiver, now))
            else {
                return;
            };
            let id = id.clone();
            if self.is_outdated(now, &id, mail) {
                self.mail_ended(now, &id, Ending::Superseded, effects);
                continue;
            }
            let Some(receiver) = mail.receiver().cloned() else { return };
            self.receivers.begin(&receiver);
            let take = self.outbox.take(&id, Arc::clone(&receiver.1));
            self.taken(now, id, receiver.1, take, effects);
        }
    }
}
