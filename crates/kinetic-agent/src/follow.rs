//! Where to publish: what the redirector says, what to do when it says nothing, and the one connection.

use std::time::Duration;

use kinetic_wire::{Credential, Endpoint, Epoch, Locate, LocateReply, Mono, RpcCode, encode};

use crate::machine::{AgentConfig, Effect};
use crate::rng::Rng;

/// Backoff of questions and of connections.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// An answer that leads to an address that does not take what is published is a hop, after which the redirector is asked
/// again at once; after so many without a single confirm it is asked with backoff.
pub const HOPS_MAX: u32 = 3;
/// No two questions are closer than this.
const ASK_MIN: Duration = Duration::from_millis(100);
/// A nudge is followed within this time: all clients of a region are nudged at once, and need not ask at once.
const NUDGED_WITHIN: Duration = Duration::from_secs(2);
/// Intervals that an answer can ask for.
const INTERVAL_S: (u64, u64) = (1, 30 * 86_400);

/// A credential is left for the key this long before it expires, or an eighth of its life where that is shorter.
const LAPSE_MARGIN: Duration = Duration::from_secs(10);

/// What to log in with, for a while.
#[derive(Clone, Debug)]
struct Held {
    credential: Credential,
    /// When it is too old to be relied upon.
    lapses: Mono,
}

/// An answer in use.
#[derive(Debug)]
struct Answer {
    epoch: Epoch,
    endpoints: Vec<Endpoint>,
    /// From here on any other answer is better.
    stale: Mono,
}

/// The connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// No address is known.
    Nowhere,
    /// To be made then.
    Due(Mono),
    /// Asked for.
    Connecting,
    /// Stands.
    Up,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Follow {
    question: Locate,
    fallback: Vec<Endpoint>,
    answer: Option<Answer>,
    /// When to ask next; nothing while a question is out.
    ask_at: Option<Mono>,
    /// When it was asked last.
    asked: Option<Mono>,
    /// Questions without an answer, in a row.
    unanswered: u32,
    link: Link,
    held: Option<Held>,
    /// The login of the credential that the link was asked for with.
    link_login: Option<String>,
    /// The endpoint that the link is to, or will be.
    chosen: usize,
    /// Connections in a row over which nothing was confirmed.
    fruitless: u32,
    /// Answers in a row that led nowhere.
    hops: u32,
    pub(crate) hopped: u64,
    pub(crate) hops_exceeded: u64,
    /// Why it was refused last, and has been said to people; nothing since it was answered.
    complained: Option<RpcCode>,
    pub(crate) locates: u64,
    pub(crate) stale: u64,
    pub(crate) connects: u64,
    pub(crate) renewals: u64,
    pub(crate) lapses: u64,
}

/// Seconds that somebody else wrote, within reason.
fn interval(secs: u64) -> Duration {
    Duration::from_secs(secs.clamp(INTERVAL_S.0, INTERVAL_S.1))
}

fn same_address(a: &Endpoint, b: &Endpoint) -> bool {
    (&a.uri, &a.vhost, &a.exchange) == (&b.uri, &b.vhost, &b.exchange)
}

