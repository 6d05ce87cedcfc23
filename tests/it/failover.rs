//! The owner of a source is killed again and again, at random moments, while numbered samples are published with confirms:
//! every window has the verdict of an undisturbed run, nothing is lost and nothing doubled.

use std::time::Duration;

use kinetic_tests::BrokerKind;
use kinetic_tests::dice::Dice;
use kinetic_tests::needs::{is_long, say};
use kinetic_tests::schema::Queues;

use crate::stage::{RULES, Stage};

/// Longest time between a successor's first verdict and the next kill, milliseconds.
const CALM_MS: u64 = 1_500;

/// How a run goes.
struct Plan {
    broker: BrokerKind,
    queues: Queues,
    kills: usize,
    /// Lease and grace, milliseconds.
    lease: [u64; 2],
    /// No time from a kill to the successor's first verdict may be longer.
    goal: Duration,
}

/// Leases of two seconds: a successor's first verdict within three.
fn short(broker: BrokerKind, queues: Queues) -> Plan {
    let kills = if is_long() { 50 } else { 4 };
    Plan { broker, queues, kills, lease: [2_000, 500], goal: Duration::from_secs(3) }
}

mod owners_killed_under_load {
    use kinetic_tests::needs::{Need, all_here};

    use super::*;

    fn tell(story: &str, needs: &[Need], plan: &Plan) {
        let story = format!("failover::owners_killed_under_load::{story}");
        if all_here(&story, needs) {
            every_window_has_its_verdict(&story, plan);
        }
    }

    #[test]
    fn embedded() {
        tell("embedded", &[Need::Git], &short(BrokerKind::Embedded, Queues::Classic));
    }

    #[test]
    fn classic() {
        tell("classic", &[Need::Git, Need::RabbitMq], &short(BrokerKind::RabbitMq, Queues::Classic));
    }

    /// On one node in the short form, on three in the long one.
    #[test]
    fn quorum() {
        let broker = if is_long() { BrokerKind::Cluster } else { BrokerKind::RabbitMq };
        tell("quorum", &[Need::Git, Need::RabbitMq], &short(broker, Queues::Quorum));
    }

    /// With the settings that everybody gets.
    #[test]
    fn default_lease() {
        let plan = Plan {
            broker: BrokerKind::RabbitMq,
            queues: Queues::Classic,
            kills: 20,
            lease: [15_000, 5_000],
            goal: Duration::from_secs(16),
        };
        tell("default_lease", &[Need::Git, Need::RabbitMq, Need::Patience], &plan);
    }
}

fn every_window_has_its_verdict(story: &str, plan: &Plan) {
    let mut dice = Dice::new(story);
    let mut stage = Stage::start_with(plan.broker, plan.queues, plan.lease);
    let streams = stage.streams();
    let mut times = Vec::new();
    for kill in 0..plan.kills {
        let (source, ..) = RULES[kill % RULES.len()];
        std::thread::sleep(Duration::from_millis(dice.below(CALM_MS)));
        times.push(kill_the_owner(&mut stage, source));
        stage.add(&format!("analyzer-{}", kill + 3));
    }
    times.sort();
    let rank = |share: f64| times[((times.len() as f64 * share).ceil() as usize).max(1) - 1];
    let [p50, p99] = [0.5, 0.99].map(rank);
    let (kills, lease) = (plan.kills, plan.lease[0]);
    say(&format!(
        "{story}: {kills} kills of the owner, lease {lease} ms, to the successor's first verdict p50 {p50:?}, p99 {p99:?}"
    ));
    stage.finish(streams);
    // Of a handful of kills beside a build the longest says more about the machine than about us.
    let measure = if is_long() { p99 } else { p50 };
    assert!(measure <= plan.goal, "longer than {:?}: {times:?}", plan.goal);
}

/// Kills whoever said the last verdict on a source, and waits for another to say one; returns how long that took.
fn kill_the_owner(stage: &mut Stage, source: &str) -> Duration {
    let owner = stage.owner(source);
    let place = stage.analyzers.iter().position(|(name, _)| *name == owner).expect("the owner lives");
    let (_, mut node) = stage.analyzers.swap_remove(place);
    let killed = node.process.kill();
    let first = stage.ear.wait_for("a verdict of the successor", |heard| {
        let event = &heard.event;
        heard.at > killed && event.source.as_str() == source && event.node.as_str() != owner
    });
    first.at.duration_since(killed)
}
