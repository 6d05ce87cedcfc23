//! Links in mails: what they do, for whom, until when, and what they do not.

use std::sync::Arc;
use std::time::Duration;

use kinetic_alert::{AlertConfig, Email, Input};
use kinetic_schema::schema::{self, Escalation, GroupBy, Schema};
use kinetic_wire::{
    AlertState, FollowLink, LinkAct, Subscribe, Subscription, UnsubscribedQuestion, Unsuppress, encode,
};
use serde_json::{Value, json};

use crate::places::{PLACES, schema_of};
use crate::watchdog::{live, watchdog};
use crate::world::{Relay, World, alert_block, config, event_of, header};

pub(crate) const ANN: &str = "Ann <ann@acme.example>";
pub(crate) const BOB: &str = "bob@acme.example";

pub(crate) fn schema(alerts: Vec<schema::Alert>, public_url: Option<&str>) -> Schema {
    let mut schema = crate::world::schema(alerts);
    schema.mail.as_mut().unwrap().public_url = public_url.map(str::to_owned);
    schema
}

/// Ann and Bob are told, and links lead somewhere.
fn world() -> World {
    let block = alert_block("team", &[ANN, BOB]);
    let mut world = World::with(config(), schema(vec![block], Some("https://alerts.acme.example")));
    // Real clocks tell more than a token has room for.
    world.now.wall.0 += 123_456;
    world
}

/// Where the links of a mail lead, in order: acknowledge, silence, unsubscribe.
pub(crate) fn links(email: &Email) -> Vec<&str> {
    email.text.lines().filter(|line| line.starts_with("http") && line.contains("/l/")).collect()
}

pub(crate) fn last<'w>(world: &'w World, to: &str) -> &'w Email {
    &world.inbox.iter().rfind(|(_, email)| email.to == to).expect("a mail").1
}

/// The token of the n-th link in the last mail to somebody.
fn token(world: &World, to: &str, n: usize) -> String {
    links(last(world, to))[n].rsplit('/').next().unwrap().to_owned()
}

fn look(world: &mut World, token: &str) -> Value {
    world.request("link", &FollowLink { v: 1, token: token.into(), act: None })
}

pub(crate) fn act(world: &mut World, token: &str, for_s: Option<u64>, reason: Option<&str>) -> Value {
    let act = LinkAct { for_s, reason: reason.map(str::to_owned) };
    world.request("link", &FollowLink { v: 1, token: token.into(), act: Some(act) })
}

fn told(world: &World, to: &str) -> usize {
    world.inbox.iter().filter(|(_, email)| email.to == to).count()
}

#[test]
fn a_mail_says_what_can_be_done_and_where() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.run_until(5.0);
    let email = last(&world, ANN).clone();
    let urls = links(&email);
    assert_eq!(urls.len(), 3, "{}", email.text);
    for url in &urls {
        assert_eq!(url.strip_prefix("https://alerts.acme.example/l/").map(str::len), Some(48), "{url}");
        assert!(url.len() <= 78, "{url}");
        assert_eq!(email.html.matches(&format!("href=\"{url}\"")).count(), 1, "{}", email.html);
    }
    assert!(email.text.contains(&format!("\nAcknowledge:\n{}\n", urls[0])), "{}", email.text);
    assert!(email.text.contains(&format!("\nSilence 2 h:\n{}\n", urls[1])), "{}", email.text);
    assert_eq!(header(&email, "List-Unsubscribe"), format!("<{}>", urls[2]));
    assert_eq!(header(&email, "List-Unsubscribe-Post"), "List-Unsubscribe=One-Click");
    // No two recipients have the same, and none tells who he is.
    let bob = last(&world, BOB);
    assert!(links(bob).iter().all(|url| !urls.contains(url)));
    // The end of it leaves nothing to take care of.
    world.resolve(100.0, "web-7");
    world.run_until(120.0);
    let end = last(&world, ANN);
    assert_eq!((links(end).len(), links(end)[0].len()), (1, urls[2].len()));
    assert_eq!(header(end, "List-Unsubscribe"), format!("<{}>", links(end)[0]));
}

