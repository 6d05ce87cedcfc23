//! E-mails that have been decided upon and have not ended: recorded, sent, tried again, given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::agenda::Agenda;
use crate::clock::Steady;
use crate::id::{GroupKey, StreamKey};
use crate::machine::{Email, MailId, RecordSeq};

/// Seconds between attempts; the last one repeats until the mail expires (`wire-reference.md` 6.2).
const RETRY_S: [u64; 11] = [1, 2, 4, 8, 15, 30, 60, 120, 240, 480, 900];

/// Where a mail is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its record is not known to be safe: it must not be seen by anyone yet.
    Recording,
    /// It waits for its next attempt.
    Waiting,
    /// The shell has it.
    InFlight,
}

/// A mail that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) email: Box<Email>,
    pub(crate) group: Arc<GroupKey>,
    pub(crate) stream: StreamKey,
    queued_at: Steady,
    tries: usize,
    /// The relay's last words.
    pub(crate) detail: String,
    phase: Phase,
}

/// What is due for a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailDue {
    /// Another attempt.
    Try,
    /// To be given up.
    Expire,
}

/// All mails that have not ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    mails: BTreeMap<MailId, Queued>,
    recording: BTreeMap<RecordSeq, MailId>,
    agenda: Agenda<MailId>,
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.mails.len()
    }

    /// Mails whose record is not known to be safe.
    pub(crate) fn recording(&self) -> usize {
        self.recording.len()
    }

    pub(crate) fn next_due(&self) -> Option<Steady> {
        self.agenda.next()
    }

    /// Takes in a mail whose record is `seq`.
    pub(crate) fn insert(
        &mut self,
        seq: RecordSeq,
        id: MailId,
        email: Box<Email>,
        group: Arc<GroupKey>,
        stream: StreamKey,
        queued_at: Steady,
    ) {
        self.recording.insert(seq, id.clone());
        let phase = Phase::Recording;
        self.mails
            .insert(id, Queued { email, group, stream, queued_at, tries: 0, detail: String::new(), phase });
    }

    /// Records up to `seq` are safe: their mails may go.
    pub(crate) fn appended(&mut self, seq: RecordSeq, at: Steady) {
        while let Some(first) = self.recording.first_entry().filter(|first| *first.key() <= seq) {
            let id = first.remove();
            if let Some(mail) = self.mails.get_mut(&id) {
                mail.phase = Phase::Waiting;
                self.agenda.set(&id, Some(at));
            }
        }
    }

    /// What came out of history is safe, and due at once.
    pub(crate) fn boot(&mut self, at: Steady) {
        for mail in self.mails.values_mut() {
            mail.queued_at = mail.queued_at.min(at);
        }
        self.appended(RecordSeq(u64::MAX), at);
    }

    /// Takes the next mail for which something is due.
    pub(crate) fn take_due(&mut self, now: Steady, expiry: Duration) -> Option<(MailId, MailDue)> {
        let id = self.agenda.take_due(now)?;
        let mail = self.mails.get_mut(&id).expect("a mail leaves the agenda when it ends");
        if mail.queued_at + expiry <= now && mail.tries > 0 {
            return Some((id, MailDue::Expire));
        }
        mail.tries += 1;
        mail.phase = Phase::InFlight;
        Some((id, MailDue::Try))
    }

    pub(crate) fn get(&self, id: &MailId) -> Option<&Queued> {
        self.mails.get(id)
    }

    /// Whether the shell is at it.
    pub(crate) fn in_flight(&self, id: &MailId) -> bool {
        self.mails.get(id).is_some_and(|mail| mail.phase == Phase::InFlight)
    }

    /// An attempt has failed for now.
    pub(crate) fn retry(&mut self, id: &MailId, detail: String, at: Steady, expiry: Duration) {
        let Some(mail) = self.mails.get_mut(id) else { return };
        let pause = RETRY_S[mail.tries.saturating_sub(1).min(RETRY_S.len() - 1)];
        mail.phase = Phase::Waiting;
        mail.detail = detail;
        let next = at + Duration::from_secs(pause);
        self.agenda.set(id, Some(next.min((mail.queued_at + expiry).max(at))));
    }

    /// A mail has ended.
    pub(crate) fn remove(&mut self, id: &MailId) -> Option<Queued> {
        self.agenda.set(id, None);
        let mail = self.mails.remove(id)?;
        if mail.phase == Phase::Recording {
            self.recording.retain(|_, recording| recording != id);
        }
        Some(mail)
    }
}
