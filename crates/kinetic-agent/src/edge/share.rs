//! Who gives way when the buffer is full: the longest queue, as long as it is longer than an equal share (McKenney, "Stochastic
//! Fairness Queueing", 1990).

use super::stats::Reason;
use super::{Edge, cost};
use crate::spool::BODY_OVERHEAD;

/// When room must be made, this part of the buffer is made free at once, so that who gives way is looked for seldom.
const SLACK: usize = 64;

impl Edge {
    /// Whether so many bytes more of a customer may be held; others may have to give way for it.
    pub(super) fn make_room(&mut self, at: usize, need: usize) -> bool {
        let most = self.config.buffer_bytes;
        if self.bytes + need <= most {
            return true;
        }
        let holders = self.holders + usize::from(self.tenants[at].bytes == 0);
        let fair = most / holders.max(1);
        if self.tenants[at].bytes + need > fair {
            return false;
        }
        let goal = most.saturating_sub(need + most / SLACK);
        while self.bytes + need > most {
            let others = self.tenants.iter().enumerate().filter(|(_, other)| other.can_shrink());
            let largest = others.max_by_key(|(_, other)| other.bytes);
            let Some((largest, _)) = largest.filter(|(_, other)| other.bytes > fair) else { return false };
            while self.bytes > goal
                && self.tenants[largest].bytes > fair
                && self.drop_newest(largest, Reason::PushedOut)
            {}
        }
        true
    }

    /// Drops a body of a customer that is not in flight, the last that was closed before those that are open; false if there is none.
    pub(super) fn drop_newest(&mut self, at: usize, reason: Reason) -> bool {
        let tenant = &mut self.tenants[at];
        if let Some((_, body)) = tenant.waiting.pop_last() {
            self.charge(at, 0, body.bytes.len() + BODY_OVERHEAD);
            self.dropped(at, reason, body.lines);
            return true;
        }
        let Some((_, mut open)) = tenant.open.pop_last() else { return false };
        let before = cost(&open.batch);
        let lines = open.batch.close().map_or(0, |closed| super::count_lines(&closed.bytes));
        self.ages.remove(&open.place);
        self.charge(at, 0, before);
        self.dropped(at, reason, lines);
        true
    }

    /// What is held of a customer changes.
    pub(super) fn charge(&mut self, at: usize, more: usize, less: usize) {
        let tenant = &mut self.tenants[at];
        let held = tenant.bytes > 0;
        tenant.bytes = tenant.bytes + more - less;
        self.bytes = self.bytes + more - less;
        match (held, tenant.bytes > 0) {
            (false, true) => self.holders += 1,
            (true, false) => self.holders -= 1,
            _ => {}
        }
    }

    pub(super) fn dropped(&mut self, at: usize, reason: Reason, lines: u64) {
        self.counted.dropped.add(reason, lines);
        self.tenants[at].stats.dropped.add(reason, lines);
    }
}
