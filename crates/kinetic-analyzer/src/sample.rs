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
    /// A member of a set: `value` is a hash of the member's bytes, as `f64::from_bits`. One bit is kept clear so that
    /// it is never NaN or infinite; equal members have equal bits.
    Set,
    /// A total that only grows (collectd `derive` and `counter`); compared as it is. collectd's `absolute`, which
    /// starts anew with every reading, is a `Counter`.
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
    /// The value; always finite (for `Set` it is a hash and says nothing as a number).
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
    /// More than 64 tags, or more than 4 KiB of them.
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
    /// A format that is known, and that Kinetic does not read.
    Refused(Foreign),
}

/// Formats that are recognised, so that their counter has a name, and not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Foreign {
    /// OTLP in protobuf, as the OpenTelemetry collector's exporter sends it.
    Otlp,
    /// OTLP in JSON.
    OtlpJson,
    /// Telegraf's JSON serializer.
    TelegrafJson,
    /// Sensu classic keepalives and check results.
    Sensu,
    /// Logstash events.
    Logstash,
    /// CloudEvents in structured mode.
    CloudEvents,
    /// Graphite's pickle: a program for Python's unpickler, never to be run.
    Pickle,
    /// Prometheus remote write (protobuf in a snappy block).
    RemoteWrite,
    /// Web server access log lines.
    AccessLog,
}

impl Reject {
    /// Name for the counter's label; it never changes once given.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::EmptyName => "empty_name",
            Self::NameTooLong => "name_too_long",
            Self::TooManyTags => "too_many_tags",
            Self::LineTooLong => "line_too_long",
            Self::TooManyLines => "too_many_lines",
            Self::BadValue => "bad_value",
            Self::BadRate => "bad_rate",
            Self::BadType => "bad_type",
            Self::NegativeTimer => "negative_timer",
            Self::BadTimestamp => "bad_timestamp",
            Self::BadTags => "bad_tags",
            Self::BadText => "bad_text",
            Self::Unknown => "unknown_value",
            Self::NotAMetric => "not_a_metric",
            Self::BadEncoding => "bad_encoding",
            Self::Undetected => "undetected",
            Self::Refused(foreign) => foreign.name(),
        }
    }

    /// It is no fault of anybody: the sender said "unknown", or sent something that is legal and no metric.
    #[must_use]
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::Unknown | Self::NotAMetric)
    }
}

impl Foreign {
    /// Name for the counter's label; it never changes once given.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Otlp => "refused_otlp",
            Self::OtlpJson => "refused_otlp_json",
            Self::TelegrafJson => "refused_telegraf_json",
            Self::Sensu => "refused_sensu",
            Self::Logstash => "refused_logstash",
            Self::CloudEvents => "refused_cloudevents",
            Self::Pickle => "refused_pickle",
            Self::RemoteWrite => "refused_remote_write",
            Self::AccessLog => "refused_access_log",
        }
    }
}
