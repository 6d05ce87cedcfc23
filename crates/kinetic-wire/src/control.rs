//! The redirectors' own messages: who leads, what the map is, and how it changes. `docs/wire.md` explains them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Breach, DataType, Epoch, Incarnation, LeaseId, NodeId, RegionName, Serves, SourceKey, Term};

/// The message of `kin.leader`. Whoever is delivered it leads, and knows by it what the last leader had stored; a new one
/// is published, and confirmed, before anything that depends on it is said, and then the older one is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaderToken {
    /// Message version, 1.
    pub v: u32,
    /// The last term led.
    pub term: Term,
    /// No epoch above this has been given out.
    pub epoch_max: Epoch,
    /// Who wrote it.
    pub node: NodeId,
}

/// Pushed to a reply-to address: what you were told has changed, ask again now. It carries no authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nudge {
    /// Message version, 1.
    pub v: u32,
}

/// `relieve`: an operator wants an analyzer to be given nothing more and what it has to move. Answered by [`Relieved`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Relieve {
    /// Message version, 1.
    pub v: u32,
    /// The analyzer.
    pub node: NodeId,
    /// Take it back: the analyzer may be given sources again.
    #[serde(default)]
    pub undo: bool,
}

/// Answer to `relieve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Relieved {
    /// Always true.
    pub ok: bool,
    /// Sources that it still owns.
    pub remaining: u64,
    /// Redirector's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// `map`: who owns what? Answered by [`MapReply`], a page at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MapQuestion {
    /// Message version, 1.
    pub v: u32,
    /// Only sources after this one, as the last page's `next` says.
    #[serde(default)]
    pub after: Option<SourceKey>,
    /// Sources on one page at most; the redirector has a bound of its own.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// An analyzer and its lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnalyzerState {
    /// Its name.
    pub node: NodeId,
    /// This start of it.
    pub inc: Incarnation,
    /// Its lease.
    pub lease: LeaseId,
    /// Until the lease lapses unless it is renewed, milliseconds.
    pub lapses_in_ms: u64,
    /// When it registered, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// What it can serve.
    pub serves: Serves,
    /// Relative capacity.
    pub capacity: u32,
    /// Failure domain.
    #[serde(default)]
    pub zone: Option<String>,
    /// Share of its capacity in use, as it says.
    pub load: f64,
    /// Age of its oldest unsettled delivery in milliseconds, as it says.
    pub lag_ms: u64,
    /// Schema revision it runs.
    #[serde(default)]
    pub schema: Option<String>,
    /// It leaves, or an operator has relieved it.
    pub draining: bool,
    /// An operator has relieved it.
    #[serde(default)]
    pub relieved: bool,
    /// It flaps, and is given nothing for this long, milliseconds.
    #[serde(default)]
    pub held_down_ms: u64,
    /// Sources it owns.
    pub owned: u64,
}

/// An ownership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OwnerState {
    /// The analyzer.
    pub node: NodeId,
    /// Epoch of the ownership.
    pub epoch: Epoch,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Why it has it.
    pub why: MoveWhy,
    /// The analyzer says itself that it holds the source.
    pub held: bool,
    /// It has been told to let go.
    pub leaving: bool,
}

/// Why a source came to its owner.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MoveWhy {
    /// Nobody owned it.
    #[default]
    Placed,
    /// The analyzer said that it held it, and nobody else had a better claim.
    Adopted,
    /// The former owner's lease ended without a word.
    OwnerLost,
    /// The former owner left, or was relieved.
    OwnerLeft,
    /// A newer process of the same node.
    Restarted,
    /// The former owner can no longer serve it.
    Unfit,
    /// The former owner had too much.
    Balance,
    /// The source itself changed: its region, or it was gone for a while.
    Changed,
}

/// A source and its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceState {
    /// The source.
    #[serde(flatten)]
    pub source: SourceKey,
    /// Where its queue is.
    pub region: RegionName,
    /// What it carries.
    pub data_type: DataType,
    /// Samples per second, as its owner says.
    #[serde(default)]
    pub rate: u64,
    /// Who owns it.
    #[serde(default)]
    pub owner: Option<OwnerState>,
}

