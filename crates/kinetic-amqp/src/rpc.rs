//! Requests and replies over direct reply-to: the client keeps one channel, the server answers where it consumes.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kinetic_wire::Envelope;
use kinetic_wire::names::REPLY_TO;
use lapin::BasicProperties;
use lapin::Consumer as LapinConsumer;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use tokio::sync::{mpsc, oneshot, watch};

use crate::connect::{Link, Watchdog, raised};
use crate::drive::{self, End, Handle};
use crate::outbox::{Fate, Outbox, Outgoing, Refusals};
use crate::properties::{short, to_properties};
use crate::renew::Renewal;
use crate::{
    Address, AmqpError, ConsumeOptions, Consumer, Delivery, Event, LinkStatus, Outcome, Settle, Topology,
};

/// Requests of one client that may await their reply at once; further ones wait.
const PENDING_MAX: usize = 256;
/// Requests that wait for their turn.
const QUEUED_MAX: usize = 64;
/// Pushed messages that nobody has looked at; a further one is dropped, which costs as much as one that was lost on its way.
const PUSHES_MAX: usize = 64;
/// Requests that a server holds unanswered.
const SERVER_PREFETCH: u16 = 256;

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcFailed {
    /// The request was sent, and nobody answered in time. It may have been carried out.
    #[error("no reply in time")]
    Timeout,
    /// No queue takes such requests: the server has never run here.
    #[error("nobody serves this request: no queue is bound for it")]
    Unroutable,
    /// The broker did not take the request: a queue that is full, or that has no leader for the moment.
    #[error("the broker refused the request")]
    Refused,
    /// There is no connection, or it ended before the reply came.
    #[error("no connection to the broker")]
    Disconnected,
}

/// A message that a server sent to our reply-to address without having been asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its `type`.
    pub kind: Option<String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// A supervised client of request-reply services. Clones share one connection.
#[derive(Clone)]
pub struct RpcClient {
    shared: Arc<Shared>,
}

struct Shared {
    login: String,
    calls: mpsc::Sender<Call>,
    handle: Handle,
    pushes: tokio::sync::Mutex<mpsc::Receiver<Pushed>>,
}

type Reply = oneshot::Sender<Result<Vec<u8>, RpcFailed>>;

struct Call {
    /// Without its correlation id, which the driver gives.
    message: Outgoing,
    reply: Reply,
}

