//! Sources whose customer has moved to another region: until the old region's queue is empty, the source is granted there, to whoever
//! owns it or can serve that region; what was in the queue is carried to the new region by the owner, who says when nothing is left.
//!
//! ```text
//! owned by A in eu ─ the schema says us ─▶ granted in eu still ─ A says `evacuated` ─▶ granted in us, with a new epoch: to A, or released
//!                                             └─ A is lost: the next one that serves eu goes on ─┘
//!                                             └─ EVACUATION_MAX has passed: granted in us, counted ─┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinetic_wire::{Evacuated, Grant, Mono, MoveWhy, NodeId, Now, RegionName, SourceKey};

use super::Placing;
use crate::epochs::Epochs;
use crate::lease::Leases;
use crate::machine::Map;
use crate::table::{NOBODY, Relisted};

/// A source whose old region has not been emptied after this long is granted in its new one (counted).
pub const EVACUATION_MAX: Duration = Duration::from_secs(60);

/// One source's.
#[derive(Debug)]
struct Evacuation {
    /// Regions in which there may be data, in the order in which the source was there.
    regions: Vec<RegionName>,
    by: Mono,
}

/// All that are under way.
#[derive(Debug, Default)]
pub(super) struct Evacuations {
    of: BTreeMap<SourceKey, Evacuation>,
    due: BTreeSet<(Mono, SourceKey)>,
    pub(super) done: u64,
    pub(super) overdue: u64,
}

impl Evacuations {
    pub(super) fn next_due(&self) -> Option<Mono> {
        self.due.first().map(|(by, _)| *by)
    }

    fn region(&self, key: &SourceKey) -> Option<&RegionName> {
        self.of.get(key).and_then(|evacuation| evacuation.regions.first())
    }

    fn remove(&mut self, key: &SourceKey) -> Option<Evacuation> {
        let evacuation = self.of.remove(key)?;
        self.due.remove(&(evacuation.by, key.clone()));
        Some(evacuation)
    }

    fn insert(&mut self, now: Mono, key: SourceKey, regions: Vec<RegionName>) {
        let by = now + EVACUATION_MAX;
        self.due.insert((by, key.clone()));
        self.of.insert(key, Evacuation { regions, by });
    }
}

impl Placing {
    /// Sources under way from one region to another.
    pub(crate) fn evacuating(&self) -> usize {
        self.evacuations.of.len()
    }

    /// Times that a region was emptied, and that it was not in time.
    pub(crate) fn evacuations_ended(&self) -> [u64; 2] {
        [self.evacuations.done, self.evacuations.overdue]
    }

    fn evacuation_of(&self, unit: u32) -> Option<&RegionName> {
        if self.evacuations.of.is_empty() { None } else { self.evacuations.region(&self.table.key(unit)) }
    }

    /// Of these grants, those of sources that are elsewhere already.
    pub(crate) fn moving_of(&self, grants: &[Grant]) -> Vec<SourceKey> {
        let is_moving = |grant: &&Grant| self.evacuations.of.contains_key(&grant.source);
        grants.iter().filter(is_moving).map(|grant| grant.source.clone()).collect()
    }

    /// Owners of sources that are elsewhere already.
    pub(crate) fn movers(&self) -> BTreeSet<NodeId> {
        let units = self.evacuations.of.keys().filter_map(|key| self.table.find(key));
        let owners = units.map(|unit| self.table.unit(unit).owner).filter(|&owner| owner != NOBODY);
        owners.map(|owner| self.table.node(owner).name.clone()).collect()
    }

    /// Whether a region is to be emptied of a unit.
    pub(super) fn is_evacuated(&self, unit: u32) -> bool {
        self.evacuation_of(unit).is_some()
    }

    /// Index of the region in which a unit is to be served now.
    pub(super) fn region_to_serve(&self, unit: u32) -> u16 {
        let map = self.table.map();
        let index = self.evacuation_of(unit).and_then(|region| region_index(map, region));
        index.unwrap_or_else(|| map.unit(unit).region)
    }

    /// The region in which a unit is granted now.
    pub(super) fn region_granted(&self, unit: u32) -> RegionName {
        self.evacuation_of(unit).unwrap_or_else(|| self.table.region(unit)).clone()
    }

