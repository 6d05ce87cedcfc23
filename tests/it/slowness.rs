//! What a customer feels while its neighbour sends ten times what it may, and nothing but new names. The long form measures it, in
//! turns within one run: `KINETIC_LONG=1`.

#![expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::time::{Duration, Instant};

use kinetic_amqp::Outcome;
use kinetic_tests::amqp::Client;
use kinetic_tests::needs::say;
use kinetic_tests::process::{Launch, Process};
use kinetic_tests::schema::{Customer, SECRET, Watch};
use kinetic_tests::tool::python_with;
use kinetic_tests::traffic::{envelope, round};
use kinetic_tests::{BrokerKind, World, eventually};

on_both_brokers!(a_flood_of_another_slows_nobody, Pika, Patience);

/// One turn.
const TURN: Duration = Duration::from_secs(5);
/// Turns without and with the flood.
const TURNS: usize = 4;
/// What the flood may cost the victim.
const SLOWER_MAX: f64 = 0.10;
const FLOOD: &str = include_str!("attacks/flood.py");

/// Publishes and their confirms one after the other for a turn: seconds each took.
fn turn(client: &Client) -> Vec<f64> {
    let (began, body) = (Instant::now(), round(false));
    let mut took = Vec::new();
    while began.elapsed() < TURN {
        let sent = Instant::now();
        let outcome = client.try_publish("in.acme", "web", &envelope(), body.as_bytes());
        assert!(matches!(outcome, Ok(Outcome::Confirmed)), "{outcome:?}");
        took.push(sent.elapsed().as_secs_f64());
        // An agent's pace, many times over.
        std::thread::sleep(Duration::from_millis(5));
    }
    took
}

fn flood(world: &World, attacker: &Customer) -> Process {
    let (port, login) = (world.amqp().port().to_string(), attacker.login());
    let words = ["-c", FLOOD, "127.0.0.1", &port, world.vhost(), &login, SECRET, "in.attacker"];
    let python = python_with("pika").expect("asked before");
    let flood = Launch::new(python).args(words).start("flood", &world.dir().join("flood.log"));
    eventually("the flood comes", || if flood.log().contains("open") { Ok(()) } else { Err(flood.log()) });
    flood
}

/// The median and the 99th percentile, milliseconds.
fn percentiles(took: &mut [f64]) -> [f64; 2] {
    took.sort_by(f64::total_cmp);
    [took[took.len() / 2], took[took.len() * 99 / 100]].map(|seconds| seconds * 1000.0)
}

fn a_flood_of_another_slows_nobody(kind: BrokerKind) {
    let victim = Customer::acme(&[Watch::default()]);
    let attacker = Customer { name: "attacker", ..victim.clone() };
    let world = World::start(kind, &[victim.clone(), attacker.clone()]);
    world.schema.rewrite(
        "customers/attacker/customer.hcl",
        "  region = region.local\n",
        "  region = region.local\n  limits {\n    samples_per_second = 1000\n    feeds = 500\n    series = 1000\n  }\n",
    );
    world.schema.push();
    let engine = world.engine();
    let client = Client::start(world.customer_address(&victim));
    turn(&client);
    let (mut calm, mut flooded) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        calm.extend(turn(&client));
        let _flood = flood(&world, &attacker);
        flooded.extend(turn(&client));
    }
    let rates = [calm.len(), flooded.len()].map(|count| count as f64 / (TURNS as f64 * TURN.as_secs_f64()));
    let [calm, flooded] = [percentiles(&mut calm), percentiles(&mut flooded)];
    say(&format!(
        "{kind:?}: publishes a second {:.1} calm, {:.1} flooded; median {:.2} and {:.2} ms, 99th percentile {:.2} and {:.2} ms",
        rates[0], rates[1], calm[0], flooded[0], calm[1], flooded[1]
    ));
    let metrics = engine.analyzer.metrics();
    let limited = metrics
        .lines()
        .filter(|line| line.starts_with("kinetic_analyzer_limited_total{customer=\"attacker\""));
    let limited: Vec<&str> = limited.collect();
    assert!(!limited.is_empty(), "the flood is over its limits: {metrics}");
    say(&format!("{kind:?}: {}", limited.join(", ")));
    assert!(!metrics.contains("kinetic_analyzer_limited_total{customer=\"acme\""), "{metrics}");
    assert!(
        rates[1] > rates[0] * (1.0 - SLOWER_MAX),
        "slowed from {:.1} to {:.1} a second",
        rates[0],
        rates[1]
    );
}
