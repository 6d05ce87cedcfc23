//! One role a process: `kinetic redirector | analyzer | alert | broker | agent`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use kinetic_agent::machine::AgentConfig;
use kinetic_schema::schema::QueueType;
use kinetic_wire::{DataType, Endpoint, Login, NodeId, Serves, names};

use crate::adapter::history::Location;
use crate::adapter::parent;
use crate::adapter::provision::Launch;
use crate::adapter::statsd_socket::StatsdSocket;
use crate::cli;
use crate::cmd::edge;
use crate::node::{self, Roles, Shared};
use crate::shell;
use crate::shell::provision::Fleet;
use crate::telemetry::Telemetry;

/// Everything that the roles have in common: data directory, schema, metrics.
struct Common {
    shared: Shared,
    roles: Roles,
    _lock: std::fs::File,
}

async fn common(node: &cli::Node, broker: &cli::BrokerAddress, role: &'static str) -> Result<Common> {
    let name = node.node.clone().unwrap_or_else(|| format!("{}-{role}", node::host_name()));
    let control = node::address(broker, &name)?;
    let lock = node::lock_data_dir(&node.data_dir)?;
    let telemetry = Telemetry::default();
    let mut roles = Roles::default();
    let interval = Duration::from_secs(node.fetch_interval.max(1));
    let (follower, schema) =
        node::open_schema(&node.schema, &node.branch, interval, &node.data_dir, &telemetry).await?;
    let notices = control.clone();
    roles.start("schema follower", |shutdown| follower.run(Some(notices), shutdown));
    let shared = Shared {
        control,
        schema,
        telemetry,
        data_dir: node.data_dir.clone(),
        node: NodeId::new(&name),
        queues: if node.quorum { QueueType::Quorum } else { QueueType::Classic },
        token_keys: None,
    };
    Ok(Common { shared, roles, _lock: lock })
}

impl Common {
    /// Serves the numbers, once every part has said how it is, and runs until the end.
    async fn run(mut self, metrics: SocketAddr, roles: &'static [&'static str]) -> Result<()> {
        let health = self.shared.health(roles);
        self.roles
            .start("publisher of this process's health", |shutdown| shell::health::run(health, shutdown));
        node::start_metrics(&mut self.roles, metrics, &self.shared.telemetry).await?;
        self.roles.run_until_interrupted().await
    }
}

/// `kinetic redirector`
pub(crate) async fn redirector(args: cli::Redirector) -> Result<()> {
    let mut common = common(&args.node, &args.broker, "redirector").await?;
    let (ttl, grace) = (args.lease.ttl(), args.lease.grace());
    // A lease is up to a tenth longer than asked for (its jitter); an owner must have had the time to speak up.
    let listen = ttl + ttl / 10 + grace;
    let advertise = common.shared.control.told().to_vec();
    common.shared.token_keys.clone_from(&args.token_keys);
    let mut setup = common.shared.redirector(ttl, grace, listen, advertise);
    let fleet = (args.provision != Some(cli::Provision::Off)).then(|| {
        let (port, fleet) = shell::provision::channel();
        setup.fleet = Some(port);
        fleet
    });
    let reconciler = common.shared.reconciler(&setup, args.management_password_file.clone());
    common.roles.start("redirector", |shutdown| shell::redirector::run(setup, shutdown));
    common.roles.start("reconciler", |shutdown| shell::reconcile::run(reconciler, shutdown));
    if let Some(fleet) = fleet {
        let setup = provision(&args, &common.shared, fleet)?;
        // Stopped first: its children drain while there is a redirector that answers them.
        common.roles.start("provisioner", |shutdown| shell::provision::run(setup, shutdown));
    }
    common.run(args.node.metrics, &["redirector"]).await
}

/// What started analyzers are told is what this redirector was told.
fn provision(args: &cli::Redirector, shared: &Shared, fleet: Fleet) -> Result<shell::provision::Setup> {
    let (broker, node) = (&args.broker, &args.node);
    let launch = Launch::new(broker, &shared.control)?;
    Ok(shell::provision::Setup {
        fleet,
        launch: launch.with_schema(&node.schema, &node.branch, node.fetch_interval),
        data_dir: node.data_dir.clone(),
        node: shared.node.clone(),
        mode: args.provision,
        schema: shared.schema.clone(),
        telemetry: shared.telemetry.clone(),
    })
}

