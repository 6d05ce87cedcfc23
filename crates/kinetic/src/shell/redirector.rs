//! The redirector's loop: requests from the control vhost and from every region's vhost, the leader's token, what the leader
//! tells, and the witnesses of analyzers; one machine.

mod doors;
mod issue;
mod retired;
mod token;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use kinetic_amqp::{Address, ConsumeOptions, Consumer, Event, Publisher, RpcClient, Watcher};
use kinetic_redirector::machine::{
    AddressOrder, Effect, Input, Map, MapBuilder, Redirector, RedirectorConfig, ReplyToken,
};
use kinetic_schema::schema::{ClusterPath, Customer, QueueType, Schema, Source};
use kinetic_wire::{
    Envelope, Incarnation, Login, NodeId, Relieve, Role, SchemaNotice, Serves, SourceKey, encode, names,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::adapter::clock;
use crate::shell::alive::{self, Alive};
use crate::shell::follow::{Revision, SchemaWatch};
use crate::shell::provision::{Port, Relieving};
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Telemetry};
use crate::{metrics, topology};

use doors::{Asked, Doors, Inbox};
use issue::Issuer;
use retired::Retired;
use token::{Order, Tokens, Told};

/// Pause before the topology is declared again.
const DECLARE_RETRY: Duration = Duration::from_secs(2);
/// How often the numbers on `/metrics` are renewed.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// What is published at once: schema notices, tokens, map changes, signs of life.
const PUBLISHES_MAX: usize = 16;
/// Orders and news of the token that wait.
const TOKEN_WORDS_MAX: usize = 64;
/// Map changes that wait to be told; past it one is left out, and copies are made anew.
const TELLS_MAX: usize = 256;
/// Pause before a map change is published again.
const TELL_RETRY: Duration = Duration::from_millis(200);
/// How long a page of the map may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Map changes on their way to us.
const HEAR_PREFETCH: u16 = 256;
/// Name of this part on `/metrics` and `/__heartbeat__`.
pub(crate) const PART: &str = "redirector";

/// What the loop needs.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The machine's configuration.
    pub(crate) config: RedirectorConfig,
    /// This start of the process.
    pub(crate) inc: Incarnation,
    /// The control vhost, and the login for all vhosts.
    pub(crate) control: Address,
    /// How the queues of the control vhost are kept.
    pub(crate) queues: QueueType,
    /// Addresses told to clients for regions that name none: `amqp://host:port`.
    pub(crate) advertise: Vec<String>,
    /// File for the term and the epochs.
    pub(crate) state_file: PathBuf,
    /// Schema revisions.
    pub(crate) schema: SchemaWatch,
    /// Where numbers go.
    pub(crate) telemetry: Telemetry,
    /// Told whether it leads.
    pub(crate) leads: watch::Sender<bool>,
    /// Who starts and stops analyzers, if anybody does.
    pub(crate) fleet: Option<Port>,
    /// Folder with the keys that sign tokens.
    pub(crate) token_keys: Option<PathBuf>,
}

/// What a finished job says.
enum Done {
    Declared,
    Page(Option<Vec<u8>>),
    /// What was left of the parts of a source has been read.
    Drained(SourceKey, u16),
    /// A task that serves until the end has ended.
    Served,
}

struct Shell {
    setup: Setup,
    jobs: JoinSet<Done>,
    doors: Doors,
    orders: mpsc::Sender<Order>,
    tells: mpsc::Sender<Vec<u8>>,
    rpc: RpcClient,
    watcher: Watcher,
    /// Watched nodes by the name of their witness queue.
    watched: BTreeMap<String, NodeId>,
    /// Our own provisioner's requests.
    relieving: BTreeMap<ReplyToken, oneshot::Sender<Vec<u8>>>,
    /// Everything that is published in the control vhost.
    publisher: Publisher,
    /// Vhosts whose exchanges and queues are not known to be declared.
    declaring: usize,
    /// Parts that sources no longer have.
    retired: Retired,
    /// Signs tokens.
    issuer: Issuer,
    /// Who waits for an answer to `locate` with a token in it.
    crediting: BTreeMap<ReplyToken, String>,
}

