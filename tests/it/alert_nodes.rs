//! Alert nodes are killed while alerts come in and mail goes out: every alert that the broker has confirmed is mailed, and what
//! is mailed twice has the same Message-ID twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kinetic_tests::amqp::Client;
use kinetic_tests::dice::Dice;
use kinetic_tests::needs::{Need, all_here, is_long, say};
use kinetic_tests::poll::eventually_within;
use kinetic_tests::postgres::Postgres;
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::smtp::Mail;
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, World, eventually};
use kinetic_wire::{AlertEvent, Envelope, encode, names};

use crate::common::firing;

/// Between two alerts.
const PAUSE: Duration = Duration::from_millis(400);
/// Alerts of one customer: fewer than the mails that one gets in an hour.
const OF_ONE_CUSTOMER: u64 = 40;
/// How long the last mails may take once nobody is killed any more.
const ENDING: Duration = Duration::from_secs(60);
/// The longest that a node lives before it is killed: past its silence after a start, so that mail flows.
const LIFE_MS: u64 = 4_000;
/// The name of a customer's cluster begins with this; the number of its only alert follows.
const CLUSTER: &str = "flow";

/// Alerts, each of a group of its own, until it is stopped.
struct Flow {
    ends: Arc<AtomicBool>,
    publishing: JoinHandle<u64>,
}

impl Flow {
    fn start(world: &World, customers: &[Customer]) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (asked, address) = (Arc::clone(&ends), world.control_address());
        let names: Vec<&'static str> = customers.iter().map(|customer| customer.name).collect();
        let publishing = std::thread::spawn(move || {
            let client = Client::start(address);
            let mut count = 0;
            while !asked.load(Ordering::SeqCst) {
                let customer = names[usize::try_from(count / OF_ONE_CUSTOMER).expect("few") % names.len()];
                let body = encode(&event(customer, count));
                client.publish(names::ALERTS, names::ALERTS, &Envelope::default(), &body);
                count += 1;
                std::thread::sleep(PAUSE);
            }
            count
        });
        Self { ends, publishing }
    }

    /// How many the broker has confirmed: all.
    fn stop(self) -> u64 {
        self.ends.store(true, Ordering::SeqCst);
        self.publishing.join().expect("every alert is confirmed")
    }
}

pub(crate) fn cluster(number: u64) -> String {
    format!("{CLUSTER}-{number:05}")
}

pub(crate) fn event(customer: &str, number: u64) -> AlertEvent {
    let cluster = cluster(number);
    firing(customer, &cluster, &format!("{cluster}.example"))
}

fn customers(alerts_max: u64) -> Vec<Customer> {
    let names = (0..=alerts_max / OF_ONE_CUSTOMER).map(|index| format!("acme-{index}").leak() as &str);
    names.map(|name| Customer { name, watches: vec![Watch::default()] }).collect()
}

/// The alert that a mail is about.
pub(crate) fn about(mail: &Mail) -> Option<u64> {
    let text = mail.part("text/plain");
    let (_, rest) = text.split_once(&format!("{CLUSTER}-"))?;
    rest.get(..5)?.parse().ok()
}

/// Waits until there is a mail about each alert; says how many came more than once. Two mails about one alert with two
/// Message-IDs are a failure.
fn check(world: &World, story: &str, alerts: u64, kills: u64) {
    let every: BTreeSet<u64> = (0..alerts).collect();
    eventually_within(ENDING, "every alert is mailed", || {
        let mailed: BTreeSet<u64> = world.smtp.inbox().iter().filter_map(about).collect();
        if mailed == every { Ok(()) } else { Err(every.difference(&mailed).copied().collect::<Vec<_>>()) }
    });
    let (inbox, all) = (world.smtp.inbox().len() as u64, world.smtp.mails().len() as u64);
    assert_eq!(inbox, alerts, "a mailbox shows each alert once");
    say(&format!(
        "{story}: {kills} kills, {alerts} alerts, {inbox} mails, {} of them came again",
        all - inbox
    ));
}

fn kills() -> u64 {
    if is_long() { 200 } else { 5 }
}

/// About as many as are published in so many lives.
fn alerts_max(kills: u64) -> u64 {
    (kills + 5) * (LIFE_MS + 4_000) / u64::try_from(PAUSE.as_millis()).expect("short")
}

#[test]
fn a_lone_node_that_is_killed_again_and_again_loses_nothing() {
    let story = "a_lone_node_that_is_killed_again_and_again_loses_nothing";
    if !all_here(story, &[Need::Git]) {
        return;
    }
    let kills = kills();
    let customers = customers(alerts_max(kills));
    let world = World::start(BrokerKind::Embedded, &customers);
    let mut dice = Dice::new(story);
    let mut node = world.alert();
    let flow = Flow::start(&world, &customers);
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(dice.below(LIFE_MS)));
        node.process.kill();
        node = world.alert();
    }
    let alerts = flow.stop();
    check(&world, story, alerts, kills);
    drop(node);
}

/// An alert node on a shared history.
fn on(world: &World, name: &str, history: &[&str]) -> Node {
    world.role("alert", name, history)
}

fn stands_by(node: &Node) {
    eventually("the node stands by, and says so", || match node.heartbeat() {
        Ok(response) if response.status == 200 && response.body.contains("standby") => Ok(()),
        other => Err(other),
    });
    assert!(node.log_count("standing by") > 0, "{}", node.process.log());
}

#[test]
fn of_two_nodes_the_second_goes_on_when_the_first_is_killed() {
    let story = "of_two_nodes_the_second_goes_on_when_the_first_is_killed";
    if !all_here(story, &[Need::Git, Need::Postgres]) {
        return;
    }
    let kills = if is_long() { 50 } else { 2 };
    let customers = customers(alerts_max(kills));
    let world = World::start(BrokerKind::Embedded, &customers);
    let server = Postgres::shared();
    let (url, password) = (server.database(), server.password_file(world.dir()));
    let history = ["--history", url.as_str(), "--history-password-file", password.as_str()];
    let mut dice = Dice::new(story);
    let mut active = on(&world, "alert-0", &history);
    active.wait_healthy();
    let flow = Flow::start(&world, &customers);
    for kill in 1..=kills {
        let standby = on(&world, &format!("alert-{}", kill % 2), &history);
        stands_by(&standby);
        std::thread::sleep(Duration::from_millis(dice.below(LIFE_MS)));
        let consumed = standby.metric("kinetic_alert_events_total");
        assert_eq!(consumed, 0, "a standby consumes nothing");
        active.process.kill();
        active = standby;
        eventually("the standby leads and consumes", || {
            let consumed = active.metric("kinetic_alert_events_total");
            if consumed > 0 { Ok(()) } else { Err(active.process.log()) }
        });
    }
    let alerts = flow.stop();
    check(&world, story, alerts, kills);
    let recorded = server.sql(&url, "SELECT count(*) FROM record WHERE kind = 'event'");
    assert_eq!(recorded, alerts.to_string(), "each alert is in the history once");
}
