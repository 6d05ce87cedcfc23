//! What waits to be written to one connection: bounded, filled under the vhost's lock, emptied by the writer.

use crate::message::Message;
use amq_protocol::protocol::AMQPClass;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Outbound bytes of one connection above which nothing more is dispatched to its consumers.
pub(crate) const OUTBOUND_BYTES_MAX: usize = 2 << 20;
/// Outbound bytes below which dispatching goes on.
const OUTBOUND_BYTES_LOW: usize = OUTBOUND_BYTES_MAX / 2;
/// Outbound bytes above which the connection is no longer read from: its client asks and does not listen.
pub(crate) const OUTBOUND_BYTES_STOP: usize = 2 * OUTBOUND_BYTES_MAX;
/// What a frame without content counts for.
const SMALL_BYTES: usize = 64;

/// One thing to write.
#[derive(Debug)]
pub(crate) enum Out {
    Deliver {
        channel: u16,
        consumer_tag: Arc<str>,
        tag: u64,
        redelivered: bool,
        message: Arc<Message>,
    },
    GetOk {
        channel: u16,
        tag: u64,
        redelivered: bool,
        remaining: u32,
        message: Arc<Message>,
    },
    Return {
        channel: u16,
        message: Arc<Message>,
    },
    Ack {
        channel: u16,
        tag: u64,
        multiple: bool,
    },
    Nack {
        channel: u16,
        tag: u64,
    },
    Method {
        channel: u16,
        method: Box<AMQPClass>,
    },
    /// Nothing more will follow; the writer ends after this.
    End,
}

impl Out {
    /// What it counts for against the bounds.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Deliver { message, .. } | Self::GetOk { message, .. } | Self::Return { message, .. } => {
                message.size_bytes() + SMALL_BYTES
            }
            _ => SMALL_BYTES,
        }
    }
}

/// The queue between the broker and one connection's writer.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Vec<Out>>,
    bytes: AtomicUsize,
    stalled: AtomicBool,
    /// Rung after something was put in.
    pub(crate) ready: Notify,
    /// Rung after bytes were written.
    pub(crate) drained: Notify,
}

impl Outbox {
    /// Puts `out` in; the caller rings `ready` once it has put in everything.
    pub(crate) fn push(&self, out: Out) {
        self.bytes.fetch_add(out.size_bytes(), Ordering::SeqCst);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(out);
    }

    pub(crate) fn method(&self, channel: u16, method: AMQPClass) {
        self.push(Out::Method { channel, method: Box::new(method) });
    }

    /// Swaps what waits with the empty `taken`.
    pub(crate) fn take(&self, taken: &mut Vec<Out>) {
        std::mem::swap(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner), taken);
    }

    /// Takes written bytes off the account. True when dispatching was stopped and may go on.
    pub(crate) fn written(&self, bytes: usize) -> bool {
        let now = self.bytes.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        self.drained.notify_one();
        now < OUTBOUND_BYTES_LOW && self.stalled.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Whether a delivery may be put in. A refusal is remembered, so that [`Outbox::written`] reports the room.
    pub(crate) fn has_room(&self) -> bool {
        if self.bytes() < OUTBOUND_BYTES_MAX {
            return true;
        }
        self.stalled.store(true, Ordering::SeqCst);
        // The writer may have emptied it between the two: then nobody would ever report, so look again.
        self.bytes() < OUTBOUND_BYTES_LOW
    }
}
