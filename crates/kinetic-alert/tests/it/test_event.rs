//! Test events: mailed as an alert would be, and nothing else of what an alert does.

use std::time::Duration;

use kinetic_alert::Record;
use kinetic_schema::schema;
use kinetic_wire::{AlertEvent, AlertState, AnnounceTest, Epoch, Progress, Stage, encode, names};
use serde_json::Value;

use crate::links;
use crate::world::{Relay, World, alert_block, config, event, header, schema as schema_with};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER: &str = "5bf92f3577b34da6a3ce929d0e0e4736";

fn world() -> World {
    World::new(vec![
        alert_block("team", &["oncall@acme.example"]),
        alert_block("boss", &["boss@acme.example"]),
    ])
}

fn announcement(trace: &str) -> AnnounceTest {
    AnnounceTest { v: 1, customer: "acme".into(), trace: trace.into(), to: Vec::new(), wait_ms: 30_000 }
}

fn to_me(trace: &str) -> AnnounceTest {
    AnnounceTest { to: vec!["me@acme.example".into()], ..announcement(trace) }
}

fn announce(world: &mut World, asked: &AnnounceTest) -> Value {
    world.request(names::rpc::TEST_EVENT, asked)
}

fn test_event(trace: &str) -> AlertEvent {
    AlertEvent {
        analytic: names::TEST.into(),
        service: names::TEST.into(),
        cluster: names::TEST.into(),
        traceparent: Some(format!("00-{trace}-00f067aa0ba902b7-01")),
        ..event(&format!("slow {trace}"), AlertState::Firing, 1)
    }
}

fn run_for(world: &mut World, seconds: f64) {
    let now = World::secs(world.now.wall);
    world.run_until(now + seconds);
}

/// Each stage said so far, with the recipient where there is one.
fn said(world: &World) -> Vec<(Stage, Progress, Option<&str>)> {
    world.traced.iter().map(|stage| (stage.stage, stage.progress, stage.to.as_deref())).collect()
}

#[test]
fn an_announced_test_is_recorded_and_mailed_and_says_so_at_every_stage() {
    let mut world = world();
    let reply = announce(&mut world, &announcement(TRACE));
    assert_eq!(reply["to"], serde_json::json!(["boss@acme.example", "oncall@acme.example"]));
    assert_eq!(reply["relays"], serde_json::json!(["127.0.0.1:25"]));
    world.push(&test_event(TRACE));
    run_for(&mut world, 2.0);
    let (boss, oncall) = (Some("boss@acme.example"), Some("oncall@acme.example"));
    let passed: Vec<_> = said(&world);
    let mut expected = vec![(Stage::Stored, None), (Stage::Grouped, None)];
    for stage in [Stage::Queued, Stage::Sending, Stage::Accepted] {
        expected.extend([(stage, boss), (stage, oncall)]);
    }
    let mut got: Vec<_> = passed.iter().map(|(stage, _, to)| (*stage, *to)).collect();
    got.sort();
    assert_eq!(got, expected);
    assert!(passed.iter().all(|(_, progress, _)| *progress == Progress::Passed), "{passed:?}");
    assert!(world.traced.iter().all(|stage| stage.trace == TRACE && stage.customer.as_str() == "acme"));
    let last = world.traced.last().unwrap();
    let (_, mail) = world.inbox.last().unwrap();
    assert_eq!(
        (last.message_id.as_ref(), last.relay.as_deref()),
        (Some(&mail.message_id), Some("127.0.0.1:25"))
    );
    assert_eq!((world.inbox.len(), world.acked, world.stats().tests), (2, 1, 1));
}

#[test]
fn the_mail_is_marked_as_a_test_in_every_way() {
    let mut world = world();
    announce(&mut world, &to_me(TRACE));
    world.push(&test_event(TRACE));
    run_for(&mut world, 2.0);
    let [(_, mail)] = world.inbox.as_slice() else { panic!("{:?}", world.inbox) };
    assert_eq!(mail.to, "me@acme.example");
    assert_eq!(mail.subject, "[TEST] acme: a test of alerting, nothing is wrong");
    assert_eq!(header(mail, "Auto-Submitted"), "auto-generated");
    assert_eq!(header(mail, "Kinetic-Trace"), TRACE);
    assert_eq!(header(mail, "X-Kinetic-State"), "test");
    assert!(mail.headers.iter().all(|(name, _)| name != "In-Reply-To" && name != "References"));
    for words in ["This is a test", "Nothing is wrong", "source web", "analyzer-1 (epoch 4)", TRACE] {
        assert!(mail.text.contains(words), "{words}: {}", mail.text);
        assert!(mail.html.contains(words), "{words}: {}", mail.html);
    }
}

