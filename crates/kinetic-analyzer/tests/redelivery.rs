//! Delivery promise 1: a sample counts once. A small broker, analyzers that die at any moment and lose their connection,
//! an oracle that sees every message exactly once, and an analyzer that nothing ever happens to: whoever dies when, with
//! whatever confirmed or not, the alert events are the same ones.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use kinetic_analyzer::machine::{Analyzer, Delivery, Effect, Input, Slot};
use kinetic_schema::Schema;
use kinetic_wire::*;
use support::*;

const HOSTS: u64 = 7;
const SECONDS: i64 = 120;
const STEP: Duration = Duration::from_millis(200);
/// Lengths that do not divide each other, so that windows straddle windows.
const WINDOWS: [u64; 3] = [10, 15, 20];

struct Message {
    published: Wall,
    origin: String,
    ts: Wall,
    /// Number of the body within its host's start.
    seq: u64,
    body: String,
    /// What the oracle reads: metric, event time, value.
    samples: Vec<(&'static str, i64, u64)>,
}

const METRICS: [&str; 3] = ["m10", "m15", "m20"];

/// Two minutes of seven hosts; each has bad spells. Some bodies come seconds late, some hold samples of
/// different windows, and not every body holds a sample of every metric.
fn messages(dice: &mut Dice) -> Vec<Message> {
    let mut messages = Vec::new();
    for second in 0..SECONDS {
        for host in 0..HOSTS {
            if dice.roll(10) == 0 {
                continue;
            }
            let bad = (second / 20 + i64::try_from(host).unwrap()) % 5 == 0;
            let published = START * 1000 + second * 1000 + i64::try_from(dice.roll(1000)).unwrap();
            // No sample is older than the story, or a window before it would hold stragglers only.
            let delay = if dice.roll(4) == 0 { i64::try_from(dice.roll(4000)).unwrap() } else { 0 };
            let stamped = (published - delay).max(START * 1000);
            let mut samples = Vec::new();
            let mut body = String::new();
            for metric in METRICS {
                if dice.roll(3) == 0 {
                    continue;
                }
                let value = 100 + dice.roll(20) + if bad { dice.roll(200) } else { 0 };
                if dice.roll(8) == 0 {
                    let at = (published / 1000 - i64::try_from(dice.roll(4)).unwrap()).max(START) * 1000;
                    body.push_str(&format!("{metric}:{value}|g|T{}\n", at / 1000));
                    samples.push((metric, at, value));
                } else {
                    body.push_str(&format!("{metric}:{value}|g\n"));
                    samples.push((metric, stamped, value));
                }
            }
            // A queue's length, moved up and down: nobody ever says where it stands.
            if dice.roll(3) == 0 {
                let way = if dice.roll(2) == 0 { '+' } else { '-' };
                writeln!(body, "d10:{way}{}|g", dice.roll(if bad { 90 } else { 9 })).unwrap();
            }
            if body.is_empty() {
                body.push_str("other:1|c\n");
            }
            let origin = format!("web-{host}");
            let seq = u64::try_from(second).unwrap();
            let ts = Wall::from_ms(stamped);
            if dice.roll(6) == 0 {
                // Its publisher sees no confirm and sends it again; the oracle knows better than to count it.
                let published = Wall::from_ms(published + i64::try_from(dice.roll(900)).unwrap());
                let (origin, body) = (origin.clone(), body.clone());
                messages.push(Message { published, origin, ts, seq, body, samples: vec![] });
            }
            messages.push(Message { published: Wall::from_ms(published), origin, ts, seq, body, samples });
        }
    }
    messages.sort_by_key(|message| message.published);
    messages
}

fn watched() -> Schema {
    let analytics: Vec<_> = METRICS
        .into_iter()
        .zip(WINDOWS)
        .map(|(metric, window)| analytic(metric, metric, 1.3, window, 1, 1))
        .collect();
    schema(&analytics)
}

/// Rules that look back: at windows before, and at levels before.
fn watched_for_long() -> Schema {
    let mut analytics = vec![analytic("d10", "d10", 1.3, 10, 1, 2)];
    for (metric, (window, (hits, of))) in
        METRICS.into_iter().zip(WINDOWS.into_iter().zip([(2, 3), (3, 5), (1, 1)]))
    {
        analytics.push(analytic(metric, metric, 1.3, window, hits, of));
    }
    schema(&analytics)
}

/// Analytic, feed, window start in ms.
type Verdict = (String, String, i64);

/// Which feeds are out of line in which windows, and all feeds with a value there, told by the plainest program.
fn oracle(messages: &[Message]) -> (BTreeSet<Verdict>, BTreeSet<Verdict>) {
    let (mut out, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (metric, window) in METRICS.into_iter().zip(WINDOWS) {
        let window = i64::try_from(window).unwrap() * 1000;
        let mut values: BTreeMap<i64, BTreeMap<&str, Vec<u64>>> = BTreeMap::new();
        for message in messages {
            for (_, at, value) in message.samples.iter().filter(|(name, ..)| *name == metric) {
                let feeds = values.entry(at - at % window).or_default();
                feeds.entry(&message.origin).or_default().push(*value);
            }
        }
        for (start, feeds) in values {
            let means: BTreeMap<_, _> =
                feeds.iter().map(|(f, v)| (*f, v.iter().sum::<u64>() as f64 / v.len() as f64)).collect();
            let n = means.len() as f64;
            if n < 3.0 || n <= 1.3 * 1.3 + 1.0 {
                continue;
            }
            let mean = means.values().sum::<f64>() / n;
            let deviation = (means.values().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            for (feed, value) in means {
                let verdict = (metric.to_owned(), feed.to_owned(), start);
                if value > mean + 1.3 * deviation {
                    out.insert(verdict.clone());
                }
                seen.insert(verdict);
            }
        }
    }
    (out, seen)
}

/// Windows in which a feed begins to be out of line.
fn begins(out: &BTreeSet<Verdict>, seen: &BTreeSet<Verdict>) -> BTreeSet<Verdict> {
    let was_out = |(analytic, feed, start): &Verdict| {
        let before =
            seen.range((analytic.clone(), feed.clone(), i64::MIN)..(analytic.clone(), feed.clone(), *start));
        before.last().is_some_and(|verdict| out.contains(verdict))
    };
    out.iter().filter(|verdict| !was_out(verdict)).cloned().collect()
}

/// One queue and what an analyzer does with it.
struct Run<'m> {
    messages: &'m [Message],
    schema: Arc<Schema>,
    dice: Dice,
    now: Now,
    published: usize,
    ready: VecDeque<usize>,
    /// Token to message.
    unsettled: BTreeMap<u64, usize>,
    settled: BTreeSet<usize>,
    delivered: BTreeSet<usize>,
    analyzer: Option<Analyzer>,
    slot: Slot,
    token: u64,
    /// Alert events on their way, with when they reach the broker.
    outbox: Vec<(Mono, AlertEvent)>,
    alerts: Vec<AlertEvent>,
    /// A snapshot on its way: when it reaches the broker, its number, its body.
    keeping: Option<(Mono, u64, Vec<u8>)>,
    snapshots: VecDeque<Vec<u8>>,
    epoch: u64,
    /// Inputs and effects until the next accident.
    fuse: Option<u64>,
    crashes: u64,
    /// What happens when the fuse has burnt down.
    is_crash: bool,
    /// The connection is gone, and the analyzer does not know yet: its settlements reach nobody.
    is_cut: bool,
}

struct Crash;

impl<'m> Run<'m> {
    fn new(messages: &'m [Message], schema: Schema, seed: u64) -> Self {
        Self {
            messages,
            schema: Arc::new(schema),
            dice: Dice(seed),
            now: Now { mono: Mono(1), wall: Wall::from_secs(START) },
            published: 0,
            ready: VecDeque::new(),
            unsettled: BTreeMap::new(),
            settled: BTreeSet::new(),
            delivered: BTreeSet::new(),
            analyzer: None,
            slot: Slot(0),
            token: 0,
            outbox: Vec::new(),
            alerts: Vec::new(),
            keeping: None,
            snapshots: VecDeque::new(),
            epoch: 0,
            fuse: None,
            crashes: 0,
            is_crash: true,
            is_cut: false,
        }
    }

    fn burn(&mut self) -> Result<(), Crash> {
        let Some(fuse) = &mut self.fuse else { return Ok(()) };
        if *fuse > 0 {
            *fuse -= 1;
        } else if self.is_crash {
            return Err(Crash);
        } else {
            self.is_cut = true;
        }
        Ok(())
    }

    fn send(&mut self, input: Input<'_>) -> Result<(), Crash> {
        self.burn()?;
        let mut effects = Vec::new();
        self.analyzer.as_mut().unwrap().handle(self.now, input, &mut effects);
        for effect in effects {
            self.burn()?;
            self.perform(effect)?;
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<(), Crash> {
        match effect {
            Effect::Request { request, .. } => {
                let body = encode(&lease(vec![grant(self.epoch)]));
                self.send(Input::Replied { request, body: &body })?;
            }
            Effect::Subscribe { slot, .. } => {
                (self.slot, self.token) = (slot, 0);
                self.recall()?;
            }
            Effect::Keep { seq, body, .. } => {
                assert!(self.keeping.is_none(), "one snapshot at a time");
                let delay = Duration::from_millis(self.dice.roll(8000));
                self.keeping = Some((self.now.mono + delay, seq, body));
            }
            Effect::AckUpTo { .. } | Effect::AckRange { .. } if self.is_cut => {}
            Effect::AckUpTo { token, .. } => {
                assert!(self.unsettled.contains_key(&token.0), "AckUpTo names a settled token");
                let rest = self.unsettled.split_off(&(token.0 + 1));
                self.settled.extend(std::mem::replace(&mut self.unsettled, rest).into_values());
            }
            Effect::AckRange { first, last, .. } => {
                for token in first.0..=last.0 {
                    self.settled
                        .insert(self.unsettled.remove(&token).expect("AckRange names a settled token"));
                }
            }
            Effect::Publish(event) => {
                let delay = Duration::from_millis(self.dice.roll(8000));
                self.outbox.push((self.now.mono + delay, *event));
            }
            Effect::Probe { slot, .. } => self.send(Input::Probed { slot, ok: !self.is_cut })?,
            other => panic!("unexpected {other:?}"),
        }
        Ok(())
    }

    /// The subscription is active: what is in the snapshot queue.
    fn recall(&mut self) -> Result<(), Crash> {
        let snapshots: Vec<Vec<u8>> = self.snapshots.iter().cloned().collect();
        let bodies: Vec<&[u8]> = snapshots.iter().map(Vec::as_slice).collect();
        self.send(Input::Recalled { slot: self.slot, snapshots: &bodies })
    }

    /// The broker has a snapshot; it keeps eight.
    fn keep(&mut self, body: Vec<u8>) {
        self.snapshots.push_back(body);
        if self.snapshots.len() > 8 {
            self.snapshots.pop_front();
        }
    }

    /// Of what a dying analyzer has on its way, the broker gets some, and nobody hears that it has.
    fn die(&mut self) {
        for (_, event) in std::mem::take(&mut self.outbox) {
            if self.dice.roll(2) == 0 {
                self.alerts.push(event);
            }
        }
        if let Some((_, _, body)) = self.keeping.take()
            && self.dice.roll(2) == 0
        {
            self.keep(body);
        }
        self.analyzer = None;
    }

    /// All that is unsettled goes back to the head of the queue; a quorum queue may let some newer ones go first.
    fn requeue(&mut self) {
        let mut back: VecDeque<usize> = std::mem::take(&mut self.unsettled).into_values().collect();
        let newer = usize::try_from(self.dice.roll(6)).unwrap().min(self.ready.len());
        let rest = self.ready.split_off(newer);
        back.extend(rest);
        self.ready.extend(back);
    }

    fn next_ready(&mut self) -> Option<usize> {
        if self.is_cut { None } else { self.ready.pop_front() }
    }

    fn step(&mut self) -> Result<(), Crash> {
        while self.messages.get(self.published).is_some_and(|m| m.published <= self.now.wall) {
            self.ready.push_back(self.published);
            self.published += 1;
        }
        if self.analyzer.is_none() {
            self.epoch += 1;
            self.analyzer = Some(Analyzer::new(config(), Arc::clone(&self.schema), "rev"));
            self.send(Input::Tick)?;
        }
        while let Some(index) = self.next_ready() {
            self.token += 1;
            self.unsettled.insert(self.token, index);
            let message = &self.messages[index];
            let envelope = Envelope {
                origin: Some(message.origin.as_str().into()),
                ts: Some(message.ts),
                seq: Some(message.seq),
                inc: Some(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_DNS, message.origin.as_bytes())),
                ..Envelope::default()
            };
            let delivery = Delivery {
                slot: self.slot,
                token: Token(self.token),
                redelivered: !self.delivered.insert(index),
                exchange: "in.acme",
                routing_key: "web",
                envelope,
                body: message.body.as_bytes(),
            };
            self.send(Input::Delivery(delivery))?;
        }
        let now = self.now.mono;
        let (arrived, rest) = std::mem::take(&mut self.outbox).into_iter().partition(|(at, _)| *at <= now);
        self.outbox = rest;
        for (_, event) in arrived {
            let id = event.id;
            self.alerts.push(event);
            self.send(Input::Published { id })?;
        }
        if self.keeping.as_ref().is_some_and(|(at, ..)| *at <= now) {
            let (_, seq, body) = self.keeping.take().unwrap();
            self.keep(body);
            self.send(Input::Kept { slot: self.slot, seq })?;
        }
        if self.analyzer.as_ref().unwrap().next_wakeup().is_some_and(|at| at <= now) {
            self.send(Input::Tick)?;
        }
        Ok(())
    }

    /// Runs to the end. `fuses` are the numbers of inputs and effects between accidents.
    fn run(&mut self, fuses: &[u64]) {
        let mut fuses = fuses.iter().copied();
        self.fuse = fuses.next();
        let end = Wall::from_secs(START + SECONDS + 120);
        while self.now.wall < end {
            if self.step().is_err() {
                self.fuse = fuses.next();
                self.crashes += 1;
                self.requeue();
                self.die();
                self.now = self.now + Duration::from_millis(self.dice.roll(20_000));
            }
            if self.is_cut {
                self.fuse = None;
                self.crashes += 1;
                self.requeue();
                let slot = self.slot;
                let told = self.send(Input::SubscriptionLost { slot }).and_then(|()| self.recall());
                assert!(told.is_ok());
                (self.is_cut, self.fuse) = (false, fuses.next());
            }
            self.now = self.now + STEP;
        }
        assert_eq!(self.unsettled.len(), 0, "everything is settled in the end");
        assert_eq!(self.settled.len(), self.messages.len(), "everything has been delivered");
    }

    /// Every alert event by what makes it one.
    fn ids(&self) -> BTreeSet<(AlertId, String, AlertState, i64, i64)> {
        let told = |e: &AlertEvent| {
            let feed = format!("{} {}", e.analytic, e.feed.origin);
            (e.id, feed, e.state, e.window_start_ms / 1000 - START, e.since_ms)
        };
        self.alerts.iter().map(told).collect()
    }

    fn said(&self, state: AlertState) -> BTreeSet<Verdict> {
        let said = self.alerts.iter().filter(|event| event.state == state);
        said.map(|event| (event.analytic.to_string(), event.feed.origin.clone(), event.window_start_ms))
            .collect()
    }
}

#[test]
fn undisturbed_the_analyzer_says_what_the_oracle_says() {
    for seed in 0..10 {
        let messages = messages(&mut Dice(seed));
        let (out, seen) = oracle(&messages);
        let begins = begins(&out, &seen);
        assert!(begins.len() > 15, "the story has something to tell: {}", begins.len());
        let mut run = Run::new(&messages, watched(), seed);
        run.run(&[]);
        let fired = run.said(AlertState::Firing);
        assert_eq!(begins.difference(&fired).next(), None, "seed {seed}: every beginning is said");
        assert_eq!(fired.difference(&out).next(), None, "seed {seed}: nothing else is said to fire");
        assert_eq!(run.said(AlertState::Resolved).intersection(&out).next(), None, "seed {seed}");
        let analyzer = run.analyzer.as_ref().unwrap();
        let stats = analyzer.stats(run.now);
        assert_eq!((stats.late, stats.early_acked, stats.bodies_unremembered), (0, 0, 0));
        assert!(stats.repeated > 50, "{}", stats.repeated);
    }
}

#[test]
fn a_crash_at_any_moment_changes_no_verdict() {
    let mut crashes = 0;
    for seed in 0..40 {
        let messages = messages(&mut Dice(seed));
        let (out, seen) = oracle(&messages);
        let mut run = Run::new(&messages, watched(), seed);
        let fuses: Vec<u64> = (0..1 + run.dice.roll(4)).map(|_| run.dice.roll(900)).collect();
        run.run(&fuses);
        crashes += run.crashes;
        let fired = run.said(AlertState::Firing);
        let missed = begins(&out, &seen).difference(&fired).next().cloned();
        assert_eq!(missed, None, "seed {seed}, fuses {fuses:?}: a beginning was never said");
        let wrong = fired.difference(&out).next();
        assert_eq!(wrong, None, "seed {seed}, fuses {fuses:?}: judged from a part of a window");
        let wrong = run.said(AlertState::Resolved).intersection(&out).next().cloned();
        assert_eq!(wrong, None, "seed {seed}, fuses {fuses:?}: resolved while out of line");
    }
    assert!(crashes > 60, "{crashes}");
}

#[test]
fn whoever_dies_when_the_alert_events_are_the_same() {
    let (mut crashes, mut events, mut recalled) = (0, 0, 0);
    for seed in 0..100 {
        let messages = messages(&mut Dice(seed));
        let mut undisturbed = Run::new(&messages, watched_for_long(), seed);
        undisturbed.run(&[]);
        let mut run = Run::new(&messages, watched_for_long(), seed);
        let fuses: Vec<u64> = (0..1 + run.dice.roll(4)).map(|_| run.dice.roll(900)).collect();
        run.run(&fuses);
        crashes += run.crashes;
        events += undisturbed.ids().len();
        if let Some(analyzer) = &run.analyzer {
            let stats = analyzer.stats(run.now);
            recalled += stats.snapshots_recalled;
            assert_eq!((stats.snapshots_ignored, stats.outdated, stats.deliveries_ignored), (0, 0, 0));
        }
        let (ours, theirs) = (run.ids(), undisturbed.ids());
        let (more, less) = (ours.difference(&theirs).next(), theirs.difference(&ours).next());
        assert_eq!((more, less), (None, None), "seed {seed}, fuses {fuses:?}: too many, too few");
    }
    assert!(crashes > 170 && events > 1400 && recalled > 60, "{crashes} {events} {recalled}");
}

#[test]
fn a_lost_subscription_changes_nothing_at_all() {
    for seed in 0..60 {
        let messages = messages(&mut Dice(seed));
        let mut undisturbed = Run::new(&messages, watched(), seed);
        undisturbed.run(&[]);
        let mut run = Run::new(&messages, watched(), seed);
        let fuses: Vec<u64> = (0..3).map(|_| run.dice.roll(250)).collect();
        run.is_crash = false;
        run.run(&fuses);
        for state in [AlertState::Firing, AlertState::Resolved] {
            assert_eq!(run.said(state), undisturbed.said(state), "seed {seed}, fuses {fuses:?}");
        }
    }
}
