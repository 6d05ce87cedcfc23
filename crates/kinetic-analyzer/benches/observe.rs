//! The analyzer's two costs: taking deliveries into the windows, and closing a window of a cluster.
//!
//! `observe` is a delivery of 50 statsd timers of one of 200 hosts, through the machine's door: decode, series lookup,
//! window, settlement; `observe_numbered` is the same with the numbers by which a repeated body is known. `close` closes one
//! window of 50 metrics on 200 feeds, and takes the snapshot of what it leaves.
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use kinetic_analyzer::machine::{Delivery, Effect, Input, Slot};
use kinetic_wire::{Envelope, Token, Wall};
use support::{World, analytic, schema};
use uuid::Uuid;

const HOSTS: usize = 200;
const METRICS: usize = 50;

fn main() {
    divan::main();
}

fn bodies() -> Vec<(String, String)> {
    (0..HOSTS)
        .map(|host| {
            let lines: String = (0..METRICS)
                .map(|metric| {
                    format!("checkout.frontend.latency.{metric}:{}.5|ms\n", 20 + (host * 7 + metric) % 13)
                })
                .collect();
            (format!("web-{host}"), lines)
        })
        .collect()
}

fn world() -> World {
    let mut world = World::new(schema(&[analytic("slow", "checkout.*", 3.0, 10, 1, 1)]));
    world.tick();
    world
}

/// Feeds every host's body once; time stands still.
fn round(world: &mut World, bodies: &[(String, String)], inc: Option<Uuid>, effects: &mut Vec<Effect>) {
    for (host, body) in bodies {
        world.token += 1;
        let envelope = Envelope {
            origin: Some(host.as_str().into()),
            ts: Some(world.now.wall),
            inc,
            seq: Some(world.token),
            ..Envelope::default()
        };
        let delivery = Delivery {
            slot: Slot(0),
            token: Token(world.token),
            redelivered: false,
            exchange: "in.acme",
            routing_key: "web",
            envelope,
            body: body.as_bytes(),
        };
        world.analyzer.handle(world.now, Input::Delivery(delivery), effects);
    }
}

#[divan::bench]
fn observe(bencher: Bencher<'_, '_>) {
    rounds(bencher, None);
}

#[divan::bench]
fn observe_numbered(bencher: Bencher<'_, '_>) {
    rounds(bencher, Some(Uuid::from_u128(7)));
}

/// A hundred rounds by default. Nobody answers heartbeats here: after twelve seconds of the machine's time there is no lease.
fn rounds(bencher: Bencher<'_, '_>, inc: Option<Uuid>) {
    let (mut world, bodies, mut effects) = (world(), bodies(), Vec::new());
    round(&mut world, &bodies, inc, &mut effects);
    bencher.counter(ItemsCount::new(HOSTS * METRICS)).bench_local(|| {
        effects.clear();
        round(&mut world, &bodies, inc, &mut effects);
        world.now = world.now + Duration::from_millis(100);
    });
}

#[divan::bench]
fn close(bencher: Bencher<'_, '_>) {
    let bodies = bodies();
    bencher
        .counter(ItemsCount::new(HOSTS * METRICS))
        .with_inputs(|| {
            let mut world = world();
            round(&mut world, &bodies, None, &mut Vec::new());
            world.now = world.now + Duration::from_secs(1);
            world.analyzer.handle(world.now, Input::Tick, &mut Vec::new());
            world.now.wall = world.now.wall + Duration::from_secs(15);
            world.now.mono = world.now.mono + Duration::from_secs(8);
            assert!(world.now.wall > Wall(0));
            let mut effects = Vec::new();
            world.analyzer.handle(world.now, Input::Tick, &mut effects);
            assert!(
                effects.iter().any(|effect| matches!(effect, Effect::Probe { .. })),
                "silence is to be proven"
            );
            world
        })
        .bench_local_values(|mut world| {
            world.analyzer.handle(world.now, Input::Probed { slot: Slot(0), ok: true }, &mut Vec::new());
            assert_eq!(world.stats().windows_closed, 1);
            world
        });
}
