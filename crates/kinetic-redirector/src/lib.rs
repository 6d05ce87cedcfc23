//! Who analyses whom: leases, liveness, the customer map, locate. A pure machine.

mod budget;
mod changes;
mod epochs;
mod flaps;
mod fleet;
mod lease;
pub mod machine;
mod map;
mod placing;
mod refusal;
mod request;
mod rng;
mod routes;
pub mod stats;
mod table;
pub mod view;
