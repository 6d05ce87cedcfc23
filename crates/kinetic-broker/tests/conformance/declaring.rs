//! Declaring, passive declaring, deleting, exclusive and auto-delete.

use crate::checks;
use crate::common::World;
use crate::common::kit::*;
use lapin::ExchangeKind;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};

pub(crate) fn checks() -> Vec<Check> {
    checks![
        server_named_queues_differ,
        passive_declare_of_nothing_is_404,
        redeclare_with_other_flags_is_406,
        redeclare_with_other_arguments_is_406,
        redeclare_with_wider_integer_is_fine,
        exchange_of_other_type_is_406,
        unknown_exchange_type_is_503,
        reserved_names_are_403,
        predeclared_exchanges_exist,
        default_exchange_is_untouchable,
        exclusive_queue_is_405_for_others,
        exclusive_queue_goes_with_its_connection,
        auto_delete_queue_goes_with_its_last_consumer,
        delete_of_nothing_is_fine,
        delete_if_empty_and_if_unused,
        purge_counts,
        empty_name_means_last_declared,
        bad_arguments_are_406,
        auto_delete_exchange_goes_with_its_last_binding,
    ]
}

async fn server_named_queues_differ(world: World) {
    let link = link(&world).await;
    let (a, b) = (link.queue(FieldTable::default()).await, link.queue(FieldTable::default()).await);
    assert!(a.starts_with("amq.gen-") && b.starts_with("amq.gen-") && a != b);
}

async fn passive_declare_of_nothing_is_404(world: World) {
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    assert_eq!(code(link(&world).await.declare("nothing", passive, FieldTable::default()).await), 404);
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let channel = link(&world).await.channel;
    let declare =
        channel.exchange_declare("nothing".into(), ExchangeKind::Topic, passive, FieldTable::default());
    assert_eq!(code(declare.await), 404);
}

async fn redeclare_with_other_flags_is_406(world: World) {
    let link1 = link(&world).await;
    let q = name("q");
    let options = QueueDeclareOptions { auto_delete: true, ..Default::default() };
    link1.declare(&q, options, FieldTable::default()).await.expect("declares");
    link1.declare(&q, options, FieldTable::default()).await.expect("again");
    for other in [
        QueueDeclareOptions { auto_delete: false, ..options },
        QueueDeclareOptions { durable: true, ..options },
    ] {
        assert_eq!(code(link(&world).await.declare(&q, other, FieldTable::default()).await), 406);
    }
    let exclusive = QueueDeclareOptions { exclusive: true, ..options };
    assert_eq!(code(link(&world).await.declare(&q, exclusive, FieldTable::default()).await), 405);
    link1.channel.queue_delete(q.as_str().into(), Default::default()).await.expect("deletes");
}

async fn redeclare_with_other_arguments_is_406(world: World) {
    let link1 = link(&world).await;
    let q = name("q");
    let options = QueueDeclareOptions { auto_delete: true, ..Default::default() };
    let args = |n: i32| table([("x-max-length", AMQPValue::LongInt(n))]);
    link1.declare(&q, options, args(5)).await.expect("declares");
    assert_eq!(code(link(&world).await.declare(&q, options, args(6)).await), 406);
    assert_eq!(code(link(&world).await.declare(&q, options, FieldTable::default()).await), 406);
    link1.channel.queue_delete(q.as_str().into(), Default::default()).await.expect("deletes");
}

async fn redeclare_with_wider_integer_is_fine(world: World) {
    let link = link(&world).await;
    let q = name("q");
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    link.declare(&q, options, table([("x-max-length", AMQPValue::LongInt(5))])).await.expect("declares");
    link.declare(&q, options, table([("x-max-length", AMQPValue::LongLongInt(5))])).await.expect("again");
}

async fn exchange_of_other_type_is_406(world: World) {
    let link = link(&world).await;
    let x = link.exchange(ExchangeKind::Topic).await;
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    let declare = link.channel.exchange_declare(
        x.as_str().into(),
        ExchangeKind::Fanout,
        options,
        FieldTable::default(),
    );
    assert_eq!(code(declare.await), 406);
}

async fn unknown_exchange_type_is_503(world: World) {
    let link = link(&world).await;
    let kind = ExchangeKind::Custom("nonsense".into());
    let declare = link.channel.exchange_declare("x".into(), kind, Default::default(), FieldTable::default());
    assert_eq!(code(declare.await), 503);
}

async fn reserved_names_are_403(world: World) {
    let queue = link(&world).await.declare("amq.mine", Default::default(), FieldTable::default()).await;
    assert_eq!(code(queue), 403);
    let link1 = link(&world).await;
    let declare = link1.channel.exchange_declare(
        "amq.mine".into(),
        ExchangeKind::Topic,
        Default::default(),
        FieldTable::default(),
    );
    assert_eq!(code(declare.await), 403);
    let link2 = link(&world).await;
    assert_eq!(code(link2.channel.exchange_delete("amq.topic".into(), Default::default()).await), 403);
}

async fn predeclared_exchanges_exist(world: World) {
    let link = link(&world).await;
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    for (name, kind) in [
        ("amq.direct", ExchangeKind::Direct),
        ("amq.fanout", ExchangeKind::Fanout),
        ("amq.topic", ExchangeKind::Topic),
        ("amq.headers", ExchangeKind::Headers),
        ("amq.match", ExchangeKind::Headers),
    ] {
        link.channel
            .exchange_declare(name.into(), kind.clone(), passive, FieldTable::default())
            .await
            .expect("is there");
        let again = ExchangeDeclareOptions { durable: true, ..Default::default() };
        link.channel
            .exchange_declare(name.into(), kind, again, FieldTable::default())
            .await
            .expect("is the same");
    }
}