/// `kinetic analyzer`
pub(crate) async fn analyzer(args: cli::Analyzer) -> Result<()> {
    let mut common = common(&args.node, &args.broker, "analyzer").await?;
    let serves = Serves {
        regions: args.region.iter().map(|region| region.as_str().into()).collect(),
        data_types: Vec::new(),
        customers: args.customer.iter().map(|customer| customer.as_str().into()).collect(),
    };
    let setup = common.shared.analyzer(serves, args.capacity, args.zone);
    common.roles.start("analyzer", |shutdown| shell::analyzer::run(setup, shutdown));
    if args.until_stdin_ends {
        common.roles.start("redirector that started this analyzer", |shutdown| async move {
            tokio::select! {
                ended = parent::ended() => ended,
                () = shutdown.wait() => Ok(()),
            }
        });
    }
    common.run(args.node.metrics, &["analyzer"]).await
}

/// `kinetic alert`
pub(crate) async fn alert(args: cli::Alert) -> Result<()> {
    let mut common = common(&args.node, &args.broker, "alert").await?;
    let history = match &args.history {
        Some(place) => Location::parse(place, args.history_password_file.as_deref(), Path::new("."))?,
        None => common.shared.own_history(),
    };
    let mut setup = common.shared.alert(history)?;
    setup.webhook_nets = args.webhook_nets;
    setup.config.serves_links = args.links_listen.is_some();
    common.roles.start("alert node", |shutdown| shell::alert::run(setup, shutdown));
    if let Some(listen) = args.links_listen {
        node::start_links(&mut common.roles, listen, &common.shared).await?;
    }
    common.run(args.node.metrics, &["alert"]).await
}

/// `kinetic broker`
pub(crate) async fn broker(args: cli::Broker) -> Result<()> {
    let node = &args.node;
    let _lock = node::lock_data_dir(&node.data_dir)?;
    let telemetry = Telemetry::default();
    let mut roles = Roles::default();
    let interval = Duration::from_secs(node.fetch_interval.max(1));
    let (follower, schema) =
        node::open_schema(&node.schema, &node.branch, interval, &node.data_dir, &telemetry).await?;
    let (embedded, own) = node::embedded_broker(args.listen()?, &node.data_dir).await?;
    tracing::info!(
        login = own.login,
        password_file = %node.data_dir.join("broker-secret").display(),
        "the other roles log in with"
    );
    node::start_metrics(&mut roles, node.metrics, &telemetry).await?;
    let name = node.node.clone().unwrap_or_else(|| format!("{}-broker", node::host_name()));
    let health = shell::health::Setup {
        node: NodeId::new(&name),
        control: own.clone(),
        schema: schema.clone(),
        telemetry: telemetry.clone(),
        roles: &["broker"],
    };
    roles.start("broker", |shutdown| embedded.run(schema, telemetry, shutdown));
    roles.start("schema follower", |shutdown| follower.run(Some(own), shutdown));
    roles.start("publisher of this process's health", |shutdown| shell::health::run(health, shutdown));
    roles.run_until_interrupted().await
}

/// `kinetic agent`
pub(crate) async fn agent(args: cli::Agent) -> Result<()> {
    if args.edge.edge {
        return edge::run(args).await;
    }
    let origin = args.origin.clone().unwrap_or_else(node::host_name);
    let broker = node::address(&args.broker, &format!("agent {origin}"))?;
    let mut sockets = vec![StatsdSocket::udp(args.statsd).await?];
    if let Some(path) = &args.unixgram {
        sockets.push(StatsdSocket::unix(path)?);
    }
    for socket in &sockets {
        match socket.address() {
            Some(address) => tracing::info!(udp = %address, "listening for statsd"),
            None => tracing::info!(unixgram = ?args.unixgram, "listening for statsd"),
        }
    }
    let telemetry = Telemetry::default();
    let mut roles = Roles::default();
    node::start_metrics(&mut roles, args.metrics, &telemetry).await?;
    let login = Login::new(&broker.login);
    let endpoint = |(priority, uri): (u32, &String)| Endpoint {
        uri: uri.clone(),
        vhost: broker.vhost.clone(),
        exchange: names::ingress_exchange(&login.customer()),
        priority,
    };
    let fallback = (0..).zip(&broker.uris).map(endpoint).collect();
    let config = AgentConfig {
        origin,
        profile: args.profile,
        routing_key: args.routing_key,
        login: Some(broker.login.clone()),
        inc: node::new_incarnation(),
        data_type: DataType::Statsd,
        body_bytes: usize::try_from(args.body_bytes)?,
        body_age: Duration::from_millis(args.body_age),
        buffer_bytes: usize::try_from(args.buffer)? << 20,
        in_flight_max: 64,
        fallback,
        seed: rand::random(),
    };
    let part = shell::agent::PART;
    let setup = shell::agent::Setup { config, broker, sockets, own: None, part, telemetry };
    roles.start("agent", |shutdown| shell::agent::run(setup, shutdown));
    roles.run_until_interrupted().await
}
