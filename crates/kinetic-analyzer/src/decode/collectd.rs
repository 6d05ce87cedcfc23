//! collectd's Command format: `PUTVAL host/plugin[-instance]/type[-instance] [option=value…] time:value[:value…]…`.
//!
//! ```text
//! PUTVAL web-1/interface-eth0/if_octets interval=2.000 1795164112.156:11.4:9.2
//!        host  plugin instance  type    └─ option ─┘ └─ time ─┘ └ value list ┘
//!       ─▶ interface.eth0.if_octets.0 and .1 of web-1
//! ```
//! A line does not name its data sources or say their kind, and Kinetic has no `types.db`: several values of one list
//! are told apart by their index (`load.load.0`), and every value is a gauge. JSON says both; prefer it.

use std::borrow::Cow;

use kinetic_wire::Wall;

use crate::decode::text::{Lines, Tabs};
use crate::decode::{Context, LINE_BYTES_MAX, NAME_BYTES_MAX, Notes, VALUES_PER_LIST_MAX, number};
use crate::sample::{Field, Kind, Reject, Sample, TagSyntax};

/// Reads a body of `PUTVAL` lines.
pub(super) fn decode(
    context: &Context<'_>,
    body: &[u8],
    each: &mut impl FnMut(Sample<'_>),
    reject: &mut impl FnMut(Reject, &[u8]),
) -> Notes {
    let mut notes = Notes::default();
    let mut name = String::new();
    let mut lines = Lines::new(body, Tabs::Allowed, LINE_BYTES_MAX);
    for (raw, line) in lines.by_ref() {
        let parsed = line.and_then(|line| Line::read(context, line, &mut name));
        match parsed {
            Ok(line) => line.emit(&name, raw, &mut notes, each, reject),
            Err(reason) => reject(reason, raw),
        }
    }
    notes.lines = lines.count;
    notes
}

/// The parts of an identifier that make a metric's name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub(super) plugin: &'a str,
    pub(super) plugin_instance: &'a str,
    pub(super) kind: &'a str,
    pub(super) type_instance: &'a str,
}

impl Parts<'_> {
    /// Writes `plugin.plugin_instance.type.type_instance` without its empty parts into `name`.
    pub(super) fn join(&self, name: &mut String) -> Result<(), Reject> {
        name.clear();
        for part in [self.plugin, self.plugin_instance, self.kind, self.type_instance] {
            if !part.is_empty() {
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(part);
            }
        }
        if name.is_empty() {
            return Err(Reject::EmptyName);
        }
        // Room for a dot and an index, whether or not one follows.
        if name.len() + 4 > NAME_BYTES_MAX { Err(Reject::NameTooLong) } else { Ok(()) }
    }
}

/// One line, checked but for its single values.
#[derive(Debug)]
struct Line<'a> {
    host: Cow<'a, str>,
    /// The value lists, each still `time:value[:value…]`.
    lists: &'a str,
    options_ignored: u64,
    /// Values per list.
    width: usize,
    latest: Wall,
}

impl<'a> Line<'a> {
    /// Reads a line and puts the metric's name into `name`.
    fn read(context: &Context<'_>, line: &'a str, name: &mut String) -> Result<Self, Reject> {
        let line = line.trim_ascii();
        let (command, rest) = line.split_once([' ', '\t']).ok_or(Reject::Malformed)?;
        if !command.eq_ignore_ascii_case("PUTVAL") {
            return Err(Reject::Malformed);
        }
        let (identifier, mut rest) = word(rest)?;
        let host = match identifier {
            Cow::Borrowed(identifier) => {
                let (host, parts) = split(identifier)?;
                parts.join(name)?;
                Cow::Borrowed(host)
            }
            Cow::Owned(identifier) => {
                let (host, parts) = split(&identifier)?;
                parts.join(name)?;
                Cow::Owned(host.to_owned())
            }
        };
        let mut options_ignored = 0;
        // A value list holds no equals sign, an option's key (`interval`, `meta:tag`) no quote.
        while let Some(key) = option(rest) {
            let (_, after) = word(rest)?;
            options_ignored += u64::from(key != "interval");
            rest = after;
        }
        let mut line = Self { host, lists: rest, options_ignored, width: 0, latest: context.latest() };
        line.check_lists()?;
        Ok(line)
    }

