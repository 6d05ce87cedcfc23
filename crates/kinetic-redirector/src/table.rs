//! Every source, who owns it, and who is on the way out.
//!
//! ```text
//!             assign                       start_move                    release (owner let go, or its lease ended)
//!  unowned ───────────▶ owned by A @ e ───────────────▶ owned, leaving ───────────────▶ unowned, then B @ e' > e
//! ```
//! While a source is leaving it is still A's: nobody else is given it.

use std::collections::{BTreeMap, BTreeSet};

use kinetic_wire::{DataType, Epoch, NodeId, RegionName, SourceKey, Wall};

use crate::machine::Map;
use crate::prefer::Demand;

/// An ownership.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) node: NodeId,
    pub(crate) epoch: Epoch,
    pub(crate) since: Wall,
    /// The owner may have been told: an answer with this grant was made, or it said so itself.
    pub(crate) announced: bool,
    /// The owner said last that it holds the source.
    pub(crate) held: bool,
    /// Known from an earlier leader; the owner itself has not spoken up yet.
    pub(crate) presumed: bool,
}

/// A source.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) region: RegionName,
    pub(crate) data_type: DataType,
    pub(crate) owner: Option<Owner>,
    /// The map has it; otherwise it only waits for its owner to let go.
    listed: bool,
    /// Last owner, to count moves.
    last: Option<NodeId>,
    /// Highest epoch it has had in this leadership.
    pub(crate) epoch: Epoch,
}

/// What a new map means for an owned source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The owner must let go: the source is gone, back again, or its queue is elsewhere.
    Release,
    /// The owner may stay if it can serve the source as it is now.
    Recheck,
}

/// All sources.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: BTreeMap<SourceKey, Slot>,
    unowned: BTreeSet<SourceKey>,
    owned: BTreeMap<NodeId, BTreeSet<SourceKey>>,
    /// Sources that are leaving, with the node that gets them next where that is decided.
    moves: BTreeMap<SourceKey, Option<NodeId>>,
    listed: usize,
}

impl Table {
    pub(crate) fn get(&self, source: &SourceKey) -> Option<&Slot> {
        self.slots.get(source)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&SourceKey, &Slot)> {
        self.slots.iter()
    }

    /// Sources that the map has.
    pub(crate) fn listed(&self) -> usize {
        self.listed
    }

    pub(crate) fn unowned(&self) -> &BTreeSet<SourceKey> {
        &self.unowned
    }

    pub(crate) fn owned_total(&self) -> usize {
        self.slots.len() - self.unowned.len()
    }

    pub(crate) fn moving(&self) -> usize {
        self.moves.len()
    }

    pub(crate) fn is_leaving(&self, source: &SourceKey) -> bool {
        self.moves.contains_key(source)
    }

    /// What a node owns, leaving sources included.
    pub(crate) fn owned(&self, node: &NodeId) -> impl Iterator<Item = &SourceKey> {
        self.owned.get(node).into_iter().flatten()
    }

    /// Sources that a node will have once every move under way is done.
    pub(crate) fn loads(&self) -> BTreeMap<NodeId, usize> {
        let mut loads: BTreeMap<NodeId, usize> =
            self.owned.iter().map(|(node, sources)| (node.clone(), sources.len())).collect();
        for (source, target) in &self.moves {
            if let Some(owner) = self.slots.get(source).and_then(|slot| slot.owner.as_ref())
                && let Some(load) = loads.get_mut(&owner.node)
            {
                *load -= 1;
            }
            if let Some(target) = target {
                *loads.entry(target.clone()).or_default() += 1;
            }
        }
        loads
    }

    /// The source as placement sees it.
    pub(crate) fn demand<'a>(&'a self, source: &'a SourceKey) -> Option<Demand<'a>> {
        let slot = self.slots.get(source).filter(|slot| slot.listed)?;
        Some(Demand { source, region: &slot.region, data_type: slot.data_type })
    }

    /// Brings the sources in line with a map. Returns what changed for owned ones.
    pub(crate) fn relist(&mut self, map: &Map) -> Vec<(SourceKey, Change)> {
        let mut changed = Vec::new();
        let gone: Vec<SourceKey> = self.slots.keys().filter(|key| map.rank(key).is_none()).cloned().collect();
        for source in gone {
            self.unlist(&source);
            if self.slots.contains_key(&source) {
                changed.push((source, Change::Release));
            }
        }
        self.listed = map.units();
        for rank in 0..map.units() as u32 {
            let unit = map.unit(rank);
            let (source, region) = (unit.key(), &map.regions()[usize::from(unit.region)].name);
            if let Some(change) = self.list(&source, region, unit.data_type) {
                changed.push((source, change));
            }
        }
        changed
    }

