//! Preference by itself.

use proptest::prelude::*;

use super::*;
use crate::map::MapBuilder;

fn map(zones: &[&str]) -> Map {
    let mut map = MapBuilder::new("r1", 1);
    map.region(&"eu".into(), Vec::new(), zones.iter().map(|zone| (*zone).to_owned()).collect());
    map.build()
}

fn members<'a>(serves: &'a Serves, capacities: &[u32]) -> Vec<Member<'a>> {
    let member = |(index, &capacity): (usize, &u32)| Member {
        node: index as u32 + 1,
        hash: hash([&format!("a{index}"), ""]),
        serves,
        capacity,
        zone: None,
        generation: 0,
        held_down: false,
        load: 0,
        count: 0,
    };
    capacities.iter().enumerate().map(member).collect()
}

fn demand(index: usize, weight: u64) -> Demand<'static> {
    Demand {
        hash: unit_hash(&format!("c{index}"), "web", 0),
        customer: "acme",
        region: 0,
        data_type: DataType::Statsd,
        weight,
        generation: 0,
        siblings: &[],
    }
}

/// Places units of these weights, heaviest first; returns the node of each, and the fleet.
fn place<'a>(map: &'a Map, members: Vec<Member<'a>>, weights: &[u64]) -> (Vec<Option<u32>>, Fleet<'a>) {
    let total: u64 = weights.iter().sum();
    let mut fleet = Fleet::new(map, members, total, total / weights.len() as u64);
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&index| Reverse(weights[index]));
    let mut nodes = vec![None; weights.len()];
    for index in order {
        if let Some(pick) = fleet.choose(&demand(index, weights[index])) {
            fleet.add(pick.member, weights[index]);
            nodes[index] = Some(fleet.member(pick.member).node);
        }
    }
    (nodes, fleet)
}

fn loads(fleet: &Fleet<'_>) -> BTreeMap<u32, u64> {
    fleet.members.iter().map(|member| (member.node, member.load)).collect()
}

/// Bounds are counted in whole average units: with few of them somebody may stay empty, and nothing moves for that.
#[test]
fn few_units_leave_room_for_an_empty_analyzer() {
    assert_eq!(bound(5, 1, 1, 3), 3, "so 3, 2 and 0 stand");
    assert_eq!(bound(500, 1, 1, 3), 209, "where there are many, it is 1.25 of a share");
}

#[test]
fn nobody_is_above_the_bound_and_capacity_counts() {
    let (map, serves) = (map(&[]), Serves::default());
    let (nodes, fleet) = place(&map, members(&serves, &[100, 100, 400, 100, 100]), &[1; 1000]);
    assert!(nodes.iter().all(Option::is_some));
    let loads = loads(&fleet);
    for node in [1, 2, 4, 5] {
        assert!((100..=157).contains(&loads[&node]), "{loads:?}");
    }
    assert!((440..=560).contains(&loads[&3]), "four times the capacity, four times the units: {loads:?}");
    assert_eq!(fleet.overloaded(), [0_usize; 0]);
}

#[test]
fn losing_one_of_eight_moves_little_more_than_an_eighth() {
    let (map, serves) = (map(&[]), Serves::default());
    let (before, _) = place(&map, members(&serves, &[100; 8]), &[1; 5000]);
    let (after, _) = place(&map, members(&serves, &[100; 7]), &[1; 5000]);
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert!((600..=800).contains(&moved), "ideal is 625, even of a fleet that forgets: {moved}");
}

#[test]
fn a_heavy_unit_takes_the_place_of_many() {
    let (map, serves) = (map(&[]), Serves::default());
    let mut weights = vec![1; 900];
    weights[17] = 300;
    let (nodes, fleet) = place(&map, members(&serves, &[100; 4]), &weights);
    let heavy = nodes[17].expect("an owner");
    let company = nodes.iter().filter(|node| **node == Some(heavy)).count() - 1;
    assert!(company <= 76, "1.25 of 300 is 375, rounded up to whole means: {company} beside it");
    assert!(loads(&fleet).values().all(|&load| load <= 376), "{:?}", loads(&fleet));
}

