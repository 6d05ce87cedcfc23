//! What an edge counts.

use std::ops::AddAssign;

/// Why lines were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// They came from nobody's netblock, and nobody is who such traffic is for.
    Nobody,
    /// Their customer is switched off.
    Disabled,
    /// Their customer has no source of this kind of data.
    NoSource,
    /// More of the customer's lines came than its `samples_per_second`.
    TooFast,
    /// The buffer was full, and the customer held its fair share of it or more.
    NoRoom,
    /// The buffer was full, another customer had a right to room in it, and this one held the most.
    PushedOut,
    /// Longer than any line that analyzers take, or than a message of the customer's may be.
    TooLong,
    /// The customer was taken out of the schema, or switched off, while they waited.
    Gone,
    /// The edge was stopping.
    Stopping,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Nobody,
        Self::Disabled,
        Self::NoSource,
        Self::TooFast,
        Self::NoRoom,
        Self::PushedOut,
        Self::TooLong,
        Self::Gone,
        Self::Stopping,
    ];

    /// As a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Disabled => "disabled",
            Self::NoSource => "no_source",
            Self::TooFast => "too_fast",
            Self::NoRoom => "no_room",
            Self::PushedOut => "pushed_out",
            Self::TooLong => "too_long",
            Self::Gone => "gone",
            Self::Stopping => "stopping",
        }
    }
}

/// Lines by the reason for which they were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped([u64; Reason::ALL.len()]);

impl Dropped {
    /// For one reason.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// For any.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn add(&mut self, reason: Reason, lines: u64) {
        self.0[reason as usize] += lines;
    }
}

impl AddAssign for Dropped {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

/// Of all customers. Gauges are marked; everything else only grows. Every line that came is confirmed, buffered or dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams and chunks of connections.
    pub received: u64,
    /// Lines in them, empty ones left out.
    pub lines: u64,
    /// Lines that a broker has taken.
    pub lines_confirmed: u64,
    /// Lines dropped.
    pub dropped: Dropped,
    /// Bodies closed.
    pub bodies: u64,
    /// Bodies closed before they were full or old, because their customer had too many open.
    pub bodies_closed_early: u64,
    /// Publishes, repeats included.
    pub published: u64,
    /// Bodies that a broker has taken.
    pub confirmed: u64,
    /// Publishes of which nothing is known, and that are repeated.
    pub unconfirmed: u64,
    /// Publishes that a full queue refused, and that are repeated.
    pub nacked: u64,
    /// Publishes that the broker had nowhere to put, and that are repeated.
    pub unroutable: u64,
    /// Publishes that the broker closed the channel over, and that are repeated: no such exchange, or no right to it.
    pub refused: u64,
    /// Gauge: lines that wait or are in flight.
    pub lines_buffered: u64,
    /// Gauge: what is held of all customers, as counted against `buffer_bytes`.
    pub bytes_buffered: usize,
    /// Gauge: bodies being filled.
    pub bodies_open: usize,
    /// Gauge: bodies that wait for their turn.
    pub bodies_waiting: usize,
    /// Gauge: publishes in flight.
    pub in_flight: usize,
    /// Gauge: customers of whom something is held.
    pub customers_holding: usize,
}

/// Of one customer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CustomerStats {
    /// Lines that came.
    pub lines: u64,
    /// Lines that a broker has taken.
    pub lines_confirmed: u64,
    /// Lines dropped.
    pub dropped: Dropped,
    /// Gauge: bytes held.
    pub bytes_buffered: usize,
}
