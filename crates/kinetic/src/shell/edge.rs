//! The edge's loop: datagrams and carbon's lines in, confirmed publishes to every region's broker out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use kinetic_agent::edge::{Edge, EdgeConfig, Effect, Input, LinkId, Outcome, Protocol};
use kinetic_agent::machine::PublishId;
use kinetic_amqp::{Address, Outcome as Fate, PublishError, Publisher, Topology};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::adapter::clock;
use crate::adapter::statsd_socket::DATAGRAM_BYTES_MAX;
use crate::shell::follow::SchemaWatch;
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Telemetry};

pub(crate) mod door;
pub(crate) mod guests;
mod numbers;

use door::Chunk;
use guests::Guests;

/// Publishes in flight at once to each broker.
pub(crate) const IN_FLIGHT_MAX: usize = 64;
/// Datagrams read before connections and the brokers get their turn.
const DATAGRAMS_BATCH_MAX: usize = 64;
/// So many times as many are still taken when the edge stops.
const LAST_BATCHES_MAX: usize = 64;
/// How often the numbers on `/metrics` are renewed.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is said in the log that lines were dropped, at most.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// Name of this part on `/metrics` and `/__heartbeat__`.
pub(crate) const PART: &str = "edge";

/// What the loop needs.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The machine's configuration.
    pub(crate) config: EdgeConfig,
    /// The broker that the operator named, and the login for all of them.
    pub(crate) broker: Address,
    /// Where statsd's datagrams come.
    pub(crate) statsd: UdpSocket,
    /// Where carbon's lines come from the door.
    pub(crate) chunks: mpsc::Receiver<Chunk>,
    /// Who has a connection open at the door.
    pub(crate) guests: Arc<Guests>,
    /// Schema revisions.
    pub(crate) schema: SchemaWatch,
    /// Where numbers go.
    pub(crate) telemetry: Telemetry,
}

/// Listens for statsd.
pub(crate) async fn listen(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address).await.with_context(|| {
        format!("cannot listen for statsd on udp {address}: is another statsd running there?")
    })?;
    tracing::info!(udp = %socket.local_addr()?, "listening for statsd");
    Ok(socket)
}

/// A job's end: the answer to a publish, or nothing that matters.
type Done = Option<(PublishId, Outcome)>;

struct Shell {
    broker: Address,
    publishers: BTreeMap<LinkId, (String, Publisher)>,
    jobs: JoinSet<Done>,
    telemetry: Telemetry,
}

/// Runs until shutdown has drained the machine.
pub(crate) async fn run(setup: Setup, shutdown: Shutdown) -> Result<()> {
    let Setup { config, broker, statsd, mut chunks, guests, mut schema, telemetry } = setup;
    let mut edge = Edge::new(config);
    let mut shell = Shell { broker, publishers: BTreeMap::new(), jobs: JoinSet::new(), telemetry };
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut effects = Vec::new();
    let mut metrics_due = tokio::time::interval(METRICS_INTERVAL);
    let mut said = numbers::Said::default();
    let (mut stopping, mut following) = (false, true);
    let follow = |edge: &mut Edge, schema: &mut SchemaWatch, effects: &mut Vec<Effect>| {
        let revision = schema.borrow_and_update().clone();
        guests.follow(&revision.schema);
        edge.handle(clock::now(), Input::Schema(&revision.schema), effects);
    };
    follow(&mut edge, &mut schema, &mut effects);
    loop {
        if shell.perform(&mut effects) {
            break;
        }
        tokio::select! {
            () = shutdown.wait(), if !stopping => {
                stopping = true;
                // The door is shut by now: what it let in is taken first.
                while let Ok(chunk) = chunks.try_recv() {
                    take(&mut edge, &chunk, &mut effects);
                }
                for _ in 0..LAST_BATCHES_MAX {
                    read(&statsd, &mut buffer, &mut edge, &mut effects);
                }
                edge.handle(clock::now(), Input::Shutdown, &mut effects);
            }
            changed = schema.changed(), if following => match changed {
                Ok(()) => follow(&mut edge, &mut schema, &mut effects),
                Err(_) => following = false,
            },
            readable = statsd.readable(), if !stopping => match readable {
                Ok(()) => read(&statsd, &mut buffer, &mut edge, &mut effects),
                Err(error) => tracing::warn!(%error, "cannot receive statsd datagrams"),
            },
            Some(chunk) = chunks.recv(), if !stopping => take(&mut edge, &chunk, &mut effects),
            Some(done) = shell.jobs.join_next() => if let Some((id, outcome)) = done? {
                edge.handle(clock::now(), Input::Published { id, outcome }, &mut effects);
            },
            () = clock::sleep_until(edge.next_wakeup()) => {
                edge.handle(clock::now(), Input::Tick, &mut effects);
            }
            _ = metrics_due.tick() => {
                shell.show(&edge, &guests);
                said.say(clock::now().mono, SAID_EVERY, &edge.stats());
            }
        }
    }
    shell.show(&edge, &guests);
    futures_util::future::join_all(shell.publishers.into_values().map(|(_, publisher)| publisher.close()))
        .await;
    Ok(())
}

