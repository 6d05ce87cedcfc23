//! A supervised publisher: every message is confirmed by the broker before its caller goes on.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use kinetic_wire::Envelope;
use tokio::sync::{mpsc, oneshot, watch};

use crate::connect::{Link, Watchdog, raised};
use crate::declare::declare_on;
use crate::drive::{self, End, Handle};
use crate::outbox::{Fate, Outbox, Outgoing, Refusals};
use crate::properties::{short, to_properties};
use crate::renew::Renewal;
use crate::token::{Given, Tokens, tokens};
use crate::{Address, AmqpError, Token, TokenStats, Topology};

/// What the broker did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in every queue that it was routed to, on disk where both are durable.
    Confirmed,
    /// It was mandatory, and no queue is bound for it. Nobody has it.
    Unroutable,
}

/// Why a message is not known to be with the broker.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// The connection ended before the confirm came: the message may or may not have arrived. Publish it again.
    #[error("not confirmed")]
    Unconfirmed(#[source] AmqpError),
    /// The broker has no room for it (a full queue that rejects).
    #[error("the broker refused the message: its queue is full")]
    Nacked,
    /// The broker will never take this message.
    #[error("not published")]
    Refused(#[source] AmqpError),
    /// The publisher was closed.
    #[error("the publisher is closed")]
    Closed,
}

impl PublishError {
    /// Whether publishing the same message again may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unconfirmed(_) | Self::Nacked)
    }
}

/// How a supervised connection is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// A connection stands.
    pub connected: bool,
    /// The broker accepts no publishes for now (`connection.blocked`).
    pub blocked: bool,
    /// The login of the connection, where a certificate or a token said it.
    pub login: Option<String>,
    /// Why there is no connection, once an attempt has failed.
    pub error: Option<String>,
}

/// A supervised publisher. Clones share one connection.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    commands: mpsc::Sender<Publish>,
    handle: Handle,
    given: Given,
}

struct Publish {
    message: Outgoing,
    reply: Reply,
}

impl Publisher {
    /// Starts connecting. At most `in_flight_max` messages await their confirm at once, and as many wait for their turn;
    /// further callers wait. About 64 saturate a broker on the same network. Must be called inside a tokio runtime.
    ///
    /// # Panics
    /// With `in_flight_max` zero, with which nothing could be published.
    #[must_use]
    pub fn start(address: Address, topology: Topology, in_flight_max: usize) -> Self {
        Self::start_with(address, None, topology, in_flight_max)
    }

    /// The same with a token, which is tried before what the address says.
    ///
    /// # Panics
    /// With `in_flight_max` zero.
    #[must_use]
    pub fn start_with(
        address: Address,
        token: Option<Token>,
        topology: Topology,
        in_flight_max: usize,
    ) -> Self {
        assert!(in_flight_max > 0, "a publisher that may have nothing in flight publishes nothing");
        let (commands, queue) = mpsc::channel(in_flight_max);
        let (given, tokens) = tokens(token);
        let handle = Handle::start(|said, closed| Driver {
            address,
            tokens,
            topology,
            in_flight_max,
            queue,
            said,
            closed,
            cautious: 0,
        });
        Self { shared: Arc::new(Shared { commands, handle, given }) }
    }

    /// Another token: for the connection that one of the same login has opened, which goes on, and for those to come.
    pub fn renew(&self, token: Token) {
        self.shared.given.give(token);
    }

    /// How tokens have fared.
    #[must_use]
    pub fn token_stats(&self) -> TokenStats {
        self.shared.given.stats()
    }

