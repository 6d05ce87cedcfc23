//! A worked example of a mail: made-up numbers of a cluster of the schema, taken through the machine that sends real ones.

use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::Schema;
use kinetic_schema::schema::{self, Analytic, Cluster, ClusterPath, Rule, Silent};
use kinetic_wire::{
    AlertEvent, AlertId, AlertState, CustomerName, Direction, Epoch, Feed, Mono, Now, Numbers, Token,
    TrailPoint, Wall, encode,
};
use uuid::Uuid;

use crate::machine::{Alert, AlertConfig, Effect, Email, Input};
use crate::webhook::{self, Post};

/// Windows shown.
const WINDOWS: i32 = 24;
/// Windows in which the feed is out of line, if the rule does not ask for more.
const WINDOWS_OUT: i32 = 4;
/// What a made-up feed is about.
const NORMAL: f64 = 100.0;
/// Feeds made up at most.
const FEEDS_MAX: u32 = 10_000;
/// How many steps of the machine are waited for its mail; working hours may put it off.
const STEPS_MAX: usize = 1_000;
/// What stands in front of the subject.
const MARK: &str = "[PREVIEW]";
/// What stands in the mail.
const NOTE: &str = "This is a preview: the feed and its numbers are made up.";

/// Why there is nothing to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPreview {
    /// The schema has no such customer.
    Customer,
    /// The customer has no such alert block; it has these.
    Alert(Vec<String>),
    /// No analytic of the customer is told of by it.
    Analytic,
    /// The schema names no relay, so that nothing is mailed.
    Mail,
    /// It tells nobody by mail, or never in its working hours.
    NoMail,
    /// It has no such webhook, or never speaks in its working hours; it has these.
    Webhook(Vec<String>),
}

impl std::fmt::Display for NoPreview {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Customer => f.write_str("there is no such customer"),
            Self::Alert(known) if known.is_empty() => f.write_str("the customer has no alert blocks"),
            Self::Alert(known) => write!(f, "there is no such alert; there is {}", known.join(", ")),
            Self::Analytic => f.write_str("it tells of no analytic"),
            Self::Mail => f.write_str("the schema has no `mail` block, so that nothing is mailed"),
            Self::NoMail => f.write_str("it sends no mail"),
            Self::Webhook(known) if known.is_empty() => f.write_str("it has no webhooks"),
            Self::Webhook(known) => write!(f, "nothing is posted; its webhooks are {}", known.join(", ")),
        }
    }
}

impl std::error::Error for NoPreview {}

/// The first mail that the alert block would send about the first analytic that it tells of. It is marked as a preview.
///
/// # Errors
/// When there is nothing to show.
pub fn preview(
    config: AlertConfig,
    schema: &Schema,
    customer: &CustomerName,
    alert: &str,
    now: Wall,
) -> Result<Email, NoPreview> {
    if schema.mail.is_none() && schema.customers.contains_key(customer) {
        return Err(NoPreview::Mail);
    }
    let told = told(config, schema, customer, alert, now, |email| is_of(email, alert))?;
    told.map(marked).ok_or(NoPreview::NoMail)
}

/// What would be posted to a webhook of the alert block instead.
///
/// # Errors
/// When there is nothing to show.
pub fn preview_post(
    config: AlertConfig,
    schema: &Schema,
    customer: &CustomerName,
    alert: &str,
    webhook: &str,
    now: Wall,
) -> Result<Post, NoPreview> {
    let to = webhook::recipient(alert, webhook);
    let told = told(config, schema, customer, alert, now, |email| email.to == to)?;
    let known = || {
        let alert = schema.customers.get(customer).and_then(|customer| customer.alerts.get(alert));
        alert.into_iter().flat_map(|alert| &alert.webhooks).map(|webhook| webhook.name.clone()).collect()
    };
    told.and_then(|email| email.post).ok_or_else(|| NoPreview::Webhook(known()))
}