    /// Adds a source or updates it, and says what that means for its owner.
    fn list(&mut self, source: &SourceKey, region: &RegionName, data_type: DataType) -> Option<Change> {
        let Some(slot) = self.slots.get_mut(source) else {
            let slot = Slot {
                region: region.clone(),
                data_type,
                owner: None,
                listed: true,
                last: None,
                epoch: Epoch(0),
            };
            self.slots.insert(source.clone(), slot);
            self.unowned.insert(source.clone());
            return None;
        };
        let change = if !slot.listed || slot.region != *region {
            Some(Change::Release)
        } else if slot.data_type != data_type {
            Some(Change::Recheck)
        } else {
            None
        };
        slot.listed = true;
        slot.region = region.clone();
        slot.data_type = data_type;
        change.filter(|_| slot.owner.is_some())
    }

    fn unlist(&mut self, source: &SourceKey) {
        if let Some(slot) = self.slots.get_mut(source) {
            slot.listed = false;
            if slot.owner.is_none() {
                self.slots.remove(source);
                self.unowned.remove(source);
            }
        }
    }

    /// Gives a source to a node; true if it was another's before. Ends a move, if one was under way.
    pub(crate) fn assign(&mut self, source: &SourceKey, node: &NodeId, epoch: Epoch, since: Wall) -> bool {
        self.disown(source);
        let Some(slot) = self.slots.get_mut(source) else {
            return false;
        };
        debug_assert!(epoch > slot.epoch, "epochs grow along a source");
        slot.epoch = epoch;
        slot.owner =
            Some(Owner { node: node.clone(), epoch, since, announced: false, held: false, presumed: false });
        let moved = slot.last.replace(node.clone()).is_some_and(|last| last != *node);
        self.unowned.remove(source);
        self.owned.entry(node.clone()).or_default().insert(source.clone());
        moved
    }

    /// The owner says that it holds the source.
    pub(crate) fn hold(&mut self, source: &SourceKey) {
        if let Some(owner) = self.slots.get_mut(source).and_then(|slot| slot.owner.as_mut()) {
            owner.held = true;
            owner.announced = true;
            owner.presumed = false;
        }
    }

    /// The owner did not say that it holds the source.
    pub(crate) fn not_held(&mut self, source: &SourceKey) {
        if let Some(owner) = self.slots.get_mut(source).and_then(|slot| slot.owner.as_mut()) {
            owner.held = false;
        }
    }

    /// Its owner is known from an earlier leader only.
    pub(crate) fn presume(&mut self, source: &SourceKey) {
        if let Some(owner) = self.slots.get_mut(source).and_then(|slot| slot.owner.as_mut()) {
            owner.presumed = true;
            owner.held = false;
            owner.announced = true;
        }
        self.moves.remove(source);
    }

    /// An answer with this grant goes out.
    pub(crate) fn announce(&mut self, source: &SourceKey) {
        if let Some(owner) = self.slots.get_mut(source).and_then(|slot| slot.owner.as_mut()) {
            owner.announced = true;
        }
    }

    /// Takes a source from its owner once that has let go. Returns true if it never knew of it, so that the source
    /// can go to another at once.
    pub(crate) fn start_move(&mut self, source: &SourceKey, target: Option<NodeId>) -> bool {
        let Some(owner) = self.slots.get(source).and_then(|slot| slot.owner.as_ref()) else {
            return false;
        };
        let unknown = !owner.announced;
        self.moves.insert(source.clone(), target);
        unknown
    }

    /// Nobody owns the source any more. Returns the node that was to get it next.
    pub(crate) fn release(&mut self, source: &SourceKey) -> Option<NodeId> {
        let target = self.moves.get(source).cloned().flatten();
        self.disown(source);
        let slot = self.slots.get(source)?;
        if slot.listed {
            self.unowned.insert(source.clone());
            target
        } else {
            self.slots.remove(source);
            None
        }
    }

    fn disown(&mut self, source: &SourceKey) {
        self.moves.remove(source);
        let Some(owner) = self.slots.get_mut(source).and_then(|slot| slot.owner.take()) else {
            return;
        };
        if let Some(sources) = self.owned.get_mut(&owner.node) {
            sources.remove(source);
            if sources.is_empty() {
                self.owned.remove(&owner.node);
            }
        }
    }

    /// A node is gone: moves to it lose their target, and what it owned is released and returned, each with the node
    /// that was to get it next.
    pub(crate) fn release_all(&mut self, node: &NodeId) -> Vec<(SourceKey, Option<NodeId>)> {
        for target in self.moves.values_mut() {
            if target.as_ref() == Some(node) {
                *target = None;
            }
        }
        let sources: Vec<SourceKey> = self.owned(node).cloned().collect();
        sources
            .into_iter()
            .map(|source| {
                let target = self.release(&source);
                (source, target)
            })
            .collect()
    }
}
