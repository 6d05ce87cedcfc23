//! A test event: a burst of feeds that do not exist, read and judged as data is, in a cluster of its own that no schema can name.
//!
//! ```text
//! delivered ▸ decoded into one window ─ CLOSES_AFTER ─▶ judged ▸ Effect::Publish … Input::Published ▸ alerted
//! ```
//! It goes through the same decoders, windows and rule as data, and shares nothing else with it: it moves no watermark, feeds no
//! series, is in no snapshot and is acknowledged like a body that nobody looks at. So it proves the way and touches nothing on it.
//! It does not outlive this node's ownership: where that ends, whoever follows the test sees where it stopped.

use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::schema::{
    Analytic, ClusterPath, Deviates, Deviation, GaugeSign, Glob, Hysteresis, Limits, Precision, Rule,
    Severity, ValueKind,
};
use kinetic_wire::{
    AlertEvent, AlertId, DataType, Direction, Mono, Now, Progress, Stage, TestStage, names, trace_of,
};

use super::{AHEAD_MAX, Shared, Source};
use crate::decode;
use crate::group::{Closed, Groups, Span, Voice};
use crate::lane::{Lane, NEVER};
use crate::machine::{Delivery, Effect};
use crate::pass::{Gate, Pass, Room, Tally};
use crate::plan::{self, Plan, Watch};
use crate::sample::{Reject, Sample};
use crate::series::{Id, Series};
use crate::stats::{Rejects, Stats};
use crate::tap;

/// Length of its one window.
const WINDOW: Duration = Duration::from_secs(1);
/// The window is closed so long after its burst came: time for nothing else, since the burst is one body.
const CLOSES_AFTER: Duration = Duration::from_millis(200);
/// Between two tests of one source; one that comes sooner is refused (counted).
pub const TEST_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of a burst.
pub const TEST_BYTES_MAX: usize = 4096;
/// Series of a burst.
const TEST_SERIES_MAX: usize = 64;
const TEST_ROOM: Room = Room {
    series: TEST_SERIES_MAX,
    feeds: TEST_SERIES_MAX,
    customer: TEST_SERIES_MAX,
    all: TEST_SERIES_MAX,
    share: 0,
};

/// One test event.
#[derive(Debug)]
pub(super) struct Shadow {
    trace: String,
    plan: Plan,
    lanes: Vec<Lane>,
    groups: Groups,
    phase: Phase,
}

/// How far it has come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its window closes then.
    Open(Mono),
    /// Its event is with the shell.
    Alerting(AlertId),
    Done,
}

/// The rule: one feed that is more than one standard deviation above its cluster's mean, as the founding analytic has it.
fn plan_of_tests() -> Plan {
    let any = Glob::parse("*").expect("a star is a glob");
    let on = ClusterPath { service: names::TEST.into(), cluster: names::TEST.into() };
    let rule = Rule::Deviates(Deviates {
        deviations: 1.0,
        direction: Direction::Above,
        deviation: Deviation::Population,
        min_feeds: 3,
        min_effect_relative: 0.0,
        min_effect_absolute: 0.0,
    });
    let analytic = Analytic {
        name: names::TEST.into(),
        on: vec![on.clone()],
        metric: any.clone(),
        value: ValueKind::Mean,
        rule,
        window: WINDOW,
        hysteresis: Hysteresis { hits: 1, of: 1 },
        severity: Severity::Info,
        description: None,
        labels: Default::default(),
    };
    let length = plan::nanos(WINDOW);
    let watch = Watch {
        analytic: Arc::new(analytic),
        on,
        members: vec![any],
        rule,
        digest: String::new(),
        length,
        lane: 0,
    };
    Plan {
        listened_every: None,
        data_type: DataType::Statsd,
        gauge_sign: GaugeSign::Auto,
        precision: Precision::Ns,
        lateness: 0,
        template: None,
        origin_tag: names::TEST_FEED_TAG.to_owned(),
        partitions: 1,
        watches: vec![watch],
        limits: Limits::DEFAULT,
        denied: Vec::new(),
    }
}

