//! The only code that names git2: clone, fetch, check, swap, commit; hands out revisions.
//!
//! A [`Replica`] follows one branch of one repository. It offers each new tip once; who uses it checks the files and says
//! [`Replica::accept`] or [`Replica::reject`], and until then the last accepted revision stays what it was. What may fail
//! (the network, the remote's objects, the disk, our own clone) fails with an error and leaves that revision alone.
//! Everything here blocks.

mod commit;
mod compare;
mod error;
mod follow;
mod git;
mod revision;

pub use commit::{Author, Init, commit, init, pre_receive_hook};
pub use compare::{Change, EntryKind, changes, contents, descends};
pub use error::ReplicaError;
pub use follow::{Replica, ReplicaConfig, Status};
pub use revision::{Candidate, Files, Limits, Revision, read_dir, read_revision};
