//! Snapshots to and from the regions' brokers, and messages of this node to itself through a source's queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kinetic_amqp::{Address, Outcome, Publisher, Topology, declare, peek};
use kinetic_schema::schema::QueueType;
use kinetic_wire::{Envelope, Epoch, RegionName, SourceKey, names};
use tokio::sync::{Mutex, Semaphore};

use super::subscription::{KNOCK_AGAIN, KNOCK_FIRST, KNOCK_MAX};
use crate::topology;

/// Snapshots and probes of one region that await their confirm at once.
const IN_FLIGHT_MAX: usize = 64;
/// Snapshot queues that are read at once: each costs a connection.
const READS_MAX: usize = 16;
/// Messages of a snapshot queue that are looked at; it holds fewer.
const LOOK_MAX: usize = 2 * topology::SNAPSHOTS_MAX as usize;
/// An empty queue is looked at once more after this long: a process that has just died may have been reading it.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Pause after a failure; doubles up to the longest.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest pause after failures.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// One region's broker.
struct Reach {
    address: Address,
    /// How its queues are kept.
    queues: QueueType,
    publisher: Publisher,
}

/// The regions' brokers.
pub(super) struct Snapshots {
    regions: BTreeMap<RegionName, Reach>,
    reads: Arc<Semaphore>,
    /// Who reads holds the messages meanwhile; a second reader would find nothing.
    readers: BTreeMap<SourceKey, Arc<Mutex<()>>>,
}

impl Default for Snapshots {
    fn default() -> Self {
        let reads = Arc::new(Semaphore::new(READS_MAX));
        Self { regions: BTreeMap::new(), reads, readers: BTreeMap::new() }
    }
}

impl Snapshots {
    /// Makes a region's broker known. A new address takes the place of the old one.
    pub(super) fn reach(&mut self, region: &RegionName, address: &Address, queues: QueueType) {
        if self.regions.get(region).is_some_and(|reach| reach.address == *address && reach.queues == queues) {
            return;
        }
        let publisher = Publisher::start(address.clone(), Topology::default(), IN_FLIGHT_MAX);
        self.regions.insert(region.clone(), Reach { address: address.clone(), queues, publisher });
    }

    fn region(&self, region: &RegionName) -> &Reach {
        self.regions.get(region).expect("a region is reached before its first subscription")
    }

    /// Some region's broker takes no publishes for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.regions.values().any(|reach| reach.publisher.status().blocked)
    }

    pub(super) fn publisher(&self, region: &RegionName) -> Publisher {
        self.region(region).publisher.clone()
    }

    /// Publishes a snapshot until the broker has confirmed it.
    pub(super) fn keep(
        &self,
        region: &RegionName,
        source: &SourceKey,
        epoch: Epoch,
        body: Vec<u8>,
    ) -> impl Future<Output = ()> + use<> {
        let Reach { address, queues, publisher } = self.region(region);
        let (address, publisher) = (address.clone(), publisher.clone());
        let queue = topology::snapshots(source);
        let topology = Topology { queues: vec![queue.clone()], ..Topology::default() };
        let topology = topology::kept(topology, *queues);
        let body = Bytes::from(body);
        async move {
            let envelope = Envelope {
                content_type: Some("application/json".into()),
                kind: Some(names::TYPE_SNAPSHOT.into()),
                persistent: true,
                epoch: Some(epoch),
                ..Envelope::default()
            };
            let mut wait = RETRY_MIN;
            loop {
                match publisher.publish("", &queue.name, &envelope, body.clone(), true).await {
                    Ok(Outcome::Confirmed) => return,
                    Ok(Outcome::Unroutable) => {
                        tracing::warn!(queue = queue.name, "the snapshot queue is gone; it is made again");
                        if let Err(error) = declare(&address, &topology).await {
                            tracing::warn!(queue = queue.name, %error, "cannot make the snapshot queue");
                        }
                    }
                    Err(error) => tracing::warn!(%error, "a snapshot was not confirmed; trying again"),
                }
                tokio::time::sleep(wait).await;
                wait = RETRY_MAX.min(wait * 2);
            }
        }
    }

    /// Reads what was kept of a source, until that succeeds.
    pub(super) fn read(
        &mut self,
        region: &RegionName,
        source: &SourceKey,
    ) -> impl Future<Output = Vec<Vec<u8>>> + use<> {
        let address = self.region(region).address.clone();
        let queue = names::snapshot_queue(source);
        let reader = Arc::clone(self.readers.entry(source.clone()).or_default());
        let reads = Arc::clone(&self.reads);
        async move {
            let _alone = reader.lock().await;
            let _permit = reads.acquire().await;
            let mut wait = RETRY_MIN;
            let mut looked = false;
            loop {
                match peek(&address, &queue, LOOK_MAX).await {
                    Ok(found) if found.is_empty() && !looked => {
                        looked = true;
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                    Ok(found) => return found.into_iter().map(|message| message.into_body()).collect(),
                    Err(error) => {
                        tracing::warn!(queue, %error, "cannot read what was kept of a source; trying again");
                        tokio::time::sleep(wait).await;
                        wait = RETRY_MAX.min(wait * 2);
                    }
                }
            }
        }
    }

    /// Awaits the confirms of what was accepted, and closes the connections.
    pub(super) async fn close(self) {
        for (_, reach) in self.regions {
            reach.publisher.close().await;
        }
    }
}

/// Sends this node a message through a source's queue, again and again. Ends by being aborted.
pub(super) async fn knock<T>(publisher: Publisher, queue: String) -> T {
    tokio::time::sleep(KNOCK_FIRST).await;
    let mut wait = KNOCK_AGAIN;
    loop {
        probe(&publisher, &queue, None).await;
        tokio::time::sleep(wait).await;
        wait = KNOCK_MAX.min(wait * 2);
    }
}

/// Sends one message to a source's queue; its number comes back with it.
pub(super) async fn probe(publisher: &Publisher, queue: &str, number: Option<u64>) {
    let envelope = Envelope { kind: Some(names::TYPE_PROBE.into()), seq: number, ..Envelope::default() };
    if let Err(error) = publisher.publish("", queue, &envelope, Bytes::new(), true).await {
        tracing::debug!(queue, %error, "a probe was not confirmed");
    }
}
