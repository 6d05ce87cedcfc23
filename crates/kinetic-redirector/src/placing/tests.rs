//! Placement in virtual time: analyzers that do at once what they are told, and a clock that nobody waits for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinetic_wire::{
    DataType, Epoch, Hold, Mono, MoveWhy, NodeId, Now, RegionName, SourceKey, SourceState, Wall,
};

use super::{Placing, PlacingConfig};
use crate::epochs::Epochs;
use crate::lease::{Lease, Leases};
use crate::machine::{Map, MapBuilder, Stored};

mod moves;
mod property;
mod succession;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const BEAT: Duration = Duration::from_secs(15);
/// After this, what was placed first has come to rest, and nobody speaks just then.
const SETTLED: Duration = Duration::from_secs(61);
const START: Now = Now { mono: Mono(1_000_000_000), wall: Wall(1_795_000_000_000_000_000) };

/// A map of one customer's sources `s000`, `s001` …, of which the first `split` have two parts.
fn map(generation: u64, sources: usize, split: usize) -> Arc<Map> {
    zoned_map(generation, sources, split, &[])
}

fn zoned_map(generation: u64, sources: usize, split: usize, zones: &[&str]) -> Arc<Map> {
    let mut map = MapBuilder::new(&format!("r{generation}"), generation);
    let region = RegionName::new("eu");
    map.region(&region, Vec::new(), zones.iter().map(|zone| (*zone).to_owned()).collect());
    map.customer(&"acme".into(), &region, false);
    for source in 0..sources {
        let partitions = if source < split { 2 } else { 1 };
        map.source(&format!("s{source:03}"), DataType::Statsd, partitions, 0);
    }
    Arc::new(map.build())
}

fn source(index: usize) -> SourceKey {
    SourceKey::new("acme", &format!("s{index:03}"))
}

#[derive(Debug, Default)]
struct Peer {
    holds: BTreeMap<SourceKey, Epoch>,
}

struct World {
    placing: Placing,
    leases: Leases,
    epochs: Epochs,
    now: Now,
    peers: BTreeMap<NodeId, Peer>,
    /// Samples per second of a source; 0 where nothing is said.
    rates: BTreeMap<SourceKey, u64>,
    /// When everybody speaks next.
    beat_at: Mono,
}

impl World {
    /// A world in which owners have been listened to.
    fn new(config: PlacingConfig, map: Arc<Map>) -> Self {
        let mut world = Self::listening(config, map);
        world.end_of_listening();
        world
    }

    fn listening(config: PlacingConfig, map: Arc<Map>) -> Self {
        Self {
            placing: Placing::new(config, map),
            leases: Leases::default(),
            epochs: Epochs::new(&Stored::default()),
            now: START,
            peers: BTreeMap::new(),
            rates: BTreeMap::new(),
            beat_at: START.mono + BEAT,
        }
    }

    fn end_of_listening(&mut self) {
        self.placing.end_of_listening(self.now, &self.leases, &mut self.epochs);
        self.settle();
    }

    fn settle(&mut self) {
        self.placing.settle(self.now, &self.leases, &mut self.epochs);
        let mut steps = 0;
        while self.placing.next_wakeup().is_some_and(|at| at <= self.now.mono) {
            self.placing.settle(self.now, &self.leases, &mut self.epochs);
            steps += 1;
            assert!(steps < 10_000, "it comes to rest");
        }
    }

    fn join(&mut self, name: &str) {
        self.join_as(name, |_| {});
    }

    fn join_as(&mut self, name: &str, describe: impl FnOnce(&mut Lease)) {
        let node = NodeId::new(name);
        let mut lease = Lease { capacity: 100, ..Lease::default() };
        describe(&mut lease);
        self.leases.insert(node.clone(), lease);
        let holds = self.holds(&node);
        self.placing.registered(self.now, &node, &holds, &self.leases, &mut self.epochs);
        self.settle();
        self.obey(&node);
    }

