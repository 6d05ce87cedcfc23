//! The load: alert events of three customers, the schema that mails two of them, and the store without a broker.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_alert::{Alert, AlertConfig, Effect, Input};
use kinetic_replica::Files;
use kinetic_schema::Schema;
use kinetic_wire::{AlertEvent, AlertId, Direction, Epoch, Feed, Numbers, Token, encode};
use uuid::Uuid;

use super::STATE;
use crate::adapter::clock;
use crate::adapter::history::Location;

/// Nobody is mailed about its alerts.
const SILENT_CUSTOMER: &str = "silent";
/// Its alerts are mailed.
pub(super) const LOUD_CUSTOMER: &str = "loud";
/// So are these.
pub(super) const QUIET_CUSTOMER: &str = "quiet";
/// `group_wait` of both.
pub(super) const GROUP_WAIT: Duration = Duration::from_secs(1);
/// What names of groups begin with.
pub(super) const PREFIX: &str = "benchgroup";
/// Feeds that fire and are repeated.
const FEEDS: u32 = 5_000;
/// Clusters of these.
const CLUSTERS: u32 = 50;
/// Feeds of one cluster in a storm.
const STORM_FEEDS: u32 = 100;
/// Events on their way to the history without a broker.
const AHEAD_MAX: usize = 4_000;
/// What the events are about, at first.
const START_MS: i64 = 1_795_000_000_000;

/// Makes events that differ.
#[derive(Debug, Default)]
pub(super) struct Source {
    made: u32,
    groups: u32,
}

impl Source {
    fn event(&mut self, customer: &str, cluster: &str, origin: &str) -> Vec<u8> {
        self.made += 1;
        let end_ms = START_MS + i64::from(self.made / FEEDS) * 10_000;
        let numbers = Numbers {
            value: 412.25 + f64::from(self.made % 97),
            mean: 127.1,
            deviation: 86.02,
            deviations: 3.31,
            limit: 3.0,
            feeds: 100,
            peers_mean: 101.2,
            peers_min: 98.0,
            peers_max: 104.9,
        };
        encode(&AlertEvent {
            v: 1,
            id: AlertId(Uuid::from_u128(u128::from(self.made))),
            customer: customer.into(),
            source: "fleet".into(),
            analytic: "slow-host".into(),
            service: "checkout".into(),
            cluster: cluster.into(),
            feed: Feed { origin: origin.into(), metric: "checkout.latency".into() },
            state: STATE,
            window_start_ms: end_ms - 10_000,
            window_end_ms: end_ms,
            since_ms: START_MS,
            numbers: Some(numbers),
            value_kind: "mean".into(),
            direction: Direction::Above,
            hits: 3,
            of: 5,
            epoch: Epoch(1),
            node: "analyzer-1".into(),
            schema: Some("0f3a9c1d7be84a6f95d2c3e1b0a897665f4e3d2c".into()),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            trail: None,
            breach: None,
        })
    }

    /// Alerts that fire on, of a customer whom nobody mails.
    pub(super) fn silent(&mut self, count: u32) -> Vec<Vec<u8>> {
        (0..count)
            .map(|index| {
                let feed = index % FEEDS;
                let cluster = format!("cluster-{}", feed % CLUSTERS);
                self.event(SILENT_CUSTOMER, &cluster, &format!("web-{feed:05}.us-west.example"))
            })
            .collect()
    }

    /// The first alert of a new group, and the group's name.
    pub(super) fn new_group(&mut self, customer: &str) -> (String, Vec<u8>) {
        self.groups += 1;
        let group = format!("{PREFIX}-{}", self.groups);
        let body = self.event(customer, &group, "web-00001.us-west.example");
        (group, body)
    }

