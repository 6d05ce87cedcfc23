//! The consistent-hash exchange, from the outside: which queue a value falls to differs between brokers, what is
//! promised about it does not.

use crate::checks;
use crate::common::World;
use crate::common::kit::*;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};

pub(crate) fn checks() -> Vec<Check> {
    checks![
        each_value_goes_to_one_queue_and_always_the_same,
        by_routing_key_and_by_property,
        without_the_header_all_go_one_way,
        a_queue_that_comes_takes_its_share,
        behind_a_topic_exchange_the_first_name_stays,
        weights_and_arguments_are_checked,
    ]
}

const VALUES: u32 = 600;

async fn spread(link: &Link, args: FieldTable) -> String {
    let name = name("split");
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    let kind = ExchangeKind::Custom("x-consistent-hash".to_owned());
    link.channel.exchange_declare(name.as_str().into(), kind, options, args).await.expect("declares");
    name
}

async fn queues(link: &Link, exchange: &str, count: usize, weight: &str) -> Vec<String> {
    let mut queues = Vec::new();
    for _ in 0..count {
        let queue = link.queue(FieldTable::default()).await;
        link.bind(&queue, exchange, weight).await;
        queues.push(queue);
    }
    queues
}

fn origin(value: &str) -> BasicProperties {
    BasicProperties::default().with_headers(table([("kin-origin", text(value))]))
}

/// Publishes one body per value, then takes all: for each queue, the bodies it got.
async fn share_out(
    link: &Link,
    exchange: &str,
    queues: &[String],
    properties: impl Fn(&str) -> (String, BasicProperties),
) -> Vec<Vec<String>> {
    for value in 0..VALUES {
        let value = format!("web-{value}");
        let (key, properties) = properties(&value);
        let sent = link.send_with(exchange, &key, &value, true, properties).await.expect("confirms");
        assert!(sent.is_ack());
    }
    let mut shares = Vec::new();
    for queue in queues {
        let mut share = Vec::new();
        while let Some(delivery) = link.take(queue).await {
            share.push(body(&delivery));
        }
        share.sort();
        shares.push(share);
    }
    shares
}

fn count(shares: &[Vec<String>]) -> usize {
    shares.iter().map(Vec::len).sum()
}

async fn each_value_goes_to_one_queue_and_always_the_same(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let x = spread(&link, table([("hash-header", text("kin-origin"))])).await;
    let queues = queues(&link, &x, 3, "20").await;
    let first = share_out(&link, &x, &queues, |value| ("a".to_owned(), origin(value))).await;
    assert_eq!(count(&first), VALUES as usize, "each to exactly one");
    for share in &first {
        assert!((100..300).contains(&share.len()), "{} of {VALUES} in one of three", share.len());
    }
    // Another routing key: only the header counts.
    let second = share_out(&link, &x, &queues, |value| (value.to_owned(), origin(value))).await;
    assert!(first == second, "the same value went another way");
}

async fn by_routing_key_and_by_property(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let x = spread(&link, FieldTable::default()).await;
    let by_key = queues(&link, &x, 2, "20").await;
    let shares = share_out(&link, &x, &by_key, |value| (value.to_owned(), BasicProperties::default())).await;
    assert_eq!(count(&shares), VALUES as usize);
    assert!(shares.iter().all(|share| share.len() > 100), "both have some");
    let x = spread(&link, table([("hash-property", text("message_id"))])).await;
    let by_id = queues(&link, &x, 2, "20").await;
    let by_id = share_out(&link, &x, &by_id, |value| {
        ("a".to_owned(), BasicProperties::default().with_message_id(value.into()))
    });
    let shares = by_id.await;
    assert_eq!(count(&shares), VALUES as usize);
    assert!(shares.iter().all(|share| share.len() > 100), "both have some");
}

