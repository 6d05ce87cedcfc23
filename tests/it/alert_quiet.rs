//! What operators say at the command line, `kinetic silence` and `kinetic ack`, holds, and outlives the node that was told.

use kinetic_tests::amqp::Client;
use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::process::{Launch, kinetic, run};
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::{BrokerKind, World, eventually};
use kinetic_wire::{Envelope, encode, names};

use crate::alert_nodes::{about, cluster, event};

/// Numbers of the three alerts, each of a group of its own.
const SILENCED: u64 = 0;
const ACKNOWLEDGED: u64 = 1;
const REPEATED: u64 = 2;

/// Mails about an alert, repeats of a mail not counted.
fn mails(world: &World, alert: u64) -> usize {
    world.smtp.inbox().iter().filter(|mail| about(mail) == Some(alert)).count()
}

/// Waits until so many more mails have come about the alert that nobody has said anything of: until time has passed in which
/// the others would have been mailed as well.
fn wait_for_repeats(world: &World, more: usize) {
    let before = mails(world, REPEATED);
    eventually("the one that nobody takes care of is repeated", || {
        let now = mails(world, REPEATED);
        if now >= before + more { Ok(()) } else { Err((before, now)) }
    });
}

/// Runs a command of an operator.
fn say(world: &World, words: &[&str]) -> serde_json::Value {
    let launch =
        Launch::new(kinetic()).args(words.iter().copied()).args(world.broker_words()).args(["--json"]);
    serde_json::from_str(&run(launch)).expect("JSON")
}

#[test]
fn a_silence_and_an_acknowledgement_outlive_the_node() {
    if !all_here("a_silence_and_an_acknowledgement_outlive_the_node", &[Need::Git]) {
        return;
    }
    let customer = Customer::acme(&[Watch::default()]);
    let world = World::start(BrokerKind::Embedded, &[customer]);
    world.schema.rewrite("customers/acme/alerts.hcl", "repeat_interval = \"1h\"", "repeat_interval = \"2s\"");
    world.schema.push();
    let mut node = world.alert();
    node.wait_healthy();
    let until = ["--for", "1h", "--author", "ann", "--reason", "new disks"];
    let (silenced, acknowledged) = (cluster(SILENCED), format!("acme/web/web/{}", cluster(ACKNOWLEDGED)));
    let said = say(&world, &[&["silence", "add", "acme", "--cluster", &silenced], &until[..]].concat());
    let silence = said["silence"]["id"].as_str().expect("a name").to_owned();

    let client = Client::start(world.control_address());
    for alert in [SILENCED, ACKNOWLEDGED, REPEATED] {
        let body = encode(&event("acme", alert));
        client.publish(names::ALERTS, names::ALERTS, &Envelope::default(), &body);
    }
    eventually("two of three are mailed", || {
        let mailed = [ACKNOWLEDGED, REPEATED].map(|alert| mails(&world, alert));
        if mailed.iter().all(|mails| *mails > 0) { Ok(()) } else { Err(mailed) }
    });
    let said = say(&world, &[&["ack", &acknowledged], &until[..]].concat());
    assert_eq!(said["episode"]["acknowledged"]["author"], "ann", "{said}");
    // What was on its way to the relay has arrived by then.
    wait_for_repeats(&world, 1);
    let told = mails(&world, ACKNOWLEDGED);

    node.process.kill();
    let restarted = world.alert();
    wait_for_repeats(&world, 3);
    assert_eq!(mails(&world, ACKNOWLEDGED), told, "what is acknowledged is not repeated");
    assert_eq!(mails(&world, SILENCED), 0, "what is silenced is not mailed");

    say(&world, &["silence", "end", "acme", &silence, "--author", "ann"]);
    eventually("what still fires at a silence's end is mailed", || {
        if mails(&world, SILENCED) > 0 { Ok(()) } else { Err(restarted.process.log()) }
    });
}
