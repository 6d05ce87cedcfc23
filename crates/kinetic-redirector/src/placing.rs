//! What happens to ownerships as analyzers come, speak and go: the only place that gives and takes units.
//!
//! Who is placed stays. A unit moves because its owner is lost, leaves, or can no longer serve it; without need it moves
//! only to relieve an overloaded analyzer by more than a tenth of its load, within a budget, and not twice in a row.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kinetic_wire::{Epoch, Mono, MoveRecord, MoveWhy, NodeId, Now, SourceKey, Wall};

use crate::budget::{MoveBudget, Spent};
use crate::epochs::Epochs;
use crate::flaps::{Flaps, HoldDown};
use crate::lease::{Lease, Leases};
use crate::machine::Map;
use crate::prefer::{OWNED_MAX, can_serve};
use crate::table::{NOBODY, Relisted, Table};

mod answers;
mod copies;
mod departures;
mod evacuations;
mod hearing;
mod settle;

use departures::Departure;
pub use evacuations::EVACUATION_MAX;
use evacuations::Evacuations;

/// Moves remembered for people.
const RECORDS_MAX: usize = 256;

/// How placement behaves; the defaults are those of a large installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacingConfig {
    /// How much may move without need.
    pub budget: MoveBudget,
    /// A unit that has moved is not moved again without need for this long.
    pub dwell: Duration,
    /// A unit that nobody has had yet, or that nobody could take, may be moved for so long after it was given away, as
    /// often as loads ask for it and at no cost to the budget: the first analyzer of a new fleet takes all that there is, and
    /// the others are there seconds later.
    pub settling: Duration,
    /// When an analyzer that comes and goes is given nothing new.
    pub hold_down: HoldDown,
    /// An analyzer that an operator relieves has given up all that others can take after this long.
    pub relieve_within: Duration,
    /// How often loads are compared, while rates change, and what found no owner is tried again.
    pub look_every: Duration,
}

impl PlacingConfig {
    /// How long a unit that has moved rests once it is fresh no more.
    fn rest_after_settling(&self) -> Duration {
        self.dwell.saturating_sub(self.settling)
    }
}

impl Default for PlacingConfig {
    fn default() -> Self {
        Self {
            budget: MoveBudget::default(),
            dwell: Duration::from_secs(600),
            settling: Duration::from_secs(60),
            hold_down: HoldDown::default(),
            relieve_within: Duration::from_secs(1800),
            look_every: Duration::from_secs(10),
        }
    }
}

/// Units that a superseded process had, each with the node that was to get it next.
pub(crate) type Inherited = Vec<(u32, u32)>;

/// The table, and what is on the way.
#[derive(Debug)]
pub(crate) struct Placing {
    config: PlacingConfig,
    pub(crate) table: Table,
    /// Something changed that placement depends on.
    dirty: bool,
    /// What found no owner before may find one now.
    retry: bool,
    /// When it is tried again in any case.
    retry_at: Option<Mono>,
    /// Nothing is given away yet: owners are still saying what they hold.
    listening: bool,
    /// Unowned units to be given owners, the heaviest last.
    waiting: Vec<u32>,
    /// Analyzers that give up their units bit by bit.
    departures: BTreeMap<NodeId, Departure>,
    /// Regions that units have moved out of and that are not empty yet.
    evacuations: Evacuations,
    /// Analyzers that an operator has relieved.
    relieved: BTreeSet<NodeId>,
    flaps: Flaps,
    spent: Spent,
    /// Until then some unit may be moved at no cost to the budget.
    settling_until: Mono,
    /// Overloaded analyzers that are being brought down to their bound.
    shedding: BTreeSet<u32>,
    /// Overloaded analyzers for which this pass over all of them has found nothing.
    stuck: BTreeSet<u32>,
    /// When loads are compared next.
    look_at: Option<Mono>,
    wake: Option<Mono>,
    records: VecDeque<MoveRecord>,
    pub(crate) moves: u64,
    pub(crate) grants: u64,
    pub(crate) adopted: u64,
    pub(crate) claims_incredible: u64,
    /// Moves begun to relieve an overloaded analyzer.
    pub(crate) balanced: u64,
    /// Presumptions about sources that the map does not have.
    pub(crate) presumptions_unknown: u64,
}

impl Placing {
    /// Nobody owns anything, and owners are listened to.
    pub(crate) fn new(config: PlacingConfig, map: Arc<Map>) -> Self {
        Self {
            config,
            table: Table::new(map),
            dirty: true,
            retry: true,
            retry_at: None,
            listening: true,
            waiting: Vec::new(),
            departures: BTreeMap::new(),
            evacuations: Evacuations::default(),
            relieved: BTreeSet::new(),
            flaps: Flaps::default(),
            spent: Spent::default(),
            settling_until: Mono(0),
            shedding: BTreeSet::new(),
            stuck: BTreeSet::new(),
            look_at: None,
            wake: None,
            records: VecDeque::new(),
            moves: 0,
            grants: 0,
            adopted: 0,
            claims_incredible: 0,
            balanced: 0,
            presumptions_unknown: 0,
        }
    }

