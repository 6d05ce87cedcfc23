//! What a customer with a key can try against another and against the installation, by real clients that misbehave. All
//! attacks share one world for each broker, in which a victim goes on publishing; `docs/security.md` names the table.

use kinetic_tests::process::{Launch, run};
use kinetic_tests::schema::{Customer, RECIPIENT, SECRET, Watch};
use kinetic_tests::tool::python_with;
use kinetic_tests::traffic::{Fleet, HOSTS, SLOW_HOST};
use kinetic_tests::world::Engine;
use kinetic_tests::{BrokerKind, World, eventually};
use serde_json::Value;

use crate::common::is_about;

on_both_brokers!(nobody_gets_at_another, Pika);

/// Where the attacker's own alerts go.
const ATTACKERS_MAILBOX: &str = "mallory@attacker.example";
/// AMQP by hand.
const RAW: &str = include_str!("attacks/raw.py");
/// Messages that no library would send.
const POISON: &str = include_str!("attacks/poison.py");
/// What a key can ask of a broker.
const BROKER: &str = include_str!("attacks/broker.py");
/// Requests to the redirector and the alert node.
const REQUESTS: &str = include_str!("attacks/requests.py");
/// Hosts and metrics with names that are to be misread.
const NAMES: &str = include_str!("attacks/names.py");
/// Bodies that are larger than they look.
const BOMBS: &str = include_str!("attacks/bombs.py");
/// What the bombs may add to the largest memory that the analyzer has ever had.
const BOMB_BYTES_MAX: u64 = 200 << 20;

/// The world of the attacks.
struct Scene {
    kind: BrokerKind,
    /// Before the world, whose folder holds its logs.
    engine: Engine,
    world: World,
    victim: Customer,
    attacker: Customer,
}

impl Scene {
    fn begin(kind: BrokerKind) -> Self {
        let victim = Customer::acme(&[Watch::default()]);
        let attacker = Customer { name: "attacker", ..victim.clone() };
        let world = World::start(kind, &[victim.clone(), attacker.clone()]);
        for (path, text) in attacker.files() {
            world.schema.write(&(path, text.replace(RECIPIENT, ATTACKERS_MAILBOX)));
        }
        world.schema.push();
        let engine = world.engine();
        Self { kind, world, engine, victim, attacker }
    }

    fn is_embedded(&self) -> bool {
        self.kind == BrokerKind::Embedded
    }

