//! Crashes at every effect of a run, and at random moments of random runs. `world` asserts at every effect that
//! nothing is acknowledged or sent before it is on disk; here is asserted what must hold at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinetic_alert::{AlertConfig, Email, Input, MailId, Record};
use kinetic_schema::Schema;
use kinetic_schema::schema::Alert as AlertBlock;
use kinetic_wire::{AlertId, AlertState, Wall};
use proptest::prelude::*;
use uuid::Uuid;

use crate::world::{Relay, World, alert_block, config, event, schema};

const TO: [&str; 2] = ["a@acme.example", "b@acme.example"];
const REPEAT: Duration = Duration::from_secs(600);

fn block(send_resolved: bool) -> AlertBlock {
    AlertBlock { send_resolved, repeat_interval: REPEAT, ..alert_block("team", &TO) }
}

/// The truth about the fleet, as its analyzer has published it.
#[derive(Default)]
pub(crate) struct Fleet {
    pub(crate) firing: BTreeSet<String>,
    pub(crate) windows: i64,
}

impl Fleet {
    /// One verdict of one window; no two windows are alike.
    fn verdict(&mut self, world: &mut World, origin: &str, state: AlertState) {
        match state {
            AlertState::Firing => self.firing.insert(origin.to_owned()),
            AlertState::Resolved => self.firing.remove(origin),
        };
        self.windows += 1;
        let mut event = event(origin, state, 0);
        event.window_end_ms = world.now.wall.as_ms() + self.windows;
        event.window_start_ms = event.window_end_ms - 10_000;
        event.id = AlertId(Uuid::from_u128(self.windows.unsigned_abs().into()));
        world.push(&event);
    }
}

/// Origins that a mail lists as firing.
pub(crate) fn listed(email: &Email) -> BTreeSet<String> {
    let rows = email.text.lines().skip_while(|line| !line.starts_with("Firing (")).skip(2);
    rows.take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

struct Mail {
    at: Wall,
    email: Email,
    reason: String,
    ended: Option<(Wall, String)>,
}

/// Every mail decided upon, by recipient, in order.
fn correspondence(world: &World) -> BTreeMap<String, Vec<Mail>> {
    let mut by_id: BTreeMap<&MailId, (String, usize)> = BTreeMap::new();
    let mut mails: BTreeMap<String, Vec<Mail>> = BTreeMap::new();
    for (_, record) in &world.disk {
        match record {
            Record::MailQueued { at, id, email, reason, .. } => {
                let list = mails.entry(email.to.clone()).or_default();
                by_id.insert(id, (email.to.clone(), list.len()));
                let email = Email::clone(email);
                list.push(Mail { at: *at, email, reason: reason.clone(), ended: None });
            }
            Record::MailEnded { at, id, outcome, .. } => {
                let (to, index) = &by_id[id];
                let mail = &mut mails.get_mut(to).unwrap()[*index];
                assert!(mail.ended.is_none(), "a mail ended twice: {id:?}");
                mail.ended = Some((*at, outcome.clone()));
            }
            _ => {}
        }
    }
    mails
}

/// What must hold once the relay is up and all is quiet.
fn check_end(world: &World, fleet: &Fleet, send_resolved: bool) {
    world.assert_ids_name_one_mail();
    assert!(world.queue.is_empty() && world.unacked.is_empty() && world.in_flight.is_empty());
    assert_eq!(world.stats().outbox, 0);
    assert_eq!(world.stats().alerts_firing, fleet.firing.len() as u64);
    let mails = correspondence(world);
    for to in TO {
        let mails = mails.get(to).map_or(&[][..], Vec::as_slice);
        let seen =
            |mail: &Mail| world.inbox.iter().any(|(_, email)| email.message_id == mail.email.message_id);
        assert!(mails.iter().all(|mail| mail.ended.is_some()), "a mail was forgotten");
        let accepted = mails.iter().filter(|mail| mail.ended.as_ref().unwrap().1 == "accepted");
        let accepted: Vec<&Mail> = accepted.collect();
        assert!(accepted.iter().all(|mail| seen(mail)), "a mail was not delivered");
        let believed = accepted.last().map(|mail| listed(&mail.email)).unwrap_or_default();
        if send_resolved {
            assert_eq!(believed, fleet.firing, "{to} believes something else:\n{}", world.story());
        } else {
            assert!(believed.is_superset(&fleet.firing), "{to} misses something:\n{}", world.story());
        }
        // No second mail about the same state, except as a repeat after its time.
        for pair in mails.windows(2) {
            let [before, after] = pair else { unreachable!("windows of two") };
            let (ended_at, outcome) = before.ended.as_ref().unwrap();
            assert!(after.at >= *ended_at, "two mails of one correspondence were on their way at once");
            let same = listed(&before.email) == listed(&after.email);
            if same && outcome == "accepted" && send_resolved {
                if after.reason == "delivery_resumed" {
                    assert!(after.email.text.contains("\nResolved ("), "says nothing:\n{}", world.story());
                    continue;
                }
                assert_eq!(after.reason, "repeat_interval_elapsed", "{}", world.story());
                assert!(after.at.since(*ended_at) >= REPEAT, "repeated early:\n{}", world.story());
            }
        }
    }
}

pub(crate) fn quiet_down(world: &mut World, secs: f64) {
    world.relay = Relay::Up;
    let until = World::secs(world.now.wall) + secs;
    world.run_until(until);
}

/// Steps of a run, each small enough that a crash can fall between any two.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Fire(u8),
    Resolve(u8),
    Deliver,
    Write(usize),
    Attempt,
    Relay(Relay),
    Advance(u64),
    Crash(usize),
    LoseSubscription,
}

