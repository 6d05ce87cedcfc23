//! A customer that sends more than it may is mailed about it, once; one that names another is told to whoever looks after the
//! installation; and its neighbour's alert comes as ever.

use kinetic_tests::amqp::Client;
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{Fleet, SLOW_HOST, envelope};
use kinetic_tests::{BrokerKind, World, eventually, http, steadily};
use kinetic_wire::Envelope;

use crate::common::{QUIET, first_line, is_about};

on_both_brokers!(a_customer_over_its_limits_is_told_and_its_neighbour_notices_nothing);

const LIMITS: &str = "\n\n  limits {\n    samples_per_second = 10\n    series             = 50\n  }\n\n  key";
const WATCHDOG: &str =
    "\nwatchdog {\n  to         = \"ops@kinetic.example\"\n  group_wait = \"0s\"\n}\n\nmail {";

fn a_customer_over_its_limits_is_told_and_its_neighbour_notices_nothing(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default()]);
    let globex = Customer { name: "globex", ..acme.clone() };
    let world = World::start(kind, &[acme.clone(), globex.clone()]);
    world.schema.rewrite("customers/globex/customer.hcl", "\n\n  key", LIMITS);
    world.schema.rewrite("kinetic.hcl", "\nmail {", WATCHDOG);
    world.schema.push();
    let engine = world.engine();
    let fleet = Fleet::start(world.customer_address(&acme), "acme", "web");

    // A minute's share is 600; what begins within it is taken whole, and what comes after it is not.
    let hostile = Client::start(world.customer_address(&globex));
    let bomb: String = (0..700).map(|n| format!("requests.{n}:1|c|#host:web-1\n")).collect();
    for _ in 0..20 {
        hostile.publish("in.globex", "web", &envelope(), bomb.as_bytes());
    }
    let mail = world.smtp.wait_for("over its limits", |mail| is_about(mail, "its limit of"));
    assert!(mail.header("Subject").is_some_and(|subject| subject.contains("is over its limit of")));
    let text = mail.part("text/plain");
    for part in ["samples_per_second", "series", "Allowed", "ask whoever runs", "kinetic tap globex/web"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let claims = Envelope { claimed_customer: Some("acme".into()), ..envelope() };
    hostile.publish("in.globex", "web", &claims, b"checkout.latency:9999|ms\n");
    let ops = |to: Option<&str>| to == Some("ops@kinetic.example");
    let mail = world.smtp.wait_for("a security event", |mail| ops(mail.header("To")));
    let line = first_line(&mail);
    assert!(line.starts_with("messages that name another customer come to source globex/web"), "{line}");

    fleet.slow_down();
    world.smtp.wait_for("the neighbour's alert", |mail| is_about(mail, SLOW_HOST));
    steadily("each is told once", QUIET, || {
        let lines: Vec<String> = world.smtp.inbox().iter().map(first_line).collect();
        if lines.len() == 3 { Ok(()) } else { Err(lines) }
    });
    eventually("what was dropped is counted, by customer and limit", || {
        let metrics = engine.analyzer.metrics();
        let limited = http::sum(&metrics, "kinetic_analyzer_limited_total");
        let of_whom = metrics.contains("kinetic_analyzer_limited_total{customer=\"globex\"");
        let is_told = !metrics.contains("kinetic_analyzer_limited_total{customer=\"acme\"");
        if limited >= 13_000.0 && of_whom && is_told { Ok(()) } else { Err(metrics) }
    });
    assert_eq!(engine.analyzer.metric("kinetic_analyzer_security_events_total"), 1);
    fleet.stop();
}
