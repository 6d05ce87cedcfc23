//! Around the agent: samples in as datagrams, bodies out, over whatever connection `locate` leads to.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use kinetic_agent::machine::{Agent, AgentConfig, Effect, Input, PublishId};
use kinetic_wire::{DataType, Envelope, Incarnation, LocateReply, Mono, Now, Reply, Wall, decode, names};
use uuid::Uuid;

use crate::agenda::LinkId;
use crate::message::{Down, Message, SECOND, Up};
use crate::shell::publisher::Orders;
use crate::shell::requests::Requests;
use crate::shell::{Job, Reach, Tell};

/// How long a redirector may take to answer.
const LOCATE_TIMEOUT: u64 = 5 * SECOND;
/// How long a broker may take to accept a connection.
const CONNECT_TIMEOUT: u64 = 10 * SECOND;

#[derive(Debug)]
struct Flying {
    id: PublishId,
    samples: Vec<usize>,
    returned: bool,
}

#[derive(Debug)]
pub(crate) struct Shell {
    machine: Agent,
    orders: Rc<Orders>,
    questions: Requests,
    publisher: Option<LinkId>,
    /// The publisher's connection stands, as the machine was told.
    is_connected: bool,
    in_flight: BTreeMap<u64, Flying>,
    /// Which sample a line is: by the window that it was stamped into and its value.
    lines: BTreeMap<(i64, u64), usize>,
    numbers: u64,
}

impl Shell {
    pub(crate) fn new(orders: Rc<Orders>, seed: u64, reach: &mut Reach<'_>) -> Self {
        let customer = names::customer_of_exchange(&orders.exchange).unwrap_or_default();
        let login = format!("{customer}.key");
        let config = AgentConfig {
            origin: orders.origin.clone(),
            profile: None,
            routing_key: orders.key.clone(),
            login: Some(login.clone()),
            inc: Incarnation(Uuid::from_u128(u128::from(reach.life.0) << 64 | u128::from(seed))),
            data_type: DataType::Statsd,
            body_bytes: 1 << 16,
            body_age: Duration::from_millis(200),
            buffer_bytes: 1 << 20,
            in_flight_max: 64,
            fallback: Vec::new(),
            seed,
        };
        Self {
            machine: Agent::new(config),
            orders,
            questions: Requests::new(&login, reach),
            publisher: None,
            is_connected: false,
            in_flight: BTreeMap::new(),
            lines: BTreeMap::new(),
            numbers: 0,
        }
    }

    pub(crate) fn wakeup(&self) -> Option<Mono> {
        self.machine.next_wakeup()
    }

    /// False once the machine has stopped.
    pub(crate) fn tell(&mut self, tell: Tell, reach: &mut Reach<'_>) -> bool {
        let now = reach.now;
        let mut effects = Vec::new();
        for question in self.questions.tell(&tell, reach) {
            match question.body.map(|body| decode::<Reply<LocateReply>>(&body)) {
                Some(Ok(Reply::Ok(reply))) => self.machine.handle(now, Input::Located(&reply), &mut effects),
                Some(Ok(Reply::Refused(refused))) => {
                    self.machine.handle(now, Input::LocateRefused(&refused), &mut effects);
                }
                _ => self.machine.handle(now, Input::LocateFailed, &mut effects),
            }
        }
        match tell {
            Tell::Start => {
                self.plan_next(reach);
                self.machine.handle(now, Input::Tick, &mut effects);
            }
            Tell::Tick => self.machine.handle(now, Input::Tick, &mut effects),
            Tell::Job(Job::Sample) => self.sample(now, reach, &mut effects),
            Tell::Job(Job::ConnectTimeout(link)) => {
                if self.publisher == Some(link) && !self.is_connected {
                    self.machine.handle(now, Input::Disconnected, &mut effects);
                }
            }
            Tell::Opened(link) if self.publisher == Some(link) && !self.is_connected => {
                self.is_connected = true;
                self.machine.handle(now, Input::Connected, &mut effects);
            }
            Tell::Lost(link) => self.lost(now, link, &mut effects),
            Tell::Frame(link, frame) => self.frame(now, link, frame, reach, &mut effects),
            Tell::Shutdown => self.machine.handle(now, Input::Shutdown, &mut effects),
            Tell::Opened(_) | Tell::Job(_) | Tell::Schema(_) => {}
        }
        self.perform(now, effects, reach)
    }

    fn plan_next(&self, reach: &mut Reach<'_>) {
        if let Some(body) = self.orders.bodies.get(reach.disk.next_sample) {
            let wait = body.at.saturating_sub(reach.net.now);
            reach.later(wait, Job::Sample);
        }
    }

