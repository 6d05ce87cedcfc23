//! Test events: announced by an operator, recorded like any event, mailed to those who would be, and followed by whoever began
//! them (`kin.trace`).
//!
//! A test is in no group: it fires nothing, ends nothing, counts in no storm, and is replayed by nobody. What was not announced is
//! not mailed; what is not mailed when its time is up is withdrawn; what a restart interrupts is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinetic_schema::schema::{Customer, INSTALLATION, Severity};
use kinetic_wire::{
    AlertEvent, AlertState, AnnounceTest, CustomerName, Progress, RpcCode, Stage, TestAnnounced, TestStage,
    Token, decode, encode, is_trace, names, trace_of,
};

use crate::clock::Steady;
use crate::deliver::{Ending, Outcome};
use crate::doors::{Answer, Refusal, check_line};
use crate::id::MailNames;
use crate::machine::{Alert, Effect, MailId, Record, RecordSeq};
use crate::outbox::Queued;
use crate::subscribe::Left;
use crate::{format, test_mail};

/// Recipients of one test; further ones are not mailed, which the answer says.
const RECIPIENTS_MAX: usize = 16;
/// Bytes of a mailbox.
const MAILBOX_BYTES_MAX: usize = 320;
/// Between the beginnings of two tests of one customer.
const AGAIN: Duration = Duration::from_secs(3);
/// For how long a test is followed.
const WAIT: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
/// The one message version that is understood.
const VERSION: u32 = 1;

/// A test that was announced.
#[derive(Clone, Debug)]
struct Announced {
    trace: String,
    to: Vec<String>,
    began: Steady,
    until: Steady,
    /// Its event has come.
    has_come: bool,
    /// Mails of it that have not ended; `None` before there are any.
    mails_left: Option<usize>,
}

impl Announced {
    fn is_over(&self, now: Steady) -> bool {
        now >= self.until || self.mails_left == Some(0)
    }

    /// Whether another may take its place. One whose event has not come may: whoever began it could not publish, or has gone.
    fn yields(&self, now: Steady) -> bool {
        now >= self.began + AGAIN && (self.is_over(now) || !self.has_come)
    }
}

/// Its event, on its way to the disk.
#[derive(Clone, Debug)]
struct Pending {
    event: Box<AlertEvent>,
    trace: String,
    /// Deliveries that wait for it.
    tokens: Vec<Token>,
}

/// One mail of a test.
#[derive(Clone, Debug)]
struct TestMail {
    customer: CustomerName,
    trace: String,
    to: String,
    until: Steady,
    /// Its record, until that is known to be safe.
    record: Option<RecordSeq>,
}

/// Tests that are under way, and the last one of each customer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tests {
    announced: BTreeMap<CustomerName, Announced>,
    pending: BTreeMap<RecordSeq, Pending>,
    mails: BTreeMap<MailId, TestMail>,
}

impl Tests {
    /// The connection is gone, and the tokens with it.
    pub(crate) fn void_tokens(&mut self) {
        self.pending.values_mut().for_each(|pending| pending.tokens.clear());
    }

    /// Records that are not known to be safe.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether a mail is a test's.
    pub(crate) fn holds(&self, id: &MailId) -> bool {
        self.mails.contains_key(id)
    }

    /// When a mail's time is up.
    pub(crate) fn next(&self, now: Steady) -> Option<Steady> {
        // One whose time is up and that is still here is with a relay, whose answer is awaited.
        self.mails.values().map(|mail| mail.until).filter(|until| *until > now).min()
    }
}

/// What is said of a test, besides when and how it goes.
#[derive(Clone, Copy, Debug)]
struct Word<'a> {
    customer: &'a CustomerName,
    trace: &'a str,
    stage: Stage,
    progress: Progress,
    to: Option<&'a str>,
    relay: Option<&'a str>,
    message_id: Option<&'a str>,
}

impl<'a> Word<'a> {
    fn of_event(customer: &'a CustomerName, trace: &'a str, stage: Stage, progress: Progress) -> Self {
        Self { customer, trace, stage, progress, to: None, relay: None, message_id: None }
    }

