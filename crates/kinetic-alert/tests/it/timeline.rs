//! Events at their moments, mails at theirs.

use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;
use kinetic_alert::{Input, Record};
use kinetic_wire::AlertState;

use crate::world::{Relay, World, alert_block, config, event, header, schema};

fn world() -> World {
    World::new(vec![alert_block("team", &["oncall@acme.example"])])
}

#[test]
fn pushed_at_one_mailed_at_two() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.run_until(1.999);
    assert_snapshot!(world.mails(), @"");
    world.run_until(3.0);
    assert_snapshot!(world.mails(), @"2 oncall first_firing firing=1 resolved=0 seq=1");
    assert_eq!(world.acked, 1);
    assert_eq!(world.announced.len(), 1);
    assert_eq!(world.announced[0].0, "acme.slow-host.firing");
}

#[test]
fn group_wait_of_zero_mails_at_once() {
    let mut world = World::new(vec![kinetic_schema::schema::Alert {
        group_wait: Duration::ZERO,
        ..alert_block("team", &["oncall@acme.example"])
    }]);
    world.fire(1.0, "web-7");
    assert_snapshot!(world.mails(), @"1 oncall first_firing firing=1 resolved=0 seq=1");
}

#[test]
fn company_within_group_wait_shares_one_mail() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.fire(1.5, "web-8");
    world.fire(1.9, "web-9");
    world.run_until(60.0);
    assert_snapshot!(world.mails(), @"2 oncall first_firing firing=3 resolved=0 seq=1");
}

#[test]
fn every_reason_in_one_episode() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.fire(4.0, "web-8");
    world.resolve(20.0, "web-8");
    world.run_until(700.0);
    world.resolve(700.0, "web-7");
    world.run_until(2_000.0);
    assert_snapshot!(world.mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    12 oncall more_firing firing=2 resolved=0 seq=2
    22 oncall fewer_firing firing=1 resolved=1 seq=3
    622 oncall repeat_interval_elapsed firing=1 resolved=0 seq=4
    701 oncall resolved firing=0 resolved=1 seq=5
    "#);
    assert_eq!(world.stats().alerts, 0);
    assert_eq!(world.stats().groups, 0);
    let roots: Vec<&str> = world.inbox.iter().map(|(_, email)| header(email, "References")).collect();
    assert!(roots.windows(2).all(|pair| pair[0] == pair[1]), "{roots:?}");
    let subjects: Vec<&str> = world.inbox.iter().map(|(_, email)| email.subject.as_str()).collect();
    assert_snapshot!(subjects.join("\n"), @r#"
    [FIRING] checkout/frontends: web-7 checkout.latency above its peers
    [FIRING 2] checkout/frontends: web-7 checkout.latency above its peers
    [FIRING] checkout/frontends: web-7 checkout.latency above its peers
    [STILL FIRING] checkout/frontends: web-7 checkout.latency above its peers
    [RESOLVED] checkout/frontends: web-7 checkout.latency above its peers
    "#);
}

#[test]
fn a_second_episode_has_a_root_of_its_own() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.resolve(5.0, "web-7");
    world.fire(40.0, "web-7");
    world.run_until(60.0);
    assert_snapshot!(world.mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    12 oncall resolved firing=0 resolved=1 seq=2
    41 oncall first_firing firing=1 resolved=0 seq=1
    "#);
    assert_ne!(header(&world.inbox[0].1, "References"), header(&world.inbox[2].1, "References"));
    world.assert_ids_name_one_mail();
}

#[test]
fn fired_and_resolved_between_flushes_is_never_mailed() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.resolve(1.5, "web-7");
    world.run_until(100.0);
    assert_snapshot!(world.mails(), @"");
    assert_eq!(world.stats().alerts, 0);
    // The same beside one that stays: it appears neither as firing nor as resolved.
    world.fire(101.0, "web-1");
    world.run_until(105.0);
    world.fire(106.0, "web-7");
    world.resolve(107.0, "web-7");
    world.run_until(130.0);
    assert_snapshot!(world.mails(), @"102 oncall first_firing firing=1 resolved=0 seq=1");
}

