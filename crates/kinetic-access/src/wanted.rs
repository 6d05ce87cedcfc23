//! What a schema wants on one broker.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kinetic_schema::Schema;
use kinetic_schema::schema::{Customer, Key};
use kinetic_wire::{RegionName, Wall, names};

use crate::login::{Credential, Grant, Login, logins};
use crate::objects::{Objects, Rights, User, Value, Vhost};

/// Argument of an exchange that says which installation made it. Brokers do not compare it when somebody declares the exchange
/// again without.
pub const INSTALLATION_ARG: &str = "kin-installation";

/// One broker and what this installation has on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// The installation's control vhost, wherever that is.
    pub control: String,
    /// It is on this broker.
    pub has_control: bool,
    /// Regions that are.
    pub regions: BTreeSet<RegionName>,
    /// The login of Kinetic's own nodes.
    pub own: String,
}

impl Broker {
    /// The tag of the users that are ours.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("kinetic.{}", self.control)
    }

    /// The tag of a user of ours whose connections are still to be closed.
    #[must_use]
    pub fn closing_tag(&self) -> String {
        format!("kinetic.{}.closing", self.control)
    }

    /// Names of the vhosts that are wanted here.
    #[must_use]
    pub fn vhosts(&self, schema: &Schema) -> BTreeSet<String> {
        let regions = schema.regions.values().filter(|region| self.regions.contains(&region.name));
        let mut vhosts: BTreeSet<String> = regions.map(|region| region.vhost.clone()).collect();
        vhosts.extend(self.has_control.then(|| self.control.clone()));
        vhosts
    }
}

/// What a schema wants on a broker, and what [`plan`](crate::plan()) needs to know to say why.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// What is to be there.
    pub objects: Objects,
    /// All customers of the schema, wherever they are.
    pub homes: BTreeMap<String, Home>,
    /// Why a login that the schema knows is not good.
    pub refused: BTreeMap<String, String>,
    /// Logins that are good in some region, also of another broker.
    pub good: BTreeSet<String>,
    /// Vhosts of other brokers, which may turn out to be this one under another address.
    pub elsewhere: BTreeSet<String>,
    /// The login of Kinetic's own nodes.
    pub own: String,
    /// The tag of the users that are ours.
    pub tag: String,
    /// The tag of those whose connections are still to be closed.
    pub closing_tag: String,
    /// The installation, as it marks its exchanges.
    pub installation: String,
}

/// Where a customer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// Vhost of its region.
    pub vhost: String,
    /// Names of its sources.
    pub sources: BTreeSet<String>,
}

/// What a schema wants on one broker now. `declared` are the exchanges, queues and bindings of its vhosts, as Kinetic's own nodes
/// declare them.
#[must_use]
pub fn wanted(schema: &Schema, now: Wall, broker: &Broker, declared: BTreeMap<String, Vhost>) -> Wanted {
    let here = broker.vhosts(schema);
    let mut objects = Objects { users: BTreeMap::new(), vhosts: declared };
    objects.vhosts.retain(|vhost, _| here.contains(vhost));
    for vhost in &here {
        let vhost = objects.vhosts.entry(vhost.clone()).or_default();
        vhost.rights.insert(broker.own.clone(), everything());
        for (name, exchange) in &mut vhost.exchanges {
            if names::customer_of_exchange(name).is_some() {
                exchange.args.insert(INSTALLATION_ARG.to_owned(), Value::Text(broker.control.clone()));
            }
        }
    }
    let mut good = BTreeSet::new();
    for (name, login) in logins(schema, now, &broker.control) {
        let mut is_here = false;
        for (vhost, grant) in &login.grants {
            if let Some(vhost) = objects.vhosts.get_mut(vhost) {
                vhost.rights.insert(name.clone(), rights(grant));
                is_here = true;
            }
        }
        if is_here {
            objects.users.insert(name.clone(), user(&login, broker));
        }
        good.insert(name);
    }
    let mut elsewhere: BTreeSet<String> =
        schema.regions.values().map(|region| region.vhost.clone()).collect();
    elsewhere.insert(broker.control.clone());
    elsewhere.retain(|vhost| !here.contains(vhost));
    Wanted {
        objects,
        homes: schema.customers.values().map(|customer| home(schema, customer)).collect(),
        refused: refused(schema, now),
        good,
        elsewhere,
        own: broker.own.clone(),
        tag: broker.tag(),
        closing_tag: broker.closing_tag(),
        installation: broker.control.clone(),
    }
}

fn home(schema: &Schema, customer: &Customer) -> (String, Home) {
    let vhost = schema.regions.get(&customer.region).map(|region| region.vhost.clone()).unwrap_or_default();
    let sources = customer.sources.keys().map(ToString::to_string).collect();
    (customer.name.to_string(), Home { vhost, sources })
}

/// Why logins of the schema are not good.
fn refused(schema: &Schema, now: Wall) -> BTreeMap<String, String> {
    let mut refused = BTreeMap::new();
    for customer in schema.customers.values() {
        let mut say = |name: &str, why: String| refused.insert(format!("{}.{name}", customer.name), why);
        for Key { name, starts_ms, expires_ms, .. } in &customer.keys {
            if expires_ms.is_some_and(|at| at <= now.as_ms()) {
                say(name, format!("key {name} has expired"));
            } else if starts_ms.is_some_and(|at| at > now.as_ms()) {
                say(name, format!("key {name} is not good yet"));
            }
        }
        for certificate in &customer.certificates {
            let name = &certificate.name;
            if certificate.expires_ms <= now.as_ms() {
                say(name, format!("certificate {name} has expired"));
            }
        }
    }
    refused
}

fn user(login: &Login, broker: &Broker) -> User {
    let password_hash = match &login.credential {
        Credential::Secret(hash) => STANDARD.encode([&hash.salt[..], &hash.digest[..]].concat()),
        // Without one, no password is right.
        Credential::Certificate(_) => String::new(),
    };
    User {
        password_hash,
        tags: BTreeSet::from([broker.tag()]),
        connections_max: Some(login.connections_max),
        channels_max: Some(login.channels_max),
    }
}

fn everything() -> Rights {
    Rights { configure: ".*".to_owned(), write: ".*".to_owned(), read: ".*".to_owned() }
}

/// A grant as RabbitMQ keeps it: expressions that match the whole of a name, and nothing else.
fn rights(grant: &Grant) -> Rights {
    Rights { configure: regex(&grant.configure), write: regex(&grant.write), read: regex(&grant.read) }
}

/// An expression that matches these names and none besides; a `*` at the end of one stands for any rest.
fn regex(names: &[String]) -> String {
    let escaped: Vec<String> = names
        .iter()
        .map(|name| match name.strip_suffix('*') {
            Some(prefix) => escape(prefix) + ".*",
            None => escape(name),
        })
        .collect();
    match escaped.as_slice() {
        [] => "^$".to_owned(),
        [one] => format!("^{one}$"),
        several => format!("^({})$", several.join("|")),
    }
}

fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if !c.is_alphanumeric() && c != '-' && c != '_' {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_whole_names_only() {
        let check = |names: &[&str], want: &str| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(regex(&names), want);
        };
        check(&[], "^$");
        check(&["in.acme"], r"^in\.acme$");
        check(&["in.acme", "kin.rpc"], r"^(in\.acme|kin\.rpc)$");
        check(&["in.*", "kin.rpc"], r"^(in\..*|kin\.rpc)$");
        check(&["in.a-b_c+d"], r"^in\.a-b_c\+d$");
    }
}
