//! One queue: ready messages, limits, consumers in turn. Pure; time comes in as milliseconds.

use crate::args::{Overflow, QueueArgs};
use crate::message::Message;
use amq_protocol::types::FieldTable;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A queue's identity; never used twice, so an old one finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct QueueId(pub(crate) u64);
/// A consumer's identity; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConsumerId(pub(crate) u64);
/// A connection's identity; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(pub(crate) u64);

/// A message in a queue, or out of it and unacknowledged.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Place in the queue: requeued messages go back to it.
    seq: u64,
    pub(crate) message: Arc<Message>,
    pub(crate) redelivered: bool,
    /// When it expires, in milliseconds; `u64::MAX` for never.
    expires_ms: u64,
}

/// What a declaration says of a queue.
#[derive(Debug, Clone)]
pub(crate) struct QueueSpec {
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) exclusive: Option<SessionId>,
    pub(crate) arguments: FieldTable,
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: Arc<str>,
    pub(crate) spec: QueueSpec,
    pub(crate) args: QueueArgs,
    ready: VecDeque<Entry>,
    /// Requeued messages. All were handed out before anything in `ready` was, so they all come first.
    returned: BTreeMap<u64, Entry>,
    ready_bytes: usize,
    seq_next: u64,
    pub(crate) unacked: usize,
    /// All consumers, oldest first.
    pub(crate) consumers: Vec<ConsumerId>,
    /// Consumers that may take a message, next first.
    turn: VecDeque<ConsumerId>,
    pub(crate) exclusive_consumer: bool,
    /// Last consume, get or declare, in milliseconds.
    pub(crate) used_ms: u64,
    /// When the timer of this queue is set to fire.
    pub(crate) timer_ms: Option<u64>,
}

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    Accepted,
    /// Full, and the overflow says to refuse.
    Refused,
    /// Full, and the overflow says to refuse and dead-letter.
    RefusedDeadLetter,
}

impl Queue {
    pub(crate) fn new(name: Arc<str>, spec: QueueSpec, args: QueueArgs, now_ms: u64) -> Self {
        Self {
            name,
            spec,
            args,
            ready: VecDeque::new(),
            returned: BTreeMap::new(),
            ready_bytes: 0,
            seq_next: 0,
            unacked: 0,
            consumers: Vec::new(),
            turn: VecDeque::new(),
            exclusive_consumer: false,
            used_ms: now_ms,
            timer_ms: None,
        }
    }

