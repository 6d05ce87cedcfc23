//! What every broker must do for us. Each story gets the address of a broker and uses names of its own.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use kinetic_amqp::{
    Address, AmqpError, Binding, ConsumeOptions, Consumer, Delivery, Event, Exchange, ExchangeKind,
    Leftovers, Outcome, PublishError, Publisher, Queue, QueueArgs, RpcClient, RpcFailed, RpcServer, Settle,
    Topology, Watcher, declare, delete_queue, peek, queue_depth, remove,
};
use kinetic_wire::{Envelope, Wall};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The future's result, or the end of the test.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("still waiting: {what}"))
}

pub(crate) async fn delivery(consumer: &mut Consumer) -> Delivery {
    loop {
        match soon("a delivery", consumer.next()).await {
            Event::Delivery(delivery) => return delivery,
            Event::Subscribed => {}
            other => panic!("wanted a delivery, got {other:?}"),
        }
    }
}

pub(crate) async fn subscribed(consumer: &mut Consumer) {
    loop {
        match soon("a subscription", consumer.next()).await {
            Event::Subscribed => return,
            Event::Lost { .. } => {}
            other => panic!("wanted a subscription, got {other:?}"),
        }
    }
}

/// A durable topic exchange `name` with a durable queue `name` behind it, and `name.dead` for what is rejected.
pub(crate) fn topology(name: &str) -> Topology {
    let dead = format!("{name}.dead");
    let args = QueueArgs { dead_letter_exchange: Some(dead.clone()), ..QueueArgs::default() };
    Topology {
        exchanges: vec![
            Exchange::durable(name, ExchangeKind::Topic),
            Exchange::durable(&dead, ExchangeKind::Fanout),
        ],
        queues: vec![Queue::durable(name).with_args(args), Queue::durable(&dead)],
        bindings: vec![Binding::new(name, name, "web.#"), Binding::new(&dead, &dead, "")],
    }
}

pub(crate) fn options(name: &str, prefetch: u16) -> ConsumeOptions {
    ConsumeOptions { queue: name.to_owned(), topology: topology(name), prefetch, ..ConsumeOptions::default() }
}