async fn default_exchange_is_untouchable(world: World) {
    let link1 = link(&world).await;
    let q = link1.queue(FieldTable::default()).await;
    let args = FieldTable::default();
    let bind = link1.channel.queue_bind(q.as_str().into(), "".into(), "k".into(), Default::default(), args);
    assert_eq!(code(bind.await), 403);
    let link2 = link(&world).await;
    assert_eq!(code(link2.channel.exchange_delete("".into(), Default::default()).await), 403);
}

async fn exclusive_queue_is_405_for_others(world: World) {
    let owner = link(&world).await;
    let q = owner.queue(FieldTable::default()).await;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    assert_eq!(code(link(&world).await.declare(&q, passive, FieldTable::default()).await), 405);
    let get = link(&world).await.channel.basic_get(q.as_str().into(), Default::default()).await;
    assert_eq!(code(get.map(|_| ())), 405);
    assert_eq!(
        code(link(&world).await.channel.queue_delete(q.as_str().into(), Default::default()).await),
        405
    );
    assert_eq!(
        code(link(&world).await.channel.queue_purge(q.as_str().into(), Default::default()).await),
        405
    );
    let channel = link(&world).await.channel;
    let consume =
        channel.basic_consume(q.as_str().into(), "".into(), Default::default(), FieldTable::default());
    assert_eq!(code(consume.await.map(|_| ())), 405);
}

async fn exclusive_queue_goes_with_its_connection(world: World) {
    let owner = link(&world).await;
    let q = owner.queue(FieldTable::default()).await;
    owner.connection.close(200, "bye".into()).await.expect("closes");
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    for _ in 0..100 {
        let seen = code(link(&world).await.declare(&q, passive, FieldTable::default()).await);
        if seen == 404 {
            return;
        }
        assert_eq!(seen, 405);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the queue stayed");
}

async fn auto_delete_queue_goes_with_its_last_consumer(world: World) {
    let link1 = link(&world).await;
    let q = name("q");
    let options = QueueDeclareOptions { auto_delete: true, ..Default::default() };
    link1.declare(&q, options, FieldTable::default()).await.expect("declares");
    let consumer = link1.consume(&q, true).await;
    link1.channel.basic_cancel(consumer.tag(), Default::default()).await.expect("cancels");
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    assert_eq!(code(link(&world).await.declare(&q, passive, FieldTable::default()).await), 404);
}

async fn delete_of_nothing_is_fine(world: World) {
    let link = link(&world).await;
    assert_eq!(link.channel.queue_delete("nothing".into(), Default::default()).await.expect("fine"), 0);
    link.channel.exchange_delete("nothing".into(), Default::default()).await.expect("fine");
}

async fn delete_if_empty_and_if_unused(world: World) {
    let link1 = link(&world).await;
    let q = name("q");
    link1.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    link1.confirm_mode().await;
    link1.send("", &q, "a").await;
    let if_empty = QueueDeleteOptions { if_empty: true, ..Default::default() };
    assert_eq!(code(link(&world).await.channel.queue_delete(q.as_str().into(), if_empty).await), 406);
    let _consumer = link1.consume(&q, false).await;
    let if_unused = QueueDeleteOptions { if_unused: true, ..Default::default() };
    assert_eq!(code(link(&world).await.channel.queue_delete(q.as_str().into(), if_unused).await), 406);
    link1.channel.queue_delete(q.as_str().into(), Default::default()).await.expect("deletes");
}

async fn purge_counts(world: World) {
    let link = link(&world).await;
    let q = link.queue(FieldTable::default()).await;
    link.confirm_mode().await;
    for _ in 0..3 {
        link.send("", &q, "a").await;
    }
    assert_eq!(link.channel.queue_purge(q.as_str().into(), Default::default()).await.expect("purges"), 3);
    assert_eq!(link.depth(&q).await, 0);
}

async fn empty_name_means_last_declared(world: World) {
    let link1 = link(&world).await;
    let q = link1.queue(FieldTable::default()).await;
    link1.confirm_mode().await;
    link1.bind("", "amq.direct", &q).await;
    link1.send("amq.direct", &q, "a").await;
    assert_eq!(link1.depth(&q).await, 1);
    assert!(link1.take("").await.is_some());
    let none = link(&world).await.channel.basic_get("".into(), Default::default()).await;
    assert_eq!(code(none.map(|_| ())), 404);
}

async fn bad_arguments_are_406(world: World) {
    for args in [
        table([("x-max-length", AMQPValue::LongInt(-1))]),
        table([("x-message-ttl", text("soon"))]),
        table([("x-overflow", text("explode"))]),
        table([("x-dead-letter-routing-key", text("k"))]),
        table([("x-expires", AMQPValue::LongInt(0))]),
    ] {
        let link = link(&world).await;
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        assert_eq!(code(link.declare(&name("q"), options, args).await), 406);
    }
}

async fn auto_delete_exchange_goes_with_its_last_binding(world: World) {
    let link1 = link(&world).await;
    let x = link1.exchange(ExchangeKind::Fanout).await;
    let q = link1.queue(FieldTable::default()).await;
    link1.bind(&q, &x, "").await;
    link1.channel.queue_delete(q.as_str().into(), Default::default()).await.expect("deletes");
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let declare = link1.channel.exchange_declare(
        x.as_str().into(),
        ExchangeKind::Fanout,
        passive,
        FieldTable::default(),
    );
    assert_eq!(code(declare.await), 404);
}
