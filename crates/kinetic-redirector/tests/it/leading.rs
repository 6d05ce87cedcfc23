//! What a leader does beside answering: nudges, witnesses, what it tells, operators' requests, and how it stops.

use std::time::Duration;

use kinetic_redirector::machine::{Effect, Input, ReplyToken, Stored};
use kinetic_wire::names::rpc;
use kinetic_wire::{
    Change, Epoch, Incarnation, LeaseReply, Locate, LocateReply, Login, MapQuestion, MapReply, Relieve,
    Relieved, RpcCode, SourceKey, Term, encode,
};
use uuid::Uuid;

use crate::harness::{GRACE, Peer, TTL, World, caller, config, map, map_in, wide_map};

const SECOND: Duration = Duration::from_secs(1);

fn world() -> World {
    World::new(config(Duration::ZERO), map("r1", &[("acme", &["web"])]))
}

fn nudge(name: &str) -> Effect {
    Effect::Nudge { caller: caller(name) }
}

#[test]
fn whoever_is_given_something_hears_of_it_at_once_and_once() {
    let (mut world, mut a, mut b) = (world(), Peer::new("a", 1), Peer::new("b", 2));
    world.register(&mut a).expect("a lease");
    world.register(&mut b).expect("a lease");
    world.beat(&mut a).expect("alive");
    assert_eq!(world.done(), [Effect::Lead(true)], "who was answered is not nudged");
    world.goodbye(&a).expect("released");
    assert_eq!(world.done(), [nudge("b")]);
    world.sleep(SECOND);
    assert_eq!(world.done(), [], "once");
    assert_eq!(world.beat(&mut b).expect("alive").grant.len(), 1);
    // Who is to let go hears of that as well.
    let question = encode(&Relieve { v: 1, node: "b".into(), undo: false });
    let mut c = Peer::new("c", 3);
    world.register(&mut c).expect("a lease");
    world.beat(&mut b).expect("alive");
    world.done();
    world.call::<Relieved>(rpc::RELIEVE, &question).expect("relieved");
    world.sleep(Duration::from_secs(60));
    assert_eq!(world.done(), [nudge("b")]);
}

#[test]
fn a_witnessed_end_cuts_the_lease_short() {
    let (mut world, mut a, mut b) = (world(), Peer::new("a", 1), Peer::new("b", 2));
    a.witness = true;
    world.register(&mut a).expect("a lease");
    world.register(&mut b).expect("a lease");
    world.beat(&mut a).expect("alive");
    assert_eq!(world.done(), [Effect::Lead(true), Effect::Watch { node: "a".into() }]);
    world.handle(Input::Witnessed { node: &"b".into() });
    assert_eq!(world.done(), [], "nobody watches b");
    world.handle(Input::Witnessed { node: &"a".into() });
    assert_eq!(world.done(), [Effect::Unwatch { node: "a".into() }, nudge("a")]);
    // It lives, and says so: all is as before.
    world.sleep(SECOND / 2);
    world.beat(&mut a).expect("alive");
    assert_eq!(world.done(), [Effect::Watch { node: "a".into() }]);
    world.sleep(SECOND * 4);
    assert_eq!(world.beat(&mut a).expect("alive").grant.len(), 1);
    // It does not.
    world.handle(Input::Witnessed { node: &"a".into() });
    world.sleep(SECOND - Duration::from_millis(1));
    assert_eq!(world.machine.stats().leases_lapsed, 0);
    world.sleep(Duration::from_millis(1));
    assert_eq!(world.machine.stats().leases_lapsed, 1);
    assert!(world.done().contains(&nudge("b")));
    assert_eq!(world.beat(&mut b).expect("alive").grant.len(), 1);
    assert_eq!(world.beat(&mut a).unwrap_err(), RpcCode::UnknownLease);
    assert_eq!(world.machine.stats().witnessed, 2);
}

