//! The machines' counters as numbers on `/metrics`, each with its sentence.

use std::collections::BTreeMap;

use kinetic_analyzer::stats::Stats as AnalyzerStats;

use crate::telemetry::Metric;

/// One number a field of a stats struct: `counter field: "sentence",`.
macro_rules! numbers {
    ($stats:expr, $prefix:literal, { $($kind:ident $field:ident: $help:literal,)* }) => {
        vec![$(Metric::$kind(concat!($prefix, "_", stringify!($field)), $help, $stats.$field as _)),*]
    };
}

/// The analyzer's numbers.
pub(crate) fn analyzer(stats: &AnalyzerStats) -> Vec<Metric> {
    let mut metrics = numbers!(stats, "kinetic_analyzer", {
        counter deliveries: "Deliveries taken.",
        counter bytes: "Bytes of their bodies.",
        counter samples: "Samples decoded.",
        counter samples_grouped: "Samples that some analytic looks at.",
        counter no_origin: "Samples that nothing says the feed of.",
        counter future: "Samples stamped too far ahead of this node's clock, dropped.",
        gauge skew_ahead_max_ms: "How far ahead of this node's clock a publisher's stamp was, at most.",
        counter late: "Samples that came after their window was closed, dropped.",
        counter already_counted: "Samples delivered again after their window was closed, dropped.",
        counter windows_refused: "Samples dropped because too many windows were open.",
        counter early_acked: "Deliveries acknowledged before their windows were closed, because too many were held.",
        counter held_back: "Deliveries taken beyond the bound because the oldest only wait for the broker's confirm.",
        counter rejected: "Deliveries refused whole and dead-lettered.",
        counter windows_closed: "Windows closed, empty ones left out.",
        counter windows_short: "Windows closed of which samples were dropped, because their customer sends more than it may.",
        counter deliveries_ignored: "Deliveries passed over because their source is about to be let go; they come again.",
        counter repeated: "Deliveries that were a second copy of a body, not read.",
        counter bodies_unremembered: "Bodies of which a second copy would not be noticed: too many fed open windows.",
        counter snapshots: "Snapshots taken of what is remembered of a source.",
        counter snapshot_bytes: "Bytes of their bodies.",
        counter snapshot_feeds_left_out: "Feeds left out of snapshots that would have been too large.",
        counter snapshots_recalled: "Snapshots of a former owner that were gone on from.",
        counter snapshots_ignored: "Messages in a snapshot queue that are no snapshot that can be read.",
        counter outdated: "Sources let go because a later owner's snapshot was found.",
        counter judged: "Cluster and window pairs that gave a verdict.",
        counter too_few_feeds: "Cluster and window pairs with too few feeds for a verdict.",
        counter unattainable: "Cluster and window pairs in which no feed could have been out of line.",
        counter outliers: "Feed and window pairs out of line.",
        counter alerts_published: "Alert events published.",
        counter alerts_dropped: "Alert events dropped because too many were waiting for the broker.",
        gauge alerts_pending: "Alert events published and not confirmed yet.",
        counter tests: "Test events taken.",
        counter tests_refused: "Test events refused: without a trace id, or too soon after another.",
        counter evacuations: "Sources of which a region was emptied, because their customer has moved to another.",
        counter evacuations_given_up: "Of those, that were given up with something left in the old region's queue.",
        counter carried: "Deliveries carried to the region that their customer has moved to.",
        counter carried_taken: "Deliveries taken that had been carried from another region.",
        counter fenced: "Times that all sources were let go because the lease could not be trusted any more.",
        counter probes: "Messages sent to itself through sources' queues, to prove silence or to be sure of a source.",
        counter probes_failed: "Of those, that did not come back in time while nothing else came either.",
        counter degraded_lost: "Sources let go because without a lease the broker did not answer for them.",
        counter nudges: "Times a redirector asked for a heartbeat.",
        counter witness_lost: "Times that the message of the witness queue was lost.",
        counter alerts_withheld: "Alert events held back for a while because the witness was lost.",
        counter requests_failed: "Requests to the redirector that were not answered.",
        counter replies_ignored: "Answers of the redirector that made no sense or came from an older term.",
    });
    metrics.extend(parts(stats));
    gauges(stats, &mut metrics);
    customers(stats, &mut metrics);
    metrics
}

