//! statsd lines, with DogStatsD 1.0 to 1.6, the Influx, Librato, SignalFx and Graphite tag dialects, and etsy's
//! several values in one line.
//!
//! ```text
//! checkout.latency.m17:123.4|ms            quick: one pass over the bytes, nothing looked at twice
//! └──── name ────────┘ value type
//!
//! a#k=v:1:2|c|@0.5|#env:prod|T1656581400   slow: everything else, by cutting at `:` and `|`
//! └ head ┘values fields…
//! ```

mod line;

#[cfg(test)]
mod tests;

pub(super) use line::member;

use kinetic_schema::schema::GaugeSign;
use kinetic_wire::Wall;
use memchr::{memchr, memchr2};

use crate::decode::tags::check_count;
use crate::decode::text::{self, Lines, Tabs};
use crate::decode::{Context, LINE_BYTES_MAX, LINES_MAX, NAME_BYTES_MAX, Notes, number};
use crate::sample::{Kind, Reject, Sample, TagSyntax};

/// What holds for every line of one body.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// How gauges with a sign are read.
    gauge_sign: GaugeSign,
    /// The last moment that a timestamp may name.
    latest: Wall,
}

impl Rules {
    fn of(context: &Context<'_>) -> Self {
        Self { gauge_sign: context.gauge_sign, latest: context.latest() }
    }
}

/// Reads a body of statsd lines.
pub(super) fn decode(
    context: &Context<'_>,
    body: &[u8],
    each: &mut impl FnMut(Sample<'_>),
    reject: &mut impl FnMut(Reject, &[u8]),
) -> Notes {
    let rules = Rules::of(context);
    match text::plain(body) {
        Some(body) => plain(rules, body, each, reject),
        None => checked(rules, body, each, reject),
    }
}

/// A body that is known to be printable ASCII and line feeds.
fn plain(
    rules: Rules,
    body: &str,
    each: &mut impl FnMut(Sample<'_>),
    reject: &mut impl FnMut(Reject, &[u8]),
) -> Notes {
    let bytes = body.as_bytes();
    let mut notes = Notes::default();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'\n' {
            at += 1;
            continue;
        }
        if notes.lines == LINES_MAX {
            reject(Reject::TooManyLines, text::head(&bytes[at..], LINE_BYTES_MAX));
            break;
        }
        notes.lines += 1;
        if let Some((sample, next)) = quick(rules, body, at) {
            each(sample);
            at = next;
            continue;
        }
        let end = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |n| at + n);
        let read = if end - at > LINE_BYTES_MAX {
            Err(Reject::LineTooLong)
        } else {
            line::read(rules, &body[at..end], &mut notes, each)
        };
        if let Err(reason) = read {
            reject(reason, text::head(&bytes[at..end], LINE_BYTES_MAX));
        }
        at = end + 1;
    }
    notes
}

