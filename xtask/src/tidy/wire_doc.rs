//! `docs/wire.md` carries the hash of the messages that it explains: whoever changes one looks at the other.

use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::shell::{read, say};

const DOC: &str = "docs/wire.md";
const MESSAGES: &str = "crates/kinetic-wire/src/message.rs";
const BEGIN: &str = "<!-- sha256 of crates/kinetic-wire/src/message.rs: ";
const END: &str = " -->";

/// All problems.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    if !root.join(DOC).exists() {
        return Ok(vec![format!("{DOC} is missing: it explains {MESSAGES}")]);
    }
    Ok(check_text(&read(&root.join(DOC))?, &hash(root)?))
}

fn check_text(doc: &str, hash: &str) -> Vec<String> {
    match doc.lines().find_map(|line| line.strip_prefix(BEGIN)?.strip_suffix(END)) {
        None => vec![format!("{DOC} needs the line `{BEGIN}…{END}`: cargo xtask tidy --write adds it")],
        Some(stated) if stated == hash => Vec::new(),
        Some(_) => vec![format!(
            "{MESSAGES} has changed: bring {DOC} up to date with it, then run cargo xtask tidy --write"
        )],
    }
}

/// Brings the line up to date, adding it at the end if it is not there.
pub(crate) fn write_hash(doc: &str, hash: &str) -> String {
    let wanted = format!("{BEGIN}{hash}{END}");
    let mut found = false;
    let mut lines: Vec<&str> = Vec::new();
    for line in doc.lines() {
        let is_hash = line.starts_with(BEGIN);
        found |= is_hash;
        lines.push(if is_hash { &wanted } else { line });
    }
    if !found {
        lines.push(&wanted);
    }
    lines.join("\n") + "\n"
}

/// Rewrites the document.
pub(crate) fn write(root: &Path) -> Result<()> {
    let path = root.join(DOC);
    let doc = read(&path).context("write it first")?;
    let updated = write_hash(&doc, &hash(root)?);
    if updated != doc {
        crate::shell::write(&path, &updated)?;
        say(&format!("{DOC}: hash of the messages brought up to date\n"));
    }
    Ok(())
}

fn hash(root: &Path) -> Result<String> {
    let digest = Sha256::digest(read(&root.join(MESSAGES))?.as_bytes());
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_either_alone_is_found_and_write_repairs_it() {
        let doc = write_hash("# Wire\n", "aa");
        assert_eq!(check_text(&doc, "aa"), Vec::<String>::new());
        assert!(check_text(&doc, "bb")[0].contains("has changed"));
        assert!(check_text("# Wire\n", "aa")[0].contains("needs the line"));
        assert_eq!(check_text(&write_hash(&doc, "bb"), "bb"), Vec::<String>::new());
        assert_eq!(write_hash(&doc, "aa"), doc);
    }
}
