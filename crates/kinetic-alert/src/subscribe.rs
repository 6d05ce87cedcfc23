//! Recipients who have taken themselves off an alert block. The block goes on telling the others; one that would tell
//! nobody any more goes on telling all whom it names, since an alert that reaches nobody is the one failure that
//! nobody would notice.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;

use kinetic_schema::Schema;
use kinetic_schema::schema::{INSTALLATION, WATCHDOG};
use kinetic_wire::{
    CustomerName, Subscription, UnsubscribedQuestion, UnsubscribedReply, Unsubscription, Wall,
};

use crate::agenda::Agenda;
use crate::clock::Steady;
use crate::id::{GroupKey, StreamKey};
use crate::machine::{Alert, Effect, Record};
use crate::route::{self, OPERATORS};

/// Recipients who have taken themselves off; one more is refused (counted).
pub(crate) const LEFT_MAX: usize = 20_000;
/// It is recorded anew this often, so that the days of history which are replayed know of it.
const RECORD_EVERY: Duration = Duration::from_secs(12 * 3_600);
/// Recipients on one page.
const PAGE_MAX: usize = 200;

/// All who have taken themselves off alert blocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left {
    since: BTreeMap<Subscription, Wall>,
    renewals: Agenda<Subscription>,
}

impl Left {
    pub(crate) fn len(&self) -> usize {
        self.since.len()
    }

    /// When one of them is to be recorded again.
    pub(crate) fn next(&self) -> Option<Steady> {
        self.renewals.next()
    }

    fn has(&self, customer: &CustomerName, alert: &str, to: &str) -> bool {
        if self.since.is_empty() {
            return false;
        }
        let (customer, alert, to) = (customer.clone(), alert.to_owned(), to.to_owned());
        self.since.contains_key(&Subscription { customer, alert, to })
    }

    /// Those recipients of an alert block, which tells `first` before anybody else, who are not told by it.
    pub(crate) fn of_block(&self, customer: &CustomerName, alert: &str, first: &[String]) -> Leavers<'_> {
        let of_block = |(subscription, _): &(&Subscription, _)| {
            subscription.customer == *customer && subscription.alert == alert
        };
        let (customer, alert) = (customer.clone(), alert.to_owned());
        let begin = Subscription { customer, alert, to: String::new() };
        let left: Vec<&str> = if self.since.is_empty() {
            Vec::new()
        } else {
            let left = self.since.range((Included(begin), Unbounded)).take_while(of_block);
            left.map(|(subscription, _)| subscription.to.as_str()).collect()
        };
        let somebody = first.iter().any(|to| !left.contains(&to.as_str()));
        Leavers(if somebody { left } else { Vec::new() })
    }

    fn insert(&mut self, subscription: Subscription, since: Wall, at: Steady) {
        self.renewals.set(&subscription, Some(at + RECORD_EVERY));
        self.since.insert(subscription, since);
    }

    fn remove(&mut self, subscription: &Subscription) -> Option<Wall> {
        self.renewals.set(subscription, None);
        self.since.remove(subscription)
    }
}

/// Recipients of one alert block who are not told by it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leavers<'a>(Vec<&'a str>);

impl Leavers<'_> {
    pub(crate) fn has(&self, to: &str) -> bool {
        self.0.contains(&to)
    }
}

/// How somebody who wants off an alert block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// He may.
    May,
    /// He has.
    Has,
    /// Nobody else would be told.
    IsLast,
    /// Too many have.
    NoRoom,
}

/// Those whom a block of the schema names first, and everybody whom it names.
fn named<'a>(
    schema: &'a Schema,
    customer: &CustomerName,
    alert: &str,
) -> Option<(&'a [String], Vec<&'a str>)> {
    if customer.as_str() == INSTALLATION && alert == WATCHDOG {
        let watchdog = schema.watchdog.as_ref()?;
        return Some((&watchdog.to, watchdog.to.iter().map(String::as_str).collect()));
    }
    let block = schema.customers.get(customer)?.alerts.get(alert)?;
    Some((&block.to, route::recipients(block).map(|(to, _)| to).collect()))
}

/// The block that names the recipient of a correspondence.
pub(crate) fn of(group: &GroupKey, stream: &StreamKey) -> Subscription {
    let (customer, alert) = match &*stream.alert {
        OPERATORS => (INSTALLATION.into(), WATCHDOG),
        alert => (group.customer.clone(), alert),
    };
    Subscription { customer, alert: alert.to_owned(), to: stream.to.to_string() }
}

/// All recipients of all alert blocks.
pub(crate) fn all(schema: &Schema) -> impl Iterator<Item = Subscription> {
    let of_customers = schema.customers.iter().flat_map(|(customer, declared)| {
        declared.alerts.values().flat_map(move |block| {
            route::recipients(block).map(move |(to, _)| (customer.clone(), block.name.clone(), to))
        })
    });
    let of_nodes = schema.watchdog.iter().flat_map(|watchdog| &watchdog.to);
    let of_nodes = of_nodes.map(|to| (INSTALLATION.into(), WATCHDOG.to_owned(), to.as_str()));
    of_customers.chain(of_nodes).map(|(customer, alert, to)| Subscription {
        customer,
        alert,
        to: to.to_owned(),
    })
}

