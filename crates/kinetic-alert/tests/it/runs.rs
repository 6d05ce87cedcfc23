//! Random runs over services that depend on one another, at every level of grouping: what must hold when all is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use kinetic_alert::{AlertConfig, Email, MailId, Record};
use kinetic_schema::schema::{Alert as AlertBlock, GroupBy, Matching};
use kinetic_wire::{AlertId, AlertState, Wall};
use proptest::prelude::*;
use uuid::Uuid;

use crate::crash::{Fleet, Op, op, perform, quiet_down};
use crate::places::{PLACES, event_at, glob, schema_of, world_of};
use crate::world::{Relay, World, alert_block, config};

const REPEAT: Duration = Duration::from_secs(600);
/// What may fire.
const FEEDS: [&str; 4] =
    ["checkout/frontends/web-1", "checkout/workers/w-1", "cart/api/c-1", "db/primaries/d-1"];

/// A block of everything or of some services, and who is told.
type Block = (&'static str, &'static [&'static str], &'static str, GroupBy);

fn block((name, services, to, group_by): &Block) -> AlertBlock {
    let matching =
        Matching { services: services.iter().map(|name| glob(name)).collect(), ..Matching::default() };
    AlertBlock {
        analytics: Vec::new(),
        matching,
        group_by: *group_by,
        repeat_interval: REPEAT,
        ..alert_block(name, &[to])
    }
}

/// Keys of the feeds, as history writes them.
static KEYS: LazyLock<BTreeMap<String, &'static str>> = LazyLock::new(|| {
    let key = |feed: &&'static str| {
        let mut world = world_of(vec![block(&("all", &[], "a@acme.example", GroupBy::Customer))]);
        world.fire_at(1.0, feed);
        world.run_until(5.0);
        let key = world.disk.iter().find_map(|(_, record)| match record {
            Record::MailQueued { firing, .. } => firing.first().cloned(),
            _ => None,
        });
        (key.unwrap(), *feed)
    };
    FEEDS.iter().map(key).collect()
});

struct Mail {
    at: Wall,
    email: Email,
    reason: String,
    firing: BTreeSet<&'static str>,
    ended: Option<Wall>,
}

/// The mails that arrived, by alert block, recipient and group.
type Letters = BTreeMap<(String, String, String), Vec<Mail>>;

fn letters(world: &World) -> Letters {
    let mut by_id: BTreeMap<&MailId, ((String, String, String), Mail)> = BTreeMap::new();
    let mut letters = Letters::new();
    for (_, record) in &world.disk {
        match record {
            Record::MailQueued { at, id, email, reason, firing, group, thread, .. } => {
                let firing = firing.iter().map(|key| KEYS[key]).collect();
                let email = Email::clone(email);
                let stream = (thread.alert.clone(), email.to.clone(), group.clone());
                let mail = Mail { at: *at, email, reason: reason.clone(), firing, ended: None };
                by_id.insert(id, (stream, mail));
            }
            Record::MailEnded { at, id, outcome, .. } => {
                let (stream, mail) = by_id.remove(id).expect("a mail ends once");
                // What was taken back has told nobody anything.
                assert!(outcome == "accepted" || outcome == "superseded", "{outcome}");
                if outcome == "accepted" {
                    letters.entry(stream).or_default().push(Mail { ended: Some(*at), ..mail });
                }
            }
            _ => {}
        }
    }
    assert!(by_id.is_empty(), "a mail was forgotten");
    letters
}

fn verdict(world: &mut World, fleet: &mut Fleet, feed: &'static str, state: AlertState) {
    match state {
        AlertState::Firing => fleet.firing.insert(feed.to_owned()),
        AlertState::Resolved => fleet.firing.remove(feed),
    };
    fleet.windows += 1;
    let mut event = event_at(feed, state, 0);
    event.window_end_ms = world.now.wall.as_ms() + fleet.windows;
    event.window_start_ms = event.window_end_ms - 10_000;
    event.id = AlertId(Uuid::from_u128(fleet.windows.unsigned_abs().into()));
    world.push(&event);
}

fn service(feed: &str) -> &str {
    feed.split('/').next().unwrap()
}

fn explains(below: &str, above: &str) -> bool {
    matches!((below, above), ("db", "cart" | "checkout") | ("cart", "checkout"))
}

fn means((_, services, ..): &Block, feed: &str) -> bool {
    services.is_empty() || services.contains(&service(feed))
}

/// Whether a mail that stands says that this feed's cluster is folded.
fn is_folded(letters: &Letters, to: &str, feed: &str) -> bool {
    let place = feed.rsplit_once('/').unwrap().0;
    let last = letters.iter().filter(|((_, of, _), _)| of == to).filter_map(|(_, mails)| mails.last());
    let mut lines = last.flat_map(|mail| mail.email.text.lines());
    lines.any(|line| line.starts_with("Folded under this: ") && line.contains(&format!("{place} (")))
}

