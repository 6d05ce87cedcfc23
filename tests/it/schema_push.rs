//! A schema push adds a customer while another's traffic flows: nobody's sample is lost, and the new one's data flows.

use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{Fleet, SLOW_HOST};
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::{is_about, only_mails_about};

on_both_brokers!(a_push_adds_a_customer_while_traffic_flows);

fn a_push_adds_a_customer_while_traffic_flows(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let engine = world.engine();
    let old = Fleet::start(world.customer_address(&acme), "acme", "web");
    old.flow(80);
    let globex = Customer { name: "globex", watches: vec![Watch::default()] };
    globex.files().iter().for_each(|file| world.schema.write(file));
    world.schema.push();
    world.admit(&globex);
    let queue = "src.globex.web";
    eventually("the new customer's queue has a consumer", || {
        match kinetic_tests::amqp::queue_depth(&world.region_address(), queue) {
            Some(depth) if depth.consumers == 1 => Ok(()),
            other => Err(other),
        }
    });
    let new = Fleet::start(world.customer_address(&globex), "globex", "web");
    new.slow_down();
    new.flow(80);
    old.flow(80);
    let mail =
        world.smtp.wait_for("a mail about the new customer's slow host", |mail| is_about(mail, SLOW_HOST));
    assert_eq!(mail.header("x-kinetic-customer"), Some("globex"), "{mail:?}");
    let published = old.stop() + new.stop();
    eventually("every sample was counted once", || {
        let counted = engine.analyzer.metric("kinetic_analyzer_samples_total");
        if counted == published { Ok(()) } else { Err((counted, published)) }
    });
    assert_eq!(engine.analyzer.metric("kinetic_analyzer_late_total"), 0, "{}", engine.analyzer.metrics());
    only_mails_about(&world.smtp, SLOW_HOST, 1);
}
