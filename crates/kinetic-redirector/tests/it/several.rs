//! Several redirectors, one token, analyzers that keep the protocol, and a network that loses and delays. Whatever happens, nobody
//! is believed twice, and when it is quiet again there is one leader whose map everybody has.

mod world;

use std::collections::BTreeSet;

use kinetic_redirector::machine::{Effect, Input, ReplyToken, Stored};
use kinetic_wire::names::rpc;
use kinetic_wire::{Login, MapChange, Term, decode};
use proptest::prelude::*;

use self::world::{ANALYZERS, Op, REDIRECTORS, SOURCES, World, node};
use crate::harness::locate_body;

fn op() -> impl Strategy<Value = Op> {
    let node = || 0..REDIRECTORS;
    let analyzer = || 0..ANALYZERS;
    prop_oneof![
        10 => (10_u64..4_000).prop_map(Op::Step),
        6 => node().prop_map(Op::Subscribe),
        8 => node().prop_map(Op::Publish),
        2 => node().prop_map(Op::Cut),
        2 => node().prop_map(Op::Notice),
        1 => node().prop_map(Op::Crash),
        10 => node().prop_map(Op::Hear),
        1 => node().prop_map(Op::Miss),
        20 => node().prop_map(Op::Serve),
        1 => node().prop_map(Op::NoPage),
        14 => (analyzer(), prop::bool::weighted(0.9)).prop_map(|(index, arrives)| Op::Speak(index, arrives)),
        14 => analyzer().prop_map(Op::Receive),
        3 => analyzer().prop_map(Op::GiveUp),
        1 => analyzer().prop_map(Op::CrashAnalyzer),
    ]
}

/// When all is quiet: one leader, everything owned, every copy right, no request forgotten; and then nothing moves.
fn check_quiet(world: &mut World) {
    world.quiet(60);
    let leaders = world.leaders();
    assert_eq!(leaders.len(), 1, "one leads");
    let owners = world.owners(leaders[0]);
    assert_eq!(owners.len(), SOURCES, "everything has an owner");
    for index in (0..REDIRECTORS).filter(|index| *index != leaders[0]) {
        let stats = world.nodes[index].machine.stats();
        assert!(stats.copy_whole, "r{index} has no copy");
        assert_eq!(world.owners(index), owners, "r{index} knows who owns what");
    }
    let moves = world.nodes[leaders[0]].machine.stats().moves;
    world.quiet(10);
    assert_eq!(world.nodes[leaders[0]].machine.stats().moves, moves, "a quiet world moves nothing");
    assert!(world.taken.len() <= 1 && world.requests.is_empty(), "every request was answered");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn nobody_is_believed_twice(ops in prop::collection::vec(op(), 1..400)) {
        let mut world = World::new();
        world.quiet(3);
        for op in ops {
            world.apply(op);
        }
        check_quiet(&mut world);
    }
}

/// A world in which everything is owned and the first of all redirectors leads.
fn settled() -> World {
    let mut world = World::new();
    world.quiet(30);
    assert_eq!(world.leaders(), [0]);
    assert_eq!(world.owners(0).len(), SOURCES);
    world
}

#[test]
fn a_standby_takes_over_and_nobody_moves() {
    let mut world = settled();
    let before = world.owners(0);
    world.crash(0);
    world.quiet(1);
    let next = world.leaders();
    assert!(next.len() == 1 && next[0] != 0);
    assert!(world.nodes[next[0]].machine.stats().listening, "it hears what owners hold");
    world.quiet(40);
    assert_eq!(world.owners(next[0]), before, "same owners, same epochs");
    let stats = world.nodes[next[0]].machine.stats();
    assert_eq!((stats.moves, stats.grants, stats.adopted), (0, 0, SOURCES as u64));
}

#[test]
fn a_page_of_a_copy_that_was_given_up_does_not_end_the_next() {
    let mut world = settled();
    let miss = |world: &mut World| {
        world.apply(Op::Step(1_000));
        world.nodes[1].hears.clear();
        world.apply(Op::Step(1_000));
        while !world.nodes[1].hears.is_empty() {
            world.hear(1);
        }
    };
    miss(&mut world);
    world.apply(Op::Step(1_000));
    assert!(world.nodes[1].asks.is_some(), "it begins anew");
    miss(&mut world);
    // The answer to the first question comes when the second is due and not asked yet.
    world.serve(0);
    check_quiet(&mut world);
}

