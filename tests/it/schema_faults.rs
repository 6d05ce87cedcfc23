//! What a schema commit does to those whose data flows: a customer is switched off, a node has not heard of a commit yet.

use kinetic_tests::amqp::queue_depth;
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{Fleet, SLOW_HOST};
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, World, eventually, steadily};

use crate::common::{QUIET, is_about, only_mails_about};

on_both_brokers!(a_customer_is_switched_off_in_mid_stream);
on_both_brokers!(a_node_behind_the_schema_is_given_nothing_of_it);

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

/// A source goes to an analyzer that knows its commit, or to nobody.
fn a_node_behind_the_schema_is_given_nothing_of_it(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let redirector = world.redirector();
    let _alert = world.alert();
    let current = world.analyzer("current");
    wait_sources(&current, 1);
    let mirror = world.schema.mirror("mirror.git");
    let behind = world.role_following(&mirror, "analyzer", "behind");
    behind.wait_healthy();
    let globex = Customer { name: "globex", ..acme.clone() };
    globex.files().iter().for_each(|file| world.schema.write(file));
    world.schema.push();
    world.admit(&globex);
    wait_sources(&current, 2);
    drop(current);
    wait_sources(&behind, 1);
    let fleet = Fleet::start(world.customer_address(&globex), "globex", "web");
    fleet.slow_down();
    let given_to_nobody = || {
        let owned = redirector.metric("kinetic_redirector_sources_owned");
        let unowned = redirector.metric("kinetic_redirector_sources_unowned");
        if (owned, unowned) == (1, 1) { Ok(()) } else { Err((owned, unowned)) }
    };
    eventually("the other source has lost its owner", given_to_nobody);
    steadily("it is given to nobody", QUIET, given_to_nobody);
    world.schema.push_to(&mirror);
    wait_sources(&behind, 2);
    let mail = world.smtp.wait_for("its alert", |mail| is_about(mail, SLOW_HOST));
    assert_eq!(mail.header("x-kinetic-customer"), Some("globex"));
    let published = fleet.stop();
    eventually("every sample of the time between was counted", || {
        let counted = behind.metric("kinetic_analyzer_samples_total");
        if counted == published { Ok(()) } else { Err((counted, published)) }
    });
}

fn wait_sources(analyzer: &Node, count: u64) {
    eventually("it has its sources", || match analyzer.metric("kinetic_analyzer_sources") {
        sources if sources == count => Ok(()),
        other => Err(other),
    });
}
