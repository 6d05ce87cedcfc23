//! What a source does that is a part of another, or that has parts.
//!
//! ```text
//! part k   deliveries ─▶ windows ─▶ Groups::reduce ─▶ partial::cut ─▶ Effect::Forward ─── kin.partials ──┐
//! owner    partial::read ─▶ Groups::merge (values into windows) · Merge::claim ─▶ Merge::through ─▶ close ◀──┘
//! ```
//! A part's windows close as any source's do. What it forwards is confirmed before its snapshot is, and that before its
//! deliveries are acknowledged. The owner's windows close when all parts have closed theirs, and it holds the partials until
//! then as it would hold deliveries of samples.

use std::collections::BTreeMap;

use kinetic_wire::{Mono, Now, PARTIAL_VERSION, Partial, PartialGroup, Snapshot, SourceKey, names};

use super::{AHEAD_MAX, Shared, Source};
use crate::group::Closed;
use crate::held::AT_ONCE;
use crate::lane::{Lane, NEVER};
use crate::machine::{Delivery, Effect};
use crate::merge::{Epochs, Merge, PARTS_WAIT};
use crate::partial;
use crate::plan::{self, Plan};

/// What a source does with its windows.
#[derive(Debug)]
pub(super) enum Role {
    /// It judges what it reads.
    Whole,
    /// It is one of so many parts: it forwards what it reads. By length: through where it has said that its windows are
    /// closed. And since when it is read.
    Part { parts: u16, said: BTreeMap<i64, i64>, since: Option<i64> },
    /// It is split into so many parts, and judges what they forward. By lane: what they have closed.
    Owner { parts: u16, merges: BTreeMap<usize, Merge>, epochs: Epochs },
}

impl Role {
    pub(super) fn of(key: &SourceKey, plan: &Plan) -> Self {
        match (key.part, plan.partitions) {
            // Also one beyond the number: an earlier revision had it, and what is left in its queue is to be read.
            (1.., parts) => Self::Part { parts, said: BTreeMap::new(), since: None },
            (0, 0 | 1) => Self::Whole,
            (0, parts) => Self::Owner { parts, merges: BTreeMap::new(), epochs: Epochs::default() },
        }
    }

    /// Whether it is still the right one for a plan. A part that stays one with others does not: its subscription has been
    /// made with the bindings of the old number.
    pub(super) fn fits(&self, key: &SourceKey, plan: &Plan) -> bool {
        match (self, Self::of(key, plan)) {
            (Self::Owner { parts, .. }, Self::Owner { parts: wanted, .. })
            | (Self::Part { parts, .. }, Self::Part { parts: wanted, .. }) => *parts == wanted,
            (Self::Whole, Self::Whole) => true,
            _ => false,
        }
    }

    pub(super) fn is_part(&self) -> bool {
        matches!(self, Self::Part { .. })
    }

    /// A part's subscription is active, by the wall clock.
    pub(super) fn begin(&mut self, now: i64) {
        if let Self::Part { since, .. } = self {
            since.get_or_insert(now);
        }
    }

    /// The wall clock says less than before: a part is read since then at the latest.
    pub(super) fn heed(&mut self, now: i64) {
        if let Self::Part { since: Some(since), .. } = self {
            *since = now.min(*since);
        }
    }

    /// What was closed of a lane is not any more: a part says anew through where it is, and an owner is told anew.
    pub(super) fn bring_back(&mut self, index: usize, length: i64) {
        match self {
            Self::Whole => {}
            Self::Part { said, .. } => _ = said.remove(&length),
            Self::Owner { merges, .. } => _ = merges.remove(&index),
        }
    }

    /// What the parts have closed of a lane, as far as anything has been said of it.
    pub(super) fn merge(&mut self, index: usize) -> Option<&mut Merge> {
        if let Self::Owner { merges, .. } = self { merges.get_mut(&index) } else { None }
    }

    /// Since when a part is read.
    pub(super) fn since(&self) -> Option<i64> {
        if let Self::Part { since, .. } = self { *since } else { None }
    }

