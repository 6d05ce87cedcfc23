//! Whether a recipient is due a mail, when, and why: a pure function of what he was told last and what fires now.
//! `group_wait`, `group_interval` and `repeat_interval` mean what they mean to Alertmanager's users.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Steady;
use crate::hours::Openings;

/// Why a mail is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotifyReason {
    /// Nothing was known to fire, and now something does.
    FirstFiring,
    /// More feeds fire than the recipient knows of.
    MoreFiring,
    /// Some of the feeds that he knows of are back; others still fire.
    FewerFiring,
    /// All of them are back.
    Resolved,
    /// Nothing has changed for `repeat_interval`, and it still fires.
    RepeatIntervalElapsed,
    /// A service that this one depends on is back, and this one still fires.
    DependencyRecovered,
    /// It fires, others were told of it long ago, and nobody has acknowledged it.
    Escalated,
    /// A mail that waited for a relay was replaced: this one says what has happened meanwhile, and what holds now.
    DeliveryResumed,
}

impl NotifyReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::FirstFiring,
        Self::MoreFiring,
        Self::FewerFiring,
        Self::Resolved,
        Self::RepeatIntervalElapsed,
        Self::DependencyRecovered,
        Self::Escalated,
        Self::DeliveryResumed,
    ];

    /// As written in history, headers and announcements.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstFiring => "first_firing",
            Self::MoreFiring => "more_firing",
            Self::FewerFiring => "fewer_firing",
            Self::Resolved => "resolved",
            Self::RepeatIntervalElapsed => "repeat_interval_elapsed",
            Self::DependencyRecovered => "dependency_recovered",
            Self::Escalated => "escalated",
            Self::DeliveryResumed => "delivery_resumed",
        }
    }

    /// Whether it is left unsaid while the failure of another service explains it. What was told and is back is
    /// said in any case.
    pub(crate) fn folds(self) -> bool {
        !matches!(self, Self::FewerFiring | Self::Resolved)
    }
}

impl fmt::Display for NotifyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often and when an alert block wants to speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) group_wait: Duration,
    pub(crate) group_interval: Duration,
    pub(crate) repeat_interval: Duration,
    pub(crate) send_resolved: bool,
    /// When it may speak; at any time where there is none. What is due waits.
    pub(crate) hours: Option<Arc<Openings>>,
    /// For those who are told only when nobody acknowledges: so long after the episode's first mail was due.
    pub(crate) escalate_after: Option<Duration>,
}

/// Where a recipient stands towards the services that a group's own depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fold {
    /// The group speaks for itself, as far as has been looked.
    #[default]
    Open,
    /// One of them fails, and he is told of that instead.
    Folded,
    /// None of them fails any more, since then.
    Unfolded {
        /// Since when.
        at: Steady,
        /// Whether he had been told of the one that failed last.
        told: bool,
    },
}

impl Timing {
    /// When what is due at this moment may be said.
    pub(crate) fn open(&self, due: Steady) -> Option<Steady> {
        match &self.hours {
            Some(hours) => hours.next_open(due),
            None => Some(due),
        }
    }

    /// When the first mail about what is news since this moment is due.
    pub(crate) fn first_due(&self, changed_since: Steady) -> Option<Steady> {
        self.open(changed_since + self.group_wait)
    }
}

/// What a recipient was told of a group, against what fires. Alerts that are silenced are neither fresh nor gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Alerts he believes to fire.
    pub(crate) told: usize,
    /// Of these, silenced.
    pub(crate) frozen: usize,
    /// Alerts that fire and that he was not told of.
    pub(crate) fresh: usize,
    /// Alerts he believes to fire and that do not.
    pub(crate) gone: usize,
    /// Alerts that came and went while a mail waited for a relay, and that no mail has named.
    pub(crate) missed: usize,
    /// A mail that waited was taken back at this moment; what replaces it is due.
    pub(crate) held: Option<Steady>,
    /// Since when `fresh` and `gone` are not both zero.
    pub(crate) changed_since: Option<Steady>,
    /// When the first mail of what he believes to go on was decided upon.
    pub(crate) began_at: Steady,
    /// When his last mail was decided upon.
    pub(crate) decided_at: Steady,
    /// When his last mail reached the relay.
    pub(crate) told_at: Steady,
    /// Whether other services explain it.
    pub(crate) fold: Fold,
}

impl Standing {
    /// How many alerts fire that are not silenced.
    pub(crate) fn heard(&self) -> usize {
        self.told - self.frozen - self.gone + self.fresh
    }
}

