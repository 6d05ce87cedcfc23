//! What an owner says of publishers whose silence is an event.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kinetic_analyzer::machine::{Effect, Input};
use kinetic_schema::Schema;
use kinetic_wire::{Envelope, names};
use support::*;

/// The silence of acme is an event after so long.
fn watched(after_s: u64) -> Schema {
    let mut schema = schema(&[]);
    schema.customers.get_mut(&CUSTOMER.into()).unwrap().stream_silent_after =
        Some(Duration::from_secs(after_s));
    schema
}

fn world(after_s: u64) -> World {
    let mut world = World::new(watched(after_s));
    world.tick();
    world
}

/// Lets a second pass at a time, and takes what is due to be told: when, and `came`, `quiet`, `proven` in whole seconds.
fn told(world: &mut World, seconds: u64) -> Vec<(i64, u64, u64, u64)> {
    let mut told = Vec::new();
    for _ in 0..seconds {
        world.pass_s(1);
        for said in world.analyzer.listening(world.now, 10) {
            assert_eq!((said.source, said.epoch.0), (key(), world.grants[0].epoch.0));
            assert!(said.proven_ms <= said.quiet_ms);
            let at = world.now.wall.as_ms() / 1000 - START;
            told.push((at, said.came, said.quiet_ms / 1000, said.proven_ms / 1000));
        }
    }
    told
}

#[test]
fn quiet_is_told_every_fifth_of_what_is_too_long_and_proven_by_probes() {
    let mut world = world(50);
    world.pass_s(3);
    world.deliver("web-1", "a:1|c");
    // Told at 11, 21 and so on, since what a subscription finds is settled in within a second.
    assert_eq!(
        told(&mut world, 42),
        [(4, 1, 1, 1), (14, 1, 11, 1), (24, 1, 21, 1), (34, 1, 31, 1), (44, 1, 41, 1)]
    );
    assert!(world.stats().probes >= 4, "{}", world.stats().probes);
    world.deliver("web-1", "a:1|c");
    assert_eq!(told(&mut world, 10), [(54, 2, 9, 9)]);
}

#[test]
fn who_is_cut_off_proves_nothing() {
    let mut world = world(50);
    world.deliver("web-1", "a:1|c");
    world.connected = false;
    let said = told(&mut world, 60);
    assert!(said.len() >= 5 && said.iter().all(|(_, _, quiet, proven)| quiet == proven), "{said:?}");
    let slot = world.slot.unwrap();
    world.send(Input::SubscriptionLost { slot });
    assert_eq!(told(&mut world, 60), [], "nothing is said without a subscription");
    // What it hears of afterwards begins anew.
    world.connected = true;
    world.recall(slot);
    let (_, came, quiet, _) = told(&mut world, 60)[0];
    assert!(came == 1 && quiet <= 1, "{came} {quiet}");
}

#[test]
fn what_is_delivered_again_was_heard_before() {
    let mut world = world(50);
    world.pass_s(20);
    let at = world.now.wall;
    world.deliver_at("web-1", "a:1|c", at, true);
    let (_, came, quiet, _) = told(&mut world, 15)[0];
    assert!(came == 0 && quiet >= 20, "{came} {quiet}");
}

#[test]
fn a_successor_begins_anew() {
    let mut world = world(50);
    world.deliver("web-1", "a:1|c");
    world.pass_s(30);
    world.succeed(watched(50), 2);
    world.tick();
    let first = told(&mut world, 3)[0];
    assert_eq!((first.1, first.2), (0, 1));
}

#[test]
fn nothing_is_said_where_silence_is_no_event() {
    let mut world = World::new(schema(&[]));
    world.tick();
    world.deliver("web-1", "a:1|c");
    assert_eq!(told(&mut world, 100), []);
    assert!(!world.effects.iter().any(|effect| matches!(effect, Effect::Probe { .. })), "nor proven");
    // And of a customer that is switched off neither.
    let mut off = watched(50);
    off.customers.get_mut(&CUSTOMER.into()).unwrap().disabled = true;
    let mut world = World::new(off);
    world.tick();
    assert_eq!(told(&mut world, 100), []);
}

#[test]
fn what_does_not_fit_is_told_next() {
    let mut world = world(50);
    world.pass_s(5);
    assert_eq!(world.analyzer.listening(world.now, 0), []);
    assert_eq!(world.analyzer.listening(world.now, 1).len(), 1);
    assert_eq!(world.analyzer.listening(world.now, 1), []);
}

#[test]
fn a_test_of_ours_is_no_word_of_the_customer() {
    let mut world = world(50);
    world.deliver("web-1", "a:1|c");
    world.pass_s(20);
    let kind = Some(names::TYPE_TEST.into());
    let envelope = Envelope { kind, ts: Some(world.now.wall), ..Envelope::default() };
    world.deliver_with(envelope, "in.acme", "a:1|c", false);
    let (_, came, quiet, _) = told(&mut world, 15)[0];
    assert!(came == 1 && quiet >= 20, "{came} {quiet}");
}
