//! What an owner remembers and its successor goes on from, and when a source is let go.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use kinetic_analyzer::machine::{AnalyzerConfig, Effect, Input, Slot};
use kinetic_analyzer::source::LEAVE_MAX;
use kinetic_schema::Schema;
use kinetic_wire::*;
use support::*;

const SLOT: Slot = Slot(0);

fn one_of_one() -> Schema {
    schema(&[analytic("slow-host", "checkout.*", 3.0, 10, 1, 1)])
}

/// Twelve hosts send one latency each second for ten seconds, and web-7 sends another.
fn window(world: &mut World, slow: f64) -> Vec<Effect> {
    let mut effects = Vec::new();
    for _ in 0..10 {
        for host in 0..12 {
            let value = if host == 7 { slow } else { 20.0 + 0.1 * f64::from(host) };
            effects.extend(world.deliver(&format!("web-{host}"), &format!("checkout.latency:{value}|ms\n")));
        }
        effects.extend(world.pass_s(1));
    }
    effects
}

/// State, start of the window and of the alert, in seconds.
fn told(effects: &[Effect]) -> Vec<(AlertState, i64, i64)> {
    let told = |e: &AlertEvent| (e.state, e.window_start_ms / 1000 - START, e.since_ms / 1000 - START);
    events(effects).iter().map(told).collect()
}

fn kept(world: &World) -> Snapshot {
    decode(world.snapshots.last().expect("a snapshot")).unwrap()
}

const FIRING: AlertState = AlertState::Firing;
const RESOLVED: AlertState = AlertState::Resolved;

#[test]
fn the_successor_counts_on() {
    let two_of_three = || schema(&[analytic("slow-host", "checkout.*", 3.0, 10, 2, 3)]);
    let mut world = World::new(two_of_three());
    world.tick();
    window(&mut world, 90.0);
    window(&mut world, 20.7);
    world.pass_s(8);
    assert_eq!(world.events(), []);
    world.succeed(two_of_three(), 2);
    let mut effects = world.tick();
    world.pass_s(2);
    effects.extend(window(&mut world, 90.0));
    effects.extend(world.pass_s(10));
    assert_eq!(told(&effects), [(FIRING, 30, 40)]);
    assert_eq!(world.stats().snapshots_recalled, 1);
}

#[test]
fn the_successor_ends_what_it_never_began() {
    let mut world = World::new(one_of_one());
    world.tick();
    window(&mut world, 90.0);
    let effects = world.pass_s(10);
    assert_eq!(told(&effects), [(FIRING, 0, 10)]);
    world.succeed(one_of_one(), 2);
    world.tick();
    let mut effects = window(&mut world, 20.7);
    effects.extend(world.pass_s(10));
    assert_eq!(told(&effects), [(RESOLVED, 20, 10)]);
    assert_eq!(events(&effects)[0].epoch, Epoch(2));
}

#[test]
fn a_source_that_falls_silent_for_good_with_its_owner_is_resolved() {
    let mut world = World::new(one_of_one());
    world.tick();
    window(&mut world, 90.0);
    world.pass_s(10);
    world.succeed(one_of_one(), 2);
    world.tick();
    let effects = world.pass_s(60);
    assert_eq!(told(&effects), [(RESOLVED, 30, 10)], "three windows without a verdict");
    assert_eq!(kept(&world).watches, [], "nothing is left to remember");
}

/// Every delivery of the first window reaches into the second one, so that none of them says that the first is whole.
#[test]
fn a_window_whose_every_delivery_reaches_into_the_next_is_judged() {
    let mut world = World::new(one_of_one());
    world.tick();
    let send = |world: &mut World, again: bool| {
        let mut effects = Vec::new();
        for host in 0..12 {
            let value = if host == 7 { 90 } else { 20 };
            let line = |at: i64| format!("checkout.load:{value}|g|T{}\n", START + at);
            let body = line(9) + &line(10);
            effects.extend(world.deliver_at(&format!("web-{host}"), &body, world.now.wall, again));
        }
        effects
    };
    world.pass_s(11);
    send(&mut world, false);
    // Its owner dies before it is closed: all of it comes again, together with what came since.
    world.succeed(one_of_one(), 2);
    world.pass_s(5);
    let mut effects = world.tick();
    effects.extend(send(&mut world, true));
    effects.extend(world.pass_s(20));
    assert_eq!(told(&effects), [(FIRING, 0, 10)], "the second window goes on with it");
    // And dies when it is: the alert event is said, and the window is not judged again.
    world.succeed(one_of_one(), 3);
    let mut effects = world.tick();
    effects.extend(send(&mut world, true));
    effects.extend(world.pass_s(5));
    assert_eq!(told(&effects), []);
    assert_eq!(world.stats().already_counted, 24);
}

