//! An installation for one story: a broker, a schema repository, a mail relay, and the roles that the story starts.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kinetic_amqp::{Address, Secret};
use kinetic_wire::names;
use tempfile::TempDir;

mod node;
mod tls;

pub use node::Node;

use crate::certs::Authority;
use crate::eventually;
use crate::process::{Launch, kinetic, run};
use crate::proxy::Proxy;
use crate::rabbit::Rabbit;
use crate::schema::{Customer, Queues, SECRET, SchemaRepo, installation};
use crate::smtp::SmtpCatcher;

/// Login of Kinetic's own roles, on both brokers.
const OWN_LOGIN: &str = "kinetic";
/// Its password on RabbitMQ; the embedded broker makes one of its own.
const OWN_PASSWORD: &str = "own-password-of-the-stories";
/// Vhost of the region on the embedded broker.
const EMBEDDED_VHOST: &str = "local";
/// What the roles log, and where it is told.
const LOGS: &str = "kinetic=debug,info";
const LOGS_VARIABLE: &str = "RUST_LOG";

/// Which broker a story runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerKind {
    /// Our own, as `kinetic broker`.
    Embedded,
    /// The RabbitMQ node that all stories share.
    RabbitMq,
    /// A RabbitMQ node for this story alone, which it may kill.
    OwnRabbitMq,
    /// Three RabbitMQ nodes for this story alone, behind one address that leads to the first that is up.
    Cluster,
}

/// Nodes of a [`BrokerKind::Cluster`].
pub const CLUSTER_SIZE: usize = 3;

/// Lease of the stories' redirectors, and the grace behind it, milliseconds.
pub const SHORT_LEASE: [u64; 2] = [2000, 500];

#[derive(Debug)]
enum Broker {
    Embedded { address: SocketAddr, tls: Option<(SocketAddr, Authority)>, _owner: Box<Node> },
    Shared(&'static Rabbit),
    Own(Box<Rabbit>),
}

/// The installation. Everything it started ends when it is dropped.
#[derive(Debug)]
pub struct World {
    /// The relay.
    pub smtp: SmtpCatcher,
    /// The schema repository.
    pub schema: SchemaRepo,
    broker: Broker,
    entrance: Option<Proxy>,
    queues: Queues,
    vhost: String,
    /// Everything speaks TLS to the broker.
    over_tls: bool,
    logs: &'static str,
    own_password_file: PathBuf,
    key_file: PathBuf,
    dir: TempDir,
}

impl World {
    /// A broker that serves a schema with the given customers. No role runs yet.
    ///
    /// # Panics
    /// If something does not come up.
    #[must_use]
    pub fn start(kind: BrokerKind, customers: &[Customer]) -> Self {
        Self::start_with(kind, Queues::Classic, customers)
    }

    /// The same, with sources' queues of a kind.
    ///
    /// # Panics
    /// If something does not come up.
    #[must_use]
    pub fn start_with(kind: BrokerKind, queues: Queues, customers: &[Customer]) -> Self {
        Self::start_as(kind, queues, customers, LOGS, false)
    }

    /// One whose roles log all that they can.
    ///
    /// # Panics
    /// If something does not come up.
    #[must_use]
    pub fn start_talkative(kind: BrokerKind, customers: &[Customer]) -> Self {
        Self::start_as(kind, Queues::Classic, customers, "trace", false)
    }

