//! The only crate that names lapin: consume, publish confirmed, RPC, reconnect, declare.
//!
//! Bytes and envelopes only: what a body means is nobody's business here. lapin's own recovery stays off, because when it
//! gives up it says nothing; every connection here is opened anew by [`Consumer`], [`Publisher`] or [`RpcClient`], which
//! declare their [`Topology`] again and go on. Publishing and consuming never share a connection: a broker in need blocks
//! publishers, and a blocked connection would hold acknowledgements back too.

mod address;
mod baseline;
mod connect;
mod consume;
mod declare;
mod drive;
mod error;
mod guard;
mod message;
mod outbox;
mod peek;
mod properties;
mod publish;
mod renew;
mod rpc;
mod tls;
mod token;
mod watch;

pub use address::{Address, Plain, Secret};
pub use baseline::drain_plainly;
pub use connect::{BACKOFF_FIRST, BACKOFF_MAX, CLOSE_TIMEOUT, CONNECT_TIMEOUT};
pub use consume::{ConsumeOptions, Consumer, Delivery, Event, Settle};
pub use declare::{
    Binding, Exchange, ExchangeKind, Leftovers, Overflow, Queue, QueueArgs, QueueDepth, Topology, declare,
    delete_idle_queue, delete_queue, queue_depth, remove,
};
pub use error::AmqpError;
pub use guard::mended_total;
pub use message::Message;
pub use peek::{PEEK_BYTES_MAX, peek};
pub use publish::{LinkStatus, Outcome, PublishError, Publisher};
pub use rpc::{Pushed, Request, RequestHandle, RpcClient, RpcFailed, RpcServer, Served};
pub use tls::{Identity, Shown};
pub use token::{Token, TokenStats};
pub use watch::Watcher;
