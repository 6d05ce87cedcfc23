//! Customers of whom nothing comes any more: alert events of the installation's own, by what the owners of their sources
//! say that they hear.
//!
//! Each owner says of its source through which span nothing came, and proves it. A customer is silent when its sources
//! were all quiet through one span that is too long, and every one of them is listened to just now. So an analyzer that
//! has died is not taken for a silent customer: what it owned is listened to by nobody, and its successor begins its
//! span anew. And a silent customer is not taken for a dead analyzer: that says that it lives, whatever it hears.
//!
//! A customer of whom nothing has ever come has not fallen silent: it has not begun.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_schema::schema::Customer;
use kinetic_wire::{
    AlertEvent, AlertState, AnalyticName, CustomerName, Epoch, Listening, ServiceName, SourceName, Wall,
};

use crate::agenda::Agenda;
use crate::clock::Steady;
use crate::id::GroupKey;
use crate::machine::{Alert, Effect, Record};
use crate::watchdog::{self, FORGET_AFTER, RECORD_EVERY, SECOND_LOOK, Silence, Statement};

/// Names under which silent customers stand in events. None of them can stand in a schema.
const ANALYTIC: &str = "_silent";
/// The service, and the source.
const SERVICE: &str = "_stream";
/// The cluster, and the metric.
const ALL: &str = "_all";
/// Between two words of an owner so much may pass beyond what was agreed: one may be lost, and each waits for a sign of life.
const LATE: Duration = Duration::from_secs(15);
/// The agreed time counts so often.
const WORDS: u32 = 3;

/// The last word of the owner of a source, or of one part of it.
#[derive(Clone, Copy, Debug)]
struct Word {
    epoch: Epoch,
    came: u64,
    /// Since when nothing has come, as far as this owner knows.
    quiet: Steady,
    /// Through when that is certain.
    proven: Steady,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    words: BTreeMap<(SourceName, u16), Word>,
    /// When history was last told that something comes; `None` while nothing ever has.
    begun: Option<Steady>,
    silence: Option<Silence>,
}

/// All customers whose silence is an event.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    by_customer: BTreeMap<CustomerName, Stream>,
    /// When those are looked at a second time who seem to be silent: this process may have been suspended itself, and
    /// reads what has gathered meanwhile first.
    looks: Agenda<CustomerName>,
    /// When silences are said again.
    repeats: Agenda<CustomerName>,
}

impl Streams {
    /// When something may be due.
    pub(crate) fn next(&self) -> Option<Steady> {
        [self.looks.next(), self.repeats.next()].into_iter().flatten().min()
    }

    /// Customers heard of, of these those of whom nothing has ever come, and those who are silent.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let of = |is: fn(&Stream) -> bool| self.by_customer.values().filter(|stream| is(stream)).count();
        (self.by_customer.len(), of(|stream| stream.begun.is_none()), of(|stream| stream.silence.is_some()))
    }
}

/// Whether a group is about a customer's whole stream.
pub(crate) fn is_stream(group: &GroupKey) -> bool {
    group.service.as_str() == SERVICE
}

/// What takes the data of a source: the source itself, or all its parts.
fn parts(partitions: u16) -> std::ops::RangeInclusive<u16> {
    if partitions > 1 { 1..=partitions } else { 0..=0 }
}

/// All that has to be listened to, to know that a customer is silent.
fn listened(customer: &Customer) -> impl Iterator<Item = (SourceName, u16)> {
    let of = |(name, source): (&SourceName, &kinetic_schema::schema::Source)| {
        let name = name.clone();
        parts(source.partitions).map(move |part| (name.clone(), part))
    };
    customer.sources.iter().flat_map(of)
}

impl Stream {
    /// Since when nothing has come of any source, if that has been so for too long and is known for certain.
    fn quiet_for(&self, customer: &Customer, after: Duration, now: Steady) -> Option<Steady> {
        self.begun?;
        let patience = customer.listened_every()? * WORDS + LATE;
        let mut span: Option<(Steady, Steady)> = None;
        for part in listened(customer) {
            let word = self.words.get(&part).filter(|word| now.since(word.proven) <= patience)?;
            let (quiet, proven) = span.unwrap_or((word.quiet, word.proven));
            span = Some((quiet.max(word.quiet), proven.min(word.proven)));
        }
        let (quiet, proven) = span?;
        (proven.since(quiet) >= after).then_some(quiet)
    }

