//! A model of the broker: what RabbitMQ does with exchanges, queues and consumers, as far as Kinetic relies on it.
//!
//! Connections have one channel and at most one subscription each, as `kinetic-amqp` has them. What a queue holds is
//! ordered by position; what a consumer gives back takes its old place again, except on a quorum queue after a
//! graceful close, which was seen to give newer messages back before older ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use kinetic_wire::names;

use crate::message::{ConnId, Down, Message, Time, Up};
use crate::rng::Rng;

/// Requests kept for replaying them.
const REQUESTS_KEPT: usize = 64;

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// By equal keys.
    Direct,
    /// By patterns of words.
    Topic,
    /// To all.
    Fanout,
    /// To one of all, by a hash of the origin (`x-consistent-hash`).
    Origin,
}

/// What a queue is declared with.
#[derive(Clone, Debug, Default)]
pub struct QueueOptions {
    /// One consumer at a time gets deliveries; the others wait in line.
    pub single_active: bool,
    /// Replicated: see the module.
    pub quorum: bool,
    /// Messages ready at most.
    pub max_length: Option<usize>,
    /// Past it, publishers are refused; otherwise the oldest is dropped.
    pub reject_publish: bool,
    /// Survives a restart of the broker, with its persistent messages.
    pub durable: bool,
    /// Ends with its last consumer.
    pub auto_delete: bool,
    /// Exchange for what is refused or overflows.
    pub dead_letters: Option<&'static str>,
}

/// Why a message is nowhere any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gone {
    /// The broker restarted, and the message was transient.
    Restart,
    /// The queue was full.
    Overflow,
    /// A consumer refused it.
    Refused,
    /// A planted bug.
    Planted,
}

#[derive(Clone, Debug)]
struct Item {
    position: u64,
    redelivered: bool,
    message: Rc<Message>,
}

#[derive(Debug)]
struct Consumer {
    conn: ConnId,
    prefetch: usize,
    unsettled: usize,
}

#[derive(Debug, Default)]
struct Queue {
    options: QueueOptions,
    ready: VecDeque<Item>,
    consumers: Vec<Consumer>,
    position: u64,
    /// Where the next delivery of a queue with several active consumers goes.
    turn: usize,
}

#[derive(Debug, Default)]
struct Channel {
    queue: Option<String>,
    tag: u64,
    unsettled: BTreeMap<u64, (String, Item)>,
}

/// Tokens that a broker which hands them to everybody does so with: enough for two leaders.
const SHOWN_MAX: u32 = 1_000;

/// Deviations from what a broker does, for showing that the checkers notice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Misconduct {
    /// All consumers of a single-active-consumer queue are active.
    pub several_active: bool,
    /// What was not settled when a channel ends is forgotten.
    pub forgets_unsettled: bool,
    /// Everybody who wants the leader's token is given it.
    pub two_leaders: bool,
    /// A split source's bodies go to any part.
    pub scatters: bool,
    /// Nothing is kept of what hosts of this name say after a moment.
    pub swallows: Option<(&'static str, Time)>,
}

/// The broker.
#[derive(Debug)]
pub struct Broker {
    exchanges: BTreeMap<String, (Routing, Vec<(String, String)>)>,
    queues: BTreeMap<String, Queue>,
    channels: BTreeMap<ConnId, Channel>,
    /// The last requests, for replaying them.
    pub requests: VecDeque<Rc<Message>>,
    /// Frames to be sent.
    pub out: Vec<(ConnId, Down)>,
    /// Samples that have come into a queue.
    pub entered: Vec<usize>,
    /// Samples that are nowhere any more, and why.
    pub gone: Vec<(usize, Gone)>,
    /// Values of parts' windows that have come into a queue.
    pub partials: Vec<Rc<Message>>,
    /// Queues whose names begin so have no leader: nothing can be published to them.
    pub leaderless: Option<&'static str>,
    /// Channels that have published to such a queue: what they publish is refused until they end, as RabbitMQ 3.10 has it.
    stuck: BTreeSet<ConnId>,
    /// Planted.
    pub misconduct: Misconduct,
    shown: u32,
    rng: Rng,
}

