//! Who lives: one lease per node, and when it lapses.
//!
//! ```text
//! analyzer    sent ├──────────── 0.8 ttl: stops by itself ┤
//! redirector     received ├───────────── ttl ──────────┼── grace ──┤ lapsed: its sources go to others
//! ```
//! Both count on their own monotonic clock, and the redirector starts later, so it always ends later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinetic_wire::{Incarnation, LeaseId, Mono, NodeId, Serves, Wall};

/// One registered analyzer.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) id: LeaseId,
    pub(crate) inc: Incarnation,
    pub(crate) serves: Serves,
    pub(crate) capacity: u32,
    pub(crate) schema: Option<String>,
    pub(crate) load: f64,
    pub(crate) lag_ms: u64,
    /// Last heartbeat's number.
    pub(crate) seq: Option<u64>,
    /// Length last agreed on.
    pub(crate) ttl: Duration,
    pub(crate) lapses: Mono,
    pub(crate) since: Wall,
    pub(crate) draining: bool,
    /// Failure domain.
    pub(crate) zone: Option<String>,
    /// Schema generation that it runs; 0 where it does not say.
    pub(crate) generation: u64,
}

/// All leases.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    nodes: BTreeMap<NodeId, Lease>,
    deadlines: BTreeSet<(Mono, NodeId)>,
}

impl Leases {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn get(&self, node: &NodeId) -> Option<&Lease> {
        self.nodes.get(node)
    }

    /// A lease, to change anything of it but its deadline.
    pub(crate) fn get_mut(&mut self, node: &NodeId) -> Option<&mut Lease> {
        self.nodes.get_mut(node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NodeId, &Lease)> {
        self.nodes.iter()
    }

    pub(crate) fn insert(&mut self, node: NodeId, lease: Lease) {
        self.remove(&node);
        self.deadlines.insert((lease.lapses, node.clone()));
        self.nodes.insert(node, lease);
    }

    pub(crate) fn remove(&mut self, node: &NodeId) -> Option<Lease> {
        let lease = self.nodes.remove(node)?;
        self.deadlines.remove(&(lease.lapses, node.clone()));
        Some(lease)
    }

    /// Counts a lease anew from now.
    pub(crate) fn renew(&mut self, node: &NodeId, now: Mono, ttl: Duration, grace: Duration) {
        if let Some(lease) = self.nodes.get_mut(node) {
            self.deadlines.remove(&(lease.lapses, node.clone()));
            lease.ttl = ttl;
            // A deadline never moves back: an earlier answer may have promised a longer (jittered) lease.
            lease.lapses = lease.lapses.max(now + ttl + grace);
            self.deadlines.insert((lease.lapses, node.clone()));
        }
    }

    /// When the first lease lapses.
    pub(crate) fn earliest(&self) -> Option<Mono> {
        self.deadlines.first().map(|(lapses, _)| *lapses)
    }

    /// Takes out a lease that has lapsed by now.
    pub(crate) fn pop_lapsed(&mut self, now: Mono) -> Option<NodeId> {
        let (lapses, node) = self.deadlines.first()?;
        if *lapses > now {
            return None;
        }
        let node = node.clone();
        self.remove(&node);
        Some(node)
    }
}

/// Lease length for a fleet of this size: at most 50 heartbeats reach the redirector per third of a second.
pub(crate) fn ttl(shortest: Duration, analyzers: usize) -> Duration {
    shortest.max(Duration::from_millis(analyzers as u64 * 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttl_grows_with_the_fleet() {
        let check = |analyzers, secs| {
            assert_eq!(ttl(Duration::from_secs(15), analyzers), Duration::from_secs(secs));
        };
        check(0, 15);
        check(750, 15);
        check(1000, 20);
        check(5000, 100);
    }
}
