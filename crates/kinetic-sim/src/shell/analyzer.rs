//! Around the analyzer: a link for requests, one for alert events, one for each subscription.

mod outgoing;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use kinetic_analyzer::machine::{Analyzer, AnalyzerConfig, Delivery, Effect, Input, RequestId, Slot};
use kinetic_wire::{AlertId, LeaseReply, Mono, Now, Reply, RpcCode, SourceKey, Token, decode, names};

use crate::agenda::LinkId;
use crate::bug::Bug;
use crate::installation::Revision;
use crate::ledger::{Dropped, Standing};
use crate::message::{Down, MS, Message, SECOND, Time, Up};
use crate::shell::outbox::Outbox;
use crate::shell::requests::{Outcome, Requests};
use crate::shell::{Job, Reach, Tell};

/// Deliveries in flight to one subscription.
const PREFETCH: usize = 40_000;
/// Pause before an alert event is published again.
const PUBLISH_RETRY: Time = 500 * MS;
/// Without a delivery for this long after subscribing, a node knocks,
const KNOCK_FIRST: Time = 200 * MS;
/// and again after this long, then twice as long,
const KNOCK_AGAIN: Time = SECOND;
/// up to this.
const KNOCK_MAX: Time = 30 * SECOND;
/// An empty snapshot queue is looked at once more after this long.
const LOOK_AGAIN: Time = 250 * MS;
/// Pause before a snapshot is published again.
const KEEP_RETRY: Time = 250 * MS;
/// How long a clean close may take.
const CLOSE_TIMEOUT: Time = 5 * SECOND;

/// An event of a subscription.
#[derive(Debug)]
enum Event {
    Delivery { token: u64, redelivered: bool, message: Rc<Message> },
    Lost,
}

/// Whether a subscription's deliveries may be looked at: not before what was kept of the source has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Nothing has been delivered since the subscription began.
    Shut,
    /// What was kept is being read, over this link, once there is one. It was looked at already, and there was nothing.
    Reading(Option<LinkId>, bool),
    Open,
}

/// What goes out on the link for snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    /// Of a subscription, with its number.
    Snapshot(Slot, u64),
    /// The values of a part's window, sent so many before; and the machine's name for them.
    Partial(u64, AlertId),
}

#[derive(Debug)]
struct Subscription {
    link: LinkId,
    source: SourceKey,
    gate: Gate,
    /// What has come meanwhile.
    waiting: VecDeque<Event>,
    /// Last token handed out.
    tokens: u64,
    /// Tokens up to here are of earlier connections.
    base: u64,
    /// Number of the probe that waits for its answer.
    probed: Option<u64>,
    leaving: bool,
}

#[derive(Debug)]
pub(crate) struct Shell {
    machine: Analyzer,
    login: String,
    requests: Requests,
    alerts: Outbox<AlertId>,
    /// For snapshots, the values of parts, and messages to itself through sources' queues.
    keeper: Outbox<Kept>,
    /// Values sent, and messages to itself.
    numbers: u64,
    /// By which the broker bears witness that this process lives.
    witness: LinkId,
    /// The number of the message that this process has put into its witness queue.
    witness_number: u64,
    slots: BTreeMap<Slot, Subscription>,
    standing: Standing,
    /// Samples late, too far ahead, and delivered again for a closed window so far,
    dropped: [u64; 4],
    /// and windows closed without some part's values.
    incomplete: u64,
    /// Time that the process stood still and its clock is made not to show (a planted bug).
    hidden: u64,
    last_told: Mono,
}

/// A revision as the machine is told of it.
fn told(revision: &Revision) -> kinetic_analyzer::machine::Revision {
    kinetic_analyzer::machine::Revision { id: revision.id.clone(), generation: revision.generation }
}

