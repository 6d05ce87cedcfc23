//! Folding: while a service fails, the groups of the services that depend on it say nothing new to those who are told of
//! it. A table by service keeps what that takes, so that an event costs the same however many groups there are.
//!
//! That a recipient's correspondence is folded is found out when it has something to say, and ends when he is told
//! of no failing dependency any more. Both follow from what has happened and what was mailed, and so need no records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kinetic_schema::schema::{Customer, Schema};
use kinetic_wire::{CustomerName, ServiceName};

use crate::clock::Steady;
use crate::group::{AlertView, Group};
use crate::id::{AlertKey, GroupKey, StreamKey};
use crate::level::Level;
use crate::machine::Alert;
use crate::stream::Stream;

/// What folding needs to know of one service.
#[derive(Clone, Debug, Default)]
struct Service {
    /// Groups about it alone: those of its clusters, and of blocks that group by service.
    groups: BTreeSet<Arc<GroupKey>>,
    /// In how many of its clusters' groups something fires of which this recipient is told.
    readers: BTreeMap<Arc<str>, usize>,
    /// All that it depends on, at first or second hand.
    below: Vec<ServiceName>,
    /// All that depends on it.
    above: Vec<ServiceName>,
}

/// Services by customer and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services(BTreeMap<CustomerName, BTreeMap<ServiceName, Service>>);

impl Services {
    /// Those of a schema, without any groups.
    pub(crate) fn of(schema: &Schema) -> Self {
        let of_customer = |customer: &Customer| {
            let mut services: BTreeMap<ServiceName, Service> = BTreeMap::new();
            for name in customer.services.keys() {
                let below = closure(customer, name);
                for other in &below {
                    services.entry(other.clone()).or_default().above.push(name.clone());
                }
                services.entry(name.clone()).or_default().below = below;
            }
            services.retain(|_, service| !service.below.is_empty() || !service.above.is_empty());
            services
        };
        Self(schema.customers.iter().map(|(name, customer)| (name.clone(), of_customer(customer))).collect())
    }

    fn get(&self, customer: &CustomerName, service: &ServiceName) -> Option<&Service> {
        self.0.get(customer)?.get(service)
    }

    fn of_customer(&self, customer: &CustomerName) -> Option<&BTreeMap<ServiceName, Service>> {
        self.0.get(customer)
    }

    fn get_mut(&mut self, key: &GroupKey) -> Option<&mut Service> {
        let service = key.one_service()?;
        self.0.get_mut(&key.customer)?.get_mut(service)
    }

    /// A group has come up. Of services that neither depend nor are depended upon nothing is kept.
    pub(crate) fn enter(&mut self, key: &Arc<GroupKey>) {
        if let Some(service) = self.get_mut(key) {
            service.groups.insert(Arc::clone(key));
        }
    }

    /// A group is forgotten.
    pub(crate) fn leave(&mut self, key: &GroupKey) {
        if let Some(service) = self.get_mut(key) {
            service.groups.remove(key);
        }
    }
}

/// All that a service depends on, at first or second hand.
fn closure(customer: &Customer, of: &ServiceName) -> Vec<ServiceName> {
    let direct =
        |name: &ServiceName| customer.services.get(name).map_or(&[][..], |s| s.depends_on.as_slice());
    let mut found: Vec<ServiceName> = Vec::new();
    let mut open: Vec<&ServiceName> = direct(of).iter().collect();
    while let Some(name) = open.pop() {
        if name != of && !found.contains(name) {
            found.push(name.clone());
            open.extend(direct(name));
        }
    }
    found.sort();
    found
}

/// A service that fails, to a mail about one that depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failing {
    pub(crate) service: ServiceName,
    /// Since when, by the oldest of its alerts.
    pub(crate) since_ms: i64,
    /// Whether the recipient is told of it.
    pub(crate) told: bool,
}

/// A cluster that fails, to a mail about a service that its own depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Under {
    /// `service/cluster`.
    pub(crate) place: String,
    /// How many feeds fire.
    pub(crate) feeds: usize,
}

