//! Logging in, permissions, and frames that no client library would send.

use crate::checks;
use crate::common::World;
use crate::kit::*;
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties, ExchangeKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) fn checks() -> Vec<Check> {
    checks![
        wrong_password_is_403,
        unknown_vhost_is_530,
        vhost_without_permission_is_530,
        customer_permissions,
        update_secret_is_fine,
        wrong_header_gets_ours,
        second_channel_open_is_504,
        method_on_unopened_channel_is_504,
        header_without_publish_is_505,
        body_without_header_is_505,
        method_amid_content_is_505,
        bad_frame_end_is_501,
        too_large_frame_is_501,
        closing_a_channel_twice,
        frame_max_out_of_range_is_530,
    ]
}

async fn refused_login(uri: String) -> u16 {
    code(Connection::connect(&uri, ConnectionProperties::default()).await.map(|_| ()))
}

async fn wrong_password_is_403(world: World) {
    let uri = world.uri("admin").replace("admin-secret", "wrong");
    assert_eq!(refused_login(uri).await, 403);
    assert_eq!(refused_login(world.uri("nobody")).await, 403);
}

async fn unknown_vhost_is_530(world: World) {
    assert_eq!(refused_login(world.uri_at("admin", "nowhere")).await, 530);
}

async fn vhost_without_permission_is_530(world: World) {
    assert_eq!(refused_login(world.uri_at("admin", "empty")).await, 530);
}

async fn customer_permissions(world: World) {
    let admin = link(&world).await;
    let kind = ExchangeKind::Topic;
    admin
        .channel
        .exchange_declare("in.acme".into(), kind, Default::default(), FieldTable::default())
        .await
        .expect("declares");
    let customer = || link_as(&world, "customer");
    let link = customer().await;
    link.confirm_mode().await;
    link.send("in.acme", "web.01", "m").await;
    let denied = |result: Result<(), lapin::Error>| assert_eq!(code(result), 403);
    denied(link.send_with("amq.topic", "k", "m", false, BasicProperties::default()).await.map(drop));
    let link = customer().await;
    link.confirm_mode().await;
    denied(link.send_with("", "q", "m", false, BasicProperties::default()).await.map(drop));
    let link = customer().await;
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    denied(link.declare("", exclusive, FieldTable::default()).await.map(drop));
    let link = customer().await;
    let kind = ExchangeKind::Topic;
    denied(
        link.channel
            .exchange_declare("in.acme".into(), kind, Default::default(), FieldTable::default())
            .await,
    );
    let link = customer().await;
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let kind = ExchangeKind::Topic;
    link.channel
        .exchange_declare("in.acme".into(), kind, passive, FieldTable::default())
        .await
        .expect("passive is free");
    denied(link.channel.exchange_delete("in.acme".into(), Default::default()).await);
    let q = admin.queue(FieldTable::default()).await;
    for attempt in 0..3 {
        let link = customer().await;
        let args = FieldTable::default();
        denied(match attempt {
            0 => link.channel.basic_get(q.as_str().into(), Default::default()).await.map(drop),
            1 => {
                link.channel
                    .queue_bind(q.as_str().into(), "in.acme".into(), "#".into(), Default::default(), args)
                    .await
            }
            _ => {
                let source = "amq.topic".into();
                link.channel
                    .exchange_bind("in.acme".into(), source, "#".into(), Default::default(), args)
                    .await
            }
        });
    }
    admin.channel.exchange_delete("in.acme".into(), Default::default()).await.expect("deletes");
}

async fn update_secret_is_fine(world: World) {
    let link = link(&world).await;
    let update = link.connection.update_secret("admin-secret".into(), "rotation".into());
    match world.handle {
        Some(_) => update.await.expect("fine"),
        // RabbitMQ 3.10 leaves this to its backends; with the internal one the connection may end.
        None => drop(update),
    }
}

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
    let mut raw = raw_connect(world).await;
    raw.stream.write_all(b"AMQP\0\0\x09\x01").await.expect("writes");
    raw.expect([0, 10, 0, 10]).await;
    let mut payload = vec![0, 10, 0, 11, 0, 0, 0, 0, 5];
    payload.extend(b"PLAIN");
    let response = b"\0admin\0admin-secret";
    payload.extend(u32::try_from(response.len()).expect("small").to_be_bytes());
    payload.extend(response);
    payload.extend(b"\x05en_US");
    raw.method(0, &payload).await;
    raw.expect([0, 10, 0, 30]).await;
    raw
}

