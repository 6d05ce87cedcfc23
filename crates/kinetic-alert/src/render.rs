//! A notification becomes an e-mail: what every form of it says, its headers, and its subject. Pure.

use std::collections::BTreeSet;

use kinetic_plot::Plot;
use kinetic_schema::schema::{Analytic, Customer, Schema, Severity, Templates};
use kinetic_wire::{AlertState, AnalyticName, ClusterName, Direction, ServiceName, Wall};

use crate::clock::Steady;
use crate::fold::{Failing, Under};
use crate::format;
use crate::group::{AlertView, Group};
use crate::id::{AlertKey, GroupKey, MailNames};
use crate::level::{self, Level};
use crate::links::Links;
use crate::machine::{Email, MailId, Thread};
use crate::reason::{NotifyReason, Timing};
use crate::stream::Stream;
use crate::words::{self, Matter};
use crate::{breached, escape, headers, html, template, text, webhook};

/// Characters of an origin or metric in a sentence.
pub(crate) const SENTENCE_NAME_MAX: usize = 120;
/// Characters of an origin or metric in a subject.
pub(crate) const SUBJECT_NAME_MAX: usize = 60;
/// Characters of an origin or metric in a table.
pub(crate) const TABLE_NAME_MAX: usize = 60;
/// Characters of what is said about a picture.
const PICTURE_WORDS_MAX: usize = 600;
/// Characters of an analytic's description.
const DESCRIPTION_MAX: usize = 1_000;

/// How what a mail speaks of hangs together with other services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    /// What fails of that which its service depends on.
    pub(crate) failing: Vec<Failing>,
    /// What is left unsaid elsewhere because this explains it.
    pub(crate) folded: Vec<Under>,
}

/// The column that says of which cluster a feed is, where there may be several.
pub(crate) const PLACE_COLUMN: usize = 6;

/// Clusters named in a sentence about what is folded.
const FOLDED_NAMED_MAX: usize = 20;

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
    /// How many fire, or are believed to, that the mail leaves out because they are silenced.
    pub(crate) silenced: usize,
    /// The rule, unless the schema has dropped it since.
    pub(crate) analytic: Option<&'a Analytic>,
    pub(crate) timing: Option<Timing>,
    pub(crate) matter: Matter,
    pub(crate) context: Context,
    /// The service that has recovered, where that is the reason.
    pub(crate) recovered: Option<&'a ServiceName>,
    /// The picture of the feed that leads.
    pub(crate) plot: Option<Plot>,
    /// What its recipient can do from the mail.
    pub(crate) links: Option<Links>,
    /// Mail to the recipient that did not arrive.
    pub(crate) notices: Vec<String>,
    /// Since when the recipient could not be told.
    unsent_since: Option<Wall>,
    pub(crate) schema: &'a Schema,
}

