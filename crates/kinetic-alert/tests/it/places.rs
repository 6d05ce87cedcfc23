//! A topology for tests: services that depend on one another, at sites, and events about their clusters.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinetic_alert::Input;
use kinetic_schema::Schema;
use kinetic_schema::schema::{Alert as AlertBlock, Analytic, Cluster, Glob, Service, Severity};
use kinetic_wire::{AlertEvent, AlertId, AlertState};
use uuid::Uuid;

use crate::world::{World, event, schema};

/// A service, what it depends on, its site, and its clusters.
pub(crate) type Place =
    (&'static str, &'static [&'static str], Option<&'static str>, &'static [&'static str]);

/// `checkout` depends on `cart`, that on `db`; `search` stands alone and nowhere.
pub(crate) const PLACES: [Place; 4] = [
    ("checkout", &["cart"], Some("fra-1"), &["frontends", "workers"]),
    ("cart", &["db"], Some("fra-1"), &["api"]),
    ("db", &[], Some("ams-2"), &["primaries", "replicas"]),
    ("search", &[], None, &["nodes"]),
];

pub(crate) fn glob(pattern: &str) -> Glob {
    Glob::parse(pattern).unwrap()
}

fn service((name, depends_on, site, clusters): &Place) -> Service {
    let labels = BTreeMap::from([("team".to_owned(), format!("{name}-team"))]);
    let cluster = |cluster: &&str| Cluster {
        name: (*cluster).into(),
        source: "web".into(),
        members: vec![glob("*")],
        site: site.map(str::to_owned),
        labels: labels.clone(),
    };
    Service {
        name: (*name).into(),
        depends_on: depends_on.iter().map(|name| (*name).into()).collect(),
        site: site.map(str::to_owned),
        labels: labels.clone(),
        clusters: clusters.iter().map(|name| ((*name).into(), cluster(name))).collect(),
    }
}

/// A schema of these places, where `full-disk` is critical beside `slow-host`.
pub(crate) fn schema_of(places: &[Place], mut alerts: Vec<AlertBlock>) -> Schema {
    for (order, alert) in alerts.iter_mut().enumerate() {
        alert.order = order as u32;
    }
    let mut schema = schema(alerts);
    let customer = schema.customers.get_mut(&"acme".into()).unwrap();
    customer.services = places.iter().map(|place| (place.0.into(), service(place))).collect();
    let slow = customer.analytics[&"slow-host".into()].clone();
    let labels = BTreeMap::from([("kind".to_owned(), "capacity".to_owned())]);
    let full = Analytic {
        name: "full-disk".into(),
        severity: Severity::Critical,
        description: None,
        labels,
        ..slow
    };
    customer.analytics.insert("full-disk".into(), full);
    schema
}

pub(crate) fn world_of(alerts: Vec<AlertBlock>) -> World {
    World::with(crate::world::config(), schema_of(&PLACES, alerts))
}

/// `slow-host` of `service/cluster/origin`, or of another analytic with `analytic:` in front.
pub(crate) fn event_at(place: &str, state: AlertState, end_s: i64) -> AlertEvent {
    let (analytic, place) = place.split_once(':').unwrap_or(("slow-host", place));
    let [service, cluster, origin] = place.split('/').collect::<Vec<_>>()[..] else { panic!("{place}") };
    let mut event = event(origin, state, end_s);
    event.analytic = analytic.into();
    event.service = service.into();
    event.cluster = cluster.into();
    event.since_ms = event.window_end_ms - 10_000;
    let name = format!("{analytic} {place} {state:?} {end_s}");
    event.id = AlertId(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()));
    event
}

impl World {
    pub(crate) fn fire_at(&mut self, secs: f64, place: &str) {
        self.push_at(secs, &event_at(place, AlertState::Firing, secs as i64));
    }

    pub(crate) fn resolve_at(&mut self, secs: f64, place: &str) {
        self.push_at(secs, &event_at(place, AlertState::Resolved, secs as i64));
    }

    pub(crate) fn change_schema(&mut self, schema: Schema) {
        self.schema = Arc::new(schema);
        self.input(Input::SchemaChanged { schema: Arc::clone(&self.schema) });
        self.settle();
    }

    /// One line per mail: when, to whom, subject, reason.
    pub(crate) fn subjects(&self) -> String {
        let line = |(at, email): &(kinetic_wire::Wall, kinetic_alert::Email)| {
            format!(
                "{} {} {} {}\n",
                Self::secs(*at),
                email.to.split('@').next().unwrap_or_default(),
                crate::world::header(email, "X-Kinetic-Reason"),
                email.subject,
            )
        };
        self.inbox.iter().map(line).collect()
    }
}