impl Shadow {
    fn new(trace: &str, now: Now) -> Self {
        let plan = plan_of_tests();
        Self {
            trace: trace.to_owned(),
            lanes: vec![Lane::new(plan::nanos(WINDOW))],
            plan,
            groups: Groups::default(),
            phase: Phase::Open(now.mono + CLOSES_AFTER),
        }
    }

    /// When its window is to be closed.
    pub(super) fn due(&self) -> Option<Mono> {
        match self.phase {
            Phase::Open(closes) => Some(closes),
            Phase::Alerting(_) | Phase::Done => None,
        }
    }

    /// Reads the burst. Returns what came of it, in words, or why nothing did.
    fn read(&mut self, now: Now, delivery: &Delivery<'_>, scratch: &mut Vec<u8>) -> Result<String, String> {
        if delivery.body.len() > TEST_BYTES_MAX {
            return Err(format!("a burst has at most {TEST_BYTES_MAX} bytes"));
        }
        let refused = |reason: Reject| format!("the body was refused: {}", reason.name());
        let context = self.plan.context(delivery, now.wall);
        let body = decode::inflate(&context, delivery.body, scratch).map_err(refused)?;
        let format = decode::detect(&context, body).map_err(refused)?;
        let stamp = tap::stamp(delivery).unwrap_or(now.wall);
        let mut series = Series::new(0);
        let origin = series.origin(None, TEST_SERIES_MAX);
        let mut count = 0;
        let mut pass = Pass {
            plan: &self.plan,
            lanes: &mut self.lanes,
            groups: &mut self.groups,
            series: &mut series,
            customer_series: &mut count,
            all_series: &mut 0,
            room: TEST_ROOM,
            origin,
            envelope_origin: None,
            stamp,
            latest_allowed: now.wall + AHEAD_MAX,
            gate: Gate::Open(None),
            bar: (now.wall + AHEAD_MAX).0,
            previous: Id::NONE,
            tally: Tally::default(),
        };
        let mut bad_lines = Rejects::default();
        let mut take = |sample: Sample<'_>| pass.take(&sample);
        decode::samples(format, &context, body, &mut take, &mut |reason, _| bad_lines.add(reason));
        let tally = pass.tally;
        if tally.fed == NEVER {
            let ahead = tally.ahead_ns(now.wall) / 1_000_000_000;
            let bad: Vec<&str> = bad_lines.iter().map(|(reason, _)| reason.name()).collect();
            return Err(match (ahead, bad.as_slice()) {
                (1.., _) => {
                    format!("its clock is {ahead} s ahead of this node's: what is so far ahead is dropped")
                }
                (_, []) => "it holds no sample of a feed".to_owned(),
                (_, bad) => format!("no line of it is a sample: {}", bad.join(", ")),
            });
        }
        if let Some(window) = self.lanes.first_mut().and_then(Lane::current_mut) {
            window.traceparent = delivery.envelope.traceparent.as_deref().map(str::to_owned);
        }
        Ok(format!("{} samples of {}, {count} feeds", tally.samples(), format.name()))
    }

    /// Closes the window and judges it.
    fn judge(&mut self, voice: Voice<'_>) -> Option<AlertEvent> {
        let lane = self.lanes.first_mut()?;
        let start = lane.first_open()?;
        let span = Span { start, end: start.saturating_add(lane.length) };
        let (_, window) = lane.take(start)?;
        let closed = Closed { span, window: Some(&window), deaf: Span { start: 0, end: 0 }, is_short: false };
        let mut event = None;
        // Counters are about data.
        let mut stats = Stats::default();
        self.groups.close(&self.plan, (0, lane), closed, voice, &mut stats, &mut |found| {
            event.get_or_insert(found);
        });
        event
    }
}

