//! Where to publish: what the redirector says, what to do when it says nothing, and the one connection.

use std::time::Duration;

use kinetic_wire::{Endpoint, Epoch, Locate, LocateReply, Mono, encode};

use crate::machine::{AgentConfig, Effect};
use crate::rng::Rng;

/// Backoff of questions and of connections.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// No two questions are closer than this.
const ASK_MIN: Duration = Duration::from_millis(100);
/// A nudge is followed within this time: all clients of a region are nudged at once, and need not ask at once.
const NUDGED_WITHIN: Duration = Duration::from_secs(2);
/// Intervals that an answer can ask for.
const INTERVAL_S: (u64, u64) = (1, 30 * 86_400);

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
    /// Questions without an answer, in a row.
    unanswered: u32,
    link: Link,
    /// The endpoint that the link is to, or will be.
    chosen: usize,
    /// Connections in a row over which nothing was confirmed.
    fruitless: u32,
    pub(crate) locates: u64,
    pub(crate) stale: u64,
    pub(crate) connects: u64,
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
            unanswered: 0,
            link: Link::Nowhere,
            chosen: 0,
            fruitless: 0,
            locates: 0,
            stale: 0,
            connects: 0,
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
        self.ask_at.into_iter().chain(link).min()
    }

    /// Asks and connects when it is time.
    pub(crate) fn step(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        if self.ask_at.is_some_and(|at| now >= at) {
            self.ask_at = None;
            self.locates += 1;
            self.question.have_epoch = self.answer.as_ref().map(|answer| answer.epoch);
            effects.push(Effect::Locate { body: encode(&self.question) });
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
        effects.push(Effect::Connect { endpoint });
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
        self.unanswered = 0;
        let refresh = interval(reply.refresh_s);
        let wait = rng.between(refresh * 4 / 5, refresh * 6 / 5);
        self.ask_at = Some(now + wait + Duration::from_secs(reply.backoff_s.min(3_600)));
        if self.answer.as_ref().is_some_and(|answer| reply.epoch < answer.epoch && now < answer.stale) {
            self.stale += 1;
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
        if kept.is_none() {
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

    /// Something says that the answer may be out of date: ask sooner than planned.
    pub(crate) fn ask_again(&mut self, now: Mono, attempts: u32, rng: &mut Rng) {
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
            Link::Up => self.chosen = 0,
            Link::Connecting => self.chosen = (self.chosen + 1) % count.max(1),
            Link::Nowhere | Link::Due(_) => return,
        }
        self.link = Link::Due(now + rng.backoff(BACKOFF.0, BACKOFF.1, self.fruitless));
        self.ask_again(now, self.fruitless, rng);
        self.fruitless = self.fruitless.saturating_add(1);
    }

    /// A body was confirmed: the address works.
    pub(crate) fn works(&mut self) {
        self.fruitless = 0;
    }
}
