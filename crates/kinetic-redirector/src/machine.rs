//! The redirector machine: requests and time in, replies out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinetic_wire::{CustomerName, DataType, Epoch, Limits, Login, Mono, Now, RegionName, SourceName, Term};

/// How this redirector runs.
#[derive(Clone, Debug)]
pub struct RedirectorConfig {
    /// Shortest lease; grows with the fleet (`max(ttl, analyzers / 50 s)`).
    pub ttl: Duration,
    /// How long after a lease's end its sources are moved.
    pub grace: Duration,
    /// After start, leases are taken but nothing is moved for this long, so that owners can say what they hold.
    pub listen: Duration,
    /// Analyzers in the table; one more is refused (`overload`, counted).
    pub analyzers_max: usize,
    /// How long a `locate` answer is good.
    pub locate_ttl: Duration,
    /// What clients may send.
    pub limits: Limits,
    /// Seed of jitter and lease ids.
    pub seed: u64,
}

/// What survives a restart: written before anything that depends on it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The last term led.
    pub term: Term,
    /// No epoch above this has been given out.
    pub epoch_max: Epoch,
}

/// One customer, as far as routing needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerEntry {
    /// Where its data arrives.
    pub region: RegionName,
    /// Its sources and what they carry.
    pub sources: BTreeMap<SourceName, DataType>,
}

/// What the schema says about routing, made by the shell from a checked schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Commit it was made from.
    pub revision: String,
    /// Addresses by region, best first, each with its vhost: `(uri, vhost)`.
    pub regions: BTreeMap<RegionName, Vec<(String, String)>>,
    /// Customers by name.
    pub customers: BTreeMap<CustomerName, CustomerEntry>,
}

/// Handle that the shell mints for a request, so that it can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

/// What the redirector is told.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Time has passed.
    Tick,
    /// A new schema revision stands.
    MapChanged {
        /// The map.
        map: Arc<Map>,
    },
    /// A request arrived.
    Request {
        /// Handle for the answer.
        token: ReplyToken,
        /// Routing key (`kinetic_wire::names::rpc`).
        kind: &'a str,
        /// `user_id`, verified by the broker.
        login: Option<&'a Login>,
        /// JSON body.
        body: &'a [u8],
    },
    /// `Effect::Store` is on disk.
    Stored {
        /// What.
        stored: Stored,
    },
}

/// What the redirector wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this; answer with `Input::Stored`.
    Store {
        /// What.
        stored: Stored,
    },
    /// Answer a request.
    Reply {
        /// Which.
        token: ReplyToken,
        /// JSON body.
        body: Vec<u8>,
    },
}

/// The redirector.
#[derive(Debug)]
pub struct Redirector {
    config: RedirectorConfig,
}

impl Redirector {
    /// A redirector that leads from now on, with a term above the stored one.
    #[must_use]
    pub fn new(config: RedirectorConfig, map: Arc<Map>, stored: Stored) -> Self {
        let _ = (map, stored);
        Self { config }
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        let _ = (now, input, effects, &self.config);
    }

    /// When the shell must send a `Tick` at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Mono> {
        None
    }
}
