//! The alert node's loop: alert events in, history on disk, mail out.

mod keeper;
mod posting;
mod settle;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_alert::machine::{
    Alert, AlertConfig, Attempt, Effect, Email, Failed, Input, MailId, Record, RecordSeq, ReplyToken,
};
use kinetic_amqp::{
    Address, ConsumeOptions, Consumer, Event, Publisher, Request, RequestHandle, RpcServer, Served, Settle,
};
use kinetic_schema::Netblock;
use kinetic_schema::schema::QueueType;
use kinetic_wire::{Envelope, Incarnation, Login, NodeId, Role, Token, names};
use tokio::task::JoinSet;

use crate::adapter::clock;
use crate::adapter::dkim::Signer;
use crate::adapter::history::Location;
use crate::adapter::smtp::Relay;
use crate::adapter::webhook::Poster;
use crate::node::{hex, unhex};
use crate::shell::alive::{self, Alive};
use crate::shell::follow::{Revision, SchemaWatch};
use crate::shell::trace::Voice;
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Telemetry};
use crate::{metrics, topology};

use keeper::{Batch, Keeper, News};
use settle::Settling;

/// Alert events in flight from the broker: two batches, so that one gathers while the other is written.
const PREFETCH: u16 = 8_000;
/// Records of one transaction.
const BATCH_MAX: usize = 4_000;
/// Records after which history is compacted: a restart replays these, and those whose ids are remembered.
const COMPACT_RECORDS: u64 = 50_000;
/// Signs of life read at a time, so that the rest of the loop has its turn.
const BEACONS_AT_ONCE: usize = 256;
/// Signs of life in flight.
const BEACONS_PREFETCH: u16 = 1_000;
/// Effects that a row of deliveries may have before they are performed.
const EFFECTS_AT_ONCE: usize = 500;
/// Announcements in flight; more are dropped, since they are best effort.
const ANNOUNCES_MAX: usize = 64;
/// How much history is replayed at boot, at least: what was acknowledged up to seven days ago is not repeated, and what
/// waits for the end of a long weekend is not forgotten.
const REPLAY_MIN: Duration = Duration::from_secs(8 * 24 * 3600);
/// Pause before a failed write is tried again.
const APPEND_RETRY: Duration = Duration::from_secs(1);
/// How often the numbers on `/metrics` are renewed.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// How long attempts in flight may take to end at shutdown.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);
/// What the heartbeat of a node says that waits for the lead.
const STANDBY: &str = "standby: another node leads this history";
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
    /// The history.
    pub(crate) history: Location,
    /// Private networks that webhooks may reach.
    pub(crate) webhook_nets: Vec<Netblock>,
    /// Schema revisions.
    pub(crate) schema: SchemaWatch,
    /// Where numbers go.
    pub(crate) telemetry: Telemetry,
}

/// What a finished job says.
enum Done {
    Attempted { id: MailId, attempt: Attempt },
    Posted { id: MailId, to: String, attempt: Attempt },
    Announced,
}

/// By name, with what was wrong with one that cannot be used.
type Relays = BTreeMap<String, Result<Relay, String>>;

struct Shell {
    consumer: Consumer,
    alive: Consumer,
    publisher: Publisher,
    /// On test events.
    voice: Voice,
    requests: RpcServer,
    /// Requests that are not answered yet; bounded by the prefetch.
    asked: BTreeMap<ReplyToken, RequestHandle>,
    last_asked: u64,
    jobs: JoinSet<Done>,
    settling: Settling,
    keeper: Keeper,
    /// The first record after which history is compacted again.
    compact_at: RecordSeq,
    /// How far back replay goes.
    replay: Duration,
    /// Written next; bounded by the prefetch and by the machine's own bounds.
    batch: Vec<(RecordSeq, Record)>,
    relays: Relays,
    poster: Poster,
    /// Whose relays these are.
    revision: Arc<Revision>,
    announcing: usize,
    telemetry: Telemetry,
}

/// Runs until shutdown: stands by until this node leads its history, leads until that is lost, and stands by again.
pub(crate) async fn run(mut setup: Setup, shutdown: Shutdown) -> Result<()> {
    let alive = alive::start(&setup.control, setup.node.clone(), Role::Alert, setup.inc);
    loop {
        let Some((keeper, replayed)) = stand_by(&mut setup, &alive, &shutdown).await? else { break };
        let end = lead(&setup, keeper, replayed, &alive, &shutdown).await?;
        let End::Deposed(reason) = end else { break };
        // What was decided and not written is as if it had not been: the next leader decides.
        tracing::warn!(reason, "this node leads no longer");
    }
    alive.bye().await;
    Ok(())
}