    /// A process of the same name takes the place of another, which holds nothing yet.
    fn restart(&mut self, name: &str) {
        let node = NodeId::new(name);
        self.peers.remove(&node);
        let inherited = self.placing.superseded(self.now, &node);
        self.placing.registered(self.now, &node, &[], &self.leases, &mut self.epochs);
        self.placing.inherit(self.now, &node, inherited, &self.leases, &mut self.epochs);
        self.settle();
        self.obey(&node);
    }

    fn holds(&mut self, node: &NodeId) -> Vec<Hold> {
        let peer = self.peers.entry(node.clone()).or_default();
        let rate = |source: &SourceKey| self.rates.get(source).copied().unwrap_or(0);
        let hold = |(source, epoch): (&SourceKey, &Epoch)| Hold {
            source: source.clone(),
            epoch: *epoch,
            rate: rate(source),
        };
        peer.holds.iter().map(hold).collect()
    }

    /// Holds exactly what it is granted.
    fn obey(&mut self, node: &NodeId) {
        let grants = self.placing.grants(node);
        self.placing.announce(node);
        for (other, peer) in self.peers.iter().filter(|(other, _)| *other != node) {
            let both = grants.iter().find(|grant| peer.holds.contains_key(&grant.source));
            assert!(both.is_none(), "{other} still holds what {node} is granted: {both:?}");
        }
        let holds = grants.into_iter().map(|grant| (grant.source, grant.epoch)).collect();
        self.peers.insert(node.clone(), Peer { holds });
    }

    fn beat(&mut self, name: &str) {
        let node = NodeId::new(name);
        let holds = self.holds(&node);
        self.placing.heartbeat(self.now, &node, (&holds, &[]), &self.leases, &mut self.epochs);
        self.settle();
        self.obey(&node);
    }

    /// Everybody speaks twice: once to be told to let go, and once to say that it has.
    fn beat_all(&mut self) {
        for _ in 0..2 {
            for node in self.peers.keys().cloned().collect::<Vec<_>>() {
                self.beat(node.as_str());
            }
        }
    }

    fn lose(&mut self, name: &str) {
        let node = NodeId::new(name);
        self.leases.remove(&node);
        self.peers.remove(&node);
        self.placing.node_lost(self.now, &node, &self.leases, &mut self.epochs);
        self.settle();
    }

    fn leave(&mut self, name: &str) {
        let node = NodeId::new(name);
        self.leases.remove(&node);
        self.peers.remove(&node);
        self.placing.node_left(self.now, &node, &self.leases, &mut self.epochs);
        self.settle();
    }

    fn drain(&mut self, name: &str, deadline: Duration) {
        let node = NodeId::new(name);
        self.leases.get_mut(&node).expect("a lease").draining = true;
        self.placing.drain(self.now, &node, deadline, &self.leases);
        self.settle();
    }

    /// Time passes, in steps that the machine asks for and those of heartbeats.
    fn sleep(&mut self, duration: Duration) {
        let end = self.now.mono + duration;
        while self.now.mono < end {
            let wake =
                self.placing.next_wakeup().unwrap_or(end).max(self.now.mono + Duration::from_millis(1));
            let next = wake.min(self.beat_at).min(end);
            self.now = self.now + next.since(self.now.mono);
            self.settle();
            if self.now.mono >= self.beat_at {
                self.beat_at = self.now.mono + BEAT;
                self.beat_all();
            }
        }
    }

    fn owned(&self, name: &str) -> usize {
        self.placing.owned_by(&NodeId::new(name))
    }

    /// Weight that each node has.
    fn loads(&self) -> BTreeMap<&str, u64> {
        let load = |node: &NodeId| {
            self.placing.table.node_index(node).map_or(0, |node| self.placing.table.load(node))
        };
        self.leases.iter().map(|(node, _)| (node.as_str(), load(node))).collect()
    }

    fn owner(&self, source: &SourceKey) -> Option<String> {
        let state = self.placing.table.state(self.placing.table.find(source).expect("known"));
        state.owner.map(|owner| owner.node.as_str().to_owned())
    }

