//! Nudges on their way out: "ask again now", without any authority. Sent at most once, and paced.

use std::collections::VecDeque;
use std::time::Duration;

use kinetic_wire::Mono;

use crate::machine::{Caller, Effect};

/// Nudges that wait for their turn; one more is dropped (counted), which costs its addressee the ordinary interval.
pub const NUDGES_MAX: usize = 100_000;
/// Nudges that leave at once; the rest follow [`PACE`] later, so that neither we nor the broker choke on them.
const AT_ONCE: usize = 500;
/// Pause between two batches.
const PACE: Duration = Duration::from_millis(20);

/// All that have not left.
#[derive(Debug, Default)]
pub(crate) struct Nudges {
    waiting: VecDeque<Caller>,
    /// When the next batch may leave.
    next: Mono,
    pub(crate) left: u64,
    pub(crate) dropped: u64,
}

impl Nudges {
    pub(crate) fn add(&mut self, caller: Caller) {
        if self.waiting.len() < NUDGES_MAX {
            self.waiting.push_back(caller);
        } else {
            self.dropped += 1;
        }
    }

    /// When there is something to send.
    pub(crate) fn next(&self) -> Option<Mono> {
        (!self.waiting.is_empty()).then_some(self.next)
    }

    /// Sends what may leave now.
    pub(crate) fn leave(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        if self.waiting.is_empty() || now < self.next {
            return;
        }
        let count = self.waiting.len().min(AT_ONCE);
        self.left += count as u64;
        self.next = now + PACE;
        effects.extend(self.waiting.drain(..count).map(|caller| Effect::Nudge { caller }));
    }
}
