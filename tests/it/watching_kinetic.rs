//! Kinetic watches Kinetic: with the file that every new repository has, processes publish their health, and one that is killed
//! is named to the operators.

use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::first_line;

on_both_brokers!(a_killed_process_is_named_to_the_operators);

/// As it is shipped.
const SHIPPED: &str = include_str!("../../topology-examples/watching-kinetic/customers/kinetic/kinetic.hcl");

fn a_killed_process_is_named_to_the_operators(kind: BrokerKind) {
    let world = World::start(kind, &[]);
    let path = "customers/kinetic/kinetic.hcl";
    world.schema.write(&(path.to_owned(), SHIPPED.to_owned()));
    // What takes minutes takes seconds.
    world.schema.rewrite(path, "after = \"5m\"", "after = \"4s\"");
    world.schema.rewrite(path, "alert \"operators\" {", "alert \"operators\" {\n  group_wait = \"0s\"");
    world.schema.push();
    let engine = world.engine();
    let mut standby = world.redirector_with("standby", kinetic_tests::world::SHORT_LEASE);
    // All four, and the embedded broker.
    let nodes = if kind == BrokerKind::Embedded { 5 } else { 4 };
    let heard = |name: &str| engine.analyzer.metric(name);
    eventually("each process is a feed of its own", || {
        let deliveries = heard("kinetic_analyzer_deliveries_total");
        if deliveries >= 3 * nodes && heard("kinetic_analyzer_series") > 8 * nodes {
            Ok(())
        } else {
            Err(deliveries)
        }
    });
    assert_eq!(heard("kinetic_analyzer_rejects_total"), 0);
    assert_eq!(heard("kinetic_analyzer_security_events_total"), 0);

    standby.process.kill();
    let line = "standby in kinetic/nodes: healthy.redirector has been silent since ";
    let names = |text: &str| text.contains("standby") && text.contains("healthy.redirector");
    let mail = world.smtp.wait_for(line, |mail| names(&mail.part("text/plain")));
    assert_eq!(mail.header("To"), Some("ops@example.com"));
    assert!(first_line(&mail).contains("healthy.redirector has been silent since "), "{}", first_line(&mail));
}
