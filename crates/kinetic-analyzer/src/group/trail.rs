//! The last windows of a group, for the picture of a feed that begins to fire. It is written where a window closes, never
//! where a sample comes in, and is not handed over: a new owner's begins anew.

use std::collections::VecDeque;

use kinetic_wire::TrailPoint;

/// Windows remembered; the oldest are forgotten.
pub(super) const WINDOWS_MAX: usize = 24;
/// A feed that has never had a value here.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// One judged window.
#[derive(Debug)]
struct Row {
    end_ms: i64,
    mean: f64,
    deviation: f64,
    /// How far each feed was from the mean, by its slot; not a number where it had no value. As a distance, four bytes
    /// show even a feed that moves little far from zero.
    distances: Vec<f32>,
}

/// The windows, and which of their places belong to feeds. A feed's place stays the same while others come and go.
#[derive(Debug, Default)]
pub(super) struct Trail {
    rows: VecDeque<Row>,
    slots: u32,
    free: Vec<u32>,
}

impl Trail {
    /// A place for a feed.
    pub(super) fn new_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        })
    }

    /// A feed is gone; the next one in its place must not inherit its past.
    pub(super) fn free_slot(&mut self, slot: u32) {
        if slot == NO_SLOT {
            return;
        }
        for row in &mut self.rows {
            if let Some(distance) = row.distances.get_mut(slot as usize) {
                *distance = f32::NAN;
            }
        }
        self.free.push(slot);
    }

    /// A window was judged; `values` are those of its feeds, by slot.
    pub(super) fn push(
        &mut self,
        end_ms: i64,
        mean: f64,
        deviation: f64,
        values: impl Iterator<Item = (u32, f64)>,
    ) {
        // The oldest window's room is used again.
        let oldest = if self.rows.len() >= WINDOWS_MAX { self.rows.pop_front() } else { None };
        let mut distances = oldest.map(|row| row.distances).unwrap_or_default();
        distances.clear();
        distances.resize(self.slots as usize, f32::NAN);
        for (slot, value) in values {
            if let Some(distance) = distances.get_mut(slot as usize) {
                *distance = (value - mean) as f32;
            }
        }
        self.rows.push_back(Row { end_ms, mean, deviation, distances });
    }

    /// What is remembered of a feed, oldest first.
    pub(super) fn of(&self, slot: u32) -> Vec<TrailPoint> {
        let point = |row: &Row| {
            let distance = row.distances.get(slot as usize).copied().filter(|distance| distance.is_finite());
            TrailPoint {
                end_ms: row.end_ms,
                value: distance.map(|distance| short(row.mean + f64::from(distance))),
                mean: short(row.mean),
                deviation: short(row.deviation),
            }
        };
        self.rows.iter().map(point).collect()
    }
}

/// With ten digits, which no picture needs more of: messages stay small.
fn short(value: f64) -> f64 {
    format!("{value:.9e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(trail: &Trail, slot: u32) -> Vec<Option<f64>> {
        trail.of(slot).iter().map(|point| point.value).collect()
    }

    #[test]
    fn the_oldest_windows_are_forgotten() {
        let mut trail = Trail::default();
        let slot = trail.new_slot();
        for end in 0..100 {
            trail.push(end, 1.0, 0.5, [(slot, end as f64)].into_iter());
        }
        let points = trail.of(slot);
        assert_eq!(points.len(), WINDOWS_MAX);
        assert_eq!((points[0].end_ms, points[WINDOWS_MAX - 1].value), (76, Some(99.0)));
    }

    #[test]
    fn a_place_has_no_past_and_a_newcomer_has_none_either() {
        let mut trail = Trail::default();
        let (one, two) = (trail.new_slot(), trail.new_slot());
        trail.push(1, 1.5, 0.5, [(one, 1.0), (two, 2.0)].into_iter());
        let three = trail.new_slot();
        assert_eq!(values(&trail, three), [None], "it came after the window");
        trail.free_slot(one);
        assert_eq!(trail.new_slot(), one);
        assert_eq!((values(&trail, one), values(&trail, two)), (vec![None], vec![Some(2.0)]));
        trail.free_slot(NO_SLOT);
        assert_eq!(values(&trail, NO_SLOT), [None]);
    }

    #[test]
    fn little_moves_far_from_zero_are_kept() {
        let mut trail = Trail::default();
        let slot = trail.new_slot();
        trail.push(1, 1_000_000.0, 0.01, [(slot, 1_000_000.03)].into_iter());
        let value = trail.of(slot)[0].value.expect("it had one");
        assert!((value - 1_000_000.03).abs() < 1e-3, "{value}");
        assert_eq!(short(0.1 + 0.2), 0.3);
    }
}