#[test]
fn a_witness_that_the_node_takes_back_is_not_watched() {
    let (mut world, mut a) = (world(), Peer::new("a", 1));
    a.witness = true;
    world.register(&mut a).expect("a lease");
    a.witness = false;
    world.beat(&mut a).expect("alive");
    assert_eq!(world.done()[1..], [Effect::Watch { node: "a".into() }, Effect::Unwatch { node: "a".into() }]);
    world.handle(Input::Witnessed { node: &"a".into() });
    world.sleep(SECOND * 5);
    assert_eq!(world.machine.stats().analyzers, 1);
    // A newer process of the name queues up anew, and so do we.
    a.witness = true;
    world.beat(&mut a).expect("alive");
    let mut newer = Peer::new("a", 2);
    newer.witness = true;
    world.register(&mut newer).expect("a lease");
    let node = || "a".into();
    assert_eq!(
        world.done(),
        [Effect::Watch { node: node() }, Effect::Unwatch { node: node() }, Effect::Watch { node: node() }]
    );
}

fn listen(world: &mut World, login: &str, client: u128) -> Result<LocateReply, RpcCode> {
    let body = encode(&Locate {
        v: 1,
        client: Incarnation(Uuid::from_u128(client)),
        origin: None,
        profile: None,
        data_types: Vec::new(),
        have_epoch: None,
        listen: true,
    });
    let token = world.send_from(&caller(&format!("{login} {client}")), rpc::LOCATE, Some(login), &body);
    world.answer(token)
}

#[test]
fn clients_that_listen_hear_when_their_answer_changes() {
    let customers: [(&str, &[&str]); 2] = [("acme", &["web"]), ("zoo", &["web"])];
    let mut world = World::new(config(Duration::ZERO), map("r1", &customers));
    for (login, client) in [("acme.k1", 1), ("acme.k1", 2), ("zoo.k1", 3), ("acme.k2", 4)] {
        listen(&mut world, login, client).expect("an answer");
    }
    listen(&mut world, "acme.k1", 1).expect("the same client again");
    world.done();
    world.handle(Input::MapChanged { map: map("r2", &[("acme", &["web", "db"]), ("zoo", &["web"])]).into() });
    assert_eq!(world.done(), [], "a new source moves no client");
    world.handle(Input::MapChanged { map: map_in("r3", "us", &customers).into() });
    assert_eq!(world.done(), [nudge("acme.k1 1"), nudge("acme.k1 2"), nudge("acme.k2 4")]);
    assert_eq!(world.machine.stats().listeners, 4);
    // Who does not ask again is forgotten.
    world.sleep(Duration::from_secs(599));
    listen(&mut world, "acme.k1", 2).expect("an answer");
    world.sleep(SECOND);
    world.done();
    world.handle(Input::MapChanged { map: map("r4", &customers).into() });
    assert_eq!(world.done(), [nudge("acme.k1 2")]);
}

#[test]
fn a_standby_nudges_its_listeners_too() {
    let mut world =
        World::standing_by(config(Duration::ZERO), map("r1", &[("acme", &["web"])]), Stored::default());
    listen(&mut world, "acme.k1", 1).expect("an answer");
    world.handle(Input::MapChanged { map: map_in("r2", "us", &[("acme", &["web"])]).into() });
    assert_eq!(world.done(), [nudge("acme.k1 1")]);
}

#[test]
fn operators_relieve_and_look_and_customers_do_not() {
    let (mut world, mut a, mut b) =
        (World::new(config(Duration::ZERO), wide_map(12)), Peer::new("a", 1), Peer::new("b", 2));
    let relieve = |node: &str, undo| encode(&Relieve { v: 1, node: node.into(), undo });
    assert_eq!(world.call::<Relieved>(rpc::RELIEVE, &relieve("a", false)).unwrap_err(), RpcCode::UnknownNode);
    world.register(&mut a).expect("a lease");
    world.beat(&mut a).expect("alive");
    for kind in [rpc::RELIEVE, rpc::MAP] {
        let token = world.send(kind, Some("acme.k1"), &relieve("a", false));
        assert_eq!(world.answer::<Relieved>(token).unwrap_err(), RpcCode::Unauthenticated);
    }
    let told = world.call::<Relieved>(rpc::RELIEVE, &relieve("a", false)).expect("relieved");
    assert_eq!(told.remaining, 12);
    world.register(&mut b).expect("a lease");
    for _ in 0..400 {
        world.sleep(SECOND * 5);
        world.beat(&mut a).expect("alive");
        world.beat(&mut b).expect("alive");
    }
    assert_eq!((a.holds.len(), b.holds.len()), (0, 12));
    let page: MapReply =
        world.call(rpc::MAP, &encode(&MapQuestion { v: 1, ..MapQuestion::default() })).expect("a page");
    assert!(page.analyzers[0].relieved && page.analyzers[0].draining && !page.analyzers[1].draining);
    assert_eq!(page.moves.len(), 12);
    let told = world.call::<Relieved>(rpc::RELIEVE, &relieve("a", true)).expect("reinstated");
    assert_eq!(told.remaining, 0);
    world.goodbye(&b).expect("released");
    world.beat(&mut a).expect("alive");
    assert_eq!(a.holds.len(), 12);
}

