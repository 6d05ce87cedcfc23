//! The agent machine: datagrams in, confirmed publishes out, following what `locate` answers.
//!
//! What it promises: a line it has taken is published until the broker confirms it; it is never torn, and leaves in
//! the order it came, except for repeats; memory is bounded, and what does not fit is dropped and counted, newest
//! first. A repeat has the same `message_id` and `kin-seq`, so that it can be recognised.

use std::time::Duration;

use kinetic_wire::{Credential, DataType, Endpoint, Envelope, Incarnation, LocateReply, Mono, Now, RpcError};

use crate::batch::{Batch, Closed};
use crate::follow::Follow;
pub use crate::follow::HOPS_MAX;
use crate::rng::Rng;
use crate::spool::{BODY_OVERHEAD, Spool};
use crate::stamp::Stamper;
use crate::stats::Stats;

/// How this agent runs.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// What the host calls itself (`kin-origin`).
    pub origin: String,
    /// Profile, where configured.
    pub profile: Option<String>,
    /// Routing key of every body; what the source's `routing` patterns look at.
    pub routing_key: String,
    /// Login (`user_id`), which the broker verifies.
    pub login: Option<String>,
    /// This start of it.
    pub inc: Incarnation,
    /// What the lines are; `Statsd` for the sockets.
    pub data_type: DataType,
    /// Close a body when it has reached this size.
    pub body_bytes: usize,
    /// Close a body when its oldest line is this old.
    pub body_age: Duration,
    /// Bytes of closed bodies that wait for a confirm or a connection; beyond it new datagrams are dropped (counted).
    pub buffer_bytes: usize,
    /// Publishes in flight at once.
    pub in_flight_max: usize,
    /// Where to publish when no redirector has ever answered, best first.
    pub fallback: Vec<Endpoint>,
    /// Seed of the jitter.
    pub seed: u64,
}

/// A publish, named by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(pub u64);

/// What the agent is told.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Time has passed.
    Tick,
    /// A datagram of one or more lines.
    Datagram(&'a [u8]),
    /// The broker has taken a body.
    Confirmed {
        /// Which.
        id: PublishId,
    },
    /// It has not, and it is not known whether it will: connection lost, nack, time-out. The body is sent again.
    Failed {
        /// Which.
        id: PublishId,
    },
    /// The broker has nowhere to put it (312 NO_ROUTE): the customer moved or the key binds nothing.
    Unroutable {
        /// Which.
        id: PublishId,
    },
    /// The redirector answered.
    Located(&'a LocateReply),
    /// It did not.
    LocateFailed,
    /// It refused.
    LocateRefused(&'a RpcError),
    /// The redirector says that its answer has changed: ask again soon. A hint, nothing more.
    Nudged,
    /// The connection that `Effect::Connect` asked for stands.
    Connected,
    /// It could not be made, or it broke.
    Disconnected,
    /// Publish what is buffered, then `Effect::Stopped`.
    Shutdown,
}

/// What the agent wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the redirector (`locate`); answer with `Located` or `LocateFailed`.
    Locate {
        /// JSON body.
        body: Vec<u8>,
    },
    /// Publish over a connection to this address from now on; answer with `Connected` or `Disconnected`.
    Connect {
        /// The address.
        endpoint: Endpoint,
        /// What to log in with; the agent's own key without one, and where the broker refuses it.
        credential: Option<Credential>,
    },
    /// Give the connection a credential that expires later than its own, and which the same login has.
    Renew {
        /// It.
        credential: Credential,
    },
    /// Publish, `mandatory`, confirmed; answer with `Confirmed`, `Failed` or `Unroutable`.
    Publish {
        /// Name for the answer.
        id: PublishId,
        /// Exchange.
        exchange: String,
        /// Routing key.
        routing_key: String,
        /// Properties.
        envelope: Box<Envelope<'static>>,
        /// The body.
        body: Vec<u8>,
    },
    /// Say to people why the redirector refuses: what is set here and what the schema says do not agree. It goes on asking,
    /// and what it has taken stays. Not repeated for the same reason until it has been answered.
    Complain {
        /// The refusal.
        refusal: RpcError,
    },
    /// Everything that could be sent was: the shell may end.
    Stopped,
}

/// How long a shutdown waits for confirms.
pub const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// The first pause after a body that the broker would not take, and the longest.
const FAILED_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// The same after a body that the broker had nowhere to put.
const UNROUTABLE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A redirector cannot ask for smaller bodies than the smallest that statsd clients send.
const BODY_BYTES_MIN: u64 = 512;
/// Nor for more bodies than a hundred a second.
const BODY_AGE_MIN: Duration = Duration::from_millis(10);

/// The agent.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    rng: Rng,
    batch: Batch,
    stamper: Stamper,
    spool: Spool,
    follow: Follow,
    body_bytes: usize,
    body_age: Duration,
    /// Publishes refused in a row; while there are any, one body at a time tries again.
    strikes: u32,
    /// Nothing is published until then.
    paused_until: Option<Mono>,
    stopping: Option<Mono>,
    stopped: bool,
    counted: Stats,
}