    /// Takes the word of an owner. Returns whether something new has come; `None` where it is a former owner's.
    fn take(&mut self, key: (SourceName, u16), word: Word) -> Option<bool> {
        let has_come = match self.words.get(&key) {
            Some(known) if known.epoch > word.epoch => return None,
            Some(known) if known.epoch == word.epoch => word.came > known.came,
            Some(_) => word.came > 0,
            // This node has been started anew. What came before it said that all is silent is no news.
            None => word.came > 0 && self.silence.is_none_or(|silence| word.quiet > silence.said),
        };
        self.words.insert(key, word);
        Some(has_come)
    }
}

impl Alert {
    /// The silence of this customer that is too long, if its silence is an event at all.
    fn stream_silent_after(&self, customer: &CustomerName) -> Option<(&Customer, Duration)> {
        let customer = self.schema.customers.get(customer).filter(|customer| !customer.disabled)?;
        Some((customer, customer.stream_silent_after?))
    }

    /// An owner says what it hears.
    pub(crate) fn listened(&mut self, at: Steady, said: Listening, effects: &mut Vec<Effect>) {
        let Listening { source, epoch, came, quiet_ms, proven_ms } = said;
        let (name, key) = (source.customer, (source.source, source.part));
        let is_wanted = self.stream_silent_after(&name).is_some_and(|(customer, _)| {
            let source = customer.sources.get(&key.0);
            source.is_some_and(|source| parts(source.partitions).contains(&key.1))
        });
        if !is_wanted {
            self.stats.listens_unknown += 1;
            return;
        }
        let ago = |ms: u64| at.before(Duration::from_millis(ms));
        let word = Word { epoch, came, quiet: ago(quiet_ms), proven: ago(proven_ms.min(quiet_ms)) };
        let stream = self.streams.by_customer.entry(name.clone()).or_default();
        let Some(has_come) = stream.take(key, word) else {
            self.stats.listens_stale += 1;
            return;
        };
        self.stats.listens += 1;
        if has_come {
            self.stream_flows(at, &name, effects);
        } else {
            self.stream_may_be_silent(at, &name);
        }
    }

    /// Something has come of a customer.
    fn stream_flows(&mut self, at: Steady, name: &CustomerName, effects: &mut Vec<Effect>) {
        let Some(stream) = self.streams.by_customer.get_mut(name) else { return };
        let silence = stream.silence.take();
        self.streams.looks.set(name, None);
        if stream.begun.is_none_or(|recorded| at.since(recorded) >= RECORD_EVERY) {
            stream.begun = Some(at);
            self.append(Record::StreamKnown { at: at.wall(), customer: name.clone() }, effects);
        }
        if let Some(silence) = silence {
            self.streams.repeats.set(name, None);
            self.say_stream(at, name, silence, AlertState::Resolved, effects);
        }
    }

    /// Since when nothing has come of a customer of whom that is to be said now.
    fn silent_stream(&self, at: Steady, name: &CustomerName) -> Option<Steady> {
        let (customer, after) = self.stream_silent_after(name)?;
        let stream = self.streams.by_customer.get(name).filter(|stream| stream.silence.is_none())?;
        stream.quiet_for(customer, after, at)
    }

    fn stream_may_be_silent(&mut self, at: Steady, name: &CustomerName) {
        if self.silent_stream(at, name).is_some() && !self.streams.looks.contains(name) {
            self.streams.looks.set(name, Some(at + SECOND_LOOK));
        }
    }

    fn look_at_stream(&mut self, at: Steady, name: &CustomerName, effects: &mut Vec<Effect>) {
        let Some(since) = self.silent_stream(at, name) else { return };
        let silence = Silence { since, said: at };
        self.stand(name, silence, at);
        self.say_stream(at, name, silence, AlertState::Firing, effects);
    }

    /// A silence stands, and is to be said again.
    fn stand(&mut self, name: &CustomerName, silence: Silence, at: Steady) {
        let repeat = at + self.repeat_after();
        if let Some(stream) = self.streams.by_customer.get_mut(name) {
            stream.silence = Some(silence);
            self.streams.repeats.set(name, Some(repeat));
        }
    }

