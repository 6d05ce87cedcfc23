//! What really happened, as nobody in the world knows it: the checkers read it.
//!
//! It is fed by the shells at the few places where a promise is given or kept, and knows true time and every process.

use std::collections::{BTreeMap, BTreeSet};

use kinetic_wire::{
    AlertEvent, AlertId, Epoch, LeaseReply, Mono, NodeId, Partial, SourceKey, Term, Wall, decode,
};

use crate::agenda::{Life, ProcId};
use crate::broker::{Broker, Gone};
use crate::check::{Invariant, Violation};
use crate::installation::{HEARING, LATENESS, WINDOW};
use crate::message::{MS, SECOND, Time};
use crate::world::BEGIN_S;

/// What became of one sample.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Of which source.
    pub source: SourceKey,
    /// Which part of it its feed is in; 0 where it is not split.
    pub part: u16,
    /// Which feed.
    pub origin: String,
    /// Factor of its feed (`installation::FACTORS`).
    pub factor: u64,
    /// Its place among the samples of its feed and window: the exponent of four. Known once it has been stamped.
    pub digit: u32,
    /// Its publisher's stamp, milliseconds since the Unix epoch.
    pub stamp_ms: Option<i64>,
    /// Start of the window that it belongs to, milliseconds since the Unix epoch, once it has been stamped.
    pub window_ms: Option<i64>,
    /// How often it was sent.
    pub sent: u32,
    /// The broker has confirmed it to its publisher.
    pub confirmed: bool,
    /// When it first came into its queue.
    pub entered: Option<Time>,
    /// An analyzer dropped a copy of it as too late, or as too far ahead.
    pub dropped: bool,
    /// And that copy had come into its queue in time.
    pub dropped_in_time: bool,
    /// A copy that was delivered again found its window closed.
    pub passed_over: bool,
    /// Its window was closed without its part, of which nothing had been heard for too long.
    pub overdue: bool,
    /// It is not on the broker any more, and nobody was to have it.
    pub gone: Option<Gone>,
}

impl Sample {
    /// Whether it came into its queue before its window could be closed, by true time.
    #[must_use]
    pub fn was_in_time(&self) -> bool {
        self.is_in_time(self.entered)
    }

    fn is_in_time(&self, entered: Option<Time>) -> bool {
        let Some((window, entered)) = self.window_ms.zip(entered) else { return false };
        ms_of(entered) < window + WINDOW_MS + LATENESS_MS
    }

    /// End of the window in which it is listened for, if a copy of it came into its queue before that could be closed.
    pub(crate) fn heard_by_ms(&self, entered: Option<Time>) -> Option<i64> {
        let (stamp, entered) = self.stamp_ms.zip(entered)?;
        let end = stamp - stamp.rem_euclid(HEARING_MS) + HEARING_MS;
        (ms_of(entered) < end + LATENESS_MS).then_some(end)
    }
}

/// Why an analyzer does not count a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Too late.
    Late,
    /// Too far ahead.
    Ahead,
    /// Delivered again, and its window is closed.
    Again,
}

/// An analyzer's lease, as its shell sees it, without asking the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    granted: Option<(Mono, u64)>,
    term: Term,
    failed: bool,
    denied: bool,
}

impl Standing {
    /// A request that was sent then was granted.
    pub(crate) fn granted(&mut self, sent: Mono, ttl_ms: u64, term: Term) {
        if term < self.term {
            self.failed = true;
            return;
        }
        *self = Self { granted: Some((sent, ttl_ms)), term, failed: false, denied: false };
    }

    pub(crate) fn failed(&mut self) {
        self.failed = true;
    }

    pub(crate) fn refused(&mut self, unknown_lease: bool) {
        if unknown_lease {
            (self.denied, self.failed) = (true, false);
        } else {
            self.failed = true;
        }
    }

    /// Four fifths of the lease have passed since the request for it was sent.
    fn is_past_fence(&self, now: Mono) -> bool {
        self.granted.is_some_and(|(since, ttl_ms)| now.since(since).as_millis() * 5 >= u128::from(ttl_ms) * 4)
    }

    /// Nobody answers; or somebody has said that the lease is unknown, and the registration that follows at once is not
    /// answered yet. Past the fence a node may go on with what it has in these two cases only.
    fn may_go_on(&self) -> bool {
        self.failed != self.denied
    }
}

