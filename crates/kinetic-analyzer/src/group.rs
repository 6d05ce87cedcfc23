//! The feeds of one cluster that are compared in one metric, and what closing a window does to them.

mod reduce;
mod silent;
mod trail;

use std::collections::BTreeMap;
use std::sync::Arc;

use kinetic_wire::{
    AlertEvent, AlertState, AnalyticName, ClusterName, Direction, Epoch, Feed as WireFeed, NodeId, Numbers,
    ServiceName, Snapshot, SourceKey, TrailPoint, Wall, WatchState,
};

use kinetic_schema::schema::{Deviates, Rule};

use self::trail::Trail;
use crate::deviates::{self, NoVerdict};
use crate::lane::{Lane, NEVER, Window};
use crate::plan::{Identity, Plan, Watch};
use crate::series::Target;
use crate::snapshot;
use crate::stats::Stats;
use crate::verdict::{Change, Standing, alert_id};

/// A standing alert is said again after this long (or one window, if that is longer), so that the alert node can tell
/// a standing one from one whose analyzer is gone.
pub(crate) const REFRESH_NS: i64 = 60_000_000_000;

/// One member of a group.
#[derive(Debug)]
struct Feed {
    origin: Box<str>,
    cell: u32,
    /// Its place in the trail, from its first value on.
    slot: u32,
    /// Where its gauge stood at the end of the last closed window.
    level: Option<f64>,
    standing: Standing,
    /// End of the last window with a sample of it, where a rule listens for silence or parts of the source bring its
    /// values; else `NEVER`.
    seen: i64,
}

impl Feed {
    fn new(origin: &str, cell: u32) -> Self {
        Self {
            origin: origin.into(),
            cell,
            slot: trail::NO_SLOT,
            level: None,
            standing: Standing::default(),
            seen: NEVER,
        }
    }

    /// When it was last seen, if that is to be remembered.
    fn remembered(&self, watch: &Watch) -> Option<i64> {
        (matches!(watch.rule, Rule::Silent(_)) && self.seen != NEVER).then_some(self.seen)
    }

    /// Something is remembered that a window without samples could change.
    fn is_live(&self, watch: &Watch) -> bool {
        !self.standing.is_blank() || self.remembered(watch).is_some()
    }
}

/// One metric over one cluster.
#[derive(Debug, Default)]
struct Group {
    /// By origin, so that sums are taken in the same order whoever takes them.
    feeds: Vec<Feed>,
    /// Those that have come since they were last looked at all together, for which no place has been made yet: to make room
    /// for each would cost as much as there are, and a hundred thousand new ones would keep everybody waiting.
    fresh: BTreeMap<Box<str>, Feed>,
    /// Deltas have moved a gauge of it: a metric that one feed moves by deltas is moved so by all, and where each stands
    /// is to be remembered.
    is_moved: bool,
    /// Why the last window gave no verdict.
    silence: Option<NoVerdict>,
    /// Its last judged windows.
    trail: Trail,
}

impl Group {
    /// The feed of an origin, and whether it is new.
    fn feed(&mut self, origin: &str, lane: &mut Lane) -> (&mut Feed, bool) {
        if let Ok(known) = self.feeds.binary_search_by(|feed| (*feed.origin).cmp(origin)) {
            return (&mut self.feeds[known], false);
        }
        let is_new = !self.fresh.contains_key(origin);
        let feed = self.fresh.entry(origin.into()).or_insert_with(|| Feed::new(origin, lane.new_cell()));
        (feed, is_new)
    }

    /// Whether the feed of an origin is known.
    fn knows(&self, origin: &str) -> bool {
        self.fresh.contains_key(origin)
            || self.feeds.binary_search_by(|feed| (*feed.origin).cmp(origin)).is_ok()
    }

    /// Every feed, to be read, in any order.
    fn all(&self) -> impl Iterator<Item = &Feed> {
        self.feeds.iter().chain(self.fresh.values())
    }

