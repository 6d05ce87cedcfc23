//! How one broker runs: where it listens and the bounds it keeps.

use crate::tls::TlsListen;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Bounds and address of a broker. Every bound has a counter in [`crate::Stats`].
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Address to listen on; port 0 lets the system choose (see `Broker::local_addr`).
    pub listen: SocketAddr,
    /// Listen for TLS too.
    pub tls: Option<TlsListen>,
    /// Open connections in all; one more is closed at once. The last 64 are kept for users without a limit of their own.
    pub connections_max: usize,
    /// Connections that have not shown who they are; a quarter of them from one address (of IPv6 from one /64). Above it
    /// one that has been silent for a second makes room, or the new one is closed at once.
    pub handshakes_max: usize,
    /// Channels per connection offered in `connection.tune`.
    pub channels_max: u16,
    /// Largest frame in bytes, with its 8 bytes of framing, offered in `connection.tune`.
    pub frame_max: u32,
    /// Heartbeat offered in `connection.tune`, in seconds; 0 offers none. The client's answer decides.
    pub heartbeat_s: u16,
    /// Largest message body in bytes; a larger one closes its channel with 406.
    pub message_bytes_max: usize,
    /// Bytes of messages held in all. An owner of users may hold half of what is free, so a third if it is alone; while it
    /// does, its publishers are not read from.
    pub memory_bytes_max: usize,
    /// Queues per vhost; one more is refused with 406.
    pub queues_max: usize,
    /// Exchanges per vhost; one more is refused with 406.
    pub exchanges_max: usize,
    /// Bindings per vhost; one more is refused with 406.
    pub bindings_max: usize,
    /// Milliseconds that a client may hold a part of a message while its owner has no room for the rest; then its
    /// connection is closed with 506.
    pub unfinished_ms: u64,
    /// Milliseconds that a client has for the handshake of TLS, and again for that of AMQP.
    pub handshake_ms: u64,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            connections_max: 4096,
            handshakes_max: 1024,
            channels_max: 2047,
            frame_max: 131_072,
            heartbeat_s: 60,
            message_bytes_max: 16 << 20,
            memory_bytes_max: 1 << 30,
            queues_max: 65_536,
            exchanges_max: 65_536,
            bindings_max: 1 << 20,
            unfinished_ms: 10_000,
            handshake_ms: 10_000,
        }
    }
}