async fn depth_becomes(address: &Address, queue: &str, want: u32) {
    let reached = async {
        while queue_depth(address, queue).await.unwrap().map(|depth| depth.messages) != Some(want) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(&format!("{queue} to hold {want}"), reached).await;
}

/// Publish, consume, settle in every way, see what is left.
pub(crate) async fn settles(address: Address) {
    let publisher = Publisher::start(address.clone(), topology("settles"), 8);
    let envelope = Envelope {
        kind: Some("kinetic.data.statsd.v1".into()),
        origin: Some("web-1".into()),
        ts: Some(Wall(42)),
        persistent: true,
        ..Envelope::default()
    };
    for n in 0..9_u8 {
        let sent = publisher.publish("settles", "web.one", &envelope, vec![n], true);
        assert_eq!(soon("a confirm", sent).await.unwrap(), Outcome::Confirmed);
    }
    let mut consumer = Consumer::start(address.clone(), options("settles", 100));
    subscribed(&mut consumer).await;
    for n in 0..9_u8 {
        let got = delivery(&mut consumer).await;
        assert_eq!((got.token, got.body(), got.redelivered), (u64::from(n) + 1, &[n][..], false));
        assert_eq!((got.exchange(), got.routing_key()), ("settles", "web.one"));
        assert_eq!(got.envelope(), envelope);
    }
    assert!(consumer.try_next().is_none());
    consumer.settle(Settle::AckUpTo(2)).await;
    consumer.settle(Settle::AckUpTo(1)).await;
    consumer.settle(Settle::Ack(3)).await;
    consumer.settle(Settle::Reject { token: 4, requeue: false }).await;
    consumer.settle(Settle::Reject { token: 5, requeue: true }).await;
    consumer.settle(Settle::AckEach { first: 7, last: 8 }).await;
    consumer.settle(Settle::Ack(99)).await;
    let again = delivery(&mut consumer).await;
    assert_eq!((again.token, again.body(), again.redelivered), (10, &[4_u8][..], true));
    consumer.close().await;
    // The fifth came again, the sixth and the ninth were never settled; the seventh and eighth were, by themselves.
    depth_becomes(&address, "settles", 3).await;
    depth_becomes(&address, "settles.dead", 1).await;
    publisher.close().await;
}

/// Hundreds in flight, every third without a queue: each caller hears about its own message.
pub(crate) async fn returns_find_their_message(address: Address) {
    let publisher = Publisher::start(address, topology("returns"), 64);
    let outcomes = join_all((0..600).map(|n| {
        let publisher = publisher.clone();
        async move {
            let key = if n % 3 == 0 { format!("db.{}", n % 7) } else { format!("web.{}", n % 7) };
            publisher
                .publish("returns", &key, &Envelope::default(), vec![b'x'; 100], n % 2 == 0)
                .await
                .unwrap()
        }
    }));
    for (n, outcome) in soon("600 confirms", outcomes).await.into_iter().enumerate() {
        let want = if n % 6 == 0 { Outcome::Unroutable } else { Outcome::Confirmed };
        assert_eq!(outcome, want, "message {n}");
    }
    publisher.close().await;
}

/// A message for an exchange that does not exist closes the channel under its neighbours, and the broker does not say which
/// it was: they are confirmed after a retry, and it alone is refused, at its second attempt at the latest (at its first, where it
/// happened to be in flight alone).
pub(crate) async fn a_bad_message_alone_is_refused(address: Address) {
    let publisher = Publisher::start(address, topology("poison"), 16);
    let attempts = Cell::new(0);
    // All wait for the connection, and leave in one go.
    let all = join_all((0..12).map(|n| {
        let (publisher, attempts) = (&publisher, &attempts);
        async move {
            let exchange = if n == 0 { "no-such-exchange" } else { "poison" };
            loop {
                attempts.set(attempts.get() + u32::from(n == 0));
                match publisher.publish(exchange, "web.x", &Envelope::default(), vec![1], true).await {
                    Err(error) if error.is_transient() => {}
                    other => return other,
                }
            }
        }
    }));
    for (n, result) in soon("12 verdicts", all).await.into_iter().enumerate() {
        match result {
            Ok(Outcome::Confirmed) if n != 0 => {}
            Err(PublishError::Refused(AmqpError::Refused { code: 404, .. })) if n == 0 => {}
            other => panic!("message {n}: {other:?}"),
        }
    }
    assert!(attempts.get() <= 2, "attempts of the bad one: {}", attempts.get());
    publisher.close().await;
}

/// No more than the prefetch is handed out unsettled.
pub(crate) async fn prefetch_bounds(address: Address) {
    let publisher = Publisher::start(address.clone(), topology("prefetch"), 8);
    for n in 0..5_u8 {
        publisher.publish("prefetch", "web", &Envelope::default(), vec![n], true).await.unwrap();
    }
    let mut consumer = Consumer::start(address, options("prefetch", 3));
    for _ in 0..3 {
        delivery(&mut consumer).await;
    }
    let early = tokio::time::timeout(Duration::from_millis(300), consumer.next()).await;
    assert!(early.is_err(), "a fourth delivery in spite of the prefetch: {early:?}");
    consumer.settle(Settle::AckUpTo(3)).await;
    assert_eq!(delivery(&mut consumer).await.body(), [3]);
    drop(consumer);
    publisher.close().await;
}

/// After a cancel: what had arrived is handed out and may be settled, then `Cancelled`, then silence.
pub(crate) async fn cancel_drains(address: Address) {
    let publisher = Publisher::start(address.clone(), topology("cancel"), 8);
    let mut consumer = Consumer::start(address.clone(), options("cancel", 10));
    subscribed(&mut consumer).await;
    for n in 0..3_u8 {
        publisher.publish("cancel", "web", &Envelope::default(), vec![n], true).await.unwrap();
    }
    assert_eq!(delivery(&mut consumer).await.body(), [0]);
    soon("the cancel", consumer.cancel()).await;
    publisher.publish("cancel", "web", &Envelope::default(), vec![9], true).await.unwrap();
    let mut last = 1;
    loop {
        match soon("the drain", consumer.next()).await {
            Event::Delivery(delivery) => {
                assert_ne!(delivery.body(), [9], "delivered after the cancel");
                last = delivery.token;
            }
            Event::Cancelled => break,
            other => panic!("{other:?}"),
        }
    }
    consumer.settle(Settle::AckUpTo(last)).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), consumer.next()).await.is_err());
    consumer.close().await;
    depth_becomes(&address, "cancel", 4 - u32::try_from(last).unwrap()).await;
    publisher.close().await;
}

