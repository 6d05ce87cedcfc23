//! `kinetic hook pre-receive`: what is pushed is checked first, and a customer's own push changes no more than is the customer's.

mod owned;
mod paths;

use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use kinetic_replica::Files;
use kinetic_schema::{Diagnostic, DiagnosticSeverity, Loaded, Schema};

use crate::adapter::clock;
use crate::cmd::check::WIDTH;
use crate::{BadConfig, exit, term};

/// The variable in which an ssh forced command, or the web server, says whose push this is.
const CUSTOMER: &str = "KINETIC_CUSTOMER";
/// Lines that are read of what git tells a hook; more refs than that are in no honest push.
const REFS_MAX: usize = 10_000;

/// What a push wants to change.
struct Change {
    old: String,
    new: String,
    name: String,
}

impl Change {
    fn is_nothing(commit: &str) -> bool {
        commit.bytes().all(|digit| digit == b'0')
    }
}

/// Standard input has a line `old new ref` for each ref that a push wants to change.
pub(crate) fn pre_receive(branch: &str, customer: Option<String>) -> Result<u8> {
    let customer = whose(customer)?;
    let wanted = format!("refs/heads/{branch}");
    let changes = read(std::io::stdin().lock())?;
    let refusals = match &customer {
        None => by_operator(&changes, &wanted)?,
        Some(customer) => by_customer(&changes, &wanted, customer)?,
    };
    if refusals.is_empty() {
        return Ok(0);
    }
    let mut stderr = std::io::stderr().lock();
    for refusal in refusals {
        writeln!(stderr, "kinetic: {refusal}")?;
    }
    writeln!(stderr, "kinetic: refused, nothing has changed; mend it, commit and push again")?;
    Ok(exit::NO)
}

/// Whose push this is; everybody's who may do everything if nobody says. Whatever is unclear is refused.
#[expect(clippy::disallowed_methods, reason = "git hands a hook nothing else of who pushes")]
fn whose(said: Option<String>) -> Result<Option<String>> {
    let inherited = match std::env::var(CUSTOMER) {
        Ok(name) => Some(name),
        Err(std::env::VarError::NotPresent) => None,
        Err(std::env::VarError::NotUnicode(_)) => {
            bail!(BadConfig(format!("{CUSTOMER} is no customer's name")))
        }
    };
    let customer = match (said, inherited) {
        (Some(said), Some(inherited)) if said != inherited => {
            bail!(BadConfig(format!("--customer says `{said}`, and {CUSTOMER} says `{inherited}`")))
        }
        (said, inherited) => said.or(inherited),
    };
    let named = |name: &str| {
        !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    if customer.as_deref().is_some_and(|name| !named(name)) {
        bail!(BadConfig(format!("{CUSTOMER} is no customer's name")));
    }
    Ok(customer)
}

fn read(lines: impl BufRead) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for line in lines.lines() {
        let line = line?;
        let mut words = line.splitn(3, ' ');
        let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else {
            bail!("git gave this hook `{line}` instead of `old new ref`");
        };
        if changes.len() == REFS_MAX {
            bail!("the push changes more than {REFS_MAX} refs");
        }
        changes.push(Change { old: old.to_owned(), new: new.to_owned(), name: name.to_owned() });
    }
    Ok(changes)
}

/// Anybody who looks after the installation: all that he pushes to the branch checks.
fn by_operator(changes: &[Change], wanted: &str) -> Result<Vec<String>> {
    let mut refusals = Vec::new();
    for change in changes.iter().filter(|change| change.name == wanted) {
        if Change::is_nothing(&change.new) {
            refusals.push(format!("{wanted} is what every node follows and cannot be deleted"));
            continue;
        }
        let files = kinetic_replica::read_revision(Path::new("."), &change.new)?;
        let Loaded { schema, diagnostics } = kinetic_schema::load(&files);
        tell(&diagnostics, &files)?;
        if schema.is_none() {
            refusals.push("the schema does not check".to_owned());
        }
    }
    Ok(refusals)
}

