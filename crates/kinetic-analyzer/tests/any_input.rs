//! Properties over sequences of inputs: whatever comes in whatever order, settlement stays exact, nothing panics, and
//! the machine never asks to be woken without having anything to do.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kinetic_analyzer::machine::{AnalyzerConfig, Effect, Input, Slot};
use kinetic_schema::Schema;
use kinetic_wire::*;
use proptest::prelude::*;
use support::*;

#[derive(Clone, Debug)]
enum Step {
    /// Host, milliseconds before now (negative: ahead), value, redelivered.
    Deliver(u8, i64, u16, bool),
    Garbage,
    Test(u8, i64),
    Pass(u64),
    WallJump(i64),
    Suspend(u64),
    Lost,
    Confirm(usize),
    Keep(usize),
    Schema(u8),
    Redirector(bool),
    Fail,
    Grants(u8),
    Refuse(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..6_u8, -12_000..30_000_i64, any::<u16>(), any::<bool>())
            .prop_map(|(host, ago, value, again)| Step::Deliver(host, ago, value, again)),
        1 => Just(Step::Garbage),
        2 => (1..4_u8, -60_000..60_000_i64).prop_map(|(trace, ago)| Step::Test(trace, ago)),
        8 => (0..20_000_u64).prop_map(Step::Pass),
        1 => (-4_000_000..4_000_000_i64).prop_map(Step::WallJump),
        1 => (0..60_000_u64).prop_map(Step::Suspend),
        1 => Just(Step::Lost),
        4 => (0..8_usize).prop_map(Step::Confirm),
        2 => (0..2_usize).prop_map(Step::Keep),
        1 => (0..4_u8).prop_map(Step::Schema),
        1 => any::<bool>().prop_map(Step::Redirector),
        1 => Just(Step::Fail),
        1 => (0..3_u8).prop_map(Step::Grants),
        1 => (0..9_u8).prop_map(Step::Refuse),
    ]
}

fn revision(number: u8) -> Schema {
    let one = analytic("one", "m", 1.0, 10, 1, 1);
    let two = analytic("two", "*", 0.5, 7, 2, 3);
    match number {
        0 => schema(&[one]),
        1 => schema(&[one, two]),
        2 => schema(&[two]),
        _ => Schema::default(),
    }
}

/// Follows the effects as a broker would.
#[derive(Default)]
struct Broker {
    unsettled: BTreeSet<(Slot, u64)>,
    subscribed: BTreeSet<Slot>,
    seen: usize,
    pending: Vec<AlertId>,
    keeping: Vec<(Slot, u64)>,
    /// The world confirms by itself.
    confirms: bool,
    asked: Vec<kinetic_analyzer::machine::RequestId>,
}

impl Broker {
    /// A source that is about to be let go looks at nothing: its deliveries are not held, and go back to the queue.
    fn pass_over(&mut self, world: &World, slot: Slot, ignored: u64) {
        if world.stats().deliveries_ignored > ignored {
            self.unsettled.remove(&(slot, world.token));
        }
    }

    fn follow(&mut self, effects: &[Effect]) {
        for effect in &effects[self.seen..] {
            match effect {
                Effect::Subscribe { slot, .. } | Effect::Evacuate { slot, .. } => {
                    assert!(self.subscribed.insert(*slot), "a slot is used once")
                }
                Effect::Unsubscribe { slot } => {
                    assert!(self.subscribed.remove(slot), "not subscribed");
                    self.unsettled.retain(|(of, _)| of != slot);
                    self.keeping.retain(|(of, _)| of != slot);
                }
                Effect::AckUpTo { slot, token } => {
                    assert!(self.unsettled.contains(&(*slot, token.0)), "AckUpTo {token} is settled already");
                    self.unsettled.retain(|(of, held)| of != slot || *held > token.0);
                }
                Effect::AckRange { slot, first, last } => {
                    (first.0..=last.0).for_each(|token| assert!(self.unsettled.remove(&(*slot, token))));
                }
                Effect::Reject { slot, token } => assert!(self.unsettled.remove(&(*slot, token.0))),
                Effect::Publish(event) => self.pending.push(event.id),
                Effect::Forward { id, .. } => self.pending.push(*id),
                Effect::Keep { slot, seq, .. } => {
                    let is_another = self.keeping.iter().any(|(of, _)| of == slot);
                    assert!(self.confirms || !is_another, "one at a time");
                    self.keeping.push((*slot, *seq));
                }
                Effect::Request { request, .. } => self.asked.push(*request),
                Effect::Probe { .. }
                | Effect::Carry { .. }
                | Effect::Discard { .. }
                | Effect::Trace(_)
                | Effect::Stopped => {}
            }
        }
        self.seen = effects.len();
    }
}

/// Delivers something, where there is a subscription.
fn deliver(
    world: &mut World,
    broker: &mut Broker,
    slot: Option<Slot>,
    deliver: impl FnOnce(&mut World) -> Vec<Effect>,
) {
    let Some(slot) = slot else { return };
    let ignored = world.stats().deliveries_ignored;
    broker.unsettled.insert((slot, world.token + 1));
    deliver(world);
    broker.pass_over(world, slot, ignored);
}

/// Delivers a test event.
fn burst(world: &mut World, trace: u8, ago: i64) -> Vec<Effect> {
    let envelope = Envelope {
        kind: Some(names::TYPE_TEST.into()),
        traceparent: Some(format!("00-{trace:032x}-00f067aa0ba902b7-01").into()),
        ts: Some(Wall::from_ms(world.now.wall.as_ms() - ago)),
        ..Envelope::default()
    };
    let body = "t:1|ms|#feed:a\nt:1|ms|#feed:b\nt:9|ms|#feed:c\n";
    world.deliver_with(envelope, "in.acme", body, false)
}

