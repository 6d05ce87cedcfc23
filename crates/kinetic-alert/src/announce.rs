//! What is published on `kin.notifications`: the notification as JSON, for whoever bridges alerts elsewhere.

use kinetic_wire::{AnnouncedAlert, AnnouncedFold, Announcement, Feed, encode};
use serde::Serialize;

use crate::group::AlertView;
use crate::machine::Effect;
use crate::render::Notification;

/// Alerts listed; a notification may speak of more.
pub(crate) const LISTED_MAX: usize = 200;
/// Bytes of one list, as JSON: names may be long.
pub(crate) const LIST_BYTES_MAX: usize = 100 * 1024;

/// The first of these, as many as there may be in one list.
pub(crate) fn bounded<T: Serialize>(all: impl Iterator<Item = T>, bytes_max: usize) -> Vec<T> {
    let mut bytes = 0;
    all.take(LISTED_MAX)
        .take_while(|one| {
            bytes += encode(one).len() + 1;
            bytes <= bytes_max
        })
        .collect()
}

fn listed(alerts: &[&AlertView]) -> Vec<AnnouncedAlert> {
    let listed = |alert: &&AlertView| AnnouncedAlert {
        analytic: alert.home.analytic.clone(),
        service: alert.home.service.clone(),
        cluster: alert.home.cluster.clone(),
        feed: Feed { origin: alert.origin.clone(), metric: alert.metric.clone() },
        since_ms: alert.since_ms,
        window_end_ms: alert.window_end_ms,
        numbers: alert.numbers,
        stale: alert.stale,
    };
    bounded(alerts.iter().map(listed), LIST_BYTES_MAX)
}

/// `kinetic.notification.v1`.
pub(crate) fn announcement(notification: &Notification<'_>) -> Announcement {
    let Notification { group, thread, context, .. } = notification;
    let folded = context.folded.iter();
    Announcement {
        v: 1,
        customer: group.customer.clone(),
        analytic: group.analytic.clone(),
        service: group.service.clone(),
        cluster: group.cluster.clone(),
        alert: thread.alert.clone(),
        state: notification.alert_state(),
        reason: notification.reason.as_str().to_owned(),
        severity: notification.severity().map(|severity| severity.as_str().to_owned()),
        at_ms: notification.at.as_ms(),
        episode_ms: thread.episode.as_ms(),
        seq: thread.seq,
        subject: thread.subject.clone(),
        summary: notification.headline(),
        description: notification.description(),
        firing_count: notification.firing.len(),
        resolved_count: notification.resolved.len(),
        firing: listed(&notification.firing),
        resolved: listed(&notification.resolved),
        folded: folded
            .take(LISTED_MAX)
            .map(|under| AnnouncedFold { place: under.place.clone(), feeds: under.feeds })
            .collect(),
    }
}

/// The announcement of a notification, under `<customer>.<analytic>.<state>`.
pub(crate) fn effect(notification: &Notification<'_>) -> Effect {
    let group = notification.group;
    Effect::Announce {
        routing_key: format!("{}.{}.{}", group.customer, group.analytic, notification.state()),
        body: encode(&announcement(notification)),
    }
}
