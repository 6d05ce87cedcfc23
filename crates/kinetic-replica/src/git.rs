//! How a branch gets from a remote into our clone: by the `git` program. `docs/adr/0002-git-transports.md` says why.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use git2::{Oid, Reference, Repository};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::ReplicaError;

/// Where a fetch puts the remote's tip.
pub(crate) const FETCHED: &str = "refs/kinetic/fetched";
/// How often a running `git` is looked at.
const POLL: Duration = Duration::from_millis(20);
/// What is kept of what `git` says when it fails, in bytes from the end.
const SAID_MAX: u64 = 2_000;
/// The only protocols that `git` may speak for us; `ext::` would run any command.
const PROTOCOLS: [&str; 5] = ["https", "http", "ssh", "git", "file"];

/// A checked remote.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    /// As configured.
    url: String,
    /// For people: without a password.
    pub(crate) shown: String,
    branch: String,
    ssh_command: Option<String>,
    timeout: Duration,
}

impl Remote {
    pub(crate) fn check(
        url: &str,
        branch: &str,
        ssh_command: Option<String>,
        timeout: Duration,
    ) -> Result<Self, ReplicaError> {
        let shown = redact(url);
        let bad =
            |problem: &str| ReplicaError::BadRemote { remote: shown.clone(), problem: problem.to_owned() };
        if url.is_empty() || url.starts_with('-') || url.contains(['\0', '\n']) {
            return Err(bad("it is neither a path nor a URL"));
        }
        if !Reference::is_valid_name(&format!("refs/heads/{branch}")) || branch.starts_with('-') {
            return Err(bad(&format!("{branch} is no name of a branch")));
        }
        match url.split_once("://") {
            Some((scheme, _)) if PROTOCOLS.contains(&scheme) => {}
            Some((scheme, _)) => {
                return Err(bad(&format!(
                    "{scheme} is no protocol of git: use https, ssh, git, http or file"
                )));
            }
            // As git reads it: two colons name a helper program, one makes it `host:path`.
            None if url.split_once(':').is_some_and(|(_, path)| path.starts_with(':')) => {
                return Err(bad("remote helpers are not run"));
            }
            None => {}
        }
        Ok(Self { url: url.to_owned(), shown, branch: branch.to_owned(), ssh_command, timeout })
    }

    /// Brings the branch's tip with everything it needs into `repo` and answers it. Nothing but [`FETCHED`] changes.
    pub(crate) fn fetch_into(&self, repo: &Repository) -> Result<Oid, ReplicaError> {
        let branch = format!("refs/heads/{}", self.branch);
        let listed = self.run(repo.path(), &["ls-remote", "--exit-code", "--"], &[&branch])?;
        match listed.status.code() {
            Some(0) => {}
            // What --exit-code answers when nothing matches; a branch whose tip is damaged is left out with a warning.
            Some(2) if listed.said.is_empty() => {
                return Err(ReplicaError::BranchMissing {
                    remote: self.shown.clone(),
                    branch: self.branch.clone(),
                });
            }
            _ => return Err(self.unreachable(&listed.said)),
        }
        let tip = listed.printed.split_whitespace().next().and_then(|id| Oid::from_str(id).ok());
        if tip.is_none() || repo.refname_to_id(FETCHED).ok() != tip {
            let fetch = [
                "fetch",
                "--quiet",
                "--no-tags",
                "--no-write-fetch-head",
                "--no-recurse-submodules",
                "--force",
                "--",
            ];
            let fetched = self.run(repo.path(), &fetch, &[&format!("{branch}:{FETCHED}")])?;
            if !fetched.status.success() {
                return Err(self.unreachable(&fetched.said));
            }
        }
        repo.refname_to_id(FETCHED).map_err(ReplicaError::git(repo.path(), "find what was fetched"))
    }

    fn unreachable(&self, text: &str) -> ReplicaError {
        ReplicaError::Unreachable { remote: self.shown.clone(), text: text.replace(&self.url, &self.shown) }
    }

