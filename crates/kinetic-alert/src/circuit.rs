//! A circuit: one way out that is no longer used once it fails, but for a probe from time to time, so that what is down
//! costs one attempt now and then and not one per message.

use std::time::Duration;

use crate::clock::Steady;

/// Seconds for which a circuit stays open, by how often in a row it has been opened; the last one repeats. Shorter at
/// its end than a message's own pauses: one probe a minute costs the other side nothing, and all messages wait for it.
const OPEN_S: [u64; 7] = [1, 2, 4, 8, 15, 30, 60];

/// Whether a way is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It works, as far as is known.
    #[default]
    Closed,
    /// It failed; nothing is sent that way before this moment.
    Open { until: Steady },
    /// One attempt is under way to find out.
    HalfOpen,
}

/// What an attempt said about its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The other side talks; whatever it said about the message.
    Works,
    /// It could not be reached or used, or went away.
    Failed,
}

/// One way out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Circuit {
    state: State,
    /// Times that it was opened since it last worked.
    opened: usize,
    in_flight: usize,
}

impl Circuit {
    /// Whether it is taken to work.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Attempts under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether another attempt may begin. A late attempt of before it was opened is no reason not to probe it.
    pub(crate) fn takes(&self, now: Steady, in_flight_max: usize) -> bool {
        let state = match self.state {
            State::Closed => true,
            State::Open { until } => until <= now,
            State::HalfOpen => false,
        };
        state && self.in_flight < in_flight_max
    }

    /// An attempt begins.
    pub(crate) fn begin(&mut self) {
        if let State::Open { .. } = self.state {
            self.state = State::HalfOpen;
        }
        self.in_flight += 1;
    }

    /// An attempt has ended. What fails is left alone for `patience` at least. Returns whether the circuit has been opened
    /// by it.
    pub(crate) fn end(&mut self, now: Steady, verdict: Verdict, patience: Duration) -> bool {
        self.in_flight -= 1;
        match (verdict, self.state) {
            (Verdict::Works, _) => {
                self.close();
                false
            }
            // Others of the same moment say what is known already.
            (Verdict::Failed, State::Open { until }) => {
                self.state = State::Open { until: until.max(now + patience) };
                false
            }
            (Verdict::Failed, State::Closed | State::HalfOpen) => {
                let pause = Duration::from_secs(OPEN_S[self.opened.min(OPEN_S.len() - 1)]);
                self.state = State::Open { until: now + pause.max(patience) };
                self.opened += 1;
                true
            }
        }
    }

    /// It is taken to work.
    pub(crate) fn close(&mut self) {
        self.state = State::Closed;
        self.opened = 0;
    }

    /// When it is to be probed.
    pub(crate) fn probe_at(&self) -> Option<Steady> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::HalfOpen => None,
        }
    }
}