    fn of_mail(mail: &'a TestMail, stage: Stage, progress: Progress) -> Self {
        Self { to: Some(&mail.to), ..Self::of_event(&mail.customer, &mail.trace, stage, progress) }
    }

    fn said(self, at: Steady, detail: String) -> Effect {
        Effect::Trace(Box::new(TestStage {
            v: VERSION,
            trace: self.trace.to_owned(),
            customer: self.customer.clone(),
            stage: self.stage,
            progress: self.progress,
            detail,
            at_ms: at.wall().as_ms(),
            node: None,
            epoch: None,
            to: self.to.map(str::to_owned),
            relay: self.relay.map(str::to_owned),
            message_id: self.message_id.map(str::to_owned),
        }))
    }
}

/// The event of a test, which no schema can have asked for.
pub(crate) fn read(body: &[u8]) -> Option<AlertEvent> {
    let event: AlertEvent = decode(body).ok()?;
    let of_test = [event.analytic.as_str(), event.service.as_str(), event.cluster.as_str()];
    let is_one = event.v == VERSION
        && of_test.iter().all(|name| *name == names::TEST)
        && event.state == AlertState::Firing
        && event.customer.as_str() != INSTALLATION;
    is_one.then_some(event)
}

/// Who would be told, each address once; escalations are for what nobody acknowledges, and who has taken himself off is not told.
fn recipients<'c>(customer: &'c Customer, left: &Left) -> BTreeSet<&'c str> {
    let mut all = BTreeSet::new();
    for alert in customer.alerts.values() {
        let leavers = left.of_block(&customer.name, &alert.name, &alert.to);
        all.extend(alert.to.iter().map(String::as_str).filter(|to| !leavers.has(to)));
    }
    all
}

impl Alert {
    /// `test-event`: what comes of a test is to be mailed.
    pub(crate) fn announce_test(&mut self, at: Steady, asked: AnnounceTest) -> Result<Answer, Refusal> {
        let AnnounceTest { customer: name, trace, to, wait_ms, .. } = asked;
        let Some(customer) = self.schema.customers.get(&name) else {
            let message = "the schema has no customer of this name".to_owned();
            return Err(Refusal(RpcCode::UnknownCustomer, message));
        };
        if customer.disabled {
            return Err(Refusal(RpcCode::Disabled, "the schema has switched this customer off".into()));
        }
        let Some(mail) = self.schema.mail.as_ref() else {
            return Err(Refusal::invalid("the schema names no mail relay: nobody can be mailed"));
        };
        if !is_trace(&trace) {
            return Err(Refusal::invalid("a trace id has 32 hexadecimal digits"));
        }
        for to in &to {
            check_line("an address", to, MAILBOX_BYTES_MAX)?;
            if !to.contains('@') {
                return Err(Refusal::invalid(format!("{to} is no address")));
            }
        }
        let mut to: BTreeSet<&str> = to.iter().map(String::as_str).collect();
        if to.is_empty() {
            to = recipients(customer, &self.left);
        }
        if to.is_empty() {
            return Err(Refusal::invalid("no alert block of this customer names a recipient: name one"));
        }
        let cut = to.len().saturating_sub(RECIPIENTS_MAX);
        let to: Vec<String> = to.into_iter().take(RECIPIENTS_MAX).map(str::to_owned).collect();
        let relays = mail.relays.iter().map(|relay| relay.name.clone()).collect();
        let wait = Duration::from_millis(wait_ms).clamp(*WAIT.start(), *WAIT.end());
        self.tests.announced.retain(|_, test| !test.is_over(at) || at < test.began + AGAIN);
        match self.tests.announced.get(&name) {
            // Asked again because the answer was lost.
            Some(test) if test.trace == trace && !test.has_come => {}
            Some(test) if !test.yields(at) => {
                self.stats.tests_refused += 1;
                let message = "a test of this customer is under way, or has just been".to_owned();
                return Err(Refusal(RpcCode::TestUnderWay, message));
            }
            Some(_) | None => self.stats.tests += 1,
        }
        let reply =
            TestAnnounced { ok: true, to: to.clone(), cut: cut as u64, relays, now_ms: at.wall().as_ms() };
        let test = Announced { trace, to, began: at, until: at + wait, has_come: false, mails_left: None };
        self.tests.announced.insert(name, test);
        Ok(Answer::Now(encode(&reply)))
    }

