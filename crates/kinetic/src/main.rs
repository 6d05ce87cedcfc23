//! The `kinetic` binary: what is typed, to the command that does it, to an exit code that says how it went.

mod adapter;
mod ca;
mod checkout;
mod cli;
mod cmd;
mod config;
mod metrics;
mod node;
mod people;
mod reconcile;
mod schema_files;
mod shell;
mod shutdown;
mod telemetry;
mod term;
mod topology;
mod tracer;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command, Hook, Mail, Schema};

/// Exit codes, after BSD's sysexits where it has one.
pub(crate) mod exit {
    /// What was asked for did not come true: a check found problems, the demo's mail did not come.
    pub(crate) const NO: u8 = 1;
    /// `kinetic plan` has found something to do, or it was not agreed to.
    pub(crate) const CHANGES: u8 = 2;
    /// The command line is wrong (EX_USAGE).
    pub(crate) const USAGE: u8 = 64;
    /// What was given to be read is not what it should be (EX_DATAERR).
    pub(crate) const DATA: u8 = 65;
    /// Something failed while running (EX_SOFTWARE).
    pub(crate) const FAILED: u8 = 70;
    /// It is to be tried again later (EX_TEMPFAIL).
    pub(crate) const TRY_LATER: u8 = 75;
    /// The configuration or the schema is wrong (EX_CONFIG).
    pub(crate) const CONFIG: u8 = 78;
}

/// An error in what the operator wrote rather than in what happened; exits with [`exit::CONFIG`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadConfig(pub(crate) String);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { 0 };
            // Nothing better can be done about a closed terminal.
            error.print().ok();
            return ExitCode::from(code);
        }
    };
    telemetry::init_logs(default_logs(&cli.command));
    if !cli.allow_core_dumps
        && let Err(error) = keep_memory_private()
    {
        tracing::warn!(%error, "memory cannot be kept out of core dumps");
    }
    match run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = if error.is::<BadConfig>() { exit::CONFIG } else { exit::FAILED };
            term::complain(&error);
            ExitCode::from(code)
        }
    }
}

/// Passwords and signing keys are in memory: it goes into no core file, and no other process of this user may look into it.
fn keep_memory_private() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Commands that show something of their own are not talked over.
fn default_logs(command: &Command) -> &'static str {
    match command {
        Command::Up(_)
        | Command::Redirector(_)
        | Command::Analyzer(_)
        | Command::Alert(_)
        | Command::Broker(_)
        | Command::Canary(_)
        // Our own client says what lapin would say, in the terms of the operator.
        | Command::Agent(_) => "kinetic=info,warn,lapin=off",
        _ => "off",
    }
}

fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Ca(command) => cmd::ca::run(&command),
        Command::Check(args) => cmd::check::run(&args),
        Command::Fmt(args) => cmd::format::run(&args),
        Command::ClientConfig(args) => cmd::client_config::run(&args),
        Command::Customer(command) => cmd::customer::run(command),
        Command::Key(command) => cmd::key::run(command),
        Command::User(command) => cmd::user::run(command),
        Command::DnsZone(args) => cmd::dns_zone::run(&args),
        Command::Token(args) => cmd::token::run(&args),
        Command::Mail(Mail::Preview(args)) => cmd::mail::preview(&args),
        Command::Schema(Schema::Init { dir, customer }) => cmd::schema_repo::init(&dir, &customer),
        Command::Hook(Hook::PreReceive { branch, customer }) => cmd::hook::pre_receive(&branch, customer),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "kinetic", &mut std::io::stdout());
            Ok(0)
        }
        Command::Bench(cli::Bench { part: Some(cli::BenchPart::Redirector(args)), .. }) => {
            cmd::bench::redirector(&args)
        }
        other => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            if matches!(other, Command::Analyzer(_) | Command::BenchDrain(_)) {
                // One loop does the work; a second worker would only take turns with it, at the price of a wake-up
                // each time.
                builder.worker_threads(1);
            }
            let runtime = builder.enable_all().build()?;
            let outcome = runtime.block_on(run_async(other));
            // A blocking fetch from a dead remote must not keep the process.
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
            outcome
        }
    }
}

async fn run_async(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Demo(args) => cmd::demo::run(args).await,
        Command::Up(args) => cmd::up::run(args).await.map(|()| 0),
        Command::Redirector(args) => cmd::roles::redirector(args).await.map(|()| 0),
        Command::Analyzer(args) => cmd::roles::analyzer(args).await.map(|()| 0),
        Command::Alert(args) => cmd::roles::alert(args).await.map(|()| 0),
        Command::Broker(args) => cmd::roles::broker(args).await.map(|()| 0),
        Command::Agent(args) => cmd::roles::agent(args).await.map(|()| 0),
        Command::Locate(args) => cmd::locate::run(args).await,
        Command::Plan(args) => cmd::reconcile::plan(args).await,
        Command::Reconcile(args) => cmd::reconcile::run(args).await,
        Command::Map(args) => cmd::map::run(args).await,
        Command::Drain(args) => cmd::drain::run(args).await,
        Command::Mail(Mail::Unsubscribed(args)) => cmd::subscription::list(args).await,
        Command::Mail(Mail::Subscribe(args)) => cmd::subscription::subscribe(args).await,
        Command::Silence(args) => cmd::silence::run(args).await,
        Command::Mail(Mail::Bounced(args)) => cmd::returned::bounced(args).await,
        Command::Mail(Mail::Suppressed(args)) => cmd::returned::suppressed(args).await,
        Command::Mail(Mail::Unsuppress(args)) => cmd::returned::unsuppress(args).await,
        Command::Ack(args) => cmd::episodes::acknowledge(args).await,
        Command::Episodes(args) => cmd::episodes::run(args).await,
        Command::Tap(args) => cmd::tap::run(args).await,
        Command::TestEvent(args) => cmd::test_event::run(args).await,
        Command::Canary(args) => cmd::canary::run(args).await,
        Command::Bench(cli::Bench { part: Some(cli::BenchPart::Alert(args)), .. }) => {
            cmd::bench::alert(args).await
        }
        Command::Bench(args) => cmd::bench::run(args).await,
        Command::BenchDrain(args) => cmd::bench::drain(args).await,
        Command::Schema(Schema::Notify { broker, revision }) => {
            cmd::schema_repo::notify(broker, revision).await
        }
        Command::Ca(_)
        | Command::Check(_)
        | Command::Fmt(_)
        | Command::ClientConfig(_)
        | Command::Customer(_)
        | Command::Key(_)
        | Command::User(_)
        | Command::DnsZone(_)
        | Command::Token(_)
        | Command::Mail(Mail::Preview(_))
        | Command::Schema(Schema::Init { .. })
        | Command::Hook(_)
        | Command::Completions { .. } => unreachable!("run() has done these without a runtime"),
    }
}
