//! One subscription: deliveries in, windows closed by event time, acknowledgements and alert events out.
//!
//! **Event time** of a sample is its own stamp, else `kin-ts-ns`, else the AMQP timestamp, else its arrival. A stamp
//! more than [`AHEAD_MAX`] ahead of this node's clock is dropped, not clamped: the same sample would fall into another
//! window when it is delivered again.
//!
//! **The watermark** is the latest event time seen of a sample that some analytic looks at, but never ahead of the
//! wall clock. A window `[start, end)` closes when it has reached `end + lateness`, so that a backlog closes its
//! windows at its own pace. Where no such sample comes for a while ([`idle_after`]), the wall clock stands in, so that
//! a silent source closes its windows too; not after a lost subscription, though, until something comes again.
//!
//! **A sample counts once** (delivery promise 1). A delivery's *release time* is the latest end of the windows, over
//! the lanes of all lengths, that its latest sample lies in. It is acknowledged once every lane is closed through that
//! time and every alert event of those windows is confirmed. Nothing of an open window is ever acknowledged, so after
//! a crash the successor sees each of them whole.
//!
//! What it may see in part are windows that were judged before: through a delivery with samples on both sides of a
//! window's end, or where the length of one lane does not divide another's. It can tell. Deliveries with a release
//! time above some moment C were unsettled and those up to C were not; m, the lowest release time among the
//! redelivered, is the first above C. If the first moment of a window has a release time of m or more, nothing of the
//! window was acknowledged. Otherwise some of it was, if the window was closed; and closed it was if the former owner
//! had seen event times past its end and lateness, which are among the redelivered too, being the latest. Such a
//! window is not judged again. Two cases stay open: a window of which every delivery reaches into the next one can go
//! unjudged if its owner dies just before it closes; and one that was closed by silence can be judged again from a
//! straggler, if that is all that comes before the owner dies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinetic_schema::Schema;
use kinetic_wire::{
    AlertEvent, AlertId, Epoch, Mono, NodeId, Now, RegionName, SourceKey, Token, Wall, names,
};

use crate::decode;
use crate::group::{Closed, Groups, Span, Voice};
use crate::held::{AT_ONCE, Ack, Held};
use crate::lane::{Lane, NEVER};
use crate::machine::{Delivery, Effect, Slot};
use crate::pass::{Pass, Tally};
use crate::plan::{self, Plan};
use crate::sample::{Reject, Sample};
use crate::series::{Id, Series};
use crate::stats::{CustomerStats, SourceStats, Stats};
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
/// Alert events of one source that may wait for the broker's confirm; one more is dropped (counted).
pub const ALERTS_PENDING_MAX: usize = 65_536;

/// Windows in a row without any sample that can still change something: hysteresis looks at 64 at most.
const EMPTY_WINDOWS_MAX: u32 = 64 + QUIET_WINDOWS_MIN;

/// How long a source must be silent before the wall clock stands in for its event time.
fn idle_after(lateness: i64, length: i64) -> Duration {
    let nanos = lateness.saturating_add((length / 4).max(1_000_000_000));
    Duration::from_nanos(nanos.unsigned_abs())
}

