//! The redirector machine: requests and time in, replies out.
//!
//! What it promises: two live leases never own one source; a source that is taken from a live owner goes to another
//! only after a heartbeat no longer holds it; no epoch or term is told to anybody before it is stored; every request
//! is answered exactly once. What it relies on: an analyzer has one request out at a time, ignores the answer to a
//! request it has given up, and holds (in its next heartbeat) whatever grant it has taken up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kinetic_wire::names::rpc;
use kinetic_wire::{
    CustomerName, Drain, Epoch, Goodbye, Heartbeat, Incarnation, LeaseId, LeaseReply, Limits, Login, Mono,
    NodeId, Now, Register, Released, Serves, Term, encode,
};

pub use crate::budget::MoveBudget;
use crate::capacity;
use crate::epochs::Epochs;
pub use crate::flaps::HoldDown;
use crate::fleet::Demand;
use crate::lease::{self, Lease, Leases};
pub use crate::map::{CustomerEntry, Map, MapBuilder, RegionEntry, UnitEntry};
use crate::placing::Placing;
pub use crate::placing::PlacingConfig;
use crate::refusal::Refusal;
use crate::request::{check_holds, check_node, check_version, parse};
use crate::rng::Rng;
use crate::routes::{Question, Routes, Terms};
use crate::stats::Stats;
use crate::view::{self, View};

/// How this redirector runs.
#[derive(Clone, Debug)]
pub struct RedirectorConfig {
    /// Shortest lease; grows with the fleet (`max(ttl, analyzers / 50 s)`).
    pub ttl: Duration,
    /// How long after a lease's end its sources are moved.
    pub grace: Duration,
    /// After start, leases are taken but nothing is moved for this long, so that owners can say what they hold.
    pub listen: Duration,
    /// Analyzers in the table; one more is refused (`overload`, counted).
    pub analyzers_max: usize,
    /// How long a `locate` answer is good.
    pub locate_ttl: Duration,
    /// What clients may send.
    pub limits: Limits,
    /// Seed of jitter and lease ids.
    pub seed: u64,
    /// How sources are placed and moved.
    pub placing: PlacingConfig,
}

/// What survives a restart: written before anything that depends on it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The last term led.
    pub term: Term,
    /// No epoch above this has been given out.
    pub epoch_max: Epoch,
}

/// Handle that the shell mints for a request, so that it can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

/// What the redirector is told.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Time has passed.
    Tick,
    /// A new schema revision stands.
    MapChanged {
        /// The map.
        map: Arc<Map>,
    },
    /// A request arrived.
    Request {
        /// Handle for the answer.
        token: ReplyToken,
        /// Routing key (`kinetic_wire::names::rpc`).
        kind: &'a str,
        /// `user_id`, verified by the broker.
        login: Option<&'a Login>,
        /// JSON body.
        body: &'a [u8],
    },
    /// `Effect::Store` is on disk.
    Stored {
        /// What.
        stored: Stored,
    },
}

/// What the redirector wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this; answer with `Input::Stored`.
    Store {
        /// What.
        stored: Stored,
    },
    /// Answer a request.
    Reply {
        /// Which.
        token: ReplyToken,
        /// JSON body.
        body: Vec<u8>,
    },
}

/// Largest request body; one with 65,536 holds is smaller.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// Most sources that one analyzer may say it holds.
pub const HOLDS_MAX: usize = 65_536;
/// `locate` requests that wait for the first write; one more is refused.
pub const PARKED_MAX: usize = 1024;

/// What remains to be done about a request once sources are settled.
enum Answer {
    Body(Vec<u8>),
    Lease(NodeId),
    Parked,
}

/// The redirector.
#[derive(Debug)]
pub struct Redirector {
    config: RedirectorConfig,
    rng: Rng,
    epochs: Epochs,
    leases: Leases,
    placing: Placing,
    routes: Routes,
    /// Newer routes, whose epoch is not stored yet.
    routes_next: Option<Routes>,
    /// Requests whose answer waits for the disk: one per node, as an analyzer has one out at a time.
    parked_leases: BTreeMap<NodeId, ReplyToken>,
    parked_locates: VecDeque<(ReplyToken, CustomerName)>,
    /// End of the listen period; `None` before the first input.
    listen_until: Option<Mono>,
    listening: bool,
    counted: Stats,
}

