//! What the alert node counts. The shell exports it; no metrics library lives here.

/// Counters since boot, and gauges as of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events accepted into history.
    pub events: u64,
    /// Deliveries of an event that history or the pending writes already had.
    pub duplicates: u64,
    /// Deliveries that are no alert event (dead-lettered).
    pub malformed: u64,
    /// Events of a former owner of their source, refused by epoch: acknowledged, not recorded.
    pub stale_epoch: u64,
    /// Events older than what is known of their alert: recorded, without effect.
    pub out_of_order: u64,
    /// Firing events that found `alerts_max` reached for their customer: recorded, not followed.
    pub alerts_refused: u64,
    /// Alerts taken as resolved because nothing was heard of them for `stale_after`.
    pub alerts_stale: u64,
    /// Event ids forgotten because the dedup window was full.
    pub ids_evicted: u64,
    /// Sources whose epoch is not remembered because that table was full.
    pub epochs_refused: u64,
    /// Changes that a recipient is not mailed, by its alert's `send_resolved` or because its route is gone.
    pub settled: u64,
    /// Times something was left unsaid because the failure of another service explains it.
    pub folds: u64,
    /// Times a group had a mail to send while the outbox was full.
    pub outbox_full: u64,
    /// Events accepted while the schema names no relay: history only.
    pub mail_absent: u64,
    /// Rows left out of a mail for its size.
    pub rows_cut: u64,
    /// Templates of customers that failed: their part of a mail went out in its usual form, with a note.
    pub templates_failed: u64,
    /// Mails decided upon.
    pub mails_queued: u64,
    /// Attempts handed to the shell.
    pub mails_tried: u64,
    /// Attempts that are to be repeated.
    pub mails_retried: u64,
    /// Mails that the relay took.
    pub mails_accepted: u64,
    /// Attempts whose outcome nobody knows: the reply to the final dot was lost.
    pub mails_maybe_accepted: u64,
    /// Mails that waited until what they said was no longer so, and were replaced.
    pub mails_superseded: u64,
    /// Times a relay failed that was taken to work, or was probed.
    pub relay_failures: u64,
    /// Posts to webhooks decided upon.
    pub posts_queued: u64,
    /// Attempts at posts handed to the shell.
    pub posts_tried: u64,
    /// Attempts at posts that are to be repeated.
    pub posts_retried: u64,
    /// Posts that their receiver took.
    pub posts_accepted: u64,
    /// Posts that their receiver refused for good.
    pub posts_refused: u64,
    /// Posts given up.
    pub posts_expired: u64,
    /// Posts that waited until what they said was no longer so, and were replaced.
    pub posts_superseded: u64,
    /// Times a receiver failed that was taken to work, or was probed.
    pub receiver_failures: u64,
    /// Times that what a recipient was to be told had to wait for a digest.
    pub mails_held: u64,
    /// Digests and reports decided upon.
    pub digests_queued: u64,
    /// Correspondences that had to wait for the next digest, because one was full.
    pub digests_cut: u64,
    /// Addresses refused for good, by relays and by bounces.
    pub refusals: u64,
    /// Of these, not remembered because that table was full.
    pub refusals_forgotten: u64,
    /// Mails not sent because their recipient is suppressed.
    pub mails_suppressed: u64,
    /// Bounces that are not for good.
    pub bounces_passing: u64,
    /// Bounces of no recipient of the schema.
    pub bounces_unknown: u64,
    /// Notices of mail that did not arrive, dropped because too many waited for one recipient.
    pub notices_cut: u64,
    /// Mails refused for good.
    pub mails_refused: u64,
    /// Mails given up after `mail_expiry`.
    pub mails_expired: u64,
    /// Reports about attempts that were not under way.
    pub attempts_unknown: u64,
    /// Signs of life of nodes that are watched.
    pub beacons: u64,
    /// Messages of `kin.alive` that are none.
    pub beacons_malformed: u64,
    /// Signs of life of nodes that are not watched because the table was full.
    pub beacons_refused: u64,
    /// Nodes that have been silent for so long that they are not waited for any more.
    pub nodes_forgotten: u64,
    /// Words of analyzers on what they hear of customers whose silence is an event.
    pub listens: u64,
    /// Such words of a former owner of its source.
    pub listens_stale: u64,
    /// Such words about what this revision does not have, or no longer asks.
    pub listens_unknown: u64,
    /// Limits that came to be exceeded, and security events that came up.
    pub breaches: u64,
    /// Words of analyzers on such of a former owner of its source.
    pub breaches_stale: u64,
    /// Such words about customers that this revision does not have, or about what is over.
    pub breaches_unknown: u64,
    /// Such that are not followed because the table was full.
    pub breaches_refused: u64,
    /// Gauge: such that stand.
    pub breaches_standing: u64,
    /// Customers that have been silent for so long that they are not waited for any more.
    pub customers_forgotten: u64,
    /// Requests of operators.
    pub requests: u64,
    /// Requests that were not granted.
    pub requests_refused: u64,
    /// Test events announced.
    pub tests: u64,
    /// Announcements of tests refused: one of the customer was under way.
    pub tests_refused: u64,
    /// Test events that came without having been announced, or too late.
    pub tests_unannounced: u64,
    /// Silences that found the table full.
    pub silences_refused: u64,
    /// Acknowledgements taken.
    pub acknowledgements: u64,
    /// Links of mails that were looked at.
    pub links_seen: u64,
    /// Links of mails that were used.
    pub links_acted: u64,
    /// Tokens of links that were not made here, or have been changed or cut.
    pub links_forged: u64,
    /// Links that were made too long ago.
    pub links_expired: u64,
    /// Recipients who wanted off an alert block and were kept: nobody else would be told, or the table was full.
    pub unsubscribes_refused: u64,
    /// Gauge: recipients who have taken themselves off an alert block.
    pub unsubscribed: u64,
    /// Gauge: silences that have not ended.
    pub silences: u64,
    /// Gauge: customers whose silence is an event, as far as anybody listens to them.
    pub customers: u64,
    /// Gauge: of these, such of whom nothing has ever come.
    pub customers_not_begun: u64,
    /// Gauge: and such that are silent.
    pub customers_silent: u64,
    /// Gauge: nodes watched.
    pub nodes: u64,
    /// Gauge: of these, silent.
    pub nodes_silent: u64,
    /// Gauge: alerts followed.
    pub alerts: u64,
    /// Gauge: of these, firing.
    pub alerts_firing: u64,
    /// Gauge: groups.
    pub groups: u64,
    /// Gauge: mails waiting or in flight.
    pub outbox: u64,
    /// Gauge: of these, in flight.
    pub mails_in_flight: u64,
    /// Gauge: posts in flight.
    pub posts_in_flight: u64,
    /// Gauge: receivers of posts taken not to work.
    pub receivers_failing: u64,
    /// Gauge: alerts that came and went while no mail could be sent, and that no mail will name, because too many did.
    pub missed_cut: u64,
    /// Gauge: correspondences that wait for a digest.
    pub streams_held: u64,
    /// Gauge: addresses to which nothing is sent.
    pub suppressed: u64,
    /// Gauge: relays of the schema.
    pub relays: u64,
    /// Gauge: of these, taken not to work.
    pub relays_failing: u64,
    /// Gauge: records handed out and not yet known to be safe.
    pub appends_pending: u64,
}
