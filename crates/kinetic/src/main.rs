//! The `kinetic` binary.

fn main() {}