#[test]
fn a_unit_above_every_bound_is_placed_all_the_same() {
    let (map, serves) = (map(&[]), Serves::default());
    let mut weights = vec![1; 30];
    weights[0] = 10_000;
    let (nodes, fleet) = place(&map, members(&serves, &[100, 50, 100]), &weights);
    let owner = nodes[0].expect("an owner");
    assert!(nodes[1..].iter().all(|node| node.is_some_and(|node| node != owner)), "and has no company");
    assert_eq!(loads(&fleet)[&owner], 10_000);
}

#[test]
fn what_cannot_be_served_stays_open_and_the_bound_yields_to_need() {
    let (map, here) = (map(&[]), Serves::default());
    let elsewhere = Serves { regions: vec!["us".into()], ..Serves::default() };
    let mut fleet = members(&elsewhere, &[100; 3]);
    assert_eq!(place(&map, fleet.clone(), &[1; 10]).0, vec![None; 10]);
    fleet[1].serves = &here;
    let (nodes, mut placed) = place(&map, fleet, &[1; 10]);
    assert_eq!(nodes, vec![Some(2); 10]);
    let donor = placed.index_of(2).expect("a member");
    assert_eq!(placed.overloaded(), [donor]);
    assert_eq!(placed.better(&demand(0, 1), donor), None, "nobody else can serve them");
}

#[test]
fn each_kind_of_limit_excludes() {
    let check = |serves: Serves, expect| {
        assert_eq!(can_serve(&serves, "eu", DataType::Auto, "acme"), expect, "{serves:?}");
    };
    check(Serves::default(), true);
    check(Serves { regions: vec!["us".into(), "eu".into()], ..Serves::default() }, true);
    check(Serves { regions: vec!["us".into()], ..Serves::default() }, false);
    check(Serves { data_types: vec![DataType::Statsd], ..Serves::default() }, false);
    check(Serves { data_types: vec![DataType::Auto], ..Serves::default() }, true);
    check(Serves { customers: vec!["other".into()], ..Serves::default() }, false);
    check(Serves { customers: vec!["acme".into()], ..Serves::default() }, true);
    let (map, other) = (map(&[]), Serves { customers: vec!["other".into()], ..Serves::default() });
    assert_eq!(place(&map, members(&other, &[100]), &[1]).0, [None]);
    let any = Serves::default();
    assert_eq!(place(&map, members(&any, &[0]), &[1]).0, [None], "without capacity it is given nothing");
}

#[test]
fn an_old_schema_excludes_and_an_unknown_one_does_not() {
    let (map, serves) = (map(&[]), Serves::default());
    let mut fleet = members(&serves, &[100; 3]);
    (fleet[0].generation, fleet[1].generation) = (6, 7);
    let picked = |fleet: &[Member<'_>], generation| {
        let mut fleet = Fleet::new(&map, fleet.to_vec(), 1000, 1);
        let pick = |index| fleet.choose(&Demand { generation, ..demand(index, 1) });
        let mut nodes: Vec<usize> = (0..50).filter_map(pick).map(|pick| pick.member).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    };
    assert_eq!(picked(&fleet, 6), [0, 1, 2]);
    assert_eq!(picked(&fleet, 7), [1, 2]);
    assert_eq!(picked(&fleet, 8), [2]);
    fleet[2].generation = 7;
    assert_eq!(picked(&fleet, 8), [0_usize; 0]);
}

#[test]
fn who_is_held_down_gets_only_what_nobody_else_can_take() {
    let (map, serves) = (map(&[]), Serves::default());
    let elsewhere = Serves { regions: vec!["us".into()], ..Serves::default() };
    let mut fleet = members(&serves, &[100; 2]);
    fleet[0].held_down = true;
    assert_eq!(place(&map, fleet.clone(), &[1; 20]).0, vec![Some(2); 20]);
    fleet[1].serves = &elsewhere;
    assert_eq!(place(&map, fleet, &[1; 20]).0, vec![Some(1); 20]);
}

#[test]
fn nobody_is_given_more_than_it_could_say_it_holds() {
    let (map, serves) = (map(&[]), Serves::default());
    let mut fleet = members(&serves, &[100]);
    fleet[0].count = OWNED_MAX - 2;
    assert_eq!(place(&map, fleet, &[1; 4]).0.iter().flatten().count(), 2);
}

