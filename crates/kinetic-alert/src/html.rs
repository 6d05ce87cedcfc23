//! The text/html part: the same words as the text, in small tables that a phone shows without scrolling. It sets no
//! background and no text colour, so that light and dark mode both read well, and loads nothing from outside itself.

use kinetic_plot::Plot;

use crate::escape::html as escaped;
use crate::group::AlertView;
use crate::render::{Notification, PLACE_COLUMN, TABLE_NAME_MAX};
use crate::words::Matter;
use crate::{escape, render, text};

/// Bytes of rows about firing feeds; what does not fit is counted instead.
const FIRING_BYTES_MAX: usize = 9_000;
/// Bytes of rows about resolved feeds.
const RESOLVED_BYTES_MAX: usize = 3_000;
/// Rows of either kind.
const ROWS_MAX: usize = 40;

/// How many rows each table of a mail has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) firing: usize,
    pub(crate) resolved: usize,
}

/// The part, and how much of the tables it shows.
pub(crate) struct Page {
    pub(crate) html: String,
    pub(crate) shown: Shown,
}

const TABLE: &str = r#"<table cellpadding="4" style="border-collapse:collapse;font-size:13px">"#;
const RULE: &str = "border-bottom:1px solid #8888";
/// A cell that a phone must not break; a name may wrap, a number may not.
const WHOLE: &str = "border-bottom:1px solid #8888;white-space:nowrap";
/// A link that a thumb hits.
const BUTTON: &str = "display:inline-block;border:1px solid #8888;border-radius:6px;padding:9px 16px;margin:0 8px 8px 0;\
                      color:inherit;text-decoration:none";
const MUTED: &str = "opacity:.75;font-size:12px";

/// The whole part.
pub(crate) fn page(notification: &Notification<'_>, picture_id: &str) -> Page {
    let (firing, firing_shown) = firing(notification);
    let (resolved, resolved_shown) = resolved(notification);
    let mark = if notification.firing.is_empty() { "#1a7f37" } else { "#cf222e" };
    let mut body = format!(
        r#"<p style="border-left:4px solid {mark};padding-left:10px;font-size:16px"><strong>{}</strong>"#,
        escaped(&notification.headline())
    );
    if let Some(also) = notification.also() {
        body.push_str(&format!("<br>{}", escaped(&also)));
    }
    for note in notification.notes() {
        body.push_str(&format!("<br>{}", escaped(&note)));
    }
    body.push_str("</p>\n");
    body.push_str(&buttons(notification));
    if let Some(plot) = &notification.plot {
        body.push_str(&picture(plot, picture_id));
    }
    body.push_str(&firing);
    body.push_str(&resolved);
    body.push_str("<p></p>\n");
    body.push_str(TABLE);
    for (label, value) in notification.facts() {
        body.push_str(&format!(
            "\n<tr><td style=\"{MUTED};vertical-align:top;white-space:nowrap\">{label}</td><td>{}</td></tr>",
            escaped(&value)
        ));
    }
    body.push_str("\n</table>\n");
    if let Some(links) = &notification.links {
        body.push_str(&format!(
            "<p style=\"{MUTED}\"><a href=\"{}\" style=\"color:inherit\">No more mails of alert {}</a></p>\n",
            escaped(&links.unsubscribe),
            escaped(&notification.thread.alert)
        ));
    }
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title></head>\n\
         <body style=\"font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;line-height:1.4;\
         overflow-wrap:anywhere;max-width:720px\">\n{body}</body></html>\n",
        escaped(&escape::line(&notification.subject(), 300))
    );
    Page { html, shown: Shown { firing: firing_shown, resolved: resolved_shown } }
}

/// What can be done from the mail; each leads to a page that asks before it does it.
fn buttons(notification: &Notification<'_>) -> String {
    let button =
        |(label, url): (&str, &str)| format!("<a href=\"{}\" style=\"{BUTTON}\">{label}</a>\n", escaped(url));
    let buttons: String = notification.actions().into_iter().map(button).collect();
    if buttons.is_empty() { buttons } else { format!("<p>{buttons}</p>\n") }
}