#[test]
fn links_that_lead_nowhere_are_not_in_mails() {
    let mails = |config: AlertConfig, public_url| {
        let mut world = World::with(config, schema(vec![alert_block("team", &[ANN])], public_url));
        world.fire(1.0, "web-7");
        world.run_until(5.0);
        last(&world, ANN).clone()
    };
    let https = Some("https://alerts.acme.example");
    for email in [mails(config(), None), mails(AlertConfig { serves_links: false, ..config() }, https)] {
        assert!(links(&email).is_empty() && !email.html.contains("href"), "{}", email.text);
        assert_eq!(header(&email, "List-Unsubscribe"), "");
    }
    // On this machine alone there is no TLS, and so no one-click by a mail program.
    let local = mails(config(), Some("http://127.0.0.1:8080/k"));
    assert!(header(&local, "List-Unsubscribe").starts_with("<http://127.0.0.1:8080/k/l/"));
    assert_eq!(header(&local, "List-Unsubscribe-Post"), "");
}

#[test]
fn a_link_acknowledges_when_it_is_used_and_not_when_it_is_looked_at() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.run_until(5.0);
    let token = token(&world, ANN, 0);
    let records = world.disk.len();
    let page = look(&mut world, &token);
    assert_eq!(
        (&page["ok"], &page["action"], &page["acted"]),
        (&json!(true), &json!("acknowledge"), &json!(false))
    );
    assert_eq!(
        (&page["to"], &page["alert"], &page["customer"]),
        (&json!(ANN), &json!("team"), &json!("acme"))
    );
    assert_eq!(page["episode"]["feeds"][0]["origin"], "web-7");
    // Who else is told is not for whoever has the link.
    assert_eq!(page["episode"]["told"], json!([]));
    assert_eq!(page["episode"]["acknowledged"], Value::Null);
    assert_eq!(world.disk.len(), records, "{}", world.story());
    let done = act(&mut world, &token, Some(3_600), Some("on it"));
    assert_eq!(done["acted"], true, "{done}");
    assert_eq!(done["episode"]["acknowledged"]["author"], "ann@acme.example");
    assert_eq!(done["episode"]["acknowledged"]["reason"], "on it");
    // The block repeats every ten minutes; for an hour it does not. A restart changes nothing of that.
    world.run_until(1_000.0);
    world.crash(usize::MAX);
    world.run_until(3_600.0);
    assert_eq!(told(&world, ANN), 1, "{}", world.mails());
    assert_eq!(look(&mut world, &token)["episode"]["acknowledged"]["reason"], "on it");
    world.run_until(3_700.0);
    assert_eq!(told(&world, ANN), 2, "{}", world.mails());
    // Without words and end it has the usual ones.
    let done = act(&mut world, &token, None, Some("  "));
    assert_eq!(done["episode"]["acknowledged"]["reason"], "by the link in the mail");
    let until = done["episode"]["acknowledged"]["until_ms"].as_i64().unwrap();
    assert_eq!(until - done["now_ms"].as_i64().unwrap(), 4 * 3_600_000);
    assert_eq!(world.stats().acknowledgements, 1);
    assert_eq!((world.stats().links_seen, world.stats().links_acted), (1, 1));
}

#[test]
fn nothing_is_said_to_be_done_before_it_is_on_disk() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.run_until(5.0);
    for n in 0..3 {
        let token = token(&world, ANN, n);
        let asked = FollowLink { v: 1, token, act: Some(LinkAct::default()) };
        let ticket = world.ask("kinetic", "link", &encode(&asked));
        assert!(world.replies.is_empty(), "{:?}", world.replies);
        world.settle();
        assert_eq!(world.replies.remove(&ticket).unwrap()["acted"], true);
    }
}

