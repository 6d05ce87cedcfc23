//! What the alert node tells programs: on the exchange `kin.notifications`, and to webhooks of the format `kinetic`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AlertState, AnalyticName, ClusterName, CustomerName, Feed, Numbers, ServiceName};

/// One alert that a notification lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnnouncedAlert {
    /// The rule that found it.
    pub analytic: AnalyticName,
    /// The service of its cluster.
    pub service: ServiceName,
    /// Its cluster.
    pub cluster: ClusterName,
    /// The feed; names longer than 200 characters are cut, and control characters replaced.
    pub feed: Feed,
    /// Since when it fires, or did, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// End of the window that was last heard of; of a resolved one, when it ended.
    pub window_end_ms: i64,
    /// The numbers of that window; silence has none.
    pub numbers: Option<Numbers>,
    /// It counts as resolved because no analyzer speaks of it any more.
    pub stale: bool,
}

/// What fires elsewhere and is left unsaid because this explains it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnnouncedFold {
    /// `service/cluster`.
    pub place: String,
    /// How many feeds fire there.
    pub feeds: usize,
}

/// `kinetic.notification.v1`: what one alert block says of one group, once for all its recipients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Announcement {
    /// Message version, 1.
    pub v: u32,
    /// Whose.
    pub customer: CustomerName,
    /// The rule; `@` and the name of the alert block where that groups more widely than by cluster.
    pub analytic: AnalyticName,
    /// The service; `@` and a site, or `*`, where the group is wider.
    pub service: ServiceName,
    /// The cluster; `*` where the group is wider.
    pub cluster: ClusterName,
    /// Name of the alert block.
    pub alert: String,
    /// `resolved` when nothing that was told of fires any more.
    pub state: AlertState,
    /// Why it is said: `first_firing`, `more_firing`, `fewer_firing`, `resolved`, `repeat_interval_elapsed` and the
    /// others of docs/alerting.md.
    pub reason: String,
    /// `info`, `warning` or `critical`: the gravest of what fires, or of what did.
    pub severity: Option<String>,
    /// When it was decided upon, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// When the episode began.
    pub episode_ms: i64,
    /// Number of the notification within the episode, from 1.
    pub seq: u32,
    /// What the episode is about, in the words of its mails' subject.
    pub subject: String,
    /// What happens, with the numbers of the feed that leads, in one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// The analytic's description: what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How many fire, also where fewer are listed.
    pub firing_count: usize,
    /// How many are back, also where fewer are listed.
    pub resolved_count: usize,
    /// Those that fire, the farthest from its peers first; at most 200.
    pub firing: Vec<AnnouncedAlert>,
    /// Those that were told of and are back; at most 200.
    pub resolved: Vec<AnnouncedAlert>,
    /// What depends on this and is not told of by itself meanwhile.
    pub folded: Vec<AnnouncedFold>,
}
