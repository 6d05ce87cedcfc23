//! How fast deliveries reach a lapin consumer: `cargo run --release -p kinetic-broker --example throughput -- [BODY] [COUNT]
//! [URI]`. Fills a queue first, then drains it twice: automatic acknowledgement, and one for every 256. Without a URI the
//! embedded broker runs in this process.

#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

use futures_util::StreamExt;
use kinetic_broker::{Access, Broker, BrokerConfig, Password, Permission, User};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use std::collections::BTreeMap;
use std::time::Instant;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Prefetch of the consumer that acknowledges.
const PREFETCH: u16 = 4096;

fn access() -> Access {
    let user = User::new(
        "guest",
        Password::Plain("guest".into()),
        BTreeMap::from([("/".into(), Permission::all())]),
    );
    Access {
        vhosts: ["/".to_owned()].into(),
        users: BTreeMap::from([("guest".to_owned(), user)]),
        ..Access::default()
    }
}

fn main() -> Fallible<()> {
    let mut args = std::env::args().skip(1);
    let body: usize = args.next().map_or(Ok(1400), |text| text.parse())?;
    let count: usize = args.next().map_or(Ok(300_000), |text| text.parse())?;
    let uri = args.next();
    // The broker has threads of its own, as in its own process; the client has one.
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let config = BrokerConfig { memory_bytes_max: 4 << 30, ..BrokerConfig::default() };
    let broker = server.block_on(Broker::bind(config, access()))?;
    let uri = uri.unwrap_or_else(|| format!("amqp://guest:guest@{}/%2f?heartbeat=0", broker.local_addr()));
    let handle = broker.handle();
    let running = server.spawn(broker.run());
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    client.block_on(measure(&uri, body, count))?;
    handle.shutdown();
    server.block_on(running)?;
    Ok(())
}

async fn measure(uri: &str, body: usize, count: usize) -> Fallible<()> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?.name().to_string();
    for ack_every in [0usize, 256] {
        let filled = fill(&channel, &queue, body, count).await?;
        let drained = drain(&connection, &queue, count, ack_every).await?;
        let mode = if ack_every == 0 { "auto-ack" } else { "ack256" };
        println!("{mode:8} {body} B: published {filled:.0} msg/s, delivered {drained:.0} msg/s");
    }
    connection.close(200, "".into()).await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
async fn fill(channel: &Channel, queue: &str, body: usize, count: usize) -> Fallible<f64> {
    let body = vec![b'x'; body];
    let started = Instant::now();
    for _ in 0..count {
        let options = BasicPublishOptions::default();
        channel.basic_publish("".into(), queue.into(), options, &body, BasicProperties::default()).await?;
    }
    let passive = QueueDeclareOptions { passive: true, exclusive: true, ..Default::default() };
    while channel.queue_declare(queue.into(), passive, FieldTable::default()).await?.message_count() as usize
        != count
    {}
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
async fn drain(connection: &Connection, queue: &str, count: usize, ack_every: usize) -> Fallible<f64> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions { no_ack: ack_every == 0, ..Default::default() };
    let started = Instant::now();
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    for n in 1..=count {
        let delivery = consumer.next().await.ok_or("the consumer ended")??;
        if ack_every != 0 && (n % ack_every == 0 || n == count) {
            delivery.ack(BasicAckOptions { multiple: true }).await?;
        }
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    channel.close(200, "".into()).await?;
    Ok(rate)
}