    fn start_as(
        kind: BrokerKind,
        queues: Queues,
        customers: &[Customer],
        logs: &'static str,
        with_tls: bool,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("kinetic-story-").tempdir().expect("tempdir");
        let smtp = SmtpCatcher::start();
        let schema = SchemaRepo::init(dir.path());
        let rabbit = match kind {
            BrokerKind::Embedded => None,
            BrokerKind::RabbitMq => Some(Broker::Shared(Rabbit::shared())),
            BrokerKind::OwnRabbitMq => Some(Broker::Own(Box::new(Rabbit::start()))),
            BrokerKind::Cluster => Some(Broker::Own(Box::new(Rabbit::cluster(CLUSTER_SIZE)))),
        };
        let entrance = match &rabbit {
            Some(Broker::Own(rabbit)) if kind == BrokerKind::Cluster => {
                Some(Proxy::start(&rabbit.amqp_all()))
            }
            _ => None,
        };
        let vhost = match &rabbit {
            Some(Broker::Own(rabbit)) => rabbit.vhost("story"),
            Some(Broker::Shared(rabbit)) => rabbit.vhost("story"),
            _ => EMBEDDED_VHOST.to_owned(),
        };
        schema.clear();
        schema.write(&installation(&vhost, queues, smtp.address()));
        customers.iter().flat_map(Customer::files).for_each(|file| schema.write(&file));
        schema.push();
        let own_password_file = dir.path().join("own-password");
        let broker = rabbit.unwrap_or_else(|| embedded(dir.path(), &schema, logs, with_tls));
        match &broker {
            Broker::Embedded { .. } => {
                let secret = dir.path().join("broker").join("broker-secret");
                write_secret(
                    &own_password_file,
                    std::fs::read_to_string(secret).expect("the broker's secret").trim(),
                );
            }
            _ => write_secret(&own_password_file, OWN_PASSWORD),
        }
        let key_file = dir.path().join("key");
        write_secret(&key_file, SECRET);
        let world = Self {
            smtp,
            schema,
            broker,
            entrance,
            queues,
            vhost,
            logs,
            over_tls: false,
            own_password_file,
            key_file,
            dir,
        };
        if let Some(rabbit) = world.rabbit() {
            rabbit.user(&world.vhost, OWN_LOGIN, OWN_PASSWORD, [".*", ".*", ".*"]);
        }
        customers.iter().for_each(|customer| world.admit(customer));
        world
    }

    /// The RabbitMQ that all stories share, with nothing of this story on it but our own login, and a region that says where its
    /// management API is.
    ///
    /// # Panics
    /// If something does not come up.
    #[must_use]
    pub fn start_bare(customers: &[Customer]) -> Self {
        let dir = tempfile::Builder::new().prefix("kinetic-story-").tempdir().expect("tempdir");
        let (smtp, schema, rabbit) = (SmtpCatcher::start(), SchemaRepo::init(dir.path()), Rabbit::shared());
        let vhost = rabbit.vhost_name("bare");
        rabbit.own_login(OWN_LOGIN, OWN_PASSWORD);
        schema.clear();
        let (path, text) = installation(&vhost, Queues::Classic, smtp.address());
        let api = format!("region \"local\" {{\n  management = \"{}\"\n", rabbit.management());
        schema.write(&(path, text.replace("region \"local\" {\n", &api)));
        customers.iter().flat_map(Customer::files).for_each(|file| schema.write(&file));
        schema.push();
        let (own_password_file, key_file) = (dir.path().join("own-password"), dir.path().join("key"));
        write_secret(&own_password_file, OWN_PASSWORD);
        write_secret(&key_file, SECRET);
        let (broker, entrance, queues) = (Broker::Shared(rabbit), None, Queues::Classic);
        let logs = LOGS;
        let over_tls = false;
        Self {
            smtp,
            schema,
            broker,
            entrance,
            queues,
            vhost,
            logs,
            over_tls,
            own_password_file,
            key_file,
            dir,
        }
    }

    /// The RabbitMQ of this story, where it has one.
    #[must_use]
    pub fn rabbit(&self) -> Option<&Rabbit> {
        match &self.broker {
            Broker::Embedded { .. } => None,
            Broker::Shared(rabbit) => Some(rabbit),
            Broker::Own(rabbit) => Some(rabbit),
        }
    }

    /// The story's own RabbitMQ node.
    ///
    /// # Panics
    /// If it has none.
    pub fn own_rabbit(&mut self) -> &mut Rabbit {
        match &mut self.broker {
            Broker::Own(rabbit) => rabbit,
            other => panic!("{other:?} is not this story's alone"),
        }
    }

    /// Gives a customer's key its login where the broker does not follow the schema by itself.
    pub fn admit(&self, customer: &Customer) {
        if let Some(rabbit) = self.rabbit() {
            let write = format!("^(in\\.{}|kin\\.rpc)$", customer.name);
            rabbit.user(&self.vhost, &customer.login(), SECRET, ["^$", &write, "^$"]);
        }
    }

