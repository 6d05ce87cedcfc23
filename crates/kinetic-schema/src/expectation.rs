//! What a rule does to a healthy cluster: whether it can fire at all, and how often it will.
//!
//! A feed is judged against a mean and a standard deviation that it is itself part of. For n feeds that are alike and
//! normally distributed, the studentised distance z of one feed (population deviation) never exceeds sqrt(n - 1), and
//! z * sqrt((n - 2) / (n - 1 - z^2)) follows Student's t with n - 2 degrees of freedom (Thompson 1935). Real
//! metrics have heavier tails and neighbouring windows are alike, so that what is said here is the best case.

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::schema::{Deviates, Deviation, Hysteresis};
use kinetic_wire::Direction;

/// The same limit, in population deviations of `n` feeds.
fn population_limit(rule: &Deviates, n: u32) -> f64 {
    let n = f64::from(n);
    match rule.deviation {
        Deviation::Population => rule.deviations,
        // The sample deviation is larger by sqrt(n / (n - 1)).
        Deviation::Sample => rule.deviations * (n / (n - 1.0)).sqrt(),
    }
}

/// Whether any value of one feed among `n` can be out of line: k < sqrt(n - 1) for the population deviation,
/// k < (n - 1) / sqrt(n) for the sample deviation.
#[must_use]
pub fn attainable(rule: &Deviates, n: u32) -> bool {
    if n < 2 {
        return false;
    }
    let (k, feeds) = (rule.deviations, f64::from(n));
    match rule.deviation {
        Deviation::Population => k * k < feeds - 1.0,
        Deviation::Sample => k * k * feeds < (feeds - 1.0) * (feeds - 1.0),
    }
}

/// The smallest cluster in which the rule can fire.
#[must_use]
pub fn smallest_cluster(rule: &Deviates) -> u32 {
    // Both limits are near k^2 + 1 (population) and k^2 + 2 (sample); a few steps settle the rounding.
    let start = (rule.deviations * rule.deviations).clamp(0.0, 4e9) as u32;
    let mut n = start.max(2);
    while !attainable(rule, n) && n < u32::MAX {
        n += 1;
    }
    n
}

/// The probability that one given healthy feed of `n` is out of line in one window; 0 where the rule cannot fire.
#[must_use]
pub fn feed_probability(rule: &Deviates, n: u32) -> f64 {
    if !attainable(rule, n) || n < rule.min_feeds {
        return 0.0;
    }
    let sides = if rule.direction == Direction::Both { 2.0 } else { 1.0 };
    if n == 2 {
        // Of two feeds one is always exactly 1 above and the other 1 below, and k is less than that.
        return sides / 2.0;
    }
    let limit = population_limit(rule, n);
    let freedom = f64::from(n) - 2.0;
    let t = limit * (freedom / (freedom + 1.0 - limit * limit)).sqrt();
    // `new` refuses only what cannot stand here: a scale or freedom that is not positive.
    StudentsT::new(0.0, 1.0, freedom).map_or(0.0, |student| sides * student.sf(t))
}

/// Feeds of a healthy cluster of `n` that are out of line in one window, on average.
#[must_use]
pub fn feeds_per_window(rule: &Deviates, n: u32) -> f64 {
    f64::from(n) * feed_probability(rule, n)
}

/// Windows per day in which a healthy feed of `n` would be firing, summed over the feeds, with windows taken as
/// independent (they are not: real neighbours resemble each other, which makes hysteresis help less than this says).
#[must_use]
pub fn alerts_per_day(rule: &Deviates, hysteresis: Hysteresis, n: u32, windows_per_day: f64) -> f64 {
    let p = feed_probability(rule, n);
    f64::from(n) * at_least(hysteresis.hits, hysteresis.of, p) * windows_per_day
}

