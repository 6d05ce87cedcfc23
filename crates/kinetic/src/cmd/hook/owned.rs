//! What in a customer's own folder is the operator's to say: compared by value, so that it does not matter in which file or how it is
//! written.

use std::collections::BTreeMap;

use kinetic_replica::Files;
use kinetic_schema::Schema;
use kinetic_schema::edit::{self, Step};
use kinetic_schema::limits::{MAX_LENGTH_BYTES_DEFAULT, MAX_LENGTH_DEFAULT};
use kinetic_schema::schema::{Customer, Key, Purpose, Source};

/// Sources that a customer may have by its own push; each is a queue of the broker that all share.
const SOURCES_MAX: usize = 50;

/// What of a customer's push is not its own to change.
pub(super) fn refusals(name: &str, before: &Schema, after: &Schema, files: &Files) -> Vec<String> {
    let mut refused = Refused { name, files, said: Vec::new() };
    let (Some(was), Some(is)) = (before.customers.get(&name.into()), after.customers.get(&name.into()))
    else {
        refused.say(&[], None, "whoever looks after the installation takes customers in and lets them go");
        return refused.said;
    };
    customer(&mut refused, was, is);
    keys(&mut refused, was, is);
    certificates(&mut refused, was, is);
    sources(&mut refused, was, is);
    secret_files(&mut refused, was, is);
    if !others_are_the_same(name, before, after) {
        refused.say(&[], None, "this changes more than its own customer");
    }
    refused.said
}

struct Refused<'r> {
    name: &'r str,
    files: &'r Files,
    said: Vec<String>,
}

impl Refused<'_> {
    /// At an attribute of a block inside the customer's, or the block, or the customer's.
    fn say(&mut self, inner: &[Step<'_>], attribute: Option<&str>, what: &str) {
        let mut path: Vec<Step<'_>> = vec![("customer", self.name)];
        path.extend(inner);
        // What stands in the folder stands at the top of its file.
        let place = edit::line(self.files, &path, attribute)
            .or_else(|| edit::line(self.files, inner, attribute))
            .or_else(|| edit::line(self.files, &path[..1], None));
        let place = match place {
            Some((file, line)) => format!("{file}:{line}"),
            None => format!("customers/{}/", self.name),
        };
        self.said.push(format!("{place}: {what}"));
    }
}

fn customer(refused: &mut Refused<'_>, was: &Customer, is: &Customer) {
    let theirs = [
        ("region", was.region != is.region),
        ("netblocks", was.netblocks != is.netblocks),
        ("disabled", was.disabled != is.disabled),
    ];
    for (attribute, _) in theirs.into_iter().filter(|(_, differs)| *differs) {
        let what =
            format!("`{attribute}` is the operator's to change; put back what stood there, or ask him");
        refused.say(&[], Some(attribute), &what);
    }
    if was.limits != is.limits {
        let what = "`limits` are the operator's to change; put back what stood there, or ask him";
        refused.say(&[("limits", "")], None, what);
    }
}

/// Keys that publish or read are the customer's own. What speaks for others, or declares on the broker, is not.
fn keys(refused: &mut Refused<'_>, was: &Customer, is: &Customer) {
    let held: BTreeMap<&str, &Key> = was.keys.iter().map(|key| (key.name.as_str(), key)).collect();
    for key in &is.keys {
        let before = held.get(key.name.as_str());
        let step = [("key", key.name.as_str())];
        if key.purpose == Purpose::Edge && before.is_none_or(|before| *before != key) {
            refused.say(&step, Some("purpose"), "a key that publishes for others is the operator's to make");
        }
        if key.may_declare && !before.is_some_and(|before| before.may_declare) {
            let what = "`may_declare` is the operator's to give; leave it out, or ask him";
            refused.say(&step, Some("may_declare"), what);
        }
    }
}

/// A certificate may go, which revokes it. It comes from whoever has the authority's key.
fn certificates(refused: &mut Refused<'_>, was: &Customer, is: &Customer) {
    for certificate in is.certificates.iter().filter(|certificate| !was.certificates.contains(certificate)) {
        let step = [("certificate", certificate.name.as_str())];
        refused.say(&step, None, "a certificate is the operator's to issue; you may only remove one");
    }
}

/// Queues stand on the broker that all share: a customer may not have more or longer ones than are usual, or than it has.
fn sources(refused: &mut Refused<'_>, was: &Customer, is: &Customer) {
    if is.sources.len() > SOURCES_MAX.max(was.sources.len()) {
        refused.say(&[], None, &format!("more than {SOURCES_MAX} sources are the operator's to add"));
    }
    for (name, source) in &is.sources {
        let before = was.sources.get(name);
        let usual = |of: fn(&Source) -> u64, usual: u64| before.map_or(usual, |before| of(before).max(usual));
        let more = [
            ("partitions", source.partitions.into(), usual(|source| source.partitions.into(), 1)),
            ("max_length", source.max_length, usual(|source| source.max_length, MAX_LENGTH_DEFAULT)),
            (
                "max_length_bytes",
                source.max_length_bytes,
                usual(|source| source.max_length_bytes, MAX_LENGTH_BYTES_DEFAULT),
            ),
        ];
        for (attribute, wanted, most) in more.into_iter().filter(|(_, wanted, most)| wanted > most) {
            let what = format!("`{attribute}` of {wanted} is the operator's to give; you may have {most}");
            refused.say(&[("source", name.as_str())], Some(attribute), &what);
        }
    }
}

/// Files on the alert node are the operator's, who puts them there: none that the customer did not name before.
fn secret_files(refused: &mut Refused<'_>, was: &Customer, is: &Customer) {
    let named = |of: &Customer| -> Vec<(String, String, std::path::PathBuf)> {
        let webhooks = of.alerts.iter().flat_map(|(alert, held)| {
            held.webhooks.iter().filter_map(move |webhook| {
                Some((alert.clone(), webhook.name.clone(), webhook.secret_file.clone()?))
            })
        });
        webhooks.collect()
    };
    let held = named(was);
    for (alert, webhook, _) in
        named(is).iter().filter(|(.., file)| held.iter().all(|(.., other)| other != file))
    {
        let step = [("alert", alert.as_str()), ("webhook", webhook.as_str())];
        let what = "`secret_file` is a file of the operator's machine, who says which is yours";
        refused.say(&step, Some("secret_file"), what);
    }
}

/// By construction: no file outside the customer's folder has changed, and blocks in it are its own. This is the second lock on
/// the door.
fn others_are_the_same(name: &str, before: &Schema, after: &Schema) -> bool {
    let same = |was: &Customer, is: &Customer| {
        was.name == is.name
            && was.region == is.region
            && was.disabled == is.disabled
            && was.limits == is.limits
            && was.netblocks == is.netblocks
            && was.keys == is.keys
            && was.certificates == is.certificates
            && was.users == is.users
            && was.sources.keys().eq(is.sources.keys())
            && was.services.keys().eq(is.services.keys())
            && was.analytics.keys().eq(is.analytics.keys())
            && was.alerts.keys().eq(is.alerts.keys())
    };
    let others = |schema: &Schema| -> usize {
        schema.customers.keys().filter(|customer| customer.as_str() != name).count()
    };
    let unchanged = |was: &Customer| after.customers.get(&was.name).is_some_and(|is| same(was, is));
    let installation = before.operators == after.operators
        && before.edge.public == after.edge.public
        && before.regions.keys().eq(after.regions.keys());
    installation
        && others(before) == others(after)
        && before.customers.values().filter(|customer| customer.name.as_str() != name).all(unchanged)
}
