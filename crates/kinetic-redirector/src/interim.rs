//! What the table does not do yet.

use kinetic_wire::{Change, MoveRecord, Now, SourceKey, SourceState, Wall};

use crate::epochs::Epochs;
use crate::lease::Leases;
use crate::placing::Placing;
use crate::view;

impl Placing {
    pub(crate) fn presume(&mut self, state: &SourceState) {
        let Some(slot) = self.table.get(&state.source) else { return };
        match (&state.owner, &slot.owner) {
            (None, Some(_)) => {
                self.table.release(&state.source);
            }
            (Some(owner), _) if owner.epoch > slot.epoch => {
                let since = Wall(owner.since_ms.saturating_mul(1_000_000));
                self.table.assign(&state.source, &owner.node, owner.epoch, since);
                self.table.presume(&state.source);
            }
            _ => {}
        }
    }

    pub(crate) fn presume_all(&mut self) {
        let sources: Vec<SourceKey> = self.table.iter().map(|(source, _)| source.clone()).collect();
        for source in sources {
            self.table.presume(&source);
        }
    }

    pub(crate) fn presume_gone(&mut self, source: &SourceKey) {
        self.table.release(source);
    }

    pub(crate) fn end_of_listening(&mut self, now: Now, leases: &Leases, epochs: &mut Epochs) {
        let _ = (now, leases, epochs);
        self.dirty = true;
        let lost: Vec<SourceKey> = self
            .table
            .iter()
            .filter(|(_, slot)| slot.owner.as_ref().is_some_and(|owner| owner.presumed))
            .map(|(source, _)| source.clone())
            .collect();
        for source in lost {
            self.table.release(&source);
        }
    }

    pub(crate) fn take_changes(&mut self) -> Option<Vec<Change>> {
        let mut changes = Vec::new();
        let mut now = std::collections::BTreeMap::new();
        for state in view::source_states(&self.table, None) {
            if self.told.get(&state.source) != Some(&state) {
                changes.push(Change::Source(state.clone()));
            }
            now.insert(state.source.clone(), state);
        }
        for source in self.told.keys().filter(|source| !now.contains_key(*source)) {
            changes.push(Change::SourceGone(source.clone()));
        }
        self.told = now;
        Some(changes)
    }

    pub(crate) fn moves_newest_first(&self) -> Vec<MoveRecord> {
        Vec::new()
    }
}
