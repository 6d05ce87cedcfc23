//! Who has carbon connections open: how many in all, of each address and of each customer, and who is turned away and why.
//!
//! When all places are taken, whoever has fewer than an equal share of them still gets one: the customer with the most loses its
//! newest connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kinetic_schema::{Netblocks, Schema};
use kinetic_wire::CustomerName;
use tokio::sync::Notify;

/// Why a connection was turned away or closed by the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// As many are open as may be, and its customer has its share of them.
    TooMany,
    /// It was open, and had to make room for a customer with fewer.
    MadeRoom,
    /// As many are open from its address.
    TooManyOfAddress,
    /// As many are open of its customer (`limits.connections`).
    TooManyOfCustomer,
    /// Its address is in nobody's netblock, and nobody is who such traffic is for.
    Nobody,
    /// It comes from a proxy and does not begin with a PROXY header of version 2.
    NoHeader,
    /// It comes from a proxy, and the header is none that can be gone by.
    BadHeader,
    /// It comes from a proxy, and the header did not come in time.
    SlowHeader,
    /// A PROXY header where none is believed.
    Forged,
    /// It is not text.
    Binary,
    /// A line without an end.
    Endless,
    /// Nothing came for too long.
    Idle,
}

impl Why {
    const ALL: [(Self, &'static str); 12] = [
        (Self::TooMany, "too_many"),
        (Self::MadeRoom, "made_room"),
        (Self::TooManyOfAddress, "too_many_of_address"),
        (Self::TooManyOfCustomer, "too_many_of_customer"),
        (Self::Nobody, "nobody"),
        (Self::NoHeader, "no_header"),
        (Self::BadHeader, "bad_header"),
        (Self::SlowHeader, "slow_header"),
        (Self::Forged, "forged_header"),
        (Self::Binary, "binary"),
        (Self::Endless, "endless_line"),
        (Self::Idle, "idle"),
    ];
}

#[derive(Debug, Default)]
struct Inside {
    netblocks: Netblocks,
    connections_max: BTreeMap<CustomerName, u32>,
    by_address: BTreeMap<IpAddr, u32>,
    /// By a number that grows, with what each is told to go by.
    by_customer: BTreeMap<CustomerName, BTreeMap<u64, Arc<Notify>>>,
    entered: u64,
    ids: u64,
}

/// Connections beyond those that may enter: behind proxies that have not said yet whose they are, or about to leave.
const HALL: u64 = 64;

/// The list. Nothing is awaited while it is held.
#[derive(Debug)]
pub(crate) struct Guests {
    max: u32,
    per_address_max: u32,
    inside: Mutex<Inside>,
    /// Connections open, also those that have not said whose they are.
    open: AtomicU64,
    accepted: AtomicU64,
    turned: [AtomicU64; Why::ALL.len()],
    /// Lines that were too long to be passed on.
    pub(super) too_long: AtomicU64,
    /// Connections that ended in the middle of a line, which was dropped.
    pub(super) unfinished: AtomicU64,
    /// Connections that could not be accepted.
    pub(super) accept_errors: AtomicU64,
}

/// A connection, as long as this is held.
#[derive(Debug)]
pub(crate) struct Place(Arc<Guests>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection of an address and a customer, as long as this is held.
#[derive(Debug)]
pub(crate) struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
    customer: CustomerName,
    id: u64,
    leave: Arc<Notify>,
}

impl Guest {
    /// Waits until it must make room.
    pub(crate) async fn must_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.inside().leave(&self.customer, self.id);
        let mut inside = self.guests.inside();
        if let Some(count) = inside.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                inside.by_address.remove(&self.address);
            }
        }
    }
}

impl Inside {
    /// True if it had not left before.
    fn leave(&mut self, customer: &CustomerName, id: u64) -> bool {
        let Some(own) = self.by_customer.get_mut(customer) else { return false };
        let was_in = own.remove(&id).is_some();
        if own.is_empty() {
            self.by_customer.remove(customer);
        }
        self.entered -= u64::from(was_in);
        was_in
    }

    fn count(&self, customer: &CustomerName) -> usize {
        self.by_customer.get(customer).map_or(0, BTreeMap::len)
    }

    /// Whether a customer may have one more where all places are taken: another then loses one.
    fn make_room(&mut self, customer: &CustomerName, max: u32) -> bool {
        if self.entered < u64::from(max) {
            return true;
        }
        let own = self.count(customer);
        let present = self.by_customer.len() + usize::from(own == 0);
        let fair = max as usize / present.max(1);
        if own >= fair {
            return false;
        }
        let most = self.by_customer.iter().max_by_key(|(_, connections)| connections.len());
        let Some((largest, id, leave)) = most.and_then(|(name, connections)| {
            let (id, leave) = connections.last_key_value().filter(|_| connections.len() > fair)?;
            Some((name.clone(), *id, Arc::clone(leave)))
        }) else {
            return false;
        };
        leave.notify_one();
        self.leave(&largest, id)
    }
}

