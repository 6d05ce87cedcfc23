//! The broker dies and comes back, or is not there yet, or does not speak.

use std::collections::BTreeSet;
use std::time::Duration;

use kinetic_amqp::{
    Address, Consumer, Event, Outcome, Publisher, RpcClient, RpcServer, Served, Settle, Topology, declare,
    queue_depth,
};
use kinetic_wire::Envelope;
use tokio::io::AsyncReadExt;

use crate::embedded::Embedded;
use crate::rabbit::Rabbit;
use crate::stories::{PATIENCE, delivery, options, rpc_topology, soon, subscribed, topology};

const PERSISTENT: Envelope<'static> = Envelope {
    copied: false,
    persistent: true,
    content_type: None,
    content_encoding: None,
    kind: None,
    message_id: None,
    app_id: None,
    user_id: None,
    timestamp_s: None,
    correlation_id: None,
    reply_to: None,
    expiration_ms: None,
    origin: None,
    profile: None,
    ts: None,
    seq: None,
    inc: None,
    epoch: None,
    claimed_customer: None,
    traceparent: None,
    moved: None,
};

async fn publish_until_confirmed(publisher: &Publisher, n: u8) {
    loop {
        match publisher.publish("killed", "web", &PERSISTENT, vec![n], true).await {
            Ok(_) => return,
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
    }
}

/// SIGKILL in the middle of everything: what is unsettled comes again under new tokens, old tokens settle nothing, publishers
/// and requests go on, and nothing that was confirmed is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_is_survived() {
    let Some(mut rabbit) = Rabbit::started().await else { return };
    let address = rabbit.address();
    let publisher = Publisher::start(address.clone(), topology("killed"), 16);
    let client = RpcClient::start(address.clone());
    let mut server = RpcServer::start(address.clone(), rpc_topology("killed-rpc"), "killed-rpc");
    let mut consumer = Consumer::start(address.clone(), options("killed", 100));
    subscribed(&mut consumer).await;
    for n in 0..10 {
        soon("a confirm", publish_until_confirmed(&publisher, n)).await;
    }
    for n in 0..10 {
        assert_eq!(delivery(&mut consumer).await.body(), [n]);
    }
    consumer.settle(Settle::AckUpTo(4)).await;
    // The broker has taken the acknowledgement when the queue's consumer is asked and the rest is unsettled; give it time.
    tokio::time::sleep(Duration::from_millis(300)).await;

    rabbit.kill();
    let lost = soon("the loss", consumer.next()).await;
    assert!(matches!(lost, Event::Lost { .. }), "{lost:?}");
    // Ten more messages, from a task that starts while the broker is down.
    let mut meanwhile = tokio::task::JoinSet::new();
    let own = publisher.clone();
    meanwhile.spawn(async move {
        for n in 10..20 {
            publish_until_confirmed(&own, n).await;
        }
    });
    rabbit.start().await;
    subscribed(&mut consumer).await;
    consumer.settle(Settle::AckUpTo(10)).await;
    soon("what was published meanwhile", meanwhile.join_next()).await.unwrap().unwrap();

    let mut bodies = BTreeSet::new();
    let mut token = 10;
    while bodies.len() < 16 {
        let got = delivery(&mut consumer).await;
        token += 1;
        assert_eq!(got.token, token, "tokens grow by one across reconnects");
        bodies.insert(got.body()[0]);
    }
    assert_eq!(bodies, (4..20).collect::<BTreeSet<u8>>());
    consumer.settle(Settle::AckUpTo(token)).await;

    let serve = async {
        let request = server.next().await;
        server.reply(request.handle, vec![1]).await;
    };
    let ask = async {
        loop {
            if let Ok(reply) = client.request("killed-rpc", "locate", vec![0], Duration::from_secs(2)).await {
                return reply;
            }
        }
    };
    let (reply, ()) = soon("a reply after the restart", futures_util::future::join(ask, serve)).await;
    assert_eq!(reply, [1]);
    consumer.close().await;
    assert_eq!(queue_depth(&address, "killed").await.unwrap().map(|depth| depth.messages), Some(0));
    publisher.close().await;
    client.close().await;
    server.close().await;
}

