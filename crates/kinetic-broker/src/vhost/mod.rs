//! One vhost: exchanges, queues and the sessions of connected clients, behind one lock. No I/O, no clock: whoever
//! holds the lock sets the time first.

mod dead;
mod declare;
mod dispatch;
mod settle;

use crate::channel::{Channel, Confirms, UnackedRing};
use crate::error::{Failure, Outcome};
use crate::exchange::{Exchanges, Route};
use crate::message::Message;
use crate::outbox::{OUTBOUND_BYTES_STOP, Out, Outbox};
use crate::queue::{ConsumerId, Pushed, Queue, QueueId, SessionId};
use crate::stats::{QueueDepth, Stats};
use dead::Reason;
pub(crate) use declare::DeclareQueue;
use dispatch::Dispatch;
pub(crate) use settle::{ConsumeSpec, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Map with a fixed hasher; its order never shows.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

/// Bounds of one vhost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) queues_max: usize,
    pub(crate) exchanges_max: usize,
    pub(crate) bindings_max: usize,
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) channels: Map<u16, Channel>,
    exclusive: BTreeSet<QueueId>,
    /// The client understands `basic.cancel` from the server.
    cancel_notify: bool,
}

/// A subscription.
#[derive(Debug)]
pub(crate) struct Consumer {
    queue: QueueId,
    session: SessionId,
    channel: u16,
    tag: Arc<str>,
    no_ack: bool,
    prefetch: usize,
    unacked: usize,
    parked: bool,
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    /// At least one queue was found for it.
    pub(crate) routed: bool,
    /// At least one queue refused it.
    pub(crate) refused: bool,
}

/// One vhost.
#[derive(Debug)]
pub(crate) struct VHost {
    pub(crate) name: Arc<str>,
    bounds: Bounds,
    pub(crate) exchanges: Exchanges,
    queues: Map<QueueId, Queue>,
    names: Map<Arc<str>, QueueId>,
    replies: Map<Arc<str>, (SessionId, u16)>,
    /// Queues with something to do by themselves, by time.
    timers: BTreeSet<(u64, QueueId)>,
    dispatch: Dispatch,
    id_next: u64,
    /// Seconds since 1970, for `x-death`.
    pub(crate) wall_s: u64,
    /// Kept between publishes for its allocation.
    routed: Vec<QueueId>,
    /// An earlier timer than any before was set.
    pub(crate) timer_moved: bool,
}

/// Routing keys that lead to a direct reply-to consumer begin so.
pub(crate) const REPLY_PREFIX: &str = "amq.rabbitmq.reply-to.";

impl VHost {
    pub(crate) fn new(name: &str, bounds: Bounds) -> Self {
        let name: Arc<str> = name.into();
        Self {
            exchanges: Exchanges::new(Arc::clone(&name)),
            name,
            bounds,
            queues: Map::default(),
            names: Map::default(),
            replies: Map::default(),
            timers: BTreeSet::new(),
            dispatch: Dispatch::default(),
            id_next: 0,
            wall_s: 0,
            routed: Vec::new(),
            timer_moved: false,
        }
    }

    fn next_id(&mut self) -> u64 {
        self.id_next += 1;
        self.id_next
    }

    /// Milliseconds that all that follows happens at.
    pub(crate) fn set_now(&mut self, now_ms: u64, wall_s: u64) {
        self.dispatch.now_ms = now_ms;
        self.wall_s = wall_s;
    }

    fn now_ms(&self) -> u64 {
        self.dispatch.now_ms
    }

    /// Outboxes that got something since the last call: their writers are to be woken.
    pub(crate) fn take_wake(&mut self, wake: &mut Vec<Arc<Outbox>>) {
        for id in self.dispatch.wake.drain(..) {
            if let Some(session) = self.dispatch.sessions.get(&id) {
                wake.push(Arc::clone(&session.outbox));
            }
        }
    }

    /// Counters of this vhost, for others to add to.
    pub(crate) fn counters(&mut self) -> &mut Stats {
        &mut self.dispatch.counters
    }

    /// A client connected.
    pub(crate) fn add_session(&mut self, id: SessionId, outbox: Arc<Outbox>, cancel_notify: bool) {
        let session = Session { outbox, channels: Map::default(), exclusive: BTreeSet::new(), cancel_notify };
        self.dispatch.sessions.insert(id, session);
    }

    /// A client is gone: its deliveries go back, its consumers and exclusive queues go.
    pub(crate) fn remove_session(&mut self, id: SessionId) {
        let Some(session) = self.dispatch.sessions.get(&id) else { return };
        let channels: Vec<u16> = session.channels.keys().copied().collect();
        for channel in channels {
            self.close_channel(id, channel);
        }
        let exclusive = self.dispatch.sessions.remove(&id).map(|session| session.exclusive);
        for queue in exclusive.unwrap_or_default() {
            self.remove_queue(queue);
        }
    }

