//! The mail of a test event: marked as one in every way that people and programs look at. Pure.

use kinetic_wire::{AlertEvent, Wall};

use crate::id::MailNames;
use crate::machine::{Email, MailId};
use crate::{escape, format, headers};

/// Characters of a line.
const LINE_MAX: usize = 300;

fn lines(event: &AlertEvent, trace: &str, at: Wall) -> Vec<String> {
    let mut lines = vec![
        format!("This is a test of the way that alerts of {} take. Nothing is wrong.", event.customer),
        format!(
            "At {} a burst of made-up feeds was published where {}'s data goes, to its source {}. Analyzer {} (epoch {}) \
             judged it, and this mail was sent as an alert would be.",
            format::time_utc(at.as_ms(), at),
            event.customer,
            event.source,
            event.node,
            event.epoch.0
        ),
    ];
    if let Some(numbers) = event.numbers {
        lines.push(format!(
            "{} was at {}, {} standard deviations above the mean {} of {} feeds, as it should be.",
            event.feed.origin,
            format::number(numbers.value),
            format::deviations(numbers.deviations),
            format::number(numbers.mean),
            numbers.feeds
        ));
    }
    lines.push(format!("Test {trace}, made by kinetic test-event. No answer is needed."));
    lines.into_iter().map(|line| escape::line(&line, LINE_MAX)).collect()
}

fn html(lines: &[String], title: &str) -> String {
    let paragraphs: String = lines.iter().map(|line| format!("<p>{}</p>\n", escape::html(line))).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title></head>\n\
         <body style=\"font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;line-height:1.4;\
         overflow-wrap:anywhere\">\n{paragraphs}</body></html>\n",
        escape::html(title)
    )
}

/// The whole mail: a thread of its own, which no other mail joins.
pub(crate) fn email(
    names: &MailNames<'_>,
    id: &MailId,
    from: &str,
    to: &str,
    trace: &str,
    event: &AlertEvent,
    at: Wall,
) -> Email {
    let subject =
        escape::line(&format!("[TEST] {}: a test of alerting, nothing is wrong", event.customer), LINE_MAX);
    let label = headers::label(event.customer.as_str());
    let fields = [
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Auto-Response-Suppress", "All".to_owned()),
        ("List-Id", format!("\"{label} test\" <test.{label}.alerts.{}>", names.domain)),
        ("X-Kinetic-Customer", event.customer.to_string()),
        ("X-Kinetic-State", "test".to_owned()),
        ("X-Kinetic-Reason", "test".to_owned()),
        ("Kinetic-Trace", trace.to_owned()),
    ];
    let lines = lines(event, trace, at);
    Email {
        post: None,
        message_id: format!("{}@{}", id.0, names.domain),
        from: from.to_owned(),
        to: to.to_owned(),
        envelope_from: None,
        date: at,
        headers: fields.into_iter().map(|(n, v)| (n.to_owned(), escape::header(&v, LINE_MAX))).collect(),
        text: lines.join("\n\n") + "\n",
        html: html(&lines, &subject),
        plot: None,
        subject,
    }
}
