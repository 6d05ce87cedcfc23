//! The analyzer's loop. One task per subscription talks to the broker and hands over batches; this loop alone tells
//! the machine.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use kinetic_amqp::{Address, ConsumeOptions, Consumer, Event, Outcome, Publisher, RpcClient, Settle};
use kinetic_analyzer::machine::{Analyzer, AnalyzerConfig, Delivery, Effect, Input, RequestId, Slot};
use kinetic_wire::{AlertEvent, AlertId, Envelope, RegionName, SourceKey, Token, encode, names};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::adapter::clock;
use crate::shell::follow::SchemaWatch;
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Telemetry};
use crate::{metrics, topology};

/// Deliveries that the broker may have in flight to one subscription.
const PREFETCH: u16 = 40_000;
/// Deliveries held unsettled for their windows; below `PREFETCH`, so that new ones still come.
pub(crate) const HELD_MAX: usize = 32_768;
/// Series per customer.
pub(crate) const SERIES_MAX: usize = 1_000_000;
/// Deliveries handed to the machine at once.
const BATCH_MAX: usize = 256;
/// Batches that wait for the machine, over all subscriptions.
const BATCHES_MAX: usize = 4;
/// Settlements that wait for one subscription's task.
const SETTLES_MAX: usize = 64;
/// Alert events whose confirm is awaited at once.
const ALERTS_IN_FLIGHT_MAX: usize = 256;
/// Pause before an alert event is published again.
const PUBLISH_RETRY: Duration = Duration::from_millis(500);
/// How often the numbers on `/metrics` are renewed.
pub(crate) const METRICS_INTERVAL: Duration = Duration::from_millis(250);
/// Name of this part on `/metrics` and `/__heartbeat__`.
const PART: &str = "analyzer";

/// What the loop needs.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The machine's configuration.
    pub(crate) config: AnalyzerConfig,
    /// The control vhost, and the login for all vhosts.
    pub(crate) control: Address,
    /// Schema revisions.
    pub(crate) schema: SchemaWatch,
    /// Where numbers go.
    pub(crate) telemetry: Telemetry,
    /// How often they are renewed.
    pub(crate) metrics_interval: Duration,
}

/// What a finished job says.
enum Done {
    Replied { request: RequestId, body: Vec<u8> },
    RequestFailed { request: RequestId },
    Published { id: AlertId },
}

/// What a subscription's task says.
enum FromSlot {
    Batch(Vec<kinetic_amqp::Delivery>),
    Lost,
    Unsubscribed,
}

/// What a subscription's task is told.
enum ToSlot {
    Settle(Settle),
    Unsubscribe,
}

struct Shell {
    control: Address,
    schema: SchemaWatch,
    rpc: RpcClient,
    publisher: Publisher,
    jobs: JoinSet<Done>,
    publishes: std::sync::Arc<tokio::sync::Semaphore>,
    slots: BTreeMap<Slot, mpsc::Sender<ToSlot>>,
    slot_tasks: JoinSet<()>,
    from_slots: mpsc::Sender<(Slot, FromSlot)>,
}

