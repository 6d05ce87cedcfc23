//! A notification becomes an e-mail: what every form of it says, its headers, and its subject. Pure.

use std::time::Duration;

use kinetic_schema::schema::{Analytic, Deviation, Rule, Schema, Silent, SilentEach};
use kinetic_wire::{Direction, Wall};

use crate::clock::Steady;
use crate::format;
use crate::group::{AlertView, Group, Stream};
use crate::id::{AlertKey, GroupKey, MailNames};
use crate::machine::{Email, MailId, Thread};
use crate::reason::{NotifyReason, Timing};
use crate::words::{self, Matter};
use crate::{escape, html, text};

/// Characters of an origin or metric in a sentence.
pub(crate) const SENTENCE_NAME_MAX: usize = 120;
/// Characters of an origin or metric in a subject.
pub(crate) const SUBJECT_NAME_MAX: usize = 60;
/// Characters of an origin or metric in a table.
pub(crate) const TABLE_NAME_MAX: usize = 60;
/// Characters of an analytic's description.
const DESCRIPTION_MAX: usize = 1_000;

/// All that a mail says.
#[derive(Debug)]
pub(crate) struct Notification<'a> {
    pub(crate) group: &'a GroupKey,
    pub(crate) thread: &'a Thread,
    pub(crate) reason: NotifyReason,
    pub(crate) at: Wall,
    /// What fires, the farthest from its peers first.
    pub(crate) firing: Vec<&'a AlertView>,
    /// What the recipient believes to fire and no longer does.
    pub(crate) resolved: Vec<&'a AlertView>,
    /// How many of `firing` the recipient does not know of.
    pub(crate) fresh: usize,
    /// The rule, unless the schema has dropped it since.
    pub(crate) analytic: Option<&'a Analytic>,
    pub(crate) timing: Option<Timing>,
    pub(crate) matter: Matter,
    /// Mail to the recipient that did not arrive.
    pub(crate) notices: Vec<String>,
    /// Since when the recipient could not be told.
    unsent_since: Option<Wall>,
    schema: &'a Schema,
}

/// The farthest from its peers first; equal ones by name, so that the order is always the same.
fn ranked<'a>(alerts: impl Iterator<Item = &'a AlertView>) -> Vec<&'a AlertView> {
    let mut alerts: Vec<&AlertView> = alerts.collect();
    alerts.sort_by(|a, b| {
        let by_name = || (&a.origin, &a.metric).cmp(&(&b.origin, &b.metric));
        b.distance().total_cmp(&a.distance()).then_with(by_name)
    });
    alerts
}

impl<'a> Notification<'a> {
    pub(crate) fn new(
        key: &'a GroupKey,
        group: &'a Group,
        stream: &Stream,
        reason: NotifyReason,
        thread: &'a Thread,
        at: Wall,
        schema: &'a Schema,
    ) -> Self {
        let Stream { told, timing, missed, .. } = stream;
        let fires = |(_, alert): &(&AlertKey, &AlertView)| alert.firing;
        let firing = group.alerts.iter().filter(fires);
        let fresh = firing.clone().filter(|(alert, _)| !told.contains(alert)).count();
        let firing = ranked(firing.map(|(_, alert)| alert));
        let ended =
            told.union(missed).filter_map(|alert| group.alerts.get(alert)).filter(|alert| !alert.firing);
        let resolved = ranked(ended);
        Self {
            group: key,
            thread,
            reason,
            at,
            fresh,
            matter: Matter::of(key, firing.first().or(resolved.first()).copied()),
            firing,
            resolved,
            schema,
            analytic: schema.customers.get(&key.customer).and_then(|c| c.analytics.get(&key.analytic)),
            timing: *timing,
            notices: Vec::new(),
            unsent_since: stream.unsent_since.map(Steady::wall),
        }
    }

