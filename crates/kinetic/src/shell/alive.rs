//! Says on `kin.alive` that a node lives, and that it stops in good order.
//!
//! The beats come from a task of their own, so that whoever has much to do still beats. They prove that the node's loop turns: it
//! stamps each turn, and nothing is said for one that has not turned for longer than a turn may take. Then the watchdog of the
//! alert node tells of it like of a dead one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kinetic_amqp::{Address, Publisher};
use kinetic_wire::{Beacon, Breach, Envelope, Incarnation, Listening, Mono, NodeId, Role, encode, names};
use tokio::task::JoinSet;

use crate::adapter::clock;
use crate::topology;

/// Time between two beacons.
const INTERVAL: Duration = Duration::from_secs(2);
/// A loop that has not turned for so long hangs. All loops turn once a second at least, to renew their numbers; a
/// turn that lasts longer than this is as bad as none.
const HUNG_AFTER: Duration = Duration::from_secs(5);
/// What an analyzer hears on so many sources goes with one beacon, about 100 kB; the rest goes with the next ones.
pub(crate) const LISTENS_MAX: usize = 1_000;
/// Of breaches so many go with one beacon, at most about 100 kB.
pub(crate) const BREACHES_MAX: usize = 200;
/// How long the last word may take.
const BYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Beats until it is told to stop; dropped without that, it falls silent as a killed process does.
pub(crate) struct Alive {
    publisher: Publisher,
    beacon: Beacon,
    pulse: Pulse,
    heard: Heard,
    beating: JoinSet<()>,
}

/// What goes with the next beacon.
#[derive(Debug, Default)]
struct News {
    listens: Vec<Listening>,
    breaches: Vec<Breach>,
}

type Heard = Arc<Mutex<News>>;

fn locked(heard: &Heard) -> std::sync::MutexGuard<'_, News> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to beat, on a connection of its own: what else a node publishes must not hold its signs of life up.
pub(crate) fn start(control: &Address, node: NodeId, role: Role, inc: Incarnation) -> Alive {
    over(Publisher::start(control.clone(), topology::alive(), 1), node, role, inc)
}

/// Begins to beat over a connection that carries little else, whose topology has [`topology::alive`].
pub(crate) fn over(publisher: Publisher, node: NodeId, role: Role, inc: Incarnation) -> Alive {
    let beacon = Beacon { v: 1, node, role, inc, bye: false, listens: Vec::new(), breaches: Vec::new() };
    let news = Heard::default();
    let pulse = Pulse::default();
    pulse.stamp();
    let (publishes, says, heard) = (publisher.clone(), beacon.clone(), news.clone());
    let mut beating = JoinSet::new();
    beating.spawn(beat(INTERVAL, HUNG_AFTER, pulse.clone(), move || {
        let (publishes, mut says) = (publishes.clone(), says.clone());
        News { listens: says.listens, breaches: says.breaches } = std::mem::take(&mut *locked(&heard));
        async move { say(&publishes, &says).await }
    }));
    Alive { publisher, beacon, pulse, heard: news, beating }
}

impl Alive {
    /// The loop turns. To be said at every turn.
    pub(crate) fn turned(&self) {
        self.pulse.stamp();
    }

    /// What is heard goes with the next beacon; it is asked for once the last has gone.
    pub(crate) fn listens(&self, hears: impl FnOnce(usize) -> Vec<Listening>) {
        let mut news = locked(&self.heard);
        if news.listens.is_empty() {
            news.listens = hears(LISTENS_MAX);
        }
    }

    /// So are breaches.
    pub(crate) fn breaches(&self, sees: impl FnOnce(usize) -> Vec<Breach>) {
        let mut news = locked(&self.heard);
        if news.breaches.is_empty() {
            news.breaches = sees(BREACHES_MAX);
        }
    }

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

/// When a loop last turned, on the monotonic clock of this process.
#[derive(Clone, Debug, Default)]
struct Pulse(Arc<AtomicU64>);

impl Pulse {
    fn stamp(&self) {
        self.0.store(clock::now().mono.0, Ordering::Relaxed);
    }

    /// How long ago that was.
    fn age(&self) -> Duration {
        clock::now().mono.since(Mono(self.0.load(Ordering::Relaxed)))
    }
}

/// Says something every so often, for as long as a loop turns.
async fn beat<S: Future<Output = ()>>(
    interval: Duration,
    hung_after: Duration,
    pulse: Pulse,
    mut say: impl FnMut() -> S,
) {
    let mut due = tokio::time::interval(interval);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut hangs = false;
    loop {
        due.tick().await;
        let age = pulse.age();
        let hung = age > hung_after;
        if hung && !hangs {
            tracing::error!(?age, "the main loop does not turn: no more signs of life");
        } else if hangs && !hung {
            tracing::warn!("the main loop turns again");
        }
        hangs = hung;
        if !hung {
            say().await;
        }
    }
}

/// Best effort: the next one follows.
async fn say(publisher: &Publisher, beacon: &Beacon) {
    let envelope = Envelope { kind: Some(names::TYPE_BEACON.into()), ..Envelope::default() };
    if let Err(error) = publisher.publish(names::ALIVE_EXCHANGE, "", &envelope, encode(beacon), false).await {
        tracing::debug!(%error, "a sign of life was not published");
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    /// As long as the loop of the test may take for a turn.
    const HUNG: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn a_loop_that_hangs_is_not_said_to_live() {
        let (pulse, beats) = (Pulse::default(), AtomicU64::new(0));
        let count = || beats.load(Ordering::Relaxed);
        let beating = beat(Duration::from_millis(5), HUNG, pulse.clone(), || {
            beats.fetch_add(1, Ordering::Relaxed);
            ready(())
        });
        let turn_until = async |beats: u64| {
            while count() < beats {
                pulse.stamp();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let node = async {
            turn_until(5).await;
            // Here it hangs.
            tokio::time::sleep(HUNG + Duration::from_millis(1)).await;
            let before = count();
            tokio::time::sleep(HUNG).await;
            assert_eq!(count(), before, "nothing is said for it");
            turn_until(before + 5).await;
        };
        tokio::select! {
            () = beating => unreachable!("it beats for ever"),
            () = node => {}
        }
    }
}
