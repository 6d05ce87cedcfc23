//! The mail as it is read, and the mail as it is attacked.

use std::fmt::Write;

use insta::assert_snapshot;
use kinetic_alert::Email;
use kinetic_wire::{AlertEvent, AlertState, Direction, TrailPoint};

use crate::world::{World, alert_block, event, event_of};

fn world() -> World {
    World::new(vec![alert_block("team", &["oncall@acme.example"])])
}

/// Five feeds out of line, one of them back: the second mail of its episode.
fn busy() -> World {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.fire(1.0, "web-3");
    world.run_until(5.0);
    let mut silent = event("web-3", AlertState::Resolved, 8);
    silent.numbers = None;
    world.push_at(8.0, &silent);
    world.fire(9.0, "web-8");
    let mut below = event("web-9", AlertState::Firing, 9);
    below.direction = Direction::Both;
    let numbers = below.numbers.as_mut().unwrap();
    (numbers.value, numbers.deviations) = (0.000_012_34, -3.204);
    world.push_at(9.0, &below);
    world.run_until(30.0);
    world
}

fn head(email: &Email) -> String {
    let Email { message_id, from, to, subject, date, headers, .. } = email;
    let mut head = format!(
        "Message-ID: <{message_id}>\nFrom: {from}\nTo: {to}\nSubject: {subject}\nDate: {}\n",
        date.as_secs()
    );
    for (name, value) in headers {
        writeln!(head, "{name}: {value}").unwrap();
    }
    head
}

#[test]
fn first_mail() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.run_until(3.0);
    let email = &world.inbox[0].1;
    assert_snapshot!(head(email));
    assert_snapshot!(email.text);
    assert_snapshot!(email.html);
    let (key, body) = &world.announced[0];
    assert_snapshot!(format!("{key}\n{}", serde_json::to_string_pretty(body).unwrap()));
}

/// An event of `origin` with windows before it.
pub(crate) fn event_with_trail(origin: &str, end_s: i64) -> AlertEvent {
    let mut event = event(origin, AlertState::Firing, end_s);
    let point = |k: i64| TrailPoint {
        end_ms: event.window_end_ms - 10_000 * (12 - k),
        value: (k != 4).then_some(101.5 + (k % 3) as f64),
        mean: 101.25 + 0.5 * (k % 2) as f64,
        deviation: 3.5,
    };
    event.trail = Some((0..12).map(point).collect());
    event
}

#[test]
fn a_mail_shows_the_windows_of_the_feed_that_leads() {
    let mut world = world();
    world.push_at(1.0, &event_with_trail("web-3", 1));
    world.push_at(1.0, &event_with_trail("web-7", 1));
    world.push_at(61.0, &event("web-7", AlertState::Firing, 61));
    world.fire(61.0, "web-9");
    world.run_until(75.0);
    let first = &world.inbox[0].1;
    let plot = first.plot.as_ref().expect("a picture");
    assert_eq!((plot.feed.as_str(), plot.points.len(), plot.feeds), ("web-7", 13, 12));
    let source = format!("cid:{}", first.picture_id());
    assert_eq!(first.html.matches(&source).count(), 1, "{}", first.html);
    assert_snapshot!(first.text);
    assert_snapshot!(first.html);
    // web-9 leads now, and nothing is known of its past.
    let second = &world.inbox[1].1;
    assert_eq!((second.plot.as_ref(), second.html.contains("<img")), (None, false));
    // History of before there were pictures is read as well.
    let mut old = serde_json::to_value(second).unwrap();
    assert!(old.as_object_mut().unwrap().remove("plot").is_none());
    assert_eq!(serde_json::from_value::<Email>(old).unwrap(), *second);
}

#[test]
fn windows_of_later_events_are_added_and_old_ones_forgotten() {
    let mut world = world();
    world.push_at(1.0, &event_with_trail("web-7", 1));
    for minute in 1..80 {
        world.push_at(60.0 * f64::from(minute), &event("web-7", AlertState::Firing, i64::from(minute) * 60));
    }
    world.resolve(4_900.0, "web-7");
    world.run_until(5_000.0);
    let email = &world.inbox.last().unwrap().1;
    assert!(email.subject.starts_with("[RESOLVED]"), "{}", email.subject);
    let points = &email.plot.as_ref().expect("a picture").points;
    assert_eq!(points.len(), 60);
    assert_eq!(points.last().unwrap().value, Some(103.4), "it shows that the feed is back");
    assert!(points.is_sorted_by_key(|point| point.end_ms));
}

