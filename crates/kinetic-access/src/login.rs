//! Customers' logins: what each is known by, and what it may touch.

use std::collections::BTreeMap;

use kinetic_schema::Schema;
use kinetic_schema::schema::{Certificate, Customer, Key, Purpose, SaltedHash};
use kinetic_wire::{CustomerName, Wall, names};

/// A login that is good at some moment. Kinetic's own is not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// `<customer>.<key or certificate>`.
    pub name: String,
    /// Whose it is.
    pub customer: CustomerName,
    /// What it is known by.
    pub credential: Credential,
    /// What it may do, by vhost; it cannot open any other.
    pub grants: BTreeMap<String, Grant>,
    /// The first moment at which it is good no more, milliseconds since the Unix epoch.
    pub expires_ms: Option<i64>,
    /// Open connections at once.
    pub connections_max: u32,
    /// Open channels at once, over all of its connections.
    pub channels_max: u32,
    /// Bytes of one message, where the broker can bound it.
    pub message_bytes_max: u64,
}

/// What a login is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Whoever knows the secret of this hash.
    Secret(SaltedHash),
    /// Whoever proves (SASL EXTERNAL over TLS) that he holds the certificate with this SHA-256, whose common name is the login.
    Certificate([u8; 32]),
}

/// Names of exchanges and queues in one vhost, as AMQP 0-9-1 divides what is done to them. A name with `*` behind it stands for all
/// that begin so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Declare and delete.
    pub configure: Vec<String>,
    /// Publish to.
    pub write: Vec<String>,
    /// Consume from.
    pub read: Vec<String>,
}

/// All customers' logins that are good now, by name. A customer that is switched off keeps
/// its own: it is told so when it asks where to publish, and what it publishes all the same waits, unread. `control` is the control vhost,
/// where customers' notifications wait.
#[must_use]
pub fn logins(schema: &Schema, now: Wall, control: &str) -> BTreeMap<String, Login> {
    let logins = schema.customers.values().flat_map(|customer| of_customer(schema, customer, now, control));
    logins.map(|login| (login.name.clone(), login)).collect()
}

/// The login that a token is for: one of [`logins`], without looking at other customers, unless its customer is switched off.
#[must_use]
pub fn login(schema: &Schema, name: &str, now: Wall, control: &str) -> Option<Login> {
    let customer = schema.customers.get(&kinetic_wire::Login::new(name).customer())?;
    of_customer(schema, customer, now, control)
        .filter(|_| !customer.disabled)
        .find(|login| login.name == name)
}

fn of_customer<'s>(
    schema: &'s Schema,
    customer: &'s Customer,
    now: Wall,
    control: &'s str,
) -> impl Iterator<Item = Login> + 's {
    let keys = customer.keys.iter().filter(move |key| is_good(key, now)).map(move |key| {
        let grants = key_grants(schema, customer, key, control);
        (&key.name, Credential::Secret(key.hash), grants, key.expires_ms)
    });
    let certificates = customer.certificates.iter().filter(move |held| now.as_ms() < held.expires_ms);
    let certificates = certificates.map(move |Certificate { name, sha256, expires_ms }| {
        let grants = publishes(schema, customer, false);
        (name, Credential::Certificate(*sha256), grants, Some(*expires_ms))
    });
    let limits = customer.limits;
    keys.chain(certificates).map(move |(name, credential, grants, expires_ms)| Login {
        name: format!("{}.{name}", customer.name),
        customer: customer.name.clone(),
        credential,
        grants,
        expires_ms,
        connections_max: limits.connections,
        channels_max: limits.channels,
        message_bytes_max: limits.message_bytes,
    })
}

/// Whether a customer has a key to read its notifications with, now or later, so that they are to be kept for it.
#[must_use]
pub fn reads_notifications(customer: &Customer, now: Wall) -> bool {
    let reads = |key: &Key| key.purpose == Purpose::Read && key.expires_ms.is_none_or(|at| now.as_ms() < at);
    !customer.disabled && customer.keys.iter().any(reads)
}

/// When [`logins`] will say something else of the same schema, milliseconds since the Unix epoch.
#[must_use]
pub fn next_change_ms(schema: &Schema, now: Wall) -> Option<i64> {
    let of_customer = |customer: &Customer| {
        let keys = customer.keys.iter().flat_map(|key| [key.starts_ms, key.expires_ms]).flatten();
        let certificates = customer.certificates.iter().map(|held| held.expires_ms);
        keys.chain(certificates).filter(|at| *at > now.as_ms()).min()
    };
    schema.customers.values().filter_map(of_customer).min()
}

fn is_good(key: &Key, now: Wall) -> bool {
    key.starts_ms.is_none_or(|at| at <= now.as_ms()) && key.expires_ms.is_none_or(|at| now.as_ms() < at)
}

fn key_grants(schema: &Schema, customer: &Customer, key: &Key, control: &str) -> BTreeMap<String, Grant> {
    match key.purpose {
        Purpose::Publish => publishes(schema, customer, key.may_declare),
        Purpose::Read => {
            let read = vec![names::notification_queue(&customer.name)];
            BTreeMap::from([(control.to_owned(), Grant { read, ..Grant::default() })])
        }
        Purpose::Edge => {
            let write = vec![format!("{}*", names::INGRESS_PREFIX), names::RPC_EXCHANGE.to_owned()];
            let grant = Grant { write, ..Grant::default() };
            schema.regions.values().map(|region| (region.vhost.clone(), grant.clone())).collect()
        }
    }
}

/// What publishes may write to its customer's exchange and ask the redirector, in the vhost of the customer's region, and read nothing:
/// the broker lets everybody hear answers to its own questions (direct reply-to).
fn publishes(schema: &Schema, customer: &Customer, may_declare: bool) -> BTreeMap<String, Grant> {
    let Some(region) = schema.regions.get(&customer.region) else { return BTreeMap::new() };
    let ingress = names::ingress_exchange(&customer.name);
    let grant = Grant {
        configure: if may_declare { vec![ingress.clone()] } else { Vec::new() },
        write: vec![ingress, names::RPC_EXCHANGE.to_owned()],
        read: Vec::new(),
    };
    BTreeMap::from([(region.vhost.clone(), grant)])
}