async fn without_the_header_all_go_one_way(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let x = spread(&link, table([("hash-header", text("kin-origin"))])).await;
    let queues = queues(&link, &x, 3, "1").await;
    let other = table([("other", text("web-1"))]);
    for properties in [BasicProperties::default(), BasicProperties::default().with_headers(other)] {
        let shares = share_out(&link, &x, &queues, |value| (value.to_owned(), properties.clone())).await;
        assert_eq!(count(&shares), VALUES as usize, "routed, although there is nothing to hash");
        assert_eq!(shares.iter().filter(|share| !share.is_empty()).count(), 1, "all to one");
    }
}

async fn a_queue_that_comes_takes_its_share(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let x = spread(&link, table([("hash-header", text("kin-origin"))])).await;
    let mut queues = queues(&link, &x, 3, "1").await;
    let before = share_out(&link, &x, &queues, |value| (String::new(), origin(value))).await;
    queues.push(link.queue(FieldTable::default()).await);
    link.bind(&queues[3], &x, "1").await;
    let after = share_out(&link, &x, &queues, |value| (String::new(), origin(value))).await;
    assert_eq!(count(&after), VALUES as usize);
    let moved = after[3].len();
    assert!((90..210).contains(&moved), "{moved} of {VALUES} moved to the fourth");
    for (before, after) in before.iter().zip(&after) {
        assert!(after.iter().all(|value| before.contains(value)), "nothing moved between the old ones");
    }
    let unbind = |queue: &str| {
        link.channel.queue_unbind(queue.into(), x.as_str().into(), "1".into(), FieldTable::default())
    };
    unbind(&queues[3]).await.expect("unbinds");
    let without = share_out(&link, &x, &queues, |value| (String::new(), origin(value))).await;
    assert!(without[3].is_empty() && without[..3] == before[..], "as before it came");
}

async fn behind_a_topic_exchange_the_first_name_stays(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let ingress = link.exchange(ExchangeKind::Topic).await;
    let x = spread(&link, table([("hash-header", text("kin-origin"))])).await;
    for pattern in ["web.#", "#.cpu"] {
        let bind = link.channel.exchange_bind(
            x.as_str().into(),
            ingress.as_str().into(),
            pattern.into(),
            Default::default(),
            FieldTable::default(),
        );
        bind.await.expect("binds");
    }
    let queues = queues(&link, &x, 2, "1").await;
    for key in ["web.1.cpu", "web.1.load", "db.1.load"] {
        link.send_with(&ingress, key, key, false, origin("web-1")).await.expect("confirms");
    }
    let mut got = Vec::new();
    for queue in &queues {
        while let Some(delivery) = link.take(queue).await {
            assert_eq!(delivery.exchange.as_str(), ingress, "who was published to");
            got.push((queue, body(&delivery)));
        }
    }
    got.sort();
    assert_eq!(got.len(), 2, "two patterns match the first, but it comes once: {got:?}");
    assert_eq!(got[0].0, got[1].0, "one origin, one queue");
}

async fn weights_and_arguments_are_checked(world: World) {
    for key in ["0", "-1", "many", ""] {
        let link = link(&world).await;
        let x = spread(&link, FieldTable::default()).await;
        let q = link.queue(FieldTable::default()).await;
        let args = FieldTable::default();
        let bind = link.channel.queue_bind(
            q.as_str().into(),
            x.as_str().into(),
            key.into(),
            Default::default(),
            args,
        );
        assert_eq!(code(bind.await), 406, "{key}");
    }
    for args in [
        table([("hash-header", text("a")), ("hash-property", text("message_id"))]),
        table([("hash-property", text("app_id"))]),
    ] {
        let link = link(&world).await;
        let kind = ExchangeKind::Custom("x-consistent-hash".to_owned());
        let declare =
            link.channel.exchange_declare(name("split").as_str().into(), kind, Default::default(), args);
        assert_eq!(code(declare.await), 406);
    }
    // Declared again with another header, it stays what it was.
    let link = link(&world).await;
    let x = spread(&link, table([("hash-header", text("kin-origin"))])).await;
    let kind = ExchangeKind::Custom("x-consistent-hash".to_owned());
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    let args = table([("hash-header", AMQPValue::LongString("other".into()))]);
    link.channel.exchange_declare(x.as_str().into(), kind, options, args).await.expect("no difference");
}
