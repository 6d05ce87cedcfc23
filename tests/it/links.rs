//! Somebody is mailed, follows the links in the mail as people, scanners and attackers do, and what he does stands after a
//! restart of the alert node, and is served by one that stands by.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kinetic_tests::amqp::Client;
use kinetic_tests::http::{self, Response};
use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::process::{Launch, kinetic, run};
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::smtp::Mail;
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, World};
use kinetic_wire::{Envelope, encode, names};

use crate::common::firing;

const ANN: &str = "ann@acme.example";
const BOB: &str = "bob@acme.example";
/// Where the schema says that links lead; what ends TLS there hands requests on to the node.
const PUBLIC: &str = "https://alerts.kinetic.example/k";

/// How long a client that says nothing may last: several times what it is given.
const CUT_OFF: Duration = Duration::from_secs(40);

fn fire(world: &World, host: &str) {
    let client = Client::start(world.control_address());
    client.publish(
        names::ALERTS,
        names::ALERTS,
        &Envelope::default(),
        &encode(&firing("acme", "hosts", host)),
    );
}

/// The paths of the links in a mail, as a proxy that strips no prefix hands them on: acknowledge, silence, unsubscribe.
fn links(mail: &Mail) -> Vec<String> {
    let text = mail.part("text/plain");
    let paths = text.lines().filter_map(|line| line.trim().strip_prefix("https://alerts.kinetic.example"));
    paths.map(str::to_owned).collect()
}

/// An alert node that serves links, and where.
fn node(world: &World, name: &str, more: &[&str]) -> (Node, SocketAddr) {
    let node = world.role("alert", name, &[&["--links-listen", "127.0.0.1:0"], more].concat());
    let address = node.logged("serving the links in mails", "address");
    (node, address)
}

fn post(server: SocketAddr, path: &str, body: &str) -> Response {
    http::request(server, "POST", path, None, body).expect("an answer")
}

/// What a command says about the alert node.
fn ask(world: &World, words: &[&str]) -> String {
    run(Launch::new(kinetic()).args(words.iter().copied()).args(world.broker_words()))
}

fn mail_to(world: &World, to: &str, about: &str) -> Mail {
    world.smtp.wait_for(&format!("a mail to {to} about {about}"), |mail| {
        mail.header("To") == Some(to) && mail.part("text/plain").contains(about)
    })
}