#[test]
fn tokens_of_others_are_refused_and_counted() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.run_until(5.0);
    let own = token(&world, ANN, 0);
    // Another installation's, for the very same episode.
    let mut other = World::with(AlertConfig { id_key: [8; 32], ..config() }, (*world.schema).clone());
    other.fire(1.0, "web-7");
    other.run_until(5.0);
    let foreign = token(&other, ANN, 0);
    let mut cut = own.clone();
    cut.truncate(47);
    let forged = format!("{}{}", &own[..40], &foreign[40..]);
    for token in [&foreign, &cut, &forged, "", "../../etc/passwd", &"A".repeat(4_000)] {
        for reply in [look(&mut world, token), act(&mut world, token, None, None)] {
            assert_eq!(reply["code"], "bad_link", "{reply}");
        }
    }
    assert_eq!((world.stats().links_forged, world.stats().links_acted), (12, 0));
    // A customer's login may not even ask.
    let asked = encode(&FollowLink { v: 1, token: own.clone(), act: Some(LinkAct::default()) });
    let ticket = world.ask("acme.first", "link", &asked);
    world.settle();
    assert_eq!(world.replies[&ticket]["code"], "unauthenticated");
    assert_eq!(look(&mut world, &own)["episode"]["acknowledged"], Value::Null);
    world.run_until(8.0 * 86_400.0);
    assert_eq!(look(&mut world, &own)["code"], "expired_link");
    assert_eq!(world.stats().links_expired, 1);
}

#[test]
fn what_fuzzing_began_with_is_refused() {
    for seed in [
        include_bytes!("../../../../fuzz/seeds/links/token").as_slice(),
        include_bytes!("../../../../fuzz/seeds/links/changes").as_slice(),
    ] {
        kinetic_alert::fuzz_link(seed);
        let mut state = 1_u32;
        for _ in 0..2_000 {
            let mut bytes = seed.to_vec();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % bytes.len();
                bytes[at] = (state >> 24) as u8;
            }
            kinetic_alert::fuzz_link(&bytes);
        }
    }
}

#[test]
fn a_link_is_about_the_episode_of_its_mail_alone() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.run_until(5.0);
    let (acknowledge, silence) = (token(&world, ANN, 0), token(&world, ANN, 1));
    world.resolve(100.0, "web-7");
    world.run_until(120.0);
    for token in [&acknowledge, &silence] {
        assert_eq!(act(&mut world, token, None, None)["code"], "unknown_episode");
    }
    // The next episode is not acknowledged by the mail about the last, neither before nor after it is mailed.
    world.fire(200.0, "web-7");
    assert_eq!(act(&mut world, &acknowledge, None, None)["code"], "unknown_episode");
    world.run_until(203.0);
    assert_eq!(told(&world, ANN), 3, "{}", world.mails());
    assert_eq!(act(&mut world, &acknowledge, None, None)["code"], "unknown_episode");
    let fresh = token(&world, ANN, 0);
    assert_eq!(act(&mut world, &fresh, None, None)["acted"], true);
    // A feed that flaps between two mails does not end what its reader believes to go on: the link goes on too.
    world.resolve(204.0, "web-7");
    world.fire(205.0, "web-7");
    assert_eq!(told(&world, ANN), 3, "{}", world.mails());
    assert_eq!(act(&mut world, &fresh, None, None)["acted"], true);
}

#[test]
fn a_link_silences_what_fires_in_its_group_and_can_be_used_again() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.run_until(5.0);
    let token = token(&world, BOB, 1);
    let page = look(&mut world, &token);
    assert_eq!((&page["silenced"], &page["silence"]["services"]), (&json!(false), &json!(["checkout"])));
    assert_eq!(world.stats().silences, 0);
    let done = act(&mut world, &token, Some(1_800), Some("disk swap"));
    assert_eq!((&done["acted"], &done["silenced"]), (&json!(true), &json!(true)), "{done}");
    let silence = &done["silence"];
    assert_eq!((&silence["clusters"], &silence["analytics"]), (&json!(["frontends"]), &json!(["slow-host"])));
    assert_eq!((&silence["author"], &silence["reason"]), (&json!(BOB), &json!("disk swap")));
    assert_eq!(silence["until_ms"].as_i64().unwrap() - done["now_ms"].as_i64().unwrap(), 1_800_000);
    assert_eq!(done["episode"]["silenced"], 1);
    // Used again: the same silence with another end, not a second one.
    world.run_until(100.0);
    assert_eq!(look(&mut world, &token)["silence"]["reason"], "disk swap");
    let again = act(&mut world, &token, Some(600), None);
    assert_eq!((&again["silence"]["id"], world.stats().silences), (&silence["id"], 1));
    world.fire(200.0, "web-8");
    world.run_until(650.0);
    assert_eq!(told(&world, BOB), 1, "{}", world.mails());
    world.run_until(800.0);
    assert_eq!(told(&world, BOB), 2, "{}", world.mails());
    let too_long = act(&mut world, &token, Some(86_401), None);
    assert_eq!(too_long["code"], "invalid");
    assert_eq!(act(&mut world, &token, Some(u64::MAX), None)["code"], "invalid");
    assert_eq!(act(&mut world, &token, None, Some("a\nb"))["code"], "invalid");
}

