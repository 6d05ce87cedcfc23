//! The text/plain part: the headline, then aligned columns that a terminal shows well.

use std::fmt::Write;

use kinetic_plot::Plot;
use kinetic_wire::{Direction, Wall};

use crate::escape;
use crate::format;
use crate::group::AlertView;
use crate::html::Shown;
use crate::render::{Notification, PLACE_COLUMN, TABLE_NAME_MAX};
use crate::words::{self, Matter};

/// Columns of a terminal, or of a mail that somebody quotes.
const COLUMNS: usize = 78;
/// Windows listed of the feed that leads; the picture has more.
const WINDOWS_MAX: usize = 8;

/// The whole part.
pub(crate) fn page(notification: &Notification<'_>, shown: &Shown) -> String {
    let mut page = notification.headline();
    page.push('\n');
    if let Some(also) = notification.also() {
        page.push_str(&also);
        page.push('\n');
    }
    for note in notification.notes() {
        page.push_str(&note);
        page.push('\n');
    }
    for (label, url) in notification.actions() {
        line(&mut page, format_args!("\n{label}:\n{url}"));
    }
    firing(&mut page, notification, shown.firing);
    resolved(&mut page, notification, shown.resolved);
    if let Some(plot) = &notification.plot {
        windows(&mut page, plot, notification.at);
    }
    page.push('\n');
    let facts = notification.facts();
    let width = facts.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    for (label, value) in facts {
        let indent = width + 2;
        let value = folded(&value, COLUMNS.saturating_sub(indent), indent);
        line(&mut page, format_args!("{label:<width$}  {value}"));
    }
    if let Some(links) = &notification.links {
        line(
            &mut page,
            format_args!("\nNo more mails of alert {}:\n{}", notification.thread.alert, links.unsubscribe),
        );
    }
    page
}

