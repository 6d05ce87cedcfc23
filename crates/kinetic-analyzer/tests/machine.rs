//! The machine as its shell sees it: inputs in, effects out.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use kinetic_analyzer::machine::{Effect, Input, Slot};
use kinetic_wire::*;
use support::*;

const SLOT: Slot = Slot(0);

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

#[test]
fn one_slow_host_of_twelve_fires_once_and_no_other_does() {
    let mut world = World::new(schema(&[analytic("slow-host", "checkout.*", 3.0, 10, 2, 3)]));
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
    let effects = world.tick();
    assert!(matches!(&effects[0], Effect::Request { kind: "register", .. }));
    assert!(matches!(&effects[1], Effect::Subscribe { slot: SLOT, epoch: Epoch(1), .. }), "{effects:?}");
    let effects = run(&mut world, 16, 90.0);
    let event = events(&effects)[0].clone();
    assert_eq!(acks(&effects), [], "nothing is acknowledged before the broker has the alert");
    let effects = world.send(Input::Published { id: event.id });
    assert_eq!(acks(&effects), [Effect::AckUpTo { slot: SLOT, token: Token(120) }]);

    let effects = world.send(Input::Shutdown);
    let kinds: Vec<_> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Request { kind, .. } => (*kind).to_owned(),
            Effect::Unsubscribe { .. } => "unsubscribe".to_owned(),
            Effect::Stopped => "stopped".to_owned(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["drain", "unsubscribe", "goodbye", "stopped"]);
}
