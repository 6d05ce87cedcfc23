//! A redirector that leads, whose tokens come back at once, unless a test holds them back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinetic_redirector::machine::{
    Caller, Effect, Input, Map, MapBuilder, PlacingConfig, Redirector, RedirectorConfig, ReplyToken, Stored,
};
use kinetic_wire::names::rpc;
use kinetic_wire::{
    DataType, Drain, Evacuated, Goodbye, Grant, Heartbeat, Hold, Incarnation, LeaseReply, Limits, Locate,
    LocateReply, Login, MapChange, Mono, Now, Register, Released, RpcCode, RpcError, Serves, SourceKey, Wall,
    decode, encode,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub(crate) const TTL: Duration = Duration::from_secs(15);
pub(crate) const GRACE: Duration = Duration::from_secs(5);
pub(crate) const START: Now = Now { mono: Mono(1_000_000_000), wall: Wall(1_795_000_000_000_000_000) };

pub(crate) fn config(listen: Duration) -> RedirectorConfig {
    RedirectorConfig {
        node: "r1".into(),
        ttl: TTL,
        grace: GRACE,
        listen,
        analyzers_max: 8,
        locate_ttl: Duration::from_secs(300),
        placing: PlacingConfig::default(),
        limits: Limits { message_bytes: 1 << 20, batch_ms: 1000 },
        seed: 7,
    }
}

/// A map of `customer/source,source …` in region `eu`.
pub(crate) fn map(revision: &str, customers: &[(&str, &[&str])]) -> Map {
    map_in(revision, "eu", customers)
}

/// The same with the first customer in this region.
pub(crate) fn map_in(revision: &str, first: &str, customers: &[(&str, &[&str])]) -> Map {
    let mut map = regions(revision);
    for (index, (name, sources)) in customers.iter().enumerate() {
        let region = if index == 0 { first } else { "eu" };
        map.customer(&(*name).into(), &region.into(), false);
        for source in *sources {
            map.source(source, DataType::Statsd, 1, 0);
        }
    }
    map.build()
}

/// A map of two regions and nothing in them yet.
pub(crate) fn regions(revision: &str) -> MapBuilder {
    let mut map = MapBuilder::new(revision, 0);
    for region in ["eu", "us"] {
        let address = (format!("amqp://{region}.example:5672"), region.to_owned());
        map.region(&region.into(), vec![address], Vec::new());
    }
    map
}

/// One customer with this many sources, `s00`, `s01` …
pub(crate) fn wide_map(sources: usize) -> Map {
    let names: Vec<String> = (0..sources).map(|i| format!("s{i:02}")).collect();
    map("r1", &[("acme", &names.iter().map(String::as_str).collect::<Vec<_>>())])
}

/// What an analyzer remembers.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) inc: Incarnation,
    pub(crate) lease: kinetic_wire::LeaseId,
    pub(crate) seq: u64,
    pub(crate) serves: Serves,
    pub(crate) holds: BTreeMap<SourceKey, kinetic_wire::Epoch>,
    pub(crate) witness: bool,
    pub(crate) relieved: Option<kinetic_wire::Term>,
    /// What has moved and is not in its old region any more, said until it is granted anew.
    pub(crate) evacuated: Vec<Evacuated>,
}

impl Peer {
    pub(crate) fn new(name: &str, inc: u128) -> Self {
        Self {
            name: name.to_owned(),
            inc: Incarnation(Uuid::from_u128(inc)),
            lease: kinetic_wire::LeaseId::default(),
            seq: 0,
            serves: Serves::default(),
            holds: BTreeMap::new(),
            witness: false,
            relieved: None,
            evacuated: Vec::new(),
        }
    }

    pub(crate) fn holding(mut self, source: &SourceKey, epoch: u64) -> Self {
        self.holds.insert(source.clone(), kinetic_wire::Epoch(epoch));
        self
    }

    fn holds(&self) -> Vec<Hold> {
        self.holds
            .iter()
            .map(|(source, epoch)| Hold { source: source.clone(), epoch: *epoch, rate: 0 })
            .collect()
    }

