//! The edge machine: lines of all customers in, told apart by the address they come from; confirmed publishes out, to each
//! customer's own exchange.
//!
//! ```text
//! lines ─▶ whose netblock? ─▶ how fast? ─▶ room? ─▶ bodies by (customer, origin) ─▶ waiting ─▶ in turn, by customer ─▶ broker
//!            nobody            too_fast     no_room                                    pushed_out
//! ```
//! What it promises: a line it has taken is published until the broker confirms it, to the exchange of the customer whose address
//! it came from and to no other, or is dropped and counted by a reason at that customer. Nothing that a sender writes chooses a
//! customer, an exchange, a routing key or a property. Memory is shared out: while there is room anybody has it; when there is
//! none, whoever holds more than an equal share gives way, and nobody who holds less loses anything.

pub mod carbon;
mod links;
pub mod proxy;
mod share;
pub mod stats;
mod tenant;
mod turn;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use kinetic_schema::{Netblocks, Schema};
use kinetic_wire::{CustomerName, DataType, Envelope, Incarnation, Mono, Now};

pub use self::links::LinkId;
use self::links::Links;
use self::stats::{CustomerStats, Reason, Stats};
use self::tenant::{Body, Key, Open, Standing, Tenant};
use crate::batch::{Batch, Closed};
pub use crate::machine::PublishId;
use crate::rng::Rng;
use crate::spool::BODY_OVERHEAD;
use crate::stamp::Stamper;

/// How long a shutdown waits for confirms.
pub const STOP_DEADLINE: Duration = crate::machine::STOP_DEADLINE;
/// Bodies of one customer that are open at once; one more closes the oldest, so that it is smaller, not lost.
pub const ORIGINS_OPEN_MAX: usize = 4_096;
/// What an open body costs besides its bytes.
const OPEN_OVERHEAD: usize = 2 * BODY_OVERHEAD;
/// What the lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// statsd, a datagram at a time.
    Statsd,
    /// carbon's plaintext lines, a chunk of whole ones at a time.
    Carbon,
}

impl Protocol {
    fn data_type(self) -> DataType {
        match self {
            Self::Statsd => DataType::Statsd,
            Self::Carbon => DataType::Graphite,
        }
    }
}

/// How an edge runs.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// This start of it.
    pub inc: Incarnation,
    /// Where the brokers of regions are that have no addresses of their own, tried in this order.
    pub amqp: Vec<String>,
    /// Close a body when it has reached this size.
    pub body_bytes: usize,
    /// Close a body when its oldest line is this old.
    pub body_age: Duration,
    /// Bytes that are held of all customers.
    pub buffer_bytes: usize,
    /// Publishes in flight at once to each broker.
    pub in_flight_max: usize,
    /// Seed of the jitter.
    pub seed: u64,
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has it.
    Confirmed,
    /// Nobody knows: the connection ended.
    Unconfirmed,
    /// A full queue refused it.
    Nacked,
    /// No queue takes it.
    Unroutable,
    /// The broker closed the channel over it: there is no such exchange, or no right to write to it.
    Refused,
}

/// What the edge is told.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Time has passed.
    Tick,
    /// This revision is in force.
    Schema(&'a Schema),
    /// Whole lines from an address.
    Lines {
        /// Where they come from: the sender's address, or what a trusted proxy says that it is.
        from: IpAddr,
        /// What they are.
        protocol: Protocol,
        /// One or more.
        bytes: &'a [u8],
    },
    /// A publish has ended.
    Published {
        /// Which.
        id: PublishId,
        /// How.
        outcome: Outcome,
    },
    /// Publish what is held, then `Effect::Stopped`.
    Shutdown,
}

