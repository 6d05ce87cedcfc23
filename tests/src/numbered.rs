//! Numbered samples and what must become of each: a stream whose every window has a verdict, with numbers from which a
//! lost or a doubled sample can be told by its number.
//!
//! Every body carries one line of each of eight feeds. In every window one feed is far above the others: the first in
//! windows of even number, the second in those of odd number. So with `1 of 1` every window begins one feed's alert and ends
//! the other's, and the two events carry sum and mean of that window. With `3 of 5` the same happens as soon as three windows
//! of a parity are remembered: a successor that has forgotten is silent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kinetic_amqp::{Address, Outcome};
use kinetic_wire::{AlertEvent, AlertState, Envelope};
use uuid::Uuid;

use crate::amqp::{Client, Listener};
use crate::poll::{PATIENCE, eventually_within};
use crate::schema::{Customer, Queues, Watch};
use crate::traffic::wall_now;

/// Feeds of the stream.
const FEEDS: u32 = 8;
/// Length of the windows, milliseconds.
pub const WINDOW_MS: i64 = 1_000;
/// What is added to the number where a feed is out of line: more than any number of a run, so that counts and numbers can
/// both be read from a sum.
const OUT: f64 = 1e6;
/// How long an event is waited for before the listener looks whether to go on.
const LISTEN: Duration = Duration::from_millis(200);

/// A roaming client asks elsewhere after this long without a confirm,
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// and pauses for this long before.
const PAUSE_AFTER_RETURN: Duration = Duration::from_millis(30);

/// The customer whose stream it is: each window is judged, by `1 of 1` and by `3 of 5`. A body that its publisher could not get
/// rid of for longer than `lateness` does not count any more.
#[must_use]
pub fn customer(lateness: &'static str) -> Customer {
    let watch = |name, hysteresis| Watch {
        name,
        data_type: "statsd",
        routing: name,
        members: "feed-*",
        metric: "n",
        value: "sum",
        window: "1s",
        hysteresis,
        lateness,
        ..Watch::default()
    };
    Customer { name: "acme", watches: vec![watch("one", "1 of 1"), watch("three", "3 of 5")] }
}

/// What was published into one window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Published {
    /// Bodies.
    pub count: u32,
    /// Sum of their numbers.
    pub sum: f64,
}

/// A stream that publishes with confirms until it is stopped, and repeats what was not confirmed under the same number.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    windows: Arc<Mutex<BTreeMap<i64, Published>>>,
    thread: Option<JoinHandle<u64>>,
}

impl Stream {
    /// Starts publishing to a source, a body per `pause`.
    #[must_use]
    pub fn start(address: Address, source: &'static str, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let windows = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let (own_stop, own_windows) = (Arc::clone(&stop), Arc::clone(&windows));
        let thread = std::thread::spawn(move || {
            let client = Client::start(address);
            let mut repeats = 0;
            for number in 1.. {
                if own_stop.load(Ordering::SeqCst) {
                    break;
                }
                repeats += publish(&client, source, number, &own_windows);
                std::thread::sleep(pause);
            }
            repeats
        });
        Self { stop, windows, thread: Some(thread) }
    }

    /// The same by a client that knows several addresses, and goes on to the next when a body is routed nowhere, or not taken: what
    /// `locate` would tell it. It begins with the one that `at` names, and follows `at` where that changes.
    #[must_use]
    pub fn start_roaming(
        addresses: Vec<Address>,
        at: Arc<AtomicUsize>,
        source: &'static str,
        pause: Duration,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let windows = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let (own_stop, own_windows) = (Arc::clone(&stop), Arc::clone(&windows));
        let thread = std::thread::spawn(move || {
            let clients: Vec<Client> = addresses.into_iter().map(Client::start).collect();
            let (mut turns, mut told) = (0, at.load(Ordering::SeqCst));
            let mut place = told;
            for number in 1.. {
                if own_stop.load(Ordering::SeqCst) {
                    break;
                }
                let now = at.load(Ordering::SeqCst);
                if now != told {
                    (told, place) = (now, now);
                }
                turns += publish_roaming(&clients, &mut place, source, number, &own_windows);
                std::thread::sleep(pause);
            }
            turns
        });
        Self { stop, windows, thread: Some(thread) }
    }

