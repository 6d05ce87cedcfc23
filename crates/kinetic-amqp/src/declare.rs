//! Exchanges, queues and bindings as plain values, and the one place that declares them.

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind as LapinKind};

use crate::connect::Link;
use crate::properties::short;
use crate::{Address, AmqpError};

/// What must exist on the broker. Declaring is idempotent; it is done again after every reconnect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Declared first.
    pub exchanges: Vec<Exchange>,
    /// Declared second.
    pub queues: Vec<Queue>,
    /// Declared last.
    pub bindings: Vec<Binding>,
}

/// How an exchange routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExchangeKind {
    /// By equal routing key.
    #[default]
    Direct,
    /// To everything bound.
    Fanout,
    /// By pattern over dotted words.
    Topic,
    /// By headers.
    Headers,
    /// To one of what is bound, always the same for the same value (`x-consistent-hash`; on RabbitMQ a plugin of its
    /// distribution). Routing keys of bindings are weights.
    ConsistentHash,
}

/// An exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Survives a restart of the broker.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Where messages go that match no binding (`alternate-exchange`).
    pub alternate_exchange: Option<String>,
    /// Of a [`ExchangeKind::ConsistentHash`]: the header whose value is hashed (`hash-header`); else the routing key.
    pub hash_header: Option<String>,
    /// Whose it is, for whoever tidies up (argument, value). Brokers do not compare it when an exchange is declared again.
    pub mark: Option<(String, String)>,
    /// Exchanges that it takes messages from, each with the routing key or pattern. Bound last, when all that is
    /// behind this exchange stands.
    pub takes_from: Vec<(String, String)>,
}

impl Exchange {
    /// A durable exchange.
    #[must_use]
    pub fn durable(name: impl Into<String>, kind: ExchangeKind) -> Self {
        Self { name: name.into(), kind, durable: true, ..Self::default() }
    }
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queue {
    /// Its name; empty lets the broker choose (only useful for the queue of a [`crate::Consumer`]).
    pub name: String,
    /// Survives a restart of the broker.
    pub durable: bool,
    /// Only for the connection that declares it.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// `x-` arguments.
    pub args: QueueArgs,
}

impl Queue {
    /// A durable queue without limits.
    #[must_use]
    pub fn durable(name: impl Into<String>) -> Self {
        Self { name: name.into(), durable: true, ..Self::default() }
    }

    /// The same queue with arguments.
    #[must_use]
    pub fn with_args(mut self, args: QueueArgs) -> Self {
        self.args = args;
        self
    }
}

/// What a full queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overflow {
    /// The oldest message is dropped, or dead-lettered where there is an exchange for that.
    DropHead,
    /// The new message is refused: its publisher gets a negative confirm.
    RejectPublish,
    /// The same, and the refused message is dead-lettered.
    RejectPublishDlx,
}

/// Arguments of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueArgs {
    /// Messages (`x-max-length`).
    pub max_length: Option<u64>,
    /// Body bytes (`x-max-length-bytes`).
    pub max_length_bytes: Option<u64>,
    /// What happens beyond (`x-overflow`).
    pub overflow: Option<Overflow>,
    /// `x-dead-letter-exchange`.
    pub dead_letter_exchange: Option<String>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<String>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-message-ttl`, in milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`, in milliseconds: the queue goes when unused for so long.
    pub expires_ms: Option<u64>,
    /// `x-queue-type: quorum`: replicated, where the broker is a cluster.
    pub quorum: bool,
}

/// A queue bound to an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The queue; empty means the server-named queue of a [`crate::Consumer`].
    pub queue: String,
    /// The exchange.
    pub exchange: String,
    /// Routing key, or pattern on a topic exchange.
    pub routing_key: String,
}

impl Binding {
    /// Binds `queue` to `exchange` under `routing_key`.
    #[must_use]
    pub fn new(
        queue: impl Into<String>,
        exchange: impl Into<String>,
        routing_key: impl Into<String>,
    ) -> Self {
        Self { queue: queue.into(), exchange: exchange.into(), routing_key: routing_key.into() }
    }
}

impl QueueArgs {
    fn table(&self) -> Result<FieldTable, AmqpError> {
        let mut table = FieldTable::default();
        let mut number = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                table.insert(name.into(), AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX)));
            }
        };
        number("x-max-length", self.max_length);
        number("x-max-length-bytes", self.max_length_bytes);
        number("x-message-ttl", self.message_ttl_ms);
        number("x-expires", self.expires_ms);
        let mut text = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                table.insert(name.into(), AMQPValue::LongString(value.into()));
            }
        };
        text(
            "x-overflow",
            self.overflow.map(|overflow| match overflow {
                Overflow::DropHead => "drop-head",
                Overflow::RejectPublish => "reject-publish",
                Overflow::RejectPublishDlx => "reject-publish-dlx",
            }),
        );
        text("x-dead-letter-exchange", self.dead_letter_exchange.as_deref());
        text("x-dead-letter-routing-key", self.dead_letter_routing_key.as_deref());
        text("x-queue-type", self.quorum.then_some("quorum"));
        if self.single_active_consumer {
            table.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        Ok(table)
    }
}

