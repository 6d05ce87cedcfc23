//! Webhooks among the recipients of an alert block.

use std::time::Duration;

use insta::assert_snapshot;
use kinetic_alert::{AlertConfig, Input, Record};
use kinetic_schema::Schema;
use kinetic_schema::schema::{self, Webhook, WebhookFormat};
use kinetic_wire::{AlertEvent, AlertState, Announcement, decode, encode};
use serde_json::Value;

use crate::json_schema;
use crate::world::{Relay, World, alert_block, config, event, event_of, schema};

const PAGER: &str = "webhook:team/pager";
const OWN: &str = "webhook:team/own";

fn webhook(name: &str, format: WebhookFormat) -> Webhook {
    Webhook { name: name.into(), url: "https://hooks.example/".into(), secret_file: None, format }
}

/// A block with a mailbox and a webhook of each format.
fn team() -> schema::Alert {
    let mut alert = alert_block("team", &["oncall@acme.example"]);
    alert.webhooks =
        vec![webhook("pager", WebhookFormat::Alertmanager), webhook("own", WebhookFormat::Kinetic)];
    alert
}

fn labelled() -> Schema {
    let mut schema = schema(vec![team()]);
    let acme = schema.customers.get_mut(&"acme".into()).unwrap();
    let labels = &mut acme.analytics.get_mut(&"slow-host".into()).unwrap().labels;
    labels.insert("on-call.team".into(), "payments".into());
    // What names an alert is not a label's to say.
    labels.insert("cluster".into(), "not this one".into());
    schema
}

/// What was taken for a recipient, as bodies in order.
fn posted(world: &World, to: &str) -> Vec<Value> {
    let own = world.inbox.iter().filter(|(_, email)| email.to == to);
    own.map(|(_, email)| serde_json::from_str(&email.post.as_ref().unwrap().body).unwrap()).collect()
}

fn mails(world: &World) -> usize {
    world.inbox.iter().filter(|(_, email)| email.post.is_none()).count()
}

fn tried(world: &World, to: &str) -> Vec<i64> {
    let start = crate::world::NOON_S;
    let own = world.tried.iter().filter(|(_, _, email)| email.to == to);
    own.map(|(at, _, _)| at.as_secs() - start).collect()
}

fn in_cluster(cluster: &str, event: AlertEvent) -> AlertEvent {
    AlertEvent { cluster: cluster.into(), ..event }
}

#[test]
fn a_webhook_is_told_what_a_mailbox_is_told() {
    let mut world = World::with(config(), labelled());
    world.fire(1.0, "web-7");
    world.run_until(3.0);
    let first = &posted(&world, PAGER)[0];
    assert_snapshot!(serde_json::to_string_pretty(first).unwrap());
    let own = &posted(&world, OWN)[0];
    // What is posted is what is published.
    assert_eq!(own, &world.announced[0].1);
    assert_eq!(json_schema::problems(json_schema::NOTIFICATION, own), [""; 0]);
    let read: Announcement = decode(own.to_string().as_bytes()).unwrap();
    assert_eq!(&serde_json::from_slice::<Value>(&encode(&read)).unwrap(), own);

    world.resolve(30.0, "web-7");
    world.run_until(60.0);
    let last = posted(&world, PAGER).pop().unwrap();
    assert_eq!(last["status"], "resolved");
    assert_eq!(last["groupKey"], first["groupKey"]);
    let (then, now) = (&first["alerts"][0], &last["alerts"][0]);
    assert_eq!(
        (&now["status"], &now["startsAt"], &now["endsAt"]),
        (&"resolved".into(), &then["startsAt"], &"2026-11-20T12:00:30Z".into())
    );
    assert_eq!((&now["fingerprint"], &now["labels"]), (&then["fingerprint"], &then["labels"]));
    assert_eq!(posted(&world, OWN).pop().unwrap()["state"], "resolved");
    let stats = world.stats();
    assert_eq!((mails(&world), stats.mails_accepted, stats.posts_accepted), (2, 2, 4));
    assert_eq!((stats.posts_queued, stats.posts_tried, stats.posts_in_flight), (4, 4, 0));
}

#[test]
fn a_new_episode_has_the_key_of_the_one_before() {
    let mut world = World::with(config(), labelled());
    world.fire(1.0, "web-7");
    world.resolve(30.0, "web-7");
    world.fire(90.0, "web-8");
    world.run_until(200.0);
    let all = posted(&world, PAGER);
    let keys: Vec<&Value> = all.iter().map(|body| &body["groupKey"]).collect();
    assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    let prints = [&all[0]["alerts"][0]["fingerprint"], &all[2]["alerts"][0]["fingerprint"]];
    assert_ne!(prints[0], prints[1], "another feed is another alert");
}

