//! What a part of a source makes of a window instead of judging it, and how the source's owner takes that in.

use std::sync::Arc;

use kinetic_schema::schema::Rule;
use kinetic_wire::{Partial, PartialGroup};

use super::{Closed, Groups};
use crate::lane::{Fate, Lane};
use crate::partial;
use crate::plan::{Plan, Watch};

/// What became of the rows of a partial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Taken in.
    pub(crate) taken: u64,
    /// Of feeds that another part has said something of in the same window.
    pub(crate) twice: u64,
    /// For a question that this revision does not ask.
    pub(crate) unknown: u64,
    /// For a window that is closed.
    pub(crate) late: u64,
    /// Too many feeds, or too many windows are open.
    pub(crate) refused: u64,
}

impl Groups {
    /// The values of one window of one lane, without judging them.
    pub(crate) fn reduce(&mut self, plan: &Plan, lane_index: usize, closed: Closed<'_>) -> Vec<PartialGroup> {
        let mut reduced = Vec::new();
        let Some(window) = closed.window else { return reduced };
        for ((watch, metric), group) in &mut self.groups {
            let watch = &plan.watches[*watch];
            // Of a window that is not whole nothing is said that counts; silence is the owner's to judge.
            if usize::from(watch.lane) != lane_index
                || (closed.is_short && watch.counts() && !watch.listens())
            {
                continue;
            }
            let seconds = watch.length as f64 / 1e9;
            let mut feeds = Vec::new();
            group.settle();
            for feed in &mut group.feeds {
                let cell = window.cell(feed.cell);
                if cell.samples() == 0 {
                    continue;
                }
                let value = cell.finish(watch.value(), seconds, &mut feed.level, &window.sides);
                group.is_moved |= cell.is_moved();
                feeds.push(partial::row(&feed.origin, value, cell.samples()));
            }
            if !feeds.is_empty() {
                reduced.push(PartialGroup {
                    analytic: watch.analytic.name.clone(),
                    service: watch.on.service.clone(),
                    cluster: watch.on.cluster.clone(),
                    digest: watch.digest.clone(),
                    metric: metric.to_string(),
                    feeds,
                });
            }
        }
        reduced
    }

    /// Takes the values of a part's window into the window of the lane. Of more than `feeds_max` feeds none is new.
    pub(crate) fn merge(
        &mut self,
        plan: &Plan,
        lanes: &mut [Lane],
        partial: &Partial,
        feeds_max: usize,
    ) -> Merged {
        let mut merged = Merged::default();
        for given in &partial.groups {
            let is_asked = |watch: &Watch| {
                watch.length == partial.length_ns
                    && watch.analytic.name == given.analytic
                    && watch.on.service == given.service
                    && watch.on.cluster == given.cluster
                    && watch.digest == given.digest
            };
            match plan.watches.iter().position(is_asked) {
                Some(index) => {
                    let watch = (index, &plan.watches[index]);
                    self.merge_group(watch, lanes, partial, given, feeds_max, &mut merged);
                }
                None => merged.unknown += given.feeds.len() as u64,
            }
        }
        merged
    }

    fn merge_group(
        &mut self,
        (index, watch): (usize, &Watch),
        lanes: &mut [Lane],
        partial: &Partial,
        given: &PartialGroup,
        feeds_max: usize,
        merged: &mut Merged,
    ) {
        let lane = &mut lanes[usize::from(watch.lane)];
        if partial.end_ns <= lane.closed {
            merged.late += given.feeds.len() as u64;
            return;
        }
        let group = self.groups.entry((index, Arc::from(given.metric.as_str()))).or_default();
        for row in &given.feeds {
            if self.given >= feeds_max && !group.knows(&row.o) {
                merged.refused += 1;
                continue;
            }
            let (feed, is_new) = group.feed(&row.o, lane);
            self.given += usize::from(is_new);
            // Rules of silence note for themselves when a feed was seen: in windows that are closed.
            if matches!(watch.rule, Rule::Deviates(_)) {
                feed.seen = feed.seen.max(partial.end_ns);
            }
            let value = partial::value(row).unwrap_or(f64::NAN);
            let (fate, twice) = lane.give(feed.cell, partial.end_ns, partial.source.part, (value, row.n));
            match fate {
                Fate::Counted => merged.taken += 1,
                Fate::Late => merged.late += 1,
                Fate::Refused => merged.refused += 1,
            }
            // All parts may have something of a cluster that is listened to as one.
            merged.twice += u64::from(twice && matches!(watch.rule, Rule::Deviates(_)));
        }
    }
}
