//! Terms and epochs: numbers that must be on disk before anybody hears them.
//!
//! One counter serves every source and the locate map: each change of owner takes the next number, so an epoch never
//! repeats and grows along every source. Numbers are reserved in blocks, so that a write is rare; a restart skips
//! what was reserved and not used, which costs nothing.

use kinetic_wire::{Epoch, Term};

use crate::machine::Stored;

/// Epochs reserved by one write.
pub(crate) const BLOCK: u64 = 1000;
/// A claimed epoch this far above our counter is not believed: no honest owner can have one, and believing it would
/// let one analyzer use the numbers up.
const CREDIBLE_LEAD: u64 = 1 << 32;
/// Epochs travel as signed 64-bit headers.
const EPOCH_MAX: u64 = i64::MAX as u64 / 2;

/// The counters of one leadership.
#[derive(Debug)]
pub(crate) struct Epochs {
    term: Term,
    /// Next epoch to give out.
    next: u64,
    /// Up to here is on disk.
    confirmed: u64,
    /// Up to here was asked to be on disk.
    asked: u64,
    /// The term is on disk.
    led: bool,
}

impl Epochs {
    /// A leadership after the stored one.
    pub(crate) fn new(stored: &Stored) -> Self {
        Self {
            term: Term(stored.term.0.saturating_add(1)),
            next: stored.epoch_max.0.saturating_add(1),
            confirmed: stored.epoch_max.0,
            asked: 0,
            led: false,
        }
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// The next epoch.
    pub(crate) fn take(&mut self) -> Epoch {
        let epoch = Epoch(self.next);
        self.next += 1;
        epoch
    }

    /// Somebody claims this epoch: ours must be above it from now on. False if the claim is not credible.
    pub(crate) fn seen(&mut self, epoch: Epoch) -> bool {
        if epoch.0 >= self.next.saturating_add(CREDIBLE_LEAD) || epoch.0 >= EPOCH_MAX {
            return false;
        }
        self.next = self.next.max(epoch.0 + 1);
        true
    }

    /// What must be written now, if anything: asked for early, so that answers seldom wait for the disk.
    pub(crate) fn wanted(&mut self) -> Option<Stored> {
        if self.asked > 0 && self.asked >= self.next + BLOCK / 4 {
            return None;
        }
        self.asked = self.next + BLOCK;
        Some(Stored { term: self.term, epoch_max: Epoch(self.asked) })
    }

    /// A write is on disk.
    pub(crate) fn stored(&mut self, stored: &Stored) {
        if stored.term == self.term {
            self.led = true;
            self.confirmed = self.confirmed.max(stored.epoch_max.0);
        }
    }

    /// The term is on disk.
    pub(crate) fn leads(&self) -> bool {
        self.led
    }

    /// Whether this epoch may be told to anybody.
    pub(crate) fn may_say(&self, epoch: Epoch) -> bool {
        self.led && epoch.0 <= self.confirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_before_it_is_stored() {
        let mut epochs = Epochs::new(&Stored { term: Term(4), epoch_max: Epoch(2000) });
        assert_eq!(epochs.take(), Epoch(2001));
        assert!(!epochs.may_say(Epoch(7)), "the term is not stored yet");
        let block = epochs.wanted().expect("the first block");
        assert_eq!(block, Stored { term: Term(5), epoch_max: Epoch(3002) });
        assert_eq!(epochs.wanted(), None, "asked already");
        epochs.stored(&Stored { term: Term(4), epoch_max: Epoch(9000) });
        assert!(!epochs.leads(), "a write of another term proves nothing");
        epochs.stored(&block);
        assert!(epochs.may_say(Epoch(3002)) && !epochs.may_say(Epoch(3003)));
        for _ in 0..751 {
            epochs.take();
        }
        assert_eq!(epochs.wanted().map(|stored| stored.epoch_max), Some(Epoch(3753)));
    }

    #[test]
    fn an_incredible_claim_does_not_use_the_numbers_up() {
        let mut epochs = Epochs::new(&Stored::default());
        assert!(!epochs.seen(Epoch(u64::MAX)));
        assert_eq!(epochs.take(), Epoch(1));
        assert!(epochs.seen(Epoch(70)));
        assert_eq!(epochs.take(), Epoch(71));
    }
}
