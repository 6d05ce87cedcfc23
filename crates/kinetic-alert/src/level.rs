//! Groups of alert blocks that speak of more than one cluster at once: of a service, a site, or all of a customer.
//!
//! They hold copies of what their clusters' groups hold, and stand in the same table. A block has such a group to
//! itself, so that all of it is meant for the block's recipients. What an alert is, fires and when it goes stale is
//! decided in its cluster's group alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kinetic_schema::schema::{GroupBy, Schema, Severity};
use kinetic_wire::{AlertEvent, CustomerName, ServiceName};

use crate::clock::Steady;
use crate::group::{AlertView, Group};
use crate::id::{AlertKey, GroupKey};
use crate::machine::Alert;
use crate::{deadman, route, watchdog};

/// What a group's mails speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level<'a> {
    /// One analytic on one cluster.
    Cluster,
    /// A service.
    Service(&'a str),
    /// A site; `None`: all that has none.
    Site(Option<&'a str>),
    /// All.
    Customer,
}

impl Level<'_> {
    /// As alert blocks ask for it.
    pub(crate) fn group_by(self) -> GroupBy {
        match self {
            Self::Cluster => GroupBy::Cluster,
            Self::Service(_) => GroupBy::Service,
            Self::Site(_) => GroupBy::Site,
            Self::Customer => GroupBy::Customer,
        }
    }
}

/// What the names of no schema hold, and so tells groups of different kinds apart: `@` in front of the name of a
/// block, which stands for the analytic, and of a site, which stands for the service.
const MARK: &str = "@";
/// All of them.
const ALL: &str = "*";

/// Whether the parts of an event's names keep it apart from the groups of alert blocks.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.starts_with(MARK) && name != ALL
}

impl GroupKey {
    /// The group of an alert block that holds what it tells of at a level; a cluster's own is no such group.
    pub(crate) fn of_block(customer: &CustomerName, block: &str, level: Level<'_>) -> Option<Self> {
        let service = match level {
            Level::Cluster => return None,
            Level::Service(service) => service.into(),
            Level::Site(site) => format!("{MARK}{}", site.unwrap_or_default()).as_str().into(),
            Level::Customer => ALL.into(),
        };
        Some(Self {
            customer: customer.clone(),
            analytic: format!("{MARK}{block}").as_str().into(),
            service,
            cluster: ALL.into(),
        })
    }

    /// The alert block whose group this is; none has that of a cluster to itself.
    pub(crate) fn block(&self) -> Option<&str> {
        self.analytic.as_str().strip_prefix(MARK)
    }

    /// What its mails speak of.
    pub(crate) fn level(&self) -> Level<'_> {
        let service = self.service.as_str();
        match (self.block(), service.strip_prefix(MARK)) {
            (None, _) => Level::Cluster,
            (Some(_), Some(site)) => Level::Site(Some(site).filter(|site| !site.is_empty())),
            (Some(_), None) if service == ALL => Level::Customer,
            (Some(_), None) => Level::Service(service),
        }
    }

    /// The one service that it is about.
    pub(crate) fn one_service(&self) -> Option<&ServiceName> {
        matches!(self.level(), Level::Cluster | Level::Service(_)).then_some(&self.service)
    }
}

/// The gravest of what fires, or else of what did; `None` where the schema knows none of it any more.
pub(crate) fn severity<'a>(
    schema: &Schema,
    alerts: impl IntoIterator<Item = &'a AlertView>,
) -> Option<Severity> {
    let of = |alert: &AlertView| {
        Some(schema.customers.get(&alert.home.customer)?.analytics.get(&alert.home.analytic)?.severity)
    };
    alerts.into_iter().filter_map(of).max()
}

/// How grave it is what a group speaks of, for who is served first.
pub(crate) fn urgency(schema: &Schema, key: &GroupKey, group: &Group) -> Severity {
    if watchdog::is_of_nodes(key) || deadman::is_stream(key) {
        return Severity::Critical;
    }
    let fires = || group.alerts.values().filter(|alert| alert.firing);
    severity(schema, fires()).or_else(|| severity(schema, group.alerts.values())).unwrap_or_default()
}

impl Alert {
    /// How grave it is what a group speaks of.
    pub(crate) fn urgency(&self, key: &GroupKey) -> Severity {
        self.groups.get(key).map(|group| urgency(&self.schema, key, group)).unwrap_or_default()
    }

    /// The name in the table of a group, which is made if it is not there.
    pub(crate) fn open_group(&mut self, key: GroupKey, at: Steady) -> Arc<GroupKey> {
        if let Some((known, _)) = self.groups.get_key_value(&key) {
            return Arc::clone(known);
        }
        let key = Arc::new(key);
        let mut group = Group::default();
        group.set_routes(route::routes(&self.schema, &self.left, &key), at);
        self.groups.insert(Arc::clone(&key), group);
        self.services.enter(&key);
        key
    }

