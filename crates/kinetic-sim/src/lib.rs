//! A seeded world that runs the real machines against a model of the broker, the network and time, and checks what may
//! never happen.
//!
//! One seed is one run, byte for byte. The machines are those that the binary runs; their shells are done in miniature
//! (`shell.rs`), the broker is a model (`broker.rs`), connections break in every way that they can (`net.rs`), and the
//! ledger (`ledger.rs`) knows what really happened, so that the checkers (`check.rs`) can say whether a promise was broken.
//! `KINETIC_SIM_SEEDS=10000 cargo test --profile quick -p kinetic-sim no_seed` goes through so many seeds; a seed that breaks a
//! rule is told with what broke, and `cargo run -p kinetic-sim --example seed -- SEED` tells its story.
//!
//! Bugs planted on purpose (`bug.rs`) show that they would notice.

mod agenda;
pub mod broker;
pub mod bug;
pub mod check;
pub mod installation;
pub mod ledger;
pub mod message;
mod net;
pub mod plan;
mod rng;
mod shell;
mod silence;
pub mod timeline;
pub mod world;

pub use agenda::{End, LinkId, ProcId};
pub use rng::Rng;
