//! One body's way into the windows: the hot path. A sample of a known series costs a comparison and a few additions;
//! nothing is allocated for it, and counters are kept here until the body is done.

use kinetic_wire::{BreachKind, Wall};

use crate::cell::Observation;
use crate::group::Groups;
use crate::lane::{Fate, Lane, NEVER};
use crate::minutes::{Minute, Minutes};
use crate::plan::Plan;
use crate::sample::Sample;
use crate::series::{Id, ORIGIN_REFUSED, Series, Target};
use crate::source::Shared;

/// What one body held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    samples: u64,
    grouped: u64,
    late: u64,
    windows_refused: u64,
    future: u64,
    no_origin: u64,
    series_refused: u64,
    feeds_refused: u64,
    /// Samples that were dropped because the customer sends more than it may,
    limited: u64,
    /// the earliest and the latest.
    limited_span: (i64, i64),
    /// Latest stamp that was too far ahead.
    ahead: i64,
    /// A sample was late for a window that no clock which is right can have closed.
    pub(crate) is_behind: bool,
    /// Latest event time, `NEVER` without a sample.
    latest: i64,
    /// Latest event time of a sample that some analytic looks at, `NEVER` without one.
    pub(crate) fed: i64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            samples: 0,
            grouped: 0,
            late: 0,
            windows_refused: 0,
            future: 0,
            no_origin: 0,
            series_refused: 0,
            feeds_refused: 0,
            limited: 0,
            limited_span: (i64::MAX, NEVER),
            ahead: NEVER,
            is_behind: false,
            latest: NEVER,
            fed: NEVER,
        }
    }
}

impl Tally {
    /// Samples in the body.
    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// When the samples were that were dropped because the customer sends more than it may; `None` where none were.
    pub(crate) fn limited(&self) -> Option<(i64, i64)> {
        (self.limited > 0).then_some(self.limited_span)
    }

    /// What was too much in it, by kind: how many samples.
    pub(crate) fn excesses(&self) -> impl Iterator<Item = (BreachKind, u64)> {
        let all = [
            (BreachKind::SamplesPerSecond, self.limited),
            (BreachKind::Feeds, self.feeds_refused),
            (BreachKind::Series, self.series_refused),
        ];
        all.into_iter().filter(|(_, count)| *count > 0)
    }

    /// How far the latest stamp was ahead that was too far ahead, nanoseconds; 0 where none was.
    pub(crate) fn ahead_ns(&self, now: Wall) -> i64 {
        if self.future == 0 { 0 } else { self.ahead.saturating_sub(now.0) }
    }

    /// Adds it to the counters.
    pub(crate) fn count(&self, redelivered: bool, now: Wall, shared: &mut Shared<'_>) {
        let stats = &mut *shared.stats;
        stats.samples += self.samples;
        stats.samples_grouped += self.grouped;
        stats.windows_refused += self.windows_refused;
        stats.future += self.future;
        stats.no_origin += self.no_origin;
        let dropped = if redelivered { &mut stats.already_counted } else { &mut stats.late };
        *dropped += self.late;
        let ahead = u64::try_from(self.ahead.max(self.latest).saturating_sub(now.0)).unwrap_or(0) / 1_000_000;
        stats.skew_ahead_max_ms = stats.skew_ahead_max_ms.max(ahead);
    }
}

/// How many series there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Of the source, and its feeds.
    pub(crate) series: usize,
    pub(crate) feeds: usize,
    /// Of the customer.
    pub(crate) customer: usize,
    /// Of all, and how many of them each customer may have when there are as many.
    pub(crate) all: usize,
    pub(crate) share: usize,
}

/// Whether a body's samples are taken: its first one says in whose minute they count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gate<'p> {
    /// Not known yet; the bound is in samples a second.
    Closed { minutes: &'p Minutes, per_second: u64, now: Wall },
    /// They are, and count in this minute if in any.
    Open(Option<Minute>),
    /// They are not, for want of room in this one.
    Shut(Minute),
}

impl Gate<'_> {
    /// The minute that a body counts in.
    pub(crate) fn minute(&self) -> Option<Minute> {
        match self {
            Self::Closed { .. } => None,
            Self::Open(minute) => *minute,
            Self::Shut(minute) => Some(*minute),
        }
    }
}

