//! Short words for the checks.

use super::World;
use futures_util::StreamExt;
use lapin::Confirmation;
use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, Error, ErrorKind, ExchangeKind,
};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) type Check = (&'static str, fn(World) -> Pin<Box<dyn Future<Output = ()> + Send>>);

/// Lists async functions as checks.
#[macro_export]
macro_rules! checks {
    ($($name:ident),* $(,)?) => { vec![$((stringify!($name), |world| Box::pin($name(world)))),*] };
}

/// A connection and one channel on it.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
}

pub(crate) async fn link_as(world: &World, user: &str) -> Link {
    let connection =
        Connection::connect(&world.uri(user), ConnectionProperties::default()).await.expect("connects");
    let channel = connection.create_channel().await.expect("a channel");
    Link { connection, channel }
}

pub(crate) async fn link(world: &World) -> Link {
    link_as(world, "admin").await
}

/// A name nobody else uses in this run.
pub(crate) fn name(prefix: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{prefix}.{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub(crate) fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

/// The reply code of a refusal.
#[track_caller]
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> u16 {
    match result.expect_err("a refusal").kind() {
        ErrorKind::ProtocolError(error) => error.get_id(),
        other => panic!("not a refusal: {other:?}"),
    }
}

impl Link {
    /// A transient queue of the connection.
    pub(crate) async fn queue(&self, args: FieldTable) -> String {
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        self.declare("", options, args).await.expect("declares")
    }

    pub(crate) async fn declare(
        &self,
        name: &str,
        options: QueueDeclareOptions,
        args: FieldTable,
    ) -> Result<String, Error> {
        Ok(self.channel.queue_declare(name.into(), options, args).await?.name().to_string())
    }

    pub(crate) async fn exchange(&self, kind: ExchangeKind) -> String {
        let name = name("x");
        let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
        let args = FieldTable::default();
        self.channel.exchange_declare(name.as_str().into(), kind, options, args).await.expect("declares");
        name
    }

    pub(crate) async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let args = FieldTable::default();
        let bind =
            self.channel.queue_bind(queue.into(), exchange.into(), key.into(), Default::default(), args);
        bind.await.expect("binds");
    }

    pub(crate) async fn confirm_mode(&self) {
        self.channel.confirm_select(Default::default()).await.expect("selects");
    }

    pub(crate) async fn send(&self, exchange: &str, key: &str, body: &str) -> Confirmation {
        self.send_with(exchange, key, body, false, BasicProperties::default()).await.expect("confirms")
    }

    pub(crate) async fn send_with(
        &self,
        exchange: &str,
        key: &str,
        body: &str,
        mandatory: bool,
        properties: BasicProperties,
    ) -> Result<Confirmation, Error> {
        let options = BasicPublishOptions { mandatory, ..Default::default() };
        self.channel
            .basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties)
            .await?
            .await
    }

    pub(crate) async fn consume(&self, queue: &str, no_ack: bool) -> Consumer {
        let options = BasicConsumeOptions { no_ack, ..Default::default() };
        let consume = self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        consume.await.expect("consumes")
    }

    /// Takes the head without waiting, acknowledged.
    pub(crate) async fn take(&self, queue: &str) -> Option<Delivery> {
        let options = BasicGetOptions { no_ack: true };
        self.channel.basic_get(queue.into(), options).await.expect("gets").map(|message| message.delivery)
    }

    /// Ready messages in a queue.
    pub(crate) async fn depth(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue =
            self.channel.queue_declare(queue.into(), options, FieldTable::default()).await.expect("is there");
        queue.message_count()
    }

    /// Waits until a queue holds this many.
    pub(crate) async fn until_depth(&self, queue: &str, want: u32) {
        for _ in 0..200 {
            if self.depth(queue).await == want {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{queue} never held {want}, but {}", self.depth(queue).await);
    }
}

/// The next delivery, within five seconds.
pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    let next = tokio::time::timeout(Duration::from_secs(5), consumer.next()).await;
    next.expect("a delivery in time").expect("the consumer lives").expect("no error")
}

/// Whether nothing comes for a while.
pub(crate) async fn silent(consumer: &mut Consumer) -> bool {
    tokio::time::timeout(Duration::from_millis(200), consumer.next()).await.is_err()
}

pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

pub(crate) async fn bodies(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        bodies.push(body(&next(consumer).await));
    }
    bodies
}
