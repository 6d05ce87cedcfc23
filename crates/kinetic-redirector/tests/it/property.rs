//! Seeded worlds: analyzers that keep the protocol, a network that loses and delays, a disk that stalls, and a
//! redirector that restarts. Two of them never hold one source at a time, and epochs grow.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_redirector::machine::{Input, Map, RedirectorConfig};
use kinetic_wire::names::rpc;
use kinetic_wire::{Epoch, Incarnation, LeaseReply, Mono, RpcCode, SourceKey};
use proptest::prelude::*;

use crate::harness::{GRACE, Peer, TTL, World, config, map, map_in};

const NODES: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    Step(u64),
    Send(usize, bool),
    Receive(usize),
    GiveUp(usize),
    Settle(usize),
    Crash(usize),
    Drain(usize),
    Goodbye(usize),
    Map(usize),
    Restart,
    Stall,
    DiskBack,
    Replay(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let node = || 0..NODES;
    prop_oneof![
        8 => (10_u64..6_000).prop_map(Op::Step),
        12 => (node(), prop::bool::weighted(0.9)).prop_map(|(node, arrives)| Op::Send(node, arrives)),
        12 => node().prop_map(Op::Receive),
        2 => node().prop_map(Op::GiveUp),
        6 => node().prop_map(Op::Settle),
        1 => node().prop_map(Op::Crash),
        1 => node().prop_map(Op::Drain),
        1 => node().prop_map(Op::Goodbye),
        2 => (0_usize..4).prop_map(Op::Map),
        1 => Just(Op::Restart),
        1 => Just(Op::Stall),
        2 => Just(Op::DiskBack),
        2 => node().prop_map(Op::Replay),
    ]
}

/// Moves are not held back, so that there are many.
fn hasty(listen: Duration) -> RedirectorConfig {
    let mut config = config(listen);
    config.placing.budget.percent = 100;
    config.placing.dwell = Duration::from_secs(1);
    config
}

fn maps(which: usize) -> Map {
    match which {
        0 => map("r0", &[("acme", &["a", "b", "c", "d", "e"]), ("zoo", &["x"])]),
        1 => map("r1", &[("acme", &["a", "b", "c"])]),
        2 => map("r2", &[("acme", &["a", "b", "c", "d", "e", "f", "g"]), ("zoo", &["x", "y"])]),
        _ => map_in("r3", "us", &[("acme", &["a", "b", "c", "d", "e"]), ("zoo", &["x"])]),
    }
}

/// An analyzer that keeps the rules of `docs/wire.md`.
struct Analyzer {
    peer: Peer,
    /// Told to let go, still settling: held all the same.
    letting_go: BTreeMap<SourceKey, Epoch>,
    /// A request that is out: its token and when it was sent.
    out: Option<(u64, Mono)>,
    registered: bool,
    /// It stops by itself then.
    fence: Mono,
    gone: bool,
    draining: bool,
    last_body: Option<Vec<u8>>,
}

impl Analyzer {
    fn new(node: usize, life: u128) -> Self {
        Self {
            peer: Peer::new(&format!("n{node}"), life),
            letting_go: BTreeMap::new(),
            out: None,
            registered: false,
            fence: Mono(0),
            gone: false,
            draining: false,
            last_body: None,
        }
    }

    fn stop(&mut self) {
        self.peer.holds.clear();
        self.letting_go.clear();
    }

    /// The request that it would send now. What it is letting go it still holds, and has not evacuated.
    fn request(&mut self) -> (&'static str, Vec<u8>) {
        let (own, evacuated) = (self.peer.holds.clone(), self.peer.evacuated.clone());
        self.peer.holds.extend(self.letting_go.clone());
        self.peer.evacuated.retain(|said| !self.letting_go.contains_key(&said.source));
        let request = if self.registered {
            (rpc::HEARTBEAT, self.peer.heartbeat_body())
        } else {
            (rpc::REGISTER, self.peer.register_body())
        };
        (self.peer.holds, self.peer.evacuated) = (own, evacuated);
        request
    }

    fn obey(&mut self, sent: Mono, now: Mono, reply: &LeaseReply) {
        let fence = sent + Duration::from_millis(reply.ttl_ms * 4 / 5);
        if now >= fence {
            return; // Too old to believe.
        }
        self.fence = fence;
        self.registered = true;
        let before = std::mem::take(&mut self.peer.holds);
        self.peer.obey(reply);
        for (source, epoch) in before {
            if !self.peer.holds.contains_key(&source) {
                self.letting_go.insert(source, epoch);
            }
        }
        self.letting_go.retain(|source, _| !self.peer.holds.contains_key(source));
    }
}

struct Sim {
    world: World,
    nodes: Vec<Analyzer>,
    lives: u128,
    map: usize,
    /// Highest epoch ever taken up of each source, and by which process.
    epochs: BTreeMap<SourceKey, (Epoch, Incarnation)>,
}

impl Sim {
    fn new(listen: Duration) -> Self {
        let nodes = (0..NODES).map(|node| Analyzer::new(node, node as u128 + 1)).collect();
        let world = World::new(hasty(listen), maps(0));
        Self { world, nodes, lives: NODES as u128, map: 0, epochs: BTreeMap::new() }
    }

