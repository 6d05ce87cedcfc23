//! The agent machine: datagrams in, confirmed publishes out, following what `locate` answers.

use std::time::Duration;

use kinetic_wire::{DataType, Endpoint, Envelope, Incarnation, LocateReply, Mono, Now};

/// How this agent runs.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// What the host calls itself (`kin-origin`).
    pub origin: String,
    /// Profile, where configured.
    pub profile: Option<String>,
    /// Routing key of every body; what the source's `routing` patterns look at.
    pub routing_key: String,
    /// Login (`user_id`), which the broker verifies.
    pub login: Option<String>,
    /// This start of it.
    pub inc: Incarnation,
    /// What the lines are; `Statsd` for the sockets.
    pub data_type: DataType,
    /// Close a body when it has reached this size.
    pub body_bytes: usize,
    /// Close a body when its oldest line is this old.
    pub body_age: Duration,
    /// Bytes of closed bodies that wait for a confirm or a connection; beyond it new datagrams are dropped (counted).
    pub buffer_bytes: usize,
    /// Publishes in flight at once.
    pub in_flight_max: usize,
    /// Where to publish when no redirector has ever answered.
    pub fallback: Option<Endpoint>,
    /// Seed of the jitter.
    pub seed: u64,
}

/// A publish, named by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(pub u64);

/// What the agent is told.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Time has passed.
    Tick,
    /// A datagram of one or more lines.
    Datagram(&'a [u8]),
    /// The broker has taken a body.
    Confirmed {
        /// Which.
        id: PublishId,
    },
    /// It has not, and it is not known whether it will: connection lost, nack, time-out. The body is sent again.
    Failed {
        /// Which.
        id: PublishId,
    },
    /// The broker has nowhere to put it (312 NO_ROUTE): the customer moved or the key binds nothing.
    Unroutable {
        /// Which.
        id: PublishId,
    },
    /// The redirector answered.
    Located(&'a LocateReply),
    /// It did not, or refused.
    LocateFailed,
    /// The connection that `Effect::Connect` asked for stands.
    Connected,
    /// It could not be made, or it broke.
    Disconnected,
    /// Publish what is buffered, then `Effect::Stopped`.
    Shutdown,
}

/// What the agent wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the redirector (`locate`); answer with `Located` or `LocateFailed`.
    Locate {
        /// JSON body.
        body: Vec<u8>,
    },
    /// Publish over a connection to this address from now on; answer with `Connected` or `Disconnected`.
    Connect {
        /// The address.
        endpoint: Endpoint,
    },
    /// Publish, `mandatory`, confirmed; answer with `Confirmed`, `Failed` or `Unroutable`.
    Publish {
        /// Name for the answer.
        id: PublishId,
        /// Exchange.
        exchange: String,
        /// Routing key.
        routing_key: String,
        /// Properties.
        envelope: Box<Envelope<'static>>,
        /// The body.
        body: Vec<u8>,
    },
    /// Everything that could be sent was: the shell may end.
    Stopped,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
}

impl Agent {
    /// An agent with nothing buffered, whose first `Tick` asks where to publish.
    #[must_use]
    pub fn new(config: AgentConfig) -> Self {
        Self { config }
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        let _ = (now, input, effects, &self.config);
    }

    /// When the shell must send a `Tick` at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Mono> {
        None
    }
}
