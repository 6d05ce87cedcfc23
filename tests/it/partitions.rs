//! A source that is split in three, over two analyzers: the fleet is compared as a whole, and somebody's death in the middle of
//! a window changes no verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kinetic_tests::amqp::{Client, Listener, queue_depth};
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{HOSTS, SLOW_HOST, SLOW_MS, envelope, line, wall_now};
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, World, eventually};
use kinetic_wire::{AlertEvent, AlertState, Envelope, Numbers};

use crate::common::{is_about, only_mails_about};

on_both_brokers!(the_slow_host_of_a_split_fleet_is_mailed_once);
on_both_brokers!(a_death_in_mid_window_changes_no_verdict);
on_both_brokers!(a_running_source_is_split);

/// The source's own queue, and those of its parts.
const QUEUES: [&str; 4] = ["src.acme.web", "src.acme.web.1", "src.acme.web.2", "src.acme.web.3"];
/// Window of the second story, in milliseconds: long enough to kill somebody in the middle.
const WINDOW_MS: i64 = 5_000;
/// Bodies of every host in that window.
const ROUNDS: usize = 10;

fn split(window: &'static str) -> Customer {
    Customer::acme(&[Watch { partitions: 3, window, ..Watch::default() }])
}

/// Both are there before anything is given away, so that each gets some of it: nothing is moved later without need.
fn two_analyzers(world: &World) -> ([Node; 2], Node) {
    let analyzers = ["analyzer-a", "analyzer-b"].map(|name| world.role("analyzer", name, &[]));
    let redirector = world.redirector();
    analyzers.iter().for_each(Node::wait_healthy);
    (analyzers, redirector)
}

fn wait_for_owners(world: &World) {
    for queue in QUEUES {
        eventually(&format!("{queue} has an owner"), || match queue_depth(&world.region_address(), queue) {
            Some(depth) if depth.consumers > 0 => Ok(()),
            other => Err(other),
        });
    }
}

fn samples(analyzer: &Node) -> u64 {
    analyzer.metric("kinetic_analyzer_samples_total")
}

/// One body of every host, each under its own name, as agents send them.
fn publish_round(client: &Client, is_slow: bool) {
    for host in HOSTS {
        let envelope = Envelope { origin: Some(host.into()), ..envelope() };
        client.publish("in.acme", "web", &envelope, line(host, is_slow).as_bytes());
    }
}

