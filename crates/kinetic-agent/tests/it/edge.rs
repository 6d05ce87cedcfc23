//! The edge from outside: whose lines are whose, who gives way to whom, and that each line is published once or counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use kinetic_agent::edge::stats::{CustomerStats, Reason};
use kinetic_agent::edge::{Edge, EdgeConfig, Effect, Input, LinkId, Outcome, Protocol, STOP_DEADLINE};
use kinetic_agent::machine::PublishId;
use kinetic_schema::Schema;
use kinetic_wire::{Envelope, Incarnation, Now};
use proptest::prelude::*;
use uuid::Uuid;

use crate::harness::START;

/// `a` and `b` live in one region, `c` in another with addresses of its own; `public` is everybody else.
const CUSTOMERS: [(&str, &str, &str); 4] = [
    ("a", "local", "\"10.1.0.0/16\", \"2001:db8:a::/48\""),
    ("b", "local", "\"10.2.0.0/16\""),
    ("c", "far", "\"10.3.0.0/16\""),
    ("public", "local", ""),
];

fn schema(leave_out: &[&str]) -> Schema {
    let mut text = "region \"local\" {}\nregion \"far\" { amqp = [\"amqp://far:5672\"] }\n".to_owned();
    for (name, region, netblocks) in CUSTOMERS {
        if leave_out.contains(&name) {
            continue;
        }
        text += &format!(
            "customer \"{name}\" {{\n  region = region.{region}\n  netblocks = [{netblocks}]\n  key \"k\" {{ salted_sha256 = \"{}\" }}\n",
            "0".repeat(72)
        );
        if name == "b" {
            text += "  source \"carbon\" {\n data_type = \"graphite\"\n routing = [\"carbon.#\"]\n name = \"servers.{origin}.{metric}\"\n}\n";
        } else if name != "public" {
            text += "  source \"carbon\" {\n data_type = \"graphite\"\n routing = [\"carbon.*.x\"]\n }\n";
        }
        text += "  source \"web\" {\n data_type = \"statsd\"\n routing = [\"web.#\"]\n }\n}\n";
    }
    let files = BTreeMap::from([("kinetic.hcl".to_owned(), text.into_bytes())]);
    let loaded = kinetic_schema::load(&files);
    let problems = kinetic_schema::render(&loaded.diagnostics, &files, false, 100);
    let mut schema = loaded.schema.unwrap_or_else(|| panic!("{problems}"));
    // `check` refuses overlaps; whoever builds a schema otherwise gets the longest prefix.
    if let Some(b) = schema.customers.get_mut(&"b".into()) {
        b.netblocks.push("10.1.7.0/24".parse().expect("a netblock"));
    }
    if !leave_out.contains(&"public") {
        schema.edge.public = Some("public".into());
    }
    schema
}

fn config() -> EdgeConfig {
    EdgeConfig {
        inc: Incarnation(Uuid::from_u128(99)),
        amqp: vec!["amqp://near:5672".to_owned()],
        body_bytes: 80,
        body_age: Duration::from_millis(500),
        buffer_bytes: 1 << 20,
        in_flight_max: 4,
        seed: 5,
    }
}

#[derive(Clone, Debug)]
struct Sent {
    id: PublishId,
    link: LinkId,
    exchange: String,
    routing_key: String,
    envelope: Envelope<'static>,
    body: String,
}

struct Shell {
    edge: Edge,
    now: Now,
    out: Vec<Sent>,
    links: BTreeMap<LinkId, (Vec<String>, String)>,
    stopped: bool,
}

impl Shell {
    fn new(config: EdgeConfig) -> Self {
        let edge = Edge::new(config);
        Self { edge, now: START, out: Vec::new(), links: BTreeMap::new(), stopped: false }
    }

    fn serving(config: EdgeConfig) -> Self {
        let mut shell = Self::new(config);
        shell.handle(Input::Schema(&schema(&[])));
        shell
    }