/// The queue is deleted under the consumer: it declares it again and goes on.
pub(crate) async fn a_deleted_queue_is_declared_again(address: Address) {
    let mut consumer = Consumer::start(address.clone(), options("deleted", 10));
    subscribed(&mut consumer).await;
    delete_queue(&address, "deleted").await.unwrap();
    let lost = soon("the loss", consumer.next()).await;
    assert!(matches!(&lost, Event::Lost { reason } if reason.contains("cancelled")), "{lost:?}");
    subscribed(&mut consumer).await;
    let publisher = Publisher::start(address, topology("deleted"), 8);
    publisher.publish("deleted", "web", &Envelope::default(), vec![7], true).await.unwrap();
    assert_eq!(delivery(&mut consumer).await.body(), [7]);
    consumer.close().await;
    publisher.close().await;
}

/// What is in a queue is seen, the newest of it where that is more than is wanted, and is still there in its order; what
/// somebody holds is not seen.
pub(crate) async fn a_queue_is_looked_at(address: Address) {
    for (name, quorum) in [("peeked", false), ("peeked.quorum", true)] {
        let args = QueueArgs { max_length: Some(8), overflow: None, quorum, ..QueueArgs::default() };
        let topology = Topology { queues: vec![Queue::durable(name).with_args(args)], ..Topology::default() };
        assert!(peek(&address, name, 8).await.unwrap().is_empty(), "no such queue");
        let publisher = Publisher::start(address.clone(), topology.clone(), 8);
        let envelope = Envelope { kind: Some("kinetic.snapshot.v1".into()), ..Envelope::default() };
        for n in 0..9_u8 {
            publisher.publish("", name, &envelope, vec![n], true).await.unwrap();
        }
        for (max, want) in [(8, 1..9_u8), (3, 6..9), (100, 1..9)] {
            let seen = soon("a look", peek(&address, name, max)).await.unwrap();
            assert!(
                seen.iter().all(|message| message.envelope().kind.as_deref() == Some("kinetic.snapshot.v1"))
            );
            let bodies: Vec<u8> = seen.iter().map(|message| message.body()[0]).collect();
            assert_eq!(bodies, Vec::from_iter(want), "{name}, {max} at most");
        }
        let options =
            ConsumeOptions { queue: name.to_owned(), topology, prefetch: 5, ..ConsumeOptions::default() };
        let mut consumer = Consumer::start(address.clone(), options);
        for n in 1..6_u8 {
            assert_eq!(delivery(&mut consumer).await.body(), [n], "{name}: given back in its place");
        }
        let seen = soon("a look", peek(&address, name, 8)).await.unwrap();
        assert_eq!(seen.iter().map(|message| message.body()[0]).collect::<Vec<u8>>(), [6, 7, 8]);
        consumer.close().await;
        publisher.close().await;
    }
}