/// A connection without heartbeats and with channel 1 open.
pub(crate) async fn raw_session(world: &World) -> Raw {
    let mut raw = raw_login(world).await;
    raw.method(0, &[0, 10, 0, 31, 0, 100, 0, 2, 0, 0, 0, 0]).await;
    raw.method(0, &[0, 10, 0, 40, 1, b'/', 0, 0]).await;
    raw.expect([0, 10, 0, 41]).await;
    raw.method(1, &[0, 20, 0, 10, 0]).await;
    raw.expect([0, 20, 0, 11]).await;
    raw
}

/// `basic.publish` to the default exchange with key `k`.
pub(crate) const PUBLISH: [u8; 10] = [0, 60, 0, 40, 0, 0, 0, 1, b'k', 0];

async fn wrong_header_gets_ours(world: World) {
    for header in [&b"AMQP\x01\x01\0\x0a"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut raw = raw_connect(&world).await;
        raw.stream.write_all(header).await.expect("writes");
        let mut answer = Vec::new();
        // The rest of what was sent may still lie unread, and then the socket ends with a reset.
        let _end = raw.stream.read_to_end(&mut answer).await.is_ok();
        assert_eq!(answer, b"AMQP\0\0\x09\x01");
    }
}

async fn second_channel_open_is_504(world: World) {
    let mut raw = raw_session(&world).await;
    raw.method(1, &[0, 20, 0, 10, 0]).await;
    assert_eq!(raw.close_code().await, 504);
}

async fn method_on_unopened_channel_is_504(world: World) {
    let mut raw = raw_session(&world).await;
    raw.method(7, &[0, 60, 0, 10, 0, 0, 0, 0, 0, 1, 0]).await;
    assert_eq!(raw.close_code().await, 504);
}

const HEADER: [u8; 14] = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];

async fn header_without_publish_is_505(world: World) {
    let mut raw = raw_session(&world).await;
    raw.frame(2, 1, &HEADER).await;
    assert_eq!(raw.close_code().await, 505);
}

async fn body_without_header_is_505(world: World) {
    let mut raw = raw_session(&world).await;
    raw.method(1, &PUBLISH).await;
    raw.frame(3, 1, b"x").await;
    assert_eq!(raw.close_code().await, 505);
}

async fn method_amid_content_is_505(world: World) {
    let mut raw = raw_session(&world).await;
    raw.method(1, &PUBLISH).await;
    raw.method(1, &PUBLISH).await;
    assert_eq!(raw.close_code().await, 505);
}

async fn bad_frame_end_is_501(world: World) {
    let mut raw = raw_session(&world).await;
    raw.stream.write_all(&[1, 0, 1, 0, 0, 0, 1, 0, 99]).await.expect("writes");
    assert_eq!(raw.close_code().await, 501);
}

async fn too_large_frame_is_501(world: World) {
    let mut raw = raw_session(&world).await;
    raw.stream.write_all(&[3, 0, 1, 0, 2, 0, 1]).await.expect("writes");
    raw.stream.write_all(&vec![0; 1000]).await.expect("writes");
    assert_eq!(raw.close_code().await, 501);
}

async fn closing_a_channel_twice(world: World) {
    let mut raw = raw_session(&world).await;
    let close = [0, 20, 0, 40, 0, 200, 0, 0, 0, 0, 0];
    raw.method(1, &close).await;
    raw.expect([0, 20, 0, 41]).await;
    raw.method(1, &[0, 20, 0, 10, 0]).await;
    raw.expect([0, 20, 0, 11]).await;
    // A refused channel: frames on it are ignored until close-ok, then it opens again.
    raw.method(1, &[0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 9, 0]).await;
    assert_eq!(raw.close_code().await, 406);
    raw.method(1, &PUBLISH).await;
    raw.frame(2, 1, &HEADER).await;
    raw.frame(3, 1, b"x").await;
    raw.method(1, &[0, 20, 0, 41]).await;
    raw.method(1, &[0, 20, 0, 10, 0]).await;
    raw.expect([0, 20, 0, 11]).await;
}

async fn frame_max_out_of_range_is_530(world: World) {
    for frame_max in [0u32, 100, 1 << 20] {
        let mut raw = raw_login(&world).await;
        let mut payload = vec![0, 10, 0, 31, 0, 100];
        payload.extend(frame_max.to_be_bytes());
        payload.extend([0, 0]);
        raw.method(0, &payload).await;
        // RabbitMQ 3.10 waits three seconds and hangs up without a word.
        let expect = if world.handle.is_some() { 530 } else { 0 };
        assert_eq!(raw.close_code().await, expect, "{frame_max}");
    }
}
