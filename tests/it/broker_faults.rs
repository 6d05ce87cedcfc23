//! Brokers that end under everybody at once.

use std::net::UdpSocket;
use std::time::Duration;

use kinetic_tests::needs::{Need, all_here, is_long, say};
use kinetic_tests::proxy::Proxy;
use kinetic_tests::schema::{Customer, Queues, Watch};
use kinetic_tests::world::{Agent, CLUSTER_SIZE, SHORT_LEASE};
use kinetic_tests::{BrokerKind, World, eventually};

use crate::stage::Stage;

/// Times that the publishers' connections are cut.
const CUTS: usize = 4;
/// On a busy machine a publisher is without a connection for more than a second.
const LATENESS: &str = "5s";

/// The broker is killed under many agents and comes back: all of them find it again, what they accepted meanwhile arrives, and
/// the redirector is not asked more often than each of them needs.
#[test]
fn a_herd_comes_back_after_the_broker() {
    let story = "broker_faults::a_herd_comes_back_after_the_broker";
    if !all_here(story, &[Need::Git, Need::RabbitMq]) {
        return;
    }
    let size: u64 = if is_long() { 100 } else { 20 };
    let acme = Customer::acme(&[Watch { members: "herd-*", ..Watch::default() }]);
    let mut world = World::start(BrokerKind::OwnRabbitMq, std::slice::from_ref(&acme));
    let engine = world.engine();
    let agents: Vec<Agent> = (0..size)
        .map(|number| world.agent(&acme, &format!("herd-{number}"), &["--origin", "herd"]))
        .collect();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let mut sent = 0;
    let mut tell = || {
        for agent in &agents {
            socket.send_to(b"checkout.latency:1|ms|#host:herd-1", agent.udp).expect("send");
            sent += 1;
        }
        sent
    };
    let goal = tell();
    eventually("every agent's line is counted", || counted(&engine.analyzer, goal));
    let asked = locates(&engine.redirector);
    world.own_rabbit().kill();
    let goal = tell();
    world.own_rabbit().start_again();
    eventually("what was said while there was no broker is counted as well, once", || {
        counted(&engine.analyzer, goal)
    });
    let goal = tell();
    eventually("and what is said after", || counted(&engine.analyzer, goal));
    let asked = locates(&engine.redirector) - asked;
    let dropped: u64 =
        agents.iter().map(|agent| agent.node.metric("kinetic_agent_datagrams_dropped_total")).sum();
    assert_eq!(dropped, 0);
    say(&format!("{story}: {size} agents asked {asked} times for their address"));
    assert!(asked <= 3 * size, "{asked} requests of {size} agents");
}

fn counted(analyzer: &kinetic_tests::world::Node, goal: u64) -> Result<(), u64> {
    let counted = analyzer.metric("kinetic_analyzer_samples_total");
    assert!(counted <= goal, "{counted} samples of {goal}: some were counted twice");
    if counted == goal { Ok(()) } else { Err(counted) }
}

fn locates(redirector: &kinetic_tests::world::Node) -> u64 {
    kinetic_tests::http::sum(&redirector.metrics(), "kinetic_redirector_requests_total{kind=\"locate\"}")
        as u64
}

on_both_brokers!(a_body_that_is_published_again_counts_once);

/// The publishers' connections are cut while bodies and confirms are on the way: what was not confirmed comes again under the
/// same number, whether the first copy had arrived or not.
fn a_body_that_is_published_again_counts_once(kind: BrokerKind) {
    let stage = Stage::start_patient(kind, LATENESS);
    let proxy = Proxy::start(&[stage.world.amqp()]);
    let streams = stage.streams_at(proxy.address());
    for _ in 0..CUTS {
        stage.verdicts("one", 2);
        // With some time on the way there is always a body or a confirm that the cut catches.
        proxy.delay(Duration::from_millis(100));
        stage.verdicts("one", 1);
        proxy.cut();
        proxy.heal();
    }
    let repeats = stage.finish(streams);
    assert!(repeats > 0, "no cut has caught a body");
}

/// One after the other, each node of a cluster is killed under load and comes back; then each is stopped with its sockets open.
#[test]
fn a_cluster_loses_its_nodes_one_by_one() {
    let story = "broker_faults::a_cluster_loses_its_nodes_one_by_one";
    if !all_here(story, &[Need::Git, Need::RabbitMq, Need::Patience]) {
        return;
    }
    let mut stage = Stage::start_with(BrokerKind::Cluster, Queues::Quorum, SHORT_LEASE);
    let streams = stage.streams();
    stage.verdicts("one", 3);
    for node in 0..CLUSTER_SIZE {
        stage.world.own_rabbit().kill_node(node);
        stage.verdicts("one", 5);
        stage.world.own_rabbit().start_node(node);
        stage.verdicts("one", 5);
    }
    stage.world.own_rabbit().signal_node(0, "STOP");
    std::thread::sleep(Duration::from_secs(20));
    stage.world.own_rabbit().signal_node(0, "CONT");
    stage.verdicts("one", 5);
    let repeats = stage.finish(streams);
    say(&format!("{story}: {repeats} bodies were published again after a lost confirm"));
}
