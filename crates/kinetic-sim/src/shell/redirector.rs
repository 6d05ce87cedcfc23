//! Around the redirector: requests in, answers out, the leader's token, what the leader tells, witnesses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use kinetic_redirector::machine::{Caller, Effect, Input, Redirector, ReplyToken, Stored};
use kinetic_wire::{Epoch, LeaseReply, Login, Mono, NodeId, Now, Reply, SourceKey, decode, encode, names};

use crate::agenda::LinkId;
use crate::bug::Bug;
use crate::installation::{Revision, redirector_config};
use crate::message::{ConnId, Down, MS, Message, SECOND, Up};
use crate::shell::outbox::Outbox;
use crate::shell::requests::Requests;
use crate::shell::token::{Tokens, Told};
use crate::shell::{Job, Reach, Tell};

/// Requests that a server holds unanswered, as in `kinetic-amqp`.
const PREFETCH: usize = 256;
/// Pause before a map change is published again.
const TELL_RETRY: u64 = 200 * MS;
/// How long a page of the map may take.
const PAGE_TIMEOUT: u64 = 5 * SECOND;

/// A request that the machine has not answered.
#[derive(Debug)]
struct Waiting {
    door: LinkId,
    conn: ConnId,
    tag: u64,
    reply_to: Option<ConnId>,
    correlation: u64,
}

#[derive(Debug)]
pub(crate) struct Shell {
    machine: Redirector,
    tokens: Tokens,
    /// Answers `locate`, and pushes nudges.
    locate: LinkId,
    /// The leader's requests, while we lead.
    door: Option<LinkId>,
    waiting: BTreeMap<ReplyToken, Waiting>,
    next_token: u64,
    /// Map changes, in order; the first is on its way.
    tells: VecDeque<Vec<u8>>,
    telling: Outbox<()>,
    hear: LinkId,
    pages: Requests,
    pages_asked: u64,
    watches: BTreeMap<NodeId, LinkId>,
    /// By how much its clock is made to run ahead (a planted bug).
    ahead: u64,
    /// Who was nudged, and what they are not told since then (a planted bug).
    nudged: BTreeSet<ConnId>,
    told: BTreeSet<(ConnId, SourceKey)>,
    untold: BTreeSet<(ConnId, SourceKey)>,
}

impl Shell {
    pub(crate) fn new(name: &str, revision: &Revision, seed: u64, reach: &mut Reach<'_>) -> Self {
        let config = redirector_config(name, seed);
        Self {
            machine: Redirector::new(config, revision.map.clone(), reach.disk.stored.clone()),
            tokens: Tokens::new(reach),
            locate: reach.link(),
            door: None,
            waiting: BTreeMap::new(),
            next_token: 0,
            tells: VecDeque::new(),
            telling: Outbox::to_whoever_listens(TELL_RETRY, reach),
            hear: reach.link(),
            pages: Requests::new(name, reach),
            pages_asked: 0,
            watches: BTreeMap::new(),
            ahead: 0,
            nudged: BTreeSet::new(),
            told: BTreeSet::new(),
            untold: BTreeSet::new(),
        }
    }

    pub(crate) fn leads(&self) -> bool {
        self.machine.leads()
    }

    pub(crate) fn wakeup(&self) -> Option<Mono> {
        self.machine.next_wakeup().map(|at| Mono(at.0.saturating_sub(self.ahead)))
    }

    pub(crate) fn tell(&mut self, tell: Tell, reach: &mut Reach<'_>) {
        let now = self.now(reach);
        let mut effects = Vec::new();
        let told = self.tokens.tell(&tell, reach);
        if self.telling.tell(&tell, reach).is_some() {
            self.tells.pop_front();
            self.send_tell(reach);
        }
        for page in self.pages.tell(&tell, reach) {
            let body = page.body.as_deref();
            self.machine.handle(now, Input::MapPage { body }, &mut effects);
        }
        match tell {
            Tell::Start | Tell::Tick => self.machine.handle(now, Input::Tick, &mut effects),
            Tell::Opened(link) => self.opened(link, reach),
            Tell::Frame(link, frame) => self.frame(now, link, frame, reach, &mut effects),
            Tell::Job(Job::Haste) => self.haste(reach),
            Tell::Schema(revision) => {
                let input = Input::MapChanged { map: revision.map.clone() };
                self.machine.handle(now, input, &mut effects);
            }
            Tell::Lost(link) if Some(link) == self.door => {
                self.machine.handle(now, Input::Deaf, &mut effects);
            }
            Tell::Lost(_) | Tell::Job(_) | Tell::Shutdown => {}
        }
        self.news(now, told, reach, &mut effects);
        self.perform(now, effects, reach);
    }

