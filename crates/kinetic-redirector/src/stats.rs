//! Counters, for the shell to export.

use std::collections::BTreeMap;

use kinetic_wire::RpcCode;

/// What the redirector counts. Gauges are marked; everything else only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Gauge: analyzers with a lease.
    pub analyzers: usize,
    /// Gauge: sources with an owner.
    pub sources_owned: usize,
    /// Gauge: sources without one.
    pub sources_unowned: usize,
    /// Gauge: sources whose owner has been told to let go.
    pub sources_moving: usize,
    /// Gauge: answers that wait for the disk.
    pub replies_parked: usize,
    /// Sources that went from one analyzer to another.
    pub moves: u64,
    /// Ownerships that began.
    pub grants: u64,
    /// Sources taken over from what an analyzer said it holds.
    pub adopted: u64,
    /// Claims with an epoch that nobody can have; not believed.
    pub claims_incredible: u64,
    /// Moves begun to relieve an overloaded analyzer.
    pub balanced: u64,
    /// Times that more of the map changed than is remembered for copies of it.
    pub changes_overflowed: u64,
    /// Owners told of in a copy of the map, of sources that this one's schema does not have.
    pub presumptions_unknown: u64,
    /// Leases that were not renewed in time.
    pub leases_lapsed: u64,
    /// Leases that ended because a newer process has the node's name.
    pub leases_superseded: u64,
    /// Blocks of epochs written.
    pub stores: u64,
    /// Requests by kind (`kinetic_wire::names::rpc`); `unknown` for any other.
    pub requests: BTreeMap<&'static str, u64>,
    /// Refusals by code.
    pub refusals: BTreeMap<RpcCode, u64>,
}