    /// A new map stands: notes which units are elsewhere now. One that is split or made whole by the same revision is not carried.
    pub(super) fn moved(&mut self, now: Now, before: &Map, relisted: &[(u32, Relisted)]) -> BTreeSet<u32> {
        let map = std::sync::Arc::clone(self.table.map());
        let mut moved = BTreeSet::new();
        let mut left: BTreeMap<SourceKey, Vec<RegionName>> = BTreeMap::new();
        for (unit, _) in relisted.iter().filter(|(unit, _)| self.table.is_listed(*unit)) {
            let (key, entry) = (self.table.key(*unit), map.unit(*unit));
            let Some(old) = before.rank(&key).map(|rank| before.unit(rank)) else { continue };
            let from = &before.regions()[usize::from(old.region)].name;
            let is_elsewhere = *from != map.regions()[usize::from(entry.region)].name;
            if is_elsewhere && (old.parts == 0) == (entry.parts == 0) {
                moved.insert(*unit);
                left.insert(key, vec![from.clone()]);
            }
        }
        for (key, evacuation) in std::mem::take(&mut self.evacuations.of) {
            self.evacuations.due.remove(&(evacuation.by, key.clone()));
            let newer = left.remove(&key).unwrap_or_default();
            let mut regions = evacuation.regions;
            regions.extend(newer);
            left.insert(key, regions);
        }
        for (key, mut regions) in left {
            let Some(unit) = map.rank(&key) else { continue };
            let here = &map.regions()[usize::from(map.unit(unit).region)].name;
            // Where the source is now its queue is read anyway; where the schema knows no broker, nobody can.
            regions.retain(|region| region != here && region_index(&map, region).is_some());
            let mut seen = BTreeSet::new();
            regions.retain(|region| seen.insert(region.clone()));
            if !regions.is_empty() {
                self.evacuations.insert(now.mono, key, regions);
            }
        }
        moved
    }

    /// An analyzer says what it has emptied.
    pub(super) fn hear_evacuated(
        &mut self,
        now: Now,
        node: u32,
        evacuated: &[Evacuated],
        leases: &Leases,
        epochs: &mut Epochs,
    ) {
        for Evacuated { source, region, epoch } in evacuated {
            let Some(unit) = self.table.find(source).filter(|&unit| self.table.is_listed(unit)) else {
                continue;
            };
            let entry = self.table.unit(unit);
            let is_its = entry.owner == node && entry.epoch == *epoch && !self.table.is_presumed(unit);
            if !is_its || self.evacuations.region(source) != Some(region) {
                continue;
            }
            self.evacuations.done += 1;
            let mut regions =
                self.evacuations.remove(source).map(|evacuation| evacuation.regions).unwrap_or_default();
            regions.remove(0);
            if regions.is_empty() {
                self.arrive(now, unit, leases, epochs);
            } else {
                self.evacuations.insert(now.mono, source.clone(), regions);
                self.dirty = true;
            }
        }
    }

    /// Nothing is left behind: the unit is granted in its region, to its owner under a new epoch if that can serve it there.
    fn arrive(&mut self, now: Now, unit: u32, leases: &Leases, epochs: &mut Epochs) {
        let owner = self.table.unit(unit).owner;
        if owner == NOBODY || self.table.is_leaving(unit) {
            self.dirty = true;
        } else if self.may_keep(&self.table.node(owner).name, unit, leases) {
            self.give(now, unit, owner, epochs.take());
            self.dirty = true;
        } else {
            self.start_move(now, unit, (NOBODY, MoveWhy::Changed), leases, epochs);
            // It does not hold the unit any more.
            if self.table.unit(unit).owner == owner {
                self.let_go(now, unit, leases, epochs);
            }
        }
    }

    /// Ends what has taken too long: the unit is granted where it is now, whatever may be left behind.
    pub(super) fn end_overdue(&mut self, now: Now, leases: &Leases, epochs: &mut Epochs) {
        while let Some((by, key)) = self.evacuations.due.first().cloned() {
            if by > now.mono {
                return;
            }
            self.evacuations.remove(&key);
            self.dirty = true;
            let Some(unit) = self.table.find(&key).filter(|&unit| self.table.is_listed(unit)) else {
                continue;
            };
            let owner = self.table.unit(unit).owner;
            // A presumed owner's region may have been emptied under another leader.
            self.evacuations.overdue += u64::from(!self.table.is_presumed(unit));
            if owner == NOBODY || self.table.is_leaving(unit) || self.table.is_presumed(unit) {
                continue;
            }
            if self.may_keep(&self.table.node(owner).name, unit, leases) {
                self.give(now, unit, owner, epochs.take());
            } else {
                self.start_move(now, unit, (NOBODY, MoveWhy::Changed), leases, epochs);
            }
        }
    }
}

fn region_index(map: &Map, name: &RegionName) -> Option<u16> {
    let found = map.regions().iter().position(|region| region.name == *name);
    found.and_then(|index| u16::try_from(index).ok())
}