    /// Publishes one message and awaits its confirm. Await many at once for throughput; they leave in the order in which
    /// they were first polled. While there is no connection, or the broker is blocked, this waits; a caller that stops
    /// waiting takes back what has not left yet.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::is_transient`] says whether to try again.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        envelope: &Envelope<'_>,
        body: impl Into<Bytes>,
        mandatory: bool,
    ) -> Result<Outcome, PublishError> {
        let message = Outgoing {
            exchange: short("an exchange's name", exchange).map_err(PublishError::Refused)?,
            routing_key: short("a routing key", routing_key).map_err(PublishError::Refused)?,
            properties: to_properties(envelope).map_err(PublishError::Refused)?,
            body: body.into(),
            mandatory,
        };
        let (reply, replied) = oneshot::channel();
        self.shared.commands.send(Publish { message, reply }).await.map_err(|_| PublishError::Closed)?;
        replied.await.unwrap_or_else(|_| {
            if self.shared.commands.is_closed() {
                return Err(PublishError::Closed);
            }
            let reason = "it ended before the confirm came".to_owned();
            Err(PublishError::Unconfirmed(AmqpError::Lost { reason }))
        })
    }

    /// Waits until a connection stands (or the publisher is closed).
    pub async fn wait_connected(&self) {
        self.shared.handle.wait_connected(true).await;
    }

    /// Waits until no connection stands.
    pub async fn wait_disconnected(&self) {
        self.shared.handle.wait_connected(false).await;
    }

    /// Whether a connection stands.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.shared.handle.connected()
    }

    /// How the connection is.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.shared.handle.status()
    }

    /// Sends what was accepted, awaits its confirms, closes. Gives up after [`crate::CLOSE_TIMEOUT`], and at once where there is
    /// no connection. Later publishes of other clones fail with [`PublishError::Closed`].
    pub async fn close(self) {
        self.shared.handle.close().await;
    }
}

/// The task behind a [`Publisher`].
struct Driver {
    address: Address,
    tokens: Tokens,
    topology: Topology,
    in_flight_max: usize,
    queue: mpsc::Receiver<Publish>,
    said: watch::Sender<LinkStatus>,
    closed: watch::Receiver<bool>,
    /// How many more messages go out one at a time. When the broker closes a channel over a message, it does not say
    /// which; so all that were in flight are retried alone, and only the one that is refused alone is to blame.
    cautious: usize,
}

type Outgo = Outbox<Reply>;
type Reply = oneshot::Sender<Result<Outcome, PublishError>>;

impl drive::Driver for Driver {
    type Line = (Link, Outgo);
    const WHAT: &'static str = "publishing";

    async fn open(&self) -> Result<Self::Line, AmqpError> {
        open(&self.address, &self.tokens, &self.topology).await
    }

    fn login((link, _): &Self::Line) -> Option<String> {
        link.shown_login().map(|login| login.to_string())
    }

    fn say(&self, status: LinkStatus) {
        self.said.send_replace(status);
    }

    /// Publishes until the connection fails, the publisher is closed, or nothing is in flight and the next connection stands.
    async fn serve(&mut self, (link, mut outbox): Self::Line) -> End<Self::Line> {
        let mut watchdog = Watchdog::new();
        let mut refusals = Refusals::default();
        let mut renewal = Renewal::new();
        let mut closed = self.closed.clone();
        let mut draining = false;
        loop {
            if outbox.len() == 0 {
                let next = renewal.take();
                if next.is_some() || (draining && self.queue.is_empty()) {
                    let channel = outbox.channel().clone();
                    drop(outbox);
                    link.close(&[channel]).await;
                    return next.map_or(End::Closed, End::Renewed);
                }
            }
            let room = self.room(renewal.is_ready());
            tokio::select! {
                biased;
                (reply, fate) = poll_fn(|cx| outbox.poll_fate(cx)) => {
                    if let Fate::Failed(error) = fate {
                        return End::Lost(self.fail(reply, &error, outbox));
                    }
                    self.cautious = self.cautious.saturating_sub(1);
                    refusals.note(&fate);
                    answer(reply, fate);
                }
                command = self.queue.recv(), if outbox.len() < room => match command {
                    // Nobody waits for it any more: it is taken back.
                    Some(Publish { reply, .. }) if reply.is_closed() => {}
                    Some(Publish { message, reply }) => outbox.publish(reply, self.signed(message, &link)),
                    None => draining = true,
                },
                () = renewal.made() => {}
                () = self.tokens.renewed() => if let Err(error) = self.tokens.renew(&link).await {
                    return End::Lost(fail_all(&error, outbox));
                },
                () = raised(&mut closed), if !draining => {
                    self.queue.close();
                    draining = true;
                }
                () = watchdog.tick() => {
                    if !link.alive() {
                        let error = AmqpError::Lost { reason: "the connection ended silently".to_owned() };
                        return End::Lost(fail_all(&error, outbox));
                    }
                    if refusals.tick() {
                        let error = AmqpError::Lost { reason: Refusals::REASON.to_owned() };
                        return End::Lost(fail_all(&error, outbox));
                    }
                    drive::say_blocked(&self.said, link.blocked());
                    let Self { address, tokens, topology, .. } = &*self;
                    let open = || open_owned(address.clone(), tokens.clone(), topology.clone());
                    renewal.check(&link, open);
                }
            }
        }
    }
}

