//! Closed bodies: what waits, what is in flight, and how much memory that is.
//!
//! ```text
//! closed ──▶ waiting ──publish──▶ in flight ──confirmed──▶ gone
//!               ▲                     │
//!               └──── failed ─────────┘   back to its place: bodies leave in the order of their numbers
//! ```

use std::collections::BTreeMap;

use crate::machine::PublishId;
use crate::stamp::Stamp;

/// What a body costs besides its bytes: its stamp, its places in the tables, the allocator's rounding.
pub(crate) const BODY_OVERHEAD: usize = 256;

/// A closed body.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) stamp: Stamp,
    pub(crate) bytes: Vec<u8>,
    /// Its last publish, in case the confirm of that comes after it was given up.
    last: Option<PublishId>,
}

/// The bodies, by number.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    waiting: BTreeMap<u64, Body>,
    in_flight: BTreeMap<PublishId, Body>,
    bytes: usize,
    ids: u64,
}

impl Spool {
    /// What everything here occupies.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    pub(crate) fn push(&mut self, stamp: Stamp, bytes: Vec<u8>) {
        self.bytes += bytes.len() + BODY_OVERHEAD;
        self.waiting.insert(stamp.seq, Body { stamp, bytes, last: None });
    }

    /// The next body to publish, under a new id; it stays here until it is confirmed.
    pub(crate) fn publish(&mut self) -> Option<(PublishId, &Body)> {
        let (_, mut body) = self.waiting.pop_first()?;
        self.ids += 1;
        let id = PublishId(self.ids);
        body.last = Some(id);
        Some((id, self.in_flight.entry(id).or_insert(body)))
    }

    /// The broker has taken it: true if that is news.
    pub(crate) fn confirmed(&mut self, id: PublishId) -> bool {
        let body = self.in_flight.remove(&id).or_else(|| {
            // Given up when the connection broke, and confirmed all the same.
            let seq = self.waiting.values().find(|body| body.last == Some(id))?.stamp.seq;
            self.waiting.remove(&seq)
        });
        let Some(body) = body else {
            return false;
        };
        self.bytes -= body.bytes.len() + BODY_OVERHEAD;
        true
    }

    /// It is to be sent again: true if it was in flight.
    pub(crate) fn failed(&mut self, id: PublishId) -> bool {
        let Some(body) = self.in_flight.remove(&id) else {
            return false;
        };
        self.waiting.insert(body.stamp.seq, body);
        true
    }

    /// The connection is gone, and everything in flight with it. Returns how many bodies that were.
    pub(crate) fn all_failed(&mut self) -> usize {
        let lost = std::mem::take(&mut self.in_flight);
        let count = lost.len();
        self.waiting.extend(lost.into_values().map(|body| (body.stamp.seq, body)));
        count
    }
}