/// What else bears on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// Nothing is said before this moment.
    pub(crate) not_before: Steady,
    /// Somebody takes care of the episode: no repeats and no escalation before this moment.
    pub(crate) acknowledged_until: Steady,
    /// When the episode's first mail to those whom the alert block names first was due, if it was.
    pub(crate) first_due: Option<Steady>,
}

/// What is to be done for a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Mail him.
    Mail(NotifyReason),
    /// Take what is gone as told: his alert block does not speak of ends.
    Settle,
}

/// The next thing to do for a recipient and when, as long as nothing else happens.
pub(crate) fn next_step(
    standing: &Standing,
    timing: &Timing,
    circumstances: &Circumstances,
) -> Option<(Steady, Step)> {
    let (due, step) = match standing.fold {
        Fold::Open => next_due(standing, timing, circumstances),
        Fold::Folded => folded_due(standing, timing),
        Fold::Unfolded { .. } if standing.heard() == 0 => next_due(standing, timing, circumstances),
        Fold::Unfolded { at, told } => unfolded_due(at, told, standing, timing, circumstances),
    }?;
    let due = due.max(circumstances.not_before);
    match step {
        Step::Settle => Some((due, step)),
        Step::Mail(_) => Some((timing.open(due)?, step)),
    }
}

/// While another service explains what fires: only what was told and is back.
fn folded_due(standing: &Standing, timing: &Timing) -> Option<(Steady, Step)> {
    let changed_since = standing.changed_since.filter(|_| standing.gone > 0)?;
    let due = (changed_since + timing.group_wait).max(standing.decided_at + timing.group_interval);
    let step = if !timing.send_resolved {
        Step::Settle
    } else if standing.gone == standing.told && standing.fresh == 0 {
        Step::Mail(NotifyReason::Resolved)
    } else {
        Step::Mail(NotifyReason::FewerFiring)
    };
    Some((due, step))
}

/// Once no other service explains it any more, since `at`; what is back with the other is back within `group_wait`.
/// `told` says whether he was told of the other.
fn unfolded_due(
    at: Steady,
    told: bool,
    standing: &Standing,
    timing: &Timing,
    circumstances: &Circumstances,
) -> Option<(Steady, Step)> {
    let waited = at + timing.group_wait;
    let escalates = standing.told == 0 && timing.escalate_after.is_some();
    if !told || escalates {
        return next_due(standing, timing, circumstances).map(|(due, step)| (due.max(waited), step));
    }
    let mut due = waited;
    if standing.told > 0 {
        due = due.max(standing.decided_at + timing.group_interval);
    }
    if standing.fresh == 0 {
        due = due.max(circumstances.acknowledged_until);
    }
    Some((due, Step::Mail(NotifyReason::DependencyRecovered)))
}

/// Where nothing else explains it.
fn next_due(standing: &Standing, timing: &Timing, circumstances: &Circumstances) -> Option<(Steady, Step)> {
    let Standing { told, frozen, fresh, gone, missed, .. } = *standing;
    let acknowledged_until = circumstances.acknowledged_until;
    let differs = standing.changed_since.is_some();
    if let Some(held) = standing.held.filter(|_| differs || missed > 0) {
        let tells = fresh > 0 || missed > 0 || timing.send_resolved;
        return Some((held, if tells { Step::Mail(NotifyReason::DeliveryResumed) } else { Step::Settle }));
    }
    if missed > 0 && !differs {
        let due = standing.decided_at + timing.group_interval;
        return Some((due, Step::Mail(NotifyReason::DeliveryResumed)));
    }
    let Some(changed_since) = standing.changed_since else {
        let due = (standing.told_at + timing.repeat_interval).max(acknowledged_until);
        return (told > frozen).then_some((due, Step::Mail(NotifyReason::RepeatIntervalElapsed)));
    };
    let waited = changed_since + timing.group_wait;
    if told == 0 {
        let Some(after) = timing.escalate_after else {
            return Some((waited, Step::Mail(NotifyReason::FirstFiring)));
        };
        let first_due = match circumstances.first_due {
            Some(first_due) => first_due,
            None => timing.first_due(changed_since)?,
        };
        let due = waited.max(first_due + after).max(acknowledged_until);
        return Some((due, Step::Mail(NotifyReason::Escalated)));
    }
    let due = waited.max(standing.decided_at + timing.group_interval);
    let step = if fresh > 0 {
        Step::Mail(NotifyReason::MoreFiring)
    } else if !timing.send_resolved {
        Step::Settle
    } else if gone == told {
        Step::Mail(NotifyReason::Resolved)
    } else {
        Step::Mail(NotifyReason::FewerFiring)
    };
    Some((due, step))
}

