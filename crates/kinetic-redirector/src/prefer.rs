//! Placement as pure functions: which analyzer serves which source.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights by `-capacity / ln h` as Schindelhauer and
//! Schomaker 2005) gives every source an order of preference over the analyzers that hardly changes as they come and
//! go; a load bound (Mirrokni, Thorup and Zadimoghaddam 2016) keeps the fullest within 1.25 of its fair share. Who is
//! placed stays placed: only load beyond the bound is shed.

use kinetic_wire::{DataType, NodeId, RegionName, Serves, SourceKey};

use crate::rng::mix;

/// Most load an analyzer takes, as quarters of its fair share: 5/4 = 1.25.
const BOUND_QUARTERS: u128 = 5;

/// An analyzer that may be given sources.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub node: &'a NodeId,
    /// What it can serve.
    pub serves: &'a Serves,
    /// Relative capacity; with 0 it is given nothing.
    pub capacity: u32,
    /// Sources it has, or is about to have.
    pub load: usize,
}

/// A source that needs an owner.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The source.
    pub source: &'a SourceKey,
    /// Where its queue is.
    pub region: &'a RegionName,
    /// What it carries.
    pub data_type: DataType,
}

/// Whether an analyzer that serves this can take a source. A source whose type is found out message by message
/// (`Auto`) needs an analyzer that decodes everything or says `auto` itself.
#[must_use]
pub fn can_serve(serves: &Serves, demand: &Demand<'_>) -> bool {
    (serves.regions.is_empty() || serves.regions.contains(demand.region))
        && (serves.data_types.is_empty() || serves.data_types.contains(&demand.data_type))
        && (serves.customers.is_empty() || serves.customers.contains(&demand.source.customer))
}

/// FNV-1a (64 bit) with a final mix; the same on every machine and in every version, as `Hash` is not.
fn hash(parts: [&str; 2]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    mix(hash)
}

/// Preference of a source for a node: larger is better.
fn score(source: u64, node: u64, capacity: u32) -> f64 {
    // 53 bits, moved off 0 and 1, so that the logarithm is finite and negative.
    let unit = ((mix(source ^ node) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(capacity) / unit.ln()
}

/// Sources that an analyzer of this capacity may have, when `total` sources are shared by `total_capacity`.
fn bound(total: usize, capacity: u32, total_capacity: u128) -> usize {
    if total_capacity == 0 || capacity == 0 {
        return 0;
    }
    let share = (BOUND_QUARTERS * total as u128 * u128::from(capacity)).div_ceil(4 * total_capacity);
    usize::try_from(share).unwrap_or(usize::MAX)
}

/// What does not change while a batch is placed.
struct Fleet {
    hashes: Vec<u64>,
    bounds: Vec<usize>,
}

impl Fleet {
    fn new(candidates: &[Candidate<'_>], total: usize) -> Self {
        let total_capacity = candidates.iter().map(|candidate| u128::from(candidate.capacity)).sum();
        Self {
            hashes: candidates.iter().map(|candidate| hash([candidate.node.as_str(), ""])).collect(),
            bounds: candidates
                .iter()
                .map(|candidate| bound(total, candidate.capacity, total_capacity))
                .collect(),
        }
    }

    /// The best candidate within its bound, and its score.
    fn best(&self, demand: &Demand<'_>, candidates: &[Candidate<'_>]) -> Option<(usize, f64)> {
        let source = hash([demand.source.customer.as_str(), demand.source.source.as_str()]);
        let mut best: Option<(usize, f64)> = None;
        for (index, candidate) in candidates.iter().enumerate() {
            if candidate.load >= self.bounds[index] || !can_serve(candidate.serves, demand) {
                continue;
            }
            let score = score(source, self.hashes[index], candidate.capacity);
            if best.is_none_or(|(_, top)| score > top) {
                best = Some((index, score));
            }
        }
        best
    }
}

/// Among those that can serve the source at all, the one with the most room left for its capacity.
fn roomiest(demand: &Demand<'_>, candidates: &[Candidate<'_>]) -> Option<usize> {
    candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| candidate.capacity > 0 && can_serve(candidate.serves, demand))
        .min_by(|(_, a), (_, b)| {
            let left = a.load as u128 * u128::from(b.capacity);
            left.cmp(&(b.load as u128 * u128::from(a.capacity)))
        })
        .map(|(index, _)| index)
}

