//! What the schema wants of one source: how to read it, and which rules look at it.

use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::Schema;
use kinetic_schema::schema::{
    Analytic, ClusterPath, GaugeSign, Glob, INSTALLATION, Limits, NameTemplate, Precision, Purpose, Rule,
    Silent, SilentEach, Source, ValueKind,
};
use kinetic_wire::{DataType, Direction, SourceKey};

use crate::decode;
use crate::sample::{Field, Sample};
use crate::snapshot;

/// Origin of an alert about all feeds of a cluster together.
pub(crate) const ALL_FEEDS: &str = "*";

/// One analytic on one cluster of the source.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) analytic: Arc<Analytic>,
    pub(crate) on: ClusterPath,
    pub(crate) members: Vec<Glob>,
    pub(crate) rule: Rule,
    /// Digest of all that it asks ([`snapshot::digest`]).
    pub(crate) digest: String,
    /// Length of a window, nanoseconds.
    pub(crate) length: i64,
    /// Index of its lane: the watches with the same length share windows.
    pub(crate) lane: u16,
}

/// A series by the names that the schema knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) origin: String,
    /// Metric name with tags, sorted, in `;k=v` form.
    pub(crate) metric: String,
    /// How much of `metric` is the name alone.
    pub(crate) name_len: usize,
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) data_type: DataType,
    pub(crate) gauge_sign: GaugeSign,
    pub(crate) precision: Precision,
    /// Nanoseconds.
    pub(crate) lateness: i64,
    pub(crate) template: Option<NameTemplate>,
    pub(crate) origin_tag: String,
    /// Into how many parts the source is split; 1 where it is not.
    pub(crate) partitions: u16,
    /// How often it is to be said what is heard of its publishers, where their silence is an event.
    pub(crate) listened_every: Option<Duration>,
    pub(crate) watches: Vec<Watch>,
    /// How much of the customer is taken.
    pub(crate) limits: Limits,
    /// Logins of the installation's own that may not publish for others.
    pub(crate) denied: Vec<String>,
}

/// A duration as windows count it.
pub(crate) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX / 4)
}

/// The installation's own keys that are no edge's, as logins. One that the schema does not know any more may be an edge's that
/// was rotated out, with messages under way; the broker lets no other publish for customers.
fn denied(schema: &Schema) -> Vec<String> {
    let own = schema.customers.get(&INSTALLATION.into()).into_iter().flat_map(|customer| &customer.keys);
    own.filter(|key| key.purpose != Purpose::Edge).map(|key| format!("{INSTALLATION}.{}", key.name)).collect()
}

impl Plan {
    /// The plan of a source, or `None` where the schema does not know it.
    pub(crate) fn of(schema: &Schema, key: &SourceKey) -> Option<Self> {
        let customer = schema.customers.get(&key.customer)?;
        let source: &Source = customer.sources.get(&key.source)?;
        let mut watches = Vec::new();
        for analytic in customer.analytics.values() {
            let shared = Arc::new(analytic.clone());
            for path in &analytic.on {
                let cluster =
                    customer.services.get(&path.service).and_then(|s| s.clusters.get(&path.cluster));
                let Some(cluster) = cluster.filter(|cluster| cluster.source == key.source) else { continue };
                let mut watch = Watch {
                    analytic: Arc::clone(&shared),
                    on: path.clone(),
                    members: cluster.members.clone(),
                    rule: analytic.rule,
                    digest: String::new(),
                    length: nanos(analytic.window).max(1),
                    lane: 0,
                };
                watch.digest = snapshot::digest(&watch);
                watches.push(watch);
            }
        }
        Some(Self {
            data_type: source.data_type,
            gauge_sign: source.gauge_sign,
            precision: source.precision,
            lateness: nanos(source.lateness),
            template: source.name_template.clone(),
            origin_tag: source.origin_tag.clone(),
            partitions: source.partitions,
            listened_every: customer.listened_every(),
            watches,
            limits: customer.limits,
            denied: denied(schema),
        })
    }

