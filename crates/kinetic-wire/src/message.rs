//! The messages that cross processes. `docs/wire.md` explains them; JSON Schemas stand in `schemas/`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AlertId, AnalyticName, Breached, ClusterName, CustomerName, Epoch, Incarnation, LeaseId, NodeId,
    RegionName, ServiceName, SourceKey, SourceName, Term,
};

/// Kind of data that a source carries and an analyzer can decode.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// statsd lines with any of the tag dialects.
    Statsd,
    /// collectd's Command, JSON or Graphite format.
    Collectd,
    /// Graphite plaintext, also with the name in the routing key.
    Graphite,
    /// Influx line protocol.
    Influx,
    /// Not declared: found out from each message by the detection ladder.
    #[default]
    Auto,
}

/// What an analyzer can serve. An empty list means "any".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Serves {
    /// Regions whose broker it can reach.
    #[serde(default)]
    pub regions: Vec<RegionName>,
    /// Data types it decodes.
    #[serde(default)]
    pub data_types: Vec<DataType>,
    /// Customers it is reserved for.
    #[serde(default)]
    pub customers: Vec<CustomerName>,
}

/// A source that an analyzer says it owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Hold {
    /// The source.
    #[serde(flatten)]
    pub source: SourceKey,
    /// The epoch at which it was granted.
    pub epoch: Epoch,
    /// Samples per second that it brings, smoothed over about a minute; 0 where it is not known yet.
    #[serde(default)]
    pub rate: u64,
}

/// A source that the redirector gives to an analyzer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    /// The source.
    #[serde(flatten)]
    pub source: SourceKey,
    /// Where its queue is.
    pub region: RegionName,
    /// The epoch of this ownership.
    pub epoch: Epoch,
}

/// `register`: an analyzer has booted. Answered by [`LeaseReply`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Register {
    /// Message version, 1.
    pub v: u32,
    /// Operator's name of the node.
    pub node: NodeId,
    /// This start of it; a newer one displaces an older one of the same name.
    pub inc: Incarnation,
    /// What it can serve.
    #[serde(default)]
    pub serves: Serves,
    /// Relative capacity; 100 is an ordinary node.
    pub capacity: u32,
    /// Failure domain it is in, as its operator named it.
    #[serde(default)]
    pub zone: Option<String>,
    /// It holds the message of its witness queue (`names::witness_queue`), which tells of the end of its connection.
    #[serde(default)]
    pub witness: bool,
    /// Schema revision it runs.
    #[serde(default)]
    pub schema: Option<String>,
    /// Commits up to and with that revision: a later revision of one history has more.
    #[serde(default)]
    pub generation: u64,
    /// The leadership in which it was last told that an operator has relieved it: a later one may have forgotten.
    #[serde(default)]
    pub relieved: Option<Term>,
    /// What it still owns, when the redirector has forgotten.
    #[serde(default)]
    pub holds: Vec<Hold>,
}

/// `heartbeat`: an analyzer lives. Answered by [`LeaseReply`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// Message version, 1.
    pub v: u32,
    /// The lease it renews.
    pub lease: LeaseId,
    /// Node of the lease.
    pub node: NodeId,
    /// Incarnation of the lease.
    pub inc: Incarnation,
    /// Strictly increasing within the incarnation; a lower one is a replay.
    pub seq: u64,
    /// Share of its capacity in use, 0 to 1.
    pub load: f64,
    /// Age of the oldest unsettled delivery, milliseconds.
    pub lag_ms: u64,
    /// As in [`Register`].
    #[serde(default)]
    pub witness: bool,
    /// Schema revision it runs.
    #[serde(default)]
    pub schema: Option<String>,
    /// As in [`Register`].
    #[serde(default)]
    pub generation: u64,
    /// What it owns.
    pub holds: Vec<Hold>,
    /// Sources of which nothing is left in a region that they have moved out of; said for as long as they are granted there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evacuated: Vec<Evacuated>,
}

