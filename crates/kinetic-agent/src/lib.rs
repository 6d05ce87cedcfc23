//! The edge at the client: batches statsd lines into envelopes and drops visibly when full. A pure machine.

pub mod machine;