impl Alert {
    /// A cluster's group has begun or ceased to fire.
    pub(crate) fn firing_changed(&mut self, home: &GroupKey, fires: bool, at: Steady) {
        let Some(service) = self.services.get_mut(home).filter(|service| !service.above.is_empty()) else {
            return;
        };
        let Some(group) = self.groups.get(home) else { return };
        let mut ended = Vec::new();
        for reader in &group.readers {
            let count = service.readers.entry(Arc::clone(reader)).or_default();
            if fires {
                *count += 1;
            } else {
                *count = count.saturating_sub(1);
            }
            if *count == 0 {
                service.readers.remove(reader);
                ended.push(Arc::clone(reader));
            }
        }
        for reader in ended {
            self.unfold(home, &reader, at);
        }
    }

    /// A service of which `reader` is told fails no more: what it explained speaks for itself.
    fn unfold(&mut self, home: &GroupKey, reader: &str, at: Steady) {
        let told = self.was_told(home, reader);
        let Some(service) = self.services.get(&home.customer, &home.service) else { return };
        for name in service.above.clone() {
            if self.is_covered(&home.customer, &name, reader, at) {
                continue;
            }
            let Some(service) = self.services.get(&home.customer, &name) else { continue };
            for key in service.groups.clone() {
                let Some(group) = self.groups.get_mut(&key) else { continue };
                if group.unfold(reader, told.then_some(&home.service), at) {
                    self.schedule_live(&key);
                }
            }
        }
    }

    /// Whether `reader` believes that something of a cluster's service fires.
    fn was_told(&self, home: &GroupKey, reader: &str) -> bool {
        let of_service = |group: &Group, stream: &Stream| {
            let of_it = |alert: &AlertView| alert.home.service == home.service;
            stream.told.iter().any(|alert| group.alerts.get(alert).is_some_and(of_it))
        };
        let Some(known) = self.services.get(&home.customer, &home.service) else { return false };
        known.groups.iter().filter_map(|key| self.groups.get(key)).any(|cluster| {
            let wider = cluster.wider.iter().filter_map(|key| self.groups.get(key));
            let told = |group: &Group| group.streams_to(reader).any(|(_, stream)| of_service(group, stream));
            told(cluster) || wider.into_iter().any(told)
        })
    }

    /// Whether what fires in a service is explained to `reader`: a service that it depends on fails, and he is told of
    /// that one, or is about to be.
    pub(crate) fn is_covered(
        &self,
        customer: &CustomerName,
        service: &ServiceName,
        reader: &str,
        now: Steady,
    ) -> bool {
        let Some(known) = self.services.get(customer, service) else { return false };
        known.below.iter().any(|below| {
            let below = self.services.get(customer, below);
            below.is_some_and(|below| below.readers.contains_key(reader) && self.is_told(below, reader, now))
        })
    }

    /// Whether `reader` knows of something that fires in a service's clusters, or is about to.
    fn is_told(&self, service: &Service, reader: &str, now: Steady) -> bool {
        let clusters = service.groups.iter().filter(|key| key.block().is_none());
        clusters.filter_map(|key| self.groups.get(key)).filter(|cluster| cluster.firing() > 0).any(
            |cluster| {
                let fires = |key: &&AlertKey| cluster.fires(**key);
                let told = |group: &Group| {
                    group.streams_to(reader).any(|(key, stream)| {
                        let mut firing = cluster.alerts.keys().filter(fires);
                        group.speaks_soon(key, stream, now)
                            || (stream.knows() && firing.any(|key| stream.told.contains(key)))
                    })
                };
                told(cluster) || cluster.wider.iter().filter_map(|key| self.groups.get(key)).any(told)
            },
        )
    }

    /// Whether this recipient's correspondence about a group has to wait for another service; marks it if so.
    pub(crate) fn folds(&mut self, key: &GroupKey, stream: &StreamKey, now: Steady) -> bool {
        let Some(service) = key.one_service() else { return false };
        let covered = self.is_covered(&key.customer, service, &stream.to, now);
        if covered && let Some(group) = self.groups.get_mut(key) {
            self.stats.folds += 1;
            group.fold(stream);
            self.count_followed(key);
        }
        covered
    }

