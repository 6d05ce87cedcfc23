//! One subscription: deliveries in, windows closed by event time, acknowledgements and alert events out.
//!
//! **Event time** of a sample is its own stamp, else `kin-ts-ns`, else the AMQP timestamp, else its arrival. A stamp
//! more than [`AHEAD_MAX`] ahead of this node's clock is dropped, not clamped: the same sample would fall into another
//! window when it is delivered again.
//!
//! **The watermark** is the latest event time seen of a sample that some analytic looks at, but never ahead of the
//! wall clock. A window `[start, end)` closes when it has reached `end + lateness`, so that a backlog closes its
//! windows at its own pace. Where no such sample comes for a while ([`idle_after`]), the wall clock stands in, so that
//! a silent source closes its windows too. Silence is proven, though: this node sends itself a message through the
//! source's queue, and when it comes, everything that was published before it has come. A connection that is broken and
//! does not know it yet is not silence.
//!
//! **A sample counts once** (delivery promise 1). A delivery's *release time* is the latest end of the windows, over
//! the lanes of all lengths, that its latest sample lies in. It is acknowledged once a confirmed snapshot says that every
//! lane is closed through that time; and a snapshot is only published when every alert event of the windows that it calls
//! closed has been confirmed (`keep.rs`). So whoever owns the source next finds each window either in the snapshot, with
//! what it left behind, or whole among the deliveries that come again. Nothing is inferred from what comes.
//!
//! Deliveries come to a source only after [`Source::recall`], which the shell brings about when it knows that no former
//! owner is delivered anything any more.

mod ahead;
mod arrival;
mod limit;
mod memory;
mod parts;
mod quiet;
mod settle;
mod shadow;
mod silence;
mod status;
mod upkeep;

use std::time::Duration;

use kinetic_wire::{
    AlertId, BreachKind, Epoch, Mono, NodeId, Now, RegionName, SourceKey, Token, Wall, names,
};

use self::arrival::Arrival;
pub use self::memory::LEAVE_MAX;
use self::parts::Role;
use self::quiet::Quiet;
use self::shadow::Shadow;
pub use self::shadow::{TEST_AGAIN, TEST_BYTES_MAX};
use self::silence::Rate;
pub use self::silence::{PROBE_AGAIN, RATE_OVER};
use crate::breach::{self, Watch};
use crate::decode;
use crate::group::{Closed, Groups, Span, Voice};
use crate::held::{AT_ONCE, Ack, Held};
use crate::keep::Keeper;
use crate::lane::{Lane, NEVER};
use crate::machine::{Delivery, Effect, Slot};
use crate::minutes::Minutes;
use crate::pass::{Gate, Pass, Tally};
use crate::plan::{self, Plan};
use crate::repeats::Repeats;
use crate::sample::{Reject, Sample};
use crate::series::{Id, Series};
use crate::stats::{CustomerStats, Stats};
use crate::tap;
use crate::verdict::QUIET_WINDOWS_MIN;

/// How far ahead of this node's clock a sample's time may be.
pub const AHEAD_MAX: Duration = Duration::from_secs(10);
/// After a subscription's first delivery nothing is closed for this long: a quorum queue may hand over newer
/// deliveries before those that come again.
pub const SETTLE_IN: Duration = Duration::from_millis(250);
/// Deliveries that need not be held are acknowledged at the latest when there are this many,
pub const ACK_BATCH: usize = 256;
/// or after this long.
pub const ACK_DELAY: Duration = Duration::from_millis(100);
/// A series not seen for this long (or two of the longest windows) is forgotten.
pub const SERIES_IDLE: Duration = Duration::from_secs(600);

/// Windows in a row without any sample that can still change something: hysteresis looks at 64 at most.
const EMPTY_WINDOWS_MAX: u32 = 64 + QUIET_WINDOWS_MIN;

/// What all sources share, lent for one input.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    pub(crate) node: &'a NodeId,
    pub(crate) revision: &'a str,
    pub(crate) held_max: usize,
    pub(crate) series_max: usize,
    pub(crate) series_total_max: usize,
    /// What one customer has of them when there are as many.
    pub(crate) series_share: usize,
    pub(crate) minutes: &'a mut Minutes,
    pub(crate) watch: &'a mut Watch,
    pub(crate) customer: &'a mut CustomerStats,
    pub(crate) stats: &'a mut Stats,
    pub(crate) scratch: &'a mut Vec<u8>,
    pub(crate) effects: &'a mut Vec<Effect>,
}