/// An own queue of the consumer, bound to a fanout.
pub(crate) async fn own_queue_is_bound(address: Address) {
    let notices = Topology {
        exchanges: vec![Exchange::durable("notices", ExchangeKind::Fanout)],
        bindings: vec![Binding::new("", "notices", "")],
        ..Topology::default()
    };
    let options =
        ConsumeOptions { topology: notices.clone(), prefetch: 5, no_ack: true, ..ConsumeOptions::default() };
    let mut consumer = Consumer::start(address.clone(), options);
    subscribed(&mut consumer).await;
    let publisher = Publisher::start(address, Topology { bindings: vec![], ..notices }, 8);
    publisher.publish("notices", "", &Envelope::default(), "new", true).await.unwrap();
    let got = delivery(&mut consumer).await;
    assert_eq!(got.body(), b"new");
    consumer.settle(Settle::Ack(got.token)).await;
    assert!(consumer.subscribed());
    drop(consumer);
    publisher.close().await;
}

/// A queue's data goes to three others by a header's value, then to the one again: what is not wanted any more is removed.
pub(crate) async fn a_source_is_split_and_joined_again(address: Address) {
    let parts: Vec<String> = (1..=3).map(|part| format!("whole.{part}")).collect();
    let split = Topology {
        exchanges: vec![
            Exchange::durable("ingress", ExchangeKind::Topic),
            Exchange {
                hash_header: Some("kin-origin".to_owned()),
                takes_from: vec![("ingress".to_owned(), "web.#".to_owned())],
                ..Exchange::durable("split", ExchangeKind::ConsistentHash)
            },
        ],
        queues: parts.iter().map(Queue::durable).collect(),
        bindings: parts.iter().map(|part| Binding::new(part, "split", "1")).collect(),
    };
    let whole = Topology {
        exchanges: vec![Exchange::durable("ingress", ExchangeKind::Topic)],
        queues: vec![Queue::durable("whole")],
        bindings: vec![Binding::new("whole", "ingress", "web.#")],
    };
    let publisher = Publisher::start(address.clone(), whole.clone(), 64);
    let depths = async || {
        let mut depths = Vec::new();
        for queue in ["whole", "whole.1", "whole.2", "whole.3"] {
            depths.push(queue_depth(&address, queue).await.unwrap().map_or(0, |depth| depth.messages));
        }
        depths
    };
    let publish = async || {
        for n in 0..60 {
            let envelope = Envelope { origin: Some(format!("web-{}", n % 20).into()), ..Envelope::default() };
            let sent = publisher.publish("ingress", "web.one", &envelope, vec![1], true);
            assert_eq!(soon("a confirm", sent).await.unwrap(), Outcome::Confirmed);
        }
    };
    soon("a declaration", declare(&address, &split)).await.unwrap();
    let unbound = Leftovers { bindings: whole.bindings.clone(), ..Leftovers::default() };
    soon("a removal", remove(&address, &unbound)).await.unwrap();
    publish().await;
    let first = depths().await;
    assert_eq!((first[0], first.iter().sum::<u32>()), (0, 60), "{first:?}");
    assert!(first[1..].iter().all(|depth| depth % 3 == 0), "an origin is in one part: {first:?}");
    soon("a declaration", declare(&address, &whole)).await.unwrap();
    let gone = Leftovers {
        exchanges: vec!["none".to_owned(), "split".to_owned(), "none".to_owned()],
        ..Leftovers::default()
    };
    soon("a removal", remove(&address, &gone)).await.unwrap();
    soon("a removal of nothing", remove(&address, &gone)).await.unwrap();
    publish().await;
    let second = depths().await;
    assert_eq!((second[0], &second[1..]), (60, &first[1..]));
    publisher.close().await;
}

