//! A source that is split gives the verdicts that it would give whole, bit for bit: whatever the split, and whoever crashes or
//! loses its connection when.
#![allow(clippy::unwrap_used)]

mod alone;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kinetic_analyzer::machine::{Analyzer, Delivery, Effect, Input, Slot};
use kinetic_analyzer::stats::Stats;
use kinetic_schema::Schema;
use kinetic_schema::schema::{Rule, Silent, SilentEach, ValueKind};
use kinetic_wire::*;
use proptest::prelude::*;
use support::*;

const HOSTS: u64 = 7;
const SECONDS: i64 = 120;
const STEP: Duration = Duration::from_millis(200);

/// A message in a queue.
#[derive(Clone, Debug)]
struct Message {
    exchange: &'static str,
    kind: Option<&'static str>,
    origin: Option<String>,
    ts: Option<Wall>,
    body: Vec<u8>,
    redelivered: bool,
}

/// Two minutes of seven hosts, with when each body is published. Values with many digits, bad spells, bodies that come late,
/// hosts that fall silent for a while.
fn traffic(dice: &mut Dice) -> Vec<(Wall, Message)> {
    let mut traffic = Vec::new();
    for second in 0..SECONDS {
        for host in 0..HOSTS {
            let is_away = host == 2 && (30..75).contains(&second);
            if is_away || dice.roll(6) == 0 {
                continue;
            }
            let bad = (second / 20 + i64::try_from(host).unwrap()) % 5 == 0;
            let published = START * 1000 + second * 1000 + i64::try_from(dice.roll(1000)).unwrap();
            let delay = if dice.roll(4) == 0 { i64::try_from(dice.roll(3000)).unwrap() } else { 0 };
            let mut body = String::new();
            for metric in ["fast", "slow", "size"] {
                let value =
                    100.0 + dice.roll(20_000) as f64 / 977.0 + if bad { dice.roll(200) as f64 } else { 0.0 };
                match metric {
                    "size" => body.push_str(&format!("{metric}:{}|g\n", value)),
                    _ => body.push_str(&format!("{metric}:{value}|ms\n")),
                }
            }
            if dice.roll(5) == 0 {
                body.push_str(&format!("level:+{}|g\n", dice.roll(9) + 1));
            }
            let message = Message {
                exchange: "in.acme",
                kind: None,
                origin: Some(format!("web-{host}")),
                ts: Some(Wall::from_ms((published - delay).max(START * 1000))),
                body: body.into_bytes(),
                redelivered: false,
            };
            traffic.push((Wall::from_ms(published), message));
        }
    }
    traffic.sort_by_key(|(published, _)| *published);
    traffic
}

fn watched(partitions: u16) -> Schema {
    let mut silent = analytic("gone", "fast", 1.0, 5, 1, 1);
    silent.rule = Rule::Silent(Silent { after: Duration::from_secs(20), each: SilentEach::Feed });
    let mut dead = analytic("dead", "*", 1.0, 5, 1, 1);
    dead.rule = Rule::Silent(Silent { after: Duration::from_secs(30), each: SilentEach::Cluster });
    let mut slow = analytic("slow", "slow", 1.1, 15, 2, 3);
    slow.value = ValueKind::P95;
    let mut size = analytic("size", "size", 1.1, 10, 1, 1);
    size.value = ValueKind::Last;
    let mut level = analytic("level", "level", 1.2, 10, 1, 2);
    level.value = ValueKind::Last;
    let fast = analytic("fast", "fast", 1.1, 10, 2, 3);
    let mut schema = schema(&[fast, slow, size, level, silent, dead]);
    for customer in schema.customers.values_mut() {
        customer.sources.values_mut().for_each(|source| source.partitions = partitions);
    }
    schema
}

/// What waits for its confirm.
#[derive(Debug)]
enum Sent {
    Alert(Box<AlertEvent>),
    Partial(AlertId, Box<Partial>),
    Snapshot(Slot, u64, Vec<u8>),
}

/// One queue with its owner.
#[derive(Default)]
struct Unit {
    part: u16,
    ready: VecDeque<Message>,
    unsettled: BTreeMap<u64, Message>,
    analyzer: Option<Analyzer>,
    slot: Option<Slot>,
    token: u64,
    sent: Vec<(Mono, Sent)>,
    snapshots: VecDeque<Vec<u8>>,
    epoch: u64,
    back_at: Mono,
    /// Inputs and effects until the next accident.
    fuse: Option<u64>,
    accidents: u64,
    /// The next accident is that of its connection: the broker gives its deliveries back, and it hears of that later.
    is_cutting: bool,
    is_cut: bool,
    /// A probe is in its queue.
    probed: Option<Slot>,
}