/// A source of which nothing is left in a region: what its queue held has been carried to the region that its customer is in now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Evacuated {
    /// The source.
    #[serde(flatten)]
    pub source: SourceKey,
    /// Where nothing is left.
    pub region: RegionName,
    /// The epoch under which it was granted there.
    pub epoch: Epoch,
}

/// `drain`: an analyzer wants its sources moved before it leaves. Answered by [`LeaseReply`], whose `revoke` grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    /// Message version, 1.
    pub v: u32,
    /// The lease.
    pub lease: LeaseId,
    /// Node of the lease.
    pub node: NodeId,
    /// Incarnation of the lease.
    pub inc: Incarnation,
    /// How long it can wait, milliseconds.
    pub deadline_ms: u64,
}

/// `goodbye`: an analyzer leaves now and holds nothing any more. Answered by [`Released`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Goodbye {
    /// Message version, 1.
    pub v: u32,
    /// The lease.
    pub lease: LeaseId,
    /// Node of the lease.
    pub node: NodeId,
    /// Incarnation of the lease.
    pub inc: Incarnation,
}

/// Answer to `register`, `heartbeat` and `drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseReply {
    /// Always true; [`RpcError`] has false.
    pub ok: bool,
    /// The lease.
    pub lease: LeaseId,
    /// Redirector leadership; the analyzer ignores answers of a lower one than it has seen.
    pub term: Term,
    /// Lease length. The analyzer counts it from when it sent the request, the redirector from when it received it.
    pub ttl_ms: u64,
    /// Wanted heartbeat interval.
    pub heartbeat_ms: u64,
    /// All that the analyzer owns or is to take now: the whole set, so that a lost answer does no harm.
    pub grant: Vec<Grant>,
    /// What it must let go: what it said it holds and does not own.
    pub revoke: Vec<SourceKey>,
    /// Of what is granted, what has moved out of the region that it is granted in: no window of it is to be judged there any more,
    /// also before the analyzer's own schema says where the source is now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moving: Vec<SourceKey>,
    /// The redirector is busy: add this to the next interval.
    pub backoff_ms: u64,
    /// An operator has relieved it: it is given nothing more, and should say so when it registers with another leader.
    #[serde(default)]
    pub relieved: bool,
    /// Redirector's wall clock, milliseconds since the Unix epoch, to measure skew with.
    pub now_ms: i64,
}

/// Answer to `goodbye`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Released {
    /// Always true.
    pub ok: bool,
    /// What has been let go and can go to another.
    pub released: Vec<SourceKey>,
    /// Redirector's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// `locate`: a client asks where to publish. The customer is not in it: it is the verified `user_id`.
/// Answered by [`LocateReply`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Locate {
    /// Message version, 1.
    pub v: u32,
    /// This client process.
    pub client: Incarnation,
    /// The host it runs on. Where a region's schema says `by_origin`, the order of the addresses depends on it.
    #[serde(default)]
    pub origin: Option<String>,
    /// Profile, where the client knows it; refused with `unknown_profile` where none of the customer's sources has it.
    #[serde(default)]
    pub profile: Option<String>,
    /// What it will publish; refused with `no_source` where none of the customer's sources, of that profile where one is
    /// given, takes one of them. A source that finds out what it is sent takes any, and `auto` is taken by any source.
    #[serde(default)]
    pub data_types: Vec<DataType>,
    /// Map version of the answer that the client has.
    #[serde(default)]
    pub have_epoch: Option<Epoch>,
    /// It listens on its reply-to address: send a [`Nudge`](crate::Nudge) there when the answer changes.
    #[serde(default)]
    pub listen: bool,
}

/// One address to publish to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// `amqp://host:port` or `amqps://host:port`, without login or vhost.
    pub uri: String,
    /// Virtual host.
    pub vhost: String,
    /// Exchange to publish to.
    pub exchange: String,
    /// Lower is tried first.
    pub priority: u32,
}

