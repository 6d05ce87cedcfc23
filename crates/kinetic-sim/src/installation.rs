//! The installation that a world runs: customers, sources, one analytic that fires in every window for every feed.
//!
//! Every feed's value in a window is the sum of its samples, and each sample is a power of four times a factor of its
//! feed's own. The value then says how often each sample was counted (zero to three times), and no two feeds have the same
//! value, so that each lies off the mean and is reported. Windows are as long as a standing alert may go unsaid, so that it is
//! said for every one of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinetic_redirector::machine::{AddressOrder, HoldDown, Map, MapBuilder, PlacingConfig, RedirectorConfig};
use kinetic_schema::Schema;
use kinetic_wire::{Limits, SourceKey};

use crate::broker;
use crate::message::{SECOND, Time};
use crate::plan::Size;

/// Length of a window.
pub const WINDOW: Time = 60 * SECOND;
/// How late a sample may come.
pub const LATENESS: Time = 5 * SECOND;
/// How long an alert block waits for company before its first mail.
pub const GROUP_WAIT: Time = 2 * SECOND;
/// Factors of the feeds of one source.
pub const FACTORS: [u64; 3] = [1, 7, 23];
/// Name of the metric whose sums say what was counted, judged by the analytics `a0`, `a1` …
pub const METRIC: &str = "hits";
/// Name of the metric that is judged by "2 of 3", in the analytics `b0`, `b1` …: the last feed is out of line in every
/// other window, beginning with the first, so that it begins and ceases to fire by turns from the third on.
pub const LEVEL: &str = "level";
/// What every feed's level is in line,
pub const LEVEL_IN: u64 = 10;
/// and out of line.
pub const LEVEL_OUT: u64 = 1_000;

/// Names of the analytics that listen for silence, of each feed and of the cluster as a whole: `q0`, `q1` …, `w0`, `w1` …
pub const SILENT_FEED: &str = "q";
/// See [`SILENT_FEED`].
pub const SILENT_CLUSTER: &str = "w";
/// Length of the windows in which those listen; every feed that speaks as it should speaks in each.
pub const HEARING: Time = 15 * SECOND;
/// The longest silence that is no event.
pub const SILENT_AFTER: Time = 30 * SECOND;

/// A schema revision in force.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The commit.
    pub id: String,
    /// Commits up to and with it.
    pub generation: u64,
    /// What it says.
    pub schema: Arc<Schema>,
    /// What the redirector needs of it.
    pub map: Arc<Map>,
}

/// An installation as large as a world's; the last customer may be switched off.
///
/// # Panics
/// Never: the text is a schema.
#[must_use]
pub fn revision(id: &str, generation: u64, size: Size, disabled: bool) -> Revision {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let top = "region \"eu\" {\n  amqp = \"amqps://broker.example:5671\"\n}\nmail {\n  relay = \"smtp.example:25\"\n  \
               from = \"alerts@kinetic.example\"\n}\n";
    files.insert("kinetic.hcl".into(), top.as_bytes().to_vec());
    for number in 0..size.customers {
        files.insert(format!("customers/c{number}/c.hcl"), customer(number, size).into_bytes());
    }
    let loaded = kinetic_schema::load(&files);
    let mut schema = loaded.schema.unwrap_or_else(|| panic!("the world's schema: {:?}", loaded.diagnostics));
    if let Some(last) = schema.customers.values_mut().last() {
        last.disabled = disabled;
    }
    let schema = Arc::new(schema);
    let map = Arc::new(map(id, generation, &schema));
    Revision { id: id.to_owned(), generation, schema, map }
}

fn customer(number: usize, size: Size) -> String {
    let mut text = format!("customer \"c{number}\" {{\n  region = region.eu\n}}\n");
    let mut analytics = Vec::new();
    for source in 0..size.sources {
        let partitions = if source == 0 { size.partitions } else { 1 };
        text.push_str(&format!(
            "source \"s{source}\" {{\n  data_type = \"statsd\"\n  routing = [\"s{source}.#\"]\n  lateness = \"5s\"\n  \
             partitions = {partitions}\n}}\n\
             service \"v{source}\" {{\n  cluster \"all\" {{\n    source = source.s{source}\n    members = [\"*\"]\n  }}\n}}\n\
             analytic \"a{source}\" {{\n  on = [service.v{source}.cluster.all]\n  metric = \"{METRIC}\"\n  value = \"sum\"\n  \
             window = \"60s\"\n  for = \"1 of 1\"\n  rule \"deviates\" {{\n    deviations = 0.001\n    direction = \"both\"\n    \
             min_feeds = 2\n  }}\n}}\n\
             analytic \"b{source}\" {{\n  on = [service.v{source}.cluster.all]\n  metric = \"{LEVEL}\"\n  value = \"max\"\n  \
             window = \"60s\"\n  for = \"2 of 3\"\n  rule \"deviates\" {{\n    deviations = 1\n    direction = \"above\"\n    \
             min_feeds = 3\n  }}\n}}\n"
        ));
        analytics.push(format!("analytic.a{source}, analytic.b{source}"));
        if size.listens {
            for (name, each) in [(SILENT_FEED, "feed"), (SILENT_CLUSTER, "cluster")] {
                text.push_str(&format!(
                    "analytic \"{name}{source}\" {{\n  on = [service.v{source}.cluster.all]\n  metric = \"{METRIC}\"\n  \
                     window = \"{}s\"\n  rule \"silent\" {{\n    after = \"{}s\"\n    each = \"{each}\"\n  }}\n}}\n",
                    HEARING / SECOND,
                    SILENT_AFTER / SECOND
                ));
                analytics.push(format!("analytic.{name}{source}"));
            }
        }
    }
    text.push_str(&format!(
        "alert \"team\" {{\n  analytics = [{}]\n  to = [\"oncall@c{number}.example\"]\n  group_wait = \"{}s\"\n}}\n",
        analytics.join(", "),
        GROUP_WAIT / SECOND
    ));
    text
}