    /// Address of a customer's login that shows a token.
    #[must_use]
    pub fn token_address(&self, login: &str, token: &str) -> Address {
        self.address(login, token, &self.vhost)
    }

    /// Makes the broker as the schema says, where it does not follow the schema by itself.
    ///
    /// # Panics
    /// If that does not work.
    pub fn reconcile(&self) {
        if let Some(rabbit) = self.rabbit() {
            let words = ["reconcile", &self.schema.remote(), "--yes", "--management", &rabbit.management()];
            run(Launch::new(kinetic()).args(words).args(self.broker_words()));
        }
    }

    /// Gives a login that is none of a customer's first key its rights in the region's vhost, where the broker does not follow the
    /// schema by itself: what it may configure, write and read. Its secret is that of all stories.
    pub fn admit_login(&self, login: &str, rights: [&str; 3]) {
        if let Some(rabbit) = self.rabbit() {
            rabbit.user(&self.vhost, login, SECRET, rights);
        }
    }

    /// One more region, on the same broker, in a vhost of its own; returns that. The customers' keys may log in there as well.
    ///
    /// # Panics
    /// If that does not work.
    #[must_use]
    pub fn add_region(&self, name: &str, customers: &[Customer]) -> String {
        let vhost = self.rabbit().map_or_else(|| name.to_owned(), |rabbit| rabbit.vhost("story"));
        if let Some(rabbit) = self.rabbit() {
            rabbit.user(&vhost, OWN_LOGIN, OWN_PASSWORD, [".*", ".*", ".*"]);
            for customer in customers {
                let write = format!("^(in\\.{}|kin\\.rpc)$", customer.name);
                rabbit.user(&vhost, &customer.login(), SECRET, ["^$", &write, "^$"]);
            }
        }
        let (path, text) = installation(&self.vhost, self.queues, self.smtp.address());
        let queues = if self.queues == Queues::Quorum { "quorum" } else { "classic" };
        let more = format!("\nregion \"{name}\" {{\n  vhost  = \"{vhost}\"\n  queues = \"{queues}\"\n}}\n");
        self.schema.write(&(path, text + &more));
        self.schema.push();
        vhost
    }

    /// An address, with its vhost replaced.
    #[must_use]
    pub fn in_vhost(address: Address, vhost: &str) -> Address {
        Address { vhost: vhost.to_owned(), ..address }
    }

    /// Where the broker serves AMQP.
    #[must_use]
    pub fn amqp(&self) -> SocketAddr {
        if let Some(entrance) = &self.entrance {
            return entrance.address();
        }
        match &self.broker {
            Broker::Embedded { tls: Some((address, _)), .. } if self.over_tls => *address,
            Broker::Embedded { address, .. } => *address,
            Broker::Shared(rabbit) if self.over_tls => rabbit.amqps(),
            Broker::Shared(rabbit) => rabbit.amqp(),
            Broker::Own(rabbit) if self.over_tls => rabbit.amqps(),
            Broker::Own(rabbit) => rabbit.amqp(),
        }
    }

    /// The same as a URL without login and vhost.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.amqp())
    }

