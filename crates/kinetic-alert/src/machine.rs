//! The alert machine: events in, history records, acknowledgements and e-mails out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinetic_plot::Plot;
use kinetic_schema::Schema;
use kinetic_wire::{CustomerName, Login, Mono, Now, TestStage, Token, Wall};
use serde::{Deserialize, Serialize};

use crate::agenda::Agenda;
use crate::breach::Breaches;
use crate::clock::{Clock, Steady};
use crate::compact::Superseded;
use crate::deadman::Streams;
use crate::doors::Answers;
use crate::fold::Services;
use crate::group::Group;
use crate::id::{AlertKey, GroupKey};
use crate::intake::Intake;
use crate::outbox::{Blocked, Outbox};
use crate::receivers::Receivers;
pub use crate::record::{DigestPart, Record};
use crate::relays::Relays;
use crate::render;
use crate::silences::Silences;
use crate::stats::Stats;
use crate::storm::Storms;
use crate::subscribe::Left;
use crate::suppress::{Notices, Suppressions};
use crate::test_event::Tests;
use crate::watchdog::Watchdog;
use crate::webhook::Post;

/// How this alert node runs.
#[derive(Clone, Debug)]
pub struct AlertConfig {
    /// Domain of Message-IDs and List-Ids.
    pub mail_domain: String,
    /// Key of the derived ids in headers; kept in the data directory, so that ids are stable over restarts.
    pub id_key: [u8; 32],
    /// Whether an alert node serves what the links in mails lead to; without it, mails have none.
    pub serves_links: bool,
    /// Alerts remembered per customer; one more is refused visibly (counted).
    pub alerts_max: usize,
    /// Event ids remembered, over all customers; the oldest are forgotten first (counted). At least one.
    pub ids_max: usize,
    /// E-mails waiting or in flight, over all customers; one more waits in its group.
    pub outbox_max: usize,
    /// Give up on an e-mail after this long.
    pub mail_expiry: Duration,
    /// A firing alert that its analyzer has not repeated for this long is taken as resolved.
    pub stale_after: Duration,
}

/// Number of a history record, given by the machine, strictly increasing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordSeq(pub u64);

/// An e-mail's stable name: the left part of its Message-ID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MailId(pub String);

/// One message to one recipient, ready to be handed over: an e-mail to a relay, or a [`Post`] to a webhook. Every string
/// is free of CR and LF except the bodies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Email {
    /// Message-ID without the angle brackets; the same on every retry.
    pub message_id: String,
    /// Sender mailbox.
    pub from: String,
    /// Recipient mailbox, exactly one.
    pub to: String,
    /// Address that bounces go to; without one it is that of `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope_from: Option<String>,
    /// Subject, Unicode.
    pub subject: String,
    /// Date header.
    pub date: Wall,
    /// Further headers, in order: In-Reply-To, References, Auto-Submitted, List-Id, X-Kinetic-*.
    pub headers: Vec<(String, String)>,
    /// text/plain part.
    pub text: String,
    /// text/html part. Where there is a plot, it names the picture by [`Email::picture_id`].
    pub html: String,
    /// The picture of the feed that leads: numbers, drawn when the mail is handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plot: Option<Plot>,
    /// Where the recipient is a webhook: what is posted to it instead of a mail. Sender, headers and bodies are empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post: Option<Post>,
}

impl Email {
    /// Content-ID of the picture, without the angle brackets: derived from the Message-ID, so the same on every retry.
    #[must_use]
    pub fn picture_id(&self) -> String {
        render::picture_id(&self.message_id)
    }
}

/// Where a mail stands in the correspondence with its recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Name of the alert block that sends it.
    pub alert: String,
    /// When the group went from nothing firing to firing.
    pub episode: Wall,
    /// Number of the mail within the episode, from 1.
    pub seq: u32,
    /// The part of the subject that stays the same throughout the episode.
    pub subject: String,
}

