//! The table as messages say it.

use std::ops::Bound;

use kinetic_wire::{Change, OwnerState, SourceKey, SourceState};

use super::{HELD, LEAVING, LOGGED, NOBODY, Table};

impl Table {
    /// A unit as it is now.
    pub(crate) fn state(&self, unit: u32) -> SourceState {
        let entry = self.unit(unit);
        let data_type = match (unit as usize).checked_sub(self.map.units()) {
            None => self.map.needs(unit).1,
            Some(index) => self.unlisted[index].data_type,
        };
        let owner = (entry.owner != NOBODY).then(|| OwnerState {
            node: self.node(entry.owner).name.clone(),
            epoch: entry.epoch,
            since_ms: entry.since_ms,
            why: entry.why,
            held: entry.is(HELD),
            leaving: entry.is(LEAVING),
        });
        SourceState {
            source: self.key(unit),
            region: self.region(unit).clone(),
            data_type,
            rate: u64::from(entry.rate),
            owner,
        }
    }

    /// Numbers of units in the order of their keys, from after this key on.
    pub(crate) fn after(&self, after: Option<&SourceKey>) -> impl Iterator<Item = u32> {
        let first = after.map_or(0, |key| self.map.rank_after(key));
        let mut listed = (first..self.map.units() as u32).peekable();
        let bound = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut unlisted = self.unlisted_of.range::<SourceKey, _>((bound, Bound::Unbounded)).peekable();
        std::iter::from_fn(move || {
            let (Some(&rank), Some((key, _))) = (listed.peek(), unlisted.peek()) else {
                return listed.next().or_else(|| unlisted.next().map(|(_, unit)| *unit));
            };
            if self.map.unit(rank).key() < **key {
                listed.next()
            } else {
                unlisted.next().map(|(_, unit)| *unit)
            }
        })
    }

    /// Empties the change log: sources that are no more, then sources as they are now. `None` after an overflow.
    pub(crate) fn take_changes(&mut self) -> Option<Vec<Change>> {
        let (gone, units, overflowed) = self.log.take();
        for &unit in &units {
            self.units[unit as usize].flags &= !LOGGED;
        }
        let gone = gone.into_iter().map(Change::SourceGone);
        // One that the map no longer had may have been let go since it was noted.
        let stands = |unit: &&u32| {
            let index = (**unit as usize).checked_sub(self.map.units());
            index.is_none_or(|index| self.unlisted_of.contains_key(&self.unlisted[index].key))
        };
        let changed = units.iter().filter(stands).map(|&unit| Change::Source(self.state(unit)));
        (!overflowed).then(|| gone.chain(changed).collect())
    }
}
