//! What an edge shows: on `/metrics`, and once in a while in the log.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kinetic_agent::edge::Edge;
use kinetic_agent::edge::stats::{CustomerStats, Dropped, Reason, Stats};
use kinetic_wire::{CustomerName, Mono};

use super::guests::Guests;
use crate::telemetry::Metric;

/// Customers that are shown by name: those of whom most was dropped, and who sent most.
const SHOWN_MAX: usize = 20;

/// All numbers.
pub(super) fn all(edge: &Edge, guests: &Guests) -> Vec<Metric> {
    let mut metrics = machine(&edge.stats());
    metrics.extend(connections(guests));
    let mut customers: Vec<(&CustomerName, CustomerStats)> = edge.customers().collect();
    customers.sort_by_key(|(_, stats)| std::cmp::Reverse((stats.dropped.total(), stats.lines)));
    for (name, stats) in customers.iter().take(SHOWN_MAX).filter(|(_, stats)| stats.lines > 0) {
        let lines = "Lines of a customer that came, of those customers of whom most was dropped or came.";
        metrics.push(
            Metric::counter("kinetic_edge_customer_lines", lines, stats.lines)
                .with("customer", name.as_str()),
        );
        for (reason, count) in reasons(&stats.dropped).filter(|(_, count)| *count > 0) {
            let help = "Lines of a customer that were dropped.";
            metrics.push(
                Metric::counter("kinetic_edge_customer_lines_dropped", help, count)
                    .with("customer", name.as_str())
                    .with("reason", reason),
            );
        }
    }
    metrics
}

fn reasons(dropped: &Dropped) -> impl Iterator<Item = (&'static str, u64)> {
    Reason::ALL.into_iter().map(|reason| (reason.name(), dropped.of(reason)))
}

fn machine(stats: &Stats) -> Vec<Metric> {
    let counters: [(&'static str, &'static str, u64); 11] = [
        ("kinetic_edge_received", "Datagrams and pieces of connections.", stats.received),
        ("kinetic_edge_lines", "Lines in them.", stats.lines),
        ("kinetic_edge_lines_confirmed", "Lines that a broker has taken.", stats.lines_confirmed),
        ("kinetic_edge_bodies", "Bodies closed.", stats.bodies),
        (
            "kinetic_edge_bodies_closed_early",
            "Bodies closed early because their customer had too many open.",
            stats.bodies_closed_early,
        ),
        ("kinetic_edge_published", "Publishes, repeats included.", stats.published),
        ("kinetic_edge_confirmed", "Bodies that a broker has taken.", stats.confirmed),
        (
            "kinetic_edge_unconfirmed",
            "Publishes that were lost with a connection and are repeated.",
            stats.unconfirmed,
        ),
        ("kinetic_edge_nacked", "Publishes that a full queue refused and that are repeated.", stats.nacked),
        ("kinetic_edge_unroutable", "Publishes that no queue took and that are repeated.", stats.unroutable),
        (
            "kinetic_edge_refused",
            "Publishes that the broker does not allow and that are repeated.",
            stats.refused,
        ),
    ];
    let gauges: [(&'static str, &'static str, f64); 6] = [
        ("kinetic_edge_lines_buffered", "Lines that wait or are in flight.", stats.lines_buffered as f64),
        ("kinetic_edge_bytes_buffered", "What they occupy.", stats.bytes_buffered as f64),
        ("kinetic_edge_bodies_open", "Bodies being filled.", stats.bodies_open as f64),
        ("kinetic_edge_bodies_waiting", "Bodies that wait for their turn.", stats.bodies_waiting as f64),
        ("kinetic_edge_in_flight", "Publishes in flight.", stats.in_flight as f64),
        (
            "kinetic_edge_customers_holding",
            "Customers of whom something is held.",
            stats.customers_holding as f64,
        ),
    ];
    let counters = counters.into_iter().map(|(name, help, count)| Metric::counter(name, help, count));
    let gauges = gauges.into_iter().map(|(name, help, value)| Metric::gauge(name, help, value));
    let dropped = reasons(&stats.dropped).map(|(reason, count)| {
        Metric::counter("kinetic_edge_lines_dropped", "Lines dropped.", count).with("reason", reason)
    });
    counters.chain(gauges).chain(dropped).collect()
}

fn connections(guests: &Guests) -> Vec<Metric> {
    let (open, accepted) = guests.open();
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let mut metrics = vec![
        Metric::gauge("kinetic_edge_carbon_connections", "Carbon connections open.", open as f64),
        Metric::counter("kinetic_edge_carbon_accepted", "Carbon connections accepted.", accepted),
        Metric::counter(
            "kinetic_edge_carbon_lines_too_long",
            "Lines of carbon connections that were too long to be passed on.",
            count(&guests.too_long),
        ),
        Metric::counter(
            "kinetic_edge_carbon_lines_unfinished",
            "Carbon connections that ended within a line, which was dropped.",
            count(&guests.unfinished),
        ),
        Metric::counter(
            "kinetic_edge_carbon_accept_errors",
            "Carbon connections that could not be accepted.",
            count(&guests.accept_errors),
        ),
    ];
    metrics.extend(guests.turned().map(|(why, count)| {
        Metric::counter("kinetic_edge_carbon_turned_away", "Carbon connections closed by the edge.", count)
            .with("reason", why)
    }));
    metrics
}

/// What has been said of dropped lines.
#[derive(Debug, Default)]
pub(super) struct Said {
    at: Option<Mono>,
    dropped: Dropped,
}

impl Said {
    /// Says that lines have been dropped since it was said last, if it is time to.
    pub(super) fn say(&mut self, now: Mono, every: Duration, stats: &Stats) {
        if stats.dropped == self.dropped || self.at.is_some_and(|at| now < at + every) {
            return;
        }
        let more: Vec<String> = reasons(&stats.dropped)
            .zip(reasons(&self.dropped))
            .filter(|((_, now), (_, before))| now > before)
            .map(|((reason, now), (_, before))| format!("{reason} {}", now - before))
            .collect();
        tracing::warn!(
            lines = more.join(", "),
            "lines were dropped, and are counted on /metrics by customer"
        );
        (self.at, self.dropped) = (Some(now), stats.dropped);
    }
}
