//! From a seed to a run: who is there, what is published, and what goes wrong when.

use std::rc::Rc;

use kinetic_wire::{SourceKey, names};

use crate::agenda::{End, ProcId};
use crate::bug::Bug;
use crate::check::{Excuses, Violation};
use crate::installation::{self, FACTORS, WINDOW};
use crate::ledger::Sample;
use crate::message::{MS, SECOND, Time};
use crate::rng::Rng;
use crate::shell::publisher::{Body, Orders};
use crate::world::{Role, Step, World};

/// Windows in which samples are published.
pub const WINDOWS: u64 = 5;
/// Samples of one feed in one window.
pub const SAMPLES: u64 = 8;
/// When feeds that are to be silent for a while say nothing.
pub const HUSH: (Time, Time) = (90 * SECOND, 150 * SECOND);
/// Nothing goes wrong before,
const FAULTS_FROM: Time = 25 * SECOND;
/// and nothing after.
const FAULTS_UNTIL: Time = 230 * SECOND;
/// By then every source has its owner again. The longest way there: a connection that is given up (20 s) and made again
/// (10 s), a redirector that listens (21.5 s), a refusal that asks for 30 s.
const OWNED_BY: Time = FAULTS_UNTIL + 130 * SECOND;
/// The end: the last window has been judged, the last mail sent.
const END: Time = OWNED_BY + 70 * SECOND;

/// What can go wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Processes end and are started again.
    Crash,
    /// Analyzers come and leave in good order.
    Leave,
    /// Processes stand still.
    Pause,
    /// Processes are cut off the broker.
    Cut,
    /// Connections break at one end.
    Drop,
    /// The broker restarts.
    Broker,
    /// The broker is slow, or takes nothing.
    Slow,
    /// Wall clocks jump.
    Wall,
    /// A second process with the name of an analyzer's node runs for a while.
    Twin,
    /// Nodes go over to another revision of the schema, each when it hears of it.
    Schema,
    /// Queues have no leader for a while, and channels that publish to them are refused until they are opened anew.
    Refuse,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Crash,
        Self::Leave,
        Self::Pause,
        Self::Cut,
        Self::Drop,
        Self::Broker,
        Self::Slow,
        Self::Wall,
        Self::Twin,
        Self::Schema,
        Self::Refuse,
    ];

    /// Whether it can keep somebody from hearing or saying something in time.
    fn holds_up(self) -> bool {
        !matches!(self, Self::Wall | Self::Schema)
    }
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What could go wrong in it.
    pub faults: Vec<Fault>,
    /// What was found wrong.
    pub violations: Vec<Violation>,
    /// Alert events accepted.
    pub accepted: usize,
    /// Samples published and confirmed.
    pub confirmed: usize,
    /// Samples dropped as late.
    pub late: usize,
    /// Ownerships told.
    pub moves: u64,
    /// The story, where it was asked for.
    pub timeline: String,
}

/// Who is there.
#[derive(Clone, Debug)]
pub struct Cast {
    /// The redirectors.
    pub redirectors: Vec<ProcId>,
    /// The analyzers.
    pub analyzers: Vec<ProcId>,
    /// A process with the name of the first analyzer's node, not started.
    pub twin: ProcId,
    /// The alert node.
    pub alert: ProcId,
    /// The publishers.
    pub publishers: Vec<ProcId>,
}

/// How large a world is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Redirectors.
    pub redirectors: usize,
    /// Analyzers.
    pub analyzers: usize,
    /// Customers.
    pub customers: usize,
    /// Sources of each.
    pub sources: usize,
    /// Windows in which samples are published.
    pub windows: u64,
    /// The second revision switches the last customer off; it is otherwise like the first.
    pub disables: bool,
    /// Queues of sources as quorum queues.
    pub quorum: bool,
    /// Bodies carry their publisher's incarnation and number, so that repeats can be recognised.
    pub numbered: bool,
    /// One feed of each source is published by an agent.
    pub agents: bool,
    /// Bodies outlive a restart of the broker.
    pub persistent: bool,
    /// Parts of each customer's first source; 1 where it is not split.
    pub partitions: u16,
    /// Rules listen for silence.
    pub listens: bool,
    /// The second feed of each source says nothing from [`HUSH`].
    pub hushes: bool,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            redirectors: 2,
            analyzers: 3,
            customers: 1,
            sources: 2,
            windows: WINDOWS,
            disables: false,
            quorum: false,
            numbered: true,
            agents: true,
            persistent: true,
            partitions: 1,
            listens: false,
            hushes: false,
        }
    }
}