/// The probability of at least `hits` in `of` independent trials.
fn at_least(hits: u32, of: u32, p: f64) -> f64 {
    let mut sum = 0.0;
    let mut ways = 1.0;
    for successes in 0..=of {
        if successes >= hits {
            sum += ways * p.powf(f64::from(successes)) * (1.0 - p).powf(f64::from(of - successes));
        }
        ways *= f64::from(of - successes) / f64::from(successes + 1);
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
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

    fn close(actual: f64, expected: f64) {
        assert!(
            (actual - expected).abs() <= expected.abs() * 0.02 + 1e-9,
            "{actual} is not about {expected}"
        );
    }

    #[test]
    fn false_feeds_per_window_are_the_published_ones() {
        // detection figures for n = 5, 12, 50 and k = 1, 2, 3, as computed for the project by other means
        let table: [(u32, [f64; 3]); 3] =
            [(5, [0.98, 0.0, 0.0]), (12, [2.05, 0.228, 0.0003]), (50, [8.06, 1.11, 0.048])];
        for (n, expected) in table {
            for (k, expected) in [1.0, 2.0, 3.0].into_iter().zip(expected) {
                let actual = feeds_per_window(&rule(k), n);
                let slack = if expected < 0.001 { 5e-5 } else { expected * 0.015 };
                assert!((actual - expected).abs() <= slack, "n={n} k={k}: {actual} is not {expected}");
            }
        }
    }

    #[test]
    fn both_sides_are_twice_one_side() {
        let both = Deviates { direction: Direction::Both, ..rule(1.0) };
        close(feeds_per_window(&both, 12), 2.0 * feeds_per_window(&rule(1.0), 12));
    }

    #[test]
    fn bounds_are_exact_at_squares() {
        for (k, n) in [(1.0, 2), (2.0, 5), (3.0, 10)] {
            assert!(!attainable(&rule(k), n), "k={k} n={n}");
            assert!(attainable(&rule(k), n + 1));
            assert_eq!(smallest_cluster(&rule(k)), n + 1);
        }
        let sample = Deviates { deviation: Deviation::Sample, ..rule(2.0) };
        // (n - 1) / sqrt(n) is 1.789 at 5 and 2.041 at 6.
        assert!(!attainable(&sample, 5));
        assert_eq!(smallest_cluster(&sample), 6);
    }

    #[test]
    fn the_guides_table_of_smallest_clusters_is_right() {
        let smallest = |deviation| {
            [1.0, 1.5, 2.0, 2.5, 3.0, 4.0].map(|k| smallest_cluster(&Deviates { deviation, ..rule(k) }))
        };
        let guide = include_str!("../../../docs/topology-language.md");
        for (name, deviation) in [("population", Deviation::Population), ("sample", Deviation::Sample)] {
            let row = guide.lines().find(|line| line.starts_with(&format!("| feeds needed, `{name}`")));
            let cells: Vec<String> = smallest(deviation).iter().map(u32::to_string).collect();
            assert!(row.is_some_and(|row| row.ends_with(&format!("| {} |", cells.join(" | ")))), "{cells:?}");
        }
    }

    #[test]
    fn seeded_normal_clusters_agree_with_the_formula() {
        // Sum of 12 uniform numbers minus 6: normal enough out to two deviations, and needs no dependency.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut uniform = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for deviation in [Deviation::Population, Deviation::Sample] {
            let (n, rounds) = (8usize, 40_000);
            let rule = Deviates { deviation, ..rule(1.5) };
            let mut out = 0u32;
            for _ in 0..rounds {
                let values: Vec<f64> =
                    (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect();
                let mean = values.iter().sum::<f64>() / n as f64;
                let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
                let divisor = if deviation == Deviation::Sample { n - 1 } else { n };
                let limit = mean + rule.deviations * (squares / divisor as f64).sqrt();
                out += u32::try_from(values.iter().filter(|value| **value > limit).count()).unwrap();
            }
            let simulated = f64::from(out) / f64::from(rounds);
            let formula = feeds_per_window(&rule, 8);
            assert!((simulated - formula).abs() < 0.02 * formula + 0.01, "{simulated} against {formula}");
        }
    }

    #[test]
    fn hysteresis_is_binomial() {
        close(at_least(1, 1, 0.17), 0.17);
        close(at_least(3, 5, 0.1), 0.00856);
        close(at_least(64, 64, 1.0), 1.0);
        close(at_least(1, 64, 0.5), 1.0);
        assert!(at_least(1, 1, 0.0).abs() < 1e-12);
        close(alerts_per_day(&rule(1.0), Hysteresis { hits: 1, of: 1 }, 12, 8_640.0), 17_700.0);
    }
}
