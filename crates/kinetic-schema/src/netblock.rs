//! Netblocks, and whose an address is.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use kinetic_wire::CustomerName;

use crate::Schema;

/// A network as the range of addresses that it holds; IPv4 addresses are compared with IPv4 addresses only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Netblock {
    pub(crate) v6: bool,
    pub(crate) first: u128,
    pub(crate) last: u128,
}

impl Netblock {
    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (v6, address) = bits(address);
        self.v6 == v6 && (self.first..=self.last).contains(&address)
    }

    /// Length of the prefix that its addresses share, in bits.
    #[must_use]
    pub fn prefix(&self) -> u32 {
        let host = (self.last ^ self.first).count_ones();
        if self.v6 { 128 - host } else { 32 - host }
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.v6 == other.v6 && self.first <= other.last && other.first <= self.last
    }
}

/// The family of an address (IPv6?) and its bits.
fn bits(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (false, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (true, v6.to_bits()),
    }
}

fn address(v6: bool, bits: u128) -> IpAddr {
    if v6 {
        IpAddr::V6(bits.into())
    } else {
        IpAddr::V4(u32::try_from(bits).expect("an IPv4 address has 32 bits").into())
    }
}

impl fmt::Display for Netblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", address(self.v6, self.first), self.prefix())
    }
}

impl std::str::FromStr for Netblock {
    type Err = String;

    /// `203.0.113.0/24`, or a single address; the error says what is wrong with it.
    fn from_str(written: &str) -> Result<Self, String> {
        let (host, prefix) = match written.split_once('/') {
            Some((host, prefix)) => (host, Some(prefix)),
            None => (written, None),
        };
        let host: IpAddr = host.parse().map_err(|_| format!("`{host}` is not an IP address"))?;
        let (v6, value) = bits(host);
        let length = if v6 { 128 } else { 32 };
        let prefix: u32 = match prefix {
            None => length,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|bits| *bits <= length && prefix.bytes().all(|digit| digit.is_ascii_digit()))
                .ok_or_else(|| format!("`/{prefix}` is not a prefix length from 0 to {length}"))?,
        };
        let host = 1u128.checked_shl(length - prefix).map_or(u128::MAX, |size| size - 1);
        if value & host != 0 {
            return Err(format!(
                "host bits are set; the network is \"{}/{prefix}\"",
                address(v6, value & !host)
            ));
        }
        let found = Self { v6, first: value, last: value | host };
        // An IPv4 address that a socket for both families shows as IPv6 is looked up as IPv4.
        if v6 && prefix >= 96 && !address(v6, value).to_canonical().is_ipv6() {
            let v4 = Self { v6: false, first: value & 0xffff_ffff, last: (value | host) & 0xffff_ffff };
            return Err(format!("this is an IPv4 network written as IPv6; write \"{v4}\""));
        }
        Ok(found)
    }
}

/// Whose an address is, by the netblocks of all customers: the longest prefix wins, and what is in none goes to
/// [`Edge::public`](crate::schema::Edge::public).
///
/// A customer that is disabled keeps its addresses: what comes from there is nobody else's.
#[derive(Clone, Debug, Default)]
pub struct Netblocks {
    /// By family and length of the prefix, then by the network's first address.
    by_prefix: BTreeMap<(bool, u32), BTreeMap<u128, CustomerName>>,
    public: Option<CustomerName>,
}

impl Netblocks {
    /// Those of a schema.
    #[must_use]
    pub fn of(schema: &Schema) -> Self {
        let mut all = Self { public: schema.edge.public.clone(), ..Self::default() };
        for customer in schema.customers.values() {
            for block in &customer.netblocks {
                let networks = all.by_prefix.entry((block.v6, block.prefix())).or_default();
                networks.insert(block.first, customer.name.clone());
            }
        }
        all
    }

    /// Whose an address is. An IPv4 address that a socket shows as IPv6 (`::ffff:203.0.113.7`) is the IPv4 address.
    #[must_use]
    pub fn owner(&self, address: IpAddr) -> Option<&CustomerName> {
        self.claimed(address).or(self.public.as_ref())
    }

