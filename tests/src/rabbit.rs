//! Private RabbitMQ nodes on free loopback ports, away from any that the system runs. One node serves all stories of a
//! run, each in a vhost of its own; a story that breaks its broker has a node, or a cluster of them, to itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

use crate::certs::{Authority, Issued};
use crate::http;
use crate::poll::{START_PATIENCE, eventually, eventually_within};
use crate::process::{Launch, Process, free_tcp_port, run};

/// Debian's server script; the one in `sbin` refuses ordinary users.
pub const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// What changes a running node.
const CTL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// Begins the name of a node's folder; the process id of its owner follows.
const PREFIX: &str = "kinetic-rabbit-";

const ADMIN: (&str, &str) = ("harness", "harness-of-the-stories");

/// A node, or a cluster of several, with an epmd and an Erlang cookie of its own.
#[derive(Debug)]
pub struct Rabbit {
    members: Vec<Member>,
    epmd: Process,
    vhosts: Mutex<u32>,
    authority: Authority,
    certificate: Issued,
    _dir: TempDir,
}

/// One node of it.
#[derive(Debug)]
struct Member {
    name: String,
    server: Option<Process>,
    ports: Ports,
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    amqp: u16,
    amqps: u16,
    management: u16,
    distribution: u16,
    epmd: u16,
}

