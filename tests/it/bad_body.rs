//! A body that is nothing we know goes to the dead letters whole; its neighbours, and the good lines beside a bad one,
//! are counted.

use std::time::Duration;

use kinetic_tests::amqp::{Client, Listener};
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{SLOW_HOST, envelope, round};
use kinetic_tests::{BrokerKind, World, eventually};
use kinetic_wire::Envelope;

use crate::common::{is_about, only_mails_about};

on_both_brokers!(a_bad_body_is_kept_and_its_neighbours_live);

/// Neither text nor anything compressed.
const RUBBISH: &[u8] = b"\x00\x01\x02 this is no metric \xff\xfe";

fn a_bad_body_is_kept_and_its_neighbours_live(kind: BrokerKind) {
    // Nothing declared: what a body is must be found out from the body.
    let acme = Customer::acme(&[Watch { data_type: "auto", ..Watch::default() }]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let engine = world.engine();
    let client = Client::start(world.customer_address(&acme));
    let mut dead = Listener::consume(world.region_address(), "dead.acme");
    client.publish("in.acme", "web", &envelope(), round(false).as_bytes());
    client.publish("in.acme", "web", &Envelope::default(), RUBBISH);
    client.publish("in.acme", "web", &envelope(), format!("{}no line at all\n", round(false)).as_bytes());
    let letter = dead.next_within(Duration::from_secs(60)).expect("the bad body among the dead letters");
    assert_eq!((letter.body.as_slice(), letter.routing_key.as_str()), (RUBBISH, "acme"));
    eventually("good lines are counted", || {
        let samples = engine.analyzer.metric("kinetic_analyzer_samples_total");
        if samples == 16 { Ok(()) } else { Err(engine.analyzer.metrics()) }
    });
    assert_eq!(engine.analyzer.metric("kinetic_analyzer_rejected_total"), 1, "{}", engine.analyzer.metrics());
    let metrics = engine.analyzer.metrics();
    assert_eq!(kinetic_tests::http::sum(&metrics, "kinetic_analyzer_rejects_total"), 2.0, "{metrics}");
    assert!(metrics.contains("customer=\"acme\""), "rejects name the customer: {metrics}");
    eventually("the source still works", || {
        client.publish("in.acme", "web", &envelope(), round(true).as_bytes());
        if world.smtp.mails().is_empty() { Err(engine.analyzer.metrics()) } else { Ok(()) }
    });
    world.smtp.wait_for("a mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    only_mails_about(&world.smtp, SLOW_HOST, 1);
    assert!(dead.next_within(Duration::from_millis(100)).is_none(), "only one letter is dead");
}
