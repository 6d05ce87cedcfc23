//! The analyzer's side of the control protocol: register, heartbeat, drain, goodbye.
//!
//! The lease counts from when the acknowledged request was **sent**, on this process's monotonic clock; at
//! [`FENCE_SHARE`] of it the sources are let go ("fenced"), earlier than the redirector gives them away. Two cases
//! differ:
//!
//! - **No redirector answers.** Requests fail, nothing is granted to anybody, and the broker goes on delivering to the
//!   active consumer only: the node goes on with what it owns (*degraded*) until an answer says otherwise, or until a message
//!   that it sends itself through a source's queue does not come back.
//! - **This process was suspended**: the time between two inputs exceeds the share. What happened meanwhile is
//!   unknown, so it lets go before it sends anything, and registers anew.
//!
//! `UnknownLease` is the answer of a redirector that has forgotten (it restarted) or has given up on this node. The
//! node registers at once and names what it holds; that answer is the whole set it may keep. If it does not come, the
//! node is fenced: a redirector is there, so the degraded case does not apply.

use std::time::Duration;

use kinetic_wire::{
    Drain, Evacuated, Goodbye, Grant, Heartbeat, Hold, LeaseId, LeaseReply, Mono, Register, Released, Reply,
    RpcCode, SourceKey, Term, decode, encode, names::rpc,
};

use crate::machine::{AnalyzerConfig, Effect, RequestId, Revision};

/// Share of the lease's length after which a node without an answer lets go: 4 of 5.
pub const FENCE_SHARE: (u32, u32) = (4, 5);
/// A request is given up after this long, or after a fifth of the lease, if that is shorter.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// First wait after a failure; doubles up to the longest, and half of it is jitter.
pub const RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest wait after failures; whoever has a lease waits for half of its length at most. So a new leader, which listens for
/// a whole one and the grace, hears every owner before it gives anything away.
pub const RETRY_MAX: Duration = Duration::from_secs(10);
/// Wait after an answer that no retry will change soon: superseded, unauthenticated, another version.
pub const RETRY_REFUSED: Duration = Duration::from_secs(30);
/// Shortest interval of heartbeats, whatever the redirector asks for.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

/// What a request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Register,
    Heartbeat,
    Drain,
    Goodbye,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    request: RequestId,
    ask: Ask,
    sent: Mono,
}

/// A granted lease.
#[derive(Clone, Copy, Debug)]
struct Granted {
    lease: LeaseId,
    ttl: Duration,
    /// When the acknowledged request was sent.
    since: Mono,
    /// A redirector has said that it does not know it.
    is_denied: bool,
}

/// What an answer, or its absence, means for the sources.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    Nothing,
    /// Own exactly these, of which the latter have moved out of their regions.
    Own(Vec<Grant>, Vec<SourceKey>),
    /// Let go of all, at once.
    LetGo,
    /// `drain` has been answered, or will not be.
    Drained,
    /// `goodbye` has been answered, or will not be.
    Gone,
}

/// What a heartbeat tells of the node.
#[derive(Clone, Debug)]
pub(crate) struct Report<'a> {
    pub(crate) revision: &'a Revision,
    pub(crate) witness: bool,
    pub(crate) holds: Vec<Hold>,
    pub(crate) evacuated: Vec<Evacuated>,
    pub(crate) lag: Duration,
    /// 0 to 1.
    pub(crate) load: f64,
}

/// The lease and what is asked about it.
#[derive(Debug)]
pub(crate) struct Lease {
    granted: Option<Granted>,
    asked: Option<Asked>,
    term: Term,
    /// The leadership that has last said that an operator has relieved us, unless it has been taken back since.
    relieved: Option<Term>,
    /// When to ask next.
    next: Mono,
    /// Requests in a row that failed.
    failures: u32,
    /// When the last request was sent.
    sent: Option<Mono>,
    /// Something new is to be asked or told once the request under way is answered.
    hurried: bool,
    seq: u64,
    requests: u64,
    random: u64,
    last_input: Option<Mono>,
    is_closing: bool,
}

