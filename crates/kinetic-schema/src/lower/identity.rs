//! Who somebody is and how much he may do: `key`, `certificate`, `user`, `limits`, `tokens`, `edge`.

use std::collections::BTreeMap;

use kinetic_wire::Wall;

use super::alert;
use crate::block::{Named, Node, checked};
use crate::diagnostic::{Problem, Sink};
use crate::limits::{
    CERTIFICATES_MAX, CONNECTIONS, CUSTOMER_CLUSTERS, KEYS_MAX, MAILS_PER_HOUR, MESSAGE_BYTES,
    SAMPLES_PER_SECOND, SERIES, TOKEN_KEYS_MAX, TOKEN_TTL, TOKEN_TTL_DEFAULT, USERS_MAX,
};
use crate::load::{Declared, declare};
use crate::notation::{self, DAY_MS};
use crate::password;
use crate::reference::{self, Names};
use crate::schema::{
    Certificate, Customer, Edge, INSTALLATION, Key, Limits, Purpose, Role, SaltedHash, TokenKey, Tokens, User,
};
use crate::value::{self, Value};

/// Keys, certificates and users of a customer's block.
pub(super) fn all(sink: &mut Sink<'_>, named: Named<'_>, customer: &mut Customer, today: Option<Wall>) {
    let node = named.node;
    let keys = names(sink, node, "key", KEYS_MAX);
    customer.keys = keys.values().filter_map(|inner| key(sink, *inner, named.name, today)).collect();
    let certificates = names(sink, node, "certificate", CERTIFICATES_MAX);
    for (name, inner) in &certificates {
        if let Some(first) = keys.get(name) {
            let message = format!("a key and a certificate share the name `{name}`");
            let problem =
                Problem::error("duplicate-name", &inner.node.name_at(), message).label("again here");
            sink.push(problem.related(&first.node.name_at(), "first here").help(format!(
                "each is the login `{}.{name}`, and a login is known by one thing",
                customer.name
            )));
        }
    }
    customer.certificates =
        certificates.values().filter_map(|inner| certificate(sink, *inner, today)).collect();
    let users = names(sink, node, "user", USERS_MAX);
    customer.users = users.values().filter_map(|inner| member(sink, *inner)).collect();
}

fn names<'a>(sink: &mut Sink<'_>, node: Node<'a>, kind: &'static str, max: usize) -> Names<'a> {
    let mut names = Names::new();
    for inner in node.blocks(kind) {
        if let Some(named) = checked(sink, inner) {
            declare(sink, &mut names, kind, named, max);
        }
    }
    names
}

fn key(sink: &mut Sink<'_>, named: Named<'_>, customer: &str, today: Option<Wall>) -> Option<Key> {
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
    let purposes = [("publish", Purpose::Publish), ("read", Purpose::Read), ("edge", Purpose::Edge)];
    let said = node.get("purpose");
    let purpose = said.and_then(|value| value::choice(sink, value, &purposes)).unwrap_or_default();
    if let Some(value) = said.filter(|_| purpose == Purpose::Edge && customer != INSTALLATION) {
        let message = format!("a key of customer `{customer}` cannot have the purpose \"edge\"");
        let problem = value.problem("misplaced-purpose", message).label("publishes for all customers");
        sink.push(problem.help(format!("only a key of customer `{INSTALLATION}` speaks for others")));
    }
    let starts_ms = node.get("starts").and_then(|value| moment(sink, value, Side::First));
    let expires = node.get("expires");
    let expires_ms = expires.and_then(|value| moment(sink, value, Side::Last));
    if let (Some(starts), Some(ends), Some(value)) = (starts_ms, expires_ms, expires)
        && ends <= starts
    {
        let message = format!("key `{name}` is never good: it expires before it starts");
        sink.push(value.problem("never-good", message).label("not later than `starts`"));
    }
    if let (Some(value), Some(ends)) = (expires, expires_ms) {
        expired(sink, value, "expired-key", &format!("key `{name}`"), ends, today);
    }
    let may_declare = node.get("may_declare").and_then(|value| value::boolean(sink, value)).unwrap_or(false);
    Some(Key { name: name.to_owned(), hash: hash?, purpose, starts_ms, expires_ms, may_declare })
}

