//! Around the redirector: requests in, answers out, the state on disk.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use kinetic_redirector::machine::{Effect, Input, Redirector, ReplyToken, Stored};
use kinetic_wire::{Epoch, LeaseReply, Login, Mono, Now, Reply, decode, encode, names};

use crate::agenda::LinkId;
use crate::bug::Bug;
use crate::installation::{Revision, redirector_config};
use crate::message::{ConnId, Down, MS, Message, Up};
use crate::shell::{Job, Reach, Tell};

/// Requests that a server holds unanswered, as in `kinetic-amqp`.
const PREFETCH: usize = 256;
/// How long an owner must have had to speak up: the longest lease and the grace.
const LISTEN: Duration = Duration::from_millis(21_500);

/// A request that the machine has not answered.
#[derive(Debug)]
struct Waiting {
    conn: ConnId,
    tag: u64,
    reply_to: Option<ConnId>,
    correlation: u64,
}

#[derive(Debug)]
pub(crate) struct Shell {
    machine: Redirector,
    rpc: LinkId,
    waiting: BTreeMap<ReplyToken, Waiting>,
    next_token: u64,
}

impl Shell {
    pub(crate) fn new(revision: &Revision, seed: u64, reach: &mut Reach<'_>) -> Self {
        let listens = reach.disk.has_led && !reach.has(Bug::ListenSkipped);
        let config = redirector_config(seed, if listens { LISTEN } else { Duration::ZERO });
        reach.disk.has_led = true;
        Self {
            machine: Redirector::new(config, revision.map.clone(), reach.disk.stored.clone()),
            rpc: reach.link(),
            waiting: BTreeMap::new(),
            next_token: 0,
        }
    }

    pub(crate) fn wakeup(&self) -> Option<Mono> {
        self.machine.next_wakeup()
    }

    pub(crate) fn tell(&mut self, tell: Tell, reach: &mut Reach<'_>) {
        let now = self.now(reach);
        let mut effects = Vec::new();
        match tell {
            // There is one redirector: whatever its disk says is the token.
            Tell::Start => {
                let input = Input::Elected { stored: reach.disk.stored.clone() };
                self.machine.handle(now, input, &mut effects);
            }
            Tell::Tick => self.machine.handle(now, Input::Tick, &mut effects),
            Tell::Opened(_) if self.machine.leads() => self.serve(reach),
            Tell::Opened(_) => {}
            Tell::Frame(_, Down::Deliver { tag, message, .. }) => {
                self.request(now, tag, &message, reach, &mut effects);
            }
            Tell::Job(Job::Stored(stored)) => {
                self.machine.handle(now, Input::Stored { stored }, &mut effects)
            }
            Tell::Schema(revision) => {
                let input = Input::MapChanged { map: revision.map.clone() };
                self.machine.handle(now, input, &mut effects);
            }
            Tell::Lost(_) | Tell::Frame(..) | Tell::Job(_) | Tell::Shutdown => {}
        }
        for effect in effects {
            self.perform(effect, reach);
        }
        reach.ledger.lapses(self.machine.stats().leases_lapsed, reach.proc, reach.life);
    }

    /// Takes the leader's requests.
    fn serve(&self, reach: &mut Reach<'_>) {
        reach.net.send(self.rpc, Up::Consume { queue: names::RPC_QUEUE.into(), prefetch: PREFETCH });
    }

    fn now(&self, reach: &Reach<'_>) -> Now {
        let mut now = reach.now;
        if reach.has(Bug::HastyRedirector) {
            now.mono = Mono(now.mono.0.saturating_mul(5));
        }
        now
    }

    fn request(
        &mut self,
        now: Now,
        tag: u64,
        message: &Rc<Message>,
        reach: &mut Reach<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(conn) = reach.net.conn(self.rpc) else { return };
        let token = ReplyToken(self.next_token);
        self.next_token += 1;
        let login = message.envelope.user_id.as_deref().map(Login::new);
        let waiting = Waiting { conn, tag, reply_to: message.reply_to, correlation: message.correlation };
        self.waiting.insert(token, waiting);
        let input = Input::Request {
            token,
            kind: &message.key,
            login: login.as_ref(),
            caller: None,
            waiting: 0,
            body: &message.body,
        };
        self.machine.handle(now, input, effects);
    }

    fn perform(&mut self, effect: Effect, reach: &mut Reach<'_>) {
        match effect {
            Effect::Store { stored } => self.store(stored, reach),
            Effect::Reply { token, body } => {
                let Some(waiting) = self.waiting.remove(&token) else { return };
                // A request of an earlier connection is given to the next one again.
                if reach.net.conn(self.rpc) != Some(waiting.conn) {
                    return;
                }
                let Some(to) = waiting.reply_to else { return };
                let body = self.heard(to, body, reach);
                reach.net.send(self.rpc, Up::Reply { to, correlation: waiting.correlation, body });
                reach.net.send(self.rpc, Up::Ack { tag: waiting.tag, multiple: false });
            }
            Effect::Lead(true) if reach.net.conn(self.rpc).is_some() => self.serve(reach),
            Effect::Lead(_)
            | Effect::Tell { .. }
            | Effect::AskMap { .. }
            | Effect::Nudge { .. }
            | Effect::Watch { .. }
            | Effect::Unwatch { .. } => {}
        }
    }

    fn store(&mut self, stored: Stored, reach: &mut Reach<'_>) {
        let takes = reach.rng.between(MS, 20 * MS);
        reach.later(takes, Job::Stored(stored.clone()));
        if !reach.has(Bug::StoreForgotten) {
            // Written before it is said to be; a crash in between leaves more than was said, which does no harm.
            reach.disk.stored = stored;
        }
    }

    /// Tells the checkers what is granted to whom.
    fn heard(&self, to: ConnId, body: Vec<u8>, reach: &mut Reach<'_>) -> Vec<u8> {
        let Ok(Reply::Ok(mut reply)) = decode::<Reply<LeaseReply>>(&body) else { return body };
        if reach.has(Bug::GrantsLost) {
            reply.grant.clear();
        }
        if reach.has(Bug::EpochRepeated) {
            reply.grant.iter_mut().for_each(|grant| grant.epoch = Epoch(1));
        }
        if let Some(node) = reach.net.proc_of(to) {
            reach.ledger.granted(reach.net.now, (reach.proc, reach.life), node, &reply);
        }
        encode(&reply)
    }
}