impl Rabbit {
    /// The node that all stories share, started by the first that asks.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Rabbit> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A new node, ready to serve.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::cluster(1)
    }

    /// A new cluster, all of whose nodes are ready to serve. A minority of its nodes pauses.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn cluster(size: usize) -> Self {
        sweep(PREFIX);
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("tempdir");
        let epmd_port = free_tcp_port();
        // Started here and not by Erlang, which would leave it behind as a daemon that nobody owns.
        let epmd = Launch::new("epmd")
            .args(["-port".to_owned(), epmd_port.to_string(), "-address".to_owned(), "127.0.0.1".to_owned()])
            .start("epmd", &dir.path().join("epmd.log"));
        let names: Vec<String> = (0..size).map(|index| format!("stories-{index}@localhost")).collect();
        let authority = Authority::init(&dir.path().join("ca"));
        let certificate = authority.issue_server(&dir.path().join("tls"));
        let tls = tls_config(&authority, &certificate);
        let prepare = |name: &String| Member::prepare(name, &names, epmd_port, dir.path(), &tls);
        let members = names.iter().map(prepare).collect();
        let mut rabbit = Self { members, epmd, vhosts: Mutex::new(0), authority, certificate, _dir: dir };
        // The first forms the cluster, the others join it: all at once they would wait for each other's lock.
        rabbit.boot(&[0]);
        rabbit.boot(&(1..size).collect::<Vec<_>>());
        rabbit
    }

    /// Starts nodes side by side and waits until all serve.
    fn boot(&mut self, indices: &[usize]) {
        for index in indices {
            self.members[*index].launch();
        }
        for index in indices {
            eventually_within(START_PATIENCE, "RabbitMQ serves its management API", || {
                let ended = self.epmd.ended();
                assert!(ended.is_none(), "epmd ended: {}", self.epmd.log());
                self.members[*index].serves()
            });
        }
    }

    /// SIGKILL to the only node, or the first: what was not on disk is gone.
    pub fn kill(&mut self) {
        self.kill_node(0);
    }

    /// Starts the killed node again, with what it has on disk.
    pub fn start_again(&mut self) {
        self.start_node(0);
    }

    /// SIGKILL to one node.
    pub fn kill_node(&mut self, index: usize) {
        self.members[index].server = None;
    }

    /// Starts a killed node again, with what it has on disk.
    ///
    /// # Panics
    /// If it was not killed, or does not come up.
    pub fn start_node(&mut self, index: usize) {
        assert!(self.members[index].server.is_none(), "kill it first");
        self.boot(&[index]);
    }

    /// SIGSTOP or SIGCONT (`STOP`, `CONT`) to one node: its sockets stay open and say nothing.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal_node(&mut self, index: usize, signal: &str) {
        self.members[index].server.as_mut().expect("the node runs").signal(signal);
    }

    /// Where it serves AMQP; the first node of a cluster.
    #[must_use]
    pub fn amqp(&self) -> SocketAddr {
        self.amqp_all()[0]
    }

    /// Where it serves AMQP over TLS; the first node of a cluster.
    #[must_use]
    pub fn amqps(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.members[0].ports.amqps).into()
    }

    /// Who signed its certificate, and whose client certificates are logins.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Its own certificate.
    #[must_use]
    pub fn certificate(&self) -> &Issued {
        &self.certificate
    }

    /// Where its nodes serve AMQP.
    #[must_use]
    pub fn amqp_all(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| ([127, 0, 0, 1], member.ports.amqp).into()).collect()
    }

    /// The node on which the leader of a quorum queue, or a classic queue, is.
    ///
    /// # Panics
    /// If nobody can say.
    #[must_use]
    pub fn node_of_queue(&self, vhost: &str, queue: &str) -> usize {
        let answer = self.ask(&format!("/api/queues/{vhost}/{queue}")).expect("RabbitMQ answers");
        let queue: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        let place = ["leader", "node"].into_iter().find_map(|field| queue[field].as_str());
        let name = place.unwrap_or_else(|| panic!("no node is named: {queue}"));
        self.members.iter().position(|member| member.name == name).expect("one of ours")
    }

    /// Makes a vhost; its name has `name` in it.
    ///
    /// # Panics
    /// If the node refuses.
    #[must_use]
    pub fn vhost(&self, name: &str) -> String {
        let vhost = self.vhost_name(name);
        self.put(&format!("/api/vhosts/{vhost}"), "{}");
        vhost
    }

    /// The name of a vhost that nobody has made yet.
    #[must_use]
    pub fn vhost_name(&self, name: &str) -> String {
        let number = {
            let mut vhosts = self.vhosts.lock().unwrap_or_else(PoisonError::into_inner);
            *vhosts += 1;
            *vhosts
        };
        format!("{name}-{number}")
    }

    /// Makes a login, or changes its password, and gives it rights (regular expressions) in a vhost.
    ///
    /// # Panics
    /// If the node refuses.
    pub fn user(&self, vhost: &str, login: &str, password: &str, rights: [&str; 3]) {
        // Customers' logins have a dot; Kinetic's own reconciles the broker.
        let tags = if login.contains('.') { "" } else { "administrator" };
        self.login(vhost, login, &serde_json::json!({"password": password, "tags": tags}), rights);
    }

    /// The same for a login without a password, for who shows a certificate with that common name.
    ///
    /// # Panics
    /// If the node refuses.
    pub fn certified(&self, vhost: &str, login: &str, rights: [&str; 3]) {
        self.login(vhost, login, &serde_json::json!({"password_hash": "", "tags": ""}), rights);
    }

    /// Takes a login away, and with it what it has open.
    ///
    /// # Panics
    /// If the node keeps it.
    pub fn expel(&self, login: &str) {
        let path = format!("/api/users/{login}");
        // It closes the login's connections before it answers, which takes it many seconds on a busy machine.
        self.running().api("DELETE", &path, "").ok();
        eventually(&format!("{login} is gone"), || match self.ask(&path) {
            Ok(answer) if answer.status == 404 => Ok(()),
            other => Err(other),
        });
    }

    fn login(&self, vhost: &str, login: &str, user: &serde_json::Value, [configure, write, read]: [&str; 3]) {
        self.put_login(login, user);
        let rights = serde_json::json!({"configure": configure, "write": write, "read": read});
        self.put(&format!("/api/permissions/{vhost}/{login}"), &rights.to_string());
    }

    fn put_login(&self, login: &str, user: &serde_json::Value) {
        // Two stories that make the same login at once would be told that it is there already.
        static ONE_BY_ONE: Mutex<()> = Mutex::new(());
        let _alone = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(&format!("/api/users/{login}"), &user.to_string());
    }

    /// Makes the login of Kinetic's own nodes, which may do nothing yet but use the management API.
    ///
    /// # Panics
    /// If the node refuses.
    pub fn own_login(&self, login: &str, password: &str) {
        self.put_login(login, &serde_json::json!({"password": password, "tags": "administrator"}));
    }

    /// Lets its operator work in a vhost that somebody else has made.
    ///
    /// # Panics
    /// If the node refuses.
    pub fn operate_in(&self, vhost: &str) {
        let all = serde_json::json!({"configure": ".*", "write": ".*", "read": ".*"});
        self.put(&format!("/api/permissions/{vhost}/{}", ADMIN.0), &all.to_string());
    }

    /// Asks the management API for something, as its operator.
    ///
    /// # Panics
    /// If nobody answers.
    #[must_use]
    pub fn api(&self, method: &str, path: &str, body: &str) -> http::Response {
        self.running().api(method, path, body).expect("RabbitMQ answers")
    }

    /// Accepts tokens that this key signs, from now on and until the node ends.
    ///
    /// # Panics
    /// If the node refuses.
    pub fn add_token_key(&self, kid: &str, public_pem: &Path) {
        self.ctl(&["add_uaa_key", kid, &format!("--pem-file={}", public_pem.display())]);
    }

    /// Accepts them no more.
    ///
    /// # Panics
    /// If the node refuses.
    pub fn remove_token_key(&self, kid: &str) {
        let without = format!(
            "{{ok, C}} = application:get_env(rabbitmq_auth_backend_oauth2, key_config), \
             K = maps:remove(<<\"{kid}\">>, proplists:get_value(signing_keys, C)), \
             application:set_env(rabbitmq_auth_backend_oauth2, key_config, \
             lists:keystore(signing_keys, 1, C, {{signing_keys, K}}))."
        );
        self.ctl(&["eval", &without]);
    }

    /// Takes a login away and ends its connections, as the reconciler does.
    ///
    /// # Panics
    /// If the node refuses.
    pub fn revoke(&self, login: &str) {
        let answer =
            self.running().api("DELETE", &format!("/api/users/{login}"), "").expect("RabbitMQ answers");
        assert!((200..300).contains(&answer.status), "{answer:?}");
        self.ctl(&["close_all_user_connections", login, "revoked"]);
    }

    fn ctl(&self, words: &[&str]) {
        // Keys of tokens are the installation's: one story at a time changes them.
        static ONE_BY_ONE: Mutex<()> = Mutex::new(());
        let _alone = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let member = self.running();
        run(environment(Launch::new(CTL), member).args(["-n", &member.name]).args(words.iter().copied()));
    }

    /// Where its management API is.
    #[must_use]
    pub fn management(&self) -> String {
        format!("http://127.0.0.1:{}", self.running().ports.management)
    }

    fn put(&self, path: &str, body: &str) {
        let answer = self.running().api("PUT", path, body).expect("RabbitMQ answers");
        assert!((200..300).contains(&answer.status), "PUT {path}: {answer:?}");
    }

    fn ask(&self, path: &str) -> std::io::Result<http::Response> {
        self.running().api("GET", path, "")
    }

    /// Any node that was not killed.
    fn running(&self) -> &Member {
        self.members.iter().find(|member| member.server.is_some()).expect("a node runs")
    }
}

