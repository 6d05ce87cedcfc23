//! `analytic` and its `rule`.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_wire::{AnalyticName, Direction};

use crate::block::{Named, Node, checked};
use crate::diagnostic::{Problem, Sink};
use crate::limits::{
    CONSUMER_TIMEOUT, DESCRIPTION_BYTES_MAX, DEVIATIONS_MAX, HOLD_MAX, LIST_MAX, MIN_FEEDS_DEFAULT,
    MIN_FEEDS_MAX, WINDOW_MIN,
};
use crate::load::Parts;
use crate::notation::{self, show_duration};
use crate::reference::{self, Step};
use crate::schema::{
    Analytic, ClusterPath, Customer, Deviates, Deviation, Glob, Hysteresis, Rule, Severity, ValueKind,
};
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
    let rule = rule(sink, node);
    let window = window(sink, node, on.as_deref().unwrap_or_default(), customer);
    let hysteresis = match node.get("for") {
        Some(value) => hysteresis(sink, value),
        None => Some(Hysteresis { hits: 1, of: 1 }),
    };
    let severities =
        [Severity::Info, Severity::Warning, Severity::Critical].map(|level| (level.as_str(), level));
    let severity =
        node.get("severity").and_then(|value| value::choice(sink, value, &severities)).unwrap_or_default();
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
    })
}

/// `on`: clusters, services (all their clusters), or a list of either; each cluster once, in the order written.
fn clusters(sink: &mut Sink<'_>, on: Value<'_>, parts: &Parts<'_>, customer: &Customer) -> Vec<ClusterPath> {
    let mut found: Vec<ClusterPath> = Vec::new();
    for value in value::some_list(sink, on, LIST_MAX, "name a cluster: service.NAME.cluster.NAME") {
        let Some(steps) = reference::steps(sink, value, "service.checkout.cluster.frontends") else {
            continue;
        };
        for path in resolved(sink, value, &steps, parts, customer) {
            if !found.contains(&path) {
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
fn window(sink: &mut Sink<'_>, node: Node<'_>, on: &[ClusterPath], customer: &Customer) -> Option<Duration> {
    let value = node.required(sink, "window", "\"10s\"")?;
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

/// The one `rule` block of an analytic.
fn rule(sink: &mut Sink<'_>, analytic: Node<'_>) -> Option<Rule> {
    let mut rules = analytic.blocks("rule");
    let (Some(node), second) = (rules.next(), rules.next()) else {
        if analytic.get("rule").is_none() {
            sink.push(
                Problem::error(
                    "missing-block",
                    &analytic.header(),
                    format!("{} has no `rule`", analytic.title()),
                )
                .label("`rule` is missing")
                .help("add rule \"deviates\" { deviations = 3 }"),
            );
        }
        return None;
    };
    if let Some(second) = second {
        let message = "an analytic has one rule".to_owned();
        let problem = Problem::error("duplicate-block", &second.header(), message).label("a second one");
        sink.push(problem.related(&node.header(), "first here").help("write another analytic for it"));
    }
    let named = checked(sink, node)?;
    if named.name != "deviates" {
        let message = format!("there is no rule named `{}`", named.name);
        let problem = Problem::error("unknown-rule", &node.name_at(), message).label("unknown");
        sink.push(problem.help("the rule there is: rule \"deviates\" { deviations = 3 }"));
        return None;
    }
    deviates(sink, node).map(Rule::Deviates)
}

fn deviates(sink: &mut Sink<'_>, node: Node<'_>) -> Option<Deviates> {
    let smallest = 0.001;
    let deviations = node.required(sink, "deviations", "3").and_then(|value| {
        let wanted = format!("a number of standard deviations from {smallest} to {DEVIATIONS_MAX}");
        value::real(sink, value, smallest..=DEVIATIONS_MAX, &wanted)
    });
    let directions = [("above", Direction::Above), ("below", Direction::Below), ("both", Direction::Both)];
    let deviation_kinds = [("population", Deviation::Population), ("sample", Deviation::Sample)];
    let direction = node.get("direction").and_then(|value| value::choice(sink, value, &directions));
    let deviation = node.get("deviation").and_then(|value| value::choice(sink, value, &deviation_kinds));
    let min_feeds = node
        .get("min_feeds")
        .and_then(|value| value::whole(sink, value, 2..=u64::from(MIN_FEEDS_MAX)))
        .and_then(|feeds| u32::try_from(feeds).ok());
    let relative = node.get("min_effect").and_then(|value| share(sink, value));
    let absolute = node.get("min_effect_absolute").and_then(|value| {
        value::real(sink, value, 0.0..=f64::MAX, "a number of 0 or more, in the metric's own unit")
    });
    Some(Deviates {
        deviations: deviations?,
        direction: direction.unwrap_or_default(),
        deviation: deviation.unwrap_or_default(),
        min_feeds: min_feeds.unwrap_or(MIN_FEEDS_DEFAULT),
        min_effect_relative: relative.unwrap_or(0.0),
        min_effect_absolute: absolute.unwrap_or(0.0),
    })
}

/// `min_effect`: a share of the mean.
fn share(sink: &mut Sink<'_>, value: Value<'_>) -> Option<f64> {
    let written = value::text(sink, value, "a share of the mean such as \"5%\"")?;
    let share = notation::share(written);
    if share.is_none() {
        let message = "`min_effect` must be a share of the mean such as \"5%\"";
        let help = "for a difference in the metric's own unit there is min_effect_absolute = 0.5";
        sink.push(value.problem("bad-share", message).label("not a share").help(help));
    }
    share
}
