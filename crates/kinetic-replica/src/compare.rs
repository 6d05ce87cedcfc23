//! What a push changes: paths and modes, without any guess of what was renamed to what.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{ObjectType, Oid, Repository, Tree};

use crate::ReplicaError;
use crate::revision::{open_pushed, whole};

/// Entries of trees that are looked at.
const ENTRIES_MAX: usize = 1_000_000;
/// Nested directories.
const DEPTH_MAX: usize = 32;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file, executable or not.
    File {
        /// Its size.
        bytes: u64,
    },
    /// A symbolic link.
    Link,
    /// A commit of another repository.
    Submodule,
}

/// A path that a push changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// From the top of the repository, with `/`. Bytes that are not UTF-8 are U+FFFD.
    pub path: String,
    /// What stood there.
    pub before: Option<EntryKind>,
    /// What stands there then.
    pub after: Option<EntryKind>,
}

/// All paths at which two revisions of the repository at `repo` differ, in both directions. Inside a pre-receive hook it sees the
/// pushed objects, as [`crate::read_revision`] does.
///
/// # Errors
/// [`ReplicaError::NoRevision`], [`ReplicaError::TooLarge`], [`ReplicaError::Corrupt`], [`ReplicaError::Git`].
pub fn changes(repo: &Path, old: &str, new: &str) -> Result<Vec<Change>, ReplicaError> {
    let opened = open_pushed(repo)?;
    let (old, new) = (tree(&opened, old)?, tree(&opened, new)?);
    let mut walk = Walk { repo: &opened, entries: 0, changes: Vec::new() };
    walk.compare(Some(old), Some(new), "", 0)?;
    Ok(walk.changes)
}

/// All files below a folder of a revision, and whatever else stands there.
///
/// # Errors
/// As [`changes`].
pub fn contents(repo: &Path, revision: &str, folder: &str) -> Result<Vec<Change>, ReplicaError> {
    let opened = open_pushed(repo)?;
    let failed = ReplicaError::git(opened.path(), "read the revision");
    let mut at = tree(&opened, revision)?;
    for name in folder.split('/') {
        // One by one: a tree that is out of order hides names from a search.
        let found =
            at.iter().find(|entry| entry.name_bytes() == name.as_bytes()).map(|entry| entry.to_owned());
        let Some(entry) = found else { return Ok(Vec::new()) };
        if entry.kind() != Some(ObjectType::Tree) {
            return Ok(Vec::new());
        }
        whole(&opened, entry.id())?;
        at = opened.find_tree(entry.id()).map_err(&failed)?;
    }
    let mut walk = Walk { repo: &opened, entries: 0, changes: Vec::new() };
    walk.compare(None, Some(at), folder, 0)?;
    Ok(walk.changes)
}

/// Whether the commit `new` has `old` among its ancestors.
///
/// # Errors
/// [`ReplicaError::NoRevision`], [`ReplicaError::Corrupt`], [`ReplicaError::Git`].
pub fn descends(repo: &Path, new: &str, old: &str) -> Result<bool, ReplicaError> {
    let opened = open_pushed(repo)?;
    let failed = ReplicaError::git(opened.path(), "compare the revisions");
    opened.graph_descendant_of(id(new)?, id(old)?).map_err(failed)
}

fn id(revision: &str) -> Result<Oid, ReplicaError> {
    let none = |_| ReplicaError::NoRevision { revision: revision.to_owned() };
    Oid::from_str(revision).map_err(none)
}

fn tree<'r>(repo: &'r Repository, revision: &str) -> Result<Tree<'r>, ReplicaError> {
    let failed = ReplicaError::git(repo.path(), "read the revision");
    let oid = id(revision)?;
    whole(repo, oid)?;
    let commit = repo.find_commit(oid).map_err(&failed)?;
    whole(repo, commit.tree_id())?;
    commit.tree().map_err(&failed)
}

struct Walk<'r> {
    repo: &'r Repository,
    entries: usize,
    changes: Vec<Change>,
}

/// An entry of a tree: object and mode, as it stands there.
type Entry = (Oid, i32);
/// The part of a mode that says what an entry is, whatever permissions somebody has put beside it.
const KIND: i32 = 0o170_000;

