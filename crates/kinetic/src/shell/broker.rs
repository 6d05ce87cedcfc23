//! The embedded broker in this process: who may log in and do what follows the schema.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kinetic_access::{Credential, Grant, Login};
use kinetic_broker::{
    Access, Broker, BrokerConfig, BrokerHandle, Names, Password, Permission, TlsListen, User, UserLimits,
};
use kinetic_schema::Schema;
use kinetic_schema::schema::SaltedHash;
use kinetic_wire::{Wall, names};

use crate::BadConfig;
use crate::adapter::clock;
use crate::adapter::server_tls::{TlsFiles, Watched};
use crate::metrics;
use crate::shell::follow::SchemaWatch;
use crate::shell::token;
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Metric, Telemetry};

/// Login of Kinetic's own roles.
pub(crate) const OWN_LOGIN: &str = "kinetic";
/// Whose it is: nobody's name is of two words, so it shares its part of memory with no customer.
const OWN_OWNER: &str = "kinetic itself";
/// How often keys are looked at for having expired, and the numbers on `/metrics` are renewed.
const INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// Name of this part on `/metrics` and `/__heartbeat__`.
const PART: &str = "broker";

/// Where a broker listens.
#[derive(Clone, Debug)]
pub(crate) struct Listen {
    /// Without TLS: for our own roles on this machine, and for others if `check` was told that they may.
    pub(crate) plain: SocketAddr,
    /// For TLS, and with which files.
    pub(crate) tls: Option<(SocketAddr, TlsFiles)>,
    /// By which URIs others reach it, where the addresses that are listened on do not say so.
    pub(crate) advertise: Vec<String>,
}

impl Listen {
    /// Loopback alone.
    pub(crate) fn loopback(port: u16) -> Self {
        Self { plain: ([127, 0, 0, 1], port).into(), tls: None, advertise: Vec::new() }
    }

    /// Refuses what others could read on the way, unless it is `allowed` by `how`.
    pub(crate) fn check(self, allowed: bool, how: &str) -> Result<Self> {
        let Self { plain, .. } = &self;
        ensure!(
            allowed || plain.ip().to_canonical().is_loopback(),
            "AMQP without TLS on {plain}: keys and data could be read on the way. Listen there for TLS, and without it on \
             loopback alone; {how} allows it all the same"
        );
        Ok(self)
    }
}

/// A bound broker.
#[derive(Debug)]
pub(crate) struct Embedded {
    broker: Broker,
    own_password: String,
    tls: Option<Watched>,
}

