//! What our consumer costs beside the plainest lapin one, on the embedded broker: `cargo bench -p kinetic-amqp`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench says what it measures, or stops")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::future::join_all;
use kinetic_amqp::{
    Address, ConsumeOptions, Consumer, Event, Publisher, Queue, Settle, Topology, drain_plainly,
};
use kinetic_broker::{Access, Broker, BrokerConfig, Password, Permission, User};
use kinetic_wire::Envelope;
use tokio::task::JoinSet;

const COUNT: u64 = 100_000;
const BODY_BYTES: usize = 1_400;
const PREFETCH: u16 = 4_000;
const ACK_EVERY: u64 = 256;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let user = User::new(
        "guest",
        Password::Plain("guest".to_owned()),
        BTreeMap::from([("/".to_owned(), Permission::all())]),
    );
    let access = Access {
        vhosts: BTreeSet::from(["/".to_owned()]),
        users: BTreeMap::from([("guest".to_owned(), user)]),
        ..Access::default()
    };
    let broker = Broker::bind(BrokerConfig::default(), access).await.unwrap();
    let address = Address::from_url(&format!("amqp://guest:guest@{}/%2f", broker.local_addr())).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(broker.run());
    for round in 0..ROUNDS {
        let published = fill(&address).await;
        let began = Instant::now();
        drain_plainly(&address, "bench", PREFETCH, ACK_EVERY, COUNT, || {}).await.unwrap();
        let plain = began.elapsed().as_secs_f64();
        fill(&address).await;
        let began = Instant::now();
        drain(&address).await;
        let ours = began.elapsed().as_secs_f64();
        let rate = |seconds: f64| COUNT as f64 / seconds / 1e3;
        println!(
            "round {round}: published confirmed {:.0}k/s, plain lapin {:.0}k/s, ours {:.0}k/s, ratio {:.2}",
            rate(published),
            rate(plain),
            rate(ours),
            plain / ours
        );
    }
}

fn topology() -> Topology {
    Topology { queues: vec![Queue::durable("bench")], ..Topology::default() }
}

async fn fill(address: &Address) -> f64 {
    let publisher = Publisher::start(address.clone(), topology(), 64);
    publisher.wait_connected().await;
    let began = Instant::now();
    join_all((0..64).map(|_| {
        let publisher = publisher.clone();
        async move {
            let body = bytes::Bytes::from(vec![b'x'; BODY_BYTES]);
            for _ in 0..COUNT.div_ceil(64) {
                publisher.publish("", "bench", &Envelope::default(), body.clone(), false).await.unwrap();
            }
        }
    }))
    .await;
    let seconds = began.elapsed().as_secs_f64();
    publisher.close().await;
    seconds
}

async fn drain(address: &Address) {
    let options =
        ConsumeOptions { queue: "bench".to_owned(), prefetch: PREFETCH, ..ConsumeOptions::default() };
    let mut consumer = Consumer::start(address.clone(), options);
    let (mut seen, mut bytes) = (0, 0);
    while seen < COUNT {
        let mut event = Some(consumer.next().await);
        while let Some(Event::Delivery(delivery)) = event {
            seen += 1;
            bytes += delivery.body().len() + delivery.routing_key().len();
            if seen % ACK_EVERY == 0 || seen == COUNT {
                consumer.settle(Settle::AckUpTo(delivery.token)).await;
            }
            event = if seen < COUNT { consumer.try_next() } else { None };
        }
    }
    assert!(bytes > 0);
    consumer.close().await;
}
