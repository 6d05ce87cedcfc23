//! What becomes of deliveries: recorded before they are acknowledged, once, and only from the source's owner.

use kinetic_alert::{Input, RecordSeq};
use kinetic_wire::{AlertState, Epoch, Token};

use crate::world::{World, alert_block, event, event_of};

fn world() -> World {
    World::new(vec![alert_block("team", &["oncall@acme.example"])])
}

#[test]
fn an_event_is_acknowledged_when_it_is_on_disk_and_no_sooner() {
    let mut world = world();
    world.push(&event("web-7", AlertState::Firing, 1));
    world.push(&event("web-8", AlertState::Firing, 1));
    assert!(world.deliver_one() && world.deliver_one());
    world.input(Input::Tick);
    assert_eq!((world.acked, world.unacked.len(), world.stats().appends_pending), (0, 2, 2));
    world.write(1);
    assert_eq!((world.acked, world.unacked.len()), (1, 1));
    world.write(1);
    assert_eq!((world.acked, world.unacked.len()), (2, 0));
}

#[test]
fn a_repeat_waits_for_the_first_one_s_record() {
    let mut world = world();
    let event = event("web-7", AlertState::Firing, 1);
    world.push(&event);
    world.push(&event);
    assert!(world.deliver_one() && world.deliver_one());
    assert_eq!((world.acked, world.unwritten.len()), (0, 1));
    world.settle();
    world.push(&event);
    world.settle();
    assert_eq!((world.acked, world.disk.len(), world.stats().duplicates), (3, 1, 2));
    world.crash(0);
    world.push(&event);
    world.settle();
    assert_eq!((world.acked, world.disk.len(), world.stats().duplicates), (4, 1, 1));
}

#[test]
fn a_lost_connection_voids_tokens_and_nothing_else() {
    let mut world = world();
    world.push(&event("web-7", AlertState::Firing, 1));
    world.deliver_one();
    world.lose_subscription();
    world.write(1);
    assert_eq!(world.acked, 0);
    world.settle();
    assert_eq!((world.acked, world.disk.len()), (1, 1));
    world.run_until(10.0);
    assert_eq!(world.inbox.len(), 1);
}

#[test]
fn a_former_owner_is_refused() {
    let mut world = world();
    world.fire(1.0, "web-7");
    let mut late = event("web-8", AlertState::Firing, 1);
    late.epoch = Epoch(3);
    world.push(&late);
    world.settle();
    assert_eq!((world.acked, world.disk.len(), world.stats().stale_epoch), (2, 1, 1));
    world.crash(0);
    world.push(&late);
    world.settle();
    assert_eq!(world.stats().stale_epoch, 1);
    world.run_until(60.0);
    assert_eq!(world.inbox.len(), 1);
}

#[test]
fn what_is_no_alert_event_is_rejected() {
    let good = event("web-7", AlertState::Firing, 1);
    let mut newer = good.clone();
    newer.v = 2;
    let slashed = event_of("acme/x", "web-7", "m", AlertState::Firing, 1);
    let broken_line = event_of("acme\r\n", "web-7", "m", AlertState::Firing, 1);
    let long = event_of(&"a".repeat(101), "web-7", "m", AlertState::Firing, 1);
    let mut world = world();
    for body in [b"".to_vec(), b"{}".to_vec(), b"\xff\xfe".to_vec(), b"[[[[".to_vec()] {
        world.queue.push_back(body);
    }
    for event in [&newer, &slashed, &broken_line, &long] {
        world.push(event);
    }
    world.settle();
    assert_eq!((world.rejected, world.stats().malformed, world.disk.len()), (8, 8, 0));
}

#[test]
fn an_older_window_says_nothing_new() {
    let mut world = world();
    world.fire(10.0, "web-7");
    world.run_until(15.0);
    world.push(&event("web-7", AlertState::Resolved, 5));
    world.run_until(100.0);
    assert_eq!((world.stats().out_of_order, world.inbox.len(), world.stats().alerts_firing), (1, 1, 1));
}

#[test]
fn an_unknown_end_leaves_nothing_behind() {
    let mut world = world();
    world.resolve(1.0, "web-7");
    world.run_until(60.0);
    assert_eq!((world.stats().alerts, world.stats().groups, world.acked, world.inbox.len()), (0, 0, 1, 0));
}

#[test]
fn reports_about_nothing_are_counted() {
    let mut world = world();
    let id = kinetic_alert::MailId("k1.x".into());
    world.input(Input::MailAttempted {
        id,
        attempt: kinetic_alert::Attempt::Accepted { detail: String::new() },
    });
    world.input(Input::Appended { seq: RecordSeq(99) });
    assert_eq!(world.stats().attempts_unknown, 1);
    let mut effects = Vec::new();
    world.alert.handle(world.now, Input::Delivery { token: Token(1), body: b"null" }, &mut effects);
    assert_eq!(effects.len(), 1);
}