impl Follow {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let question = Locate {
            v: 1,
            client: config.inc,
            origin: Some(config.origin.clone()),
            profile: config.profile.clone(),
            data_types: vec![config.data_type],
            have_epoch: None,
            listen: true,
        };
        Self {
            question,
            fallback: config.fallback.clone(),
            answer: None,
            ask_at: Some(Mono(0)),
            asked: None,
            unanswered: 0,
            link: Link::Nowhere,
            held: None,
            link_login: None,
            chosen: 0,
            fruitless: 0,
            hops: 0,
            hopped: 0,
            hops_exceeded: 0,
            complained: None,
            locates: 0,
            stale: 0,
            connects: 0,
            renewals: 0,
            lapses: 0,
        }
    }

    /// The addresses in use, best first: the last answer's, or the configured one where no answer has ever come.
    fn endpoints(&self) -> &[Endpoint] {
        match &self.answer {
            Some(answer) => &answer.endpoints,
            None => self.fallback.as_slice(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    /// Where to publish now, if anywhere.
    pub(crate) fn exchange(&self) -> Option<&str> {
        let endpoint = self.endpoints().get(self.chosen).filter(|_| self.is_up())?;
        Some(&endpoint.exchange)
    }

    pub(crate) fn next_wakeup(&self) -> Option<Mono> {
        let link = if let Link::Due(at) = self.link { Some(at) } else { None };
        let lapses = self.held.as_ref().map(|held| held.lapses);
        [self.ask_at, link, lapses].into_iter().flatten().min()
    }

    /// Asks and connects when it is time.
    pub(crate) fn step(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        if self.ask_at.is_some_and(|at| now >= at) {
            (self.ask_at, self.asked) = (None, Some(now));
            self.locates += 1;
            self.question.have_epoch = self.answer.as_ref().map(|answer| answer.epoch);
            effects.push(Effect::Locate { body: encode(&self.question) });
        }
        if self.held.take_if(|held| now >= held.lapses).is_some() && self.link_login.is_some() {
            self.lapses += 1;
            // The broker would refuse what is published from now on. Where there is no connection, the next is the key's.
            if self.is_up() {
                self.connect(effects);
            }
        }
        if let Link::Due(at) = self.link
            && now >= at
        {
            self.connect(effects);
        }
    }

    fn connect(&mut self, effects: &mut Vec<Effect>) {
        let Some(endpoint) = self.endpoints().get(self.chosen).cloned() else {
            self.link = Link::Nowhere;
            return;
        };
        self.link = Link::Connecting;
        self.connects += 1;
        let credential = self.held.as_ref().map(|held| held.credential.clone());
        self.link_login = credential.as_ref().map(|credential| credential.login.clone());
        effects.push(Effect::Connect { endpoint, credential });
    }

    /// An answer came with a credential. Its life is told by the redirector's own clock, and asked for again before half of it is over.
    /// True if the connection is to be made with it.
    fn credited(&mut self, now: Mono, reply: &LocateReply, rng: &mut Rng, effects: &mut Vec<Effect>) -> bool {
        let Some(credential) = &reply.credential else { return false };
        let life_ms = u64::try_from(credential.expires_ms.saturating_sub(reply.now_ms)).unwrap_or(0);
        let life = Duration::from_millis(life_ms).min(Duration::from_secs(INTERVAL_S.1));
        if life.is_zero() {
            return false;
        }
        let ask_at = now + rng.between(life * 2 / 5, life / 2).max(ASK_MIN);
        self.ask_at = self.ask_at.map(|planned| planned.min(ask_at));
        let is_new = self.held.as_ref().is_none_or(|held| held.credential != *credential);
        let lapses = now + (life - LAPSE_MARGIN.min(life / 8));
        self.held = Some(Held { credential: credential.clone(), lapses });
        if !is_new || !self.is_up() {
            return false;
        }
        if self.link_login.as_ref() != Some(&credential.login) {
            return true;
        }
        self.renewals += 1;
        effects.push(Effect::Renew { credential: credential.clone() });
        false
    }

    /// An answer came; false if it is no better than what there is.
    pub(crate) fn located(
        &mut self,
        now: Mono,
        reply: &LocateReply,
        rng: &mut Rng,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if reply.endpoints.is_empty() {
            self.locate_failed(now, rng);
            return false;
        }
        (self.unanswered, self.complained) = (0, None);
        let refresh = interval(reply.refresh_s);
        let wait = rng.between(refresh * 4 / 5, refresh * 6 / 5);
        self.ask_at = Some(now + wait + Duration::from_secs(reply.backoff_s.min(3_600)));
        let wants_anew = self.credited(now, reply, rng, effects);
        if self.answer.as_ref().is_some_and(|answer| reply.epoch < answer.epoch && now < answer.stale) {
            self.stale += 1;
            if wants_anew {
                self.connect(effects);
            }
            return false;
        }
        let current = self.endpoints().get(self.chosen).cloned();
        let mut endpoints = reply.endpoints.clone();
        endpoints.sort_by_key(|endpoint| endpoint.priority);
        let kept = current
            .and_then(|current| endpoints.iter().position(|endpoint| same_address(endpoint, &current)))
            .filter(|_| self.link != Link::Nowhere);
        let stale = now + interval(reply.stale_ok_s);
        self.answer = Some(Answer { epoch: reply.epoch, endpoints, stale });
        self.chosen = kept.unwrap_or(0);
        if kept.is_none() || wants_anew {
            self.connect(effects);
        }
        true
    }

    /// No answer came, or a refusal.
    pub(crate) fn locate_failed(&mut self, now: Mono, rng: &mut Rng) {
        let wait = rng.backoff(BACKOFF.0, BACKOFF.1, self.unanswered).max(ASK_MIN);
        self.unanswered = self.unanswered.saturating_add(1);
        self.ask_at = Some(now + wait);
        if self.link == Link::Nowhere && !self.endpoints().is_empty() {
            self.link = Link::Due(now);
        }
    }

    /// It was refused. True if people are to hear of it: for a reason that time does not mend, and once.
    pub(crate) fn refused(&mut self, now: Mono, code: RpcCode, rng: &mut Rng) -> bool {
        self.locate_failed(now, rng);
        let passes = matches!(code, RpcCode::Overload | RpcCode::NotLeader);
        !passes && self.complained.replace(code) != Some(code)
    }

    /// The address does not take what is published, or no connection.
    pub(crate) fn led_nowhere(&mut self, now: Mono, attempts: u32, rng: &mut Rng) {
        let Some(planned) = self.ask_at.filter(|_| self.answer.is_some()) else {
            return self.ask_again(now, attempts, rng);
        };
        if self.hops == HOPS_MAX {
            self.hops_exceeded += 1;
            return self.ask_again(now, attempts, rng);
        }
        (self.hops, self.hopped) = (self.hops + 1, self.hopped + 1);
        let earliest = self.asked.map_or(now, |asked| now.max(asked + ASK_MIN));
        self.ask_at = Some(planned.min(earliest));
    }

    /// Something says that the answer may be out of date: ask sooner than planned.
    fn ask_again(&mut self, now: Mono, attempts: u32, rng: &mut Rng) {
        let at = now + rng.backoff(BACKOFF.0, BACKOFF.1, attempts).max(ASK_MIN);
        self.ask_at = self.ask_at.map(|planned| planned.min(at));
    }

    /// The redirector says that its answer has changed.
    pub(crate) fn nudged(&mut self, now: Mono, rng: &mut Rng) {
        let at = now + rng.between(ASK_MIN, NUDGED_WITHIN);
        self.ask_at = self.ask_at.map(|planned| planned.min(at));
    }

    pub(crate) fn connected(&mut self) {
        if self.link == Link::Connecting {
            self.link = Link::Up;
        }
    }

    /// The connection broke, or could not be made: the best address again, or the next one.
    pub(crate) fn disconnected(&mut self, now: Mono, rng: &mut Rng) {
        let count = self.endpoints().len();
        match self.link {
            Link::Up => {
                self.chosen = 0;
                // A broker that ends loses all its clients at once: they do not ask at once.
                self.ask_again(now, self.fruitless, rng);
            }
            Link::Connecting => {
                self.chosen = (self.chosen + 1) % count.max(1);
                self.led_nowhere(now, self.fruitless, rng);
            }
            Link::Nowhere | Link::Due(_) => return,
        }
        self.link = Link::Due(now + rng.backoff(BACKOFF.0, BACKOFF.1, self.fruitless));
        self.fruitless = self.fruitless.saturating_add(1);
    }

    /// A body was confirmed: the address works.
    pub(crate) fn works(&mut self) {
        (self.fruitless, self.hops) = (0, 0);
    }
}