pub(crate) fn unsubscribed(world: &mut World) -> Value {
    world.request("unsubscribed", &UnsubscribedQuestion { v: 1, customer: None, after: None })
}

pub(crate) fn ann() -> Subscription {
    Subscription { customer: "acme".into(), alert: "team".into(), to: ANN.into() }
}

#[test]
fn who_unsubscribes_is_told_no_more_until_somebody_puts_him_back() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.run_until(5.0);
    let token = token(&world, ANN, 2);
    assert_eq!(look(&mut world, &token)["unsubscribed"], false);
    let done = act(&mut world, &token, None, None);
    assert_eq!((&done["acted"], &done["unsubscribed"]), (&json!(true), &json!(true)), "{done}");
    // Twice is once.
    let records = world.disk.len();
    assert_eq!(act(&mut world, &token, None, None)["unsubscribed"], true);
    assert_eq!(world.disk.len(), records, "{}", world.story());
    assert_eq!(unsubscribed(&mut world)["unsubscribed"][0]["to"], ANN);
    // Who is told no more may still take care of what goes on.
    let acknowledge = self::token(&world, ANN, 0);
    assert_eq!(act(&mut world, &acknowledge, Some(60), None)["acted"], true);
    world.fire(10.0, "web-8");
    // For longer than history is replayed, twice, each time with a restart.
    for day in 1..=20 {
        world.run_until(f64::from(day) * 86_400.0);
        if day % 9 == 0 {
            let since = world.now.wall.as_ms() - 8 * 86_400_000;
            world.disk.retain(|(_, record)| record.at().as_ms() >= since);
            world.crash(usize::MAX);
        }
        world.fire(f64::from(day) * 86_400.0 + 60.0, "web-9");
    }
    world.run_until(20.0 * 86_400.0 + 600.0);
    assert_eq!(told(&world, ANN), 1, "{}", world.mails());
    assert!(told(&world, BOB) > 20, "{}", world.mails());
    assert_eq!(look(&mut world, &token)["unsubscribed"], true);
    // Back: what fires is news to her.
    let asked = Subscribe { v: 1, subscription: ann(), author: "bob".into() };
    assert_eq!(world.request("subscribe", &asked)["unsubscription"]["to"], ANN);
    assert_eq!(world.request("subscribe", &asked)["code"], "unknown_subscription");
    world.run_until(20.0 * 86_400.0 + 900.0);
    assert_eq!(header(last(&world, ANN), "X-Kinetic-Reason"), "first_firing");
    world.crash(usize::MAX);
    world.run_until(20.0 * 86_400.0 + 1_000.0);
    assert_eq!(
        (unsubscribed(&mut world)["unsubscribed"].clone(), world.stats().unsubscribed),
        (json!([]), 0)
    );
}