    /// Who is silent is called so, and silences that stand are said again, whether or not anybody listens meanwhile.
    pub(crate) fn watch_streams(&mut self, now: Steady, effects: &mut Vec<Effect>) {
        while let Some(name) = self.streams.looks.take_due(now) {
            self.look_at_stream(now, &name, effects);
        }
        while let Some(name) = self.streams.repeats.take_due(now) {
            let Some(stream) = self.streams.by_customer.get(&name) else { continue };
            let Some(silence) = stream.silence else { continue };
            if now.since(silence.since) >= FORGET_AFTER {
                // It is not said again, and so goes stale.
                self.stats.customers_forgotten += 1;
                self.forget_stream(now, &name, effects);
                continue;
            }
            let silence = Silence { said: silence.said.max(now), ..silence };
            self.stand(&name, silence, now);
            self.say_stream(now, &name, silence, AlertState::Firing, effects);
        }
    }

    fn forget_stream(&mut self, at: Steady, name: &CustomerName, effects: &mut Vec<Effect>) {
        self.streams.looks.set(name, None);
        self.streams.repeats.set(name, None);
        if self.streams.by_customer.remove(name).is_some_and(|stream| stream.begun.is_some()) {
            self.append(Record::StreamGone { at: at.wall(), customer: name.clone() }, effects);
        }
    }

    /// Makes the table follow the schema.
    pub(crate) fn follow_streams(&mut self, at: Steady, effects: &mut Vec<Effect>) {
        let names: Vec<CustomerName> = self.streams.by_customer.keys().cloned().collect();
        for name in names {
            let Some((customer, _)) = self.stream_silent_after(&name) else {
                self.forget_stream(at, &name, effects);
                continue;
            };
            let wanted: Vec<(SourceName, u16)> = listened(customer).collect();
            if let Some(stream) = self.streams.by_customer.get_mut(&name) {
                stream.words.retain(|part, _| wanted.contains(part));
            }
        }
    }

    /// Time is told for the first time: stamps of history meet the clock.
    pub(crate) fn boot_streams(&mut self, at: Steady, effects: &mut Vec<Effect>) {
        let repeat = at + self.repeat_after();
        let Streams { by_customer, repeats, .. } = &mut self.streams;
        for (name, stream) in by_customer {
            stream.begun = stream.begun.map(|recorded| recorded.min(at));
            if let Some(silence) = &mut stream.silence {
                silence.since = silence.since.min(at);
                repeats.set(name, Some(repeat));
            }
        }
        self.follow_streams(at, effects);
    }

    /// Makes an event of it.
    fn say_stream(
        &mut self,
        at: Steady,
        name: &CustomerName,
        silence: Silence,
        state: AlertState,
        effects: &mut Vec<Effect>,
    ) {
        // Also where the clock has been set back over a restart, the end of a silence comes after its beginning.
        let end = at.max(silence.said);
        let statement = Statement {
            customer: name.clone(),
            source: SERVICE,
            analytic: ANALYTIC,
            service: SERVICE,
            cluster: ALL,
            origin: name.to_string(),
            metric: ALL,
            is_breach: false,
        };
        let event = watchdog::event(statement, silence.since.wall(), end.wall(), state);
        self.accept(at, event, None, effects);
    }

    /// History says that something has come of a customer.
    pub(crate) fn replay_stream_known(&mut self, at: Wall, customer: CustomerName) {
        self.streams.by_customer.entry(customer).or_default().begun = Some(at.into());
    }

    /// History says that a customer's silence is no event any more.
    pub(crate) fn replay_stream_gone(&mut self, customer: &CustomerName) {
        self.streams.by_customer.remove(customer);
    }

    /// History says that a customer was silent, or no longer.
    pub(crate) fn replay_stream_event(&mut self, event: &AlertEvent) {
        if event.service != ServiceName::from(SERVICE) || event.analytic != AnalyticName::from(ANALYTIC) {
            return;
        }
        let since = Steady::from(Wall::from_ms(event.since_ms));
        let said = Steady::from(Wall::from_ms(event.window_end_ms));
        let stream = self.streams.by_customer.entry(event.customer.clone()).or_default();
        // What was recorded when it began may be older than the days that are replayed.
        stream.begun.get_or_insert(since);
        stream.silence = (event.state == AlertState::Firing).then_some(Silence { since, said });
    }
}
