//! The leader's token: one message in `kin.leader`, held by who leads (docs/adr/0005).
//!
//! ```text
//! kin.leader   [T5]      delivered to us ──▶ Elected{5}     machine: Store{6}
//!              [T5 T6]   published, confirmed               (file first)
//!              [T5 T6]   T6 delivered to us as well ──▶ Stored{6}, and T5 is acknowledged
//! ```
//! A stored number is believed only when our own token has come back: that proves that tokens were still delivered to us after
//! it had been published. Whoever is elected next is delivered every token before the first of its own, so it knows of every
//! number that we may have said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_amqp::{Address, ConsumeOptions, Consumer, Delivery, Event, Outcome, Publisher, Settle};
use kinetic_redirector::machine::{Input, Stored};
use kinetic_schema::schema::QueueType;
use kinetic_wire::{Envelope, Epoch, LeaderToken, NodeId, Term, decode, encode, names};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::adapter::file;
use crate::topology;

/// Tokens held at once; the rest wait in the queue until some are acknowledged.
const PREFETCH: u16 = 64;
/// Settled tokens of ours that are still recognised.
const PAST_MAX: usize = 64;
/// Pause before a token is published, or the file written, again.
const RETRY: Duration = Duration::from_millis(500);

/// What the loop is told.
#[derive(Debug)]
pub(super) enum Told {
    /// A token that is not of our own making came.
    Elected(Stored),
    /// Tokens are not delivered to us any more.
    Deposed,
    /// It is on disk, and its token has come back.
    Stored(Stored),
}

impl Told {
    /// As the machine is told it.
    pub(super) fn into_input(self) -> Input<'static> {
        match self {
            Self::Elected(stored) => Input::Elected { stored },
            Self::Deposed => Input::Deposed,
            Self::Stored(stored) => Input::Stored { stored },
        }
    }
}

/// What the loop wants.
#[derive(Debug)]
pub(super) enum Order {
    /// Write and publish this.
    Store(Stored),
    /// Give back what is held, and queue up anew.
    Resign,
}

/// Of a token of our own.
#[derive(Debug)]
struct Own {
    stored: Stored,
    confirmed: bool,
    /// Delivery by which it came back.
    delivered: Option<u64>,
}

pub(super) struct Tokens {
    control: Address,
    queues: QueueType,
    node: NodeId,
    state_file: PathBuf,
    /// What is in the file.
    disk: Stored,
    publisher: Publisher,
    consumer: Consumer,
    /// Deliveries that are not acknowledged, with what they say.
    held: BTreeMap<u64, Stored>,
    /// Tokens that were stored since our election, by message id.
    own: BTreeMap<Uuid, Own>,
    /// Tokens of ours that are settled or given up, the last few: a copy may still come.
    past: BTreeSet<Uuid>,
    /// A token was delivered since we last queued up.
    elected: bool,
    /// What is to be written, in order; the first is being written.
    writing: VecDeque<(Uuid, Stored)>,
    writes: JoinSet<()>,
    jobs: JoinSet<Result<Done>>,
}

enum Done {
    /// A token is confirmed.
    Confirmed(Uuid),
    /// The token of our start is in the queue.
    Introduced,
}

impl Tokens {
    /// `publisher` declares the leader's queue.
    pub(super) fn new(
        control: &Address,
        queues: QueueType,
        publisher: Publisher,
        node: NodeId,
        state_file: PathBuf,
        disk: Stored,
    ) -> Self {
        Self {
            publisher,
            consumer: consumer(control, queues),
            control: control.clone(),
            queues,
            node,
            state_file,
            disk,
            held: BTreeMap::new(),
            own: BTreeMap::new(),
            past: BTreeSet::new(),
            elected: false,
            writing: VecDeque::new(),
            writes: JoinSet::new(),
            jobs: JoinSet::new(),
        }
    }

