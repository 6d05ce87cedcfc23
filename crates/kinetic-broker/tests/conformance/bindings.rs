//! Routing through bindings, from the outside.

use crate::checks;
use crate::common::World;
use crate::common::kit::*;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};

pub(crate) fn checks() -> Vec<Check> {
    checks![
        topic_patterns,
        fanout_ignores_keys_and_direct_does_not,
        headers_exchange,
        exchange_to_exchange_keeps_the_first_name,
        a_queue_gets_one_copy,
        unbind_stops_routing,
        what_is_not_there_is_unbound_and_deleted_without_error,
        bind_to_nothing_is_404,
        alternate_exchange,
        internal_exchange_is_403,
    ]
}

async fn topic_patterns(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let x = link.exchange(ExchangeKind::Topic).await;
    for (pattern, key, expect) in [
        ("a.*", "a.b", true),
        ("a.*", "a", false),
        ("a.*", "a.b.c", false),
        ("a.#", "a", true),
        ("a.#", "a.b.c", true),
        ("#.c", "c", true),
        ("#.c", "a.b.c", true),
        ("*", "", false),
        ("#", "", true),
        ("*.#", "", false),
        ("*.*", ".", true),
        ("", "", true),
        ("#.*", "", false),
        ("a.#.c", "a.c", true),
        ("a.*.c", "a..c", true),
        ("#.#", "a", true),
        ("a.b", "a.*", false),
    ] {
        let q = link.queue(FieldTable::default()).await;
        link.bind(&q, &x, pattern).await;
        link.send(&x, key, "m").await;
        assert_eq!(link.depth(&q).await == 1, expect, "{pattern} {key}");
    }
}

async fn fanout_ignores_keys_and_direct_does_not(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    for (kind, expect) in [(ExchangeKind::Fanout, 2), (ExchangeKind::Direct, 1)] {
        let x = link.exchange(kind).await;
        let q = link.queue(FieldTable::default()).await;
        link.bind(&q, &x, "a").await;
        link.send(&x, "a", "m").await;
        link.send(&x, "b", "m").await;
        assert_eq!(link.depth(&q).await, expect);
    }
}

async fn headers_exchange(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let x = link.exchange(ExchangeKind::Headers).await;
    let message = table([("a", text("1")), ("b", AMQPValue::LongInt(2))]);
    for (args, expect) in [
        (table([("x-match", text("all")), ("a", text("1")), ("b", AMQPValue::LongInt(2))]), 1),
        (table([("x-match", text("all")), ("a", text("1")), ("c", text("3"))]), 0),
        (table([("x-match", text("any")), ("a", text("0")), ("b", AMQPValue::LongInt(2))]), 1),
        (table([("a", text("1"))]), 1),
        (table([("x-match", text("any")), ("z", text("1"))]), 0),
    ] {
        let q = link.queue(FieldTable::default()).await;
        let bind = link.channel.queue_bind(
            q.as_str().into(),
            x.as_str().into(),
            "".into(),
            Default::default(),
            args,
        );
        bind.await.expect("binds");
        let properties = BasicProperties::default().with_headers(message.clone());
        link.send_with(&x, "", "m", false, properties).await.expect("sends");
        assert_eq!(link.depth(&q).await, expect);
        link.channel.queue_delete(q.as_str().into(), Default::default()).await.expect("deletes");
        let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
        let again = link.channel.exchange_declare(
            x.as_str().into(),
            ExchangeKind::Headers,
            options,
            FieldTable::default(),
        );
        again.await.expect("declares");
    }
}

async fn exchange_to_exchange_keeps_the_first_name(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let (first, second) =
        (link.exchange(ExchangeKind::Topic).await, link.exchange(ExchangeKind::Topic).await);
    let q = link.queue(FieldTable::default()).await;
    link.bind(&q, &second, "a.b").await;
    let args = FieldTable::default();
    let bind = link.channel.exchange_bind(
        second.as_str().into(),
        first.as_str().into(),
        "a.*".into(),
        Default::default(),
        args,
    );
    bind.await.expect("binds");
    link.send(&first, "a.b", "m").await;
    link.send(&first, "a.c", "m").await;
    let delivery = link.take(&q).await.expect("one");
    assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), (first.as_str(), "a.b"));
    assert!(link.take(&q).await.is_none());
    let args = FieldTable::default();
    let unbind = link.channel.exchange_unbind(
        second.as_str().into(),
        first.as_str().into(),
        "a.*".into(),
        Default::default(),
        args,
    );
    unbind.await.expect("unbinds");
}

