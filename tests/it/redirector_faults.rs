//! Redirectors that are gone, or have forgotten everything: who analyses goes on, who publishes goes on, nothing moves.

use std::time::Duration;

use kinetic_tests::needs::say;
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{HOSTS, SLOW_HOST, line};
use kinetic_tests::world::{Engine, SHORT_LEASE};
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::is_about;
use crate::stage::Stage;

/// Lease and grace, milliseconds, where nobody is there to give a source back to an analyzer that a busy machine has kept from
/// answering a probe (a fifth of the lease) in time.
const PATIENT_LEASE: [u64; 2] = [8_000, 500];

on_both_brokers!(the_data_plane_outlives_every_redirector);
on_both_brokers!(a_redirector_that_forgot_everything_moves_nothing);
on_both_brokers!(a_standby_leads_and_moves_nothing);

/// No redirector for longer than lease and grace: the owner goes on, mail comes, the agent publishes.
fn the_data_plane_outlives_every_redirector(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let redirector = world.redirector_with("redirector", PATIENT_LEASE);
    let mut engine = Engine { alert: world.alert(), analyzer: world.analyzer("analyzer"), redirector };
    let agent = world.agent(&acme, "agent", &[]);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
    let say = |is_slow: bool| {
        HOSTS.iter().for_each(|host| {
            socket.send_to(line(host, is_slow).as_bytes(), agent.udp).expect("send");
        });
        std::thread::sleep(Duration::from_millis(50));
    };
    eventually("the agent publishes and the analyzer judges", || {
        say(false);
        match engine.analyzer.metric("kinetic_analyzer_judged_total") {
            0 => Err("nothing yet"),
            _ => Ok(()),
        }
    });
    engine.redirector.process.kill();
    eventually("the owner's lease has lapsed, and it goes on", || {
        say(false);
        match engine.analyzer.metric("kinetic_analyzer_degraded") {
            1 => Ok(()),
            _ => Err("not yet"),
        }
    });
    let judged = engine.analyzer.metric("kinetic_analyzer_judged_total");
    eventually("windows are judged", || {
        say(false);
        let now = engine.analyzer.metric("kinetic_analyzer_judged_total");
        if now > judged + 3 { Ok(()) } else { Err((now, judged)) }
    });
    eventually("a mail comes that has begun without a redirector", || {
        say(true);
        if world.smtp.inbox().iter().any(|mail| is_about(mail, SLOW_HOST)) { Ok(()) } else { Err("none") }
    });
    assert_eq!(agent.node.metric("kinetic_agent_datagrams_dropped_total"), 0);
    assert_eq!(engine.analyzer.metric("kinetic_analyzer_fenced_total"), 0);
}

/// The redirector is killed, its data directory is removed, and it starts again: everybody keeps what he has, and epochs go
/// on where they were.
fn a_redirector_that_forgot_everything_moves_nothing(kind: BrokerKind) {
    let mut stage = Stage::start(kind);
    let streams = stage.streams();
    stage.wait_shared();
    stage.verdicts("one", 2);
    stage.verdicts("three", 2);
    let owners = ["one", "three"].map(|source| stage.owner(source));
    let before = stage.highest_epoch();
    stage.redirector.process.kill();
    std::fs::remove_dir_all(stage.world.dir().join("redirector")).expect("it had a data directory");
    stage.redirector = stage.world.redirector_with("redirector", SHORT_LEASE);
    eventually("both analyzers are known again, with what they hold", || {
        let known = stage.redirector.metric("kinetic_redirector_analyzers");
        let owned = stage.redirector.metric("kinetic_redirector_sources_owned");
        if (known, owned) == (2, 2) { Ok(()) } else { Err((known, owned)) }
    });
    std::thread::sleep(Duration::from_millis(SHORT_LEASE[0] + SHORT_LEASE[1]));
    stage.verdicts("one", 3);
    assert_eq!(["one", "three"].map(|source| stage.owner(source)), owners, "nothing has moved");
    assert_eq!(stage.redirector.metric("kinetic_redirector_moves_total"), 0);
    assert_eq!(stage.highest_epoch(), before, "nothing was granted anew");
    stage.lose_the_owner_of("one");
    stage.finish(streams);
}

/// Two redirectors. The leader is killed: clients are answered all the time, the standby leads, nothing moves; it knows all
/// that the dead one knew. Who was killed comes back and stands by.
fn a_standby_leads_and_moves_nothing(kind: BrokerKind) {
    let mut stage = Stage::start(kind);
    let mut second = stage.world.redirector_with("second", SHORT_LEASE);
    eventually("one leads, the other has the whole map", || {
        let leads = [&stage.redirector, &second].map(|node| node.metric("kinetic_redirector_leading"));
        let whole = second.metric("kinetic_redirector_copy_whole");
        if (leads, whole) == ([1, 0], 1) { Ok(()) } else { Err((leads, whole)) }
    });
    let streams = stage.streams();
    stage.wait_shared();
    stage.verdicts("one", 2);
    stage.verdicts("three", 2);
    let (owners, before) = (["one", "three"].map(|source| stage.owner(source)), stage.highest_epoch());
    let killed = stage.redirector.process.kill();
    let mut answered = 0;
    let led = eventually("the standby leads", || {
        let answer = stage.world.locate(&stage.acme);
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        answered += 1;
        if second.metric("kinetic_redirector_leading") == 1 { Ok(killed.elapsed()) } else { Err(answered) }
    });
    say(&format!(
        "a_standby_leads_and_moves_nothing: leads after {led:?}; {answered} clients were answered meanwhile"
    ));
    std::mem::swap(&mut stage.redirector, &mut second);
    eventually("both analyzers have found it", || {
        let known = stage.redirector.metric("kinetic_redirector_analyzers");
        let owned = stage.redirector.metric("kinetic_redirector_sources_owned");
        if (known, owned) == (2, 2) { Ok(()) } else { Err((known, owned)) }
    });
    let second = stage.world.redirector_with("redirector", SHORT_LEASE);
    eventually("who was killed stands by with the whole map", || {
        match second.metric("kinetic_redirector_copy_whole") {
            1 => Ok(()),
            _ => Err(second.metrics()),
        }
    });
    assert_eq!(second.metric("kinetic_redirector_leading"), 0);
    assert_eq!(["one", "three"].map(|source| stage.owner(source)), owners, "nothing has moved");
    assert_eq!(stage.redirector.metric("kinetic_redirector_moves_total"), 0);
    assert_eq!(stage.highest_epoch(), before, "nothing was granted anew");
    stage.lose_the_owner_of("one");
    stage.finish(streams);
}
