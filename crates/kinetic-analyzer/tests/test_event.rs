//! A test event goes the way of data, and touches nothing on it.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kinetic_analyzer::machine::{Effect, Input};
use kinetic_analyzer::source::TEST_BYTES_MAX;
use kinetic_wire::{AlertState, Envelope, Progress, Stage, TestStage, Wall, names};
use support::{World, analytic, events, schema};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn burst() -> String {
    let peers = (1..=5).map(|peer| format!("kinetic.test:100|ms|#feed:peer-{peer}\n"));
    peers.collect::<String>() + "kinetic.test:900|ms|#feed:slow\n"
}

fn envelope(trace: &str, at: Wall) -> Envelope<'static> {
    Envelope {
        kind: Some(names::TYPE_TEST.into()),
        origin: Some(names::TEST.into()),
        traceparent: Some(format!("00-{trace}-00f067aa0ba902b7-01").into()),
        ts: Some(at),
        ..Envelope::default()
    }
}

fn world() -> World {
    let mut world = World::new(schema(&[analytic("slow", "checkout.latency", 1.0, 10, 1, 1)]));
    world.tick();
    world
}

fn test(world: &mut World, trace: &str, body: &str) -> Vec<Effect> {
    let at = world.now.wall;
    world.deliver_with(envelope(trace, at), "in.acme", body, false)
}

fn stages(effects: &[Effect]) -> Vec<TestStage> {
    let stage = |effect: &Effect| match effect {
        Effect::Trace(stage) => Some((**stage).clone()),
        _ => None,
    };
    effects.iter().filter_map(stage).collect()
}

fn told(effects: &[Effect]) -> Vec<(Stage, Progress)> {
    stages(effects).iter().map(|stage| (stage.stage, stage.progress)).collect()
}

#[test]
fn a_burst_becomes_one_event_and_says_where_it_is() {
    let mut world = world();
    let mut effects = test(&mut world, TRACE, &burst());
    effects.extend(world.pass(Duration::from_millis(300)));
    assert_eq!(
        told(&effects),
        [
            (Stage::Delivered, Progress::Passed),
            (Stage::Decoded, Progress::Passed),
            (Stage::Judged, Progress::Passed),
            (Stage::Alerted, Progress::Passed),
        ]
    );
    let stages = stages(&effects);
    assert!(stages.iter().all(|stage| stage.trace == TRACE && stage.customer.as_str() == "acme"));
    let (node, epoch) = (stages[0].node.clone().unwrap(), stages[0].epoch.unwrap());
    assert_eq!((node.as_str(), epoch.0, stages[0].detail.as_str()), ("a1", 1, "owner of acme/web"));
    assert_eq!(stages[1].detail, "6 samples of statsd, 6 feeds");
    assert_eq!(
        stages[2].detail,
        "window closed: of 6 feeds, slow at 900 is 2.24 deviations above their mean 233.3"
    );
    let [event] = events(&effects).try_into().unwrap();
    assert_eq!(
        (event.state, event.analytic.as_str(), event.service.as_str(), event.cluster.as_str()),
        (AlertState::Firing, "@test", "@test", "@test")
    );
    assert_eq!((event.feed.origin.as_str(), event.customer.as_str()), ("slow", "acme"));
    assert_eq!(kinetic_wire::trace_of(event.traceparent.as_deref().unwrap()), Some(TRACE));
    assert_eq!(world.stats().tests, 1);
}

#[test]
fn the_event_is_only_said_to_be_there_once_the_broker_has_it() {
    let mut world = world();
    world.confirms = false;
    test(&mut world, TRACE, &burst());
    let effects = world.pass(Duration::from_millis(300));
    assert_eq!(told(&effects), [(Stage::Judged, Progress::Passed)]);
    let [event] = events(&effects).try_into().unwrap();
    let effects = world.send(Input::Published { id: event.id });
    assert_eq!(told(&effects), [(Stage::Alerted, Progress::Passed)]);
}

/// The same data with and without a test in the midst of it: the same events at the same moments, snapshots and counters, but for
/// those of deliveries. The data comes three seconds late, so that a watermark which the test had moved would close windows sooner.
#[test]
fn data_does_not_notice_a_test() {
    let run = |with_test: bool| {
        let mut world = world();
        let mut data = Vec::new();
        for second in 0..40 {
            let mut effects = Vec::new();
            for (feed, value) in [("web-1", 10), ("web-2", 11), ("web-3", 12), ("web-4", 90)] {
                let at = Wall::from_ms(world.now.wall.as_ms() - 3_000);
                effects.extend(world.deliver_at(feed, &format!("checkout.latency:{value}|ms"), at, false));
            }
            if with_test && second == 2 {
                let body = burst() + "checkout.latency:99999|ms|#feed:web-1\n";
                effects.extend(test(&mut world, TRACE, &body));
            }
            effects.extend(world.pass_s(1));
            let of_data = events(&effects).into_iter().filter(|event| event.service.as_str() != names::TEST);
            data.extend(of_data.map(|event| (second, event)));
        }
        let mut stats = world.stats();
        assert_eq!(stats.tests, u64::from(with_test));
        (stats.tests, stats.deliveries, stats.bytes) = (0, 0, 0);
        stats.alerts_published = 0;
        (data, world.snapshots, stats.samples, stats.judged, stats.late, stats.customers)
    };
    let (without, with) = (run(false), run(true));
    assert!(!without.0.is_empty());
    assert_eq!(without, with);
}

