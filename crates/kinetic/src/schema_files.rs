//! Schema text for commands: from a folder, from a repository, and the one that `kinetic schema init` begins with.

use std::path::Path;

use anyhow::{Context, Result, bail};
use kinetic_replica::Files;
use kinetic_schema::{Loaded, Schema};

use crate::term;

/// The files of a schema folder, or of the head of a repository (a path or an URL).
pub(crate) fn read(place: &str) -> Result<Files> {
    let path = Path::new(place);
    let is_bare = path.join("HEAD").is_file() && path.join("objects").is_dir();
    if path.is_dir() && !is_bare {
        return Ok(kinetic_replica::read_dir(path)?);
    }
    if is_bare {
        return Ok(kinetic_replica::read_revision(path, "main")?);
    }
    if path.exists() || !place.contains(':') {
        bail!("{place} is no schema folder and no repository");
    }
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let config = kinetic_replica::ReplicaConfig::new(place, dir.path().join("schema.git"));
    let mut replica = kinetic_replica::Replica::open(config)?;
    let candidate = replica.fetch()?.with_context(|| format!("{place} has no revision on main"))?;
    Ok(candidate.files)
}

/// The checked schema of a place; its problems, rendered, as an error.
pub(crate) fn load(place: &str) -> Result<Schema> {
    let files = read(place)?;
    let Loaded { schema, diagnostics } = kinetic_schema::load(&files);
    schema.with_context(|| {
        format!(
            "the schema in {place} does not check:\n{}",
            kinetic_schema::render(&diagnostics, &files, term::is_fancy(), 100)
        )
    })
}