/// What an analyzer has, last heard.
#[derive(Debug)]
struct Holding {
    heard: Time,
    mono: Mono,
    standing: Standing,
    owned: Vec<SourceKey>,
}

/// An alert event that has reached history.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// When.
    pub at: Time,
    /// The event.
    pub event: AlertEvent,
}

/// An ownership as an answer told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    proc: ProcId,
    epoch: Epoch,
}

/// An answer that told a process of a source.
#[derive(Clone, Copy, Debug)]
struct Claim {
    at: Time,
    epoch: Epoch,
    term: Term,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    /// All samples, by number.
    pub samples: Vec<Sample>,
    /// All accepted alert events, in order.
    pub accepted: Vec<Accepted>,
    /// What was found wrong.
    pub violations: Vec<Violation>,
    /// Times that a source was told to another analyzer, or under another epoch.
    pub moves: u64,
    /// From here on nothing may move.
    pub quiet_since: Option<Time>,
    /// Names of the analyzers' nodes.
    pub(crate) nodes: BTreeMap<ProcId, String>,
    published: BTreeMap<(AlertId, Epoch), BTreeSet<(ProcId, Life)>>,
    owners: BTreeMap<(SourceKey, Epoch), (ProcId, Life)>,
    epochs: BTreeMap<SourceKey, Epoch>,
    terms: BTreeMap<Term, (ProcId, Life)>,
    holdings: BTreeMap<ProcId, Holding>,
    told: BTreeMap<SourceKey, Told>,
    /// Until when the lease lasts that a redirector's process has last granted to an analyzer's.
    leases: BTreeMap<((ProcId, Life), ProcId), Time>,
    /// The last answer that told a process of a source.
    claims: BTreeMap<(SourceKey, ProcId), Claim>,
    /// Which process of a name was granted a lease last.
    latest: BTreeMap<String, ProcId>,
    /// When the broker last said that a node's connection had ended, and to which redirector's process.
    witnessed: BTreeMap<String, (Time, (ProcId, Life))>,
    /// What parts have said to be closed in windows of [`WINDOW`]: from when to when, and when that came into its queue.
    claims_of_parts: Vec<(SourceKey, i64, i64, Time)>,
    /// Some source is split.
    pub(crate) has_parts: bool,
    /// Rules listen for silence.
    pub(crate) listens: bool,
    /// Samples of a feed and window so far.
    digits: BTreeMap<(SourceKey, String, i64), u32>,
}

const LATENESS_MS: i64 = (LATENESS / MS) as i64;
const HEARING_MS: i64 = (HEARING / MS) as i64;
const WINDOW_MS: i64 = (WINDOW / MS) as i64;
/// How long a window that one part has closed waits for the others.
const PARTS_WAIT_MS: i64 = 60_000;
/// From a window's start until it is closed, at the latest: its minute and its lateness.
const OPEN_MS: i64 = 75_000;
/// What comes into a queue is delivered within this, or its consumer's connection is given up.
const HEARD_WITHIN: Time = 25 * SECOND;
/// Digits of a feed's value: with the largest factor below 2^53, which a double holds exactly.
const DIGITS_MAX: u32 = 22;

/// Milliseconds since the Unix epoch.
fn ms_of(at: Time) -> i64 {
    BEGIN_S * 1_000 + i64::try_from(at / MS).unwrap_or(i64::MAX)
}

impl Ledger {
    /// An empty one, of a world in which some source may be split.
    pub(crate) fn new(has_parts: bool) -> Self {
        Self { has_parts, ..Self::default() }
    }

    pub(crate) fn violated(&mut self, at: Time, invariant: Invariant, detail: String) {
        self.violations.push(Violation { at, invariant, detail });
    }

    /// A publisher's clock stamps a sample. Returns its value, or `None` where a value cannot tell so many samples
    /// of one window apart (a publisher that stood still has many to say at once).
    pub(crate) fn stamped(&mut self, sample: usize, stamp: Wall) -> Option<u64> {
        let window = stamp.as_ms() - stamp.as_ms().rem_euclid(WINDOW_MS);
        let known = &mut self.samples[sample];
        let feed = (known.source.clone(), known.origin.clone(), window);
        let digit = self.digits.entry(feed).or_default();
        if *digit >= DIGITS_MAX {
            return None;
        }
        (known.stamp_ms, known.window_ms, known.digit) = (Some(stamp.as_ms()), Some(window), *digit);
        *digit += 1;
        Some(known.factor << (2 * known.digit))
    }

