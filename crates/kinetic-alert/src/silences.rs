//! Silences: what nobody is told of for a while. Alerts that a silence means are followed as ever, but what becomes of
//! them is no news; when it ends, what fires still is, and so is the end of what somebody was told of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::schema::Glob;
use kinetic_wire::{AlertEvent, CustomerName, Silence, Wall};

use crate::agenda::Agenda;
use crate::clock::Steady;
use crate::group::AlertView;
use crate::id::GroupKey;
use crate::machine::{Alert, Effect, Record};

/// Silences of one customer that have not ended; one more is refused (counted).
pub(crate) const SILENCES_MAX: usize = 200;
/// Silences over all customers; one more is refused (counted).
pub(crate) const SILENCES_ALL_MAX: usize = 20_000;
/// A silence is recorded anew this often, so that the days of history which are replayed know of it.
const RECORD_EVERY: Duration = Duration::from_secs(12 * 3_600);

/// A silence by its customer and its name.
pub(crate) type Key = (CustomerName, String);

/// What an alert is called, as silences look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    pub(crate) analytic: &'a str,
    pub(crate) service: &'a str,
    pub(crate) cluster: &'a str,
    pub(crate) origin: &'a str,
    pub(crate) metric: &'a str,
}

/// What a silence means, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Meant {
    services: Vec<Glob>,
    clusters: Vec<Glob>,
    analytics: Vec<Glob>,
    origins: Vec<Glob>,
    metrics: Vec<Glob>,
}

impl Meant {
    /// Compiles the globs of a silence; the first that is none, otherwise.
    pub(crate) fn of(silence: &Silence) -> Result<Self, String> {
        let globs = |patterns: &[String]| -> Result<Vec<Glob>, String> {
            let parse = |pattern: &String| Glob::parse(pattern).map_err(|error| error.to_string());
            patterns.iter().map(parse).collect()
        };
        Ok(Self {
            services: globs(&silence.services)?,
            clusters: globs(&silence.clusters)?,
            analytics: globs(&silence.analytics)?,
            origins: globs(&silence.origins)?,
            metrics: globs(&silence.metrics)?,
        })
    }

    fn means(&self, names: Names<'_>) -> bool {
        let any =
            |globs: &[Glob], name: &str| globs.is_empty() || globs.iter().any(|glob| glob.matches(name));
        any(&self.services, names.service)
            && any(&self.clusters, names.cluster)
            && any(&self.analytics, names.analytic)
            && any(&self.origins, names.origin)
            && any(&self.metrics, names.metric)
    }
}

/// A silence that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) silence: Silence,
    meant: Meant,
    /// It has begun.
    begun: bool,
}

/// All silences that have not ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silences {
    standing: BTreeMap<Key, Standing>,
    /// When they begin, and then end.
    edges: Agenda<Key>,
    /// When they are recorded anew.
    renewals: Agenda<Key>,
}

impl Silences {
    pub(crate) fn len(&self) -> usize {
        self.standing.len()
    }

    pub(crate) fn of_customer(&self, customer: &CustomerName) -> impl Iterator<Item = (&Key, &Standing)> {
        let begin = (customer.clone(), String::new());
        self.standing.range(begin..).take_while(move |((owner, _), _)| owner == customer)
    }

    /// Those after `after`, by customer and name.
    pub(crate) fn after(&self, after: Option<Key>) -> impl Iterator<Item = &Silence> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, Excluded);
        self.standing.range((begin, Unbounded)).map(|(_, standing)| &standing.silence)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Silence> {
        self.standing.get(key).map(|standing| &standing.silence)
    }

    /// Whether a silence of this customer means what is called so.
    pub(crate) fn mean(&self, customer: &CustomerName, names: Names<'_>) -> bool {
        self.of_customer(customer).any(|(_, standing)| standing.begun && standing.meant.means(names))
    }

    /// Whether a silence means the alert of this event.
    pub(crate) fn silence(&self, event: &AlertEvent) -> bool {
        if self.standing.is_empty() {
            return false;
        }
        // Names as they are kept, so that the answer is the same when a silence begins later.
        let (origin, metric) = (AlertView::kept(&event.feed.origin), AlertView::kept(&event.feed.metric));
        let names = Names {
            analytic: event.analytic.as_str(),
            service: event.service.as_str(),
            cluster: event.cluster.as_str(),
            origin: &origin,
            metric: &metric,
        };
        self.mean(&event.customer, names)
    }

    /// When something is due.
    pub(crate) fn next(&self) -> Option<Steady> {
        [self.edges.next(), self.renewals.next()].into_iter().flatten().min()
    }

    /// Takes in a silence, or takes in anew what is known of it.
    fn insert(&mut self, silence: Silence, meant: Meant, at: Steady) {
        let key = (silence.customer.clone(), silence.id.clone());
        let (from, until) = (Wall::from_ms(silence.from_ms).into(), Wall::from_ms(silence.until_ms).into());
        let begun = self.standing.get(&key).is_some_and(|standing| standing.begun);
        self.edges.set(&key, Some(if begun { until } else { from }));
        self.renewals.set(&key, Some(at + RECORD_EVERY));
        self.standing.insert(key, Standing { silence, meant, begun });
    }

    fn remove(&mut self, key: &Key) -> Option<Silence> {
        self.edges.set(key, None);
        self.renewals.set(key, None);
        self.standing.remove(key).map(|standing| standing.silence)
    }

    /// Takes the next one that begins or ends by `now`; says when it does.
    fn turn(&mut self, now: Steady) -> Option<(Key, Steady)> {
        let due = self.edges.next().filter(|due| *due <= now)?;
        let key = self.edges.take_due(now)?;
        let standing = self.standing.get_mut(&key).expect("a silence leaves the agenda when it ends");
        let until = Steady::from(Wall::from_ms(standing.silence.until_ms));
        if standing.begun || until <= due {
            self.remove(&key);
        } else {
            standing.begun = true;
            self.edges.set(&key, Some(until));
        }
        Some((key, due))
    }
}

