//! The founding rule as a pure function: the values that the feeds of one cluster have in one window, and which of
//! them are more than k standard deviations from their mean.
//!
//! A feed is out of line when `value - mean > k * deviation`, strictly (`above`; the others likewise), mean and
//! deviation being those of all feeds, the feed itself included. Two additions keep binary floating point from adding
//! verdicts of its own:
//!
//! - **Unattainable**: of n values none can lie more than sqrt(n - 1) population deviations, or (n - 1) / sqrt(n)
//!   sample deviations, from their mean (Samuelson's inequality). Where k is not below that, nothing is computed. At
//!   equality rounding alone would let a quarter of random windows fire.
//! - **Rounding**: a distance must exceed the limit by [`ROUNDING`] of the largest magnitude among the values. The
//!   rounding error of mean and deviation over n values is of the order n * 1.1e-16 of that magnitude, and the values
//!   are sums themselves, so 1e-9 leaves room for clusters and windows of a million; no measurement that anyone
//!   mails about is that fine.

use kinetic_schema::schema::{Deviates, Deviation};
use kinetic_wire::{Direction, Numbers};

use crate::moments::Moments;

/// Share of the largest magnitude in the cluster that counts as rounding.
pub const ROUNDING: f64 = 1e-9;

/// Why a window gives no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoVerdict {
    /// Fewer feeds with a value than the rule's `min_feeds`.
    TooFewFeeds,
    /// So few feeds that none can ever lie k deviations from the mean.
    Unattainable,
}

/// What was found over all feeds of one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    rule: Deviates,
    /// A power of two near the largest magnitude. Values are divided by it, which is exact, so that squares neither
    /// overflow nor vanish.
    scale: f64,
    /// Mean, in units of `scale`.
    mean: f64,
    /// Standard deviation, in units of `scale`.
    deviation: f64,
    feeds: u32,
}

/// Whether k deviations can be exceeded by any of n values.
#[must_use]
pub fn is_attainable(rule: &Deviates, feeds: u32) -> bool {
    let (n, k) = (f64::from(feeds), rule.deviations);
    match rule.deviation {
        Deviation::Population => n > k * k + 1.0,
        Deviation::Sample => n > 1.0 && (n - 1.0) * (n - 1.0) > k * k * n,
    }
}

/// Mean and deviation of one window's values, which must be finite.
///
/// # Errors
/// When the window can give no verdict, and why.
pub fn spread(rule: &Deviates, values: &[f64]) -> Result<Spread, NoVerdict> {
    let feeds = u32::try_from(values.len()).unwrap_or(u32::MAX);
    if feeds < rule.min_feeds.max(2) {
        return Err(NoVerdict::TooFewFeeds);
    }
    if !is_attainable(rule, feeds) {
        return Err(NoVerdict::Unattainable);
    }
    let magnitude = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let scale = power_of_two_below(magnitude);
    let first = values.first().copied().unwrap_or_default();
    if values.iter().all(|&value| value == first) {
        return Ok(Spread { rule: *rule, scale, mean: first / scale, deviation: 0.0, feeds });
    }
    let scaled: Vec<f64> = values.iter().map(|value| value / scale).collect();
    let moments = Moments::of(&scaled);
    Ok(Spread { rule: *rule, scale, mean: moments.mean, deviation: moments.deviation(rule.deviation), feeds })
}

/// The exponent of a positive double alone, so that dividing by it rounds nothing; the smallest normal one for what
/// is below it.
fn power_of_two_below(magnitude: f64) -> f64 {
    const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
    f64::from_bits(magnitude.to_bits() & EXPONENT).max(f64::MIN_POSITIVE)
}

impl Spread {
    /// Whether a value of this window is out of line.
    #[must_use]
    pub fn is_out(&self, value: f64) -> bool {
        let rule = &self.rule;
        let distance = value / self.scale - self.mean;
        let distance = match rule.direction {
            Direction::Above => distance,
            Direction::Below => -distance,
            Direction::Both => distance.abs(),
        };
        // Values are below 2 in units of the scale, so the magnitude's share is at most twice this.
        let rounding = 2.0 * ROUNDING;
        distance > rule.deviations * self.deviation + rounding
            && distance >= rule.min_effect_relative * self.mean.abs()
            && distance >= rule.min_effect_absolute / self.scale
    }

    /// Mean over all feeds.
    pub(crate) fn mean(&self) -> f64 {
        self.mean * self.scale
    }

    /// Standard deviation over all feeds, as the rule reckons it.
    pub(crate) fn deviation(&self) -> f64 {
        self.deviation * self.scale
    }

