//! The metrics object of a statsd daemon's flush, as its AMQP backends publish it: the published npm package, the later
//! repository version of the same, and one that sends counters only.
//!
//! ```text
//! {"counters":{"hits":12},"gauges":{"heap":5},"timers":{"latency":[118,120]},"timer_counters":{"latency":20},
//!  "sets":{"users":{"store":{"abc":true}}},…}     latency: two timers of rate 2/20
//! ```
//! Raw values are taken (`counters`, `gauges`, `timers`, `sets`); what the daemon derives from them (`counter_rates`,
//! `timer_data`, `statsd_metrics`) is left alone, since it would count twice. There is no timestamp in it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decode::json::{self, Pairs, Text};
use crate::decode::{JSON_VALUES_MAX, LINE_BYTES_MAX, NAME_BYTES_MAX, Notes, statsd, text};
use crate::sample::{Kind, Reject, Sample, TagSyntax};

type Raw<'a> = Pairs<'a, &'a RawValue>;

#[derive(Debug, Deserialize)]
struct Metrics<'a> {
    #[serde(borrow)]
    counters: Option<Raw<'a>>,
    #[serde(borrow)]
    gauges: Option<Raw<'a>>,
    #[serde(borrow)]
    timers: Option<Raw<'a>>,
    #[serde(borrow)]
    timer_counters: Option<Raw<'a>>,
    #[serde(borrow)]
    sets: Option<Raw<'a>>,
}

/// A set: the daemon's object with its members as keys.
#[derive(Debug, Deserialize)]
struct Set<'a> {
    #[serde(borrow)]
    store: Raw<'a>,
}

/// Reads a body. A metric that is not as it should be is refused alone; a body that is no such object, as a whole.
pub(super) fn decode(
    body: &[u8],
    each: &mut impl FnMut(Sample<'_>),
    reject: &mut impl FnMut(Reject, &[u8]),
) -> Notes {
    let Ok(metrics) = serde_json::from_slice::<Metrics<'_>>(body) else {
        reject(Reject::Malformed, text::head(body, LINE_BYTES_MAX));
        return Notes::default();
    };
    let counts = metrics.timer_counters.iter().flat_map(|pairs| &pairs.0);
    let timer_counts = counts.filter_map(|(name, raw)| Some((&*name.0, json::number(raw)?))).collect();
    let mut reader = Reader { values: 0, notes: Notes::default(), timer_counts, each };
    let sections = [
        (Section::Counters, metrics.counters),
        (Section::Gauges, metrics.gauges),
        (Section::Timers, metrics.timers),
        (Section::Sets, metrics.sets),
    ];
    for (section, pairs) in sections {
        for (name, raw) in pairs.iter().flat_map(|pairs| &pairs.0) {
            let refused = if reader.values >= JSON_VALUES_MAX {
                Err(Reject::TooManyLines)
            } else {
                reader.metric(section, name, raw)
            };
            if let Err(reason) = refused {
                // The name says more to people than the value does, and it stands outside of `raw`.
                reject(reason, text::head(name.0.as_bytes(), LINE_BYTES_MAX));
            }
            if refused == Err(Reject::TooManyLines) {
                return reader.notes;
            }
        }
    }
    reader.notes
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Counters,
    Gauges,
    Timers,
    Sets,
}

struct Reader<'a, 'e, E> {
    values: u64,
    notes: Notes,
    timer_counts: BTreeMap<&'a str, f64>,
    each: &'e mut E,
}

