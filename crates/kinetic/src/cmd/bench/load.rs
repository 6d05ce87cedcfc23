//! The load: statsd bodies of 200 hosts with 50 timers each, spread over a minute of event time.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use kinetic_amqp::{
    Address, Binding, Exchange, ExchangeKind, Outcome, Publisher, Queue, QueueArgs, Topology,
};
use kinetic_replica::Files;
use kinetic_wire::{Envelope, Wall};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::adapter::clock;

/// The customer whose source is measured.
pub(crate) const CUSTOMER: &str = "bench";
/// The queue that the null consumer drains.
pub(crate) const NULL_QUEUE: &str = "bench.null";
/// The queue that the peer script drains.
pub(crate) const PEER_QUEUE: &str = "bench.peer";
/// Queue of the measured source.
pub(crate) const SOURCE_QUEUE: &str = "src.bench.fleet";
/// Hosts.
const HOSTS: usize = 200;
/// Metrics of each.
const METRICS: usize = 50;
/// Event time that the load spans.
const SPAN_NS: i64 = 60_000_000_000;
/// Publishes in flight.
const IN_FLIGHT_MAX: usize = 256;
/// Distinct bodies; the load repeats them with new times.
const BODIES_MADE: usize = 2_000;

/// Bodies to publish.
#[derive(Debug)]
pub(crate) struct Load {
    /// Samples in all, a whole number of bodies.
    pub(crate) samples: u64,
    bodies: u64,
    made: Vec<(String, Bytes, u64)>,
}

impl Load {
    /// At least this many samples, in bodies of about this size.
    pub(crate) fn new(samples_min: u64, body_bytes: usize) -> Self {
        let mut noise = StdRng::seed_from_u64(1);
        let mut next_metric = vec![0; HOSTS];
        let made: Vec<(String, Bytes, u64)> = (0..BODIES_MADE)
            .map(|index| {
                let host = index % HOSTS;
                let (body, lines) = body(&mut noise, &mut next_metric[host], body_bytes);
                (format!("web-{host:03}"), body, lines)
            })
            .collect();
        let (mut samples, mut bodies) = (0, 0);
        while samples < samples_min {
            samples += made[usize::try_from(bodies).unwrap_or_default() % made.len()].2;
            bodies += 1;
        }
        Self { samples, bodies, made }
    }

    /// Bodies in all.
    pub(crate) fn bodies(&self) -> u64 {
        self.bodies
    }

    /// Mean size of a body.
    pub(crate) fn mean_body_bytes(&self) -> u64 {
        let bytes: usize = self.made.iter().map(|(_, body, _)| body.len()).sum();
        (bytes / self.made.len()) as u64
    }
}

fn body(noise: &mut StdRng, metric: &mut usize, bytes: usize) -> (Bytes, u64) {
    let mut text = String::with_capacity(bytes);
    let mut lines = 0;
    loop {
        let value = 100.0 + 20.0 * (noise.random::<f64>() - 0.5);
        let line = format!("checkout.latency.m{metric:02}:{value:.1}|ms\n");
        if text.len() + line.len() > bytes && lines > 0 {
            return (Bytes::from(text), lines);
        }
        text.push_str(&line);
        lines += 1;
        *metric = (*metric + 1) % METRICS;
    }
}

/// The schema under which the analyzer works: one cluster of all hosts, the founding rule on all metrics.
pub(crate) fn schema(vhost: &str) -> Files {
    let text = format!(
        "\
region \"local\" {{
  vhost = \"{vhost}\"
}}

customer \"{CUSTOMER}\" {{
  region = region.local
}}
"
    );
    let topology = "\
source \"fleet\" {
  data_type        = \"statsd\"
  routing          = [\"#\"]
  max_length       = 100000000
  max_length_bytes = 100000000000
}

service \"checkout\" {
  cluster \"frontends\" {
    source  = source.fleet
    members = [\"web-*\"]
  }
}

