//! Requests to the alert node: silences, acknowledgements, and what fires. `docs/wire.md` explains them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AnalyticName, ClusterName, CustomerName, Feed, ServiceName};

/// Nobody is told of what a silence means, from `from_ms` to `until_ms`. Globs as in the schema; a list that is empty leaves
/// nothing out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Silence {
    /// Name, unique within the customer; who asks for the silence gives it, so that asking twice makes one.
    pub id: String,
    /// Whose alerts.
    pub customer: CustomerName,
    /// Globs of services, any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Globs of clusters by their own name, any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// Globs of analytics, any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub analytics: Vec<String>,
    /// Globs of origins, any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// Globs of metrics, any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<String>,
    /// Who wants it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When it begins, milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// When it ends, milliseconds since the Unix epoch.
    pub until_ms: i64,
}

/// `silence`: an operator wants nobody to be told of something for a while. Answered by [`Silenced`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AskSilence {
    /// Message version, 1.
    pub v: u32,
    /// The silence.
    pub silence: Silence,
}

/// `unsilence`: a silence ends now, or does not begin. Answered by [`Silenced`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unsilence {
    /// Message version, 1.
    pub v: u32,
    /// Whose.
    pub customer: CustomerName,
    /// Its name.
    pub id: String,
    /// Who ends it.
    pub author: String,
}

/// Answer to `silence` and `unsilence`, once it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Silenced {
    /// Always true.
    pub ok: bool,
    /// The silence as it stands, or as it stood before it was ended.
    pub silence: Silence,
    /// Alerts that fire and are silenced by any silence of this customer.
    pub silenced: u64,
    /// Alert node's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// `silences`: which are there? Answered by [`SilencesReply`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilencesQuestion {
    /// Message version, 1.
    pub v: u32,
    /// Whose; everybody's where it is not said.
    #[serde(default)]
    pub customer: Option<CustomerName>,
    /// Only those after this customer's silence of this name, as the last page's `next` says.
    #[serde(default)]
    pub after: Option<SilenceName>,
}

/// A silence by its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilenceName {
    /// Whose.
    pub customer: CustomerName,
    /// Its name.
    pub id: String,
}

/// Answer to `silences`: one page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilencesReply {
    /// Always true.
    pub ok: bool,
    /// Those that have not ended, by customer and name.
    pub silences: Vec<Silence>,
    /// There are more: ask with this as `after`.
    #[serde(default)]
    pub next: Option<SilenceName>,
    /// Alert node's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// `acknowledge`: somebody takes care of what fires in a group. Answered by [`Acknowledged`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acknowledge {
    /// Message version, 1.
    pub v: u32,
    /// The group, as [`EpisodeState`] names it.
    pub group: String,
    /// Only if its episode is the one that began then, milliseconds since the Unix epoch.
    #[serde(default)]
    pub episode_ms: Option<i64>,
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// Until when, milliseconds since the Unix epoch; the end of the episode ends it sooner.
    pub until_ms: i64,
}

/// Answer to `acknowledge`, once it is on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Acknowledged {
    /// Always true.
    pub ok: bool,
    /// The episode as it stands now.
    pub episode: EpisodeState,
    /// Alert node's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// `episodes`: what fires? Answered by [`EpisodesReply`], a page at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EpisodesQuestion {
    /// Message version, 1.
    pub v: u32,
    /// Whose; everybody's where it is not said.
    #[serde(default)]
    pub customer: Option<CustomerName>,
    /// Only groups after this one, as the last page's `next` says.
    #[serde(default)]
    pub after: Option<String>,
    /// Episodes on one page at most; the alert node has a bound of its own.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Somebody takes care.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AcknowledgementState {
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// Since when, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Until when, milliseconds since the Unix epoch.
    pub until_ms: i64,
}

/// A feed that fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FiringFeed {
    /// The feed.
    #[serde(flatten)]
    pub feed: Feed,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// How many standard deviations from its peers, where that is what it fires for.
    #[serde(default)]
    pub deviations: Option<f64>,
    /// A silence means it.
    #[serde(default)]
    pub silenced: bool,
}

/// A recipient of mails about a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToldState {
    /// The alert block.
    pub alert: String,
    /// The recipient.
    pub to: String,
    /// He is told only when nobody acknowledges.
    #[serde(default)]
    pub escalation: bool,
    /// Alerts that he has been told of and not of their end.
    pub told: u64,
    /// When his last mail was decided upon, milliseconds since the Unix epoch.
    #[serde(default)]
    pub mailed_ms: Option<i64>,
    /// A mail to him has not been taken by the relay yet.
    #[serde(default)]
    pub on_its_way: bool,
    /// Why he is mailed next, if nothing changes.
    #[serde(default)]
    pub next_reason: Option<String>,
    /// When, milliseconds since the Unix epoch.
    #[serde(default)]
    pub next_ms: Option<i64>,
    /// What he is not told of as long as what it depends on fires: the service that does.
    #[serde(default)]
    pub folded_under: Option<String>,
}

