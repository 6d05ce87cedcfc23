//! `profile` and `source`.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_wire::{DataType, SourceName};

use crate::block::{Named, Node};
use crate::diagnostic::Sink;
use crate::limits::{
    LATENESS_DEFAULT, LATENESS_MAX, MAX_LENGTH_BYTES_DEFAULT, MAX_LENGTH_DEFAULT, ORIGIN_TAG_DEFAULT,
    PARTITIONS_MAX, ROUTING_BYTES_MAX, ROUTING_PATTERNS_MAX,
};
use crate::load::Parts;
use crate::notation;
use crate::reference::{self, Names};
use crate::schema::{GaugeSign, NameTemplate, Precision, Source};
use crate::value::{self, Value};

const DATA_TYPES: [(&str, DataType); 5] = [
    ("statsd", DataType::Statsd),
    ("collectd", DataType::Collectd),
    ("graphite", DataType::Graphite),
    ("influx", DataType::Influx),
    ("auto", DataType::Auto),
];

/// A customer's sources.
pub(super) fn all(sink: &mut Sink<'_>, parts: &Parts<'_>) -> BTreeMap<SourceName, Source> {
    let profiles = parts.names("profile");
    let mut data_types = BTreeMap::new();
    for named in profiles.values() {
        if let Some(data_type) = named.node.required(sink, "data_type", "\"statsd\"") {
            data_types.insert(named.name, value::choice(sink, data_type, &DATA_TYPES).unwrap_or_default());
        }
    }
    let sources = parts.names("source").values();
    sources.map(|named| (named.name.into(), source(sink, *named, profiles, &data_types))).collect()
}

fn source(
    sink: &mut Sink<'_>,
    named: Named<'_>,
    profiles: &Names<'_>,
    data_types: &BTreeMap<&str, DataType>,
) -> Source {
    let Named { name, node } = named;
    let profile = node.get("profile").and_then(|value| reference::resolve(sink, value, "profile", profiles));
    let of_profile = profile.and_then(|profile| data_types.get(profile)).copied().unwrap_or_default();
    let own = node.get("data_type").and_then(|value| value::choice(sink, value, &DATA_TYPES));
    let signs =
        [("auto", GaugeSign::Auto), ("relative", GaugeSign::Relative), ("absolute", GaugeSign::Absolute)];
    let units = [("ns", Precision::Ns), ("us", Precision::Us), ("ms", Precision::Ms), ("s", Precision::S)];
    let lateness = node
        .get("lateness")
        .and_then(|value| value::duration(sink, value, Duration::ZERO..=LATENESS_MAX))
        .unwrap_or(LATENESS_DEFAULT);
    let max_length = node.get("max_length").and_then(|value| value::whole(sink, value, 1..=1_000_000_000));
    let max_length_bytes =
        node.get("max_length_bytes").and_then(|value| value::size(sink, value, 1..=1 << 44));
    let partitions = node
        .get("partitions")
        .and_then(|value| value::whole(sink, value, 1..=u64::from(PARTITIONS_MAX)))
        .and_then(|parts| u16::try_from(parts).ok());
    Source {
        name: name.into(),
        profile: profile.map(str::to_owned),
        data_type: own.unwrap_or(of_profile),
        routing: routing(sink, node),
        partitions: partitions.unwrap_or(1),
        lateness,
        name_template: node.get("name").and_then(|value| name_template(sink, value)),
        origin_tag: node
            .get("origin_tag")
            .and_then(|value| origin_tag(sink, value))
            .unwrap_or_else(|| ORIGIN_TAG_DEFAULT.to_owned()),
        gauge_sign: node
            .get("gauge_sign")
            .and_then(|value| value::choice(sink, value, &signs))
            .unwrap_or_default(),
        precision: node
            .get("precision")
            .and_then(|value| value::choice(sink, value, &units))
            .unwrap_or_default(),
        max_length: max_length.unwrap_or(MAX_LENGTH_DEFAULT),
        max_length_bytes: max_length_bytes.unwrap_or(MAX_LENGTH_BYTES_DEFAULT),
    }
}

fn routing(sink: &mut Sink<'_>, node: Node<'_>) -> Vec<String> {
    let Some(list) = node.required(sink, "routing", "[\"#\"] (everything the customer publishes)") else {
        return Vec::new();
    };
    let mut patterns = Vec::new();
    let why = "a source without a routing pattern receives nothing; [\"#\"] receives everything";
    for value in value::some_list(sink, list, ROUTING_PATTERNS_MAX, why) {
        let Some(pattern) = value::text(sink, value, "a routing pattern such as \"web.#\"") else { continue };
        if let Some(problem) = routing_problem(pattern) {
            let help = "words stand between dots; `*` is one word and `#` any number of them";
            sink.push(value.problem("bad-routing", problem).label("not a routing pattern").help(help));
        } else if patterns.iter().any(|other| other == pattern) {
            sink.push(value.problem("duplicate-entry", format!("\"{pattern}\" stands here twice")));
        }
        patterns.push(pattern.to_owned());
    }
    patterns
}

fn routing_problem(pattern: &str) -> Option<String> {
    if pattern.len() > ROUTING_BYTES_MAX {
        return Some(format!(
            "a routing pattern has at most {ROUTING_BYTES_MAX} bytes; this one has {}",
            pattern.len()
        ));
    }
    if pattern.chars().any(char::is_control) {
        return Some("a routing pattern holds no control characters".to_owned());
    }
    let mixed = pattern.split('.').find(|word| word.len() > 1 && word.contains(['*', '#']))?;
    Some(format!("`{mixed}` mixes a wildcard with other characters, and the broker would take it literally"))
}

fn name_template(sink: &mut Sink<'_>, value: Value<'_>) -> Option<NameTemplate> {
    let written = value::text(sink, value, "a name template such as \"servers.{origin}.{metric}\"")?;
    match notation::name_template(written) {
        Ok(template) => Some(template),
        Err(problem) => {
            let help = "write for example \"servers.{origin}.{metric}\"; `*` is any one word, dropped";
            sink.push(value.problem("bad-template", problem).label("not a name template").help(help));
            None
        }
    }
}

fn origin_tag(sink: &mut Sink<'_>, value: Value<'_>) -> Option<String> {
    let written = value::text(sink, value, "a tag's name as a string")?;
    if written.is_empty()
        || written.len() > 255
        || written.chars().any(|c| c.is_control() || c.is_whitespace())
    {
        sink.push(value.problem("bad-name", "a tag's name has 1 to 255 bytes and no blanks"));
        return None;
    }
    Some(written.to_owned())
}