    /// New feeds take their places.
    fn settle(&mut self) {
        if !self.fresh.is_empty() {
            self.feeds.extend(std::mem::take(&mut self.fresh).into_values());
            // Two sorted runs, which this merges.
            self.feeds.sort_by(|a, b| a.origin.cmp(&b.origin));
        }
    }
}

/// All groups of a source, by watch and metric.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<(usize, Arc<str>), Group>,
    /// Values of the window at hand, and whose they are.
    values: Vec<f64>,
    members: Vec<usize>,
    /// Feeds that are known because a part has sent a value of them.
    given: usize,
}

/// Who speaks in alert events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voice<'a> {
    pub(crate) node: &'a NodeId,
    pub(crate) revision: &'a str,
    pub(crate) source: &'a SourceKey,
    pub(crate) epoch: Epoch,
}

/// A window's bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

/// A window that closes; `window` is `None` where no sample fell into it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed<'w> {
    pub(crate) span: Span,
    pub(crate) window: Option<&'w Window>,
    /// When nobody listened last: silence then is nobody's.
    pub(crate) deaf: Span,
    /// Samples of it were dropped, because the customer sends more than it may.
    pub(crate) is_short: bool,
}

impl Groups {
    /// Finds the cells that a series seen for the first time is to feed, making groups and feeds as needed.
    pub(crate) fn learn(&mut self, plan: &Plan, lanes: &mut [Lane], identity: &Identity) -> Vec<Target> {
        let mut targets = Vec::new();
        for (index, watch) in plan.watches.iter().enumerate().filter(|(_, watch)| watch.wants(identity)) {
            let (metric, origin) = watch.feed_of(identity);
            let group = self.groups.entry((index, Arc::from(metric))).or_default();
            let (feed, _) = group.feed(origin, &mut lanes[usize::from(watch.lane)]);
            targets.push(Target { cell: feed.cell, lane: watch.lane, value: watch.value() });
        }
        targets
    }

    /// Judges one closed window of one lane.
    pub(crate) fn close(
        &mut self,
        plan: &Plan,
        lane: (usize, &mut Lane),
        closed: Closed<'_>,
        voice: Voice<'_>,
        stats: &mut Stats,
        say: &mut impl FnMut(AlertEvent),
    ) {
        let (lane_index, lane) = lane;
        let Closed { span, window, deaf, is_short } = closed;
        lane.live = 0;
        for ((watch, metric), group) in &mut self.groups {
            let watch = &plan.watches[*watch];
            if usize::from(watch.lane) != lane_index {
                continue;
            }
            group.settle();
            let mut closing = Closing {
                watch,
                metric,
                span,
                window,
                voice,
                values: &mut self.values,
                members: &mut self.members,
            };
            match &watch.rule {
                // Who was dropped more often than its peers would seem to have done less.
                Rule::Deviates(_) if is_short && watch.counts() => closing.pass_all(group, say),
                Rule::Deviates(rule) => closing.judge(rule, group, stats, say),
                Rule::Silent(rule) => closing.listen(rule, (deaf, is_short), group, stats, say),
            }
            lane.live += group.feeds.iter().filter(|feed| feed.is_live(watch)).count();
        }
    }

    /// Nothing can have happened after a moment: what is remembered is no later than the end of the window that it lies in.
    pub(crate) fn bring_back(&mut self, plan: &Plan, lanes: &[Lane], latest: i64) {
        for ((watch, _), group) in &mut self.groups {
            let end = lanes[usize::from(plan.watches[*watch].lane)].end_of(latest);
            group.settle();
            for feed in &mut group.feeds {
                feed.seen = feed.seen.min(end);
                if let Some(firing) = &mut feed.standing.firing {
                    (firing.since, firing.said) = (firing.since.min(Wall(end)), firing.said.min(Wall(end)));
                }
            }
        }
    }