#[test]
fn stragglers_of_a_window_that_silence_closed_do_not_open_it_again() {
    let mut world = World::new(one_of_one());
    world.tick();
    window(&mut world, 20.7);
    world.pass_s(15);
    let stragglers = |world: &mut World, again: bool| {
        let mut effects = Vec::new();
        for host in 0..12 {
            let value = if host == 7 { 90 } else { 20 };
            let body = format!("checkout.latency:{value}|ms\n");
            effects.extend(world.deliver_at(
                &format!("web-{host}"),
                &body,
                Wall::from_secs(START + 9),
                again,
            ));
        }
        effects
    };
    stragglers(&mut world, false);
    assert_eq!(world.stats().late, 12);
    // They were not acknowledged yet, and are all that the successor gets.
    world.succeed(one_of_one(), 2);
    let mut effects = world.tick();
    effects.extend(stragglers(&mut world, true));
    effects.extend(world.pass_s(60));
    assert_eq!(told(&effects), []);
    assert_eq!(world.stats().already_counted, 12);
    assert!(acks(&effects).contains(&Effect::AckUpTo { slot: SLOT, token: Token(world.token) }));
}

#[test]
fn windows_of_a_length_that_the_snapshot_does_not_know_begin_whole() {
    let mut world = World::new(one_of_one());
    world.tick();
    window(&mut world, 20.7);
    window(&mut world, 20.7);
    world.pass_s(4);
    assert_eq!(kept(&world).lanes[0].closed_ns, Some((START + 10) * 1_000_000_000));
    // What fed the first ten seconds is acknowledged; only ten of the first fifteen would be left.
    let more =
        [analytic("slow-host", "checkout.*", 3.0, 10, 1, 1), analytic("count", "checkout.*", 3.0, 15, 1, 1)];
    world.succeed(schema(&more), 2);
    world.tick();
    let closed = |world: &World| {
        kept(world)
            .lanes
            .iter()
            .map(|lane| lane.closed_ns.unwrap() / 1_000_000_000 - START)
            .collect::<Vec<_>>()
    };
    assert_eq!(closed(&world), [15, 10], "by name: the one of fifteen seconds begins with the next");
    for host in 0..12 {
        world.deliver_at(
            &format!("web-{host}"),
            "checkout.latency:20|ms\n",
            Wall::from_secs(START + 12),
            true,
        );
    }
    assert_eq!(world.stats().already_counted, 12);
    window(&mut world, 20.7);
    world.pass_s(30);
    assert_eq!(world.stats().late, 0);
}

#[test]
fn what_cannot_be_read_is_counted_and_passed_over() {
    let mut world = World::new(one_of_one());
    world.tick();
    window(&mut world, 90.0);
    world.pass_s(10);
    let good = world.snapshots.last().unwrap().clone();
    let newer = encode(&Snapshot { v: 2, epoch: Epoch(9), ..decode(&good).unwrap() });
    world.snapshots = vec![b"{".to_vec(), good[..good.len() / 2].to_vec(), newer.clone(), good];
    world.succeed(one_of_one(), 2);
    world.tick();
    assert_eq!((world.stats().snapshots_ignored, world.stats().snapshots_recalled), (3, 1));
    world.snapshots = vec![newer];
    world.succeed(one_of_one(), 3);
    world.tick();
    assert_eq!((world.stats().snapshots_ignored, world.stats().snapshots_recalled), (1, 0));
    let effects = window(&mut world, 90.0);
    assert_eq!(told(&effects), [], "it begins anew, as a first owner does");
    assert_eq!(told(&world.pass_s(10)).len(), 1);
}

