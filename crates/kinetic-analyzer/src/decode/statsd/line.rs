//! One statsd line of any dialect. Taken whole or refused whole: values are checked before the first is handed on.

use foldhash::quality::FixedState;
use kinetic_schema::schema::GaugeSign;
use kinetic_wire::Wall;
use std::hash::{BuildHasher, Hasher};

use super::Rules;
use crate::decode::tags::check_count;
use crate::decode::{NAME_BYTES_MAX, Notes, number};
use crate::sample::{Field, Kind, Reject, Sample, TagSyntax};

/// Reads one line, which is printable text without its end and not empty.
pub(super) fn read(
    rules: Rules,
    line: &str,
    notes: &mut Notes,
    each: &mut impl FnMut(Sample<'_>),
) -> Result<(), Reject> {
    if line.starts_with("_e{") || line.starts_with("_sc|") {
        return Err(Reject::NotAMetric);
    }
    let (head, rest) = line.split_once(':').ok_or(Reject::Malformed)?;
    let head = Head::read(head)?;
    if is_several(rest) {
        let parts = || rest.split(':').map(|part| Measured::read(rules, head, part));
        for part in parts() {
            part?;
        }
        for part in parts() {
            part?.emit(notes, each);
        }
        return Ok(());
    }
    Measured::read(rules, head, rest)?.emit(notes, each);
    Ok(())
}

/// Whether each part between colons carries a type of its own (`a:1|c:5|ms|@0.1`, etsy's way), rather than several
/// values sharing one (`a:1:5|ms`, DogStatsD's). A colon within the type or the rate can only be the former; a tag
/// section decides for the latter. Colons in later fields are theirs (`|c:ci-…`).
fn is_several(rest: &str) -> bool {
    let mut fields = rest.split('|').skip(1);
    let in_type = fields.next().is_some_and(|kind| kind.contains(':'));
    let mut in_rate = || fields.any(|field| field.starts_with('@') && field.contains(':'));
    (in_type || in_rate()) && !rest.contains("|#")
}

/// The name with its tags, where a dialect puts them there.
#[derive(Clone, Copy, Debug)]
struct Head<'a> {
    name: &'a str,
    suffix: &'a str,
    tags: &'a str,
    syntax: TagSyntax,
}

impl<'a> Head<'a> {
    fn read(head: &'a str) -> Result<Self, Reject> {
        let parsed = match head.find([',', '#', ';', '[', ']']) {
            None => Self { name: head, suffix: "", tags: "", syntax: TagSyntax::None },
            Some(at) => {
                let (name, tags) = (&head[..at], &head[at + 1..]);
                match head.as_bytes()[at] {
                    b';' => Self { name, suffix: "", tags, syntax: TagSyntax::Semicolon },
                    b',' | b'#' => Self { name, suffix: "", tags, syntax: TagSyntax::Comma },
                    b'[' => {
                        let (tags, suffix) = tags.split_once(']').ok_or(Reject::BadTags)?;
                        if suffix.contains(['[', ']']) {
                            return Err(Reject::BadTags);
                        }
                        Self { name, suffix, tags, syntax: TagSyntax::Comma }
                    }
                    _ => return Err(Reject::BadTags),
                }
            }
        };
        let len = parsed.name.len() + parsed.suffix.len();
        if len == 0 {
            return Err(Reject::EmptyName);
        }
        if len > NAME_BYTES_MAX {
            return Err(Reject::NameTooLong);
        }
        check_count(parsed.tags, parsed.syntax)?;
        Ok(parsed)
    }

    /// The series' name and tags, once the fields after the type are known too.
    fn with(mut self, tags: Option<&'a str>) -> Result<Self, Reject> {
        if let Some(tags) = tags {
            if self.syntax != TagSyntax::None {
                return Err(Reject::BadTags);
            }
            check_count(tags, TagSyntax::Dog)?;
            self.tags = tags;
            self.syntax = TagSyntax::Dog;
        }
        if self.tags.is_empty() {
            self.syntax = TagSyntax::None;
        }
        Ok(self)
    }
}

/// Statistical type, as the letter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Counter,
    Gauge,
    Duration,
    Histogram,
    Set,
}

impl Type {
    fn read(letters: &str) -> Result<Self, Reject> {
        match letters {
            "c" => Ok(Self::Counter),
            "g" => Ok(Self::Gauge),
            "ms" => Ok(Self::Duration),
            "h" | "d" => Ok(Self::Histogram),
            "s" => Ok(Self::Set),
            _ => Err(Reject::BadType),
        }
    }
}

/// What stands after the type.
#[derive(Clone, Copy, Debug)]
struct Extras<'a> {
    rate: f64,
    tags: Option<&'a str>,
    at: Option<Wall>,
    /// Some field that only DogStatsD clients write.
    dog: bool,
    notes: Notes,
}

