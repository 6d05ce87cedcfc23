//! Advice on who is told of what: alerts that nothing reaches, analytics that nobody hears of, hours that never come.

use std::collections::BTreeSet;

use crate::block::Node;
use crate::diagnostic::{Problem, Sink};
use crate::limits::TELLING_STEPS_MAX;
use crate::load::Parts;
use crate::schema::{Alert, Analytic, Cluster, ClusterPath, Customer, Glob, Hours};
use crate::suggest::{closest, listed};
use crate::value::{Value, is_literal};

/// An analytic and a cluster that it looks at.
struct Judged<'s> {
    analytic: &'s Analytic,
    path: &'s ClusterPath,
    cluster: &'s Cluster,
}

impl Judged<'_> {
    fn label(&self, name: &str) -> Option<&str> {
        let label = self.analytic.labels.get(name).or_else(|| self.cluster.labels.get(name));
        label.map(String::as_str)
    }
}

/// All that a customer's analytics look at.
fn judged(customer: &Customer) -> Vec<Judged<'_>> {
    let cluster = |path: &ClusterPath| customer.services.get(&path.service)?.clusters.get(&path.cluster);
    let of = |analytic| move |path| Some(Judged { analytic, path, cluster: cluster(path)? });
    customer.analytics.values().flat_map(|analytic| analytic.on.iter().filter_map(of(analytic))).collect()
}

/// Warnings about alerts that have nothing to tell of, and about analytics that no alert tells of.
pub(super) fn reach(sink: &mut Sink<'_>, parts: &Parts<'_>, customer: &Customer) {
    let judged = judged(customer);
    let alerts = customer.alerts_in_order();
    let globs = |alert: &Alert| {
        let matching = &alert.matching;
        let lists = [&matching.services, &matching.clusters, &matching.sites].map(Vec::len);
        1 + alert.analytics.len() + lists.iter().sum::<usize>() + matching.labels.len()
    };
    let steps = alerts.iter().map(|alert| globs(alert)).sum::<usize>().saturating_mul(judged.len());
    if steps > TELLING_STEPS_MAX {
        return;
    }
    // For each pair, the alert that keeps it from those after it.
    let mut kept: Vec<Option<&Alert>> = vec![None; judged.len()];
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for alert in alerts {
        let Some(named) = parts.names("alert").get(alert.name.as_str()) else { continue };
        let mut meant = 0usize;
        let mut hidden_by: Option<&Alert> = None;
        let mut heard = false;
        for (pair, keeper) in judged.iter().zip(&mut kept) {
            if !alert.tells_of(pair.analytic, pair.path, pair.cluster) {
                continue;
            }
            meant += 1;
            if let Some(keeper) = keeper {
                hidden_by.get_or_insert(*keeper);
                continue;
            }
            heard = true;
            told.insert(pair.analytic.name.as_str());
            if !alert.continues {
                *keeper = Some(alert);
            }
        }
        match hidden_by.filter(|_| !heard) {
            Some(keeper) => sink.push(hidden(parts, named.node, alert, keeper)),
            None if meant == 0 => sink.push(idle(named.node, alert, &judged)),
            None => {}
        }
    }
    for (name, named) in parts.names("analytic") {
        if !told.contains(name) {
            let message = format!("no alert tells of analytic `{name}`: what it finds goes to history only");
            let problem =
                Problem::warning("untold-analytic", &named.node.header(), message).label("nobody is told");
            sink.push(
                problem.help(format!("add analytic.{name} to the `analytics` of an alert that means it")),
            );
        }
    }
}

/// An alert that others keep everything from.
fn hidden(parts: &Parts<'_>, node: Node<'_>, alert: &Alert, keeper: &Alert) -> Problem {
    let message =
        format!("alert `{}` is never reached: all that it means is kept by those before it", alert.name);
    let problem = Problem::warning("hidden-alert", &node.header(), message).label("never reached");
    let problem = problem.help(
        "alerts are looked at by file name, then as they stand; put this one before, or let those continue",
    );
    let Some(named) = parts.names("alert").get(keeper.name.as_str()) else { return problem };
    let at = named.node.get("continue").map_or_else(|| named.node.header(), |value| value.at());
    problem.related(&at, format!("`{}` ends the search", keeper.name))
}

