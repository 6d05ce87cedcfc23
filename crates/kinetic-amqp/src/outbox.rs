//! Publishing on one channel in confirm mode, with each return attributed to the message that it belongs to.
//!
//! lapin hands a returned message to whichever confirm completes first after it, and when one confirm acknowledges many
//! messages their order is arbitrary; an unawaited confirm is worse still. So one owner keeps all of them, and matches
//! returns by what was published.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};

use crate::{AmqpError, Outcome};

/// A message on its way out.
pub(crate) struct Outgoing {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
    pub(crate) mandatory: bool,
}

/// What became of one.
#[derive(Debug)]
pub(crate) enum Fate {
    Done(Outcome),
    /// The broker said no (a full queue with `reject-publish`, or an internal error).
    Nacked,
    /// The channel failed before the confirm came.
    Failed(AmqpError),
}

/// Watches for a channel on which the broker refuses everything.
///
/// RabbitMQ 3.10 goes on refusing on a channel that published to a quorum queue while that had no leader, also when it has long
/// had one again; what a new channel publishes is taken at once. So a channel that is only refused is given up.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    refused: bool,
    taken: bool,
    /// Ticks in a row that saw refusals and nothing else.
    ticks: u32,
}

impl Refusals {
    /// Ticks of the watchdog (a second each) after which a channel is given up.
    const TICKS_MAX: u32 = 2;
    /// What is said then.
    pub(crate) const REASON: &str = "the broker refuses all that we publish; trying another channel";

    pub(crate) fn note(&mut self, fate: &Fate) {
        match fate {
            Fate::Nacked => self.refused = true,
            Fate::Done(_) => self.taken = true,
            Fate::Failed(_) => {}
        }
    }

    /// Once a tick; true when the channel is to be given up.
    pub(crate) fn tick(&mut self) -> bool {
        let Self { refused, taken, .. } = *self;
        self.ticks = match (refused, taken) {
            (_, true) => 0,
            (true, false) => self.ticks + 1,
            (false, false) => self.ticks,
        };
        (self.refused, self.taken) = (false, false);
        self.ticks >= Self::TICKS_MAX
    }
}

/// By what a return is recognised. Messages with equal keys are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    exchange: ShortString,
    routing_key: ShortString,
    message_id: Option<ShortString>,
    correlation_id: Option<ShortString>,
}

struct Sent<T> {
    tag: T,
    /// Only for mandatory messages: no other can come back.
    key: Option<Key>,
    result: lapin::Result<Confirmation>,
}

type InFlight<T> = Pin<Box<dyn Future<Output = Sent<T>> + Send>>;

/// The owner of one confirm-mode channel. `T` says whose message it is.
pub(crate) struct Outbox<T> {
    channel: Channel,
    in_flight: FuturesUnordered<InFlight<T>>,
    /// Returns that no confirmed message has claimed yet; at most as many as there are mandatory messages in flight.
    returned: Vec<Key>,
    /// Decided, not yet handed out.
    decided: VecDeque<(T, Fate)>,
}

impl<T: Send + 'static> Outbox<T> {
    /// Puts the channel into confirm mode.
    pub(crate) async fn open(channel: Channel) -> Result<Self, AmqpError> {
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(|error| AmqpError::of(&error, "confirm what we publish"))?;
        Ok(Self {
            channel,
            in_flight: FuturesUnordered::new(),
            returned: Vec::new(),
            decided: VecDeque::new(),
        })
    }

    /// Messages whose fate has not been handed out.
    pub(crate) fn len(&self) -> usize {
        self.in_flight.len() + self.decided.len()
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Hands a message to the connection. Messages leave in the order of these calls.
    pub(crate) fn publish(&mut self, tag: T, message: Outgoing) {
        let channel = self.channel.clone();
        let Outgoing { exchange, routing_key, properties, body, mandatory } = message;
        let key = mandatory.then(|| Key {
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
            message_id: properties.message_id().clone(),
            correlation_id: properties.correlation_id().clone(),
        });
        // The set polls new futures in the order of their arrival, and lapin queues the frames at the first poll.
        self.in_flight.push(Box::pin(async move {
            let options = BasicPublishOptions { mandatory, immediate: false };
            let result = match channel.basic_publish(exchange, routing_key, options, &body, properties).await
            {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            Sent { tag, key, result }
        }));
    }

    /// The next decided fate; pending as long as none is, also when nothing is in flight.
    pub(crate) fn poll_fate(&mut self, cx: &mut Context<'_>) -> Poll<(T, Fate)> {
        if self.decided.is_empty() {
            self.collect(cx);
        }
        self.decided.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes in everything that is ready before deciding anything: a return that was sent before a confirm has been handed
    /// to a confirm that completed no later, so it is among what is ready here.
    fn collect(&mut self, cx: &mut Context<'_>) {
        let mut ready = Vec::new();
        while let Poll::Ready(Some(sent)) = Pin::new(&mut self.in_flight).poll_next(cx) {
            let Sent { tag, key, result } = sent;
            let (returned, fate) = match result {
                Ok(Confirmation::Ack(returned)) => (returned, Fate::Done(Outcome::Confirmed)),
                Ok(Confirmation::Nack(returned)) => (returned, Fate::Nacked),
                Ok(Confirmation::NotRequested) => (None, Fate::Done(Outcome::Confirmed)),
                Err(error) => (None, Fate::Failed(AmqpError::of(&error, "publish"))),
            };
            if let Some(message) = returned {
                self.returned.push(Key {
                    exchange: message.exchange.clone(),
                    routing_key: message.routing_key.clone(),
                    message_id: message.properties.message_id().clone(),
                    correlation_id: message.properties.correlation_id().clone(),
                });
            }
            ready.push((tag, key, fate));
        }
        for (tag, key, fate) in ready {
            let back = key.and_then(|key| self.returned.iter().position(|returned| *returned == key));
            let fate = match (back, fate) {
                (Some(at), fate) => {
                    self.returned.swap_remove(at);
                    match fate {
                        Fate::Failed(_) => fate,
                        _ => Fate::Done(Outcome::Unroutable),
                    }
                }
                (None, fate) => fate,
            };
            self.decided.push_back((tag, fate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_given_up_when_it_is_only_refused() {
        let (no, yes) = (Fate::Nacked, Fate::Done(Outcome::Confirmed));
        let given_up = |seconds: &[&[&Fate]]| {
            let mut refusals = Refusals::default();
            seconds.iter().any(|fates| {
                fates.iter().for_each(|fate| refusals.note(fate));
                refusals.tick()
            })
        };
        assert!(given_up(&[&[&no], &[&no, &no]]));
        assert!(given_up(&[&[&no], &[], &[], &[&no]]), "what is published seldom counts as well");
        assert!(given_up(&[&[&yes], &[&no], &[&no]]), "also one that has been good");
        assert!(!given_up(&[&[&no], &[&no, &yes], &[&no], &[&yes]]), "a queue that is full now and then");
        assert!(!given_up(&[&[], &[], &[], &[&no]]));
        assert!(!given_up(&[&[&no], &[], &[], &[]]), "one refusal counts once");
        assert!(!given_up(&[&[&no], &[&yes], &[&no]]), "and not beyond what was taken");
        let unroutable = Fate::Done(Outcome::Unroutable);
        assert!(!given_up(&[&[&no], &[&no, &unroutable], &[&no]]), "what comes back was taken");
        let failed = || Fate::Failed(AmqpError::Lost { reason: "gone".to_owned() });
        assert!(!given_up(&[&[&failed()], &[&failed()], &[&failed()]]), "not refused, but lost");
    }
}
