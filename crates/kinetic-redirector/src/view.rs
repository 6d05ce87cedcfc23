//! What the redirector knows, as plain values for people: `kinetic map`, the board, `/metrics`.

use kinetic_wire::{
    AnalyzerState, DataType, Epoch, Incarnation, LeaseId, Mono, MoveWhy, NodeId, Now, OwnerState, RegionName,
    Serves, SourceKey, SourceState, Term, Wall,
};

use crate::lease::Leases;
use crate::machine::Redirector;
use crate::table::Table;

/// Everything at once.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// It leads; a standby shows its copy.
    pub leading: bool,
    /// Leadership.
    pub term: Term,
    /// Schema commit of the map.
    pub revision: String,
    /// Map version that `locate` answers carry.
    pub map_epoch: Epoch,
    /// Still hearing what owners hold; nothing is placed.
    pub listening: bool,
    /// Analyzers by name.
    pub analyzers: Vec<AnalyzerView>,
    /// Sources by customer and name.
    pub sources: Vec<SourceView>,
}

/// One analyzer and its lease.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalyzerView {
    /// Its name.
    pub node: NodeId,
    /// This start of it.
    pub inc: Incarnation,
    /// Its lease.
    pub lease: LeaseId,
    /// When the lease lapses unless renewed, on the redirector's monotonic clock.
    pub lapses: Mono,
    /// When it registered.
    pub since: Wall,
    /// What it can serve.
    pub serves: Serves,
    /// Relative capacity.
    pub capacity: u32,
    /// Share of its capacity in use, as it says.
    pub load: f64,
    /// Age of its oldest unsettled delivery in milliseconds, as it says.
    pub lag_ms: u64,
    /// Schema revision it runs.
    pub schema: Option<String>,
    /// It wants to leave.
    pub draining: bool,
    /// Sources it owns.
    pub owned: usize,
}

/// One source and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceView {
    /// The source.
    pub source: SourceKey,
    /// Where its queue is.
    pub region: RegionName,
    /// What it carries.
    pub data_type: DataType,
    /// Who owns it.
    pub owner: Option<OwnerView>,
}

/// An ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerView {
    /// The analyzer.
    pub node: NodeId,
    /// Epoch of the ownership.
    pub epoch: Epoch,
    /// Since when.
    pub since: Wall,
    /// The analyzer says itself that it holds the source.
    pub held: bool,
    /// It has been told to let go.
    pub leaving: bool,
}

pub(crate) fn analyzers(leases: &Leases, table: &Table) -> Vec<AnalyzerView> {
    let view = |(node, lease): (&NodeId, &crate::lease::Lease)| AnalyzerView {
        node: node.clone(),
        inc: lease.inc,
        lease: lease.id,
        lapses: lease.lapses,
        since: lease.since,
        serves: lease.serves.clone(),
        capacity: lease.capacity,
        load: lease.load,
        lag_ms: lease.lag_ms,
        schema: lease.schema.clone(),
        draining: lease.draining,
        owned: table.owned(node).count(),
    };
    leases.iter().map(view).collect()
}

pub(crate) fn sources(table: &Table) -> Vec<SourceView> {
    let view = |(source, slot): (&SourceKey, &crate::table::Slot)| SourceView {
        source: source.clone(),
        region: slot.region.clone(),
        data_type: slot.data_type,
        owner: slot.owner.as_ref().map(|owner| OwnerView {
            node: owner.node.clone(),
            epoch: owner.epoch,
            since: owner.since,
            held: owner.held,
            leaving: table.is_leaving(source),
        }),
    };
    table.iter().map(view).collect()
}

/// An analyzer as it is told to others.
pub(crate) fn analyzer_state(redirector: &Redirector, now: Now, node: &NodeId) -> Option<AnalyzerState> {
    let lease = redirector.leases.get(node)?;
    Some(AnalyzerState {
        node: node.clone(),
        inc: lease.inc,
        lease: lease.id,
        lapses_in_ms: lease.lapses.since(now.mono).as_millis() as u64,
        since_ms: lease.since.as_ms(),
        serves: lease.serves.clone(),
        capacity: lease.capacity,
        zone: lease.zone.clone(),
        load: lease.load,
        lag_ms: lease.lag_ms,
        schema: lease.schema.clone(),
        draining: lease.draining,
        relieved: redirector.relieved.contains(node),
        held_down_ms: 0,
        owned: redirector.placing.table.owned(node).count() as u64,
    })
}

/// Sources as they are told to others, in order, those after `after`.
pub(crate) fn source_states<'t>(
    table: &'t Table,
    after: Option<&'t SourceKey>,
) -> impl Iterator<Item = SourceState> + 't {
    let state = |(source, slot): (&SourceKey, &crate::table::Slot)| SourceState {
        source: source.clone(),
        region: slot.region.clone(),
        data_type: slot.data_type,
        rate: 0,
        owner: slot.owner.as_ref().map(|owner| OwnerState {
            node: owner.node.clone(),
            epoch: owner.epoch,
            since_ms: owner.since.as_ms(),
            why: MoveWhy::Placed,
            held: owner.held,
            leaving: table.is_leaving(source),
        }),
    };
    table.iter().filter(move |(source, _)| after.is_none_or(|after| *source > after)).map(state)
}
