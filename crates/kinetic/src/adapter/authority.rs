//! The folder of a certificate authority: its certificate and key, an index of what it has issued, and the list of what was
//! revoked.
//!
//! ```text
//! DIR (mode 700)   ca.pem   ca.key (mode 600)   index.json   crl.pem   lock
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::adapter::file;
use crate::ca::{Authority, Issued};
use crate::node::hex;

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
const INDEX: &str = "index.json";
const REVOCATIONS: &str = "crl.pem";
/// Mode of what everybody may read.
const PUBLIC: u32 = 0o644;

/// What was issued. Moments are seconds since the Unix epoch.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    /// Name of the authority.
    pub(crate) name: String,
    /// Its last second.
    pub(crate) expires_s: i64,
    /// Revocation lists made so far.
    revocation_lists: u64,
    /// In the order in which they were issued.
    pub(crate) issued: Vec<Entry>,
}

/// One certificate.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Its common name: a client's login, or a broker's first name.
    pub(crate) name: String,
    /// Client or broker.
    pub(crate) kind: Kind,
    /// Serial number, hexadecimal.
    pub(crate) serial: String,
    /// SHA-256 of the certificate, hexadecimal.
    pub(crate) sha256: String,
    /// When it was made.
    pub(crate) issued_s: i64,
    /// Its last second.
    pub(crate) expires_s: i64,
    /// When it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_s: Option<i64>,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A client.
    Client,
    /// A broker.
    Server,
}

/// An opened folder, for this process alone.
pub(crate) struct Folder {
    dir: PathBuf,
    /// What it has issued.
    pub(crate) index: Index,
    _lock: File,
}

impl Folder {
    /// Makes the folder of a new authority; one that is there must be empty.
    pub(crate) fn create(
        dir: &Path,
        name: &str,
        authority: &Authority,
        own: &Issued,
        now_s: i64,
    ) -> Result<Self> {
        if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{} is not empty: an authority gets a folder of its own", dir.display());
        }
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(dir);
        made.and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)))
            .with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let lock = lock(dir)?;
        let key = own.key.as_ref().context("a new authority has a key")?;
        file::write_secret(&dir.join(KEY), key.trim_end())?;
        write_public(&dir.join(CERTIFICATE), &own.pem)?;
        let expires_s = authority.expires_s();
        let index = Index { name: name.to_owned(), expires_s, revocation_lists: 0, issued: Vec::new() };
        let mut folder = Self { dir: dir.to_owned(), index, _lock: lock };
        folder.list_revoked(authority, now_s)?;
        Ok(folder)
    }

    /// Opens it, without the key.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let text = file::read_text(&dir.join(INDEX))
            .with_context(|| format!("{} is no folder of `kinetic ca init`", dir.display()))?;
        let lock = lock(dir)?;
        let index = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged", dir.join(INDEX).display()))?;
        Ok(Self { dir: dir.to_owned(), index, _lock: lock })
    }

    /// The authority, with its key.
    pub(crate) fn authority(&self) -> Result<Authority> {
        let key = file::read_secret_text(&self.dir.join(KEY))?;
        Authority::read(&self.certificate()?, &key, self.index.expires_s)
    }

    /// The authority's certificate, PEM.
    pub(crate) fn certificate(&self) -> Result<String> {
        file::read_text(&self.dir.join(CERTIFICATE))
    }

    /// Where the revocation list is.
    pub(crate) fn revocations(&self) -> PathBuf {
        self.dir.join(REVOCATIONS)
    }

    /// Notes a certificate, before anybody gets it.
    pub(crate) fn note(&mut self, name: &str, kind: Kind, issued: &Issued, now_s: i64) -> Result<()> {
        self.index.issued.push(Entry {
            name: name.to_owned(),
            kind,
            serial: hex(&issued.serial),
            sha256: hex(&issued.sha256),
            issued_s: now_s,
            expires_s: issued.expires_s,
            revoked_s: None,
        });
        self.save()
    }

    /// Revokes all certificates of a client that are not revoked yet, and makes the list anew. Returns how many those were.
    pub(crate) fn revoke(&mut self, authority: &Authority, name: &str, now_s: i64) -> Result<usize> {
        let of_name = |entry: &&mut Entry| entry.kind == Kind::Client && entry.name == name;
        let mut count = 0;
        for entry in self.index.issued.iter_mut().filter(of_name).filter(|entry| entry.revoked_s.is_none()) {
            entry.revoked_s = Some(now_s);
            count += 1;
        }
        self.list_revoked(authority, now_s)?;
        Ok(count)
    }

    /// Writes the revocation list, and then that it was.
    fn list_revoked(&mut self, authority: &Authority, now_s: i64) -> Result<()> {
        let revoked = self.index.issued.iter().filter_map(|entry| Some((&entry.serial, entry.revoked_s?)));
        let revoked = revoked.map(|(serial, at_s)| {
            let serial =
                u128::from_str_radix(serial, 16).context("a serial number of the index is damaged")?;
            Ok((serial.to_be_bytes(), at_s))
        });
        let revoked = revoked.collect::<Result<Vec<_>>>()?;
        self.index.revocation_lists += 1;
        let list = authority.revocations(&revoked, self.index.revocation_lists, now_s)?;
        self.save()?;
        write_public(&self.revocations(), &list)
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.index)? + "\n";
        file::write_atomically(&self.dir.join(INDEX), text.as_bytes())
    }
}

/// Writes a file that everybody may read, whole or not at all.
pub(crate) fn write_public(path: &Path, text: &str) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot_write = || format!("cannot write {}", path.display());
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(PUBLIC))
        .tempfile_in(dir)
        .with_context(cannot_write)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).with_context(cannot_write)?;
    // The process's umask has been at work.
    file.as_file().set_permissions(fs::Permissions::from_mode(PUBLIC)).with_context(cannot_write)?;
    file.persist(path).map_err(|error| error.error).with_context(cannot_write)?;
    Ok(())
}

/// Two commands at once would issue one name twice.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.with_context(|| format!("cannot write {}", path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(lock)
}
