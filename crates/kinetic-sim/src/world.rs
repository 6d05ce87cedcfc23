//! The world: processes with clocks, the net between them, and the steps of a plan.

use std::rc::Rc;
use std::time::Duration;

use kinetic_analyzer::machine::AnalyzerConfig;
use kinetic_wire::{AlertId, Epoch, Incarnation, Mono, Now, Serves, SourceKey, Wall, encode, names};
use uuid::Uuid;

use crate::agenda::{End, Event, Life, ProcId};
use crate::broker::{Broker, Misconduct, QueueOptions, Routing};
use crate::bug::Bug;
use crate::check::{self, Excuses, Invariant};
use crate::installation::{self, Revision};
use crate::ledger::Ledger;
use crate::message::{Down, Message, SECOND, Time};
use crate::net::Net;
use crate::rng::Rng;
use crate::shell::publisher::Orders;
use crate::shell::{Disk, Reach, Shell, Tell, agent, alert, analyzer, publisher, redirector};
use crate::silence;
use crate::timeline::Timeline;

/// Wall time at which worlds begin: a whole minute of November 2026.
pub const BEGIN_S: i64 = 1_795_176_000;
/// Ticks of one machine at one moment before somebody asks why.
const TICKS_MAX: u32 = 200;

/// Snapshots that a queue of them keeps.
const SNAPSHOTS_MAX: usize = 8;

/// What a process is.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Redirector,
    Analyzer { node: String },
    Alert,
    Publisher(Rc<Orders>),
    Agent(Rc<Orders>),
}

/// Something that is done to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A process begins.
    Start(ProcId),
    /// A process ends at once; its disk stays. The last frames of each connection, so many, are not sent.
    Crash(ProcId, usize),
    /// A process ends right after the delivery or confirm that is so many from now, and is back after a time.
    CrashAfter(ProcId, u32, Time),
    /// What was to end at work, and has not, need not any more.
    Disarm,
    /// A process is asked to leave in good order.
    Shutdown(ProcId),
    /// A process stands still.
    Pause(ProcId),
    /// It goes on.
    Resume(ProcId),
    /// Nothing reaches a process, and nothing comes from it.
    Cut(ProcId),
    /// The way is free again.
    Heal(ProcId),
    /// All connections of a process break at one end; the other end learns of it.
    Drop(ProcId, End),
    /// The broker's process ends.
    BrokerDown,
    /// It is back.
    BrokerUp,
    /// The broker takes publishes, or takes none.
    Block(bool),
    /// Queues whose names begin so have no leader; or all have one again.
    Leaderless(Option<&'static str>),
    /// Every frame takes this much longer.
    Drag(Time),
    /// A process's wall clock jumps, nanoseconds.
    WallStep(ProcId, i64),
    /// A process's disk is empty from now on.
    Wipe(ProcId),
    /// All that analyzers have asked of the leader lately is asked once more, the last first.
    Replay,
    /// A process that nobody knows sends the last accepted alert event of a source once more, under the epoch before, as
    /// of another window.
    Impostor,
    /// A process follows to another schema revision, by number.
    Schema(ProcId, usize),
    /// From here on nothing may move.
    Quiet,
    /// Every source must have its owner by now.
    MustBeOwned,
}

#[derive(Debug)]
struct Proc {
    role: Role,
    name: String,
    shell: Option<Shell>,
    life: Life,
    started: Time,
    mono_offset: u64,
    wall_offset: i64,
    revision: usize,
    stands_still: bool,
    stash: Vec<Tell>,
    wake_at: Option<Time>,
    ticks: u32,
    /// Deliveries and confirms until it ends.
    trap: Option<(u32, Time)>,
    disk: Disk,
}

/// The world.
#[derive(Debug)]
pub struct World {
    net: Net,
    procs: Vec<Proc>,
    revisions: Vec<Rc<Revision>>,
    steps: Vec<Step>,
    rng: Rng,
    seed: u64,
    lives: u64,
    bugs: Vec<Bug>,
    /// What really happened.
    pub ledger: Ledger,
    /// What was told to whom, where anybody wants to read it.
    pub timeline: Timeline,
}

