//! An analyzer and a redirector that say that they live, and then no longer do: those whom the schema's `watchdog` names
//! are mailed, also by an alert node that was started anew meanwhile, and are told when the nodes are heard again. One
//! that says that it stops is nobody's business.

use std::time::Duration;

use kinetic_tests::amqp::Client;
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::smtp::Mail;
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, World, eventually, steadily};
use kinetic_wire::{Beacon, Envelope, Incarnation, Role, encode, names};

use crate::common::first_line;

mod said {
    on_both_brokers!(a_silent_node_is_mailed);
    use super::a_silent_node_is_mailed;
}

mod killed {
    on_both_brokers!(a_killed_node_is_mailed);
    use super::a_killed_node_is_mailed;
}

const TO: &str = "ops@kinetic.example";

/// The shortest silence that the language takes.
const WATCHDOG: &str = "watchdog {\n  to                      = [\"ops@kinetic.example\"]\n  \
     analyzer_silent_after   = \"5s\"\n  redirector_silent_after = \"5s\"\n  group_wait              = \"0s\"\n  \
     group_interval          = \"1s\"\n}\n";

/// How long a node that must not be reported is waited for: longer than it may be silent.
const PATIENCE: Duration = Duration::from_secs(8);
/// The same where its loop might have ceased to turn, which it may for five seconds before it falls silent.
const LOOPS_PATIENCE: Duration = Duration::from_secs(13);

struct Alive<'w> {
    client: Client,
    world: &'w World,
}

impl Alive<'_> {
    fn say(&self, role: Role, node: &str, bye: bool) {
        let inc = Incarnation::default();
        let beacon =
            Beacon { v: 1, node: node.into(), role, inc, bye, listens: Vec::new(), breaches: Vec::new() };
        // Before the alert node listens it goes nowhere, as with a node's own.
        let said = self.client.try_publish(names::ALIVE_EXCHANGE, "", &Envelope::default(), &encode(&beacon));
        said.expect("the broker takes it");
    }

    fn mails(&self, wanted: impl Fn(&str) -> bool) -> Vec<Mail> {
        self.world.smtp.inbox().into_iter().filter(|mail| wanted(&first_line(mail))).collect()
    }

    fn wait_for(&self, line: &str) -> Mail {
        self.world.smtp.wait_for(line, |mail| first_line(mail).starts_with(line))
    }
}

fn a_silent_node_is_mailed(kind: BrokerKind) {
    let world = World::start(kind, &[]);
    world.schema.write(&("watchdog.hcl".to_owned(), WATCHDOG.to_owned()));
    world.schema.push();
    let alert = world.alert();
    let alive = Alive { client: Client::start(world.control_address()), world: &world };
    let watched = |alert: &Node, count| {
        eventually("the alert node knows them", || match alert.metric("kinetic_alert_nodes") {
            nodes if nodes == count => Ok(()),
            nodes => Err(nodes),
        });
    };
    // The alert node's queue stands once it is heard.
    eventually("somebody hears it", || {
        alive.say(Role::Analyzer, "a7", false);
        if alert.metric("kinetic_alert_nodes") > 0 { Ok(()) } else { Err("nobody") }
    });
    alive.say(Role::Redirector, "r1", false);
    alive.say(Role::Analyzer, "leaves", false);
    alive.say(Role::Analyzer, "leaves", true);
    watched(&alert, 2);
    let mail = alive.wait_for("analyzer a7 has been silent since ");
    assert_eq!(mail.header("To"), Some(TO));
    alive.wait_for("redirector r1 has been silent since ");

    // A new process goes on where the old one was: it does not say it again, and hears the end of it.
    drop(alert);
    let alert = world.alert();
    watched(&alert, 2);
    steadily("nothing is said twice", PATIENCE, || {
        let mails = alive.mails(|_| true).len();
        if mails == 2 { Ok(()) } else { Err(mails) }
    });
    eventually("it hears them", || {
        alive.say(Role::Analyzer, "a7", false);
        if alert.metric("kinetic_alert_nodes_silent") == 1 { Ok(()) } else { Err(alert.metrics()) }
    });
    alive.wait_for("analyzer a7 is heard again, after ");
    assert_eq!(alive.mails(|line| line.contains("r1")).len(), 1);
    assert_eq!(alive.mails(|line| line.contains("leaves")).len(), 0);
}

fn a_killed_node_is_mailed(kind: BrokerKind) {
    let world = World::start(kind, &[Customer::acme(&[Watch::default()])]);
    world.schema.write(&("watchdog.hcl".to_owned(), WATCHDOG.to_owned()));
    world.schema.push();
    let alert = world.alert();
    let mut redirector = world.redirector();
    let mut killed = world.analyzer("a7");
    let mut leaves = world.analyzer("leaves");
    eventually("the alert node knows all three", || match alert.metric("kinetic_alert_nodes") {
        3 => Ok(()),
        nodes => Err(nodes),
    });
    assert!(leaves.process.terminate().success());
    killed.process.kill();
    redirector.process.kill();
    let wait_for = |line: &str| world.smtp.wait_for(line, |mail| first_line(mail).starts_with(line));
    wait_for("analyzer a7 has been silent since ");
    wait_for("redirector redirector has been silent since ");
    let _redirector = world.redirector();
    let _successor = world.analyzer("a7");
    wait_for("analyzer a7 is heard again, after ");
    wait_for("redirector redirector is heard again, after ");
    let nodes = || (alert.metric("kinetic_alert_nodes"), alert.metric("kinetic_alert_nodes_silent"));
    eventually("all of them are there, and one has left", || match nodes() {
        (2, 0) => Ok(()),
        other => Err(other),
    });
    steadily("that is all, and those who live go on saying so", LOOPS_PATIENCE, || {
        match (nodes(), world.smtp.inbox().len()) {
            ((2, 0), 4) => Ok(()),
            other => Err(other),
        }
    });
}