impl Shell {
    pub(crate) fn new(config: AnalyzerConfig, revision: &Revision, reach: &mut Reach<'_>) -> Self {
        Self {
            requests: Requests::new(config.node.as_str(), reach),
            login: config.node.to_string(),
            standing: Standing::default(),
            machine: Analyzer::new(config, revision.schema.clone(), told(revision)),
            alerts: Outbox::new(PUBLISH_RETRY, reach),
            keeper: Outbox::new(KEEP_RETRY, reach),
            numbers: 0,
            witness: reach.link(),
            witness_number: 0,
            slots: BTreeMap::new(),
            dropped: [0; 4],
            incomplete: 0,
            hidden: 0,
            last_told: reach.now.mono,
        }
    }

    pub(crate) fn wakeup(&self) -> Option<Mono> {
        self.machine.next_wakeup().map(|at| Mono(at.0.saturating_add(self.hidden)))
    }

    /// False once the machine has stopped.
    pub(crate) fn tell(&mut self, tell: Tell, reach: &mut Reach<'_>) -> bool {
        let now = self.now(reach);
        let mut effects = Vec::new();
        self.hear(now, &tell, reach, &mut effects);
        match tell {
            Tell::Start | Tell::Tick => self.machine.handle(now, Input::Tick, &mut effects),
            Tell::Opened(link) => self.opened(link, reach),
            Tell::Lost(link) => self.lost(now, link, reach, &mut effects),
            Tell::Frame(link, frame) => self.frame(now, link, frame, reach, &mut effects),
            Tell::Job(Job::Knock(slot, link, wait)) => self.knock(slot, link, wait, reach),
            Tell::Job(Job::ProbeTimeout(slot, number)) => {
                self.probe_timed_out(now, slot, number, &mut effects)
            }
            Tell::Job(Job::ReadAgain(slot)) => {
                if let Some(known) = self.slots.get_mut(&slot).filter(|known| !known.leaving) {
                    known.gate = Gate::Reading(Some(reach.link()), true);
                }
            }
            Tell::Job(Job::CloseTimeout(slot)) => self.unsubscribed(now, slot, reach, &mut effects),
            Tell::Job(_) => {}
            Tell::Schema(revision) => {
                let input =
                    Input::SchemaChanged { schema: revision.schema.clone(), revision: told(&revision) };
                self.machine.handle(now, input, &mut effects);
            }
            Tell::Shutdown => self.machine.handle(now, Input::Shutdown, &mut effects),
        }
        let stopped = self.perform(now, effects, reach);
        let owned =
            self.slots.values().filter(|slot| !slot.leaving).map(|slot| slot.source.clone()).collect();
        reach.ledger.stands(reach.net.now, reach.proc, reach.now.mono, &self.standing, owned);
        self.own_up(now, reach);
        !stopped
    }

    /// What has come of what was asked and published.
    fn hear(&mut self, now: Now, tell: &Tell, reach: &mut Reach<'_>, effects: &mut Vec<Effect>) {
        for Outcome { number, at, body } in self.requests.tell(tell, reach) {
            let request = RequestId(number);
            match body {
                Some(body) => self.replied(now, (request, at), &body, effects),
                None => {
                    self.standing.failed();
                    self.machine.handle(now, Input::RequestFailed { request }, effects);
                }
            }
        }
        if let Some(id) = self.alerts.tell(tell, reach) {
            self.machine.handle(now, Input::Published { id }, effects);
        }
        match self.keeper.tell(tell, reach) {
            Some(Kept::Snapshot(slot, seq)) => {
                self.machine.handle(now, Input::Kept { slot, seq }, effects);
            }
            Some(Kept::Partial(_, id)) => self.machine.handle(now, Input::Published { id }, effects),
            None => {}
        }
    }

    /// Tells the checkers that windows were closed without some part's values, as its counter says.
    fn own_up(&mut self, now: Now, reach: &mut Reach<'_>) {
        if !reach.ledger.has_parts {
            return;
        }
        let incomplete = self.machine.stats(now).windows_incomplete;
        if std::mem::replace(&mut self.incomplete, incomplete) < incomplete {
            reach.ledger.incomplete(reach.net.now);
        }
    }

