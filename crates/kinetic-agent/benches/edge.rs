//! Whose an address is among 20,000 netblocks, and datagrams a second through the edge machine. `cargo bench -p kinetic-agent --bench edge`

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use kinetic_agent::edge::{Edge, EdgeConfig, Effect, Input, Outcome, Protocol};
use kinetic_schema::{Netblocks, Schema};
use kinetic_wire::{Incarnation, Mono, Now, Wall};
use uuid::Uuid;

fn main() {
    divan::main();
}

/// Customers of a schema, each with ten netblocks of different lengths, IPv4 and IPv6.
const CUSTOMERS: u32 = 2_000;

fn schema() -> Schema {
    let text = "region \"local\" {}\ncustomer \"c\" {\n region = region.local\n source \"web\" {\n data_type = \"statsd\"\n \
                routing = [\"#\"]\n }\n}\n";
    let files = BTreeMap::from([("kinetic.hcl".to_owned(), text.as_bytes().to_vec())]);
    let mut schema = kinetic_schema::load(&files).schema.expect("it checks");
    let template = schema.customers.pop_first().expect("one").1;
    for number in 0..CUSTOMERS {
        let (high, low) = (number >> 8, number & 0xff);
        let mut customer = template.clone();
        customer.name = format!("c{number}").as_str().into();
        customer.netblocks = (0..10)
            .map(|block| match block {
                0..=6 => format!("{}.{high}.{low}.0/{}", 10 + block, 24 + block),
                _ => format!("2001:db8:{number:x}:{block:x}::/{}", 48 + 16 * (block % 2)),
            })
            .map(|text| {
                text.parse().unwrap_or_else(|_| format!("2001:db8:{number:x}::/48").parse().expect("a net"))
            })
            .collect();
        schema.customers.insert(customer.name.clone(), customer);
    }
    schema
}

/// Addresses in some order that no cache foresees; every fifth is nobody's.
fn addresses() -> Vec<IpAddr> {
    (0..4_096_u32)
        .map(|number| {
            let customer = number.wrapping_mul(2_654_435_761) % CUSTOMERS;
            let (high, low) = ((customer >> 8) as u8, (customer & 0xff) as u8);
            match number % 5 {
                0 => IpAddr::from([200, high, low, 1]),
                4 => format!("2001:db8:{customer:x}::{number:x}").parse().expect("an address"),
                block => IpAddr::from([10 + block as u8, high, low, 1]),
            }
        })
        .collect()
}

#[divan::bench]
fn lookup_among_20000(bencher: Bencher<'_, '_>) {
    let (netblocks, addresses) = (Netblocks::of(&schema()), addresses());
    let found = addresses.iter().filter(|address| netblocks.owner(**address).is_some()).count();
    assert!(found > addresses.len() / 2, "{found} of {}", addresses.len());
    bencher
        .counter(ItemsCount::new(addresses.len()))
        .bench_local(|| addresses.iter().filter(|address| netblocks.owner(**address).is_some()).count());
}

/// Datagrams of five lines from addresses of 2,000 customers; `origins` of them speak at a time.
#[divan::bench(args = [10, 1_000])]
fn datagrams(bencher: Bencher<'_, '_>, origins: usize) {
    let mut edge = Edge::new(EdgeConfig {
        inc: Incarnation(Uuid::from_u128(7)),
        amqp: vec!["amqp://near:5672".to_owned()],
        body_bytes: 8 << 10,
        body_age: Duration::from_millis(500),
        buffer_bytes: 64 << 20,
        in_flight_max: 64,
        seed: 1,
    });
    let mut effects = Vec::new();
    edge.handle(Now::default(), Input::Schema(&schema()), &mut effects);
    let addresses: Vec<_> = addresses().into_iter().filter(IpAddr::is_ipv4).take(origins).collect();
    let lines =
        b"checkout.latency:123|ms\ncheckout.count:1|c\ncart.size:7|g\nlogin.failed:1|c\nqueue.depth:12|g";
    let mut number = 0_u64;
    bencher.counter(ItemsCount::new(addresses.len())).bench_local(|| {
        for from in &addresses {
            number += 1;
            let now = Now {
                mono: Mono(number * 1_000),
                wall: Wall(1_795_000_000_000_000_000 + number as i64 * 1_000),
            };
            let input = Input::Lines { from: *from, protocol: Protocol::Statsd, bytes: lines };
            edge.handle(now, input, &mut effects);
            while let Some(effect) = effects.pop() {
                if let Effect::Publish { id, .. } = effect {
                    edge.handle(now, Input::Published { id, outcome: Outcome::Confirmed }, &mut effects);
                }
            }
        }
    });
    assert!(edge.stats().confirmed > 0 || number < 1_000);
}