impl Alert {
    /// How this recipient stands; `None` where the schema names no such.
    pub(crate) fn leaving(&self, subscription: &Subscription) -> Option<Leaving> {
        let Subscription { customer, alert, to } = subscription;
        let (first, named) = named(&self.schema, customer, alert)?;
        if !named.contains(&to.as_str()) {
            return None;
        }
        let stays = |other: &&String| {
            *other != to && !self.left.has(customer, alert, other) && !self.suppressions.holds(other)
        };
        Some(if self.left.has(customer, alert, to) {
            Leaving::Has
        } else if first.iter().find(stays).is_none() {
            Leaving::IsLast
        } else if self.left.len() >= LEFT_MAX {
            Leaving::NoRoom
        } else {
            Leaving::May
        })
    }

    /// A recipient takes himself off a block, which he may: what he was told of counts as settled.
    pub(crate) fn leave(&mut self, at: Steady, subscription: Subscription, effects: &mut Vec<Effect>) {
        self.left.insert(subscription.clone(), at.wall(), at);
        let record = Record::Unsubscribed { at: at.wall(), subscription, since: at.wall() };
        self.append(record, effects);
        self.reroute(at, effects);
    }

    /// Somebody puts him back. What fires is news to him.
    pub(crate) fn come_back(
        &mut self,
        at: Steady,
        subscription: &Subscription,
        author: String,
        effects: &mut Vec<Effect>,
    ) -> Option<Unsubscription> {
        let before = self.unsubscription(subscription)?;
        self.left.remove(subscription);
        let record = Record::Subscribed { at: at.wall(), subscription: subscription.clone(), author };
        self.append(record, effects);
        self.reroute(at, effects);
        Some(before)
    }

    fn unsubscription(&self, subscription: &Subscription) -> Option<Unsubscription> {
        let since = self.left.since.get(subscription)?;
        let Subscription { customer, alert, to } = subscription;
        let first = named(&self.schema, customer, alert).map(|(first, _)| first).unwrap_or_default();
        let overruled = !self.left.of_block(customer, alert, first).has(to);
        Some(Unsubscription { subscription: subscription.clone(), since_ms: since.as_ms(), overruled })
    }

    /// One page of them.
    pub(crate) fn unsubscribed(&self, at: Steady, question: UnsubscribedQuestion) -> UnsubscribedReply {
        let UnsubscribedQuestion { customer, after, .. } = question;
        let begin = match (after, &customer) {
            (Some(after), _) => Excluded(after),
            (None, Some(customer)) => {
                Included(Subscription { customer: customer.clone(), alert: String::new(), to: String::new() })
            }
            (None, None) => Unbounded,
        };
        let wanted = |subscription: &&Subscription| {
            customer.as_ref().is_none_or(|customer| *customer == subscription.customer)
        };
        let mut found = self
            .left
            .since
            .range((begin, Unbounded))
            .map(|(subscription, _)| subscription)
            .take_while(wanted);
        let unsubscribed: Vec<Unsubscription> = found
            .by_ref()
            .take(PAGE_MAX)
            .filter_map(|subscription| self.unsubscription(subscription))
            .collect();
        let more = found.next().is_some();
        let next = unsubscribed.last().filter(|_| more).map(|last| last.subscription.clone());
        UnsubscribedReply { ok: true, unsubscribed, next, now_ms: at.wall().as_ms() }
    }

    /// The schema has changed: whom it names no more has nothing to be off. Who names him again means it.
    pub(crate) fn forget_leavers(&mut self, at: Steady, effects: &mut Vec<Effect>) {
        let gone = |subscription: &&Subscription| {
            let Subscription { customer, alert, to } = subscription;
            named(&self.schema, customer, alert).is_none_or(|(_, named)| !named.contains(&to.as_str()))
        };
        let gone: Vec<Subscription> = self.left.since.keys().filter(gone).cloned().collect();
        for subscription in gone {
            self.left.remove(&subscription);
            let record = Record::Subscribed { at: at.wall(), subscription, author: "schema".into() };
            self.append(record, effects);
        }
    }

    /// What history will soon no longer tell is recorded again.
    pub(crate) fn renew_leavers(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        while let Some(subscription) = self.left.renewals.take_due(now) {
            self.left.renewals.set(&subscription, Some(now + RECORD_EVERY));
            let Some(since) = self.left.since.get(&subscription).copied() else { continue };
            self.append(Record::Unsubscribed { at: now.wall(), subscription, since }, effects);
        }
    }

    /// History says that he has left.
    pub(crate) fn replay_unsubscribed(&mut self, at: Wall, subscription: Subscription, since: Wall) {
        self.left.insert(subscription, since, at.into());
    }

    /// History says that he is back.
    pub(crate) fn replay_subscribed(&mut self, subscription: &Subscription) {
        self.left.remove(subscription);
    }
}
