//! Any bytes as the beginning of a carbon connection: as a PROXY header, and as lines that come in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kinetic_agent::edge::fuzz_connection(bytes));