impl Alert {
    /// A silence is wanted: it is recorded, and begins at its time. Its names have been looked at.
    pub(crate) fn add_silence(
        &mut self,
        at: Steady,
        silence: Silence,
        meant: Meant,
        effects: &mut Vec<Effect>,
    ) {
        let record = Record::Silenced { at: at.wall(), silence: Box::new(silence.clone()) };
        self.append(record, effects);
        self.silences.insert(silence, meant, at);
        self.turn_silences(at);
    }

    /// A silence ends before its time.
    pub(crate) fn end_silence(&mut self, at: Steady, key: &Key, author: String, effects: &mut Vec<Effect>) {
        let (customer, id) = key.clone();
        self.append(Record::Unsilenced { at: at.wall(), customer, id, author }, effects);
        if self.silences.remove(key).is_some() {
            self.refreeze(&key.0, at);
        }
    }

    /// Silences begin and end by the clock, and those that stand are recorded anew.
    pub(crate) fn silences_due(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        self.turn_silences(now);
        while let Some(key) = self.silences.renewals.take_due(now) {
            self.silences.renewals.set(&key, Some(now + RECORD_EVERY));
            let Some(silence) = self.silences.get(&key) else { continue };
            let silence = Box::new(silence.clone());
            self.append(Record::Silenced { at: now.wall(), silence }, effects);
        }
    }

    /// Silences begin and end that do so by `now`. What follows for groups has the time of the edge.
    pub(crate) fn turn_silences(&mut self, now: Steady) {
        while let Some(((customer, _), due)) = self.silences.turn(now) {
            self.refreeze(&customer, due);
        }
    }

    /// Looks anew at what the silences of a customer mean.
    fn refreeze(&mut self, customer: &CustomerName, at: Steady) {
        let begin = GroupKey::first_of(customer);
        let mut changed: Vec<Arc<GroupKey>> = Vec::new();
        let Self { groups, silences, .. } = self;
        for (key, group) in groups.range_mut(begin..).take_while(|(key, _)| key.customer == *customer) {
            let silenced = |alert: &AlertView| silences.mean(customer, names(alert));
            if group.refreeze(silenced, at) {
                changed.push(Arc::clone(key));
            }
        }
        changed.iter().for_each(|key| self.schedule_live(key));
        // Nothing stays folded under what is silenced.
        self.refold(customer, at);
    }

    /// History says that there is a silence.
    pub(crate) fn replay_silenced(&mut self, at: Wall, silence: Silence) {
        if let Ok(meant) = Meant::of(&silence) {
            self.silences.insert(silence, meant, at.into());
            self.turn_silences(at.into());
        }
    }

    /// History says that a silence was ended.
    pub(crate) fn replay_unsilenced(&mut self, at: Wall, key: &Key) {
        if self.silences.remove(key).is_some() {
            self.refreeze(&key.0, at.into());
        }
    }

    /// Alerts of a customer that fire and are silenced.
    pub(crate) fn silenced_now(&self, customer: &CustomerName) -> u64 {
        let of_customer =
            self.groups.iter().filter(|(key, _)| key.customer == *customer && key.block().is_none());
        of_customer.map(|(_, group)| group.silenced() as u64).sum()
    }
}

/// What an alert is called.
fn names(alert: &AlertView) -> Names<'_> {
    Names {
        analytic: alert.home.analytic.as_str(),
        service: alert.home.service.as_str(),
        cluster: alert.home.cluster.as_str(),
        origin: &alert.origin,
        metric: &alert.metric,
    }
}