#[test]
fn a_test_is_nothing_that_alerts_know_of() {
    let mut world = world();
    announce(&mut world, &announcement(TRACE));
    world.push(&test_event(TRACE));
    run_for(&mut world, 1_000.0);
    let stats = world.stats();
    assert_eq!((stats.events, stats.alerts, stats.groups, stats.outbox), (0, 0, 0, 0));
    assert_eq!(world.inbox.len(), 2, "no repeat, no end");
    assert!(world.announced.is_empty(), "nothing on kin.notifications");
    let episodes = world.request("episodes", &serde_json::json!({"v": 1}));
    assert_eq!(episodes["episodes"], serde_json::json!([]));
    // Nor does a restart.
    world.crash(0);
    run_for(&mut world, 1_000.0);
    assert_eq!((world.inbox.len(), world.stats().groups, world.stats().outbox), (2, 0, 0));
}

#[test]
fn what_was_not_announced_is_acknowledged_and_not_mailed() {
    let mut world = world();
    let unknown = |trace| AlertEvent { epoch: Epoch(0), ..test_event(trace) };
    world.push(&unknown(TRACE));
    run_for(&mut world, 1.0);
    assert_eq!(said(&world), [(Stage::Stored, Progress::Failed, None)]);
    announce(&mut world, &announcement(TRACE));
    world.push(&unknown(OTHER));
    world.push(&AlertEvent { traceparent: None, id: event("x", AlertState::Firing, 7).id, ..unknown(OTHER) });
    run_for(&mut world, 60.0);
    world.push(&unknown(TRACE));
    run_for(&mut world, 60.0);
    assert_eq!((world.inbox.len(), world.acked, world.rejected), (0, 4, 0));
    assert_eq!(world.stats().tests_unannounced, 4, "its time was up as well");
}

#[test]
fn an_announcement_that_a_restart_forgot_mails_nothing() {
    let mut world = world();
    announce(&mut world, &announcement(TRACE));
    world.push(&test_event(TRACE));
    assert!(world.deliver_one());
    world.write(9);
    world.crash(0);
    run_for(&mut world, 60.0);
    assert!(world.inbox.is_empty(), "{}", world.story());
    assert_eq!(world.stats().outbox, 0);
}

#[test]
fn an_event_that_comes_again_is_one_test() {
    let mut world = world();
    announce(&mut world, &to_me(TRACE));
    world.push(&test_event(TRACE));
    world.push(&test_event(TRACE));
    assert!(world.deliver_one() && world.deliver_one());
    assert_eq!(world.acked, 0, "not before it is on disk");
    run_for(&mut world, 1.0);
    world.push(&test_event(TRACE));
    run_for(&mut world, 1.0);
    assert_eq!((world.inbox.len(), world.acked), (1, 3));
    // A connection that was lost in between brings it again too.
    world.run_until(60.0);
    announce(&mut world, &to_me(OTHER));
    world.push(&test_event(OTHER));
    assert!(world.deliver_one());
    world.lose_subscription();
    run_for(&mut world, 5.0);
    assert_eq!((world.inbox.len(), world.acked), (2, 4));
}

#[test]
fn one_test_of_a_customer_at_a_time_and_not_too_often() {
    let mut world = world();
    assert_eq!(announce(&mut world, &to_me(TRACE))["ok"], true);
    assert_eq!(announce(&mut world, &to_me(TRACE))["ok"], true, "the answer was lost");
    assert_eq!(announce(&mut world, &to_me(OTHER))["code"], "test_under_way");
    world.push(&test_event(TRACE));
    run_for(&mut world, 1.0);
    assert_eq!(world.inbox.len(), 1);
    assert_eq!(announce(&mut world, &to_me(OTHER))["code"], "test_under_way", "too soon");
    assert_eq!((world.stats().tests, world.stats().tests_refused), (1, 2));
    run_for(&mut world, 3.0);
    assert_eq!(announce(&mut world, &to_me(OTHER))["ok"], true, "that one is over");
}