/// Runs until shutdown has drained the machine.
pub(crate) async fn run(setup: Setup, shutdown: Shutdown) -> Result<()> {
    let Setup { config, control, mut schema, telemetry, metrics_interval } = setup;
    let first = schema.borrow_and_update().clone();
    let mut analyzer = Analyzer::new(config, first.schema.clone(), first.id.clone());
    let (from_slots, mut batches) = mpsc::channel(BATCHES_MAX);
    let mut shell = Shell {
        rpc: RpcClient::start(control.clone()),
        publisher: Publisher::start(control.clone(), topology::alerts(), ALERTS_IN_FLIGHT_MAX),
        control,
        schema: schema.clone(),
        jobs: JoinSet::new(),
        publishes: std::sync::Arc::new(tokio::sync::Semaphore::new(ALERTS_IN_FLIGHT_MAX)),
        slots: BTreeMap::new(),
        slot_tasks: JoinSet::new(),
        from_slots,
    };
    let mut effects = Vec::new();
    let mut metrics_due = tokio::time::interval(metrics_interval);
    let mut stopping = false;
    analyzer.handle(clock::now(), Input::Tick, &mut effects);
    loop {
        if shell.perform(&mut effects).await {
            break;
        }
        tokio::select! {
            () = shutdown.wait(), if !stopping => {
                stopping = true;
                analyzer.handle(clock::now(), Input::Shutdown, &mut effects);
            }
            Ok(()) = schema.changed() => {
                let revision = schema.borrow_and_update().clone();
                let input = Input::SchemaChanged { schema: revision.schema.clone(), revision: revision.id.clone() };
                analyzer.handle(clock::now(), input, &mut effects);
            }
            Some((slot, event)) = batches.recv() => tell(&mut analyzer, slot, &event, &mut effects),
            Some(done) = shell.jobs.join_next() => match done? {
                Done::Replied { request, body } => {
                    analyzer.handle(clock::now(), Input::Replied { request, body: &body }, &mut effects);
                }
                Done::RequestFailed { request } => {
                    analyzer.handle(clock::now(), Input::RequestFailed { request }, &mut effects);
                }
                Done::Published { id } => analyzer.handle(clock::now(), Input::Published { id }, &mut effects),
            },
            () = clock::sleep_until(analyzer.next_wakeup()) => {
                analyzer.handle(clock::now(), Input::Tick, &mut effects);
            }
            _ = metrics_due.tick() => {
                telemetry.show(PART, metrics::analyzer(&analyzer.stats(clock::now())));
                telemetry.health(PART, health(&analyzer), clock::now().wall);
            }
        }
    }
    shell.publisher.close().await;
    Ok(())
}

fn health(analyzer: &Analyzer) -> Health {
    if analyzer.is_registered() { Health::Ok } else { Health::Failing("no lease from a redirector".into()) }
}

/// Tells the machine what a subscription's task said; the clock is read once per batch.
fn tell(analyzer: &mut Analyzer, slot: Slot, event: &FromSlot, effects: &mut Vec<Effect>) {
    let now = clock::now();
    match event {
        FromSlot::Batch(batch) => {
            for delivery in batch {
                let delivery = Delivery {
                    slot,
                    token: Token(delivery.token),
                    redelivered: delivery.redelivered,
                    exchange: delivery.exchange(),
                    routing_key: delivery.routing_key(),
                    envelope: delivery.envelope(),
                    body: delivery.body(),
                };
                analyzer.handle(now, Input::Delivery(delivery), effects);
            }
        }
        FromSlot::Lost => analyzer.handle(now, Input::SubscriptionLost { slot }, effects),
        FromSlot::Unsubscribed => analyzer.handle(now, Input::Unsubscribed { slot }, effects),
    }
}

impl Shell {
    /// Performs effects in order; true once the machine has stopped.
    async fn perform(&mut self, effects: &mut Vec<Effect>) -> bool {
        let mut stopped = false;
        for effect in effects.drain(..) {
            match effect {
                Effect::Request { request, kind, body, timeout } => {
                    self.request(request, kind, body, timeout)
                }
                Effect::Subscribe { slot, source, region, epoch } => {
                    tracing::info!(%source, %epoch, "subscribing");
                    self.subscribe(slot, &source, &region);
                }
                Effect::Unsubscribe { slot } => self.tell_slot(slot, ToSlot::Unsubscribe).await,
                Effect::AckUpTo { slot, token } => {
                    self.tell_slot(slot, ToSlot::Settle(Settle::AckUpTo(token.0))).await;
                }
                Effect::AckRange { slot, first, last } => {
                    for token in first.0..=last.0 {
                        self.tell_slot(slot, ToSlot::Settle(Settle::Ack(token))).await;
                    }
                }
                Effect::Reject { slot, token } => {
                    self.tell_slot(slot, ToSlot::Settle(Settle::Reject { token: token.0, requeue: false }))
                        .await;
                }
                Effect::Publish(event) => self.publish(*event),
                Effect::Stopped => stopped = true,
            }
        }
        stopped
    }

    async fn tell_slot(&mut self, slot: Slot, message: ToSlot) {
        if let Some(sender) = self.slots.get(&slot)
            && sender.send(message).await.is_err()
        {
            self.slots.remove(&slot);
        }
    }

    fn request(&mut self, request: RequestId, kind: &'static str, body: Vec<u8>, timeout: Duration) {
        let rpc = self.rpc.clone();
        self.jobs.spawn(async move {
            match rpc.request(names::RPC_EXCHANGE, kind, body, timeout).await {
                Ok(body) => Done::Replied { request, body },
                Err(error) => {
                    tracing::debug!(kind, %error, "no answer from a redirector");
                    Done::RequestFailed { request }
                }
            }
        });
    }

