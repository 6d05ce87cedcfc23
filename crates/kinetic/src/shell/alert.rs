//! The alert node's loop: alert events in, history on disk, mail out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_alert::machine::{
    Alert, AlertConfig, Attempt, Effect, Email, Input, MailId, Record, RecordSeq, ReplyToken,
};
use kinetic_amqp::{
    Address, ConsumeOptions, Consumer, Event, Publisher, Request, RequestHandle, RpcServer, Served, Settle,
};
use kinetic_schema::schema::QueueType;
use kinetic_wire::{Envelope, Incarnation, Login, NodeId, Role, Token, names};
use tokio::task::JoinSet;

use crate::adapter::clock;
use crate::adapter::dkim::Signer;
use crate::adapter::history_db::HistoryDb;
use crate::adapter::smtp::Relay;
use crate::shell::alive;
use crate::shell::follow::{Revision, SchemaWatch};
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Telemetry};
use crate::{metrics, topology};

/// Alert events in flight from the broker.
const PREFETCH: u16 = 1_000;
/// Signs of life read at a time, so that the rest of the loop has its turn.
const BEACONS_AT_ONCE: usize = 256;
/// Announcements in flight; more are dropped, since they are best effort.
const ANNOUNCES_MAX: usize = 64;
/// How much history is replayed at boot, at least: what was acknowledged up to seven days ago is not repeated, and what
/// waits for the end of a long weekend is not forgotten.
const REPLAY_MIN: Duration = Duration::from_secs(8 * 24 * 3600);
/// How long history is kept.
const KEEP: Duration = Duration::from_secs(400 * 24 * 3600);
/// Pause before a failed write is tried again.
const APPEND_RETRY: Duration = Duration::from_secs(1);
/// How often the numbers on `/metrics` are renewed.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// How long attempts in flight may take to end at shutdown.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);
/// Name of this part on `/metrics` and `/__heartbeat__`.
pub(crate) const PART: &str = "alert";

/// What the loop needs.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The machine's configuration.
    pub(crate) config: AlertConfig,
    /// This node.
    pub(crate) node: NodeId,
    /// This start of the process.
    pub(crate) inc: Incarnation,
    /// The control vhost.
    pub(crate) control: Address,
    /// How its queues are kept.
    pub(crate) queues: QueueType,
    /// The history database.
    pub(crate) history: PathBuf,
    /// Schema revisions.
    pub(crate) schema: SchemaWatch,
    /// Where numbers go.
    pub(crate) telemetry: Telemetry,
}

/// What a finished job says.
enum Done {
    Appended { db: HistoryDb, seq: RecordSeq },
    Attempted { id: MailId, attempt: Attempt },
    Announced,
}

struct Shell {
    consumer: Consumer,
    alive: Consumer,
    publisher: Publisher,
    requests: RpcServer,
    /// Requests that are not answered yet; bounded by the prefetch.
    asked: BTreeMap<ReplyToken, RequestHandle>,
    last_asked: u64,
    jobs: JoinSet<Done>,
    /// `None` while a batch is being written.
    db: Option<HistoryDb>,
    /// Written next; bounded by the prefetch and by the machine's own bounds.
    batch: Vec<(RecordSeq, Record)>,
    relay: Option<Result<Relay, String>>,
    announcing: usize,
    telemetry: Telemetry,
}

