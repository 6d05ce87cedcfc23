//! Waiting, as a further consumer on queues of others, for what the broker hands over when their consumer's connection ends.
//!
//! ```text
//! kin.witness.a7   [one message, held by a7] ──▶ 1. a7   2. us      a7's socket closes: the message is ours at once
//! ```
//! One connection and one channel for all queues: what is watched may be thousands.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use futures_util::stream::{SelectAll, once};
use futures_util::{Stream, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use tokio::sync::{mpsc, watch};

use crate::connect::{Link, Watchdog, raised};
use crate::declare::declare_queue;
use crate::drive::{self, End, Handle};
use crate::properties::short;
use crate::{Address, AmqpError, Queue};

/// Orders and reports that wait; who gives more orders waits.
const QUEUED_MAX: usize = 16_384;

/// A supervised watch over many single-active-consumer queues.
pub struct Watcher {
    orders: mpsc::Sender<Order>,
    handed: mpsc::Receiver<String>,
    handle: Handle,
}

enum Order {
    Watch(Queue),
    Unwatch(String),
}

impl Watcher {
    /// Starts connecting. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(address: Address) -> Self {
        let (orders, ordered) = mpsc::channel(QUEUED_MAX);
        let (report, handed) = mpsc::channel(QUEUED_MAX);
        let handle =
            Handle::start(|_, closed| Driver { address, ordered, report, closed, wanted: BTreeMap::new() });
        Self { orders, handed, handle }
    }

    /// Watches a queue, which is declared as it must be already, until its message is handed to us. Where nobody else consumes
    /// it, that is reported at once.
    pub async fn watch(&self, queue: Queue) {
        self.orders.send(Order::Watch(queue)).await.ok();
    }

    /// Ends a watch. A report may be on its way.
    pub async fn unwatch(&self, queue: &str) {
        self.orders.send(Order::Unwatch(queue.to_owned())).await.ok();
    }

    /// The name of the next queue whose message came to us, because its first consumer is gone. The message goes back, and the watch
    /// has ended. Cancel-safe.
    pub async fn handed(&mut self) -> String {
        match self.handed.recv().await {
            Some(queue) => queue,
            None => std::future::pending().await,
        }
    }

    /// Ends all watches and closes the connection.
    pub async fn close(self) {
        self.handle.close().await;
    }
}

/// What one subscription yields: deliveries, then once nothing.
type Handed = Pin<Box<dyn Stream<Item = (String, Option<lapin::Result<Delivery>>)> + Send>>;

/// The task behind a [`Watcher`].
struct Driver {
    address: Address,
    ordered: mpsc::Receiver<Order>,
    report: mpsc::Sender<String>,
    closed: watch::Receiver<bool>,
    wanted: BTreeMap<String, Queue>,
}

/// One connection of the driver.
struct Line {
    link: Link,
    channel: Channel,
    streams: SelectAll<Handed>,
    /// Queues with a subscription of ours.
    standing: BTreeSet<String>,
}

impl drive::Driver for Driver {
    type Line = Line;
    const WHAT: &'static str = "watching";

    async fn open(&self) -> Result<Line, AmqpError> {
        Line::open(&self.address).await
    }

    async fn serve(&mut self, line: Line) -> End<Line> {
        match self.watch(line).await {
            Ok(()) => End::Closed,
            Err(error) => End::Lost(error.chain()),
        }
    }

    /// Orders are taken meanwhile: who gives them must not wait for a broker.
    async fn idle(&mut self) {
        while let Some(order) = self.ordered.recv().await {
            match order {
                Order::Watch(queue) => self.wanted.insert(queue.name.clone(), queue),
                Order::Unwatch(name) => self.wanted.remove(&name),
            };
        }
    }
}

