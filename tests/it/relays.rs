//! The first relay goes down, the second takes over, and the first has its place back once it works again.

use std::collections::BTreeSet;
use std::time::Duration;

use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::poll::eventually_within;
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::smtp::SmtpCatcher;
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::{Alerts, first_line};

/// How long the first relay may be left alone before it is tried again, and then some.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two alerts.
const PAUSE: Duration = Duration::from_millis(300);

fn lines(relay: &SmtpCatcher) -> Vec<String> {
    relay.mails().iter().map(first_line).collect()
}

#[test]
fn the_second_relay_takes_over_and_gives_back() {
    if !all_here("the_second_relay_takes_over_and_gives_back", &[Need::Git]) {
        return;
    }
    let acme = Customer::acme(&[Watch::default()]);
    let mut world = World::start(BrokerKind::Embedded, std::slice::from_ref(&acme));
    let second = SmtpCatcher::start();
    let fallback = format!(
        "  tls   = \"none\"\n\n  fallback \"second\" {{\n    relay = \"{}\"\n    tls   = \"none\"\n  }}\n",
        second.address()
    );
    world.schema.rewrite("kinetic.hcl", "  tls   = \"none\"\n", &fallback);
    world.schema.push();
    let node = world.alert();
    let alerts = Alerts::of(&world);
    let failing = |count: u64| {
        eventually("the node says how many relays fail", || {
            let failing = node.metric("kinetic_alert_relays_failing");
            if failing == count { Ok(()) } else { Err(failing) }
        });
    };
    let mut fired = Vec::new();
    // Connections that stand may take one more mail.
    let mut until = |relay: &SmtpCatcher, what: &str| {
        eventually_within(PATIENCE, what, || {
            let name = format!("{what}-{:03}", fired.len());
            alerts.fire(&name);
            fired.push(name);
            std::thread::sleep(PAUSE);
            let lines = lines(relay);
            if lines.iter().any(|line| line.contains(what)) { Ok(()) } else { Err(lines) }
        });
    };
    until(&world.smtp, "begin");
    world.smtp.go_down();
    until(&second, "down");
    failing(1);
    world.smtp.come_up();
    until(&world.smtp, "back");
    eventually_within(PATIENCE, "all are told", || {
        let all = [lines(&world.smtp), lines(&second)].concat();
        let missing: Vec<&String> =
            fired.iter().filter(|name| !all.iter().any(|line| line.contains(*name))).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
    });
    let all = [world.smtp.mails(), second.mails()].concat();
    let ids: BTreeSet<&str> = all.iter().filter_map(|mail| mail.header("message-id")).collect();
    assert_eq!(ids.len(), fired.len(), "each is told once: {ids:#?}");
    failing(0);
}
