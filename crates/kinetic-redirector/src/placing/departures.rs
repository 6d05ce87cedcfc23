//! Analyzers that give up their units bit by bit: because they leave, or because an operator relieves them.

use std::time::Duration;

use kinetic_wire::{Mono, MoveWhy, NodeId, Now};

use super::Placing;
use super::settle::STEP_MAX;
use crate::epochs::Epochs;
use crate::lease::Leases;
use crate::prefer::Fleet;
use crate::table::NOBODY;

/// Analyzers that operators have relieved, in this leadership or before; one more is refused.
const RELIEVED_MAX: usize = 4096;
/// Departures look again no sooner than this.
const PAUSE: Duration = Duration::from_millis(10);

/// How an analyzer gives up its units: evenly, the first at once, the last before `period` has passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    since: Mono,
    period: Duration,
    /// Units that it had then.
    total: usize,
    /// It keeps what nobody else can serve: an operator relieves it.
    keeps_needed: bool,
}

impl Departure {
    /// Units that it may still have.
    fn may_have(&self, now: Mono) -> usize {
        let (elapsed, period) = (now.since(self.since).as_nanos(), self.period.as_nanos());
        if elapsed >= period {
            return 0;
        }
        let left = (self.total as u128 * (period - elapsed)).div_ceil(period);
        usize::try_from(left).unwrap_or(usize::MAX).saturating_sub(1)
    }

    /// When it must have fewer than these.
    fn due(&self, units: usize) -> Mono {
        let gone = self.total.saturating_sub(units) as u128;
        let after = self.period.as_nanos() * gone / self.total.max(1) as u128;
        self.since + Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX)) + Duration::from_nanos(1)
    }
}

impl Placing {
    /// An operator relieves an analyzer: it is given nothing more, and what others can serve leaves it, no faster than
    /// the budget, but within a bounded time. False where too many are relieved already.
    #[must_use]
    pub(crate) fn relieve(&mut self, now: Now, node: &NodeId, leases: &Leases) -> bool {
        if self.relieved.len() >= RELIEVED_MAX && !self.relieved.contains(node) {
            return false;
        }
        if self.relieved.insert(node.clone()) {
            self.depart(now, node, None, leases);
        }
        true
    }

    /// An operator takes that back.
    pub(crate) fn reinstate(&mut self, node: &NodeId) {
        self.relieved.remove(node);
        // One that drains by itself has half of its deadline, and goes on.
        if self.departures.get(node).is_some_and(|departure| departure.keeps_needed) {
            self.departures.remove(node);
        }
        (self.dirty, self.retry) = (true, true);
    }

    /// An operator has relieved it.
    pub(crate) fn is_relieved(&self, node: &NodeId) -> bool {
        self.relieved.contains(node)
    }
}

impl Placing {
    /// An analyzer leaves within this time: by half of it, it has been told to let go of everything. Its lease says that
    /// it drains.
    pub(crate) fn drain(&mut self, now: Now, node: &NodeId, deadline: Duration, leases: &Leases) {
        self.depart(now, node, Some(deadline), leases);
    }

    pub(super) fn depart(&mut self, now: Now, node: &NodeId, deadline: Option<Duration>, leases: &Leases) {
        self.dirty = true;
        let Some(total) = self.table.node_index(node).map(|node| self.staying(node).len()).filter(|&n| n > 0)
        else {
            return;
        };
        let alone = leases.iter().all(|(other, lease)| other == node || lease.draining);
        let budget = self.config.budget;
        let period = match deadline {
            // Nobody is spared anything by leaving slowly.
            Some(_) if alone => Duration::ZERO,
            Some(deadline) => deadline / 2,
            None => {
                let windows = total as f64 / budget.moves(self.table.listed()) as f64;
                let paced = budget.window.as_secs_f64() * windows;
                Duration::try_from_secs_f64(paced)
                    .map_or(self.config.relieve_within, |paced| paced.min(self.config.relieve_within))
            }
        };
        let departure = Departure { since: now.mono, period, total, keeps_needed: deadline.is_none() };
        self.departures.insert(node.clone(), departure);
    }

    /// Units that a node has and need not let go yet, by number.
    fn staying(&self, node: u32) -> Vec<u32> {
        let mut units = self.table.owned(node).to_vec();
        units.retain(|&unit| !self.table.is_leaving(unit));
        units.sort_unstable();
        units
    }

    /// Tells those who depart to let go of what is due, and says when more is.
    pub(super) fn depart_due(
        &mut self,
        now: Now,
        fleet: &mut Fleet<'_>,
        leases: &Leases,
        epochs: &mut Epochs,
    ) -> Option<Mono> {
        let mut wake: Option<Mono> = None;
        let mut left = STEP_MAX;
        for (name, departure) in self.departures.clone() {
            let Some(node) = self.table.node_index(&name) else {
                self.departures.remove(&name);
                continue;
            };
            let units = self.staying(node);
            let mut stays = units.len();
            let may_have = departure.may_have(now.mono);
            for unit in units {
                if stays <= may_have || left == 0 {
                    break;
                }
                left -= 1;
                stays -= usize::from(self.depart_with(now, unit, departure, fleet, leases, epochs));
            }
            if stays == 0 {
                self.departures.remove(&name);
            } else {
                let next =
                    departure.due(stays).max(now.mono + if left == 0 { Duration::ZERO } else { PAUSE });
                // What nobody else can serve is looked at again now and then.
                let next = if departure.keeps_needed && may_have < stays && left > 0 {
                    next.max(now.mono + self.config.look_every)
                } else {
                    next
                };
                wake = Some(wake.map_or(next, |wake| wake.min(next)));
            }
        }
        wake
    }

    /// One unit of an analyzer that departs is to go to another; false if it has to stay.
    fn depart_with(
        &mut self,
        now: Now,
        unit: u32,
        departure: Departure,
        fleet: &mut Fleet<'_>,
        leases: &Leases,
        epochs: &mut Epochs,
    ) -> bool {
        // While owners are still heard, nobody is chosen: it may be another's.
        let pick = if self.listening() { None } else { self.pick_for(unit, fleet) };
        if pick.is_none() && departure.keeps_needed {
            return false;
        }
        let mut target = NOBODY;
        if let Some(member) = pick {
            fleet.add(member, self.table.weight(unit));
            target = fleet.member(member).node;
        }
        if departure.keeps_needed {
            self.spent.spend(now.mono, &self.config.budget, 1);
        }
        self.start_move(now, unit, (target, MoveWhy::OwnerLeft), leases, epochs);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_leave_evenly_and_all_in_time() {
        let period = Duration::from_secs(10);
        let departure = Departure { since: Mono(7), period, total: 4, keeps_needed: false };
        let at = |ms: u64| departure.may_have(Mono(7) + Duration::from_millis(ms));
        assert_eq!([at(0), at(2_499), at(2_501), at(5_001), at(7_501), at(10_000)], [3, 3, 2, 1, 0, 0]);
        for units in 1..=4 {
            let due = departure.due(units);
            assert!(departure.may_have(due) < units, "{units} at {due:?}");
            assert!(departure.may_have(Mono(due.0 - 2)) >= units || due.0 <= 9, "and not much earlier");
        }
        let at_once = Departure { period: Duration::ZERO, ..departure };
        assert_eq!(at_once.may_have(Mono(7)), 0);
    }
}
