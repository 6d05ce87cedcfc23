//! Who is told of a group: the alert blocks of the schema that name its analytic, and their recipients.

use kinetic_schema::schema::{Alert, INSTALLATION, Schema, Severity, Watchdog};

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
        for to in &alert.to {
            let key = StreamKey { alert: alert.name.as_str().into(), to: to.as_str().into() };
            if !routes.iter().any(|(known, _)| *known == key) {
                routes.push((key, timing(alert)));
            }
        }
    }
    routes
}

/// How grave it is what a group speaks of: its analytic's word, or the gravest of the customer's where it speaks of several.
pub(crate) fn severity(schema: &Schema, group: &GroupKey) -> Severity {
    if group.customer.as_str() == INSTALLATION {
        return Severity::Critical;
    }
    let Some(customer) = schema.customers.get(&group.customer) else { return Severity::default() };
    let gravest = || customer.analytics.values().map(|analytic| analytic.severity).max();
    customer.analytics.get(&group.analytic).map(|own| own.severity).or_else(gravest).unwrap_or_default()
}

/// Those who are told of silent nodes.
fn of_nodes(watchdog: &Watchdog) -> Vec<(StreamKey, Timing)> {
    let timing = Timing {
        group_wait: watchdog.group_wait,
        group_interval: watchdog.group_interval,
        repeat_interval: watchdog.repeat_interval,
        send_resolved: watchdog.send_resolved,
    };
    let key = |to: &String| StreamKey { alert: WATCHDOG.into(), to: to.as_str().into() };
    watchdog.to.iter().map(|to| (key(to), timing)).collect()
}

fn timing(alert: &Alert) -> Timing {
    Timing {
        group_wait: alert.group_wait,
        group_interval: alert.group_interval,
        repeat_interval: alert.repeat_interval,
        send_resolved: alert.send_resolved,
    }
}
