//! Preference as pure functions: which analyzer a unit goes to.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights by `-capacity / ln h` as Schindelhauer and
//! Schomaker 2005) gives every unit an order of preference over the analyzers that hardly changes as they come and
//! go; a load bound (Mirrokni, Thorup and Zadimoghaddam 2016) keeps the fullest within 1.25 of its fair share.
//!
//! ```text
//! within its bound, best score   ▸ else, of those that can serve it, the emptiest ▸ else one that is held down ▸ nobody
//! └ first without another part of the source, then in the region's zones, then in a zone without another part
//! ```

use std::cmp::Reverse;
use std::collections::BTreeMap;

use kinetic_wire::{DataType, Serves};

use crate::map::Map;
use crate::rng::mix;

/// Most load an analyzer takes, as quarters of its fair share: 5/4 = 1.25.
const BOUND_QUARTERS: u128 = 5;
/// Units that one analyzer is given at most: it must be able to say that it holds them.
pub(crate) const OWNED_MAX: u32 = crate::machine::HOLDS_MAX as u32;
/// Penalties are sums of 4, 2 and 1.
const PENALTIES: usize = 8;
const NOT_A_MEMBER: u32 = u32::MAX;

/// FNV-1a (64 bit) with a final mix; the same on every machine and in every version, as `Hash` is not.
pub(crate) fn hash(parts: [&str; 2]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    mix(hash)
}

/// Hash of a unit: of the source, spread over its parts.
pub(crate) fn unit_hash(customer: &str, source: &str, part: u16) -> u64 {
    let source = hash([customer, source]);
    if part == 0 { source } else { mix(source.wrapping_add(u64::from(part))) }
}

/// Score of a hash, of which larger is better: 53 bits moved off 0 and 1, so that the logarithm is finite and negative.
fn score(drawn: u64, capacity: u32) -> f64 {
    let unit = ((drawn >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(capacity) / unit.ln()
}

/// Whether an analyzer that serves this can take a unit. A source whose type is found out message by message (`Auto`)
/// needs an analyzer that decodes everything or says `auto` itself.
pub(crate) fn can_serve(serves: &Serves, region: &str, data_type: DataType, customer: &str) -> bool {
    can_reach(serves, region, data_type) && is_for(serves, customer)
}

fn can_reach(serves: &Serves, region: &str, data_type: DataType) -> bool {
    (serves.regions.is_empty() || serves.regions.iter().any(|known| known.as_str() == region))
        && (serves.data_types.is_empty() || serves.data_types.contains(&data_type))
}

fn is_for(serves: &Serves, customer: &str) -> bool {
    serves.customers.is_empty() || serves.customers.iter().any(|known| known.as_str() == customer)
}

/// An analyzer that may be given units.
#[derive(Clone, Debug)]
pub(crate) struct Member<'a> {
    /// Number of its node in the table.
    pub(crate) node: u32,
    /// Hash of its name.
    pub(crate) hash: u64,
    pub(crate) serves: &'a Serves,
    /// Relative capacity; with 0 it is given nothing.
    pub(crate) capacity: u32,
    pub(crate) zone: Option<&'a str>,
    /// Schema generation that it runs; 0 where it does not say.
    pub(crate) generation: u64,
    /// It flaps: given something only where nobody else can take it.
    pub(crate) held_down: bool,
    /// Weight of what it will have once every move under way is done.
    pub(crate) load: u64,
    /// Number of those units.
    pub(crate) count: u32,
}

/// A unit that needs an owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand<'a> {
    pub(crate) hash: u64,
    pub(crate) customer: &'a str,
    pub(crate) region: u16,
    pub(crate) data_type: DataType,
    pub(crate) weight: u64,
    /// Schema generation that an analyzer must have reached to know the unit as it is.
    pub(crate) generation: u64,
    /// Nodes that have other parts of the same source.
    pub(crate) siblings: &'a [u32],
}

/// What was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pick {
    /// Index of the member.
    pub(crate) member: usize,
    penalty: usize,
    pub(crate) score: f64,
}

/// Analyzers that can serve one region and data type, those of equal capacity together.
#[derive(Debug, Default)]
struct Class {
    members: Vec<u32>,
    hashes: Vec<u64>,
    /// End of each run of equal capacity, with the capacity.
    runs: Vec<(usize, u32)>,
    /// Whether a member is in a zone that the region prefers; empty where the region has no preference.
    preferred: Vec<bool>,
}

/// All analyzers that may be given something, with loads that follow what is decided.
#[derive(Debug)]
pub(crate) struct Fleet<'a> {
    map: &'a Map,
    members: Vec<Member<'a>>,
    bounds: Vec<u64>,
    /// Index of a member by node.
    of_node: Vec<u32>,
    classes: BTreeMap<(u16, DataType), Class>,
}