    /// What has been confirmed so far, by the windows' starts.
    #[must_use]
    pub fn windows(&self) -> BTreeMap<i64, Published> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops after the body that is under way; returns what was published, and how often a body was published again.
    ///
    /// # Panics
    /// If the publishing thread did.
    #[must_use]
    pub fn stop(mut self) -> (BTreeMap<i64, Published>, u64) {
        self.stop.store(true, Ordering::SeqCst);
        let repeats = self.thread.take().map_or(0, |thread| thread.join().expect("the stream's thread"));
        (self.windows(), repeats)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Stamps of a body, and the start of its window.
fn stamped(number: u32) -> (Envelope<'static>, i64) {
    let at = wall_now();
    let envelope = Envelope {
        kind: Some("kinetic.data.statsd.v1".into()),
        persistent: true,
        ts: Some(at),
        inc: Some(incarnation()),
        seq: Some(u64::from(number)),
        ..Envelope::default()
    };
    (envelope, at.as_ms() - at.as_ms().rem_euclid(WINDOW_MS))
}

fn note(windows: &Mutex<BTreeMap<i64, Published>>, start: i64, number: u32) {
    let mut windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
    let published = windows.entry(start).or_default();
    published.count += 1;
    published.sum += f64::from(number);
}

/// Publishes one body until some broker has confirmed it; returns how often another was tried.
fn publish_roaming(
    clients: &[Client],
    place: &mut usize,
    source: &str,
    number: u32,
    windows: &Mutex<BTreeMap<i64, Published>>,
) -> u64 {
    let (envelope, start) = stamped(number);
    let body = body(number, start);
    let mut turns = 0;
    loop {
        match clients[*place].publish_within(ASK_AGAIN, "in.acme", source, &envelope, body.as_bytes()) {
            Some(Ok(Outcome::Confirmed)) => break,
            _ => {
                turns += 1;
                *place = (*place + 1) % clients.len();
                std::thread::sleep(PAUSE_AFTER_RETURN);
            }
        }
    }
    note(windows, start, number);
    turns
}

/// Publishes one body until it is confirmed, always with the same stamps; returns how often it was repeated.
fn publish(client: &Client, source: &str, number: u32, windows: &Mutex<BTreeMap<i64, Published>>) -> u64 {
    let (envelope, start) = stamped(number);
    let body = body(number, start);
    let mut repeats = 0;
    loop {
        match client.try_publish("in.acme", source, &envelope, body.as_bytes()) {
            Ok(Outcome::Confirmed) => break,
            Err(error) if error.is_transient() => repeats += 1,
            other => panic!("in.acme: {other:?}"),
        }
    }
    note(windows, start, number);
    repeats
}

/// One for the whole test process: no two streams of it write to the same queue.
fn incarnation() -> Uuid {
    Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 | u128::from(std::process::id()))
}

/// Which feed is out of line in a window.
fn out_in(start: i64) -> u32 {
    u32::try_from((start / WINDOW_MS).rem_euclid(2)).expect("zero or one")
}

fn body(number: u32, start: i64) -> String {
    let mut body = String::new();
    for feed in 0..FEEDS {
        let value = f64::from(number) + if feed == out_in(start) { OUT } else { 0.0 };
        writeln!(body, "n:{value}|ms|#host:feed-{feed}").expect("write to a string");
    }
    body
}

/// An event as it was heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// What.
    pub event: AlertEvent,
}