impl Embedded {
    /// Binds; nobody but our own roles can log in until `run` has read the schema.
    pub(crate) async fn bind(listen: Listen, own_password: String) -> Result<Self> {
        let Listen { plain, tls, advertise: _ } = listen;
        let (tls_listen, tls) = match tls {
            None => (None, None),
            Some((listen, files)) => {
                let watched = Watched::open(files).map_err(|error| BadConfig(format!("{error:#}")))?;
                let config = Arc::clone(&watched.current.config);
                (Some(TlsListen { listen, config }), Some(watched))
            }
        };
        let also = tls_listen.as_ref().map_or_else(String::new, |tls| format!(" and {}", tls.listen));
        let config = BrokerConfig { listen: plain, tls: tls_listen, ..BrokerConfig::default() };
        let broker = Broker::bind(config, access(&Schema::default(), &own_password, clock::now().wall))
            .await
            .with_context(|| {
                format!("cannot listen for AMQP on {plain}{also}: is a broker running there already?")
            })?;
        Ok(Self { broker, own_password, tls })
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
        let (own_password, mut tls) = (self.own_password, self.tls);
        let tokens = Arc::<token::Counted>::default();
        let keep = async {
            let mut ticks = tokio::time::interval(INTERVAL);
            let mut next_expiry = apply(&handle, &mut schema, &own_password, &tokens);
            telemetry.health(PART, Health::Ok, clock::now().wall);
            loop {
                tokio::select! {
                    () = shutdown.wait() => break,
                    Ok(()) = schema.changed() => next_expiry = apply(&handle, &mut schema, &own_password, &tokens),
                    _ = ticks.tick() => {
                        renew(&handle, tls.as_mut());
                        telemetry.show(PART, numbers(&handle, tls.as_ref(), &tokens));
                        if next_expiry.is_some_and(|at| at <= clock::now().wall.as_ms()) {
                            next_expiry = apply(&handle, &mut schema, &own_password, &tokens);
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

/// Takes what is new in the files of the listener for TLS.
fn renew(handle: &BrokerHandle, tls: Option<&mut Watched>) {
    match tls.and_then(Watched::changed) {
        None => {}
        Some(Ok(new)) => {
            handle.set_tls(new.config);
            tracing::info!(expires_s = new.expires_s, "certificate of the broker read again");
        }
        Some(Err(error)) => {
            tracing::warn!(error = format!("{error:#}"), "the broker keeps its certificate");
        }
    }
}

fn numbers(handle: &BrokerHandle, tls: Option<&Watched>, tokens: &token::Counted) -> Vec<Metric> {
    let mut numbers = metrics::broker(&handle.stats());
    numbers.extend(tls.map(|tls| metrics::broker_certificate(tls.current.expires_s)));
    numbers.extend(metrics::broker_customers(&handle.owners()));
    numbers.extend(tokens.metrics());
    numbers
}

/// Puts the schema's logins in force; returns when they change by themselves.
fn apply(
    handle: &BrokerHandle,
    schema: &mut SchemaWatch,
    own_password: &str,
    tokens: &Arc<token::Counted>,
) -> Option<i64> {
    let revision = schema.borrow_and_update().clone();
    let now = clock::now().wall;
    let tokens = token::verifier(&revision.schema, tokens);
    handle.set_access(Access { tokens, ..access(&revision.schema, own_password, now) });
    kinetic_access::next_change_ms(&revision.schema, now)
}

/// Vhosts, logins and permissions that a schema asks for.
fn access(schema: &Schema, own_password: &str, now: Wall) -> Access {
    let mut vhosts: std::collections::BTreeSet<String> =
        schema.regions.values().map(|region| region.vhost.clone()).collect();
    vhosts.insert(names::CONTROL_VHOST.into());
    let all = || Permission { configure: Names::All, write: Names::All, read: Names::All };
    let permissions = vhosts.iter().map(|vhost| (vhost.clone(), all())).collect();
    let own = User::new(OWN_OWNER, Password::Plain(own_password.to_owned()), permissions);
    let mut users = BTreeMap::from([(OWN_LOGIN.to_owned(), own)]);
    users.extend(kinetic_access::logins(schema, now, names::CONTROL_VHOST).into_values().map(user));
    Access { vhosts, users, tokens: None }
}

/// A customer's login, as the broker keeps it.
pub(crate) fn user(login: Login) -> (String, User) {
    let names = |names: Vec<String>| if names.is_empty() { Names::None } else { Names::Some(names) };
    let permission = |grant: Grant| Permission {
        configure: names(grant.configure),
        write: names(grant.write),
        read: names(grant.read),
    };
    let credential = match login.credential {
        Credential::Secret(SaltedHash { salt, digest }) => {
            kinetic_broker::Credential::Password(Password::Salted { salt, digest })
        }
        Credential::Certificate(sha256) => kinetic_broker::Credential::Certificate(sha256),
    };
    let user = User {
        owner: login.customer.as_str().into(),
        credentials: vec![credential],
        permissions: login.grants.into_iter().map(|(vhost, grant)| (vhost, permission(grant))).collect(),
        limits: UserLimits {
            connections_max: usize::try_from(login.connections_max).ok(),
            channels_max: usize::try_from(login.channels_max).ok(),
            message_bytes_max: usize::try_from(login.message_bytes_max).ok(),
        },
    };
    (login.name, user)
}