    fn now(&mut self, reach: &Reach<'_>) -> Now {
        let away = reach.now.mono.since(self.last_told).as_nanos();
        self.last_told = reach.now.mono;
        if reach.has(Bug::SuspendedClock) && away > u128::from(11 * SECOND) {
            self.hidden += u64::try_from(away).unwrap_or(0);
        }
        Now { mono: Mono(reach.now.mono.0.saturating_sub(self.hidden)), wall: reach.now.wall }
    }

    fn slot_of(&self, link: LinkId) -> Option<Slot> {
        self.slots.iter().find(|(_, slot)| slot.link == link).map(|(slot, _)| *slot)
    }

    fn opened(&mut self, link: LinkId, reach: &mut Reach<'_>) {
        if link == self.witness {
            let queue = names::witness_queue(&self.login.as_str().into());
            reach.net.send(link, Up::Witness { queue: queue.clone() });
            self.witness_number = reach.rng.bits();
            let mut message = Message::new("", &queue, Vec::new());
            message.correlation = self.witness_number;
            reach.net.send(link, Up::Publish { confirm: None, mandatory: false, message: Rc::new(message) });
        } else if let Some(slot) = self.reader_of(link) {
            self.look(slot, link, reach);
        } else if let Some(slot) = self.slots.values_mut().find(|slot| slot.link == link && !slot.leaving) {
            slot.base = slot.tokens;
            let queue = names::source_queue(&slot.source);
            reach.net.send(link, Up::Consume { queue, prefetch: PREFETCH });
        }
    }

    fn lost(&mut self, now: Now, link: LinkId, reach: &mut Reach<'_>, effects: &mut Vec<Effect>) {
        if link == self.witness {
            self.machine.handle(now, Input::WitnessChanged { stands: false }, effects);
        } else if let Some(slot) = self.slot_of(link) {
            if self.slots[&slot].leaving {
                self.unsubscribed(now, slot, reach, effects);
            } else {
                self.event(now, slot, Event::Lost, reach, effects);
            }
        }
    }

    fn reader_of(&self, link: LinkId) -> Option<Slot> {
        let reads =
            |slot: &Subscription| matches!(slot.gate, Gate::Reading(Some(reader), _) if reader == link);
        self.slots.iter().find(|(_, slot)| reads(slot)).map(|(slot, _)| *slot)
    }

    fn probe_is_back(&mut self, now: Now, slot: Slot, number: Option<u64>, effects: &mut Vec<Effect>) {
        let Some(known) = self.slots.get_mut(&slot) else { return };
        if known.probed.is_some() && known.probed == number {
            known.probed = None;
            self.machine.handle(now, Input::Probed { slot, ok: true }, effects);
        }
    }

    fn probe_timed_out(&mut self, now: Now, slot: Slot, number: u64, effects: &mut Vec<Effect>) {
        let Some(known) = self.slots.get_mut(&slot) else { return };
        if known.probed == Some(number) {
            known.probed = None;
            self.machine.handle(now, Input::Probed { slot, ok: false }, effects);
        }
    }

    /// What was kept has been read: what has come meanwhile may be looked at.
    fn read(
        &mut self,
        now: Now,
        link: LinkId,
        snapshots: &[Rc<Message>],
        reach: &mut Reach<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(slot) = self.reader_of(link) else { return };
        let Some(known) = self.slots.get_mut(&slot) else { return };
        reach.net.close(link);
        if snapshots.is_empty() && known.gate == Gate::Reading(Some(link), false) {
            known.gate = Gate::Reading(None, true);
            reach.later(LOOK_AGAIN, Job::ReadAgain(slot));
            return;
        }
        known.gate = Gate::Open;
        let bodies: Vec<&[u8]> = snapshots.iter().map(|message| &*message.body).collect();
        self.machine.handle(now, Input::Recalled { slot, snapshots: &bodies }, effects);
        let waiting =
            self.slots.get_mut(&slot).map(|known| std::mem::take(&mut known.waiting)).unwrap_or_default();
        for event in waiting {
            self.event(now, slot, event, reach, effects);
        }
    }

