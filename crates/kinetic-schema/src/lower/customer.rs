//! `customer` and its `key` blocks, and what holds between customers.

use kinetic_wire::Wall;

use super::{alert, analytic, hours, service, source};
use crate::advice;
use crate::block::{Named, Node, checked};
use crate::diagnostic::{At, Problem, Sink};
use crate::limits::{KEYS_MAX, LIST_MAX, MAILS_PER_HOUR, MAILS_PER_HOUR_DEFAULT, STREAM_SILENT_AFTER};
use crate::load::{Declared, declare};
use crate::netblock::Netblock;
use crate::notation;
use crate::reference::{self, Names};
use crate::schema::{
    Customer, INSTALLATION, INSTALLATION_SERVICE, Key, Limits, Purpose, SaltedHash, Schema, WATCHDOG,
};
use crate::value;

/// All customers.
pub(super) fn all(sink: &mut Sink<'_>, declared: &Declared<'_>, schema: &mut Schema, today: Option<Wall>) {
    let mut networks = Vec::new();
    for (name, parts) in &declared.customers {
        let hours = hours::all(sink, parts);
        let mut customer = Customer {
            name: (*name).into(),
            region: "".into(),
            disabled: false,
            keys: Vec::new(),
            certificates: Vec::new(),
            users: Vec::new(),
            limits: Limits::DEFAULT,
            netblocks: Vec::new(),
            sources: source::all(sink, parts),
            services: service::all(sink, parts),
            analytics: Default::default(),
            alerts: alert::all(sink, parts, &hours),
            stream_silent_after: None,
            templates: parts.templates.clone(),
        };
        customer.analytics = analytic::all(sink, parts, &customer);
        if let Some(named) = parts.customer {
            own(sink, named, declared, &mut customer, &mut networks, today);
        }
        advice::customer(sink, parts, &customer);
        schema.customers.insert(customer.name.clone(), customer);
    }
    overlaps(sink, networks);
    advice::installation(sink, declared);
}

/// The attributes and keys of the `customer` block itself.
fn own<'a>(
    sink: &mut Sink<'_>,
    named: Named<'a>,
    declared: &Declared<'_>,
    customer: &mut Customer,
    networks: &mut Vec<(Netblock, &'a str, At)>,
    today: Option<Wall>,
) {
    let node = named.node;
    if named.name == INSTALLATION {
        reserved(sink, node, customer);
    }
    let example = reference::written("region", declared.regions.keys().next().copied().unwrap_or("local"));
    if let Some(region) = node.required(sink, "region", &example)
        && let Some(name) = reference::resolve(sink, region, "region", &declared.regions)
    {
        customer.region = name.into();
    }
    customer.disabled =
        node.get("disabled").and_then(|value| value::boolean(sink, value)).unwrap_or_default();
    let (fewest, most) = MAILS_PER_HOUR;
    customer.limits.mails_per_hour = node
        .get("mails_per_hour")
        .and_then(|value| value::whole(sink, value, fewest.into()..=most.into()))
        .and_then(|mails| u32::try_from(mails).ok())
        .unwrap_or(MAILS_PER_HOUR_DEFAULT);
    customer.stream_silent_after = alert::duration(sink, node, "silent_after", STREAM_SILENT_AFTER);
    if let Some(list) = node.get("netblocks") {
        for block in value::list(sink, list, LIST_MAX) {
            let Some(written) = value::text(sink, block, "a network such as \"203.0.113.0/24\"") else {
                continue;
            };
            match written.parse::<Netblock>() {
                Ok(netblock) => {
                    networks.push((netblock, named.name, block.at()));
                    customer.netblocks.push(netblock);
                }
                Err(problem) => sink.push(block.problem("bad-netblock", problem).label("not a network")),
            }
        }
    }
    let mut names = Names::new();
    for inner in node.blocks("key") {
        if let Some(named) = checked(sink, inner) {
            declare(sink, &mut names, "key", named, KEYS_MAX);
        }
    }
    customer.keys = names.values().filter_map(|named| key(sink, *named, today)).collect();
}

