//! Both redirectors are killed at once, and the leading one cannot hear its analyzers any more: who analyses goes on, nothing
//! moves, and no window is judged twice or left out.

use kinetic_tests::proxy::Proxy;
use kinetic_tests::schema::Queues;
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, eventually};
use kinetic_wire::{Epoch, names};

use crate::stage::{RULES, Stage};

on_both_brokers!(both_are_killed_and_come_back);
on_both_brokers!(a_leader_is_deaf_for_a_moment);
on_both_brokers!(a_leader_that_stays_deaf_is_followed_by_another);

/// Lease and grace, milliseconds, where nobody is there to give a source back to an analyzer that a busy machine has kept from
/// answering a probe (a fifth of the lease) in time.
const LEASE: [u64; 2] = [5_000, 500];
/// With the grace hardly longer than a leader has patience with its own deafness: without that, leases would lapse.
const DEAF_LEASE: [u64; 2] = [3_000, 500];

/// Who owns what, and under which epoch at most.
fn placed(stage: &Stage) -> ([String; RULES.len()], Epoch) {
    (RULES.map(|(source, ..)| stage.owner(source)), stage.highest_epoch())
}

/// Waits until one of the redirectors leads, knows both analyzers with what they hold, and gives things away again if there
/// is a need, while the other has the whole map; the leader is put first.
fn one_leads(redirectors: &mut [&mut Node; 2]) {
    let numbers = |node: &Node| {
        ["leading", "listening", "copy_whole", "analyzers", "sources_owned", "sources_moving"]
            .map(|name| node.metric(&format!("kinetic_redirector_{name}")))
    };
    let first = eventually("one leads, the other has the whole map", || {
        let seen = redirectors.each_ref().map(|node| numbers(node));
        let place = seen.iter().position(|seen| seen[0] == 1).ok_or(seen)?;
        let (leader, standby) = (seen[place], seen[1 - place]);
        let is_so = leader[1] == 0 && leader[3..] == [2, 2, 0] && standby[0] == 0 && standby[2] == 1;
        if is_so { Ok(place) } else { Err(seen) }
    });
    redirectors.rotate_left(first);
}

/// Leader and standby are killed within a moment of each other and stay away for longer than the lease. Analyzers have no lease
/// any more and go on. Started again, both know the term and the epochs, and adopt what they find.
fn both_are_killed_and_come_back(kind: BrokerKind) {
    let mut stage = Stage::start_with(kind, Queues::Classic, LEASE);
    let mut second = stage.world.redirector_with("second", LEASE);
    let streams = stage.streams();
    one_leads(&mut [&mut stage.redirector, &mut second]);
    stage.wait_shared();
    stage.verdicts("one", 2);
    stage.verdicts("three", 2);
    let before = placed(&stage);
    let term = stage.redirector.metric("kinetic_redirector_term");
    stage.redirector.process.kill();
    second.process.kill();
    eventually("nobody has a lease, and everybody goes on", || {
        let degraded: Vec<u64> =
            stage.analyzers.iter().map(|(_, node)| node.metric("kinetic_analyzer_degraded")).collect();
        if degraded == [1, 1] { Ok(()) } else { Err(degraded) }
    });
    stage.verdicts("one", 2);
    stage.verdicts("three", 2);
    stage.redirector = stage.world.redirector_with("redirector", LEASE);
    let mut second = stage.world.redirector_with("second", LEASE);
    let mut both = [&mut stage.redirector, &mut second];
    one_leads(&mut both);
    let [moves, granted] =
        ["moves_total", "grants_total"].map(|name| both[0].metric(&format!("kinetic_redirector_{name}")));
    assert_eq!((moves, granted), (0, 0), "{}", both[0].metrics());
    assert!(both[0].metric("kinetic_redirector_term") > term, "{}", both[0].metrics());
    stage.verdicts("one", 2);
    stage.verdicts("three", 2);
    assert_eq!(placed(&stage), before, "nothing has moved, nothing was granted anew");
    let fenced: Vec<u64> =
        stage.analyzers.iter().map(|(_, node)| node.metric("kinetic_analyzer_fenced_total")).collect();
    assert_eq!(fenced, [0, 0]);
    stage.lose_the_owner_of("one");
    stage.finish(streams);
}