    pub(crate) fn register_body(&self) -> Vec<u8> {
        encode(&Register {
            v: 1,
            node: self.name.as_str().into(),
            inc: self.inc,
            serves: self.serves.clone(),
            capacity: 100,
            zone: None,
            witness: self.witness,
            schema: None,
            generation: 0,
            relieved: self.relieved,
            holds: self.holds(),
        })
    }

    pub(crate) fn heartbeat_body(&mut self) -> Vec<u8> {
        self.seq += 1;
        encode(&Heartbeat {
            v: 1,
            lease: self.lease,
            node: self.name.as_str().into(),
            inc: self.inc,
            seq: self.seq,
            load: 0.25,
            lag_ms: 40,
            witness: self.witness,
            schema: Some("r1".to_owned()),
            generation: 0,
            holds: self.holds(),
            evacuated: self.evacuated.clone(),
        })
    }

    /// Does what the answer says, as an analyzer would that has nothing to settle and whose queues are empty.
    pub(crate) fn obey(&mut self, reply: &LeaseReply) {
        self.lease = reply.lease;
        self.relieved = reply.relieved.then_some(reply.term);
        let of = |grant: &Grant| Evacuated {
            source: grant.source.clone(),
            region: grant.region.clone(),
            epoch: grant.epoch,
        };
        self.evacuated.retain(|said| reply.grant.iter().any(|grant| of(grant) == *said));
        for moving in reply.grant.iter().filter(|grant| reply.moving.contains(&grant.source)).map(of) {
            if !self.evacuated.contains(&moving) {
                self.evacuated.push(moving);
            }
        }
        let stays = |grant: &&Grant| !self.evacuated.contains(&of(grant));
        self.holds =
            reply.grant.iter().filter(stays).map(|grant| (grant.source.clone(), grant.epoch)).collect();
    }

    pub(crate) fn sources(&self) -> Vec<String> {
        self.holds.keys().map(|source| source.source.to_string()).collect()
    }
}

pub(crate) struct World {
    pub(crate) machine: Redirector,
    pub(crate) now: Now,
    pub(crate) disk: Stored,
    /// Tokens do not come back: what was stored is kept here.
    pub(crate) stalled: Option<Vec<Stored>>,
    pub(crate) replies: BTreeMap<u64, Vec<u8>>,
    /// Every effect but stores, answers and what is told, in order.
    pub(crate) done: Vec<Effect>,
    pub(crate) told: Vec<MapChange>,
    config: RedirectorConfig,
    tokens: u64,
}

/// Where a request of this number came from.
pub(crate) fn caller(name: &str) -> Caller {
    Caller { door: 0, reply_to: name.into() }
}

impl World {
    pub(crate) fn new(config: RedirectorConfig, map: Map) -> Self {
        Self::after(config, map, Stored::default())
    }

    /// A redirector that was elected by this token.
    pub(crate) fn after(config: RedirectorConfig, map: Map, disk: Stored) -> Self {
        let mut world = Self::standing_by(config, map, disk);
        world.elect();
        world
    }

    pub(crate) fn standing_by(config: RedirectorConfig, map: Map, disk: Stored) -> Self {
        Self {
            machine: Redirector::new(config.clone(), Arc::new(map), disk.clone()),
            now: START,
            disk,
            stalled: None,
            replies: BTreeMap::new(),
            done: Vec::new(),
            told: Vec::new(),
            config,
            tokens: 0,
        }
    }

    pub(crate) fn elect(&mut self) {
        self.handle(Input::Elected { stored: self.disk.clone() });
    }

    /// The process dies; another one starts from what is on disk, and is elected.
    pub(crate) fn restart(&mut self, map: Map) {
        self.machine = Redirector::new(self.config.clone(), Arc::new(map), self.disk.clone());
        self.stalled = self.stalled.take().map(|_| Vec::new());
        self.elect();
    }