    fn sample(&mut self, now: Now, reach: &mut Reach<'_>, effects: &mut Vec<Effect>) {
        let sample = self.orders.bodies[reach.disk.next_sample].sample;
        reach.disk.next_sample += 1;
        if let Some(value) = reach.ledger.stamped(sample, now.wall) {
            self.lines.insert((window(now.wall), value), sample);
            let lines = self.orders.lines(now.wall, value);
            self.machine.handle(now, Input::Datagram(lines.as_bytes()), effects);
        }
        self.plan_next(reach);
    }

    fn lost(&mut self, now: Now, link: LinkId, effects: &mut Vec<Effect>) {
        if self.publisher == Some(link) {
            for flying in std::mem::take(&mut self.in_flight).into_values() {
                self.machine.handle(now, Input::Failed { id: flying.id }, effects);
            }
            self.is_connected = false;
            self.machine.handle(now, Input::Disconnected, effects);
        }
    }

    fn frame(
        &mut self,
        now: Now,
        link: LinkId,
        frame: Down,
        reach: &mut Reach<'_>,
        effects: &mut Vec<Effect>,
    ) {
        match frame {
            Down::Pushed => self.machine.handle(now, Input::Nudged, effects),
            Down::Confirm(number) if self.publisher == Some(link) => {
                let Some(flying) = self.in_flight.remove(&number) else { return };
                if flying.returned {
                    self.machine.handle(now, Input::Unroutable { id: flying.id }, effects);
                } else {
                    flying.samples.iter().for_each(|sample| reach.ledger.confirmed(*sample));
                    self.machine.handle(now, Input::Confirmed { id: flying.id }, effects);
                }
            }
            Down::Nack(number) if self.publisher == Some(link) => {
                let Some(flying) = self.in_flight.remove(&number) else { return };
                self.machine.handle(now, Input::Failed { id: flying.id }, effects);
            }
            Down::Returned(number) if self.publisher == Some(link) => {
                if let Some(flying) = self.in_flight.get_mut(&number) {
                    flying.returned = true;
                }
            }
            _ => {}
        }
    }

    fn perform(&mut self, now: Now, effects: Vec<Effect>, reach: &mut Reach<'_>) -> bool {
        let mut more = Vec::new();
        for effect in effects {
            match effect {
                Effect::Locate { body } => {
                    self.numbers += 1;
                    self.questions.ask(self.numbers, names::rpc::LOCATE, body, LOCATE_TIMEOUT, reach);
                }
                // The model's broker lets everybody in.
                Effect::Renew { .. } => {}
                Effect::Connect { .. } => {
                    if let Some(old) = self.publisher.take() {
                        // What is in flight on it comes back: its confirms are not waited for here.
                        for flying in std::mem::take(&mut self.in_flight).into_values() {
                            self.machine.handle(now, Input::Failed { id: flying.id }, &mut more);
                        }
                        reach.net.close(old);
                    }
                    let link = reach.link();
                    (self.publisher, self.is_connected) = (Some(link), false);
                    reach.later(CONNECT_TIMEOUT, Job::ConnectTimeout(link));
                }
                Effect::Publish { id, exchange, routing_key, envelope, body } => {
                    if !self.publish(id, (&exchange, &routing_key), *envelope, body, reach) {
                        self.machine.handle(now, Input::Failed { id }, &mut more);
                    }
                }
                Effect::Complain { .. } => {}
                Effect::Stopped => return false,
            }
        }
        more.is_empty() || self.perform(now, more, reach)
    }

    fn publish(
        &mut self,
        id: PublishId,
        (exchange, key): (&str, &str),
        envelope: Envelope<'static>,
        body: Vec<u8>,
        reach: &mut Reach<'_>,
    ) -> bool {
        let Some(link) = self.publisher.filter(|link| reach.net.conn(*link).is_some()) else { return false };
        let stamp = envelope.ts.unwrap_or_default();
        let mut message = Message::new(exchange, key, body);
        message.samples = self.samples_of(stamp, &message.body);
        message.envelope = envelope;
        message.samples.iter().for_each(|sample| reach.ledger.sent(*sample));
        self.numbers += 1;
        let flying = Flying { id, samples: message.samples.clone(), returned: false };
        self.in_flight.insert(self.numbers, flying);
        let frame = Up::Publish { confirm: Some(self.numbers), mandatory: true, message: Rc::new(message) };
        reach.net.send(link, frame)
    }

    /// Which samples a body carries: its stamp tells the window, the values tell the rest.
    fn samples_of(&self, stamp: Wall, body: &[u8]) -> Vec<usize> {
        let text = String::from_utf8_lossy(body);
        let values = text.lines().filter_map(|line| {
            line.strip_prefix(crate::installation::METRIC)?
                .strip_prefix(':')?
                .strip_suffix("|c")?
                .parse()
                .ok()
        });
        values.filter_map(|value: u64| self.lines.get(&(window(stamp), value)).copied()).collect()
    }
}

/// Number of the window that a moment lies in.
fn window(at: Wall) -> i64 {
    at.as_secs().div_euclid(60)
}
