//! An analyzer is killed in the middle of a window: the broker gives what it held to the other one, which reaches the
//! verdict that the dead one would have reached, once.

use std::time::Duration;

use kinetic_tests::amqp::{Client, Listener, queue_depth};
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{HOSTS, SLOW_HOST, SLOW_MS, envelope, round, wall_now};
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, World, eventually};
use kinetic_wire::{AlertEvent, AlertState};

use crate::common::{is_about, only_mails_about};

on_both_brokers!(the_successor_reaches_the_same_verdict);

/// Window of this story, in milliseconds: long enough to kill somebody in the middle.
const WINDOW_MS: i64 = 5_000;
/// Bodies published into the one window.
const ROUNDS: u64 = 10;

fn the_successor_reaches_the_same_verdict(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch { window: "5s", ..Watch::default() }]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let _redirector = world.redirector();
    let _alert = world.alert();
    let mut analyzers = [world.analyzer("analyzer-a"), world.analyzer("analyzer-b")];
    let mut events = Listener::bind(world.control_address(), "kin.alerts", "kin.alerts");
    eventually("the source has an owner", || match queue_depth(&world.region_address(), "src.acme.web") {
        Some(depth) if depth.consumers > 0 => Ok(()),
        other => Err(other),
    });
    let window_start_ms = publish_early_in_a_window(&Client::start(world.customer_address(&acme)));
    let owner = eventually("one analyzer has all of it", || {
        let counts: Vec<u64> = analyzers.iter().map(samples).collect();
        counts.iter().position(|count| *count == ROUNDS * HOSTS.len() as u64).ok_or(counts)
    });
    assert!(
        wall_now().as_ms() < window_start_ms + WINDOW_MS,
        "this machine is too slow to kill in mid-window"
    );
    analyzers[owner].process.kill();
    let successor = &analyzers[1 - owner];
    world.smtp.wait_for("a mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    assert_eq!(samples(successor), ROUNDS * HOSTS.len() as u64, "{}", successor.metrics());
    only_mails_about(&world.smtp, SLOW_HOST, 1);
    let verdict = firing_events(&mut events).remove(0);
    assert_eq!(verdict.feed.origin, SLOW_HOST);
    assert_eq!(
        (verdict.window_start_ms, verdict.window_end_ms),
        (window_start_ms, window_start_ms + WINDOW_MS)
    );
    let numbers = verdict.numbers.expect("a firing verdict has numbers");
    assert_eq!(numbers.feeds, 8);
    assert!((numbers.value - f64::from(SLOW_MS)).abs() < 1e-9, "{numbers:?}");
    // 100 to 107 without 106, and the slow one.
    let mean = (100.0 + 101.0 + 102.0 + 103.0 + 104.0 + 105.0 + 107.0 + 500.0) / 8.0;
    assert!((numbers.mean - mean).abs() < 1e-9, "every sample counts once: {numbers:?}");
}

/// Waits for the beginning of a window and publishes; returns the window's start.
fn publish_early_in_a_window(client: &Client) -> i64 {
    // Early is the first tenth, so that the kill and what it needs fit into the rest.
    let start = eventually("a window begins", || {
        let now = wall_now().as_ms();
        let into = now.rem_euclid(WINDOW_MS);
        if into < WINDOW_MS / 10 { Ok(now - into) } else { Err(into) }
    });
    for _ in 0..ROUNDS {
        client.publish("in.acme", "web", &envelope(), round(true).as_bytes());
    }
    start
}

fn samples(analyzer: &Node) -> u64 {
    analyzer.metric("kinetic_analyzer_samples_total")
}

/// Distinct events so far; there must be at least one, all about one verdict.
fn firing_events(events: &mut Listener) -> Vec<AlertEvent> {
    let mut found: Vec<AlertEvent> = Vec::new();
    while let Some(message) = events.next_within(Duration::from_secs(1)) {
        let event: AlertEvent = kinetic_wire::decode(&message.body).expect("an alert event");
        if !found.iter().any(|other| other.id == event.id) {
            found.push(event);
        }
    }
    let firing: Vec<AlertEvent> =
        found.into_iter().filter(|event| event.state == AlertState::Firing).collect();
    assert_eq!(firing.len(), 1, "{firing:?}");
    firing
}
