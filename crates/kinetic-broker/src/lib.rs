//! Embedded AMQP 0-9-1 broker over the amq-protocol codec; knows nothing of metrics.
//!
//! RabbitMQ's behaviour is the specification: reply codes, their texts, the order of frames. Everything is held in
//! memory. Routing tables, queues and permissions are plain structs without I/O; sockets live in `server.rs` and
//! `connection.rs`.

mod account;
mod args;
mod channel;
mod config;
mod connection;
mod content;
mod credential;
mod encode;
mod entrance;
mod error;
mod exchange;
mod frame;
mod fuzz;
mod hall;
mod handshake;
mod message;
mod outbox;
mod permission;
mod queue;
mod server;
mod spread;
mod stats;
mod table;
mod tls;
mod topic;
mod vhost;

pub use config::BrokerConfig;
pub use credential::{Credential, Password, TokenGrant, TokenVerifier};
pub use fuzz::fuzz_frames;
pub use permission::{Access, Names, Permission, User, UserLimits};
pub use server::{Broker, BrokerHandle};
pub use stats::{OwnerStats, QueueDepth, Refused, Stats};
pub use tls::TlsListen;
