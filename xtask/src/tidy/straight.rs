//! The straight line of ARCHITECTURE.md: every name in it exists in the code. A drawing without a check drifts.

use std::path::Path;

use anyhow::Result;

use super::index::Index;
use crate::shell::read;

const FILE: &str = "ARCHITECTURE.md";
const HEADING: &str = "The straight line";
/// Fewer names than this are no line from an agent to a mail: the block was lost or renamed.
const NAMES_MIN: usize = 15;
/// Types that every machine has its own of.
const PER_MACHINE: [&str; 2] = ["Input", "Effect"];

/// All problems.
pub(crate) fn check(root: &Path, index: &Index) -> Result<Vec<String>> {
    let path = root.join(FILE);
    if !path.exists() {
        return Ok(vec![format!(
            "{FILE} is missing: it holds the straight line, from a datagram to an e-mail"
        )]);
    }
    Ok(check_text(&read(&path)?, index))
}

fn check_text(text: &str, index: &Index) -> Vec<String> {
    let Some((first_line, block)) = block(text) else {
        return vec![format!("{FILE} needs a heading \"{HEADING}\" with a ```text block under it")];
    };
    let mut problems = Vec::new();
    let mut names = 0;
    for stanza in stanzas(&block) {
        // `X::handle` says whose Input and Effect the stanza means; without it, they may be any machine's.
        let machine =
            stanza.iter().flat_map(|(_, line)| paths(line)).find_map(|path| machine_of(&path, index));
        for (number, line) in stanza {
            for path in paths(line) {
                names += 1;
                if !exists(&path, machine.as_deref(), index) {
                    let written = path.join("::");
                    let at = first_line + number;
                    problems.push(match (&machine, PER_MACHINE.contains(&path[0])) {
                        (Some(machine), true) => {
                            format!("{FILE}:{at}: `{written}` is not in kinetic-{machine}")
                        }
                        _ => format!("{FILE}:{at}: `{written}` is not in the code"),
                    });
                }
            }
        }
    }
    if names < NAMES_MIN {
        problems.push(format!("{FILE}: the straight line names only {names} things"));
    }
    problems
}

/// The first line's number and the lines of the block.
fn block(text: &str) -> Option<(usize, Vec<&str>)> {
    let mut lines = text.lines().enumerate();
    lines.find(|(_, line)| line.starts_with('#') && line.trim_start_matches('#').trim().contains(HEADING))?;
    let (fence, _) = lines
        .by_ref()
        .take_while(|(_, line)| !line.starts_with('#'))
        .find(|(_, line)| line.trim_end() == "```text")?;
    let block: Vec<&str> = lines.map(|(_, line)| line).take_while(|line| line.trim_end() != "```").collect();
    Some((fence + 2, block))
}

/// Groups of lines; a line that begins in the first column begins one.
fn stanzas<'b>(block: &[&'b str]) -> Vec<Vec<(usize, &'b str)>> {
    let mut stanzas: Vec<Vec<(usize, &str)>> = Vec::new();
    for (number, line) in block.iter().enumerate() {
        let begins = line.starts_with(|c: char| !c.is_whitespace());
        match stanzas.last_mut() {
            Some(last) if !begins => last.push((number, line)),
            _ => stanzas.push(vec![(number, line)]),
        }
    }
    stanzas
}

/// The `a::b` paths of a line.
fn paths(line: &str) -> Vec<Vec<&str>> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .map(|word| word.trim_matches(':'))
        .filter(|word| word.contains("::"))
        .map(|word| word.strip_prefix("kinetic_").unwrap_or(word).split("::").collect())
        .collect()
}

fn machine_of(path: &[&str], index: &Index) -> Option<String> {
    let (name, _) = path.split_last().filter(|(name, _)| **name == "handle")?;
    debug_assert_eq!(*name, "handle");
    index.find(path).first().map(|item| item.path[0].clone())
}

fn exists(path: &[&str], machine: Option<&str>, index: &Index) -> bool {
    let found = index.find(path);
    match machine {
        Some(machine) if PER_MACHINE.contains(&path[0]) => found.iter().any(|item| item.path[0] == machine),
        _ => !found.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::File;
    use super::*;

    fn index() -> Index {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        Index::of(&[
            file(
                "crates/kinetic-agent/src/machine.rs",
                "pub enum Input {\n    Datagram,\n}\nimpl Agent {\n    pub fn handle(&mut self) {}\n}\n",
            ),
            file(
                "crates/kinetic-alert/src/machine.rs",
                "pub enum Input {\n    Appended,\n}\nimpl Alert {\n    pub fn handle(&mut self) {}\n}\n",
            ),
        ])
    }

    fn problems(block: &str) -> Vec<String> {
        let text = format!("# A\n\n## The straight line\n\nWords.\n\n```text\n{block}\n```\n");
        let mut problems = check_text(&text, &index());
        assert!(problems.pop().is_some_and(|last| last.contains("only")), "these blocks are all too short");
        problems
    }

    #[test]
    fn names_that_exist_pass() {
        let block = "edge   Input::Datagram ─▶ Agent::handle\n\
                     alert  Input::Appended{seq} ─▶ Alert::handle(&Schema)\nshell  ─▶ Input::Datagram kinetic_agent::machine";
        assert_eq!(problems(block), Vec::<String>::new());
    }

    #[test]
    fn a_renamed_function_fails_at_its_line() {
        let found = problems("edge   Input::Datagram\n       ─▶ Agent::hundle");
        assert_eq!(found, ["ARCHITECTURE.md:9: `Agent::hundle` is not in the code"]);
    }

    #[test]
    fn an_input_of_another_machine_fails() {
        let found = problems("alert  Input::Datagram ─▶ Alert::handle");
        assert_eq!(found, ["ARCHITECTURE.md:8: `Input::Datagram` is not in kinetic-alert"]);
    }

    #[test]
    fn a_lost_block_fails() {
        for text in ["# A\n", "## The straight line\n\n## Next\n```text\nx\n```\n"] {
            assert!(check_text(text, &index())[0].contains("```text"), "{text}");
        }
    }
}