/// What a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Largest body.
    pub message_bytes: u64,
    /// A body should not wait longer than this to be filled.
    pub batch_ms: u64,
}

/// Answer to `locate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocateReply {
    /// Always true.
    pub ok: bool,
    /// Who the broker says is asking.
    pub customer: CustomerName,
    /// The customer's region.
    pub region: RegionName,
    /// Addresses, best first.
    pub endpoints: Vec<Endpoint>,
    /// Map version; a client keeps the higher of two.
    pub epoch: Epoch,
    /// The answer is good for this long.
    pub ttl_s: u64,
    /// Ask again after this long.
    pub refresh_s: u64,
    /// With no redirector to ask, the answer may be used for this long.
    pub stale_ok_s: u64,
    /// The redirector is busy: wait this much longer before asking again.
    pub backoff_s: u64,
    /// What may be sent.
    pub limits: Limits,
    /// Redirector's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// What to log in with at these addresses, where the installation hands such out; else the key that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
}

/// A login that expires by itself. Its `Debug` is without the token, so that no log line can carry it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Credential {
    /// The login: who asked.
    pub login: String,
    /// What is given as its password.
    pub token: String,
    /// The first moment at which it is good no more, milliseconds since the Unix epoch, on the clock of `now_ms`.
    pub expires_ms: i64,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("login", &self.login)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

/// What answers that say yes begin with: `ok` is the first field of [`LocateReply`].
const LOCATED: &[u8] = b"{\"ok\":true,";

/// Puts a credential, encoded by [`crate::encode`], into an encoded answer to `locate`: answers are copied from templates, and are not
/// read again for this. A refusal is left as it is. True if it was put in.
pub fn credit(answer: &mut Vec<u8>, credential: &[u8]) -> bool {
    if !answer.starts_with(LOCATED) || answer.pop_if(|last| *last == b'}').is_none() {
        return false;
    }
    answer.reserve(credential.len() + 32);
    answer.extend_from_slice(b",\"credential\":");
    answer.extend_from_slice(credential);
    answer.push(b'}');
    true
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RpcCode {
    /// The body is not the message that the routing key names.
    Malformed,
    /// No such customer in the schema.
    UnknownCustomer,
    /// The customer is in the schema, and switched off there.
    Disabled,
    /// None of the customer's sources has the profile that was asked for.
    UnknownProfile,
    /// None of the customer's sources, of that profile where one was asked for, takes one of the data types.
    NoSource,
    /// The request carries no login that the broker verified (`user_id`).
    Unauthenticated,
    /// The lease is unknown or has lapsed: register again.
    UnknownLease,
    /// No node of that name has a lease.
    UnknownNode,
    /// A newer process has this node's name.
    Superseded,
    /// A heartbeat older than one already seen.
    Replayed,
    /// No silence of that name stands.
    UnknownSilence,
    /// Nothing fires in a group of that name, or not in the episode that was meant.
    UnknownEpisode,
    /// A test of this customer is under way, or has just been.
    TestUnderWay,
    /// No recipient has that token, or nothing keeps mail from that address.
    UnknownAddress,
    /// A link that was not made here, or has been changed or cut.
    BadLink,
    /// A link that was made here, too long ago.
    ExpiredLink,
    /// The schema names no such recipient of such an alert block, or he has not taken himself off it.
    UnknownSubscription,
    /// Without this recipient an alert block would tell nobody.
    LastRecipient,
    /// What is asked for is past a bound, or cannot be; the message says why.
    Invalid,
    /// A table of the redirector or of the alert node is full.
    Overload,
    /// This redirector does not lead.
    NotLeader,
    /// A message version that this node does not know.
    Version,
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RpcError {
    /// Always false.
    pub ok: bool,
    /// The reason, for code.
    pub code: RpcCode,
    /// The reason, for people.
    pub message: String,
    /// Try again no sooner than this.
    pub retry_s: u64,
}

/// Either answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply<T> {
    /// Granted.
    Ok(T),
    /// Refused.
    Refused(RpcError),
}

/// On `kin.schema`: the schema repository has a new revision. Whoever follows it fetches now rather than later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SchemaNotice {
    /// Message version, 1.
    pub v: u32,
    /// Commit id, 40 hex digits.
    pub revision: String,
}