    /// Names of a series, or `None` where nothing says which feed it is of. `envelope` is the delivery's own word.
    ///
    /// The first that says it wins: the name (by the source's template), the origin tag, the line, the envelope.
    /// The origin tag is never part of the metric, or each feed would be alone with its own.
    pub(crate) fn identify(&self, sample: &Sample<'_>, envelope: Option<&str>) -> Option<Identity> {
        let mut name = sample.name.to_owned();
        match sample.field {
            Some(Field::Dotted(field)) => {
                name.push('.');
                name.push_str(field);
            }
            Some(Field::Glued(field)) => name.push_str(field),
            None => {}
        }
        let mut origin = None;
        if let Some((found, rest)) = self.template.as_ref().and_then(|template| template.split(&name)) {
            origin = found.map(str::to_owned);
            name = rest.to_owned();
        }
        let mut tags: Vec<_> = decode::tags(sample.tags, sample.tag_syntax).collect();
        tags.retain(|(key, value)| {
            let is_origin = *key == self.origin_tag && !value.is_empty();
            if is_origin && origin.is_none() {
                origin = Some(value.as_ref().to_owned());
            }
            !is_origin
        });
        tags.sort();
        tags.dedup();
        let origin = origin
            .or_else(|| sample.origin.map(str::to_owned))
            .or_else(|| envelope.map(str::to_owned))
            .filter(|origin| !origin.is_empty())?;
        let name_len = name.len();
        for (key, value) in tags {
            name.push(';');
            name.push_str(&key);
            if !value.is_empty() {
                name.push('=');
                name.push_str(&value);
            }
        }
        Some(Identity { origin, metric: name, name_len })
    }
}

impl Watch {
    /// Whether it looks at a series.
    pub(crate) fn wants(&self, identity: &Identity) -> bool {
        let metric = &self.analytic.metric;
        (metric.matches(&identity.metric[..identity.name_len]) || metric.matches(&identity.metric))
            && self.members.iter().any(|glob| glob.matches(&identity.origin))
    }

    /// Metric and origin under which a series is followed. Silence is no matter of one metric: a feed is heard in any of
    /// those that the rule names, and a cluster in any of its feeds.
    pub(crate) fn feed_of<'a>(&'a self, identity: &'a Identity) -> (&'a str, &'a str) {
        match self.rule {
            Rule::Deviates(_) => (&identity.metric, &identity.origin),
            Rule::Silent(Silent { each: SilentEach::Feed, .. }) => {
                (&self.analytic.metric.pattern, &identity.origin)
            }
            Rule::Silent(Silent { each: SilentEach::Cluster, .. }) => {
                (&self.analytic.metric.pattern, ALL_FEEDS)
            }
        }
    }

    /// What is kept of each feed's samples.
    pub(crate) fn value(&self) -> ValueKind {
        match self.rule {
            Rule::Deviates(_) => self.analytic.value,
            Rule::Silent(_) => ValueKind::Count,
        }
    }

    /// Whether it listens for silence.
    pub(crate) fn listens(&self) -> bool {
        matches!(self.rule, Rule::Silent(_))
    }

    /// Whether what is compared tells how much there was of each feed, so that a window must be whole.
    pub(crate) fn counts(&self) -> bool {
        matches!(self.value(), ValueKind::Sum | ValueKind::Count | ValueKind::Rate)
    }

    /// What of each feed is compared, as alert events say it.
    pub(crate) fn value_kind(&self) -> &'static str {
        match self.rule {
            Rule::Deviates(_) => self.analytic.value.as_str(),
            Rule::Silent(_) => Silent::VALUE_KIND,
        }
    }

    /// Which side counts; of silence there is one only.
    pub(crate) fn direction(&self) -> Direction {
        match self.rule {
            Rule::Deviates(rule) => rule.direction,
            Rule::Silent(_) => Direction::Below,
        }
    }

    /// Whether another revision's watch asks the same question, so that what is known goes on being true.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (a, b) = (&self.analytic, &other.analytic);
        let patterns = |members: &[Glob]| members.iter().map(|glob| glob.pattern.clone()).collect::<Vec<_>>();
        a.name == b.name
            && self.on == other.on
            && patterns(&self.members) == patterns(&other.members)
            && a.metric.pattern == b.metric.pattern
            && a.value == b.value
            && self.rule == other.rule
            && self.length == other.length
            && a.hysteresis == b.hysteresis
    }
}
