//! Settles deliveries together: one word to the broker for all that a batch has made safe.

use std::collections::BTreeMap;

use kinetic_amqp::Settle;

/// What the machine has said of deliveries, until all before them are settled too.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// The first token that is not settled; `None` before the first delivery of a subscription.
    next: Option<u64>,
    /// Tokens settled out of turn: true if acknowledged, false if that was said to the broker by other words.
    ahead: BTreeMap<u64, bool>,
}

impl Settling {
    /// A delivery has come.
    pub(super) fn delivered(&mut self, token: u64) {
        self.next.get_or_insert(token);
    }

    /// The subscription is lost: its deliveries come again.
    pub(super) fn lost(&mut self) {
        *self = Self::default();
    }

    /// The machine acknowledges one.
    pub(super) fn ack(&mut self, token: u64) {
        if self.next.is_some_and(|next| token >= next) {
            self.ahead.insert(token, true);
        }
    }

    /// One was refused, and the broker has been told.
    pub(super) fn rejected(&mut self, token: u64) {
        if self.next.is_some_and(|next| token >= next) {
            self.ahead.insert(token, false);
        }
    }

    /// What can be said now.
    pub(super) fn take(&mut self) -> Option<Settle> {
        let next = self.next.as_mut()?;
        let mut upto = None;
        while let Some(first) = self.ahead.first_entry().filter(|first| first.key() == next) {
            if first.remove() {
                upto = Some(*next);
            }
            *next += 1;
        }
        upto.map(Settle::AckUpTo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_acknowledged_before_all_that_came_earlier() {
        let mut settling = Settling::default();
        (11..=16).for_each(|token| settling.delivered(token));
        settling.ack(12);
        settling.ack(13);
        assert_eq!(settling.take(), None);
        settling.ack(11);
        assert_eq!(settling.take(), Some(Settle::AckUpTo(13)));
        assert_eq!(settling.take(), None);
        settling.rejected(14);
        assert_eq!(settling.take(), None, "what was refused is not named again");
        settling.ack(16);
        settling.ack(15);
        assert_eq!(settling.take(), Some(Settle::AckUpTo(16)));
    }

    #[test]
    fn tokens_of_a_lost_subscription_are_nothing() {
        let mut settling = Settling::default();
        settling.delivered(1);
        settling.delivered(2);
        settling.lost();
        settling.ack(1);
        assert_eq!(settling.take(), None);
        settling.delivered(3);
        settling.ack(2);
        settling.ack(3);
        assert_eq!(settling.take(), Some(Settle::AckUpTo(3)));
    }
}