analytic \"slow-host\" {
  on     = service.checkout.cluster.frontends
  metric = \"checkout.latency.*\"
  value  = \"mean\"
  window = \"10s\"
  for    = \"3 of 5\"

  rule \"deviates\" {
    deviations = 4
    min_effect = \"10%\"
  }
}
";
    Files::from([
        ("kinetic.hcl".to_owned(), text.into_bytes()),
        (format!("customers/{CUSTOMER}/topology.hcl"), topology.as_bytes().to_vec()),
    ])
}

/// Queues beside the source's own.
fn topology(queues: &[&str]) -> Topology {
    let exchange = super::exchange();
    let mut topology = Topology {
        exchanges: vec![Exchange::durable(exchange.clone(), ExchangeKind::Topic)],
        ..Topology::default()
    };
    for queue in queues {
        topology.queues.push(Queue::durable(*queue).with_args(QueueArgs::default()));
        topology.bindings.push(Binding::new(*queue, exchange.clone(), "#"));
    }
    topology
}

/// When the event time of a bench of so many rounds begins: it ends just before now, and no round goes back in time.
pub(crate) fn first_moment(rounds: u32) -> Wall {
    Wall(clock::now().wall.0 - SPAN_NS * i64::from(rounds) - 5_000_000_000)
}

/// Publishes the whole load into all queues and waits until the broker has it. Its event time begins where the round
/// before it ended.
pub(crate) async fn publish(
    address: &Address,
    queues: &[&str],
    load: &Load,
    first: Wall,
    round: u32,
) -> Result<()> {
    await_queue(address, SOURCE_QUEUE).await?;
    let publisher = Arc::new(Publisher::start(address.clone(), topology(queues), IN_FLIGHT_MAX));
    let exchange = super::exchange();
    let start = first.0 + SPAN_NS * i64::from(round);
    let step = SPAN_NS / i64::try_from(load.bodies.max(1))?;
    let mut in_flight = FuturesUnordered::new();
    for index in 0..load.bodies {
        let (host, body, _) = &load.made[usize::try_from(index)? % load.made.len()];
        let ts = Wall(start + step * i64::try_from(index)?);
        let (publisher, exchange) = (&publisher, &exchange);
        in_flight.push(async move {
            let envelope = Envelope {
                kind: Some("kinetic.data.statsd.v1".into()),
                origin: Some(host.as_str().into()),
                ts: Some(ts),
                ..Envelope::default()
            };
            publisher.publish(exchange, "bench", &envelope, body.clone(), true).await
        });
        if in_flight.len() >= IN_FLIGHT_MAX
            && let Some(outcome) = in_flight.next().await
        {
            ensure!(outcome? == Outcome::Confirmed, "a body found no queue");
        }
    }
    while let Some(outcome) = in_flight.next().await {
        ensure!(outcome? == Outcome::Confirmed, "a body found no queue");
    }
    drop(in_flight);
    if let Ok(publisher) = Arc::try_unwrap(publisher) {
        publisher.close().await;
    }
    Ok(())
}

/// Waits until the redirector has declared a queue.
async fn await_queue(address: &Address, queue: &str) -> Result<()> {
    for _ in 0..100 {
        if kinetic_amqp::queue_depth(address, queue).await?.is_some() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    None.with_context(|| format!("the redirector did not declare {queue} within 10 s"))
}

/// Removes the bench's queues.
pub(crate) async fn remove(address: &Address, queues: &[&str]) -> Result<()> {
    for queue in queues.iter().chain(&[SOURCE_QUEUE]) {
        kinetic_amqp::delete_queue(address, queue).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_as_large_as_asked_and_no_body_larger() {
        let load = Load::new(100_000, 1_400);
        assert!((100_000..100_100).contains(&load.samples));
        assert!(load.made.iter().all(|(_, body, _)| body.len() <= 1_400));
        assert!((1_300..=1_400).contains(&load.mean_body_bytes()));
    }

    #[test]
    fn the_bench_schema_checks() {
        let files = schema("/");
        let loaded = kinetic_schema::load(&files);
        assert!(
            loaded.schema.is_some(),
            "{}",
            kinetic_schema::render(&loaded.diagnostics, &files, false, 100)
        );
    }
}
