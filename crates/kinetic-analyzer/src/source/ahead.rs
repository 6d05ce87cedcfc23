//! A wall clock that was ahead for a while, and is right again.
//!
//! Where this node's clock is ahead, alone while a source is silent or together with its publishers', windows are closed that
//! are still to come. With the right clock all that is published would be late for them. So what lies ahead of any sample is
//! not believed for ever: a sample that comes in its time, and finds its window closed so far ahead that no clock which is
//! right can have closed it, proves that one was wrong. Then windows are closed through the one of the latest moment that a
//! sample may have ([`AHEAD_MAX`] from now) and no further.
//!
//! That one stays closed, so that no window of real time is judged twice: before the clock went wrong it may have been begun,
//! and have been judged when it did. So what is lost is at most the rest of a window and [`AHEAD_MAX`].
//!
//! A clock that is *behind* proves nothing by itself: what its publishers then send is too far ahead, and is dropped.

use kinetic_wire::{Now, Partial, Wall};

use super::{AHEAD_MAX, Shared, Source};
use crate::lane::{Lane, NEVER};
use crate::partial;

impl Source {
    /// What silence has been proven of, and since when a part is read, cannot lie after the present.
    pub(super) fn heed(&mut self, now: Wall) {
        if self.heard > now.0 {
            self.heard = NEVER;
        }
        self.role.heed(now.0);
    }

    /// Something has come in its time, and what is closed, or was seen, lies further ahead than any sample may.
    #[cold]
    pub(super) fn bring_back(&mut self, now: Now, shared: &mut Shared<'_>) {
        let latest = (now.wall + AHEAD_MAX).0;
        let is_ahead: Vec<bool> = self.lanes.iter().map(|lane| lane.is_ahead(latest)).collect();
        let by = self.lanes.iter().map(|lane| lane.closed).max().unwrap_or(NEVER).max(self.latest);
        let dropped = self.forget_after(now, latest);
        tracing::warn!(
            source = %self.key,
            ahead_s = (by.saturating_sub(now.wall.0) / 1_000_000_000).max(0),
            dropped,
            "a wall clock was ahead, here, at a former owner or at a part's: what it has closed ahead of time is open again"
        );
        shared.stats.clocks_brought_back += 1;
        self.groups.bring_back(&self.plan, &self.lanes, latest);
        for (index, _) in is_ahead.into_iter().enumerate().filter(|(_, is_ahead)| *is_ahead) {
            let Lane { length, closed, .. } = self.lanes[index];
            self.keeper.bring_back(length, closed);
            self.role.bring_back(index, length);
            self.tell_closed(index, shared);
        }
        self.move_on(shared);
    }

    /// Forgets what was seen of the time after a moment. Returns how many deliveries held nothing else.
    fn forget_after(&mut self, now: Now, latest: i64) -> usize {
        self.lanes.iter_mut().for_each(|lane| lane.bring_back(latest));
        (self.latest, self.heard) = (NEVER, NEVER);
        let release = self.release_time(latest);
        self.repeats.forget_after(release);
        let dropped = self.held.forgive(release);
        if self.due == 0 {
            self.due_since = now.mono;
        }
        self.due += dropped;
        dropped
    }

    /// A part says something of a window. If that can have been, and more is closed than can, or the part has claimed more,
    /// a clock was wrong.
    pub(super) fn take_back(&mut self, now: Now, index: usize, partial: &Partial, shared: &mut Shared<'_>) {
        let lane = &self.lanes[index];
        let latest = lane.end_of((now.wall + AHEAD_MAX).0);
        let is_ahead = partial.end_ns <= latest && lane.closed > latest;
        if is_ahead
            || self.role.merge(index).is_some_and(|merge| merge.take_back(latest, partial::claim(partial)))
        {
            self.bring_back(now, shared);
        }
    }
}