impl RpcClient {
    /// Starts connecting. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(address: Address) -> Self {
        let (calls, queue) = mpsc::channel(QUEUED_MAX);
        let (pushed, pushes) = mpsc::channel(PUSHES_MAX);
        let login = address.login.clone();
        let handle =
            Handle::start(|said, closed| Driver { address, queue, said, closed, pushed, last_id: 0 });
        let pushes = tokio::sync::Mutex::new(pushes);
        Self { shared: Arc::new(Shared { login, calls, handle, pushes }) }
    }

    /// Sends a request (mandatory, expiring with `timeout`, `user_id` = our login) and awaits the body of its reply. While
    /// there is no connection, this waits for one as long as `timeout` allows.
    ///
    /// # Errors
    /// [`RpcFailed`].
    pub async fn request(
        &self,
        exchange: &str,
        routing_key: &str,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, RpcFailed> {
        let envelope = Envelope {
            user_id: Some(self.shared.login.as_str().into()),
            reply_to: Some(REPLY_TO.into()),
            expiration_ms: Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            ..Envelope::default()
        };
        // A name that AMQP cannot carry routes nowhere.
        let message = Outgoing {
            exchange: short("an exchange's name", exchange).map_err(|_| RpcFailed::Unroutable)?,
            routing_key: short("a routing key", routing_key).map_err(|_| RpcFailed::Unroutable)?,
            properties: to_properties(&envelope).map_err(|_| RpcFailed::Unroutable)?,
            body: body.into(),
            mandatory: true,
        };
        let (reply, replied) = oneshot::channel();
        let call = async {
            self.shared.calls.send(Call { message, reply }).await.map_err(|_| RpcFailed::Disconnected)?;
            replied.await.unwrap_or(Err(RpcFailed::Disconnected))
        };
        match tokio::time::timeout(timeout, call).await {
            Ok(answer) => answer,
            Err(_) if self.connected() => Err(RpcFailed::Timeout),
            Err(_) => Err(RpcFailed::Disconnected),
        }
    }

    /// The next message that came to our reply-to address and answers no request. The address stands from our first request to the
    /// end of the connection: what was to be pushed afterwards is lost. Cancel-safe; each message is handed out once, to one
    /// of those who wait; never ends by itself, not even when the client is closed.
    pub async fn pushed(&self) -> Pushed {
        match self.shared.pushes.lock().await.recv().await {
            Some(pushed) => pushed,
            None => std::future::pending().await,
        }
    }

    /// Waits until a connection stands (or the client is closed).
    pub async fn wait_connected(&self) {
        self.shared.handle.wait_connected(true).await;
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

    /// Closes the connection; requests under way fail with [`RpcFailed::Disconnected`].
    pub async fn close(self) {
        self.shared.handle.close().await;
    }
}

/// The task behind an [`RpcClient`].
struct Driver {
    address: Address,
    queue: mpsc::Receiver<Call>,
    said: watch::Sender<LinkStatus>,
    closed: watch::Receiver<bool>,
    pushed: mpsc::Sender<Pushed>,
    last_id: u64,
}

/// One connection of the driver.
struct Line {
    link: Link,
    outbox: Outbox<u64>,
    replies: LapinConsumer,
    pending: BTreeMap<u64, Reply>,
}

impl drive::Driver for Driver {
    type Line = Line;
    const WHAT: &'static str = "requests";

    async fn open(&self) -> Result<Line, AmqpError> {
        Line::open(&self.address).await
    }

    fn login(line: &Line) -> Option<String> {
        line.link.shown_login().map(|login| login.to_string())
    }

    fn say(&self, status: LinkStatus) {
        self.said.send_replace(status);
    }

    /// Serves requests until the connection fails, the client is closed, or nothing is pending and the next connection
    /// stands. Dropping the line fails what is pending on it.
    async fn serve(&mut self, mut line: Line) -> End<Line> {
        let mut watchdog = Watchdog::new();
        let mut refusals = Refusals::default();
        let mut renewal = Renewal::new();
        let mut closed = self.closed.clone();
        loop {
            if line.is_idle()
                && let Some(next) = renewal.take()
            {
                line.close().await;
                return End::Renewed(next);
            }
            tokio::select! {
                delivery = line.replies.next() => match delivery {
                    Some(Ok(delivery)) => line.replied(delivery, &self.pushed),
                    Some(Err(error)) => {
                        return End::Lost(AmqpError::of(&error, "await replies").chain());
                    }
                    None => return End::Lost("the broker cancelled our reply consumer".to_owned()),
                },
                (id, fate) = poll_fn(|cx| line.outbox.poll_fate(cx)) => {
                    refusals.note(&fate);
                    match fate {
                        Fate::Done(Outcome::Confirmed) => {}
                        Fate::Done(Outcome::Unroutable) => line.answer(id, Err(RpcFailed::Unroutable)),
                        Fate::Nacked => line.answer(id, Err(RpcFailed::Refused)),
                        Fate::Failed(error) => return End::Lost(error.chain()),
                    }
                }
                call = self.queue.recv(), if !renewal.is_ready() && line.pending.len() < PENDING_MAX => match call {
                    Some(call) if call.reply.is_closed() => {}
                    Some(call) => {
                        self.last_id += 1;
                        line.call(self.last_id, call);
                    }
                    None => return End::Closed,
                },
                () = renewal.made() => {}
                () = raised(&mut closed) => {
                    line.close().await;
                    return End::Closed;
                }
                () = watchdog.tick() => {
                    line.pending.retain(|_, reply| !reply.is_closed());
                    if !line.link.alive() {
                        return End::Lost("the connection ended silently".to_owned());
                    }
                    if refusals.tick() {
                        return End::Lost(Refusals::REASON.to_owned());
                    }
                    drive::say_blocked(&self.said, line.link.blocked());
                    renewal.check(&line.link, || open_owned(self.address.clone()));
                }
            }
        }
    }
}

async fn open_owned(address: Address) -> Result<Line, AmqpError> {
    Line::open(&address).await
}

impl Line {
    async fn open(address: &Address) -> Result<Self, AmqpError> {
        let link = Link::open(address).await?;
        let channel = link.channel().await?;
        // Direct reply-to: consuming without acknowledgements, on the channel that publishes, before the first request.
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let replies = channel
            .basic_consume(REPLY_TO.into(), "".into(), options, FieldTable::default())
            .await
            .map_err(|error| AmqpError::of(&error, "await replies"))?;
        let outbox = Outbox::open(channel).await?;
        Ok(Self { link, outbox, replies, pending: BTreeMap::new() })
    }

    fn call(&mut self, id: u64, call: Call) {
        let Call { mut message, reply } = call;
        message.properties = message.properties.with_correlation_id(id.to_string().into());
        if let Some(login) = self.link.shown_login() {
            message.properties = message.properties.with_user_id(login);
        }
        self.pending.insert(id, reply);
        self.outbox.publish(id, message);
    }

    /// Whether nobody waits for anything on it.
    fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.outbox.len() == 0
    }

    fn replied(&mut self, delivery: lapin::message::Delivery, pushed: &mpsc::Sender<Pushed>) {
        let Some(id) = delivery.properties.correlation_id() else {
            let kind = delivery.properties.kind().as_ref().map(|kind| kind.as_str().to_owned());
            if pushed.try_send(Pushed { kind, body: delivery.data }).is_err() {
                tracing::debug!("a pushed message was dropped: nobody looks at them");
            }
            return;
        };
        match id.as_str().parse() {
            Ok(id) => self.answer(id, Ok(delivery.data)),
            Err(_) => tracing::debug!("reply without a correlation id of ours"),
        }
    }

    fn answer(&mut self, id: u64, answer: Result<Vec<u8>, RpcFailed>) {
        // A late reply finds nobody, which is what its caller wanted.
        if let Some(reply) = self.pending.remove(&id) {
            reply.send(answer).ok();
        }
    }

    async fn close(self) {
        let Self { link, outbox, replies, .. } = self;
        let channel = outbox.channel().clone();
        drop((outbox, replies));
        link.close(&[channel]).await;
    }
}

