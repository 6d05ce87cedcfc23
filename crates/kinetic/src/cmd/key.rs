//! `kinetic key new|list|rotate|revoke`.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use kinetic_schema::Schema;
use kinetic_schema::edit::{self, Literal, NewBlock, Step};
use kinetic_schema::schema::{Customer, Key, Purpose};

use crate::adapter::clock;
use crate::checkout::{Checkout, NewSecret};
use crate::{BadConfig, cli, schema_files, term};

/// `kinetic key`
pub(crate) fn run(command: cli::Key) -> Result<u8> {
    match command {
        cli::Key::New(args) => new(&args),
        cli::Key::List(args) => list(&args),
        cli::Key::Rotate(args) => rotate(&args),
        cli::Key::Revoke(args) => revoke(&args),
    }
}

/// A customer of a schema, or who there is.
pub(crate) fn customer<'s>(schema: &'s Schema, name: &str) -> Result<&'s Customer> {
    schema.customers.get(&name.into()).with_context(|| BadConfig(format!("there is no customer `{name}`")))
}

fn key<'c>(customer: &'c Customer, name: &str) -> Result<&'c Key> {
    customer.keys.iter().find(|key| key.name == name).with_context(|| {
        let known: Vec<&str> = customer.keys.iter().map(|key| key.name.as_str()).collect();
        BadConfig(format!("customer `{}` has no key `{name}`; it has {}", customer.name, known.join(", ")))
    })
}

fn new(args: &cli::KeyNew) -> Result<u8> {
    let (mut checkout, schema) = Checkout::open(&args.checkout)?;
    customer(&schema, &args.customer)?;
    let purpose = match args.purpose {
        cli::Purpose::Publish => Purpose::Publish,
        cli::Purpose::Read => Purpose::Read,
        cli::Purpose::Edge => Purpose::Edge,
    };
    let secret = NewSecret::make(&args.secret);
    let mut attributes = attributes(&secret, purpose, args.may_declare);
    attributes.extend(args.starts.iter().map(|starts| ("starts", Literal::Text(starts.clone()))));
    attributes.extend(args.expires.iter().map(|expires| ("expires", Literal::Text(expires.clone()))));
    let owner: Step<'_> = ("customer", &args.customer);
    let block = NewBlock { step: ("key", &args.name), attributes };
    checkout.edit(&[owner], |text| edit::add_block(text, &[owner], &block))?;
    let login = format!("{}.{}", args.customer, args.name);
    secret.save(checkout, &login, &format!("Key {login}"))?;
    Ok(0)
}

/// What a key's block says of it, beside its dates; defaults are left out.
fn attributes(secret: &NewSecret, purpose: Purpose, may_declare: bool) -> Vec<(&'static str, Literal)> {
    let mut attributes = vec![("salted_sha256", Literal::Text(secret.hash()))];
    if purpose != Purpose::Publish {
        attributes.push(("purpose", Literal::Text(word(purpose).to_owned())));
    }
    if may_declare {
        attributes.push(("may_declare", Literal::Bool(true)));
    }
    attributes
}

fn word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Publish => "publish",
        Purpose::Read => "read",
        Purpose::Edge => "edge",
    }
}

fn rotate(args: &cli::KeyRotate) -> Result<u8> {
    let (mut checkout, schema) = Checkout::open(&args.checkout)?;
    let customer = customer(&schema, &args.customer)?;
    let old = key(customer, &args.name)?;
    let next = successor(customer, &old.name);
    let secret = NewSecret::make(&args.secret);
    let owner: Step<'_> = ("customer", &args.customer);
    let block =
        NewBlock { step: ("key", &next), attributes: attributes(&secret, old.purpose, old.may_declare) };
    checkout.edit(&[owner], |text| edit::add_block(text, &[owner], &block))?;
    let (ends_ms, shortened) = end(old, clock::now().wall.as_ms(), args.overlap);
    if shortened {
        let expires = Literal::Text(moment(ends_ms)?);
        let path = [owner, ("key", old.name.as_str())];
        checkout.edit(&path, |text| edit::set_attribute(text, &path, "expires", &expires))?;
    }
    let (login, old) = (format!("{}.{next}", args.customer), format!("{}.{}", args.customer, old.name));
    secret.save(checkout, &login, &format!("Key {login} takes over from {old}"))?;
    term::say(&format!("{old} is good until {}; both are until then.\n", moment(ends_ms)?));
    Ok(0)
}

/// When a key that is rotated ends, and whether that is sooner than it says: never later.
fn end(key: &Key, now_ms: i64, overlap: Duration) -> (i64, bool) {
    // Whole seconds, as people write them; up, so that the overlap is no shorter than was asked for.
    let wanted = now_ms.saturating_add(i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX));
    let wanted = wanted.saturating_add(999) / 1_000 * 1_000;
    match key.expires_ms {
        Some(said) if said <= wanted => (said, false),
        _ => (wanted, true),
    }
}

fn moment(ms: i64) -> Result<String> {
    Ok(Timestamp::from_millisecond(ms).ok().context("that is too far from now")?.to_string())
}