impl<'a> Extras<'a> {
    fn read(rules: Rules, kind: Type, fields: impl Iterator<Item = &'a str>) -> Result<Self, Reject> {
        let mut extras = Self { rate: 1.0, tags: None, at: None, dog: false, notes: Notes::default() };
        for field in fields {
            if let Some(rate) = field.strip_prefix('@') {
                if matches!(kind, Type::Gauge | Type::Set) {
                    extras.notes.rates_ignored += 1;
                    continue;
                }
                extras.rate =
                    number::finite(rate).filter(|rate| *rate > 0.0 && *rate <= 1.0).ok_or(Reject::BadRate)?;
            } else if let Some(tags) = field.strip_prefix('#') {
                if extras.tags.replace(tags).is_some() {
                    return Err(Reject::BadTags);
                }
                extras.dog = true;
            } else if let Some(seconds) = field.strip_prefix('T') {
                extras.dog = true;
                let at = timestamp(seconds).filter(|at| *at <= rules.latest).ok_or(Reject::BadTimestamp)?;
                if matches!(kind, Type::Counter | Type::Gauge) {
                    extras.at = Some(at);
                } else {
                    extras.notes.fields_ignored += 1;
                }
            } else if ["c:", "e:", "card:"].iter().any(|known| field.starts_with(known)) {
                extras.dog = true;
            } else {
                extras.notes.fields_ignored += 1;
            }
        }
        Ok(extras)
    }
}

/// DogStatsD's timestamp: whole seconds, at least 1.
fn timestamp(seconds: &str) -> Option<Wall> {
    let digits = seconds.bytes().all(|b| b.is_ascii_digit());
    if !digits || seconds.contains('.') {
        return None;
    }
    number::seconds(seconds).filter(|at| *at >= Wall::from_secs(1))
}

/// One `values|type[|field…]`, checked.
#[derive(Clone, Copy, Debug)]
struct Measured<'a> {
    head: Head<'a>,
    values: &'a str,
    kind: Type,
    relative: bool,
    extras: Extras<'a>,
}

impl<'a> Measured<'a> {
    fn read(rules: Rules, head: Head<'a>, part: &'a str) -> Result<Self, Reject> {
        let mut fields = part.split('|');
        let values = fields.next().unwrap_or("");
        let kind = Type::read(fields.next().ok_or(Reject::Malformed)?)?;
        let extras = Extras::read(rules, kind, fields)?;
        let head = head.with(extras.tags)?;
        let relative = match rules.gauge_sign {
            GaugeSign::Auto => !extras.dog,
            GaugeSign::Relative => true,
            GaugeSign::Absolute => false,
        };
        let measured = Self { head, values, kind, relative, extras };
        measured.check_values()?;
        Ok(measured)
    }

    fn check_values(&self) -> Result<(), Reject> {
        if self.kind == Type::Set {
            return if self.values.is_empty() { Err(Reject::BadValue) } else { Ok(()) };
        }
        let mut count = 0;
        for token in packed(self.values) {
            let value = number::finite(token).ok_or(Reject::BadValue)?;
            if self.kind == Type::Duration && value < 0.0 {
                return Err(Reject::NegativeTimer);
            }
            count += 1;
        }
        if count == 0 { Err(Reject::BadValue) } else { Ok(()) }
    }

    fn emit(&self, notes: &mut Notes, each: &mut impl FnMut(Sample<'_>)) {
        notes.add(self.extras.notes);
        if self.kind == Type::Set {
            each(self.sample(Kind::Set, member(self.values.as_bytes())));
            return;
        }
        for token in packed(self.values) {
            let value = number::finite(token).expect("checked before");
            let signed = token.starts_with(['+', '-']);
            let kind = match self.kind {
                Type::Counter => Kind::Counter,
                Type::Gauge if signed && self.relative => Kind::GaugeDelta,
                Type::Gauge => Kind::Gauge,
                _ => Kind::Timer,
            };
            each(self.sample(kind, value));
        }
    }

    fn sample(&self, kind: Kind, value: f64) -> Sample<'a> {
        let Head { name, suffix, tags, syntax } = self.head;
        let field = if suffix.is_empty() { None } else { Some(Field::Glued(suffix)) };
        Sample {
            name,
            field,
            tags,
            tag_syntax: syntax,
            origin: None,
            kind,
            value,
            rate: self.extras.rate,
            at: self.extras.at,
        }
    }
}

/// DogStatsD's packed values; empty places are skipped.
fn packed(values: &str) -> impl Iterator<Item = &str> {
    values.split(':').filter(|token| !token.is_empty())
}

/// A set member as a sample's value. The hash is the same in every process and release of one `foldhash` version; a
/// window only ever counts distinct ones.
pub(in crate::decode) fn member(bytes: &[u8]) -> f64 {
    /// The highest bit of the exponent: while it is clear, the number is finite.
    const EXPONENT_TOP: u64 = 1 << 62;
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write(bytes);
    f64::from_bits(hasher.finish() & !EXPONENT_TOP)
}
