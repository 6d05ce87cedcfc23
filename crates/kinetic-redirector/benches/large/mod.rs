//! A large installation: customers with one source each, analyzers that take whatever they are given, and a store that
//! confirms at once.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use kinetic_redirector::machine::{
    Effect, Input, Map, MapBuilder, PlacingConfig, Redirector, RedirectorConfig, ReplyToken, Stored,
};
use kinetic_wire::names::rpc;
use kinetic_wire::{
    DataType, Epoch, Goodbye, Grant, Heartbeat, Hold, Incarnation, LeaseId, LeaseReply, Limits, Login, Mono,
    NodeId, Now, RegionName, Register, Serves, SourceKey, Term, Wall, decode, encode,
};
use uuid::Uuid;

const START: Now = Now { mono: Mono(1_000_000_000), wall: Wall(1_795_000_000_000_000_000) };
/// Longer than the longest lease of a thousand analyzers, with its jitter and the grace.
const LISTEN: Duration = Duration::from_secs(28);

/// A map of this many customers.
pub(crate) fn map(revision: &str, generation: u64, customers: usize) -> Arc<Map> {
    let address = ("amqps://broker.us-west.aws.example:5671".to_owned(), "us-west.aws".to_owned());
    let mut map = MapBuilder::new(revision, generation);
    let region = RegionName::new("us-west.aws");
    map.region(&region, vec![address.clone(), address], Vec::new());
    for customer in 0..customers as u32 {
        map.customer(&name(customer).as_str().into(), &region, false);
        map.source("web", DataType::Statsd, 1, 0);
    }
    Arc::new(map.build())
}

/// An analyzer's lease and what it holds: numbers of customers and epochs, so that little of the memory is its own.
pub(crate) struct Analyzer {
    node: NodeId,
    inc: Incarnation,
    lease: LeaseId,
    holds: Vec<(u32, Epoch)>,
}

fn name(customer: u32) -> String {
    format!("customer-{customer:07}")
}

/// A redirector and its analyzers.
pub(crate) struct Large {
    pub(crate) machine: Redirector,
    pub(crate) analyzers: Vec<Analyzer>,
    pub(crate) now: Now,
    /// Processor time spent in the machine: others may be busy too.
    pub(crate) busy: Duration,
    /// Most that one input took.
    pub(crate) longest: Duration,
    /// Inputs given to it.
    pub(crate) steps: usize,
    tokens: u64,
    seq: u64,
}

impl Large {
    /// All analyzers have registered; owners are still listened to.
    pub(crate) fn registered(map: Arc<Map>, analyzers: usize) -> Self {
        let config = RedirectorConfig {
            node: "r1".into(),
            ttl: Duration::from_secs(15),
            grace: Duration::from_secs(5),
            listen: Duration::from_secs(1),
            analyzers_max: analyzers,
            locate_ttl: Duration::from_secs(300),
            limits: Limits { message_bytes: 1 << 20, batch_ms: 1000 },
            seed: 1,
            placing: PlacingConfig::default(),
        };
        let machine = Redirector::new(config, map, Stored::default());
        let mut large = Self {
            machine,
            analyzers: Vec::new(),
            now: START,
            busy: Duration::ZERO,
            longest: Duration::ZERO,
            steps: 0,
            tokens: 0,
            seq: 0,
        };
        // Somebody has led before, so that it listens.
        let stored = Stored { term: Term(1), ..Stored::default() };
        large.handle(Input::Elected { stored });
        for i in 0..analyzers {
            let node = NodeId::new(&format!("analyzer-{i:04}"));
            let inc = Incarnation(Uuid::from_u128(i as u128 + 1));
            let body = encode(&Register {
                v: 1,
                node: node.clone(),
                inc,
                serves: Serves::default(),
                capacity: 100,
                zone: Some(format!("zone-{}", i % 3)),
                witness: false,
                schema: None,
                generation: 1,
                holds: Vec::new(),
            });
            let reply: LeaseReply = decode(&large.ask(rpc::REGISTER, &body)).expect("a lease");
            large.analyzers.push(Analyzer { node, inc, lease: reply.lease, holds: Vec::new() });
        }
        large
    }

