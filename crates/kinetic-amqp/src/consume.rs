//! A supervised consumer: it reconnects for ever, declares again, resumes, and numbers what it hands out.
//!
//! [`Consumer::next`] polls lapin's own queue directly, so nothing stands between the connection's thread and the caller.

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use futures_util::future::join_all;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer as LapinConsumer};
use tokio::time::Sleep;

use crate::connect::{Backoff, CLOSE_TIMEOUT, Link, Watchdog, sleep};
use crate::declare::{declare_on, declare_own_queue};
use crate::properties::short;
use crate::{Address, AmqpError, Message, Topology};

/// What to consume, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumeOptions {
    /// The queue; empty for a server-named one, exclusive to this connection, which `topology` may bind.
    pub queue: String,
    /// Declared after every connect. Entries with an empty queue name mean the server-named queue.
    pub topology: Topology,
    /// Deliveries that may be unsettled at once: the only bound on what is held in memory, so it must not be zero.
    pub prefetch: u16,
    /// No other consumer on the queue.
    pub exclusive: bool,
    /// The broker forgets each delivery as it sends it; `prefetch` then bounds nothing.
    pub no_ack: bool,
    /// Name of the subscription, for operators; empty lets the broker choose.
    pub consumer_tag: String,
}

/// What happened to a [`Consumer`].
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all events are deliveries, and a box each would be an allocation each"
)]
pub enum Event {
    /// Consuming has begun, or begun again.
    Subscribed,
    /// A message.
    Delivery(Delivery),
    /// The subscription ended, or an attempt failed for a reason that was not reported before. Settlements of older
    /// tokens are ignored from here on: what they name comes again. The consumer is already trying again.
    Lost {
        /// For people.
        reason: String,
    },
    /// After [`Consumer::cancel`]: everything that had arrived has been handed out. Said once; nothing follows.
    Cancelled,
}

/// One delivered message.
#[derive(Debug)]
pub struct Delivery {
    /// Names the delivery for [`Settle`]. Grows by exactly one per delivery for the life of the [`Consumer`].
    pub token: u64,
    /// The broker has delivered it before, to us or to somebody else.
    pub redelivered: bool,
    message: Message,
}

impl Deref for Delivery {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl Delivery {
    /// Its body, taken over.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.message.into_body()
    }
}

/// Single acknowledgements on their way at once.
const ACKS_AT_ONCE: usize = 512;

/// What to tell the broker about deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// Everything up to and including this token is done.
    AckUpTo(u64),
    /// This one is done.
    Ack(u64),
    /// These are done, each by itself, both ends included: what came before them is not.
    AckEach {
        /// The first token.
        first: u64,
        /// The last token.
        last: u64,
    },
    /// This one cannot be handled. Without `requeue` the broker dead-letters it.
    Reject {
        /// The delivery's token.
        token: u64,
        /// Put it back into the queue.
        requeue: bool,
    },
}

/// A supervised consumer with a connection and a channel of its own.
///
/// Nothing runs unless it is polled: the reconnect happens inside [`Consumer::next`], and a dropped `next` loses nothing.
pub struct Consumer {
    config: Arc<Config>,
    state: State,
    /// The last token handed out.
    token: u64,
    /// Everything up to here was settled with [`Settle::AckUpTo`].
    acked_up_to: u64,
    backoff: Backoff,
    reported: Option<String>,
    watchdog: Watchdog,
    cancelling: bool,
}

struct Config {
    address: Address,
    options: ConsumeOptions,
}

type Opening = Pin<Box<dyn Future<Output = Result<Subscription, AmqpError>> + Send>>;

enum State {
    Opening(Opening),
    Waiting(Pin<Box<Sleep>>),
    Subscribed(Box<Subscription>),
    Cancelled(Option<Box<Subscription>>),
}

struct Subscription {
    stream: LapinConsumer,
    channel: Channel,
    link: Link,
    /// Token = delivery tag + base: tags start at one on every channel, and a channel carries one consumer.
    base: u64,
}

impl Consumer {
    /// A consumer that connects at its first [`Consumer::next`]. Must be called inside a tokio runtime.
    ///
    /// # Panics
    /// With a prefetch of zero, which would leave memory without a bound.
    #[must_use]
    pub fn start(address: Address, options: ConsumeOptions) -> Self {
        assert!(options.prefetch > 0, "prefetch is what bounds a consumer's memory");
        let config = Arc::new(Config { address, options });
        Self {
            state: State::Opening(Box::pin(open(Arc::clone(&config)))),
            config,
            token: 0,
            acked_up_to: 0,
            backoff: Backoff::new(),
            reported: None,
            watchdog: Watchdog::new(),
            cancelling: false,
        }
    }

