//! How much of a customer is taken, and that nobody else notices where that is less than what comes.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use kinetic_analyzer::machine::{AnalyzerConfig, Delivery, Effect, Input, Slot};
use kinetic_schema::Schema;
use kinetic_schema::schema::{Key, Limits, Purpose, SaltedHash, Silent, SilentEach, *};
use kinetic_wire::*;
use proptest::prelude::*;
use support::{World, acks, analytic, config, events, key, schema};

const QUIET_S: u64 = Breach::QUIET.as_secs();

fn limited(limits: Limits, analytics: &[Analytic]) -> Schema {
    let mut schema = schema(analytics);
    schema.customers.get_mut(&CustomerName::from("acme")).unwrap().limits = limits;
    schema
}

fn counting() -> Analytic {
    Analytic { value: ValueKind::Count, ..analytic("count", "m", 1.0, 10, 1, 1) }
}

fn count(world: &World, kind: BreachKind) -> u64 {
    world.stats().customers[0].breaches.count(kind)
}

/// What the next sign of life says.
fn told(world: &mut World) -> Vec<(BreachKind, u64, u64, u64)> {
    let breaches = world.analyzer.breaches(world.now, 100);
    breaches.iter().map(|b| (b.what.kind, b.what.limit, b.what.value, b.what.dropped)).collect()
}

fn lines(metric: &str, n: usize) -> String {
    format!("{metric}:1|ms\n").repeat(n)
}

#[test]
fn a_minute_takes_what_the_limit_allows_and_says_what_it_dropped() {
    let limits = Limits { samples_per_second: 10, ..Limits::DEFAULT };
    let mut world = World::new(limited(limits, &[analytic("slow", "m", 1.0, 10, 1, 1)]));
    world.tick();
    for _ in 0..10 {
        world.deliver("web-1", &lines("m", 100));
    }
    assert_eq!(count(&world, BreachKind::SamplesPerSecond), 400);
    assert_eq!(told(&mut world), [(BreachKind::SamplesPerSecond, 10, 16, 400)]);
    world.deliver("web-1", &lines("m", 100));
    assert_eq!(told(&mut world), [], "not before ten seconds have passed");
    world.pass_s(10);
    assert_eq!(told(&mut world), [(BreachKind::SamplesPerSecond, 10, 18, 500)]);
    world.pass_s(50);
    world.deliver("web-1", &lines("m", 100));
    assert_eq!(count(&world, BreachKind::SamplesPerSecond), 500, "another minute, another share");
    world.pass_s(QUIET_S);
    assert_eq!(told(&mut world), [], "it is over");
    assert_eq!(world.stats().held_back, 0);
}

#[test]
fn a_backlog_of_many_minutes_is_no_breach() {
    let limits = Limits { samples_per_second: 10, ..Limits::DEFAULT };
    let mut world = World::new(limited(limits, &[analytic("slow", "m", 1.0, 10, 1, 1)]));
    world.tick();
    for back in (0..50).rev() {
        let at = world.now.wall - Duration::from_secs(back * 60);
        for _ in 0..6 {
            world.deliver_at("web-1", &lines("m", 100), at, false);
        }
    }
    assert_eq!((count(&world, BreachKind::SamplesPerSecond), world.stats().samples), (0, 30_000));
}

/// Ten feeds with as many samples each, and one of them is dropped: nobody is said to have done less.
#[test]
fn a_window_that_is_not_whole_gives_no_verdict_on_how_much_there_was() {
    let play = |per_second| {
        let below = Deviates { direction: Direction::Both, ..support::deviates(1.5) };
        let count = Analytic { rule: Rule::Deviates(below), ..counting() };
        let limits = Limits { samples_per_second: per_second, ..Limits::DEFAULT };
        let mut world = World::new(limited(limits, &[count]));
        world.tick();
        world.deliver("web-9", &lines("m", 1));
        for host in 0..9 {
            world.deliver(&format!("web-{host}"), &lines("m", 60));
        }
        world.deliver("web-9", &lines("m", 59));
        world.pass_s(60);
        (world.events().len(), world.stats().windows_short, world.stats().judged)
    };
    assert_eq!(play(9), (0, 1, 0));
    // The same, where all is taken: whoever is out of line is found.
    assert_eq!(play(1_000), (0, 0, 1));
    let below = Deviates { direction: Direction::Both, ..support::deviates(1.5) };
    let mut world = World::new(schema(&[Analytic { rule: Rule::Deviates(below), ..counting() }]));
    world.tick();
    for host in 0..10 {
        world.deliver(&format!("web-{host}"), &lines("m", if host == 9 { 1 } else { 60 }));
    }
    world.pass_s(60);
    assert!(!world.events().is_empty(), "the rule finds who is dropped if it may");
}

