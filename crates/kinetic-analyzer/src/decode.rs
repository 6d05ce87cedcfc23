//! Stand-in for the decoders: plain statsd only. To be replaced as a whole.
#![allow(missing_docs)]

use std::borrow::Cow;

use kinetic_schema::schema::{GaugeSign, Precision};
use kinetic_wire::{DataType, Wall};

use crate::sample::{Kind, Reject, Sample, TagSyntax};

#[derive(Clone, Debug)]
pub struct Context<'a> {
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    pub kind: Option<&'a str>,
    pub app_id: Option<&'a str>,
    pub exchange: &'a str,
    pub routing_key: &'a str,
    pub data_type: DataType,
    pub gauge_sign: GaugeSign,
    pub precision: Precision,
    pub now: Wall,
}

#[derive(Clone, Copy, Debug)]
pub enum Format {
    Statsd,
}

pub fn detect(_: &Context<'_>, body: &[u8]) -> Result<Format, Reject> {
    if body.contains(&b'|') { Ok(Format::Statsd) } else { Err(Reject::Undetected) }
}

pub fn inflate<'b>(_: &Context<'_>, body: &'b [u8], _: &'b mut Vec<u8>) -> Result<&'b [u8], Reject> {
    Ok(body)
}

pub fn samples(
    _: Format,
    _: &Context<'_>,
    body: &[u8],
    each: &mut impl FnMut(Sample<'_>),
    reject: &mut impl FnMut(Reject, &[u8]),
) -> Notes {
    let Ok(text) = std::str::from_utf8(body) else {
        reject(Reject::BadText, body);
        return Notes::default();
    };
    for line in text.lines().filter(|line| !line.is_empty()) {
        match sample(line) {
            Some(sample) => each(sample),
            None => reject(Reject::Malformed, line.as_bytes()),
        }
    }
    Notes::default()
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Notes {
    pub lines: u64,
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (name, rest) = line.split_once(':')?;
    let mut parts = rest.split('|');
    let value = parts.next()?.parse().ok()?;
    let kind = match parts.next()? {
        "c" => Kind::Counter,
        "g" => Kind::Gauge,
        "ms" => Kind::Timer,
        _ => return None,
    };
    let (mut tags, mut at) = ("", None);
    for part in parts {
        if let Some(t) = part.strip_prefix('#') {
            tags = t;
        } else if let Some(t) = part.strip_prefix('T') {
            at = Some(Wall::from_secs(t.parse().ok()?));
        }
    }
    let tag_syntax = if tags.is_empty() { TagSyntax::None } else { TagSyntax::Dog };
    Some(Sample { name, field: None, tags, tag_syntax, origin: None, kind, value, rate: 1.0, at })
}

pub fn tags(tags: &str, _: TagSyntax) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    tags.split(',')
        .filter(|t| !t.is_empty())
        .map(|t| t.split_once(':').unwrap_or((t, "")))
        .map(|(k, v)| (k.into(), v.into()))
}
