//! Where webhooks may lead. Their addresses come from whoever may write a customer's schema, and the alert node stands
//! inside networks that he may not enter: so it goes to the internet, and elsewhere only where its operator lets it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kinetic_schema::Netblock;

/// Where clouds tell a machine its credentials, beside the link-local addresses.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// On the internet.
    Public,
    /// Within a network, or this machine.
    Private,
    /// Nobody's who takes webhooks.
    Never,
}

/// Why this address may not be reached, if it may not.
pub(super) fn refusal(address: IpAddr, private: &[Netblock]) -> Option<&'static str> {
    let address = plain(address);
    match kind(address) {
        Kind::Public => None,
        Kind::Private if private.iter().any(|network| network.contains(address)) => None,
        Kind::Private => Some("a private address; webhooks reach those of --webhook-nets only"),
        Kind::Never => Some("an address to which no webhook leads"),
    }
}

/// An IPv4 address that stands in an IPv6 one, by itself: mapped, NAT64 (RFC 6052) and 6to4.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else { return address.to_canonical() };
    let v4 = |high: u16, low: u16| IpAddr::V4((u32::from(high) << 16 | u32::from(low)).into());
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => IpAddr::V6(v6),
    }
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

fn kind_v4(v4: Ipv4Addr) -> Kind {
    let [a, b, c, _] = v4.octets();
    let never = a == 0 || v4.is_link_local() || a >= 224 || METADATA_V4.contains(&v4);
    // Shared address space (RFC 6598), protocol assignments (RFC 6890), benchmarks (RFC 2544).
    let special =
        (a == 100 && (64..128).contains(&b)) || [a, b, c] == [192, 0, 0] || (a == 198 && b & 0xfe == 18);
    match (never, special || v4.is_private() || v4.is_loopback()) {
        (true, _) => Kind::Never,
        (false, true) => Kind::Private,
        (false, false) => Kind::Public,
    }
}

fn kind_v6(v6: Ipv6Addr) -> Kind {
    let never = v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast() || v6 == METADATA_V6;
    // Global unicast is 2000::/3; what is neither that nor private is assigned to nobody.
    let global = v6.segments()[0] & 0xe000 == 0x2000;
    match (never, global, v6.is_loopback() || v6.is_unique_local()) {
        (true, ..) => Kind::Never,
        (false, true, _) => Kind::Public,
        (false, false, true) => Kind::Private,
        (false, false, false) => Kind::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addresses: &[&str], private: &[&str], want: Option<&str>) {
        let private: Vec<Netblock> = private.iter().map(|net| net.parse().expect("a network")).collect();
        for address in addresses {
            let why = refusal(address.parse().expect("an address"), &private);
            let word = why.map(|why| if why.starts_with("a private") { "private" } else { "never" });
            assert_eq!(word, want, "{address} with {private:?}");
        }
    }

    #[test]
    fn the_internet_is_reached_and_nothing_else() {
        check(&["203.0.113.7", "8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"], &[], None);
        let inner = [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.1",
            "::1",
            "fd12::1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
        ];
        check(&inner, &[], Some("private"));
        check(&inner[..4], &["11.0.0.0/8", "::/0"], Some("private"));
    }

    #[test]
    fn the_operator_opens_private_networks_one_by_one() {
        check(&["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203"], &["10.1.0.0/16"], None);
        check(&["10.2.0.1", "127.0.0.1", "fd00::1"], &["10.1.0.0/16"], Some("private"));
        check(&["127.0.0.1", "fd00::1", "::1"], &["127.0.0.0/8", "fd00::/8", "::1"], None);
    }

    #[test]
    fn nothing_opens_the_way_to_what_clouds_tell_their_machines() {
        let never = [
            "169.254.169.254",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::169.254.169.254",
            "fec0::1",
        ];
        check(&never, &["0.0.0.0/0", "::/0"], Some("never"));
    }
}