#[test]
fn a_block_never_comes_to_tell_nobody() {
    let mut world = world();
    world.fire(1.0, "web-7");
    world.run_until(5.0);
    let (ann_leaves, bob_leaves) = (token(&world, ANN, 2), token(&world, BOB, 2));
    assert_eq!(act(&mut world, &ann_leaves, None, None)["unsubscribed"], true);
    let refused = act(&mut world, &bob_leaves, None, None);
    assert_eq!(refused["code"], "last_recipient", "{refused}");
    assert_eq!(world.stats().unsubscribes_refused, 1);
    // The schema drops the one who stayed: Ann is told again, though she has left.
    let only_ann = alert_block("team", &[ANN]);
    world.schema = Arc::new(schema(vec![only_ann], Some("https://alerts.acme.example")));
    world.input(Input::SchemaChanged { schema: Arc::clone(&world.schema) });
    world.run_until(60.0);
    assert_eq!(told(&world, ANN), 2, "{}", world.mails());
    assert_eq!(unsubscribed(&mut world)["unsubscribed"][0]["overruled"], true);
    // Bob comes back, and she has left again.
    world.schema =
        Arc::new(schema(vec![alert_block("team", &[ANN, BOB])], Some("https://alerts.acme.example")));
    world.input(Input::SchemaChanged { schema: Arc::clone(&world.schema) });
    world.run_until(2_000.0);
    assert_eq!(told(&world, ANN), 2, "{}", world.mails());
    assert_eq!(unsubscribed(&mut world)["unsubscribed"][0]["overruled"], false);
    // Whom the schema names no more is forgotten; who names her again means it.
    world.schema = Arc::new(schema(vec![alert_block("team", &[BOB])], Some("https://alerts.acme.example")));
    world.input(Input::SchemaChanged { schema: Arc::clone(&world.schema) });
    world.settle();
    assert_eq!(act(&mut world, &ann_leaves, None, None)["code"], "unknown_subscription");
    assert_eq!(unsubscribed(&mut world)["unsubscribed"], json!([]));
    world.schema =
        Arc::new(schema(vec![alert_block("team", &[ANN, BOB])], Some("https://alerts.acme.example")));
    world.input(Input::SchemaChanged { schema: Arc::clone(&world.schema) });
    world.run_until(2_100.0);
    assert_eq!(told(&world, ANN), 3, "{}", world.mails());
}

#[test]
fn who_leaves_one_block_is_told_by_the_others() {
    let blocks = vec![alert_block("team", &[ANN, BOB]), alert_block("all", &[ANN, BOB])];
    let mut world = World::with(config(), schema(blocks, Some("https://alerts.acme.example")));
    world.fire(1.0, "web-7");
    world.run_until(5.0);
    let team =
        world.inbox.iter().find(|(_, email)| email.to == ANN && header(email, "List-Id").contains("<team."));
    let token = links(&team.unwrap().1)[2].rsplit('/').next().unwrap().to_owned();
    assert_eq!(act(&mut world, &token, None, None)["alert"], "team");
    world.fire(20.0, "web-8");
    world.run_until(60.0);
    assert_eq!((told(&world, ANN), told(&world, BOB)), (3, 4), "{}", world.mails());
    assert!(header(last(&world, ANN), "List-Id").contains("<all."));
}

#[test]
fn a_customers_link_does_nothing_to_another() {
    let mut both = schema(vec![alert_block("team", &[ANN, BOB])], Some("https://alerts.acme.example"));
    let mut shop = both.customers[&"acme".into()].clone();
    shop.name = "shop".into();
    both.customers.insert("shop".into(), shop);
    let mut world = World::with(config(), both);
    world.push(&event_of("acme", "web-7", "checkout.latency", AlertState::Firing, 0));
    world.push(&event_of("shop", "web-7", "checkout.latency", AlertState::Firing, 0));
    world.run_until(5.0);
    let of = |world: &World, customer: &str, n: usize| {
        let is = |email: &Email| email.to == ANN && header(email, "X-Kinetic-Customer") == customer;
        let email = &world.inbox.iter().find(|(_, email)| is(email)).expect("a mail").1;
        links(email)[n].rsplit('/').next().unwrap().to_owned()
    };
    for n in 0..3 {
        let token = of(&world, "shop", n);
        assert_eq!(act(&mut world, &token, None, None)["customer"], "shop");
    }
    for n in 0..3 {
        let token = of(&world, "acme", n);
        let page = look(&mut world, &token);
        let untouched = (&page["episode"]["acknowledged"], &page["silenced"], &page["unsubscribed"]);
        assert_eq!(untouched.0, &Value::Null, "{page}");
        assert_eq!((untouched.1, untouched.2), (&json!(false), &json!(false)), "{page}");
    }
}

