//! The table against a model of it that repeats every name and counts everything anew.

use std::collections::BTreeMap;

use kinetic_wire::Wall;
use proptest::prelude::*;

use super::*;
use crate::map::MapBuilder;

const NODES: u32 = 3;
const SOURCES: [&str; 5] = ["a", "b", "c", "d", "e"];
const NOW: Now = Now { mono: Mono(1), wall: Wall(1_795_000_000_000_000_000) };

/// A map with the sources of a mask, `a` split in two where bit 5 says so, in region `us` where bit 6 does.
fn map(mask: u8, generation: u64) -> Arc<Map> {
    let mut map = MapBuilder::new(&format!("r{generation}"), generation);
    let region = RegionName::new(if mask & 64 == 0 { "eu" } else { "us" });
    map.customer(&"acme".into(), &region, false);
    for (bit, name) in SOURCES.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0) {
        let partitions = if bit == 0 && mask & 32 != 0 { 2 } else { 1 };
        map.source(name, DataType::Statsd, partitions, u32::from(mask >> 5));
    }
    Arc::new(map.build())
}

#[derive(Clone, Debug)]
enum Op {
    Assign(usize, u32),
    Move(usize, u32),
    Release(usize),
    Lose(u32),
    Measure(usize, u64),
    Hold(usize),
    Relist(u8),
    Take,
}

fn op() -> impl Strategy<Value = Op> {
    let unit = || 0..9_usize;
    prop_oneof![
        4 => (unit(), 1..=NODES).prop_map(|(unit, node)| Op::Assign(unit, node)),
        3 => (unit(), 0..=NODES).prop_map(|(unit, node)| Op::Move(unit, node)),
        2 => unit().prop_map(Op::Release),
        1 => (1..=NODES).prop_map(Op::Lose),
        2 => (unit(), 0..100_u64).prop_map(|(unit, rate)| Op::Measure(unit, rate)),
        2 => unit().prop_map(Op::Hold),
        2 => (0..128_u8).prop_map(Op::Relist),
        1 => Just(Op::Take),
    ]
}

/// What is known of a source: owner, target of a move under way, epoch.
type Model = BTreeMap<SourceKey, (u32, Option<u32>, Epoch)>;

struct Both {
    table: Table,
    model: Model,
    epoch: u64,
    generation: u64,
    /// A copy kept by the changes alone.
    copy: BTreeMap<SourceKey, kinetic_wire::SourceState>,
}

impl Both {
    fn new() -> Self {
        let mut table = Table::new(map(0b11111, 1));
        for node in 1..=NODES {
            assert_eq!(table.intern(&NodeId::new(&format!("n{node}"))), node);
        }
        let mut both = Self { table, model: Model::new(), epoch: 0, generation: 1, copy: BTreeMap::new() };
        both.remodel();
        both
    }

    /// The model gets the sources that the map has, and loses those that it has not and nobody owns.
    fn remodel(&mut self) {
        let keys: Vec<SourceKey> =
            (0..self.table.map.units() as u32).map(|rank| self.table.map.unit(rank).key()).collect();
        self.model.retain(|key, (owner, ..)| *owner != NOBODY || keys.contains(key));
        for key in keys {
            self.model.entry(key).or_insert((NOBODY, None, Epoch(0)));
        }
    }

    fn pick(&self, index: usize) -> Option<(SourceKey, u32)> {
        let key = self.model.keys().nth(index)?.clone();
        let unit = self.table.find(&key).expect("both have it");
        Some((key, unit))
    }

