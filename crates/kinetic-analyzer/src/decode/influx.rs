//! Influx line protocol: `measurement[,tag=value…] field=value[,field=value…] [timestamp]`.
//!
//! ```text
//! cpu,host=web-1,core=0 usage_idle=98.5,note="a \"b\", c" 1795159693000000000
//! └────── series ─────┘ └─────────── fields ───────────┘ └──── stamp ─────┘
//! ```
//! Each field that is a number is a sample named `measurement.field`; strings and booleans are no metrics and are
//! counted only. A string may hold spaces, commas and line breaks, so the end of a line is known only from reading it;
//! one that lacks its closing quote takes the lines up to the next quote with it, as the protocol has it.

use memchr::memchr;

use kinetic_schema::schema::Precision;
use kinetic_wire::Wall;

use crate::decode::tags::{check_count, unescape};
use crate::decode::text::{self, Tabs};
use crate::decode::{Context, INFLUX_LINE_BYTES_MAX, LINES_MAX, NAME_BYTES_MAX, Notes, number};
use crate::sample::{Field, Kind, Reject, Sample, TagSyntax};

/// Reads a body of influx lines.
pub(super) fn decode(
    context: &Context<'_>,
    body: &[u8],
    each: &mut impl FnMut(Sample<'_>),
    reject: &mut impl FnMut(Reject, &[u8]),
) -> Notes {
    let mut notes = Notes::default();
    let mut rest = body;
    // Where the whole body is text, strings may span lines; where some line is not, that line alone is refused.
    let whole = std::str::from_utf8(body).ok();
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        if is_blank(&rest[..end]) {
            rest = rest.get(end + 1..).unwrap_or(&[]);
            continue;
        }
        if notes.lines == LINES_MAX {
            reject(Reject::TooManyLines, text::head(rest, INFLUX_LINE_BYTES_MAX));
            break;
        }
        notes.lines += 1;
        let line = match whole {
            Some(whole) => Ok(&whole[body.len() - rest.len()..]),
            None => std::str::from_utf8(&rest[..end]).map_err(|_| Reject::BadText),
        };
        let taken = match line.and_then(|text| Line::read(context, text)) {
            Ok(line) => {
                line.emit(&mut notes, each);
                line.len
            }
            Err(reason) => {
                reject(reason, text::head(&rest[..end], INFLUX_LINE_BYTES_MAX));
                end
            }
        };
        rest = rest.get(taken + 1..).unwrap_or(&[]);
    }
    notes
}

/// Whether a line has nothing to say: white space, or a comment.
fn is_blank(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.is_empty() || line[0] == b'#'
}

/// Whether the first lines of a text, at most `count`, are of this format.
pub(super) fn is_like(context: &Context<'_>, text: &str, count: usize) -> bool {
    let mut rest = text;
    let mut seen = 0;
    while seen < count && !rest.is_empty() {
        let end = memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        let taken = if is_blank(&rest.as_bytes()[..end]) {
            end
        } else {
            let Ok(line) = Line::read(context, rest) else { return false };
            seen += 1;
            line.len
        };
        rest = rest.get(taken + 1..).unwrap_or("");
    }
    seen > 0
}

/// One line, checked.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    measurement: &'a str,
    tags: &'a str,
    fields: &'a str,
    at: Option<Wall>,
    /// Bytes up to the line's end, without it.
    len: usize,
}

impl<'a> Line<'a> {
    /// Reads the line that `text` begins with.
    fn read(context: &Context<'_>, text: &'a str) -> Result<Self, Reject> {
        let bytes = text.as_bytes();
        let start = bytes.iter().take_while(|b| **b == b' ').count();
        let series_end = key_end(bytes, start, b" ");
        if bytes.get(series_end) != Some(&b' ') {
            return Err(Reject::Malformed);
        }
        let fields_start = series_end + bytes[series_end..].iter().take_while(|b| **b == b' ').count();
        let fields_end = fields_end(bytes, fields_start)?;
        let len = fields_end + memchr(b'\n', &bytes[fields_end..]).unwrap_or(bytes.len() - fields_end);
        if len > INFLUX_LINE_BYTES_MAX {
            return Err(Reject::LineTooLong);
        }
        let stamp = text[fields_end..len].trim_ascii();
        let series = &text[start..series_end];
        let comma = key_end(series.as_bytes(), 0, b",");
        let (measurement, tags) = (&series[..comma], series.get(comma + 1..).unwrap_or(""));
        let line = Self {
            measurement,
            tags,
            fields: &text[fields_start..fields_end],
            at: stamp_of(context, stamp)?,
            len,
        };
        line.check(series)?;
        Ok(line)
    }

