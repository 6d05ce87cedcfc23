//! How a source stands, in numbers.

use std::time::Duration;

use kinetic_wire::{Mono, Now};

use super::Source;
use crate::held::AT_ONCE;
use crate::stats::SourceStats;

impl Source {
    /// Deliveries not settled.
    pub(crate) fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Series known.
    pub(crate) fn series_len(&self) -> usize {
        self.series.len()
    }

    /// Alert events not confirmed.
    pub(crate) fn pending(&self) -> usize {
        self.keeper.pending()
    }

    /// Age of the oldest unsettled delivery.
    pub(crate) fn lag(&self, now: Mono) -> Duration {
        self.held.oldest().map_or(Duration::ZERO, |came| now.since(came))
    }

    pub(crate) fn stats(&self, now: Now) -> SourceStats {
        // What has fed no window waits only for company.
        let release = self.held.first_release().filter(|release| *release > AT_ONCE);
        let behind = release.map_or(0, |release| {
            now.wall
                .as_ms()
                .saturating_sub((release + Duration::from_nanos(self.plan.lateness.unsigned_abs())).as_ms())
        });
        SourceStats {
            source: self.key.clone(),
            held: self.held.len(),
            lag_ms: u64::try_from(self.lag(now.mono).as_millis()).unwrap_or(u64::MAX),
            behind_ms: u64::try_from(behind).unwrap_or(0),
            alerts_pending: self.keeper.pending(),
        }
    }
}
