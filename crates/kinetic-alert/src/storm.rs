//! Storm control: beyond a customer's `mails_per_hour` what is to be said waits, and each recipient has it in one digest,
//! at most one an hour. What he was told of and has ended is among it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kinetic_wire::CustomerName;

use crate::agenda::Agenda;
use crate::announce;
use crate::clock::Steady;
use crate::digest::{self, Section};
use crate::id::{AlertKey, GroupKey, MailNames, StreamKey};
use crate::machine::{Alert, DigestPart, Effect, Email, MailId, Record, RecordSeq};
use crate::outbox::Queued;
use crate::reason::{NotifyReason, Step};
use crate::render::{self, Context, Notification};
use crate::webhook;

/// Over which `mails_per_hour` counts, and between two digests to one recipient.
const HOUR: Duration = Duration::from_secs(3_600);
/// What is held together waits this long for company.
const DIGEST_WAIT: Duration = Duration::from_secs(60);
/// Mails an hour about the installation itself, which is no customer.
const INSTALLATION_MAILS_PER_HOUR: u32 = 60;
/// Correspondences in one digest; further ones are in the next (counted).
const SECTIONS_MAX: usize = 150;
/// Pause where there is no room in the outbox.
const ROOM_PAUSE: Duration = Duration::from_secs(60);

/// What waits for one recipient's next digest.
#[derive(Clone, Debug, Default)]
struct Letter {
    /// When his last digest was decided upon.
    last: Option<Steady>,
    held: BTreeSet<(Arc<GroupKey>, StreamKey)>,
}

/// What a digest speaks of, and why it would have been mailed.
type Said = (Arc<GroupKey>, StreamKey, NotifyReason);

/// One customer's recipient.
pub(crate) type Recipient = (CustomerName, Arc<str>);

/// How much mail each customer has had, and what is held back of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storms {
    /// Mails of the last hour, by when they were decided upon.
    mails: BTreeMap<CustomerName, VecDeque<Steady>>,
    letters: BTreeMap<Recipient, Letter>,
    /// When each recipient's next digest is decided upon.
    due: Agenda<Recipient>,
}

impl Storms {
    /// A message is decided upon. What is posted is no mail of the hour.
    pub(crate) fn told(&mut self, customer: &CustomerName, to: &str, at: Steady) {
        if webhook::is_webhook(to) {
            return;
        }
        self.mails.entry(customer.clone()).or_default().push_back(at);
    }

    /// A digest is decided upon.
    pub(crate) fn digested(&mut self, customer: &CustomerName, to: &Arc<str>, at: Steady) {
        self.letters.entry((customer.clone(), Arc::clone(to))).or_default().last = Some(at);
    }

    /// Whether a customer may have another mail within this hour.
    fn allows(&mut self, customer: &CustomerName, per_hour: u32, now: Steady) -> bool {
        let Some(mails) = self.mails.get_mut(customer) else { return per_hour > 0 };
        while mails.front().is_some_and(|at| *at + HOUR <= now) {
            mails.pop_front();
        }
        let count = mails.len();
        if count == 0 {
            self.mails.remove(customer);
        }
        count < usize::try_from(per_hour).unwrap_or(usize::MAX)
    }

    /// A recipient is to have a digest, no more than an hour after his last one.
    pub(crate) fn wants(&mut self, recipient: &Recipient, now: Steady) {
        if !self.due.contains(recipient) {
            let last = self.letters.get(recipient).and_then(|letter| letter.last);
            let at = (now + DIGEST_WAIT).max(last.map_or(now, |last| last + HOUR));
            self.due.set(recipient, Some(at));
        }
    }

    /// What one stream has to say waits for its recipient's digest.
    fn hold(&mut self, group: &Arc<GroupKey>, stream: &StreamKey, now: Steady) {
        let recipient = (group.customer.clone(), Arc::clone(&stream.to));
        self.letters.entry(recipient.clone()).or_default().held.insert((Arc::clone(group), stream.clone()));
        self.wants(&recipient, now);
    }

    /// When a digest is due.
    pub(crate) fn next(&self) -> Option<Steady> {
        self.due.next()
    }

    /// Streams that wait.
    pub(crate) fn held(&self) -> usize {
        self.letters.values().map(|letter| letter.held.len()).sum()
    }

    /// Brings stamps of the future, from a clock that ran ahead, back to `now`.
    pub(crate) fn clamp(&mut self, now: Steady) {
        self.mails.values_mut().flatten().for_each(|at| *at = (*at).min(now));
        self.letters
            .values_mut()
            .filter_map(|letter| letter.last.as_mut())
            .for_each(|at| *at = (*at).min(now));
    }
}

impl Alert {
    /// Whether a group's customer has had all the mail that he may have within an hour.
    pub(crate) fn storms(&mut self, group: &GroupKey, now: Steady) -> bool {
        let customer = self.schema.customers.get(&group.customer);
        let per_hour =
            customer.map_or(INSTALLATION_MAILS_PER_HOUR, |customer| customer.limits.mails_per_hour);
        !self.storms.allows(&group.customer, per_hour, now)
    }

    /// What a stream has to say waits for the digest.
    pub(crate) fn hold(&mut self, now: Steady, key: &Arc<GroupKey>, stream: &StreamKey) {
        if let Some(group) = self.groups.get_mut(key) {
            group.hold(stream);
            self.stats.mails_held += 1;
            self.storms.hold(key, stream, now);
        }
    }

    /// When a digest is due, where there is a way for it.
    pub(crate) fn digest_wakeup(&self) -> Option<Steady> {
        self.schema.mail.as_ref().and_then(|_| self.storms.next())
    }

