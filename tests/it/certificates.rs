//! Client certificates instead of keys, and TLS to the broker for everybody: who is let in, who is not, and that certificates
//! are renewed while their holders publish.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use kinetic_amqp::{Address, AmqpError, Outcome};
use kinetic_tests::amqp::{Client, log_in, queue_depth};
use kinetic_tests::certs::{Authority, Issued};
use kinetic_tests::process::Launch;
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{HOSTS, METRIC, SLOW_HOST, envelope, line};
use kinetic_tests::{BrokerKind, World, eventually};
use kinetic_wire::{Envelope, names};

use crate::common::is_about;

on_both_brokers!(a_certificate_is_a_login, Python);
on_both_brokers!(certificates_are_renewed_under_load);

fn a_certificate_is_a_login(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch { metric: METRIC, ..Watch::default() }]);
    let world = World::start_over_tls(kind, std::slice::from_ref(&acme));
    let out = world.dir().join("certificates");
    let own = world.authority().issue("acme", "host-7", &out);
    world.certify(&acme, &own);
    let engine = world.engine();
    let agent = world.agent_by(&own, "agent");
    agent.node.wait_healthy();
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let send = |is_slow: bool| {
        for host in HOSTS {
            udp.send_to(line(host, is_slow).as_bytes(), agent.udp).expect("send");
        }
    };
    eventually("healthy windows are judged", || {
        send(false);
        let judged = engine.analyzer.metric("kinetic_analyzer_judged_total");
        if judged >= 2 { Ok(()) } else { Err((engine.analyzer.metrics(), agent.node.process.log())) }
    });
    eventually("a mail comes", || {
        send(true);
        if world.smtp.mails().is_empty() { Err(engine.analyzer.metrics()) } else { Ok(()) }
    });
    world.smtp.wait_for("the mail is about the slow host", |mail| is_about(mail, SLOW_HOST));
    nobody_else_is_let_in(&world, &own, &out);
    only_new_tls_is_spoken(&world);
    world.revoke(&acme, &own);
    agent.node.wait_failing("agent");
    let error = log_in(&world.certified_address(&own)).expect_err("revoked");
    assert!(matches!(error, AmqpError::LoginRefused { .. }), "{error}");
}

/// Who is in nobody's schema, or cannot prove who he is.
fn nobody_else_is_let_in(world: &World, own: &Issued, out: &Path) {
    log_in(&world.certified_address(own)).expect("its own is let in");
    let stranger = world.authority().issue("acme", "stranger", out);
    let error = log_in(&world.certified_address(&stranger)).expect_err("nobody's");
    assert!(matches!(error, AmqpError::LoginRefused { .. }), "{error}");
    let other = Authority::init(&world.dir().join("other-ca"));
    let forged = other.issue("acme", "host-7", &out.join("forged"));
    assert_eq!(forged.login, own.login);
    let expired = world.authority().issue_expired(&own.login, &out.join("expired"));
    for refused in [&forged, &expired] {
        // What is good for a second may be shown within it.
        eventually("TLS refuses it", || match log_in(&world.certified_address(refused)) {
            Err(AmqpError::Tls { .. }) => Ok(()),
            other => Err(other),
        });
    }
    // Nor do we trust a broker for whom another authority vouches.
    let misled = Address { ca_file: Some(other.file()), ..world.certified_address(own) };
    let error = log_in(&misled).expect_err("somebody else's broker");
    assert!(matches!(error, AmqpError::Tls { .. }), "{error}");
}

fn only_new_tls_is_spoken(world: &World) {
    let offered = |version: &str| {
        let script = "openssl s_client -connect \"$1\" -CAfile \"$2\" -verify_return_error \"$3\" \
                      -cipher DEFAULT@SECLEVEL=0 </dev/null";
        let words =
            ["-c", script, "sh", &world.amqp().to_string(), &text_of(&world.authority().file()), version];
        Launch::new("/bin/sh").args(words).output()
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let said = offered(version);
        assert!(said.status.success(), "{version}: {said:?}");
    }
    for version in ["-tls1", "-tls1_1"] {
        let said = offered(version);
        assert!(!said.status.success(), "{version}: {said:?}");
    }
}

fn certificates_are_renewed_under_load(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start_over_tls(kind, std::slice::from_ref(&acme));
    let out = world.dir().join("certificates");
    let first = world.authority().issue("acme", "web-1", &out);
    let second = world.authority().issue("acme", "web-1-2", &out);
    let third = world.authority().issue("acme", "web-1-3", &out);
    world.certify(&acme, &first);
    let _redirector = world.redirector();
    // Where the holder keeps what he has now; his program knows nothing else.
    let place = world.authority().issue("acme", "place", &world.dir().join("place"));
    first.replaces(&place);
    let client = Client::start(Address { login: first.login.clone(), ..world.certified_address(&place) });
    let ended = AtomicBool::new(false);
    let published = std::thread::scope(|scope| {
        let publish = || {
            let mut count: u32 = 0;
            while !ended.load(Ordering::Relaxed) {
                let envelope = Envelope { user_id: Some(first.login.as_str().into()), ..envelope() };
                let ingress = names::ingress_exchange(&"acme".into());
                let outcome = client.try_publish(&ingress, "web", &envelope, b"x:1|c");
                assert!(matches!(outcome, Ok(Outcome::Confirmed)), "publish {count}: {outcome:?}");
                count += 1;
            }
            count
        };
        let publishing: Vec<_> = (0..8).map(|_| scope.spawn(publish)).collect();
        let mut old = &first;
        for new in [&second, &third] {
            world.certify(&acme, new);
            new.replaces(&place);
            eventually("the publisher has gone over", || match client.login() {
                Some(login) if login == new.login => Ok(()),
                other => Err(other),
            });
            world.revoke(&acme, old);
            old = new;
        }
        ended.store(true, Ordering::Relaxed);
        publishing
            .into_iter()
            .map(|one| one.join().expect("every publish was confirmed at once"))
            .sum::<u32>()
    });
    let queue = "src.acme.web".to_owned();
    eventually("all that was confirmed is there, once", || {
        match queue_depth(&world.region_address(), &queue) {
            Some(depth) if depth.messages == published => Ok(()),
            other => Err((other, published)),
        }
    });
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