    fn released(&mut self, key: &SourceKey, listed: bool) {
        if listed {
            let entry = self.model.get_mut(key).expect("known");
            (entry.0, entry.1) = (NOBODY, None);
        } else {
            self.model.remove(key);
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Assign(index, node) => {
                let Some((key, unit)) = self.pick(index) else { return };
                if self.table.is_listed(unit) {
                    self.epoch += 1;
                    self.table.assign(unit, node, Epoch(self.epoch), NOW);
                    self.model.insert(key, (node, None, Epoch(self.epoch)));
                }
            }
            Op::Move(index, target) => {
                let Some((key, unit)) = self.pick(index) else { return };
                let entry = self.model.get_mut(&key).expect("known");
                if entry.0 != NOBODY {
                    self.table.start_move(unit, target, MoveWhy::Balance);
                    entry.1 = Some(target);
                }
            }
            Op::Release(index) => {
                let Some((key, unit)) = self.pick(index) else { return };
                if self.model[&key].0 != NOBODY {
                    let listed = self.table.is_listed(unit);
                    let target = self.table.release(unit, MoveWhy::OwnerLeft);
                    let expect = if listed { self.model[&key].1.unwrap_or(NOBODY) } else { NOBODY };
                    assert_eq!(target, expect);
                    self.released(&key, listed);
                }
            }
            Op::Lose(node) => {
                for entry in self.model.values_mut().filter(|entry| entry.1 == Some(node)) {
                    entry.1 = Some(NOBODY);
                }
                let owned: Vec<SourceKey> = self
                    .model
                    .iter()
                    .filter(|(_, entry)| entry.0 == node)
                    .map(|(key, _)| key.clone())
                    .collect();
                let listed: Vec<bool> = owned
                    .iter()
                    .map(|key| self.table.find(key).is_some_and(|unit| self.table.is_listed(unit)))
                    .collect();
                assert_eq!(self.table.release_all(node, MoveWhy::OwnerLost).len(), owned.len());
                for (key, listed) in owned.iter().zip(listed) {
                    self.released(key, listed);
                }
            }
            Op::Measure(index, rate) => {
                let Some((_, unit)) = self.pick(index) else { return };
                self.table.measure(unit, rate);
            }
            Op::Hold(index) => {
                let Some((_, unit)) = self.pick(index) else { return };
                if self.table.unit(unit).owner != NOBODY {
                    self.table.hold(unit);
                }
            }
            Op::Relist(mask) => {
                self.generation += 1;
                let before: Vec<_> = self.model.iter().map(|(key, entry)| (key.clone(), *entry)).collect();
                self.table.relist(map(mask, self.generation));
                self.remodel();
                for (key, entry) in before {
                    assert!(entry.0 == NOBODY || self.model[&key] == entry, "{key} is as it was");
                }
            }
            Op::Take => self.take(),
        }
    }

    fn take(&mut self) {
        for change in self.table.take_changes().expect("far from the bound") {
            match change {
                kinetic_wire::Change::Source(state) => {
                    self.copy.insert(state.source.clone(), state);
                }
                kinetic_wire::Change::SourceGone(key) => {
                    self.copy.remove(&key);
                }
                _ => {}
            }
        }
        let all: Vec<_> = self.table.after(None).map(|unit| self.table.state(unit)).collect();
        // Rates are told within a factor of two.
        let rough = |state: &kinetic_wire::SourceState| kinetic_wire::SourceState {
            rate: u64::from(state.rate.checked_ilog2().map_or(0, |log| log + 1)),
            ..state.clone()
        };
        assert_eq!(
            self.copy.values().map(rough).collect::<Vec<_>>(),
            all.iter().map(rough).collect::<Vec<_>>()
        );
    }

