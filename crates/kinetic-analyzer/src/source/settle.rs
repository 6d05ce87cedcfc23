//! Acknowledging what is safe, and what is done when too much is not.

use super::{ACK_BATCH, Shared, Source};
use crate::held::Ack;
use crate::machine::Effect;

/// How many times `held_max` may be held of a source whose windows are closed and whose snapshot the broker does not confirm.
/// The shell's prefetch, which the broker keeps to, is below it.
const HELD_WAITING: usize = 2;

impl Source {
    /// Acknowledges all that may be.
    pub(crate) fn settle(&mut self, effects: &mut Vec<Effect>) {
        self.held.release(self.through, &mut self.acks);
        self.due = 0;
        self.send_acks(effects);
    }

    /// Too many deliveries are held. Those that wait for the broker's confirm alone are not acknowledged before it: no more than
    /// the subscription's prefetch come, the queue keeps the others, and nothing is at stake if we end now. Where windows are too
    /// long for what comes there is nothing to wait for: the oldest go, unsafe as they are.
    pub(super) fn shed(&mut self, shared: &mut Shared<'_>) {
        self.settle(shared.effects);
        if self.held.len() <= shared.held_max {
            return;
        }
        let waits = self.held.first_release().is_some_and(|oldest| oldest <= self.closed);
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!(
                source = %self.key,
                held = self.held.len(),
                is_closed = waits,
                "too much is held: look whether the broker takes what we publish where windows are closed, \
                 else use shorter windows, larger bodies or more partitions"
            );
        }
        if waits && self.held.len() < shared.held_max * HELD_WAITING {
            shared.stats.held_back += 1;
            return;
        }
        let keep = shared.held_max - (shared.held_max / 16).min(ACK_BATCH);
        let early = self.held.shed(keep, self.through, &mut self.acks);
        shared.stats.early_acked += early as u64;
        self.send_acks(shared.effects);
    }

    pub(super) fn send_acks(&mut self, effects: &mut Vec<Effect>) {
        let slot = self.slot;
        effects.extend(self.acks.drain(..).map(|ack| match ack {
            Ack::UpTo(token) => Effect::AckUpTo { slot, token },
            Ack::Range(first, last) => Effect::AckRange { slot, first, last },
        }));
    }
}