/// Why a lead has ended.
enum End {
    Shutdown,
    Deposed(String),
}

/// Consumes nothing until this node leads the history; `None` at shutdown. The key of Message-IDs becomes the one that all
/// nodes have in common.
async fn stand_by(
    setup: &mut Setup,
    alive: &Alive,
    shutdown: &Shutdown,
) -> Result<Option<(Keeper, Vec<(RecordSeq, Record)>)>> {
    let schema = setup.schema.clone();
    let back = move || replay(&schema.borrow());
    let own = hex(&setup.config.id_key);
    let mut keeper = Keeper::start(setup.history.clone(), own, back)?;
    loop {
        let told = tokio::select! {
            () = shutdown.wait() => break,
            told = keeper.news.recv() => told,
            () = tokio::time::sleep(METRICS_INTERVAL) => { alive.turned(); continue }
        };
        alive.turned();
        let now = clock::now().wall;
        match told.context("the history's thread has ended")? {
            News::Standby => {
                setup.telemetry.health("history", Health::Ok, now);
                setup.telemetry.health(PART, Health::Standby(STANDBY.into()), now);
            }
            News::Failing(reason) => setup.telemetry.health("history", Health::Failing(reason), now),
            News::Leading { replayed, secret } => {
                setup.config.id_key = unhex(&secret).context("the common mail-id-key is damaged")?;
                setup.telemetry.health("history", Health::Ok, now);
                return Ok(Some((keeper, replayed)));
            }
            News::Deposed(reason) => {
                setup.telemetry.health(PART, Health::Failing(reason), now);
                tokio::time::sleep(APPEND_RETRY).await;
                let schema = setup.schema.clone();
                let own = hex(&setup.config.id_key);
                keeper = Keeper::start(setup.history.clone(), own, move || replay(&schema.borrow()))?;
            }
            News::Appended(_) => {}
        }
    }
    keeper.close().await;
    Ok(None)
}

/// Consumes, records and mails until shutdown, or until this node leads no longer.
async fn lead(
    setup: &Setup,
    keeper: Keeper,
    replayed: Vec<(RecordSeq, Record)>,
    alive: &Alive,
    shutdown: &Shutdown,
) -> Result<End> {
    let mut schema = setup.schema.clone();
    let first = schema.borrow_and_update().clone();
    let mut alert = Alert::new(setup.config.clone(), first.schema.clone(), replayed);
    let mut shell = Shell::start(setup, keeper, first);
    let mut effects = Vec::new();
    let mut metrics_due = tokio::time::interval(METRICS_INTERVAL);
    alert.handle(clock::now(), Input::Tick, &mut effects);
    let end = loop {
        alive.turned();
        shell.perform(&mut alert, &mut effects).await;
        tokio::select! {
            () = shutdown.wait() => break End::Shutdown,
            Ok(()) = schema.changed() => {
                let revision = schema.borrow_and_update().clone();
                shell.follow(&mut alert, revision, &mut effects);
            }
            event = shell.consumer.next() => shell.tell(&mut alert, event, &mut effects),
            event = shell.alive.next() => shell.hear(&mut alert, event, &mut effects).await,
            served = shell.requests.event() => if let Served::Request(request) = served {
                shell.ask(&mut alert, request, &mut effects);
            },
            told = shell.keeper.news.recv() => match told.context("the history's thread has ended")? {
                News::Deposed(reason) => break End::Deposed(reason),
                told => shell.kept(&mut alert, told, &mut effects),
            },
            Some(done) = shell.jobs.join_next() => shell.done(&mut alert, done?, &mut effects),
            () = clock::sleep_until(alert.next_wakeup()) => {
                alert.handle(clock::now(), Input::Tick, &mut effects);
            }
            _ = metrics_due.tick() => shell.telemetry.show(PART, metrics::alert(&alert.stats())),
        }
    };
    match end {
        End::Shutdown => shell.finish(&mut alert, &mut effects).await,
        // Dropped, connections and attempts with it: what is not acknowledged goes to the next leader.
        End::Deposed(_) => shell.abandon().await,
    }
    Ok(end)
}

/// How far back the machine must remember: what was mailed within the longest repeat interval is not mailed anew.
fn replay(revision: &Revision) -> Duration {
    let alerts = revision.schema.customers.values().flat_map(|customer| customer.alerts.values());
    let watchdog = revision.schema.watchdog.iter().map(|watchdog| watchdog.repeat_interval);
    let longest = alerts.map(|alert| alert.repeat_interval).chain(watchdog).max().unwrap_or_default();
    REPLAY_MIN.max(longest.saturating_mul(2))
}

