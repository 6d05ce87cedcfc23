//! `alert`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::installation::address;
use crate::block::{Named, Node};
use crate::diagnostic::{Problem, Sink};
use crate::limits::{
    GROUP_INTERVAL, GROUP_INTERVAL_DEFAULT, GROUP_WAIT_DEFAULT, GROUP_WAIT_MAX, LIST_MAX, RECIPIENTS_MAX,
    REPEAT_INTERVAL, REPEAT_INTERVAL_DEFAULT,
};
use crate::load::Parts;
use crate::notation::show_duration;
use crate::reference::{self, Names};
use crate::schema::{Alert, GroupBy, Matching};
use crate::value;

/// A customer's alerts.
pub(super) fn all(sink: &mut Sink<'_>, parts: &Parts<'_>) -> BTreeMap<String, Alert> {
    let analytics = parts.names("analytic");
    let alerts = parts.names("alert").values();
    alerts.map(|named| (named.name.to_owned(), alert(sink, *named, analytics))).collect()
}

fn alert(sink: &mut Sink<'_>, named: Named<'_>, names: &Names<'_>) -> Alert {
    let Named { name, node } = named;
    let mut analytics = Vec::new();
    let example =
        format!("[{}]", reference::written("analytic", names.keys().next().copied().unwrap_or("name")));
    if let Some(list) = node.required(sink, "analytics", &example) {
        let values = value::list(sink, list, LIST_MAX);
        if values.is_empty() {
            let problem =
                Problem::warning("idle-alert", &list.at(), format!("alert `{name}` tells of nothing"));
            sink.push(problem.label("no analytics").help("name some, or remove the alert"));
        }
        for value in values {
            let Some(name) = reference::resolve(sink, value, "analytic", names) else { continue };
            if analytics.iter().any(|other: &kinetic_wire::AnalyticName| other.as_str() == name) {
                let message = format!("`{name}` stands here twice");
                sink.push(value.problem("duplicate-entry", message).label("again"));
            } else {
                analytics.push(name.into());
            }
        }
    }
    let timing = timing(sink, node);
    Alert {
        name: name.to_owned(),
        order: 0,
        analytics,
        matching: Matching::default(),
        continues: true,
        to: recipients(sink, node),
        webhooks: Vec::new(),
        group_by: GroupBy::default(),
        during: Vec::new(),
        except: Vec::new(),
        escalations: Vec::new(),
        group_wait: timing.group_wait,
        group_interval: timing.group_interval,
        repeat_interval: timing.repeat_interval,
        send_resolved: timing.send_resolved,
    }
}

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
