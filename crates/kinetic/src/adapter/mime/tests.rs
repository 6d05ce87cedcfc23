//! What goes over the wire, read by another parser than ours.

use kinetic_alert::Email;
use kinetic_plot::{Plot, Point};
use kinetic_wire::{Direction, Wall};
use mail_parser::{MessageParser, MimeHeaders};

use super::*;

fn email() -> Email {
    Email {
        message_id: "k1.acme.0.1.1.aa@kinetic.example".into(),
        from: "Kinetic <alerts@kinetic.example>".into(),
        to: "oncall@acme.example".into(),
        envelope_from: None,
        subject: "[FIRING] façade".into(),
        date: Wall::from_secs(1_795_159_693),
        headers: vec![
            ("Auto-Submitted".into(), "auto-generated".into()),
            (
                "List-Unsubscribe".into(),
                "<https://kinetic.example/u/0123456789abcdef0123456789abcdef>".into(),
            ),
        ],
        text: "web-7 is slow\n".into(),
        html: "<p>web-7 is slow <img src=\"cid:plot.k1.acme.0.1.1.aa@kinetic.example\"></p>".into(),
        plot: None,
        post: None,
    }
}

/// As many points as a mail's picture has (`POINTS_MAX` of kinetic-alert), and as restless.
fn full_plot() -> Plot {
    let point = |k: i32| Point {
        end_ms: 1_795_000_000_000 + i64::from(k) * 10_000,
        value: Some(100.0 + 90.0 * f64::from(k * 7 % 11)),
        mean: 300.0 + 80.0 * f64::from(k).sin(),
        deviation: 50.0 + 30.0 * f64::from(k).cos(),
    };
    Plot {
        feed: "web-7.frontends.checkout.very-long-name.acme.example".into(),
        metric: "checkout.latency;region=eu-west mean".into(),
        feeds: 1_200,
        deviations: 3.0,
        direction: Direction::Both,
        points: (0..60).map(point).collect(),
    }
}

#[test]
fn every_header_arrives_and_the_date_is_utc() {
    let formed = formed(&email(), None).expect("builds");
    let text = String::from_utf8(formed.bytes).expect("ascii");
    for line in [
        "Message-ID: <k1.acme.0.1.1.aa@kinetic.example>\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "Date: Fri, 20 Nov 2026 07:28:13 +0000\r\n",
        "To: oncall@acme.example\r\n",
    ] {
        assert!(text.contains(line), "{line} not in {text}");
    }
    assert!(text.contains("Subject: [FIRING] =?utf-8?"), "{text}");
    assert!(!text.contains("multipart/related"), "{text}");
    assert_eq!(formed.to.to_string(), "oncall@acme.example");
    assert_eq!(formed.from.to_string(), "alerts@kinetic.example");
}

#[test]
fn what_cannot_be_delivered_comes_back_to_the_mailbox_of_bounces() {
    let email = Email { envelope_from: Some("bounces+00ff@kinetic.example".into()), ..email() };
    let formed = formed(&email, None).expect("builds");
    assert_eq!(formed.from.to_string(), "bounces+00ff@kinetic.example");
    assert!(!String::from_utf8(formed.bytes).expect("ascii").contains("bounces"));
}

#[test]
fn the_picture_stands_beside_the_html_and_is_named_by_it() {
    let email = Email { plot: Some(full_plot()), ..email() };
    let bytes = formed(&email, None).expect("builds").bytes;
    let message = MessageParser::default().parse(&bytes).expect("parses");
    let kinds: Vec<String> = message
        .parts
        .iter()
        .map(|part| {
            part.content_type().map_or_else(String::new, |kind| {
                format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default())
            })
        })
        .collect();
    assert_eq!(kinds, ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"]);
    let picture = &message.parts[4];
    assert_eq!(picture.content_id(), Some(email.picture_id().as_str()));
    assert!(message.body_html(0).expect("html").contains(&format!("cid:{}", email.picture_id())));
    assert_eq!(picture.content_disposition().map(|kind| kind.ctype()), Some("inline"));
    let png = picture.contents();
    assert!(png.starts_with(b"\x89PNG"), "{:?}", &png[..8]);
    assert!(png.len() <= 100_000, "{} bytes", png.len());
}
