//! Two clocks that do not mix: `Mono` for deadlines, `Wall` for stamps. `Now` carries one reading of both.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds on this process's monotonic clock. Deadlines, leases and timers use it; it never crosses a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

/// Nanoseconds since the Unix epoch, UTC. Stamps and event time use it; no deadline does, since it can jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub i64);

/// One reading of both clocks, taken by the shell once per event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic reading.
    pub mono: Mono,
    /// Wall reading.
    pub wall: Wall,
}

/// A duration in nanoseconds, capped at what the clock types hold (292 years).
fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Mono {
    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(nanos(rhs).unsigned_abs()))
    }
}

impl Wall {
    /// From whole seconds since the Unix epoch.
    #[must_use]
    pub fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub fn from_ms(ms: i64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// Milliseconds since the Unix epoch, rounded down.
    #[must_use]
    pub fn as_ms(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Wall {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(nanos(rhs)))
    }
}

impl Sub<Duration> for Wall {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(rhs)))
    }
}

impl Add<Duration> for Now {
    type Output = Self;
    /// Both clocks moved on together, as in virtual time.
    fn add(self, rhs: Duration) -> Self {
        Self { mono: self.mono + rhs, wall: self.wall + rhs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_rounds_down_before_the_epoch_too() {
        assert_eq!(Wall(-1).as_ms(), -1);
        assert_eq!(Wall(-1).as_secs(), -1);
        assert_eq!(Wall::from_ms(1_500).as_secs(), 1);
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Wall(i64::MAX) + Duration::from_secs(1), Wall(i64::MAX));
        assert_eq!(Wall::from_secs(i64::MAX), Wall(i64::MAX));
        assert_eq!(Mono(5).since(Mono(9)), Duration::ZERO);
    }
}