    /// The event of a test. It is recorded where it was announced, and in any case acknowledged.
    pub(crate) fn test_delivery(
        &mut self,
        at: Steady,
        token: Token,
        event: AlertEvent,
        effects: &mut Vec<Effect>,
    ) {
        let trace = event.traceparent.as_deref().and_then(trace_of).unwrap_or_default().to_owned();
        let customer = event.customer.clone();
        if let Some(pending) = self.tests.pending.values_mut().find(|pending| pending.trace == trace) {
            return pending.tokens.push(token);
        }
        let announced = self.tests.announced.get_mut(&customer);
        let Some(test) = announced.filter(|test| test.trace == trace && !test.is_over(at)) else {
            self.stats.tests_unannounced += 1;
            effects.push(Effect::Ack { token });
            let word = Word::of_event(&customer, &trace, Stage::Stored, Progress::Failed);
            let detail = "it was not announced to this alert node (which may have started since), or another has taken its place, or it is over";
            return effects.push(word.said(at, detail.to_owned()));
        };
        if std::mem::replace(&mut test.has_come, true) {
            // Delivered again.
            return effects.push(Effect::Ack { token });
        }
        let event = Box::new(event);
        let record = Record::Tested { at: at.wall(), event: event.clone() };
        let seq = self.append(record, effects);
        self.tests.pending.insert(seq, Pending { event, trace, tokens: vec![token] });
    }

    /// All records up to `seq` are safe: events of tests are acknowledged and mailed, their mails may go.
    pub(crate) fn tests_appended(&mut self, at: Steady, seq: RecordSeq, effects: &mut Vec<Effect>) {
        let mut queued = Vec::new();
        for mail in self.tests.mails.values_mut() {
            if mail.record.take_if(|record| *record <= seq).is_some() {
                let word = Word::of_mail(mail, Stage::Queued, Progress::Passed);
                queued.push(word.said(at, "recorded, and waits for a relay".to_owned()));
                if !self.relays.any_closed() {
                    let word = Word::of_mail(mail, Stage::Sending, Progress::Waits);
                    let detail = "no relay has worked lately: each is tried again from time to time";
                    queued.push(word.said(at, detail.to_owned()));
                }
            }
        }
        effects.append(&mut queued);
        while let Some(first) = self.tests.pending.first_entry().filter(|first| *first.key() <= seq) {
            let record = *first.key();
            let Pending { event, trace, tokens } = first.remove();
            effects.extend(tokens.into_iter().map(|token| Effect::Ack { token }));
            let word = Word::of_event(&event.customer, &trace, Stage::Stored, Progress::Passed);
            effects.push(word.said(at, format!("history has it as record {}", record.0)));
            self.mail_test(at, &event, &trace, effects);
        }
    }

