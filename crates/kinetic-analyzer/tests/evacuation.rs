//! A customer moves to another region: the old queue is emptied into the new one, and the verdicts are those of a run that was
//! not disturbed.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use kinetic_analyzer::machine::{Delivery, Effect, Input, Revision, Slot};
use kinetic_schema::Schema;
use kinetic_wire::*;
use support::*;

/// Where the customer is.
fn living_in(region: &str) -> Schema {
    let mut schema = schema(&[analytic("slow-host", "checkout.*", 3.0, 10, 2, 3)]);
    schema.customers.values_mut().for_each(|customer| customer.region = region.into());
    schema
}

fn granted_in(region: &str, epoch: u64) -> Grant {
    Grant { region: region.into(), ..grant(epoch) }
}

/// A body of one host: when, who and what.
type Body = (i64, usize, f64);

/// Twelve hosts for so many seconds from one on; web-7 is out of line.
fn bodies(from: i64, seconds: i64) -> Vec<Body> {
    (from..from + seconds)
        .flat_map(|at| {
            (0..12).map(move |host| (at, host, if host == 7 { 90.0 } else { 20.0 + 0.1 * host as f64 }))
        })
        .collect()
}

fn publish(world: &mut World, bodies: &[Body]) {
    for (at, host, value) in bodies {
        let at = Wall::from_secs(START + at);
        world.deliver_at(&format!("web-{host}"), &format!("checkout.latency:{value}|ms\n"), at, false);
    }
}

fn told(effects: &[Effect]) -> Vec<(AlertId, AlertState, i64, Option<Numbers>)> {
    events(effects)
        .into_iter()
        .map(|e| (e.id, e.state, e.window_start_ms / 1000 - START, e.numbers))
        .collect()
}

fn moves_to(world: &mut World, region: &str) -> Vec<Effect> {
    let revision = Revision { id: "rev2".into(), generation: 2 };
    world.send(Input::SchemaChanged { schema: Arc::new(living_in(region)), revision })
}

fn evacuation(effects: &[Effect]) -> Option<(Slot, RegionName)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Evacuate { slot, to, .. } => Some((*slot, to.clone())),
        _ => None,
    })
}

fn probes(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Probe { .. })).count()
}

/// What a heartbeat says: what is held, and what was emptied.
fn said(effects: &[Effect]) -> Option<(usize, Vec<Evacuated>)> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Request { kind: "heartbeat", body, .. } => {
            let heartbeat: Heartbeat = decode(body).unwrap();
            Some((heartbeat.holds.len(), heartbeat.evacuated))
        }
        _ => None,
    })
}

/// One carried delivery.
struct Carried {
    token: Token,
    envelope: Envelope<'static>,
    body: Vec<u8>,
}

fn carried(effects: &[Effect]) -> Vec<Carried> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Carry { token, envelope, body, to, .. } => {
                assert_eq!(to.as_str(), "r2");
                Some(Carried { token: *token, envelope: (**envelope).clone(), body: body.clone() })
            }
            _ => None,
        })
        .collect()
}

fn take_carried(world: &mut World, carried: &Carried) {
    world.token += 1;
    let delivery = Delivery {
        slot: world.slot.unwrap(),
        token: Token(world.token),
        redelivered: false,
        exchange: "",
        routing_key: "src.acme.web",
        envelope: carried.envelope.clone(),
        body: &carried.body,
    };
    world.send(Input::Delivery(delivery));
}

/// The verdicts of a run in which nobody moves.
fn undisturbed() -> Vec<(AlertId, AlertState, i64, Option<Numbers>)> {
    let mut world = World::new(living_in("r1"));
    world.tick();
    for second in 0..36 {
        publish(&mut world, &bodies(second, 1));
        world.pass_s(1);
    }
    world.pass_s(30);
    told(&world.effects)
}

/// An owner in the old region that has seen 24 seconds of 36 when the customer moves.
fn moved(world: &mut World) -> (Vec<Effect>, Slot) {
    world.tick();
    for second in 0..24 {
        publish(world, &bodies(second, 1));
        world.pass_s(1);
    }
    let effects = moves_to(world, "r2");
    let (slot, to) = evacuation(&effects).expect("it is emptied at once: nothing waits for a confirm");
    assert_eq!(to.as_str(), "r2");
    (effects, slot)
}