impl Member {
    /// Makes a node's folder and settings.
    fn prepare(name: &str, names: &[String], epmd: u16, base: &Path, tls: &str) -> Self {
        let [amqp, amqps, management, distribution] = std::array::from_fn(|_| free_tcp_port());
        let ports = Ports { amqp, amqps, management, distribution, epmd };
        let dir = base.join(name.split('@').next().unwrap_or(name));
        for folder in ["mnesia", "log", "gen", "schema"] {
            std::fs::create_dir_all(dir.join(folder)).expect("make a folder");
        }
        std::fs::write(
            dir.join("enabled_plugins"),
            "[rabbitmq_management,rabbitmq_consistent_hash_exchange,rabbitmq_auth_mechanism_ssl,rabbitmq_auth_backend_oauth2].\n",
        )
        .expect("write");
        std::fs::write(dir.join("rabbitmq.conf"), config(ports, names) + tls).expect("write");
        Self { name: name.to_owned(), server: None, ports, dir }
    }

    fn launch(&mut self) {
        let server = launch(self).start("rabbitmq", &self.dir.join("server.log"));
        self.server = Some(server);
    }

    /// Whether it serves AMQP and has done all it does when it starts: a vhost that is made before that may never
    /// come to a node that is still joining.
    fn serves(&mut self) -> Result<(), String> {
        let server = self.server.as_mut().expect("just started");
        let log = server.log();
        assert!(server.ended().is_none(), "RabbitMQ ended: {log}");
        if !log.contains("Server startup complete") {
            return Err(log);
        }
        let path = format!("/api/health/checks/port-listener/{}", self.ports.amqp);
        match self.api("GET", &path, "") {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    fn api(&self, method: &str, path: &str, body: &str) -> std::io::Result<http::Response> {
        let server = SocketAddr::from(([127, 0, 0, 1], self.ports.management));
        http::request(server, method, path, Some(ADMIN), body)
    }
}

/// Removes the folders of servers whose test process is gone: nothing drops a shared one, it ends with the process. Their
/// names begin with a prefix, which the process id of their owner follows.
pub(crate) fn sweep(prefix: &str) {
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            // Another test process may be sweeping as well.
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn config(ports: Ports, names: &[String]) -> String {
    let (name, password) = ADMIN;
    let mut text = format!(
        "listeners.tcp.1 = 127.0.0.1:{}\n\
         listeners.ssl.1 = 127.0.0.1:{}\n\
         management.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {}\n\
         default_user = {name}\n\
         default_pass = {password}\n\
         auth_backends.1 = internal\n\
         auth_backends.2 = rabbit_auth_backend_oauth2\n\
         auth_oauth2.resource_server_id = kinetic\n\
         auth_oauth2.algorithms.1 = ES256\n\
         log.console = true\n\
         log.file = false\n\
         disk_free_limit.absolute = 64MB\n",
        ports.amqp, ports.amqps, ports.management
    );
    if names.len() > 1 {
        text.push_str("cluster_partition_handling = pause_minority\n");
        text.push_str("cluster_formation.peer_discovery_backend = classic_config\n");
        for (index, name) in names.iter().enumerate() {
            text.push_str(&format!("cluster_formation.classic_config.nodes.{} = {name}\n", index + 1));
        }
    }
    text
}

/// TLS as docs/operations/certificates.md sets it up.
fn tls_config(authority: &Authority, certificate: &Issued) -> String {
    format!(
        "ssl_options.cacertfile = {}\n\
         ssl_options.certfile = {}\n\
         ssl_options.keyfile = {}\n\
         ssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = false\n\
         ssl_options.versions.1 = tlsv1.3\n\
         ssl_options.versions.2 = tlsv1.2\n\
         auth_mechanisms.1 = PLAIN\n\
         auth_mechanisms.2 = EXTERNAL\n\
         ssl_cert_login_from = common_name\n",
        authority.file().display(),
        certificate.cert.display(),
        certificate.key.display(),
    )
}

fn launch(member: &Member) -> Launch {
    // The script becomes the server, so that the child's process id is the server's.
    environment(Launch::new(SERVER).env("detached", "1"), member)
}

/// What the server and its tools are told by their environment.
fn environment(launch: Launch, member: &Member) -> Launch {
    let ports = member.ports;
    let inside = |name: &str| member.dir.join(name).to_string_lossy().into_owned();
    let config_file = inside("rabbitmq.conf");
    launch
        .env("HOME", member.dir.parent().expect("the nodes' common folder").to_string_lossy())
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_CONFIG_FILE", config_file)
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", inside("advanced.config"))
        .env("RABBITMQ_NODENAME", &member.name)
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", ports.amqp.to_string())
        .env("RABBITMQ_DIST_PORT", ports.distribution.to_string())
        .env("RABBITMQ_MNESIA_BASE", inside("mnesia"))
        .env("RABBITMQ_LOG_BASE", inside("log"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", inside("gen"))
        .env("RABBITMQ_SCHEMA_DIR", inside("schema"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", inside("enabled_plugins"))
        .env("RABBITMQ_PID_FILE", inside("pid"))
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", ports.epmd.to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            // One scheduler and no busy waiting: the stories' processes share two cores with it. A peer that says
            // nothing is given up after 8 seconds instead of 60.
            "-kernel inet_dist_use_interface {127,0,0,1} -kernel net_ticktime 8 +S 1:1 +sbwt none",
        )
        .env("LANG", "C.UTF-8")
}

#[cfg(test)]
mod tests {
    use kinetic_amqp::{Address, Secret};

    use super::*;
    use crate::needs::{Need, all_here};

    #[test]
    fn a_node_serves_and_comes_back_after_a_kill() {
        if !all_here("rabbit::a_node_serves_and_comes_back_after_a_kill", &[Need::RabbitMq]) {
            return;
        }
        let mut node = Rabbit::start();
        let vhost = node.vhost("test");
        node.user(&vhost, "someone", "secret", [".*", ".*", ".*"]);
        let mut address = Address::from_url(&format!("amqp://someone@{}", node.amqp())).expect("address");
        address.vhost = vhost;
        address.password = Secret::new("secret");
        assert_eq!(crate::amqp::queue_depth(&address, "none"), None);
        node.kill();
        node.start_again();
        assert_eq!(crate::amqp::queue_depth(&address, "none"), None, "the login is still there");
    }

    #[test]
    fn a_cluster_outlives_one_of_its_nodes() {
        if !all_here("rabbit::a_cluster_outlives_one_of_its_nodes", &[Need::RabbitMq, Need::Patience]) {
            return;
        }
        let began = std::time::Instant::now();
        let mut cluster = Rabbit::cluster(3);
        crate::needs::say(&format!("a cluster of three boots in {:?}", began.elapsed()));
        let vhost = cluster.vhost("test");
        cluster.user(&vhost, "someone", "secret", [".*", ".*", ".*"]);
        let login = |node: SocketAddr| {
            let mut address = Address::from_url(&format!("amqp://someone@{node}")).expect("address");
            address.vhost.clone_from(&vhost);
            address.password = Secret::new("secret");
            crate::amqp::queue_depth(&address, "none")
        };
        for node in cluster.amqp_all() {
            assert_eq!(login(node), None, "every node knows the login");
        }
        cluster.kill_node(0);
        assert_eq!(login(cluster.amqp_all()[1]), None, "two of three are a majority");
        let began = std::time::Instant::now();
        cluster.start_node(0);
        crate::needs::say(&format!("a node of it comes back in {:?}", began.elapsed()));
        assert_eq!(login(cluster.amqp_all()[0]), None);
    }
}
