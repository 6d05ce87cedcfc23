//! One mail about many groups, where each by itself would be too many; and the report of mail that did not arrive. Pure.

use std::sync::Arc;

use kinetic_wire::{AnalyticName, CustomerName, Wall};

use crate::escape;
use crate::format;
use crate::headers;
use crate::id::MailNames;
use crate::machine::{Email, MailId};
use crate::render::{self, Notification};

/// Characters of a sentence in a digest.
const SENTENCE_MAX: usize = 400;
/// Characters of the rules by which a group of a digest fires.
const RULES_MAX: usize = 200;

/// What a digest says of one group.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    firing: bool,
    /// `checkout/frontends, slow-host, critical: 7 firing, 1 resolved`.
    head: String,
    /// The first lines of the mail that would have been sent.
    sentences: Vec<String>,
}

impl Section {
    pub(crate) fn of(notification: &Notification<'_>) -> Self {
        let severity = notification.severity().map(|severity| format!(", {}", severity.as_str()));
        let rules: Vec<&str> = notification.analytics().into_iter().map(AnalyticName::as_str).collect();
        let [firing, resolved] = [notification.firing.len(), notification.resolved.len()];
        let head = format!(
            "{}, {}{}: {firing} firing, {resolved} resolved",
            render::group_place(notification.group),
            escape::line(&rules.join(", "), RULES_MAX),
            severity.unwrap_or_default(),
        );
        let sentences = [Some(notification.headline()), notification.also()].into_iter().flatten();
        let sentences = sentences.chain(notification.notes());
        let sentences = sentences.map(|text| escape::line(&text, SENTENCE_MAX)).collect();
        Self { firing: firing > 0, head, sentences }
    }
}

fn subject(customer: &CustomerName, sections: &[Section]) -> String {
    let firing = sections.iter().filter(|section| section.firing).count();
    let resolved = sections.len() - firing;
    match sections.len() {
        0 => format!("[REPORT] {customer}: mail that did not arrive"),
        _ => format!("[DIGEST] {customer}: {} firing, {resolved} resolved", format::count(firing, "group")),
    }
}

/// Why it came in this form.
fn opening(sections: &[Section]) -> &'static str {
    if sections.is_empty() {
        "Mail of this installation did not arrive:"
    } else {
        "More mail was due than the schema allows in an hour (mails_per_hour). The rest comes in one mail an hour; this is \
         how it stands now."
    }
}

fn text(sections: &[Section], notices: &[String]) -> String {
    let mut page = format!("{}\n", opening(sections));
    for section in sections {
        page.push_str(&format!("\n{}\n", section.head));
        section.sentences.iter().for_each(|sentence| page.push_str(&format!("  {sentence}\n")));
    }
    if !sections.is_empty() && !notices.is_empty() {
        page.push_str("\nNot delivered\n");
    }
    notices.iter().for_each(|notice| page.push_str(&format!("  {notice}\n")));
    page
}

fn html(sections: &[Section], notices: &[String], title: &str) -> String {
    let mut body = format!("<p>{}</p>\n", escape::html(opening(sections)));
    for section in sections {
        let mark = if section.firing { "#cf222e" } else { "#1a7f37" };
        let sentences: Vec<String> = section.sentences.iter().map(|text| escape::html(text)).collect();
        body.push_str(&format!(
            "<p style=\"border-left:4px solid {mark};padding-left:10px\"><strong>{}</strong><br>{}</p>\n",
            escape::html(&section.head),
            sentences.join("<br>")
        ));
    }
    if !notices.is_empty() {
        let rows: String =
            notices.iter().map(|notice| format!("<li>{}</li>", escape::html(notice))).collect();
        body.push_str(&format!("<p><strong>Not delivered</strong></p>\n<ul>{rows}</ul>\n"));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title></head>\n\
         <body style=\"font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;line-height:1.4;\
         overflow-wrap:anywhere\">\n{body}</body></html>\n",
        escape::html(title)
    )
}

/// The whole mail.
#[expect(clippy::too_many_arguments, reason = "what a mail is made of")]
pub(crate) fn email(
    names: &MailNames<'_>,
    id: &MailId,
    customer: &CustomerName,
    from: &str,
    to: &Arc<str>,
    at: Wall,
    sections: &[Section],
    notices: &[String],
) -> Email {
    let subject = escape::line(&subject(customer, sections), 300);
    let label = headers::label(customer.as_str());
    let state = if sections.is_empty() { "report" } else { "digest" };
    let fields = [
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Auto-Response-Suppress", "All".to_owned()),
        ("Precedence", "bulk".to_owned()),
        ("List-Id", format!("\"{label} {state}\" <{state}.{label}.alerts.{}>", names.domain)),
        ("X-Kinetic-Customer", customer.to_string()),
        ("X-Kinetic-State", state.to_owned()),
        ("X-Kinetic-Reason", state.to_owned()),
    ];
    Email {
        post: None,
        message_id: format!("{}@{}", id.0, names.domain),
        from: from.to_owned(),
        to: to.to_string(),
        envelope_from: None,
        date: at,
        headers: fields.into_iter().map(|(n, v)| (n.to_owned(), escape::header(&v, 300))).collect(),
        text: text(sections, notices),
        html: html(sections, notices, &subject),
        plot: None,
        subject,
    }
}
