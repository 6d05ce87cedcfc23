//! Terms and epochs: numbers that must be safe before anybody hears them.
//!
//! One counter serves every source and the versions of `locate`: each change of owner takes the next number, so an epoch never
//! repeats and grows along every source. Numbers are reserved in blocks, so that storing is rare; whoever leads next
//! skips what was reserved and not used, which costs nothing.
//!
//! ```text
//!            elect (a token came)              stored (our own token came back)
//!  standby ───────────────────────▶ taking ─────────────────────────────────────▶ leading
//!     ▲                                │ ▲      elect with a term not below ours       │
//!     └────────── depose ──────────────┴─┴─────────────────────────────────────────────┘
//! ```

use kinetic_wire::{Epoch, Term};

use crate::machine::Stored;

/// Epochs reserved by one token.
pub(crate) const BLOCK: u64 = 1000;
/// A claimed epoch this far above our counter is not believed: no honest owner can have one, and believing it would
/// let one analyzer use the numbers up.
const CREDIBLE_LEAD: u64 = 1 << 32;
/// Epochs travel as signed 64-bit headers.
const EPOCH_MAX: u64 = i64::MAX as u64 / 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Office {
    Standby,
    Taking,
    Leading,
}

/// The counters of one redirector.
#[derive(Debug)]
pub(crate) struct Epochs {
    office: Office,
    /// Our term while we take or have the lead; else the highest that we know of.
    term: Term,
    /// Next epoch to give out.
    next: u64,
    /// Up to here is safe.
    confirmed: u64,
    /// Up to here was asked to be made safe.
    asked: u64,
    /// So many more than a block will be taken soon.
    expected: u64,
    /// The highest that was ever asked to be made safe: what is stored never goes back.
    highest: u64,
}