    fn receive(&mut self, index: usize) {
        let now = self.world.now.mono;
        let node = &mut self.nodes[index];
        let Some((token, sent)) = node.out else {
            return;
        };
        if !self.world.replies.contains_key(&token) {
            return;
        }
        node.out = None;
        match self.world.answer::<LeaseReply>(token) {
            Ok(reply) => {
                node.obey(sent, now, &reply);
                for (source, epoch) in &node.peer.holds {
                    let inc = node.peer.inc;
                    let last = self.epochs.entry(source.clone()).or_insert((*epoch, inc));
                    assert!(
                        *epoch > last.0 || (*epoch == last.0 && inc == last.1),
                        "{source}: {epoch:?} of {inc} after {last:?}"
                    );
                    *last = (*epoch, inc);
                }
            }
            Err(RpcCode::UnknownLease) => node.registered = false,
            Err(RpcCode::Superseded) => node.stop(),
            Err(_) => {}
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Step(ms) => {
                self.world.now = self.world.now + Duration::from_millis(ms);
                self.fence();
                self.world.handle(Input::Tick);
            }
            Op::Send(index, arrives) => {
                let node = &mut self.nodes[index];
                if node.out.is_some() || node.gone {
                    return;
                }
                let (kind, body) = node.request();
                let sent = self.world.now.mono;
                let token = if arrives { self.world.send(kind, Some("kinetic"), &body) } else { 0 };
                node.last_body = (kind == rpc::HEARTBEAT).then_some(body);
                node.out = Some((token, sent));
            }
            Op::Receive(index) => self.receive(index),
            Op::GiveUp(index) => self.nodes[index].out = None,
            Op::Settle(index) => self.nodes[index].letting_go.clear(),
            Op::Crash(index) => {
                self.lives += 1;
                self.nodes[index] = Analyzer::new(index, self.lives);
            }
            Op::Drain(index) if self.nodes[index].registered && self.nodes[index].out.is_none() => {
                self.nodes[index].draining = true;
                self.world.drain(&self.nodes[index].peer.clone()).ok();
            }
            Op::Goodbye(index) if self.nodes[index].registered && self.nodes[index].out.is_none() => {
                self.nodes[index].stop();
                self.nodes[index].gone = true;
                self.world.goodbye(&self.nodes[index].peer.clone()).ok();
            }
            Op::Drain(_) | Op::Goodbye(_) => {}
            Op::Map(which) => {
                self.map = which;
                self.world.handle(Input::MapChanged { map: maps(which).into() });
            }
            Op::Restart => self.world.restart(maps(self.map)),
            Op::Stall => {
                self.world.stalled.get_or_insert_default();
            }
            Op::DiskBack => self.world.disk_back(),
            Op::Replay(index) => {
                if let Some(body) = self.nodes[index].last_body.clone() {
                    self.world.send(rpc::HEARTBEAT, Some("kinetic"), &body);
                }
            }
        }
    }

    fn fence(&mut self) {
        let now = self.world.now.mono;
        for node in self.nodes.iter_mut().filter(|node| now >= node.fence) {
            node.stop();
        }
    }

    fn check(&self) {
        let mut holders: BTreeMap<&SourceKey, &str> = BTreeMap::new();
        for node in &self.nodes {
            for source in node.peer.holds.keys().chain(node.letting_go.keys()) {
                let other = holders.insert(source, &node.peer.name);
                assert!(other.is_none(), "{source} is held by {other:?} and {}", node.peer.name);
            }
        }
        let view = self.world.machine.view();
        for source in &view.sources {
            if let Some(owner) = &source.owner {
                assert!(view.analyzers.iter().any(|analyzer| analyzer.node == owner.node), "owners live");
            }
        }
        let stats = self.world.machine.stats();
        assert_eq!(stats.sources_owned + stats.sources_unowned, view.sources.len());
    }

    /// A quiet world: everybody speaks in turn and is heard. Returns the moves made meanwhile.
    fn quiet(&mut self, rounds: usize) -> u64 {
        let before = self.world.machine.stats().moves;
        for _ in 0..rounds {
            for index in 0..NODES {
                self.apply(Op::GiveUp(index));
                self.apply(Op::Send(index, true));
                self.apply(Op::Receive(index));
                self.apply(Op::Settle(index));
                self.check();
            }
            self.apply(Op::Step(3_000));
        }
        self.world.machine.stats().moves - before
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn one_holder_at_a_time_and_growing_epochs(ops in prop::collection::vec(op(), 1..250)) {
        let listen = TTL * 11 / 10 + GRACE;
        let mut sim = Sim::new(listen);
        for op in ops {
            sim.apply(op);
            sim.check();
        }
        sim.world.disk_back();
        for index in 0..NODES {
            if sim.nodes[index].gone || sim.nodes[index].draining {
                sim.apply(Op::Crash(index));
            }
        }
        sim.quiet(24);
        let stats = sim.world.machine.stats();
        prop_assert_eq!(stats.sources_unowned, 0, "everything has an owner again");
        prop_assert_eq!(sim.quiet(8), 0, "and then nothing moves");
    }
}
