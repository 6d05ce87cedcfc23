//! Copies of the map: what a standby is told, and how one that is to lead begins from what it was told.

use std::time::Duration;

use kinetic_wire::{Change, MoveRecord, MoveWhy, NodeId, Now, SourceKey, SourceState};

use super::Placing;
use crate::epochs::Epochs;
use crate::lease::Leases;
use crate::table::NOBODY;

impl Placing {
    /// A copy of the map says how a source stands: until its owner has spoken, that is presumed. What an owner has said
    /// itself stands.
    pub(crate) fn presume(&mut self, state: &SourceState) {
        let Some(unit) = self.table.find(&state.source).filter(|&unit| self.table.is_listed(unit)) else {
            self.presumptions_unknown += 1;
            return;
        };
        if self.table.unit(unit).owner != NOBODY && !self.table.is_presumed(unit) {
            return;
        }
        let owner = state.owner.as_ref().map(|owner| (self.table.intern(&owner.node), owner));
        self.table.presume(unit, owner);
        self.table.measure(unit, state.rate);
    }

    /// A copy of the map says that a source is no more. What it is here, the schema says; but nobody is known to own it.
    pub(crate) fn presume_gone(&mut self, source: &SourceKey) {
        if let Some(unit) = self.table.find(source).filter(|&unit| self.table.is_presumed(unit)) {
            self.table.release(unit, MoveWhy::Changed);
        }
    }

    /// A leadership begins: whoever owned something is presumed to own it still, and has the listen period to say so.
    pub(crate) fn presume_all(&mut self) {
        self.listening = true;
        self.departures.clear();
        self.shedding.clear();
        self.stuck.clear();
        self.table.presume_all();
        self.table.released.clear();
    }

    /// Everybody has had time to speak. A presumed owner that lives keeps its unit, under a new epoch since it did not
    /// say that it has it; one that does not is lost.
    pub(crate) fn end_of_listening(&mut self, now: Now, leases: &Leases, epochs: &mut Epochs) {
        self.listening = false;
        (self.dirty, self.retry) = (true, true);
        for unit in 0..self.table.listed() as u32 {
            if !self.table.is_presumed(unit) {
                continue;
            }
            let entry = *self.table.unit(unit);
            let rests_until = self.rest_left(now, unit);
            self.table.release(unit, MoveWhy::OwnerLost);
            if self.may_take(now, entry.owner, unit, leases) {
                self.give(now, unit, entry.owner, epochs.take());
                self.table.explain(unit, entry.why);
                self.table.rest(unit, rests_until);
            }
        }
    }

    /// The last moves.
    pub(crate) fn moves_newest_first(&self) -> Vec<MoveRecord> {
        self.records.iter().cloned().collect()
    }

    /// A page of units after a key, `limit` at most, and whether there are more.
    pub(crate) fn page(&self, after: Option<&SourceKey>, limit: usize) -> (Vec<SourceState>, bool) {
        let mut units = self.table.after(after);
        let page = units.by_ref().take(limit).map(|unit| self.table.state(unit)).collect();
        (page, units.next().is_some())
    }

    /// Sources that changed since the last call, as they are now; `None` where more did than is remembered, so that copies
    /// must be made anew.
    pub(crate) fn take_changes(&mut self) -> Option<Vec<Change>> {
        self.table.take_changes()
    }

    /// How long a node is held down yet, because it flaps.
    pub(crate) fn held_down(&self, now: Now, node: &NodeId) -> Duration {
        self.flaps.held_down(now.mono, node).unwrap_or_default()
    }
}