#[test]
fn of_two_that_think_they_lead_only_the_later_is_believed() {
    let mut world = settled();
    world.cut(0);
    for index in 1..REDIRECTORS {
        world.publish(index);
    }
    assert_eq!(world.leaders(), [0, 1], "the broker has given the token on, and the first has not noticed");
    let (old, new) = (world.nodes[0].machine.stats().term, world.nodes[1].machine.stats().term);
    assert!(new > old);
    // The new leader does not know their leases: they register.
    for _ in 0..2 {
        for index in 0..ANALYZERS {
            world.apply(Op::GiveUp(index));
            world.speak(index, true);
        }
        (0..ANALYZERS).for_each(|_| world.serve(1));
        (0..ANALYZERS).for_each(|index| world.receive(index));
    }
    let holds: Vec<_> = world.analyzers.iter().map(|analyzer| analyzer.peer.holds.clone()).collect();
    for index in 0..ANALYZERS {
        world.speak(index, true);
    }
    (0..ANALYZERS).for_each(|_| world.serve(0));
    (0..ANALYZERS).for_each(|index| world.receive(index));
    assert!(world.analyzers.iter().all(|analyzer| analyzer.term == new), "the lower term is ignored");
    assert_eq!(holds, world.analyzers.iter().map(|analyzer| analyzer.peer.holds.clone()).collect::<Vec<_>>());
    // It need not wait for the broker: the other's word is enough.
    while !world.nodes[0].hears.is_empty() {
        world.hear(0);
    }
    assert_eq!(world.leaders(), [1]);
}

#[test]
fn a_term_below_what_somebody_led_is_given_up() {
    let mut world = settled();
    let led = world.nodes[0].machine.stats().term;
    // The broker forgets its queues; the first to queue up knows nothing, the last has led.
    world.apply(Op::BrokerForgets);
    for index in [1, 2] {
        world.nodes[index] = node(index, Stored::default(), 1);
        world.subscribe(index);
    }
    world.publish(1);
    world.publish(1);
    assert_eq!(world.leaders(), [1]);
    assert_eq!(world.nodes[1].machine.stats().term, Term(1));
    world.subscribe(0);
    world.publish(0);
    assert!(world.leaders().is_empty(), "nothing is said until a higher term is stored");
    world.publish(1);
    assert_eq!(world.leaders(), [1]);
    assert!(world.nodes[1].machine.stats().term > led);
    let epoch = world.nodes[0].disk.epoch_max;
    assert!(world.nodes[1].disk.epoch_max > epoch);
}

#[test]
fn a_gap_makes_the_copy_anew_and_locate_goes_on() {
    let mut world = settled();
    let restarts = world.nodes[1].machine.stats().copy_restarts;
    world.step(1_000);
    drop(world.nodes[1].hears.pop_front());
    world.step(1_000);
    while !world.nodes[1].hears.is_empty() {
        world.hear(1);
    }
    let stats = world.nodes[1].machine.stats();
    assert!(!stats.copy_whole && stats.copy_restarts == restarts + 1);
    let version = world.nodes[0].machine.stats().map_version;
    assert_eq!(stats.map_version, version, "a standby answers with the leader's version");
    let mut effects = Vec::new();
    let (token, login, body) = (ReplyToken(1 << 40), Login::new("acme.k1"), locate_body());
    let input = Input::Request {
        token,
        kind: rpc::LOCATE,
        login: Some(&login),
        caller: None,
        waiting: 0,
        body: &body,
    };
    world.nodes[1].machine.handle(world.now, input, &mut effects);
    let Effect::Reply { body, .. } = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(decode::<kinetic_wire::LocateReply>(body).expect("an answer").epoch, version);
    world.quiet(5);
    assert!(world.nodes[1].machine.stats().copy_whole);
    assert_eq!(world.owners(1), world.owners(0));
}

#[test]
fn bodies_that_are_no_map_changes_are_counted_and_nothing_else() {
    let mut world = settled();
    let term = world.nodes[0].machine.stats().term;
    for body in [&b""[..], b"{", b"null", b"{\"v\":1}", &[0xff; 64]] {
        (0..2).for_each(|index| world.handle(index, Input::Told { body }));
        world.handle(1, Input::MapPage { body: Some(body) });
    }
    let of = |body: &[u8]| decode::<MapChange>(body).is_ok();
    assert!(!of(b"{\"v\":1}"));
    assert_eq!(world.nodes[0].machine.stats().told_ignored, 5);
    assert_eq!((world.leaders(), world.nodes[0].machine.stats().term), (vec![0], term));
    assert!(world.nodes[1].machine.stats().copy_whole);
    assert_eq!(BTreeSet::from_iter(world.terms.values()).len(), 1);
}
