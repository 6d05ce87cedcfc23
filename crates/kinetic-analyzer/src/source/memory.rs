//! What is remembered of a source: snapshots of it taken and taken over, and the last word before it is let go.

use std::time::Duration;

use kinetic_wire::{Epoch, LaneState, Mono, Now, SNAPSHOT_VERSION, Snapshot};

use super::{Recall, SETTLE_IN, Shared, Source};
use crate::group::Voice;
use crate::lane::NEVER;
use crate::machine::Effect;
use crate::snapshot::{self, SNAPSHOT_BYTES_MAX};

/// A source that is to be let go is kept for at most this long, until its last alert events and its last snapshot are
/// confirmed; nothing that is delivered to it is looked at any more.
pub const LEAVE_MAX: Duration = Duration::from_secs(3);

impl Source {
    /// Takes a snapshot if one is due and none is under way, and publishes the one that may be.
    pub(super) fn keep(&mut self, shared: &mut Shared<'_>) {
        if self.keeper.wants() {
            let lanes = self.lanes.iter().filter(|lane| lane.is_used);
            let lanes: Vec<(i64, i64)> = lanes.map(|lane| (lane.length, lane.closed)).collect();
            let snapshot = Snapshot {
                v: SNAPSHOT_VERSION,
                source: self.key.clone(),
                epoch: self.epoch,
                seq: self.keeper.next_seq(),
                node: shared.node.clone(),
                schema: Some(shared.revision.to_owned()).filter(|revision| !revision.is_empty()),
                lanes: lanes.iter().map(|&(length, closed)| lane_state(length, closed)).collect(),
                watches: self.groups.remember(&self.plan),
                moved: self.arrival.from().cloned(),
            };
            let (body, left_out) = snapshot::body(snapshot, SNAPSHOT_BYTES_MAX);
            if left_out > 0 {
                tracing::warn!(source = %self.key, left_out, "the snapshot is too large, feeds are left out of it");
                shared.stats.snapshot_feeds_left_out += left_out as u64;
            }
            shared.stats.snapshots += 1;
            shared.stats.snapshot_bytes += body.len() as u64;
            self.keeper.take(body, lanes);
        }
        if let Some((seq, body)) = self.keeper.release() {
            let (source, region) = (self.key.clone(), self.region.clone());
            shared.effects.push(Effect::Keep {
                slot: self.slot,
                seq,
                source,
                region,
                epoch: self.epoch,
                body,
            });
        }
    }

    /// The broker has a snapshot: what it covers may be acknowledged.
    pub(crate) fn kept(&mut self, seq: u64, shared: &mut Shared<'_>) {
        let Some(lanes) = self.keeper.kept(seq) else { return };
        for &(length, closed) in lanes {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.length == length) {
                lane.kept = lane.kept.max(closed);
            }
        }
        self.move_on(shared);
        self.keep(shared);
    }

    /// Works out anew through which time deliveries may be acknowledged, and acknowledges them if it has moved.
    pub(super) fn move_on(&mut self, shared: &mut Shared<'_>) {
        self.closed = self.lowest(|lane| lane.closed);
        let through = self.lowest(|lane| lane.kept);
        // It falls back when a new revision watches what nobody watched before.
        let has_risen = through > std::mem::replace(&mut self.through, through);
        if has_risen {
            self.settle(shared.effects);
        }
    }

    /// The subscription is the active one, and these have been kept of the source. Goes on where the newest says that its
    /// owner was. Returns the epoch of a later owner than this, if there has been one: then the source is not ours.
    pub(crate) fn recall(&mut self, now: Now, bodies: &[&[u8]], shared: &mut Shared<'_>) -> Option<Epoch> {
        let newest = snapshot::newest(bodies, &self.key, &mut shared.stats.snapshots_ignored);
        let before = std::mem::replace(&mut self.recall, Recall::Done);
        if let Some(snapshot) = &newest {
            if snapshot.epoch > self.epoch {
                return Some(snapshot.epoch);
            }
            self.keeper.continue_after(snapshot.seq);
            // After a lost subscription, what this node itself remembers is as new or newer.
            if before == Recall::Never {
                self.restore(snapshot, shared);
            }
        }
        self.settled_in = Some(now.mono + SETTLE_IN);
        self.lanes.iter_mut().for_each(|lane| lane.be_deaf(now.wall.0));
        self.role.begin(now.wall.0);
        if self.role.is_part() || self.lanes.iter().any(|lane| lane.live > 0) {
            // From here on silence is silence: a source that never speaks again must be noticed too.
            self.last_fed = Some(now.mono);
        }
        self.last_came = Some(now.mono);
        self.quiet.begin(now.mono);
        self.rate.since.get_or_insert(now.mono);
        None
    }

    fn restore(&mut self, snapshot: &Snapshot, shared: &mut Shared<'_>) {
        tracing::info!(source = %self.key, epoch = %snapshot.epoch, seq = snapshot.seq, "snapshot taken over");
        shared.stats.snapshots_recalled += 1;
        self.arrival.begin(snapshot.moved.as_ref());
        let floor = snapshot.lanes.iter().map(|lane| lane.closed_ns.unwrap_or(NEVER)).min();
        for lane in &mut self.lanes {
            match snapshot.lanes.iter().find(|known| known.length_ns == lane.length) {
                Some(known) => {
                    lane.closed = known.closed_ns.unwrap_or(NEVER);
                    lane.kept = lane.closed;
                }
                None => lane.closed = floor.filter(|at| *at != NEVER).map_or(NEVER, |at| lane.next_start(at)),
            }
        }
        let voice =
            Voice { node: shared.node, revision: shared.revision, source: &self.key, epoch: self.epoch };
        let (keeper, effects) = (&mut self.keeper, &mut *shared.effects);
        let mut published = 0;
        self.role.resume(&self.lanes, snapshot);
        self.groups.recall(&self.plan, &mut self.lanes, snapshot, voice, &mut |event| {
            if let Some(effect) = keeper.publish(event) {
                effects.push(effect);
                published += 1;
            }
        });
        shared.stats.alerts_published += published;
        let is_same = self.lanes.iter().all(|lane| lane.closed == lane.kept);
        if published > 0 || !is_same {
            self.keeper.due();
        }
        self.move_on(shared);
        self.keep(shared);
    }

    /// Looks at nothing more that is delivered: what is closed is to be confirmed, and then the source let go.
    pub(crate) fn leave(&mut self, by: Mono) {
        self.leaves_by.get_or_insert(by);
    }

    /// Whether it is to be let go, and may be.
    pub(crate) fn has_left(&self, now: Mono) -> bool {
        self.leaves_by.is_some_and(|by| now >= by || self.keeper.is_at_rest())
    }

    /// Whether it is to be let go.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaves_by.is_some()
    }
}

fn lane_state(length: i64, closed: i64) -> LaneState {
    LaneState { length_ns: length, closed_ns: Some(closed).filter(|closed| *closed != NEVER) }
}
