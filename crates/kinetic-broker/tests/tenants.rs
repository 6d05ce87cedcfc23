//! Users who don't trust each other on one broker: what one of them does, another neither sees nor suffers.

#[path = "common/mod.rs"]
mod common;

use common::kit::*;
use common::raw::{Raw, raw_session, raw_session_as};
use common::{World, access, embedded, embedded_with, eventually};
use kinetic_broker::{Access, BrokerConfig, BrokerHandle, OwnerStats, User, UserLimits};
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};
use std::time::Duration;

fn handle(world: &World) -> &BrokerHandle {
    world.handle.as_ref().expect("embedded")
}

fn owner(world: &World, owner: &str) -> OwnerStats {
    handle(world).owners().get(owner).copied().unwrap_or_default()
}

/// [`access`] with something changed about one user.
fn changed(name: &str, change: impl FnOnce(&mut User)) -> Access {
    let mut access = access();
    change(access.users.get_mut(name).expect("there"));
    access
}

async fn ingress(world: &World) -> Link {
    let admin = link(world).await;
    let args = FieldTable::default();
    let declare =
        admin.channel.exchange_declare("in.acme".into(), ExchangeKind::Topic, Default::default(), args);
    declare.await.expect("declares");
    admin
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_told_to_those_who_have_a_right_on_it() {
    let world = embedded().await;
    let admin = ingress(&world).await;
    let q = name("src.other");
    admin.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    for queue in [q.as_str(), "nowhere"] {
        let customer = link_as(&world, "customer").await;
        assert_eq!(code(customer.declare(queue, passive, FieldTable::default()).await), 403, "{queue}");
    }
    for (exchange, expect) in [("amq.topic", 403), ("nowhere", 403), ("in.acme", 0)] {
        let customer = link_as(&world, "customer").await;
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let kind = ExchangeKind::Topic;
        let declared =
            customer.channel.exchange_declare(exchange.into(), kind, passive, FieldTable::default()).await;
        assert_eq!(declared.map_or_else(|error| code::<()>(Err(error)), |()| 0), expect, "{exchange}");
    }
    let server = link_as(&world, "server").await;
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    server.declare("srv.own", exclusive, FieldTable::default()).await.expect("declares");
    assert_eq!(server.depth("srv.own").await, 0);
    assert_eq!(owner(&world, "customer").refused.access, 4);
    assert_eq!(owner(&world, "admin").refused.total(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_queue_is_closed_to_everything() {
    let world = embedded().await;
    let admin = ingress(&world).await;
    let q = name("src.other");
    admin.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    for attempt in 0..6 {
        let customer = link_as(&world, "customer").await;
        let (channel, q, args) = (&customer.channel, q.as_str().into(), FieldTable::default());
        let result = match attempt {
            0 => channel.basic_get(q, Default::default()).await.map(drop),
            1 => channel.basic_consume(q, "".into(), Default::default(), args).await.map(drop),
            2 => channel.queue_purge(q, Default::default()).await.map(drop),
            3 => channel.queue_delete(q, Default::default()).await.map(drop),
            4 => channel.queue_bind(q, "in.acme".into(), "#".into(), Default::default(), args).await,
            _ => channel.queue_unbind(q, "in.acme".into(), "#".into(), args).await,
        };
        assert_eq!(code(result), 403, "{attempt}");
    }
    // A right on its name does not open another connection's exclusive queue.
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    admin.declare("srv.mine", exclusive, FieldTable::default()).await.expect("declares");
    for attempt in 0..3 {
        let server = link_as(&world, "server").await;
        let channel = &server.channel;
        let result = match attempt {
            0 => channel.basic_get("srv.mine".into(), Default::default()).await.map(drop),
            1 => channel.queue_purge("srv.mine".into(), Default::default()).await.map(drop),
            _ => channel.queue_delete("srv.mine".into(), Default::default()).await.map(drop),
        };
        assert_eq!(code(result), 405, "{attempt}");
    }
}

/// An alternate exchange, a dead-letter exchange and a binding between exchanges carry messages on: they need read on what
/// they leave and write on where they go.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_led_to_where_its_user_may_not_write() {
    let world = embedded().await;
    let _admin = ingress(&world).await;
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    for (target, fine) in [("srv.target", true), ("in.acme", false)] {
        let server = link_as(&world, "server").await;
        let args = table([("alternate-exchange", text(target))]);
        let x = name("srv.x");
        let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
        let declared =
            server.channel.exchange_declare(x.as_str().into(), ExchangeKind::Fanout, options, args).await;
        assert_eq!(declared.is_ok(), fine, "alternate {target}");
        let server = link_as(&world, "server").await;
        let args = table([("x-dead-letter-exchange", text(target))]);
        let declared = server.declare(&name("srv.q"), exclusive, args).await;
        assert_eq!(declared.is_ok(), fine, "dead letters to {target}");
    }
    for (source, destination, fine) in
        [("srv.a", "srv.b", true), ("srv.a", "in.acme", false), ("in.acme", "srv.a", false)]
    {
        let server = link_as(&world, "server").await;
        for x in ["srv.a", "srv.b"] {
            let args = FieldTable::default();
            let declare =
                server.channel.exchange_declare(x.into(), ExchangeKind::Fanout, Default::default(), args);
            declare.await.expect("declares");
        }
        let (to, from, args) = (destination.into(), source.into(), FieldTable::default());
        let bound = server.channel.exchange_bind(to, from, "".into(), Default::default(), args).await;
        assert_eq!(bound.map_or_else(|error| code::<()>(Err(error)), |()| 0), if fine { 0 } else { 403 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_in_anothers_name() {
    let world = embedded().await;
    let _admin = ingress(&world).await;
    let customer = link_as(&world, "customer").await;
    customer.confirm_mode().await;
    let own = BasicProperties::default().with_user_id("customer".into());
    customer.send_with("in.acme", "web", "m", false, own).await.expect("own name");
    let foreign = BasicProperties::default().with_user_id("admin".into());
    assert_eq!(code(customer.send_with("in.acme", "web", "m", false, foreign).await), 406);
    assert_eq!(owner(&world, "customer").refused.precondition, 1);
}

/// The name under which somebody hears answers, as the server of his question sees it.
async fn reply_name(asker: &Link, server: &Link) -> String {
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let replies = "amq.rabbitmq.reply-to".into();
    let consume = asker.channel.basic_consume(replies, "".into(), options, FieldTable::default());
    let _consumer = consume.await.expect("everybody hears answers");
    let properties = BasicProperties::default().with_reply_to("amq.rabbitmq.reply-to".into());
    asker.send_with("kin.rpc", "ask", "?", false, properties).await.expect("asks");
    server.until_depth("srv.ask", 1).await;
    let asked = server.take("srv.ask").await.expect("one");
    asked.properties.reply_to().clone().expect("a name").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_reach_those_who_asked() {
    let world = embedded().await;
    let admin = link(&world).await;
    let args = FieldTable::default();
    let kind = ExchangeKind::Topic;
    let declare = admin.channel.exchange_declare("kin.rpc".into(), kind, Default::default(), args);
    declare.await.expect("declares");
    let server = link_as(&world, "server").await;
    server.declare("srv.ask", Default::default(), FieldTable::default()).await.expect("declares");
    admin.bind("srv.ask", "kin.rpc", "ask").await;
    let (one, other) = (link_as(&world, "customer").await, link_as(&world, "customer").await);
    let names = [reply_name(&one, &server).await, reply_name(&other, &server).await];
    let tokens = names.each_ref().map(|name| name.strip_prefix("amq.rabbitmq.reply-to.").expect("a prefix"));
    assert_ne!(tokens[0], tokens[1]);
    for token in tokens {
        assert_eq!(token.len(), 32, "128 bits: {token}");
        u128::from_str_radix(token, 16).expect("random bits");
    }
    // Knowing the name is not enough: an answer is a publish to the default exchange.
    other.confirm_mode().await;
    assert_eq!(code(other.send_with("", &names[0], "!", false, BasicProperties::default()).await), 403);
    server.confirm_mode().await;
    let unroutable = handle(&world).stats().unroutable;
    server.send("", "amq.rabbitmq.reply-to.00000000000000000000000000000000", "!").await;
    assert_eq!(handle(&world).stats().unroutable, unroutable + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_of_a_user_are_counted_over_its_connections() {
    let world = embedded().await;
    handle(&world).set_access(changed("server", |user| user.limits.channels_max = Some(3)));
    let (one, other) = (link_as(&world, "server").await, link_as(&world, "server").await);
    let third = one.connection.create_channel().await.expect("a third");
    assert_eq!(code(other.connection.create_channel().await), 530);
    eventually("the other has left", || handle(&world).stats().connections == 1).await;
    third.close(200, "".into()).await.expect("closes");
    // Two places are free again: of the connection that was closed, and of the channel.
    let _second = one.connection.create_channel().await.expect("a second");
    let _third = one.connection.create_channel().await.expect("a third");
    assert_eq!(code(one.connection.create_channel().await), 530);
    assert_eq!(owner(&world, "server").refused.other, 2);
    link(&world).await.connection.create_channel().await.expect("admin has no limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_user_are_bounded() {
    let world = embedded().await;
    let admin = ingress(&world).await;
    let limits = UserLimits { message_bytes_max: Some(1000), ..Default::default() };
    handle(&world).set_access(changed("customer", |user| user.limits = limits));
    let customer = link_as(&world, "customer").await;
    customer.confirm_mode().await;
    customer.send("in.acme", "web", &"x".repeat(1000)).await;
    let refused = customer.send_with("in.acme", "web", &"x".repeat(1001), false, Default::default()).await;
    assert_eq!(code(refused), 406);
    admin.confirm_mode().await;
    admin.send("in.acme", "web", &"x".repeat(1001)).await;
}

/// One fills all the memory that it gets; another publishes and is confirmed as if it were alone.
#[tokio::test(flavor = "multi_thread")]
async fn one_publishes_while_another_fills() {
    let world = embedded_with(BrokerConfig { memory_bytes_max: 8 << 20, ..BrokerConfig::default() }).await;
    let admin = link(&world).await;
    for q in ["srv.full", "srv.other"] {
        admin.declare(q, Default::default(), FieldTable::default()).await.expect("declares");
    }
    let mut hog = raw_session_as(&world, "server").await;
    let body = vec![7; 100_000];
    let fill = async {
        loop {
            publish(&mut hog, 1, "srv.full", &body).await;
        }
    };
    let witness = async {
        eventually("the hog waits", || owner(&world, "server").publishers_blocked > 0).await;
        admin.confirm_mode().await;
        let body = "x".repeat(50_000);
        for _ in 0..20 {
            let sent = admin.send("", "srv.other", &body);
            let sent = tokio::time::timeout(Duration::from_secs(2), sent);
            sent.await.expect("confirmed while another fills");
        }
        // And it goes on filling what is drained.
        let held = owner(&world, "server").bytes_held;
        assert!((2_000_000..3_000_000).contains(&held), "{held}");
        admin.channel.queue_purge("srv.full".into(), Default::default()).await.expect("purges");
        eventually("the hog goes on", || owner(&world, "server").publishers_blocked > 1).await;
    };
    tokio::select! {
        () = fill => unreachable!("it never ends"),
        () = witness => {}
    }
    assert_eq!(owner(&world, "admin").publishers_blocked, 0);
}

/// A publish on a channel of a raw session.
async fn publish(raw: &mut Raw, channel: u16, key: &str, body: &[u8]) {
    let mut method = vec![0, 60, 0, 40, 0, 0, 0, u8::try_from(key.len()).expect("short")];
    method.extend(key.as_bytes());
    method.push(0);
    raw.method(channel, &method).await;
    let mut header = vec![0, 60, 0, 0];
    header.extend(u64::try_from(body.len()).expect("small").to_be_bytes());
    header.extend([0, 0]);
    raw.frame(2, channel, &header).await;
    raw.frame(3, channel, body).await;
}

/// Bodies whose last byte never comes are held on their owner's account, and cost it the connection in the end.
#[tokio::test(flavor = "multi_thread")]
async fn unfinished_messages_are_paid_for() {
    let config = BrokerConfig { memory_bytes_max: 4 << 20, unfinished_ms: 3_000, ..BrokerConfig::default() };
    let world = embedded_with(config).await;
    let mut raw = raw_session(&world).await;
    let started = async {
        for channel in 2..=60u16 {
            raw.method(channel, &[0, 20, 0, 10, 0]).await;
            raw.method(channel, &[0, 60, 0, 40, 0, 0, 0, 1, b'k', 0]).await;
            raw.frame(2, channel, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).await;
            raw.frame(3, channel, &[7; 60_000]).await;
        }
    };
    // The last of them are not read, and may not fit into the sockets.
    let _all = tokio::time::timeout(Duration::from_secs(2), started).await.is_ok();
    eventually("it waits", || owner(&world, "admin").publishers_blocked > 0).await;
    let held = owner(&world, "admin").bytes_held;
    assert!((1_300_000..1_700_000).contains(&held), "{held}");
    let wait = async {
        loop {
            let (kind, _, payload) = raw.read_frame().await.expect("open");
            if kind == 1 && payload.starts_with(&[0, 10, 0, 50]) {
                return u16::from_be_bytes([payload[4], payload[5]]);
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(15), wait).await.expect("in time"), 506);
    drop(raw);
    eventually("all is free", || handle(&world).stats().bytes_held == 0).await;
}

/// Twenty thousand customers with a connection each would be many sockets: their table, and a thousand connections.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run with --ignored --nocapture, optimised"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
async fn access_of_twenty_thousand() {
    let table = |writes: &str| {
        let mut access = access();
        for n in 0..20_000 {
            let names = |names: &[String]| kinetic_broker::Names::Some(names.to_vec());
            let permission = kinetic_broker::Permission {
                write: names(&[format!("{writes}.c{n}"), "kin.rpc".to_owned()]),
                ..Default::default()
            };
            let (login, mut user) = common::user(&format!("c{n}.web"), permission);
            user.owner = format!("c{n}").into();
            access.users.insert(login, user);
        }
        access
    };
    let world = embedded().await;
    handle(&world).set_access(table("in"));
    let mut links = Vec::new();
    for n in 0..1_000 {
        links.push(raw_session_as(&world, &format!("c{n}.web")).await);
    }
    for round in 0..3 {
        let (start, access) = (std::time::Instant::now(), table("out"));
        let built = start.elapsed();
        handle(&world).set_access(access);
        println!("round {round}: built in {built:?}, swapped in {:?}", start.elapsed() - built);
    }
    let start = std::time::Instant::now();
    println!("owners: {} in {:?}", handle(&world).owners().len(), start.elapsed());
    assert_eq!(handle(&world).stats().connections, 1_000);
}
