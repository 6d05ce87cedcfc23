//! What happens when: one story per test.

use std::time::Duration;

use kinetic_redirector::machine::{HOLDS_MAX, Input, MapBuilder, REQUEST_BYTES_MAX, Stored};
use kinetic_wire::names::rpc;
use kinetic_wire::{DataType, Epoch, LeaseReply, RpcCode, Serves, SourceKey, Term, Wall, encode};

use crate::harness::{GRACE, Peer, TTL, World, config, map, map_in, wide_map};

const SECOND: Duration = Duration::from_secs(1);

fn web() -> SourceKey {
    SourceKey::new("acme", "web")
}

fn world() -> World {
    World::new(config(Duration::ZERO), map("r1", &[("acme", &["web"])]))
}

#[test]
fn a_registration_is_answered_with_a_lease_and_its_sources() {
    let (mut world, mut a) = (world(), Peer::new("a", 1));
    let reply = world.register(&mut a).expect("a lease");
    assert_eq!(reply.term, Term(1));
    assert!((15_000..=16_500).contains(&reply.ttl_ms), "{}", reply.ttl_ms);
    assert_eq!(reply.heartbeat_ms, reply.ttl_ms / 3);
    assert_eq!((reply.backoff_ms, reply.now_ms), (0, Wall(1_795_000_000_000_000_000).as_ms()));
    assert_eq!(reply.grant.len(), 1);
    assert_eq!((&reply.grant[0].source, reply.grant[0].region.as_str()), (&web(), "eu"));
    assert!(reply.grant[0].epoch > Epoch(0) && reply.revoke.is_empty());
    let again = world.beat(&mut a).expect("renewed");
    assert_eq!((again.lease, again.grant), (reply.lease, reply.grant));
}

#[test]
fn a_lapsed_lease_moves_its_sources_at_the_deadline_and_not_before() {
    let (mut world, mut a, mut b) = (world(), Peer::new("a", 1), Peer::new("b", 2));
    let first = world.register(&mut a).expect("a lease");
    let ttl = Duration::from_millis(first.ttl_ms);
    world.register(&mut b).expect("a lease");
    world.sleep(ttl + GRACE - SECOND);
    assert_eq!(world.beat(&mut b).expect("alive").grant, [], "a may still be at it");
    assert!(world.machine.next_wakeup().is_some_and(|at| at <= world.now.mono + SECOND));
    world.sleep(SECOND);
    let second = world.beat(&mut b).expect("alive");
    assert_eq!(second.grant[0].source, web());
    assert!(second.grant[0].epoch > first.grant[0].epoch);
    assert_eq!(world.beat(&mut a).unwrap_err(), RpcCode::UnknownLease);
    let back = world.register(&mut a).expect("a new lease");
    assert_eq!((back.grant, back.revoke), (vec![], vec![web()]));
    let stats = world.machine.stats();
    assert_eq!((stats.leases_lapsed, stats.moves, stats.sources_owned), (1, 1, 1));
}

#[test]
fn a_drained_source_is_given_on_only_when_it_is_let_go() {
    let (mut world, mut a, mut b) = (world(), Peer::new("a", 1), Peer::new("b", 2));
    let first = world.register(&mut a).expect("a lease");
    world.register(&mut b).expect("a lease");
    let held = a.holds.clone();
    let reply = world.drain(&a).expect("a lease");
    assert_eq!((reply.grant, reply.revoke), (vec![], vec![web()]));
    assert_eq!(world.beat(&mut b).expect("alive").grant, [], "a still holds it");
    let still = world.beat(&mut a).expect("alive");
    assert_eq!(still.revoke, [web()]);
    a.holds = held;
    world.beat(&mut a).expect("it takes a while to settle");
    assert_eq!(world.beat(&mut b).expect("alive").grant, []);
    a.holds.clear();
    assert_eq!(world.beat(&mut a).expect("alive").grant, [], "no new grants while it drains");
    let next = world.beat(&mut b).expect("alive");
    assert!(next.grant[0].epoch > first.grant[0].epoch);
    assert_eq!(world.goodbye(&a).expect("released").released, []);
}

