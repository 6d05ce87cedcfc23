//! Several relays, customers who share them, and mail that had to wait.

use std::collections::BTreeSet;
use std::time::Duration;

use insta::assert_snapshot;
use kinetic_alert::AlertConfig;
use kinetic_schema::Schema;
use kinetic_schema::schema::{self, Severity};
use kinetic_wire::{AlertEvent, AlertState};

use crate::world::{Relay, World, alert_block, config, event, event_of, schema};

/// A schema with one more relay, named `second`.
fn with_fallback(mut schema: Schema) -> Schema {
    let mail = schema.mail.as_mut().unwrap();
    let second = schema::Relay { name: "second".into(), ..mail.relays[0].clone() };
    mail.relays.push(second);
    schema
}

fn team() -> Vec<schema::Alert> {
    vec![alert_block("team", &["oncall@acme.example"])]
}

/// A schema with a second customer, `beta`, like the first.
fn with_beta(mut schema: Schema) -> Schema {
    let mut beta = schema.customers[&"acme".into()].clone();
    beta.name = "beta".into();
    for alert in beta.alerts.values_mut() {
        alert.to = vec!["oncall@beta.example".into()];
    }
    schema.customers.insert("beta".into(), beta);
    schema
}

fn in_cluster(cluster: &str, event: AlertEvent) -> AlertEvent {
    AlertEvent { cluster: cluster.into(), ..event }
}

#[test]
fn the_second_relay_takes_over_and_gives_back() {
    let mut world = World::with(config(), with_fallback(schema(team())));
    world.relays.insert("127.0.0.1:25".into(), Relay::Down);
    world.fire(1.0, "web-7");
    world.run_until(3.0);
    assert_eq!(world.taken_by, ["second"]);
    assert_eq!((world.stats().relays, world.stats().relays_failing), (2, 1));
    world.relays.insert("127.0.0.1:25".into(), Relay::Up);
    world.fire(20.0, "web-8");
    world.run_until(25.0);
    assert_eq!(world.taken_by, ["second", "127.0.0.1:25"]);
    assert_eq!(world.stats().relays_failing, 0);
}

#[test]
fn a_mail_that_one_relay_defers_is_offered_to_the_other() {
    let mut world = World::with(config(), with_fallback(schema(team())));
    world.relays.insert("127.0.0.1:25".into(), Relay::Defers);
    world.fire(1.0, "web-7");
    world.run_until(4.0);
    assert_eq!(world.taken_by, ["second"]);
    assert_eq!((world.stats().mails_tried, world.stats().relays_failing), (2, 0));
}

#[test]
fn within_a_customer_the_gravest_goes_first() {
    let mut schema = schema(team());
    let acme = schema.customers.get_mut(&"acme".into()).unwrap();
    let mut grave = acme.analytics[&"slow-host".into()].clone();
    grave.name = "grave".into();
    grave.severity = Severity::Critical;
    acme.analytics.insert("grave".into(), grave);
    acme.alerts.get_mut("team").unwrap().analytics.push("grave".into());
    let mut world = World::with(config(), schema);
    world.relay = Relay::Down;
    for (second, cluster, analytic) in
        [(1, "one", "slow-host"), (2, "two", "slow-host"), (3, "three", "grave")]
    {
        let mut event = in_cluster(cluster, event(cluster, AlertState::Firing, second));
        event.analytic = analytic.into();
        world.push_at(second as f64, &event);
    }
    world.run_until(20.0);
    world.relay = Relay::Up;
    world.latency = Duration::from_millis(10);
    world.run_until(100.0);
    let order: Vec<&str> = world.inbox.iter().map(|(_, mail)| mail.text.split(' ').next().unwrap()).collect();
    assert_eq!(order, ["three", "one", "two"]);
}

