//! Giving owners to what has none, and moving what need not stay, in steps that never keep a request waiting for long.

use std::sync::Arc;

use kinetic_wire::{Mono, MoveWhy, NodeId, Now};

use super::Placing;
use crate::epochs::Epochs;
use crate::lease::{Lease, Leases};
use crate::map::Map;
use crate::prefer::{Demand, Fleet, Member, unit_hash};
use crate::table::NOBODY;

/// Units that are placed, or looked at for moving, in one step: a few milliseconds among a thousand analyzers.
pub(super) const STEP_MAX: usize = 1024;
/// A voluntary move must gain more than this share of the overloaded analyzer's load: one in ten.
const GAIN_SHARE: u64 = 10;

/// Moves that would bring an overloaded analyzer down to its bound, as far as there are any.
struct Plan {
    /// Units and the members that they go to.
    moves: Vec<(u32, usize)>,
    weight: u64,
    /// There are more units than were looked at.
    partial: bool,
}

impl Placing {
    /// Does the next step of whatever is to be done, if anything is.
    pub(crate) fn settle(&mut self, now: Now, leases: &Leases, epochs: &mut Epochs) {
        let look = !self.listening() && self.look_at.is_some_and(|at| at <= now.mono);
        self.end_overdue(now, leases, epochs);
        if !self.dirty && !look && self.wake.is_none_or(|wake| now.mono < wake) {
            return;
        }
        let map = Arc::clone(self.table.map());
        let mut fleet = self.fleet(now, &map, leases);
        let mut wake = self.depart_due(now, &mut fleet, leases, epochs);
        if !self.listening() {
            self.place(now, &mut fleet, epochs);
            let next = if self.waiting.is_empty() && !self.retry {
                self.look_at = None;
                self.balance(now, &mut fleet, leases, epochs)
            } else {
                Some(now.mono)
            };
            let ends = self.flaps.next_end(now.mono);
            wake = [wake, next, self.retry_at, ends].into_iter().flatten().min();
        }
        wake = [wake, self.evacuations.next_due()].into_iter().flatten().min();
        (self.dirty, self.wake) = (false, wake);
    }

    /// All analyzers that may be given something.
    fn fleet<'a>(&mut self, now: Now, map: &'a Map, leases: &'a Leases) -> Fleet<'a> {
        let open = |(name, lease): &(&NodeId, &Lease)| !lease.draining && !self.relieved.contains(*name);
        let open: Vec<(&'a NodeId, &'a Lease)> = leases.iter().filter(open).collect();
        let members = open.into_iter().map(|(name, lease)| {
            let node = self.table.intern(name);
            let entry = self.table.node(node);
            Member {
                node,
                hash: entry.hash,
                serves: &lease.serves,
                capacity: lease.capacity,
                zone: lease.zone.as_deref(),
                generation: entry.generation,
                held_down: self.flaps.held_down(now.mono, name).is_some(),
                load: self.table.load(node),
                count: entry.count,
            }
        });
        let members = members.collect();
        Fleet::new(map, members, self.table.weight_total(), self.table.mean())
    }

