//! From the bytes of a delivery to samples: `inflate`, then `detect`, then `samples`.
//!
//! ```text
//! body ─ inflate ─▶ plain bytes ─ detect ─▶ Format ─ samples ─▶ each(Sample)   borrowed, nothing kept
//!                                                          └──▶ reject(Reject, line)
//! ```
//! Each line stands for itself: it is taken whole or refused whole, and a refused one leaves its neighbours alone.
//!
//! ```
//! use kinetic_analyzer::decode::{Context, detect, inflate, samples};
//! use kinetic_wire::Wall;
//!
//! let context = Context::bare(Wall::from_secs(1_795_164_112));
//! let (mut scratch, mut sum, mut refused) = (Vec::new(), 0.0, Vec::new());
//! let body = inflate(&context, b"a:1|c\nb:2|c|#env:prod\nc:NaN|c\n", &mut scratch).unwrap();
//! let format = detect(&context, body).unwrap();
//! let mut each = |sample: kinetic_analyzer::sample::Sample<'_>| sum += sample.value;
//! samples(format, &context, body, &mut each, &mut |reason, _line| refused.push(reason.name()));
//! assert_eq!((sum, refused), (3.0, vec!["bad_value"]));
//! ```

use kinetic_schema::schema::{GaugeSign, Precision};
use kinetic_wire::{DataType, Wall};

use crate::sample::{Reject, Sample};

mod collectd;
mod collectd_json;
mod detect;
pub mod exercise;
mod graphite;
mod inflate;
mod influx;
mod json;
mod number;
mod sniff;
mod statsd;
mod statsd_json;
mod tags;
mod text;

pub use detect::detect;
pub use inflate::{
    INFLATE_MEMBERS_MAX, INFLATE_RATIO_FREE_BYTES, INFLATE_RATIO_MAX, INFLATED_BYTES_MAX,
    INFLATED_PER_MESSAGE_BYTE, ZSTD_WINDOW_BYTES_MAX, inflate,
};
pub use tags::{Tags, tags};

/// Longest metric name in bytes, without its tags.
pub const NAME_BYTES_MAX: usize = 512;
/// Most tags of one sample.
pub const TAGS_MAX: usize = 64;
/// Longest tags of one sample together, in bytes; longer ones are refused like too many.
pub const TAGS_BYTES_MAX: usize = 4 * 1024;
/// Longest line in bytes, for every line format but influx.
pub const LINE_BYTES_MAX: usize = 8 * 1024;
/// Longest influx line in bytes: one carries many fields, and strings with line breaks.
pub const INFLUX_LINE_BYTES_MAX: usize = 64 * 1024;
/// Most lines that are read from one body; the rest of it is refused.
pub const LINES_MAX: u64 = 10_000;
/// Most values that are read from one JSON body; the rest of it is refused.
pub const JSON_VALUES_MAX: u64 = 100_000;
/// Most values in one collectd value list (collectd's own types have at most a few dozen).
pub const VALUES_PER_LIST_MAX: usize = 128;
/// How far ahead of `now` a line's timestamp may be, in seconds. More is no clock's skew, and one such stamp would
/// carry event time away with it. What is early or late within it is for the windows to judge.
pub const TIMESTAMP_AHEAD_MAX_S: i64 = 24 * 3600;

/// What is known about a body besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// Media type as the publisher put it; a hint.
    pub content_type: Option<&'a str>,
    /// `gzip`, `zstd`, or something that is no compression (`utf-8`).
    pub content_encoding: Option<&'a str>,
    /// AMQP `type`: ours is `kinetic.data.<data type>.v1`.
    pub kind: Option<&'a str>,
    /// The tool that published; a hint.
    pub app_id: Option<&'a str>,
    /// Exchange it was published to.
    pub exchange: &'a str,
    /// Its routing key; a metric's name in one of carbon's layouts.
    pub routing_key: &'a str,
    /// What the schema says the source carries; `Auto` leaves it to the ladder.
    pub data_type: DataType,
    /// How statsd gauges with a sign are read.
    pub gauge_sign: GaugeSign,
    /// Unit of influx timestamps.
    pub precision: Precision,
    /// Bytes that a body may inflate to, at most [`INFLATED_BYTES_MAX`].
    pub inflated_bytes_max: usize,
    /// Time of the delivery; timestamps far ahead of it are refused. It is never put into a sample.
    pub now: Wall,
}