/// Declares `topology` once, on a connection of its own. What the broker refuses keeps nothing else from being declared: who may
/// declare his own exchange could make it something else, and nobody but him is to suffer.
///
/// # Errors
/// What [`AmqpError`] lists; of several refusals the first. [`AmqpError::Refused`] with code 406 means that something exists with
/// other arguments.
pub async fn declare(address: &Address, topology: &Topology) -> Result<(), AmqpError> {
    let link = Link::open(address).await?;
    let mut channel = link.channel().await?;
    let mut declared = Ok(());
    for step in steps(topology) {
        match step.take(&channel).await {
            Ok(()) => {}
            Err(refused @ AmqpError::Refused { .. }) => {
                declared = declared.and(Err(refused));
                channel = link.channel().await?;
            }
            Err(error) => return Err(error),
        }
    }
    link.close(&[channel]).await;
    declared
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages ready for delivery.
    pub messages: u32,
    /// Consumers subscribed.
    pub consumers: u32,
}

/// Asks for the depth of a queue, on a connection of its own; `None` where there is no such queue.
///
/// # Errors
/// What [`AmqpError`] lists.
pub async fn queue_depth(address: &Address, queue: &str) -> Result<Option<QueueDepth>, AmqpError> {
    let link = Link::open(address).await?;
    let channel = link.channel().await?;
    let name = short("a queue's name", queue)?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel.queue_declare(name, options, FieldTable::default()).await;
    link.close(&[channel]).await;
    match asked {
        Ok(queue) => {
            Ok(Some(QueueDepth { messages: queue.message_count(), consumers: queue.consumer_count() }))
        }
        Err(error) => match AmqpError::of(&error, &format!("look at queue {queue}")) {
            AmqpError::Refused { code: 404, .. } => Ok(None),
            error => Err(error),
        },
    }
}

/// Deletes a queue with everything in it, on a connection of its own. A queue that does not exist is no error.
///
/// # Errors
/// What [`AmqpError`] lists.
pub async fn delete_queue(address: &Address, queue: &str) -> Result<(), AmqpError> {
    let link = Link::open(address).await?;
    let channel = link.channel().await?;
    let name = short("a queue's name", queue)?;
    let deleted = channel.queue_delete(name, QueueDeleteOptions::default()).await;
    link.close(&[channel]).await;
    deleted.map(drop).map_err(|error| AmqpError::of(&error, &format!("delete queue {queue}")))
}

