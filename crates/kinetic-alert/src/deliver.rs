//! What becomes of a mail that has been decided upon: it is sent, tried again, given up, or replaced by one that says
//! what has happened while it waited.

use std::sync::Arc;
use std::time::Duration;

use crate::circuit::Verdict;
use crate::clock::Steady;
use crate::group::MailEnd;
use crate::machine::{Alert, Attempt, Effect, Failed, MailId, Record};
use crate::outbox::{Queued, Sent, Take, Unsent};
use crate::suppress::Refused;

/// Characters of a relay's words kept in history.
const DETAIL_KEPT_MAX: usize = 500;
/// A mail that has waited for this long is looked at again before it is sent: whether what it says is still so.
const SUPERSEDE_AFTER: Duration = Duration::from_secs(10);

impl Alert {
    /// When a relay may take what waits for it.
    pub(crate) fn next_relay(&self) -> Option<Steady> {
        let waits = self.outbox.waits();
        let relay = waits.then(|| self.relays.next(self.clock.latest())).flatten();
        [relay, self.next_receiver()].into_iter().flatten().min()
    }

    /// Mails whose moment has come are tried, or given up.
    pub(crate) fn mails_due(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        self.outbox.end_pauses(now);
        while let Some(id) = self.outbox.take_expired(now, self.relays.any_closed()) {
            self.mail_ended(now, &id, Ending::Expired, effects);
        }
        while let Some((id, relay)) = self.outbox.take_reopened() {
            self.send(id, relay, effects);
        }
        self.send_in_line(now, effects);
        self.posts_in_line(now, effects);
        let ids = self.outbox.note_waiting(now);
        self.record_waiting(now, ids, effects);
    }

    fn record_waiting(&mut self, now: Steady, ids: Vec<MailId>, effects: &mut Vec<Effect>) {
        if !ids.is_empty() {
            self.append(Record::MailsWait { at: now.wall(), ids }, effects);
        }
    }

    /// As many mails as the relays have places for, in turn.
    fn send_in_line(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        while let Some(first) = self.relays.choose(now, None)
            && let Some((id, mail)) = self.outbox.next_in_line()
        {
            let id = id.clone();
            if self.suppressions.holds(&mail.email.to) {
                self.stats.mails_suppressed += 1;
                self.mail_ended(now, &id, Ending::Refused("the address is suppressed".into()), effects);
                continue;
            }
            if self.is_outdated(now, &id, mail) {
                self.mail_ended(now, &id, Ending::Superseded, effects);
                continue;
            }
            let relay = self.relays.choose(now, mail.avoid()).unwrap_or(first);
            self.relays.begin(&relay, now);
            let take = self.outbox.take(&id, Arc::clone(&relay));
            self.taken(now, id, relay, take, effects);
        }
    }

    /// An attempt at a message that has been taken out of its line begins, once history knows of it.
    pub(crate) fn taken(
        &mut self,
        now: Steady,
        id: MailId,
        way: Arc<str>,
        take: Take,
        effects: &mut Vec<Effect>,
    ) {
        match take {
            Take::Send => self.send(id, way, effects),
            Take::RecordFirst => {
                let seq = self.append(Record::MailRetried { at: now.wall(), id: id.clone() }, effects);
                self.outbox.reopening(seq, id);
            }
        }
    }

    fn send(&mut self, id: MailId, relay: Arc<str>, effects: &mut Vec<Effect>) {
        let Some(mail) = self.outbox.get(&id) else { return };
        *match mail.receiver() {
            Some(_) => &mut self.stats.posts_tried,
            None => &mut self.stats.mails_tried,
        } += 1;
        let email = mail.email.clone();
        self.test_sending(self.now, &id, &relay, effects);
        effects.push(Effect::Send { id, relay, email });
    }

    /// Whether a mail that has waited says what is no longer so. One that a relay may have taken stays as it is.
    pub(crate) fn is_outdated(&self, now: Steady, id: &MailId, mail: &Queued) -> bool {
        let outdated = |(key, stream): &(Arc<_>, _)| {
            self.groups.get(key).and_then(|group| group.streams.get(stream)).is_some_and(|s| s.outdates(id))
        };
        mail.surely_unsent()
            && now.since(mail.queued_at) >= SUPERSEDE_AFTER
            && mail.parts.iter().any(outdated)
    }

