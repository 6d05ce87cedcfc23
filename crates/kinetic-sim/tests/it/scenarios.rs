//! The failures that `docs/adr/0005` to `0008` answer, one by one, each with what must (not) happen besides the rules that hold
//! always.

use kinetic_sim::bug::Bug;
use kinetic_sim::check::{Excuses, Invariant};
use kinetic_sim::ledger::Sample;
use kinetic_sim::message::{SECOND, Time};
use kinetic_sim::plan::{self, Cast, Size};
use kinetic_sim::world::{BEGIN_S, Step, World};
use kinetic_sim::{End, ProcId, broker, installation};
use kinetic_wire::SourceKey;

/// Samples are published for this long.
const PUBLISHED: Time = 4 * 60 * SECOND;
/// In so many windows.
pub(crate) const WINDOWS: u64 = PUBLISHED / installation::WINDOW;
/// Everybody is there, and every source has its owner.
const SETTLED: Time = 40 * SECOND;

/// A world that has come to rest.
pub(crate) struct Played {
    pub(crate) world: World,
    /// Ownerships told since it had settled first.
    moved: u64,
}

/// A world in which a script happens once it has settled, until everything has come to rest.
pub(crate) fn play(size: Size, bugs: &[Bug], script: impl FnOnce(&mut World, &Cast)) -> Played {
    let size = Size { windows: WINDOWS, ..size };
    let (mut world, cast) = plan::populate(11, size, bugs);
    world.run(SETTLED);
    let before = world.ledger.moves;
    script(&mut world, &cast);
    world.plan(PUBLISHED + 80 * SECOND, Step::MustBeOwned);
    world.run(PUBLISHED + 100 * SECOND);
    Played { moved: world.ledger.moves - before, world }
}