    /// A publisher sends a sample, once more or for the first time.
    pub(crate) fn sent(&mut self, sample: usize) {
        self.samples[sample].sent += 1;
    }

    /// The broker has confirmed it.
    pub(crate) fn confirmed(&mut self, sample: usize) {
        self.samples[sample].confirmed = true;
    }

    /// What the broker did with samples.
    pub(crate) fn moved(&mut self, at: Time, broker: &mut Broker) {
        for sample in broker.entered.drain(..) {
            self.samples[sample].entered.get_or_insert(at);
        }
        for (sample, why) in broker.gone.drain(..) {
            self.samples[sample].gone = Some(why);
        }
        for message in broker.partials.drain(..) {
            let Ok(partial) = decode::<Partial>(&message.body) else { continue };
            if partial.length_ns / 1_000_000 == WINDOW_MS {
                let from = partial.from_ns.map_or(i64::MIN, |from| from / 1_000_000);
                self.claims_of_parts.push((partial.source, from, partial.end_ns / 1_000_000, at));
            }
        }
    }

    /// The owner of a split source has closed windows without some part. By right, where that part has said nothing of them
    /// that could have reached it, and the time to wait for it is over.
    pub(crate) fn incomplete(&mut self, at: Time) {
        let Self { samples, claims_of_parts, .. } = self;
        for sample in samples.iter_mut().filter(|sample| sample.part > 0) {
            let Some(end) = sample.window_ms.map(|window| window + WINDOW_MS) else { continue };
            let said = |(unit, from, to, came): &(SourceKey, i64, i64, Time)| {
                *unit == sample.source.with_part(sample.part)
                    && *from < end
                    && end <= *to
                    && came + HEARD_WITHIN <= at
            };
            let waited = ms_of(at) >= end + PARTS_WAIT_MS;
            sample.overdue |= waited && !claims_of_parts.iter().any(said);
        }
    }

    /// An analyzer has dropped a copy of it, which the broker took then.
    pub(crate) fn dropped(&mut self, sample: usize, entered: Option<Time>, how: Dropped) {
        let known = &mut self.samples[sample];
        match how {
            Dropped::Again => known.passed_over = true,
            Dropped::Ahead => (known.dropped, known.dropped_in_time) = (true, true),
            Dropped::Late => {
                known.dropped = true;
                // A publisher that repeats what was confirmed to its former self long ago sends something late. Where rules
                // listen for silence, what is late for their windows counts as late, and may be in time for the others.
                known.dropped_in_time |= if self.listens {
                    known.heard_by_ms(entered).is_some()
                } else {
                    known.is_in_time(entered)
                };
            }
        }
    }

    /// An analyzer has found that a clock was wrong, by this sample, and forgets what is open of its source: of two clocks that
    /// disagree it cannot tell which is right.
    pub(crate) fn brought_back(&mut self, at: Time, sample: usize) {
        let source = self.samples[sample].source.clone();
        let is_open = |sample: &Sample| sample.window_ms.is_some_and(|start| start + OPEN_MS > ms_of(at));
        for sample in self.samples.iter_mut().filter(|sample| sample.source == source && is_open(sample)) {
            sample.passed_over = true;
        }
    }

    /// A redirector was told by the broker that a node's connection has ended.
    pub(crate) fn witnessed(&mut self, at: Time, who: (ProcId, Life), node: &NodeId) {
        self.witnessed.insert(node.to_string(), (at, who));
    }

    /// An analyzer's state after an input.
    pub(crate) fn stands(
        &mut self,
        at: Time,
        proc: ProcId,
        mono: Mono,
        standing: &Standing,
        owned: Vec<SourceKey>,
    ) {
        self.holdings.insert(proc, Holding { heard: at, mono, standing: standing.clone(), owned });
    }

    /// A process is no more.
    pub(crate) fn ended(&mut self, proc: ProcId) {
        self.holdings.remove(&proc);
    }

