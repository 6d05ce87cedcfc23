//! An edge takes carbon and statsd from networks that do not log in: each line lands with the customer whose netblock it comes from,
//! whatever is claimed, and nobody can crowd out anybody else.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kinetic_tests::amqp::Listener;
use kinetic_tests::process::{Launch, kinetic};
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::source::{proxy_header, tcp_from, udp_from};
use kinetic_tests::traffic::METRIC;
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::first_line;

on_both_brokers!(lines_land_with_whose_netblock_it_is);
on_both_brokers!(nobody_is_crowded_out);

/// Where trusted proxies stand.
const PROXY: &str = "127.0.9.1";
/// A message that must not come does not come within this time.
const NOTHING: Duration = Duration::from_millis(300);

/// Customers with their netblocks; `open` is who everybody else's lines are for.
struct Edge {
    node: Node,
    udp: SocketAddr,
    tcp: SocketAddr,
    world: World,
    customers: Vec<Customer>,
}

impl Edge {
    fn start(kind: BrokerKind, more: &[&str]) -> Self {
        let watches = [
            Watch { routing: "web.#", members: "127.0.1.*", ..Watch::default() },
            Watch {
                name: "carbon",
                data_type: "graphite",
                routing: "carbon.#",
                metric: "none",
                ..Watch::default()
            },
        ];
        let customers: Vec<_> = ["acme", "bravo", "open", "kinetic"]
            .map(|name| Customer { name, watches: watches[..if name == "kinetic" { 0 } else { 2 }].to_vec() })
            .into();
        let world = World::start(kind, &customers);
        for (name, block) in [("acme", "127.0.1.0/24"), ("bravo", "127.0.2.0/24")] {
            let file = format!("customers/{name}/customer.hcl");
            let with = format!("region.local\n  netblocks = [\"{block}\"]\n");
            world.schema.rewrite(&file, "region.local\n", &with);
        }
        let file = "customers/kinetic/customer.hcl";
        world.schema.rewrite(file, "key \"web\" {\n", "key \"edge-1\" {\n    purpose = \"edge\"\n");
        world.schema.rewrite("kinetic.hcl", "mail {", "edge {\n  public = customer.open\n}\n\nmail {");
        world.schema.push();
        world.admit_login("kinetic.edge-1", ["^$", "^(in\\..*|kin\\.rpc)$", "^$"]);
        let launch = Launch::new(kinetic())
            .args(["agent", "--edge", "--amqp", &format!("amqp://kinetic.edge-1@{}", world.amqp())])
            .args(["--password-file", &world.key_file().to_string_lossy()])
            .args(["--schema", &world.schema.remote(), "--fetch-interval", "1"])
            .args(["--data-dir", &world.dir().join("edge").to_string_lossy()])
            .args(["--statsd", "127.0.0.1:0", "--carbon", "127.0.0.1:0", "--body-age", "50"])
            .args(["--proxy-from", PROXY])
            .args(more.iter().copied());
        let node = Node::start(launch, "edge", world.dir());
        let udp = node.logged("listening for statsd", "udp");
        let tcp = node.logged("listening for carbon", "tcp");
        Self { node, udp, tcp, world, customers }
    }

    /// Hears all that is published for a customer.
    fn ear(&self, customer: &str) -> Listener {
        Listener::bind(self.world.region_address(), &format!("in.{customer}"), "#")
    }

    /// A carbon connection from an address that begins with something.
    fn carbon(&self, source: &str, first: &[u8]) -> TcpStream {
        let mut stream = tcp_from(source, self.tcp).expect("a connection");
        // It may have been closed already, which is for the caller to find out.
        stream.write_all(first).ok();
        stream
    }

    fn turned_away(&self, why: &str) -> u64 {
        let text = self.node.metrics();
        let series = format!("kinetic_edge_carbon_turned_away_total{{reason=\"{why}\"}}");
        let value = kinetic_tests::http::sample(&text, &series).unwrap_or_default();
        format!("{value:.0}").parse().expect("a count")
    }
}