    /// `firing` or `resolved`.
    pub(crate) fn state(&self) -> &'static str {
        if self.firing.is_empty() { "resolved" } else { "firing" }
    }

    /// Cluster as people name it.
    pub(crate) fn cluster(&self) -> String {
        format!("{}/{}", self.group.service, self.group.cluster)
    }

    /// The alert that the first line speaks of: the farthest that fires, or else the farthest that did.
    pub(crate) fn lead(&self) -> Option<&'a AlertView> {
        self.firing.first().or(self.resolved.first()).copied()
    }

    /// What happens, with the numbers: the first line of the text and of the HTML.
    pub(crate) fn headline(&self) -> String {
        match self.lead() {
            Some(alert) if alert.firing => self.firing_sentence(alert),
            Some(alert) => self.resolved_sentence(alert),
            None => format!("{}: nothing is {} any more", self.cluster(), self.matter.out()),
        }
    }

    /// What the headline leaves out.
    pub(crate) fn also(&self) -> Option<String> {
        let sentences: Vec<String> = self.rest().into_iter().chain(self.unsent()).collect();
        (!sentences.is_empty()).then(|| sentences.join(" "))
    }

    /// That mail could not be sent.
    fn unsent(&self) -> Option<String> {
        let since = self.unsent_since?;
        Some(format!(
            "Mail about this could not be sent from {} on; this mail says what has happened meanwhile and what holds now.",
            format::time_utc(since.as_ms(), self.at)
        ))
    }

    /// The other alerts.
    fn rest(&self) -> Option<String> {
        let (noun, out, back_is) = (self.matter.noun(), self.matter.out(), self.matter.back());
        let rest = self.firing.len().saturating_sub(1);
        let back = self.resolved.len();
        let more = is_are(rest, &format!("more {noun}"));
        match (self.firing.is_empty(), rest, back) {
            (true, _, 0..=1) | (false, 0, 0) => None,
            (true, ..) => Some(format!("All {} that fired are back.", format::count(back, noun))),
            (false, 0, _) => Some(format!("{} {back_is}.", is_are(back, noun))),
            (false, _, 0) => Some(format!("{more} {out} too.")),
            (false, ..) => Some(format!("{more} {out} too; {} {back_is}.", is_are(back, noun))),
        }
    }

    fn who(&self, alert: &AlertView) -> String {
        let name = |text: &str| escape::line(text, SENTENCE_NAME_MAX);
        format!("{} in {}: {} {}", name(&alert.origin), self.cluster(), name(&alert.metric), alert.value_kind)
    }

    fn firing_sentence(&self, alert: &AlertView) -> String {
        if self.matter != Matter::Deviation {
            return words::silent_sentence(self, alert);
        }
        let since = format::time_utc(alert.since_ms, self.at);
        let who = self.who(alert);
        let Some(numbers) = alert.numbers else {
            return format!("{who} is out of line with its peers, since {since}");
        };
        format!(
            "{who} is {}, {}: {} (limit {}), since {since}",
            format::number(numbers.value),
            peers(alert),
            distance(alert),
            format::deviations(numbers.limit),
        )
    }

    fn resolved_sentence(&self, alert: &AlertView) -> String {
        if self.matter.ends_in_words(alert) {
            return words::heard_sentence(self, alert);
        }
        let who = self.who(alert);
        let after = format::duration(format::between(alert.since_ms, alert.window_end_ms));
        if alert.stale {
            let last = format::time_utc(alert.window_end_ms, self.at);
            return format!("{who}: no analyzer has spoken of it since {last}, so it counts as resolved");
        }
        match alert.numbers {
            Some(numbers) => format!(
                "{who} is back in line at {}, {}, after {after}",
                format::number(numbers.value),
                peers(alert)
            ),
            None => format!("{who} is silent, which ends its alert after {after}"),
        }
    }

    /// Subject: the state in front, the episode's own words behind.
    pub(crate) fn subject(&self) -> String {
        let state = match self.reason {
            NotifyReason::Resolved => "RESOLVED",
            NotifyReason::DeliveryResumed if self.firing.is_empty() => "RESOLVED",
            NotifyReason::RepeatIntervalElapsed => "STILL FIRING",
            _ => "FIRING",
        };
        match self.firing.len() {
            0 | 1 => format!("[{state}] {}", self.thread.subject),
            n => format!("[{state} {n}] {}", self.thread.subject),
        }
    }

    /// Why this mail was sent.
    pub(crate) fn why(&self) -> String {
        let timing = |pick: fn(&Timing) -> Duration| {
            self.timing.as_ref().map_or_else(|| "the agreed time".to_owned(), |t| format::duration(pick(t)))
        };
        let (noun, out) = (self.matter.noun(), self.matter.out());
        match self.reason {
            NotifyReason::FirstFiring => {
                format!("something is {out} that you were not told of: {}", format::count(self.fresh, noun))
            }
            NotifyReason::MoreFiring => {
                let new = format::count(self.fresh, &format!("new {noun}"));
                format!("more is {out} than you were told of: {new}")
            }
            NotifyReason::FewerFiring => format!(
                "less is {out} than you were told of: {} back, {} left",
                format::count(self.resolved.len(), noun),
                self.firing.len()
            ),
            NotifyReason::Resolved => {
                let or = match self.matter {
                    _ if self.resolved.iter().all(|alert| !alert.stale) => "",
                    Matter::Deviation => "",
                    Matter::Silence => ", or no analyzer speaks of it any more",
                    Matter::Nodes(_) => ", or not waited for any more",
                };
                format!("all that you were told of is {}{or}", self.matter.back())
            }
            NotifyReason::DeliveryResumed => {
                "mail to you had to wait for a relay, and what it said has changed meanwhile".to_owned()
            }
            NotifyReason::RepeatIntervalElapsed => format!(
                "nothing has changed for {} (repeat_interval), and it still fires",
                timing(|t| t.repeat_interval)
            ),
        }
    }

    /// The rule in words.
    pub(crate) fn rule(&self) -> String {
        if let Matter::Nodes(noun) = self.matter {
            return words::watchdog_rule(noun, self.schema);
        }
        let Some(analytic) = self.analytic else {
            return format!("{} (no longer in the schema)", self.group.analytic);
        };
        let rule = match &analytic.rule {
            Rule::Deviates(rule) => rule,
            Rule::Silent(rule) => return silent_rule(analytic, rule),
        };
        let side = match rule.direction {
            Direction::Above => "above",
            Direction::Below => "below",
            Direction::Both => "away from",
        };
        let kind = match rule.deviation {
            Deviation::Population => "population",
            Deviation::Sample => "sample",
        };
        let mut words = format!(
            "{}: a feed fires when its {} of {} over {} is more than {} standard deviations ({kind}) {side} the \
             average of its cluster",
            analytic.name,
            analytic.value.as_str(),
            escape::line(&analytic.metric.pattern, SENTENCE_NAME_MAX),
            format::duration(analytic.window),
            format::deviations(rule.deviations),
        );
        if rule.min_effect_relative > 0.0 {
            let percent = format::number(rule.min_effect_relative * 100.0);
            words.push_str(&format!(", and differs from it by at least {percent} %"));
        }
        if rule.min_effect_absolute > 0.0 {
            let least = format::number(rule.min_effect_absolute);
            words.push_str(&format!(", and differs from it by at least {least}"));
        }
        let hysteresis = analytic.hysteresis;
        words.push_str(&format!(
            ", in {} of {}; fewer than {} feeds give no verdict",
            hysteresis.hits,
            format::count(hysteresis.of as usize, "window"),
            rule.min_feeds
        ));
        words
    }

    /// Labels and values below the tables.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        if let Some(description) = self.analytic.and_then(|analytic| analytic.description.as_deref()) {
            let words: Vec<&str> = description.split_whitespace().collect();
            facts.push(("What to do", escape::line(&words.join(" "), DESCRIPTION_MAX)));
        }
        facts.push(("Rule", self.rule()));
        if let Some(analytic) = self.analytic {
            facts.push(("Severity", analytic.severity.as_str().to_owned()));
        }
        if let Matter::Nodes(noun) = self.matter {
            if !self.firing.is_empty() {
                facts.insert(0, ("What to do", words::advice(noun)));
                facts.push(("Look further", "kinetic map".to_owned()));
            }
        } else if let Some(lead) = self.lead() {
            facts.push(("Window", self.window(lead)));
            if let Some(revision) = &lead.schema {
                facts.push(("Schema", escape::line(revision, TABLE_NAME_MAX)));
            }
            facts.push(("Look further", format!("kinetic tap {}/{}", self.group.customer, lead.source)));
        }
        facts.extend(self.notices.iter().map(|notice| ("Not delivered", notice.clone())));
        facts.push(("Why this mail", self.why()));
        facts.push((
            "Sent by",
            format!(
                "alert {}, mail {} of the episode that began at {}",
                self.thread.alert,
                self.thread.seq,
                format::time_utc(self.thread.episode.as_ms(), self.at)
            ),
        ));
        facts
    }

    fn window(&self, alert: &AlertView) -> String {
        format!(
            "{} to {}, {} of {} out of line",
            format::time(alert.window_start_ms, self.at),
            format::time_utc(alert.window_end_ms, self.at),
            alert.hits,
            format::count(alert.of as usize, "window")
        )
    }
}