    fn handle(&mut self, input: Input<'_>) {
        let mut effects = Vec::new();
        self.edge.handle(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Open { link, uris, vhost } => {
                    assert!(self.links.insert(link, (uris, vhost)).is_none(), "a link is opened once");
                }
                Effect::Close { link } => assert!(self.links.remove(&link).is_some(), "it was open"),
                Effect::Publish { id, link, exchange, routing_key, envelope, body } => {
                    assert!(self.links.contains_key(&link), "published to a link that is open");
                    let body = String::from_utf8(body).expect("text");
                    self.out.push(Sent { id, link, exchange, routing_key, envelope: *envelope, body });
                }
                Effect::Stopped => self.stopped = true,
            }
        }
    }

    fn send(&mut self, from: &str, protocol: Protocol, text: &str) {
        let from: IpAddr = from.parse().expect("an address");
        self.handle(Input::Lines { from, protocol, bytes: text.as_bytes() });
    }

    fn sleep(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.now.wall = self.now.wall + time;
        self.handle(Input::Tick);
    }

    fn answer(&mut self, at: usize, outcome: Outcome) -> Sent {
        let sent = self.out.remove(at);
        self.handle(Input::Published { id: sent.id, outcome });
        sent
    }

    /// Everything that comes out while all is confirmed.
    fn confirmed(&mut self) -> Vec<Sent> {
        self.sleep(Duration::from_secs(1));
        let mut all = Vec::new();
        for _ in 0..100_000 {
            while !self.out.is_empty() {
                all.push(self.answer(0, Outcome::Confirmed));
            }
            if self.edge.stats().bytes_buffered == 0 {
                return all;
            }
            self.sleep(Duration::from_secs(1));
        }
        panic!("never empty: {:?}", self.edge.stats());
    }

    fn dropped(&self, reason: Reason) -> u64 {
        self.edge.stats().dropped.of(reason)
    }
}

fn of_customers(shell: &Shell) -> BTreeMap<&str, CustomerStats> {
    shell.edge.customers().map(|(name, stats)| (name.as_str(), stats)).collect()
}

fn seen(all: &[Sent]) -> BTreeSet<String> {
    let origin = |sent: &Sent| sent.envelope.origin.as_deref().unwrap_or("-").to_owned();
    all.iter()
        .map(|sent| format!("{} {} {} {}", sent.exchange, sent.routing_key, origin(sent), sent.body))
        .collect()
}

#[test]
fn lines_go_to_whose_netblock_it_is() {
    let mut shell = Shell::serving(config());
    for (from, line) in [
        ("10.1.0.5", "wide:1|c"),
        ("10.1.7.5", "longest:1|c\n"),
        ("::ffff:10.1.0.5", "mapped:1|c"),
        ("2001:db8:a::1", "six:1|c"),
        ("10.3.0.1", "far:1|c"),
        ("192.0.2.1", "else:1|c"),
    ] {
        shell.send(from, Protocol::Statsd, line);
    }
    shell.send("10.2.0.1", Protocol::Carbon, "servers.x.load 1 2\n");
    shell.send("10.2.0.2", Protocol::Carbon, "servers.y.load 1 2\n");
    shell.send("10.1.0.1", Protocol::Carbon, "load 1 2\n");
    let all = shell.confirmed();
    let expect = [
        "in.a carbon.any.x 10.1.0.1 load 1 2",
        "in.a web 10.1.0.5 wide:1|c\nmapped:1|c",
        "in.a web 2001:db8:a::1 six:1|c",
        "in.b carbon - servers.x.load 1 2\nservers.y.load 1 2",
        "in.b web 10.1.7.5 longest:1|c",
        "in.c web 10.3.0.1 far:1|c",
        "in.public web 192.0.2.1 else:1|c",
    ];
    assert_eq!(seen(&all), expect.map(str::to_owned).into());
    for sent in &all {
        let (uris, vhost) = &shell.links[&sent.link];
        let far = sent.exchange == "in.c";
        assert_eq!(vhost, if far { "far" } else { "local" });
        assert_eq!(uris, &[if far { "amqp://far:5672" } else { "amqp://near:5672" }]);
        let Envelope { user_id, claimed_customer, profile, moved, epoch, .. } = &sent.envelope;
        assert_eq!((user_id, claimed_customer, profile, moved, epoch), (&None, &None, &None, &None, &None));
    }
}

