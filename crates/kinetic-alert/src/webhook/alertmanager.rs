//! The message that Alertmanager posts to webhooks, version "4", so that what understands that understands this.
//!
//! Fields and their meanings are those of `https://prometheus.io/docs/alerting/latest/configuration/#webhook_config`.

use std::collections::BTreeMap;

use kinetic_schema::schema::Webhook;
use serde::Serialize;

use crate::announce::{LIST_BYTES_MAX, bounded};
use crate::format;
use crate::group::AlertView;
use crate::id::GroupKey;
use crate::level::Level;
use crate::render::{Notification, described};

/// What stands for the end of an alert that still fires: the zero time of Go, in which Alertmanager is written.
const NO_END: &str = "0001-01-01T00:00:00Z";
/// Characters of a label's or an annotation's value.
const VALUE_MAX: usize = 1_000;

type Labels = BTreeMap<String, String>;

/// The message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    version: &'static str,
    group_key: String,
    truncated_alerts: usize,
    status: &'static str,
    receiver: String,
    group_labels: Labels,
    common_labels: Labels,
    common_annotations: Labels,
    #[serde(rename = "externalURL")]
    external_url: String,
    alerts: Vec<One>,
}

/// One alert.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One {
    status: &'static str,
    labels: Labels,
    annotations: Labels,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

fn named<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A label's name as Prometheus allows it: `[a-zA-Z_][a-zA-Z0-9_]*`.
fn label_name(name: &str) -> String {
    let digit = name.starts_with(|first: char| first.is_ascii_digit());
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    if digit { "_".chars().chain(plain).collect() } else { plain.collect() }
}

/// What tells one alert from another, the same for as long as its feed has its names.
fn identity(alert: &AlertView) -> Labels {
    let GroupKey { customer, analytic, service, cluster } = &*alert.home;
    named([
        ("alertname", analytic.as_str()),
        ("customer", customer.as_str()),
        ("service", service.as_str()),
        ("cluster", cluster.as_str()),
        ("origin", &alert.origin),
        ("metric", &alert.metric),
    ])
}

/// The labels of an alert: those of the schema, and over them our own.
fn labels(notification: &Notification<'_>, alert: &AlertView) -> Labels {
    let customer = notification.customer();
    let analytic = customer.and_then(|customer| customer.analytics.get(&alert.home.analytic));
    let service = customer.and_then(|customer| customer.services.get(&alert.home.service));
    let cluster = service.and_then(|service| service.clusters.get(&alert.home.cluster));
    let mut labels = Labels::new();
    let declared = [cluster.map(|cluster| &cluster.labels), analytic.map(|analytic| &analytic.labels)];
    for (name, value) in declared.into_iter().flatten().flatten() {
        labels.insert(label_name(name), value.clone());
    }
    if let Some(site) = cluster.and_then(|cluster| cluster.site.as_deref()) {
        labels.insert("site".to_owned(), site.to_owned());
    }
    if let Some(analytic) = analytic {
        labels.insert("severity".to_owned(), analytic.severity.as_str().to_owned());
    }
    labels.extend(identity(alert));
    // What many templates show as the name of the machine.
    labels.insert("instance".to_owned(), alert.origin.clone());
    labels
}

/// What is to be read: the same sentence as in a mail, what to do, and the numbers.
fn annotations(notification: &Notification<'_>, alert: &AlertView) -> Labels {
    let mut annotations = Labels::new();
    let mut put = |name: &str, value: String| {
        annotations.insert(name.to_owned(), crate::escape::line(&value, VALUE_MAX));
    };
    put("summary", notification.sentence(alert));
    let analytic = notification.customer().and_then(|c| c.analytics.get(&alert.home.analytic));
    if let Some(description) = analytic.and_then(described) {
        put("description", description);
    }
    if let Some(numbers) = alert.numbers {
        put("value", format::number(numbers.value));
        put("peers_mean", format::number(numbers.peers_mean));
        put("deviations", format::deviations(numbers.deviations));
        put("limit", format::deviations(numbers.limit));
    }
    annotations
}

fn one(notification: &Notification<'_>, alert: &AlertView) -> One {
    let time = |ms| format::rfc3339(ms).unwrap_or_else(|| NO_END.to_owned());
    One {
        status: status(alert.firing),
        labels: labels(notification, alert),
        annotations: annotations(notification, alert),
        starts_at: time(alert.since_ms),
        ends_at: if alert.firing { NO_END.to_owned() } else { time(alert.window_end_ms.max(alert.since_ms)) },
        generator_url: String::new(),
        fingerprint: super::fingerprint(&identity(alert)),
    }
}

fn status(firing: bool) -> &'static str {
    if firing { "firing" } else { "resolved" }
}

/// What all of these have alike.
fn common<'a>(mut each: impl Iterator<Item = &'a Labels>) -> Labels {
    let mut common = each.next().cloned().unwrap_or_default();
    for labels in each {
        common.retain(|name, value| labels.get(name) == Some(value));
    }
    common
}

/// The labels by which the alerts of a group belong together.
fn group_labels(group: &GroupKey) -> Labels {
    let customer = ("customer", group.customer.as_str());
    match group.level() {
        Level::Cluster => named([
            ("alertname", group.analytic.as_str()),
            customer,
            ("service", group.service.as_str()),
            ("cluster", group.cluster.as_str()),
        ]),
        Level::Service(service) => named([customer, ("service", service)]),
        Level::Site(Some(site)) => named([customer, ("site", site)]),
        Level::Site(None) | Level::Customer => named([customer]),
    }
}

/// What a notification says, in Alertmanager's words. `groupKey` is the same for every episode of a group, as there.
pub(super) fn message(
    notification: &Notification<'_>,
    webhook: &Webhook,
    public_url: Option<&str>,
) -> Message {
    let Notification { group, thread, firing, resolved, .. } = notification;
    let all = firing.iter().chain(resolved);
    // Both lists of the other format together may be as long.
    let alerts = bounded(all.map(|alert| one(notification, alert)), 2 * LIST_BYTES_MAX);
    Message {
        version: "4",
        group_key: format!("kinetic/{}:{group}", thread.alert),
        truncated_alerts: firing.len() + resolved.len() - alerts.len(),
        status: notification.state(),
        receiver: format!("{}/{}", thread.alert, webhook.name),
        group_labels: group_labels(group),
        common_labels: common(alerts.iter().map(|alert| &alert.labels)),
        common_annotations: common(alerts.iter().map(|alert| &alert.annotations)),
        external_url: public_url.unwrap_or_default().to_owned(),
        alerts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_labels_are_those_that_prometheus_allows() {
        let check = |name, want: &str| assert_eq!(label_name(name), want);
        check("team", "team");
        check("on-call.team", "on_call_team");
        check("3rd", "_3rd");
        check("ä_1", "__1");
    }

    #[test]
    fn what_is_common_is_what_all_have() {
        let each = [named([("a", "1"), ("b", "2")]), named([("a", "1"), ("b", "3")]), named([("a", "1")])];
        assert_eq!(common(each.iter()), named([("a", "1")]));
        assert_eq!(common([].iter()), Labels::new());
    }
}
