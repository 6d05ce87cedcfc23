//! `alert`.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_wire::AnalyticName;

use super::installation::address;
use super::{analytic, labels, receiver};
use crate::block::{Named, Node};
use crate::diagnostic::{Problem, Sink};
use crate::limits::{
    GROUP_INTERVAL, GROUP_INTERVAL_DEFAULT, GROUP_WAIT_DEFAULT, GROUP_WAIT_MAX, HOURS_LIST_MAX, LIST_MAX,
    RECIPIENTS_MAX, REPEAT_INTERVAL, REPEAT_INTERVAL_DEFAULT,
};
use crate::load::Parts;
use crate::notation::show_duration;
use crate::reference::{self, Names};
use crate::schema::{Alert, GroupBy, Hours, Matching};
use crate::value::{self, Value};

/// A customer's alerts.
pub(super) fn all(
    sink: &mut Sink<'_>,
    parts: &Parts<'_>,
    hours: &BTreeMap<String, Hours>,
) -> BTreeMap<String, Alert> {
    let mut named: Vec<Named<'_>> = parts.names("alert").values().copied().collect();
    // Files are numbered by their names.
    named.sort_by_key(|named| (named.node.file, named.node.header().span.start));
    let mut alerts = BTreeMap::new();
    for (order, named) in (0..).zip(named) {
        alerts.insert(named.name.to_owned(), alert(sink, named, order, parts, hours));
    }
    alerts
}

fn alert(
    sink: &mut Sink<'_>,
    named: Named<'_>,
    order: u32,
    parts: &Parts<'_>,
    hours: &BTreeMap<String, Hours>,
) -> Alert {
    let Named { name, node } = named;
    let analytics = node.get("analytics").map(|list| analytics(sink, list, parts.names("analytic")));
    let continues = node.get("continue").and_then(|value| value::boolean(sink, value));
    let webhooks = receiver::webhooks(sink, node);
    // A webhook is somebody who is told, also one that is not well formed.
    let to = match (node.get("to"), node.blocks("webhook").next()) {
        (None, Some(_)) => Vec::new(),
        _ => recipients(sink, node),
    };
    let groups = [
        ("cluster", GroupBy::Cluster),
        ("service", GroupBy::Service),
        ("site", GroupBy::Site),
        ("customer", GroupBy::Customer),
    ];
    let escalations = receiver::escalations(sink, node, &to);
    let group_by = node.get("group_by").and_then(|value| value::choice(sink, value, &groups));
    let timing = timing(sink, node);
    Alert {
        name: name.to_owned(),
        order,
        analytics: analytics.unwrap_or_default(),
        matching: matching(sink, node),
        continues: continues.unwrap_or(true),
        to,
        webhooks,
        group_by: group_by.unwrap_or_default(),
        during: named_hours(sink, node, "during", parts, hours),
        except: named_hours(sink, node, "except", parts, hours),
        escalations,
        group_wait: timing.group_wait,
        group_interval: timing.group_interval,
        repeat_interval: timing.repeat_interval,
        send_resolved: timing.send_resolved,
    }
}

/// `analytics`, each once.
fn analytics(sink: &mut Sink<'_>, list: Value<'_>, names: &Names<'_>) -> Vec<AnalyticName> {
    let help = "leave it out to tell of all analytics, or remove the alert";
    let values = value::some_list(sink, list, LIST_MAX, help);
    referenced(sink, values, "analytic", names).into_iter().map(Into::into).collect()
}

/// The names that references to one kind of block give, each once.
fn referenced<'a>(
    sink: &mut Sink<'_>,
    values: Vec<Value<'a>>,
    kind: &str,
    names: &Names<'_>,
) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for value in values {
        let Some(name) = reference::resolve(sink, value, kind, names) else { continue };
        if found.contains(&name) {
            let message = format!("`{name}` stands here twice");
            sink.push(value.problem("duplicate-entry", message).label("again"));
        } else {
            found.push(name);
        }
    }
    found
}