impl Redirector {
    /// A redirector that leads from now on, with a term above the stored one.
    #[must_use]
    pub fn new(config: RedirectorConfig, map: Arc<Map>, stored: Stored) -> Self {
        let mut epochs = Epochs::new(&stored);
        // Map versions come from the same counter as epochs: above anything any earlier leadership has said.
        let routes = Routes::new(Arc::clone(&map), epochs.take(), terms(&config));
        let rng = Rng::new(config.seed ^ epochs.term().0.rotate_left(32));
        let placing = Placing::new(config.placing.clone(), Arc::clone(&map));
        Self {
            config,
            rng,
            epochs,
            leases: Leases::default(),
            placing,
            routes,
            routes_next: None,
            parked_leases: BTreeMap::new(),
            parked_locates: VecDeque::new(),
            listen_until: None,
            listening: true,
            counted: Stats::default(),
        }
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        self.pass_time(now, effects);
        let mut answer = None;
        match input {
            Input::Tick => {}
            Input::MapChanged { map } => self.map_changed(now, map),
            Input::Stored { stored } => self.epochs.stored(&stored),
            Input::Request { token, kind, login, body } => {
                let outcome = self.request(now, token, kind, login, body, effects);
                answer = Some((token, outcome));
            }
        }
        self.placing.settle(now, &self.leases, &mut self.epochs);
        if let Some(stored) = self.epochs.wanted() {
            self.counted.stores += 1;
            effects.push(Effect::Store { stored });
        }
        match answer {
            None => {}
            Some((token, Ok(Answer::Body(body)))) => effects.push(Effect::Reply { token, body }),
            Some((token, Ok(Answer::Lease(node)))) => self.answer_lease(now, token, node, effects),
            Some((_, Ok(Answer::Parked))) => {}
            Some((token, Err(refusal))) => self.refuse(token, refusal, effects),
        }
        if self.epochs.leads() {
            self.unpark(now, effects);
        }
    }

