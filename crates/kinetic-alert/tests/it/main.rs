//! The alert machine in a small world of virtual time: a queue, a disk and a relay that fail as they are told to.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod breaches;
mod compact;
mod crash;
mod deadman;
mod delivery;
mod folding;
mod intake;
mod json_schema;
mod leavers;
mod levels;
mod links;
mod mail;
mod places;
mod quiet;
mod requests;
mod runs;
mod template;
mod test_event;
mod timeline;
mod watchdog;
mod webhooks;
mod whole;
mod world;