/// The relays of a revision; a revision without any keeps alerts in history only. Those that the revision before
/// described in the same way keep their connections.
fn relays(revision: &Revision, mut before: Relays, revision_before: Option<&Revision>) -> Relays {
    let Some(mail) = &revision.schema.mail else { return Relays::new() };
    let mail_before = revision_before.and_then(|revision| revision.schema.mail.as_ref());
    let mail_before = mail_before.filter(|before| before.dkim == mail.dkim);
    let as_before = |relay| mail_before.is_some_and(|before| before.relays.contains(relay));
    // Unsigned mail may be refused for good where signed mail is expected: it waits until the key can be read.
    let signer = mail.dkim.as_ref().map(Signer::new).transpose().map(|signer| signer.map(Arc::new));
    let signer = signer.map_err(|error| format!("{error:#}"));
    let mut relays = Relays::new();
    for relay in &mail.relays {
        let kept = before.remove(&relay.name).filter(|kept| kept.is_ok() && as_before(relay));
        let made = || Relay::new(relay, signer.clone()?).map_err(|error| format!("{error:#}"));
        relays.insert(relay.name.clone(), kept.unwrap_or_else(made));
    }
    relays
}

impl Shell {
    fn start(setup: &Setup, keeper: Keeper, revision: Arc<Revision>) -> Self {
        let control = setup.control.clone();
        let declared = topology::kept(topology::alerts(), setup.queues);
        let options = ConsumeOptions {
            queue: names::ALERTS.into(),
            topology: declared.clone(),
            prefetch: PREFETCH,
            ..ConsumeOptions::default()
        };
        let beacons = ConsumeOptions {
            topology: topology::alive_subscription(),
            prefetch: BEACONS_PREFETCH,
            ..ConsumeOptions::default()
        };
        let publisher = Publisher::start(control.clone(), declared, ANNOUNCES_MAX);
        Self {
            consumer: Consumer::start(control.clone(), options),
            settling: Settling::default(),
            alive: Consumer::start(control.clone(), beacons),
            requests: RpcServer::start(
                control.clone(),
                topology::kept(topology::alert_requests(), setup.queues),
                names::ALERT_QUEUE,
            ),
            asked: BTreeMap::new(),
            last_asked: 0,
            voice: Voice::start(publisher.clone()),
            publisher,
            jobs: JoinSet::new(),
            keeper,
            compact_at: RecordSeq(0),
            replay: replay(&revision),
            batch: Vec::new(),
            relays: relays(&revision, Relays::new(), None),
            poster: Poster::new(&setup.webhook_nets),
            revision,
            announcing: 0,
            telemetry: setup.telemetry.clone(),
        }
    }

    /// A new revision of the schema stands.
    fn follow(&mut self, alert: &mut Alert, revision: Arc<Revision>, effects: &mut Vec<Effect>) {
        self.relays = relays(&revision, std::mem::take(&mut self.relays), Some(&self.revision));
        self.replay = replay(&revision);
        alert.handle(clock::now(), Input::SchemaChanged { schema: revision.schema.clone() }, effects);
        self.revision = revision;
    }

    fn tell(&mut self, alert: &mut Alert, event: Event, effects: &mut Vec<Effect>) {
        let now = clock::now();
        let mut next = Some(event);
        while let Some(event) = next {
            match event {
                Event::Delivery(delivery) => {
                    self.settling.delivered(delivery.token);
                    let input = Input::Delivery { token: Token(delivery.token), body: delivery.body() };
                    alert.handle(now, input, effects);
                }
                Event::Lost { reason } => {
                    self.settling.lost();
                    self.telemetry.health(PART, Health::Failing(format!("broker: {reason}")), now.wall);
                    alert.handle(now, Input::SubscriptionLost, effects);
                }
                Event::Subscribed => {
                    self.telemetry.health(PART, Health::Ok, now.wall);
                    alert.handle(now, Input::Subscribed, effects);
                }
                Event::Cancelled => {}
            }
            next = if effects.len() < EFFECTS_AT_ONCE { self.consumer.try_next() } else { None };
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
            Done::Attempted { id, attempt } => {
                posting::say_mailed(&self.telemetry, now.wall, &id, &attempt);
                alert.handle(now, Input::MailAttempted { id, attempt }, effects);
            }
            Done::Posted { id, to, attempt } => {
                posting::say_posted(&id, &to, &attempt);
                alert.handle(now, Input::MailAttempted { id, attempt }, effects);
            }
            Done::Announced => self.announcing -= 1,
        }
    }

