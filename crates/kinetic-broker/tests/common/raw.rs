//! A client that writes frames as it is told, and reads what comes.

use super::World;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client that writes whatever it is told.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
}

impl Raw {
    pub(crate) async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let mut bytes = vec![kind];
        bytes.extend(channel.to_be_bytes());
        bytes.extend(u32::try_from(payload.len()).expect("small").to_be_bytes());
        bytes.extend(payload);
        bytes.push(206);
        self.stream.write_all(&bytes).await.expect("writes");
    }

    pub(crate) async fn method(&mut self, channel: u16, payload: &[u8]) {
        self.frame(1, channel, payload).await;
    }

    pub(crate) async fn read_frame(&mut self) -> Option<(u8, u16, Vec<u8>)> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).await.ok()?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; usize::try_from(size).expect("small") + 1];
        self.stream.read_exact(&mut payload).await.ok()?;
        assert_eq!(payload.pop(), Some(206));
        Some((head[0], u16::from_be_bytes([head[1], head[2]]), payload))
    }

    /// Reads until a method of these ids; what follows them.
    pub(crate) async fn expect(&mut self, ids: [u8; 4]) -> Vec<u8> {
        let wait = async {
            loop {
                let (kind, _, payload) = self.read_frame().await.expect("open");
                if kind == 1 && payload.starts_with(&ids) {
                    return payload[4..].to_vec();
                }
                assert!(kind == 8, "unexpected {kind} {payload:?}");
            }
        };
        tokio::time::timeout(Duration::from_secs(5), wait).await.expect("in time")
    }

    /// Reads until a method of these ids, whatever comes before, unless something is closed.
    pub(crate) async fn expect_any(&mut self, ids: [u8; 4]) {
        let wait = async {
            while let Some((kind, _, payload)) = self.read_frame().await {
                let closes = payload.starts_with(&[0, 10, 0, 50]) || payload.starts_with(&[0, 20, 0, 40]);
                assert!(!(kind == 1 && closes), "{}", String::from_utf8_lossy(&payload));
                if kind == 1 && payload.starts_with(&ids) {
                    return;
                }
            }
            panic!("the connection ended");
        };
        tokio::time::timeout(Duration::from_secs(5), wait).await.expect("in time");
    }

    /// The reply code of the `connection.close` or `channel.close` that comes next; 0 when the socket just closes.
    pub(crate) async fn close_code(&mut self) -> u16 {
        let wait = async {
            while let Some((kind, _, payload)) = self.read_frame().await {
                if kind == 1 && (payload.starts_with(&[0, 10, 0, 50]) || payload.starts_with(&[0, 20, 0, 40]))
                {
                    return u16::from_be_bytes([payload[4], payload[5]]);
                }
            }
            0
        };
        tokio::time::timeout(Duration::from_secs(5), wait).await.expect("in time")
    }
}

pub(crate) async fn raw_connect(world: &World) -> Raw {
    Raw { stream: TcpStream::connect(world.address).await.expect("connects") }
}

/// Through the handshake up to `connection.tune`.
pub(crate) async fn raw_login(world: &World) -> Raw {
    raw_login_as(world, "admin").await
}

async fn raw_login_as(world: &World, user: &str) -> Raw {
    let mut raw = raw_connect(world).await;
    raw.stream.write_all(b"AMQP\0\0\x09\x01").await.expect("writes");
    raw.expect([0, 10, 0, 10]).await;
    let mut payload = vec![0, 10, 0, 11, 0, 0, 0, 0, 5];
    payload.extend(b"PLAIN");
    let response = format!("\0{user}\0{user}-secret");
    payload.extend(u32::try_from(response.len()).expect("small").to_be_bytes());
    payload.extend(response.as_bytes());
    payload.extend(b"\x05en_US");
    raw.method(0, &payload).await;
    raw.expect([0, 10, 0, 30]).await;
    raw
}

/// A connection without heartbeats and with channel 1 open.
pub(crate) async fn raw_session(world: &World) -> Raw {
    raw_session_as(world, "admin").await
}

/// The same as another user.
pub(crate) async fn raw_session_as(world: &World, user: &str) -> Raw {
    let mut raw = raw_login_as(world, user).await;
    raw.method(0, &[0, 10, 0, 31, 0, 100, 0, 2, 0, 0, 0, 0]).await;
    raw.method(0, &[0, 10, 0, 40, 1, b'/', 0, 0]).await;
    raw.expect([0, 10, 0, 41]).await;
    raw.method(1, &[0, 20, 0, 10, 0]).await;
    raw.expect([0, 20, 0, 11]).await;
    raw
}

/// `basic.publish` to the default exchange with key `k`.
pub(crate) const PUBLISH: [u8; 10] = [0, 60, 0, 40, 0, 0, 0, 1, b'k', 0];

/// A content header that announces one byte.
pub(crate) const HEADER: [u8; 14] = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