/// Hosts that publish until they are dropped.
struct Hosts {
    is_slow: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hosts {
    fn start(world: &World, customer: &Customer) -> Self {
        let (is_slow, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (slow, end, address) =
            (Arc::clone(&is_slow), Arc::clone(&stop), world.customer_address(customer));
        let thread = std::thread::spawn(move || {
            let client = Client::start(address);
            while !end.load(Ordering::SeqCst) {
                publish_round(&client, slow.load(Ordering::SeqCst));
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { is_slow, stop, thread: Some(thread) }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            assert!(std::thread::panicking(), "the hosts' thread panicked");
        }
    }
}

fn the_slow_host_of_a_split_fleet_is_mailed_once(kind: BrokerKind) {
    let acme = split("1s");
    let world = World::start(kind, std::slice::from_ref(&acme));
    let (analyzers, _redirector) = two_analyzers(&world);
    let _alert = world.alert();
    wait_for_owners(&world);
    let mut events = Listener::bind(world.control_address(), "kin.alerts", "kin.alerts");
    let hosts = Hosts::start(&world, &acme);
    eventually("windows are judged, by the work of both analyzers", || {
        let judged: u64 = analyzers.iter().map(|node| node.metric("kinetic_analyzer_judged_total")).sum();
        let owned: Vec<u64> = analyzers.iter().map(|node| node.metric("kinetic_analyzer_sources")).collect();
        if judged >= 3 && owned.iter().all(|owned| *owned > 0) { Ok(()) } else { Err((judged, owned)) }
    });
    hosts.is_slow.store(true, Ordering::SeqCst);
    world.smtp.wait_for("a mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    only_mails_about(&world.smtp, SLOW_HOST, 1);
    let verdicts = firing(&mut events);
    assert!(verdicts.iter().all(|event| event.feed.origin == SLOW_HOST), "{verdicts:?}");
    assert_eq!(numbers(&verdicts[0]).feeds, 8, "the whole fleet is compared");
    for node in &analyzers {
        assert_eq!(node.metric("kinetic_analyzer_windows_incomplete_total"), 0);
        assert_eq!(node.metric("kinetic_analyzer_feeds_in_two_parts_total"), 0);
    }
}

fn a_running_source_is_split(kind: BrokerKind) {
    let whole = Customer::acme(&[Watch { window: "1s", ..Watch::default() }]);
    let world = World::start(kind, std::slice::from_ref(&whole));
    let (analyzers, _redirector) = two_analyzers(&world);
    let _alert = world.alert();
    let count = |name: &str| analyzers.iter().map(|node| node.metric(name)).sum::<u64>();
    let hosts = Hosts::start(&world, &whole);
    eventually("windows are judged", || match count("kinetic_analyzer_judged_total") {
        0..3 => Err("too few"),
        _ => Ok(()),
    });
    split("1s").files().iter().for_each(|file| world.schema.write(file));
    world.schema.push();
    wait_for_owners(&world);
    let (taken, judged) =
        (count("kinetic_analyzer_partial_rows_total"), count("kinetic_analyzer_judged_total"));
    eventually("windows are judged by the values of parts", || {
        let now = (count("kinetic_analyzer_partial_rows_total"), count("kinetic_analyzer_judged_total"));
        if now.0 >= taken + 24 && now.1 >= judged + 3 { Ok(()) } else { Err(now) }
    });
    assert_eq!(world.smtp.inbox().len(), 0, "nobody was slow, whatever the number of parts");
    hosts.is_slow.store(true, Ordering::SeqCst);
    world.smtp.wait_for("a mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    only_mails_about(&world.smtp, SLOW_HOST, 1);
}

fn a_death_in_mid_window_changes_no_verdict(kind: BrokerKind) {
    let acme = split("5s");
    let world = World::start(kind, std::slice::from_ref(&acme));
    let (mut analyzers, _redirector) = two_analyzers(&world);
    let _alert = world.alert();
    wait_for_owners(&world);
    let mut events = Listener::bind(world.control_address(), "kin.alerts", "kin.alerts");
    let client = Client::start(world.customer_address(&acme));
    // Early is the first tenth, so that the kill and what it needs fit into the rest.
    let start_ms = eventually("a window begins", || {
        let now = wall_now().as_ms();
        let into = now.rem_euclid(WINDOW_MS);
        if into < WINDOW_MS / 10 { Ok(now - into) } else { Err(into) }
    });
    (0..ROUNDS).for_each(|_| publish_round(&client, true));
    eventually("all of it has been read", || {
        let read: u64 = analyzers.iter().map(samples).sum();
        // What a new fleet shares out meanwhile is read by two.
        if read >= (ROUNDS * HOSTS.len()) as u64 { Ok(()) } else { Err(read) }
    });
    assert!(wall_now().as_ms() < start_ms + WINDOW_MS, "this machine is too slow to kill in mid-window");
    let killed_at = analyzers[0].process.kill();
    world.smtp.wait_for("a mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    // The lease and its grace, what is left of the window, and its lateness; less than the minute that a missing part would cost.
    assert!(killed_at.elapsed() < Duration::from_secs(45), "{:?} until the mail", killed_at.elapsed());
    assert_eq!(analyzers[1].metric("kinetic_analyzer_windows_incomplete_total"), 0);
    only_mails_about(&world.smtp, SLOW_HOST, 1);
    let verdicts = firing(&mut events);
    assert_eq!(verdicts.len(), 1, "{verdicts:?}");
    assert_eq!((verdicts[0].window_start_ms, verdicts[0].feed.origin.as_str()), (start_ms, SLOW_HOST));
    let numbers = numbers(&verdicts[0]);
    assert_eq!(numbers.feeds, 8);
    assert!((numbers.value - f64::from(SLOW_MS)).abs() < 1e-9, "{numbers:?}");
    // 100 to 107 without 106, and the slow one.
    let mean = (100.0 + 101.0 + 102.0 + 103.0 + 104.0 + 105.0 + 107.0 + 500.0) / 8.0;
    assert!((numbers.mean - mean).abs() < 1e-9, "every sample counts once: {numbers:?}");
}

fn numbers(event: &AlertEvent) -> Numbers {
    event.numbers.expect("a firing verdict has numbers")
}

/// Distinct events so far that say that something fires; there must be one.
fn firing(events: &mut Listener) -> Vec<AlertEvent> {
    let mut found: Vec<AlertEvent> = Vec::new();
    while let Some(message) = events.next_within(Duration::from_secs(1)) {
        let event: AlertEvent = kinetic_wire::decode(&message.body).expect("an alert event");
        if event.state == AlertState::Firing && !found.iter().any(|other| other.id == event.id) {
            found.push(event);
        }
    }
    assert!(!found.is_empty(), "nothing fired");
    found
}
