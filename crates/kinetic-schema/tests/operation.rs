//! What is said about the installation's own nodes, about parts of sources and about silence, value by value.

use std::path::Path;
use std::time::Duration;

use kinetic_schema::schema::{
    AddressOrder, Analytic, Hysteresis, ProvisionerKind, QueueType, Rule, Silent, SilentEach, ValueKind,
};
use kinetic_schema::{Files, Loaded, Schema, load, render};

fn loaded(text: &str) -> Loaded {
    load(&Files::from([("kinetic.hcl".to_owned(), text.as_bytes().to_vec())]))
}

fn schema(text: &str) -> Schema {
    let files = Files::from([("kinetic.hcl".to_owned(), text.as_bytes().to_vec())]);
    let loaded = loaded(text);
    loaded.schema.unwrap_or_else(|| panic!("{}", render(&loaded.diagnostics, &files, false, 120)))
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_watchdog_is_what_is_said() {
    let plain = schema("watchdog {\n  to = \"ops@example.org\"\n}\n").watchdog.expect("it is there");
    assert_eq!((plain.analyzer_silent_after, plain.redirector_silent_after), (secs(60), secs(60)));
    assert_eq!((plain.group_wait, plain.group_interval), (secs(30), secs(300)));
    assert_eq!((plain.repeat_interval, plain.send_resolved), (secs(14_400), true));
    let said = "watchdog {\n  analyzer_silent_after = \"10s\"\n  redirector_silent_after = \"1m\"\n  group_wait = \"0s\"\n  group_interval = \"1s\"\n  repeat_interval = \"1d\"\n  send_resolved = false\n  to = [\"ops@example.org\", \"Night <night@example.org>\"]\n}\n";
    let said = schema(said).watchdog.expect("it is there");
    assert_eq!((said.analyzer_silent_after, said.redirector_silent_after), (secs(10), secs(60)));
    assert_eq!((said.group_wait, said.group_interval), (secs(0), secs(1)));
    assert_eq!((said.repeat_interval, said.send_resolved), (secs(86_400), false));
    assert_eq!(said.to, ["ops@example.org", "Night <night@example.org>"]);
    assert!(schema("region \"local\" {}\n").watchdog.is_none());
}

#[test]
fn provisioners_have_their_defaults() {
    let process = schema("provisioner \"process\" {\n  max = 4\n}\n").provisioner.expect("it is there");
    assert_eq!((process.min, process.max, process.dry_run), (0, 4, false));
    assert_eq!((process.scale_up_after, process.idle_after), (secs(120), secs(1_800)));
    assert_eq!((process.cool_down, process.load_high, process.load_low), (secs(300), 0.8, 0.3));
    let ProvisionerKind::Process(process) = process.kind else { panic!("{:?}", process.kind) };
    assert_eq!(process.data_dir, None);
    let docker = "provisioner \"docker\" {\n  max = 1\n  image = \"kinetic:1\"\n}\n";
    let docker = schema(docker).provisioner.expect("it is there");
    let ProvisionerKind::Docker(docker) = docker.kind else { panic!("{:?}", docker.kind) };
    assert_eq!(docker.socket, Path::new("/var/run/docker.sock"));
    assert_eq!((docker.network, docker.env.len()), (None, 0));
}

#[test]
fn provisioners_are_what_is_said() {
    let docker = schema(
        "provisioner \"docker\" {\n  min = 1\n  max = 9\n  scale_up_after = \"0s\"\n  idle_after = \"1h\"\n  cool_down = \"10s\"\n  load_high = 1\n  load_low = 0.5\n  dry_run = true\n  image = \"kinetic:1\"\n  socket = \"unix:///run/user/1000/docker.sock\"\n  network = \"metrics\"\n  env = {\n    TZ = \"UTC\"\n    \"RUST_LOG\" = \"info\"\n  }\n}\n",
    );
    let docker = docker.provisioner.expect("it is there");
    assert_eq!((docker.min, docker.max, docker.dry_run), (1, 9, true));
    assert_eq!(
        (docker.scale_up_after, docker.idle_after, docker.cool_down),
        (secs(0), secs(3_600), secs(10))
    );
    assert_eq!((docker.load_high, docker.load_low), (1.0, 0.5));
    let ProvisionerKind::Docker(docker) = docker.kind else { panic!("{:?}", docker.kind) };
    assert_eq!(docker.socket, Path::new("/run/user/1000/docker.sock"));
    assert_eq!(docker.network.as_deref(), Some("metrics"));
    let env: Vec<(&str, &str)> =
        docker.env.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(env, [("RUST_LOG", "info"), ("TZ", "UTC")]);
    let exec = schema(
        "provisioner \"exec\" {\n  max = 2\n  start = [\"/bin/up\", \"--name={node}\", \"{\\\"n\\\": 1}\"]\n  stop = \"/bin/down\"\n  timeout = \"5m\"\n}\n",
    );
    let ProvisionerKind::Exec(exec) = exec.provisioner.expect("it is there").kind else { panic!() };
    assert_eq!(exec.start, ["/bin/up", "--name={node}", "{\"n\": 1}"]);
    assert_eq!((exec.stop, exec.timeout), (vec!["/bin/down".to_owned()], secs(300)));
}

const CUSTOMER: &str = r#"
region "plain" {}
region "said" {
  queues = "quorum"
  zones  = ["us-west-2a", "b"]
  order  = "by_origin"
}
customer "acme" {
  region   = region.said
  disabled = true
  source "web" {
    routing    = "web.#"
    partitions = 64
  }
  source "db" {
    routing = "db.#"
  }
  service "checkout" {
    cluster "frontends" {
      source  = source.web
      members = "web-*"
    }
  }
  ANALYTIC
}
"#;

#[test]
fn regions_customers_and_sources_are_what_is_said() {
    let schema = schema(&CUSTOMER.replace("ANALYTIC", ""));
    let region = |name: &str| &schema.regions[&name.into()];
    assert_eq!((region("plain").queues, region("plain").zones.len()), (QueueType::Classic, 0));
    assert_eq!(region("said").queues, QueueType::Quorum);
    assert_eq!(region("said").zones, ["us-west-2a", "b"]);
    assert_eq!(region("plain").order, AddressOrder::Listed);
    assert_eq!(region("said").order, AddressOrder::ByOrigin);
    let acme = &schema.customers[&"acme".into()];
    assert!(acme.disabled);
    assert_eq!((acme.sources[&"web".into()].partitions, acme.sources[&"db".into()].partitions), (64, 1));
}

fn silent(attributes: &str, rule: &str) -> Analytic {
    let analytic = format!(
        "analytic \"gone\" {{\n    on = service.checkout\n    metric = \"uptime\"\n    {attributes}\n    rule \"silent\" {{\n{rule}\n    }}\n  }}"
    );
    schema(&CUSTOMER.replace("ANALYTIC", &analytic)).customers[&"acme".into()].analytics[&"gone".into()]
        .clone()
}

#[test]
fn a_silence_is_what_is_said() {
    let plain = silent("", "after = \"5m\"");
    assert_eq!(plain.rule, Rule::Silent(Silent { after: secs(300), each: SilentEach::Feed }));
    assert_eq!((plain.value, plain.hysteresis), (ValueKind::Mean, Hysteresis { hits: 1, of: 1 }));
    assert_eq!(plain.window, secs(10));
    assert_eq!(silent("", "after = \"3s\"").window, secs(3), "never looked at less often than `after`");
    let said = silent("window = \"1m\"", "after = \"1m\"\neach = \"cluster\"");
    assert_eq!(said.rule, Rule::Silent(Silent { after: secs(60), each: SilentEach::Cluster }));
    assert_eq!(said.window, secs(60));
}

#[test]
fn no_figures_are_given_for_silence() {
    let analytic = "analytic \"gone\" {\n    on = service.checkout\n    metric = \"*\"\n    rule \"silent\" {\n      after = \"5m\"\n    }\n  }";
    let codes: Vec<&str> =
        loaded(&CUSTOMER.replace("ANALYTIC", analytic)).diagnostics.iter().map(|told| told.code).collect();
    assert_eq!(codes, ["unused-source", "untold-analytic"]);
}

#[test]
fn the_seed_of_the_fuzzer_is_well_formed() {
    let schema = schema(include_str!("../../../fuzz/seeds/schema/operation"));
    assert!(schema.watchdog.is_some() && schema.provisioner.is_some());
    assert_eq!(schema.customers[&"shop".into()].analytics.len(), 3);
}
