//! What may never happen, each with a name. Some are noticed as they happen (`ledger.rs`), the others at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kinetic_wire::{AlertState, SourceKey};

use crate::broker::Gone;
use crate::installation::{GROUP_WAIT, LEVEL, METRIC};
use crate::ledger::{Accepted, Ledger, Sample};
use crate::message::{SECOND, Time};
use crate::world::BEGIN_S;

/// A rule that no run may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Two owners of a source in one epoch never both get an alert event accepted.
    OneOwner,
    /// A sample that the broker confirmed to its publisher is counted in exactly one accepted verdict.
    CountsOnce,
    /// What a rule remembers from window to window is not lost with its owner: "2 of 3" begins and ceases to fire when it
    /// would have in an undisturbed run.
    SameVerdicts,
    /// What a publisher repeats because a confirm was lost is counted once.
    RepeatCountsOnce,
    /// A copy of a sample is dropped as late only where it came into its queue late, or [`Excuses`] say so.
    LateIsExplained,
    /// No analyzer publishes past four fifths of its lease, except degraded.
    LeaseFence,
    /// No source is given away while its owner's lease stands.
    NoEarlyGift,
    /// A quiet world moves nothing.
    QuietMovesNothing,
    /// After the faults every source has one owner, which the broker delivers to, within a bound.
    Recovers,
    /// What fires, and does not cease before its group is to be mailed, is mailed.
    MailGoesOut,
    /// Epochs never go down along a source at the alert node.
    EpochOrder,
    /// A term has one leader.
    TermUnique,
    /// Who is reported to be silent has said nothing that came in time, for as long as is said.
    SilenceIsTrue,
    /// A silence begins once and ends before another does, at the alert node as it did; and who has ceased to speak is reported
    /// in the end.
    SilenceIsTold,
    /// No machine wants to be woken without end.
    Progress,
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// When.
    pub at: Time,
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.at / (SECOND / 1000);
        write!(f, "{:>4}.{:03} s {:?}: {}", ms / 1000, ms % 1000, self.invariant, self.detail)
    }
}

/// What a run's faults excuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excuses {
    /// Wall clocks were wrong: what looks late, or early, need not be.
    pub late: bool,
    /// Bodies are not numbered: what is sent twice may be counted twice.
    pub repeats: bool,
    /// Something went wrong that can keep a part of a source from being heard of for too long, or a source from being listened to.
    pub overdue: bool,
}

/// Compares what was published with what was counted.
pub(crate) fn counts(ledger: &mut Ledger, at: Time, excuses: Excuses) {
    let mut windows: BTreeMap<(SourceKey, i64), BTreeMap<String, Vec<Sample>>> = BTreeMap::new();
    for sample in &ledger.samples {
        let Some(window) = sample.window_ms else { continue };
        let feeds = windows.entry((sample.source.clone(), window)).or_default();
        feeds.entry(sample.origin.clone()).or_default().push(sample.clone());
    }
    let mut verdicts: BTreeMap<(SourceKey, i64, String), Vec<f64>> = BTreeMap::new();
    for accepted in &ledger.accepted {
        let event = &accepted.event;
        let Some(numbers) = event.numbers.as_ref().filter(|_| event.feed.metric == METRIC) else { continue };
        let source = SourceKey::new(event.customer.as_str(), event.source.as_str());
        let key = (source, event.window_start_ms, event.feed.origin.clone());
        verdicts.entry(key).or_default().push(numbers.value);
    }
    let mut found = Vec::new();
    for ((source, window), feeds) in windows {
        let sure =
            feeds.values().filter(|samples| samples.iter().any(|sample| must_count(sample, excuses))).count();
        for (origin, samples) in feeds {
            let verdict = verdicts.remove(&(source.clone(), window, origin.clone())).unwrap_or_default();
            let place = format!("{source} {origin} window {window}");
            if !excuses.overdue && samples.iter().any(|sample| sample.overdue) {
                let text =
                    format!("{place}: closed without its part, and nothing kept that from being heard");
                found.push((Invariant::CountsOnce, text));
            }
            let is_due = sure >= 2 && samples.iter().any(|sample| must_count(sample, excuses));
            found.extend(feed(&place, &samples, &verdict, is_due, excuses));
        }
    }
    for ((source, window, origin), _) in verdicts {
        found.push((
            Invariant::CountsOnce,
            format!("{source} {origin} window {window}: nobody published for it"),
        ));
    }
    for sample in ledger.samples.iter().filter(|sample| sample.dropped_in_time) {
        if !excuses.late {
            found.push((Invariant::LateIsExplained, format!("dropped as late: {sample:?}")));
        }
    }
    for (invariant, detail) in found {
        ledger.violated(at, invariant, detail);
    }
}