impl Agent {
    /// An agent with nothing buffered, whose first `Tick` asks where to publish.
    #[must_use]
    pub fn new(config: AgentConfig) -> Self {
        let (high, low) = config.inc.0.as_u64_pair();
        Self {
            rng: Rng::new(config.seed.rotate_left(32) ^ high ^ low),
            batch: Batch::new(config.body_bytes),
            stamper: Stamper::new(&config),
            spool: Spool::default(),
            follow: Follow::new(&config),
            body_bytes: config.body_bytes,
            body_age: config.body_age,
            strikes: 0,
            paused_until: None,
            stopping: None,
            stopped: false,
            counted: Stats::default(),
            config,
        }
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        if self.stopped {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Datagram(datagram) => self.datagram(now, datagram),
            Input::Confirmed { id } => self.confirmed(id),
            Input::Failed { id } => self.failed(now, id),
            Input::Unroutable { id } => self.unroutable(now, id),
            Input::Located(reply) => self.located(now, reply, effects),
            Input::LocateFailed => {
                self.counted.locate_failures += 1;
                self.follow.locate_failed(now.mono, &mut self.rng);
            }
            Input::LocateRefused(refusal) => {
                self.counted.locate_refusals += 1;
                if self.follow.refused(now.mono, refusal.code, &mut self.rng) {
                    effects.push(Effect::Complain { refusal: refusal.clone() });
                }
            }
            Input::Nudged => {
                self.counted.nudges += 1;
                self.follow.nudged(now.mono, &mut self.rng);
            }
            Input::Connected => {
                self.follow.connected();
                self.paused_until = None;
            }
            Input::Disconnected => {
                self.counted.disconnects += 1;
                self.counted.failed += self.spool.all_failed() as u64;
                self.follow.disconnected(now.mono, &mut self.rng);
            }
            Input::Shutdown => {
                self.stopping.get_or_insert(now.mono + STOP_DEADLINE);
            }
        }
        if self.stopping.is_some() || self.batch.opened().is_some_and(|at| now.mono >= at + self.body_age) {
            self.close_body(now);
        }
        self.follow.step(now.mono, effects);
        self.pump(now, effects);
        self.finish(now, effects);
    }

