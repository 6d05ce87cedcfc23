//! Several redirectors, one token, analyzers that keep the protocol, and a network that loses and delays. Whatever happens, nobody
//! is believed twice, and when it is quiet again there is one leader whose map everybody has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kinetic_redirector::machine::{Effect, Input, Redirector, ReplyToken, Stored};
use kinetic_wire::names::rpc;
use kinetic_wire::{
    Epoch, Incarnation, LeaseReply, Login, MapChange, Mono, Reply, RpcCode, SourceKey, Term, decode,
};
use proptest::prelude::*;

use crate::harness::{GRACE, Peer, START, TTL, caller, config, locate_body, wide_map};

const REDIRECTORS: usize = 3;
const ANALYZERS: usize = 3;
const SOURCES: usize = 6;

/// A token in the queue.
#[derive(Clone, Debug)]
struct Token {
    id: u64,
    stored: Stored,
}

/// A redirector with its shell in miniature.
struct Node {
    machine: Redirector,
    disk: Stored,
    /// The broker delivers tokens to it when its turn comes.
    subscribed: bool,
    /// It has not noticed yet that its subscription has ended.
    blind: bool,
    /// Tokens that it has been delivered.
    held: Vec<Token>,
    /// Its own tokens that have not come back.
    own: BTreeMap<u64, Stored>,
    /// Tokens on their way into the queue.
    publishing: VecDeque<Token>,
    serving: bool,
    /// Requests that it has not answered, by token: the analyzer's number for them.
    waiting: BTreeMap<ReplyToken, u64>,
    /// What it has still to hear on `kin.map`.
    hears: VecDeque<Vec<u8>>,
    /// A page that it has asked for.
    asks: Option<Vec<u8>>,
    lives: u64,
}

struct Analyzer {
    peer: Peer,
    registered: bool,
    /// The request that is out, and when it was sent.
    out: Option<(u64, Mono)>,
    fence: Mono,
    term: Term,
}

#[derive(Clone)]
struct Request {
    number: u64,
    kind: &'static str,
    analyzer: usize,
    body: Vec<u8>,
}

struct World {
    now: kinetic_wire::Now,
    nodes: Vec<Node>,
    analyzers: Vec<Analyzer>,
    /// Tokens that nobody holds.
    queue: VecDeque<Token>,
    /// Who queues up for tokens; the first is delivered them.
    line: Vec<usize>,
    requests: VecDeque<Request>,
    /// Requests that some leader has taken, so that they can be given to the next.
    taken: BTreeMap<u64, Request>,
    /// Answers on their way: by the number of the request.
    answers: BTreeMap<u64, Vec<u8>>,
    numbers: u64,
    incs: u128,
    /// Who said something under a term: redirector and life.
    terms: BTreeMap<Term, (usize, u64)>,
    /// Who was believed to own a source in an epoch.
    believed: BTreeMap<(SourceKey, Epoch), Incarnation>,
}

fn listen() -> Duration {
    TTL * 11 / 10 + GRACE
}