/// One subscribed source.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) key: SourceKey,
    pub(crate) region: RegionName,
    pub(crate) epoch: Epoch,
    /// Index of its customer's stats.
    pub(crate) customer: usize,
    slot: Slot,
    exchange: String,
    plan: Plan,
    lanes: Vec<Lane>,
    groups: Groups,
    series: Series,
    held: Held,
    repeats: Repeats,
    /// Latest event time seen, `NEVER` before the first.
    latest: i64,
    recall: Recall,
    /// It is to be let go, at the latest then.
    leaves_by: Option<Mono>,
    settled_in: Option<Mono>,
    /// When the last delivery came with a sample that some analytic looks at.
    last_fed: Option<Mono>,
    /// When anything was last delivered.
    last_came: Option<Mono>,
    /// When a probe was sent that has not come back yet.
    probing: Option<Now>,
    /// No other probe before this.
    probe_again: Mono,
    /// All that was published up to here has been delivered, by the wall clock at which a probe was sent.
    heard: i64,
    quiet: Quiet,
    rate: Rate,
    /// Deliveries that wait only for company to be acknowledged, and since when.
    due: usize,
    due_since: Mono,
    /// More is held than should be, and that has been said.
    is_full: bool,
    /// All deliveries with a release time up to here may be acknowledged.
    through: Wall,
    /// Every lane is closed through here.
    closed: Wall,
    keeper: Keeper,
    role: Role,
    arrival: Arrival,
    /// The last test event.
    shadow: Option<Shadow>,
    /// No other one before this.
    test_again: Mono,
    /// One that came sooner has been told so: whoever publishes many has one word for all.
    has_refused_test: bool,
    sweep_at: Option<Mono>,
    acks: Vec<Ack>,
}

/// Whether what has been kept of the source was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recall {
    Never,
    /// For the subscription that stands.
    Done,
    /// For one that has been lost since.
    Before,
}

impl Source {
    pub(crate) fn new(
        key: SourceKey,
        region: RegionName,
        epoch: Epoch,
        slot: Slot,
        customer: usize,
        plan: Plan,
        seed: u64,
    ) -> Self {
        let mut source = Self {
            exchange: names::ingress_exchange(&key.customer),
            role: Role::of(&key, &plan),
            arrival: Arrival::new(&key),
            key,
            region,
            epoch,
            customer,
            slot,
            plan,
            lanes: Vec::new(),
            groups: Groups::default(),
            series: Series::new(seed),
            held: Held::default(),
            repeats: Repeats::new(seed),
            latest: NEVER,
            recall: Recall::Never,
            leaves_by: None,
            settled_in: None,
            last_fed: None,
            last_came: None,
            probing: None,
            probe_again: Mono(0),
            heard: NEVER,
            quiet: Quiet::default(),
            rate: Rate::default(),
            due: 0,
            due_since: Mono(0),
            is_full: false,
            through: AT_ONCE,
            closed: AT_ONCE,
            keeper: Keeper::new(),
            shadow: None,
            test_again: Mono(0),
            has_refused_test: false,
            sweep_at: None,
            acks: Vec::new(),
        };
        source.lay_lanes();
        source
    }