#[test]
fn what_an_operator_has_relieved_stays_so_under_another_leader() {
    let (mut world, mut a, mut b) =
        (World::new(config(Duration::ZERO), wide_map(4)), Peer::new("a", 1), Peer::new("b", 2));
    let relieve = |undo| encode(&Relieve { v: 1, node: "a".into(), undo });
    let is_relieved = |world: &mut World| {
        let page: MapReply =
            world.call(rpc::MAP, &encode(&MapQuestion { v: 1, ..MapQuestion::default() })).expect("a page");
        page.analyzers[0].relieved
    };
    world.register(&mut a).expect("a lease");
    world.register(&mut b).expect("a lease");
    world.beat(&mut a).expect("alive");
    world.sleep(SECOND);
    world.done();
    world.call::<Relieved>(rpc::RELIEVE, &relieve(false)).expect("relieved");
    assert!(world.done().contains(&nudge("a")), "it hears of it at once");
    world.beat(&mut a).expect("alive");
    world.restart(wide_map(4));
    assert_eq!(world.machine.stats().term, Term(2));
    let older = a.clone();
    world.register(&mut a).expect("a lease");
    assert!(is_relieved(&mut world), "the new leader has it from the analyzer alone");
    assert_eq!(a.relieved, Some(Term(2)));
    world.sleep(SECOND);
    world.done();
    world.call::<Relieved>(rpc::RELIEVE, &relieve(true)).expect("reinstated");
    assert!(world.done().contains(&nudge("a")), "and of this");
    for mut late in [older, a.clone()] {
        world.register(&mut late).expect("the same lease");
        assert!(!is_relieved(&mut world), "what was taken back here is not believed again");
    }
    world.beat(&mut a).expect("alive");
    world.restart(wide_map(4));
    world.register(&mut a).expect("a lease");
    assert!(!is_relieved(&mut world));
}

#[test]
fn the_map_comes_in_pages() {
    let (mut world, mut a) = (World::new(config(Duration::ZERO), wide_map(12)), Peer::new("a", 1));
    world.register(&mut a).expect("a lease");
    let mut after = None;
    let mut sources: Vec<SourceKey> = Vec::new();
    for count in [5, 5, 2] {
        let question = MapQuestion { v: 1, after: after.clone(), limit: Some(5) };
        let page: MapReply = world.call(rpc::MAP, &encode(&question)).expect("a page");
        assert_eq!((page.leader.as_str(), page.term, page.sources.len()), ("r1", Term(1), count));
        assert_eq!(page.analyzers.len(), usize::from(after.is_none()), "on the first page");
        assert!(page.map_epoch > Epoch(0) && page.routes.len() == 32);
        sources.extend(page.sources.into_iter().map(|source| source.source));
        after = page.next;
    }
    assert_eq!(after, None);
    assert!(sources.len() == 12 && sources.is_sorted());
}