    /// What recipients are told of may have changed otherwise than by an alert: by a new schema, for instance. Nothing
    /// stays folded under what its recipient is not told of.
    pub(crate) fn refold(&mut self, customer: &CustomerName, at: Steady) {
        let of_customer = self
            .groups
            .range(GroupKey::first_of(customer)..)
            .take_while(|(key, _)| key.customer == *customer);
        let folded: Vec<(Arc<GroupKey>, StreamKey)> = of_customer
            .flat_map(|(key, group)| group.folded().map(|stream| (Arc::clone(key), stream.clone())))
            .collect();
        for (key, stream) in folded {
            let Some(service) = key.one_service() else { continue };
            let covered = self.is_covered(&key.customer, service, &stream.to, at);
            let below = self.services.get(&key.customer, service).map_or(&[][..], |s| s.below.as_slice());
            let Some(group) = self.groups.get_mut(&key) else { continue };
            if group.refold(&stream, covered, below, at) {
                self.schedule_live(&key);
            }
        }
    }

    /// After a change of the schema: the table is made anew, from what there is.
    pub(crate) fn rebuild_services(&mut self) {
        self.services = Services::of(&self.schema);
        for (key, group) in &self.groups {
            self.services.enter(key);
            let Some(service) = self.services.get_mut(key) else { continue };
            if key.level() == Level::Cluster && group.firing() > 0 {
                for reader in &group.readers {
                    *service.readers.entry(Arc::clone(reader)).or_default() += 1;
                }
            }
        }
    }

    /// What fails of that which a group's service depends on.
    pub(crate) fn failing_below(&self, key: &GroupKey, reader: &str, now: Steady) -> Vec<Failing> {
        let Some(known) = key.one_service().and_then(|name| self.services.get(&key.customer, name)) else {
            return Vec::new();
        };
        let failing = |name: &ServiceName| {
            let below = self.services.get(&key.customer, name)?;
            let clusters = below.groups.iter().filter(|key| key.block().is_none());
            let fires = clusters.filter_map(|key| self.groups.get(key)).filter(|group| group.firing() > 0);
            let since_ms = fires.filter_map(Group::firing_since_ms).min()?;
            let told = below.readers.contains_key(reader) && self.is_told(below, reader, now);
            Some(Failing { service: name.clone(), since_ms, told })
        };
        known.below.iter().filter_map(failing).collect()
    }

    /// What fires of that which depends on the services that a group speaks of, and is folded for `reader` because of
    /// them.
    pub(crate) fn folded_above(&self, key: &GroupKey, reader: &str) -> Vec<Under> {
        let Some(services) = self.services.of_customer(&key.customer) else { return Vec::new() };
        let Some(group) = self.groups.get(key) else { return Vec::new() };
        let spoken: BTreeSet<&ServiceName> = match key.one_service() {
            Some(service) => [service].into(),
            None => group.alerts.values().map(|alert| &alert.home.service).collect(),
        };
        let known = spoken.iter().filter_map(|service| services.get(*service));
        let above: BTreeSet<&ServiceName> = known.flat_map(|service| &service.above).collect();
        let clusters = above.into_iter().filter_map(|service| services.get(service)).flat_map(|s| &s.groups);
        let under = |home: &Arc<GroupKey>| {
            let cluster = self.groups.get(home).filter(|group| group.firing() > 0)?;
            let reads = |group: &Group| group.streams_to(reader).any(|(_, stream)| stream.timing.is_some());
            let wider = cluster.wider.iter().filter(|wider| wider.one_service().is_some());
            let reads = reads(cluster) || wider.filter_map(|wider| self.groups.get(wider)).any(reads);
            let place = format!("{}/{}", home.service, home.cluster);
            reads.then(|| Under { place, feeds: cluster.firing() })
        };
        let mut folded: BTreeMap<String, usize> = BTreeMap::new();
        for under in clusters.filter(|key| key.block().is_none()).filter_map(under) {
            *folded.entry(under.place).or_default() += under.feeds;
        }
        folded.into_iter().map(|(place, feeds)| Under { place, feeds }).collect()
    }
}
