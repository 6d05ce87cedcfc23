//! Harness for the cross-process stories: starts the built `kinetic` binary, brokers, mail relays and real tools on free
//! loopback ports, and ends each of them by its own process id.
//!
//! Nothing here waits a fixed time and hopes: [`eventually`] asks again until the answer is there or a deadline has
//! passed, and then says what it saw last.
#![expect(
    clippy::disallowed_methods,
    reason = "a harness is a shell: it owns clocks, files, child processes and its environment"
)]

pub mod amqp;
pub mod certs;
pub mod dice;
pub mod docker;
pub mod hooks;
pub mod http;
pub mod needs;
pub mod numbered;
pub mod poll;
pub mod postfix;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod rabbit;
pub mod schema;
pub mod smtp;
pub mod source;
pub mod tokens;
pub mod tool;
pub mod traffic;
pub mod world;

pub use poll::{eventually, steadily};
pub use world::{BrokerKind, World};
