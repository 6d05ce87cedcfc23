//! What a client asks for beside its customer's address: a profile, a data type, an order of the addresses.

use std::collections::BTreeSet;
use std::net::UdpSocket;

use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::line;
use kinetic_tests::{BrokerKind, World, eventually};
use kinetic_wire::{LocateReply, Reply, RpcCode, decode};

on_both_brokers!(a_wrong_profile_is_said_once_and_ends_with_the_schema);
on_both_brokers!(a_fleet_is_told_the_addresses_by_origin);

/// Lines sent in each part of the story.
const LINES: u64 = 40;

fn asked(world: &World, customer: &Customer, more: &[&str]) -> Result<LocateReply, RpcCode> {
    let output = world.locate_with(customer, &[&["--json"], more].concat());
    match decode::<Reply<LocateReply>>(&output.stdout) {
        Ok(Reply::Ok(reply)) => {
            assert!(output.status.success());
            Ok(reply)
        }
        Ok(Reply::Refused(refused)) => {
            assert_eq!(output.status.code(), Some(1), "{}", refused.message);
            Err(refused.code)
        }
        Err(error) => panic!("{error}: {output:?}"),
    }
}

/// An agent asks for a profile that no source has: it says so once and keeps asking, what it has taken still arrives, and as
/// soon as the schema has the profile it is answered. When the profile goes again it hears of that at once.
fn a_wrong_profile_is_said_once_and_ends_with_the_schema(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let engine = world.engine();
    assert!(asked(&world, &acme, &[]).is_ok());
    assert!(asked(&world, &acme, &["--data-type", "statsd"]).is_ok());
    assert_eq!(asked(&world, &acme, &["--data-type", "influx"]), Err(RpcCode::NoSource));
    assert_eq!(asked(&world, &acme, &["--profile", "web"]), Err(RpcCode::UnknownProfile));
    let said = world.locate_with(&acme, &["--profile", "web"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("no source of acme has a profile") && said.contains("--profile"), "{said}");

    let agent = world.agent(&acme, "agent", &["--profile", "web"]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let send = || {
        (0..LINES).for_each(|_| {
            socket.send_to(line("web-1", false).as_bytes(), agent.udp).expect("send");
        });
    };
    eventually("the agent has been refused more than once", || {
        match agent.node.metric("kinetic_agent_locate_refusals_total") {
            0..=1 => Err("once at most"),
            _ => Ok(()),
        }
    });
    let complaint = "the redirector refuses to say where to publish: this agent's settings and the schema do not agree; what \
                     comes in is kept, and it asks again";
    assert_eq!(agent.node.log_count(complaint), 1, "{}", agent.node.process.log());
    assert!(agent.node.wait_failing("agent").contains("no source of acme has a profile"));
    send();
    let first = "source \"web\" {\n";
    let with_profile =
        "profile \"web\" {\n  data_type = \"statsd\"\n}\n\nsource \"web\" {\n  profile   = profile.web\n";
    world.schema.rewrite("customers/acme/topology.hcl", first, with_profile);
    world.schema.push();
    agent.node.wait_healthy();
    assert!(asked(&world, &acme, &["--profile", "web", "--data-type", "statsd"]).is_ok());
    send();
    // By itself it would ask in four minutes: it is nudged. Its last answer stands.
    world.schema.rewrite("customers/acme/topology.hcl", with_profile, first);
    world.schema.push();
    agent.node.wait_failing("agent");
    assert!(agent.node.metric("kinetic_agent_nudges_total") >= 1);
    assert_eq!(agent.node.log_count(complaint), 2);
    send();
    eventually("every sample has come", || {
        let counted = engine.analyzer.metric("kinetic_analyzer_samples_total");
        if counted == 3 * LINES { Ok(()) } else { Err(counted) }
    });
    assert_eq!(agent.node.metric("kinetic_agent_datagrams_dropped_total"), 0);
}

/// Two addresses of one broker: each origin always hears the same order, and half of them the one first, half the other.
fn a_fleet_is_told_the_addresses_by_origin(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let _redirector = world.redirector();
    let port = world.amqp().port();
    let addresses = [format!("amqp://127.0.0.1:{port}"), format!("amqp://localhost:{port}")];
    let region = format!("region \"local\" {{\n  amqp   = {addresses:?}\n");
    world.schema.rewrite("kinetic.hcl", "region \"local\" {\n", &region);
    world.schema.push();
    let first = |origin: &str| {
        let reply = asked(&world, &acme, &["--origin", origin]).expect("an answer");
        assert!((0..).zip(&reply.endpoints).all(|(priority, endpoint)| endpoint.priority == priority));
        reply.endpoints.into_iter().map(|endpoint| endpoint.uri).collect::<Vec<_>>()
    };
    eventually("they are told as listed", || {
        let told = first("web-1");
        if told == addresses { Ok(()) } else { Err(told) }
    });
    let by_origin = format!("  amqp   = {addresses:?}\n  order  = \"by_origin\"\n");
    world.schema.rewrite("kinetic.hcl", &format!("  amqp   = {addresses:?}\n"), &by_origin);
    world.schema.push();
    let origins: Vec<String> = (0..16).map(|at| format!("web-{at}.example")).collect();
    let told = || origins.iter().map(|origin| first(origin)).collect::<Vec<_>>();
    eventually("both addresses come first for somebody", || {
        let firsts: BTreeSet<String> = told().into_iter().map(|order| order[0].clone()).collect();
        if firsts.len() == 2 { Ok(()) } else { Err(firsts) }
    });
    assert_eq!(told(), told(), "each origin hears the same again");
}
