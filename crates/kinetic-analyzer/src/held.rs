//! Deliveries that are not settled yet, as runs of consecutive tokens with one release time.
//!
//! A source's publishers send roughly in order of time, so a window of a hundred thousand deliveries is a handful of
//! runs. A delivery's **release time** is set by its source (`source.rs`): once all windows are closed, and their
//! alerts confirmed, through that time, it may be acknowledged.

use std::collections::VecDeque;

use kinetic_wire::{Mono, Token, Wall};

/// Release time of a delivery that fed no window: at once.
pub(crate) const AT_ONCE: Wall = Wall(i64::MIN);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u64,
    last: u64,
    release: Wall,
    /// When its first delivery came.
    came: Mono,
}

/// One acknowledgement to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ack {
    /// Everything through this token, which is itself unsettled.
    UpTo(Token),
    /// These alone, both ends included.
    Range(Token, Token),
}

/// The list, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    runs: VecDeque<Run>,
    len: usize,
}

impl Held {
    /// Deliveries in the list.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Release time of the oldest.
    pub(crate) fn first_release(&self) -> Option<Wall> {
        self.runs.front().map(|run| run.release)
    }

    /// When the oldest came.
    pub(crate) fn oldest(&self) -> Option<Mono> {
        self.runs.front().map(|run| run.came)
    }

    /// Adds a delivery. Tokens must grow; a gap is a delivery that was settled otherwise.
    pub(crate) fn push(&mut self, token: Token, release: Wall, now: Mono) {
        self.len += 1;
        match self.runs.back_mut() {
            Some(run) if run.release == release && run.last + 1 == token.0 => run.last = token.0,
            _ => self.runs.push_back(Run { first: token.0, last: token.0, release, came: now }),
        }
    }

    /// Takes out all that may be released through a time.
    ///
    /// Stragglers come first and the prefix, which is one atomic acknowledgement at the broker, last. A crash between
    /// the two does no harm: a snapshot says that their windows are closed.
    pub(crate) fn release(&mut self, through: Wall, acks: &mut Vec<Ack>) {
        let mut prefix = None;
        while let Some(run) = self.runs.front().copied().filter(|run| run.release <= through) {
            self.runs.pop_front();
            self.len -= width(run);
            prefix = Some(run.last);
        }
        let mut freed = 0;
        self.runs.retain(|run| {
            let keep = run.release > through;
            if !keep {
                freed += width(*run);
                acks.push(Ack::Range(Token(run.first), Token(run.last)));
            }
            keep
        });
        self.len -= freed;
        acks.extend(prefix.map(|last| Ack::UpTo(Token(last))));
    }

    /// Takes out the oldest until no more than `keep` are left. Returns how many of them were not due yet.
    pub(crate) fn shed(&mut self, keep: usize, through: Wall, acks: &mut Vec<Ack>) -> usize {
        let (mut early, mut prefix) = (0, None);
        while self.len > keep {
            let Some(run) = self.runs.front_mut() else { break };
            let take = width(*run).min(self.len - keep);
            early += if run.release > through { take } else { 0 };
            self.len -= take;
            let last = run.first + take as u64 - 1;
            prefix = Some(last);
            if last == run.last {
                self.runs.pop_front();
            } else {
                run.first = last + 1;
            }
        }
        acks.extend(prefix.map(|last| Ack::UpTo(Token(last))));
        early
    }

    /// What would be released after a time may be at once. Returns how many that are.
    pub(crate) fn forgive(&mut self, after: Wall) -> usize {
        let forgiven = self.runs.iter_mut().filter(|run| run.release > after);
        forgiven.map(|run| (run.release = AT_ONCE, width(*run)).1).sum()
    }

    /// Forgets all: the broker will deliver them again.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.len = 0;
    }
}

/// How many deliveries a run holds; it never spans more than memory could index.
fn width(run: Run) -> usize {
    usize::try_from(run.last - run.first + 1).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_neighbours_are_one_run() {
        let mut held = Held::default();
        for token in 1..=100_000 {
            held.push(Token(token), Wall(10), Mono(0));
        }
        assert_eq!((held.len(), held.runs.len()), (100_000, 1));
        let mut acks = Vec::new();
        held.release(Wall(9), &mut acks);
        assert_eq!(acks, []);
        held.release(Wall(10), &mut acks);
        assert_eq!(acks, [Ack::UpTo(Token(100_000))]);
        assert_eq!(held.len(), 0);
    }

    #[test]
    fn stragglers_are_released_with_their_window_and_before_it() {
        let mut held = Held::default();
        for (token, release) in [(1, 10), (2, 10), (3, 20), (4, 10), (5, 20), (7, 10)] {
            held.push(Token(token), Wall(release), Mono(0));
        }
        let mut acks = Vec::new();
        held.release(Wall(10), &mut acks);
        let (four, seven) = (Token(4), Token(7));
        assert_eq!(acks, [Ack::Range(four, four), Ack::Range(seven, seven), Ack::UpTo(Token(2))]);
        assert_eq!(held.len(), 2);
        acks.clear();
        held.release(Wall(20), &mut acks);
        assert_eq!(acks, [Ack::UpTo(Token(5))]);
    }

    #[test]
    fn past_the_bound_the_oldest_go() {
        let mut held = Held::default();
        for token in 1..=10 {
            held.push(Token(token), Wall(10 * (1 + i64::from(token > 2))), Mono(0));
        }
        let mut acks = Vec::new();
        assert_eq!(held.shed(4, Wall(10), &mut acks), 4);
        assert_eq!((acks.as_slice(), held.len()), (&[Ack::UpTo(Token(6))][..], 4));
    }

    proptest! {
        /// Whatever the order: exactly the due ones are settled, each once, and `UpTo` names an unsettled one.
        #[test]
        fn settles_what_is_due_and_nothing_else(
            releases in prop::collection::vec(prop::option::of(0..6_i64), 1..60), due in 0..6_i64,
        ) {
            let mut held = Held::default();
            let mut unsettled = BTreeMap::new();
            for (token, release) in (1..).zip(&releases) {
                let Some(release) = release else { continue };
                held.push(Token(token), Wall(*release), Mono(0));
                unsettled.insert(token, *release);
            }
            for through in [due, 6] {
                let mut acks = Vec::new();
                held.release(Wall(through), &mut acks);
                for ack in acks {
                    let (first, last) = match ack {
                        Ack::UpTo(last) => {
                            prop_assert!(unsettled.contains_key(&last.0));
                            (0, last.0)
                        }
                        Ack::Range(first, last) => {
                            prop_assert!((first.0..=last.0).all(|token| unsettled.contains_key(&token)));
                            (first.0, last.0)
                        }
                    };
                    let taken: Vec<u64> = unsettled.range(first..=last).map(|(token, _)| *token).collect();
                    for token in taken {
                        prop_assert!(unsettled.remove(&token).unwrap() <= through);
                    }
                }
                prop_assert!(unsettled.values().all(|release| *release > through));
                prop_assert_eq!(held.len(), unsettled.len());
            }
        }
    }
}
