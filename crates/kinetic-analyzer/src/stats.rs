//! What the analyzer counts. A plain struct; the shell exports it.

use std::collections::BTreeMap;

use kinetic_wire::{CustomerName, SourceKey};

pub use crate::breach::Breaches;
use crate::decode::Notes;
use crate::sample::Reject;

/// Refused lines and bodies of one customer, by reason; as many entries as there are reasons at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejects(BTreeMap<Reject, u64>);

impl Rejects {
    /// How often for this reason.
    #[must_use]
    pub fn count(&self, reason: Reject) -> u64 {
        self.0.get(&reason).copied().unwrap_or_default()
    }

    /// Over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The reasons that have come up, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (Reject, u64)> {
        self.0.iter().map(|(reason, count)| (*reason, *count))
    }

    pub(crate) fn add(&mut self, reason: Reject) {
        *self.0.entry(reason).or_default() += 1;
    }
}

/// One customer's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerStats {
    /// Whose.
    pub customer: CustomerName,
    /// Lines and bodies refused.
    pub rejects: Rejects,
    /// Series known now, over all its sources.
    pub series: usize,
    /// How often its limits were exceeded, and security events, by kind.
    pub breaches: Breaches,
}

/// One source's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStats {
    /// Which.
    pub source: SourceKey,
    /// Deliveries not settled.
    pub held: usize,
    /// Age of the oldest of them, milliseconds.
    pub lag_ms: u64,
    /// By how much the oldest of them is overdue: how long ago its windows should have been closed; milliseconds.
    pub behind_ms: u64,
    /// Alert events not confirmed.
    pub alerts_pending: usize,
}

/// Counters since the start, and a few gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Deliveries taken.
    pub deliveries: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// What the decoders noted besides samples and rejects.
    pub notes: Notes,
    /// Samples decoded.
    pub samples: u64,
    /// Samples that some analytic looks at.
    pub samples_grouped: u64,
    /// Samples that nothing says the feed of.
    pub no_origin: u64,
    /// Samples stamped more than [`crate::source::AHEAD_MAX`] ahead of this node's clock, dropped.
    pub future: u64,
    /// How far ahead of this node's clock a publisher's stamp was, at most; milliseconds.
    pub skew_ahead_max_ms: u64,
    /// Samples that came after their window was closed, dropped.
    pub late: u64,
    /// Samples of deliveries that came again after their window was closed, dropped.
    pub already_counted: u64,
    /// Samples dropped because too many windows were open.
    pub windows_refused: u64,
    /// Deliveries acknowledged before their windows were closed, because too many were held.
    pub early_acked: u64,
    /// Deliveries that came while too many were held already, and of those the oldest waited for the broker's confirm alone.
    pub held_back: u64,
    /// Deliveries refused whole.
    pub rejected: u64,
    /// Series known now, over all customers.
    pub series: usize,
    /// Windows closed of which samples were dropped, because the customer sends more than it may.
    pub windows_short: u64,
    /// Windows closed, empty ones left out.
    pub windows_closed: u64,
    /// Deliveries passed over, to come again: their source is about to be let go, or had not been recalled yet.
    pub deliveries_ignored: u64,
    /// Deliveries that were a second copy of a body, not read.
    pub repeated: u64,
    /// Bodies of which a second copy would not be noticed, because too many fed open windows.
    pub bodies_unremembered: u64,
    /// Snapshots taken.
    pub snapshots: u64,
    /// Bytes of their bodies.
    pub snapshot_bytes: u64,
    /// Feeds left out of snapshots that would have been larger than [`crate::snapshot::SNAPSHOT_BYTES_MAX`].
    pub snapshot_feeds_left_out: u64,
    /// Snapshots of a former owner that were gone on from.
    pub snapshots_recalled: u64,
    /// Messages in a snapshot queue that are no snapshot of its source, or of a version that is not read.
    pub snapshots_ignored: u64,
    /// Sources let go because a later owner's snapshot was found.
    pub outdated: u64,
    /// Messages with the values of a part's window, sent.
    pub partials_sent: u64,
    /// Such messages that could not be sent, because too many are unconfirmed; their windows close without them.
    pub partials_dropped: u64,
    /// Such messages received.
    pub partials: u64,
    /// Received of an owner who was not the part's last any more, and not believed.
    pub partials_stale: u64,
    /// Received of windows whose length no rule of this revision has.
    pub partials_unknown: u64,
    /// Values in them that were taken in.
    pub partial_rows: u64,
    /// Values for a question that this revision does not ask.
    pub partial_rows_unknown: u64,
    /// Values that came after their window was closed.
    pub partial_rows_late: u64,
    /// Values left aside because there are too many feeds or open windows.
    pub partial_rows_refused: u64,
    /// Times that windows which a wrong clock had closed ahead of time were taken back.
    pub clocks_brought_back: u64,
    /// Feeds that two parts have said something of in one window.
    pub feeds_in_two_parts: u64,
    /// Claims of parts that were left aside because too many waited.
    pub claims_refused: u64,
    /// Windows closed although some part had not sent its values, after [`crate::merge::PARTS_WAIT`].
    pub windows_incomplete: u64,
    /// Feeds that fell silent.
    pub silent: u64,
    /// Feeds that were silent for seven days and are forgotten.
    pub silent_forgotten: u64,
    /// Cluster and window pairs that gave a verdict.
    pub judged: u64,
    /// Cluster and window pairs with too few feeds for one.
    pub too_few_feeds: u64,
    /// Cluster and window pairs in which no feed could have been out of line.
    pub unattainable: u64,
    /// Feed and window pairs out of line.
    pub outliers: u64,
    /// Alert events published.
    pub alerts_published: u64,
    /// Alert events dropped because too many were waiting for the broker.
    pub alerts_dropped: u64,
    /// Alert events published and not confirmed yet.
    pub alerts_pending: usize,
    /// Test events taken.
    pub tests: u64,
    /// Test events refused: without a trace id, or too soon after another.
    pub tests_refused: u64,
    /// Sources of which a region was emptied, because their customer has moved to another.
    pub evacuations: u64,
    /// Such that were given up, with something left in the old region's queue.
    pub evacuations_given_up: u64,
    /// Deliveries carried to another region.
    pub carried: u64,
    /// Deliveries taken that had been carried from another region.
    pub carried_taken: u64,
    /// Times that all sources were let go because the lease could not be trusted any more.
    pub fenced: u64,
    /// Probes sent through sources' queues.
    pub probes: u64,
    /// Probes that did not come back in time, while nothing else came either.
    pub probes_failed: u64,
    /// Sources let go because without a lease the broker did not answer for them.
    pub degraded_lost: u64,
    /// Nudges of redirectors.
    pub nudges: u64,
    /// It holds the message of its witness queue.
    pub witness: bool,
    /// Times that it was lost.
    pub witness_lost: u64,
    /// Alert events held back for a while because the witness was lost.
    pub alerts_withheld: u64,
    /// Requests to the redirector that were not answered.
    pub requests_failed: u64,
    /// Answers of the redirector that could not be read or were of an older term.
    pub replies_ignored: u64,
    /// The lease has lapsed unanswered, and the node goes on with what it owns.
    pub degraded: bool,
    /// Sources consumed.
    pub sources: Vec<SourceStats>,
    /// Customers served since the start.
    pub customers: Vec<CustomerStats>,
}
