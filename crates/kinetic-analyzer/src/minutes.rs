//! How many samples a customer sends in each minute of its data's own time, against how many it may.
//!
//! By the data's time and not by ours, because after an outage the data of an hour comes in a minute, and nobody is over his
//! limit by that. A stamp can be forged, but each minute's share is given out once: who stamps his data with the minutes of the
//! last hour has an hour's share more, once, and then no more than anybody.

use std::collections::BTreeMap;

use kinetic_wire::Wall;

/// Minutes back from now that have shares of their own; older ones have one together. Longer than this a backlog may be, but
/// not faster than the limit from then on.
const MINUTES: i64 = 60;
/// Nanoseconds of one.
const MINUTE_NS: i64 = 60_000_000_000;
/// The same in seconds.
const MINUTE_S: u64 = 60;

/// One minute's samples.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    taken: u64,
    dropped: u64,
}

/// Those of the last hour.
#[derive(Debug, Default)]
pub(crate) struct Minutes(BTreeMap<i64, Count>);

/// A minute, by its number since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Minute(i64);

impl Minutes {
    /// The minute that a sample of this time counts in.
    pub(crate) fn of(at: i64, now: Wall) -> Minute {
        let present = now.0.div_euclid(MINUTE_NS);
        Minute(at.div_euclid(MINUTE_NS).clamp(present - MINUTES, present + 1))
    }

    /// Whether a minute has room.
    pub(crate) fn has_room(&self, minute: Minute, per_second: u64) -> bool {
        let taken = self.0.get(&minute.0).map_or(0, |count| count.taken);
        taken < per_second.saturating_mul(MINUTE_S)
    }

    /// Samples were taken in a minute, or dropped from it. Returns how many came a second, as far as it has come.
    pub(crate) fn count(&mut self, minute: Minute, now: Wall, taken: u64, dropped: u64) -> u64 {
        if !self.0.contains_key(&minute.0) {
            let present = now.0.div_euclid(MINUTE_NS);
            self.0.retain(|minute, _| (present - MINUTES..=present + 1).contains(minute));
        }
        let count = self.0.entry(minute.0).or_default();
        count.taken += taken;
        count.dropped += dropped;
        (count.taken + count.dropped) / MINUTE_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_one_share_whoever_stamps_it() {
        let now = Wall::from_secs(1_800_000_030);
        let mut minutes = Minutes::default();
        let mut taken = 0;
        // A day of stamps, each minute of it many times over: an hour's share, and what lies ahead and behind.
        for round in 0..7 {
            for back in (0..1440).rev() {
                let minute = Minutes::of(now.0 - back * MINUTE_NS - round, now);
                if minutes.has_room(minute, 10) {
                    minutes.count(minute, now, 100, 0);
                    taken += 100;
                }
            }
        }
        assert_eq!(taken, 61 * 600);
        assert_eq!(minutes.0.len(), 61);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_fill_the_table() {
        let mut minutes = Minutes::default();
        for day in (0..200).rev() {
            let now = Wall::from_secs(1_800_000_000 + day * 86_400);
            minutes.count(Minutes::of(now.0, now), now, 1, 0);
            assert_eq!(minutes.0.len(), 1);
        }
    }

    #[test]
    fn the_rate_says_what_came_and_not_what_was_taken() {
        let now = Wall::from_secs(1_800_000_000);
        let mut minutes = Minutes::default();
        let minute = Minutes::of(now.0, now);
        minutes.count(minute, now, 600, 0);
        assert!(!minutes.has_room(minute, 10));
        assert_eq!(minutes.count(minute, now, 0, 600), 20);
    }
}
