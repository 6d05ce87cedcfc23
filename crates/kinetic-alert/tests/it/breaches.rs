//! Customers over their limits, and security events: who is told, how often, and when it is over.

use std::time::Duration;

use insta::assert_snapshot;
use kinetic_alert::Input;
use kinetic_schema::Schema;
use kinetic_schema::schema::{self, Watchdog};
use kinetic_wire::{
    AlertEvent, AlertState, Beacon, Breach, BreachKind, Breached, Epoch, Incarnation, Role, SourceKey, encode,
};
use proptest::prelude::*;

use crate::world::{World, alert_block, config, event_of, schema};

/// Seconds without any after which a breach is over.
const QUIET: u64 = Breach::QUIET.as_secs();

fn everything(name: &str, to: &str) -> schema::Alert {
    schema::Alert {
        analytics: Vec::new(),
        repeat_interval: Duration::from_secs(4 * 3_600),
        ..alert_block(name, &[to])
    }
}

fn watched(alerts: Vec<schema::Alert>) -> Schema {
    let mut schema = schema(alerts);
    schema.watchdog = Some(Watchdog {
        analyzer_silent_after: Duration::from_secs(60),
        redirector_silent_after: Duration::from_secs(60),
        to: vec!["ops@example.org".into()],
        group_wait: Duration::from_secs(1),
        group_interval: Duration::from_secs(10),
        repeat_interval: Duration::from_secs(4 * 3_600),
        send_resolved: true,
    });
    schema
}

/// Seconds since noon, and what owners say.
struct Stage {
    world: World,
    now: u64,
}

impl Stage {
    fn new(alerts: Vec<schema::Alert>) -> Self {
        let mut world = World::with(config(), watched(alerts));
        world.input(Input::AliveSubscribed);
        Self { world, now: 0 }
    }

    fn team() -> Self {
        Self::new(vec![everything("team", "team@acme.example")])
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        self.world.run_until(self.now as f64);
    }

    fn hear(&mut self, breaches: Vec<Breach>) {
        let inc = Incarnation::default();
        // An analyzer whose own silence is no matter here.
        let beacon = Beacon {
            v: 1,
            node: "a7".into(),
            role: Role::Alert,
            inc,
            bye: false,
            listens: Vec::new(),
            breaches,
        };
        self.world.input(Input::Alive { body: &encode(&beacon) });
        self.world.settle();
    }

    fn say(&mut self, kind: BreachKind, dropped: u64, since_s: u64) {
        self.hear(vec![word(kind, dropped, since_s, 0)]);
    }

    /// What was said, and when.
    fn said(&self) -> Vec<(AlertState, u64)> {
        self.world.said()
    }

    fn texts(&self) -> String {
        let mails = self.world.inbox.iter();
        let mails =
            mails.map(|(_, email)| format!("To: {}\nSubject: {}\n\n{}", email.to, email.subject, email.text));
        mails.collect::<Vec<_>>().join("\n=====\n")
    }
}

fn word(kind: BreachKind, dropped: u64, since_s: u64, last_s: u64) -> Breach {
    let (limit, value, by) = match kind {
        BreachKind::SamplesPerSecond => (10_000, 23_400, None),
        BreachKind::Feeds | BreachKind::Series => (5_000, 5_000, None),
        BreachKind::MessageBytes => (1_048_576, 3_000_000, None),
        _ => (0, 0, Some("exchange in.<b>evil, login evil.web".to_owned())),
    };
    Breach {
        source: SourceKey::new("acme", "web"),
        epoch: Epoch(4),
        since_ms: since_s * 1_000,
        last_ms: last_s * 1_000,
        what: Breached { kind, limit, value, dropped, by },
    }
}