/// Runs until shutdown.
pub(crate) async fn run(setup: Setup, shutdown: Shutdown) -> Result<()> {
    let Setup { config, node, inc, control, queues, history, mut schema, telemetry } = setup;
    let first = schema.borrow_and_update().clone();
    let replay = replay(&first);
    let (db, replayed) = tokio::task::spawn_blocking(move || open(&history, replay)).await??;
    let mut alert = Alert::new(config, first.schema.clone(), replayed);
    let alive = alive::start(&control, node, Role::Alert, inc);
    let declared = topology::kept(topology::alerts(), queues);
    let mut shell = Shell {
        consumer: Consumer::start(
            control.clone(),
            ConsumeOptions {
                queue: names::ALERTS.into(),
                topology: declared.clone(),
                prefetch: PREFETCH,
                ..ConsumeOptions::default()
            },
        ),
        alive: Consumer::start(
            control.clone(),
            ConsumeOptions {
                topology: topology::alive_subscription(),
                prefetch: PREFETCH,
                ..ConsumeOptions::default()
            },
        ),
        requests: RpcServer::start(
            control.clone(),
            topology::kept(topology::alert_requests(), queues),
            names::ALERT_QUEUE,
        ),
        asked: BTreeMap::new(),
        last_asked: 0,
        publisher: Publisher::start(control, declared, ANNOUNCES_MAX),
        jobs: JoinSet::new(),
        db: Some(db),
        batch: Vec::new(),
        relay: relay(&first),
        announcing: 0,
        telemetry,
    };
    let mut effects = Vec::new();
    let mut metrics_due = tokio::time::interval(METRICS_INTERVAL);
    alert.handle(clock::now(), Input::Tick, &mut effects);
    loop {
        alive.turned();
        shell.perform(&mut effects).await;
        tokio::select! {
            () = shutdown.wait() => break,
            Ok(()) = schema.changed() => {
                let revision = schema.borrow_and_update().clone();
                shell.relay = relay(&revision);
                alert.handle(clock::now(), Input::SchemaChanged { schema: revision.schema.clone() }, &mut effects);
            }
            event = shell.consumer.next() => shell.tell(&mut alert, event, &mut effects),
            event = shell.alive.next() => shell.hear(&mut alert, event, &mut effects).await,
            served = shell.requests.event() => if let Served::Request(request) = served {
                shell.ask(&mut alert, request, &mut effects);
            },
            Some(done) = shell.jobs.join_next() => shell.done(&mut alert, done?, &mut effects),
            () = clock::sleep_until(alert.next_wakeup()) => {
                alert.handle(clock::now(), Input::Tick, &mut effects);
            }
            _ = metrics_due.tick() => shell.telemetry.show(PART, metrics::alert(&alert.stats())),
        }
    }
    alive.bye().await;
    shell.finish(&mut alert, &mut effects).await;
    Ok(())
}

/// How far back the machine must remember: what was mailed within the longest repeat interval is not mailed anew.
fn replay(revision: &Revision) -> Duration {
    let alerts = revision.schema.customers.values().flat_map(|customer| customer.alerts.values());
    let watchdog = revision.schema.watchdog.iter().map(|watchdog| watchdog.repeat_interval);
    let longest = alerts.map(|alert| alert.repeat_interval).chain(watchdog).max().unwrap_or_default();
    REPLAY_MIN.max(longest.saturating_mul(2))
}

/// The database and what the machine is to remember.
fn open(path: &std::path::Path, replay: Duration) -> Result<(HistoryDb, Vec<(RecordSeq, Record)>)> {
    let now = clock::now().wall;
    let mut db = HistoryDb::open(path)?;
    let pruned = db.prune(now - KEEP).context("cannot prune the alert history")?;
    let mut replayed = db.since(now - replay)?;
    tracing::info!(records = replayed.len(), pruned, "alert history opened");
    if replayed.is_empty()
        && let Some(last) = db.last()?
    {
        // Record numbers go on growing even when all that is known is older than the replay.
        replayed.push(last);
    }
    Ok((db, replayed))
}

/// The relay of a revision; a revision without one keeps alerts in history only.
fn relay(revision: &Revision) -> Option<Result<Relay, String>> {
    let mail = revision.schema.mail.as_ref()?;
    let declared = mail.relays.first()?;
    // Unsigned mail may be refused for good where signed mail is expected: it waits until the key can be read.
    let signer = mail.dkim.as_ref().map(Signer::new).transpose();
    let relay = signer.and_then(|signer| Relay::new(declared, signer.map(Arc::new)));
    Some(relay.map_err(|error| format!("{error:#}")))
}