impl Source {
    fn say(&self, now: Now, trace: &str, at: (Stage, Progress), detail: String, shared: &mut Shared<'_>) {
        let (stage, progress) = at;
        shared.effects.push(Effect::Trace(Box::new(TestStage {
            v: 1,
            trace: trace.to_owned(),
            customer: self.key.customer.clone(),
            stage,
            progress,
            detail,
            at_ms: now.wall.as_ms(),
            node: Some(shared.node.clone()),
            epoch: Some(self.epoch),
            to: None,
            relay: None,
            message_id: None,
        })));
    }

    /// Takes the burst of a test event.
    pub(super) fn take_test(&mut self, now: Now, delivery: &Delivery<'_>, shared: &mut Shared<'_>) {
        // The routing key may lead to several sources: only the one that is meant takes it.
        let meant = delivery.envelope.correlation_id.as_deref();
        if meant.is_some_and(|meant| meant != self.key.source.as_str()) {
            return;
        }
        let Some(trace) = delivery.envelope.traceparent.as_deref().and_then(trace_of) else {
            shared.stats.tests_refused += 1;
            return;
        };
        if self.shadow.as_ref().is_some_and(|shadow| shadow.trace == trace) {
            return;
        }
        if now.mono < self.test_again {
            shared.stats.tests_refused += 1;
            if std::mem::replace(&mut self.has_refused_test, true) {
                return;
            }
            let detail = "another test of this source was here less than a second ago".to_owned();
            return self.say(now, trace, (Stage::Delivered, Progress::Failed), detail, shared);
        }
        self.test_again = now.mono + TEST_AGAIN;
        self.has_refused_test = false;
        shared.stats.tests += 1;
        let again = if delivery.redelivered { ", not for the first time" } else { "" };
        let detail = format!("owner of {}{again}", self.key);
        self.say(now, trace, (Stage::Delivered, Progress::Passed), detail, shared);
        let mut shadow = Shadow::new(trace, now);
        let (progress, detail) = match shadow.read(now, delivery, shared.scratch) {
            Ok(read) => (Progress::Passed, read),
            Err(why) => {
                shadow.phase = Phase::Done;
                (Progress::Failed, why)
            }
        };
        self.shadow = Some(shadow);
        self.say(now, trace, (Stage::Decoded, progress), detail, shared);
    }

    /// Closes the window of a test event whose time has come.
    pub(super) fn judge_test(&mut self, now: Now, shared: &mut Shared<'_>) {
        let is_due = |shadow: &Shadow| shadow.due().is_some_and(|due| now.mono >= due);
        let Some(mut shadow) = self.shadow.take_if(|shadow| is_due(shadow)) else { return };
        let voice =
            Voice { node: shared.node, revision: shared.revision, source: &self.key, epoch: self.epoch };
        let found = shadow.judge(voice);
        let (progress, detail) = match found.as_ref().and_then(|event| Some((event, event.numbers?))) {
            Some((event, numbers)) => {
                let detail = format!(
                    "window closed: of {} feeds, {} at {} is {:.2} deviations above their mean {:.1}",
                    numbers.feeds, event.feed.origin, numbers.value, numbers.deviations, numbers.mean
                );
                (Progress::Passed, detail)
            }
            None => (Progress::Failed, "window closed: no feed of it is out of line".to_owned()),
        };
        self.say(now, &shadow.trace, (Stage::Judged, progress), detail, shared);
        shadow.phase = Phase::Done;
        if let Some(event) = found {
            shadow.phase = Phase::Alerting(event.id);
            shared.effects.push(Effect::Publish(Box::new(event)));
        }
        self.shadow = Some(shadow);
    }

    /// The broker has an alert event. Returns whether it was a test's.
    pub(super) fn test_confirmed(&mut self, now: Now, id: AlertId, shared: &mut Shared<'_>) -> bool {
        let Some(shadow) = self.shadow.as_mut().filter(|shadow| shadow.phase == Phase::Alerting(id)) else {
            return false;
        };
        shadow.phase = Phase::Done;
        let trace = shadow.trace.clone();
        let detail = format!("the broker has the event in {}", names::ALERTS);
        self.say(now, &trace, (Stage::Alerted, Progress::Passed), detail, shared);
        true
    }
}