async fn a_queue_gets_one_copy(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let x = link.exchange(ExchangeKind::Topic).await;
    let q = link.queue(FieldTable::default()).await;
    for pattern in ["#", "a.#", "*.b", "a.b"] {
        link.bind(&q, &x, pattern).await;
    }
    link.send(&x, "a.b", "m").await;
    assert_eq!(link.depth(&q).await, 1);
}

async fn unbind_stops_routing(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let q = link.queue(FieldTable::default()).await;
    link.bind(&q, "amq.topic", "unbind.test").await;
    link.send("amq.topic", "unbind.test", "m").await;
    let unbind = |key: &str| {
        link.channel.queue_unbind(q.as_str().into(), "amq.topic".into(), key.into(), FieldTable::default())
    };
    unbind("unbind.test").await.expect("unbinds");
    unbind("never.bound").await.expect("no error");
    link.send("amq.topic", "unbind.test", "m").await;
    assert_eq!(link.depth(&q).await, 1);
}

async fn what_is_not_there_is_unbound_and_deleted_without_error(world: World) {
    let link = link(&world).await;
    let q = link.queue(FieldTable::default()).await;
    for (queue, exchange) in [("nothing", "amq.topic"), (q.as_str(), "nothing"), ("nothing", "nothing")] {
        let args = FieldTable::default();
        link.channel.queue_unbind(queue.into(), exchange.into(), "".into(), args).await.expect("no error");
        let args = FieldTable::default();
        let unbind =
            link.channel.exchange_unbind(queue.into(), exchange.into(), "".into(), Default::default(), args);
        unbind.await.expect("no error");
    }
    link.channel.exchange_delete("nothing".into(), Default::default()).await.expect("no error");
    link.channel.queue_delete("nothing".into(), Default::default()).await.expect("no error");
}

async fn bind_to_nothing_is_404(world: World) {
    let link1 = link(&world).await;
    let q = link1.queue(FieldTable::default()).await;
    let args = FieldTable::default();
    let bind =
        link1.channel.queue_bind(q.as_str().into(), "nothing".into(), "".into(), Default::default(), args);
    assert_eq!(code(bind.await), 404);
    let link2 = link(&world).await;
    let args = FieldTable::default();
    let bind =
        link2.channel.queue_bind("nothing".into(), "amq.topic".into(), "".into(), Default::default(), args);
    assert_eq!(code(bind.await), 404);
}

async fn alternate_exchange(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let rest = link.exchange(ExchangeKind::Fanout).await;
    let x = name("x");
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    let args = table([("alternate-exchange", text(&rest))]);
    link.channel
        .exchange_declare(x.as_str().into(), ExchangeKind::Direct, options, args)
        .await
        .expect("declares");
    let (q, other) = (link.queue(FieldTable::default()).await, link.queue(FieldTable::default()).await);
    link.bind(&q, &x, "a").await;
    link.bind(&other, &rest, "").await;
    link.send(&x, "a", "m").await;
    link.send(&x, "b", "m").await;
    assert_eq!((link.depth(&q).await, link.depth(&other).await), (1, 1));
    assert_eq!(link.take(&other).await.expect("one").exchange.as_str(), x);
}

async fn internal_exchange_is_403(world: World) {
    let link = link(&world).await;
    link.confirm_mode().await;
    let x = name("x");
    let options = ExchangeDeclareOptions { auto_delete: true, internal: true, ..Default::default() };
    let declare = link.channel.exchange_declare(
        x.as_str().into(),
        ExchangeKind::Fanout,
        options,
        FieldTable::default(),
    );
    declare.await.expect("declares");
    assert_eq!(code(link.send_with(&x, "", "m", false, BasicProperties::default()).await.map(|_| ())), 403);
}
