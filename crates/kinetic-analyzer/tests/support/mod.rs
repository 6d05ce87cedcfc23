//! A small installation to test with: a schema made by hand, a redirector that says yes, virtual time.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use kinetic_analyzer::machine::{Analyzer, AnalyzerConfig, Delivery, Effect, Input, RequestId, Slot};
use kinetic_schema::Schema;
use kinetic_schema::schema::Limits;
use kinetic_schema::schema::*;
use kinetic_wire::*;
use uuid::Uuid;

pub const SOURCE: &str = "web";
pub const CUSTOMER: &str = "acme";
/// 2026-01-01T00:00:00Z, a whole number of minutes.
pub const START: i64 = 1_767_225_600;

/// splitmix64
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

pub fn glob(pattern: &str) -> Glob {
    Glob::parse(pattern).unwrap()
}

pub fn deviates(k: f64) -> Deviates {
    Deviates {
        deviations: k,
        direction: Direction::Above,
        deviation: Deviation::Population,
        min_feeds: 3,
        min_effect_relative: 0.0,
        min_effect_absolute: 0.0,
    }
}

pub fn analytic(name: &str, metric: &str, k: f64, window_s: u64, hits: u32, of: u32) -> Analytic {
    Analytic {
        name: name.into(),
        on: vec![ClusterPath { service: "checkout".into(), cluster: "frontends".into() }],
        metric: glob(metric),
        value: ValueKind::Mean,
        rule: Rule::Deviates(deviates(k)),
        window: Duration::from_secs(window_s),
        hysteresis: Hysteresis { hits, of },
        severity: Severity::Warning,
        description: None,
        labels: Default::default(),
    }
}

pub fn schema(analytics: &[Analytic]) -> Schema {
    let source = Source {
        name: SOURCE.into(),
        profile: None,
        data_type: DataType::Statsd,
        routing: vec!["web.#".into()],
        partitions: 1,
        lateness: Duration::from_secs(5),
        name_template: None,
        origin_tag: "host".into(),
        gauge_sign: GaugeSign::Auto,
        precision: Precision::Ns,
        max_length: 1_000_000,
        max_length_bytes: 1 << 30,
    };
    let cluster = Cluster {
        name: "frontends".into(),
        source: SOURCE.into(),
        members: vec![glob("web-*")],
        site: None,
        labels: Default::default(),
    };
    let service = Service {
        name: "checkout".into(),
        depends_on: vec![],
        site: None,
        labels: Default::default(),
        clusters: [(cluster.name.clone(), cluster)].into(),
    };
    let customer = Customer {
        name: CUSTOMER.into(),
        region: "r1".into(),
        disabled: false,
        keys: vec![],
        netblocks: vec![],
        sources: [(source.name.clone(), source)].into(),
        services: [(service.name.clone(), service)].into(),
        analytics: analytics.iter().map(|a| (a.name.clone(), a.clone())).collect(),
        alerts: Default::default(),
        certificates: Vec::new(),
        users: Vec::new(),
        limits: Limits { mails_per_hour: 60, ..Limits::DEFAULT },
        stream_silent_after: None,
        templates: Default::default(),
    };
    Schema { customers: [(customer.name.clone(), customer)].into(), ..Schema::default() }
}

pub fn config() -> AnalyzerConfig {
    AnalyzerConfig {
        node: "a1".into(),
        inc: Incarnation(Uuid::from_u128(1)),
        serves: Serves::default(),
        capacity: 100,
        zone: None,
        held_max: 10_000,
        series_max: 100_000,
        series_total_max: 1_000_000,
        seed: 7,
    }
}

pub fn key() -> SourceKey {
    SourceKey::new(CUSTOMER, SOURCE)
}

pub fn grant(epoch: u64) -> Grant {
    Grant { source: key(), region: "r1".into(), epoch: Epoch(epoch) }
}

pub fn lease(grants: Vec<Grant>) -> LeaseReply {
    LeaseReply {
        ok: true,
        lease: LeaseId(Uuid::from_u128(9)),
        term: Term(1),
        ttl_ms: 15_000,
        heartbeat_ms: 5_000,
        grant: grants,
        revoke: vec![],
        moving: vec![],
        backoff_ms: 0,
        relieved: false,
        now_ms: 0,
    }
}

pub fn refusal(code: RpcCode) -> RpcError {
    RpcError { ok: false, code, message: "no".into(), retry_s: 0 }
}

/// One analyzer in virtual time, with a redirector that grants `grants` as long as `answers` is set.
pub struct World {
    pub analyzer: Analyzer,
    pub now: Now,
    pub effects: Vec<Effect>,
    pub answers: bool,
    pub confirms: bool,
    /// Probes come back.
    pub connected: bool,
    pub grants: Vec<Grant>,
    /// What the redirector says.
    pub relieved: bool,
    /// Of these, what has moved.
    pub moving: Vec<SourceKey>,
    pub token: u64,
    pub slot: Option<Slot>,
    /// The source's snapshot queue, confirmed ones only.
    pub snapshots: Vec<Vec<u8>>,
}

impl World {
    pub fn new(schema: Schema) -> Self {
        Self::with(config(), schema)
    }