    fn state(&self, source: &SourceKey) -> SourceState {
        self.placing.table.state(self.placing.table.find(source).expect("known"))
    }
}

/// Nothing holds moves back.
fn hasty() -> PlacingConfig {
    let mut config = PlacingConfig { dwell: Duration::ZERO, ..PlacingConfig::default() };
    config.budget.percent = 100;
    config
}

#[test]
fn moves_are_budgeted_and_go_on_until_the_bound() {
    let mut world = World::new(PlacingConfig::default(), map(1, 200, 0));
    world.join("a");
    assert_eq!(world.owned("a"), 200);
    world.sleep(SETTLED);
    world.join("b");
    world.beat_all();
    assert_eq!(world.owned("b"), 10, "five in a hundred at once");
    world.sleep(59 * SECOND);
    assert_eq!(world.owned("b"), 10);
    world.sleep(3 * SECOND);
    world.beat_all();
    assert_eq!(world.owned("b"), 20);
    world.sleep(10 * MINUTE);
    assert_eq!((world.owned("a"), world.owned("b")), (125, 75), "1.25 of a hundred, and not further");
    assert_eq!(world.placing.balanced, 75);
    let moves = world.placing.moves;
    world.sleep(60 * MINUTE);
    assert_eq!(world.placing.moves, moves, "a quiet world moves nothing");
}

#[test]
fn a_new_fleet_shares_what_the_first_of_it_has_taken() {
    let mut world = World::new(PlacingConfig::default(), map(1, 200, 0));
    world.join("a");
    assert_eq!(world.owned("a"), 200, "at once: a fleet may be one");
    for name in ["b", "c", "d"] {
        world.sleep(10 * SECOND);
        world.join(name);
        world.beat_all();
    }
    let owned = |world: &World| ["a", "b", "c", "d"].map(|name| world.owned(name));
    assert!(owned(&world).into_iter().all(|owned| owned <= 63), "1.25 of fifty: {:?}", owned(&world));
    world.sleep(SETTLED);
    let (before, moves) = (owned(&world), world.placing.moves);
    world.join("e");
    world.beat_all();
    assert_eq!(world.placing.moves - moves, 10, "now it costs what it costs");
    world.sleep(5 * MINUTE);
    assert_eq!(world.owned("b"), before[1], "all that it has came to it in that minute, and rests");
    world.sleep(8 * MINUTE);
    assert!(owned(&world).into_iter().all(|owned| owned <= 50), "{before:?}, then {:?}", owned(&world));
}

#[test]
fn a_fleet_that_was_gone_shares_like_a_new_one() {
    let mut world = World::new(PlacingConfig::default(), map(1, 100, 0));
    world.join("a");
    world.join("b");
    world.sleep(20 * MINUTE);
    world.lose("a");
    world.sleep(5 * SECOND);
    world.lose("b");
    world.sleep(20 * SECOND);
    world.join("a");
    assert_eq!(world.owned("a"), 100);
    world.sleep(5 * SECOND);
    world.join("b");
    world.beat_all();
    assert_eq!(world.owned("a"), 63, "of what nobody could take, another may have its share");
    world.sleep(SETTLED);
    world.lose("b");
    world.join("b");
    world.beat_all();
    assert_eq!(world.owned("b"), 0, "what has moved rests, for nothing or not");
}

#[test]
fn who_judges_what_others_reduce_has_little_to_do() {
    // Ten sources of two parts: ten judges, twenty parts.
    let mut world = World::listening(PlacingConfig::default(), map(1, 10, 10));
    let parts: Vec<SourceKey> =
        (0..10).flat_map(|index| (1..=2).map(move |part| source(index).with_part(part))).collect();
    for name in ["a", "b", "c"] {
        world.join(name);
    }
    world.end_of_listening();
    world.beat_all();
    let table = &world.placing.table;
    let weight = |key: &SourceKey| table.weight(table.find(key).expect("known"));
    assert_eq!((weight(&source(0)), weight(&parts[0])), (1, 1), "none weighs nothing");
    // Parts bring 800 samples a second each, and of the judges only one is measured.
    world.rates.extend(parts.iter().map(|part| (part.clone(), 800)));
    world.rates.insert(source(3), 5);
    world.beat_all();
    let table = &world.placing.table;
    let weight = |key: &SourceKey| table.weight(table.find(key).expect("known"));
    assert_eq!((weight(&parts[0]), weight(&source(3))), (800, 5));
    let mean = (20 * 800 + 5) / 21;
    assert_eq!(weight(&source(0)), mean / 8, "the others are taken to be a fraction of a part");
    assert_eq!(table.weight_total(), 20 * 800 + 5 + 9 * (mean / 8));
    assert_eq!(world.loads().values().sum::<u64>(), table.weight_total());
}

