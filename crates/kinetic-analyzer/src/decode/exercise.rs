//! What must hold for every decoder whatever bytes it is given, as plain functions: the fuzz targets call them, and so
//! does an ordinary test that replays the committed corpora. A broken promise is a panic.

use kinetic_schema::schema::GaugeSign;
use kinetic_wire::{DataType, Wall};

use crate::decode::{
    Context, Format, INFLATED_BYTES_MAX, INFLUX_LINE_BYTES_MAX, JSON_VALUES_MAX, LINE_BYTES_MAX, LINES_MAX,
    NAME_BYTES_MAX, TAGS_MAX, detect, inflate, samples, statsd, tags, text,
};
use crate::sample::{Field, Reject, Sample};

/// A time in 2026, so that stamps of past and future both occur.
const NOW: Wall = Wall(1_795_164_112_000_000_000);

/// statsd lines, and the JSON of a statsd daemon's backends.
pub fn statsd(body: &[u8]) {
    let context = Context::bare(NOW);
    read(Format::StatsdBackendJson, &context, body);
    lines_stand_alone(Format::Statsd, &context, body);
    for line in body.split(|b| *b == b'\n').filter_map(text::plain).filter(|line| !line.is_empty()) {
        for gauge_sign in [GaugeSign::Auto, GaugeSign::Relative, GaugeSign::Absolute] {
            let (quick, slow) = statsd::both_ways(&Context { gauge_sign, ..context }, line);
            assert!(
                quick.is_none() || line.len() > LINE_BYTES_MAX || quick == slow.ok(),
                "the quick way and the slow way disagree: {line:?}"
            );
        }
    }
}

/// collectd's Command lines and JSON.
pub fn collectd(body: &[u8]) {
    let context = Context::bare(NOW);
    read(Format::CollectdJson, &context, body);
    lines_stand_alone(Format::CollectdCommand, &context, body);
}

/// Graphite plaintext, both layouts.
pub fn graphite(body: &[u8]) {
    let context = Context { routing_key: "web.load", ..Context::bare(NOW) };
    lines_stand_alone(Format::Graphite, &context, body);
    lines_stand_alone(Format::GraphiteKeyed, &context, body);
}

/// Influx line protocol. Lines do not always stand alone here, since a string may hold line breaks.
pub fn influx(body: &[u8]) {
    let context = Context::bare(NOW);
    if body.contains(&b'"') {
        read(Format::Influx, &context, body);
    } else {
        lines_stand_alone(Format::Influx, &context, body);
    }
}

/// Decompression, then the ladder, then whatever it found.
pub fn detect_and_inflate(body: &[u8]) {
    let mut scratch = Vec::new();
    let context = Context::bare(NOW);
    let Ok(plain) = inflate(&context, body, &mut scratch) else { return };
    assert!(plain.len() <= INFLATED_BYTES_MAX.max(body.len()));
    for data_type in
        [DataType::Auto, DataType::Statsd, DataType::Collectd, DataType::Graphite, DataType::Influx]
    {
        let context = Context { data_type, routing_key: "web.load", ..context };
        if let Ok(format) = detect(&context, plain) {
            read(format, &context, plain);
        }
    }
}

/// Decodes a body, checks every promise about what comes out, and returns it as text.
fn read(format: Format, context: &Context<'_>, body: &[u8]) -> Vec<String> {
    let (mut seen, mut refused) = (Vec::new(), Vec::new());
    let mut each = |sample: Sample<'_>| {
        check(context, &sample);
        seen.push(format!("{sample:?}"));
    };
    let mut reject = |reason: Reject, line: &[u8]| {
        assert!(line.len() <= INFLUX_LINE_BYTES_MAX, "quarantine is bounded");
        refused.push(format!("{reason:?} {}", String::from_utf8_lossy(line).trim_end_matches(['\r', '\n'])));
    };
    let notes = samples(format, context, body, &mut each, &mut reject);
    let json = matches!(format, Format::CollectdJson | Format::StatsdBackendJson);
    assert!(notes.lines <= if json { JSON_VALUES_MAX } else { LINES_MAX });
    seen.extend(refused);
    seen
}

