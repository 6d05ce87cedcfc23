//! Any bytes as what an AMQP client sends.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    kinetic_broker::fuzz_frames(bytes);
});
