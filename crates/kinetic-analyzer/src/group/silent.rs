//! The rule that listens: a feed that was heard of fires when nothing has been heard of it for too long.
//!
//! Silence is measured in windows, which close by event time while anything of the source comes and by the wall clock
//! while nothing does. So a backlog is no silence, however late it is read: its windows hold what was said in them. And a
//! source that is dead altogether is noticed without a delivery. What nobody listened to counts as no silence either: the
//! time between two owners, or between two connections to the broker, a window that a part of the source said nothing of, or one
//! of which samples were dropped because the customer sends more than it may.
//!
//! A feed was last **seen** at the end of the last window with a sample of it: at most one window after that sample.

use kinetic_schema::schema::Silent;
use kinetic_wire::{AlertEvent, Wall};

use super::{Closing, Group, REFRESH_NS, Span};
use crate::lane::NEVER;
use crate::plan;
use crate::stats::Stats;

/// A feed that was silent for so long, seven days, is forgotten, and its alert resolved: it was taken out of service, and
/// nobody said so.
pub(crate) const FORGET_NS: i64 = 7 * 86_400 * 1_000_000_000;

impl Closing<'_> {
    /// Looks who was heard in a window, and who has not been for too long.
    pub(super) fn listen(
        &mut self,
        rule: &Silent,
        (deaf, is_short): (Span, bool),
        group: &mut Group,
        stats: &mut Stats,
        say: &mut impl FnMut(AlertEvent),
    ) {
        let (end, after) = (self.span.end, plan::nanos(rule.after));
        let refresh = REFRESH_NS.max(self.watch.length);
        for feed in &mut group.feeds {
            let was_firing = feed.standing.firing.is_some();
            let change = if self.window.is_some_and(|window| window.cell(feed.cell).samples() > 0) {
                feed.seen = end;
                feed.standing.end()
            } else if feed.seen == NEVER {
                continue;
            } else if is_short && !was_firing {
                // What was dropped may have been its word: the time stands still.
                feed.seen = feed.seen.saturating_add(end.saturating_sub(self.span.start));
                continue;
            } else if end.saturating_sub(feed.seen) >= FORGET_NS {
                stats.silent_forgotten += 1;
                feed.seen = NEVER;
                feed.standing.end()
            } else if end.saturating_sub(feed.seen) - overlap(deaf, feed.seen, end) >= after {
                feed.standing.begin(Wall(feed.seen), Wall(end), refresh)
            } else {
                continue;
            };
            stats.silent += u64::from(!was_firing && feed.standing.firing.is_some());
            self.say(feed, change, || (None, None), say);
        }
    }
}

/// How much of the time from one moment to another lies in a span.
fn overlap(span: Span, from: i64, to: i64) -> i64 {
    span.end.min(to).saturating_sub(span.start.max(from)).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps() {
        let span = Span { start: 10, end: 20 };
        assert_eq!([overlap(span, 0, 5), overlap(span, 0, 15), overlap(span, 0, 30)], [0, 5, 10]);
        assert_eq!([overlap(span, 12, 15), overlap(span, 15, 30), overlap(span, 25, 30)], [3, 5, 0]);
        assert_eq!(overlap(Span { start: 0, end: 0 }, -5, 5), 0);
    }
}