/// A part of a split queue is taken from its exchange, and that with it, while its data is published: from then on it is
/// returned. None of it is in the other parts.
pub(crate) async fn a_part_that_goes_leads_nothing_to_the_others(address: Address) {
    let parts: Vec<String> = (1..=3).map(|part| format!("left.{part}")).collect();
    let split = Topology {
        exchanges: vec![
            Exchange::durable("leaving", ExchangeKind::Topic),
            Exchange {
                hash_header: Some("kin-origin".to_owned()),
                takes_from: vec![("leaving".to_owned(), "#".to_owned())],
                ..Exchange::durable("left", ExchangeKind::ConsistentHash)
            },
        ],
        queues: parts.iter().map(Queue::durable).collect(),
        bindings: parts.iter().map(|part| Binding::new(part, "left", "1")).collect(),
    };
    let ingress = Topology { exchanges: split.exchanges[..1].to_vec(), ..Topology::default() };
    let publisher = Publisher::start(address.clone(), ingress, 64);
    let envelope = Envelope { origin: Some("web-1".into()), ..Envelope::default() };
    let depths = async || {
        let mut depths = Vec::new();
        for part in &parts {
            depths.push(queue_depth(&address, part).await.unwrap().map_or(0, |depth| depth.messages));
        }
        depths
    };
    for _ in 0..10 {
        soon("a declaration", declare(&address, &split)).await.unwrap();
        let before = depths().await;
        let sent = publisher.publish("leaving", "web", &envelope, vec![1], true);
        assert_eq!(soon("a confirm", sent).await.unwrap(), Outcome::Confirmed);
        let after = depths().await;
        let own = (0..3).find(|part| after[*part] > before[*part]).expect("it is in one of them");
        let gone = Leftovers {
            bindings: vec![Binding::new(&parts[own], "left", "1")],
            exchanges: vec!["left".to_owned()],
        };
        let publish = async {
            while let Ok(Outcome::Confirmed) =
                publisher.publish("leaving", "web", &envelope, vec![1], true).await
            {}
        };
        let (removed, ()) =
            soon("a removal", futures_util::future::join(remove(&address, &gone), publish)).await;
        removed.unwrap();
        let mut last = depths().await;
        last[own] = after[own];
        assert_eq!(last, after, "what belongs to one part has reached another");
    }
    publisher.close().await;
}

pub(crate) fn rpc_topology(name: &str) -> Topology {
    Topology {
        exchanges: vec![Exchange::durable(name, ExchangeKind::Direct)],
        queues: vec![Queue {
            args: QueueArgs { single_active_consumer: true, ..QueueArgs::default() },
            ..Queue::durable(name)
        }],
        bindings: vec![Binding::new(name, name, "locate")],
    }
}

/// A request and its reply; one that nobody serves; one that nobody answers, which the next server gets again.
pub(crate) async fn requests_are_answered(address: Address) {
    let client = RpcClient::start(address.clone());
    soon("the client", client.wait_connected()).await;
    declare(&address, &rpc_topology("rpc")).await.unwrap();
    let mut server = RpcServer::start(address.clone(), rpc_topology("rpc"), "rpc");
    let serve = async {
        for _ in 0..50 {
            let request = server.next().await;
            assert_eq!(
                (request.kind.as_str(), request.user_id.as_deref()),
                ("locate", Some(address.login.as_str()))
            );
            let mut body = request.body;
            body.reverse();
            server.reply(request.handle, body).await;
        }
    };
    let ask = join_all((0..50_u8).map(|n| {
        let client = client.clone();
        async move {
            let reply = client.request("rpc", "locate", vec![n, 1, 2], PATIENCE).await;
            assert_eq!(reply.unwrap(), [2, 1, n]);
        }
    }));
    soon("50 replies", futures_util::future::join(serve, ask)).await;

    let nobody = client.request("rpc", "no-such-kind", vec![], PATIENCE).await;
    assert_eq!(nobody, Err(RpcFailed::Unroutable));

    let silent = client.request("rpc", "locate", vec![5], Duration::from_millis(300));
    let (taken, timed_out) = futures_util::future::join(server.next(), silent).await;
    assert_eq!((taken.body, timed_out), (vec![5], Err(RpcFailed::Timeout)));
    // Taken and never answered; the request itself had not expired while it was held.
    let late = client.request("rpc", "locate", vec![6], PATIENCE);
    let serve_late = async {
        assert_eq!(server.next().await.body, [6]);
        server.close().await;
        let mut successor = RpcServer::start(address.clone(), rpc_topology("rpc"), "rpc");
        loop {
            let request = successor.next().await;
            let mine = request.body == [6];
            assert!(request.redelivered);
            successor.reply(request.handle, vec![66]).await;
            if mine {
                return successor;
            }
        }
    };
    let (successor, late) = soon("the successor's reply", futures_util::future::join(serve_late, late)).await;
    assert_eq!(late, Ok(vec![66]));
    successor.close().await;
    depth_becomes(&address, "rpc", 0).await;
    client.close().await;
}

