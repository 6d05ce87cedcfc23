//! The agent's loop: datagrams in, confirmed publishes out.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use kinetic_agent::machine::{Agent, AgentConfig, Effect, Input, PublishId};
use kinetic_amqp::{Address, Outcome, Publisher, RpcClient, Token, TokenStats, Topology};
use kinetic_wire::{Credential, Endpoint, LocateReply, Reply, RpcError, decode, names};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::adapter::clock;
use crate::adapter::statsd_socket::{DATAGRAM_BYTES_MAX, StatsdSocket};
use crate::metrics;
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Telemetry};

/// Datagrams read from one socket before the others and the broker get their turn.
const DATAGRAMS_BATCH_MAX: usize = 64;
/// How long a redirector may take to answer.
const LOCATE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a broker may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the numbers on `/metrics` are renewed.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// Name of the `agent` role's part on `/metrics` and `/__heartbeat__`.
pub(crate) const PART: &str = "agent";

/// What the loop needs.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The machine's configuration.
    pub(crate) config: AgentConfig,
    /// The broker that the operator named, and the login.
    pub(crate) broker: Address,
    /// Where to listen.
    pub(crate) sockets: Vec<StatsdSocket>,
    /// Datagrams of this process itself; its end is none of the agent's.
    pub(crate) own: Option<mpsc::Receiver<Vec<u8>>>,
    /// Name of this part.
    pub(crate) part: &'static str,
    /// Where numbers go.
    pub(crate) telemetry: Telemetry,
}

/// What a finished job says.
enum Done {
    Located(Result<LocateReply, Unanswered>),
    Confirmed(PublishId),
    Failed(PublishId),
    Unroutable(PublishId),
    /// The connection of this generation stands, or could not be made.
    Connected(u64, bool),
    /// The connection of this generation broke.
    Broke(u64),
    /// A connection that is not used any more has been closed.
    Closed,
}

struct Shell {
    broker: Address,
    rpc: RpcClient,
    publisher: Option<Publisher>,
    part: &'static str,
    /// Counts `Connect` effects, so that news of an old connection is not taken for news of the new one.
    generation: u64,
    connected: bool,
    /// How tokens have fared on connections before this one.
    tokens: TokenStats,
    /// Why the redirector refuses, since people were told.
    refused: Option<String>,
    jobs: JoinSet<Done>,
}

/// Runs until shutdown has drained the machine.
pub(crate) async fn run(setup: Setup, shutdown: Shutdown) -> Result<()> {
    let Setup { config, broker, sockets, mut own, part, telemetry } = setup;
    let mut agent = Agent::new(config);
    let mut shell = Shell {
        rpc: RpcClient::start(broker.clone()),
        broker,
        publisher: None,
        part,
        generation: 0,
        connected: false,
        tokens: TokenStats::default(),
        refused: None,
        jobs: JoinSet::new(),
    };
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut effects = Vec::new();
    let mut metrics_due = tokio::time::interval(METRICS_INTERVAL);
    let mut stopping = false;
    agent.handle(clock::now(), Input::Tick, &mut effects);
    loop {
        if shell.perform(&mut effects, &telemetry) {
            break;
        }
        tokio::select! {
            () = shutdown.wait(), if !stopping => {
                stopping = true;
                agent.handle(clock::now(), Input::Shutdown, &mut effects);
            }
            (socket, length) = recv(&sockets, &mut buffer), if !stopping => {
                let now = clock::now();
                agent.handle(now, Input::Datagram(&buffer[..length]), &mut effects);
                for _ in 0..DATAGRAMS_BATCH_MAX {
                    let Some(length) = socket.try_recv(&mut buffer) else { break };
                    agent.handle(now, Input::Datagram(&buffer[..length]), &mut effects);
                }
            }
            Some(lines) = next_own(&mut own), if !stopping => {
                agent.handle(clock::now(), Input::Datagram(&lines), &mut effects);
            }
            _ = shell.rpc.pushed() => agent.handle(clock::now(), Input::Nudged, &mut effects),
            Some(done) = shell.jobs.join_next() => shell.done(&mut agent, done?, &telemetry, &mut effects),
            () = clock::sleep_until(agent.next_wakeup()) => {
                agent.handle(clock::now(), Input::Tick, &mut effects);
            }
            _ = metrics_due.tick() => {
                telemetry.show(part, metrics::agent(&agent.stats(), shell.token_stats()));
            }
        }
    }
    if let Some(publisher) = shell.publisher {
        publisher.close().await;
    }
    Ok(())
}