    /// When the shell must send a `Tick` at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Mono> {
        if self.stopped {
            return None;
        }
        let body = self.batch.opened().map(|at| at + self.body_age);
        let pause = self.paused_until.filter(|_| self.follow.is_up() && self.spool.waiting() > 0);
        [body, pause, self.stopping, self.follow.next_wakeup()].into_iter().flatten().min()
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            locates: self.follow.locates,
            locate_stale: self.follow.stale,
            connects: self.follow.connects,
            hops: self.follow.hopped,
            hops_exceeded: self.follow.hops_exceeded,
            renewals: self.follow.renewals,
            lapses: self.follow.lapses,
            bodies_buffered: self.spool.waiting() + self.spool.in_flight(),
            bytes_buffered: self.bytes_buffered(),
            in_flight: self.spool.in_flight(),
            ..self.counted
        }
    }

    fn bytes_buffered(&self) -> usize {
        let open = if self.batch.is_empty() { 0 } else { self.batch.len() + BODY_OVERHEAD };
        self.spool.bytes() + open
    }

    /// Whether a datagram fits, however its lines fall: of two neighbouring bodies, one at least is half full.
    fn fits(&self, size: usize) -> bool {
        let bodies = 2 * size / self.body_bytes.max(1) + 2;
        self.bytes_buffered() + size + bodies * BODY_OVERHEAD <= self.config.buffer_bytes
    }

    fn datagram(&mut self, now: Now, datagram: &[u8]) {
        self.counted.datagrams += 1;
        if self.stopping.is_some() || !self.fits(datagram.len()) {
            self.counted.datagrams_dropped += 1;
            self.counted.bytes_dropped += datagram.len() as u64;
            return;
        }
        let Self { batch, stamper, spool, counted, .. } = self;
        let taken = batch.push(now, datagram, |Closed { bytes, first }| {
            counted.bodies += 1;
            spool.push(stamper.stamp(first, now.wall), bytes);
        });
        counted.lines += taken.lines;
        counted.line_bytes += taken.bytes;
        counted.lines_too_long += taken.too_long;
    }

    fn close_body(&mut self, now: Now) {
        if let Some(Closed { bytes, first }) = self.batch.close() {
            self.counted.bodies += 1;
            self.spool.push(self.stamper.stamp(first, now.wall), bytes);
        }
    }

    fn confirmed(&mut self, id: PublishId) {
        if self.spool.confirmed(id) {
            self.counted.confirmed += 1;
            self.strikes = 0;
            self.paused_until = None;
            self.follow.works();
        }
    }

    fn failed(&mut self, now: Now, id: PublishId) {
        if self.spool.failed(id) {
            self.counted.failed += 1;
            self.pause(now, FAILED_PAUSE);
        }
    }

    fn unroutable(&mut self, now: Now, id: PublishId) {
        if self.spool.failed(id) {
            self.counted.unroutable += 1;
            if self.pause(now, UNROUTABLE_PAUSE) {
                self.follow.led_nowhere(now.mono, self.strikes - 1, &mut self.rng);
            }
        }
    }

    /// Publishes nothing for a while: one pause for all that was in flight when the first of it came back. True if
    /// this is that first.
    fn pause(&mut self, now: Now, (first, most): (Duration, Duration)) -> bool {
        if self.paused_until.is_some() {
            return false;
        }
        self.paused_until = Some(now.mono + self.rng.backoff(first, most, self.strikes));
        self.strikes = self.strikes.saturating_add(1);
        true
    }

    fn located(&mut self, now: Now, reply: &LocateReply, effects: &mut Vec<Effect>) {
        if !self.follow.located(now.mono, reply, &mut self.rng, effects) {
            return;
        }
        let message_bytes = reply.limits.message_bytes.max(BODY_BYTES_MIN);
        self.body_bytes = self.config.body_bytes.min(usize::try_from(message_bytes).unwrap_or(usize::MAX));
        self.batch.set_body_bytes(self.body_bytes);
        self.body_age =
            self.config.body_age.min(Duration::from_millis(reply.limits.batch_ms).max(BODY_AGE_MIN));
    }

    /// Publishes what may be published now.
    fn pump(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.paused_until.is_some_and(|until| now.mono < until) {
            return;
        }
        self.paused_until = None;
        let window = if self.strikes > 0 { 1 } else { self.config.in_flight_max.max(1) };
        while self.spool.in_flight() < window {
            let Some(exchange) = self.follow.exchange() else {
                return;
            };
            let Some((id, body)) = self.spool.publish() else {
                return;
            };
            self.counted.published += 1;
            effects.push(Effect::Publish {
                id,
                exchange: exchange.to_owned(),
                routing_key: self.config.routing_key.clone(),
                envelope: Box::new(self.stamper.envelope(&body.stamp)),
                body: body.bytes.clone(),
            });
        }
    }

    fn finish(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(deadline) = self.stopping else {
            return;
        };
        if self.spool.is_empty() || now.mono >= deadline {
            self.counted.bodies_abandoned = (self.spool.waiting() + self.spool.in_flight()) as u64;
            self.stopped = true;
            effects.push(Effect::Stopped);
        }
    }
}