/// A world with its processes planned to start, and its samples planned to be published.
#[must_use]
pub fn populate(seed: u64, size: Size, bugs: &[Bug]) -> (World, Cast) {
    let revisions = vec![
        installation::revision("r1", 1, size, false),
        installation::revision("r2", 2, size, size.disables),
    ];
    let sources = installation::sources(&revisions[0].schema);
    let mut world = World::new(seed, revisions, size.quorum, bugs);
    world.ledger.listens = size.listens;
    let mut rng = Rng::new(seed, 4);
    let redirectors: Vec<ProcId> =
        (0..size.redirectors).map(|number| world.add(&format!("rd{number}"), Role::Redirector)).collect();
    let analyzers = (0..size.analyzers)
        .map(|number| world.add(&format!("an{number}"), Role::Analyzer { node: format!("an{number}") }))
        .collect();
    let alert = world.add("alert", Role::Alert);
    let mut publishers = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        for (feed, factor) in FACTORS.into_iter().enumerate() {
            let origin = format!("feed-{feed}");
            let hush = if size.hushes && feed == 1 { HUSH } else { (0, 0) };
            let partitions = if source.source.as_str() == "s0" { size.partitions } else { 1 };
            let sample = sample(source, installation::part_of(&origin, partitions), &origin, factor);
            let bodies = bodies(&mut world, &mut rng, &sample, size.windows, hush);
            let orders = Orders {
                exchange: format!("in.{}", source.customer),
                key: format!("{}.{origin}", source.source),
                origin,
                persistent: size.persistent,
                inc: size.numbered.then_some(u128::from(rng.bits())),
                goes_out: feed + 1 == FACTORS.len(),
                bodies,
            };
            let role = if size.agents && feed == 0 { Role::Agent } else { Role::Publisher };
            publishers.push(world.add(&format!("pub{number}{feed}"), role(Rc::new(orders))));
        }
    }
    let twin = world.add_analyzer("twin", "an0");
    let cast = Cast { redirectors, analyzers, twin, alert, publishers };
    let all = [&cast.redirectors[..], &cast.analyzers, &[cast.alert], &cast.publishers].concat();
    for proc in all {
        let at = rng.between(0, 2 * SECOND);
        world.plan(at, Step::Start(proc));
    }
    (world, cast)
}

fn sample(source: &SourceKey, part: u16, origin: &str, factor: u64) -> Sample {
    Sample {
        source: source.clone(),
        part,
        origin: origin.to_owned(),
        factor,
        digit: 0,
        stamp_ms: None,
        window_ms: None,
        sent: 0,
        confirmed: false,
        entered: None,
        dropped: false,
        dropped_in_time: false,
        passed_over: false,
        overdue: false,
        gone: None,
    }
}

/// The samples of one feed, evenly spread with some jitter, none within a tenth of a second of a window's bounds, and none
/// between two moments.
fn bodies(
    world: &mut World,
    rng: &mut Rng,
    blank: &Sample,
    windows: u64,
    (hush, until): (Time, Time),
) -> Vec<Body> {
    let mut bodies = Vec::new();
    for window in 0..windows {
        for digit in 0..SAMPLES {
            let share = WINDOW / SAMPLES;
            let at = window * WINDOW + digit * share + rng.between(100 * MS, share - 100 * MS);
            if at >= hush && at < until {
                continue;
            }
            let sample = world.ledger.samples.len();
            world.ledger.samples.push(blank.clone());
            bodies.push(Body { sample, at });
        }
    }
    // The first second belongs to the start of the processes.
    for body in &mut bodies {
        body.at = body.at.max(2 * SECOND + 100 * MS);
    }
    bodies
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, bugs: &[Bug], with_timeline: bool) -> Outcome {
    let mut rng = Rng::new(seed, 5);
    let is_split = rng.permille(300);
    let listens = rng.permille(250);
    let size = Size {
        redirectors: 1 + rng.index(3),
        analyzers: 2 + rng.index(2),
        // A split source is three or four units, and windows of two lengths are five times as many: fewer will do.
        customers: if is_split || listens { 1 } else { 1 + rng.index(2) },
        sources: if is_split && listens { 1 } else { 1 + rng.index(2) },
        windows: WINDOWS,
        disables: false,
        quorum: rng.permille(500),
        numbered: rng.permille(700),
        agents: rng.permille(700),
        persistent: rng.permille(700),
        partitions: if is_split { 2 + u16::from(rng.permille(300)) } else { 1 },
        listens,
        hushes: rng.permille(500),
    };
    let (mut world, cast) = populate(seed, size, bugs);
    world.timeline.is_kept = with_timeline;
    let faults: Vec<Fault> = Fault::ALL.into_iter().filter(|_| rng.permille(300)).collect();
    for fault in &faults {
        let times = 1 + rng.index(3);
        for _ in 0..times {
            plan_fault(&mut world, &mut rng, &cast, *fault);
        }
    }
    world.plan(FAULTS_UNTIL, Step::Disarm);
    world.plan(OWNED_BY, Step::MustBeOwned);
    // More units than nodes have room for: one that came back is given some as soon as the budget of moves allows, which may be
    // later than this.
    if size.partitions == 1 || size.sources == 1 {
        world.plan(OWNED_BY, Step::Quiet);
    }
    world.run(END);
    let excuses = Excuses {
        late: faults.contains(&Fault::Wall),
        repeats: !size.numbered,
        overdue: faults.iter().any(|fault| fault.holds_up()),
    };
    world.finish(excuses, size.windows);
    let samples = &world.ledger.samples;
    Outcome {
        seed,
        faults,
        accepted: world.ledger.accepted.len(),
        confirmed: samples.iter().filter(|sample| sample.confirmed).count(),
        late: samples.iter().filter(|sample| sample.dropped).count(),
        moves: world.ledger.moves,
        violations: std::mem::take(&mut world.ledger.violations),
        timeline: world.timeline.text().to_owned(),
    }
}