/// Runs until shutdown.
pub(crate) async fn run(setup: Setup, shutdown: Shutdown) -> Result<()> {
    let mut schema = setup.schema.clone();
    let first = schema.borrow_and_update().clone();
    let stored = token::load(&setup.state_file)?;
    let mut redirector = Redirector::new(
        setup.config.clone(),
        map(&first, &setup.advertise, &Retired::default()),
        stored.clone(),
    );
    let (mut shell, mut inbox, mut news, mut tasks) = start(setup, stored);
    shell.serve_vhosts(&first);
    let mut hears = Consumer::start(shell.setup.control.clone(), hearing());
    let alive = alive::over(
        shell.publisher.clone(),
        shell.setup.config.node.clone(),
        Role::Redirector,
        shell.setup.inc,
    );
    let mut effects = Vec::new();
    let mut metrics_due = tokio::time::interval(METRICS_INTERVAL);
    loop {
        alive.turned();
        shell.perform(&redirector, &mut effects).await;
        tokio::select! {
            () = shutdown.wait() => break,
            Ok(()) = schema.changed() => {
                let revision = schema.borrow_and_update().clone();
                shell.serve_vhosts(&revision);
                shell.announce(&revision);
                let map = map(&revision, &shell.setup.advertise, &shell.retired);
                redirector.handle(clock::now(), Input::MapChanged { map }, &mut effects);
            }
            Some(told) = news.recv() => {
                redirector.handle(clock::now(), told.into_input(), &mut effects);
            }
            Some(relieving) = relieving(&mut shell.setup.fleet) => {
                shell.relieve(&mut redirector, relieving, &mut effects);
            }
            Ok(()) = inbox.hearing.changed() => if let Some(input) = shell.doors.hearing(&mut inbox) {
                redirector.handle(clock::now(), input, &mut effects);
            },
            Some(asked) = inbox.leader.recv() => {
                shell.ask(&mut redirector, &asked, inbox.leader.len(), &mut effects);
            }
            Some(asked) = inbox.locate.recv() => {
                shell.ask(&mut redirector, &asked, inbox.locate.len(), &mut effects);
            }
            event = hears.next() => if let Event::Delivery(delivery) = event {
                redirector.handle(clock::now(), Input::Told { body: delivery.body() }, &mut effects);
            },
            queue = shell.watcher.handed() => if let Some(node) = shell.watched.remove(&queue) {
                tracing::info!(%node, "the broker says that the connection of an analyzer has ended");
                redirector.handle(clock::now(), Input::Witnessed { node: &node }, &mut effects);
            },
            Some(done) = shell.jobs.join_next() => {
                let revision = schema.borrow().clone();
                shell.done(&mut redirector, done?, &revision, &mut effects);
            }
            () = clock::sleep_until(redirector.next_wakeup()) => {
                redirector.handle(clock::now(), Input::Tick, &mut effects);
            }
            _ = metrics_due.tick() => shell.show(&redirector),
        }
    }
    shell.finish(alive, &mut tasks).await;
    Ok(())
}

/// The loop's hands, what comes in, and the tasks that end when nobody talks to them any more.
fn start(
    setup: Setup,
    stored: kinetic_redirector::machine::Stored,
) -> (Shell, Inbox, mpsc::Receiver<Told>, JoinSet<()>) {
    let (doors, inbox) = Doors::new(setup.control.clone(), setup.queues);
    let (orders, ordered) = mpsc::channel(TOKEN_WORDS_MAX);
    let (told, news) = mpsc::channel(TOKEN_WORDS_MAX);
    let (tells, telling) = mpsc::channel(TELLS_MAX);
    let published = topology::redirectors_words(setup.queues);
    let publisher = Publisher::start(setup.control.clone(), published, PUBLISHES_MAX);
    let mut tasks = JoinSet::new();
    let node = setup.config.node.clone();
    let tokens =
        Tokens::new(&setup.control, setup.queues, publisher.clone(), node, setup.state_file.clone(), stored);
    tasks.spawn(tokens.run(ordered, told));
    let mut jobs = JoinSet::new();
    jobs.spawn(tell(publisher.clone(), telling));
    let shell = Shell {
        jobs,
        doors,
        orders,
        tells,
        rpc: RpcClient::start(setup.control.clone()),
        watcher: Watcher::start(setup.control.clone()),
        watched: BTreeMap::new(),
        relieving: BTreeMap::new(),
        publisher,
        declaring: 0,
        retired: Retired::default(),
        issuer: Issuer::new(setup.token_keys.clone()),
        crediting: BTreeMap::new(),
        setup,
    };
    (shell, inbox, news, tasks)
}