/// Empties the queue: 14 seconds of open windows come again.
fn empty(world: &mut World, slot: Slot) -> Vec<Carried> {
    let mark = world.effects.len();
    let of_open_windows = bodies(10, 14);
    publish(world, &of_open_windows);
    let carried = carried(&world.effects[mark..]);
    assert_eq!(carried.len(), of_open_windows.len());
    assert_eq!(probes(&world.effects[mark..]), 0, "the queue is still bound: a probe proves nothing");
    world.send(Input::Unbound { slot });
    assert_eq!(probes(&world.effects[mark..]), 0, "deliveries are under way");
    for one in &carried[1..] {
        world.send(Input::Carried { slot, token: one.token });
    }
    assert_eq!(
        acks(&world.effects[mark..]).len(),
        carried.len() - 1,
        "what is there is acknowledged, nothing else"
    );
    assert_eq!(probes(&world.effects[mark..]), 0);
    let effects = world.send(Input::Carried { slot, token: carried[0].token });
    assert_eq!(probes(&effects), 1);
    assert!(effects.contains(&Effect::Unsubscribe { slot }));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Discard { .. })));
    carried
}

#[test]
fn what_is_left_is_carried_and_the_verdicts_stay_the_same() {
    let want = undisturbed();
    assert_eq!(want.len(), 1, "two of three: {want:?}");
    let mut world = World::new(living_in("r1"));
    let (effects, slot) = moved(&mut world);
    let kept = effects.iter().find_map(|effect| match effect {
        Effect::Keep { region, body, .. } if region.as_str() == "r2" => {
            Some(decode::<Snapshot>(body).unwrap())
        }
        _ => None,
    });
    let kept = kept.expect("what is remembered goes to the new region");
    assert_eq!(kept.moved, Some("r1".into()));
    assert_eq!(kept.epoch, Epoch(1));
    let carried = empty(&mut world, slot);
    // Only when the queue is gone is it said.
    assert!(said(&world.effects).is_none_or(|(_, evacuated)| evacuated.is_empty()));
    let mut effects = world.send(Input::Discarded { slot, is_empty: true });
    effects.extend(world.pass_s(1));
    let emptied = Evacuated { source: key(), region: "r1".into(), epoch: Epoch(1) };
    assert_eq!(said(&effects), Some((0, vec![emptied])));
    assert_eq!(world.stats().carried, carried.len() as u64);
    let before = world.effects.len();
    assert_eq!(told(&world.effects), []);
    // The owner in the new region reads what came there first, and later than all that is carried.
    world.succeed(living_in("r2"), 2);
    world.grants = vec![granted_in("r2", 2)];
    world.connected = false;
    world.tick();
    publish(&mut world, &bodies(24, 12));
    world.pass_s(12);
    for one in &carried {
        assert_eq!(one.envelope.moved.as_deref(), Some("web"));
        take_carried(&mut world, one);
    }
    assert_eq!(told(&world.effects[before..]), [], "nothing is closed before all has been read");
    let snapshot: Snapshot = decode(world.snapshots.last().unwrap()).unwrap();
    assert_eq!(snapshot.moved, Some("r1".into()), "a successor must not close anything either");
    let slot = world.slot.unwrap();
    world.connected = true;
    world.send(Input::Probed { slot, ok: true });
    world.pass_s(30);
    assert_eq!(told(&world.effects[before..]), want);
    assert_eq!(world.stats().late, 0);
    assert_eq!(world.stats().carried_taken, carried.len() as u64);
    let snapshot: Snapshot = decode(world.snapshots.last().unwrap()).unwrap();
    assert_eq!(snapshot.moved, None, "there is nothing carried any more");
}

#[test]
fn what_has_come_in_after_all_is_carried_as_well() {
    let mut world = World::new(living_in("r1"));
    let (_, slot) = moved(&mut world);
    empty(&mut world, slot);
    let effects = world.send(Input::Discarded { slot, is_empty: false });
    assert_eq!(evacuation(&effects), Some((slot, "r2".into())), "it begins anew");
    assert_eq!(world.stats().evacuations, 0);
    world.send(Input::Unbound { slot });
    world.send(Input::Discarded { slot, is_empty: true });
    assert_eq!(world.stats().evacuations, 1);
}