/// Whether the other side has closed, which it must.
fn is_closed(stream: &mut TcpStream) -> bool {
    // A reset is an end as well; only a time-out is none.
    match stream.read(&mut [0; 16]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

/// The lines of the next messages, until all of these have come; nothing else may.
fn hears(ear: &mut Listener, expect: &[&str]) {
    let mut missing: BTreeSet<&str> = expect.iter().copied().collect();
    while !missing.is_empty() {
        let message =
            ear.next_within(Duration::from_secs(30)).unwrap_or_else(|| panic!("{missing:?} did not come"));
        let text = String::from_utf8(message.body).expect("text");
        for line in text.lines() {
            assert!(missing.remove(line), "{line} came to {}", message.exchange);
        }
    }
    let more = ear.next_within(NOTHING);
    assert!(more.is_none(), "{more:?}");
}

fn lines_land_with_whose_netblock_it_is(kind: BrokerKind) {
    let edge = Edge::start(kind, &[]);
    let engine = edge.world.engine();
    let [mut acme, mut bravo, mut open] = ["acme", "bravo", "open"].map(|name| edge.ear(name));

    for (source, line) in [("127.0.1.5", "a:1|c"), ("127.0.2.5", "b:1|c"), ("127.0.3.5", "o:1|c")] {
        udp_from(source).send_to(line.as_bytes(), edge.udp).expect("send");
    }
    let direct = [edge.carbon("127.0.1.6", b"a.c 1 2\n"), edge.carbon("127.0.2.6", b"b.c 1 2\nhalf a li")];
    // Through a proxy that is trusted, it is whose the header says; what the client writes behind it is only text.
    let through = edge.carbon(PROXY, &[proxy_header("127.0.2.77"), b"b.proxied 1 2\n".to_vec()].concat());
    // From anywhere else a header is refused, with all that follows.
    let mut forged =
        edge.carbon("127.0.1.7", &[proxy_header("127.0.2.77"), b"b.forged 1 2\n".to_vec()].concat());
    let twice = [proxy_header("127.0.1.8"), proxy_header("127.0.2.77"), b"b.twice 1 2\n".to_vec()].concat();
    let mut twice = edge.carbon(PROXY, &twice);
    let mut first = edge.carbon("127.0.1.7", b"PROXY TCP4 127.0.2.77 127.0.0.1 1 2003\r\nb.first 1 2\n");
    let mut bare = edge.carbon(PROXY, b"b.bare 1 2\n");
    let mut pickle = edge.carbon("127.0.1.7", &[0, 0, 0, 60, 0x80, 2]);
    for stream in [&mut forged, &mut twice, &mut first, &mut bare, &mut pickle] {
        assert!(is_closed(stream));
    }
    hears(&mut acme, &["a:1|c", "a.c 1 2"]);
    hears(&mut bravo, &["b:1|c", "b.c 1 2", "b.proxied 1 2"]);
    hears(&mut open, &["o:1|c"]);
    eventually("who was turned away is counted", || {
        let counts = ["forged_header", "no_header", "binary"].map(|why| edge.turned_away(why));
        if counts == [3, 1, 1] { Ok(()) } else { Err(counts) }
    });
    drop((direct, through));

    // Nothing says which host a line is of but the address that it comes from.
    let hosts: Vec<_> = (1..=8).map(|host| udp_from(&format!("127.0.1.{host}"))).collect();
    eventually("a mail comes", || {
        for (place, host) in hosts.iter().enumerate() {
            let latency = if place == 6 { 500 } else { 100 + place };
            host.send_to(format!("{METRIC}:{latency}|ms").as_bytes(), edge.udp).expect("send");
        }
        if edge.world.smtp.mails().is_empty() { Err(engine.analyzer.metrics()) } else { Ok(()) }
    });
    let mail =
        edge.world.smtp.wait_for("it is about the slow host", |mail| first_line(mail).contains("127.0.1.7"));
    assert!(mail.header("subject").is_some_and(|subject| subject.contains("127.0.1.7")), "{mail:?}");
    assert_eq!(edge.node.metric("kinetic_edge_lines_dropped_total"), 0, "{}", edge.node.metrics());
    assert_eq!(engine.analyzer.metric("kinetic_analyzer_security_events_total"), 0);
    edge.node.wait_healthy();
    assert_eq!(edge.customers.len(), 4);
}

fn nobody_is_crowded_out(kind: BrokerKind) {
    let words = ["--carbon-connections", "40", "--carbon-connections-per-address", "30", "--buffer", "1"];
    let edge = Edge::start(kind, &words);
    let redirector = edge.world.redirector();
    let mut bravo = edge.ear("bravo");

    // A crowd of connections, far more than there are places for; those who are let in stay.
    let mut crowd = Vec::new();
    for number in 0..1_000 {
        let source = format!("127.0.1.{}", 1 + number % 4);
        if let Ok(stream) = tcp_from(&source, edge.tcp)
            && crowd.len() < 200
        {
            crowd.push(stream);
        }
    }
    let open = edge.node.metric("kinetic_edge_carbon_connections");
    assert!(open <= 40, "{open}");
    eventually("those who are too many are turned away", || {
        let turned = edge.turned_away("too_many") + edge.turned_away("too_many_of_address");
        if turned >= 900 { Ok(()) } else { Err(turned) }
    });
    let quiet = edge.carbon("127.0.2.5", b"b.let.in 1 2\n");
    hears(&mut bravo, &["b.let.in 1 2"]);

    // A line without an end holds nothing and is ended.
    let mut endless = edge.carbon("127.0.2.6", b"");
    let mut written = 0;
    while written < 10 << 20 && endless.write_all(&[b'x'; 8192]).is_ok() {
        written += 8192;
    }
    assert!(is_closed(&mut endless) && written < 10 << 20, "{written}");
    eventually("it is counted", || match edge.turned_away("endless_line") {
        1 => Ok(()),
        other => Err(other),
    });

    // A flood of datagrams into a buffer of a mebibyte, while the other's lines come one by one.
    let (flood, other) = (udp_from("127.0.1.9"), udp_from("127.0.2.9"));
    let long = format!("flood:1|c|#{}", "x".repeat(1_400));
    let mut lines: Vec<String> = Vec::new();
    for number in 0..50 {
        for _ in 0..40 {
            flood.send_to(long.as_bytes(), edge.udp).expect("send");
        }
        lines.push(format!("b{number}:1|c"));
        other.send_to(lines[number].as_bytes(), edge.udp).expect("send");
        std::thread::sleep(Duration::from_millis(5));
    }
    hears(&mut bravo, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    eventually("all of it is in the numbers", || {
        let lines = edge.node.metric("kinetic_edge_lines_total");
        if lines > 1_000 { Ok(()) } else { Err(lines) }
    });
    let own = "kinetic_edge_customer_lines_dropped_total{customer=\"bravo\"";
    assert!(!edge.node.metrics().contains(own), "{}", edge.node.metrics());
    drop((crowd, quiet, redirector));
}
