//! A new map: the units that both maps have keep their owners, under new numbers.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{LEAVING, LOGGED, Load, Move, NOBODY, Table, Unit, Unlisted};
use crate::machine::Map;
use crate::map::UnitEntry;

/// What a new map means for an owned unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relisted {
    /// The owner must let go: the source is gone, back again, its queue is elsewhere, or it is split or whole now.
    Release,
    /// The owner may stay if it can serve the source as it is now.
    Recheck,
    /// Nobody owns it, and its queue is elsewhere now.
    Elsewhere,
}

/// What differs between two maps for a unit that both have.
struct Difference<'m> {
    old: &'m Map,
    new: &'m Map,
    /// Index of a region in the new map, by index in the old one.
    regions: Vec<Option<u16>>,
}

impl<'m> Difference<'m> {
    fn new(old: &'m Map, new: &'m Map) -> Self {
        let position = |entry: &crate::map::RegionEntry| {
            let found = new.regions().iter().position(|other| other.name == entry.name);
            found.and_then(|index| u16::try_from(index).ok())
        };
        Self { old, new, regions: old.regions().iter().map(position).collect() }
    }

    /// Whether the definition of a unit has changed, and what that means for its owner.
    fn of(&self, before: &UnitEntry<'_>, after: &UnitEntry<'_>) -> (bool, Option<Relisted>) {
        let moved = self.regions[usize::from(before.region)] != Some(after.region);
        let split = (before.parts == 0) != (after.parts == 0);
        let retyped = before.data_type != after.data_type;
        let changed =
            moved || retyped || before.parts != after.parts || before.definition != after.definition;
        let means =
            if moved || split { Some(Relisted::Release) } else { retyped.then_some(Relisted::Recheck) };
        (changed, means)
    }

    /// Generation in which what is new or changed in the new map became so: 0 where that cannot be known, as with the
    /// first map of a process.
    fn generation(&self) -> u32 {
        let known = !self.old.revision().is_empty();
        if known { u32::try_from(self.new.generation()).unwrap_or(u32::MAX) } else { 0 }
    }
}

/// Which units of a new map an earlier one had as well. Their rows are gathered at the front of the table first, in order, so
/// that none is overwritten, and then spread to where they belong, the last first.
struct Stay {
    /// One bit per unit of the new map.
    bits: Vec<u64>,
    count: usize,
}

impl Stay {
    fn new(units: usize) -> Self {
        Self { bits: vec![0; units.div_ceil(64)], count: 0 }
    }

    /// One more stays, under this number from now on. Where its row is to be gathered.
    fn add(&mut self, rank: u32) -> usize {
        self.bits[rank as usize / 64] |= 1 << (rank % 64);
        self.count += 1;
        self.count - 1
    }

    /// Spreads the rows over a table of so many; between them stand fresh ones.
    fn spread(mut self, rows: &mut Vec<Unit>, units: usize, fresh: Unit) {
        rows.truncate(self.count);
        rows.reserve_exact(units - self.count);
        rows.resize(units, fresh);
        for rank in (0..units).rev() {
            let stays = self.bits[rank / 64] & (1 << (rank % 64)) != 0;
            self.count -= usize::from(stays);
            rows[rank] = if stays { rows[self.count] } else { fresh };
        }
    }
}

/// What is to be told of a unit whose definition has changed.
fn told(owner: u32, unit: u32, means: Relisted) -> Option<(u32, Relisted)> {
    match (owner, means) {
        (NOBODY, Relisted::Release) => Some((unit, Relisted::Elsewhere)),
        (NOBODY, _) => None,
        (_, means) => Some((unit, means)),
    }
}

impl Table {
    /// Brings the units in line with a map. Returns what changed for owned ones.
    pub(crate) fn relist(&mut self, map: Arc<Map>) -> Vec<(u32, Relisted)> {
        let old = std::mem::replace(&mut self.map, Arc::clone(&map));
        let difference = Difference::new(&old, &map);
        let changed = if self.unlisted.is_empty() && old.same_units(&map) {
            self.update(&difference)
        } else {
            self.merge(&difference)
        };
        if map.generation() < old.generation() {
            // History was rewritten: whatever counts now, no analyzer is behind it.
            for unit in &mut self.units {
                unit.generation = 0;
            }
        }
        changed
    }

    /// The same units under the same numbers.
    fn update(&mut self, difference: &Difference<'_>) -> Vec<(u32, Relisted)> {
        let mut relisted = Vec::new();
        for rank in 0..self.units.len() as u32 {
            let (before, after) = (difference.old.unit(rank), difference.new.unit(rank));
            let (changed, means) = difference.of(&before, &after);
            if changed {
                self.units[rank as usize].generation = difference.generation();
                self.log(rank);
            }
            relisted.extend(means.and_then(|means| told(self.unit(rank).owner, rank, means)));
        }
        relisted
    }

