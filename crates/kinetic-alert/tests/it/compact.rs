//! Replay of what compaction leaves gives the machine that replay of everything gives, in every run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kinetic_alert::{Alert, AlertConfig, Input, Record, RecordSeq};
use kinetic_schema::schema::GroupBy;
use kinetic_wire::{AlertId, AlertState, Epoch, TrailPoint, encode};
use proptest::prelude::*;
use uuid::Uuid;

use crate::quiet::{acknowledge, silence};
use crate::world::{NOON_S, Relay, World, alert_block, config, event, schema};

/// Few, so that runs go past them; as many as may wait for the disk, and a crash can lose. What was decided while they
/// waited may be lost too, and then they have another effect in a replay than they had.
const IDS_MAX: usize = 8;

#[derive(Clone, Debug)]
enum Op {
    /// A verdict on one of the feeds, by its source, so many seconds before or after the newest window.
    Verdict {
        feed: u8,
        source: u8,
        firing: bool,
        behind: i64,
    },
    Write(usize),
    Attempt,
    Relay(Relay),
    Advance(u64),
    Acknowledge,
    Crash(usize),
    Compact,
}

fn op() -> impl Strategy<Value = Op> {
    let verdict = (0..3u8, 0..8u8, 0..8u8, 0..12i64).prop_map(|(feed, source, firing, behind)| Op::Verdict {
        feed,
        source: source / 7,
        firing: firing > 0,
        behind: (behind - 8).max(0) * 10,
    });
    prop_oneof![
        20 => verdict,
        10 => (1..6usize).prop_map(Op::Write),
        4 => Just(Op::Attempt),
        1 => prop_oneof![3 => Just(Relay::Up), 1 => Just(Relay::Down)].prop_map(Op::Relay),
        4 => (0..4_000u64).prop_map(Op::Advance),
        1 => (10_000..90_000u64).prop_map(Op::Advance),
        1 => Just(Op::Acknowledge),
        1 => (0..4usize).prop_map(Op::Crash),
        4 => Just(Op::Compact),
    ]
}

/// A world with what its shell has been told not to be needed.
struct Compacted {
    world: World,
    upto: RecordSeq,
    dropped: BTreeSet<RecordSeq>,
    verdicts: i64,
}

impl Compacted {
    fn new() -> Self {
        let config =
            AlertConfig { ids_max: IDS_MAX, stale_after: Duration::from_secs(60), alerts_max: 3, ..config() };
        let block = kinetic_schema::schema::Alert {
            repeat_interval: Duration::from_secs(40),
            ..alert_block("team", &["a@acme.example", "b@acme.example"])
        };
        let wide = kinetic_schema::schema::Alert {
            group_by: GroupBy::Service,
            repeat_interval: Duration::from_secs(30),
            ..alert_block("wide", &["c@acme.example"])
        };
        let world = World::with(config, schema(vec![block, wide]));
        Self { world, upto: RecordSeq(0), dropped: BTreeSet::new(), verdicts: 0 }
    }

    fn verdict(&mut self, feed: u8, source: u8, firing: bool, behind: i64) {
        self.verdict_with(feed, source, firing, behind, None);
    }

    fn verdict_with(
        &mut self,
        feed: u8,
        source: u8,
        firing: bool,
        behind: i64,
        trail: Option<Vec<TrailPoint>>,
    ) {
        if self.world.unwritten() >= IDS_MAX {
            self.world.write(usize::MAX);
        }
        self.verdicts += 1;
        let state = if firing { AlertState::Firing } else { AlertState::Resolved };
        let mut event = event(&format!("web-{feed}"), state, self.verdicts * 10 - behind);
        event.source = if source == 0 { "web".into() } else { "other".into() };
        event.epoch = Epoch(4);
        event.trail = trail;
        event.id = AlertId(Uuid::from_u128(self.verdicts.unsigned_abs().into()));
        self.world.push(&event);
        self.world.deliver_one();
    }

    /// Seconds since noon.
    fn second(&self) -> f64 {
        (self.world.now.wall.as_ms() / 1_000 - NOON_S) as f64
    }

    fn compact(&mut self) {
        let compaction = self.world.alert.compact();
        assert!(compaction.superseded.is_sorted());
        assert!(compaction.superseded.iter().all(|seq| *seq <= compaction.upto));
        self.upto = self.upto.max(compaction.upto);
        self.dropped.extend(compaction.superseded);
    }