/// `web-2` after `web`, `web-3` after `web-2`: the next that neither a key nor a certificate has.
fn successor(customer: &Customer, name: &str) -> String {
    let (stem, number) = match name.rsplit_once('-') {
        Some((stem, digits)) if digits.len() < 4 && !stem.is_empty() => match digits.parse::<u32>() {
            Ok(number) => (stem, number + 1),
            Err(_) => (name, 2),
        },
        _ => (name, 2),
    };
    let taken = |name: &str| {
        customer.keys.iter().any(|key| key.name == name)
            || customer.certificates.iter().any(|certificate| certificate.name == name)
    };
    let mut names = (number..).map(|number| format!("{stem}-{number}"));
    names.find(|name| !taken(name)).expect("a customer has a bounded number of names")
}

fn revoke(args: &cli::KeyRevoke) -> Result<u8> {
    let (mut checkout, schema) = Checkout::open(&args.checkout)?;
    key(customer(&schema, &args.customer)?, &args.name)?;
    let path = [("customer", args.customer.as_str()), ("key", args.name.as_str())];
    checkout.edit(&path, |text| edit::remove_block(text, &path))?;
    checkout.save(&format!("Key {}.{} is revoked", args.customer, args.name))?;
    Ok(0)
}

/// How a key stands at a moment.
fn state(key: &Key, now_ms: i64) -> &'static str {
    if key.expires_ms.is_some_and(|ends| ends <= now_ms) {
        "expired"
    } else if key.starts_ms.is_some_and(|starts| now_ms < starts) {
        "not yet"
    } else {
        "good"
    }
}

fn list(args: &cli::OfCustomers) -> Result<u8> {
    let schema = schema_files::load(&args.schema)?;
    let now = clock::now().wall.as_ms();
    let customers: Vec<&Customer> = match &args.customer {
        Some(name) => vec![customer(&schema, name)?],
        None => schema.customers.values().collect(),
    };
    let keys = customers.into_iter().flat_map(|of| of.keys.iter().map(move |key| (of, key)));
    let said = |ms: Option<i64>| ms.map(moment).transpose();
    let mut rows = Vec::new();
    for (of, key) in keys {
        let login = format!("{}.{}", of.name, key.name);
        rows.push((login, key, said(key.starts_ms)?, said(key.expires_ms)?, state(key, now)));
    }
    if args.json {
        let shown = |(login, key, starts, expires, state): &(String, &Key, _, _, _)| -> serde_json::Value {
            let (starts, expires): (&Option<String>, &Option<String>) = (starts, expires);
            let state: &&str = state;
            serde_json::json!({
                "login": login, "name": key.name, "purpose": word(key.purpose), "starts": starts, "expires": expires,
                "may_declare": key.may_declare, "state": state,
            })
        };
        let all: Vec<serde_json::Value> = rows.iter().map(shown).collect();
        term::say(&format!("{}\n", serde_json::to_string_pretty(&all)?));
        return Ok(0);
    }
    let head = ["LOGIN", "PURPOSE", "FROM", "UNTIL", "STATE"];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = rows.into_iter().map(|(login, key, starts, expires, state)| {
        [login, word(key.purpose).to_owned(), or_dash(starts), or_dash(expires), state.to_owned()]
    });
    term::say(&term::table(head, rows));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinetic_schema::schema::SaltedHash;

    fn key(starts_ms: Option<i64>, expires_ms: Option<i64>) -> Key {
        let hash = SaltedHash { salt: [0; 4], digest: [0; 32] };
        let purpose = Purpose::Publish;
        Key { name: "web".to_owned(), hash, purpose, starts_ms, expires_ms, may_declare: false }
    }

    #[test]
    fn a_key_that_is_rotated_never_lives_longer() {
        let minute = Duration::from_secs(60);
        assert_eq!(end(&key(None, None), 1_000_001, minute), (1_061_000, true));
        assert_eq!(end(&key(None, Some(2_000_000)), 1_000_000, minute), (1_060_000, true));
        assert_eq!(end(&key(None, Some(1_030_000)), 1_000_000, minute), (1_030_000, false));
        assert_eq!(moment(1_060_000).expect("a moment"), "1970-01-01T00:17:40Z");
    }

    #[test]
    fn states_change_at_their_moments() {
        let dated = key(Some(10), Some(20));
        assert_eq!([9, 10, 19, 20].map(|now| state(&dated, now)), ["not yet", "good", "good", "expired"]);
        assert_eq!(state(&key(None, None), 0), "good");
    }

    #[test]
    fn successors_are_counted() {
        let files = crate::cmd::schema_repo::starter("acme", &"0".repeat(72));
        let mut schema = kinetic_schema::load(&files).schema.expect("the starter checks");
        let acme = schema.customers.get_mut(&"acme".into()).expect("it is there");
        for (name, next) in [
            ("web", "web-2"),
            ("web-2", "web-3"),
            ("2026-a", "2026-a-2"),
            ("2026", "2026-2"),
            ("x-2026", "x-2026-2"),
        ] {
            assert_eq!(successor(acme, name), next);
        }
        acme.keys.push(Key { name: "web-2".to_owned(), ..key(None, None) });
        assert_eq!(successor(acme, "web"), "web-3");
    }
}