#[test]
fn goodbye_frees_at_once() {
    let (mut world, mut a, mut b) = (world(), Peer::new("a", 1), Peer::new("b", 2));
    world.register(&mut a).expect("a lease");
    world.register(&mut b).expect("a lease");
    assert_eq!(world.goodbye(&a).expect("released").released, [web()]);
    assert_eq!(world.beat(&mut b).expect("alive").grant.len(), 1);
    assert_eq!(world.goodbye(&a).unwrap_err(), RpcCode::UnknownLease);
}

#[test]
fn a_newer_process_of_a_node_displaces_the_older() {
    let (mut world, mut old, mut new) = (world(), Peer::new("a", 1), Peer::new("a", 2));
    let first = world.register(&mut old).expect("a lease");
    let second = world.register(&mut new).expect("a lease");
    assert_ne!(first.lease, second.lease);
    assert!(second.grant[0].epoch > first.grant[0].epoch, "its epoch fences the older");
    assert_eq!(world.beat(&mut old).unwrap_err(), RpcCode::Superseded);
    assert_eq!(world.register(&mut old).unwrap_err(), RpcCode::Superseded);
    assert_eq!(world.drain(&old).unwrap_err(), RpcCode::Superseded);
    assert_eq!(world.goodbye(&old).unwrap_err(), RpcCode::Superseded);
    assert_eq!(world.beat(&mut new).expect("alive").grant, second.grant);
    let stats = world.machine.stats();
    assert_eq!((stats.leases_superseded, stats.moves), (1, 0));
}

#[test]
fn a_replayed_heartbeat_renews_nothing() {
    let (mut world, mut a) = (world(), Peer::new("a", 1));
    world.register(&mut a).expect("a lease");
    let body = a.heartbeat_body();
    world.call::<LeaseReply>(rpc::HEARTBEAT, &body).expect("alive");
    let lapses = world.machine.view().analyzers[0].lapses;
    world.sleep(SECOND);
    assert_eq!(world.call::<LeaseReply>(rpc::HEARTBEAT, &body).unwrap_err(), RpcCode::Replayed);
    a.seq = 0;
    assert_eq!(world.beat(&mut a).unwrap_err(), RpcCode::Replayed, "a lower one too");
    assert_eq!(world.machine.view().analyzers[0].lapses, lapses);
}

#[test]
fn a_lost_answer_does_no_harm() {
    let (mut world, mut a) = (world(), Peer::new("a", 1));
    world.register(&mut a).expect("a lease");
    a.holds.clear(); // The grant was never read: the next answer has it again.
    assert_eq!(world.beat(&mut a).expect("alive").grant.len(), 1);
    let lease = a.lease;
    assert_eq!(world.register(&mut a).expect("again").lease, lease, "the same process, the same lease");
}

/// The listen period passes, and everybody lives.
fn listened(world: &mut World, peers: &mut [Peer]) {
    for _ in 0..2 {
        world.sleep((TTL * 11 / 10 + GRACE) / 2);
        for peer in &mut *peers {
            world.beat(peer).expect("alive");
        }
    }
}

#[test]
fn a_restart_adopts_what_owners_hold_and_moves_nothing() {
    let listen = TTL * 11 / 10 + GRACE;
    let disk = Stored { term: Term(0), epoch_max: Epoch(7) };
    let mut world = World::after(config(listen), wide_map(12), Stored { term: Term(1), ..disk });
    let mut peers = [Peer::new("a", 1), Peer::new("b", 2), Peer::new("c", 3)];
    for peer in &mut peers {
        assert_eq!(world.register(peer).expect("a lease").grant, [], "nothing is placed while listening");
    }
    listened(&mut world, &mut peers);
    let before: Vec<_> = peers.iter().map(|peer| peer.holds.clone()).collect();
    assert_eq!(before.iter().map(|holds| holds.len()).sum::<usize>(), 12);
    world.restart(wide_map(12));
    for peer in &mut peers {
        assert_eq!(world.beat(peer).unwrap_err(), RpcCode::UnknownLease);
        assert_eq!(world.register(peer).expect("a lease").term, Term(3));
    }
    listened(&mut world, &mut peers);
    let after: Vec<_> = peers.iter().map(|peer| peer.holds.clone()).collect();
    assert_eq!(before, after, "same owners, same epochs");
    let stats = world.machine.stats();
    assert_eq!((stats.adopted, stats.moves, stats.grants), (12, 0, 0));
}

