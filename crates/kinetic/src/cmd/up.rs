//! `kinetic up`: everything in one process.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use kinetic_schema::Netblock;
use kinetic_wire::{NodeId, Serves};

use crate::adapter::history::Location;
use crate::cli;
use crate::config::Config;
use crate::node::{self, Roles, Shared};
use crate::shell;
use crate::telemetry::Telemetry;

/// `kinetic up`
pub(crate) async fn run(args: cli::Up) -> Result<()> {
    let config = Config::read(&args.config).map_err(|error| crate::BadConfig(format!("{error:#}")))?;
    let _lock = node::lock_data_dir(&config.data_dir)?;
    let telemetry = Telemetry::default();
    let mut roles = Roles::default();
    let (follower, schema) = node::open_schema(
        &config.schema,
        &config.branch,
        config.fetch_interval,
        &config.data_dir,
        &telemetry,
    )
    .await?;
    let broker = match args.amqp.as_slice() {
        [_, ..] => {
            Some(cli::BrokerAddress { amqp: args.amqp, password_file: args.password_file, trust: args.trust })
        }
        [] => config.broker,
    };
    let control = match &broker {
        Some(broker) => node::address(broker, "kinetic up")?,
        None => {
            let (embedded, own) = node::embedded_broker(config.listen_broker, &config.data_dir).await?;
            let (schema, telemetry) = (schema.clone(), telemetry.clone());
            roles.start("broker", |shutdown| embedded.run(schema, telemetry, shutdown));
            own
        }
    };
    let notices = control.clone();
    roles.start("schema follower", |shutdown| follower.run(Some(notices), shutdown));
    let shared = Shared {
        control,
        schema,
        telemetry: telemetry.clone(),
        data_dir: config.data_dir.clone(),
        node: NodeId::new(&node::host_name()),
        queues: config.queues,
        token_keys: config.token_keys,
    };
    let health = shared.health(&["node"]);
    start_engine(
        &mut roles,
        &shared,
        config.history,
        config.listen_links,
        &config.webhook_nets,
        config.lease_ttl,
        config.lease_grace,
    )?;
    if let Some(listen) = config.listen_links {
        node::start_links(&mut roles, listen, &shared).await?;
    }
    roles.start("publisher of this process's health", |shutdown| shell::health::run(health, shutdown));
    // Not before: until a part has said how it is, the heartbeat could not count it.
    node::start_metrics(&mut roles, config.listen_metrics, &telemetry).await?;
    roles.run_until_interrupted().await
}

/// Redirector, alert node and analyzer of a one-process installation. The analyzer comes last, so that it stops first
/// and can still say goodbye.
pub(crate) fn start_engine(
    roles: &mut Roles,
    shared: &Shared,
    history: Location,
    links: Option<SocketAddr>,
    webhook_nets: &[Netblock],
    ttl: Duration,
    grace: Duration,
) -> Result<()> {
    // The only analyzer that could hold a lease lives and dies with this process: no need to listen first.
    let setup = shared.redirector(ttl, grace, Duration::ZERO, shared.control.told().to_vec());
    let reconciler = shared.reconciler(&setup, None);
    roles.start("redirector", |shutdown| shell::redirector::run(setup, shutdown));
    roles.start("reconciler", |shutdown| shell::reconcile::run(reconciler, shutdown));
    let mut setup = shared.alert(history)?;
    setup.webhook_nets = webhook_nets.to_vec();
    setup.config.serves_links = links.is_some();
    roles.start("alert node", |shutdown| shell::alert::run(setup, shutdown));
    let setup = shared.analyzer(Serves::default(), 100, None);
    roles.start("analyzer", |shutdown| shell::analyzer::run(setup, shutdown));
    Ok(())
}
