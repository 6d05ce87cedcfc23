//! The demo's fleet: hosts that each run a statsd client and our agent, one of them turning slow.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_agent::machine::AgentConfig;
use kinetic_amqp::Address;
use kinetic_wire::{DataType, Endpoint, names};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::UdpSocket;

use crate::adapter::statsd_socket::StatsdSocket;
use crate::node;
use crate::shell::agent;
use crate::shutdown::Shutdown;
use crate::telemetry::Telemetry;

/// Time between a host's datagrams.
const DATAGRAM_INTERVAL: Duration = Duration::from_millis(100);
/// Requests that a host reports in one datagram.
const REQUESTS: u32 = 20;
/// Mean latency of a healthy host, milliseconds.
const HEALTHY_MS: f64 = 100.0;
/// Mean latency of the slow host, milliseconds.
const SLOW_MS: f64 = 260.0;
/// Standard deviation of one request's latency, milliseconds.
const NOISE_MS: f64 = 20.0;
/// Routing key of the demo's messages.
pub(crate) const ROUTING_KEY: &str = "web.statsd";

/// One simulated host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// What it calls itself.
    pub(crate) name: String,
    /// When it turns slow, counted from the start of the fleet.
    pub(crate) slow_after: Option<Duration>,
}

/// Hosts `web-01` … of which the seventh turns slow.
pub(crate) fn hosts(count: u32, slow_after: Duration) -> Vec<Host> {
    (1..=count)
        .map(|number| Host {
            name: format!("web-{number:02}"),
            slow_after: (number == 7).then_some(slow_after),
        })
        .collect()
}

/// The agent of a host, listening for statsd on a free loopback port.
pub(crate) async fn agent(
    host: &Host,
    broker: &Address,
    customer: &str,
) -> Result<(agent::Setup, SocketAddr)> {
    let socket = StatsdSocket::udp(([127, 0, 0, 1], 0).into()).await?;
    let listens = socket.address().context("a UDP socket has an address")?;
    let fallback = Endpoint {
        uri: broker.uris.first().context("the broker has an address")?.clone(),
        vhost: broker.vhost.clone(),
        exchange: names::ingress_exchange(&customer.into()),
        priority: 0,
    };
    let config = AgentConfig {
        origin: host.name.clone(),
        profile: Some("web".into()),
        routing_key: ROUTING_KEY.into(),
        login: Some(broker.login.clone()),
        inc: node::new_incarnation(),
        data_type: DataType::Statsd,
        body_bytes: 1_400,
        body_age: Duration::from_millis(200),
        buffer_bytes: 1 << 20,
        in_flight_max: 16,
        fallback: vec![fallback],
        seed: rand::random(),
    };
    let broker = broker.clone().named(format!("agent {}", host.name));
    let setup = agent::Setup {
        config,
        broker,
        sockets: vec![socket],
        own: None,
        part: agent::PART,
        telemetry: Telemetry::default(),
    };
    Ok((setup, listens))
}

/// A host's statsd client: one datagram every tenth of a second, until shutdown.
pub(crate) async fn client(host: Host, seed: u64, agent: SocketAddr, shutdown: Shutdown) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.context("cannot open a UDP socket")?;
    socket.connect(agent).await?;
    let mut noise = StdRng::seed_from_u64(seed);
    let mut ticks = tokio::time::interval(DATAGRAM_INTERVAL);
    let mut elapsed = Duration::ZERO;
    loop {
        tokio::select! {
            () = shutdown.wait() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let mean = if host.slow_after.is_some_and(|after| elapsed >= after) { SLOW_MS } else { HEALTHY_MS };
        // Like any statsd client: a datagram that nobody takes is not worth stopping for.
        socket.send(datagram(&mut noise, mean).as_bytes()).await.ok();
        elapsed += DATAGRAM_INTERVAL;
    }
}

/// Statsd lines of some requests.
fn datagram(noise: &mut StdRng, mean: f64) -> String {
    let mut lines = String::new();
    for _ in 0..REQUESTS {
        let latency = (mean + NOISE_MS * normal(noise)).max(1.0);
        lines.push_str(&format!("checkout.latency:{latency:.1}|ms\n"));
    }
    lines.push_str(&format!("checkout.requests:{REQUESTS}|c\n"));
    lines
}

/// A number that is nearly normal, mean 0 and deviation 1: the sum of twelve uniform ones (Irwin and Hall).
fn normal(noise: &mut StdRng) -> f64 {
    (0..12).map(|_| noise.random::<f64>()).sum::<f64>() - 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_turns_slow() {
        let hosts = hosts(12, Duration::from_secs(4));
        let slow: Vec<&str> =
            hosts.iter().filter(|host| host.slow_after.is_some()).map(|host| host.name.as_str()).collect();
        assert_eq!((hosts.len(), slow), (12, vec!["web-07"]));
    }

    #[test]
    fn a_datagram_fits_an_ethernet_frame() {
        let text = datagram(&mut StdRng::seed_from_u64(1), SLOW_MS);
        assert!(text.len() <= 1432, "{} bytes", text.len());
        assert_eq!(text.lines().count(), 21);
    }
}
