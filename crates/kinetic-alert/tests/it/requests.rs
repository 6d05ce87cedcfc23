//! Requests of operators: who may, what is refused, and that nothing is granted before it is on disk.

use kinetic_alert::Input;
use kinetic_wire::{AskSilence, EpisodesQuestion, SilencesQuestion, Unsilence, encode};
use serde_json::json;

use crate::quiet::{acknowledge, silence};
use crate::world::{World, alert_block};

fn world() -> World {
    World::new(vec![alert_block("team", &["oncall@acme.example"])])
}

#[test]
fn nothing_is_granted_before_it_is_on_disk() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.run_until(10.0);
    let silenced = world.ask("kinetic", "silence", &encode(&silence("s1", "*", 0.0, 900.0)));
    // Asked again, because the first answer is late: it is the same silence, and as little recorded.
    let again = world.ask("kinetic", "silence", &encode(&silence("s1", "*", 0.0, 900.0)));
    let acknowledged = world.ask("kinetic", "acknowledge", &encode(&acknowledge(900.0)));
    assert!(world.replies.is_empty(), "{:?}", world.replies);
    world.write(1);
    assert_eq!(world.replies.keys().collect::<Vec<_>>(), [&silenced, &again]);
    world.write(1);
    assert_eq!(world.replies[&acknowledged]["episode"]["acknowledged"]["author"], "ann");
    assert_eq!(world.replies[&silenced]["silenced"], 1);
    assert_eq!(world.replies[&silenced]["silence"], world.replies[&again]["silence"]);
    assert_eq!(world.stats().silences, 1);
}