fn gauges(stats: &AnalyzerStats, metrics: &mut Vec<Metric>) {
    let witness = if stats.witness { 1.0 } else { 0.0 };
    let help = "1 while the broker bears witness that this node's connection stands.";
    metrics.push(Metric::gauge("kinetic_analyzer_witness", help, witness));
    let degraded = if stats.degraded { 1.0 } else { 0.0 };
    let help = "1 while the lease has lapsed unanswered and the node goes on with what it owns.";
    metrics.push(Metric::gauge("kinetic_analyzer_degraded", help, degraded));
    let help = "Deliveries held unsettled until their windows are closed.";
    let held: usize = stats.sources.iter().map(|source| source.held).sum();
    metrics.push(Metric::gauge("kinetic_analyzer_deliveries_held", help, held as f64));
    let help = "Age of the oldest unsettled delivery.";
    let lag_ms = stats.sources.iter().map(|source| source.lag_ms).max().unwrap_or_default();
    metrics.push(Metric::gauge("kinetic_analyzer_lag_seconds", help, lag_ms as f64 / 1000.0));
    let help = "How long ago the windows of the oldest unsettled delivery should have been closed.";
    let behind_ms = stats.sources.iter().map(|source| source.behind_ms).max().unwrap_or_default();
    metrics.push(Metric::gauge("kinetic_analyzer_behind_seconds", help, behind_ms as f64 / 1000.0));
    metrics.push(Metric::gauge("kinetic_analyzer_sources", "Sources consumed.", stats.sources.len() as f64));
}

/// The customer is a label on the few numbers that an operator must be able to trace to one.
fn customers(stats: &AnalyzerStats, metrics: &mut Vec<Metric>) {
    for customer in &stats.customers {
        let name = customer.customer.as_str();
        metrics.extend([Metric::gauge(
            "kinetic_analyzer_series",
            "Series known now.",
            customer.series as f64,
        )
        .with("customer", name)]);
        for (kind, count) in customer.breaches.iter() {
            let (number, help, label) = if kind.is_limit() {
                (
                    "kinetic_analyzer_limited",
                    "Samples dropped, and messages refused, for want of room in a limit.",
                    "limit",
                )
            } else {
                ("kinetic_analyzer_security_events", "Messages of somebody else, or with copies.", "kind")
            };
            metrics
                .push(Metric::counter(number, help, count).with("customer", name).with(label, kind.as_str()));
        }
        for (reason, count) in customer.rejects.iter() {
            metrics.push(
                Metric::counter("kinetic_analyzer_rejects", "Lines and bodies refused.", count)
                    .with("customer", name)
                    .with("reason", reason.name()),
            );
        }
    }
}

/// Whether some broker stops the analyzer from publishing.
pub(crate) fn publish_blocked(is_blocked: bool) -> Metric {
    let help = "1 while a broker takes no publishes, because it is short of memory or disk.";
    Metric::gauge("kinetic_analyzer_publish_blocked", help, f64::from(u8::from(is_blocked)))
}

/// How long the redirector took to answer the last request.
pub(crate) fn round_trip(took: std::time::Duration) -> Metric {
    let help = "How long the last answered request to the redirector took.";
    Metric::gauge("kinetic_analyzer_request_seconds", help, took.as_secs_f64())
}

/// The analyzer's numbers about split sources and silence.
fn parts(stats: &AnalyzerStats) -> Vec<Metric> {
    numbers!(stats, "kinetic_analyzer", {
        counter partials_sent: "Messages with the values of a part's window, sent.",
        counter partials_dropped: "Such messages not sent, because too many were unconfirmed.",
        counter partials: "Messages with the values of a part's window, received.",
        counter partials_stale: "Such messages of an owner who was not the part's last any more.",
        counter partials_unknown: "Such messages about windows of a length that no rule has.",
        counter partial_rows: "Values of feeds taken in from parts.",
        counter partial_rows_unknown: "Values from parts for a question that this revision does not ask.",
        counter partial_rows_late: "Values from parts that came after their window was closed.",
        counter partial_rows_refused: "Values from parts left aside: too many feeds or open windows.",
        counter feeds_in_two_parts: "Feeds that two parts had in one window.",
        counter claims_refused: "Closed windows of parts left aside because too many waited for an earlier one.",
        counter windows_incomplete: "Windows closed without the values of some part.",
        counter clocks_brought_back: "Times that windows which a wrong clock had closed ahead of time were taken back.",
        counter silent: "Feeds that fell silent, by a rule that listens.",
        counter silent_forgotten: "Feeds silent for seven days, and forgotten.",
    })
}

