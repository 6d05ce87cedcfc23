//! `kinetic up`: an installation in one process. Says what fails while the broker or the relay is away, and stops
//! cleanly when it is told to.

use std::path::Path;

use kinetic_amqp::{Address, Secret};
use kinetic_tests::http;
use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::process::{Launch, kinetic};
use kinetic_tests::schema::{Customer, Queues, SECRET, SchemaRepo, Watch, installation};
use kinetic_tests::smtp::SmtpCatcher;
use kinetic_tests::traffic::{Fleet, SLOW_HOST};
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, World};

use crate::common::{is_about, only_mails_about};

fn start(dir: &Path, remote: &str, more: &[String]) -> Node {
    let config = format!(
        "schema = \"{remote}\"\ndata_dir = \"data\"\nfetch_interval_s = 1\n\n[listen]\namqp = \"127.0.0.1:0\"\n\
         metrics = \"127.0.0.1:0\"\n\n[lease]\nttl_ms = 1500\ngrace_ms = 500\n"
    );
    std::fs::File::create(dir.join("kinetic.toml"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, config.as_bytes()))
        .expect("write");
    let launch =
        Launch::new(kinetic()).args(["up", "--config", &dir.to_string_lossy()]).args(more.iter().cloned());
    Node::start(launch, "up", dir)
}

#[test]
fn one_process_is_an_installation_and_stops_cleanly() {
    if !all_here("up::one_process_is_an_installation_and_stops_cleanly", &[Need::Git]) {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let mut relay = SmtpCatcher::start();
    let acme = Customer::acme(&[Watch::default()]);
    let schema = SchemaRepo::init(dir.path());
    schema.clear();
    schema.write(&installation("local", Queues::Classic, relay.address()));
    acme.files().iter().for_each(|file| schema.write(file));
    schema.push();
    let mut up = start(dir.path(), &schema.remote(), &[]);
    let broker = up.logged("broker listening", "address");
    up.wait_healthy();

    relay.go_down();
    let mut address = Address::from_url(&format!("amqp://{}@{broker}/local", acme.login())).expect("address");
    address.password = Secret::new(SECRET);
    let fleet = Fleet::start(address, "acme", "web");
    fleet.slow_down();
    let failing = up.wait_failing("mail");
    assert!(failing.contains("\"analyzer\":{\"ok\":true"), "only the mail fails: {failing}");
    relay.come_up();
    relay.wait_for("the mail after all", |mail| is_about(mail, SLOW_HOST));
    up.wait_healthy();
    only_mails_about(&relay, SLOW_HOST, 1);
    let samples = fleet.stop();
    let metrics = up.metrics();
    assert!(metrics.ends_with("# EOF\n"), "the exposition is whole: {metrics}");
    assert!(http::sum(&metrics, "kinetic_analyzer_samples_total") <= samples as f64, "{metrics}");

    let status = up.process.terminate();
    assert_eq!(status.code(), Some(0), "{}", up.process.log());
    up.heartbeat().expect_err("nobody answers any more");
}

#[test]
fn the_heartbeat_says_that_the_broker_is_away() {
    if !all_here("up::the_heartbeat_says_that_the_broker_is_away", &[Need::Git, Need::RabbitMq]) {
        return;
    }
    let acme = Customer::acme(&[Watch::default()]);
    let mut world = World::start(BrokerKind::OwnRabbitMq, &[acme]);
    let dir = world.dir().join("up");
    std::fs::create_dir(&dir).expect("make a folder");
    let mut up = start(&dir, &world.schema.remote(), &world.broker_words());
    up.wait_healthy();
    world.own_rabbit().kill();
    let failing = up.wait_failing("alert");
    assert!(failing.contains("broker"), "the reason is said: {failing}");
    world.own_rabbit().start_again();
    up.wait_healthy();
    let status = up.process.terminate();
    assert_eq!(status.code(), Some(0), "{}", up.process.log());
}
