//! Consuming, prefetch, settling, redelivery, cancelling.

use crate::checks;
use crate::common::World;
use crate::common::kit::*;
use crate::common::raw::{HEADER, raw_session};
use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use std::time::Duration;

pub(crate) fn checks() -> Vec<Check> {
    checks![
        prefetch_per_consumer,
        prefetch_per_channel,
        no_ack_ignores_prefetch,
        ack_multiple,
        nack_requeues_in_place,
        reject_without_requeue_drops,
        unknown_tag_is_406,
        double_ack_is_406,
        recover_redelivers,
        recover_without_requeue_is_540,
        channel_close_requeues,
        connection_loss_requeues,
        get_and_get_empty,
        exclusive_consumer_is_alone,
        consumer_tag_reuse_is_530,
        consume_from_nothing_is_404,
        cancel_keeps_deliveries_open,
        cancel_of_nothing_is_fine,
        queue_delete_cancels_consumers,
        consumers_take_turns,
        single_active_consumer_hands_over,
        prefetch_size_is_540,
        flow_off_is_540,
        transactions_or_540,
    ]
}

async fn filled(link: &Link, args: FieldTable, count: usize) -> String {
    let q = link.queue(args).await;
    link.confirm_mode().await;
    for n in 0..count {
        link.send("", &q, &n.to_string()).await;
    }
    q
}

async fn qos(link: &Link, count: u16, global: bool) {
    link.channel.basic_qos(count, BasicQosOptions { global }).await.expect("sets");
}

async fn prefetch_per_consumer(world: World) {
    let link = link(&world).await;
    let q = filled(&link, FieldTable::default(), 5).await;
    qos(&link, 2, false).await;
    let mut a = link.consume(&q, false).await;
    let mut b = link.consume(&q, false).await;
    let first = next(&mut a).await;
    next(&mut a).await;
    next(&mut b).await;
    next(&mut b).await;
    assert!(silent(&mut a).await && silent(&mut b).await);
    first.ack(BasicAckOptions::default()).await.expect("acks");
    assert_eq!(body(&next(&mut a).await), "4");
}

async fn prefetch_per_channel(world: World) {
    let link = link(&world).await;
    let q = filled(&link, FieldTable::default(), 5).await;
    qos(&link, 3, true).await;
    let mut a = link.consume(&q, false).await;
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        deliveries.push(next(&mut a).await);
    }
    let mut b = link.consume(&q, false).await;
    assert!(silent(&mut a).await && silent(&mut b).await);
    deliveries[2].ack(BasicAckOptions { multiple: true }).await.expect("acks");
    let rest = async { tokio::join!(a.next(), b.next()) };
    let both = tokio::time::timeout(Duration::from_secs(2), rest).await;
    assert!(both.is_ok(), "each consumer gets one of the two that are left");
}

async fn no_ack_ignores_prefetch(world: World) {
    let link = link(&world).await;
    let q = filled(&link, FieldTable::default(), 10).await;
    qos(&link, 1, false).await;
    let mut consumer = link.consume(&q, true).await;
    assert_eq!(bodies(&mut consumer, 10).await.len(), 10);
}

async fn ack_multiple(world: World) {
    let link = link(&world).await;
    let q = filled(&link, FieldTable::default(), 5).await;
    let mut consumer = link.consume(&q, false).await;
    let mut last = None;
    for _ in 0..4 {
        last = Some(next(&mut consumer).await);
    }
    last.expect("four").ack(BasicAckOptions { multiple: true }).await.expect("acks");
    link.channel.close(200, "".into()).await.expect("closes");
    let other = Link { channel: link.connection.create_channel().await.expect("a channel"), ..link };
    other.until_depth(&q, 1).await;
    assert_eq!(body(&other.take(&q).await.expect("one")), "4");
}

async fn nack_requeues_in_place(world: World) {
    let link = link(&world).await;
    let q = filled(&link, FieldTable::default(), 4).await;
    qos(&link, 3, false).await;
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        let got = link.channel.basic_get(q.as_str().into(), BasicGetOptions::default()).await;
        deliveries.push(got.expect("gets").expect("one").delivery);
    }
    // Back in another order than they came.
    for index in [2, 0, 1] {
        let nack = BasicNackOptions { requeue: true, ..Default::default() };
        deliveries[index].nack(nack).await.expect("nacks");
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        let delivery = link.take(&q).await.expect("one");
        seen.push((body(&delivery), delivery.redelivered));
    }
    let expect = [("0", true), ("1", true), ("2", true), ("3", false)].map(|(b, r)| (b.to_owned(), r));
    assert_eq!(seen, expect);
}

