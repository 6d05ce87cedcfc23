//! The redirector's loop: requests from the control vhost and from every region's vhost, one machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_amqp::{Address, Publisher, Request, RequestHandle, RpcServer};
use kinetic_redirector::machine::{
    Effect, Input, Map, MapBuilder, Redirector, RedirectorConfig, ReplyToken, Stored,
};
use kinetic_schema::schema::{ClusterPath, Customer, Schema, Source};
use kinetic_wire::{Envelope, Epoch, Login, Relieve, SchemaNotice, Serves, Term, encode, names};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::adapter::{clock, file};
use crate::shell::follow::{Revision, SchemaWatch};
use crate::shell::provision::{Port, Relieving};
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Telemetry};
use crate::{metrics, topology};

/// Requests that wait for the machine, over all vhosts.
const REQUESTS_MAX: usize = 256;
/// Answers that wait for one vhost's task.
const REPLIES_MAX: usize = 256;
/// Pause before the topology is declared again.
const DECLARE_RETRY: Duration = Duration::from_secs(2);
/// Pause before the state is written again.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How often the numbers on `/metrics` are renewed.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// Schema notices in flight.
const NOTICES_MAX: usize = 4;
/// Name of this part on `/metrics` and `/__heartbeat__`.
pub(crate) const PART: &str = "redirector";

/// What the loop needs.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The machine's configuration.
    pub(crate) config: RedirectorConfig,
    /// The control vhost, and the login for all vhosts.
    pub(crate) control: Address,
    /// Addresses told to clients for regions that name none: `amqp://host:port`.
    pub(crate) advertise: Vec<String>,
    /// File for the term and the epochs.
    pub(crate) state_file: PathBuf,
    /// Schema revisions.
    pub(crate) schema: SchemaWatch,
    /// Where numbers go.
    pub(crate) telemetry: Telemetry,
    /// Who starts and stops analyzers, if anybody does.
    pub(crate) fleet: Option<Port>,
}

/// What a finished job says.
enum Done {
    Stored(Stored),
    Declared,
}

/// One request with the vhost it came from.
struct Asked {
    server: usize,
    request: Request,
}

/// An answer on its way to its vhost's task.
type Answer = (RequestHandle, Vec<u8>);

struct Shell {
    setup: Setup,
    jobs: JoinSet<Done>,
    servers: BTreeMap<String, usize>,
    answers: Vec<mpsc::Sender<Answer>>,
    serving: JoinSet<()>,
    asked: mpsc::Sender<Asked>,
    waiting: BTreeMap<ReplyToken, (usize, RequestHandle)>,
    /// Our own provisioner's requests.
    relieving: BTreeMap<ReplyToken, oneshot::Sender<Vec<u8>>>,
    next_token: u64,
    notices: Publisher,
    /// Vhosts whose exchanges and queues are not known to be declared.
    declaring: usize,
}

/// Runs until shutdown.
pub(crate) async fn run(setup: Setup, shutdown: Shutdown) -> Result<()> {
    let mut schema = setup.schema.clone();
    let first = schema.borrow_and_update().clone();
    let stored = load(&setup.state_file)?;
    let mut redirector = Redirector::new(setup.config.clone(), map(&first, &setup.advertise), stored);
    let (asked, mut requests) = mpsc::channel(REQUESTS_MAX);
    let mut shell = Shell {
        jobs: JoinSet::new(),
        servers: BTreeMap::new(),
        answers: Vec::new(),
        serving: JoinSet::new(),
        asked,
        waiting: BTreeMap::new(),
        relieving: BTreeMap::new(),
        next_token: 0,
        notices: Publisher::start(setup.control.clone(), topology::schema_notices(), NOTICES_MAX),
        declaring: 0,
        setup,
    };
    shell.serve_vhosts(&first);
    let mut effects = Vec::new();
    let mut metrics_due = tokio::time::interval(METRICS_INTERVAL);
    redirector.handle(clock::now(), Input::Tick, &mut effects);
    loop {
        shell.perform(&mut effects).await;
        tokio::select! {
            () = shutdown.wait() => break,
            Ok(()) = schema.changed() => {
                let revision = schema.borrow_and_update().clone();
                shell.serve_vhosts(&revision);
                shell.announce(&revision);
                let map = map(&revision, &shell.setup.advertise);
                redirector.handle(clock::now(), Input::MapChanged { map }, &mut effects);
            }
            Some(relieving) = relieving(&mut shell.setup.fleet) => {
                shell.relieve(&mut redirector, relieving, &mut effects);
            }
            Some(asked) = requests.recv() => shell.ask(&mut redirector, asked, &mut effects),
            Some(done) = shell.jobs.join_next() => match done? {
                Done::Stored(stored) => redirector.handle(clock::now(), Input::Stored { stored }, &mut effects),
                Done::Declared => {
                    shell.declaring -= 1;
                    shell.show_health();
                }
            },
            () = clock::sleep_until(redirector.next_wakeup()) => {
                redirector.handle(clock::now(), Input::Tick, &mut effects);
            }
            _ = metrics_due.tick() => {
                shell.setup.telemetry.show(PART, metrics::redirector(&redirector.stats()));
                shell.show_health();
                shell.show_fleet(&redirector);
            }
        }
    }
    shell.notices.close().await;
    Ok(())
}