/// What a standby hears, and a leader as well: that somebody else leads.
fn hearing() -> ConsumeOptions {
    ConsumeOptions {
        topology: topology::map_changes_subscription(),
        prefetch: HEAR_PREFETCH,
        no_ack: true,
        ..ConsumeOptions::default()
    }
}

/// Publishes map changes in their order, each until it is confirmed.
async fn tell(publisher: Publisher, mut telling: mpsc::Receiver<Vec<u8>>) -> Done {
    while let Some(body) = telling.recv().await {
        let body = bytes::Bytes::from(body);
        let envelope = Envelope { kind: Some(names::TYPE_MAP_CHANGE.into()), ..Envelope::default() };
        while let Err(error) =
            publisher.publish(names::MAP_EXCHANGE, "", &envelope, body.clone(), false).await
        {
            tracing::debug!(%error, "a map change was not confirmed");
            if !error.is_transient() {
                break;
            }
            tokio::time::sleep(TELL_RETRY).await;
        }
    }
    Done::Served
}

impl Shell {
    /// Tells the machine of a request; keeps the handle for the answer.
    fn ask(&mut self, redirector: &mut Redirector, asked: &Asked, waiting: usize, effects: &mut Vec<Effect>) {
        let Some(token) = self.doors.take(asked) else { return };
        let request = &asked.request;
        if request.kind == names::rpc::LOCATE
            && let Some(login) = &request.user_id
            && Issuer::is_wanted(&self.setup.schema.borrow().schema)
        {
            self.crediting.insert(token, login.clone());
        }
        let login = request.user_id.as_deref().map(Login::new);
        let input = Input::Request {
            token,
            kind: &request.kind,
            login: login.as_ref(),
            caller: asked.caller.as_ref(),
            waiting,
            body: &request.body,
        };
        redirector.handle(clock::now(), input, effects);
    }

    /// Our own provisioner asks for what an operator may ask for.
    fn relieve(&mut self, redirector: &mut Redirector, relieving: Relieving, effects: &mut Vec<Effect>) {
        let token = self.doors.mint();
        self.relieving.insert(token, relieving.answer);
        let body = encode(&Relieve { v: 1, node: relieving.node, undo: relieving.undo });
        let login = Login::new(&self.setup.control.login);
        let input = Input::Request {
            token,
            kind: names::rpc::RELIEVE,
            login: Some(&login),
            caller: None,
            waiting: 0,
            body: &body,
        };
        redirector.handle(clock::now(), input, effects);
    }

    /// Shows people how things stand, and the provisioner what there is, where the schema has one.
    fn show(&mut self, redirector: &Redirector) {
        let now = clock::now().wall;
        let mut shown = metrics::redirector(&redirector.stats());
        self.issuer.look(&self.setup.schema.borrow().schema, &self.setup.telemetry, now);
        shown.extend(self.issuer.metrics(now));
        self.setup.telemetry.show(PART, shown);
        self.show_health();
        if let Some(port) = &self.setup.fleet
            && self.setup.schema.borrow().schema.provisioner.is_some()
        {
            port.demand.send_replace(redirector.demand(&Serves::default()));
        }
    }

    /// Until every vhost is declared a customer's publish may find no exchange; without a connection nobody is answered.
    fn show_health(&self) {
        let link = self.publisher.status();
        let health = if self.declaring > 0 {
            Health::Failing("declaring exchanges and queues".into())
        } else if link.connected {
            Health::Ok
        } else {
            Health::Failing(format!("broker: {}", link.error.unwrap_or_else(|| "not connected".into())))
        };
        self.setup.telemetry.health(PART, health, clock::now().wall);
    }