    /// Runs a script with the attacker's key; returns what it prints.
    fn script(&self, text: &str, more: &[&str]) -> Value {
        let python = python_with("pika").expect("asked before");
        let (port, login) = (self.world.amqp().port().to_string(), self.attacker.login());
        let words = ["-c", text, "127.0.0.1", &port, self.world.vhost(), &login, SECRET];
        let printed = run(Launch::new(python).args(words).args(more.iter().copied()));
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// One of the analyzer's numbers about a customer, over all reasons.
    fn of_customer(&self, name: &str, customer: &str) -> u64 {
        let (name, label) = (format!("kinetic_analyzer_{name}{{"), format!("customer=\"{customer}\""));
        let metrics = self.engine.analyzer.metrics();
        let lines = metrics.lines().filter(|line| line.starts_with(&name) && line.contains(&label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// The most memory that the analyzer has had.
    #[expect(clippy::disallowed_methods, reason = "a story looks at the process that it is about")]
    fn analyzer_peak_bytes(&self) -> u64 {
        let status = format!("/proc/{}/status", self.engine.analyzer.process.id());
        let status = std::fs::read_to_string(status).expect("the analyzer runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux says it");
        1024 * line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    }

    /// The victim has its own eight feeds, nothing refused, one mail, and no claim against it.
    fn victim_is_untouched(&self) {
        eventually("the victim has its own feeds and no other", || {
            match self.of_customer("series", "acme") {
                feeds if feeds == HOSTS.len() as u64 => Ok(()),
                other => Err(other),
            }
        });
        assert_eq!(self.of_customer("rejects_total", "acme"), 0);
        assert_eq!(self.of_customer("security_events_total", "acme"), 0);
        let mails: Vec<_> =
            self.world.smtp.mails().into_iter().filter(|mail| mail.to == [RECIPIENT]).collect();
        assert!(mails.iter().all(|mail| is_about(mail, SLOW_HOST)), "{mails:?}");
    }

    /// Whatever names were logged, each line is one event.
    fn logs_are_lines(&self) {
        for node in [&self.engine.redirector, &self.engine.analyzer, &self.engine.alert] {
            for line in node.process.log().lines() {
                let event = serde_json::from_str::<Value>(line);
                assert!(event.is_ok_and(|event| event["timestamp"].is_string()), "{line}");
            }
        }
    }

    /// The victim is told where to publish, and every part of the installation is as it was.
    fn all_stands(&self, after: &str) {
        eventually(&format!("the victim is answered after {after}"), || {
            let said = self.world.locate(&self.victim);
            if said.status.success() { Ok(()) } else { Err(said) }
        });
        for node in [&self.engine.redirector, &self.engine.analyzer, &self.engine.alert] {
            node.wait_healthy();
        }
    }
}

fn nobody_gets_at_another(kind: BrokerKind) {
    let scene = Scene::begin(kind);
    let fleet = Fleet::start(scene.world.customer_address(&scene.victim), "acme", "web");
    fleet.flow(16);
    broker(&scene);
    requests(&scene);
    poison(&scene);
    bombs(&scene);
    names_in_mail(&scene);
    fleet.slow_down();
    scene.world.smtp.wait_for("a mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    // While its feeds still speak: an owner that is slow for once begins anew, and knows none that are silent.
    scene.victim_is_untouched();
    let published = fleet.stop();
    eventually("all of the victim's samples are counted", || {
        let counted = scene.engine.analyzer.metric("kinetic_analyzer_samples_total");
        if counted >= published { Ok(()) } else { Err((counted, published)) }
    });
    scene.logs_are_lines();
}

/// Every operation on what is another's, or the installation's, is refused; what is granted stays within the attacker's own.
fn broker(scene: &Scene) {
    let report = scene.script(BROKER, &[&scene.victim.login()]);
    let refused = report["refused"].as_object().expect("an object");
    let granted = refused.iter().filter(|(what, code)| match what.as_str() {
        "another's login" | "the installation's login" | "kin.rpc as the installation" => **code != 406,
        // Neither is a name that exists.
        what if what.contains("line end") => !code.is_number(),
        _ => **code != 403,
    });
    let granted: Vec<_> = granted.collect();
    assert!(granted.is_empty(), "granted: {granted:?}");
    // RabbitMQ tells everybody who can log in whether a queue exists and how deep it is: docs/security.md says so.
    let embedded = |code: u64| if scene.is_embedded() { Value::from(code) } else { Value::Null };
    assert_eq!(report["passive"], embedded(403), "{report}");
    // RabbitMQ routes by them on the exchange that was published to, where the keys of others lead nowhere.
    assert_eq!(report["cc"], embedded(403), "{report}");
    for own in ["own", "forged_claim"] {
        assert_eq!(report[own], Value::Null, "{own}: {report}");
    }
    if !scene.is_embedded() {
        eventually("a copy to other keys is a security event", || {
            match scene.of_customer("security_events_total", "attacker\",kind=\"copied") {
                1.. => Ok(()),
                _ => Err(scene.engine.analyzer.metrics()),
            }
        });
    }
    eventually("a claim to be another is a security event of who made it", || {
        match scene.of_customer("security_events_total", "attacker") {
            1.. => Ok(()),
            none => Err(none),
        }
    });
    scene.all_stands("attempts at the broker");
}

/// A customer may write to `kin.rpc`, with any routing key: nothing but `locate`, about itself, is granted, and answers go only
/// to who listens for them.
fn requests(scene: &Scene) {
    let report = scene.script(REQUESTS, &[]);
    let answers = report["answers"].as_object().expect("an object");
    let returned: Vec<&str> =
        report["returned"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for (question, answer) in answers {
        match question.as_str() {
            "locate" | "last" => {
                assert_eq!(answer["customer"], "attacker", "{question}: {answer}");
            }
            _ => assert_eq!(answer["code"], "unauthenticated", "{question}: {answer}"),
        }
    }
    assert!(answers.contains_key("last") && answers.contains_key("locate without a login"), "{report}");
    if scene.is_embedded() {
        // The control vhost is one of its own there, which no customer can open.
        assert_eq!(returned.len(), 36, "{returned:?}");
    } else {
        assert_eq!((answers.len(), returned.len()), (39, 0), "{report}");
        eventually("the alert node has counted what it refused", || {
            let refused = scene.engine.alert.metric("kinetic_alert_requests_refused_total");
            if refused == 24 { Ok(()) } else { Err(refused) }
        });
    }
    assert_eq!(scene.engine.alert.metric("kinetic_alert_silences"), 0);
    assert_eq!(scene.engine.redirector.log_count("a message in kin.leader is no token; removing it"), 0);
    assert_eq!(scene.engine.alert.metric("kinetic_alert_malformed_total"), 0);
    scene.all_stands("forged requests");
}

/// Names that are no text, and headers of tables within tables. The embedded broker takes neither; RabbitMQ hands both on, and
/// whoever reads them lives.
fn poison(scene: &Scene) {
    let report = scene.script(&format!("{RAW}{POISON}"), &["in.attacker"]);
    scene.all_stands("poison");
    let outcomes: Vec<&Value> = report.as_object().expect("an object").values().collect();
    if scene.is_embedded() {
        assert!(outcomes.iter().all(|outcome| **outcome != "ack"), "{report}");
        return;
    }
    assert!(outcomes.iter().all(|outcome| **outcome == "ack"), "{report}");
    for (node, at_least) in [(&scene.engine.redirector, 5), (&scene.engine.analyzer, 6)] {
        eventually("the poison was seen and made harmless", || {
            let mended = node.metric("kinetic_amqp_mended_total");
            if mended >= at_least { Ok(()) } else { Err(mended) }
        });
    }
}

/// Bodies that inflate, or hold more names than anybody has: refused or cut off by the attacker's own bounds, at a bounded cost.
fn bombs(scene: &Scene) {
    let before = scene.analyzer_peak_bytes();
    let report = scene.script(&format!("{RAW}{BOMBS}"), &["in.attacker"]);
    eventually("the bombs were refused", || match scene.of_customer("rejects_total", "attacker") {
        5.. => Ok(()),
        few => Err((few, report.clone(), scene.engine.analyzer.metrics())),
    });
    scene.all_stands("bombs");
    let grown = scene.analyzer_peak_bytes().saturating_sub(before);
    assert!(grown < BOMB_BYTES_MAX, "the analyzer has grown by {} MiB", grown >> 20);
}

/// A mail about a host whose name is HTML, an encoded word, and far too long; one whose name holds line ends is none.
fn names_in_mail(scene: &Scene) {
    let publish = |origin: &str, metric: &str| {
        scene.script(NAMES, &["in.attacker", origin, metric, "2"]);
    };
    publish("web-7\r\nBcc: oncall@acme.example\r\nX-Evil: 1\r\n\r\n<script>", "lat\rX-Evil: 1");
    let evil = format!("web-<script>alert(1)</script>=?utf-8?q?=0d=0aX-Evil:_1?=\u{202e}{}", "ü".repeat(150));
    publish(&evil, "lat<img src=x onerror=alert(1)>");
    let mail = scene.world.smtp.wait_for("a mail about the host with the evil name", |mail| {
        mail.to == [ATTACKERS_MAILBOX] && mail.part("text/plain").contains("alert(1)")
    });
    for mail in scene.world.smtp.mails().iter().filter(|mail| mail.to != [RECIPIENT]) {
        assert_eq!(mail.to, [ATTACKERS_MAILBOX]);
        for (name, value) in &mail.headers {
            let evil = name.eq_ignore_ascii_case("bcc") || name.eq_ignore_ascii_case("x-evil");
            assert!(!evil && !value.contains(['\r', '\n']), "{name}: {value}");
        }
        let (text, html) = (mail.part("text/plain"), mail.part("text/html"));
        assert!(!html.contains("<script>alert") && !html.contains("<img src=x"), "{html}");
        let steers = |c: char| c == '\u{202e}' || (c.is_control() && !"\r\n\t".contains(c));
        assert!(!text.contains(steers) && !html.contains(steers), "{text}");
    }
    let html = mail.part("text/html");
    assert!(html.contains("&lt;script&gt;alert(1)"), "{html}");
}