/// Whether "2 of 3" has begun and ceased to fire in the windows in which it had to. Where a window of a source has lost
/// samples, or a feed was silent in it, as a publisher that is down for a minute is, that and all later ones of the source
/// are left out: what is not there has no verdict, and the next ones count further back.
pub(crate) fn verdicts(ledger: &mut Ledger, at: Time, windows: u64) {
    let begin = BEGIN_S * 1_000;
    let mut whole: BTreeMap<SourceKey, i64> = BTreeMap::new();
    for sample in &ledger.samples {
        let until = whole.entry(sample.source.clone()).or_insert(i64::MAX);
        match sample.window_ms {
            Some(window) if !must_count(sample, Excuses::default()) => *until = window.min(*until),
            Some(_) => {}
            // Not even stamped: nobody knows where it is missing.
            None => *until = 0,
        }
    }
    for (source, until) in &mut whole {
        *until = first_silence(&ledger.samples, source, windows).min(*until);
    }
    let mut said: BTreeMap<(SourceKey, i64), Vec<AlertState>> = BTreeMap::new();
    for Accepted { event, .. } in &ledger.accepted {
        let is_level = event.feed.metric == LEVEL && event.numbers.is_some();
        let source = SourceKey::new(event.customer.as_str(), event.source.as_str());
        if is_level {
            said.entry((source, event.window_start_ms)).or_default().push(event.state);
        }
    }
    let mut found = Vec::new();
    for (source, until) in whole {
        for number in 0..i64::try_from(windows).unwrap_or(0) {
            let window = begin + number * 60_000;
            if window >= until {
                break;
            }
            let wanted = match number {
                0 | 1 => Vec::new(),
                even if even % 2 == 0 => vec![AlertState::Firing],
                _ => vec![AlertState::Resolved],
            };
            let got = said.get(&(source.clone(), window)).cloned().unwrap_or_default();
            if got != wanted {
                found.push(format!("{source} window {number}: said {got:?}, not {wanted:?}"));
            }
        }
    }
    for detail in found {
        ledger.violated(at, Invariant::SameVerdicts, detail);
    }
}

/// Start of the first window that a feed of a source has no sample in.
fn first_silence(samples: &[Sample], source: &SourceKey, windows: u64) -> i64 {
    let mut spoke: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.source == *source) {
        spoke.entry(&sample.origin).or_default().extend(sample.window_ms);
    }
    let all = (0..i64::try_from(windows).unwrap_or(0)).map(|number| BEGIN_S * 1_000 + number * 60_000);
    let silent = all.into_iter().find(|window| spoke.values().any(|windows| !windows.contains(window)));
    silent.unwrap_or(i64::MAX)
}

/// Customers with a feed that fired for long enough to be mailed of: what has ceased when a group's first mail is due
/// is not spoken of.
pub(crate) fn mail_owed(accepted: &[Accepted]) -> BTreeSet<String> {
    let ceased = |firing: &Accepted| {
        let same = |other: &&Accepted| {
            let (one, other) = (&firing.event, &other.event);
            (&one.customer, &one.source, &one.analytic, &one.feed)
                == (&other.customer, &other.source, &other.analytic, &other.feed)
        };
        let until = firing.at + GROUP_WAIT;
        let mut soon = accepted.iter().filter(|other| other.at >= firing.at && other.at <= until);
        soon.any(|other| other.event.state == AlertState::Resolved && same(&other))
    };
    let firing = accepted.iter().filter(|accepted| accepted.event.state == AlertState::Firing);
    firing.filter(|firing| !ceased(firing)).map(|firing| firing.event.customer.to_string()).collect()
}

fn must_count(sample: &Sample, excuses: Excuses) -> bool {
    // What a window has been closed without by a clock that was wrong is dropped, also where it came in time. Of a split
    // source that is known of the values of parts only: who has a part and judges may have closed all of an hour with them.
    let is_excused = excuses.late && (sample.dropped || sample.passed_over || sample.part > 0);
    sample.confirmed
        && !is_excused
        && sample.was_in_time()
        && !sample.dropped_in_time
        && !sample.overdue
        && sample.gone.is_none_or(|why| why == Gone::Planted)
}

/// One feed's window: what its verdict counted against what was published.
fn feed(
    place: &str,
    samples: &[Sample],
    verdicts: &[f64],
    is_due: bool,
    excuses: Excuses,
) -> Vec<(Invariant, String)> {
    let wrong = |text: String| vec![(Invariant::CountsOnce, format!("{place}: {text}"))];
    let value = match verdicts {
        [] if is_due => {
            let due = samples.iter().find(|sample| must_count(sample, excuses));
            return wrong(format!("no verdict was accepted, and there must be one for {due:?}"));
        }
        [] => return Vec::new(),
        [value] => *value,
        several => return wrong(format!("{} verdicts were accepted", several.len())),
    };
    let factor = samples.first().map_or(1, |sample| sample.factor);
    if value < 0.0 || value.fract() != 0.0 || value >= 9e15 || !(value as u64).is_multiple_of(factor) {
        return wrong(format!("the value {value} is no sum of its samples"));
    }
    let digits = value as u64 / factor;
    let mut found = Vec::new();
    for sample in samples {
        let times = u32::try_from(digits >> (2 * sample.digit) & 3).unwrap_or(0);
        let least = u32::from(must_count(sample, excuses));
        if times < least || times > sample.sent {
            found.extend(wrong(format!("sample {} was counted {times} times: {sample:?}", sample.digit)));
        } else if times > 1 && !excuses.repeats {
            let text = format!(
                "{place}: sample {} was sent {} times and counted {times} times",
                sample.digit, sample.sent
            );
            found.push((Invariant::RepeatCountsOnce, text));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{self, Size};

    /// What has ceased when its group is to be mailed is not mailed; what ceases later is.
    #[test]
    fn mail_is_owed_for_what_fires_long_enough() {
        let (mut world, _) = plan::populate(11, Size::default(), &[]);
        world.run(80 * SECOND);
        let firing = world.ledger.accepted.clone();
        assert!(!firing.is_empty() && firing.iter().all(|one| one.event.state == AlertState::Firing));
        let ceasing_after = |wait: Time| {
            let ceases = firing.iter().cloned().map(|mut one| {
                (one.at, one.event.state) = (one.at + wait, AlertState::Resolved);
                one
            });
            mail_owed(&firing.iter().cloned().chain(ceases).collect::<Vec<_>>())
        };
        assert!(ceasing_after(SECOND).is_empty());
        assert_eq!(ceasing_after(3 * SECOND), BTreeSet::from(["c0".to_owned()]));
    }
}