#[test]
fn flapping_faster_than_group_wait_is_one_episode() {
    let mut world = world();
    for second in (0..120).step_by(2) {
        world.fire(f64::from(second), "web-7");
        world.run_until(f64::from(second) + 1.2);
        world.resolve(f64::from(second) + 1.5, "web-7");
    }
    world.run_until(200.0);
    assert_snapshot!(world.mails(), @r#"
    1 oncall first_firing firing=1 resolved=0 seq=1
    120.5 oncall resolved firing=0 resolved=1 seq=2
    "#);
}

#[test]
fn slow_flapping_costs_two_mails_per_interval_at_most() {
    let mut world = world();
    for second in (0..60).step_by(6) {
        world.fire(f64::from(second), "web-7");
        world.resolve(f64::from(second) + 3.0, "web-7");
    }
    world.run_until(200.0);
    assert_snapshot!(world.mails(), @r#"
    1 oncall first_firing firing=1 resolved=0 seq=1
    11 oncall resolved firing=0 resolved=1 seq=2
    13 oncall first_firing firing=1 resolved=0 seq=1
    23 oncall resolved firing=0 resolved=1 seq=2
    25 oncall first_firing firing=1 resolved=0 seq=1
    35 oncall resolved firing=0 resolved=1 seq=2
    37 oncall first_firing firing=1 resolved=0 seq=1
    47 oncall resolved firing=0 resolved=1 seq=2
    49 oncall first_firing firing=1 resolved=0 seq=1
    59 oncall resolved firing=0 resolved=1 seq=2
    "#);
}

#[test]
fn repeated_firing_is_no_change() {
    let mut world = world();
    for second in 1..500 {
        world.fire(f64::from(second), "web-7");
    }
    assert_snapshot!(world.mails(), @"2 oncall first_firing firing=1 resolved=0 seq=1");
}

#[test]
fn repeats_come_at_repeat_interval() {
    let mut world = world();
    for minute in 0..40 {
        world.fire(f64::from(minute) * 60.0, "web-7");
    }
    assert_snapshot!(world.mails(), @r#"
    1 oncall first_firing firing=1 resolved=0 seq=1
    601 oncall repeat_interval_elapsed firing=1 resolved=0 seq=2
    1201 oncall repeat_interval_elapsed firing=1 resolved=0 seq=3
    1801 oncall repeat_interval_elapsed firing=1 resolved=0 seq=4
    "#);
    assert!(world.inbox[1].1.subject.starts_with("[STILL FIRING] "), "{}", world.inbox[1].1.subject);
}

#[test]
fn an_alert_that_nobody_repeats_goes_stale() {
    let mut world = World::with(
        kinetic_alert::AlertConfig { stale_after: Duration::from_secs(60), ..config() },
        schema(vec![alert_block("team", &["oncall@acme.example"])]),
    );
    world.fire(1.0, "web-7");
    world.fire(30.0, "web-7");
    world.run_until(300.0);
    assert_snapshot!(world.mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    91 oncall resolved firing=0 resolved=1 seq=2
    "#);
    assert_snapshot!(world.inbox[1].1.text.lines().next().unwrap(), @"web-7 in checkout/frontends: checkout.latency mean: no analyzer has spoken of it since 12:00:30 UTC, so it counts as resolved");
    assert_eq!(world.stats().alerts_stale, 1);
    // It comes back: a new episode, after a restart too.
    world.crash(0);
    world.run_until(400.0);
    world.fire(500.0, "web-7");
    world.run_until(510.0);
    assert_snapshot!(world.mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    91 oncall resolved firing=0 resolved=1 seq=2
    501 oncall first_firing firing=1 resolved=0 seq=1
    "#);
}

#[test]
fn nothing_goes_stale_while_nothing_can_be_heard() {
    let mut world = World::with(
        kinetic_alert::AlertConfig { stale_after: Duration::from_secs(60), ..config() },
        schema(vec![alert_block("team", &["oncall@acme.example"])]),
    );
    world.fire(1.0, "web-7");
    world.run_until(10.0);
    world.lose_subscription();
    world.run_until(300.0);
    assert_eq!(world.stats().alerts_stale, 0);
    world.input(Input::Subscribed);
    world.run_until(359.0);
    assert_eq!(world.stats().alerts_stale, 0);
    world.run_until(361.0);
    assert_eq!(world.stats().alerts_stale, 1);
}

#[test]
fn without_send_resolved_ends_are_silent_and_survive_a_restart() {
    let quiet = kinetic_schema::schema::Alert {
        send_resolved: false,
        ..alert_block("team", &["oncall@acme.example"])
    };
    let mut world = World::new(vec![quiet]);
    world.fire(1.0, "web-7");
    world.fire(1.0, "web-8");
    world.resolve(30.0, "web-8");
    world.resolve(31.0, "web-7");
    world.run_until(60.0);
    assert_eq!(world.stats().groups, 0);
    world.fire(100.0, "web-7");
    // That it fires is on disk, and that nobody was told is too, or the restarted process would be silent.
    world.crash(0);
    world.run_until(200.0);
    assert_snapshot!(world.mails(), @r#"
    2 oncall first_firing firing=2 resolved=0 seq=1
    102 oncall first_firing firing=1 resolved=0 seq=1
    "#);
}

#[test]
fn recipients_and_blocks_are_correspondences_of_their_own() {
    let mut slow = alert_block("boss", &["boss@acme.example"]);
    slow.group_wait = Duration::from_secs(30);
    let team = alert_block("team", &["a@acme.example", "b@acme.example", "a@acme.example"]);
    let mut world = World::new(vec![team, slow]);
    world.fire(1.0, "web-7");
    world.resolve(20.0, "web-7");
    world.run_until(100.0);
    assert_snapshot!(world.mails(), @r#"
    2 a first_firing firing=1 resolved=0 seq=1
    2 b first_firing firing=1 resolved=0 seq=1
    21 a resolved firing=0 resolved=1 seq=2
    21 b resolved firing=0 resolved=1 seq=2
    "#);
    // One announcement per block and reason, not per recipient.
    assert_eq!(world.announced.len(), 2);
}

#[test]
fn a_relay_that_was_down_loses_nothing_and_doubles_nothing() {
    let mut world = world();
    world.relay = Relay::Down;
    world.fire(1.0, "web-7");
    world.fire(20.0, "web-8");
    world.fire(40.0, "web-9");
    world.resolve(60.0, "web-8");
    world.run_until(500.0);
    assert_snapshot!(world.mails(), @"");
    assert_eq!((world.stats().mails_queued, world.stats().mails_superseded), (3, 2));
    world.relay = Relay::Up;
    world.run_until(1_000.0);
    assert_snapshot!(world.mails(), @r#"
    542 oncall delivery_resumed firing=2 resolved=1 seq=3
    "#);
}

#[test]
fn a_repeat_is_counted_from_what_the_relay_took() {
    let mut world = world();
    world.relay = Relay::Down;
    world.fire(1.0, "web-7");
    world.run_until(200.0);
    world.relay = Relay::Up;
    world.run_until(900.0);
    assert_snapshot!(world.mails(), @r#"
    242 oncall first_firing firing=1 resolved=0 seq=1
    842 oncall repeat_interval_elapsed firing=1 resolved=0 seq=2
    "#);
}

/// When attempts are made within `until_s` of a mail due at second 1.
fn tries(relay: Relay, until_s: u32) -> Vec<f64> {
    let mut world = world();
    world.relay = relay;
    world.fire(0.0, "web-7");
    let mut tries = Vec::new();
    let mut last = 0;
    for tenth in 0..until_s * 10 {
        world.run_until(f64::from(tenth) / 10.0);
        let tried = world.stats().mails_tried;
        if tried > last {
            tries.push(f64::from(tenth) / 10.0);
            last = tried;
        }
    }
    tries
}

#[test]
fn a_mail_that_is_deferred_backs_off_as_scheduled() {
    let rising = [1.0, 2.0, 4.0, 8.0, 16.0, 31.0, 61.0, 121.0, 241.0, 481.0, 961.0, 1_861.0, 2_761.0];
    assert_eq!(tries(Relay::Defers, 3_000), rising);
}

#[test]
fn a_relay_that_is_down_is_looked_for_every_minute() {
    assert_eq!(tries(Relay::Down, 200), [1.0, 2.0, 4.0, 8.0, 16.0, 31.0, 61.0, 121.0, 181.0]);
}

#[test]
fn a_reply_that_was_lost_repeats_the_mail_under_its_id() {
    let mut world = world();
    world.relay = Relay::AcceptsUnheard;
    world.fire(1.0, "web-7");
    world.run_until(2.5);
    world.relay = Relay::Up;
    world.run_until(60.0);
    assert_eq!(world.inbox.len(), 2);
    assert_eq!(world.inbox[0].1, world.inbox[1].1);
}

#[test]
fn an_expired_mail_counts_as_not_told() {
    let mut world = World::with(
        kinetic_alert::AlertConfig { mail_expiry: Duration::from_secs(120), ..config() },
        schema(vec![alert_block("team", &["oncall@acme.example"])]),
    );
    world.relay = Relay::Down;
    world.fire(1.0, "web-7");
    world.run_until(130.0);
    assert_eq!(world.stats().mails_expired, 1);
    let ended = world
        .disk
        .iter()
        .filter(|(_, r)| matches!(r, Record::MailEnded { outcome, .. } if outcome == "expired"));
    assert_eq!(ended.count(), 1);
    world.relay = Relay::Up;
    world.run_until(200.0);
    assert_snapshot!(world.mails(), @"183 oncall first_firing firing=1 resolved=0 seq=2");
    world.assert_ids_name_one_mail();
}

#[test]
fn a_refused_mail_is_not_asked_for_again_until_something_changes() {
    let mut world = world();
    world.relay = Relay::Refuses;
    world.fire(1.0, "web-7");
    world.run_until(300.0);
    assert_eq!((world.stats().mails_refused, world.stats().mails_tried), (1, 1));
    world.relay = Relay::Up;
    world.fire(301.0, "web-8");
    world.run_until(310.0);
    assert_snapshot!(world.mails(), @"302 oncall more_firing firing=2 resolved=0 seq=2");
}

#[test]
fn a_full_outbox_makes_groups_wait() {
    let config = kinetic_alert::AlertConfig { outbox_max: 1, ..config() };
    let mut world =
        World::with(config, schema(vec![alert_block("team", &["a@acme.example", "b@acme.example"])]));
    world.relay = Relay::Down;
    world.fire(1.0, "web-7");
    world.run_until(100.0);
    assert_eq!((world.stats().outbox, world.stats().outbox_full), (1, 1));
    world.relay = Relay::Up;
    world.run_until(200.0);
    assert_snapshot!(world.mails(), @r#"
    122 a first_firing firing=1 resolved=0 seq=1
    122 b first_firing firing=1 resolved=0 seq=1
    "#);
}

#[test]
fn a_full_outbox_lets_the_longest_waiting_go_first() {
    let config = kinetic_alert::AlertConfig { outbox_max: 1, ..config() };
    let mut world = World::with(config, schema(vec![alert_block("team", &["a@acme.example"])]));
    world.relay = Relay::Down;
    for (second, cluster) in [(1, "one"), (2, "three"), (3, "two")] {
        let mut event = event(cluster, AlertState::Firing, second as i64);
        event.cluster = cluster.into();
        world.push_at(f64::from(second), &event);
    }
    world.run_until(20.0);
    world.relay = Relay::Up;
    world.run_until(60.0);
    let feeds: Vec<&str> =
        world.inbox.iter().map(|(_, email)| email.text.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(feeds, ["one", "three", "two"]);
    assert_eq!(world.stats().outbox_full, 2);
}

#[test]
fn a_new_schema_takes_over_routes_and_leaves_groups() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.run_until(10.0);
    let told = schema(vec![alert_block("team", &["oncall@acme.example", "new@acme.example"])]);
    world.schema = Arc::new(told);
    world.input(Input::SchemaChanged { schema: Arc::clone(&world.schema) });
    world.run_until(20.0);
    assert_snapshot!(world.mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    11 new first_firing firing=1 resolved=0 seq=1
    "#);
    // The first recipient leaves, and comes back while it still fires: to him it is news again.
    for to in ["new@acme.example", "oncall@acme.example"] {
        world.schema = Arc::new(schema(vec![alert_block("team", &[to])]));
        world.input(Input::SchemaChanged { schema: Arc::clone(&world.schema) });
        world.run_until(world_secs(&world) + 20.0);
        world.crash(0);
    }
    world.run_until(100.0);
    assert_snapshot!(world.mails(), @r#"
    2 oncall first_firing firing=1 resolved=0 seq=1
    11 new first_firing firing=1 resolved=0 seq=1
    42 oncall first_firing firing=1 resolved=0 seq=2
    "#);
    world.assert_ids_name_one_mail();
}

fn world_secs(world: &World) -> f64 {
    World::secs(world.now.wall)
}

#[test]
fn without_a_relay_history_is_all_there_is() {
    let mut schema = schema(vec![alert_block("team", &["oncall@acme.example"])]);
    let mail = schema.mail.take();
    let mut world = World::with(config(), schema.clone());
    world.fire(1.0, "web-7");
    world.run_until(60.0);
    assert_eq!((world.inbox.len(), world.acked, world.stats().mail_absent), (0, 1, 1));
    schema.mail = mail;
    world.schema = Arc::new(schema);
    world.input(Input::SchemaChanged { schema: Arc::clone(&world.schema) });
    world.run_until(61.0);
    assert_snapshot!(world.mails(), @"60 oncall first_firing firing=1 resolved=0 seq=1");
}

#[test]
fn a_full_table_refuses_visibly() {
    let config = kinetic_alert::AlertConfig { alerts_max: 2, ..config() };
    let mut world = World::with(config, schema(vec![alert_block("team", &["oncall@acme.example"])]));
    for origin in ["web-1", "web-2", "web-3"] {
        world.fire(1.0, origin);
    }
    world.run_until(5.0);
    assert_eq!((world.stats().alerts, world.stats().alerts_refused, world.acked), (2, 1, 3));
    world.resolve(6.0, "web-1");
    world.run_until(15.0);
    world.push_at(20.0, &event("web-3", AlertState::Firing, 20));
    world.run_until(40.0);
    assert_snapshot!(world.mails(), @r#"
    2 oncall first_firing firing=2 resolved=0 seq=1
    12 oncall fewer_firing firing=1 resolved=1 seq=2
    22 oncall more_firing firing=2 resolved=0 seq=3
    "#);
}

#[test]
fn a_wall_clock_that_jumps_moves_no_deadline() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.now.wall = world.now.wall + Duration::from_secs(86_400);
    world.input(Input::Tick);
    world.settle();
    assert_eq!(world.inbox.len(), 0);
    world.now = world.now + Duration::from_secs(1);
    world.input(Input::Tick);
    world.settle();
    assert_eq!(world.inbox.len(), 1);
}
