//! What a checked schema says. Plain values: whoever holds a `Schema` may rely on every reference in it resolving,
//! every name being well formed and every number being in its range.

mod alerting;
mod glob;
mod identity;
mod operation;
mod routing;
mod templates;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Netblock;
use kinetic_wire::{
    AnalyticName, ClusterName, CustomerName, DataType, Direction, RegionName, ServiceName, SourceName,
};

pub use alerting::{
    Alert, Dkim, Escalation, GroupBy, Hours, HoursSpan, Mail, MailTls, Matching, Relay, Webhook,
    WebhookFormat,
};
pub use glob::Glob;
pub use identity::{Certificate, Edge, Key, Limits, Purpose, Role, SaltedHash, TokenKey, Tokens, User};
pub use operation::{
    DockerProvisioner, ExecProvisioner, ProcessProvisioner, Provisioner, ProvisionerKind, Watchdog,
};

pub use routing::matching_key;
pub use templates::{TemplateKind, Templates};

/// The customer under whose name alerts about Kinetic's own nodes stand. Where a schema has it, it is the one that nodes
/// publish their health as.
pub const INSTALLATION: &str = "kinetic";
/// The service of that customer under which the watchdog speaks; no schema has it.
pub const INSTALLATION_SERVICE: &str = "installation";

/// What stands for the `watchdog` block where the name of an alert of that customer is asked for; no such alert has it.
pub const WATCHDOG: &str = "watchdog";

/// One revision of an installation's schema repository, checked.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// Brokers by region.
    pub regions: BTreeMap<RegionName, Region>,
    /// How mail leaves; without it alerts are kept in history only.
    pub mail: Option<Mail>,
    /// Who is told of silent nodes; without it nobody is.
    pub watchdog: Option<Watchdog>,
    /// How analyzers are started and retired; without it nobody does.
    pub provisioner: Option<Provisioner>,
    /// Short-lived credentials; without it `locate` hands out none.
    pub tokens: Option<Tokens>,
    /// Those who look after the installation, by the names that they log in with at the board.
    pub operators: Vec<User>,
    /// What edges do.
    pub edge: Edge,
    /// Customers by name.
    pub customers: BTreeMap<CustomerName, Customer>,
}

/// A broker (cluster) and its vhost.
#[derive(Clone, Debug)]
pub struct Region {
    /// Name; also the vhost, unless `vhost` says otherwise.
    pub name: RegionName,
    /// `amqp://host:port` or `amqps://host:port`, tried in this order; empty where the region is served by this
    /// installation's own broker.
    pub amqp: Vec<String>,
    /// In which order clients are told them.
    pub order: AddressOrder,
    /// Virtual host.
    pub vhost: String,
    /// How its broker keeps the queues of sources.
    pub queues: QueueType,
    /// Where RabbitMQ's management API is, `http://host:port` or `https://host:port`; without it nobody makes logins there.
    pub management: Option<String>,
    /// Its broker accepts the tokens of [`Schema::tokens`].
    pub tokens: bool,
    /// Zones whose analyzers are preferred for its sources; empty where all are alike.
    pub zones: Vec<String>,
}

/// In which order clients are told a region's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressOrder {
    /// As they are listed.
    #[default]
    Listed,
    /// Each origin in an order of its own, always the same: a fleet spreads over a cluster's nodes.
    ByOrigin,
}

/// How a broker keeps a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueType {
    /// On one node of the broker.
    #[default]
    Classic,
    /// Replicated over the nodes of a RabbitMQ cluster.
    Quorum,
}

/// A customer and all that belongs to it.
#[derive(Clone, Debug)]
pub struct Customer {
    /// Name.
    pub name: CustomerName,
    /// Where its data arrives.
    pub region: RegionName,
    /// Switched off: `locate` is refused and its sources are given to nobody.
    pub disabled: bool,
    /// Its keys.
    pub keys: Vec<Key>,
    /// Its client certificates.
    pub certificates: Vec<Certificate>,
    /// Its people.
    pub users: Vec<User>,
    /// How much of it is taken.
    pub limits: Limits,
    /// Networks whose unauthenticated carbon or statsd is this customer's; [`Netblocks`](crate::Netblocks) looks up whose an
    /// address is.
    pub netblocks: Vec<Netblock>,
    /// Sources by name.
    pub sources: BTreeMap<SourceName, Source>,
    /// Services by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// Analytics by name.
    pub analytics: BTreeMap<AnalyticName, Analytic>,
    /// Alerts by name.
    pub alerts: BTreeMap<String, Alert>,
    /// When nothing at all has come from this customer for so long, that is an alert; never without it.
    pub stream_silent_after: Option<Duration>,
    /// Its own forms of mails.
    pub templates: Templates,
}