#[cfg(test)]
mod tests {
    use kinetic_wire::Wall;

    use super::*;

    const TIMING: Timing = Timing {
        group_wait: Duration::from_secs(1),
        group_interval: Duration::from_secs(10),
        repeat_interval: Duration::from_secs(100),
        send_resolved: true,
        hours: None,
        escalate_after: None,
    };
    const QUIET: Timing = Timing { send_resolved: false, ..TIMING };
    const LATER: Timing = Timing { escalate_after: Some(Duration::from_secs(30)), ..TIMING };

    fn at(secs: i64) -> Steady {
        Wall::from_secs(secs).into()
    }

    /// Told, of these frozen, fresh, gone; last mail decided at 50 and taken at 60; changed at `changed`.
    fn standing([told, frozen, fresh, gone]: [usize; 4], changed: i64) -> Standing {
        let differs = fresh > 0 || gone > 0;
        Standing {
            told,
            frozen,
            fresh,
            gone,
            missed: 0,
            held: None,
            changed_since: differs.then_some(at(changed)),
            began_at: at(50),
            decided_at: at(50),
            told_at: at(60),
            fold: Fold::Open,
        }
    }

    fn check(timing: &Timing, counts: [usize; 4], changed: i64, want: Option<(i64, Step)>) {
        check_under(&Circumstances::default(), timing, counts, changed, want);
    }

    fn check_under(
        circumstances: &Circumstances,
        timing: &Timing,
        counts: [usize; 4],
        changed: i64,
        want: Option<(i64, Step)>,
    ) {
        let standing = standing(counts, changed);
        let step = next_step(&standing, timing, circumstances);
        assert_eq!(step, want.map(|(s, step)| (at(s), step)), "{standing:?}");
    }

    #[test]
    fn each_reason_and_its_moment() {
        use NotifyReason::{FewerFiring, FirstFiring, MoreFiring, RepeatIntervalElapsed, Resolved};
        check(&TIMING, [0, 0, 0, 0], 0, None);
        check(&TIMING, [0, 0, 2, 0], 52, Some((53, Step::Mail(FirstFiring))));
        check(&TIMING, [2, 0, 0, 0], 0, Some((160, Step::Mail(RepeatIntervalElapsed))));
        check(&TIMING, [2, 0, 1, 0], 52, Some((60, Step::Mail(MoreFiring))));
        check(&TIMING, [2, 0, 1, 0], 70, Some((71, Step::Mail(MoreFiring))));
        check(&TIMING, [2, 0, 1, 2], 70, Some((71, Step::Mail(MoreFiring))));
        check(&TIMING, [2, 0, 0, 1], 70, Some((71, Step::Mail(FewerFiring))));
        check(&TIMING, [2, 0, 0, 2], 55, Some((60, Step::Mail(Resolved))));
        check(&QUIET, [2, 0, 0, 2], 55, Some((60, Step::Settle)));
        check(&QUIET, [2, 0, 0, 1], 55, Some((60, Step::Settle)));
        check(&QUIET, [2, 0, 1, 1], 55, Some((60, Step::Mail(MoreFiring))));
    }

    #[test]
    fn what_is_silenced_is_not_repeated_and_not_called_resolved() {
        use NotifyReason::{FewerFiring, RepeatIntervalElapsed};
        check(&TIMING, [2, 2, 0, 0], 0, None);
        check(&TIMING, [2, 1, 0, 0], 0, Some((160, Step::Mail(RepeatIntervalElapsed))));
        check(&TIMING, [2, 1, 0, 1], 70, Some((71, Step::Mail(FewerFiring))));
    }