async fn reject_without_requeue_drops(world: World) {
    let link = link(&world).await;
    let q = filled(&link, FieldTable::default(), 2).await;
    let mut consumer = link.consume(&q, false).await;
    next(&mut consumer).await.reject(BasicRejectOptions { requeue: false }).await.expect("rejects");
    next(&mut consumer).await.reject(BasicRejectOptions { requeue: true }).await.expect("rejects");
    let again = next(&mut consumer).await;
    assert!(again.redelivered && body(&again) == "1");
}

const ACK_1: [u8; 13] = [0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0];

/// Over a raw socket: the refusal of an acknowledgement has no call that could fail with it.
async fn unknown_tag_is_406(world: World) {
    let mut raw = raw_session(&world).await;
    raw.method(1, &ACK_1).await;
    assert_eq!(raw.close_code().await, 406);
}

async fn double_ack_is_406(world: World) {
    let mut raw = raw_session(&world).await;
    raw.method(1, &[0, 50, 0, 10, 0, 0, 0, 4, 0, 0, 0, 0]).await;
    let named = raw.expect([0, 50, 0, 11]).await;
    let queue = &named[..usize::from(named[0]) + 1];
    raw.method(1, &[&[0, 60, 0, 40, 0, 0, 0][..], queue, &[0]].concat()).await;
    raw.frame(2, 1, &HEADER).await;
    raw.frame(3, 1, b"x").await;
    for _ in 0..100 {
        raw.method(1, &[&[0, 60, 0, 70, 0, 0][..], queue, &[0]].concat()).await;
        let (_, _, answer) = raw.read_frame().await.expect("an answer");
        if answer.starts_with(&[0, 60, 0, 71]) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    raw.method(1, &ACK_1).await;
    raw.method(1, &ACK_1).await;
    assert_eq!(raw.close_code().await, 406);
}

async fn recover_redelivers(world: World) {
    let link = link(&world).await;
    let q = filled(&link, FieldTable::default(), 2).await;
    let mut consumer = link.consume(&q, false).await;
    bodies(&mut consumer, 2).await;
    link.channel.basic_recover(BasicRecoverOptions { requeue: true }).await.expect("recovers");
    let again = next(&mut consumer).await;
    assert!(again.redelivered && body(&again) == "0");
}

async fn recover_without_requeue_is_540(world: World) {
    let link = link(&world).await;
    let refused = link.channel.basic_recover(BasicRecoverOptions { requeue: false }).await;
    assert_eq!(code(refused), 540);
}

async fn channel_close_requeues(world: World) {
    let link = link(&world).await;
    let q = filled(&link, FieldTable::default(), 3).await;
    let mut consumer = link.consume(&q, false).await;
    bodies(&mut consumer, 3).await;
    link.channel.close(200, "".into()).await.expect("closes");
    let other = Link { channel: link.connection.create_channel().await.expect("a channel"), ..link };
    other.until_depth(&q, 3).await;
    let first = other.take(&q).await.expect("one");
    assert!(first.redelivered && body(&first) == "0");
}

async fn connection_loss_requeues(world: World) {
    let link1 = link(&world).await;
    let q = name("q");
    link1.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    link1.confirm_mode().await;
    link1.send("", &q, "m").await;
    let link2 = link(&world).await;
    let mut consumer = link2.consume(&q, false).await;
    next(&mut consumer).await;
    link2.connection.close(200, "".into()).await.expect("closes");
    link1.until_depth(&q, 1).await;
    assert!(link1.take(&q).await.expect("one").redelivered);
    link1.channel.queue_delete(q.as_str().into(), Default::default()).await.expect("deletes");
}

async fn get_and_get_empty(world: World) {
    let link = link(&world).await;
    let q = filled(&link, FieldTable::default(), 2).await;
    let first = link.channel.basic_get(q.as_str().into(), BasicGetOptions { no_ack: false }).await;
    let first = first.expect("gets").expect("one");
    assert_eq!((first.message_count, body(&first.delivery)), (1, "0".to_owned()));
    first.delivery.ack(Default::default()).await.expect("acks");
    assert!(link.take(&q).await.is_some());
    assert!(link.take(&q).await.is_none());
}

async fn exclusive_consumer_is_alone(world: World) {
    let link1 = link(&world).await;
    let q = name("q");
    link1.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let consume = link1.channel.basic_consume(q.as_str().into(), "".into(), options, FieldTable::default());
    let consumer = consume.await.expect("consumes");
    let other = link(&world).await;
    let consume =
        other.channel.basic_consume(q.as_str().into(), "".into(), Default::default(), FieldTable::default());
    assert_eq!(code(consume.await.map(|_| ())), 403);
    link1.channel.basic_cancel(consumer.tag(), Default::default()).await.expect("cancels");
    let third = link(&world).await;
    let _shared = third.consume(&q, false).await;
    let consume = link1.channel.basic_consume(q.as_str().into(), "".into(), options, FieldTable::default());
    assert_eq!(code(consume.await.map(|_| ())), 403);
    third.channel.queue_delete(q.as_str().into(), Default::default()).await.expect("deletes");
}

async fn consumer_tag_reuse_is_530(world: World) {
    let link = link(&world).await;
    let q = link.queue(FieldTable::default()).await;
    let consume = || {
        link.channel.basic_consume(
            q.as_str().into(),
            "mine".into(),
            Default::default(),
            FieldTable::default(),
        )
    };
    let _first = consume().await.expect("consumes");
    assert_eq!(code(consume().await.map(|_| ())), 530);
}

async fn consume_from_nothing_is_404(world: World) {
    let link = link(&world).await;
    let consume =
        link.channel.basic_consume("nothing".into(), "".into(), Default::default(), FieldTable::default());
    assert_eq!(code(consume.await.map(|_| ())), 404);
}

async fn cancel_keeps_deliveries_open(world: World) {
    let link = link(&world).await;
    let q = filled(&link, FieldTable::default(), 2).await;
    qos(&link, 1, false).await;
    let mut consumer = link.consume(&q, false).await;
    let held = next(&mut consumer).await;
    link.channel.basic_cancel(consumer.tag(), Default::default()).await.expect("cancels");
    assert_eq!(link.depth(&q).await, 1);
    held.ack(Default::default()).await.expect("acks");
    assert_eq!(body(&link.take(&q).await.expect("one")), "1");
}

async fn cancel_of_nothing_is_fine(world: World) {
    let link = link(&world).await;
    link.channel.basic_cancel("nobody".into(), Default::default()).await.expect("fine");
}

async fn queue_delete_cancels_consumers(world: World) {
    let link = link(&world).await;
    let q = name("q");
    link.declare(&q, Default::default(), FieldTable::default()).await.expect("declares");
    let mut consumer = link.consume(&q, false).await;
    let second = link.connection.create_channel().await.expect("a channel");
    second.queue_delete(q.as_str().into(), Default::default()).await.expect("deletes");
    let end = tokio::time::timeout(Duration::from_secs(5), consumer.next()).await.expect("in time");
    assert!(end.is_none(), "{end:?}");
}

async fn consumers_take_turns(world: World) {
    let link = link(&world).await;
    let q = link.queue(FieldTable::default()).await;
    let (mut a, mut b) = (link.consume(&q, true).await, link.consume(&q, true).await);
    link.confirm_mode().await;
    for n in 0..4 {
        link.send("", &q, &n.to_string()).await;
    }
    assert_eq!(bodies(&mut a, 2).await, ["0", "2"]);
    assert_eq!(bodies(&mut b, 2).await, ["1", "3"]);
}

async fn single_active_consumer_hands_over(world: World) {
    let link = link(&world).await;
    let q = link.queue(table([("x-single-active-consumer", AMQPValue::Boolean(true))])).await;
    let (mut a, mut b) = (link.consume(&q, false).await, link.consume(&q, false).await);
    link.confirm_mode().await;
    link.send("", &q, "0").await;
    link.send("", &q, "1").await;
    let first = next(&mut a).await;
    next(&mut a).await.ack(Default::default()).await.expect("acks");
    assert!(silent(&mut b).await);
    link.channel.basic_cancel(a.tag(), Default::default()).await.expect("cancels");
    link.send("", &q, "2").await;
    assert_eq!(body(&next(&mut b).await), "2");
    first.nack(BasicNackOptions { requeue: true, ..Default::default() }).await.expect("nacks");
    assert_eq!(body(&next(&mut b).await), "0");
}

async fn prefetch_size_is_540(world: World) {
    // lapin cannot send a prefetch size, so this goes over a raw socket.
    let mut raw = raw_session(&world).await;
    raw.method(1, &[0, 60, 0, 10, 0, 0, 0, 9, 0, 1, 0]).await;
    assert_eq!(raw.close_code().await, 540);
}

async fn flow_off_is_540(world: World) {
    let link = link(&world).await;
    assert!(link.channel.channel_flow(ChannelFlowOptions { active: true }).await.expect("fine"));
    assert_eq!(code(link.channel.channel_flow(ChannelFlowOptions { active: false }).await), 540);
}

async fn transactions_or_540(world: World) {
    let link = link(&world).await;
    match world.handle {
        // Left out on purpose: confirms do what transactions were for.
        Some(_) => assert_eq!(code(link.channel.tx_select().await), 540),
        None => link.channel.tx_select().await.expect("RabbitMQ has them"),
    }
    let _unused = BasicProperties::default();
}