    /// Runs `git <before> URL <after>` on the clone, until its end or the deadline.
    fn run(&self, git_dir: &Path, before: &[&str], after: &[&str]) -> Result<Ended, ReplicaError> {
        let unable =
            |error: std::io::Error| self.unreachable(&format!("the git program cannot be run: {error}"));
        // Files and no pipes: a connection that ssh keeps open in the background would hold a pipe open too.
        let mut printed = tempfile::tempfile().map_err(unable)?;
        let mut said = tempfile::tempfile().map_err(unable)?;
        let mut child = self
            .command(git_dir)
            .args(before)
            .arg(&self.url)
            .args(after)
            .stdin(Stdio::null())
            .stdout(printed.try_clone().map_err(unable)?)
            .stderr(said.try_clone().map_err(unable)?)
            .spawn()
            .map_err(unable)?;
        let mut left = self.timeout;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(unable)? {
                break status;
            }
            if left.is_zero() {
                // git's children (ssh, the http helper) are in its process group.
                let pid = Pid::from_child(&child);
                kill_process_group(pid, Signal::KILL).or_else(|_| child.kill()).ok();
                child.wait().map_err(unable)?;
                return Err(ReplicaError::Timeout {
                    remote: self.shown.clone(),
                    after_s: self.timeout.as_secs(),
                });
            }
            std::thread::sleep(POLL.min(left));
            left = left.saturating_sub(POLL);
        };
        Ok(Ended { status, printed: tail(&mut printed), said: tail(&mut said) })
    }

    /// `git` with nothing inherited that could redirect it, and nothing that could ask a question.
    #[expect(clippy::disallowed_methods, reason = "run() owns the child and kills it at the deadline")]
    fn command(&self, git_dir: &Path) -> Command {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(git_dir);
        command.args(["-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "maintenance.auto=false"]);
        command.args(["-c", "fetch.fsckObjects=true", "-c", "protocol.allow=never"]);
        // Packs only: see `follow::open_sound`.
        command.args(["-c", "fetch.unpackLimit=1", "-c", "transfer.unpackLimit=1"]);
        for protocol in PROTOCOLS {
            command.args(["-c", &format!("protocol.{protocol}.allow=always")]);
        }
        if let Some(ssh) = &self.ssh_command {
            command
                .args(["-c", &format!("core.sshCommand={ssh}")])
                .env_remove("GIT_SSH_COMMAND")
                .env_remove("GIT_SSH");
        }
        for inherited in [
            "GIT_DIR",
            "GIT_WORK_TREE",
            "GIT_INDEX_FILE",
            "GIT_OBJECT_DIRECTORY",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES",
            "GIT_QUARANTINE_PATH",
            "GIT_COMMON_DIR",
            "GIT_NAMESPACE",
            "GIT_CONFIG_PARAMETERS",
            "GIT_CONFIG_COUNT",
            "GIT_ALLOW_PROTOCOL",
            "GIT_EXTERNAL_DIFF",
            "GIT_TRACE",
        ] {
            command.env_remove(inherited);
        }
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_PAGER", "cat")
            .env("GIT_ASKPASS", "false")
            .env("SSH_ASKPASS", "false")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("LC_ALL", "C")
            .process_group(0);
        command
    }
}

/// How a run of `git` ended, what it printed, and what it said about it.
struct Ended {
    status: ExitStatus,
    printed: String,
    said: String,
}

fn tail(file: &mut std::fs::File) -> String {
    let mut bytes = Vec::new();
    let read = file
        .metadata()
        .and_then(|metadata| file.seek(SeekFrom::Start(metadata.len().saturating_sub(SAID_MAX))))
        .and_then(|_| file.take(SAID_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).trim().replace('\n', "; "),
        Err(error) => format!("what it said cannot be read: {error}"),
    }
}

/// The remote without login and password.
fn redact(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            match authority.rsplit_once('@') {
                Some((_, host)) => format!("{scheme}://…@{host}{path}"),
                None => url.to_owned(),
            }
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_remote() {
        let check = |url: &str| Remote::check(url, "main", None, Duration::from_secs(1)).is_ok();
        for good in [
            "/srv/schema.git",
            "schema.git",
            "./a:b",
            "file:///srv/schema.git",
            "https://h/x.git",
            "ssh://git@h/x.git",
            "git@host:x.git",
            "git://h/x",
            "http://h/x",
        ] {
            assert!(check(good), "{good}");
        }
        for bad in
            ["", "-u", "--upload-pack=touch /tmp/x", "ext::sh -c id", "ftp://h/x", "rsync://h/x", "a\nb"]
        {
            assert!(!check(bad), "{bad}");
        }
        assert!(Remote::check("/x", "a..b", None, Duration::from_secs(1)).is_err());
        assert!(Remote::check("/x", "--all", None, Duration::from_secs(1)).is_err());
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(redact("https://bot:hunter2@host:8443/a@b.git"), "https://…@host:8443/a@b.git");
        assert_eq!(redact("https://host/x.git"), "https://host/x.git");
        let remote = Remote::check("https://bot:hunter2@h/x", "main", None, Duration::from_secs(1)).unwrap();
        let error = remote.unreachable("unable to access 'https://bot:hunter2@h/x/'");
        assert_eq!(error.to_string(), "cannot fetch from https://…@h/x: unable to access 'https://…@h/x/'");
    }
}