/// `during` and `except`.
fn named_hours(
    sink: &mut Sink<'_>,
    node: Node<'_>,
    attribute: &str,
    parts: &Parts<'_>,
    hours: &BTreeMap<String, Hours>,
) -> Vec<Hours> {
    let Some(list) = node.get(attribute) else { return Vec::new() };
    let values = value::some_list(sink, list, HOURS_LIST_MAX, "leave it out to set no bound on the time");
    let names = referenced(sink, values, "hours", parts.names("hours"));
    names.into_iter().filter_map(|name| hours.get(name).cloned()).collect()
}

/// `match`.
fn matching(sink: &mut Sink<'_>, alert: Node<'_>) -> Matching {
    let Some(node) = alert.only(sink, "match") else { return Matching::default() };
    let mut globs = |name| {
        let Some(list) = node.get(name) else { return Vec::new() };
        let values = value::some_list(sink, list, LIST_MAX, NOTHING_LEFT_OUT);
        values.into_iter().filter_map(|value| value::glob(sink, value)).collect()
    };
    let (services, clusters, sites) = (globs("services"), globs("clusters"), globs("sites"));
    let mut severities = Vec::new();
    if let Some(list) = node.get("severities") {
        for value in value::some_list(sink, list, LIST_MAX, NOTHING_LEFT_OUT) {
            let Some(severity) = analytic::severity(sink, value) else { continue };
            if severities.contains(&severity) {
                let message = format!("`{}` stands here twice", severity.as_str());
                sink.push(value.problem("duplicate-entry", message).label("again"));
            } else {
                severities.push(severity);
            }
        }
    }
    Matching { services, clusters, sites, severities, labels: labels::patterns(sink, node) }
}

/// Help for an empty list in `match`.
const NOTHING_LEFT_OUT: &str = "leave it out where all are meant";

/// How often somebody is mailed.
pub(super) struct Timing {
    pub(super) group_wait: Duration,
    pub(super) group_interval: Duration,
    pub(super) repeat_interval: Duration,
    pub(super) send_resolved: bool,
}

/// The attributes of a block that say how often somebody is mailed.
pub(super) fn timing(sink: &mut Sink<'_>, node: Node<'_>) -> Timing {
    let intervals = (
        duration(sink, node, "group_wait", (Duration::ZERO, GROUP_WAIT_MAX)).unwrap_or(GROUP_WAIT_DEFAULT),
        duration(sink, node, "group_interval", GROUP_INTERVAL).unwrap_or(GROUP_INTERVAL_DEFAULT),
        duration(sink, node, "repeat_interval", REPEAT_INTERVAL).unwrap_or(REPEAT_INTERVAL_DEFAULT),
    );
    let (group_wait, group_interval, repeat_interval) = intervals;
    if repeat_interval < group_interval
        && let Some(value) = node.get("repeat_interval").or_else(|| node.get("group_interval"))
    {
        let (repeat, group) = (show_duration(repeat_interval), show_duration(group_interval));
        let message = format!("`repeat_interval` ({repeat}) is shorter than `group_interval` ({group})");
        let help = "an unchanged group is looked at once per group_interval and repeated no sooner";
        sink.push(
            Problem::warning("repeat-too-soon", &value.at(), message).label("has no effect").help(help),
        );
    }
    let send_resolved = node.get("send_resolved").and_then(|value| value::boolean(sink, value));
    Timing { group_wait, group_interval, repeat_interval, send_resolved: send_resolved.unwrap_or(true) }
}

/// A duration in a range, where one is given.
pub(super) fn duration(
    sink: &mut Sink<'_>,
    node: Node<'_>,
    name: &str,
    (low, high): (Duration, Duration),
) -> Option<Duration> {
    node.get(name).and_then(|value| value::duration(sink, value, low..=high))
}

/// `to`: who is mailed.
pub(super) fn recipients(sink: &mut Sink<'_>, node: Node<'_>) -> Vec<String> {
    let Some(list) = node.required(sink, "to", "[\"oncall@example.org\"]") else { return Vec::new() };
    let mut recipients: Vec<String> = Vec::new();
    for value in
        value::some_list(sink, list, RECIPIENTS_MAX, "somebody must receive it: [\"oncall@example.org\"]")
    {
        let Some(address) = address(sink, value) else { continue };
        if recipients.contains(&address) {
            sink.push(
                value.problem("duplicate-entry", format!("`{address}` stands here twice")).label("again"),
            );
        } else {
            recipients.push(address);
        }
    }
    recipients
}