#[test]
fn of_many_feeds_the_windows_of_the_farthest_are_kept() {
    let mut world = world();
    for feed in 0..40 {
        let mut event = event_with_trail(&format!("web-{feed:02}"), 1);
        // The farthest is neither the first nor the last that is heard of.
        event.numbers.as_mut().unwrap().deviations = 10.0 - f64::from(feed - 20).abs() / 10.0;
        world.push_at(1.0, &event);
    }
    world.run_until(5.0);
    let plot = world.inbox[0].1.plot.as_ref().expect("a picture");
    assert_eq!(plot.feed, "web-20");
}

#[test]
fn later_mail() {
    let world = busy();
    let email = &world.inbox[1].1;
    assert_snapshot!(head(email));
    assert_snapshot!(email.text);
    assert_snapshot!(email.html);
}

#[test]
fn last_mail() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.resolve(311.0, "web-7");
    world.run_until(320.0);
    let email = &world.inbox.last().unwrap().1;
    assert_snapshot!(head(email));
    assert_snapshot!(email.text);
}

#[test]
fn a_silent_feed_is_told_of_in_its_own_words() {
    let mut world = world();
    let silence = |origin: &str, state, end_s: i64| {
        let mut event = event(origin, state, end_s);
        (event.numbers, event.value_kind) = (None, "silence".to_owned());
        event
    };
    world.push_at(60.0, &silence("web-7", AlertState::Firing, 60));
    world.push_at(60.0, &silence("web-8", AlertState::Firing, 60));
    world.push_at(80.0, &silence("web-8", AlertState::Resolved, 75));
    world.push_at(95.0, &silence("web-7", AlertState::Resolved, 93));
    world.run_until(120.0);
    let heads: Vec<String> = world
        .inbox
        .iter()
        .map(|(_, email)| {
            let text: Vec<&str> = email.text.lines().take_while(|line| !line.starts_with("Rule")).collect();
            format!("{}\n\n{}", email.subject, text.join("\n"))
        })
        .collect();
    assert_snapshot!(heads.join("\n=====\n"));
    assert!(!world.inbox[0].1.html.contains("Deviations"));
}

#[test]
fn a_cluster_that_is_silent_as_a_whole_is_told_of_as_one() {
    let mut world = world();
    let mut silence = event("*", AlertState::Firing, 60);
    (silence.numbers, silence.value_kind) = (None, "silence".to_owned());
    world.push_at(60.0, &silence);
    world.run_until(65.0);
    let email = &world.inbox[0].1;
    assert_eq!(email.subject, "[FIRING] checkout/frontends: checkout.latency of all feeds is silent");
    let line = email.text.lines().next().unwrap();
    assert!(
        line.starts_with("checkout/frontends as a whole: checkout.latency has been silent since "),
        "{line}"
    );
}

#[test]
fn a_silent_feed_of_which_no_analyzer_speaks_is_not_said_to_be_heard() {
    let mut world = world();
    let mut silence = event("web-7", AlertState::Firing, 60);
    (silence.numbers, silence.value_kind) = (None, "silence".to_owned());
    world.push_at(60.0, &silence);
    world.run_until(60.0 + 3_700.0);
    let last = &world.inbox.last().unwrap().1;
    assert!(last.subject.starts_with("[RESOLVED]"), "{}", last.subject);
    let lines: Vec<&str> = last.text.lines().take_while(|line| !line.starts_with("What to do")).collect();
    assert!(!lines.join("\n").contains("heard again"), "{}", last.text);
    assert!(lines[0].contains("no analyzer has spoken of it"), "{}", last.text);
    let words: Vec<&str> = last.text.split_whitespace().collect();
    let words = words.join(" ");
    assert!(words.contains("heard again, or no analyzer speaks of it any more"), "{}", last.text);
}

fn hostile() -> Vec<(&'static str, String)> {
    vec![
        ("crlf", "web\r\nBcc: victim@elsewhere.example\r\n\r\n<p>".to_owned()),
        ("script", "<script>alert(1)</script>\"'><img src=https://elsewhere.example/x>".to_owned()),
        ("bidi", "web\u{202e}moc.live\u{2066}\u{200f}\u{feff}".to_owned()),
        ("hebrew", "שרת-7".to_owned()),
        ("terminal", "\u{1b}]0;owned\u{7}\u{9b}2J\0".to_owned()),
        ("lines", "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f".to_owned()),
        ("long", "x".repeat(10_000)),
        ("long and wide", "\"🦀".repeat(5_000)),
        ("empty", String::new()),
        ("encoded", "=?utf-8?q?=0d=0aBcc:x?=".to_owned()),
    ]
}