fn certificate(sink: &mut Sink<'_>, named: Named<'_>, today: Option<Wall>) -> Option<Certificate> {
    let Named { name, node } = named;
    let sha256 = node.required(sink, "sha256", "\"…\" (`kinetic ca issue` writes it)").and_then(|value| {
        let bytes = value::text(sink, value, "a fingerprint as a string").map(notation::hex::<32>)?;
        if bytes.is_none() {
            let message = "`sha256` must be 64 hexadecimal digits";
            let help =
                "it is the fingerprint of the certificate: openssl x509 -in FILE -outform der | sha256sum";
            sink.push(value.problem("bad-hash", message).label("not a fingerprint").help(help));
        }
        bytes
    });
    let expires = node.required(sink, "expires", "\"2027-03-01T00:00:00Z\"");
    let expires_ms = expires.and_then(|value| moment(sink, value, Side::Last));
    if let (Some(value), Some(ends)) = (expires, expires_ms) {
        expired(sink, value, "expired-certificate", &format!("certificate `{name}`"), ends, today);
    }
    Some(Certificate { name: name.to_owned(), sha256: sha256?, expires_ms: expires_ms? })
}

/// Which end of a day a date means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    First,
    Last,
}

/// A date or a moment, in milliseconds since the Unix epoch. As an end it is the first moment behind it.
fn moment(sink: &mut Sink<'_>, value: Value<'_>, side: Side) -> Option<i64> {
    let written = value::text(sink, value, "a date such as \"2027-03-01\"")?;
    let day = notation::day_ms(written).map(|day| if side == Side::Last { day + DAY_MS } else { day });
    let moment = day.or_else(|| notation::moment_ms(written));
    if moment.is_none() {
        let message = format!(
            "`{}` must be a date such as \"2027-03-01\", or a moment such as \"2027-03-01T12:00:00Z\"",
            value.attribute
        );
        let problem = value.problem("bad-date", message).label("not a date");
        sink.push(problem.help(match side {
            Side::First => "a date is the first day on which it is good, in UTC",
            Side::Last => "a date is the last day on which it is good, in UTC",
        }));
    }
    moment
}

fn expired(
    sink: &mut Sink<'_>,
    value: Value<'_>,
    code: &'static str,
    what: &str,
    ends: i64,
    today: Option<Wall>,
) {
    if today.is_some_and(|today| today.as_ms() >= ends) {
        let message = format!("{what} has expired");
        sink.push(
            Problem::warning(code, &value.at(), message)
                .label("in the past")
                .help("whoever publishes with it is refused; remove the block, or set a later date"),
        );
    }
}

/// Those who look after the installation.
pub(super) fn operators(sink: &mut Sink<'_>, declared: &Declared<'_>) -> Vec<User> {
    let operator = |named: &Named<'_>| user(sink, *named, Role::Operator);
    declared.operators.values().filter_map(operator).collect()
}

fn member(sink: &mut Sink<'_>, named: Named<'_>) -> Option<User> {
    let roles = [("viewer", Role::Viewer), ("editor", Role::Editor), ("owner", Role::Owner)];
    let role = named.node.get("role").and_then(|value| value::choice(sink, value, &roles));
    user(sink, named, role.unwrap_or(Role::Viewer))
}

fn user(sink: &mut Sink<'_>, Named { name, node }: Named<'_>, role: Role) -> Option<User> {
    let value = node.required(sink, "password", "\"$argon2id$…\" (`kinetic user passwd` writes it)");
    let value = value?;
    let written = value::text(sink, value, "a password's argon2id hash as a string")?;
    if let Err(problem) = password::check(written) {
        let (code, message, help) = problem.said();
        sink.push(value.problem(code, message).label("not a hash to keep").help(help));
        return None;
    }
    Some(User { name: name.to_owned(), password: written.to_owned(), role })
}

