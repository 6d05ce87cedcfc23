//! What a well-formed repository means, value by value.

use std::time::Duration;

use kinetic_schema::schema::{
    ClusterPath, Deviates, Deviation, GaugeSign, Hysteresis, Limits, MailTls, NamePart, Precision, Purpose,
    Role, Rule, Severity, ValueKind,
};
use kinetic_schema::{DiagnosticSeverity, Files, Schema, load, load_at, render, summary};
use kinetic_wire::{DataType, Direction, Wall};

fn files(texts: &[(&str, &str)]) -> Files {
    texts.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn schema(texts: &[(&str, &str)]) -> Schema {
    let files = files(texts);
    let loaded = load(&files);
    loaded.schema.unwrap_or_else(|| panic!("{}", render(&loaded.diagnostics, &files, false, 120)))
}

const PLAIN: &str = r##"
region "local" {}
customer "acme" {
  region = region.local
  source "web" {
    routing = "#"
  }
  service "checkout" {
    cluster "frontends" {
      source  = source.web
      members = "web-*"
    }
  }
  analytic "slow" {
    on     = service.checkout
    metric = "latency"
    window = "10s"
    rule "deviates" { deviations = 1 }
  }
  alert "team" {
    analytics = analytic.slow
    to        = "oncall@acme.example"
  }
}
"##;

#[test]
fn what_is_not_said_has_its_default() {
    let schema = schema(&[("kinetic.hcl", PLAIN)]);
    assert!(schema.mail.is_none());
    let region = &schema.regions[&"local".into()];
    assert_eq!((region.amqp.len(), region.vhost.as_str()), (0, "local"));
    let acme = &schema.customers[&"acme".into()];
    assert_eq!((acme.region.as_str(), acme.keys.len(), acme.netblocks.len()), ("local", 0, 0));
    let web = &acme.sources[&"web".into()];
    assert_eq!(web.routing, ["#"]);
    assert_eq!((web.profile.as_deref(), web.data_type), (None, DataType::Auto));
    assert_eq!(web.lateness, Duration::from_secs(2));
    assert!(web.name_template.is_none());
    assert_eq!(web.origin_tag, "host");
    assert_eq!((web.gauge_sign, web.precision), (GaugeSign::Auto, Precision::Ns));
    assert_eq!((web.max_length, web.max_length_bytes), (100_000, 268_435_456));
    let slow = &acme.analytics[&"slow".into()];
    assert_eq!(slow.on, [ClusterPath { service: "checkout".into(), cluster: "frontends".into() }]);
    assert_eq!((slow.value, slow.severity), (ValueKind::Mean, Severity::Warning));
    assert_eq!(slow.window, Duration::from_secs(10));
    assert_eq!(slow.hysteresis, Hysteresis { hits: 1, of: 1 });
    assert_eq!(slow.description, None);
    let expected = Deviates {
        deviations: 1.0,
        direction: Direction::Above,
        deviation: Deviation::Population,
        min_feeds: 3,
        min_effect_relative: 0.0,
        min_effect_absolute: 0.0,
    };
    assert_eq!(slow.rule, Rule::Deviates(expected));
    let team = &acme.alerts["team"];
    assert_eq!(team.to, ["oncall@acme.example"]);
    assert_eq!((team.group_wait, team.group_interval), (Duration::from_secs(30), Duration::from_secs(300)));
    assert_eq!((team.repeat_interval, team.send_resolved), (Duration::from_secs(14_400), true));
}

const INSTALLATION: &str = r##"
region "eu.x" {
  amqp  = ["amqps://one:5671", "amqp://two"]
  vhost = "metrics"
}
mail {
  relay         = "smtp.example:465"
  from          = "Kinetic <alerts@example.org>"
  username      = "kinetic"
  password_file = "/etc/password"
}
"##;

const TOPOLOGY: &str = r##"
customer "acme" {
  region    = region["eu.x"]
  netblocks = ["203.0.113.0/24", "2001:db8::/32"]
  key "a" {
    salted_sha256 = "9f86430e00ff00000000000000000000000000000000000000000000000000000000ABcd"
    expires       = "2027-03-01"
    may_declare   = true
  }
}
profile "p" { data_type = "graphite" }
source "inherits" {
  profile = profile.p
  routing = ["a.#", "*.b"]
  name    = "servers.*.{origin}.{metric}"
}
source "says" {
  profile          = profile.p
  data_type        = "influx"
  routing          = ["c"]
  lateness         = "1m30s"
  origin_tag       = "hostname"
  gauge_sign       = "absolute"
  precision        = "ms"
  max_length       = 7
  max_length_bytes = "1KiB"
}
service "top" {
  depends_on = [service.bottom]
  cluster "one" {
    source  = source.inherits
    members = ["a-?", "b.*"]
  }
  cluster "two" {
    source  = source.says
    members = ["c", "d"]
  }
}
service "bottom" {}
"##;

const RULES: &str = r##"
analytic "odd" {
  on          = [service.top.cluster.two, service.top]
  metric      = "load.*"
  value       = "p99"
  window      = "500ms"
  for         = "3 of 5"
  severity    = "critical"
  description = "look at it"
  rule "deviates" {
    deviations          = 0.5
    direction           = "both"
    deviation           = "sample"
    min_feeds           = 2
    min_effect          = "12.5 %"
    min_effect_absolute = 0.25
  }
}
alert "x" {
  analytics       = [analytic.odd]
  to              = ["a@b", "C <c@d.example>"]
  group_wait      = "0s"
  group_interval  = "1m"
  repeat_interval = "1d"
  send_resolved   = false
}
"##;

fn said() -> Schema {
    schema(&[
        ("a/b.hcl", INSTALLATION),
        ("customers/acme/all.hcl", TOPOLOGY),
        ("customers/acme/deep/er/rules.hcl", RULES),
    ])
}

#[test]
fn an_installation_is_what_is_said() {
    let schema = said();
    let region = &schema.regions[&"eu.x".into()];
    assert_eq!((region.amqp.len(), region.vhost.as_str()), (2, "metrics"));
    let mail = schema.mail.expect("it is there");
    let relay = &mail.relays[0];
    assert_eq!((relay.host.as_str(), relay.port, relay.tls), ("smtp.example", 465, MailTls::Implicit));
    assert_eq!(mail.from, "Kinetic <alerts@example.org>");
    assert_eq!(relay.username.as_deref(), Some("kinetic"));
    let acme = &schema.customers[&"acme".into()];
    let netblocks: Vec<String> = acme.netblocks.iter().map(ToString::to_string).collect();
    assert_eq!(netblocks, ["203.0.113.0/24", "2001:db8::/32"]);
    let key = &acme.keys[0];
    assert_eq!((key.name.as_str(), key.may_declare), ("a", true));
    assert_eq!((key.hash.digest[1], key.hash.digest[30], key.hash.digest[31]), (0xff, 0xab, 0xcd));
    assert_eq!(key.expires_ms, Some(1_803_945_600_000));
}

#[test]
fn sources_and_services_are_what_is_said() {
    let schema = said();
    let acme = &schema.customers[&"acme".into()];
    let inherits = &acme.sources[&"inherits".into()];
    assert_eq!((inherits.profile.as_deref(), inherits.data_type), (Some("p"), DataType::Graphite));
    let template = inherits.name_template.as_ref().expect("it is there");
    assert_eq!(template.parts[1..], [NamePart::Any, NamePart::Origin, NamePart::Metric]);
    let says = &acme.sources[&"says".into()];
    assert_eq!((says.data_type, says.lateness), (DataType::Influx, Duration::from_secs(90)));
    assert_eq!((says.gauge_sign, says.precision), (GaugeSign::Absolute, Precision::Ms));
    assert_eq!((says.origin_tag.as_str(), says.max_length, says.max_length_bytes), ("hostname", 7, 1_024));
    let top = &acme.services[&"top".into()];
    assert_eq!(top.depends_on, ["bottom".into()]);
    let one = &top.clusters[&"one".into()];
    let matches = |name: &str| one.members.iter().any(|glob| glob.matches(name));
    assert!(matches("a-1") && matches("b.c.d") && !matches("a-10") && !matches("xb.c"));
}

#[test]
fn analytics_and_alerts_are_what_is_said() {
    let schema = said();
    let acme = &schema.customers[&"acme".into()];
    let odd = &acme.analytics[&"odd".into()];
    let on: Vec<&str> = odd.on.iter().map(|path| path.cluster.as_str()).collect();
    assert_eq!(on, ["two", "one"], "each cluster once, as first written");
    assert_eq!((odd.value, odd.severity), (ValueKind::P99, Severity::Critical));
    assert_eq!(odd.window, Duration::from_millis(500));
    assert_eq!(odd.hysteresis, Hysteresis { hits: 3, of: 5 });
    let expected = Deviates {
        deviations: 0.5,
        direction: Direction::Both,
        deviation: Deviation::Sample,
        min_feeds: 2,
        min_effect_relative: 0.125,
        min_effect_absolute: 0.25,
    };
    assert_eq!(odd.rule, Rule::Deviates(expected));
    let alert = &acme.alerts["x"];
    assert_eq!(alert.to, ["a@b", "C <c@d.example>"]);
    assert_eq!((alert.group_wait, alert.repeat_interval), (Duration::ZERO, Duration::from_secs(86_400)));
    assert!(!alert.send_resolved);
}

#[test]
fn customers_do_not_see_each_other() {
    let other = "customer \"globex\" {\n  region = region.local\n  service \"s\" {\n    cluster \"c\" {\n      source = source.web\n      members = [\"*\"]\n    }\n  }\n}\n";
    let files = files(&[("kinetic.hcl", PLAIN), ("globex.hcl", other)]);
    let codes: Vec<&str> = load(&files).diagnostics.iter().map(|told| told.code).collect();
    assert!(codes.contains(&"unknown-reference"), "{codes:?}");
}

#[test]
fn a_customer_may_stand_in_one_file_and_have_a_folder_too() {
    let more = "alert \"more\" {\n  analytics = [analytic.slow]\n  to = [\"b@acme.example\"]\n}\n";
    let schema = schema(&[("kinetic.hcl", PLAIN), ("customers/acme/more.hcl", more)]);
    assert_eq!(schema.customers[&"acme".into()].alerts.len(), 2);
}

#[test]
fn identity_is_what_is_said() {
    let schema = schema(&[("kinetic.hcl", IDENTITY)]);
    let local = &schema.regions[&"local".into()];
    assert_eq!((local.management.as_deref(), local.tokens), (Some("http://127.0.0.1:15672"), true));
    let tokens = schema.tokens.as_ref().expect("it is there");
    let names: Vec<&str> = tokens.keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["always", "older", "newer"], "the newest signs");
    assert_eq!((tokens.ttl, tokens.keys[0].public[64]), (Duration::from_secs(60), 0xab));
    assert_eq!((tokens.keys[0].starts_ms, tokens.keys[1].starts_ms), (None, Some(DAY)));
    let ops = &schema.operators[0];
    assert_eq!((ops.name.as_str(), ops.role), ("ops@example.org", Role::Operator));
    assert_eq!(schema.edge.public, Some("acme".into()));
    let kinetic = &schema.customers[&"kinetic".into()];
    assert_eq!(kinetic.keys[0].purpose, Purpose::Edge);
    let everybodys = Limits { connections: 7, series: 9, ..Limits::DEFAULT };
    assert_eq!(kinetic.limits, everybodys);
    let acme = &schema.customers[&"acme".into()];
    let own = Limits { series: 8, message_bytes: 4096, mails_per_hour: 3, ..everybodys };
    assert_eq!(acme.limits, own, "and of the rest the installation's");
    let (first, next) = (&acme.keys[0], &acme.keys[1]);
    assert_eq!(
        (first.purpose, first.starts_ms, first.expires_ms),
        (Purpose::Publish, None, Some(DAY + 86_400_000))
    );
    assert_eq!((next.purpose, next.starts_ms, next.expires_ms), (Purpose::Read, Some(DAY), Some(DAY + 500)));
    let certificate = &acme.certificates[0];
    assert_eq!(
        (certificate.name.as_str(), certificate.sha256[31], certificate.expires_ms),
        ("host", 0xcd, DAY)
    );
    let people: Vec<(&str, Role)> = acme.users.iter().map(|user| (user.name.as_str(), user.role)).collect();
    assert_eq!(people, [("alice@acme.example", Role::Owner), ("bob", Role::Viewer)], "who has no role looks");
    assert!(acme.users[0].password.starts_with("$argon2id$"));
}

