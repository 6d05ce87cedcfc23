//! `kinetic demo`: the whole line on this machine, up to the e-mail, in one process.

mod fleet;
mod schema;
mod show;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kinetic_amqp::{Address, ConsumeOptions, Consumer, Event, Queue, Secret, Topology};
use kinetic_schema::schema::QueueType;
use kinetic_wire::{AlertEvent, AlertState, Mono, NodeId, decode, names};
use mail_parser::{HeaderValue, MessageParser};
use tokio::sync::mpsc;

use self::show::Show;
use crate::adapter::clock;
use crate::adapter::smtp_sink::{Received, SmtpSink};
use crate::cli;
use crate::cmd::{schema_repo, up};
use crate::node::{self, Roles, Shared};
use crate::shutdown::{self, Shutdown};
use crate::telemetry::Telemetry;
use crate::{exit, shell, term};

/// When the slow host turns slow.
const SLOW_AFTER: Duration = Duration::from_secs(4);
/// Lease of the demo's analyzer.
const LEASE: Duration = Duration::from_secs(5);
/// Time between redraws.
const REDRAW: Duration = Duration::from_millis(250);
/// Samples and alerts seen on the broker that wait to be shown.
const SEEN_MAX: usize = 1_024;

/// What is seen on the broker and in the mailbox.
enum Seen {
    /// A host's latencies, out of one message.
    Latencies { host: String, values: Vec<f64> },
    /// An alert event.
    Alert(Box<AlertEvent>),
}

/// When things first happened, in milliseconds since the demo began.
#[derive(Debug, Default)]
struct Firsts {
    sample_ms: Option<u64>,
    alert_ms: Option<u64>,
    mail_ms: Option<u64>,
}

/// A mail, as its reader sees it.
#[derive(Debug)]
pub(crate) struct Mail {
    headers: BTreeMap<String, String>,
    from: String,
    to: String,
    subject: String,
    date: String,
    text: String,
}

/// `kinetic demo`
pub(crate) async fn run(args: cli::Demo) -> Result<u8> {
    let began = clock::now().mono;
    let (dir, _temporary) = folder(args.dir.as_deref())?;
    let once = args.once || args.json;
    let mut show = Show::new(args.json, args.hosts);
    let mut roles = Roles::default();
    let outcome = tokio::select! {
        played = play(&args, &dir, began, &mut roles, &mut show) => played,
        interrupted = shutdown::interrupted() => interrupted.map(|()| Played::Interrupted),
        () = give_up(once, args.timeout) => Ok(Played::Failed(format!(
            "no e-mail about the slow host within {} s (--timeout)", args.timeout
        ))),
    };
    show.stopping();
    roles.stop().await;
    match outcome? {
        Played::Interrupted => Ok(if once { exit::NO } else { 0 }),
        Played::Done(report) => {
            show.done(&report);
            Ok(0)
        }
        Played::Failed(reason) => {
            show.failed(&reason);
            Ok(exit::NO)
        }
    }
}

/// How the demo ended.
enum Played {
    Interrupted,
    Done(Report),
    Failed(String),
}

/// What `--json` prints.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Report {
    ok: bool,
    first_sample_ms: u64,
    alert_ms: u64,
    mail_ms: u64,
    samples: u64,
    mails: u64,
    feed: String,
    headers: BTreeMap<String, String>,
}

async fn give_up(once: bool, timeout_s: u64) {
    if once {
        tokio::time::sleep(Duration::from_secs(timeout_s)).await;
    } else {
        std::future::pending::<()>().await;
    }
}

/// The demo's folder: the one that was asked for, or a temporary one that goes with the demo.
fn folder(wanted: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    match wanted {
        Some(dir) => {
            if dir.exists() && std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
                bail!("{} is not empty: the demo wants a folder of its own", dir.display());
            }
            crate::adapter::file::make_dir(dir)?;
            Ok((dir.to_owned(), None))
        }
        None => {
            let dir = tempfile::Builder::new()
                .prefix("kinetic-demo-")
                .tempdir()
                .context("cannot make a temporary folder")?;
            Ok((dir.path().to_owned(), Some(dir)))
        }
    }
}

