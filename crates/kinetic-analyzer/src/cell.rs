//! What is kept of one feed in one open window, and the one value that comes of it when the window closes.
//!
//! | | counter | timer | gauge, total | set |
//! |---|---|---|---|---|
//! | mean, min, max, p50, p95, p99 | of value / rate | of value | of value | members |
//! | sum | of value / rate | of value | of value | members |
//! | count | 1 / rate each | 1 / rate each | 1 / rate each | members |
//! | rate | sum per second | count per second | count per second | members per second |
//! | last | value / rate | value | value | members |
//!
//! The mean of timers is not corrected by the sample rate, as in statsd; "members" is the number of distinct ones.
//! A gauge that is moved by deltas in a window has one value there for every kind but `count` and `rate`: where it
//! stood at the window's end. The level that deltas are added to is carried over from the window before.

use std::fmt;

use hashbrown::HashSet;
use kinetic_schema::schema::ValueKind;
use sketches_ddsketch::{Config, DDSketch};

use crate::sample::Kind;

/// Relative error of a percentile.
pub(crate) const SKETCH_ERROR: f64 = 0.01;
/// Bins of a sketch; at 1 % they span 17 orders of magnitude.
const SKETCH_BINS_MAX: u32 = 2048;
/// Magnitudes below this are zero to a sketch.
const SKETCH_ZERO: f64 = 1e-9;
/// Distinct members of one set in one window; more are taken as this many.
pub(crate) const SET_MEMBERS_MAX: usize = 65_536;

/// The part of a cell that few need.
pub(crate) enum Side {
    Sketch(Box<DDSketch>),
    Members(HashSet<u64, foldhash::fast::FixedState>),
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sketch(_) => "Sketch",
            Self::Members(_) => "Members",
        })
    }
}

/// Flags above the side's index: a gauge was set; deltas have come; the deltas stand on a value set in this window.
const GAUGE: u32 = 1 << 31;
const DELTAS: u32 = 1 << 30;
const BASE: u32 = 1 << 29;
/// The value has been worked out by a part of the source: `a` is it, `at` the part.
const GIVEN: u32 = 1 << 28;
const SIDE: u32 = GIVEN - 1;

/// Forty bytes a feed and window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cell {
    /// Sum, extreme or weight, by what the analytic wants; once deltas have come, the level they stand on.
    a: f64,
    /// What rounding has lost of `a`; once deltas have come, their sum.
    b: f64,
    /// The latest value, where it is wanted, and for gauges.
    last: f64,
    /// Event time of `last`.
    at: i64,
    samples: u32,
    /// Flags, and one more than the index of the side; 0 for none.
    side: u32,
}

/// One sample as a cell takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation {
    pub(crate) kind: Kind,
    pub(crate) value: f64,
    pub(crate) rate: f64,
    pub(crate) at: i64,
}

impl Cell {
    /// Adds one sample.
    #[inline]
    pub(crate) fn observe(&mut self, wanted: ValueKind, sample: Observation, sides: &mut Vec<Side>) {
        if self.side & GIVEN != 0 {
            return;
        }
        let is_first = self.samples == 0;
        self.samples = self.samples.saturating_add(1);
        let value = match sample.kind {
            Kind::Counter => sample.value / sample.rate,
            Kind::Timer => sample.value,
            Kind::Gauge | Kind::Total => {
                self.level(sample);
                if self.side & DELTAS != 0 {
                    return;
                }
                sample.value
            }
            Kind::GaugeDelta => return self.delta(wanted, sample),
            Kind::Set => return self.member(sample.value.to_bits(), sides),
        };
        match wanted {
            ValueKind::Mean | ValueKind::Sum => self.add(value),
            ValueKind::Count => self.add(1.0 / sample.rate),
            ValueKind::Rate => self.add(if sample.kind == Kind::Counter { value } else { 1.0 / sample.rate }),
            ValueKind::Max => self.a = if is_first { value } else { self.a.max(value) },
            ValueKind::Min => self.a = if is_first { value } else { self.a.min(value) },
            ValueKind::Last => {
                if is_first || sample.at >= self.at {
                    (self.last, self.at) = (value, sample.at);
                }
            }
            ValueKind::P50 | ValueKind::P95 | ValueKind::P99 => self.sketch(value, sides),
        }
    }

