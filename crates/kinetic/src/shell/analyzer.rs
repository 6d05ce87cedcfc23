//! The analyzer's loop: all subscriptions are polled here, and what is ready goes straight to the machine.

mod evacuation;
mod partials;
mod snapshots;
mod subscription;
mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use kinetic_amqp::{Address, ConsumeOptions, Consumer, Event, Outcome, Publisher, RpcClient, Settle};
use kinetic_analyzer::machine::{Analyzer, AnalyzerConfig, Effect, Input, RequestId, Revision, Slot};
use kinetic_schema::schema::QueueType;
use kinetic_wire::{AlertEvent, AlertId, Envelope, RegionName, Role, SourceKey, Token, encode, names};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use self::evacuation::{Cart, Parcel};
use self::snapshots::Snapshots;
pub(crate) use self::subscription::read;
use self::subscription::{Chore, Subscription, Subscriptions};
use self::witness::{Change, Witness};

use crate::adapter::clock;
use crate::shell::alive;
use crate::shell::follow::SchemaWatch;
use crate::shell::trace::Voice;
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Telemetry};
use crate::{metrics, topology};

/// Deliveries that the broker may have in flight to one subscription.
pub(crate) const PREFETCH: u16 = 40_000;
/// Deliveries held unsettled for their windows; below `PREFETCH`, so that new ones still come.
pub(crate) const HELD_MAX: usize = 32_768;
/// Series per customer.
pub(crate) const SERIES_MAX: usize = 1_000_000;
/// Series of all customers, about 1 GB; from then on each customer may have its share of them and no more.
pub(crate) const SERIES_TOTAL_MAX: usize = 4_000_000;
/// Alert events whose confirm is awaited at once.
const ALERTS_IN_FLIGHT_MAX: usize = 256;
/// Pause before an alert event is published again.
const PUBLISH_RETRY: Duration = Duration::from_millis(500);
/// How often the numbers on `/metrics` are renewed.
pub(crate) const METRICS_INTERVAL: Duration = Duration::from_millis(250);
/// Name of this part on `/metrics` and `/__heartbeat__`.
pub(crate) const PART: &str = "analyzer";

/// What the loop needs.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The machine's configuration.
    pub(crate) config: AnalyzerConfig,
    /// The control vhost, and the login for all vhosts.
    pub(crate) control: Address,
    /// How the queues of the control vhost are kept.
    pub(crate) queues: QueueType,
    /// Schema revisions.
    pub(crate) schema: SchemaWatch,
    /// Where numbers go.
    pub(crate) telemetry: Telemetry,
    /// How often they are renewed.
    pub(crate) metrics_interval: Duration,
}

/// What a finished job says.
enum Done {
    Replied {
        request: RequestId,
        body: Vec<u8>,
        took: Duration,
    },
    RequestFailed {
        request: RequestId,
    },
    Published {
        id: AlertId,
    },
    Unsubscribed {
        slot: Slot,
    },
    Read {
        slot: Slot,
        snapshots: Vec<Vec<u8>>,
    },
    Kept {
        slot: Slot,
        seq: u64,
    },
    Unbound {
        slot: Slot,
    },
    Carried {
        slot: Slot,
        tokens: Vec<Token>,
    },
    Discarded {
        slot: Slot,
        is_empty: bool,
    },
    ProbeDue {
        slot: Slot,
        number: u64,
    },
    /// Bindings of another number of parts are gone.
    Tidied,
    WitnessPut,
}

struct Shell {
    control: Address,
    schema: SchemaWatch,
    rpc: RpcClient,
    publisher: Publisher,
    /// On test events.
    voice: Voice,
    jobs: JoinSet<Done>,
    publishes: Arc<Semaphore>,
    subscriptions: Subscriptions,
    snapshots: Snapshots,
    witness: Witness,
    /// How long the last answered request took.
    round_trip: Duration,
    /// Snapshots on their way, or there.
    keeping: BTreeMap<Slot, AbortHandle>,
    /// What is carried to another region.
    carts: BTreeMap<Slot, Arc<Cart>>,
}