/// The farthest from its peers first; equal ones by name, so that the order is always the same.
pub(crate) fn ranked<'a>(alerts: impl Iterator<Item = &'a AlertView>) -> Vec<&'a AlertView> {
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
        stream: &'a Stream,
        reason: NotifyReason,
        thread: &'a Thread,
        at: Wall,
        schema: &'a Schema,
    ) -> Self {
        let Stream { told, timing, missed, recovered, .. } = stream;
        let fires = |(_, alert): &(&AlertKey, &AlertView)| alert.firing && !alert.silenced;
        let hidden =
            |(key, alert): &(&AlertKey, &AlertView)| alert.silenced && (alert.firing || told.contains(key));
        let silenced = group.alerts.iter().filter(hidden).count();
        let firing = group.alerts.iter().filter(fires);
        let fresh = firing.clone().filter(|(alert, _)| !told.contains(alert)).count();
        let firing = ranked(firing.map(|(_, alert)| alert));
        let ended = told
            .union(missed)
            .filter_map(|alert| group.alerts.get(alert))
            .filter(|alert| !alert.firing && !alert.silenced);
        let resolved = ranked(ended);
        let lead: Option<&AlertView> = firing.first().or(resolved.first()).copied();
        let analytic = lead.map_or(&key.analytic, |lead| &lead.home.analytic);
        let matter = Matter::of(key, lead);
        let plot = lead.filter(|_| matter == Matter::Deviation).and_then(|lead| {
            let (key, alert) = group.alerts.iter().find(|(_, alert)| std::ptr::eq(*alert, lead))?;
            group.trails.plot(*key, alert)
        });
        Self {
            group: key,
            thread,
            reason,
            at,
            fresh,
            silenced,
            matter,
            plot,
            context: Context::default(),
            recovered: recovered.as_ref().filter(|_| reason == NotifyReason::DependencyRecovered),
            firing,
            resolved,
            links: None,
            schema,
            analytic: schema.customers.get(&key.customer).and_then(|c| c.analytics.get(analytic)),
            timing: timing.clone(),
            notices: Vec::new(),
            unsent_since: stream.unsent_since.map(Steady::wall),
        }
    }

    /// The analytic's description, on one line: what to do.
    pub(crate) fn description(&self) -> Option<String> {
        self.analytic.and_then(described)
    }

    /// The customer whose alerts these are, unless the schema has dropped him since.
    pub(crate) fn customer(&self) -> Option<&'a Customer> {
        self.schema.customers.get(&self.group.customer)
    }

    /// The customer's own forms.
    pub(crate) fn templates(&self) -> Option<&'a Templates> {
        self.customer().map(|customer| &customer.templates)
    }

    /// `firing` or `resolved`.
    pub(crate) fn state(&self) -> &'static str {
        match self.alert_state() {
            AlertState::Firing => "firing",
            AlertState::Resolved => "resolved",
        }
    }

    /// Whether anything fires that it speaks of.
    pub(crate) fn alert_state(&self) -> AlertState {
        // What is silenced may still fire when all that is spoken of is back.
        let resumed = self.reason == NotifyReason::DeliveryResumed && self.silenced == 0;
        let all_back = self.reason == NotifyReason::Resolved || resumed && self.firing.is_empty();
        if all_back { AlertState::Resolved } else { AlertState::Firing }
    }

    /// All alerts that the mail speaks of.
    fn alerts(&self) -> impl Iterator<Item = &'a AlertView> {
        self.firing.iter().chain(&self.resolved).copied()
    }

    /// Whether it may speak of more than one cluster.
    pub(crate) fn is_wide(&self) -> bool {
        self.group.level() != Level::Cluster
    }

    /// The analytics by which it does, in the order of their names.
    pub(crate) fn analytics(&self) -> Vec<&'a AnalyticName> {
        let mut names: Vec<&AnalyticName> = self.alerts().map(|alert| &alert.home.analytic).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Which columns the table of firing alerts has.
    pub(crate) fn columns(&self) -> Vec<usize> {
        let mut columns = self.matter.columns().to_vec();
        if self.is_wide() {
            columns.insert(2, PLACE_COLUMN);
        }
        columns
    }

    /// The alert that the first line speaks of: the farthest that fires, or else the farthest that did.
    pub(crate) fn lead(&self) -> Option<&'a AlertView> {
        self.firing.first().or(self.resolved.first()).copied()
    }

    /// What happens, with the numbers: the first line of the text and of the HTML.
    pub(crate) fn headline(&self) -> String {
        match self.lead() {
            Some(alert) => self.sentence(alert),
            None => format!("{}: nothing is {} any more", group_place(self.group), self.matter.out()),
        }
    }

    /// What one alert is about, with its numbers.
    pub(crate) fn sentence(&self, alert: &AlertView) -> String {
        if alert.firing { self.firing_sentence(alert) } else { self.resolved_sentence(alert) }
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
        let also = match (self.firing.is_empty(), rest, back) {
            (true, _, 0..=1) | (false, 0, 0) => None,
            (true, ..) if self.silenced > 0 => Some(format!("{} {back_is}.", is_are(back, noun))),
            (true, ..) => Some(format!("All {} that fired are back.", format::count(back, noun))),
            (false, 0, _) => Some(format!("{} {back_is}.", is_are(back, noun))),
            (false, _, 0) => Some(format!("{more} {out} too.")),
            (false, ..) => Some(format!("{more} {out} too; {} {back_is}.", is_are(back, noun))),
        };
        let clusters: BTreeSet<(&ServiceName, &ClusterName)> =
            self.firing.iter().map(|alert| (&alert.home.service, &alert.home.cluster)).collect();
        match also {
            Some(also) if clusters.len() > 1 => {
                let feeds = format::count(self.firing.len(), noun);
                Some(format!("{also} In all {feeds} of {} clusters.", clusters.len()))
            }
            also => also,
        }
    }

    /// What it says of other services, one sentence or two each.
    pub(crate) fn notes(&self) -> Vec<String> {
        let service = &self.group.service;
        let mut notes = Vec::new();
        if let Some(recovered) = self.recovered {
            notes.push(format!("{recovered}, which {service} depends on, has recovered; {service} has not."));
        }
        for failing in &self.context.failing {
            let since = format::time_utc(failing.since_ms, self.at);
            let told = if failing.told {
                "; you are told of it in mails of its own, and of what is new here once it has recovered"
            } else {
                ""
            };
            notes.push(format!(
                "{}, which {service} depends on, has been failing since {since}{told}.",
                failing.service
            ));
        }
        notes.extend(self.folded());
        notes
    }

    fn folded(&self) -> Option<String> {
        let folded = &self.context.folded;
        let named = folded.iter().take(FOLDED_NAMED_MAX);
        let mut list: Vec<String> =
            named.map(|under| format!("{} ({})", under.place, format::count(under.feeds, "feed"))).collect();
        if folded.len() > FOLDED_NAMED_MAX {
            list.push(format!("{} more", folded.len() - FOLDED_NAMED_MAX));
        }
        let list = list.join(", ");
        let again = "is mailed on its own if it still fires once this has recovered";
        match (folded.is_empty(), self.firing.is_empty()) {
            (true, _) => None,
            (false, false) => Some(format!("Folded under this: {list}. What depends on this {again}.")),
            (false, true) => Some(format!("Still failing of what depends on this: {list}.")),
        }
    }

    fn who(&self, alert: &AlertView) -> String {
        let name = |text: &str| escape::line(text, SENTENCE_NAME_MAX);
        format!("{} in {}: {} {}", name(&alert.origin), alert.place(), name(&alert.metric), alert.value_kind)
    }

    fn firing_sentence(&self, alert: &AlertView) -> String {
        if alert.matter() != Matter::Deviation {
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
        if alert.matter().ends_in_words(alert) {
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

    /// Labels and values below the tables.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        facts.extend(self.description().map(|description| ("What to do", description)));
        facts.push(("Rule", self.rule()));
        let others = self.analytics();
        if others.len() > 1 {
            let others =
                others.into_iter().filter(|name| self.analytic.is_none_or(|lead| lead.name != **name));
            let names: Vec<&str> = others.map(AnalyticName::as_str).collect();
            facts.push(("Other rules", escape::line(&names.join(", "), DESCRIPTION_MAX)));
        }
        if let Some(severity) = self.severity() {
            facts.push(("Severity", severity.as_str().to_owned()));
        }
        if let Matter::Nodes(noun) = self.matter {
            if !self.firing.is_empty() {
                facts.insert(0, ("What to do", words::advice(noun)));
                facts.push(("Look further", "kinetic map".to_owned()));
            }
        } else if let Some((lead, advice)) =
            self.lead().and_then(|lead| Some((lead, breached::advice(lead)?)))
        {
            if !self.firing.is_empty() {
                facts.insert(0, ("What to do", advice.to_owned()));
            }
            facts.push(("Look further", breached::look(&self.group.customer, lead)));
        } else if let Some(lead) = self.lead() {
            facts.push(("Window", self.window(lead)));
            if let Some(revision) = &lead.schema {
                facts.push(("Schema", escape::line(revision, TABLE_NAME_MAX)));
            }
            facts.push(("Look further", format!("kinetic tap {}/{}", self.group.customer, lead.source)));
        }
        if self.silenced > 0 {
            let noun = self.matter.noun();
            facts.push((
                "Silenced",
                format!("{} left out (kinetic silence list)", is_are(self.silenced, noun)),
            ));
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

    /// The gravest of what fires, or of what did where nothing does.
    pub(crate) fn severity(&self) -> Option<Severity> {
        let alerts = if self.firing.is_empty() { &self.resolved } else { &self.firing };
        let gravest = level::severity(self.schema, alerts.iter().copied());
        gravest.or(self.analytic.map(|analytic| analytic.severity))
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

/// An analytic's description on one line.
pub(crate) fn described(analytic: &Analytic) -> Option<String> {
    let words: Vec<&str> = analytic.description.as_deref()?.split_whitespace().collect();
    Some(escape::line(&words.join(" "), DESCRIPTION_MAX))
}

/// `1 feed is`, `3 feeds are`.
pub(crate) fn is_are(n: usize, noun: &str) -> String {
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

/// What a group speaks of, as people name it.
pub(crate) fn group_place(key: &GroupKey) -> String {
    match key.level() {
        Level::Cluster => format!("{}/{}", key.service, key.cluster),
        Level::Service(service) => service.to_owned(),
        Level::Site(Some(site)) => format!("site {site}"),
        Level::Site(None) => "no site".to_owned(),
        Level::Customer => key.customer.to_string(),
    }
}

/// The part of the subject that an episode keeps: the feed that led when it began.
pub(crate) fn subject(key: &GroupKey, group: &Group) -> String {
    let lead = ranked(group.alerts.values().filter(|alert| alert.firing)).first().copied();
    let place = group_place(key);
    let Some(lead) = lead else {
        return format!("{place}: {}", key.block().unwrap_or(key.analytic.as_str()));
    };
    let place = match key.level() {
        Level::Cluster => place,
        Level::Service(_) => format!("{place}: {}", lead.home.cluster),
        Level::Site(_) | Level::Customer => format!("{place}: {}", lead.place()),
    };
    if let Some(subject) = lead.matter().subject(&place, lead) {
        return subject;
    }
    let side = match lead.direction {
        Direction::Above => "above",
        Direction::Below => "below",
        Direction::Both => "away from",
    };
    let colon = if key.level() == Level::Cluster { ":" } else { "" };
    format!(
        "{place}{colon} {} {} {side} its peers",
        escape::line(&lead.origin, SUBJECT_NAME_MAX),
        escape::line(&lead.metric, SUBJECT_NAME_MAX)
    )
}

/// A mail, and what is to be counted of it.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) email: Email,
    /// Rows left out.
    pub(crate) rows_cut: usize,
    /// Templates that failed.
    pub(crate) templates_failed: usize,
}

/// The whole message to a recipient: a mail, or a post where he is a webhook. None where the schema has no way to him.
pub(crate) fn message(
    notification: &Notification<'_>,
    names: &MailNames<'_>,
    id: &MailId,
    to: &str,
) -> Option<Rendered> {
    let Notification { group, schema, .. } = notification;
    let mail = schema.mail.as_ref();
    if webhook::is_webhook(to) {
        let declared = webhook::declared(schema, &group.customer, to)?;
        let public_url = mail.and_then(|mail| mail.public_url.as_deref());
        let email = webhook::message(notification, names, id, declared, public_url);
        return Some(Rendered { email, rows_cut: 0, templates_failed: 0 });
    }
    let mail = mail?;
    let mut rendered = email(notification, names, id, &mail.from, to);
    rendered.email.envelope_from = mail.bounces.as_ref().and_then(|own| names.envelope_from(own, to));
    Some(rendered)
}

/// The whole mail.
fn email(
    notification: &Notification<'_>,
    names: &MailNames<'_>,
    id: &MailId,
    from: &str,
    to: &str,
) -> Rendered {
    let message_id = format!("{}@{}", id.0, names.domain);
    let page = html::page(notification, &picture_id(&message_id));
    let plain = text::page(notification, &page.shown);
    let all = notification.firing.len() + notification.resolved.len();
    let mut email = Email {
        message_id,
        from: from.to_owned(),
        to: to.to_owned(),
        envelope_from: None,
        subject: escape::line(&notification.subject(), 300),
        date: notification.at,
        headers: headers::of(notification, names),
        text: plain,
        html: page.html,
        plot: notification.plot.clone(),
        post: None,
    };
    let templates_failed = template::apply(&mut email, notification);
    Rendered { email, rows_cut: all - page.shown.firing - page.shown.resolved, templates_failed }
}

/// Content-ID of the picture in the mail with this Message-ID.
pub(crate) fn picture_id(message_id: &str) -> String {
    format!("plot.{message_id}")
}

/// What the picture says.
pub(crate) fn picture_words(plot: &Plot) -> String {
    escape::line(&kinetic_plot::describe(plot), PICTURE_WORDS_MAX)
}
