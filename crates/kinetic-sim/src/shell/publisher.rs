//! A publisher with confirms, as a tool or an agent would be: it repeats what was not confirmed, with the same stamp,
//! number and incarnation.

use std::collections::BTreeMap;
use std::rc::Rc;

use kinetic_wire::{Envelope, Wall};
use uuid::Uuid;

use crate::agenda::LinkId;
use crate::installation::{LEVEL, LEVEL_IN, LEVEL_OUT, METRIC};
use crate::message::{Down, MS, Message, Time, Up};
use crate::shell::{Job, Reach, Tell};

/// A body to publish.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    /// Number in the ledger.
    pub(crate) sample: usize,
    /// When it is measured, true time.
    pub(crate) at: Time,
}

/// What a publisher is to publish.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) exchange: String,
    pub(crate) key: String,
    pub(crate) origin: String,
    pub(crate) persistent: bool,
    pub(crate) inc: Option<u128>,
    /// Its level goes out of line in every other window.
    pub(crate) goes_out: bool,
    /// In order of time.
    pub(crate) bodies: Vec<Body>,
}

impl Orders {
    /// The lines of one sample.
    pub(crate) fn lines(&self, stamp: Wall, value: u64) -> String {
        let is_out = self.goes_out && stamp.as_secs().rem_euclid(120) < 60;
        let level = if is_out { LEVEL_OUT } else { LEVEL_IN };
        format!("{METRIC}:{value}|c\n{LEVEL}:{level}|g")
    }
}

#[derive(Debug)]
pub(crate) struct Shell {
    orders: Rc<Orders>,
    link: LinkId,
    /// Confirm numbers of the present connection.
    in_flight: BTreeMap<u64, usize>,
    returned: Vec<u64>,
    next_confirm: u64,
}

impl Shell {
    pub(crate) fn new(orders: Rc<Orders>, reach: &mut Reach<'_>) -> Self {
        Self { orders, link: reach.link(), in_flight: BTreeMap::new(), returned: Vec::new(), next_confirm: 0 }
    }

    pub(crate) fn tell(&mut self, tell: Tell, reach: &mut Reach<'_>) {
        match tell {
            Tell::Start => self.plan_next(reach),
            Tell::Job(Job::Sample) => {
                let index = reach.disk.next_sample;
                reach.disk.next_sample += 1;
                let stamp = reach.now.wall;
                if let Some(value) = reach.ledger.stamped(self.orders.bodies[index].sample, stamp) {
                    reach.disk.unsent.insert(index, (stamp, value));
                    self.publish(index, reach);
                }
                self.plan_next(reach);
            }
            Tell::Opened(_) | Tell::Job(Job::Resend(_)) => self.resend(reach),
            Tell::Lost(_) => {
                self.in_flight.clear();
                self.returned.clear();
            }
            Tell::Frame(_, Down::Confirm(number)) => {
                let Some(index) = self.in_flight.remove(&number) else { return };
                if self.returned.contains(&number) {
                    reach.later(1000 * MS, Job::Resend(self.link));
                    return;
                }
                reach.disk.unsent.remove(&index);
                reach.ledger.confirmed(self.orders.bodies[index].sample);
            }
            Tell::Frame(_, Down::Nack(number)) => {
                self.in_flight.remove(&number);
                reach.later(500 * MS, Job::Resend(self.link));
            }
            Tell::Frame(_, Down::Returned(number)) => self.returned.push(number),
            Tell::Frame(..) | Tell::Job(_) | Tell::Tick | Tell::Schema(_) | Tell::Shutdown => {}
        }
    }

    fn plan_next(&mut self, reach: &mut Reach<'_>) {
        if let Some(body) = self.orders.bodies.get(reach.disk.next_sample) {
            let wait = body.at.saturating_sub(reach.net.now);
            reach.later(wait, Job::Sample);
        }
    }

    fn resend(&mut self, reach: &mut Reach<'_>) {
        for index in reach.disk.unsent.keys().copied().collect::<Vec<_>>() {
            if !self.in_flight.values().any(|flying| *flying == index) {
                self.publish(index, reach);
            }
        }
    }

    fn publish(&mut self, index: usize, reach: &mut Reach<'_>) {
        if reach.net.conn(self.link).is_none() {
            return;
        }
        let body = &self.orders.bodies[index];
        // The stamp is the moment of the measurement: the same on every repeat.
        let Some((stamp, value)) = reach.disk.unsent.get(&index).copied() else { return };
        let text = self.orders.lines(stamp, value);
        let mut message = Message::new(&self.orders.exchange, &self.orders.key, text.into_bytes());
        message.samples = vec![body.sample];
        message.envelope = Envelope {
            origin: Some(self.orders.origin.clone().into()),
            ts: Some(stamp),
            seq: self.orders.inc.map(|_| index as u64),
            inc: self.orders.inc.map(Uuid::from_u128),
            persistent: self.orders.persistent,
            ..Envelope::default()
        };
        self.next_confirm += 1;
        let confirm = self.next_confirm;
        self.in_flight.insert(confirm, index);
        reach.ledger.sent(body.sample);
        let frame = Up::Publish { confirm: Some(confirm), mandatory: true, message: Rc::new(message) };
        reach.net.send(self.link, frame);
    }
}