#[test]
fn a_question_that_has_changed_is_answered_anew() {
    let mut world = World::new(one_of_one());
    world.tick();
    window(&mut world, 90.0);
    world.pass_s(10);
    world.succeed(schema(&[analytic("slow-host", "checkout.*", 2.5, 10, 1, 1)]), 2);
    let effects = world.tick();
    assert_eq!(told(&effects), [(RESOLVED, 0, 10)]);
    assert_eq!(kept(&world).watches, []);
}

#[test]
fn after_a_later_owner_the_source_is_let_go() {
    let mut world = World::new(one_of_one());
    world.tick();
    window(&mut world, 90.0);
    world.pass_s(10);
    let later = Snapshot { epoch: Epoch(5), ..kept(&world) };
    // Its subscription was lost for a while, and somebody else has been here.
    world.snapshots.push(encode(&later));
    world.send(Input::SubscriptionLost { slot: SLOT });
    let effects = world.recall(SLOT);
    assert!(effects.contains(&Effect::Unsubscribe { slot: SLOT }), "{effects:?}");
    assert_eq!(acks(&effects), []);
    world.pass_s(20);
    assert_eq!(
        (world.stats().outdated, world.stats().sources.len()),
        (1, 0),
        "the same grant is not taken up again"
    );
    world.grants = vec![grant(6)];
    world.pass_s(10);
    assert_eq!(world.stats().sources.len(), 1);
}

#[test]
fn nothing_is_looked_at_before_what_was_kept() {
    let mut world = World::new(one_of_one());
    world.tick();
    world.send(Input::SubscriptionLost { slot: SLOT });
    let effects = window(&mut world, 90.0);
    assert_eq!((world.stats().deliveries_ignored, world.stats().deliveries), (120, 0));
    assert_eq!((acks(&effects), world.stats().sources[0].held), (vec![], 0));
}

#[test]
fn a_source_without_news_keeps_nothing_new() {
    let mut world = World::new(one_of_one());
    world.tick();
    window(&mut world, 20.7);
    world.pass_s(30);
    let snapshots = world.stats().snapshots;
    assert_eq!(snapshots, 1);
    world.pass_s(3600);
    assert_eq!(world.stats().snapshots, snapshots, "windows without samples, and nobody fires");
    // A straggler is acknowledged, although it lies far beyond the last snapshot.
    let at = Wall::from_secs(world.now.wall.as_secs() - 600);
    world.deliver_at("web-1", "checkout.latency:20|ms\n", at, false);
    let effects = world.pass_s(30);
    assert_eq!(acks(&effects), [Effect::AckUpTo { slot: SLOT, token: Token(world.token) }]);
}

#[test]
fn a_revoked_source_is_let_go_when_its_last_word_is_kept() {
    let mut world = World::new(one_of_one());
    world.tick();
    world.confirms = false;
    window(&mut world, 90.0);
    let effects = world.pass_s(8);
    let id = events(&effects)[0].id;
    world.grants = vec![];
    let effects = world.send(Input::Nudged);
    assert!(!effects.contains(&Effect::Unsubscribe { slot: SLOT }));
    world.deliver("web-1", "checkout.latency:20|ms\n");
    assert_eq!(world.stats().deliveries_ignored, 1);
    let effects = world.send(Input::Published { id });
    let Some(Effect::Keep { slot, seq, .. }) = effects.first().cloned() else { panic!("{effects:?}") };
    let effects = world.send(Input::Kept { slot, seq });
    let expect = [Effect::AckUpTo { slot: SLOT, token: Token(120) }, Effect::Unsubscribe { slot: SLOT }];
    assert_eq!(effects[..2], expect);
}

#[test]
fn a_revoked_source_does_not_wait_for_ever() {
    let mut world = World::new(one_of_one());
    world.tick();
    world.confirms = false;
    window(&mut world, 90.0);
    world.pass_s(8);
    world.grants = vec![];
    let revoked = world.send(Input::Nudged);
    let waited = world.pass(LEAVE_MAX);
    let gone = Effect::Unsubscribe { slot: SLOT };
    assert!(!revoked.contains(&gone) && waited.contains(&gone));
    assert_eq!(acks(&waited), [], "nothing that is not safe");
}