/// A body in which some line is not plain ASCII: each line is looked at by itself.
#[cold]
fn checked(
    rules: Rules,
    body: &[u8],
    each: &mut impl FnMut(Sample<'_>),
    reject: &mut impl FnMut(Reject, &[u8]),
) -> Notes {
    let mut notes = Notes::default();
    let mut lines = Lines::new(body, Tabs::Refused, LINE_BYTES_MAX);
    for (raw, line) in lines.by_ref() {
        let read = line.and_then(|line| match quick(rules, line, 0) {
            Some((sample, _)) => {
                each(sample);
                Ok(())
            }
            None => line::read(rules, line, &mut notes, each),
        });
        if let Err(reason) = read {
            reject(reason, raw);
        }
    }
    notes.lines += lines.count;
    notes
}

/// Bytes at which the quick reading of a name ends: the colon, and those that mean another dialect or a broken line.
const STOPS: [bool; 256] = {
    let mut stops = [false; 256];
    let signs = b":\n|,;#[]";
    let mut i = 0;
    while i < signs.len() {
        stops[signs[i] as usize] = true;
        i += 1;
    }
    stops
};

/// The commonest lines, `name:number|type` with or without a rate and a tag section, from the byte at `start`; and
/// where the next line starts. `None` sends the line the slow way, which decides. Accepts nothing that the slow way does
/// not, with the same result; `exercise::statsd` holds the two against each other.
#[inline]
fn quick(rules: Rules, body: &str, start: usize) -> Option<(Sample<'_>, usize)> {
    let rest = &body.as_bytes()[start..];
    let colon = rest.iter().position(|b| STOPS[usize::from(*b)])?;
    // An underscore may begin an event or a service check.
    if rest[colon] != b':' || colon == 0 || colon > NAME_BYTES_MAX || rest[0] == b'_' {
        return None;
    }
    let number = number::quick(&rest[colon + 1..])?;
    let (kind, letters) = match rest.get(colon + 1 + number.len..)? {
        [b'|', b'c', ..] => (Kind::Counter, 1),
        [b'|', b'm', b's', ..] if number.value >= 0.0 => (Kind::Timer, 2),
        [b'|', b'h' | b'd', ..] => (Kind::Timer, 1),
        [b'|', b'g', ..] if number.signed && rules.gauge_sign != GaugeSign::Absolute => (Kind::GaugeDelta, 1),
        [b'|', b'g', ..] => (Kind::Gauge, 1),
        _ => return None,
    };
    let end = colon + 1 + number.len + 1 + letters;
    let name = &body[start..start + colon];
    let mut sample = Sample {
        name,
        field: None,
        tags: "",
        tag_syntax: TagSyntax::None,
        origin: None,
        kind,
        value: number.value,
        rate: 1.0,
        at: None,
    };
    let end = match rest.get(end) {
        None | Some(b'\n') => end,
        Some(b'|') => quick_extras(rules, &body[start..], end, &mut sample)?,
        _ => return None,
    };
    (end <= LINE_BYTES_MAX).then_some((sample, start + end + 1))
}

/// A rate, a tag section, or both, from the bar at `end`; returns where the line ends.
#[inline]
fn quick_extras<'a>(rules: Rules, line: &'a str, mut end: usize, sample: &mut Sample<'a>) -> Option<usize> {
    let bytes = line.as_bytes();
    let (mut rated, mut tagged) = (false, false);
    loop {
        match bytes.get(end..)? {
            [] | [b'\n', ..] => return Some(end),
            [b'|', b'@', rate @ ..] if !rated && matches!(sample.kind, Kind::Counter | Kind::Timer) => {
                let number = number::quick(rate).filter(|n| n.value > 0.0 && n.value <= 1.0)?;
                sample.rate = number.value;
                rated = true;
                end += 2 + number.len;
            }
            [b'|', b'#', tags @ ..] if !tagged => {
                let len = memchr2(b'\n', b'|', tags).unwrap_or(tags.len());
                sample.tags = &line[end + 2..end + 2 + len];
                check_count(sample.tags, TagSyntax::Dog).ok()?;
                if len > 0 {
                    sample.tag_syntax = TagSyntax::Dog;
                }
                if sample.kind == Kind::GaugeDelta && rules.gauge_sign == GaugeSign::Auto {
                    sample.kind = Kind::Gauge;
                }
                tagged = true;
                end += 2 + len;
            }
            _ => return None,
        }
    }
}

/// What one line gives each way, as text: the quick way's answer if it has one, and the slow way's.
pub(super) fn both_ways(context: &Context<'_>, line: &str) -> (Option<String>, Result<String, Reject>) {
    let rules = Rules::of(context);
    let quick = quick(rules, line, 0).map(|(sample, _)| format!("{sample:?}"));
    let mut slow = String::new();
    let read = line::read(rules, line, &mut Notes::default(), &mut |sample| slow += &format!("{sample:?}"));
    (quick, read.map(|()| slow))
}