/// The next datagram of this process itself; never, without such.
async fn next_own(own: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match own {
        Some(own) => own.recv().await,
        None => std::future::pending().await,
    }
}

/// The next datagram of any socket; never, without sockets.
async fn recv<'s>(sockets: &'s [StatsdSocket], buffer: &mut [u8]) -> (&'s StatsdSocket, usize) {
    if sockets.is_empty() {
        return std::future::pending().await;
    }
    loop {
        let ready =
            futures_util::future::select_all(sockets.iter().map(|socket| Box::pin(socket.readable())));
        let (readable, index, _) = ready.await;
        match readable {
            Ok(()) => {
                if let Some(length) = sockets[index].try_recv(buffer) {
                    return (&sockets[index], length);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot receive statsd datagrams"),
        }
    }
}

impl Shell {
    fn done(&mut self, agent: &mut Agent, done: Done, telemetry: &Telemetry, effects: &mut Vec<Effect>) {
        let now = clock::now();
        match done {
            Done::Located(Ok(reply)) => {
                if self.refused.take().is_some() {
                    tracing::info!("the redirector answers again");
                    self.show_health(telemetry);
                }
                agent.handle(now, Input::Located(&reply), effects);
            }
            Done::Located(Err(Unanswered::Refused(refused))) => {
                tracing::debug!(code = ?refused.code, reason = refused.message, "locate was refused");
                agent.handle(now, Input::LocateRefused(&refused), effects);
            }
            Done::Located(Err(Unanswered::Silent(reason))) => {
                tracing::debug!(reason, "no answer to locate");
                agent.handle(now, Input::LocateFailed, effects);
            }
            Done::Confirmed(id) => agent.handle(now, Input::Confirmed { id }, effects),
            Done::Failed(id) => agent.handle(now, Input::Failed { id }, effects),
            Done::Unroutable(id) => agent.handle(now, Input::Unroutable { id }, effects),
            Done::Connected(generation, true) if generation == self.generation => {
                self.connected = true;
                self.show_health(telemetry);
                if let Some(publisher) = self.publisher.clone() {
                    self.jobs.spawn(async move {
                        publisher.wait_disconnected().await;
                        Done::Broke(generation)
                    });
                }
                agent.handle(now, Input::Connected, effects);
            }
            Done::Connected(generation, false) | Done::Broke(generation) if generation == self.generation => {
                self.connected = false;
                self.show_health(telemetry);
                agent.handle(now, Input::Disconnected, effects);
            }
            Done::Connected(..) | Done::Broke(_) | Done::Closed => {}
        }
    }

    fn show_health(&self, telemetry: &Telemetry) {
        let health = match &self.refused {
            Some(reason) => Health::Failing(format!("the redirector refuses: {reason}")),
            None if !self.connected => Health::Failing("not connected to a broker".into()),
            None => Health::Ok,
        };
        telemetry.health(self.part, health, clock::now().wall);
    }

    /// Performs effects in order; true once the machine has stopped.
    fn perform(&mut self, effects: &mut Vec<Effect>, telemetry: &Telemetry) -> bool {
        let mut stopped = false;
        for effect in effects.drain(..) {
            match effect {
                Effect::Locate { body } => {
                    let rpc = self.rpc.clone();
                    self.jobs.spawn(async move { Done::Located(locate(&rpc, body).await) });
                }
                Effect::Connect { endpoint, credential } => self.connect(endpoint, credential),
                Effect::Renew { credential } => {
                    if let Some(publisher) = &self.publisher {
                        publisher.renew(token(credential));
                    }
                }
                Effect::Publish { id, exchange, routing_key, envelope, body } => {
                    let Some(publisher) = self.publisher.clone() else {
                        self.jobs.spawn(async move { Done::Failed(id) });
                        continue;
                    };
                    let body = Bytes::from(body);
                    self.jobs.spawn(async move {
                        match publisher.publish(&exchange, &routing_key, &envelope, body, true).await {
                            Ok(Outcome::Confirmed) => Done::Confirmed(id),
                            Ok(Outcome::Unroutable) => Done::Unroutable(id),
                            Err(error) => {
                                tracing::debug!(%error, "a body was not confirmed");
                                Done::Failed(id)
                            }
                        }
                    });
                }
                Effect::Complain { refusal } => {
                    tracing::error!(
                        code = ?refusal.code,
                        reason = refusal.message,
                        "the redirector refuses to say where to publish: this agent's settings and the schema do not agree; \
                         what comes in is kept, and it asks again"
                    );
                    self.refused = Some(refusal.message);
                    self.show_health(telemetry);
                }
                Effect::Stopped => stopped = true,
            }
        }
        stopped
    }

    /// How tokens have fared on all connections so far.
    fn token_stats(&self) -> TokenStats {
        let TokenStats { logins, renewed, refused } = self.tokens;
        let now = self.publisher.as_ref().map(Publisher::token_stats).unwrap_or_default();
        TokenStats {
            logins: logins + now.logins,
            renewed: renewed + now.renewed,
            refused: refused + now.refused,
        }
    }

    fn connect(&mut self, endpoint: Endpoint, credential: Option<Credential>) {
        self.tokens = self.token_stats();
        if let Some(old) = self.publisher.take() {
            // What is in flight on it is confirmed or comes back, while the new connection is made already.
            self.jobs.spawn(async move {
                old.close().await;
                Done::Closed
            });
        }
        tracing::info!(
            uri = endpoint.uri,
            vhost = endpoint.vhost,
            exchange = endpoint.exchange,
            "publishing to"
        );
        let mut address = self.broker.clone();
        // Our own health goes by the listener beside us, whatever others are told.
        if !address.is_also(&endpoint.uri) {
            address.uris = vec![endpoint.uri];
        }
        address.vhost = endpoint.vhost;
        let token = credential.map(token);
        let publisher = Publisher::start_with(address, token, Topology::default(), usize::from(u16::MAX));
        self.publisher = Some(publisher.clone());
        self.generation += 1;
        let generation = self.generation;
        self.jobs.spawn(async move {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, publisher.wait_connected()).await.is_ok();
            Done::Connected(generation, connected)
        });
    }
}

/// What a connection is opened with.
fn token(credential: Credential) -> Token {
    Token { login: credential.login, secret: credential.token.into() }
}

/// Why a question has no answer to publish by.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The redirector said why.
    Refused(RpcError),
    /// It said nothing, or nothing that makes sense; the reason, for people.
    Silent(String),
}

/// One question to the redirector.
pub(crate) async fn locate(rpc: &RpcClient, body: Vec<u8>) -> Result<LocateReply, Unanswered> {
    let answer = rpc.request(names::RPC_EXCHANGE, names::rpc::LOCATE, body, LOCATE_TIMEOUT).await;
    match answer.map(|body| decode::<Reply<LocateReply>>(&body)) {
        Ok(Ok(Reply::Ok(reply))) => Ok(reply),
        Ok(Ok(Reply::Refused(refused))) => Err(Unanswered::Refused(refused)),
        Ok(Err(error)) => Err(Unanswered::Silent(format!("the redirector's answer makes no sense: {error}"))),
        Err(error) => Err(Unanswered::Silent(error.to_string())),
    }
}