    /// Opens a channel.
    pub(crate) fn open_channel(&mut self, id: SessionId, channel: u16) {
        if let Some(session) = self.dispatch.sessions.get_mut(&id) {
            session.channels.insert(channel, Channel::default());
        }
    }

    /// Closes a channel: consumers first, so that nothing is redelivered to it.
    pub(crate) fn close_channel(&mut self, id: SessionId, channel: u16) {
        let Some(session) = self.dispatch.sessions.get_mut(&id) else { return };
        let Some(mut closed) = session.channels.remove(&channel) else { return };
        if let Some((key, _)) = &closed.reply {
            self.replies.remove(key);
        }
        let mut touched = Vec::new();
        for consumer in std::mem::take(&mut closed.consumers).into_values() {
            touched.extend(self.drop_consumer(consumer));
        }
        let mut unacked = Vec::new();
        closed.unacked.take_up_to(0, &mut unacked);
        for item in unacked {
            if let Some(queue) = self.queues.get_mut(&item.queue) {
                queue.unacked -= 1;
                queue.requeue(item.entry);
                touched.push(item.queue);
            }
        }
        self.serve(touched);
    }

    /// The channel of a session.
    pub(crate) fn channel(&mut self, id: SessionId, channel: u16) -> Option<&mut Channel> {
        self.dispatch.sessions.get_mut(&id)?.channels.get_mut(&channel)
    }

    /// Removes a consumer from the broker and its queue (not from its channel). The queue, if it is still there and
    /// others may have their turn now.
    fn drop_consumer(&mut self, id: ConsumerId) -> Option<QueueId> {
        let consumer = self.dispatch.consumers.remove(&id)?;
        let now = self.now_ms();
        let queue = self.queues.get_mut(&consumer.queue)?;
        queue.remove_consumer(id);
        queue.used_ms = now;
        if queue.consumers.is_empty() && queue.spec.auto_delete {
            self.remove_queue(consumer.queue);
            return None;
        }
        Some(consumer.queue)
    }

    /// Routes a message and puts it into every queue it reaches. 404 when its exchange is not there.
    pub(crate) fn publish(&mut self, message: Message) -> Outcome<(Published, Arc<Message>)> {
        let mut queues = std::mem::take(&mut self.routed);
        queues.clear();
        if message.exchange.is_empty() {
            let keys = std::iter::once(message.routing_key()).chain(message.copies.iter().map(|key| &**key));
            queues.extend(keys.filter_map(|key| self.names.get(key).copied()));
            queues.sort_unstable();
            queues.dedup();
        } else {
            self.exchanges.lookup(&message.exchange)?;
            let route = Route {
                key: message.routing_key(),
                copies: &message.copies,
                properties: message.properties(),
            };
            self.exchanges.route(&message.exchange, route, &mut queues);
        }
        let message = Arc::new(message);
        let counters = &mut self.dispatch.counters;
        counters.published += 1;
        if message.exchange.is_empty() && message.routing_key().starts_with(REPLY_PREFIX) {
            // As in RabbitMQ a reply is no queue: with `mandatory` it comes back as not routed, and arrives.
            self.deliver_reply(&message);
        } else if queues.is_empty() {
            counters.unroutable += 1;
        }
        let mut published = Published { routed: !queues.is_empty(), refused: false };
        for id in &queues {
            published.refused |= !self.enqueue(*id, &message);
        }
        self.routed = queues;
        self.settle_dead();
        Ok((published, message))
    }

    /// Puts a message into a queue and serves its consumers; false when the queue refuses it.
    fn enqueue(&mut self, id: QueueId, message: &Arc<Message>) -> bool {
        let Some(queue) = self.queues.get_mut(&id) else { return true };
        match queue.push(Arc::clone(message), self.dispatch.now_ms) {
            Pushed::Accepted => {}
            refused => {
                self.dispatch.counters.rejected_overflow += 1;
                if refused == Pushed::RefusedDeadLetter {
                    self.dispatch.bury(queue, Arc::clone(message), Reason::MaxLen);
                }
                return false;
            }
        }
        self.dispatch.counters.routed += 1;
        self.dispatch.run(queue, id);
        if !queue.is_empty() {
            while let Some(entry) = queue.pop_overflow() {
                self.dispatch.counters.dropped_overflow += 1;
                self.dispatch.bury(queue, entry.message, Reason::MaxLen);
            }
            self.dispatch.expire(queue);
            self.arm(id);
        }
        true
    }

