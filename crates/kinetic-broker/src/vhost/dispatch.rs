//! From the head of a queue to the outbox of the consumer whose turn it is; O(1) for each message.

use super::dead::{Dead, Reason};
use super::{Consumer, Map, Session};
use crate::channel::Unacked;
use crate::message::Message;
use crate::outbox::Out;
use crate::queue::{ConsumerId, Queue, QueueId, SessionId};
use crate::stats::Stats;
use std::collections::VecDeque;
use std::sync::Arc;

/// All that a delivery touches beside its queue.
#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    pub(super) now_ms: u64,
    pub(super) sessions: Map<SessionId, Session>,
    pub(super) consumers: Map<ConsumerId, Consumer>,
    /// Sessions whose outbox got something; the same one not twice in a row.
    pub(super) wake: Vec<SessionId>,
    pub(super) counters: Stats,
    /// Messages on their way to a dead-letter exchange.
    pub(super) dead: VecDeque<Dead>,
}

/// What one consumer says to one more message.
enum Room {
    Yes,
    Prefetch,
    SlowReader,
}

impl Dispatch {
    pub(super) fn wake(&mut self, id: SessionId) {
        if self.wake.last() != Some(&id) {
            self.wake.push(id);
        }
    }

    /// Hands out messages while there are any and somebody takes them.
    pub(super) fn run(&mut self, queue: &mut Queue, id: QueueId) {
        while !queue.is_empty() {
            let Some(next) = queue.next_consumer() else { return };
            // Strictly before: what expires this very moment may still go to a consumer that waits for it.
            if queue.head_expires_ms().is_some_and(|at| at < self.now_ms) {
                self.expire(queue);
                continue;
            }
            let Some(consumer) = self.consumers.get_mut(&next) else {
                queue.park();
                continue;
            };
            let Some(session) = self.sessions.get_mut(&consumer.session) else {
                queue.park();
                continue;
            };
            let Some(channel) = session.channels.get_mut(&consumer.channel) else {
                queue.park();
                continue;
            };
            let room = match () {
                () if consumer.prefetch != 0 && consumer.unacked >= consumer.prefetch => Room::Prefetch,
                () if !consumer.no_ack && !channel.has_room() => Room::Prefetch,
                () if !session.outbox.has_room() => Room::SlowReader,
                () => Room::Yes,
            };
            if !matches!(room, Room::Yes) {
                self.counters.slow_readers += u64::from(matches!(room, Room::SlowReader));
                consumer.parked = true;
                queue.park();
                continue;
            }
            let Some(entry) = queue.pop() else { return };
            let tag = channel.next_tag();
            session.outbox.push(Out::Deliver {
                channel: consumer.channel,
                consumer_tag: Arc::clone(&consumer.tag),
                tag,
                redelivered: entry.redelivered,
                message: Arc::clone(&entry.message),
            });
            self.counters.delivered += 1;
            self.counters.redelivered += u64::from(entry.redelivered);
            if consumer.no_ack {
                self.counters.acked += 1;
            } else {
                consumer.unacked += 1;
                channel.outstanding += 1;
                queue.unacked += 1;
                channel.unacked.push(tag, Unacked { queue: id, consumer: Some(next), entry });
            }
            let session = consumer.session;
            queue.rotate();
            self.wake(session);
        }
    }

    /// Buries what has expired at the head.
    pub(super) fn expire(&mut self, queue: &mut Queue) {
        while let Some(entry) = queue.pop_expired(self.now_ms) {
            self.counters.expired += 1;
            self.bury(queue, entry.message, Reason::Expired);
        }
    }

    /// Notes a message for the queue's dead-letter exchange, if it has one; drops it otherwise.
    pub(super) fn bury(&mut self, queue: &Queue, message: Arc<Message>, reason: Reason) {
        let Some(exchange) = queue.args.dead_letter_exchange.clone() else { return };
        self.dead.push_back(Dead {
            message,
            queue: Arc::clone(&queue.name),
            exchange,
            key: queue.args.dead_letter_key.clone(),
            reason,
        });
    }
}