impl<'a> Fleet<'a> {
    /// `total` is the weight that the fleet shares, `mean` that of an average unit: bounds are whole multiples of it, so
    /// that among equals a bound counts units.
    pub(crate) fn new(map: &'a Map, mut members: Vec<Member<'a>>, total: u64, mean: u64) -> Self {
        members.sort_by_key(|member| (Reverse(member.capacity), member.node));
        let open = members.iter().filter(|member| !member.held_down);
        let capacity: u128 = open.map(|member| u128::from(member.capacity)).sum();
        let bounds =
            members.iter().map(|member| bound(total, mean.max(1), member.capacity, capacity)).collect();
        let nodes = members.iter().map(|member| member.node as usize + 1).max().unwrap_or(0);
        let mut of_node = vec![NOT_A_MEMBER; nodes];
        for (index, member) in members.iter().enumerate() {
            of_node[member.node as usize] = index as u32;
        }
        Self { map, members, bounds, of_node, classes: BTreeMap::new() }
    }

    pub(crate) fn member(&self, index: usize) -> &Member<'a> {
        &self.members[index]
    }

    /// The member that is this node.
    pub(crate) fn index_of(&self, node: u32) -> Option<usize> {
        self.of_node
            .get(node as usize)
            .copied()
            .filter(|&index| index != NOT_A_MEMBER)
            .map(|index| index as usize)
    }

    /// A member is to have this much more.
    pub(crate) fn add(&mut self, member: usize, weight: u64) {
        self.members[member].load += weight;
        self.members[member].count += 1;
    }

    /// A member is to have this much less.
    pub(crate) fn remove(&mut self, member: usize, weight: u64) {
        self.members[member].load -= weight;
        self.members[member].count -= 1;
    }

    pub(crate) fn bound(&self, member: usize) -> u64 {
        self.bounds[member]
    }

    /// Members above their bound, the fullest for its capacity first. Held-down ones have no bound.
    pub(crate) fn overloaded(&self) -> Vec<usize> {
        let above = |&index: &usize| {
            let member = &self.members[index];
            !member.held_down && member.capacity > 0 && member.load > self.bounds[index]
        };
        let mut above: Vec<usize> = (0..self.members.len()).filter(above).collect();
        above.sort_by(|&a, &b| {
            let (a, b) = (&self.members[a], &self.members[b]);
            let left = u128::from(b.load) * u128::from(a.capacity);
            left.cmp(&(u128::from(a.load) * u128::from(b.capacity))).then(a.node.cmp(&b.node))
        });
        above
    }

    /// The owner that a unit should have, or `None` where nobody can serve it. The bound yields where keeping it would
    /// leave the unit without an owner, as when one analyzer alone reaches a region or the unit alone is above it; a
    /// hold-down does likewise.
    pub(crate) fn choose(&mut self, demand: &Demand<'_>) -> Option<Pick> {
        self.class(demand);
        let open = |_: usize, member: &Member<'_>| !member.held_down;
        self.within(demand, PENALTIES)
            .or_else(|| self.emptiest(demand, open))
            .or_else(|| self.emptiest(demand, |_, member| member.held_down))
    }

    /// A better owner for a unit of an overloaded member: within its bound, or at least a tenth emptier than that member
    /// even with the unit.
    pub(crate) fn better(&mut self, demand: &Demand<'_>, donor: usize) -> Option<Pick> {
        self.class(demand);
        let class = &self.classes[&(demand.region, demand.data_type)];
        let slot = class.members.iter().position(|&index| index as usize == donor);
        let penalty = slot.map_or(PENALTIES, |slot| self.penalty(class, slot, demand) + 1);
        let full = self.members[donor].clone();
        self.within(demand, penalty).or_else(|| {
            let emptier = |index: usize, member: &Member<'_>| {
                let after = u128::from(member.load + demand.weight) * u128::from(full.capacity);
                index != donor
                    && !member.held_down
                    && 10 * after <= 9 * u128::from(full.load) * u128::from(member.capacity)
            };
            self.emptiest(demand, emptier).filter(|pick| pick.penalty < penalty)
        })
    }

    /// Makes sure that the class of a demand is there.
    fn class(&mut self, demand: &Demand<'_>) {
        let (region, data_type) = (demand.region, demand.data_type);
        if self.classes.contains_key(&(region, data_type)) {
            return;
        }
        let entry = &self.map.regions()[usize::from(region)];
        let mut class = Class::default();
        for (index, member) in self.members.iter().enumerate() {
            if member.capacity == 0 || !can_reach(member.serves, entry.name.as_str(), data_type) {
                continue;
            }
            class.members.push(index as u32);
            class.hashes.push(member.hash);
            if !entry.zones.is_empty() {
                let at_home = |zone: &str| entry.zones.iter().any(|home| home == zone);
                class.preferred.push(member.zone.is_some_and(at_home));
            }
            match class.runs.last_mut() {
                Some((end, capacity)) if *capacity == member.capacity => *end += 1,
                _ => class.runs.push((class.members.len(), member.capacity)),
            }
        }
        self.classes.insert((region, data_type), class);
    }

    /// How much speaks against a member, other than its load.
    fn penalty(&self, class: &Class, slot: usize, demand: &Demand<'_>) -> usize {
        let member = &self.members[class.members[slot] as usize];
        let away = class.preferred.get(slot).is_some_and(|preferred| !preferred);
        let with_sibling = demand.siblings.contains(&member.node);
        let beside_sibling = member.zone.is_some()
            && demand.siblings.iter().any(|&node| {
                self.index_of(node).is_some_and(|index| self.members[index].zone == member.zone)
            });
        4 * usize::from(with_sibling) + 2 * usize::from(away) + usize::from(beside_sibling)
    }

    fn admits(member: &Member<'_>, demand: &Demand<'_>) -> bool {
        member.count < OWNED_MAX
            && (member.generation == 0 || member.generation >= demand.generation)
            && is_for(member.serves, demand.customer)
    }

    /// The best member within its bound, of those with the least penalty, if that is below `limit`.
    fn within(&self, demand: &Demand<'_>, limit: usize) -> Option<Pick> {
        let class = &self.classes[&(demand.region, demand.data_type)];
        let plain = demand.siblings.is_empty() && class.preferred.is_empty();
        let mut best: Option<Pick> = None;
        let mut start = 0;
        for &(end, capacity) in &class.runs {
            // Among equal capacities the larger hash has the larger score: one logarithm for all of them.
            let mut top = [(0, usize::MAX); PENALTIES];
            for slot in start..end {
                let drawn = mix(demand.hash ^ class.hashes[slot]);
                let penalty = if plain { 0 } else { self.penalty(class, slot, demand) };
                if drawn >= top[penalty].0 {
                    let index = class.members[slot] as usize;
                    let member = &self.members[index];
                    let has_room = !member.held_down && member.load + demand.weight <= self.bounds[index];
                    if has_room && Self::admits(member, demand) {
                        top[penalty] = (drawn, index);
                    }
                }
            }
            start = end;
            let found = top.iter().enumerate().find(|(_, (_, member))| *member != usize::MAX);
            if let Some((penalty, &(drawn, member))) = found.filter(|(penalty, _)| *penalty < limit) {
                let pick = Pick { member, penalty, score: score(drawn, capacity) };
                let beats = |best: Pick| (penalty, -pick.score) < (best.penalty, -best.score);
                if best.is_none_or(beats) {
                    best = Some(pick);
                }
            }
        }
        best
    }

    /// Of the members that can serve a unit at all and that `admit` lets through, the one that is emptiest for its
    /// capacity; of those equally empty, the one with the least penalty.
    fn emptiest(&self, demand: &Demand<'_>, admit: impl Fn(usize, &Member<'_>) -> bool) -> Option<Pick> {
        let class = &self.classes[&(demand.region, demand.data_type)];
        let mut best: Option<(usize, Pick)> = None;
        for (slot, &index) in class.members.iter().enumerate() {
            let member = &self.members[index as usize];
            if !Self::admits(member, demand) || !admit(index as usize, member) {
                continue;
            }
            let penalty = self.penalty(class, slot, demand);
            let emptier = |&(other, pick): &(usize, Pick)| {
                let other = &self.members[other];
                let left = u128::from(member.load) * u128::from(other.capacity);
                (left, penalty) < (u128::from(other.load) * u128::from(member.capacity), pick.penalty)
            };
            if best.as_ref().is_none_or(emptier) {
                best = Some((index as usize, Pick { member: index as usize, penalty, score: 0.0 }));
            }
        }
        best.map(|(_, pick)| pick)
    }
}

/// Weight that an analyzer of this capacity may have: 1.25 of its share, rounded up to whole average units.
fn bound(total: u64, mean: u64, capacity: u32, total_capacity: u128) -> u64 {
    if total_capacity == 0 || capacity == 0 {
        return 0;
    }
    let share = BOUND_QUARTERS * u128::from(total) * u128::from(capacity);
    let units = share.div_ceil(4 * total_capacity * u128::from(mean));
    u64::try_from(units * u128::from(mean)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