/// A customer: one branch, forward, its own folder, and nothing in it that is the operator's to say.
fn by_customer(changes: &[Change], wanted: &str, customer: &str) -> Result<Vec<String>> {
    let here = Path::new(".");
    let mut refusals: Vec<String> = changes
        .iter()
        .filter(|change| change.name != wanted)
        .map(|change| {
            format!("{}: customer {customer} may push to {wanted} alone", change.name.escape_debug())
        })
        .collect();
    for Change { old, new, .. } in changes.iter().filter(|change| change.name == wanted) {
        if Change::is_nothing(new) || Change::is_nothing(old) {
            refusals.push(format!(
                "{wanted} is what every node follows: it can be neither deleted nor begun anew"
            ));
            continue;
        }
        if !kinetic_replica::descends(here, new, old)? {
            refusals.push(format!(
                "{wanted} only goes forward: git pull --rebase, and push again without --force"
            ));
            continue;
        }
        refusals.extend(paths::refusals(customer, &kinetic_replica::changes(here, old, new)?));
        let folder = format!("customers/{customer}");
        refusals.extend(paths::too_much(customer, &kinetic_replica::contents(here, new, &folder)?));
        // What is in the way of reading it is not read.
        if refusals.is_empty() {
            refusals.extend(contents(customer, old, new)?);
        }
    }
    Ok(refusals)
}

/// What the text of a customer's push says that it may not say.
fn contents(customer: &str, old: &str, new: &str) -> Result<Vec<String>> {
    let here = Path::new(".");
    let (old, files) =
        (kinetic_replica::read_revision(here, old)?, kinetic_replica::read_revision(here, new)?);
    let before: Schema = kinetic_schema::load(&old)
        .schema
        .context("what stands in the repository does not check: whoever looks after it mends it first")?;
    let Loaded { schema, diagnostics } = kinetic_schema::load_at(&files, Some(clock::now().wall));
    let (shown, hidden) = own(customer, diagnostics);
    tell(&shown, &files)?;
    let Some(after) = schema else {
        let mut refusals = vec!["the schema does not check".to_owned()];
        if hidden {
            refusals.push(format!(
                "customers/{customer}/ is at odds with something outside of it, which is not shown; ask whoever looks after the installation"
            ));
        }
        return Ok(refusals);
    };
    Ok(owned::refusals(customer, &before, &after, &files))
}

/// Of all that the check says, what concerns a customer, without a word of another's text; and whether an error is left out.
fn own(customer: &str, all: Vec<Diagnostic>) -> (Vec<Diagnostic>, bool) {
    let folder = format!("customers/{customer}/");
    let concerns = |told: &Diagnostic| {
        told.file.starts_with(&folder) && told.related.iter().all(|related| related.file.starts_with(&folder))
    };
    let (shown, hidden): (Vec<_>, Vec<_>) = all.into_iter().partition(concerns);
    (shown, hidden.iter().any(|told| told.severity == DiagnosticSeverity::Error))
}

fn tell(diagnostics: &[Diagnostic], files: &Files) -> Result<()> {
    let said = kinetic_schema::render(diagnostics, files, false, WIDTH);
    std::io::stderr().lock().write_all(term::plain(&said).as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_hears_nothing_of_another() {
        let text = |name: &str, user: &str| {
            format!(
                "customer \"{name}\" {{\n  region = region.local\n  user \"{user}\" {{\n    password = \
                 \"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\n  }}\n}}\n"
            )
        };
        let files = Files::from([
            ("kinetic.hcl".to_owned(), b"region \"local\" {}\n".to_vec()),
            ("customers/acme/customer.hcl".to_owned(), text("acme", "ceo@globex.example").into_bytes()),
            ("customers/globex/customer.hcl".to_owned(), text("globex", "ceo@globex.example").into_bytes()),
            ("customers/acme/more.hcl".to_owned(), b"sauce \"web\" {}\n".to_vec()),
        ]);
        for name in ["acme", "globex"] {
            let (shown, hidden) = own(name, kinetic_schema::load(&files).diagnostics);
            let codes: Vec<&str> = shown.iter().map(|told| told.code).collect();
            assert_eq!((codes.contains(&"unknown-block"), hidden), (name == "acme", true), "{codes:?}");
            assert!(!codes.contains(&"duplicate-name"), "{codes:?}");
        }
    }

    #[test]
    fn lines_of_git_are_read_whole() {
        let changes = read("0 1 refs/heads/a b\n2 3 refs/tags/x\n".as_bytes()).expect("two lines");
        assert_eq!((changes[0].name.as_str(), changes[1].new.as_str()), ("refs/heads/a b", "3"));
        assert!(read("0 1\n".as_bytes()).is_err());
    }
}