/// What the customer as which nodes publish their health must leave to the watchdog.
fn reserved(sink: &mut Sink<'_>, node: Node<'_>, customer: &Customer) {
    let service = customer.services.contains_key(&INSTALLATION_SERVICE.into());
    let alert = customer.alerts.contains_key(WATCHDOG);
    let names = [("service", INSTALLATION_SERVICE, service), ("alert", WATCHDOG, alert)];
    for (kind, name, _) in names.into_iter().filter(|(.., has)| *has) {
        let message = format!("customer `{INSTALLATION}` cannot have a {kind} named `{name}`");
        let problem = Problem::error("bad-name", &node.name_at(), message);
        sink.push(
            problem
                .label("the installation's own customer")
                .help("what the watchdog says about Kinetic's own nodes stands under it"),
        );
    }
}

fn key(sink: &mut Sink<'_>, named: Named<'_>, today: Option<Wall>) -> Option<Key> {
    let Named { name, node } = named;
    let hash = node.required(sink, "salted_sha256", "\"…\" (`kinetic key new` writes it)").and_then(|hash| {
        let bytes = value::text(sink, hash, "a salted SHA-256 hash as a string").map(notation::hex::<36>)?;
        if bytes.is_none() {
            let message = "`salted_sha256` must be 72 hexadecimal digits";
            let help = "it is a salt of four bytes and the SHA-256 of salt and secret, as `kinetic key new` makes it; never the \
                        secret itself";
            sink.push(hash.problem("bad-hash", message).label("not a salted hash").help(help));
        }
        let (salt, digest) = bytes?.split_first_chunk().map(|(salt, digest)| (*salt, digest.try_into()))?;
        Some(SaltedHash { salt, digest: digest.ok()? })
    });
    let expires_ms = expiry(sink, node, name, today);
    let may_declare = node.get("may_declare").and_then(|value| value::boolean(sink, value)).unwrap_or(false);
    Some(Key {
        name: name.to_owned(),
        hash: hash?,
        purpose: Purpose::default(),
        starts_ms: None,
        expires_ms,
        may_declare,
    })
}

fn expiry(sink: &mut Sink<'_>, node: Node<'_>, name: &str, today: Option<Wall>) -> Option<i64> {
    let expires = node.get("expires")?;
    let written = value::text(sink, expires, "a date such as \"2027-03-01\"")?;
    let Some(end) = notation::end_of_day_ms(written) else {
        let message = "`expires` must be a date such as \"2027-03-01\"";
        sink.push(expires.problem("bad-date", message).label("not a date"));
        return None;
    };
    if today.is_some_and(|today| today.as_ms() >= end) {
        let message = format!("key `{name}` has expired: {written} was its last day");
        sink.push(
            Problem::warning("expired-key", &expires.at(), message)
                .label("in the past")
                .help("whoever publishes with it is refused; remove the block, or set a later date"),
        );
    }
    Some(end)
}

/// Networks that two customers claim: nobody could tell whose a datagram from there is.
fn overlaps(sink: &mut Sink<'_>, mut networks: Vec<(Netblock, &str, At)>) {
    networks.sort_by_key(|(block, customer, _)| (*block, *customer));
    // The network that reaches furthest so far, and the furthest of any other customer: enough to find, for each
    // network, one that overlaps it if there is any.
    let mut reach: Vec<&(Netblock, &str, At)> = Vec::new();
    let mut family = None;
    for network in &networks {
        let (block, customer, at) = network;
        if family.replace(block.v6) != Some(block.v6) {
            reach.clear();
        }
        if let Some((_, other, first)) =
            reach.iter().find(|(held, other, _)| other != customer && held.overlaps(block))
        {
            let message = format!("this network is claimed by `{other}` and by `{customer}`");
            let problem =
                Problem::error("overlapping-netblock", at, message).label(format!("`{customer}` here"));
            sink.push(problem.related(first, format!("`{other}` here")).help(
                "a netblock says whose unauthenticated traffic is, so that each address has one owner",
            ));
        }
        match reach.iter_mut().find(|(_, other, _)| other == customer) {
            Some(held) if held.0.last >= block.last => {}
            Some(held) => *held = network,
            None => reach.push(network),
        }
        reach.sort_by_key(|(held, _, _)| std::cmp::Reverse(held.last));
        reach.truncate(2);
    }
}
