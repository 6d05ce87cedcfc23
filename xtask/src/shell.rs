//! Running other programs, and the few things that chores share.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The repository's root: the folder above this package.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("xtask stands in the repository's root").to_owned()
}

/// Prints; a closed terminal is nobody's problem.
pub(crate) fn say(text: &str) {
    std::io::stdout().lock().write_all(text.as_bytes()).ok();
}

/// A program to be run in the repository's root.
#[expect(clippy::disallowed_methods, reason = "running programs is what chores do; each is awaited at once")]
pub(crate) fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// The cargo that runs this.
pub(crate) fn cargo(args: &[&str]) -> Command {
    // Cargo tells the programs it runs which cargo it is; without it, whichever is found.
    #[expect(clippy::disallowed_methods, reason = "cargo's own interface to what it runs")]
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    command(&program, args)
}

/// Runs to the end; fails if the program does.
pub(crate) fn call(mut command: Command) -> Result<()> {
    let shown = show(&command);
    say(&format!("$ {shown}\n"));
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    ensure!(status.success(), "{shown} failed: {status}");
    Ok(())
}

/// Runs to the end and returns what it printed.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let shown = show(&command);
    let output = command.output().with_context(|| format!("cannot run {shown}"))?;
    ensure!(
        output.status.success(),
        "{shown} failed: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).with_context(|| format!("{shown} printed no UTF-8"))
}

/// A text file.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where chores read files; the path is in the error"
)]
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A text file that may be deliberately broken, as inputs of tests are.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where chores read files; the path is in the error"
)]
pub(crate) fn read_lossy(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a text file.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where chores write files; the path is in the error"
)]
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn show(command: &Command) -> String {
    let name =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let words = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
}
