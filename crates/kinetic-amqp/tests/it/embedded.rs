//! The embedded broker, on a port of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use kinetic_amqp::Address;
use kinetic_broker::{
    Access, Broker, BrokerConfig, BrokerHandle, Password, Permission, TokenGrant, TokenVerifier, User,
};
use tokio::task::JoinSet;

/// What begins so is guest's token.
pub(crate) const GOOD_TOKEN: &str = "eyJ.good.";

/// Takes a token for what it says.
#[derive(Debug)]
struct GoodTokens;

impl TokenVerifier for GoodTokens {
    fn verify(&self, login: &str, token: &str, now_ms: i64) -> Result<TokenGrant, String> {
        if login != "guest" || !token.starts_with(GOOD_TOKEN) {
            return Err("not one of ours".to_owned());
        }
        let permissions = BTreeMap::from([("/".to_owned(), Permission::all())]);
        let user = User::new("guest", Password::Plain(String::new()), permissions);
        let grant =
            TokenGrant { login: login.to_owned(), key: "a".to_owned(), user, expires_ms: now_ms + 60_000 };
        Ok(grant)
    }

    fn stands(&self, _grant: &TokenGrant) -> bool {
        true
    }
}

/// A running broker; it ends with this value.
pub(crate) struct Embedded {
    pub(crate) address: SocketAddr,
    handle: BrokerHandle,
    running: JoinSet<()>,
}

impl Embedded {
    pub(crate) async fn started() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn at(listen: SocketAddr) -> Self {
        let user = User::new(
            "guest",
            Password::Plain("guest".to_owned()),
            BTreeMap::from([("/".to_owned(), Permission::all())]),
        );
        let access = Access {
            vhosts: BTreeSet::from(["/".to_owned()]),
            users: BTreeMap::from([("guest".to_owned(), user)]),
            tokens: Some(Arc::new(GoodTokens)),
        };
        let broker = Broker::bind(BrokerConfig { listen, ..BrokerConfig::default() }, access).await.unwrap();
        let (address, handle) = (broker.local_addr(), broker.handle());
        let mut running = JoinSet::new();
        running.spawn(broker.run());
        Self { address, handle, running }
    }

    pub(crate) fn address(&self) -> Address {
        Address::from_url(&format!("amqp://guest:guest@{}/%2f", self.address)).unwrap()
    }

    /// In good order: every connection is closed by the broker. Its memory goes with it.
    pub(crate) async fn stop(mut self) {
        self.handle.shutdown();
        self.running.join_next().await.unwrap().unwrap();
    }
}
