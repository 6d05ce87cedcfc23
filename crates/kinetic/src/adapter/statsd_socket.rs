//! The agent's ears: statsd over UDP and over a Unix datagram socket.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::net::{UdpSocket, UnixDatagram};

/// Largest datagram that is read; an IPv4 UDP payload cannot be larger than 65,507 bytes.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 65_536;

/// A statsd listener.
#[derive(Debug)]
pub(crate) enum StatsdSocket {
    /// UDP.
    Udp(UdpSocket),
    /// Unix datagrams; the socket file goes when this does.
    Unix(UnixDatagram, #[expect(dead_code, reason = "it is there to be dropped")] SocketFile),
}

/// A socket file, removed on drop.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "cannot remove the socket file");
        }
    }
}

impl StatsdSocket {
    /// Listens for UDP datagrams.
    pub(crate) async fn udp(address: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(address).await.with_context(|| {
            format!("cannot listen for statsd on udp {address}: is another statsd running there?")
        })?;
        Ok(Self::Udp(socket))
    }

    /// Listens for Unix datagrams; a socket file left behind by a crash is replaced.
    pub(crate) fn unix(path: &Path) -> Result<Self> {
        if path.exists() {
            let live =
                std::os::unix::net::UnixDatagram::unbound().and_then(|socket| socket.connect(path)).is_ok();
            anyhow::ensure!(!live, "another process listens on {}", path.display());
            std::fs::remove_file(path)
                .with_context(|| format!("cannot replace the socket file {}", path.display()))?;
        }
        let socket =
            UnixDatagram::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
        Ok(Self::Unix(socket, SocketFile(path.to_owned())))
    }

    /// The bound UDP address.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// Waits until a datagram is there.
    pub(crate) async fn readable(&self) -> std::io::Result<()> {
        match self {
            Self::Udp(socket) => socket.readable().await,
            Self::Unix(socket, _) => socket.readable().await,
        }
    }

    /// One datagram that is already there.
    pub(crate) fn try_recv(&self, buffer: &mut [u8]) -> Option<usize> {
        match self {
            Self::Udp(socket) => socket.try_recv(buffer).ok(),
            Self::Unix(socket, _) => socket.try_recv(buffer).ok(),
        }
    }
}
