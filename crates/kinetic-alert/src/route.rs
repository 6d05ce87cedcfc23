//! Who is told of a group: the alert blocks of the schema that match it, and their recipients.

use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::schema::{
    Alert, Analytic, Customer, Glob, GroupBy, INSTALLATION, Schema, Severity, WATCHDOG, Watchdog,
};

use crate::hours::Openings;
use crate::id::{GroupKey, StreamKey};
use crate::level::Level;
use crate::reason::Timing;
use crate::subscribe::{Leavers, Left};
use crate::{breach, deadman, watchdog, webhook};

/// What stands for the `watchdog` block in a group of a customer, who may have an alert named like it.
pub(crate) const OPERATORS: &str = "@watchdog";

/// Where what a group holds goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    /// Every recipient of the group's own mails, each once per block.
    pub(crate) streams: Vec<(StreamKey, Timing)>,
    /// Groups of blocks that hold it too. None where it is one itself.
    pub(crate) wider: Vec<GroupKey>,
    /// Everybody who is or may be told of it, in its own mails or in those of a block's group, each once.
    pub(crate) readers: Vec<Arc<str>>,
}

impl Routes {
    /// A block's recipients are told in mails about this group itself.
    fn speak(&mut self, alert: &Alert, leavers: &Leavers<'_>) {
        let timing = timing(alert);
        for (to, escalate_after) in everybody(alert).filter(|(to, _)| !leavers.has(to)) {
            let key = StreamKey { alert: alert.name.as_str().into(), to };
            if !self.streams.iter().any(|(known, _)| *known == key) {
                self.streams.push((key, Timing { escalate_after, ..timing.clone() }));
            }
        }
    }

    fn read_by(&mut self, alert: &Alert, leavers: &Leavers<'_>) {
        for (to, _) in everybody(alert).filter(|(to, _)| !leavers.has(to)) {
            if !self.readers.contains(&to) {
                self.readers.push(to);
            }
        }
    }
}

/// Where what `group` holds goes by this schema, but to those who have `left` a block.
pub(crate) fn routes(schema: &Schema, left: &Left, group: &GroupKey) -> Routes {
    let mut routes = Routes::default();
    if watchdog::is_of_nodes(group) {
        routes.streams =
            schema.watchdog.as_ref().map(|watchdog| of_nodes(watchdog, left)).unwrap_or_default();
        return routes;
    }
    let Some(customer) = schema.customers.get(&group.customer) else { return routes };
    if deadman::is_stream(group) {
        return of_stream(schema, customer, left);
    }
    if breach::is_of_limits(group) {
        return of_customer(customer, Severity::Warning, left);
    }
    if let Some(block) = group.block() {
        let alert = customer.alerts.get(block).filter(|alert| alert.group_by == group.level().group_by());
        if let Some(alert) = alert {
            routes.speak(alert, &left.of_block(&group.customer, &alert.name, &alert.to));
        }
        return routes;
    }
    let subject = Subject::of(customer, group);
    let mut blocks: Vec<&Alert> = customer.alerts.values().collect();
    blocks.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
    for alert in blocks.into_iter().filter(|alert| subject.is_meant_by(alert)) {
        let leavers = left.of_block(&group.customer, &alert.name, &alert.to);
        routes.read_by(alert, &leavers);
        match GroupKey::of_block(&group.customer, &alert.name, subject.level(alert.group_by)) {
            Some(wider) => routes.wider.push(wider),
            None => routes.speak(alert, &leavers),
        }
        if !alert.continues {
            break;
        }
    }
    routes
}

/// What alert blocks choose by, of one analytic on one cluster. An event may be of an analytic or a cluster that this
/// revision does not have, yet or any more: it is chosen by the names alone then.
struct Subject<'a> {
    customer: &'a Customer,
    group: &'a GroupKey,
    analytic: Option<&'a Analytic>,
    site: Option<&'a str>,
}