    /// Deals with an event of a subscription, or keeps it for later.
    fn event(
        &mut self,
        now: Now,
        slot: Slot,
        event: Event,
        reach: &mut Reach<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(known) = self.slots.get_mut(&slot) else { return };
        if matches!(known.gate, Gate::Reading(..)) {
            known.waiting.push_back(event);
            return;
        }
        match event {
            Event::Lost => {
                known.gate = Gate::Shut;
                if !reach.has(Bug::LossUntold) {
                    self.machine.handle(now, Input::SubscriptionLost { slot }, effects);
                }
            }
            Event::Delivery { token, redelivered, message } => {
                let is_probe = message.exchange.is_empty()
                    && message.envelope.kind.as_deref() == Some(names::TYPE_PROBE);
                if is_probe {
                    self.ack(slot, Token(token), false, reach);
                    self.probe_is_back(now, slot, message.envelope.seq, effects);
                }
                let Some(known) = self.slots.get_mut(&slot) else { return };
                if known.gate == Gate::Shut {
                    known.gate = Gate::Reading(Some(reach.link()), false);
                    if !is_probe {
                        known.waiting.push_back(Event::Delivery { token, redelivered, message });
                    }
                } else if !is_probe {
                    self.hand_over(now, slot, token, redelivered, &message, reach, effects);
                }
            }
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
            Down::Peeked(snapshots) => self.read(now, link, &snapshots, reach, effects),
            Down::Consuming => {
                if let Some(slot) = self.slot_of(link) {
                    reach.later(KNOCK_FIRST, Job::Knock(slot, link, KNOCK_AGAIN));
                }
            }
            Down::Pushed => self.machine.handle(now, Input::Nudged, effects),
            Down::Deliver { tag, message, .. } if link == self.witness => {
                if message.correlation == self.witness_number {
                    self.machine.handle(now, Input::WitnessChanged { stands: true }, effects);
                } else {
                    // Of an earlier process of this name.
                    reach.net.send(link, Up::Ack { tag, multiple: false });
                }
            }
            Down::Deliver { tag, redelivered, message } => {
                self.delivered(now, (link, tag, redelivered), &message, reach, effects);
            }
            Down::Cancelled => reach.net.close(link),
            _ => {}
        }
    }

    fn replied(
        &mut self,
        now: Now,
        (request, asked_at): (RequestId, Mono),
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) {
        match decode::<Reply<LeaseReply>>(body) {
            Ok(Reply::Ok(reply)) => self.standing.granted(asked_at, reply.ttl_ms, reply.term),
            Ok(Reply::Refused(error)) => self.standing.refused(error.code == RpcCode::UnknownLease),
            Err(_) => {}
        }
        self.machine.handle(now, Input::Replied { request, body }, effects);
    }