/// The broker is short of memory and takes no publishes: what is closed waits for it, and is not given up.
#[test]
fn what_waits_for_the_broker_alone_is_not_acknowledged_early() {
    let mut world = World::with(AnalyzerConfig { held_max: 100, ..config() }, one_of_one());
    world.tick();
    world.confirms = false;
    let deliver = |world: &mut World, count: u64| -> Vec<Effect> {
        let effects = (0..count).flat_map(|_| world.deliver("web-1", "checkout.latency:20|ms\n"));
        acks(&effects.collect::<Vec<_>>())
    };
    deliver(&mut world, 90);
    world.pass_s(30);
    assert_eq!(deliver(&mut world, 60), [], "beyond the bound, and the first ninety are closed");
    let stats = world.stats();
    assert_eq!((stats.early_acked, stats.held_back, stats.sources[0].held), (0, 50, 150));
    let kept = world.effects.iter().rev().find_map(|effect| match effect {
        Effect::Keep { slot, seq, .. } => Some(Input::Kept { slot: *slot, seq: *seq }),
        _ => None,
    });
    world.confirms = true;
    let effects = world.send(kept.expect("a snapshot on its way"));
    assert_eq!(acks(&effects), [Effect::AckUpTo { slot: SLOT, token: Token(90) }]);
    // Of the sixty the window is open: they are shed as ever, and at twice the bound everything is.
    assert_eq!(deliver(&mut world, 41), [Effect::AckUpTo { slot: SLOT, token: Token(97) }]);
    assert_eq!((world.stats().early_acked, world.stats().sources[0].held), (7, 94));
    world.confirms = false;
    world.pass_s(30);
    assert_eq!(deliver(&mut world, 106).len(), 1);
    let stats = world.stats();
    assert_eq!((stats.early_acked, stats.sources[0].held), (7 + 106, 94));
}

#[test]
fn a_body_that_comes_twice_is_held_with_its_first_copy() {
    let mut world = World::with(AnalyzerConfig { held_max: 100, ..config() }, one_of_one());
    world.tick();
    let body = |seq: u64| Envelope {
        origin: Some("web-1".into()),
        ts: Some(Wall::from_secs(START)),
        inc: Some(uuid::Uuid::from_u128(1)),
        seq: Some(seq),
        ..Envelope::default()
    };
    for seq in [1, 1, 2, 1] {
        world.deliver_with(body(seq), "in.acme", "checkout.latency:20|ms\n", false);
    }
    let stats = world.stats();
    assert_eq!((stats.repeated, stats.samples, stats.sources[0].held), (2, 2, 4));
    let effects = world.pass_s(30);
    assert_eq!(acks(&effects), [Effect::AckUpTo { slot: SLOT, token: Token(4) }]);
    world.deliver_with(body(1), "in.acme", "checkout.latency:20|ms\n", false);
    assert_eq!((world.stats().repeated, world.stats().late), (2, 1), "then it is late");
    world.now = world.now + Duration::from_secs(10);
    for seq in 10..150 {
        let body = Envelope { ts: Some(world.now.wall), ..body(seq) };
        world.deliver_with(body, "in.acme", "checkout.latency:20|ms\n", false);
    }
    assert!(world.stats().bodies_unremembered > 0, "there is a bound");
}

#[test]
fn broken_is_not_silent() {
    let mut world = World::new(one_of_one());
    world.tick();
    window(&mut world, 90.0);
    world.connected = false;
    let effects = world.pass_s(20);
    let probes = effects.iter().filter(|effect| matches!(effect, Effect::Probe { .. })).count();
    assert_eq!((told(&effects), probes), (vec![], 1), "nobody says that nothing is on its way");
    let effects = world.send(Input::Probed { slot: SLOT, ok: false });
    assert_eq!(told(&effects), []);
    world.connected = true;
    let effects = world.pass_s(2);
    assert_eq!(told(&effects), [(FIRING, 0, 10)]);
    assert_eq!(world.stats().probes_failed, 1);
}