fn assert_harmless(email: &Email, what: &str) {
    let header_values = email.headers.iter().map(|(_, value)| value);
    for value in header_values.clone().chain([&email.message_id, &email.from, &email.to, &email.subject]) {
        assert!(!value.chars().any(char::is_control), "{what}: {value:?}");
        assert!(value.chars().count() <= 300, "{what}: {value:?}");
    }
    assert!(header_values.clone().all(|value| value.is_ascii()), "{what}");
    for body in [&email.text, &email.html] {
        let bad = |c: char| {
            c.is_control() && c != '\n'
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!body.contains(bad), "{what}: {body}");
        assert!(!body.lines().any(|line| line.starts_with("Bcc")), "{what}");
    }
    assert!(email.html.len() < 20_000, "{what}: {} bytes of HTML", email.html.len());
    assert!(email.text.len() < 20_000, "{what}: {} bytes of text", email.text.len());
    for tag in ["<script", "<img", "http://", "src="] {
        assert!(
            !email.html.contains(tag) || tag == "src=" && email.html.contains("&lt;img src="),
            "{what}: {tag}"
        );
    }
}

#[test]
fn hostile_names_stay_inside_their_place() {
    for (what, name) in hostile() {
        for (origin, metric) in [(name.as_str(), "checkout.latency"), ("web-7", name.as_str())] {
            let mut world = world();
            let fired = event_of("acme", origin, metric, AlertState::Firing, 1);
            let mut ended = event_of("acme", origin, metric, AlertState::Resolved, 20);
            ended.value_kind = name.clone();
            ended.schema = Some(name.clone());
            world.push_at(1.0, &fired);
            world.push_at(20.0, &ended);
            world.run_until(40.0);
            assert_eq!(world.inbox.len(), 2, "{what}");
            for (_, email) in &world.inbox {
                assert_harmless(email, what);
            }
        }
    }
}

#[test]
fn hostile_names_stay_inside_pictures() {
    for (what, name) in hostile() {
        let mut world = world();
        let mut event = event_with_trail(&name, 1);
        event.feed.metric = name.clone();
        event.value_kind = name.clone();
        world.push_at(1.0, &event);
        world.run_until(5.0);
        let mut email = world.inbox[0].1.clone();
        let image = format!("<img src=\"cid:{}\" alt=\"", email.picture_id());
        let (before, after) =
            email.html.split_once(&image).unwrap_or_else(|| panic!("{what}: {}", email.html));
        let (words, rest) = after.split_once("\" width=\"600\"").unwrap_or_else(|| panic!("{what}: {after}"));
        assert!(!words.contains(['<', '>', '"', '\'']), "{what}: {words}");
        email.html = format!("{before}{words}{rest}");
        assert_harmless(&email, what);
    }
}

#[test]
fn many_feeds_fit_one_mail_whatever_their_names() {
    for (what, name) in hostile() {
        let mut world = world();
        for feed in 0..60 {
            world.push(&event_of("acme", &format!("{name}{feed}"), &name, AlertState::Firing, 1));
            world.push(&event_of("acme", &format!("also {feed}{name}"), &name, AlertState::Firing, 1));
        }
        world.run_until(5.0);
        assert_eq!(world.inbox.len(), 1, "{what}");
        let email = &world.inbox[0].1;
        assert_harmless(email, what);
        assert!(
            email.text.contains("Firing (120)") && email.text.contains(" more\n"),
            "{what}: {}",
            email.text
        );
        assert!(world.stats().rows_cut >= 80, "{what}");
    }
}

#[test]
fn a_thousand_feeds_are_one_mail_and_more_are_refused() {
    let mut world = world();
    for feed in 0..1_100 {
        world.push(&event(&format!("web-{feed}"), AlertState::Firing, 1));
    }
    world.run_until(5.0);
    assert_eq!((world.inbox.len(), world.stats().alerts_refused, world.acked), (1, 100, 1_100));
    assert!(world.inbox[0].1.text.contains("Firing (1000)"));
    assert_harmless(&world.inbox[0].1, "a thousand");
}

#[test]
fn the_subject_keeps_its_words_through_an_episode() {
    let world = busy();
    let core = |email: &Email| email.subject.split_once("] ").unwrap().1.to_owned();
    assert_eq!(core(&world.inbox[0].1), core(&world.inbox[1].1));
}
