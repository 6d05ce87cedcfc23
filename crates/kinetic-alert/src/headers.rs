//! The headers by which programs thread and sort a mail (`docs/alerting-mail.md`).

use kinetic_wire::AnalyticName;

use crate::escape;
use crate::id::MailNames;
use crate::render::Notification;

/// Characters of a header's value.
const HEADER_MAX: usize = 300;

/// The headers of a mail, in order, beside those that every mail has.
pub(crate) fn of(notification: &Notification<'_>, names: &MailNames<'_>) -> Vec<(String, String)> {
    let Notification { group, thread, .. } = notification;
    let root = format!("<{}>", names.root(group, thread));
    let customer = label(group.customer.as_str());
    let rules: Vec<&str> = notification.analytics().into_iter().map(AnalyticName::as_str).collect();
    let rules = if rules.is_empty() { group.analytic.to_string() } else { rules.join(", ") };
    let list = format!(
        "\"{customer} {}\" <{}.{customer}.alerts.{}>",
        label(&thread.alert),
        label(&thread.alert),
        names.domain
    );
    let headers = vec![
        ("In-Reply-To", root.clone()),
        ("References", root),
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Auto-Response-Suppress", "All".to_owned()),
        ("List-Id", list),
        ("X-Kinetic-Customer", group.customer.to_string()),
        ("X-Kinetic-Rule", rules),
        ("X-Kinetic-State", notification.state().to_owned()),
        ("X-Kinetic-Reason", notification.reason.to_string()),
        ("X-Kinetic-Fingerprint", names.group16(group, &thread.alert)),
        ("X-Kinetic-Episode", thread.episode.as_ms().to_string()),
        ("X-Kinetic-Seq", thread.seq.to_string()),
    ];
    let headers = headers.into_iter().map(|(name, value)| (name, escape::header(&value, HEADER_MAX)));
    headers.chain(unsubscribe(notification)).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// How a mail program takes its user off the block: by asking him to, or over TLS by itself (RFC 2369, RFC 8058).
fn unsubscribe(notification: &Notification<'_>) -> Vec<(&'static str, String)> {
    let Some(links) = &notification.links else { return Vec::new() };
    let mut headers = vec![("List-Unsubscribe", format!("<{}>", links.unsubscribe))];
    if links.one_click() {
        headers.push(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()));
    }
    headers
}

/// A part of a List-Id: letters, digits and dashes.
pub(crate) fn label(name: &str) -> String {
    name.chars().take(63).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}
