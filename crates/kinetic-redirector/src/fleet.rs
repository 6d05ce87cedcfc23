//! What the decisions about the size of the fleet ([`crate::scaling`]) are made of, and what they say.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_wire::{DataType, Incarnation, Mono, NodeId, RegionName, Serves};

/// Bounds and patience of the decisions.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingConfig {
    /// Names of started nodes: this and a number.
    pub prefix: String,
    /// What a started node can serve.
    pub serves: Serves,
    /// Smallest fleet, nodes that somebody else started included.
    pub min: usize,
    /// Largest fleet; nothing is started beyond it.
    pub max: usize,
    /// How long sources are without an owner, or load is too high, before another node is started.
    pub scale_up_after: Duration,
    /// How long the others could have carried the load before a node is retired.
    pub idle_after: Duration,
    /// Least time between two decisions to grow or to shrink.
    pub cool_down: Duration,
    /// Mean share of capacity in use from which on another node is wanted, 0 to 1.
    pub load_high: f64,
    /// Mean share of capacity in use below which one fewer would do; less than `load_high`.
    pub load_low: f64,
    /// A started node that has not registered after this has failed; so has one that was silent for so long.
    pub boot_timeout: Duration,
    /// A node that still owns sources after this is stopped all the same.
    pub drain_timeout: Duration,
    /// Decide and say so, but do not act as if anything were done.
    pub dry_run: bool,
}

/// What the decisions are made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    /// Analyzers with a lease.
    pub analyzers: Vec<Member>,
    /// Sources without an owner, by what it takes to serve them.
    pub unplaced: Vec<Unplaced>,
    /// What the provisioner says that runs; `None` from one that cannot tell.
    pub listing: Option<Listing>,
}

/// An analyzer with a lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name.
    pub node: NodeId,
    /// This start of it.
    pub inc: Incarnation,
    /// What it can serve.
    pub serves: Serves,
    /// Relative capacity.
    pub capacity: u32,
    /// Share of its capacity in use, 0 to 1.
    pub load: f64,
    /// Sources it owns.
    pub owned: usize,
    /// It is given nothing more.
    pub draining: bool,
}

/// Sources of one kind without an owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unplaced {
    /// Where their queues are.
    pub region: RegionName,
    /// What they carry.
    pub data_type: DataType,
    /// A node as the provisioner starts them could serve them.
    pub fits: bool,
    /// How many.
    pub sources: usize,
}

/// What a provisioner says that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// When it was asked: it knows nothing of what was done later.
    pub asked: Mono,
    /// Its nodes.
    pub instances: BTreeMap<NodeId, Instance>,
}

/// How a node is, as its provisioner knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instance {
    /// Starts, or runs.
    Running,
    /// Was told to end.
    Ending,
    /// Has ended by itself, and why.
    Ended(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScaleAction {
    /// Start a node.
    Start {
        /// Its name.
        node: NodeId,
        /// Why, for people.
        why: String,
    },
    /// Give a node nothing more and move what it has.
    Drain {
        /// Which.
        node: NodeId,
        /// Why, for people.
        why: String,
    },
    /// Stop a node, or tidy up after one that has ended.
    Stop {
        /// Which.
        node: NodeId,
        /// Why, for people.
        why: String,
    },
}

/// How things stand, for `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Provisioned nodes that there should be.
    pub wanted: usize,
    /// Those that serve, or did a moment ago.
    pub running: usize,
    /// Those that have not registered yet.
    pub starting: usize,
    /// Those that are losing their sources.
    pub draining: usize,
    /// Those that are to be gone.
    pub stopping: usize,
    /// Starts that failed since the last that did not.
    pub failures: u32,
    /// Starts that came to nothing, and nodes that ended soon after; only grows while this leadership lasts.
    pub failed: u64,
    /// Why what is wanted is not done now, for people.
    pub held: Option<String>,
}
