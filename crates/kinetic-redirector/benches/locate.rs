//! `locate` answers in process.
fn main() {}
