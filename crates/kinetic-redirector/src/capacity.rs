//! Whether the fleet is too small or too large for its load. Analyzers that can serve the same share their load;
//! a mean over ones that cannot would hide a region in need behind an idle one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kinetic_wire::{NodeId, Serves};

use crate::fleet::{Demand, Member, ScalingConfig, Unplaced};
use crate::lease::Leases;
use crate::placing::Placing;
use crate::prefer::can_serve;
use crate::table::Table;

/// Sources without an owner that are looked at; of more, every n-th stands for n.
const UNPLACED_LOOKED_AT_MAX: usize = 10_000;
/// Analyzers that serve different things are told apart up to here; more of them count as if they served anything.
const POOLS_MAX: usize = 256;
/// What they count as.
static ANYTHING: Serves = Serves { regions: Vec::new(), data_types: Vec::new(), customers: Vec::new() };
/// Kinds of sources that a reason names.
const KINDS_NAMED_MAX: usize = 3;

/// A node that the others could do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) node: NodeId,
    pub(crate) why: String,
}

/// Analyzers that serve exactly the same.
struct Pool<'a> {
    serves: &'a Serves,
    nodes: usize,
    capacity: f64,
    /// Capacity in use.
    used: f64,
    /// Highest load of one.
    highest: f64,
}

fn pools<'a>(members: impl Iterator<Item = &'a Member>) -> Vec<Pool<'a>> {
    let mut pools: Vec<Pool<'a>> = Vec::new();
    for member in members.filter(|member| !member.draining && member.capacity > 0) {
        // What a node says of itself is not to be trusted with arithmetic.
        let load = if member.load.is_finite() { member.load.clamp(0.0, 1.0) } else { 0.0 };
        let capacity = f64::from(member.capacity);
        let known = |serves: &Serves| pools.iter().position(|pool| pool.serves == serves);
        let full = pools.len() >= POOLS_MAX;
        let (at, serves) = match known(&member.serves) {
            None if full => (known(&ANYTHING), &ANYTHING),
            at => (at, &member.serves),
        };
        let at = at.unwrap_or_else(|| {
            pools.push(Pool { serves, nodes: 0, capacity: 0.0, used: 0.0, highest: 0.0 });
            pools.len() - 1
        });
        let pool = &mut pools[at];
        pool.nodes += 1;
        pool.capacity += capacity;
        pool.used += capacity * load;
        pool.highest = pool.highest.max(load);
    }
    pools
}

/// The load that can be spread over those who can serve some of the same.
fn around<'a>(pools: &[Pool<'a>], serves: &'a Serves) -> Pool<'a> {
    let none = Pool { serves, nodes: 0, capacity: 0.0, used: 0.0, highest: 0.0 };
    pools.iter().filter(|pool| overlap(pool.serves, serves)).fold(none, |sum, pool| Pool {
        serves,
        nodes: sum.nodes + pool.nodes,
        capacity: sum.capacity + pool.capacity,
        used: sum.used + pool.used,
        highest: sum.highest.max(pool.highest),
    })
}

/// Why another node of the provisioner's is wanted, if it is.
pub(crate) fn need(demand: &Demand, config: &ScalingConfig) -> Option<String> {
    let waiting: Vec<&Unplaced> = demand.unplaced.iter().filter(|unplaced| unplaced.fits).collect();
    if !waiting.is_empty() {
        return Some(no_owner(&waiting));
    }
    let pools = pools(demand.analyzers.iter());
    let candidates = pools.iter().filter(|pool| overlap(pool.serves, &config.serves));
    let worst =
        candidates.map(|pool| around(&pools, pool.serves)).max_by(|a, b| mean(a).total_cmp(&mean(b)))?;
    (mean(&worst) >= config.load_high).then(|| {
        format!(
            "mean load {:.2} (highest {:.2}, analyzers {}) is not below {:.2}",
            mean(&worst),
            worst.highest,
            worst.nodes,
            config.load_high
        )
    })
}

fn mean(pool: &Pool<'_>) -> f64 {
    if pool.capacity > 0.0 { pool.used / pool.capacity } else { 0.0 }
}