#[test]
fn what_was_dropped_comes_again_to_the_next_owner_and_counts() {
    let limits = Limits { samples_per_second: 1, ..Limits::DEFAULT };
    let schema = limited(limits, &[counting()]);
    let mut world = World::new(schema.clone());
    world.tick();
    let (mut bodies, start) = (Vec::new(), world.now.wall);
    for host in 0..5 {
        let effects = world.deliver(&format!("web-{host}"), &lines("m", 60));
        assert_eq!(acks(&effects), [], "held as long as its window is open");
        bodies.push(format!("web-{host}"));
    }
    assert_eq!(count(&world, BreachKind::SamplesPerSecond), 240);
    world.succeed(schema, 2);
    world.tick();
    for origin in &bodies {
        world.deliver_at(origin, &lines("m", 60), start, true);
    }
    world.pass_s(60);
    assert_eq!((world.stats().windows_short, world.stats().judged), (0, 1));
}

#[test]
fn nobody_is_silent_whose_word_may_have_been_dropped() {
    let rule = Rule::Silent(Silent { after: Duration::from_secs(20), each: SilentEach::Feed });
    let limits = Limits { samples_per_second: 1, ..Limits::DEFAULT };
    let mut world = World::new(limited(limits, &[Analytic { rule, ..counting() }]));
    world.tick();
    world.deliver("web-1", &lines("m", 1));
    // One publisher takes the whole share of each minute before the other has its word.
    for _ in 0..20 {
        world.deliver("web-2", &lines("m", 60));
        world.deliver("web-1", &lines("m", 1));
        world.pass_s(5);
    }
    let silent = |world: &World| world.events().iter().filter(|e| e.feed.origin == "web-1").count();
    assert_eq!(silent(&world), 0);
    for _ in 0..30 {
        world.deliver("web-2", &lines("m", 1));
        world.pass_s(5);
    }
    assert!(silent(&world) > 0, "who is silent otherwise is said to be");
}

#[test]
fn known_feeds_and_series_go_on_where_there_is_no_room_for_new_ones() {
    let limits = Limits { feeds: 3, series: 5, ..Limits::DEFAULT };
    let mut world = World::new(limited(limits, &[analytic("slow", "*", 1.0, 10, 1, 1)]));
    world.tick();
    for host in 0..6 {
        world.deliver(&format!("web-{host}"), "m:1|ms\n");
    }
    assert_eq!(count(&world, BreachKind::Feeds), 3);
    for metric in 0..6 {
        world.deliver("web-0", &format!("n{metric}:1|ms\n"));
    }
    assert_eq!(count(&world, BreachKind::Series), 4);
    assert_eq!(told(&mut world), [(BreachKind::Feeds, 3, 3, 3), (BreachKind::Series, 5, 5, 4)]);
    let grouped = world.stats().samples_grouped;
    for known in ["web-0", "web-1", "web-2"] {
        world.deliver(known, "m:1|ms\n");
    }
    assert_eq!(world.stats().samples_grouped, grouped + 3);
    for _ in 0..13 {
        world.deliver("web-1", "m:1|ms\n");
        world.pass_s(100);
    }
    world.deliver("web-9", "m:1|ms\n");
    assert_eq!(count(&world, BreachKind::Feeds), 3, "who has not been seen for long makes room");
}

#[test]
fn tags_of_every_length_cost_no_more_than_their_share() {
    let limits = Limits { series: 4_000, ..Limits::DEFAULT };
    let mut world = World::new(limited(limits, &[analytic("slow", "*", 1.0, 10, 1, 1)]));
    world.tick();
    let long = "v".repeat(4_000);
    for n in 0..3_000 {
        world.deliver("web-1", &format!("m:1|ms|#k{n}:{long}\n"));
    }
    let stats = world.stats();
    assert!(stats.series < 520, "{} series of 4 kB each in 2 MB", stats.series);
    assert_eq!(count(&world, BreachKind::Series), 3_000 - stats.series as u64);
}

#[test]
fn a_message_that_is_too_large_is_a_dead_letter_before_anybody_reads_it() {
    let limits = Limits { message_bytes: 1_000, ..Limits::DEFAULT };
    let mut world = World::new(limited(limits, &[analytic("slow", "m", 1.0, 10, 1, 1)]));
    world.tick();
    let effects = world.deliver("web-1", &"x".repeat(1_001));
    assert!(matches!(acks(&effects)[..], [Effect::Reject { .. }]));
    assert_eq!((count(&world, BreachKind::MessageBytes), world.stats().samples), (1, 0));
    assert_eq!(told(&mut world), [(BreachKind::MessageBytes, 1_000, 1_001, 1)]);
    let ok = lines("m", 1_000 / 7);
    assert_eq!(acks(&world.deliver("web-1", &ok)), []);
}

