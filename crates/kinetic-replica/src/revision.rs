//! The schema files of a revision or a directory, within limits.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use git2::{ObjectType, Oid, Repository, RepositoryOpenFlags, Tree};

use crate::ReplicaError;

/// Relative path (with `/`) to bytes, of every `*.hcl` file and of the mail templates `customers/<name>/templates/*.j2`. Symbolic links, submodules and what lies under a name that
/// begins with a dot are left out.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A commit, as 40 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub String);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Oid> for Revision {
    fn from(oid: Oid) -> Self {
        Self(oid.to_string())
    }
}

/// A revision with what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The commit.
    pub revision: Revision,
    /// Its schema files.
    pub files: Files,
    /// It does not descend from the current revision: somebody has rewritten history.
    pub forced: bool,
    /// Who wrote it, `name <email>`, as the commit claims.
    pub author: String,
    /// First line of the commit message.
    pub subject: String,
    /// When it was committed, in seconds since the Unix epoch, as the commit claims.
    pub time_s: i64,
    /// Commits up to and with it, over all its parents: a later revision of one history has more. No clock is in it.
    pub generation: u64,
}

/// How much one revision may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Schema files.
    pub files_max: usize,
    /// Bytes of one.
    pub file_bytes_max: u64,
    /// Bytes of all.
    pub total_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // As many as the language takes (`kinetic_schema::limits`), so that its check is the one that says so.
        Self { files_max: 200_001, file_bytes_max: 1 << 20, total_bytes_max: 257 << 20 }
    }
}

/// Directory entries looked at in one revision. A few kilobytes of nested trees can name each other into billions.
const ENTRIES_MAX: u64 = 1_000_000;
/// Bytes of a loose object that are looked at before libgit2 reads it; more than any schema file may have.
const LOOSE_BYTES_MAX: u64 = 128 << 20;
/// Nested directories.
const DEPTH_MAX: u64 = 32;

/// Takes files in, as long as they fit.
struct Reader {
    limits: Limits,
    files: Files,
    total_bytes: u64,
    entries: u64,
}

impl Reader {
    fn new(limits: Limits) -> Self {
        Self { limits, files: Files::new(), total_bytes: 0, entries: 0 }
    }

    fn entry(&mut self, depth: u64) -> Result<(), ReplicaError> {
        self.entries += 1;
        within(self.entries, ENTRIES_MAX, || format!("more than {ENTRIES_MAX} directory entries"))?;
        within(depth, DEPTH_MAX, || format!("directories nested {depth} deep"))
    }

    /// Checked before the bytes are read.
    fn room(&mut self, path: &str, size_bytes: u64) -> Result<(), ReplicaError> {
        let Limits { files_max, file_bytes_max, total_bytes_max } = self.limits;
        self.total_bytes += size_bytes;
        let files = self.files.len() as u64 + 1;
        within(files, files_max as u64, || "too many schema files".to_owned())?;
        within(size_bytes, file_bytes_max, || format!("{path} with {size_bytes} bytes"))?;
        within(self.total_bytes, total_bytes_max, || "too many bytes of schema files".to_owned())
    }
}

fn within(value: u64, limit: u64, what: impl FnOnce() -> String) -> Result<(), ReplicaError> {
    if value > limit { Err(ReplicaError::TooLarge { what: what(), limit }) } else { Ok(()) }
}

/// Whether the file at a path belongs to the schema.
fn is_schema(path: &str) -> bool {
    let names: Vec<&str> = path.split('/').collect();
    let hidden = names.last().is_some_and(|name| name.starts_with('.'));
    let template = matches!(names[..], ["customers", _, "templates", name] if name.ends_with(".j2"));
    !hidden && (path.ends_with(".hcl") || template)
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") }
}

