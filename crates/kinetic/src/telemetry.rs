//! What operators see of a process: logs, `/metrics` in Prometheus text, `/__heartbeat__`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use kinetic_wire::Wall;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::shutdown::Shutdown;

/// Logs for people on a terminal, JSON elsewhere; `RUST_LOG` chooses what, `info` of our own crates by default. Of libraries
/// nothing finer than `info` is ever said.
pub(crate) fn init_logs(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = if std::io::stderr().is_terminal() {
        builder.with_target(false).compact().finish().with(filter_fn(is_discreet)).try_init()
    } else {
        builder.json().finish().with(filter_fn(is_discreet)).try_init()
    };
    installed.expect("logs are set up once, first thing in main");
}

/// Whether what is said cannot hold a secret. Our own code is written so; what a library says in detail may be all that it was
/// given: lapin's frames are, the login's password among them.
fn is_discreet(said: &tracing::Metadata<'_>) -> bool {
    said.target().starts_with("kinetic") || *said.level() <= tracing::Level::INFO
}

/// One number that a part of this process shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metric {
    /// `kinetic_<component>_<noun>_<unit>`, without `_total`.
    pub(crate) name: &'static str,
    /// One sentence.
    pub(crate) help: &'static str,
    /// Whether it only grows.
    pub(crate) kind: MetricKind,
    /// Labels and their values, where the number is split by some.
    pub(crate) labels: Vec<(&'static str, String)>,
    /// The number.
    pub(crate) value: f64,
}

/// Kinds of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes both ways.
    Gauge,
}

impl Metric {
    /// A number that only grows.
    pub(crate) fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: MetricKind::Counter, labels: Vec::new(), value: value as f64 }
    }

    /// A number that goes both ways.
    pub(crate) fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, kind: MetricKind::Gauge, labels: Vec::new(), value }
    }

    /// The same number, for one value of a label.
    pub(crate) fn with(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((label, value.into()));
        self
    }
}

/// How a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Works.
    Ok,
    /// Works as far as it should: another node does this part's work, and this one waits to take over.
    Standby(String),
    /// Does not, and why.
    Failing(String),
}

#[derive(Debug, Default)]
struct Parts {
    metrics: BTreeMap<&'static str, Vec<Metric>>,
    health: BTreeMap<&'static str, (Health, Wall)>,
}

/// Where the parts of a process put what they show. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telemetry(Arc<Mutex<Parts>>);

impl Telemetry {
    fn parts(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the numbers of a part.
    pub(crate) fn show(&self, part: &'static str, metrics: Vec<Metric>) {
        self.parts().metrics.insert(part, metrics);
    }

    /// The sum of a number over its labels; 0 while no part shows it.
    pub(crate) fn value(&self, name: &str) -> f64 {
        let parts = self.parts();
        parts.metrics.values().flatten().filter(|metric| metric.name == name).map(|metric| metric.value).sum()
    }

    /// The sum of a number over its labels; `None` while no part shows it.
    pub(crate) fn shown(&self, name: &str) -> Option<f64> {
        let parts = self.parts();
        let mut values =
            parts.metrics.values().flatten().filter(|metric| metric.name == name).map(|metric| metric.value);
        let first = values.next()?;
        Some(first + values.sum::<f64>())
    }

    /// Parts that work, also such as only stand by.
    pub(crate) fn working(&self) -> Vec<&'static str> {
        let parts = self.parts();
        let works = parts.health.iter().filter(|(_, (health, _))| !matches!(health, Health::Failing(_)));
        works.map(|(part, _)| *part).collect()
    }

    /// Sets how a part is, and logs when that changes.
    pub(crate) fn health(&self, part: &'static str, health: Health, at: Wall) {
        let mut parts = self.parts();
        if parts.health.get(part).is_some_and(|(known, _)| *known == health) {
            return;
        }
        let was_ok = parts.health.get(part).is_some_and(|(known, _)| *known == Health::Ok);
        match &health {
            Health::Ok => tracing::info!(part, "healthy"),
            Health::Standby(reason) => tracing::info!(part, reason, "standing by"),
            // A part that has not been ready yet has not failed; what keeps it from it is logged where it happens.
            Health::Failing(reason) if !was_ok => tracing::info!(part, reason, "not ready yet"),
            Health::Failing(reason) => tracing::warn!(part, reason, "failing"),
        }
        parts.health.insert(part, (health, at));
    }