impl<E: FnMut(Sample<'_>)> Reader<'_, '_, E> {
    fn metric(&mut self, section: Section, name: &Text<'_>, raw: &RawValue) -> Result<(), Reject> {
        self.notes.lines += 1;
        self.values += 1;
        let name = &*name.0;
        if name.is_empty() {
            return Err(Reject::EmptyName);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Reject::NameTooLong);
        }
        if !json::is_clean(name) {
            return Err(Reject::BadText);
        }
        match section {
            Section::Counters => self.one(name, Kind::Counter, raw),
            Section::Gauges => self.one(name, Kind::Gauge, raw),
            Section::Timers => self.timers(name, raw),
            Section::Sets => self.members(name, raw),
        }
    }

    fn one(&mut self, name: &str, kind: Kind, raw: &RawValue) -> Result<(), Reject> {
        let value = json::number(raw).ok_or(Reject::BadValue)?;
        self.emit(name, kind, value, 1.0);
        Ok(())
    }

    /// The raw timings of one flush. The daemon keeps each once and their count, corrected by the sample rate, apart;
    /// so their rate is the one through the other.
    fn timers(&mut self, name: &str, raw: &RawValue) -> Result<(), Reject> {
        let values: Vec<f64> = serde_json::from_str(raw.get()).map_err(|_| Reject::BadValue)?;
        if values.iter().any(|value| *value < 0.0) {
            return Err(Reject::NegativeTimer);
        }
        #[expect(clippy::cast_precision_loss, reason = "a body holds far fewer than 2^53 values")]
        let len = values.len() as f64;
        let rate = self
            .timer_counts
            .get(name)
            .map(|count| len / count)
            .filter(|rate| *rate > 0.0 && *rate <= 1.0)
            .unwrap_or(1.0);
        for value in values {
            self.emit(name, Kind::Timer, value, rate);
        }
        Ok(())
    }

    fn members(&mut self, name: &str, raw: &RawValue) -> Result<(), Reject> {
        let set: Set<'_> = serde_json::from_str(raw.get()).map_err(|_| Reject::BadValue)?;
        for (member, _) in &set.store.0 {
            self.emit(name, Kind::Set, statsd::member(member.0.as_bytes()), 1.0);
        }
        Ok(())
    }

    fn emit(&mut self, name: &str, kind: Kind, value: f64, rate: f64) {
        self.values += 1;
        let (tag_syntax, at) = (TagSyntax::None, None);
        (self.each)(Sample { name, field: None, tags: "", tag_syntax, origin: None, kind, value, rate, at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::exercise::testing::see;
    use crate::decode::{Context, Format};
    use kinetic_wire::Wall;

    fn check(body: &str, expect: &[&str]) {
        let seen = see(Format::StatsdBackendJson, &Context::bare(Wall(0)), body.as_bytes());
        assert_eq!(seen.lines(), expect, "{body}");
    }

    #[test]
    fn a_flush_as_both_versions_of_the_backend_send_it() {
        let body = r#"{"counters":{"statsd.bad_lines_seen":0,"web-017.checkout.hits":12},"gauges":{"web-017.heap":-3.5},
            "timers":{"web-017.checkout.latency":[118,120.5],"idle":[]},"timer_counters":{"web-017.checkout.latency":20},
            "sets":{},"counter_rates":{"web-017.checkout.hits":1.2},"timer_data":{"web-017.checkout.latency":{"count_90":2,"mean":119.25}},
            "pctThreshold":[90],"statsd_metrics":{"processing_time":0}}"#;
        check(
            body,
            &[
                "statsd.bad_lines_seen=0 counter",
                "web-017.checkout.hits=12 counter",
                "web-017.heap=-3.5 gauge",
                "web-017.checkout.latency=118 timer x0.1",
                "web-017.checkout.latency=120.5 timer x0.1",
            ],
        );
        // Counters only, from another backend.
        check(r#"{"counters":{"a":1}}"#, &["a=1 counter"]);
    }

    #[test]
    fn sets_hash_as_lines_do() {
        let context = Context::bare(Wall(0));
        let json =
            see(Format::StatsdBackendJson, &context, br#"{"sets":{"u":{"store":{"abc":true,"d":true}}}}"#);
        let lines = see(Format::Statsd, &context, b"u:abc|s\nu:d|s");
        assert_eq!(json.samples.len(), 2);
        assert_eq!(json.samples, lines.samples);
    }

    #[test]
    fn a_bad_metric_leaves_its_neighbours_alone() {
        check(
            r#"{"counters":{"a":1,"b":"2","c":null,"":4,"d\u0007":5,"e":6},"timers":{"t":[1,"x"],"n":[-1],"u":[3]},"sets":{"s":[]}}"#,
            &[
                "a=1 counter",
                "e=6 counter",
                "u=3 timer",
                "!bad_value b",
                "!bad_value c",
                "!empty_name ",
                "!bad_text d\u{7}",
                "!bad_value t",
                "!negative_timer n",
                "!bad_value s",
            ],
        );
        check(r#"{"counters":[]}"#, &[r#"!malformed {"counters":[]}"#]);
        check("[1]", &["!malformed [1]"]);
    }

    #[test]
    fn values_are_capped() {
        let timings = vec!["1"; 100_001].join(",");
        let seen = see(
            Format::StatsdBackendJson,
            &Context::bare(Wall(0)),
            format!(r#"{{"timers":{{"a":[{timings}],"b":[1],"c":[1]}}}}"#).as_bytes(),
        );
        assert_eq!(seen.rejects, [(Reject::TooManyLines, "b".to_owned())]);
    }
}
