//! The leader's requests: who registers, lives, leaves, is relieved; and what `locate` is answered.

use std::time::Duration;

use kinetic_wire::{
    Drain, Goodbye, Heartbeat, Incarnation, LeaseId, LeaseReply, Login, NodeId, Now, Register, Released,
    Relieve, Relieved, encode,
};

use crate::lease::{self, Lease};
use crate::listeners::customer;
use crate::machine::{Effect, Redirector, ReplyToken};
use crate::refusal::Refusal;
use crate::request::{Answer, Asked, Question, check_holds, check_node, check_version, parse};
use crate::routes::{self, Asker, Wanted};

/// With this many requests waiting behind one, whoever asks is told to slow down.
const WAITING_BUSY: usize = 64;
/// After a takeover everybody registers at once; so long, answers spread the next requests.
const TAKEOVER_BUSY: Duration = Duration::from_secs(5);
/// Largest `locate`: a customer's login can send any.
const QUESTION_BYTES_MAX: usize = 16 << 10;
/// Longest that a busy redirector asks a client to wait beyond its refresh, seconds.
const BACKOFF_S_MAX: u64 = 30;

impl Redirector {
    pub(crate) fn locate(&mut self, now: Now, login: &Login, asked: &Asked<'_>) -> Result<Answer, Refusal> {
        if asked.body.len() > QUESTION_BYTES_MAX {
            return Err(Refusal::TOO_LARGE);
        }
        let question: Question<'_> = parse(asked.body)?;
        check_version(question.v)?;
        let customer = customer(login);
        let ttl = self.config.locate_ttl.max(Duration::from_secs(1));
        // Four fifths of the time that the answer is good, less up to a tenth, so that clients do not come back together.
        let refresh_s = (ttl.as_secs() * 4 / 5).max(1);
        let refresh_s = refresh_s - self.rng.up_to(refresh_s / 10);
        let backoff_s = if self.waiting >= WAITING_BUSY { 1 + self.rng.up_to(BACKOFF_S_MAX - 1) } else { 0 };
        self.counted.slowed += u64::from(backoff_s > 0);
        let at = routes::Now { refresh_s, backoff_s, now_ms: now.wall.as_ms() };
        let Question { client, origin, profile, data_types, listen, .. } = &question;
        let wants = Wanted { profile: profile.as_ref().map(|profile| &*profile.0), data_types: *data_types };
        if *listen && let Some(caller) = asked.caller {
            // Also who is refused: the schema can change.
            let says = self.answers.routes.says(customer, &wants);
            let forgotten = now.mono + ttl * 2;
            self.listeners.answered((login, *client), caller.clone(), wants, says, forgotten);
        }
        // Without an origin the process itself is one.
        let asker = match origin {
            Some(origin) => Asker::Origin(&origin.0),
            None => Asker::Client(*client),
        };
        self.answers.routes.locate(customer, &wants, asker, self.answers.version, at).map(Answer::Body)
    }

    pub(crate) fn register(
        &mut self,
        now: Now,
        asked: &Asked<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let request: Register = parse(asked.body)?;
        check_version(request.v)?;
        check_node(&request.node)?;
        check_holds(request.holds.len())?;
        let node = request.node.clone();
        let mut inherited = Vec::new();
        match self.leases.get(&node) {
            Some(lease) if lease.inc > request.inc => return Err(Refusal::SUPERSEDED),
            Some(lease) if lease.inc == request.inc => {}
            Some(_) => {
                // The operator's name says that the older process is gone; if it is not, it is fenced by the epochs.
                self.leases.remove(&node);
                // Its witness queue has the newer one's place before ours only once we queue up anew.
                self.unwatch(&node, effects);
                self.counted.leases_superseded += 1;
                inherited = self.placing.superseded(now, &node);
                if let Some(older) = self.parked.remove(&node) {
                    self.refuse(older, Refusal::SUPERSEDED, effects);
                }
            }
            None if self.leases.len() >= self.config.analyzers_max => return Err(Refusal::FULL),
            None => {}
        }
        // What an operator told an earlier leader, of whose map we may have no copy. What it was told since, we know better.
        let relieved = request.relieved.is_some_and(|term| term < self.epochs.term());
        if relieved && self.leases.get(&node).is_none() && !self.placing.relieve(now, &node, &self.leases) {
            self.counted.relieved_overflows += 1;
        }
        self.take_lease(now, &request);
        self.heard_from(&node, asked, request.witness, effects);
        self.renew(now, &node);
        self.placing.registered(now, &node, &request.holds, &self.leases, &mut self.epochs);
        self.placing.inherit(now, &node, inherited, &self.leases, &mut self.epochs);
        self.teller.analyzer(&node);
        Ok(Answer::Lease(node))
    }