/// A source that went from one analyzer to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoveRecord {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The source.
    #[serde(flatten)]
    pub source: SourceKey,
    /// From whom, where anybody had it.
    #[serde(default)]
    pub from: Option<NodeId>,
    /// To whom.
    pub to: NodeId,
    /// Its new epoch.
    pub epoch: Epoch,
    /// Why.
    pub why: MoveWhy,
}

/// Answer to `map`: one page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MapReply {
    /// Always true.
    pub ok: bool,
    /// Who answers.
    pub leader: NodeId,
    /// Its leadership.
    pub term: Term,
    /// Changes it has told so far ([`MapChange`]): a copy made of pages with different numbers is brought up to date by the
    /// changes after the lowest.
    pub seq: u64,
    /// Schema commit of the map.
    pub revision: String,
    /// Version of the answers to `locate`.
    pub map_epoch: Epoch,
    /// Digest of those answers.
    pub routes: String,
    /// It is still hearing what owners hold; nothing is placed.
    pub listening: bool,
    /// All analyzers; on the first page only.
    pub analyzers: Vec<AnalyzerState>,
    /// Sources by customer, name and part.
    pub sources: Vec<SourceState>,
    /// The last moves, newest first; on the first page only.
    pub moves: Vec<MoveRecord>,
    /// Sources without an owner.
    pub unowned: u64,
    /// There are more sources: ask with this as `after`.
    #[serde(default)]
    pub next: Option<SourceKey>,
    /// Redirector's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// One change of the map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A source as it is now, with or without an owner.
    Source(SourceState),
    /// A source is no more.
    SourceGone(SourceKey),
    /// An analyzer has registered.
    Analyzer(AnalyzerState),
    /// An analyzer's lease has ended.
    AnalyzerGone(NodeId),
}

/// On `kin.map`: what has changed since the last such message; without changes, that the leader lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MapChange {
    /// Message version, 1.
    pub v: u32,
    /// Who leads.
    pub leader: NodeId,
    /// Its leadership; a lower one is ignored.
    pub term: Term,
    /// Grows by one with every message of a term; a gap means that the copy must be made anew.
    pub seq: u64,
    /// No epoch above this has been given out.
    pub epoch_max: Epoch,
    /// Schema commit of the leader's map.
    pub revision: String,
    /// Version of the answers to `locate`.
    pub map_epoch: Epoch,
    /// Digest of those answers: a standby whose own schema gives the same may answer with this version.
    pub routes: String,
    /// What changed, in order.
    pub changes: Vec<Change>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Leads, or stands by.
    Redirector,
    /// Analyses.
    Analyzer,
    /// Alerts.
    Alert,
}

/// On `kin.alive`: a node lives, every few seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Beacon {
    /// Message version, 1.
    pub v: u32,
    /// The node.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// This start of it.
    pub inc: Incarnation,
    /// It is about to stop in good order: its silence is no event.
    #[serde(default)]
    pub bye: bool,
    /// Of an analyzer: what it hears on sources of customers whose silence is an event. Not all of them each time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listens: Vec<Listening>,
    /// Of an analyzer: limits that customers are over, and security events. Not all of them each time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaches: Vec<Breach>,
}

/// The word of a source's owner on what comes from its publishers: from `quiet_ms` to `proven_ms` ago nothing came.
///
/// Spans, so that no clock is compared with another host's; and a span that is proven, so that neither an owner who has
/// gone nor one who is cut off without knowing is taken for publishers who have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listening {
    /// The source, or one part of it.
    #[serde(flatten)]
    pub source: SourceKey,
    /// Epoch under which it is owned.
    pub epoch: Epoch,
    /// Deliveries of the customer's since this owner took the source up, redelivered ones left out.
    pub came: u64,
    /// How long ago the last of these came, or listening began, whichever is later; milliseconds.
    pub quiet_ms: u64,
    /// How long ago it was last certain that nothing else had come; milliseconds. At most `quiet_ms`.
    pub proven_ms: u64,
}