/// The schema files of a working directory: what `kinetic check DIR` looks at.
///
/// # Errors
/// [`ReplicaError::Io`], [`ReplicaError::TooLarge`] with the default limits, [`ReplicaError::BadPath`].
pub fn read_dir(path: &Path) -> Result<Files, ReplicaError> {
    let mut reader = Reader::new(Limits::default());
    walk_dir(&mut reader, path, "", 0)?;
    Ok(reader.files)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this crate is the adapter that reads schema files, path in the error"
)]
fn walk_dir(reader: &mut Reader, dir: &Path, prefix: &str, depth: u64) -> Result<(), ReplicaError> {
    for entry in std::fs::read_dir(dir).map_err(ReplicaError::io(dir))? {
        let entry = entry.map_err(ReplicaError::io(dir))?;
        let path = entry.path();
        reader.entry(depth)?;
        let kind = entry.file_type().map_err(ReplicaError::io(&path))?;
        let raw = entry.file_name();
        let Some(name) = raw.to_str() else {
            return Err(ReplicaError::BadPath { path: path.display().to_string() });
        };
        if kind.is_dir() && !name.starts_with('.') {
            walk_dir(reader, &path, &join(prefix, name), depth + 1)?;
        } else if kind.is_file() && is_schema(&join(prefix, name)) {
            let size_bytes = entry.metadata().map_err(ReplicaError::io(&path))?.len();
            let relative = join(prefix, name);
            reader.room(&relative, size_bytes)?;
            let bytes = std::fs::read(&path).map_err(ReplicaError::io(&path))?;
            reader.files.insert(relative, bytes);
        }
    }
    Ok(())
}

/// The schema files of `revision` (anything `git rev-parse` understands) in the repository at `repo`. Inside a pre-receive
/// hook it sees the pushed objects, which git keeps apart and points to through `GIT_OBJECT_DIRECTORY`.
///
/// # Errors
/// [`ReplicaError::NoRevision`], [`ReplicaError::TooLarge`] with the default limits, [`ReplicaError::Corrupt`],
/// [`ReplicaError::BadPath`], [`ReplicaError::Git`].
pub fn read_revision(repo: &Path, revision: &str) -> Result<Files, ReplicaError> {
    let opened = open_pushed(repo)?;
    let none = |_| ReplicaError::NoRevision { revision: revision.to_owned() };
    let named =
        opened.resolve_reference_from_short_name(revision).ok().and_then(|reference| reference.target());
    let oid = match Oid::from_str(revision) {
        Ok(oid) if revision.len() == 40 => oid,
        _ => match named {
            Some(oid) => oid,
            None => opened.revparse_single(revision).map_err(none)?.id(),
        },
    };
    whole(&opened, oid)?;
    let object = opened.find_object(oid, None).map_err(none)?;
    let commit = object.peel_to_commit().map_err(ReplicaError::git(repo, "read the revision"))?;
    read_files(&opened, commit.id(), Limits::default())
}

/// A repository, with the objects of a push that its hook is asked about.
pub(crate) fn open_pushed(repo: &Path) -> Result<Repository, ReplicaError> {
    let flags = RepositoryOpenFlags::FROM_ENV | RepositoryOpenFlags::NO_SEARCH;
    let ceilings: [&Path; 0] = [];
    Repository::open_ext(repo, flags, ceilings).map_err(ReplicaError::git(repo, "open the repository"))
}

/// Refuses a loose object that ends too early. libgit2 1.9.7 inflates such a one for ever, in a thread that nothing can
/// stop; every object is looked at here before libgit2 reads it. Packed objects it handles.
pub(crate) fn whole(repo: &Repository, oid: Oid) -> Result<(), ReplicaError> {
    let name = oid.to_string();
    let (fan, rest) = name.split_at(2);
    let path = repo.commondir().join("objects").join(fan).join(rest);
    let Ok(file) = std::fs::File::open(&path) else { return Ok(()) };
    let mut inflated = flate2::read::ZlibDecoder::new(file).take(LOOSE_BYTES_MAX);
    match std::io::copy(&mut inflated, &mut std::io::sink()) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = format!("object {oid} ends too early or is no object: {error}");
            Err(ReplicaError::Corrupt { place: repo.path().display().to_string(), text })
        }
    }
}

