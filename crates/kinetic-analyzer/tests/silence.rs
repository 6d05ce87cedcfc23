//! The rule "silent": what is silence and what is not, and what a successor knows of it.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kinetic_schema::Schema;
use kinetic_schema::schema::{Rule, Silent, SilentEach};
use kinetic_wire::*;
use support::*;

/// Listens in windows of five seconds, with a lateness of five.
fn listening(after_s: u64, each: SilentEach, metric: &str) -> Schema {
    let mut analytic = analytic("gone", metric, 1.0, 5, 1, 1);
    analytic.rule = Rule::Silent(Silent { after: Duration::from_secs(after_s), each });
    schema(&[analytic])
}

/// Each of these speaks once a second for so long.
fn speak(world: &mut World, origins: &[&str], seconds: u64) {
    for _ in 0..seconds {
        for origin in origins {
            world.deliver(origin, "uptime:1|c\nother:1|c\n");
        }
        world.pass_s(1);
    }
}

/// Origin, state, end of the window that says so, and since when, in seconds from the start.
fn said(world: &World) -> Vec<(String, AlertState, i64, i64)> {
    let second = |ms: i64| ms / 1000 - START;
    world
        .events()
        .iter()
        .map(|event| {
            assert_eq!((event.value_kind.as_str(), event.numbers), ("silence", None));
            let of = (event.feed.origin.clone(), event.state);
            (of.0, of.1, second(event.window_end_ms), second(event.since_ms))
        })
        .collect()
}

fn fired(origin: &str, at: i64, since: i64) -> (String, AlertState, i64, i64) {
    (origin.to_owned(), AlertState::Firing, at, since)
}

fn ended(origin: &str, at: i64, since: i64) -> (String, AlertState, i64, i64) {
    (origin.to_owned(), AlertState::Resolved, at, since)
}

#[test]
fn a_feed_that_stops_fires_and_one_sample_ends_it() {
    let mut world = World::new(listening(20, SilentEach::Feed, "uptime"));
    world.tick();
    speak(&mut world, &["web-1", "web-2"], 12);
    speak(&mut world, &["web-2"], 60);
    // Last heard in the window that ended at 15; so at 35 nothing had been heard for 20 s.
    assert_eq!(said(&world), [fired("web-1", 35, 15)]);
    let event = &world.events()[0];
    assert_eq!((event.feed.metric.as_str(), event.hits, event.of), ("uptime", 1, 1));
    speak(&mut world, &["web-1", "web-2"], 15);
    assert_eq!(said(&world)[1..], [ended("web-1", 75, 15)]);
    assert_eq!(world.stats().silent, 1);
}

#[test]
fn a_source_that_is_dead_altogether_is_noticed_without_deliveries() {
    let mut world = World::new(listening(20, SilentEach::Feed, "uptime"));
    world.tick();
    speak(&mut world, &["web-1", "web-2"], 12);
    world.pass_s(50);
    assert_eq!(said(&world), [fired("web-1", 35, 15), fired("web-2", 35, 15)]);
}

#[test]
fn a_standing_silence_is_said_again() {
    let mut world = World::new(listening(20, SilentEach::Feed, "uptime"));
    world.tick();
    speak(&mut world, &["web-1"], 3);
    world.pass_s(200);
    assert_eq!(said(&world), [fired("web-1", 25, 5), fired("web-1", 85, 5), fired("web-1", 145, 5)]);
}

#[test]
fn a_week_of_silence_is_forgotten() {
    let schema = || listening(20, SilentEach::Feed, "uptime");
    let mut world = World::new(schema());
    world.tick();
    speak(&mut world, &["web-1"], 3);
    world.pass_s(60);
    // What the owner remembers, as if a week had passed, less a few seconds.
    let mut snapshot: Snapshot = decode(world.snapshots.last().unwrap()).unwrap();
    let seen = snapshot.watches[0].metrics[0].feeds[0].s.as_mut().unwrap();
    assert_eq!(*seen, Wall::from_secs(START + 5).0);
    *seen = Wall::from_secs(START + 80 - 7 * 86_400).0;
    snapshot.seq += 1;
    world.snapshots.push(encode(&snapshot));
    world.effects.clear();
    world.succeed(schema(), 2);
    world.tick();
    world.pass_s(60);
    assert_eq!(said(&world), [ended("web-1", 80, 5)]);
    assert_eq!(world.stats().silent_forgotten, 1);
}