impl World {
    /// A world without processes. `quorum` says how the broker keeps sources' queues.
    ///
    /// # Panics
    /// Without a revision.
    #[must_use]
    pub fn new(seed: u64, revisions: Vec<Revision>, quorum: bool, bugs: &[Bug]) -> Self {
        let mut broker = Broker::new(Rng::new(seed, 1));
        broker.misconduct = Misconduct {
            several_active: bugs.contains(&Bug::SeveralActive),
            forgets_unsettled: bugs.contains(&Bug::UnsettledForgotten),
            two_leaders: bugs.contains(&Bug::TwoLeaders),
            scatters: bugs.contains(&Bug::Scattered),
            swallows: bugs.contains(&Bug::Swallowed).then_some(("feed-1", 90 * SECOND)),
        };
        for revision in &revisions {
            declare(&mut broker, revision, quorum);
        }
        assert!(!revisions.is_empty(), "a world needs an installation");
        let mut net = Net::new(broker, Rng::new(seed, 2));
        net.keeps_refused = bugs.contains(&Bug::RefusalsKept);
        let has_parts = revisions.iter().any(|revision| installation::has_parts(&revision.schema));
        Self {
            net,
            procs: Vec::new(),
            revisions: revisions.into_iter().map(Rc::new).collect(),
            steps: Vec::new(),
            rng: Rng::new(seed, 3),
            seed,
            lives: 0,
            bugs: bugs.to_vec(),
            ledger: Ledger::new(has_parts),
            timeline: Timeline::default(),
        }
    }

