//! Where lines become bodies: the agent at the client batches one customer's and follows `locate`; the edge takes those of all
//! customers and tells them apart by their netblocks. Both drop visibly when full. Pure machines.

pub mod batch;
pub mod edge;
mod follow;
pub mod machine;
mod rng;
mod spool;
mod stamp;
pub mod stats;
