//! Where clients are until they have shown who they are. They cost a socket and a task each, and nobody knows yet whose they
//! are: so there is a bound on all of them, and a smaller one on those of one address. Above it whoever has been there for
//! long has to go, so that many who say nothing do not keep out those who speak; but whoever came a moment ago stays, so that
//! a crowd that comes at once is served in its turn.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// After this many milliseconds a client may be sent away for another. Handshakes take some round trips and a signature.
const PATIENCE_MS: u64 = 1_000;
/// The part of all places that one address may take: one in this many.
const ADDRESS_PART: usize = 4;

/// Somebody in the hall.
#[derive(Debug)]
struct Waiting {
    address: IpAddr,
    since_ms: u64,
    go: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// In the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    by_address: BTreeMap<IpAddr, usize>,
}

/// The hall.
#[derive(Debug)]
pub(crate) struct Hall {
    max: usize,
    inside: Mutex<Inside>,
}

/// A place in the hall, free again when it drops.
#[derive(Debug)]
pub(crate) struct Place {
    hall: Arc<Hall>,
    id: u64,
    go: Arc<Notify>,
}

impl Place {
    /// Waits to be sent away for somebody else.
    pub(crate) async fn sent_away(&self) {
        self.go.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hall.lock().remove(self.id);
    }
}

impl Inside {
    fn remove(&mut self, id: u64) {
        let Some(gone) = self.waiting.remove(&id) else { return };
        gone.go.notify_one();
        if let Some(count) = self.by_address.get_mut(&gone.address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&gone.address);
            }
        }
    }

    /// Sends away who has been there the longest, of one address or of all. False when nobody has been there for long.
    fn make_room(&mut self, address: Option<IpAddr>, now_ms: u64) -> bool {
        let mut those = self.waiting.iter().filter(|(_, one)| address.is_none_or(|own| own == one.address));
        let oldest = those.next().filter(|(_, one)| now_ms.saturating_sub(one.since_ms) >= PATIENCE_MS);
        let Some(id) = oldest.map(|(id, _)| *id) else { return false };
        self.remove(id);
        true
    }
}

impl Hall {
    pub(crate) fn new(max: usize) -> Self {
        Self { max: max.max(1), inside: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for somebody who comes from this address; `None` when there is none.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr, now_ms: u64) -> Option<Place> {
        let address = block(from);
        let mut inside = self.lock();
        let mine = inside.by_address.get(&address).copied().unwrap_or(0);
        if mine >= (self.max / ADDRESS_PART).max(1) && !inside.make_room(Some(address), now_ms) {
            return None;
        }
        if inside.waiting.len() >= self.max && !inside.make_room(None, now_ms) {
            return None;
        }
        let id = inside.next;
        inside.next += 1;
        let go = Arc::new(Notify::new());
        inside.waiting.insert(id, Waiting { address, since_ms: now_ms, go: Arc::clone(&go) });
        *inside.by_address.entry(address).or_default() += 1;
        Some(Place { hall: Arc::clone(self), id, go })
    }
}

/// What counts as one address: of IPv6 the 64 bits of a network, in which a host takes as many addresses as it likes.
fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_address_takes_a_part_and_the_silent_make_room() {
        let hall = Arc::new(Hall::new(8));
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let first = hall.enter(one, 0).expect("room");
        let second = hall.enter(one, 10).expect("room");
        assert!(hall.enter(one, 500).is_none(), "a quarter is taken, by clients who just came");
        let _of_other = hall.enter(other, 500).expect("others have room");
        let third = hall.enter(one, 1_000).expect("the first has been there for long");
        assert!(hall.enter(one, 1_005).is_none());
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(first.sent_away());
        drop((first, second));
        let _fourth = hall.enter(one, 1_005).expect("one has left");
        assert!(hall.enter(one, 1_006).is_none());
        drop(third);
        assert_eq!(hall.lock().waiting.len(), 2);
    }

    #[test]
    fn many_addresses_fill_it_and_make_room() {
        let hall = Arc::new(Hall::new(8));
        let from = |n: u8| IpAddr::from([198, 51, 100, n]);
        let all: Vec<_> = (0..8).map(|n| hall.enter(from(n), u64::from(n)).expect("room")).collect();
        assert!(hall.enter(from(9), 999).is_none());
        let _late = hall.enter(from(9), 1_000).expect("the first goes");
        assert_eq!(hall.lock().waiting.len(), 8);
        drop(all);
        assert_eq!(hall.lock().by_address.len(), 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        assert_eq!(block(address("2001:db8::1")), block(address("2001:db8::ffff:1")));
        assert_ne!(block(address("2001:db8::1")), block(address("2001:db8:0:1::1")));
        assert_eq!(block(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
