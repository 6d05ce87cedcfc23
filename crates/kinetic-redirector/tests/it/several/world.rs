//! Redirectors, analyzers and a broker in miniature.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kinetic_redirector::machine::{Effect, Input, Redirector, ReplyToken, Stored};
use kinetic_wire::names::rpc;
use kinetic_wire::{Epoch, Incarnation, LeaseReply, Login, Mono, Reply, RpcCode, SourceKey, Term, decode};

use crate::harness::{GRACE, Peer, START, TTL, caller, config, wide_map};

pub(super) const REDIRECTORS: usize = 3;
pub(super) const ANALYZERS: usize = 3;
pub(super) const SOURCES: usize = 6;

/// A token in the queue.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) id: u64,
    pub(super) stored: Stored,
}

/// A redirector with its shell in miniature.
pub(super) struct Node {
    pub(super) machine: Redirector,
    pub(super) disk: Stored,
    /// The broker delivers tokens to it when its turn comes.
    pub(super) subscribed: bool,
    /// It has not noticed yet that its subscription has ended.
    pub(super) blind: bool,
    /// Tokens that it has been delivered.
    pub(super) held: Vec<Token>,
    /// Its own tokens that have not come back.
    pub(super) own: BTreeMap<u64, Stored>,
    /// Tokens on their way into the queue.
    pub(super) publishing: VecDeque<Token>,
    pub(super) serving: bool,
    /// Requests that it has not answered, by token: the analyzer's number for them.
    pub(super) waiting: BTreeMap<ReplyToken, u64>,
    /// What it has still to hear on `kin.map`.
    pub(super) hears: VecDeque<Vec<u8>>,
    /// A page that it has asked for.
    pub(super) asks: Option<Vec<u8>>,
    pub(super) lives: u64,
}

pub(super) struct Analyzer {
    pub(super) peer: Peer,
    pub(super) registered: bool,
    /// The request that is out, and when it was sent.
    pub(super) out: Option<(u64, Mono)>,
    pub(super) fence: Mono,
    pub(super) term: Term,
}

#[derive(Clone)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) kind: &'static str,
    pub(super) analyzer: usize,
    pub(super) body: Vec<u8>,
}

pub(super) struct World {
    pub(super) now: kinetic_wire::Now,
    pub(super) nodes: Vec<Node>,
    pub(super) analyzers: Vec<Analyzer>,
    /// Tokens that nobody holds.
    pub(super) queue: VecDeque<Token>,
    /// Who queues up for tokens; the first is delivered them.
    pub(super) line: Vec<usize>,
    pub(super) requests: VecDeque<Request>,
    /// Requests that some leader has taken, so that they can be given to the next.
    pub(super) taken: BTreeMap<u64, Request>,
    /// Answers on their way: by the number of the request.
    pub(super) answers: BTreeMap<u64, Vec<u8>>,
    pub(super) numbers: u64,
    pub(super) incs: u128,
    /// Who said something under a term: redirector and life.
    pub(super) terms: BTreeMap<Term, (usize, u64)>,
    /// Who was believed to own a source in an epoch.
    pub(super) believed: BTreeMap<(SourceKey, Epoch), Incarnation>,
}

pub(super) fn listen() -> Duration {
    TTL * 11 / 10 + GRACE
}

pub(super) fn node(index: usize, disk: Stored, lives: u64) -> Node {
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
    pub(super) fn new() -> Self {
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

    pub(super) fn analyzer(&mut self, index: usize) -> Analyzer {
        self.incs += 1;
        let peer = Peer::new(&format!("a{index}"), self.incs);
        Analyzer { peer, registered: false, out: None, fence: Mono(0), term: Term(0) }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn handle(&mut self, index: usize, input: Input<'_>) {
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
    pub(super) fn deliver_tokens(&mut self) {
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
    pub(super) fn leave_line(&mut self, index: usize) {
        self.line.retain(|other| *other != index);
        let node = &mut self.nodes[index];
        (node.subscribed, node.blind) = (false, false);
        for token in std::mem::take(&mut node.held).into_iter().rev() {
            self.queue.push_front(token);
        }
        node.own.clear();
    }

    pub(super) fn subscribe(&mut self, index: usize) {
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
    pub(super) fn cut(&mut self, index: usize) {
        if !self.nodes[index].subscribed || self.nodes[index].blind {
            return;
        }
        let own = std::mem::take(&mut self.nodes[index].own);
        self.leave_line(index);
        let node = &mut self.nodes[index];
        (node.subscribed, node.blind, node.own) = (true, true, own);
        self.deliver_tokens();
    }

    pub(super) fn notice(&mut self, index: usize) {
        if self.nodes[index].blind {
            let node = &mut self.nodes[index];
            (node.subscribed, node.blind) = (false, false);
            node.own.clear();
            self.handle(index, Input::Deposed);
        }
    }

    pub(super) fn publish(&mut self, index: usize) {
        if let Some(token) = self.nodes[index].publishing.pop_front() {
            self.queue.push_back(token);
            self.deliver_tokens();
        }
    }

    pub(super) fn crash(&mut self, index: usize) {
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
    pub(super) fn serve(&mut self, index: usize) {
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

    pub(super) fn serve_page(&mut self, index: usize, (asker, body): (usize, Vec<u8>)) {
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

    pub(super) fn hear(&mut self, index: usize) {
        if let Some(body) = self.nodes[index].hears.pop_front() {
            self.handle(index, Input::Told { body: &body });
            self.deliver_tokens();
        }
    }

    /// An analyzer sends what it has to say, unless it waits for an answer.
    pub(super) fn speak(&mut self, index: usize, arrives: bool) {
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

    pub(super) fn receive(&mut self, index: usize) {
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

    pub(super) fn step(&mut self, ms: u64) {
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

    pub(super) fn apply(&mut self, op: Op) {
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
    pub(super) fn quiet(&mut self, rounds: usize) {
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

    pub(super) fn leaders(&self) -> Vec<usize> {
        (0..REDIRECTORS).filter(|&index| self.nodes[index].machine.leads()).collect()
    }

    pub(super) fn owners(&self, index: usize) -> BTreeMap<SourceKey, (String, Epoch)> {
        let view = self.nodes[index].machine.view();
        let owned = |source: kinetic_redirector::view::SourceView| {
            Some((source.source, source.owner.map(|owner| (owner.node.to_string(), owner.epoch))?))
        };
        view.sources.into_iter().filter_map(owned).collect()
    }
}

#[derive(Clone, Debug)]
pub(super) enum Op {
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
