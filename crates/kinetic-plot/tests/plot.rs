//! The picture as its readers meet it: an XML parser, a renderer, somebody who reads its description.

use kinetic_plot::{Plot, Point, Theme, describe, svg};
use kinetic_wire::Direction;
use proptest::prelude::*;

/// 2026-11-20 12:00:00 UTC.
const NOON_MS: i64 = 1_795_176_000_000;

fn slow_host() -> Plot {
    let point = |n: i64| {
        let slow = n >= 18;
        Point {
            end_ms: NOON_MS + n * 10_000,
            value: (n != 5)
                .then(|| if slow { 180.0 + (n % 3) as f64 * 4.0 } else { 99.0 + (n * 7 % 5) as f64 }),
            mean: if slow { 108.0 } else { 101.0 },
            deviation: if slow { 20.0 } else { 4.0 + (n % 4) as f64 },
        }
    };
    Plot {
        feed: "web-7".into(),
        metric: "checkout.latency mean".into(),
        feeds: 12,
        deviations: 3.0,
        direction: Direction::Above,
        points: (0..24).map(point).collect(),
    }
}

#[test]
fn the_description_says_what_is_drawn() {
    insta::assert_snapshot!(
        describe(&slow_host()),
        @"checkout.latency mean of web-7 was 188 at 12:03:50 UTC; the average of it and its 11 peers was 108, the limit 168. It was beyond the limit in 6 of the 24 windows shown."
    );
    let nothing = Plot { points: Vec::new(), ..slow_host() };
    insta::assert_snapshot!(describe(&nothing), @"web-7: nothing is known of its checkout.latency mean.");
}

#[test]
fn a_gap_is_a_gap_and_windows_out_of_line_are_marked() {
    let drawn = svg(&slow_host(), Theme::Light);
    let document = roxmltree::Document::parse(&drawn).expect("XML");
    let of = |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count();
    assert_eq!(of("circle"), 23, "one for each window with a value");
    let marked = document.descendants().filter(|node| node.attribute("r") == Some("4")).count();
    assert_eq!(marked, 6, "those beyond the limit");
    let feed = document.descendants().filter(|node| node.attribute("stroke-width") == Some("2.4")).count();
    assert_eq!(feed, 2, "the line is broken where there is no value");
    let dashed = document.descendants().filter(|node| node.attribute("stroke-dasharray").is_some()).count();
    assert_eq!(dashed, 1, "a rule that looks above has one limit");
    let both = Plot { direction: Direction::Both, ..slow_host() };
    assert_eq!(svg(&both, Theme::Light).matches("stroke-dasharray").count(), 2);
}

#[test]
fn what_is_worth_a_picture() {
    assert!(slow_host().is_worth_drawing());
    let mut plot = slow_host();
    plot.points.truncate(1);
    assert!(!plot.is_worth_drawing());
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), -1e6..1e6f64, Just(0.0), Just(f64::MAX), Just(f64::MIN_POSITIVE)]
}

fn any_plot() -> impl Strategy<Value = Plot> {
    let point = (any::<i64>(), proptest::option::of(number()), number(), number())
        .prop_map(|(end_ms, value, mean, deviation)| Point { end_ms, value, mean, deviation });
    let direction = prop_oneof![Just(Direction::Above), Just(Direction::Below), Just(Direction::Both)];
    (".*", ".*", any::<u32>(), number(), direction, proptest::collection::vec(point, 0..200)).prop_map(
        |(feed, metric, feeds, deviations, direction, points)| Plot {
            feed,
            metric,
            feeds,
            deviations,
            direction,
            points,
        },
    )
}

proptest! {
    #[test]
    fn any_plot_is_xml_with_numbers_in_it(plot in any_plot()) {
        let drawn = svg(&plot, Theme::Dark);
        let document = roxmltree::Document::parse(&drawn).expect("XML");
        for node in document.descendants() {
            prop_assert!(!matches!(node.tag_name().name(), "script" | "image" | "a" | "use" | "foreignObject"));
            for attribute in node.attributes() {
                prop_assert!(!attribute.value().contains("NaN") && !attribute.value().contains("inf"), "{drawn}");
            }
        }
        prop_assert!(!describe(&plot).contains(['\r', '\n']));
    }
}

#[cfg(feature = "png")]
#[test]
fn pixels_are_small_enough_for_a_mail() {
    let drawn = kinetic_plot::png::png(&svg(&slow_host(), Theme::Light)).expect("draws");
    assert!(drawn.starts_with(b"\x89PNG"));
    assert!(drawn.len() < 100 * 1024, "{} bytes", drawn.len());
    let no_svg = kinetic_plot::png::png("<svg xmlns='http://www.w3.org/2000/svg'").expect_err("no SVG");
    assert!(no_svg.to_string().contains("cannot be drawn"));
}