/// Gives every demand an owner (an index into `candidates`, whose loads grow), or `None` where nobody can serve it.
/// `total` is the number of sources that the fleet shares. The bound yields where keeping it would leave a source
/// without an owner, as when one analyzer alone reaches a region.
#[must_use]
pub fn place(demands: &[Demand<'_>], candidates: &mut [Candidate<'_>], total: usize) -> Vec<Option<usize>> {
    let fleet = Fleet::new(candidates, total);
    demands
        .iter()
        .map(|demand| {
            let within = fleet.best(demand, candidates).map(|(index, _)| index);
            let owner = within.or_else(|| roomiest(demand, candidates))?;
            candidates[owner].load += 1;
            Some(owner)
        })
        .collect()
}

/// The candidates above their bound.
#[must_use]
pub fn overloaded(candidates: &[Candidate<'_>], total: usize) -> Vec<usize> {
    let fleet = Fleet::new(candidates, total);
    (0..candidates.len()).filter(|&index| candidates[index].load > fleet.bounds[index]).collect()
}

/// What must move so that nobody is above its bound: `(index into owned, index of the new owner)`. `owned` holds the
/// sources of overloaded candidates, each with its present owner; loads follow the moves. The sources that want their
/// new owner most go first, and a source that nobody with room can serve stays.
#[must_use]
pub fn shed(
    owned: &[(usize, Demand<'_>)],
    candidates: &mut [Candidate<'_>],
    total: usize,
) -> Vec<(usize, usize)> {
    let fleet = Fleet::new(candidates, total);
    let mut wishes: Vec<(f64, usize)> = owned
        .iter()
        .enumerate()
        .filter_map(|(index, (_, demand))| Some((fleet.best(demand, candidates)?.1, index)))
        .collect();
    wishes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut moves = Vec::new();
    for (_, index) in wishes {
        let (owner, demand) = &owned[index];
        if candidates[*owner].load <= fleet.bounds[*owner] {
            continue;
        }
        if let Some((target, _)) = fleet.best(demand, candidates) {
            candidates[*owner].load -= 1;
            candidates[target].load += 1;
            moves.push((index, target));
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(count: usize) -> Vec<SourceKey> {
        (0..count).map(|i| SourceKey::new(&format!("c{i}"), "web")).collect()
    }

    fn demands<'a>(sources: &'a [SourceKey], region: &'a RegionName) -> Vec<Demand<'a>> {
        sources.iter().map(|source| Demand { source, region, data_type: DataType::Statsd }).collect()
    }

    fn fleet<'a>(nodes: &'a [NodeId], serves: &'a Serves, capacity: &[u32]) -> Vec<Candidate<'a>> {
        nodes
            .iter()
            .zip(capacity)
            .map(|(node, &capacity)| Candidate { node, serves, capacity, load: 0 })
            .collect()
    }

    fn nodes(count: usize) -> Vec<NodeId> {
        (0..count).map(|i| NodeId::new(&format!("a{i}"))).collect()
    }

    #[test]
    fn nobody_is_above_the_bound_and_capacity_counts() {
        let (sources, region, serves) = (sources(1000), RegionName::new("eu"), Serves::default());
        let (nodes, demands) = (nodes(5), demands(&sources, &region));
        let mut candidates = fleet(&nodes, &serves, &[100, 100, 100, 100, 400]);
        let owners = place(&demands, &mut candidates, 1000);
        assert!(owners.iter().all(Option::is_some));
        let loads: Vec<_> = candidates.iter().map(|candidate| candidate.load).collect();
        assert!(loads[..4].iter().all(|&load| (100..=157).contains(&load)), "{loads:?}");
        assert!(
            (440..=560).contains(&loads[4]),
            "four times the capacity, four times the sources: {loads:?}"
        );
    }

    #[test]
    fn losing_one_of_eight_moves_little_more_than_an_eighth() {
        let (sources, region, serves) = (sources(5000), RegionName::new("eu"), Serves::default());
        let (nodes, demands) = (nodes(8), demands(&sources, &region));
        let mut eight = fleet(&nodes, &serves, &[100; 8]);
        let before = place(&demands, &mut eight, 5000);
        let mut seven = fleet(&nodes[..7], &serves, &[100; 7]);
        let after = place(&demands, &mut seven, 5000);
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!((600..=800).contains(&moved), "ideal is 625: {moved}");
    }

    #[test]
    fn what_cannot_be_served_stays_open_and_the_bound_yields_to_need() {
        let (sources, region, here) = (sources(10), RegionName::new("eu"), Serves::default());
        let elsewhere = Serves { regions: vec!["us".into()], ..Serves::default() };
        let (nodes, demands) = (nodes(3), demands(&sources, &region));
        let mut candidates = fleet(&nodes, &elsewhere, &[100; 3]);
        assert_eq!(place(&demands, &mut candidates, 10), vec![None; 10]);
        candidates[1].serves = &here;
        assert_eq!(place(&demands, &mut candidates, 10), vec![Some(1); 10]);
        assert_eq!(overloaded(&candidates, 10), [1]);
        let owned: Vec<_> = demands.iter().map(|demand| (1, *demand)).collect();
        assert_eq!(shed(&owned, &mut candidates, 10), [], "nobody else can serve them");
    }

    #[test]
    fn each_kind_of_limit_excludes() {
        let (key, region) = (SourceKey::new("acme", "web"), RegionName::new("eu"));
        let demand = Demand { source: &key, region: &region, data_type: DataType::Auto };
        let check = |serves: Serves, expect| assert_eq!(can_serve(&serves, &demand), expect, "{serves:?}");
        check(Serves::default(), true);
        check(Serves { regions: vec!["us".into(), "eu".into()], ..Serves::default() }, true);
        check(Serves { regions: vec!["us".into()], ..Serves::default() }, false);
        check(Serves { data_types: vec![DataType::Statsd], ..Serves::default() }, false);
        check(Serves { data_types: vec![DataType::Auto], ..Serves::default() }, true);
        check(Serves { customers: vec!["other".into()], ..Serves::default() }, false);
        check(Serves { customers: vec!["acme".into()], ..Serves::default() }, true);
    }

    #[test]
    fn only_the_excess_is_shed() {
        let (sources, region, serves) = (sources(100), RegionName::new("eu"), Serves::default());
        let (nodes, demands) = (nodes(2), demands(&sources, &region));
        let mut candidates = fleet(&nodes, &serves, &[100; 2]);
        candidates[0].load = 100;
        let owned: Vec<_> = demands.iter().map(|demand| (0, *demand)).collect();
        let moves = shed(&owned, &mut candidates, 100);
        assert_eq!(moves.len(), 37, "the bound is 63 of 100");
        assert!(moves.iter().all(|&(_, target)| target == 1));
        assert_eq!(shed(&owned, &mut candidates, 100), [], "and then nothing more");
    }

    #[test]
    fn an_analyzer_without_capacity_gets_nothing() {
        let (sources, region, serves) = (sources(9), RegionName::new("eu"), Serves::default());
        let (nodes, demands) = (nodes(2), demands(&sources, &region));
        let mut candidates = fleet(&nodes, &serves, &[0, 1]);
        assert_eq!(place(&demands, &mut candidates, 9), vec![Some(1); 9]);
        let mut none = fleet(&nodes[..1], &serves, &[0]);
        assert_eq!(place(&demands, &mut none, 9), vec![None; 9]);
    }
}