impl<'r> Walk<'r> {
    fn compare(
        &mut self,
        old: Option<Tree<'r>>,
        new: Option<Tree<'r>>,
        prefix: &str,
        depth: usize,
    ) -> Result<(), ReplicaError> {
        let too_large = |what: String, limit: usize| ReplicaError::TooLarge { what, limit: limit as u64 };
        if depth > DEPTH_MAX {
            return Err(too_large(format!("directories nested {depth} deep"), DEPTH_MAX));
        }
        let mut names: BTreeMap<Vec<u8>, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
        for entry in old.iter().flatten() {
            names.entry(entry.name_bytes().to_vec()).or_default().0 =
                Some((entry.id(), entry.filemode_raw()));
        }
        for entry in new.iter().flatten() {
            let held = &mut names.entry(entry.name_bytes().to_vec()).or_default().1;
            // Whoever reads the tree may take either.
            if held.replace((entry.id(), entry.filemode_raw())).is_some() {
                let text = format!("one name stands twice in the folder `{prefix}`");
                return Err(ReplicaError::Corrupt { place: self.repo.path().display().to_string(), text });
            }
        }
        self.entries += names.len();
        if self.entries > ENTRIES_MAX {
            return Err(too_large(format!("more than {ENTRIES_MAX} directory entries"), ENTRIES_MAX));
        }
        for (name, (before, after)) in names {
            if before == after {
                continue;
            }
            let name = String::from_utf8_lossy(&name);
            let path = if prefix.is_empty() { name.into_owned() } else { format!("{prefix}/{name}") };
            let (old, new) = (self.subtree(before)?, self.subtree(after)?);
            let (was, is) = (self.kind(before)?, self.kind(after)?);
            if was.is_some() || is.is_some() {
                self.changes.push(Change { path: path.clone(), before: was, after: is });
            }
            if old.is_some() || new.is_some() {
                self.compare(old, new, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn subtree(&self, entry: Option<Entry>) -> Result<Option<Tree<'r>>, ReplicaError> {
        let Some((oid, _)) = entry.filter(|(_, mode)| mode & KIND == 0o040_000) else { return Ok(None) };
        whole(self.repo, oid)?;
        self.repo.find_tree(oid).map(Some).map_err(ReplicaError::git(self.repo.path(), "read the revision"))
    }

    fn kind(&self, entry: Option<Entry>) -> Result<Option<EntryKind>, ReplicaError> {
        Ok(match entry.map(|(oid, mode)| (oid, mode & KIND)) {
            None | Some((_, 0o040_000)) => None,
            Some((_, 0o120_000)) => Some(EntryKind::Link),
            Some((_, 0o160_000)) => Some(EntryKind::Submodule),
            Some((oid, _)) => {
                whole(self.repo, oid)?;
                let header = self.repo.odb().and_then(|odb| odb.read_header(oid));
                let (bytes, _) = header.map_err(ReplicaError::git(self.repo.path(), "read the revision"))?;
                Some(EntryKind::File { bytes: bytes as u64 })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Author, Files, init};

    /// A commit whose tree has these entries, in this order, whatever git would say to that.
    fn commit(repo: &Repository, entries: &[(&str, &str, Oid)], parent: Oid) -> String {
        let mut tree = Vec::new();
        for (mode, name, oid) in entries {
            tree.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            tree.extend_from_slice(oid.as_bytes());
        }
        let tree = repo.odb().unwrap().write(ObjectType::Tree, &tree).unwrap();
        let who = "A <a@b.example> 1700000000 +0000";
        let text = format!("tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\n\nx\n");
        repo.odb().unwrap().write(ObjectType::Commit, text.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn odd_trees_hide_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("schema.git");
        let files = Files::from([("a/x.hcl".to_owned(), b"1".to_vec()), ("b.hcl".to_owned(), b"2".to_vec())]);
        let made = init(&path, &files, "", &Author::new("Ops", "ops@acme.example")).unwrap();
        let old = made.revision.0;
        let repo = Repository::open_bare(&path).unwrap();
        let head = Oid::from_str(&old).unwrap();
        let tree = repo.find_commit(head).unwrap().tree().unwrap();
        let (a, b) = (tree.get_name("a").unwrap().id(), tree.get_name("b.hcl").unwrap().id());
        let seen = |entries: &[(&str, &str, Oid)]| {
            let new = commit(&repo, entries, head);
            assert!(descends(&path, &new, &old).unwrap() && !descends(&path, &old, &new).unwrap());
            let paths = changes(&path, &old, &new)?.into_iter().map(|change| (change.path, change.after));
            Ok::<_, ReplicaError>(paths.collect::<Vec<_>>())
        };
        let file = Some(EntryKind::File { bytes: 1 });
        assert_eq!(seen(&[("40000", "a", a), ("100644", "b.hcl", b)]).unwrap(), []);
        // A folder by a mode that only looks like one of a file.
        let odd = seen(&[("40000", "a", a), ("100644", "b.hcl", b), ("40755", "c", a)]).unwrap();
        assert_eq!(odd, [("c/x.hcl".to_owned(), file)]);
        let twice = seen(&[("40000", "a", a), ("100644", "b.hcl", b), ("100644", "b.hcl", b)]);
        assert!(matches!(twice, Err(ReplicaError::Corrupt { .. })), "{twice:?}");
        let unsorted = seen(&[("100644", "z.hcl", b), ("40000", "a", a), ("100644", "b.hcl", b)]).unwrap();
        assert_eq!(unsorted, [("z.hcl".to_owned(), file)]);
        let kinds = seen(&[("120000", "a", b), ("160000", "b.hcl", head)]).unwrap();
        let expected =
            [("a", Some(EntryKind::Link)), ("a/x.hcl", None), ("b.hcl", Some(EntryKind::Submodule))];
        assert_eq!(kinds, expected.map(|(path, kind)| (path.to_owned(), kind)));
        let unsorted = commit(&repo, &[("40000", "z", a), ("40000", "a", a)], head);
        assert_eq!(contents(&path, &unsorted, "a").unwrap().len(), 1);
        assert_eq!(contents(&path, &unsorted, "none").unwrap(), []);
    }
}