/// A server may send several messages to one direct reply-to address, before the answer and long after it, and they are told from
/// answers; an address whose owner has gone swallows them, and the server goes on.
pub(crate) async fn messages_are_pushed(address: Address) {
    let client = RpcClient::start(address.clone());
    let mut server = RpcServer::start(address.clone(), rpc_topology("push"), "push");
    declare(&address, &rpc_topology("push")).await.unwrap();
    let mut addresses = Vec::new();
    for round in 0..2_u8 {
        let serve = async {
            let request = server.next().await;
            let reply_to = request.reply_to.clone().unwrap();
            server.push(&reply_to, "kinetic.nudge.v1", &[round, 0]).await;
            server.reply(request.handle, vec![9]).await;
            server.push(&reply_to, "kinetic.nudge.v1", &[round, 1]).await;
            server.push(&reply_to, "kinetic.nudge.v1", &[round, 2]).await;
            reply_to
        };
        let ask = client.request("push", "locate", vec![round], PATIENCE);
        let (reply_to, answer) = soon("the answer", futures_util::future::join(serve, ask)).await;
        assert_eq!(answer, Ok(vec![9]));
        for n in 0..3 {
            let pushed = soon("a pushed message", client.pushed()).await;
            assert_eq!((pushed.kind.as_deref(), pushed.body), (Some("kinetic.nudge.v1"), vec![round, n]));
        }
        addresses.push(reply_to);
    }
    // The first address is still good: one client has one.
    server.push(&addresses[0], "kinetic.nudge.v1", &[7]).await;
    assert_eq!(soon("a late message", client.pushed()).await.body, [7]);
    client.close().await;
    server.push(&addresses[0], "kinetic.nudge.v1", &[8]).await;
    let next = RpcClient::start(address);
    let serve = async {
        let request = server.next().await;
        server.reply(request.handle, vec![1]).await;
    };
    let ask = next.request("push", "locate", vec![], PATIENCE);
    assert_eq!(soon("the server goes on", futures_util::future::join(serve, ask)).await.1, Ok(vec![1]));
    next.close().await;
    server.close().await;
}

