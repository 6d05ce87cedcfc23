//! The alert machine: events in, history records, acknowledgements and e-mails out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinetic_plot::Plot;
use kinetic_schema::Schema;
use kinetic_wire::{
    AlertEvent, CustomerName, Incarnation, Login, Mono, NodeId, Now, Role, Silence, Token, Wall,
};
use serde::{Deserialize, Serialize};

use crate::agenda::Agenda;
use crate::clock::{Clock, Steady};
use crate::compact::Superseded;
use crate::doors::Answers;
use crate::fold::Services;
use crate::group::Group;
use crate::id::{AlertKey, GroupKey};
use crate::intake::Intake;
use crate::outbox::Outbox;
use crate::render;
use crate::silences::Silences;
use crate::stats::Stats;
use crate::streams::Streams;
use crate::watchdog::Watchdog;

/// How this alert node runs.
#[derive(Clone, Debug)]
pub struct AlertConfig {
    /// Domain of Message-IDs and List-Ids.
    pub mail_domain: String,
    /// Key of the derived ids in headers; kept in the data directory, so that ids are stable over restarts.
    pub id_key: [u8; 32],
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

/// One e-mail to one recipient, ready to be handed to a relay. Every string is free of CR and LF except the bodies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Email {
    /// Message-ID without the angle brackets; the same on every retry.
    pub message_id: String,
    /// Sender mailbox.
    pub from: String,
    /// Recipient mailbox, exactly one.
    pub to: String,
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

/// What history holds. Append-only; replayed at boot to rebuild the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// An alert event was accepted.
    Event {
        /// When.
        at: Wall,
        /// The event.
        event: Box<AlertEvent>,
    },
    /// An e-mail was decided upon and will be sent until it is accepted, refused or expired.
    MailQueued {
        /// When.
        at: Wall,
        /// Its name.
        id: MailId,
        /// The group it speaks of (opaque text, stable).
        group: String,
        /// Why it is sent.
        reason: String,
        /// The mail itself.
        email: Box<Email>,
        /// Keys of the alerts that its recipient believes to fire from then on, and of those it reports as resolved.
        firing: Vec<String>,
        /// See `firing`.
        resolved: Vec<String>,
        /// Its place among the mails about this group to this recipient.
        thread: Thread,
        /// The last event that had entered its group when this was decided. Later ones, though their numbers are
        /// lower than this record's, were still on their way to the disk, and replay must not know them either.
        seen: RecordSeq,
    },
    /// How an e-mail ended.
    MailEnded {
        /// When.
        at: Wall,
        /// Its name.
        id: MailId,
        /// `accepted`, `refused` or `expired`.
        outcome: String,
        /// The relay's last words.
        detail: String,
    },
    /// Alerts are taken as resolved because their analyzer has not repeated them for `stale_after`.
    Stale {
        /// When.
        at: Wall,
        /// Their group.
        group: String,
        /// Their keys.
        alerts: Vec<String>,
        /// As in `MailQueued`.
        seen: RecordSeq,
    },
    /// What a recipient is taken to know of a group has changed without a mail: his alert block does not speak of
    /// ends, or the schema no longer names him.
    Settled {
        /// When.
        at: Wall,
        /// The group.
        group: String,
        /// Name of the alert block.
        alert: String,
        /// The recipient.
        to: String,
        /// Keys of the alerts that he is taken to know as firing from now on.
        firing: Vec<String>,
        /// As in `MailQueued`.
        seen: RecordSeq,
    },
    /// Somebody wants nobody to be told of something for a while; said again while it stands.
    Silenced {
        /// When.
        at: Wall,
        /// The silence.
        silence: Box<Silence>,
    },
    /// Somebody has ended a silence before its time.
    Unsilenced {
        /// When.
        at: Wall,
        /// Whose.
        customer: CustomerName,
        /// Its name.
        id: String,
        /// Who.
        author: String,
    },
    /// Somebody takes care of what fires in a group.
    Acknowledged {
        /// When.
        at: Wall,
        /// The group.
        group: String,
        /// Who.
        author: String,
        /// Why.
        reason: String,
        /// Until then, or until the episode ends.
        until: Wall,
        /// As in `MailQueued`.
        seen: RecordSeq,
    },
    /// A node of the installation lives: it was heard for the first time, or for the first time in long.
    NodeKnown {
        /// When.
        at: Wall,
        /// What it is.
        role: Role,
        /// Its name.
        node: NodeId,
        /// The start of it that was heard.
        inc: Incarnation,
    },
    /// A node's silence is no event from now on: it has stopped in good order, has been silent for too long to be
    /// waited for, or nobody is to be told.
    NodeGone {
        /// When.
        at: Wall,
        /// What it is.
        role: Role,
        /// Its name.
        node: NodeId,
    },
    /// Something comes of a customer whose silence is an event: for the first time, or for the first time in long.
    StreamKnown {
        /// When.
        at: Wall,
        /// Whose.
        customer: CustomerName,
    },
    /// A customer's silence is no event from now on: it has lasted for too long, or the schema says so.
    StreamGone {
        /// When.
        at: Wall,
        /// Whose.
        customer: CustomerName,
    },
}

