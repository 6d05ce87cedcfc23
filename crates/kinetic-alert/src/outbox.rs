//! E-mails that have been decided upon and have not ended: recorded, sent, tried again, given up.
//!
//! Which one goes next: customers take turns, so that one customer's storm delays nobody else; within a customer the
//! gravest goes first, and of equally grave ones the oldest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::schema::Severity;
use kinetic_wire::CustomerName;

use crate::agenda::Agenda;
use crate::clock::Steady;
use crate::id::{GroupKey, StreamKey};
use crate::machine::{Email, MailId, RecordSeq};
use crate::receivers::Receiver;
use crate::webhook;

/// Seconds between attempts at one mail; the last one repeats until the mail expires (`wire-reference.md` 6.2).
const RETRY_S: [u64; 11] = [1, 2, 4, 8, 15, 30, 60, 120, 240, 480, 900];
/// Longest pause, seconds, of a mail that met a relay that failed: the mail is not to blame.
const RELAY_RETRY_S_MAX: u64 = 60;
/// A mail that has waited for this long without an attempt is recorded as not sent.
const NOTE_WAITING_AFTER: Duration = Duration::from_secs(5);
/// One customer's part of the outbox is the whole divided by this.
const CUSTOMER_SHARE: usize = 4;
/// Pause before a mail that has expired and was never tried, though a relay works, is looked at again.
const UNTRIED_PAUSE: Duration = Duration::from_secs(60);

/// Where a mail is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Its record is not known to be safe: it must not be seen by anyone yet.
    Recording,
    /// It waits for its next attempt, which is due.
    Ready,
    /// It waits for its next attempt, which is not due yet.
    Deferred,
    /// History says that it was not sent; that it is about to be is being recorded. The relay keeps a place for it.
    Reopening(Arc<str>),
    /// The shell has it, for this relay.
    InFlight(Arc<str>),
}

/// A mail that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) email: Box<Email>,
    /// The webhook that it is posted to, where it is no mail.
    receiver: Option<Receiver>,
    pub(crate) customer: CustomerName,
    /// What it speaks of: one group's correspondence, or those that share a digest.
    pub(crate) parts: Vec<(Arc<GroupKey>, StreamKey)>,
    severity: Severity,
    pub(crate) queued_at: Steady,
    tries: usize,
    /// The last record about mail that did not arrive of which it tells.
    pub(crate) noticed: Option<RecordSeq>,
    /// The relay's last words.
    pub(crate) detail: String,
    phase: Phase,
    /// A relay may have taken it without our knowing: it must stay as it is, under its id.
    maybe_accepted: bool,
    /// History says that it was not sent.
    noted_waiting: bool,
    /// The relay that did not take it last time.
    avoid: Option<Arc<str>>,
}

impl Queued {
    /// A mail that has just been decided upon.
    pub(crate) fn new(
        email: Box<Email>,
        parts: Vec<(Arc<GroupKey>, StreamKey)>,
        customer: CustomerName,
        severity: Severity,
        queued_at: Steady,
    ) -> Self {
        let receiver = webhook::is_webhook(&email.to);
        let receiver = receiver.then(|| (customer.clone(), email.to.as_str().into()));
        Self {
            email,
            receiver,
            customer,
            parts,
            severity,
            queued_at,
            tries: 0,
            noticed: None,
            detail: String::new(),
            phase: Phase::Recording,
            maybe_accepted: false,
            noted_waiting: false,
            avoid: None,
        }
    }

    /// Whether it is sure that no relay has it.
    pub(crate) fn surely_unsent(&self) -> bool {
        !self.maybe_accepted && matches!(self.phase, Phase::Ready | Phase::Deferred)
    }

    /// The relay that did not take it last time.
    pub(crate) fn avoid(&self) -> Option<&str> {
        self.avoid.as_deref()
    }

    /// The webhook that it is posted to, where it is no mail.
    pub(crate) fn receiver(&self) -> Option<&Receiver> {
        self.receiver.as_ref()
    }

    fn rank(&self) -> (Reverse<Severity>, Steady) {
        (Reverse(self.severity), self.queued_at)
    }
}

/// Mails of one customer whose next attempt is due, the next one first.
type Line = BTreeSet<(Reverse<Severity>, Steady, MailId)>;