fn take(world: &mut World, broker: &mut Broker, step: Step) {
    let slot = world.slot.filter(|slot| broker.subscribed.contains(slot));
    match step {
        Step::Deliver(host, ago, value, again) => {
            let at = Wall::from_ms(world.now.wall.as_ms() - ago);
            let body = format!("m:{value}|ms\nn:{value}|g\n");
            deliver(world, broker, slot, |world| world.deliver_at(&format!("web-{host}"), &body, at, again));
        }
        Step::Test(trace, ago) => {
            deliver(world, broker, slot, |world| burst(world, trace, ago));
        }
        Step::Garbage => {
            deliver(world, broker, slot, |world| {
                world.deliver_with(Envelope::default(), "in.evil", "?", false)
            });
        }
        Step::Pass(ms) => {
            world.pass(Duration::from_millis(ms));
        }
        Step::WallJump(ms) => world.now.wall = Wall::from_ms(world.now.wall.as_ms() + ms),
        Step::Suspend(ms) => world.now = world.now + Duration::from_millis(ms),
        Step::Lost => {
            let Some(slot) = slot else { return };
            broker.unsettled.clear();
            world.send(Input::SubscriptionLost { slot });
            world.recall(slot);
        }
        Step::Confirm(index) => {
            if index < broker.pending.len() {
                let id = broker.pending.swap_remove(index);
                world.send(Input::Published { id });
            }
        }
        Step::Keep(index) => {
            if index < broker.keeping.len() {
                let (slot, seq) = broker.keeping.swap_remove(index);
                world.send(Input::Kept { slot, seq });
            }
        }
        Step::Schema(number) => {
            let schema = Arc::new(revision(number));
            world.send(Input::SchemaChanged { schema, revision: number.to_string().into() });
        }
        Step::Redirector(answers) => world.answers = answers,
        Step::Fail => {
            for request in std::mem::take(&mut broker.asked) {
                world.send(Input::RequestFailed { request });
            }
        }
        Step::Grants(epoch) => {
            world.grants = if epoch == 0 { vec![] } else { vec![grant(u64::from(epoch))] };
        }
        Step::Refuse(code) => {
            let codes = [
                RpcCode::Malformed,
                RpcCode::UnknownLease,
                RpcCode::Superseded,
                RpcCode::Replayed,
                RpcCode::Overload,
                RpcCode::NotLeader,
                RpcCode::Version,
                RpcCode::Unauthenticated,
                RpcCode::UnknownCustomer,
            ];
            let body = encode(&refusal(codes[usize::from(code)]));
            for request in std::mem::take(&mut broker.asked) {
                world.send(Input::Replied { request, body: &body });
            }
        }
    }
    broker.follow(&world.effects);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn settlement_is_exact_whatever_happens(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::with(AnalyzerConfig { held_max: 40, series_max: 9, ..config() }, revision(0));
        world.confirms = false;
        let mut broker = Broker::default();
        world.tick();
        broker.follow(&world.effects);
        for step in steps {
            take(&mut world, &mut broker, step);
        }
        let stats = world.stats();
        prop_assert_eq!(broker.unsettled.len(), stats.sources.iter().map(|source| source.held).sum::<usize>());
        prop_assert!(stats.customers.iter().all(|customer| customer.series <= 9));
        // Left alone with a redirector and a schema, it settles everything.
        world.answers = true;
        (world.confirms, broker.confirms) = (true, true);
        world.grants = vec![];
        for id in std::mem::take(&mut broker.pending) {
            world.send(Input::Published { id });
        }
        for (slot, seq) in std::mem::take(&mut broker.keeping) {
            world.send(Input::Kept { slot, seq });
        }
        for request in std::mem::take(&mut broker.asked) {
            world.send(Input::RequestFailed { request });
        }
        world.pass_s(100);
        broker.follow(&world.effects);
        prop_assert_eq!(world.stats().sources.len(), 0);
        let customers = world.stats().customers;
        prop_assert!(customers.iter().all(|customer| customer.series == 0), "{:?}", customers);
        world.send(Input::Shutdown);
        world.pass_s(11);
        prop_assert_eq!(world.effects.last(), Some(&Effect::Stopped));
        prop_assert_eq!(world.analyzer.next_wakeup(), None);
    }

    /// Bodies may overtake each other by less than the lateness.
    #[test]
    fn the_order_of_deliveries_within_the_lateness_does_not_show(
        deliveries in prop::collection::vec((0..8_u8, 0..60_000_i64, 0..50_u16, 0..4_500_i64), 30..150),
    ) {
        let run = |shuffled: bool| {
            let mut deliveries: Vec<_> = deliveries.iter().copied()
                .map(|(host, at, value, delay)| (at + if shuffled { delay } else { 0 }, at, host, value))
                .collect();
            deliveries.sort();
            let mut world = World::new(revision(1));
            world.tick();
            for (arrives, at, host, value) in deliveries {
                let start = Wall::from_secs(START);
                let wait = (start.as_ms() + arrives - world.now.wall.as_ms()).unsigned_abs();
                world.pass(Duration::from_millis(wait));
                let body = format!("m:{value}.7|ms\n");
                world.deliver_at(&format!("web-{host}"), &body, Wall::from_ms(start.as_ms() + at), false);
            }
            world.pass_s(100);
            assert_eq!(world.stats().late, 0);
            let mut events = world.events();
            events.sort_by_key(|event| event.id);
            events.into_iter().map(|event| (event.id, event.feed, event.hits)).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(false), run(true));
    }
}
