//! What replay can do without: a repeat of a firing alert that a newer one has replaced.
//!
//! While an alert fires its analyzer says so after every window, and each time the newer word replaces the older whole. Of
//! such a row replay needs the first, which began it, the last, and one of each half day between: a replay that begins within
//! the row must meet the alert before what was decided upon it. This is decided where the event takes effect, since only
//! there is known what the effect was; that replay of the rest gives the same machine is what the property test holds.

use std::collections::VecDeque;
use std::time::Duration;

use kinetic_wire::AlertEvent;

use crate::clock::Steady;
use crate::group::{AlertView, Applied};
use crate::id::GroupKey;
use crate::machine::{Alert, RecordSeq};
use crate::trail::POINTS_MAX;
use crate::watchdog;

/// Of a row of refreshes one in this time stays.
const NEEDED_EVERY: Duration = Duration::from_secs(12 * 3_600);

/// How far history has been looked through, and what of it replay will not need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Up to this record it is decided: those not named, now or by an earlier compaction, are needed until one names them.
    pub upto: RecordSeq,
    /// Records at or before `upto` that are not needed any more, each named once, ascending.
    pub superseded: Vec<RecordSeq>,
}

/// Records that a newer one has replaced, and that have not been told yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Superseded {
    records: Vec<RecordSeq>,
    /// The last events on disk, as many as replay can remember the ids of. Those that were accepted and are not on disk
    /// do not count: after a crash they are not there.
    recent: VecDeque<RecordSeq>,
}

/// How an alert stood before an event.
#[derive(Clone, Debug)]
pub(crate) struct Stood {
    source: String,
    refresh: Option<RecordSeq>,
    drawn: VecDeque<RecordSeq>,
    needed_at: Steady,
}

impl Stood {
    pub(crate) fn of(alert: &mut AlertView) -> Self {
        Self {
            source: alert.source.clone(),
            refresh: alert.refresh,
            drawn: std::mem::take(&mut alert.drawn),
            needed_at: alert.needed_at,
        }
    }
}

/// Whether an alert has a picture, whose windows come from its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picture {
    None,
    Kept,
}

impl Superseded {
    /// The event of record `seq` is on disk.
    pub(crate) fn recorded(&mut self, seq: RecordSeq, ids_max: usize) {
        self.recent.push_back(seq);
        if self.recent.len() > ids_max.max(1) {
            self.recent.pop_front();
        }
    }

    /// The event of record `seq` has had this effect on the alert that stood so, and now stands as `alert`.
    ///
    /// A refresh may go when the next event that takes effect on its alert replaces it and nothing in between had been
    /// judged by it: an event that came out of order was, so the refresh it was held against stays. The source must be
    /// the same, because events also carry its epoch. Where there is a picture it goes when its window leaves that.
    pub(crate) fn note(
        &mut self,
        applied: Applied,
        mut stood: Option<Stood>,
        (seq, event): (RecordSeq, &AlertEvent),
        alert: Option<&mut AlertView>,
        picture: Picture,
    ) {
        // Words about nodes also feed the watchdog, and are few.
        if watchdog::is_of_nodes(&GroupKey::of(event)) {
            return;
        }
        let replaces = matches!(applied, Applied::Refreshed | Applied::Ended);
        let mut drawn = stood.as_mut().map(|stood| std::mem::take(&mut stood.drawn)).unwrap_or_default();
        let stood = stood.filter(|stood| replaces && stood.source == event.source.as_str());
        drawn.extend(stood.as_ref().and_then(|stood| stood.refresh));
        let stays = match (applied, picture) {
            (Applied::OutOfOrder, _) => drawn.len(),
            (Applied::Refreshed, Picture::Kept) => POINTS_MAX,
            _ => 0,
        };
        self.records.extend(drawn.drain(..drawn.len().saturating_sub(stays)));
        let Some(alert) = alert else { return };
        alert.drawn = drawn;
        alert.refresh = None;
        if let Some(stood) = stood.filter(|stood| alert.heard_at.since(stood.needed_at) < NEEDED_EVERY) {
            alert.needed_at = stood.needed_at;
            alert.refresh = (applied == Applied::Refreshed).then_some(seq);
        }
    }
}

impl Alert {
    /// What history is known not to be needed for replay, since this was last asked. The shell asks now and then: what
    /// has not been asked for is kept in memory, 8 bytes an event.
    ///
    /// Events whose ids are remembered are not named: replay must know them, so that their repeats are.
    pub fn compact(&mut self) -> Compaction {
        let first = self.superseded.recent.front().copied().unwrap_or_default();
        let upto = RecordSeq(first.0.saturating_sub(1));
        let records = &mut self.superseded.records;
        records.sort_unstable();
        let later = records.split_off(records.partition_point(|seq| *seq <= upto));
        Compaction { upto, superseded: std::mem::replace(records, later) }
    }
}