impl Guests {
    pub(crate) fn new(max: u32, per_address_max: u32) -> Arc<Self> {
        Arc::new(Self {
            max,
            per_address_max,
            inside: Mutex::default(),
            open: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            turned: Default::default(),
            too_long: AtomicU64::new(0),
            unfinished: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
        })
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes by another revision from the next connection on.
    pub(crate) fn follow(&self, schema: &Schema) {
        let connections_max = schema
            .customers
            .values()
            .map(|customer| (customer.name.clone(), customer.limits.connections))
            .collect();
        let netblocks = Netblocks::of(schema);
        let mut inside = self.inside();
        (inside.netblocks, inside.connections_max) = (netblocks, connections_max);
    }

    /// A place for a connection of which nothing is known yet. There are a few more than may enter: who must make room takes a moment.
    pub(crate) fn place(self: &Arc<Self>) -> Result<Place, Why> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        if self.open.fetch_add(1, Ordering::Relaxed) >= u64::from(self.max) + HALL {
            return Err(Why::TooMany);
        }
        Ok(place)
    }

    /// Lets in a connection from an address.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr) -> Result<Guest, Why> {
        let mut inside = self.inside();
        let customer = inside.netblocks.owner(from).ok_or(Why::Nobody)?.clone();
        let address = network(from.to_canonical());
        if inside.by_address.get(&address).is_some_and(|count| *count >= self.per_address_max) {
            return Err(Why::TooManyOfAddress);
        }
        let most = inside.connections_max.get(&customer).copied().ok_or(Why::Nobody)?;
        if inside.count(&customer) >= most as usize {
            return Err(Why::TooManyOfCustomer);
        }
        if !inside.make_room(&customer, self.max) {
            return Err(Why::TooMany);
        }
        inside.ids += 1;
        inside.entered += 1;
        let (id, leave) = (inside.ids, Arc::new(Notify::new()));
        inside.by_customer.entry(customer.clone()).or_default().insert(id, Arc::clone(&leave));
        *inside.by_address.entry(address).or_default() += 1;
        Ok(Guest { guests: Arc::clone(self), address, customer, id, leave })
    }

    pub(crate) fn turned_away(&self, why: Why) {
        self.turned[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Connections open, and accepted ever.
    pub(super) fn open(&self) -> (u64, u64) {
        (self.open.load(Ordering::Relaxed), self.accepted.load(Ordering::Relaxed))
    }

    /// How many were turned away, by reason.
    pub(super) fn turned(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Why::ALL.iter().map(|(why, name)| (*name, self.turned[*why as usize].load(Ordering::Relaxed)))
    }
}

/// What is counted as one address: whoever has an IPv6 address has its /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests(max: u32, per_address_max: u32) -> Arc<Guests> {
        let text = "region \"local\" {}\ncustomer \"a\" {\n region = region.local\n netblocks = [\"10.1.0.0/16\", \"2001:db8::/32\"]\n}\ncustomer \"b\" {\n region = region.local\n netblocks = [\"10.2.0.0/16\"]\n}\n";
        let files = [("kinetic.hcl".to_owned(), text.into())].into();
        let mut schema = kinetic_schema::load(&files).schema.expect("checks");
        schema.customers.get_mut(&"a".into()).expect("there").limits.connections = 4;
        let guests = Guests::new(max, per_address_max);
        guests.follow(&schema);
        guests
    }

    fn enter(guests: &Arc<Guests>, from: &str) -> Result<Guest, Why> {
        guests.enter(from.parse().expect("an address"))
    }

    #[test]
    fn places_are_bounded_in_all_by_address_and_by_customer() {
        let guests = guests(2, 2);
        let places: Vec<_> = (0..2 + HALL).map(|_| guests.place().expect("a place")).collect();
        assert_eq!(guests.place().err(), Some(Why::TooMany));
        assert_eq!(guests.open(), (2 + HALL, 3 + HALL));
        drop(places);
        assert_eq!(guests.open().0, 0);

        let guests = self::guests(9, 2);
        let one = enter(&guests, "10.1.0.1").expect("in");
        let _two = enter(&guests, "::ffff:10.1.0.1").expect("in");
        assert_eq!(enter(&guests, "10.1.0.1").err(), Some(Why::TooManyOfAddress));
        let _three = enter(&guests, "2001:db8:0:1::1").expect("in");
        let _four = enter(&guests, "2001:db8:0:1::2").expect("in");
        assert_eq!(enter(&guests, "2001:db8:0:1::3").err(), Some(Why::TooManyOfAddress));
        assert_eq!(enter(&guests, "10.1.0.2").err(), Some(Why::TooManyOfCustomer));
        drop(one);
        let _again = enter(&guests, "10.1.0.1").expect("in");
        assert_eq!(enter(&guests, "192.0.2.1").err(), Some(Why::Nobody));
        guests.turned_away(Why::Idle);
        assert_eq!(guests.turned().find(|(_, count)| *count > 0), Some(("idle", 1)));
    }

    #[tokio::test]
    async fn who_has_the_most_makes_room() {
        let guests = guests(4, 9);
        let mut crowd: Vec<_> = (0..4).map(|_| enter(&guests, "10.1.0.1").expect("in")).collect();
        assert_eq!(enter(&guests, "10.1.0.2").err(), Some(Why::TooManyOfCustomer), "its own limit is four");
        for left in [3, 2] {
            let other = enter(&guests, "10.2.0.1").expect("room is made");
            // The newest goes, and is told so.
            crowd.remove(left).must_leave().await;
            std::mem::forget(other);
        }
        assert_eq!(enter(&guests, "10.2.0.1").err(), Some(Why::TooMany), "each has its share");
        assert_eq!(enter(&guests, "10.1.0.1").err(), Some(Why::TooMany));
        drop(crowd);
        let inside = guests.inside();
        assert_eq!((inside.entered, inside.by_customer.len()), (2, 1));
    }
}
