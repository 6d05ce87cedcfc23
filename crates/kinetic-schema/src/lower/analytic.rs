//! `analytic`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinetic_wire::AnalyticName;

use super::{labels, rule};
use crate::block::{Named, Node};
use crate::diagnostic::{Problem, Sink};
use crate::limits::{
    CONSUMER_TIMEOUT, DESCRIPTION_BYTES_MAX, HOLD_MAX, LIST_MAX, SILENT_WINDOW_DEFAULT, WINDOW_MIN,
};
use crate::load::Parts;
use crate::notation::{self, show_duration};
use crate::reference::{self, Step};
use crate::schema::{Analytic, ClusterPath, Customer, Glob, Hysteresis, Rule, Severity, Silent, ValueKind};
use crate::suggest;
use crate::value::{self, Value};

/// A customer's analytics. Those that lack something they cannot do without are left out.
pub(super) fn all(
    sink: &mut Sink<'_>,
    parts: &Parts<'_>,
    customer: &Customer,
) -> BTreeMap<AnalyticName, Analytic> {
    let mut analytics = BTreeMap::new();
    for named in parts.names("analytic").values() {
        if let Some(analytic) = analytic(sink, *named, parts, customer) {
            analytics.insert(analytic.name.clone(), analytic);
        }
    }
    analytics
}

fn analytic(
    sink: &mut Sink<'_>,
    named: Named<'_>,
    parts: &Parts<'_>,
    customer: &Customer,
) -> Option<Analytic> {
    let node = named.node;
    let on =
        node.required(sink, "on", "service.NAME.cluster.NAME").map(|on| clusters(sink, on, parts, customer));
    let metric = node.required(sink, "metric", "\"*\"").and_then(|value| value::glob(sink, value));
    let kinds = ValueKind::ALL.map(|kind| (kind.as_str(), kind));
    let value = node.get("value").and_then(|value| value::choice(sink, value, &kinds)).unwrap_or_default();
    let rule = rule::of(sink, node);
    let on_these = on.as_deref().unwrap_or_default();
    let window = if rule::is_silent(node) {
        without_meaning(sink, node);
        looks(sink, node, on_these, customer, rule.as_ref())
    } else {
        let value = node.required(sink, "window", "\"10s\"");
        value.and_then(|value| window(sink, value, on_these, customer))
    };
    let hysteresis = match node.get("for") {
        Some(value) => hysteresis(sink, value),
        None => Some(Hysteresis { hits: 1, of: 1 }),
    };
    let severity = node.get("severity").and_then(|value| severity(sink, value)).unwrap_or_default();
    let description = node.get("description").and_then(|value| description(sink, value));
    let metric: Glob = metric?;
    Some(Analytic {
        name: named.name.into(),
        on: on?,
        metric,
        value,
        rule: rule?,
        window: window?,
        hysteresis: hysteresis?,
        severity,
        description,
        labels: labels::labels(sink, node),
    })
}

/// One of the severities.
pub(super) fn severity(sink: &mut Sink<'_>, value: Value<'_>) -> Option<Severity> {
    let severities =
        [Severity::Info, Severity::Warning, Severity::Critical].map(|level| (level.as_str(), level));
    value::choice(sink, value, &severities)
}

/// `on`: clusters, services (all their clusters), or a list of either; each cluster once, in the order written.
fn clusters(sink: &mut Sink<'_>, on: Value<'_>, parts: &Parts<'_>, customer: &Customer) -> Vec<ClusterPath> {
    let mut found: Vec<ClusterPath> = Vec::new();
    let mut seen: BTreeSet<ClusterPath> = BTreeSet::new();
    for value in value::some_list(sink, on, LIST_MAX, "name a cluster: service.NAME.cluster.NAME") {
        let Some(steps) = reference::steps(sink, value, "service.checkout.cluster.frontends") else {
            continue;
        };
        for path in resolved(sink, value, &steps, parts, customer) {
            if seen.insert(path.clone()) {
                found.push(path);
            }
        }
    }
    found
}