#[test]
fn a_body_inflates_to_no_more_than_its_customers_messages_may() {
    let bomb = |lines_n: usize| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(lines("m", lines_n).as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let limits = Limits { message_bytes: 1_000, ..Limits::DEFAULT };
    let mut world = World::new(limited(limits, &[analytic("slow", "m", 1.0, 10, 1, 1)]));
    world.tick();
    let mut deliver = |body: &[u8]| {
        world.token += 1;
        let (slot, token) = (world.slot.unwrap(), Token(world.token));
        let envelope = Envelope::default();
        let delivery = Delivery {
            slot,
            token,
            redelivered: false,
            exchange: "in.acme",
            routing_key: "web",
            envelope,
            body,
        };
        world.send(Input::Delivery(delivery));
        let rejects = &world.stats().customers[0].rejects;
        rejects.count(kinetic_analyzer::sample::Reject::BadEncoding)
    };
    assert_eq!(deliver(&bomb(8_000 / 7)), 0, "eight times as much is taken");
    assert_eq!(deliver(&bomb(8_000 / 7 + 1)), 1, "and no byte more");
}

#[test]
fn copies_are_taken_as_data_and_said() {
    let mut world = World::new(schema(&[analytic("slow", "m", 1.0, 10, 1, 1)]));
    world.tick();
    let copied = Envelope { copied: true, origin: Some("web-1".into()), ..Envelope::default() };
    assert_eq!(acks(&world.deliver_with(copied.clone(), "in.acme", "m:1|ms\n", false)), []);
    assert_eq!((count(&world, BreachKind::Copied), world.stats().samples_grouped), (1, 1));
    // What reached this queue by another customer's copy.
    let effects = world.deliver_with(copied, "in.evil\u{1b}[2J", "m:1|ms\n", false);
    assert!(matches!(acks(&effects)[..], [Effect::Reject { .. }]));
    assert_eq!((count(&world, BreachKind::Copied), count(&world, BreachKind::ForeignExchange)), (2, 1));
    assert_eq!(world.stats().samples_grouped, 1, "and is in nobody's numbers");
    let said = world.analyzer.breaches(world.now, 10);
    assert_eq!(said[0].what.by.as_deref(), Some("exchange in.evil\\u{1b}[2J"), "who, and harmless");
}

#[test]
fn an_edge_publishes_for_others_and_no_other_login_does() {
    let mut schema = schema(&[analytic("slow", "m", 1.0, 10, 1, 1)]);
    let mut own = schema.customers[&CustomerName::from("acme")].clone();
    let key = |name: &str, purpose| Key {
        name: name.into(),
        hash: SaltedHash { salt: [0; 4], digest: [0; 32] },
        purpose,
        starts_ms: None,
        expires_ms: None,
        may_declare: false,
    };
    own.name = INSTALLATION.into();
    own.keys = vec![key("edge-1", Purpose::Edge), key("probe", Purpose::Publish)];
    schema.customers.insert(own.name.clone(), own);
    let mut world = World::new(schema);
    world.tick();
    let mut says = |user: &'static str| {
        let envelope = Envelope { user_id: Some(user.into()), ..Envelope::default() };
        acks(&world.deliver_with(envelope, "in.acme", "m:1|ms\n", false)).is_empty()
    };
    // The installation itself, its edges, one of them rotated out, and the customer's own.
    assert!(
        ["kinetic", "kinetic.edge-1", "kinetic.edge-0", "acme", "acme.2026-a"].map(&mut says) == [true; 5]
    );
    assert!(["kinetic.probe", "evil", "evil.acme", "acmex.a", ""].map(&mut says) == [false; 5]);
    assert_eq!(count(&world, BreachKind::ForeignLogin), 5);
}

/// Two customers on one analyzer, with what `evil` does between the deliveries of `acme`.
struct Two {
    world: World,
    acme: Slot,
    evil: Slot,
    tokens: [u64; 2],
}

impl Two {
    fn new(config: AnalyzerConfig, [acme, limits]: [Limits; 2]) -> Self {
        let mut schema = schema(&[analytic("slow", "m", 1.0, 10, 1, 1), counting()]);
        let mut evil = schema.customers[&CustomerName::from("acme")].clone();
        (evil.name, evil.limits) = ("evil".into(), limits);
        schema.customers.insert(evil.name.clone(), evil);
        schema.customers.get_mut(&CustomerName::from("acme")).unwrap().limits = acme;
        let mut world = World::with(config, schema);
        let of = |source| Grant { source, region: "r1".into(), epoch: Epoch(1) };
        world.grants = vec![of(key()), of(SourceKey::new("evil", "web"))];
        world.tick();
        let slot = |of: &str| {
            let found = world.effects.iter().find_map(|effect| match effect {
                Effect::Subscribe { slot, source, .. } if source.customer.as_str() == of => Some(*slot),
                _ => None,
            });
            found.unwrap()
        };
        let (acme, evil) = (slot("acme"), slot("evil"));
        Self { world, acme, evil, tokens: [0; 2] }
    }