#[test]
fn what_a_mail_offers_is_done_by_its_links_and_stands() {
    let story = "what_a_mail_offers_is_done_by_its_links_and_stands";
    if !all_here(story, &[Need::Git]) {
        return;
    }
    let world = World::start(BrokerKind::Embedded, &[Customer::acme(&[Watch::default()])]);
    world.schema.rewrite("kinetic.hcl", "mail {\n", &format!("mail {{\n  public_url = \"{PUBLIC}\"\n"));
    world.schema.rewrite(
        "customers/acme/alerts.hcl",
        "  to              = [",
        &format!("  to              = [\"{ANN}\", \"{BOB}\"] # ["),
    );
    world.schema.push();
    let (alert, server) = node(&world, "alert", &[]);
    alert.wait_healthy();
    fire(&world, "web-1");
    let mail = mail_to(&world, ANN, "web-1");
    let paths = links(&mail);
    let [acknowledge, silence, unsubscribe] = &paths[..] else { panic!("{paths:?}") };
    let header = format!("<https://alerts.kinetic.example{unsubscribe}>");
    assert_eq!(mail.header("List-Unsubscribe"), Some(&*header));
    assert_eq!(mail.header("List-Unsubscribe-Post"), Some("List-Unsubscribe=One-Click"));

    // A scanner looks at everything, and nothing happens.
    for path in &paths {
        let page = http::get(server, path).expect("a page");
        assert!(page.status == 200 && page.body.contains("<form method=\"post\">"), "{path}: {page:?}");
    }
    assert!(http::get(server, acknowledge).expect("a page").body.contains("web-1"));
    assert!(ask(&world, &["episodes", "acme", "--json"]).contains("\"acknowledged\":null"));
    assert!(ask(&world, &["silence", "list"]).contains("no silences"));
    let slow = attacks(server, acknowledge);

    let done = post(server, acknowledge, "for=7200&reason=on+it");
    assert!(done.status == 200 && done.body.contains("Acknowledged"), "{done:?}");
    let episodes = ask(&world, &["episodes", "acme", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&episodes).expect("JSON");
    let state = &json["episodes"][0]["acknowledged"];
    assert_eq!(
        (state["author"].as_str(), state["reason"].as_str()),
        (Some(ANN), Some("on it")),
        "{episodes}"
    );
    assert_eq!(post(server, silence, "for=1800").status, 200);
    assert!(ask(&world, &["silence", "list", "acme"]).contains(ANN));

    // What a mail program sends by itself, in either form.
    assert_eq!(post(server, unsubscribe, "List-Unsubscribe=One-Click").status, 200);
    assert!(ask(&world, &["mail", "unsubscribed", "acme"]).contains(ANN));
    let last = post(server, &links(&mail_to(&world, BOB, "web-1"))[2], "List-Unsubscribe=One-Click");
    assert!(last.status == 409 && last.body.contains("You are the last who is told"), "{last:?}");

    for mut stream in slow {
        stream.set_read_timeout(Some(CUT_OFF)).expect("a socket");
        stream.read_to_end(&mut Vec::new()).expect("the server ends it");
    }

    // All of it stands after a restart; another node serves the same pages while this one leads.
    // Whoever reads the log cannot use a link.
    for path in &paths {
        let token = path.rsplit('/').next().expect("a token");
        assert!(!alert.process.log().contains(token), "{path}");
    }
    drop(alert);
    let (alert, server) = node(&world, "alert", &[]);
    alert.wait_healthy();
    assert!(http::get(server, acknowledge).expect("a page").body.contains(&format!("Acknowledged by {ANN}")));
    assert!(http::get(server, unsubscribe).expect("a page").body.contains("You are unsubscribed"));
    let history = world.dir().join("alert").join("history.sqlite");
    let (standby, other) = node(&world, "standby", &["--history", &history.to_string_lossy()]);
    assert!(http::get(other, unsubscribe).expect("a page").body.contains("You are unsubscribed"));
    assert_eq!(standby.metric("kinetic_alert_events_total"), 0, "it stands by");
    drop(standby);
    // Ann is put back; the silence ends, and what fires is news to her.
    ask(&world, &["mail", "subscribe", "acme", "web", ANN]);
    assert!(ask(&world, &["mail", "unsubscribed"]).contains("nobody has unsubscribed"));
}

/// Nothing of this gets an answer that helps, or holds up anybody else. Returns clients that never finish what they say.
fn attacks(server: SocketAddr, good: &str) -> Vec<TcpStream> {
    let mut slow: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(server).expect("connected")).collect();
    slow.iter_mut().for_each(|stream| stream.write_all(b"POST /k/l/").expect("written"));
    let swapped: String = good.chars().rev().collect();
    let forged = format!("/k/l/{}", swapped.trim_end_matches("/l/k/"));
    for path in [&*forged, &good[..good.len() - 1], "/k/l/", "/k/l/%2e%2e", "/", "/metrics"] {
        let looked = http::get(server, path).expect("an answer");
        let posted = post(server, path, "for=60");
        assert_eq!((looked.status, posted.status), (404, 404), "{path}: {looked:?}");
        assert!(!looked.body.contains("acme") && !looked.body.contains('@'), "{looked:?}");
    }
    assert_eq!(post(server, good, &"x".repeat(100_000)).status, 413);
    assert_eq!(post(server, good, "").status, 400);
    let put = http::request(server, "DELETE", good, None, "").expect("an answer");
    assert_eq!(put.status, 405);
    slow
}