    pub fn with(config: AnalyzerConfig, schema: Schema) -> Self {
        let now = Now { mono: Mono(1_000_000_000), wall: Wall::from_secs(START) };
        Self {
            analyzer: Analyzer::new(config, Arc::new(schema), "rev1"),
            now,
            effects: Vec::new(),
            answers: true,
            confirms: true,
            connected: true,
            grants: vec![grant(1)],
            relieved: false,
            moving: vec![],
            token: 0,
            slot: None,
            snapshots: Vec::new(),
        }
    }

    /// Tells that a subscription is active, with what is in the snapshot queue.
    pub fn recall(&mut self, slot: Slot) -> Vec<Effect> {
        let snapshots = self.snapshots.clone();
        let bodies: Vec<&[u8]> = snapshots.iter().map(Vec::as_slice).collect();
        self.send(Input::Recalled { slot, snapshots: &bodies })
    }

    /// Another process of the same installation, which takes over the source under a new epoch.
    pub fn succeed(&mut self, schema: Schema, epoch: u64) {
        self.analyzer = Analyzer::new(config(), Arc::new(schema), "rev1");
        self.grants = vec![grant(epoch)];
        self.slot = None;
    }

    /// Sends one input and acts on what comes of it as a broker and a redirector would.
    pub fn send(&mut self, input: Input<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.analyzer.handle(self.now, input, &mut effects);
        self.effects.extend(effects.iter().cloned());
        for effect in effects.clone() {
            let more = match effect {
                Effect::Request { request, kind, .. } if self.answers => self.reply(request, kind),
                Effect::Subscribe { slot, .. } => {
                    self.slot = Some(slot);
                    self.recall(slot)
                }
                Effect::Probe { slot, .. } if self.connected => self.send(Input::Probed { slot, ok: true }),
                Effect::Keep { slot, seq, body, .. } if self.confirms => {
                    self.snapshots.push(body);
                    self.send(Input::Kept { slot, seq })
                }
                Effect::Evacuate { slot, .. } => {
                    self.slot = Some(slot);
                    self.recall(slot)
                }
                Effect::Unsubscribe { slot } => self.send(Input::Unsubscribed { slot }),
                Effect::Publish(event) if self.confirms => self.send(Input::Published { id: event.id }),
                _ => vec![],
            };
            effects.extend(more);
        }
        effects
    }

    fn reply(&mut self, request: RequestId, kind: &str) -> Vec<Effect> {
        let body = if kind == "goodbye" {
            encode(&Released { ok: true, released: vec![], now_ms: 0 })
        } else {
            let (relieved, moving) = (self.relieved, self.moving.clone());
            encode(&LeaseReply { relieved, moving, ..lease(self.grants.clone()) })
        };
        self.send(Input::Replied { request, body: &body })
    }

    pub fn tick(&mut self) -> Vec<Effect> {
        self.send(Input::Tick)
    }

    /// Lets time pass, ticking when the machine wants it.
    pub fn pass(&mut self, duration: Duration) -> Vec<Effect> {
        let end = self.now + duration;
        let mut effects = Vec::new();
        let mut ticks = 0;
        while let Some(at) = self.analyzer.next_wakeup().filter(|at| *at <= end.mono) {
            self.now = self.now + at.since(self.now.mono);
            effects.extend(self.tick());
            ticks += 1;
            assert!(ticks < 100_000, "the machine wants to be woken without end");
        }
        self.now = end;
        effects
    }

    pub fn pass_s(&mut self, seconds: u64) -> Vec<Effect> {
        self.pass(Duration::from_secs(seconds))
    }

    /// Delivers a body of one feed, stamped now.
    pub fn deliver(&mut self, origin: &str, body: &str) -> Vec<Effect> {
        self.deliver_at(origin, body, self.now.wall, false)
    }

    pub fn deliver_at(&mut self, origin: &str, body: &str, at: Wall, redelivered: bool) -> Vec<Effect> {
        let envelope = Envelope { origin: Some(origin.into()), ts: Some(at), ..Envelope::default() };
        self.deliver_with(envelope, "in.acme", body, redelivered)
    }

    pub fn deliver_with(
        &mut self,
        envelope: Envelope<'_>,
        exchange: &str,
        body: &str,
        redelivered: bool,
    ) -> Vec<Effect> {
        self.token += 1;
        let delivery = Delivery {
            slot: self.slot.expect("subscribed"),
            token: Token(self.token),
            redelivered,
            exchange,
            routing_key: "web",
            envelope,
            body: body.as_bytes(),
        };
        self.send(Input::Delivery(delivery))
    }

    pub fn events(&self) -> Vec<AlertEvent> {
        events(&self.effects)
    }

    pub fn stats(&self) -> kinetic_analyzer::stats::Stats {
        self.analyzer.stats(self.now)
    }

    pub fn is_serving(&self) -> bool {
        self.analyzer.is_serving(self.now)
    }
}

pub fn events(effects: &[Effect]) -> Vec<AlertEvent> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Publish(event) => Some((**event).clone()),
            _ => None,
        })
        .collect()
}

pub fn acks(effects: &[Effect]) -> Vec<Effect> {
    effects
        .iter()
        .filter(|effect| {
            matches!(effect, Effect::AckUpTo { .. } | Effect::AckRange { .. } | Effect::Reject { .. })
        })
        .cloned()
        .collect()
}
