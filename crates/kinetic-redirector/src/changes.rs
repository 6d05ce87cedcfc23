//! What changed since somebody last asked: a bounded list of units, each at most once, told as they are when asked.

use kinetic_wire::SourceKey;

/// Changes remembered; past it whoever keeps a copy must make it anew.
pub(crate) const CHANGES_MAX: usize = 16_384;

/// Units whose state is to be told, and keys of those that are gone.
#[derive(Debug, Default)]
pub(crate) struct ChangeLog {
    units: Vec<u32>,
    gone: Vec<SourceKey>,
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

    /// Units are about to get new numbers: whoever holds them notes them again. False where nothing more can be noted.
    pub(crate) fn forget_units(&mut self) -> bool {
        self.units = Vec::new();
        !self.overflowed
    }

    /// All that it has, and whether it had more.
    pub(crate) fn take(&mut self) -> (Vec<SourceKey>, Vec<u32>, bool) {
        let overflowed = std::mem::take(&mut self.overflowed);
        (std::mem::take(&mut self.gone), std::mem::take(&mut self.units), overflowed)
    }
}