    /// Digests whose moment has come.
    pub(crate) fn digests_due(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        if self.schema.mail.is_none() {
            return;
        }
        while let Some(recipient) = self.storms.due.take_due(now) {
            if !self.outbox.room(&recipient.0, self.config.outbox_max) {
                self.stats.outbox_full += 1;
                self.storms.due.set(&recipient, Some(now + ROOM_PAUSE));
                continue;
            }
            self.digest(now, &recipient, effects);
        }
    }

    /// What of the held is still to be said: the gravest first, and of equally grave ones what fires.
    fn release(&mut self, now: Steady, recipient: &Recipient) -> Vec<Said> {
        let held = self.storms.letters.get_mut(recipient).map(|letter| std::mem::take(&mut letter.held));
        let mut said = Vec::new();
        for (key, stream) in held.unwrap_or_default() {
            let Some(group) = self.groups.get_mut(&key) else { continue };
            group.release(&stream);
            match self.step_due(&key, &stream, now) {
                // What another service explains is left unsaid here, too.
                Some(Step::Mail(reason)) if reason.folds() && self.folds(&key, &stream, now) => {
                    self.schedule(&key);
                }
                Some(Step::Mail(reason)) => said.push((key, stream, reason)),
                Some(Step::Settle) | None => self.schedule(&key),
            }
        }
        let rank = |key: &Arc<GroupKey>| {
            let firing = self.groups.get(key).is_some_and(|group| group.firing() > 0);
            (std::cmp::Reverse(self.urgency(key)), !firing)
        };
        said.sort_by_cached_key(|(key, ..)| rank(key));
        for (key, stream, _) in said.split_off(said.len().min(SECTIONS_MAX)) {
            self.stats.digests_cut += 1;
            self.hold(now, &key, &stream);
        }
        said
    }

    fn digest(&mut self, now: Steady, recipient: &Recipient, effects: &mut Vec<Effect>) {
        let (customer, to) = recipient;
        let streams = self.release(now, recipient);
        let notices = self.notices.of(recipient);
        let Some(mail) = self.schema.mail.clone() else { return };
        if streams.is_empty() && notices.is_none() || self.suppressions.holds(to) {
            streams.iter().for_each(|(key, ..)| self.schedule(key));
            return;
        }
        self.storms.digested(customer, to, now);
        let names = MailNames { key: &self.config.id_key, domain: &self.config.mail_domain };
        let mut parts = Vec::new();
        let mut sections = Vec::new();
        for (key, stream, reason) in &streams {
            let context = Context {
                failing: self.failing_below(key, &stream.to, now),
                folded: self.folded_above(key, &stream.to),
            };
            let Some(group) = self.groups.get(key) else { continue };
            let Some(state) = group.streams.get(stream) else { continue };
            let thread = group.next_thread(stream, || render::subject(key, group));
            let firing = group.to_tell(&state.told);
            let resolved = group.to_resolve(state, &firing);
            parts.push(DigestPart {
                group: key.to_string(),
                reason: reason.to_string(),
                firing: firing.iter().map(ToString::to_string).collect(),
                resolved: resolved.iter().map(ToString::to_string).collect(),
                thread: thread.clone(),
            });
            let mut notification =
                Notification::new(key, group, state, *reason, &thread, now.wall(), &self.schema);
            notification.context = context;
            let first = group.streams.keys().find(|other| other.alert == stream.alert);
            if first == Some(stream) {
                effects.push(announce::effect(&notification));
            }
            sections.push(Section::of(&notification));
        }
        let id = names.digest(customer, to, now.wall());
        let notice_lines = notices.as_ref().map(|(_, lines)| lines.as_slice()).unwrap_or_default();
        let mut email =
            digest::email(&names, &id, customer, &mail.from, to, now.wall(), &sections, notice_lines);
        email.envelope_from = mail.bounces.as_ref().and_then(|own| names.envelope_from(own, to));
        let email = Box::new(email);
        let noticed = notices.map(|(last, _)| last);
        let record = Record::DigestQueued {
            at: now.wall(),
            id: id.clone(),
            customer: customer.clone(),
            email: email.clone(),
            parts: parts.clone(),
            noticed,
            seen: self.intake.applied,
        };
        let seq = self.append(record, effects);
        self.stats.digests_queued += 1;
        self.queue_digest(now, seq, id, customer.clone(), email, parts, noticed);
    }

    /// A digest has been decided upon, now or in history.
    #[expect(clippy::too_many_arguments, reason = "the fields of one record")]
    pub(crate) fn queue_digest(
        &mut self,
        at: Steady,
        seq: RecordSeq,
        id: MailId,
        customer: CustomerName,
        email: Box<Email>,
        parts: Vec<DigestPart>,
        noticed: Option<RecordSeq>,
    ) {
        let mut streams = Vec::new();
        for DigestPart { group, firing, thread, .. } in parts {
            let Some(key) = GroupKey::parse(&group) else { continue };
            let stream = StreamKey { alert: thread.alert.as_str().into(), to: email.to.as_str().into() };
            let key = self.open_group(key, at);
            let firing = firing.iter().filter_map(|text| AlertKey::parse(text)).collect();
            if let Some(group) = self.groups.get_mut(&key) {
                group.mail_queued(stream.clone(), id.clone(), thread, firing, at);
            }
            self.schedule_live(&key);
            streams.push((key, stream));
        }
        let severity = streams.iter().map(|(key, _)| self.urgency(key)).max().unwrap_or_default();
        let mut mail = Queued::new(email, streams, customer, severity, at);
        mail.noticed = noticed;
        self.outbox.insert(seq, id, mail);
    }
}