/// The picture: as wide as the screen allows, and in words where it is not shown.
fn picture(plot: &Plot, id: &str) -> String {
    let (width, height) = kinetic_plot::SIZE;
    format!(
        r#"<p><img src="cid:{}" alt="{}" width="{width}" height="{height}" style="max-width:100%;height:auto"></p>{}"#,
        escaped(id),
        escaped(&render::picture_words(plot)),
        '\n'
    )
}

/// As many rows as fit, and their number.
fn rows(alerts: &[&AlertView], bytes_max: usize, row: impl Fn(&AlertView) -> String) -> (String, usize) {
    let mut rows = String::new();
    let mut shown = 0;
    for alert in alerts.iter().take(ROWS_MAX) {
        let row = row(alert);
        if rows.len() + row.len() > bytes_max {
            break;
        }
        rows.push_str(&row);
        shown += 1;
    }
    (rows, shown)
}

/// Names of a feed: isolated, so that one written from right to left leaves its neighbours in place.
fn names(alert: &AlertView, notification: &Notification<'_>) -> String {
    let name = |text: &str| escaped(&escape::line(text, TABLE_NAME_MAX));
    if let Matter::Nodes(_) = notification.matter {
        return format!("<bdi>{}</bdi>", name(&alert.origin));
    }
    let mut names =
        format!("<bdi>{}</bdi><br><bdi style=\"{MUTED}\">{}</bdi>", name(&alert.origin), name(&alert.metric));
    if notification.is_wide() {
        names.push_str(&format!("<br><bdi style=\"{MUTED}\">{}</bdi>", name(&alert.place())));
    }
    names
}

fn section(title: &str, head: &str, rows: &str, left: usize) -> String {
    let more = if left == 0 { String::new() } else { format!("<p style=\"{MUTED}\">and {left} more</p>\n") };
    format!("<p><strong>{title}</strong></p>\n{TABLE}{head}{rows}\n</table>\n{more}")
}

fn firing(notification: &Notification<'_>) -> (String, usize) {
    let all = notification.firing.len();
    if all == 0 {
        return (String::new(), 0);
    }
    let heading = |text: &&str| format!("<th style=\"{WHOLE}\" align=\"left\">{text}</th>");
    // Metric and cluster stand below their feed, in the same cell.
    let columns = || notification.columns().into_iter().filter(|column| ![1, PLACE_COLUMN].contains(column));
    let headings: String = columns().map(|column| heading(&text::headings(notification)[column])).collect();
    let row = |alert: &AlertView| {
        let cells = text::columns(alert, notification);
        let mut row = format!("\n<tr><td style=\"{RULE}\">{}</td>", names(alert, notification));
        for column in columns().skip(1) {
            row.push_str(&format!("<td style=\"{WHOLE}\">{}</td>", cells[column]));
        }
        row.push_str("</tr>");
        row
    };
    let (rows, shown) = rows(&notification.firing, FIRING_BYTES_MAX, row);
    (section(&format!("Firing ({all})"), &format!("\n<tr>{headings}</tr>"), &rows, all - shown), shown)
}

fn resolved(notification: &Notification<'_>) -> (String, usize) {
    let all = notification.resolved.len();
    if all == 0 {
        return (String::new(), 0);
    }
    let row = |alert: &AlertView| {
        format!(
            "\n<tr><td style=\"{RULE}\">{}</td><td style=\"{RULE}\">{}</td></tr>",
            names(alert, notification),
            escaped(&text::ending(alert, notification))
        )
    };
    let (rows, shown) = rows(&notification.resolved, RESOLVED_BYTES_MAX, row);
    (section(&format!("Resolved ({all})"), "", &rows, all - shown), shown)
}