    fn deliver(&mut self, slot: Slot, origin: &str, body: &str) {
        let index = usize::from(slot == self.evil);
        self.tokens[index] += 1;
        let envelope =
            Envelope { origin: Some(origin.into()), ts: Some(self.world.now.wall), ..Envelope::default() };
        let exchange = ["in.acme", "in.evil"][index];
        let (token, body) = (Token(self.tokens[index]), body.as_bytes());
        let delivery =
            Delivery { slot, token, redelivered: false, exchange, routing_key: "web", envelope, body };
        self.world.send(Input::Delivery(delivery));
    }

    /// All that was said and settled of `acme`.
    fn acme(&self) -> Vec<Effect> {
        let is_of_acme = |effect: &&Effect| match effect {
            Effect::Publish(event) => event.customer.as_str() == "acme",
            Effect::AckUpTo { slot, .. } | Effect::AckRange { slot, .. } | Effect::Reject { slot, .. } => {
                *slot == self.acme
            }
            _ => false,
        };
        self.world.effects.iter().filter(is_of_acme).cloned().collect()
    }
}

#[test]
fn nobody_takes_anothers_share_of_the_table() {
    let mut two = Two::new(AnalyzerConfig { series_total_max: 100, ..config() }, [Limits::DEFAULT; 2]);
    let (acme, evil) = (two.acme, two.evil);
    for n in 0..500 {
        two.deliver(evil, &format!("web-{n}"), "m:1|ms\n");
    }
    for n in 0..60 {
        two.deliver(acme, &format!("web-{n}"), "m:1|ms\n");
    }
    let stats = two.world.stats();
    let series: Vec<usize> = stats.customers.iter().map(|customer| customer.series).collect();
    assert_eq!((series, stats.series), (vec![50, 100], 150), "its share, whoever was first");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// What is said of one customer does not depend on what another does.
    #[test]
    fn nobody_elses_verdicts_change(
        seed in any::<u64>(),
        deeds in proptest::collection::vec((0..5_u8, 0..200_usize), 1..40),
    ) {
        let limits = Limits { samples_per_second: 20, feeds: 50, series: 80, message_bytes: 30_000, ..Limits::DEFAULT };
        // No more than it needs: whatever another took of it would be missed.
        let just_enough = Limits { samples_per_second: 12, feeds: 6, series: 6, message_bytes: 20, ..Limits::DEFAULT };
        let play = |is_there: bool| {
            let mut two = Two::new(config(), [just_enough, limits]);
            let (acme, evil) = (two.acme, two.evil);
            let mut dice = support::Dice(seed);
            for (round, (deed, size)) in deeds.iter().enumerate() {
                for host in 0..6 {
                    let slow = if host == 3 && dice.roll(4) == 0 { 90 } else { 10 };
                    two.deliver(acme, &format!("web-{host}"), &format!("m:{}|ms\n", slow + dice.roll(3)));
                }
                if is_there {
                    let body = match deed {
                        0 => lines("m", size * 10),
                        1 => (0..*size).map(|n| format!("m{round}-{n}:1|ms\n")).collect(),
                        2 => (0..*size).map(|n| format!("m:1|ms|#host:web-{round}-{n},t:{n}\n")).collect(),
                        3 => "x".repeat(size * 300),
                        _ => lines("\u{0}", *size),
                    };
                    two.deliver(evil, "web-1", &body);
                }
                let step = Duration::from_millis(500 + dice.roll(4_000));
                two.world.pass(step);
            }
            two.world.pass(Duration::from_secs(60));
            two.acme()
        };
        let (with, without) = (play(true), play(false));
        prop_assert_eq!(events(&with), events(&without));
        prop_assert_eq!(acks(&with).len(), acks(&without).len());
    }
}

/// A million new series of one customer, and what the others notice of it: nothing but the bound.
#[test]
fn a_million_series_are_refused_at_the_price_of_a_lookup() {
    let limits = Limits { feeds: 1_000, series: 1_000, ..Limits::DEFAULT };
    let mut two = Two::new(config(), [Limits::DEFAULT, limits]);
    let evil = two.evil;
    for body in 0..100 {
        let lines: String = (0..10_000).map(|n| format!("m{body}.{n}:1|ms\n")).collect();
        two.deliver(evil, "web-1", &lines);
    }
    let stats = two.world.stats();
    assert_eq!((stats.series, stats.samples), (1_000, 1_000_000));
    let evil = stats.customers.iter().find(|customer| customer.customer.as_str() == "evil").unwrap();
    assert_eq!(evil.breaches.count(BreachKind::Series), 999_000);
}