    /// True time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.net.now
    }

    pub(crate) fn add(&mut self, name: &str, role: Role) -> ProcId {
        let id = ProcId(self.procs.len());
        if let Role::Analyzer { node } = &role {
            self.ledger.nodes.insert(id, node.clone());
        }
        self.procs.push(Proc {
            role,
            name: name.to_owned(),
            shell: None,
            life: Life(0),
            started: 0,
            mono_offset: 0,
            wall_offset: 0,
            revision: 0,
            stands_still: false,
            stash: Vec::new(),
            wake_at: None,
            ticks: 0,
            trap: None,
            disk: Disk::default(),
        });
        id
    }

    /// Plans a step.
    pub fn plan(&mut self, at: Time, step: Step) {
        self.net.agenda.at(at, Event::Step(self.steps.len()));
        self.steps.push(step);
    }

    /// Lets time pass up to a moment.
    pub fn run(&mut self, until: Time) {
        while let Some((at, event)) = self.net.agenda.next(until) {
            self.net.now = at;
            self.happen(event);
        }
        self.net.now = until;
    }

    fn happen(&mut self, event: Event) {
        let told = match event {
            Event::Up(conn) => {
                self.net.up(conn);
                self.ledger.moved(self.net.now, &mut self.net.broker);
                None
            }
            Event::Down(conn) => self.net.down(conn),
            Event::Dial(link) => self.net.dial(link),
            Event::Beat(conn, end) => self.net.beat(conn, end),
            Event::Refused(conn) => self.net.look_at_refusals(conn),
            Event::Tell(proc, life, tell) => Some((proc, life, tell)),
            Event::Wake(proc, life) => {
                let known = &mut self.procs[proc.0];
                let is_due = known.life == life && known.wake_at == Some(self.net.now);
                is_due.then(|| {
                    known.wake_at = None;
                    (proc, life, Tell::Tick)
                })
            }
            Event::Step(number) => {
                self.step(self.steps[number]);
                None
            }
        };
        if let Some((proc, life, tell)) = told {
            self.tell(proc, life, tell);
        }
    }

    /// The clocks of a process.
    fn clocks(&self, proc: &Proc) -> Now {
        let wall = Wall::from_secs(BEGIN_S) + Duration::from_nanos(self.net.now);
        Now {
            mono: Mono(self.net.now - proc.started + proc.mono_offset),
            wall: Wall(wall.0.saturating_add(proc.wall_offset)),
        }
    }

    /// Tells a process something, unless it has ended; keeps it for later while the process stands still.
    fn tell(&mut self, id: ProcId, life: Life, tell: Tell) {
        let now = self.clocks(&self.procs[id.0]);
        let proc = &mut self.procs[id.0];
        if proc.life != life || proc.shell.is_none() {
            return;
        }
        if proc.stands_still {
            proc.stash.push(tell);
            return;
        }
        let is_tick = matches!(tell, Tell::Tick);
        let mut falls = None;
        if let (Some((left, back)), Tell::Frame(_, Down::Deliver { .. } | Down::Confirm(_))) =
            (proc.trap, &tell)
        {
            falls = (left == 0).then_some(back);
            proc.trap = left.checked_sub(1).map(|left| (left, back));
        }
        self.timeline.note(self.net.now, &proc.name, || tell.brief());
        let Some(mut shell) = proc.shell.take() else { return };
        let goes_on = shell.tell(tell, &mut self.reach(id, now));
        if goes_on && falls.is_none() {
            self.wake_later(id, life, &shell, is_tick);
            self.procs[id.0].shell = Some(shell);
        } else {
            self.end(id, 0);
        }
        if let Some(back) = falls {
            self.plan(self.net.now + back, Step::Start(id));
        }
    }

    /// What a process may reach now.
    fn reach(&mut self, id: ProcId, now: Now) -> Reach<'_> {
        let proc = &mut self.procs[id.0];
        Reach {
            proc: id,
            life: proc.life,
            now,
            net: &mut self.net,
            disk: &mut proc.disk,
            ledger: &mut self.ledger,
            rng: &mut self.rng,
            bugs: &self.bugs,
        }
    }

    /// Plans the tick that a machine wants. A timer is never early, and after a tick at least a microsecond late.
    fn wake_later(&mut self, id: ProcId, life: Life, shell: &Shell, after_tick: bool) {
        let proc = &mut self.procs[id.0];
        let wanted = shell.wakeup().map(|mono| {
            let at = mono.0.saturating_sub(proc.mono_offset).saturating_add(proc.started);
            at.max(self.net.now + u64::from(after_tick) * 1_000)
        });
        let is_endless = after_tick && wanted.is_some_and(|at| at <= self.net.now + 1_000);
        proc.ticks = if is_endless { proc.ticks + 1 } else { 0 };
        if proc.ticks > TICKS_MAX {
            proc.ticks = 0;
            let detail = format!("{} wants to be woken without end", proc.name);
            self.ledger.violated(self.net.now, Invariant::Progress, detail);
            return;
        }
        if wanted != proc.wake_at {
            proc.wake_at = wanted;
            if let Some(at) = wanted {
                self.net.agenda.at(at, Event::Wake(id, life));
            }
        }
    }

    fn step(&mut self, step: Step) {
        self.timeline.note(self.net.now, "***", || format!("{step:?}"));
        match step {
            Step::Start(proc) => self.start(proc),
            Step::Crash(proc, lost) => self.end(proc, lost),
            Step::CrashAfter(proc, frames, back) => self.procs[proc.0].trap = Some((frames, back)),
            Step::Disarm => self.procs.iter_mut().for_each(|proc| proc.trap = None),
            Step::Shutdown(proc) => self.tell(proc, self.procs[proc.0].life, Tell::Shutdown),
            Step::Pause(proc) => {
                self.procs[proc.0].stands_still = true;
                self.net.stop(proc);
            }
            Step::Resume(proc) => self.resume(proc),
            Step::Cut(proc) => self.net.cut(proc),
            Step::Heal(proc) => self.net.heal(proc),
            Step::Drop(proc, end) => self.drop_all(proc, end),
            Step::BrokerDown => {
                let told = self.net.broker_ends();
                self.ledger.moved(self.net.now, &mut self.net.broker);
                for (proc, life, tell) in told {
                    self.tell(proc, life, tell);
                }
            }
            Step::BrokerUp => self.net.down = false,
            Step::Block(blocked) => self.net.block(blocked),
            Step::Leaderless(queues) => self.net.broker.leaderless = queues,
            Step::Drag(drag) => self.net.drag = drag,
            Step::WallStep(proc, nanos) => self.procs[proc.0].wall_offset += nanos,
            Step::Wipe(proc) => self.procs[proc.0].disk = Disk::default(),
            Step::Replay => self.net.replay(),
            Step::Impostor => self.impostor(),
            Step::Schema(proc, number) => {
                self.procs[proc.0].revision = number;
                let revision = Rc::clone(&self.revisions[number]);
                self.tell(proc, self.procs[proc.0].life, Tell::Schema(revision));
            }
            Step::Quiet => self.ledger.quiet_since = Some(self.net.now),
            Step::MustBeOwned => self.must_be_owned(),
        }
    }

    fn start(&mut self, id: ProcId) {
        if self.procs[id.0].shell.is_some() {
            return;
        }
        self.lives += 1;
        let life = Life(self.lives);
        let mono_offset = self.rng.between(SECOND, 1_000_000 * SECOND);
        let seed = self.rng.bits();
        let proc = &mut self.procs[id.0];
        (proc.life, proc.started, proc.mono_offset) = (life, self.net.now, mono_offset);
        (proc.stands_still, proc.wake_at) = (false, None);
        proc.stash.clear();
        let now = self.clocks(&self.procs[id.0]);
        let proc = &self.procs[id.0];
        let (role, name) = (proc.role.clone(), proc.name.clone());
        let revision = Rc::clone(&self.revisions[proc.revision]);
        let mut reach = self.reach(id, now);
        let shell = match role {
            Role::Redirector => {
                Shell::Redirector(Box::new(redirector::Shell::new(&name, &revision, seed, &mut reach)))
            }
            Role::Analyzer { node } => {
                let config = analyzer_config(&node, life, seed);
                Shell::Analyzer(Box::new(analyzer::Shell::new(config, &revision, &mut reach)))
            }
            Role::Alert => Shell::Alert(Box::new(alert::Shell::new(&revision, &mut reach))),
            Role::Agent(orders) => Shell::Agent(Box::new(agent::Shell::new(orders, seed, &mut reach))),
            Role::Publisher(orders) => Shell::Publisher(Box::new(publisher::Shell::new(orders, &mut reach))),
        };
        self.procs[id.0].shell = Some(shell);
        self.tell(id, life, Tell::Start);
    }

    fn end(&mut self, id: ProcId, lost: usize) {
        let proc = &mut self.procs[id.0];
        (proc.shell, proc.stands_still, proc.wake_at) = (None, false, None);
        proc.life = Life(0);
        proc.stash.clear();
        self.net.kill(id, lost);
        self.ledger.ended(id);
    }

    /// A process goes on: what its kernel and its timers have kept for it comes at once, each link's frames in order,
    /// and a timer that is due before or after them.
    fn resume(&mut self, id: ProcId) {
        self.net.resume(id);
        let proc = &mut self.procs[id.0];
        proc.stands_still = false;
        let life = proc.life;
        let (mut ticks, frames): (Vec<Tell>, Vec<Tell>) =
            std::mem::take(&mut proc.stash).into_iter().partition(|tell| matches!(tell, Tell::Tick));
        let mut first = self.rng.permille(500);
        for tell in frames {
            if first && let Some(tick) = ticks.pop() {
                self.tell(id, life, tick);
            }
            first = self.rng.permille(300);
            self.tell(id, life, tell);
        }
        if let Some(tick) = ticks.pop() {
            self.tell(id, life, tick);
        }
    }

    fn drop_all(&mut self, id: ProcId, end: End) {
        for conn in self.net.conns_of(id) {
            match end {
                End::Broker => self.net.broker_drops(conn),
                End::Client => {
                    if let Some((proc, life, tell)) = self.net.lose(conn) {
                        self.tell(proc, life, tell);
                    }
                }
            }
        }
    }

    fn impostor(&mut self) {
        let Some(last) = self.ledger.accepted.last() else { return };
        let mut event = last.event.clone();
        event.epoch = Epoch(event.epoch.0.saturating_sub(1));
        event.id = AlertId(Uuid::from_u128(u128::from(self.rng.bits())));
        event.window_start_ms -= 60_000_000;
        event.window_end_ms -= 60_000_000;
        event.numbers = None;
        self.ledger.impostor(&event);
        let mut message = Message::new(names::ALERTS, names::ALERTS, encode(&event));
        message.envelope.persistent = true;
        self.net.inject(message);
    }

    /// Analyzers that hold a source and are not letting it go.
    #[must_use]
    pub fn holders(&self, source: &SourceKey) -> Vec<ProcId> {
        self.ledger.holders(source)
    }

    /// One more analyzer, which is not started yet.
    pub fn add_analyzer(&mut self, name: &str, node: &str) -> ProcId {
        self.add(name, Role::Analyzer { node: node.to_owned() })
    }

    /// Mails that the relays have taken.
    #[must_use]
    pub fn mails(&self) -> usize {
        self.procs.iter().map(|proc| proc.disk.inbox.len()).sum()
    }

    /// Whether a redirector leads.
    #[must_use]
    pub fn leads(&self, redirector: ProcId) -> bool {
        matches!(&self.procs[redirector.0].shell, Some(Shell::Redirector(shell)) if shell.leads())
    }

    fn must_be_owned(&mut self) {
        let mut missing = Vec::new();
        let newest = self.revisions.last().expect("a world has a revision");
        for source in installation::units(&newest.schema) {
            let holders = self.ledger.holders(&source);
            let active = self.net.broker.active(&names::source_queue(&source));
            let active = active.and_then(|conn| self.net.proc_of(conn));
            if holders.len() != 1 || active != holders.first().copied() {
                missing.push(format!("{source} is held by {holders:?}, the broker delivers to {active:?}"));
            }
        }
        for detail in missing {
            self.ledger.violated(self.net.now, Invariant::Recovers, detail);
        }
    }

    /// The last checks. Samples were published for so many windows.
    pub fn finish(&mut self, excuses: Excuses, windows: u64) {
        check::counts(&mut self.ledger, self.net.now, excuses);
        if !excuses.late {
            check::verdicts(&mut self.ledger, self.net.now, windows);
            if self.ledger.listens {
                silence::silences(&mut self.ledger, self.net.now, excuses);
            }
        }
        let mut mailed: Vec<&str> = Vec::new();
        for proc in &self.procs {
            mailed.extend(proc.disk.inbox.iter().map(|(_, _, to)| to.as_str()));
        }
        let mut silent: Vec<String> = Vec::new();
        for customer in check::mail_owed(&self.ledger.accepted) {
            let to = format!("oncall@{customer}.example");
            if !mailed.contains(&to.as_str()) {
                silent.push(to);
            }
        }
        for to in silent {
            self.ledger.violated(self.net.now, Invariant::MailGoesOut, format!("{to} was never mailed"));
        }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

fn analyzer_config(node: &str, life: Life, seed: u64) -> AnalyzerConfig {
    AnalyzerConfig {
        node: node.into(),
        // A later start of any process has the higher one, as `UUIDv7` has it.
        inc: Incarnation(Uuid::from_u128(u128::from(life.0) << 64 | u128::from(seed))),
        serves: Serves::default(),
        capacity: 100,
        zone: None,
        held_max: 32_768,
        series_max: 100_000,
        series_total_max: 1_000_000,
        seed,
    }
}

/// What the redirector and the others declare.
fn declare(broker: &mut Broker, revision: &Revision, quorum: bool) {
    let durable = QueueOptions { durable: true, single_active: true, ..QueueOptions::default() };
    broker.exchange(names::RPC_EXCHANGE, Routing::Direct);
    broker.queue(names::RPC_QUEUE, QueueOptions { max_length: Some(100_000), ..durable.clone() });
    for kind in names::rpc::LEADER {
        broker.bind(names::RPC_EXCHANGE, names::RPC_QUEUE, kind);
    }
    broker.queue(names::LOCATE_QUEUE, QueueOptions { durable: true, ..QueueOptions::default() });
    broker.bind(names::RPC_EXCHANGE, names::LOCATE_QUEUE, names::rpc::LOCATE);
    broker.queue(names::LEADER_QUEUE, QueueOptions { reject_publish: true, ..durable.clone() });
    broker.exchange(names::MAP_EXCHANGE, Routing::Fanout);
    broker.exchange(names::PARTIALS_EXCHANGE, Routing::Direct);
    broker.exchange(names::ALERTS, Routing::Direct);
    broker.queue(names::ALERTS, QueueOptions { reject_publish: true, ..durable.clone() });
    broker.bind(names::ALERTS, names::ALERTS, names::ALERTS);
    for customer in revision.schema.customers.values() {
        let ingress = names::ingress_exchange(&customer.name);
        broker.exchange(&ingress, Routing::Topic);
        for source in customer.sources.values() {
            let key = SourceKey::new(customer.name.as_str(), source.name.as_str());
            for unit in installation::units_of(&key, source.partitions) {
                let options = QueueOptions { quorum, max_length: Some(100_000), ..durable.clone() };
                broker.queue(&names::source_queue(&unit), options);
                let snapshots = QueueOptions {
                    durable: true,
                    max_length: Some(SNAPSHOTS_MAX),
                    ..QueueOptions::default()
                };
                broker.queue(&names::snapshot_queue(&unit), snapshots);
            }
            let own = names::source_queue(&key);
            let split = names::split_exchange(&key);
            let is_split = source.partitions > 1;
            for pattern in &source.routing {
                broker.bind(&ingress, if is_split { &split } else { &own }, pattern);
            }
            if is_split {
                broker.exchange(&split, Routing::Origin);
                for part in 1..=source.partitions {
                    broker.bind(&split, &names::source_queue(&key.with_part(part)), "");
                }
                broker.bind(names::PARTIALS_EXCHANGE, &own, &own);
            }
        }
    }
}
