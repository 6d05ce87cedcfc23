//! `kinetic bench redirector`: a map of a million customers in this process, no broker and no network in between, so that
//! what is measured is the redirector itself.
//!
//! Time in it is virtual: analyzers register, are given everything in the order of the machine's own wake-ups, and one of them
//! falls silent. Only the machine's work is on the clock.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use kinetic_redirector::machine::{
    Effect, Input, Map, MapBuilder, PlacingConfig, Redirector, RedirectorConfig, ReplyToken, Stored,
};
use kinetic_wire::names::rpc;
use kinetic_wire::{
    DataType, Epoch, Heartbeat, Hold, Incarnation, LeaseId, LeaseReply, Limits, Locate, Login, Mono, NodeId,
    Now, Register, Serves, Term, Wall, decode, encode,
};
use serde::Serialize;
use uuid::Uuid;

use crate::adapter::clock;
use crate::{cli, term};

/// Steps after which taking over a revision is no more waited for.
const REVISION_STEPS_MAX: u32 = 10_000;
/// Virtual time between what the analyzers say and what comes next.
const STEP: Duration = Duration::from_secs(1);
/// As long as analyzers may take to say what they hold.
const LISTEN: Duration = Duration::from_secs(20);
/// Steps after which a wait is given up.
const SILENT_MAX: u32 = 300;
/// Steps between heartbeats.
const HEARTBEAT_EVERY: u32 = 6;
/// Where virtual time begins.
const START: Now = Now { mono: Mono(1), wall: Wall(1_795_000_000_000_000_000) };
/// Questions asked before any is measured.
const WARM_UP: u64 = 100_000;
/// Longest answer that is told from longer ones, nanoseconds.
const NANOS_MAX: u64 = 10_000_000_000;
/// Different customers that ask in turn.
const CLIENTS: usize = 1 << 16;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    customers: u32,
    analyzers: u32,
    /// Answers to `locate` per second, on one core.
    locate_per_s: f64,
    /// Of one answer, microseconds.
    p99_us: f64,
    /// Resident memory of this process with the whole map in it, MB.
    rss_mb: f64,
    /// Giving everything to somebody after a cold start, milliseconds.
    place_ms: f64,
    /// The longest that the machine was busy with one step of it, milliseconds.
    place_step_ms: f64,
    /// Giving a lost analyzer's sources to others, milliseconds.
    replace_ms: f64,
    /// Share of all sources that changed hands for it.
    moved_share: f64,
    /// The least share that could.
    ideal_share: f64,
    /// Load of the fullest analyzer over the mean, after that.
    fullest: f64,
    /// Taking over a new schema revision, milliseconds.
    revision_ms: f64,
    /// Most resident memory so far, when that is done, MB. The map of the new revision has been made in this process as well.
    peak_mb: f64,
}

/// An analyzer, as far as the redirector sees one.
struct Member {
    node: NodeId,
    inc: Incarnation,
    lease: LeaseId,
    seq: u64,
}

/// The machine with a clock and a disk that is always quick.
struct World {
    machine: Redirector,
    now: Now,
    tokens: u64,
    effects: Vec<Effect>,
}

impl World {
    fn new(args: &cli::BenchRedirector) -> Self {
        let config = RedirectorConfig {
            node: "bench".into(),
            ttl: Duration::from_secs(15),
            grace: Duration::from_secs(5),
            listen: LISTEN,
            analyzers_max: args.analyzers as usize,
            locate_ttl: Duration::from_secs(300),
            limits: Limits { message_bytes: 1 << 20, batch_ms: 1_000 },
            seed: 1,
            placing: PlacingConfig::default(),
        };
        // Somebody has led before: so it listens, and every analyzer is there before anything is placed.
        let stored = Stored { term: Term(1), epoch_max: Epoch(1) };
        let machine = Redirector::new(config, map(1, args.customers), stored.clone());
        let mut world = Self { machine, now: START, tokens: 0, effects: Vec::new() };
        world.tell(Input::Elected { stored });
        world
    }

