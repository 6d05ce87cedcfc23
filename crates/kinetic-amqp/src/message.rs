//! A message as the broker hands it out, whether it is delivered or only looked at.

use kinetic_wire::Envelope;
use lapin::message::Delivery as LapinDelivery;

use crate::properties::to_envelope;

/// What was published, and where to.
#[derive(Debug)]
pub struct Message {
    inner: LapinDelivery,
}

impl Message {
    pub(crate) fn of(inner: LapinDelivery) -> Self {
        Self { inner }
    }

    /// The exchange to which it was published.
    #[must_use]
    pub fn exchange(&self) -> &str {
        self.inner.exchange.as_str()
    }

    /// The routing key with which it was published.
    #[must_use]
    pub fn routing_key(&self) -> &str {
        self.inner.routing_key.as_str()
    }

    /// Its properties, borrowed.
    #[must_use]
    pub fn envelope(&self) -> Envelope<'_> {
        to_envelope(&self.inner.properties)
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.inner.data
    }

    /// Its body, taken over.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.inner.data
    }
}