    /// Works until nobody gives orders any more; then gives everything back.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>, told: mpsc::Sender<Told>) {
        loop {
            let news = tokio::select! {
                event = self.consumer.next() => self.event(event).await,
                order = orders.recv() => match order {
                    Some(Order::Store(stored)) => {
                        self.store(stored);
                        None
                    }
                    Some(Order::Resign) => {
                        self.forget();
                        // Dropped, not closed: the broker has its connection's end at once.
                        self.consumer = consumer(&self.control, self.queues);
                        None
                    }
                    None => break,
                },
                Some(_) = self.writes.join_next() => {
                    self.written();
                    None
                }
                Some(done) = self.jobs.join_next() => match done {
                    Ok(Ok(done)) => self.done(done).await,
                    Ok(Err(error)) => {
                        tracing::error!(error = format!("{error:#}"), "a token could not be stored");
                        None
                    }
                    Err(_) => None,
                },
            };
            if let Some(news) = news
                && told.send(news).await.is_err()
            {
                break;
            }
        }
        self.jobs.shutdown().await;
        self.consumer.close().await;
    }

    /// Nothing is ours any more.
    fn forget(&mut self) {
        self.held.clear();
        self.elected = false;
        for id in std::mem::take(&mut self.own).into_keys() {
            self.settled(id);
        }
        self.jobs.abort_all();
    }

    /// A token of ours of which nothing more is to be said.
    fn settled(&mut self, id: Uuid) {
        self.past.insert(id);
        if self.past.len() > PAST_MAX {
            self.past.pop_first();
        }
    }

    async fn event(&mut self, event: Event) -> Option<Told> {
        match event {
            Event::Subscribed => {
                // There must always be a token: whoever is elected by ours knows at least what our disk says.
                let stored = self.disk.clone();
                let publish = publish(self.publisher.clone(), self.node.clone(), stored, Uuid::now_v7());
                self.jobs.spawn(async move {
                    publish.await?;
                    Ok(Done::Introduced)
                });
                None
            }
            Event::Lost { reason } => {
                tracing::warn!(reason, "no token is delivered to us");
                self.forget();
                Some(Told::Deposed)
            }
            Event::Cancelled => None,
            Event::Delivery(delivery) => self.delivered(&delivery).await,
        }
    }

    async fn delivered(&mut self, delivery: &Delivery) -> Option<Told> {
        let token = match decode::<LeaderToken>(delivery.body()) {
            Ok(token) if token.v == 1 => token,
            _ => {
                tracing::error!("a message in kin.leader is no token; removing it");
                self.consumer.settle(Settle::Ack(delivery.token)).await;
                return None;
            }
        };
        let stored = Stored { term: token.term, epoch_max: token.epoch_max };
        self.held.insert(delivery.token, stored.clone());
        let id = delivery.envelope().message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
        if let Some(own) = id.and_then(|id| self.own.get_mut(&id)) {
            let again = own.delivered.replace(delivery.token).is_some();
            let news = (own.confirmed && !again).then(|| Told::Stored(own.stored.clone()));
            self.tidy().await;
            return news;
        }
        self.tidy().await;
        // A copy of what we have settled in this very term says nothing new; without a token, we are elected by any.
        let known = self.elected && id.is_some_and(|id| self.past.contains(&id));
        self.elected = true;
        (!known).then_some(Told::Elected(stored))
    }

    /// Acknowledges what a newer token of ours, safe with the broker and delivered to us, says as well.
    async fn tidy(&mut self) {
        let own = self.own.values().filter(|own| own.confirmed).filter_map(|own| own.delivered);
        let Some(newest) = own.max() else { return };
        let Some(says) = self.held.get(&newest).cloned() else { return };
        let covered = |stored: &Stored| stored.term <= says.term && stored.epoch_max <= says.epoch_max;
        let older: Vec<u64> = self
            .held
            .iter()
            .filter(|(token, stored)| **token != newest && covered(stored))
            .map(|(token, _)| *token)
            .collect();
        for token in older {
            self.held.remove(&token);
            self.consumer.settle(Settle::Ack(token)).await;
        }
        let done = |own: &Own| own.confirmed && own.delivered.is_some_and(|token| token < newest);
        let done: Vec<Uuid> = self.own.iter().filter(|(_, own)| done(own)).map(|(id, _)| *id).collect();
        for id in done {
            self.own.remove(&id);
            self.settled(id);
        }
    }

    /// The file first, then the token: a token that has come back is on the disk of who published it.
    fn store(&mut self, stored: Stored) {
        let id = Uuid::now_v7();
        self.own.insert(id, Own { stored: stored.clone(), confirmed: false, delivered: None });
        self.writing.push_back((id, stored));
        if self.writing.len() == 1 {
            self.write_next();
        }
    }

    /// One at a time, so that the last one stands.
    fn write_next(&mut self) {
        if let Some((_, stored)) = self.writing.front() {
            self.writes.spawn(write(self.state_file.clone(), stored.clone()));
        }
    }

    fn written(&mut self) {
        let Some((id, stored)) = self.writing.pop_front() else { return };
        self.disk = stored.clone();
        self.write_next();
        if self.own.contains_key(&id) {
            let publish = publish(self.publisher.clone(), self.node.clone(), stored, id);
            self.jobs.spawn(async move {
                publish.await?;
                Ok(Done::Confirmed(id))
            });
        }
    }

    async fn done(&mut self, done: Done) -> Option<Told> {
        match done {
            Done::Introduced => None,
            Done::Confirmed(id) => {
                let own = self.own.get_mut(&id)?;
                own.confirmed = true;
                let news = own.delivered.map(|_| Told::Stored(own.stored.clone()));
                self.tidy().await;
                news
            }
        }
    }
}

