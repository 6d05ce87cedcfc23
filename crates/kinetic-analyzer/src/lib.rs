//! Decoders, series, windows, the cluster analytic and its verdicts. A pure machine; the hot path.

mod breach;
pub mod carrier;
mod cell;
pub mod decode;
pub mod deviates;
mod group;
mod held;
pub mod keep;
mod lane;
pub mod lease;
pub mod machine;
pub mod merge;
mod minutes;
pub mod moments;
pub mod partial;
mod pass;
mod plan;
mod repeats;
pub mod sample;
mod series;
pub mod snapshot;
pub mod source;
pub mod stats;
pub mod tap;
mod verdict;