    pub(crate) fn handle(&mut self, input: Input<'_>) {
        let mut effects = Vec::new();
        self.machine.handle(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Store { stored } => match &mut self.stalled {
                    Some(waiting) => waiting.push(stored),
                    None => self.confirm(stored),
                },
                Effect::Reply { token, body } => {
                    assert!(self.replies.insert(token.0, body).is_none(), "answered twice");
                }
                Effect::Tell { body } => self.told.push(decode(&body).expect("a change")),
                other => self.done.push(other),
            }
        }
    }

    /// What was done since the last look.
    pub(crate) fn done(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.done)
    }

    fn confirm(&mut self, stored: Stored) {
        assert!(stored.epoch_max >= self.disk.epoch_max && stored.term >= self.disk.term);
        self.disk = stored.clone();
        self.handle(Input::Stored { stored });
    }

    /// Tokens come back again.
    pub(crate) fn disk_back(&mut self) {
        for stored in self.stalled.take().unwrap_or_default() {
            self.confirm(stored);
        }
    }

    pub(crate) fn sleep(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.handle(Input::Tick);
    }

    pub(crate) fn send(&mut self, kind: &str, login: Option<&str>, body: &[u8]) -> u64 {
        self.send_from(&caller("somewhere"), kind, login, body)
    }

    pub(crate) fn send_from(&mut self, caller: &Caller, kind: &str, login: Option<&str>, body: &[u8]) -> u64 {
        self.tokens += 1;
        let token = ReplyToken(self.tokens);
        let login = login.map(Login::new);
        let caller = Some(caller);
        self.handle(Input::Request { token, kind, login: login.as_ref(), caller, waiting: 0, body });
        self.tokens
    }

    pub(crate) fn answer<T: DeserializeOwned>(&self, token: u64) -> Result<T, RpcCode> {
        let body = self.replies.get(&token).expect("an answer");
        decode::<T>(body).map_err(|_| {
            let refused = decode::<RpcError>(body).expect("a refusal");
            assert!(!refused.ok);
            refused.code
        })
    }

    /// A call of an analyzer, which can be nudged at its name.
    fn call_as<T: DeserializeOwned>(&mut self, name: &str, kind: &str, body: &[u8]) -> Result<T, RpcCode> {
        let token = self.send_from(&caller(name), kind, Some("kinetic"), body);
        self.answer(token)
    }

    pub(crate) fn call<T: DeserializeOwned>(&mut self, kind: &str, body: &[u8]) -> Result<T, RpcCode> {
        let token = self.send(kind, Some("kinetic"), body);
        self.answer(token)
    }

    pub(crate) fn register(&mut self, peer: &mut Peer) -> Result<LeaseReply, RpcCode> {
        let reply: LeaseReply = self.call_as(&peer.name, rpc::REGISTER, &peer.register_body())?;
        peer.obey(&reply);
        Ok(reply)
    }

    pub(crate) fn beat(&mut self, peer: &mut Peer) -> Result<LeaseReply, RpcCode> {
        let body = peer.heartbeat_body();
        let reply: LeaseReply = self.call_as(&peer.name, rpc::HEARTBEAT, &body)?;
        peer.obey(&reply);
        Ok(reply)
    }

    pub(crate) fn drain(&mut self, peer: &Peer) -> Result<LeaseReply, RpcCode> {
        let node = peer.name.as_str().into();
        let body = encode(&Drain { v: 1, lease: peer.lease, node, inc: peer.inc, deadline_ms: 60_000 });
        self.call(rpc::DRAIN, &body)
    }

    pub(crate) fn goodbye(&mut self, peer: &Peer) -> Result<Released, RpcCode> {
        let node = peer.name.as_str().into();
        let body = encode(&Goodbye { v: 1, lease: peer.lease, node, inc: peer.inc });
        self.call(rpc::GOODBYE, &body)
    }

    pub(crate) fn locate(&mut self, login: Option<&str>) -> Result<LocateReply, RpcCode> {
        let token = self.send(rpc::LOCATE, login, &locate_body());
        self.answer(token)
    }
}

pub(crate) fn locate_body() -> Vec<u8> {
    encode(&Locate {
        v: 1,
        client: Incarnation(Uuid::from_u128(9)),
        origin: Some("web-1".to_owned()),
        profile: None,
        data_types: vec![DataType::Statsd],
        have_epoch: None,
        listen: false,
    })
}