fn node(index: usize, disk: Stored, lives: u64) -> Node {
    let mut config = config(listen());
    config.node = format!("r{index}").as_str().into();
    config.seed += index as u64 + 10 * lives;
    // Balanced within seconds, so that a world that is not quiet after a minute is not quiet.
    config.placing.budget.window = Duration::from_secs(1);
    config.placing.dwell = Duration::from_secs(1);
    config.placing.look_every = Duration::from_secs(1);
    config.placing.hold_down.losses = 0;
    Node {
        machine: Redirector::new(config, Arc::new(wide_map(SOURCES)), disk.clone()),
        disk,
        subscribed: false,
        blind: false,
        held: Vec::new(),
        own: BTreeMap::new(),
        publishing: VecDeque::new(),
        serving: false,
        waiting: BTreeMap::new(),
        hears: VecDeque::new(),
        asks: None,
        lives,
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            now: START,
            nodes: (0..REDIRECTORS).map(|index| node(index, Stored::default(), 0)).collect(),
            analyzers: Vec::new(),
            queue: VecDeque::new(),
            line: Vec::new(),
            requests: VecDeque::new(),
            taken: BTreeMap::new(),
            answers: BTreeMap::new(),
            numbers: 0,
            incs: 0,
            terms: BTreeMap::new(),
            believed: BTreeMap::new(),
        };
        for index in 0..ANALYZERS {
            let analyzer = world.analyzer(index);
            world.analyzers.push(analyzer);
        }
        world
    }

    fn analyzer(&mut self, index: usize) -> Analyzer {
        self.incs += 1;
        let peer = Peer::new(&format!("a{index}"), self.incs);
        Analyzer { peer, registered: false, out: None, fence: Mono(0), term: Term(0) }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn handle(&mut self, index: usize, input: Input<'_>) {
        let mut effects = Vec::new();
        self.nodes[index].machine.handle(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Store { stored } => {
                    let id = self.number();
                    let node = &mut self.nodes[index];
                    assert!(stored.term >= node.disk.term && stored.epoch_max >= node.disk.epoch_max);
                    node.disk = stored.clone();
                    node.own.insert(id, stored.clone());
                    node.publishing.push_back(Token { id, stored });
                }
                Effect::Lead(true) => self.nodes[index].serving = true,
                Effect::Lead(false) => {
                    self.nodes[index].serving = false;
                    for number in std::mem::take(&mut self.nodes[index].waiting).into_values() {
                        let request = self.taken.remove(&number).expect("it was taken once");
                        self.requests.push_front(request);
                    }
                    self.leave_line(index);
                }
                Effect::Reply { token, body } => {
                    let number = self.nodes[index].waiting.remove(&token).expect("answered exactly once");
                    self.taken.remove(&number).expect("answered exactly once");
                    if let Ok(Reply::Ok(reply)) = decode::<Reply<LeaseReply>>(&body) {
                        let who = (index, self.nodes[index].lives);
                        let first = *self.terms.entry(reply.term).or_insert(who);
                        assert_eq!(first, who, "two have led under {:?}", reply.term);
                    }
                    self.answers.insert(number, body);
                }
                Effect::Tell { body } => {
                    self.nodes.iter_mut().for_each(|node| node.hears.push_back(body.clone()));
                }
                Effect::AskMap { body } => self.nodes[index].asks = Some(body),
                Effect::Nudge { .. } | Effect::Watch { .. } | Effect::Unwatch { .. } => {}
            }
        }
    }

    /// Delivers tokens to whom they belong.
    fn deliver_tokens(&mut self) {
        while let Some(&first) = self.line.first()
            && let Some(token) = self.queue.pop_front()
        {
            let node = &mut self.nodes[first];
            node.held.push(token.clone());
            match node.own.remove(&token.id) {
                Some(stored) => {
                    // What it says as well is acknowledged.
                    let covered = |old: &Token| {
                        old.id != token.id
                            && old.stored.term <= stored.term
                            && old.stored.epoch_max <= stored.epoch_max
                    };
                    node.held.retain(|old| !covered(old));
                    self.handle(first, Input::Stored { stored });
                }
                None => self.handle(first, Input::Elected { stored: token.stored }),
            }
        }
    }

    /// The broker ends a subscription; what was held goes back to the head.
    fn leave_line(&mut self, index: usize) {
        self.line.retain(|other| *other != index);
        let node = &mut self.nodes[index];
        (node.subscribed, node.blind) = (false, false);
        for token in std::mem::take(&mut node.held).into_iter().rev() {
            self.queue.push_front(token);
        }
        node.own.clear();
    }

    fn subscribe(&mut self, index: usize) {
        if self.nodes[index].subscribed {
            return;
        }
        let id = self.number();
        let node = &mut self.nodes[index];
        node.subscribed = true;
        node.publishing.push_back(Token { id, stored: node.disk.clone() });
        self.line.push(index);
        self.deliver_tokens();
    }

    /// The broker has lost a redirector's subscription, which that does not know yet.
    fn cut(&mut self, index: usize) {
        if !self.nodes[index].subscribed || self.nodes[index].blind {
            return;
        }
        let own = std::mem::take(&mut self.nodes[index].own);
        self.leave_line(index);
        let node = &mut self.nodes[index];
        (node.subscribed, node.blind, node.own) = (true, true, own);
        self.deliver_tokens();
    }

    fn notice(&mut self, index: usize) {
        if self.nodes[index].blind {
            let node = &mut self.nodes[index];
            (node.subscribed, node.blind) = (false, false);
            node.own.clear();
            self.handle(index, Input::Deposed);
        }
    }

    fn publish(&mut self, index: usize) {
        if let Some(token) = self.nodes[index].publishing.pop_front() {
            self.queue.push_back(token);
            self.deliver_tokens();
        }
    }

    fn crash(&mut self, index: usize) {
        for number in std::mem::take(&mut self.nodes[index].waiting).into_values() {
            let request = self.taken.remove(&number).expect("it was taken once");
            self.requests.push_front(request);
        }
        self.leave_line(index);
        let (disk, lives) = (self.nodes[index].disk.clone(), self.nodes[index].lives + 1);
        self.nodes[index] = node(index, disk, lives);
        self.deliver_tokens();
    }

    /// A leader, or who thinks that it is one, takes the next request.
    fn serve(&mut self, index: usize) {
        if !self.nodes[index].serving {
            return;
        }
        if let Some(body) =
            (0..REDIRECTORS).find_map(|other| self.nodes[other].asks.take().map(|body| (other, body)))
        {
            return self.serve_page(index, body);
        }
        let Some(request) = self.requests.pop_front() else { return };
        let token = ReplyToken(self.number());
        self.nodes[index].waiting.insert(token, request.number);
        self.taken.insert(request.number, request.clone());
        let (login, from) = (Login::new("kinetic"), caller(&format!("a{}", request.analyzer)));
        let (kind, body) = (request.kind, request.body);
        let input =
            Input::Request { token, kind, login: Some(&login), caller: Some(&from), waiting: 0, body: &body };
        self.handle(index, input);
    }

    fn serve_page(&mut self, index: usize, (asker, body): (usize, Vec<u8>)) {
        let number = self.number();
        let (token, login) = (ReplyToken(number), Login::new("kinetic"));
        self.nodes[index].waiting.insert(token, number);
        let request = Request { number, kind: rpc::MAP, analyzer: 0, body: body.clone() };
        self.taken.insert(number, request);
        let input = Input::Request {
            token,
            kind: rpc::MAP,
            login: Some(&login),
            caller: None,
            waiting: 0,
            body: &body,
        };
        self.handle(index, input);
        let page = self.answers.remove(&number);
        self.handle(asker, Input::MapPage { body: page.as_deref() });
    }

    fn hear(&mut self, index: usize) {
        if let Some(body) = self.nodes[index].hears.pop_front() {
            self.handle(index, Input::Told { body: &body });
            self.deliver_tokens();
        }
    }

    /// An analyzer sends what it has to say, unless it waits for an answer.
    fn speak(&mut self, index: usize, arrives: bool) {
        let (now, number) = (self.now.mono, self.number());
        let analyzer = &mut self.analyzers[index];
        if analyzer.out.is_some() {
            return;
        }
        let (kind, body) = if analyzer.registered {
            (rpc::HEARTBEAT, analyzer.peer.heartbeat_body())
        } else {
            (rpc::REGISTER, analyzer.peer.register_body())
        };
        analyzer.out = Some((number, now));
        if arrives {
            self.requests.push_back(Request { number, kind, analyzer: index, body });
        }
    }

    fn receive(&mut self, index: usize) {
        let analyzer = &mut self.analyzers[index];
        let Some((number, sent)) = analyzer.out else { return };
        let Some(body) = self.answers.remove(&number) else { return };
        analyzer.out = None;
        match decode::<Reply<LeaseReply>>(&body).expect("an answer") {
            Reply::Ok(reply) => {
                let fence = sent + Duration::from_millis(reply.ttl_ms * 4 / 5);
                if reply.term < analyzer.term || self.now.mono >= fence {
                    return;
                }
                (analyzer.term, analyzer.fence, analyzer.registered) = (reply.term, fence, true);
                analyzer.peer.obey(&reply);
                for (source, epoch) in &analyzer.peer.holds {
                    let inc = analyzer.peer.inc;
                    let first = *self.believed.entry((source.clone(), *epoch)).or_insert(inc);
                    assert_eq!(first, inc, "two were believed to own {source} in {epoch:?}");
                }
            }
            Reply::Refused(refused) => match refused.code {
                RpcCode::UnknownLease => analyzer.registered = false,
                RpcCode::Superseded => analyzer.peer.holds.clear(),
                _ => {}
            },
        }
    }

    fn step(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        for analyzer in &mut self.analyzers {
            if self.now.mono >= analyzer.fence {
                analyzer.peer.holds.clear();
            }
        }
        for index in 0..REDIRECTORS {
            self.handle(index, Input::Tick);
            self.deliver_tokens();
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Step(ms) => self.step(ms),
            Op::Subscribe(index) => self.subscribe(index),
            Op::Publish(index) => self.publish(index),
            Op::Cut(index) => self.cut(index),
            Op::Notice(index) => self.notice(index),
            Op::Crash(index) => self.crash(index),
            Op::Hear(index) => self.hear(index),
            Op::Miss(index) => drop(self.nodes[index].hears.pop_front()),
            Op::Serve(index) => self.serve(index),
            Op::NoPage(index) => {
                if self.nodes[index].asks.take().is_some() {
                    self.handle(index, Input::MapPage { body: None });
                }
            }
            Op::Speak(index, arrives) => self.speak(index, arrives),
            Op::Receive(index) => self.receive(index),
            Op::GiveUp(index) => self.analyzers[index].out = None,
            Op::CrashAnalyzer(index) => self.analyzers[index] = self.analyzer(index),
            Op::BrokerForgets => {
                for index in 0..REDIRECTORS {
                    self.leave_line(index);
                    self.handle(index, Input::Deposed);
                    self.nodes[index].publishing.clear();
                }
                self.queue.clear();
            }
        }
        self.deliver_tokens();
    }

    /// Everything arrives, everybody speaks.
    fn quiet(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for index in 0..REDIRECTORS {
                self.notice(index);
                self.subscribe(index);
                while !self.nodes[index].publishing.is_empty() {
                    self.publish(index);
                }
            }
            for index in 0..ANALYZERS {
                self.apply(Op::GiveUp(index));
                self.speak(index, true);
            }
            for _ in 0..40 {
                for index in 0..REDIRECTORS {
                    self.serve(index);
                    self.hear(index);
                }
            }
            for index in 0..ANALYZERS {
                self.receive(index);
            }
            self.step(1_000);
        }
    }

    fn leaders(&self) -> Vec<usize> {
        (0..REDIRECTORS).filter(|&index| self.nodes[index].machine.leads()).collect()
    }

    fn owners(&self, index: usize) -> BTreeMap<SourceKey, (String, Epoch)> {
        let view = self.nodes[index].machine.view();
        let owned = |source: kinetic_redirector::view::SourceView| {
            Some((source.source, source.owner.map(|owner| (owner.node.to_string(), owner.epoch))?))
        };
        view.sources.into_iter().filter_map(owned).collect()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Step(u64),
    Subscribe(usize),
    Publish(usize),
    Cut(usize),
    Notice(usize),
    Crash(usize),
    Hear(usize),
    Miss(usize),
    Serve(usize),
    NoPage(usize),
    Speak(usize, bool),
    Receive(usize),
    GiveUp(usize),
    CrashAnalyzer(usize),
    BrokerForgets,
}