/// The alert node's numbers.
pub(crate) fn alert(stats: &kinetic_alert::Stats) -> Vec<Metric> {
    let mut metrics = numbers!(stats, "kinetic_alert", {
        counter events: "Alert events accepted into history.",
        counter duplicates: "Deliveries of an event that was known already.",
        counter malformed: "Deliveries that are no alert event, dead-lettered.",
        counter stale_epoch: "Events of a former owner of their source, refused.",
        counter out_of_order: "Events older than what is known of their alert: recorded, without effect.",
        counter alerts_refused: "Firing events that found too many alerts followed: recorded, not followed.",
        counter alerts_stale: "Alerts taken as resolved because nothing was heard of them any more.",
        counter ids_evicted: "Event ids forgotten because the table was full.",
        counter epochs_refused: "Sources whose epoch is not remembered because the table was full.",
        counter settled: "Changes that a recipient is not mailed.",
        counter folds: "Times something was left unsaid because another service explains it.",
        counter beacons: "Signs of life of nodes that are watched.",
        counter beacons_malformed: "Messages of kin.alive that are no sign of life.",
        counter beacons_refused: "Signs of life of nodes that are not watched because the table was full.",
        counter nodes_forgotten: "Nodes silent for so long that they are not waited for any more.",
        counter listens: "Words of analyzers on what they hear of customers whose silence is an event.",
        counter listens_stale: "Such words of a former owner of its source.",
        counter listens_unknown: "Such words about sources that are not watched by this revision of the schema.",
        counter customers_forgotten: "Customers silent for so long that they are not waited for any more.",
        counter breaches: "Customers' limits that came to be exceeded, and security events that came up.",
        counter breaches_stale: "Words of analyzers on such of a former owner of its source.",
        counter breaches_unknown: "Such words about customers that this revision does not have, or about what is over.",
        counter breaches_refused: "Such that are not followed because the table was full.",
        gauge breaches_standing: "Customers' limits that are exceeded, and security events, as they stand.",
        gauge customers: "Customers whose silence is an event, as far as anybody listens to them.",
        gauge customers_not_begun: "Of these, such of whom nothing has ever come.",
        gauge customers_silent: "Of these, such that are silent.",
        counter requests: "Requests of operators.",
        counter requests_refused: "Requests that were not granted.",
        counter tests: "Test events announced.",
        counter tests_refused: "Announcements of test events refused: one of the customer was under way.",
        counter tests_unannounced: "Test events that came without having been announced, or too late.",
        counter silences_refused: "Silences that found too many others.",
        counter acknowledgements: "Acknowledgements taken.",
        counter links_seen: "Links of mails that were looked at.",
        counter links_acted: "Links of mails that were used.",
        counter links_forged: "Tokens of links that were not made here, or have been changed or cut.",
        counter links_expired: "Links that were made too long ago.",
        counter unsubscribes_refused: "Recipients who wanted off an alert and were kept: nobody else would be told, or the table was full.",
        gauge unsubscribed: "Recipients who have taken themselves off an alert.",
        gauge silences: "Silences that have not ended.",
        gauge nodes: "Nodes watched.",
        gauge nodes_silent: "Of these, silent.",
        gauge alerts: "Alerts followed.",
        gauge alerts_firing: "Alerts firing.",
        gauge groups: "Groups of alerts.",
        gauge appends_pending: "Records handed out and not yet known to be on disk.",
    });
    metrics.extend(told(stats));
    metrics
}