fn check_end(world: &World, fleet: &Fleet, blocks: &[Block]) {
    world.assert_ids_name_one_mail();
    assert_eq!(world.stats().outbox, 0);
    assert_eq!(world.stats().alerts_firing, fleet.firing.len() as u64, "{}", world.story());
    assert_eq!(world.stats().alerts, fleet.firing.len() as u64, "{}", world.story());
    let letters = letters(world);
    for block in blocks {
        let (name, _, to, group_by) = block;
        let believed: BTreeSet<&str> = letters
            .iter()
            .filter(|((alert, ..), _)| alert == name)
            .flat_map(|(_, mails)| mails.last().map(|mail| mail.firing.clone()).unwrap_or_default())
            .collect();
        for feed in &believed {
            assert!(fleet.firing.contains(*feed), "{to} is not told that {feed} is back\n{}", world.story());
        }
        for feed in fleet.firing.iter().filter(|feed| means(block, feed) && !believed.contains(feed.as_str()))
        {
            let explained = matches!(group_by, GroupBy::Cluster | GroupBy::Service)
                && fleet.firing.iter().any(|below| {
                    let told = blocks.iter().any(|other| other.2 == *to && means(other, below));
                    told && explains(service(below), service(feed))
                });
            assert!(explained, "{name} misses {feed}\n{}\n{}", world.subjects(), world.story());
            assert!(
                is_folded(&letters, to, feed),
                "{to} is not told that {feed} is folded\n{}",
                world.story()
            );
        }
    }
    for mails in letters.values() {
        for pair in mails.windows(2) {
            let [before, after] = pair else { unreachable!("windows of two") };
            let ended = before.ended.unwrap();
            assert!(after.at >= ended, "two mails of one correspondence were on their way at once");
            if before.firing == after.firing && after.reason == "delivery_resumed" {
                assert!(after.email.text.contains("\nResolved ("), "says nothing:\n{}", world.story());
            } else if before.firing == after.firing && after.reason != "dependency_recovered" {
                assert_eq!(after.reason, "repeat_interval_elapsed", "{}", world.story());
                assert!(after.at.since(ended) >= REPEAT, "repeated early:\n{}", world.story());
            }
        }
    }
}

/// Who is told of what, in ways that differ in what explains what.
fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let level = || {
        prop_oneof![
            3 => Just(GroupBy::Cluster),
            2 => Just(GroupBy::Service),
            1 => Just(GroupBy::Site),
            1 => Just(GroupBy::Customer),
        ]
    };
    let services = || {
        prop_oneof![
            Just(&[][..]),
            Just(&["checkout"][..]),
            Just(&["checkout", "db"][..]),
            Just(&["cart", "db"][..])
        ]
    };
    let to = || prop_oneof![Just("a@acme.example"), Just("b@acme.example")];
    ((level(), services(), to()), (level(), services(), to()), (level(), services(), to())).prop_map(
        |(one, two, three)| {
            vec![
                ("one", one.1, one.2, one.0),
                ("two", two.1, two.2, two.0),
                ("three", three.1, three.2, three.0),
            ]
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_explains_what_nothing_is_lost_or_doubled(
        ops in proptest::collection::vec(op(), 1..120),
        blocks in blocks(),
    ) {
        let mut world = World::with(
            AlertConfig { stale_after: Duration::from_secs(1_000_000), ..config() },
            schema_of(&PLACES, blocks.iter().map(block).collect()),
        );
        let mut fleet = Fleet::default();
        for op in &ops {
            match op {
                Op::Fire(feed) => verdict(&mut world, &mut fleet, FEEDS[usize::from(*feed)], AlertState::Firing),
                Op::Resolve(feed) => verdict(&mut world, &mut fleet, FEEDS[usize::from(*feed)], AlertState::Resolved),
                op => perform(&mut world, &mut fleet, op),
            }
        }
        quiet_down(&mut world, 3_000.0);
        check_end(&world, &fleet, &blocks);
        // History alone says the same, and nobody hears of a restart.
        let mails = world.inbox.len();
        world.relay = Relay::Up;
        world.crash(0);
        quiet_down(&mut world, 1_300.0);
        check_end(&world, &fleet, &blocks);
        let since = world.inbox.iter().skip(mails);
        let reasons: Vec<&str> =
            since.map(|(_, email)| crate::world::header(email, "X-Kinetic-Reason")).collect();
        prop_assert!(reasons.iter().all(|reason| *reason == "repeat_interval_elapsed"), "{reasons:?}\n{}", world.story());
    }
}