    /// One input and all the writes that come of it; the last answer, if there was one.
    fn tell(&mut self, input: Input<'_>) -> Option<Vec<u8>> {
        self.machine.handle(self.now, input, &mut self.effects);
        let mut answer = None;
        while let Some(effect) = self.effects.pop() {
            match effect {
                Effect::Reply { body, .. } => answer = Some(body),
                Effect::Store { stored } => {
                    self.machine.handle(self.now, Input::Stored { stored }, &mut self.effects);
                }
                Effect::Lead(true) => self.machine.handle(self.now, Input::Serving, &mut self.effects),
                // Nobody stands by, and analyzers ask as they are told to here.
                Effect::Lead(false)
                | Effect::Tell { .. }
                | Effect::AskMap { .. }
                | Effect::Nudge { .. }
                | Effect::Watch { .. }
                | Effect::Unwatch { .. } => {}
            }
        }
        answer
    }

    fn ask(&mut self, kind: &str, body: &[u8]) -> Result<LeaseReply> {
        self.tokens += 1;
        let login = Login::new("kinetic");
        let token = ReplyToken(self.tokens);
        let request = Input::Request { token, kind, login: Some(&login), caller: None, waiting: 0, body };
        let answer = self.tell(request).with_context(|| format!("no answer to {kind}"))?;
        decode(&answer).with_context(|| format!("{kind} was refused: {}", String::from_utf8_lossy(&answer)))
    }

    fn register(&mut self, number: u32) -> Result<Member> {
        let node = NodeId::new(&format!("analyzer-{number}"));
        let inc = Incarnation(Uuid::from_u128(u128::from(number) + 1));
        let body = encode(&Register {
            v: 1,
            node: node.clone(),
            inc,
            serves: Serves::default(),
            capacity: 100,
            zone: None,
            witness: false,
            schema: None,
            generation: 0,
            relieved: None,
            holds: Vec::new(),
        });
        let lease = self.ask(rpc::REGISTER, &body)?.lease;
        Ok(Member { node, inc, lease, seq: 0 })
    }

    fn heartbeat(&mut self, member: &mut Member, holds: Vec<Hold>) -> Result<Vec<Hold>> {
        member.seq += 1;
        let body = encode(&Heartbeat {
            v: 1,
            lease: member.lease,
            node: member.node.clone(),
            inc: member.inc,
            seq: member.seq,
            load: 0.5,
            lag_ms: 0,
            witness: false,
            schema: None,
            generation: 0,
            holds,
            evacuated: Vec::new(),
        });
        let grants = self.ask(rpc::HEARTBEAT, &body)?.grant;
        Ok(grants
            .into_iter()
            .map(|grant| Hold { source: grant.source, epoch: grant.epoch, rate: 0 })
            .collect())
    }

    /// Until a new leader has listened, with everybody alive. What it then does first is one small step of placing.
    fn listen(&mut self, members: &mut [Member]) -> Result<()> {
        for second in 0..SILENT_MAX {
            self.now = self.now + STEP;
            self.tell(Input::Tick);
            if !self.machine.stats().listening {
                return Ok(());
            }
            if second % HEARTBEAT_EVERY == 0 {
                for member in members.iter_mut() {
                    self.heartbeat(member, Vec::new())?;
                }
            }
        }
        anyhow::bail!("the new leader listens for ever")
    }

    /// Every member hears what it is given and says that it has it.
    fn beat(&mut self, members: &mut [Member]) -> Result<()> {
        for member in members {
            let given = self.heartbeat(member, Vec::new())?;
            self.heartbeat(member, given)?;
        }
        Ok(())
    }

    /// Follows the machine's wake-ups until it owns up to having placed everything. All of it and the longest step.
    fn place(&mut self) -> Result<(Duration, Duration)> {
        let (mut all, mut longest) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..100_000 {
            let began = clock::now().mono;
            self.tell(Input::Tick);
            let took = clock::now().mono.since(began);
            (all, longest) = (all + took, longest.max(took));
            if self.machine.stats().sources_unowned == 0 {
                return Ok((all, longest));
            }
            let next = self.machine.next_wakeup().unwrap_or(self.now.mono);
            self.now = self.now + next.since(self.now.mono).min(STEP);
        }
        anyhow::bail!("{} sources were never placed", self.machine.stats().sources_unowned)
    }