    /// Serves queues that changed, then whatever that buried.
    fn serve(&mut self, mut touched: Vec<QueueId>) {
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            self.serve_one(id);
        }
        self.settle_dead();
    }

    fn serve_one(&mut self, id: QueueId) {
        if let Some(queue) = self.queues.get_mut(&id) {
            self.dispatch.run(queue, id);
            while let Some(entry) = queue.pop_overflow() {
                self.dispatch.counters.dropped_overflow += 1;
                self.dispatch.bury(queue, entry.message, Reason::MaxLen);
            }
            self.dispatch.expire(queue);
            self.arm(id);
        }
    }

    /// Sets the queue's timer to its deadline, unless it fires earlier anyway: then it is set again.
    fn arm(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(deadline) = queue.deadline_ms() else { return };
        if queue.timer_ms.is_some_and(|set| set <= deadline) {
            return;
        }
        if let Some(set) = queue.timer_ms.replace(deadline) {
            self.timers.remove(&(set, id));
        }
        self.timer_moved |= self.timers.first().is_none_or(|(first, _)| deadline < *first);
        self.timers.insert((deadline, id));
    }

    /// When [`VHost::tick`] has something to do.
    pub(crate) fn next_timer_ms(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Expires messages and unused queues whose time has come.
    pub(crate) fn tick(&mut self) {
        let now = self.now_ms();
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.timer_ms = None;
            if queue.is_expired(now) {
                self.remove_queue(id);
            } else {
                self.dispatch.expire(queue);
                self.arm(id);
            }
        }
        self.settle_dead();
    }

    /// A slow reader has caught up: its parked consumers come back.
    pub(crate) fn resume(&mut self, id: SessionId) {
        let Some(session) = self.dispatch.sessions.get(&id) else { return };
        let consumers: Vec<ConsumerId> =
            session.channels.values().flat_map(|channel| channel.consumers.values().copied()).collect();
        let touched = consumers.into_iter().filter_map(|consumer| self.unpark(consumer)).collect();
        self.serve(touched);
    }

    /// Lets a parked consumer back into its queue's round; the queue, if it was parked.
    fn unpark(&mut self, id: ConsumerId) -> Option<QueueId> {
        let consumer = self.dispatch.consumers.get_mut(&id).filter(|consumer| consumer.parked)?;
        consumer.parked = false;
        self.queues.get_mut(&consumer.queue)?.unpark(id);
        Some(consumer.queue)
    }

    /// Delivers to a direct reply-to consumer. A client that does not read loses replies, not the broker its memory.
    fn deliver_reply(&mut self, message: &Arc<Message>) {
        let target = self.replies.get(message.routing_key()).copied();
        let Some((id, channel)) = target else {
            self.dispatch.counters.unroutable += 1;
            return;
        };
        let Some(session) = self.dispatch.sessions.get_mut(&id) else { return };
        if session.outbox.bytes() > OUTBOUND_BYTES_STOP {
            self.dispatch.counters.unroutable += 1;
            return;
        }
        let Some(state) = session.channels.get_mut(&channel) else { return };
        let Some((_, consumer_tag)) = state.reply.clone() else { return };
        let tag = state.next_tag();
        session.outbox.push(Out::Deliver {
            channel,
            consumer_tag,
            tag,
            redelivered: false,
            message: Arc::clone(message),
        });
        self.dispatch.counters.delivered += 1;
        self.dispatch.wake(id);
    }

    /// Whether a direct reply-to consumer listens under this routing key.
    pub(crate) fn has_reply(&self, key: &str) -> bool {
        self.replies.contains_key(key)
    }

    /// Counters, and gauges counted now.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.dispatch.counters.clone();
        stats.queues = self.queues.len() as u64;
        stats.consumers = self.dispatch.consumers.len() as u64;
        stats.channels = self.dispatch.sessions.values().map(|session| session.channels.len() as u64).sum();
        for queue in self.queues.values() {
            stats.messages_ready += queue.len() as u64;
            stats.messages_unacked += queue.unacked as u64;
        }
        stats
    }

    /// What each queue holds.
    pub(crate) fn depths(&self) -> BTreeMap<String, QueueDepth> {
        let depth = |queue: &Queue| QueueDepth {
            ready: queue.len() as u64,
            unacked: queue.unacked as u64,
            consumers: queue.consumers.len() as u64,
            ready_bytes: queue.ready_bytes() as u64,
        };
        self.queues.values().map(|queue| (queue.name.to_string(), depth(queue))).collect()
    }

    /// The queue of this name, if this session may use it: 404 and 405 otherwise.
    fn find_queue(&self, session: SessionId, name: &str) -> Outcome<QueueId> {
        let id = *self.names.get(name).ok_or_else(|| Failure::no_queue(name, &self.name))?;
        let owner = self.queues.get(&id).and_then(|queue| queue.spec.exclusive);
        if owner.is_some_and(|owner| owner != session) {
            return Err(Failure::locked(&format!(
                "cannot obtain exclusive access to locked queue '{name}' in vhost '{}'. It could be originally declared on \
                 another connection or the exclusive property value does not match that of the original declaration.",
                self.name
            )));
        }
        Ok(id)
    }

    /// Confirm mode of a channel, if it is on.
    pub(crate) fn confirms(&mut self, id: SessionId, channel: u16) -> Option<&mut Confirms> {
        self.channel(id, channel)?.confirms.as_mut()
    }

    fn unacked(&mut self, id: SessionId, channel: u16) -> Option<&mut UnackedRing> {
        Some(&mut self.channel(id, channel)?.unacked)
    }
}
