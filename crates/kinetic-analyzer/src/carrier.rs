//! A source on its way to another region: what its old queue holds is carried to the new one, judged by nobody.
//!
//! ```text
//! Subscribe ─ no bindings are made, those that stand are removed ─▶ Unbound ┐
//!           ─ what was kept ─▶ Recalled ─ Keep in the new region ─▶ Kept ───┤─▶ Probe ─▶ Probed ─▶ Unsubscribe ─▶ Discard
//!           ─ Delivery ─ Carry ─▶ Carried ─ acknowledge ────────────────────┘   (nothing is left)
//! ```
//! The order proves that nothing is left: once the queue is bound no more, nobody publishes to it; a probe sent after that comes
//! behind all that was there. A delivery is acknowledged when the broker of the new region has confirmed it. So whoever dies
//! in the middle leaves a queue that another can go on to empty; what was confirmed and not yet acknowledged is carried twice, and a body that
//! its publisher has numbered is counted once.

use std::collections::BTreeSet;
use std::time::Duration;

use kinetic_wire::{
    Envelope, Epoch, Mono, Now, RegionName, SNAPSHOT_VERSION, Snapshot, SourceKey, Token, encode, names,
};

use crate::breach::{self, Watch, Whose};
use crate::machine::{Delivery, Effect, PROBE_TIMEOUT, Slot};
use crate::snapshot;
use crate::source::PROBE_AGAIN;
use crate::stats::{CustomerStats, Stats};

/// Longest time that a region's emptying may take; what is left then stays where it is (counted). Shorter than redirectors wait.
pub const EVACUATION_MAX: Duration = Duration::from_secs(50);
/// For how long it is said that nothing is left in a region, of a source that this node is not granted any more.
pub(crate) const SAID_FOR: Duration = Duration::from_secs(60);

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Carrying,
    /// Nothing more is taken; what is under way is to be confirmed.
    Ending(End),
    Unsubscribing(End),
    /// The empty queue is being removed.
    Discarding,
}

/// Why it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing is left.
    Empty,
    /// Time is up.
    GivenUp,
    /// The source stays after all, or goes elsewhere, or this node leaves.
    Dropped,
}

/// One source's.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) key: SourceKey,
    pub(crate) from: RegionName,
    pub(crate) to: RegionName,
    pub(crate) epoch: Epoch,
    /// Index of its customer's stats.
    pub(crate) customer: usize,
    slot: Slot,
    ingress: String,
    split: String,
    stage: Stage,
    /// It is given up then.
    by: Mono,
    is_unbound: bool,
    is_recalled: bool,
    /// What was kept is with the new region's broker.
    is_kept: bool,
    /// All that was in the queue when nothing could be added any more has been delivered.
    is_proven: bool,
    is_probing: bool,
    probe_again: Mono,
    /// Deliveries that the new region's broker has not confirmed yet.
    under_way: BTreeSet<Token>,
}

impl Carrier {
    pub(crate) fn new(
        now: Mono,
        key: SourceKey,
        (from, to): (RegionName, RegionName),
        epoch: Epoch,
        slot: Slot,
        customer: usize,
    ) -> Self {
        Self {
            ingress: names::ingress_exchange(&key.customer),
            split: names::split_exchange(&key),
            key,
            from,
            to,
            epoch,
            customer,
            slot,
            stage: Stage::Carrying,
            by: now + EVACUATION_MAX,
            is_unbound: false,
            is_recalled: false,
            is_kept: false,
            is_proven: false,
            is_probing: false,
            probe_again: Mono(0),
            under_way: BTreeSet::new(),
        }
    }

    /// Begins, or begins anew where something has come into the queue after all.
    pub(crate) fn start(&mut self, effects: &mut Vec<Effect>) {
        self.stage = Stage::Carrying;
        self.probe_again = Mono(0);
        (self.is_unbound, self.is_recalled, self.is_proven) = (false, false, false);
        effects.push(Effect::Evacuate {
            slot: self.slot,
            source: self.key.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            epoch: self.epoch,
        });
    }

    /// The queue is bound to nothing any more.
    pub(crate) fn unbound(&mut self) {
        self.is_unbound = true;
    }

    /// What was kept of the source goes to the new region, with a word on where it comes from. Returns the epoch of a later
    /// owner than this, if there has been one.
    pub(crate) fn recalled(
        &mut self,
        bodies: &[&[u8]],
        stats: &mut Stats,
        effects: &mut Vec<Effect>,
    ) -> Option<Epoch> {
        let newest = snapshot::newest(bodies, &self.key, &mut stats.snapshots_ignored);
        if let Some(later) =
            newest.as_ref().map(|snapshot| snapshot.epoch).filter(|epoch| *epoch > self.epoch)
        {
            return Some(later);
        }
        self.is_recalled = true;
        if self.is_kept {
            return None;
        }
        // Without any, one that says only this: of the lowest epoch, so that it never hides one that says more.
        let mut snapshot = newest.unwrap_or_else(|| Snapshot {
            v: SNAPSHOT_VERSION,
            source: self.key.clone(),
            epoch: Epoch(0),
            seq: 0,
            node: "".into(),
            schema: None,
            lanes: Vec::new(),
            watches: Vec::new(),
            moved: None,
        });
        snapshot.moved = Some(self.from.clone());
        effects.push(Effect::Keep {
            slot: self.slot,
            seq: snapshot.seq,
            source: self.key.clone(),
            region: self.to.clone(),
            epoch: snapshot.epoch,
            body: encode(&snapshot),
        });
        None
    }

    /// The new region has what was kept.
    pub(crate) fn kept(&mut self) {
        self.is_kept = true;
    }

