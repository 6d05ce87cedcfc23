//! Which windows the parts of a split source have closed, as they say themselves ([`kinetic_wire::Partial`]).
//!
//! Every part makes **claims**: "closed from here to there". A part's claims follow each other without a gap, but they may
//! arrive in any order, in several messages each, and more than once. The owner of the source closes a window when the
//! claims of all parts cover it. A part that nothing is heard of does not hold the others up for ever: a window that one
//! part has claimed closes after [`PARTS_WAIT`] in any case, which also ends the wait for a claim that got lost.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_wire::{Epoch, Mono};

use crate::lane::NEVER;

/// How long a window that one part has closed waits for the others. Longer than a part's owner needs to be replaced (a lease
/// and the grace after it, 20 s as delivered), so that a crash costs no verdict a feed.
pub const PARTS_WAIT: Duration = Duration::from_secs(60);
/// Claims of one part and length that wait for an earlier one, or for the rest of their messages; one more is left aside
/// (counted), and its windows close after [`PARTS_WAIT`].
pub(crate) const CLAIMS_MAX: usize = 1024;
/// Messages that one claim may come in; a body that says more is refused.
pub(crate) const MESSAGES_MAX: u32 = 4096;

/// One message's claim: part of "all windows from `from` to `end` are closed".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// 1 to n.
    pub(crate) part: u16,
    /// `None`: from the beginning of time.
    pub(crate) from: Option<i64>,
    pub(crate) end: i64,
    pub(crate) index: u32,
    pub(crate) of: u32,
}

/// A claim that cannot be believed yet.
#[derive(Debug)]
struct Waiting {
    from: i64,
    /// Which of its messages are there.
    has: Vec<bool>,
}

/// What one part has said of the windows of one length.
#[derive(Debug)]
struct Part {
    /// All windows that end by here are closed.
    through: i64,
    /// By end.
    waiting: BTreeMap<i64, Waiting>,
}

/// What all parts have said of the windows of one length.
#[derive(Debug)]
pub(crate) struct Merge {
    parts: Vec<Part>,
    /// All windows that end by here are closed.
    closed: i64,
    /// When which end beyond that was first claimed, for the ends beyond all before: both grow.
    came: Vec<(i64, Mono)>,
}

impl Merge {
    /// Of so many parts; all windows that end by `closed` are closed, whoever may say something of them.
    pub(crate) fn new(parts: u16, closed: i64) -> Self {
        let part = || Part { through: closed, waiting: BTreeMap::new() };
        Self { parts: (0..parts).map(|_| part()).collect(), closed, came: Vec::new() }
    }

    /// Takes a claim. Returns false where too many wait. A part beyond the number is one that an earlier revision had: nobody
    /// waits for it.
    ///
    /// `latest` is the end of the last window that can have ended by now, by a clock that is not too far off. A part whose clock runs ahead claims windows that
    /// have not: the others are not late with those, and must not be passed over when they speak in their time.
    pub(crate) fn claim(&mut self, now: Mono, latest: i64, claim: Claim) -> bool {
        let Some(part) = self.parts.get_mut(usize::from(claim.part).wrapping_sub(1)) else { return true };
        // What is closed already nobody waits for: it would be overdue for ever.
        let end = claim.end.min(latest);
        if end > self.came.last().map_or(self.closed, |(end, _)| *end) {
            self.came.push((end, now));
        }
        if claim.end <= part.through {
            return true;
        }
        if !part.waiting.contains_key(&claim.end) && part.waiting.len() >= CLAIMS_MAX {
            return false;
        }
        let from = claim.from.unwrap_or(NEVER);
        let messages = claim.of as usize;
        let fresh = || Waiting { from, has: vec![false; messages] };
        let waiting = part.waiting.entry(claim.end).or_insert_with(fresh);
        if waiting.has.len() != messages {
            // A successor cut the same window up differently; what it says counts by itself.
            *waiting = fresh();
        }
        // A successor without a memory claims all the time before, and by right: nothing was left to it from there.
        waiting.from = waiting.from.min(from);
        if let Some(has) = waiting.has.get_mut(claim.index as usize) {
            *has = true;
        }
        part.believe();
        true
    }

    /// A part claims an end that can have been by a moment. Where it has claimed ends after that moment, its clock was wrong,
    /// and is right again: it begins anew. Returns whether that is so.
    pub(crate) fn take_back(&mut self, latest: i64, claim: Claim) -> bool {
        let part = self.parts.get_mut(usize::from(claim.part).wrapping_sub(1));
        let Some(part) = part.filter(|part| part.through > latest && claim.end <= latest) else {
            return false;
        };
        part.through = self.closed;
        part.waiting.retain(|end, _| *end <= latest);
        true
    }