#[test]
fn the_zones_of_a_region_come_first_while_they_have_room() {
    let (map, serves) = (map(&["a", "b"]), Serves::default());
    let mut fleet = members(&serves, &[100; 4]);
    for (member, zone) in fleet.iter_mut().zip(["a", "c", "b", "c"]) {
        member.zone = Some(zone);
    }
    let (nodes, fleet) = place(&map, fleet, &[1; 100]);
    let loads = loads(&fleet);
    assert_eq!((loads[&1], loads[&3]), (32, 32), "to their bound, 1.25 of 25: {loads:?}");
    assert_eq!(nodes.iter().flatten().count(), 100);
}

#[test]
fn parts_go_to_different_nodes_then_zones() {
    let (map, serves) = (map(&[]), Serves::default());
    let mut fleet = members(&serves, &[100; 6]);
    for (member, zone) in fleet.iter_mut().zip(["a", "b", "c", "a", "b", "c"]) {
        member.zone = Some(zone);
    }
    for source in 0..50 {
        let mut fleet = Fleet::new(&map, fleet.clone(), 700, 1);
        let mut nodes: Vec<u32> = Vec::new();
        for part in 0..7 {
            let hash = unit_hash("acme", &format!("s{source}"), part);
            let pick = fleet.choose(&Demand { hash, siblings: &nodes, ..demand(0, 1) }).expect("an owner");
            fleet.add(pick.member, 1);
            nodes.push(fleet.member(pick.member).node);
        }
        let distinct = |nodes: &[u32], by: u32| {
            let mut seen: Vec<u32> = nodes.iter().map(|node| node % by).collect();
            seen.sort_unstable();
            seen.dedup();
            seen.len()
        };
        assert_eq!(distinct(&nodes[..6], 100), 6, "different nodes: {nodes:?}");
        assert_eq!(distinct(&nodes[..3], 3), 3, "different zones first: {nodes:?}");
    }
}

proptest! {
    /// Whatever the weights and capacities: everybody has an owner, and the bound holds but for units that fit nowhere.
    #[test]
    fn the_bound_holds_where_it_can(
        weights in prop::collection::vec(1_u64..1000, 1..200),
        capacities in prop::collection::vec(1_u32..500, 1..9),
    ) {
        let (map, serves) = (map(&[]), Serves::default());
        let (nodes, fleet) = place(&map, members(&serves, &capacities), &weights);
        prop_assert!(nodes.iter().all(Option::is_some));
        let total: u64 = weights.iter().sum();
        prop_assert_eq!(loads(&fleet).values().sum::<u64>(), total);
        for index in fleet.overloaded() {
            let member = fleet.member(index);
            // The lightest it has did not fit anybody when it was placed.
            let own = (0..weights.len()).filter(|&unit| nodes[unit] == Some(member.node));
            let lightest = own.map(|unit| weights[unit]).min().expect("it is overloaded");
            let room = |other: usize| fleet.bound(other).saturating_sub(fleet.member(other).load);
            let widest = (0..capacities.len()).filter(|&other| other != index).map(room).max().unwrap_or(0);
            prop_assert!(lightest > widest, "{} fits elsewhere: room {}", lightest, widest);
        }
    }

    /// More weight on one source means that its node has fewer others.
    #[test]
    fn weights_move_shares(heavy in 200_u64..2000, which in 0_usize..100) {
        let (map, serves) = (map(&[]), Serves::default());
        let even = vec![10; 100];
        let (_, before) = place(&map, members(&serves, &[100; 4]), &even);
        let mut weights = even;
        weights[which] = heavy;
        let (nodes, after) = place(&map, members(&serves, &[100; 4]), &weights);
        let owner = nodes[which].expect("an owner");
        let count = |nodes: &[Option<u32>]| nodes.iter().filter(|node| **node == Some(owner)).count() as u64;
        prop_assert!(10 * (count(&nodes) - 1) + heavy <= after.bound(0).max(heavy));
        prop_assert!(loads(&before).values().all(|&load| load <= before.bound(0)));
    }
}