    fn scheme(&self) -> &'static str {
        if self.over_tls { "amqps" } else { "amqp" }
    }

    /// The vhost of the region.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// The vhost in which the roles talk to each other: the same on RabbitMQ, one of its own on the embedded broker.
    #[must_use]
    pub fn control_vhost(&self) -> &str {
        match self.broker {
            Broker::Embedded { .. } => names::CONTROL_VHOST,
            _ => &self.vhost,
        }
    }

    /// A folder for whatever the story writes.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Address of a customer's key.
    #[must_use]
    pub fn customer_address(&self, customer: &Customer) -> Address {
        self.address(&customer.login(), SECRET, &self.vhost)
    }

    /// Address with all rights in the region's vhost.
    #[must_use]
    pub fn region_address(&self) -> Address {
        self.address(OWN_LOGIN, &self.own_password(), &self.vhost)
    }

    /// Address with all rights in the control vhost.
    #[must_use]
    pub fn control_address(&self) -> Address {
        self.address(OWN_LOGIN, &self.own_password(), self.control_vhost())
    }

    fn own_password(&self) -> String {
        std::fs::read_to_string(&self.own_password_file).expect("the password").trim().to_owned()
    }

    fn address(&self, login: &str, password: &str, vhost: &str) -> Address {
        let mut address = Address::from_url(&self.url()).expect("an address");
        address.ca_file = self.over_tls.then(|| self.authority().file());
        login.clone_into(&mut address.login);
        vhost.clone_into(&mut address.vhost);
        address.password = Secret::new(password);
        address.named("story")
    }

    /// Words that tell a role where the broker is.
    #[must_use]
    pub fn broker_words(&self) -> Vec<String> {
        self.broker_words_at(self.amqp())
    }

    fn broker_words_at(&self, broker: SocketAddr) -> Vec<String> {
        let mut words = vec![
            "--amqp".into(),
            format!("{}://{OWN_LOGIN}@{broker}/{}", self.scheme(), self.control_vhost()),
            "--password-file".into(),
            text(&self.own_password_file),
        ];
        words.extend(self.trust_words());
        words
    }

    /// Starts a role that follows the schema. A later start of the same `node` finds what the first left on disk.
    #[must_use]
    pub fn role(&self, role: &str, node: &str, more: &[&str]) -> Node {
        self.role_at(self.amqp(), role, node, more)
    }

    /// The same with another way to the broker, a [`Proxy`] for one.
    #[must_use]
    pub fn role_at(&self, broker: SocketAddr, role: &str, node: &str, more: &[&str]) -> Node {
        let launch = self.launch(broker, &self.schema.remote(), role, node, node).args(more.iter().copied());
        Node::start(launch, node, self.dir.path())
    }

    /// The same, following another repository.
    #[must_use]
    pub fn role_following(&self, remote: &str, role: &str, node: &str) -> Node {
        Node::start(self.launch(self.amqp(), remote, role, node, node), node, self.dir.path())
    }

    /// One more process of a node that runs already, with a data directory of its own.
    #[must_use]
    pub fn twin(&self, role: &str, node: &str, data_dir: &str) -> Node {
        let launch = self.launch(self.amqp(), &self.schema.remote(), role, node, data_dir);
        Node::start(launch, data_dir, self.dir.path())
    }

    fn launch(&self, broker: SocketAddr, remote: &str, role: &str, node: &str, data_dir: &str) -> Launch {
        let launch = Launch::new(kinetic())
            .env(LOGS_VARIABLE, self.logs)
            .args([role])
            .args(self.broker_words_at(broker))
            .args(["--schema", remote, "--fetch-interval", "1", "--node", node])
            .args(["--data-dir", &text(&self.dir.path().join(data_dir))]);
        match self.queues {
            Queues::Classic => launch,
            Queues::Quorum => launch.args(["--quorum"]),
        }
    }

    /// A redirector with short leases, ready to answer.
    #[must_use]
    pub fn redirector(&self) -> Node {
        self.redirector_with("redirector", SHORT_LEASE)
    }

    /// A redirector by name, with leases of a length and a grace in milliseconds, ready to answer.
    #[must_use]
    pub fn redirector_with(&self, name: &str, lease: [u64; 2]) -> Node {
        self.redirector_at(self.amqp(), name, lease)
    }

    /// The same with another way to the broker, a [`Proxy`] for one.
    #[must_use]
    pub fn redirector_at(&self, broker: SocketAddr, name: &str, [ttl, grace]: [u64; 2]) -> Node {
        let (ttl, grace) = (ttl.to_string(), grace.to_string());
        let words = ["--lease-ttl", &ttl, "--lease-grace", &grace];
        let node = self.role_at(broker, "redirector", name, &words);
        node.wait_healthy();
        eventually("the customers' queues are declared", || {
            let declared = crate::amqp::queue_depth(&self.region_address(), names::DEAD_QUEUE).is_some();
            if declared { Ok(()) } else { Err("not yet") }
        });
        node
    }

    /// An analyzer that has registered.
    #[must_use]
    pub fn analyzer(&self, name: &str) -> Node {
        let node = self.role("analyzer", name, &[]);
        node.wait_healthy();
        node
    }

    /// An alert node that is subscribed.
    #[must_use]
    pub fn alert(&self) -> Node {
        let node = self.role("alert", "alert", &[]);
        node.wait_healthy();
        node
    }

    /// The same where the system's root certificates are these.
    #[must_use]
    pub fn alert_with_roots(&self, roots: &Path) -> Node {
        let launch = self.launch(self.amqp(), &self.schema.remote(), "alert", "alert", "alert");
        let node = Node::start(launch.env("SSL_CERT_FILE", text(roots)), "alert", self.dir.path());
        node.wait_healthy();
        node
    }

    /// Redirector, alert node and one analyzer.
    #[must_use]
    pub fn engine(&self) -> Engine {
        let redirector = self.redirector();
        Engine { alert: self.alert(), analyzer: self.analyzer("analyzer"), redirector }
    }

    /// What `kinetic locate` says to a customer.
    #[must_use]
    pub fn locate(&self, customer: &Customer) -> std::process::Output {
        self.locate_with(customer, &[])
    }

    /// What `kinetic locate` says to a customer that asks for more than its address.
    #[must_use]
    pub fn locate_with(&self, customer: &Customer, more: &[&str]) -> std::process::Output {
        let broker = format!("{}://{}@{}/{}", self.scheme(), customer.login(), self.amqp(), self.vhost);
        Launch::new(kinetic())
            .args(["locate", "--amqp", &broker, "--password-file", &text(&self.key_file)])
            .args(self.trust_words())
            .args(more.iter().copied())
            .output()
    }

    /// A customer's agent that listens on a free UDP port.
    #[must_use]
    pub fn agent(&self, customer: &Customer, name: &str, more: &[&str]) -> Agent {
        let broker = format!("{}://{}@{}/{}", self.scheme(), customer.login(), self.amqp(), self.vhost);
        let launch = Launch::new(kinetic())
            .env(LOGS_VARIABLE, self.logs)
            .args(["agent", "--amqp", &broker, "--password-file", &text(&self.key_file)])
            .args(more.iter().copied());
        self.started(launch, name)
    }

    fn started(&self, launch: Launch, name: &str) -> Agent {
        let launch = launch.args(self.trust_words()).args(["--statsd", "127.0.0.1:0", "--body-age", "50"]);
        let node = Node::start(launch, name, self.dir.path());
        let udp = node.logged("listening for statsd", "udp");
        Agent { node, udp }
    }

    /// A file that only its owner may read.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn secret_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        write_secret(&path, text);
        path
    }

    /// The file that holds the secret of every key.
    #[must_use]
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }
}

