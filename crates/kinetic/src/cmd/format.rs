//! `kinetic fmt`: schema files in the usual layout.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::adapter::file;
use crate::{cli, exit, term};

/// Folders that are never walked.
const SKIPPED: [&str; 2] = [".git", "target"];

/// `kinetic fmt`
pub(crate) fn run(args: &cli::Fmt) -> Result<u8> {
    let mut files = Vec::new();
    for path in &args.paths {
        collect(path, true, &mut files)?;
    }
    let mut code = 0;
    for path in &files {
        let text = file::read_text(path)?;
        match kinetic_schema::format(&text) {
            Ok(formatted) if formatted == text => {}
            Ok(_) if args.check => {
                term::say(&format!("{} is not formatted\n", path.display()));
                code = exit::NO;
            }
            Ok(formatted) => {
                file::write_atomically(path, formatted.as_bytes())?;
                term::say(&format!("{}\n", path.display()));
            }
            Err(problem) => {
                let name = path.display().to_string();
                let shown = kinetic_schema::Files::from([(problem.file.clone(), text.into_bytes())]);
                term::say(&format!(
                    "{name}:\n{}",
                    kinetic_schema::render(&[problem], &shown, term::is_fancy(), super::check::WIDTH)
                ));
                code = exit::NO;
            }
        }
    }
    Ok(code)
}

fn collect(path: &Path, named: bool, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut entries = entries.collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let is_link = entry.file_type()?.is_symlink();
            if !is_link && !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                collect(&entry.path(), false, files)?;
            }
        }
    } else if named || path.extension().is_some_and(|extension| extension == "hcl") {
        files.push(path.to_owned());
    }
    Ok(())
}