#[test]
fn a_link_in_a_mail_about_a_service_is_about_all_that_fires_there() {
    let team = schema::Alert {
        analytics: Vec::new(),
        group_by: GroupBy::Service,
        ..alert_block("team", &[ANN, BOB])
    };
    let mut schema = schema_of(&PLACES, vec![team]);
    schema.mail.as_mut().unwrap().public_url = Some("https://alerts.acme.example".into());
    let mut world = World::with(config(), schema);
    world.fire_at(1.0, "checkout/frontends/web-1");
    world.fire_at(1.0, "full-disk:checkout/workers/w-1");
    world.run_until(5.0);
    let (acknowledge, silence) = (token(&world, ANN, 0), token(&world, ANN, 1));
    let done = act(&mut world, &acknowledge, None, None);
    assert_eq!(
        (&done["episode"]["group"], &done["episode"]["firing"]),
        (&json!("acme/@team/checkout/*"), &json!(2))
    );
    assert_eq!(done["episode"]["acknowledged"]["author"], "ann@acme.example");
    let done = act(&mut world, &silence, None, None);
    let meant = &done["silence"];
    assert_eq!(
        (&meant["services"], &meant["clusters"], &meant["analytics"]),
        (&json!(["checkout"]), &json!(["frontends", "workers"]), &json!(["full-disk", "slow-host"]))
    );
    assert_eq!(done["episode"]["silenced"], 2);
}

#[test]
fn those_who_are_told_later_do_not_count_as_somebody_who_is_told() {
    let escalations = vec![Escalation { after: Duration::from_secs(60), to: vec![BOB.into()] }];
    let block = schema::Alert { escalations, ..alert_block("team", &[ANN]) };
    let mut world = World::with(config(), schema(vec![block], Some("https://alerts.acme.example")));
    world.fire(1.0, "web-7");
    world.run_until(100.0);
    assert_eq!((told(&world, ANN), told(&world, BOB)), (1, 1), "{}", world.mails());
    // An escalation begins with what the first are told; without them nobody would ever be.
    let (ann, bob) = (token(&world, ANN, 2), token(&world, BOB, 2));
    assert_eq!(act(&mut world, &ann, None, None)["code"], "last_recipient");
    assert_eq!(act(&mut world, &bob, None, None)["unsubscribed"], true);
    world.run_until(2_000.0);
    assert_eq!((told(&world, ANN), told(&world, BOB)), (4, 1), "{}", world.mails());
}

#[test]
fn who_is_left_must_be_one_whom_mail_reaches() {
    let mut world = world();
    world.mailboxes.insert(BOB.into(), Relay::RefusesRecipient);
    world.fire(1.0, "web-7");
    world.fire(20.0, "web-8");
    world.run_until(60.0);
    assert_eq!(world.stats().suppressed, 1, "{}", world.story());
    let ann = token(&world, ANN, 2);
    assert_eq!(act(&mut world, &ann, None, None)["code"], "last_recipient");
    let lift = Unsuppress { v: 1, address: BOB.into(), author: "ops".into() };
    assert_eq!(world.request("unsuppress", &lift)["ok"], true);
    assert_eq!(act(&mut world, &ann, None, None)["unsubscribed"], true);
}

#[test]
fn the_mails_about_silent_nodes_have_links_too() {
    let mut schema = schema(Vec::new(), Some("https://alerts.acme.example"));
    let to = vec![ANN.to_owned(), BOB.to_owned()];
    schema.watchdog = Some(schema::Watchdog { to, ..watchdog() });
    let mut world = World::with(config(), schema);
    world.input(Input::AliveSubscribed);
    live(&mut world, &["a7", "a8"], 10.0);
    live(&mut world, &["a8"], 100.0);
    let tokens: Vec<String> = (0..3).map(|n| token(&world, ANN, n)).collect();
    let acknowledged = act(&mut world, &tokens[0], None, None);
    assert_eq!(acknowledged["episode"]["feeds"][0]["origin"], "a7", "{acknowledged}");
    assert_eq!(act(&mut world, &tokens[1], None, None)["silence"]["customer"], "kinetic");
    let left = act(&mut world, &tokens[2], None, None);
    assert_eq!(
        (&left["customer"], &left["alert"], &left["unsubscribed"]),
        (&json!("kinetic"), &json!("watchdog"), &json!(true))
    );
    let bob = token(&world, BOB, 2);
    assert_eq!(act(&mut world, &bob, None, None)["code"], "last_recipient");
    live(&mut world, &["a7"], 7_500.0);
    assert_eq!(told(&world, ANN), 1, "{}", world.mails());
    assert!(told(&world, BOB) > 1, "{}", world.mails());
}
