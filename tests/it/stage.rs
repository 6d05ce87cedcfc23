//! What the stories about faults have in common: an installation with two analyzers and two streams of numbered samples,
//! and at the end the question whether every window has the verdict of an undisturbed run.

use std::net::SocketAddr;
use std::time::Duration;

use kinetic_tests::amqp::queue_depth;
use kinetic_tests::numbered::{self, Ear, Stream, differences};
use kinetic_tests::poll::eventually_within;
use kinetic_tests::schema::{Customer, Queues};
use kinetic_tests::world::{Node, SHORT_LEASE};
use kinetic_tests::{BrokerKind, World, eventually};
use kinetic_wire::Epoch;

/// The sources of the streams with their rules: `hits` of the last `of` windows.
pub(crate) const RULES: [(&str, u32, u32); 2] = [("one", 1, 1), ("three", 3, 5)];
/// Between two bodies of one stream.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the last windows may take to be closed and judged, once nothing more comes.
const CLOSING: Duration = Duration::from_secs(40);

/// An installation under numbered samples.
pub(crate) struct Stage {
    pub(crate) analyzers: Vec<(String, Node)>,
    pub(crate) redirector: Node,
    pub(crate) ear: Ear,
    pub(crate) alert: Node,
    pub(crate) acme: Customer,
    pub(crate) world: World,
}

impl Stage {
    /// With short leases and two analyzers that reach the broker directly.
    pub(crate) fn start(kind: BrokerKind) -> Self {
        Self::start_with(kind, Queues::Classic, SHORT_LEASE)
    }

    /// The same with sources' queues of a kind, and with a lease and a grace in milliseconds.
    pub(crate) fn start_with(kind: BrokerKind, queues: Queues, lease: [u64; 2]) -> Self {
        Self::empty(kind, queues, lease).with_two()
    }

    /// The same for publishers that lose their connection: what they repeat counts as long as this after its window's end.
    pub(crate) fn start_patient(kind: BrokerKind, lateness: &'static str) -> Self {
        let redirector = |world: &World| world.redirector_with("redirector", SHORT_LEASE);
        Self::raise(kind, Queues::Classic, lateness, redirector).with_two()
    }

    /// With two analyzers.
    pub(crate) fn with_two(mut self) -> Self {
        for name in ["analyzer-1", "analyzer-2"] {
            self.add(name);
        }
        self.wait_owned();
        self
    }

    /// Without analyzers.
    pub(crate) fn empty(kind: BrokerKind, queues: Queues, lease: [u64; 2]) -> Self {
        Self::empty_under(kind, queues, |world| world.redirector_with("redirector", lease))
    }

    /// Without analyzers, under a redirector that a story starts by itself.
    pub(crate) fn empty_under(
        kind: BrokerKind,
        queues: Queues,
        redirector: impl FnOnce(&World) -> Node,
    ) -> Self {
        // A cluster that has lost a node takes nothing while it elects.
        let lateness = if kind == BrokerKind::Cluster { "10s" } else { "500ms" };
        Self::raise(kind, queues, lateness, redirector)
    }

    fn raise(
        kind: BrokerKind,
        queues: Queues,
        lateness: &'static str,
        redirector: impl FnOnce(&World) -> Node,
    ) -> Self {
        let acme = numbered::customer(lateness);
        let world = World::start_with(kind, queues, std::slice::from_ref(&acme));
        let alert = world.alert();
        let ear = Ear::start(world.control_address(), queues);
        let redirector = redirector(&world);
        Self { analyzers: Vec::new(), redirector, ear, alert, acme, world }
    }

    /// One more analyzer, which has registered.
    pub(crate) fn add(&mut self, name: &str) {
        self.analyzers.push((name.to_owned(), self.world.analyzer(name)));
    }

    /// An analyzer by name.
    pub(crate) fn analyzer(&mut self, name: &str) -> &mut Node {
        let found = self.analyzers.iter_mut().find(|(known, _)| known == name);
        &mut found.unwrap_or_else(|| panic!("no analyzer {name}")).1
    }

    /// Waits until each source has a subscriber.
    pub(crate) fn wait_owned(&self) {
        for (source, ..) in RULES {
            let queue = format!("src.acme.{source}");
            eventually("the source has an owner", || {
                match queue_depth(&self.world.region_address(), &queue) {
                    Some(depth) if depth.consumers > 0 => Ok(()),
                    other => Err(other),
                }
            });
        }
    }