    /// The next event. Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Event {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event, if it is there already: for batches after a [`Consumer::next`].
    pub fn try_next(&mut self) -> Option<Event> {
        // What does not stand is left to `next`, whose waker must stay with the timers.
        if !matches!(self.state, State::Subscribed(_)) {
            return None;
        }
        match self.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }

    /// Whether a subscription stands, as far as is known.
    #[must_use]
    pub fn subscribed(&self) -> bool {
        matches!(&self.state, State::Subscribed(subscription) if subscription.link.alive())
    }

    /// Settles deliveries. Tokens from before the last [`Event::Lost`], and repeated [`Settle::AckUpTo`], are ignored; any
    /// other token must be settled only once, as AMQP demands. A failure is a lost connection, which `next` reports.
    pub async fn settle(&mut self, settle: Settle) {
        let (State::Subscribed(subscription) | State::Cancelled(Some(subscription))) = &self.state else {
            return;
        };
        if self.config.options.no_ack {
            return;
        }
        if let Settle::AckEach { first, last } = settle {
            let (first, last) = (first.max(subscription.base + 1), last.min(self.token));
            return ack_each(&subscription.channel, subscription.base, first..=last).await;
        }
        let (Settle::AckUpTo(token) | Settle::Ack(token) | Settle::Reject { token, .. }) = settle else {
            return;
        };
        let Some(tag) = token.checked_sub(subscription.base).filter(|tag| *tag > 0 && token <= self.token)
        else {
            return;
        };
        let channel = &subscription.channel;
        let settled = match settle {
            Settle::AckUpTo(_) => {
                if self.acked_up_to >= token {
                    return;
                }
                self.acked_up_to = token;
                channel.basic_ack(tag, BasicAckOptions { multiple: true }).await
            }
            Settle::Ack(_) | Settle::AckEach { .. } => {
                channel.basic_ack(tag, BasicAckOptions::default()).await
            }
            Settle::Reject { requeue, .. } => channel.basic_reject(tag, BasicRejectOptions { requeue }).await,
        };
        if let Err(error) = settled {
            tracing::debug!(%error, "settlement not sent");
        }
    }

    /// Stops deliveries. What has arrived is still handed out and may be settled; then comes [`Event::Cancelled`].
    pub async fn cancel(&mut self) {
        if self.cancelling {
            return;
        }
        self.cancelling = true;
        match &self.state {
            State::Subscribed(subscription) => {
                let tag = subscription.stream.tag();
                let cancelled = subscription.channel.basic_cancel(tag, BasicCancelOptions::default());
                if !matches!(tokio::time::timeout(CLOSE_TIMEOUT, cancelled).await, Ok(Ok(()))) {
                    self.state = State::Cancelled(None);
                }
            }
            _ => self.state = State::Cancelled(None),
        }
    }

    /// Closes channel and connection. Whatever is unsettled goes back to the queue.
    pub async fn close(mut self) {
        let state = std::mem::replace(&mut self.state, State::Cancelled(None));
        if let State::Subscribed(subscription) | State::Cancelled(Some(subscription)) = state {
            let Subscription { stream, channel, link, .. } = *subscription;
            drop(stream);
            link.close(&[channel]).await;
        }
    }

    /// The channel of the standing subscription, for replies that must precede an acknowledgement.
    pub(crate) fn channel(&self) -> Option<&Channel> {
        match &self.state {
            State::Subscribed(subscription) | State::Cancelled(Some(subscription)) => {
                Some(&subscription.channel)
            }
            _ => None,
        }
    }

    /// Whether a token belongs to the standing subscription.
    pub(crate) fn current(&self, token: u64) -> bool {
        match &self.state {
            State::Subscribed(subscription) | State::Cancelled(Some(subscription)) => {
                token > subscription.base
            }
            _ => false,
        }
    }