    /// An analyzer publishes an alert event: not past its lease's fence.
    pub(crate) fn publishes(
        &mut self,
        at: Time,
        who: (ProcId, Life),
        mono: Mono,
        standing: &Standing,
        event: &AlertEvent,
    ) {
        self.published.entry((event.id, event.epoch)).or_default().insert(who);
        if standing.is_past_fence(mono) && !standing.may_go_on() {
            let detail = format!(
                "{} publishes for {}/{} though four fifths of its lease have passed ({standing:?})",
                event.node, event.customer, event.source
            );
            self.violated(at, Invariant::LeaseFence, detail);
        }
    }

    /// Somebody who owns nothing sends an event.
    pub(crate) fn impostor(&mut self, event: &AlertEvent) {
        self.published.entry((event.id, event.epoch)).or_default().insert((ProcId(usize::MAX), Life(0)));
    }

    /// A redirector answers a request of an analyzer's process.
    pub(crate) fn granted(&mut self, at: Time, who: (ProcId, Life), to: ProcId, reply: &LeaseReply) {
        let leader = *self.terms.entry(reply.term).or_insert(who);
        if leader != who {
            let detail = format!("term {} is led by {who:?} and was led by {leader:?}", reply.term);
            self.violated(at, Invariant::TermUnique, detail);
        }
        if let Some(name) = self.nodes.get(&to) {
            self.latest.insert(name.clone(), to);
        }
        self.leases.insert((who, to), at + reply.ttl_ms * MS);
        for grant in &reply.grant {
            let told = Told { proc: to, epoch: grant.epoch };
            let before = self.told.insert(grant.source.clone(), told);
            let claim = Claim { at, epoch: grant.epoch, term: reply.term };
            let known = self.claims.insert((grant.source.clone(), to), claim);
            if before == Some(told) {
                continue;
            }
            // A new leader takes everybody at his word (ADR 0005): who has been given a source once, and says that he holds it,
            // keeps it under the epoch that he had, until the holder of a higher one speaks. That gives nothing away.
            let is_adopted = known.is_some_and(|known| known.epoch == grant.epoch && known.term < reply.term);
            if !is_adopted {
                self.not_too_early(at, (who, reply.term), to, &grant.source);
            }
            self.moves += 1;
            if self.quiet_since.is_some_and(|since| at >= since) {
                let detail = format!("{} goes from {before:?} to {told:?} in a quiet world", grant.source);
                self.violated(at, Invariant::QuietMovesNothing, detail);
            }
        }
    }

    /// The broker has told this redirector that the process's connection had ended, and the process has not been told of the
    /// source since: its lease was cut short (ADR 0006). Whose source it is then may be heard much later, where the
    /// broker takes nothing for a while.
    fn was_witnessed(&self, who: (ProcId, Life), proc: ProcId, source: &SourceKey) -> bool {
        let name = self.nodes.get(&proc);
        let Some((at, told)) = name.and_then(|name| self.witnessed.get(name)) else { return false };
        let claim = self.claims.get(&(source.clone(), proc));
        *told == who && claim.is_none_or(|claim| claim.at <= *at)
    }

    /// A newer process of the same name was granted a lease: the operator's name says that the older one is gone, and if it is
    /// not, its epochs are.
    fn is_superseded(&self, proc: ProcId) -> bool {
        let latest = self.nodes.get(&proc).and_then(|name| self.latest.get(name));
        latest.is_some_and(|latest| *latest != proc)
    }

    /// Nobody else may hold a source that is given away, with a lease that stands by its own clock.
    fn not_too_early(
        &mut self,
        at: Time,
        (who, term): ((ProcId, Life), Term),
        to: ProcId,
        source: &SourceKey,
    ) {
        let name = self.nodes.get(&to);
        let rival = self.holdings.iter().find(|(proc, holding)| {
            let mono = Mono(holding.mono.0 + (at - holding.heard));
            **proc != to
                && self.nodes.get(proc) != name
                && holding.owned.contains(source)
                && !self.was_witnessed(who, **proc, source)
                && !self.is_superseded(**proc)
                && if holding.standing.term > term {
                    // What a later leader has granted, one that does not know yet that it is deposed cannot know, and whoever
                    // holds it ignores the lower term: it has to keep to its own leases.
                    self.leases.get(&(who, **proc)).is_some_and(|until| at < *until)
                } else {
                    holding.standing.granted.is_some()
                        && !holding.standing.denied
                        && !holding.standing.is_past_fence(mono)
                }
        });
        if let Some((proc, _)) = rival {
            let detail =
                format!("{source} is given to {to:?} while {proc:?} holds it with a lease that stands");
            self.violated(at, Invariant::NoEarlyGift, detail);
        }
    }