/// A group in which something fires, or of which somebody believes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EpisodeState {
    /// Name of the group: what `acknowledge` asks for.
    pub group: String,
    /// Whose.
    pub customer: CustomerName,
    /// The rule.
    pub analytic: AnalyticName,
    /// Where.
    pub service: ServiceName,
    /// Where.
    pub cluster: ClusterName,
    /// When something began to fire, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Alerts that fire, silenced ones too.
    pub firing: u64,
    /// Of these, silenced.
    pub silenced: u64,
    /// The farthest from their peers.
    pub feeds: Vec<FiringFeed>,
    /// Somebody takes care.
    #[serde(default)]
    pub acknowledged: Option<AcknowledgementState>,
    /// Who is told.
    pub told: Vec<ToldState>,
}

/// Answer to `episodes`: one page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EpisodesReply {
    /// Always true.
    pub ok: bool,
    /// By name of the group.
    pub episodes: Vec<EpisodeState>,
    /// There are more: ask with this as `after`.
    #[serde(default)]
    pub next: Option<String>,
    /// Alert node's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// What a link in a mail does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkAction {
    /// Acknowledge the episode that the mail tells of.
    Acknowledge,
    /// Silence what fires in its group.
    Silence,
    /// Take the mail's recipient off the alert block that sent it.
    Unsubscribe,
}

/// `link`: somebody follows a link of a mail, or with `act` does what it is for. Answered by [`Linked`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FollowLink {
    /// Message version, 1.
    pub v: u32,
    /// The last part of the link's path, as it came.
    pub token: String,
    /// Do it; otherwise nothing changes.
    #[serde(default)]
    pub act: Option<LinkAct>,
}

/// What somebody who follows a link has filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkAct {
    /// For how long, seconds; the action's usual time where it is not said.
    #[serde(default)]
    pub for_s: Option<u64>,
    /// Why, one line.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Answer to `link`; where something was done, once that is on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Linked {
    /// Always true.
    pub ok: bool,
    /// What the link does.
    pub action: LinkAction,
    /// It was done, now.
    pub acted: bool,
    /// Whose alerts.
    pub customer: CustomerName,
    /// The alert block that sent the mail.
    pub alert: String,
    /// The mail's recipient, who is taken to be the one who follows it.
    pub to: String,
    /// What fires in the mail's group, without those who are told; none where the link is not about it.
    #[serde(default)]
    pub episode: Option<EpisodeState>,
    /// The silence that stands by this link, or would.
    #[serde(default)]
    pub silence: Option<Silence>,
    /// A silence stands by this link.
    #[serde(default)]
    pub silenced: bool,
    /// The recipient has taken himself off the block.
    #[serde(default)]
    pub unsubscribed: bool,
    /// Alert node's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// A recipient of an alert block.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Subscription {
    /// Whose alert block.
    pub customer: CustomerName,
    /// The alert block; `watchdog` with customer `kinetic` is what the schema's block of that name tells.
    pub alert: String,
    /// The recipient, as the schema writes it.
    pub to: String,
}

/// A recipient who has taken himself off an alert block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unsubscription {
    /// Who, off what.
    #[serde(flatten)]
    pub subscription: Subscription,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// He is told nevertheless, because nobody else would be.
    #[serde(default)]
    pub overruled: bool,
}

/// `unsubscribed`: who has taken himself off alert blocks? Answered by [`UnsubscribedReply`], a page at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnsubscribedQuestion {
    /// Message version, 1.
    pub v: u32,
    /// Of whose; of everybody's where it is not said.
    #[serde(default)]
    pub customer: Option<CustomerName>,
    /// Only those after this one, as the last page's `next` says.
    #[serde(default)]
    pub after: Option<Subscription>,
}

/// Answer to `unsubscribed`: one page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnsubscribedReply {
    /// Always true.
    pub ok: bool,
    /// By customer, alert block and recipient.
    pub unsubscribed: Vec<Unsubscription>,
    /// There are more: ask with this as `after`.
    #[serde(default)]
    pub next: Option<Subscription>,
    /// Alert node's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// `subscribe`: an operator puts a recipient back who has taken himself off an alert block. Answered by [`Subscribed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subscribe {
    /// Message version, 1.
    pub v: u32,
    /// Whom, on what.
    pub subscription: Subscription,
    /// Who does so.
    pub author: String,
}

/// Answer to `subscribe`, once it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subscribed {
    /// Always true.
    pub ok: bool,
    /// How it stood before.
    pub unsubscription: Unsubscription,
    /// Alert node's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}
