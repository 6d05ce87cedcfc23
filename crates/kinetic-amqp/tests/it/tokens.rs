//! A publisher that logs in with tokens.

use std::time::Duration;

use kinetic_amqp::{Address, Outcome, Publisher, Token, TokenStats, Topology};
use kinetic_wire::Envelope;

use crate::embedded::{Embedded, GOOD_TOKEN};

fn token(name: &str) -> Token {
    Token { login: "guest".to_owned(), secret: name.into() }
}

fn good(name: &str) -> Token {
    token(&format!("{GOOD_TOKEN}{name}"))
}

/// Nobody is bound to hear it; that it comes back says that the broker has seen it.
async fn publishes(publisher: &Publisher) {
    let envelope = Envelope::default();
    let published = publisher.publish("amq.topic", "x", &envelope, &b"x"[..], true);
    let published = tokio::time::timeout(Duration::from_secs(10), published).await.expect("in time");
    assert_eq!(published.expect("taken"), Outcome::Unroutable);
}

async fn until(publisher: &Publisher, what: &str, holds: impl Fn(TokenStats) -> bool) {
    let waiting = async {
        while !holds(publisher.token_stats()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    assert!(waited.is_ok(), "{what}: {:?}", publisher.token_stats());
}

fn start(address: Address, token: Token) -> Publisher {
    Publisher::start_with(address, Some(token), Topology::default(), 4)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_on_the_standing_connection_and_a_refused_one_leaves_the_key() {
    let broker = Embedded::started().await;
    let wrong_key = Address { password: "wrong".into(), ..broker.address() };
    let publisher = start(wrong_key, good("1"));
    publishes(&publisher).await;
    for name in ["2", "3"] {
        publisher.renew(good(name));
    }
    until(&publisher, "renewed", |stats| stats.renewed > 0).await;
    publishes(&publisher).await;
    let stats = publisher.token_stats();
    assert_eq!((stats.logins, stats.refused), (1, 0), "one connection all the time");
    publisher.close().await;

    let publisher = start(broker.address(), token("eyJ.bad.1"));
    publishes(&publisher).await;
    assert_eq!(publisher.token_stats(), TokenStats { logins: 0, renewed: 0, refused: 1 }, "the key was used");
    publisher.renew(good("1"));
    publishes(&publisher).await;
    assert_eq!(publisher.token_stats().renewed, 0, "what a key opened takes no token");
    publisher.close().await;

    let publisher = start(broker.address(), good("1"));
    publishes(&publisher).await;
    publisher.renew(token("eyJ.bad.2"));
    // Refused on the standing connection, which ends by it, and at the next login.
    until(&publisher, "refused twice", |stats| stats.refused == 2).await;
    publishes(&publisher).await;
    assert_eq!(publisher.token_stats().logins, 1);
    publisher.renew(good("2"));
    publishes(&publisher).await;
    publisher.close().await;
    broker.stop().await;
}
