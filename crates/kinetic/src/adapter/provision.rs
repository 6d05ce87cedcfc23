//! What starts and stops analyzers: child processes, containers, or commands of the installation's own.
//!
//! None of them decides anything, and none keeps a record: `list` says what there is, and `kinetic_redirector::scaling`
//! says what there should be.

mod docker;
mod exec;
mod launch;
mod process;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use kinetic_redirector::fleet::Instance;
use kinetic_schema::schema::ProvisionerKind;
use kinetic_wire::NodeId;

pub(crate) use docker::Docker;
pub(crate) use exec::Exec;
pub(crate) use launch::{Files, Launch};
pub(crate) use process::Processes;

/// How long an analyzer that was told to stop may take to leave in good order; then it is killed. An analyzer gives
/// itself ten seconds.
pub(crate) const STOP_TIME: Duration = Duration::from_secs(12);

/// One of the three.
#[derive(Debug)]
pub(crate) enum Provisioner {
    /// Children of this process.
    Process(Processes),
    /// Containers of a Docker engine.
    Docker(Docker),
    /// Commands.
    Exec(Exec),
}

impl Provisioner {
    /// What the schema asks for. `dir` is this process's data directory.
    pub(crate) fn new(kind: &ProvisionerKind, launch: Launch, dir: &Path) -> Self {
        match kind {
            ProvisionerKind::Process(process) => {
                let dir = process.data_dir.as_deref().unwrap_or(dir).join("analyzers");
                Self::Process(Processes::new(launch, dir))
            }
            ProvisionerKind::Docker(docker) => Self::Docker(Docker::new(launch, docker.clone())),
            ProvisionerKind::Exec(exec) => Self::Exec(Exec::new(launch, exec.clone())),
        }
    }

    /// Its name in the schema.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
            Self::Docker(_) => "docker",
            Self::Exec(_) => "exec",
        }
    }

    /// How the nodes that it starts are called, before their number. Children are the business of their parent alone:
    /// their names hold the parent's, so that two redirectors never fight over one.
    pub(crate) fn prefix(&self, own: &NodeId) -> String {
        match self {
            Self::Process(_) => {
                // It is also the name of a folder.
                let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
                let own: String = own.as_str().chars().map(|c| if allowed(c) { c } else { '_' }).collect();
                format!("auto-{own}-")
            }
            Self::Docker(_) | Self::Exec(_) => "auto-".to_owned(),
        }
    }

    /// How long a node may take from `start` until it has registered: a process is up in a moment, a cloud's machine
    /// boots first.
    pub(crate) fn boot_timeout(&self) -> Duration {
        match self {
            Self::Process(_) => Duration::from_secs(60),
            Self::Docker(_) => Duration::from_secs(120),
            Self::Exec(_) => Duration::from_secs(600),
        }
    }

    /// How often it is asked what there is; more often after every step.
    pub(crate) fn list_interval(&self) -> Duration {
        match self {
            Self::Process(_) | Self::Exec(_) => Duration::ZERO,
            Self::Docker(_) => Duration::from_secs(5),
        }
    }

    /// Starts a node. Returns when it has begun to run, not when it has registered.
    pub(crate) async fn start(&self, node: &NodeId) -> Result<()> {
        match self {
            Self::Process(processes) => processes.start(node),
            Self::Docker(docker) => docker.start(node).await,
            Self::Exec(exec) => exec.start(node).await,
        }
    }

    /// Stops a node, or tidies up after one that has ended; done with one that is not there. It may run on for
    /// [`STOP_TIME`]; `list` tells.
    pub(crate) async fn stop(&self, node: &NodeId) -> Result<()> {
        match self {
            Self::Process(processes) => processes.stop(node),
            Self::Docker(docker) => docker.stop(node).await,
            Self::Exec(exec) => exec.stop(node).await,
        }
    }

    /// What there is; `None` from one that cannot tell.
    pub(crate) async fn list(&self) -> Result<Option<BTreeMap<NodeId, Instance>>> {
        match self {
            Self::Process(processes) => processes.list().map(Some),
            Self::Docker(docker) => docker.list().await.map(Some),
            Self::Exec(_) => Ok(None),
        }
    }

    /// This process ends: so do its children. Containers and machines stay.
    pub(crate) async fn close(&self) {
        if let Self::Process(processes) = self {
            processes.close().await;
        }
    }
}