    /// When the shell must send a `Tick` at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Mono> {
        let Some(listen_until) = self.listen_until else {
            return Some(Mono(0)); // The term is to be stored before anybody asks.
        };
        let listen = self.listening.then_some(listen_until);
        [listen, self.leases.earliest(), self.placing.next_wakeup()].into_iter().flatten().min()
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let table = &self.placing.table;
        Stats {
            analyzers: self.leases.len(),
            sources_owned: table.owned_total(),
            sources_unowned: table.unowned().len(),
            sources_moving: table.moving(),
            replies_parked: self.parked_leases.len() + self.parked_locates.len(),
            moves: self.placing.moves,
            grants: self.placing.grants,
            adopted: self.placing.adopted,
            claims_incredible: self.placing.claims_incredible,
            balanced: self.placing.balanced,
            changes_overflowed: table.log.overflows,
            presumptions_unknown: self.placing.presumptions_unknown,
            ..self.counted.clone()
        }
    }

    /// All that it knows, for people. Costs as much as there is.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            term: self.epochs.term(),
            revision: self.routes.map.revision().to_owned(),
            map_epoch: self.routes.epoch,
            listening: self.listening,
            analyzers: view::analyzers(&self.leases, &self.placing),
            sources: view::sources(&self.placing.table),
        }
    }

    /// What decides about the size of the fleet ([`crate::scaling`]); `None` while it is not known what there is.
    /// `serves` is what a node could serve that would be started.
    #[must_use]
    pub fn demand(&self, serves: &Serves) -> Option<Demand> {
        let knows = self.epochs.leads() && !self.listening;
        knows.then(|| capacity::demand(&self.leases, &self.placing, serves))
    }

    /// Ends what time has ended: the listen period, and leases.
    fn pass_time(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let listen_until = *self.listen_until.get_or_insert(now.mono + self.config.listen);
        if self.listening && now.mono >= listen_until {
            self.listening = false;
            self.placing.end_of_listening(now, &self.leases, &mut self.epochs);
        }
        while let Some(node) = self.leases.pop_lapsed(now.mono) {
            self.counted.leases_lapsed += 1;
            self.placing.node_lost(now, &node, &self.leases, &mut self.epochs);
            if let Some(token) = self.parked_leases.remove(&node) {
                self.refuse(token, Refusal::UNKNOWN_LEASE, effects);
            }
        }
    }

    fn map_changed(&mut self, now: Now, map: Arc<Map>) {
        let latest = self.routes_next.as_ref().unwrap_or(&self.routes);
        let epoch = if latest.same(&map) { latest.epoch } else { self.epochs.take() };
        self.routes_next = Some(Routes::new(Arc::clone(&map), epoch, terms(&self.config)));
        self.placing.map_changed(now, &map, &self.leases, &mut self.epochs);
        self.swap_routes();
    }

    /// Newer routes stand as soon as their epoch is stored; until then the older ones are answered.
    fn swap_routes(&mut self) {
        if let Some(next) = self.routes_next.take_if(|next| self.epochs.may_say(next.epoch)) {
            self.routes = next;
        }
    }

    fn refuse(&mut self, token: ReplyToken, refusal: Refusal, effects: &mut Vec<Effect>) {
        *self.counted.refusals.entry(refusal.code).or_default() += 1;
        effects.push(Effect::Reply { token, body: refusal.body() });
    }

    fn request(
        &mut self,
        now: Now,
        token: ReplyToken,
        kind: &str,
        login: Option<&Login>,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let known = rpc::ALL.into_iter().find(|known| *known == kind);
        *self.counted.requests.entry(known.unwrap_or("unknown")).or_default() += 1;
        let kind = known.ok_or(Refusal::UNKNOWN_KIND)?;
        if body.len() > REQUEST_BYTES_MAX {
            return Err(Refusal::TOO_LARGE);
        }
        let login = login.ok_or(Refusal::NO_LOGIN)?;
        if kind == rpc::LOCATE {
            return self.locate(now, token, login, body);
        }
        // A customer may write to `kin.rpc`, with any routing key: the login alone tells it from an analyzer.
        // Logins of customers' keys hold a dot (`<customer>.<key>`), those of nodes do not.
        if login.as_str().contains('.') {
            return Err(Refusal::CUSTOMERS_LOGIN);
        }
        match kind {
            rpc::REGISTER => self.register(now, body, effects),
            rpc::HEARTBEAT => self.heartbeat(now, body),
            rpc::DRAIN => self.drain(now, body),
            rpc::GOODBYE => self.goodbye(now, body, effects),
            _ => Err(Refusal::UNKNOWN_KIND),
        }
    }

    fn locate(&mut self, now: Now, token: ReplyToken, login: &Login, body: &[u8]) -> Result<Answer, Refusal> {
        check_version(parse::<Question>(body)?.v)?;
        let customer = login.as_str().split('.').next().unwrap_or_default();
        if self.epochs.may_say(self.routes.epoch) {
            return self.routes.locate(customer, now.wall.as_ms()).map(Answer::Body);
        }
        if self.parked_locates.len() >= PARKED_MAX {
            return Err(Refusal::PARKED_FULL);
        }
        self.parked_locates.push_back((token, login.customer()));
        Ok(Answer::Parked)
    }

    fn register(&mut self, now: Now, body: &[u8], effects: &mut Vec<Effect>) -> Result<Answer, Refusal> {
        let request: Register = parse(body)?;
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
                self.counted.leases_superseded += 1;
                inherited = self.placing.superseded(now, &node);
                if let Some(older) = self.parked_leases.remove(&node) {
                    self.refuse(older, Refusal::SUPERSEDED, effects);
                }
            }
            None if self.leases.len() >= self.config.analyzers_max => return Err(Refusal::FULL),
            None => {}
        }
        self.take_lease(now, &request);
        self.renew(now, &node);
        self.placing.registered(now, &node, &request.holds, &self.leases, &mut self.epochs);
        self.placing.inherit(now, &node, inherited, &self.leases, &mut self.epochs);
        Ok(Answer::Lease(node))
    }

    /// Enters a registration, or brings the present one of the same process up to date.
    fn take_lease(&mut self, now: Now, request: &Register) {
        if let Some(lease) = self.leases.get_mut(&request.node) {
            lease.serves = request.serves.clone();
            lease.capacity = request.capacity;
            lease.schema.clone_from(&request.schema);
            lease.zone.clone_from(&request.zone);
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
        };
        self.leases.insert(request.node.clone(), lease);
    }

    fn heartbeat(&mut self, now: Now, body: &[u8]) -> Result<Answer, Refusal> {
        let request: Heartbeat = parse(body)?;
        check_version(request.v)?;
        check_holds(request.holds.len())?;
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
        self.renew(now, &node);
        self.placing.heartbeat(now, &node, &request.holds, &self.leases, &mut self.epochs);
        Ok(Answer::Lease(node))
    }

    fn drain(&mut self, now: Now, body: &[u8]) -> Result<Answer, Refusal> {
        let request: Drain = parse(body)?;
        check_version(request.v)?;
        self.lease_of(&request.node, request.lease, request.inc)?.draining = true;
        self.renew(now, &request.node);
        let deadline = Duration::from_millis(request.deadline_ms);
        self.placing.drain(now, &request.node, deadline, &self.leases);
        Ok(Answer::Lease(request.node))
    }

    fn goodbye(&mut self, now: Now, body: &[u8], effects: &mut Vec<Effect>) -> Result<Answer, Refusal> {
        let request: Goodbye = parse(body)?;
        check_version(request.v)?;
        self.lease_of(&request.node, request.lease, request.inc)?;
        self.leases.remove(&request.node);
        let released = self.placing.node_left(now, &request.node, &self.leases, &mut self.epochs);
        if let Some(older) = self.parked_leases.remove(&request.node) {
            self.refuse(older, Refusal::UNKNOWN_LEASE, effects);
        }
        Ok(Answer::Body(encode(&Released { ok: true, released, now_ms: now.wall.as_ms() })))
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
    fn answer_lease(&mut self, now: Now, token: ReplyToken, node: NodeId, effects: &mut Vec<Effect>) {
        if let Some(older) = self.parked_leases.remove(&node) {
            self.refuse(older, Refusal::REPLAYED, effects);
        }
        match self.lease_reply(now, &node) {
            Some(body) => effects.push(Effect::Reply { token, body }),
            None => {
                self.parked_leases.insert(node, token);
            }
        }
    }

    /// The whole set that a node owns, or `None` while part of it may not be said.
    fn lease_reply(&mut self, now: Now, node: &NodeId) -> Option<Vec<u8>> {
        let lease = self.leases.get(node)?;
        let grant = self.placing.grants(node);
        if !self.epochs.leads() || grant.iter().any(|grant| !self.epochs.may_say(grant.epoch)) {
            return None;
        }
        let revoke = self.placing.revokes(node);
        let ttl_ms = lease.ttl.as_millis() as u64;
        let answer = LeaseReply {
            ok: true,
            lease: lease.id,
            term: self.epochs.term(),
            ttl_ms,
            heartbeat_ms: (ttl_ms / 3).max(1),
            grant,
            revoke,
            backoff_ms: 0,
            now_ms: now.wall.as_ms(),
        };
        self.placing.announce(node);
        Some(encode(&answer))
    }

    /// Answers what waited for the disk, as things stand now.
    fn unpark(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.swap_routes();
        for (token, customer) in std::mem::take(&mut self.parked_locates) {
            match self.routes.locate(customer.as_str(), now.wall.as_ms()) {
                Ok(body) => effects.push(Effect::Reply { token, body }),
                Err(refusal) => self.refuse(token, refusal, effects),
            }
        }
        for (node, token) in std::mem::take(&mut self.parked_leases) {
            self.answer_lease(now, token, node, effects);
        }
    }
}

/// What every `locate` answer has in common.
fn terms(config: &RedirectorConfig) -> Terms {
    Terms { ttl_s: config.locate_ttl.as_secs().max(1), limits: config.limits }
}
