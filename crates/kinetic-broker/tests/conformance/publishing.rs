//! Publishing, confirms, returns, properties.

use crate::checks;
use crate::common::World;
use crate::common::kit::*;
use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::Confirmation;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};

pub(crate) fn checks() -> Vec<Check> {
    checks![
        confirms_come_for_every_publish,
        mandatory_unroutable_returns_before_the_ack,
        mandatory_routable_does_not_return,
        unroutable_is_still_confirmed,
        publish_to_nothing_is_404,
        immediate_is_540,
        properties_survive,
        large_and_empty_bodies_survive,
        user_id_must_be_the_login,
        bad_expiration_is_406,
        copies_are_routed_and_bcc_is_removed,
        many_messages_keep_their_order,
    ]
}

async fn confirms_come_for_every_publish(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = link.queue(FieldTable::default()).await;
    let mut confirms = futures_util::stream::FuturesUnordered::new();
    for n in 0..1000 {
        let options = BasicPublishOptions::default();
        let publish = link.channel.basic_publish(
            "".into(),
            q.as_str().into(),
            options,
            b"m",
            BasicProperties::default(),
        );
        confirms.push(publish.await.unwrap_or_else(|error| panic!("{n}: {error}")));
    }
    let mut count = 0;
    while let Some(confirm) = confirms.next().await {
        assert!(matches!(confirm, Ok(Confirmation::Ack(None))), "{confirm:?}");
        count += 1;
    }
    assert_eq!((count, link.depth(&q).await), (1000, 1000));
}

async fn mandatory_unroutable_returns_before_the_ack(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    for exchange in ["", "amq.topic"] {
        let confirm = link.send_with(exchange, "no.such.queue", "m", true, BasicProperties::default()).await;
        let Ok(Confirmation::Ack(Some(returned))) = confirm else { panic!("{confirm:?}") };
        assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
        assert_eq!(returned.routing_key.as_str(), "no.such.queue");
        assert_eq!(returned.exchange.as_str(), exchange);
        assert_eq!(returned.data, b"m");
    }
}

async fn mandatory_routable_does_not_return(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = link.queue(FieldTable::default()).await;
    let confirm = link.send_with("", &q, "m", true, BasicProperties::default()).await;
    assert!(matches!(confirm, Ok(Confirmation::Ack(None))), "{confirm:?}");
}

async fn unroutable_is_still_confirmed(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let confirm = link.send("", "no.such.queue", "m").await;
    assert!(matches!(confirm, Confirmation::Ack(None)), "{confirm:?}");
}

async fn publish_to_nothing_is_404(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let refused = link.send_with("nothing", "k", "m", false, BasicProperties::default()).await;
    assert_eq!(code(refused.map(|_| ())), 404);
    assert!(link.connection.create_channel().await.is_ok(), "the connection lives on");
}

async fn immediate_is_540(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let options = BasicPublishOptions { immediate: true, ..Default::default() };
    let publish =
        link.channel.basic_publish("".into(), "k".into(), options, b"m", BasicProperties::default());
    let refused = async { publish.await?.await }.await;
    assert_eq!(code(refused.map(|_| ())), 540);
}

async fn properties_survive(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = link.queue(FieldTable::default()).await;
    let headers = table([
        ("text", text("value")),
        ("long", AMQPValue::LongLongInt(-5)),
        ("flag", AMQPValue::Boolean(true)),
        ("void", AMQPValue::Void),
        ("inner", AMQPValue::FieldTable(table([("k", AMQPValue::Double(1.5))]))),
        ("list", AMQPValue::FieldArray(vec![AMQPValue::LongInt(1), text("x")].into())),
    ]);
    let properties = BasicProperties::default()
        .with_content_type("text/x-statsd".into())
        .with_content_encoding("gzip".into())
        .with_headers(headers)
        .with_delivery_mode(2)
        .with_priority(3)
        .with_correlation_id("c".into())
        .with_reply_to("r".into())
        .with_expiration("60000".into())
        .with_message_id("m".into())
        .with_timestamp(1_700_000_000)
        .with_type("kinetic.data.statsd.v1".into())
        .with_user_id("admin".into())
        .with_app_id("a".into())
        .with_cluster_id("k".into());
    link.send_with("", &q, "m", false, properties.clone()).await.expect("sends");
    assert_eq!(link.take(&q).await.expect("one").properties, properties);
}

async fn large_and_empty_bodies_survive(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = link.queue(FieldTable::default()).await;
    for size in [0, 1, 131_063, 131_064, 131_065, 1_000_000] {
        let sent = "x".repeat(size);
        link.send("", &q, &sent).await;
        assert_eq!(body(&link.take(&q).await.expect("one")).len(), size);
    }
}

async fn user_id_must_be_the_login(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let properties = BasicProperties::default().with_user_id("evil".into());
    assert_eq!(code(link.send_with("", "k", "m", false, properties).await.map(|_| ())), 406);
}

async fn bad_expiration_is_406(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let properties = BasicProperties::default().with_expiration("soon".into());
    assert_eq!(code(link.send_with("", "k", "m", false, properties).await.map(|_| ())), 406);
}

async fn copies_are_routed_and_bcc_is_removed(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let (a, b, c) = (
        link.queue(FieldTable::default()).await,
        link.queue(FieldTable::default()).await,
        link.queue(FieldTable::default()).await,
    );
    let list = |key: &str| AMQPValue::FieldArray(vec![text(key)].into());
    let properties = BasicProperties::default().with_headers(table([("CC", list(&b)), ("BCC", list(&c))]));
    link.send_with("", &a, "m", false, properties).await.expect("sends");
    for q in [&a, &b, &c] {
        let delivery = link.take(q).await.expect("one");
        let headers = delivery.properties.headers().clone().expect("headers");
        assert!(headers.contains_key("CC") && !headers.contains_key("BCC"));
        assert_eq!(delivery.routing_key.as_str(), a);
    }
}

async fn many_messages_keep_their_order(world: World) {
    let link = link(&world).await;
    let q = link.queue(FieldTable::default()).await;
    let mut consumer = link.consume(&q, true).await;
    for n in 0..5000 {
        let sent = n.to_string();
        let publish = link.channel.basic_publish(
            "".into(),
            q.as_str().into(),
            BasicPublishOptions::default(),
            sent.as_bytes(),
            BasicProperties::default(),
        );
        publish.await.expect("publishes");
    }
    for n in 0..5000 {
        assert_eq!(body(&next(&mut consumer).await), n.to_string());
    }
}
