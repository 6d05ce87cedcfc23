//! Private RabbitMQ nodes on free loopback ports, away from any that the system runs. One node serves all stories of a
//! run, each in a vhost of its own; a story that breaks its broker has a node to itself.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

use crate::http;
use crate::poll::{START_PATIENCE, eventually_within};
use crate::process::{Launch, Process, free_tcp_port};

/// Debian's server script; the one in `sbin` refuses ordinary users.
pub const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Begins the name of a node's folder; the process id of its owner follows.
const PREFIX: &str = "kinetic-rabbit-";

const ADMIN: (&str, &str) = ("harness", "harness-of-the-stories");

/// A node.
#[derive(Debug)]
pub struct Rabbit {
    server: Option<Process>,
    epmd: Process,
    ports: Ports,
    vhosts: Mutex<u32>,
    dir: TempDir,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    amqp: u16,
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
        sweep();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("tempdir");
        let ports = Ports {
            amqp: free_tcp_port(),
            management: free_tcp_port(),
            distribution: free_tcp_port(),
            epmd: free_tcp_port(),
        };
        for folder in ["mnesia", "log", "gen", "schema"] {
            std::fs::create_dir(dir.path().join(folder)).expect("make a folder");
        }
        let plugins = "[rabbitmq_management, rabbitmq_consistent_hash_exchange].\n";
        std::fs::write(dir.path().join("enabled_plugins"), plugins).expect("write");
        std::fs::write(dir.path().join("rabbitmq.conf"), config(ports)).expect("write");
        // Started here and not by Erlang, which would leave it behind as a daemon that nobody owns.
        let epmd = Launch::new("epmd")
            .args(["-port".to_owned(), ports.epmd.to_string(), "-address".to_owned(), "127.0.0.1".to_owned()])
            .start("epmd", &dir.path().join("epmd.log"));
        let mut node = Self { server: None, epmd, ports, vhosts: Mutex::new(0), dir };
        node.start_server();
        node
    }

    fn start_server(&mut self) {
        let server =
            launch(self.dir.path(), self.ports).start("rabbitmq", &self.dir.path().join("server.log"));
        self.server = Some(server);
        eventually_within(START_PATIENCE, "RabbitMQ serves its management API", || {
            let server = self.server.as_mut().expect("just started");
            assert!(
                server.ended().is_none() && self.epmd.ended().is_none(),
                "RabbitMQ ended: {}",
                server.log()
            );
            match self.api(
                "GET",
                "/api/health/checks/port-listener/".to_owned() + &self.ports.amqp.to_string(),
                "",
            ) {
                Ok(200) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// SIGKILL: what was not on disk is gone.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Starts the killed node again, with what it has on disk.
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "kill it first");
        self.start_server();
    }

    /// Where it serves AMQP.
    #[must_use]
    pub fn amqp(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.amqp).into()
    }

    /// Makes a vhost; its name has `name` in it.
    ///
    /// # Panics
    /// If the node refuses.
    #[must_use]
    pub fn vhost(&self, name: &str) -> String {
        let number = {
            let mut vhosts = self.vhosts.lock().unwrap_or_else(PoisonError::into_inner);
            *vhosts += 1;
            *vhosts
        };
        let vhost = format!("{name}-{number}");
        self.put(&format!("/api/vhosts/{vhost}"), "{}");
        vhost
    }

    /// Makes a login, or changes its password, and gives it rights (regular expressions) in a vhost.
    ///
    /// # Panics
    /// If the node refuses.
    pub fn user(&self, vhost: &str, login: &str, password: &str, [configure, write, read]: [&str; 3]) {
        let user = serde_json::json!({"password": password, "tags": ""});
        self.put(&format!("/api/users/{login}"), &user.to_string());
        let rights = serde_json::json!({"configure": configure, "write": write, "read": read});
        self.put(&format!("/api/permissions/{vhost}/{login}"), &rights.to_string());
    }

    fn put(&self, path: &str, body: &str) {
        let status = self.api("PUT", path.to_owned(), body).expect("RabbitMQ answers");
        assert!((200..300).contains(&status), "PUT {path}: {status}");
    }

    fn api(&self, method: &str, path: String, body: &str) -> std::io::Result<u16> {
        let server = SocketAddr::from(([127, 0, 0, 1], self.ports.management));
        http::request(server, method, &path, Some(ADMIN), body).map(|response| response.status)
    }
}

/// Removes the folders of nodes whose test process is gone: nothing drops the shared node, it ends with the process.
fn sweep() {
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            // Another test process may be sweeping as well.
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn config(ports: Ports) -> String {
    let (name, password) = ADMIN;
    format!(
        "listeners.tcp.1 = 127.0.0.1:{}\n\
         management.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {}\n\
         default_user = {name}\n\
         default_pass = {password}\n\
         log.console = true\n\
         log.file = false\n\
         disk_free_limit.absolute = 64MB\n",
        ports.amqp, ports.management
    )
}

fn launch(dir: &Path, ports: Ports) -> Launch {
    let inside = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let config_file = inside("rabbitmq.conf");
    Launch::new(SERVER)
        // The script becomes the server, so that the child's process id is the server's.
        .env("detached", "1")
        .env("HOME", inside(""))
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_CONFIG_FILE", config_file)
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", inside("advanced.config"))
        .env("RABBITMQ_NODENAME", "stories@localhost")
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
            // One scheduler and no busy waiting: the stories' processes share two cores with it.
            "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
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
}
