//! How often one peer may ask: a bucket each, which fills by the clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kinetic_wire::Mono;

/// Requests that a peer may make at once.
const BURST: f64 = 30.0;
/// Requests a second that it may make in the long run.
const PER_SECOND: f64 = 1.0;
/// Peers remembered; further ones share a bucket.
const PEERS_MAX: usize = 10_000;
/// What those share who find no room; no peer has this address.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What is left of a peer's requests, and when that was so.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Mono,
}

impl Bucket {
    fn left(self, now: Mono) -> f64 {
        (self.left + now.since(self.at).as_secs_f64() * PER_SECOND).min(BURST)
    }
}

/// The buckets of all peers.
#[derive(Debug, Default)]
pub(super) struct Rates {
    buckets: BTreeMap<IpAddr, Bucket>,
}

/// Who counts as one peer: of IPv6, a network that is given to one customer.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        address => address,
    }
}

impl Rates {
    /// Whether this peer may ask once more, now.
    pub(super) fn take(&mut self, address: IpAddr, now: Mono) -> bool {
        let mut peer = peer(address);
        if !self.buckets.contains_key(&peer) && self.buckets.len() >= PEERS_MAX {
            // Whose bucket is full again is like one who has never asked.
            self.buckets.retain(|_, bucket| bucket.left(now) < BURST);
            if self.buckets.len() >= PEERS_MAX {
                peer = OTHERS;
            }
        }
        let bucket = self.buckets.entry(peer).or_insert(Bucket { left: BURST, at: now });
        let left = bucket.left(now);
        let may = left >= 1.0;
        *bucket = Bucket { left: if may { left - 1.0 } else { left }, at: now };
        may
    }

    /// Peers remembered.
    pub(super) fn peers(&self) -> usize {
        self.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn granted(rates: &mut Rates, address: &str, now: Mono, times: usize) -> usize {
        let address = address.parse().expect("an address");
        (0..times).filter(|_| rates.take(address, now)).count()
    }

    #[test]
    fn a_peer_has_a_burst_and_then_its_rate() {
        let mut rates = Rates::default();
        let start = Mono(1);
        assert_eq!(granted(&mut rates, "192.0.2.1", start, 100), 30);
        assert_eq!(granted(&mut rates, "192.0.2.2", start, 5), 5);
        let later = start + Duration::from_secs(7);
        assert_eq!(granted(&mut rates, "192.0.2.1", later, 100), 7);
        assert_eq!(granted(&mut rates, "192.0.2.1", start + Duration::from_secs(9_999), 100), 30);
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer_and_an_address_in_either_form_too() {
        let mut rates = Rates::default();
        assert_eq!(granted(&mut rates, "2001:db8::1", Mono(1), 20), 20);
        assert_eq!(granted(&mut rates, "2001:db8::ffff:1", Mono(1), 20), 10);
        assert_eq!(granted(&mut rates, "2001:db8:0:1::1", Mono(1), 20), 20);
        assert_eq!(granted(&mut rates, "192.0.2.1", Mono(1), 20), 20);
        assert_eq!(granted(&mut rates, "::ffff:192.0.2.1", Mono(1), 20), 10);
    }

    #[test]
    fn many_peers_share_what_is_left_and_those_who_were_quiet_make_room() {
        let mut rates = Rates::default();
        for n in 0..12_000_u32 {
            rates.take(Ipv4Addr::from_bits(0x0a00_0000 + n).into(), Mono(1));
        }
        assert_eq!(rates.peers(), PEERS_MAX + 1);
        assert_eq!(granted(&mut rates, "192.0.2.1", Mono(1), 5), 0, "the common bucket is empty");
        let later = Mono(1) + Duration::from_secs(60);
        assert_eq!(granted(&mut rates, "192.0.2.1", later, 5), 5);
        assert_eq!(rates.peers(), 1);
    }
}