/// How one attempt to hand over an e-mail ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The relay has taken it (2xx after DATA).
    Accepted {
        /// Its words.
        detail: String,
    },
    /// The message was handed over to its final dot, and the reply to that was lost: it may have been taken, and is
    /// sent again as it is.
    MaybeAccepted {
        /// Why.
        detail: String,
    },
    /// Surely not taken; to be tried again.
    Retry {
        /// What failed.
        failed: Failed,
        /// Why.
        detail: String,
    },
    /// Surely not taken: the other side asks for patience. Nothing more is sent that way for so long.
    Busy {
        /// How long.
        after: Duration,
        /// Its words.
        detail: String,
    },
    /// 5xx: never this mail to this address. What is refused because of the relay itself is tried again all the same.
    Refused {
        /// What is refused.
        failed: Failed,
        /// Why.
        detail: String,
    },
}

/// Handle of a request, for its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);
/// What an attempt failed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The relay: not reached, not usable, or gone before the end. Other mails would fare no better there.
    Relay,
    /// This message.
    Message,
    /// Its recipient.
    Recipient,
}

/// What the alert node is told.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Time has passed.
    Tick,
    /// A new schema revision stands.
    SchemaChanged {
        /// The values.
        schema: Arc<Schema>,
    },
    /// A message of the queue `kin.alerts`.
    Delivery {
        /// Handle for settlement.
        token: Token,
        /// JSON of an [`AlertEvent`].
        body: &'a [u8],
    },
    /// All records up to this one are on disk.
    Appended {
        /// The last one.
        seq: RecordSeq,
    },
    /// An attempt at an e-mail has ended.
    MailAttempted {
        /// Which.
        id: MailId,
        /// How.
        attempt: Attempt,
    },
    /// A request; answered by [`Effect::Reply`], once what it has changed is on disk.
    Request {
        /// Handle for the answer.
        token: ReplyToken,
        /// What is asked: a routing key of `kin.rpc`.
        kind: &'a str,
        /// Who asks, as the broker has verified it.
        login: Option<&'a Login>,
        /// JSON.
        body: &'a [u8],
    },
    /// The connection to the broker is gone: unsettled tokens are void, their messages will come again. Until
    /// `Subscribed` or the next delivery no alert goes stale: nothing could have been heard of it.
    SubscriptionLost,
    /// The subscription to `kin.alerts` stands (again).
    Subscribed,
    /// A message of the exchange `kin.alive`.
    Alive {
        /// JSON of a [`kinetic_wire::Beacon`].
        body: &'a [u8],
    },
    /// The subscription to `kin.alive` stands (again): from now on silence means something, and everybody has the full
    /// time. Until this is said, nobody is called silent.
    AliveSubscribed,
    /// The subscription to `kin.alive` is gone: nobody can be heard.
    AliveLost,
}

/// What the alert node wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write a record; answer with `Appended` once it is safe. The shell may write many at once.
    Append {
        /// Its number.
        seq: RecordSeq,
        /// What.
        record: Record,
    },
    /// Acknowledge a delivery: its event is on disk, or was there already.
    Ack {
        /// Which.
        token: Token,
    },
    /// Refuse a delivery that is no alert event; the broker dead-letters it.
    Reject {
        /// Which.
        token: Token,
    },
    /// Hand a message over, an e-mail to a relay or a [`Post`] to a webhook; answer with `MailAttempted`.
    Send {
        /// Its name.
        id: MailId,
        /// Name of the relay; of a post, that of its recipient.
        relay: Arc<str>,
        /// The mail.
        email: Box<Email>,
    },
    /// Answer a request.
    Reply {
        /// Which.
        token: ReplyToken,
        /// JSON.
        body: Vec<u8>,
    },
    /// Say on `kin.trace` how far a test event has come: transient, best effort.
    Trace(Box<TestStage>),
    /// Publish on `kin.notifications` what has been notified (best effort, JSON).
    Announce {
        /// `<customer>.<analytic>.<state>`.
        routing_key: String,
        /// JSON body.
        body: Vec<u8>,
    },
}

