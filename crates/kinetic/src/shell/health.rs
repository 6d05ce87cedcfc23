//! This process publishes its own health, as one feed of the customer `kinetic`, if the schema has it.
//!
//! It goes the way of all clients: an agent in this process asks where to publish and publishes until confirmed. What is said is a
//! fixed list of numbers out of those on `/metrics`, one body every ten seconds, so that health that is published makes no more
//! health. Nobody waits for it: where it cannot be published it is dropped, and the agent's own troubles show nowhere in
//! this process's `/metrics` and `/__heartbeat__`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use kinetic_agent::machine::AgentConfig;
use kinetic_amqp::Address;
use kinetic_schema::Schema;
use kinetic_schema::schema::{INSTALLATION, Rule};
use kinetic_wire::{DataType, Incarnation, Login, Mono, NodeId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::adapter::clock;
use crate::adapter::usage::{self, Usage};
use crate::shell::agent;
use crate::shell::follow::SchemaWatch;
use crate::shutdown::{self, Shutdown};
use crate::telemetry::Telemetry;

/// Name of the agent that publishes, in logs.
const PART: &str = "health";
/// Routing key of what is published.
pub(crate) const ROUTING_KEY: &str = "health";
/// Between two bodies, unless a rule listens more closely;
const INTERVAL_MAX: Duration = Duration::from_secs(10);
/// and at least.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Bodies within the shortest silence that a rule of the schema listens for.
const BODIES_PER_SILENCE: u32 = 5;
/// Bodies that wait for the agent; more are dropped.
const WAITING_MAX: usize = 2;
/// Bytes that wait for a broker or its confirm: about a minute. More are dropped.
const BUFFER_BYTES: usize = 16 << 10;
/// Bytes of a body: more than all lines together.
const BODY_BYTES: usize = 8 << 10;

/// How a number is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// As it stands.
    Gauge,
    /// By how much it has grown since it was last told.
    Count,
}

/// What is published: names on `/metrics`, names as statsd has them, and how.
const NUMBERS: [(&str, &str, Kind); 24] = [
    ("kinetic_analyzer_behind_seconds", "analyzer.behind_seconds", Kind::Gauge),
    ("kinetic_analyzer_lag_seconds", "analyzer.lag_seconds", Kind::Gauge),
    ("kinetic_analyzer_deliveries_held", "analyzer.deliveries_held", Kind::Gauge),
    ("kinetic_analyzer_sources", "analyzer.sources", Kind::Gauge),
    ("kinetic_analyzer_alerts_pending", "analyzer.alerts_pending", Kind::Gauge),
    ("kinetic_analyzer_request_seconds", "analyzer.request_seconds", Kind::Gauge),
    ("kinetic_analyzer_requests_failed", "analyzer.requests_failed", Kind::Count),
    ("kinetic_analyzer_fenced", "analyzer.fenced", Kind::Count),
    ("kinetic_analyzer_probes_failed", "analyzer.probes_failed", Kind::Count),
    ("kinetic_analyzer_early_acked", "analyzer.early_acked", Kind::Count),
    ("kinetic_redirector_leading", "redirector.leading", Kind::Gauge),
    ("kinetic_redirector_sources_unowned", "redirector.sources_unowned", Kind::Gauge),
    ("kinetic_redirector_leases_lapsed", "redirector.leases_lapsed", Kind::Count),
    ("kinetic_alert_outbox", "alert.outbox", Kind::Gauge),
    ("kinetic_alert_appends_pending", "alert.appends_pending", Kind::Gauge),
    ("kinetic_alert_mails_retried", "alert.mails_retried", Kind::Count),
    ("kinetic_alert_mails_expired", "alert.mails_expired", Kind::Count),
    ("kinetic_alert_malformed", "alert.malformed", Kind::Count),
    ("kinetic_broker_bytes_held", "broker.bytes_held", Kind::Gauge),
    ("kinetic_broker_messages_ready", "broker.messages_ready", Kind::Gauge),
    ("kinetic_broker_messages_unacked", "broker.messages_unacked", Kind::Gauge),
    ("kinetic_broker_connections", "broker.connections", Kind::Gauge),
    ("kinetic_broker_dead_lettered", "broker.dead_lettered", Kind::Count),
    ("kinetic_broker_publishers_blocked", "broker.publishers_blocked", Kind::Count),
];

/// What the loop needs.
#[derive(Debug)]
pub(crate) struct Setup {
    /// This node: the feed's name.
    pub(crate) node: NodeId,
    /// Where a redirector is asked, and the login.
    pub(crate) control: Address,
    /// Schema revisions.
    pub(crate) schema: SchemaWatch,
    /// Where the numbers are.
    pub(crate) telemetry: Telemetry,
    /// What this process is; memory and processor time are told under each of these names.
    pub(crate) roles: &'static [&'static str],
}

