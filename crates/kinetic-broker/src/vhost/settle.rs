//! Consuming, getting, and settling what was delivered.

use super::dead::Reason;
use super::{Consumer, REPLY_PREFIX, VHost};
use crate::channel::Unacked;
use crate::error::{Failure, Outcome};
use crate::outbox::Out;
use crate::queue::{ConsumerId, QueueId, SessionId};
use std::sync::Arc;

/// What a `basic.consume` asks for.
#[derive(Debug)]
pub(crate) struct ConsumeSpec<'a> {
    pub(crate) queue: &'a str,
    pub(crate) tag: &'a str,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
}

/// Consumers that one channel may have.
const CONSUMERS_PER_CHANNEL_MAX: usize = 10_000;

/// Consumers that one queue may have: to end one is to look for it among them.
const CONSUMERS_PER_QUEUE_MAX: usize = 10_000;

/// What a client says of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ack,
    Requeue,
    Discard,
}

impl VHost {
    /// Adds a consumer. Call [`VHost::serve_queue`] once the client was told.
    pub(crate) fn consume(
        &mut self,
        session: SessionId,
        number: u16,
        spec: &ConsumeSpec<'_>,
    ) -> Outcome<QueueId> {
        let queue_id = self.find_queue(session, spec.queue)?;
        let id = ConsumerId(self.next_id());
        let now = self.now_ms();
        let Some(queue) = self.queues.get_mut(&queue_id) else {
            return Err(Failure::no_queue(spec.queue, &self.name));
        };
        if queue.exclusive_consumer || (spec.exclusive && !queue.consumers.is_empty()) {
            return Err(Failure::access_refused(&format!(
                "queue '{}' in vhost '{}' in exclusive use",
                spec.queue, self.name
            )));
        }
        if queue.consumers.len() >= CONSUMERS_PER_QUEUE_MAX {
            return Err(Failure::precondition(&format!(
                "queue '{}' in vhost '{}' has reached the maximum ({CONSUMERS_PER_QUEUE_MAX}) of consumers",
                spec.queue, self.name
            )));
        }
        let state =
            self.dispatch.sessions.get_mut(&session).and_then(|session| session.channels.get_mut(&number));
        let Some(channel) = state else { return Ok(queue_id) };
        if channel.consumers.len() >= CONSUMERS_PER_CHANNEL_MAX {
            return Err(Failure::not_allowed(&format!(
                "reached maximum ({CONSUMERS_PER_CHANNEL_MAX}) of consumers per channel"
            )));
        }
        let tag: Arc<str> = spec.tag.into();
        channel.consumers.insert(Arc::clone(&tag), id);
        let consumer = Consumer {
            queue: queue_id,
            session,
            channel: number,
            tag,
            no_ack: spec.no_ack,
            prefetch: if spec.no_ack { 0 } else { channel.prefetch },
            unacked: 0,
            parked: false,
        };
        queue.exclusive_consumer = spec.exclusive;
        queue.used_ms = now;
        queue.add_consumer(id);
        self.dispatch.consumers.insert(id, consumer);
        Ok(queue_id)
    }

    /// Whether the channel has a consumer of this tag.
    pub(crate) fn has_consumer(&mut self, session: SessionId, channel: u16, tag: &str) -> bool {
        self.channel(session, channel).is_some_and(|channel| {
            channel.consumers.contains_key(tag)
                || channel.reply.as_ref().is_some_and(|(_, reply)| &**reply == tag)
        })
    }

    /// Starts direct reply-to on a channel, under an unguessable key.
    pub(crate) fn consume_replies(
        &mut self,
        session: SessionId,
        number: u16,
        tag: &str,
        token: &str,
    ) -> Outcome<()> {
        let Some(channel) = self.channel(session, number) else { return Ok(()) };
        if channel.reply.is_some() {
            return Err(Failure::precondition("reply consumer already set"));
        }
        let key: Arc<str> = format!("{REPLY_PREFIX}{token}").into();
        channel.reply = Some((Arc::clone(&key), tag.into()));
        self.replies.insert(key, (session, number));
        Ok(())
    }

    /// Serves one queue's consumers.
    pub(crate) fn serve_queue(&mut self, id: QueueId) {
        self.serve(vec![id]);
    }

    /// Ends a consumer; one that is not there is no error. Its deliveries stay unacknowledged.
    pub(crate) fn cancel(&mut self, session: SessionId, number: u16, tag: &str) {
        let Some(channel) = self.channel(session, number) else { return };
        if channel.reply.as_ref().is_some_and(|(_, reply)| &**reply == tag)
            && let Some((key, _)) = channel.reply.take()
        {
            self.replies.remove(&key);
            return;
        }
        let Some(id) = channel.consumers.remove(tag) else { return };
        let touched = self.drop_consumer(id);
        self.serve(touched.into_iter().collect());
    }