    fn delivered(
        &mut self,
        now: Now,
        (link, tag, redelivered): (LinkId, u64, bool),
        message: &Rc<Message>,
        reach: &mut Reach<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(slot) = self.slot_of(link).filter(|slot| !self.slots[slot].leaving) else { return };
        let Some(subscription) = self.slots.get_mut(&slot) else { return };
        subscription.tokens = subscription.base + tag;
        let event = Event::Delivery { token: subscription.tokens, redelivered, message: Rc::clone(message) };
        self.event(now, slot, event, reach, effects);
        let is_partial = message.exchange.as_ref() == names::PARTIALS_EXCHANGE;
        if reach.has(Bug::AckOnReceipt) || (is_partial && reach.has(Bug::PartialsAcked)) {
            reach.net.send(link, Up::Ack { tag, multiple: false });
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a delivery taken apart, where it is put together again")]
    fn hand_over(
        &mut self,
        now: Now,
        slot: Slot,
        token: u64,
        redelivered: bool,
        message: &Rc<Message>,
        reach: &mut Reach<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let delivery = Delivery {
            slot,
            token: Token(token),
            redelivered,
            exchange: &message.exchange,
            routing_key: &message.key,
            envelope: message.envelope.clone(),
            body: &message.body,
        };
        self.machine.handle(now, Input::Delivery(delivery), effects);
        if message.samples.is_empty() {
            return;
        }
        let stats = self.machine.stats(now);
        let counts = [stats.late, stats.future, stats.already_counted, stats.clocks_brought_back];
        let before = std::mem::replace(&mut self.dropped, counts);
        for (index, how) in [Dropped::Late, Dropped::Ahead, Dropped::Again].into_iter().enumerate() {
            if counts[index] > before[index] {
                message.samples.iter().for_each(|sample| reach.ledger.dropped(*sample, message.entered, how));
            }
        }
        if counts[3] > before[3]
            && let Some(sample) = message.samples.first()
        {
            reach.ledger.brought_back(reach.net.now, *sample);
        }
    }

    fn perform(&mut self, now: Now, effects: Vec<Effect>, reach: &mut Reach<'_>) -> bool {
        let mut more = Vec::new();
        let mut stopped = false;
        for effect in effects {
            match effect {
                Effect::Request { request, kind, body, timeout } => {
                    let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(Time::MAX);
                    self.requests.ask(request.0, kind, body, timeout, reach);
                }
                Effect::Subscribe { slot, source, .. } => self.subscribe(slot, source, reach),
                Effect::Probe { slot, .. } if reach.has(Bug::ProbeForged) => {
                    self.machine.handle(now, Input::Probed { slot, ok: true }, &mut more);
                }
                Effect::Probe { slot, timeout } => self.probe(slot, timeout, reach),
                Effect::Unsubscribe { slot } => self.unsubscribe(slot, reach),
                Effect::AckUpTo { slot, token } => self.ack(slot, token, true, reach),
                Effect::AckRange { slot, first, last } => {
                    for token in first.0..=last.0 {
                        self.ack(slot, Token(token), reach.has(Bug::AckTooMuch), reach);
                    }
                }
                Effect::Reject { slot, token } => {
                    let known = self.slots.get(&slot).filter(|slot| token.0 > slot.base);
                    if let Some((link, tag)) = known.map(|slot| (slot.link, token.0 - slot.base)) {
                        reach.net.send(link, Up::Reject { tag });
                    }
                }
                Effect::Keep { slot, seq, source, epoch, body, .. } => {
                    if reach.has(Bug::SnapshotDropped) {
                        self.machine.handle(now, Input::Kept { slot, seq }, &mut more);
                    } else {
                        self.keep((slot, seq), &source, epoch, body, reach);
                    }
                }
                Effect::Forward { id, partial, .. } => {
                    if reach.has(Bug::PartialsUnsent) {
                        self.machine.handle(now, Input::Published { id }, &mut more);
                    } else {
                        self.forward(id, &partial, reach);
                    }
                }
                Effect::Evacuate { source, .. }
                | Effect::Carry { source, .. }
                | Effect::Discard { source, .. } => {
                    unreachable!("this world has one region: {source}")
                }
                Effect::Publish(event) => {
                    let (at, who) = (reach.net.now, (reach.proc, reach.life));
                    reach.ledger.publishes(at, who, reach.now.mono, &self.standing, &event);
                    self.publish(&event, reach);
                    if reach.has(Bug::ConfirmedUnsent) {
                        self.alerts.take_back(|id| *id == event.id);
                        self.machine.handle(now, Input::Published { id: event.id }, &mut more);
                    }
                }
                // Nobody tests this world by hand.
                Effect::Trace(_) => {}
                Effect::Stopped => stopped = true,
            }
        }
        if !more.is_empty() {
            stopped |= self.perform(now, more, reach);
        }
        stopped
    }

    /// Closed, or given up: the machine hears it once.
    fn unsubscribed(&mut self, now: Now, slot: Slot, reach: &mut Reach<'_>, effects: &mut Vec<Effect>) {
        if let Some(subscription) = self.slots.remove(&slot) {
            reach.net.abandon(subscription.link);
            if let Gate::Reading(Some(reader), _) = subscription.gate {
                reach.net.abandon(reader);
            }
            self.machine.handle(now, Input::Unsubscribed { slot }, effects);
        }
    }
}
