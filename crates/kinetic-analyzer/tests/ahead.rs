//! A wall clock that is wrong for a while: once it is right again, it hurts no longer.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use kinetic_analyzer::machine::{Effect, Input};
use kinetic_schema::Schema;
use kinetic_schema::schema::{Rule, Silent, SilentEach};
use kinetic_wire::*;
use support::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Windows of ten seconds and of an hour and a half, and who is silent for twenty seconds.
fn watched() -> Schema {
    let mut gone = analytic("gone", "fast", 1.0, 10, 1, 1);
    gone.rule = Rule::Silent(Silent { after: Duration::from_secs(20), each: SilentEach::Feed });
    schema(&[analytic("fast", "fast", 1.1, 10, 1, 1), analytic("long", "fast", 1.1, 5400, 1, 1), gone])
}

/// Four hosts speak every second; the last is out of line in every other ten.
fn speak(world: &mut World, seconds: u64) {
    for _ in 0..seconds {
        let second = world.now.wall.0 / 1_000_000_000;
        let bad = if second / 10 % 2 == 0 { 90.0 } else { 1.0 };
        for (origin, value) in [("web-1", 1.0), ("web-2", 1.1), ("web-3", 1.2), ("web-4", bad)] {
            world.deliver(origin, &format!("fast:{value}|ms"));
        }
        world.pass_s(1);
    }
}

fn forward(world: &mut World) {
    world.now.wall = world.now.wall + HOUR;
}

fn back(world: &mut World) {
    world.now.wall = Wall(world.now.wall.0 - 3_600_000_000_000);
}

/// Ends of the windows that "fast" said something of, in seconds from the start, and that nothing was said twice.
fn judged(world: &World) -> Vec<i64> {
    let events = world.events();
    let ids: BTreeSet<AlertId> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), events.len(), "a window was judged twice");
    let fast = events.iter().filter(|event| event.analytic.as_str() == "fast");
    fast.map(|event| event.window_end_ms / 1000 - START).collect()
}

/// Every other window from a moment on has its verdict, and only those of the first half minute may have none.
fn recovers(world: &mut World) {
    let from = world.now.wall.0 / 1_000_000_000 - START;
    let late = world.stats().late;
    world.effects.clear();
    speak(world, 100);
    let judged = judged(world);
    let wanted: Vec<i64> = (from / 10 + 3..=from / 10 + 9).map(|window| (window + 1) * 10).collect();
    for end in wanted.iter().filter(|end| **end < from + 90) {
        assert!(judged.contains(end), "{end} of {wanted:?} is not in {judged:?}");
    }
    let lost = world.stats().late - late;
    // Of a feed three rules make samples late, two of them with short windows.
    assert!(lost <= 2 * 4 * 21, "{lost} samples were late");
    assert_eq!(world.stats().clocks_brought_back, 1);
    let held = world.stats().sources[0].held;
    // Only the long windows hold them.
    assert!(held <= 1500, "{held} deliveries are held");
}

#[test]
fn ahead_with_its_publishers() {
    for seconds in [2, 8, 45] {
        let mut world = World::new(watched());
        world.tick();
        speak(&mut world, 43);
        forward(&mut world);
        speak(&mut world, seconds);
        back(&mut world);
        recovers(&mut world);
    }
}

#[test]
fn ahead_while_the_source_is_silent() {
    let mut world = World::new(watched());
    world.tick();
    speak(&mut world, 43);
    forward(&mut world);
    world.pass_s(30);
    assert!(judged(&world).iter().all(|end| *end < 100), "nothing was said in windows to come");
    back(&mut world);
    world.pass_s(2);
    assert_eq!(world.stats().clocks_brought_back, 0, "nothing is lost as long as nothing comes");
    recovers(&mut world);
}

#[test]
fn a_snapshot_that_is_ahead() {
    let mut world = World::new(watched());
    world.tick();
    speak(&mut world, 43);
    forward(&mut world);
    speak(&mut world, 12);
    back(&mut world);
    let ahead = |world: &World| {
        let snapshot: Snapshot = decode(world.snapshots.last().unwrap()).unwrap();
        snapshot.lanes.iter().any(|lane| {
            lane.length_ns < 100_000_000_000 && lane.closed_ns.unwrap() > (world.now.wall + HOUR / 2).0
        })
    };
    assert!(ahead(&world));
    world.succeed(watched(), 2);
    world.tick();
    recovers(&mut world);
    assert!(!ahead(&world));
}

/// A snapshot was on its way that says more is closed than is: what it covers goes no further than what is.
#[test]
fn a_snapshot_on_its_way() {
    let mut world = World::new(schema(&[analytic("fast", "fast", 1.1, 10, 1, 1)]));
    world.tick();
    speak(&mut world, 43);
    world.confirms = false;
    world.effects.clear();
    forward(&mut world);
    speak(&mut world, 12);
    for id in world.events().iter().map(|event| event.id) {
        world.send(Input::Published { id });
    }
    let kept = |effect: &Effect| if let Effect::Keep { seq, .. } = effect { Some(*seq) } else { None };
    let seq = world.effects.iter().find_map(kept).expect("it is on its way");
    back(&mut world);
    speak(&mut world, 25);
    let known = world.token;
    speak(&mut world, 60);
    world.effects.clear();
    let slot = world.slot.unwrap();
    world.send(Input::Kept { slot, seq });
    let tokens = acks(&world.effects).into_iter().filter_map(|ack| match ack {
        Effect::AckUpTo { token, .. } | Effect::AckRange { last: token, .. } => Some(token.0),
        _ => None,
    });
    let last = tokens.max().expect("what was closed before is settled");
    assert!(last <= known, "{last} was acknowledged, and no snapshot says so of what came after {known}");
}

#[test]
fn who_falls_silent_afterwards_is_noticed() {
    let mut world = World::new(watched());
    world.tick();
    speak(&mut world, 43);
    forward(&mut world);
    speak(&mut world, 12);
    back(&mut world);
    speak(&mut world, 40);
    world.effects.clear();
    world.pass_s(60);
    let gone = world.events().into_iter().filter(|event| event.analytic.as_str() == "gone");
    let gone: Vec<_> = gone.map(|event| (event.feed.origin.clone(), event.state)).collect();
    assert_eq!(gone.len(), 4, "{gone:?}");
    assert!(gone.iter().all(|(_, state)| *state == AlertState::Firing));
}

/// A clock that is behind proves nothing: what comes is too far ahead for it, and nothing is taken back.
#[test]
fn behind() {
    let mut world = World::new(watched());
    world.tick();
    speak(&mut world, 43);
    let at = world.now.wall;
    back(&mut world);
    for second in 0..30 {
        for origin in ["web-1", "web-2", "web-3", "web-4"] {
            world.deliver_at(origin, "fast:1|ms", at + Duration::from_secs(second), false);
        }
        world.pass_s(1);
    }
    assert_eq!((world.stats().clocks_brought_back, world.stats().future), (0, 120));
    forward(&mut world);
    world.effects.clear();
    speak(&mut world, 60);
    assert!(judged(&world).len() >= 4);
    assert_eq!(world.stats().clocks_brought_back, 0);
}
