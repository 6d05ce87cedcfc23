//! Several relays, customers who share them, and mail that had to wait.

use std::collections::BTreeSet;
use std::time::Duration;

use insta::assert_snapshot;
use kinetic_alert::{AlertConfig, Record};
use kinetic_schema::Schema;
use kinetic_schema::schema::{self, Severity};
use kinetic_wire::{AlertEvent, AlertState, Bounce, SuppressionsQuestion, Unsuppress};
use serde_json::json;

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

#[test]
fn one_customers_storm_does_not_delay_anothers_mail() {
    storm_beside_one_alert(10_000);
}

#[test]
#[ignore = "takes a minute without optimisation; the short form tells the same mails"]
fn a_storm_of_a_hundred_thousand_does_not_delay_anothers_mail() {
    storm_beside_one_alert(100_000);
}

/// One customer's storm, and one alert of another's in the middle of it, at a relay that takes a second per mail.
fn storm_beside_one_alert(alerts: usize) {
    let clusters = 2_000;
    let config = AlertConfig { alerts_max: 200_000, outbox_max: 10_000, ..config() };
    let mut world = World::with(config, with_beta(schema(team())));
    world.latency = Duration::from_secs(1);
    for index in 0..alerts {
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

/// A schema in which `acme` may have so many mails an hour, and operators are told what goes wrong.
fn limited(mails_per_hour: u32, to: &[&str]) -> Schema {
    let mut schema = schema(vec![alert_block("team", to)]);
    schema.customers.get_mut(&"acme".into()).unwrap().limits.mails_per_hour = mails_per_hour;
    schema.watchdog = Some(schema::Watchdog {
        to: vec!["ops@mail.example".into()],
        group_wait: Duration::from_secs(1),
        group_interval: Duration::from_secs(10),
        repeat_interval: Duration::from_secs(86_400),
        send_resolved: true,
        analyzer_silent_after: Duration::from_secs(60),
        redirector_silent_after: Duration::from_secs(60),
    });
    schema
}

/// Beyond the limit one digest an hour. What was told and ends is told; a restart in between changes nothing.
#[test]
fn beyond_the_limit_one_digest_an_hour_tells_the_rest() {
    for crashes in [false, true] {
        let config = AlertConfig { stale_after: Duration::from_secs(86_400), ..config() };
        let mut schema = limited(2, &["oncall@acme.example"]);
        for alert in schema.customers.get_mut(&"acme".into()).unwrap().alerts.values_mut() {
            alert.repeat_interval = Duration::from_secs(86_400);
        }
        let mut world = World::with(config, schema);
        for (second, cluster) in [(1, "one"), (2, "two"), (3, "three"), (4, "four")] {
            world.push_at(second as f64, &in_cluster(cluster, event(cluster, AlertState::Firing, second)));
        }
        if crashes {
            world.run_until(30.0);
            world.crash(usize::MAX);
        }
        world.run_until(300.0);
        world.push_at(300.0, &in_cluster("one", event("one", AlertState::Resolved, 300)));
        world.push_at(310.0, &in_cluster("three", event("three", AlertState::Resolved, 310)));
        world.run_until(3_000.0);
        if crashes {
            world.crash(usize::MAX);
        }
        world.run_until(3_800.0);
        let mails: Vec<String> =
            world.mails().lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
        assert_eq!(
            mails,
            [
                "oncall first_firing firing=1 resolved=0 seq=1",
                "oncall first_firing firing=1 resolved=0 seq=1",
                "oncall digest of 2 firing=2 resolved=0 seq=",
                "oncall digest of 2 firing=0 resolved=2 seq=",
            ],
            "{}",
            world.story()
        );
        let at: Vec<f64> = world.inbox.iter().map(|(at, _)| World::secs(*at)).collect();
        assert!(at[3] - at[2] >= 3_600.0, "{at:?}");
        let (_, digest) = &world.inbox[2];
        let precedence = digest.headers.iter().find(|(name, _)| name == "Precedence");
        assert_eq!(precedence.map(|(_, value)| value.as_str()), Some("bulk"));
        for part in [&digest.text, &digest.html] {
            assert!(part.contains("checkout/three") && part.contains("checkout/four"), "{part}");
        }
        assert_eq!((world.stats().outbox, world.stats().streams_held), (0, 0));
    }
}

/// Text of the mails to somebody, the last one last.
fn read_by(world: &World, to: &str) -> Vec<String> {
    world.inbox.iter().filter(|(_, mail)| mail.to == to).map(|(_, mail)| mail.text.clone()).collect()
}

#[test]
fn a_mail_that_expires_is_reported_to_its_recipient_and_to_the_operators() {
    for crashes in [false, true] {
        let config = AlertConfig { mail_expiry: Duration::from_secs(120), ..config() };
        let mut world = World::with(config, limited(60, &["oncall@acme.example"]));
        world.mailboxes.insert("oncall@acme.example".into(), Relay::Defers);
        world.fire(1.0, "web-7");
        world.run_until(125.0);
        assert_eq!(world.stats().mails_expired, 1);
        if crashes {
            world.crash(usize::MAX);
        }
        world.mailboxes.clear();
        world.run_until(300.0);
        let reports = read_by(&world, "ops@mail.example");
        assert_eq!(reports.len(), 1, "{}", world.story());
        assert!(reports[0].contains("Mail to oncall@acme.example of 12:00:02 UTC"), "{}", reports[0]);
        assert!(reports[0].contains("was given up: Defers"), "{}", reports[0]);
        let next = read_by(&world, "oncall@acme.example");
        assert!(
            next[0].contains("Not delivered") && next[0].contains("A mail to you of 12:00:02 UTC"),
            "{}",
            next[0]
        );
        world.fire(320.0, "web-8");
        world.run_until(340.0);
        let later = read_by(&world, "oncall@acme.example");
        assert!(
            later.len() > next.len() && !later.last().unwrap().contains("Not delivered"),
            "it is said once"
        );
    }
}

#[test]
fn an_address_refused_twice_gets_no_more_until_it_is_said_to_be_good() {
    for crashes in [false, true] {
        let to = ["dead@acme.example", "oncall@acme.example"];
        let mut world = World::with(config(), limited(60, &to));
        world.mailboxes.insert(to[0].into(), Relay::RefusesRecipient);
        world.fire(1.0, "web-7");
        world.run_until(10.0);
        assert_eq!(world.stats().suppressed, 0);
        world.fire(20.0, "web-8");
        world.run_until(40.0);
        let suppressions = world.request("suppressions", &SuppressionsQuestion { v: 1, after: None });
        let [said] = &suppressions["suppressions"].as_array().unwrap()[..] else {
            panic!("{suppressions} {}", world.story())
        };
        assert_eq!(
            (said["address"].as_str(), said["detail"].as_str()),
            (Some(to[0]), Some("RefusesRecipient"))
        );
        let tried = world.stats().mails_tried;
        if crashes {
            world.crash(usize::MAX);
        }
        world.mailboxes.clear();
        world.fire(200.0, "web-9");
        world.run_until(300.0);
        assert_eq!(read_by(&world, to[0]).len(), 0, "nothing is sent to it");
        for other in ["ops@mail.example", to[1]] {
            let said = read_by(&world, other);
            let about = said.iter().filter(|text| text.contains("Nothing more is sent to dead@acme.example"));
            assert_eq!(about.count(), 1, "{other}: {said:?}");
        }
        assert!(crashes || world.stats().mails_tried > tried);
        let lift = |address: &str| Unsuppress { v: 1, address: address.into(), author: "ann".into() };
        assert_eq!(world.request("unsuppress", &lift(to[1]))["code"], "unknown_address");
        let lifted = world.request("unsuppress", &lift(&format!("Dead <{}>", to[0])));
        assert_eq!((&lifted["ok"], lifted["suppression"]["address"].as_str()), (&json!(true), Some(to[0])));
        world.run_until(310.0);
        let told = read_by(&world, to[0]);
        assert_eq!(told.len(), 1, "{}", world.story());
        assert!(told[0].contains("Firing (3)"), "{}", told[0]);
        world.crash(usize::MAX);
        assert_eq!(world.stats().suppressed, 0);
    }
}

#[test]
fn a_bounce_counts_like_a_refusal_and_leaves_with_the_address() {
    let mut schema = limited(60, &["dead@acme.example", "oncall@acme.example"]);
    schema.mail.as_mut().unwrap().bounces = Some("bounces@mail.example".into());
    let mut world = World::with(config(), schema.clone());
    world.fire(1.0, "web-7");
    world.run_until(10.0);
    let sender =
        world.inbox.iter().find(|(_, mail)| mail.to.starts_with("dead")).unwrap().1.envelope_from.clone();
    let token =
        sender.as_deref().and_then(|sender| sender.strip_prefix("bounces+")?.strip_suffix("@mail.example"));
    let token = token.unwrap().to_owned();
    let others = world.inbox.iter().filter(|(_, mail)| mail.envelope_from == sender).count();
    assert_eq!(others, 1, "each recipient has a sender of his own");
    let bounced = |world: &mut World, token: &str, status: &str, mail: &str| {
        let detail = "no such user\nX: y".into();
        let bounce =
            Bounce { v: 1, token: token.into(), mail: Some(mail.into()), status: status.into(), detail };
        let reply = world.request("bounce", &bounce);
        let said = |name: &str| reply[name].as_bool().unwrap_or(false);
        (said("ok"), said("counted"), said("suppressed"))
    };
    assert_eq!(bounced(&mut world, &token, "4.2.2", "m1"), (true, false, false));
    assert_eq!(bounced(&mut world, "0123456789abcdef", "5.1.1", "m1"), (false, false, false));
    assert_eq!(bounced(&mut world, &token, "550", "m1"), (false, false, false));
    assert_eq!(bounced(&mut world, &token, "5.1.1", "m1"), (true, true, false));
    // The pipe from the mailbox may say it again: it is one mail that came back.
    assert_eq!(bounced(&mut world, &token, "5.1.1", "m1"), (true, false, false));
    world.crash(usize::MAX);
    assert_eq!(bounced(&mut world, &token, "5.1.1", "m1"), (true, false, false));
    assert_eq!(bounced(&mut world, &token, "5.1.1", "m2"), (true, true, true));
    assert_eq!(world.stats().suppressed, 1);
    // Days later the replayed part of history knows of it from the record that is written again and again.
    world.run_until(3.0 * 86_400.0);
    let recent = world.disk.split_off(world.disk.len() / 2);
    world.disk = recent;
    world.crash(usize::MAX);
    assert_eq!(world.stats().suppressed, 1);
    for alert in schema.customers.get_mut(&"acme".into()).unwrap().alerts.values_mut() {
        alert.to.remove(0);
    }
    world.schema = std::sync::Arc::new(schema);
    world.input(kinetic_alert::Input::SchemaChanged { schema: std::sync::Arc::clone(&world.schema) });
    assert_eq!(world.stats().suppressed, 0, "the schema has changed the address");
}

/// What nodes of before several relays wrote is read, and what is written where nothing new is said is the same.
#[test]
fn records_of_before_are_read() {
    let mut world = World::new(team());
    world.fire(1.0, "web-7");
    world.run_until(10.0);
    let queued = world.disk.iter().find(|(_, record)| matches!(record, Record::MailQueued { .. })).unwrap();
    let json = serde_json::to_value(&queued.1).unwrap();
    let keys =
        |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let wanted = ["kind", "at", "id", "group", "reason", "email", "firing", "resolved", "thread", "seen"];
    assert_eq!(keys(&json), wanted.map(String::from).into());
    let wanted = ["message_id", "from", "to", "subject", "date", "headers", "text", "html"];
    assert_eq!(keys(&json["email"]), wanted.map(String::from).into());
    assert_eq!(serde_json::from_value::<Record>(json).unwrap(), queued.1);
}