/// Takes a place out of a line, and a line that is empty away.
fn leave<K: Ord>(lines: &mut BTreeMap<K, Line>, key: &K, place: &(Reverse<Severity>, Steady, MailId)) {
    let Some(line) = lines.get_mut(key) else { return };
    line.remove(place);
    if line.is_empty() {
        lines.remove(key);
    }
}

/// What an attempt said about a mail that has not ended by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// Its relay failed; another one takes its place at once.
    OtherRelay,
    /// Its relay failed, and there is no other.
    NoRelay,
    /// The relay works and wants it later.
    Later,
}

/// All mails that have not ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    mails: BTreeMap<MailId, Queued>,
    by_customer: BTreeMap<CustomerName, usize>,
    recording: BTreeMap<RecordSeq, MailId>,
    lines: BTreeMap<CustomerName, Line>,
    /// Whose turn it was last.
    turn: Option<CustomerName>,
    /// Posts wait for their receiver and not for each other's.
    posts: BTreeMap<Receiver, Line>,
    /// Which receiver's turn it was last.
    post_turn: Option<Receiver>,
    /// Mails whose attempt has been recorded and may begin.
    reopened: VecDeque<MailId>,
    deferred: Agenda<MailId>,
    expiries: Agenda<MailId>,
    /// When it is to be recorded of a mail that it waits.
    unnoted: Agenda<MailId>,
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.mails.len()
    }

    /// Records of mails that are not known to be safe.
    pub(crate) fn recording(&self) -> usize {
        self.recording.len()
    }

    /// Whether a customer may have one more mail here. Those who have none always may, so the bound is `mails_max` and one
    /// per customer.
    pub(crate) fn room(&self, customer: &CustomerName, mails_max: usize) -> bool {
        let own = self.by_customer.get(customer).copied().unwrap_or(0);
        own == 0 || (own < (mails_max / CUSTOMER_SHARE).max(1) && self.mails.len() < mails_max)
    }

    /// Whether any mail waits for nothing but a relay.
    pub(crate) fn waits(&self) -> bool {
        !self.lines.is_empty()
    }

    pub(crate) fn next_due(&self) -> Option<Steady> {
        [self.deferred.next(), self.expiries.next(), self.unnoted.next()].into_iter().flatten().min()
    }

    /// Takes in a mail whose record is `seq`.
    pub(crate) fn insert(&mut self, seq: RecordSeq, id: MailId, mail: Queued) {
        self.recording.insert(seq, id.clone());
        *self.by_customer.entry(mail.customer.clone()).or_default() += 1;
        self.mails.insert(id, mail);
    }

    /// Records up to `seq` are safe: their mails may go.
    pub(crate) fn appended(&mut self, seq: RecordSeq, at: Steady, expiry: Duration) {
        while let Some(first) = self.recording.first_entry().filter(|first| *first.key() <= seq) {
            let id = first.remove();
            let Some(mail) = self.mails.get_mut(&id) else { continue };
            match mail.phase {
                Phase::Recording => {
                    self.expiries.set(&id, Some((mail.queued_at + expiry).max(at)));
                    if !mail.maybe_accepted && !mail.noted_waiting {
                        self.unnoted.set(&id, Some(at + NOTE_WAITING_AFTER));
                    }
                    self.make_ready(&id);
                }
                Phase::Reopening(_) => self.reopened.push_back(id),
                Phase::Ready | Phase::Deferred | Phase::InFlight(_) => {}
            }
        }
    }

    /// What came out of history is safe, and due at once.
    pub(crate) fn boot(&mut self, at: Steady, expiry: Duration) {
        for mail in self.mails.values_mut() {
            mail.queued_at = mail.queued_at.min(at);
        }
        self.appended(RecordSeq(u64::MAX), at, expiry);
    }

    /// History says of a mail that it was surely not sent, or that it may have been.
    pub(crate) fn replay_sent(&mut self, id: &MailId, maybe: Sent) {
        if let Some(mail) = self.mails.get_mut(id) {
            mail.maybe_accepted = maybe == Sent::Perhaps;
            mail.noted_waiting = maybe == Sent::No;
        }
    }

    fn make_ready(&mut self, id: &MailId) {
        let Some(mail) = self.mails.get_mut(id) else { return };
        mail.phase = Phase::Ready;
        let (severity, queued_at) = mail.rank();
        let line = match &mail.receiver {
            Some(receiver) => self.posts.entry(receiver.clone()).or_default(),
            None => self.lines.entry(mail.customer.clone()).or_default(),
        };
        line.insert((severity, queued_at, id.clone()));
    }

    fn leave_line(&mut self, id: &MailId) {
        let Some(mail) = self.mails.get(id) else { return };
        let (severity, queued_at) = mail.rank();
        let place = (severity, queued_at, id.clone());
        match &mail.receiver {
            Some(receiver) => leave(&mut self.posts, receiver, &place),
            None => leave(&mut self.lines, &mail.customer, &place),
        }
    }

    /// Mails whose pause is over get in line.
    pub(crate) fn end_pauses(&mut self, now: Steady) {
        while let Some(id) = self.deferred.take_due(now) {
            self.make_ready(&id);
        }
    }

    /// Takes a mail that is to be given up. One that could not be tried at all is given up only where no relay works.
    pub(crate) fn take_expired(&mut self, now: Steady, relay_works: bool) -> Option<MailId> {
        while let Some(id) = self.expiries.take_due(now) {
            let mail = self.mails.get(&id)?;
            match mail.phase {
                Phase::Ready | Phase::Deferred
                    if mail.tries > 0 || mail.receiver.is_some() || !relay_works =>
                {
                    return Some(id);
                }
                _ => self.expiries.set(&id, Some(now + UNTRIED_PAUSE)),
            }
        }
        None
    }

    /// Mails of which it is to be recorded now that they wait.
    pub(crate) fn note_waiting(&mut self, now: Steady) -> Vec<MailId> {
        let mut ids = Vec::new();
        while let Some(id) = self.unnoted.take_due(now) {
            if let Some(mail) = self.mails.get_mut(&id) {
                mail.noted_waiting = true;
                ids.push(id);
            }
        }
        ids
    }

    /// A mail whose attempt has been recorded.
    pub(crate) fn take_reopened(&mut self) -> Option<(MailId, Arc<str>)> {
        while let Some(id) = self.reopened.pop_front() {
            if let Some(Phase::Reopening(relay)) = self.mails.get(&id).map(|mail| mail.phase.clone()) {
                self.begin(&id, Arc::clone(&relay));
                return Some((id, relay));
            }
        }
        None
    }

    /// The mail that is to be sent next.
    pub(crate) fn next_in_line(&self) -> Option<(&MailId, &Queued)> {
        let after = self.turn.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut turns = self.lines.range::<CustomerName, _>((after, Bound::Unbounded));
        let (_, line) = turns.next().or_else(|| self.lines.first_key_value())?;
        let (_, _, id) = line.first()?;
        Some((id, self.mails.get(id)?))
    }

    /// The post that is to go next, to a receiver who takes one.
    pub(crate) fn next_post(&self, takes: impl Fn(&Receiver) -> bool) -> Option<(&MailId, &Queued)> {
        let after = self.post_turn.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.posts.range::<Receiver, _>((after, Bound::Unbounded));
        let (_, line) = later.chain(self.posts.iter()).find(|(receiver, _)| takes(receiver))?;
        let (_, _, id) = line.first()?;
        Some((id, self.mails.get(id)?))
    }

    /// Whether a post waits for nothing but this receiver.
    pub(crate) fn waits_for(&self, receiver: &Receiver) -> bool {
        self.posts.contains_key(receiver)
    }

    /// An attempt at a mail in line is about to begin at a relay. Returns whether that must be recorded first.
    pub(crate) fn take(&mut self, id: &MailId, relay: Arc<str>) -> Take {
        self.leave_line(id);
        let Some(mail) = self.mails.get_mut(id) else { return Take::Send };
        match &mail.receiver {
            Some(receiver) => self.post_turn = Some(receiver.clone()),
            None => self.turn = Some(mail.customer.clone()),
        }
        if mail.noted_waiting {
            mail.noted_waiting = false;
            mail.phase = Phase::Reopening(relay);
            return Take::RecordFirst;
        }
        self.begin(id, relay);
        Take::Send
    }

    /// The record that a mail is about to be sent is `seq`.
    pub(crate) fn reopening(&mut self, seq: RecordSeq, id: MailId) {
        self.recording.insert(seq, id);
    }

    fn begin(&mut self, id: &MailId, relay: Arc<str>) {
        self.unnoted.set(id, None);
        if let Some(mail) = self.mails.get_mut(id) {
            mail.tries += 1;
            mail.phase = Phase::InFlight(relay);
        }
    }

    pub(crate) fn get(&self, id: &MailId) -> Option<&Queued> {
        self.mails.get(id)
    }

    /// The relay at which the shell tries a mail.
    pub(crate) fn relay_of(&self, id: &MailId) -> Option<Arc<str>> {
        match &self.mails.get(id)?.phase {
            Phase::InFlight(relay) => Some(Arc::clone(relay)),
            _ => None,
        }
    }

    /// An attempt has failed for now. Returns whether it is to be recorded that the mail waits.
    pub(crate) fn retry(
        &mut self,
        id: &MailId,
        detail: String,
        at: Steady,
        unsent: Unsent,
        sent: Sent,
    ) -> bool {
        let Some(mail) = self.mails.get_mut(id) else { return false };
        let Phase::InFlight(relay) = std::mem::replace(&mut mail.phase, Phase::Deferred) else {
            return false;
        };
        let mut pause = RETRY_S[mail.tries.saturating_sub(1).min(RETRY_S.len() - 1)];
        mail.detail = detail;
        mail.avoid = Some(relay);
        mail.maybe_accepted |= sent == Sent::Perhaps;
        mail.noted_waiting = !mail.maybe_accepted;
        let note = mail.noted_waiting;
        match unsent {
            Unsent::OtherRelay => {
                self.make_ready(id);
                return note;
            }
            Unsent::NoRelay => pause = pause.min(RELAY_RETRY_S_MAX),
            Unsent::Later => {}
        }
        self.deferred.set(id, Some(at + Duration::from_secs(pause)));
        note
    }

    /// A mail has ended.
    pub(crate) fn remove(&mut self, id: &MailId) -> Option<Queued> {
        self.leave_line(id);
        self.deferred.set(id, None);
        self.expiries.set(id, None);
        self.unnoted.set(id, None);
        let mail = self.mails.remove(id)?;
        if let Some(count) = self.by_customer.get_mut(&mail.customer) {
            *count -= 1;
            if *count == 0 {
                self.by_customer.remove(&mail.customer);
            }
        }
        if matches!(mail.phase, Phase::Recording | Phase::Reopening(_)) {
            self.recording.retain(|_, recording| recording != id);
        }
        Some(mail)
    }
}