/// What all sources share, lent for one input.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    pub(crate) node: &'a NodeId,
    pub(crate) revision: &'a str,
    pub(crate) held_max: usize,
    pub(crate) series_max: usize,
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
    /// Latest event time seen, `NEVER` before the first.
    latest: i64,
    /// Lowest release time among what a former owner left unsettled.
    inherited: Option<Wall>,
    /// Latest event time among the same.
    inherited_latest: i64,
    /// Whether redelivered samples can be a former owner's.
    is_heir: bool,
    settled_in: Option<Mono>,
    /// When the last delivery came with a sample that some analytic looks at.
    last_fed: Option<Mono>,
    /// Deliveries that wait only for company to be acknowledged, and since when.
    due: usize,
    due_since: Mono,
    /// All deliveries with a release time up to here may be acknowledged.
    through: Wall,
    /// Alert events that the broker has not confirmed, with the lowest release time that they hold back.
    unconfirmed: Unconfirmed,
    sweep_at: Option<Mono>,
    acks: Vec<Ack>,
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
            latest: NEVER,
            inherited: None,
            inherited_latest: NEVER,
            is_heir: true,
            settled_in: None,
            last_fed: None,
            due: 0,
            due_since: Mono(0),
            through: AT_ONCE,
            unconfirmed: Unconfirmed::default(),
            sweep_at: None,
            acks: Vec::new(),
        };
        source.lay_lanes();
        source
    }

    /// Gives every watch the lane of its length. A lane that is new while data flows begins with the next full window.
    fn lay_lanes(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.is_used = false);
        for watch in &mut self.plan.watches {
            let at = self.lanes.iter().position(|lane| lane.length == watch.length).unwrap_or_else(|| {
                let mut lane = Lane::new(watch.length);
                if self.latest != NEVER {
                    lane.closed = lane.end_of(self.latest);
                }
                self.lanes.push(lane);
                self.lanes.len() - 1
            });
            let lane = &mut self.lanes[at];
            lane.is_used = true;
            lane.allow(self.plan.lateness.saturating_add(plan::nanos(AHEAD_MAX)));
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
        shared.stats.deliveries += 1;
        shared.stats.bytes += delivery.body.len() as u64;
        self.settled_in.get_or_insert(now.mono + SETTLE_IN);
        self.sweep_at.get_or_insert(now.mono + SERIES_IDLE);
        if !self.is_of_its_customer(delivery) {
            shared.customer.security_events += 1;
            tracing::warn!(
                source = %self.key, exchange = delivery.exchange, user = ?delivery.envelope.user_id,
                claimed = ?delivery.envelope.claimed_customer, "delivery is not of the source's customer, refused"
            );
            return self.refuse(delivery.token, shared);
        }
        match self.read(now, delivery, shared) {
            Ok(tally) => self.hold(now, delivery, tally, shared),
            Err(reason) => {
                shared.customer.rejects.add(reason);
                tracing::debug!(source = %self.key, ?reason, bytes = delivery.body.len(), "body refused");
                self.refuse(delivery.token, shared);
            }
        }
        self.advance(now, shared);
    }

    /// The exchange names the customer; login and claim, where they are set, must agree with it.
    fn is_of_its_customer(&self, delivery: &Delivery<'_>) -> bool {
        let customer = self.key.customer.as_str();
        let envelope = &delivery.envelope;
        let login_of = |user: &str| user.split('.').next() == Some(customer);
        delivery.exchange == self.exchange
            && envelope.user_id.as_deref().is_none_or(login_of)
            && envelope.claimed_customer.as_deref().is_none_or(|claimed| claimed == customer)
    }

    fn refuse(&self, token: Token, shared: &mut Shared<'_>) {
        shared.stats.rejected += 1;
        shared.effects.push(Effect::Reject { slot: self.slot, token });
    }

    /// Decodes a body into the windows.
    fn read(&mut self, now: Now, delivery: &Delivery<'_>, shared: &mut Shared<'_>) -> Result<Tally, Reject> {
        let envelope = &delivery.envelope;
        let context = self.plan.context(delivery, now.wall);
        let body = decode::inflate(&context, delivery.body, shared.scratch)?;
        let format = decode::detect(&context, body)?;
        let stamp = tap::stamp(delivery);
        let origin = self.series.origin(envelope.origin.as_deref(), shared.series_max);
        let mut pass = Pass {
            plan: &self.plan,
            lanes: &mut self.lanes,
            groups: &mut self.groups,
            series: &mut self.series,
            customer_series: &mut shared.customer.series,
            series_max: shared.series_max,
            origin,
            envelope_origin: envelope.origin.as_deref(),
            stamp: stamp.unwrap_or(now.wall),
            latest_allowed: now.wall + AHEAD_MAX,
            previous: Id::NONE,
            tally: Tally::default(),
        };
        let rejects = &mut shared.customer.rejects;
        let mut take = |sample: Sample<'_>| pass.take(&sample);
        let mut refuse = |reason, _: &[u8]| rejects.add(reason);
        shared.stats.notes.add(decode::samples(format, &context, body, &mut take, &mut refuse));
        let tally = pass.tally;
        if let Some(traceparent) = envelope.traceparent.as_deref().filter(|_| tally.fed != NEVER) {
            for lane in self.lanes.iter_mut().filter(|lane| lane.is_used) {
                if let Some(window) = lane.current_mut() {
                    window.traceparent.get_or_insert_with(|| traceparent.to_owned());
                }
            }
        }
        Ok(tally)
    }

    /// Counts what a delivery held and puts it into the list of unsettled ones.
    fn hold(&mut self, now: Now, delivery: &Delivery<'_>, tally: Tally, shared: &mut Shared<'_>) {
        tally.count(delivery.redelivered, now.wall, shared);
        let mut release = AT_ONCE;
        if tally.fed != NEVER {
            release = self.release_time(tally.fed);
            self.latest = self.latest.max(tally.fed);
            self.last_fed = Some(now.mono);
        }
        if delivery.redelivered && self.is_heir && release > AT_ONCE {
            self.inherited = Some(self.inherited.map_or(release, |lowest| lowest.min(release)));
            self.inherited_latest = self.inherited_latest.max(tally.fed);
        }
        self.held.push(delivery.token, release, now.mono);
        if release <= self.through {
            if self.due == 0 {
                self.due_since = now.mono;
            }
            self.due += 1;
        }
        if self.held.len() > shared.held_max {
            let keep = shared.held_max - (shared.held_max / 16).min(ACK_BATCH);
            let early = self.held.shed(keep, self.through, &mut self.acks);
            shared.stats.early_acked += early as u64;
            tracing::debug!(source = %self.key, early, "too many deliveries held, oldest acknowledged early");
            self.send_acks(shared.effects);
        }
    }

    /// Closes what is to be closed and acknowledges what may be.
    pub(crate) fn advance(&mut self, now: Now, shared: &mut Shared<'_>) {
        let crowded = self.lanes.iter().any(|lane| lane.is_crowded());
        if self.settled_in.is_some_and(|at| now.mono >= at || crowded) {
            let watermark = self.latest.min(now.wall.0);
            let mut has_moved = false;
            for index in 0..self.lanes.len() {
                let mut through = if self.latest == NEVER { NEVER } else { watermark };
                if self.is_idle(now, self.lanes[index].length) {
                    through = through.max(now.wall.0);
                }
                let through = through.saturating_sub(self.plan.lateness);
                if through >= self.lanes[index].next_close() {
                    self.close_through(index, through, shared);
                    has_moved = true;
                }
            }
            if has_moved {
                self.move_on(shared);
            }
        }
        if self.due >= ACK_BATCH || (self.due > 0 && now.mono >= self.due_since + ACK_DELAY) {
            self.settle(shared.effects);
        }
        self.sweep(now, shared);
    }

    fn is_idle(&self, now: Now, length: i64) -> bool {
        let silent = self.last_fed.map(|last| now.mono.since(last));
        silent.is_some_and(|silent| silent >= idle_after(self.plan.lateness, length))
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
        let first_moment = self.release_time(span.start);
        let taken = self.lanes[index].take(span.start);
        if taken.is_some() && self.was_judged(first_moment, span.end) {
            shared.stats.windows_inherited += 1;
        } else {
            shared.stats.windows_closed += u64::from(taken.is_some());
            let voice =
                Voice { node: shared.node, revision: shared.revision, source: &self.key, epoch: self.epoch };
            let (unconfirmed, effects) = (&mut self.unconfirmed, &mut *shared.effects);
            let (mut published, mut dropped) = (0, 0);
            let mut say = |event| match unconfirmed.publish(first_moment, event) {
                Some(effect) => {
                    effects.push(effect);
                    published += 1;
                }
                None => dropped += 1,
            };
            let closed = Closed { span, window: taken.as_ref().map(|(_, window)| window) };
            let lane = (index, &mut self.lanes[index]);
            self.groups.close(&self.plan, lane, closed, voice, shared.stats, &mut say);
            shared.stats.alerts_published += published;
            shared.stats.alerts_dropped += dropped;
        }
        let had_samples = taken.is_some();
        if let Some(taken) = taken {
            self.lanes[index].put_back(taken);
        }
        had_samples
    }

    /// Whether a former owner has closed this window, so that its deliveries are not whole any more.
    fn was_judged(&self, first_moment: Wall, end: i64) -> bool {
        self.inherited.is_some_and(|lowest| first_moment < lowest)
            && self.inherited_latest >= end.saturating_add(self.plan.lateness)
    }

    /// Works out anew through which time deliveries may be acknowledged, and acknowledges them if it has moved.
    fn move_on(&mut self, shared: &mut Shared<'_>) {
        let closed = self.lanes.iter().filter(|lane| lane.is_used).map(|lane| lane.closed).min();
        let pending = self.unconfirmed.lowest().map_or(i64::MAX, |from| from.0.saturating_sub(1));
        let through = Wall(closed.unwrap_or(i64::MAX).min(pending));
        // It falls back when a new revision watches what nobody watched before.
        let has_risen = through > std::mem::replace(&mut self.through, through);
        if has_risen {
            self.settle(shared.effects);
        }
    }

    fn send_acks(&mut self, effects: &mut Vec<Effect>) {
        let slot = self.slot;
        effects.extend(self.acks.drain(..).map(|ack| match ack {
            Ack::UpTo(token) => Effect::AckUpTo { slot, token },
            Ack::Range(first, last) => Effect::AckRange { slot, first, last },
        }));
    }

    /// The broker has an alert event. Returns whether it was one of this source's.
    pub(crate) fn confirmed(&mut self, id: AlertId, shared: &mut Shared<'_>) -> bool {
        let was_ours = self.unconfirmed.confirm(id);
        if was_ours {
            self.move_on(shared);
        }
        was_ours
    }

    /// The channel is gone: all that was not settled comes again. What is closed stays closed.
    pub(crate) fn lost(&mut self) {
        self.held.clear();
        self.due = 0;
        self.lanes.iter_mut().for_each(Lane::discard);
        (self.latest, self.last_fed, self.settled_in) = (NEVER, None, None);
        self.is_heir = false;
    }

    /// Goes over to another revision. Returns `false` where that does not know the source any more.
    pub(crate) fn adopt(&mut self, schema: &Schema, shared: &mut Shared<'_>) -> bool {
        let Some(plan) = Plan::of(schema, &self.key) else { return false };
        let old = std::mem::replace(&mut self.plan, plan);
        self.lay_lanes();
        let voice =
            Voice { node: shared.node, revision: shared.revision, source: &self.key, epoch: self.epoch };
        let (unconfirmed, effects) = (&mut self.unconfirmed, &mut *shared.effects);
        let mut published = 0;
        self.groups.adopt(&old, &self.plan, &mut self.lanes, voice, &mut |event| {
            if let Some(effect) = unconfirmed.publish(Wall(i64::MAX), event) {
                effects.push(effect);
                published += 1;
            }
        });
        shared.stats.alerts_published += published;
        shared.customer.series -= self.series.len();
        self.series.clear();
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_used) {
            lane.discard();
        }
        self.move_on(shared);
        true
    }

    /// Forgets series that have not been seen for long, and what only they fed.
    fn sweep(&mut self, now: Now, shared: &mut Shared<'_>) {
        if self.sweep_at.is_none_or(|at| now.mono < at) {
            return;
        }
        let longest = self.plan.watches.iter().map(|watch| watch.length).max().unwrap_or_default();
        let twice = Duration::from_nanos(longest.unsigned_abs().saturating_mul(2));
        self.sweep_at = Some(now.mono + SERIES_IDLE.max(twice));
        let mut fed: Vec<Vec<bool>> = vec![Vec::new(); self.lanes.len()];
        let before = self.series.len();
        self.series.sweep(|target| {
            let fed = &mut fed[usize::from(target.lane)];
            let cell = target.cell as usize;
            if cell >= fed.len() {
                fed.resize(cell + 1, false);
            }
            fed[cell] = true;
        });
        shared.customer.series -= before - self.series.len();
        let is_fed = |lane: u16, cell: u32| fed[usize::from(lane)].get(cell as usize) == Some(&true);
        self.groups.sweep(&self.plan, &mut self.lanes, is_fed);
    }

    /// Acknowledges all that may be.
    pub(crate) fn settle(&mut self, effects: &mut Vec<Effect>) {
        self.held.release(self.through, &mut self.acks);
        self.due = 0;
        self.send_acks(effects);
    }

    /// Deliveries not settled.
    pub(crate) fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Series known.
    pub(crate) fn series_len(&self) -> usize {
        self.series.len()
    }

    /// Alert events not confirmed.
    pub(crate) fn pending(&self) -> usize {
        self.unconfirmed.by_id.len()
    }

    /// Age of the oldest unsettled delivery.
    pub(crate) fn lag(&self, now: Mono) -> Duration {
        self.held.oldest().map_or(Duration::ZERO, |came| now.since(came))
    }

    pub(crate) fn stats(&self, now: Mono) -> SourceStats {
        SourceStats {
            source: self.key.clone(),
            held: self.held.len(),
            lag_ms: u64::try_from(self.lag(now).as_millis()).unwrap_or(u64::MAX),
            alerts_pending: self.unconfirmed.by_id.len(),
        }
    }

    /// When the source wants a tick at the latest.
    pub(crate) fn wakeup(&self, now: Now) -> Option<Mono> {
        let ack = (self.due > 0).then(|| self.due_since + ACK_DELAY);
        let close = self.next_close(now).map(|at| at.max(self.settled_in.unwrap_or(at)));
        [ack, close, self.sweep_at].into_iter().flatten().min()
    }

    /// When the next window that matters will close if nothing more is delivered.
    fn next_close(&self, now: Now) -> Option<Mono> {
        let last = self.last_fed?;
        let lanes = self.lanes.iter().filter(|lane| {
            lane.is_used && (self.held.len() > self.due || lane.live > 0 || lane.open_len() > 0)
        });
        lanes
            .filter_map(|lane| {
                let end = lane.next_end()?.saturating_add(self.plan.lateness);
                let wait = Duration::from_nanos(u64::try_from(end.saturating_sub(now.wall.0)).unwrap_or(0));
                let by_wall = now.mono + wait;
                let idle = last + idle_after(self.plan.lateness, lane.length);
                Some(if self.latest >= end { by_wall } else { by_wall.max(idle) })
            })
            .min()
    }
}

/// Alert events that the broker has not confirmed, and from which release time on each holds deliveries back.
#[derive(Debug, Default)]
struct Unconfirmed {
    by_id: BTreeMap<AlertId, Wall>,
    by_time: BTreeSet<(Wall, AlertId)>,
}

impl Unconfirmed {
    /// Notes an event and says how to publish it; `None` where too many wait already.
    fn publish(&mut self, from: Wall, event: AlertEvent) -> Option<Effect> {
        if self.by_id.len() >= ALERTS_PENDING_MAX {
            return None;
        }
        self.confirm(event.id);
        self.by_id.insert(event.id, from);
        self.by_time.insert((from, event.id));
        Some(Effect::Publish(Box::new(event)))
    }

    /// Returns whether it was waited for.
    fn confirm(&mut self, id: AlertId) -> bool {
        let from = self.by_id.remove(&id);
        from.is_some_and(|from| self.by_time.remove(&(from, id)))
    }

    fn lowest(&self) -> Option<Wall> {
        self.by_time.first().map(|(from, _)| *from)
    }
}
