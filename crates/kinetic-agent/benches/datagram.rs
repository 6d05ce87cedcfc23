//! Datagrams a second.
fn main() {}
