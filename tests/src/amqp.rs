//! AMQP for stories, which are written without async: one small runtime for the whole test process, and calls that wait.

use std::sync::OnceLock;
use std::time::Duration;

use kinetic_amqp::{
    Address, AmqpError, Binding, ConsumeOptions, Consumer, Event, Outcome, PublishError, Publisher, Queue,
    QueueArgs, QueueDepth, Settle, Topology,
};
use kinetic_wire::Envelope;
use tokio::runtime::Runtime;

use crate::poll::START_PATIENCE;

/// How long a confirm may take before the story gives up on it: longer than a broker needs to start again.
const CONFIRM_TIMEOUT: Duration = START_PATIENCE;

/// The runtime under all clients.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
    })
}

/// A publishing client.
pub struct Client {
    publisher: Publisher,
}

impl Client {
    /// Connects in the background, and again whenever it must.
    #[must_use]
    pub fn start(address: Address) -> Self {
        let _inside = runtime().enter();
        Self { publisher: Publisher::start(address, Topology::default(), 64) }
    }

    /// The login by which the broker knows its connection, where a certificate says that.
    #[must_use]
    pub fn login(&self) -> Option<String> {
        self.publisher.status().login
    }

    /// Whether it has been let in before so much time has passed.
    #[must_use]
    pub fn connects_within(&self, long: Duration) -> bool {
        runtime().block_on(async {
            let connected = async {
                while !self.publisher.status().connected {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(long, connected).await.is_ok()
        })
    }

    /// Publishes and waits for the broker's confirm.
    ///
    /// # Errors
    /// As the publisher has them.
    ///
    /// # Panics
    /// If there is no answer at all.
    pub fn try_publish(
        &self,
        exchange: &str,
        routing_key: &str,
        envelope: &Envelope<'_>,
        body: &[u8],
    ) -> Result<Outcome, PublishError> {
        let body = body.to_vec();
        runtime().block_on(async {
            let publishing = self.publisher.publish(exchange, routing_key, envelope, body, true);
            tokio::time::timeout(CONFIRM_TIMEOUT, publishing)
                .await
                .unwrap_or_else(|_| panic!("no confirm in time: {:?}", self.publisher.status()))
        })
    }

    /// Publishes and waits for the broker's confirm, but not for longer than this; nothing where none came.
    pub fn publish_within(
        &self,
        long: Duration,
        exchange: &str,
        routing_key: &str,
        envelope: &Envelope<'_>,
        body: &[u8],
    ) -> Option<Result<Outcome, PublishError>> {
        let body = body.to_vec();
        runtime().block_on(async {
            let publishing = self.publisher.publish(exchange, routing_key, envelope, body, true);
            tokio::time::timeout(long, publishing).await.ok()
        })
    }

    /// Publishes something that must arrive.
    ///
    /// # Panics
    /// If the broker refuses it or routes it nowhere.
    pub fn publish(&self, exchange: &str, routing_key: &str, envelope: &Envelope<'_>, body: &[u8]) {
        let outcome = self.try_publish(exchange, routing_key, envelope, body);
        assert!(matches!(outcome, Ok(Outcome::Confirmed)), "{exchange} {routing_key}: {outcome:?}");
    }
}

/// Whether the broker lets us in.
///
/// # Errors
/// Why it does not.
pub fn log_in(address: &Address) -> Result<(), AmqpError> {
    runtime().block_on(kinetic_amqp::declare(address, &Topology::default()))
}

/// Messages and consumers of a queue; `None` where there is no such queue.
///
/// # Panics
/// If the broker cannot be asked.
#[must_use]
pub fn queue_depth(address: &Address, queue: &str) -> Option<QueueDepth> {
    runtime().block_on(kinetic_amqp::queue_depth(address, queue)).expect("the broker answers")
}

/// One message as it was taken from a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Exchange it was first published to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Its body.
    pub body: Vec<u8>,
}

/// A queue that hears what an exchange carries, without taking it from anybody.
pub struct Listener {
    consumer: Consumer,
}

impl Listener {
    /// Binds a new queue to an exchange, which must exist; hears everything from when this returns.
    ///
    /// # Panics
    /// If that does not work in time.
    #[must_use]
    pub fn bind(address: Address, exchange: &str, routing_key: &str) -> Self {
        let queue = Queue { auto_delete: false, ..Queue::default() };
        Self::bind_queue(address, exchange, routing_key, queue)
    }

    /// The same with a queue that outlives a node of a cluster.
    ///
    /// # Panics
    /// If that does not work in time.
    #[must_use]
    pub fn bind_replicated(address: Address, exchange: &str, routing_key: &str) -> Self {
        let args = QueueArgs { quorum: true, ..QueueArgs::default() };
        Self::bind_queue(address, exchange, routing_key, Queue::durable("").with_args(args))
    }

    fn bind_queue(address: Address, exchange: &str, routing_key: &str, kind: Queue) -> Self {
        let queue = format!("listener.{exchange}");
        let topology = Topology {
            queues: vec![Queue { name: queue.clone(), ..kind }],
            bindings: vec![Binding {
                exchange: exchange.to_owned(),
                queue: queue.clone(),
                routing_key: routing_key.to_owned(),
            }],
            ..Topology::default()
        };
        Self::start(address, queue, topology)
    }

    /// Consumes a queue that exists.
    ///
    /// # Panics
    /// If that does not work in time.
    #[must_use]
    pub fn consume(address: Address, queue: &str) -> Self {
        Self::start(address, queue.to_owned(), Topology::default())
    }

    fn start(address: Address, queue: String, topology: Topology) -> Self {
        let _inside = runtime().enter();
        let options = ConsumeOptions { queue, topology, prefetch: 1_000, ..ConsumeOptions::default() };
        let mut listener = Self { consumer: Consumer::start(address, options) };
        let first = runtime().block_on(async {
            tokio::time::timeout(CONFIRM_TIMEOUT, listener.consumer.next())
                .await
                .expect("a subscription in time")
        });
        assert!(matches!(first, Event::Subscribed), "{first:?}");
        listener
    }

    /// The next message within a time; it is acknowledged.
    pub fn next_within(&mut self, long: Duration) -> Option<Message> {
        runtime().block_on(async {
            let deadline = tokio::time::Instant::now() + long;
            loop {
                // Only the wait may be cut short: a delivery that has been taken must not be dropped while it is settled.
                let event = tokio::time::timeout_at(deadline, self.consumer.next()).await.ok()?;
                let Event::Delivery(delivery) = event else { continue };
                self.consumer.settle(Settle::Ack(delivery.token)).await;
                return Some(Message {
                    exchange: delivery.exchange().to_owned(),
                    routing_key: delivery.routing_key().to_owned(),
                    body: delivery.into_body(),
                });
            }
        })
    }
}
