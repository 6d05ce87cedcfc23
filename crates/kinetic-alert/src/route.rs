//! Who is told of a group: the alert blocks of the schema that name its analytic, and their recipients.

use std::time::Duration;

use kinetic_schema::schema::{Alert, INSTALLATION, Schema, Watchdog};

use crate::hours::Openings;
use crate::id::{GroupKey, StreamKey};
use crate::reason::Timing;

/// What stands for the `watchdog` block where the name of an alert block is asked for.
const WATCHDOG: &str = "watchdog";

/// Every recipient of every alert block that tells of this group, each once per block.
pub(crate) fn routes(schema: &Schema, group: &GroupKey) -> Vec<(StreamKey, Timing)> {
    if group.customer.as_str() == INSTALLATION {
        return schema.watchdog.as_ref().map(of_nodes).unwrap_or_default();
    }
    let Some(customer) = schema.customers.get(&group.customer) else { return Vec::new() };
    let mut routes = Vec::new();
    for alert in customer.alerts.values().filter(|alert| alert.analytics.contains(&group.analytic)) {
        let timing = timing(alert);
        for (to, escalate_after) in recipients(alert) {
            let key = StreamKey { alert: alert.name.as_str().into(), to: to.into() };
            if !routes.iter().any(|(known, _)| *known == key) {
                routes.push((key, Timing { escalate_after, ..timing.clone() }));
            }
        }
    }
    routes
}

/// Those whom an alert block names, who is told first before who is told later.
fn recipients(alert: &Alert) -> impl Iterator<Item = (&str, Option<Duration>)> {
    let first = alert.to.iter().map(|to| (to.as_str(), None));
    let later = alert
        .escalations
        .iter()
        .flat_map(|escalation| escalation.to.iter().map(|to| (to.as_str(), Some(escalation.after))));
    first.chain(later)
}

/// Those who are told of silent nodes.
fn of_nodes(watchdog: &Watchdog) -> Vec<(StreamKey, Timing)> {
    let timing = Timing {
        group_wait: watchdog.group_wait,
        group_interval: watchdog.group_interval,
        repeat_interval: watchdog.repeat_interval,
        send_resolved: watchdog.send_resolved,
        hours: None,
        escalate_after: None,
    };
    let key = |to: &String| StreamKey { alert: WATCHDOG.into(), to: to.as_str().into() };
    watchdog.to.iter().map(|to| (key(to), timing.clone())).collect()
}

fn timing(alert: &Alert) -> Timing {
    Timing {
        group_wait: alert.group_wait,
        group_interval: alert.group_interval,
        repeat_interval: alert.repeat_interval,
        send_resolved: alert.send_resolved,
        hours: Openings::of(alert),
        escalate_after: None,
    }
}
