//! Sockets that speak from a chosen address: on Linux all of 127.0.0.0/8 is this machine.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// How long a peer may take to answer or to close.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that comes from an address.
///
/// # Errors
/// Where there is none to be had.
pub fn tcp_from(source: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = crate::amqp::runtime().block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(address(source), 0))?;
        socket.connect(to).await?.into_std()
    })?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// A datagram socket that sends from an address.
///
/// # Panics
/// If the address is not this machine's.
#[must_use]
pub fn udp_from(source: &str) -> UdpSocket {
    UdpSocket::bind(SocketAddr::new(address(source), 0)).expect("an address of this machine")
}

/// The header by which a proxy says for whom it speaks (PROXY protocol, version 2, TCP over IPv4).
///
/// # Panics
/// If the source is no IPv4 address.
#[must_use]
pub fn proxy_header(source: &str) -> Vec<u8> {
    let IpAddr::V4(source) = address(source) else { panic!("{source} is not an IPv4 address") };
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(source.octets());
    header.extend([127, 0, 0, 1, 0x9c, 0x40, 0x07, 0xd3]);
    header
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