/// Hears every alert event that is published, refused or not, from when it is started.
#[derive(Debug)]
pub struct Ear {
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<Heard>>>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    /// Binds a queue of its own; the alert node must have declared the exchange.
    #[must_use]
    pub fn start(control: Address, queues: Queues) -> Self {
        let bind = match queues {
            Queues::Classic => Listener::bind,
            Queues::Quorum => Listener::bind_replicated,
        };
        let mut listener = bind(control, "kin.alerts", "kin.alerts");
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let (own_stop, own_heard) = (Arc::clone(&stop), Arc::clone(&heard));
        let thread = std::thread::spawn(move || {
            while !own_stop.load(Ordering::SeqCst) {
                let Some(message) = listener.next_within(LISTEN) else { continue };
                let at = Instant::now();
                let event = kinetic_wire::decode(&message.body).expect("an alert event");
                own_heard.lock().unwrap_or_else(PoisonError::into_inner).push(Heard { at, event });
            }
        });
        Self { stop, heard, thread: Some(thread) }
    }

    /// All that was heard so far.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an event that is right.
    pub fn wait_for(&self, what: &str, is_right: impl Fn(&Heard) -> bool) -> Heard {
        self.wait_within(PATIENCE, what, is_right)
    }

    /// The same with a deadline of its own.
    pub fn wait_within(&self, long: Duration, what: &str, is_right: impl Fn(&Heard) -> bool) -> Heard {
        let mut seen = 0;
        eventually_within(long, what, || {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let found = heard[seen..].iter().find(|heard| is_right(heard)).cloned();
            seen = heard.len();
            found.ok_or_else(|| format!("{seen} events, the last: {:?}", heard.last()))
        })
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// What tells one verdict from another: the feed's number, the window's start, begin or end.
type Verdict = (u32, i64, AlertState);

/// A feed's windows, the newest lowest.
#[derive(Clone, Copy, Default)]
struct Memory {
    out: u64,
    quiet: u32,
    fires: bool,
}

/// What an undisturbed run says of a stream: each verdict with the feed's value and the cluster's mean, where it has
/// numbers. `hits` of the last `of` windows make an alert.
#[must_use]
pub fn expected(
    windows: &BTreeMap<i64, Published>,
    hits: u32,
    of: u32,
) -> BTreeMap<Verdict, Option<[f64; 2]>> {
    let mut verdicts = BTreeMap::new();
    let (Some((first, _)), Some((last, _))) = (windows.first_key_value(), windows.last_key_value()) else {
        return verdicts;
    };
    let mut feeds = [Memory::default(); 2];
    let mut start = *first;
    while start <= *last {
        for (feed, memory) in (0..).zip(&mut feeds) {
            let published = windows.get(&start);
            let fired = memory.fires;
            if let Some(_some) = published {
                memory.quiet = 0;
                memory.out = (memory.out << 1 | u64::from(out_in(start) == feed)) & ((1 << of) - 1);
                memory.fires = memory.out.count_ones() >= hits;
            } else {
                // A window without samples is no verdict; enough of them end an alert.
                memory.quiet += 1;
                if memory.quiet >= of.max(3) {
                    (memory.out, memory.fires) = (0, false);
                }
            }
            if memory.fires != fired {
                let state = if memory.fires { AlertState::Firing } else { AlertState::Resolved };
                verdicts.insert((feed, start, state), published.map(|window| numbers(feed, start, *window)));
            }
        }
        start += WINDOW_MS;
    }
    verdicts
}

/// A feed's sum in a window, and the mean of all feeds' sums.
fn numbers(feed: u32, start: i64, window: Published) -> [f64; 2] {
    let out = f64::from(window.count) * OUT;
    let value = if out_in(start) == feed { window.sum + out } else { window.sum };
    [value, window.sum + out / f64::from(FEEDS)]
}

/// What the alert node accepts of what was heard: each id once, nothing of a lower epoch than seen before.
#[must_use]
pub fn accepted(heard: &[Heard], analytic: &str) -> Vec<AlertEvent> {
    let mut ids = Vec::new();
    let mut epoch = kinetic_wire::Epoch(0);
    let mut events = Vec::new();
    for Heard { event, .. } in heard.iter().filter(|heard| heard.event.analytic.as_str() == analytic) {
        if ids.contains(&event.id) || event.epoch < epoch {
            continue;
        }
        ids.push(event.id);
        epoch = event.epoch;
        events.push(event.clone());
    }
    events
}

/// How what was accepted differs from what an undisturbed run says; one line each, none if all is well. What comes after
/// the last published window (the end of alerts by silence) is left out.
#[must_use]
pub fn differences(
    windows: &BTreeMap<i64, Published>,
    heard: &[Heard],
    (analytic, hits, of): (&str, u32, u32),
) -> Vec<String> {
    let events = accepted(heard, analytic);
    let last = windows.last_key_value().map_or(i64::MIN, |(start, _)| *start);
    let mut expected = expected(windows, hits, of);
    let mut lines = Vec::new();
    for event in events.iter().filter(|event| event.window_start_ms <= last) {
        let feed = event.feed.origin.rsplit('-').next().and_then(|number| number.parse().ok());
        let verdict = (feed.expect("a numbered feed"), event.window_start_ms, event.state);
        let got = event.numbers.map(|numbers| [numbers.value, numbers.mean]);
        match expected.remove(&verdict) {
            None => {
                lines.push(format!("{verdict:?} said by {} is not a verdict, or is said twice", event.node))
            }
            Some(want) if !agree(want, got) => {
                let missing = want.zip(got).map(|(want, got)| want[0] - got[0]);
                lines.push(format!(
                    "{verdict:?} by {}: {got:?} instead of {want:?}: {missing:?} lacks",
                    event.node
                ));
            }
            Some(_) => {}
        }
    }
    lines.extend(expected.keys().map(|verdict| match last_word(heard, analytic, *verdict) {
        Some(event) => format!("{verdict:?} was said by {} under {} and refused", event.node, event.epoch),
        None => format!("{verdict:?} was never said; around it:{}", around(heard, analytic, verdict.1)),
    }));
    lines
}

/// What was heard of a window and its neighbours, for whoever looks for the cause.
fn around(heard: &[Heard], analytic: &str, start: i64) -> String {
    let first = heard.first().map(|heard| heard.at);
    let near = heard.iter().filter(|heard| {
        heard.event.analytic.as_str() == analytic
            && (heard.event.window_start_ms - start).abs() <= 2 * WINDOW_MS
    });
    near.fold(String::new(), |mut text, Heard { at, event }| {
        let at = first.map_or(Duration::ZERO, |first| *at - first);
        let (origin, state) = (&event.feed.origin, event.state);
        write!(text, " [{at:?} {} {} {origin} {} {state:?}]", event.node, event.epoch, event.window_start_ms)
            .expect("write to a string");
        text
    })
}

/// The last event of a verdict, accepted or not.
fn last_word<'h>(
    heard: &'h [Heard],
    analytic: &str,
    (feed, start, state): Verdict,
) -> Option<&'h AlertEvent> {
    let origin = format!("feed-{feed}");
    heard.iter().map(|heard| &heard.event).rfind(|event| {
        event.analytic.as_str() == analytic
            && event.feed.origin == origin
            && (event.window_start_ms, event.state) == (start, state)
    })
}

