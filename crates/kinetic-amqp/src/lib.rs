//! The only crate that names lapin: consume, publish confirmed, RPC, reconnect, declare.
