//! Private PostgreSQL servers on free loopback ports, away from any that the system runs, with a database for each story.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::poll::{START_PATIENCE, eventually_within};
use crate::process::{Launch, Process, free_tcp_port, run};
use crate::rabbit::sweep;

/// Where Debian keeps the programs, one folder a version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Who runs the server where the tests are run by root, whom it refuses: `nobody`.
const ORDINARY: u32 = 65_534;
/// Begins the name of a server's folder; the process id of its owner follows.
const PREFIX: &str = "kinetic-postgres-";
/// The login of the stories.
const LOGIN: &str = "kinetic";
/// How long the server may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A server of its own.
#[derive(Debug)]
pub struct Postgres {
    server: Process,
    port: u16,
    programs: PathBuf,
    databases: Mutex<u32>,
    dir: TempDir,
}

/// The programs of the newest version that is installed.
#[must_use]
pub fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).ok()?;
    let folders = versions.filter_map(Result::ok).map(|version| version.path().join("bin"));
    folders.filter(|folder| folder.join("initdb").exists()).max()
}

fn is_root(dir: &Path) -> bool {
    std::fs::metadata(dir).expect("a folder of ours").uid() == 0
}

/// A program as somebody whom the server does not refuse.
fn ordinary(dir: &Path, program: PathBuf) -> Launch {
    if !is_root(dir) {
        return Launch::new(program);
    }
    let id = ORDINARY.to_string();
    // The change of user would undo an earlier `--pdeathsig`.
    Launch::new("/usr/bin/setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--pdeathsig", "KILL", "--"])
        .args([program.to_string_lossy()])
}

impl Postgres {
    /// The server that all stories share, started by the first that asks.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A new server that takes connections.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn start() -> Self {
        let programs = programs().expect("PostgreSQL is installed: the story has asked");
        sweep(PREFIX);
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("tempdir");
        let password = dir.path().join("password");
        std::fs::write(&password, format!("{}\n", Self::PASSWORD)).expect("write the password");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        if is_root(dir.path()) {
            chown(dir.path(), Some(ORDINARY), Some(ORDINARY)).expect("chown");
        }
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (data, here) = (text(&dir.path().join("data")), text(dir.path()));
        let as_root = password.metadata().expect("metadata").uid() == 0;
        let launch = |program: &str| match as_root {
            true => ordinary(&password, programs.join(program)),
            false => Launch::new(programs.join(program)),
        };
        run(launch("initdb")
            .args(["-D", &data, "-U", LOGIN, "--auth=scram-sha-256", "--pwfile", &text(&password)])
            .args(["--no-sync", "--encoding=UTF8", "--no-locale"]));
        let port = free_tcp_port();
        let server = launch("postgres")
            .args(["-D", &data, "-h", "127.0.0.1", "-p", &port.to_string(), "-k", &here])
            // Alert nodes die here, not the server.
            .args(["-c", "fsync=off"])
            .start("postgres", &dir.path().join("postgres.log"));
        let postgres = Self { server, port, programs, databases: Mutex::new(0), dir };
        eventually_within(START_PATIENCE, "PostgreSQL takes connections", || {
            let answer = postgres.client("pg_isready", &[]).output();
            if answer.status.success() { Ok(()) } else { Err(postgres.server.log()) }
        });
        postgres
    }

    /// The password of the login.
    pub const PASSWORD: &'static str = "harness-of-the-stories";

    fn client(&self, program: &str, args: &[&str]) -> Launch {
        Launch::new(self.programs.join(program))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", LOGIN])
            .args(args.iter().copied())
            .env("PGPASSWORD", Self::PASSWORD)
    }

    /// Makes an empty database; returns its URL, without the password.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn database(&self) -> String {
        let name = {
            let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
            *databases += 1;
            format!("story_{databases}")
        };
        run(self.client("createdb", &[&name]));
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        format!("postgres://{LOGIN}@{address}/{name}")
    }

    /// Runs SQL as an operator would; returns the answer's lines.
    ///
    /// # Panics
    /// If it fails.
    pub fn sql(&self, url: &str, sql: &str) -> String {
        let name = url.rsplit('/').next().expect("an URL of ours");
        run(self.client("psql", &["-d", name, "-qAtc", sql])).trim().to_owned()
    }

    /// Writes the password into a file of a story, for `--history-password-file`.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn password_file(&self, dir: &Path) -> String {
        let path = dir.join("postgres-password");
        std::fs::write(&path, Self::PASSWORD).expect("write the password");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Postgres {
    /// Stops it at once, its children with it; whatever remains is ended by the process's own owner.
    fn drop(&mut self) {
        if self.server.ended().is_none() {
            self.server.signal("QUIT");
        }
        let started = std::time::Instant::now();
        while self.server.ended().is_none() && started.elapsed() < STOP_PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        // The folder goes after the server.
        let _dir = &self.dir;
    }
}
