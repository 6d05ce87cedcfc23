//! The shells in miniature: what stands around each machine in `kinetic/src/shell`, without tokio.
//!
//! They do what those do: reconnect with backoff, subscribe again on the same slot with higher tokens, publish until
//! confirmed, give a request up after its time. What a process keeps on disk outlives it in [`Disk`].

pub(crate) mod agent;
pub(crate) mod alert;
pub(crate) mod analyzer;
pub(crate) mod outbox;
pub(crate) mod publisher;
pub(crate) mod redirector;
pub(crate) mod requests;
pub(crate) mod token;

use std::collections::BTreeMap;
use std::rc::Rc;

use kinetic_alert::machine::{Attempt, MailId, Record, RecordSeq};
use kinetic_analyzer::machine::Slot;
use kinetic_redirector::machine::Stored;
use kinetic_wire::{Mono, Now, Wall};

use crate::agenda::{Event, Life, LinkId, ProcId};
use crate::bug::Bug;
use crate::installation::Revision;
use crate::ledger::Ledger;
use crate::message::{Down, Time};
use crate::net::Net;
use crate::rng::Rng;

/// What a process is told.
#[derive(Debug)]
pub(crate) enum Tell {
    /// It begins.
    Start,
    /// The time has come that its machine asked for.
    Tick,
    /// A link's connection stands.
    Opened(LinkId),
    /// A link's connection has ended; it is already being made again.
    Lost(LinkId),
    /// A frame came.
    Frame(LinkId, Down),
    /// Something of its own has ended.
    Job(Job),
    /// A schema revision stands.
    Schema(Rc<Revision>),
    /// Leave in good order.
    Shutdown,
}

impl Tell {
    /// One line for people.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Frame(link, Down::Deliver { tag, redelivered, message }) => {
                let again = if *redelivered { " again" } else { "" };
                let body = String::from_utf8_lossy(&message.body);
                format!("link {} delivers {tag}{again}: {} {} {body}", link.0, message.exchange, message.key)
            }
            Self::Frame(link, Down::Reply { correlation, body }) => {
                format!("link {} answers {correlation}: {}", link.0, String::from_utf8_lossy(body))
            }
            other => format!("{other:?}"),
        }
    }
}

/// Something of a process's own that takes time.
#[derive(Debug)]
pub(crate) enum Job {
    /// A request over a link was not answered in time.
    RequestTimeout(LinkId, u64),
    /// What is not confirmed on a link is to be published again.
    Resend(LinkId),
    /// A clean close has taken too long.
    CloseTimeout(Slot),
    /// An analyzer sends itself a message through a source's queue; the next one comes twice as long after.
    Knock(Slot, LinkId, Time),
    /// A probe was not delivered in time.
    ProbeTimeout(Slot, u64),
    /// An empty snapshot queue is looked at once more.
    ReadAgain(Slot),
    /// The redirector's state is on disk.
    Written,
    /// A planted bug: the redirector's clock jumps.
    Haste,
    /// Records are on disk.
    Appended(RecordSeq),
    /// An e-mail was tried.
    Mailed(MailId, Attempt),
    /// A publisher's next sample is due.
    Sample,
    /// A connection could not be made in time.
    ConnectTimeout(LinkId),
}

/// What outlives a process.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Of a redirector.
    pub(crate) stored: Stored,
    /// Of an alert node.
    pub(crate) history: Vec<(RecordSeq, Record)>,
    /// Mails that the relay has taken, by recipient.
    pub(crate) inbox: Vec<(Time, MailId, String)>,
    /// Of a publisher: bodies that are not confirmed with their stamps and values, and the next one's number.
    pub(crate) unsent: BTreeMap<usize, (Wall, u64)>,
    pub(crate) next_sample: usize,
}

/// What a shell may reach, for one thing that it is told.
pub(crate) struct Reach<'w> {
    pub(crate) proc: ProcId,
    pub(crate) life: Life,
    /// The process's clocks.
    pub(crate) now: Now,
    pub(crate) net: &'w mut Net,
    pub(crate) disk: &'w mut Disk,
    pub(crate) ledger: &'w mut Ledger,
    pub(crate) rng: &'w mut Rng,
    pub(crate) bugs: &'w [Bug],
}

impl Reach<'_> {
    /// Has the process told something after a time.
    pub(crate) fn later(&mut self, after: Time, job: Job) {
        let at = self.net.now + after;
        self.net.agenda.at(at, Event::Tell(self.proc, self.life, Tell::Job(job)));
    }

    pub(crate) fn link(&mut self) -> LinkId {
        self.net.link(self.proc, self.life)
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bugs.contains(&bug)
    }
}

/// A process.
#[derive(Debug)]
pub(crate) enum Shell {
    Redirector(Box<redirector::Shell>),
    Analyzer(Box<analyzer::Shell>),
    Alert(Box<alert::Shell>),
    Publisher(Box<publisher::Shell>),
    Agent(Box<agent::Shell>),
}

impl Shell {
    /// Tells it something. False once it has ended by itself.
    pub(crate) fn tell(&mut self, tell: Tell, reach: &mut Reach<'_>) -> bool {
        match self {
            Self::Redirector(shell) => shell.tell(tell, reach),
            Self::Analyzer(shell) => return shell.tell(tell, reach),
            Self::Alert(shell) => shell.tell(tell, reach),
            Self::Publisher(shell) => shell.tell(tell, reach),
            Self::Agent(shell) => return shell.tell(tell, reach),
        }
        true
    }

    /// When its machine wants to be woken, on its own monotonic clock.
    pub(crate) fn wakeup(&self) -> Option<Mono> {
        match self {
            Self::Redirector(shell) => shell.wakeup(),
            Self::Analyzer(shell) => shell.wakeup(),
            Self::Alert(shell) => shell.wakeup(),
            Self::Publisher(_) => None,
            Self::Agent(shell) => shell.wakeup(),
        }
    }
}
