//! Says on `kin.alive` that a node lives, and that it stops in good order.

use std::time::Duration;

use kinetic_amqp::{Address, Publisher};
use kinetic_wire::{Beacon, Envelope, Incarnation, NodeId, Role, encode, names};
use tokio::task::JoinSet;

use crate::topology;

/// Time between two beacons.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long the last word may take.
const BYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Beats until it is told to stop; dropped without that, it falls silent as a killed process does.
pub(crate) struct Alive {
    publisher: Publisher,
    beacon: Beacon,
    beating: JoinSet<()>,
}

/// Begins to beat, on a connection of its own: what else a node publishes must not hold its signs of life up.
pub(crate) fn start(control: &Address, node: NodeId, role: Role, inc: Incarnation) -> Alive {
    over(Publisher::start(control.clone(), topology::alive(), 1), node, role, inc)
}

/// Begins to beat over a connection that carries little else, whose topology has [`topology::alive`].
pub(crate) fn over(publisher: Publisher, node: NodeId, role: Role, inc: Incarnation) -> Alive {
    let beacon = Beacon { v: 1, node, role, inc, bye: false };
    let mut beating = JoinSet::new();
    let (beats, says) = (publisher.clone(), beacon.clone());
    beating.spawn(async move {
        let mut due = tokio::time::interval(INTERVAL);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            say(&beats, &says).await;
        }
    });
    Alive { publisher, beacon, beating }
}

impl Alive {
    /// Says goodbye, so that the silence that follows is no event, and closes the connection.
    pub(crate) async fn bye(mut self) {
        self.beating.shutdown().await;
        self.beacon.bye = true;
        if tokio::time::timeout(BYE_TIMEOUT, say(&self.publisher, &self.beacon)).await.is_err() {
            tracing::debug!("no broker to say goodbye to");
        }
        self.publisher.close().await;
    }
}

/// Best effort: the next one follows.
async fn say(publisher: &Publisher, beacon: &Beacon) {
    let envelope = Envelope { kind: Some(names::TYPE_BEACON.into()), ..Envelope::default() };
    if let Err(error) = publisher.publish(names::ALIVE_EXCHANGE, "", &envelope, encode(beacon), false).await {
        tracing::debug!(%error, "a sign of life was not published");
    }
}