/// Down from 10:00 for a day. What each mail says holds at the moment at which it is sent.
#[test]
fn a_relay_down_for_a_day_drains_by_urgency_and_says_what_holds_now() {
    let mut block = alert_block("team", &["oncall@acme.example"]);
    block.repeat_interval = Duration::from_secs(4 * 3_600);
    let config = AlertConfig {
        mail_expiry: Duration::from_secs(7 * 86_400),
        stale_after: Duration::from_secs(7 * 86_400),
        ..config()
    };
    let mut world = World::with(config, schema(vec![block]));
    let fire = |world: &mut World, secs: f64, cluster: &str, origin: &str, state| {
        world.push_at(secs, &in_cluster(cluster, event(&format!("{cluster}-{origin}"), state, secs as i64)));
    };
    // One cluster is told of before; the others never were.
    fire(&mut world, 1.0, "told", "a", AlertState::Firing);
    world.run_until(60.0);
    world.relay = Relay::Down;
    fire(&mut world, 100.0, "same", "a", AlertState::Firing);
    fire(&mut world, 200.0, "gone", "a", AlertState::Firing);
    fire(&mut world, 300.0, "more", "a", AlertState::Firing);
    fire(&mut world, 4_000.0, "more", "b", AlertState::Firing);
    fire(&mut world, 8_000.0, "gone", "a", AlertState::Resolved);
    fire(&mut world, 9_000.0, "told", "a", AlertState::Resolved);
    fire(&mut world, 20_000.0, "more", "c", AlertState::Firing);
    fire(&mut world, 30_000.0, "more", "c", AlertState::Resolved);
    world.crash(usize::MAX);
    world.run_until(86_400.0);
    let before = world.inbox.len();
    world.relay = Relay::Up;
    world.run_until(86_600.0);
    assert_snapshot!(world.mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    86460 oncall first_firing firing=1 resolved=0 seq=1
    86460 oncall resolved firing=0 resolved=1 seq=2
    86460 oncall delivery_resumed firing=0 resolved=1 seq=2
    86460 oncall delivery_resumed firing=2 resolved=1 seq=2
    "#);
    let firing_now = ["same-a", "more-a", "more-b"];
    let now = &world.inbox[before..];
    for (_, mail) in now {
        let listed = mail.text.split("\nResolved (").next().unwrap();
        let listed = listed.split_once("\nFiring (").map_or("", |(_, rows)| rows);
        for name in ["told-a", "same-a", "gone-a", "more-a", "more-b", "more-c"] {
            assert!(
                !listed.contains(name) || firing_now.contains(&name),
                "{name} no longer fires:\n{}",
                mail.text
            );
        }
    }
    for name in firing_now {
        assert!(now.iter().any(|(_, mail)| mail.text.contains(name)), "{name} is not told of");
    }
    let (_, last) = now.last().unwrap();
    let waited = "Mail about this could not be sent from 12:05:01 UTC on; this mail says";
    assert!(last.text.contains(waited) && last.html.contains(waited), "{}", last.text);
    assert!(
        last.text.contains("more-c  checkout.latency  back at 103.4, 12:00:01 to 20:20:00 UTC"),
        "{}",
        last.text
    );
    world.assert_ids_name_one_mail();
    assert_eq!(world.stats().outbox, 0);
}

#[test]
fn a_mail_that_may_have_been_taken_is_repeated_as_it_is() {
    let mut world = World::new(team());
    world.relay = Relay::AcceptsUnheard;
    world.fire(1.0, "web-7");
    world.run_until(3.0);
    world.relay = Relay::Down;
    world.fire(20.0, "web-8");
    world.run_until(100.0);
    assert_eq!(world.stats().mails_superseded, 0);
    world.relay = Relay::Up;
    world.run_until(300.0);
    let ids: BTreeSet<&str> = world.inbox.iter().map(|(_, mail)| mail.message_id.as_str()).collect();
    assert_eq!(ids.len(), 2);
    world.assert_ids_name_one_mail();
}

/// One customer's storm, and one alert of another's in the middle of it, at a relay that takes a second per mail.
#[test]
fn one_customers_storm_does_not_delay_anothers_mail() {
    const STORM: usize = 100_000;
    let clusters = 2_000;
    let config = AlertConfig { alerts_max: 200_000, outbox_max: 10_000, ..config() };
    let mut schema = with_beta(schema(team()));
    schema.customers.get_mut(&"acme".into()).unwrap().mails_per_hour = 1_000_000;
    let mut world = World::with(config, schema);
    world.latency = Duration::from_secs(1);
    for index in 0..STORM {
        let cluster = format!("c{}", index % clusters);
        world.push(&in_cluster(&cluster, event(&format!("host-{index}"), AlertState::Firing, 1)));
    }
    world.run_until(5.0);
    assert!(world.stats().outbox > 1_000, "{:?}", world.stats());
    world.push_at(5.0, &event_of("beta", "web-7", "checkout.latency", AlertState::Firing, 5));
    world.run_until(12.0);
    let of_beta = |mail: &kinetic_alert::Email| mail.to.ends_with("beta.example");
    let (at, _) = world.inbox.iter().find(|(_, mail)| of_beta(mail)).expect("the other customer's mail");
    // Due at 6 by `group_wait`; one second is the relay's own.
    assert!(World::secs(*at) < 8.0, "delayed until {}", World::secs(*at));
}