impl Lease {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            granted: None,
            asked: None,
            term: Term(0),
            relieved: None,
            next: Mono(0),
            failures: 0,
            sent: None,
            hurried: false,
            seq: 0,
            requests: 0,
            random: seed,
            last_input: None,
            is_closing: false,
        }
    }

    /// A redirector has granted a lease.
    pub(crate) fn is_granted(&self) -> bool {
        self.granted.is_some()
    }

    /// The lease has lapsed unanswered, and nobody says that the node must let go.
    pub(crate) fn is_degraded(&self, now: Mono) -> bool {
        self.granted.is_some_and(|granted| self.failures > 0 && now >= granted.fence())
    }

    /// Notes that the process lives. Returns whether it was suspended for so long that its lease cannot be trusted.
    pub(crate) fn wake(&mut self, now: Mono) -> bool {
        let last = self.last_input.replace(now).unwrap_or(now);
        let was_away = self.granted.is_some_and(|granted| now.since(last) >= granted.share());
        if was_away {
            self.forget(now);
        }
        was_away
    }

    /// Gives the lease up and asks for another at once.
    fn forget(&mut self, now: Mono) {
        (self.granted, self.asked, self.failures, self.next) = (None, None, 0, now);
    }

    /// Whether the lease has run out and something other than silence of every redirector may be the cause.
    pub(crate) fn must_let_go(&mut self, now: Mono) -> bool {
        let must = self
            .granted
            .is_some_and(|granted| now >= granted.fence() && granted.is_denied == (self.failures > 0));
        if must {
            self.forget(now);
        }
        must
    }

    /// Asks at the next opportunity rather than at the next heartbeat, though not more often than [`HEARTBEAT_MIN`]. If a
    /// request is under way, its answer may be older than what there is to hear; then again after it.
    pub(crate) fn hurry(&mut self, now: Mono) {
        if self.failures > 0 || self.granted.is_none() {
            return;
        }
        if self.asked.is_some() {
            self.hurried = true;
            return;
        }
        let soonest = self.sent.map_or(now, |sent| now.max(sent + HEARTBEAT_MIN));
        self.next = self.next.min(soonest);
    }

    /// Whether there is something to ask.
    pub(crate) fn is_due(&self, now: Mono) -> bool {
        self.asked.is_none() && now >= self.next && !self.is_closing
    }

    /// Length of the lease, or what stands for it before there is one.
    pub(crate) fn ttl(&self) -> Duration {
        self.granted.map_or(REQUEST_TIMEOUT * 5, |granted| granted.ttl)
    }

    /// When the lease is not to be trusted any more.
    pub(crate) fn fence(&self) -> Option<Mono> {
        self.granted.map(|granted| granted.fence())
    }

    /// Whether the lease that stands was asked for at that moment or later.
    pub(crate) fn is_granted_since(&self, moment: Mono) -> bool {
        self.granted.is_some_and(|granted| granted.since >= moment)
    }

    /// Sends what is due: a registration or a heartbeat.
    pub(crate) fn ask(
        &mut self,
        now: Mono,
        config: &AnalyzerConfig,
        report: Report<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let generation = report.revision.generation;
        let schema = Some(report.revision.id.clone()).filter(|revision| !revision.is_empty());
        let (node, inc) = (config.node.clone(), config.inc);
        match self.granted.filter(|granted| !granted.is_denied) {
            None => {
                let (serves, capacity) = (config.serves.clone(), config.capacity);
                let message = Register {
                    v: 1,
                    node,
                    inc,
                    serves,
                    capacity,
                    zone: config.zone.clone(),
                    witness: report.witness,
                    schema,
                    generation,
                    relieved: self.relieved,
                    holds: report.holds,
                };
                self.send(now, Ask::Register, encode(&message), effects);
            }
            Some(granted) => {
                self.seq += 1;
                let message = Heartbeat {
                    v: 1,
                    lease: granted.lease,
                    node,
                    inc,
                    seq: self.seq,
                    load: report.load,
                    lag_ms: u64::try_from(report.lag.as_millis()).unwrap_or(u64::MAX),
                    witness: report.witness,
                    schema,
                    generation,
                    holds: report.holds,
                    evacuated: report.evacuated,
                };
                self.send(now, Ask::Heartbeat, encode(&message), effects);
            }
        }
    }

    /// Asks to be relieved before leaving. Nothing but `goodbye` is asked after it. Returns whether there was
    /// anything to ask.
    pub(crate) fn drain(
        &mut self,
        now: Mono,
        config: &AnalyzerConfig,
        deadline: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        self.is_closing = true;
        let Some(granted) = self.granted else { return false };
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let (node, inc) = (config.node.clone(), config.inc);
        let message = Drain { v: 1, lease: granted.lease, node, inc, deadline_ms };
        self.send(now, Ask::Drain, encode(&message), effects);
        true
    }

    /// Takes leave. Returns whether there is an answer to wait for.
    pub(crate) fn goodbye(&mut self, now: Mono, config: &AnalyzerConfig, effects: &mut Vec<Effect>) -> bool {
        let Some(granted) = self.granted else { return false };
        let message = Goodbye { v: 1, lease: granted.lease, node: config.node.clone(), inc: config.inc };
        self.send(now, Ask::Goodbye, encode(&message), effects);
        true
    }

    fn send(&mut self, now: Mono, ask: Ask, body: Vec<u8>, effects: &mut Vec<Effect>) {
        self.requests += 1;
        (self.sent, self.hurried) = (Some(now), false);
        let request = RequestId(self.requests);
        self.asked = Some(Asked { request, ask, sent: now });
        let kind = match ask {
            Ask::Register => rpc::REGISTER,
            Ask::Heartbeat => rpc::HEARTBEAT,
            Ask::Drain => rpc::DRAIN,
            Ask::Goodbye => rpc::GOODBYE,
        };
        let timeout = self.granted.map_or(REQUEST_TIMEOUT, |granted| REQUEST_TIMEOUT.min(granted.ttl / 5));
        effects.push(Effect::Request { request, kind, body, timeout });
    }

    /// Takes an answer. `ignored` counts those that could not be used.
    pub(crate) fn replied(&mut self, now: Mono, request: RequestId, body: &[u8], ignored: &mut u64) -> News {
        let Some(asked) = self.asked.filter(|asked| asked.request == request) else {
            *ignored += 1;
            return News::Nothing;
        };
        self.asked = None;
        if asked.ask == Ask::Goodbye {
            let is_readable = decode::<Reply<Released>>(body).is_ok();
            *ignored += u64::from(!is_readable);
            return News::Gone;
        }
        match decode::<Reply<LeaseReply>>(body) {
            Ok(Reply::Ok(reply)) if reply.term >= self.term => self.granted(now, asked, reply),
            Ok(Reply::Refused(refusal)) => {
                let retry = Duration::from_secs(refusal.retry_s);
                tracing::warn!(code = ?refusal.code, message = refusal.message, "the redirector refused a request");
                self.refused(now, asked.ask, refusal.code, retry)
            }
            Ok(Reply::Ok(_)) | Err(_) => {
                *ignored += 1;
                self.retry(now);
                if asked.ask == Ask::Drain { News::Drained } else { News::Nothing }
            }
        }
    }

    fn granted(&mut self, now: Mono, asked: Asked, reply: LeaseReply) -> News {
        self.term = reply.term;
        self.relieved = reply.relieved.then_some(reply.term);
        self.failures = 0;
        let ttl = Duration::from_millis(reply.ttl_ms);
        let heartbeat = Duration::from_millis(reply.heartbeat_ms).max(HEARTBEAT_MIN);
        self.granted = Some(Granted { lease: reply.lease, ttl, since: asked.sent, is_denied: false });
        // A tenth of jitter, downwards, so that a fleet that started together does not stay in step.
        let wait = heartbeat.mul_f64(1.0 - 0.1 * self.fraction()) + Duration::from_millis(reply.backoff_ms);
        self.next = now + wait.min(ttl / 2);
        if std::mem::take(&mut self.hurried) {
            self.hurry(now);
        }
        if asked.ask == Ask::Drain { News::Drained } else { News::Own(reply.grant, reply.moving) }
    }

    fn refused(&mut self, now: Mono, ask: Ask, code: RpcCode, retry: Duration) -> News {
        if ask == Ask::Drain {
            return News::Drained;
        }
        match code {
            RpcCode::UnknownLease if ask == Ask::Heartbeat => {
                if let Some(granted) = &mut self.granted {
                    granted.is_denied = true;
                }
                (self.failures, self.next) = (0, now);
                News::Nothing
            }
            RpcCode::UnknownLease | RpcCode::Superseded => {
                self.forget(now);
                self.next = now + self.jittered(retry.max(RETRY_REFUSED));
                News::LetGo
            }
            RpcCode::Replayed => {
                self.next = now;
                News::Nothing
            }
            RpcCode::Overload | RpcCode::NotLeader => {
                self.retry(now);
                self.next = self.next.max(now + self.jittered(retry));
                News::Nothing
            }
            RpcCode::Malformed
            | RpcCode::UnknownCustomer
            | RpcCode::Disabled
            | RpcCode::UnknownProfile
            | RpcCode::NoSource
            | RpcCode::UnknownNode
            | RpcCode::UnknownSilence
            | RpcCode::UnknownAddress
            | RpcCode::UnknownEpisode
            | RpcCode::TestUnderWay
            | RpcCode::BadLink
            | RpcCode::ExpiredLink
            | RpcCode::UnknownSubscription
            | RpcCode::LastRecipient
            | RpcCode::Invalid
            | RpcCode::Unauthenticated
            | RpcCode::Version => {
                self.failures = self.failures.saturating_add(1);
                self.next = now + self.jittered(retry.max(RETRY_REFUSED));
                News::Nothing
            }
        }
    }

    /// No answer came.
    pub(crate) fn failed(&mut self, now: Mono, request: RequestId) -> News {
        let Some(asked) = self.asked.filter(|asked| asked.request == request) else { return News::Nothing };
        self.asked = None;
        self.retry(now);
        match asked.ask {
            Ask::Drain => News::Drained,
            Ask::Goodbye => News::Gone,
            Ask::Register if self.granted.is_some() => {
                let next = self.next;
                self.forget(now);
                self.next = next;
                News::LetGo
            }
            Ask::Register | Ask::Heartbeat => News::Nothing,
        }
    }

    fn retry(&mut self, now: Mono) {
        let longest = self.granted.map_or(RETRY_MAX, |granted| RETRY_MAX.min(granted.ttl / 2));
        let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.next = now + self.jittered(wait);
    }

    /// Between half and all of a wait.
    fn jittered(&mut self, wait: Duration) -> Duration {
        wait.mul_f64(0.5 + 0.5 * self.fraction())
    }

    /// From 0 to below 1: splitmix64.
    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// When something is to be asked, or the lease runs out.
    pub(crate) fn wakeup(&self) -> Option<Mono> {
        let ask = (self.asked.is_none() && !self.is_closing).then_some(self.next);
        let fence = self
            .granted
            .filter(|granted| self.failures == 0 && !granted.is_denied)
            .map(|granted| granted.fence());
        [ask, fence].into_iter().flatten().min()
    }
}

impl Granted {
    fn share(&self) -> Duration {
        self.ttl * FENCE_SHARE.0 / FENCE_SHARE.1
    }

    fn fence(&self) -> Mono {
        self.since + self.share()
    }
}