    /// Calls `with` with what a unit needs.
    fn demand<R>(&self, unit: u32, with: impl FnOnce(&Demand<'_>) -> R) -> R {
        let entry = self.table.map().unit(unit);
        let siblings = if entry.parts > 0 { self.siblings(unit) } else { Vec::new() };
        with(&Demand {
            hash: unit_hash(entry.customer, entry.source, entry.part),
            customer: entry.customer,
            region: self.region_to_serve(unit),
            data_type: entry.data_type,
            weight: self.table.weight(unit),
            generation: u64::from(self.table.unit(unit).generation),
            siblings: &siblings,
        })
    }

    /// Nodes that have, or get, other parts of the same source.
    fn siblings(&self, unit: u32) -> Vec<u32> {
        let others = self.table.map().siblings(unit).filter(|&other| other != unit);
        let mut nodes: Vec<u32> =
            others.map(|other| self.table.holder(other)).filter(|&node| node != NOBODY).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The member that a unit should go to.
    pub(super) fn pick_for(&self, unit: u32, fleet: &mut Fleet<'_>) -> Option<usize> {
        if !self.table.is_listed(unit) {
            return None;
        }
        self.demand(unit, |demand| fleet.choose(demand)).map(|pick| pick.member)
    }

    /// Gives unowned units an owner where there is one, the heaviest first.
    fn place(&mut self, now: Now, fleet: &mut Fleet<'_>, epochs: &mut Epochs) {
        let released = std::mem::take(&mut self.table.released);
        self.retry |= self.retry_at.take_if(|at| *at <= now.mono).is_some();
        // A round that is under way is finished first: whoever joins meanwhile would have it begin over and over.
        if self.waiting.is_empty() && std::mem::take(&mut self.retry) {
            self.waiting = self.table.unowned().to_vec();
            self.sort_waiting(0);
        } else {
            let first = self.waiting.len();
            self.waiting.extend(released);
            self.sort_waiting(first);
        }
        epochs.expect(self.waiting.len());
        for _ in 0..STEP_MAX {
            let Some(unit) = self.waiting.pop() else {
                self.waiting = Vec::new();
                break;
            };
            if !self.table.is_listed(unit) || self.table.unit(unit).owner != NOBODY {
                continue;
            }
            if let Some(member) = self.pick_for(unit, fleet) {
                fleet.add(member, self.table.weight(unit));
                self.give(now, unit, fleet.member(member).node, epochs.take());
            } else {
                self.table.wait(unit);
            }
        }
        let remain = self.waiting.is_empty() && !self.table.unowned().is_empty();
        self.retry_at = remain.then(|| self.retry_at.unwrap_or(now.mono + self.config.look_every));
    }

    /// Puts what waits into order from this place on: the heaviest, and of equals the first by name, last.
    fn sort_waiting(&mut self, from: usize) {
        let table = &self.table;
        self.waiting[from..].sort_by_key(|&unit| (table.weight(unit), std::cmp::Reverse(unit)));
    }

    /// Moves units off the fullest overloaded analyzer, if that gains enough. Returns when to look again.
    fn balance(
        &mut self,
        now: Now,
        fleet: &mut Fleet<'_>,
        leases: &Leases,
        epochs: &mut Epochs,
    ) -> Option<Mono> {
        let donors = fleet.overloaded();
        self.shedding.retain(|&node| donors.iter().any(|&donor| fleet.member(donor).node == node));
        if donors.is_empty() {
            self.stuck.clear();
            return None;
        }
        let budget = self.config.budget;
        let left = self.spent.left(now.mono, &budget, self.table.listed());
        if left == 0 && now.mono >= self.settling_until {
            return self.spent.frees_at(&budget);
        }
        let mut looked = 0;
        for donor in donors {
            let node = fleet.member(donor).node;
            if self.stuck.contains(&node) {
                continue;
            }
            if looked >= STEP_MAX {
                return Some(now.mono);
            }
            looked += self.table.owned(node).len().min(STEP_MAX);
            let plan = self.plan(now, fleet, donor, left);
            if plan.moves.is_empty() {
                self.stuck.insert(node);
                continue;
            }
            let (mut made, mut spent) = (0, 0);
            for (unit, member) in plan.moves {
                if !self.table.is_fresh(unit, now.mono) {
                    if spent == left {
                        continue;
                    }
                    spent += 1;
                }
                made += 1;
                let target = fleet.member(member).node;
                self.start_move(now, unit, (target, MoveWhy::Balance), leases, epochs);
            }
            self.balanced += made;
            self.spent.spend(now.mono, &budget, spent);
            return Some(now.mono);
        }
        // What rests now, or has no room elsewhere, may move later.
        self.stuck.clear();
        if left == 0 {
            return self.spent.frees_at(&budget);
        }
        Some(now.mono + self.config.look_every)
    }

    /// What would have to move off an overloaded analyzer, where so many moves are `left` in the budget: with none, only what
    /// moves for nothing. Empty where that gains too little, unless it is being brought down to its bound already.
    fn plan(&mut self, now: Now, fleet: &mut Fleet<'_>, donor: usize, left: usize) -> Plan {
        let node = fleet.member(donor).node;
        let before = fleet.member(donor).load;
        let after = self.config.rest_after_settling();
        let mut units = self.table.owned(node).to_vec();
        units.retain(|&unit| {
            let may_move = match left {
                0 => self.table.is_fresh(unit, now.mono),
                _ => !self.table.rests(unit, now.mono, after),
            };
            let stays = self.table.is_leaving(unit) || self.is_evacuated(unit);
            self.table.is_listed(unit) && !stays && may_move
        });
        let mut plan = Plan { moves: Vec::new(), weight: 0, partial: units.len() > STEP_MAX };
        units.truncate(STEP_MAX);
        // Those that want their new owner most go first.
        let mut wishes: Vec<(f64, u32)> = Vec::new();
        for unit in units {
            let pick = self.demand(unit, |demand| fleet.better(demand, donor));
            wishes.extend(pick.map(|pick| (pick.score, unit)));
        }
        wishes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, unit) in wishes {
            if fleet.member(donor).load <= fleet.bound(donor) {
                break;
            }
            let Some(pick) = self.demand(unit, |demand| fleet.better(demand, donor)) else {
                continue;
            };
            let weight = self.table.weight(unit);
            fleet.remove(donor, weight);
            fleet.add(pick.member, weight);
            plan.moves.push((unit, pick.member));
            plan.weight += weight;
        }
        let gains = plan.weight > before / GAIN_SHARE || (plan.partial && !plan.moves.is_empty());
        if gains || (self.shedding.contains(&node) && !plan.moves.is_empty()) {
            self.shedding.insert(node);
            return plan;
        }
        if left > 0 {
            self.shedding.remove(&node);
        }
        for (unit, member) in plan.moves.drain(..) {
            let weight = self.table.weight(unit);
            fleet.remove(member, weight);
            fleet.add(donor, weight);
        }
        plan
    }
}