/// A request that awaits its reply.
#[derive(Debug)]
pub struct Request {
    /// The routing key, which says what is asked.
    pub kind: String,
    /// The login of who asks, verified by the broker; `None` where the client did not set it.
    pub user_id: Option<String>,
    /// Where its sender listens (direct reply-to, nothing else is answered): for the answer, and for [`RpcServer::push`] as long as
    /// its connection stands.
    pub reply_to: Option<String>,
    /// What is asked.
    pub body: Vec<u8>,
    /// It was delivered before: it may have been carried out.
    pub redelivered: bool,
    /// For [`RpcServer::reply`].
    pub handle: RequestHandle,
}

/// Names a [`Request`] to its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHandle {
    token: u64,
    /// Whether it wants an answer.
    reply_to: Option<String>,
    correlation_id: Option<String>,
}

/// A supervised server of requests. Replies leave on the channel of the requests, followed by the acknowledgement, and the
/// broker handles one channel in order: so a request is settled only after its reply.
pub struct RpcServer {
    consumer: Consumer,
}

/// What happens to an [`RpcServer`].
#[derive(Debug)]
pub enum Served {
    /// A request.
    Request(Request),
    /// Requests can come, or can come again.
    Subscribed,
    /// None can come for now, or an attempt failed for another reason than the last. The server is already trying again.
    Lost {
        /// For people.
        reason: String,
    },
}