/// The schema files of a commit.
pub(crate) fn read_files(repo: &Repository, commit: Oid, limits: Limits) -> Result<Files, ReplicaError> {
    let failed = ReplicaError::git(repo.path(), "read the revision");
    whole(repo, commit)?;
    whole(repo, repo.find_commit(commit).map_err(&failed)?.tree_id())?;
    let tree = repo.find_commit(commit).and_then(|commit| commit.tree()).map_err(&failed)?;
    let mut reader = Reader::new(limits);
    walk_tree(&mut reader, repo, &tree, "", 0)?;
    Ok(reader.files)
}

fn walk_tree(
    reader: &mut Reader,
    repo: &Repository,
    tree: &Tree<'_>,
    prefix: &str,
    depth: u64,
) -> Result<(), ReplicaError> {
    let failed = ReplicaError::git(repo.path(), "read the revision");
    for entry in tree {
        reader.entry(depth)?;
        let Ok(name) = entry.name() else {
            let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
            return Err(ReplicaError::BadPath { path: join(prefix, &name) });
        };
        let path = join(prefix, name);
        match entry.kind() {
            Some(ObjectType::Tree) if !name.starts_with('.') => {
                whole(repo, entry.id())?;
                let subtree = repo.find_tree(entry.id()).map_err(&failed)?;
                walk_tree(reader, repo, &subtree, &path, depth + 1)?;
            }
            // A symbolic link is a blob too, told apart by its mode.
            Some(ObjectType::Blob) if is_schema(&path) && entry.filemode() != 0o120_000 => {
                whole(repo, entry.id())?;
                let (size_bytes, _) =
                    repo.odb().and_then(|odb| odb.read_header(entry.id())).map_err(&failed)?;
                reader.room(&path, size_bytes as u64)?;
                let blob = repo.find_blob(entry.id()).map_err(&failed)?;
                reader.files.insert(path, blob.content().to_vec());
            }
            _ => {}
        }
    }
    Ok(())
}

fn history_length(repo: &Repository, oid: Oid) -> Result<u64, git2::Error> {
    let mut walk = repo.revwalk()?;
    walk.push(oid)?;
    walk.try_fold(0, |length, commit| commit.map(|_| length + 1))
}

/// A commit with its files. Whether it is forced is for the caller to find out.
pub(crate) fn read_candidate(repo: &Repository, oid: Oid, limits: Limits) -> Result<Candidate, ReplicaError> {
    let files = read_files(repo, oid, limits)?;
    let commit = repo.find_commit(oid).map_err(ReplicaError::git(repo.path(), "read the revision"))?;
    let generation =
        history_length(repo, oid).map_err(ReplicaError::git(repo.path(), "count the revision's history"))?;
    let author = commit.author();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Candidate {
        revision: oid.into(),
        files,
        forced: false,
        author: format!("{} <{}>", text(author.name_bytes()), text(author.email_bytes())),
        subject: commit.summary_bytes().map(text).unwrap_or_default(),
        time_s: commit.time().seconds(),
        generation,
    })
}

#[cfg(test)]
mod tests {
    use super::is_schema;

    #[test]
    fn schema_files_and_mail_templates_are_read_and_nothing_else() {
        for read in
            ["kinetic.hcl", "a/b.hcl", "customers/acme/templates/html.j2", "customers/acme/templates/slip.j2"]
        {
            assert!(is_schema(read), "{read}");
        }
        for other in [
            ".hidden.hcl",
            "a.txt",
            "html.j2",
            "templates/html.j2",
            "customers/templates/html.j2",
            "customers/acme/html.j2",
            "customers/acme/templates/.html.j2",
            "customers/acme/templates/deep/html.j2",
            "x/customers/acme/templates/html.j2",
            "customers/acme/templates/html.txt",
        ] {
            assert!(!is_schema(other), "{other}");
        }
    }
}