/// Fails where a rule was broken. Late samples are excused where the script says so.
fn sound(mut world: World, late: bool) {
    world.finish(Excuses { late, ..Excuses::default() }, WINDOWS);
    let found: Vec<String> = world.ledger.violations.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{found:#?}");
    assert!(world.ledger.accepted.len() >= 12, "the world has done something");
}

fn source() -> SourceKey {
    SourceKey::new("c0", "s0")
}

/// Runs up to a moment and says who owns the first source then.
fn owner(world: &mut World, at: Time) -> ProcId {
    world.run(at);
    let holders = world.holders(&source());
    assert_eq!(holders.len(), 1, "one owner at {} s", at / SECOND);
    holders[0]
}

/// Who leads.
fn leader(world: &mut World, cast: &Cast, at: Time) -> ProcId {
    world.run(at);
    let leads: Vec<ProcId> = cast.redirectors.iter().copied().filter(|proc| world.leads(*proc)).collect();
    assert_eq!(leads.len(), 1, "one leader at {} s", at / SECOND);
    leads[0]
}

#[test]
fn quiet_world() {
    let played = play(Size::default(), &[], |world, _| world.plan(SETTLED, Step::Quiet));
    assert_eq!(played.moved, 0);
    sound(played.world, false);
}

/// The leader stands still, another is elected, and the first wakes up and believes that it leads.
#[test]
fn split_brain() {
    let played = play(Size::default(), &[], |world, cast| {
        let first = leader(world, cast, SETTLED);
        world.plan(SETTLED, Step::Pause(first));
        world.plan(SETTLED + SECOND, Step::Drop(first, End::Broker));
        let second = leader_but(world, cast, first, SETTLED + 20 * SECOND);
        assert_ne!(first, second);
        world.plan(SETTLED + 60 * SECOND, Step::Resume(first));
        world.run(SETTLED + 90 * SECOND);
        assert!(!world.leads(first), "who was asleep stands by");
        assert_eq!(leader(world, cast, SETTLED + 91 * SECOND), second);
    });
    assert_eq!(played.moved, 0, "another leader is no reason to move anything");
    sound(played.world, false);
}

fn leader_but(world: &mut World, cast: &Cast, but: ProcId, at: Time) -> ProcId {
    world.run(at);
    let mut others = cast.redirectors.iter().copied().filter(|proc| *proc != but);
    others.find(|proc| world.leads(*proc)).expect("another leads")
}

/// SIGSTOP for a minute: when it wakes, others own what it had, and nothing that it still says is taken.
#[test]
fn zombie_analyzer() {
    let played = play(Size::default(), &[], |world, _| {
        let zombie = owner(world, SETTLED);
        world.plan(SETTLED, Step::Pause(zombie));
        world.plan(SETTLED + 60 * SECOND, Step::Resume(zombie));
        assert_ne!(owner_but(world, zombie, SETTLED + 59 * SECOND), zombie);
        world.plan(200 * SECOND, Step::Impostor);
    });
    sound(played.world, false);
}

fn owner_but(world: &mut World, but: ProcId, at: Time) -> ProcId {
    world.run(at);
    let holders = world.holders(&source());
    *holders.iter().find(|proc| **proc != but).expect("another has it")
}

/// One redirector, restarted without its disk: the token knows its term, and owners say what they hold.
#[test]
fn redirector_restarts_empty() {
    let size = Size { redirectors: 1, ..Size::default() };
    let played = play(size, &[], |world, cast| {
        let before = owner(world, SETTLED);
        world.plan(SETTLED, Step::Crash(cast.redirectors[0], 0));
        world.plan(SETTLED, Step::Wipe(cast.redirectors[0]));
        world.plan(SETTLED + 10 * SECOND, Step::Start(cast.redirectors[0]));
        assert_eq!(owner(world, SETTLED + 60 * SECOND), before);
    });
    assert_eq!(played.moved, 0, "nothing moves, all is adopted");
    sound(played.world, false);
}

/// The leader dies: the next one leads within a second or two, adopts, and moves nothing.
#[test]
fn leader_dies() {
    let played = play(Size::default(), &[], |world, cast| {
        let first = leader(world, cast, SETTLED);
        world.plan(SETTLED, Step::Crash(first, 2));
        assert_ne!(leader(world, cast, SETTLED + 2 * SECOND), first);
    });
    assert_eq!(played.moved, 0);
    sound(played.world, false);
}

/// The data plane outlives the control plane: owners go on, and windows are judged meanwhile.
#[test]
fn all_redirectors_down() {
    let played = play(Size::default(), &[], |world, cast| {
        for redirector in &cast.redirectors {
            world.plan(SETTLED, Step::Crash(*redirector, 0));
            world.plan(200 * SECOND, Step::Start(*redirector));
        }
    });
    let meanwhile = played
        .world
        .ledger
        .accepted
        .iter()
        .filter(|event| event.at > 100 * SECOND && event.at < 200 * SECOND);
    assert!(meanwhile.count() >= 6, "a window or two were judged with nobody to ask");
    assert_eq!(played.moved, 0, "whoever comes back finds everything in its place");
    sound(played.world, false);
}

/// Leases do not look at wall clocks.
#[test]
fn wall_clock_jumps() {
    let hour = 3_600_000_000_000;
    let played = play(Size::default(), &[], |world, cast| {
        let all = [&cast.redirectors[..], &cast.analyzers, &[cast.alert]].concat();
        for (number, proc) in all.into_iter().enumerate() {
            let step = if number % 2 == 0 { hour } else { -hour };
            world.plan(SETTLED, Step::WallStep(proc, step));
            world.plan(SETTLED + 70 * SECOND, Step::WallStep(proc, -step));
        }
    });
    assert_eq!(played.moved, 0);
    sound(played.world, true);
}

/// What was asked before is asked again, in the wrong order: no lease grows longer by it, and nothing moves.
#[test]
fn replayed_heartbeats() {
    let played = play(Size::default(), &[], |world, cast| {
        for at in [45, 60, 61, 90] {
            world.plan(at * SECOND, Step::Replay);
        }
        // Of a process that is no more, as well.
        world.plan(100 * SECOND, Step::Crash(cast.analyzers[0], 0));
        world.plan(103 * SECOND, Step::Start(cast.analyzers[0]));
        world.plan(110 * SECOND, Step::Replay);
    });
    sound(played.world, false);
}

/// Two processes of one name: the newer one has what the name has, and the older lets go.
#[test]
fn same_node_name_twice() {
    let size = Size { analyzers: 1, ..Size::default() };
    let played = play(size, &[], |world, cast| {
        let twin = world.add_analyzer("twin", "an0");
        assert_eq!(owner(world, SETTLED), cast.analyzers[0]);
        world.plan(SETTLED, Step::Start(twin));
        assert_eq!(owner(world, SETTLED + 60 * SECOND), twin);
    });
    sound(played.world, false);
}

/// A network that swallows everything: first for less than the two heartbeats that end a connection, then for more.
#[test]
fn half_open_tcp() {
    let played = play(Size::default(), &[], |world, _| {
        let cut = owner(world, SETTLED);
        world.plan(SETTLED, Step::Cut(cut));
        world.plan(SETTLED + 12 * SECOND, Step::Heal(cut));
        let cut = owner(world, 100 * SECOND);
        world.plan(100 * SECOND, Step::Cut(cut));
        world.plan(170 * SECOND, Step::Heal(cut));
        assert_ne!(owner_but(world, cut, 150 * SECOND), cut);
    });
    sound(played.world, true);
}

/// The broker restarts under twelve analyzers: all are back within half a minute, and little has moved.
#[test]
fn thundering_herd() {
    let size = Size { analyzers: 12, customers: 3, sources: 2, ..Size::default() };
    let played = play(size, &[], |world, _| {
        world.plan(70 * SECOND, Step::BrokerDown);
        world.plan(75 * SECOND, Step::BrokerUp);
        world.plan(110 * SECOND, Step::MustBeOwned);
    });
    assert!(played.moved <= 6, "{} ownerships for 6 sources", played.moved);
    sound(played.world, false);
}

/// A customer is switched off while its data flows, and nodes hear of it one after the other.
#[test]
fn customer_disabled_mid_stream() {
    let size = Size { customers: 2, sources: 1, disables: true, ..Size::default() };
    let mut played = play(size, &[], |world, cast| {
        let all = [&cast.redirectors[..], &cast.analyzers, &[cast.alert]].concat();
        for (number, proc) in all.into_iter().enumerate() {
            world.plan(70 * SECOND + number as Time * 3 * SECOND, Step::Schema(proc, 1));
        }
    });
    let off = SourceKey::new("c1", "s0");
    let world = &mut played.world;
    assert_eq!(world.holders(&off), [], "nobody works for who is switched off");
    for sample in world.ledger.samples.iter_mut().filter(|sample| sample.source == off) {
        sample.gone = Some(broker::Gone::Refused);
    }
    sound(played.world, false);
}

/// A node that dies again and again is left alone for a while, and others keep what they have.
#[test]
fn flapping_node() {
    let played = play(Size::default(), &[], |world, _| {
        let flapping = owner(world, SETTLED);
        for number in 0..5 {
            let at = SETTLED + number * 25 * SECOND;
            world.plan(at, Step::Crash(flapping, 0));
            world.plan(at + 8 * SECOND, Step::Start(flapping));
        }
        assert_ne!(owner(world, SETTLED + 130 * SECOND), flapping, "it is held down");
    });
    assert!(played.moved <= 2, "{} ownerships for 2 sources", played.moved);
    sound(played.world, false);
}

/// Every analyzer leaves in good order and comes back, one after the other: nothing is lost, counted twice or said twice.
#[test]
fn rolling_restart() {
    let played = play(Size::default(), &[], |world, cast| {
        for (number, proc) in cast.analyzers.iter().enumerate() {
            let at = SETTLED + number as Time * 40 * SECOND;
            world.plan(at, Step::Shutdown(*proc));
            world.plan(at + 15 * SECOND, Step::Start(*proc));
        }
    });
    sound(played.world, false);
}

/// A killed analyzer is replaced within seconds: the broker says that its connection has ended.
#[test]
fn killed_analyzer() {
    let played = play(Size::default(), &[], |world, _| {
        let killed = owner(world, SETTLED);
        world.plan(SETTLED, Step::Crash(killed, 0));
        assert_ne!(owner(world, SETTLED + 3 * SECOND), killed);
        world.plan(SETTLED + 60 * SECOND, Step::Start(killed));
    });
    sound(played.world, false);
}

/// A publisher ends with a confirm on its way, and repeats when the window is long judged: the second copy is late, and the
/// first one has counted.
#[test]
fn repeated_too_late() {
    let played = play(Size::default(), &[], |world, cast| {
        let publisher = cast.publishers[1];
        world.plan(130 * SECOND, Step::Block(true));
        world.plan(149 * SECOND, Step::Crash(publisher, 0));
        world.plan(150 * SECOND, Step::Block(false));
        world.plan(200 * SECOND, Step::Start(publisher));
    });
    let late = played.world.ledger.samples.iter().filter(|sample| sample.sent == 2 && sample.dropped);
    assert!(late.clone().count() > 0 && late.clone().all(|sample| !sample.dropped_in_time));
    sound(played.world, false);
}

/// A publisher is down for a whole window: its feed has no verdict there, and "2 of 3" counts further back.
#[test]
fn silent_for_a_window() {
    let played = play(Size::default(), &[], |world, cast| {
        world.plan(59 * SECOND, Step::Crash(cast.publishers[2], 0));
        world.plan(121 * SECOND, Step::Start(cast.publishers[2]));
    });
    sound(played.world, false);
}

/// A publisher whose clock is wrong says what is refused as too far ahead: it had come in time, and only its clock excuses it.
#[test]
fn what_is_dropped_in_time_is_noticed() {
    let mut played = play(Size::default(), &[], |world, cast| {
        world.plan(SETTLED, Step::WallStep(cast.publishers[1], 3_600_000_000_000));
    });
    played.world.finish(Excuses::default(), WINDOWS);
    let found = |rule| played.world.ledger.violations.iter().any(|found| found.invariant == rule);
    assert!(found(Invariant::LateIsExplained));
}

/// The only redirector restarts just when a process wakes up that had a source before its present owner: it says so first,
/// and the redirector takes it at its word until the owner speaks.
#[test]
fn the_former_owner_speaks_first() {
    let size = Size { redirectors: 1, ..Size::default() };
    let played = play(size, &[], |world, cast| {
        let former = owner(world, SETTLED);
        world.plan(SETTLED, Step::Pause(former));
        let present = owner_but(world, former, SETTLED + 40 * SECOND);
        world.plan(SETTLED + 40 * SECOND, Step::Crash(cast.redirectors[0], 0));
        world.plan(SETTLED + 41 * SECOND, Step::Cut(present));
        world.plan(SETTLED + 42 * SECOND, Step::Resume(former));
        world.plan(SETTLED + 43 * SECOND, Step::Start(cast.redirectors[0]));
        world.plan(SETTLED + 45 * SECOND, Step::Heal(present));
        assert_eq!(owner(world, SETTLED + 70 * SECOND), present);
    });
    sound(played.world, false);
}

/// A broker that takes nothing for a while: whose source it is that a lost witness has freed is told long after it was decided.
#[test]
fn told_late_after_a_witness() {
    let played = play(Size::default(), &[], |world, _| {
        let lost = owner(world, SETTLED);
        world.plan(SETTLED, Step::Block(true));
        world.plan(SETTLED + SECOND / 2, Step::Drop(lost, End::Broker));
        world.plan(SETTLED + 62 * SECOND / 10, Step::Block(false));
        assert_ne!(owner(world, SETTLED + 25 * SECOND), lost);
    });
    sound(played.world, false);
}

/// The checkers themselves: a world with a rule broken is not sound.
#[test]
fn a_broken_world_is_noticed() {
    let mut played = play(Size::default(), &[Bug::AckOnReceipt], |world, _| {
        let killed = owner(world, SETTLED);
        world.plan(SETTLED, Step::Crash(killed, 0));
    });
    played.world.finish(Excuses::default(), WINDOWS);
    assert!(played.world.ledger.violations.iter().any(|found| found.invariant == Invariant::CountsOnce));
}

/// The size of a world with a source in three parts, and rules that listen for silence.
fn split() -> Size {
    Size { partitions: 3, sources: 1, listens: true, hushes: true, ..Size::default() }
}

fn owner_of(world: &mut World, unit: &SourceKey, at: Time) -> ProcId {
    world.run(at);
    let holders = world.holders(unit);
    assert_eq!(holders.len(), 1, "one owner of {unit} at {} s", at / SECOND);
    holders[0]
}

/// A part with something in it.
fn part() -> SourceKey {
    source().with_part(installation::part_of("feed-0", 3))
}

#[test]
fn split_and_quiet() {
    // Once it is known which parts are busy, one may go where there is more room.
    let played = play(split(), &[], |world, _| world.plan(100 * SECOND, Step::Quiet));
    sound(played.world, false);
}

/// Whoever counts a part dies, hangs, or is cut off, over the end of a window and for less than the others wait.
#[test]
fn a_part_changes_hands() {
    let ways: [fn(&mut World, ProcId); 3] = [
        |world, owner| {
            world.plan(119 * SECOND, Step::Crash(owner, 2));
            world.plan(150 * SECOND, Step::Start(owner));
        },
        |world, owner| {
            world.plan(119 * SECOND, Step::Pause(owner));
            world.plan(150 * SECOND, Step::Resume(owner));
        },
        |world, owner| {
            world.plan(119 * SECOND, Step::Cut(owner));
            world.plan(150 * SECOND, Step::Heal(owner));
        },
    ];
    for way in ways {
        let played = play(Size { hushes: false, ..split() }, &[], |world, _| {
            let owner = owner_of(world, &part(), SETTLED);
            way(world, owner);
            world.run(149 * SECOND);
            assert!(!world.holders(&part()).iter().all(|holder| *holder == owner), "it is another's");
        });
        sound(played.world, false);
    }
}

/// Whoever judges dies with the values of some parts in hand.
#[test]
fn the_judge_dies() {
    let played = play(split(), &[], |world, _| {
        let judge = owner_of(world, &source(), SETTLED);
        world.plan(1255 * SECOND / 10, Step::Crash(judge, 1));
        world.plan(150 * SECOND, Step::Start(judge));
    });
    sound(played.world, false);
}

/// A part that nobody can have for longer than the others wait: its windows are closed without it, as is said, and none of its
/// feeds is called silent for that.
#[test]
fn a_part_is_missing_for_too_long() {
    let mut played = play(Size { redirectors: 1, ..split() }, &[], |world, cast| {
        let (judge, owner) = (owner_of(world, &source(), 99 * SECOND), owner_of(world, &part(), 99 * SECOND));
        assert_ne!(judge, owner);
        world.plan(100 * SECOND, Step::Crash(cast.redirectors[0], 0));
        world.plan(101 * SECOND, Step::Crash(owner, 0));
        world.plan(230 * SECOND, Step::Start(owner));
        world.plan(230 * SECOND, Step::Start(cast.redirectors[0]));
    });
    let overdue = played.world.ledger.samples.iter().filter(|sample| sample.overdue).count();
    assert!(overdue > 0, "windows were closed without it");
    played.world.finish(Excuses { overdue: true, ..Excuses::default() }, WINDOWS);
    let found: Vec<String> = played.world.ledger.violations.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// The queues of snapshots, alerts and requests have no leader for ten seconds, over the end of a window: clients open other
/// channels until they are taken, and nobody loses anything by it.
#[test]
fn refused_for_long() {
    for queues in ["snap.", "kin.alerts", "kin.rpc", ""] {
        let played = play(Size::default(), &[], |world, _| {
            world.plan(118 * SECOND, Step::Leaderless(Some(queues)));
            world.plan(128 * SECOND, Step::Leaderless(None));
            world.plan(170 * SECOND, Step::MustBeOwned);
        });
        sound(played.world, true);
    }
}

/// Analyzers' clocks are an hour ahead while nothing comes: windows are closed by the clock that are still to come. Once they are
/// right, what comes counts again from the window after the next on.
#[test]
fn a_clock_an_hour_ahead_during_a_cut() {
    let hour = 3_600_000_000_000;
    for size in [Size::default(), Size { hushes: false, ..split() }] {
        let played = play(size, &[], |world, cast| {
            for publisher in &cast.publishers {
                world.plan(50 * SECOND, Step::Cut(*publisher));
                world.plan(95 * SECOND, Step::Heal(*publisher));
            }
            for analyzer in &cast.analyzers {
                world.plan(55 * SECOND, Step::WallStep(*analyzer, hour));
                world.plan(90 * SECOND, Step::WallStep(*analyzer, -hour));
            }
        });
        let begin_ms = BEGIN_S * 1000;
        let again_ms = begin_ms + 3 * 60_000;
        let ledger = &played.world.ledger;
        let lost = |from: i64, until: i64| {
            let within = move |sample: &&Sample| sample.window_ms.is_some_and(|at| at >= from && at < until);
            ledger.samples.iter().filter(within).filter(|sample| sample.dropped).count()
        };
        assert!(lost(begin_ms, again_ms) > 0, "windows were closed ahead of time");
        assert_eq!(lost(again_ms, i64::MAX), 0, "and are open again");
        let whole = ledger.accepted.iter().filter(|accepted| {
            accepted.event.window_start_ms == again_ms && accepted.event.numbers.is_some()
        });
        assert!(whole.count() > 0, "and judged");
        sound(played.world, true);
    }
}
