//! What a mail speaks of, and how: feeds that left their peers, feeds that are silent, and silent nodes of the
//! installation itself.

use kinetic_schema::schema::{Schema, Silent};
use kinetic_wire::Wall;

use crate::group::AlertView;
use crate::id::GroupKey;
use crate::render::{Notification, SENTENCE_NAME_MAX, SUBJECT_NAME_MAX};
use crate::{breach, breached, deadman, escape, format, watchdog};

/// What a customer is called whose whole stream is meant.
const CUSTOMER: &str = "customer";
/// Origin of the events of a rule that listens to whole clusters (docs/wire.md).
const ALL_FEEDS: &str = "*";

/// What the alerts of a group are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Matter {
    /// Feeds away from their peers.
    Deviation,
    /// Feeds of which nothing is heard.
    Silence,
    /// Limits of a customer that are exceeded.
    Limits,
    /// What somebody has tried who may not.
    Security,
    /// Nodes of the installation, or whole customers, of which nothing is heard: what one of them is called.
    Nodes(&'static str),
}

impl Matter {
    /// Of a group, by one of its alerts.
    pub(crate) fn of(group: &GroupKey, alert: Option<&AlertView>) -> Self {
        if deadman::is_stream(group) {
            return Self::Nodes(CUSTOMER);
        }
        if breach::is_of_limits(group) {
            return Self::Limits;
        }
        if breach::is_of_security(group) {
            return Self::Security;
        }
        if watchdog::is_of_nodes(group) {
            return match group.cluster.as_str() {
                "analyzers" => Self::Nodes("analyzer"),
                "redirectors" => Self::Nodes("redirector"),
                _ => Self::Nodes("node"),
            };
        }
        match alert {
            Some(alert) if alert.value_kind == Silent::VALUE_KIND => Self::Silence,
            _ => Self::Deviation,
        }
    }

    /// What one alert is about: `feed`, `analyzer`.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Deviation | Self::Silence => "feed",
            Self::Limits => "limit",
            Self::Security => "security event",
            Self::Nodes(noun) => noun,
        }
    }

    /// What it is while it fires.
    pub(crate) fn out(self) -> &'static str {
        match self {
            Self::Deviation => "out of line",
            Self::Limits => "exceeded",
            Self::Security => "going on",
            Self::Silence | Self::Nodes(_) => "silent",
        }
    }

    /// What it is afterwards.
    pub(crate) fn back(self) -> &'static str {
        match self {
            Self::Deviation => "back in line",
            Self::Limits => "kept again",
            Self::Security => "over",
            Self::Silence | Self::Nodes(_) => "heard again",
        }
    }

    /// Whether the end of an alert is told as the end of a silence. Of a feed of which no analyzer speaks any more nobody
    /// knows whether it is silent.
    pub(crate) fn ends_in_words(self, alert: &AlertView) -> bool {
        match self {
            Self::Deviation => false,
            Self::Silence => !alert.stale,
            Self::Limits | Self::Security | Self::Nodes(_) => true,
        }
    }

    /// Which columns tables of firing alerts have: silence has no numbers, and nodes no metric.
    pub(crate) fn columns(self) -> &'static [usize] {
        match self {
            Self::Deviation => &[0, 1, 2, 3, 4, 5],
            // What was seen, and what may be.
            Self::Limits => &[0, 1, 2, 3, 5],
            Self::Silence | Self::Security => &[0, 1, 5],
            Self::Nodes(_) => &[0, 5],
        }
    }

    /// The subject of an episode that this alert began; `None` where it is not about silence.
    pub(crate) fn subject(self, place: &str, alert: &AlertView) -> Option<String> {
        let [origin, metric] =
            [&alert.origin, &alert.metric].map(|name| escape::line(name, SUBJECT_NAME_MAX));
        match self {
            Self::Deviation => None,
            Self::Limits => Some(format!("source {origin} is over its limit of {}", breached::limit(alert))),
            Self::Security => Some(format!("security: {} at source {origin}", breached::event(alert))),
            Self::Silence if alert.origin == ALL_FEEDS => {
                Some(format!("{place}: {metric} of all feeds is silent"))
            }
            Self::Silence => Some(format!("{place}: {origin} {metric} is silent")),
            Self::Nodes(noun) => Some(format!("{noun} {origin} is silent")),
        }
    }
}

