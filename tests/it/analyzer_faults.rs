//! Analyzers that are worse than dead: stopped and waking up late, cut off with their sockets open, or there twice.

use std::time::Duration;

use kinetic_tests::amqp::Client;
use kinetic_tests::needs::{Need, all_here, say};
use kinetic_tests::proxy::Proxy;
use kinetic_tests::schema::Queues;
use kinetic_tests::world::SHORT_LEASE;
use kinetic_tests::{BrokerKind, eventually};
use kinetic_wire::{AlertEvent, AlertId, Envelope, names};

use crate::stage::{RULES, Stage};

on_both_brokers!(a_zombie_says_nothing_twice);
on_both_brokers!(a_silent_network_heals);
on_both_brokers!(a_cut_network_heals);
on_both_brokers!(the_newer_of_two_processes_with_one_name_stays);

/// Half as much again as an analyzer's lease: its sources are given to another by then.
const AWAY: Duration = Duration::from_millis(SHORT_LEASE[0] * 3 / 2 + SHORT_LEASE[1]);

/// SIGSTOP for longer than the lease, then SIGCONT: it wakes with deliveries in its hands that are another's now.
fn a_zombie_says_nothing_twice(kind: BrokerKind) {
    let mut stage = Stage::start(kind);
    let streams = stage.streams();
    stage.verdicts("one", 3);
    let owner = stage.owner("one");
    let other = other_than(&owner);
    stage.analyzer(&owner).process.signal("STOP");
    eventually("its sources are given to the other", || {
        let owned = stage.redirector.metric("kinetic_redirector_leases_lapsed_total");
        if owned == 1 { Ok(()) } else { Err(stage.redirector.metrics()) }
    });
    std::thread::sleep(AWAY);
    stage.analyzer(&owner).process.signal("CONT");
    let taken = stage.ear.wait_for("a verdict of the successor", |heard| {
        heard.event.source.as_str() == "one" && heard.event.node.as_str() == other
    });
    stage.verdicts("one", 3);
    assert!(stage.analyzer(&owner).metric("kinetic_analyzer_fenced_total") >= 1, "it let go of itself");
    // What a zombie's publisher may still have had in its hands: a verdict of before, under the epoch of before.
    let heard = stage.ear.heard();
    let late = heard
        .iter()
        .rfind(|heard| heard.event.node.as_str() == owner && heard.event.epoch < taken.event.epoch);
    publish_again(&stage, &late.expect("it spoke before").event);
    eventually("the late output is refused", || {
        match stage.alert.metric("kinetic_alert_stale_epoch_total") {
            0 => Err("not refused yet"),
            _ => Ok(()),
        }
    });
    stage.finish(streams);
}

/// Publishes an event once more, as if of another window.
fn publish_again(stage: &Stage, event: &AlertEvent) {
    let mut late = event.clone();
    late.id = AlertId(kinetic_tests::dice::uuid());
    late.node = "zombie".into();
    let envelope = Envelope { kind: Some(names::TYPE_ALERT.into()), persistent: true, ..Envelope::default() };
    let client = Client::start(stage.world.control_address());
    client.publish(names::ALERTS, names::ALERTS, &envelope, &kinetic_wire::encode(&late));
}

/// A half-open network between the owner and its broker, for longer than the lease. Then everything that was said comes
/// through at once.
fn a_silent_network_heals(kind: BrokerKind) {
    network_fails(kind, Proxy::fall_silent);
}

/// The same with connections that end.
fn a_cut_network_heals(kind: BrokerKind) {
    network_fails(kind, Proxy::cut);
}

fn network_fails(kind: BrokerKind, fail: fn(&Proxy)) {
    let mut stage = Stage::empty(kind, Queues::Classic, SHORT_LEASE);
    let proxy = Proxy::start(&[stage.world.amqp()]);
    let far = stage.world.role_at(proxy.address(), "analyzer", "far", &[]);
    far.wait_healthy();
    stage.analyzers.push(("far".into(), far));
    stage.wait_owned();
    let streams = stage.streams();
    stage.verdicts("one", 2);
    stage.add("near");
    // A new fleet shares what its first analyzer has taken.
    stage.wait_shared();
    RULES.iter().for_each(|(source, ..)| stage.verdicts(source, 2));
    let of_far = RULES.iter().find(|(source, ..)| stage.owner(source) == "far");
    let (source, ..) = *of_far.expect("it has kept one");
    fail(&proxy);
    eventually("its lease lapses", || {
        let lapsed = stage.redirector.metric("kinetic_redirector_leases_lapsed_total");
        if lapsed == 1 { Ok(()) } else { Err(lapsed) }
    });
    std::thread::sleep(AWAY);
    proxy.heal();
    stage.ear.wait_for("a verdict of the near analyzer", |heard| {
        heard.event.source.as_str() == source && heard.event.node.as_str() == "near"
    });
    stage.verdicts(source, 3);
    eventually("the far analyzer is back", || {
        let known = stage.redirector.metric("kinetic_redirector_analyzers");
        if known == 2 { Ok(()) } else { Err(known) }
    });
    stage.finish(streams);
}

/// A second process starts under the name of the owner, as after a botched upgrade.
fn the_newer_of_two_processes_with_one_name_stays(kind: BrokerKind) {
    let mut stage = Stage::empty(kind, Queues::Classic, SHORT_LEASE);
    stage.add("twin");
    stage.wait_owned();
    let streams = stage.streams();
    stage.verdicts("one", 3);
    let newer = stage.world.twin("analyzer", "twin", "twin-2");
    newer.wait_healthy();
    let older = &stage.analyzers[0].1;
    eventually("the newer has all, the older nothing", || {
        let sources = [older, &newer].map(|node| node.metric("kinetic_analyzer_sources"));
        if sources == [0, 2] { Ok(()) } else { Err(sources) }
    });
    eventually("the redirector counts it", || {
        match stage.redirector.metric("kinetic_redirector_leases_superseded_total") {
            1 => Ok(()),
            other => Err(other),
        }
    });
    older.wait_failing("analyzer");
    stage.verdicts("one", 3);
    assert_eq!(older.metric("kinetic_analyzer_sources"), 0, "it does not come back");
    stage.finish(streams);
}

fn other_than(name: &str) -> &'static str {
    if name == "analyzer-1" { "analyzer-2" } else { "analyzer-1" }
}

/// An owner that is stopped for good with its sockets open: the broker delivers to it until it gives the connection up, which
/// takes two AMQP heartbeats; a lease alone is no way around that.
#[test]
fn an_owner_that_hangs_is_replaced() {
    let story = "analyzer_faults::an_owner_that_hangs_is_replaced";
    if !all_here(story, &[Need::Git, Need::RabbitMq, Need::Patience]) {
        return;
    }
    let mut stage = Stage::start(BrokerKind::RabbitMq);
    let streams = stage.streams();
    stage.verdicts("one", 3);
    let owner = stage.owner("one");
    let stopped = stage.analyzer(&owner).process.signal("STOP");
    let first = stage.ear.wait_for("a verdict of the successor", |heard| {
        heard.event.source.as_str() == "one" && heard.event.node.as_str() != owner
    });
    say(&format!("{story}: the successor's first verdict after {:?}", first.at.duration_since(stopped)));
    stage.analyzers.retain(|(name, _)| *name != owner);
    stage.finish(streams);
}
