//! Count, mean and sum of squared distances of a set of values: by two passes over a slice, and mergeable.
//!
//! Two passes are as exact as doubles allow and every window's values stand in one slice, so that is what the
//! verdict uses. Parts of a cluster that were summed apart are joined by the formula of Chan, Golub and LeVeque
//! (1979), "Updating formulae and a pairwise algorithm for computing sample variances".

use kinetic_schema::schema::Deviation;

/// Moments of some finite values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// How many.
    pub count: u32,
    /// Their mean; 0 of none.
    pub mean: f64,
    /// Sum of squared distances from the mean; never negative.
    pub squares: f64,
}

impl Moments {
    /// Moments of a slice, in two passes; the second also takes out the first one's rounding error
    /// (the "corrected two-pass algorithm": the distances' own sum would be 0 in exact arithmetic).
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Self::default();
        }
        let n = f64::from(count);
        let mean = values.iter().sum::<f64>() / n;
        let (mut squares, mut rest) = (0.0, 0.0);
        for value in values {
            let distance = value - mean;
            squares += distance * distance;
            rest += distance;
        }
        Self { count, mean: mean + rest / n, squares: (squares - rest * rest / n).max(0.0) }
    }

    /// Moments of two sets together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        let (a, b) = (f64::from(self.count), f64::from(other.count));
        let apart = other.mean - self.mean;
        Self {
            count: self.count.saturating_add(other.count),
            mean: self.mean + apart * (b / (a + b)),
            squares: self.squares + other.squares + apart * apart * (a * b / (a + b)),
        }
    }

    /// Standard deviation; 0 where it is not defined (no value, or one value's sample deviation).
    #[must_use]
    pub fn deviation(&self, which: Deviation) -> f64 {
        let divisor = match which {
            Deviation::Population => self.count,
            Deviation::Sample => self.count.saturating_sub(1),
        };
        if divisor == 0 { 0.0 } else { (self.squares / f64::from(divisor)).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(a: f64, b: f64, scale: f64) -> bool {
        (a - b).abs() <= 1e-12 * scale.max(1e-300)
    }

    #[test]
    fn known_values() {
        let moments = Moments::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((moments.count, moments.mean), (8, 5.0));
        assert_eq!(moments.deviation(Deviation::Population), 2.0);
        assert!(near(moments.deviation(Deviation::Sample), (32.0_f64 / 7.0).sqrt(), 1.0));
        assert_eq!(Moments::of(&[]).deviation(Deviation::Population), 0.0);
        assert_eq!(Moments::of(&[3.0]).deviation(Deviation::Sample), 0.0);
    }

    #[test]
    fn a_small_spread_far_from_zero_survives() {
        let values = [1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0];
        assert!(near(Moments::of(&values).deviation(Deviation::Population), 22.5_f64.sqrt(), 1.0));
    }

    proptest! {
        #[test]
        fn merged_parts_are_the_whole(values in prop::collection::vec(-1e6..1e6_f64, 0..60), cut in 0..60_usize) {
            let (left, right) = values.split_at(cut.min(values.len()));
            let (merged, whole) = (Moments::of(left).merge(Moments::of(right)), Moments::of(&values));
            prop_assert_eq!(merged.count, whole.count);
            prop_assert!(near(merged.mean, whole.mean, 1e6));
            prop_assert!(near(merged.squares, whole.squares, 1e12 * 60.0));
        }

        /// Whole numbers up to 2^20 are summed exactly in 128 bits, so the reference has no rounding but its last step.
        #[test]
        fn agrees_with_exact_integers(values in prop::collection::vec(-1_048_576..1_048_576_i64, 1..200)) {
            let n = i128::try_from(values.len()).unwrap();
            let sum: i128 = values.iter().map(|&v| i128::from(v)).sum();
            let squares: i128 = values.iter().map(|&v| i128::from(v) * i128::from(v)).sum();
            let floats: Vec<f64> = values.iter().map(|&v| v as f64).collect();
            let moments = Moments::of(&floats);
            prop_assert!(near(moments.mean, sum as f64 / n as f64, 1_048_576.0));
            let exact = (n * squares - sum * sum) as f64 / n as f64;
            prop_assert!((moments.squares - exact).abs() <= 1e-12 * exact.max(1.0));
        }
    }
}