    #[test]
    fn an_escalation_waits_for_its_time_and_for_who_acknowledged() {
        use NotifyReason::{Escalated, MoreFiring, RepeatIntervalElapsed, Resolved};
        let told_at_60 = Circumstances { first_due: Some(at(60)), ..Circumstances::default() };
        let acknowledged = Circumstances { acknowledged_until: at(500), ..told_at_60 };
        check(&LATER, [0, 0, 1, 0], 52, Some((83, Step::Mail(Escalated))));
        check_under(&told_at_60, &LATER, [0, 0, 1, 0], 52, Some((90, Step::Mail(Escalated))));
        check_under(&told_at_60, &LATER, [0, 0, 1, 0], 200, Some((201, Step::Mail(Escalated))));
        check_under(&acknowledged, &LATER, [0, 0, 1, 0], 52, Some((500, Step::Mail(Escalated))));
        // Those who were told follow the episode like all others.
        check_under(&acknowledged, &LATER, [1, 0, 1, 0], 70, Some((71, Step::Mail(MoreFiring))));
        check_under(&acknowledged, &LATER, [1, 0, 0, 1], 70, Some((71, Step::Mail(Resolved))));
        check_under(&acknowledged, &TIMING, [1, 0, 0, 0], 0, Some((500, Step::Mail(RepeatIntervalElapsed))));
        check_under(&told_at_60, &TIMING, [1, 0, 0, 0], 0, Some((160, Step::Mail(RepeatIntervalElapsed))));
    }

    #[test]
    fn nothing_is_said_before_it_may_be() {
        use NotifyReason::FirstFiring;
        let later = Circumstances { not_before: at(99), ..Circumstances::default() };
        check_under(&later, &TIMING, [0, 0, 2, 0], 52, Some((99, Step::Mail(FirstFiring))));
        check_under(&later, &QUIET, [2, 0, 0, 2], 55, Some((99, Step::Settle)));
    }

    fn check_folded(
        fold: Fold,
        timing: &Timing,
        counts: [usize; 4],
        changed: i64,
        want: Option<(i64, Step)>,
    ) {
        let standing = Standing { fold, ..standing(counts, changed) };
        let step = next_step(&standing, timing, &Circumstances::default());
        assert_eq!(step, want.map(|(s, step)| (at(s), step)), "{standing:?}");
    }

    #[test]
    fn what_another_service_explains_waits_for_it() {
        use NotifyReason::{DependencyRecovered, FewerFiring, MoreFiring, RepeatIntervalElapsed, Resolved};
        let folded = |counts, changed, want| check_folded(Fold::Folded, &TIMING, counts, changed, want);
        folded([0, 0, 2, 0], 52, None);
        folded([2, 0, 0, 0], 52, None);
        folded([2, 0, 1, 0], 52, None);
        folded([2, 0, 0, 1], 70, Some((71, Step::Mail(FewerFiring))));
        folded([2, 0, 1, 2], 70, Some((71, Step::Mail(FewerFiring))));
        folded([2, 0, 0, 2], 55, Some((60, Step::Mail(Resolved))));
        check_folded(Fold::Folded, &QUIET, [2, 0, 1, 1], 55, Some((60, Step::Settle)));

        let after = |secs, told| Fold::Unfolded { at: at(secs), told };
        // He knows of the other's failure: that it is over, and this is not, is news even where nothing has changed.
        check_folded(after(90, true), &TIMING, [0, 0, 2, 0], 52, Some((91, Step::Mail(DependencyRecovered))));
        check_folded(after(90, true), &TIMING, [2, 0, 0, 0], 0, Some((91, Step::Mail(DependencyRecovered))));
        check_folded(after(55, true), &TIMING, [2, 0, 1, 1], 52, Some((60, Step::Mail(DependencyRecovered))));
        check_folded(after(90, true), &TIMING, [2, 0, 0, 2], 55, Some((60, Step::Mail(Resolved))));
        // Who is told only later, and was not, waits for his time.
        check_folded(
            after(90, true),
            &LATER,
            [0, 0, 2, 0],
            52,
            Some((91, Step::Mail(NotifyReason::Escalated))),
        );
        check_folded(after(90, true), &LATER, [1, 0, 1, 0], 52, Some((91, Step::Mail(DependencyRecovered))));
        // What is silenced may still fire.
        check_folded(Fold::Folded, &TIMING, [2, 1, 0, 1], 70, Some((71, Step::Mail(FewerFiring))));
        // He does not: all is as if it had never been, but for group_wait.
        check_folded(after(90, false), &TIMING, [2, 0, 1, 0], 52, Some((91, Step::Mail(MoreFiring))));
        check_folded(
            after(90, false),
            &TIMING,
            [2, 0, 0, 0],
            0,
            Some((160, Step::Mail(RepeatIntervalElapsed))),
        );
        check_folded(
            after(170, false),
            &TIMING,
            [2, 0, 0, 0],
            0,
            Some((171, Step::Mail(RepeatIntervalElapsed))),
        );
    }
}
