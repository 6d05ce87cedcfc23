//! What changed since somebody last asked: a bounded list of units, each at most once, told as they are when asked.

use kinetic_wire::{Change, SourceKey};

/// Changes remembered; past it whoever keeps a copy must make it anew.
pub(crate) const CHANGES_MAX: usize = 65_536;

/// What changed since the last call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Changes {
    /// Sources that are no more, then sources as they are now.
    pub(crate) list: Vec<Change>,
    /// More changed than could be remembered: copies must be made anew.
    pub(crate) resync: bool,
    /// There are more: ask again.
    pub(crate) more: bool,
}

/// Units whose state is to be told, and keys of those that are gone.
#[derive(Debug, Default)]
pub(crate) struct ChangeLog {
    units: Vec<u32>,
    gone: Vec<SourceKey>,
    /// Told so far of `units` since it was last empty, from its front.
    told: usize,
    overflowed: bool,
    /// Times that it overflowed.
    pub(crate) overflows: u64,
}

impl ChangeLog {
    /// Notes a unit; false where there is no room, so that it is not in the log.
    pub(crate) fn changed(&mut self, unit: u32) -> bool {
        let has_room = self.has_room();
        if has_room {
            self.units.push(unit);
        }
        has_room
    }

    /// Notes a unit that is no more.
    pub(crate) fn gone(&mut self, key: SourceKey) {
        if self.has_room() {
            self.gone.push(key);
        }
    }

    fn has_room(&mut self) -> bool {
        if !self.overflowed && self.units.len() + self.gone.len() >= CHANGES_MAX {
            self.overflowed = true;
            self.overflows += 1;
            self.gone = Vec::new();
        }
        !self.overflowed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.units.is_empty() && self.gone.is_empty() && !self.overflowed
    }

    /// Units are about to get new numbers: whoever holds them notes them again. False where nothing more can be noted.
    pub(crate) fn forget_units(&mut self) -> bool {
        (self.units, self.told) = (Vec::new(), 0);
        !self.overflowed
    }

    /// Up to `max` keys and units, or all that it has after an overflow, and whether that happened.
    pub(crate) fn take(&mut self, max: usize) -> (Vec<SourceKey>, Vec<u32>, bool) {
        if std::mem::take(&mut self.overflowed) {
            let units = self.units.split_off(self.told);
            (self.units, self.told) = (Vec::new(), 0);
            return (Vec::new(), units, true);
        }
        let gone: Vec<SourceKey> = self.gone.drain(..max.min(self.gone.len())).collect();
        let end = (self.told + max - gone.len()).min(self.units.len());
        let units = self.units[self.told..end].to_vec();
        self.told = end;
        if self.told == self.units.len() {
            (self.units, self.told) = (Vec::new(), 0);
        }
        (gone, units, false)
    }
}
