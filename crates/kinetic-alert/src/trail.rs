//! The last windows of the feeds that may lead a mail, for its picture.

use std::collections::BTreeMap;

use kinetic_plot::{Plot, Point};
use kinetic_wire::{AlertEvent, AlertState, TrailPoint};

use crate::group::AlertView;
use crate::id::AlertKey;

/// Windows kept of a feed: those of the analyzer, and as many from the events that follow. The oldest are forgotten.
pub(crate) const POINTS_MAX: usize = 60;
/// Feeds of a group whose windows are kept: those that are farthest from their peers, since one of them leads.
pub(crate) const TRAILS_MAX: usize = 16;

/// One feed's windows.
#[derive(Clone, Debug, PartialEq)]
struct Trail {
    /// How far from its peers, when it last fired.
    distance: f64,
    /// The rule's limit, in deviations.
    limit: f64,
    /// Feeds of the cluster.
    feeds: u32,
    points: Vec<Point>,
}

/// The windows of a group's leading feeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Trails {
    trails: BTreeMap<AlertKey, Trail>,
}

impl Trails {
    /// Takes in what an event says: the windows before it where it begins an alert, and its own.
    pub(crate) fn take(&mut self, key: AlertKey, event: &AlertEvent) {
        let Some(numbers) = event.numbers else { return };
        let given = event.trail.as_deref().unwrap_or_default();
        let trail = match self.trails.get_mut(&key) {
            Some(trail) => trail,
            // A picture of the moments of events alone would hide what lies between them.
            None if given.is_empty() => return,
            None => self.trails.entry(key).or_insert(Trail {
                distance: 0.0,
                limit: numbers.limit,
                feeds: numbers.feeds,
                points: Vec::new(),
            }),
        };
        (trail.limit, trail.feeds) = (numbers.limit, numbers.feeds);
        if event.state == AlertState::Firing {
            trail.distance = numbers.deviations.abs();
        }
        let last = TrailPoint {
            end_ms: event.window_end_ms,
            value: Some(numbers.value),
            mean: numbers.mean,
            deviation: numbers.deviation,
        };
        trail.points.extend(given.iter().chain([&last]).map(point));
        trail.points.sort_by_key(|point| point.end_ms);
        trail.points.dedup_by_key(|point| point.end_ms);
        let surplus = trail.points.len().saturating_sub(POINTS_MAX);
        trail.points.drain(..surplus);
        self.bound();
    }

    /// Takes over what another group knows of a feed.
    pub(crate) fn adopt(&mut self, key: AlertKey, other: &Self) {
        if let Some(trail) = other.trails.get(&key) {
            self.trails.insert(key, trail.clone());
            self.bound();
        }
    }

    /// Of too many feeds, forgets the nearest to its peers.
    fn bound(&mut self) {
        if self.trails.len() <= TRAILS_MAX {
            return;
        }
        let nearest = self.trails.iter().min_by(|a, b| a.1.distance.total_cmp(&b.1.distance));
        if let Some(key) = nearest.map(|(key, _)| *key) {
            self.trails.remove(&key);
        }
    }

    /// Whether the windows of a feed are kept.
    pub(crate) fn has(&self, key: AlertKey) -> bool {
        self.trails.contains_key(&key)
    }

    /// The alert is forgotten.
    pub(crate) fn forget(&mut self, key: AlertKey) {
        self.trails.remove(&key);
    }

    /// What is to be drawn of a feed, if a picture would say more than the numbers.
    pub(crate) fn plot(&self, key: AlertKey, alert: &AlertView) -> Option<Plot> {
        let trail = self.trails.get(&key)?;
        let plot = Plot {
            feed: alert.origin.clone(),
            metric: format!("{} {}", alert.metric, alert.value_kind),
            feeds: trail.feeds,
            deviations: trail.limit,
            direction: alert.direction,
            points: trail.points.clone(),
        };
        plot.is_worth_drawing().then_some(plot)
    }
}

fn point(given: &TrailPoint) -> Point {
    Point { end_ms: given.end_ms, value: given.value, mean: given.mean, deviation: given.deviation }
}
