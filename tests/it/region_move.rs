//! A customer moves to another region and back while numbered samples are published with confirms: by a client that listens
//! and follows at once, and by one that learns of it when its bodies come back. Nothing is lost, nothing is counted twice, and what was
//! remembered of the last windows is remembered in the other region.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kinetic_tests::amqp::queue_depth;
use kinetic_tests::numbered::{Ear, Stream, differences};
use kinetic_tests::poll::eventually_within;
use kinetic_tests::schema::{Customer, Queues};
use kinetic_tests::world::{Node, SHORT_LEASE};
use kinetic_tests::{BrokerKind, World, eventually, numbered};

use crate::stage::RULES;

on_both_brokers!(nothing_is_lost_on_the_way_there_and_back);
on_both_brokers!(nothing_is_lost_of_a_split_source);

mod replicated_queues {
    use kinetic_tests::needs::{Need, all_here};

    use super::*;

    #[test]
    fn rabbitmq() {
        let story = "region_move::replicated_queues::rabbitmq";
        if all_here(story, &[Need::Git, Need::RabbitMq]) {
            there_and_back(BrokerKind::RabbitMq, Queues::Quorum, 1);
        }
    }
}

/// Between two bodies of one stream.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a stream runs before anybody moves, and after: longer than three windows of a parity.
const CALM: Duration = Duration::from_secs(5);
/// How late a body may be: a client that is let into neither region for a moment is not late, and on a busy machine a broker takes
/// seconds to make the queues of a region.
const LATENESS: &str = "12s";
/// How long the last windows may take to be judged.
const CLOSING: Duration = Duration::from_secs(60);

fn nothing_is_lost_on_the_way_there_and_back(kind: BrokerKind) {
    there_and_back(kind, Queues::Classic, 1);
}

fn nothing_is_lost_of_a_split_source(kind: BrokerKind) {
    there_and_back(kind, Queues::Classic, 3);
}

/// Two analyzers, each of which serves one of the regions, and the streams.
struct Moving {
    acme: Customer,
    analyzers: [Node; 2],
    redirector: Node,
    alert: Node,
    vhosts: [String; 2],
    ear: Ear,
    world: World,
}

impl Moving {
    fn start(kind: BrokerKind, queues: Queues, partitions: u16) -> Self {
        let mut acme = numbered::customer(LATENESS);
        acme.watches.iter_mut().for_each(|watch| watch.partitions = partitions);
        let world = World::start_with(kind, queues, std::slice::from_ref(&acme));
        let other = world.add_region("other", std::slice::from_ref(&acme));
        let alert = world.alert();
        let ear = Ear::start(world.control_address(), queues);
        let redirector = world.redirector_with("redirector", SHORT_LEASE);
        let analyzers = ["local", "other"].map(|region| {
            let node = world.role("analyzer", &format!("analyzer-{region}"), &["--region", region]);
            node.wait_healthy();
            node
        });
        let vhosts = [world.vhost().to_owned(), other];
        let moving = Self { acme, analyzers, redirector, alert, vhosts, ear, world };
        moving.wait_owned(0);
        moving
    }

    /// Waits until the sources have an owner in a region.
    fn wait_owned(&self, region: usize) {
        let address = World::in_vhost(self.world.region_address(), &self.vhosts[region]);
        let parts = self.acme.watches[0].partitions;
        let queues = RULES.iter().flat_map(|(source, ..)| {
            let own = format!("src.acme.{source}");
            let of_parts =
                (1..=parts).filter(|_| parts > 1).map(move |part| format!("src.acme.{source}.{part}"));
            std::iter::once(own).chain(of_parts)
        });
        for queue in queues {
            eventually("the source has an owner where it is", || match queue_depth(&address, &queue) {
                Some(depth) if depth.consumers > 0 => Ok(()),
                other => Err(other),
            });
        }
    }

    /// A stream to each source: the first learns from what comes back, the second is told.
    fn streams(&self, told: &Arc<AtomicUsize>) -> [Stream; RULES.len()] {
        let own = self.world.customer_address(&self.acme);
        let addresses: Vec<_> = self.vhosts.iter().map(|vhost| World::in_vhost(own.clone(), vhost)).collect();
        let never = Arc::new(AtomicUsize::new(0));
        [(RULES[0].0, never), (RULES[1].0, Arc::clone(told))]
            .map(|(source, at)| Stream::start_roaming(addresses.clone(), at, source, PAUSE))
    }

    /// The customer moves, and is owned in the new region; nothing is left in the old one.
    fn to(&self, region: usize, told: &AtomicUsize) {
        let name = ["local", "other"][region];
        self.acme.files_in(name).iter().for_each(|file| self.world.schema.write(file));
        self.world.schema.push();
        told.store(region, Ordering::SeqCst);
        self.wait_owned(region);
        let left = World::in_vhost(self.world.region_address(), &self.vhosts[1 - region]);
        for (source, ..) in RULES {
            let depth = queue_depth(&left, &format!("src.acme.{source}"));
            assert!(depth.is_none_or(|depth| depth.messages == 0 && depth.consumers == 0), "{depth:?}");
        }
    }

    fn count(&self, name: &str) -> u64 {
        self.analyzers.iter().map(|node| node.metric(name)).sum()
    }
}

fn there_and_back(kind: BrokerKind, queues: Queues, partitions: u16) {
    let moving = Moving::start(kind, queues, partitions);
    let told = Arc::new(AtomicUsize::new(0));
    let streams = moving.streams(&told);
    for region in [1, 0] {
        std::thread::sleep(CALM);
        moving.to(region, &told);
    }
    std::thread::sleep(CALM);
    let published = streams.map(Stream::stop);
    assert!(published[0].1 > 1, "the first stream's bodies came back: {}", published[0].1);
    for ((windows, _), rule) in published.iter().zip(RULES) {
        let what = format!("{}: every window has the verdict of an undisturbed run", rule.0);
        eventually_within(CLOSING, &what, || {
            let lines = differences(windows, &moving.ear.heard(), rule);
            if lines.is_empty() { Ok(()) } else { Err(lines) }
        });
    }
    assert!(moving.count("kinetic_analyzer_carried_total") > 0, "there were open windows");
    let units = if partitions > 1 { 1 + u64::from(partitions) } else { 1 };
    let moves = 2 * RULES.len() as u64 * units;
    // More where a busy machine has cost an owner its lease on the way.
    assert!(moving.count("kinetic_analyzer_evacuations_total") >= moves);
    assert_eq!(moving.count("kinetic_analyzer_evacuations_given_up_total"), 0);
    assert_eq!(moving.redirector.metric("kinetic_redirector_evacuations_overdue_total"), 0);
    assert_eq!(moving.redirector.metric("kinetic_redirector_sources_evacuating"), 0);
    drop(moving.alert);
}
