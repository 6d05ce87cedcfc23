//! Whether a recipient is due a mail, when, and why: a pure function of what he was told last and what fires now.
//! `group_wait`, `group_interval` and `repeat_interval` mean what they mean to Alertmanager's users.

use std::fmt;
use std::time::Duration;

use crate::clock::Steady;

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
    /// A mail that waited for a relay was replaced: this one says what has happened meanwhile, and what holds now.
    DeliveryResumed,
}

impl NotifyReason {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::FirstFiring,
        Self::MoreFiring,
        Self::FewerFiring,
        Self::Resolved,
        Self::RepeatIntervalElapsed,
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
            Self::DeliveryResumed => "delivery_resumed",
        }
    }
}

impl fmt::Display for NotifyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often an alert block wants to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) group_wait: Duration,
    pub(crate) group_interval: Duration,
    pub(crate) repeat_interval: Duration,
    pub(crate) send_resolved: bool,
}

/// What a recipient was told of a group, against what fires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Alerts he believes to fire.
    pub(crate) told: usize,
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
    /// When his last mail was decided upon.
    pub(crate) decided_at: Steady,
    /// When his last mail reached the relay.
    pub(crate) told_at: Steady,
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
pub(crate) fn next_step(standing: &Standing, timing: &Timing) -> Option<(Steady, Step)> {
    let Standing { told, fresh, gone, missed, .. } = *standing;
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
        let repeat =
            (standing.told_at + timing.repeat_interval, Step::Mail(NotifyReason::RepeatIntervalElapsed));
        return (told > 0).then_some(repeat);
    };
    let waited = changed_since + timing.group_wait;
    if told == 0 {
        return Some((waited, Step::Mail(NotifyReason::FirstFiring)));
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
    };
    const QUIET: Timing = Timing { send_resolved: false, ..TIMING };

    fn at(secs: i64) -> Steady {
        Wall::from_secs(secs).into()
    }

    /// Told, fresh, gone; last mail decided at 50 and taken at 60; changed at `changed`.
    fn check(
        timing: &Timing,
        told: usize,
        fresh: usize,
        gone: usize,
        changed: i64,
        want: Option<(i64, Step)>,
    ) {
        let differs = fresh > 0 || gone > 0;
        let standing = Standing {
            told,
            fresh,
            gone,
            missed: 0,
            held: None,
            changed_since: differs.then_some(at(changed)),
            decided_at: at(50),
            told_at: at(60),
        };
        assert_eq!(next_step(&standing, timing), want.map(|(s, step)| (at(s), step)), "{standing:?}");
    }

    #[test]
    fn each_reason_and_its_moment() {
        use NotifyReason::{FewerFiring, FirstFiring, MoreFiring, RepeatIntervalElapsed, Resolved};
        check(&TIMING, 0, 0, 0, 0, None);
        check(&TIMING, 0, 2, 0, 52, Some((53, Step::Mail(FirstFiring))));
        check(&TIMING, 2, 0, 0, 0, Some((160, Step::Mail(RepeatIntervalElapsed))));
        check(&TIMING, 2, 1, 0, 52, Some((60, Step::Mail(MoreFiring))));
        check(&TIMING, 2, 1, 0, 70, Some((71, Step::Mail(MoreFiring))));
        check(&TIMING, 2, 1, 2, 70, Some((71, Step::Mail(MoreFiring))));
        check(&TIMING, 2, 0, 1, 70, Some((71, Step::Mail(FewerFiring))));
        check(&TIMING, 2, 0, 2, 55, Some((60, Step::Mail(Resolved))));
        check(&QUIET, 2, 0, 2, 55, Some((60, Step::Settle)));
        check(&QUIET, 2, 0, 1, 55, Some((60, Step::Settle)));
        check(&QUIET, 2, 1, 1, 55, Some((60, Step::Mail(MoreFiring))));
    }
}