    /// Adds to `a`, keeping in `b` what rounding loses (Neumaier 1974), so that the order of samples does not show.
    #[inline]
    fn add(&mut self, value: f64) {
        let sum = self.a + value;
        self.b += if self.a.abs() >= value.abs() { (self.a - sum) + value } else { (value - sum) + self.a };
        self.a = sum;
    }

    /// Takes a value that a part has worked out; NaN where its samples come to none. A feed belongs to one part. Where two
    /// say something of it, which happens in the window in which a source is split otherwise, the one with more samples
    /// counts, and of equals the lower part, so that the order of arrival does not show. Returns whether there were two.
    pub(crate) fn give(&mut self, part: u16, value: f64, samples: u32) -> bool {
        let is_given = self.side & GIVEN != 0;
        let is_other = self.samples > 0 && !(is_given && self.at == i64::from(part));
        let yields = if is_other && is_given && samples == self.samples {
            i64::from(part) < self.at
        } else {
            samples >= self.samples
        };
        if yields {
            *self = Self { a: value, at: i64::from(part), samples, side: GIVEN, ..Self::default() };
        }
        is_other
    }

    /// Samples that it holds, or that its value comes of.
    pub(crate) fn samples(&self) -> u32 {
        self.samples
    }

    /// Notes where a gauge stands.
    #[inline]
    fn level(&mut self, sample: Observation) {
        if self.side & GAUGE != 0 && sample.at < self.at {
            return;
        }
        self.side |= GAUGE;
        (self.last, self.at) = (sample.value, sample.at);
        if self.side & DELTAS != 0 {
            self.side |= BASE;
            (self.a, self.b) = (sample.value, 0.0);
        }
    }

    /// Moves a gauge. A delta older than the value it would stand on is already part of that.
    fn delta(&mut self, wanted: ValueKind, sample: Observation) {
        if matches!(wanted, ValueKind::Count | ValueKind::Rate) {
            return self.add(1.0 / sample.rate);
        }
        if self.side & DELTAS == 0 {
            let base = self.side & GAUGE != 0;
            (self.a, self.b) = (if base { self.last } else { 0.0 }, 0.0);
            self.side |= DELTAS | if base { BASE } else { 0 };
        }
        if self.side & GAUGE == 0 || sample.at >= self.at {
            self.b += sample.value;
        }
    }

    fn member(&mut self, hash: u64, sides: &mut Vec<Side>) {
        let side = self
            .side_or(sides, || Side::Members(HashSet::with_hasher(foldhash::fast::FixedState::with_seed(0))));
        if let Side::Members(members) = side
            && members.len() < SET_MEMBERS_MAX
        {
            members.insert(hash);
        }
    }

    fn sketch(&mut self, value: f64, sides: &mut Vec<Side>) {
        let side = self.side_or(sides, || {
            Side::Sketch(Box::new(DDSketch::new(Config::new(SKETCH_ERROR, SKETCH_BINS_MAX, SKETCH_ZERO))))
        });
        if let Side::Sketch(sketch) = side {
            sketch.add(value);
        }
    }

    fn side_or<'s>(&mut self, sides: &'s mut Vec<Side>, make: impl FnOnce() -> Side) -> &'s mut Side {
        if self.side & SIDE == 0 {
            sides.push(make());
            self.side |= u32::try_from(sides.len()).unwrap_or(SIDE) & SIDE;
        }
        let index = (self.side & SIDE) as usize - 1;
        &mut sides[index]
    }

    /// Deltas have moved a gauge in this window.
    pub(crate) fn is_moved(&self) -> bool {
        self.side & DELTAS != 0
    }

    /// The window's value, or `None` where there is none: no sample, or a value beyond what a double holds.
    /// `carry` is the level of the feed's gauge; it comes out as the level after this window.
    pub(crate) fn finish(
        &self,
        wanted: ValueKind,
        seconds: f64,
        carry: &mut Option<f64>,
        sides: &[Side],
    ) -> Option<f64> {
        if self.samples == 0 {
            return None;
        }
        if self.side & GIVEN != 0 {
            return self.a.is_finite().then_some(self.a);
        }
        let value = self.value(wanted, seconds, carry, sides);
        if self.side & GAUGE != 0 && self.side & DELTAS == 0 {
            *carry = Some(self.last);
        }
        value.is_finite().then_some(value)
    }

    fn value(&self, wanted: ValueKind, seconds: f64, carry: &mut Option<f64>, sides: &[Side]) -> f64 {
        let side = sides.get(((self.side & SIDE) as usize).wrapping_sub(1));
        if let Some(Side::Members(members)) = side {
            let members = members.len() as f64;
            return if wanted == ValueKind::Rate { members / seconds } else { members };
        }
        if self.side & DELTAS != 0 {
            let base = if self.side & BASE != 0 { self.a } else { carry.unwrap_or_default() };
            let level = base + self.b;
            *carry = Some(level);
            return level;
        }
        match wanted {
            ValueKind::Mean => (self.a + self.b) / f64::from(self.samples),
            ValueKind::Sum | ValueKind::Count => self.a + self.b,
            ValueKind::Rate => (self.a + self.b) / seconds,
            ValueKind::Max | ValueKind::Min => self.a,
            ValueKind::Last => self.last,
            ValueKind::P50 => quantile(side, 0.50),
            ValueKind::P95 => quantile(side, 0.95),
            ValueKind::P99 => quantile(side, 0.99),
        }
    }
}

