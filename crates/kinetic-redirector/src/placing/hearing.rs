//! What analyzers say they hold, and what that means for who owns it.

use kinetic_wire::{Epoch, Evacuated, Hold, MoveWhy, NodeId, Now};

use super::Placing;
use crate::epochs::Epochs;
use crate::lease::Leases;
use crate::table::NOBODY;

impl Placing {
    /// An analyzer registers, saying what it holds.
    pub(crate) fn registered(
        &mut self,
        now: Now,
        node: &NodeId,
        holds: &[Hold],
        leases: &Leases,
        epochs: &mut Epochs,
    ) {
        (self.dirty, self.retry) = (true, true);
        self.stuck.clear();
        let index = self.table.intern(node);
        self.recheck(now, index, leases, epochs);
        self.hear(now, index, holds, leases, epochs);
        if self.relieved.contains(node) && !self.departures.contains_key(node) {
            self.depart(now, node, None, leases);
        }
    }

    /// An analyzer says again what it holds: what is leaving and no longer held has been let go.
    pub(crate) fn heartbeat(
        &mut self,
        now: Now,
        node: &NodeId,
        (holds, evacuated): (&[Hold], &[Evacuated]),
        leases: &Leases,
        epochs: &mut Epochs,
    ) {
        let index = self.table.intern(node);
        self.hear_evacuated(now, index, evacuated, leases, epochs);
        let mut said: Vec<u32> = holds.iter().filter_map(|hold| self.table.find(&hold.source)).collect();
        said.sort_unstable();
        let mut unheld = self.table.owned(index).to_vec();
        unheld.retain(|unit| said.binary_search(unit).is_err() && !self.table.is_presumed(*unit));
        unheld.sort_unstable();
        for unit in unheld {
            if self.table.is_leaving(unit) {
                self.let_go(now, unit, leases, epochs);
            } else {
                self.table.not_held(unit);
            }
        }
        self.hear(now, index, holds, leases, epochs);
    }

    /// An analyzer says what it holds. What nobody owns it keeps (adoption); of two who hold one unit in the listen
    /// period, the higher epoch is the later owner.
    fn hear(&mut self, now: Now, node: u32, holds: &[Hold], leases: &Leases, epochs: &mut Epochs) {
        let name = self.table.node(node).name.clone();
        let generation = leases.get(&name).map_or(0, |lease| lease.generation);
        if std::mem::replace(&mut self.table.node_mut(node).generation, generation) != generation {
            (self.dirty, self.retry) = (true, true);
        }
        let mut strange = Vec::new();
        for hold in holds {
            let unit = self.table.find(&hold.source);
            if epochs.seen(hold.epoch) {
                if let Some(unit) = unit {
                    self.hear_of(now, (node, &name), (unit, hold.epoch), leases, epochs);
                }
            } else {
                self.claims_incredible += 1;
            }
            match unit.filter(|&unit| self.table.unit(unit).owner == node) {
                Some(unit) => self.table.measure(unit, hold.rate),
                None => strange.push(hold.source.clone()),
            }
        }
        self.table.node_mut(node).strange = strange;
        let look_at = now.mono + self.config.look_every;
        self.look_at = Some(self.look_at.map_or(look_at, |at| at.min(look_at)));
    }

    fn hear_of(
        &mut self,
        now: Now,
        (node, name): (u32, &NodeId),
        (unit, epoch): (u32, Epoch),
        leases: &Leases,
        epochs: &mut Epochs,
    ) {
        let entry = *self.table.unit(unit);
        let known = entry.epoch;
        let presumed = self.table.is_presumed(unit);
        if entry.owner == node {
            if presumed {
                self.confirm(now, unit, epoch);
                if !self.may_keep(name, unit, leases) {
                    self.start_move(now, unit, (NOBODY, MoveWhy::Unfit), leases, epochs);
                }
            } else if epoch > known && !self.table.is_leaving(unit) {
                self.give(now, unit, node, epochs.take());
            }
            if self.table.unit(unit).owner == node {
                self.table.hold(unit);
            }
        } else if entry.owner == NOBODY {
            if epoch > known && self.may_keep(name, unit, leases) {
                self.adopt(now, unit, node, epoch);
            } else if self.may_take(now, node, unit, leases) {
                self.give(now, unit, node, epochs.take());
                self.table.hold(unit);
            }
        } else if epoch > known {
            if self.listening && self.may_keep(name, unit, leases) {
                self.table.release(unit, MoveWhy::Adopted);
                self.adopt(now, unit, node, epoch);
            } else if !presumed && !self.table.is_leaving(unit) {
                // An epoch above the owner's was once given out: the owner needs a higher one to be believed.
                self.give(now, unit, entry.owner, epochs.take());
                self.table.announce(unit);
            }
        }
    }

    fn adopt(&mut self, now: Now, unit: u32, node: u32, epoch: Epoch) {
        self.adopted += 1;
        self.change_owner(now, unit, node, epoch);
        self.table.explain(unit, MoveWhy::Adopted);
        self.table.hold(unit);
    }

    /// A presumed owner has spoken up: it has had the unit since it was given it, and rests for the remainder.
    fn confirm(&mut self, now: Now, unit: u32, epoch: Epoch) {
        self.adopted += 1;
        let rests_until = self.rest_left(now, unit);
        self.table.confirm(unit, epoch, rests_until);
    }
}
