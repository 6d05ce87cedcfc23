//! Tokens as passwords: what they grant, when they end, and how a connection outlives them.

#[path = "common/mod.rs"]
mod common;

use common::kit::*;
use common::{World, access, embedded, eventually};
use kinetic_broker::{Names, Permission, TokenGrant, TokenVerifier, User, UserLimits};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// `eyJ<login>.<expires_ms>.<key>`: good when the key is among these.
#[derive(Debug)]
struct Keys(Vec<&'static str>);

impl TokenVerifier for Keys {
    fn verify(&self, _login: &str, token: &str, _now_ms: i64) -> Result<TokenGrant, String> {
        let mut parts = token.trim_start_matches("eyJ").split('.');
        let (login, expires, key) = (parts.next(), parts.next(), parts.next());
        let key = key.filter(|key| self.0.contains(key)).ok_or("signed by nobody")?;
        let login = login.unwrap_or_default();
        let permission =
            Permission { write: Names::Some(vec!["amq.fanout".into()]), ..Permission::default() };
        let user = User {
            owner: "customer".into(),
            credentials: Vec::new(),
            permissions: BTreeMap::from([("/".to_owned(), permission)]),
            limits: UserLimits { connections_max: Some(2), ..UserLimits::default() },
        };
        let expires_ms = expires.and_then(|text| text.parse().ok()).ok_or("no date")?;
        Ok(TokenGrant { login: login.to_owned(), key: key.to_owned(), user, expires_ms })
    }

    fn stands(&self, grant: &TokenGrant) -> bool {
        self.0.contains(&&*grant.key)
    }
}

async fn world(keys: &[&'static str]) -> World {
    let world = embedded().await;
    set_keys(&world, keys);
    world
}

fn set_keys(world: &World, keys: &[&'static str]) {
    let mut access = access();
    access.tokens = Some(Arc::new(Keys(keys.to_vec())));
    world.handle.as_ref().expect("embedded").set_access(access);
}

#[expect(clippy::disallowed_methods, reason = "tokens end at a moment of the real clock")]
fn token(login: &str, lives_ms: i64, key: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
    format!("eyJ{login}.{}.{key}", i64::try_from(now).expect("fits") + lives_ms)
}

async fn connect(world: &World, token: &str) -> Result<lapin::Connection, lapin::Error> {
    let uri = format!("amqp://ignored:{token}@{}/%2f?heartbeat=0", world.address);
    lapin::Connection::connect(&uri, lapin::ConnectionProperties::default()).await
}

async fn renew(connection: &lapin::Connection, token: String) -> Result<(), lapin::Error> {
    connection.update_secret(token.as_str().into(), "renewed".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in_until_it_expires() {
    let world = world(&["k1"]).await;
    assert_eq!(code(connect(&world, &token("acme-web", 60_000, "forged")).await), 403);
    assert_eq!(code(connect(&world, &token("acme-web", -1, "k1")).await), 403);
    let long = connect(&world, &token("acme-web", 60_000, "k1")).await.expect("good");
    let short = connect(&world, &token("acme-web", 300, "k1")).await.expect("good");
    // Limits go by the token's login.
    assert_eq!(code(connect(&world, &token("acme-web", 60_000, "k1")).await), 530);
    let channel = long.create_channel().await.expect("a channel");
    let link = Link { connection: long, channel };
    link.confirm_mode().await;
    link.send("amq.fanout", "", "m").await;
    let own = lapin::BasicProperties::default().with_user_id("acme-web".into());
    link.send_with("amq.fanout", "", "m", false, own).await.expect("its own name");
    eventually("the short one is closed", || !short.status().connected()).await;
    assert!(link.connection.status().connected());
    assert_eq!(code(link.send_with("in.acme", "", "m", false, Default::default()).await), 403);
    assert_eq!(world.handle.expect("embedded").owners()["customer"].refused.access, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_token_keeps_the_connection() {
    let world = world(&["k1", "k2"]).await;
    let kept = connect(&world, &token("acme-web", 1_500, "k1")).await.expect("good");
    renew(&kept, token("acme-web", 60_000, "k2")).await.expect("of the same login");
    let other = connect(&world, &token("acme-web", 60_000, "k1")).await.expect("good");
    tokio::time::sleep(Duration::from_millis(2_700)).await;
    assert!(kept.status().connected(), "its first token has expired");
    // Another's token renews nothing, and neither does a forged one.
    assert_eq!(code(renew(&other, token("acme-db", 60_000, "k1")).await), 530);
    let forged = connect(&world, &token("acme-web", 60_000, "k1")).await.expect("good");
    assert_eq!(code(renew(&forged, token("acme-web", 60_000, "forged")).await), 530);
    // The key that signed the first is taken away, then the second's.
    set_keys(&world, &["k2"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(kept.status().connected());
    set_keys(&world, &["k3"]);
    eventually("its key is gone", || !kept.status().connected()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_shown_again() {
    let world = world(&[]).await;
    let link1 = link(&world).await;
    link1.connection.update_secret("admin-secret".into(), "again".into()).await.expect("right");
    assert_eq!(code(link1.connection.update_secret("wrong".into(), "again".into()).await), 530);
    let link1 = link(&world).await;
    assert_eq!(code(link1.connection.update_secret("server-secret".into(), "again".into()).await), 530);
}