impl Customer {
    /// How often the owners of its sources say what they hear, where its silence is an event: so often that what is
    /// reported is late by a fifth at most, and no more often than nodes say that they live.
    #[must_use]
    pub fn listened_every(&self) -> Option<Duration> {
        let after = self.stream_silent_after.filter(|_| !self.disabled)?;
        Some((after / 5).clamp(LISTENED_EVERY.0, LISTENED_EVERY.1))
    }
}

/// Bounds of [`Customer::listened_every`].
const LISTENED_EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// Which way a statsd gauge with a sign is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GaugeSign {
    /// Relative, but absolute where the line has a DogStatsD field (`|#`, `|c:`, `|T`).
    #[default]
    Auto,
    /// A sign always means "add" (statsd, Telegraf, Vector, collectd).
    Relative,
    /// A sign is part of the number (DogStatsD agent, veneur).
    Absolute,
}

/// Unit of an influx line's timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Nanoseconds, the protocol's default.
    #[default]
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
}

/// A data source: one queue, bound to the customer's exchange by `routing`.
#[derive(Clone, Debug)]
pub struct Source {
    /// Name.
    pub name: SourceName,
    /// Name of its profile, which clients give to `locate`.
    pub profile: Option<String>,
    /// What it carries.
    pub data_type: DataType,
    /// Topic patterns.
    pub routing: Vec<String>,
    /// Over how many analyzers it is split by origin; 1 where it is not.
    pub partitions: u16,
    /// How late a sample may come after its window's end and still count.
    pub lateness: Duration,
    /// Where in a metric's name the origin stands.
    pub name_template: Option<NameTemplate>,
    /// Which tag holds the origin; `host` unless said otherwise.
    pub origin_tag: String,
    /// How statsd gauges with a sign are read.
    pub gauge_sign: GaugeSign,
    /// Unit of influx timestamps.
    pub precision: Precision,
    /// Queue bound in messages; beyond it the oldest go to the dead-letter exchange.
    pub max_length: u64,
    /// Queue bound in bytes.
    pub max_length_bytes: u64,
}

/// A dotted pattern that takes a metric name apart: literal words, `*` (any one word, dropped), `{origin}` (one word)
/// and a final `{metric}` (all the rest). `servers.{origin}.{metric}` reads `servers.web-1.cpu.load` as metric
/// `cpu.load` of `web-1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate {
    /// The parts, in order.
    pub parts: Vec<NamePart>,
}

/// One part of a [`NameTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePart {
    /// This very word.
    Literal(String),
    /// Any one word, dropped.
    Any,
    /// The word that names the origin.
    Origin,
    /// All that remains, the metric's name; always last.
    Metric,
}

impl NameTemplate {
    /// `(origin, metric)` of a name, or `None` where the name is not of this shape.
    #[must_use]
    pub fn split<'n>(&self, name: &'n str) -> Option<(Option<&'n str>, &'n str)> {
        let mut rest = name;
        let mut origin = None;
        for part in &self.parts {
            if *part == NamePart::Metric {
                return if rest.is_empty() { None } else { Some((origin, rest)) };
            }
            let (word, after) = rest.split_once('.')?;
            match part {
                NamePart::Literal(literal) if literal != word => return None,
                NamePart::Origin if word.is_empty() => return None,
                NamePart::Origin => origin = Some(word),
                _ => {}
            }
            rest = after;
        }
        None
    }
}

/// A service and its place in the topology.
#[derive(Clone, Debug)]
pub struct Service {
    /// Name.
    pub name: ServiceName,
    /// Services whose failure explains this one's; never a cycle.
    pub depends_on: Vec<ServiceName>,
    /// Where it runs, in the customer's own words; its clusters may say otherwise.
    pub site: Option<String>,
    /// What alert blocks may choose by.
    pub labels: BTreeMap<String, String>,
    /// Clusters by name.
    pub clusters: BTreeMap<ClusterName, Cluster>,
}

/// Feeds that should behave alike.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Name.
    pub name: ClusterName,
    /// Where its feeds' samples come from.
    pub source: SourceName,
    /// Which origins belong to it: any of these.
    pub members: Vec<Glob>,
    /// Where it runs: its own, or else its service's.
    pub site: Option<String>,
    /// What alert blocks may choose by: its own, and those of its service that it does not set itself.
    pub labels: BTreeMap<String, String>,
}