/// The alert node.
#[derive(Debug)]
pub struct Alert {
    pub(crate) config: AlertConfig,
    pub(crate) schema: Arc<Schema>,
    pub(crate) clock: Clock,
    /// Number of the next record.
    pub(crate) next_seq: RecordSeq,
    pub(crate) intake: Intake,
    pub(crate) groups: BTreeMap<Arc<GroupKey>, Group>,
    /// Alerts followed, by customer, and by how many groups hold them.
    pub(crate) followed: BTreeMap<CustomerName, BTreeMap<AlertKey, u32>>,
    /// What explains what.
    pub(crate) services: Services,
    pub(crate) outbox: Outbox,
    pub(crate) relays: Relays,
    pub(crate) receivers: Receivers,
    pub(crate) storms: Storms,
    pub(crate) suppressions: Suppressions,
    pub(crate) notices: Notices,
    /// When a group has something to say.
    pub(crate) flushes: Agenda<Arc<GroupKey>>,
    /// Groups that had something to say while there was no room for it in the outbox.
    pub(crate) blocked: Blocked,
    /// When an alert may have gone stale.
    pub(crate) staleness: Agenda<(Arc<GroupKey>, AlertKey)>,
    /// Nothing can have gone stale by silence before this moment.
    pub(crate) hearing_since: Steady,
    /// Whether deliveries can come at all.
    pub(crate) subscribed: bool,
    /// No group says anything before this moment: after a restart the queue is read first.
    pub(crate) quiet_until: Steady,
    pub(crate) watchdog: Watchdog,
    pub(crate) breaches: Breaches,
    pub(crate) streams: Streams,
    pub(crate) silences: Silences,
    pub(crate) tests: Tests,
    /// Who has taken himself off which alert block.
    pub(crate) left: Left,
    /// Answers that wait until a record is safe.
    pub(crate) answers: Answers,
    /// The last time that was told.
    pub(crate) now: Steady,
    /// Records that replay will not need.
    pub(crate) superseded: Superseded,
    pub(crate) stats: Stats,
}

/// After a restart with a history, decisions wait this long, so that what happened meanwhile is heard first.
const CATCH_UP: Duration = Duration::from_secs(2);

impl Alert {
    /// An alert node that remembers what `history` says, oldest first. The shell gives the last days: no less than
    /// `stale_after`, `mail_expiry` and the longest `repeat_interval`.
    #[must_use]
    pub fn new(
        config: AlertConfig,
        schema: Arc<Schema>,
        history: impl IntoIterator<Item = (RecordSeq, Record)>,
    ) -> Self {
        let mut alert = Self {
            services: Services::of(&schema),
            config,
            schema,
            clock: Clock::default(),
            next_seq: RecordSeq(1),
            intake: Intake::default(),
            groups: BTreeMap::new(),
            followed: BTreeMap::new(),
            outbox: Outbox::default(),
            relays: Relays::default(),
            receivers: Receivers::default(),
            storms: Storms::default(),
            suppressions: Suppressions::default(),
            notices: Notices::default(),
            flushes: Agenda::default(),
            blocked: Blocked::default(),
            staleness: Agenda::default(),
            hearing_since: Steady::default(),
            subscribed: true,
            quiet_until: Steady::default(),
            watchdog: Watchdog::default(),
            streams: Streams::default(),
            breaches: Breaches::default(),
            silences: Silences::default(),
            tests: Tests::default(),
            left: Left::default(),
            answers: Answers::default(),
            now: Steady::default(),
            superseded: Superseded::default(),
            stats: Stats::default(),
        };
        alert.replay(history);
        alert
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        let booting = !self.clock.is_set();
        let at = self.clock.read(now);
        self.now = at;
        if booting {
            self.boot(at, effects);
        }
        self.silences_due(at, effects);
        self.renew_leavers(at, effects);
        match input {
            Input::Tick => {}
            Input::SchemaChanged { schema } => {
                self.schema = schema;
                self.forget_leavers(at, effects);
                self.relays.follow(&self.schema, at);
                self.receivers.follow(&self.schema);
                self.reroute(at, effects);
                self.follow_addresses(at, effects);
                self.follow_watchdog(at, effects);
                self.follow_streams(at, effects);
                self.follow_breaches();
            }
            Input::Delivery { token, body } => {
                self.hearing(at);
                self.delivery(at, token, body, effects);
            }
            Input::Appended { seq } => self.appended(at, seq, effects),
            Input::MailAttempted { id, attempt } => self.mail_attempted(at, &id, attempt, effects),
            Input::Request { token, kind, login, body } => {
                self.request(at, token, kind, login, body, effects);
            }
            Input::SubscriptionLost => {
                self.subscribed = false;
                self.intake.void_tokens();
                self.tests.void_tokens();
            }
            Input::Subscribed => self.hearing(at),
            Input::Alive { body } => self.beacon(at, body, effects),
            Input::AliveSubscribed => self.hearing_beacons(Some(at)),
            Input::AliveLost => self.hearing_beacons(None),
        }
        self.watch_nodes(at, effects);
        self.watch_streams(at, effects);
        self.watch_breaches(at, effects);
        self.take_stale(at, effects);
        self.renew_addresses(at, effects);
        self.flush_due(at, effects);
        self.digests_due(at, effects);
        self.tests_due(at, effects);
        self.mails_due(at, effects);
    }

