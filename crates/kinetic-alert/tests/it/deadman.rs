//! A customer's whole stream at its moments: begun, silent, heard again; and what must not be taken for its silence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;
use kinetic_alert::Input;
use kinetic_schema::schema::{self, Customer, GaugeSign, Precision, Source, Watchdog};
use kinetic_schema::{Files, Schema, load};
use kinetic_wire::{AlertState, Beacon, DataType, Epoch, Incarnation, Listening, Role, SourceKey, encode};
use proptest::prelude::*;

use crate::world::{World, alert_block, config, event_of, schema};

/// Two sources, one of them in two parts.
const SOURCES: [(&str, u16); 2] = [("web", 1), ("db", 2)];
/// The longest silence that is no event, seconds.
const AFTER: u64 = 60;
/// How often owners speak, seconds: a fifth of it.
const EVERY: u64 = 12;

fn source(name: &str, partitions: u16) -> Source {
    Source {
        name: name.into(),
        profile: None,
        data_type: DataType::Statsd,
        routing: vec!["#".into()],
        partitions,
        lateness: Duration::from_secs(2),
        name_template: None,
        origin_tag: "host".into(),
        gauge_sign: GaugeSign::Auto,
        precision: Precision::Ns,
        max_length: 1_000,
        max_length_bytes: 1_000_000,
    }
}

fn everything(name: &str, to: &str) -> schema::Alert {
    schema::Alert { analytics: Vec::new(), ..alert_block(name, &[to]) }
}

fn watched(alerts: Vec<schema::Alert>) -> Schema {
    let mut schema = schema(alerts);
    let acme: &mut Customer = schema.customers.get_mut(&"acme".into()).unwrap();
    acme.stream_silent_after = Some(Duration::from_secs(AFTER));
    acme.sources = SOURCES.map(|(name, parts)| (name.into(), source(name, parts))).into();
    schema
}

fn operators() -> Watchdog {
    Watchdog {
        analyzer_silent_after: Duration::from_secs(60),
        redirector_silent_after: Duration::from_secs(60),
        to: vec!["ops@example.org".into()],
        group_wait: Duration::from_secs(1),
        group_interval: Duration::from_secs(10),
        repeat_interval: Duration::from_secs(4 * 3_600),
        send_resolved: true,
    }
}

/// Who owns a source, or a part of it, and what he has heard; seconds since noon.
#[derive(Clone, Copy, Debug)]
struct Owner {
    epoch: u64,
    came: u64,
    quiet: u64,
    proven: u64,
    told: u64,
}

/// A customer and those who own its sources, second by second.
struct Stage {
    world: World,
    now: u64,
    owners: BTreeMap<SourceKey, Option<Owner>>,
    /// Published while nobody owned the source.
    waiting: BTreeMap<SourceKey, u64>,
    epoch: u64,
    /// When something was last published.
    published: Option<u64>,
    /// When it had last been silent for too long.
    silent: Option<u64>,
    /// Signs of life that the alert node has not read yet, while it is suspended.
    unread: Option<Vec<Vec<u8>>>,
}

fn keys() -> Vec<SourceKey> {
    let web = SourceKey::new("acme", "web");
    let db = SourceKey::new("acme", "db");
    vec![web, db.with_part(1), db.with_part(2)]
}

impl Stage {
    fn with(schema: Schema) -> Self {
        let mut stage = Self {
            world: World::with(config(), schema),
            now: 0,
            owners: keys().into_iter().map(|key| (key, None)).collect(),
            waiting: BTreeMap::new(),
            epoch: 0,
            published: None,
            silent: None,
            unread: None,
        };
        stage.world.input(Input::AliveSubscribed);
        keys().iter().for_each(|key| stage.own(key));
        stage
    }

    fn new() -> Self {
        Self::with(watched(vec![everything("team", "team@acme.example")]))
    }

    /// An analyzer takes the source up, and what waits in its queue.
    fn own(&mut self, key: &SourceKey) {
        self.epoch += 1;
        let came = self.waiting.remove(key).unwrap_or_default();
        let (epoch, now) = (self.epoch, self.now);
        let owner = Owner { epoch, came, quiet: now, proven: now, told: now.saturating_sub(EVERY - 1) };
        self.owners.insert(key.clone(), Some(owner));
    }

