//! Writing: a new schema repository, and commits from the wizard.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use git2::{
    ErrorCode, Index, IndexEntry, IndexTime, Oid, Repository, RepositoryInitOptions, Signature, Tree,
};

use crate::revision::read_files;
use crate::{Files, Limits, ReplicaError, Revision};

/// The branch that we write.
const MAIN: &str = "refs/heads/main";
/// Mode of a plain file in a tree.
const FILE_MODE: u32 = 0o100_644;

/// Who commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// A person or a role.
    pub name: String,
    /// Where to ask.
    pub email: String,
}

impl Author {
    /// Name and address.
    pub fn new(name: impl Into<String>, email: impl Into<String>) -> Self {
        Self { name: name.into(), email: email.into() }
    }
}

/// A new repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// The bare repository, for `git clone` and [`crate::ReplicaConfig::remote`].
    pub path: PathBuf,
    /// Its first commit.
    pub revision: Revision,
}

/// Text of a pre-receive hook that hands the push to `kinetic hook pre-receive`.
#[must_use]
pub fn pre_receive_hook(kinetic: &Path) -> String {
    let quoted = kinetic.display().to_string().replace('\'', r"'\''");
    format!(
        "#!/bin/sh\n# Refuses a push of a schema that does not check, and tells the pusher why.\nexec '{quoted}' hook pre-receive\n"
    )
}

/// Makes a bare repository at `dir` with branch `main`, a first commit of `files`, and `hook` as its pre-receive hook.
///
/// # Errors
/// [`ReplicaError::Exists`] where `dir` holds anything; [`ReplicaError::BadPath`], [`ReplicaError::Io`],
/// [`ReplicaError::Git`].
#[expect(
    clippy::disallowed_methods,
    reason = "this crate is the adapter that writes repositories, path in the error"
)]
pub fn init(dir: &Path, files: &Files, hook: &str, author: &Author) -> Result<Init, ReplicaError> {
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(ReplicaError::Exists { path: dir.to_owned() });
    }
    let mut options = RepositoryInitOptions::new();
    options.bare(true).mkpath(true).external_template(false).initial_head("main");
    let made = Repository::init_opts(dir, &options).map_err(ReplicaError::git(dir, "make a repository"))?;
    // What is pushed is looked through before anything else sees it.
    made.config()
        .and_then(|mut config| config.set_bool("receive.fsckObjects", true))
        .map_err(ReplicaError::git(dir, "configure the repository"))?;
    let hooks = dir.join("hooks");
    std::fs::create_dir_all(&hooks).map_err(ReplicaError::io(&hooks))?;
    let path = hooks.join("pre-receive");
    std::fs::write(&path, hook).map_err(ReplicaError::io(&path))?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).map_err(ReplicaError::io(&path))?;
    let revision = commit(dir, files, "First schema", author)?;
    Ok(Init { path: dir.to_owned(), revision })
}

