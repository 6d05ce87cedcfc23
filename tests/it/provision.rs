//! Analyzers that nobody started by hand: the redirector has them started when there is work, replaces those that die,
//! retires those that are idle, and takes its children with it when it ends.
#![expect(
    clippy::disallowed_methods,
    reason = "looks at processes and at what a script has noted, outside any adapter"
)]

use std::path::{Path, PathBuf};

use kinetic_tests::amqp::queue_depth;
use kinetic_tests::docker::Engine;
use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::process::{Launch, kinetic, run};
use kinetic_tests::schema::Customer;
use kinetic_tests::schema::Watch;
use kinetic_tests::traffic::{Fleet, SLOW_HOST};
use kinetic_tests::world::Node;
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::{is_about, only_mails_about};

on_both_brokers!(a_child_is_started_replaced_and_taken_along);
on_both_brokers!(a_child_is_retired_when_another_can_do_its_work);
on_both_brokers!(commands_start_an_analyzer_for_work_and_stop_it_when_others_can_do_it);

const QUEUE: &str = "src.acme.web";

/// An installation with a provisioner and no analyzer.
fn world(kind: BrokerKind, provisioner: &str) -> (World, Customer) {
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    provision(&world, provisioner);
    (world, acme)
}

/// Pushes another provisioner.
fn provision(world: &World, provisioner: &str) {
    world.schema.write(&("provisioner.hcl".to_owned(), provisioner.to_owned()));
    world.schema.push();
}

fn wait_for_an_owner(world: &World) {
    eventually("the source has an owner", || match queue_depth(&world.region_address(), QUEUE) {
        Some(depth) if depth.consumers > 0 => Ok(()),
        other => Err(other),
    });
}

/// Process ids of the children that a redirector says it has started, in order.
fn children(redirector: &Node) -> Vec<u64> {
    let log = redirector.process.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let started = lines.filter(|line| line["fields"]["message"] == "started a child process");
    started.filter_map(|line| line["fields"]["pid"].as_u64()).collect()
}

/// Waits for the n-th child.
fn child(redirector: &Node, index: usize) -> u64 {
    eventually("a child is started", || {
        children(redirector).get(index).copied().ok_or_else(|| redirector.process.log())
    })
}

