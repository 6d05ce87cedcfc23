//! The PROXY protocol's header, version 2, by which a load balancer says whose connection it passes on
//! (haproxy.org, `proxy-protocol.txt`, section 2.2).
//!
//! ```text
//! 0            12     13       14       16
//! │ signature  │ 2|cmd│ family │ length │ source, destination, their ports │ TLVs … │
//!   \r\n\r\n\0\r\nQUIT\n          │       └──────────────── length ──────────────────┘
//!                cmd 0: LOCAL, 1: PROXY; family 0x11: TCP over IPv4, 0x21: over IPv6
//! ```
//! Whoever may write this header may say that he is anybody: who is believed is the caller's to know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What every header of version 2 begins with.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header that is read; proxies that say what they know of the client's TLS session stay below a kibibyte.
pub const HEADER_BYTES_MAX: usize = 4 << 10;

/// Signature, command, family and length.
const FIXED: usize = 16;

/// A header, read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The connection is passed on for this address.
    Proxied {
        /// The client's address.
        source: IpAddr,
        /// Bytes of the header; the client's own follow.
        length: usize,
    },
    /// The proxy speaks for itself, to see whether anybody is there.
    Local {
        /// Bytes of the header.
        length: usize,
    },
}

/// Why a connection that must begin with a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It begins with something else.
    Missing,
    /// Another version than 2, or a command that this version does not have.
    Command,
    /// It does not say for which TCP address.
    Family,
    /// It is longer than [`HEADER_BYTES_MAX`], or shorter than its addresses.
    Length,
    /// What follows the addresses is not a list of TLVs.
    Tlv,
}

/// Reads the beginning of a connection; nothing as long as there is too little of it.
///
/// # Errors
/// As soon as it cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Err(Malformed::Missing);
    }
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else { return Ok(None) };
    let proxied = match fixed[12] {
        0x20 => false,
        0x21 => true,
        _ => return Err(Malformed::Command),
    };
    let announced = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let length = FIXED + announced;
    if length > HEADER_BYTES_MAX {
        return Err(Malformed::Length);
    }
    if proxied && !matches!(fixed[13], 0x11 | 0x21) {
        return Err(Malformed::Family);
    }
    let Some(body) = rest.get(..announced) else { return Ok(None) };
    if !proxied {
        // What it says of addresses is to be passed over.
        return Ok(Some(Header::Local { length }));
    }
    let (source, tlvs) = if fixed[13] == 0x11 { ipv4(body) } else { ipv6(body) }.ok_or(Malformed::Length)?;
    if !are_tlvs(tlvs) {
        return Err(Malformed::Tlv);
    }
    Ok(Some(Header::Proxied { source: source.to_canonical(), length }))
}

/// The source among two addresses and two ports, and what follows them.
fn ipv4(body: &[u8]) -> Option<(IpAddr, &[u8])> {
    let (addresses, tlvs) = body.split_at_checked(12)?;
    let source = Ipv4Addr::from(*addresses.first_chunk::<4>()?);
    Some((source.into(), tlvs))
}

fn ipv6(body: &[u8]) -> Option<(IpAddr, &[u8])> {
    let (addresses, tlvs) = body.split_at_checked(36)?;
    let source = Ipv6Addr::from(*addresses.first_chunk::<16>()?);
    Some((source.into(), tlvs))
}

/// Whether this is a list of type (a byte), length (two) and value. What they say is passed over.
fn are_tlvs(mut rest: &[u8]) -> bool {
    while let [_, high, low, after @ ..] = rest {
        let Some((_, next)) = after.split_at_checked(usize::from(u16::from_be_bytes([*high, *low]))) else {
            return false;
        };
        rest = next;
    }
    rest.is_empty()
}

