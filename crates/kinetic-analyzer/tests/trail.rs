//! The windows that an alert begins with.
#![allow(clippy::unwrap_used)]

mod support;

use kinetic_schema::Schema;
use support::*;

fn watched() -> Schema {
    schema(&[analytic("slow-host", "checkout.*", 3.0, 10, 2, 3)])
}

/// Twelve hosts send one latency every second for some seconds; `slow` says what web-7 sends.
fn run(world: &mut World, seconds: u64, slow: f64) {
    for _ in 0..seconds {
        for host in 0..12 {
            let value = if host == 7 { slow } else { 20.0 + 0.1 * f64::from(host) };
            world.deliver(&format!("web-{host}"), &format!("checkout.latency:{value}|ms\n"));
        }
        world.pass_s(1);
    }
}

/// The event that begins an alert brings the feed's last windows; those that repeat it do not.
#[test]
fn an_alert_begins_with_the_windows_before_it() {
    let mut world = World::new(watched());
    world.tick();
    run(&mut world, 30, 20.7);
    run(&mut world, 150, 90.0);
    let events = world.events();
    assert!(events.len() > 1, "{events:?}");
    assert!(events[1..].iter().all(|event| event.trail.is_none()), "{events:?}");
    let numbers = events[0].numbers.unwrap();
    let trail = events[0].trail.as_deref().unwrap();
    let values: Vec<f64> = trail.iter().map(|point| (point.value.unwrap() * 1e3).round() / 1e3).collect();
    assert_eq!(values, [20.7, 20.7, 20.7, 90.0, 90.0]);
    let last = trail.last().unwrap();
    assert_eq!(last.end_ms, events[0].window_end_ms);
    assert!((last.mean - numbers.mean).abs() < 1e-6 && (last.deviation - numbers.deviation).abs() < 1e-6);
}

/// A feed that comes between others in the order of names takes nobody's windows, and one that is gone leaves none.
#[test]
fn newcomers_move_nobodys_windows() {
    let mut world = World::new(watched());
    world.tick();
    run(&mut world, 20, 20.7);
    for second in 0..30 {
        world.deliver("web-0a", "checkout.latency:20.3|ms\n");
        run(&mut world, 1, if second < 10 { 20.7 } else { 90.0 });
    }
    run(&mut world, 10, 90.0);
    let event = &world.events()[0];
    let trail = event.trail.as_deref().unwrap();
    let values: Vec<f64> = trail.iter().map(|point| (point.value.unwrap() * 1e3).round() / 1e3).collect();
    assert_eq!((event.feed.origin.as_str(), &values[..]), ("web-7", &[20.7, 20.7, 20.7, 90.0, 90.0][..]));
}