    /// Waits until each of two analyzers has one of the two sources, as soon as their rates are known, and nothing moves.
    pub(crate) fn wait_shared(&self) {
        eventually("both analyzers have their share, and nothing is moving", || {
            let shares = self.analyzers.iter().map(|(_, node)| node.metric("kinetic_analyzer_sources"));
            let shares: Vec<u64> = shares.collect();
            let moving = self.redirector.metric("kinetic_redirector_sources_moving");
            if shares == [1, 1] && moving == 0 { Ok(()) } else { Err((shares, moving)) }
        });
    }

    /// A stream to each source.
    pub(crate) fn streams(&self) -> [Stream; RULES.len()] {
        self.streams_at(self.world.amqp())
    }

    /// The same by another way to the broker.
    pub(crate) fn streams_at(&self, broker: SocketAddr) -> [Stream; RULES.len()] {
        let mut address = self.world.customer_address(&self.acme);
        address.uris = vec![format!("amqp://{broker}")];
        RULES.map(|(source, ..)| Stream::start(address.clone(), source, PAUSE))
    }

    /// The analyzer that lives and has said the last verdict on a source.
    pub(crate) fn owner(&self, source: &str) -> String {
        eventually("the last verdict is that of a living analyzer", || {
            let heard = self.ear.heard();
            let last = heard.iter().rfind(|heard| heard.event.source.as_str() == source);
            let speaker = last.map(|heard| heard.event.node.as_str().to_owned());
            speaker
                .clone()
                .filter(|name| self.analyzers.iter().any(|(known, _)| known == name))
                .ok_or(speaker)
        })
    }

    /// Waits for this many more verdicts on a source.
    pub(crate) fn verdicts(&self, source: &str, more: usize) {
        let count = || self.ear.heard().iter().filter(|heard| heard.event.source.as_str() == source).count();
        let goal = count() + more;
        eventually("verdicts are said", || if count() >= goal { Ok(()) } else { Err((count(), goal)) });
    }

    /// The highest epoch under which anything was said.
    pub(crate) fn highest_epoch(&self) -> Epoch {
        self.ear.heard().iter().map(|heard| heard.event.epoch).max().expect("verdicts were said")
    }

    /// The owner of a source leaves without a word; the next has an epoch above all that was said.
    pub(crate) fn lose_the_owner_of(&mut self, source: &str) {
        let (owner, before) = (self.owner(source), self.highest_epoch());
        self.analyzers.retain(|(name, _)| *name != owner);
        self.ear.wait_for("a verdict of the successor under a higher epoch", |heard| {
            let event = &heard.event;
            event.source.as_str() == source && event.node.as_str() != owner && event.epoch > before
        });
        assert_eq!(self.alert.metric("kinetic_alert_stale_epoch_total"), 0);
    }

    /// Samples that the living analyzers have dropped because their windows were closed.
    fn late(&self) -> u64 {
        self.analyzers.iter().map(|(_, node)| node.metric("kinetic_analyzer_late_total")).sum()
    }

    /// Stops the streams. Every window must have the verdict of an undisturbed run, and the alert node must have recorded
    /// these verdicts and no other; returns how often a body was published again.
    pub(crate) fn finish(&self, streams: [Stream; RULES.len()]) -> u64 {
        let published = streams.map(Stream::stop);
        let mut counted = 0;
        for ((windows, _), rule @ (analytic, hits, of)) in published.iter().zip(RULES) {
            assert!(windows.len() > 3, "too few windows to mean anything: {}", windows.len());
            let what = format!("{analytic}: every window has the verdict of an undisturbed run");
            eventually_within(CLOSING, &what, || {
                let lines = differences(windows, &self.ear.heard(), rule);
                if lines.is_empty() { Ok(()) } else { Err((lines, self.late())) }
            });
            counted += numbered::expected(windows, hits, of).len() as u64;
        }
        // The end of each stream may have been told by now as well.
        let ends = RULES.len() as u64;
        eventually("the alert node has recorded what was heard, and no other verdict", || {
            let recorded = self.alert.metric("kinetic_alert_events_total");
            assert!(recorded <= counted + ends, "{recorded} recorded, {counted} expected");
            if recorded >= counted { Ok(()) } else { Err((recorded, counted)) }
        });
        published.iter().map(|(_, repeats)| repeats).sum()
    }
}