#[test]
fn of_two_claims_the_higher_epoch_wins_and_new_epochs_are_above_both() {
    let listen = TTL * 11 / 10 + GRACE;
    let disk = Stored { term: Term(3), epoch_max: Epoch(1000) };
    let mut world = World::after(config(listen), map("r1", &[("acme", &["web"])]), disk);
    let mut a = Peer::new("a", 1).holding(&web(), 5);
    let mut b = Peer::new("b", 2).holding(&web(), 7);
    assert_eq!(world.register(&mut a).expect("a lease").grant[0].epoch, Epoch(5));
    let reply = world.register(&mut b).expect("a lease");
    assert_eq!((reply.term, reply.grant[0].epoch), (Term(4), Epoch(7)));
    a = a.holding(&web(), 5);
    let reply = world.beat(&mut a).expect("alive");
    assert_eq!((reply.grant, reply.revoke), (vec![], vec![web()]));
    world.goodbye(&b).expect("released");
    world.sleep(listen - GRACE); // a lives on, and the listen period ends
    world.beat(&mut a).expect("alive");
    world.sleep(GRACE);
    assert!(world.beat(&mut a).expect("alive").grant[0].epoch > Epoch(1000));
}

#[test]
fn epochs_stay_above_claims_even_when_the_disk_was_lost() {
    let mut world = world();
    let (mut a, mut b) = (Peer::new("a", 1), Peer::new("b", 2).holding(&web(), 7_000_000));
    world.register(&mut a).expect("a lease");
    let reply = world.register(&mut b).expect("a lease");
    assert_eq!(reply.revoke, [web()]);
    assert!(world.beat(&mut a).expect("alive").grant[0].epoch > Epoch(7_000_000));
    let mut mad = Peer::new("c", 3).holding(&web(), u64::MAX);
    world.register(&mut mad).expect("a lease");
    assert_eq!(world.machine.stats().claims_incredible, 1);
    assert!(world.beat(&mut a).expect("alive").grant[0].epoch < Epoch(8_000_000));
}

#[test]
fn nothing_is_announced_before_it_is_stored() {
    let (mut world, a) = (world(), Peer::new("a", 1).holding(&web(), 5000));
    world.stalled = Some(Vec::new());
    let first = world.send(rpc::REGISTER, Some("kinetic"), &a.register_body());
    assert!(world.replies.is_empty(), "epochs above what it claims are not stored yet");
    let second = world.send(rpc::REGISTER, Some("kinetic"), &a.register_body());
    assert_eq!(world.answer::<LeaseReply>(first).unwrap_err(), RpcCode::Replayed, "given up by its sender");
    world.disk_back();
    assert_eq!(world.answer::<LeaseReply>(second).expect("a lease").grant.len(), 1);
    assert_eq!(world.machine.stats().replies_parked, 0);
    // A restart never repeats an epoch, whatever was in flight.
    world.stalled = Some(Vec::new());
    let granted = world.answer::<LeaseReply>(second).expect("a lease").grant[0].epoch;
    world.restart(map("r1", &[("acme", &["web"])]));
    assert!(world.stalled.as_ref().is_some_and(|writes| writes.len() == 1));
    assert_eq!(world.register(&mut Peer::new("b", 4)).unwrap_err(), RpcCode::NotLeader, "no term stored");
    world.disk_back();
    let mut b = Peer::new("b", 4);
    world.register(&mut b).expect("a lease");
    assert!(b.holds[&web()] > granted);
}