impl Record {
    /// When it was written down.
    #[must_use]
    pub fn at(&self) -> Wall {
        match self {
            Self::Event { at, .. }
            | Self::MailQueued { at, .. }
            | Self::MailEnded { at, .. }
            | Self::Stale { at, .. }
            | Self::Settled { at, .. }
            | Self::Silenced { at, .. }
            | Self::Unsilenced { at, .. }
            | Self::Acknowledged { at, .. }
            | Self::NodeKnown { at, .. }
            | Self::NodeGone { at, .. }
            | Self::StreamKnown { at, .. }
            | Self::StreamGone { at, .. } => *at,
        }
    }
}

/// How one attempt to hand over an e-mail ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The relay has taken it (2xx after DATA).
    Accepted {
        /// Its words.
        detail: String,
    },
    /// No connection, 4xx, time-out, connection lost: try again.
    Retry {
        /// Why.
        detail: String,
    },
    /// 5xx: never this mail to this address.
    Refused {
        /// Why.
        detail: String,
    },
}

/// Handle of a request, for its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

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
    /// Hand an e-mail to the relay; answer with `MailAttempted`.
    Send {
        /// Its name.
        id: MailId,
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
    /// When a group has something to say.
    pub(crate) flushes: Agenda<Arc<GroupKey>>,
    /// Groups that had something to say while the outbox was full, by when that was.
    pub(crate) blocked: Agenda<Arc<GroupKey>>,
    /// When an alert may have gone stale.
    pub(crate) staleness: Agenda<(Arc<GroupKey>, AlertKey)>,
    /// Nothing can have gone stale by silence before this moment.
    pub(crate) hearing_since: Steady,
    /// Whether deliveries can come at all.
    pub(crate) subscribed: bool,
    /// No group says anything before this moment: after a restart the queue is read first.
    pub(crate) quiet_until: Steady,
    pub(crate) watchdog: Watchdog,
    pub(crate) streams: Streams,
    pub(crate) silences: Silences,
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
            flushes: Agenda::default(),
            blocked: Agenda::default(),
            staleness: Agenda::default(),
            hearing_since: Steady::default(),
            subscribed: true,
            quiet_until: Steady::default(),
            watchdog: Watchdog::default(),
            streams: Streams::default(),
            silences: Silences::default(),
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
        match input {
            Input::Tick => {}
            Input::SchemaChanged { schema } => {
                self.schema = schema;
                self.reroute(at, effects);
                self.follow_watchdog(at, effects);
                self.follow_streams(at, effects);
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
            }
            Input::Subscribed => self.hearing(at),
            Input::Alive { body } => self.beacon(at, body, effects),
            Input::AliveSubscribed => self.hearing_beacons(Some(at)),
            Input::AliveLost => self.hearing_beacons(None),
        }
        self.watch_nodes(at, effects);
        self.watch_streams(at, effects);
        self.take_stale(at, effects);
        self.flush_due(at, effects);
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
            self.watchdog.next(),
            self.streams.next(),
            self.silences.next(),
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
        let (streams, streams_not_begun, streams_silent) = self.streams.counts();
        Stats {
            streams: streams as u64,
            streams_not_begun: streams_not_begun as u64,
            streams_silent: streams_silent as u64,
            nodes: nodes as u64,
            nodes_silent: nodes_silent as u64,
            alerts: self.followed.values().map(BTreeMap::len).sum::<usize>() as u64,
            alerts_firing: self.alerts_firing() as u64,
            groups: self.groups.len() as u64,
            outbox: self.outbox.len() as u64,
            silences: self.silences.len() as u64,
            appends_pending: (self.intake.pending() + self.outbox.recording()) as u64,
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
        self.outbox.boot(at);
        self.turn_silences(at);
        self.boot_answers();
        self.reroute(at, effects);
        self.boot_watchdog(at, effects);
        self.boot_streams(at, effects);
    }

    /// Hands out the number of a record and asks for it to be written.
    pub(crate) fn append(&mut self, record: Record, effects: &mut Vec<Effect>) -> RecordSeq {
        let seq = self.next_seq;
        self.next_seq = RecordSeq(seq.0 + 1);
        effects.push(Effect::Append { seq, record });
        seq
    }
}