    /// All parts have closed the windows that end by here.
    pub(crate) fn through(&self) -> i64 {
        self.parts.iter().map(|part| part.through).min().unwrap_or(i64::MAX)
    }

    /// The windows that end by here have waited long enough.
    pub(crate) fn overdue(&self, now: Mono) -> i64 {
        let waited = |(_, came): &&(i64, Mono)| now >= *came + PARTS_WAIT;
        self.came.iter().rev().find(waited).map_or(NEVER, |(end, _)| *end)
    }

    /// When something will be overdue next.
    pub(crate) fn next_overdue(&self) -> Option<Mono> {
        self.came.first().map(|(_, came)| *came + PARTS_WAIT)
    }

    /// All windows that end by here are closed now.
    pub(crate) fn close(&mut self, closed: i64) {
        self.closed = self.closed.max(closed);
        self.came.retain(|(end, _)| *end > closed);
        for part in &mut self.parts {
            part.through = part.through.max(closed);
            part.believe();
        }
    }
}

impl Part {
    /// Goes on through the claims that follow on what is closed. Where nothing is closed yet, the first is where it begins.
    fn believe(&mut self) {
        let follows = |through: i64, end: i64, claim: &Waiting| {
            let is_next = claim.from <= through || through == NEVER;
            end <= through || (is_next && claim.has.iter().all(|has| *has))
        };
        while let Some(end) =
            self.waiting.iter().find(|(end, claim)| follows(self.through, **end, claim)).map(|(end, _)| *end)
        {
            self.waiting.remove(&end);
            self.through = self.through.max(end);
        }
    }
}

/// The highest epoch seen of each part: an owner of before is not believed any more, except of the windows that it had closed
/// when its successor began. Its word of those may come after its successor's, where a broker delivers it again.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    by_part: BTreeMap<u16, Present>,
}

/// The present owner of a part.
#[derive(Debug)]
struct Present {
    epoch: Epoch,
    /// By length of windows: where it began.
    began: BTreeMap<i64, i64>,
}