impl RpcServer {
    /// Serves the requests of `queue`, which `topology` should declare and bind. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(address: Address, topology: Topology, queue: impl Into<String>) -> Self {
        let options = ConsumeOptions {
            queue: queue.into(),
            topology,
            prefetch: SERVER_PREFETCH,
            ..ConsumeOptions::default()
        };
        Self { consumer: Consumer::start(address, options) }
    }

    /// The next request. Cancel-safe. Reconnects meanwhile; requests that were lost unanswered come again.
    pub async fn next(&mut self) -> Request {
        loop {
            match self.consumer.next().await {
                Event::Delivery(delivery) => return request(delivery),
                // The consumer has logged it; replies to older requests find their handle stale.
                Event::Subscribed | Event::Lost { .. } | Event::Cancelled => {}
            }
        }
    }

    /// The next request, or news of whether requests can come at all. Cancel-safe.
    pub async fn event(&mut self) -> Served {
        loop {
            match self.consumer.next().await {
                Event::Delivery(delivery) => return Served::Request(request(delivery)),
                Event::Subscribed => return Served::Subscribed,
                Event::Lost { reason } => return Served::Lost { reason },
                Event::Cancelled => {}
            }
        }
    }

    /// Whether a subscription stands.
    #[must_use]
    pub fn subscribed(&self) -> bool {
        self.consumer.subscribed()
    }

    /// Sends the reply, then acknowledges the request. A request from before the last reconnect is left alone: it comes
    /// again. A request without `reply_to` is only acknowledged.
    pub async fn reply(&mut self, handle: RequestHandle, body: Vec<u8>) {
        if !self.consumer.current(handle.token) {
            return;
        }
        if let (Some(channel), Some(reply_to)) = (self.consumer.channel(), handle.reply_to) {
            let mut properties = BasicProperties::default();
            // Both were read from short strings, so they fit into them.
            if let Some(id) = handle.correlation_id {
                properties = properties.with_correlation_id(id.into());
            }
            let options = BasicPublishOptions::default();
            if let Err(error) =
                channel.basic_publish("".into(), reply_to.into(), options, &body, properties).await
            {
                tracing::debug!(%error, "reply not sent");
                return;
            }
        }
        self.consumer.settle(Settle::Ack(handle.token)).await;
    }

    /// Sends a message that answers nothing to the reply-to address of somebody who has asked something, in the same vhost. At
    /// most once: whether it arrived is not known, and an address that is gone swallows it.
    pub async fn push(&mut self, reply_to: &str, kind: &str, body: &[u8]) {
        let Some(channel) = self.consumer.channel() else {
            return;
        };
        let (Ok(to), Ok(kind)) = (short("a reply-to address", reply_to), short("type", kind)) else {
            return;
        };
        let properties = BasicProperties::default().with_type(kind).with_delivery_mode(1);
        let options = BasicPublishOptions::default();
        if let Err(error) = channel.basic_publish("".into(), to, options, body, properties).await {
            tracing::debug!(%error, "message not pushed");
        }
    }

    /// Stops requests from coming. Those taken may still be answered; [`RpcServer::next`] never returns again once it has
    /// handed out what had arrived.
    pub async fn cancel(&mut self) {
        self.consumer.cancel().await;
    }

    /// Closes channel and connection. Unanswered requests go back to the queue.
    pub async fn close(self) {
        self.consumer.close().await;
    }
}

/// Whether this is where somebody listens for answers to his own questions. A queue's name would have us publish there with our
/// rights on behalf of whoever asks.
fn listens(reply_to: &str) -> bool {
    reply_to.strip_prefix(REPLY_TO).is_some_and(|key| key.starts_with('.'))
}

fn request(delivery: Delivery) -> Request {
    let (user_id, reply_to, correlation_id) = {
        let envelope = delivery.envelope();
        let own = |text: Option<std::borrow::Cow<'_, str>>| text.map(std::borrow::Cow::into_owned);
        (own(envelope.user_id), own(envelope.reply_to), own(envelope.correlation_id))
    };
    let reply_to = reply_to.filter(|name| listens(name));
    Request {
        kind: delivery.routing_key().to_owned(),
        user_id,
        reply_to: reply_to.clone(),
        redelivered: delivery.redelivered,
        handle: RequestHandle { token: delivery.token, reply_to, correlation_id },
        body: delivery.into_body(),
    }
}
