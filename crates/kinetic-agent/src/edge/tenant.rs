//! One customer at an edge: where its lines go, what is held of it, how fast it may come.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use kinetic_schema::schema::{Customer, Source};
use kinetic_wire::{CustomerName, DataType, Mono, names};

use super::stats::{CustomerStats, Reason};
use super::{LinkId, Protocol};
use crate::batch::Batch;
use crate::stamp::Stamp;

/// Which lines share a body: those that one envelope is true of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) protocol: Protocol,
    /// What stands as `kin-origin`.
    pub(super) origin: Option<IpAddr>,
}

/// A body that is being filled.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) batch: Batch,
    /// Its place among all open bodies, by the time at which they were opened.
    pub(super) place: u64,
}

/// A closed body.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) stamp: Stamp,
    pub(super) key: Key,
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
}

/// What happens to a customer's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// They are published there.
    Served(LinkId),
    /// It is switched off.
    Disabled,
    /// It is in the schema no more.
    Gone,
}

/// Where one kind of data goes.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) routing_key: String,
    /// The address that lines come from says which feed they are of, where nothing in them does.
    pub(super) by_address: bool,
}

/// Lines that may pass at once, filled up at a rate, and never above what a second brings. It may be overdrawn by what comes in one
/// piece, so that a piece of any size passes some time.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    level: f64,
    at: Mono,
}

impl Bucket {
    fn pass(&mut self, now: Mono, lines: u64) -> bool {
        let filled = now.since(self.at).as_secs_f64() * self.per_second;
        (self.level, self.at) = ((self.level + filled).min(self.per_second), now);
        let passes = self.level > 0.0;
        if passes {
            self.level -= lines as f64;
        }
        passes
    }
}

/// The customer.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) name: CustomerName,
    pub(super) exchange: String,
    pub(super) standing: Standing,
    statsd: Option<Route>,
    carbon: Option<Route>,
    bucket: Bucket,
    /// Bytes that a message of it may have.
    pub(super) message_bytes: usize,
    pub(super) open: BTreeMap<Key, Open>,
    /// Closed bodies by number.
    pub(super) waiting: BTreeMap<u64, Body>,
    pub(super) in_flight: usize,
    /// Bytes held, as counted against the buffer.
    pub(super) bytes: usize,
    /// Bodies that came back in a row; while there are any, one at a time tries again.
    pub(super) strikes: u32,
    pub(super) paused_until: Option<Mono>,
    /// It stands in its link's line.
    pub(super) is_queued: bool,
    pub(super) stats: CustomerStats,
}

impl Tenant {
    pub(super) fn new(name: CustomerName) -> Self {
        Self {
            exchange: names::ingress_exchange(&name),
            name,
            standing: Standing::Gone,
            statsd: None,
            carbon: None,
            bucket: Bucket { per_second: 0.0, level: f64::INFINITY, at: Mono(0) },
            message_bytes: usize::MAX,
            open: BTreeMap::new(),
            waiting: BTreeMap::new(),
            in_flight: 0,
            bytes: 0,
            strikes: 0,
            paused_until: None,
            is_queued: false,
            stats: CustomerStats::default(),
        }
    }

    /// Goes by what the schema says from now on.
    pub(super) fn follow(&mut self, customer: &Customer, standing: Standing) {
        self.standing = standing;
        let route = |source: &Source| Route {
            routing_key: source.routing_key(),
            // A template reads the feed out of carbon's names. What several relays say of one feed then has one origin, or it
            // would be of two parts of a source that is split by it.
            by_address: source.name_template.is_none(),
        };
        self.statsd =
            customer.source_of(DataType::Statsd).map(|source| Route { by_address: true, ..route(source) });
        self.carbon = customer.source_of(DataType::Graphite).map(route);
        // As far as a number of lines a second can be told from another, they are the same.
        self.bucket.per_second = customer.limits.samples_per_second as f64;
        self.message_bytes = usize::try_from(customer.limits.message_bytes).unwrap_or(usize::MAX);
    }

    pub(super) fn route(&self, protocol: Protocol) -> Option<&Route> {
        match protocol {
            Protocol::Statsd => self.statsd.as_ref(),
            Protocol::Carbon => self.carbon.as_ref(),
        }
    }

    /// Which body lines belong to, or why to none.
    pub(super) fn key(
        &mut self,
        now: Mono,
        from: IpAddr,
        protocol: Protocol,
        lines: u64,
    ) -> Result<Key, Reason> {
        match self.standing {
            Standing::Served(_) => {}
            Standing::Disabled => return Err(Reason::Disabled),
            Standing::Gone => return Err(Reason::Nobody),
        }
        let by_address = self.route(protocol).ok_or(Reason::NoSource)?.by_address;
        if !self.bucket.pass(now, lines) {
            return Err(Reason::TooFast);
        }
        Ok(Key { protocol, origin: by_address.then_some(from) })
    }

    /// Nothing is held of it.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.waiting.is_empty() && self.in_flight == 0
    }

    /// Whether something of it can be dropped: what is in flight cannot.
    pub(super) fn can_shrink(&self) -> bool {
        !self.open.is_empty() || !self.waiting.is_empty()
    }

    /// Whether its next body may be published now, as far as the customer goes.
    pub(super) fn is_ready(&self) -> bool {
        !self.waiting.is_empty() && self.paused_until.is_none() && (self.strikes == 0 || self.in_flight == 0)
    }
}

/// How a body comes back, and how long its customer then waits: the first time at most, and ever.
pub(super) type Pause = (Duration, Duration);