#[test]
fn a_gain_of_less_than_a_tenth_moves_nothing() {
    let mut world = World::new(hasty(), map(1, 300, 0));
    for name in ["a", "b", "c"] {
        world.join(name);
    }
    // The bound is 125 of a fair share of 100, weighed alike.
    world.sleep(MINUTE);
    let before: Vec<usize> = ["a", "b", "c"].map(|name| world.owned(name)).to_vec();
    assert_eq!(before.iter().sum::<usize>(), 300);
    let fullest = *["a", "b", "c"].iter().max_by_key(|name| world.owned(name)).expect("three");
    let own: Vec<SourceKey> = world.peers[&NodeId::new(fullest)].holds.keys().cloned().collect();
    for index in 0..300 {
        world.rates.insert(source(index), 100);
    }
    for key in own {
        world.rates.insert(key, 107); // With 125 of 300: 1.07 of 1.25, which is 6 % above the bound at most.
    }
    let moves = world.placing.moves;
    world.sleep(30 * MINUTE);
    assert_eq!(world.placing.moves, moves, "{:?}", world.loads());
}

#[test]
fn measured_rates_move_shares() {
    let mut world = World::new(hasty(), map(1, 100, 0));
    world.join("a");
    world.join("b");
    world.sleep(MINUTE);
    let heavy = world.peers[&NodeId::new("a")].holds.keys().next().cloned().expect("one");
    for index in 0..100 {
        world.rates.insert(source(index), 100);
    }
    world.rates.insert(heavy.clone(), 8_000);
    world.sleep(10 * MINUTE);
    assert_eq!(world.owner(&heavy).as_deref(), Some("a"), "who is placed stays");
    let loads = world.loads();
    let total: u64 = loads.values().sum();
    assert!(total.abs_diff(8_000 + 9_900) < 200, "{loads:?}");
    assert!(loads["a"] <= total * 5 / 8 + 200 && loads["b"] >= total * 3 / 8 - 200, "{loads:?}");
    assert!(world.owned("a") < 35, "{} beside the heavy one", world.owned("a") - 1);
}

#[test]
fn what_has_moved_rests() {
    let mut world =
        World::new(PlacingConfig { budget: hasty().budget, ..PlacingConfig::default() }, map(1, 40, 0));
    world.join("a");
    world.sleep(SETTLED);
    world.join("b");
    world.beat_all();
    assert_eq!(world.owned("b"), 15, "placed is not moved: it needs no rest");
    world.leave("a");
    assert_eq!(world.owned("b"), 40);
    world.join("c");
    world.beat_all();
    let rested =
        |world: &World| world.placing.records.iter().filter(|record| record.why == MoveWhy::Balance).count();
    let first = rested(&world);
    world.sleep(9 * MINUTE);
    assert_eq!(rested(&world), first, "all that b has was moved");
    assert_eq!(world.owned("c"), 0);
    world.sleep(2 * MINUTE);
    assert_eq!((world.owned("b"), world.owned("c")), (25, 15));
}