    /// Enters a registration, or brings the present one of the same process up to date.
    fn take_lease(&mut self, now: Now, request: &Register) {
        if let Some(lease) = self.leases.get_mut(&request.node) {
            lease.serves = request.serves.clone();
            lease.capacity = request.capacity;
            lease.zone.clone_from(&request.zone);
            lease.schema.clone_from(&request.schema);
            lease.generation = request.generation;
            return;
        }
        let lease = Lease {
            id: self.rng.lease(now.wall.as_ms()),
            inc: request.inc,
            serves: request.serves.clone(),
            capacity: request.capacity,
            schema: request.schema.clone(),
            load: 0.0,
            lag_ms: 0,
            seq: None,
            ttl: Duration::ZERO,
            lapses: now.mono,
            since: now.wall,
            draining: false,
            zone: request.zone.clone(),
            generation: request.generation,
            caller: None,
            nudged: false,
        };
        self.leases.insert(request.node.clone(), lease);
        if self.listening {
            // In a larger fleet leases are longer: an owner that has not been heard yet may be later than was thought.
            let whole = self.whole_lease(self.leases.len());
            self.listen_until = self.listen_until.max(self.serving_since + whole);
        }
    }

    pub(crate) fn heartbeat(
        &mut self,
        now: Now,
        asked: &Asked<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let request: Heartbeat = parse(asked.body)?;
        check_version(request.v)?;
        check_holds(request.holds.len().max(request.evacuated.len()))?;
        let node = request.node;
        let lease = self.lease_of(&node, request.lease, request.inc)?;
        if lease.seq.is_some_and(|last| last >= request.seq) {
            return Err(Refusal::REPLAYED);
        }
        lease.seq = Some(request.seq);
        lease.load = request.load;
        lease.lag_ms = request.lag_ms;
        lease.schema = request.schema;
        lease.generation = request.generation;
        self.heard_from(&node, asked, request.witness, effects);
        self.renew(now, &node);
        let said = (request.holds.as_slice(), request.evacuated.as_slice());
        self.placing.heartbeat(now, &node, said, &self.leases, &mut self.epochs);
        Ok(Answer::Lease(node))
    }

    /// A node speaks: it can be reached where it asked from, and the broker is its witness, or not.
    fn heard_from(&mut self, node: &NodeId, asked: &Asked<'_>, witness: bool, effects: &mut Vec<Effect>) {
        if let Some(lease) = self.leases.get_mut(node) {
            lease.caller = asked.caller.cloned();
            lease.nudged = false;
        }
        if !witness {
            self.unwatch(node, effects);
        } else if self.watching.insert(node.clone()) {
            effects.push(Effect::Watch { node: node.clone() });
        }
    }

    pub(crate) fn unwatch(&mut self, node: &NodeId, effects: &mut Vec<Effect>) {
        if self.watching.remove(node) {
            effects.push(Effect::Unwatch { node: node.clone() });
        }
    }

    /// The broker says that a node's connection has ended. The node may live: then it speaks up, for it is asked to.
    pub(crate) fn witnessed(&mut self, now: Now, node: &NodeId, effects: &mut Vec<Effect>) {
        // What an earlier watch has still to say is no news about this one.
        if !self.watching.contains(node) {
            return;
        }
        self.unwatch(node, effects);
        self.counted.witnessed += 1;
        self.leases.cut(node, now.mono);
        self.nudge(node);
    }

    /// Tells a node to heartbeat now, unless it has been told since it last spoke.
    pub(crate) fn nudge(&mut self, node: &NodeId) {
        if let Some(lease) = self.leases.get_mut(node)
            && !lease.nudged
            && let Some(caller) = lease.caller.clone()
        {
            lease.nudged = true;
            self.nudges.add(caller);
        }
    }

    pub(crate) fn drain(&mut self, now: Now, body: &[u8]) -> Result<Answer, Refusal> {
        let request: Drain = parse(body)?;
        check_version(request.v)?;
        self.lease_of(&request.node, request.lease, request.inc)?.draining = true;
        self.renew(now, &request.node);
        let deadline = Duration::from_millis(request.deadline_ms.min(DRAIN_MS_MAX));
        self.placing.drain(now, &request.node, deadline, &self.leases);
        self.teller.analyzer(&request.node);
        Ok(Answer::Lease(request.node))
    }

    pub(crate) fn goodbye(
        &mut self,
        now: Now,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let request: Goodbye = parse(body)?;
        check_version(request.v)?;
        self.lease_of(&request.node, request.lease, request.inc)?;
        self.leases.remove(&request.node);
        self.unwatch(&request.node, effects);
        self.teller.analyzer_gone(&request.node);
        let released = self.placing.node_left(now, &request.node, &self.leases, &mut self.epochs);
        if let Some(older) = self.parked.remove(&request.node) {
            self.refuse(older, Refusal::UNKNOWN_LEASE, effects);
        }
        Ok(Answer::Body(encode(&Released { ok: true, released, now_ms: now.wall.as_ms() })))
    }

