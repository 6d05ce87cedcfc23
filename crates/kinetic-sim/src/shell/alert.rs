//! Around the alert node: events in, history on disk, mail out.

use std::collections::BTreeMap;

use kinetic_alert::machine::{
    Alert, AlertConfig, Attempt, Effect, Email, Failed, Input, MailId, Record, RecordSeq,
};
use kinetic_wire::{AlertEvent, Epoch, Mono, SourceKey, Token, decode, encode, names};
use std::time::Duration;

use crate::agenda::LinkId;
use crate::bug::Bug;
use crate::installation::Revision;
use crate::message::{Down, MS, Up};
use crate::shell::{Job, Reach, Tell};

const PREFETCH: usize = 1_000;
/// Of a thousand writes, this many wait for a disk that is busy.
const DISK_STALLS_PERMILLE: u64 = 100;

#[derive(Debug)]
pub(crate) struct Shell {
    machine: Alert,
    link: LinkId,
    tokens: u64,
    /// Token of the first delivery of this connection, less one; tags of it begin at 1.
    base: u64,
    batch: Vec<(RecordSeq, Record)>,
    writing: Vec<(RecordSeq, Record)>,
    /// Events in the order in which they came, with what their publisher said of them.
    epochs: BTreeMap<SourceKey, Epoch>,
    mails: BTreeMap<MailId, String>,
}

fn config() -> AlertConfig {
    AlertConfig {
        mail_domain: "kinetic.example".into(),
        id_key: [7; 32],
        serves_links: false,
        alerts_max: 10_000,
        ids_max: 200_000,
        outbox_max: 1_000,
        mail_expiry: Duration::from_secs(24 * 3_600),
        stale_after: Duration::from_secs(3_600),
    }
}

impl Shell {
    pub(crate) fn new(revision: &Revision, reach: &mut Reach<'_>) -> Self {
        let history = reach.disk.history.clone();
        Self {
            machine: Alert::new(config(), revision.schema.clone(), history),
            link: reach.link(),
            tokens: 0,
            base: 0,
            batch: Vec::new(),
            writing: Vec::new(),
            epochs: BTreeMap::new(),
            mails: BTreeMap::new(),
        }
    }

    pub(crate) fn wakeup(&self) -> Option<Mono> {
        self.machine.next_wakeup()
    }

    pub(crate) fn tell(&mut self, tell: Tell, reach: &mut Reach<'_>) {
        let now = reach.now;
        let mut effects = Vec::new();
        match tell {
            Tell::Start | Tell::Tick => self.machine.handle(now, Input::Tick, &mut effects),
            Tell::Opened(link) => {
                self.base = self.tokens;
                reach.net.send(link, Up::Consume { queue: names::ALERTS.into(), prefetch: PREFETCH });
            }
            Tell::Lost(_) => self.machine.handle(now, Input::SubscriptionLost, &mut effects),
            Tell::Frame(_, Down::Consuming) => self.machine.handle(now, Input::Subscribed, &mut effects),
            Tell::Frame(link, Down::Deliver { tag, message, .. }) => {
                self.tokens = self.base + tag;
                let mut body = message.body.to_vec();
                if reach.has(Bug::EpochIgnored) {
                    body = self.with_highest_epoch(body);
                }
                if reach.has(Bug::AckBeforeAppend) {
                    reach.net.send(link, Up::Ack { tag, multiple: false });
                }
                let input = Input::Delivery { token: Token(self.tokens), body: &body };
                self.machine.handle(now, input, &mut effects);
            }
            Tell::Job(Job::Appended(seq)) => self.appended(seq, reach, &mut effects),
            Tell::Job(Job::Mailed(id, attempt)) => {
                if let (Attempt::Accepted { .. }, false) = (&attempt, reach.has(Bug::MailForgotten)) {
                    let to = self.mails.get(&id).cloned().unwrap_or_default();
                    reach.disk.inbox.push((reach.net.now, id.clone(), to));
                }
                self.machine.handle(now, Input::MailAttempted { id, attempt }, &mut effects);
            }
            Tell::Schema(revision) => {
                let input = Input::SchemaChanged { schema: revision.schema.clone() };
                self.machine.handle(now, input, &mut effects);
            }
            Tell::Frame(..) | Tell::Job(_) | Tell::Shutdown => {}
        }
        for effect in effects {
            self.perform(effect, reach);
        }
        self.write(reach);
    }

    fn with_highest_epoch(&mut self, body: Vec<u8>) -> Vec<u8> {
        let Ok(mut event) = decode::<AlertEvent>(&body) else { return body };
        let source = SourceKey::new(event.customer.as_str(), event.source.as_str());
        let highest = self.epochs.entry(source).or_default();
        *highest = event.epoch.max(*highest);
        event.epoch = *highest;
        encode(&event)
    }

    fn perform(&mut self, effect: Effect, reach: &mut Reach<'_>) {
        match effect {
            Effect::Append { seq, record } => self.batch.push((seq, record)),
            Effect::Ack { token } => self.settle(token, |tag| Up::Ack { tag, multiple: false }, reach),
            Effect::Reject { token } => self.settle(token, |tag| Up::Reject { tag }, reach),
            Effect::Send { id, email, .. } => self.send(id, *email, reach),
            // Nobody asks anything here.
            Effect::Announce { .. } | Effect::Reply { .. } | Effect::Trace(_) => {}
        }
    }

    fn settle(&mut self, token: Token, frame: impl Fn(u64) -> Up, reach: &mut Reach<'_>) {
        if token.0 > self.base && !reach.has(Bug::AckBeforeAppend) {
            reach.net.send(self.link, frame(token.0 - self.base));
        }
    }

    /// One batch at a time is on its way to the disk.
    fn write(&mut self, reach: &mut Reach<'_>) {
        if self.batch.is_empty() || !self.writing.is_empty() {
            return;
        }
        self.writing = std::mem::take(&mut self.batch);
        let longest = if reach.rng.permille(DISK_STALLS_PERMILLE) { 3_000 * MS } else { 30 * MS };
        let takes = reach.rng.between(MS, longest);
        if let Some((seq, _)) = self.writing.last() {
            reach.later(takes, Job::Appended(*seq));
        }
    }

    fn appended(&mut self, seq: RecordSeq, reach: &mut Reach<'_>, effects: &mut Vec<Effect>) {
        for (seq, record) in std::mem::take(&mut self.writing) {
            if let Record::Event { event, .. } = &record {
                reach.ledger.accepted(reach.net.now, event);
            }
            reach.disk.history.push((seq, record));
        }
        self.machine.handle(reach.now, Input::Appended { seq }, effects);
    }

    fn send(&mut self, id: MailId, email: Email, reach: &mut Reach<'_>) {
        let attempt = if reach.rng.permille(100) {
            Attempt::Retry { failed: Failed::Message, detail: "451 later".into() }
        } else {
            Attempt::Accepted { detail: "250 ok".into() }
        };
        self.mails.insert(id.clone(), email.to);
        let takes = reach.rng.between(5 * MS, 500 * MS);
        reach.later(takes, Job::Mailed(id, attempt));
    }
}
