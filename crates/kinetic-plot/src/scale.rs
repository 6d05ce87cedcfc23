//! Axes: which values and moments stand beside them, and where.

use crate::label;

/// Marks that an axis of values aims at.
const MARKS: f64 = 4.0;
/// Room above and below the values, as a share of their span.
const MARGIN: f64 = 0.06;

/// A line of values, turned into one of pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    from: f64,
    to: f64,
    at_from: f64,
    at_to: f64,
}

impl Scale {
    /// Maps `from..to` onto `at_from..at_to`; both ends differ.
    pub(crate) fn new((from, to): (f64, f64), (at_from, at_to): (f64, f64)) -> Self {
        Self { from, to, at_from, at_to }
    }

    pub(crate) fn at(&self, value: f64) -> f64 {
        // Halves first, so that a span wider than the widest number stays one.
        let share = (value / 2.0 - self.from / 2.0) / (self.to / 2.0 - self.from / 2.0);
        self.at_from + share * (self.at_to - self.at_from)
    }
}

/// The range that holds all of `values`, with room; one around a single value.
pub(crate) fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0.0, 1.0);
    }
    let span = high / 2.0 - low / 2.0;
    let least = low.abs().max(high.abs()) * 1e-9;
    let room = if span > least { span * 2.0 * MARGIN } else { (low.abs() * 0.1).max(0.5) };
    let clamp = |value: f64| value.clamp(-1e300, 1e300);
    // Values that are never below zero do not get an axis that is.
    let bottom = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
    (clamp(bottom), clamp(high + room))
}

/// A step of 1, 2 or 5 times a power of ten that divides the range into about [`MARKS`] parts.
fn step((low, high): (f64, f64)) -> f64 {
    let rough = high / MARKS - low / MARKS;
    let power = 10f64.powi(rough.log10().floor() as i32);
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| rough <= factor * power).unwrap_or(10.0);
    factor * power
}

/// Values that stand beside the axis, each with its text.
pub(crate) fn value_marks(range: (f64, f64)) -> Vec<(f64, String)> {
    let step = step(range);
    let first = (range.0 / step).ceil();
    let count = (range.1 / step - first).floor().clamp(0.0, 20.0) as u32;
    (0..=count)
        .map(|n| (first + f64::from(n)) * step)
        .filter(|value| (range.0..=range.1).contains(value))
        .map(|value| (value, label::value(value, step)))
        .collect()
}

/// Moments that stand below the axis: at most `count` of these, evenly spread, the first and the last among them.
pub(crate) fn time_marks(moments: &[i64], count: usize) -> Vec<(i64, String)> {
    let (Some(first), Some(last)) = (moments.first(), moments.last()) else { return Vec::new() };
    let with_seconds = last.saturating_sub(*first) < 10 * 60 * 1_000;
    let shown = count.min(moments.len()).max(1);
    (0..shown)
        .map(|n| moments[if shown == 1 { 0 } else { n * (moments.len() - 1) / (shown - 1) }])
        .map(|ms| (ms, label::clock(ms, with_seconds)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_marks_within_its_range() {
        let marks =
            |low, high| value_marks((low, high)).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(marks(0.0, 187.0), ["0", "50", "100", "150"]);
        assert_eq!(marks(0.0, 0.05), ["0", "0.02", "0.04"]);
        assert_eq!(marks(96.0, 104.0), ["96", "98", "100", "102", "104"]);
        assert_eq!(marks(-1.2e6, 2.1e6), ["-1M", "0", "1M", "2M"]);
    }

    #[test]
    fn a_range_has_room_and_is_never_empty() {
        assert_eq!(range([].into_iter()), (0.0, 1.0));
        assert_eq!(range([5.0].into_iter()), (4.5, 5.5));
        let (low, high) = range([1.0, 101.0].into_iter());
        assert_eq!((low, high), (0.0, 107.0), "what is never below zero gets no axis that is");
        let (low, high) = range([f64::MIN, f64::MAX].into_iter());
        assert!(low < high && low.is_finite() && high.is_finite());
    }

    #[test]
    fn moments_are_spread_and_the_ends_are_among_them() {
        let moments: Vec<i64> = (0..30).map(|n| 1_795_176_000_000 + n * 10_000).collect();
        let texts: Vec<String> = time_marks(&moments, 3).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["12:00:00", "12:02:20", "12:04:50"]);
        assert_eq!(time_marks(&moments[..1], 3).len(), 1);
        assert!(time_marks(&[], 3).is_empty());
    }

    #[test]
    fn a_scale_turns_ends_into_ends() {
        let scale = Scale::new((10.0, 20.0), (200.0, 0.0));
        assert_eq!((scale.at(10.0), scale.at(15.0), scale.at(20.0)), (200.0, 100.0, 0.0));
        let wide = Scale::new((-1e300, 1e300), (0.0, 1.0));
        assert_eq!(wide.at(0.0), 0.5);
    }
}
