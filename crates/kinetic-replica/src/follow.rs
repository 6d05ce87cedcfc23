//! Following a branch: fetch, offer, accept or reject; the last accepted revision stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{Oid, Repository, RepositoryInitOptions};

use crate::git::{FETCHED, Remote};
use crate::revision::read_candidate;
use crate::{Candidate, Limits, ReplicaError, Revision};

/// The accepted revision.
const CURRENT: &str = "refs/kinetic/current";

/// What to follow, and where to keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// Whatever `git fetch` takes: a path, `file://`, `https://`, `ssh://`, `host:path`, `http://`, `git://`.
    pub remote: String,
    /// The branch.
    pub branch: String,
    /// Where our bare clone is; made if it is not there. `<dir>.broken` and `<dir>.anew` beside it are ours too.
    pub dir: PathBuf,
    /// How much a revision may hold.
    pub limits: Limits,
    /// How long one run of the `git` program may take.
    pub timeout: Duration,
    /// git's `core.sshCommand`, where the system's own will not do (a deploy key, for instance).
    pub ssh_command: Option<String>,
}

impl ReplicaConfig {
    /// Branch `main`, default limits, one minute.
    pub fn new(remote: impl Into<String>, dir: impl Into<PathBuf>) -> Self {
        Self {
            remote: remote.into(),
            branch: "main".to_owned(),
            dir: dir.into(),
            limits: Limits::default(),
            timeout: Duration::from_secs(60),
            ssh_command: None,
        }
    }
}

/// How a replica is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The accepted revision.
    pub current: Option<Revision>,
    /// The newest tip, where it was rejected, and why.
    pub rejected: Option<(Revision, String)>,
    /// Why the last fetch failed, if it did.
    pub error: Option<String>,
}

/// A followed branch.
pub struct Replica {
    dir: PathBuf,
    limits: Limits,
    remote: Remote,
    repo: Repository,
    current: Option<Candidate>,
    /// The tip that was last offered, refused for its size, or found to be current: not offered again.
    looked_at: Option<Oid>,
    rejected: Option<(Revision, String)>,
    /// What was accepted in a clone that broke, to be taken up again once it has been fetched.
    lost: Option<Oid>,
    error: Option<String>,
}

impl Replica {
    /// Opens the clone, or makes an empty one; needs no network. A broken clone is moved to `<dir>.broken` (what was there
    /// before goes), and the next [`Replica::fetch`] fills a new one.
    ///
    /// # Errors
    /// [`ReplicaError::BadRemote`], [`ReplicaError::Io`], [`ReplicaError::Git`].
    pub fn open(config: ReplicaConfig) -> Result<Self, ReplicaError> {
        let ReplicaConfig { remote, branch, dir, limits, timeout, ssh_command } = config;
        let remote = Remote::check(&remote, &branch, ssh_command, timeout)?;
        let mut lost = None;
        let (repo, current) = match open_sound(&dir, limits) {
            Ok(Some((repo, current))) => (repo, current),
            Ok(None) => (make(&dir)?, None),
            Err((oid, error)) => {
                tracing::warn!(dir = %dir.display(), %error, "clone is broken, starting a new one");
                lost = oid;
                move_aside(&dir)?;
                (make(&dir)?, None)
            }
        };
        Ok(Self { dir, limits, remote, repo, current, looked_at: None, rejected: None, lost, error: None })
    }

    /// Looks at the remote. `None`: nothing that was not offered before. A candidate waits for [`Replica::accept`] or
    /// [`Replica::reject`]; after a restart it is offered again, since what checks it may have changed too.
    ///
    /// # Errors
    /// Whatever [`ReplicaError`] lists. The current revision stays, and the next fetch starts afresh.
    pub fn fetch(&mut self) -> Result<Option<Candidate>, ReplicaError> {
        let fetched = self.fetch_tip();
        self.error = fetched.as_ref().err().map(ToString::to_string);
        fetched
    }