/// `date -u -d 2027-03-02 +%s`, in milliseconds.
const DAY: i64 = 1_803_945_600_000;

const IDENTITY: &str = r##"
region "local" {
  management = "http://127.0.0.1:15672/"
  tokens     = true
}
tokens {
  ttl = "1m"
  key "newer" {
    public = "04cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
    starts = "2027-03-02T00:00:00.001Z"
  }
  key "older" {
    public = "04cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
    starts = "2027-03-02"
  }
  key "always" {
    public = "04abababababababababababababababababababababababababababababababababababababababababababababababababababababababababababababababab"
  }
}
user "ops@example.org" {
  password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
}
edge { public = customer.acme }
limits {
  connections = 7
  series      = 9
}
customer "kinetic" {
  region = region.local
  key "edge" {
    salted_sha256 = "9f86430e00ff00000000000000000000000000000000000000000000000000000000ABcd"
    purpose       = "edge"
  }
}
customer "acme" {
  region = region.local
  limits {
    series         = 8
    message_size   = "4KiB"
    mails_per_hour = 3
  }
  key "a" {
    salted_sha256 = "9f86430e00ff00000000000000000000000000000000000000000000000000000000ABcd"
    expires       = "2027-03-02"
  }
  key "b" {
    salted_sha256 = "9f86430e00ff00000000000000000000000000000000000000000000000000000000ABcd"
    purpose       = "read"
    starts        = "2027-03-02"
    expires       = "2027-03-02T01:00:00.5+01:00"
  }
  certificate "host" {
    sha256  = "9f86430e00ff000000000000000000000000000000000000000000000000abcd"
    expires = "2027-03-02T00:00:00Z"
  }
  user "alice@acme.example" {
    password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    role     = "owner"
  }
  user "bob" {
    password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
  }
}
"##;