#[test]
fn only_operators_are_heard() {
    let mut world = world();
    let body = encode(&silence("s1", "*", 0.0, 900.0));
    let customer = world.ask("acme.first", "silence", &body);
    world.input(Input::Request { token: Default::default(), kind: "silence", login: None, body: &body });
    world.settle();
    assert_eq!(world.replies[&customer]["code"], "unauthenticated");
    assert_eq!(world.replies[&Default::default()]["code"], "unauthenticated");
    assert_eq!((world.stats().silences, world.stats().requests_refused), (0, 2));
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let mut world = world();
    world.run_until(100.0);
    let mut refused = |change: fn(&mut AskSilence)| {
        let mut asked = silence("s1", "*", 0.0, 900.0);
        change(&mut asked);
        let reply = world.request("silence", &asked);
        assert_eq!(reply["ok"], false, "{reply}");
        format!("{}: {}", reply["code"].as_str().unwrap(), reply["message"].as_str().unwrap())
    };
    let said = [
        refused(|asked| asked.v = 2),
        refused(|asked| asked.silence.customer = "nobody".into()),
        refused(|asked| asked.silence.id = "../x".into()),
        refused(|asked| asked.silence.reason = " ".into()),
        refused(|asked| asked.silence.author = "a\nb".into()),
        refused(|asked| asked.silence.until_ms = asked.silence.from_ms + 99_000),
        refused(|asked| asked.silence.until_ms += 367 * 86_400_000),
        refused(|asked| asked.silence.metrics = vec!["a[".into()]),
        refused(|asked| asked.silence.services = vec!["a".into(); 51]),
    ];
    insta::assert_snapshot!(said.join("\n"), @r#"
    version: this alert node speaks version 1
    unknown_customer: the schema has no customer of this name
    invalid: the name of a silence is of 1 to 40 letters, digits and dashes
    invalid: the reason is missing
    invalid: the author holds control characters
    invalid: it would end before it begins
    invalid: a silence ends within 366 days; what is never to be told belongs out of the schema
    invalid: error parsing glob 'a[': unclosed character class; missing ']'
    invalid: a silence has at most 50 globs of services
    "#);
    let reply = world.request("acknowledge", &acknowledge(900.0));
    assert_eq!(reply["code"], "unknown_episode", "{reply}");
    world.fire(200.0, "web-7");
    let mut other = acknowledge(900.0);
    other.episode_ms = Some(5);
    assert_eq!(world.request("acknowledge", &other)["code"], "unknown_episode");
    assert_eq!(world.request("acknowledge", &acknowledge(150.0))["code"], "invalid");
    assert_eq!(world.request("acknowledge", &acknowledge(8.0 * 86_400.0))["code"], "invalid");
    let unsilence = Unsilence { v: 1, customer: "acme".into(), id: "s9".into(), author: "ann".into() };
    assert_eq!(world.request("unsilence", &unsilence)["code"], "unknown_silence");
    assert_eq!(world.request("nonsense", &json!({"v": 1}))["code"], "malformed");
    assert_eq!(world.request("episodes", &json!({"v": 1, "after": "x"}))["code"], "invalid");
}

#[test]
fn a_customers_silences_are_bounded_and_listed_by_pages() {
    let mut world = world();
    for n in 0..200 {
        assert_eq!(world.request("silence", &silence(&format!("s{n}"), "*", 0.0, 900.0))["ok"], true);
    }
    assert_eq!(world.request("silence", &silence("one-more", "*", 0.0, 900.0))["code"], "overload");
    assert_eq!((world.stats().silences, world.stats().silences_refused), (200, 1));
    let mut of_nodes = silence("nodes", "*", 0.0, 900.0);
    of_nodes.silence.customer = "kinetic".into();
    assert_eq!(world.request("silence", &of_nodes)["ok"], true);
    let all = SilencesQuestion { v: 1, customer: None, after: None };
    let first = world.request("silences", &all);
    assert_eq!(first["silences"].as_array().unwrap().len(), 200);
    let after = serde_json::from_value(first["next"].clone()).unwrap();
    let rest = world.request("silences", &SilencesQuestion { after, ..all.clone() });
    assert_eq!((rest["silences"][0]["id"].as_str(), &rest["next"]), (Some("nodes"), &json!(null)));
    let own = world.request("silences", &SilencesQuestion { customer: Some("kinetic".into()), ..all });
    assert_eq!(own["silences"].as_array().unwrap().len(), 1);
    // They end, and there is room again.
    world.run_until(1_000.0);
    assert_eq!(world.stats().silences, 0);
    assert_eq!(world.request("silence", &silence("one-more", "*", 0.0, 2_000.0))["ok"], true);
}

#[test]
fn episodes_say_what_fires_and_who_was_told() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.fire(1.0, "web-8");
    world.run_until(10.0);
    world.request("silence", &silence("s1", "web-8", 0.0, 900.0));
    world.request("acknowledge", &acknowledge(900.0));
    let all = EpisodesQuestion { v: 1, ..EpisodesQuestion::default() };
    let reply = world.request("episodes", &all);
    let episode = &reply["episodes"][0];
    let acknowledged = &episode["acknowledged"];
    assert_eq!((&acknowledged["author"], &acknowledged["reason"]), (&json!("ann"), &json!("on it")));
    assert_eq!((&episode["firing"], &episode["silenced"]), (&json!(2), &json!(1)));
    let feed = |n: usize| (&episode["feeds"][n]["origin"], &episode["feeds"][n]["silenced"]);
    assert_eq!((feed(0), feed(1)), ((&json!("web-8"), &json!(true)), (&json!("web-7"), &json!(false))));
    let told = json!([{
        "alert": "team", "to": "oncall@acme.example", "escalation": false, "told": 2, "on_its_way": false,
        "mailed_ms": 1_795_176_002_000_i64, "folded_under": null,
        // Acknowledged until then.
        "next_reason": "repeat_interval_elapsed", "next_ms": 1_795_176_900_000_i64,
    }]);
    assert_eq!(episode["told"], told);
    assert_eq!(reply["next"], json!(null));
    let others = EpisodesQuestion { customer: Some("bolt".into()), ..all.clone() };
    assert_eq!(world.request("episodes", &others)["episodes"], json!([]));
    let after = EpisodesQuestion { after: Some("acme/slow-host/checkout/frontends".into()), ..all };
    assert_eq!(world.request("episodes", &after)["episodes"], json!([]));
}
