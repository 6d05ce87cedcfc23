//! Placing a million sources among a thousand analyzers, and again what one of them had.
//! `cargo bench -p kinetic-redirector --bench placement`; memory: `kinetic bench redirector`.

use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use kinetic_redirector::machine::{
    Effect, Input, Map, MapBuilder, PlacingConfig, Redirector, RedirectorConfig, ReplyToken, Stored,
};
use kinetic_wire::names::rpc;
use kinetic_wire::{
    DataType, Goodbye, Incarnation, LeaseId, LeaseReply, Limits, Login, Mono, NodeId, Now, RegionName, Wall,
    decode, encode,
};
use uuid::Uuid;

fn main() {
    divan::main();
}

const SIZES: [(usize, usize); 2] = [(10_000, 10), (1_000_000, 1_000)];
const NOW: Now = Now { mono: Mono(1), wall: Wall(1_795_000_000_000_000_000) };

/// Customers with one source each.
fn map(customers: usize) -> Arc<Map> {
    let (mut map, region) = (MapBuilder::new("r1", 1), RegionName::new("us-west.aws"));
    map.expect(customers, customers);
    for customer in 0..customers {
        map.customer(&format!("customer-{customer:07}").as_str().into(), &region, false);
        map.source("web", DataType::Statsd, 1, 0);
    }
    Arc::new(map.build())
}

/// A leader with analyzers, before any source is placed: its map is empty until `place`.
struct Leader {
    machine: Redirector,
    analyzers: Vec<(NodeId, Incarnation, LeaseId)>,
    tokens: u64,
}

impl Leader {
    fn new(analyzers: usize) -> Self {
        let config = RedirectorConfig {
            node: "r1".into(),
            ttl: Duration::from_secs(15),
            grace: Duration::from_secs(5),
            listen: Duration::ZERO,
            analyzers_max: analyzers,
            locate_ttl: Duration::from_secs(300),
            limits: Limits { message_bytes: 1 << 20, batch_ms: 1000 },
            seed: 1,
            placing: PlacingConfig::default(),
        };
        let machine = Redirector::new(config, Arc::default(), Stored::default());
        let mut leader = Self { machine, analyzers: Vec::new(), tokens: 0 };
        leader.handle(Input::Elected { stored: Stored::default() });
        for number in 0..analyzers {
            let node = NodeId::new(&format!("analyzer-{number:04}"));
            let inc = Incarnation(Uuid::from_u128(number as u128 + 1));
            let body = encode(&serde_json::json!({
                "v": 1, "node": node, "inc": inc, "capacity": 100, "generation": 1, "zone": format!("zone-{}", number % 3),
            }));
            let reply: LeaseReply = decode(&leader.ask(rpc::REGISTER, &body)).expect("a lease");
            leader.analyzers.push((node, inc, reply.lease));
        }
        leader
    }

    /// The schema comes, and every step of placing is done.
    fn place(&mut self, map: Arc<Map>) {
        self.handle(Input::MapChanged { map });
        self.settle();
    }

    /// An analyzer goes.
    fn lose(&mut self, index: usize) {
        let (node, inc, lease) = self.analyzers[index].clone();
        self.ask(rpc::GOODBYE, &encode(&Goodbye { v: 1, lease, node, inc }));
        self.settle();
    }

    /// Ticks until there is nothing more to do at once.
    fn settle(&mut self) {
        while self.machine.next_wakeup().is_some_and(|at| at <= NOW.mono) {
            self.handle(Input::Tick);
        }
        assert_eq!(self.machine.stats().sources_unowned, 0);
    }

    fn ask(&mut self, kind: &str, body: &[u8]) -> Vec<u8> {
        self.tokens += 1;
        let (token, login) = (ReplyToken(self.tokens), Login::new("kinetic"));
        self.handle(Input::Request { token, kind, login: Some(&login), caller: None, waiting: 0, body })
            .expect("an answer")
    }

    /// Gives the machine an input; its store confirms at once. The answer, if there is one.
    fn handle(&mut self, input: Input<'_>) -> Option<Vec<u8>> {
        let (mut effects, mut answer) = (Vec::new(), None);
        self.machine.handle(NOW, input, &mut effects);
        while let Some(effect) = effects.pop() {
            match effect {
                Effect::Store { stored } => self.machine.handle(NOW, Input::Stored { stored }, &mut effects),
                Effect::Reply { body, .. } => answer = Some(body),
                _ => {}
            }
        }
        answer
    }
}

#[divan::bench(args = SIZES, sample_count = 3, sample_size = 1)]
fn place_cold_in_steps(bencher: Bencher<'_, '_>, (customers, analyzers): (usize, usize)) {
    let map = map(customers);
    bencher.with_inputs(|| Leader::new(analyzers)).bench_refs(|leader| leader.place(Arc::clone(&map)));
}

#[divan::bench(args = SIZES, sample_count = 3, sample_size = 1)]
fn place_again_what_one_had(bencher: Bencher<'_, '_>, (customers, analyzers): (usize, usize)) {
    let mut leader = Leader::new(analyzers);
    leader.place(map(customers));
    let mut lost = 0;
    bencher.bench_local(|| {
        leader.lose(lost);
        lost += 1;
    });
}
