//! Analyzers that come and go: after the third loss within an hour one is given nothing new for a while, twice as long
//! each time, until it has been quiet for an hour.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kinetic_wire::{Mono, NodeId};

/// Nodes remembered; past it the one that flapped longest ago is forgotten.
const FLAPPERS_MAX: usize = 4096;

/// When a node counts as flapping, and for how long it is held down then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldDown {
    /// Losses within `within` that make a node flap; with 0 none ever does.
    pub losses: u32,
    /// How long a loss counts; after as long without one all is forgotten.
    pub within: Duration,
    /// First hold-down.
    pub first: Duration,
    /// Longest hold-down.
    pub longest: Duration,
}

impl Default for HoldDown {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { losses: 3, within: hour, first: Duration::from_secs(60), longest: hour }
    }
}

#[derive(Debug, Default)]
struct Flapper {
    losses: VecDeque<Mono>,
    /// Hold-downs so far.
    times: u32,
    until: Mono,
}

/// Nodes that were lost lately.
#[derive(Debug, Default)]
pub(crate) struct Flaps {
    nodes: BTreeMap<NodeId, Flapper>,
}

impl Flaps {
    /// A node's lease lapsed, or a newer process took its name.
    pub(crate) fn lost(&mut self, now: Mono, node: &NodeId, rule: &HoldDown) {
        if rule.losses == 0 {
            return;
        }
        self.nodes
            .retain(|_, flapper| flapper.losses.back().is_some_and(|last| now.since(*last) < rule.within));
        if self.nodes.len() >= FLAPPERS_MAX && !self.nodes.contains_key(node) {
            let oldest = self.nodes.iter().min_by_key(|(_, flapper)| flapper.losses.back().copied());
            if let Some(oldest) = oldest.map(|(node, _)| node.clone()) {
                self.nodes.remove(&oldest);
            }
        }
        let flapper = self.nodes.entry(node.clone()).or_default();
        flapper.losses.retain(|loss| now.since(*loss) < rule.within);
        flapper.losses.push_back(now);
        if flapper.losses.len() > rule.losses as usize {
            flapper.losses.pop_front();
        }
        if flapper.losses.len() >= rule.losses as usize {
            let pause = rule.first.saturating_mul(1_u32.checked_shl(flapper.times).unwrap_or(u32::MAX));
            flapper.until = now + pause.min(rule.longest);
            flapper.times = flapper.times.saturating_add(1).min(31);
        }
    }

    /// How long a node is held down yet.
    pub(crate) fn held_down(&self, now: Mono, node: &NodeId) -> Option<Duration> {
        let until = self.nodes.get(node)?.until;
        (until > now).then(|| until.since(now))
    }

    /// When the next hold-down ends.
    pub(crate) fn next_end(&self, now: Mono) -> Option<Mono> {
        self.nodes.values().map(|flapper| flapper.until).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_third_loss_holds_down_and_each_further_one_twice_as_long() {
        let (mut flaps, rule, node) = (Flaps::default(), HoldDown::default(), NodeId::new("a"));
        let mut now = Mono(0);
        let mut lose = |after: Duration, expect: Option<u32>| {
            now = now + after;
            flaps.lost(now, &node, &rule);
            assert_eq!(flaps.held_down(now, &node), expect.map(|minutes| MINUTE * minutes), "at {now:?}");
            assert_eq!(flaps.next_end(now), expect.map(|minutes| now + MINUTE * minutes));
        };
        lose(MINUTE, None);
        lose(MINUTE, None);
        lose(MINUTE, Some(1));
        for minutes in [2, 4, 8, 16, 32, 60, 60] {
            lose(MINUTE, Some(minutes));
        }
        lose(61 * MINUTE, None);
    }

    #[test]
    fn losses_far_apart_do_not_add_up() {
        let (mut flaps, rule, node) = (Flaps::default(), HoldDown::default(), NodeId::new("a"));
        for half_hours in 1..20 {
            let now = Mono(0) + MINUTE * 31 * half_hours;
            flaps.lost(now, &node, &rule);
            assert_eq!(flaps.held_down(now, &node), None);
        }
    }

    #[test]
    fn the_table_of_flappers_is_bounded() {
        let (mut flaps, rule) = (Flaps::default(), HoldDown::default());
        for index in 0..FLAPPERS_MAX as u64 + 5 {
            flaps.lost(Mono(index), &NodeId::new(&index.to_string()), &rule);
        }
        assert_eq!(flaps.nodes.len(), FLAPPERS_MAX);
        assert!(!flaps.nodes.contains_key(&NodeId::new("4")) && flaps.nodes.contains_key(&NodeId::new("5")));
    }
}
