//! Decoders, series, windows, the cluster analytic and its verdicts. A pure machine; the hot path.

pub mod decode;
pub mod machine;
pub mod sample;
