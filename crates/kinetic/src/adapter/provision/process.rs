//! Analyzers as children of this process, of the same binary.
//!
//! A child ends with its parent: it watches the pipe that is its standard input, which the kernel closes when the parent
//! is gone, however it went. What is still on its way out when a new parent starts is found by the lock on its data
//! directory, and killed if it takes too long.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kinetic_redirector::fleet::Instance;
use kinetic_wire::{Mono, NodeId};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::adapter::provision::{Launch, STOP_TIME};
use crate::adapter::{clock, file};

/// How often children that were told to end are looked at.
const POLL: Duration = Duration::from_millis(50);

/// A child.
#[derive(Debug)]
struct Record {
    /// With its lifeline, `child.stdin`, which is closed when this is dropped.
    child: Child,
    /// It was told to end, and is killed at this time.
    kill_at: Option<Mono>,
}

/// A process that a former parent has left behind.
#[derive(Debug)]
struct Orphan {
    kill_at: Mono,
}

#[derive(Debug, Default)]
struct State {
    children: BTreeMap<NodeId, Record>,
    orphans: BTreeMap<NodeId, Orphan>,
    /// `dir` has been looked through for orphans.
    searched: bool,
}

/// The children.
#[derive(Debug)]
pub(crate) struct Processes {
    launch: Launch,
    dir: PathBuf,
    /// Program and first words; our own, where there are none.
    program: Vec<String>,
    /// How long a child may take to leave.
    stop_time: Duration,
    state: Mutex<State>,
}

impl Processes {
    /// No children yet; each will have a folder below `dir`.
    pub(crate) fn new(launch: Launch, dir: PathBuf) -> Self {
        Self { launch, dir, program: Vec::new(), stop_time: STOP_TIME, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a child.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the owner: children are listed, stopped in time, and killed"
    )]
    pub(crate) fn start(&self, node: &NodeId) -> Result<()> {
        let dir = self.dir.join(node.as_str());
        let mut state = self.state();
        self.search(&mut state, clock::now().mono);
        if state.children.contains_key(node) || state.orphans.contains_key(node) {
            bail!("{node} runs already");
        }
        file::make_dir(&dir)?;
        let own = || std::env::current_exe().context("the path of this program is not known");
        let program = self.program.first().map_or_else(own, |program| Ok(PathBuf::from(program)))?;
        let mut command = std::process::Command::new(program);
        command
            .args(self.program.iter().skip(1))
            .args(self.launch.args(node, &dir, &self.launch.files))
            .arg("--until-stdin-ends")
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        // Ctrl-C on a terminal goes to all of a group; it is the parent who ends its children, in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = Command::from(command).kill_on_drop(true).spawn().context("cannot start a child")?;
        let pid = child.id().unwrap_or_default();
        tracing::info!(%node, pid, "started a child process");
        if let Err(error) = file::write_atomically(&dir.join("pid"), format!("{pid}\n").as_bytes()) {
            tracing::warn!(error = format!("{error:#}"), "if this process is killed, its child cannot be");
        }
        let record = Record { child, kill_at: None };
        state.children.insert(node.clone(), record);
        Ok(())
    }

    /// Tells a child to end; `list` kills it when its time is up.
    pub(crate) fn stop(&self, node: &NodeId) -> Result<()> {
        let mut state = self.state();
        let Some(record) = state.children.get_mut(node) else { return Ok(()) };
        if record.child.try_wait()?.is_some() {
            state.children.remove(node);
            return Ok(());
        }
        if record.kill_at.is_none() {
            record.kill_at = Some(clock::now().mono + self.stop_time);
            signal(&record.child, Signal::TERM)?;
        }
        Ok(())
    }

    /// Looks at every child, and kills those that should have ended by now.
    pub(crate) fn list(&self) -> Result<BTreeMap<NodeId, Instance>> {
        let (mut state, now) = (self.state(), clock::now().mono);
        self.search(&mut state, now);
        let mut list = BTreeMap::new();
        let mut gone = Vec::new();
        for (node, record) in &mut state.children {
            match (record.child.try_wait()?, record.kill_at) {
                (Some(_), Some(_)) => gone.push(node.clone()),
                (Some(status), None) => drop(list.insert(node.clone(), Instance::Ended(ending(status)))),
                (None, None) => drop(list.insert(node.clone(), Instance::Running)),
                (None, Some(kill_at)) => {
                    if now >= kill_at {
                        tracing::warn!(%node, "did not end in time and is killed");
                        record.child.start_kill()?;
                    }
                    list.insert(node.clone(), Instance::Ending);
                }
            }
        }
        for node in gone {
            state.children.remove(&node);
        }
        self.look_after_orphans(&mut state, now, &mut list);
        Ok(list)
    }

    /// Finds what a former parent has left, once, and before there are children of our own.
    fn search(&self, state: &mut State, now: Mono) {
        if !std::mem::replace(&mut state.searched, true) {
            let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            let orphans = names.filter(|name| is_locked(&self.dir.join(name)));
            state.orphans =
                orphans.map(|name| (NodeId::new(&name), Orphan { kill_at: now + self.stop_time })).collect();
        }
    }

    fn look_after_orphans(&self, state: &mut State, now: Mono, list: &mut BTreeMap<NodeId, Instance>) {
        state.orphans.retain(|node, _| is_locked(&self.dir.join(node.as_str())));
        for (node, orphan) in &state.orphans {
            if now >= orphan.kill_at {
                match kill_orphan(&self.dir.join(node.as_str())) {
                    Ok(pid) => {
                        tracing::warn!(%node, pid, "a former parent's child does not end and is killed")
                    }
                    Err(error) => {
                        tracing::warn!(%node, error = format!("{error:#}"), "a former parent's child does not end");
                    }
                }
            }
            list.insert(node.clone(), Instance::Ending);
        }
    }

    /// Tells all children to end, waits for them, and kills those that take too long.
    pub(crate) async fn close(&self) {
        let nodes: Vec<NodeId> = self.state().children.keys().cloned().collect();
        for node in &nodes {
            if let Err(error) = self.stop(node) {
                tracing::warn!(%node, error = format!("{error:#}"), "cannot be told to end");
            }
        }
        let deadline = clock::now().mono + self.stop_time + 20 * POLL;
        while clock::now().mono < deadline {
            match self.list() {
                Ok(_) if self.state().children.is_empty() => return,
                Ok(_) => {}
                Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot wait for the children"),
            }
            tokio::time::sleep(POLL).await;
        }
        // Whoever is left is killed as it is dropped.
        self.state().children.clear();
    }
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    // A child that was not waited for keeps its number, so that nobody else can have it.
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    kill_process(pid.context("the child has ended")?, signal).context("cannot signal the child")
}

/// How it ended, for people.
fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Whether a process uses a data directory (`node::lock_data_dir`).
fn is_locked(dir: &Path) -> bool {
    let lock = fs::File::open(dir.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

/// Kills the process that a data directory says it belongs to, if that is still one with this data directory.
fn kill_orphan(dir: &Path) -> Result<i32> {
    let pid: i32 = file::read_text(&dir.join("pid"))?.trim().parse().context("its process id is damaged")?;
    let words = file::read_text(&PathBuf::from(format!("/proc/{pid}/cmdline")))?;
    let own = dir.to_string_lossy();
    if !words.split('\0').any(|word| word == own) {
        bail!("process {pid} is another by now");
    }
    let known = Pid::from_raw(pid).context("no process has that number")?;
    kill_process(known, Signal::KILL).with_context(|| format!("cannot kill process {pid}"))?;
    Ok(pid)
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