#[test]
fn what_is_nobodys_or_has_no_source_is_counted() {
    let mut shell = Shell::new(config());
    shell.send("10.1.0.1", Protocol::Statsd, "early:1|c");
    shell.handle(Input::Schema(&schema(&["public"])));
    shell.send("192.0.2.1", Protocol::Statsd, "a:1|c\n\nb:1|c");
    assert_eq!(shell.dropped(Reason::Nobody), 3);
    shell.handle(Input::Schema(&schema(&[])));
    shell.send("192.0.2.1", Protocol::Carbon, "a 1 2\n");
    assert_eq!(shell.dropped(Reason::NoSource), 1);
    let mut off = schema(&[]);
    off.customers.get_mut(&"a".into()).expect("there").disabled = true;
    shell.send("10.1.0.1", Protocol::Statsd, "waits:1|c");
    shell.handle(Input::Schema(&off));
    shell.send("10.1.0.1", Protocol::Statsd, "off:1|c");
    assert_eq!((shell.dropped(Reason::Disabled), shell.dropped(Reason::Gone)), (1, 1));
    assert_eq!(shell.confirmed().len(), 0);
    assert_eq!(shell.edge.stats().lines_buffered, 0);
}

#[test]
fn no_faster_than_the_limit() {
    let mut shell = Shell::new(config());
    let mut slow = schema(&[]);
    slow.customers.get_mut(&"a".into()).expect("there").limits.samples_per_second = 10;
    shell.handle(Input::Schema(&slow));
    for _ in 0..100 {
        shell.send("10.1.0.1", Protocol::Statsd, "a:1|c");
        shell.send("10.2.0.1", Protocol::Statsd, "b:1|c");
    }
    assert_eq!(shell.dropped(Reason::TooFast), 90, "one second's worth at once");
    shell.sleep(Duration::from_millis(500));
    for _ in 0..100 {
        shell.send("10.1.0.1", Protocol::Statsd, "a:1|c");
    }
    assert_eq!(shell.dropped(Reason::TooFast), 90 + 95);
    let stats = of_customers(&shell);
    assert_eq!(stats["b"].dropped.total(), 0);
}

#[test]
fn a_flood_pushes_out_nobody_else() {
    let buffer_bytes = 100_000;
    let mut shell = Shell::serving(EdgeConfig { buffer_bytes, body_bytes: 1_000, ..config() });
    let flood = |shell: &mut Shell, n: u32| {
        for i in 0..n {
            shell.send(
                &format!("10.1.0.{}", i % 5),
                Protocol::Statsd,
                &format!("flood.{i}:1|c|#{}", "x".repeat(200)),
            );
        }
    };
    flood(&mut shell, 1_000);
    let used = shell.edge.stats().bytes_buffered;
    assert!((80_000..=buffer_bytes).contains(&used), "one alone may have nearly all: {used}");
    assert!(shell.dropped(Reason::NoRoom) > 0);
    for i in 0..100 {
        shell.send("10.2.0.1", Protocol::Statsd, &format!("quiet.{i}:1|c|#{}", "y".repeat(200)));
        flood(&mut shell, 20);
        assert!(shell.edge.stats().bytes_buffered <= buffer_bytes);
    }
    let stats = of_customers(&shell);
    assert_eq!(stats["b"].dropped.total(), 0, "the quiet one loses nothing");
    assert!(stats["a"].dropped.of(Reason::PushedOut) > 0);
    // In turn, by customer: the quiet one's first body does not wait for all of the flood.
    let all = shell.confirmed();
    let first = all.iter().position(|sent| sent.exchange == "in.b").expect("published");
    assert!(first < 12, "{first}");
    let quiet: usize =
        all.iter().filter(|sent| sent.exchange == "in.b").map(|sent| sent.body.lines().count()).sum();
    assert_eq!(quiet, 100);
}

#[test]
fn who_cannot_be_published_for_holds_up_nobody() {
    let mut shell = Shell::serving(config());
    shell.send("10.1.0.1", Protocol::Statsd, "bad:1|c");
    shell.sleep(Duration::from_millis(600));
    for outcome in [Outcome::Refused, Outcome::Unroutable, Outcome::Nacked] {
        assert_eq!(shell.answer(0, outcome).exchange, "in.a");
        assert!(shell.out.is_empty(), "{outcome:?}: it is not tried again at once");
        for _ in 0..20 {
            shell.send("10.2.0.1", Protocol::Statsd, "good:1|c");
            shell.sleep(Duration::from_millis(600));
            while let Some(at) = shell.out.iter().position(|sent| sent.exchange == "in.b") {
                shell.answer(at, Outcome::Confirmed);
            }
        }
        shell.sleep(Duration::from_secs(300));
        assert_eq!(shell.out.len(), 1, "{outcome:?}: it is tried again");
    }
    shell.answer(0, Outcome::Confirmed);
    assert_eq!(shell.edge.stats().lines_buffered, 0);
    assert_eq!(shell.edge.stats().lines_confirmed, 61);
}

