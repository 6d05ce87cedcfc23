//! A customer's own forms of mails, and what becomes of those that fail.

use kinetic_alert::{Email, Stats, preview};
use kinetic_schema::schema::Templates;
use kinetic_wire::{AlertState, Wall};

use crate::mail::event_with_trail;
use crate::world::{World, alert_block, config, event, schema};

/// The first mail about web-7 with these templates for subject, text and HTML.
fn mailed(origin: &str, [subject, text, html]: [Option<&str>; 3]) -> (Email, Stats) {
    let mut schema = schema(vec![alert_block("team", &["oncall@acme.example"])]);
    let [subject, text, html] = [subject, text, html].map(|source| source.map(str::to_owned));
    for customer in schema.customers.values_mut() {
        customer.templates = Templates { subject: subject.clone(), text: text.clone(), html: html.clone() };
    }
    let mut world = World::with(config(), schema);
    world.push_at(1.0, &event_with_trail(origin, 1));
    world.run_until(5.0);
    (world.inbox[0].1.clone(), world.stats())
}

#[test]
fn a_template_has_the_notification_at_hand() {
    let text = "{{ headline }}\n{% for feed in firing %}{{ feed.origin }} {{ feed.value }} of {{ feed.numbers.feeds }} feeds, \
                {{ feed.numbers.deviations|round(1) }}\n{% endfor %}\
                {{ customer }} {{ service }}/{{ cluster }} {{ analytic }} {{ severity }} {{ state }} {{ reason }} {{ mail_number }} \
                {{ firing_count }} {{ resolved_count }} {{ alert }} {{ nothing }}\n{{ episode }}\n{% for fact in facts %}{{ fact.label }};{% endfor %}";
    let html = "<html><body><h1>{{ headline }}</h1><img src=\"{{ picture.src }}\" alt=\"{{ picture.alt }}\" \
                width=\"{{ picture.width }}\"></body></html>";
    let (email, stats) =
        mailed("web-<7>", [Some("{{ service }}: {{ firing[0].origin }}"), Some(text), Some(html)]);
    assert_eq!(stats.templates_failed, 0, "{}", email.text);
    assert_eq!(email.subject, "checkout: web-<7>");
    insta::assert_snapshot!(email.text);
    assert!(
        email.html.contains("web-&lt;7&gt; in checkout") && !email.html.contains("<7>"),
        "{}",
        email.html
    );
    assert!(email.html.contains(&format!("src=\"cid:{}\"", email.picture_id())), "{}", email.html);
    assert!(email.plot.is_some());
}

#[test]
fn a_template_may_stand_around_the_usual_form() {
    let (plain, _) = mailed("web-7", [None; 3]);
    let (email, stats) = mailed(
        "web-7",
        [Some("[acme] {{ usual }}"), Some("Call 555.\n\n{{ usual }}"), Some("<p>Call 555.</p>{{ usual }}")],
    );
    assert_eq!(stats.templates_failed, 0);
    assert_eq!(email.subject, format!("[acme] {}", plain.subject));
    assert_eq!(email.text, format!("Call 555.\n\n{}", plain.text));
    assert_eq!(email.html, format!("<p>Call 555.</p>{}", plain.html));
    assert_eq!(email.plot, plain.plot);
}

#[test]
fn a_form_without_the_picture_does_not_carry_it() {
    let (email, stats) = mailed("web-7", [None, None, Some("<p>{{ headline }}</p>")]);
    assert_eq!((stats.templates_failed, email.plot), (0, None));
}

#[test]
fn a_template_that_fails_leaves_the_usual_form_and_a_note() {
    let (plain, _) = mailed("web-7", [None; 3]);
    // There is no range: loops over what is given, within each other.
    let nested = |levels: usize, inner: &str| {
        format!("{}{inner}{}", "{% for a in facts %}".repeat(levels), "{% endfor %}".repeat(levels))
    };
    let (endless, large) = (nested(12, ""), nested(6, &"0123456789".repeat(100)));
    for (what, broken, why) in [
        ("not read", "{% if %}", "unexpected"),
        ("not defined", "{{ nothing.at.all }}", "undefined"),
        ("endless", endless.as_str(), "fuel"),
        ("large", large.as_str(), "more than 98304 bytes"),
        ("empty", "{% if false %}x{% endif %}", "it writes nothing"),
        ("outside", "{% include '/etc/hostname' %}", ""),
    ] {
        let (email, stats) = mailed("web-7", [Some(broken), None, Some(broken)]);
        assert_eq!(stats.templates_failed, 2, "{what}");
        assert_eq!(email.subject, plain.subject, "{what}");
        assert!(email.text.starts_with(&plain.text), "{what}: {}", email.text);
        let note = &email.text[plain.text.len()..];
        assert!(
            note.contains("subject.j2 could not be used") && note.contains("html.j2 could not be used"),
            "{what}: {note}"
        );
        assert!(note.contains(why), "{what}: {note}");
        assert!(
            email.html.contains("subject.j2 could not be used") && email.html.contains("<img"),
            "{what}: {}",
            email.html
        );
        assert!(!note.contains("root:") && email.plot == plain.plot, "{what}");
    }
}

#[test]
fn what_a_template_writes_into_a_subject_stays_there() {
    let (email, _) =
        mailed("web-7", [Some("a\r\nBcc: x@elsewhere.example\n{{ firing[0].origin }}"), None, None]);
    assert!(!email.subject.chars().any(char::is_control), "{:?}", email.subject);
    assert!(email.subject.ends_with("web-7"), "{:?}", email.subject);
}

/// Nothing is known of the schema's topology here, so that nothing can be made up; a cluster is needed.
#[test]
fn a_preview_needs_something_to_show() {
    let at = Wall::from_secs(1_795_000_000);
    let schema = schema(vec![alert_block("team", &["oncall@acme.example"])]);
    let said = |customer: &str, alert| {
        preview(config(), &schema, &customer.into(), alert, at).expect_err("nothing to show").to_string()
    };
    assert_eq!(said("nobody", "team"), "there is no such customer");
    assert_eq!(said("acme", "nobody"), "there is no such alert; there is team");
    assert_eq!(said("acme", "team"), "it sends no mail");
    // The world's own events are mailed as ever.
    let mut world = World::with(config(), schema.clone());
    world.push_at(1.0, &event("web-7", AlertState::Firing, 1));
    world.run_until(5.0);
    assert_eq!(world.inbox.len(), 1);
}