/// What must hold of any bytes; for tests and fuzzing.
///
/// # Panics
/// If it does not hold.
pub fn exercise(bytes: &[u8]) {
    let whole = parse(bytes);
    if let Ok(Some(Header::Proxied { length, .. } | Header::Local { length })) = whole {
        assert!((FIXED..=HEADER_BYTES_MAX.min(bytes.len())).contains(&length), "{length} of {}", bytes.len());
        assert_eq!(parse(&bytes[..length]), whole, "what follows a header changes nothing");
        assert_eq!(parse(&bytes[..length - 1]), Ok(None), "a header without its last byte is none yet");
    }
    for end in 0..bytes.len().min(HEADER_BYTES_MAX) {
        match parse(&bytes[..end]) {
            Ok(None) => {}
            early => assert_eq!(early, whole, "what was decided after {end} bytes stays so"),
        }
    }
    if bytes.len() >= HEADER_BYTES_MAX {
        assert_ne!(whole, Ok(None), "nobody is waited for beyond the longest header");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    const V4: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0x30, 0x39, 0x07, 0xd3];

    fn source(bytes: &[u8]) -> Result<Option<String>, Malformed> {
        exercise(bytes);
        let header = parse(bytes)?;
        Ok(header.map(|header| match header {
            Header::Proxied { source, .. } => source.to_string(),
            Header::Local { .. } => "local".to_owned(),
        }))
    }

    #[test]
    fn addresses_are_read_and_what_follows_is_the_clients() {
        let mut bytes = header(0x21, 0x11, &V4);
        let length = bytes.len();
        bytes.extend(b"a.b 1 2\n");
        assert_eq!(source(&bytes), Ok(Some("203.0.113.7".to_owned())));
        assert_eq!(parse(&bytes), Ok(Some(Header::Proxied { source: [203, 0, 113, 7].into(), length })));
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        v6[15] = 1;
        assert_eq!(source(&header(0x21, 0x21, &v6)), Ok(Some("2001:db8::1".to_owned())));
        let mut mapped = [0; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 203, 0, 113, 7]);
        assert_eq!(source(&header(0x21, 0x21, &mapped)), Ok(Some("203.0.113.7".to_owned())));
        let tlvs = [&V4[..], &[0x02, 0, 3, b'a', b'b', b'c', 0x04, 0, 0]].concat();
        assert_eq!(source(&header(0x21, 0x11, &tlvs)), Ok(Some("203.0.113.7".to_owned())));
        assert_eq!(source(&header(0x20, 0x00, &[])), Ok(Some("local".to_owned())));
        assert_eq!(source(&header(0x20, 0x11, &V4)), Ok(Some("local".to_owned())));
    }

    #[test]
    fn all_else_is_refused() {
        for (bytes, why) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\n".to_vec(), Malformed::Missing),
            (b"a.b 1 2\n".to_vec(), Malformed::Missing),
            (header(0x11, 0x11, &V4), Malformed::Command),
            (header(0x22, 0x11, &V4), Malformed::Command),
            (header(0x21, 0x00, &V4), Malformed::Family),
            (header(0x21, 0x12, &V4), Malformed::Family),
            (header(0x21, 0x31, &[0; 216]), Malformed::Family),
            (header(0x21, 0x11, &V4[..11]), Malformed::Length),
            (header(0x21, 0x21, &V4), Malformed::Length),
            (header(0x20, 0x00, &[0; HEADER_BYTES_MAX]), Malformed::Length),
            (header(0x21, 0x11, &[&V4[..], &[4, 0]].concat()), Malformed::Tlv),
            (header(0x21, 0x11, &[&V4[..], &[4, 0, 2, 1]].concat()), Malformed::Tlv),
        ] {
            assert_eq!(source(&bytes), Err(why), "{bytes:?}");
        }
        assert_eq!(source(b""), Ok(None));
        assert_eq!(source(&SIGNATURE), Ok(None));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_behind_a_signature(
            command in 0x1f_u8..0x23, family in 0_u8..0x32, length in 0_u16..300,
            rest in proptest::collection::vec(proptest::num::u8::ANY, 0..320),
        ) {
            let length = length.to_be_bytes();
            exercise(&[&SIGNATURE[..], &[command, family], &length, &rest].concat());
        }
    }
}