/// What the edge wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Connect to a broker, and again whenever the connection is lost; publishes to it may wait for it.
    Open {
        /// Name for it.
        link: LinkId,
        /// Addresses, tried in this order.
        uris: Vec<String>,
        /// Virtual host.
        vhost: String,
    },
    /// Nothing more is published there. What is in flight is answered all the same.
    Close {
        /// Which.
        link: LinkId,
    },
    /// Publish, `mandatory`, confirmed; answer with `Published`.
    Publish {
        /// Name for the answer.
        id: PublishId,
        /// Where; it has been opened.
        link: LinkId,
        /// Exchange.
        exchange: String,
        /// Routing key.
        routing_key: String,
        /// Properties.
        envelope: Box<Envelope<'static>>,
        /// The body.
        body: Vec<u8>,
    },
    /// Everything that could be sent was: the shell may end.
    Stopped,
}

/// A publish under way.
#[derive(Debug)]
struct Flight {
    tenant: usize,
    link: LinkId,
    body: Body,
}

/// The edge.
#[derive(Debug)]
pub struct Edge {
    config: EdgeConfig,
    rng: Rng,
    stamper: Stamper,
    netblocks: Netblocks,
    tenants: Vec<Tenant>,
    by_name: BTreeMap<CustomerName, usize>,
    /// Places in `tenants` of those who have gone with all that was held of them.
    vacant: Vec<usize>,
    links: Links,
    /// Open bodies in the order in which they were opened.
    ages: BTreeMap<u64, (Mono, usize, Key)>,
    opened: u64,
    /// When customers' pauses end.
    pauses: BTreeSet<(Mono, usize)>,
    flights: BTreeMap<PublishId, Flight>,
    ids: u64,
    /// Held of all customers, and of how many.
    bytes: usize,
    holders: usize,
    stopping: Option<Mono>,
    stopped: bool,
    counted: Stats,
}

impl Edge {
    /// An edge that knows nobody until it is told the schema.
    #[must_use]
    pub fn new(config: EdgeConfig) -> Self {
        let (high, low) = config.inc.0.as_u64_pair();
        let template = Envelope {
            app_id: Some(Cow::Borrowed(concat!("kinetic-edge/", env!("CARGO_PKG_VERSION")))),
            ..Envelope::default()
        };
        Self {
            rng: Rng::new(config.seed.rotate_left(32) ^ high ^ low),
            stamper: Stamper::with(config.inc, config.seed, template),
            netblocks: Netblocks::default(),
            tenants: Vec::new(),
            by_name: BTreeMap::new(),
            vacant: Vec::new(),
            links: Links::default(),
            ages: BTreeMap::new(),
            opened: 0,
            pauses: BTreeSet::new(),
            flights: BTreeMap::new(),
            ids: 0,
            bytes: 0,
            holders: 0,
            stopping: None,
            stopped: false,
            counted: Stats::default(),
            config,
        }
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        if self.stopped {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Schema(schema) => self.follow(schema, effects),
            Input::Lines { from, protocol, bytes } => self.lines(now, from, protocol, bytes),
            Input::Published { id, outcome } => self.published(now.mono, id, outcome),
            Input::Shutdown => {
                self.stopping.get_or_insert(now.mono + STOP_DEADLINE);
            }
        }
        self.close_old(now);
        self.end_pauses(now.mono);
        self.pump(effects);
        self.finish(now.mono, effects);
    }