/// A stage whose leader reaches the broker through a proxy, and a standby that does not.
fn behind_a_proxy(kind: BrokerKind) -> (Stage, Proxy, Node) {
    let mut proxy = None;
    let mut stage = Stage::empty_under(kind, Queues::Classic, |world| {
        let proxy = proxy.insert(Proxy::start(&[world.amqp()]));
        world.redirector_at(proxy.address(), "redirector", DEAF_LEASE)
    })
    .with_two();
    let mut second = stage.world.redirector_with("second", DEAF_LEASE);
    one_leads(&mut [&mut stage.redirector, &mut second]);
    assert_eq!(stage.redirector.metric("kinetic_redirector_leading"), 1, "it was there first");
    (stage, proxy.expect("just started"), second)
}

/// Heartbeats that a redirector has been delivered.
fn heartbeats(node: &Node) -> u64 {
    let value =
        kinetic_tests::http::sample(&node.metrics(), "kinetic_redirector_requests_total{kind=\"heartbeat\"}");
    format!("{:.0}", value.unwrap_or(0.0)).parse().expect("a count")
}

/// The connection on which the leader is delivered what analyzers say ends, and only this one. It is back within a moment, and the
/// leader goes on under the same term, unless the machine is so busy that it has given the lead up by then.
fn a_leader_is_deaf_for_a_moment(kind: BrokerKind) {
    let (mut stage, proxy, mut second) = behind_a_proxy(kind);
    let streams = stage.streams();
    stage.wait_shared();
    stage.verdicts("one", 2);
    stage.verdicts("three", 2);
    let before = placed(&stage);
    let [term, moves] =
        ["term", "moves_total"].map(|name| stage.redirector.metric(&format!("kinetic_redirector_{name}")));
    for _ in 0..2 {
        proxy.cut_consumers_of(names::RPC_QUEUE);
        proxy.heal();
        let heard = || heartbeats(&stage.redirector) + heartbeats(&second);
        let goal = heard() + 4;
        eventually("heartbeats come again", || if heard() >= goal { Ok(()) } else { Err((heard(), goal)) });
    }
    one_leads(&mut [&mut stage.redirector, &mut second]);
    let given_up = stage.redirector.metric("kinetic_redirector_deafened_total");
    let leader = if second.metric("kinetic_redirector_leading") == 1 { &second } else { &stage.redirector };
    assert!(leader.metric("kinetic_redirector_term") <= term + given_up, "{}", leader.metrics());
    unmoved(&stage, leader, (before, moves));
    stage.finish(streams);
}

/// The same, but it cannot be delivered anything for as long as the story lasts, while all its other connections stand: it gives
/// the lead up, so that somebody who can hear takes it.
fn a_leader_that_stays_deaf_is_followed_by_another(kind: BrokerKind) {
    let (mut stage, proxy, mut second) = behind_a_proxy(kind);
    let streams = stage.streams();
    stage.wait_shared();
    stage.verdicts("one", 2);
    stage.verdicts("three", 2);
    let before = placed(&stage);
    proxy.cut_consumers_of(names::RPC_QUEUE);
    eventually("the other one follows", || match second.metric("kinetic_redirector_leading") {
        1 => Ok(()),
        _ => Err(stage.redirector.metrics()),
    });
    one_leads(&mut [&mut stage.redirector, &mut second]);
    assert_eq!(stage.redirector.metric("kinetic_redirector_deafened_total"), 1);
    assert_eq!(
        stage.redirector.metric("kinetic_redirector_leases_lapsed_total"),
        0,
        "who is deaf judges nobody"
    );
    unmoved(&stage, &second, (before, 0));
    std::mem::swap(&mut stage.redirector, &mut second);
    stage.lose_the_owner_of("one");
    stage.finish(streams);
}

/// No more has moved than before, no lease has lapsed, and analyzers have gone on.
fn unmoved(stage: &Stage, leader: &Node, (before, moves): (([String; RULES.len()], Epoch), u64)) {
    stage.verdicts("one", 2);
    stage.verdicts("three", 2);
    assert_eq!(placed(stage), before, "nothing has moved, nothing was granted anew");
    let totals = ["moves", "leases_lapsed"];
    let totals = totals.map(|name| leader.metric(&format!("kinetic_redirector_{name}_total")));
    assert!(totals[0] <= moves && totals[1] == 0, "{}", leader.metrics());
    for (name, node) in &stage.analyzers {
        assert_eq!(node.metric("kinetic_analyzer_fenced_total"), 0, "{name}");
    }
}