    /// An alert event has reached history.
    pub(crate) fn accepted(&mut self, at: Time, event: &AlertEvent) {
        let source = SourceKey::new(event.customer.as_str(), event.source.as_str());
        // What its publisher said, not what the alert node made of it.
        let said = self.published.keys().filter(|(id, _)| *id == event.id).map(|(_, epoch)| *epoch);
        let epochs: Vec<Epoch> = said.collect();
        let epoch = if epochs.contains(&event.epoch) {
            event.epoch
        } else {
            epochs.first().copied().unwrap_or_default()
        };
        let highest = self.epochs.entry(source.clone()).or_default();
        if epoch < *highest {
            let detail = format!("{source}: an event of epoch {epoch} is taken after one of {highest}");
            self.violated(at, Invariant::EpochOrder, detail);
        } else {
            *highest = epoch;
        }
        let by = self.published.get(&(event.id, epoch)).cloned().unwrap_or_default();
        // Who repeats another's event of the same epoch has done no harm: it is one event.
        if let (1, Some(owner)) = (by.len(), by.first()) {
            let first = *self.owners.entry((source.clone(), epoch)).or_insert(*owner);
            if first != *owner {
                let detail =
                    format!("{source}: events of {first:?} and of {owner:?} are taken under epoch {epoch}");
                self.violated(at, Invariant::OneOwner, detail);
            }
        }
        self.accepted.push(Accepted { at, event: event.clone() });
    }

    /// Analyzers that hold a source and are not letting it go.
    pub(crate) fn holders(&self, source: &SourceKey) -> Vec<ProcId> {
        let holds = self.holdings.iter().filter(|(_, holding)| holding.owned.contains(source));
        holds.map(|(proc, _)| *proc).collect()
    }
}

#[cfg(test)]
mod tests {
    use kinetic_wire::{Grant, LeaseId};

    use super::*;

    fn reply(term: u64, epoch: u64, source: &SourceKey) -> LeaseReply {
        LeaseReply {
            ok: true,
            lease: LeaseId::default(),
            term: Term(term),
            ttl_ms: 15_000,
            heartbeat_ms: 5_000,
            grant: vec![Grant { source: source.clone(), region: "eu".into(), epoch: Epoch(epoch) }],
            revoke: Vec::new(),
            moving: Vec::new(),
            backoff_ms: 0,
            relieved: false,
            now_ms: 0,
        }
    }

    /// A leader that was deposed at 16 s and has not heard of it keeps to the leases that it has granted itself; one that
    /// leads keeps to all.
    #[test]
    fn a_deposed_leader_answers_for_its_own_leases() {
        let source = SourceKey::new("c0", "s0");
        let (old, new) = ((ProcId(0), Life(1)), (ProcId(1), Life(2)));
        let (holder, other) = (ProcId(2), ProcId(3));
        let early = |granted_at: Time, (giver, term): ((ProcId, Life), u64), at: Time| {
            let mut ledger = Ledger::default();
            ledger.nodes.extend([(holder, "a".to_owned()), (other, "b".to_owned())]);
            ledger.granted(granted_at, old, holder, &reply(2, 1, &source));
            ledger.granted(16 * SECOND, new, holder, &reply(3, 1, &source));
            let mut standing = Standing::default();
            standing.granted(Mono(16 * SECOND), 15_000, Term(3));
            ledger.stands(16 * SECOND, holder, Mono(16 * SECOND), &standing, vec![source.clone()]);
            ledger.granted(at, giver, other, &reply(term, 2, &source));
            ledger.violations.iter().any(|found| found.invariant == Invariant::NoEarlyGift)
        };
        assert!(!early(0, (old, 2), 17 * SECOND), "its lease is over");
        assert!(early(10 * SECOND, (old, 2), 17 * SECOND), "its lease has eight seconds left");
        assert!(early(0, (new, 3), 17 * SECOND));
        assert!(!early(0, (new, 3), 29 * SECOND), "past the fence the holder has let go");
    }
}