    /// The groups of blocks take in what an event did to its cluster's group.
    pub(crate) fn widen(&mut self, home: &Arc<GroupKey>, key: AlertKey, event: &AlertEvent, at: Steady) {
        let wider = self.wider(home);
        if wider.is_empty() {
            return;
        }
        let silenced = self.silences.silence(event);
        for wider in wider {
            let wider = self.open_group(wider, at);
            let Some(group) = self.groups.get_mut(&wider) else { continue };
            group.take(key, AlertView::new(event, home, at, silenced), at);
            group.take_windows(key, event);
            self.count_followed(&wider);
        }
    }

    /// The groups of blocks take an alert as resolved that has gone stale in its cluster's group.
    pub(crate) fn widen_stale(&mut self, home: &GroupKey, key: AlertKey, at: Steady) {
        for wider in self.wider(home) {
            let Some(group) = self.groups.get_mut(&wider) else { continue };
            group.apply_stale(key, at);
            self.count_followed(&wider);
            self.schedule_live(&wider);
        }
    }

    fn wider(&self, home: &GroupKey) -> Vec<GroupKey> {
        self.groups.get(home).map(|group| group.wider.clone()).unwrap_or_default()
    }

    /// Keeps the customer's table of followed alerts: each counts once, however many groups hold it.
    pub(crate) fn count_followed(&mut self, key: &GroupKey) {
        let Some(group) = self.groups.get_mut(key) else { return };
        if group.moves.is_empty() {
            return;
        }
        let followed = self.followed.entry(key.customer.clone()).or_default();
        for (alert, holds) in group.moves.drain(..) {
            let holders = followed.entry(alert).or_default();
            if holds {
                *holders += 1;
            } else {
                *holders = holders.saturating_sub(1);
            }
            if *holders == 0 {
                followed.remove(&alert);
            }
        }
        if followed.is_empty() {
            self.followed.remove(&key.customer);
        }
    }

    /// After a change of the schema: groups of blocks hold what they would if it had always been this one.
    pub(crate) fn refill(&mut self, at: Steady) {
        let homes: Vec<Arc<GroupKey>> =
            self.groups.keys().filter(|key| key.block().is_none()).cloned().collect();
        for home in &homes {
            let Some(group) = self.groups.get(home).filter(|group| !group.wider.is_empty()) else { continue };
            let fires = |(key, alert): (&AlertKey, &AlertView)| alert.firing.then(|| (*key, alert.clone()));
            let alerts: Vec<(AlertKey, AlertView)> = group.alerts.iter().filter_map(fires).collect();
            let trails = group.trails.clone();
            for wider in self.wider(home) {
                let wider = self.open_group(wider, at);
                let Some(group) = self.groups.get_mut(&wider) else { continue };
                for (key, alert) in &alerts {
                    if !group.fires(*key) {
                        group.take(*key, alert.clone(), at);
                        group.trails.adopt(*key, &trails);
                    }
                }
                self.count_followed(&wider);
            }
        }
        self.empty_out(at);
    }

    /// Takes out of the groups of blocks what the schema does not put there any more. Nobody is told: it has not ended.
    fn empty_out(&mut self, at: Steady) {
        let mut belongs: BTreeMap<Arc<GroupKey>, Vec<GroupKey>> = BTreeMap::new();
        let wide: Vec<Arc<GroupKey>> =
            self.groups.keys().filter(|key| key.block().is_some()).cloned().collect();
        for key in wide {
            let Some(group) = self.groups.get_mut(&key) else { continue };
            let mut gone = BTreeSet::new();
            for (alert, view) in &group.alerts {
                let wider = belongs
                    .entry(Arc::clone(&view.home))
                    .or_insert_with(|| route::routes(&self.schema, &self.left, &view.home).wider);
                if !wider.contains(&key) {
                    gone.insert(*alert);
                }
            }
            group.leave(&gone, at);
            self.count_followed(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_its_level() {
        let customer: CustomerName = "acme".into();
        for level in
            [Level::Service("checkout"), Level::Site(Some("fra-1")), Level::Site(None), Level::Customer]
        {
            let key = GroupKey::of_block(&customer, "team", level).unwrap();
            assert_eq!((key.level(), key.block()), (level, Some("team")));
            assert_eq!(GroupKey::parse(&key.to_string()), Some(key));
        }
        assert_eq!(GroupKey::of_block(&customer, "team", Level::Cluster), None);
        let cluster = GroupKey::parse("acme/slow-host/checkout/frontends").unwrap();
        assert_eq!((cluster.level(), cluster.block()), (Level::Cluster, None));
    }
}