#[test]
fn who_flaps_is_given_nothing_new_while_another_can_take_it() {
    let mut world = World::new(PlacingConfig::default(), map(1, 30, 0));
    world.join("a");
    world.join("b");
    world.join("c");
    world.beat_all();
    for _ in 0..2 {
        world.lose("a");
        world.beat_all();
        world.join("a");
        world.sleep(MINUTE);
    }
    world.restart("a");
    assert_eq!(world.placing.held_down(world.now, &NodeId::new("a")), MINUTE);
    let owned = world.owned("a");
    world.lose("b");
    assert_eq!((world.owned("a"), world.owned("c")), (owned, 30 - owned), "all of b's go to c");
    world.lose("c");
    assert_eq!(world.owned("a"), 30, "better a flapping owner than none");
    world.join("b");
    world.sleep(61 * SECOND);
    assert_eq!(world.placing.held_down(world.now, &NodeId::new("a")), Duration::ZERO);
    world.leave("b");
    assert_eq!(world.owned("a"), 30);
}

#[test]
fn a_restarted_process_has_its_sources_again_until_it_flaps() {
    let mut world = World::new(PlacingConfig::default(), map(1, 20, 0));
    world.join("a");
    world.join("b");
    world.sleep(20 * MINUTE);
    let had = world.owned("a");
    assert!(had >= 10);
    world.restart("a");
    world.restart("a");
    assert_eq!(
        (world.owned("a"), world.placing.moves),
        (had, world.placing.balanced),
        "the same node: no move"
    );
    let epochs: Vec<Epoch> = world.peers[&NodeId::new("a")].holds.values().copied().collect();
    assert!(epochs.iter().all(|epoch| epoch.0 > 20 + had as u64), "each process has epochs of its own");
    let own = world.peers[&NodeId::new("a")].holds.keys().next().cloned().expect("one");
    assert_eq!(world.state(&own).owner.map(|owner| owner.why), Some(MoveWhy::Restarted));
    world.restart("a");
    assert_eq!((world.owned("a"), world.owned("b")), (0, 20), "the third time is one too many");
    assert_eq!(world.placing.records[0].why, MoveWhy::Restarted);
}

#[test]
fn a_leaving_analyzer_lets_go_evenly_over_half_of_its_deadline() {
    let mut world = World::new(PlacingConfig::default(), map(1, 100, 0));
    world.join("a");
    world.join("b");
    world.sleep(30 * MINUTE);
    let had = world.owned("a");
    world.drain("a", 100 * SECOND);
    let left = |world: &mut World| {
        world.beat_all();
        world.owned("a")
    };
    assert_eq!(left(&mut world), had - 1, "the first at once");
    world.sleep(25 * SECOND);
    let half = left(&mut world);
    assert!(half.abs_diff(had / 2) <= 2, "{half} of {had}");
    world.sleep(25 * SECOND);
    assert_eq!(left(&mut world), 0);
    assert_eq!(world.owned("b"), 100);
    assert!(world.placing.records.iter().take(had).all(|record| record.why == MoveWhy::OwnerLeft));
}

#[test]
fn an_analyzer_that_leaves_alone_leaves_at_once() {
    let mut world = World::new(PlacingConfig::default(), map(1, 50, 0));
    world.join("a");
    world.drain("a", 100 * SECOND);
    world.beat_all();
    assert_eq!((world.owned("a"), world.placing.table.unowned().len()), (0, 50));
}

#[test]
fn an_operator_relieves_within_the_budget_and_takes_it_back() {
    let mut world = World::new(PlacingConfig::default(), map(1, 100, 0));
    world.join("a");
    world.join("b");
    world.sleep(30 * MINUTE);
    let (a, had) = (NodeId::new("a"), world.owned("a"));
    assert!(world.placing.relieve(world.now, &a, &world.leases));
    for minute in 1..=4 {
        world.sleep(MINUTE);
        let gone = had - world.owned("a");
        assert!(gone.abs_diff(5 * minute) <= 1, "{gone} in {minute} minutes");
    }
    world.placing.reinstate(&a);
    world.beat_all();
    let stays = world.owned("a");
    world.sleep(MINUTE);
    assert_eq!(world.owned("a"), stays);
    assert!(world.placing.relieve(world.now, &a, &world.leases));
    world.sleep(30 * MINUTE);
    assert_eq!(world.owned("a"), 0);
    world.leave("b");
    assert_eq!((world.owned("a"), world.placing.table.unowned().len()), (0, 100), "nothing new");
    world.placing.reinstate(&a);
    world.settle();
    assert_eq!(world.owned("a"), 100);
    assert!(world.placing.relieve(world.now, &a, &world.leases));
    world.sleep(40 * MINUTE);
    assert_eq!(world.owned("a"), 100, "it keeps what nobody else can take");
}

