//! Every unit, who owns it, and who is on the way out.
//!
//! ```text
//!             assign                       start_move                    release (owner let go, or its lease ended)
//!  unowned ───────────▶ owned by A @ e ───────────────▶ owned, leaving ───────────────▶ unowned, then B @ e' > e
//! ```
//! While a unit is leaving it is still A's: nobody else is given it.
//!
//! Units are numbered as the map ranks them; after those come the few that a new map no longer has and whose owner has
//! not let go yet. Nodes are numbered as they are first heard of; number 0 is nobody, whose units are the unowned ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinetic_wire::{DataType, Epoch, Mono, MoveWhy, NodeId, Now, OwnerState, RegionName, SourceKey};

use crate::changes::ChangeLog;
use crate::machine::Map;
use crate::prefer;

/// Number of the node that is nobody.
pub(crate) const NOBODY: u32 = 0;

/// Nodes without units or lease that are kept until they are looked for and forgotten.
const DEAD_NODES_MAX: usize = 1024;

/// An answer with this grant was made, or the owner said so itself: it may know.
const ANNOUNCED: u8 = 1;
/// The owner said last that it holds the unit.
const HELD: u8 = 2;
/// The owner has been told, or will be told, to let go.
const LEAVING: u8 = 4;
/// Known from a copy of the map only: the owner has not spoken in this leadership.
const PRESUMED: u8 = 8;
/// In the change log.
const LOGGED: u8 = 16;
/// Nobody could take it when it was to be given away.
const WAITED: u8 = 32;
/// New to whoever has it, so that another may still have it for nothing: until the moment that would else end its rest.
const FRESH: u8 = 64;
/// It has moved, and rests once it is fresh no more.
const TIRED: u8 = 128;

/// What a source is taken to bring that its parts' owners reduce, as a share of an average unit, until it is measured: its
/// owner is sent one value per feed and window, not the samples. One in eight.
const JUDGES_SHARE: u64 = 8;

/// A unit's state: 48 bytes, of which there may be millions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    /// Its node, or nobody.
    pub(crate) owner: u32,
    /// Last owner, to count moves and say from whom.
    pub(crate) last: u32,
    /// Where it stands in its owner's list.
    place: u32,
    /// Samples per second, smoothed; 0 where it is not known.
    pub(crate) rate: u32,
    /// Highest epoch that it has had.
    pub(crate) epoch: Epoch,
    since_ms: i64,
    /// Until then it is not moved again without need; a fresh one may be moved until then for nothing.
    pub(crate) rests_until: Mono,
    /// Generation in which its definition appeared or changed; an analyzer that has not reached it is not given it.
    pub(crate) generation: u32,
    /// Why the owner has it; of an unowned one, why the next will.
    pub(crate) why: MoveWhy,
    flags: u8,
}

impl Unit {
    fn new(generation: u32) -> Self {
        Self {
            owner: NOBODY,
            last: NOBODY,
            place: 0,
            rate: 0,
            epoch: Epoch(0),
            since_ms: 0,
            rests_until: Mono(0),
            generation,
            why: MoveWhy::Placed,
            flags: 0,
        }
    }

    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// An analyzer, as far as its units go. A node without a lease may still stand here.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: NodeId,
    pub(crate) hash: u64,
    /// What it owns, leaving units included, in no order.
    units: Vec<u32>,
    /// Units that it will have once every move under way is done: their number, and what they bring.
    pub(crate) count: u32,
    load: Load,
    /// What it said last that it holds, and is not its own.
    pub(crate) strange: Vec<SourceKey>,
    /// Schema generation that it said last that it runs.
    pub(crate) generation: u64,
}

impl Node {
    fn new(name: NodeId) -> Self {
        let hash = prefer::hash([name.as_str(), ""]);
        Self {
            name,
            hash,
            units: Vec::new(),
            count: 0,
            load: Load::default(),
            strange: Vec::new(),
            generation: 0,
        }
    }
}