/// Its numbers about mails and posts.
fn told(stats: &kinetic_alert::Stats) -> Vec<Metric> {
    numbers!(stats, "kinetic_alert", {
        counter outbox_full: "Times a group had a mail to send while the outbox was full.",
        counter mail_absent: "Events accepted while the schema names no relay: history only.",
        counter rows_cut: "Rows left out of a mail for its size.",
        counter templates_failed: "Templates of customers that failed: their part of a mail went out in its usual form, with a note.",
        counter mails_queued: "Mails decided upon.",
        counter mails_tried: "Attempts to hand over a mail.",
        counter mails_retried: "Attempts that are to be repeated.",
        counter mails_accepted: "Mails that the relay took.",
        counter mails_maybe_accepted: "Attempts whose outcome nobody knows: the last reply was lost.",
        counter mails_superseded: "Mails that waited and were replaced, because what they said was no longer so.",
        counter relay_failures: "Times a relay failed that was taken to work, or was probed.",
        counter posts_queued: "Posts to webhooks decided upon.",
        counter posts_tried: "Attempts at posts.",
        counter posts_retried: "Attempts at posts that are to be repeated.",
        counter posts_accepted: "Posts that their receiver took.",
        counter posts_refused: "Posts that their receiver refused for good.",
        counter posts_expired: "Posts given up.",
        counter posts_superseded: "Posts that waited and were replaced, because what they said was no longer so.",
        counter receiver_failures: "Times a receiver of posts failed that was taken to work, or was probed.",
        counter mails_held: "Times that what a recipient was to be told had to wait for a digest.",
        counter digests_queued: "Digests and reports decided upon.",
        counter digests_cut: "Correspondences that had to wait for the next digest, because one was full.",
        counter refusals: "Addresses refused for good, by relays and by bounces.",
        counter refusals_forgotten: "Of these, not remembered because the table was full.",
        counter mails_suppressed: "Mails not sent because their recipient is suppressed.",
        counter bounces_passing: "Bounces that are not for good.",
        counter bounces_unknown: "Bounces of no recipient of the schema.",
        counter notices_cut: "Notices of mail that did not arrive, dropped because too many waited.",
        counter mails_refused: "Mails refused for good.",
        counter mails_expired: "Mails given up.",
        counter attempts_unknown: "Reports about attempts that were not under way.",
        gauge outbox: "Mails waiting or in flight.",
        gauge mails_in_flight: "Of these, in flight.",
        gauge posts_in_flight: "Posts in flight.",
        gauge receivers_failing: "Receivers of posts taken not to work.",
        gauge missed_cut: "Alerts that came and went while mail could not be sent, and that no mail names.",
        gauge streams_held: "Correspondences that wait for a digest.",
        gauge suppressed: "Addresses to which nothing is sent.",
        gauge relays: "Mail relays of the schema.",
        gauge relays_failing: "Of these, taken not to work.",
    })
}

/// The redirector's numbers.
pub(crate) fn redirector(stats: &kinetic_redirector::stats::Stats) -> Vec<Metric> {
    let mut metrics = numbers!(stats, "kinetic_redirector", {
        gauge analyzers: "Analyzers with a lease.",
        gauge sources_owned: "Sources with an owner.",
        gauge sources_unowned: "Sources without one.",
        gauge sources_moving: "Sources whose owner has been told to let go.",
        gauge replies_parked: "Answers that wait for a token.",
        gauge listeners: "Clients that listen for changes of their answer.",
        counter copy_restarts: "Times that the copy of the map was begun anew.",
        counter told_ignored: "Messages on kin.map that could not be read, or were of a lower term.",
        counter elections: "Tokens that began a term.",
        counter leaderships: "Terms that it has led.",
        counter deposed: "Terms that ended.",
        counter deafened: "Terms given up because no requests were delivered.",
        counter told: "Messages told on kin.map.",
        counter told_overflows: "Times that more had changed than is told one by one.",
        counter listeners_refused: "Clients that found the table of listeners full.",
        counter nudges: "Nudges sent.",
        counter nudges_dropped: "Nudges dropped because too many waited.",
        counter witnessed: "Ends of analyzers' connections that the broker told of.",
        counter slowed: "Answers that asked their receiver to slow down.",
        counter moves: "Sources that went from one analyzer to another.",
        counter grants: "Ownerships that began.",
        counter adopted: "Sources taken over from what an analyzer said it holds.",
        gauge sources_evacuating: "Sources whose customer has moved to another region, and whose old region is not empty yet.",
        counter evacuations: "Regions emptied of a source that has moved out.",
        counter evacuations_overdue: "Such that were not empty in time; the source is granted in its new region.",
        counter claims_incredible: "Claims with an epoch that nobody can have.",
        counter relieved_overflows: "Relieved analyzers that were one too many to be remembered.",
        counter leases_lapsed: "Leases that were not renewed in time.",
        counter leases_superseded: "Leases that ended because a newer process has the node's name.",
        counter stores: "Blocks of epochs written.",
    });
    let states = [
        ("kinetic_redirector_leading", "1 while it leads.", u64::from(stats.leading)),
        (
            "kinetic_redirector_listening",
            "1 while it leads, and still hears what owners hold.",
            u64::from(stats.listening),
        ),
        (
            "kinetic_redirector_copy_whole",
            "1 while it stands by with a complete copy of the map.",
            u64::from(stats.copy_whole),
        ),
        ("kinetic_redirector_term", "Its term, or the highest that it knows of.", stats.term.0),
        ("kinetic_redirector_map_version", "Version of its answers to locate.", stats.map_version.0),
    ];
    metrics.extend(states.map(|(name, help, value)| Metric::gauge(name, help, value as _)));
    for (kind, count) in &stats.requests {
        metrics.push(Metric::counter("kinetic_redirector_requests", "Requests.", *count).with("kind", *kind));
    }
    for (code, count) in &stats.refusals {
        let code = format!("{code:?}").to_lowercase();
        metrics.push(
            Metric::counter("kinetic_redirector_refusals", "Requests refused.", *count).with("code", code),
        );
    }
    metrics
}