/// Commits `files` (added or replaced; the others stay) onto `main` of the bare repository at `repo`. The branch moves from
/// the commit that was read to the new one, or not at all. Hooks do not run: check first.
///
/// # Errors
/// [`ReplicaError::Raced`] where somebody else has moved the branch meanwhile; [`ReplicaError::BadPath`],
/// [`ReplicaError::Corrupt`], [`ReplicaError::Git`].
pub fn commit(repo: &Path, files: &Files, message: &str, author: &Author) -> Result<Revision, ReplicaError> {
    let failed = ReplicaError::git(repo, "commit");
    let opened = Repository::open_bare(repo).map_err(&failed)?;
    let tip = match opened.refname_to_id(MAIN) {
        Ok(oid) => Some(oid),
        Err(error) if error.code() == ErrorCode::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    commit_onto(&opened, tip, files, message, author)
}

fn commit_onto(
    repo: &Repository,
    tip: Option<Oid>,
    files: &Files,
    message: &str,
    author: &Author,
) -> Result<Revision, ReplicaError> {
    let failed = ReplicaError::git(repo.path(), "commit");
    if let Some(tip) = tip {
        // Whatever cannot be read in full is not built upon.
        read_files(repo, tip, Limits::default())?;
    }
    let parent = tip.map(|oid| repo.find_commit(oid)).transpose().map_err(&failed)?;
    let base = parent.as_ref().map(git2::Commit::tree).transpose().map_err(&failed)?;
    let tree = tree_with(repo, base.as_ref(), files)?;
    let signature = Signature::now(&author.name, &author.email).map_err(&failed)?;
    let parents: Vec<_> = parent.iter().collect();
    let new = repo.commit(None, &signature, &signature, message, &tree, &parents).map_err(&failed)?;
    let log = format!("commit: {}", message.lines().next().unwrap_or_default());
    let moved = match tip {
        Some(tip) => repo.reference_matching(MAIN, new, true, tip, &log),
        None => repo.reference(MAIN, new, false, &log),
    };
    match moved {
        Ok(_) => Ok(new.into()),
        Err(error) if matches!(error.code(), ErrorCode::Modified | ErrorCode::Exists | ErrorCode::Locked) => {
            Err(ReplicaError::Raced)
        }
        Err(error) => Err(failed(error)),
    }
}

fn tree_with<'r>(
    repo: &'r Repository,
    base: Option<&Tree<'_>>,
    files: &Files,
) -> Result<Tree<'r>, ReplicaError> {
    let failed = ReplicaError::git(repo.path(), "commit");
    let mut index = Index::new().map_err(&failed)?;
    if let Some(base) = base {
        index.read_tree(base).map_err(&failed)?;
    }
    for (path, bytes) in files {
        let proper = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']);
        if !path.split('/').all(proper) {
            return Err(ReplicaError::BadPath { path: path.clone() });
        }
        let zero = IndexTime::new(0, 0);
        let entry = IndexEntry {
            ctime: zero,
            mtime: zero,
            dev: 0,
            ino: 0,
            mode: FILE_MODE,
            uid: 0,
            gid: 0,
            file_size: 0,
            id: repo.blob(bytes).map_err(&failed)?,
            flags: 0,
            flags_extended: 0,
            path: path.clone().into_bytes(),
        };
        index.add(&entry).map_err(&failed)?;
    }
    let tree = index.write_tree_to(repo).map_err(&failed)?;
    repo.find_tree(tree).map_err(&failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author() -> Author {
        Author::new("Ops", "ops@acme.example")
    }

    #[test]
    fn a_moved_branch_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("schema.git");
        let files = |text: &str| Files::from([("a.hcl".to_owned(), text.as_bytes().to_vec())]);
        init(&path, &files("1"), "", &author()).unwrap();
        let repo = Repository::open_bare(&path).unwrap();
        let read = repo.refname_to_id(MAIN).unwrap();
        let faster = commit(&path, &files("2"), "faster", &author()).unwrap();
        let late = commit_onto(&repo, Some(read), &files("3"), "late", &author());
        assert!(matches!(late, Err(ReplicaError::Raced)), "{late:?}");
        let first_again = commit_onto(&repo, None, &files("3"), "late", &author());
        assert!(matches!(first_again, Err(ReplicaError::Raced)), "{first_again:?}");
        assert_eq!(repo.refname_to_id(MAIN).unwrap().to_string(), faster.0);
    }

    #[test]
    fn a_hook_quotes_its_path() {
        assert!(pre_receive_hook(Path::new("/a b/it's")).contains(r"exec '/a b/it'\''s' hook pre-receive"));
    }

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../a.hcl", "/a.hcl", ".git/config", "a//b.hcl", "a/.hidden/b.hcl", ""] {
            let files = Files::from([(path.to_owned(), vec![])]);
            let made = init(&dir.path().join("x"), &files, "", &author());
            assert!(matches!(made, Err(ReplicaError::BadPath { .. })), "{path}: {made:?}");
            std::fs::remove_dir_all(dir.path().join("x")).unwrap();
        }
    }
}