/// Deletes a queue unless it holds messages or has consumers, on a connection of its own; returns whether it is gone. A queue that
/// does not exist is. Replicated (quorum) queues cannot be deleted so.
///
/// # Errors
/// What [`AmqpError`] lists.
pub async fn delete_idle_queue(address: &Address, queue: &str) -> Result<bool, AmqpError> {
    let link = Link::open(address).await?;
    let channel = link.channel().await?;
    let name = short("a queue's name", queue)?;
    let options = QueueDeleteOptions { if_unused: true, if_empty: true, ..QueueDeleteOptions::default() };
    let deleted = channel.queue_delete(name, options).await;
    link.close(&[channel]).await;
    match deleted.map_err(|error| AmqpError::of(&error, &format!("delete queue {queue}"))) {
        Ok(_messages) => Ok(true),
        Err(AmqpError::Refused { code: 406, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What an earlier topology made and the one in force does not want. Nothing of it has to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Bindings of queues.
    pub bindings: Vec<Binding>,
    /// Exchanges, with all their bindings.
    pub exchanges: Vec<String>,
}

/// Removes leftovers, on a connection of its own: exchanges first. One that spreads by a hash and has lost one of its queues
/// would lead what belongs there to another.
///
/// # Errors
/// What [`AmqpError`] lists.
pub async fn remove(address: &Address, leftovers: &Leftovers) -> Result<(), AmqpError> {
    let link = Link::open(address).await?;
    let channel = link.channel().await?;
    let removed = remove_on(&channel, leftovers).await;
    link.close(&[channel]).await;
    removed
}

async fn remove_on(channel: &Channel, leftovers: &Leftovers) -> Result<(), AmqpError> {
    for (index, exchange) in leftovers.exchanges.iter().enumerate() {
        let name = short("an exchange's name", exchange)?;
        // There may be one per source, and hardly ever is one there: only the last is waited for, after all before it.
        let nowait = index + 1 < leftovers.exchanges.len();
        let options = ExchangeDeleteOptions { nowait, ..ExchangeDeleteOptions::default() };
        let deleted = channel.exchange_delete(name, options).await;
        deleted.map_err(|error| AmqpError::of(&error, &format!("delete exchange {exchange}")))?;
    }
    for Binding { queue, exchange, routing_key } in &leftovers.bindings {
        let unbound = channel.queue_unbind(
            short("a queue's name", queue)?,
            short("an exchange's name", exchange)?,
            short("a routing key", routing_key)?,
            FieldTable::default(),
        );
        unbound.await.map_err(|error| {
            AmqpError::of(&error, &format!("unbind queue {queue} from exchange {exchange}"))
        })?;
    }
    Ok(())
}

/// One thing to be declared.
enum Step<'a> {
    Exchange(&'a Exchange),
    Queue(&'a Queue),
    Binding(&'a Binding),
    Takes(&'a Exchange),
}

impl Step<'_> {
    async fn take(&self, channel: &Channel) -> Result<(), AmqpError> {
        match self {
            Self::Exchange(exchange) => declare_exchange(channel, exchange).await,
            Self::Queue(queue) => declare_queue(channel, queue).await.map(drop),
            Self::Binding(binding) => bind(channel, binding, &binding.queue).await,
            Self::Takes(exchange) => bind_exchange(channel, exchange).await,
        }
    }
}

/// All but what names the server-named queue (the empty name), in order.
fn steps(topology: &Topology) -> impl Iterator<Item = Step<'_>> {
    let queues = topology.queues.iter().filter(|queue| !queue.name.is_empty());
    let bindings = topology.bindings.iter().filter(|binding| !binding.queue.is_empty());
    let exchanges = topology.exchanges.iter();
    exchanges
        .clone()
        .map(Step::Exchange)
        .chain(queues.map(Step::Queue))
        .chain(bindings.map(Step::Binding))
        .chain(exchanges.map(Step::Takes))
}

/// Declares everything but what names the server-named queue (the empty name).
pub(crate) async fn declare_on(channel: &Channel, topology: &Topology) -> Result<(), AmqpError> {
    for step in steps(topology) {
        step.take(channel).await?;
    }
    Ok(())
}

/// Declares the server-named queue, exclusive to this connection, and binds it; answers its name.
pub(crate) async fn declare_own_queue(
    channel: &Channel,
    topology: &Topology,
) -> Result<ShortString, AmqpError> {
    let args = topology.queues.iter().find(|queue| queue.name.is_empty()).map(|queue| queue.args.clone());
    let own =
        Queue { exclusive: true, auto_delete: true, args: args.unwrap_or_default(), ..Queue::default() };
    let name = declare_queue(channel, &own).await?.name().clone();
    for binding in topology.bindings.iter().filter(|binding| binding.queue.is_empty()) {
        bind(channel, binding, name.as_str()).await?;
    }
    Ok(name)
}

async fn declare_exchange(channel: &Channel, exchange: &Exchange) -> Result<(), AmqpError> {
    let kind = match exchange.kind {
        ExchangeKind::Direct => LapinKind::Direct,
        ExchangeKind::Fanout => LapinKind::Fanout,
        ExchangeKind::Topic => LapinKind::Topic,
        ExchangeKind::Headers => LapinKind::Headers,
        ExchangeKind::ConsistentHash => LapinKind::Custom("x-consistent-hash".to_owned()),
    };
    let options = ExchangeDeclareOptions {
        durable: exchange.durable,
        auto_delete: exchange.auto_delete,
        ..ExchangeDeclareOptions::default()
    };
    let mut args = FieldTable::default();
    if let Some(alternate) = &exchange.alternate_exchange {
        args.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.as_str().into()));
    }
    if let Some(header) = &exchange.hash_header {
        args.insert("hash-header".into(), AMQPValue::LongString(header.as_str().into()));
    }
    if let Some((name, value)) = &exchange.mark {
        args.insert(short("an argument's name", name)?, AMQPValue::LongString(value.as_str().into()));
    }
    channel
        .exchange_declare(short("an exchange's name", &exchange.name)?, kind, options, args)
        .await
        .map_err(|error| AmqpError::of(&error, &format!("declare exchange {}", exchange.name)))
}

async fn bind_exchange(channel: &Channel, exchange: &Exchange) -> Result<(), AmqpError> {
    for (source, routing_key) in &exchange.takes_from {
        let bound = channel.exchange_bind(
            short("an exchange's name", &exchange.name)?,
            short("an exchange's name", source)?,
            short("a routing key", routing_key)?,
            ExchangeBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.map_err(|error| {
            AmqpError::of(&error, &format!("bind exchange {} to exchange {source}", exchange.name))
        })?;
    }
    Ok(())
}

pub(crate) async fn declare_queue(channel: &Channel, queue: &Queue) -> Result<lapin::Queue, AmqpError> {
    let options = QueueDeclareOptions {
        durable: queue.durable,
        exclusive: queue.exclusive,
        auto_delete: queue.auto_delete,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(short("a queue's name", &queue.name)?, options, queue.args.table()?)
        .await
        .map_err(|error| AmqpError::of(&error, &format!("declare queue {}", queue.name)))
}

async fn bind(channel: &Channel, binding: &Binding, queue: &str) -> Result<(), AmqpError> {
    channel
        .queue_bind(
            short("a queue's name", queue)?,
            short("an exchange's name", &binding.exchange)?,
            short("a routing key", &binding.routing_key)?,
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(|error| {
            AmqpError::of(&error, &format!("bind queue {queue} to exchange {}", binding.exchange))
        })
}