fn anyone(rng: &mut Rng, cast: &Cast) -> ProcId {
    match rng.between(0, 9) {
        0..=5 => cast.analyzers[rng.index(cast.analyzers.len())],
        6 => cast.redirectors[rng.index(cast.redirectors.len())],
        7 => cast.alert,
        _ => cast.publishers[rng.index(cast.publishers.len())],
    }
}

/// Between two moments: it begins, and it is over.
fn span(rng: &mut Rng, longest: Time) -> (Time, Time) {
    let from = rng.between(FAULTS_FROM, FAULTS_UNTIL - SECOND);
    let lasts = if rng.permille(500) { rng.between(MS, longest / 8) } else { rng.between(MS, longest) };
    (from, (from + lasts).min(FAULTS_UNTIL))
}

fn plan_fault(world: &mut World, rng: &mut Rng, cast: &Cast, fault: Fault) {
    match fault {
        Fault::Crash => {
            let (proc, (from, until)) = (anyone(rng, cast), span(rng, 60 * SECOND));
            // Half of them just when something has come, which is when there is something to lose.
            let at_work = rng.permille(500);
            let frames = u32::try_from(rng.index(6)).unwrap_or(0);
            if at_work {
                world.plan(from, Step::CrashAfter(proc, frames, until - from));
                return;
            }
            world.plan(from, Step::Crash(proc, rng.index(4)));
            world.plan(until, Step::Start(proc));
        }
        Fault::Leave => {
            let proc = cast.analyzers[rng.index(cast.analyzers.len())];
            let (from, until) = span(rng, 60 * SECOND);
            world.plan(from, Step::Shutdown(proc));
            // Leaving takes ten seconds at most.
            world.plan(until.max(from + 11 * SECOND), Step::Start(proc));
        }
        Fault::Pause => {
            let (proc, (from, until)) = (anyone(rng, cast), span(rng, 60 * SECOND));
            world.plan(from, Step::Pause(proc));
            world.plan(until, Step::Resume(proc));
        }
        Fault::Cut => {
            let (proc, (from, until)) = (anyone(rng, cast), span(rng, 60 * SECOND));
            world.plan(from, Step::Cut(proc));
            world.plan(until, Step::Heal(proc));
        }
        Fault::Drop => {
            let (proc, (from, _)) = (anyone(rng, cast), span(rng, SECOND));
            let end = if rng.permille(500) { End::Client } else { End::Broker };
            world.plan(from, Step::Drop(proc, end));
        }
        Fault::Broker => {
            let (from, until) = span(rng, 20 * SECOND);
            world.plan(from, Step::BrokerDown);
            world.plan(until, Step::BrokerUp);
        }
        Fault::Slow => slow_down(world, rng),
        Fault::Refuse => refuse(world, rng),
        Fault::Twin => {
            let (from, until) = span(rng, 90 * SECOND);
            world.plan(from, Step::Start(cast.twin));
            world.plan(until, Step::Crash(cast.twin, rng.index(4)));
        }
        Fault::Schema => {
            let (from, _) = span(rng, SECOND);
            let number = rng.index(2);
            for proc in [&cast.redirectors[..], &cast.analyzers, &[cast.alert]].concat() {
                world.plan(from + rng.between(0, 20 * SECOND), Step::Schema(proc, number));
            }
        }
        Fault::Wall => {
            let (proc, (from, until)) = (anyone(rng, cast), span(rng, 60 * SECOND));
            let hour = 3_600_000_000_000_i64;
            let step = if rng.permille(500) { hour } else { -hour };
            world.plan(from, Step::WallStep(proc, step));
            world.plan(until, Step::WallStep(proc, -step));
        }
    }
}

fn slow_down(world: &mut World, rng: &mut Rng) {
    let (from, until) = span(rng, 30 * SECOND);
    if rng.permille(500) {
        world.plan(from, Step::Drag(rng.between(10 * MS, SECOND)));
        world.plan(until, Step::Drag(0));
    } else {
        world.plan(from, Step::Block(true));
        world.plan(until, Step::Block(false));
    }
}

fn refuse(world: &mut World, rng: &mut Rng) {
    let (from, until) = span(rng, 30 * SECOND);
    let queues = [names::ALERTS, names::RPC_QUEUE, names::LEADER_QUEUE, "snap.", "src.", ""];
    world.plan(from, Step::Leaderless(Some(queues[rng.index(queues.len())])));
    world.plan(until, Step::Leaderless(None));
}