#[test]
fn keys_expire_after_their_last_day() {
    let key = format!(
        "  key \"k\" {{\n    salted_sha256 = \"{}\"\n    expires = \"2027-03-01\"\n  }}\n  source",
        "0".repeat(72)
    );
    let files = files(&[("kinetic.hcl", &PLAIN.replacen("  source", &key, 1))]);
    let told = |ms| {
        let loaded = load_at(&files, Some(Wall::from_ms(ms)));
        assert!(loaded.schema.is_some());
        loaded.diagnostics.iter().any(|told| told.code == "expired-key")
    };
    assert!(!told(1_803_945_599_999));
    assert!(told(1_803_945_600_000));
    assert!(
        !load(&files).diagnostics.iter().any(|told| told.code == "expired-key"),
        "without a date nothing is old"
    );
}

#[test]
fn only_so_many_problems_are_kept_and_no_error_is_lost() {
    let many = "nonsense {}\n".repeat(kinetic_schema::limits::DIAGNOSTICS_MAX + 50);
    let loaded = load(&files(&[("kinetic.hcl", &many)]));
    let last = loaded.diagnostics.last().expect("there are some");
    assert_eq!((last.code, last.severity), ("too-many-problems", DiagnosticSeverity::Error));
    assert!(last.message.starts_with("50 more"), "{}", last.message);
    assert_eq!(loaded.diagnostics.len(), kinetic_schema::limits::DIAGNOSTICS_MAX + 1);
}

#[test]
fn an_empty_repository_is_an_empty_schema() {
    let loaded = load(&Files::new());
    assert!(loaded.schema.is_some_and(|schema| schema.customers.is_empty()));
    assert_eq!(summary(&[]), "no problems");
}

#[test]
fn colour_is_there_when_it_is_asked_for() {
    let files = files(&[("kinetic.hcl", "nonsense {}\n")]);
    let told = load(&files).diagnostics;
    assert!(render(&told, &files, true, 80).contains('\u{1b}'));
    assert!(!render(&told, &files, false, 80).contains('\u{1b}'));
}

#[test]
fn no_text_steers_the_readers_terminal() {
    let text = "region \"a\u{1b}[2J\" {} # \u{1b}]0;x\u{7}\u{9b}\n\ncustomer \"b\" {\n  region = region[\"\u{1b}c\"]\n}\n";
    let files = files(&[("kinetic.hcl", text)]);
    let told = load(&files).diagnostics;
    assert!(told.iter().any(|told| told.message.contains('\u{1b}')), "the message quotes it: {told:?}");
    let said = render(&told, &files, false, 80);
    assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
}