/// Runs until shutdown. Never fails: what it does is of use to others only.
pub(crate) async fn run(setup: Setup, shutdown: Shutdown) -> Result<()> {
    let Setup { node, control, mut schema, telemetry, roles } = setup;
    let mut interval = interval(&schema.borrow_and_update().schema);
    if Login::new(&control.login).customer().as_str() != INSTALLATION {
        if interval.is_some() {
            let login = control.login.as_str();
            tracing::warn!(
                login,
                "only a login `{INSTALLATION}` can publish this node's health: it is not published"
            );
        }
        shutdown.wait().await;
        return Ok(());
    }
    let mut told = Told::default();
    let mut publishing: Option<Publishing> = None;
    loop {
        match (interval, &publishing) {
            (Some(_), None) => publishing = Some(Publishing::start(&node, &control)),
            (None, Some(_)) => publishing = None,
            _ => {}
        }
        tokio::select! {
            () = shutdown.wait() => return Ok(()),
            Ok(()) = schema.changed() => interval = self::interval(&schema.borrow_and_update().schema),
            () = tokio::time::sleep(interval.unwrap_or(INTERVAL_MAX)) => {
                let works = |publishing: &mut Publishing| {
                    publishing.say(told.lines(&telemetry, roles, usage::now(), clock::now().mono))
                };
                // One that has ended is started anew.
                publishing = publishing.take_if(works);
            }
        }
    }
}

/// How often health is published; `None` where nobody reads it.
fn interval(schema: &Schema) -> Option<Duration> {
    let customer = schema.customers.get(&INSTALLATION.into()).filter(|customer| !customer.disabled)?;
    let is_statsd = |data_type| matches!(data_type, DataType::Statsd | DataType::Auto);
    customer.sources.values().find(|source| is_statsd(source.data_type))?;
    let silences = customer.analytics.values().filter_map(|analytic| match analytic.rule {
        Rule::Silent(silent) => Some(silent.after),
        Rule::Deviates(_) => None,
    });
    let closest = silences.chain(customer.stream_silent_after).min().map(|after| after / BODIES_PER_SILENCE);
    Some(closest.unwrap_or(INTERVAL_MAX).clamp(INTERVAL_MIN, INTERVAL_MAX))
}

/// An agent in this process; it ends when this is dropped.
struct Publishing {
    lines: mpsc::Sender<Vec<u8>>,
    _ender: shutdown::Ender,
    agent: JoinSet<Result<()>>,
}

impl Publishing {
    fn start(node: &NodeId, control: &Address) -> Self {
        let config = AgentConfig {
            origin: node.to_string(),
            profile: None,
            routing_key: ROUTING_KEY.into(),
            login: Some(control.login.clone()),
            inc: Incarnation(uuid::Uuid::now_v7()),
            data_type: DataType::Statsd,
            body_bytes: BODY_BYTES,
            body_age: Duration::from_millis(50),
            buffer_bytes: BUFFER_BYTES,
            in_flight_max: 4,
            fallback: Vec::new(),
            seed: rand::random(),
        };
        let (lines, own) = mpsc::channel(WAITING_MAX);
        let (ender, shutdown) = shutdown::channel();
        let broker = control.clone().named(format!("health of {node}"));
        let telemetry = Telemetry::default();
        let setup =
            agent::Setup { config, broker, sockets: Vec::new(), own: Some(own), part: PART, telemetry };
        let mut agent = JoinSet::new();
        agent.spawn(agent::run(setup, shutdown));
        Self { lines, _ender: ender, agent }
    }

    /// Returns whether the agent goes on. What it cannot take is dropped: the next lines say what has become of it.
    fn say(&mut self, lines: Vec<u8>) -> bool {
        if self.lines.try_send(lines).is_err() {
            tracing::debug!("health was not published");
        }
        let ended = self.agent.try_join_next();
        if let Some(ended) = &ended {
            tracing::warn!(
                ?ended,
                "the agent that publishes this process's health has ended; it is started anew"
            );
        }
        ended.is_none()
    }
}

/// What has been told, to tell by how much it has grown.
#[derive(Debug, Default)]
struct Told {
    counts: BTreeMap<&'static str, f64>,
    usage: Option<(Usage, Mono)>,
}