    /// So many new alerts of one customer.
    pub(super) fn storm(&mut self, count: u32) -> Vec<Vec<u8>> {
        let first = self.groups + 1;
        self.groups += count.div_ceil(STORM_FEEDS);
        (0..count)
            .map(|index| {
                let cluster = format!("{PREFIX}-{}", first + index / STORM_FEEDS);
                self.event(LOUD_CUSTOMER, &cluster, &format!("web-{index:06}.us-west.example"))
            })
            .collect()
    }
}

/// Two customers are mailed through the sink, the third is not. What is measured is mails, not digests: the bound of mails
/// an hour is as high as the language has it.
pub(super) fn schema(sink: SocketAddr) -> Files {
    let kinetic = format!(
        "region \"local\" {{\n}}\n\nmail {{\n  relay = \"{sink}\"\n  tls   = \"none\"\n  from  = \"alerts@bench.example\"\n}}\n"
    );
    let mut files = Files::from([("kinetic.hcl".to_owned(), kinetic.into_bytes())]);
    for customer in [SILENT_CUSTOMER, LOUD_CUSTOMER, QUIET_CUSTOMER] {
        let mut text = format!(
            "customer \"{customer}\" {{\n  region = region.local\n\n  limits {{\n    mails_per_hour = 100000\n  }}\n}}\n\nsource \"fleet\" {{\n  data_type = \"statsd\"\n  routing   = [\"#\"]\n}}\n\n\
service \"checkout\" {{\n  cluster \"frontends\" {{\n    source  = source.fleet\n    members = [\"web-*\"]\n  }}\n}}\n\n\
analytic \"slow-host\" {{\n  on     = service.checkout.cluster.frontends\n  metric = \"checkout.*\"\n  value  = \"mean\"\n  window = \"10s\"\n  for    = \"1 of 1\"\n\n  rule \"deviates\" {{\n    deviations = 3\n  }}\n}}\n"
        );
        if customer != SILENT_CUSTOMER {
            text.push_str(
                "\nalert \"team\" {\n  analytics       = [analytic.slow-host]\n  to              = [\"oncall@bench.example\"]\n  group_wait      = \"1s\"\n  group_interval  = \"5m\"\n  repeat_interval = \"4h\"\n}\n",
            );
        }
        files.insert(format!("customers/{customer}/all.hcl"), text.into_bytes());
    }
    files
}

/// Events per second through machine and history alone. Both take turns here, as they do not in the node.
pub(super) async fn ceiling(path: PathBuf, count: u32) -> Result<f64> {
    let bodies = Source::default().silent(count);
    tokio::task::spawn_blocking(move || ceiling_of(path, &bodies)).await?
}

fn ceiling_of(path: PathBuf, bodies: &[Vec<u8>]) -> Result<f64> {
    let mut store = Location::Sqlite(path).try_lead()?.context("nobody else has this history")?;
    let config = AlertConfig {
        mail_domain: "bench.example".into(),
        id_key: [7; 32],
        serves_links: false,
        alerts_max: 100_000,
        ids_max: 200_000,
        outbox_max: 10_000,
        mail_expiry: Duration::from_secs(24 * 3_600),
        stale_after: Duration::from_secs(900),
    };
    let mut alert = Alert::new(config, std::sync::Arc::new(Schema::default()), []);
    let mut effects = Vec::new();
    let started = clock::now();
    for (chunk, bodies) in bodies.chunks(AHEAD_MAX).enumerate() {
        for (index, body) in bodies.iter().enumerate() {
            let token = Token((chunk * AHEAD_MAX + index) as u64 + 1);
            alert.handle(clock::now(), Input::Delivery { token, body }, &mut effects);
        }
        let records: Vec<_> = effects
            .drain(..)
            .filter_map(|effect| match effect {
                Effect::Append { seq, record } => Some((seq, record)),
                _ => None,
            })
            .collect();
        store.append(&records)?;
        let Some((seq, _)) = records.last() else { continue };
        alert.handle(clock::now(), Input::Appended { seq: *seq }, &mut effects);
        effects.clear();
    }
    Ok(bodies.len() as f64 / clock::now().mono.since(started.mono).as_secs_f64())
}