    /// Gives every watch the lane of its length. A lane that is new while data flows begins with the next full window; so
    /// does one that a snapshot does not know: what came before may be acknowledged already.
    fn lay_lanes(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.is_used = false);
        for watch in &mut self.plan.watches {
            let at = self.lanes.iter().position(|lane| lane.length == watch.length).unwrap_or_else(|| {
                let mut lane = Lane::new(watch.length);
                if self.latest != NEVER {
                    lane.closed = lane.end_of(self.latest);
                } else if self.through > AT_ONCE && self.through < Wall(i64::MAX) {
                    lane.closed = lane.next_start(self.through.0);
                }
                self.lanes.push(lane);
                self.lanes.len() - 1
            });
            let lane = &mut self.lanes[at];
            lane.is_used = true;
            let spread = self.plan.lateness.saturating_add(plan::nanos(AHEAD_MAX));
            lane.allow(spread.saturating_add(self.role.waits()));
            watch.lane = u16::try_from(at).expect("a customer's windows have fewer than 65,536 lengths");
        }
    }

    /// The latest window end among the windows that a moment lies in.
    fn release_time(&self, at: i64) -> Wall {
        let ends = self.lanes.iter().filter(|lane| lane.is_used).map(|lane| lane.end_of(at));
        ends.max().map_or(AT_ONCE, Wall)
    }

    /// Takes one delivery.
    pub(crate) fn deliver(&mut self, now: Now, delivery: &Delivery<'_>, shared: &mut Shared<'_>) {
        if self.recall != Recall::Done || self.leaves_by.is_some() {
            shared.stats.deliveries_ignored += 1;
            return;
        }
        shared.stats.deliveries += 1;
        shared.stats.bytes += delivery.body.len() as u64;
        self.last_came = Some(now.mono);
        self.settled_in.get_or_insert(now.mono + SETTLE_IN);
        self.sweep_at.get_or_insert(now.mono + SERIES_IDLE);
        let (ingress, arrived);
        let is_carried = self.arrival.is_carried(delivery);
        let delivery = if is_carried {
            shared.stats.carried_taken += 1;
            ingress = self.exchange.clone();
            arrived = arrival::as_published(delivery, &ingress);
            &arrived
        } else {
            delivery
        };
        if delivery.envelope.copied {
            self.note(now, breach::security_event(BreachKind::Copied, delivery), shared);
        }
        let customer = self.key.customer.as_str();
        if let Some(kind) = breach::foreign(delivery, &self.exchange, customer, &self.plan.denied) {
            if self.take_own(now, delivery, shared) {
                return self.advance(now, shared);
            }
            self.note(now, breach::security_event(kind, delivery), shared);
            return self.refuse(delivery.token, shared);
        }
        if self.is_too_large(now, delivery, shared) {
            return self.refuse(delivery.token, shared);
        }
        if delivery.envelope.kind.as_deref() == Some(names::TYPE_TEST) {
            self.take_test(now, delivery, shared);
            self.hold(now, delivery.token, AT_ONCE, shared);
            return self.advance(now, shared);
        }
        if !delivery.redelivered {
            self.quiet.broken(now.mono);
        }
        let numbers = delivery.envelope.inc.zip(delivery.envelope.seq);
        if let Some(release) = numbers.and_then(|(inc, seq)| self.repeats.first(inc, seq)) {
            shared.stats.repeated += 1;
            self.hold(now, delivery.token, release, shared);
            return self.advance(now, shared);
        }
        match self.read(now, delivery, shared) {
            Ok(tally) => {
                let release = self.take_in(now, delivery.redelivered, tally, shared);
                self.arrival.saw(is_carried, release);
                if let Some((inc, seq)) = numbers.filter(|_| release > self.closed) {
                    let is_remembered = self.repeats.remember(inc, seq, release, shared.held_max);
                    shared.stats.bodies_unremembered += u64::from(!is_remembered);
                }
                self.hold(now, delivery.token, release, shared);
            }
            Err(reason) => {
                shared.customer.rejects.add(reason);
                tracing::debug!(source = %self.key, ?reason, bytes = delivery.body.len(), "body refused");
                self.refuse(delivery.token, shared);
            }
        }
        self.advance(now, shared);
    }

    fn refuse(&self, token: Token, shared: &mut Shared<'_>) {
        shared.stats.rejected += 1;
        shared.effects.push(Effect::Reject { slot: self.slot, token });
    }

    /// Decodes a body into the windows.
    fn read(&mut self, now: Now, delivery: &Delivery<'_>, shared: &mut Shared<'_>) -> Result<Tally, Reject> {
        let envelope = &delivery.envelope;
        let context = self.plan.context(delivery, now.wall);
        let room = self.room(shared);
        let body = decode::inflate(&context, delivery.body, shared.scratch)?;
        let format = decode::detect(&context, body)?;
        let stamp = tap::stamp(delivery);

        let origin = self.series.origin(envelope.origin.as_deref(), room.feeds);
        let latest_allowed = now.wall + AHEAD_MAX;
        // What comes again has been counted, or nobody knows by whom: it is let in, so that a window which a former owner
        // could not fill is whole.
        let (gate, bar) = if delivery.redelivered {
            (Gate::Open(None), latest_allowed.0)
        } else {
            let per_second = self.plan.limits.samples_per_second;
            (Gate::Closed { minutes: &*shared.minutes, per_second, now: now.wall }, i64::MIN)
        };
        let mut pass = Pass {
            plan: &self.plan,
            lanes: &mut self.lanes,
            groups: &mut self.groups,
            series: &mut self.series,
            customer_series: &mut shared.customer.series,
            all_series: &mut shared.stats.series,
            room,
            origin,
            envelope_origin: envelope.origin.as_deref(),
            stamp: stamp.unwrap_or(now.wall),
            latest_allowed,
            gate,
            bar,
            previous: Id::NONE,
            tally: Tally::default(),
        };
        let rejects = &mut shared.customer.rejects;
        let mut take = |sample: Sample<'_>| pass.take(&sample);
        let mut refuse = |reason, _: &[u8]| rejects.add(reason);
        let notes = decode::samples(format, &context, body, &mut take, &mut refuse);
        let (tally, minute) = (pass.tally, pass.gate.minute());
        shared.stats.notes.add(notes);
        self.count(now, tally, minute, shared);
        if let Some(traceparent) = envelope.traceparent.as_deref().filter(|_| tally.fed != NEVER) {
            for lane in self.lanes.iter_mut().filter(|lane| lane.is_used) {
                if let Some(window) = lane.current_mut() {
                    window.traceparent.get_or_insert_with(|| traceparent.to_owned());
                }
            }
        }
        Ok(tally)
    }

    /// Counts what a delivery held, and says when it may be released.
    fn take_in(&mut self, now: Now, redelivered: bool, tally: Tally, shared: &mut Shared<'_>) -> Wall {
        tally.count(redelivered, now.wall, shared);
        if tally.is_behind || (tally.fed != NEVER && self.latest > (now.wall + AHEAD_MAX).0) {
            self.bring_back(now, shared);
        }
        self.rate.samples += tally.samples();
        // What was dropped comes again if this owner dies, and then counts.
        let fed = tally.limited().map_or(tally.fed, |(_, last)| tally.fed.max(last));
        if fed == NEVER {
            return AT_ONCE;
        }
        self.latest = self.latest.max(fed);
        self.last_fed = Some(now.mono);
        self.release_time(fed)
    }

    /// Puts a delivery into the list of unsettled ones.
    fn hold(&mut self, now: Now, token: Token, release: Wall, shared: &mut Shared<'_>) {
        self.held.push(token, release, now.mono);
        if release <= self.through {
            if self.due == 0 {
                self.due_since = now.mono;
            }
            self.due += 1;
        } else if release <= self.closed && self.keeper.is_beyond(release) {
            self.keeper.due();
        }
        if self.held.len() > shared.held_max {
            self.shed(shared);
        } else if self.is_full && 2 * self.held.len() <= shared.held_max {
            self.is_full = false;
        }
    }

    /// Closes what is to be closed and acknowledges what may be.
    pub(crate) fn advance(&mut self, now: Now, shared: &mut Shared<'_>) {
        if self.leaves_by.is_none() {
            self.close_due(now, shared);
        }
        self.judge_test(now, shared);
        if self.keeper.wants() {
            self.keep(shared);
        }
        if self.due >= ACK_BATCH || (self.due > 0 && now.mono >= self.due_since + ACK_DELAY) {
            self.settle(shared.effects);
        }
        self.sweep(now, shared);
    }

    fn close_due(&mut self, now: Now, shared: &mut Shared<'_>) {
        self.heed(now.wall);
        let crowded = self.lanes.iter().any(|lane| lane.is_crowded());
        if self.settled_in.is_some_and(|at| now.mono >= at && !self.arrival.is_unread() || crowded) {
            let mut has_moved = false;
            for index in 0..self.lanes.len() {
                let through = match self.role {
                    Role::Owner { .. } => self.merged_through(now, index, shared),
                    _ => self.read_through(now, index),
                };
                if through >= self.lanes[index].next_close() {
                    self.close_through(index, through, shared);
                    self.tell_closed(index, shared);
                    has_moved = true;
                }
            }
            if has_moved {
                self.closed = self.lowest(|lane| lane.closed);
                self.repeats.forget_through(self.closed);
                self.arrival.closed(self.closed);
            }
        }
    }

    /// Through which moment all deliveries have been read that can still come in time, as far as that can be known.
    fn read_through(&self, now: Now, index: usize) -> i64 {
        let mut through = self.latest.min(now.wall.0);
        if self.is_idle(now, self.lanes[index].length) {
            through = through.max(self.heard.min(now.wall.0));
        }
        through.saturating_sub(self.plan.lateness)
    }

    /// The lowest of something over the lanes in use; without any, nothing is waited for.
    fn lowest(&self, of: impl Fn(&Lane) -> i64) -> Wall {
        Wall(self.lanes.iter().filter(|lane| lane.is_used).map(of).min().unwrap_or(i64::MAX))
    }

    /// Closes the windows of one lane that end by a moment.
    fn close_through(&mut self, index: usize, moment: i64, shared: &mut Shared<'_>) {
        let lane = &self.lanes[index];
        let target = lane.start_of(moment);
        let mut empty = 0;
        while target > self.lanes[index].closed {
            let lane = &self.lanes[index];
            let first_open = lane.first_open().map(|start| start.saturating_add(lane.length));
            let is_bare = lane.live == 0 || empty > EMPTY_WINDOWS_MAX;
            let next = if is_bare { first_open } else { lane.next_end() };
            let Some(end) = next.filter(|end| *end <= target) else { break };
            let start = end.saturating_sub(lane.length);
            empty = if self.close(index, Span { start, end }, shared) { 0 } else { empty + 1 };
            self.lanes[index].closed = end;
        }
        let lane = &mut self.lanes[index];
        lane.closed = lane.closed.max(target);
    }

    /// Closes one window. Returns whether a sample had fallen into it.
    fn close(&mut self, index: usize, span: Span, shared: &mut Shared<'_>) -> bool {
        let taken = self.lanes[index].take(span.start);
        shared.stats.windows_closed += u64::from(taken.is_some());
        let closed = Closed {
            span,
            window: taken.as_ref().map(|(_, window)| window),
            deaf: Span { start: self.lanes[index].deaf.0, end: self.lanes[index].deaf.1 },
            is_short: self.lanes[index].is_short(span.start, span.end),
        };
        shared.stats.windows_short += u64::from(closed.is_short);
        match self.role {
            Role::Part { .. } => self.reduce(index, closed, shared),
            _ => self.judge(index, closed, shared),
        }
        if self.lanes[index].is_used {
            self.keeper.due();
        }
        let had_samples = taken.is_some();
        if let Some(taken) = taken {
            self.lanes[index].put_back(taken);
        }
        had_samples
    }

    /// Judges one window, and says what changes by it.
    fn judge(&mut self, index: usize, closed: Closed<'_>, shared: &mut Shared<'_>) {
        let voice =
            Voice { node: shared.node, revision: shared.revision, source: &self.key, epoch: self.epoch };
        let (keeper, effects) = (&mut self.keeper, &mut *shared.effects);
        let (mut published, mut dropped) = (0, 0);
        let mut say = |event| match keeper.publish(event) {
            Some(effect) => {
                effects.push(effect);
                published += 1;
            }
            None => dropped += 1,
        };
        let lane = (index, &mut self.lanes[index]);
        self.groups.close(&self.plan, lane, closed, voice, shared.stats, &mut say);
        shared.stats.alerts_published += published;
        shared.stats.alerts_dropped += dropped;
    }

    /// The broker has an alert event. Returns whether it was one of this source's.
    pub(crate) fn confirmed(&mut self, now: Now, id: AlertId, shared: &mut Shared<'_>) -> bool {
        if self.test_confirmed(now, id, shared) {
            return true;
        }
        let was_ours = self.keeper.confirm(id);
        if was_ours {
            self.keep(shared);
        }
        was_ours
    }

    /// The channel is gone: all that was not settled comes again. What is closed stays closed.
    pub(crate) fn lost(&mut self) {
        self.held.clear();
        self.repeats.clear();
        self.due = 0;
        self.lanes.iter_mut().for_each(Lane::discard);
        (self.latest, self.last_fed, self.settled_in) = (NEVER, None, None);
        self.role.lost();
        self.arrival.lost();
        (self.last_came, self.probing, self.heard) = (None, None, NEVER);
        if self.recall == Recall::Done {
            self.recall = Recall::Before;
        }
    }

    /// End of the window of a lane that closes next, also before anything has ever come to a part.
    fn next_end(&self, lane: &Lane) -> Option<i64> {
        lane.next_end().or_else(|| self.role.since().map(|since| lane.end_of(since)))
    }
}