#[test]
fn locate_has_an_answer_before_anybody_has_ever_led() {
    let mut world =
        World::standing_by(config(Duration::ZERO), map("r1", &[("acme", &["web"])]), Stored::default());
    assert_eq!(world.locate(Some("acme.k1")).expect("an answer").epoch, Epoch(0));
    world.handle(Input::MapChanged { map: map_in("r2", "us", &[("acme", &["web"])]).into() });
    assert_eq!(
        world.locate(Some("acme.k1")).expect("an answer").region.as_str(),
        "us",
        "nothing better known"
    );
    assert_eq!(world.register(&mut Peer::new("a", 1)).unwrap_err(), RpcCode::NotLeader);
    world.stalled = Some(Vec::new());
    world.elect();
    assert_eq!(world.locate(Some("acme.k1")).expect("an answer").epoch, Epoch(0), "not stored yet");
    world.disk_back();
    let first = world.locate(Some("acme.k1")).expect("an answer").epoch;
    assert!(first > Epoch(0));
    // Other answers need another version, and wait until it is stored.
    world.stalled = Some(Vec::new());
    let disk = Stored { term: Term(1), epoch_max: Epoch(90_000) };
    world.handle(Input::Elected { stored: disk });
    world.handle(Input::MapChanged { map: map("r3", &[("acme", &["web"])]).into() });
    let still = world.locate(Some("acme.k1")).expect("an answer");
    assert_eq!((still.region.as_str(), still.epoch), ("us", first));
    world.disk_back();
    let then = world.locate(Some("acme.k1")).expect("an answer");
    assert!(then.region.as_str() == "eu" && then.epoch > Epoch(90_000));
}

#[test]
fn a_full_table_refuses_and_says_so() {
    let mut world = world();
    for i in 0..8 {
        world.register(&mut Peer::new(&format!("a{i}"), 1)).expect("a lease");
    }
    assert_eq!(world.register(&mut Peer::new("b", 1)).unwrap_err(), RpcCode::Overload);
    world.register(&mut Peer::new("a3", 2)).expect("a newer process needs no new place");
    assert_eq!(world.machine.stats().refusals[&RpcCode::Overload], 1);
}

#[test]
fn a_new_analyzer_takes_only_what_is_beyond_the_bound() {
    let mut config = config(Duration::ZERO);
    config.placing.budget.percent = 100;
    let mut world = World::new(config, wide_map(40));
    let (mut a, mut b) = (Peer::new("a", 1), Peer::new("b", 2));
    assert_eq!(world.register(&mut a).expect("a lease").grant.len(), 40);
    world.register(&mut b).expect("a lease");
    let told = world.beat(&mut a).expect("alive");
    assert_eq!((told.grant.len(), told.revoke.len()), (25, 15), "1.25 of half of forty");
    assert_eq!(world.beat(&mut b).expect("alive").grant, [], "a still said that it holds them");
    world.beat(&mut a).expect("let go");
    assert_eq!(world.beat(&mut b).expect("alive").grant.len(), 15);
    for _ in 0..3 {
        assert_eq!(world.beat(&mut a).expect("alive").revoke, []);
        assert_eq!(world.beat(&mut b).expect("alive").revoke, []);
    }
    assert_eq!(world.machine.stats().moves, 15);
}

