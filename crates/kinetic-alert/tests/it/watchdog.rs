//! Nodes at their moments: heard, silent, heard again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;
use kinetic_alert::{Input, Record};
use kinetic_schema::Schema;
use kinetic_schema::schema::Watchdog;
use kinetic_wire::{AlertState, Beacon, Incarnation, NodeId, Role, encode};
use proptest::prelude::*;
use uuid::Uuid;

use crate::world::{NOON_S, Relay, World, config, event_of, schema};

pub(crate) fn watchdog() -> Watchdog {
    Watchdog {
        analyzer_silent_after: Duration::from_secs(60),
        redirector_silent_after: Duration::from_secs(30),
        to: vec!["ops@example.org".into()],
        group_wait: Duration::from_secs(1),
        group_interval: Duration::from_secs(10),
        repeat_interval: Duration::from_secs(4 * 3_600),
        send_resolved: true,
    }
}

fn watched(watchdog: Option<Watchdog>) -> Schema {
    Schema { watchdog, ..schema(Vec::new()) }
}

/// A world whose nodes can be heard.
fn world() -> World {
    let mut world = World::with(config(), watched(Some(watchdog())));
    world.input(Input::AliveSubscribed);
    world
}

fn inc(start: u128) -> Incarnation {
    Incarnation(Uuid::from_u128(start))
}

fn beacon(role: Role, node: &str, start: u128, bye: bool) -> Vec<u8> {
    encode(&Beacon {
        v: 1,
        node: node.into(),
        role,
        inc: inc(start),
        bye,
        listens: Vec::new(),
        breaches: Vec::new(),
    })
}

fn beat(world: &mut World, node: &str) {
    world.input(Input::Alive { body: &beacon(Role::Analyzer, node, 1, false) });
    world.settle();
}

fn bye(world: &mut World, node: &str) {
    world.input(Input::Alive { body: &beacon(Role::Analyzer, node, 1, true) });
    world.settle();
}

/// Moves time on to `secs` after noon, while these analyzers go on living.
pub(crate) fn live(world: &mut World, nodes: &[&str], secs: f64) {
    let mut now = World::secs(world.now.wall);
    while now < secs {
        nodes.iter().for_each(|node| beat(world, node));
        now = (now + 2.0).min(secs);
        world.run_until(now);
    }
}

fn texts(world: &World) -> String {
    let mails = world.inbox.iter().map(|(_, email)| format!("Subject: {}\n\n{}", email.subject, email.text));
    mails.collect::<Vec<_>>().join("\n=====\n")
}

