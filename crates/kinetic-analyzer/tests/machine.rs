//! The machine as its shell sees it: inputs in, effects out.
#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use kinetic_analyzer::machine::{AnalyzerConfig, Effect, Input, Slot};
use kinetic_analyzer::sample::Reject;
use kinetic_schema::Schema;
use kinetic_schema::schema::{NamePart, NameTemplate, ValueKind};
use kinetic_wire::*;
use support::*;

const SLOT: Slot = Slot(0);

fn watched() -> Schema {
    schema(&[analytic("slow-host", "checkout.*", 3.0, 10, 2, 3)])
}

/// Twelve hosts send one latency every second for some seconds; `slow` says what web-7 sends.
fn run(world: &mut World, seconds: u64, slow: f64) -> Vec<Effect> {
    let mut effects = Vec::new();
    for _ in 0..seconds {
        for host in 0..12 {
            let value = if host == 7 { slow } else { 20.0 + 0.1 * f64::from(host) };
            effects.extend(world.deliver(&format!("web-{host}"), &format!("checkout.latency:{value}|ms\n")));
        }
        effects.extend(world.pass_s(1));
    }
    effects
}

fn told(effects: &[Effect]) -> String {
    let mut lines = String::new();
    for effect in effects {
        let line = match effect {
            Effect::Request { kind, .. } => (*kind).to_owned(),
            Effect::Subscribe { slot, source, epoch, .. } => format!("subscribe {} {source} {epoch}", slot.0),
            Effect::Unsubscribe { slot } => format!("unsubscribe {}", slot.0),
            Effect::AckUpTo { token, .. } => format!("ack up to {token}"),
            Effect::AckRange { first, last, .. } => format!("ack {first} to {last}"),
            Effect::Reject { token, .. } => format!("reject {token}"),
            Effect::Publish(event) => {
                format!(
                    "publish {:?} {} {}",
                    event.state,
                    event.feed.origin,
                    event.window_start_ms / 1000 - START
                )
            }
            Effect::Keep { slot, seq, .. } => format!("keep {} {seq}", slot.0),
            Effect::Forward { partial, .. } => format!("forward {} {}", partial.source, partial.end_ns),
            Effect::Probe { slot, .. } => format!("probe {}", slot.0),
            Effect::Evacuate { slot, source, to, .. } => format!("evacuate {} {source} {to}", slot.0),
            Effect::Carry { token, to, .. } => format!("carry {token} {to}"),
            Effect::Discard { slot, region, .. } => format!("discard {} {region}", slot.0),
            Effect::Trace(stage) => format!("trace {:?}", stage.stage),
            Effect::Stopped => "stopped".to_owned(),
        };
        writeln!(lines, "{line}").unwrap();
    }
    lines
}

#[test]
fn one_slow_host_of_twelve_fires_once_and_no_other_does() {
    let mut world = World::new(watched());
    world.tick();
    run(&mut world, 30, 20.7);
    assert_eq!(world.events(), [], "healthy hosts stay quiet");
    run(&mut world, 40, 90.0);
    let events = world.events();
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!((event.feed.origin.as_str(), event.state), ("web-7", AlertState::Firing));
    assert_eq!((event.hits, event.of, event.epoch), (2, 3, Epoch(1)));
    assert_eq!(event.window_start_ms, (START + 40) * 1000);
    assert_eq!(event.since_ms, event.window_end_ms);
    let numbers = event.numbers.unwrap();
    assert_eq!((numbers.feeds, numbers.limit, numbers.value), (12, 3.0, 90.0));
    assert!(numbers.deviations > 3.0 && numbers.peers_max < 22.0);
    run(&mut world, 40, 20.7);
    let events = world.events();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!((events[1].feed.origin.as_str(), events[1].state), ("web-7", AlertState::Resolved));
    assert_eq!(events[1].since_ms, event.since_ms);
}