async fn open(address: &Address, tokens: &Tokens, topology: &Topology) -> Result<(Link, Outgo), AmqpError> {
    let link = tokens.open(address).await?;
    let channel = link.channel().await?;
    declare_on(&channel, topology).await?;
    let outbox = Outbox::open(channel).await?;
    Ok((link, outbox))
}

async fn open_owned(
    address: Address,
    tokens: Tokens,
    topology: Topology,
) -> Result<(Link, Outgo), AmqpError> {
    open(&address, &tokens, &topology).await
}

impl Driver {
    /// How many messages may be in flight. What is queued waits when the next connection stands already, so that all leaves
    /// in its order and this one is closed with nothing on it.
    fn room(&self, is_leaving: bool) -> usize {
        match (is_leaving, self.cautious) {
            (true, _) => 0,
            (false, 0) => self.in_flight_max,
            (false, _) => 1,
        }
    }

    /// A message that says whose it is says it with the login of the connection, which a renewed certificate changes: the broker
    /// would refuse any other.
    fn signed(&self, mut message: Outgoing, link: &Link) -> Outgoing {
        let says_own =
            message.properties.user_id().as_ref().is_some_and(|id| id.as_str() == self.address.login);
        if let Some(login) = link.shown_login()
            && says_own
        {
            message.properties = message.properties.with_user_id(login);
        }
        message
    }

    /// The channel is gone with everything in flight on it; `reply` belongs to the first of them.
    fn fail(&mut self, reply: Reply, error: &AmqpError, mut outbox: Outgo) -> String {
        // lapin fails them all at once; what it has not failed yet fails by being dropped.
        let others: Vec<_> = std::iter::from_fn(|| ready(&mut outbox)).collect();
        let alone = others.is_empty() && outbox.len() == 0;
        if !error.is_transient() && !alone {
            // The suspects line up behind what is queued already.
            self.cautious = others.len() + outbox.len() + 1 + self.queue.max_capacity();
        }
        let verdict = if error.is_transient() || !alone {
            PublishError::Unconfirmed(error.clone())
        } else {
            PublishError::Refused(error.clone())
        };
        reply.send(Err(verdict)).ok();
        for (reply, fate) in others {
            answer(reply, fate);
        }
        fail_all(error, outbox)
    }
}

/// Drops the outbox, with whom the callers' ends go; they hear that nothing is known.
fn fail_all(error: &AmqpError, mut outbox: Outgo) -> String {
    while let Some((reply, fate)) = ready(&mut outbox) {
        answer(reply, fate);
    }
    error.chain()
}

fn ready(outbox: &mut Outgo) -> Option<(Reply, Fate)> {
    match outbox.poll_fate(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(decided) => Some(decided),
        Poll::Pending => None,
    }
}

/// A caller that has gone does not care.
fn answer(reply: Reply, fate: Fate) {
    let answer = match fate {
        Fate::Done(outcome) => Ok(outcome),
        Fate::Nacked => Err(PublishError::Nacked),
        Fate::Failed(error) => Err(PublishError::Unconfirmed(error)),
    };
    reply.send(answer).ok();
}
