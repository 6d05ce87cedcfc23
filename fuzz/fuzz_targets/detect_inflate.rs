//! Any bytes as a body of which nothing is known; `exercise` says what must hold.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| kinetic_analyzer::decode::exercise::detect_and_inflate(body));
