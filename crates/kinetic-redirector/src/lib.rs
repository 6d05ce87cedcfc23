//! Who analyses whom: leases, liveness, the customer map, locate. A pure machine.

pub mod machine;