/// No redirector answers any more.
fn without_redirectors(world: &mut World, seconds: u64) -> Vec<Effect> {
    world.answers = false;
    let mut all = Vec::new();
    for _ in 0..seconds {
        let effects = world.pass_s(1);
        for effect in &effects {
            if let Effect::Request { request, .. } = effect {
                all.extend(world.send(Input::RequestFailed { request: *request }));
            }
        }
        all.extend(effects);
    }
    all
}

#[test]
fn without_a_lease_a_source_is_kept_only_while_the_broker_answers_for_it() {
    let mut world = World::new(one_of_one());
    world.tick();
    let effects = without_redirectors(&mut world, 60);
    let probes = effects.iter().filter(|effect| matches!(effect, Effect::Probe { .. })).count();
    assert!(world.stats().degraded && (12..20).contains(&probes), "every three seconds: {probes}");
    assert_eq!((world.stats().sources.len(), world.stats().fenced), (1, 0));
    assert!(world.is_serving(), "the broker delivers");
    // Nothing comes back: but data does, which is as good.
    world.connected = false;
    world.deliver("web-1", "checkout.latency:20|ms\n");
    let probed = |world: &mut World| {
        let asked = without_redirectors(world, 4).iter().any(|effect| matches!(effect, Effect::Probe { .. }));
        assert!(asked);
    };
    probed(&mut world);
    world.deliver("web-1", "checkout.latency:20|ms\n");
    world.send(Input::Probed { slot: SLOT, ok: false });
    assert_eq!(world.stats().sources.len(), 1);
    probed(&mut world);
    let effects = world.send(Input::Probed { slot: SLOT, ok: false });
    assert!(effects.contains(&Effect::Unsubscribe { slot: SLOT }));
    assert_eq!(acks(&effects), [], "unsettled");
    assert_eq!((world.stats().degraded_lost, world.stats().sources.len()), (1, 0));
    without_redirectors(&mut world, 60);
    assert!(!world.is_serving(), "nothing is owned, and nobody answers");
}

#[test]
fn a_lost_witness_is_told_at_once_and_alerts_wait_for_the_answer() {
    let mut world = World::new(one_of_one());
    world.tick();
    world.pass_s(1);
    let effects = world.send(Input::WitnessChanged { stands: true });
    assert!(
        heartbeats(&effects).iter().all(|heartbeat| heartbeat.witness) && heartbeats(&effects).len() == 1
    );
    window(&mut world, 90.0);
    world.pass_s(5);
    world.answers = false;
    let effects = world.send(Input::WitnessChanged { stands: false });
    let Some(Effect::Request { request, .. }) = effects.last().cloned() else { panic!("{effects:?}") };
    assert!(!heartbeats(&effects)[0].witness);
    let effects = world.pass_s(2);
    assert_eq!(told(&effects), [], "somebody else may be told so now");
    assert_eq!((world.stats().alerts_withheld, world.stats().witness_lost), (1, 1));
    let body = encode(&lease(vec![grant(1)]));
    let effects = world.send(Input::Replied { request, body: &body });
    assert_eq!(told(&effects), [(FIRING, 0, 10)]);
}

#[test]
fn alerts_of_a_source_that_is_gone_are_not_said() {
    let mut world = World::new(one_of_one());
    world.tick();
    world.send(Input::WitnessChanged { stands: true });
    window(&mut world, 90.0);
    world.pass_s(5);
    world.answers = false;
    world.send(Input::WitnessChanged { stands: false });
    let effects = world.pass_s(30);
    assert_eq!(told(&effects), []);
    assert_eq!((world.stats().alerts_withheld, world.stats().fenced), (1, 1));
}