impl Broker {
    /// An empty one.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        Self {
            exchanges: BTreeMap::new(),
            queues: BTreeMap::new(),
            channels: BTreeMap::new(),
            requests: VecDeque::new(),
            out: Vec::new(),
            entered: Vec::new(),
            gone: Vec::new(),
            partials: Vec::new(),
            leaderless: None,
            stuck: BTreeSet::new(),
            misconduct: Misconduct::default(),
            shown: 0,
            rng,
        }
    }

    /// Declares an exchange.
    pub fn exchange(&mut self, name: &str, routing: Routing) {
        self.exchanges.entry(name.to_owned()).or_insert((routing, Vec::new()));
    }

    /// Declares a queue.
    pub fn queue(&mut self, name: &str, options: QueueOptions) {
        self.queues.entry(name.to_owned()).or_insert_with(|| Queue { options, ..Queue::default() });
    }

    /// Binds a queue, or another exchange, to an exchange.
    ///
    /// # Panics
    /// Where the exchange is not declared.
    pub fn bind(&mut self, exchange: &str, to: &str, key: &str) {
        let (_, bindings) = self.exchanges.get_mut(exchange).expect("declared before it is bound");
        let binding = (key.to_owned(), to.to_owned());
        if !bindings.contains(&binding) {
            bindings.push(binding);
        }
    }

    /// A connection has opened.
    pub fn open(&mut self, conn: ConnId) {
        self.channels.insert(conn, Channel::default());
    }

    /// A frame of an open connection.
    pub fn frame(&mut self, now: Time, conn: ConnId, frame: Up) {
        match frame {
            Up::Consume { queue, prefetch } => self.consume(now, conn, queue, prefetch),
            Up::Cancel => {
                self.cancel(now, conn);
                self.out.push((conn, Down::Cancelled));
            }
            Up::Publish { confirm, mandatory, message } => {
                self.publish(now, conn, confirm, mandatory, &message);
            }
            Up::Ack { tag, multiple } => self.ack(now, conn, tag, multiple),
            Up::Reject { tag } => self.reject(now, conn, tag),
            Up::Listen { exchange } => {
                let queue = format!("own.{}", conn.0);
                self.queue(&queue, QueueOptions { auto_delete: true, ..QueueOptions::default() });
                self.bind(&exchange, &queue, "");
                self.consume(now, conn, queue, 0);
            }
            Up::Watch { queue } => {
                let is_alone = self.queues.get(&queue).is_none_or(|queue| queue.consumers.is_empty());
                if is_alone {
                    self.out.push((conn, Down::Handed));
                } else {
                    self.consume(now, conn, queue, 1);
                }
            }
            Up::Witness { queue } => {
                let options =
                    QueueOptions { auto_delete: true, single_active: true, ..QueueOptions::default() };
                self.queue(&queue, options);
                self.consume(now, conn, queue, 0);
            }
            Up::Push { to } => {
                if self.channels.contains_key(&to) {
                    self.out.push((to, Down::Pushed));
                }
            }
            Up::Peek { queue } => self.peek(conn, &queue),
            Up::Reply { to, correlation, body } => {
                // A requester that is gone is not missed: direct reply-to promises nothing.
                if self.channels.contains_key(&to) {
                    self.out.push((to, Down::Reply { correlation, body }));
                }
            }
            Up::Close { gracefully } => {
                self.close(now, conn, gracefully);
                self.out.push((conn, Down::Closed));
            }
        }
    }

    /// A connection has ended: what it had not settled goes back.
    pub fn close(&mut self, now: Time, conn: ConnId, gracefully: bool) {
        self.cancel(now, conn);
        self.stuck.remove(&conn);
        let Some(channel) = self.channels.remove(&conn) else { return };
        let mut back: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        for (_, (queue, item)) in channel.unsettled {
            back.entry(queue).or_default().push(item);
        }
        for (name, items) in back {
            self.give_back(&name, items, gracefully);
            self.dispatch(now, &name);
        }
    }

    fn give_back(&mut self, name: &str, mut items: Vec<Item>, gracefully: bool) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        if self.misconduct.forgets_unsettled {
            let samples = items.iter().flat_map(|item| &item.message.samples);
            self.gone.extend(samples.map(|sample| (*sample, Gone::Planted)));
            return;
        }
        items.sort_by_key(|item| item.position);
        for item in &mut items {
            item.redelivered = true;
        }
        if queue.options.quorum && gracefully && items.len() > 1 {
            let newer_first = self.rng.index(items.len());
            items.rotate_left(newer_first);
            for item in items.into_iter().rev() {
                queue.ready.push_front(item);
            }
            return;
        }
        for item in items {
            let place = queue.ready.partition_point(|ready| ready.position < item.position);
            queue.ready.insert(place, item);
        }
    }

    /// The broker's process ends and starts: connections, transient messages and queues that do not last are gone.
    pub fn restart(&mut self) {
        self.stuck.clear();
        for (_, channel) in std::mem::take(&mut self.channels) {
            for (_, (name, mut item)) in channel.unsettled {
                let Some(queue) = self.queues.get_mut(&name) else { continue };
                item.redelivered = true;
                let place = queue.ready.partition_point(|ready| ready.position < item.position);
                queue.ready.insert(place, item);
            }
        }
        self.queues.retain(|_, queue| queue.options.durable && !queue.options.auto_delete);
        for queue in self.queues.values_mut() {
            queue.consumers.clear();
            for item in std::mem::take(&mut queue.ready) {
                if item.message.envelope.persistent {
                    queue.ready.push_back(item);
                } else {
                    let samples = item.message.samples.iter();
                    self.gone.extend(samples.map(|sample| (*sample, Gone::Restart)));
                }
            }
        }
        self.out.clear();
    }

    fn consume(&mut self, now: Time, conn: ConnId, name: String, prefetch: usize) {
        let Some(queue) = self.queues.get_mut(&name) else {
            self.close(now, conn, false);
            self.out.push((conn, Down::Closed));
            return;
        };
        queue.consumers.push(Consumer { conn, prefetch, unsettled: 0 });
        if let Some(channel) = self.channels.get_mut(&conn) {
            channel.queue = Some(name.clone());
        }
        self.out.push((conn, Down::Consuming));
        self.dispatch(now, &name);
    }

    fn cancel(&mut self, now: Time, conn: ConnId) {
        let Some(name) = self.channels.get_mut(&conn).and_then(|channel| channel.queue.take()) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(&name) else { return };
        queue.consumers.retain(|consumer| consumer.conn != conn);
        if queue.consumers.is_empty() && queue.options.auto_delete {
            self.queues.remove(&name);
            for (_, bindings) in self.exchanges.values_mut() {
                bindings.retain(|(_, queue)| *queue != name);
            }
            return;
        }
        self.dispatch(now, &name);
    }

    fn publish(
        &mut self,
        now: Time,
        conn: ConnId,
        confirm: Option<u64>,
        mandatory: bool,
        message: &Rc<Message>,
    ) {
        if message.reply_to.is_some() {
            self.requests.push_back(Rc::clone(message));
            if self.requests.len() > REQUESTS_KEPT {
                self.requests.pop_front();
            }
        }
        let targets = self.route(&message.exchange, message);
        if targets.iter().any(|name| self.leaderless.is_some_and(|prefix| name.starts_with(prefix))) {
            self.stuck.insert(conn);
        }
        if let (true, true, Some(number)) = (targets.is_empty(), mandatory, confirm) {
            self.out.push((conn, Down::Returned(number)));
        }
        let refused = self.stuck.contains(&conn) || targets.iter().any(|name| !self.has_room(name));
        if !refused {
            let message = &Self::stamped(now, message);
            for name in targets {
                self.enqueue(now, &name, Rc::clone(message));
            }
        }
        let answer = confirm.map(if refused { Down::Nack } else { Down::Confirm });
        self.out.extend(answer.map(|answer| (conn, answer)));
    }

    /// A body that is published again is another copy, which may come late where the first one did not.
    fn stamped(now: Time, message: &Rc<Message>) -> Rc<Message> {
        if message.samples.is_empty() {
            return Rc::clone(message);
        }
        Rc::new(Message { entered: Some(now), ..Message::clone(message) })
    }

    fn has_room(&self, name: &str) -> bool {
        self.queues.get(name).is_none_or(|queue| {
            !queue.options.reject_publish
                || queue.options.max_length.is_none_or(|most| queue.ready.len() < most)
        })
    }

    fn route(&self, exchange: &str, message: &Message) -> Vec<String> {
        if exchange.is_empty() {
            let key = &*message.key;
            return self.queues.contains_key(key).then(|| key.to_owned()).into_iter().collect();
        }
        let mut targets = Vec::new();
        self.follow(exchange, message, &mut targets);
        targets.sort_unstable();
        targets.dedup();
        targets
    }

    /// Adds the queues that an exchange routes to.
    fn follow(&self, exchange: &str, message: &Message, targets: &mut Vec<String>) {
        let Some((routing, bindings)) = self.exchanges.get(exchange) else { return };
        let origin = message.envelope.origin.as_deref().unwrap_or_default();
        let hashed = if self.misconduct.scatters { &*message.body } else { origin.as_bytes() };
        for (number, (pattern, to)) in bindings.iter().enumerate() {
            let is_meant = match routing {
                Routing::Direct => **pattern == *message.key,
                Routing::Fanout => true,
                Routing::Topic => topic_matches(pattern, &message.key),
                Routing::Origin => share(hashed, bindings.len()) == number,
            };
            if is_meant && self.queues.contains_key(to) {
                targets.push(to.clone());
            } else if is_meant {
                self.follow(to, message, targets);
            }
        }
    }

    fn enqueue(&mut self, now: Time, name: &str, message: Rc<Message>) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        queue.position += 1;
        self.entered.extend(&message.samples);
        let origin = message.envelope.origin.as_deref();
        if self.misconduct.swallows.is_some_and(|(name, from)| origin == Some(name) && now >= from) {
            self.gone.extend(message.samples.iter().map(|sample| (*sample, Gone::Planted)));
            return;
        }
        if message.envelope.kind.as_deref() == Some(names::TYPE_PARTIAL) {
            self.partials.push(Rc::clone(&message));
        }
        queue.ready.push_back(Item { position: queue.position, redelivered: false, message });
        let dropped = match queue.options.max_length {
            Some(most) if queue.ready.len() > most => queue.ready.pop_front(),
            _ => None,
        };
        if let Some(item) = dropped {
            self.dead_letter(now, name, &item, Gone::Overflow);
        }
        self.dispatch(now, name);
    }

    fn dead_letter(&mut self, now: Time, name: &str, item: &Item, why: Gone) {
        self.gone.extend(item.message.samples.iter().map(|sample| (*sample, why)));
        let exchange = self.queues.get(name).and_then(|queue| queue.options.dead_letters);
        for target in exchange.map(|exchange| self.route(exchange, &item.message)).unwrap_or_default() {
            self.enqueue(now, &target, Rc::clone(&item.message));
        }
    }

    fn ack(&mut self, now: Time, conn: ConnId, tag: u64, multiple: bool) {
        let Some(channel) = self.channels.get_mut(&conn) else { return };
        let later = if multiple { channel.unsettled.split_off(&(tag + 1)) } else { BTreeMap::new() };
        let settled = if multiple {
            std::mem::replace(&mut channel.unsettled, later)
        } else {
            channel.unsettled.remove(&tag).map(|item| (tag, item)).into_iter().collect()
        };
        for (_, (name, _)) in settled {
            self.settled(&name, conn);
            self.dispatch(now, &name);
        }
    }

    fn reject(&mut self, now: Time, conn: ConnId, tag: u64) {
        let Some(channel) = self.channels.get_mut(&conn) else { return };
        if let Some((name, item)) = channel.unsettled.remove(&tag) {
            self.settled(&name, conn);
            self.dead_letter(now, &name, &item, Gone::Refused);
            self.dispatch(now, &name);
        }
    }

    fn peek(&mut self, conn: ConnId, name: &str) {
        let taken =
            self.queues.get_mut(name).map(|queue| std::mem::take(&mut queue.ready)).unwrap_or_default();
        let messages = taken.iter().map(|item| Rc::clone(&item.message)).collect();
        if let Some(channel) = self.channels.get_mut(&conn) {
            for item in taken {
                channel.tag += 1;
                channel.unsettled.insert(channel.tag, (name.to_owned(), item));
            }
        }
        self.out.push((conn, Down::Peeked(messages)));
    }

    fn settled(&mut self, name: &str, conn: ConnId) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        if let Some(consumer) = queue.consumers.iter_mut().find(|consumer| consumer.conn == conn) {
            consumer.unsettled = consumer.unsettled.saturating_sub(1);
        }
    }

    /// Hands out what is ready to whoever may have it.
    fn dispatch(&mut self, now: Time, name: &str) {
        loop {
            let two_leaders = self.misconduct.two_leaders;
            let several = self.misconduct.several_active
                || (two_leaders && [names::LEADER_QUEUE, names::RPC_QUEUE].contains(&name));
            let Some(queue) = self.queues.get_mut(name) else { return };
            while queue.ready.front().is_some_and(|item| item.message.expires.is_some_and(|at| at <= now)) {
                queue.ready.pop_front();
            }
            let len = queue.consumers.len();
            let active = if queue.options.single_active && !several { len.min(1) } else { len };
            let has_room =
                |consumer: &Consumer| consumer.prefetch == 0 || consumer.unsettled < consumer.prefetch;
            let turn = queue.turn;
            let next = (0..active)
                .map(|offset| (turn + offset) % active)
                .find(|index| has_room(&queue.consumers[*index]));
            let Some(index) = next else { return };
            let Some(item) = queue.ready.pop_front() else { return };
            queue.turn = index + 1;
            let consumer = &mut queue.consumers[index];
            consumer.unsettled += 1;
            let conn = consumer.conn;
            let channel = self.channels.get_mut(&conn).expect("a consumer ends with its channel");
            channel.tag += 1;
            let (tag, redelivered) = (channel.tag, item.redelivered);
            let message = Rc::clone(&item.message);
            channel.unsettled.insert(tag, (name.to_owned(), item));
            if two_leaders && name == names::LEADER_QUEUE && self.shown < SHOWN_MAX {
                self.shown += 1;
                self.show_all(name, conn, &message);
            }
            self.out.push((conn, Down::Deliver { tag, redelivered, message }));
        }
    }

    /// A planted bug: whoever else consumes a queue is delivered the same, under a tag that settles nothing.
    fn show_all(&mut self, name: &str, but: ConnId, message: &Rc<Message>) {
        let Some(queue) = self.queues.get(name) else { return };
        for consumer in queue.consumers.iter().filter(|consumer| consumer.conn != but) {
            let channel = self.channels.get_mut(&consumer.conn).expect("a consumer ends with its channel");
            channel.tag += 1;
            let (tag, message) = (channel.tag, Rc::clone(message));
            self.out.push((consumer.conn, Down::Deliver { tag, redelivered: false, message }));
        }
    }

    /// The connection whose subscription a queue delivers to.
    #[must_use]
    pub fn active(&self, queue: &str) -> Option<ConnId> {
        self.queues.get(queue)?.consumers.first().map(|consumer| consumer.conn)
    }

    /// Messages of a queue, handed out or not.
    #[must_use]
    pub fn depth(&self, name: &str) -> usize {
        let out = self.channels.values().flat_map(|channel| channel.unsettled.values());
        let out = out.filter(|(queue, _)| queue == name).count();
        self.queues.get(name).map_or(0, |queue| queue.ready.len()) + out
    }
}

/// Which of so many equal shares a name falls into: FNV-1a (Fowler, Noll and Vo).
#[must_use]
pub fn share(name: &[u8], shares: usize) -> usize {
    let hash =
        name.iter().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash as usize) % shares.max(1)
}

/// Whether a topic pattern takes a routing key: `*` is one word, `#` any number of words.
fn topic_matches(pattern: &str, key: &str) -> bool {
    fn words(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => (0..=key.len()).any(|skip| words(rest, &key[skip..])),
            (Some((&"*", rest)), Some((_, key))) => words(rest, key),
            (Some((word, rest)), Some((first, key))) if word == first => words(rest, key),
            _ => false,
        }
    }
    words(&pattern.split('.').collect::<Vec<_>>(), &key.split('.').collect::<Vec<_>>())
}