    /// When the shell must send a `Tick` at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Mono> {
        if self.stopped {
            return None;
        }
        let body = self.ages.values().next().map(|(opened, ..)| *opened + self.config.body_age);
        let pause = self.pauses.first().map(|(until, _)| *until);
        [body, pause, self.stopping].into_iter().flatten().min()
    }

    /// Counters and gauges over all customers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counted = self.counted;
        Stats {
            lines_buffered: counted.lines - counted.lines_confirmed - counted.dropped.total(),
            bytes_buffered: self.bytes,
            bodies_open: self.ages.len(),
            bodies_waiting: self.tenants.iter().map(|tenant| tenant.waiting.len()).sum(),
            in_flight: self.flights.len(),
            customers_holding: self.holders,
            ..counted
        }
    }

    /// The same by customer, for those in the schema.
    pub fn customers(&self) -> impl Iterator<Item = (&CustomerName, CustomerStats)> {
        self.by_name.iter().map(|(name, at)| {
            let tenant = &self.tenants[*at];
            (name, CustomerStats { bytes_buffered: tenant.bytes, ..tenant.stats })
        })
    }

    /// Goes by another revision: who is served where, and whose address is whose.
    fn follow(&mut self, schema: &Schema, effects: &mut Vec<Effect>) {
        self.netblocks = Netblocks::of(schema);
        self.tenants.iter_mut().for_each(|tenant| tenant.standing = Standing::Gone);
        self.links.forget();
        for customer in schema.customers.values() {
            let standing = match schema.regions.get(&customer.region) {
                Some(_) if customer.disabled => Standing::Disabled,
                Some(region) => {
                    let uris = if region.amqp.is_empty() { &self.config.amqp } else { &region.amqp };
                    Standing::Served(self.links.to(uris, &region.vhost))
                }
                None => Standing::Gone,
            };
            let at = self.place_of(&customer.name);
            self.tenants[at].follow(customer, standing);
        }
        self.links.close_unused(effects);
        for at in 0..self.tenants.len() {
            self.tenants[at].is_queued = false;
            if !matches!(self.tenants[at].standing, Standing::Served(_)) {
                while self.drop_newest(at, Reason::Gone) {}
            }
            self.vacate_if_gone(at);
            self.enqueue(at);
        }
    }

    /// The place of a customer, a new one if need be.
    fn place_of(&mut self, name: &CustomerName) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let tenant = Tenant::new(name.clone());
        let at = match self.vacant.pop() {
            Some(at) => {
                self.tenants[at] = tenant;
                at
            }
            None => {
                self.tenants.push(tenant);
                self.tenants.len() - 1
            }
        };
        self.by_name.insert(name.clone(), at);
        at
    }

    fn vacate_if_gone(&mut self, at: usize) {
        let tenant = &mut self.tenants[at];
        if tenant.standing != Standing::Gone || !tenant.is_idle() || !self.by_name.contains_key(&tenant.name)
        {
            return;
        }
        if let Some(until) = tenant.paused_until.take() {
            self.pauses.remove(&(until, at));
        }
        self.by_name.remove(&tenant.name);
        self.vacant.push(at);
    }

    fn lines(&mut self, now: Now, from: IpAddr, protocol: Protocol, bytes: &[u8]) {
        let lines = count_lines(bytes);
        self.counted.received += 1;
        self.counted.lines += lines;
        let from = from.to_canonical();
        let owner = self.netblocks.owner(from).and_then(|name| self.by_name.get(name));
        let Some(at) = owner.copied() else {
            return self.counted.dropped.add(Reason::Nobody, lines);
        };
        self.tenants[at].stats.lines += lines;
        if self.stopping.is_some() {
            return self.dropped(at, Reason::Stopping, lines);
        }
        match self.tenants[at].key(now.mono, from, protocol, lines) {
            Err(reason) => self.dropped(at, reason, lines),
            Ok(_) if !self.make_room(at, self.need(bytes.len())) => self.dropped(at, Reason::NoRoom, lines),
            Ok(key) => self.fill(now, at, key, bytes),
        }
    }

    /// What a piece of lines occupies at most, however its lines fall: of two neighbouring bodies, one at least is half full.
    fn need(&self, size: usize) -> usize {
        let bodies = 2 * size / self.config.body_bytes.max(1) + 2;
        size + OPEN_OVERHEAD + bodies * BODY_OVERHEAD
    }

    /// Adds lines to their body; those that fill up wait for their turn.
    fn fill(&mut self, now: Now, at: usize, key: Key, bytes: &[u8]) {
        let tenant = &mut self.tenants[at];
        let body_bytes = self.config.body_bytes.min(tenant.message_bytes);
        // Places begin at 1.
        let open = tenant.open.entry(key);
        let open = open.or_insert_with(|| Open { batch: Batch::growing(body_bytes), place: 0 });
        open.batch.set_body_bytes(body_bytes);
        let before = cost(&open.batch);
        let mut closed = Vec::new();
        let taken = open.batch.push(now, bytes, |body| closed.push(body));
        let (after, opened, old_place) = (cost(&open.batch), open.batch.opened(), open.place);
        match opened {
            Some(opened) if before == 0 || !closed.is_empty() => {
                self.opened += 1;
                open.place = self.opened;
                self.ages.remove(&old_place);
                self.ages.insert(self.opened, (opened, at, key));
            }
            Some(_) => {}
            None => {
                self.ages.remove(&old_place);
                tenant.open.remove(&key);
            }
        }
        self.charge(at, after, before);
        for body in closed {
            self.wait(now, at, key, body);
        }
        self.dropped(at, Reason::TooLong, taken.too_long);
        if self.tenants[at].open.len() > ORIGINS_OPEN_MAX
            && let Some(oldest) = self.oldest(at)
        {
            self.counted.bodies_closed_early += 1;
            self.close(now, at, oldest);
        }
        self.enqueue(at);
    }

    fn oldest(&self, at: usize) -> Option<Key> {
        let open = self.tenants[at].open.iter();
        open.min_by_key(|(_, open)| open.place).map(|(key, _)| *key)
    }

    /// Closes an open body.
    fn close(&mut self, now: Now, at: usize, key: Key) {
        let Some(mut open) = self.tenants[at].open.remove(&key) else { return };
        self.ages.remove(&open.place);
        let before = cost(&open.batch);
        let closed = open.batch.close();
        self.charge(at, 0, before);
        if let Some(closed) = closed {
            self.wait(now, at, key, closed);
        }
    }

    /// Closes what is old; everything, once the edge stops.
    fn close_old(&mut self, now: Now) {
        while let Some((_, &(opened, at, key))) = self.ages.first_key_value() {
            if self.stopping.is_none() && now.mono < opened + self.config.body_age {
                return;
            }
            self.close(now, at, key);
            self.enqueue(at);
        }
    }

    /// A closed body waits for its turn.
    fn wait(&mut self, now: Now, at: usize, key: Key, Closed { bytes, first }: Closed) {
        self.counted.bodies += 1;
        let lines = count_lines(&bytes);
        let stamp = self.stamper.stamp(first, now.wall);
        self.charge(at, bytes.len() + BODY_OVERHEAD, 0);
        self.tenants[at].waiting.insert(stamp.seq, Body { stamp, key, bytes, lines });
    }

    fn finish(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let Some(deadline) = self.stopping else { return };
        let is_drained = self.flights.is_empty() && self.tenants.iter().all(Tenant::is_idle);
        if !is_drained && now < deadline {
            return;
        }
        for at in 0..self.tenants.len() {
            while self.drop_newest(at, Reason::Stopping) {}
        }
        for (_, Flight { tenant: at, body, .. }) in std::mem::take(&mut self.flights) {
            self.charge(at, 0, body.bytes.len() + BODY_OVERHEAD);
            self.dropped(at, Reason::Stopping, body.lines);
        }
        self.stopped = true;
        effects.push(Effect::Stopped);
    }
}

/// What must hold of any bytes as the beginning of a connection; for tests and fuzzing.
///
/// # Panics
/// If it does not hold.
pub fn fuzz_connection(bytes: &[u8]) {
    proxy::exercise(bytes);
    carbon::exercise(bytes);
}

/// What an open body is counted as.
fn cost(batch: &Batch) -> usize {
    if batch.is_empty() { 0 } else { batch.len() + OPEN_OVERHEAD }
}

/// Lines that are not empty.
fn count_lines(bytes: &[u8]) -> u64 {
    let (mut lines, mut start) = (0, 0);
    for end in memchr::memchr_iter(b'\n', bytes).chain([bytes.len()]) {
        lines += u64::from(end > start);
        start = end + 1;
    }
    lines
}
