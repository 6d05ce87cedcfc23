//! What a hostile customer costs the others of its analyzer: `beside` is a round of another customer's deliveries while the
//! hostile one's tables are as full as its limits let them be, against `alone`; the rest is how long one of its messages holds the
//! loop up, which is the most that anybody waits for it, since customers take turns.
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use flate2::Compression;
use flate2::write::GzEncoder;
use kinetic_analyzer::machine::{Delivery, Effect, Input, Slot};
use kinetic_schema::schema::Limits;
use kinetic_wire::{CustomerName, Envelope, Epoch, Grant, SourceKey, Token};
use support::{World, analytic, key, schema};

const HOSTS: usize = 200;
const METRICS: usize = 50;
const LINES: usize = 10_000;
/// What the hostile customer is sold.
const LIMITS: Limits =
    Limits { samples_per_second: 1_000_000_000, feeds: 5_000, series: 100_000, ..Limits::DEFAULT };

fn main() {
    divan::main();
}

/// Two customers on one analyzer.
struct Two {
    world: World,
    slots: [Slot; 2],
    effects: Vec<Effect>,
}

const ACME: usize = 0;
const EVIL: usize = 1;

impl Two {
    fn new(limits: Limits) -> Self {
        let mut schema = schema(&[analytic("slow", "*", 3.0, 10, 1, 1)]);
        let mut evil = schema.customers[&CustomerName::from("acme")].clone();
        (evil.name, evil.limits) = ("evil".into(), limits);
        schema.customers.insert(evil.name.clone(), evil);
        let mut world = World::new(schema);
        let of = |source| Grant { source, region: "r1".into(), epoch: Epoch(1) };
        world.grants = vec![of(key()), of(SourceKey::new("evil", "web"))];
        world.tick();
        let slot = |of: &str| {
            let found = world.effects.iter().find_map(|effect| match effect {
                Effect::Subscribe { slot, source, .. } if source.customer.as_str() == of => Some(*slot),
                _ => None,
            });
            found.unwrap()
        };
        let slots = [slot("acme"), slot("evil")];
        Self { world, slots, effects: Vec::new() }
    }

    fn deliver(&mut self, whose: usize, origin: &str, body: &[u8]) {
        self.world.token += 1;
        let envelope =
            Envelope { origin: Some(origin.into()), ts: Some(self.world.now.wall), ..Envelope::default() };
        let exchange = ["in.acme", "in.evil"][whose];
        let (slot, token) = (self.slots[whose], Token(self.world.token));
        let delivery =
            Delivery { slot, token, redelivered: false, exchange, routing_key: "web", envelope, body };
        self.world.analyzer.handle(self.world.now, Input::Delivery(delivery), &mut self.effects);
        self.effects.clear();
    }

    /// The hostile one's tables are as full as they may be.
    fn fill(&mut self) {
        for body in 0..12 {
            self.deliver(EVIL, "web-1", series(body).as_bytes());
            self.deliver(EVIL, "web-1", feeds(body).as_bytes());
        }
    }
}

fn series(body: usize) -> String {
    (0..LINES).map(|n| format!("m.{body}.{n}:1|ms\n")).collect()
}

fn feeds(body: usize) -> String {
    // In no order, as a bomb's author would have it.
    let scattered = |n: usize| (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..LINES).map(|n| format!("m:1|ms|#host:web-{:x}\n", scattered(body * LINES + n))).collect()
}

fn bodies() -> Vec<(String, String)> {
    let line = |host: usize, metric: usize| {
        format!("checkout.latency.{metric}:{}.5|ms\n", 20 + (host * 7 + metric) % 13)
    };
    let body = |host: usize| (0..METRICS).map(|metric| line(host, metric)).collect();
    (0..HOSTS).map(|host| (format!("web-{host}"), body(host))).collect()
}

fn rounds(bencher: Bencher<'_, '_>, is_beside: bool) {
    let (mut two, bodies) = (Two::new(LIMITS), bodies());
    if is_beside {
        two.fill();
    }
    let mut round = || {
        for (host, body) in &bodies {
            two.deliver(ACME, host, body.as_bytes());
        }
        two.world.now = two.world.now + Duration::from_millis(50);
    };
    round();
    bencher.counter(ItemsCount::new(HOSTS * METRICS)).bench_local(round);
}

#[divan::bench]
fn alone(bencher: Bencher<'_, '_>) {
    rounds(bencher, false);
}

#[divan::bench]
fn beside(bencher: Bencher<'_, '_>) {
    rounds(bencher, true);
}

fn one(bencher: Bencher<'_, '_>, limits: Limits, is_full: bool, body: &[u8]) {
    bencher
        .counter(ItemsCount::new(LINES))
        .with_inputs(|| {
            let mut two = Two::new(limits);
            if is_full {
                two.fill();
            }
            two
        })
        .bench_local_values(|mut two| {
            two.deliver(EVIL, "web-1", body);
            two
        });
}

#[divan::bench(sample_count = 20)]
fn message_of_known_series(bencher: Bencher<'_, '_>) {
    one(bencher, LIMITS, true, series(0).as_bytes());
}

#[divan::bench(sample_count = 20)]
fn message_of_new_series(bencher: Bencher<'_, '_>) {
    one(bencher, LIMITS, false, series(0).as_bytes());
}

#[divan::bench(sample_count = 20)]
fn message_of_refused_series(bencher: Bencher<'_, '_>) {
    one(bencher, LIMITS, true, series(99).as_bytes());
}

#[divan::bench(sample_count = 20)]
fn message_of_new_feeds(bencher: Bencher<'_, '_>) {
    one(bencher, Limits { feeds: 100_000, ..LIMITS }, false, feeds(0).as_bytes());
}

#[divan::bench(sample_count = 20)]
fn message_of_refused_feeds(bencher: Bencher<'_, '_>) {
    one(bencher, Limits { series: 1_000_000, ..LIMITS }, true, feeds(99).as_bytes());
}

#[divan::bench(sample_count = 20)]
fn message_beyond_its_minute(bencher: Bencher<'_, '_>) {
    one(bencher, Limits { samples_per_second: 0, ..LIMITS }, false, series(0).as_bytes());
}

#[divan::bench(sample_count = 20)]
fn message_that_inflates_as_far_as_it_may(bencher: Bencher<'_, '_>) {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    // One long line, which is refused: what is measured is what it takes to see that.
    gzip.write_all(&vec![b'x'; 8 << 20]).unwrap();
    let mut bomb = gzip.finish().unwrap();
    // A ratio that is allowed.
    bomb.resize(bomb.len().max((8 << 20) / 100), 0);
    one(bencher, LIMITS, false, &bomb);
}