/// What to say of an alert that means nothing there is: by the first of its attributes that leaves nothing over.
fn idle(node: Node<'_>, alert: &Alert, judged: &[Judged<'_>]) -> Problem {
    let listed_here: Vec<&Judged<'_>> = judged
        .iter()
        .filter(|pair| alert.analytics.is_empty() || alert.analytics.contains(&pair.analytic.name))
        .collect();
    let matching = node.blocks("match").next();
    let header = matching.unwrap_or(node).header();
    let told = |at: &crate::diagnostic::At, why: &str| {
        let message = format!("alert `{}` has nothing to tell of: {why}", alert.name);
        Problem::warning("idle-alert", at, message).label("means nothing")
    };
    let Some(block) = matching.filter(|_| !listed_here.is_empty()) else {
        return told(&header, "there are no analytics that look at anything")
            .help("declare an analytic, or remove the alert");
    };
    let names = |name: for<'j> fn(&'j Judged<'_>) -> Option<&'j str>| -> BTreeSet<&str> {
        listed_here.iter().filter_map(|pair| name(pair)).collect()
    };
    let asked = [
        ("services", &alert.matching.services, names(|pair| Some(pair.path.service.as_str()))),
        ("clusters", &alert.matching.clusters, names(|pair| Some(pair.path.cluster.as_str()))),
        ("sites", &alert.matching.sites, names(|pair| pair.cluster.site.as_deref())),
    ];
    for (attribute, globs, names) in asked {
        let Some(value) = block.get(attribute) else { continue };
        if !names.iter().any(|name| globs.iter().any(|glob| glob.matches(name))) {
            let why = format!("no {} that its analytics look at are meant", attribute);
            return with_help(told(&value.at(), &why), globs, &names);
        }
    }
    let severities = &alert.matching.severities;
    if let Some(value) = block.get("severities")
        && !listed_here.iter().any(|pair| severities.contains(&pair.analytic.severity))
    {
        let there: BTreeSet<&str> = listed_here.iter().map(|pair| pair.analytic.severity.as_str()).collect();
        return with_help(told(&value.at(), "its analytics are of other severities"), &[], &there);
    }
    for (name, glob) in &alert.matching.labels {
        let there: BTreeSet<&str> = listed_here.iter().filter_map(|pair| pair.label(name)).collect();
        let at = block.get("labels").map_or_else(|| header.clone(), |value| value.at());
        if there.is_empty() {
            let why = format!("nothing that its analytics look at has a label `{name}`");
            return told(&at, &why).help("labels stand in service, cluster and analytic blocks");
        }
        if !there.iter().any(|value| glob.matches(value)) {
            let why = format!("no label `{name}` is \"{}\"", glob.pattern);
            return with_help(told(&at, &why), std::slice::from_ref(glob), &there);
        }
    }
    told(&header, "each attribute of `match` means something, and nothing is meant by all of them")
        .help("what is written in one `match` must all hold at once; write two alerts where either will do")
}

fn with_help(problem: Problem, globs: &[Glob], there: &BTreeSet<&str>) -> Problem {
    let slip = globs.iter().find_map(|glob| closest(&glob.pattern, there.iter().copied()));
    match slip {
        Some(near) => problem.help(format!("did you mean \"{near}\"?")),
        None if there.is_empty() => problem.help("there is none"),
        None => problem.help(format!("there is {}", listed(there.iter().copied()))),
    }
}

/// Warnings about names in a `match` that nothing has. A pattern may be meant for what is yet to come; a plain name that
/// nothing has is a slip.
pub(super) fn slips(sink: &mut Sink<'_>, parts: &Parts<'_>, customer: &Customer) {
    let clusters = || customer.services.values().flat_map(|service| service.clusters.values());
    let services: BTreeSet<&str> = customer.services.keys().map(|name| name.as_str()).collect();
    let cluster_names: BTreeSet<&str> = clusters().map(|cluster| cluster.name.as_str()).collect();
    let sites: BTreeSet<&str> = clusters().filter_map(|cluster| cluster.site.as_deref()).collect();
    for (name, named) in parts.names("alert") {
        let Some(alert) = customer.alerts.get(*name) else { continue };
        let Some(block) = named.node.blocks("match").next() else { continue };
        for (attribute, globs, there) in [
            ("services", &alert.matching.services, &services),
            ("clusters", &alert.matching.clusters, &cluster_names),
            ("sites", &alert.matching.sites, &sites),
        ] {
            // Where none of them means anything, that is said of the alert.
            let some = globs.iter().any(|glob| there.iter().any(|name| glob.matches(name)));
            let unknown = |glob: &&Glob| is_literal(&glob.pattern) && !there.contains(glob.pattern.as_str());
            let (Some(value), true) = (block.get(attribute), some) else { continue };
            for glob in globs.iter().filter(unknown) {
                sink.push(slip(value, attribute, glob, there));
            }
        }
    }
}

fn slip(value: Value<'_>, attribute: &str, glob: &Glob, there: &BTreeSet<&str>) -> Problem {
    let message = format!("`{}` is none of the {attribute} that there are", glob.pattern);
    let problem = Problem::warning("unmatched-name", &value.at(), message).label("means nothing");
    with_help(problem, std::slice::from_ref(glob), there)
}