    /// Writes the mails of a test.
    fn mail_test(&mut self, at: Steady, event: &AlertEvent, trace: &str, effects: &mut Vec<Effect>) {
        let customer = &event.customer;
        let Some((to, until)) = self.tests.announced.get(customer).map(|test| (test.to.clone(), test.until))
        else {
            return;
        };
        let Some(mail) = self.schema.mail.clone() else {
            let word = Word::of_event(customer, trace, Stage::Grouped, Progress::Failed);
            return effects.push(word.said(at, "the schema names no mail relay any more".to_owned()));
        };
        let word = Word::of_event(customer, trace, Stage::Grouped, Progress::Passed);
        let detail = format!("a group of its own; to be told: {}", format::count(to.len(), "recipient"));
        effects.push(word.said(at, detail));
        let mut left = 0;
        for to in to {
            let test =
                TestMail { customer: customer.clone(), trace: trace.to_owned(), to, until, record: None };
            if !self.outbox.room(customer, self.config.outbox_max) {
                self.stats.outbox_full += 1;
                let word = Word::of_mail(&test, Stage::Queued, Progress::Failed);
                effects.push(
                    word.said(at, "the outbox has no room for another mail of this customer".to_owned()),
                );
                continue;
            }
            let names = MailNames { key: &self.config.id_key, domain: &self.config.mail_domain };
            let id = names.test(customer, trace, &test.to);
            let mut email = test_mail::email(&names, &id, &mail.from, &test.to, trace, event, at.wall());
            email.envelope_from = mail.bounces.as_ref().and_then(|own| names.envelope_from(own, &test.to));
            let email = Box::new(email);
            let record = Record::TestMailQueued {
                at: at.wall(),
                id: id.clone(),
                customer: customer.clone(),
                email: email.clone(),
            };
            let seq = self.append(record, effects);
            let queued = Queued::new(email, Vec::new(), customer.clone(), Severity::default(), at);
            self.outbox.insert(seq, id.clone(), queued);
            self.tests.mails.insert(id, TestMail { record: Some(seq), ..test });
            left += 1;
        }
        if let Some(test) = self.tests.announced.get_mut(customer) {
            test.mails_left = Some(left);
        }
    }

    /// A mail goes to a relay.
    pub(crate) fn test_sending(&self, at: Steady, id: &MailId, relay: &str, effects: &mut Vec<Effect>) {
        let Some(mail) = self.tests.mails.get(id) else { return };
        let word = Word { relay: Some(relay), ..Word::of_mail(mail, Stage::Sending, Progress::Passed) };
        effects.push(word.said(at, "chosen".to_owned()));
    }

    /// A relay has not taken a mail yet.
    pub(crate) fn test_waits(
        &self,
        at: Steady,
        id: &MailId,
        relay: &str,
        detail: &str,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mail) = self.tests.mails.get(id) else { return };
        let word = Word { relay: Some(relay), ..Word::of_mail(mail, Stage::Accepted, Progress::Waits) };
        effects.push(word.said(at, detail.to_owned()));
    }

    /// A mail has ended.
    pub(crate) fn test_ended(
        &mut self,
        at: Steady,
        id: &MailId,
        relay: Option<&str>,
        (outcome, detail): (Outcome, &str),
        effects: &mut Vec<Effect>,
    ) {
        let Some(mail) = self.tests.mails.remove(id) else { return };
        if let Some(left) = self.tests.announced.get_mut(&mail.customer).and_then(|t| t.mails_left.as_mut()) {
            *left = left.saturating_sub(1);
        }
        let message_id = format!("{}@{}", id.0, self.config.mail_domain);
        let (progress, detail) = match outcome {
            Outcome::Accepted => (Progress::Passed, detail.to_owned()),
            Outcome::Refused => (Progress::Failed, detail.to_owned()),
            Outcome::Expired | Outcome::Superseded if detail.is_empty() => {
                (Progress::Failed, "withdrawn: no relay took it in time".to_owned())
            }
            Outcome::Expired | Outcome::Superseded => {
                (Progress::Failed, format!("withdrawn; last: {detail}"))
            }
        };
        let word = Word::of_mail(&mail, Stage::Accepted, progress);
        effects.push(Word { relay, message_id: Some(&message_id), ..word }.said(at, detail));
    }

    /// Mails of tests whose time is up are withdrawn, but for those that a relay is just being given.
    pub(crate) fn tests_due(&mut self, at: Steady, effects: &mut Vec<Effect>) {
        let is_due =
            |(id, mail): &(&MailId, &TestMail)| at >= mail.until && self.outbox.relay_of(id).is_none();
        let due: Vec<MailId> = self.tests.mails.iter().filter(is_due).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.mail_ended(at, &id, Ending::Expired, effects);
        }
    }
}
