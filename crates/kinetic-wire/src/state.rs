//! What the owner of a source remembers from window to window, for whoever owns it next. `docs/wire.md` explains it.
//!
//! One is written for every closed window, and most of its bytes are feeds: their keys are short.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AnalyticName, ClusterName, Direction, Epoch, NodeId, RegionName, ServiceName, SourceKey};

/// Version of [`Snapshot`] that this crate writes and reads.
pub const SNAPSHOT_VERSION: u32 = 1;

/// `kinetic.snapshot.v1` in `snap.<customer>.<source>`, persistent: what an owner remembers of a source. Alert events of
/// every window that it calls closed have been confirmed before it is published, and deliveries that only fed such
/// windows are acknowledged after it has been confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Message version, 1. Another one is not read.
    pub v: u32,
    /// Of which source.
    #[serde(flatten)]
    pub source: SourceKey,
    /// The owner's epoch. The highest epoch counts, and within it the highest `seq`.
    pub epoch: Epoch,
    /// Grows by one with every snapshot of the source.
    pub seq: u64,
    /// Who wrote it.
    pub node: NodeId,
    /// Schema revision it ran.
    #[serde(default)]
    pub schema: Option<String>,
    /// Through which moment windows are closed, by their length.
    pub lanes: Vec<LaneState>,
    /// What is remembered, by question.
    pub watches: Vec<WatchState>,
    /// The region that the source came from, as long as there may be bodies in its queue that were carried from there and lie behind
    /// later ones: before any window is closed, all that is in the queue must have been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<RegionName>,
}

/// The windows of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LaneState {
    /// Their length, nanoseconds.
    pub length_ns: i64,
    /// All windows that end by this moment are closed, nanoseconds since the Unix epoch; absent where none is.
    #[serde(default)]
    pub closed_ns: Option<i64>,
}

/// One analytic on one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WatchState {
    /// The rule.
    pub analytic: AnalyticName,
    /// The cluster's service.
    pub service: ServiceName,
    /// The cluster.
    pub cluster: ClusterName,
    /// Digest of all that the rule asks, 16 hex digits: where another revision's is another, what is remembered answers
    /// another question, and standing alerts are resolved.
    pub digest: String,
    /// Length of its windows, nanoseconds.
    pub length_ns: i64,
    /// What of each feed is compared, for the alert event that ends an alert.
    pub value_kind: String,
    /// Which side counts, for the same.
    pub direction: Direction,
    /// Windows looked at for a verdict.
    pub of: u32,
    /// By metric.
    pub metrics: Vec<MetricState>,
}

/// One metric over the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetricState {
    /// Its name, with tags in `;k=v` form where it has any.
    pub metric: String,
    /// The feeds with something to remember, by origin.
    pub feeds: Vec<FeedState>,
}

/// One feed. What it has nothing of is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeedState {
    /// Origin: who it is.
    pub o: String,
    /// Its last windows with a verdict, one bit each, the newest lowest: out of line or not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub w: u64,
    /// Windows in a row without a verdict on it.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub q: u32,
    /// It fires: end of the window in which it began, and of the one in which that was last said, nanoseconds since the
    /// Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f: Option<(i64, i64)>,
    /// Where its gauge stood at the end of the last closed window, where deltas move it: decimal text, because readers of
    /// JSON round numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l: Option<String>,
    /// When it was last seen, nanoseconds since the Unix epoch, where a rule asks for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s: Option<i64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_zero(bits: &u64) -> bool {
    *bits == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_zero_u32(count: &u32) -> bool {
    *count == 0
}