#[test]
fn a_schema_revision_adds_removes_and_moves_sources() {
    let (mut world, mut a) = (world(), Peer::new("a", 1));
    let first = world.register(&mut a).expect("a lease").grant[0].epoch;
    let epoch = world.locate(Some("acme.k1")).expect("an answer").epoch;
    let customers: &[(&str, &[&str])] = &[("acme", &["db", "web"]), ("other", &["web"])];
    world.handle(Input::MapChanged { map: map("r2", customers).into() });
    assert_eq!(world.beat(&mut a).expect("alive").grant.len(), 3);
    let later = world.locate(Some("other.k")).expect("an answer").epoch;
    assert!(later > epoch);

    world.handle(Input::MapChanged { map: map_in("r3", "us", customers).into() });
    assert_eq!(world.locate(Some("acme.k1")).expect("an answer").endpoints[0].vhost, "us");
    let told = world.beat(&mut a).expect("alive");
    assert_eq!((told.grant.len(), told.moving.len()), (3, 2), "their queues are elsewhere now");
    assert_eq!(a.sources(), ["web"], "of the customer that has not moved");
    let back = world.beat(&mut a).expect("alive").grant;
    let web = back.iter().find(|grant| grant.source == web()).expect("granted again");
    assert!(web.region.as_str() == "us" && web.epoch > first);

    world.handle(Input::MapChanged { map: map("r4", &[("acme", &["web"])]).into() });
    world.beat(&mut a).expect("alive");
    world.beat(&mut a).expect("alive");
    world.beat(&mut a).expect("alive");
    assert_eq!(a.sources(), ["web"]);
    assert_eq!(world.machine.view().sources.len(), 1, "what is gone is forgotten");
    assert_eq!(world.locate(Some("other.k")).unwrap_err(), RpcCode::UnknownCustomer);
}

#[test]
fn the_map_version_grows_only_when_an_answer_can_differ() {
    let mut world = world();
    let first = world.locate(Some("acme.k1")).expect("an answer").epoch;
    world.handle(Input::MapChanged { map: map("r2", &[("acme", &["web", "db"])]).into() });
    assert_eq!(
        world.locate(Some("acme.k1")).expect("an answer").epoch,
        first,
        "a new source moves no client"
    );
    world.restart(map("r2", &[("acme", &["web"])]));
    assert!(world.locate(Some("acme.k1")).expect("an answer").epoch > first, "and never goes back");
}

