//! A checkout of the schema repository that a command changes: read, edited, checked, and only then written.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use kinetic_replica::Files;
use kinetic_schema::edit::{self, EditError, Step};
use kinetic_schema::{Loaded, Schema};
use zeroize::Zeroizing;

use crate::adapter::{clock, file, git};
use crate::cmd::check::WIDTH;
use crate::cmd::schema_repo;
use crate::{BadConfig, cli, term};

/// A checkout.
pub(crate) struct Checkout {
    dir: PathBuf,
    files: Files,
    changed: BTreeSet<String>,
    commit: bool,
    push: bool,
}

impl Checkout {
    /// Reads one, which must pass the check as it stands.
    pub(crate) fn open(args: &cli::Checkout) -> Result<(Self, Schema)> {
        let dir = args.schema.clone();
        if dir.join("objects").is_dir() && dir.join("HEAD").is_file() {
            bail!("{0} is a bare repository: git clone {0}, and work in the clone", dir.display());
        }
        let commit = args.commit || args.push;
        if commit && !git::is_work_tree(&dir) {
            bail!("{} is no checkout of a git repository, so that nothing can be committed", dir.display());
        }
        let files = kinetic_replica::read_dir(&dir)?;
        if files.is_empty() {
            bail!("{} holds no schema: cd to your checkout, or name it with --schema", dir.display());
        }
        let checkout = Self { dir, files, changed: BTreeSet::new(), commit, push: args.push };
        let schema = checkout.checked("before anything is changed")?;
        Ok((checkout, schema))
    }

    fn checked(&self, when: &str) -> Result<Schema> {
        let Loaded { schema, diagnostics } = kinetic_schema::load_at(&self.files, Some(clock::now().wall));
        let said = kinetic_schema::render(&diagnostics, &self.files, false, WIDTH);
        let nothing = format!("nothing was written: the schema does not check {when}\n{said}");
        schema.with_context(|| BadConfig(nothing.trim_end().to_owned()))
    }

    /// Adds a file, which must be new.
    pub(crate) fn add(&mut self, path: &str, text: &str) -> Result<()> {
        if self.files.contains_key(path) || self.dir.join(path).exists() {
            bail!("{} is there already", self.dir.join(path).display());
        }
        self.files.insert(path.to_owned(), text.as_bytes().to_vec());
        self.changed.insert(path.to_owned());
        Ok(())
    }

    /// Changes the file in which a block stands.
    pub(crate) fn edit(
        &mut self,
        block: &[Step<'_>],
        change: impl FnOnce(&str) -> Result<String, EditError>,
    ) -> Result<()> {
        let path = edit::holder(&self.files, block).context("no file holds it")?.to_owned();
        self.edit_file(&path, change)
    }

    /// Changes a file, which is made if it is not there.
    pub(crate) fn edit_file(
        &mut self,
        path: &str,
        change: impl FnOnce(&str) -> Result<String, EditError>,
    ) -> Result<()> {
        let held = self.files.get(path).map(Vec::as_slice).unwrap_or_default();
        let text = std::str::from_utf8(held).with_context(|| format!("{path} is not UTF-8"))?;
        let changed = change(text).with_context(|| format!("cannot change {path}"))?;
        self.files.insert(path.to_owned(), changed.into_bytes());
        self.changed.insert(path.to_owned());
        Ok(())
    }

    /// Checks what has come of it, and writes it; commits and pushes if that is asked for, and says what is left to do.
    pub(crate) fn save(self, message: &str) -> Result<()> {
        self.checked("with the change")?;
        self.write()?;
        self.publish(message)
    }

    fn write(&self) -> Result<()> {
        let style = term::Style::stdout();
        for path in &self.changed {
            file::write_shared(&self.dir.join(path), &self.files[path])?;
            term::say(&format!("{} {}\n", style.green("wrote"), self.dir.join(path).display()));
        }
        Ok(())
    }

    fn publish(self, message: &str) -> Result<()> {
        let style = term::Style::stdout();
        let paths: Vec<String> = self.changed.into_iter().collect();
        if self.commit {
            git::commit(&self.dir, &paths, message)?;
            term::say(&format!("{} {message}\n", style.green("committed")));
        }
        if self.push {
            git::push(&self.dir)?;
            term::say(&format!("{}\n", style.green("pushed")));
            return Ok(());
        }
        let dir = self.dir.display();
        let at = if self.dir.as_os_str() == "." { String::new() } else { format!(" -C {dir}") };
        let left = if self.commit {
            format!("git{at} push")
        } else {
            format!("git{at} add {}\n  git{at} commit -m '{message}'\n  git{at} push", paths.join(" "))
        };
        term::say(&format!("It holds from when it is pushed:\n  {left}\n"));
        Ok(())
    }
}

/// A new secret, and where it goes: a file of its own, or the terminal, once.
pub(crate) struct NewSecret {
    secret: Zeroizing<String>,
    file: Option<PathBuf>,
}

impl NewSecret {
    /// Makes one.
    pub(crate) fn make(args: &cli::NewSecret) -> Self {
        let secret = Zeroizing::new(schema_repo::new_secret());
        Self { secret, file: args.secret_file.clone() }
    }

    /// What of it goes into the schema.
    pub(crate) fn hash(&self) -> String {
        schema_repo::salted_sha256(&self.secret)
    }

    /// Saves the checkout that has its hash, and shows it once that is written.
    pub(crate) fn save(self, checkout: Checkout, login: &str, message: &str) -> Result<()> {
        checkout.checked("with the change")?;
        // The file first, so that there is no key whose secret nobody has.
        if let Some(path) = &self.file {
            file::write_new_secret(path, &self.secret)?;
        }
        checkout.write()?;
        let style = term::Style::stdout();
        let secret = Zeroizing::new(match &self.file {
            Some(path) => format!("Its secret is in:        {}\n", path.display()),
            None => format!("Its secret, shown once:  {}\n", style.bold(&self.secret)),
        });
        let told = Zeroizing::new(format!("Login of the key:        {}\n{}", style.bold(login), *secret));
        term::say(&told);
        checkout.publish(message)
    }
}