impl Context<'_> {
    /// A context that knows nothing but the time: no properties, the schema's word `Auto`.
    #[must_use]
    pub fn bare(now: Wall) -> Self {
        Self {
            content_type: None,
            content_encoding: None,
            kind: None,
            app_id: None,
            exchange: "",
            routing_key: "",
            data_type: DataType::Auto,
            gauge_sign: GaugeSign::Auto,
            precision: Precision::Ns,
            inflated_bytes_max: INFLATED_BYTES_MAX,
            now,
        }
    }

    /// The last moment that a timestamp may name.
    fn latest(&self) -> Wall {
        Wall(self.now.0.saturating_add(TIMESTAMP_AHEAD_MAX_S * 1_000_000_000))
    }
}

/// How a body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// statsd lines, DogStatsD and the other tag dialects among them.
    Statsd,
    /// The metrics object of a statsd daemon's flush, as its AMQP backends send it.
    StatsdBackendJson,
    /// collectd's `PUTVAL` lines.
    CollectdCommand,
    /// collectd's JSON value lists.
    CollectdJson,
    /// Graphite plaintext: `name value timestamp`.
    Graphite,
    /// Carbon's layout with the name in the routing key: `value timestamp`.
    GraphiteKeyed,
    /// Influx line protocol.
    Influx,
}

impl Format {
    /// Name for a counter's label or for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Statsd => "statsd",
            Self::StatsdBackendJson => "statsd_backend_json",
            Self::CollectdCommand => "collectd_command",
            Self::CollectdJson => "collectd_json",
            Self::Graphite => "graphite",
            Self::GraphiteKeyed => "graphite_keyed",
            Self::Influx => "influx",
        }
    }
}

/// What was seen in one body besides samples and rejects: for counters, once per delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Lines (or JSON value lists, or JSON metrics) read, refused ones among them.
    pub lines: u64,
    /// Sample rates on a gauge or set, which mean nothing there and were ignored.
    pub rates_ignored: u64,
    /// Fields that are not known, or have no meaning where they stand, and were ignored.
    pub fields_ignored: u64,
    /// Influx fields that are no numbers (strings and booleans).
    pub not_numbers: u64,
}

impl Notes {
    /// Adds another body's notes.
    pub fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.rates_ignored += other.rates_ignored;
        self.fields_ignored += other.fields_ignored;
        self.not_numbers += other.not_numbers;
    }
}

/// Reads a body, already inflated. Calls `each` for every sample and `reject` for every refused line, with the line
/// (its first bytes, where it is longer than a line may be) for quarantine. A sample is good for the call only: names
/// that have to be put together live in a buffer that the next one uses again.
///
/// A sample without a time of its own, or whose line says "now" (graphite's `-1`, collectd's `N`), has `at: None`;
/// the caller knows better than a decoder what time that was (`kin-ts-ns`, else the delivery's).
pub fn samples(
    format: Format,
    context: &Context<'_>,
    body: &[u8],
    each: &mut impl FnMut(Sample<'_>),
    reject: &mut impl FnMut(Reject, &[u8]),
) -> Notes {
    match format {
        Format::Statsd => statsd::decode(context, body, each, reject),
        Format::StatsdBackendJson => statsd_json::decode(body, each, reject),
        Format::CollectdCommand => collectd::decode(context, body, each, reject),
        Format::CollectdJson => collectd_json::decode(context, body, each, reject),
        Format::Graphite => graphite::decode(context, None, body, each, reject),
        Format::GraphiteKeyed => graphite::decode(context, Some(context.routing_key), body, each, reject),
        Format::Influx => influx::decode(context, body, each, reject),
    }
}

#[cfg(test)]
mod tests;