#[test]
fn a_customer_moves_with_what_waits() {
    let mut shell = Shell::serving(config());
    shell.send("10.3.0.1", Protocol::Statsd, "one:1|c");
    shell.sleep(Duration::from_millis(600));
    shell.send("10.3.0.1", Protocol::Statsd, "two:1|c");
    let mut moved = schema(&[]);
    moved.customers.get_mut(&"c".into()).expect("there").region = "local".into();
    shell.handle(Input::Schema(&moved));
    assert!(shell.links.is_empty(), "nobody is served far away any more: {:?}", shell.links);
    shell.answer(0, Outcome::Unconfirmed);
    let all = shell.confirmed();
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|sent| shell.links[&sent.link].1 == "local"));
}

#[test]
fn many_origins_make_small_bodies_and_lose_nothing() {
    let mut shell = Shell::serving(EdgeConfig { buffer_bytes: 64 << 20, ..config() });
    let origins = kinetic_agent::edge::ORIGINS_OPEN_MAX + 100;
    for i in 0..origins {
        shell.send(&format!("10.1.{}.{}", i / 250 % 7, i % 250), Protocol::Statsd, &format!("m{i}:1|c"));
        shell.send(&format!("2001:db8:a::{i:x}"), Protocol::Statsd, &format!("n{i}:1|c"));
    }
    let stats = shell.edge.stats();
    assert!(stats.bodies_open <= kinetic_agent::edge::ORIGINS_OPEN_MAX, "{stats:?}");
    assert!(stats.bodies_closed_early > 0);
    let lines: usize = shell.confirmed().iter().map(|sent| sent.body.lines().count()).sum();
    assert_eq!(lines, 2 * origins);
}

#[test]
fn it_stops_when_all_is_out_or_too_late() {
    let mut shell = Shell::serving(config());
    shell.send("10.1.0.1", Protocol::Statsd, "a:1|c");
    shell.handle(Input::Shutdown);
    shell.send("10.1.0.1", Protocol::Statsd, "late:1|c");
    assert!(!shell.stopped);
    shell.answer(0, Outcome::Confirmed);
    assert!(shell.stopped);
    assert_eq!(shell.dropped(Reason::Stopping), 1);

    let mut shell = Shell::serving(config());
    shell.send("10.1.0.1", Protocol::Statsd, "a:1|c");
    shell.handle(Input::Shutdown);
    assert_eq!(shell.edge.next_wakeup(), Some(START.mono + STOP_DEADLINE));
    shell.sleep(STOP_DEADLINE);
    assert!(shell.stopped);
    assert_eq!((shell.dropped(Reason::Stopping), shell.edge.stats().lines_buffered), (1, 0));
}

#[derive(Clone, Debug)]
enum Op {
    Lines(usize, bool, Vec<usize>),
    Sleep(u64),
    Answer(prop::sample::Index, usize),
    Schema(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..FROM.len(), any::<bool>(), prop::collection::vec(0_usize..90, 0..6))
            .prop_map(|(from, statsd, lines)| Op::Lines(from, statsd, lines)),
        3 => (0_u64..1_500).prop_map(Op::Sleep),
        8 => (any::<prop::sample::Index>(), 0..OUTCOMES.len()).prop_map(|(index, how)| Op::Answer(index, how)),
        1 => (0..LEFT_OUT.len()).prop_map(Op::Schema),
    ]
}

/// Addresses, and whose they are.
const FROM: [(&str, &str); 6] = [
    ("10.1.0.1", "a"),
    ("10.1.7.1", "b"),
    ("10.2.0.1", "b"),
    ("10.3.0.1", "c"),
    ("2001:db8:a::5", "a"),
    ("192.0.2.9", "public"),
];
const OUTCOMES: [Outcome; 7] = [
    Outcome::Confirmed,
    Outcome::Confirmed,
    Outcome::Confirmed,
    Outcome::Unconfirmed,
    Outcome::Nacked,
    Outcome::Unroutable,
    Outcome::Refused,
];
const LEFT_OUT: [&[&str]; 5] = [&[], &[], &["a"], &["c", "public"], &["b"]];