impl Driver {
    /// Watches until the connection fails, or the watcher is closed.
    async fn watch(&mut self, mut line: Line) -> Result<(), AmqpError> {
        let mut watchdog = Watchdog::new();
        let mut closed = self.closed.clone();
        for queue in self.wanted.values().cloned().collect::<Vec<_>>() {
            self.begin(&mut line, queue).await?;
        }
        loop {
            tokio::select! {
                Some((name, handed)) = line.streams.next() => self.handed(&mut line, name, handed).await?,
                order = self.ordered.recv() => match order {
                    Some(Order::Watch(queue)) => {
                        if self.wanted.insert(queue.name.clone(), queue.clone()).is_none() {
                            self.begin(&mut line, queue).await?;
                        }
                    }
                    Some(Order::Unwatch(name)) => {
                        self.wanted.remove(&name);
                        line.end(&name).await?;
                    }
                    None => return Ok(()),
                },
                () = raised(&mut closed) => {
                    let Line { link, channel, streams, .. } = line;
                    drop(streams);
                    link.close(&[channel]).await;
                    return Ok(());
                }
                () = watchdog.tick() => {
                    if !line.link.alive() {
                        return Err(AmqpError::Lost { reason: "the connection ended silently".to_owned() });
                    }
                }
            }
        }
    }

    async fn begin(&mut self, line: &mut Line, queue: Queue) -> Result<(), AmqpError> {
        if line.begin(&queue).await? {
            return Ok(());
        }
        self.tell(queue.name).await;
        Ok(())
    }

    async fn handed(
        &mut self,
        line: &mut Line,
        name: String,
        handed: Option<lapin::Result<Delivery>>,
    ) -> Result<(), AmqpError> {
        let delivery = match handed {
            Some(Ok(delivery)) => Some(delivery),
            Some(Err(error)) => return Err(AmqpError::of(&error, "watch a queue")),
            // The subscription has ended: by our cancel, or because the queue is gone.
            None if !line.standing.contains(&name) => return Ok(()),
            None => None,
        };
        // First the cancel, then the return: else it would come to us again.
        line.end(&name).await?;
        if let Some(delivery) = delivery {
            let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            let given_back = line.channel.basic_nack(delivery.delivery_tag, options).await;
            given_back.map_err(|error| AmqpError::of(&error, "give a witness back"))?;
        }
        self.tell(name).await;
        Ok(())
    }

    /// Reports, unless the watch has been ended meanwhile.
    async fn tell(&mut self, name: String) {
        if self.wanted.remove(&name).is_some() {
            self.report.send(name).await.ok();
        }
    }
}

impl Line {
    async fn open(address: &Address) -> Result<Self, AmqpError> {
        let link = Link::open(address).await?;
        let channel = link.channel().await?;
        channel
            .basic_qos(1, BasicQosOptions::default())
            .await
            .map_err(|error| AmqpError::of(&error, "watch queues"))?;
        Ok(Self { link, channel, streams: SelectAll::new(), standing: BTreeSet::new() })
    }

    /// Subscribes; false where nobody else is subscribed.
    async fn begin(&mut self, queue: &Queue) -> Result<bool, AmqpError> {
        let failed = |error: lapin::Error| AmqpError::of(&error, &format!("watch queue {}", queue.name));
        let name = short("a queue's name", &queue.name)?;
        let declared = declare_queue(&self.channel, queue).await?;
        if declared.consumer_count() == 0 {
            // Without a consumer it was just made by our own declaration, or nearly so; nobody else would clear it away.
            let options = QueueDeleteOptions { if_unused: true, ..QueueDeleteOptions::default() };
            self.channel.queue_delete(name, options).await.map_err(failed)?;
            return Ok(false);
        }
        let options = BasicConsumeOptions::default();
        let stream = self
            .channel
            .basic_consume(name.clone(), name, options, FieldTable::default())
            .await
            .map_err(failed)?;
        let (each, last) = (queue.name.clone(), queue.name.clone());
        let end = once(async move { (last, None) });
        self.streams.push(Box::pin(stream.map(move |handed| (each.clone(), Some(handed))).chain(end)));
        self.standing.insert(queue.name.clone());
        Ok(true)
    }

    /// Cancels the subscription, if it stands.
    async fn end(&mut self, name: &str) -> Result<(), AmqpError> {
        if !self.standing.remove(name) {
            return Ok(());
        }
        let tag = short("a consumer tag", name)?;
        let cancelled = self.channel.basic_cancel(tag, BasicCancelOptions::default()).await;
        cancelled.map_err(|error| AmqpError::of(&error, &format!("end the watch of queue {name}")))
    }
}
