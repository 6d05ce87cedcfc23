//! The machine's own time line: the wall clock at boot, carried on by the monotonic clock. It never jumps while the
//! process lives, and it can be compared with the wall stamps in history.

use std::time::Duration;

use kinetic_wire::{Mono, Now, Wall};

/// A moment on the machine's time line, nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Steady(i64);

impl Steady {
    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Wall(self.0).since(Wall(earlier.0))
    }

    /// So long before it.
    pub(crate) fn before(self, span: Duration) -> Self {
        Self((Wall(self.0) - span).0)
    }

    /// The stamp to write down for it.
    pub(crate) fn wall(self) -> Wall {
        Wall(self.0)
    }
}

impl From<Wall> for Steady {
    fn from(stamp: Wall) -> Self {
        Self(stamp.0)
    }
}

impl std::ops::Add<Duration> for Steady {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self((Wall(self.0) + rhs).0)
    }
}

/// Reads the time line. Unset until the shell has told the time once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    boot: Option<Now>,
    latest: Steady,
}

impl Clock {
    /// Where `now` lies on the time line; the first call fixes its origin.
    pub(crate) fn read(&mut self, now: Now) -> Steady {
        let boot = *self.boot.get_or_insert(now);
        self.latest = Steady::from(boot.wall + now.mono.since(boot.mono));
        self.latest
    }

    /// What was read last.
    pub(crate) fn latest(&self) -> Steady {
        self.latest
    }

    /// Whether the time has been told.
    pub(crate) fn is_set(&self) -> bool {
        self.boot.is_some()
    }

    /// The monotonic reading at which `at` is reached; what lies before boot is due at boot.
    pub(crate) fn mono(&self, at: Steady) -> Mono {
        let boot = self.boot.unwrap_or_default();
        boot.mono + at.since(boot.wall.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_does_not_move_the_time_line() {
        let mut clock = Clock::default();
        let boot = Now { mono: Mono(5), wall: Wall::from_secs(1_000) };
        assert_eq!(clock.read(boot).wall(), Wall::from_secs(1_000));
        let stepped = Now { mono: Mono(5) + Duration::from_secs(2), wall: Wall::from_secs(9) };
        let at = clock.read(stepped);
        assert_eq!(at.wall(), Wall::from_secs(1_002));
        assert_eq!(clock.mono(at), stepped.mono);
        assert_eq!(clock.mono(Wall::from_secs(1).into()), boot.mono);
    }
}
