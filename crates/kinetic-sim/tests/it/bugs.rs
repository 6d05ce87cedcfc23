//! Planted bugs: each is caught by the checker that is there for it, within so many seeds.

use kinetic_sim::bug::Bug;
use kinetic_sim::check::{Excuses, Invariant};
use kinetic_sim::message::SECOND;
use kinetic_sim::plan::{self, Cast, Size};
use kinetic_sim::world::{Step, World};

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

/// Plays a script with the bug and without: the rule is broken with it only.
fn broken_only_by(bug: Bug, by: Invariant, size: Size, script: fn(&mut World, &Cast)) {
    let is_broken = |bugs: &[Bug]| {
        let mut world = scenarios::play(size, bugs, script).world;
        world.finish(Excuses::default(), scenarios::WINDOWS);
        world.ledger.violations.iter().any(|found| found.invariant == by)
    };
    assert!(is_broken(&[bug]), "{bug:?} was not caught by {by:?}");
    assert!(!is_broken(&[]), "{by:?} is broken without {bug:?}");
}

/// Whoever sends under an old epoch is refused; only a bug of the alert node takes it.
#[test]
fn epoch_ignored() {
    broken_only_by(Bug::EpochIgnored, Invariant::EpochOrder, Size::default(), |world, _| {
        world.plan(200 * SECOND, Step::Impostor);
    });
}

/// Asleep over the end of a window, for longer than its lease and less than its connections stand.
#[test]
fn suspended_clock() {
    broken_only_by(Bug::SuspendedClock, Invariant::LeaseFence, Size::default(), |world, cast| {
        for analyzer in &cast.analyzers {
            world.plan(115 * SECOND, Step::Pause(*analyzer));
            world.plan(135 * SECOND, Step::Resume(*analyzer));
        }
    });
}

#[test]
fn store_forgotten() {
    let alone = Size { redirectors: 1, ..Size::default() };
    broken_only_by(Bug::StoreForgotten, Invariant::TermUnique, alone, |world, cast| {
        world.plan(70 * SECOND, Step::Crash(cast.redirectors[0], 0));
        world.plan(72 * SECOND, Step::Start(cast.redirectors[0]));
    });
}

/// The disk is lost as well, and nobody else is there who has heard of the term.
#[test]
fn token_forgotten() {
    let alone = Size { redirectors: 1, ..Size::default() };
    broken_only_by(Bug::TokenForgotten, Invariant::TermUnique, alone, |world, cast| {
        world.plan(70 * SECOND, Step::Crash(cast.redirectors[0], 0));
        world.plan(70 * SECOND, Step::Wipe(cast.redirectors[0]));
        world.plan(72 * SECOND, Step::Start(cast.redirectors[0]));
    });
}

#[test]
fn ack_before_append() {
    broken_only_by(Bug::AckBeforeAppend, Invariant::CountsOnce, Size::default(), |world, cast| {
        world.plan(60 * SECOND, Step::CrashAfter(cast.alert, 0, 5 * SECOND));
    });
}

#[test]
fn mail_forgotten() {
    caught(Bug::MailForgotten, Invariant::MailGoesOut);
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

#[test]
fn nudge_loses_grants() {
    caught(Bug::NudgeLosesGrants, Invariant::Recovers);
}

#[test]
fn two_leaders() {
    caught(Bug::TwoLeaders, Invariant::TermUnique);
}

#[test]
fn partials_unsent() {
    caught(Bug::PartialsUnsent, Invariant::CountsOnce);
}

#[test]
fn partials_acked() {
    caught(Bug::PartialsAcked, Invariant::CountsOnce);
}

#[test]
fn scattered() {
    caught(Bug::Scattered, Invariant::CountsOnce);
}

#[test]
fn refusals_kept() {
    caught(Bug::RefusalsKept, Invariant::CountsOnce);
}

#[test]
fn swallowed() {
    caught(Bug::Swallowed, Invariant::SilenceIsTrue);
}

/// A network that swallows everything over the end of a window, for less than a connection needs to end.
#[test]
fn probe_forged() {
    let listens = Size { listens: true, ..Size::default() };
    broken_only_by(Bug::ProbeForged, Invariant::LateIsExplained, listens, |world, cast| {
        for analyzer in &cast.analyzers {
            world.plan(112 * SECOND, Step::Cut(*analyzer));
            world.plan(1265 * SECOND / 10, Step::Heal(*analyzer));
        }
    });
}

/// Everybody has ceased to speak, and all has been acknowledged, when the owner dies: only its snapshot knows of them.
#[test]
fn snapshot_dropped_forgets_who_was_heard() {
    let listens = Size { listens: true, ..Size::default() };
    broken_only_by(Bug::SnapshotDropped, Invariant::SilenceIsTold, listens, |world, cast| {
        for analyzer in &cast.analyzers {
            world.plan(265 * SECOND, Step::Crash(*analyzer, 0));
            world.plan(268 * SECOND, Step::Start(*analyzer));
        }
    });
}