fn op() -> impl Strategy<Value = Op> {
    let node = || 0..REDIRECTORS;
    let analyzer = || 0..ANALYZERS;
    prop_oneof![
        10 => (10_u64..4_000).prop_map(Op::Step),
        6 => node().prop_map(Op::Subscribe),
        8 => node().prop_map(Op::Publish),
        2 => node().prop_map(Op::Cut),
        2 => node().prop_map(Op::Notice),
        1 => node().prop_map(Op::Crash),
        10 => node().prop_map(Op::Hear),
        1 => node().prop_map(Op::Miss),
        20 => node().prop_map(Op::Serve),
        1 => node().prop_map(Op::NoPage),
        14 => (analyzer(), prop::bool::weighted(0.9)).prop_map(|(index, arrives)| Op::Speak(index, arrives)),
        14 => analyzer().prop_map(Op::Receive),
        3 => analyzer().prop_map(Op::GiveUp),
        1 => analyzer().prop_map(Op::CrashAnalyzer),
    ]
}

/// When all is quiet: one leader, everything owned, every copy right, no request forgotten; and then nothing moves.
fn check_quiet(world: &mut World) {
    world.quiet(60);
    let leaders = world.leaders();
    assert_eq!(leaders.len(), 1, "one leads");
    let owners = world.owners(leaders[0]);
    assert_eq!(owners.len(), SOURCES, "everything has an owner");
    for index in (0..REDIRECTORS).filter(|index| *index != leaders[0]) {
        let stats = world.nodes[index].machine.stats();
        assert!(stats.copy_whole, "r{index} has no copy");
        assert_eq!(world.owners(index), owners, "r{index} knows who owns what");
    }
    let moves = world.nodes[leaders[0]].machine.stats().moves;
    world.quiet(10);
    assert_eq!(world.nodes[leaders[0]].machine.stats().moves, moves, "a quiet world moves nothing");
    assert!(world.taken.len() <= 1 && world.requests.is_empty(), "every request was answered");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn nobody_is_believed_twice(ops in prop::collection::vec(op(), 1..400)) {
        let mut world = World::new();
        world.quiet(3);
        for op in ops {
            world.apply(op);
        }
        check_quiet(&mut world);
    }
}