/// Sums of whole numbers are exact; a mean is a rounding away.
fn agree(want: Option<[f64; 2]>, got: Option<[f64; 2]>) -> bool {
    match (want, got) {
        (None, None) => true,
        (Some(want), Some(got)) => {
            want.iter().zip(got).all(|(want, got)| (want - got).abs() <= want.abs() * 1e-12)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use kinetic_wire::{AlertId, Direction, Epoch, Feed, Numbers};

    use super::*;

    const RULE: (&str, u32, u32) = ("one", 1, 1);

    /// Four windows with three bodies each, and what an undisturbed run says of them.
    fn undisturbed() -> (BTreeMap<i64, Published>, Vec<Heard>) {
        let windows: BTreeMap<i64, Published> =
            (10..14).map(|window| (window * WINDOW_MS, Published { count: 3, sum: 66.0 })).collect();
        let verdicts = expected(&windows, RULE.1, RULE.2);
        let heard = verdicts.iter().map(|(verdict, numbers)| heard(*verdict, *numbers, 1)).collect();
        (windows, heard)
    }

    fn heard((feed, start, state): Verdict, numbers: Option<[f64; 2]>, epoch: u64) -> Heard {
        let numbers = numbers.map(|[value, mean]| Numbers {
            value,
            mean,
            deviation: 1.0,
            deviations: 2.6,
            limit: 2.0,
            feeds: FEEDS,
            peers_mean: 0.0,
            peers_min: 0.0,
            peers_max: 0.0,
        });
        let event = AlertEvent {
            v: 1,
            id: AlertId(Uuid::from_u128(u128::from(feed) << 64 | u128::from(start.unsigned_abs()) << 1)),
            customer: "acme".into(),
            source: "one".into(),
            analytic: "one".into(),
            service: "one".into(),
            cluster: "hosts".into(),
            feed: Feed { origin: format!("feed-{feed}"), metric: "n".into() },
            state,
            window_start_ms: start,
            window_end_ms: start + WINDOW_MS,
            since_ms: start + WINDOW_MS,
            numbers,
            value_kind: "sum".into(),
            direction: Direction::Above,
            hits: 1,
            of: 1,
            epoch: Epoch(epoch),
            node: "n".into(),
            schema: None,
            traceparent: None,
            trail: None,
            breach: None,
        };
        Heard { at: Instant::now(), event }
    }

    #[test]
    fn an_undisturbed_run_differs_in_nothing() {
        let (windows, heard) = undisturbed();
        assert_eq!(heard.len(), 7, "the first window begins one alert, every other begins one and ends one");
        assert_eq!(differences(&windows, &heard, RULE), Vec::<String>::new());
    }

    #[test]
    fn a_lost_a_doubled_and_a_forgotten_verdict_are_seen() {
        let (windows, all) = undisturbed();
        let mut lost = all.clone();
        let number = lost[2].event.numbers.as_mut().expect("numbers");
        number.value -= 22.0;
        let lines = differences(&windows, &lost, RULE);
        assert!(lines.len() == 1 && lines[0].contains("Some(22.0) lacks"), "{lines:?}");
        let mut twice = all.clone();
        let mut again = all[3].clone();
        again.event.id = AlertId(Uuid::from_u128(7));
        twice.push(again);
        assert_eq!(differences(&windows, &twice, RULE).len(), 1);
        let mut silent = all.clone();
        silent.remove(4);
        let lines = differences(&windows, &silent, RULE);
        assert!(lines.len() == 1 && lines[0].contains("never said"), "{lines:?}");
    }

    #[test]
    fn repeats_and_former_owners_are_not_accepted() {
        let (windows, all) = undisturbed();
        let mut repeated = all.clone();
        repeated.push(all[0].clone());
        assert_eq!(differences(&windows, &repeated, RULE), Vec::<String>::new());
        // Whatever comes first under a higher epoch puts an end to the lower.
        let mut fenced = all.clone();
        fenced[0].event.epoch = Epoch(2);
        let lines = differences(&windows, &fenced, RULE);
        assert!(lines.len() == 6 && lines.iter().all(|line| line.contains("refused")), "{lines:?}");
    }

    #[test]
    fn three_of_five_remembers() {
        let windows: BTreeMap<i64, Published> =
            (10..18).map(|window| (window * WINDOW_MS, Published { count: 1, sum: 1.0 })).collect();
        let verdicts = expected(&windows, 3, 5);
        let first = verdicts.keys().map(|(_, start, _)| *start / WINDOW_MS).min();
        assert_eq!(first, Some(14), "10, 12 and 14 are three of five");
        assert_eq!(verdicts.len(), 1 + 2 + 2 + 2);
    }
}
