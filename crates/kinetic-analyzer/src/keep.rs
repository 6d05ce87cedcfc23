//! The order in which a source's work becomes safe: alert events confirmed, then a snapshot, then deliveries acknowledged.
//!
//! ```text
//! a window closes ─▶ due ─ take ─▶ Waiting ─ its alert events are confirmed ─▶ Effect::Keep ─ Input::Kept ─▶ covered
//! ```
//! One snapshot is under way at a time. What happens meanwhile is in the next one, which is taken when this one has
//! been confirmed; so a slow broker makes snapshots rarer, and deliveries are held longer, up to their bound.
//!
//! A snapshot is taken at once and held back until the alert events up to then are confirmed, rather than taken when none
//! is unconfirmed: while a backlog is read there is always one.

use std::collections::{BTreeMap, BTreeSet};

use kinetic_wire::{AlertEvent, AlertId, Wall};

use crate::lane::NEVER;
use crate::machine::Effect;

/// Alert events of one source that may wait for the broker's confirm; one more is dropped (counted).
pub const ALERTS_PENDING_MAX: usize = 65_536;

/// Where the current snapshot is.
#[derive(Debug, Default)]
enum Stage {
    #[default]
    None,
    /// Taken; alert events up to a number must be confirmed first.
    Waiting { body: Vec<u8>, after: u64 },
    /// On its way to the broker.
    UnderWay,
}

/// A source's unconfirmed alert events and its snapshot.
#[derive(Debug)]
pub(crate) struct Keeper {
    by_id: BTreeMap<AlertId, u64>,
    by_number: BTreeSet<(u64, AlertId)>,
    /// Alert events so far.
    number: u64,
    /// Something has happened that no snapshot says.
    is_due: bool,
    stage: Stage,
    /// Number of the last snapshot.
    seq: u64,
    /// Length and end of the last closed window of each lane, as the last snapshot says them.
    lanes: Vec<(i64, i64)>,
    /// The lowest of the latter.
    covers: Wall,
}

impl Keeper {
    pub(crate) fn new() -> Self {
        Self {
            by_id: BTreeMap::new(),
            by_number: BTreeSet::new(),
            number: 0,
            is_due: false,
            stage: Stage::None,
            seq: 0,
            lanes: Vec::new(),
            covers: Wall(NEVER),
        }
    }

    /// Goes on after a former owner's number.
    pub(crate) fn continue_after(&mut self, seq: u64) {
        self.seq = self.seq.max(seq);
    }

    /// Notes an event and says how to publish it; `None` where too many wait already.
    pub(crate) fn publish(&mut self, event: AlertEvent) -> Option<Effect> {
        self.note(event.id).then(|| Effect::Publish(Box::new(event)))
    }

    /// Notes what is to be confirmed under an id. Returns false where too much waits already.
    pub(crate) fn note(&mut self, id: AlertId) -> bool {
        if self.by_id.len() >= ALERTS_PENDING_MAX {
            return false;
        }
        self.confirm(id);
        self.number += 1;
        self.by_id.insert(id, self.number);
        self.by_number.insert((self.number, id));
        true
    }

    /// The broker has an event. Returns whether it was waited for.
    pub(crate) fn confirm(&mut self, id: AlertId) -> bool {
        let number = self.by_id.remove(&id);
        number.is_some_and(|number| self.by_number.remove(&(number, id)))
    }

    /// Alert events not confirmed.
    pub(crate) fn pending(&self) -> usize {
        self.by_id.len()
    }

    /// Something has happened that is to be in a snapshot.
    pub(crate) fn due(&mut self) {
        self.is_due = true;
    }

    /// Whether deliveries of this release time wait for another snapshot than the last one taken.
    pub(crate) fn is_beyond(&self, release: Wall) -> bool {
        release > self.covers
    }

    /// Whether it is time to take a snapshot.
    #[inline]
    pub(crate) fn wants(&self) -> bool {
        self.is_due && matches!(self.stage, Stage::None)
    }

    /// Nothing is unconfirmed, and nothing is left to be said.
    pub(crate) fn is_at_rest(&self) -> bool {
        !self.is_due && matches!(self.stage, Stage::None) && self.by_id.is_empty()
    }

    /// Number of the snapshot to be taken next.
    pub(crate) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// A snapshot has been taken. `lanes` are its lanes by length, with the end of the last closed window of each.
    pub(crate) fn take(&mut self, body: Vec<u8>, lanes: Vec<(i64, i64)>) {
        self.is_due = false;
        self.covers = Wall(lanes.iter().map(|(_, closed)| *closed).min().unwrap_or(i64::MAX));
        self.lanes = lanes;
        self.stage = Stage::Waiting { body, after: self.number };
    }

    /// Of the windows of one length no more than through an end count as closed after all: neither does a snapshot say so
    /// that is under way, and another is due.
    pub(crate) fn bring_back(&mut self, length: i64, end: i64) {
        for (_, closed) in self.lanes.iter_mut().filter(|(of, _)| *of == length) {
            *closed = end.min(*closed);
        }
        self.covers = Wall(self.covers.0.min(end));
        self.is_due = true;
    }

    /// The snapshot that may be published now: its number and body.
    pub(crate) fn release(&mut self) -> Option<(u64, Vec<u8>)> {
        let lowest = self.by_number.first().map_or(u64::MAX, |(number, _)| *number);
        match &mut self.stage {
            Stage::Waiting { body, after } if lowest > *after => {
                let body = std::mem::take(body);
                self.stage = Stage::UnderWay;
                Some((self.seq, body))
            }
            _ => None,
        }
    }

    /// The broker has a snapshot. Returns its lanes if it is the one that was waited for.
    pub(crate) fn kept(&mut self, seq: u64) -> Option<&[(i64, i64)]> {
        if !matches!(self.stage, Stage::UnderWay) || seq != self.seq {
            return None;
        }
        self.stage = Stage::None;
        Some(&self.lanes)
    }
}