#[test]
fn with_no_redirector_left_alerts_are_said_under_the_degraded_rule() {
    let mut world = World::new(one_of_one());
    world.tick();
    world.send(Input::WitnessChanged { stands: true });
    window(&mut world, 90.0);
    world.send(Input::WitnessChanged { stands: false });
    world.answers = false;
    world.send(Input::WitnessChanged { stands: true });
    world.send(Input::WitnessChanged { stands: false });
    let effects = without_redirectors(&mut world, 30);
    assert!(world.stats().degraded);
    assert_eq!(told(&effects)[0], (FIRING, 0, 10));
}

fn heartbeats(effects: &[Effect]) -> Vec<Heartbeat> {
    let bodies = effects.iter().filter_map(|effect| match effect {
        Effect::Request { kind: "heartbeat", body, .. } => Some(decode(body).unwrap()),
        _ => None,
    });
    bodies.collect()
}

/// A new leader listens for a lease and the grace: an owner that asked less often would not be heard in time.
#[test]
fn an_owner_asks_for_a_redirector_at_least_once_in_any_half_lease() {
    let mut world = World::new(one_of_one());
    world.tick();
    world.pass_s(1);
    world.answers = false;
    let effects = world.send(Input::Nudged);
    let Some(Effect::Request { request, .. }) = effects.first().cloned() else { panic!("{effects:?}") };
    let body = encode(&LeaseReply { ttl_ms: 5_000, ..lease(vec![grant(1)]) });
    world.send(Input::Replied { request, body: &body });
    let (mut gap, mut longest) = (0, 0);
    for _ in 0..120 {
        let asked = heartbeats(&without_redirectors(&mut world, 1)).len();
        gap = if asked > 0 { 0 } else { gap + 1 };
        longest = longest.max(gap);
    }
    assert!(world.stats().degraded);
    assert!(longest <= 3, "{longest} s without a word, of a lease of 5 s");
}

#[test]
fn a_nudge_is_answered_at_once_and_many_are_not() {
    let mut world = World::new(one_of_one());
    world.tick();
    world.pass_s(1);
    assert_eq!(heartbeats(&world.send(Input::Nudged)).len(), 1);
    let mut effects = Vec::new();
    for _ in 0..100 {
        effects.extend(world.send(Input::Nudged));
        effects.extend(world.pass(Duration::from_millis(10)));
    }
    assert!((8..=11).contains(&heartbeats(&effects).len()), "{}", heartbeats(&effects).len());
    // While a request is under way its answer may be older than the nudge: then once more.
    world.pass_s(1);
    world.answers = false;
    let effects = world.send(Input::Nudged);
    let Some(Effect::Request { request, .. }) = effects.first().cloned() else { panic!("{effects:?}") };
    assert_eq!(world.send(Input::Nudged), []);
    world.answers = true;
    let body = encode(&lease(vec![grant(1)]));
    let mut effects = world.send(Input::Replied { request, body: &body });
    effects.extend(world.pass(Duration::from_millis(100)));
    assert_eq!(heartbeats(&effects).len(), 1);
}

#[test]
fn heartbeats_say_what_a_redirector_weighs() {
    let config = AnalyzerConfig { zone: Some("rack-1".into()), ..config() };
    let mut world = World::with(config, one_of_one());
    let effects = world.tick();
    let Effect::Request { body, .. } = &effects[0] else { panic!("{effects:?}") };
    let register: Register = decode(body).unwrap();
    assert_eq!((register.zone.as_deref(), register.witness, register.generation), (Some("rack-1"), false, 0));
    let revision = kinetic_analyzer::machine::Revision { id: "rev2".into(), generation: 12 };
    world.send(Input::SchemaChanged { schema: Arc::new(one_of_one()), revision });
    let mut effects = Vec::new();
    for _ in 0..12 {
        effects.extend(window(&mut world, 20.7));
    }
    let told = heartbeats(&effects);
    let last = told.last().unwrap();
    assert_eq!((last.schema.as_deref(), last.generation), (Some("rev2"), 12));
    assert_eq!(told[0].holds[0].rate, 12);
    assert_eq!(last.holds[0].rate, 12, "twelve samples a second");
    // A minute after it has fallen silent, about 1/e of it is left.
    let silent = heartbeats(&world.pass_s(60));
    assert!((4..=5).contains(&silent.last().unwrap().holds[0].rate), "{:?}", silent.last());
}
