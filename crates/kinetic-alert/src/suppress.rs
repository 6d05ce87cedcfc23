//! Mail that did not arrive, and who is told of that; and addresses that relays refuse, to which no more is sent until
//! somebody says that they are good again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::schema::{self, INSTALLATION};
use kinetic_wire::{CustomerName, SuppressionState, Wall};

use crate::clock::Steady;
use crate::deliver::Outcome;
use crate::id::MailNames;
use crate::machine::{Alert, Effect, Record, RecordSeq};
use crate::outbox::Queued;
use crate::storm::Recipient;
use crate::{escape, format, webhook};

/// Hard refusals of an address after which nothing more is sent to it.
const REFUSALS_MAX: usize = 2;
/// Within which they count.
const REFUSALS_WITHIN: Duration = Duration::from_secs(7 * 86_400);
/// Addresses that have refused anything; of further ones it is not remembered (counted).
const ADDRESSES_MAX: usize = 10_000;
/// How often it is recorded again, so that the days of history that are replayed know of it.
const RECORD_EVERY: Duration = Duration::from_secs(12 * 3_600);
/// Notices that wait for one recipient; the oldest are dropped (counted).
const NOTICES_MAX: usize = 20;
/// Characters of a relay's words in a notice.
const DETAIL_MAX: usize = 160;

/// The address within a mailbox: `a@b` of `Name <a@b>`.
pub(crate) fn address(mailbox: &str) -> &str {
    mailbox.rsplit_once('<').map_or(mailbox, |(_, rest)| rest.trim_end_matches('>')).trim()
}

/// All whom an alert block names.
fn mailboxes(alert: &schema::Alert) -> impl Iterator<Item = &str> {
    let later = alert.escalations.iter().flat_map(|escalation| &escalation.to);
    alert.to.iter().chain(later).map(String::as_str)
}

/// One refusal for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused<'a> {
    /// Whose.
    pub(crate) mailbox: &'a str,
    /// Message-ID of what was refused, if it is known: what is told of twice counts once.
    pub(crate) mail: Option<&'a str>,
    /// In the relay's words.
    pub(crate) detail: &'a str,
}

#[derive(Clone, Debug)]
struct Refusing {
    refusals: Vec<Steady>,
    suppressed: Option<Steady>,
    detail: String,
    /// What was refused last.
    mail: Option<String>,
    recorded: Steady,
}

impl Refusing {
    fn state(&self, address: &str) -> Option<SuppressionState> {
        let since_ms = self.suppressed?.wall().as_ms();
        Some(SuppressionState { address: address.to_owned(), since_ms, detail: self.detail.clone() })
    }
}

/// Addresses that have refused mail lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suppressions {
    addresses: BTreeMap<String, Refusing>,
}

impl Suppressions {
    /// Whether nothing is sent to a mailbox.
    pub(crate) fn holds(&self, mailbox: &str) -> bool {
        self.addresses.get(address(mailbox)).is_some_and(|known| known.suppressed.is_some())
    }

    /// How nothing is sent to an address, if it is so.
    pub(crate) fn get(&self, address: &str) -> Option<SuppressionState> {
        self.addresses.get(address).and_then(|known| known.state(address))
    }

    /// Those to which nothing is sent, from here on.
    pub(crate) fn after(&self, begin: Bound<String>) -> impl Iterator<Item = SuppressionState> {
        let known = self.addresses.range::<String, _>((begin, Bound::Unbounded));
        known.filter_map(|(address, known)| known.state(address))
    }

    pub(crate) fn count(&self) -> usize {
        self.addresses.values().filter(|known| known.suppressed.is_some()).count()
    }

    /// When one of them is to be recorded again or forgotten.
    pub(crate) fn next(&self) -> Option<Steady> {
        self.addresses.values().map(|known| known.recorded + RECORD_EVERY).min()
    }

    /// What history says of an address.
    pub(crate) fn replay(
        &mut self,
        at: Wall,
        address: String,
        refusals: &[Wall],
        suppressed: Option<Wall>,
        detail: String,
        mail: Option<String>,
    ) {
        if refusals.is_empty() && suppressed.is_none() {
            self.addresses.remove(&address);
            return;
        }
        let refusals = refusals.iter().map(|at| Steady::from(*at)).collect();
        let suppressed = suppressed.map(Steady::from);
        self.addresses.insert(address, Refusing { refusals, suppressed, detail, mail, recorded: at.into() });
    }
}

/// Mail that did not arrive, for those who should know, by when it was recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notices {
    by_recipient: BTreeMap<Recipient, VecDeque<(RecordSeq, String)>>,
}

impl Notices {
    /// What waits for a recipient, and the last of it.
    pub(crate) fn of(&self, recipient: &Recipient) -> Option<(RecordSeq, Vec<String>)> {
        let notices = self.by_recipient.get(recipient)?;
        Some((notices.back()?.0, notices.iter().map(|(_, text)| text.clone()).collect()))
    }

