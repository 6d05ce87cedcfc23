//! What a part of a split source sends to the source's owner when a window closes. `docs/wire.md` explains it.
//!
//! Most of its bytes are feeds, one each per window: their keys are short.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AnalyticName, ClusterName, Epoch, NodeId, ServiceName, SourceKey};

/// Version of [`Partial`] that this crate writes and reads.
pub const PARTIAL_VERSION: u32 = 1;

/// `kinetic.partial.v1` on `kin.partials`, persistent: the values of one part's feeds in one closed window. A part has
/// closed all windows of one length from `from_ns` to `end_ns` when all `of` messages with that `end_ns` are there; only the
/// last of those windows may have feeds. One that comes twice replaces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Partial {
    /// Message version, 1. Another one is not read.
    pub v: u32,
    /// Of which source, and of which part of it.
    #[serde(flatten)]
    pub source: SourceKey,
    /// The part owner's epoch; a lower one than was seen of the part is not believed.
    pub epoch: Epoch,
    /// Who sends it.
    pub node: NodeId,
    /// Length of the windows, nanoseconds.
    pub length_ns: i64,
    /// Where the windows begin that this says the part has closed, nanoseconds since the Unix epoch; absent where nothing
    /// was said of any before, and nothing will be.
    #[serde(default)]
    pub from_ns: Option<i64>,
    /// End of the window whose values these are, nanoseconds since the Unix epoch.
    pub end_ns: i64,
    /// Which of the messages about this window it is, from 0.
    pub index: u32,
    /// How many messages there are about it.
    pub of: u32,
    /// W3C trace context of a delivery that fed the window.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// Samples of the window were dropped, because the customer sends more than it may: what counts them is left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub short: bool,
    /// The values, by question and metric.
    pub groups: Vec<PartialGroup>,
}

/// Values of one metric for one analytic on one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartialGroup {
    /// The rule.
    pub analytic: AnalyticName,
    /// The cluster's service.
    pub service: ServiceName,
    /// The cluster.
    pub cluster: ClusterName,
    /// Digest of all that the rule asks, as in [`crate::WatchState`]: values that answer another question are left aside.
    pub digest: String,
    /// The metric's name, with tags in `;k=v` form where it has any.
    pub metric: String,
    /// The feeds with a value, by origin.
    pub feeds: Vec<PartialFeed>,
}

/// One feed in one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartialFeed {
    /// Origin: who it is.
    pub o: String,
    /// Its value: decimal text, because readers of JSON round numbers. Absent where it has samples that come to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v: Option<String>,
    /// Samples that it comes of.
    pub n: u32,
}