#[test]
fn a_leader_is_never_silent_and_tells_what_changed() {
    let (mut world, mut a) = (world(), Peer::new("a", 1));
    let first = world.told.len();
    assert_eq!(first, 1, "at once");
    world.register(&mut a).expect("a lease");
    let mut last = world.now.mono;
    for _ in 0..100 {
        let due = world.machine.next_wakeup().expect("the next message");
        world.sleep(due.since(world.now.mono));
        if world.told.len() > first {
            assert!(world.now.mono.since(last) <= SECOND);
            last = world.now.mono;
        }
    }
    let numbers: Vec<u64> = world.told.iter().map(|told| told.seq).collect();
    assert_eq!(numbers, Vec::from_iter(1..=numbers.len() as u64));
    let changes: Vec<&Change> = world.told.iter().flat_map(|told| &told.changes).collect();
    assert!(
        changes.iter().any(|change| matches!(change, Change::Analyzer(state) if state.node.as_str() == "a"))
    );
    assert!(changes.iter().any(|change| matches!(change, Change::Source(state) if state.owner.is_some())));
    assert!(changes.iter().any(|change| matches!(change, Change::AnalyzerGone(_))), "its lease has lapsed");
}

#[test]
fn a_busy_redirector_says_so() {
    let (mut world, a) = (world(), Peer::new("a", 1));
    let login = Login::new("kinetic");
    let (mut leases, mut locates) = (Vec::new(), Vec::new());
    for n in 0..50 {
        let token = ReplyToken(1_000_000 + 2 * n);
        let body = a.register_body();
        let input = Input::Request {
            token,
            kind: rpc::REGISTER,
            login: Some(&login),
            caller: None,
            waiting: 200,
            body: &body,
        };
        world.handle(input);
        leases.push(world.answer::<LeaseReply>(token.0).expect("a lease"));
        let token = ReplyToken(token.0 + 1);
        let (login, body) = (Login::new("acme.k1"), crate::harness::locate_body());
        let input = Input::Request {
            token,
            kind: rpc::LOCATE,
            login: Some(&login),
            caller: None,
            waiting: 200,
            body: &body,
        };
        world.handle(input);
        locates.push(world.answer::<LocateReply>(token.0).expect("an answer"));
    }
    assert!(
        leases.iter().all(|reply| reply.backoff_ms <= reply.ttl_ms / 5),
        "never so long that its owner stops"
    );
    assert!(leases.iter().any(|reply| reply.backoff_ms > 500));
    assert!(locates.iter().all(|reply| (1..=30).contains(&reply.backoff_s)));
    assert!(locates.iter().all(|reply| (216..=240).contains(&reply.refresh_s)));
    assert!(locates.iter().any(|reply| reply.refresh_s != locates[0].refresh_s), "spread");
    let quiet = world.locate(Some("acme.k1")).expect("an answer");
    assert_eq!(quiet.backoff_s, 0);
}

#[test]
fn the_listen_period_counts_from_when_owners_can_be_heard() {
    let listen = TTL * 11 / 10 + GRACE;
    let disk = Stored { term: Term(4), epoch_max: Epoch(9) };
    let mut world = World::after(config(listen), map("r1", &[("acme", &["web"])]), disk);
    world.sleep(listen - SECOND);
    world.handle(Input::Serving);
    world.sleep(SECOND * 2);
    let mut a = Peer::new("a", 1);
    assert_eq!(world.register(&mut a).expect("a lease").grant, [], "another may still speak up");
    world.sleep(listen - SECOND * 3);
    world.beat(&mut a).expect("alive");
    assert!(world.machine.stats().listening);
    world.sleep(SECOND);
    assert_eq!(world.beat(&mut a).expect("alive").grant.len(), 1);
    world.handle(Input::Serving);
    assert!(!world.machine.stats().listening, "what has ended does not begin again");
}

/// Two analyzers with a source each, and a leader that nobody's words reach any more.
fn deaf() -> (World, [Peer; 2]) {
    let mut world = World::new(config(Duration::ZERO), map("r1", &[("acme", &["web", "db"])]));
    let mut peers = [Peer::new("a", 1), Peer::new("b", 2)];
    for peer in &mut peers {
        world.register(peer).expect("a lease");
    }
    for peer in &mut peers {
        world.beat(peer).expect("alive");
    }
    world.done();
    world.handle(Input::Deaf);
    (world, peers)
}

