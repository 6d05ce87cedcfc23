//! What a small fleet sends: eight web hosts that behave alike, until one of them becomes slow.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kinetic_amqp::{Address, Outcome};
use kinetic_wire::{Envelope, Wall};

use crate::amqp::Client;

/// All hosts.
pub const HOSTS: [&str; 8] = ["web-01", "web-02", "web-03", "web-04", "web-05", "web-06", "web-07", "web-08"];
/// The one that becomes slow.
pub const SLOW_HOST: &str = "web-07";
/// What the slow host shows, in milliseconds.
pub const SLOW_MS: u32 = 500;
/// The metric of the fleet.
pub const METRIC: &str = "checkout.latency";

/// Time between two rounds of the fleet.
const ROUND: Duration = Duration::from_millis(50);

/// What a host shows: healthy ones from 100 to 107.
#[must_use]
pub fn latency(host: &str, is_slow: bool) -> u32 {
    let place = HOSTS.iter().position(|known| *known == host).unwrap_or_default();
    if is_slow && host == SLOW_HOST { SLOW_MS } else { 100 + u32::try_from(place).expect("eight hosts") }
}

/// One line of one host, which names itself in a tag.
#[must_use]
pub fn line(host: &str, is_slow: bool) -> String {
    format!("{METRIC}:{}|ms|#host:{host}", latency(host, is_slow))
}

/// One line of every host.
#[must_use]
pub fn round(is_slow: bool) -> String {
    lines(&HOSTS, is_slow)
}

/// One line of each of these hosts.
fn lines(hosts: &[&str], is_slow: bool) -> String {
    let mut body = String::new();
    for host in hosts {
        writeln!(body, "{}", line(host, is_slow)).expect("write to a string");
    }
    body
}

/// The wall clock.
#[must_use]
pub fn wall_now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    Wall(i64::try_from(since.as_nanos()).expect("a clock before 2262"))
}

/// An envelope as our agent stamps it, closed now.
#[must_use]
pub fn envelope() -> Envelope<'static> {
    Envelope {
        kind: Some("kinetic.data.statsd.v1".into()),
        persistent: true,
        ts: Some(wall_now()),
        ..Envelope::default()
    }
}

#[derive(Debug, Default)]
struct Shared {
    is_slow: AtomicBool,
    stop: AtomicBool,
    samples: AtomicU64,
    /// Hosts that send nothing.
    mute: Mutex<Vec<&'static str>>,
    /// The stamp of the last body that was confirmed with a line of each host in it, milliseconds; by place.
    last_ms: Mutex<[i64; HOSTS.len()]>,
}

/// A customer's fleet that publishes until it is stopped; each body is published until it is confirmed.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Fleet {
    /// Starts publishing to `in.<customer>` with a routing key.
    #[must_use]
    pub fn start(address: Address, customer: &str, routing_key: &'static str) -> Self {
        let shared = Arc::new(Shared::default());
        let (own, exchange) = (Arc::clone(&shared), format!("in.{customer}"));
        let thread =
            std::thread::spawn(move || publish_rounds(&own, &Client::start(address), &exchange, routing_key));
        Self { shared, thread: Some(thread) }
    }

    /// From now on the slow host is slow.
    pub fn slow_down(&self) {
        self.shared.is_slow.store(true, Ordering::SeqCst);
    }

    /// From now on the slow host is like the others again.
    pub fn recover(&self) {
        self.shared.is_slow.store(false, Ordering::SeqCst);
    }

    /// From now on these hosts send nothing, and all others do. What was on its way may still come.
    pub fn mute(&self, hosts: &[&'static str]) {
        *self.shared.mute.lock().unwrap_or_else(PoisonError::into_inner) = hosts.to_vec();
    }

    /// The stamp of the last confirmed body that had a line of a host in it, in milliseconds; 0 before the first.
    ///
    /// # Panics
    /// If it is none of [`HOSTS`].
    #[must_use]
    pub fn last_ms(&self, host: &str) -> i64 {
        let place = HOSTS.iter().position(|known| *known == host).expect("one of the eight hosts");
        self.shared.last_ms.lock().unwrap_or_else(PoisonError::into_inner)[place]
    }

    /// Samples that the broker has confirmed so far.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.shared.samples.load(Ordering::SeqCst)
    }

    /// Waits until that many more samples are confirmed.
    pub fn flow(&self, more: u64) {
        let goal = self.samples() + more;
        crate::eventually("the fleet publishes", || {
            if self.samples() >= goal { Ok(()) } else { Err(self.samples()) }
        });
    }

    /// Stops; returns how many samples were published in all.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.samples()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            assert!(std::thread::panicking(), "the fleet's thread panicked");
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end();
    }
}

fn publish_rounds(shared: &Shared, client: &Client, exchange: &str, routing_key: &str) {
    while !shared.stop.load(Ordering::SeqCst) {
        let hosts = speaking(shared);
        if hosts.is_empty() {
            std::thread::sleep(ROUND);
            continue;
        }
        let (body, envelope) = (lines(&hosts, shared.is_slow.load(Ordering::SeqCst)), envelope());
        loop {
            match client.try_publish(exchange, routing_key, &envelope, body.as_bytes()) {
                Ok(Outcome::Confirmed) => break,
                Err(error) if error.is_transient() => {}
                other => panic!("{exchange}: {other:?}"),
            }
            if shared.stop.load(Ordering::SeqCst) {
                return;
            }
        }
        note(shared, &hosts, envelope.ts.expect("stamped").as_ms());
        shared.samples.fetch_add(hosts.len() as u64, Ordering::SeqCst);
        std::thread::sleep(ROUND);
    }
}

/// The hosts that send, in order.
fn speaking(shared: &Shared) -> Vec<&'static str> {
    let mute = shared.mute.lock().unwrap_or_else(PoisonError::into_inner);
    HOSTS.into_iter().filter(|host| !mute.contains(host)).collect()
}

/// Remembers when hosts were last heard.
fn note(shared: &Shared, hosts: &[&str], at_ms: i64) {
    let mut last = shared.last_ms.lock().unwrap_or_else(PoisonError::into_inner);
    for (place, host) in HOSTS.iter().enumerate() {
        if hosts.contains(host) {
            last[place] = at_ms;
        }
    }
}