    /// Returns whether one had to go for it.
    fn add(&mut self, recipient: Recipient, seq: RecordSeq, text: String) -> bool {
        let notices = self.by_recipient.entry(recipient).or_default();
        notices.push_back((seq, text));
        let full = notices.len() > NOTICES_MAX;
        if full {
            notices.pop_front();
        }
        full
    }

    /// A recipient has read up to here.
    pub(crate) fn told(&mut self, recipient: &Recipient, last: RecordSeq) {
        if let Some(notices) = self.by_recipient.get_mut(recipient) {
            notices.retain(|(seq, _)| *seq > last);
            if notices.is_empty() {
                self.by_recipient.remove(recipient);
            }
        }
    }
}

/// Whether a notice waits for the recipient's next mail, or has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    NextMail,
    Report,
}

impl Alert {
    fn notice(&mut self, at: Steady, recipient: Recipient, seq: RecordSeq, text: String, way: Way) {
        if self.suppressions.holds(&recipient.1) {
            return;
        }
        if way == Way::Report {
            self.storms.wants(&recipient, at);
        }
        if self.notices.add(recipient, seq, text) {
            self.stats.notices_cut += 1;
        }
    }

    fn operators(&self) -> Vec<Recipient> {
        let watchdog = self.schema.watchdog.iter().flat_map(|watchdog| &watchdog.to);
        watchdog.map(|to| (INSTALLATION.into(), to.as_str().into())).collect()
    }

    /// A mail has ended without arriving; `seq` is the record that says so.
    pub(crate) fn undelivered(
        &mut self,
        at: Steady,
        seq: RecordSeq,
        mail: &Queued,
        outcome: Outcome,
        detail: &str,
    ) {
        let ended = match outcome {
            Outcome::Expired => "was given up",
            Outcome::Refused => "was refused",
            Outcome::Accepted | Outcome::Superseded => return,
        };
        // A report that does not arrive is not reported: there would be no end to it.
        if mail.parts.is_empty() {
            return;
        }
        let what = format!(
            "of {}, \"{}\", {ended}: {}",
            format::time_utc(mail.queued_at.wall().as_ms(), at.wall()),
            escape::line(&mail.email.subject, DETAIL_MAX),
            escape::line(detail, DETAIL_MAX)
        );
        let to: Arc<str> = mail.email.to.as_str().into();
        let kind = if mail.receiver().is_some() { "What was posted" } else { "Mail" };
        let text = format!("{kind} to {to} {what}");
        for operator in self.operators() {
            self.notice(at, operator, seq, text.clone(), Way::Report);
        }
        if mail.receiver().is_some() {
            // A program reads no notices: those do who are told of the same by mail.
            let schema = Arc::clone(&self.schema);
            for beside in webhook::beside(&schema, &mail.customer, &to) {
                let recipient = (mail.customer.clone(), beside.as_str().into());
                self.notice(at, recipient, seq, text.clone(), Way::Report);
            }
            return;
        }
        self.notice(at, (mail.customer.clone(), to), seq, format!("A mail to you {what}"), Way::NextMail);
    }

    /// An address was refused for good, by a relay or by what bounced. Returns whether that was news.
    pub(crate) fn refused(&mut self, now: Steady, refused: &Refused<'_>, effects: &mut Vec<Effect>) -> bool {
        let name = address(refused.mailbox).to_owned();
        let known = self.suppressions.addresses.get(&name);
        if known.is_some_and(|known| known.mail.is_some() && known.mail.as_deref() == refused.mail) {
            return false;
        }
        self.stats.refusals += 1;
        if self.suppressions.addresses.len() >= ADDRESSES_MAX
            && !self.suppressions.addresses.contains_key(&name)
        {
            self.stats.refusals_forgotten += 1;
            return true;
        }
        let known = self.suppressions.addresses.entry(name.clone()).or_insert_with(|| Refusing {
            refusals: Vec::new(),
            suppressed: None,
            detail: String::new(),
            mail: None,
            recorded: now,
        });
        known.refusals.retain(|at| now.since(*at) < REFUSALS_WITHIN);
        if known.refusals.len() < REFUSALS_MAX {
            known.refusals.push(now);
        }
        known.detail = escape::line(refused.detail, DETAIL_MAX);
        known.mail = refused.mail.map(str::to_owned);
        let begins = known.suppressed.is_none() && known.refusals.len() >= REFUSALS_MAX;
        if begins {
            known.suppressed = Some(now);
        }
        let seq = self.record_address(now, &name, None, effects);
        if begins {
            self.tell_of_suppression(now, &name, seq);
        }
        true
    }

