//! Kinetic watches Kinetic: with the file that every new repository has, processes publish their health, and one that is killed
//! is named to the operators.

use std::time::Duration;

use kinetic_tests::amqp::Listener;
use kinetic_tests::world::SHORT_LEASE;
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
    let soon = "alert \"operators\" {\n  group_wait     = \"0s\"\n  group_interval = \"1s\"";
    world.schema.rewrite(path, "alert \"operators\" {", soon);
    world.schema.push();
    let engine = world.engine();
    let mut standby = world.redirector_with("standby", SHORT_LEASE);
    // Of all that is published, by all four and the embedded broker, what the one says that stands by and works.
    let mut health = Listener::bind(world.region_address(), "in.kinetic", "health");
    eventually("the standby says that it works", || {
        let said = health.next_within(Duration::from_secs(1)).map(|message| message.body).unwrap_or_default();
        let said = String::from_utf8(said).expect("lines are text");
        let is_it =
            ["redirector.leading:0|g\n", "healthy.redirector:1|g\n"].iter().all(|line| said.contains(line));
        if is_it { Ok(()) } else { Err(said) }
    });
    let heard = |name: &str| engine.analyzer.metric(name);
    eventually("the analyzer hears it", || match heard("kinetic_analyzer_deliveries_total") {
        0 => Err(0),
        _ => Ok(()),
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
