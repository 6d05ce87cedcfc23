//! Who holds how many bytes of messages, and when he has to wait.
//!
//! Memory is shared out as buffers are in a shared-memory switch (dynamic thresholds; Choudhury and Hahne, 1998): an owner
//! may hold a part of what is free, half as much. One alone comes to a third of all, the next to a third of the rest, and so
//! on: two thirds are left behind each, and whoever fills memory stops himself alone. As messages go, all come to the same.

use crate::stats::Refused;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// An owner may hold what is free divided by this.
const SHARE: usize = 2;
/// Steps of all memory at which those who wait look again.
const STEPS: usize = 64;

/// The account of all bytes held.
#[derive(Debug)]
pub(crate) struct Memory {
    held: AtomicUsize,
    max: usize,
    /// Rung when the bytes held fall by a step.
    pub(crate) freed: Notify,
}

impl Memory {
    pub(crate) fn new(max: usize) -> Self {
        Self { held: AtomicUsize::new(0), max, freed: Notify::new() }
    }
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
    fn share(&self) -> usize {
        self.max.saturating_sub(self.held()) / SHARE
    }
    fn release(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Ordering::Relaxed);
        let step = (self.max / STEPS).max(1);
        if before / step != (before - bytes) / step {
            self.freed.notify_waiters();
        }
    }
}

/// The account of one owner.
#[derive(Debug)]
pub(crate) struct Account {
    memory: Arc<Memory>,
    held: AtomicUsize,
    /// Times that a publisher of this owner had to wait.
    pub(crate) blocked: AtomicU64,
    refused: Mutex<Refused>,
}

impl Account {
    pub(crate) fn new(memory: &Arc<Memory>) -> Self {
        Self {
            memory: Arc::clone(memory),
            held: AtomicUsize::new(0),
            blocked: AtomicU64::new(0),
            refused: Mutex::default(),
        }
    }
    /// Bytes of this owner's messages that are held.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
    /// Whether the owner holds its share, so that its publishers have to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.held() >= self.memory.share()
    }
    /// Whether publishers that wait may go on.
    pub(crate) fn has_room(&self) -> bool {
        let share = self.memory.share();
        self.held() < share - share / 10
    }
    pub(crate) fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.memory.held.fetch_add(bytes, Ordering::Relaxed);
    }
    pub(crate) fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.memory.release(bytes);
    }
    pub(crate) fn count_refused(&self, count: impl FnOnce(&mut Refused)) {
        count(&mut self.refused.lock().unwrap_or_else(PoisonError::into_inner));
    }
    pub(crate) fn refused(&self) -> Refused {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that are held while it lives, on somebody's account.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: usize,
    account: Option<Arc<Account>>,
}

impl Held {
    /// Holds more.
    pub(crate) fn grow(&mut self, account: &Arc<Account>, bytes: usize) {
        self.account.get_or_insert_with(|| Arc::clone(account)).take(bytes);
        self.bytes += bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.release(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_fills_memory_leaves_a_share_to_others() {
        let memory = Arc::new(Memory::new(1_000_000));
        let hogs: Vec<_> = (0..10).map(|_| Arc::new(Account::new(&memory))).collect();
        let fill = |account: &Account| {
            while !account.is_full() {
                account.take(1_000);
            }
        };
        fill(&hogs[0]);
        assert!((333_000..=335_000).contains(&hogs[0].held()), "a third: {}", hogs[0].held());
        hogs.iter().for_each(|hog| fill(hog));
        let stranger = Account::new(&memory);
        assert!(stranger.has_room() && !hogs[9].has_room());
        fill(&stranger);
        assert!(stranger.held() >= 4_000, "{}", stranger.held());
        // As what the first have goes, they come to the same.
        for _ in 0..1_000 {
            hogs.iter().for_each(|hog| {
                hog.release(hog.held() / 50);
                fill(hog);
            });
        }
        let held = || hogs.iter().map(|hog| hog.held());
        let (least, most) = (held().min().expect("ten"), held().max().expect("ten"));
        assert!(least > 70_000 && most < 100_000, "{least} to {most}, a twelfth each and two free");
        hogs[0].release(hogs[0].held());
        assert!(hogs[0].has_room() && hogs[9].has_room(), "what one frees is there for all");
    }

    #[test]
    fn nobody_publishes_when_nothing_is_free() {
        let memory = Arc::new(Memory::new(1_000));
        let (one, other) = (Arc::new(Account::new(&memory)), Account::new(&memory));
        let mut held = Held::default();
        held.grow(&one, 600);
        held.grow(&one, 600);
        assert!(one.is_full() && other.is_full() && !other.has_room());
        drop(held);
        assert_eq!((one.held(), memory.held()), (0, 0));
        assert!(one.has_room() && other.has_room());
    }
}
