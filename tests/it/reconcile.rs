//! A RabbitMQ is made as the schema wants it, and kept so, through its management API: nobody makes logins by hand.

use kinetic_tests::amqp::Client;
use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::process::{Launch, kinetic};
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{SLOW_HOST, envelope, round, wall_now};
use kinetic_tests::{World, eventually};
use kinetic_wire::Envelope;

use crate::common::is_about;

fn customer(name: &'static str) -> Customer {
    Customer { name, watches: vec![Watch::default()] }
}

/// `kinetic plan` or `kinetic reconcile`.
fn asked(world: &World, words: &[&str]) -> Launch {
    let schema = world.schema.remote();
    Launch::new(kinetic()).args(words.iter().copied()).args([schema]).args(world.broker_words())
}

/// Its exit code, and what it says.
fn said(world: &World, words: &[&str]) -> (Option<i32>, String) {
    let output = asked(world, words).output();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

/// As many customers as make a run long enough to be killed in its midst.
fn many(world: &World) {
    let one = |index: u32| {
        let hash = "6b696e31".repeat(9);
        format!(
            "customer \"many-{index}\" {{\n  region = region.local\n  key \"web\" {{\n    salted_sha256 = \"{hash}\"\n  }}\n}}\n"
        )
    };
    world.schema.write(&("many.hcl".to_owned(), (0..150).map(one).collect()));
    world.schema.push();
}

#[test]
fn an_empty_rabbit_serves_a_customer_after_one_command() {
    if !all_here("reconcile::an_empty_rabbit", &[Need::Git, Need::RabbitMq]) {
        return;
    }
    let fresh = customer("fresh");
    let world = World::start_bare(std::slice::from_ref(&fresh));
    let rabbit = world.rabbit().expect("it is one");
    many(&world);
    let (code, text) = said(&world, &["plan"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("create exchange in.fresh in ") && text.contains("(customer fresh is new)"),
        "{text}"
    );
    let mut run =
        asked(&world, &["reconcile", "--yes"]).start("reconcile", &world.dir().join("reconcile.log"));
    let ingress = format!("/api/exchanges/{}/in.fresh", world.vhost());
    eventually("it has begun", || {
        let answer = rabbit.api("GET", &ingress, "");
        if answer.status == 200 { Ok(()) } else { Err(answer.body) }
    });
    run.kill();
    let half = said(&world, &["plan"]);
    assert_eq!(half.0, Some(2), "killed, and yet nothing is left to do: {}", half.1);
    let (code, text) = said(&world, &["reconcile", "--yes"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = said(&world, &["plan"]);
    assert_eq!(code, Some(0), "{text}");
    let engine = world.engine();
    let client = Client::start(world.customer_address(&fresh));
    eventually("the slow host is mailed about", || {
        client.publish("in.fresh", "web", &envelope(), round(true).as_bytes());
        if world.smtp.mails().is_empty() { Err(engine.analyzer.metrics()) } else { Ok(()) }
    });
    world.smtp.wait_for("a mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    let metrics = engine.redirector.metrics();
    assert!(engine.redirector.metric("kinetic_reconciler_runs_total") >= 1, "{metrics}");
    assert_eq!(
        engine.redirector.metric("kinetic_reconciler_steps_total"),
        0,
        "nodes want the same: {metrics}"
    );
}

#[test]
fn a_key_that_a_push_takes_away_is_cut_off_within_seconds() {
    if !all_here("reconcile::a_key_that_a_push", &[Need::Git, Need::RabbitMq]) {
        return;
    }
    let (leaving, staying) = (customer("leaving"), customer("staying"));
    let world = World::start_bare(&[leaving.clone(), staying.clone()]);
    let (rabbit, vhost) = (world.rabbit().expect("it is one"), world.vhost().to_owned());
    let (code, text) = said(&world, &["reconcile", "--yes"]);
    assert_eq!(code, Some(0), "{text}");
    rabbit.operate_in(&vhost);
    let by_hand = [
        ("users/leaving.hand", r#"{"password": "by hand", "tags": ""}"#.to_owned()),
        (&format!("queues/{vhost}/src.hand.web"), r#"{"durable": true}"#.to_owned()),
        (&format!("exchanges/{vhost}/in.hand"), r#"{"type": "topic"}"#.to_owned()),
    ]
    .map(|(path, body)| {
        let path = format!("/api/{path}");
        assert_eq!(rabbit.api("PUT", &path, &body).status, 201, "{path}");
        path
    });
    let redirector = world.redirector();
    let clients = [&leaving, &staying].map(|customer| Client::start(world.customer_address(customer)));
    clients[0].publish("in.leaving", "web", &Envelope::default(), b"a:1|c");
    clients[1].publish("in.staying", "web", &Envelope::default(), b"a:1|c");
    let connections = |login: &str| rabbit.api("GET", &format!("/api/connections/username/{login}"), "").body;
    let stays = connections("staying.web");
    assert!(connections("leaving.web").contains("leaving.web") && stays.contains("staying.web"));

    // A tool that may declare its exchange may delete it as well.
    let ingress = format!("/api/exchanges/{vhost}/in.staying");
    assert_eq!(rabbit.api("DELETE", &ingress, "").status, 204);
    let (path, text) = leaving.files().remove(0);
    let key = &text[text.find("  key \"web\"").expect("its key")..text.rfind('}').expect("the end")];
    world.schema.rewrite(&path, key, "");
    world.schema.push();
    let pushed_ms = wall_now().as_ms();
    eventually("the connection is closed, and the login gone", || {
        let login = rabbit.api("GET", "/api/users/leaving.web", "").status;
        let connections = connections("leaving.web");
        if login == 404 && !connections.contains("leaving.web") {
            Ok(())
        } else {
            Err((login, connections, redirector.process.log()))
        }
    });
    kinetic_tests::needs::say(&format!("cut off {} ms after the push", wall_now().as_ms() - pushed_ms));
    eventually("the exchange is there again, and bound", || {
        let bound = rabbit.api("GET", &format!("{ingress}/bindings/source"), "");
        if bound.body.contains("src.staying.web") { Ok(()) } else { Err(bound.body) }
    });
    clients[1].publish("in.staying", "web", &Envelope::default(), b"a:1|c");
    let port = |listed: &str| listed.split("\"peer_port\":").nth(1).map(|rest| rest[..4].to_owned());
    assert_eq!(port(&connections("staying.web")), port(&stays), "the other is still the same connection");
    for path in by_hand {
        assert_eq!(rabbit.api("GET", &path, "").status, 200, "{path} is as somebody has made it");
    }
}