/// The parts of a source that a body is read into.
#[derive(Debug)]
pub(crate) struct Pass<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) lanes: &'p mut [Lane],
    pub(crate) groups: &'p mut Groups,
    pub(crate) series: &'p mut Series,
    /// Series of the customer, and of all.
    pub(crate) customer_series: &'p mut usize,
    pub(crate) all_series: &'p mut usize,
    pub(crate) room: Room,
    /// Number and name of the delivery's origin.
    pub(crate) origin: u32,
    pub(crate) envelope_origin: Option<&'p str>,
    /// Time of samples that carry none.
    pub(crate) stamp: Wall,
    pub(crate) latest_allowed: Wall,
    pub(crate) gate: Gate<'p>,
    /// A sample that is later than this is looked at more closely: every one until the gate is open, so that this costs
    /// the others nothing.
    pub(crate) bar: i64,
    pub(crate) previous: Id,
    pub(crate) tally: Tally,
}

impl Pass<'_> {
    /// Takes one sample.
    #[inline]
    pub(crate) fn take(&mut self, sample: &Sample<'_>) {
        self.tally.samples += 1;
        let at = sample.at.unwrap_or(self.stamp).0;
        if at > self.bar && !self.passes(at) {
            return;
        }
        let id = match self.series.find(self.previous, self.origin, sample) {
            Some(id) => id,
            None => match self.learn(sample) {
                Some(id) => id,
                None => return,
            },
        };
        self.previous = id;
        self.tally.latest = self.tally.latest.max(at);
        let observation = Observation { kind: sample.kind, value: sample.value, rate: sample.rate, at };
        let targets = self.series.targets(id);
        for &Target { cell, lane, value } in targets {
            match self.lanes[usize::from(lane)].observe(cell, value, observation) {
                Fate::Counted => {}
                Fate::Late => {
                    self.tally.late += 1;
                    self.tally.is_behind |= self.lanes[usize::from(lane)].is_ahead(self.latest_allowed.0);
                }
                Fate::Refused => self.tally.windows_refused += 1,
            }
        }
        if !targets.is_empty() {
            self.tally.grouped += 1;
            self.tally.fed = self.tally.fed.max(at);
        }
    }

    /// Whether a sample is taken that is no plain one.
    #[cold]
    fn passes(&mut self, at: i64) -> bool {
        if at > self.latest_allowed.0 {
            self.tally.future += 1;
            self.tally.ahead = self.tally.ahead.max(at);
            return false;
        }
        if let Gate::Closed { minutes, per_second, now } = self.gate {
            let minute = Minutes::of(at, now);
            let has_room = minutes.has_room(minute, per_second);
            self.gate = if has_room { Gate::Open(Some(minute)) } else { Gate::Shut(minute) };
        }
        if let Gate::Open(_) = self.gate {
            self.bar = self.latest_allowed.0;
            return true;
        }
        let (first, last) = self.tally.limited_span;
        self.tally.limited += 1;
        self.tally.limited_span = (first.min(at), last.max(at));
        false
    }

    /// Whether one series more may be known. Asked before a name is looked at, so that many of them cost little.
    fn has_room(&self, sample: &Sample<'_>) -> bool {
        let Room { series, customer, all, share, .. } = self.room;
        let own = *self.customer_series;
        self.series.has_room(sample, series) && own < customer && (*self.all_series < all || own < share)
    }

    /// Adds a series that is seen for the first time.
    #[cold]
    fn learn(&mut self, sample: &Sample<'_>) -> Option<Id> {
        if !self.has_room(sample) {
            self.tally.series_refused += 1;
            return None;
        }
        let Some(identity) = self.plan.identify(sample, self.envelope_origin) else {
            self.tally.no_origin += 1;
            return None;
        };
        let is_full = || self.series.feeds() >= self.room.feeds && !self.series.has_feed(&identity.origin);
        if self.origin == ORIGIN_REFUSED || is_full() {
            self.tally.feeds_refused += 1;
            return None;
        }
        let targets = self.groups.learn(self.plan, self.lanes, &identity);
        let id = self.series.insert(self.previous, self.origin, sample, &identity.origin, &targets);
        match id {
            Some(_) => {
                *self.customer_series += 1;
                *self.all_series += 1;
            }
            None => self.tally.series_refused += 1,
        }
        id
    }
}