/// The provisioner's numbers. `leads`: decisions are made here.
pub(crate) fn provision(
    status: &kinetic_redirector::fleet::Status,
    counts: &crate::shell::provision::Counts,
    leads: bool,
) -> Vec<Metric> {
    let mut metrics = numbers!(status, "kinetic_provision", {
        gauge wanted: "Provisioned analyzers that there should be.",
        gauge running: "Provisioned analyzers that have registered.",
        gauge starting: "Provisioned analyzers that have not registered yet.",
        gauge draining: "Provisioned analyzers that are losing their sources.",
        gauge stopping: "Provisioned analyzers that are to be gone.",
        gauge failures: "Starts that failed since the last that did not.",
        counter failed: "Starts that came to nothing, and analyzers that ended soon after.",
    });
    let held = if status.held.is_some() { 1.0 } else { 0.0 };
    let help = "1 while another analyzer is wanted and cannot be started now.";
    metrics.push(Metric::gauge("kinetic_provision_held", help, held));
    let help = "1 while this redirector leads and decides about the fleet.";
    metrics.push(Metric::gauge("kinetic_provision_leads", help, if leads { 1.0 } else { 0.0 }));
    for ((action, outcome), count) in counts {
        let help = "What the provisioner was told, by how it went; planned: a dry run.";
        let metric = Metric::counter("kinetic_provision_actions", help, *count);
        metrics.push(metric.with("action", *action).with("outcome", *outcome));
    }
    metrics
}

/// The agent's numbers.
pub(crate) fn agent(stats: &kinetic_agent::stats::Stats, tokens: kinetic_amqp::TokenStats) -> Vec<Metric> {
    let mut metrics = numbers!(tokens, "kinetic_agent_tokens", {
        counter logins: "Connections that a token of locate opened.",
        counter renewed: "Tokens that a standing connection was given.",
        counter refused: "Tokens that the broker did not take; the key was used.",
    });
    metrics.extend(numbers!(stats, "kinetic_agent", {
        counter datagrams: "Datagrams received.",
        counter lines: "Lines taken from them into bodies.",
        counter line_bytes: "Bytes of those lines.",
        counter datagrams_dropped: "Datagrams dropped because the buffer was full or the agent was stopping.",
        counter bytes_dropped: "Bytes of those datagrams.",
        counter lines_too_long: "Lines dropped because no body takes one so long.",
        counter bodies: "Bodies closed.",
        counter published: "Publishes, repeats included.",
        counter confirmed: "Bodies that the broker has taken.",
        counter failed: "Publishes that failed and are repeated.",
        counter unroutable: "Publishes that the broker had nowhere to put, and that are repeated.",
        counter locates: "Times the redirector was asked.",
        counter locate_failures: "Times it did not answer.",
        counter locate_refusals: "Times it refused.",
        counter hops: "Times it was asked again at once because its answer led to an address that takes nothing.",
        counter hops_exceeded: "Times it was not because too many answers in a row had led to such.",
        counter nudges: "Hints that the answer to locate has changed.",
        counter locate_stale: "Answers ignored because they were older than the one in use.",
        counter renewals: "Tokens that the connection was to be given in time.",
        counter lapses: "Tokens that lapsed without another, so that the connection was made anew with the key.",
        counter connects: "Connections asked for.",
        counter disconnects: "Connections that broke or could not be made.",
        counter bodies_abandoned: "Bodies given up because the agent had to stop.",
        gauge bodies_buffered: "Bodies that wait for a connection or a confirm.",
        gauge bytes_buffered: "What they and the open body occupy.",
        gauge in_flight: "Publishes in flight.",
    }));
    metrics
}