/// A broker that forgets everything when it ends in good order: all is declared again on its successor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgetful_broker_is_furnished_again() {
    let mut broker = Embedded::started().await;
    let (address, at) = (broker.address(), broker.address);
    let publisher = Publisher::start(address.clone(), topology("forgets"), 4);
    let mut consumer = Consumer::start(address, options("forgets", 10));
    for round in 0..3_u8 {
        subscribed(&mut consumer).await;
        let publish = async {
            loop {
                match publisher.publish("forgets", "web", &PERSISTENT, vec![round], true).await {
                    Ok(outcome) => return outcome,
                    Err(error) => assert!(error.is_transient(), "{error:?}"),
                }
            }
        };
        assert_eq!(soon("a confirm", publish).await, Outcome::Confirmed);
        let got = delivery(&mut consumer).await;
        assert_eq!((got.token, got.body()), (u64::from(round) + 1, &[round][..]));
        consumer.settle(Settle::Ack(got.token)).await;
        broker.stop().await;
        broker = Embedded::at(at).await;
    }
    assert!(consumer.try_next().is_none_or(|event| matches!(event, Event::Lost { .. })));
}

/// A server says when requests can come, and when none can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_whether_it_hears() {
    let broker = Embedded::started().await;
    let (address, at) = (broker.address(), broker.address);
    let mut server = RpcServer::start(address.clone(), rpc_topology("hears"), "hears");
    let first = soon("a subscription", server.event()).await;
    assert!(matches!(first, Served::Subscribed), "{first:?}");
    broker.stop().await;
    let lost = soon("its end", server.event()).await;
    assert!(matches!(lost, Served::Lost { .. }), "{lost:?}");
    let broker = Embedded::at(at).await;
    // Attempts that fail for other reasons are told of as well.
    while !matches!(soon("another", server.event()).await, Served::Subscribed) {}
    let client = RpcClient::start(address);
    let request = async move { client.request("hears", "locate", vec![7], PATIENCE).await };
    let serve = async {
        let Served::Request(request) = server.event().await else { panic!("wanted a request") };
        server.reply(request.handle, request.body).await;
    };
    let (reply, ()) = soon("a reply", futures_util::future::join(request, serve)).await;
    assert_eq!(reply, Ok(vec![7]));
    broker.stop().await;
}

/// Everything starts before the broker does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_broker_is_found() {
    let Some(mut rabbit) = Rabbit::prepare() else { return };
    let address = rabbit.address();
    let mut consumer = Consumer::start(address.clone(), options("late", 10));
    let publisher = Publisher::start(address.clone(), topology("late"), 4);
    let lost = soon("the first failure", consumer.next()).await;
    assert!(matches!(&lost, Event::Lost { reason } if reason.contains("check that it runs")), "{lost:?}");
    assert!(declare(&address, &Topology::default()).await.unwrap_err().is_transient());
    assert!(!publisher.connected());
    rabbit.start().await;
    subscribed(&mut consumer).await;
    soon("the publisher", publisher.wait_connected()).await;
    publisher.publish("late", "web", &PERSISTENT, vec![3], true).await.unwrap();
    assert_eq!(delivery(&mut consumer).await.body(), [3]);
    // The second of two addresses serves when the first does not.
    let both = Address { uris: vec!["amqp://127.0.0.1:1".to_owned(), address.uris[0].clone()], ..address };
    declare(&both, &Topology::default()).await.unwrap();
}

/// A peer that accepts and says nothing: the attempt ends in time, and its socket with it (a thread of lapin's would
/// otherwise wait on it for ever).
#[tokio::test]
async fn a_mute_peer_is_given_up() {
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://u:p@{}/v", mute.local_addr().unwrap());
    let address = Address::from_url(&url).unwrap();
    let nothing = Topology::default();
    let attempt = declare(&address, &nothing);
    let peer = async {
        let (mut stream, _) = mute.accept().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.map(|_| all)
    };
    let (failed, heard) =
        tokio::time::timeout(PATIENCE, futures_util::future::join(attempt, peer)).await.unwrap();
    let failed = failed.unwrap_err();
    assert!(failed.is_transient() && failed.to_string().contains("check that it runs"), "{failed:?}");
    assert_eq!(heard.unwrap(), b"AMQP\0\0\x09\x01");
}
