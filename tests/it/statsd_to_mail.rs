//! The straight line: statsd lines to two agents, one over UDP and one over a Unix socket, become one e-mail about the
//! slow host.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use kinetic_tests::schema::{Customer, RECIPIENT, Watch};
use kinetic_tests::smtp::Mail;
use kinetic_tests::traffic::{HOSTS, METRIC, SLOW_HOST, latency, line};
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::{first_line, is_about, only_mails_about};

on_both_brokers!(statsd_lines_become_one_mail);

fn statsd_lines_become_one_mail(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch { metric: METRIC, ..Watch::default() }]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let engine = world.engine();
    // The healthy hosts share an agent and name themselves in a tag; the slow one has an agent of its own, which knows
    // the host's name, and talks to it over a Unix socket.
    let shared = world.agent(&acme, "agent-shared", &[]);
    let path = world.dir().join("statsd.sock");
    let socket_path = path.to_string_lossy().into_owned();
    let own = world.agent(&acme, "agent-slow", &["--unixgram", &socket_path, "--origin", SLOW_HOST]);
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let unix = UnixDatagram::unbound().expect("a socket");
    let send = |is_slow: bool| {
        for host in HOSTS.iter().filter(|host| **host != SLOW_HOST) {
            udp.send_to(line(host, false).as_bytes(), shared.udp).expect("send");
        }
        let slow = format!("{METRIC}:{}|ms", latency(SLOW_HOST, is_slow));
        unix.send_to(slow.as_bytes(), &path).expect("send");
    };
    eventually("healthy windows are judged", || {
        send(false);
        let judged = engine.analyzer.metric("kinetic_analyzer_judged_total");
        if judged >= 2 { Ok(()) } else { Err(engine.analyzer.metrics()) }
    });
    assert!(world.smtp.mails().is_empty(), "healthy hosts stay quiet: {:?}", world.smtp.mails());
    eventually("a mail comes", || {
        send(true);
        if world.smtp.mails().is_empty() { Err(engine.analyzer.metrics()) } else { Ok(()) }
    });
    let mail = world.smtp.wait_for("the mail is about the slow host", |mail| is_about(mail, SLOW_HOST));
    as_a_person_reads_it(&mail);
    only_mails_about(&world.smtp, SLOW_HOST, 1);
    assert_eq!(own.node.metric("kinetic_agent_lines_dropped_total"), 0, "{}", own.node.metrics());
}

fn as_a_person_reads_it(mail: &Mail) {
    assert_eq!(mail.to, [RECIPIENT]);
    let line = first_line(mail);
    for words in [SLOW_HOST, "web/hosts", METRIC, "standard deviations above"] {
        assert!(line.contains(words), "{words} is not in: {line}");
    }
    assert!(mail.part("text/html").contains(SLOW_HOST));
    assert!(mail.header("subject").is_some_and(|subject| subject.contains(SLOW_HOST)), "{mail:?}");
    assert_eq!(mail.header("auto-submitted"), Some("auto-generated"));
    assert_eq!(mail.header("to"), Some(RECIPIENT));
    assert!(mail.header("message-id").is_some_and(|id| id.ends_with("@kinetic.example>")), "{mail:?}");
    assert!(mail.header("date").is_some_and(|date| date.ends_with("+0000")), "{mail:?}");
}