fn check(context: &Context<'_>, sample: &Sample<'_>) {
    let field = match sample.field {
        None => 0,
        Some(Field::Dotted(field)) => field.len() + 1,
        Some(Field::Glued(field)) => field.len(),
    };
    assert!((1..=NAME_BYTES_MAX).contains(&(sample.name.len() + field)), "name: {sample:?}");
    assert!(sample.value.is_finite(), "value: {sample:?}");
    assert!(sample.rate > 0.0 && sample.rate <= 1.0, "rate: {sample:?}");
    assert!(sample.at.is_none_or(|at| at <= context.latest()), "time: {sample:?}");
    assert!(tags(sample.tags, sample.tag_syntax).count() <= TAGS_MAX, "tags: {sample:?}");
    let texts = [sample.name, sample.tags, sample.origin.unwrap_or("")];
    assert!(texts.iter().all(|text| !text.contains(['\0', '\n', '\r', '\x7f'])), "text: {sample:?}");
}

/// A body gives what its lines give one by one, so no line can harm another.
fn lines_stand_alone(format: Format, context: &Context<'_>, body: &[u8]) {
    let mut whole = read(format, context, body);
    if body.split(|b| *b == b'\n').count() as u64 > LINES_MAX {
        return;
    }
    let mut alone: Vec<_> =
        body.split(|b| *b == b'\n').flat_map(|line| read(format, context, line)).collect();
    // Refused ones come after the samples in each.
    whole.sort_unstable();
    alone.sort_unstable();
    assert_eq!(whole, alone, "a line changed what another one gives");
}

/// Samples and rejects as short text, for tests of the decoders.
#[cfg(test)]
pub(super) mod testing {
    use super::{Context, Field, Format, Reject, Sample, samples};
    use crate::decode::Notes;

    /// All that came out of a body.
    pub(in crate::decode) struct Seen {
        pub(in crate::decode) samples: Vec<String>,
        pub(in crate::decode) rejects: Vec<(Reject, String)>,
        pub(in crate::decode) notes: Notes,
    }

    impl Seen {
        /// Samples first, then `!reason line`.
        pub(in crate::decode) fn lines(self) -> Vec<String> {
            let rejects = self.rejects.into_iter().map(|(reason, line)| format!("!{} {line}", reason.name()));
            self.samples.into_iter().chain(rejects).collect()
        }
    }

    /// Decodes a body and writes everything down.
    pub(in crate::decode) fn see(format: Format, context: &Context<'_>, body: &[u8]) -> Seen {
        let (mut seen, mut rejects) = (Vec::new(), Vec::new());
        let mut each = |sample: Sample<'_>| seen.push(show(&sample));
        let mut reject =
            |reason: Reject, line: &[u8]| rejects.push((reason, String::from_utf8_lossy(line).into_owned()));
        let notes = samples(format, context, body, &mut each, &mut reject);
        Seen { samples: seen, rejects, notes }
    }

    /// `origin/name.field{tags}=value kind xrate @ns`, what is absent left out.
    fn show(sample: &Sample<'_>) -> String {
        let mut text = sample.origin.map(|origin| format!("{origin}/")).unwrap_or_default();
        text += sample.name;
        match sample.field {
            None => {}
            Some(Field::Dotted(field)) => text += &format!(".{field}"),
            Some(Field::Glued(field)) => text += &format!("~{field}"),
        }
        if !sample.tags.is_empty() {
            text += &format!("{{{}}}", sample.tags);
        }
        text += &format!("={} {}", sample.value, format!("{:?}", sample.kind).to_lowercase());
        if sample.rate < 1.0 {
            text += &format!(" x{}", sample.rate);
        }
        if let Some(at) = sample.at {
            text += &format!(" @{}", at.0);
        }
        text
    }
}

#[cfg(test)]
mod corpus;
