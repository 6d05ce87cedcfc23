//! The messages from outside: what is written about them, and that they survive the wire.

mod round_trip;
mod schemas;