/// What a set of units brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    /// Sum of the measured rates.
    measured: u64,
    /// Units without one.
    unmeasured: u32,
    /// Units without one that only judge what others reduce.
    judges: u32,
}

impl Load {
    fn add(&mut self, rate: u32, judges: bool) {
        self.measured += u64::from(rate);
        self.unmeasured += u32::from(rate == 0 && !judges);
        self.judges += u32::from(rate == 0 && judges);
    }

    fn remove(&mut self, rate: u32, judges: bool) {
        self.measured -= u64::from(rate);
        self.unmeasured -= u32::from(rate == 0 && !judges);
        self.judges -= u32::from(rate == 0 && judges);
    }

    /// Its weight, where the average unit weighs `mean`.
    fn weight(&self, mean: u64) -> u64 {
        self.measured + u64::from(self.unmeasured) * mean + u64::from(self.judges) * guess(true, mean)
    }
}

/// Weight of a unit whose rate is not known.
fn guess(judges: bool, mean: u64) -> u64 {
    if judges { (mean / JUDGES_SHARE).max(1) } else { mean }
}

/// A unit that the map no longer has.
#[derive(Clone, Debug)]
pub(crate) struct Unlisted {
    key: SourceKey,
    region: RegionName,
    data_type: DataType,
}

/// A move under way.
#[derive(Clone, Copy, Debug)]
struct Move {
    /// The node that gets the unit next, where that is decided.
    target: u32,
    why: MoveWhy,
}

/// All units and nodes.
#[derive(Debug)]
pub(crate) struct Table {
    map: Arc<Map>,
    units: Vec<Unit>,
    /// Units from rank `map.units()` on.
    unlisted: Vec<Unlisted>,
    unlisted_of: BTreeMap<SourceKey, u32>,
    nodes: Vec<Node>,
    node_of: BTreeMap<NodeId, u32>,
    /// Numbers of forgotten nodes, to be given out again.
    nodes_free: Vec<u32>,
    moves: BTreeMap<u32, Move>,
    /// Units that have become unowned since placement last took them.
    pub(crate) released: Vec<u32>,
    /// What all listed units bring.
    total: Load,
    pub(crate) log: ChangeLog,
}

mod nodes;
mod relist;
mod state;

pub(crate) use relist::Relisted;

impl Table {
    pub(crate) fn new(map: Arc<Map>) -> Self {
        let mut table = Self {
            map: Arc::default(),
            units: Vec::new(),
            unlisted: Vec::new(),
            unlisted_of: BTreeMap::new(),
            nodes: vec![Node::new(NodeId::new(""))],
            node_of: BTreeMap::new(),
            nodes_free: Vec::new(),
            moves: BTreeMap::new(),
            released: Vec::new(),
            total: Load::default(),
            log: ChangeLog::default(),
        };
        table.relist(map);
        table
    }

    pub(crate) fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// Number of a unit.
    pub(crate) fn find(&self, key: &SourceKey) -> Option<u32> {
        self.map.rank(key).or_else(|| self.unlisted_of.get(key).copied())
    }

    pub(crate) fn unit(&self, unit: u32) -> &Unit {
        &self.units[unit as usize]
    }

    /// The map has the unit; otherwise it only waits for its owner to let go.
    pub(crate) fn is_listed(&self, unit: u32) -> bool {
        (unit as usize) < self.map.units()
    }

    /// Units that the map has.
    pub(crate) fn listed(&self) -> usize {
        self.map.units()
    }

    pub(crate) fn unowned(&self) -> &[u32] {
        &self.nodes[NOBODY as usize].units
    }

    pub(crate) fn owned_total(&self) -> usize {
        self.map.units() + self.unlisted_of.len() - self.unowned().len()
    }

    pub(crate) fn moving(&self) -> usize {
        self.moves.len()
    }

    pub(crate) fn is_leaving(&self, unit: u32) -> bool {
        self.unit(unit).is(LEAVING)
    }

    /// Known from a copy of the map only.
    pub(crate) fn is_presumed(&self, unit: u32) -> bool {
        self.unit(unit).is(PRESUMED)
    }