/// Whether a relay may have a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Surely not.
    No,
    /// Its answer is not known.
    Perhaps,
}

/// How an attempt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// The mail goes to the shell.
    Send,
    /// History says that it was not sent: first it must say that it may have been.
    RecordFirst,
}

/// A group that waits, the next one first.
type Waiting = (Reverse<Severity>, Steady, Arc<GroupKey>);

/// Groups that had something to say while there was no room for it: for each customer the gravest first, then the one
/// that has waited longest. Customers take turns here as well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocked {
    lines: BTreeMap<CustomerName, BTreeSet<Waiting>>,
    groups: BTreeMap<Arc<GroupKey>, (Reverse<Severity>, Steady)>,
    turn: Option<CustomerName>,
}

impl Blocked {
    pub(crate) fn contains(&self, key: &GroupKey) -> bool {
        self.groups.contains_key(key)
    }

    /// A group waits. Returns whether it did not before.
    pub(crate) fn insert(&mut self, key: &Arc<GroupKey>, severity: Severity, at: Steady) -> bool {
        if self.contains(key) {
            return false;
        }
        self.groups.insert(Arc::clone(key), (Reverse(severity), at));
        self.lines.entry(key.customer.clone()).or_default().insert((Reverse(severity), at, Arc::clone(key)));
        true
    }

    pub(crate) fn remove(&mut self, key: &Arc<GroupKey>) {
        let Some((severity, at)) = self.groups.remove(key) else { return };
        if let Some(line) = self.lines.get_mut(&key.customer) {
            line.remove(&(severity, at, Arc::clone(key)));
            if line.is_empty() {
                self.lines.remove(&key.customer);
            }
        }
    }

    /// Takes the next group of a customer who has room.
    pub(crate) fn take(&mut self, room: impl Fn(&CustomerName) -> bool) -> Option<Arc<GroupKey>> {
        let after = self.turn.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.lines.range::<CustomerName, _>((after, Bound::Unbounded));
        let (customer, line) = later.chain(self.lines.iter()).find(|(customer, _)| room(customer))?;
        let (_, _, key) = line.first()?;
        let (customer, key) = (customer.clone(), Arc::clone(key));
        self.turn = Some(customer);
        self.remove(&key);
        Some(key)
    }
}