    /// When the shell must send a `Tick` at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Mono> {
        if !self.clock.is_set() {
            return Some(Mono::default());
        }
        let stale = if self.subscribed { self.staleness.next() } else { None };
        [
            stale,
            self.flushes.next(),
            self.outbox.next_due(),
            self.next_relay(),
            self.digest_wakeup(),
            self.suppressions.next(),
            self.tests.next(self.clock.latest()),
            self.watchdog.next(),
            self.streams.next(),
            self.breaches.next(),
            self.silences.next(),
            self.left.next(),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|at| self.clock.mono(at))
    }

    /// Counters since boot, and gauges as of now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (nodes, nodes_silent) = self.watchdog.counts();
        let (mails_in_flight, relays, relays_failing) = self.relays.counts();
        let (posts_in_flight, receivers_failing) = self.receivers.counts();
        let (customers, customers_not_begun, customers_silent) = self.streams.counts();
        Stats {
            customers: customers as u64,
            customers_not_begun: customers_not_begun as u64,
            customers_silent: customers_silent as u64,
            breaches_standing: self.breaches.len() as u64,
            nodes: nodes as u64,
            nodes_silent: nodes_silent as u64,
            alerts: self.followed.values().map(BTreeMap::len).sum::<usize>() as u64,
            alerts_firing: self.alerts_firing() as u64,
            groups: self.groups.len() as u64,
            outbox: self.outbox.len() as u64,
            silences: self.silences.len() as u64,
            unsubscribed: self.left.len() as u64,
            mails_in_flight: mails_in_flight as u64,
            posts_in_flight: posts_in_flight as u64,
            receivers_failing: receivers_failing as u64,
            missed_cut: self.groups.values().map(Group::missed_cut).sum(),
            streams_held: self.storms.held() as u64,
            suppressed: self.suppressions.count() as u64,
            relays: relays as u64,
            relays_failing: relays_failing as u64,
            appends_pending: (self.intake.pending() + self.tests.pending() + self.outbox.recording()) as u64,
            ..self.stats
        }
    }

    /// Alerts that fire; each stands in one cluster's group.
    fn alerts_firing(&self) -> usize {
        let of_clusters = self.groups.iter().filter(|(key, _)| key.block().is_none());
        of_clusters.map(|(_, group)| group.firing()).sum()
    }

    /// Deliveries can come: what was silent while they could not has its full time again.
    fn hearing(&mut self, at: Steady) {
        if !self.subscribed {
            self.subscribed = true;
            self.hearing_since = at;
        }
    }

    /// The first time that the time is told: history's stamps meet the clock.
    fn boot(&mut self, at: Steady, effects: &mut Vec<Effect>) {
        self.hearing_since = at;
        if self.next_seq > RecordSeq(1) {
            self.quiet_until = at + CATCH_UP;
        }
        self.groups.values_mut().for_each(|group| group.clamp(at));
        self.relays.follow(&self.schema, at);
        self.outbox.boot(at, self.config.mail_expiry);
        self.storms.clamp(at);
        self.turn_silences(at);
        self.boot_answers();
        self.forget_leavers(at, effects);
        self.reroute(at, effects);
        self.follow_addresses(at, effects);
        self.boot_watchdog(at, effects);
        self.boot_streams(at, effects);
        self.boot_breaches(at);
    }

    /// Hands out the number of a record and asks for it to be written.
    pub(crate) fn append(&mut self, record: Record, effects: &mut Vec<Effect>) -> RecordSeq {
        let seq = self.next_seq;
        self.next_seq = RecordSeq(seq.0 + 1);
        effects.push(Effect::Append { seq, record });
        seq
    }
}