/// Whether an alert begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The feed is out of line.
    Firing,
    /// It is back, or its analytic is gone.
    Resolved,
}

/// Which side of the average counts.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Above the average.
    #[default]
    Above,
    /// Below the average.
    Below,
    /// Either side.
    Both,
}

/// One member of a cluster: an origin, with the metric that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Feed {
    /// Who it is, as it says itself (host name).
    pub origin: String,
    /// Metric name, with tags in `;k=v` form where it has any.
    pub metric: String,
}

/// The numbers of one verdict, all of one closed window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Numbers {
    /// The feed's value.
    pub value: f64,
    /// Mean over all feeds of the cluster, this one included.
    pub mean: f64,
    /// Standard deviation over all feeds of the cluster, this one included.
    pub deviation: f64,
    /// (value - mean) / deviation; 0 where the deviation is 0.
    pub deviations: f64,
    /// The rule's limit on `deviations`.
    pub limit: f64,
    /// Feeds with a value in the window, this one included.
    pub feeds: u32,
    /// Mean over the other feeds.
    pub peers_mean: f64,
    /// Smallest value among the other feeds.
    pub peers_min: f64,
    /// Largest value among the other feeds.
    pub peers_max: f64,
}

/// One of the last windows of a feed, beside its cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrailPoint {
    /// The window's end, milliseconds since the Unix epoch.
    pub end_ms: i64,
    /// The feed's value, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Mean over all feeds of the cluster, this one included.
    pub mean: f64,
    /// Standard deviation over all feeds of the cluster, as the rule reckons it.
    pub deviation: f64,
}

/// `kinetic.alert.v1` on `kin.alerts`: one feed begins, goes on or ceases to be out of line with its peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertEvent {
    /// Message version, 1.
    pub v: u32,
    /// Derived id: the same verdict has the same id, whoever reaches it.
    pub id: AlertId,
    /// Whose.
    pub customer: CustomerName,
    /// From which source.
    pub source: SourceName,
    /// By which rule.
    pub analytic: AnalyticName,
    /// Of which service.
    pub service: ServiceName,
    /// Of which cluster.
    pub cluster: ClusterName,
    /// Which feed.
    pub feed: Feed,
    /// Begin, continuation or end.
    pub state: AlertState,
    /// The closed window's start, milliseconds since the Unix epoch.
    pub window_start_ms: i64,
    /// The closed window's end, milliseconds since the Unix epoch.
    pub window_end_ms: i64,
    /// End of the window in which this feed began to fire, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// What was computed; absent when the feed's silence ended the alert.
    pub numbers: Option<Numbers>,
    /// What of each feed was compared: `mean`, `p95`, `count`, …
    pub value_kind: String,
    /// Which side counts.
    pub direction: Direction,
    /// Windows out of line among the last `of`.
    pub hits: u32,
    /// Windows looked at for the verdict.
    pub of: u32,
    /// Owner's epoch; the alert node refuses a lower one than it has seen.
    pub epoch: Epoch,
    /// Analyzer that decided.
    pub node: NodeId,
    /// Schema revision it ran.
    #[serde(default)]
    pub schema: Option<String>,
    /// W3C trace context of a delivery that fed the window.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// The feed's last judged windows, oldest first and this one included, in the event that begins an alert: for a
    /// picture. It starts anew where a source has changed its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail: Option<Vec<TrailPoint>>,
    /// What was breached, where that is what the event tells of; the alert node alone makes such events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breach: Option<Breached>,
}