    fn check(&self, series: &str) -> Result<(), Reject> {
        if self.measurement.is_empty() {
            return Err(Reject::EmptyName);
        }
        if text::has_control(series, Tabs::Refused) {
            return Err(Reject::BadText);
        }
        check_count(self.tags, TagSyntax::InfluxEscaped)?;
        let mut some = false;
        for (key, value) in Fields(self.fields) {
            if key.is_empty() {
                return Err(Reject::Malformed);
            }
            if text::has_control(key, Tabs::Refused) {
                return Err(Reject::BadText);
            }
            if self.measurement.len() + 1 + key.len() > NAME_BYTES_MAX {
                return Err(Reject::NameTooLong);
            }
            Value::read(value)?;
            some = true;
        }
        if some { Ok(()) } else { Err(Reject::Malformed) }
    }

    fn emit(&self, notes: &mut Notes, each: &mut impl FnMut(Sample<'_>)) {
        let name = unescape(self.measurement);
        for (key, value) in Fields(self.fields) {
            let Ok(Value::Number(value)) = Value::read(value) else {
                notes.not_numbers += 1;
                continue;
            };
            each(Sample {
                name: &name,
                field: Some(Field::Dotted(&unescape(key))),
                tags: self.tags,
                tag_syntax: if self.tags.is_empty() { TagSyntax::None } else { TagSyntax::InfluxEscaped },
                origin: None,
                kind: Kind::Gauge,
                value,
                rate: 1.0,
                at: self.at,
            });
        }
    }
}

/// Where a key, or a run of keys and tag values, that begins at `from` ends: at one of `ends` with no backslash before
/// it, at the line's end, or at the text's.
fn key_end(bytes: &[u8], from: usize, ends: &[u8]) -> usize {
    let mut at = from;
    while let Some(&b) = bytes.get(at) {
        if b == b'\n' || ends.contains(&b) {
            return at;
        }
        let pair = b == b'\\' && bytes.get(at + 1).is_some_and(|next| *next != b'\n');
        at += if pair { 2 } else { 1 };
    }
    bytes.len()
}

/// Where a value that begins at `from` ends: a string after its closing quote, anything else before the next comma,
/// space or line end.
fn value_end(bytes: &[u8], from: usize) -> Option<usize> {
    if bytes.get(from) != Some(&b'"') {
        let len = bytes[from..].iter().position(|b| matches!(b, b',' | b' ' | b'\n'));
        return Some(len.map_or(bytes.len(), |len| from + len));
    }
    let limit = bytes.len().min(from + INFLUX_LINE_BYTES_MAX);
    let mut at = from + 1;
    while at < limit {
        match bytes[at] {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// Where the fields that begin at `from` end.
fn fields_end(bytes: &[u8], from: usize) -> Result<usize, Reject> {
    let mut at = from;
    loop {
        let sign = key_end(bytes, at, b"= ");
        if bytes.get(sign) != Some(&b'=') {
            return Err(Reject::Malformed);
        }
        let end = value_end(bytes, sign + 1).ok_or(Reject::Malformed)?;
        match bytes.get(end) {
            Some(b',') => at = end + 1,
            // A carriage return belongs to the line's end.
            Some(b' ' | b'\n' | b'\r') | None => return Ok(end),
            Some(_) => return Err(Reject::Malformed),
        }
    }
}

/// Fields of a section that [`fields_end`] has delimited, as they are written.
struct Fields<'a>(&'a str);

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let sign = key_end(self.0.as_bytes(), 0, b"=");
        let value = self.0.get(sign + 1..)?;
        let key = &self.0[..sign];
        let end = value_end(value.as_bytes(), 0)?;
        self.0 = value.get(end + 1..).unwrap_or("");
        Some((key, value[..end].trim_end_matches('\r')))
    }
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Number(f64),
    /// A string or a boolean.
    Other,
}

impl Value {
    fn read(token: &str) -> Result<Self, Reject> {
        if token.starts_with('"') {
            return Ok(Self::Other);
        }
        let number = match token.as_bytes().last() {
            Some(b'i') => token[..token.len() - 1].parse::<i64>().ok().map(whole),
            Some(b'u') => {
                let digits = &token[..token.len() - 1];
                digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+')).map(|n| whole(i128::from(n)))
            }
            _ => number::finite(token),
        };
        match (number, token) {
            (Some(number), _) => Ok(Self::Number(number)),
            (_, "t" | "T" | "true" | "True" | "TRUE" | "f" | "F" | "false" | "False" | "FALSE") => {
                Ok(Self::Other)
            }
            _ => Err(Reject::BadValue),
        }
    }
}

/// A whole number, to the nearest `f64`.
#[expect(
    clippy::cast_precision_loss,
    reason = "integers past 2^53 are rounded, as every consumer of floats does"
)]
fn whole(number: impl Into<i128>) -> f64 {
    number.into() as f64
}