/// Runs until shutdown has drained the machine.
pub(crate) async fn run(setup: Setup, shutdown: Shutdown) -> Result<()> {
    let Setup { config, control, queues, mut schema, telemetry, metrics_interval } = setup;
    // The redirector declares this as well; whoever comes first. Without a broker there is nothing to do yet.
    tokio::select! {
        () = shutdown.wait() => return Ok(()),
        () = super::redirector::declare(control.clone(), topology::kept(topology::rpc(), queues)) => {}
    }
    let alive = alive::start(&control, config.node.clone(), Role::Analyzer, config.inc);
    let first = schema.borrow_and_update().clone();
    let mut shell = Shell::start(control, queues, schema.clone(), &config);
    let mut analyzer = Analyzer::new(config, first.schema.clone(), named(&first));
    let mut effects = Vec::new();
    let mut metrics_due = tokio::time::interval(metrics_interval);
    let mut stopping = false;
    analyzer.handle(clock::now(), Input::Tick, &mut effects);
    loop {
        alive.turned();
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
                let input = Input::SchemaChanged { schema: revision.schema.clone(), revision: named(&revision) };
                analyzer.handle(clock::now(), input, &mut effects);
            }
            (index, event) = shell.subscriptions.next() => {
                shell.subscriptions.tell(&mut analyzer, index, event, &mut effects).await;
                shell.see_to_chores(&mut analyzer, &mut effects);
            },
            _ = shell.rpc.pushed() => analyzer.handle(clock::now(), Input::Nudged, &mut effects),
            event = shell.witness.next() => {
                if let Some(stands) = shell.witnessed(event).await {
                    analyzer.handle(clock::now(), Input::WitnessChanged { stands }, &mut effects);
                }
            },
            Some(done) = shell.jobs.join_next() => match done {
                Ok(done) => shell.done(&mut analyzer, done, &mut effects),
                // Knocking, or a snapshot of a source that was let go.
                Err(ended) if ended.is_cancelled() => {}
                Err(ended) => return Err(ended.into()),
            },
            () = clock::sleep_until(analyzer.next_wakeup()) => {
                analyzer.handle(clock::now(), Input::Tick, &mut effects);
            }
            _ = metrics_due.tick() => {
                let mut numbers = metrics::analyzer(&analyzer.stats(clock::now()));
                numbers.push(metrics::publish_blocked(shell.is_blocked()));
                numbers.push(metrics::round_trip(shell.round_trip));
                telemetry.show(PART, numbers);
                telemetry.health(PART, health(&analyzer), clock::now().wall);
                alive.listens(|max| analyzer.listening(clock::now(), max));
                alive.breaches(|max| analyzer.breaches(clock::now(), max));
            }
        }
    }
    alive.bye().await;
    shell.witness.close().await;
    shell.publisher.close().await;
    shell.snapshots.close().await;
    Ok(())
}

fn named(revision: &super::follow::Revision) -> Revision {
    Revision { id: revision.id.clone(), generation: revision.generation }
}

fn health(analyzer: &Analyzer) -> Health {
    if analyzer.is_serving(clock::now()) {
        Health::Ok
    } else {
        Health::Failing("no lease from a redirector".into())
    }
}

impl Shell {
    fn start(control: Address, queues: QueueType, schema: SchemaWatch, config: &AnalyzerConfig) -> Self {
        let alerts = topology::kept(topology::alerts(), queues);
        let publisher = Publisher::start(control.clone(), alerts, ALERTS_IN_FLIGHT_MAX);
        Self {
            witness: Witness::start(control.clone(), &config.node),
            rpc: RpcClient::start(control.clone()),
            voice: Voice::start(publisher.clone()),
            publisher,
            control,
            schema,
            jobs: JoinSet::new(),
            publishes: Arc::new(Semaphore::new(ALERTS_IN_FLIGHT_MAX)),
            subscriptions: Subscriptions::default(),
            snapshots: Snapshots::default(),
            round_trip: Duration::ZERO,
            keeping: BTreeMap::new(),
            carts: BTreeMap::new(),
        }
    }

    /// Some broker takes no publishes for now.
    fn is_blocked(&self) -> bool {
        self.publisher.status().blocked || self.snapshots.is_blocked()
    }