/// The first message for which the alert block's first analytic is a reason, and that is wanted.
fn told(
    config: AlertConfig,
    schema: &Schema,
    customer: &CustomerName,
    alert: &str,
    now: Wall,
    wanted: impl Fn(&Email) -> bool,
) -> Result<Option<Email>, NoPreview> {
    let declared = schema.customers.get(customer).ok_or(NoPreview::Customer)?;
    let block = declared
        .alerts
        .get(alert)
        .ok_or_else(|| NoPreview::Alert(declared.alerts.keys().cloned().collect()))?;
    let meant: Vec<&Analytic> = declared
        .analytics
        .values()
        .filter(|analytic| block.analytics.is_empty() || block.analytics.contains(&analytic.name))
        .collect();
    if meant.is_empty() {
        return Err(NoPreview::Analytic);
    }
    let events = meant.iter().flat_map(|analytic| clusters(declared, analytic, now));
    Ok(events.into_iter().find_map(|event| sent(config.clone(), schema, &event, now, &wanted)))
}

/// An event of each cluster that the analytic looks at.
fn clusters(customer: &schema::Customer, analytic: &Analytic, now: Wall) -> Vec<AlertEvent> {
    let event = |on: &ClusterPath| {
        let cluster = customer.services.get(&on.service)?.clusters.get(&on.cluster)?;
        Some(event(&customer.name, analytic, on, cluster, now))
    };
    analytic.on.iter().filter_map(event).collect()
}

/// What the machine sends that hears of this, and of nothing else.
fn sent(
    config: AlertConfig,
    schema: &Schema,
    event: &AlertEvent,
    now: Wall,
    wanted: impl Fn(&Email) -> bool,
) -> Option<Email> {
    let mut machine = Alert::new(config, Arc::new(schema.clone()), []);
    let mut at = Now { mono: Mono(0), wall: now };
    let mut effects = Vec::new();
    machine.handle(at, Input::Subscribed, &mut effects);
    machine.handle(at, Input::Delivery { token: Token(1), body: &encode(event) }, &mut effects);
    for _ in 0..STEPS_MAX {
        for effect in std::mem::take(&mut effects) {
            match effect {
                Effect::Append { seq, .. } => machine.handle(at, Input::Appended { seq }, &mut effects),
                Effect::Send { email, .. } if wanted(&email) => return Some(*email),
                _ => {}
            }
        }
        if effects.is_empty() {
            let wakeup = machine.next_wakeup()?;
            let pause = Duration::from_nanos(wakeup.0.saturating_sub(at.mono.0).max(1));
            at = Now { mono: at.mono + pause, wall: at.wall + pause };
            machine.handle(at, Input::Tick, &mut effects);
        }
    }
    None
}

/// Whether a mail is sent by this alert block: its list is named for it.
fn is_of(email: &Email, alert: &str) -> bool {
    let list = email.headers.iter().find(|(name, _)| name == "List-Id");
    list.is_some_and(|(_, value)| value.contains(&format!("<{}.", crate::headers::label(alert))))
}

fn marked(mut email: Email) -> Email {
    email.subject = format!("{MARK} {}", email.subject);
    email.headers.push(("X-Kinetic-Preview".to_owned(), "yes".to_owned()));
    email.text = format!("{NOTE}\n\n{}", email.text);
    let note = format!("<p style=\"opacity:.75\">{NOTE}</p>\n");
    let body = email.html.find("<body").and_then(|at| Some(at + email.html[at..].find('>')? + 1));
    email.html.insert_str(body.unwrap_or(0), &note);
    email
}

/// A name that a glob matches, with `any` for what may be any text.
fn example(pattern: &str, any: &str) -> String {
    let mut name = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => {
                while chars.next_if_eq(&'*').is_some() {}
                name.push_str(any);
            }
            '?' => name.push('7'),
            // The first of a class or of alternatives.
            '[' => {
                name.extend(chars.next());
                let _ = chars.by_ref().find(|c| *c == ']');
            }
            '{' => {
                let inner: String = chars.by_ref().take_while(|c| *c != '}').collect();
                name.push_str(inner.split(',').next().unwrap_or_default());
            }
            '\\' => name.extend(chars.next()),
            c => name.push(c),
        }
    }
    name
}