    fn perform(&mut self, op: &Op) {
        match op {
            Op::Verdict { feed, source, firing, behind } => self.verdict(*feed, *source, *firing, *behind),
            Op::Write(records) => drop(self.world.write(*records)),
            Op::Attempt => drop(self.world.attempt_one()),
            Op::Relay(relay) => self.world.relay = *relay,
            Op::Advance(ms) => {
                self.world.now = self.world.now + Duration::from_millis(*ms);
                self.world.input(Input::Tick);
            }
            Op::Acknowledge => {
                let until = self.second() + 30.0;
                self.world.ask("kinetic", "acknowledge", &encode(&acknowledge(until)));
            }
            Op::Crash(survive) => {
                // The next process begins with what compaction has left.
                self.check();
                self.world.crash(*survive);
                while self.world.deliver_one() {}
            }
            Op::Compact => self.compact(),
        }
    }

    /// Both replays, told the same afterwards, are one machine.
    fn check(&self) {
        let world = &self.world;
        let replay = |records: Vec<(RecordSeq, Record)>| {
            let mut alert = Alert::new(world.config.clone(), Arc::clone(&world.schema), records);
            // What has been named already is not part of the comparison.
            alert.compact();
            let mut effects = Vec::new();
            alert.handle(world.now, Input::Tick, &mut effects);
            (format!("{alert:?}"), effects)
        };
        let (whole, whole_effects) = replay(world.disk.clone());
        let left = world.disk.iter().filter(|(seq, _)| !self.dropped.contains(seq)).cloned().collect();
        let (compacted, compacted_effects) = replay(left);
        if whole != compacted {
            let differs = whole.split(", ").zip(compacted.split(", ")).find(|(one, other)| one != other);
            panic!("dropped {:?}: {differs:?}\n{}", self.dropped, world.story());
        }
        assert_eq!(whole_effects, compacted_effects);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replay_of_what_is_left_is_replay_of_everything(ops in proptest::collection::vec(op(), 1..200)) {
        let mut run = Compacted::new();
        for op in &ops {
            run.perform(op);
        }
        run.compact();
        run.check();
    }
}

#[test]
fn of_a_long_row_of_repeats_the_first_and_the_last_are_left() {
    let mut run = Compacted::new();
    for _ in 0..100 {
        run.verdict(0, 0, true, 0);
        run.world.write(usize::MAX);
        run.compact();
    }
    run.check();
    let events = run.world.disk.iter().filter(|(_, record)| matches!(record, Record::Event { .. })).count();
    assert_eq!(events, 100);
    // Those whose ids are remembered, the first, and the last before those.
    assert_eq!(run.dropped.len(), 100 - IDS_MAX - 1, "{:?}", run.dropped);
}

#[test]
fn of_a_row_that_lasts_for_days_one_of_each_half_day_is_left() {
    let mut run = Compacted::new();
    for _ in 0..200 {
        run.world.now = run.world.now + Duration::from_secs(1_800);
        run.verdict(0, 0, true, 0);
        run.world.write(usize::MAX);
        run.compact();
    }
    run.check();
    let left = run.world.disk.iter().filter(|(seq, record)| {
        matches!(record, Record::Event { .. }) && !run.dropped.contains(seq) && *seq <= run.upto
    });
    let stamps: Vec<i64> = left.map(|(_, record)| record.at().as_ms() / 3_600_000).collect();
    let pauses: Vec<i64> = stamps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|hours| *hours <= 12), "{pauses:?}");
    assert!((8..=10).contains(&stamps.len()), "of nearly a hundred hours: {stamps:?}");
}

#[test]
fn a_silence_within_a_long_row_is_as_if_nothing_had_been_left_out() {
    let mut run = Compacted::new();
    for second in 0..200 {
        run.world.now = run.world.now + Duration::from_secs(1);
        // Begins before anybody is told, and ends while the alert still fires.
        if second == 0 {
            run.world.ask("kinetic", "silence", &encode(&silence("early", "web-0", 1.0, 50.0)));
        }
        if second == 80 {
            run.world.ask("kinetic", "silence", &encode(&silence("late", "web-1", 85.0, 150.0)));
        }
        run.verdict(0, 0, true, 0);
        run.verdict(1, 0, second != 120, 0);
        while run.world.attempt_one() {}
        run.world.write(usize::MAX);
        run.compact();
        if second % 40 == 39 {
            run.perform(&Op::Crash(usize::MAX));
        }
    }
    run.check();
    assert!(run.dropped.len() > 300, "{:?}", run.dropped.len());
    let mails = run.world.mails();
    assert!(mails.contains("52 c more_firing firing=2"), "the end of the first silence is news: {mails}");
}

#[test]
fn a_picture_loses_nothing() {
    let mut run = Compacted::new();
    for window in 0..200 {
        let before = TrailPoint { end_ms: 0, value: Some(101.0), mean: 100.0, deviation: 2.0 };
        run.verdict_with(0, 0, window < 150, 0, (window == 0).then(|| vec![before]));
        run.world.write(usize::MAX);
        run.compact();
        if window % 10 == 9 {
            run.check();
        }
    }
    assert!(run.dropped.len() > 100, "{:?}", run.dropped.len());
}
