//! A customer that stops sending anything: its recipients are mailed, and again when something comes. An analyzer that is
//! killed while its customer sends is nobody's silence.

use kinetic_tests::amqp::Client;
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{Fleet, envelope, round};
use kinetic_tests::{BrokerKind, World, eventually, steadily};

use crate::common::{QUIET, first_line};

on_both_brokers!(a_customer_that_stops_is_mailed);

const TO: &str = "everything@acme.example";

/// One that tells of everything; the other tells of one analytic.
const ALERT: &str = "alert \"everything\" {\n  to             = [\"everything@acme.example\"]\n  group_wait     = \"0s\"\n  \
     group_interval = \"1s\"\n}\n";

fn a_customer_that_stops_is_mailed(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default(), Watch { name: "db", routing: "db", ..Watch::default() }]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    world.schema.rewrite("customers/acme/customer.hcl", "\n\n  key", "\n\n  silent_after = \"5s\"\n\n  key");
    world.schema.write(&("customers/acme/everything.hcl".to_owned(), ALERT.to_owned()));
    world.schema.push();
    let engine = world.engine();
    let heard = || engine.alert.metric("kinetic_alert_customers");
    eventually("the analyzer says what it hears", || if heard() == 1 { Ok(()) } else { Err(heard()) });
    assert_eq!(engine.alert.metric("kinetic_alert_customers_not_begun"), 1);

    let client = Client::start(world.customer_address(&acme));
    client.publish("in.acme", "web", &envelope(), round(false).as_bytes());
    let mail = world.smtp.wait_for("acme is silent", |mail| mail.header("To") == Some(TO));
    assert!(first_line(&mail).starts_with("customer acme has been silent since "), "{}", first_line(&mail));

    let fleet = Fleet::start(world.customer_address(&acme), "acme", "web");
    let again = |line: &str| line.starts_with("customer acme is heard again, after ");
    world.smtp.wait_for("acme is heard again", |mail| again(&first_line(mail)));

    // Its analyzer dies, and what it sends waits until another has taken over.
    let mut analyzer = engine.analyzer;
    analyzer.process.kill();
    let successor = world.analyzer("successor");
    let took = || successor.metric("kinetic_analyzer_deliveries_total");
    eventually("the successor takes over", || if took() > 0 { Ok(()) } else { Err(took()) });
    steadily("nobody is taken for silent", QUIET, || match world.smtp.inbox().len() {
        2 => Ok(()),
        _ => Err(world.smtp.inbox().iter().map(first_line).collect::<Vec<_>>()),
    });
    fleet.stop();
}
