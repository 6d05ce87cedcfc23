//! The git program, in a checkout that somebody works in: with his configuration, his keys and his terminal.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Whether a folder lies in a work tree of git.
pub(crate) fn is_work_tree(dir: &Path) -> bool {
    let mut git = command(dir, &["rev-parse", "--is-inside-work-tree"]);
    let asked = git.stdin(Stdio::null()).stderr(Stdio::null()).output();
    asked.is_ok_and(|asked| asked.status.success() && asked.stdout.starts_with(b"true"))
}

/// Commits these paths, and nothing else that is staged.
pub(crate) fn commit(dir: &Path, paths: &[String], message: &str) -> Result<()> {
    let words = |head: &[&str]| -> Vec<String> {
        let head = head.iter().map(|word| (*word).to_owned());
        head.chain(["--".to_owned()]).chain(paths.iter().cloned()).collect()
    };
    run(dir, &words(&["add"]))?;
    run(dir, &words(&["commit", "--quiet", "--message", message]))
}

/// Pushes what is committed to where the branch goes.
pub(crate) fn push(dir: &Path) -> Result<()> {
    run(dir, &["push"])
}

/// Runs it to its end. It may ask for a passphrase, so that nobody can say how long that takes.
fn run<S: AsRef<str>>(dir: &Path, words: &[S]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let shown = words.first().copied().unwrap_or_default();
    let status = command(dir, &words).status().context("the git program cannot be run")?;
    if !status.success() {
        bail!("git {shown} has failed ({status}); what was written stands in {}", dir.display());
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "it is waited for, with the terminal of whoever typed the command"
)]
fn command(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(words);
    command
}
