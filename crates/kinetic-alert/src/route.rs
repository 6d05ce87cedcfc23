//! Who is told of a group: the alert blocks of the schema that name its analytic, and their recipients.

use kinetic_schema::schema::{Alert, Schema};

use crate::id::{GroupKey, StreamKey};
use crate::reason::Timing;

/// Every recipient of every alert block that tells of this group, each once per block.
pub(crate) fn routes(schema: &Schema, group: &GroupKey) -> Vec<(StreamKey, Timing)> {
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

fn timing(alert: &Alert) -> Timing {
    Timing {
        group_wait: alert.group_wait,
        group_interval: alert.group_interval,
        repeat_interval: alert.repeat_interval,
        send_resolved: alert.send_resolved,
    }
}