impl Shell {
    /// Tells the machine of a request; keeps the handle for the answer.
    fn ask(&mut self, redirector: &mut Redirector, asked: Asked, effects: &mut Vec<Effect>) {
        let Asked { server, request } = asked;
        let token = ReplyToken(self.next_token);
        self.next_token += 1;
        let login = request.user_id.as_deref().map(Login::new);
        let input = Input::Request { token, kind: &request.kind, login: login.as_ref(), body: &request.body };
        redirector.handle(clock::now(), input, effects);
        self.waiting.insert(token, (server, request.handle));
    }

    /// Our own provisioner asks for what an operator may ask for.
    fn relieve(&mut self, redirector: &mut Redirector, relieving: Relieving, effects: &mut Vec<Effect>) {
        let token = ReplyToken(self.next_token);
        self.next_token += 1;
        self.relieving.insert(token, relieving.answer);
        let body = encode(&Relieve { v: 1, node: relieving.node, undo: false });
        let login = Login::new(&self.setup.control.login);
        let input = Input::Request { token, kind: names::rpc::RELIEVE, login: Some(&login), body: &body };
        redirector.handle(clock::now(), input, effects);
    }

    /// Shows the provisioner what there is, where the schema has one.
    fn show_fleet(&self, redirector: &Redirector) {
        if let Some(port) = &self.setup.fleet
            && self.setup.schema.borrow().schema.provisioner.is_some()
        {
            port.demand.send_replace(redirector.demand(&Serves::default()));
        }
    }

    /// Until every vhost is declared a customer's publish may find no exchange; without a connection nobody is answered.
    fn show_health(&self) {
        let link = self.notices.status();
        let health = if self.declaring > 0 {
            Health::Failing("declaring exchanges and queues".into())
        } else if link.connected {
            Health::Ok
        } else {
            Health::Failing(format!("broker: {}", link.error.unwrap_or_else(|| "not connected".into())))
        };
        self.setup.telemetry.health(PART, health, clock::now().wall);
    }

    async fn perform(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Store { stored } => {
                    let path = self.setup.state_file.clone();
                    self.jobs.spawn(store(path, stored));
                }
                Effect::Reply { token, body } if self.relieving.contains_key(&token) => {
                    // Whoever does not wait for it any more has gone on without.
                    drop(self.relieving.remove(&token).map(|answer| answer.send(body)));
                }
                Effect::Reply { token, body } => {
                    let Some((server, handle)) = self.waiting.remove(&token) else { continue };
                    if self.answers[server].send((handle, body)).await.is_err() {
                        tracing::warn!("an answer could not be sent: its vhost's task has ended");
                    }
                }
            }
        }
    }

    /// A request server and the declared topology for the control vhost and each region's vhost.
    fn serve_vhosts(&mut self, revision: &Revision) {
        let mut addresses = vec![self.setup.control.clone()];
        for region in revision.schema.regions.values() {
            addresses.push(topology::region_address(&self.setup.control, region));
        }
        for address in addresses {
            let declared = topology::ingress(&revision.schema, &address.vhost);
            self.declaring += 1;
            let leftovers = topology::ingress_leftovers(&revision.schema, &address.vhost);
            let declaring = declare(address.clone(), declared);
            let tidying = tidy(address.clone(), leftovers);
            self.jobs.spawn(async move {
                declaring.await;
                tidying.await;
                Done::Declared
            });
            let place = format!("{:?} {}", address.uris, address.vhost);
            if self.servers.contains_key(&place) {
                continue;
            }
            let server = self.answers.len();
            let (answers, replies) = mpsc::channel(REPLIES_MAX);
            self.servers.insert(place, server);
            self.answers.push(answers);
            let rpc = RpcServer::start(address, topology::rpc(), names::RPC_QUEUE);
            self.serving.spawn(serve(server, rpc, self.asked.clone(), replies));
        }
    }

    /// Says on `kin.schema` that there is a new revision; best effort, since everyone fetches on an interval too.
    fn announce(&mut self, revision: &Revision) {
        let notices = self.notices.clone();
        let body = encode(&SchemaNotice { v: 1, revision: revision.id.clone() });
        self.serving.spawn(async move {
            let envelope = Envelope { kind: Some(names::TYPE_SCHEMA_NOTICE.into()), ..Envelope::default() };
            if let Err(error) = notices.publish(names::SCHEMA_EXCHANGE, "", &envelope, body, false).await {
                tracing::debug!(%error, "the schema notice was not published");
            }
        });
    }
}

