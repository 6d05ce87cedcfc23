//! `kinetic test-event`: the whole way to an accepted mail, and where it says that it stopped when something on the way is gone.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kinetic_tests::process::{Launch, kinetic};
use kinetic_tests::schema::{Customer, RECIPIENT, Watch};
use kinetic_tests::smtp::Mail;
use kinetic_tests::{BrokerKind, World, eventually};
use serde_json::Value;

on_both_brokers!(a_test_goes_the_whole_way);

/// What the command answers.
struct Answer {
    code: Option<i32>,
    said: Value,
}

impl Answer {
    /// Stages passed, in the order in which they were heard of.
    fn passed(&self) -> Vec<&str> {
        let stages = self.said["stages"].as_array().expect("stages");
        let passed = stages.iter().filter(|stage| stage["progress"] == "passed");
        passed.map(|stage| stage["stage"].as_str().expect("a name")).collect()
    }
}

fn command(world: &World, broker: &[String], more: &[&str]) -> Answer {
    let output = Launch::new(kinetic())
        .args(["test-event", "acme", "--schema", &world.schema.remote(), "--json"])
        .args(broker.iter().cloned())
        .args(more.iter().copied())
        .output();
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    Answer { code: output.status.code(), said }
}

fn test(world: &World, more: &[&str]) -> Answer {
    command(world, &world.broker_words(), more)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Tests until one has arrived: a customer's tests keep a distance, and a slow machine may need more than one.
fn arrives(world: &World, more: &[&str]) -> Answer {
    eventually("a test arrives", || {
        let answer = test(world, more);
        if answer.said["ok"] == true { Ok(answer) } else { Err(answer.said) }
    })
}

fn a_test_goes_the_whole_way(kind: BrokerKind) {
    // The routing key of the second source leads to the first one too, which is to pass its tests over.
    let split = Watch { name: "split", routing: "split.#", partitions: 2, ..Watch::default() };
    let acme = Customer::acme(&[Watch::default(), split]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let engine = world.engine();
    let answer = arrives(&world, &["--source", "web"]);
    assert_eq!(answer.code, Some(0));
    let stages = [
        "announced",
        "located",
        "published",
        "delivered",
        "decoded",
        "judged",
        "alerted",
        "stored",
        "grouped",
        "queued",
        "sending",
        "accepted",
    ];
    let mut passed = answer.passed();
    passed.sort_by_key(|stage| stages.iter().position(|known| known == stage));
    assert_eq!(passed, stages, "{}", answer.said);
    let trace = answer.said["trace"].as_str().expect("a trace id").to_owned();
    let is_meant = |mail: &Mail| mail.header("kinetic-trace") == Some(&*trace);
    let mail = world.smtp.wait_for("the test's mail", is_meant);
    assert_eq!(mail.to, [RECIPIENT]);
    assert!(mail.header("subject").is_some_and(|subject| subject.starts_with("[TEST] acme")), "{mail:?}");
    assert_eq!(mail.header("auto-submitted"), Some("auto-generated"));
    assert!(mail.part("text/plain").contains("Nothing is wrong"));
    let accepted = answer.said["stages"].as_array().and_then(|stages| stages.last()).expect("a last stage");
    let message_id = format!("<{}>", accepted["message_id"].as_str().expect("a Message-ID"));
    assert_eq!(mail.header("message-id"), Some(&*message_id));

    // A source in parts, as the customer, with a mailbox that no alert names.
    let (login, key) = (acme.login(), text(world.key_file()));
    let as_customer =
        ["--source", "split", "--login", &login, "--login-password-file", &key, "--to", "me@acme.example"];
    let answer = arrives(&world, &as_customer);
    let delivered = |stage: &&Value| stage["stage"] == "delivered";
    let deliveries: Vec<&Value> =
        answer.said["stages"].as_array().expect("stages").iter().filter(delivered).collect();
    assert_eq!(deliveries.len(), 1, "{}", answer.said);
    let by = deliveries[0]["detail"].as_str().expect("words");
    assert!(by.starts_with("owner of acme/split"), "{by}");
    let trace = answer.said["trace"].as_str().expect("a trace id").to_owned();
    let is_meant = |mail: &Mail| mail.header("kinetic-trace") == Some(&*trace);
    assert_eq!(world.smtp.wait_for("the test's mail", is_meant).to, ["me@acme.example"]);
    assert_eq!(engine.analyzer.metric("kinetic_analyzer_samples_total"), 0, "no test is data");
    assert_eq!(engine.alert.metric("kinetic_alert_events_total"), 0, "nor an alert");
}

/// Tests until one stops where it should: on a slow machine one may stop earlier.
fn stops(world: &World, at: &str, more: &[&str]) -> Value {
    eventually(&format!("a test stops at {at}"), || {
        let mut answer = test(world, &[&["--timeout", "3s"], more].concat());
        let stopped = answer.said["stopped"].take();
        if stopped["at"] == at {
            assert_eq!((answer.code, &answer.said["ok"]), (Some(1), &Value::Bool(false)));
            Ok(stopped)
        } else {
            Err(stopped)
        }
    })
}

#[test]
fn it_says_where_it_stopped() {
    let acme = Customer::acme(&[Watch::default()]);
    let mut world = World::start(BrokerKind::Embedded, std::slice::from_ref(&acme));
    let mut engine = world.engine();
    let why = |stopped: &Value| stopped["why"].as_str().expect("a reason").to_owned();

    let wrong: PathBuf = world.dir().join("wrong-key");
    let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&wrong);
    file.and_then(|mut file| file.write_all(b"wrong")).expect("write");
    let login = ["--login", &acme.login(), "--login-password-file", &text(&wrong)];
    let stopped = stops(&world, "published", &login);
    assert!(why(&stopped).contains("login acme.web refused by the broker"), "{stopped}");

    world.smtp.go_down();
    let stopped = stops(&world, "accepted", &[]);
    assert_eq!((&stopped["passed"], &stopped["awaited"]), (&"sending".into(), &"the mail relay".into()));
    assert!(why(&stopped).contains(RECIPIENT), "{stopped}");
    world.smtp.come_up();

    engine.alert.process.kill();
    let stopped = stops(&world, "stored", &[]);
    assert_eq!(stopped["passed"], "alerted");
    assert!(why(&stopped).starts_with("no alert node answers"), "{stopped}");

    engine.analyzer.process.kill();
    let stopped = stops(&world, "delivered", &[]);
    assert_eq!(stopped["passed"], "published");
    assert!(
        stopped["look"].as_str().is_some_and(|look| look.contains("kinetic map --customer acme")),
        "{stopped}"
    );

    let nowhere = ["--amqp".to_owned(), "amqp://kinetic@127.0.0.1:1/kinetic".to_owned()];
    let answer = command(&world, &nowhere, &["--timeout", "4s"]);
    assert_eq!(
        (answer.code, &answer.said["stopped"]["at"]),
        (Some(1), &"announced".into()),
        "{}",
        answer.said
    );
    assert!(world.smtp.mails().iter().all(|mail| mail.to == [RECIPIENT]));
}

/// The canary tests, says nothing as long as that works, alarms by itself when the alert node is gone, and says when it is back.
#[test]
fn the_canary_speaks_for_an_installation_that_cannot() {
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(BrokerKind::Embedded, std::slice::from_ref(&acme));
    let mut engine = world.engine();
    let launch = Launch::new(kinetic())
        .args(["canary", "acme", "--schema", &world.schema.remote()])
        .args(world.broker_words())
        .args(["--to", "canary@acme.example", "--alarm-to", "ops@kinetic.example"])
        .args(["--every", "2s", "--timeout", "3s", "--fails", "2"]);
    let mut canary = launch.start("canary", &world.dir().join("canary.log"));
    let subject = |mail: &Mail| mail.header("subject").unwrap_or_default().to_owned();
    let is_alarm = |mail: &Mail| mail.to == ["ops@kinetic.example"];
    world.smtp.wait_for("a test arrives", |mail| {
        mail.to == ["canary@acme.example"] && subject(mail).starts_with("[TEST]")
    });
    engine.alert.process.kill();
    let alarm = world.smtp.wait_for("the alarm", |mail| {
        is_alarm(mail) && mail.part("text/plain").contains("Stopped at stored")
    });
    assert!(subject(&alarm).starts_with("[CANARY] acme: alerting does not work"), "{alarm:?}");
    engine.alert = world.alert();
    let again = world.smtp.wait_for("all is well", |mail| {
        // One thread.
        is_alarm(mail) && mail.header("references") == alarm.header("references") && *mail != alarm
    });
    assert_eq!(subject(&again), "[CANARY] acme: alerting works again");
    assert_eq!(canary.terminate().code(), Some(0), "{}", canary.log());
}
