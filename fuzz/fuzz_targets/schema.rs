//! Any bytes as a schema file: loaded, rendered, formatted.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kinetic_schema::fuzz_bytes(bytes));