/// Starts everything and watches it. Returns when `--once` is satisfied or cannot be any more.
async fn play(
    args: &cli::Demo,
    dir: &Path,
    began: Mono,
    roles: &mut Roles,
    show: &mut Show,
) -> Result<Played> {
    let secret = schema_repo::new_secret();
    let (mut mails, telemetry, control) = start(dir, &secret, roles, show).await?;
    let hosts = fleet::hosts(args.hosts, SLOW_AFTER);
    let slow =
        hosts.iter().find(|host| host.slow_after.is_some()).context("one host turns slow")?.name.clone();
    let mut broker = control.clone();
    "local".clone_into(&mut broker.vhost);
    let (seen, mut sights) = mpsc::channel(SEEN_MAX);
    watch(roles, &control, &broker, &seen);
    broker.login = format!("{}.{}", schema::CUSTOMER, schema::KEY);
    broker.password = Secret::new(secret);
    for (seed, host) in (0..).zip(hosts) {
        let (setup, listens) = fleet::agent(&host, &broker, schema::CUSTOMER).await?;
        roles.start("agent", |shutdown| shell::agent::run(setup, shutdown));
        roles.start("host", |shutdown| fleet::client(host, seed, listens, shutdown));
    }
    show.fleet(&slow, SLOW_AFTER);
    let mut firsts = Firsts::default();
    let mut received = 0;
    let mut redraw = tokio::time::interval(REDRAW);
    loop {
        let elapsed = || u64::try_from(clock::now().mono.since(began).as_millis()).unwrap_or(u64::MAX);
        tokio::select! {
            error = roles.failed() => return Err(error),
            Some(sight) = sights.recv() => match sight {
                Seen::Latencies { host, values } => {
                    firsts.sample_ms.get_or_insert_with(elapsed);
                    show.latencies(host, &values);
                }
                Seen::Alert(event) => {
                    if event.state == AlertState::Firing {
                        firsts.alert_ms.get_or_insert_with(elapsed);
                    }
                    show.alert(&event);
                }
            },
            Some(mail) = mails.recv() => {
                received += 1;
                firsts.mail_ms.get_or_insert_with(elapsed);
                let mail = read(&mail)?;
                show.mail(&mail);
                if !(args.once || args.json) {
                    if received == 1 {
                        show.goes_on();
                    }
                } else {
                    return Ok(judge(mail, &slow, args.hosts, &firsts, received, telemetry.value("kinetic_analyzer_samples")));
                }
            }
            _ = redraw.tick() => show.redraw(telemetry.value("kinetic_analyzer_samples")),
        }
    }
}

/// Mailbox, schema repository, broker and engine.
async fn start(
    dir: &Path,
    secret: &str,
    roles: &mut Roles,
    show: &mut Show,
) -> Result<(mpsc::Receiver<Received>, Telemetry, Address)> {
    let sink = SmtpSink::bind().await?;
    let relay = sink.address();
    let (mails, server) = sink.serve();
    roles.start("mailbox", |shutdown: Shutdown| async move {
        tokio::select! { () = server => {}, () = shutdown.wait() => {} }
        Ok(())
    });
    let repository = dir.join("schema.git");
    let links = shell::links::bind(([127, 0, 0, 1], 0).into()).await?;
    let public_url = format!("http://{}", links.address());
    let files = schema::files(&schema_repo::salted_sha256(secret), relay, &public_url);
    let (made, hook, author) = (repository.clone(), schema_repo::hook_text()?, schema_repo::author());
    tokio::task::spawn_blocking(move || kinetic_replica::init(&made, &files, &hook, &author)).await??;
    show.step("schema repository", &repository.display().to_string());
    let telemetry = Telemetry::default();
    let data_dir = dir.join("data");
    crate::adapter::file::make_dir(&data_dir)?;
    let remote = repository.to_string_lossy().into_owned();
    let (follower, schema) =
        node::open_schema(&remote, "main", Duration::from_secs(2), &data_dir, &telemetry).await?;
    let (embedded, control) = node::embedded_broker(shell::broker::Listen::loopback(0), &data_dir).await?;
    let broker_address = embedded.address();
    show.step("broker (AMQP 0-9-1)", &broker_address.to_string());
    let (watched, shown) = (schema.clone(), telemetry.clone());
    roles.start("broker", |shutdown| embedded.run(watched, shown, shutdown));
    let metrics = node::start_metrics(roles, ([127, 0, 0, 1], 0).into(), &telemetry).await?;
    show.step("metrics", &format!("http://{metrics}/metrics"));
    let notices = control.clone();
    roles.start("schema follower", |shutdown| follower.run(Some(notices), shutdown));
    let shared = Shared {
        control: control.clone(),
        schema,
        telemetry: telemetry.clone(),
        data_dir,
        node: NodeId::new("demo"),
        queues: QueueType::Classic,
        token_keys: None,
    };
    let history = shared.own_history();
    up::start_engine(roles, &shared, history, Some(links.address()), &[], LEASE, LEASE)?;
    node::serve_links(roles, links, &shared);
    show.tap(format!(
        "kinetic tap {}/web --schema {} --amqp amqp://{}@{} --password-file {}",
        schema::CUSTOMER,
        repository.display(),
        control.login,
        broker_address,
        dir.join("data").join("broker-secret").display(),
    ));
    show.step("redirector, analyzer, alert node", "in this process");
    show.step("mailbox (SMTP)", &relay.to_string());
    show.step("links in mails", &public_url);
    Ok((mails, telemetry, control))
}