fn lives(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn wait_for_the_end(pid: u64) {
    eventually("the child ends", || if lives(pid) { Err(pid) } else { Ok(()) });
}

fn kill(pid: u64) {
    run(Launch::new("/bin/sh").args(["-c".to_owned(), format!("kill -s KILL {pid}")]));
}

const PROCESS: &str =
    "provisioner \"process\" {\n  min            = 1\n  max            = 2\n  scale_up_after = \"1s\"\n}\n";

fn a_child_is_started_replaced_and_taken_along(kind: BrokerKind) {
    let (world, acme) = world(kind, PROCESS);
    let _alert = world.alert();
    let mut redirector = world.redirector();
    let first = child(&redirector, 0);
    wait_for_an_owner(&world);
    let fleet = Fleet::start(world.customer_address(&acme), "acme", "web");
    fleet.flow(80);
    fleet.slow_down();
    world.smtp.wait_for("a mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    kill(first);
    let second = child(&redirector, 1);
    eventually("another registers", || {
        let log = redirector.metric("kinetic_provision_actions_total");
        let (running, owned) = (
            redirector.metric("kinetic_provision_running"),
            redirector.metric("kinetic_redirector_sources_owned"),
        );
        if (running, owned) == (1, 1) && log >= 3 { Ok(()) } else { Err(redirector.metrics()) }
    });
    eventually("what waited is taken", || match queue_depth(&world.region_address(), QUEUE) {
        Some(depth) if depth.consumers > 0 && depth.messages == 0 => Ok(()),
        other => Err(other),
    });
    fleet.flow(80);
    drop(fleet);
    only_mails_about(&world.smtp, SLOW_HOST, 1);
    assert_eq!(children(&redirector).len(), 2, "one is enough");
    assert!(redirector.process.terminate().success(), "{}", redirector.process.log());
    assert!(!lives(second), "children end before their parent");
    assert_eq!(redirector.log_count("did not end in time and is killed"), 0, "{}", redirector.process.log());
}

/// A source without an owner has a child started. Then there is another analyzer, which has nothing to do: the child gives its
/// source up and ends. Once the other is gone, there is a child again.
fn a_child_is_retired_when_another_can_do_its_work(kind: BrokerKind) {
    let (world, acme) = world(
        kind,
        "provisioner \"process\" {\n  max            = 2\n  scale_up_after = \"1s\"\n  idle_after     = \"1s\"\n  cool_down      = \
         \"3s\"\n}\n",
    );
    let _alert = world.alert();
    let redirector = world.redirector();
    let first = child(&redirector, 0);
    wait_for_an_owner(&world);
    let fleet = Fleet::start(world.customer_address(&acme), "acme", "web");
    fleet.flow(80);
    let by_hand = world.analyzer("by-hand");
    wait_for_the_end(first);
    eventually("the other has its source, and nobody is waited for", || {
        let numbers = [
            by_hand.metric("kinetic_analyzer_sources"),
            redirector.metric("kinetic_redirector_analyzers"),
            redirector.metric("kinetic_provision_running"),
        ];
        if numbers == [1, 1, 0] { Ok(()) } else { Err(numbers) }
    });
    fleet.slow_down();
    world.smtp.wait_for("a mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    assert_eq!(children(&redirector), [first], "nobody else was started");
    assert_eq!(redirector.log_count("did not end in time and is killed"), 0, "it left in good order");
    drop(by_hand);
    let second = child(&redirector, 1);
    eventually("another child is in use", || {
        let owned = redirector.metric("kinetic_redirector_sources_owned");
        let running = redirector.metric("kinetic_provision_running");
        if (owned, running) == (1, 1) { Ok(()) } else { Err(redirector.metrics()) }
    });
    fleet.flow(80);
    drop(fleet);
    eventually("what waited is taken", || match queue_depth(&world.region_address(), QUEUE) {
        Some(depth) if depth.consumers > 0 && depth.messages == 0 => Ok(()),
        other => Err(other),
    });
    only_mails_about(&world.smtp, SLOW_HOST, 1);
    assert!(lives(second));
}

#[test]
fn a_child_does_not_outlive_a_parent_that_is_killed() {
    if !all_here(module_path!(), &[Need::Git]) {
        return;
    }
    let (world, _acme) = world(BrokerKind::Embedded, PROCESS);
    let mut redirector = world.redirector();
    let first = child(&redirector, 0);
    wait_for_an_owner(&world);
    redirector.process.kill();
    // By itself: the next parent would find it and end it.
    wait_for_the_end(first);
    let mut redirector = world.redirector();
    let second = child(&redirector, 0);
    assert_ne!(first, second);
    eventually("the new parent's child is in use", || {
        let owned = redirector.metric("kinetic_redirector_sources_owned");
        let running = redirector.metric("kinetic_provision_running");
        if (owned, running) == (1, 1) { Ok(()) } else { Err(redirector.metrics()) }
    });
    assert!(redirector.process.terminate().success());
    wait_for_the_end(second);
}

#[test]
fn a_dry_run_only_says_what_it_would_do() {
    if !all_here(module_path!(), &[Need::Git]) {
        return;
    }
    let (world, _acme) = world(BrokerKind::Embedded, PROCESS);
    let redirector = world.role("redirector", "redirector", &["--provision", "dry-run"]);
    eventually("it says so", || match redirector.log_count("dry run: this would be done") {
        0 => Err(redirector.process.log()),
        _ => Ok(()),
    });
    assert!(
        redirector
            .metrics()
            .contains("kinetic_provision_actions_total{action=\"start\",outcome=\"planned\"} 1")
    );
    assert_eq!((children(&redirector), redirector.metric("kinetic_provision_running")), (Vec::new(), 0));
}

/// Ends what a script has started, whatever becomes of the story.
struct Started(PathBuf);

impl Drop for Started {
    fn drop(&mut self) {
        for pid in std::fs::read_to_string(&self.0).unwrap_or_default().lines() {
            // Most of them have ended in good order.
            drop(Launch::new("/bin/sh").args(["-c".to_owned(), format!("kill -s TERM {pid}")]).output());
        }
    }
}

/// A script that notes how it is called, and starts and stops analyzers as an operator's would.
fn script(dir: &Path) -> PathBuf {
    let text = format!(
        "#!/bin/sh\nset -e\ncd {dir}\necho \"$KINETIC_ACTION $1\" >> calls\ncase $KINETIC_ACTION in\nstart)\n  \
         timeout 300 {kinetic} analyzer --amqp \"$KINETIC_AMQP\" --password-file \"$KINETIC_PASSWORD_FILE\" --schema \
         \"$KINETIC_SCHEMA\" --data-dir {dir}/$1 --node $1 > $1.log 2>&1 &\n  echo $! | tee -a pids > $1.pid ;;\nstop) kill -s TERM \
         $(cat $1.pid) ;;\nesac\n",
        dir = dir.display(),
        kinetic = kinetic().display()
    );
    let path = dir.join("provision.sh");
    std::fs::write(&path, text).expect("write");
    path
}

fn commands_start_an_analyzer_for_work_and_stop_it_when_others_can_do_it(kind: BrokerKind) {
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(kind, &[acme]);
    let script = script(world.dir());
    let _started = Started(world.dir().join("pids"));
    let path = script.display();
    provision(
        &world,
        &format!(
            "provisioner \"exec\" {{\n  max            = 2\n  scale_up_after = \"1s\"\n  idle_after     = \"1s\"\n  cool_down      = \"8s\"\n  \
             start          = [\"/bin/sh\", \"{path}\", \"{{node}}\"]\n  stop           = [\"/bin/sh\", \"{path}\", \"{{node}}\"]\n}}\n"
        ),
    );
    let calls = || std::fs::read_to_string(world.dir().join("calls")).unwrap_or_default();
    let redirector = world.redirector();
    wait_for_an_owner(&world);
    assert_eq!(calls(), "start auto-1\n");
    let by_hand = world.analyzer("by-hand");
    eventually("whoever was started is stopped", || {
        let (analyzers, owned) = (
            redirector.metric("kinetic_redirector_analyzers"),
            redirector.metric("kinetic_redirector_sources_owned"),
        );
        if calls().contains("stop auto-1") && (analyzers, owned) == (1, 1) {
            Ok(())
        } else {
            Err(redirector.metrics())
        }
    });
    eventually("who was started by hand has its source", || {
        match by_hand.metric("kinetic_analyzer_sources") {
            1 => Ok(()),
            other => Err(other),
        }
    });
    assert_eq!(calls(), "start auto-1\nstop auto-1\n", "once each");
    drop(by_hand);
    eventually("the one that was drained before is started again, and used", || {
        let owned = redirector.metric("kinetic_redirector_sources_owned");
        let running = redirector.metric("kinetic_provision_running");
        if calls().ends_with("stop auto-1\nstart auto-1\n") && (owned, running) == (1, 1) {
            Ok(())
        } else {
            Err((calls(), redirector.metrics()))
        }
    });
    assert_eq!(redirector.metric("kinetic_provision_held"), 0, "{}", redirector.metrics());
}

const IMAGE: &str = "registry.example/kinetic:1";

/// An installation whose provisioner is an engine without images, its redirector, and what the first container will be called.
fn docker() -> (World, Engine, Node, String) {
    let acme = Customer::acme(&[Watch::default()]);
    let world = World::start(BrokerKind::Embedded, &[acme]);
    let engine = Engine::start(world.dir());
    let name = format!("kinetic-{}-auto-1", world.control_vhost());
    provision(
        &world,
        &format!(
            "provisioner \"docker\" {{\n  max            = 2\n  scale_up_after = \"1s\"\n  idle_after     = \"1s\"\n  cool_down      = \
             \"1s\"\n  image          = \"{IMAGE}\"\n  socket         = \"unix://{}\"\n}}\n",
            engine.socket().display()
        ),
    );
    let redirector = world.redirector();
    (world, engine, redirector, name)
}

fn wait_for_answer(engine: &Engine, what: &str, status: u16) {
    eventually(&format!("{what} is answered by {status}"), || match engine.count(what, status) {
        0 => Err(engine.asked()),
        count => Ok(count),
    });
}

/// From its creation to its removal; at first the engine has no such image.
#[test]
fn a_container_is_created_for_work_and_removed_when_another_can_do_it() {
    if !all_here(module_path!(), &[Need::Git]) {
        return;
    }
    let (world, engine, _redirector, name) = docker();
    wait_for_answer(&engine, "POST /containers/create", 404);
    engine.pull(IMAGE);
    wait_for_an_owner(&world);
    assert_eq!(engine.containers(), [(name, "running")]);
    retire(&world, &engine);
    every_request_is_right(&engine, world.control_vhost());
    assert_eq!(engine.count("POST /containers/create", 201), 1);
    assert_eq!(engine.count("DELETE /containers/", 204), 1);
}

/// Another analyzer comes, and the container goes.
fn retire(world: &World, engine: &Engine) {
    let by_hand = world.analyzer("by-hand");
    eventually("another can do its work: it is stopped and removed", || {
        let seen = (engine.containers(), by_hand.metric("kinetic_analyzer_sources"));
        if seen == (Vec::new(), 1) { Ok(()) } else { Err((seen, engine.asked().len())) }
    });
}

/// A foreign container has the name, what runs is killed, and the engine is away for a while.
#[test]
fn containers_are_replaced_and_others_left_alone() {
    let story = "provision::containers_are_replaced_and_others_left_alone";
    if !all_here(story, &[Need::Git, Need::Patience]) {
        return;
    }
    let (world, mut engine, redirector, name) = docker();
    engine.occupy(&name);
    engine.pull(IMAGE);
    wait_for_answer(&engine, "POST /containers/create", 409);
    eventually("what has failed is tidied up after", || {
        match redirector.metric("kinetic_provision_stopping") {
            0 => Ok(()),
            other => Err(other),
        }
    });
    assert_eq!(engine.containers(), [(name.clone(), "created")], "nobody touches what is not ours");
    engine.vacate(&name);
    wait_for_an_owner(&world);
    assert_eq!(engine.containers(), [(name.clone(), "running")]);

    engine.kill(&name);
    eventually("what has ended is removed, and another is created", || {
        let seen = (engine.count("DELETE /containers/", 204), engine.containers(), owned(&redirector));
        if seen == (1, vec![(name.clone(), "running")], 1) { Ok(()) } else { Err(seen) }
    });

    engine.go_down();
    eventually("it says that it cannot see what runs", || {
        match redirector.log_count("the provisioner does not say what runs: nothing is decided") {
            0 => Err(redirector.process.log()),
            _ => Ok(()),
        }
    });
    assert_eq!(owned(&redirector), 1, "an engine that is away takes nothing with it");
    engine.come_up();
    retire(&world, &engine);
    every_request_is_right(&engine, world.control_vhost());
    assert_eq!(engine.count("POST /containers/create", 201), 2);
    assert_eq!(engine.count("DELETE /containers/", 204), 2);
}

fn owned(redirector: &Node) -> u64 {
    redirector.metric("kinetic_redirector_sources_owned")
}

/// Looks at all that an engine was asked.
fn every_request_is_right(engine: &Engine, control: &str) {
    let ours = format!("kinetic.control={control}");
    for asked in engine.asked() {
        assert_ne!(asked.status, 501, "{asked:?}");
        let is = |name: &str, value: &str| {
            assert_eq!(asked.query.get(name).map(String::as_str), Some(value), "{asked:?}")
        };
        match asked.what.as_str() {
            "GET /containers/json" => {
                is("all", "true");
                assert!(asked.query["filters"].contains(&ours), "{asked:?}");
            }
            "POST /containers/create" => {
                let labels = &asked.body["Labels"];
                assert_eq!(
                    (&labels["kinetic.control"], &labels["kinetic.node"]),
                    (&control.into(), &"auto-1".into())
                );
                assert_eq!(asked.body["Image"], IMAGE);
                let words = asked.body["Cmd"].to_string();
                assert!(words.starts_with("[\"analyzer\",\"--amqp\","), "{words}");
                assert!(words.ends_with("\"--node\",\"auto-1\"]"), "{words}");
            }
            what if what.ends_with("/stop") => is("t", "12"),
            what if what.starts_with("DELETE ") => {
                is("force", "true");
                is("v", "true");
            }
            what => assert!(what.ends_with("/start"), "{asked:?}"),
        }
    }
}