    /// Whether owners are still saying what they hold, so that nothing is given away.
    pub(crate) fn listening(&self) -> bool {
        self.listening
    }

    /// Whether an analyzer can serve a unit as it is now.
    fn fits(&self, lease: &Lease, unit: u32) -> bool {
        let map = self.table.map();
        if !self.table.is_listed(unit) || lease.capacity == 0 {
            return false;
        }
        let entry = map.unit(unit);
        let region = map.regions()[usize::from(self.region_to_serve(unit))].name.as_str();
        can_serve(&lease.serves, region, entry.data_type, entry.customer)
    }

    /// Whether a node may go on with a unit that it holds.
    fn may_keep(&self, node: &NodeId, unit: u32, leases: &Leases) -> bool {
        leases.get(node).is_some_and(|lease| !lease.draining && self.fits(lease, unit))
    }

    /// Whether a node may be given a unit now.
    fn may_take(&self, now: Now, node: u32, unit: u32, leases: &Leases) -> bool {
        let entry = self.table.node(node);
        let generation = u64::from(self.table.unit(unit).generation);
        self.may_keep(&entry.name, unit, leases)
            && !self.relieved.contains(&entry.name)
            && (entry.generation == 0 || entry.generation >= generation)
            && self.table.owned(node).len() < OWNED_MAX as usize
            && self.flaps.held_down(now.mono, &entry.name).is_none()
    }

    /// Gives a unit to a node, and remembers where it came from.
    fn give(&mut self, now: Now, unit: u32, node: u32, epoch: Epoch) {
        self.grants += 1;
        let is_new = self.table.is_new(unit);
        // What nobody could take for a while has not rested for that.
        let rested = self.table.rests(unit, now.mono, self.config.rest_after_settling());
        let has_moved = self.change_owner(now, unit, node, epoch);
        if is_new {
            self.settling_until = now.mono + self.config.settling;
            self.table.freshen(unit, self.settling_until);
            if has_moved || rested {
                self.table.tire(unit);
            }
        }
    }

    /// Returns whether the unit has moved: somebody else had it before.
    fn change_owner(&mut self, now: Now, unit: u32, node: u32, epoch: Epoch) -> bool {
        let before = *self.table.unit(unit);
        self.table.assign(unit, node, epoch, now);
        if before.last == NOBODY || before.last == node {
            return false;
        }
        self.moves += 1;
        if before.why == MoveWhy::Balance && self.table.is_fresh(unit, now.mono) {
            self.table.tire(unit);
        } else {
            self.table.rest(unit, now.mono + self.config.dwell);
        }
        let name = |node| self.table.node(node).name.clone();
        let record = MoveRecord {
            at_ms: now.wall.as_ms(),
            source: self.table.key(unit),
            from: Some(name(before.last)),
            to: name(node),
            epoch,
            why: before.why,
        };
        self.records.truncate(RECORDS_MAX - 1);
        self.records.push_front(record);
        true
    }

    /// The owner has let go: the unit goes where it was meant to go, or becomes unowned.
    fn let_go(&mut self, now: Now, unit: u32, leases: &Leases, epochs: &mut Epochs) {
        self.dirty = true;
        let target = self.table.release(unit, MoveWhy::OwnerLeft);
        if target != NOBODY && self.may_take(now, target, unit, leases) {
            self.give(now, unit, target, epochs.take());
        }
    }

    /// Takes a unit from its owner: when that has let go, or at once if it never knew.
    fn start_move(
        &mut self,
        now: Now,
        unit: u32,
        (target, why): (u32, MoveWhy),
        leases: &Leases,
        epochs: &mut Epochs,
    ) {
        if self.table.start_move(unit, target, why) {
            self.let_go(now, unit, leases, epochs);
        }
    }

    /// Until when a unit rests that another leader has placed: wall clocks are compared, but a wrong one costs a move at
    /// most.
    fn rest_left(&self, now: Now, unit: u32) -> Mono {
        let age = now.wall.since(Wall::from_ms(self.table.since_ms(unit)));
        match self.table.unit(unit).why {
            MoveWhy::Placed | MoveWhy::Adopted => Mono(0),
            _ => now.mono + self.config.dwell.saturating_sub(age),
        }
    }

    /// A newer process took a node's name. Returns what the older one had, for [`inherit`](Self::inherit).
    pub(crate) fn superseded(&mut self, now: Now, node: &NodeId) -> Inherited {
        self.flaps.lost(now.mono, node, &self.config.hold_down);
        self.dirty = true;
        self.departures.remove(node);
        let index = self.table.intern(node);
        self.table.node_mut(index).strange.clear();
        self.table.release_all(index, MoveWhy::Restarted)
    }