/// Somebody holds the message of a queue of its own: while its connection stands a watcher hears nothing, when it ends, at once;
/// the message goes back, and the queue goes with its last consumer. A queue that nobody consumes is reported at once.
pub(crate) async fn the_broker_bears_witness(address: Address) {
    let queue = |name: &str| Queue {
        name: name.to_owned(),
        auto_delete: true,
        args: QueueArgs { single_active_consumer: true, ..QueueArgs::default() },
        ..Queue::default()
    };
    let publisher = Publisher::start(address.clone(), Topology::default(), 8);
    let hold = async |name: &str| {
        let topology = Topology { queues: vec![queue(name)], ..Topology::default() };
        let options =
            ConsumeOptions { queue: name.to_owned(), topology, prefetch: 1, ..ConsumeOptions::default() };
        let mut holder = Consumer::start(address.clone(), options);
        subscribed(&mut holder).await;
        publisher.publish("", name, &Envelope::default(), name.to_owned(), true).await.unwrap();
        assert_eq!(delivery(&mut holder).await.body(), name.as_bytes());
        holder
    };
    let quiet = async |watcher: &mut Watcher| {
        tokio::time::timeout(Duration::from_millis(300), watcher.handed()).await.is_err()
    };
    let mut watcher = Watcher::start(address.clone());
    let (one, two) = (hold("witness.1").await, hold("witness.2").await);
    for name in ["witness.1", "witness.2", "witness.3"] {
        watcher.watch(queue(name)).await;
    }
    assert_eq!(soon("nobody holds the third", watcher.handed()).await, "witness.3");
    assert!(quiet(&mut watcher).await);
    // Cut, not closed: as when a process is killed.
    drop(one);
    assert_eq!(soon("the end of the first", watcher.handed()).await, "witness.1");
    two.close().await;
    assert_eq!(soon("the end of the second", watcher.handed()).await, "witness.2");
    assert!(quiet(&mut watcher).await, "each is reported once");
    for name in ["witness.1", "witness.2", "witness.3"] {
        assert_eq!(queue_depth(&address, name).await.unwrap(), None, "{name} is gone with its last consumer");
    }
    // The holder comes back; a watch that was ended reports nothing.
    let again = hold("witness.1").await;
    watcher.watch(queue("witness.1")).await;
    watcher.unwatch("witness.1").await;
    assert!(quiet(&mut watcher).await);
    drop(again);
    assert!(quiet(&mut watcher).await);
    soon("the close", watcher.close()).await;
    publisher.close().await;
}

/// The wrong password, on every kind of connection.
pub(crate) async fn a_wrong_password_is_reported(address: Address) {
    let wrong = Address { password: "wrong".into(), ..address };
    let refused = soon("the refusal", declare(&wrong, &Topology::default())).await.unwrap_err();
    assert!(matches!(refused, AmqpError::LoginRefused { .. }), "{refused:?}");
    assert!(!refused.is_transient());
    let text = refused.to_string();
    assert!(
        text.contains("check the key") && text.contains("127.0.0.1:") && !text.contains("wrong"),
        "{text}"
    );

    let mut consumer = Consumer::start(wrong.clone(), options("wrong", 1));
    let lost = soon("the report", consumer.next()).await;
    assert!(matches!(&lost, Event::Lost { reason } if reason.contains("check the key")), "{lost:?}");
    // The same reason is not reported again, while the attempts go on.
    assert!(tokio::time::timeout(Duration::from_secs(1), consumer.next()).await.is_err());

    let publisher = Publisher::start(wrong, Topology::default(), 1);
    let reported = async {
        while publisher.status().error.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the publisher's report", reported).await;
    assert!(publisher.status().error.unwrap().contains("check the key"));
    soon("the close", publisher.close()).await;
}

/// A vhost that is not there, and a queue that is there with other arguments: permanent, and said so.
pub(crate) async fn refusals_say_what_to_do(address: Address) {
    let elsewhere = Address { vhost: "no-such-vhost".to_owned(), ..address.clone() };
    let refused = declare(&elsewhere, &Topology::default()).await.unwrap_err();
    assert!(matches!(&refused, AmqpError::VhostRefused { .. }), "{refused:?}");

    let one = Topology { queues: vec![Queue::durable("args")], ..Topology::default() };
    declare(&address, &one).await.unwrap();
    let args = QueueArgs { max_length: Some(5), ..QueueArgs::default() };
    let other = Topology { queues: vec![Queue::durable("args").with_args(args)], ..Topology::default() };
    let refused = declare(&address, &other).await.unwrap_err();
    assert!(
        matches!(&refused, AmqpError::Refused { code: 406, .. }) && !refused.is_transient(),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("declare queue args"), "{refused}");
    assert_eq!(queue_depth(&address, "no-such-queue").await.unwrap(), None);
}