    /// [`Consumer::next`] for whoever polls many consumers in one task.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            match &mut self.state {
                State::Subscribed(subscription) => match Pin::new(&mut subscription.stream).poll_next(cx) {
                    Poll::Ready(Some(Ok(inner))) => {
                        self.token += 1;
                        debug_assert_eq!(self.token, subscription.base + inner.delivery_tag);
                        let redelivered = inner.redelivered;
                        return Poll::Ready(Event::Delivery(Delivery {
                            token: self.token,
                            redelivered,
                            message: Message::of(inner),
                        }));
                    }
                    Poll::Ready(None) if self.cancelling => return self.cancelled(),
                    Poll::Ready(None) => {
                        return Poll::Ready(self.lost("the broker cancelled the consumer".to_owned()));
                    }
                    Poll::Ready(Some(Err(error))) => {
                        let doing = format!("consume from queue {}", self.config.options.queue);
                        return Poll::Ready(self.lost(AmqpError::of(&error, &doing).chain()));
                    }
                    Poll::Pending => {
                        if self.watchdog.poll(cx).is_pending() {
                            return Poll::Pending;
                        }
                        if !subscription.link.alive() {
                            return Poll::Ready(self.lost("the connection ended silently".to_owned()));
                        }
                    }
                },
                State::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(mut subscription)) => {
                        subscription.base = self.token;
                        self.backoff.connected();
                        self.reported = None;
                        self.state = State::Subscribed(Box::new(subscription));
                        return Poll::Ready(Event::Subscribed);
                    }
                    Poll::Ready(Err(error)) => {
                        let reason = error.chain();
                        let known = self.reported.as_ref() == Some(&reason);
                        let event = self.lost(reason);
                        if !known {
                            return Poll::Ready(event);
                        }
                    }
                },
                State::Waiting(waiting) => match waiting.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => self.state = State::Opening(Box::pin(open(Arc::clone(&self.config)))),
                },
                State::Cancelled(_) if self.cancelling => return self.cancelled(),
                State::Cancelled(_) => return Poll::Pending,
            }
        }
    }

    /// Says [`Event::Cancelled`] once, keeping the channel for settlements.
    fn cancelled(&mut self) -> Poll<Event> {
        self.cancelling = false;
        self.state = match std::mem::replace(&mut self.state, State::Cancelled(None)) {
            State::Subscribed(subscription) => State::Cancelled(Some(subscription)),
            other => other,
        };
        Poll::Ready(Event::Cancelled)
    }

    /// Drops what stands and plans the next attempt.
    fn lost(&mut self, reason: String) -> Event {
        let wait = self.backoff.wait();
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(queue = self.config.options.queue, reason, wait_ms, "not consuming");
        self.state = if self.cancelling { State::Cancelled(None) } else { State::Waiting(sleep(wait)) };
        self.reported = Some(reason.clone());
        Event::Lost { reason }
    }
}

/// Acknowledges tokens one by one, many on their way at once, so that they leave in few writes.
async fn ack_each(channel: &Channel, base: u64, tokens: std::ops::RangeInclusive<u64>) {
    let mut tags = tokens.map(|token| token - base).peekable();
    while tags.peek().is_some() {
        let acks =
            tags.by_ref().take(ACKS_AT_ONCE).map(|tag| channel.basic_ack(tag, BasicAckOptions::default()));
        if let Some(error) = join_all(acks).await.into_iter().find_map(Result::err) {
            tracing::debug!(%error, "acknowledgements not sent");
            return;
        }
    }
}

async fn open(config: Arc<Config>) -> Result<Subscription, AmqpError> {
    let options = &config.options;
    let link = Link::open(&config.address).await?;
    let channel = link.channel().await?;
    declare_on(&channel, &options.topology).await?;
    let queue = if options.queue.is_empty() {
        declare_own_queue(&channel, &options.topology).await?
    } else {
        short("a queue's name", &options.queue)?
    };
    let doing = || format!("consume from queue {}", options.queue);
    channel
        .basic_qos(options.prefetch, BasicQosOptions::default())
        .await
        .map_err(|error| AmqpError::of(&error, &doing()))?;
    let consume = BasicConsumeOptions {
        exclusive: options.exclusive,
        no_ack: options.no_ack,
        ..BasicConsumeOptions::default()
    };
    let tag = short("a consumer tag", &options.consumer_tag)?;
    let stream = channel
        .basic_consume(queue, tag, consume, FieldTable::default())
        .await
        .map_err(|error| AmqpError::of(&error, &doing()))?;
    Ok(Subscription { stream, channel, link, base: 0 })
}
