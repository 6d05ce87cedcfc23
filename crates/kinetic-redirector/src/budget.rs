//! How many voluntary moves a minute allows: a sliding window, so that no minute, wherever it begins, has more.

use std::collections::VecDeque;
use std::time::Duration;

use kinetic_wire::Mono;

/// Moves of one window are remembered in this many steps at most: those of one step count as made at its end.
const STEPS: u32 = 60;

/// Share of all units that may move voluntarily within a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveBudget {
    /// Units in a hundred; at least one unit may always move.
    pub percent: u32,
    /// Length of the window.
    pub window: Duration,
}

impl Default for MoveBudget {
    fn default() -> Self {
        Self { percent: 5, window: Duration::from_secs(60) }
    }
}

impl MoveBudget {
    /// Moves that one window allows where there are this many units.
    pub(crate) fn moves(&self, units: usize) -> usize {
        (units * self.percent as usize / 100).max(1)
    }
}

/// What was spent lately.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    /// End of a step, and the moves made in it.
    steps: VecDeque<(Mono, usize)>,
    total: usize,
}

impl Spent {
    /// Moves that may be made now.
    pub(crate) fn left(&mut self, now: Mono, budget: &MoveBudget, units: usize) -> usize {
        while let Some((_, moves)) = self.steps.pop_front_if(|(end, _)| *end + budget.window <= now) {
            self.total -= moves;
        }
        budget.moves(units).saturating_sub(self.total)
    }

    /// Moves were made.
    pub(crate) fn spend(&mut self, now: Mono, budget: &MoveBudget, moves: usize) {
        if moves == 0 {
            return;
        }
        self.total += moves;
        match self.steps.back_mut() {
            Some((end, count)) if *end >= now => *count += moves,
            _ => self.steps.push_back((now + budget.window / STEPS, moves)),
        }
    }

    /// When something is free again, if all is spent.
    pub(crate) fn frees_at(&self, budget: &MoveBudget) -> Option<Mono> {
        self.steps.front().map(|(end, _)| *end + budget.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_has_more_than_its_share() {
        let (mut spent, budget) = (Spent::default(), MoveBudget::default());
        let mut made: Vec<(Mono, usize)> = Vec::new();
        for step in 0..4_000_u64 {
            let now = Mono(step * 365_000_000);
            let left = spent.left(now, &budget, 200);
            let moves = left.min((step % 4) as usize);
            spent.spend(now, &budget, moves);
            made.push((now, moves));
            let window: usize = made
                .iter()
                .rev()
                .take_while(|(at, _)| now.since(*at) < budget.window)
                .map(|(_, moves)| moves)
                .sum();
            assert!(window <= 10, "{window} in the minute before {now:?}");
            assert!(spent.steps.len() <= STEPS as usize + 2);
            if left == 0 {
                assert!(spent.frees_at(&budget).is_some_and(|at| at > now));
            }
        }
        let total: usize = made.iter().map(|(_, moves)| moves).sum();
        assert!(total > 230, "and most of it can be used: {total} of 243");
    }

    #[test]
    fn one_may_always_move() {
        assert_eq!(MoveBudget::default().moves(0), 1);
        assert_eq!(MoveBudget::default().moves(39), 1);
        assert_eq!(MoveBudget::default().moves(1_000_000), 50_000);
    }
}
