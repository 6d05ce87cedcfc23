//! How much of a customer is taken, and what is said where that is less than what comes.
//!
//! ```text
//! delivery ─ security event? ─▶ dead letter      ─ larger than a message may be? ─▶ dead letter
//!          ─ body ─ its minute full? ─▶ samples dropped, the windows they lie in are short
//!                 ─ sample ─ new series ─ room? ─▶ known from now on, or dropped; those known before go on
//! ```

use kinetic_wire::{BreachKind, Breached, Now};

use super::{Shared, Source};
use crate::breach::Whose;
use crate::machine::Delivery;
use crate::minutes::Minute;
use crate::pass::{Room, Tally};

fn size(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl Source {
    /// Counts a breach, and has it told.
    pub(super) fn note(&self, now: Now, what: Breached, shared: &mut Shared<'_>) {
        shared.customer.breaches.add(what.kind, what.dropped);
        let whose = Whose { slot: self.slot, source: &self.key, epoch: self.epoch };
        shared.watch.saw(now.mono, whose, what);
    }

    /// Whether a message is larger than the customer's may be.
    pub(super) fn is_too_large(&self, now: Now, delivery: &Delivery<'_>, shared: &mut Shared<'_>) -> bool {
        let (value, limit) = (delivery.body.len() as u64, self.plan.limits.message_bytes);
        if value <= limit {
            return false;
        }
        let what = Breached { kind: BreachKind::MessageBytes, limit, value, dropped: 1, by: None };
        self.note(now, what, shared);
        true
    }

    /// How many series there may be.
    pub(super) fn room(&self, shared: &Shared<'_>) -> Room {
        let limits = &self.plan.limits;
        Room {
            series: size(limits.series),
            feeds: size(limits.feeds).min(shared.series_max),
            customer: shared.series_max,
            all: shared.series_total_max,
            share: shared.series_share,
        }
    }

    /// Counts a body into its minute, and what of it was too much.
    pub(super) fn count(&mut self, now: Now, tally: Tally, minute: Option<Minute>, shared: &mut Shared<'_>) {
        let limited = tally.limited();
        let dropped = if limited.is_some() { tally.samples() } else { 0 };
        let taken = tally.samples() - dropped;
        let rate = minute.map_or(0, |minute| shared.minutes.count(minute, now.wall, taken, dropped));
        if let Some(span) = limited {
            self.lanes.iter_mut().for_each(|lane| lane.fall_short(span));
        }
        let limits = self.plan.limits;
        for (kind, dropped) in tally.excesses() {
            let (limit, value) = match kind {
                BreachKind::SamplesPerSecond => (limits.samples_per_second, rate),
                BreachKind::Feeds => (limits.feeds, self.series.feeds() as u64),
                _ => (limits.series, self.series.len() as u64),
            };
            self.note(now, Breached { kind, limit, value, dropped, by: None }, shared);
        }
    }

    /// So many series fewer are known.
    pub(super) fn release_series(&self, fewer: usize, shared: &mut Shared<'_>) {
        shared.customer.series -= fewer;
        shared.stats.series -= fewer;
    }
}
