//! Direct reply-to, and what a customer without read or configure may do with it.

use crate::checks;
use crate::common::World;
use crate::common::kit::*;
use lapin::BasicProperties;
use lapin::Confirmation;
use lapin::options::*;
use lapin::types::FieldTable;

const REPLY: &str = "amq.rabbitmq.reply-to";

pub(crate) fn checks() -> Vec<Check> {
    checks![
        reply_reaches_the_caller,
        reply_consumer_must_not_ack,
        second_reply_consumer_is_406,
        request_without_reply_consumer_is_406,
        reply_address_can_be_asked_for,
        customer_may_do_rpc,
        mandatory_reply_comes_back_and_arrives,
    ]
}

fn asking() -> BasicProperties {
    BasicProperties::default().with_reply_to(REPLY.into()).with_correlation_id("7".into())
}

/// Sends a request; the address that the server sees.
async fn ask(client: &Link, server: &Link, q: &str) -> String {
    client.send_with("", q, "ping", false, asking()).await.expect("sends");
    server.until_depth(q, 1).await;
    let request = server.take(q).await.expect("one");
    assert_eq!(request.properties.correlation_id().as_ref().map(|c| c.as_str()), Some("7"));
    request.properties.reply_to().as_ref().expect("an address").to_string()
}

async fn reply_reaches_the_caller(world: World) {
    let (client, server) = (link(&world).await, link(&world).await);
    client.confirm_mode().await;
    let q = name("q");
    server.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    let mut replies = client.consume(REPLY, true).await;
    let address = ask(&client, &server, &q).await;
    assert!(address.starts_with("amq.rabbitmq.reply-to.") && address.len() > 30, "{address}");
    server.send("", &address, "pong").await;
    let reply = next(&mut replies).await;
    assert_eq!((body(&reply).as_str(), reply.exchange.as_str()), ("pong", ""));
    client.channel.basic_cancel(replies.tag(), Default::default()).await.expect("cancels");
    let _again = client.consume(REPLY, true).await;
    server.channel.queue_delete(q.as_str().into(), Default::default()).await.expect("deletes");
}

async fn reply_consumer_must_not_ack(world: World) {
    let link = link(&world).await;
    let consume =
        link.channel.basic_consume(REPLY.into(), "".into(), Default::default(), FieldTable::default());
    assert_eq!(code(consume.await.map(|_| ())), 406);
}

async fn second_reply_consumer_is_406(world: World) {
    let link = link(&world).await;
    let _first = link.consume(REPLY, true).await;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consume = link.channel.basic_consume(REPLY.into(), "".into(), options, FieldTable::default());
    assert_eq!(code(consume.await.map(|_| ())), 406);
}

async fn request_without_reply_consumer_is_406(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    assert_eq!(code(link.send_with("", "q", "ping", false, asking()).await.map(|_| ())), 406);
}

async fn reply_address_can_be_asked_for(world: World) {
    let (client, server) = (link(&world).await, link(&world).await);
    client.confirm_mode().await;
    let q = name("q");
    server.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    let _replies = client.consume(REPLY, true).await;
    let address = ask(&client, &server, &q).await;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    server.declare(&address, passive, FieldTable::default()).await.expect("is there");
    server.channel.queue_delete(q.as_str().into(), Default::default()).await.expect("deletes");
    client.connection.close(200, "".into()).await.expect("closes");
    for _ in 0..100 {
        let probe = link(&world).await;
        if probe.declare(&address, passive, FieldTable::default()).await.is_err() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the address stayed");
}

async fn customer_may_do_rpc(world: World) {
    let admin = link(&world).await;
    let kind = lapin::ExchangeKind::Direct;
    admin
        .channel
        .exchange_declare("kin.rpc".into(), kind, Default::default(), FieldTable::default())
        .await
        .expect("declares");
    let server = link_as(&world, "server").await;
    server.declare("srv.rpc", Default::default(), FieldTable::default()).await.expect("declares");
    admin.bind("srv.rpc", "kin.rpc", "locate").await;
    let customer = link_as(&world, "customer").await;
    customer.confirm_mode().await;
    let mut replies = customer.consume(REPLY, true).await;
    customer.send_with("kin.rpc", "locate", "where", true, asking()).await.expect("sends");
    server.until_depth("srv.rpc", 1).await;
    let request = server.take("srv.rpc").await.expect("one");
    let address = request.properties.reply_to().as_ref().expect("an address").to_string();
    server.send("", &address, "here").await;
    assert_eq!(body(&next(&mut replies).await), "here");
    admin.channel.queue_delete("srv.rpc".into(), Default::default()).await.expect("deletes");
    admin.channel.exchange_delete("kin.rpc".into(), Default::default()).await.expect("deletes");
}

async fn mandatory_reply_comes_back_and_arrives(world: World) {
    let (client, server) = (link(&world).await, link(&world).await);
    client.confirm_mode().await;
    server.confirm_mode().await;
    let q = name("q");
    server.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    let mut replies = client.consume(REPLY, true).await;
    let address = ask(&client, &server, &q).await;
    let confirm = server.send_with("", &address, "pong", true, BasicProperties::default()).await;
    assert!(matches!(confirm, Ok(Confirmation::Ack(Some(_)))), "{confirm:?}");
    assert_eq!(body(&next(&mut replies).await), "pong");
    server.channel.queue_delete(q.as_str().into(), Default::default()).await.expect("deletes");
}