/// A source in n parts, or whole.
struct Run {
    schema: Arc<Schema>,
    dice: Dice,
    now: Now,
    /// The source's own queue first.
    units: Vec<Unit>,
    alerts: Vec<AlertEvent>,
    lost: bool,
}

struct Accident;

impl Run {
    fn new(partitions: u16, seed: u64) -> Self {
        let parts = if partitions > 1 { partitions } else { 0 };
        Self {
            schema: Arc::new(watched(partitions)),
            dice: Dice(seed),
            now: Now { mono: Mono(1), wall: Wall::from_secs(START) },
            units: (0..=parts).map(|part| Unit { part, ..Unit::default() }).collect(),
            alerts: Vec::new(),
            lost: false,
        }
    }

    fn burn(&mut self, unit: usize) -> Result<(), Accident> {
        let unit = &mut self.units[unit];
        let Some(fuse) = &mut unit.fuse else { return Ok(()) };
        if *fuse > 0 {
            *fuse -= 1;
        } else if unit.is_cutting {
            unit.is_cut = true;
        } else {
            return Err(Accident);
        }
        Ok(())
    }

    fn send(&mut self, unit: usize, input: Input<'_>) -> Result<(), Accident> {
        self.burn(unit)?;
        let mut effects = Vec::new();
        self.units[unit].analyzer.as_mut().unwrap().handle(self.now, input, &mut effects);
        for effect in effects {
            self.burn(unit)?;
            self.perform(unit, effect)?;
        }
        Ok(())
    }

    fn perform(&mut self, index: usize, effect: Effect) -> Result<(), Accident> {
        let arrives = self.now.mono + Duration::from_millis(self.dice.roll(3000));
        let unit = &mut self.units[index];
        match effect {
            Effect::Request { request, .. } => {
                let source = key().with_part(unit.part);
                let grant = Grant { source, region: "r1".into(), epoch: Epoch(unit.epoch) };
                let body = encode(&lease(vec![grant]));
                self.send(index, Input::Replied { request, body: &body })?;
            }
            Effect::Subscribe { slot, .. } => {
                (unit.slot, unit.token) = (Some(slot), 0);
                self.recall(index)?;
            }
            Effect::AckUpTo { .. } | Effect::AckRange { .. } if unit.is_cut => {}
            Effect::AckUpTo { token, .. } => {
                assert!(unit.unsettled.contains_key(&token.0), "AckUpTo names a settled token");
                unit.unsettled = unit.unsettled.split_off(&(token.0 + 1));
            }
            Effect::AckRange { first, last, .. } => {
                for token in first.0..=last.0 {
                    unit.unsettled.remove(&token).expect("AckRange names a settled token");
                }
            }
            // It comes back behind all that is in the queue.
            Effect::Probe { slot, .. } => unit.probed = Some(slot),
            Effect::Publish(event) => unit.sent.push((arrives, Sent::Alert(event))),
            Effect::Forward { id, partial, .. } => unit.sent.push((arrives, Sent::Partial(id, partial))),
            Effect::Keep { slot, seq, body, .. } => {
                unit.sent.push((arrives, Sent::Snapshot(slot, seq, body)))
            }
            other => panic!("unexpected {other:?}"),
        }
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<(), Accident> {
        let unit = &self.units[index];
        let (slot, snapshots) = (unit.slot.unwrap(), unit.snapshots.clone());
        let bodies: Vec<&[u8]> = snapshots.iter().map(Vec::as_slice).collect();
        self.send(index, Input::Recalled { slot, snapshots: &bodies })
    }

    /// The broker has something; says what its sender is to be told.
    fn arrive(&mut self, index: usize, sent: Sent) -> Input<'static> {
        match sent {
            Sent::Alert(event) => {
                let id = event.id;
                self.alerts.push(*event);
                Input::Published { id }
            }
            Sent::Partial(id, partial) => {
                let message = Message {
                    exchange: names::PARTIALS_EXCHANGE,
                    kind: Some(names::TYPE_PARTIAL),
                    origin: None,
                    ts: None,
                    body: encode(&*partial),
                    redelivered: false,
                };
                self.units[0].ready.push_back(message);
                Input::Published { id }
            }
            Sent::Snapshot(slot, seq, body) => {
                let snapshots = &mut self.units[index].snapshots;
                snapshots.push_back(body);
                if snapshots.len() > 8 {
                    snapshots.pop_front();
                }
                Input::Kept { slot, seq }
            }
        }
    }

