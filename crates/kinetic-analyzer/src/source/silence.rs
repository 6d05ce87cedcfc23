//! Silence that is proven by messages of this node to itself through the source's queue, when a source is to be woken, and how
//! fast samples come.

use std::time::Duration;

use kinetic_wire::{Mono, Now};

use super::{ACK_DELAY, Recall, Shadow, Shared, Source};
use crate::lane::Lane;

/// After a probe that did not come back, the next one no sooner than this.
pub const PROBE_AGAIN: Duration = Duration::from_secs(1);
/// Time over which the rate of samples is smoothed.
pub const RATE_OVER: Duration = Duration::from_secs(60);
/// It is not taken over less than this.
const RATE_EVERY: Duration = Duration::from_secs(1);

/// How long a source must be silent before the wall clock stands in for its event time.
fn idle_after(lateness: i64, length: i64) -> Duration {
    let nanos = lateness.saturating_add((length / 4).max(1_000_000_000));
    Duration::from_nanos(nanos.unsigned_abs())
}

impl Source {
    /// When the source wants a tick at the latest.
    pub(crate) fn wakeup(&self, now: Now) -> Option<Mono> {
        let ack = (self.due > 0).then(|| self.due_since + ACK_DELAY);
        let close = self.next_close(now).map(|at| at.max(self.settled_in.unwrap_or(at)));
        let close = close.filter(|_| self.leaves_by.is_none() && !self.arrival.is_unread());
        let silence = self.silent_end(now).filter(|_| self.probing.is_none());
        let silence = silence.map(|(at, end)| if self.heard < end { at.max(self.probe_again) } else { at });
        let arrival = self.wants_to_be_told().then_some(self.probe_again);
        let quiet = self.quiet_unproven_at();
        let test = self.shadow.as_ref().and_then(Shadow::due);
        let more = [arrival, quiet, test, self.sweep_at, self.leaves_by];
        [ack, close, silence].into_iter().chain(more).flatten().min()
    }

    /// The lanes in which the end of a window can change something.
    fn mattering(&self) -> impl Iterator<Item = &Lane> {
        // A part says of every window that it is closed.
        let is_waited_for = self.held.len() > self.due || self.role.is_part();
        self.lanes
            .iter()
            .filter(move |lane| lane.is_used && (is_waited_for || lane.live > 0 || lane.open_len() > 0))
    }

    /// When the next window will close for which all that came is enough, and only the wall clock lags behind.
    fn next_close(&self, now: Now) -> Option<Mono> {
        if let Some(overdue) = self.role.next_overdue() {
            return overdue;
        }
        let ends = self.mattering().filter_map(|lane| {
            let end = self.next_end(lane)?.saturating_add(self.plan.lateness);
            let wait = Duration::from_nanos(u64::try_from(end.saturating_sub(now.wall.0)).unwrap_or(0));
            (self.latest >= end).then(|| now.mono + wait)
        });
        ends.min()
    }

    pub(super) fn is_idle(&self, now: Now, length: i64) -> bool {
        let silent = self.last_fed.map(|last| now.mono.since(last));
        silent.is_some_and(|silent| silent >= idle_after(self.plan.lateness, length))
    }

    /// Whether silence is to be proven: by the wall clock a window should be closed, and nothing has come for a while.
    pub(crate) fn wants_probe(&self, now: Now) -> bool {
        let is_silent = || self.silent_end(now).is_some_and(|(at, end)| now.mono >= at && self.heard < end);
        let is_quiet = || self.quiet_unproven_at().is_some_and(|at| now.mono >= at);
        self.probing.is_none()
            && now.mono >= self.probe_again
            && (self.wants_to_be_told() || is_silent() || is_quiet())
    }

    /// Whether it must be known that all has been read that was carried here from another region.
    fn wants_to_be_told(&self) -> bool {
        self.recall == Recall::Done
            && self.arrival.is_unread()
            && self.probing.is_none()
            && self.leaves_by.is_none()
    }

    /// When the next window that matters is to be closed by the wall clock, and up to when all must have been heard then.
    pub(super) fn silent_end(&self, now: Now) -> Option<(Mono, i64)> {
        // What the parts of a source have not said is not there to be heard.
        let is_closed_by_time = self.leaves_by.is_none() && self.role.next_overdue().is_none();
        let last = self.last_fed.filter(|_| is_closed_by_time)?;
        let ends = self.mattering().filter_map(|lane| {
            let end = self.next_end(lane)?.saturating_add(self.plan.lateness);
            let wait = Duration::from_nanos(u64::try_from(end.saturating_sub(now.wall.0)).unwrap_or(0));
            let at = (now.mono + wait).max(last + idle_after(self.plan.lateness, lane.length));
            Some((at.max(self.settled_in?), end))
        });
        ends.filter(|(_, end)| self.latest < *end).min()
    }

    /// A probe is on its way.
    pub(crate) fn probing(&mut self, now: Now) {
        self.probing = Some(now);
    }

    /// What came of a probe. Returns whether the broker delivers this source to this node: if anything has come since,
    /// it does.
    pub(crate) fn probed(&mut self, now: Now, ok: bool, shared: &mut Shared<'_>) -> bool {
        let Some(sent) = self.probing.take() else { return true };
        if ok {
            // By the present clock: it may have been set since.
            let since = i64::try_from(now.mono.since(sent.mono).as_nanos()).unwrap_or(i64::MAX);
            let proven = sent.wall.0.min(now.wall.0.saturating_sub(since));
            (self.heard, self.last_came) = (self.heard.max(proven), Some(now.mono));
            self.arrival.read();
            self.quiet.proven(sent.mono);
            self.advance(now, shared);
            return true;
        }
        self.probe_again = now.mono + PROBE_AGAIN;
        self.last_came.is_some_and(|came| came >= sent.mono)
    }

    /// Whether its subscription stands, as far as is known.
    pub(crate) fn is_read(&self) -> bool {
        self.last_came.is_some()
    }

    /// When it must be known anew that the broker delivers to this node, if something is to be known every so often.
    pub(crate) fn unproven_at(&self, interval: Duration) -> Option<Mono> {
        if self.probing.is_some() || self.leaves_by.is_some() {
            return None;
        }
        Some((self.last_came? + interval).max(self.probe_again))
    }

    pub(crate) fn is_unproven(&self, now: Mono, interval: Duration) -> bool {
        self.unproven_at(interval).is_some_and(|at| now >= at)
    }

    /// Takes the rate of samples anew.
    pub(crate) fn measure(&mut self, now: Mono) {
        self.rate.measure(now);
    }

    /// Samples per second, smoothed over about a minute; 0 as long as it is not known.
    pub(crate) fn rate(&self) -> u64 {
        self.rate.value.round() as u64
    }
}

/// Samples per second, as an exponentially weighted mean: weight e⁻¹ after [`RATE_OVER`]. In the first minute it is the plain
/// mean so far.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// Samples since the last measure.
    pub(super) samples: u64,
    pub(super) since: Option<Mono>,
    measured: Option<Mono>,
    value: f64,
}

impl Rate {
    fn measure(&mut self, now: Mono) {
        let Some(since) = self.since else { return };
        let seconds = now.since(self.measured.unwrap_or(since)).as_secs_f64();
        if seconds < RATE_EVERY.as_secs_f64() {
            return;
        }
        let age = now.since(since).as_secs_f64();
        let weight = (1.0 - (-seconds / RATE_OVER.as_secs_f64()).exp()).max(seconds / age);
        self.value += weight * (self.samples as f64 / seconds - self.value);
        (self.samples, self.measured) = (0, Some(now));
    }
}