    /// The unit only judges what the owners of its source's parts reduce.
    fn judges(&self, unit: u32) -> bool {
        self.is_listed(unit) && self.map.judges(unit)
    }

    /// Weight of an average unit: the mean of the measured rates, or 1.
    pub(crate) fn mean(&self) -> u64 {
        let unknown = self.total.unmeasured as usize + self.total.judges as usize;
        let known = self.map.units() - unknown;
        self.total.measured.checked_div(known as u64).unwrap_or(1).max(1)
    }

    /// Weight of all listed units.
    pub(crate) fn weight_total(&self) -> u64 {
        self.total.weight(self.mean())
    }

    /// Weight of one unit: its rate, or what is likely where that is not known.
    pub(crate) fn weight(&self, unit: u32) -> u64 {
        match self.unit(unit).rate {
            0 => guess(self.judges(unit), self.mean()),
            rate => u64::from(rate),
        }
    }

    /// A new reading of a unit's rate: a quarter of the difference is taken over. 0 says nothing.
    pub(crate) fn measure(&mut self, unit: u32, rate: u64) {
        let old = self.unit(unit).rate;
        let rate = u32::try_from(rate).unwrap_or(u32::MAX);
        let new = match (old, rate) {
            (_, 0) => old,
            (0, first) => first,
            (old, rate) => {
                u32::try_from((i64::from(old) * 3 + i64::from(rate) + 2) / 4).unwrap_or(rate).max(1)
            }
        };
        if new != old {
            self.set_rate(unit, new);
        }
    }

    fn set_rate(&mut self, unit: u32, rate: u32) {
        let holder = self.holder(unit);
        self.uncount(holder, unit);
        let old = std::mem::replace(&mut self.units[unit as usize].rate, rate);
        self.count(holder, unit);
        if self.is_listed(unit) {
            let judges = self.judges(unit);
            self.total.remove(old, judges);
            self.total.add(rate, judges);
        }
        // Within a factor of two a copy of the map need not know.
        if old.checked_ilog2() != rate.checked_ilog2() {
            self.log(unit);
        }
    }

    /// The node whose load a unit counts for: where it is, or where it goes.
    pub(crate) fn holder(&self, unit: u32) -> u32 {
        self.moves.get(&unit).map_or(self.unit(unit).owner, |under_way| under_way.target)
    }

    fn count(&mut self, node: u32, unit: u32) {
        let (rate, judges) = (self.unit(unit).rate, self.judges(unit));
        let node = &mut self.nodes[node as usize];
        node.count += 1;
        node.load.add(rate, judges);
    }

    fn uncount(&mut self, node: u32, unit: u32) {
        let (rate, judges) = (self.unit(unit).rate, self.judges(unit));
        let node = &mut self.nodes[node as usize];
        node.count -= 1;
        node.load.remove(rate, judges);
    }

    /// Weight of what a node will have once every move under way is done.
    pub(crate) fn load(&self, node: u32) -> u64 {
        self.nodes[node as usize].load.weight(self.mean())
    }

    /// Takes a unit out of its node's list, and out of any move.
    fn detach(&mut self, unit: u32) {
        let holder = self.holder(unit);
        self.uncount(holder, unit);
        self.moves.remove(&unit);
        let entry = &mut self.units[unit as usize];
        entry.flags &= LOGGED | FRESH | TIRED;
        let (owner, place) = (std::mem::replace(&mut entry.owner, NOBODY), entry.place);
        let units = &mut self.nodes[owner as usize].units;
        units.swap_remove(place as usize);
        if let Some(&moved) = units.get(place as usize) {
            self.units[moved as usize].place = place;
        }
    }

    fn attach(&mut self, unit: u32, node: u32) {
        let units = &mut self.nodes[node as usize].units;
        let entry = &mut self.units[unit as usize];
        (entry.owner, entry.place) = (node, units.len() as u32);
        units.push(unit);
        self.count(node, unit);
    }