#[test]
fn a_body_that_comes_again_is_one_test_and_is_acknowledged() {
    let mut world = world();
    let mut effects = test(&mut world, TRACE, &burst());
    effects.extend(test(&mut world, TRACE, &burst()));
    effects.extend(world.pass_s(2));
    effects.extend(test(&mut world, TRACE, &burst()));
    effects.extend(world.pass_s(2));
    assert_eq!(events(&effects).len(), 1);
    assert_eq!(world.stats().sources[0].held, 0, "all are acknowledged");
}

#[test]
fn tests_of_one_source_keep_their_distance() {
    let mut world = world();
    test(&mut world, TRACE, &burst());
    let other = TRACE.replace('4', "5");
    let effects = test(&mut world, &other, &burst());
    assert_eq!(told(&effects), [(Stage::Delivered, Progress::Failed)]);
    assert_eq!(stages(&effects)[0].trace, other);
    assert_eq!(world.stats().tests_refused, 1);
    // A flood of them makes no flood of words.
    for n in 1..=100 {
        assert!(stages(&test(&mut world, &format!("{n:032x}"), &burst())).is_empty());
    }
    assert_eq!(world.stats().tests_refused, 101);
    world.pass_s(1);
    assert_eq!(told(&test(&mut world, &other, &burst()))[0], (Stage::Delivered, Progress::Passed));
}

#[test]
fn what_cannot_be_read_or_is_not_out_of_line_says_so() {
    let mut world = world();
    let mut failed = |envelope: Envelope<'_>, body: &str| {
        let mut effects = world.deliver_with(envelope, "in.acme", body, false);
        effects.extend(world.pass_s(1));
        assert!(events(&effects).is_empty());
        let last = stages(&effects).pop().unwrap();
        assert_eq!(last.progress, Progress::Failed);
        (last.stage, last.detail)
    };
    let now = support::START;
    let at = |n: u128, seconds: i64| envelope(&format!("{n:032x}"), Wall::from_secs(now + seconds));
    assert_eq!(
        failed(at(1, 0), "what is this"),
        (Stage::Decoded, "no line of it is a sample: malformed".to_owned())
    );
    assert_eq!(
        failed(at(2, 31), &burst()),
        (
            Stage::Decoded,
            "its clock is 30 s ahead of this node's: what is so far ahead is dropped".to_owned()
        )
    );
    assert_eq!(
        failed(at(3, 2), &"x".repeat(TEST_BYTES_MAX + 1)),
        (Stage::Decoded, "a burst has at most 4096 bytes".to_owned())
    );
    assert_eq!(
        failed(at(4, 3), "kinetic.test:100|ms|#feed:a\nkinetic.test:100|ms|#feed:b"),
        (Stage::Judged, "window closed: no feed of it is out of line".to_owned())
    );
}

#[test]
fn without_a_trace_id_it_is_neither_data_nor_a_test() {
    let mut world = world();
    let nameless = Envelope { traceparent: None, ..envelope(TRACE, world.now.wall) };
    let mut effects = world.deliver_with(nameless, "in.acme", &burst(), false);
    effects.extend(world.pass_s(20));
    assert!(stages(&effects).is_empty() && events(&effects).is_empty());
    assert_eq!((world.stats().tests_refused, world.stats().samples), (1, 0));
    assert_eq!(world.stats().sources[0].held, 0);
}

#[test]
fn only_the_source_that_is_meant_takes_it() {
    let mut world = world();
    let meant = |source: &'static str| Envelope {
        correlation_id: Some(source.into()),
        ..envelope(TRACE, Wall::from_secs(support::START))
    };
    let mut effects = world.deliver_with(meant("other"), "in.acme", &burst(), false);
    effects.extend(world.pass_s(2));
    assert!(stages(&effects).is_empty());
    assert_eq!(world.stats().sources[0].held, 0, "it is acknowledged");
    assert!(!stages(&world.deliver_with(meant(support::SOURCE), "in.acme", &burst(), false)).is_empty());
}

#[test]
fn another_customers_exchange_is_refused_as_ever() {
    let mut world = world();
    let at = world.now.wall;
    let effects = world.deliver_with(envelope(TRACE, at), "in.other", &burst(), false);
    assert!(stages(&effects).is_empty());
    assert_eq!(world.stats().customers[0].breaches.security_events(), 1);
}