    /// `/__heartbeat__`: whether all parts work, and JSON that says which do not.
    fn heartbeat(&self) -> (bool, String) {
        let parts = self.parts();
        let failing = parts.health.values().any(|(health, _)| matches!(health, Health::Failing(_)));
        let list: serde_json::Map<String, serde_json::Value> = parts
            .health
            .iter()
            .map(|(part, (health, since))| {
                let (ok, reason) = match health {
                    Health::Ok => (true, None),
                    Health::Standby(reason) => (true, Some(reason)),
                    Health::Failing(reason) => (false, Some(reason)),
                };
                (
                    (*part).to_owned(),
                    serde_json::json!({"ok": ok, "reason": reason, "since_ms": since.as_ms()}),
                )
            })
            .collect();
        (!failing, serde_json::json!({"ok": !failing, "parts": list}).to_string())
    }

    /// `/metrics`: Prometheus (OpenMetrics) text.
    fn exposition(&self) -> String {
        let help = "Messages whose names or headers no well-meaning client sends, made harmless before they were read.";
        self.show("amqp", vec![Metric::counter("kinetic_amqp_mended", help, kinetic_amqp::mended_total())]);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
            text.clear();
            writeln!(text, "# cannot encode: {error}").expect("writing to a string");
        }
        text
    }

    /// Serves both paths until shutdown. Returns the bound address and the server.
    pub(crate) async fn serve(
        &self,
        listen: SocketAddr,
        shutdown: Shutdown,
    ) -> Result<(SocketAddr, impl Future<Output = Result<()>> + use<>)> {
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot listen on {listen} for /metrics: choose another with --metrics")
        })?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/__heartbeat__", get(heartbeat))
            .with_state(self.clone());
        let server = async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(async move { shutdown.wait().await })
                .await
                .context("the /metrics server failed")
        };
        Ok((address, server))
    }
}

async fn metrics(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], telemetry.exposition())
}

async fn heartbeat(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    let (ok, body) = telemetry.heartbeat();
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], body)
}

impl Collector for Telemetry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let parts = self.parts();
        // One descriptor a name: the same number split by a label comes several times, one after the other.
        let mut by_name: BTreeMap<&'static str, Vec<&Metric>> = BTreeMap::new();
        for metric in parts.metrics.values().flatten() {
            by_name.entry(metric.name).or_default().push(metric);
        }
        for (name, metrics) in by_name {
            let first = metrics[0];
            let kind = match first.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
            };
            let mut family = encoder.encode_descriptor(name, first.help, None, kind)?;
            if let [metric] = metrics[..]
                && metric.labels.is_empty()
            {
                encode_one(metric, family)?;
                continue;
            }
            for metric in metrics {
                let labels: Vec<(&str, &str)> =
                    metric.labels.iter().map(|(label, value)| (*label, value.as_str())).collect();
                encode_one(metric, family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn encode_one(metric: &Metric, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> std::fmt::Result {
    match metric.kind {
        MetricKind::Counter => ConstCounter::new(metric.value).encode(encoder),
        MetricKind::Gauge => ConstGauge::new(metric.value).encode(encoder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_prometheus_text() {
        let telemetry = Telemetry::default();
        telemetry.show(
            "analyzer",
            vec![
                Metric::counter("kinetic_analyzer_samples", "Samples decoded.", 12),
                Metric::counter("kinetic_analyzer_rejects", "Lines refused.", 1).with("reason", "bad_value"),
                Metric::counter("kinetic_analyzer_rejects", "Lines refused.", 2).with("reason", "bad_type"),
                Metric::gauge("kinetic_analyzer_lag_seconds", "Age.", 0.5),
            ],
        );
        let text = telemetry.exposition();
        for line in [
            "# TYPE kinetic_analyzer_samples counter",
            "kinetic_analyzer_samples_total 12",
            "kinetic_analyzer_rejects_total{reason=\"bad_type\"} 2",
            "kinetic_analyzer_lag_seconds 0.5",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
        assert_eq!(text.matches("# TYPE kinetic_analyzer_rejects").count(), 1, "{text}");
    }

    #[test]
    fn heartbeat_names_the_failing_part() {
        let telemetry = Telemetry::default();
        telemetry.health("broker", Health::Ok, Wall(0));
        assert!(telemetry.heartbeat().0);
        telemetry.health("mail", Health::Failing("relay refused".into()), Wall::from_ms(7));
        let (ok, body) = telemetry.heartbeat();
        assert!(!ok);
        assert!(body.contains(r#""mail":{"ok":false,"reason":"relay refused","since_ms":7}"#), "{body}");
    }
}
