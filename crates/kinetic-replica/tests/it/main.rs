//! Replicas of real repositories, made and broken with the git program.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::disallowed_methods, reason = "the test owns its files and the git programs it runs")]

mod broken;
mod follow;
mod hook;
mod remote;

use std::path::{Path, PathBuf};
use std::process::Command;

use kinetic_replica::{Candidate, Replica, ReplicaConfig};
use tempfile::TempDir;

/// A bare repository with a working clone of it, and a place for replicas.
pub(crate) struct World {
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self { dir: TempDir::new().unwrap() };
        git(world.dir.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "remote.git"]);
        git(world.dir.path(), &["clone", "--quiet", "remote.git", "work"]);
        git(&world.work(), &["checkout", "--quiet", "-B", "main"]);
        world
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(crate) fn remote(&self) -> PathBuf {
        self.dir.path().join("remote.git")
    }

    pub(crate) fn config(&self) -> ReplicaConfig {
        ReplicaConfig::new(self.remote().display().to_string(), self.dir.path().join("replica"))
    }

    pub(crate) fn replica(&self) -> Replica {
        Replica::open(self.config()).unwrap()
    }

    /// Writes a file, commits, pushes; answers the commit.
    pub(crate) fn push(&self, name: &str, content: &str) -> String {
        let path = self.work().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self.push_all(&format!("change {name}"))
    }

    pub(crate) fn push_all(&self, subject: &str) -> String {
        git(&self.work(), &["add", "--all"]);
        git(&self.work(), &["commit", "--quiet", "--allow-empty", "-m", subject]);
        git(&self.work(), &["push", "--quiet", "--force", "origin", "main"]);
        git(&self.work(), &["rev-parse", "HEAD"])
    }
}

/// Runs git, which must succeed; answers what it printed.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let (ok, printed, said) = try_git(dir, args);
    assert!(ok, "git {args:?}: {said}");
    printed
}

pub(crate) fn try_git(dir: &Path, args: &[&str]) -> (bool, String, String) {
    let output = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=Ops", "-c", "user.email=ops@acme.example", "-c", "gc.auto=0"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// Fetches what must be there, and accepts it.
pub(crate) fn take(replica: &mut Replica) -> Candidate {
    let candidate = replica.fetch().unwrap().expect("something new");
    replica.accept(&candidate.revision).unwrap();
    candidate
}

/// The loose object file of `revision:path`.
pub(crate) fn object_file(repo: &Path, spec: &str) -> PathBuf {
    let id = git(repo, &["rev-parse", spec]);
    let (fan, rest) = id.split_at(2);
    repo.join("objects").join(fan).join(rest)
}
