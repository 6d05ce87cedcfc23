//! The map as tables for people. Pure.

use kinetic_wire::{AnalyzerState, MapReply, MoveRecord, MoveWhy, SourceState};

use super::{Picture, Shown};
use crate::term::Style;

/// One column of a table: what is above it, and whether it is a number.
type Column = (&'static str, bool);

/// Rows of text under headings, as wide as they need be.
fn lines(columns: &[Column], rows: &[Vec<String>], style: Style) -> String {
    let width = |index: usize| {
        let cells = rows.iter().map(|row| row[index].chars().count());
        cells.chain([columns[index].0.len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).zip(columns).map(|((cell, width), (_, number))| {
            if *number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        format!("  {}", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let heads: Vec<String> = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let mut text = style.dim(&line(&heads)) + "\n";
    for row in rows {
        text += &(line(row) + "\n");
    }
    text
}

/// A length of time in two units at most.
fn length(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

fn why(why: MoveWhy) -> &'static str {
    match why {
        MoveWhy::Placed => "placed",
        MoveWhy::Adopted => "adopted",
        MoveWhy::OwnerLost => "owner lost",
        MoveWhy::OwnerLeft => "owner left",
        MoveWhy::Restarted => "restarted",
        MoveWhy::Unfit => "owner unfit",
        MoveWhy::Balance => "balance",
        MoveWhy::Changed => "changed",
    }
}

/// The whole picture.
pub(super) fn render(picture: &Picture, shown: &Shown, style: Style) -> String {
    let reply = &picture.reply;
    let state = if reply.listening { "listening to owners, nothing is placed" } else { "leading" };
    let revision = reply.revision.get(..12).unwrap_or(&reply.revision);
    let mut text = format!(
        "{} {state}, term {}, schema {revision}, locate version {}\n",
        style.bold(reply.leader.as_str()),
        reply.term,
        reply.map_epoch
    );
    text += &format!("\nAnalyzers ({})\n", reply.analyzers.len());
    text += &analyzers(reply, style);
    let count = if picture.more {
        format!("the first {}", reply.sources.len())
    } else {
        reply.sources.len().to_string()
    };
    let unowned = match reply.unowned {
        0 => style.green("all owned"),
        n => style.red(&format!("{n} without an owner")),
    };
    text += &format!("\nSources ({count}; {unowned})\n");
    text += &sources(reply, style);
    if picture.more {
        text += &style.dim("  more with --limit N, --customer C, --node N or --json\n");
    }
    if !reply.moves.is_empty() && shown.customer.is_none() && shown.node.is_none() {
        text += "\nLast moves\n";
        text += &moves(reply, style);
    }
    text
}

fn analyzers(reply: &MapReply, style: Style) -> String {
    let columns = [
        ("NODE", false),
        ("LEASE", true),
        ("LOAD", true),
        ("LAG", true),
        ("OWNED", true),
        ("CAPACITY", true),
        ("ZONE", false),
        ("SINCE", true),
        ("STATE", false),
    ];
    let row = |analyzer: &AnalyzerState| {
        let state = match analyzer {
            AnalyzerState { relieved: true, .. } => "relieved".to_owned(),
            AnalyzerState { draining: true, .. } => "leaving".to_owned(),
            AnalyzerState { held_down_ms: 1.., .. } => {
                format!("held down {}", length(i64::try_from(analyzer.held_down_ms).unwrap_or(i64::MAX)))
            }
            _ => "ok".to_owned(),
        };
        vec![
            analyzer.node.to_string(),
            format!("{:.1}s", analyzer.lapses_in_ms as f64 / 1000.0),
            format!("{:.0}%", analyzer.load * 100.0),
            format!("{:.1}s", analyzer.lag_ms as f64 / 1000.0),
            analyzer.owned.to_string(),
            analyzer.capacity.to_string(),
            analyzer.zone.clone().unwrap_or_else(|| "-".to_owned()),
            length(reply.now_ms - analyzer.since_ms),
            state,
        ]
    };
    lines(&columns, &reply.analyzers.iter().map(row).collect::<Vec<_>>(), style)
}

fn sources(reply: &MapReply, style: Style) -> String {
    let columns = [
        ("SOURCE", false),
        ("REGION", false),
        ("OWNER", false),
        ("SINCE", true),
        ("EPOCH", true),
        ("WHY", false),
        ("RATE/S", true),
        ("STATE", false),
    ];
    let row = |source: &SourceState| {
        let (owner, since, epoch, because, state) = match &source.owner {
            None => ("-".to_owned(), "-".to_owned(), "-".to_owned(), "-", "unowned"),
            Some(owner) => {
                let state = match (owner.leaving, owner.held) {
                    (true, _) => "leaving",
                    (false, true) => "ok",
                    (false, false) => "given",
                };
                let since = length(reply.now_ms - owner.since_ms);
                (owner.node.to_string(), since, owner.epoch.to_string(), why(owner.why), state)
            }
        };
        vec![
            source.source.to_string(),
            source.region.to_string(),
            owner,
            since,
            epoch,
            because.to_owned(),
            if source.rate == 0 { "-".to_owned() } else { source.rate.to_string() },
            state.to_owned(),
        ]
    };
    lines(&columns, &reply.sources.iter().map(row).collect::<Vec<_>>(), style)
}

fn moves(reply: &MapReply, style: Style) -> String {
    let columns =
        [("AGO", true), ("SOURCE", false), ("FROM", false), ("TO", false), ("EPOCH", true), ("WHY", false)];
    let row = |moved: &MoveRecord| {
        vec![
            length(reply.now_ms - moved.at_ms),
            moved.source.to_string(),
            moved.from.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            moved.to.to_string(),
            moved.epoch.to_string(),
            why(moved.why).to_owned(),
        ]
    };
    lines(&columns, &reply.moves.iter().map(row).collect::<Vec<_>>(), style)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let text = r#"{"ok": true, "leader": "redirector-1", "term": 9, "seq": 118,
            "revision": "3f2c9e5b7d1a4c60a1b2c3d4e5f60718293a4b5c", "map_epoch": 2001, "routes": "", "listening": false,
            "analyzers": [{"node": "a7", "inc": "01a1ee56-6058-7000-ab1a-48348f91af39",
                "lease": "01a1ee56-6100-7abc-9def-0123456789ab", "lapses_in_ms": 17250, "since_ms": 1795000000000,
                "serves": {}, "capacity": 100, "zone": "a", "load": 0.42, "lag_ms": 1200, "draining": true,
                "relieved": true, "owned": 1}],
            "sources": [
                {"customer": "acme", "source": "db", "region": "us-west.aws", "data_type": "statsd"},
                {"customer": "acme", "source": "web", "region": "us-west.aws", "data_type": "statsd", "rate": 1200,
                 "owner": {"node": "a7", "epoch": 42, "since_ms": 1794999900000, "why": "owner_lost", "held": true,
                           "leaving": false}}],
            "moves": [{"at_ms": 1794999900000, "customer": "acme", "source": "web", "from": "a3", "to": "a7",
                       "epoch": 42, "why": "owner_lost"}],
            "unowned": 1, "next": null, "now_ms": 1795000060000}"#;
        Picture { reply: kinetic_wire::decode(text.as_bytes()).expect("a reply"), more: true }
    }

    #[test]
    fn the_picture_is_readable() {
        let shown = Shown { customer: None, node: None, limit: 2 };
        let text = render(&picture(), &shown, Style { fancy: false });
        let want = "\
redirector-1 leading, term 9, schema 3f2c9e5b7d1a, locate version 2001

Analyzers (1)
  NODE  LEASE  LOAD   LAG  OWNED  CAPACITY  ZONE  SINCE  STATE
  a7    17.2s   42%  1.2s      1       100  a     1m00s  relieved

Sources (the first 2; 1 without an owner)
  SOURCE    REGION       OWNER  SINCE  EPOCH  WHY         RATE/S  STATE
  acme/db   us-west.aws  -          -      -  -                -  unowned
  acme/web  us-west.aws  a7     2m40s     42  owner lost    1200  ok
  more with --limit N, --customer C, --node N or --json

Last moves
    AGO  SOURCE    FROM  TO  EPOCH  WHY
  2m40s  acme/web  a3    a7     42  owner lost
";
        assert_eq!(text, want);
    }

    #[test]
    fn lengths_have_two_units_at_most() {
        let of = |s: i64| length(s * 1000);
        assert_eq!([of(-5), of(59), of(61), of(3_700), of(90_000)], ["0s", "59s", "1m01s", "1h01m", "1d01h"]);
    }
}
