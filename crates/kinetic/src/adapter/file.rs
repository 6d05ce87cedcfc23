//! Files, with their path in every error.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use kinetic_amqp::Secret;
use zeroize::Zeroizing;

/// A whole file as text.
#[expect(clippy::disallowed_methods, reason = "this is the adapter that the others are sent to")]
pub(crate) fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A secret of many lines, all of a file that only its owner may read. Its memory is overwritten when it goes.
pub(crate) fn read_secret_text(path: &Path) -> Result<Zeroizing<String>> {
    let mode =
        fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!(
            "{} holds a secret and others can read it (mode {:03o}): chmod 600 it",
            path.display(),
            mode & 0o777
        );
    }
    read_text(path).map(Zeroizing::new)
}

/// A secret: first line of a file that only its owner may read.
pub(crate) fn read_secret(path: &Path) -> Result<Secret> {
    let text = read_secret_text(path)?;
    let secret = text.lines().next().unwrap_or_default().trim();
    if secret.is_empty() {
        bail!("{} should hold a secret on its first line and is empty", path.display());
    }
    Ok(Secret::new(secret))
}

/// Writes a file so that a crash leaves the old content or the new, never a part.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("path has no folder")?;
    let mut file =
        tempfile::NamedTempFile::new_in(dir).with_context(|| format!("cannot write in {}", dir.display()))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).with_context(|| cannot_write(path))?;
    file.persist(path).map_err(|error| error.error).with_context(|| cannot_write(path))?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| cannot_write(path))
}

/// The secret in `path`, made by `make` and stored with mode 600 if the file does not exist yet.
pub(crate) fn secret_or_new(path: &Path, make: impl FnOnce() -> String) -> Result<Secret> {
    if path.exists() {
        return read_secret(path);
    }
    let secret = Secret::new(make());
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| cannot_write(path))?;
    writeln!(file, "{}", secret.expose())
        .and_then(|()| file.sync_all())
        .with_context(|| cannot_write(path))?;
    Ok(secret)
}

/// A secret of ours in a file that only its owner may read, whatever was there before.
pub(crate) fn write_secret(path: &Path, secret: &str) -> Result<()> {
    // Temporary files are made with mode 600, and keep it when they are moved into place.
    write_atomically(path, format!("{secret}\n").as_bytes())
}

/// A secret of ours in a new file that only its owner may read.
pub(crate) fn write_new_secret(path: &Path, secret: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}, which has to be a new file", path.display()))?;
    file.write_all(secret.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .with_context(|| cannot_write(path))
}

/// Writes a file that others may read as they could before, so that a crash leaves the old content or the new.
pub(crate) fn write_shared(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("path has no folder")?;
    make_dir(dir)?;
    let mode = fs::metadata(path).map_or(0o644, |found| found.permissions().mode() & 0o777);
    write_atomically(path, bytes)?;
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).with_context(|| cannot_write(path))
}

/// Makes a folder and those above it.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Makes a folder that only its owner may enter, where there is none yet.
pub(crate) fn make_private_dir(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Lets everybody read a file.
pub(crate) fn set_public(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).with_context(|| cannot_write(path))
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}