    async fn perform(&mut self, redirector: &Redirector, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Store { stored } => self.order(Order::Store(stored)).await,
                Effect::Lead(lead) => {
                    let stats = redirector.stats();
                    if lead {
                        tracing::info!(term = %stats.term, listening = stats.listening, "leading");
                    } else {
                        tracing::warn!("standing by");
                        self.order(Order::Resign).await;
                    }
                    self.doors.lead(lead);
                    self.setup.leads.send_replace(lead);
                }
                Effect::Reply { token, body } => match self.relieving.remove(&token) {
                    // Whoever does not wait for it any more has gone on without.
                    Some(answer) => drop(answer.send(body)),
                    None => self.answer(token, body).await,
                },
                Effect::Tell { body } => {
                    if self.tells.try_send(body).is_err() {
                        tracing::warn!("a map change is left out: the broker takes none");
                    }
                }
                Effect::AskMap { body } => self.ask_map(body),
                Effect::Nudge { caller } => self.doors.nudge(caller),
                Effect::Watch { node } => {
                    let queue = topology::witness(&node);
                    self.watched.insert(queue.name.clone(), node);
                    self.watcher.watch(queue).await;
                }
                Effect::Unwatch { node } => {
                    let queue = names::witness_queue(&node);
                    self.watched.remove(&queue);
                    self.watcher.unwatch(&queue).await;
                }
            }
        }
    }

    /// Answers a request; who is to have a token gets it with the answer.
    async fn answer(&mut self, token: ReplyToken, mut body: Vec<u8>) {
        if let Some(login) = self.crediting.remove(&token) {
            let schema = self.setup.schema.borrow().clone();
            self.issuer.credit(&schema.schema, &login, clock::now().wall, &mut body);
        }
        self.doors.answer(token, body).await;
    }

    async fn order(&self, order: Order) {
        if self.orders.send(order).await.is_err() {
            tracing::error!("the token's task has ended");
        }
    }

    fn ask_map(&mut self, body: Vec<u8>) {
        let rpc = self.rpc.clone();
        self.jobs.spawn(async move {
            let page = rpc.request(names::RPC_EXCHANGE, names::rpc::MAP, body, PAGE_TIMEOUT).await;
            if let Err(error) = &page {
                tracing::debug!(%error, "no page of the map");
            }
            Done::Page(page.ok())
        });
    }

    /// Does what follows from the end of a job.
    fn done(
        &mut self,
        redirector: &mut Redirector,
        done: Done,
        revision: &Revision,
        effects: &mut Vec<Effect>,
    ) {
        match done {
            Done::Page(body) => {
                let input = Input::MapPage { body: body.as_deref() };
                redirector.handle(clock::now(), input, effects);
            }
            Done::Declared => {
                self.declaring -= 1;
                self.show_health();
            }
            Done::Drained(key, had) => {
                if self.retired.end(&key, had) {
                    tracing::info!(source = %key, had, "what was left of a source's former parts has been read");
                    let map = map(revision, &self.setup.advertise, &self.retired);
                    redirector.handle(clock::now(), Input::MapChanged { map }, effects);
                }
            }
            Done::Served => {}
        }
    }

    /// Sees to it that what is left in the queues of parts that sources no longer have is read.
    fn retire(&mut self, revision: &Revision) {
        for (key, had) in self.retired.follow(&revision.schema) {
            let Some(address) = retired::place(&revision.schema, &self.setup.control, &key) else { continue };
            let sources = revision.schema.customers.get(&key.customer).map(|customer| &customer.sources);
            let has =
                sources.and_then(|sources| sources.get(&key.source)).map_or(1, |source| source.partitions);
            let left = if has > 1 { has + 1..=had } else { 1..=had };
            tracing::info!(source = %key, had, has, "a source has fewer parts; the others are read until they are empty");
            self.jobs.spawn(async move {
                retired::drained(address, key.clone(), left).await;
                Done::Drained(key, had)
            });
        }
    }

    /// A door and the declared topology for the control vhost and each region's vhost.
    fn serve_vhosts(&mut self, revision: &Revision) {
        self.retire(revision);
        self.issuer.follow(&revision.schema);
        self.issuer.look(&revision.schema, &self.setup.telemetry, clock::now().wall);
        let mut addresses = vec![self.setup.control.clone()];
        for region in revision.schema.regions.values() {
            addresses.push(topology::region_address(&self.setup.control, region));
        }
        for (index, address) in addresses.into_iter().enumerate() {
            let mut queues = topology::queues_of(&revision.schema, &address.vhost);
            let mut declared = topology::ingress(&revision.schema, &address.vhost);
            if index == 0 && self.setup.queues == QueueType::Quorum {
                queues = QueueType::Quorum;
                declared = topology::kept(declared, queues);
            }
            if index == 0 {
                let own = topology::notifications(&revision.schema, clock::now().wall);
                declared.exchanges.extend(own.exchanges);
                declared.queues.extend(own.queues);
                declared.bindings.extend(own.bindings);
            }
            let declared = topology::marked(declared, &self.setup.control.vhost);
            self.declaring += 1;
            let leftovers = topology::ingress_leftovers(&revision.schema, &address.vhost);
            let declaring = declare(address.clone(), declared);
            let tidying = tidy(address.clone(), leftovers);
            self.jobs.spawn(async move {
                declaring.await;
                tidying.await;
                Done::Declared
            });
            self.doors.open(&address, queues);
        }
    }

    /// First the door, then the token: the next leader is to find the requests that we leave.
    async fn finish(mut self, alive: Alive, tasks: &mut JoinSet<()>) {
        self.doors.lead(false);
        drop(self.orders);
        alive.bye().await;
        while tasks.join_next().await.is_some() {}
        self.watcher.close().await;
    }

    /// Says on `kin.schema` that there is a new revision; best effort, since everyone fetches on an interval too.
    fn announce(&mut self, revision: &Revision) {
        let notices = self.publisher.clone();
        let body = encode(&SchemaNotice { v: 1, revision: revision.id.clone() });
        self.jobs.spawn(async move {
            let envelope = Envelope { kind: Some(names::TYPE_SCHEMA_NOTICE.into()), ..Envelope::default() };
            if let Err(error) = notices.publish(names::SCHEMA_EXCHANGE, "", &envelope, body, false).await {
                tracing::debug!(%error, "the schema notice was not published");
            }
            Done::Served
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

/// What the machine needs to know of a schema.
fn map(revision: &Revision, advertise: &[String], retired: &Retired) -> Arc<Map> {
    let schema: &Schema = &revision.schema;
    let mut map = MapBuilder::new(&revision.id, revision.generation);
    let sources = schema.customers.values().map(|customer| customer.sources.len()).sum();
    map.expect(schema.customers.len(), sources);
    for region in schema.regions.values() {
        let uris = if region.amqp.is_empty() { advertise } else { &region.amqp };
        let addresses = uris.iter().map(|uri| (uri.clone(), region.vhost.clone())).collect();
        map.region(&region.name, addresses, region.zones.clone());
        map.order(&region.name, order(region.order));
    }
    for customer in schema.customers.values() {
        map.customer(&customer.name, &customer.region, customer.disabled);
        for source in customer.sources.values() {
            let definition = definition(customer, source);
            let key = SourceKey::new(customer.name.as_str(), source.name.as_str());
            let parts = retired.parts(&key, source.partitions);
            map.source(source.name.as_str(), source.data_type, parts, definition);
            source.profile.iter().for_each(|profile| _ = map.profile(profile));
        }
    }
    Arc::new(map.build())
}

fn order(order: kinetic_schema::schema::AddressOrder) -> AddressOrder {
    match order {
        kinetic_schema::schema::AddressOrder::Listed => AddressOrder::Listed,
        kinetic_schema::schema::AddressOrder::ByOrigin => AddressOrder::ByOrigin,
    }
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
