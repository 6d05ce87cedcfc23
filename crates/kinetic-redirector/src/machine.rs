//! The redirector machine: requests, tokens, what other redirectors tell, and time in; replies out.
//!
//! One of all redirectors leads: it alone gives and takes sources. The others stand by: they keep a copy of the map, and answer
//! `locate` from their own schema (docs/adr/0005).
//!
//! What it promises: two live leases never own one source; a source that is taken from a live owner goes to another
//! only after a heartbeat no longer holds it; no epoch or term is told to anybody before it is stored, and none by who does
//! not lead; every request is answered exactly once, unless its lead ends first: then it is left to the next leader. What it
//! relies on: an analyzer has one request out at a time, ignores the answer to a request it has given up, and holds (in its
//! next heartbeat) whatever grant it has taken up; `Input::Stored` comes only for a token that was delivered back to us while we
//! were still the one to whom tokens are delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kinetic_wire::names::rpc;
use kinetic_wire::{Epoch, Limits, Login, Mono, NodeId, Now, Serves, Term};

pub use crate::budget::MoveBudget;
use crate::capacity;
use crate::epochs::Epochs;
pub use crate::flaps::HoldDown;
use crate::fleet::Demand;
use crate::lease::{self, Leases};
use crate::listeners::Listeners;
pub use crate::map::{AddressOrder, CustomerEntry, Map, MapBuilder, RegionEntry, UnitEntry};
use crate::nudges::Nudges;
use crate::placing::Placing;
pub use crate::placing::{EVACUATION_MAX, PlacingConfig};
use crate::refusal::Refusal;
use crate::request::{Answer, Asked};
use crate::rng::Rng;
use crate::routes::{Answers, Routes, Terms};
use crate::standby::Copy;
use crate::stats::Stats;
use crate::telling::Teller;
use crate::view::{self, View};

/// How this redirector runs.
#[derive(Clone, Debug)]
pub struct RedirectorConfig {
    /// Its name.
    pub node: NodeId,
    /// Shortest lease; grows with the fleet (`max(ttl, analyzers / 50 s)`).
    pub ttl: Duration,
    /// How long after a lease's end its sources are moved.
    pub grace: Duration,
    /// After its first election, leases are taken but nothing is moved for this long, so that owners can say what they hold.
    /// Zero where no owner can be: in an installation that is one process. After a later election, or where another has led
    /// before, it is at least the longest lease that may have been granted, and the grace. Where nobody has ever led, nobody
    /// listens.
    pub listen: Duration,
    /// Analyzers in the table; one more is refused (`overload`, counted).
    pub analyzers_max: usize,
    /// How long a `locate` answer is good.
    pub locate_ttl: Duration,
    /// What clients may send.
    pub limits: Limits,
    /// How sources are placed and moved.
    pub placing: PlacingConfig,
    /// Seed of jitter and lease ids.
    pub seed: u64,
}

/// What survives a leader: in the token, and on its disk. Written before anything that depends on it is said.
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

/// Where somebody who has asked can be reached later. The machine keeps it and hands it back, and reads nothing from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller {
    /// Which of the shell's doors the request came through: the vhost in which the address is good.
    pub door: u32,
    /// The reply-to address.
    pub reply_to: Arc<str>,
}

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
        /// Where its sender listens.
        caller: Option<&'a Caller>,
        /// Requests that wait behind it, as far as the shell can see.
        waiting: usize,
        /// JSON body.
        body: &'a [u8],
    },
    /// A token was delivered to us that we have not published ourselves since our election: we lead, or lead on.
    Elected {
        /// What it says.
        stored: Stored,
    },
    /// The leader's requests are delivered to us from now on: only now owners can say what they hold. Without it the listen period
    /// counts from `Effect::Lead`.
    Serving,
    /// The leader's requests are not delivered to us for now, while the token is ours. `Input::Serving` ends it.
    Deaf,
    /// Tokens are not delivered to us any more: somebody else may lead.
    Deposed,
    /// `Effect::Store` is done: it is on disk, and the token that says so was delivered to us.
    Stored {
        /// What.
        stored: Stored,
    },
    /// A message came on `kin.map`, also one of our own.
    Told {
        /// JSON body: a `kinetic_wire::MapChange`.
        body: &'a [u8],
    },
    /// The answer to `Effect::AskMap`; `None` where there was none in time.
    MapPage {
        /// JSON body: a `kinetic_wire::MapReply` or a refusal.
        body: Option<&'a [u8]>,
    },
    /// The broker has handed us a watched node's witness: its connection has ended.
    Witnessed {
        /// The node.
        node: &'a NodeId,
    },
}

