//! Any bytes as each message of the control protocol and as an alert event; what decodes must encode.
#![no_main]

use kinetic_wire::{AlertEvent, Heartbeat, LeaseReply, Locate, LocateReply, Register, Reply, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = decode::<Register>(bytes) {
        encode(&message);
    }
    if let Ok(message) = decode::<Heartbeat>(bytes) {
        encode(&message);
    }
    if let Ok(message) = decode::<Locate>(bytes) {
        encode(&message);
    }
    if let Ok(message) = decode::<Reply<LeaseReply>>(bytes) {
        encode(&message);
    }
    if let Ok(message) = decode::<Reply<LocateReply>>(bytes) {
        encode(&message);
    }
    if let Ok(message) = decode::<AlertEvent>(bytes) {
        encode(&message);
    }
});
