//! `cargo xtask tidy`: rules of this repository that no compiler knows. Every check returns problems as lines that say
//! where and what to do; all of them are shown at once.

mod deny;
mod graph;
mod index;
mod licence;
mod metadata;
mod source;
mod straight;
mod wire_doc;

use anyhow::{Result, bail};

use crate::shell::{root, say};

/// Whether to repair what can be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Report only.
    Check,
    /// Bring `docs/wire.md` up to date as well.
    Write,
}

/// All checks.
pub(crate) fn run(mode: Mode) -> Result<()> {
    if mode == Mode::Write {
        wire_doc::write(&root())?;
    }
    let problems = problems()?;
    if problems.is_empty() {
        say("tidy: everything is in order\n");
        return Ok(());
    }
    let mut text = String::new();
    for problem in &problems {
        text.push_str("tidy: ");
        text.push_str(problem);
        text.push('\n');
    }
    say(&text);
    bail!("tidy found {} problems", problems.len());
}

fn problems() -> Result<Vec<String>> {
    let root = root();
    let metadata = metadata::Metadata::read()?;
    let files = source::files(&root)?;
    let mut problems = graph::check(&metadata);
    problems.extend(deny::check(&root, &metadata)?);
    problems.extend(source::check(&files));
    problems.extend(straight::check(&root, &index::Index::of(&files))?);
    problems.extend(wire_doc::check(&root)?);
    Ok(problems)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let problems = super::problems().expect("tidy can run");
        assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
    }
}