/// A line's time, in the source's unit.
fn stamp_of(context: &Context<'_>, stamp: &str) -> Result<Option<Wall>, Reject> {
    if stamp.is_empty() {
        return Ok(None);
    }
    let unit = match context.precision {
        Precision::Ns => 1,
        Precision::Us => 1_000,
        Precision::Ms => 1_000_000,
        Precision::S => 1_000_000_000,
    };
    let nanos = stamp.parse::<i64>().ok().and_then(|stamp| stamp.checked_mul(unit)).map(Wall);
    nanos.filter(|at| *at <= context.latest()).map(Some).ok_or(Reject::BadTimestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Format;
    use crate::decode::exercise::testing::see;

    fn context(precision: Precision) -> Context<'static> {
        Context { precision, ..Context::bare(Wall::from_secs(1_795_164_112)) }
    }

    fn check(body: &str, expect: &[&str]) {
        assert_eq!(see(Format::Influx, &context(Precision::Ns), body.as_bytes()).lines(), expect, "{body:?}");
    }

    #[test]
    fn numbers_are_samples_and_the_rest_is_counted() {
        let body = "cpu,host=web-1,core=0 idle=98.5,user=1i,irq=2u,up=t,ok=FALSE,note=\"x y, z=1\" 1795159693000000000\n";
        let seen = see(Format::Influx, &context(Precision::Ns), body.as_bytes());
        assert_eq!(seen.notes.not_numbers, 3);
        assert_eq!(
            seen.lines(),
            [
                "cpu.idle{host=web-1,core=0}=98.5 gauge @1795159693000000000",
                "cpu.user{host=web-1,core=0}=1 gauge @1795159693000000000",
                "cpu.irq{host=web-1,core=0}=2 gauge @1795159693000000000",
            ]
        );
        check(
            "m only=\"text\"\nm f=1e3\r\n  # comment\n\n  n f=-2 \r\n",
            &["m.f=1000 gauge", "n.f=-2 gauge"],
        );
    }

    #[test]
    fn escapes_and_strings_over_lines() {
        check(
            r"disk\ io\,x,pa\=th=C:\ a\,b re\ ad\=s=1,w=2",
            &[r"disk io,x.re ad=s{pa\=th=C:\ a\,b}=1 gauge", r"disk io,x.w{pa\=th=C:\ a\,b}=2 gauge"],
        );
        check("a s=\"one\ntwo \\\" three\\\\\",f=1\nb f=2", &["a.f=1 gauge", "b.f=2 gauge"]);
        check("a,t=\"q\" f=1\nb f=2", &["a.f{t=\"q\"}=1 gauge", "b.f=2 gauge"]);
        check("é,h=ü f=1", &["é.f{h=ü}=1 gauge"]);
    }

    #[test]
    fn precision() {
        for (precision, stamp, expect) in [
            (Precision::S, "1795159693", 1_795_159_693_000_000_000_i64),
            (Precision::Ms, "1795159693001", 1_795_159_693_001_000_000),
            (Precision::Us, "1795159693000001", 1_795_159_693_000_001_000),
            (Precision::Ns, "-5", -5),
        ] {
            let seen = see(Format::Influx, &context(precision), format!("m f=1 {stamp}").as_bytes());
            assert_eq!(seen.lines(), [format!("m.f=1 gauge @{expect}")]);
        }
        let seen = see(Format::Influx, &context(Precision::S), b"m f=1 1795159693000000000");
        assert_eq!(seen.rejects[0].0, Reject::BadTimestamp);
    }

    #[test]
    fn bad_lines() {
        for (line, reason) in [
            ("m", "malformed"),
            ("m ", "malformed"),
            ("m f", "malformed"),
            ("m =1", "malformed"),
            ("m f=1,", "malformed"),
            ("m f=1,=2", "malformed"),
            ("m f=1 2 3", "bad_timestamp"),
            ("m f=1 x", "bad_timestamp"),
            ("m f=1 1895159693000000000", "bad_timestamp"),
            (",t=1 f=1", "empty_name"),
            ("m f=", "bad_value"),
            ("m f=NaN", "bad_value"),
            ("m f=1x", "bad_value"),
            ("m f=1,g=99999999999999999999i", "bad_value"),
            ("m f=-1u", "bad_value"),
            ("m\x01 f=1", "bad_text"),
            ("m f\x01=1", "bad_text"),
        ] {
            check(
                &format!("x f=1\n{line}\ny f=2\n"),
                &["x.f=1 gauge", "y.f=2 gauge", &format!("!{reason} {line}")],
            );
        }
        let seen = see(Format::Influx, &context(Precision::Ns), b"x f=1\nm\xff f=1\ny f=2");
        assert_eq!(seen.samples, ["x.f=1 gauge", "y.f=2 gauge"]);
        assert_eq!(seen.rejects[0].0, Reject::BadText);
        check("m f=\"open\n", &["!malformed m f=\"open"]);
    }
}
