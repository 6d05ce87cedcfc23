//! Child processes: each has an owner that ends it, by its own process id, when it is dropped or when the test process
//! dies in whatever way.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use crate::eventually;

/// Lines of a failed test's process that are shown.
const LOG_LINES_SHOWN: usize = 40;

/// A program with its words and environment, not started yet.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Launch {
    /// A program by name or path.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new() }
    }

    /// More words.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// One more variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// The same, unless it is there already.
    #[must_use]
    pub fn env_default(self, name: &str, value: &str) -> Self {
        let is_there = self.env.iter().any(|(known, _)| known == name);
        if is_there { self } else { self.env(name, value) }
    }

    fn command(&self) -> Command {
        // The kernel ends the child when the thread that started it ends: whatever happens to the tests, nothing is
        // left behind. `setpriv` (util-linux) becomes the program, so that the process id is the program's.
        let mut command = match setpriv() {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Starts it; both of its outputs go to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(self, name: &str, log: &Path) -> Process {
        let file = File::options().create(true).append(true).open(log).expect("open the log");
        let log_from = file.metadata().expect("length of the log").len();
        let mut command = self.command();
        command.stdout(file.try_clone().expect("clone the log")).stderr(file);
        let child = spawn(command).unwrap_or_else(|error| panic!("cannot start {name} ({self:?}): {error}"));
        Process { name: name.to_owned(), child, log: log.to_owned(), log_from, ended: None }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn output(self) -> Output {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = spawn(command).unwrap_or_else(|error| panic!("cannot start {self:?}: {error}"));
        child.wait_with_output().expect("wait for a child")
    }
}

/// Runs to the end, which must be a success; returns standard output.
///
/// # Panics
/// If it fails, with what it printed.
pub fn run(launch: Launch) -> String {
    let shown = format!("{launch:?}");
    let output = launch.output();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{shown}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn setpriv() -> Option<&'static Path> {
    let path = Path::new("/usr/bin/setpriv");
    path.exists().then_some(path)
}

type Started = std::io::Result<Child>;

/// Starts a child from a thread that lives as long as the process: "the parent died" is told per thread, and tests run
/// in threads of their own.
fn spawn(command: Command) -> Started {
    static SPAWNER: OnceLock<SyncSender<(Command, SyncSender<Started>)>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, received) = sync_channel::<(Command, SyncSender<Started>)>(16);
        std::thread::spawn(move || {
            for (mut command, reply) in received {
                reply.send(command.spawn()).expect("whoever ordered waits");
            }
        });
        orders
    });
    let (reply, started) = sync_channel(1);
    spawner.send((command, reply)).expect("the spawner lives");
    started.recv().expect("the spawner answers")
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// What an earlier start wrote into the same file ends here.
    log_from: u64,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.log_from).expect("a log fits into memory").min(bytes.len());
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("wait for a child");
        }
        self.ended
    }

    /// SIGKILL, and waits for the end; returns the moment of the signal.
    pub fn kill(&mut self) -> Instant {
        let at = Instant::now();
        if self.ended().is_none() {
            self.child.kill().expect("kill a child");
            self.ended = Some(self.child.wait().expect("wait for a child"));
        }
        at
    }

    /// Sends a signal by its name (`TERM`, `STOP`); returns the moment before.
    ///
    /// # Panics
    /// If the process has ended already.
    pub fn signal(&mut self, signal: &str) -> Instant {
        let at = Instant::now();
        assert!(self.ended().is_none(), "{} has ended: {}", self.name, self.log());
        let kill = Launch::new("/bin/sh").args(["-c".to_owned(), format!("kill -s {signal} {}", self.id())]);
        run(kill);
        at
    }

    /// SIGTERM, and the status with which it ends.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        eventually(&format!("{} ends after SIGTERM", self.name), || self.ended().ok_or("still running"))
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "libtest shows it with the test that failed")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            eprintln!("--- {} (pid {}), last lines:\n{shown}\n---", self.name, self.id());
        }
    }
}

/// The built binary.
///
/// # Panics
/// If it has not been built.
#[must_use]
pub fn kinetic() -> PathBuf {
    // Test binaries stand in `target/<profile>/deps`.
    let own = std::env::current_exe().expect("know the own path");
    let profile = own.ancestors().nth(2).expect("target folder");
    let binary = profile.join("kinetic");
    assert!(
        binary.exists(),
        "the kinetic binary is not at {}: `cargo build --workspace --bins` makes it; `cargo xtask test` does both",
        binary.display()
    );
    binary
}

/// A loopback TCP port that was free a moment ago, for programs that cannot choose one themselves.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_tcp_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").port()
}

/// The same for UDP.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_is_gone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let process = Launch::new("/bin/sh")
            .args(["-c", "echo up; exec sleep 1000"])
            .start("sleep", &dir.path().join("log"));
        eventually("it prints", || if process.log().contains("up") { Ok(()) } else { Err(process.log()) });
        let proc = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(proc.exists());
        drop(process);
        assert!(!proc.exists());
    }

    #[test]
    fn a_signal_arrives() {
        let dir = tempfile::tempdir().expect("tempdir");
        let script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done";
        let mut process = Launch::new("/bin/sh").args(["-c", script]).start("trap", &dir.path().join("log"));
        eventually("it prints", || if process.log().contains("up") { Ok(()) } else { Err(process.log()) });
        assert_eq!(process.terminate().code(), Some(7));
    }
}
