//! The ladder's last rung: the body itself. The first non-empty lines must all be of one shape.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::decode::json::Pairs;
use crate::decode::{Context, Format, influx, number};
use crate::sample::Foreign;

/// How many non-empty lines are looked at.
const LINES_SNIFFED: usize = 8;

/// What a body looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A format that is read here.
    Known(Format),
    /// One that is not.
    Foreign(Foreign),
    /// None, or several at once.
    None,
}

/// Looks at a body. Binary formats first, then JSON, then lines.
pub(super) fn shape(context: &Context<'_>, body: &[u8]) -> Shape {
    if is_protobuf_of_messages(body) {
        return Shape::Foreign(Foreign::Otlp);
    }
    let start = body.trim_ascii_start();
    if let Some(b'{' | b'[') = start.first() {
        return json(start);
    }
    let is = |test: fn(&str) -> bool| every_line(body, test);
    if is(is_putval) {
        return Shape::Known(Format::CollectdCommand);
    }
    if is(is_statsd) {
        return Shape::Known(Format::Statsd);
    }
    if is(|line| graphite_tokens(line) == Some(3)) {
        return Shape::Known(Format::Graphite);
    }
    if !context.routing_key.is_empty() && is(|line| graphite_tokens(line) == Some(2)) {
        return Shape::Known(Format::GraphiteKeyed);
    }
    if std::str::from_utf8(body).is_ok_and(|text| influx::is_like(context, text, LINES_SNIFFED)) {
        return Shape::Known(Format::Influx);
    }
    if is(is_access_log) {
        return Shape::Foreign(Foreign::AccessLog);
    }
    Shape::None
}

/// Lines that are not empty, as text; one that is no text ends them with `None`.
fn texts(body: &[u8]) -> impl Iterator<Item = Option<&str>> {
    body.split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| std::str::from_utf8(line).ok())
}

/// The first line that is not empty, if it is text.
pub(super) fn first_line(body: &[u8]) -> Option<&str> {
    texts(body).next().flatten()
}

/// Whether there are lines and the first few all pass a test.
fn every_line(body: &[u8], test: fn(&str) -> bool) -> bool {
    first_line(body).is_some() && texts(body).take(LINES_SNIFFED).all(|line| line.is_some_and(test))
}

pub(super) fn is_putval(line: &str) -> bool {
    line.as_bytes().get(..7).is_some_and(|word| word.eq_ignore_ascii_case(b"PUTVAL "))
}

/// The shape `name:values|type`, whatever the values are: a bad value is a bad line of a statsd body.
fn is_statsd(line: &str) -> bool {
    if line.starts_with("_sc|") {
        return true;
    }
    if let Some(event) = line.strip_prefix("_e{") {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let lengths = event.split_once("}:").and_then(|(lengths, _)| lengths.split_once(','));
        return lengths.is_some_and(|(title, text)| digits(title) && digits(text));
    }
    let Some((name, rest)) = line.split_once(':') else { return false };
    let Some((values, fields)) = rest.split_once('|') else { return false };
    let kind = fields.split(['|', ':']).next().unwrap_or("");
    let named = !name.is_empty() && !name.contains(|c: char| c == '|' || c.is_whitespace());
    named && !values.is_empty() && matches!(kind, "c" | "g" | "ms" | "h" | "d" | "s")
}

/// Three for `name value timestamp`, two for `value timestamp`, nothing for anything else.
pub(super) fn graphite_tokens(line: &str) -> Option<usize> {
    let mut tokens = line.split_ascii_whitespace();
    let numeric = |token: &str| number::finite(token).is_some() || number::is_nan(token);
    let stamp = |token: &str| matches!(token, "-1" | "N") || number::seconds(token).is_some();
    match (tokens.next()?, tokens.next()?, tokens.next(), tokens.next()) {
        (_, value, Some(at), None) if numeric(value) && stamp(at) => Some(3),
        (value, at, None, None) if numeric(value) && stamp(at) => Some(2),
        _ => None,
    }
}