    /// Carries the groups over to another revision's plan. What it does not ask any more is resolved and forgotten.
    pub(crate) fn adopt(
        &mut self,
        old: &Plan,
        new: &Plan,
        lanes: &mut [Lane],
        voice: Voice<'_>,
        say: &mut impl FnMut(AlertEvent),
    ) {
        for ((index, metric), group) in std::mem::take(&mut self.groups) {
            let watch = &old.watches[index];
            if let Some(kept) = new.watches.iter().position(|candidate| candidate.is_same(watch)) {
                self.groups.insert((kept, metric), group);
                continue;
            }
            let lane = &mut lanes[usize::from(watch.lane)];
            let span = Span { start: lane.closed.saturating_sub(lane.length), end: lane.closed };
            for feed in group.feeds.into_iter().chain(group.fresh.into_values()) {
                if let Some(firing) = feed.standing.firing {
                    let event = Event { state: AlertState::Resolved, since: firing.since, numbers: None };
                    say(voice.event(About::of(watch), &metric, &feed.origin, 0, span, event));
                }
                lane.free_cell(feed.cell);
            }
        }
    }

    /// What is to be remembered.
    pub(crate) fn remember(&self, plan: &Plan) -> Vec<WatchState> {
        let mut watches: Vec<WatchState> = plan.watches.iter().map(snapshot::of_watch).collect();
        for ((watch, metric), group) in &self.groups {
            let feeds = group.all().filter_map(|feed| {
                let level = feed.level.filter(|_| group.is_moved);
                let seen = feed.remembered(&plan.watches[*watch]);
                snapshot::of_feed(&feed.origin, &feed.standing, level, seen)
            });
            let feeds: Vec<_> = feeds.collect();
            if !feeds.is_empty() {
                watches[*watch].metrics.push(snapshot::of_metric(metric, feeds));
            }
        }
        watches.retain(|watch| !watch.metrics.is_empty());
        watches
    }

    /// Takes over what a former owner remembered. What this plan does not ask any more is resolved and forgotten.
    pub(crate) fn recall(
        &mut self,
        plan: &Plan,
        lanes: &mut [Lane],
        snapshot: &Snapshot,
        voice: Voice<'_>,
        say: &mut impl FnMut(AlertEvent),
    ) {
        for state in &snapshot.watches {
            match plan.watches.iter().position(|watch| snapshot::is_of(state, watch)) {
                Some(index) => self.recall_watch((index, &plan.watches[index]), lanes, state),
                None => resolve_all(state, snapshot, voice, say),
            }
        }
    }

    fn recall_watch(&mut self, (index, watch): (usize, &Watch), lanes: &mut [Lane], state: &WatchState) {
        let lane = &mut lanes[usize::from(watch.lane)];
        for metric in &state.metrics {
            let group = self.groups.entry((index, Arc::from(metric.metric.as_str()))).or_default();
            for remembered in &metric.feeds {
                let (feed, is_new) = group.feed(&remembered.o, lane);
                if !is_new {
                    continue;
                }
                (feed.standing, feed.level) = snapshot::to_feed(remembered);
                feed.seen = remembered.s.unwrap_or(NEVER);
                let (is_live, is_moved) = (feed.is_live(watch), feed.level.is_some());
                group.is_moved |= is_moved;
                lane.live += usize::from(is_live);
            }
        }
    }

    /// Forgets the feeds that no known series feeds, that no part has brought a value of for `idle` nanoseconds, and that
    /// nothing is remembered of.
    pub(crate) fn sweep(
        &mut self,
        plan: &Plan,
        lanes: &mut [Lane],
        idle: i64,
        is_fed: impl Fn(u16, u32) -> bool,
    ) {
        let mut given = 0;
        self.groups.retain(|(watch, _), group| {
            let watch = &plan.watches[*watch];
            let lane = &mut lanes[usize::from(watch.lane)];
            group.settle();
            let Group { feeds, trail, .. } = group;
            feeds.retain(|feed| {
                let is_brought = feed.seen != NEVER && feed.seen.saturating_add(idle) > lane.closed;
                let keep = is_fed(watch.lane, feed.cell) || is_brought || feed.is_live(watch);
                if !keep {
                    trail.free_slot(feed.slot);
                    lane.free_cell(feed.cell);
                }
                given += usize::from(keep && feed.seen != NEVER);
                keep
            });
            !group.feeds.is_empty()
        });
        self.given = given;
    }
}