/// A world in which everything is owned and the first of all redirectors leads.
fn settled() -> World {
    let mut world = World::new();
    world.quiet(30);
    assert_eq!(world.leaders(), [0]);
    assert_eq!(world.owners(0).len(), SOURCES);
    world
}

#[test]
fn a_standby_takes_over_and_nobody_moves() {
    let mut world = settled();
    let before = world.owners(0);
    world.crash(0);
    world.quiet(1);
    let next = world.leaders();
    assert!(next.len() == 1 && next[0] != 0);
    assert!(world.nodes[next[0]].machine.stats().listening, "it hears what owners hold");
    world.quiet(40);
    assert_eq!(world.owners(next[0]), before, "same owners, same epochs");
    let stats = world.nodes[next[0]].machine.stats();
    assert_eq!((stats.moves, stats.grants, stats.adopted), (0, 0, SOURCES as u64));
}

#[test]
fn of_two_that_think_they_lead_only_the_later_is_believed() {
    let mut world = settled();
    world.cut(0);
    for index in 1..REDIRECTORS {
        world.publish(index);
    }
    assert_eq!(world.leaders(), [0, 1], "the broker has given the token on, and the first has not noticed");
    let (old, new) = (world.nodes[0].machine.stats().term, world.nodes[1].machine.stats().term);
    assert!(new > old);
    // The new leader does not know their leases: they register.
    for _ in 0..2 {
        for index in 0..ANALYZERS {
            world.apply(Op::GiveUp(index));
            world.speak(index, true);
        }
        (0..ANALYZERS).for_each(|_| world.serve(1));
        (0..ANALYZERS).for_each(|index| world.receive(index));
    }
    let holds: Vec<_> = world.analyzers.iter().map(|analyzer| analyzer.peer.holds.clone()).collect();
    for index in 0..ANALYZERS {
        world.speak(index, true);
    }
    (0..ANALYZERS).for_each(|_| world.serve(0));
    (0..ANALYZERS).for_each(|index| world.receive(index));
    assert!(world.analyzers.iter().all(|analyzer| analyzer.term == new), "the lower term is ignored");
    assert_eq!(holds, world.analyzers.iter().map(|analyzer| analyzer.peer.holds.clone()).collect::<Vec<_>>());
    // It need not wait for the broker: the other's word is enough.
    while !world.nodes[0].hears.is_empty() {
        world.hear(0);
    }
    assert_eq!(world.leaders(), [1]);
}

