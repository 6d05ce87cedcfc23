//! Deliveries for people to look at: decoded and named exactly as the windows see them, and judged by nobody.

use kinetic_schema::Schema;
use kinetic_wire::{SourceKey, Wall};

use crate::decode::{self, Context, INFLATED_BYTES_MAX, INFLATED_PER_MESSAGE_BYTE};
use crate::machine::Delivery;
use crate::plan::Plan;
use crate::sample::{Kind, Reject};

/// One sample as an analytic would see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// The feed; `None` where nothing says whose it is, and no analytic can use it.
    pub origin: Option<String>,
    /// Metric name with its tags in `;k=v` form, sorted.
    pub metric: String,
    /// Kind.
    pub kind: Kind,
    /// Value.
    pub value: f64,
    /// Sample rate.
    pub rate: f64,
    /// Event time.
    pub at: Wall,
    /// Whether some analytic looks at it.
    pub watched: bool,
}

/// A source, read as the schema says.
#[derive(Clone, Debug)]
pub struct Tap {
    plan: Plan,
    scratch: Vec<u8>,
}

impl Tap {
    /// A tap on a source; `None` where the schema does not know it.
    #[must_use]
    pub fn new(schema: &Schema, source: &SourceKey) -> Option<Self> {
        Some(Self { plan: Plan::of(schema, source)?, scratch: Vec::new() })
    }

    /// Reads one delivery: `each` gets every sample, `reject` every refused line.
    ///
    /// # Errors
    /// Why the whole body was refused.
    pub fn read(
        &mut self,
        now: Wall,
        delivery: &Delivery<'_>,
        mut each: impl FnMut(Sight),
        mut reject: impl FnMut(Reject, &[u8]),
    ) -> Result<(), Reject> {
        let envelope = &delivery.envelope;
        let context = self.plan.context(delivery, now);
        let body = decode::inflate(&context, delivery.body, &mut self.scratch)?;
        let format = decode::detect(&context, body)?;
        let stamp = stamp(delivery).unwrap_or(now);
        let plan = &self.plan;
        decode::samples(
            format,
            &context,
            body,
            &mut |sample| {
                let identity = plan.identify(&sample, envelope.origin.as_deref());
                let watched = identity
                    .as_ref()
                    .is_some_and(|identity| plan.watches.iter().any(|watch| watch.wants(identity)));
                let (origin, metric) = match identity {
                    Some(identity) => (Some(identity.origin), identity.metric),
                    None => (None, sample.name.to_owned()),
                };
                let at = sample.at.unwrap_or(stamp);
                each(Sight {
                    origin,
                    metric,
                    kind: sample.kind,
                    value: sample.value,
                    rate: sample.rate,
                    at,
                    watched,
                });
            },
            &mut reject,
        );
        Ok(())
    }
}

/// When a delivery's samples were taken, as its publisher says.
pub(crate) fn stamp(delivery: &Delivery<'_>) -> Option<Wall> {
    let seconds = |s: u64| Wall::from_secs(i64::try_from(s).unwrap_or(i64::MAX));
    delivery.envelope.ts.or_else(|| delivery.envelope.timestamp_s.map(seconds))
}

impl Plan {
    /// What is known about a delivery's body besides its bytes.
    pub(crate) fn context<'d>(&self, delivery: &'d Delivery<'_>, now: Wall) -> Context<'d> {
        let envelope = &delivery.envelope;
        Context {
            content_type: envelope.content_type.as_deref(),
            content_encoding: envelope.content_encoding.as_deref(),
            kind: envelope.kind.as_deref(),
            app_id: envelope.app_id.as_deref(),
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            data_type: self.data_type,
            gauge_sign: self.gauge_sign,
            precision: self.precision,
            inflated_bytes_max: usize::try_from(self.limits.message_bytes)
                .unwrap_or(usize::MAX)
                .saturating_mul(INFLATED_PER_MESSAGE_BYTE)
                .min(INFLATED_BYTES_MAX),
            now,
        }
    }
}