impl Told {
    /// The lines of one body.
    fn lines(&mut self, telemetry: &Telemetry, roles: &[&str], usage: Option<Usage>, now: Mono) -> Vec<u8> {
        let mut lines = String::new();
        let mut line = |name: &str, value: f64, kind: char| {
            if value.is_finite() {
                writeln!(lines, "{name}:{value}|{kind}").expect("a String takes all that is written");
            }
        };
        for (shown, name, kind) in NUMBERS {
            let Some(value) = telemetry.shown(shown) else { continue };
            match kind {
                Kind::Gauge => line(name, value, 'g'),
                Kind::Count => line(name, value - self.counts.insert(shown, value).unwrap_or(value), 'c'),
            }
        }
        for part in telemetry.working() {
            line(&format!("healthy.{part}"), 1.0, 'g');
        }
        if let Some(usage) = usage {
            let before = self.usage.replace((usage, now));
            for role in roles {
                line(&format!("{role}.rss_bytes"), usage.rss_bytes as f64, 'g');
                if let Some((before, at)) = before {
                    line(&format!("{role}.cpu_share"), usage.cpu_share(before, now.since(at)), 'g');
                }
            }
        }
        lines.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use kinetic_wire::Wall;

    use super::*;
    use crate::cmd::schema_repo;
    use crate::telemetry::{Health, Metric};

    #[test]
    fn a_body_has_what_is_shown_and_nothing_else() {
        let telemetry = Telemetry::default();
        let show = |retried| {
            telemetry.show(
                "alert",
                vec![
                    Metric::gauge("kinetic_alert_outbox", "…", 7.0),
                    Metric::counter("kinetic_alert_mails_retried", "…", retried),
                    Metric::counter("kinetic_alert_events", "…", 1_000),
                ],
            );
        };
        show(3);
        telemetry.health("alert", Health::Ok, Wall(0));
        telemetry.health("history", Health::Standby("stands by".into()), Wall(0));
        telemetry.health("mail", Health::Failing("refused".into()), Wall(0));
        let usage = |cpu| Some(Usage { rss_bytes: 4096, cpu: Duration::from_secs(cpu) });
        let mut told = Told::default();
        let mut lines = |usage, secs| {
            let now = Mono::default() + Duration::from_secs(secs);
            String::from_utf8(told.lines(&telemetry, &["alert"], usage, now)).expect("utf-8")
        };
        let parts = "healthy.alert:1|g\nhealthy.history:1|g\n";
        let first = format!("alert.outbox:7|g\nalert.mails_retried:0|c\n{parts}alert.rss_bytes:4096|g\n");
        assert_eq!(lines(usage(10), 100), first);
        show(5);
        let second = format!(
            "alert.outbox:7|g\nalert.mails_retried:2|c\n{parts}alert.rss_bytes:4096|g\nalert.cpu_share:0.5|g\n"
        );
        assert_eq!(lines(usage(15), 110), second);
        assert_eq!(lines(None, 120), format!("alert.outbox:7|g\nalert.mails_retried:0|c\n{parts}"));
    }

    /// Every number that is published is one that the parts of a process show.
    #[test]
    fn all_numbers_are_on_metrics() {
        let shown = [
            crate::metrics::analyzer(&kinetic_analyzer::stats::Stats::default()),
            vec![crate::metrics::round_trip(Duration::ZERO)],
            crate::metrics::redirector(&kinetic_redirector::stats::Stats::default()),
            crate::metrics::alert(&kinetic_alert::Stats::default()),
            crate::metrics::broker(&kinetic_broker::Stats::default()),
        ]
        .concat();
        for (name, ..) in NUMBERS {
            assert!(shown.iter().any(|metric| metric.name == name), "{name}");
        }
        let longest: usize = NUMBERS.iter().map(|(_, name, _)| name.len() + 32).sum();
        assert!(2 * longest < BODY_BYTES, "all lines fit into one body");
    }

    fn starter() -> Schema {
        let files = schema_repo::starter("acme", &schema_repo::salted_sha256("secret"));
        kinetic_schema::load(&files).schema.expect("checks")
    }

    #[test]
    fn what_nobody_reads_is_not_published() {
        let mut schema = starter();
        assert_eq!(interval(&schema), Some(INTERVAL_MAX));
        schema.customers.get_mut(&INSTALLATION.into()).expect("the starter has it").stream_silent_after =
            Some(Duration::from_secs(20));
        assert_eq!(interval(&schema), Some(Duration::from_secs(4)));
        schema.customers.get_mut(&INSTALLATION.into()).expect("the starter has it").disabled = true;
        assert_eq!(interval(&schema), None);
        schema.customers.remove(&INSTALLATION.into());
        assert_eq!(interval(&schema), None);
    }
}