#[test]
fn who_cannot_hear_lets_no_lease_lapse() {
    let (mut world, mut peers) = deaf();
    world.sleep(SECOND * 2);
    world.handle(Input::Deaf);
    world.sleep(SECOND / 2);
    world.handle(Input::Serving);
    assert_eq!(world.machine.stats().deafened, 0);
    // What was left of the leases when it became deaf is left of them now.
    let lapses = world.machine.next_wakeup();
    world.sleep(TTL + GRACE - SECOND);
    assert_eq!((world.machine.stats().leases_lapsed, world.machine.stats().analyzers), (0, 2), "{lapses:?}");
    world.beat(&mut peers[0]).expect("alive");
    world.sleep(TTL / 10 + SECOND * 3);
    assert_eq!(world.machine.stats().leases_lapsed, 1, "they end as ever");
}

#[test]
fn who_stays_deaf_gives_the_lead_up_and_judges_nobody() {
    let (mut world, mut peers) = deaf();
    assert!(world.machine.next_wakeup().expect("something is due") <= world.now.mono + SECOND * 3);
    world.sleep(SECOND * 3 - Duration::from_millis(1));
    assert_eq!(world.done(), []);
    world.sleep(Duration::from_millis(1));
    assert_eq!(world.done(), [Effect::Lead(false)]);
    let stats = world.machine.stats();
    assert_eq!((stats.leading, stats.deafened, stats.leases_lapsed, stats.moves), (false, 1, 0, 0));
    world.handle(Input::Deaf);
    world.sleep(SECOND * 60);
    assert_eq!((world.done(), world.machine.stats().deafened), (Vec::new(), 1), "once");
    // Nobody else was there: the token comes back, and what analyzers hold is adopted.
    world.elect();
    assert!(world.machine.stats().listening);
    for peer in &mut peers {
        let held = peer.sources();
        assert_eq!(world.register(peer).expect("a lease").grant.len(), held.len());
    }
    assert_eq!((world.machine.stats().adopted, world.machine.stats().moves), (2, 0));
}

#[test]
fn a_leader_that_is_deposed_stops_at_once() {
    let (mut world, mut a) = (world(), Peer::new("a", 1));
    a.witness = true;
    world.register(&mut a).expect("a lease");
    world.stalled = Some(Vec::new());
    let claim = a.clone().holding(&SourceKey::new("acme", "web"), 5000);
    let parked = world.send(rpc::REGISTER, Some("kinetic"), &claim.register_body());
    let version = world.locate(Some("acme.k1")).expect("an answer").epoch;
    world.done();
    world.handle(Input::Deposed);
    assert_eq!(world.done(), [Effect::Unwatch { node: "a".into() }, Effect::Lead(false)]);
    world.disk_back();
    assert!(!world.replies.contains_key(&parked), "the next leader answers that");
    assert_eq!(world.beat(&mut a).unwrap_err(), RpcCode::NotLeader);
    assert_eq!(world.locate(Some("acme.k1")).expect("still").epoch, version);
    let told = world.told.len();
    world.sleep(TTL + GRACE);
    assert_eq!((world.told.len(), world.machine.stats().leases_lapsed), (told, 0));
    world.handle(Input::Deposed);
    assert_eq!(world.done(), [], "said once");
    // Elected again, it knows who owned what, and listens before it gives anything away.
    world.elect();
    let mut b = Peer::new("b", 3);
    assert_eq!(world.register(&mut b).expect("a lease").grant, [], "a may still be at it");
    let held = a.clone();
    let reply = world.register(&mut a).expect("a lease");
    assert_eq!(reply.term, Term(2));
    assert_eq!(a.sources(), held.sources(), "it goes on with what it holds");
    assert_eq!(world.machine.stats().moves, 0);
}

/// A broker that takes no token for a while: who is elected waits for it, and is not woken meanwhile for the page of the former
/// leader's map that it was about to ask for.
#[test]
fn who_waits_for_its_term_to_be_stored_is_not_woken() {
    let mut leader = world();
    leader.sleep(SECOND);
    let mut said = leader.told.pop().expect("it says that it leads");
    said.leader = "other".into();
    let mut world = World::standing_by(config(Duration::ZERO), map("r1", &[]), Stored::default());
    world.handle(Input::Told { body: &encode(&said) });
    world.handle(Input::MapPage { body: None });
    assert!(world.machine.next_wakeup().is_some(), "it asks again");
    world.stalled = Some(Vec::new());
    world.elect();
    assert_eq!(world.machine.next_wakeup(), None);
}