#[test]
fn a_node_that_dies_is_mailed_and_one_that_comes_back_too() {
    let mut world = world();
    live(&mut world, &["a7", "a8"], 10.0);
    beat(&mut world, "a7");
    live(&mut world, &["a8"], 70.999);
    assert_eq!((world.stats().nodes, world.stats().nodes_silent), (2, 0));
    live(&mut world, &["a8"], 200.0);
    assert_eq!((world.stats().nodes, world.stats().nodes_silent), (2, 1));
    live(&mut world, &["a7", "a8"], 220.0);
    assert_snapshot!(world.mails(), @r"
    72 ops first_firing firing=1 resolved=0 seq=1
    201 ops resolved firing=0 resolved=1 seq=2
    ");
    assert_eq!(world.stats().nodes_silent, 0);
    assert_snapshot!(texts(&world));
    assert_snapshot!(world.inbox[0].1.html);
    assert_eq!(world.announced[0].0, "kinetic.silent.firing");
}

#[test]
fn who_says_bye_may_be_silent() {
    let mut world = world();
    live(&mut world, &["a7"], 10.0);
    bye(&mut world, "a7");
    world.run_until(1_000.0);
    assert_snapshot!(world.mails(), @"");
    assert_eq!(world.stats().nodes, 0);
    // One that was called silent and then stops in good order is silent no more.
    live(&mut world, &["a7"], 1_010.0);
    world.run_until(1_100.0);
    bye(&mut world, "a7");
    world.run_until(1_200.0);
    assert_snapshot!(world.mails(), @r"
    1070 ops first_firing firing=1 resolved=0 seq=1
    1101 ops resolved firing=0 resolved=1 seq=2
    ");
}

#[test]
fn without_a_watchdog_nothing_happens() {
    let mut world = World::with(config(), watched(None));
    world.input(Input::AliveSubscribed);
    live(&mut world, &["a7"], 10.0);
    world.run_until(10_000.0);
    assert!(world.disk.is_empty() && world.inbox.is_empty(), "{}", world.story());
    assert_eq!((world.stats().nodes, world.stats().beacons), (0, 0));
}

#[test]
fn many_at_once_are_one_mail_and_roles_have_their_own() {
    let mut world = world();
    let names: Vec<String> = (0..60).map(|n| format!("a{n:02}")).collect();
    let mut nodes: Vec<&str> = names.iter().map(String::as_str).collect();
    nodes.push("stays");
    live(&mut world, &nodes, 10.0);
    world.input(Input::Alive { body: &beacon(Role::Redirector, "r1", 1, false) });
    live(&mut world, &["stays"], 60.0);
    assert_snapshot!(world.mails(), @"42 ops first_firing firing=1 resolved=0 seq=1");
    live(&mut world, &["stays"], 100.0);
    assert_snapshot!(world.mails(), @r"
    42 ops first_firing firing=1 resolved=0 seq=1
    70 ops first_firing firing=60 resolved=0 seq=1
    ");
    assert_snapshot!(texts(&world));
}

#[test]
fn a_restarted_alert_node_gives_everybody_the_full_time() {
    let mut world = world();
    live(&mut world, &["a7", "a8"], 10.0);
    world.run_until(50.0);
    world.crash(usize::MAX);
    world.run_until(55.0);
    world.input(Input::AliveSubscribed);
    live(&mut world, &["a8"], 114.9);
    assert_snapshot!(world.mails(), @"");
    assert_eq!((world.stats().nodes, world.stats().nodes_silent), (2, 0));
    live(&mut world, &["a8"], 200.0);
    // 55 + 60, the second look, group_wait.
    assert_snapshot!(world.mails(), @"117 ops first_firing firing=1 resolved=0 seq=1");
    assert!(world.inbox[0].1.text.contains("since 12:00:55 UTC"), "what this process can vouch for");
}

#[test]
fn a_restart_during_a_silence_doubles_no_mail_and_loses_no_end() {
    let mut world = world();
    live(&mut world, &["a7"], 10.0);
    world.run_until(100.0);
    world.crash(usize::MAX);
    world.input(Input::AliveSubscribed);
    world.run_until(8_000.0);
    assert_eq!((world.stats().nodes_silent, world.stats().alerts_stale), (1, 0));
    live(&mut world, &["a7"], 8_010.0);
    assert_snapshot!(world.mails(), @r"
    70 ops first_firing firing=1 resolved=0 seq=1
    8001 ops resolved firing=0 resolved=1 seq=2
    ");
}

#[test]
fn nobody_is_silent_who_cannot_be_heard() {
    let mut world = world();
    live(&mut world, &["a7"], 10.0);
    world.input(Input::AliveLost);
    world.run_until(1_000.0);
    world.input(Input::AliveSubscribed);
    world.run_until(1_059.0);
    assert_snapshot!(world.mails(), @"");
    world.run_until(1_100.0);
    assert_snapshot!(world.mails(), @"1062 ops first_firing firing=1 resolved=0 seq=1");
    assert!(
        world.inbox[0].1.text.contains("since 12:00:08 UTC"),
        "when it was last heard: {}",
        texts(&world)
    );
}

#[test]
fn before_the_first_subscription_nobody_is_silent() {
    let mut world = world();
    live(&mut world, &["a7"], 10.0);
    world.crash(usize::MAX);
    world.run_until(10_000.0);
    assert_snapshot!(world.mails(), @"");
}

#[test]
fn a_newer_start_is_the_same_node_and_an_older_bye_is_not_its_own() {
    let mut world = world();
    live(&mut world, &["a7"], 10.0);
    world.input(Input::Alive { body: &beacon(Role::Analyzer, "a7", 2, false) });
    assert_eq!(world.stats().nodes, 1);
    world.input(Input::Alive { body: &beacon(Role::Analyzer, "a7", 1, true) });
    assert_eq!(world.stats().nodes, 1);
    world.run_until(100.0);
    assert_eq!(world.stats().nodes_silent, 1);
    world.input(Input::Alive { body: &beacon(Role::Analyzer, "a7", 3, false) });
    world.run_until(110.0);
    assert_snapshot!(world.mails(), @r"
    72 ops first_firing firing=1 resolved=0 seq=1
    101 ops resolved firing=0 resolved=1 seq=2
    ");
    world.input(Input::Alive { body: &beacon(Role::Analyzer, "a7", 3, true) });
    assert_eq!(world.stats().nodes, 0);
}

#[test]
fn a_suspended_alert_node_reads_what_has_gathered_before_it_judges() {
    let mut world = world();
    live(&mut world, &["a7"], 10.0);
    // Nothing runs for ten minutes; then the timer is first, and the signs of life come after it.
    world.now = world.now + Duration::from_secs(600);
    world.input(Input::Tick);
    world.now = world.now + Duration::from_millis(400);
    live(&mut world, &["a7"], 700.0);
    assert_snapshot!(world.mails(), @"");
    assert_eq!(world.stats().events, 0);
}

#[test]
fn a_silence_stands_until_the_node_is_not_waited_for() {
    let mut world = world();
    live(&mut world, &["a7"], 10.0);
    let day = 86_400.0;
    world.run_until(6.9 * day);
    assert_eq!((world.stats().nodes_silent, world.stats().alerts_stale), (1, 0));
    assert_eq!(world.inbox.len(), 1 + 41, "one, and every four hours one more");
    world.run_until(7.2 * day);
    assert_eq!((world.stats().nodes, world.stats().nodes_forgotten), (0, 1));
    assert_eq!(world.stats().alerts, 0);
    let last = &world.inbox.last().unwrap().1;
    assert_snapshot!(last.text);
    let mails = world.inbox.len();
    world.run_until(9.0 * day);
    assert_eq!(world.inbox.len(), mails);
    // It is known again once it is heard again.
    beat(&mut world, "a7");
    assert_eq!(world.stats().nodes, 1);
}

#[test]
fn the_schema_may_change_its_mind() {
    let mut world = world();
    live(&mut world, &["a7"], 10.0);
    let shorter = Watchdog { analyzer_silent_after: Duration::from_secs(20), ..watchdog() };
    world.schema = Arc::new(watched(Some(shorter)));
    let schema = Arc::clone(&world.schema);
    world.input(Input::SchemaChanged { schema });
    world.run_until(40.0);
    assert_snapshot!(world.mails(), @"30 ops first_firing firing=1 resolved=0 seq=1");
    live(&mut world, &["a8"], 50.0);
    world.schema = Arc::new(watched(None));
    let schema = Arc::clone(&world.schema);
    world.input(Input::SchemaChanged { schema });
    world.settle();
    assert_eq!((world.stats().nodes, world.stats().nodes_silent), (0, 0));
    world.run_until(10_000.0);
    assert_eq!((world.inbox.len(), world.stats().alerts), (1, 0));
    // Neither does a process that starts later, with or without a watchdog, know of them.
    world.schema = Arc::new(watched(Some(watchdog())));
    world.crash(usize::MAX);
    world.input(Input::AliveSubscribed);
    world.run_until(20_000.0);
    assert_eq!((world.inbox.len(), world.stats().nodes), (1, 0));
}

#[test]
fn a_watchdog_that_went_while_nobody_ran_leaves_nothing_behind() {
    let mut world = world();
    live(&mut world, &["a7"], 10.0);
    world.schema = Arc::new(watched(None));
    world.crash(usize::MAX);
    world.run_until(20.0);
    world.schema = Arc::new(watched(Some(watchdog())));
    world.crash(usize::MAX);
    world.input(Input::AliveSubscribed);
    world.run_until(1_000.0);
    assert_eq!((world.inbox.len(), world.stats().nodes), (0, 0));
}

#[test]
fn what_lives_long_is_recorded_again() {
    let day = Watchdog { analyzer_silent_after: Duration::from_secs(86_400), ..watchdog() };
    let mut world = World::with(config(), watched(Some(day)));
    world.input(Input::AliveSubscribed);
    for hour in 0..100 {
        beat(&mut world, "a7");
        world.run_until(f64::from(hour) * 3_600.0);
    }
    let known: Vec<f64> = world
        .disk
        .iter()
        .filter(|(_, record)| matches!(record, Record::NodeKnown { .. }))
        .map(|(_, record)| match record {
            Record::NodeKnown { at, .. } => World::secs(*at) / 3_600.0,
            _ => unreachable!("filtered"),
        })
        .collect();
    assert!(known.windows(2).all(|pair| pair[1] - pair[0] <= 13.0), "{known:?}");
    assert!(known.len() >= 8, "{known:?}");
    // History of the last two days is enough to know it.
    let from = world.now.wall - Duration::from_secs(2 * 86_400);
    world.disk.retain(|(_, record)| matches!(record, Record::NodeKnown { at, .. } if *at >= from));
    world.crash(usize::MAX);
    world.input(Input::AliveSubscribed);
    world.run_until(100.0 * 3_600.0 + 90_000.0);
    assert_eq!(world.stats().nodes_silent, 1);
}

#[test]
fn an_old_silence_is_known_by_its_repeats_alone() {
    let mut world = world();
    live(&mut world, &["a7"], 10.0);
    world.run_until(3.0 * 86_400.0);
    let from = world.now.wall - Duration::from_secs(2 * 86_400);
    world.disk.retain(|(_, record)| match record {
        Record::Event { at, .. } | Record::MailQueued { at, .. } | Record::MailEnded { at, .. } => {
            *at >= from
        }
        _ => false,
    });
    let mails = world.inbox.len();
    world.crash(usize::MAX);
    world.input(Input::AliveSubscribed);
    assert_eq!((world.stats().nodes, world.stats().nodes_silent), (1, 1));
    live(&mut world, &["a7"], 3.0 * 86_400.0 + 60.0);
    assert_eq!(world.inbox.len(), mails + 1);
    assert!(world.inbox.last().unwrap().1.subject.starts_with("[RESOLVED]"));
}

#[test]
fn a_clock_set_back_over_a_restart_loses_no_end() {
    let mut world = world();
    live(&mut world, &["a7"], 10.0);
    world.run_until(100.0);
    world.now.wall = world.now.wall - Duration::from_secs(90);
    world.crash(usize::MAX);
    world.input(Input::AliveSubscribed);
    world.run_until(20.0);
    live(&mut world, &["a7"], 60.0);
    assert_eq!((world.stats().nodes_silent, world.stats().alerts_firing), (0, 0));
    assert!(world.inbox.last().unwrap().1.subject.starts_with("[RESOLVED]"));
}

#[test]
fn the_table_is_bounded() {
    let mut world = world();
    for n in 0..10_005 {
        world.input(Input::Alive { body: &beacon(Role::Analyzer, &format!("a{n}"), 1, false) });
    }
    assert_eq!((world.stats().nodes, world.stats().beacons_refused), (10_000, 5));
}

#[test]
fn what_is_no_sign_of_life_is_counted() {
    let mut world = world();
    for body in [
        b"".to_vec(),
        b"{}".to_vec(),
        beacon(Role::Analyzer, "", 1, false),
        beacon(Role::Analyzer, "a\n7", 1, false),
        beacon(Role::Analyzer, &"a".repeat(256), 1, false),
        encode(&Beacon {
            v: 2,
            node: "a7".into(),
            role: Role::Analyzer,
            inc: inc(1),
            bye: false,
            listens: Vec::new(),
            breaches: Vec::new(),
        }),
    ] {
        world.input(Input::Alive { body: &body });
    }
    assert_eq!((world.stats().beacons_malformed, world.stats().nodes), (6, 0));
    // Alert nodes are not watched.
    world.input(Input::Alive { body: &beacon(Role::Alert, "m1", 1, false) });
    assert_eq!((world.stats().beacons_malformed, world.stats().nodes), (6, 0));
    world.run_until(1_000.0);
    assert_eq!(world.stats().events, 0);
}

#[test]
fn of_the_installations_nodes_nobody_else_speaks() {
    let mut world = world();
    let mut event = event_of("kinetic", "a7", "alive", AlertState::Firing, 1);
    event.service = "installation".into();
    world.push(&event);
    world.run_until(10.0);
    assert_eq!((world.rejected, world.stats().malformed, world.stats().events), (1, 1, 0));
    // The customer of that name is one like all others.
    world.push(&event_of("kinetic", "a7", "lag", AlertState::Firing, 1));
    world.run_until(20.0);
    assert_eq!((world.rejected, world.stats().events), (1, 1));
}

#[derive(Clone, Debug)]
enum Op {
    Beat(u8),
    Bye(u8),
    Advance(u64),
    Write(usize),
    Attempt,
    Relay(Relay),
    Crash(usize),
    Hear(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0..4u8).prop_map(Op::Beat),
        2 => (0..4u8).prop_map(Op::Bye),
        8 => (0..40_000u64).prop_map(Op::Advance),
        6 => (1..4usize).prop_map(Op::Write),
        3 => Just(Op::Attempt),
        1 => prop_oneof![Just(Relay::Up), Just(Relay::Down)].prop_map(Op::Relay),
        1 => (0..4usize).prop_map(Op::Crash),
        1 => any::<bool>().prop_map(Op::Hear),
    ]
}

/// Nodes that the disk knows of.
fn known(world: &World) -> BTreeSet<NodeId> {
    let mut known = BTreeSet::new();
    for (_, record) in &world.disk {
        match record {
            Record::NodeKnown { node, .. } => drop(known.insert(node.clone())),
            Record::NodeGone { node, .. } => drop(known.remove(node)),
            _ => {}
        }
    }
    known
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_is_called_silent_is_silent_and_who_is_silent_is_called_so(
        ops in proptest::collection::vec(op(), 1..120),
        lives in proptest::collection::vec(any::<bool>(), 4),
    ) {
        let mut world = world();
        let mut hears = true;
        // When each was last heard by the process, and since when it could have been.
        let mut heard: BTreeMap<String, i64> = BTreeMap::new();
        let mut since = NOON_S * 1_000;
        for op in &ops {
            let before = world.unwritten.len();
            let now = world.now.wall.as_ms();
            match op {
                Op::Beat(node) if hears => {
                    heard.insert(format!("a{node}"), now);
                    world.input(Input::Alive { body: &beacon(Role::Analyzer, &format!("a{node}"), 1, false) });
                }
                Op::Bye(node) if hears => {
                    world.input(Input::Alive { body: &beacon(Role::Analyzer, &format!("a{node}"), 1, true) });
                }
                Op::Beat(_) | Op::Bye(_) => {}
                Op::Advance(ms) => {
                    world.now = world.now + Duration::from_millis(*ms);
                    world.input(Input::Tick);
                }
                Op::Write(records) => drop(world.write(*records)),
                Op::Attempt => drop(world.attempt_one()),
                Op::Relay(relay) => world.relay = *relay,
                Op::Crash(survive) => {
                    world.crash(*survive);
                    hears = false;
                }
                Op::Hear(on) => {
                    (hears, since) = (*on, now);
                    world.input(if *on { Input::AliveSubscribed } else { Input::AliveLost });
                }
            }
            // Whoever is newly called silent could have been heard for the full time, and was not.
            let now = world.now.wall.as_ms();
            for (_, record) in world.unwritten.iter().skip(before) {
                if let Record::Event { event, .. } = record
                    && event.state == AlertState::Firing
                    && event.window_end_ms - event.window_start_ms < 300_000
                {
                    let last = heard.get(&event.feed.origin).copied().unwrap_or(0).max(since);
                    prop_assert!(now - last >= 60_000, "{event:?}\n{}", world.story());
                }
            }
        }
        world.relay = Relay::Up;
        world.input(Input::AliveSubscribed);
        let names: Vec<String> = (0..4).map(|node| format!("a{node}")).collect();
        let living: Vec<&str> =
            names.iter().zip(&lives).filter(|(_, lives)| **lives).map(|(name, _)| name.as_str()).collect();
        let until = World::secs(world.now.wall) + 120.0;
        live(&mut world, &living, until);
        let expected: BTreeSet<NodeId> =
            known(&world).into_iter().filter(|node| !living.contains(&node.as_str())).collect();
        prop_assert_eq!(world.stats().nodes_silent, expected.len() as u64, "{}", world.story());
        prop_assert_eq!(world.stats().alerts_firing, expected.len() as u64, "{}", world.story());
        world.assert_ids_name_one_mail();
    }
}