/// A cluster by its full name within a customer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterPath {
    /// The service.
    pub service: ServiceName,
    /// The cluster within it.
    pub cluster: ClusterName,
}

/// What of each feed is compared, out of its samples in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueKind {
    /// Sum of values over their number.
    #[default]
    Mean,
    /// Largest.
    Max,
    /// Smallest.
    Min,
    /// Sum; for counters, corrected by the sample rate.
    Sum,
    /// Number of samples, corrected by the sample rate; for sets, the number of distinct members.
    Count,
    /// `Sum` (counters) or `Count` (others) per second.
    Rate,
    /// The latest by event time.
    Last,
    /// 50th percentile (sketch, 1 % relative error).
    P50,
    /// 95th percentile (sketch, 1 % relative error).
    P95,
    /// 99th percentile (sketch, 1 % relative error).
    P99,
}

impl ValueKind {
    /// As written in a schema and in alert events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Max => "max",
            Self::Min => "min",
            Self::Sum => "sum",
            Self::Count => "count",
            Self::Rate => "rate",
            Self::Last => "last",
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
        }
    }

    /// All kinds, in the order in which help texts name them.
    pub const ALL: [Self; 10] = [
        Self::Mean,
        Self::P50,
        Self::P95,
        Self::P99,
        Self::Count,
        Self::Rate,
        Self::Sum,
        Self::Last,
        Self::Min,
        Self::Max,
    ];
}

/// Which standard deviation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deviation {
    /// Divided by n: the cluster is all there is (the default).
    #[default]
    Population,
    /// Divided by n - 1.
    Sample,
}

/// The founding rule: a feed fires when it is more than `deviations` standard deviations from the mean of its cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deviates {
    /// The limit k; positive.
    pub deviations: f64,
    /// Which side counts.
    pub direction: Direction,
    /// Which standard deviation.
    pub deviation: Deviation,
    /// Fewer feeds with a value than this give no verdict; at least 2.
    pub min_feeds: u32,
    /// The feed must also differ from the mean by this share of the mean's magnitude (0.1 is 10 %); 0 asks nothing.
    pub min_effect_relative: f64,
    /// The feed must also differ from the mean by this much, in the metric's own unit; 0 asks nothing.
    pub min_effect_absolute: f64,
}

/// Whose silence counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SilentEach {
    /// Each feed's by itself.
    #[default]
    Feed,
    /// That of all feeds of a cluster together.
    Cluster,
}

/// A feed that was heard of fires when nothing has been heard of it for longer than `after`. Nothing is measured: its
/// analytic's `value` and `hysteresis` are the defaults, and its events carry no numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silent {
    /// The longest silence that is no event; no shorter than the analytic's `window`, which says how often it is
    /// looked at.
    pub after: Duration,
    /// Whose silence counts.
    pub each: SilentEach,
}

impl Silent {
    /// What stands as `value_kind` in events about a silence.
    pub const VALUE_KIND: &str = "silence";
}

/// The kinds of rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// The founding rule.
    Deviates(Deviates),
    /// Nothing is heard.
    Silent(Silent),
}

/// Hysteresis: `hits` of the last `of` windows must be out of line before an alert fires, and the alert is resolved
/// once fewer than `hits` of them are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hysteresis {
    /// m.
    pub hits: u32,
    /// n; at most 64.
    pub of: u32,
}

/// How bad it is; carried to the mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// To know.
    Info,
    /// To look at.
    #[default]
    Warning,
    /// To get up for.
    Critical,
}

impl Severity {
    /// As written in a schema and in mail.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A rule over a cluster's feeds.
#[derive(Clone, Debug)]
pub struct Analytic {
    /// Name.
    pub name: AnalyticName,
    /// Clusters that are judged, each by itself.
    pub on: Vec<ClusterPath>,
    /// Metrics that are judged, each by itself.
    pub metric: Glob,
    /// What of each feed is compared.
    pub value: ValueKind,
    /// The rule.
    pub rule: Rule,
    /// Length of a window; windows are aligned to the Unix epoch.
    pub window: Duration,
    /// Hysteresis.
    pub hysteresis: Hysteresis,
    /// Severity.
    pub severity: Severity,
    /// What to say to the person who is mailed: runbook, contact.
    pub description: Option<String>,
    /// What alert blocks may choose by, over those of the cluster.
    pub labels: BTreeMap<String, String>,
}