pub(crate) fn perform(world: &mut World, fleet: &mut Fleet, op: &Op) {
    match op {
        Op::Fire(feed) => fleet.verdict(world, &format!("web-{feed}"), AlertState::Firing),
        Op::Resolve(feed) => fleet.verdict(world, &format!("web-{feed}"), AlertState::Resolved),
        Op::Deliver => drop(world.deliver_one()),
        Op::Write(records) => drop(world.write(*records)),
        Op::Attempt => drop(world.attempt_one()),
        Op::Relay(relay) => world.relay = *relay,
        Op::Advance(ms) => {
            world.now = world.now + Duration::from_millis(*ms);
            world.input(Input::Tick);
        }
        Op::Crash(survive) => world.crash(*survive),
        Op::LoseSubscription => world.lose_subscription(),
    }
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..4u8).prop_map(Op::Fire),
        3 => (0..4u8).prop_map(Op::Resolve),
        10 => Just(Op::Deliver),
        10 => (1..4usize).prop_map(Op::Write),
        6 => Just(Op::Attempt),
        1 => prop_oneof![3 => Just(Relay::Up), 1 => Just(Relay::Down), 1 => Just(Relay::AcceptsUnheard)]
            .prop_map(Op::Relay),
        6 => (0..4_000u64).prop_map(Op::Advance),
        1 => (10_000..700_000u64).prop_map(Op::Advance),
        2 => (0..4usize).prop_map(Op::Crash),
        1 => Just(Op::LoseSubscription),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_run_loses_or_doubles_anything(ops in proptest::collection::vec(op(), 1..150), send_resolved: bool) {
        let mut world = World::with(
            AlertConfig { stale_after: Duration::from_secs(1_000_000), ..config() },
            schema(vec![block(send_resolved)]),
        );
        let mut fleet = Fleet::default();
        for op in &ops {
            perform(&mut world, &mut fleet, op);
        }
        quiet_down(&mut world, 5_000.0);
        check_end(&world, &fleet, send_resolved);
        let unheard = ops.iter().any(|op| matches!(op, Op::Crash(_) | Op::Relay(Relay::AcceptsUnheard)));
        let distinct: BTreeSet<&str> = world.inbox.iter().map(|(_, email)| email.message_id.as_str()).collect();
        prop_assert!(unheard || distinct.len() == world.inbox.len(), "a mail was repeated without need");
    }

    #[test]
    fn mails_that_expire_are_said_again(ops in proptest::collection::vec(op(), 1..120)) {
        let mut world = World::with(
            AlertConfig {
                stale_after: Duration::from_secs(1_000_000),
                mail_expiry: Duration::from_secs(20),
                ..config()
            },
            schema(vec![block(true)]),
        );
        let mut fleet = Fleet::default();
        for op in &ops {
            // A relay that takes a mail, never says so and outlives its expiry leaves the two sides apart.
            if !matches!(op, Op::Relay(Relay::AcceptsUnheard)) {
                perform(&mut world, &mut fleet, op);
            }
        }
        quiet_down(&mut world, 5_000.0);
        check_end(&world, &fleet, true);
    }
}

/// A run that comes past every state: waiting, queued, tried in vain, repeated, changed meanwhile, resolved.
fn eventful(crash_at: Option<u64>, survive: usize, send_resolved: bool) -> (World, Fleet) {
    eventful_in(schema(vec![block(send_resolved)]), crash_at, survive)
}

