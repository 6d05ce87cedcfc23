//! What is on a broker, or should be: vhosts, users, exchanges, queues, bindings, rights.

use std::collections::{BTreeMap, BTreeSet};

/// Arguments of an exchange or a queue.
pub type Args = BTreeMap<String, Value>;

/// The value of an argument, as far as we use such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// Something else, which no object of ours has.
    Other,
}

/// All that there is on a broker, or all that we want there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Logins by name.
    pub users: BTreeMap<String, User>,
    /// Vhosts by name.
    pub vhosts: BTreeMap<String, Vhost>,
}

/// A login as a broker keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Salt and SHA-256 in base64; empty where no password is accepted.
    pub password_hash: String,
    /// Tags, one of which says that it is ours.
    pub tags: BTreeSet<String>,
    /// Open connections at once, where they are bounded.
    pub connections_max: Option<u32>,
    /// Open channels at once, where they are bounded.
    pub channels_max: Option<u32>,
}

/// What is in one vhost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vhost {
    /// Exchanges by name.
    pub exchanges: BTreeMap<String, Exchange>,
    /// Queues by name.
    pub queues: BTreeMap<String, Queue>,
    /// Bindings.
    pub bindings: BTreeSet<Binding>,
    /// What logins may do, by their names.
    pub rights: BTreeMap<String, Rights>,
}

/// Regular expressions over names of exchanges and queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Declare and delete.
    pub configure: String,
    /// Publish to.
    pub write: String,
    /// Consume from.
    pub read: String,
}

/// An exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// `topic`, `direct`, `fanout`, …
    pub kind: String,
    /// It outlives a restart of the broker.
    pub durable: bool,
    /// Arguments.
    pub args: Args,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// It outlives a restart of the broker.
    pub durable: bool,
    /// Arguments.
    pub args: Args,
}

/// What leads messages from an exchange to a queue or to another exchange.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// Exchange that it leads from.
    pub source: String,
    /// What it leads to.
    pub to: Destination,
    /// Routing key or pattern.
    pub key: String,
    /// It has arguments, which none of ours has.
    pub has_args: bool,
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// To this queue.
    Queue(String),
    /// To this exchange.
    Exchange(String),
}

impl Destination {
    /// The name of the queue or the exchange.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Exchange(name) => name,
        }
    }
}