    /// Both maps are walked in the order of keys; units get their new numbers, in the table as it stands: a second one would
    /// be what a redirector needs most room for.
    fn merge(&mut self, difference: &Difference<'_>) -> Vec<(u32, Relisted)> {
        let Difference { old, new, .. } = *difference;
        let moves = std::mem::take(&mut self.moves);
        let unlisted = std::mem::take(&mut self.unlisted);
        let unlisted_of = std::mem::take(&mut self.unlisted_of);
        let logged = self.log.forget_units();
        let mut relisted = Vec::new();
        let strays = self.units.split_off(old.units());
        let mut stay = Stay::new(new.units());
        let mut leave = Vec::new();
        let mut rank = 0;
        for from in 0..old.units() as u32 {
            let before = old.unit(from);
            while (rank as usize) < new.units() && new.unit(rank).order(&before) == Ordering::Less {
                rank += 1;
            }
            let unit = self.units[from as usize];
            if (rank as usize) < new.units() && new.unit(rank).order(&before) == Ordering::Equal {
                let (changed, means) = difference.of(&before, &new.unit(rank));
                let entry = &mut self.units[stay.add(rank)];
                *entry = unit;
                if changed {
                    entry.generation = difference.generation();
                    entry.flags |= LOGGED;
                }
                if let Some(under_way) = moves.get(&from) {
                    self.moves.insert(rank, *under_way);
                }
                relisted.extend(means.and_then(|means| told(unit.owner, rank, means)));
            } else if unit.owner == NOBODY {
                self.log.gone(before.key());
            } else {
                let region = old.regions()[usize::from(before.region)].name.clone();
                let entry = Unlisted { key: before.key(), region, data_type: before.data_type };
                relisted.push(((new.units() + leave.len()) as u32, Relisted::Release));
                leave.push((entry, unit, moves.get(&from).copied()));
            }
        }
        stay.spread(&mut self.units, new.units(), Unit::new(difference.generation()));
        for (entry, unit, under_way) in leave {
            self.unlist(entry, unit, under_way);
        }
        // What an earlier map no longer had may be back; it goes on leaving either way.
        for from in unlisted_of.into_values() {
            let index = from as usize - old.units();
            let (entry, unit, under_way) =
                (unlisted[index].clone(), strays[index], moves.get(&from).copied());
            let to = match new.rank(&entry.key) {
                Some(to) => {
                    let generation = difference.generation();
                    self.units[to as usize] = Unit { generation, flags: unit.flags | LOGGED, ..unit };
                    under_way.iter().for_each(|under_way| _ = self.moves.insert(to, *under_way));
                    to
                }
                None => self.unlist(entry, unit, under_way),
            };
            relisted.push((to, Relisted::Release));
        }
        self.recount();
        self.log_all(logged);
        relisted
    }

    fn unlist(&mut self, entry: Unlisted, unit: Unit, under_way: Option<Move>) -> u32 {
        let to = self.units.len() as u32;
        self.unlisted_of.insert(entry.key.clone(), to);
        self.unlisted.push(entry);
        self.units.push(unit);
        if let Some(under_way) = under_way {
            self.moves.insert(to, under_way);
        }
        to
    }

    /// Lists and sums, made anew from the units.
    fn recount(&mut self) {
        for node in &mut self.nodes {
            node.units.clear();
            (node.count, node.load) = (0, Load::default());
        }
        self.released = Vec::new();
        self.total = Load::default();
        for unit in 0..self.units.len() as u32 {
            let owner = self.unit(unit).owner;
            self.attach(unit, owner);
            if self.is_leaving(unit) {
                let target = self.holder(unit);
                self.uncount(owner, unit);
                self.count(target, unit);
            }
            if self.is_listed(unit) {
                let (rate, judges) = (self.unit(unit).rate, self.judges(unit));
                self.total.add(rate, judges);
            }
        }
        debug_assert!(
            self.units.iter().filter(|unit| unit.is(LEAVING)).count() == self.moves.len(),
            "one each"
        );
    }

    /// What was in the change log under old numbers, and what is new, goes into it under new ones.
    fn log_all(&mut self, complete: bool) {
        for unit in 0..self.units.len() as u32 {
            let entry = &mut self.units[unit as usize];
            let fresh = entry.owner == NOBODY && entry.epoch.0 == 0;
            let was_logged = entry.is(LOGGED);
            entry.flags &= !LOGGED;
            if complete && (fresh || was_logged) {
                self.log(unit);
            }
        }
    }
}
