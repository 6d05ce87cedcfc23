//! The broker's witness that this node's connection stands: a queue of its own whose one message it holds.
//!
//! When the connection ends, however it ends, the broker hands the message to the redirector that leads, which waits in line.

use bytes::Bytes;
use kinetic_amqp::{Address, ConsumeOptions, Consumer, Event, Outcome, Publisher, Settle, Topology};
use kinetic_wire::{Envelope, NodeId, names};

use super::PUBLISH_RETRY;
use crate::topology;

/// What has happened to the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    /// There is a subscription, and no message of ours yet.
    Subscribed,
    /// The message is held, or is not any more.
    Stands(bool),
}

/// The subscription to it.
pub(super) struct Witness {
    consumer: Consumer,
    queue: String,
    /// The message held.
    held: Option<u64>,
}

impl Witness {
    pub(super) fn start(control: Address, node: &NodeId) -> Self {
        let queue = names::witness_queue(node);
        let options = ConsumeOptions {
            queue: queue.clone(),
            topology: Topology { queues: vec![topology::witness(node)], ..Topology::default() },
            prefetch: 2,
            ..ConsumeOptions::default()
        };
        Self { consumer: Consumer::start(control, options), queue, held: None }
    }

    /// What happens next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Event {
        self.consumer.next().await
    }

    /// Takes what has happened. Of several messages (a publish that was repeated, or an earlier process's) one is held.
    pub(super) async fn take(&mut self, event: Event) -> Change {
        match event {
            Event::Subscribed => Change::Subscribed,
            Event::Delivery(delivery) if self.held.is_none() => {
                self.held = Some(delivery.token);
                Change::Stands(true)
            }
            Event::Delivery(delivery) => {
                self.consumer.settle(Settle::Ack(delivery.token)).await;
                Change::Nothing
            }
            Event::Lost { reason } => {
                tracing::debug!(reason, "the witness queue's subscription is lost");
                if self.held.take().is_some() { Change::Stands(false) } else { Change::Nothing }
            }
            Event::Cancelled => Change::Nothing,
        }
    }

    /// Puts the message into the queue, until it is there or the queue is gone.
    pub(super) fn put(&self, publisher: &Publisher) -> impl Future<Output = ()> + use<> {
        let (publisher, queue) = (publisher.clone(), self.queue.clone());
        async move {
            loop {
                match publisher.publish("", &queue, &Envelope::default(), Bytes::new(), true).await {
                    Ok(Outcome::Confirmed | Outcome::Unroutable) => return,
                    Err(error) => tracing::debug!(%error, "the witness was not confirmed; trying again"),
                }
                tokio::time::sleep(PUBLISH_RETRY).await;
            }
        }
    }

    /// Ends the subscription; the message goes with the queue, or to who waits for it.
    pub(super) async fn close(self) {
        self.consumer.close().await;
    }
}