/// `1 feed is`, `3 feeds are`.
fn is_are(n: usize, noun: &str) -> String {
    format!("{} {}", format::count(n, noun), if n == 1 { "is" } else { "are" })
}

/// `its 11 peers average 101.2 (98 to 104.9)`.
fn peers(alert: &AlertView) -> String {
    let Some(numbers) = alert.numbers else { return String::new() };
    let average = format::number(numbers.peers_mean);
    match numbers.feeds.saturating_sub(1) {
        0 => "it has no peers".to_owned(),
        1 => format!("its one peer has {average}"),
        n => format!(
            "its {n} peers average {average} ({} to {})",
            format::number(numbers.peers_min),
            format::number(numbers.peers_max)
        ),
    }
}

/// `3.31 standard deviations above`.
pub(crate) fn distance(alert: &AlertView) -> String {
    let deviations = alert.numbers.map_or(0.0, |numbers| numbers.deviations);
    let side = if deviations < 0.0 { "below" } else { "above" };
    format!("{} standard deviations {side}", format::deviations(deviations.abs()))
}

/// The part of the subject that an episode keeps: the feed that led when it began.
pub(crate) fn subject(key: &GroupKey, group: &Group) -> String {
    let lead = ranked(group.alerts.values().filter(|alert| alert.firing)).first().copied();
    let place = format!("{}/{}", key.service, key.cluster);
    let Some(lead) = lead else { return format!("{place}: {}", key.analytic) };
    if let Some(subject) = Matter::of(key, Some(lead)).subject(&place, lead) {
        return subject;
    }
    let side = match lead.direction {
        Direction::Above => "above",
        Direction::Below => "below",
        Direction::Both => "away from",
    };
    format!(
        "{place}: {} {} {side} its peers",
        escape::line(&lead.origin, SUBJECT_NAME_MAX),
        escape::line(&lead.metric, SUBJECT_NAME_MAX)
    )
}