/// Minutes of a week.
const WEEK_MIN: usize = 7 * DAY_MIN;
/// Minutes of a day.
const DAY_MIN: usize = 24 * 60;

/// Marks the minutes of the week that some hours hold, Monday's first minute first.
fn mark<'h>(hours: impl IntoIterator<Item = &'h Hours>) -> Vec<bool> {
    let mut week = vec![false; WEEK_MIN];
    for span in hours.into_iter().flat_map(|hours| &hours.spans) {
        let (from, to) = (usize::from(span.from_min), usize::from(span.to_min));
        let length = if to > from { to - from } else { to + DAY_MIN - from };
        for (day, _) in span.days.iter().enumerate().filter(|(_, on)| **on) {
            for minute in 0..length {
                week[(day * DAY_MIN + from + minute) % WEEK_MIN] = true;
            }
        }
    }
    week
}

/// Whether there is no minute in a year at which the alert may speak. Where `during` and `except` are of different time
/// zones that is only found if `except` is the whole week.
fn never_open(alert: &Alert) -> bool {
    let zones: BTreeSet<&str> = alert.except.iter().map(|hours| hours.time_zone.as_str()).collect();
    let closed = |zone: &str| mark(alert.except.iter().filter(|hours| hours.time_zone == zone));
    if zones.iter().any(|zone| closed(zone).iter().all(|closed| *closed)) {
        return true;
    }
    !alert.during.is_empty()
        && alert.during.iter().all(|hours| {
            let closed = closed(&hours.time_zone);
            mark([hours]).iter().zip(&closed).all(|(open, closed)| !open || *closed)
        })
}

/// An error where an alert may never speak, and warnings about hours that no alert names.
pub(super) fn hours(sink: &mut Sink<'_>, parts: &Parts<'_>, customer: &Customer) {
    for (name, named) in parts.names("alert") {
        let Some(alert) = customer.alerts.get(*name) else { continue };
        let Some(except) = named.node.get("except").filter(|_| never_open(alert)) else { continue };
        let message = format!("alert `{name}` may never speak: `except` leaves nothing of the week");
        let problem = Problem::error("never-open", &except.at(), message).label("closed at any time");
        let problem = problem.help("what it has to say would wait for ever; `except` takes from `during`, or else from the whole week");
        sink.push(match named.node.get("during") {
            Some(during) => problem.related(&during.at(), "all of this"),
            None => problem,
        });
    }
}

/// Warnings about hours that no alert names.
pub(super) fn unused_hours(sink: &mut Sink<'_>, parts: &Parts<'_>, customer: &Customer) {
    let named = customer.alerts.values().flat_map(|alert| alert.during.iter().chain(&alert.except));
    let used: BTreeSet<&str> = named.map(|hours| hours.name.as_str()).collect();
    for (name, named) in parts.names("hours") {
        if !used.contains(name) {
            let message = format!("no alert names hours `{name}`");
            let problem = Problem::warning("unused-hours", &named.node.header(), message).label("unused");
            sink.push(problem.help(format!(
                "add during = hours.{name} or except = hours.{name} to an alert, or remove them"
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::HoursSpan;

    fn hours(zone: &str, spans: &[(&str, u16, u16)]) -> Hours {
        let span = |(days, from_min, to_min): &(&str, u16, u16)| {
            let mut on = [false; 7];
            for (day, mark) in on.iter_mut().zip(days.chars()) {
                *day = mark == 'x';
            }
            HoursSpan { days: on, from_min: *from_min, to_min: *to_min }
        };
        let spans = spans.iter().map(span).collect();
        Hours { name: "h".to_owned(), time_zone: zone.to_owned(), spans }
    }

    #[test]
    fn weeks_are_marked_by_the_minute() {
        let count =
            |spans: &[(&str, u16, u16)]| mark([&hours("UTC", spans)]).iter().filter(|on| **on).count();
        assert_eq!(count(&[("xxxxx--", 540, 1_020)]), 5 * 480);
        assert_eq!(count(&[("xxxxxxx", 0, 1_440)]), WEEK_MIN);
        // Nights run into the next day, and the last one into Monday.
        let night = mark([&hours("UTC", &[("------x", 1_320, 360)])]);
        assert!(night[..360].iter().all(|on| *on) && !night[360] && night[WEEK_MIN - 1]);
        assert_eq!(night.iter().filter(|on| **on).count(), 480);
        // Whole days from noon to noon.
        assert_eq!(count(&[("x------", 720, 719)]), 1_439);
        assert_eq!(count(&[("xx-----", 0, 1_440), ("x------", 600, 700)]), 2 * 1_440);
    }
}