impl<'a> Subject<'a> {
    fn of(customer: &'a Customer, group: &'a GroupKey) -> Self {
        let service = customer.services.get(&group.service);
        let cluster = service.and_then(|service| service.clusters.get(&group.cluster));
        let site = match (cluster, service) {
            (Some(cluster), _) => cluster.site.as_deref(),
            (None, service) => service.and_then(|service| service.site.as_deref()),
        };
        Self { customer, group, analytic: customer.analytics.get(&group.analytic), site }
    }

    /// The analytic's, or else the cluster's, which has those of its service.
    fn label(&self, name: &str) -> Option<&'a str> {
        let service = || self.customer.services.get(&self.group.service);
        let of_place = || match service()?.clusters.get(&self.group.cluster) {
            Some(cluster) => cluster.labels.get(name),
            None => service()?.labels.get(name),
        };
        let of_analytic = self.analytic.and_then(|analytic| analytic.labels.get(name));
        of_analytic.or_else(of_place).map(String::as_str)
    }

    fn is_meant_by(&self, alert: &Alert) -> bool {
        let any = |globs: &[Glob], name: Option<&str>| {
            globs.is_empty() || name.is_some_and(|name| globs.iter().any(|glob| glob.matches(name)))
        };
        let severity = self.analytic.map(|analytic| analytic.severity);
        let matching = &alert.matching;
        (alert.analytics.is_empty() || alert.analytics.contains(&self.group.analytic))
            && any(&matching.services, Some(self.group.service.as_str()))
            && any(&matching.clusters, Some(self.group.cluster.as_str()))
            && any(&matching.sites, self.site)
            && (matching.severities.is_empty()
                || severity.is_some_and(|is| matching.severities.contains(&is)))
            && matching.labels.iter().all(|(name, glob)| self.label(name).is_some_and(|is| glob.matches(is)))
    }

    fn level(&self, group_by: GroupBy) -> Level<'a> {
        match group_by {
            GroupBy::Cluster => Level::Cluster,
            GroupBy::Service => Level::Service(self.group.service.as_str()),
            GroupBy::Site => Level::Site(self.site),
            GroupBy::Customer => Level::Customer,
        }
    }
}

/// Those whom an alert block tells: recipients of mail, and webhooks.
fn everybody(alert: &Alert) -> impl Iterator<Item = (Arc<str>, Option<Duration>)> {
    let hooks = alert.webhooks.iter();
    let hooks = hooks.map(|hook| (webhook::recipient(&alert.name, &hook.name).into(), None));
    recipients(alert).map(|(to, after)| (to.into(), after)).chain(hooks)
}

/// Those whom an alert block names, who is told first before who is told later.
pub(crate) fn recipients(alert: &Alert) -> impl Iterator<Item = (&str, Option<Duration>)> {
    let first = alert.to.iter().map(|to| (to.as_str(), None));
    let later = alert
        .escalations
        .iter()
        .flat_map(|escalation| escalation.to.iter().map(|to| (to.as_str(), Some(escalation.after))));
    first.chain(later)
}

/// Who is told of what concerns a customer as a whole: the blocks that tell of everything that is so grave. Where there is
/// none, all.
fn of_customer(customer: &Customer, severity: Severity, left: &Left) -> Routes {
    let mut routes = Routes::default();
    let all = customer.alerts_in_order();
    let mut telling = Vec::new();
    for alert in all.iter().copied().filter(|alert| tells_of_everything(alert, severity)) {
        telling.push(alert);
        if !alert.continues {
            break;
        }
    }
    for alert in if telling.is_empty() { all } else { telling } {
        let leavers = left.of_block(&customer.name, &alert.name, &alert.to);
        routes.read_by(alert, &leavers);
        routes.speak(alert, &leavers);
    }
    routes
}

