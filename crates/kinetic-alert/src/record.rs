//! What history holds: the records from which the machine is rebuilt.

use kinetic_wire::{AlertEvent, CustomerName, Incarnation, NodeId, Role, Silence, Subscription, Wall};
use serde::{Deserialize, Serialize};

use crate::machine::{Email, MailId, RecordSeq, Thread};

/// What a digest says of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestPart {
    /// The group.
    pub group: String,
    /// Why it would have been mailed.
    pub reason: String,
    /// Keys of the alerts reported as firing.
    pub firing: Vec<String>,
    /// And as resolved.
    pub resolved: Vec<String>,
    /// Its place in that group's correspondence.
    pub thread: Thread,
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
        /// The last record about mail that did not reach this recipient of which it tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        noticed: Option<RecordSeq>,
        /// The last event that had entered its group when this was decided. Later ones, though their numbers are
        /// lower than this record's, were still on their way to the disk, and replay must not know them either.
        seen: RecordSeq,
    },
    /// The event of a test has come. It is in no group, and replay passes it over.
    Tested {
        /// When.
        at: Wall,
        /// The event.
        event: Box<AlertEvent>,
    },
    /// A mail of a test was decided upon. It does not outlive the process: replay passes it over.
    TestMailQueued {
        /// When.
        at: Wall,
        /// Its name.
        id: MailId,
        /// Whose line is tested.
        customer: CustomerName,
        /// The mail itself.
        email: Box<Email>,
    },
    /// How an e-mail ended.
    MailEnded {
        /// When.
        at: Wall,
        /// Its name.
        id: MailId,
        /// `accepted`, `refused`, `expired`, or `superseded` by a mail that says what has happened while it waited.
        outcome: String,
        /// The relay's last words.
        detail: String,
        /// As in `MailQueued`.
        #[serde(default)]
        seen: RecordSeq,
    },
    /// One mail was decided upon that speaks of many groups, or of mail that did not arrive.
    DigestQueued {
        /// When.
        at: Wall,
        /// Its name.
        id: MailId,
        /// Whose.
        customer: CustomerName,
        /// The mail itself.
        email: Box<Email>,
        /// What it says of each group.
        parts: Vec<DigestPart>,
        /// As in `MailQueued`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        noticed: Option<RecordSeq>,
        /// As in `MailQueued`.
        seen: RecordSeq,
    },
    /// How an address stands that was refused, as a whole; empty when it is good again.
    Address {
        /// When.
        at: Wall,
        /// The address, without a name.
        address: String,
        /// When it was refused lately.
        refusals: Vec<Wall>,
        /// Since when nothing is sent to it.
        suppressed: Option<Wall>,
        /// The last refusal in the relay's words.
        detail: String,
        /// Message-ID of the mail that was refused last, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mail: Option<String>,
        /// Who said that the address is good again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lifted_by: Option<String>,
    },
    /// These mails wait and were surely not taken by a relay: until `MailRetried` says otherwise they may be superseded.
    MailsWait {
        /// When.
        at: Wall,
        /// Which.
        ids: Vec<MailId>,
    },
    /// A mail of which `MailsWait` spoke is about to be sent: from now on a relay may have it.
    MailRetried {
        /// When.
        at: Wall,
        /// Which.
        id: MailId,
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
    /// A recipient has taken himself off an alert block; said again while it stands.
    Unsubscribed {
        /// When.
        at: Wall,
        /// Who, off what.
        subscription: Subscription,
        /// Since when.
        since: Wall,
    },
    /// He is told again.
    Subscribed {
        /// When.
        at: Wall,
        /// Who, by what.
        subscription: Subscription,
        /// Who has put him back.
        author: String,
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
            | Self::Tested { at, .. }
            | Self::TestMailQueued { at, .. }
            | Self::MailQueued { at, .. }
            | Self::MailEnded { at, .. }
            | Self::DigestQueued { at, .. }
            | Self::Address { at, .. }
            | Self::MailsWait { at, .. }
            | Self::MailRetried { at, .. }
            | Self::Stale { at, .. }
            | Self::Settled { at, .. }
            | Self::Silenced { at, .. }
            | Self::Unsilenced { at, .. }
            | Self::Acknowledged { at, .. }
            | Self::Unsubscribed { at, .. }
            | Self::Subscribed { at, .. }
            | Self::NodeKnown { at, .. }
            | Self::NodeGone { at, .. }
            | Self::StreamKnown { at, .. }
            | Self::StreamGone { at, .. } => *at,
        }
    }
}