/// What the redirector wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this to disk, and publish a token that says it, until `Input::Stored` can be said of it or `Input::Deposed` is.
    Store {
        /// What.
        stored: Stored,
    },
    /// True: take the leader's requests from now on. False: cancel that, give up all requests that are not answered, and go to the
    /// end of the queue of those who wait for the token.
    Lead(bool),
    /// Answer a request.
    Reply {
        /// Which.
        token: ReplyToken,
        /// JSON body.
        body: Vec<u8>,
    },
    /// Publish on `kin.map`, in this order.
    Tell {
        /// JSON body: a `kinetic_wire::MapChange`.
        body: Vec<u8>,
    },
    /// Ask the leader (`map`); answer with `Input::MapPage`. One is out at a time.
    AskMap {
        /// JSON body: a `kinetic_wire::MapQuestion`.
        body: Vec<u8>,
    },
    /// Tell somebody to ask again now. At most once.
    Nudge {
        /// Whom.
        caller: Caller,
    },
    /// Subscribe to a node's witness queue beside the node itself.
    Watch {
        /// The node.
        node: NodeId,
    },
    /// Cancel that.
    Unwatch {
        /// The node.
        node: NodeId,
    },
}

/// Largest request body; one with 65,536 holds is smaller.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// Most sources that one analyzer may say it holds.
pub const HOLDS_MAX: usize = 65_536;

/// The redirector.
#[derive(Debug)]
pub struct Redirector {
    pub(crate) config: RedirectorConfig,
    pub(crate) rng: Rng,
    pub(crate) epochs: Epochs,
    pub(crate) leases: Leases,
    pub(crate) placing: Placing,
    pub(crate) answers: Answers,
    pub(crate) listeners: Listeners,
    pub(crate) nudges: Nudges,
    /// Requests whose answer waits for a token: one per node, as an analyzer has one out at a time.
    pub(crate) parked: BTreeMap<NodeId, ReplyToken>,
    /// Nodes whose witness we wait for.
    pub(crate) watching: BTreeSet<NodeId>,
    pub(crate) copy: Copy,
    pub(crate) teller: Teller,
    /// We take the leader's requests.
    pub(crate) serving: bool,
    /// Since when.
    pub(crate) serving_since: Mono,
    /// Since when none is delivered to us.
    pub(crate) deaf_since: Option<Mono>,
    pub(crate) listening: bool,
    pub(crate) listen_until: Mono,
    /// Requests that waited behind the last one.
    pub(crate) waiting: usize,
    /// Nodes that were answered in this step: they know how things stand.
    pub(crate) answered: Vec<NodeId>,
    pub(crate) counted: Stats,
}

impl Redirector {
    /// A standby that knows of its own disk, until it is elected.
    #[must_use]
    pub fn new(config: RedirectorConfig, map: Arc<Map>, stored: Stored) -> Self {
        Self {
            rng: Rng::new(config.seed),
            epochs: Epochs::new(&stored),
            leases: Leases::default(),
            placing: Placing::new(config.placing.clone(), Arc::clone(&map)),
            answers: Answers::new(Routes::new(map, terms(&config))),
            listeners: Listeners::default(),
            nudges: Nudges::default(),
            parked: BTreeMap::new(),
            watching: BTreeSet::new(),
            copy: Copy::default(),
            teller: Teller::default(),
            serving: false,
            serving_since: Mono(0),
            deaf_since: None,
            listening: false,
            listen_until: Mono(0),
            waiting: 0,
            answered: Vec::new(),
            counted: Stats::default(),
            config,
        }
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        self.pass_time(now, effects);
        let mut answer = None;
        match input {
            Input::Tick => {}
            Input::MapChanged { map } => self.map_changed(now, map),
            Input::Elected { stored } => self.elected(&stored),
            Input::Serving => self.serves(now),
            Input::Deaf => self.deafened(now),
            Input::Deposed => self.depose(effects),
            Input::Stored { stored } => self.stored(now, &stored, effects),
            Input::Told { body } => self.told(now, body, effects),
            Input::MapPage { body } => self.page(now, body),
            Input::Witnessed { node } => self.witnessed(now, node, effects),
            Input::Request { token, kind, login, caller, waiting, body } => {
                self.waiting = waiting;
                let asked = Asked { kind, login, caller, body };
                answer = Some((token, self.request(now, asked, effects)));
            }
        }
        self.follow_up(now, answer, effects);
    }