/// Who is told that nothing comes of a customer any more. None of its blocks can tell of anything else meanwhile. And whoever
/// looks after the installation, once each.
fn of_stream(schema: &Schema, customer: &Customer, left: &Left) -> Routes {
    let mut routes = of_customer(customer, Severity::Critical, left);
    for (key, timing) in schema.watchdog.as_ref().map(|watchdog| of_nodes(watchdog, left)).unwrap_or_default()
    {
        if !routes.readers.contains(&key.to) {
            routes.readers.push(key.to.clone());
            // The customer may have a block of the watchdog's name.
            routes.streams.push((StreamKey { alert: OPERATORS.into(), to: key.to }, timing));
        }
    }
    routes
}

/// Whether nothing is left out by an alert block that is so grave.
fn tells_of_everything(alert: &Alert, severity: Severity) -> bool {
    let matching = &alert.matching;
    alert.analytics.is_empty()
        && [&matching.services, &matching.clusters, &matching.sites].into_iter().all(Vec::is_empty)
        && matching.labels.is_empty()
        && (matching.severities.is_empty() || matching.severities.contains(&severity))
}

/// Those who are told of silent nodes.
fn of_nodes(watchdog: &Watchdog, left: &Left) -> Vec<(StreamKey, Timing)> {
    let timing = Timing {
        group_wait: watchdog.group_wait,
        group_interval: watchdog.group_interval,
        repeat_interval: watchdog.repeat_interval,
        send_resolved: watchdog.send_resolved,
        hours: None,
        escalate_after: None,
    };
    let key = |to: &String| StreamKey { alert: WATCHDOG.into(), to: to.as_str().into() };
    let leavers = left.of_block(&INSTALLATION.into(), WATCHDOG, &watchdog.to);
    watchdog.to.iter().filter(|to| !leavers.has(to)).map(|to| (key(to), timing.clone())).collect()
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

#[cfg(test)]
mod tests {
    use kinetic_schema::schema::ClusterPath;
    use kinetic_schema::{Files, load};

    use super::*;

    /// The worked example of an on-call team: every attribute of `match`, blocks that end the search, all groupings.
    const EXAMPLE: [(&str, &str); 5] = [
        ("kinetic.hcl", include_str!("../../../topology-examples/on-call-team/kinetic.hcl")),
        (
            "customers/shop/customer.hcl",
            include_str!("../../../topology-examples/on-call-team/customers/shop/customer.hcl"),
        ),
        (
            "customers/shop/topology.hcl",
            include_str!("../../../topology-examples/on-call-team/customers/shop/topology.hcl"),
        ),
        (
            "customers/shop/analytics.hcl",
            include_str!("../../../topology-examples/on-call-team/customers/shop/analytics.hcl"),
        ),
        (
            "customers/shop/alerts.hcl",
            include_str!("../../../topology-examples/on-call-team/customers/shop/alerts.hcl"),
        ),
    ];

    #[test]
    fn those_are_told_whom_the_check_takes_to_be_told() {
        let files: Files =
            EXAMPLE.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
        let schema = load(&files).schema.expect("the example checks");
        let shop = &schema.customers[&"shop".into()];
        let mut seen = 0;
        for analytic in shop.analytics.values() {
            for ClusterPath { service, cluster } in &analytic.on {
                let path = ClusterPath { service: service.clone(), cluster: cluster.clone() };
                let group = GroupKey {
                    customer: shop.name.clone(),
                    analytic: analytic.name.clone(),
                    service: service.clone(),
                    cluster: cluster.clone(),
                };
                let mut told: Vec<Arc<str>> = shop
                    .told_by(&analytic.name, &path)
                    .into_iter()
                    .flat_map(everybody)
                    .map(|(to, _)| to)
                    .collect();
                let routes = routes(&schema, &Left::default(), &group);
                let mut readers = routes.readers.clone();
                told.sort_unstable();
                readers.sort_unstable();
                assert_eq!(readers, told, "{group:?}");
                seen += told.len();
            }
        }
        assert!(seen > 10, "the example tells somebody: {seen}");
    }
}
