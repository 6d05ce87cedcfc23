//! Whether silence was told as it was: `rule "silent"` of feeds and of whole clusters.
//!
//! What holds in every run, whatever goes wrong: a report says from when to when nothing was heard, and in that time there is
//! no sample of that feed which the broker had before its window could be closed, however late it was delivered. Along the
//! windows of one feed, silences begin and end by turns, each with one beginning. When all have ceased to speak and everything has
//! come to rest, each is reported, from its last sample on. A silence that ends may go unreported where nobody listened: only
//! where nothing kept owners from listening, each that was long enough must be there.

use std::collections::{BTreeMap, BTreeSet};

use kinetic_wire::{AlertEvent, AlertState, SourceKey};

use crate::broker::Gone;
use crate::check::{Excuses, Invariant};
use crate::installation::{HEARING, SILENT_AFTER, SILENT_CLUSTER, SILENT_FEED};
use crate::ledger::{Accepted, Ledger, Sample};
use crate::message::{MS, Time};

const HEARING_MS: i64 = (HEARING / MS) as i64;
const AFTER_MS: i64 = (SILENT_AFTER / MS) as i64;

/// A source, and a feed of it, or `*` for its cluster.
type Who = (SourceKey, String);

/// Ends of the windows in which each was heard: surely, and perhaps.
#[derive(Debug, Default)]
struct Heard {
    surely: BTreeSet<i64>,
    perhaps: BTreeSet<i64>,
}

/// Checks every silence.
pub(crate) fn silences(ledger: &mut Ledger, at: Time, excuses: Excuses) {
    let mut told: BTreeMap<Who, Vec<&AlertEvent>> = BTreeMap::new();
    for Accepted { event, .. } in &ledger.accepted {
        if [SILENT_FEED, SILENT_CLUSTER].iter().any(|name| event.analytic.as_str().starts_with(name)) {
            let source = SourceKey::new(event.customer.as_str(), event.source.as_str());
            told.entry((source, event.feed.origin.clone())).or_default().push(event);
        }
    }
    let mut found = Vec::new();
    for (who, heard) in heard(&ledger.samples) {
        let mut events = told.remove(&who).unwrap_or_default();
        events.sort_by_key(|event| event.window_end_ms);
        let (source, origin) = &who;
        let place = format!("{source} {origin}");
        found.extend(untrue(&place, &events, &heard));
        let (last, wrong) = follow(&place, &events);
        found.extend(wrong);
        found.extend(untold(&place, &events, last, &heard, excuses));
    }
    for (invariant, detail) in found {
        ledger.violated(at, invariant, detail);
    }
}

fn heard(samples: &[Sample]) -> BTreeMap<Who, Heard> {
    let mut all: BTreeMap<Who, Heard> = BTreeMap::new();
    for sample in samples {
        let Some(stamp) = sample.stamp_ms.filter(|_| sample.entered.is_some()) else { continue };
        let end = stamp - stamp.rem_euclid(HEARING_MS) + HEARING_MS;
        let was_there = !sample.dropped && sample.gone.is_none_or(|why| why == Gone::Planted);
        let surely = sample.heard_by_ms(sample.entered).filter(|_| was_there && !sample.overdue);
        for origin in [sample.origin.as_str(), "*"] {
            let heard = all.entry((sample.source.clone(), origin.to_owned())).or_default();
            heard.perhaps.insert(end);
            heard.surely.extend(surely);
        }
    }
    all
}

/// Reports of silences in which something was heard.
fn untrue(place: &str, events: &[&AlertEvent], heard: &Heard) -> Vec<(Invariant, String)> {
    let firing = events.iter().filter(|event| event.state == AlertState::Firing);
    let wrong = firing.filter_map(|event| {
        let spoke = heard.surely.range(event.since_ms + 1..=event.window_end_ms).next()?;
        let (since, end) = (event.since_ms, event.window_end_ms);
        let text =
            format!("{place}: said to be silent from {since} to {end}, and spoke in the window to {spoke}");
        Some((Invariant::SilenceIsTrue, text))
    });
    wrong.collect()
}

/// Whether silences begin and end by turns. Returns since when one stands in the end.
fn follow(place: &str, events: &[&AlertEvent]) -> (Option<i64>, Vec<(Invariant, String)>) {
    let mut stands: Option<i64> = None;
    let mut found = Vec::new();
    let mut wrong = |event: &AlertEvent, text: &str| {
        let (since, end) = (event.since_ms, event.window_end_ms);
        found.push((
            Invariant::SilenceIsTold,
            format!("{place}: silence since {since}, window to {end}: {text}"),
        ));
    };
    for event in events {
        match (event.state, stands) {
            (AlertState::Firing, None) => stands = Some(event.since_ms),
            (AlertState::Firing, Some(since)) if since != event.since_ms => {
                wrong(event, &format!("begins, and the one since {since} has not ended"));
                stands = Some(event.since_ms);
            }
            (AlertState::Firing, Some(_)) => {}
            (AlertState::Resolved, Some(since)) if since == event.since_ms => stands = None,
            (AlertState::Resolved, _) => wrong(event, "ends, and has not begun"),
        }
    }
    (stands, found)
}

/// Silences that were not reported.
fn untold(
    place: &str,
    events: &[&AlertEvent],
    last: Option<i64>,
    heard: &Heard,
    excuses: Excuses,
) -> Vec<(Invariant, String)> {
    let mut found = Vec::new();
    let Some((surely, perhaps)) = heard.surely.last().zip(heard.perhaps.last()) else { return found };
    if last.is_none_or(|since| since < *surely || since > *perhaps) {
        let text = format!(
            "{place}: heard last in the window to {surely}, in the end reported silent since {last:?}"
        );
        found.push((Invariant::SilenceIsTold, text));
    }
    let ends: Vec<i64> = heard.perhaps.iter().copied().collect();
    for gap in ends.windows(2).filter(|gap| !excuses.overdue && gap[1] - HEARING_MS - gap[0] >= AFTER_MS) {
        let is_told =
            events.iter().any(|event| event.state == AlertState::Firing && event.since_ms == gap[0]);
        if !is_told {
            let text = format!("{place}: silent from {} to {}, and not reported", gap[0], gap[1]);
            found.push((Invariant::SilenceIsTold, text));
        }
    }
    found
}