#[test]
fn one_that_was_announced_and_never_came_is_in_nobodys_way() {
    let mut world = world();
    announce(&mut world, &to_me(TRACE));
    run_for(&mut world, 3.0);
    assert_eq!(announce(&mut world, &to_me(OTHER))["ok"], true);
    world.push(&AlertEvent { epoch: Epoch(0), ..test_event(TRACE) });
    world.push(&test_event(OTHER));
    run_for(&mut world, 2.0);
    assert_eq!((world.inbox.len(), world.stats().tests_unannounced), (1, 1));
    // One that has come and waits for a relay is.
    let mut world = World::new(Vec::new());
    world.relay = Relay::Down;
    announce(&mut world, &to_me(TRACE));
    world.push(&test_event(TRACE));
    run_for(&mut world, 10.0);
    assert_eq!(announce(&mut world, &to_me(OTHER))["code"], "test_under_way");
}

#[test]
fn what_cannot_be_tested_is_refused_with_a_reason() {
    let refused = |world: &mut World, asked: AnnounceTest| {
        let reply = announce(world, &asked);
        assert_eq!(reply["ok"], false, "{reply}");
        format!("{}: {}", reply["code"].as_str().unwrap(), reply["message"].as_str().unwrap())
    };
    let mut nobody = World::new(Vec::new());
    let mut off = schema_with(Vec::new());
    off.customers.get_mut(&"acme".into()).unwrap().disabled = true;
    let no_relay = schema::Schema { mail: None, ..schema_with(Vec::new()) };
    let said = [
        refused(&mut nobody, announcement(TRACE)),
        refused(&mut nobody, AnnounceTest { customer: "umbrella".into(), ..announcement(TRACE) }),
        refused(&mut nobody, announcement("trace")),
        refused(&mut nobody, AnnounceTest { to: vec!["me".into()], ..announcement(TRACE) }),
        refused(&mut nobody, AnnounceTest { to: vec!["me@x\r\nBcc: y@z".into()], ..announcement(TRACE) }),
        refused(&mut World::with(config(), off), announcement(TRACE)),
        refused(&mut World::with(config(), no_relay), announcement(TRACE)),
    ];
    insta::assert_snapshot!(said.join("\n"), @"
    invalid: no alert block of this customer names a recipient: name one
    unknown_customer: the schema has no customer of this name
    invalid: a trace id has 32 hexadecimal digits
    invalid: me is no address
    invalid: an address holds control characters
    disabled: the schema has switched this customer off
    invalid: the schema names no mail relay: nobody can be mailed
    ");
    let customers = nobody.ask("acme.first", names::rpc::TEST_EVENT, &encode(&to_me(TRACE)));
    assert_eq!(nobody.replies[&customers]["code"], "unauthenticated");
}

#[test]
fn a_relay_that_fails_is_said_in_its_words_and_the_mail_is_withdrawn_in_time() {
    let mut world = world();
    world.relay = Relay::Down;
    announce(&mut world, &to_me(TRACE));
    world.push(&test_event(TRACE));
    run_for(&mut world, 20.0);
    let waits: Vec<_> = world.traced.iter().filter(|stage| stage.progress == Progress::Waits).collect();
    assert!(waits.len() >= 2, "{waits:?}");
    assert!(waits.iter().all(|stage| !stage.detail.is_empty() && stage.to.is_some()), "{waits:?}");
    run_for(&mut world, 20.0);
    let last = world.traced.last().unwrap();
    assert_eq!((last.stage, last.progress), (Stage::Accepted, Progress::Failed));
    assert!(last.detail.starts_with("withdrawn; last: "), "{}", last.detail);
    world.relay = Relay::Up;
    run_for(&mut world, 3_600.0);
    assert!(world.inbox.is_empty(), "no test comes late");
    assert_eq!(world.stats().outbox, 0);
}

#[test]
fn a_relay_that_comes_up_in_time_takes_it() {
    let mut world = world();
    world.relay = Relay::Down;
    announce(&mut world, &to_me(TRACE));
    world.push(&test_event(TRACE));
    run_for(&mut world, 5.0);
    world.relay = Relay::Up;
    run_for(&mut world, 20.0);
    assert_eq!(world.inbox.len(), 1);
    assert_eq!(said(&world).last().unwrap().0, Stage::Accepted);
    assert_eq!(said(&world).last().unwrap().1, Progress::Passed);
}

#[test]
fn a_refusal_ends_it_and_is_no_mark_against_the_address() {
    let mut world = world();
    world.relay = Relay::RefusesRecipient;
    for (at, trace) in [(1.0, TRACE), (100.0, OTHER), (200.0, &TRACE.replace('4', "6"))] {
        world.run_until(at);
        announce(&mut world, &to_me(trace));
        world.push(&test_event(trace));
        run_for(&mut world, 5.0);
        let last = world.traced.last().unwrap();
        assert_eq!((last.stage, last.progress), (Stage::Accepted, Progress::Failed), "{last:?}");
    }
    assert_eq!((world.stats().suppressed, world.stats().refusals), (0, 0));
    let reports = world.disk.iter().filter(|(_, record)| matches!(record, Record::DigestQueued { .. }));
    assert_eq!(reports.count(), 0);
}

#[test]
fn tests_and_storms_do_not_know_each_other() {
    let mut schema = schema_with(vec![alert_block("team", &["oncall@acme.example"])]);
    schema.customers.get_mut(&"acme".into()).unwrap().limits.mails_per_hour = 1;
    let mut world = World::with(config(), schema);
    for (at, trace) in [(1.0, TRACE), (100.0, OTHER)] {
        world.run_until(at);
        announce(&mut world, &announcement(trace));
        world.push(&test_event(trace));
        run_for(&mut world, 5.0);
    }
    assert_eq!(world.inbox.len(), 2, "beyond the customer's limit");
    world.fire(200.0, "web-7");
    world.run_until(210.0);
    assert_eq!(world.inbox.len(), 3, "and the customer's one mail is still his");
}

#[test]
fn no_more_recipients_than_the_bound() {
    let many: Vec<String> = (0..20).map(|n| format!("p{n:02}@acme.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut world = World::new(vec![alert_block("team", &many), alert_block("again", &many[..3])]);
    let reply = announce(&mut world, &announcement(TRACE));
    assert_eq!((reply["to"].as_array().unwrap().len(), reply["cut"].as_u64()), (16, Some(4)));
    world.push(&test_event(TRACE));
    run_for(&mut world, 5.0);
    assert_eq!(world.inbox.len(), 16);
    world.assert_ids_name_one_mail();
}

#[test]
fn a_full_outbox_is_said() {
    let mut world = World::with(
        kinetic_alert::AlertConfig { outbox_max: 4, ..config() },
        schema_with(vec![alert_block("team", &["a@acme.example", "b@acme.example"])]),
    );
    world.latency = Duration::from_secs(5);
    announce(&mut world, &announcement(TRACE));
    world.push(&test_event(TRACE));
    run_for(&mut world, 20.0);
    let failed: Vec<_> = world.traced.iter().filter(|stage| stage.progress == Progress::Failed).collect();
    let [failed] = failed.as_slice() else { panic!("{failed:?}") };
    assert_eq!((failed.stage, failed.to.as_deref()), (Stage::Queued, Some("b@acme.example")));
    assert_eq!(world.inbox.len(), 1);
}

#[test]
fn who_has_taken_himself_off_gets_no_tests_either() {
    let block = alert_block("team", &[links::ANN, links::BOB]);
    let mut world = World::with(config(), links::schema(vec![block], Some("https://alerts.acme.example")));
    world.fire(1.0, "web-7");
    world.run_until(5.0);
    let unsubscribe = links::links(links::last(&world, links::ANN))[2].rsplit('/').next().unwrap().to_owned();
    assert_eq!(links::act(&mut world, &unsubscribe, None, None)["unsubscribed"], true);
    let reply = announce(&mut world, &announcement(TRACE));
    assert_eq!(reply["to"], serde_json::json!([links::BOB]));
}