    fn lists(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.lists.split_ascii_whitespace().map(|list| list.trim_matches('"'))
    }

    fn check_lists(&mut self) -> Result<(), Reject> {
        for list in self.lists() {
            let (at, values) = list.split_once(':').ok_or(Reject::Malformed)?;
            time(at, self.latest)?;
            let mut width = 0;
            for token in values.split(':') {
                if !is_unknown(token) && number::finite(token).is_none() {
                    return Err(Reject::BadValue);
                }
                width += 1;
            }
            // Every list of a type has the same data sources.
            if width > VALUES_PER_LIST_MAX || (self.width != 0 && self.width != width) {
                return Err(Reject::Malformed);
            }
            self.width = width;
        }
        if self.width == 0 { Err(Reject::Malformed) } else { Ok(()) }
    }

    fn emit(
        &self,
        name: &str,
        raw: &[u8],
        notes: &mut Notes,
        each: &mut impl FnMut(Sample<'_>),
        reject: &mut impl FnMut(Reject, &[u8]),
    ) {
        notes.fields_ignored += self.options_ignored;
        for list in self.lists() {
            let (at, values) = list.split_once(':').expect("checked before");
            let at = time(at, self.latest).expect("checked before");
            for (index, token) in values.split(':').enumerate() {
                let Some(value) = number::finite(token) else {
                    reject(Reject::Unknown, raw);
                    continue;
                };
                let mut digits = [0; 3];
                each(Sample {
                    name,
                    field: (self.width > 1).then(|| Field::Dotted(decimal(index, &mut digits))),
                    tags: "",
                    tag_syntax: TagSyntax::None,
                    origin: if self.host.is_empty() { None } else { Some(&self.host) },
                    kind: Kind::Gauge,
                    value,
                    rate: 1.0,
                    at,
                });
            }
        }
    }
}

/// `U` and `nan` say that the value is not known.
fn is_unknown(token: &str) -> bool {
    token == "U" || number::is_nan(token)
}

/// A value list's time; `N` is now, which the caller knows better.
fn time(token: &str, latest: Wall) -> Result<Option<Wall>, Reject> {
    if token == "N" {
        return Ok(None);
    }
    number::seconds(token).filter(|at| *at <= latest).map(Some).ok_or(Reject::BadTimestamp)
}

/// The key of an option that `rest` begins with.
fn option(rest: &str) -> Option<&str> {
    let end = rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '"'))?;
    (end > 0 && rest.as_bytes()[end] == b'=').then(|| &rest[..end])
}