    /// A newer process of a node takes over what the older one had, as far as it can.
    pub(crate) fn inherit(
        &mut self,
        now: Now,
        node: &NodeId,
        units: Inherited,
        leases: &Leases,
        epochs: &mut Epochs,
    ) {
        let index = self.table.intern(node);
        for (unit, target) in units {
            let heir = if target == NOBODY { index } else { target };
            if self.table.is_listed(unit)
                && self.table.unit(unit).owner == NOBODY
                && self.may_take(now, heir, unit, leases)
            {
                self.give(now, unit, heir, epochs.take());
                self.table.explain(unit, MoveWhy::Restarted);
            }
        }
    }

    /// An analyzer's lease has ended without a word.
    pub(crate) fn node_lost(&mut self, now: Now, node: &NodeId, leases: &Leases, epochs: &mut Epochs) {
        self.flaps.lost(now.mono, node, &self.config.hold_down);
        self.node_gone(now, node, MoveWhy::OwnerLost, leases, epochs);
    }

    /// An analyzer has said goodbye. Returns what it owned.
    pub(crate) fn node_left(
        &mut self,
        now: Now,
        node: &NodeId,
        leases: &Leases,
        epochs: &mut Epochs,
    ) -> Vec<SourceKey> {
        let units = self.node_gone(now, node, MoveWhy::OwnerLeft, leases, epochs);
        units.into_iter().map(|unit| self.table.key(unit)).collect()
    }

    /// An analyzer is gone, and its lease with it.
    fn node_gone(
        &mut self,
        now: Now,
        node: &NodeId,
        why: MoveWhy,
        leases: &Leases,
        epochs: &mut Epochs,
    ) -> Vec<u32> {
        self.dirty = true;
        self.stuck.clear();
        self.departures.remove(node);
        let Some(index) = self.table.node_index(node) else {
            return Vec::new();
        };
        self.table.node_mut(index).strange = Vec::new();
        self.shedding.remove(&index);
        let released = self.table.release_all(index, why);
        for &(unit, target) in &released {
            if target != NOBODY && self.may_take(now, target, unit, leases) {
                self.give(now, unit, target, epochs.take());
            }
        }
        self.table.forget_nodes(|name| leases.get(name).is_some());
        released.into_iter().map(|(unit, _)| unit).collect()
    }

    /// What an analyzer can take has changed: whatever it can no longer serve must go.
    fn recheck(&mut self, now: Now, node: u32, leases: &Leases, epochs: &mut Epochs) {
        let Some(lease) = leases.get(&self.table.node(node).name) else {
            return;
        };
        let mut leaving = self.table.owned(node).to_vec();
        leaving.retain(|&unit| {
            !self.table.is_leaving(unit) && !self.table.is_presumed(unit) && !self.fits(lease, unit)
        });
        leaving.sort_unstable();
        for unit in leaving {
            self.start_move(now, unit, (NOBODY, MoveWhy::Unfit), leases, epochs);
        }
    }

    /// A new schema revision.
    pub(crate) fn map_changed(&mut self, now: Now, map: &Arc<Map>, leases: &Leases, epochs: &mut Epochs) {
        (self.dirty, self.retry) = (true, true);
        self.stuck.clear();
        self.waiting.clear();
        let before = Arc::clone(self.table.map());
        let relisted = self.table.relist(Arc::clone(map));
        let moved = self.moved(now, &before, &relisted);
        for (unit, relisted) in relisted {
            if relisted == Relisted::Elsewhere {
                continue;
            }
            let owner = self.table.unit(unit).owner;
            if self.table.is_presumed(unit) && relisted == Relisted::Recheck {
                continue;
            }
            if self.table.is_presumed(unit) {
                // Not to be given back before it has spoken: it is as if nobody were known to own it.
                self.table.release(unit, MoveWhy::Changed);
                continue;
            }
            let stays = self.may_keep(&self.table.node(owner).name, unit, leases);
            match relisted {
                // The owner empties the region that the source was in, if it can: see `evacuations`.
                Relisted::Release if stays && moved.contains(&unit) => {}
                Relisted::Elsewhere => {}
                Relisted::Release => {
                    let target = if stays { owner } else { NOBODY };
                    self.start_move(now, unit, (target, MoveWhy::Changed), leases, epochs);
                }
                Relisted::Recheck if !stays => {
                    self.start_move(now, unit, (NOBODY, MoveWhy::Unfit), leases, epochs);
                }
                Relisted::Recheck => {}
            }
        }
    }

    /// When there is something to do without any input, if ever.
    pub(crate) fn next_wakeup(&self) -> Option<Mono> {
        self.wake
    }
}

#[cfg(test)]
mod tests;
