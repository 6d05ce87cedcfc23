//! Who analyses whom: leases, liveness, the customer map, locate. A pure machine.

mod budget;
mod capacity;
mod changes;
mod epochs;
mod flaps;
pub mod fleet;
mod lease;
pub mod machine;
mod map;
mod placing;
mod prefer;
mod refusal;
mod request;
mod rng;
mod routes;
pub mod scaling;
pub mod stats;
mod table;
pub mod view;