    /// An operator wants a node to have nothing more to do, or to have it again.
    pub(crate) fn relieve(&mut self, now: Now, body: &[u8]) -> Result<Answer, Refusal> {
        let request: Relieve = parse(body)?;
        check_version(request.v)?;
        let node = &request.node;
        let known = self.placing.is_relieved(node);
        // It may have stopped in the meantime, and be wanted again.
        if self.leases.get(node).is_none() && !(known && request.undo) {
            return Err(Refusal::UNKNOWN_NODE);
        }
        if request.undo {
            self.placing.reinstate(node);
        } else if !self.placing.relieve(now, node, &self.leases) {
            return Err(Refusal::FULL);
        }
        self.teller.analyzer(node);
        // It is to know, so that it can tell the next leader.
        self.nudge(node);
        let remaining = self.placing.owned_by(node) as u64;
        Ok(Answer::Body(encode(&Relieved { ok: true, remaining, now_ms: now.wall.as_ms() })))
    }

    fn lease_of(&mut self, node: &NodeId, id: LeaseId, inc: Incarnation) -> Result<&mut Lease, Refusal> {
        match self.leases.get_mut(node) {
            Some(lease) if lease.inc > inc => Err(Refusal::SUPERSEDED),
            Some(lease) if lease.inc == inc && lease.id == id => Ok(lease),
            _ => Err(Refusal::UNKNOWN_LEASE),
        }
    }

    /// A lease counts anew, with up to 10 % more than the fleet's size asks for, so that heartbeats spread.
    fn renew(&mut self, now: Now, node: &NodeId) {
        let ttl = lease::ttl(self.config.ttl, self.leases.len());
        let jitter_ms = self.rng.up_to(ttl.as_millis() as u64 / 10);
        let ttl = ttl + Duration::from_millis(jitter_ms);
        self.leases.renew(node, now.mono, ttl, self.config.grace);
    }

    /// Answers with the lease as it stands, or waits until all of it may be said.
    pub(crate) fn answer_lease(
        &mut self,
        now: Now,
        token: ReplyToken,
        node: NodeId,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(older) = self.parked.remove(&node) {
            self.refuse(older, Refusal::REPLAYED, effects);
        }
        match self.lease_reply(now, &node) {
            Some(body) => effects.push(Effect::Reply { token, body }),
            None => {
                self.parked.insert(node, token);
            }
        }
    }

    /// The whole set that a node owns, or `None` while part of it may not be said.
    fn lease_reply(&mut self, now: Now, node: &NodeId) -> Option<Vec<u8>> {
        let backoff_ms = self.backoff_ms(now, node);
        let lease = self.leases.get(node)?;
        let grant = self.placing.grants(node);
        if !self.epochs.leads() || grant.iter().any(|grant| !self.epochs.may_say(grant.epoch)) {
            return None;
        }
        let revoke = self.placing.revokes(node);
        let moving = self.placing.moving_of(&grant);
        let ttl_ms = lease.ttl.as_millis() as u64;
        let answer = LeaseReply {
            ok: true,
            lease: lease.id,
            term: self.epochs.term(),
            ttl_ms,
            heartbeat_ms: (ttl_ms / 3).max(1),
            grant,
            revoke,
            moving,
            backoff_ms,
            relieved: self.placing.is_relieved(node),
            now_ms: now.wall.as_ms(),
        };
        self.placing.announce(node);
        self.counted.slowed += u64::from(backoff_ms > 0);
        self.answered.push(node.clone());
        Some(encode(&answer))
    }

    /// How much longer than its interval a node is to wait: up to a fifth of its lease, so that with the interval (a third) it
    /// still speaks well before it stops by itself (at four fifths).
    fn backoff_ms(&mut self, now: Now, node: &NodeId) -> u64 {
        let taking_over = self.counted.leaderships > 0 && now.mono < self.serving_since + TAKEOVER_BUSY;
        let crowd = self.leases.len() > WAITING_BUSY;
        if self.waiting < WAITING_BUSY && !(taking_over && crowd) {
            return 0;
        }
        let fifth = self.leases.get(node).map_or(0, |lease| lease.ttl.as_millis() as u64 / 5);
        self.rng.up_to(fifth)
    }

    /// Answers what waited for a token, as things stand now.
    pub(crate) fn unpark(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for (node, token) in std::mem::take(&mut self.parked) {
            self.answer_lease(now, token, node, effects);
        }
    }
}

/// Longest deadline of a `drain` that is believed, milliseconds: a day.
const DRAIN_MS_MAX: u64 = 86_400_000;