impl Epochs {
    /// Whether a part's owner at this epoch may speak of windows of this length.
    pub(crate) fn admit(&mut self, epoch: Epoch, length: i64, claim: Claim) -> bool {
        let fresh = || Present { epoch, began: BTreeMap::new() };
        let present = self.by_part.entry(claim.part).or_insert_with(fresh);
        if epoch < present.epoch {
            return present.began.get(&length).is_some_and(|began| claim.end <= *began);
        }
        if epoch > present.epoch {
            *present = fresh();
        }
        let from = claim.from.unwrap_or(NEVER);
        let began = present.began.entry(length).or_insert(from);
        *began = from.min(*began);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: Mono = Mono(0);
    /// All that is claimed can have ended.
    const NOW: i64 = i64::MAX;

    fn whole(part: u16, from: Option<i64>, end: i64) -> Claim {
        Claim { part, from, end, index: 0, of: 1 }
    }

    #[test]
    fn a_window_waits_for_all_parts() {
        let mut merge = Merge::new(2, NEVER);
        merge.claim(AT, NOW, whole(1, None, 10));
        merge.claim(AT, NOW, whole(1, Some(10), 20));
        assert_eq!(merge.through(), NEVER);
        merge.claim(AT, NOW, whole(2, None, 10));
        assert_eq!(merge.through(), 10);
        merge.claim(AT, NOW, whole(2, Some(10), 40));
        assert_eq!(merge.through(), 20);
    }

    #[test]
    fn claims_may_come_in_any_order_and_in_pieces() {
        let mut merge = Merge::new(1, 10);
        merge.claim(AT, NOW, whole(1, Some(20), 30));
        merge.claim(AT, NOW, Claim { part: 1, from: Some(10), end: 20, index: 1, of: 2 });
        merge.claim(AT, NOW, Claim { part: 1, from: Some(10), end: 20, index: 1, of: 2 });
        assert_eq!(merge.through(), 10, "one piece twice is not two pieces");
        merge.claim(AT, NOW, Claim { part: 1, from: Some(10), end: 20, index: 0, of: 2 });
        assert_eq!(merge.through(), 30);
    }

    #[test]
    fn a_successor_may_cut_a_window_otherwise() {
        let mut merge = Merge::new(1, 10);
        merge.claim(AT, NOW, Claim { part: 1, from: Some(10), end: 20, index: 0, of: 2 });
        merge.claim(AT, NOW, Claim { part: 1, from: Some(10), end: 20, index: 0, of: 3 });
        merge.claim(AT, NOW, Claim { part: 1, from: Some(10), end: 20, index: 1, of: 3 });
        assert_eq!(merge.through(), 10);
        merge.claim(AT, NOW, Claim { part: 1, from: Some(10), end: 20, index: 2, of: 3 });
        assert_eq!(merge.through(), 20);
    }

    #[test]
    fn a_missing_part_or_claim_is_waited_for_so_long_and_no_longer() {
        let mut merge = Merge::new(2, 0);
        merge.claim(AT, NOW, whole(1, Some(0), 10));
        merge.claim(AT + Duration::from_secs(10), NOW, whole(1, Some(10), 20));
        merge.claim(AT + Duration::from_secs(20), NOW, whole(2, Some(10), 20));
        assert_eq!((merge.through(), merge.next_overdue()), (0, Some(AT + PARTS_WAIT)));
        assert_eq!(merge.overdue(Mono(PARTS_WAIT.as_nanos() as u64 - 1)), NEVER);
        assert_eq!(merge.overdue(AT + PARTS_WAIT), 10);
        merge.close(10);
        assert_eq!(merge.through(), 20, "what followed on the lost claim counts again");
        merge.close(20);
        assert_eq!(merge.next_overdue(), None);
    }

    #[test]
    fn what_is_closed_is_never_overdue() {
        let mut merge = Merge::new(2, 20);
        merge.claim(AT, NOW, whole(1, None, 20));
        assert_eq!((merge.next_overdue(), merge.overdue(AT + PARTS_WAIT)), (None, NEVER));
        merge.claim(AT, NOW, whole(1, Some(20), 30));
        merge.close(30);
        merge.claim(AT, NOW, whole(2, Some(20), 30));
        assert_eq!(merge.next_overdue(), None, "said again by a successor");
    }

    #[test]
    fn a_clock_ahead_makes_nobody_late() {
        let mut merge = Merge::new(2, 10);
        merge.claim(AT, 20, whole(1, Some(10), 3600));
        assert_eq!(merge.overdue(AT + PARTS_WAIT), 20);
        merge.close(20);
        merge.claim(AT + Duration::from_secs(10), 30, whole(2, Some(20), 30));
        assert_eq!((merge.through(), merge.next_overdue()), (30, Some(AT + Duration::from_secs(70))));
    }

    #[test]
    fn the_first_claim_is_where_it_begins() {
        let mut merge = Merge::new(1, NEVER);
        merge.claim(AT, NOW, whole(1, Some(40), 50));
        assert_eq!(merge.through(), 50);
        merge.claim(AT, NOW, whole(1, Some(60), 70));
        assert_eq!(merge.through(), 50);
    }

    #[test]
    fn parts_that_are_no_more_hold_nobody_up() {
        let mut merge = Merge::new(1, 0);
        assert!(merge.claim(AT, NOW, whole(2, Some(0), 50)) && merge.claim(AT, NOW, whole(0, Some(0), 50)));
        assert_eq!(merge.through(), 0);
    }

    #[test]
    fn waiting_claims_are_bounded() {
        let mut merge = Merge::new(1, 0);
        let far = |n: i64| whole(1, Some(n * 10), n * 10 + 10);
        assert!((1..=1024).all(|n| merge.claim(AT, NOW, far(n))));
        assert!(!merge.claim(AT, NOW, far(1025)));
        merge.claim(AT, NOW, far(1024));
        assert_eq!(merge.through(), 0);
    }

    #[test]
    fn lower_epochs_are_not_heard() {
        let mut epochs = Epochs::default();
        let admitted = [(1, 5), (1, 5), (2, 3), (1, 7), (1, 5), (2, 3)]
            .map(|(p, e)| epochs.admit(Epoch(e), 10, whole(p, None, 10)));
        assert_eq!(admitted, [true, true, true, true, false, true]);
    }

    proptest! {
        /// Whatever the order and however often: once all is there all is closed, and before nothing that is not covered is.
        #[test]
        fn covered_is_what_all_pieces_say(
            cuts in prop::collection::vec((1..4_i64, 1..4_u32), 1..8),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let mut claims = Vec::new();
            let (mut from, mut end) = (Some(0), 0);
            for (windows, of) in cuts {
                end += windows;
                claims.extend((0..of).map(|index| Claim { part: 1, from, end, index, of }));
                from = Some(end);
            }
            let mut merge = Merge::new(1, 0);
            let mut seen = vec![false; claims.len()];
            let all = (0..claims.len()).rev();
            for index in order.iter().map(|index| index.index(claims.len())).chain(all) {
                merge.claim(AT, NOW, claims[index]);
                seen[index] = true;
                let missing = claims.iter().zip(&seen).find(|(_, seen)| !**seen);
                let want = missing.map_or(end, |(claim, _)| claim.from.unwrap_or(NEVER));
                prop_assert_eq!(merge.through(), want);
            }
        }
    }
}
