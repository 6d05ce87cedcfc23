//! The correspondence with one recipient about one group: what he believes to fire, and the mail that is on its way.

use std::collections::{BTreeMap, BTreeSet};

use kinetic_wire::ServiceName;

use crate::clock::Steady;
use crate::group::AlertView;
use crate::id::AlertKey;
use crate::machine::{MailId, Thread};
use crate::reason::{Fold, Standing, Timing};

/// Alerts per recipient that came and went while a mail waited; further ones no mail will name (counted).
const MISSED_MAX: usize = 200;

/// A mail of a stream that has not ended, and what to go back to if it never arrives.
#[derive(Clone, Debug)]
pub(crate) struct Outstanding {
    pub(crate) id: MailId,
    pub(crate) told_before: BTreeSet<AlertKey>,
    pub(crate) told_at_before: Steady,
    pub(crate) fold_before: Fold,
    /// Of `Stream::missed`, what it names.
    pub(crate) named: BTreeSet<AlertKey>,
}

/// The correspondence with one recipient about one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    /// How often to speak; `None` once the schema names this recipient no more.
    pub(crate) timing: Option<Timing>,
    /// Alerts that he believes to fire.
    pub(crate) told: BTreeSet<AlertKey>,
    pub(crate) standing: Standing,
    /// The service whose recovery is to be said with this group's still firing.
    pub(crate) recovered: Option<ServiceName>,
    /// Where the correspondence stands; `None` before the first mail.
    pub(crate) thread: Option<Thread>,
    /// The one mail that may be on its way. Changes meanwhile wait, and merge into the next.
    pub(crate) outstanding: Option<Outstanding>,
    /// Alerts that came and went while a mail waited for a relay: a mail would have named them.
    pub(crate) missed: BTreeSet<AlertKey>,
    /// Alerts that are not in `missed` for want of room.
    pub(crate) missed_cut: u64,
    /// What is to be said waits for a digest, or for an address that is good again.
    pub(crate) held: bool,
    /// Since when he could not be told what was to be told.
    pub(crate) unsent_since: Option<Steady>,
}

impl Stream {
    /// Whether a mail about the end of this alert may still be due here.
    pub(crate) fn tells(&self, key: AlertKey) -> bool {
        self.told.contains(&key)
            || self.missed.contains(&key)
            || self.outstanding.as_ref().is_some_and(|outstanding| outstanding.told_before.contains(&key))
    }

    /// One alert has changed its state to `firing`.
    pub(crate) fn alert_changed(
        &mut self,
        key: AlertKey,
        firing: bool,
        alerts: &BTreeMap<AlertKey, AlertView>,
        at: Steady,
    ) {
        let owed = !firing && self.owes_mail(at);
        let standing = &mut self.standing;
        match (firing, self.told.contains(&key)) {
            (true, true) => standing.gone -= 1,
            (true, false) => {
                standing.fresh += 1;
                self.missed.remove(&key);
            }
            (false, true) => standing.gone += 1,
            (false, false) => {
                standing.fresh -= 1;
                if owed {
                    self.miss(key);
                }
            }
        }
        self.recount_missed(alerts);
        self.mark_change(at);
    }

    /// Whether a further mail would have been sent by now, if the one on its way had arrived.
    fn owes_mail(&self, at: Steady) -> bool {
        let (Some(timing), Some(changed_since)) = (&self.timing, self.standing.changed_since) else {
            return false;
        };
        let due = (changed_since + timing.group_wait).max(self.standing.decided_at + timing.group_interval);
        let speaks = self.outstanding.is_some() && self.standing.fold != Fold::Folded;
        speaks && timing.open(due).is_some_and(|due| due <= at)
    }

    pub(crate) fn miss(&mut self, key: AlertKey) {
        if self.missed.len() < MISSED_MAX {
            self.missed.insert(key);
        } else {
            self.missed_cut += 1;
        }
    }

    /// Of `missed`, what a mail would name now: nobody is told of what is silenced.
    pub(crate) fn countable(&self, alerts: &BTreeMap<AlertKey, AlertView>) -> impl Iterator<Item = AlertKey> {
        let is_back = |key: &&AlertKey| alerts.get(key).is_some_and(|alert| !alert.firing && !alert.silenced);
        self.missed.iter().filter(is_back).copied()
    }

    pub(crate) fn recount_missed(&mut self, alerts: &BTreeMap<AlertKey, AlertView>) {
        self.standing.missed = self.countable(alerts).count();
    }

    /// Whether a mail that is on its way says what is no longer so, or leaves out what it should say.
    pub(crate) fn outdates(&self, id: &MailId) -> bool {
        let Some(outstanding) = self.outstanding.as_ref().filter(|outstanding| outstanding.id == *id) else {
            return false;
        };
        self.standing.changed_since.is_some() || self.standing.missed > outstanding.named.len()
    }

    pub(crate) fn mark_change(&mut self, at: Steady) {
        let standing = &mut self.standing;
        let differs = standing.fresh > 0 || standing.gone > 0;
        standing.changed_since = differs.then(|| standing.changed_since.unwrap_or(at));
        if !differs && standing.missed == 0 {
            standing.held = None;
        }
        if standing.heard() == 0 {
            standing.fold = Fold::Open;
        }
    }

    /// Whether he knows of something that fires.
    pub(crate) fn knows(&self) -> bool {
        self.standing.told > self.standing.gone
    }

    /// Counts anew after alerts have been silenced or are so no more. What was news before is so since then.
    pub(crate) fn refreeze(&mut self, alerts: &BTreeMap<AlertKey, AlertView>, at: Steady) {
        let before = self.standing.changed_since;
        self.recount(alerts, at);
        let standing = &mut self.standing;
        standing.changed_since = standing.changed_since.map(|at| before.unwrap_or(at));
    }

    /// Counts anew after `told` has been replaced.
    pub(crate) fn recount(&mut self, alerts: &BTreeMap<AlertKey, AlertView>, at: Steady) {
        let heard = || alerts.iter().filter(|(_, alert)| !alert.silenced);
        let told = |key: &AlertKey| self.told.contains(key);
        let fresh = heard().filter(|(key, alert)| alert.firing && !told(key)).count();
        let gone = self
            .told
            .iter()
            .filter(|key| alerts.get(key).is_none_or(|alert| !alert.firing && !alert.silenced));
        let frozen = self.told.iter().filter(|key| alerts.get(key).is_some_and(|alert| alert.silenced));
        let (gone, frozen) = (gone.count(), frozen.count());
        self.standing.told = self.told.len();
        self.standing.frozen = frozen;
        self.standing.gone = gone;
        self.standing.fresh = fresh;
        self.recount_missed(alerts);
        self.standing.changed_since = None;
        self.mark_change(at);
    }
}