    /// All that is unsettled goes back to the head of the queue.
    fn requeue(&mut self, index: usize) {
        let unit = &mut self.units[index];
        for mut message in std::mem::take(&mut unit.unsettled).into_values().rev() {
            message.redelivered = true;
            unit.ready.push_front(message);
        }
    }

    fn light_fuse(&mut self, index: usize) {
        let (next, coin) = (self.dice.roll(900), self.dice.roll(2));
        let unit = &mut self.units[index];
        unit.accidents += 1;
        unit.fuse = (unit.accidents < 4).then_some(next);
        unit.is_cutting = self.lost && coin == 0;
    }

    /// Its connection has ended, and it hears of it.
    fn reconnect(&mut self, index: usize) {
        self.requeue(index);
        self.units[index].fuse = None;
        let slot = self.units[index].slot.unwrap();
        let told = self.send(index, Input::SubscriptionLost { slot }).and_then(|()| self.recall(index));
        assert!(told.is_ok());
        self.units[index].is_cut = false;
        self.light_fuse(index);
    }

    /// The owner dies.
    fn die(&mut self, index: usize) {
        self.requeue(index);
        self.light_fuse(index);
        // Of what it has on its way the broker gets some, and nobody hears that it has.
        for (_, sent) in std::mem::take(&mut self.units[index].sent) {
            if self.dice.roll(2) == 0 {
                self.arrive(index, sent);
            }
        }
        self.units[index].analyzer = None;
        self.units[index].probed = None;
        self.units[index].back_at = self.now.mono + Duration::from_millis(self.dice.roll(15_000));
    }

    fn next_ready(&mut self, index: usize) -> Option<Message> {
        let unit = &mut self.units[index];
        if unit.is_cut { None } else { unit.ready.pop_front() }
    }

    fn step(&mut self, index: usize) -> Result<(), Accident> {
        if self.units[index].analyzer.is_none() {
            if self.now.mono < self.units[index].back_at {
                return Ok(());
            }
            self.units[index].epoch += 1;
            let config = kinetic_analyzer::machine::AnalyzerConfig { node: "any".into(), ..config() };
            self.units[index].analyzer = Some(Analyzer::new(config, Arc::clone(&self.schema), "rev"));
            self.send(index, Input::Tick)?;
        }
        while let Some(message) = self.next_ready(index) {
            let unit = &mut self.units[index];
            unit.token += 1;
            let (token, slot) = (Token(unit.token), unit.slot.unwrap());
            unit.unsettled.insert(unit.token, message.clone());
            let delivery = Delivery {
                slot,
                token,
                redelivered: message.redelivered,
                exchange: message.exchange,
                routing_key: "web",
                envelope: Envelope {
                    origin: message.origin.as_deref().map(Into::into),
                    kind: message.kind.map(Into::into),
                    ts: message.ts,
                    ..Envelope::default()
                },
                body: &message.body,
            };
            self.send(index, Input::Delivery(delivery))?;
        }
        if let Some(slot) = self.units[index].probed.take() {
            let ok = !self.units[index].is_cut;
            self.send(index, Input::Probed { slot, ok })?;
        }
        let now = self.now.mono;
        while let Some(place) = self.units[index].sent.iter().position(|(at, _)| *at <= now) {
            let (_, sent) = self.units[index].sent.swap_remove(place);
            let told = self.arrive(index, sent);
            self.send(index, told)?;
        }
        let wakeup = self.units[index].analyzer.as_ref().unwrap().next_wakeup();
        if wakeup.is_some_and(|at| at <= now) {
            self.send(index, Input::Tick)?;
        }
        Ok(())
    }

    fn run(&mut self, traffic: &[(Wall, Message)], split: u64) {
        let parts = self.units.len() as u64 - 1;
        let mut published = 0;
        let end = Wall::from_secs(START + SECONDS + 150);
        while self.now.wall < end {
            while let Some((_, message)) = traffic.get(published).filter(|(at, _)| *at <= self.now.wall) {
                let origin = message.origin.as_deref().unwrap();
                let hash =
                    origin.bytes().fold(split, |hash, byte| Dice(hash ^ u64::from(byte)).roll(u64::MAX));
                let unit = if parts == 0 { 0 } else { 1 + hash % parts };
                self.units[usize::try_from(unit).unwrap()].ready.push_back(message.clone());
                published += 1;
            }
            for index in 0..self.units.len() {
                if self.step(index).is_err() {
                    self.die(index);
                } else if self.units[index].is_cut {
                    self.reconnect(index);
                }
            }
            self.now = self.now + STEP;
        }
    }