    /// The shell says how an attempt ended.
    pub(crate) fn mail_attempted(
        &mut self,
        now: Steady,
        id: &MailId,
        attempt: Attempt,
        effects: &mut Vec<Effect>,
    ) {
        let Some(relay) = self.outbox.relay_of(id) else {
            self.stats.attempts_unknown += 1;
            return;
        };
        let verdict = match &attempt {
            Attempt::Accepted { .. } => Verdict::Works,
            Attempt::MaybeAccepted { .. } | Attempt::Busy { .. } => Verdict::Failed,
            Attempt::Retry { failed, .. } | Attempt::Refused { failed, .. } => match failed {
                Failed::Relay => Verdict::Failed,
                Failed::Message | Failed::Recipient => Verdict::Works,
            },
        };
        let receiver = self.outbox.get(id).and_then(Queued::receiver).cloned();
        let patience = if let Attempt::Busy { after, .. } = &attempt { *after } else { Duration::ZERO };
        let other_way = match &receiver {
            Some(receiver) => {
                let opens = self.receivers.end(receiver, now, verdict, patience);
                self.stats.receiver_failures += u64::from(opens);
                false
            }
            None => {
                self.stats.relay_failures += u64::from(self.relays.end(&relay, now, verdict));
                self.relays.any_closed()
            }
        };
        let (sent, detail) = match attempt {
            Attempt::Accepted { detail } => {
                return self.mail_ended(now, id, Ending::Accepted(detail), effects);
            }
            Attempt::Refused { failed: failed @ (Failed::Message | Failed::Recipient), detail } => {
                if failed == Failed::Recipient
                    && !self.tests.holds(id)
                    && let Some(email) = self.outbox.get(id).map(|mail| mail.email.clone())
                {
                    let mail = Some(email.message_id.as_str());
                    self.refused(now, &Refused { mailbox: &email.to, mail, detail: &detail }, effects);
                }
                return self.mail_ended(now, id, Ending::Refused(detail), effects);
            }
            Attempt::MaybeAccepted { detail } => {
                self.stats.mails_maybe_accepted += 1;
                (Sent::Perhaps, detail)
            }
            Attempt::Retry { detail, .. }
            | Attempt::Refused { detail, .. }
            | Attempt::Busy { detail, .. } => (Sent::No, detail),
        };
        *match receiver {
            Some(_) => &mut self.stats.posts_retried,
            None => &mut self.stats.mails_retried,
        } += 1;
        self.test_waits(now, id, &relay, &detail, effects);
        let unsent = match verdict {
            Verdict::Works => Unsent::Later,
            Verdict::Failed if other_way => Unsent::OtherRelay,
            Verdict::Failed => Unsent::NoRelay,
        };
        if self.outbox.retry(id, detail, now, unsent, sent) {
            self.record_waiting(now, vec![id.clone()], effects);
        }
    }

    pub(crate) fn mail_ended(&mut self, now: Steady, id: &MailId, ending: Ending, effects: &mut Vec<Effect>) {
        let relay = self.outbox.relay_of(id);
        let Some(mail) = self.outbox.remove(id) else { return };
        let (outcome, detail) = match ending {
            Ending::Accepted(detail) => (Outcome::Accepted, detail),
            Ending::Refused(detail) => (Outcome::Refused, detail),
            Ending::Expired => (Outcome::Expired, mail.detail.clone()),
            Ending::Superseded => (Outcome::Superseded, mail.detail.clone()),
        };
        let stats = &mut self.stats;
        *match (outcome, mail.receiver()) {
            (Outcome::Accepted, None) => &mut stats.mails_accepted,
            (Outcome::Refused, None) => &mut stats.mails_refused,
            (Outcome::Expired, None) => &mut stats.mails_expired,
            (Outcome::Superseded, None) => &mut stats.mails_superseded,
            (Outcome::Accepted, Some(_)) => &mut stats.posts_accepted,
            (Outcome::Refused, Some(_)) => &mut stats.posts_refused,
            (Outcome::Expired, Some(_)) => &mut stats.posts_expired,
            (Outcome::Superseded, Some(_)) => &mut stats.posts_superseded,
        } += 1;
        let record = Record::MailEnded {
            at: now.wall(),
            id: id.clone(),
            outcome: outcome.as_str().to_owned(),
            detail: crate::escape::line(&detail, DETAIL_KEPT_MAX),
            seen: self.intake.applied,
        };
        let seq = self.append(record, effects);
        self.test_ended(now, id, relay.as_deref(), (outcome, &detail), effects);
        self.undelivered(now, seq, &mail, outcome, &detail);
        self.close_mail(now, &mail, id, outcome.end());
        for (group, _) in &mail.parts {
            self.drop_unrouted(now, group, effects);
            self.schedule(group);
        }
        self.flush_due(now, effects);
        while let Some(key) = self.blocked.take(|customer| self.outbox.room(customer, self.config.outbox_max))
        {
            self.schedule(&key);
            self.flush_due(now, effects);
        }
    }

    /// Tells the groups that a mail of theirs has ended.
    pub(crate) fn close_mail(&mut self, at: Steady, mail: &Queued, id: &MailId, end: MailEnd) {
        if let Some(noticed) = mail.noticed.filter(|_| end == MailEnd::Told) {
            self.notices.told(&(mail.customer.clone(), mail.email.to.as_str().into()), noticed);
        }
        for (key, stream) in &mail.parts {
            let Some(group) = self.groups.get_mut(key) else { continue };
            group.mail_ended(stream, id, end, at);
            self.count_followed(key);
        }
    }
}

/// How a message ends.
pub(crate) enum Ending {
    Accepted(String),
    Refused(String),
    Expired,
    Superseded,
}

/// How a mail ended, as history writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Refused,
    Expired,
    Superseded,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Accepted, Self::Refused, Self::Expired, Self::Superseded];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }

    /// A refused mail counts as told, or the same refusal would be asked for again and again.
    pub(crate) fn end(self) -> MailEnd {
        match self {
            Self::Accepted | Self::Refused => MailEnd::Told,
            Self::Expired => MailEnd::Expired,
            Self::Superseded => MailEnd::Superseded,
        }
    }
}
