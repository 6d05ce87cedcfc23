//! Counters, for the shell to export.

use std::collections::BTreeMap;

use kinetic_wire::{Epoch, RpcCode, Term};

/// What the redirector counts. Gauges are marked; everything else only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Gauge: it leads.
    pub leading: bool,
    /// Gauge: it leads, and still hears what owners hold.
    pub listening: bool,
    /// Gauge: its term, or the highest that it knows of.
    pub term: Term,
    /// Gauge: version of its `locate` answers; 0 where no leader has told any.
    pub map_version: Epoch,
    /// Gauge: it stands by with a complete copy of the leader's map.
    pub copy_whole: bool,
    /// Times that the copy was begun anew.
    pub copy_restarts: u64,
    /// Messages on `kin.map` that could not be read, or were another leader's of a lower term.
    pub told_ignored: u64,
    /// Tokens that began a term.
    pub elections: u64,
    /// Terms that it has led.
    pub leaderships: u64,
    /// Terms that ended.
    pub deposed: u64,
    /// Terms given up because no requests were delivered.
    pub deafened: u64,
    /// Messages told on `kin.map`.
    pub told: u64,
    /// Times that more had changed than is told one by one, so that copies are made anew.
    pub told_overflows: u64,
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
    /// Gauge: sources whose customer has moved to another region, and whose old region is not empty yet.
    pub sources_evacuating: usize,
    /// Regions emptied of a source that has moved out.
    pub evacuations: u64,
    /// Such that were not empty in time.
    pub evacuations_overdue: u64,
    /// Sources taken over from what an analyzer said it holds.
    pub adopted: u64,
    /// Claims with an epoch that nobody can have; not believed.
    pub claims_incredible: u64,
    /// Analyzers that an earlier leader had relieved, and that were one too many to be remembered.
    pub relieved_overflows: u64,
    /// Gauge: clients that listen for changes of their answer.
    pub listeners: usize,
    /// Clients that found the table of listeners full.
    pub listeners_refused: u64,
    /// Nudges sent.
    pub nudges: u64,
    /// Nudges dropped because too many waited.
    pub nudges_dropped: u64,
    /// Ends of analyzers' connections that the broker told us of.
    pub witnessed: u64,
    /// Answers that asked their receiver to slow down.
    pub slowed: u64,
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
