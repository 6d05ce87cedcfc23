//! Ids and properties of a body, made once and kept for every repeat of it.

use std::borrow::Cow;

use kinetic_wire::{DataType, Envelope, Incarnation, Wall};
use uuid::{Builder, Uuid};

use crate::machine::AgentConfig;
use crate::rng::Rng;

/// Largest value of the 12 bits behind the millisecond.
const COUNTER_MAX: u16 = 0x0fff;

/// Makes `UUIDv7` (RFC 9562, method 1: a counter in `rand_a`) that grow whatever the wall clock does.
#[derive(Debug)]
struct Ids {
    millis: u64,
    counter: u16,
}

impl Ids {
    fn next(&mut self, now: Wall, rng: &mut Rng) -> Uuid {
        let now_ms = u64::try_from(now.as_ms()).unwrap_or(0);
        if now_ms > self.millis {
            (self.millis, self.counter) = (now_ms, 0);
        } else if self.counter < COUNTER_MAX {
            self.counter += 1;
        } else {
            (self.millis, self.counter) = (self.millis + 1, 0);
        }
        let mut tail = [0; 10];
        tail[..2].copy_from_slice(&self.counter.to_be_bytes());
        tail[2..].copy_from_slice(&rng.next().to_be_bytes());
        Builder::from_unix_timestamp_millis(self.millis, &tail).into_uuid()
    }
}

/// What is different from body to body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) message_id: Uuid,
    pub(crate) seq: u64,
    pub(crate) first: Wall,
    trace: u128,
    span: u64,
}

/// Stamps bodies.
#[derive(Debug)]
pub(crate) struct Stamper {
    ids: Ids,
    rng: Rng,
    seq: u64,
    template: Envelope<'static>,
}

/// Media type and `type` of a body.
pub(crate) fn types(data_type: DataType) -> (&'static str, Option<&'static str>) {
    match data_type {
        DataType::Statsd => ("text/x-statsd", Some("kinetic.data.statsd.v1")),
        DataType::Collectd => ("text/collectd", Some("kinetic.data.collectd.v1")),
        DataType::Graphite => ("text/graphite", Some("kinetic.data.graphite.v1")),
        DataType::Influx => ("text/x-influx-line", Some("kinetic.data.influx.v1")),
        DataType::Auto => ("application/octet-stream", None),
    }
}

impl Stamper {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let (content_type, kind) = types(config.data_type);
        let owned = |text: &String| Cow::Owned(text.clone());
        let template = Envelope {
            content_type: Some(Cow::Borrowed(content_type)),
            kind: kind.map(Cow::Borrowed),
            app_id: Some(Cow::Borrowed(concat!("kinetic-agent/", env!("CARGO_PKG_VERSION")))),
            user_id: config.login.as_ref().map(owned),
            origin: Some(owned(&config.origin)),
            profile: config.profile.as_ref().map(owned),
            ..Envelope::default()
        };
        Self::with(config.inc, config.seed, template)
    }

    /// One whose bodies have these properties, beside those of their own.
    pub(crate) fn with(inc: Incarnation, seed: u64, template: Envelope<'static>) -> Self {
        // The incarnation makes two agents of one seed differ.
        let (high, low) = inc.0.as_u64_pair();
        let rng = Rng::new(seed ^ high ^ low.rotate_left(17));
        let template = Envelope { inc: Some(inc.0), ..template };
        Self { ids: Ids { millis: 0, counter: 0 }, rng, seq: 0, template }
    }

    /// For a body whose first line arrived then.
    pub(crate) fn stamp(&mut self, first: Wall, now: Wall) -> Stamp {
        self.seq += 1;
        Stamp {
            message_id: self.ids.next(now, &mut self.rng),
            seq: self.seq,
            first,
            trace: (u128::from(self.rng.next()) << 64) | u128::from(self.rng.next() | 1),
            span: self.rng.next() | 1,
        }
    }

    /// The properties of a stamped body.
    pub(crate) fn envelope(&self, stamp: &Stamp) -> Envelope<'static> {
        Envelope {
            message_id: Some(Cow::Owned(stamp.message_id.to_string())),
            timestamp_s: u64::try_from(stamp.first.as_secs()).ok(),
            ts: Some(stamp.first),
            seq: Some(stamp.seq),
            traceparent: Some(Cow::Owned(format!("00-{:032x}-{:016x}-01", stamp.trace, stamp.span))),
            ..self.template.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_through_bursts_and_clock_steps() {
        let (mut ids, mut rng) = (Ids { millis: 0, counter: 0 }, Rng::new(3));
        let mut last = Uuid::nil();
        let walls = (0..5_000).map(|_| 50).chain([49, 10, 0, -5, 51, 52, 2_000]);
        for ms in walls {
            let id = ids.next(Wall::from_ms(ms), &mut rng);
            assert!(id > last, "{id} after {last}");
            assert_eq!(id.get_version_num(), 7);
            last = id;
        }
    }
}