fn eventful_in(schema: Schema, crash_at: Option<u64>, survive: usize) -> (World, Fleet) {
    let config = AlertConfig { stale_after: Duration::from_secs(1_000_000), ..config() };
    let mut world = World::with(config, schema);
    world.crash_at = crash_at;
    world.crash_survive = survive;
    let mut fleet = Fleet::default();
    let verdict = |world: &mut World, fleet: &mut Fleet, secs: f64, origin: &str, state| {
        world.run_until(secs);
        fleet.verdict(world, origin, state);
    };
    verdict(&mut world, &mut fleet, 1.0, "web-1", AlertState::Firing);
    verdict(&mut world, &mut fleet, 1.5, "web-2", AlertState::Firing);
    verdict(&mut world, &mut fleet, 5.0, "web-3", AlertState::Firing);
    world.run_until(11.0);
    world.relay = Relay::Down;
    verdict(&mut world, &mut fleet, 15.0, "web-1", AlertState::Resolved);
    verdict(&mut world, &mut fleet, 30.0, "web-4", AlertState::Firing);
    world.run_until(40.0);
    world.relay = Relay::AcceptsUnheard;
    world.run_until(60.0);
    world.relay = Relay::Up;
    verdict(&mut world, &mut fleet, 100.0, "web-1", AlertState::Firing);
    verdict(&mut world, &mut fleet, 800.0, "web-2", AlertState::Resolved);
    verdict(&mut world, &mut fleet, 800.0, "web-3", AlertState::Resolved);
    verdict(&mut world, &mut fleet, 820.0, "web-4", AlertState::Resolved);
    verdict(&mut world, &mut fleet, 840.0, "web-1", AlertState::Resolved);
    verdict(&mut world, &mut fleet, 900.0, "web-2", AlertState::Firing);
    quiet_down(&mut world, 1_500.0);
    (world, fleet)
}

#[test]
fn a_crash_after_any_effect_loses_and_doubles_nothing() {
    for send_resolved in [true, false] {
        let (world, fleet) = eventful(None, 0, send_resolved);
        check_end(&world, &fleet, send_resolved);
        assert!(world.effects_seen > 50, "{}", world.effects_seen);
        for crash_at in 1..=world.effects_seen {
            for survive in [0, usize::MAX] {
                let (world, fleet) = eventful(Some(crash_at), survive, send_resolved);
                assert_eq!(world.crashes, 1);
                check_end(&world, &fleet, send_resolved);
            }
        }
    }
}

/// How many alerts each recipient believes to fire, by the last mail or digest that was accepted.
fn believed(world: &World) -> BTreeMap<String, usize> {
    let mut said: BTreeMap<&MailId, (&str, usize)> = BTreeMap::new();
    let mut believed = BTreeMap::new();
    for (_, record) in &world.disk {
        match record {
            Record::MailQueued { id, email, firing, .. } => {
                said.insert(id, (&email.to, firing.len()));
            }
            Record::DigestQueued { id, email, parts, .. } => {
                let [part] = &parts[..] else { panic!("there is one group: {parts:?}") };
                said.insert(id, (&email.to, part.firing.len()));
            }
            Record::MailEnded { id, outcome, .. } if outcome == "accepted" => {
                let (to, firing) = said[id];
                believed.insert(to.to_owned(), firing);
            }
            _ => {}
        }
    }
    believed
}

#[test]
fn a_crash_at_any_effect_of_a_storm_leaves_everybody_knowing_what_fires() {
    let mut limited =
        schema(vec![AlertBlock { repeat_interval: Duration::from_secs(86_400), ..block(true) }]);
    limited.customers.values_mut().for_each(|customer| customer.limits.mails_per_hour = 2);
    let run = |crash_at, survive| {
        let (mut world, fleet) = eventful_in(limited.clone(), crash_at, survive);
        world.crash_at = None;
        quiet_down(&mut world, 4_000.0);
        assert_eq!((world.stats().outbox, world.stats().streams_held), (0, 0));
        for to in TO {
            assert_eq!(believed(&world).get(to), Some(&fleet.firing.len()), "{to}:\n{}", world.story());
        }
        let digests: Vec<Wall> = world
            .disk
            .iter()
            .filter_map(|(_, record)| match record {
                Record::DigestQueued { at, email, .. } if email.to == TO[0] => Some(*at),
                _ => None,
            })
            .collect();
        let hourly = |pair: &[Wall]| pair[1].since(pair[0]) >= Duration::from_secs(3_600);
        assert!(!digests.is_empty() && digests.windows(2).all(hourly), "{digests:?}\n{}", world.story());
        world.effects_seen
    };
    let effects = run(None, 0);
    for crash_at in 1..=effects {
        run(Some(crash_at), if crash_at % 2 == 0 { 0 } else { usize::MAX });
    }
}

/// The mail's record has a higher number than that of the end it did not know of.
#[test]
fn a_mail_decided_while_an_end_is_being_written_is_followed_by_another() {
    let mut world = World::new(vec![block(true)]);
    let mut fleet = Fleet::default();
    fleet.verdict(&mut world, "web-2", AlertState::Firing);
    world.settle();
    fleet.verdict(&mut world, "web-2", AlertState::Resolved);
    world.deliver_one();
    perform(&mut world, &mut fleet, &Op::Advance(1_000));
    let kinds: Vec<bool> =
        world.unwritten.iter().map(|(_, record)| matches!(record, Record::MailQueued { .. })).collect();
    assert_eq!(kinds, [false, true, true]);
    world.crash(3);
    quiet_down(&mut world, 100.0);
    check_end(&world, &fleet, true);
    assert_eq!(world.inbox.len(), 4, "{}", world.story());
}

#[test]
fn the_same_inputs_have_the_same_effects() {
    let run = || {
        let (world, _) = eventful(Some(40), 1, true);
        (world.disk, world.inbox)
    };
    assert_eq!(run(), run());
}