/// Who owns an address of `FROM` where some customers are left out.
fn owner(from: usize, left_out: &[&str]) -> Option<&'static str> {
    let (address, owner) = FROM[from];
    // Without the customer of the longer prefix, the address is in the wider one.
    let owner = if left_out.contains(&owner) && address.starts_with("10.1.7.") { "a" } else { owner };
    let owner = if left_out.contains(&owner) { "public" } else { owner };
    (!left_out.contains(&owner)).then_some(owner)
}

proptest! {
    #[test]
    fn each_line_is_published_once_to_its_customer_or_counted(
        ops in prop::collection::vec(op(), 1..150), buffer in 4_000_usize..60_000,
    ) {
        let mut shell = Shell::serving(EdgeConfig { buffer_bytes: buffer, ..config() });
        let (mut left_out, mut number) = (LEFT_OUT[0], 0);
        let (mut owners, mut sent_lines) = (BTreeMap::new(), 0);
        let mut arrived: BTreeMap<u64, (String, String)> = BTreeMap::new();
        let mut take = |sent: Sent| {
            let before = arrived.insert(sent.envelope.seq.expect("a number"), (sent.exchange, sent.body));
            assert!(before.is_none(), "confirmed once");
        };
        for op in ops {
            match op {
                Op::Lines(from, statsd, lengths) => {
                    let mut text = String::new();
                    for length in lengths {
                        number += 1;
                        let line = format!("{number}.{}:1|c", "x".repeat(length));
                        owners.insert(line.clone(), owner(from, left_out));
                        text += &line;
                        text.push('\n');
                        sent_lines += 1;
                    }
                    let protocol = if statsd { Protocol::Statsd } else { Protocol::Carbon };
                    shell.send(FROM[from].0, protocol, &text);
                }
                Op::Sleep(ms) => shell.sleep(Duration::from_millis(ms)),
                Op::Answer(index, how) if !shell.out.is_empty() => {
                    let at = index.index(shell.out.len());
                    let sent = shell.answer(at, OUTCOMES[how]);
                    if OUTCOMES[how] == Outcome::Confirmed {
                        take(sent);
                    }
                }
                Op::Answer(..) => {}
                Op::Schema(which) => {
                    left_out = LEFT_OUT[which];
                    shell.handle(Input::Schema(&schema(left_out)));
                }
            }
            let stats = shell.edge.stats();
            prop_assert!(stats.bytes_buffered <= buffer, "{stats:?}");
            prop_assert_eq!(stats.in_flight, shell.out.len());
            prop_assert!(stats.in_flight <= 4 * 3, "at most so many for each link: {:?}", stats);
        }
        shell.confirmed().into_iter().for_each(&mut take);
        let stats = shell.edge.stats();
        prop_assert_eq!(stats.lines, sent_lines);
        prop_assert_eq!((stats.lines_buffered, stats.bodies_open, stats.customers_holding), (0, 0, 0));
        let mut confirmed = 0;
        for (exchange, body) in arrived.values() {
            for line in body.lines() {
                confirmed += 1;
                let owner = owners.remove(line).expect("a line that was sent, once");
                let expect = owner.map(|name| format!("in.{name}"));
                prop_assert_eq!(Some(exchange), expect.as_ref());
            }
        }
        prop_assert_eq!(confirmed, stats.lines_confirmed);
        prop_assert_eq!(stats.lines, stats.lines_confirmed + stats.dropped.total());
    }
}

const SEEDS: [&[u8]; 7] = [
    include_bytes!("../../../../fuzz/seeds/proxy/v4"),
    include_bytes!("../../../../fuzz/seeds/proxy/v6"),
    include_bytes!("../../../../fuzz/seeds/proxy/tlvs"),
    include_bytes!("../../../../fuzz/seeds/proxy/local"),
    include_bytes!("../../../../fuzz/seeds/proxy/v1"),
    include_bytes!("../../../../fuzz/seeds/proxy/pickle"),
    include_bytes!("../../../../fuzz/seeds/proxy/lines"),
];

#[test]
fn seeds_of_connections_hold() {
    SEEDS.into_iter().for_each(kinetic_agent::edge::fuzz_connection);
}

proptest! {
    #[test]
    fn changed_seeds_of_connections_hold(
        seed in 0..SEEDS.len(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        more in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = SEEDS[seed].to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len().min(64));
            bytes[at] = byte;
        }
        bytes.extend(more);
        kinetic_agent::edge::fuzz_connection(&bytes);
    }
}
