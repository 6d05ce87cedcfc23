//! Exceeded limits and security events in words.

use kinetic_wire::{Breach, BreachKind, Breached, CustomerName, names};

use crate::group::AlertView;
use crate::render::{Notification, SENTENCE_NAME_MAX, TABLE_NAME_MAX};
use crate::words::Matter;
use crate::{escape, format};

fn kind(alert: &AlertView) -> Option<BreachKind> {
    alert.breach.as_ref().map(|what| what.kind)
}

/// What is limited.
pub(crate) fn limit(alert: &AlertView) -> &'static str {
    match kind(alert) {
        Some(BreachKind::SamplesPerSecond) => "samples a second",
        Some(BreachKind::Feeds) => "feeds",
        Some(BreachKind::Series) => "series",
        Some(BreachKind::MessageBytes) => "bytes in a message",
        _ => "what it may",
    }
}

/// What has been tried.
pub(crate) fn event(alert: &AlertView) -> &'static str {
    match kind(alert) {
        Some(BreachKind::ForeignExchange) => "messages of another exchange",
        Some(BreachKind::ForeignLogin) => "messages of another login",
        Some(BreachKind::ForeignClaim) => "messages that name another customer",
        Some(BreachKind::Copied) => "messages with CC or BCC",
        _ => "messages that may not be",
    }
}

/// `source web sends up to 23400 samples a second, 2.34 times its limit of 10000, since 12:03:10 UTC (57 s); 1500 samples were
/// dropped`.
pub(crate) fn sentence(notification: &Notification<'_>, alert: &AlertView) -> Option<String> {
    let what = alert.breach.as_deref()?;
    let since = format::time_utc(alert.since_ms, notification.at);
    let span = format::duration(format::between(alert.since_ms, notification.at.as_ms()));
    Some(format!("{}, since {since} ({span}){}", does(alert, what), counted(what)))
}

fn does(alert: &AlertView, what: &Breached) -> String {
    let origin = escape::line(&alert.origin, SENTENCE_NAME_MAX);
    let number = |n: u64| format::number(n as f64);
    let limit = number(what.limit);
    let times = match what.limit {
        0 => format!("and may send none ({limit})"),
        most => format!("{} times its limit of {limit}", format::number(what.value as f64 / most as f64)),
    };
    match what.kind {
        BreachKind::SamplesPerSecond => {
            format!("source {origin} sends up to {} samples a second, {times}", number(what.value))
        }
        BreachKind::MessageBytes => {
            format!("source {origin} is sent messages of up to {} bytes, {times}", number(what.value))
        }
        BreachKind::Feeds => format!("source {origin} has more feeds than its limit of {limit}"),
        BreachKind::Series => {
            format!(
                "source {origin} has more series, pairs of feed and metric, than its limit of {limit} allows"
            )
        }
        _ => {
            let by = what.by.as_ref().map(|by| format!(" (last by {})", escape::line(by, SENTENCE_NAME_MAX)));
            format!("{} come to source {origin}{}", event(alert), by.unwrap_or_default())
        }
    }
}

fn counted(what: &Breached) -> String {
    let of = |noun: &str| format::count(usize::try_from(what.dropped).unwrap_or(usize::MAX), noun);
    match what.kind {
        BreachKind::SamplesPerSecond => format!("; {} dropped so far", of("sample")),
        BreachKind::Feeds | BreachKind::Series => {
            format!("; {} of new ones dropped so far, those known before go on", of("sample"))
        }
        BreachKind::Copied => format!("; {} so far", of("message")),
        _ => format!("; {} refused so far", of("message")),
    }
}

/// `source web: samples a second are within the limit of 10000 again, after 6 min 10 s`.
pub(crate) fn end_sentence(notification: &Notification<'_>, alert: &AlertView) -> Option<String> {
    let what = alert.breach.as_deref()?;
    let origin = escape::line(&alert.origin, SENTENCE_NAME_MAX);
    let until = if alert.stale { notification.at.as_ms() } else { alert.window_end_ms };
    let span = format::duration(format::between(alert.since_ms, until));
    let quiet = format::duration(Breach::QUIET);
    let counted = counted(what).replace(" so far", " in all");
    Some(match what.kind.is_limit() {
        true => format!(
            "source {origin} has kept its limit of {} for {quiet}, after {span}{counted}",
            limit(alert)
        ),
        false => format!(
            "no more {} have come to source {origin} for {quiet}, after {span}{counted}",
            event(alert)
        ),
    })
}

/// By which rule.
pub(crate) fn rule(matter: Matter) -> Option<String> {
    let quiet = format::duration(Breach::QUIET);
    match matter {
        Matter::Limits => Some(format!(
            "limits: what is over a limit of a customer's is dropped and counted, and told when it begins; it is over when \
             nothing more has been dropped for {quiet}"
        )),
        Matter::Security => Some(format!(
            "security: a message is a customer's own only if the exchange that it was published to, the login that published it \
             and what it says of itself agree; it is over when no other has come for {quiet}"
        )),
        _ => None,
    }
}

/// What to do.
pub(crate) fn advice(alert: &AlertView) -> Option<&'static str> {
    Some(match kind(alert)? {
        BreachKind::SamplesPerSecond => {
            "send less often, or sample, or ask whoever runs this installation for a higher limit; meanwhile no rule judges how \
             much there was (count, sum, rate) in a window of which samples were dropped, nor takes its feeds for silent"
        }
        BreachKind::Feeds | BreachKind::Series => {
            "take what differs from one request to the next (numbers, addresses, ids) out of names and tags, or ask whoever runs \
             this installation for a higher limit; what has not been seen for ten minutes is forgotten and makes room"
        }
        BreachKind::MessageBytes => {
            "let the publisher make smaller batches, or ask whoever runs this installation for a higher limit; the messages \
             are kept as dead letters"
        }
        BreachKind::Copied => {
            "ask the customer that publishes so to stop: by these headers a message reaches queues that its sender may not \
             write to, on brokers before RabbitMQ 4.0.3; at another customer's queue it is refused"
        }
        _ => {
            "see who publishes: somebody uses a broken configuration, or tries what he may not; the messages were refused, are in \
             nobody's numbers, and are kept as dead letters"
        }
    })
}

/// Where to look further.
pub(crate) fn look(customer: &CustomerName, alert: &AlertView) -> String {
    let origin = escape::line(&alert.origin, TABLE_NAME_MAX);
    match (kind(alert).is_some_and(BreachKind::is_limit), origin.split_once('/')) {
        (false, Some((customer, _))) => {
            format!(
                "kinetic tap {origin}; queue {} holds what was refused",
                names::dead_queue(&customer.into())
            )
        }
        _ => format!("kinetic tap {customer}/{origin}"),
    }
}
