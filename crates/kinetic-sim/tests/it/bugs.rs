//! Planted bugs: each is caught by the checker that is there for it, within so many seeds.

use kinetic_sim::bug::Bug;
use kinetic_sim::check::Invariant;
use kinetic_sim::message::SECOND;
use kinetic_sim::plan::{self, Size};
use kinetic_sim::world::Step;

use crate::scenarios;

/// Seeds within which every planted bug must be caught.
const SEEDS: u64 = 100;

fn caught(bug: Bug, by: Invariant) {
    let mut others = Vec::new();
    for seed in 0..SEEDS {
        let outcome = plan::run(seed, &[bug], false);
        if outcome.violations.iter().any(|violation| violation.invariant == by) {
            return;
        }
        others.extend(outcome.violations.first().map(|violation| violation.invariant));
    }
    panic!("{bug:?} was not caught by {by:?} within {SEEDS} seeds, but by {others:?}");
}

#[test]
fn ack_on_receipt() {
    caught(Bug::AckOnReceipt, Invariant::CountsOnce);
}

#[test]
fn confirmed_unsent() {
    caught(Bug::ConfirmedUnsent, Invariant::CountsOnce);
}

#[test]
fn loss_untold() {
    caught(Bug::LossUntold, Invariant::CountsOnce);
}

#[test]
fn ack_too_much() {
    caught(Bug::AckTooMuch, Invariant::CountsOnce);
}

#[test]
fn snapshot_dropped() {
    caught(Bug::SnapshotDropped, Invariant::SameVerdicts);
}

#[test]
fn suspended_clock() {
    caught(Bug::SuspendedClock, Invariant::LeaseFence);
}

/// Whoever sends under an old epoch is refused; only a bug of the alert node takes it.
#[test]
fn epoch_ignored() {
    let order = |bugs: &[Bug]| {
        let played =
            scenarios::play(Size::default(), bugs, |world, _| world.plan(200 * SECOND, Step::Impostor));
        played.world.ledger.violations.iter().any(|found| found.invariant == Invariant::EpochOrder)
    };
    assert!(order(&[Bug::EpochIgnored]) && !order(&[]));
}

#[test]
fn ack_before_append() {
    caught(Bug::AckBeforeAppend, Invariant::CountsOnce);
}

#[test]
fn mail_forgotten() {
    caught(Bug::MailForgotten, Invariant::MailGoesOut);
}

#[test]
fn store_forgotten() {
    caught(Bug::StoreForgotten, Invariant::TermUnique);
}

#[test]
fn token_forgotten() {
    caught(Bug::TokenForgotten, Invariant::TermUnique);
}

#[test]
fn listen_skipped() {
    caught(Bug::ListenSkipped, Invariant::NoEarlyGift);
}

#[test]
fn hasty_redirector() {
    caught(Bug::HastyRedirector, Invariant::NoEarlyGift);
}

#[test]
fn hasty_redirector_moves_in_a_quiet_world() {
    caught(Bug::HastyRedirector, Invariant::QuietMovesNothing);
}

#[test]
fn epoch_repeated() {
    caught(Bug::EpochRepeated, Invariant::OneOwner);
}

#[test]
fn several_active() {
    caught(Bug::SeveralActive, Invariant::CountsOnce);
}

#[test]
fn unsettled_forgotten() {
    caught(Bug::UnsettledForgotten, Invariant::CountsOnce);
}

#[test]
fn grants_lost() {
    caught(Bug::GrantsLost, Invariant::Recovers);
}