    /// Sends a delivery on its way.
    pub(crate) fn deliver(
        &mut self,
        now: Now,
        delivery: &Delivery<'_>,
        (customer, watch): (&mut CustomerStats, &mut Watch),
        stats: &mut Stats,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_recalled || self.stage != Stage::Carrying {
            stats.deliveries_ignored += 1;
            return;
        }
        let envelope = &delivery.envelope;
        let is_partial = delivery.exchange == names::PARTIALS_EXCHANGE;
        let was_moved = is_moved(delivery, &self.split);
        // Of the installation's own logins the broker is believed: who took the source up before has checked them too.
        let foreign = || breach::foreign(delivery, &self.ingress, self.key.customer.as_str(), &[]);
        if let Some(kind) = (!is_partial && !was_moved).then(foreign).flatten() {
            customer.breaches.add(kind, 1);
            let whose = Whose { slot: self.slot, source: &self.key, epoch: self.epoch };
            watch.saw(now.mono, whose, breach::security_event(kind, delivery));
            stats.rejected += 1;
            effects.push(Effect::Reject { slot: self.slot, token: delivery.token });
            return;
        }
        let mut envelope = Envelope { persistent: true, user_id: None, ..envelope.clone().into_owned() };
        if envelope.moved.is_none() || !was_moved {
            envelope.moved = Some(delivery.routing_key.to_owned().into());
        }
        if envelope.ts.is_none() && envelope.timestamp_s.is_none() {
            // It would count from when it arrives; that has been now.
            envelope.ts = Some(now.wall);
        }
        self.under_way.insert(delivery.token);
        stats.carried += 1;
        effects.push(Effect::Carry {
            slot: self.slot,
            token: delivery.token,
            source: self.key.clone(),
            to: self.to.clone(),
            is_partial,
            envelope: Box::new(envelope),
            body: delivery.body.to_vec(),
        });
    }

    /// The new region's broker has a delivery.
    pub(crate) fn carried(&mut self, token: Token, effects: &mut Vec<Effect>) {
        // One of a channel that is gone comes again.
        if self.under_way.remove(&token) {
            effects.push(Effect::AckRange { slot: self.slot, first: token, last: token });
        }
    }

    /// The channel is gone: all that was not acknowledged comes again.
    pub(crate) fn lost(&mut self) {
        (self.is_recalled, self.is_proven, self.is_probing) = (false, false, false);
        self.under_way.clear();
    }

    pub(crate) fn probed(&mut self, now: Mono, ok: bool) {
        self.is_probing = false;
        self.is_proven |= ok;
        self.probe_again = now + PROBE_AGAIN;
    }

    /// Ends early.
    pub(crate) fn end(&mut self, end: End) {
        if self.stage == Stage::Carrying {
            self.stage = Stage::Ending(end);
        }
    }

    /// Takes the next steps that are possible.
    pub(crate) fn advance(&mut self, now: Mono, stats: &mut Stats, effects: &mut Vec<Effect>) {
        let is_late = now >= self.by;
        if self.stage == Stage::Carrying {
            let is_ready = self.is_ready();
            if is_ready && self.is_proven {
                self.stage = Stage::Ending(End::Empty);
            } else if is_late {
                tracing::warn!(source = %self.key, region = %self.from, "could not empty the region in time");
                self.stage = Stage::Ending(End::GivenUp);
            } else if is_ready && !self.is_probing && now >= self.probe_again {
                self.is_probing = true;
                stats.probes += 1;
                effects.push(Effect::Probe { slot: self.slot, timeout: PROBE_TIMEOUT });
            }
        }
        if let Stage::Ending(end) = self.stage
            && (self.under_way.is_empty() || is_late)
        {
            self.stage = Stage::Unsubscribing(end);
            effects.push(Effect::Unsubscribe { slot: self.slot });
        }
    }

    /// Nothing more comes. Returns how it has ended, where that is known now.
    pub(crate) fn unsubscribed(&mut self, effects: &mut Vec<Effect>) -> Option<End> {
        let Stage::Unsubscribing(end) = self.stage else { return None };
        if end != End::Empty {
            return Some(end);
        }
        self.stage = Stage::Discarding;
        let (source, region) = (self.key.clone(), self.from.clone());
        effects.push(Effect::Discard { slot: self.slot, source, region });
        None
    }

    /// The queue is gone or stays empty, or something has come into it. Returns whether that was the end.
    pub(crate) fn discarded(&mut self, is_empty: bool, effects: &mut Vec<Effect>) -> bool {
        if self.stage != Stage::Discarding {
            return false;
        }
        if !is_empty {
            self.start(effects);
        }
        is_empty
    }

    /// Nothing can be added, and nothing is under way: a probe can prove that nothing is left.
    fn is_ready(&self) -> bool {
        self.is_unbound && self.is_recalled && self.is_kept && self.under_way.is_empty()
    }

    pub(crate) fn wakeup(&self) -> Option<Mono> {
        match self.stage {
            Stage::Carrying if self.is_ready() && !self.is_probing => Some(self.by.min(self.probe_again)),
            Stage::Carrying | Stage::Ending(_) => Some(self.by),
            Stage::Unsubscribing(_) | Stage::Discarding => None,
        }
    }
}

/// Whether one of our nodes has carried it here: straight to the queue, or to the exchange of the source's parts, to which no customer
/// can publish.
pub(crate) fn is_moved(delivery: &Delivery<'_>, split: &str) -> bool {
    (delivery.exchange.is_empty() || delivery.exchange == split) && delivery.envelope.moved.is_some()
}
