//! Customers that move to another region: what they leave behind is emptied before the source is granted where it is now.

use kinetic_wire::{Evacuated, Grant};

use super::*;
use crate::placing::EVACUATION_MAX;

/// One customer with so many sources in a region of three.
fn living_in(generation: u64, region: &str, sources: usize) -> Arc<Map> {
    let mut map = MapBuilder::new(&format!("r{generation}"), generation);
    for name in ["eu", "us", "ap"] {
        map.region(&RegionName::new(name), Vec::new(), Vec::new());
    }
    map.customer(&"acme".into(), &RegionName::new(region), false);
    for source in 0..sources {
        map.source(&format!("s{source:03}"), DataType::Statsd, 1, 0);
    }
    Arc::new(map.build())
}

impl World {
    fn moves_to(&mut self, generation: u64, region: &str) {
        let map = living_in(generation, region, 2);
        self.placing.map_changed(self.now, &map, &self.leases, &mut self.epochs);
        self.settle();
    }

    fn grants(&self, name: &str) -> Vec<Grant> {
        self.placing.grants(&NodeId::new(name))
    }

    /// Regions in which a node is granted something.
    fn granted(&self, name: &str) -> Vec<String> {
        self.grants(name).iter().map(|grant| grant.region.as_str().to_owned()).collect()
    }

    /// A node says of all that it is granted that nothing is left.
    fn empties(&mut self, name: &str) {
        let node = NodeId::new(name);
        let emptied =
            |grant: Grant| Evacuated { source: grant.source, region: grant.region, epoch: grant.epoch };
        let evacuated: Vec<Evacuated> = self.grants(name).into_iter().map(emptied).collect();
        self.peers.insert(node.clone(), Peer::default());
        self.placing.heartbeat(self.now, &node, (&[], &evacuated), &self.leases, &mut self.epochs);
        self.settle();
        self.obey(&node);
    }
}

fn only(region: &str) -> impl FnOnce(&mut Lease) {
    let region = RegionName::new(region);
    move |lease| lease.serves.regions = vec![region]
}

fn epochs(grants: &[Grant]) -> Vec<Epoch> {
    grants.iter().map(|grant| grant.epoch).collect()
}

#[test]
fn an_owner_empties_the_region_and_goes_on_in_the_other_under_a_new_epoch() {
    let mut world = World::new(hasty(), living_in(1, "eu", 2));
    world.join("a");
    let before = world.grants("a");
    world.moves_to(2, "us");
    assert_eq!(world.grants("a"), before, "it is still granted where it was");
    assert_eq!(world.placing.revokes(&NodeId::new("a")), []);
    assert_eq!(world.placing.evacuating(), 2);
    assert_eq!(world.placing.movers(), [NodeId::new("a")].into());
    assert_eq!(world.placing.moving_of(&before).len(), 2);
    world.sleep(10 * SECOND);
    assert_eq!(world.granted("a"), ["eu", "eu"]);
    world.empties("a");
    assert_eq!(world.granted("a"), ["us", "us"]);
    assert!(epochs(&world.grants("a")).iter().min() > epochs(&before).iter().max());
    assert_eq!((world.placing.evacuating(), world.placing.evacuations_ended()), (0, [2, 0]));
}

#[test]
fn what_another_serves_is_given_to_it_when_nothing_is_left() {
    let mut world = World::new(hasty(), living_in(1, "eu", 2));
    world.join_as("a", only("eu"));
    world.join_as("b", only("us"));
    world.moves_to(2, "us");
    world.beat_all();
    assert_eq!((world.granted("a").len(), world.granted("b").len()), (2, 0));
    world.empties("a");
    assert_eq!((world.granted("a").len(), world.granted("b")), (0, vec!["us".into(), "us".into()]));
}

#[test]
fn who_lets_go_without_a_word_has_not_emptied_anything() {
    let mut world = World::new(hasty(), living_in(1, "eu", 2));
    world.join_as("a", only("eu"));
    world.join_as("b", only("us"));
    world.moves_to(2, "us");
    world.lose("a");
    assert_eq!(world.granted("b"), [""; 0], "nobody serves the old region, and its queue is not empty");
    world.join_as("c", only("eu"));
    assert_eq!(world.granted("c"), ["eu", "eu"], "the next one goes on");
    world.empties("c");
    assert_eq!(world.granted("b"), ["us", "us"]);
    assert_eq!(world.placing.evacuations_ended(), [2, 0]);
}

#[test]
fn what_is_not_emptied_in_time_is_granted_where_it_is() {
    let mut world = World::new(hasty(), living_in(1, "eu", 2));
    world.join_as("a", only("eu"));
    world.join_as("b", only("us"));
    world.moves_to(2, "us");
    world.sleep(EVACUATION_MAX - SECOND);
    assert_eq!((world.granted("a").len(), world.granted("b").len()), (2, 0));
    world.sleep(2 * SECOND);
    world.beat_all();
    assert_eq!((world.granted("a").len(), world.granted("b").len()), (0, 2));
    assert_eq!(world.placing.evacuations_ended(), [0, 2]);
}

#[test]
fn what_nobody_owned_when_it_moved_is_emptied_too() {
    let mut world = World::new(hasty(), living_in(1, "eu", 2));
    world.moves_to(2, "us");
    world.join("a");
    assert_eq!(world.granted("a"), ["eu", "eu"]);
    world.empties("a");
    assert_eq!(world.granted("a"), ["us", "us"]);
}

/// What was carried to the second region while it was being left again is not forgotten there.
#[test]
fn whoever_moves_back_or_on_leaves_nothing_behind() {
    let mut world = World::new(hasty(), living_in(1, "eu", 2));
    world.join("a");
    world.moves_to(2, "us");
    world.moves_to(3, "eu");
    assert_eq!(world.granted("a"), ["us", "us"], "something may have been carried there");
    world.moves_to(4, "ap");
    let mut regions = Vec::new();
    while world.placing.evacuating() > 0 {
        regions.push(world.granted("a")[0].clone());
        world.empties("a");
    }
    assert_eq!(regions, ["us", "eu"]);
    assert_eq!(world.granted("a"), ["ap", "ap"]);
}

#[test]
fn what_an_earlier_owner_says_of_an_earlier_epoch_is_not_believed() {
    let mut world = World::new(hasty(), living_in(1, "eu", 2));
    world.join("a");
    world.moves_to(2, "us");
    let node = NodeId::new("a");
    let grant = world.grants("a").remove(0);
    let stale = Evacuated { source: grant.source, region: grant.region, epoch: Epoch(grant.epoch.0 - 1) };
    let holds = world.holds(&node);
    world.placing.heartbeat(world.now, &node, (&holds, &[stale]), &world.leases, &mut world.epochs);
    assert_eq!(world.placing.evacuating(), 2);
}