    /// What has become of the token.
    fn news(&mut self, now: Now, told: Option<Told>, reach: &mut Reach<'_>, effects: &mut Vec<Effect>) {
        let input = match told {
            None => return,
            Some(Told::Elected(_)) if reach.has(Bug::TokenForgotten) => {
                Input::Elected { stored: Stored::default() }
            }
            Some(Told::Elected(stored)) => Input::Elected { stored },
            Some(Told::Deposed) => Input::Deposed,
            Some(Told::Stored(stored)) => Input::Stored { stored },
        };
        self.machine.handle(now, input, effects);
    }

    fn now(&self, reach: &Reach<'_>) -> Now {
        let mut now = reach.now;
        now.mono = Mono(now.mono.0 + self.ahead);
        now
    }

    fn opened(&mut self, link: LinkId, reach: &mut Reach<'_>) {
        if link == self.locate {
            let queue = names::LOCATE_QUEUE.into();
            reach.net.send(link, Up::Consume { queue, prefetch: PREFETCH });
        } else if Some(link) == self.door {
            reach.net.send(link, Up::Consume { queue: names::RPC_QUEUE.into(), prefetch: PREFETCH });
        } else if link == self.hear {
            reach.net.send(link, Up::Listen { exchange: names::MAP_EXCHANGE.into() });
        } else if let Some((node, _)) = self.watches.iter().find(|(_, watch)| **watch == link) {
            reach.net.send(link, Up::Watch { queue: names::witness_queue(node) });
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
            Down::Consuming if Some(link) == self.door => {
                self.machine.handle(now, Input::Serving, effects);
            }
            Down::Deliver { message, .. } if link == self.hear => {
                self.machine.handle(now, Input::Told { body: &message.body }, effects);
            }
            Down::Deliver { tag, message, .. } if link == self.locate || Some(link) == self.door => {
                self.request(now, (link, tag), &message, reach, effects);
            }
            Down::Deliver { .. } | Down::Handed => {
                let watched = self.watches.iter().find(|(_, watch)| **watch == link);
                let Some(node) = watched.map(|(node, _)| node.clone()) else { return };
                self.watches.remove(&node);
                // What was handed over goes back.
                reach.net.abandon(link);
                reach.ledger.witnessed(reach.net.now, (reach.proc, reach.life), &node);
                self.machine.handle(now, Input::Witnessed { node: &node }, effects);
            }
            _ => {}
        }
    }

    fn request(
        &mut self,
        now: Now,
        (door, tag): (LinkId, u64),
        message: &Rc<Message>,
        reach: &mut Reach<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(conn) = reach.net.conn(door) else { return };
        self.next_token += 1;
        let token = ReplyToken(self.next_token);
        let login = message.envelope.user_id.as_deref().map(Login::new);
        let address =
            message.reply_to.map(|reply_to| Caller { door: 0, reply_to: reply_to.0.to_string().into() });
        let (reply_to, correlation) = (message.reply_to, message.correlation);
        self.waiting.insert(token, Waiting { door, conn, tag, reply_to, correlation });
        let input = Input::Request {
            token,
            kind: &message.key,
            login: login.as_ref(),
            caller: address.as_ref(),
            waiting: 0,
            body: &message.body,
        };
        self.machine.handle(now, input, effects);
    }

