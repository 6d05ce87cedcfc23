//! Customers whose data does what it may not: alert events of the installation's own, by what the owners of their sources say.
//!
//! A limit that is exceeded is told to the customer, a security event to those who look after the installation. Either fires
//! with the first word of it, stands for as long as words of it come, and is over when it has not happened for five minutes
//! ([`Breach::QUIET`]): so whoever is over a limit now and then is told once and not each time. A word says how long ago
//! it last happened, so it does no harm if one is lost, comes twice, or is heard by an alert node that has just been started.

use std::collections::BTreeMap;

use kinetic_schema::schema::{INSTALLATION, INSTALLATION_SERVICE};
use kinetic_wire::{AlertEvent, AlertState, Breach, BreachKind, Breached, Epoch, SourceKey, Wall};

use crate::agenda::Agenda;
use crate::clock::Steady;
use crate::id::GroupKey;
use crate::machine::{Alert, Effect};
use crate::watchdog::{self, Silence, Statement};

/// Breaches followed; further ones are not (counted).
const BREACHES_MAX: usize = 10_000;
/// Characters of a word's text on who it was.
const BY_MAX: usize = 300;
/// Names under which exceeded limits stand in events: analytic and service. None of them can stand in a schema.
const LIMITS: &str = "_limits";
/// The cluster.
const ALL: &str = "_all";
/// The cluster of security events in the installation's own service, and their analytic.
const SECURITY: &str = "security";
/// What of a breach is compared.
const VALUE_KIND: &str = "breach";

type Key = (SourceKey, BreachKind);

/// A breach that is alerted.
#[derive(Clone, Debug)]
struct Known {
    /// Of the last word.
    epoch: Epoch,
    what: Breached,
    /// Since when, and when it was last said.
    stands: Silence,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Breaches {
    known: BTreeMap<Key, Known>,
    /// When they are over, if nothing more comes.
    ends: Agenda<Key>,
    /// When they are said again.
    repeats: Agenda<Key>,
}

impl Breaches {
    /// When something may be due.
    pub(crate) fn next(&self) -> Option<Steady> {
        [self.ends.next(), self.repeats.next()].into_iter().flatten().min()
    }

    /// How many stand.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    fn forget(&mut self, key: &Key) -> Option<Known> {
        self.ends.set(key, None);
        self.repeats.set(key, None);
        self.known.remove(key)
    }
}

/// Whether a group is about a customer's limits.
pub(crate) fn is_of_limits(group: &GroupKey) -> bool {
    group.service.as_str() == LIMITS
}

/// Whether a group is about security events.
pub(crate) fn is_of_security(group: &GroupKey) -> bool {
    watchdog::is_of_nodes(group) && group.cluster.as_str() == SECURITY
}

/// The source as an event's feed says it; a customer's own without its customer.
fn origin((source, kind): &Key) -> String {
    let part = if source.part > 0 { format!("/{}", source.part) } else { String::new() };
    let own = format!("{}{part}", source.source);
    if kind.is_limit() { own } else { format!("{}/{own}", source.customer) }
}

/// The other way round.
fn key_of(event: &AlertEvent) -> Option<Key> {
    let kind = event.breach.as_ref()?.kind;
    let origin = event.feed.origin.as_str();
    let (customer, own) = match kind.is_limit() {
        true => (event.customer.as_str(), origin),
        false => origin.split_once('/')?,
    };
    let (source, part) = own.split_once('/').unwrap_or((own, "0"));
    Some((SourceKey::new(customer, source).with_part(part.parse().ok()?), kind))
}

impl Alert {
    /// An owner says that a customer's data does what it may not.
    pub(crate) fn breached(&mut self, at: Steady, said: Breach, effects: &mut Vec<Effect>) {
        let Breach { source, epoch, since_ms, last_ms, mut what } = said;
        let ago = |ms: u64| at.before(std::time::Duration::from_millis(ms));
        let over = ago(last_ms) + Breach::QUIET;
        let is_known = self.schema.customers.get(&source.customer).is_some_and(|customer| !customer.disabled);
        if !is_known || over <= at {
            self.stats.breaches_unknown += 1;
            return;
        }
        if let Some(by) = &mut what.by {
            *by = crate::escape::line(by, BY_MAX);
        }
        let key = (source, what.kind);
        if let Some(known) = self.breaches.known.get_mut(&key) {
            if known.epoch > epoch {
                self.stats.breaches_stale += 1;
                return;
            }
            (known.epoch, known.what) = (epoch, what);
            self.breaches.ends.set(&key, Some(over));
            return;
        }
        if self.breaches.known.len() >= BREACHES_MAX {
            self.stats.breaches_refused += 1;
            return;
        }
        self.stats.breaches += 1;
        let stands = Silence { since: ago(since_ms.max(last_ms)), said: at };
        let known = Known { epoch, what, stands };
        let repeat = at + self.repeat_after();
        self.breaches.ends.set(&key, Some(over));
        self.breaches.repeats.set(&key, Some(repeat));
        self.say_breach(at, &key, &known, AlertState::Firing, effects);
        self.breaches.known.insert(key, known);
    }