/// Resolves what stood under a question that is not asked any more.
fn resolve_all(state: &WatchState, snapshot: &Snapshot, voice: Voice<'_>, say: &mut impl FnMut(AlertEvent)) {
    let lane = snapshot.lanes.iter().find(|lane| lane.length_ns == state.length_ns);
    let end = lane.and_then(|lane| lane.closed_ns).unwrap_or_default();
    let span = Span { start: end.saturating_sub(state.length_ns), end };
    for metric in &state.metrics {
        for feed in &metric.feeds {
            if let Some((since, _)) = feed.f {
                let event = Event { state: AlertState::Resolved, since: Wall(since), numbers: None };
                say(voice.event(About::remembered(state), &metric.metric, &feed.o, 0, span, event));
            }
        }
    }
}

/// One group in one window.
struct Closing<'c> {
    watch: &'c Watch,
    metric: &'c str,
    span: Span,
    window: Option<&'c Window>,
    voice: Voice<'c>,
    values: &'c mut Vec<f64>,
    members: &'c mut Vec<usize>,
}

impl Closing<'_> {
    fn judge(
        &mut self,
        rule: &Deviates,
        group: &mut Group,
        stats: &mut Stats,
        say: &mut impl FnMut(AlertEvent),
    ) {
        group.is_moved |= self.gather(&mut group.feeds);
        if self.values.is_empty() {
            return self.pass_all(group, say);
        }
        let spread = match deviates::spread(rule, self.values) {
            Ok(spread) => spread,
            Err(why) => {
                match why {
                    NoVerdict::TooFewFeeds => stats.too_few_feeds += 1,
                    NoVerdict::Unattainable => stats.unattainable += 1,
                }
                self.note(group, Some(why));
                return self.pass_all(group, say);
            }
        };
        stats.judged += 1;
        self.note(group, None);
        self.keep_trail(group, spread.mean(), spread.deviation());
        let Group { feeds, trail, .. } = group;
        let mut next = 0;
        for (index, feed) in feeds.iter_mut().enumerate() {
            if self.members.get(next) != Some(&index) {
                self.pass(feed, say);
                continue;
            }
            let is_out = spread.is_out(self.values[next]);
            stats.outliers += u64::from(is_out);
            let hysteresis = self.watch.analytic.hysteresis;
            let refresh = REFRESH_NS.max(self.watch.length);
            let change = feed.standing.judge(hysteresis, is_out, Wall(self.span.end), refresh);
            let begins = change == Change::Firing { since: Wall(self.span.end) };
            let trail = begins.then(|| trail.of(feed.slot));
            self.say(feed, change, || (Some(spread.numbers(self.values, next)), trail), say);
            next += 1;
        }
    }

    /// Remembers a judged window.
    fn keep_trail(&self, group: &mut Group, mean: f64, deviation: f64) {
        let Group { feeds, trail, .. } = group;
        for &member in self.members.iter() {
            let feed = &mut feeds[member];
            if feed.slot == trail::NO_SLOT {
                feed.slot = trail.new_slot();
            }
        }
        let slots = self.members.iter().map(|&member| feeds[member].slot);
        trail.push(Wall(self.span.end).as_ms(), mean, deviation, slots.zip(self.values.iter().copied()));
    }

    /// Values of the feeds that have one, in the order of the feeds. Returns whether deltas have moved one.
    fn gather(&mut self, feeds: &mut [Feed]) -> bool {
        self.values.clear();
        self.members.clear();
        let Some(window) = self.window else { return false };
        let mut is_moved = false;
        let seconds = self.watch.length as f64 / 1e9;
        for (index, feed) in feeds.iter_mut().enumerate() {
            let cell = window.cell(feed.cell);
            let value = cell.finish(self.watch.analytic.value, seconds, &mut feed.level, &window.sides);
            is_moved |= cell.is_moved();
            if let Some(value) = value {
                self.values.push(value);
                self.members.push(index);
            }
        }
        is_moved
    }

    /// There is no verdict.
    fn pass_all(&self, group: &mut Group, say: &mut impl FnMut(AlertEvent)) {
        for feed in &mut group.feeds {
            self.pass(feed, say);
        }
    }

    fn pass(&self, feed: &mut Feed, say: &mut impl FnMut(AlertEvent)) {
        let change = feed.standing.pass(self.watch.analytic.hysteresis);
        self.say(feed, change, || (None, None), say);
    }

    fn say(
        &self,
        feed: &Feed,
        change: Change,
        numbers: impl FnOnce() -> (Option<Numbers>, Option<Vec<TrailPoint>>),
        say: &mut impl FnMut(AlertEvent),
    ) {
        let (state, since) = match change {
            Change::Nothing => return,
            Change::Firing { since } => (AlertState::Firing, since),
            Change::Resolved { since } => (AlertState::Resolved, since),
        };
        let hits = feed.standing.hits(self.watch.analytic.hysteresis);
        let (numbers, trail) = numbers();
        let event = Event { state, since, numbers };
        let mut event =
            self.voice.event(About::of(self.watch), self.metric, &feed.origin, hits, self.span, event);
        event.traceparent = self.window.and_then(|window| window.traceparent.clone());
        event.trail = trail;
        say(event);
    }

    /// Says why there is no verdict, once, and that there is one again.
    fn note(&self, group: &mut Group, why: Option<NoVerdict>) {
        if group.silence == why {
            return;
        }
        group.silence = why;
        let (source, analytic) = (self.voice.source, &self.watch.analytic.name);
        let (cluster, feeds) = (&self.watch.on.cluster, self.values.len());
        match why {
            Some(why) => {
                tracing::info!(%source, %analytic, %cluster, metric = self.metric, feeds, ?why, "no verdict");
            }
            None => {
                tracing::debug!(%source, %analytic, %cluster, metric = self.metric, feeds, "verdicts again")
            }
        }
    }
}