    fn perform(&mut self, now: Now, effects: Vec<Effect>, reach: &mut Reach<'_>) {
        let mut more = Vec::new();
        for effect in effects {
            match effect {
                Effect::Store { stored } => {
                    if reach.has(Bug::StoreForgotten) {
                        self.machine.handle(now, Input::Stored { stored }, &mut more);
                    } else {
                        self.tokens.store(stored, reach);
                    }
                }
                Effect::Lead(lead) => self.lead(lead, reach),
                Effect::Reply { token, body } => self.reply(token, body, reach),
                Effect::Tell { body } => {
                    self.tells.push_back(body);
                    if self.tells.len() == 1 {
                        self.send_tell(reach);
                    }
                }
                Effect::AskMap { body } => {
                    self.pages_asked += 1;
                    self.pages.ask(self.pages_asked, names::rpc::MAP, body, PAGE_TIMEOUT, reach);
                }
                Effect::Nudge { caller } => {
                    if let Ok(conn) = caller.reply_to.parse() {
                        self.nudged.insert(ConnId(conn));
                        reach.net.send(self.locate, Up::Push { to: ConnId(conn) });
                    }
                }
                Effect::Watch { node } => {
                    let link = reach.link();
                    if let Some(before) = self.watches.insert(node, link) {
                        reach.net.abandon(before);
                    }
                }
                Effect::Unwatch { node } => {
                    if let Some(link) = self.watches.remove(&node) {
                        reach.net.abandon(link);
                    }
                }
            }
        }
        if !more.is_empty() {
            self.perform(now, more, reach);
        }
    }

    /// Opens or closes the leader's door; what was not answered when it closes goes back to the queue.
    fn lead(&mut self, lead: bool, reach: &mut Reach<'_>) {
        if let Some(door) = self.door.take() {
            self.waiting.retain(|_, waiting| waiting.door != door);
            reach.net.close(door);
        }
        if lead {
            self.door = Some(reach.link());
            if reach.has(Bug::ListenSkipped) {
                self.ahead += 40 * SECOND;
            }
            if reach.has(Bug::HastyRedirector) {
                reach.later(SECOND, Job::Haste);
            }
        } else {
            self.tokens.resign(reach);
        }
    }

    fn reply(&mut self, token: ReplyToken, body: Vec<u8>, reach: &mut Reach<'_>) {
        let Some(waiting) = self.waiting.remove(&token) else { return };
        // A request of an earlier connection is given to the next one again.
        if reach.net.conn(waiting.door) != Some(waiting.conn) {
            return;
        }
        if let Some(to) = waiting.reply_to {
            let body = self.heard(to, body, reach);
            reach.net.send(waiting.door, Up::Reply { to, correlation: waiting.correlation, body });
        }
        reach.net.send(waiting.door, Up::Ack { tag: waiting.tag, multiple: false });
    }

    /// Tells the checkers what is granted to whom.
    fn heard(&mut self, to: ConnId, body: Vec<u8>, reach: &mut Reach<'_>) -> Vec<u8> {
        let Ok(Reply::Ok(mut reply)) = decode::<Reply<LeaseReply>>(&body) else { return body };
        if reach.has(Bug::GrantsLost) {
            reply.grant.clear();
        }
        if reach.has(Bug::NudgeLosesGrants) {
            self.lose_grants(to, &mut reply);
        }
        if reach.has(Bug::EpochRepeated) {
            reply.grant.iter_mut().for_each(|grant| grant.epoch = Epoch(1));
        }
        if let Some(node) = reach.net.proc_of(to) {
            reach.ledger.granted(reach.net.now, (reach.proc, reach.life), node, &reply);
        }
        encode(&reply)
    }

    /// A planted bug: what is new since a nudge counts as said by it.
    fn lose_grants(&mut self, to: ConnId, reply: &mut LeaseReply) {
        let was_nudged = self.nudged.remove(&to);
        reply.grant.retain(|grant| {
            let key = (to, grant.source.clone());
            if was_nudged && !self.told.contains(&key) {
                self.untold.insert(key.clone());
            }
            self.told.insert(key.clone());
            !self.untold.contains(&key)
        });
    }

    fn send_tell(&mut self, reach: &mut Reach<'_>) {
        if let Some(body) = self.tells.front() {
            self.telling.post((), Message::new(names::MAP_EXCHANGE, "", body.clone()), reach);
        }
    }

    /// A planted bug: a second counts for five.
    fn haste(&mut self, reach: &mut Reach<'_>) {
        if self.door.is_some() {
            self.ahead += 4 * SECOND;
            reach.later(SECOND, Job::Haste);
        }
    }
}