    /// Gives a unit to a node. Ends a move, if one was under way.
    pub(crate) fn assign(&mut self, unit: u32, node: u32, epoch: Epoch, now: Now) {
        debug_assert!(epoch > self.unit(unit).epoch, "epochs grow along a unit");
        self.detach(unit);
        self.attach(unit, node);
        let entry = &mut self.units[unit as usize];
        (entry.epoch, entry.last, entry.since_ms) = (epoch, node, now.wall.as_ms());
        self.log(unit);
    }

    /// Sets why the owner has a unit.
    pub(crate) fn explain(&mut self, unit: u32, why: MoveWhy) {
        self.units[unit as usize].why = why;
    }

    /// A unit is not moved without need until then.
    pub(crate) fn rest(&mut self, unit: u32, until: Mono) {
        let entry = &mut self.units[unit as usize];
        entry.rests_until = until;
        entry.flags &= !(FRESH | TIRED);
    }

    /// A unit that is to be given away finds nobody who could take it.
    pub(crate) fn wait(&mut self, unit: u32) {
        self.units[unit as usize].flags |= WAITED;
    }

    /// Nobody has had the unit before, or nobody could take it when it was to be given away.
    pub(crate) fn is_new(&self, unit: u32) -> bool {
        let entry = self.unit(unit);
        entry.epoch == Epoch(0) || entry.is(WAITED)
    }

    /// Until then a unit may be moved for nothing.
    pub(crate) fn freshen(&mut self, unit: u32, until: Mono) {
        let entry = &mut self.units[unit as usize];
        entry.rests_until = until;
        entry.flags |= FRESH;
    }

    /// A unit that is fresh has moved.
    pub(crate) fn tire(&mut self, unit: u32) {
        self.units[unit as usize].flags |= TIRED;
    }

    /// A unit may be moved for nothing.
    pub(crate) fn is_fresh(&self, unit: u32, now: Mono) -> bool {
        let entry = self.unit(unit);
        entry.is(FRESH) && now < entry.rests_until
    }

    /// A unit is not to be moved without need: for so long after it was fresh, if it has moved.
    pub(crate) fn rests(&self, unit: u32, now: Mono, after: Duration) -> bool {
        let entry = self.unit(unit);
        match (entry.is(FRESH), entry.is(TIRED)) {
            (false, _) => now < entry.rests_until,
            (true, tired) => tired && now >= entry.rests_until && now < entry.rests_until + after,
        }
    }

    /// The owner says that it holds the unit.
    pub(crate) fn hold(&mut self, unit: u32) {
        let entry = &mut self.units[unit as usize];
        let known = entry.is(HELD);
        entry.flags |= HELD | ANNOUNCED;
        if !known {
            self.log(unit);
        }
    }

    /// The owner did not say that it holds the unit.
    pub(crate) fn not_held(&mut self, unit: u32) {
        let entry = &mut self.units[unit as usize];
        if entry.is(HELD) {
            entry.flags &= !HELD;
            self.log(unit);
        }
    }

    /// An answer with this grant goes out.
    pub(crate) fn announce(&mut self, unit: u32) {
        self.units[unit as usize].flags |= ANNOUNCED;
    }

    /// Takes a unit from its owner once that has let go. Returns true if it never knew of it, so that the unit can go to
    /// another at once.
    pub(crate) fn start_move(&mut self, unit: u32, target: u32, why: MoveWhy) -> bool {
        if self.unit(unit).owner == NOBODY {
            return false;
        }
        let holder = self.holder(unit);
        self.uncount(holder, unit);
        self.moves.insert(unit, Move { target, why });
        self.count(target, unit);
        let entry = &mut self.units[unit as usize];
        entry.flags |= LEAVING;
        let unknown = !entry.is(ANNOUNCED);
        self.log(unit);
        unknown
    }