    /// The listen period ends, and every step of placing is done.
    pub(crate) fn place(&mut self) {
        for _ in 0..2 {
            self.now = self.now + Duration::from_secs(10);
            self.beat();
        }
        self.now = START + LISTEN;
        self.settle();
    }

    /// Ticks until there is nothing more to do at once.
    pub(crate) fn settle(&mut self) {
        loop {
            self.handle(Input::Tick);
            if self.machine.next_wakeup().is_none_or(|at| at > self.now.mono) {
                return;
            }
        }
    }

    /// Every analyzer says that it lives and what it holds, with a rate each.
    pub(crate) fn beat(&mut self) {
        self.seq += 1;
        let seq = self.seq;
        let hold = |(customer, epoch): &(u32, Epoch)| Hold {
            source: SourceKey::new(&name(*customer), "web"),
            epoch: *epoch,
            rate: 100,
        };
        for index in 0..self.analyzers.len() {
            let Analyzer { node, inc, lease, holds } = &self.analyzers[index];
            let body = encode(&Heartbeat {
                v: 1,
                lease: *lease,
                node: node.clone(),
                inc: *inc,
                seq,
                load: 0.5,
                lag_ms: 40,
                witness: false,
                schema: None,
                generation: 1,
                holds: holds.iter().map(hold).collect(),
                evacuated: Vec::new(),
            });
            let reply: LeaseReply = decode(&self.ask(rpc::HEARTBEAT, &body)).expect("alive");
            let taken = |grant: &Grant| {
                let digits = grant.source.customer.as_str().trim_start_matches("customer-");
                (digits.parse().expect("a number"), grant.epoch)
            };
            self.analyzers[index].holds = reply.grant.iter().map(taken).collect();
        }
    }

    /// An analyzer is gone.
    pub(crate) fn lose(&mut self, index: usize) {
        let Analyzer { node, inc, lease, .. } = &self.analyzers[index];
        let body = encode(&Goodbye { v: 1, lease: *lease, node: node.clone(), inc: *inc });
        self.ask(rpc::GOODBYE, &body);
    }

    /// Gives the machine an input, and then what follows from it. Returns the answer, if there is one.
    pub(crate) fn handle(&mut self, input: Input<'_>) -> Option<Vec<u8>> {
        let (mut effects, mut answer) = (self.timed(input), None);
        while !effects.is_empty() {
            let mut stores = Vec::new();
            for effect in effects.drain(..) {
                match effect {
                    Effect::Store { stored } => stores.push(stored),
                    Effect::Reply { body, .. } => answer = Some(body),
                    _ => {}
                }
            }
            for stored in stores {
                effects.extend(self.timed(Input::Stored { stored }));
            }
        }
        answer
    }

    fn timed(&mut self, input: Input<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let begun = processor_time();
        self.machine.handle(self.now, input, &mut effects);
        let took = processor_time() - begun;
        self.busy += took;
        self.longest = self.longest.max(took);
        self.steps += 1;
        effects
    }

    fn ask(&mut self, kind: &str, body: &[u8]) -> Vec<u8> {
        self.tokens += 1;
        let (token, login) = (ReplyToken(self.tokens), Login::new("kinetic"));
        self.handle(Input::Request { token, kind, login: Some(&login), caller: None, waiting: 0, body })
            .expect("an answer")
    }
}

/// Time that this thread has been running (`proc(5)`, schedstat).
fn processor_time() -> Duration {
    let mut text = String::new();
    let mut file = std::fs::File::open("/proc/thread-self/schedstat").expect("this runs on Linux");
    file.read_to_string(&mut text).expect("it can be read");
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).expect("a number");
    Duration::from_nanos(nanos)
}