/// Watches a copy of what the hosts publish and of the alert events, over AMQP like anyone else could.
fn watch(roles: &mut Roles, control: &Address, region: &Address, seen: &mpsc::Sender<Seen>) {
    let ingress = names::ingress_exchange(&schema::CUSTOMER.into());
    let latencies = copy_of(region, &ingress, "#");
    let alerts = copy_of(control, names::ALERTS, names::ALERTS);
    let (to_samples, to_alerts) = (seen.clone(), seen.clone());
    roles.start("sample watcher", |shutdown| {
        relay(latencies, shutdown, to_samples, |delivery| {
            let host = delivery.envelope().origin?.into_owned();
            let text = std::str::from_utf8(delivery.body()).ok()?;
            let value = |line: &str| line.strip_prefix("checkout.latency:")?.split('|').next()?.parse().ok();
            Some(Seen::Latencies { host, values: text.lines().filter_map(value).collect() })
        })
    });
    roles.start("alert watcher", |shutdown| {
        relay(alerts, shutdown, to_alerts, |delivery| {
            Some(Seen::Alert(Box::new(decode(delivery.body()).ok()?)))
        })
    });
}

/// A consumer of a queue of its own, bound to an exchange.
fn copy_of(address: &Address, exchange: &str, routing_key: &str) -> Consumer {
    let mut topology = Topology {
        queues: vec![Queue { exclusive: true, auto_delete: true, ..Queue::default() }],
        ..Topology::default()
    };
    topology.bindings.push(kinetic_amqp::Binding::new("", exchange, routing_key));
    let options = ConsumeOptions {
        topology,
        prefetch: u16::try_from(SEEN_MAX).unwrap_or(u16::MAX),
        no_ack: true,
        ..ConsumeOptions::default()
    };
    Consumer::start(address.clone(), options)
}

async fn relay(
    mut consumer: Consumer,
    shutdown: Shutdown,
    seen: mpsc::Sender<Seen>,
    understand: impl Fn(&kinetic_amqp::Delivery) -> Option<Seen>,
) -> Result<()> {
    loop {
        let event = tokio::select! {
            () = shutdown.wait() => break,
            event = consumer.next() => event,
        };
        // What nobody has time to look at is not worth waiting for.
        if let Event::Delivery(delivery) = event
            && let Some(sight) = understand(&delivery)
        {
            seen.try_send(sight).ok();
        }
    }
    consumer.close().await;
    Ok(())
}

/// Whether the mail is the right one: about the slow host and about no other.
fn judge(mail: Mail, slow: &str, hosts: u32, firsts: &Firsts, mails: u64, samples: f64) -> Played {
    let named: Vec<String> = fleet::hosts(hosts, SLOW_AFTER)
        .into_iter()
        .map(|host| host.name)
        .filter(|name| mail.subject.contains(name.as_str()) || mail.text.contains(name.as_str()))
        .collect();
    if named != [slow] {
        return Played::Failed(format!("the mail is about {} instead of {slow} alone", named.join(", ")));
    }
    let (Some(first_sample_ms), Some(alert_ms), Some(mail_ms)) =
        (firsts.sample_ms, firsts.alert_ms, firsts.mail_ms)
    else {
        return Played::Failed("a mail came before a sample or an alert was seen on the broker".into());
    };
    Played::Done(Report {
        ok: true,
        first_sample_ms,
        alert_ms,
        mail_ms,
        samples: samples as u64,
        mails,
        feed: slow.to_owned(),
        headers: mail.headers,
    })
}

/// A mail as its reader's program shows it.
fn read(mail: &Received) -> Result<Mail> {
    let parsed = MessageParser::default().parse(&mail.message).context("the mail cannot be read")?;
    let text = |name: &str| match parsed.header(name) {
        Some(HeaderValue::Text(text)) => text.to_string(),
        _ => parsed.header_raw(name).unwrap_or_default().trim().to_owned(),
    };
    let headers = parsed
        .headers_raw()
        .map(|(name, value)| (name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    Ok(Mail {
        headers,
        from: text("From"),
        to: mail.to.join(", "),
        subject: text("Subject"),
        date: text("Date"),
        text: parsed.body_text(0).context("the mail has no text")?.into_owned(),
    })
}

/// Prints unless the demo is silent.
fn say(silent: bool, text: &str) {
    if !silent {
        term::say(text);
    }
}