    /// The operators, and the others whom the customers that name this address name as well.
    pub(crate) fn tell_of_suppression(&mut self, at: Steady, name: &str, seq: RecordSeq) {
        let detail =
            self.suppressions.addresses.get(name).map(|known| known.detail.clone()).unwrap_or_default();
        let text =
            format!("Nothing more is sent to {name}, which was refused {REFUSALS_MAX} times: {detail}");
        let mut told: BTreeSet<Recipient> = self.operators().into_iter().collect();
        for customer in self.schema.customers.values() {
            let named = || customer.alerts.values().flat_map(mailboxes);
            if named().any(|to| address(to) == name) {
                told.extend(named().map(|to| (customer.name.clone(), Arc::from(to))));
            }
        }
        for recipient in told {
            self.notice(at, recipient, seq, text.clone(), Way::Report);
        }
    }

    fn record_address(
        &mut self,
        now: Steady,
        name: &str,
        lifted_by: Option<&str>,
        effects: &mut Vec<Effect>,
    ) -> RecordSeq {
        let known = self.suppressions.addresses.get_mut(name);
        let record = Record::Address {
            at: now.wall(),
            address: name.to_owned(),
            refusals: known.iter().flat_map(|known| &known.refusals).map(|at| at.wall()).collect(),
            suppressed: known.as_ref().and_then(|known| known.suppressed).map(Steady::wall),
            detail: known.as_ref().map(|known| known.detail.clone()).unwrap_or_default(),
            mail: known.as_ref().and_then(|known| known.mail.clone()),
            lifted_by: lifted_by.map(str::to_owned),
        };
        if let Some(known) = known {
            known.recorded = now;
        }
        self.append(record, effects)
    }

    /// An address is good again, by an operator's word where somebody is named.
    pub(crate) fn unsuppress(
        &mut self,
        now: Steady,
        name: &str,
        by: Option<&str>,
        effects: &mut Vec<Effect>,
    ) {
        if self.suppressions.addresses.remove(name).is_none() {
            return;
        }
        self.record_address(now, name, by, effects);
        let keys: Vec<_> = self.groups.keys().cloned().collect();
        let mut customers: BTreeSet<CustomerName> = BTreeSet::new();
        for key in keys {
            let Some(group) = self.groups.get_mut(&key) else { continue };
            let streams: Vec<_> =
                group.streams.keys().filter(|stream| address(&stream.to) == name).cloned().collect();
            if streams.is_empty() {
                continue;
            }
            let mut believers = Vec::new();
            for stream in streams {
                // What was refused was never read, though it counted as told: all that fires is news.
                let believes = group.streams.get(&stream).is_some_and(|state| !state.told.is_empty());
                group.withhold(&stream, now);
                group.release(&stream);
                believers.extend(believes.then_some(stream));
            }
            self.count_followed(&key);
            for stream in believers {
                self.record_settled(now, &key, &stream, Vec::new(), effects);
            }
            customers.insert(key.customer.clone());
            self.schedule(&key);
        }
        customers.iter().for_each(|customer| self.refold(customer, now));
    }

    /// Who is mailed under this token.
    pub(crate) fn recipient_of(&self, token: &str) -> Option<String> {
        let names = MailNames { key: &self.config.id_key, domain: &self.config.mail_domain };
        self.recipients().into_iter().find(|to| names.bounce_token(to) == token)
    }

    /// All mailboxes that the schema names.
    fn recipients(&self) -> BTreeSet<String> {
        let alerts = self.schema.customers.values().flat_map(|customer| customer.alerts.values());
        let named = alerts.flat_map(mailboxes).map(str::to_owned);
        named.chain(self.schema.watchdog.iter().flat_map(|watchdog| watchdog.to.clone())).collect()
    }

    /// What the schema no longer names is forgotten: who names it again means it.
    pub(crate) fn follow_addresses(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        let named = self.recipients();
        let named: BTreeSet<&str> = named.iter().map(|mailbox| address(mailbox)).collect();
        let gone = |name: &&String| !named.contains(name.as_str());
        let gone: Vec<String> = self.suppressions.addresses.keys().filter(gone).cloned().collect();
        gone.iter().for_each(|name| self.unsuppress(now, name, None, effects));
    }

    /// What history will soon no longer tell is recorded again; refusals of long ago are forgotten.
    pub(crate) fn renew_addresses(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        if self.suppressions.next().is_none_or(|at| at > now) {
            return;
        }
        let due = |known: &Refusing| known.recorded + RECORD_EVERY <= now;
        let due: Vec<String> = self
            .suppressions
            .addresses
            .iter()
            .filter(|(_, known)| due(known))
            .map(|(n, _)| n.clone())
            .collect();
        for name in due {
            if let Some(known) = self.suppressions.addresses.get_mut(&name) {
                known.refusals.retain(|at| now.since(*at) < REFUSALS_WITHIN);
                if known.refusals.is_empty() && known.suppressed.is_none() {
                    self.suppressions.addresses.remove(&name);
                }
            }
            self.record_address(now, &name, None, effects);
        }
    }
}