    /// For how long windows may have to stay open beyond lateness, nanoseconds.
    pub(super) fn waits(&self) -> i64 {
        if matches!(self, Self::Owner { .. }) { plan::nanos(PARTS_WAIT) } else { 0 }
    }

    /// Goes on after a former owner.
    pub(super) fn resume(&mut self, lanes: &[Lane], snapshot: &Snapshot) {
        match self {
            Self::Whole => {}
            Self::Part { said, .. } => {
                let closed = snapshot.lanes.iter().filter_map(|lane| Some((lane.length_ns, lane.closed_ns?)));
                said.extend(closed.filter(|(length, _)| lanes.iter().any(|lane| lane.length == *length)));
            }
            Self::Owner { merges, .. } => merges.clear(),
        }
    }

    /// All that is not closed will come again.
    pub(super) fn lost(&mut self) {
        if let Self::Owner { merges, .. } = self {
            merges.clear();
        }
    }

    /// For an owner, when the next window closes for which some part has not sent its values.
    pub(super) fn next_overdue(&self) -> Option<Option<Mono>> {
        match self {
            Self::Owner { merges, .. } => Some(merges.values().filter_map(Merge::next_overdue).min()),
            _ => None,
        }
    }
}

/// What a part says of a window.
#[derive(Debug, Default)]
struct Content {
    groups: Vec<PartialGroup>,
    traceparent: Option<String>,
    is_short: bool,
}

impl Source {
    /// Takes a delivery that one of Kinetic's own nodes has sent. Returns false if it is none.
    pub(super) fn take_own(&mut self, now: Now, delivery: &Delivery<'_>, shared: &mut Shared<'_>) -> bool {
        match delivery.envelope.kind.as_deref() {
            Some(names::TYPE_PARTIAL)
                if self.key.part == 0 && partial::is_own(delivery, names::PARTIALS_EXCHANGE) =>
            {
                match partial::read(delivery.body, &self.key) {
                    Ok(partial) => self.take_partial(now, delivery, &partial, shared),
                    Err(reason) => {
                        shared.customer.rejects.add(reason);
                        self.refuse(delivery.token, shared);
                    }
                }
            }
            _ => return false,
        }
        true
    }

    fn take_partial(
        &mut self,
        now: Now,
        delivery: &Delivery<'_>,
        partial: &Partial,
        shared: &mut Shared<'_>,
    ) {
        shared.stats.partials += 1;
        // One that was carried here was admitted before; the part's next owner may have been faster.
        let is_carried = delivery.envelope.moved.is_some();
        if let Role::Owner { epochs, .. } = &mut self.role
            && !is_carried
            && !epochs.admit(partial.epoch, partial.length_ns, partial::claim(partial))
        {
            shared.stats.partials_stale += 1;
            return self.hold(now, delivery.token, AT_ONCE, shared);
        }
        let is_its = |lane: &Lane| lane.is_used && lane.length == partial.length_ns;
        let Some(index) = self.lanes.iter().position(is_its) else {
            shared.stats.partials_unknown += 1;
            return self.hold(now, delivery.token, AT_ONCE, shared);
        };
        self.take_back(now, index, partial, shared);
        let merged = self.groups.merge(&self.plan, &mut self.lanes, partial, shared.series_max);
        // What a judge's work is measured in: the redirector weighs its values as it does others' samples.
        self.rate.samples += merged.taken;
        shared.stats.partial_rows += merged.taken;
        shared.stats.partial_rows_unknown += merged.unknown;
        shared.stats.partial_rows_late += if delivery.redelivered { 0 } else { merged.late };
        shared.stats.partial_rows_refused += merged.refused;
        shared.stats.feeds_in_two_parts += merged.twice;
        let lane = &mut self.lanes[index];
        if partial.short && partial.end_ns > lane.closed {
            lane.fall_short((partial.end_ns.saturating_sub(lane.length), partial.end_ns.saturating_sub(1)));
        }
        if let Some(traceparent) = partial.traceparent.as_ref().filter(|_| merged.taken > 0)
            && let Some(window) = lane.current_mut()
        {
            window.traceparent.get_or_insert_with(|| traceparent.clone());
        }
        if let Role::Owner { parts, merges, .. } = &mut self.role {
            let merge = merges.entry(index).or_insert_with(|| Merge::new(*parts, lane.closed));
            let latest = lane.start_of((now.wall + AHEAD_MAX).0);
            if !merge.claim(now.mono, latest, partial::claim(partial)) {
                shared.stats.claims_refused += 1;
            }
        }
        // Held like a sample of the window's last moment: also without a value, since what it claims is not kept elsewhere.
        let release = self.release_time(partial.end_ns.saturating_sub(1));
        self.arrival.saw(is_carried, release);
        self.hold(now, delivery.token, release, shared);
    }