#[test]
fn other_metrics_and_other_feeds_do_not_count() {
    let mut world = World::new(listening(20, SilentEach::Feed, "uptime"));
    world.tick();
    world.deliver("web-1", "uptime:1|c");
    for _ in 0..50 {
        world.deliver("web-1", "other:1|c");
        world.deliver("db-1", "uptime:1|c");
        world.pass_s(1);
    }
    assert_eq!(said(&world), [fired("web-1", 25, 5)]);
    // With a rule that listens to everything, other metrics do count.
    let mut world = World::new(listening(20, SilentEach::Feed, "*"));
    world.tick();
    world.deliver("web-1", "uptime:1|c");
    for _ in 0..50 {
        world.deliver("web-1", "other:1|c");
        world.pass_s(1);
    }
    assert_eq!(said(&world), []);
}

#[test]
fn a_cluster_is_silent_when_all_its_feeds_are() {
    let mut world = World::new(listening(20, SilentEach::Cluster, "*"));
    world.tick();
    speak(&mut world, &["web-1", "web-2"], 12);
    speak(&mut world, &["web-2"], 60);
    assert_eq!(said(&world), []);
    world.pass_s(40);
    assert_eq!(said(&world), [fired("*", 95, 75)]);
    speak(&mut world, &["web-1"], 15);
    assert_eq!(said(&world).len(), 2);
    assert_eq!(said(&world)[1].1, AlertState::Resolved);
}

/// Nobody could have been heard: bodies of that time come, late, and with the time at which they were written.
#[test]
fn a_backlog_is_no_silence() {
    let mut world = World::new(listening(20, SilentEach::Feed, "uptime"));
    world.tick();
    speak(&mut world, &["web-1", "web-2"], 10);
    let slot = world.slot.unwrap();
    world.connected = false;
    world.send(kinetic_analyzer::machine::Input::SubscriptionLost { slot });
    let from = world.now.wall;
    world.pass_s(300);
    world.connected = true;
    world.recall(slot);
    for second in 0..300 {
        for origin in ["web-1", "web-2"] {
            let at = from + Duration::from_secs(second);
            world.deliver_at(origin, "uptime:1|c", at, false);
        }
    }
    speak(&mut world, &["web-1", "web-2"], 30);
    assert_eq!(said(&world), []);
}

/// The broker was away, and so were its clients: they need a while to come back, and that is nobody's silence.
#[test]
fn time_in_which_nobody_listened_does_not_count() {
    let mut world = World::new(listening(20, SilentEach::Feed, "uptime"));
    world.tick();
    speak(&mut world, &["web-1", "web-2"], 20);
    let slot = world.slot.unwrap();
    world.connected = false;
    world.send(kinetic_analyzer::machine::Input::SubscriptionLost { slot });
    world.pass_s(300);
    world.connected = true;
    world.recall(slot);
    world.pass_s(12);
    assert_eq!(said(&world), [], "nobody has had the time to come back");
    speak(&mut world, &["web-2"], 40);
    let said = said(&world);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!((said[0].0.as_str(), said[0].1), ("web-1", AlertState::Firing));
    assert!((335..355).contains(&said[0].2), "20 s after it could be heard again: {said:?}");
}

#[test]
fn a_successor_knows_who_was_heard_and_who_is_silent() {
    let schema = || listening(20, SilentEach::Feed, "uptime");
    let mut world = World::new(schema());
    world.tick();
    speak(&mut world, &["web-1", "web-2", "web-3"], 12);
    speak(&mut world, &["web-2", "web-3"], 32);
    assert_eq!(said(&world), [fired("web-1", 35, 15)]);
    world.pass_s(7);
    world.effects.clear();
    world.succeed(schema(), 2);
    world.tick();
    world.pass_s(2);
    // One comes back, one stays silent, one falls silent that this node has never heard itself.
    speak(&mut world, &["web-1", "web-2"], 60);
    let said = said(&world);
    let about = |origin: &str| said.iter().filter(|said| said.0 == origin).cloned().collect::<Vec<_>>();
    assert_eq!(about("web-2"), []);
    assert_eq!(
        about("web-1").iter().map(|said| (said.1, said.3)).collect::<Vec<_>>(),
        [(AlertState::Resolved, 15)]
    );
    let third = about("web-3");
    assert_eq!((third[0].1, third[0].3), (AlertState::Firing, 45), "{third:?}");
}

#[test]
fn a_revision_that_does_not_listen_any_more_ends_the_silence() {
    let mut world = World::new(listening(20, SilentEach::Feed, "uptime"));
    world.tick();
    speak(&mut world, &["web-1"], 3);
    world.pass_s(40);
    let schema = std::sync::Arc::new(schema(&[]));
    world.send(kinetic_analyzer::machine::Input::SchemaChanged { schema, revision: "rev2".into() });
    let said = said(&world);
    assert_eq!(
        said.iter().map(|said| said.1).collect::<Vec<_>>(),
        [AlertState::Firing, AlertState::Resolved]
    );
}