/// A source's key, and behind it those of its parts.
pub fn units_of(source: &SourceKey, partitions: u16) -> impl Iterator<Item = SourceKey> {
    let parts = if partitions > 1 { partitions } else { 0 };
    (0..=parts).map(|part| source.with_part(part))
}

/// All that somebody is to own: sources and their parts.
#[must_use]
pub fn units(schema: &Schema) -> Vec<SourceKey> {
    let partitions = |key: &SourceKey| schema.customers[&key.customer].sources[&key.source].partitions;
    sources(schema).iter().flat_map(|key| units_of(key, partitions(key))).collect()
}

/// Whether some source is split.
#[must_use]
pub fn has_parts(schema: &Schema) -> bool {
    schema.customers.values().any(|customer| customer.sources.values().any(|source| source.partitions > 1))
}

/// Which part of a source a feed is in; 0 where it is not split.
#[must_use]
pub fn part_of(origin: &str, partitions: u16) -> u16 {
    if partitions <= 1 {
        return 0;
    }
    u16::try_from(broker::share(origin.as_bytes(), usize::from(partitions)) + 1).unwrap_or(0)
}

/// All sources of an installation.
#[must_use]
pub fn sources(schema: &Schema) -> Vec<SourceKey> {
    let customers = schema.customers.values().filter(|customer| !customer.disabled);
    customers
        .flat_map(|customer| {
            customer.sources.keys().map(|source| SourceKey::new(customer.name.as_str(), source.as_str()))
        })
        .collect()
}

/// As the redirector's shell makes it from a schema. Generations count revisions from 1.
fn map(id: &str, generation: u64, schema: &Schema) -> Map {
    let mut map = MapBuilder::new(id, generation);
    for region in schema.regions.values() {
        let addresses = region.amqp.iter().map(|uri| (uri.clone(), region.vhost.clone())).collect();
        map.region(&region.name, addresses, region.zones.clone());
        let by_origin = region.order == kinetic_schema::schema::AddressOrder::ByOrigin;
        map.order(&region.name, if by_origin { AddressOrder::ByOrigin } else { AddressOrder::Listed });
    }
    for customer in schema.customers.values() {
        map.customer(&customer.name, &customer.region, customer.disabled);
        for source in customer.sources.values() {
            let definition = digest(&format!("{source:?}{:?}{:?}", customer.services, customer.analytics));
            map.source(source.name.as_str(), source.data_type, source.partitions, definition);
            source.profile.iter().for_each(|profile| _ = map.profile(profile));
        }
    }
    map.build()
}

/// FNV-1a (Fowler, Noll and Vo), 32 bits: only compared with itself.
fn digest(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A hold-down's end is an event: there is room again, and what is crowded elsewhere moves there. A world lasts seven minutes,
/// so hold-downs are short enough to end in it, and before it is to be quiet.
const HOLD_DOWN: HoldDown = HoldDown {
    losses: 3,
    within: Duration::from_secs(3600),
    first: Duration::from_secs(20),
    longest: Duration::from_secs(40),
};

/// How redirectors run.
#[must_use]
pub fn redirector_config(name: &str, seed: u64) -> RedirectorConfig {
    RedirectorConfig {
        node: name.into(),
        ttl: Duration::from_secs(15),
        grace: Duration::from_secs(5),
        // The longest lease, with its jitter, and the grace.
        listen: Duration::from_millis(21_500),
        analyzers_max: 64,
        locate_ttl: Duration::from_secs(300),
        limits: Limits { message_bytes: 1 << 20, batch_ms: 1000 },
        placing: PlacingConfig { hold_down: HOLD_DOWN, ..PlacingConfig::default() },
        seed,
    }
}