/// The next word, and what follows it. Quotes hold white space together, wherever in the word they stand; within them
/// a backslash makes the next character plain.
fn word(text: &str) -> Result<(Cow<'_, str>, &str), Reject> {
    let text = text.trim_ascii_start();
    let end = text.find(|c: char| c.is_ascii_whitespace() || c == '"').unwrap_or(text.len());
    if text.as_bytes().get(end) != Some(&b'"') {
        return if end == 0 {
            Err(Reject::Malformed)
        } else {
            Ok((text[..end].into(), text[end..].trim_ascii_start()))
        };
    }
    let mut plain = String::from(&text[..end]);
    let (mut quoted, mut escaped) = (false, false);
    for (i, c) in text.char_indices().skip_while(|(i, _)| *i < end) {
        match c {
            _ if escaped => {
                plain.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => {
                return Ok((plain.into(), text[i..].trim_ascii_start()));
            }
            c => plain.push(c),
        }
    }
    if quoted { Err(Reject::Malformed) } else { Ok((plain.into(), "")) }
}

/// Host and parts of `host/plugin[-instance]/type[-instance]`. Only a type instance may hold further slashes.
fn split(identifier: &str) -> Result<(&str, Parts<'_>), Reject> {
    let mut pieces = identifier.splitn(3, '/');
    let (Some(host), Some(plugin), Some(kind)) = (pieces.next(), pieces.next(), pieces.next()) else {
        return Err(Reject::Malformed);
    };
    let (plugin, plugin_instance) = plugin.split_once('-').unwrap_or((plugin, ""));
    let (kind, type_instance) = kind.split_once('-').unwrap_or((kind, ""));
    if plugin.is_empty() || kind.is_empty() {
        return Err(Reject::EmptyName);
    }
    Ok((host, Parts { plugin, plugin_instance, kind, type_instance }))
}

/// A small number as text, without an allocation.
fn decimal(number: usize, digits: &mut [u8; 3]) -> &str {
    let number = u8::try_from(number).expect("less than VALUES_PER_LIST_MAX");
    *digits = [b'0' + number / 100, b'0' + number / 10 % 10, b'0' + number % 10];
    let zeros = if number >= 100 {
        0
    } else if number >= 10 {
        1
    } else {
        2
    };
    std::str::from_utf8(&digits[zeros..]).expect("digits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Format;
    use crate::decode::exercise::testing::see;

    fn check(body: &str, expect: &[&str]) {
        let context = Context::bare(Wall::from_secs(1_795_164_112));
        assert_eq!(see(Format::CollectdCommand, &context, body.as_bytes()).lines(), expect, "{body:?}");
    }

    #[test]
    fn value_lists_as_collectd_writes_them() {
        check(
            "PUTVAL web01.example.com/load/load interval=2.000 1795159693.372:6.46:4.05:2.39",
            &[
                "web01.example.com/load.load.0=6.46 gauge @1795159693372000000",
                "web01.example.com/load.load.1=4.05 gauge @1795159693372000000",
                "web01.example.com/load.load.2=2.39 gauge @1795159693372000000",
            ],
        );
        check("PUTVAL web/cpu-0/cpu-idle interval=10 N:99", &["web/cpu.0.cpu.idle=99 gauge"]);
        check(
            "PUTVAL web/df/df_complex-var/log/free 1795159693:1\r\n",
            &["web/df.df_complex.var/log/free=1 gauge @1795159693000000000"],
        );
        check("putval a/b/c N:1 N:2\nPUTVAL a/b/d N:3", &["a/b.c=1 gauge", "a/b.c=2 gauge", "a/b.d=3 gauge"]);
    }

    #[test]
    fn quotes_and_options() {
        check(
            r#"PUTVAL "web 01/disk-C: \"x\"/ops" interval=2 "N:5""#,
            &[r#"web 01/disk.C: "x".ops=5 gauge"#],
        );
        let context = Context::bare(Wall(0));
        let seen = see(Format::CollectdCommand, &context, br#"PUTVAL a/b/c interval=1 meta:x="y z" N:1"#);
        assert_eq!((seen.notes.fields_ignored, seen.lines()), (1, vec!["a/b.c=1 gauge".to_owned()]));
    }

    #[test]
    fn unknown_values_are_no_samples_and_no_fault() {
        check(
            "PUTVAL a/b/c N:U:2:nan",
            &[
                "a/b.c.1=2 gauge",
                "!unknown_value PUTVAL a/b/c N:U:2:nan",
                "!unknown_value PUTVAL a/b/c N:U:2:nan",
            ],
        );
    }

    #[test]
    fn bad_lines() {
        for (line, reason) in [
            ("PUTVAL", "malformed"),
            ("PUTVAL a/b/c", "malformed"),
            ("PUTVAL a/b N:1", "malformed"),
            ("PUTVAL \"a/b/c N:1", "malformed"),
            ("PUTVAL a//c N:1", "empty_name"),
            ("PUTVAL a/b/c N", "malformed"),
            ("PUTVAL a/b/c N:1:2 N:1", "malformed"),
            ("PUTVAL a/b/c N:x", "bad_value"),
            ("PUTVAL a/b/c N:0x1", "bad_value"),
            ("PUTVAL a/b/c N:", "bad_value"),
            ("PUTVAL a/b/c -1:1", "bad_timestamp"),
            ("PUTVAL a/b/c 1795999999:1", "bad_timestamp"),
            ("PUTNOTIF host=a message=b", "malformed"),
        ] {
            check(
                &format!("PUTVAL x/y/z N:1\n{line}\nPUTVAL x/y/z N:2"),
                &["x/y.z=1 gauge", "x/y.z=2 gauge", &format!("!{reason} {line}")],
            );
        }
        let wide = format!("PUTVAL a/b/c N{}", ":1".repeat(VALUES_PER_LIST_MAX + 1));
        check(&wide, &[&format!("!malformed {wide}")]);
        check(
            &wide[..wide.len() - 2],
            &(0..VALUES_PER_LIST_MAX)
                .map(|n| format!("a/b.c.{n}=1 gauge"))
                .collect::<Vec<_>>()
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
    }
}