    /// The numbers to show for one value of this window; `values` are those that the spread was made from.
    #[must_use]
    pub fn numbers(&self, values: &[f64], index: usize) -> Numbers {
        let value = values.get(index).copied().unwrap_or_default();
        let (mut min, mut max, mut sum) = (f64::INFINITY, f64::NEG_INFINITY, 0.0);
        for (_, &peer) in values.iter().enumerate().filter(|&(peer, _)| peer != index) {
            min = min.min(peer);
            max = max.max(peer);
            sum += peer / self.scale;
        }
        let distance = value / self.scale - self.mean;
        Numbers {
            value,
            mean: self.mean(),
            deviation: self.deviation(),
            deviations: if self.deviation > 0.0 { distance / self.deviation } else { 0.0 },
            limit: self.rule.deviations,
            feeds: self.feeds,
            peers_mean: sum / f64::from(self.feeds.saturating_sub(1).max(1)) * self.scale,
            peers_min: min,
            peers_max: max,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(deviations: f64) -> Deviates {
        Deviates {
            deviations,
            direction: Direction::Above,
            deviation: Deviation::Population,
            min_feeds: 2,
            min_effect_relative: 0.0,
            min_effect_absolute: 0.0,
        }
    }

    fn out(rule: &Deviates, values: &[f64]) -> Vec<usize> {
        let spread = spread(rule, values).expect("a verdict");
        (0..values.len()).filter(|&index| spread.is_out(values[index])).collect()
    }

    #[test]
    fn one_slow_host_of_twelve() {
        let mut values = vec![20.0, 21.0, 19.0, 20.5, 19.5, 20.0, 20.2, 19.8, 20.1, 19.9, 20.3];
        values.push(80.0);
        assert_eq!(out(&rule(3.0), &values), [11]);
        assert_eq!(out(&Deviates { direction: Direction::Below, ..rule(3.0) }, &values), [0_usize; 0]);
        let low: Vec<f64> = values.iter().map(|value| -value).collect();
        assert_eq!(out(&Deviates { direction: Direction::Below, ..rule(3.0) }, &low), [11]);
        assert_eq!(out(&Deviates { direction: Direction::Both, ..rule(3.0) }, &low), [11]);
    }

    #[test]
    fn exactly_k_deviations_do_not_fire() {
        assert_eq!(out(&rule(1.0), &[3.0, 3.0, 7.0, 7.0]), [0_usize; 0]);
        assert_eq!(out(&rule(1.0), &[0.1, 0.1, 0.1, 0.3, 0.3, 0.3]), [0_usize; 0]);
        assert_eq!(out(&rule(0.99), &[3.0, 3.0, 7.0, 7.0]), [2, 3]);
    }

    #[test]
    fn attainability_is_what_the_inequality_says() {
        for (k, n) in [(1.0, 2), (2.0, 5), (3.0, 10)] {
            assert!(!is_attainable(&rule(k), n) && is_attainable(&rule(k), n + 1), "k = {k}");
        }
        let sample = |k| Deviates { deviation: Deviation::Sample, ..rule(k) };
        assert!(!is_attainable(&sample(1.5), 4) && is_attainable(&sample(1.5), 5), "3 / sqrt(4) = 1.5");
        assert_eq!(spread(&rule(3.0), &[1.0; 10]), Err(NoVerdict::Unattainable));
        assert_eq!(spread(&Deviates { min_feeds: 5, ..rule(1.0) }, &[1.0; 4]), Err(NoVerdict::TooFewFeeds));
    }

    #[test]
    fn minimum_effects_hold_back_a_near_zero_spread() {
        let mut values = [100.0; 11];
        values[3] = 100.001;
        assert_eq!(out(&rule(3.0), &values), [3], "10 deviations are 10 deviations");
        assert_eq!(out(&Deviates { min_effect_relative: 0.01, ..rule(3.0) }, &values), [0_usize; 0]);
        assert_eq!(out(&Deviates { min_effect_absolute: 0.01, ..rule(3.0) }, &values), [0_usize; 0]);
        assert_eq!(out(&Deviates { min_effect_absolute: 0.0005, ..rule(3.0) }, &values), [3]);
    }

    #[test]
    fn a_last_bit_is_rounding_and_not_an_outlier() {
        let mut values = [0.3; 12];
        values[5] = 0.1 + 0.2;
        assert_ne!(values[5], values[0]);
        assert_eq!(out(&rule(3.0), &values), [0_usize; 0]);
    }

    #[test]
    fn the_ends_of_the_number_line_are_judged_too() {
        let mut values = [1e308; 12];
        values[7] = 1.7e308;
        assert_eq!(out(&rule(3.0), &values), [7]);
        let numbers = spread(&rule(3.0), &values).unwrap().numbers(&values, 7);
        assert!(numbers.mean.is_finite() && numbers.deviation.is_finite() && numbers.peers_mean == 1e308);
        let mut tiny = [1e-300; 12];
        tiny[2] = 5e-300;
        assert_eq!(out(&rule(3.0), &tiny), [2]);
        assert_eq!(out(&rule(1.0), &[0.0, 0.0, -0.0, 0.0]), [0_usize; 0]);
    }

    #[test]
    fn numbers_speak_of_the_peers_without_the_feed() {
        let values = [1.0, 2.0, 3.0, 10.0];
        let numbers = spread(&rule(1.0), &values).unwrap().numbers(&values, 3);
        assert_eq!((numbers.peers_mean, numbers.peers_min, numbers.peers_max), (2.0, 1.0, 3.0));
        assert_eq!((numbers.value, numbers.mean, numbers.feeds, numbers.limit), (10.0, 4.0, 4, 1.0));
        assert!((numbers.deviation - 12.5_f64.sqrt()).abs() < 1e-12);
    }

    /// Exact reference over whole numbers: (n v - S)^2 > k^2 (n Q - S^2) with n v > S, no rounding anywhere.
    fn exact(k: i128, values: &[i64]) -> Vec<usize> {
        let n = i128::try_from(values.len()).unwrap();
        let sum: i128 = values.iter().map(|&v| i128::from(v)).sum();
        let squares: i128 = values.iter().map(|&v| i128::from(v) * i128::from(v)).sum();
        let spread = n * squares - sum * sum;
        let is_out = |v: i64| n * i128::from(v) > sum && (n * i128::from(v) - sum).pow(2) > k * k * spread;
        (0..values.len()).filter(|&index| is_out(values[index])).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_exact_arithmetic(values in prop::collection::vec(0..1000_i64, 3..80), k in 1..4_i64) {
            let floats: Vec<f64> = values.iter().map(|&v| v as f64).collect();
            match spread(&rule(k as f64), &floats) {
                Ok(_) => prop_assert_eq!(out(&rule(k as f64), &floats), exact(i128::from(k), &values)),
                Err(why) => {
                    prop_assert_eq!(why, NoVerdict::Unattainable);
                    prop_assert!(exact(i128::from(k), &values).is_empty());
                }
            }
        }

        #[test]
        fn identical_feeds_never_fire(value in any::<f64>(), feeds in 2..400_usize, k in 0.001..4.0_f64) {
            prop_assume!(value.is_finite());
            for direction in [Direction::Above, Direction::Below, Direction::Both] {
                for deviation in [Deviation::Population, Deviation::Sample] {
                    let rule = Deviates { direction, deviation, ..rule(k) };
                    if let Ok(spread) = spread(&rule, &vec![value; feeds]) {
                        prop_assert!(!spread.is_out(value));
                    }
                }
            }
        }

        /// As `identical_feeds_never_fire`, with each feed's value summed up in an order of its own.
        #[test]
        fn feeds_equal_but_for_rounding_never_fire(
            parts in prop::collection::vec(-1e3..1e3_f64, 1..40), feeds in 3..50_usize, k in 0.001..4.0_f64,
        ) {
            let total: f64 = parts.iter().map(|part| part.abs()).sum();
            prop_assume!(parts.iter().sum::<f64>().abs() > total / 1e3);
            let values: Vec<f64> = (0..feeds)
                .map(|feed| (0..parts.len()).map(|at| parts[(at + feed) % parts.len()]).sum())
                .collect();
            if let Ok(spread) = spread(&Deviates { direction: Direction::Both, ..rule(k) }, &values) {
                prop_assert!(values.iter().all(|&value| !spread.is_out(value)));
            }
        }

        #[test]
        fn nothing_fires_where_nothing_can(values in prop::collection::vec(any::<f64>(), 2..11)) {
            prop_assume!(values.iter().all(|value| value.is_finite()));
            prop_assert_eq!(spread(&rule(3.0), &values), Err(NoVerdict::Unattainable));
        }

        #[test]
        fn every_number_shown_is_finite(
            values in prop::collection::vec(any::<f64>().prop_filter("finite", |v| v.is_finite()), 3..30),
        ) {
            let spread = spread(&rule(1.0), &values).expect("attainable");
            for index in 0..values.len() {
                let numbers = spread.numbers(&values, index);
                for number in [numbers.mean, numbers.deviation, numbers.deviations, numbers.peers_mean] {
                    prop_assert!(number.is_finite());
                }
            }
        }
    }
}
