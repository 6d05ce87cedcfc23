//! Who analyses whom: leases, liveness, the customer map, locate. A pure machine.

mod epochs;
mod lease;
pub mod machine;
pub mod map;
mod placing;
mod reply;
mod rng;
pub mod stats;
mod table;
pub mod view;