fn embedded(dir: &Path, schema: &SchemaRepo, logs: &str, with_tls: bool) -> Broker {
    let authority = with_tls.then(|| Authority::init(&dir.join("ca")));
    let words = authority.as_ref().map_or_else(Vec::new, |authority| {
        let own = authority.issue_server(&dir.join("tls"));
        let files = [text(&own.cert), text(&own.key), text(&authority.file())];
        let flags = ["--tls-certificate", "--tls-key", "--tls-client-ca"];
        let files = flags.into_iter().zip(files).flat_map(|(flag, file)| [flag.to_owned(), file]);
        ["--listen-tls".to_owned(), "127.0.0.1:0".to_owned()].into_iter().chain(files).collect()
    });
    let launch = Launch::new(kinetic())
        .env(LOGS_VARIABLE, logs)
        .args(["broker", "--listen", "127.0.0.1:0", "--schema", &schema.remote(), "--fetch-interval", "1"])
        .args(["--data-dir", &text(&dir.join("broker"))])
        .args(words);
    let node = Node::start(launch, "broker", dir);
    let address = node.logged("broker listening", "address");
    let tls = authority.map(|authority| (node.logged("broker listening", "tls"), authority));
    node.wait_healthy();
    Broker::Embedded { address, tls, _owner: Box::new(node) }
}

fn write_secret(path: &Path, secret: &str) {
    let mut file = std::fs::File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .expect("open");
    std::io::Write::write_all(&mut file, secret.as_bytes()).expect("write");
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The three roles of an ordinary installation.
#[derive(Debug)]
pub struct Engine {
    /// The analyzer.
    pub analyzer: Node,
    /// The alert node.
    pub alert: Node,
    /// The redirector.
    pub redirector: Node,
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// The process.
    pub node: Node,
    /// Where it listens for statsd.
    pub udp: SocketAddr,
}
