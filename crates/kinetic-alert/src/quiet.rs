//! What keeps a group from speaking: silences of its alerts, and somebody who takes care of its episode.

use kinetic_wire::Wall;

use crate::clock::Steady;
use crate::group::{AlertView, Group};
use crate::id::StreamKey;
use crate::reason::{self, Circumstances, Fold, Step};
use crate::stream::Stream;

/// Somebody takes care of what fires in a group: no repeats and no escalation, until then or until the episode ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    pub(crate) author: String,
    pub(crate) reason: String,
    pub(crate) at: Wall,
    pub(crate) until: Steady,
}

impl Stream {
    /// When the first mail of what goes on was due here.
    fn first_due(&self) -> Option<Steady> {
        let timing = self.timing.as_ref()?;
        // A mail that was taken back had been due.
        if !self.told.is_empty() || self.standing.held.is_some() {
            return Some(self.standing.began_at);
        }
        let since = self.standing.changed_since?;
        match self.standing.fold {
            Fold::Open => timing.first_due(since),
            // While another service explains it nothing is due.
            Fold::Folded => None,
            Fold::Unfolded { at, .. } => timing.first_due(since.max(at)),
        }
    }
}

impl Group {
    /// What is due for a recipient and when, but nothing before `not_before`.
    pub(crate) fn next_step(
        &self,
        key: &StreamKey,
        stream: &Stream,
        not_before: Steady,
    ) -> Option<(Steady, Step)> {
        let timing = stream.timing.as_ref().filter(|_| stream.outstanding.is_none() && !stream.held)?;
        let escalates = timing.escalate_after.is_some() && stream.told.is_empty();
        let first_due = if escalates { self.first_due(key) } else { None };
        if escalates && first_due.is_none() && self.is_folded_for_first(key) {
            return None;
        }
        let acknowledged_until = self.acknowledged.as_ref().map(|acknowledged| acknowledged.until);
        let circumstances = Circumstances {
            not_before,
            acknowledged_until: acknowledged_until.unwrap_or_default(),
            first_due,
        };
        reason::next_step(&stream.standing, timing, &circumstances)
    }

    /// The correspondences with those whom the alert block of this stream names first.
    fn first_of_block(&self, key: &StreamKey) -> impl Iterator<Item = &Stream> {
        let begin = StreamKey { alert: key.alert.clone(), to: "".into() };
        let of_block = self.streams.range(begin..).take_while(|(other, _)| other.alert == key.alert);
        of_block
            .map(|(_, stream)| stream)
            .filter(|stream| stream.timing.as_ref().is_some_and(|timing| timing.escalate_after.is_none()))
    }

    /// When the first mail of what goes on was due to those whom the alert block of this stream names first.
    fn first_due(&self, key: &StreamKey) -> Option<Steady> {
        self.first_of_block(key).filter_map(Stream::first_due).min()
    }

    /// Whether they have nothing to say for now because another service explains it.
    fn is_folded_for_first(&self, key: &StreamKey) -> bool {
        self.first_of_block(key).any(|stream| stream.standing.fold == Fold::Folded)
    }

    /// Whether a recipient will be told of what is new in the ordinary course of time.
    pub(crate) fn speaks_soon(&self, key: &StreamKey, stream: &Stream, now: Steady) -> bool {
        let Some(timing) = stream.timing.as_ref().filter(|_| stream.standing.fresh > 0) else { return false };
        let soon = now + timing.group_wait + timing.group_interval;
        self.next_step(key, stream, now).is_some_and(|(due, _)| due <= soon)
    }

    /// When something is due for any recipient.
    pub(crate) fn due(&self, not_before: Steady, has_way: impl Fn(&StreamKey) -> bool) -> Option<Steady> {
        let step = |(key, stream)| self.next_step(key, stream, not_before);
        self.streams.iter().filter(|(key, _)| has_way(key)).filter_map(step).map(|(at, _)| at).min()
    }

    /// Silences have changed: what they mean is news no longer, or again.
    pub(crate) fn refreeze(&mut self, silenced: impl Fn(&AlertView) -> bool, at: Steady) -> bool {
        let Self { alerts, streams, .. } = self;
        let mut changed = false;
        for alert in alerts.values_mut() {
            let is_silenced = silenced(alert);
            changed |= alert.silenced != is_silenced;
            alert.silenced = is_silenced;
        }
        if changed {
            streams.values_mut().for_each(|stream| stream.refreeze(alerts, at));
        }
        changed
    }

    /// An acknowledgement ends with what was acknowledged: nothing fires, and nobody believes that anything does.
    pub(crate) fn end_acknowledged(&mut self) {
        if self.firing() == 0 && self.streams.values().all(|stream| stream.told.is_empty()) {
            self.acknowledged = None;
        }
    }
}