    fn stats(&self, unit: usize) -> Stats {
        self.units[unit].analyzer.as_ref().unwrap().stats(self.now)
    }
}

/// All that an event says of a verdict, numbers to the last bit.
fn verdicts(alerts: &[AlertEvent]) -> BTreeMap<AlertId, String> {
    let last = (START + SECONDS + 60) * 1000;
    alerts
        .iter()
        .filter(|event| event.window_end_ms <= last)
        .map(|event| {
            let bits = event.numbers.map(|n| {
                [n.value, n.mean, n.deviation, n.deviations, n.limit, n.peers_mean, n.peers_min, n.peers_max]
                    .map(f64::to_bits)
            });
            let said = format!(
                "{} {:?} {:?} {} {} {} {} {bits:?}",
                event.analytic,
                event.feed,
                event.state,
                event.window_end_ms,
                event.since_ms,
                event.hits,
                event.of
            );
            (event.id, said)
        })
        .collect()
}

fn whole(traffic: &[(Wall, Message)]) -> BTreeMap<AlertId, String> {
    let mut run = Run::new(1, 0);
    run.run(traffic, 0);
    verdicts(&run.alerts)
}

fn difference(whole: &BTreeMap<AlertId, String>, split: &BTreeMap<AlertId, String>) -> String {
    let missing = whole.iter().filter(|(id, said)| split.get(*id) != Some(said));
    let other = split.iter().filter(|(id, said)| whole.get(*id) != Some(said));
    let lines = |sign: char, (_, said): (&AlertId, &String)| format!("{sign} {said}\n");
    missing.map(|line| lines('-', line)).chain(other.map(|line| lines('+', line))).collect()
}

#[test]
fn a_split_source_gives_the_verdicts_of_the_whole() {
    let traffic = traffic(&mut Dice(1));
    let expected = whole(&traffic);
    let about = |name: &str| expected.values().filter(|said| said.starts_with(name)).count();
    for name in ["fast", "slow", "size", "level", "gone", "dead"] {
        assert!(about(name) >= 1, "nothing about {name}: {expected:#?}");
    }
    for parts in 2..=5 {
        let mut run = Run::new(parts, 0);
        run.run(&traffic, u64::from(parts));
        let stats = run.stats(0);
        assert_eq!(difference(&expected, &verdicts(&run.alerts)), "", "{parts} parts");
        assert_eq!((stats.windows_incomplete, stats.partial_rows_late, stats.feeds_in_two_parts), (0, 0, 0));
        for unit in &run.units {
            assert!(unit.unsettled.len() < 100, "{} unsettled in part {}", unit.unsettled.len(), unit.part);
        }
    }
}

/// Events about values, and about silence.
fn apart(all: BTreeMap<AlertId, String>) -> (BTreeMap<AlertId, String>, BTreeMap<AlertId, String>) {
    all.into_iter().partition(|(_, said)| !said.starts_with("gone") && !said.starts_with("dead"))
}

/// Who fell silent when.
fn since(said: &str) -> (String, String) {
    let (who, rest) = said.split_once("} ").unwrap();
    (who.to_owned(), rest.split(' ').nth(2).unwrap().to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whoever_crashes_when(
        seed in any::<u64>(), parts in 2_u16..=5, split in any::<u64>(), lost in any::<bool>(),
        fuses in prop::collection::vec(prop::option::of(0..1500_u64), 6),
    ) {
        let traffic = traffic(&mut Dice(seed));
        let expected = whole(&traffic);
        let mut run = Run::new(parts, seed);
        run.lost = lost;
        for (unit, fuse) in run.units.iter_mut().zip(fuses) {
            unit.fuse = fuse;
        }
        run.run(&traffic, split);
        let accidents: u64 = run.units.iter().map(|unit| unit.accidents).sum();
        let ((measured, silences), (split, heard)) = (apart(expected), apart(verdicts(&run.alerts)));
        prop_assert_eq!(difference(&measured, &split), "", "{} parts, {} accidents", parts, accidents);
        // While nobody listens silence does not grow: it may be told of later, or not any more, but not wrongly.
        let began: BTreeSet<_> = silences.values().map(|said| since(said)).collect();
        prop_assert!(heard.values().all(|said| began.contains(&since(said))), "{heard:#?} of {silences:#?}");
    }
}
