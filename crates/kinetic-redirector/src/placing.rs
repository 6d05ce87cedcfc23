//! What happens to ownerships as analyzers come, speak and go: the only place that gives and takes sources.

use std::collections::BTreeSet;

use kinetic_wire::{Epoch, Hold, NodeId, Now, SourceKey};

use crate::epochs::Epochs;
use crate::lease::Leases;
use crate::machine::Map;
use crate::prefer::{self, Candidate, can_serve};
use crate::table::{Change, Table};

/// The table with its counters.
#[derive(Debug, Default)]
pub(crate) struct Placing {
    pub(crate) table: Table,
    /// Something changed that placement depends on.
    pub(crate) dirty: bool,
    pub(crate) moves: u64,
    pub(crate) grants: u64,
    pub(crate) adopted: u64,
    pub(crate) claims_incredible: u64,
    pub(crate) told: std::collections::BTreeMap<SourceKey, kinetic_wire::SourceState>,
}

impl Placing {
    /// Whether a node may be given a source now.
    fn can_take(&self, node: &NodeId, source: &SourceKey, leases: &Leases) -> bool {
        let Some(demand) = self.table.demand(source) else {
            return false;
        };
        leases
            .get(node)
            .is_some_and(|lease| !lease.draining && lease.capacity > 0 && can_serve(&lease.serves, &demand))
    }

    fn give(&mut self, now: Now, source: &SourceKey, node: &NodeId, epoch: Epoch) {
        self.grants += 1;
        if self.table.assign(source, node, epoch, now.wall) {
            self.moves += 1;
        }
    }

    /// The owner has let go: the source goes where it was meant to go, or becomes unowned.
    fn let_go(&mut self, now: Now, source: &SourceKey, leases: &Leases, epochs: &mut Epochs) {
        self.dirty = true;
        if let Some(target) = self.table.release(source)
            && self.can_take(&target, source, leases)
        {
            let epoch = epochs.take();
            self.give(now, source, &target, epoch);
        }
    }

    /// Takes a source from its owner: when that has let go, or at once if it never knew.
    fn start_move(
        &mut self,
        now: Now,
        source: &SourceKey,
        target: Option<NodeId>,
        leases: &Leases,
        epochs: &mut Epochs,
    ) {
        if self.table.start_move(source, target) {
            self.let_go(now, source, leases, epochs);
        }
    }

    /// A heartbeat of the owner no longer holds them: what is leaving has been let go.
    pub(crate) fn let_go_unheld(&mut self, now: Now, node: &NodeId, leases: &Leases, epochs: &mut Epochs) {
        let said = leases.get(node).map_or(&[][..], |lease| &lease.said);
        let unheld: Vec<SourceKey> =
            self.table.owned(node).filter(|source| said.binary_search(source).is_err()).cloned().collect();
        for source in unheld {
            if self.table.is_leaving(&source) {
                self.let_go(now, &source, leases, epochs);
            } else {
                self.table.not_held(&source);
            }
        }
    }

    /// An analyzer says what it holds. What nobody owns it keeps (adoption); of two who hold one source in the listen
    /// period, the higher epoch is the later owner.
    pub(crate) fn hear(
        &mut self,
        now: Now,
        node: &NodeId,
        holds: &[Hold],
        listening: bool,
        leases: &Leases,
        epochs: &mut Epochs,
    ) {
        for Hold { source, epoch, .. } in holds {
            if !epochs.seen(*epoch) {
                self.claims_incredible += 1;
                continue;
            }
            let Some(slot) = self.table.get(source) else {
                continue;
            };
            let (known, can_take) = (slot.epoch, self.can_take(node, source, leases));
            match &slot.owner {
                Some(owner) if owner.node == *node => {
                    if *epoch > known && !self.table.is_leaving(source) {
                        self.give(now, source, node, epochs.take());
                    }
                    self.table.hold(source);
                }
                Some(_) if *epoch <= known => {}
                Some(_) if listening && can_take => {
                    self.table.release(source);
                    self.adopt(now, source, node, *epoch);
                }
                Some(owner) => {
                    // An epoch above the owner's was once given out: the owner needs a higher one to be believed.
                    let owner = owner.node.clone();
                    if !self.table.is_leaving(source) {
                        self.give(now, source, &owner, epochs.take());
                        self.table.announce(source);
                    }
                }
                None if can_take && *epoch > known => self.adopt(now, source, node, *epoch),
                None if can_take => {
                    self.give(now, source, node, epochs.take());
                    self.table.hold(source);
                }
                None => {}
            }
        }
    }

    fn adopt(&mut self, now: Now, source: &SourceKey, node: &NodeId, epoch: Epoch) {
        self.adopted += 1;
        if self.table.assign(source, node, epoch, now.wall) {
            self.moves += 1;
        }
        self.table.hold(source);
    }

