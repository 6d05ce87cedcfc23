//! What is published on `kin.notifications`: the notification as JSON, for whoever bridges alerts elsewhere.

use kinetic_wire::{Feed, Numbers, encode};
use serde::Serialize;

use crate::group::AlertView;
use crate::machine::Effect;
use crate::render::Notification;

/// Alerts listed; a mail may speak of more.
const LISTED_MAX: usize = 200;

/// `kinetic.notification.v1`.
#[derive(Serialize)]
struct Announcement<'a> {
    v: u32,
    customer: &'a str,
    analytic: &'a str,
    service: &'a str,
    cluster: &'a str,
    /// Name of the alert block.
    alert: &'a str,
    state: &'a str,
    reason: &'a str,
    severity: Option<&'a str>,
    at_ms: i64,
    episode_ms: i64,
    seq: u32,
    subject: &'a str,
    firing_count: usize,
    resolved_count: usize,
    firing: Vec<Listed>,
    resolved: Vec<Listed>,
    /// What fires elsewhere and is left unsaid because this explains it.
    folded: Vec<Folded>,
}

#[derive(Serialize)]
struct Folded {
    /// `service/cluster`.
    place: String,
    feeds: usize,
}

#[derive(Serialize)]
struct Listed {
    analytic: String,
    service: String,
    cluster: String,
    feed: Feed,
    since_ms: i64,
    window_end_ms: i64,
    numbers: Option<Numbers>,
    stale: bool,
}

fn listed(alerts: &[&AlertView]) -> Vec<Listed> {
    let listed = |alert: &&AlertView| Listed {
        analytic: alert.home.analytic.to_string(),
        service: alert.home.service.to_string(),
        cluster: alert.home.cluster.to_string(),
        feed: Feed { origin: alert.origin.clone(), metric: alert.metric.clone() },
        since_ms: alert.since_ms,
        window_end_ms: alert.window_end_ms,
        numbers: alert.numbers,
        stale: alert.stale,
    };
    alerts.iter().take(LISTED_MAX).map(listed).collect()
}

/// The announcement of a notification, under `<customer>.<analytic>.<state>`.
pub(crate) fn effect(notification: &Notification<'_>) -> Effect {
    let group = notification.group;
    let state = notification.state();
    let announcement = Announcement {
        v: 1,
        customer: group.customer.as_str(),
        analytic: group.analytic.as_str(),
        service: group.service.as_str(),
        cluster: group.cluster.as_str(),
        alert: &notification.thread.alert,
        state,
        reason: notification.reason.as_str(),
        severity: notification.severity().map(|severity| severity.as_str()),
        at_ms: notification.at.as_ms(),
        episode_ms: notification.thread.episode.as_ms(),
        seq: notification.thread.seq,
        subject: &notification.thread.subject,
        firing_count: notification.firing.len(),
        resolved_count: notification.resolved.len(),
        firing: listed(&notification.firing),
        resolved: listed(&notification.resolved),
        folded: notification
            .context
            .folded
            .iter()
            .take(LISTED_MAX)
            .map(|under| Folded { place: under.place.clone(), feeds: under.feeds })
            .collect(),
    };
    Effect::Announce {
        routing_key: format!("{}.{}.{state}", group.customer, group.analytic),
        body: encode(&announcement),
    }
}