    /// Like [`Netblocks::owner`], but nobody's where no netblock holds the address.
    #[must_use]
    pub fn claimed(&self, address: IpAddr) -> Option<&CustomerName> {
        let (v6, value) = bits(address.to_canonical());
        let length = if v6 { 128 } else { 32 };
        let longest_first = self.by_prefix.range((v6, 0)..=(v6, length)).rev();
        longest_first.into_iter().find_map(|((_, prefix), networks)| {
            let host = 1u128.checked_shl(length - prefix).map_or(u128::MAX, |size| size - 1);
            networks.get(&(value & !host))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Customer, Edge, Limits};

    fn block(written: &str) -> Netblock {
        written.parse().expect("well formed")
    }

    #[test]
    fn netblocks_overlap_by_address() {
        assert!(block("10.0.0.0/8").overlaps(&block("10.1.0.0/16")));
        assert!(!block("10.0.0.0/9").overlaps(&block("10.128.0.0/9")));
        assert!(block("0.0.0.0/0").overlaps(&block("203.0.113.7")));
        assert!(!block("::/0").overlaps(&block("0.0.0.0/0")));
        assert!(block("2001:db8::/32").overlaps(&block("2001:db8:1::/48")));
        let holds = |written, address: &str| block(written).contains(address.parse().expect("an address"));
        assert!(holds("10.0.0.0/8", "10.255.255.255") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("::/0", "127.0.0.1"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe00::"));
        for wrong in
            ["10.0.0.1/8", "10.0.0.0/33", "10.0.0/8", "::/129", "::/+1", "host/8", "", "::ffff:10.0.0.0/104"]
        {
            assert!(wrong.parse::<Netblock>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn netblocks_are_shown_as_they_are_written() {
        for written in ["10.0.0.0/8", "0.0.0.0/0", "203.0.113.7/32", "::/0", "2001:db8::/32", "::1/128"] {
            assert_eq!(block(written).to_string(), written);
        }
        assert_eq!(block("203.0.113.7").to_string(), "203.0.113.7/32");
    }

    fn customer(name: &str, netblocks: &[&str]) -> Customer {
        Customer {
            name: name.into(),
            region: "local".into(),
            disabled: false,
            keys: Vec::new(),
            certificates: Vec::new(),
            users: Vec::new(),
            limits: Limits::DEFAULT,
            netblocks: netblocks.iter().map(|written| block(written)).collect(),
            sources: BTreeMap::new(),
            services: BTreeMap::new(),
            analytics: BTreeMap::new(),
            alerts: BTreeMap::new(),
            stream_silent_after: None,
            templates: Default::default(),
        }
    }

    #[test]
    fn the_longest_prefix_says_whose_an_address_is() {
        let mut schema = Schema::default();
        for (name, netblocks) in [
            ("wide", &["10.0.0.0/8", "2001:db8::/32"][..]),
            ("narrow", &["10.1.0.0/16", "2001:db8:1::/48"]),
            ("host", &["10.1.0.7"]),
        ] {
            schema.customers.insert(name.into(), customer(name, netblocks));
        }
        let owner = |schema: &Schema, address: &str| {
            let netblocks = Netblocks::of(schema);
            netblocks.owner(address.parse().expect("an address")).map(ToString::to_string)
        };
        for (address, want) in [
            ("10.9.9.9", Some("wide")),
            ("10.1.9.9", Some("narrow")),
            ("10.1.0.7", Some("host")),
            ("::ffff:10.1.0.7", Some("host")),
            ("2001:db8::1", Some("wide")),
            ("2001:db8:1::1", Some("narrow")),
            ("11.0.0.0", None),
            ("2001:db9::", None),
        ] {
            assert_eq!(owner(&schema, address).as_deref(), want, "{address}");
        }
        schema.edge = Edge { public: Some("everybody".into()) };
        assert_eq!(owner(&schema, "11.0.0.0").as_deref(), Some("everybody"));
        assert_eq!(owner(&schema, "10.9.9.9").as_deref(), Some("wide"));
    }
}
