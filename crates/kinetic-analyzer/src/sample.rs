//! What a decoder yields: one measured value, borrowed from the body it was read from.

use kinetic_wire::Wall;

/// What kind of measurement a sample is, as the line said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A count since the last one: `value` is to be divided by `rate`.
    Counter,
    /// A state: `value` replaces the last one.
    Gauge,
    /// A change of a state: `value` is to be added to the last one.
    GaugeDelta,
    /// A measured duration or size (statsd `ms`, `h`, `d`): `value` stands for `1 / rate` like it.
    Timer,
    /// A member of a set: `value` is a 64-bit hash of the member's bytes, as `f64::from_bits`.
    Set,
    /// A total that only grows (collectd `derive`, `counter`, `absolute`); compared as it is.
    Total,
}

/// How a sample's tags are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TagSyntax {
    /// It has none.
    #[default]
    None,
    /// `#k:v,k2:v2` (DogStatsD), a bare word allowed.
    Dog,
    /// `k=v,k2=v2` (Influx, Librato, SignalFx).
    Comma,
    /// `k=v;k2=v2` (Graphite).
    Semicolon,
    /// `k=v,k2=v2` with influx line protocol's escapes (`\,` `\=` `\ `).
    InfluxEscaped,
}

/// One sample. `name` and `tags` together with `field` identify its series within an origin; nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// Metric name as written, without tags. For SignalFx, what stands before the bracket.
    pub name: &'a str,
    /// Rest of the name: SignalFx's part after the bracket, influx's field key, a collectd data source or JSON path
    /// part. Joined to `name` with `.` (SignalFx: joined with nothing) to give the metric's full name.
    pub field: Option<Field<'a>>,
    /// Tags as written, without delimiters around them.
    pub tags: &'a str,
    /// How to read `tags`.
    pub tag_syntax: TagSyntax,
    /// Origin as the line itself says it in a place of its own (collectd's `host`); not looked up in tags or name.
    pub origin: Option<&'a str>,
    /// Kind.
    pub kind: Kind,
    /// The value; finite (except `Set`, where it is a hash).
    pub value: f64,
    /// Sample rate, greater than 0 and at most 1.
    pub rate: f64,
    /// Event time where the line has one.
    pub at: Option<Wall>,
}

/// The second part of a metric's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// Joined with a dot.
    Dotted(&'a str),
    /// Joined with nothing.
    Glued(&'a str),
}

/// Why a line, or a whole body, was refused. Each is a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reject {
    /// Not of the format's shape at all.
    Malformed,
    /// No name.
    EmptyName,
    /// Name longer than 512 bytes.
    NameTooLong,
    /// More than 64 tags.
    TooManyTags,
    /// Line longer than 8 KiB.
    LineTooLong,
    /// More than 10,000 lines in one body; the rest is not read.
    TooManyLines,
    /// Not a number, not finite, or in a notation that is not accepted (hexadecimal).
    BadValue,
    /// Sample rate outside 0 < r <= 1.
    BadRate,
    /// Type letter that is not known.
    BadType,
    /// Negative timer.
    NegativeTimer,
    /// Timestamp that is no number or out of range.
    BadTimestamp,
    /// Tags in two dialects at once, or brackets that do not pair.
    BadTags,
    /// Not UTF-8, or control characters.
    BadText,
    /// A value that says "unknown" (collectd `U`, `nan`, JSON null): no sample, no fault.
    Unknown,
    /// An event or service check of DogStatsD: understood, and not a metric.
    NotAMetric,
    /// The body could not be decompressed, or grew past its cap.
    BadEncoding,
    /// No data type could be told.
    Undetected,
    /// A format that is known and refused (pickle).
    Refused,
}