#[test]
fn one_that_fails_is_probed_and_holds_up_nobody() {
    let mut world = World::with(config(), labelled());
    world.mailboxes.insert(PAGER.into(), Relay::Down);
    for cluster in ["a", "b", "c", "d", "e", "f"] {
        world.push_at(1.0, &in_cluster(cluster, event(cluster, AlertState::Firing, 1)));
    }
    world.run_until(120.0);
    assert_eq!((posted(&world, OWN).len(), mails(&world)), (6, 6));
    let stats = world.stats();
    assert_eq!((stats.receivers_failing, stats.relays_failing), (1, 0));
    // Four that began before anything was known, then one probe after each pause: 1, 2, 4, 8, 15, 30, 60 s.
    let at = tried(&world, PAGER);
    assert_eq!(at, [2, 2, 2, 2, 3, 5, 9, 17, 32, 62], "{at:?}");
    world.mailboxes.remove(PAGER);
    world.run_until(130.0);
    assert_eq!((posted(&world, PAGER).len(), world.stats().receivers_failing), (6, 0));
}

#[test]
fn what_is_tried_again_is_the_same_unless_it_is_no_longer_so() {
    let mut world = World::with(config(), labelled());
    world.mailboxes.insert(PAGER.into(), Relay::Down);
    world.fire(1.0, "web-7");
    world.run_until(8.0);
    let ids: Vec<_> = world.tried.iter().filter(|(_, _, email)| email.to == PAGER).collect();
    assert!(ids.len() >= 3 && ids.iter().all(|(_, id, email)| (id, email) == (&ids[0].1, &ids[0].2)));
    world.fire(20.0, "web-8");
    world.run_until(60.0);
    world.mailboxes.remove(PAGER);
    world.run_until(130.0);
    let all = posted(&world, PAGER);
    assert_eq!((all.len(), all[0]["alerts"].as_array().map(Vec::len)), (1, Some(2)), "{all:#?}");
    assert_eq!(world.stats().posts_superseded, 1);
}

#[test]
fn one_that_may_have_been_taken_comes_again_as_it_was() {
    let mut world = World::with(config(), labelled());
    world.mailboxes.insert(PAGER.into(), Relay::AcceptsUnheard);
    world.fire(1.0, "web-7");
    world.run_until(4.0);
    world.fire(20.0, "web-8");
    world.mailboxes.remove(PAGER);
    world.run_until(60.0);
    let all = posted(&world, PAGER);
    assert_eq!(all[0], all[1]);
    assert_eq!(
        (world.stats().posts_superseded, all.last().unwrap()["alerts"].as_array().unwrap().len()),
        (0, 2)
    );
}

#[test]
fn one_that_asks_for_patience_is_left_alone() {
    let mut world = World::with(config(), labelled());
    world.mailboxes.insert(PAGER.into(), Relay::Busy);
    for cluster in ["a", "b"] {
        world.push_at(1.0, &in_cluster(cluster, event(cluster, AlertState::Firing, 1)));
    }
    world.run_until(300.0);
    assert_eq!(tried(&world, PAGER), [2, 2, 122, 242]);
    assert_eq!((posted(&world, OWN).len(), mails(&world)), (2, 2));
}

#[test]
fn one_that_refuses_is_told_of_and_tried_with_the_next() {
    let mut world = World::with(config(), labelled());
    world.mailboxes.insert(PAGER.into(), Relay::Refuses);
    for (second, cluster) in [(1.0, "a"), (20.0, "b"), (40.0, "c")] {
        world.push_at(second, &in_cluster(cluster, event(cluster, AlertState::Firing, second as i64)));
    }
    world.run_until(300.0);
    assert_eq!(tried(&world, PAGER).len(), 3, "it is not suppressed");
    assert_eq!((world.stats().posts_refused, world.stats().suppressed), (3, 0));
    let report = world.inbox.iter().find(|(_, email)| email.subject.starts_with("[REPORT]"));
    let (_, report) = report.expect("the mailbox beside it is told");
    assert_eq!(report.to, "oncall@acme.example");
    assert!(report.text.contains("What was posted to webhook:team/pager of"), "{}", report.text);
}

#[test]
fn one_is_given_up_in_the_end_and_that_is_said() {
    let config = AlertConfig { mail_expiry: Duration::from_secs(60), ..config() };
    let mut world = World::with(config, labelled());
    world.mailboxes.insert(PAGER.into(), Relay::Down);
    world.fire(1.0, "web-7");
    world.run_until(200.0);
    assert!(world.stats().posts_expired >= 1);
    assert!(world.inbox.iter().any(|(_, email)| email.text.contains("posted to webhook:team/pager")
        && email.text.contains("was given up")));
}