#[test]
fn a_new_source_waits_for_analyzers_that_know_it() {
    let mut world = World::new(PlacingConfig::default(), map(5, 10, 0));
    world.join_as("old", |lease| lease.generation = 5);
    assert_eq!(world.owned("old"), 10);
    world.placing.map_changed(world.now, &map(6, 11, 0), &world.leases, &mut world.epochs);
    world.settle();
    assert_eq!(world.owner(&source(10)), None, "nobody has that revision yet");
    world.join_as("newer", |lease| lease.generation = 6);
    assert_eq!(world.owner(&source(10)).as_deref(), Some("newer"));
    world.placing.map_changed(world.now, &map(7, 12, 0), &world.leases, &mut world.epochs);
    world.settle();
    assert_eq!(world.owner(&source(11)), None);
    world.leases.get_mut(&NodeId::new("old")).expect("a lease").generation = 7;
    world.beat("old");
    assert_eq!(world.owner(&source(11)).as_deref(), Some("old"), "as soon as it says so");
}

#[test]
fn zones_and_parts_are_honoured() {
    let mut world = World::listening(PlacingConfig::default(), zoned_map(1, 40, 10, &["a", "b"]));
    for (index, zone) in ["a", "b", "c", "a", "b", "c"].into_iter().enumerate() {
        world.join_as(&format!("{zone}{index}"), |lease| lease.zone = Some(zone.to_owned()));
    }
    world.end_of_listening();
    assert_eq!(world.placing.table.unowned().len(), 0);
    for index in 0..10 {
        let owners: Vec<String> =
            (0..=2).filter_map(|part| world.owner(&source(index).with_part(part))).collect();
        assert_eq!(owners.len(), 3);
        assert!(owners[0] != owners[1] && owners[1] != owners[2] && owners[0] != owners[2], "{owners:?}");
    }
    let abroad = world.owned("c2") + world.owned("c5");
    assert!(abroad <= 60 - 4 * 13 + 2, "those of the region are full first: {abroad}");
}

#[test]
fn cold_placement_goes_in_steps() {
    let mut world = World::listening(PlacingConfig::default(), map(1, 3000, 0));
    for index in 0..10 {
        world.join(&format!("a{index}"));
    }
    world.placing.end_of_listening(world.now, &world.leases, &mut world.epochs);
    let mut left = Vec::new();
    loop {
        world.placing.settle(world.now, &world.leases, &mut world.epochs);
        left.push(world.placing.table.unowned().len());
        if world.placing.next_wakeup().is_none_or(|at| at > world.now.mono) {
            break;
        }
    }
    assert_eq!(left, [3000 - 1024, 3000 - 2048, 0], "and the machine asks to be woken at once for the next");
}

#[test]
fn losing_or_adding_one_of_many_moves_no_more_than_it_must() {
    let mut world = World::listening(PlacingConfig::default(), map(1, 2000, 0));
    for index in 0..20 {
        world.join(&format!("a{index:02}"));
    }
    world.end_of_listening();
    world.beat_all();
    let had = world.owned("a07");
    assert!(had <= 125, "the bound");
    world.lose("a07");
    assert_eq!(world.placing.moves, had as u64, "what it had, and nothing else");
    assert!(world.placing.records.iter().all(|record| record.why == MoveWhy::OwnerLost));
    world.sleep(11 * MINUTE);
    world.join("b");
    world.sleep(5 * MINUTE);
    // Those above 1.25 of the new share, which gains less than a tenth, so that nothing moves at all.
    assert_eq!(world.placing.moves, had as u64);
    assert!(world.loads().values().all(|&load| load <= 132), "{:?}", world.loads());
}