fn no_owner(waiting: &[&Unplaced]) -> String {
    let total: usize = waiting.iter().map(|unplaced| unplaced.sources).sum();
    let mut why = format!("sources without an owner: {total}");
    for (index, unplaced) in waiting.iter().take(KINDS_NAMED_MAX).enumerate() {
        let data_type = format!("{:?}", unplaced.data_type).to_lowercase();
        let separator = if index == 0 { " (" } else { ", " };
        write!(why, "{separator}{} {data_type} in {}", unplaced.sources, unplaced.region)
            .expect("writing to a string");
    }
    why.push_str(if waiting.len() > KINDS_NAMED_MAX { ", …)" } else { ")" });
    why
}

/// Whether a node can go: nothing waits, somebody else can serve whatever it can, and the rest stays below `load_low`.
pub(crate) fn spare(demand: &Demand, config: &ScalingConfig, node: &NodeId) -> Option<Spare> {
    let leaving = demand.analyzers.iter().find(|member| member.node == *node)?;
    if demand.unplaced.iter().any(|unplaced| unplaced.fits) {
        return None;
    }
    let rest = demand
        .analyzers
        .iter()
        .filter(|member| member.node != *node && !member.draining && member.capacity > 0);
    let heir = rest.clone().any(|member| covers(&member.serves, &leaving.serves));
    if !heir && leaving.owned > 0 {
        return None;
    }
    let (all, others) = (pools(demand.analyzers.iter()), pools(rest));
    let (now, then) = (around(&all, &leaving.serves), around(&others, &leaving.serves));
    let left = if then.capacity > 0.0 { now.used / then.capacity } else { 0.0 };
    (left < config.load_low).then(|| Spare {
        node: node.clone(),
        why: format!(
            "without it the mean load would be {left:.2} (analyzers {}), below {:.2}",
            then.nodes, config.load_low
        ),
    })
}

/// Whether there may be a source that both can serve.
fn overlap(a: &Serves, b: &Serves) -> bool {
    fn meet<T: PartialEq>(a: &[T], b: &[T]) -> bool {
        a.is_empty() || b.is_empty() || a.iter().any(|item| b.contains(item))
    }
    meet(&a.regions, &b.regions) && meet(&a.data_types, &b.data_types) && meet(&a.customers, &b.customers)
}

/// Whether whoever serves `a` can serve all that `b` can.
fn covers(a: &Serves, b: &Serves) -> bool {
    fn hold<T: PartialEq>(a: &[T], b: &[T]) -> bool {
        a.is_empty() || (!b.is_empty() && b.iter().all(|item| a.contains(item)))
    }
    hold(&a.regions, &b.regions) && hold(&a.data_types, &b.data_types) && hold(&a.customers, &b.customers)
}

/// What the redirector knows, as the decisions need it. `serves` is what a started node could serve.
pub(crate) fn demand(leases: &Leases, placing: &Placing, serves: &Serves) -> Demand {
    let member = |(node, lease): (&NodeId, &crate::lease::Lease)| Member {
        node: node.clone(),
        inc: lease.inc,
        serves: lease.serves.clone(),
        capacity: lease.capacity,
        load: lease.load,
        owned: placing.owned_by(node),
        draining: lease.draining || placing.is_relieved(node),
    };
    Demand {
        analyzers: leases.iter().map(member).collect(),
        unplaced: unplaced(&placing.table, serves),
        listing: None,
    }
}

fn unplaced(table: &Table, serves: &Serves) -> Vec<Unplaced> {
    let step = table.unowned().len().div_ceil(UNPLACED_LOOKED_AT_MAX).max(1);
    let mut kinds: BTreeMap<(&str, kinetic_wire::DataType, bool), Unplaced> = BTreeMap::new();
    let map = table.map();
    for &unit in table.unowned().iter().step_by(step) {
        let unit = map.unit(unit);
        let (region, data_type) = (&map.regions()[usize::from(unit.region)].name, unit.data_type);
        let fits = can_serve(serves, region.as_str(), data_type, unit.customer);
        let kind = kinds.entry((region.as_str(), data_type, fits)).or_insert_with(|| Unplaced {
            region: region.clone(),
            data_type,
            fits,
            sources: 0,
        });
        kind.sources += step;
    }
    kinds.into_values().collect()
}