/// Names that people of two customers, or an operator, log in with: nobody could tell who comes.
pub(super) fn shared_names(sink: &mut Sink<'_>, declared: &Declared<'_>) {
    let operators = declared.operators.values().map(|named| ("", named.node));
    let customers = declared.customers.values().filter_map(|parts| parts.customer);
    let theirs = customers.flat_map(|named| named.node.blocks("user").map(move |node| (named.name, node)));
    let mut first: BTreeMap<&str, (&str, Node<'_>)> = BTreeMap::new();
    for (owner, node) in operators.chain(theirs) {
        let Some(name) = node.block.labels.first().map(hcl_edit::structure::BlockLabel::as_str) else {
            continue;
        };
        let (other, held) = *first.entry(name).or_insert((owner, node));
        // Twice within one block is said already.
        if other != owner {
            let message = format!("user `{name}` stands in two places of the repository");
            let problem = Problem::error("duplicate-name", &node.name_at(), message).label("again here");
            sink.push(
                problem.related(&held.name_at(), "first here").help(
                    "whoever logs in says his name and not his customer; give one of them another name",
                ),
            );
        }
    }
}

/// What a `limits` block says, and of a default what it does not.
pub(super) fn limits(sink: &mut Sink<'_>, node: Node<'_>, default: Limits) -> Limits {
    let mut whole = |name: &str, (fewest, most): (u64, u64)| {
        node.get(name).and_then(|value| value::whole(sink, value, fewest..=most))
    };
    let small = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
    let connections = small(whole("connections", CONNECTIONS));
    let channels = small(whole("channels", CONNECTIONS));
    let samples_per_second = whole("samples_per_second", SAMPLES_PER_SECOND);
    let (feeds, series) = (whole("feeds", SERIES), whole("series", SERIES));
    let clusters = small(whole("clusters", CUSTOMER_CLUSTERS));
    let (fewest, most) = MAILS_PER_HOUR;
    let mails_per_hour = small(whole("mails_per_hour", (fewest.into(), most.into())));
    let (least, most) = MESSAGE_BYTES;
    let message_bytes = node.get("message_size").and_then(|value| value::size(sink, value, least..=most));
    Limits {
        connections: connections.unwrap_or(default.connections),
        channels: channels.unwrap_or(default.channels),
        message_bytes: message_bytes.unwrap_or(default.message_bytes),
        samples_per_second: samples_per_second.unwrap_or(default.samples_per_second),
        feeds: feeds.unwrap_or(default.feeds),
        series: series.unwrap_or(default.series),
        clusters: clusters.unwrap_or(default.clusters),
        mails_per_hour: mails_per_hour.unwrap_or(default.mails_per_hour),
    }
}

pub(super) fn tokens(sink: &mut Sink<'_>, node: Node<'_>) -> Option<Tokens> {
    let ttl = alert::duration(sink, node, "ttl", TOKEN_TTL).unwrap_or(TOKEN_TTL_DEFAULT);
    let named = names(sink, node, "key", TOKEN_KEYS_MAX);
    if named.is_empty() {
        let message = "`tokens` has no `key`, so that nobody could sign one";
        let problem = Problem::error("missing-block", &node.header(), message).label("`key` is missing");
        sink.push(problem.help("add key \"2026-a\" { public = \"04…\" } (`kinetic token new` makes one)"));
    }
    let mut keys: Vec<TokenKey> = named.values().filter_map(|named| token_key(sink, *named)).collect();
    // By name where they start at one moment, so that all nodes choose the same.
    keys.sort_by_key(|key| key.starts_ms);
    Some(Tokens { ttl, keys })
}

fn token_key(sink: &mut Sink<'_>, Named { name, node }: Named<'_>) -> Option<TokenKey> {
    let starts_ms = node.get("starts").and_then(|value| moment(sink, value, Side::First));
    let value = node.required(sink, "public", "\"04…\" (65 bytes of a P-256 point)")?;
    let bytes = value::text(sink, value, "a public key as a string").map(notation::hex::<65>)?;
    let Some(public) = bytes.filter(|bytes| bytes[0] == 4) else {
        let message = "`public` must be 130 hexadecimal digits that begin with 04";
        let help =
            "it is the public half of a P-256 key, an uncompressed point: 04, X and Y; never the private one";
        sink.push(value.problem("bad-key", message).label("not a public key").help(help));
        return None;
    };
    Some(TokenKey { name: name.to_owned(), public, starts_ms })
}

pub(super) fn edge(sink: &mut Sink<'_>, node: Node<'_>, declared: &Declared<'_>) -> Edge {
    let customers: Names<'_> =
        declared.customers.iter().filter_map(|(name, parts)| Some((*name, parts.customer?))).collect();
    let public = node.get("public").and_then(|value| reference::resolve(sink, value, "customer", &customers));
    Edge { public: public.map(Into::into) }
}