#[test]
fn who_is_granted_a_region_that_its_owner_left_behind_empties_it() {
    let mut world = World::new(living_in("r2"));
    world.tick();
    let slot = world.slot.expect("subscribed");
    assert!(evacuation(&world.effects).is_some());
    assert!(
        !world.effects.iter().any(|effect| matches!(effect, Effect::Subscribe { .. })),
        "nothing is judged"
    );
    world.send(Input::Unbound { slot });
    world.send(Input::Discarded { slot, is_empty: true });
    assert_eq!(world.stats().evacuations, 1);
    // It is granted there until the redirector has heard of it, and not taken up again.
    let mark = world.effects.len();
    world.pass_s(30);
    assert_eq!(evacuation(&world.effects[mark..]), None);
    world.grants = vec![granted_in("r2", 2)];
    world.pass_s(10);
    assert!(world.effects[mark..].iter().any(|effect| matches!(effect, Effect::Subscribe { .. })));
}

#[test]
fn a_region_that_does_not_answer_is_given_up_in_time() {
    let mut world = World::new(living_in("r1"));
    moved(&mut world);
    // The queue is never unbound.
    world.pass_s(40);
    assert_eq!((world.stats().evacuations, world.stats().evacuations_given_up), (0, 0));
    world.pass_s(20);
    assert_eq!((world.stats().evacuations, world.stats().evacuations_given_up), (1, 1));
}

#[test]
fn a_lost_channel_proves_nothing_and_a_late_confirm_settles_nothing() {
    let mut world = World::new(living_in("r1"));
    let (_, slot) = moved(&mut world);
    world.connected = false;
    let mark = world.effects.len();
    publish(&mut world, &bodies(10, 1));
    world.send(Input::Unbound { slot });
    let first = carried(&world.effects[mark..]);
    world.send(Input::SubscriptionLost { slot });
    let effects = world.send(Input::Carried { slot, token: first[0].token });
    assert_eq!(acks(&effects), [], "its token is another channel's");
    assert!(!world.effects[mark..].contains(&Effect::Unsubscribe { slot }));
}

#[test]
fn who_moves_back_in_the_middle_is_judged_where_he_is() {
    let mut world = World::new(living_in("r1"));
    let (_, slot) = moved(&mut world);
    let mut effects = moves_to(&mut world, "r1");
    effects.extend(world.pass_s(10));
    assert!(effects.contains(&Effect::Unsubscribe { slot }));
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::Subscribe { .. })),
        "granted as before, and taken up"
    );
    assert_eq!(world.stats().evacuations, 0);
}

/// The redirector knows earlier than this node: it stops judging at once, and empties the region when it knows where to.
#[test]
fn who_is_told_before_its_schema_knows_stops_judging() {
    let mut world = World::new(living_in("r1"));
    world.tick();
    publish(&mut world, &bodies(0, 10));
    world.moving = vec![key()];
    world.send(Input::Nudged);
    world.pass_s(30);
    assert!(world.stats().nudges == 1 && world.stats().windows_closed == 0, "its windows are left open");
    let unsubscribed =
        world.effects.iter().filter(|effect| matches!(effect, Effect::Unsubscribe { .. })).count();
    assert_eq!((unsubscribed, evacuation(&world.effects)), (1, None));
    assert_eq!(said(&world.effects).map(|(holds, _)| holds), Some(1), "it is held meanwhile");
    let effects = moves_to(&mut world, "r2");
    assert!(evacuation(&effects).is_some());
}

#[test]
fn a_customer_cannot_pass_its_bodies_off_as_carried() {
    let mut world = World::new(living_in("r1"));
    world.tick();
    let moved = Envelope { moved: Some("web".into()), ..Envelope::default() };
    world.deliver_with(moved.clone(), "in.evil", "checkout.latency:1|ms", false);
    assert_eq!(world.stats().rejected, 1);
    world.deliver_with(moved, "in.acme", "checkout.latency:1|ms", false);
    assert_eq!((world.stats().rejected, world.stats().carried_taken), (1, 0));
}
