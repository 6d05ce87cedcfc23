//! A published message, shared by every queue that holds it, and the account of the bytes held.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Bytes that a message costs beside its own: allocation, reference counts, a queue's entry.
const MESSAGE_OVERHEAD_BYTES: usize = 160;

/// The account of bytes held. Publishers stop above `max` and go on below nine tenths of it.
#[derive(Debug)]
pub(crate) struct Memory {
    held: AtomicUsize,
    max: usize,
    pub(crate) freed: Notify,
}

impl Memory {
    pub(crate) fn new(max: usize) -> Self {
        Self { held: AtomicUsize::new(0), max, freed: Notify::new() }
    }
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
    pub(crate) fn is_full(&self) -> bool {
        self.held() >= self.max
    }
    fn low(&self) -> usize {
        self.max - self.max / 10
    }
    /// Whether publishers that were stopped may go on.
    pub(crate) fn has_room(&self) -> bool {
        self.held() < self.low().max(1)
    }
    fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }
    fn release(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Ordering::Relaxed);
        let low = self.low().max(1);
        if before >= low && before - bytes < low {
            self.freed.notify_waiters();
        }
    }
}

/// One message. Routing key, properties and body lie in one allocation.
#[derive(Debug)]
pub(crate) struct Message {
    /// The exchange it was published to, or dead-lettered to.
    pub(crate) exchange: Arc<str>,
    data: Bytes,
    key_bytes: usize,
    properties_bytes: usize,
    /// More routing keys, from `CC` (and `BCC` at first publish).
    pub(crate) copies: Box<[Box<str>]>,
    /// Time to live from the `expiration` property, in milliseconds.
    pub(crate) expiration_ms: Option<u64>,
    memory: Arc<Memory>,
}

impl Message {
    /// `data` is routing key, properties and body, one after the other. The key must be UTF-8.
    pub(crate) fn new(
        exchange: Arc<str>,
        data: Vec<u8>,
        key_bytes: usize,
        properties_bytes: usize,
        memory: &Arc<Memory>,
    ) -> Self {
        assert!(key_bytes + properties_bytes <= data.len(), "parts lie inside the data");
        memory.take(data.len() + MESSAGE_OVERHEAD_BYTES);
        Self {
            exchange,
            data: Bytes::from(data),
            key_bytes,
            properties_bytes,
            copies: Box::default(),
            expiration_ms: None,
            memory: Arc::clone(memory),
        }
    }
    pub(crate) fn routing_key(&self) -> &str {
        std::str::from_utf8(&self.data[..self.key_bytes]).expect("checked when the method was decoded")
    }
    pub(crate) fn properties(&self) -> &[u8] {
        &self.data[self.key_bytes..self.key_bytes + self.properties_bytes]
    }
    pub(crate) fn body(&self) -> &[u8] {
        &self.data[self.key_bytes + self.properties_bytes..]
    }
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
    /// Bytes of the whole message as they count for an outbound buffer.
    pub(crate) fn size_bytes(&self) -> usize {
        self.data.len()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.memory.release(self.data.len() + MESSAGE_OVERHEAD_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_accounted_until_the_last_holder_drops() {
        let memory = Arc::new(Memory::new(400));
        let message = Arc::new(Message::new("x".into(), b"keypropsbody".to_vec(), 3, 5, &memory));
        assert_eq!(
            (message.routing_key(), message.properties(), message.body()),
            ("key", &b"props"[..], &b"body"[..])
        );
        assert_eq!(memory.held(), 12 + MESSAGE_OVERHEAD_BYTES);
        let other = Arc::clone(&message);
        drop(message);
        assert!(memory.held() > 0 && !memory.is_full() && memory.has_room());
        let big = Message::new("x".into(), vec![0; 400], 0, 0, &memory);
        assert!(memory.is_full() && !memory.has_room());
        drop((other, big));
        assert_eq!(memory.held(), 0);
        assert!(memory.has_room());
    }
}
