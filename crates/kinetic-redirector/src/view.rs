//! What the redirector knows, as plain values for people: `kinetic map`, the board, `/metrics`.

use kinetic_wire::{
    AnalyzerState, DataType, Epoch, Incarnation, LeaseId, Mono, NodeId, Now, RegionName, Serves, SourceKey,
    Term, Wall,
};

use crate::lease::Leases;
use crate::machine::Redirector;
use crate::placing::Placing;
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

pub(crate) fn analyzers(leases: &Leases, placing: &Placing) -> Vec<AnalyzerView> {
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
        owned: placing.owned_by(node),
    };
    leases.iter().map(view).collect()
}

pub(crate) fn sources(table: &Table) -> Vec<SourceView> {
    let view = |unit: u32| {
        let state = table.state(unit);
        let owner = state.owner.map(|owner| OwnerView {
            node: owner.node,
            epoch: owner.epoch,
            since: Wall::from_ms(owner.since_ms),
            held: owner.held,
            leaving: owner.leaving,
        });
        SourceView { source: state.source, region: state.region, data_type: state.data_type, owner }
    };
    table.after(None).map(view).collect()
}

/// An analyzer as it is told to others.
pub(crate) fn analyzer_state(redirector: &Redirector, now: Now, node: &NodeId) -> Option<AnalyzerState> {
    let lease = redirector.leases.get(node)?;
    let relieved = redirector.placing.is_relieved(node);
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
        draining: lease.draining || relieved,
        relieved,
        held_down_ms: redirector.placing.held_down(now, node).as_millis() as u64,
        owned: redirector.placing.owned_by(node) as u64,
    })
}