#[test]
fn a_term_below_what_somebody_led_is_given_up() {
    let mut world = settled();
    let led = world.nodes[0].machine.stats().term;
    // The broker forgets its queues; the first to queue up knows nothing, the last has led.
    world.apply(Op::BrokerForgets);
    for index in [1, 2] {
        world.nodes[index] = node(index, Stored::default(), 1);
        world.subscribe(index);
    }
    world.publish(1);
    world.publish(1);
    assert_eq!(world.leaders(), [1]);
    assert_eq!(world.nodes[1].machine.stats().term, Term(1));
    world.subscribe(0);
    world.publish(0);
    assert!(world.leaders().is_empty(), "nothing is said until a higher term is stored");
    world.publish(1);
    assert_eq!(world.leaders(), [1]);
    assert!(world.nodes[1].machine.stats().term > led);
    let epoch = world.nodes[0].disk.epoch_max;
    assert!(world.nodes[1].disk.epoch_max > epoch);
}

#[test]
fn a_gap_makes_the_copy_anew_and_locate_goes_on() {
    let mut world = settled();
    let restarts = world.nodes[1].machine.stats().copy_restarts;
    world.step(1_000);
    drop(world.nodes[1].hears.pop_front());
    world.step(1_000);
    while !world.nodes[1].hears.is_empty() {
        world.hear(1);
    }
    let stats = world.nodes[1].machine.stats();
    assert!(!stats.copy_whole && stats.copy_restarts == restarts + 1);
    let version = world.nodes[0].machine.stats().map_version;
    assert_eq!(stats.map_version, version, "a standby answers with the leader's version");
    let mut effects = Vec::new();
    let (token, login, body) = (ReplyToken(1 << 40), Login::new("acme.k1"), locate_body());
    let input = Input::Request {
        token,
        kind: rpc::LOCATE,
        login: Some(&login),
        caller: None,
        waiting: 0,
        body: &body,
    };
    world.nodes[1].machine.handle(world.now, input, &mut effects);
    let Effect::Reply { body, .. } = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(decode::<kinetic_wire::LocateReply>(body).expect("an answer").epoch, version);
    world.quiet(5);
    assert!(world.nodes[1].machine.stats().copy_whole);
    assert_eq!(world.owners(1), world.owners(0));
}

#[test]
fn bodies_that_are_no_map_changes_are_counted_and_nothing_else() {
    let mut world = settled();
    let term = world.nodes[0].machine.stats().term;
    for body in [&b""[..], b"{", b"null", b"{\"v\":1}", &[0xff; 64]] {
        (0..2).for_each(|index| world.handle(index, Input::Told { body }));
        world.handle(1, Input::MapPage { body: Some(body) });
    }
    let of = |body: &[u8]| decode::<MapChange>(body).is_ok();
    assert!(!of(b"{\"v\":1}"));
    assert_eq!(world.nodes[0].machine.stats().told_ignored, 5);
    assert_eq!((world.leaders(), world.nodes[0].machine.stats().term), (vec![0], term));
    assert!(world.nodes[1].machine.stats().copy_whole);
    assert_eq!(BTreeSet::from_iter(world.terms.values()).len(), 1);
}
