//! How a branch gets from a remote into our clone. `docs/adr/0002-git-transports.md` says why there are two ways.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use git2::{AutotagOption, Direction, ErrorClass, ErrorCode, FetchOptions, Oid, Reference, Repository};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::ReplicaError;
use crate::error::damaged;

/// Where a fetch puts the remote's tip.
pub(crate) const FETCHED: &str = "refs/kinetic/fetched";
/// How often a running `git` is looked at.
const POLL: Duration = Duration::from_millis(20);
/// What is kept of what `git` says when it fails, in bytes from the end.
const SAID_MAX: u64 = 2_000;
/// The only protocols that `git` may speak for us; `ext::` would run any command.
const PROTOCOLS: [&str; 4] = ["https", "http", "ssh", "git"];

/// A checked remote.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    /// As configured.
    url: String,
    /// For people: without a password.
    pub(crate) shown: String,
    branch: String,
    local: bool,
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
        let local = match url.split_once("://") {
            Some(("file", _)) => true,
            Some((scheme, _)) if PROTOCOLS.contains(&scheme) => false,
            Some((scheme, _)) => {
                return Err(bad(&format!(
                    "{scheme} is no protocol of git: use https, ssh, git, http or file"
                )));
            }
            // As git reads it: a colon before the first slash makes it `host:path`.
            None => match url.split_once(':') {
                Some((_, path)) if path.starts_with(':') => return Err(bad("remote helpers are not run")),
                Some((host, _)) => host.contains('/'),
                None => true,
            },
        };
        Ok(Self { url: url.to_owned(), shown, branch: branch.to_owned(), local, ssh_command, timeout })
    }

    /// Brings the branch's tip with everything it needs into `repo` and answers it. Nothing but [`FETCHED`] changes.
    pub(crate) fn fetch_into(&self, repo: &Repository) -> Result<Oid, ReplicaError> {
        if self.local {
            self.fetch_here(repo)?;
        } else {
            self.fetch_by_program(repo)?;
        }
        repo.refname_to_id(FETCHED).map_err(ReplicaError::git(repo.path(), "find what was fetched"))
    }

    /// From this machine's file system, in this process.
    fn fetch_here(&self, repo: &Repository) -> Result<(), ReplicaError> {
        let failed = |error: git2::Error| self.failed(&error);
        let mut remote = repo.remote_anonymous(&self.url).map_err(failed)?;
        let branch = format!("refs/heads/{}", self.branch);
        remote.connect(Direction::Fetch).map_err(failed)?;
        let known = remote.list().map_err(failed)?.iter().any(|head| head.name() == branch);
        if !known {
            return Err(self.branch_missing());
        }
        let mut options = FetchOptions::new();
        options.download_tags(AutotagOption::None).update_fetchhead(false);
        remote.fetch(&[self.refspec()], Some(&mut options), None).map_err(failed)?;
        remote.disconnect().map_err(failed)
    }

    fn refspec(&self) -> String {
        format!("+refs/heads/{}:{FETCHED}", self.branch)
    }

    fn branch_missing(&self) -> ReplicaError {
        ReplicaError::BranchMissing { remote: self.shown.clone(), branch: self.branch.clone() }
    }

    fn unreachable(&self, text: &str) -> ReplicaError {
        ReplicaError::Unreachable { remote: self.shown.clone(), text: text.replace(&self.url, &self.shown) }
    }

    fn failed(&self, error: &git2::Error) -> ReplicaError {
        // libgit2 reports a full disk as an error of the system, whatever it was writing.
        if damaged(error) && error.class() != ErrorClass::Os {
            ReplicaError::Corrupt { place: self.shown.clone(), text: error.message().to_owned() }
        } else if error.code() == ErrorCode::Owner {
            self.unreachable(
                "it belongs to somebody else; `git config --global --add safe.directory` trusts it",
            )
        } else {
            self.unreachable(error.message())
        }
    }

    /// Over a network, by the `git` program, which brings TLS, ssh and people's own git configuration.
    fn fetch_by_program(&self, repo: &Repository) -> Result<(), ReplicaError> {
        let listed = self.run(
            repo.path(),
            &["ls-remote", "--exit-code", "--"],
            &[&format!("refs/heads/{}", self.branch)],
        )?;
        match (listed.status.code(), listed.said) {
            (Some(0), _) => {}
            // What --exit-code answers when nothing matches.
            (Some(2), _) => return Err(self.branch_missing()),
            (_, said) => return Err(self.unreachable(&said)),
        }
        let fetch = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--force",
            "--",
        ];
        let fetched = self.run(repo.path(), &fetch, &[&self.refspec()])?;
        if fetched.status.success() { Ok(()) } else { Err(self.unreachable(&fetched.said)) }
    }

    /// Runs `git <before> URL <after>` on the clone, until its end or the deadline.
    fn run(&self, git_dir: &Path, before: &[&str], after: &[&str]) -> Result<Ended, ReplicaError> {
        let unable =
            |error: std::io::Error| self.unreachable(&format!("the git program cannot be run: {error}"));
        // A file and no pipe: a connection that ssh keeps open in the background would hold a pipe open too.
        let mut said = tempfile::tempfile().map_err(unable)?;
        let mut child = self
            .command(git_dir)
            .args(before)
            .arg(&self.url)
            .args(after)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
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
        Ok(Ended { status, said: tail(&mut said) })
    }

    /// `git` with nothing inherited that could redirect it, and nothing that could ask a question.
    #[expect(clippy::disallowed_methods, reason = "run() owns the child and kills it at the deadline")]
    fn command(&self, git_dir: &Path) -> Command {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(git_dir);
        command.args(["-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "maintenance.auto=false"]);
        command.args(["-c", "fetch.fsckObjects=true", "-c", "protocol.allow=never"]);
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

/// How a run of `git` ended, and what it said.
struct Ended {
    status: ExitStatus,
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

    fn local(url: &str) -> Option<bool> {
        Remote::check(url, "main", None, Duration::from_secs(1)).ok().map(|remote| remote.local)
    }

    #[test]
    fn what_is_a_remote() {
        for here in ["/srv/schema.git", "schema.git", "./a:b", "file:///srv/schema.git"] {
            assert_eq!(local(here), Some(true), "{here}");
        }
        for there in ["https://h/x.git", "ssh://git@h/x.git", "git@host:x.git", "git://h/x", "http://h/x"] {
            assert_eq!(local(there), Some(false), "{there}");
        }
        for nowhere in
            ["", "-u", "--upload-pack=touch /tmp/x", "ext::sh -c id", "ftp://h/x", "rsync://h/x", "a\nb"]
        {
            assert_eq!(local(nowhere), None, "{nowhere}");
        }
        assert!(Remote::check("/x", "a..b", None, Duration::from_secs(1)).is_err());
        assert!(Remote::check("/x", "--all", None, Duration::from_secs(1)).is_err());
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(redact("https://bot:hunter2@host:8443/a@b.git"), "https://…@host:8443/a@b.git");
        assert_eq!(redact("https://host/x.git"), "https://host/x.git");
    }
}