/// The common and the combined log format: `address - user [date] "METHOD …" status bytes`.
fn is_access_log(line: &str) -> bool {
    let Some((address, rest)) = line.split_once(' ') else { return false };
    let request = rest.split_once(" [").and_then(|(_, rest)| rest.split_once("] \""));
    let status = request.and_then(|(_, request)| request.split_once("\" "));
    let is_status = |rest: &str| rest.len() >= 3 && rest.as_bytes()[..3].iter().all(u8::is_ascii_digit);
    address.contains(['.', ':']) && status.is_some_and(|(_, rest)| is_status(rest))
}

/// Graphite's pickle, bare or with carbon's length before it.
pub(super) fn is_pickle(body: &[u8]) -> bool {
    const MAGIC: &[u8] = &[0x80, 0x02];
    let framed = body.split_first_chunk::<4>().is_some_and(|(length, rest)| {
        rest.starts_with(MAGIC) && u32::from_be_bytes(*length) as usize == rest.len()
    });
    body.starts_with(MAGIC) || framed
}

/// Whether a body is nothing but protobuf fields number 1 of length-delimited kind, as every OTLP request is: a list of
/// resource metrics, spans or logs, each again beginning with a length-delimited field 1 or 2. Text that begins with a
/// line feed (the same byte) does not add up so.
fn is_protobuf_of_messages(body: &[u8]) -> bool {
    const FIELD_1: u8 = 0x0a;
    const FIELD_2: u8 = 0x12;
    let mut rest = body;
    while let Some((&FIELD_1, after)) = rest.split_first() {
        let Some((length, after)) = varint(after) else { return false };
        let Some(message) = after.get(..length) else { return false };
        if !matches!(message.first(), Some(&(FIELD_1 | FIELD_2))) {
            return false;
        }
        rest = &after[length..];
    }
    rest.is_empty() && !body.is_empty()
}

/// A protobuf varint that is a length, and what follows it.
fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (i, b) in bytes.iter().take(4).enumerate() {
        value |= usize::from(b & 0x7f) << (7 * i);
        if b & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

/// Tells JSON bodies apart by their keys.
fn json(body: &[u8]) -> Shape {
    let object = match body.first() {
        Some(b'[') => {
            // Only the first element is read as an object; the rest must be JSON.
            let Ok(elements) = serde_json::from_slice::<Vec<&RawValue>>(body) else { return Shape::None };
            let Some(first) = elements.first() else { return Shape::None };
            return match serde_json::from_str::<Keys<'_>>(first.get()) {
                Ok(keys) if keys.all(&["dstypes", "values"]) => Shape::Known(Format::CollectdJson),
                Ok(keys) if keys.all(&["specversion"]) => Shape::Foreign(Foreign::CloudEvents),
                _ => Shape::None,
            };
        }
        _ => serde_json::from_slice::<Keys<'_>>(body),
    };
    let Ok(keys) = object else { return Shape::None };
    let has = |names: &[&str]| keys.all(names);
    if has(&["counters", "gauges", "timers"]) || keys.only("counters") {
        Shape::Known(Format::StatsdBackendJson)
    } else if has(&["resourceMetrics"]) || has(&["resourceSpans"]) || has(&["resourceLogs"]) {
        Shape::Foreign(Foreign::OtlpJson)
    } else if has(&["name", "fields", "tags", "timestamp"]) || has(&["metrics"]) {
        Shape::Foreign(Foreign::TelegrafJson)
    } else if has(&["client", "check"]) {
        Shape::Foreign(Foreign::Sensu)
    } else if has(&["specversion"]) {
        Shape::Foreign(Foreign::CloudEvents)
    } else if has(&["@timestamp"]) {
        Shape::Foreign(Foreign::Logstash)
    } else {
        Shape::None
    }
}

/// An object's keys.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Keys<'a>(#[serde(borrow)] Pairs<'a, IgnoredAny>);

impl Keys<'_> {
    fn all(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.0.0.iter().any(|(key, _)| key.0 == *name))
    }

    fn only(&self, name: &str) -> bool {
        self.0.0.len() == 1 && self.all(&[name])
    }
}