fn resolved(
    sink: &mut Sink<'_>,
    value: Value<'_>,
    steps: &[Step<'_>],
    parts: &Parts<'_>,
    customer: &Customer,
) -> Vec<ClusterPath> {
    let services = parts.names("service");
    let example = "service.checkout.cluster.frontends";
    let (service, cluster) = match steps {
        [root, service] if root.name == "service" => (service, None),
        [root, service, word, cluster] if root.name == "service" && word.name == "cluster" => {
            (service, Some(cluster))
        }
        _ => {
            sink.push(reference::wrong_root(value, steps, "service", example));
            return Vec::new();
        }
    };
    if !reference::known(sink, service, "service", services) {
        return Vec::new();
    }
    let Some(declared) = customer.services.get(&service.name.into()) else { return Vec::new() };
    let path = |cluster: &str| ClusterPath { service: service.name.into(), cluster: cluster.into() };
    let Some(cluster) = cluster else {
        if declared.clusters.is_empty() {
            let message = format!("service `{}` has no clusters to look at", service.name);
            sink.push(value.problem("empty-service", message).label("nothing to judge"));
        }
        return declared.clusters.keys().map(|name| path(name.as_str())).collect();
    };
    if declared.clusters.contains_key(&cluster.name.into()) {
        return vec![path(cluster.name)];
    }
    let names: Vec<&str> = declared.clusters.keys().map(kinetic_wire::ClusterName::as_str).collect();
    let message = format!("service `{}` has no cluster named `{}`", service.name, cluster.name);
    let problem = Problem::error("unknown-reference", &cluster.at, message);
    sink.push(match suggest::closest(cluster.name, names.iter().copied()) {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None if names.is_empty() => problem.label("not declared"),
        None => problem.label("not declared").help(format!("there is {}", suggest::listed(names))),
    });
    Vec::new()
}

/// `window`, which together with the lateness of each source must stay well inside the broker's patience.
fn window(
    sink: &mut Sink<'_>,
    value: Value<'_>,
    on: &[ClusterPath],
    customer: &Customer,
) -> Option<Duration> {
    let window = value::duration(sink, value, WINDOW_MIN..=Duration::from_secs(86_400))?;
    let lateness = on
        .iter()
        .filter_map(|path| customer.services.get(&path.service)?.clusters.get(&path.cluster))
        .filter_map(|cluster| customer.sources.get(&cluster.source))
        .max_by_key(|source| source.lateness);
    let late = lateness.map_or(Duration::ZERO, |source| source.lateness);
    if window + late > HOLD_MAX {
        let of_source =
            lateness.filter(|source| !source.lateness.is_zero()).map_or_else(String::new, |source| {
                format!(" plus {} of lateness of source `{}`", show_duration(late), source.name)
            });
        let message = format!(
            "a window of {}{of_source} is longer than {}",
            show_duration(window),
            show_duration(HOLD_MAX)
        );
        let help = format!(
            "messages stay unacknowledged until the windows they fed are closed, so that no sample is lost, and the \
             broker cuts off a consumer that holds one for {}; take a shorter window and a longer `for`, such as \
             window = \"1m\" and for = \"10 of 15\"",
            show_duration(CONSUMER_TIMEOUT)
        );
        sink.push(value.problem("window-too-long", message).label("too long").help(help));
    }
    Some(window)
}

/// How often a silence is looked at: `window`, and where there is none often enough for `after`.
fn looks(
    sink: &mut Sink<'_>,
    node: Node<'_>,
    on: &[ClusterPath],
    customer: &Customer,
    rule: Option<&Rule>,
) -> Option<Duration> {
    let given = node.get("window");
    let written = given.map(|value| window(sink, value, on, customer));
    // Without a rule that is understood there is no `after`, and that is said already.
    let Some(Rule::Silent(Silent { after, .. })) = rule else { return written.flatten() };
    let Some(value) = given else { return Some(SILENT_WINDOW_DEFAULT.min(*after)) };
    let window = written.flatten()?;
    if window > *after {
        let message = format!(
            "`window` ({}) is longer than `after` ({}) of its rule",
            show_duration(window),
            show_duration(*after)
        );
        let help = "it says how often a silence is looked at, and may be left out";
        sink.push(value.problem("out-of-range", message).label("longer than `after`").help(help));
        return None;
    }
    Some(window)
}

/// Attributes that mean nothing where no value is measured.
fn without_meaning(sink: &mut Sink<'_>, node: Node<'_>) {
    for (name, why) in [
        ("value", "a feed is silent whatever its samples were"),
        ("for", "a silence that is longer than `after` is one; there are no windows to count"),
    ] {
        if let Some(value) = node.get(name) {
            let message = format!("`{name}` has no meaning with rule \"silent\"");
            let problem = value.problem("misplaced-attribute", message).label("nothing is measured");
            sink.push(problem.help(format!("remove it: {why}")));
        }
    }
}

fn hysteresis(sink: &mut Sink<'_>, value: Value<'_>) -> Option<Hysteresis> {
    let written = value::text(sink, value, "\"m of n\" windows, such as \"3 of 5\"")?;
    let parsed = notation::hysteresis(written).map(|(hits, of)| Hysteresis { hits, of });
    let Some(hysteresis) = parsed else {
        let message = "`for` must be \"m of n\" windows, such as \"3 of 5\"";
        let problem = value.problem("bad-hysteresis", message).label("not m of n");
        sink.push(match notation::duration(written) {
            Some(_) => {
                problem.help("it counts windows, not time: \"3 of 5\" with window = \"10s\" looks at 50s")
            }
            None => problem,
        });
        return None;
    };
    if let Some(problem) = notation::hysteresis_problem(hysteresis) {
        sink.push(value.problem("bad-hysteresis", problem).label("cannot be"));
        return None;
    }
    Some(hysteresis)
}

fn description(sink: &mut Sink<'_>, value: Value<'_>) -> Option<String> {
    let written = value::text(sink, value, "a string")?;
    if written.len() > DESCRIPTION_BYTES_MAX {
        let message =
            format!("`description` has {} bytes; {DESCRIPTION_BYTES_MAX} are possible", written.len());
        sink.push(value.problem("too-large", message).help("say it elsewhere and put the link here"));
        return None;
    }
    Some(written.to_owned())
}