/// The embedded broker's numbers.
pub(crate) fn broker(stats: &kinetic_broker::Stats) -> Vec<Metric> {
    let mut metrics = numbers!(stats, "kinetic_broker", {
        gauge connections: "Open connections.",
        gauge channels: "Open channels.",
        gauge queues: "Queues.",
        gauge consumers: "Consumers.",
        gauge messages_ready: "Messages ready in queues.",
        gauge messages_unacked: "Messages delivered and not yet acknowledged.",
        gauge bytes_held: "Bytes of messages held.",
        counter published: "Messages published.",
        counter routed: "Copies put into queues.",
        counter unroutable: "Messages that no queue took.",
        counter delivered: "Messages handed to consumers.",
        counter acked: "Messages acknowledged.",
        counter redelivered: "Deliveries that had been made before.",
        counter dead_lettered: "Messages sent on to a dead-letter exchange.",
        counter dropped_overflow: "Messages dropped from the head of a full queue.",
        counter rejected_overflow: "Messages refused by a full queue.",
        counter expired: "Messages whose time to live ended.",
        counter malformed_frames: "Connections ended by frames that are not AMQP.",
        counter heartbeats_missed: "Connections ended because nothing was heard for two heartbeats.",
        counter slow_readers: "Times that dispatching stopped because a connection reads too slowly.",
        counter publishers_blocked: "Times that a publisher was stopped because too many bytes are held.",
    });
    let refused = &stats.refused;
    for (reason, count) in [
        ("login", refused.login),
        ("connections", refused.connections),
        ("tls", refused.tls),
        ("crowded", refused.crowded),
        ("handshake", refused.handshake),
        ("access", refused.access),
        ("not_found", refused.not_found),
        ("locked", refused.locked),
        ("precondition", refused.precondition),
        ("other", refused.other),
    ] {
        metrics.push(
            Metric::counter("kinetic_broker_refused", "Operations refused.", count).with("reason", reason),
        );
    }
    metrics
}

/// The end of the certificate that the embedded broker shows.
pub(crate) fn broker_certificate(expires_s: i64) -> Metric {
    let help = "End of the broker's TLS certificate, seconds since the Unix epoch.";
    Metric::gauge("kinetic_broker_certificate_expires_timestamp_seconds", help, expires_s as f64)
}

/// Customers of whom the embedded broker tells by name: those whom it had to refuse or to stop, the most often first.
const CUSTOMERS_SHOWN_MAX: usize = 50;

/// What single customers are refused on the embedded broker.
pub(crate) fn broker_customers(owners: &BTreeMap<String, kinetic_broker::OwnerStats>) -> Vec<Metric> {
    let mut worst: Vec<_> = owners
        .iter()
        .map(|(owner, stats)| (stats.refused.total() + stats.publishers_blocked, owner, stats))
        .filter(|(troubles, ..)| *troubles > 0)
        .collect();
    worst.sort_by_key(|(troubles, ..)| std::cmp::Reverse(*troubles));
    let show = |(_, owner, stats): &(u64, &String, &kinetic_broker::OwnerStats)| {
        let refused = "Operations refused to logins of a customer, for those who have the most.";
        let blocked =
            "Times that a publisher of a customer was stopped because it holds its share of memory.";
        [
            Metric::counter("kinetic_broker_customer_refused", refused, stats.refused.total()),
            Metric::counter("kinetic_broker_customer_blocked", blocked, stats.publishers_blocked),
        ]
        .map(|metric| metric.with("customer", owner.as_str()))
    };
    worst.iter().take(CUSTOMERS_SHOWN_MAX).flat_map(show).collect()
}
