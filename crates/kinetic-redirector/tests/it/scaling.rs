//! The size of the fleet: what is decided when, and what never is.

use std::time::Duration;

use kinetic_redirector::fleet::{ScaleAction, ScalingConfig, Unplaced};
use kinetic_redirector::machine::{Input, Redirector};
use kinetic_redirector::scaling::Scaling;
use kinetic_wire::{DataType, Mono, Serves};
use proptest::prelude::*;

use crate::fleet::{Boot, Fleet, config};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn too_small_a_fleet_is_made_good_one_by_one() {
    let mut fleet = Fleet::new(ScalingConfig { min: 2, ..config() });
    fleet.run(secs(60));
    insta::assert_snapshot!(fleet.story(), @r"
    6 start auto-1: fewer than 2 analyzers run
    8 start auto-2: fewer than 2 analyzers run
    ");
    assert_eq!(fleet.status().running, 2);
}

#[test]
fn sources_without_an_owner_wait_before_an_analyzer_is_started() {
    let mut fleet = Fleet::new(config());
    fleet.work = 0.5;
    fleet.run(secs(300));
    insta::assert_snapshot!(fleet.story(), @"61 start auto-1: sources without an owner: 5 (5 statsd in eu)");
}

#[test]
fn what_a_started_analyzer_could_not_serve_is_no_reason_to_start_one() {
    let mut fleet = Fleet::new(config());
    fleet.unplaced =
        vec![Unplaced { region: "us".into(), data_type: DataType::Statsd, fits: false, sources: 9 }];
    fleet.run(secs(300));
    assert_eq!(fleet.story(), "");
}

#[test]
fn load_starts_another_after_a_while_and_idleness_retires_one_of_ours() {
    let mut fleet = Fleet::new(config());
    fleet.join("by-hand", Serves::default());
    fleet.work = 1.5;
    fleet.run(secs(200));
    fleet.work = 0.1;
    fleet.run(secs(2_000));
    insta::assert_snapshot!(fleet.story(), @r"
    61 start auto-1: mean load 1.00 (highest 1.00, analyzers 1) is not below 0.80
    801 drain auto-1: without it the mean load would be 0.10 (analyzers 1), below 0.30
    804 stop auto-1: owns nothing any more
    ");
    assert_eq!(fleet.serving(), 1, "whoever was started by hand stays");
}

#[test]
fn a_region_in_need_is_not_hidden_by_an_idle_one() {
    let only = |region: &str| Serves { regions: vec![region.into()], ..Serves::default() };
    let mut fleet = Fleet::new(ScalingConfig { serves: only("us"), ..config() });
    fleet.join("eu", only("eu"));
    fleet.join("us", only("us"));
    let mut demand = fleet.demand();
    let mut load = |eu: f64, us: f64| {
        (demand.analyzers[0].load, demand.analyzers[1].load) = (eu, us);
        let mut scaling = Scaling::new(fleet.config.clone());
        let mut started = false;
        for second in 1..100 {
            started |= !scaling.decide(Mono(second * 1_000_000_000), &demand).is_empty();
        }
        started
    };
    assert!(load(0.0, 0.9), "the mean of both is low, but only one of them can serve us");
    assert!(!load(0.9, 0.0), "what would be started cannot help in eu");
    assert!(!load(f64::NAN, f64::NAN));
}

#[test]
fn many_analyzers_with_customers_of_their_own_cost_no_more_than_they_should() {
    let mut fleet = Fleet::new(ScalingConfig { max: 20_000, scale_up_after: secs(10), ..config() });
    for index in 0..3_000 {
        let serves =
            Serves { customers: vec![format!("customer-{index}").as_str().into()], ..Serves::default() };
        fleet.join(&format!("by-hand-{index}"), serves);
    }
    fleet.work = 2_900.0;
    // Each pair of them would be looked at four times a second.
    fleet.run(secs(12));
    assert!(fleet.story().contains("mean load"), "{}", fleet.story());
}

#[test]
fn whoever_dies_is_replaced_at_once_unless_it_keeps_dying() {
    let mut fleet = Fleet::new(ScalingConfig { min: 1, ..config() });
    fleet.run(secs(100));
    for seconds in [10, 10, 100] {
        let victim = fleet.provisioned().remove(0);
        fleet.kill(&victim);
        fleet.run(secs(seconds));
    }
    insta::assert_snapshot!(fleet.story(), @r"
    6 start auto-1: fewer than 1 analyzers run
    101 stop auto-1: has ended: signal 9
    101 start auto-2: auto-1 has ended: signal 9
    111 stop auto-2: has ended: signal 9
    112 start auto-1: auto-2 has ended: signal 9; failed before, times in a row: 1
    121 stop auto-1: has ended: signal 9
    123 start auto-1: auto-1 has ended: signal 9; failed before, times in a row: 2
    ");
    assert_eq!(fleet.status().running, 1);
}

#[test]
fn whoever_runs_and_is_not_heard_of_is_replaced() {
    let mut fleet = Fleet::new(ScalingConfig { min: 1, ..config() });
    fleet.run(secs(100));
    fleet.hang(&"auto-1".into());
    fleet.run(secs(100));
    insta::assert_snapshot!(fleet.story(), @r"
    6 start auto-1: fewer than 1 analyzers run
    150 stop auto-1: did not renew its lease within 30 s
    151 start auto-2: auto-1 did not renew its lease within 30 s; failed before, times in a row: 1
    ");
    assert_eq!(fleet.status().running, 1);
}

#[test]
fn the_lease_of_the_dead_does_not_speak_for_its_successor() {
    let mut fleet = Fleet::new(ScalingConfig { min: 1, max: 1, ..config() });
    fleet.run(secs(100));
    fleet.kill(&"auto-1".into());
    fleet.boot = Boot::After(10);
    fleet.run(secs(5));
    assert_eq!((fleet.status().starting, fleet.status().running), (1, 0), "{}", fleet.story());
    fleet.run(secs(10));
    assert_eq!((fleet.status().starting, fleet.status().running), (0, 1), "{}", fleet.story());
}

#[test]
fn a_listing_says_nothing_of_what_was_done_later() {
    let mut fleet = Fleet::new(ScalingConfig { min: 2, ..config() });
    fleet.list_interval = secs(10);
    fleet.run(secs(300));
    assert_eq!(fleet.log.len(), 2, "{}", fleet.story());
}

#[test]
fn failed_starts_are_repeated_ever_more_slowly() {
    for boot in [Boot::Refused, Boot::Dies, Boot::Hangs] {
        let mut fleet = Fleet::new(ScalingConfig { min: 1, ..config() });
        fleet.boot = boot;
        fleet.run(secs(3_600));
        let starts =
            fleet.log.iter().filter(|(_, action)| matches!(action, ScaleAction::Start { .. })).count();
        assert!((15..=21).contains(&starts), "{boot:?}: {starts} starts in an hour");
        let status = fleet.status();
        assert_eq!(status.failures as usize, starts, "{boot:?}");
        fleet.boot = Boot::After(2);
        fleet.run(secs(400));
        assert_eq!((fleet.status().running, fleet.status().failures), (1, 0), "{boot:?}: {}", fleet.story());
    }
}

#[test]
fn a_failing_start_says_why_nothing_happens() {
    let mut fleet = Fleet::new(ScalingConfig { min: 1, ..config() });
    fleet.boot = Boot::Refused;
    fleet.run(secs(30));
    let held = fleet.status().held.expect("held");
    assert!(held.starts_with("the next start waits for"), "{held}");
    let mut full = Fleet::new(ScalingConfig { max: 1, ..config() });
    full.join("by-hand", Serves::default());
    full.work = 5.0;
    full.run(secs(100));
    let held = full.status().held.expect("held");
    assert!(held.contains("`max` is 1"), "{held}");
    assert_eq!(full.story(), "");
}

#[test]
fn a_lower_max_retires_what_is_too_many() {
    let mut fleet = Fleet::new(ScalingConfig { min: 3, ..config() });
    fleet.work = 2.9;
    fleet.run(secs(60));
    fleet.configure(ScalingConfig { min: 1, max: 1, ..config() });
    fleet.log.clear();
    fleet.run(secs(400));
    insta::assert_snapshot!(fleet.story(), @r"
    132 drain auto-3: 3 analyzers run and `max` is 1
    135 stop auto-3: owns nothing any more
    252 drain auto-2: 2 analyzers run and `max` is 1
    255 stop auto-2: owns nothing any more
    ");
}

#[test]
fn a_new_leader_takes_over_what_runs() {
    for lists in [true, false] {
        let mut fleet = Fleet::new(ScalingConfig { min: 2, ..config() });
        fleet.lists = lists;
        fleet.run(secs(60));
        fleet.log.clear();
        fleet.new_leader();
        fleet.run(secs(300));
        assert_eq!(fleet.story(), "", "nothing is started or stopped for a change of leader");
        assert_eq!(fleet.status().wanted, 2);
        let victim = fleet.provisioned()[0].clone();
        fleet.kill(&victim);
        fleet.run(secs(120));
        assert_eq!(fleet.status().running, 2, "and what was taken over is looked after: {}", fleet.story());
    }
}

#[test]
fn a_new_leader_ends_what_the_former_has_begun() {
    let mut fleet = Fleet::new(ScalingConfig { min: 2, ..config() });
    fleet.run(secs(150));
    fleet.configure(ScalingConfig { min: 1, max: 1, ..config() });
    while !matches!(fleet.log.last(), Some((_, ScaleAction::Drain { .. }))) {
        fleet.step();
    }
    fleet.new_leader();
    fleet.run(secs(30));
    assert!(fleet.story().ends_with("stop auto-2: owns nothing any more"), "{}", fleet.story());
    assert_eq!((fleet.status().wanted, fleet.status().running), (1, 1));
}

#[test]
fn a_dry_run_says_the_same_and_nothing_comes_of_it() {
    let dry = ScalingConfig { min: 1, dry_run: true, ..config() };
    let mut fleet = Fleet::new(dry.clone());
    fleet.run(secs(30));
    let mut said: Vec<_> = fleet.log.iter().map(|(_, action)| action.clone()).collect();
    said.dedup();
    let mut real = Fleet::new(ScalingConfig { dry_run: false, ..dry });
    real.run(secs(30));
    assert_eq!(said, real.log.iter().map(|(_, action)| action.clone()).collect::<Vec<_>>());
    assert_eq!(fleet.status().starting + fleet.status().running, 0);
    assert_eq!(fleet.provisioned(), []);
}

#[test]
fn the_redirector_tells_what_waits_and_for_what() {
    let machine_config = crate::harness::config(Duration::ZERO);
    let map = std::sync::Arc::new(crate::harness::map("r1", &[("acme", &["a", "b"])]));
    let mut redirector = Redirector::new(machine_config, map, kinetic_redirector::machine::Stored::default());
    let here = Serves { regions: vec!["eu".into()], ..Serves::default() };
    assert_eq!(redirector.demand(&here), None, "it does not lead yet");
    let (mut effects, now) = (Vec::new(), crate::harness::START);
    redirector.handle(now, Input::Elected { stored: Default::default() }, &mut effects);
    let kinetic_redirector::machine::Effect::Store { stored } = effects.remove(0) else {
        panic!("{effects:?}")
    };
    redirector.handle(now, Input::Stored { stored }, &mut effects);
    let unplaced =
        |fits| vec![Unplaced { region: "eu".into(), data_type: DataType::Statsd, fits, sources: 2 }];
    assert_eq!(redirector.demand(&here).expect("leads").unplaced, unplaced(true));
    let elsewhere = Serves { regions: vec!["us".into()], ..Serves::default() };
    assert_eq!(redirector.demand(&elsewhere).expect("leads").unplaced, unplaced(false));
}

#[derive(Clone, Debug)]
enum Event {
    Work(f64),
    Boot(Boot),
    Kill(usize),
    Join(usize),
    Leave(usize),
    Leader,
    Bounds(usize, usize),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let boot = prop_oneof![
        6 => (0_u64..20).prop_map(Boot::After),
        1 => Just(Boot::Refused),
        1 => Just(Boot::Dies),
        1 => Just(Boot::Hangs),
    ];
    prop_oneof![
        6 => (0.0_f64..5.0).prop_map(Event::Work),
        2 => boot.prop_map(Event::Boot),
        3 => (0_usize..4).prop_map(Event::Kill),
        1 => (0_usize..2).prop_map(Event::Join),
        1 => (0_usize..2).prop_map(Event::Leave),
        1 => Just(Event::Leader),
        1 => (0_usize..3, 0_usize..4).prop_map(|(min, more)| Event::Bounds(min, (min + more).max(1))),
        10 => (1_u64..400).prop_map(Event::Wait),
    ]
}

/// Steps the world and checks each decision.
struct Checked {
    fleet: Fleet,
    /// Last decision to shrink, and to grow without need of replacement, under this leader.
    last_drain: Option<Mono>,
    last_start: Option<Mono>,
}

impl Checked {
    fn step(&mut self) {
        let fleet = &mut self.fleet;
        let wanted_before = fleet.status().wanted;
        let (serving, manual) = (fleet.serving(), fleet.manual.len());
        let actions = fleet.step();
        let (now, bounds) = (fleet.now, fleet.config.clone());
        let cool = |last: Option<Mono>| last.is_none_or(|last| now.since(last) >= bounds.cool_down);
        for action in &actions {
            match action {
                ScaleAction::Start { .. } => {
                    let all = fleet.provisioned().len() + manual;
                    assert!(all <= bounds.max, "{all} of at most {}: {}", bounds.max, fleet.story());
                    let wanted = fleet.status().wanted;
                    if wanted > wanted_before && wanted + manual > bounds.min {
                        assert!(
                            cool(self.last_drain) && cool(self.last_start),
                            "grows too soon: {}",
                            fleet.story()
                        );
                    }
                    self.last_start = Some(now);
                }
                ScaleAction::Drain { node, .. } => {
                    assert!(serving > bounds.min, "fewer than {}: {}", bounds.min, fleet.story());
                    assert!(
                        cool(self.last_drain) && cool(self.last_start),
                        "shrinks too soon: {}",
                        fleet.story()
                    );
                    assert!(!fleet.manual.contains(node), "not ours: {node}");
                    self.last_drain = Some(now);
                }
                ScaleAction::Stop { node, .. } => assert!(!fleet.manual.contains(node), "not ours: {node}"),
            }
        }
        assert!(actions.iter().filter(|action| !matches!(action, ScaleAction::Stop { .. })).count() <= 1);
    }

    fn run(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| self.step());
    }

    fn apply(&mut self, event: Event) {
        let fleet = &mut self.fleet;
        match event {
            Event::Work(work) => fleet.work = work,
            Event::Boot(boot) => fleet.boot = boot,
            Event::Kill(index) => {
                let victim = fleet.provisioned().get(index).cloned();
                victim.iter().for_each(|node| fleet.kill(node));
            }
            Event::Join(index) if fleet.provisioned().len() + fleet.manual.len() < fleet.config.max => {
                fleet.leave(&format!("by-hand-{index}"));
                fleet.join(&format!("by-hand-{index}"), Serves::default());
            }
            Event::Join(_) => {}
            Event::Leave(index) => fleet.leave(&format!("by-hand-{index}")),
            Event::Leader => {
                fleet.new_leader();
                (self.last_drain, self.last_start) = (None, None);
            }
            Event::Bounds(min, max) => fleet.configure(ScalingConfig { min, max, ..fleet.config.clone() }),
            Event::Wait(seconds) => self.run(seconds),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn bounds_hold_and_rest_follows(list_interval in 1_u64..8, events in prop::collection::vec(event(), 1..40)) {
        let mut world = Checked { fleet: Fleet::new(config()), last_drain: None, last_start: None };
        world.fleet.list_interval = secs(list_interval);
        for event in events {
            world.apply(event);
        }
        // The faults end. What is there comes to rest, and is enough for the work or as much as may be.
        world.fleet.boot = Boot::After(5);
        world.run(3_000);
        world.fleet.log.clear();
        world.run(1_000);
        prop_assert_eq!(world.fleet.story(), "");
        let (serving, bounds) = (world.fleet.serving(), &world.fleet.config);
        prop_assert!(serving >= bounds.min);
        prop_assert!(serving <= bounds.max.max(world.fleet.manual.len()));
        let load = world.fleet.work / serving.max(1) as f64;
        prop_assert!(load < bounds.load_high || serving >= bounds.max, "{} on {}", world.fleet.work, serving);
    }
}