fn quantile(side: Option<&Side>, q: f64) -> f64 {
    match side {
        Some(Side::Sketch(sketch)) => sketch.quantile(q).ok().flatten().unwrap_or(f64::NAN),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(kind: Kind, value: f64, rate: f64, at: i64) -> Observation {
        Observation { kind, value, rate, at }
    }

    fn value_with(wanted: ValueKind, carry: &mut Option<f64>, samples: &[Observation]) -> Option<f64> {
        let (mut cell, mut sides) = (Cell::default(), Vec::new());
        for sample in samples {
            cell.observe(wanted, *sample, &mut sides);
        }
        cell.finish(wanted, 10.0, carry, &sides)
    }

    fn value(wanted: ValueKind, samples: &[Observation]) -> Option<f64> {
        value_with(wanted, &mut None, samples)
    }

    #[test]
    fn a_given_value_is_the_value_and_the_one_with_more_samples_counts() {
        let given = |given: &[(u16, f64, u32)]| {
            let mut cell = Cell::default();
            let twice = given.iter().filter(|(part, value, n)| cell.give(*part, *value, *n)).count();
            (cell.finish(ValueKind::Mean, 10.0, &mut None, &[]), cell.samples(), twice)
        };
        assert_eq!(given(&[(1, 0.1, 3)]), (Some(0.1), 3, 0));
        assert_eq!(given(&[(1, f64::NAN, 3)]), (None, 3, 0));
        assert_eq!(given(&[(1, 5.0, 3), (1, 5.0, 3)]), (Some(5.0), 3, 0), "a repeat replaces itself");
        assert_eq!(given(&[(2, 5.0, 3), (1, 7.0, 9)]), given(&[(1, 7.0, 9), (2, 5.0, 3)]));
        assert_eq!(given(&[(2, 5.0, 3), (1, 7.0, 9)]), (Some(7.0), 9, 1));
        assert_eq!(given(&[(2, 5.0, 3), (1, 7.0, 3)]), given(&[(1, 7.0, 3), (2, 5.0, 3)]));
        let mut cell = Cell::default();
        cell.observe(ValueKind::Mean, of(Kind::Timer, 30.0, 1.0, 2), &mut Vec::new());
        assert!(cell.give(1, 7.0, 2));
        cell.observe(ValueKind::Mean, of(Kind::Timer, 30.0, 1.0, 2), &mut Vec::new());
        assert_eq!(cell.finish(ValueKind::Mean, 10.0, &mut None, &[]), Some(7.0));
    }

    #[test]
    fn timers() {
        let samples = [of(Kind::Timer, 30.0, 0.5, 2), of(Kind::Timer, 10.0, 1.0, 1)];
        let expect = [
            (ValueKind::Mean, 20.0),
            (ValueKind::Sum, 40.0),
            (ValueKind::Count, 3.0),
            (ValueKind::Rate, 0.3),
            (ValueKind::Max, 30.0),
            (ValueKind::Min, 10.0),
            (ValueKind::Last, 30.0),
        ];
        for (wanted, expect) in expect {
            assert_eq!(value(wanted, &samples), Some(expect), "{wanted:?}");
        }
        assert_eq!(value(ValueKind::Mean, &[]), None);
    }

    #[test]
    fn counters_are_corrected_by_their_rate() {
        let samples = [of(Kind::Counter, 3.0, 0.1, 1), of(Kind::Counter, 10.0, 1.0, 2)];
        let expect = [
            (ValueKind::Sum, 40.0),
            (ValueKind::Count, 11.0),
            (ValueKind::Rate, 4.0),
            (ValueKind::Mean, 20.0),
        ];
        for (wanted, expect) in expect {
            assert_eq!(value(wanted, &samples), Some(expect), "{wanted:?}");
        }
    }

    #[test]
    fn gauges_are_where_they_stood_last_and_deltas_move_them() {
        let set = |value, at| of(Kind::Gauge, value, 1.0, at);
        let delta = |value, at| of(Kind::GaugeDelta, value, 1.0, at);
        assert_eq!(value(ValueKind::Last, &[set(5.0, 3), set(9.0, 1)]), Some(5.0));
        assert_eq!(value(ValueKind::Mean, &[set(5.0, 3), set(9.0, 1)]), Some(7.0));
        assert_eq!(value(ValueKind::Last, &[set(5.0, 1), delta(2.0, 2), delta(-3.0, 2)]), Some(4.0));
        assert_eq!(value(ValueKind::Mean, &[set(5.0, 1), delta(2.0, 2)]), Some(7.0));
        assert_eq!(value(ValueKind::Last, &[set(5.0, 4), delta(2.0, 2)]), Some(5.0), "older than the value");
        let mut carry = None;
        assert_eq!(value_with(ValueKind::Last, &mut carry, &[set(5.0, 1)]), Some(5.0));
        assert_eq!(value_with(ValueKind::Last, &mut carry, &[delta(1.0, 11)]), Some(6.0));
        assert_eq!(value_with(ValueKind::Last, &mut carry, &[delta(1.0, 21), delta(1.0, 22)]), Some(8.0));
        assert_eq!(value_with(ValueKind::Last, &mut carry, &[delta(1.0, 31), set(2.0, 32)]), Some(2.0));
        assert_eq!(value_with(ValueKind::Count, &mut carry, &[delta(1.0, 41)]), Some(1.0));
    }

    #[test]
    fn sets_count_their_members() {
        let member = |hash| of(Kind::Set, f64::from_bits(hash), 1.0, 1);
        let samples = [member(1), member(u64::MAX), member(1)];
        assert_eq!(value(ValueKind::Count, &samples), Some(2.0));
        assert_eq!(value(ValueKind::Rate, &samples), Some(0.2));
    }

    #[test]
    fn percentiles_are_within_their_error() {
        let samples: Vec<_> = (1..=1000).map(|n| of(Kind::Timer, f64::from(n), 1.0, 1)).collect();
        for (wanted, expect) in [(ValueKind::P50, 500.0), (ValueKind::P95, 950.0), (ValueKind::P99, 990.0)] {
            let value = value(wanted, &samples).unwrap();
            assert!((value - expect).abs() <= expect * (SKETCH_ERROR + 0.002), "{wanted:?}: {value}");
        }
    }

    #[test]
    fn a_sum_past_the_last_double_is_no_value() {
        assert_eq!(value(ValueKind::Sum, &[of(Kind::Timer, 1.7e308, 1.0, 1); 3]), None);
    }

    proptest! {
        #[test]
        fn the_order_of_samples_does_not_show(
            samples in prop::collection::vec((-1e9..1e9_f64, 1..5_u8), 1..50), turn in 0..50_usize,
        ) {
            let samples: Vec<_> = (0..).zip(samples)
                .map(|(at, (value, rate))| of(Kind::Counter, value, f64::from(rate) / 8.0, at))
                .collect();
            let mut turned = samples.clone();
            turned.rotate_left(turn % samples.len());
            for wanted in ValueKind::ALL {
                let (one, other) = (value(wanted, &samples).unwrap(), value(wanted, &turned).unwrap());
                prop_assert!((one - other).abs() <= 1e-6 * one.abs().max(1e-3), "{:?}: {} {}", wanted, one, other);
                if wanted == ValueKind::Last || wanted == ValueKind::Max {
                    prop_assert_eq!(one, other);
                }
            }
        }
    }
}
