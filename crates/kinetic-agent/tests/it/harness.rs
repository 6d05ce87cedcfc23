//! An agent with a shell that remembers what it was asked to do.

use std::time::Duration;

use kinetic_agent::machine::{Agent, AgentConfig, Effect, Input, PublishId};
use kinetic_wire::{
    DataType, Endpoint, Envelope, Epoch, Incarnation, Limits, LocateReply, Mono, Now, RpcError, Wall,
};
use uuid::Uuid;

pub(crate) const START: Now = Now { mono: Mono(5_000_000_000), wall: Wall(1_795_000_000_000_000_000) };

pub(crate) fn config() -> AgentConfig {
    AgentConfig {
        origin: "web-1".to_owned(),
        profile: Some("web".to_owned()),
        routing_key: "web.web-1".to_owned(),
        login: Some("acme.2026-a".to_owned()),
        inc: Incarnation(Uuid::from_u128(77)),
        data_type: DataType::Statsd,
        body_bytes: 64,
        body_age: Duration::from_millis(500),
        buffer_bytes: 100_000,
        in_flight_max: 4,
        fallback: Vec::new(),
        seed: 11,
    }
}

pub(crate) fn endpoint(host: &str, priority: u32) -> Endpoint {
    Endpoint {
        uri: format!("amqp://{host}:5672"),
        vhost: "eu".to_owned(),
        exchange: "in.acme".to_owned(),
        priority,
    }
}

pub(crate) fn answer(epoch: u64, endpoints: &[Endpoint]) -> LocateReply {
    LocateReply {
        ok: true,
        customer: "acme".into(),
        region: "eu".into(),
        endpoints: endpoints.to_vec(),
        epoch: Epoch(epoch),
        ttl_s: 300,
        refresh_s: 240,
        stale_ok_s: 86_400,
        backoff_s: 0,
        limits: Limits { message_bytes: 1 << 20, batch_ms: 1000 },
        now_ms: 0,
        credential: None,
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: PublishId,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) envelope: Envelope<'static>,
    pub(crate) body: Vec<u8>,
}

impl Sent {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

pub(crate) struct Shell {
    pub(crate) agent: Agent,
    pub(crate) now: Now,
    /// Publishes not answered yet.
    pub(crate) out: Vec<Sent>,
    pub(crate) locates: Vec<Vec<u8>>,
    pub(crate) connects: Vec<Endpoint>,
    /// What each connection was to log in with; nothing where it was the key.
    pub(crate) tokens: Vec<Option<String>>,
    /// Tokens that a standing connection was to be given.
    pub(crate) renewed: Vec<String>,
    pub(crate) complaints: Vec<RpcError>,
    pub(crate) stopped: bool,
}

impl Shell {
    pub(crate) fn new(config: AgentConfig) -> Self {
        Self {
            agent: Agent::new(config),
            now: START,
            out: Vec::new(),
            locates: Vec::new(),
            connects: Vec::new(),
            tokens: Vec::new(),
            renewed: Vec::new(),
            complaints: Vec::new(),
            stopped: false,
        }
    }

    /// Located and connected.
    pub(crate) fn ready(config: AgentConfig) -> Self {
        let mut shell = Self::new(config);
        shell.handle(Input::Tick);
        shell.handle(Input::Located(&answer(1, &[endpoint("a", 0)])));
        shell.handle(Input::Connected);
        shell
    }

    pub(crate) fn handle(&mut self, input: Input<'_>) {
        let mut effects = Vec::new();
        self.agent.handle(self.now, input, &mut effects);
        for effect in effects {
            assert!(!self.stopped, "nothing after the end");
            match effect {
                Effect::Locate { body } => self.locates.push(body),
                Effect::Connect { endpoint, credential } => {
                    self.connects.push(endpoint);
                    self.tokens.push(credential.map(|credential| credential.token));
                }
                Effect::Renew { credential } => self.renewed.push(credential.token),
                Effect::Publish { id, exchange, routing_key, envelope, body } => {
                    self.out.push(Sent { id, exchange, routing_key, envelope: *envelope, body });
                }
                Effect::Complain { refusal } => self.complaints.push(refusal),
                Effect::Stopped => self.stopped = true,
            }
        }
    }

    pub(crate) fn datagram(&mut self, text: &str) {
        self.handle(Input::Datagram(text.as_bytes()));
    }

    pub(crate) fn sleep(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.handle(Input::Tick);
    }

    /// Sleeps as the machine asks to, until then at the latest.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now.mono + duration;
        while let Some(at) = self.agent.next_wakeup().filter(|at| *at <= end) {
            self.sleep(at.since(self.now.mono).max(Duration::from_nanos(1)));
        }
        self.sleep(end.since(self.now.mono));
    }

    pub(crate) fn connect_hosts(&self) -> Vec<&str> {
        let host = |endpoint: &'_ Endpoint| endpoint.uri.len();
        self.connects.iter().map(|endpoint| &endpoint.uri[7..host(endpoint) - 5]).collect()
    }
}