#[test]
fn registers_subscribes_acknowledges_after_the_confirm_and_leaves() {
    let mut world = World::new(schema(&[analytic("slow-host", "checkout.*", 1.0, 10, 1, 1)]));
    world.confirms = false;
    insta::assert_snapshot!(told(&world.tick()), @r"
    register
    subscribe 0 acme/web 1
    ");
    let effects = run(&mut world, 16, 90.0);
    insta::assert_snapshot!(told(&effects), @r"
    heartbeat
    heartbeat
    heartbeat
    publish Firing web-7 0
    ");
    let id = events(&effects)[0].id;
    insta::assert_snapshot!(told(&world.send(Input::Published { id })), @"keep 0 1");
    insta::assert_snapshot!(told(&world.send(Input::Kept { slot: SLOT, seq: 1 })), @"ack up to 120");
    insta::assert_snapshot!(told(&world.send(Input::Shutdown)), @r"
    drain
    unsubscribe 0
    goodbye
    stopped
    ");
    assert_eq!(world.tick(), [], "nothing after the end");
}

#[test]
fn a_standing_alert_is_repeated_every_minute_and_ends_with_its_feed() {
    let mut world = World::new(schema(&[analytic("slow-host", "checkout.*", 3.0, 10, 1, 1)]));
    world.tick();
    let mut effects = run(&mut world, 150, 90.0);
    for _ in 0..60 {
        for host in (0..12).filter(|host| *host != 7) {
            world.deliver(&format!("web-{host}"), "checkout.latency:20|ms\n");
        }
        effects.extend(world.pass_s(1));
    }
    let told: Vec<_> = events(&world.effects)
        .iter()
        .map(|e| (e.state, e.window_start_ms / 1000 - START, e.since_ms / 1000 - START, e.numbers.is_some()))
        .collect();
    let firing = AlertState::Firing;
    let expect = [
        (firing, 0, 10, true),
        (firing, 60, 10, true),
        (firing, 120, 10, true),
        (AlertState::Resolved, 170, 10, false),
    ];
    assert_eq!(told, expect);
}

#[test]
fn a_source_that_falls_silent_closes_its_windows() {
    let mut world = World::new(schema(&[analytic("slow-host", "checkout.*", 3.0, 10, 1, 1)]));
    world.tick();
    run(&mut world, 8, 90.0);
    let effects = world.pass_s(60);
    let told: Vec<_> = events(&effects).iter().map(|e| (e.state, e.window_start_ms / 1000 - START)).collect();
    assert_eq!(told, [(AlertState::Firing, 0), (AlertState::Resolved, 30)]);
    assert!(acks(&effects).contains(&Effect::AckUpTo { slot: SLOT, token: Token(96) }));
    world.deliver_at("web-1", "checkout.latency:20|ms\n", Wall::from_secs(START + 9), false);
    assert_eq!(world.stats().late, 1);
}

#[test]
fn nothing_falls_silent_while_the_subscription_is_lost() {
    let mut world = World::new(watched());
    world.tick();
    run(&mut world, 8, 90.0);
    world.send(Input::SubscriptionLost { slot: SLOT });
    world.pass_s(300);
    assert_eq!(world.stats().windows_closed, 0, "its deliveries will come again");
    assert_eq!(acks(&world.effects), []);
}

#[test]
fn a_backlog_closes_its_windows_at_its_own_pace() {
    let mut world = World::new(watched());
    world.tick();
    for second in 0..3600 {
        for host in 0..12 {
            let value = if host == 7 && second >= 1800 { 90.0 } else { 20.0 + 0.1 * f64::from(host) };
            let at = Wall::from_secs(START - 3600 + second);
            world.deliver_at(&format!("web-{host}"), &format!("checkout.latency:{value}|ms\n"), at, false);
        }
        world.now = world.now + Duration::from_millis(1);
    }
    let events = world.events();
    assert_eq!(events[0].window_start_ms / 1000 - START, -1790);
    assert!(events.iter().all(|event| event.feed.origin == "web-7" && event.state == AlertState::Firing));
    assert_eq!(events.len(), 1 + 1790 / 60);
    let stats = world.stats();
    assert_eq!((stats.late, stats.windows_refused, stats.early_acked), (0, 0, 0));
}

#[test]
fn deliveries_that_feed_nothing_are_acknowledged_in_batches() {
    let mut world = World::new(watched());
    world.tick();
    let effects: Vec<_> = (0..300).flat_map(|_| world.deliver("db-1", "checkout.latency:20|ms\n")).collect();
    assert_eq!(acks(&effects), [Effect::AckUpTo { slot: SLOT, token: Token(256) }]);
    let effects = world.pass(Duration::from_millis(100));
    assert_eq!(acks(&effects), [Effect::AckUpTo { slot: SLOT, token: Token(300) }]);
}

#[test]
fn past_held_max_the_oldest_are_acknowledged_early() {
    let mut world = World::with(AnalyzerConfig { held_max: 1000, ..config() }, watched());
    world.tick();
    let effects: Vec<_> =
        (0..1001).flat_map(|_| world.deliver("web-1", "checkout.latency:20|ms\n")).collect();
    assert_eq!(acks(&effects), [Effect::AckUpTo { slot: SLOT, token: Token(63) }]);
    let stats = world.stats();
    assert_eq!((stats.early_acked, stats.sources[0].held), (63, 938));
}

#[test]
fn a_body_that_is_nothing_is_refused_whole_and_a_bad_line_alone() {
    let mut world = World::new(watched());
    world.tick();
    world.deliver("web-1", "checkout.latency:20|ms\nnonsense\ncheckout.latency:x|ms\n");
    let stats = world.stats();
    assert_eq!((stats.samples_grouped, stats.rejected), (1, 0));
    assert_eq!(stats.customers[0].rejects.total(), 2);
    let pickle = Envelope { content_encoding: Some("gzip".into()), ..Envelope::default() };
    let effects = world.deliver_with(pickle, "in.acme", "no gzip at all", false);
    assert_eq!(acks(&effects), [Effect::Reject { slot: SLOT, token: Token(2) }]);
    assert_eq!(world.stats().customers[0].rejects.count(Reject::BadEncoding), 1);
    let effects = world.pass_s(30);
    assert_eq!(acks(&effects), [Effect::AckUpTo { slot: SLOT, token: Token(1) }], "never the refused one");
}

#[test]
fn a_delivery_of_another_customer_is_a_security_event() {
    let mut world = World::new(watched());
    world.tick();
    let user = |user: &'static str| Envelope { user_id: Some(user.into()), ..Envelope::default() };
    let claim = Envelope { claimed_customer: Some("evil".into()), ..Envelope::default() };
    let body = "checkout.latency:20|ms\n";
    for (envelope, exchange) in [
        (Envelope::default(), "in.evil"),
        (Envelope::default(), "amq.topic"),
        (user("evil.k1"), "in.acme"),
        (claim, "in.acme"),
    ] {
        let effects = world.deliver_with(envelope, exchange, body, false);
        assert!(matches!(acks(&effects)[..], [Effect::Reject { .. }]), "{effects:?}");
    }
    assert_eq!(world.stats().customers[0].breaches.security_events(), 4);
    let effects = world.deliver_with(user("acme.2026-a"), "in.acme", body, false);
    assert_eq!(acks(&effects), []);
}

#[test]
fn a_stamp_far_ahead_is_dropped_and_the_skew_known() {
    let mut world = World::new(watched());
    world.tick();
    let ahead = world.now.wall + Duration::from_secs(60);
    world.deliver_at("web-1", "checkout.latency:20|ms\n", ahead, false);
    let stats = world.stats();
    assert_eq!((stats.future, stats.samples_grouped, stats.skew_ahead_max_ms), (1, 0, 60_000));
}

#[test]
fn series_are_bounded_per_customer() {
    let mut world = World::with(AnalyzerConfig { series_max: 10, ..config() }, watched());
    world.tick();
    for host in 0..12 {
        world.deliver(&format!("web-{host}"), "checkout.latency:20|ms\n");
        world.deliver(&format!("web-{host}"), "checkout.latency:20|ms\n");
    }
    let customer = &world.stats().customers[0];
    assert_eq!((customer.series, customer.breaches.count(BreachKind::Series)), (10, 4));
    for _ in 0..13 {
        world.deliver("web-0", "checkout.latency:20|ms\n");
        world.pass_s(100);
    }
    assert_eq!(world.stats().customers[0].series, 1, "idle ones are forgotten");
}

#[test]
fn origin_from_the_name_the_tag_or_the_envelope() {
    let mut with_template = watched();
    let customer = with_template.customers.get_mut(&CUSTOMER.into()).unwrap();
    let parts = vec![NamePart::Literal("servers".into()), NamePart::Origin, NamePart::Metric];
    customer.sources.get_mut(&SOURCE.into()).unwrap().name_template = Some(NameTemplate { parts });
    let mut analytics = customer.analytics.values_mut();
    let analytic = analytics.next().unwrap();
    analytic.value = ValueKind::Last;
    (analytic.hysteresis.hits, analytic.hysteresis.of) = (1, 1);
    let mut world = World::new(with_template);
    world.tick();
    for host in 0..12 {
        let value = if host == 7 { 90 } else { 20 };
        world.deliver("relay", &format!("servers.web-{host}.checkout.load:{value}|g\n"));
        world.deliver("relay", &format!("checkout.queue:{value}|g|#zone:b,host:web-{host},app:x\n"));
        world.deliver(&format!("web-{host}"), &format!("checkout.plain:{value}|g\n"));
    }
    world.deliver_with(Envelope::default(), "in.acme", "checkout.plain:1|g\n", false);
    world.pass_s(30);
    let feeds: Vec<_> =
        world.events().iter().map(|e| (e.feed.origin.clone(), e.feed.metric.clone())).collect();
    let web = |metric: &str| ("web-7".to_owned(), metric.to_owned());
    assert_eq!(feeds, [web("checkout.load"), web("checkout.plain"), web("checkout.queue;app=x;zone=b")]);
    assert_eq!(world.stats().no_origin, 1);
}

#[test]
fn too_few_and_unattainable_give_no_verdict_and_say_so() {
    let mut world = World::new(schema(&[analytic("slow-host", "checkout.*", 3.0, 10, 1, 1)]));
    world.tick();
    for (hosts, seconds) in [(2, 10), (10, 10)] {
        for host in 0..hosts {
            world.deliver(
                &format!("web-{host}"),
                &format!("checkout.latency:{}|ms\n", if host == 0 { 9e9 } else { 1.0 }),
            );
        }
        world.pass_s(seconds);
    }
    world.pass_s(30);
    let stats = world.stats();
    assert_eq!((stats.too_few_feeds, stats.unattainable, stats.judged), (1, 1, 0));
    assert_eq!(world.events(), []);
}

#[test]
fn a_schema_change_keeps_what_it_does_not_touch() {
    let mut world = World::new(watched());
    world.tick();
    run(&mut world, 45, 90.0);
    assert_eq!(world.events().len(), 1);
    // Another analytic joins; the old one goes on firing and knows since when.
    let both =
        [analytic("slow-host", "checkout.*", 3.0, 10, 2, 3), analytic("other", "checkout.*", 2.0, 20, 1, 1)];
    let change = |world: &mut World, schema: Schema, revision: &str| {
        world.send(Input::SchemaChanged { schema: Arc::new(schema), revision: revision.into() })
    };
    insta::assert_snapshot!(told(&change(&mut world, schema(&both), "rev2")), @"keep 0 4");
    let effects = run(&mut world, 60, 90.0);
    let told: Vec<_> = events(&effects)
        .into_iter()
        .map(|e| (e.analytic.to_string(), e.state, e.since_ms / 1000 - START, e.schema.unwrap()))
        .collect();
    let firing = AlertState::Firing;
    let rev2 = "rev2".to_owned();
    let expect =
        [("slow-host".to_owned(), firing, 20, rev2.clone()), ("other".to_owned(), firing, 80, rev2.clone())];
    let mut told = told;
    told.sort_by_key(|told| told.2);
    assert_eq!(told, expect);
    // The first one goes, and with it its alert.
    let effects = change(&mut world, schema(&both[1..]), "rev3");
    let resolved = events(&effects);
    assert_eq!(resolved.len(), 1);
    assert_eq!((resolved[0].analytic.as_str(), resolved[0].state), ("slow-host", AlertState::Resolved));
    assert_eq!((resolved[0].numbers, resolved[0].since_ms), (None, (START + 20) * 1000));
    // The whole source goes; it is taken up again when it is back.
    insta::assert_snapshot!(told_without_acks(&change(&mut world, Schema::default(), "rev4")), @"unsubscribe 0");
    // What fired when it went, and is not asked for any more, ends then.
    insta::assert_snapshot!(told_without_acks(&change(&mut world, watched(), "rev5")), @r"
    subscribe 1 acme/web 1
    publish Resolved web-7 60
    ");
}

#[test]
fn what_nobody_watched_is_held_once_somebody_does() {
    let mut world = World::new(schema(&[]));
    world.tick();
    run(&mut world, 1, 20.0);
    world.send(Input::SchemaChanged { schema: Arc::new(schema(&[])), revision: "rev2".into() });
    world.send(Input::SchemaChanged { schema: Arc::new(watched()), revision: "rev3".into() });
    let effects = run(&mut world, 14, 20.0);
    assert_eq!(acks(&effects), [], "its window is open");
    let effects = run(&mut world, 2, 20.0);
    assert_eq!(acks(&effects), [Effect::AckUpTo { slot: SLOT, token: Token(120) }]);
}

fn told_without_acks(effects: &[Effect]) -> String {
    let kept: Vec<_> = effects
        .iter()
        .filter(|e| {
            !matches!(
                e,
                Effect::AckUpTo { .. }
                    | Effect::AckRange { .. }
                    | Effect::Request { .. }
                    | Effect::Keep { .. }
            )
        })
        .cloned()
        .collect();
    told(&kept)
}

#[test]
fn a_source_granted_before_its_schema_waits_for_it() {
    let mut world = World::new(Schema::default());
    insta::assert_snapshot!(told(&world.tick()), @"register");
    let effects = world.send(Input::SchemaChanged { schema: Arc::new(watched()), revision: "rev2".into() });
    insta::assert_snapshot!(told(&effects), @"subscribe 0 acme/web 1");
}

#[test]
fn grants_are_the_whole_set() {
    let mut world = World::new(watched());
    world.tick();
    run(&mut world, 3, 20.0);
    world.grants = vec![grant(2)];
    world.pass_s(5);
    assert_eq!(world.stats().sources.len(), 1, "another epoch, the same source");
    run(&mut world, 42, 90.0);
    assert_eq!(world.events()[0].epoch, Epoch(2));
    world.grants = vec![];
    let effects = world.pass_s(5);
    insta::assert_snapshot!(told_without_acks(&effects), @"unsubscribe 0");
    assert_eq!(world.stats().sources, []);
}

#[test]
fn a_suspended_process_lets_go_before_it_sends_anything() {
    let mut world = World::new(watched());
    world.tick();
    run(&mut world, 45, 90.0);
    world.now = world.now + Duration::from_secs(60);
    let said = world.effects.len();
    world.token += 1;
    let effects = world.tick();
    insta::assert_snapshot!(told(&effects), @r"
    unsubscribe 0
    register
    subscribe 1 acme/web 1
    ");
    assert_eq!(events(&world.effects[said..]), []);
    assert_eq!(world.stats().fenced, 1);
}

/// Away for less than the share of its lease that fences, but past the moment at which it ends: windows that could be
/// closed on waking up are left to whoever is next.
#[test]
fn a_process_that_wakes_up_past_its_fence_sends_nothing_first() {
    let mut world = World::new(schema(&[analytic("slow-host", "checkout.*", 3.0, 10, 1, 1)]));
    world.tick();
    let asked = |world: &World| {
        world.effects.iter().filter(|effect| matches!(effect, Effect::Request { .. })).count()
    };
    run(&mut world, 45, 20.0);
    // Every five seconds at most there is a heartbeat, which is answered at once; the fence is twelve seconds after it.
    let before = asked(&world);
    while asked(&world) == before {
        run(&mut world, 1, 20.0);
    }
    run(&mut world, 3, 90.0);
    world.now = world.now + Duration::from_secs(10);
    let said = world.effects.len();
    world.deliver("web-1", "checkout.latency:20|ms\n");
    world.tick();
    assert_eq!(events(&world.effects[said..]), []);
    assert_eq!(world.stats().fenced, 1);
}

#[test]
fn with_every_redirector_down_the_data_plane_goes_on() {
    let mut world = World::new(watched());
    world.tick();
    world.answers = false;
    for _ in 0..120 {
        let effects = run(&mut world, 1, 90.0);
        let asked: Vec<_> = effects
            .iter()
            .filter_map(|e| match e {
                Effect::Request { request, .. } => Some(*request),
                _ => None,
            })
            .collect();
        for request in asked {
            world.send(Input::RequestFailed { request });
        }
    }
    let stats = world.stats();
    assert!(stats.degraded && stats.fenced == 0 && stats.sources.len() == 1);
    assert!((8..60).contains(&stats.requests_failed), "{}", stats.requests_failed);
    assert!(!world.events().is_empty());
    world.answers = true;
    run(&mut world, 15, 90.0);
    assert!(!world.stats().degraded);
}

#[test]
fn an_unanswered_request_that_never_fails_fences() {
    let mut world = World::new(watched());
    world.tick();
    world.answers = false;
    let effects = run(&mut world, 14, 90.0);
    assert!(effects.contains(&Effect::Unsubscribe { slot: SLOT }), "{}", told(&effects));
    assert_eq!(world.stats().fenced, 1);
}

/// Refuses the next request of a kind with a code and answers the ones after it with a grant.
fn refuse(world: &mut World, code: RpcCode) -> Vec<Effect> {
    world.answers = false;
    let effects = world.pass_s(5);
    let asked = effects.iter().find_map(|e| match e {
        Effect::Request { request, .. } => Some(*request),
        _ => None,
    });
    world.answers = true;
    let body = encode(&refusal(code));
    world.send(Input::Replied { request: asked.expect("a heartbeat"), body: &body })
}

#[test]
fn a_forgotten_lease_is_registered_again_with_what_it_holds() {
    let mut world = World::new(watched());
    world.tick();
    run(&mut world, 3, 20.0);
    let effects = refuse(&mut world, RpcCode::UnknownLease);
    insta::assert_snapshot!(told(&effects), @"register");
    let Effect::Request { body, .. } = &effects[0] else { panic!("a request") };
    let register: Register = decode(body).unwrap();
    assert_eq!(register.holds, [Hold { source: key(), epoch: Epoch(1), rate: 5 }]);
    assert_eq!(world.stats().sources.len(), 1, "it goes on with what it is granted again");
}

#[test]
fn whom_an_operator_has_relieved_tells_the_next_leader() {
    let mut world = World::new(watched());
    for relieved in [false, true, false] {
        world.relieved = relieved;
        world.pass_s(6);
        let effects = refuse(&mut world, RpcCode::UnknownLease);
        let Effect::Request { body, .. } = &effects[0] else { panic!("a registration") };
        assert_eq!(decode::<Register>(body).unwrap().relieved, relieved.then_some(Term(1)));
    }
}

#[test]
fn a_forgotten_lease_without_a_new_one_is_let_go() {
    let mut world = World::new(watched());
    world.tick();
    world.answers = false;
    let effects = world.pass_s(5);
    let Effect::Request { request, .. } = effects[0] else { panic!("a heartbeat") };
    let body = encode(&refusal(RpcCode::UnknownLease));
    let effects = world.send(Input::Replied { request, body: &body });
    let Effect::Request { request, .. } = effects[0] else { panic!("a registration") };
    let effects = world.send(Input::RequestFailed { request });
    insta::assert_snapshot!(told(&effects), @"unsubscribe 0");
}

#[test]
fn a_superseded_node_lets_go() {
    let mut world = World::new(watched());
    world.tick();
    let effects = refuse(&mut world, RpcCode::Superseded);
    insta::assert_snapshot!(told(&effects), @"unsubscribe 0");
    world.answers = false;
    assert_eq!(world.pass_s(14), [], "it does not hurry back");
}

#[test]
fn an_older_term_is_not_listened_to() {
    let mut world = World::new(watched());
    world.tick();
    world.answers = false;
    let effects = world.pass_s(5);
    let Effect::Request { request, .. } = effects[0] else { panic!("a heartbeat") };
    let body = encode(&LeaseReply { term: Term(0), ..lease(vec![]) });
    let effects = world.send(Input::Replied { request, body: &body });
    assert_eq!(effects, []);
    assert_eq!((world.stats().replies_ignored, world.stats().sources.len()), (1, 1));
}

#[test]
fn leaving_is_bounded() {
    let mut world = World::new(schema(&[analytic("slow-host", "checkout.*", 1.0, 10, 1, 1)]));
    world.tick();
    world.confirms = false;
    run(&mut world, 16, 90.0);
    world.send(Input::Shutdown);
    let effects = world.pass_s(10);
    assert_eq!(effects.last(), Some(&Effect::Stopped));
}

/// Asked to leave just after it has woken up past its lease: the answer to its registration grants what it has only just let
/// go of, and it takes nothing up.
#[test]
fn who_leaves_takes_nothing_up() {
    let mut world = World::new(watched());
    world.tick();
    let slot = world.slot.expect("subscribed");
    world.now = world.now + Duration::from_secs(60);
    let mut effects = Vec::new();
    world.analyzer.handle(world.now, Input::Tick, &mut effects);
    let asked = effects.iter().find_map(|effect| match effect {
        Effect::Request { request, .. } => Some(*request),
        _ => None,
    });
    let request = asked.expect("a registration");
    effects.clear();
    world.analyzer.handle(world.now, Input::Shutdown, &mut effects);
    let body = encode(&lease(vec![grant(1)]));
    world.analyzer.handle(world.now, Input::Replied { request, body: &body }, &mut effects);
    assert_eq!(effects, []);
    world.analyzer.handle(world.now, Input::Unsubscribed { slot }, &mut effects);
    insta::assert_snapshot!(told(&effects), @"goodbye");
}
