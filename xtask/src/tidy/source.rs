//! Rules about files: every module introduces itself, none is too long, none leaves work or a machine's path behind.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::shell::{command, output, read_lossy};

/// Lines of a file before someone asks why.
const LINES_MAX: usize = 600;

/// Files that may be longer, each with the reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// What marks unfinished work. Written in two parts, so that this file does not find itself.
const LEFTOVERS: [&str; 5] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
];

/// Folders of the machines on which this was built; a path of one helps nobody elsewhere.
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Text files that are looked at beside Rust.
const TEXT_ENDINGS: [&str; 12] =
    ["md", "toml", "hcl", "json", "sh", "yml", "yaml", "txt", "py", "snap", "html", "conf"];

/// A text file of the repository.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// From the repository's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All text files that are committed, or would be.
pub(crate) fn files(root: &Path) -> Result<Vec<File>> {
    let listed = output(command("git", &["ls-files", "--cached", "--others", "--exclude-standard", "-z"]))?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        let full: PathBuf = root.join(path);
        if full.is_file() && is_text(path) {
            files.push(File { path: path.to_owned(), text: read_lossy(&full)? });
        }
    }
    Ok(files)
}

fn is_text(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    // Inputs kept for the fuzz targets are data, whatever they are called.
    !path.starts_with("fuzz/seeds/")
        && match name.rsplit_once('.') {
            Some((_, ending)) => ending == "rs" || TEXT_ENDINGS.contains(&ending),
            None => name == "run",
        }
}

/// All problems.
pub(crate) fn check(files: &[File]) -> Vec<String> {
    let mut problems: Vec<String> = files.iter().flat_map(check_one).collect();
    for (path, _) in LONG_FILES {
        if !files.iter().any(|file| file.path == path && file.text.lines().count() > LINES_MAX) {
            problems
                .push(format!("{path} is not too long any more: take it out of xtask/src/tidy/source.rs"));
        }
    }
    problems
}

fn check_one(file: &File) -> Vec<String> {
    let File { path, text } = file;
    let mut problems = Vec::new();
    let is_rust = Path::new(path).extension().is_some_and(|ending| ending == "rs");
    if is_rust {
        if !introduces_itself(text) {
            problems
                .push(format!("{path}:1: a file begins with `//!` and says in a sentence what it is for"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX && !LONG_FILES.iter().any(|(long, _)| long == path) {
            problems.push(format!(
                "{path}: {lines} lines; split it, or give xtask/src/tidy/source.rs the reason"
            ));
        }
    }
    for (number, line) in text.lines().enumerate() {
        let at = format!("{path}:{}", number + 1);
        if is_rust && let Some(leftover) = LEFTOVERS.iter().find(|leftover| line.contains(**leftover)) {
            problems.push(format!("{at}: `{leftover}` is unfinished work"));
        }
        if let Some(found) = MACHINE_PATHS.iter().find(|found| names_path(line, found)) {
            problems.push(format!("{at}: `{found}…` is a path of one machine"));
        }
    }
    problems
}

/// Whether the first line that is neither blank nor an attribute of the file is a `//!`.
fn introduces_itself(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#!"));
    first.is_none_or(|line| line.starts_with("//!") && line.len() > 4)
}

/// Whether an absolute path begins with `found`: `/a/` in `x/a/y` or `https://host/a/` is none.
fn names_path(line: &str, found: &str) -> bool {
    line.match_indices(found).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/~}".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        check_one(&File { path: path.into(), text: text.into() })
    }

    #[test]
    fn a_good_file_passes() {
        let text = "#![no_std]\n//! What it is for.\nfn f() { let a = \"https://x/work/y ../work/z\"; }\n";
        assert_eq!(problems("a.rs", text), Vec::<String>::new());
        assert_eq!(problems("a.md", "no heading needed, and a todo\n"), Vec::<String>::new());
    }

    #[test]
    fn each_offence_is_found() {
        assert!(problems("a.rs", "fn f() {}\n")[0].contains("//!"));
        assert!(problems("a.rs", "//!\nfn f() {}\n")[0].contains("//!"));
        let left = format!("//! What.\nfn f() {{ {}) }}\n", LEFTOVERS[0]);
        assert!(problems("a.rs", &left)[0].contains("a.rs:2"));
        assert!(problems("a.md", &format!("see `{}x`\n", MACHINE_PATHS[0]))[0].contains("a.md:1"));
        let long = format!("//! What.\n{}", "\n".repeat(LINES_MAX));
        assert!(problems("a.rs", &long)[0].contains("601 lines"));
    }
}