    fn fetch_tip(&mut self) -> Result<Option<Candidate>, ReplicaError> {
        let mut tip = match self.remote.fetch_into(&self.repo) {
            Ok(tip) => tip,
            Err(error) => self.retry_anew(error)?,
        };
        self.take_up_lost();
        if self.looked_at == Some(tip) {
            return Ok(None);
        }
        if self.current_oid() == Some(tip) {
            self.looked_at = Some(tip);
            self.rejected = None;
            return Ok(None);
        }
        let candidate = match self.candidate(tip) {
            Err(error @ ReplicaError::Corrupt { .. }) => {
                tip = self.retry_anew(error)?;
                self.take_up_lost();
                self.candidate(tip)
            }
            other => other,
        };
        match &candidate {
            Ok(_) => self.looked_at = Some(tip),
            Err(error @ (ReplicaError::TooLarge { .. } | ReplicaError::BadPath { .. })) => {
                self.looked_at = Some(tip);
                self.rejected = Some((tip.into(), error.to_string()));
            }
            Err(_) => {}
        }
        candidate.map(Some)
    }

    fn candidate(&self, tip: Oid) -> Result<Candidate, ReplicaError> {
        let mut candidate = read_candidate(&self.repo, tip, self.limits)?;
        if let Some(current) = self.current_oid() {
            // A current revision that the remote no longer has cannot be an ancestor.
            candidate.forced = !self.repo.graph_descendant_of(tip, current).unwrap_or(false);
        }
        Ok(candidate)
    }

    fn current_oid(&self) -> Option<Oid> {
        self.current.as_ref().and_then(|current| oid(&current.revision).ok())
    }

    /// When the fault may be our own clone's, fetches into a new one, and takes that if it succeeds.
    fn retry_anew(&mut self, error: ReplicaError) -> Result<Oid, ReplicaError> {
        let sound = matches!(open_sound(&self.dir, self.limits), Ok(Some(_)))
            && fetched_is_sound(&self.repo, self.limits);
        if sound {
            return Err(error);
        }
        tracing::warn!(dir = %self.dir.display(), %error, "clone may be broken, trying a new one");
        let anew = beside(&self.dir, "anew");
        remove(&anew)?;
        let fetched = make(&anew).and_then(|repo| {
            let tip = self.remote.fetch_into(&repo)?;
            read_candidate(&repo, tip, self.limits).map(|_| tip)
        });
        let Ok(tip) = fetched else {
            remove(&anew)?;
            return Err(error);
        };
        move_aside(&self.dir)?;
        std::fs::rename(&anew, &self.dir).map_err(ReplicaError::io(&self.dir))?;
        self.repo =
            Repository::open_bare(&self.dir).map_err(ReplicaError::git(&self.dir, "open the clone"))?;
        self.lost = self.current_oid().or(self.lost);
        Ok(tip)
    }

    /// Makes current again what was current in the broken clone, if the remote still had it.
    fn take_up_lost(&mut self) {
        let Some(lost) = self.lost.take() else { return };
        match read_candidate(&self.repo, lost, self.limits).and_then(|current| {
            self.point_current_at(lost)?;
            Ok(current)
        }) {
            Ok(current) => self.current = Some(current),
            Err(error) => {
                tracing::warn!(revision = %lost, %error, "the accepted revision is gone with the old clone")
            }
        }
    }

    /// Makes a revision current. Survives a restart: the reference is replaced atomically.
    ///
    /// # Errors
    /// Whatever [`ReplicaError`] lists; the previous revision then stays current, and this one is offered again.
    pub fn accept(&mut self, revision: &Revision) -> Result<(), ReplicaError> {
        let accepted = oid(revision).and_then(|oid| {
            let candidate = read_candidate(&self.repo, oid, self.limits)?;
            self.point_current_at(oid)?;
            Ok(candidate)
        });
        match accepted {
            Ok(candidate) => {
                self.current = Some(candidate);
                self.rejected = None;
                Ok(())
            }
            Err(error) => {
                self.looked_at = None;
                Err(error)
            }
        }
    }