    /// Takes the head of a queue for `basic.get`; false when it is empty.
    pub(crate) fn get(&mut self, session: SessionId, number: u16, name: &str, no_ack: bool) -> Outcome<bool> {
        let id = self.find_queue(session, name)?;
        let now = self.now_ms();
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(false) };
        queue.used_ms = now;
        self.dispatch.expire(queue);
        let taken = queue.pop();
        let remaining = u32::try_from(queue.len()).unwrap_or(u32::MAX);
        let owner = self.dispatch.sessions.get_mut(&session);
        if let (Some(entry), Some(owner)) = (taken, owner)
            && let Some(channel) = owner.channels.get_mut(&number)
        {
            let tag = channel.next_tag();
            let redelivered = entry.redelivered;
            let message = Arc::clone(&entry.message);
            owner.outbox.push(Out::GetOk { channel: number, tag, redelivered, remaining, message });
            self.dispatch.counters.delivered += 1;
            self.dispatch.counters.redelivered += u64::from(redelivered);
            if no_ack {
                self.dispatch.counters.acked += 1;
            } else {
                queue.unacked += 1;
                channel.unacked.push(tag, Unacked { queue: id, consumer: None, entry });
            }
            self.settle_dead();
            return Ok(true);
        }
        self.settle_dead();
        Ok(false)
    }

    /// Settles one delivery, or all up to a tag (0: all). 406 for a tag that is not unsettled.
    pub(crate) fn settle(
        &mut self,
        session: SessionId,
        number: u16,
        tag: u64,
        multiple: bool,
        verdict: Verdict,
    ) -> Outcome<()> {
        let Some(ring) = self.unacked(session, number) else { return Ok(()) };
        let unknown = || Failure::precondition(&format!("unknown delivery tag {tag}"));
        if !multiple {
            let item = ring.take(tag).ok_or_else(unknown)?;
            self.settle_run(session, number, std::iter::once(item), verdict);
            return Ok(());
        }
        if tag != 0 && !ring.contains(tag) {
            return Err(unknown());
        }
        let mut items = Vec::new();
        ring.take_up_to(tag, &mut items);
        self.settle_run(session, number, items.into_iter(), verdict);
        Ok(())
    }

    /// Puts back everything that the channel has unsettled.
    pub(crate) fn recover(&mut self, session: SessionId, number: u16) {
        let Some(ring) = self.unacked(session, number) else { return };
        let mut items = Vec::new();
        ring.take_up_to(0, &mut items);
        self.settle_run(session, number, items.into_iter(), Verdict::Requeue);
    }

    fn settle_run(
        &mut self,
        session: SessionId,
        number: u16,
        items: impl Iterator<Item = Unacked>,
        verdict: Verdict,
    ) {
        let mut touched: Vec<QueueId> = Vec::new();
        let mut freed = 0;
        for item in items {
            if let Some(consumer) = item.consumer {
                freed += 1;
                if let Some(consumer) = self.dispatch.consumers.get_mut(&consumer) {
                    consumer.unacked -= 1;
                }
                touched.extend(self.unpark(consumer));
            }
            self.dispatch.counters.acked += u64::from(verdict == Verdict::Ack);
            let Some(queue) = self.queues.get_mut(&item.queue) else { continue };
            queue.unacked -= 1;
            match verdict {
                Verdict::Ack => {}
                Verdict::Requeue => {
                    queue.requeue(item.entry);
                    touched.push(item.queue);
                }
                Verdict::Discard => self.dispatch.bury(queue, item.entry.message, Reason::Rejected),
            }
        }
        if let Some(channel) = self.channel(session, number) {
            channel.outstanding -= freed;
            if channel.prefetch_global != 0 {
                let consumers: Vec<ConsumerId> = channel.consumers.values().copied().collect();
                touched.extend(consumers.into_iter().filter_map(|id| self.unpark(id)));
            }
        }
        if touched.is_empty() && self.dispatch.dead.is_empty() {
            return;
        }
        self.serve(touched);
    }

    /// Sets the prefetch of the channel's next consumers, or of the channel as a whole.
    pub(crate) fn set_prefetch(&mut self, session: SessionId, number: u16, count: u16, global: bool) {
        let Some(channel) = self.channel(session, number) else { return };
        if !global {
            channel.prefetch = usize::from(count);
            return;
        }
        channel.prefetch_global = usize::from(count);
        let consumers: Vec<ConsumerId> = channel.consumers.values().copied().collect();
        let touched = consumers.into_iter().filter_map(|id| self.unpark(id)).collect();
        self.serve(touched);
    }
}