    /// A newer process of a node takes over what the older one had, as far as it can.
    pub(crate) fn inherit(
        &mut self,
        now: Now,
        node: &NodeId,
        sources: Vec<(SourceKey, Option<NodeId>)>,
        leases: &Leases,
        epochs: &mut Epochs,
    ) {
        for (source, target) in sources {
            let heir = target.unwrap_or_else(|| node.clone());
            if self.table.unowned().contains(&source) && self.can_take(&heir, &source, leases) {
                self.give(now, &source, &heir, epochs.take());
            }
        }
    }

    /// An analyzer is gone, and its lease with it. Returns what it owned.
    pub(crate) fn node_gone(
        &mut self,
        now: Now,
        node: &NodeId,
        leases: &Leases,
        epochs: &mut Epochs,
    ) -> Vec<SourceKey> {
        self.dirty = true;
        let released = self.table.release_all(node);
        for (source, target) in &released {
            if let Some(target) = target
                && self.can_take(target, source, leases)
            {
                self.give(now, source, target, epochs.take());
            }
        }
        released.into_iter().map(|(source, _)| source).collect()
    }

    /// What an analyzer can take has changed: whatever it can no longer serve, or everything if it drains, must go.
    pub(crate) fn recheck(&mut self, now: Now, node: &NodeId, leases: &Leases, epochs: &mut Epochs) {
        self.dirty = true;
        let leaving: Vec<SourceKey> = self
            .table
            .owned(node)
            .filter(|source| !self.table.is_leaving(source) && !self.can_take(node, source, leases))
            .cloned()
            .collect();
        for source in leaving {
            self.start_move(now, &source, None, leases, epochs);
        }
    }

    /// A new schema revision.
    pub(crate) fn map_changed(&mut self, now: Now, map: &Map, leases: &Leases, epochs: &mut Epochs) {
        self.dirty = true;
        for (source, change) in self.table.relist(map) {
            let Some(owner) =
                self.table.get(&source).and_then(|slot| slot.owner.as_ref()).map(|owner| owner.node.clone())
            else {
                continue;
            };
            let stays = self.can_take(&owner, &source, leases);
            match change {
                Change::Release => {
                    self.start_move(now, &source, stays.then_some(owner), leases, epochs);
                }
                Change::Recheck if !stays => self.start_move(now, &source, None, leases, epochs),
                Change::Recheck => {}
            }
        }
    }

    /// Gives every unowned source an owner where there is one, and sheds load beyond the bound.
    pub(crate) fn settle(&mut self, now: Now, leases: &Leases, epochs: &mut Epochs) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let total = self.table.listed();
        let mut candidates = self.candidates(leases);
        let mut given = Vec::new();
        let unowned: Vec<_> =
            self.table.unowned().iter().filter_map(|source| self.table.demand(source)).collect();
        for (demand, owner) in unowned.iter().zip(prefer::place(&unowned, &mut candidates, total)) {
            if let Some(owner) = owner {
                given.push((demand.source.clone(), candidates[owner].node.clone()));
            }
        }
        let moves = self.excess(&mut candidates, total, &given);
        drop(candidates);
        for (source, node) in given {
            self.give(now, &source, &node, epochs.take());
        }
        for (source, target) in moves {
            self.start_move(now, &source, Some(target), leases, epochs);
        }
        // A move of what nobody had heard of is done at once and leaves nothing to place.
        self.dirty = false;
    }

    fn candidates<'a>(&self, leases: &'a Leases) -> Vec<Candidate<'a>> {
        let loads = self.table.loads();
        leases
            .iter()
            .filter(|(_, lease)| !lease.draining)
            .map(|(node, lease)| Candidate {
                node,
                serves: &lease.serves,
                capacity: lease.capacity,
                load: loads.get(node).copied().unwrap_or(0),
            })
            .collect()
    }

    /// What overloaded analyzers must give up, and to whom. What was given a moment ago is left alone.
    fn excess(
        &self,
        candidates: &mut [Candidate<'_>],
        total: usize,
        given: &[(SourceKey, NodeId)],
    ) -> Vec<(SourceKey, NodeId)> {
        let given: BTreeSet<&SourceKey> = given.iter().map(|(source, _)| source).collect();
        let mut owned = Vec::new();
        for index in prefer::overloaded(candidates, total) {
            let sources = self.table.owned(candidates[index].node);
            let movable = sources.filter(|source| !self.table.is_leaving(source) && !given.contains(source));
            owned.extend(movable.filter_map(|source| Some((index, self.table.demand(source)?))));
        }
        prefer::shed(&owned, candidates, total)
            .into_iter()
            .map(|(index, target)| (owned[index].1.source.clone(), candidates[target].node.clone()))
            .collect()
    }
}
