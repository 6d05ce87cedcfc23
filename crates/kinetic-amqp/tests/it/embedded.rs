//! The embedded broker, on a port of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use kinetic_amqp::Address;
use kinetic_broker::{Access, Broker, BrokerConfig, BrokerHandle, Password, Permission, User};
use tokio::task::JoinSet;

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
            ..Access::default()
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
