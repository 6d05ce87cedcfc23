//! The alert machine: events in, history records, acknowledgements and e-mails out.

use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::Schema;
use kinetic_wire::{AlertEvent, Mono, Now, Token, Wall};
use serde::{Deserialize, Serialize};

/// How this alert node runs.
#[derive(Clone, Debug)]
pub struct AlertConfig {
    /// Domain of Message-IDs and List-Ids.
    pub mail_domain: String,
    /// Key of the derived ids in headers; kept in the data directory, so that ids are stable over restarts.
    pub id_key: [u8; 32],
    /// Alerts remembered per customer; one more is refused visibly (counted).
    pub alerts_max: usize,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// text/html part.
    pub html: String,
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
        /// Keys of the alerts it reports as firing, and as resolved.
        firing: Vec<String>,
        /// See `firing`.
        resolved: Vec<String>,
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
    /// The connection to the broker is gone: unsettled tokens are void, their messages will come again.
    SubscriptionLost,
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
    config: AlertConfig,
}

impl Alert {
    /// An alert node that remembers what `history` says (oldest first; the shell gives the last days).
    #[must_use]
    pub fn new(
        config: AlertConfig,
        schema: Arc<Schema>,
        history: impl IntoIterator<Item = (RecordSeq, Record)>,
    ) -> Self {
        let _ = (schema, history.into_iter().count());
        Self { config }
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        let _ = (now, input, effects, &self.config);
    }

    /// When the shell must send a `Tick` at the latest.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Mono> {
        None
    }
}
