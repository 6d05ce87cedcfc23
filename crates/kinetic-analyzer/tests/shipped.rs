//! The rules that every new repository has about Kinetic's own processes: what they find, and what they leave alone.
#![allow(clippy::unwrap_used)]

mod support;

use kinetic_schema::{Files, Schema, load};
use kinetic_wire::*;
use support::*;

const SHIPPED: &str =
    include_str!("../../../topology-examples/watching-kinetic/customers/kinetic/kinetic.hcl");

fn shipped() -> Schema {
    let files = Files::from([
        ("kinetic.hcl".to_owned(), b"region \"local\" {}\n".to_vec()),
        ("customers/kinetic/kinetic.hcl".to_owned(), SHIPPED.as_bytes().to_vec()),
    ]);
    load(&files).schema.unwrap()
}

/// Ten minutes in which every process says something every ten seconds: its lines, by its place, and by the second.
/// Analytic, origin and state of what is found.
fn found(nodes: usize, say: impl Fn(usize, u64) -> String) -> Vec<(String, String, AlertState)> {
    let mut world = World::new(shipped());
    let source = SourceKey::new("kinetic", "health");
    world.grants = vec![Grant { source, region: "local".into(), epoch: Epoch(1) }];
    world.tick();
    for second in (0..600).step_by(10) {
        for node in 0..nodes {
            let origin = format!("node-{node}");
            let envelope =
                Envelope { origin: Some(origin.into()), ts: Some(world.now.wall), ..Envelope::default() };
            world.deliver_with(envelope, "in.kinetic", &say(node, second), false);
        }
        world.pass_s(10);
    }
    assert_eq!(world.stats().rejected, 0);
    let name = |event: &AlertEvent| event.analytic.to_string();
    let mut found: Vec<_> =
        world.events().iter().map(|event| (name(event), event.feed.origin.clone(), event.state)).collect();
    // What stands is said again.
    found.sort_by_key(|(analytic, origin, state)| (origin.clone(), analytic.clone(), *state));
    found.dedup();
    found
}

fn fires(analytic: &str, node: usize) -> (String, String, AlertState) {
    (analytic.to_owned(), format!("node-{node}"), AlertState::Firing)
}

#[test]
fn an_analyzer_that_is_behind_its_peers_is_found() {
    let behind = |late: f64| {
        move |node: usize, _| {
            let seconds = if node == 2 { late } else { 0.2 * node as f64 };
            format!("analyzer.behind_seconds:{seconds}|g\nanalyzer.lag_seconds:{seconds}|g\n")
        }
    };
    for nodes in [3, 4, 12] {
        assert_eq!(found(nodes, behind(45.0)), [fires("analyzer-behind", 2)], "{nodes}");
        assert_eq!(found(nodes, behind(5.0)), [], "{nodes}: a few seconds are nothing");
    }
    // Two cannot say which of them is odd, and a hiccup is none.
    assert_eq!(found(2, behind(45.0)), []);
    let hiccup = |node: usize, second: u64| {
        let late = node == 2 && second % 120 < 60;
        format!("analyzer.behind_seconds:{}|g\n", if late { 45 } else { 0 })
    };
    assert_eq!(found(4, hiccup), []);
}

#[test]
fn an_analyzer_that_grows_is_found() {
    let rss = |large: u64| {
        move |node: usize, _| {
            format!("analyzer.rss_bytes:{}|g\n", if node == 1 { large } else { 400_000_000 })
        }
    };
    assert_eq!(found(4, rss(4_000_000_000)), [fires("analyzer-memory", 1)]);
    assert_eq!(found(4, rss(700_000_000)), []);
    // Other processes are not held against analyzers.
    let other = |node: usize, _| {
        let role = if node < 3 { "analyzer" } else { "broker" };
        format!("{role}.rss_bytes:{}|g\n", if node < 3 { 400_000_000_u64 } else { 9_000_000_000 })
    };
    assert_eq!(found(4, other), []);
}

#[test]
fn an_analyzer_that_alone_misses_heartbeats_is_found() {
    let missed = |who: usize| {
        move |node: usize, _| format!("analyzer.requests_failed:{}|c\n", u8::from(node == who || who > 9))
    };
    assert_eq!(found(4, missed(3)), [fires("analyzer-leases", 3)]);
    // Where no redirector answers anybody, no analyzer is to blame.
    assert_eq!(found(4, missed(10)), []);
}

#[test]
fn a_part_that_ceases_to_work_is_found() {
    let parts = |node: usize, second: u64| {
        let part = ["redirector", "alert", "broker", "analyzer"][node];
        let mail = if node == 1 && second < 120 { "healthy.mail:1|g\n" } else { "" };
        // The redirector is gone, and so is the analyzer, of which the watchdog knows more.
        let gone = second >= 60 && (node == 0 || node == 3);
        if gone { String::new() } else { format!("healthy.{part}:1|g\nhealthy.history:1|g\n{mail}") }
    };
    let mut found = found(4, parts);
    found.retain(|(analytic, ..)| analytic != "history-fails");
    assert_eq!(found, [fires("redirector-fails", 0), fires("mail-fails", 1)]);
}