    /// A new revision stands: until there is nothing more to do at once. It waits for analyzers that have it.
    fn revise(&mut self, map: Arc<Map>) -> Duration {
        let began = clock::now().mono;
        self.tell(Input::MapChanged { map });
        for _ in 0..REVISION_STEPS_MAX {
            self.tell(Input::Tick);
            if self.machine.next_wakeup().is_none_or(|at| at > self.now.mono) {
                break;
            }
        }
        clock::now().mono.since(began)
    }
}

/// A revision of the schema with so many customers.
fn map(generation: u64, customers: u32) -> Arc<Map> {
    let region = "us-west.aws".into();
    let address = ("amqps://broker.us-west.aws.example:5671".to_owned(), "us-west.aws".to_owned());
    let mut map = MapBuilder::new(&format!("bench-{generation}"), generation);
    map.expect(customers as usize, customers as usize);
    map.region(&region, vec![address.clone(), address], Vec::new());
    for customer in 0..customers {
        map.customer(&customer_name(customer as usize).as_str().into(), &region, false);
        map.source("web", DataType::Statsd, 1, 0).profile("web");
    }
    Arc::new(map.build())
}

fn customer_name(number: usize) -> String {
    format!("customer-{number:07}")
}

/// `kinetic bench redirector`
pub(crate) fn run(args: &cli::BenchRedirector) -> Result<u8> {
    progress(args, "making the map");
    let mut world = World::new(args);
    let mut members = (0..args.analyzers).map(|number| world.register(number)).collect::<Result<Vec<_>>>()?;
    world.listen(&mut members)?;
    progress(args, "placing everything");
    let (place, place_step) = world.place()?;
    progress(args, "telling everybody");
    world.beat(&mut members)?;
    let rss_mb = memory_mb("VmRSS:").context("cannot read this process's memory from /proc/self/status")?;
    progress(args, "asking locate");
    let (locate_per_s, p99) = locate(&mut world, args);
    progress(args, "losing one analyzer");
    let (replace, moved) = lose_one(&mut world, &mut members)?;
    progress(args, "taking over a new revision");
    let revision = world.revise(map(2, args.customers + 1));
    let peak_mb = memory_mb("VmHWM:").context("cannot read this process's memory from /proc/self/status")?;
    progress(args, "");
    let owned = world.machine.view().analyzers.iter().map(|analyzer| analyzer.owned).max().unwrap_or(0);
    let mean = f64::from(args.customers) / f64::from(args.analyzers.saturating_sub(1).max(1));
    let report = Report {
        customers: args.customers,
        analyzers: args.analyzers,
        locate_per_s,
        p99_us: p99.as_secs_f64() * 1e6,
        rss_mb,
        place_ms: place.as_secs_f64() * 1e3,
        place_step_ms: place_step.as_secs_f64() * 1e3,
        replace_ms: replace.as_secs_f64() * 1e3,
        moved_share: moved as f64 / f64::from(args.customers),
        ideal_share: 1.0 / f64::from(args.analyzers),
        fullest: owned as f64 / mean,
        revision_ms: revision.as_secs_f64() * 1e3,
        peak_mb,
    };
    print(args, &report)?;
    Ok(0)
}