fn consumer(control: &Address, queues: QueueType) -> Consumer {
    let options = ConsumeOptions {
        queue: names::LEADER_QUEUE.to_owned(),
        topology: topology::kept(topology::leader(), queues),
        prefetch: PREFETCH,
        ..ConsumeOptions::default()
    };
    Consumer::start(control.clone(), options)
}

/// Publishes a token until it is confirmed.
async fn publish(publisher: Publisher, node: NodeId, stored: Stored, id: Uuid) -> Result<()> {
    let body = encode(&LeaderToken { v: 1, term: stored.term, epoch_max: stored.epoch_max, node });
    let id = id.to_string();
    loop {
        let envelope = Envelope {
            content_type: Some("application/json".into()),
            kind: Some(names::TYPE_TOKEN.into()),
            message_id: Some(id.as_str().into()),
            persistent: true,
            ..Envelope::default()
        };
        match publisher.publish("", names::LEADER_QUEUE, &envelope, body.clone(), true).await {
            Ok(Outcome::Confirmed) => return Ok(()),
            Ok(Outcome::Unroutable) => tracing::warn!("the queue kin.leader is gone; trying again"),
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "the leader's token was not confirmed; trying again");
            }
            Err(error) => return Err(error).context("the leader's token was not published"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Writes until it has worked: nothing that depends on the state is said before.
async fn write(path: PathBuf, stored: Stored) {
    let text = format!("{{\"term\":{},\"epoch_max\":{}}}\n", stored.term, stored.epoch_max);
    loop {
        let (path, text) = (path.clone(), text.clone());
        let written =
            tokio::task::spawn_blocking(move || file::write_atomically(&path, text.as_bytes())).await;
        match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "cannot store the redirector's term and epochs"
                );
            }
            Err(error) => tracing::error!(%error, "storing failed"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What the last run stored.
pub(super) fn load(path: &Path) -> Result<Stored> {
    #[derive(serde::Deserialize)]
    struct File {
        term: Term,
        epoch_max: Epoch,
    }
    if !path.exists() {
        return Ok(Stored::default());
    }
    let file: File = serde_json::from_str(&file::read_text(path)?).with_context(|| {
        format!("{} is damaged: restore it, or remove it after all analyzers have stopped", path.display())
    })?;
    Ok(Stored { term: file.term, epoch_max: file.epoch_max })
}