impl Epochs {
    /// A standby that knows what its own disk says.
    pub(crate) fn new(stored: &Stored) -> Self {
        let next = stored.epoch_max.0.saturating_add(1);
        Self {
            office: Office::Standby,
            term: stored.term,
            next,
            confirmed: 0,
            asked: 0,
            expected: 0,
            highest: 0,
        }
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// What another leader says that it may have given out.
    pub(crate) fn heard(&mut self, stored: &Stored) {
        self.term = self.term.max(stored.term);
        self.next = self.next.max(stored.epoch_max.0.saturating_add(1));
    }

    /// A token was delivered to us: we take the lead under a term above it. With one already held, another of a lower term only
    /// raises the epochs; one with a term not below ours proves that somebody else has led under ours, which we give up.
    /// True if a new term begins.
    pub(crate) fn elect(&mut self, token: &Stored) -> bool {
        if self.office != Office::Standby && token.term < self.term {
            self.next = self.next.max(token.epoch_max.0.saturating_add(1));
            return false;
        }
        self.heard(token);
        self.term = Term(self.term.0.saturating_add(1));
        self.office = Office::Taking;
        (self.asked, self.confirmed) = (0, 0);
        true
    }

    /// The token is no longer ours: nothing may be said any more.
    pub(crate) fn depose(&mut self) {
        self.office = Office::Standby;
        (self.asked, self.confirmed) = (0, 0);
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

    /// So many will be taken soon: the next block has room for them, so that placing many sources stores once and not over
    /// and over.
    pub(crate) fn expect(&mut self, count: usize) {
        self.expected = count as u64;
    }

    /// What must be stored now, if anything: asked for early, so that answers seldom wait.
    pub(crate) fn wanted(&mut self) -> Option<Stored> {
        if self.office == Office::Standby || (self.asked > 0 && self.asked >= self.next + BLOCK / 4) {
            return None;
        }
        self.asked = self.highest.max(self.next + BLOCK + std::mem::take(&mut self.expected));
        self.highest = self.asked;
        Some(Stored { term: self.term, epoch_max: Epoch(self.asked) })
    }

    /// It is stored. True if that completes the election.
    pub(crate) fn stored(&mut self, stored: &Stored) -> bool {
        if self.office == Office::Standby || stored.term != self.term {
            return false;
        }
        self.confirmed = self.confirmed.max(stored.epoch_max.0);
        std::mem::replace(&mut self.office, Office::Leading) == Office::Taking
    }

    /// We lead, and our term is stored.
    pub(crate) fn leads(&self) -> bool {
        self.office == Office::Leading
    }

    /// We neither lead nor are about to.
    pub(crate) fn stands_by(&self) -> bool {
        self.office == Office::Standby
    }

    /// No epoch above this has been said.
    pub(crate) fn confirmed(&self) -> Epoch {
        Epoch(self.confirmed)
    }

    /// Whether this epoch may be told to anybody.
    pub(crate) fn may_say(&self, epoch: Epoch) -> bool {
        self.leads() && epoch.0 <= self.confirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(term: u64, epoch_max: u64) -> Stored {
        Stored { term: Term(term), epoch_max: Epoch(epoch_max) }
    }

    #[test]
    fn nothing_is_said_before_it_is_stored() {
        let mut epochs = Epochs::new(&token(4, 2000));
        assert_eq!(epochs.wanted(), None, "a standby has nothing to store");
        assert!(epochs.elect(&token(2, 1500)), "our own disk knows better");
        assert_eq!(epochs.take(), Epoch(2001));
        assert!(!epochs.may_say(Epoch(7)), "the term is not stored yet");
        let block = epochs.wanted().expect("the first block");
        assert_eq!(block, token(5, 3002));
        assert_eq!(epochs.wanted(), None, "asked already");
        assert!(!epochs.stored(&token(4, 9000)) && !epochs.leads(), "of another term: proves nothing");
        assert!(epochs.stored(&block));
        assert!(epochs.may_say(Epoch(3002)) && !epochs.may_say(Epoch(3003)));
        for _ in 0..751 {
            epochs.take();
        }
        assert_eq!(epochs.wanted(), Some(token(5, 3753)));
        assert!(!epochs.stored(&token(5, 3753)), "elected before");
        epochs.depose();
        assert!(!epochs.may_say(Epoch(7)) && !epochs.stored(&token(5, 3753)));
    }

    #[test]
    fn what_is_expected_is_stored_once() {
        let mut epochs = Epochs::new(&Stored::default());
        epochs.elect(&Stored::default());
        assert_eq!(epochs.wanted(), Some(token(1, 1 + BLOCK)));
        epochs.expect(50_000);
        assert_eq!(epochs.wanted(), None, "not before the block runs out");
        for _ in 0..50_000 {
            epochs.take();
            if let Some(block) = epochs.wanted() {
                assert_eq!(block.epoch_max, Epoch(752 + BLOCK + 50_000));
            }
        }
        epochs.expect(0);
        assert!(epochs.wanted().is_none());
        epochs.depose();
        epochs.elect(&Stored::default());
        let again = epochs.wanted().expect("a new term is stored");
        assert!(again.epoch_max >= Epoch(752 + BLOCK + 50_000), "and never goes back");
    }

    #[test]
    fn a_further_token_raises_what_it_must() {
        let mut epochs = Epochs::new(&Stored::default());
        assert!(epochs.elect(&token(3, 100)));
        let block = epochs.wanted().expect("a block");
        assert!(epochs.stored(&block));
        assert!(!epochs.elect(&token(1, 50)) && epochs.leads());
        assert!(!epochs.elect(&token(2, 9000)) && epochs.leads());
        let above = epochs.take();
        assert_eq!(above, Epoch(9001));
        assert!(!epochs.may_say(above), "until it is stored");
        assert_eq!(epochs.wanted(), Some(token(4, 9002 + BLOCK)));
        assert!(epochs.elect(&token(4, 60)), "somebody has led under our term");
        assert!(!epochs.leads());
        assert_eq!(epochs.wanted().map(|stored| stored.term), Some(Term(5)));
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
