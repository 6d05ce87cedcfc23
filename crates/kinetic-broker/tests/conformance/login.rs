//! Logging in, permissions, and frames that no client library would send.

use crate::checks;
use crate::common::World;
use crate::common::kit::*;
use crate::common::raw::*;
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties, ExchangeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
