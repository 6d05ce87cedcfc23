//! A private RabbitMQ node in a temporary directory, ended with its owner.

use super::World;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

const DEFINITIONS: &str = r#"{
 "vhosts": [{"name": "/"}, {"name": "empty"}],
 "users": [
  {"name": "admin", "password": "admin-secret", "tags": ""},
  {"name": "customer", "password": "customer-secret", "tags": ""},
  {"name": "server", "password": "server-secret", "tags": ""}],
 "permissions": [
  {"user": "admin", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
  {"user": "customer", "vhost": "/", "configure": "^$", "write": "^(in\\.acme|kin\\.rpc)$", "read": "^$"},
  {"user": "server", "vhost": "/", "configure": "^srv\\.", "write": "^(amq\\.default$|srv\\.)", "read": "^srv\\."}],
 "queues": [], "exchanges": [], "bindings": []
}"#;

/// A running node.
pub(crate) struct Rabbit {
    server: Child,
    /// How to reach it.
    pub(crate) world: World,
    epmd: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        // SIGKILL to the node itself: with `detached` the script became the server.
        let _gone = self.server.kill().and_then(|()| self.server.wait()).is_ok();
        let _gone = self.epmd.kill().and_then(|()| self.epmd.wait()).is_ok();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// Starts a node and waits until it serves.
#[expect(clippy::disallowed_methods, reason = "a child process with an owner and a deadline")]
pub(crate) async fn start() -> Rabbit {
    assert!(Path::new(SERVER).exists(), "RabbitMQ is not installed");
    let directory = tempfile::tempdir().expect("a directory");
    let root = &directory.path().to_owned();
    let (port, dist, epmd) = (free_port(), free_port(), free_port());
    for name in ["mnesia", "log", "gen", "schema"] {
        std::fs::create_dir(root.join(name)).expect("a directory");
    }
    let write = |name: &str, text: &str| std::fs::write(root.join(name), text).expect("a file");
    write("enabled_plugins", "[rabbitmq_consistent_hash_exchange].");
    write("definitions.json", DEFINITIONS);
    write(
        "rabbitmq.conf",
        &format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.file = false\ndisk_free_limit.absolute = 64MB\n\
             load_definitions = {}\n",
            root.join("definitions.json").display()
        ),
    );
    let path = |name: &str| root.join(name).into_os_string();
    // Started here, in the foreground: Erlang would leave it behind as a daemon that nobody owns.
    let epmd_child = Command::new("epmd")
        .args(["-address", "127.0.0.1", "-port", &epmd.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("epmd starts");
    let log = std::fs::File::create(root.join("console.log")).expect("a file");
    let server = Command::new(SERVER)
        .env("HOME", root)
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config"))
        .env("RABBITMQ_NODENAME", format!("kin{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", dist.to_string())
        .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
        .env("RABBITMQ_LOG_BASE", path("log"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", path("gen"))
        .env("RABBITMQ_SCHEMA_DIR", path("schema"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
        .env("RABBITMQ_PID_FILE", path("pid"))
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", epmd.to_string())
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        .env("LANG", "C.UTF-8")
        .env("detached", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a handle"))
        .stderr(log)
        .spawn()
        .expect("rabbitmq-server starts");
    let world = World { address: ([127, 0, 0, 1], port).into(), handle: None };
    let rabbit = Rabbit { server, world, epmd: epmd_child, _directory: directory };
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if tokio::time::timeout(Duration::from_secs(2), answers(rabbit.world.address)).await == Ok(true) {
            return rabbit;
        }
    }
    panic!("RabbitMQ did not start; see {}", root.join("console.log").display());
}

/// Whether something at the address speaks AMQP.
async fn answers(address: std::net::SocketAddr) -> bool {
    let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { return false };
    let mut first = [0];
    stream.write_all(b"AMQP\0\0\x09\x01").await.is_ok() && stream.read_exact(&mut first).await.is_ok()
}
