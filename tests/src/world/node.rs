//! A role that runs: what it logs, and what it says of itself over HTTP.

use std::net::SocketAddr;
use std::path::Path;

use super::{LOGS, LOGS_VARIABLE};
use crate::eventually;
use crate::http::{self, Response};
use crate::process::{Launch, Process};

/// A running role.
#[derive(Debug)]
pub struct Node {
    /// The process.
    pub process: Process,
    metrics: SocketAddr,
}

impl Node {
    /// Starts a role and waits until it serves `/metrics`.
    #[must_use]
    pub fn start(launch: Launch, name: &str, dir: &Path) -> Self {
        let mut process =
            launch.env_default(LOGS_VARIABLE, LOGS).start(name, &dir.join(format!("{name}.log")));
        let metrics = eventually(&format!("{name} serves /metrics"), || {
            assert!(process.ended().is_none(), "{name} ended: {}", process.log());
            logged(&process.log(), "serving /metrics and /__heartbeat__", "address")
                .ok_or_else(|| process.log())
        });
        Self { process, metrics }
    }

    /// An address that stands in a log line with a message.
    #[must_use]
    pub fn logged(&self, message: &str, field: &str) -> SocketAddr {
        eventually(message, || logged(&self.process.log(), message, field).ok_or_else(|| self.process.log()))
    }

    /// Log lines with a message.
    #[must_use]
    pub fn log_count(&self, message: &str) -> usize {
        let log = self.process.log();
        log.lines().filter_map(fields).filter(|fields| fields["message"] == message).count()
    }

    /// `/__heartbeat__`.
    ///
    /// # Errors
    /// Where nobody answers.
    pub fn heartbeat(&self) -> std::io::Result<Response> {
        http::get(self.metrics, "/__heartbeat__")
    }

    /// Waits for a 200.
    pub fn wait_healthy(&self) {
        eventually("the heartbeat is good", || match self.heartbeat() {
            Ok(response) if response.status == 200 && response.body.contains("\"ok\":true,\"reason\"") => {
                Ok(())
            }
            other => Err(other),
        });
    }

    /// Waits for a 503 that names a part, and returns the body.
    pub fn wait_failing(&self, part: &str) -> String {
        let failing = format!("\"{part}\":{{\"ok\":false");
        eventually(&format!("the heartbeat says that {part} fails"), || match self.heartbeat() {
            Ok(response) if response.status == 503 && response.body.contains(&failing) => Ok(response.body),
            other => Err(other),
        })
    }

    /// `/metrics`.
    ///
    /// # Panics
    /// If nobody answers.
    #[must_use]
    pub fn metrics(&self) -> String {
        let response = http::get(self.metrics, "/metrics").expect("/metrics answers");
        assert_eq!(response.status, 200, "{}", response.body);
        response.body
    }

    /// One number of `/metrics`, summed over its labels; 0 where it is not there yet.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        let value = http::sum(&self.metrics(), name);
        format!("{value:.0}").parse().expect("a count")
    }
}

fn fields(line: &str) -> Option<serde_json::Value> {
    let mut line: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(line["fields"].take())
}

fn logged(log: &str, message: &str, field: &str) -> Option<SocketAddr> {
    let fields = log
        .lines()
        .filter_map(fields)
        .find(|fields| fields["message"] == message && fields[field].is_string())?;
    fields[field].as_str()?.parse().ok()
}
