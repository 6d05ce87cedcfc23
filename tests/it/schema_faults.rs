//! What a schema commit does to those whose data flows: a customer is switched off, a node has not heard of a commit yet.

use kinetic_tests::amqp::queue_depth;
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{Fleet, SLOW_HOST};
use kinetic_tests::{BrokerKind, World, eventually, steadily};

use crate::common::{QUIET, is_about, only_mails_about};

on_both_brokers!(a_customer_is_switched_off_in_mid_stream);
on_both_brokers!(
    #[ignore = "until analyzers say which generation of the schema they run"]
    a_node_behind_the_schema_is_given_nothing_of_it
);

/// Nobody reads a customer's data while it is switched off; another's flows on. Switched on again, it is judged again.
fn a_customer_is_switched_off_in_mid_stream(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default()]);
    let globex = Customer { name: "globex", ..acme.clone() };
    let world = World::start(kind, &[acme.clone(), globex.clone()]);
    let engine = world.engine();
    let fleets = [&acme, &globex].map(|one| Fleet::start(world.customer_address(one), one.name, "web"));
    fleets.iter().for_each(|fleet| fleet.flow(80));
    set_disabled(&world, &acme, true);
    eventually("nobody reads its data", || match queue_depth(&world.region_address(), "src.acme.web") {
        Some(depth) if depth.consumers == 0 => Ok(()),
        other => Err(other),
    });
    let agent = world.agent(&acme, "refused", &[]);
    eventually("its clients are told so", || {
        let refusals = "kinetic_redirector_refusals_total{code=\"disabled\"}";
        let told = kinetic_tests::http::sum(&engine.redirector.metrics(), refusals);
        if told >= 1.0 { Ok(()) } else { Err(agent.node.process.log()) }
    });
    drop(agent);
    fleets[1].slow_down();
    let mail = world.smtp.wait_for("the other customer's alert", |mail| is_about(mail, SLOW_HOST));
    assert_eq!(mail.header("x-kinetic-customer"), Some("globex"));
    // What comes while it is off and begins then is not told.
    fleets[0].slow_down();
    steadily("no mail about a customer that is off", QUIET, || {
        let told = world
            .smtp
            .inbox()
            .iter()
            .filter(|mail| mail.header("x-kinetic-customer") == Some("acme"))
            .count();
        if told == 0 { Ok(()) } else { Err(told) }
    });
    set_disabled(&world, &acme, false);
    let mail = world
        .smtp
        .wait_for("its alert, once it is on again", |mail| mail.header("x-kinetic-customer") == Some("acme"));
    assert!(is_about(&mail, SLOW_HOST));
    let published: u64 = fleets.map(Fleet::stop).into_iter().sum();
    eventually("every sample was read, those from while it was off too", || {
        // What was under way at the moment of the commit is read again.
        let counted = engine.analyzer.metric("kinetic_analyzer_samples_total");
        if counted >= published { Ok(()) } else { Err((counted, published)) }
    });
    assert_eq!(engine.analyzer.metric("kinetic_analyzer_late_total"), 0, "{}", engine.analyzer.metrics());
    only_mails_about(&world.smtp, SLOW_HOST, 2);
}

fn set_disabled(world: &World, customer: &Customer, disabled: bool) {
    for (path, text) in customer.files() {
        let line = format!("  region   = region.local\n  disabled = {disabled}\n");
        world.schema.write(&(path, text.replace("  region = region.local\n", &line)));
    }
    world.schema.push();
}

/// A new source goes to the analyzer that knows its commit, though the other has nothing to do.
fn a_node_behind_the_schema_is_given_nothing_of_it(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let redirector = world.redirector();
    let _alert = world.alert();
    let current = world.analyzer("current");
    eventually("the first source has its owner", || match current.metric("kinetic_analyzer_sources") {
        1 => Ok(()),
        other => Err(other),
    });
    let mirror = world.schema.mirror("mirror.git");
    let behind = world.role_following(&mirror, "analyzer", "behind");
    behind.wait_healthy();
    let globex = Customer { name: "globex", ..acme.clone() };
    globex.files().iter().for_each(|file| world.schema.write(file));
    world.schema.push();
    world.admit(&globex);
    eventually("the new source has an owner", || {
        match redirector.metric("kinetic_redirector_sources_owned") {
            2 => Ok(()),
            other => Err(other),
        }
    });
    let fleet = Fleet::start(world.customer_address(&globex), "globex", "web");
    fleet.slow_down();
    world.smtp.wait_for("its alert", |mail| is_about(mail, SLOW_HOST));
    assert_eq!(behind.log_count("granted a source that the schema in force does not know"), 0);
    assert_eq!(current.metric("kinetic_analyzer_sources"), 2, "the one that knows it has it");
    world.schema.push_to(&mirror);
    eventually("the node that has caught up is given its share", || {
        let sources = [&current, &behind].map(|node| node.metric("kinetic_analyzer_sources"));
        if sources == [1, 1] { Ok(()) } else { Err(sources) }
    });
}
