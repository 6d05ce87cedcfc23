//! Analyzers as containers of a Docker engine, over its Unix socket.
//!
//! Containers outlive this process. Whoever leads next finds them by their labels: `kinetic.control` (the control
//! vhost, which an installation shares with nobody) and `kinetic.node`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker as Engine};
use kinetic_redirector::fleet::Instance;
use kinetic_schema::schema::DockerProvisioner;
use kinetic_wire::NodeId;

use crate::adapter::provision::{Files, Launch, STOP_TIME};

/// An answer of the engine that takes longer is none. Stopping waits for the container.
const ANSWER_TIME: Duration = Duration::from_secs(STOP_TIME.as_secs() + 20);
/// Label that says of which installation a container is.
const CONTROL_LABEL: &str = "kinetic.control";
/// Label that says which node it is.
const NODE_LABEL: &str = "kinetic.node";
/// Where the password is inside a container; the other files lie beside it.
const PASSWORD_FILE: &str = "/run/secrets/kinetic-broker";
/// The other files' names begin so.
const FILE_PREFIX: &str = "/run/secrets/kinetic-";
/// Where an analyzer keeps its clone of the schema repository inside a container.
const DATA_DIR: &str = "/var/lib/kinetic";

/// The containers.
#[derive(Debug)]
pub(crate) struct Docker {
    launch: Launch,
    config: DockerProvisioner,
    /// Set once there is a socket.
    engine: Mutex<Option<Engine>>,
}

impl Docker {
    /// Talks to nobody yet.
    pub(crate) fn new(launch: Launch, config: DockerProvisioner) -> Self {
        Self { launch, config, engine: Mutex::default() }
    }

    /// Requests name no version of the interface, so that an engine of any age speaks its own.
    fn engine(&self) -> Result<Engine> {
        let mut known = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*known {
            return Ok(engine.clone());
        }
        let socket = self.config.socket.to_string_lossy();
        let engine = Engine::connect_with_unix(&socket, ANSWER_TIME.as_secs(), API_DEFAULT_VERSION);
        Ok(known.insert(engine.with_context(|| format!("no Docker engine at {socket}"))?).clone())
    }

    /// Creates a container and starts it.
    pub(crate) async fn start(&self, node: &NodeId) -> Result<()> {
        let (engine, name) = (self.engine()?, self.container(node));
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let created = engine.create_container(Some(options), self.body(node)).await;
        let created =
            created.with_context(|| format!("cannot create container {name} of {}", self.config.image))?;
        for warning in created.warnings {
            tracing::warn!(%node, warning, "the Docker engine warns");
        }
        if let Err(error) = engine.start_container(&name, None).await {
            remove(&engine, &name).await?;
            return Err(error).with_context(|| format!("cannot start container {name}"));
        }
        tracing::info!(%node, container = name, "started a container");
        Ok(())
    }

    /// Stops a container, waits for it, and removes it. It is found by its labels: a name may be anybody's, also one that has kept
    /// us from creating ours.
    pub(crate) async fn stop(&self, node: &NodeId) -> Result<()> {
        let engine = self.engine()?;
        let seconds = i32::try_from(STOP_TIME.as_secs()).expect("a few seconds");
        for container in self.labelled(&engine, Some(node)).await? {
            let id = container.id.context("the engine lists a container without an id")?;
            let options = StopContainerOptionsBuilder::new().t(seconds).build();
            match engine.stop_container(&id, Some(options)).await {
                Ok(()) => {}
                Err(error) if is_status(&error, &[304, 404]) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot stop container {id}")),
            }
            remove(&engine, &id).await?;
        }
        Ok(())
    }

    /// The containers of this installation, whoever has started them.
    pub(crate) async fn list(&self) -> Result<BTreeMap<NodeId, Instance>> {
        let list = self.labelled(&self.engine()?, None).await?;
        Ok(list.into_iter().filter_map(instance).collect())
    }

    /// The containers that carry our labels: those of a node, or all.
    async fn labelled(&self, engine: &Engine, node: Option<&NodeId>) -> Result<Vec<ContainerSummary>> {
        let mut labels = vec![format!("{CONTROL_LABEL}={}", self.launch.control)];
        labels.extend(node.map(|node| format!("{NODE_LABEL}={node}")));
        // The interface of the library; its order reaches nobody.
        #[expect(clippy::disallowed_types, reason = "the library asks for this type")]
        let filters = std::collections::HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        engine.list_containers(Some(options)).await.context("cannot list containers")
    }

    /// `kinetic-<control vhost>-<node>`, in the characters that Docker takes.
    fn container(&self, node: &NodeId) -> String {
        let name = format!("kinetic-{}-{node}", self.launch.control);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        name.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
    }

    fn body(&self, node: &NodeId) -> ContainerCreateBody {
        let Files { password, trust } = &self.launch.files;
        let mut binds: Vec<String> = Vec::new();
        let mut bind = |path: &Path, inside: String| {
            binds.push(format!("{}:{inside}:ro", path.display()));
            PathBuf::from(inside)
        };
        let inside = Files {
            password: password.as_deref().map(|path| bind(path, PASSWORD_FILE.to_owned())),
            trust: trust.each_file(|flag, path| bind(path, format!("{FILE_PREFIX}{flag}"))),
        };
        if self.launch.schema.starts_with('/') {
            binds.push(format!("{0}:{0}:ro", self.launch.schema));
        }
        let labels = [(CONTROL_LABEL, self.launch.control.clone()), (NODE_LABEL, node.to_string())];
        ContainerCreateBody {
            image: Some(self.config.image.clone()),
            hostname: Some(node.to_string()),
            cmd: Some(self.launch.args(node, Path::new(DATA_DIR), &inside)),
            env: Some(self.config.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            labels: Some(labels.into_iter().map(|(label, value)| (label.to_owned(), value)).collect()),
            stop_timeout: Some(i64::try_from(STOP_TIME.as_secs()).expect("a few seconds")),
            host_config: Some(HostConfig {
                binds: Some(binds),
                network_mode: self.config.network.clone(),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }
}

/// Removes a container that is or is not there, whether it runs or not.
async fn remove(engine: &Engine, name: &str) -> Result<()> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match engine.remove_container(name, Some(options)).await {
        Ok(()) => Ok(()),
        // 409: it is being removed already.
        Err(error) if is_status(&error, &[404, 409]) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove container {name}")),
    }
}

fn is_status(error: &Error, statuses: &[u16]) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code, .. } if statuses.contains(status_code))
}

/// What a container of the list means.
fn instance(container: ContainerSummary) -> Option<(NodeId, Instance)> {
    use ContainerSummaryStateEnum::{DEAD, EXITED, REMOVING};
    let node = NodeId::new(container.labels?.get(NODE_LABEL)?);
    let instance = match container.state {
        Some(EXITED | DEAD) => {
            Instance::Ended(container.status.unwrap_or_else(|| "for no known reason".to_owned()))
        }
        Some(REMOVING) => Instance::Ending,
        _ => Instance::Running,
    };
    Some((node, instance))
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
