//! A Python script with pika: it publishes with its customer's key, and gets no further than its own exchange.

use kinetic_tests::process::{Launch, run};
use kinetic_tests::schema::{Customer, SECRET, Watch};
use kinetic_tests::tool::python_with;
use kinetic_tests::traffic::{SLOW_HOST, round};
use kinetic_tests::{BrokerKind, World};

use crate::common::{is_about, only_mails_about};

on_both_brokers!(a_pika_script_publishes_and_stays_in_its_exchange, Pika);

/// Publishes one round a tenth of a second for three seconds, then tries what its key must not do, each on a channel
/// of its own.
const SCRIPT: &str = r#"
import json, sys, time
import pika

host, port, vhost, login, secret, body = sys.argv[1:]
connection = pika.BlockingConnection(pika.ConnectionParameters(
    host=host, port=int(port), virtual_host=vhost, credentials=pika.PlainCredentials(login, secret)))
channel = connection.channel()
channel.confirm_delivery()
published = 0
for _ in range(30):
    channel.basic_publish("in.acme", "web", body.encode(), pika.BasicProperties(user_id=login), mandatory=True)
    published += len(body.splitlines())
    connection.process_data_events(0)
    time.sleep(0.1)

def refused(attempt):
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        attempt(channel)
        return None
    except pika.exceptions.ChannelClosedByBroker as error:
        return error.reply_code

print(json.dumps({
    "published": published,
    "foreign_exchange": refused(lambda c: c.basic_publish("in.globex", "web", b"x:1|c")),
    "default_exchange": refused(lambda c: c.basic_publish("", "src.acme.web", b"x:1|c")),
    "alerts": refused(lambda c: c.basic_publish("kin.alerts", "kin.alerts", b"{}")),
    "consume": refused(lambda c: c.basic_get("src.acme.web")),
    "declare": refused(lambda c: c.queue_declare("mine")),
    "another_name": refused(lambda c: c.basic_publish("in.acme", "web", b"x:1|c", pika.BasicProperties(user_id="globex.web"))),
}))
connection.close()
"#;

fn a_pika_script_publishes_and_stays_in_its_exchange(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default()]);
    let globex = Customer { name: "globex", ..acme.clone() };
    let world = World::start(kind, &[acme.clone(), globex]);
    let engine = world.engine();
    let (port, login) = (world.amqp().port().to_string(), acme.login());
    let python = python_with("pika").expect("asked before");
    let words = ["-c", SCRIPT, "127.0.0.1", &port, world.vhost(), &login, SECRET, &round(true)];
    let report: serde_json::Value =
        serde_json::from_str(&run(Launch::new(python).args(words))).expect("JSON");
    assert_eq!(report["published"], 240, "{report}");
    for forbidden in ["foreign_exchange", "default_exchange", "alerts", "consume", "declare"] {
        assert_eq!(report[forbidden], 403, "{forbidden}: {report}");
    }
    assert_eq!(report["another_name"], 406, "{report}");
    world.smtp.wait_for("a mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    only_mails_about(&world.smtp, SLOW_HOST, 1);
    assert_eq!(engine.analyzer.metric("kinetic_analyzer_samples_total"), 240);
}