fn take(edge: &mut Edge, chunk: &Chunk, effects: &mut Vec<Effect>) {
    let Chunk { from, bytes } = chunk;
    edge.handle(clock::now(), Input::Lines { from: *from, protocol: Protocol::Carbon, bytes }, effects);
}

/// Datagrams that are there already, up to a bound.
fn read(statsd: &UdpSocket, buffer: &mut [u8], edge: &mut Edge, effects: &mut Vec<Effect>) {
    let now = clock::now();
    for _ in 0..DATAGRAMS_BATCH_MAX {
        let Ok((length, from)) = statsd.try_recv_from(buffer) else { return };
        let lines = Input::Lines { from: from.ip(), protocol: Protocol::Statsd, bytes: &buffer[..length] };
        edge.handle(now, lines, effects);
    }
}

impl Shell {
    /// Performs effects in order; true once the machine has stopped.
    fn perform(&mut self, effects: &mut Vec<Effect>) -> bool {
        let mut stopped = false;
        for effect in effects.drain(..) {
            match effect {
                Effect::Open { link, uris, vhost } => self.open(link, uris, vhost),
                Effect::Close { link } => {
                    if let Some((vhost, publisher)) = self.publishers.remove(&link) {
                        tracing::info!(vhost, "nothing is published there any more");
                        self.jobs.spawn(async move {
                            publisher.close().await;
                            None
                        });
                    }
                }
                Effect::Publish { id, link, exchange, routing_key, envelope, body } => {
                    let publisher = self.publishers.get(&link).map(|(_, publisher)| publisher.clone());
                    self.jobs.spawn(async move {
                        let Some(publisher) = publisher else { return Some((id, Outcome::Unconfirmed)) };
                        let body = Bytes::from(body);
                        let fate = publisher.publish(&exchange, &routing_key, &envelope, body, true).await;
                        Some((id, outcome(fate, &exchange)))
                    });
                }
                Effect::Stopped => stopped = true,
            }
        }
        stopped
    }

    fn open(&mut self, link: LinkId, uris: Vec<String>, vhost: String) {
        tracing::info!(?uris, vhost, "publishing to");
        let address = Address { uris, vhost: vhost.clone(), ..self.broker.clone() };
        let publisher = Publisher::start(address, Topology::default(), IN_FLIGHT_MAX);
        self.publishers.insert(link, (vhost, publisher));
    }

    fn show(&self, edge: &Edge, guests: &Guests) {
        let away: Vec<&str> = self
            .publishers
            .values()
            .filter(|(_, publisher)| !publisher.connected())
            .map(|(vhost, _)| vhost.as_str())
            .collect();
        let health = if away.is_empty() {
            Health::Ok
        } else {
            Health::Failing(format!("not connected to the broker of {}", away.join(", ")))
        };
        self.telemetry.health(PART, health, clock::now().wall);
        self.telemetry.show(PART, numbers::all(edge, guests));
    }
}

/// What an answer means to the machine.
fn outcome(fate: Result<Fate, PublishError>, exchange: &str) -> Outcome {
    match fate {
        Ok(Fate::Confirmed) => Outcome::Confirmed,
        Ok(Fate::Unroutable) => Outcome::Unroutable,
        Err(PublishError::Nacked) => Outcome::Nacked,
        Err(PublishError::Unconfirmed(_) | PublishError::Closed) => Outcome::Unconfirmed,
        Err(error @ PublishError::Refused(_)) => {
            let error = anyhow::Error::from(error);
            tracing::warn!(
                exchange,
                error = format!("{error:#}"),
                "the broker does not let this edge publish for a customer; it is tried again, and holds up nobody else"
            );
            Outcome::Refused
        }
    }
}
