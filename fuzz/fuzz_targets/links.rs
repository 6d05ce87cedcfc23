//! Any bytes as the token of a link in a mail, and as changes of a good one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kinetic_alert::fuzz_link(bytes));
