//! What a customer with a key can try against another and against the installation, by real clients that misbehave. All
//! attacks share one world for each broker, in which a victim goes on publishing; `docs/security.md` names the table.

use kinetic_tests::process::{Launch, run};
use kinetic_tests::schema::{Customer, RECIPIENT, SECRET, Watch};
use kinetic_tests::tool::python_with;
use kinetic_tests::traffic::{Fleet, SLOW_HOST};
use kinetic_tests::world::Engine;
use kinetic_tests::{BrokerKind, World, eventually};
use serde_json::Value;

use crate::common::{is_about, only_mails_about};

on_both_brokers!(nobody_gets_at_another, Pika);

/// Where the attacker's own alerts go.
const ATTACKERS_MAILBOX: &str = "mallory@attacker.example";
/// AMQP by hand.
const RAW: &str = include_str!("attacks/raw.py");
/// Messages that no library would send.
const POISON: &str = include_str!("attacks/poison.py");

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
    poison(&scene);
    fleet.slow_down();
    scene.world.smtp.wait_for("a mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    only_mails_about(&scene.world.smtp, SLOW_HOST, 1);
    let published = fleet.stop();
    eventually("all of the victim's samples are counted", || {
        let counted = scene.engine.analyzer.metric("kinetic_analyzer_samples_total");
        if counted >= published { Ok(()) } else { Err((counted, published)) }
    });
}

/// Names that are no text, and headers of tables within tables. The embedded broker takes neither; RabbitMQ hands both on, and
/// whoever reads them lives.
fn poison(scene: &Scene) {
    let report = scene.script(&format!("{RAW}{POISON}"), &["in.attacker"]);
    scene.all_stands("poison");
    let outcomes: Vec<&Value> = report.as_object().expect("an object").values().collect();
    if scene.is_embedded() {
        assert!(outcomes.iter().all(|outcome| **outcome != "ack"), "{report}");
    } else {
        assert!(outcomes.iter().all(|outcome| **outcome == "ack"), "{report}");
        for (node, at_least) in [(&scene.engine.redirector, 5), (&scene.engine.analyzer, 6)] {
            eventually("the poison was seen and made harmless", || {
                let mended = node.metric("kinetic_amqp_mended_total");
                if mended >= at_least { Ok(()) } else { Err(mended) }
            });
        }
    }
}