    fn point_current_at(&self, oid: Oid) -> Result<(), ReplicaError> {
        self.repo
            .reference(CURRENT, oid, true, "accepted")
            .map(drop)
            .map_err(ReplicaError::git(&self.dir, "remember the accepted revision"))
    }

    /// Notes why a revision does not become current. It is not offered again while the remote stands there.
    pub fn reject(&mut self, revision: &Revision, reason: impl Into<String>) {
        self.rejected = Some((revision.clone(), reason.into()));
    }

    /// The accepted revision with its files.
    #[must_use]
    pub fn current(&self) -> Option<&Candidate> {
        self.current.as_ref()
    }

    /// How the replica is.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            current: self.current.as_ref().map(|current| current.revision.clone()),
            rejected: self.rejected.clone(),
            error: self.error.clone(),
        }
    }
}

fn oid(revision: &Revision) -> Result<Oid, ReplicaError> {
    Oid::from_str(&revision.0).map_err(|_| ReplicaError::NoRevision { revision: revision.0.clone() })
}

/// The clone with what it says is current; `None` where there is no clone yet. The error carries the accepted commit, if
/// the clone still knows it.
#[expect(clippy::type_complexity, reason = "read in one place")]
fn open_sound(
    dir: &Path,
    limits: Limits,
) -> Result<Option<(Repository, Option<Candidate>)>, (Option<Oid>, ReplicaError)> {
    let empty = std::fs::read_dir(dir).map(|mut entries| entries.next().is_none());
    if !matches!(empty, Ok(false)) {
        return Ok(None);
    }
    // Our fetches leave packs only. A loose object is a stranger's, and a truncated one would hang the history walk.
    if has_loose_objects(dir) {
        let text = "it holds objects that we did not write".to_owned();
        return Err((None, ReplicaError::Corrupt { place: dir.display().to_string(), text }));
    }
    let repo = Repository::open_bare(dir)
        .map_err(|error| (None, ReplicaError::git(dir, "open the clone")(error)))?;
    let current = match repo.refname_to_id(CURRENT) {
        Ok(oid) => oid,
        Err(error) if error.code() == git2::ErrorCode::NotFound => return Ok(Some((repo, None))),
        Err(error) => return Err((None, ReplicaError::git(dir, "read the accepted revision")(error))),
    };
    match read_candidate(&repo, current, limits) {
        Ok(candidate) => Ok(Some((repo, Some(candidate)))),
        Err(error) => Err((Some(current), error)),
    }
}

fn has_loose_objects(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir.join("objects")) else { return false };
    entries.flatten().any(|entry| entry.file_name().len() == 2)
}

/// Whether what was fetched last can be read, if anything was.
fn fetched_is_sound(repo: &Repository, limits: Limits) -> bool {
    match repo.refname_to_id(FETCHED) {
        Ok(tip) => !matches!(
            read_candidate(repo, tip, limits),
            Err(ReplicaError::Corrupt { .. } | ReplicaError::Git { .. })
        ),
        Err(error) => error.code() == git2::ErrorCode::NotFound,
    }
}

fn make(dir: &Path) -> Result<Repository, ReplicaError> {
    let doing = "make a clone";
    let mut options = RepositoryInitOptions::new();
    options.bare(true).mkpath(true).external_template(false).initial_head("main");
    let repo = Repository::init_opts(dir, &options).map_err(ReplicaError::git(dir, doing))?;
    // What is accepted must be on disk before anybody acts on it.
    repo.config()
        .and_then(|mut config| config.set_bool("core.fsyncObjectFiles", true))
        .map_err(ReplicaError::git(dir, doing))?;
    Ok(repo)
}

fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// One broken clone is kept for people to look at, not one per breakage.
fn move_aside(dir: &Path) -> Result<(), ReplicaError> {
    let aside = beside(dir, "broken");
    remove(&aside)?;
    match std::fs::rename(dir, &aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ReplicaError::io(dir)(error)),
        _ => Ok(()),
    }
}

fn remove(dir: &Path) -> Result<(), ReplicaError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ReplicaError::io(dir)(error)),
        _ => Ok(()),
    }
}