/// A number between -1 and 1 that looks like chance and is always the same.
fn wobble(feed: u32, window: i32) -> f64 {
    let mut mixed = u64::from(feed) << 32 | u64::from(window.unsigned_abs());
    for _ in 0..2 {
        mixed = (mixed ^ mixed >> 31).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    ((mixed >> 40) as f64 / f64::from(1 << 24)).mul_add(2.0, -1.0)
}

/// What one feed has in a window; windows from 0 on are those in which feed 0 is out of line by the `factor`.
fn value(feed: u32, window: i32, factor: f64) -> f64 {
    let usual = NORMAL + 4.0 * wobble(feed, window);
    if feed == 0 && window >= 0 { usual * factor } else { usual }
}

fn event(
    customer: &CustomerName,
    analytic: &Analytic,
    on: &ClusterPath,
    cluster: &Cluster,
    now: Wall,
) -> AlertEvent {
    let origin = match cluster.members.first().map_or("*", |glob| glob.pattern.as_str()) {
        "*" => "host-7".to_owned(),
        pattern => example(pattern, "7"),
    };
    let length_ms = i64::try_from(analytic.window.as_millis()).unwrap_or(10_000).max(1);
    let end_ms = now.as_ms() / length_ms * length_ms;
    let (direction, numbers, trail) = match &analytic.rule {
        Rule::Silent(_) => (Direction::Below, None, None),
        Rule::Deviates(rule) => {
            let factor = if rule.direction == Direction::Below { 0.1 } else { 4.0 };
            // One feed among n can be no farther than the root of n - 1 from the mean.
            let needed = (1.3 * rule.deviations).powi(2) + 2.0;
            let feeds = (needed.ceil() as u32).clamp(rule.min_feeds.max(12), FEEDS_MAX);
            let hits = i32::try_from(analytic.hysteresis.hits).unwrap_or(WINDOWS).min(WINDOWS / 2);
            let after = WINDOWS_OUT.max(hits);
            let windows = after - WINDOWS..after;
            let trail: Vec<TrailPoint> = windows
                .map(|window| {
                    let numbers = numbers(feeds, window, factor, rule.deviations);
                    let end_ms = end_ms - i64::from(after - 1 - window) * length_ms;
                    let (value, mean) = (Some(numbers.value), numbers.mean);
                    TrailPoint { end_ms, value, mean, deviation: numbers.deviation }
                })
                .collect();
            (rule.direction, Some(numbers(feeds, after - 1, factor, rule.deviations)), Some(trail))
        }
    };
    let is_silent = numbers.is_none();
    let metric = example(&analytic.metric.pattern, "example");
    AlertEvent {
        v: 1,
        id: AlertId(Uuid::new_v5(&Uuid::NAMESPACE_OID, b"preview")),
        customer: customer.clone(),
        source: cluster.source.clone(),
        analytic: analytic.name.clone(),
        service: on.service.clone(),
        cluster: on.cluster.clone(),
        feed: Feed { origin, metric },
        state: AlertState::Firing,
        window_start_ms: end_ms - length_ms,
        window_end_ms: end_ms,
        since_ms: end_ms,
        numbers,
        value_kind: if is_silent { Silent::VALUE_KIND } else { analytic.value.as_str() }.to_owned(),
        direction,
        hits: analytic.hysteresis.hits,
        of: analytic.hysteresis.of,
        epoch: Epoch(1),
        node: "preview".into(),
        schema: None,
        traceparent: None,
        trail,
        breach: None,
    }
}

/// The numbers of feed 0 in one window.
fn numbers(feeds: u32, window: i32, factor: f64, limit: f64) -> Numbers {
    let values: Vec<f64> = (0..feeds).map(|feed| value(feed, window, factor)).collect();
    let n = f64::from(feeds);
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
    let peers = &values[1..];
    Numbers {
        value: values[0],
        mean,
        deviation,
        deviations: (values[0] - mean) / deviation,
        limit,
        feeds,
        peers_mean: peers.iter().sum::<f64>() / (n - 1.0),
        peers_min: peers.iter().copied().fold(f64::INFINITY, f64::min),
        peers_max: peers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feed_is_out_of_line_only_at_the_end() {
        for (limit, feeds) in [(1.0, 12), (3.0, 18), (6.0, 63)] {
            for factor in [0.1, 4.0] {
                let at = |window| numbers(feeds, window, factor, limit).deviations.abs();
                assert!(at(0) > limit && at(3) > limit, "{limit} {factor}");
            }
        }
        let check = |pattern, want: &str| assert_eq!(example(pattern, "any"), want);
        check("web-*", "web-any");
        check("kvm-a[0-9]?.{fra,ber}.**", "kvm-a07.fra.any");
        assert!((0..500).all(|k| (-1.0..=1.0).contains(&wobble(k, 3 - k as i32))));
    }
}