    fn check(&self) {
        let table = &self.table;
        let keys: Vec<SourceKey> = table.after(None).map(|unit| table.key(unit)).collect();
        assert_eq!(keys, self.model.keys().cloned().collect::<Vec<_>>());
        let mut sums = vec![(0, Load::default()); NODES as usize + 1];
        for (key, (owner, target, epoch)) in &self.model {
            let unit = table.find(key).expect("known");
            let entry = table.unit(unit);
            assert_eq!((entry.owner, table.is_leaving(unit)), (*owner, target.is_some()), "{key}");
            assert!(*owner == NOBODY || entry.epoch == *epoch, "{key}");
            assert_eq!(table.owned(*owner)[entry.place as usize], unit, "{key} stands in its owner's list");
            let sum = &mut sums[target.unwrap_or(*owner) as usize];
            sum.0 += 1;
            sum.1.add(entry.rate, table.judges(unit));
        }
        for (node, sum) in sums.into_iter().enumerate() {
            let entry = table.node(node as u32);
            assert_eq!((entry.count, entry.load), sum, "node {node}");
            let owned = self.model.values().filter(|model| model.0 == node as u32).count();
            assert_eq!(entry.units.len(), owned, "node {node}");
        }
        let mut total = Load::default();
        let mut weight = 0;
        for unit in 0..table.map.units() as u32 {
            total.add(table.unit(unit).rate, table.judges(unit));
            weight += table.weight(unit);
        }
        assert_eq!((table.total, table.weight_total()), (total, weight));
        assert_eq!(table.owned_total(), self.model.values().filter(|model| model.0 != NOBODY).count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_table_is_its_model(ops in prop::collection::vec(op(), 1..80)) {
        let mut both = Both::new();
        for op in ops {
            both.apply(op);
            both.check();
        }
        both.take();
    }
}

#[test]
fn a_unit_is_small() {
    assert!(size_of::<Unit>() <= 48);
}

#[test]
fn a_definition_counts_from_the_generation_in_which_it_changed() {
    let generation = |table: &Table, name: &str| {
        let unit = table.find(&SourceKey::new("acme", name)).expect("known");
        table.unit(unit).generation
    };
    let mut table = Table::new(map(0b00011, 5));
    assert_eq!(generation(&table, "a"), 0, "of the first map nobody knows when");
    table.relist(map(0b00111, 6));
    assert_eq!((generation(&table, "a"), generation(&table, "c")), (0, 6));
    table.relist(map(0b00111, 7));
    assert_eq!((generation(&table, "a"), generation(&table, "c")), (0, 6));
    table.relist(map(0b100_0111, 8));
    assert_eq!(
        (generation(&table, "a"), generation(&table, "c")),
        (8, 8),
        "another region, with the same units"
    );
    table.relist(map(0b100_0111, 3));
    assert_eq!(generation(&table, "a"), 0, "history was rewritten");
}

#[test]
fn a_new_region_or_a_split_lets_the_owner_go() {
    let mut table = Table::new(map(0b00011, 1));
    let node = table.intern(&NodeId::new("n"));
    for unit in 0..2 {
        table.assign(unit, node, Epoch(u64::from(unit) + 1), NOW);
    }
    assert_eq!(table.relist(map(0b00011, 2)), []);
    assert_eq!(table.relist(map(0b10_0011, 3)), [(0, Relisted::Release)], "a is two parts and a judge now");
    let b = table.find(&SourceKey::new("acme", "b")).expect("known");
    assert_eq!((b, table.unit(b).owner), (3, node), "its number has changed, its owner has not");
    let moved = table.relist(map(0b110_0011, 4));
    let unowned = [1, 2].map(|part| (part, Relisted::Elsewhere));
    assert_eq!(moved, [(0, Relisted::Release), unowned[0], unowned[1], (3, Relisted::Release)]);
    let gone = table.relist(map(0b110_0010, 5));
    assert_eq!(gone, [(1, Relisted::Release)], "what is gone stands behind the rest");
    assert_eq!(table.key(1), SourceKey::new("acme", "a"));
    assert_eq!(table.release(1, MoveWhy::Changed), NOBODY);
    assert_eq!(table.find(&SourceKey::new("acme", "a")), None);
}

#[test]
fn more_changes_than_are_remembered_ask_for_a_new_copy() {
    let mut map = MapBuilder::new("r1", 1);
    for customer in 0..=crate::changes::CHANGES_MAX {
        map.customer(&format!("c{customer}").as_str().into(), &"eu".into(), false);
        map.source("web", DataType::Auto, 1, 0);
    }
    let mut table = Table::new(Arc::new(map.build()));
    assert_eq!(table.take_changes(), None);
    assert_eq!(table.take_changes(), Some(Vec::new()));
    let node = table.intern(&NodeId::new("n"));
    table.assign(7, node, Epoch(1), NOW);
    table.hold(7);
    assert_eq!(table.take_changes().map(|changes| changes.len()), Some(1), "each unit once");
    assert_eq!(table.log.overflows, 1);
}

#[test]
fn names_of_the_dead_are_forgotten_once_there_are_many() {
    let mut table = Table::new(map(0b1, 1));
    for index in 0..=DEAD_NODES_MAX {
        table.intern(&NodeId::new(&format!("n{index}")));
    }
    let owner = table.intern(&NodeId::new("owner"));
    table.assign(0, owner, Epoch(1), NOW);
    table.forget_nodes(|name| name.as_str() == "n0");
    assert_eq!(table.node_of.len(), DEAD_NODES_MAX + 2, "one may be missed");
    table.forget_nodes(|_| false);
    assert_eq!(table.node_of.len(), 1);
    assert_eq!(table.owned(owner), [0]);
    assert!(table.intern(&NodeId::new("next")) < owner, "its number is one that was given before");
}