    fn die(&mut self, key: &SourceKey) {
        self.owners.insert(key.clone(), None);
    }

    fn note(&mut self) {
        if self.published.is_some_and(|last| self.now >= last + AFTER) {
            self.silent = Some(self.now);
        }
    }

    fn publish(&mut self, key: &SourceKey) {
        self.note();
        self.published = Some(self.now);
        match self.owners.get_mut(key).unwrap() {
            Some(owner) => {
                owner.came += 1;
                (owner.quiet, owner.proven) = (self.now, self.now);
            }
            None => *self.waiting.entry(key.clone()).or_default() += 1,
        }
    }

    /// Lets time pass; owners prove what they hear every twelve seconds, and say it.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1;
            self.note();
            self.world.run_until(self.now as f64);
            let mut listens = Vec::new();
            for (key, owner) in &mut self.owners {
                let Some(owner) = owner.as_mut().filter(|owner| self.now - owner.told >= EVERY) else {
                    continue;
                };
                (owner.told, owner.proven) = (self.now, self.now);
                listens.push(Listening {
                    source: key.clone(),
                    epoch: Epoch(owner.epoch),
                    came: owner.came,
                    quiet_ms: (self.now - owner.quiet) * 1_000,
                    proven_ms: 0,
                });
            }
            self.say(listens);
        }
    }

    fn say(&mut self, listens: Vec<Listening>) {
        let inc = Incarnation::default();
        let beacon = Beacon {
            v: 1,
            node: "a7".into(),
            role: Role::Analyzer,
            inc,
            bye: false,
            listens,
            breaches: Vec::new(),
        };
        let body = encode(&beacon);
        match &mut self.unread {
            Some(unread) => unread.push(body),
            None => {
                self.world.input(Input::Alive { body: &body });
                self.world.settle();
            }
        }
    }

    /// The alert node goes on after having been suspended.
    fn wake(&mut self) {
        for body in self.unread.take().unwrap_or_default() {
            self.world.input(Input::Alive { body: &body });
            self.world.settle();
        }
    }

    fn restart(&mut self) {
        self.unread = None;
        self.world.crash(usize::MAX);
        self.world.input(Input::AliveSubscribed);
    }

    /// What was said of the customer, and when.
    fn said(&self) -> Vec<(AlertState, u64)> {
        self.world.said()
    }
}

