//! What can go wrong with a repository, one variant per decision of the caller.

use std::path::{Path, PathBuf};

use git2::{ErrorClass, ErrorCode};

/// Why something with a repository failed. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The remote or the branch cannot be what was meant.
    #[error("the schema repository {remote} cannot be used: {problem}")]
    BadRemote {
        /// As configured, without its password.
        remote: String,
        /// What is wrong.
        problem: String,
    },
    /// The remote did not give us what we asked for.
    #[error("cannot fetch from {remote}: {text}")]
    Unreachable {
        /// As configured, without its password.
        remote: String,
        /// What git said.
        text: String,
    },
    /// The remote said nothing for too long.
    #[error("cannot fetch from {remote}: no end after {after_s} s")]
    Timeout {
        /// As configured, without its password.
        remote: String,
        /// The deadline, in seconds.
        after_s: u64,
    },
    /// The remote has no such branch (yet).
    #[error("{remote} has no branch {branch}: push one, or name another branch")]
    BranchMissing {
        /// As configured, without its password.
        remote: String,
        /// The branch.
        branch: String,
    },
    /// An object is not what its name says, or is missing.
    #[error("the repository {place} is damaged ({text}): run `git fsck` there and restore it")]
    Corrupt {
        /// The repository.
        place: String,
        /// What git said.
        text: String,
    },
    /// The revision exceeds a limit.
    #[error("the revision has {what}, and the limit is {limit}")]
    TooLarge {
        /// What it has too much of.
        what: String,
        /// The limit, in the same unit.
        limit: u64,
    },
    /// A path that no schema file may have.
    #[error("{path} is no path of a schema file: use relative ones without `..` and in UTF-8")]
    BadPath {
        /// The path.
        path: String,
    },
    /// There is no such revision.
    #[error("there is no revision {revision}")]
    NoRevision {
        /// What was asked for.
        revision: String,
    },
    /// The place is taken.
    #[error("{} exists and is not empty: name another directory", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody else was faster: read again and repeat.
    #[error("the branch has moved meanwhile: look at what is new and repeat")]
    Raced,
    /// The file system said no.
    #[error("{}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// git said no.
    #[error("cannot {doing}: {text}")]
    Git {
        /// What we were doing.
        doing: String,
        /// What git said.
        text: String,
    },
}

impl ReplicaError {
    /// Whether the same call may succeed later without anybody touching configuration or the repository's content.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Timeout { .. }
                | Self::BranchMissing { .. }
                | Self::Raced
                | Self::Io { .. }
                | Self::Git { .. }
        )
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::Io { path: path.to_owned(), cause }
    }

    /// An error of libgit2 about the repository at `place`.
    pub(crate) fn git(place: &Path, doing: &str) -> impl Fn(git2::Error) -> Self {
        move |error| {
            if damaged(&error) {
                Self::Corrupt { place: place.display().to_string(), text: error.message().to_owned() }
            } else if error.code() == ErrorCode::Owner {
                let place = place.display();
                let text = format!(
                    "{place} belongs to somebody else; `git config --global --add safe.directory {place}` trusts it"
                );
                Self::Git { doing: doing.to_owned(), text }
            } else {
                Self::Git { doing: doing.to_owned(), text: error.message().to_owned() }
            }
        }
    }
}

/// Whether the error is about objects, not about the system.
fn damaged(error: &git2::Error) -> bool {
    matches!(
        error.class(),
        ErrorClass::Odb
            | ErrorClass::Zlib
            | ErrorClass::Object
            | ErrorClass::Tree
            | ErrorClass::Indexer
            | ErrorClass::Sha1
            | ErrorClass::Reference
    ) || error.code() == ErrorCode::HashsumMismatch
}
