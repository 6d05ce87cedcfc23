//! Length limits, times to live, dead letters.

use crate::checks;
use crate::common::World;
use crate::common::kit::*;
use lapin::BasicProperties;
use lapin::Confirmation;
use lapin::ExchangeKind;
use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use std::time::Duration;

pub(crate) fn checks() -> Vec<Check> {
    checks![
        max_length_drops_the_head,
        max_length_bytes_drops_the_head,
        reject_publish_nacks,
        max_length_leaves_unacked_alone,
        rejected_goes_to_the_dead_letter_exchange,
        expired_goes_to_the_dead_letter_exchange,
        overflow_goes_to_the_dead_letter_exchange,
        dead_letter_key_replaces_the_key,
        deaths_count_up_and_keep_the_first,
        automatic_cycles_end,
        message_ttl_expires_without_consumers,
        per_message_expiration,
        zero_ttl_reaches_a_waiting_consumer,
        unused_queue_expires,
    ]
}

fn int(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

async fn max_length_drops_the_head(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = link.queue(table([("x-max-length", int(2))])).await;
    for n in 0..5 {
        assert!(matches!(link.send("", &q, &n.to_string()).await, Confirmation::Ack(None)));
    }
    assert_eq!(body(&link.take(&q).await.expect("one")), "3");
    assert_eq!(body(&link.take(&q).await.expect("one")), "4");
    assert!(link.take(&q).await.is_none());
}

async fn max_length_bytes_drops_the_head(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = link.queue(table([("x-max-length-bytes", int(10))])).await;
    for text in ["aaaa", "bbbb", "cccc"] {
        link.send("", &q, text).await;
    }
    assert_eq!(body(&link.take(&q).await.expect("one")), "bbbb");
    assert_eq!(link.depth(&q).await, 1);
}

async fn reject_publish_nacks(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = link.queue(table([("x-max-length", int(2)), ("x-overflow", text("reject-publish"))])).await;
    let mut answers = Vec::new();
    for n in 0..6 {
        answers.push(matches!(link.send("", &q, &n.to_string()).await, Confirmation::Ack(None)));
        if n == 4 {
            link.take(&q).await.expect("one");
            // RabbitMQ tells its publishers of room with a delay.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    assert_eq!(answers, [true, true, false, false, false, true]);
}

async fn max_length_leaves_unacked_alone(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = link.queue(table([("x-max-length", int(1))])).await;
    let mut consumer = link.consume(&q, false).await;
    for n in 0..3 {
        link.send("", &q, &n.to_string()).await;
    }
    assert_eq!(bodies(&mut consumer, 3).await, ["0", "1", "2"]);
}

/// A queue, and another that gets its dead letters under the same key.
async fn with_grave(link: &Link, more: &[(&str, AMQPValue)]) -> (String, String) {
    link.confirm_mode().await;
    let x = link.exchange(ExchangeKind::Fanout).await;
    let grave = link.queue(FieldTable::default()).await;
    link.bind(&grave, &x, "").await;
    let mut args = table([("x-dead-letter-exchange", text(&x))]);
    for (name, value) in more {
        args.insert((*name).into(), value.clone());
    }
    (link.queue(args).await, grave)
}

async fn from_grave(link: &Link, grave: &str) -> Delivery {
    link.until_depth(grave, 1).await;
    link.take(grave).await.expect("one")
}

fn death(delivery: &Delivery, index: usize) -> FieldTable {
    let headers = delivery.properties.headers().clone().expect("headers");
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else { panic!("{headers:?}") };
    match &deaths.as_slice()[index] {
        AMQPValue::FieldTable(table) => table.clone(),
        other => panic!("{other:?}"),
    }
}

fn says(table: &FieldTable, name: &str, expect: &str) {
    assert_eq!(table.inner().get(name), Some(&text(expect)), "{name} in {table:?}");
}

async fn rejected_goes_to_the_dead_letter_exchange(world: World) {
    let link = link(&world).await;
    let (q, grave) = with_grave(&link, &[]).await;
    link.bind(&q, "amq.direct", "the.key").await;
    let properties =
        BasicProperties::default().with_app_id("app".into()).with_headers(table([("mine", int(1))]));
    link.send_with("amq.direct", "the.key", "m", false, properties).await.expect("sends");
    let mut consumer = link.consume(&q, false).await;
    next(&mut consumer).await.reject(BasicRejectOptions { requeue: false }).await.expect("rejects");
    let dead = from_grave(&link, &grave).await;
    assert_eq!((body(&dead).as_str(), dead.routing_key.as_str(), dead.redelivered), ("m", "the.key", false));
    assert_eq!(dead.properties.app_id().as_ref().map(|a| a.as_str()), Some("app"));
    let entry = death(&dead, 0);
    says(&entry, "reason", "rejected");
    says(&entry, "queue", &q);
    says(&entry, "exchange", "amq.direct");
    assert_eq!(entry.inner().get("count"), Some(&AMQPValue::LongLongInt(1)));
    assert!(matches!(entry.inner().get("time"), Some(AMQPValue::Timestamp(_))));
    let keys = AMQPValue::FieldArray(vec![text("the.key")].into());
    assert_eq!(entry.inner().get("routing-keys"), Some(&keys));
    let headers = dead.properties.headers().clone().expect("headers");
    says(&headers, "x-first-death-reason", "rejected");
    says(&headers, "x-first-death-queue", &q);
    says(&headers, "x-first-death-exchange", "amq.direct");
    assert_eq!(headers.inner().get("mine"), Some(&int(1)));
}

async fn expired_goes_to_the_dead_letter_exchange(world: World) {
    let link = link(&world).await;
    let (q, grave) = with_grave(&link, &[]).await;
    let properties = BasicProperties::default().with_expiration("30".into());
    link.send_with("", &q, "m", false, properties).await.expect("sends");
    let dead = from_grave(&link, &grave).await;
    let entry = death(&dead, 0);
    says(&entry, "reason", "expired");
    says(&entry, "original-expiration", "30");
    assert!(dead.properties.expiration().is_none());
}

async fn overflow_goes_to_the_dead_letter_exchange(world: World) {
    let link = link(&world).await;
    let (q, grave) = with_grave(&link, &[("x-max-length", int(1))]).await;
    link.send("", &q, "old").await;
    link.send("", &q, "new").await;
    let dead = from_grave(&link, &grave).await;
    assert_eq!(body(&dead), "old");
    says(&death(&dead, 0), "reason", "maxlen");
}

async fn dead_letter_key_replaces_the_key(world: World) {
    let link = link(&world).await;
    let (q, grave) =
        with_grave(&link, &[("x-dead-letter-routing-key", text("other")), ("x-message-ttl", int(1))]).await;
    link.send("", &q, "m").await;
    assert_eq!(from_grave(&link, &grave).await.routing_key.as_str(), "other");
}

async fn deaths_count_up_and_keep_the_first(world: World) {
    let link = link(&world).await;
    let (q, grave) = with_grave(&link, &[]).await;
    link.send("", &q, "m").await;
    for round in 1..=3i64 {
        let taken =
            link.channel.basic_get(q.as_str().into(), Default::default()).await.expect("gets").expect("one");
        taken.reject(BasicRejectOptions { requeue: false }).await.expect("rejects");
        let dead = from_grave(&link, &grave).await;
        assert_eq!(death(&dead, 0).inner().get("count"), Some(&AMQPValue::LongLongInt(round)));
        link.send_with("", &q, "m", false, dead.properties.clone()).await.expect("sends");
    }
}

async fn automatic_cycles_end(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = name("q");
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let args = table([
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(&q)),
        ("x-message-ttl", int(20)),
    ]);
    link.declare(&q, options, args).await.expect("declares");
    link.send("", &q, "m").await;
    link.until_depth(&q, 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(link.depth(&q).await, 0, "expired twice in the same queue: dropped");
}

async fn message_ttl_expires_without_consumers(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = link.queue(table([("x-message-ttl", int(50))])).await;
    link.send("", &q, "m").await;
    assert_eq!(link.depth(&q).await, 1);
    link.until_depth(&q, 0).await;
}

async fn per_message_expiration(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = link.queue(table([("x-message-ttl", int(60_000))])).await;
    let properties = BasicProperties::default().with_expiration("50".into());
    link.send_with("", &q, "short", false, properties).await.expect("sends");
    link.send("", &q, "long").await;
    link.until_depth(&q, 1).await;
    assert_eq!(body(&link.take(&q).await.expect("one")), "long");
}

async fn zero_ttl_reaches_a_waiting_consumer(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = link.queue(table([("x-message-ttl", int(0))])).await;
    link.send("", &q, "lost").await;
    link.until_depth(&q, 0).await;
    let mut consumer = link.consume(&q, true).await;
    link.send("", &q, "seen").await;
    assert_eq!(body(&next(&mut consumer).await), "seen");
}

async fn unused_queue_expires(world: World) {
    let link1 = link(&world).await;
    let q = name("q");
    let args = table([("x-expires", int(150))]);
    link1.declare(&q, Default::default(), args).await.expect("declares");
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(code(link(&world).await.declare(&q, passive, FieldTable::default()).await), 404);
}
