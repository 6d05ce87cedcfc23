//! The mail relay is down for a while, then busy, then hangs up at the worst moment, then works: nothing is lost, and
//! the mailbox shows nothing twice.

use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::smtp::Manner;
use kinetic_tests::traffic::{Fleet, SLOW_HOST};
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::{first_line, only_mails_about};

on_both_brokers!(a_relay_in_trouble_loses_and_doubles_nothing);

fn a_relay_in_trouble_loses_and_doubles_nothing(kind: BrokerKind) {
    let watch = |name| Watch { name, ..Watch::default() };
    let acme = Customer::acme(&[watch("first"), watch("second")]);
    let mut world = World::start(kind, std::slice::from_ref(&acme));
    let engine = world.engine();
    world.smtp.go_down();
    let fleet = Fleet::start(world.customer_address(&acme), "acme", "web");
    fleet.slow_down();
    let retried = |at_least: u64| {
        eventually("mails are tried again", || {
            let retried = engine.alert.metric("kinetic_alert_mails_retried_total");
            if retried >= at_least { Ok(retried) } else { Err(retried) }
        })
    };
    let refused = retried(2);
    let failing = engine.alert.wait_failing("mail");
    assert!(failing.contains("onnect"), "the reason is said: {failing}");
    world.smtp.behave(Manner::Defers);
    world.smtp.come_up();
    let deferred = retried(refused + 1);
    world.smtp.behave(Manner::HangsUpAfterData);
    eventually("a message arrives whose taking was not said", || {
        let arrived = world.smtp.mails().len();
        if arrived > 0 { Ok(()) } else { Err(arrived) }
    });
    retried(deferred + 1);
    world.smtp.behave(Manner::Accepts);
    eventually("both mails are known to be taken", || {
        let accepted = engine.alert.metric("kinetic_alert_mails_accepted_total");
        if accepted == 2 { Ok(()) } else { Err((accepted, engine.alert.metrics())) }
    });
    only_mails_about(&world.smtp, SLOW_HOST, 2);
    let lines: Vec<String> = world.smtp.inbox().iter().map(first_line).collect();
    for name in ["first", "second"] {
        assert!(lines.iter().any(|line| line.contains(&format!("{name}/hosts"))), "{name}: {lines:?}");
    }
    // What arrived more often than it is shown is the repeat that a relay forces: the same Message-ID each time.
    assert!(world.smtp.mails().len() > 2, "the relay hung up after at least one message");
    engine.alert.wait_healthy();
}