    /// What has not happened for long enough is over, and what stands is said again. While nobody's word can be heard nothing
    /// is over.
    pub(crate) fn watch_breaches(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        while let Some(key) = self.breaches.ends.take_due(now) {
            let heard = self.beacons_heard_since().map_or(now, |since| since) + Breach::QUIET;
            if heard > now {
                self.breaches.ends.set(&key, Some(heard));
                continue;
            }
            if let Some(known) = self.breaches.forget(&key) {
                self.say_breach(now, &key, &known, AlertState::Resolved, effects);
            }
        }
        let repeat = now + self.repeat_after();
        while let Some(key) = self.breaches.repeats.take_due(now) {
            let Some(known) = self.breaches.known.get_mut(&key) else { continue };
            known.stands.said = known.stands.said.max(now);
            let known = known.clone();
            self.breaches.repeats.set(&key, Some(repeat));
            self.say_breach(now, &key, &known, AlertState::Firing, effects);
        }
    }

    /// Makes the table follow the schema: what is of nobody any more goes stale.
    pub(crate) fn follow_breaches(&mut self) {
        let customers = &self.schema.customers;
        let is_gone = |(source, _): &&Key| customers.get(&source.customer).is_none_or(|c| c.disabled);
        let gone: Vec<Key> = self.breaches.known.keys().filter(is_gone).cloned().collect();
        for key in gone {
            self.breaches.forget(&key);
        }
    }

    /// Time is told for the first time: stamps of history meet the clock.
    pub(crate) fn boot_breaches(&mut self, at: Steady) {
        let repeat = at + self.repeat_after();
        let Breaches { known, ends, repeats } = &mut self.breaches;
        for (key, known) in known {
            known.stands.since = known.stands.since.min(at);
            ends.set(key, Some(at + Breach::QUIET));
            repeats.set(key, Some(repeat));
        }
        self.follow_breaches();
    }

    /// Makes an event of it.
    fn say_breach(
        &mut self,
        at: Steady,
        key: &Key,
        known: &Known,
        state: AlertState,
        effects: &mut Vec<Effect>,
    ) {
        let (source, kind) = key;
        let (customer, analytic, service, cluster) = match kind.is_limit() {
            true => (source.customer.clone(), LIMITS, LIMITS, ALL),
            false => (INSTALLATION.into(), SECURITY, INSTALLATION_SERVICE, SECURITY),
        };
        let statement = Statement {
            customer,
            // An event's source is who judges it; the feed says which is meant.
            source: analytic,
            analytic,
            service,
            cluster,
            origin: origin(key),
            metric: kind.as_str(),
            is_breach: true,
        };
        // Also where the clock has been set back over a restart, the end comes after the beginning.
        let end = at.max(known.stands.said);
        let mut event = watchdog::event(statement, known.stands.since.wall(), end.wall(), state);
        event.value_kind = VALUE_KIND.to_owned();
        event.breach = Some(known.what.clone());
        self.accept(at, event, None, effects);
    }

    /// History says that something was breached, or no longer.
    pub(crate) fn replay_breach_event(&mut self, event: &AlertEvent) {
        let Some((key, what)) = key_of(event).zip(event.breach.clone()) else { return };
        let (since, said) = (Wall::from_ms(event.since_ms).into(), Wall::from_ms(event.window_end_ms).into());
        if event.state == AlertState::Firing {
            let known = Known { epoch: Epoch(0), what, stands: Silence { since, said } };
            self.breaches.known.insert(key, known);
        } else {
            self.breaches.forget(&key);
        }
    }
}