#[test]
fn who_is_over_a_limit_is_told_once_and_when_it_is_over() {
    let mut stage = Stage::team();
    stage.pass(10);
    for second in (0..600).step_by(10) {
        stage.say(BreachKind::SamplesPerSecond, 1_500 + second * 100, second);
        stage.pass(10);
    }
    stage.pass(400);
    assert_snapshot!(stage.world.mails(), @r"
    11 team first_firing firing=1 resolved=0 seq=1
    901 team resolved firing=0 resolved=1 seq=2
    ");
    assert_snapshot!(stage.texts());
    assert_eq!(stage.world.announced[0].0, "acme._limits.firing");
    assert_eq!((stage.world.stats().breaches, stage.world.stats().breaches_standing), (1, 0));
}

#[test]
fn all_limits_of_a_customer_come_in_one_mail() {
    let mut stage = Stage::team();
    stage.pass(10);
    let limits = BreachKind::ALL.into_iter().filter(|kind| kind.is_limit());
    stage.hear(limits.map(|kind| word(kind, 12, 3, 0)).collect());
    stage.pass(60);
    assert_snapshot!(stage.world.mails(), @"11 team first_firing firing=4 resolved=0 seq=1");
    assert_snapshot!(stage.texts());
}

#[test]
fn who_is_over_a_limit_now_and_then_is_not_told_each_time() {
    let mut stage = Stage::team();
    for _ in 0..20 {
        stage.say(BreachKind::Series, 1, 0);
        stage.pass(QUIET - 5);
    }
    assert_eq!(stage.world.inbox.len(), 1);
}

#[test]
fn security_events_are_told_to_those_who_look_after_the_installation() {
    let mut stage = Stage::team();
    stage.pass(10);
    stage.say(BreachKind::ForeignExchange, 3, 2);
    stage.pass(60);
    stage.say(BreachKind::Copied, 1, 0);
    stage.pass(400);
    assert_snapshot!(stage.world.mails(), @r"
    11 ops first_firing firing=1 resolved=0 seq=1
    71 ops more_firing firing=2 resolved=0 seq=2
    311 ops fewer_firing firing=1 resolved=1 seq=3
    371 ops resolved firing=0 resolved=1 seq=4
    ");
    assert_snapshot!(stage.texts());
    let html = &stage.world.inbox[0].1.html;
    assert!(!html.contains("<b>evil") && html.contains("&lt;b&gt;evil"), "{html}");
}

#[test]
fn those_are_told_who_are_told_of_everything() {
    let some = alert_block("slow", &["slow@acme.example"]);
    let mut stage = Stage::new(vec![some.clone(), everything("team", "team@acme.example")]);
    stage.say(BreachKind::Feeds, 1, 0);
    stage.pass(10);
    let to = |stage: &Stage| stage.world.inbox.iter().map(|(_, mail)| mail.to.clone()).collect::<Vec<_>>();
    assert_eq!(to(&stage), ["team@acme.example"]);
    let mut stage = Stage::new(vec![some]);
    stage.say(BreachKind::Feeds, 1, 0);
    stage.pass(10);
    assert_eq!(to(&stage), ["slow@acme.example"], "all, where nobody is");
}

#[test]
fn words_that_are_old_or_of_nobody_change_nothing() {
    let mut stage = Stage::team();
    stage.hear(vec![word(BreachKind::Feeds, 1, 900, QUIET)]);
    let stranger = Breach { source: SourceKey::new("nobody", "web"), ..word(BreachKind::Feeds, 1, 0, 0) };
    stage.hear(vec![stranger]);
    assert_eq!((stage.said(), stage.world.stats().breaches_unknown), (vec![], 2));
    stage.say(BreachKind::Feeds, 1, 0);
    stage.pass(200);
    stage.hear(vec![Breach { epoch: Epoch(3), ..word(BreachKind::Feeds, 9, 0, 0) }]);
    assert_eq!(stage.world.stats().breaches_stale, 1);
    stage.pass(110);
    assert_eq!(stage.said().len(), 2, "a former owner does not keep it alive");
}

#[test]
fn nobody_else_may_say_so() {
    let mut stage = Stage::team();
    let plain = event_of("acme", "web-1", "m", AlertState::Firing, 10);
    let of = |customer: &str, analytic: &str, service: &str, cluster: &str| AlertEvent {
        analytic: analytic.into(),
        service: service.into(),
        cluster: cluster.into(),
        ..event_of(customer, "web", "m", AlertState::Firing, 10)
    };
    let mut with = plain;
    with.breach = Some(word(BreachKind::Feeds, 1, 0, 0).what);
    for event in [
        with,
        of("acme", "_limits", "_limits", "_all"),
        of("kinetic", "security", "installation", "security"),
    ] {
        stage.world.push(&event);
        stage.world.settle();
    }
    stage.pass(10);
    assert_eq!((stage.world.rejected, stage.world.inbox.len()), (3, 0));
}

#[test]
fn a_table_that_is_full_takes_no_more() {
    let mut stage = Stage::team();
    let words = (0..10_010).map(|part: u16| {
        let plain = word(BreachKind::Feeds, 1, 0, 0);
        Breach { source: plain.source.clone().with_part(part), ..plain }
    });
    stage.hear(words.collect());
    let stats = stage.world.stats();
    assert_eq!((stats.breaches_standing, stats.breaches_refused), (10_000, 10));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever happens to the alert node: a breach fires with its first word, stands as long as words come, and is over five
    /// minutes after the last, unless nobody could be heard meanwhile.
    #[test]
    fn it_fires_while_it_goes_on(
        deeds in proptest::collection::vec((0..4_u8, 1..400_u64), 1..25)
    ) {
        let mut stage = Stage::team();
        let (mut last, mut heard): (Option<u64>, u64) = (None, 0);
        for (deed, seconds) in deeds {
            match deed {
                0 | 1 => {
                    stage.say(BreachKind::SamplesPerSecond, 5, 0);
                    last = Some(stage.now);
                }
                2 => {
                    stage.world.crash(usize::MAX);
                    stage.world.input(Input::AliveSubscribed);
                    stage.world.settle();
                    heard = stage.now;
                }
                _ => {
                    stage.world.input(Input::AliveLost);
                    stage.pass(seconds);
                    stage.world.input(Input::AliveSubscribed);
                    heard = stage.now;
                }
            }
            stage.pass(seconds);
            let fires = matches!(stage.said().last(), Some((AlertState::Firing, _)));
            let Some(last) = last else {
                prop_assert!(!fires);
                continue;
            };
            if stage.now < last + QUIET {
                prop_assert!(fires, "{:?} at {}", stage.said(), stage.now);
            }
            if stage.now > last.max(heard) + 2 * QUIET {
                prop_assert!(!fires, "{:?} at {}", stage.said(), stage.now);
            }
        }
        let alerts = stage.world.stats().alerts_stale;
        prop_assert_eq!(alerts, 0, "nothing that stands goes stale");
    }
}
