//! Counters, for the shell to export.

/// What the agent counts. Gauges are marked; everything else only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams received.
    pub datagrams: u64,
    /// Lines taken from them into bodies.
    pub lines: u64,
    /// Bytes of those lines.
    pub line_bytes: u64,
    /// Datagrams dropped because the buffer was full (or the agent was stopping).
    pub datagrams_dropped: u64,
    /// Bytes of those datagrams.
    pub bytes_dropped: u64,
    /// Lines dropped because no body and no analyzer takes one so long.
    pub lines_too_long: u64,
    /// Bodies closed.
    pub bodies: u64,
    /// Publishes, repeats included.
    pub published: u64,
    /// Bodies that the broker has taken.
    pub confirmed: u64,
    /// Publishes that failed and are repeated.
    pub failed: u64,
    /// Publishes that the broker had nowhere to put, and that are repeated.
    pub unroutable: u64,
    /// Times the redirector was asked.
    pub locates: u64,
    /// Times it did not answer.
    pub locate_failures: u64,
    /// Times it refused.
    pub locate_refusals: u64,
    /// Times it was asked again at once, because its answer led to an address that takes nothing.
    pub hops: u64,
    /// Times it was not, because too many answers in a row had led to such.
    pub hops_exceeded: u64,
    /// Hints that the answer has changed.
    pub nudges: u64,
    /// Answers that were ignored because they were older than the one in use.
    pub locate_stale: u64,
    /// Credentials that a standing connection was given in time.
    pub renewals: u64,
    /// Credentials that were not: the connection was made anew with the key.
    pub lapses: u64,
    /// Connections asked for.
    pub connects: u64,
    /// Connections that broke or could not be made.
    pub disconnects: u64,
    /// Bodies given up because the agent had to stop.
    pub bodies_abandoned: u64,
    /// Gauge: bodies that wait for a connection or a confirm.
    pub bodies_buffered: usize,
    /// Gauge: what they and the open body occupy, as counted against `buffer_bytes`.
    pub bytes_buffered: usize,
    /// Gauge: publishes in flight.
    pub in_flight: usize,
}