/// Answers per second, and the time under which 99 of 100 stay; in two passes, since a clock around every question costs
/// about as much as the question.
fn locate(world: &mut World, args: &cli::BenchRedirector) -> (f64, Duration) {
    let body = encode(&Locate {
        v: 1,
        client: Incarnation(Uuid::from_u128(9)),
        origin: Some("web-1.example".to_owned()),
        profile: Some("web".to_owned()),
        data_types: vec![DataType::Statsd],
        have_epoch: None,
        listen: false,
    });
    // Spread over the whole map, so that caches do not hold what is looked up.
    let stride = 7_919_usize;
    let logins: Vec<Login> = (0..CLIENTS)
        .map(|client| {
            Login::new(&format!("{}.key", customer_name(client * stride % args.customers as usize)))
        })
        .collect();
    let ask = |world: &mut World, number: u64| {
        let login = logins.get(number as usize % CLIENTS);
        let request = Input::Request {
            token: ReplyToken(u64::MAX / 2 + number),
            kind: rpc::LOCATE,
            caller: None,
            waiting: 0,
            login,
            body: &body,
        };
        world.machine.handle(world.now, request, &mut world.effects);
        std::hint::black_box(&world.effects);
        world.effects.clear();
    };
    (0..WARM_UP).for_each(|number| ask(world, number));
    let questions = u64::from(args.questions);
    let began = clock::now().mono;
    (0..questions).for_each(|number| ask(world, number));
    let rate = questions as f64 / clock::now().mono.since(began).as_secs_f64();
    let mut times = Histogram::<u64>::new_with_max(NANOS_MAX, 3).expect("its limits are in order");
    for number in 0..questions {
        let began = clock::now().mono;
        ask(world, number);
        times.saturating_record(clock::now().mono.since(began).as_nanos() as u64);
    }
    (rate, Duration::from_nanos(times.value_at_quantile(0.99)))
}

/// The last analyzer falls silent; the others go on. The machine's work for giving its sources away, and how many changed hands.
fn lose_one(world: &mut World, members: &mut Vec<Member>) -> Result<(Duration, u64)> {
    members.pop();
    let before = world.machine.stats();
    for second in 0..SILENT_MAX {
        world.now = world.now + STEP;
        // Silence is noticed at a wake-up: what a heartbeat costs is not what is measured here.
        if world.machine.next_wakeup().is_some_and(|at| at <= world.now.mono) {
            let (took, _) = world.place()?;
            let after = world.machine.stats();
            if after.leases_lapsed > before.leases_lapsed {
                ensure!(after.leases_lapsed == before.leases_lapsed + 1, "others were lost as well");
                return Ok((took, after.moves - before.moves));
            }
        }
        if second % HEARTBEAT_EVERY == 0 {
            for member in members.iter_mut() {
                world.heartbeat(member, Vec::new())?;
            }
        }
    }
    anyhow::bail!("the silent analyzer was not missed")
}

/// A field of `proc(5)`, status.
fn memory_mb(field: &str) -> Option<f64> {
    let status = crate::adapter::file::read_text(std::path::Path::new("/proc/self/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

fn progress(args: &cli::BenchRedirector, what: &str) {
    if !args.json && term::is_fancy() {
        term::steer(&format!("\r\x1b[K{what}"));
    }
}

fn print(args: &cli::BenchRedirector, report: &Report) -> Result<()> {
    if args.json {
        term::say(&format!("{}\n", serde_json::to_string(report)?));
        return Ok(());
    }
    term::say(&format!(
        "{} customers with a source each, {} analyzers, in this process\n\n\
         locate                  {:>10.2} M answers/s, p99 {:.1} us\n\
         memory                  {:>10.0} MB\n\
         cold placement          {:>10.0} ms, longest step {:.1} ms\n\
         one analyzer lost       {:>10.1} ms until its sources are placed\n\
         moved for it            {:>10.3} % of the sources (least possible {:.3} %)\n\
         fullest analyzer        {:>10.2} of the mean\n\
         new schema revision     {:>10.0} ms, memory at most {:.0} MB\n",
        report.customers,
        report.analyzers,
        report.locate_per_s / 1e6,
        report.p99_us,
        report.rss_mb,
        report.place_ms,
        report.place_step_ms,
        report.replace_ms,
        report.moved_share * 100.0,
        report.ideal_share * 100.0,
        report.fullest,
        report.revision_ms,
        report.peak_mb,
    ));
    Ok(())
}