#[test]
fn locate_knows_the_customer_from_the_login_alone() {
    let mut world = world();
    let reply = world.locate(Some("acme.2026-a")).expect("an answer");
    insta::assert_json_snapshot!(reply, { ".epoch" => "[epoch]", ".refresh_s" => "[refresh_s]" }, @r#"
    {
      "ok": true,
      "customer": "acme",
      "region": "eu",
      "endpoints": [
        {
          "uri": "amqp://eu.example:5672",
          "vhost": "eu",
          "exchange": "in.acme",
          "priority": 0
        }
      ],
      "epoch": "[epoch]",
      "ttl_s": 300,
      "refresh_s": "[refresh_s]",
      "stale_ok_s": 86400,
      "backoff_s": 0,
      "limits": {
        "message_bytes": 1048576,
        "batch_ms": 1000
      },
      "now_ms": 1795000000000
    }
    "#);
    assert_eq!(world.locate(None).unwrap_err(), RpcCode::Unauthenticated);
    let mut odd = MapBuilder::new("r2", 0);
    odd.customer(&"acme".into(), &"eu".into(), false).source("web", DataType::Statsd, 1, 0);
    odd.customer(&"a\"b".into(), &"eu".into(), false);
    odd.customer(&"off".into(), &"eu".into(), true);
    world.handle(Input::MapChanged { map: odd.build().into() });
    assert_eq!(world.locate(Some("off.k")).unwrap_err(), RpcCode::Disabled);
    assert_eq!(world.locate(Some("acme.k")).expect("an answer").endpoints, []);
    assert_eq!(world.locate(Some("a\"b.k")).unwrap_err(), RpcCode::UnknownCustomer);
    assert_eq!(world.locate(Some("nobody.k")).unwrap_err(), RpcCode::UnknownCustomer);
}

#[test]
fn a_customer_cannot_play_analyzer() {
    let mut world = world();
    let body = Peer::new("evil", 1).register_body();
    for (login, expect) in [(Some("acme.k1"), RpcCode::Unauthenticated), (None, RpcCode::Unauthenticated)] {
        let token = world.send(rpc::REGISTER, login, &body);
        assert_eq!(world.answer::<LeaseReply>(token).unwrap_err(), expect);
    }
    assert_eq!(world.machine.stats().analyzers, 0);
}

#[test]
fn what_an_analyzer_cannot_serve_it_is_not_given() {
    let (mut world, mut a, mut b) = (world(), Peer::new("a", 1), Peer::new("b", 2));
    a.serves = Serves { regions: vec!["us".into()], ..Serves::default() };
    assert_eq!(world.register(&mut a).expect("a lease").grant, []);
    assert_eq!(world.machine.stats().sources_unowned, 1);
    b.serves = Serves { data_types: vec![DataType::Statsd, DataType::Influx], ..Serves::default() };
    assert_eq!(world.register(&mut b).expect("a lease").grant.len(), 1);
    b.serves = Serves { customers: vec!["other".into()], ..Serves::default() };
    let told = world.call::<LeaseReply>(rpc::REGISTER, &b.register_body()).expect("the same lease");
    assert_eq!((told.grant, told.revoke), (vec![], vec![web()]), "it says that it no longer can");
}

#[test]
fn hostile_bodies_are_refused() {
    let mut world = world();
    let check = |world: &mut World, kind: &str, body: &[u8], expect| {
        assert_eq!(world.call::<LeaseReply>(kind, body).unwrap_err(), expect, "{kind}");
    };
    for kind in [rpc::REGISTER, rpc::HEARTBEAT, rpc::DRAIN, rpc::GOODBYE, rpc::LOCATE] {
        for body in [&b""[..], b"{", b"null", b"[]", b"{}", b"\xff\xfe", b"{\"v\":1}", b"{\"v\":-1}"] {
            check(&mut world, kind, body, RpcCode::Malformed);
        }
        check(&mut world, kind, b"{\"v\":2,\"new\":true}", RpcCode::Version);
        check(&mut world, kind, &vec![b' '; REQUEST_BYTES_MAX + 1], RpcCode::Malformed);
        check(&mut world, kind, &[b'['; 100_000], RpcCode::Malformed);
    }
    check(&mut world, "sudo", b"{}", RpcCode::Malformed);
    check(&mut world, rpc::REGISTER, &Peer::new("", 1).register_body(), RpcCode::Malformed);
    check(&mut world, rpc::REGISTER, &Peer::new("a\r\nb", 1).register_body(), RpcCode::Malformed);
    check(&mut world, rpc::REGISTER, &Peer::new(&"x".repeat(256), 1).register_body(), RpcCode::Malformed);
    let mut greedy = Peer::new("a", 1);
    for i in 0..=HOLDS_MAX {
        greedy = greedy.holding(&SourceKey::new("acme", &i.to_string()), 1);
    }
    check(&mut world, rpc::REGISTER, &greedy.register_body(), RpcCode::Malformed);
    let mut version = serde_json::to_value(serde_json::json!({})).expect("json");
    version["v"] = 9.into();
    check(&mut world, rpc::GOODBYE, &encode(&version), RpcCode::Version);
    assert_eq!(world.machine.stats().requests["unknown"], 1);
    assert_eq!(world.machine.stats().analyzers, 0);
}

#[test]
fn the_view_shows_owners_and_who_is_on_the_way_out() {
    let (mut world, mut a) = (world(), Peer::new("a", 1));
    world.register(&mut a).expect("a lease");
    world.beat(&mut a).expect("alive");
    world.drain(&a).expect("a lease");
    let view = world.machine.view();
    assert_eq!((view.term, view.listening, view.revision.as_str()), (Term(1), false, "r1"));
    assert!(view.analyzers[0].draining && view.analyzers[0].owned == 1);
    let owner = view.sources[0].owner.as_ref().expect("an owner");
    assert!(owner.held && owner.leaving && owner.node.as_str() == "a");
}

#[test]
fn a_claim_does_not_stop_a_move() {
    let (mut world, mut a) = (world(), Peer::new("a", 1));
    world.register(&mut a).expect("a lease");
    world.drain(&a).expect("a lease");
    a = a.holding(&web(), 900);
    assert_eq!(world.beat(&mut a).expect("alive").grant, [], "whatever it says, it is to let go");
    world.beat(&mut a).expect("let go");
    let mut b = Peer::new("b", 2);
    assert!(world.register(&mut b).expect("a lease").grant[0].epoch > Epoch(900));
}