    /// Ready messages.
    pub(crate) fn len(&self) -> usize {
        self.ready.len() + self.returned.len()
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.returned.is_empty()
    }
    /// Bytes of the ready messages' bodies.
    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Puts a message at the tail, unless the queue is full and refuses.
    pub(crate) fn push(&mut self, message: Arc<Message>, now_ms: u64) -> Pushed {
        let bytes = message.body().len();
        if self.args.overflow != Overflow::DropHead && self.is_over(1, bytes) {
            return match self.args.overflow {
                Overflow::RejectPublishDeadLetter => Pushed::RefusedDeadLetter,
                _ => Pushed::Refused,
            };
        }
        let ttl = match (self.args.message_ttl_ms, message.expiration_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let expires_ms = ttl.map_or(u64::MAX, |ttl| now_ms.saturating_add(ttl));
        self.ready_bytes += bytes;
        self.ready.push_back(Entry { seq: self.seq_next, message, redelivered: false, expires_ms });
        self.seq_next += 1;
        Pushed::Accepted
    }

    fn is_over(&self, more: usize, more_bytes: usize) -> bool {
        self.args.length_max.is_some_and(|max| self.len() + more > max)
            || self.args.bytes_max.is_some_and(|max| self.ready_bytes + more_bytes > max)
    }

    /// The head, when the queue holds more than it may.
    pub(crate) fn pop_overflow(&mut self) -> Option<Entry> {
        if self.is_over(0, 0) { self.pop() } else { None }
    }

    /// The head.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = match self.returned.pop_first() {
            Some((_, entry)) => entry,
            None => self.ready.pop_front()?,
        };
        self.ready_bytes -= entry.message.body().len();
        Some(entry)
    }

    /// The head, if its time is over.
    pub(crate) fn pop_expired(&mut self, now_ms: u64) -> Option<Entry> {
        if self.head_expires_ms()? <= now_ms { self.pop() } else { None }
    }

    /// When the head expires; `None` when it never does, or there is no head.
    pub(crate) fn head_expires_ms(&self) -> Option<u64> {
        let head = self.returned.first_key_value().map(|(_, entry)| entry).or_else(|| self.ready.front())?;
        (head.expires_ms != u64::MAX).then_some(head.expires_ms)
    }

    /// Puts a message back where it was.
    pub(crate) fn requeue(&mut self, mut entry: Entry) {
        entry.redelivered = true;
        self.ready_bytes += entry.message.body().len();
        self.returned.insert(entry.seq, entry);
    }

    /// Drops all ready messages; their number.
    pub(crate) fn purge(&mut self) -> usize {
        let count = self.len();
        self.ready.clear();
        self.returned.clear();
        self.ready_bytes = 0;
        count
    }

    /// Adds a consumer; it gets its turn unless another one is the single active one.
    pub(crate) fn add_consumer(&mut self, id: ConsumerId) {
        self.consumers.push(id);
        if !self.args.single_active || self.consumers.len() == 1 {
            self.turn.push_back(id);
        }
    }

    /// Removes a consumer; with a single active one, the oldest of the others takes over.
    pub(crate) fn remove_consumer(&mut self, id: ConsumerId) {
        let was_first = self.consumers.first() == Some(&id);
        self.consumers.retain(|other| *other != id);
        self.turn.retain(|other| *other != id);
        self.exclusive_consumer = false;
        if self.args.single_active && was_first {
            self.turn.extend(self.consumers.first());
        }
    }

    /// The consumer whose turn it is.
    pub(crate) fn next_consumer(&self) -> Option<ConsumerId> {
        self.turn.front().copied()
    }
    /// The next one's turn.
    pub(crate) fn rotate(&mut self) {
        if self.turn.len() > 1 {
            self.turn.rotate_left(1);
        }
    }
    /// The consumer whose turn it is cannot take any: it leaves the round until [`Queue::unpark`].
    pub(crate) fn park(&mut self) {
        self.turn.pop_front();
    }
    /// A consumer that left the round comes back.
    pub(crate) fn unpark(&mut self, id: ConsumerId) {
        if !self.args.single_active || self.consumers.first() == Some(&id) {
            self.turn.push_back(id);
        }
    }

    /// When something has to happen by itself: the head expires, or the unused queue does.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        let unused = match self.args.expires_ms {
            Some(ms) if self.consumers.is_empty() => Some(self.used_ms.saturating_add(ms)),
            _ => None,
        };
        match (self.head_expires_ms(), unused) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Whether `x-expires` says that the queue goes now.
    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.consumers.is_empty()
            && self.args.expires_ms.is_some_and(|ms| self.used_ms.saturating_add(ms) <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, Memory};
    use proptest::prelude::*;

    fn queue(args: QueueArgs) -> Queue {
        let spec = QueueSpec {
            durable: false,
            auto_delete: false,
            exclusive: None,
            arguments: FieldTable::default(),
        };
        Queue::new("q".into(), spec, args, 0)
    }

    fn message(body: &str) -> Arc<Message> {
        let account = Arc::new(Account::new(&Arc::new(Memory::new(usize::MAX))));
        Arc::new(Message::new("".into(), body.as_bytes().to_vec(), 0, 0, &account))
    }

    fn body(entry: Option<Entry>) -> String {
        entry.map_or(String::new(), |entry| String::from_utf8_lossy(entry.message.body()).into_owned())
    }

    #[test]
    fn requeued_messages_return_to_their_place() {
        let mut q = queue(QueueArgs::default());
        for text in ["a", "b", "c", "d"] {
            q.push(message(text), 0);
        }
        let (a, b, c) = (q.pop().unwrap(), q.pop().unwrap(), q.pop().unwrap());
        q.requeue(c);
        q.requeue(a);
        assert_eq!(q.len(), 3);
        let first = q.pop().unwrap();
        assert!(first.redelivered);
        assert_eq!(body(Some(first)), "a");
        q.requeue(b);
        assert_eq!(body(q.pop()), "b");
        assert_eq!(body(q.pop()), "c");
        let last = q.pop().unwrap();
        assert!(!last.redelivered);
        assert_eq!(body(Some(last)), "d");
        assert!(q.is_empty() && q.ready_bytes() == 0);
    }

    #[test]
    fn full_queues_drop_or_refuse() {
        let mut q = queue(QueueArgs { length_max: Some(2), ..QueueArgs::default() });
        for text in ["a", "b", "c"] {
            assert_eq!(q.push(message(text), 0), Pushed::Accepted);
        }
        assert_eq!(body(q.pop_overflow()), "a");
        assert!(q.pop_overflow().is_none());
        let mut q = queue(QueueArgs {
            bytes_max: Some(5),
            overflow: Overflow::RejectPublish,
            ..QueueArgs::default()
        });
        assert_eq!(q.push(message("abc"), 0), Pushed::Accepted);
        assert_eq!(q.push(message("abc"), 0), Pushed::Refused);
        assert_eq!(q.push(message("ab"), 0), Pushed::Accepted);
    }

    #[test]
    fn heads_expire_in_order() {
        let mut q = queue(QueueArgs { message_ttl_ms: Some(10), ..QueueArgs::default() });
        q.push(message("a"), 0);
        q.push(message("b"), 5);
        assert_eq!(q.deadline_ms(), Some(10));
        assert!(q.pop_expired(9).is_none());
        assert_eq!(body(q.pop_expired(10)), "a");
        assert!(q.pop_expired(10).is_none());
        assert_eq!(q.head_expires_ms(), Some(15));
    }

    #[test]
    fn consumers_take_turns_or_stand_by() {
        let ids = [ConsumerId(1), ConsumerId(2)];
        let mut q = queue(QueueArgs::default());
        ids.iter().for_each(|id| q.add_consumer(*id));
        assert_eq!(q.next_consumer(), Some(ids[0]));
        q.rotate();
        assert_eq!(q.next_consumer(), Some(ids[1]));
        q.park();
        q.rotate();
        assert_eq!(q.next_consumer(), Some(ids[0]));
        q.unpark(ids[1]);
        q.rotate();
        assert_eq!(q.next_consumer(), Some(ids[1]));
        let mut q = queue(QueueArgs { single_active: true, ..QueueArgs::default() });
        ids.iter().for_each(|id| q.add_consumer(*id));
        q.rotate();
        assert_eq!(q.next_consumer(), Some(ids[0]));
        q.park();
        q.unpark(ids[1]);
        assert_eq!(q.next_consumer(), None, "a standby never gets a turn");
        q.remove_consumer(ids[0]);
        assert_eq!(q.next_consumer(), Some(ids[1]));
    }

    #[test]
    fn unused_queues_expire() {
        let mut q = queue(QueueArgs { expires_ms: Some(100), ..QueueArgs::default() });
        assert_eq!(q.deadline_ms(), Some(100));
        q.add_consumer(ConsumerId(1));
        assert!(q.deadline_ms().is_none() && !q.is_expired(500));
        q.remove_consumer(ConsumerId(1));
        q.used_ms = 500;
        assert!(!q.is_expired(599) && q.is_expired(600));
    }

    proptest! {
        /// Whatever is popped and requeued, the queue gives its messages in the order they came.
        #[test]
        fn order_holds(ops in proptest::collection::vec(0u8..4, 1..200)) {
            let mut q = queue(QueueArgs::default());
            let (mut out, mut pushed): (Vec<Entry>, u32) = (Vec::new(), 0);
            for op in ops {
                match op {
                    0 | 1 => { q.push(message(&pushed.to_string()), 0); pushed += 1; }
                    2 => out.extend(q.pop()),
                    _ => if !out.is_empty() { let entry = out.swap_remove(out.len() / 2); q.requeue(entry); },
                }
            }
            let mut last = None;
            let mut bytes = q.ready_bytes();
            while let Some(entry) = q.pop() {
                bytes -= entry.message.body().len();
                let number: u32 = body(Some(entry)).parse().unwrap();
                prop_assert!(last.is_none_or(|last| last < number));
                last = Some(number);
            }
            prop_assert_eq!(bytes, 0);
        }
    }
}