#[test]
fn a_customer_that_stops_is_mailed_and_one_that_goes_on_too() {
    let mut schema = watched(vec![everything("team", "team@acme.example")]);
    schema.watchdog = Some(operators());
    let mut stage = Stage::with(schema);
    let web = keys()[0].clone();
    stage.publish(&web);
    stage.pass(30);
    stage.publish(&web);
    stage.pass(100);
    assert_eq!((stage.world.stats().customers, stage.world.stats().customers_silent), (1, 1));
    stage.publish(&keys()[2]);
    stage.pass(20);
    assert_snapshot!(stage.world.mails(), @r"
    98 ops first_firing firing=1 resolved=0 seq=1
    98 team first_firing firing=1 resolved=0 seq=1
    133 ops resolved firing=0 resolved=1 seq=2
    133 team resolved firing=0 resolved=1 seq=2
    ");
    assert_eq!(stage.world.stats().customers_silent, 0);
    let mails = stage
        .world
        .inbox
        .iter()
        .skip(1)
        .map(|(_, email)| format!("Subject: {}\n\n{}", email.subject, email.text));
    assert_snapshot!(mails.step_by(2).collect::<Vec<_>>().join("\n=====\n"));
    assert_eq!(stage.world.announced[0].0, "acme._silent.firing");
}

#[test]
fn who_has_never_sent_anything_has_not_fallen_silent() {
    let mut stage = Stage::new();
    stage.pass(500);
    assert_eq!(stage.said(), []);
    assert_eq!((stage.world.stats().customers, stage.world.stats().customers_not_begun), (1, 1));
    assert!(stage.world.disk.is_empty(), "{}", stage.world.story());
    stage.restart();
    stage.pass(500);
    assert_eq!(stage.said(), []);
}

#[test]
fn a_dead_analyzer_is_not_a_silent_customer() {
    let mut stage = Stage::new();
    let [web, db1, _] = <[SourceKey; 3]>::try_from(keys()).unwrap();
    stage.publish(&db1);
    stage.pass(20);
    // Its owner dies; the customer goes on sending, which nobody hears.
    stage.die(&db1);
    for _ in 0..100 {
        stage.publish(&db1);
        stage.pass(5);
    }
    assert_eq!(stage.said(), []);
    // A successor hears all of it at once, and only then does the full time begin.
    stage.own(&db1);
    stage.pass(55);
    assert_eq!(stage.said(), []);
    stage.pass(30);
    assert!(matches!(stage.said()[..], [(AlertState::Firing, 580..=600)]), "{:?}", stage.said());
    // Of a customer that is silent nobody needs to know anything new; and who owns what changes nothing.
    stage.die(&web);
    stage.pass(50);
    stage.own(&web);
    stage.pass(200);
    assert_eq!(stage.said().len(), 1);
    assert_eq!(stage.world.stats().alerts_stale, 0);
}

#[test]
fn a_source_that_moves_has_its_full_time_again() {
    let mut stage = Stage::new();
    stage.publish(&keys()[0]);
    for _ in 0..10 {
        stage.pass(40);
        stage.die(&keys()[0]);
        stage.pass(1);
        stage.own(&keys()[0]);
    }
    assert_eq!(stage.said(), []);
    stage.pass(80);
    assert_eq!(stage.said().len(), 1);
}

#[test]
fn a_former_owner_is_not_heard() {
    let mut stage = Stage::new();
    stage.publish(&keys()[0]);
    stage.pass(20);
    let stale =
        Listening { source: keys()[0].clone(), epoch: Epoch(0), came: 7, quiet_ms: 600_000, proven_ms: 0 };
    stage.say(vec![stale]);
    assert_eq!(stage.world.stats().listens_stale, 1);
    stage.pass(10);
    assert_eq!(stage.said(), []);
}

#[test]
fn restarts_neither_repeat_nor_lose_anything() {
    let mut stage = Stage::new();
    stage.publish(&keys()[0]);
    stage.pass(30);
    // Nothing of this customer is remembered but that it had begun; its owners know since when it is quiet.
    stage.restart();
    stage.pass(20);
    assert_eq!(stage.said(), []);
    stage.pass(40);
    assert!(matches!(stage.said()[..], [(AlertState::Firing, 60..=85)]), "{:?}", stage.said());
    stage.restart();
    stage.pass(100);
    assert_eq!(stage.said().len(), 1, "what came before the silence does not end it: {:?}", stage.said());
    // All start anew, the analyzers too.
    stage.restart();
    keys().iter().for_each(|key| stage.own(key));
    stage.pass(300);
    assert_eq!(stage.said().len(), 1);
    stage.publish(&keys()[1]);
    stage.pass(EVERY);
    assert_eq!(stage.said().len(), 2);
    assert_snapshot!(stage.world.mails(), @r"
    62 team first_firing firing=1 resolved=0 seq=1
    492 team resolved firing=0 resolved=1 seq=2
    ");
}

#[test]
fn a_silence_ends_under_another_owner_and_for_another_process() {
    for restarts in [false, true] {
        let mut stage = Stage::new();
        stage.publish(&keys()[0]);
        stage.pass(100);
        // Its owner dies, it sends again, and only a successor hears that.
        stage.die(&keys()[1]);
        stage.pass(30);
        stage.publish(&keys()[1]);
        stage.pass(30);
        if restarts {
            stage.restart();
        }
        assert_eq!(stage.said().len(), 1);
        stage.own(&keys()[1]);
        stage.pass(EVERY);
        assert_eq!(stage.said().last().map(|(state, _)| *state), Some(AlertState::Resolved), "{restarts}");
    }
}

#[test]
fn an_old_word_is_none() {
    let after = |secs| {
        let mut schema = watched(vec![everything("team", "team@acme.example")]);
        schema.customers.get_mut(&"acme".into()).unwrap().stream_silent_after =
            Some(Duration::from_secs(secs));
        Arc::new(schema)
    };
    let mut stage = Stage::with(Arc::unwrap_or_clone(after(600)));
    stage.publish(&keys()[0]);
    stage.pass(100);
    stage.die(&keys()[1]);
    stage.pass(100);
    // By the last words of all owners it had been silent for a minute; but one of them is dead.
    stage.world.schema = after(AFTER);
    let schema = Arc::clone(&stage.world.schema);
    stage.world.input(Input::SchemaChanged { schema });
    stage.pass(100);
    assert_eq!(stage.said(), []);
    stage.own(&keys()[1]);
    stage.pass(100);
    assert_eq!(stage.said().len(), 1);
}

#[test]
fn a_standing_silence_is_repeated_and_one_of_a_week_is_not_waited_for() {
    let mut stage = Stage::new();
    stage.publish(&keys()[0]);
    stage.pass(100);
    // Also while nobody listens.
    keys().iter().for_each(|key| stage.die(key));
    stage.restart();
    stage.world.run_until(6.0 * 86_400.0);
    assert_eq!(stage.world.stats().alerts_stale, 0);
    assert_eq!(stage.world.stats().customers_silent, 1);
    stage.world.run_until(8.0 * 86_400.0);
    assert_eq!((stage.world.stats().customers_silent, stage.world.stats().customers_forgotten), (0, 1));
    let last = &stage.world.inbox.last().unwrap().1;
    assert!(last.text.contains("is not waited for any more"), "{}", last.text);
}

#[test]
fn the_schema_says_whose_silence_is_an_event() {
    let mut stage = Stage::new();
    stage.publish(&keys()[0]);
    stage.pass(20);
    let unwatched = |schema: &mut Schema| {
        schema.customers.get_mut(&"acme".into()).unwrap().stream_silent_after = None;
    };
    let mut schema = watched(vec![everything("team", "team@acme.example")]);
    unwatched(&mut schema);
    stage.world.schema = Arc::new(schema);
    let schema = Arc::clone(&stage.world.schema);
    stage.world.input(Input::SchemaChanged { schema });
    stage.pass(200);
    assert_eq!((stage.said().len(), stage.world.stats().customers), (0, 0));
    assert!(stage.world.stats().listens_unknown > 10);
    // A restart does not bring it back.
    stage.restart();
    assert_eq!(stage.world.stats().customers, 0);
}

#[test]
fn nobody_else_speaks_of_whole_customers() {
    let mut stage = Stage::new();
    let mut forged = event_of("acme", "acme", "_all", AlertState::Firing, 1);
    (forged.analytic, forged.service, forged.cluster) = ("_silent".into(), "_stream".into(), "_all".into());
    stage.world.push(&forged);
    stage.world.settle();
    assert_eq!((stage.world.rejected, stage.said().len()), (1, 0));
}

/// Recipients of mails about acme's silence, by its `alerts.hcl`.
fn told(alerts: &str, watchdog: bool) -> Vec<String> {
    let mut installation = String::from(
        "region \"local\" {}\nmail {\n  relay = \"localhost:25\"\n  from = \"k@example.org\"\n}\n",
    );
    if watchdog {
        installation.push_str("watchdog {\n  to = [\"ops@example.org\", \"a@example.org\"]\n}\n");
    }
    let customer = "customer \"acme\" {\n  region = region.local\n  silent_after = \"1m\"\n}\nsource \"web\" {\n  routing = [\"#\"]\n}\n\
        source \"db\" {\n  routing = [\"#\"]\n  partitions = 2\n}\nservice \"s\" {\n  cluster \"c\" {\n    source = source.web\n    members = [\"*\"]\n  }\n}\n\
        analytic \"gone\" {\n  on = service.s\n  metric = \"up\"\n  rule \"silent\" {\n    after = \"5m\"\n  }\n}\n";
    let files = Files::from([
        ("kinetic.hcl".to_owned(), installation.into_bytes()),
        ("customers/acme/all.hcl".to_owned(), format!("{customer}{alerts}").into_bytes()),
    ]);
    let loaded = load(&files);
    let schema = loaded.schema.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let mut stage = Stage::with(schema);
    stage.publish(&keys()[0]);
    stage.pass(150);
    let mut told: Vec<String> = stage.world.inbox.iter().map(|(_, mail)| mail.to.clone()).collect();
    told.sort();
    told
}

#[test]
fn those_are_told_who_are_told_of_everything_and_the_operators() {
    let block = |name: &str, to: &str, more: &str| {
        format!("alert \"{name}\" {{\n  to = [\"{to}@example.org\"]\n{more}}}\n")
    };
    let gone = "  analytics = [analytic.gone]\n";
    let services = "  match {\n    services = [\"s\"]\n  }\n";
    let critical = "  match {\n    severities = [\"critical\"]\n  }\n";
    let info = "  match {\n    severities = [\"info\"]\n  }\n";
    let all = block("a", "a", "")
        + &block("b", "b", gone)
        + &block("c", "c", services)
        + &block("d", "d", critical)
        + &block("e", "e", info);
    assert_eq!(told(&all, false), ["a@example.org", "d@example.org"]);
    assert_eq!(told(&all, true), ["a@example.org", "d@example.org", "ops@example.org"]);
    // Where no block tells of everything, all do.
    let some = block("b", "b", gone) + &block("c", "c", services);
    assert_eq!(told(&some, false), ["b@example.org", "c@example.org"]);
    // A block that keeps what it tells of.
    let first = block("a", "a", "  continue = false\n") + &block("d", "d", critical);
    assert_eq!(told(&first, false), ["a@example.org"]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Publish(usize),
    Die(usize),
    Own(usize),
    Restart,
    Suspend,
    Wake,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_usize).prop_map(Step::Publish),
        1 => (0..3_usize).prop_map(Step::Die),
        2 => (0..3_usize).prop_map(Step::Own),
        1 => Just(Step::Restart),
        1 => Just(Step::Suspend),
        2 => Just(Step::Wake),
        6 => (1..90_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Nobody is called silent who has sent something within the agreed time; and who is silent for good is said to be.
    #[test]
    fn nobody_is_called_silent_who_is_not(steps in proptest::collection::vec(step(), 1..60)) {
        let mut stage = Stage::new();
        let (mut firings, mut suspended) = (0, 0);
        for step in steps {
            match step {
                Step::Publish(index) => stage.publish(&keys()[index]),
                Step::Die(index) => stage.die(&keys()[index]),
                Step::Own(index) => stage.own(&keys()[index]),
                Step::Restart => stage.restart(),
                Step::Suspend => stage.unread = Some(stage.unread.take().unwrap_or_default()),
                Step::Wake => stage.wake(),
                Step::Pass(seconds) => {
                    for _ in 0..seconds {
                        stage.pass(1);
                        suspended = if stage.unread.is_some() { suspended + 1 } else { suspended };
                        let said = stage.said();
                        let now_firing = said.iter().filter(|(state, _)| *state == AlertState::Firing).count();
                        if now_firing > firings {
                            // What has ended since its owner last spoke cannot be known yet, nor what was said to
                            // nobody, nor what has not been read.
                            let late = 3 * EVERY + 15 + 2 + suspended;
                            let known = stage.silent.is_some_and(|last| stage.now <= last + late);
                            prop_assert!(known, "{:?} {} {}", stage.silent, stage.now, stage.world.story());
                        }
                        firings = now_firing;
                    }
                }
            }
        }
        stage.wake();
        keys().iter().for_each(|key| stage.own(key));
        stage.pass(AFTER + 3 * EVERY);
        let begun = stage.published.is_some();
        let fires = stage.said().last().is_some_and(|(state, _)| *state == AlertState::Firing);
        // What was published to an owner that died before it spoke is not known of.
        prop_assert!(fires || !begun || stage.world.stats().customers_not_begun == 1, "{}", stage.world.story());
    }
}
