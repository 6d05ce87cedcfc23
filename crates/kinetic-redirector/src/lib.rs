//! Who analyses whom: leases, liveness, the customer map, locate. A pure machine.

mod capacity;
mod epochs;
pub mod fleet;
mod lease;
pub mod machine;
mod map;
mod placing;
pub mod prefer;
mod refusal;
mod request;
mod rng;
mod routes;
pub mod scaling;
pub mod stats;
mod table;
pub mod view;
