//! Harness: an embedded broker, or a private RabbitMQ node with the same users, behind one `World`.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod kit;
pub(crate) mod rabbit;
pub(crate) mod raw;

use kinetic_broker::{Access, Broker, BrokerConfig, BrokerHandle, Names, Password, Permission, User};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A broker under test.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The embedded broker's handle; `None` for RabbitMQ.
    pub(crate) handle: Option<BrokerHandle>,
}

impl World {
    /// The URI of a user on vhost `/`, without heartbeats.
    pub(crate) fn uri(&self, user: &str) -> String {
        self.uri_at(user, "%2f")
    }

    /// The URI of a user on a vhost.
    pub(crate) fn uri_at(&self, user: &str, vhost: &str) -> String {
        format!("amqp://{user}:{user}-secret@{}/{vhost}?heartbeat=0", self.address)
    }
}

/// A user whose password is its name and `-secret`.
pub(crate) fn user(name: &str, permission: Permission) -> (String, User) {
    let permissions = BTreeMap::from([("/".to_owned(), permission)]);
    let password = Password::Plain(format!("{name}-secret"));
    (name.to_owned(), User::new(name, password, permissions))
}

/// The users that every check may use.
pub(crate) fn access() -> Access {
    let names = |names: &[&str]| Names::Some(names.iter().map(|name| (*name).to_owned()).collect());
    let customer =
        Permission { configure: Names::None, write: names(&["in.acme", "kin.rpc"]), read: Names::None };
    let server = Permission {
        configure: names(&["srv.*"]),
        write: names(&["amq.default", "srv.*"]),
        read: names(&["srv.*"]),
    };
    Access {
        vhosts: ["/".to_owned(), "empty".to_owned()].into(),
        users: BTreeMap::from([
            user("admin", Permission::all()),
            user("customer", customer),
            user("server", server),
        ]),
        tokens: None,
    }
}

/// Starts the embedded broker on the current runtime.
pub(crate) async fn embedded_with(config: BrokerConfig) -> World {
    let broker = Broker::bind(config, access()).await.expect("bind loopback");
    let world = World { address: broker.local_addr(), handle: Some(broker.handle()) };
    #[expect(clippy::disallowed_methods, reason = "the test's runtime ends it")]
    let _task = tokio::spawn(broker.run());
    world
}

/// [`embedded_with`] defaults.
pub(crate) async fn embedded() -> World {
    embedded_with(BrokerConfig::default()).await
}

/// Waits until `probe` is true; panics with `what` after five seconds.
pub(crate) async fn eventually(what: &str, mut probe: impl FnMut() -> bool) {
    for _ in 0..500 {
        if probe() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in five seconds: {what}");
}