/// Who is silent: `analyzer a7`, `web-3 in checkout/frontends: uptime`, `checkout/frontends as a whole: uptime`.
fn who(alert: &AlertView) -> String {
    let name = |text: &str| escape::line(text, SENTENCE_NAME_MAX);
    match alert.matter() {
        Matter::Nodes(noun) => format!("{noun} {}", name(&alert.origin)),
        _ if alert.origin == ALL_FEEDS => {
            format!("{} as a whole: {}", alert.place(), name(&alert.metric))
        }
        _ => format!("{} in {}: {}", name(&alert.origin), alert.place(), name(&alert.metric)),
    }
}

/// `analyzer a7 has been silent since 12:03:10 UTC (57 s)`.
pub(crate) fn silent_sentence(notification: &Notification<'_>, alert: &AlertView) -> String {
    if let Some(sentence) = breached::sentence(notification, alert) {
        return sentence;
    }
    let Notification { at, .. } = notification;
    let since = format::time_utc(alert.since_ms, *at);
    let span = format::duration(format::between(alert.since_ms, at.as_ms()));
    format!("{} has been silent since {since} ({span})", who(alert))
}

/// `analyzer a7 is heard again, after 4 min 10 s of silence`.
pub(crate) fn heard_sentence(notification: &Notification<'_>, alert: &AlertView) -> String {
    if let Some(sentence) = breached::end_sentence(notification, alert) {
        return sentence;
    }
    if alert.stale {
        let span = format::duration(format::between(alert.since_ms, notification.at.as_ms()));
        return format!("{} has been silent for {span}, and is not waited for any more", who(alert));
    }
    let span = format::duration(format::between(alert.since_ms, alert.window_end_ms));
    format!("{} is heard again, after {span} of silence", who(alert))
}

/// How a silence ended, in a table.
pub(crate) fn silence_ending(alert: &AlertView, at: Wall) -> String {
    let since = format::time(alert.since_ms, at);
    if alert.breach.is_some() {
        return format!("over, {since} to {} UTC", format::time(alert.window_end_ms, at));
    }
    if alert.stale {
        return format!("not waited for any more, silent since {since} UTC");
    }
    format!("heard again, silent {since} to {} UTC", format::time(alert.window_end_ms, at))
}

/// The rule by which a node, or a customer, is called silent.
pub(crate) fn watchdog_rule(noun: &str, group: &GroupKey, schema: &Schema) -> String {
    if noun == CUSTOMER {
        let after = schema.customers.get(&group.customer).and_then(|customer| customer.stream_silent_after);
        let Some(after) = after else { return "silent_after (no longer in the schema)".to_owned() };
        return format!(
            "silent_after: a customer fires when nothing at all has come from it for more than {}, as those know who own its \
             sources and listen to them",
            format::duration(after)
        );
    }
    let Some(watchdog) = &schema.watchdog else { return "watchdog (no longer in the schema)".to_owned() };
    let after = match noun {
        "redirector" => watchdog.redirector_silent_after,
        _ => watchdog.analyzer_silent_after,
    };
    let article = if noun.starts_with('a') { "an" } else { "a" };
    format!(
        "watchdog: {article} {noun} that was heard, and did not say that it stops, fires when nothing is heard of it for \
         more than {}",
        format::duration(after)
    )
}

/// What to do about silent nodes and customers.
pub(crate) fn advice(noun: &str) -> String {
    if noun == CUSTOMER {
        return "see whether its agents and collectors run, reach their broker, and log in with a key that is still good; \
                meanwhile none of its rules can find anything"
            .to_owned();
    }
    let meanwhile = match noun {
        "redirector" => "another redirector leads if there is one, and what analyzers own they keep",
        _ => "its sources go to other analyzers that can serve them",
    };
    format!("see whether its process, its machine and its way to the broker are up; meanwhile {meanwhile}")
}
