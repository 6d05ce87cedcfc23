//! The redirector is killed and started again while two analyzers work: nothing moves, and no alert is lost.

use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{Fleet, SLOW_HOST};
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::{is_about, only_mails_about};

on_both_brokers!(a_restarted_redirector_moves_nothing);

fn a_restarted_redirector_moves_nothing(kind: BrokerKind) {
    let watch = |name, routing| Watch { name, routing, ..Watch::default() };
    let acme = Customer::acme(&[watch("one", "one"), watch("two", "two"), watch("three", "three")]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let mut redirector = world.redirector();
    let _alert = world.alert();
    let analyzers = [world.analyzer("analyzer-a"), world.analyzer("analyzer-b")];
    eventually("the second analyzer has got its share, and nothing is moving any more", || {
        let shares: Vec<u64> = analyzers.iter().map(|node| node.metric("kinetic_analyzer_sources")).collect();
        let settled = redirector.metric("kinetic_redirector_sources_moving") == 0;
        if settled && shares.iter().sum::<u64>() == 3 && !shares.contains(&0) { Ok(()) } else { Err(shares) }
    });
    let fleet = Fleet::start(world.customer_address(&acme), "acme", "two");
    fleet.flow(80);
    let placed = subscriptions(&analyzers);
    redirector.process.kill();
    // Without a redirector the data plane goes on: an alert that begins now is mailed.
    fleet.slow_down();
    world.smtp.wait_for("a mail while there is no redirector", |mail| is_about(mail, SLOW_HOST));
    let redirector = world.redirector();
    eventually("both analyzers have found the new redirector", || {
        let known = redirector.metric("kinetic_redirector_analyzers");
        let owned = redirector.metric("kinetic_redirector_sources_owned");
        if (known, owned) == (2, 3) { Ok(()) } else { Err(redirector.metrics()) }
    });
    fleet.flow(80);
    let published = fleet.stop();
    eventually("every sample was counted once", || {
        let counted: u64 = analyzers.iter().map(|node| node.metric("kinetic_analyzer_samples_total")).sum();
        if counted == published { Ok(()) } else { Err((counted, published)) }
    });
    assert_eq!(subscriptions(&analyzers), placed, "nothing has moved");
    only_mails_about(&world.smtp, SLOW_HOST, 1);
}

/// How often each analyzer has taken up a source.
fn subscriptions(analyzers: &[Node]) -> Vec<usize> {
    analyzers.iter().map(|node| node.log_count("subscribing")).collect()
}
