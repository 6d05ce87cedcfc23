//! The embedded broker in this process: who may log in and do what follows the schema.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use kinetic_broker::{Access, Broker, BrokerConfig, BrokerHandle, Names, Password, Permission, User};
use kinetic_schema::Schema;
use kinetic_wire::{Wall, names};

use crate::adapter::clock;
use crate::metrics;
use crate::shell::follow::SchemaWatch;
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Telemetry};

/// Login of Kinetic's own roles.
pub(crate) const OWN_LOGIN: &str = "kinetic";
/// How often keys are looked at for having expired, and the numbers on `/metrics` are renewed.
const INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// Name of this part on `/metrics` and `/__heartbeat__`.
const PART: &str = "broker";

/// A bound broker.
#[derive(Debug)]
pub(crate) struct Embedded {
    broker: Broker,
    own_password: String,
}

impl Embedded {
    /// Binds; nobody but our own roles can log in until `run` has read the schema.
    pub(crate) async fn bind(listen: SocketAddr, own_password: String) -> Result<Self> {
        let config = BrokerConfig { listen, ..BrokerConfig::default() };
        let broker = Broker::bind(config, access(&Schema::default(), &own_password, clock::now().wall))
            .await
            .with_context(|| {
                format!("cannot listen for AMQP on {listen}: is a broker running there already?")
            })?;
        Ok(Self { broker, own_password })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.broker.local_addr()
    }

    /// Serves until shutdown.
    pub(crate) async fn run(
        self,
        mut schema: SchemaWatch,
        telemetry: Telemetry,
        shutdown: Shutdown,
    ) -> Result<()> {
        let handle = self.broker.handle();
        let own_password = self.own_password;
        let keep = async {
            let mut ticks = tokio::time::interval(INTERVAL);
            let mut next_expiry = apply(&handle, &mut schema, &own_password);
            telemetry.health(PART, Health::Ok, clock::now().wall);
            loop {
                tokio::select! {
                    () = shutdown.wait() => break,
                    Ok(()) = schema.changed() => next_expiry = apply(&handle, &mut schema, &own_password),
                    _ = ticks.tick() => {
                        telemetry.show(PART, metrics::broker(&handle.stats()));
                        if next_expiry.is_some_and(|at| at <= clock::now().wall.as_ms()) {
                            next_expiry = apply(&handle, &mut schema, &own_password);
                        }
                    }
                }
            }
            handle.shutdown();
        };
        tokio::join!(self.broker.run(), keep);
        Ok(())
    }
}

/// Puts the schema's logins in force; returns when the next key expires.
fn apply(handle: &BrokerHandle, schema: &mut SchemaWatch, own_password: &str) -> Option<i64> {
    let revision = schema.borrow_and_update().clone();
    let now = clock::now().wall;
    handle.set_access(access(&revision.schema, own_password, now));
    let keys = revision.schema.customers.values().flat_map(|customer| &customer.keys);
    keys.filter_map(|key| key.expires_ms).filter(|at| *at > now.as_ms()).min()
}

/// Vhosts, logins and permissions that a schema asks for.
fn access(schema: &Schema, own_password: &str, now: Wall) -> Access {
    let mut vhosts: std::collections::BTreeSet<String> =
        schema.regions.values().map(|region| region.vhost.clone()).collect();
    vhosts.insert(names::CONTROL_VHOST.into());
    let all = || Permission { configure: Names::All, write: Names::All, read: Names::All };
    let own = User {
        password: Password::Plain(own_password.to_owned()),
        permissions: vhosts.iter().map(|vhost| (vhost.clone(), all())).collect(),
        connections_max: None,
    };
    let mut users = BTreeMap::from([(OWN_LOGIN.to_owned(), own)]);
    for customer in schema.customers.values() {
        let Some(region) = schema.regions.get(&customer.region) else { continue };
        for key in &customer.keys {
            if key.expires_ms.is_some_and(|at| at <= now.as_ms()) {
                continue;
            }
            let ingress = names::ingress_exchange(&customer.name);
            let configure = if key.may_declare { Names::Some(vec![ingress.clone()]) } else { Names::None };
            let permission = Permission {
                configure,
                write: Names::Some(vec![ingress, names::RPC_EXCHANGE.to_owned()]),
                read: Names::None,
            };
            let user = User {
                password: Password::Sha256(key.secret_sha256),
                permissions: BTreeMap::from([(region.vhost.clone(), permission)]),
                connections_max: Some(CONNECTIONS_PER_KEY_MAX),
            };
            users.insert(format!("{}.{}", customer.name, key.name), user);
        }
    }
    Access { vhosts, users }
}

/// Connections of one key at once.
const CONNECTIONS_PER_KEY_MAX: usize = 1_000;