/// The next analyzer that our provisioner wants relieved; never, without one.
async fn relieving(port: &mut Option<Port>) -> Option<Relieving> {
    match port {
        Some(port) => port.relieve.recv().await,
        None => std::future::pending().await,
    }
}

/// Requests of one vhost to the loop, answers back.
async fn serve(
    server: usize,
    mut rpc: RpcServer,
    asked: mpsc::Sender<Asked>,
    mut replies: mpsc::Receiver<Answer>,
) {
    let mut ready: Option<Request> = None;
    loop {
        tokio::select! {
            reply = replies.recv() => match reply {
                Some((handle, body)) => rpc.reply(handle, body).await,
                None => return,
            },
            permit = asked.reserve(), if ready.is_some() => match (permit, ready.take()) {
                (Ok(permit), Some(request)) => permit.send(Asked { server, request }),
                _ => return,
            },
            request = rpc.next(), if ready.is_none() => ready = Some(request),
        }
    }
}

/// Declares until it has worked.
pub(crate) async fn declare(address: Address, topology: kinetic_amqp::Topology) {
    loop {
        match kinetic_amqp::declare(&address, &topology).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(vhost = address.vhost, %error, "cannot declare the customers' exchanges and queues; trying again");
                tokio::time::sleep(DECLARE_RETRY).await;
            }
        }
    }
}

/// Removes what earlier revisions left until it has worked.
async fn tidy(address: Address, leftovers: kinetic_amqp::Leftovers) {
    loop {
        match kinetic_amqp::remove(&address, &leftovers).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(vhost = address.vhost, %error, "cannot remove bindings of earlier revisions; trying again");
                tokio::time::sleep(DECLARE_RETRY).await;
            }
        }
    }
}

/// Writes until it has worked: nothing that depends on the state is said before.
async fn store(path: PathBuf, stored: Stored) -> Done {
    loop {
        let path = path.clone();
        let text = format!("{{\"term\":{},\"epoch_max\":{}}}\n", stored.term, stored.epoch_max);
        let written =
            tokio::task::spawn_blocking(move || file::write_atomically(&path, text.as_bytes())).await;
        match written {
            Ok(Ok(())) => return Done::Stored(stored),
            Ok(Err(error)) => {
                tracing::error!(error = format!("{error:#}"), "cannot store the redirector's term and epochs")
            }
            Err(error) => tracing::error!(%error, "storing failed"),
        }
        tokio::time::sleep(STORE_RETRY).await;
    }
}

/// What the last run stored.
fn load(path: &std::path::Path) -> Result<Stored> {
    #[derive(serde::Deserialize)]
    struct File {
        term: Term,
        epoch_max: Epoch,
    }
    if !path.exists() {
        return Ok(Stored::default());
    }
    let file: File = serde_json::from_str(&file::read_text(path)?).with_context(|| {
        format!("{} is damaged: restore it, or remove it after all analyzers have stopped", path.display())
    })?;
    Ok(Stored { term: file.term, epoch_max: file.epoch_max })
}

/// What the machine needs to know of a schema.
fn map(revision: &Revision, advertise: &[String]) -> Arc<Map> {
    let schema: &Schema = &revision.schema;
    let mut map = MapBuilder::new(&revision.id, 0);
    for region in schema.regions.values() {
        let uris = if region.amqp.is_empty() { advertise } else { &region.amqp };
        let addresses = uris.iter().map(|uri| (uri.clone(), region.vhost.clone())).collect();
        map.region(&region.name, addresses, region.zones.clone());
    }
    for customer in schema.customers.values() {
        map.customer(&customer.name, &customer.region, customer.disabled);
        for source in customer.sources.values() {
            let definition = definition(customer, source);
            map.source(source.name.as_str(), source.data_type, source.partitions, definition);
        }
    }
    Arc::new(map.build())
}

/// Digest of all that an analyzer of this source works by: the source itself, the clusters fed by it, and the analytics
/// over them. Two digests are only ever compared within one process, so that the form of the text does not matter.
fn definition(customer: &Customer, source: &Source) -> u32 {
    let mut digest = Digest(Sha256::new());
    let mut written = write!(digest, "{source:?}");
    for service in customer.services.values() {
        for cluster in service.clusters.values().filter(|cluster| cluster.source == source.name) {
            let path = ClusterPath { service: service.name.clone(), cluster: cluster.name.clone() };
            written = written.and_then(|()| write!(digest, "{path:?}{cluster:?}"));
            for analytic in customer.analytics.values().filter(|analytic| analytic.on.contains(&path)) {
                written = written.and_then(|()| write!(digest, "{analytic:?}"));
            }
        }
    }
    written.expect("a digest takes every text");
    let [a, b, c, d, ..] = <[u8; 32]>::from(digest.0.finalize());
    u32::from_be_bytes([a, b, c, d])
}

/// A hash of what is written to it.
struct Digest(Sha256);

impl std::fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