    /// What follows from any input.
    fn follow_up(
        &mut self,
        now: Now,
        answer: Option<(ReplyToken, Result<Answer, Refusal>)>,
        effects: &mut Vec<Effect>,
    ) {
        self.answered.clear();
        if self.serving {
            self.placing.settle(now, &self.leases, &mut self.epochs);
        }
        if !self.epochs.stands_by() && self.answers.wants_version() {
            let version = self.epochs.take();
            self.answers.store(version);
        }
        if let Some(stored) = self.epochs.wanted() {
            self.counted.stores += 1;
            effects.push(Effect::Store { stored });
        }
        if self.answers.stored(|version| self.epochs.may_say(version)) {
            self.answers_changed();
        }
        match answer {
            None => {}
            Some((token, Ok(Answer::Body(body)))) => effects.push(Effect::Reply { token, body }),
            Some((token, Ok(Answer::Lease(node)))) => self.answer_lease(now, token, node, effects),
            Some((token, Err(refusal))) => self.refuse(token, refusal, effects),
        }
        if self.epochs.leads() {
            self.unpark(now, effects);
            self.tell(now, effects);
        } else if self.epochs.stands_by() {
            self.ask_map(now, effects);
        }
        self.nudges.leave(now.mono, effects);
    }

    /// When the shell must send a `Tick` at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Mono> {
        let nudges = self.nudges.next();
        if self.serving {
            let tell = self.epochs.leads().then(|| self.teller.next());
            let wakeups = [self.next_end(), self.placing.next_wakeup(), tell, nudges];
            return wakeups.into_iter().flatten().min();
        }
        // Who is elected copies from nobody, however long its term takes to be stored.
        let copy = self.copy.next().filter(|_| self.epochs.stands_by());
        [copy, nudges].into_iter().flatten().min()
    }

    /// Whether it leads, with its term stored.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.serving && self.epochs.leads()
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let table = &self.placing.table;
        let [evacuations, evacuations_overdue] = self.placing.evacuations_ended();
        Stats {
            leading: self.leads(),
            listening: self.listening,
            term: self.epochs.term(),
            map_version: self.answers.version,
            copy_whole: self.copy.is_whole(),
            copy_restarts: self.copy.restarts,
            analyzers: self.leases.len(),
            sources_owned: table.owned_total(),
            sources_unowned: table.unowned().len(),
            sources_moving: table.moving(),
            replies_parked: self.parked.len(),
            moves: self.placing.moves,
            grants: self.placing.grants,
            adopted: self.placing.adopted,
            sources_evacuating: self.placing.evacuating(),
            evacuations,
            evacuations_overdue,
            claims_incredible: self.placing.claims_incredible,
            balanced: self.placing.balanced,
            changes_overflowed: table.log.overflows,
            presumptions_unknown: self.placing.presumptions_unknown,
            listeners: self.listeners.len(),
            listeners_refused: self.listeners.refused,
            nudges: self.nudges.left,
            nudges_dropped: self.nudges.dropped,
            told: self.teller.told,
            told_overflows: self.teller.overflows,
            ..self.counted.clone()
        }
    }

    /// All that it knows, for people. Costs as much as there is.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            leading: self.leads(),
            term: self.epochs.term(),
            revision: self.answers.routes.map.revision().to_owned(),
            map_epoch: self.answers.version,
            listening: self.listening,
            analyzers: view::analyzers(&self.leases, &self.placing),
            sources: view::sources(&self.placing.table),
        }
    }

    /// What decides about the size of the fleet ([`crate::scaling`]); `None` while it is not known what there is.
    /// `serves` is what a node could serve that would be started.
    #[must_use]
    pub fn demand(&self, serves: &Serves) -> Option<Demand> {
        let knows = self.leads() && !self.listening;
        knows.then(|| capacity::demand(&self.leases, &self.placing, serves))
    }

    /// Ends what time has ended: the listen period, and leases.
    fn pass_time(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.listeners.forget(now.mono);
        if !self.serving || self.is_deaf(now, effects) {
            return;
        }
        while let Some(node) = self.leases.pop_lapsed(now.mono) {
            self.counted.leases_lapsed += 1;
            self.unwatch(&node, effects);
            self.teller.analyzer_gone(&node);
            self.placing.node_lost(now, &node, &self.leases, &mut self.epochs);
            if let Some(token) = self.parked.remove(&node) {
                self.refuse(token, Refusal::UNKNOWN_LEASE, effects);
            }
        }
        if self.listening && now.mono >= self.listen_until {
            self.listening = false;
            self.placing.end_of_listening(now, &self.leases, &mut self.epochs);
        }
    }

    fn map_changed(&mut self, now: Now, map: Arc<Map>) {
        if self.answers.offer(Routes::new(Arc::clone(&map), terms(&self.config))) {
            self.answers_changed();
        }
        // On a standby every owner is presumed: nothing is given to anybody.
        self.placing.map_changed(now, &map, &self.leases, &mut self.epochs);
        // Before their clients follow a move, owners stop judging: a window of which the rest comes elsewhere is not whole.
        for node in self.placing.movers() {
            self.nudge(&node);
        }
    }

    /// What clients are answered is another than before: those who listen are to hear of it.
    pub(crate) fn answers_changed(&mut self) {
        self.listeners.changed(&self.answers.routes, &mut self.nudges);
    }

    /// A token came: our term is to be above it. Until that is stored, nothing is said.
    fn elected(&mut self, stored: &Stored) {
        if self.epochs.elect(stored) {
            self.counted.elections += 1;
        }
    }

    fn stored(&mut self, now: Now, stored: &Stored, effects: &mut Vec<Effect>) {
        if !self.epochs.stored(stored) || self.serving {
            return;
        }
        self.serving = true;
        self.serving_since = now.mono;
        let listen = self.listen_for();
        self.listening = !listen.is_zero();
        self.listen_until = now.mono + listen;
        self.copy.stop();
        self.teller.begin();
        self.placing.presume_all();
        // What changed while it was a copy, nobody copies from us.
        self.placing.take_changes();
        if !self.listening {
            self.placing.end_of_listening(now, &self.leases, &mut self.epochs);
        }
        self.counted.leaderships += 1;
        effects.push(Effect::Lead(true));
    }

    /// How long to listen before anything is given away.
    fn listen_for(&self) -> Duration {
        let first = self.counted.leaderships == 0 && !self.copy.has_heard();
        if first && self.epochs.term() == Term(1) {
            return Duration::ZERO;
        }
        if first {
            self.config.listen
        } else {
            self.config.listen.max(self.whole_lease(self.copy.analyzers.len()))
        }
    }

    /// How long after the last renewal anybody in a fleet of this size may hold a source.
    pub(crate) fn whole_lease(&self, analyzers: usize) -> Duration {
        lease::longest(self.config.ttl, analyzers) + self.config.grace
    }

    /// Somebody else may lead: stop at once, and answer nobody.
    pub(crate) fn depose(&mut self, effects: &mut Vec<Effect>) {
        if self.epochs.stands_by() {
            return;
        }
        self.epochs.depose();
        self.answers.depose();
        for node in std::mem::take(&mut self.watching) {
            effects.push(Effect::Unwatch { node });
        }
        // Analyzers have to register with the next leader in any case; who leads then adopts what they hold.
        self.leases.clear();
        self.parked.clear();
        self.placing.presume_all();
        (self.serving, self.listening, self.deaf_since) = (false, false, None);
        self.copy.begin();
        self.counted.deposed += 1;
        effects.push(Effect::Lead(false));
    }

    pub(crate) fn refuse(&mut self, token: ReplyToken, refusal: Refusal, effects: &mut Vec<Effect>) {
        *self.counted.refusals.entry(refusal.code).or_default() += 1;
        effects.push(Effect::Reply { token, body: refusal.body() });
    }

    /// Which requests somebody may make at all.
    fn request(&mut self, now: Now, asked: Asked<'_>, effects: &mut Vec<Effect>) -> Result<Answer, Refusal> {
        let known = rpc::ALL.into_iter().find(|known| *known == asked.kind);
        *self.counted.requests.entry(known.unwrap_or("unknown")).or_default() += 1;
        let kind = known.ok_or(Refusal::UNKNOWN_KIND)?;
        if asked.body.len() > REQUEST_BYTES_MAX {
            return Err(Refusal::TOO_LARGE);
        }
        let login = asked.login.ok_or(Refusal::NO_LOGIN)?;
        if kind == rpc::LOCATE {
            return self.locate(now, login, &asked);
        }
        // A customer may write to `kin.rpc`, with any routing key: the login alone tells it from an analyzer.
        // Logins of customers' keys hold a dot (`<customer>.<key>`), those of nodes do not.
        if login.as_str().contains('.') {
            return Err(Refusal::CUSTOMERS_LOGIN);
        }
        if !self.serving {
            return Err(Refusal::NOT_LEADER);
        }
        match kind {
            rpc::REGISTER => self.register(now, &asked, effects),
            rpc::HEARTBEAT => self.heartbeat(now, &asked, effects),
            rpc::DRAIN => self.drain(now, asked.body),
            rpc::GOODBYE => self.goodbye(now, asked.body, effects),
            rpc::MAP => self.map_page(now, asked.body),
            rpc::RELIEVE => self.relieve(now, asked.body),
            _ => Err(Refusal::UNKNOWN_KIND),
        }
    }
}

/// What every `locate` answer has in common.
fn terms(config: &RedirectorConfig) -> Terms {
    Terms { ttl_s: config.locate_ttl.as_secs().max(1), limits: config.limits }
}