    /// Publishes until the broker has confirmed; the machine holds the deliveries of the window until then.
    fn publish(&mut self, event: AlertEvent) {
        let publisher = self.publisher.clone();
        let publishes = self.publishes.clone();
        self.jobs.spawn(async move {
            let permit = publishes.acquire().await;
            let body = Bytes::from(encode(&event));
            loop {
                let envelope = alert_envelope(&event);
                match publisher.publish(names::ALERTS, names::ALERTS, &envelope, body.clone(), true).await {
                    Ok(Outcome::Confirmed) => break,
                    Ok(Outcome::Unroutable) => tracing::error!("the queue kin.alerts is gone; trying again"),
                    Err(error) => tracing::warn!(%error, "an alert event was not confirmed; trying again"),
                }
                tokio::time::sleep(PUBLISH_RETRY).await;
            }
            drop(permit);
            Done::Published { id: event.id }
        });
    }

    fn subscribe(&mut self, slot: Slot, key: &SourceKey, region: &RegionName) {
        let revision = self.schema.borrow().clone();
        let declared = revision.schema.customers.get(&key.customer).and_then(|customer| {
            let source = customer.sources.get(&key.source)?;
            Some((topology::source(customer, source), revision.schema.regions.get(region)?))
        });
        let Some((topology, region)) = declared else {
            tracing::warn!(source = %key, "granted a source that the schema in force does not know");
            return;
        };
        let address = topology::region_address(&self.control, region);
        let options = ConsumeOptions {
            queue: names::source_queue(key),
            topology,
            prefetch: PREFETCH,
            ..ConsumeOptions::default()
        };
        let (sender, commands) = mpsc::channel(SETTLES_MAX);
        self.slots.insert(slot, sender);
        self.slot_tasks.spawn(serve_slot(
            slot,
            Consumer::start(address, options),
            commands,
            self.from_slots.clone(),
        ));
    }
}

fn alert_envelope(event: &AlertEvent) -> Envelope<'_> {
    Envelope {
        content_type: Some("application/json".into()),
        kind: Some(names::TYPE_ALERT.into()),
        message_id: Some(event.id.to_string().into()),
        persistent: true,
        epoch: Some(event.epoch),
        traceparent: event.traceparent.as_deref().map(Into::into),
        ..Envelope::default()
    }
}

/// One subscription: deliveries to the machine in batches, settlements to the broker. Both at once, so that neither
/// waits for the other.
async fn serve_slot(
    slot: Slot,
    mut consumer: Consumer,
    mut commands: mpsc::Receiver<ToSlot>,
    machine: mpsc::Sender<(Slot, FromSlot)>,
) {
    let mut ready: Option<FromSlot> = None;
    let mut after: Option<FromSlot> = None;
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(ToSlot::Settle(settle)) => consumer.settle(settle).await,
                Some(ToSlot::Unsubscribe) | None => break,
            },
            permit = machine.reserve(), if ready.is_some() => match (permit, ready.take()) {
                (Ok(permit), Some(message)) => {
                    permit.send((slot, message));
                    ready = after.take();
                }
                _ => break,
            },
            event = consumer.next(), if ready.is_none() => (ready, after) = gather(&mut consumer, event),
        }
    }
    consumer.cancel().await;
    consumer.close().await;
    // The machine may be gone, too; then nobody needs to know.
    machine.send((slot, FromSlot::Unsubscribed)).await.ok();
}

/// Everything that is ready now, up to one batch; a loss that came behind it follows it.
fn gather(consumer: &mut Consumer, first: Event) -> (Option<FromSlot>, Option<FromSlot>) {
    let mut batch = Vec::new();
    let mut next = Some(first);
    while let Some(event) = next {
        match event {
            Event::Delivery(delivery) => batch.push(delivery),
            Event::Lost { reason } => {
                tracing::warn!(reason, "subscription lost; it will be taken up again");
                return if batch.is_empty() {
                    (Some(FromSlot::Lost), None)
                } else {
                    (Some(FromSlot::Batch(batch)), Some(FromSlot::Lost))
                };
            }
            Event::Subscribed => tracing::debug!("subscribed"),
            Event::Cancelled => {}
        }
        next = if batch.len() < BATCH_MAX { consumer.try_next() } else { None };
    }
    ((!batch.is_empty()).then_some(FromSlot::Batch(batch)), None)
}