#[test]
fn a_slow_one_has_four_posts_on_their_way() {
    let mut world = World::with(config(), labelled());
    world.latency = Duration::from_secs(10);
    for cluster in ["a", "b", "c", "d", "e", "f"] {
        world.push_at(1.0, &in_cluster(cluster, event(cluster, AlertState::Firing, 1)));
    }
    world.run_until(5.0);
    assert_eq!((tried(&world, PAGER).len(), tried(&world, OWN).len()), (4, 4));
    assert_eq!(world.stats().posts_in_flight, 8);
    world.run_until(40.0);
    assert_eq!((posted(&world, PAGER).len(), posted(&world, OWN).len()), (6, 6));
}

#[test]
fn what_is_posted_is_no_mail_of_the_hour() {
    let mut schema = labelled();
    schema.customers.get_mut(&"acme".into()).unwrap().limits.mails_per_hour = 1;
    let mut world = World::with(config(), schema);
    for cluster in ["a", "b", "c"] {
        world.push_at(1.0, &in_cluster(cluster, event(cluster, AlertState::Firing, 1)));
    }
    world.run_until(30.0);
    assert_eq!((mails(&world), posted(&world, PAGER).len(), posted(&world, OWN).len()), (1, 3, 3));
}

#[test]
fn without_relays_there_are_webhooks() {
    let mut schema = labelled();
    schema.mail = None;
    let mut world = World::with(config(), schema);
    world.fire(1.0, "web-7");
    world.resolve(30.0, "web-7");
    world.run_until(5_000.0);
    assert_eq!((mails(&world), posted(&world, PAGER).len(), posted(&world, OWN).len()), (0, 2, 2));
}

#[test]
fn history_knows_what_is_still_to_be_posted() {
    let mut world = World::with(config(), labelled());
    world.mailboxes.insert(PAGER.into(), Relay::Down);
    world.fire(1.0, "web-7");
    world.run_until(6.0);
    let (_, id, before) = world.tried.iter().rfind(|(_, _, email)| email.to == PAGER).cloned().unwrap();
    world.crash(usize::MAX);
    world.mailboxes.remove(PAGER);
    world.run_until(30.0);
    let (_, again, email) = world.tried.iter().rfind(|(_, _, email)| email.to == PAGER).unwrap();
    assert_eq!((again, email), (&id, &before));
    assert_eq!((posted(&world, PAGER).len(), posted(&world, OWN).len(), mails(&world)), (1, 1, 1));
}

#[test]
fn history_of_before_there_were_webhooks_is_read() {
    let mut world = World::new(vec![alert_block("team", &["oncall@acme.example"])]);
    world.fire(1.0, "web-7");
    world.run_until(3.0);
    let is_mail = |record: &&Record| matches!(record, Record::MailQueued { .. });
    let record = world.disk.iter().map(|(_, record)| record).find(is_mail).unwrap();
    let text = serde_json::to_string(record).unwrap();
    assert!(!text.contains("\"post\""), "{text}");
    assert_eq!(&serde_json::from_str::<Record>(&text).unwrap(), record);
}

#[test]
fn a_body_has_a_bound_and_says_what_it_leaves_out() {
    let mut schema = labelled();
    let acme = schema.customers.get_mut(&"acme".into()).unwrap();
    acme.analytics.get_mut(&"slow-host".into()).unwrap().description = Some("ä".repeat(900));
    let mut world = World::with(config(), schema);
    for k in 0..300 {
        let metric = format!("checkout.{}", "ö".repeat(190));
        world.push_at(1.0, &event_of("acme", &format!("web-{k}"), &metric, AlertState::Firing, 1));
    }
    world.run_until(3.0);
    let body =
        &world.inbox.iter().find(|(_, email)| email.to == PAGER).unwrap().1.post.as_ref().unwrap().body;
    assert!(body.len() < 256 * 1024, "{}", body.len());
    let said: Value = serde_json::from_str(body).unwrap();
    let listed = said["alerts"].as_array().unwrap().len();
    assert!(listed > 20, "{listed}");
    assert_eq!(said["truncatedAlerts"], 300 - listed);
    let own = &world.inbox.iter().find(|(_, email)| email.to == OWN).unwrap().1.post.as_ref().unwrap().body;
    assert!(own.len() < 256 * 1024, "{}", own.len());
    let said: Value = serde_json::from_str(own).unwrap();
    assert_eq!(said["firing_count"], 300);
}

#[test]
fn who_names_no_webhook_any_more_posts_nothing() {
    let mut world = World::with(config(), labelled());
    world.fire(1.0, "web-7");
    world.run_until(3.0);
    let mut without = labelled();
    without.customers.get_mut(&"acme".into()).unwrap().alerts.get_mut("team").unwrap().webhooks.clear();
    world.schema = std::sync::Arc::new(without);
    world.input(Input::SchemaChanged { schema: std::sync::Arc::clone(&world.schema) });
    world.resolve(30.0, "web-7");
    world.run_until(100.0);
    assert_eq!((posted(&world, PAGER).len(), mails(&world)), (1, 2));
}
