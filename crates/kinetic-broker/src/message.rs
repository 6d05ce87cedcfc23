//! A published message, shared by every queue that holds it, on the account of who published it.

use crate::account::Account;
use bytes::Bytes;
use std::sync::Arc;

/// Bytes that a message costs beside its own: allocation, reference counts, a queue's entry.
const MESSAGE_OVERHEAD_BYTES: usize = 160;

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
    account: Arc<Account>,
    cost_bytes: usize,
}

impl Message {
    /// `data` is routing key, properties and body, one after the other. The key must be UTF-8.
    pub(crate) fn new(
        exchange: Arc<str>,
        data: Vec<u8>,
        key_bytes: usize,
        properties_bytes: usize,
        account: &Arc<Account>,
    ) -> Self {
        assert!(key_bytes + properties_bytes <= data.len(), "parts lie inside the data");
        // What was reserved and not used is held all the same.
        let cost_bytes = data.capacity() + MESSAGE_OVERHEAD_BYTES;
        account.take(cost_bytes);
        Self {
            exchange,
            data: Bytes::from(data),
            key_bytes,
            properties_bytes,
            copies: Box::default(),
            expiration_ms: None,
            account: Arc::clone(account),
            cost_bytes,
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
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }
    /// Bytes of the whole message as they count for an outbound buffer.
    pub(crate) fn size_bytes(&self) -> usize {
        self.data.len()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.account.release(self.cost_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Memory;

    #[test]
    fn bytes_are_accounted_until_the_last_holder_drops() {
        let memory = Arc::new(Memory::new(2000));
        let account = Arc::new(Account::new(&memory));
        let message = Arc::new(Message::new("x".into(), b"keypropsbody".to_vec(), 3, 5, &account));
        assert_eq!(
            (message.routing_key(), message.properties(), message.body()),
            ("key", &b"props"[..], &b"body"[..])
        );
        assert_eq!(
            (memory.held(), account.held()),
            (12 + MESSAGE_OVERHEAD_BYTES, 12 + MESSAGE_OVERHEAD_BYTES)
        );
        let other = Arc::clone(&message);
        drop(message);
        assert!(memory.held() > 0 && !account.is_full());
        let big = Message::new("x".into(), vec![0; 600], 0, 0, &account);
        assert!(account.is_full());
        drop((other, big));
        assert_eq!((memory.held(), account.held()), (0, 0));
    }
}