impl Shell {
    fn tell(&mut self, alert: &mut Alert, event: Event, effects: &mut Vec<Effect>) {
        let now = clock::now();
        let mut next = Some(event);
        while let Some(event) = next {
            match event {
                Event::Delivery(delivery) => {
                    let input = Input::Delivery { token: Token(delivery.token), body: delivery.body() };
                    alert.handle(now, input, effects);
                }
                Event::Lost { reason } => {
                    self.telemetry.health(PART, Health::Failing(format!("broker: {reason}")), now.wall);
                    alert.handle(now, Input::SubscriptionLost, effects);
                }
                Event::Subscribed => {
                    self.telemetry.health(PART, Health::Ok, now.wall);
                    alert.handle(now, Input::Subscribed, effects);
                }
                Event::Cancelled => {}
            }
            next = if effects.len() < usize::from(PREFETCH) { self.consumer.try_next() } else { None };
        }
    }

    /// Signs of life. Losing them for a while is no failure of this part: nobody is called silent meanwhile.
    async fn hear(&mut self, alert: &mut Alert, event: Event, effects: &mut Vec<Effect>) {
        let now = clock::now();
        let mut next = Some(event);
        let mut left = BEACONS_AT_ONCE;
        // Acknowledged only so that what waits in this process is bounded by the prefetch.
        let mut read = None;
        while let Some(event) = next {
            match event {
                Event::Delivery(delivery) => {
                    alert.handle(now, Input::Alive { body: delivery.body() }, effects);
                    read = Some(delivery.token);
                }
                Event::Lost { reason } => {
                    read = None;
                    tracing::debug!(reason, "signs of life cannot be heard");
                    alert.handle(now, Input::AliveLost, effects);
                }
                Event::Subscribed => alert.handle(now, Input::AliveSubscribed, effects),
                Event::Cancelled => {}
            }
            left -= 1;
            next = if left > 0 { self.alive.try_next() } else { None };
        }
        if let Some(token) = read {
            self.alive.settle(Settle::AckUpTo(token)).await;
        }
    }

    /// A request of an operator.
    fn ask(&mut self, alert: &mut Alert, request: Request, effects: &mut Vec<Effect>) {
        self.last_asked += 1;
        let token = ReplyToken(self.last_asked);
        let login = request.user_id.as_deref().map(Login::new);
        let Request { kind, body, .. } = &request;
        let input = Input::Request { token, kind, login: login.as_ref(), body };
        alert.handle(clock::now(), input, effects);
        self.asked.insert(token, request.handle);
    }

    fn done(&mut self, alert: &mut Alert, done: Done, effects: &mut Vec<Effect>) {
        let now = clock::now();
        match done {
            Done::Appended { db, seq } => {
                self.db = Some(db);
                self.telemetry.health("history", Health::Ok, now.wall);
                alert.handle(now, Input::Appended { seq }, effects);
            }
            Done::Attempted { id, attempt } => {
                match &attempt {
                    Attempt::Accepted { detail } => {
                        tracing::info!(mail = id.0, detail, "mail accepted");
                        self.telemetry.health("mail", Health::Ok, now.wall);
                    }
                    Attempt::Retry { detail } => {
                        tracing::warn!(mail = id.0, detail, "mail not taken yet; trying again");
                        self.telemetry.health("mail", Health::Failing(detail.clone()), now.wall);
                    }
                    Attempt::Refused { detail } => tracing::error!(mail = id.0, detail, "mail refused"),
                }
                alert.handle(now, Input::MailAttempted { id, attempt }, effects);
            }
            Done::Announced => self.announcing -= 1,
        }
    }

