//! Any bytes as a token of `locate`, and what is read of it written again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kinetic_access::token::fuzz_token(bytes));
