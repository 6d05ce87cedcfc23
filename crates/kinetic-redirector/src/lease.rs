//! Who lives: one lease per node, and when it lapses.
//!
//! ```text
//! analyzer    sent ├──────────── 0.8 ttl: stops by itself ┤
//! redirector     received ├───────────── ttl ──────────┼── grace ──┤ lapsed: its sources go to others
//! ```
//! Both count on their own monotonic clock, and the redirector starts later, so it always ends later. Where the broker bears
//! witness that the analyzer's connection has ended, the lease is cut short: see [`Leases::cut`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinetic_wire::{Incarnation, LeaseId, Mono, NodeId, Serves, Wall};

use crate::machine::Caller;

/// One registered analyzer.
#[derive(Clone, Debug, Default)]
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
    /// It leaves, and is to be given nothing more.
    pub(crate) draining: bool,
    /// Failure domain.
    pub(crate) zone: Option<String>,
    /// Commits up to and with the schema revision it runs; 0 where it does not say.
    pub(crate) generation: u64,
    /// Where it listens for nudges.
    pub(crate) caller: Option<Caller>,
    /// It has been nudged and has not spoken since.
    pub(crate) nudged: bool,
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

    /// The broker says that the analyzer's connection has ended: unless it speaks up, the lease ends a quarter of its length from
    /// now, at most [`WITNESSED_MAX`].
    pub(crate) fn cut(&mut self, node: &NodeId, now: Mono) {
        if let Some(lease) = self.nodes.get_mut(node) {
            self.deadlines.remove(&(lease.lapses, node.clone()));
            lease.lapses = lease.lapses.min(now + (lease.ttl / 4).min(WITNESSED_MAX));
            self.deadlines.insert((lease.lapses, node.clone()));
        }
    }

    /// Nobody could be heard for a while: all of them last so much longer.
    pub(crate) fn extend(&mut self, by: Duration) {
        for lease in self.nodes.values_mut() {
            lease.lapses = lease.lapses + by;
        }
        self.deadlines = self.nodes.iter().map(|(node, lease)| (lease.lapses, node.clone())).collect();
    }

    /// All of them are forgotten.
    pub(crate) fn clear(&mut self) {
        self.nodes.clear();
        self.deadlines.clear();
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

/// Longest time that an analyzer has to speak up once the broker has said that its connection has ended.
pub(crate) const WITNESSED_MAX: Duration = Duration::from_secs(1);

/// Longest lease that may have been granted to a fleet of this size, with the jitter.
pub(crate) fn longest(shortest: Duration, analyzers: usize) -> Duration {
    let ttl = ttl(shortest, analyzers);
    ttl + ttl / 10
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
