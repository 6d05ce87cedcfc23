//! Who analyses whom: leases, liveness, the customer map, locate. A pure machine.

mod budget;
mod capacity;
mod changes;
mod deaf;
mod digest;
mod epochs;
mod flaps;
pub mod fleet;
mod lease;
pub mod listeners;
pub mod machine;
mod map;
pub mod nudges;
mod placing;
mod prefer;
mod refusal;
mod registry;
mod request;
mod rng;
mod routes;
pub mod scaling;
mod standby;
pub mod stats;
mod table;
pub mod telling;
pub mod view;
