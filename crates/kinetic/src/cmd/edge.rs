//! `kinetic agent --edge`: unauthenticated carbon and statsd of all customers, told apart by where it comes from.

use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_agent::edge::EdgeConfig;

use crate::cli;
use crate::node::{self, Roles};
use crate::shell::edge::guests::Guests;
use crate::shell::edge::{self, Setup, door};
use crate::telemetry::Telemetry;

/// Runs until it is interrupted.
pub(crate) async fn run(args: cli::Agent) -> Result<()> {
    let flags = args.edge;
    let (schema, data_dir) = flags.schema.zip(flags.data_dir).context("clap asks for both")?;
    let broker = node::address(&args.broker, &format!("edge {}", node::host_name()))?;
    let _lock = node::lock_data_dir(&data_dir)?;
    let telemetry = Telemetry::default();
    let mut roles = Roles::default();
    let interval = Duration::from_secs(flags.fetch_interval.max(1));
    let (follower, revisions) =
        node::open_schema(&schema, &flags.branch, interval, &data_dir, &telemetry).await?;
    let statsd = edge::listen(args.statsd).await?;
    let guests =
        Guests::new(door::connections(flags.carbon_connections), flags.carbon_connections_per_address);
    let (door, chunks) = door::Door::open(flags.carbon, flags.proxy_from, guests.clone()).await?;
    node::start_metrics(&mut roles, args.metrics, &telemetry).await?;
    // An edge's key reads nothing, so that no notice of a new revision reaches it: it looks.
    roles.start("schema follower", |shutdown| follower.run(None, shutdown));
    let config = EdgeConfig {
        inc: node::new_incarnation(),
        amqp: broker.uris.clone(),
        body_bytes: usize::try_from(args.body_bytes)?,
        body_age: Duration::from_millis(args.body_age),
        buffer_bytes: usize::try_from(args.buffer)? << 20,
        in_flight_max: edge::IN_FLIGHT_MAX,
        seed: rand::random(),
    };
    let setup = Setup { config, broker, statsd, chunks, guests, schema: revisions, telemetry };
    roles.start("edge", |shutdown| edge::run(setup, shutdown));
    // Started last, so that it is stopped first: what it let in is published before the edge ends.
    roles.start("carbon listener", |shutdown| door.run(shutdown));
    roles.run_until_interrupted().await
}