    /// Nobody owns the unit any more: because of `why`, unless a move had begun for another reason. Returns the node that
    /// was to get it next, or nobody.
    pub(crate) fn release(&mut self, unit: u32, why: MoveWhy) -> u32 {
        let under_way = self.moves.get(&unit).copied();
        self.detach(unit);
        if !self.is_listed(unit) {
            let key = self.key(unit);
            self.unlisted_of.remove(&key);
            self.log.gone(key);
            return NOBODY;
        }
        self.attach(unit, NOBODY);
        self.units[unit as usize].why = under_way.map_or(why, |under_way| under_way.why);
        self.released.push(unit);
        self.log(unit);
        under_way.map_or(NOBODY, |under_way| under_way.target)
    }

    /// A node is gone: moves to it lose their target, and what it owned is released and returned, each with the node
    /// that was to get it next. What it is only presumed to own stays.
    pub(crate) fn release_all(&mut self, node: u32, why: MoveWhy) -> Vec<(u32, u32)> {
        self.forget_target(node);
        let mut units = self.owned(node).to_vec();
        units.retain(|&unit| !self.is_presumed(unit));
        units.sort_unstable();
        units.into_iter().map(|unit| (unit, self.release(unit, why))).collect()
    }

    /// Moves to a node lose their target.
    fn forget_target(&mut self, node: u32) {
        let to_it: Vec<u32> = self
            .moves
            .iter()
            .filter(|(_, under_way)| under_way.target == node)
            .map(|(unit, _)| *unit)
            .collect();
        for unit in to_it {
            self.uncount(node, unit);
            self.count(NOBODY, unit);
            if let Some(under_way) = self.moves.get_mut(&unit) {
                under_way.target = NOBODY;
            }
        }
    }

    /// A copy of the map says who owns a unit: to be confirmed by the owner itself.
    pub(crate) fn presume(&mut self, unit: u32, owner: Option<(u32, &OwnerState)>) {
        self.detach(unit);
        match owner {
            Some((node, state)) => {
                self.attach(unit, node);
                let entry = &mut self.units[unit as usize];
                (entry.epoch, entry.last, entry.since_ms) = (state.epoch, node, state.since_ms);
                entry.why = state.why;
                entry.flags |= PRESUMED;
            }
            None => self.attach(unit, NOBODY),
        }
        self.log(unit);
    }

    /// The presumed owner says itself that it holds the unit, with this epoch. A higher one that the copy knows was never
    /// told it, or was told to another process of the same name, which must not share it.
    pub(crate) fn confirm(&mut self, unit: u32, epoch: Epoch, rests_until: Mono) {
        self.rest(unit, rests_until);
        let entry = &mut self.units[unit as usize];
        entry.flags &= !PRESUMED;
        entry.epoch = epoch;
    }

    /// Every owner is presumed only, and no move is under way: another leadership begins.
    pub(crate) fn presume_all(&mut self) {
        for unit in std::mem::take(&mut self.moves) {
            self.uncount(unit.1.target, unit.0);
            self.count(self.unit(unit.0).owner, unit.0);
        }
        for unit in self.units.iter_mut().filter(|unit| unit.owner != NOBODY) {
            unit.flags = (unit.flags & LOGGED) | PRESUMED;
        }
    }

    fn log(&mut self, unit: u32) {
        let entry = &mut self.units[unit as usize];
        if !entry.is(LOGGED) && self.log.changed(unit) {
            entry.flags |= LOGGED;
        }
    }

    /// When the owner got a unit, milliseconds since the Unix epoch.
    pub(crate) fn since_ms(&self, unit: u32) -> i64 {
        self.unit(unit).since_ms
    }

    /// Name of a unit as it travels.
    pub(crate) fn key(&self, unit: u32) -> SourceKey {
        match (unit as usize).checked_sub(self.map.units()) {
            None => self.map.unit(unit).key(),
            Some(index) => self.unlisted[index].key.clone(),
        }
    }

    /// Where a unit's queue is.
    pub(crate) fn region(&self, unit: u32) -> &RegionName {
        match (unit as usize).checked_sub(self.map.units()) {
            None => &self.map.regions()[usize::from(self.map.needs(unit).0)].name,
            Some(index) => &self.unlisted[index].region,
        }
    }
}

#[cfg(test)]
mod tests;
