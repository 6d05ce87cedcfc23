//! The edge at the client: batches statsd lines into envelopes and drops visibly when full. A pure machine.

pub mod batch;
mod follow;
pub mod machine;
mod rng;
mod spool;
mod stamp;
pub mod stats;
