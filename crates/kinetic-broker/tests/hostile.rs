//! Clients that are broken, slow or hostile, and what the owner of a broker does to them. None of them may cost
//! another connection anything.

#[path = "common/mod.rs"]
mod common;

use common::kit::*;
use common::raw::{PUBLISH, raw_connect, raw_login, raw_session};
use common::{World, access, embedded, embedded_with, eventually};
use kinetic_broker::{BrokerConfig, Credential, Names, Password, Stats};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation};
use proptest::prelude::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn stats(world: &World) -> Stats {
    world.handle.as_ref().expect("embedded").stats()
}

/// A round trip over a fresh connection.
async fn alive(world: &World) {
    let link = link(world).await;
    link.confirm_mode().await;
    let q = link.queue(FieldTable::default()).await;
    link.send("", &q, "alive").await;
    assert_eq!(body(&link.take(&q).await.expect("one")), "alive");
    link.connection.close(200, "".into()).await.expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_frames_cost_one_connection_each() {
    let world = embedded().await;
    let witness = link(&world).await;
    let q = witness.queue(FieldTable::default()).await;
    let deep = {
        let mut table: Vec<u8> = Vec::new();
        for _ in 0..18_000 {
            let mut outer = vec![1, b'k', b'F'];
            outer.extend(u32::try_from(table.len()).expect("small").to_be_bytes());
            outer.append(&mut table);
            table = outer;
        }
        let mut payload = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
        payload.extend(u32::try_from(table.len()).expect("small").to_be_bytes());
        payload.append(&mut table);
        payload
    };
    for payload in [&[0, 60, 0, 40, 9][..], &[0, 50, 0, 10, 0, 0, 200, 1], &[0], &deep, &[0, 60, 0, 80]] {
        let mut raw = raw_session(&world).await;
        raw.method(1, payload).await;
        assert_eq!(raw.close_code().await, 502);
    }
    let mut raw = raw_session(&world).await;
    raw.stream.write_all(&[77]).await.expect("writes");
    assert_eq!(raw.close_code().await, 501);
    assert_eq!(stats(&world).malformed_frames, 6);
    witness.confirm_mode().await;
    witness.send("", &q, "m").await;
    assert_eq!(witness.depth(&q).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_longer_than_its_header_is_501() {
    let world = embedded().await;
    let mut raw = raw_session(&world).await;
    raw.method(1, &PUBLISH).await;
    raw.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]).await;
    raw.frame(3, 1, b"xy").await;
    assert_eq!(raw.close_code().await, 501);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_size_above_the_bound_is_406_before_any_byte() {
    let world = embedded_with(BrokerConfig { message_bytes_max: 1000, ..BrokerConfig::default() }).await;
    let mut raw = raw_session(&world).await;
    raw.method(1, &PUBLISH).await;
    raw.frame(2, 1, &[0, 60, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]).await;
    assert_eq!(raw.close_code().await, 406);
    alive(&world).await;
}

/// Arguments are long strings, routing keys short ones: a key that is too long must not come to the writer.
#[tokio::test(flavor = "multi_thread")]
async fn names_in_arguments_are_bounded() {
    let world = embedded().await;
    for (length, fine) in [(255, true), (256, false)] {
        let link = link(&world).await;
        let key = text(&"k".repeat(length));
        let args = table([
            ("x-dead-letter-exchange", text("amq.fanout")),
            ("x-dead-letter-routing-key", key),
            ("x-message-ttl", AMQPValue::LongInt(1)),
        ]);
        let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let declared = link.declare("", exclusive, args).await;
        if !fine {
            assert_eq!(code(declared), 406);
            continue;
        }
        let grave = link.queue(FieldTable::default()).await;
        link.bind(&grave, "amq.fanout", "").await;
        link.confirm_mode().await;
        link.send("", &declared.expect("declares"), "m").await;
        link.until_depth(&grave, 1).await;
        assert_eq!(link.take(&grave).await.expect("one").routing_key.as_str().len(), length);
    }
}

/// A consumer's socket dies while deliveries wait to be written: they go back.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_socket_gives_its_deliveries_back() {
    let world = embedded().await;
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = name("q");
    link.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    let big = "x".repeat(100_000);
    for _ in 0..100 {
        link.send("", &q, &big).await;
    }
    let mut raw = raw_session(&world).await;
    let consume = [
        &[0, 60, 0, 20, 0, 0, u8::try_from(q.len()).expect("short")][..],
        q.as_bytes(),
        &[1, b'c', 0, 0, 0, 0, 0],
    ];
    raw.method(1, &consume.concat()).await;
    raw.expect([0, 60, 0, 21]).await;
    eventually("deliveries wait", || stats(&world).messages_unacked > 10).await;
    drop(raw);
    link.until_depth(&q, 100).await;
    let left = stats(&world);
    assert_eq!((left.messages_unacked, left.consumers, left.connections), (0, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_handshake_ends() {
    let world = embedded_with(BrokerConfig { handshake_ms: 200, ..BrokerConfig::default() }).await;
    for bytes in [&b""[..], b"AMQ", b"AMQP\0\0\x09\x01"] {
        let mut raw = raw_connect(&world).await;
        raw.stream.write_all(bytes).await.expect("writes");
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(3), raw.stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "{bytes:?}");
    }
    assert_eq!(stats(&world).refused.handshake, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_go_out_and_silence_ends() {
    let world = embedded().await;
    let mut raw = raw_login(&world).await;
    raw.method(0, &[0, 10, 0, 31, 0, 100, 0, 2, 0, 0, 0, 1]).await;
    raw.method(0, &[0, 10, 0, 40, 1, b'/', 0, 0]).await;
    raw.expect([0, 10, 0, 41]).await;
    let (mut beats, started) = (0, tokio::time::timeout(Duration::from_secs(6), async {}));
    started.await.expect("now");
    let listen = async {
        while let Some((kind, channel, payload)) = raw.read_frame().await {
            assert_eq!((kind, channel, payload.len()), (8, 0, 0));
            beats += 1;
        }
    };
    tokio::time::timeout(Duration::from_secs(6), listen).await.expect("closed after two missed heartbeats");
    assert!((2..=5).contains(&beats), "{beats} heartbeats in two seconds of one every half");
    assert_eq!(stats(&world).heartbeats_missed, 1);
    assert_eq!(stats(&world).connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_keep_a_quiet_client() {
    let world = embedded().await;
    let uri = world.uri("admin").replace("heartbeat=0", "heartbeat=1");
    let connection =
        lapin::Connection::connect(&uri, lapin::ConnectionProperties::default()).await.expect("connects");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(connection.status().connected());
    assert!(connection.create_channel().await.is_ok());
}

/// A consumer without prefetch that never reads, beside one that does.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_bounded_and_blocks_nobody() {
    let world = embedded().await;
    let link = link(&world).await;
    link.confirm_mode().await;
    let (q, other) = (name("q"), link.queue(FieldTable::default()).await);
    link.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    link.bind(&q, "amq.fanout", "").await;
    link.bind(&other, "amq.fanout", "").await;
    let mut quick = link.consume(&other, true).await;
    let mut raw = raw_session(&world).await;
    let mut consume = vec![0, 60, 0, 20, 0, 0, u8::try_from(q.len()).expect("short")];
    consume.extend(q.as_bytes());
    consume.extend([1, b'c', 2, 0, 0, 0, 0]);
    raw.method(1, &consume).await;
    raw.expect([0, 60, 0, 21]).await;
    let big = "x".repeat(100_000);
    for _ in 0..400 {
        link.send("amq.fanout", "", &big).await;
    }
    for _ in 0..400 {
        assert_eq!(next(&mut quick).await.data.len(), big.len());
    }
    // 40 MB went to the queue: what the sockets and the outbox do not hold has to lie there.
    let depth = link.depth(&q).await;
    assert!(depth > 250, "{depth} left of 400");
    assert!(stats(&world).slow_readers >= 1);
    // It wakes up and gets everything.
    let mut bytes = vec![0; 1 << 20];
    let mut total = 0;
    while total < 400 * big.len() {
        let read = tokio::time::timeout(Duration::from_secs(5), raw.stream.read(&mut bytes)).await;
        total += read.expect("more comes").expect("open");
    }
    link.until_depth(&q, 0).await;
    link.channel.queue_delete(q.as_str().into(), Default::default()).await.expect("deletes");
}

/// Asks for the same large message again and again and never reads an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_only_asks_is_not_read_from() {
    let world = embedded().await;
    let link = link(&world).await;
    link.confirm_mode().await;
    link.declare(
        "big",
        QueueDeclareOptions { auto_delete: true, ..Default::default() },
        FieldTable::default(),
    )
    .await
    .expect("declares");
    let big = "x".repeat(1 << 20);
    for _ in 0..100 {
        link.send("", "big", &big).await;
    }
    let mut raw = raw_session(&world).await;
    for _ in 0..100 {
        raw.method(1, &[0, 60, 0, 70, 0, 0, 3, b'b', b'i', b'g', 1]).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let depth = link.depth("big").await;
    assert!(depth > 80, "only {depth} of 100 left: the answers are held somewhere");
    link.channel.queue_delete("big".into(), Default::default()).await.expect("deletes");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stops_publishers_and_lets_them_go_on() {
    let world = embedded_with(BrokerConfig { memory_bytes_max: 1 << 20, ..BrokerConfig::default() }).await;
    let (publisher, drain) = (link(&world).await, link(&world).await);
    let q = name("q");
    drain.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    let big = "x".repeat(100_000);
    // lapin holds publishes back while it is blocked, so they wait beside the draining.
    let publish = async {
        for _ in 0..100 {
            let publish = publisher.channel.basic_publish(
                "".into(),
                q.as_str().into(),
                BasicPublishOptions::default(),
                big.as_bytes(),
                BasicProperties::default(),
            );
            publish.await.expect("publishes");
        }
    };
    let watch = async {
        eventually("publisher stopped", || stats(&world).publishers_blocked >= 1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let held = stats(&world).bytes_held;
        // One alone may hold a third, and one message more.
        assert!((349_000..500_000).contains(&held), "{held}");
        let mut consumer = drain.consume(&q, true).await;
        for _ in 0..100 {
            next(&mut consumer).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(publish, watch) })
        .await
        .expect("in time");
    eventually("all freed", || stats(&world).bytes_held == 0).await;
}

/// Header tables of many small fields, on many channels, whose bodies never come: they take many times their space when they
/// are parsed, so they are kept as they came.
#[tokio::test(flavor = "multi_thread")]
async fn header_tables_are_not_unfolded() {
    let world = embedded_with(BrokerConfig { memory_bytes_max: 64 << 20, ..BrokerConfig::default() }).await;
    let mut raw = raw_session(&world).await;
    let mut table = Vec::new();
    for n in 0..20_000u32 {
        table.extend([4]);
        table.extend(format!("{n:04x}").as_bytes().iter().take(4));
        table.push(b'V');
    }
    let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x20, 0];
    header.extend(u32::try_from(table.len()).expect("small").to_be_bytes());
    header.extend(&table);
    let before = resident_bytes();
    for channel in 2..=100u16 {
        raw.method(channel, &[0, 20, 0, 10, 0]).await;
        raw.expect([0, 20, 0, 11]).await;
        raw.method(channel, &PUBLISH).await;
        raw.frame(2, channel, &header).await;
    }
    let held = || stats(&world).bytes_held;
    eventually("all are counted", || held() >= 99 * table.len() as u64).await;
    assert!(held() < 110 * table.len() as u64, "{}", held());
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 60 << 20, "{grown} bytes for 12 MB of headers");
    drop(raw);
    eventually("all is free", || held() == 0).await;
}

/// Resident memory of this process.
#[expect(clippy::disallowed_methods, reason = "a test looks at itself")]
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number") * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_end_where_it_was_agreed() {
    let world = embedded().await;
    for most in [0u16, 2_048, 65_535] {
        let mut raw = raw_login(&world).await;
        let [high, low] = most.to_be_bytes();
        raw.method(0, &[0, 10, 0, 31, high, low, 0, 2, 0, 0, 0, 0]).await;
        assert_eq!(raw.close_code().await, 530, "{most}");
    }
    let mut raw = raw_session(&world).await;
    for channel in 2..=100u16 {
        raw.method(channel, &[0, 20, 0, 10, 0]).await;
        raw.expect([0, 20, 0, 11]).await;
    }
    raw.method(65_535, &[0, 20, 0, 10, 0]).await;
    assert_eq!(raw.close_code().await, 530);
    eventually("all are gone", || stats(&world).channels == 0).await;
}

/// Consumers cost a look through them all when one ends.
#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_a_queue_are_bounded() {
    let world = embedded().await;
    let mut raw = raw_session(&world).await;
    raw.method(1, b"\0\x32\0\x0a\0\0\x01q\x04\0\0\0\0").await;
    raw.expect([0, 50, 0, 11]).await;
    let mut frames = Vec::new();
    for n in 0..10_100u32 {
        let channel = if n < 5_000 { [0, 1] } else { [0, 2] };
        let mut payload = b"\0\x3c\0\x14\0\0\x01q\x06".to_vec();
        payload.extend(format!("{n:06}").as_bytes());
        payload.extend([8, 0, 0, 0, 0]);
        frames.push(1);
        frames.extend(channel);
        frames.extend(u32::try_from(payload.len()).expect("small").to_be_bytes());
        frames.extend(payload);
        frames.push(206);
    }
    raw.method(2, &[0, 20, 0, 10, 0]).await;
    raw.expect([0, 20, 0, 11]).await;
    raw.stream.write_all(&frames).await.expect("writes");
    assert_eq!(raw.close_code().await, 406, "10,000 for one queue");
    eventually("those of the other channel stay", || stats(&world).consumers == 5_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_refused_to_customers() {
    let world = embedded().await;
    let admin = link(&world).await;
    let declare = admin.channel.exchange_declare(
        "in.acme".into(),
        lapin::ExchangeKind::Topic,
        Default::default(),
        FieldTable::default(),
    );
    declare.await.expect("declares");
    for header in ["CC", "BCC"] {
        let customer = link_as(&world, "customer").await;
        customer.confirm_mode().await;
        let keys = AMQPValue::FieldArray(vec![text("other.customer")].into());
        let properties = BasicProperties::default().with_headers(table([(header, keys)]));
        assert_eq!(code(customer.send_with("in.acme", "web", "m", false, properties).await.map(|_| ())), 403);
    }
    assert_eq!(stats(&world).refused.access, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn access_changes_reach_open_connections() {
    let world = embedded().await;
    let handle = world.handle.clone().expect("embedded");
    let (admin, customer, server) =
        (link(&world).await, link_as(&world, "customer").await, link_as(&world, "server").await);
    let mut changed = access();
    changed.users.remove("customer");
    let user = changed.users.get_mut("server").expect("there");
    user.permissions.get_mut("/").expect("there").configure = Names::None;
    handle.set_access(changed.clone());
    eventually("customer gone", || !customer.connection.status().connected()).await;
    assert_eq!(code(server.declare("srv.x", Default::default(), FieldTable::default()).await), 403);
    assert!(admin.connection.status().connected() && server.connection.status().connected());
    let new = vec![Credential::Password(Password::Plain("new".into()))];
    changed.users.get_mut("server").expect("there").credentials = new;
    handle.set_access(changed.clone());
    eventually("server gone", || !server.connection.status().connected()).await;
    changed.vhosts.remove("/");
    handle.set_access(changed);
    eventually("everyone gone", || !admin.connection.status().connected()).await;
    eventually("nobody counted", || handle.stats().connections == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_connection_limits() {
    let world = embedded().await;
    let mut limited = access();
    limited.users.get_mut("server").expect("there").limits.connections_max = Some(2);
    world.handle.as_ref().expect("embedded").set_access(limited);
    let (a, _b) = (link_as(&world, "server").await, link_as(&world, "server").await);
    let third = lapin::Connection::connect(&world.uri("server"), Default::default()).await;
    assert_eq!(code(third.map(|_| ())), 530);
    a.connection.close(200, "".into()).await.expect("closes");
    eventually("room again", || stats(&world).connections == 1).await;
    link_as(&world, "server").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_bound_are_closed() {
    let world = embedded_with(BrokerConfig { connections_max: 1, ..BrokerConfig::default() }).await;
    let first = link(&world).await;
    let mut second = raw_connect(&world).await;
    let mut nothing = Vec::new();
    let _end = second.stream.read_to_end(&mut nothing).await.is_ok();
    assert!(nothing.is_empty());
    assert_eq!(stats(&world).refused.connections, 1);
    assert!(first.connection.status().connected());
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_tells_clients_320() {
    let broker = kinetic_broker::Broker::bind(BrokerConfig::default(), access()).await.expect("binds");
    let world = World { address: broker.local_addr(), handle: Some(broker.handle()) };
    let handle = broker.handle();
    #[expect(clippy::disallowed_methods, reason = "awaited below")]
    let running = tokio::spawn(broker.run());
    let mut raw = raw_session(&world).await;
    handle.shutdown();
    assert_eq!(raw.close_code().await, 320);
    raw.method(0, &[0, 10, 0, 51]).await;
    tokio::time::timeout(Duration::from_secs(5), running)
        .await
        .expect("ends in time")
        .expect("without a panic");
    assert!(tokio::net::TcpStream::connect(world.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_add_up() {
    let world = embedded().await;
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = name("q");
    link.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    for _ in 0..10 {
        link.send("", &q, "12345").await;
    }
    assert!(matches!(link.send("", "nowhere", "m").await, Confirmation::Ack(None)));
    let mut consumer = link.consume(&q, false).await;
    let mut last = None;
    for _ in 0..10 {
        last = Some(next(&mut consumer).await);
    }
    let depths = world.handle.as_ref().expect("embedded").queue_depths();
    let depth = &depths[&("/".to_owned(), q.clone())];
    assert_eq!((depth.ready, depth.unacked, depth.consumers), (0, 10, 1));
    last.expect("ten").ack(BasicAckOptions { multiple: true }).await.expect("acks");
    eventually("all acknowledged", || stats(&world).acked == 10).await;
    let s = stats(&world);
    assert_eq!((s.published, s.routed, s.unroutable, s.delivered), (11, 10, 1, 10));
    assert_eq!((s.messages_ready, s.messages_unacked, s.bytes_held), (0, 0, 0));
    assert_eq!((s.connections, s.channels, s.queues, s.consumers), (1, 1, 1, 1));
}

/// Mutates a recorded session byte by byte and sends it whole; the broker must live through all of it.
#[test]
fn mutated_sessions_hurt_nobody() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let world = runtime.block_on(embedded());
    let witness = runtime.block_on(link(&world));
    let q = runtime.block_on(witness.queue(FieldTable::default()));
    runtime.block_on(witness.confirm_mode());
    let session = recorded();
    runtime.block_on(async {
        let mut raw = raw_session(&world).await;
        raw.stream.write_all(&session).await.expect("writes");
        raw.expect_any([0, 50, 0, 41]).await;
    });
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(edits in proptest::collection::vec((0..session.len(), any::<u8>()), 1..6), cut in 0..session.len())| {
        let mut bytes = session.clone();
        for (at, value) in edits {
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - cut / 4);
        runtime.block_on(async {
            let mut raw = raw_session(&world).await;
            raw.stream.write_all(&bytes).await.expect("writes");
            raw.stream.shutdown().await.expect("half closes");
            let mut rest = Vec::new();
            let end = tokio::time::timeout(Duration::from_secs(5), raw.stream.read_to_end(&mut rest)).await;
            assert!(end.is_ok(), "the connection hangs");
        });
        kinetic_broker::fuzz_frames(&bytes);
    });
    runtime.block_on(async {
        witness.send("", &q, "m").await;
        assert_eq!(witness.depth(&q).await, 1);
        alive(&world).await;
    });
    let left = || stats(&world).connections == 1;
    runtime.block_on(eventually("all others are gone", left));
}

/// Frames of a session after `channel.open`: declare, bind, consume, publish with headers, get, settle, delete.
fn recorded() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut frame = |kind: u8, payload: &[u8]| {
        bytes.extend([kind, 0, 1]);
        bytes.extend(u32::try_from(payload.len()).expect("small").to_be_bytes());
        bytes.extend(payload);
        bytes.push(206);
    };
    frame(1, &[0, 85, 0, 10, 0]);
    frame(1, b"\0\x32\0\x0a\0\0\x01q\x10\0\0\0\x12\x0cx-max-lengthI\0\0\0\x09");
    frame(1, b"\0\x32\0\x14\0\0\x01q\x09amq.topic\x03a.#\0\0\0\0\0");
    frame(1, b"\0\x3c\0\x14\0\0\x01q\x01c\0\0\0\0\0");
    for _ in 0..3 {
        frame(1, b"\0\x3c\0\x28\0\0\x09amq.topic\x03a.b\x01");
        frame(2, b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\xa0\0\x04text\0\0\0\x0e\x01kF\0\0\0\x07\x01vI\0\0\0\x05");
        frame(3, b"hello");
        frame(1, b"\0\x3c\0\x28\0\0\x09amq.topic\x03a.b\x01");
        frame(2, b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\x80\0\x04text");
        frame(3, b"hello");
    }
    frame(1, b"\0\x3c\0\x50\0\0\0\0\0\0\0\x01\x01");
    frame(1, b"\0\x3c\0\x78\0\0\0\0\0\0\0\x02\x02");
    frame(1, b"\0\x3c\0\x46\0\0\x01q\0");
    frame(1, b"\0\x32\0\x28\0\0\x01q\0");
    bytes
}