/// The whole mail, and how many rows were left out of it.
pub(crate) fn email(
    notification: &Notification<'_>,
    names: &MailNames<'_>,
    id: &MailId,
    from: &str,
    to: &str,
) -> (Email, usize) {
    let page = html::page(notification);
    let plain = text::page(notification, &page.shown);
    let all = notification.firing.len() + notification.resolved.len();
    let email = Email {
        message_id: format!("{}@{}", id.0, names.domain),
        from: from.to_owned(),
        to: to.to_owned(),
        envelope_from: None,
        subject: escape::line(&notification.subject(), 300),
        date: notification.at,
        headers: headers(notification, names),
        text: plain,
        html: page.html,
    };
    (email, all - page.shown.firing - page.shown.resolved)
}

fn headers(notification: &Notification<'_>, names: &MailNames<'_>) -> Vec<(String, String)> {
    let Notification { group, thread, .. } = notification;
    let root = format!("<{}>", names.root(group, thread));
    let customer = label(group.customer.as_str());
    let list = format!(
        "\"{customer} {}\" <{}.{customer}.alerts.{}>",
        label(&thread.alert),
        label(&thread.alert),
        names.domain
    );
    [
        ("In-Reply-To", root.clone()),
        ("References", root),
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Auto-Response-Suppress", "All".to_owned()),
        ("List-Id", list),
        ("X-Kinetic-Customer", group.customer.to_string()),
        ("X-Kinetic-Rule", group.analytic.to_string()),
        ("X-Kinetic-State", notification.state().to_owned()),
        ("X-Kinetic-Reason", notification.reason.to_string()),
        ("X-Kinetic-Fingerprint", names.group16(group, &thread.alert)),
        ("X-Kinetic-Episode", thread.episode.as_ms().to_string()),
        ("X-Kinetic-Seq", thread.seq.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), escape::header(&value, 300)))
    .collect()
}

/// A part of a List-Id: letters, digits and dashes.
pub(crate) fn label(name: &str) -> String {
    name.chars().take(63).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// The rule about silence in words.
fn silent_rule(analytic: &Analytic, rule: &Silent) -> String {
    let who = match rule.each {
        SilentEach::Feed => "a feed fires when",
        SilentEach::Cluster => "a cluster fires when of all its feeds",
    };
    format!(
        "{}: {who} nothing is heard of {} for more than {}",
        analytic.name,
        escape::line(&analytic.metric.pattern, SENTENCE_NAME_MAX),
        format::duration(rule.after),
    )
}