    /// What the history's thread says of what it was given.
    fn kept(&mut self, alert: &mut Alert, told: News, effects: &mut Vec<Effect>) {
        let now = clock::now();
        match told {
            News::Appended(seq) => {
                self.keeper.written();
                self.telemetry.health("history", Health::Ok, now.wall);
                alert.handle(now, Input::Appended { seq }, effects);
            }
            News::Failing(reason) => self.telemetry.health("history", Health::Failing(reason), now.wall),
            News::Standby | News::Leading { .. } | News::Deposed(_) => {}
        }
    }

    /// Performs effects in order; records are gathered and written together, and what is safe is acknowledged together.
    async fn perform(&mut self, alert: &mut Alert, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Append { seq, record } => self.batch.push((seq, record)),
                Effect::Ack { token } => self.settling.ack(token.0),
                Effect::Reject { token } => {
                    self.consumer.settle(Settle::Reject { token: token.0, requeue: false }).await;
                    self.settling.rejected(token.0);
                }
                Effect::Send { id, relay, email } => self.send(id, &relay, *email),
                Effect::Reply { token, body } => {
                    if let Some(handle) = self.asked.remove(&token) {
                        self.requests.reply(handle, body).await;
                    }
                }
                Effect::Trace(stage) => self.voice.say(stage),
                Effect::Announce { routing_key, body } => self.announce(routing_key, body),
            }
        }
        if let Some(settle) = self.settling.take() {
            self.consumer.settle(settle).await;
        }
        self.write(alert);
    }

    /// Gives what has gathered to be written, unless a batch is on its way.
    fn write(&mut self, alert: &mut Alert) {
        if self.batch.is_empty() || !self.keeper.is_free() {
            return;
        }
        let records: Vec<_> = self.batch.drain(..self.batch.len().min(BATCH_MAX)).collect();
        let last = records.last().map_or(RecordSeq(0), |(seq, _)| *seq);
        let due = last >= self.compact_at;
        if due {
            self.compact_at = RecordSeq(last.0 + COMPACT_RECORDS);
        }
        let compaction = due.then(|| alert.compact()).filter(|compaction| compaction.upto > RecordSeq(0));
        self.keeper.write(Batch { records, compaction, replay: self.replay });
    }

    fn send(&mut self, id: MailId, relay: &str, email: Email) {
        if let Some(post) = email.post {
            let (poster, schema) = (self.poster.clone(), self.revision.schema.clone());
            self.jobs.spawn(async move {
                let attempt = posting::attempt(&poster, &schema, &id, &post).await;
                Done::Posted { id, to: email.to, attempt }
            });
            return;
        }
        let relay = self.relays.get(relay).cloned();
        self.jobs.spawn(async move {
            let unusable = |detail| Attempt::Retry { failed: Failed::Relay, detail };
            let attempt = match relay {
                Some(Ok(relay)) => relay.send(&email).await,
                Some(Err(detail)) => unusable(detail),
                None => unusable("the schema no longer names this mail relay".into()),
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
            loop {
                tokio::select! {
                    Some(done) = self.jobs.join_next() => match done {
                        Ok(done) => self.done(alert, done, effects),
                        Err(error) => tracing::warn!(%error, "a job failed at shutdown"),
                    },
                    Some(told) = self.keeper.news.recv(), if !self.keeper.is_free() => {
                        self.kept(alert, told, effects);
                    }
                    else => break,
                }
                effects.retain(|effect| !matches!(effect, Effect::Send { .. } | Effect::Announce { .. }));
                self.perform(alert, effects).await;
            }
        };
        if tokio::time::timeout(SHUTDOWN_WAIT, finishing).await.is_err() {
            tracing::warn!(
                "jobs were still running at shutdown; what they did not record will be done again"
            );
        }
        self.abandon().await;
    }

    /// Closes as it stands.
    async fn abandon(mut self) {
        self.jobs.shutdown().await;
        self.requests.close().await;
        self.alive.close().await;
        self.publisher.close().await;
        self.consumer.close().await;
        // Last: until then nobody else may lead.
        if tokio::time::timeout(SHUTDOWN_WAIT, self.keeper.close()).await.is_err() {
            tracing::warn!("the history was still being written at shutdown");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::schema_repo;

    /// A revision whose only alert repeats after this long.
    fn revision(repeat_interval: &str) -> Revision {
        let mut files = schema_repo::starter("acme", &schema_repo::salted_sha256("secret"));
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
