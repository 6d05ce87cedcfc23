//! Datagrams a second through the machine, confirms included. `cargo bench -p kinetic-agent`

use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use kinetic_agent::machine::{Agent, AgentConfig, Effect, Input};
use kinetic_wire::{
    DataType, Endpoint, Epoch, Incarnation, Limits, LocateReply, Mono, Now, RegionName, Wall,
};
use uuid::Uuid;

fn main() {
    divan::main();
}

fn ready(body_bytes: usize) -> Agent {
    let mut agent = Agent::new(AgentConfig {
        origin: "web-1.example".to_owned(),
        profile: Some("web".to_owned()),
        routing_key: "web.web-1".to_owned(),
        login: Some("acme.2026-a".to_owned()),
        inc: Incarnation(Uuid::from_u128(77)),
        data_type: DataType::Statsd,
        body_bytes,
        body_age: Duration::from_secs(1),
        buffer_bytes: 16 << 20,
        in_flight_max: 64,
        fallback: Vec::new(),
        seed: 1,
    });
    let endpoint = Endpoint {
        uri: "amqp://broker.example:5672".to_owned(),
        vhost: "us-west.aws".to_owned(),
        exchange: "in.acme".to_owned(),
        priority: 0,
    };
    let reply = LocateReply {
        ok: true,
        customer: "acme".into(),
        region: RegionName::new("us-west.aws"),
        endpoints: vec![endpoint],
        epoch: Epoch(1),
        ttl_s: 300,
        refresh_s: 240,
        stale_ok_s: 86_400,
        backoff_s: 0,
        limits: Limits { message_bytes: 1 << 20, batch_ms: 1000 },
        now_ms: 0,
        credential: None,
    };
    let mut effects = Vec::new();
    agent.handle(now(0), Input::Located(&reply), &mut effects);
    agent.handle(now(0), Input::Connected, &mut effects);
    agent
}

/// A clock on which a datagram takes a microsecond.
fn now(datagrams: u64) -> Now {
    Now {
        mono: Mono(1 + datagrams * 1_000),
        wall: Wall(1_795_000_000_000_000_000 + datagrams as i64 * 1_000),
    }
}

/// Lines in a datagram, bytes in a body.
#[divan::bench(args = [(1, 1_400), (1, 16_384), (40, 1_400), (40, 16_384)], sample_size = 2_000)]
fn datagram(bencher: Bencher<'_, '_>, (lines, body_bytes): (usize, usize)) {
    let mut agent = ready(body_bytes);
    let text: String = (0..lines).map(|i| format!("checkout.latency.p{i:02}:320|ms|@0.1\n")).collect();
    let (mut effects, mut datagrams) = (Vec::new(), 0);
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        datagrams += 1;
        let at = now(datagrams);
        agent.handle(at, Input::Datagram(text.as_bytes()), &mut effects);
        while let Some(effect) = effects.pop() {
            if let Effect::Publish { id, .. } = effect {
                agent.handle(at, Input::Confirmed { id }, &mut effects);
            }
        }
    });
    assert_eq!(agent.stats().datagrams_dropped, 0);
}
