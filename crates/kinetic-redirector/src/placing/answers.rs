//! What an analyzer is answered: what it owns, and what it must let go.

use super::Placing;
use kinetic_wire::{Grant, NodeId, SourceKey};

impl Placing {
    /// All that a node owns and need not let go, in order of sources.
    pub(crate) fn grants(&self, node: &NodeId) -> Vec<Grant> {
        let mut units =
            self.table.node_index(node).map_or(Vec::new(), |node| self.table.owned(node).to_vec());
        units.retain(|&unit| !self.table.is_leaving(unit) && !self.table.is_presumed(unit));
        let grant = |&unit: &u32| Grant {
            source: self.table.key(unit),
            region: self.region_granted(unit),
            epoch: self.table.unit(unit).epoch,
        };
        let mut grants: Vec<Grant> = units.iter().map(grant).collect();
        grants.sort_unstable();
        grants
    }

    /// What a node must let go: what it said that it holds and is not granted, and what it was given and may hold by now.
    pub(crate) fn revokes(&self, node: &NodeId) -> Vec<SourceKey> {
        let Some(index) = self.table.node_index(node) else {
            return Vec::new();
        };
        let is_granted = |source: &&SourceKey| {
            let unit = self.table.find(source).filter(|&unit| self.table.unit(unit).owner == index);
            unit.is_some_and(|unit| !self.table.is_leaving(unit) && !self.table.is_presumed(unit))
        };
        let strange = self.table.node(index).strange.iter().filter(|source| !is_granted(source)).cloned();
        let leaving = self.table.owned(index).iter().filter(|&&unit| self.table.is_leaving(unit));
        let mut revokes: Vec<SourceKey> = strange.chain(leaving.map(|&unit| self.table.key(unit))).collect();
        revokes.sort_unstable();
        revokes.dedup();
        revokes
    }

    /// An answer with all grants of a node goes out.
    pub(crate) fn announce(&mut self, node: &NodeId) {
        let Some(index) = self.table.node_index(node) else {
            return;
        };
        for unit in self.table.owned(index).to_vec() {
            if !self.table.is_leaving(unit) && !self.table.is_presumed(unit) {
                self.table.announce(unit);
            }
        }
    }

    /// Units that a node owns, leaving and presumed ones included.
    pub(crate) fn owned_by(&self, node: &NodeId) -> usize {
        self.table.node_index(node).map_or(0, |node| self.table.owned(node).len())
    }
}
