//! How an installation looks after itself: who is told when one of its nodes falls silent, and how it comes by more
//! analyzers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Who is told of nodes that fall silent, and after how long. Nodes say that they live on `kin.alive`, every two
/// seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// An analyzer that has said nothing for longer than this is silent.
    pub analyzer_silent_after: Duration,
    /// The same for a redirector.
    pub redirector_silent_after: Duration,
    /// RFC 5322 mailboxes, checked.
    pub to: Vec<String>,
    /// How long the first mail waits for further nodes to fall silent.
    pub group_wait: Duration,
    /// How long after a mail the next one about a change waits.
    pub group_interval: Duration,
    /// How long until nodes that are still silent are mailed again.
    pub repeat_interval: Duration,
    /// Whether the end of a silence is mailed.
    pub send_resolved: bool,
}

/// How the leading redirector starts analyzers when there are too few, and retires them when there are too many.
#[derive(Clone, Debug, PartialEq)]
pub struct Provisioner {
    /// What starts and stops them.
    pub kind: ProvisionerKind,
    /// So many analyzers there are at least.
    pub min: u32,
    /// So many there are at most; no less than `min`, and at least 1.
    pub max: u32,
    /// Another is started after sources have been without an owner, or load has been above `load_high`, for so long.
    pub scale_up_after: Duration,
    /// One is retired after the others could have carried the load below `load_low` for so long.
    pub idle_after: Duration,
    /// Between two decisions at least so much time passes.
    pub cool_down: Duration,
    /// Mean share of capacity in use above which another is wanted; above 0, at most 1.
    pub load_high: f64,
    /// Mean share of capacity in use below which one fewer would do; less than `load_high`.
    pub load_low: f64,
    /// Decisions are shown and not carried out.
    pub dry_run: bool,
}

/// What starts and stops analyzers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvisionerKind {
    /// Child processes of the redirector.
    Process(ProcessProvisioner),
    /// Containers of a Docker engine.
    Docker(DockerProvisioner),
    /// Commands of the installation's own.
    Exec(ExecProvisioner),
}

/// `provisioner "process"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessProvisioner {
    /// Absolute path below which each child has its data directory; the redirector's own where none is said.
    pub data_dir: Option<PathBuf>,
}

/// `provisioner "docker"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerProvisioner {
    /// Image reference, `name:tag` or `name@digest`.
    pub image: String,
    /// Path of the engine's Unix socket, without its `unix://`.
    pub socket: PathBuf,
    /// Docker network that containers join; the engine's default where none is said.
    pub network: Option<String>,
    /// Environment of the containers. Secrets do not stand in a repository, so none is here.
    pub env: BTreeMap<String, String>,
}

/// `provisioner "exec"`. Commands are run as they stand, without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecProvisioner {
    /// Program and arguments that start a node; `{node}` in an argument stands for its name, which is there at least
    /// once.
    pub start: Vec<String>,
    /// Program and arguments that stop it, likewise.
    pub stop: Vec<String>,
    /// A command that takes longer has failed.
    pub timeout: Duration,
}
