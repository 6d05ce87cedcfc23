//! An analyzer is killed between windows. What it knew of the windows before is not lost with it: its successor counts on
//! from there, and ends an alert that it never began.

use std::time::Duration;

use kinetic_tests::amqp::{Client, Listener, queue_depth};
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{HOSTS, SLOW_HOST, envelope, round, wall_now};
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, World, eventually};
use kinetic_wire::{AlertEvent, AlertState};

on_both_brokers!(the_second_of_three_windows_is_counted_by_the_successor);
on_both_brokers!(a_feed_that_recovers_while_nobody_looks_is_resolved);

/// Window of these stories, in milliseconds: long enough to kill somebody in it, and to publish in what is left.
const WINDOW_MS: i64 = 5_000;
/// Bodies published into each window.
const ROUNDS: usize = 5;

fn the_second_of_three_windows_is_counted_by_the_successor(kind: BrokerKind) {
    let mut story = Story::begin(kind, "2 of 3");
    let mut analyzers = [story.world.analyzer("analyzer-a"), story.world.analyzer("analyzer-b")];
    let first = story.publish_window(true);
    let owner = eventually("the window is closed, and what it left is kept", || {
        let closed =
            analyzers.iter().position(|node| node.metric("kinetic_analyzer_windows_closed_total") > 0);
        closed.filter(|_| story.snapshots() > 0).ok_or("not yet")
    });
    analyzers[owner].process.kill();
    story.publish_window(false);
    let third = story.publish_window(true);
    // A window without data in between, on a slow machine, would have no verdict and not be counted.
    assert!(third >= first + 2 * WINDOW_MS);
    let event = story.event();
    assert_eq!((event.state, event.feed.origin.as_str()), (AlertState::Firing, SLOW_HOST));
    assert_eq!((event.window_start_ms, event.hits, event.of), (third, 2, 3), "{event:?}");
    // On a slow machine it may have let go for a moment, and have taken its own word over after that.
    assert!(recalled(&analyzers[1 - owner]) >= 1);
}

fn a_feed_that_recovers_while_nobody_looks_is_resolved(kind: BrokerKind) {
    let mut story = Story::begin(kind, "1 of 1");
    let mut dead = story.world.analyzer("analyzer-a");
    let first = story.publish_window(true);
    let event = story.event();
    assert_eq!((event.state, event.window_start_ms), (AlertState::Firing, first));
    eventually("what it left is kept", || if story.snapshots() > 0 { Ok(()) } else { Err("not yet") });
    dead.process.kill();
    let second = story.publish_window(false);
    let successor = story.world.analyzer("analyzer-b");
    let resolved = story.event();
    assert_eq!((resolved.state, resolved.feed.origin.as_str()), (AlertState::Resolved, SLOW_HOST));
    assert_eq!(resolved.window_start_ms, second, "{resolved:?}");
    assert_eq!(resolved.since_ms, first + WINDOW_MS, "it knows since when: {resolved:?}");
    assert!(resolved.numbers.is_some(), "a verdict ended it, no silence");
    assert_eq!(recalled(&successor), 1);
}

/// One source, and what its analyzers say.
struct Story {
    world: World,
    client: Client,
    events: Listener,
    last: Option<i64>,
    _roles: [Node; 2],
}

impl Story {
    fn begin(kind: BrokerKind, hysteresis: &'static str) -> Self {
        let acme = Customer::acme(&[Watch { window: "5s", hysteresis, ..Watch::default() }]);
        let world = World::start(kind, std::slice::from_ref(&acme));
        let roles = [world.redirector(), world.alert()];
        let events = Listener::bind(world.control_address(), "kin.alerts", "kin.alerts");
        let client = Client::start(world.customer_address(&acme));
        eventually("the source has a queue", || {
            queue_depth(&world.region_address(), "src.acme.web").map(|_| ()).ok_or("none")
        });
        Self { world, client, events, last: None, _roles: roles }
    }

    /// Waits for the next window that has just begun or is still long enough, and publishes into it; returns its start.
    fn publish_window(&mut self, is_slow: bool) -> i64 {
        let last = self.last;
        let start = eventually("a window begins", || {
            let now = wall_now().as_ms();
            let into = now.rem_euclid(WINDOW_MS);
            let is_next = last.is_none_or(|last| now - into > last);
            if into < WINDOW_MS * 4 / 5 && is_next { Ok(now - into) } else { Err(into) }
        });
        for _ in 0..ROUNDS {
            self.client.publish("in.acme", "web", &envelope(), round(is_slow).as_bytes());
        }
        assert!(
            wall_now().as_ms() < start + WINDOW_MS,
            "this machine is too slow to publish into one window"
        );
        self.last = Some(start);
        start
    }

    /// What the owner of the source has kept.
    fn snapshots(&self) -> u32 {
        queue_depth(&self.world.region_address(), "snap.acme.web").map_or(0, |depth| depth.messages)
    }

    /// The next alert event.
    fn event(&mut self) -> AlertEvent {
        let message =
            eventually("an alert event", || self.events.next_within(Duration::from_secs(1)).ok_or("none"));
        let event: AlertEvent = kinetic_wire::decode(&message.body).expect("an alert event");
        assert!(HOSTS.contains(&event.feed.origin.as_str()));
        event
    }
}

fn recalled(analyzer: &Node) -> u64 {
    analyzer.metric("kinetic_analyzer_snapshots_recalled_total")
}