/// What is to be said of a feed.
struct Event {
    state: AlertState,
    since: Wall,
    numbers: Option<Numbers>,
}

/// What an alert event is about, besides the feed.
#[derive(Clone, Copy, Debug)]
struct About<'a> {
    analytic: &'a AnalyticName,
    service: &'a ServiceName,
    cluster: &'a ClusterName,
    value_kind: &'a str,
    direction: Direction,
    of: u32,
}

impl<'a> About<'a> {
    fn of(watch: &'a Watch) -> Self {
        Self {
            analytic: &watch.analytic.name,
            service: &watch.on.service,
            cluster: &watch.on.cluster,
            value_kind: watch.value_kind(),
            direction: watch.direction(),
            of: watch.analytic.hysteresis.of,
        }
    }

    fn remembered(state: &'a WatchState) -> Self {
        Self {
            analytic: &state.analytic,
            service: &state.service,
            cluster: &state.cluster,
            value_kind: &state.value_kind,
            direction: state.direction,
            of: state.of,
        }
    }
}

impl Voice<'_> {
    fn event(
        &self,
        about: About<'_>,
        metric: &str,
        origin: &str,
        hits: u32,
        span: Span,
        event: Event,
    ) -> AlertEvent {
        let names = [
            self.source.customer.as_str(),
            about.analytic.as_str(),
            about.service.as_str(),
            about.cluster.as_str(),
            metric,
            origin,
        ];
        AlertEvent {
            v: 1,
            id: alert_id(names, Wall(span.start), event.state),
            customer: self.source.customer.clone(),
            source: self.source.source.clone(),
            analytic: about.analytic.clone(),
            service: about.service.clone(),
            cluster: about.cluster.clone(),
            feed: WireFeed { origin: origin.to_owned(), metric: metric.to_owned() },
            state: event.state,
            window_start_ms: Wall(span.start).as_ms(),
            window_end_ms: Wall(span.end).as_ms(),
            since_ms: event.since.as_ms(),
            numbers: event.numbers,
            value_kind: about.value_kind.to_owned(),
            direction: about.direction,
            hits,
            of: about.of,
            epoch: self.epoch,
            node: self.node.clone(),
            schema: Some(self.revision.to_owned()).filter(|revision| !revision.is_empty()),
            traceparent: None,
            trail: None,
            breach: None,
        }
    }
}