    /// Through which moment the parts have closed their windows, or have kept the others waiting for too long.
    pub(super) fn merged_through(&mut self, now: Now, index: usize, shared: &mut Shared<'_>) -> i64 {
        let Role::Owner { merges, .. } = &self.role else { return NEVER };
        let Some(merge) = merges.get(&index) else { return NEVER };
        let (through, overdue) = (merge.through(), merge.overdue(now.mono));
        if overdue <= through {
            return through;
        }
        let lane = &mut self.lanes[index];
        let complete = through.max(lane.closed);
        // Before the first window there is none to be missed.
        let missing = if complete == NEVER { 1 } else { overdue.saturating_sub(complete) / lane.length };
        shared.stats.windows_incomplete += u64::try_from(missing).unwrap_or_default();
        tracing::warn!(source = %self.key, missing, "windows closed without the values of some part");
        // Whoever is in that part may have spoken.
        lane.be_deaf(overdue);
        overdue
    }

    /// One lane's windows are closed through its `closed`: a part says so, and an owner waits for nothing before.
    pub(super) fn tell_closed(&mut self, index: usize, shared: &mut Shared<'_>) {
        let (length, closed) = (self.lanes[index].length, self.lanes[index].closed);
        match &mut self.role {
            Role::Whole => {}
            Role::Part { said, .. } => {
                if self.lanes[index].is_used && said.get(&length).is_none_or(|said| *said < closed) {
                    self.forward(index, closed, Content::default(), shared);
                }
            }
            Role::Owner { merges, .. } => {
                if let Some(merge) = merges.get_mut(&index) {
                    merge.close(closed);
                }
            }
        }
    }

    /// Forwards the values of one window.
    pub(super) fn reduce(&mut self, index: usize, closed: Closed<'_>, shared: &mut Shared<'_>) {
        let groups = self.groups.reduce(&self.plan, index, closed);
        let traceparent = closed.window.and_then(|window| window.traceparent.clone());
        if self.lanes[index].is_used {
            let content = Content { groups, traceparent, is_short: closed.is_short };
            self.forward(index, closed.span.end, content, shared);
        }
    }

    fn forward(
        &mut self,
        index: usize,
        end: i64,
        Content { groups, traceparent, is_short }: Content,
        shared: &mut Shared<'_>,
    ) {
        let Role::Part { said, .. } = &mut self.role else { return };
        let length_ns = self.lanes[index].length;
        let head = Partial {
            v: PARTIAL_VERSION,
            source: self.key.clone(),
            epoch: self.epoch,
            node: shared.node.clone(),
            length_ns,
            from_ns: said.insert(length_ns, end),
            end_ns: end,
            index: 0,
            of: 1,
            traceparent,
            short: is_short,
            groups: Vec::new(),
        };
        for message in partial::cut(&head, groups) {
            let id = partial::id(&message);
            if self.keeper.note(id) {
                shared.stats.partials_sent += 1;
                let (region, partial) = (self.region.clone(), Box::new(message));
                shared.effects.push(Effect::Forward { id, region, partial });
            } else {
                shared.stats.partials_dropped += 1;
            }
        }
    }
}
