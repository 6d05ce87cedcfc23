//! A private RabbitMQ node in a temporary directory, on free loopback ports, that ends with this process.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kinetic_amqp::{Address, Topology, declare};
use tempfile::TempDir;

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Starts the port mapper and the node, says the node's pid, and ends both when its standard input closes, which happens
/// with this process however it ends.
const WATCH: &str = r#"
epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" </dev/null >/dev/null 2>&1 & e=$!
"$0" </dev/null >"$RABBITMQ_LOG_BASE/out" 2>&1 & s=$!
echo $s
read -r _
kill -9 $s $e 2>/dev/null
wait
"#;

/// The node.
pub(crate) struct Rabbit {
    dir: TempDir,
    port: u16,
    dist_port: u16,
    epmd_port: u16,
    running: Option<(Child, String)>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Rabbit {
    #[expect(clippy::print_stderr, reason = "a skipped story must be seen")]
    /// A node that is not started yet; `None`, said loudly, where RabbitMQ is not installed.
    pub(crate) fn prepare() -> Option<Self> {
        if !Path::new(SERVER).exists() {
            eprintln!("SKIPPED: no RabbitMQ at {SERVER}; install rabbitmq-server to run this story");
            return None;
        }
        let dir = TempDir::new().unwrap();
        for part in ["mnesia", "log", "gen", "schema"] {
            std::fs::create_dir(dir.path().join(part)).unwrap();
        }
        Some(Self { dir, port: free_port(), dist_port: free_port(), epmd_port: free_port(), running: None })
    }

    /// A node that serves.
    pub(crate) async fn started() -> Option<Self> {
        let mut node = Self::prepare()?;
        node.start().await;
        Some(node)
    }

    pub(crate) fn address(&self) -> Address {
        Address::from_url(&format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)).unwrap().named("test")
    }

    #[expect(clippy::disallowed_methods, reason = "the test owns the node and its files")]
    pub(crate) async fn start(&mut self) {
        let dir = self.dir.path();
        let file = |name: &str| dir.join(name);
        std::fs::write(file("enabled_plugins"), "[rabbitmq_consistent_hash_exchange].\n").unwrap();
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nlog.console = true\nlog.file = false\ndisk_free_limit.absolute = 8MB\n",
            self.port
        );
        std::fs::write(file("rabbitmq.conf"), config).unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", WATCH, SERVER])
            .env("HOME", dir)
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config"))
            .env("RABBITMQ_NODENAME", "kin@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", file("mnesia"))
            .env("RABBITMQ_LOG_BASE", file("log"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", file("gen"))
            .env("RABBITMQ_SCHEMA_DIR", file("schema"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins"))
            .env("RABBITMQ_PID_FILE", file("pid"))
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            .env("LANG", "C.UTF-8")
            .env("detached", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        self.running = Some((child, pid.trim().to_owned()));
        for _ in 0..600 {
            if declare(&self.address(), &Topology::default()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let out = std::fs::read_to_string(file("log/out")).unwrap_or_default();
        panic!("RabbitMQ did not come up:\n{out}");
    }

    /// SIGKILL, and nothing else: what it had not written is gone.
    #[expect(clippy::disallowed_methods, reason = "the test owns the node")]
    pub(crate) fn kill(&mut self) {
        if let Some((mut child, pid)) = self.running.take() {
            Command::new("kill").args(["-9", &pid]).status().unwrap();
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill();
    }
}