/// What the picture shows, as numbers.
fn windows(page: &mut String, plot: &Plot, at: Wall) {
    let name = |text: &str| escape::line(text, TABLE_NAME_MAX);
    line(page, format_args!("\nLast windows of {}: {}", name(&plot.feed), name(&plot.metric)));
    let heads = ["Until (UTC)", "Value", "Cluster's mean", limit_heading(plot.direction)];
    let mut rows = vec![heads.map(str::to_owned)];
    let shown = plot.points.len().saturating_sub(WINDOWS_MAX);
    rows.extend(plot.points[shown..].iter().map(|point| {
        let reach = plot.deviations * point.deviation;
        let limit = match plot.direction {
            Direction::Above => format::number(point.mean + reach),
            Direction::Below => format::number(point.mean - reach),
            Direction::Both => {
                format!("{} to {}", format::number(point.mean - reach), format::number(point.mean + reach))
            }
        };
        let value = point.value.map_or_else(|| "-".to_owned(), format::number);
        [format::time(point.end_ms, at), value, format::number(point.mean), limit]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    for [until, value, mean, limit] in &rows {
        let [w0, w1, w2, w3] = widths;
        line(page, format_args!("  {until:<w0$}  {value:>w1$}  {mean:>w2$}  {limit:>w3$}"));
    }
}

fn limit_heading(direction: Direction) -> &'static str {
    match direction {
        Direction::Above | Direction::Below => "Limit",
        Direction::Both => "Limits",
    }
}

/// Words in lines of at most `columns`, each but the first with an indent. A longer word, an address for one, stays whole.
fn folded(words: &str, columns: usize, indent: usize) -> String {
    let (mut folded, mut taken) = (String::new(), 0);
    for word in words.split(' ') {
        let chars = word.chars().count();
        if taken > 0 && taken + 1 + chars > columns {
            folded.push_str(&format!("\n{:indent$}", ""));
            taken = 0;
        } else if taken > 0 {
            folded.push(' ');
            taken += 1;
        }
        folded.push_str(word);
        taken += chars;
    }
    folded
}

/// Writing to a `String` cannot fail.
fn line(page: &mut String, args: std::fmt::Arguments<'_>) {
    page.write_fmt(args).expect("a String takes all that is written");
    page.push('\n');
}

/// The columns of one firing feed.
pub(crate) fn columns(alert: &AlertView, notification: &Notification<'_>) -> [String; 7] {
    let name = |text: &str| escape::line(text, TABLE_NAME_MAX);
    let dash = || "-".to_owned();
    let breach = alert.breach.as_ref().filter(|what| what.kind.is_limit());
    let breach =
        breach.map(|what| (format::number(what.value as f64), format::number(what.limit as f64), dash()));
    let numbers = alert.numbers;
    let (value, peers, deviations) = breach.unwrap_or_else(|| {
        numbers.map_or_else(
            || (dash(), dash(), dash()),
            |numbers| {
                (
                    format::number(numbers.value),
                    format::number(numbers.peers_mean),
                    format::deviations(numbers.deviations),
                )
            },
        )
    });
    [
        name(&alert.origin),
        name(&alert.metric),
        value,
        peers,
        deviations,
        format::time(alert.since_ms, notification.at),
        name(&alert.place()),
    ]
}

/// Headings of `columns`.
pub(crate) fn headings(notification: &Notification<'_>) -> [&'static str; 7] {
    let who = match notification.matter {
        Matter::Limits | Matter::Security => "Source",
        Matter::Nodes("customer") => "Customer",
        Matter::Nodes(_) => "Node",
        _ => "Feed",
    };
    let (what, value, peers) = match notification.matter {
        Matter::Limits => ("Limit of", "Seen", "Allowed"),
        Matter::Security => ("Event", "Value", "Peers"),
        _ => ("Metric", "Value", "Peers"),
    };
    [who, what, value, peers, "Deviations", "Since (UTC)", "Cluster"]
}

/// How one alert ended.
pub(crate) fn ending(alert: &AlertView, notification: &Notification<'_>) -> String {
    if alert.matter().ends_in_words(alert) {
        return words::silence_ending(alert, notification.at);
    }
    let span = format!(
        "{} to {} UTC",
        format::time(alert.since_ms, notification.at),
        format::time(alert.window_end_ms, notification.at)
    );
    match alert.numbers {
        _ if alert.stale => format!("no news of it, {span}"),
        Some(numbers) => format!("back at {}, {span}", format::number(numbers.value)),
        None => format!("silent, {span}"),
    }
}

fn firing(page: &mut String, notification: &Notification<'_>, shown: usize) {
    let all = notification.firing.len();
    if all == 0 {
        return;
    }
    line(page, format_args!("\nFiring ({all})"));
    let mut rows = vec![headings(notification).map(str::to_owned)];
    rows.extend(notification.firing.iter().take(shown).map(|alert| columns(alert, notification)));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    for row in &rows {
        let mut text = String::from(" ");
        for column in notification.columns() {
            let (cell, width) = (&row[column], widths[column]);
            text.push(' ');
            // Names and times stand at the left, numbers at the right.
            match column {
                0 | 1 | PLACE_COLUMN => text.push_str(&format!("{cell:<width$} ")),
                5 => text.push_str(cell),
                _ => text.push_str(&format!("{cell:>width$} ")),
            }
        }
        line(page, format_args!("{}", text.trim_end()));
    }
    if all > shown {
        line(page, format_args!("  and {} more", all - shown));
    }
}

fn resolved(page: &mut String, notification: &Notification<'_>, shown: usize) {
    let all = notification.resolved.len();
    if all == 0 {
        return;
    }
    line(page, format_args!("\nResolved ({all})"));
    for alert in notification.resolved.iter().take(shown) {
        let name = |text: &str| escape::line(text, TABLE_NAME_MAX);
        let ending = ending(alert, notification);
        match notification.matter {
            Matter::Nodes(_) => line(page, format_args!("  {}  {ending}", name(&alert.origin))),
            _ => {
                let place = if notification.is_wide() {
                    format!("{}  ", name(&alert.place()))
                } else {
                    String::new()
                };
                let [origin, metric] = [&alert.origin, &alert.metric].map(|text| name(text));
                line(page, format_args!("  {origin}  {metric}  {place}{ending}"));
            }
        }
    }
    if all > shown {
        line(page, format_args!("  and {} more", all - shown));
    }
}