    /// Something has happened to the witness. Returns whether it stands now, if that has changed.
    async fn witnessed(&mut self, event: Event) -> Option<bool> {
        match self.witness.take(event).await {
            Change::Nothing => None,
            Change::Subscribed => {
                let put = self.witness.put(&self.publisher);
                self.jobs.spawn(async move {
                    put.await;
                    Done::WitnessPut
                });
                None
            }
            Change::Stands(stands) => Some(stands),
        }
    }

    /// Tells the machine what a finished job says.
    fn done(&mut self, analyzer: &mut Analyzer, done: Done, effects: &mut Vec<Effect>) {
        let now = clock::now();
        let input = match &done {
            Done::Replied { request, body, took } => {
                self.round_trip = *took;
                Input::Replied { request: *request, body }
            }
            Done::RequestFailed { request } => Input::RequestFailed { request: *request },
            Done::Published { id } => Input::Published { id: *id },
            Done::Unsubscribed { slot } => Input::Unsubscribed { slot: *slot },
            Done::Kept { slot, seq } => Input::Kept { slot: *slot, seq: *seq },
            Done::ProbeDue { slot, number } => {
                let waits = self.subscriptions.get_mut(*slot).is_some_and(|slot| slot.gives_up(*number));
                if !waits {
                    return;
                }
                Input::Probed { slot: *slot, ok: false }
            }
            Done::Unbound { slot } => Input::Unbound { slot: *slot },
            Done::Carried { slot, tokens } => {
                for &token in tokens {
                    analyzer.handle(now, Input::Carried { slot: *slot, token }, effects);
                }
                return;
            }
            Done::Discarded { slot, is_empty } => Input::Discarded { slot: *slot, is_empty: *is_empty },
            Done::WitnessPut | Done::Tidied => return,
            Done::Read { slot, snapshots } => {
                return self.subscriptions.open(analyzer, *slot, snapshots, effects);
            }
        };
        analyzer.handle(now, input, effects);
    }

    /// Does what subscriptions need.
    fn see_to_chores(&mut self, analyzer: &mut Analyzer, effects: &mut Vec<Effect>) {
        while let Some(chore) = self.subscriptions.chore() {
            let (Chore::Knock(slot) | Chore::Read(slot) | Chore::Answered(slot)) = chore;
            let Some(subscription) = self.subscriptions.get_mut(slot) else { continue };
            match chore {
                Chore::Knock(_) => {
                    let publisher = self.snapshots.publisher(&subscription.region);
                    let queue = names::source_queue(&subscription.source);
                    let task = self.jobs.spawn(snapshots::knock(publisher, queue));
                    subscription.knocks_by(task);
                }
                Chore::Read(_) => {
                    let read = self.snapshots.read(&subscription.region, &subscription.source);
                    self.jobs.spawn(async move { Done::Read { slot, snapshots: read.await } });
                }
                Chore::Answered(_) => {
                    analyzer.handle(clock::now(), Input::Probed { slot, ok: true }, effects)
                }
            }
        }
    }