    /// Performs effects in order; records are gathered and written together.
    async fn perform(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Append { seq, record } => self.batch.push((seq, record)),
                Effect::Ack { token } => self.consumer.settle(Settle::Ack(token.0)).await,
                Effect::Reject { token } => {
                    self.consumer.settle(Settle::Reject { token: token.0, requeue: false }).await;
                }
                Effect::Send { id, email } => self.send(id, *email),
                Effect::Reply { token, body } => {
                    if let Some(handle) = self.asked.remove(&token) {
                        self.requests.reply(handle, body).await;
                    }
                }
                Effect::Announce { routing_key, body } => self.announce(routing_key, body),
            }
        }
        self.write();
    }

    /// Starts writing what has gathered, unless a batch is on its way.
    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let Some(mut db) = self.db.take() else { return };
        let batch = std::mem::take(&mut self.batch);
        let telemetry = self.telemetry.clone();
        self.jobs.spawn_blocking(move || {
            let seq = batch.last().map_or(RecordSeq(0), |(seq, _)| *seq);
            // Until it is on disk nothing is acknowledged, so the only way on is to try again.
            while let Err(error) = db.append(&batch) {
                tracing::error!(error = format!("{error:#}"), "cannot write the alert history; trying again");
                telemetry.health("history", Health::Failing(format!("{error:#}")), clock::now().wall);
                std::thread::sleep(APPEND_RETRY);
            }
            Done::Appended { db, seq }
        });
    }

    fn send(&mut self, id: MailId, email: Email) {
        let relay = self.relay.clone();
        self.jobs.spawn(async move {
            let attempt = match relay {
                Some(Ok(relay)) => relay.send(&email).await,
                Some(Err(detail)) => Attempt::Retry { detail },
                None => Attempt::Retry { detail: "the schema names no mail relay".into() },
            };
            Done::Attempted { id, attempt }
        });
    }

    fn announce(&mut self, routing_key: String, body: Vec<u8>) {
        if self.announcing >= ANNOUNCES_MAX {
            tracing::warn!(routing_key, "too many announcements in flight; this one is dropped");
            return;
        }
        self.announcing += 1;
        let publisher = self.publisher.clone();
        self.jobs.spawn(async move {
            let envelope = Envelope {
                kind: Some(names::TYPE_NOTIFICATION.into()),
                content_type: Some("application/json".into()),
                ..Envelope::default()
            };
            let published =
                publisher.publish(names::NOTIFICATIONS_EXCHANGE, &routing_key, &envelope, body, false).await;
            if let Err(error) = published {
                tracing::debug!(%error, "an announcement was not published");
            }
            Done::Announced
        });
    }

    /// Lets writes and attempts in flight end, so that what happened is recorded, then closes.
    async fn finish(mut self, alert: &mut Alert, effects: &mut Vec<Effect>) {
        self.consumer.cancel().await;
        self.requests.cancel().await;
        let finishing = async {
            while let Some(done) = self.jobs.join_next().await {
                match done {
                    Ok(done) => self.done(alert, done, effects),
                    Err(error) => tracing::warn!(%error, "a job failed at shutdown"),
                }
                effects.retain(|effect| !matches!(effect, Effect::Send { .. } | Effect::Announce { .. }));
                self.perform(effects).await;
            }
        };
        if tokio::time::timeout(SHUTDOWN_WAIT, finishing).await.is_err() {
            tracing::warn!(
                "jobs were still running at shutdown; what they did not record will be done again"
            );
        }
        self.requests.close().await;
        self.alive.close().await;
        self.publisher.close().await;
        self.consumer.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::schema_repo;

    /// A revision whose only alert repeats after this long.
    fn revision(repeat_interval: &str) -> Revision {
        let mut files = schema_repo::starter("acme", &schema_repo::secret_sha256("secret"));
        let alerts = files.get_mut("customers/acme/alerts.hcl").expect("the starter has alerts");
        let text = String::from_utf8(alerts.clone()).expect("utf-8");
        let to = "to        = [\"oncall@example.com\"]";
        assert!(text.contains(to), "{text}");
        *alerts = text.replace(to, &format!("{to}\n  repeat_interval = \"{repeat_interval}\"")).into_bytes();
        let schema = kinetic_schema::load(&files).schema.expect("checks");
        Revision { id: String::new(), generation: 0, schema: Arc::new(schema) }
    }

    #[test]
    fn what_was_mailed_within_a_repeat_interval_is_remembered() {
        assert_eq!(replay(&revision("4h")), REPLAY_MIN);
        assert!(replay(&revision("168h")) > Duration::from_secs(168 * 3600));
    }

    #[test]
    fn what_was_mailed_about_nodes_is_remembered_too() {
        let text = "watchdog {\n  to              = \"ops@example.com\"\n  repeat_interval = \"168h\"\n}\n";
        let files = kinetic_schema::Files::from([("kinetic.hcl".to_owned(), text.as_bytes().to_vec())]);
        let schema = kinetic_schema::load(&files).schema.expect("checks");
        let revision = Revision { id: String::new(), generation: 0, schema: Arc::new(schema) };
        assert!(replay(&revision) > Duration::from_secs(168 * 3600));
    }
}
