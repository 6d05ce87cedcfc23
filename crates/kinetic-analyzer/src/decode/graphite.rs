//! Graphite plaintext, as carbon reads it: `name value timestamp`, tags in the name (`name;k=v;k2=v2`), and the layout
//! in which the name is the routing key and a line is `value timestamp`.
//!
//! ```text
//! servers.web-1.cpu.idle;dc=west 98.5 1795164112      -1 or N for the time: none of its own
//! └──────── name ──────┘ └ tags ┘ value  time
//! ```

use crate::decode::tags::check_count;
use crate::decode::text::{Lines, Tabs, has_control};
use crate::decode::{Context, LINE_BYTES_MAX, NAME_BYTES_MAX, Notes, number};
use crate::sample::{Kind, Reject, Sample, TagSyntax};

/// Reads a body of graphite lines; with `key`, lines of two tokens take it as their name.
pub(super) fn decode(
    context: &Context<'_>,
    key: Option<&str>,
    body: &[u8],
    each: &mut impl FnMut(Sample<'_>),
    reject: &mut impl FnMut(Reject, &[u8]),
) -> Notes {
    // A key may hold what no line may.
    let bad_key = key.is_some_and(|key| has_control(key, Tabs::Refused));
    let mut lines = Lines::new(body, Tabs::Allowed, LINE_BYTES_MAX);
    for (raw, line) in lines.by_ref() {
        let line = if bad_key { Err(Reject::BadText) } else { line };
        match line.and_then(|line| read(context, key, line)) {
            Ok(Some(sample)) => each(sample),
            Ok(None) => {}
            Err(reason) => reject(reason, raw),
        }
    }
    Notes { lines: lines.count, ..Notes::default() }
}

/// One line; `None` where it is white space only.
fn read<'a>(
    context: &Context<'_>,
    key: Option<&'a str>,
    line: &'a str,
) -> Result<Option<Sample<'a>>, Reject> {
    let mut tokens = line.split_ascii_whitespace();
    let Some(first) = tokens.next() else { return Ok(None) };
    let second = tokens.next().ok_or(Reject::Malformed)?;
    let (path, value, timestamp) = match (tokens.next(), key) {
        (Some(third), _) => (first, second, third),
        (None, Some(key)) => (key, first, second),
        (None, None) => return Err(Reject::Malformed),
    };
    if tokens.next().is_some() {
        return Err(Reject::Malformed);
    }
    let (name, tags) = path.split_once(';').unwrap_or((path, ""));
    if name.is_empty() {
        return Err(Reject::EmptyName);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Reject::NameTooLong);
    }
    check_count(tags, TagSyntax::Semicolon)?;
    // carbon passes over NaN without a word, and collectd writes it for "unknown".
    let value = number::finite(value).ok_or(if number::is_nan(value) {
        Reject::Unknown
    } else {
        Reject::BadValue
    })?;
    let at = match timestamp {
        "-1" | "N" => None,
        seconds => {
            Some(number::seconds(seconds).filter(|at| *at <= context.latest()).ok_or(Reject::BadTimestamp)?)
        }
    };
    Ok(Some(Sample {
        name,
        field: None,
        tags,
        tag_syntax: if tags.is_empty() { TagSyntax::None } else { TagSyntax::Semicolon },
        origin: None,
        kind: Kind::Gauge,
        value,
        rate: 1.0,
        at,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Format;
    use crate::decode::exercise::testing::{Seen, see};

    const NOW: i64 = 1_795_159_700;

    fn check(format: Format, key: &str, body: &str, expect: &[&str]) {
        let context = Context { routing_key: key, ..Context::bare(kinetic_wire::Wall::from_secs(NOW)) };
        let Seen { samples, rejects, .. } = see(format, &context, body.as_bytes());
        let rejects = rejects.into_iter().map(|(reason, line)| format!("!{} {line}", reason.name()));
        assert_eq!(samples.into_iter().chain(rejects).collect::<Vec<_>>(), expect, "{body:?}");
    }

    #[test]
    fn lines_as_the_tools_write_them() {
        // carbon, Diamond
        check(
            Format::Graphite,
            "",
            "servers.web-1.cpu.idle 98.5 1795159693\n",
            &["servers.web-1.cpu.idle=98.5 gauge @1795159693000000000"],
        );
        // statsd-amqp-backend: timers lack a dot, taken as it is; tags of the daemon have suffixes after them
        check(
            Format::Graphite,
            "x",
            "stats.timers.web-017.checkout.latencymean_90 120.5 1795159693\n",
            &["stats.timers.web-017.checkout.latencymean_90=120.5 gauge @1795159693000000000"],
        );
        check(
            Format::Graphite,
            "",
            "stats.t;env=prod;bare.mean 3 1795159693",
            &["stats.t{env=prod;bare.mean}=3 gauge @1795159693000000000"],
        );
        // collectd, several data sources, carriage returns, unknown
        check(
            Format::Graphite,
            "",
            "collectd.web-017.load.load.shortterm 11.38 1795159693\r\ncollectd.web-017.load.load.midterm nan 1795159693\r\n",
            &[
                "collectd.web-017.load.load.shortterm=11.38 gauge @1795159693000000000",
                "!unknown_value collectd.web-017.load.load.midterm nan 1795159693",
            ],
        );
        check(
            Format::Graphite,
            "",
            "a 1 -1\nb\t2  N\n \t\nc 3 1795159693.5",
            &["a=1 gauge", "b=2 gauge", "c=3 gauge @1795159693500000000"],
        );
    }

    #[test]
    fn name_in_the_routing_key() {
        check(
            Format::GraphiteKeyed,
            "web.load",
            "1.5 1795159693\n2.5 -1\n",
            &["web.load=1.5 gauge @1795159693000000000", "web.load=2.5 gauge"],
        );
        check(
            Format::GraphiteKeyed,
            "web.load",
            "other 1.5 1795159693\n",
            &["other=1.5 gauge @1795159693000000000"],
        );
        check(Format::GraphiteKeyed, "a\nb", "1.5 N", &["!bad_text 1.5 N"]);
        check(Format::GraphiteKeyed, "", "1.5 1795159693\n", &["!empty_name 1.5 1795159693"]);
    }

    #[test]
    fn bad_lines() {
        for (line, reason) in [
            ("a", "malformed"),
            ("a 1", "malformed"),
            ("a 1 2 3", "malformed"),
            (";k=v 1 2", "empty_name"),
            ("a inf 1795159693", "bad_value"),
            ("a 0x10 1795159693", "bad_value"),
            ("a 1 yesterday", "bad_timestamp"),
            ("a 1 -5", "bad_timestamp"),
            ("a 1 1795999999", "bad_timestamp"),
            ("a\0b 1 1795159693", "bad_text"),
        ] {
            check(
                Format::Graphite,
                "",
                &format!("x 1 N\n{line}\ny 2 N\n"),
                &["x=1 gauge", "y=2 gauge", &format!("!{reason} {line}")],
            );
        }
        let long = "n".repeat(513);
        check(Format::Graphite, "", &format!("{long} 1 N"), &[&format!("!name_too_long {long} 1 N")]);
    }
}