    /// Performs effects in order; true once the machine has stopped.
    async fn perform(&mut self, effects: &mut Vec<Effect>) -> bool {
        let mut stopped = false;
        let mut parcels: BTreeMap<Slot, (SourceKey, RegionName, Vec<Parcel>)> = BTreeMap::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Request { request, kind, body, timeout } => {
                    self.request(request, kind, body, timeout)
                }
                Effect::Subscribe { slot, source, region, epoch } => {
                    tracing::info!(%source, %epoch, "subscribing");
                    self.subscribe(slot, &source, &region);
                }
                Effect::Evacuate { slot, source, from, to, .. } => self.evacuate(slot, &source, &from, &to),
                Effect::Carry { slot, token, source, to, is_partial, envelope, body } => {
                    let parcel = Parcel { token, is_partial, envelope: *envelope, body: body.into() };
                    parcels.entry(slot).or_insert_with(|| (source, to, Vec::new())).2.push(parcel);
                }
                Effect::Discard { slot, source, region } => self.discard(slot, &source, &region),
                Effect::Unsubscribe { slot } => self.unsubscribe(slot),
                Effect::AckUpTo { slot, token } => {
                    self.subscriptions.settle(slot, Settle::AckUpTo(token.0)).await
                }
                Effect::AckRange { slot, first, last } => {
                    let settle = Settle::AckEach { first: first.0, last: last.0 };
                    self.subscriptions.settle(slot, settle).await;
                }
                Effect::Reject { slot, token } => {
                    self.subscriptions.settle(slot, Settle::Reject { token: token.0, requeue: false }).await;
                }
                Effect::Keep { slot, seq, source, region, epoch, body } => {
                    let keep = self.snapshots.keep(&region, &source, epoch, body);
                    let task = self.jobs.spawn(async move {
                        keep.await;
                        Done::Kept { slot, seq }
                    });
                    self.keeping.insert(slot, task);
                }
                Effect::Forward { id, region, partial } => {
                    let forward = partials::forward(self.snapshots.publisher(&region), partial);
                    self.jobs.spawn(async move {
                        forward.await;
                        Done::Published { id }
                    });
                }
                Effect::Probe { slot, timeout } => self.probe(slot, timeout),
                Effect::Publish(event) => self.publish(*event),
                Effect::Trace(stage) => self.voice.say(stage),
                Effect::Stopped => stopped = true,
            }
        }
        for (slot, (source, to, parcels)) in parcels {
            self.carry(slot, &source, &to, parcels);
        }
        stopped
    }

    /// Sends a message through a source's queue; it is back in time, or not.
    fn probe(&mut self, slot: Slot, timeout: Duration) {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        // Nobody else's probe has this number, so that it is known for ours. A header carries 63 bits of it.
        let number = rand::random::<u64>() >> 1;
        subscription.probes(number);
        let publisher = self.snapshots.publisher(&subscription.region);
        let queue = names::source_queue(&subscription.source);
        self.jobs.spawn(async move {
            let sent = snapshots::probe(&publisher, &queue, Some(number));
            let due = tokio::time::sleep(timeout);
            // Who stops waiting takes back what has not left yet.
            tokio::pin!(due);
            tokio::select! {
                () = &mut due => {}
                () = sent => due.await,
            }
            Done::ProbeDue { slot, number }
        });
    }

    /// Settlements asked for before are on their way on the same channel, ahead of the cancel.
    fn unsubscribe(&mut self, slot: Slot) {
        if let Some(task) = self.keeping.remove(&slot) {
            task.abort();
        }
        self.carts.remove(&slot).into_iter().for_each(|cart| cart.stop());
        let Some(subscription) = self.subscriptions.take(slot) else { return };
        let mut consumer = subscription.into_consumer();
        self.jobs.spawn(async move {
            consumer.cancel().await;
            consumer.close().await;
            Done::Unsubscribed { slot }
        });
    }

    fn request(&mut self, request: RequestId, kind: &'static str, body: Vec<u8>, timeout: Duration) {
        let (rpc, asked) = (self.rpc.clone(), clock::now().mono);
        self.jobs.spawn(async move {
            match rpc.request(names::RPC_EXCHANGE, kind, body, timeout).await {
                Ok(body) => Done::Replied { request, body, took: clock::now().mono.since(asked) },
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
            let region = revision.schema.regions.get(region)?;
            let queues = topology::queues_of(&revision.schema, &region.vhost);
            let mut topology = topology::source(customer, source);
            topology.queues.push(topology::snapshots(key));
            // Of a part that the source no longer has, only the queue.
            topology.queues.push(topology::source_queue(names::source_queue(key), &key.customer, source));
            let may_be_left = source.partitions > 1 || key.part > 0;
            let leftovers = may_be_left.then(|| topology::leftovers(customer, source));
            Some((topology::kept(topology, queues), region, queues, leftovers))
        });
        let Some((topology, declared, queues, leftovers)) = declared else {
            tracing::warn!(source = %key, "granted a source that the schema in force does not know");
            return;
        };
        let address = topology::region_address(&self.control, declared);
        self.snapshots.reach(region, &address, queues);
        if let Some(leftovers) = leftovers {
            self.jobs.spawn(partials::tidy(address.clone(), topology.clone(), leftovers));
        }
        let options = ConsumeOptions {
            queue: names::source_queue(key),
            topology,
            prefetch: PREFETCH,
            ..ConsumeOptions::default()
        };
        let consumer = Consumer::start(address, options);
        self.subscriptions.add(Subscription::new(slot, key.clone(), region.clone(), consumer));
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
