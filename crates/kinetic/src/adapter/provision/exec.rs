//! Analyzers as whatever the installation's own commands start.
//!
//! A command has a time limit, and ends with all that it has started in its process group. What it prints is bounded,
//! and the broker's password is cut out of it before it is logged.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kinetic_schema::schema::ExecProvisioner;
use kinetic_wire::NodeId;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::adapter::provision::{Files, Launch};

/// Bytes of each output that are kept; the rest is read and forgotten.
const OUTPUT_BYTES_MAX: usize = 4_096;
/// How long outputs are read after the command has ended: what it left running may hold them open.
const OUTPUT_TIME: Duration = Duration::from_millis(500);
/// Secrets shorter than this are not searched for: every text would be cut to pieces.
const SECRET_BYTES_MIN: usize = 4;

/// The commands.
#[derive(Debug)]
pub(crate) struct Exec {
    launch: Launch,
    config: ExecProvisioner,
}

impl Exec {
    /// Runs nothing yet.
    pub(crate) fn new(launch: Launch, config: ExecProvisioner) -> Self {
        Self { launch, config }
    }

    /// Runs `start`.
    pub(crate) async fn start(&self, node: &NodeId) -> Result<()> {
        self.run("start", &self.config.start, node).await
    }

    /// Runs `stop`.
    pub(crate) async fn stop(&self, node: &NodeId) -> Result<()> {
        self.run("stop", &self.config.stop, node).await
    }

    async fn run(&self, action: &'static str, words: &[String], node: &NodeId) -> Result<()> {
        let (mut child, program) = self.spawn(action, words, node)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let id = child.id();
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let status = {
            let reading = async { tokio::join!(read(out, &mut said), read(err, &mut complained)) };
            tokio::pin!(reading);
            let mut read_all = false;
            let waiting = tokio::time::timeout(self.config.timeout, async {
                loop {
                    tokio::select! {
                        status = child.wait() => break status,
                        _ = &mut reading, if !read_all => read_all = true,
                    }
                }
            });
            let status = waiting.await;
            if status.is_ok() && !read_all {
                // Whatever it has printed is in the pipe already.
                drop(tokio::time::timeout(OUTPUT_TIME, &mut reading).await);
            }
            status
        };
        let output = self.shown(&said, &complained);
        let Ok(status) = status else {
            end_group(id);
            bail!("{program} took longer than {} s: {output}", self.config.timeout.as_secs_f64());
        };
        let status = status.with_context(|| format!("cannot wait for {program}"))?;
        tracing::info!(%node, action, %status, output, "command has ended");
        if status.success() { Ok(()) } else { bail!("{program}: {status}: {output}") }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the owner: the command ends with its time limit")]
    fn spawn(&self, action: &str, words: &[String], node: &NodeId) -> Result<(Child, String)> {
        let mut words = words.iter().map(|word| word.replace("{node}", node.as_str()));
        let program = words.next().context("the command is empty")?;
        let Launch { amqp, schema, branch, .. } = &self.launch;
        let mut command = std::process::Command::new(&program);
        command
            .args(words)
            .env("KINETIC_ACTION", action)
            .env("KINETIC_NODE", node.as_str())
            .env("KINETIC_AMQP", amqp)
            .env("KINETIC_SCHEMA", schema)
            .env("KINETIC_BRANCH", branch)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let Files { password, trust } = &self.launch.files;
        let files = [
            ("KINETIC_PASSWORD_FILE", password),
            ("KINETIC_CA_FILE", &trust.ca_file),
            ("KINETIC_CLIENT_CERT", &trust.client_cert),
            ("KINETIC_CLIENT_KEY", &trust.client_key),
        ];
        command.envs(files.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?))));
        if trust.allow_plain {
            command.env("KINETIC_ALLOW_PLAIN", "1");
        }
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = Command::from(command).kill_on_drop(true).spawn();
        Ok((child.with_context(|| format!("cannot run {program}"))?, program))
    }

    /// What it printed, on one line, without the secret.
    fn shown(&self, said: &[u8], complained: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(said).into_owned();
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(complained));
        let secret = self.launch.secret.expose();
        if secret.len() >= SECRET_BYTES_MIN {
            text = text.replace(secret, "…");
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join(" | ")
    }
}

/// Reads to the end and keeps the beginning.
async fn read(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let room = OUTPUT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&buffer[..length.min(room)]);
    }
}

/// Kills a command that takes too long, with what it has started.
fn end_group(id: Option<u32>) {
    let group = id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(group) = group
        && let Err(error) = kill_process_group(group, Signal::KILL)
    {
        tracing::debug!(%error, "the command has ended by itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(dir: &std::path::Path, script: &str, timeout: Duration) -> Exec {
        let launch = Launch::for_tests("amqp://me@host", dir);
        let words = ["/bin/sh", "-c", script, "sh", "{node}"].map(str::to_owned).to_vec();
        Exec::new(launch, ExecProvisioner { start: words.clone(), stop: words, timeout })
    }

    async fn outcome(script: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().expect("tempdir");
        let exec = exec(dir.path(), script, Duration::from_millis(500));
        exec.start(&"auto-7".into()).await.map_err(|error| format!("{error:#}"))
    }

    #[tokio::test]
    async fn the_command_is_told_which_node_and_how_it_is_to_run() {
        let script = r#"[ "$1" = auto-7 ] && [ "$KINETIC_NODE $KINETIC_ACTION $KINETIC_AMQP" = "auto-7 start amqp://me@host" ]
                        [ "$(cat "$KINETIC_PASSWORD_FILE")" = hunter2 ] && ! env | grep -q hunter2"#;
        assert_eq!(outcome(script).await, Ok(()));
    }

    #[tokio::test]
    async fn what_it_prints_is_told_without_the_password_and_not_without_end() {
        let error = outcome("echo key hunter2; echo oh >&2; exit 3").await.expect_err("code 3");
        assert!(error.ends_with(": key … | oh"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
        let error = outcome("yes | head -c 100000; exit 1").await.expect_err("code 1");
        assert!(error.len() < 2 * OUTPUT_BYTES_MAX + 100, "{}", error.len());
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_ends_with_what_it_started() {
        let dir = tempfile::tempdir().expect("tempdir");
        let pids = dir.path().join("pids");
        let script = format!("sleep 600 & echo $! > {0}; echo $$ >> {0}; wait", pids.display());
        let exec = exec(dir.path(), &script, Duration::from_millis(300));
        let error = exec.start(&"auto-7".into()).await.expect_err("too long");
        assert!(format!("{error:#}").contains("took longer than 0.3 s"), "{error:#}");
        let text = crate::adapter::file::read_text(&pids).expect("written");
        for pid in text.lines() {
            let proc = std::path::PathBuf::from(format!("/proc/{pid}/cmdline"));
            for _ in 0..100 {
                // A dead one that nobody has waited for has no words.
                if crate::adapter::file::read_text(&proc).unwrap_or_default().is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(crate::adapter::file::read_text(&proc).unwrap_or_default(), "", "{pid} lives");
        }
    }

    #[tokio::test]
    async fn what_is_left_running_on_purpose_does_not_hold_it_up() {
        assert_eq!(outcome("(sleep 2; true) & exit 0").await, Ok(()));
        let error = outcome("exec /no/such/program").await.expect_err("not there");
        assert!(error.contains("exit status: 127"), "{error}");
    }
}
