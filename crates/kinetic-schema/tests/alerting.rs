//! Who is told of what, when, and by which way, value by value.

use std::path::Path;
use std::time::Duration;

use kinetic_schema::schema::{
    Alert, ClusterPath, Customer, Dkim, GroupBy, HoursSpan, Mail, MailTls, Relay, Severity, TemplateKind,
    Templates, WebhookFormat,
};
use kinetic_schema::{Files, Schema, load, render};

fn schema(texts: &[(&str, &str)]) -> Schema {
    let files: Files =
        texts.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
    let loaded = load(&files);
    loaded.schema.unwrap_or_else(|| panic!("{}", render(&loaded.diagnostics, &files, false, 120)))
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A customer with two services of two clusters each, and an analytic on all of them.
const ACME: &str = r##"
customer "acme" {
  region       = region.local
  silent_after = "10m"
  limits { mails_per_hour = 7 }
}
source "all" { routing = "#" }
service "checkout" {
  site   = "berlin"
  labels = { team = "payments", tier = "1" }
  cluster "front" {
    source  = source.all
    members = "front-*"
  }
  cluster "back" {
    source  = source.all
    members = "back-*"
    site    = "eu-west.1"
    labels  = { tier = "2", "zone" = "a b/c" }
  }
}
service "search" {
  cluster "index" {
    source  = source.all
    members = "index-*"
  }
}
analytic "slow" {
  on     = [service.checkout, service.search]
  metric = "latency"
  window = "10s"
  labels = { tier = "0" }
  rule "deviates" { deviations = 1 }
}
analytic "gone" {
  on       = [service.checkout, service.search]
  metric   = "*"
  severity = "critical"
  rule "silent" { after = "5m" }
}
"##;

fn acme(alerts: &str) -> Customer {
    let files = [
        ("kinetic.hcl", "region \"local\" {}\n"),
        ("customers/acme/acme.hcl", ACME),
        ("customers/acme/tell.hcl", alerts),
    ];
    schema(&files).customers[&"acme".into()].clone()
}

fn only(alerts: &str) -> Alert {
    let customer = acme(alerts);
    assert_eq!(customer.alerts.len(), 1);
    customer.alerts.into_values().next().expect("one")
}

#[test]
fn sites_and_labels_are_inherited_and_overridden() {
    let acme = acme("");
    assert_eq!((acme.limits.mails_per_hour, acme.stream_silent_after), (7, Some(secs(600))));
    let labels = |labels: &std::collections::BTreeMap<String, String>| {
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let checkout = &acme.services[&"checkout".into()];
    let (front, back) = (&checkout.clusters[&"front".into()], &checkout.clusters[&"back".into()]);
    assert_eq!(
        (checkout.site.as_deref(), labels(&checkout.labels)),
        (Some("berlin"), "team=payments tier=1".into())
    );
    assert_eq!(
        (front.site.as_deref(), labels(&front.labels)),
        (Some("berlin"), "team=payments tier=1".into())
    );
    assert_eq!(
        (back.site.as_deref(), labels(&back.labels)),
        (Some("eu-west.1"), "team=payments tier=2 zone=a b/c".into())
    );
    let index = &acme.services[&"search".into()].clusters[&"index".into()];
    assert_eq!((index.site.as_deref(), index.labels.len()), (None, 0));
    assert_eq!(labels(&acme.analytics[&"slow".into()].labels), "tier=0");
    assert_eq!(acme.analytics[&"gone".into()].labels.len(), 0);
}

#[test]
fn what_an_alert_does_not_say_has_its_default() {
    let plain = only("alert \"a\" { to = \"a@b.example\" }\n");
    assert!(plain.analytics.is_empty() && plain.continues);
    assert_eq!((plain.order, plain.group_by), (0, GroupBy::Cluster));
    assert!(plain.webhooks.is_empty() && plain.escalations.is_empty());
    assert!(plain.during.is_empty() && plain.except.is_empty());
    let matching = plain.matching;
    assert!(matching.services.is_empty() && matching.clusters.is_empty() && matching.sites.is_empty());
    assert!(matching.severities.is_empty() && matching.labels.is_empty());
    let webhook = only("alert \"a\" {\n  webhook \"w\" { url = \"http://localhost:1/\" }\n}\n");
    assert!(webhook.to.is_empty());
    let webhook = &webhook.webhooks[0];
    assert_eq!((webhook.name.as_str(), webhook.url.as_str()), ("w", "http://localhost:1/"));
    assert_eq!((&webhook.secret_file, webhook.format), (&None, WebhookFormat::Alertmanager));
    let plain = schema(&[("kinetic.hcl", "region \"l\" {}\ncustomer \"c\" { region = region.l }\n")]);
    let plain = &plain.customers[&"c".into()];
    assert_eq!((plain.limits.mails_per_hour, plain.stream_silent_after), (60, None));
}

const WHOLE: &str = r##"
hours "business" {
  time_zone = "europe/berlin"
  span {
    days = ["mon-wed", "sat"]
    from = "08:30"
    to   = "18:00"
  }
  span {
    days = "fri-sun"
    from = "22:00"
    to   = "06:00"
  }
}
hours "always" {
  time_zone = "UTC"
  span {}
}
hours "late" {
  time_zone = "America/Argentina/Buenos_Aires"
  span {
    days = "sun"
    from = "23:59"
    to   = "00:00"
  }
}
hours "sundays" {
  time_zone = "UTC"
  span { days = "sun" }
}
alert "whole" {
  analytics = [analytic.gone]
  to        = ["a@b.example"]
  continue  = false
  group_by  = "site"
  during    = [hours.business, hours.late, hours.always]
  except    = hours.sundays
  match {
    services   = ["check*", "s"]
    clusters   = "front"
    sites      = ["berlin", "eu-*"]
    severities = ["critical", "info"]
    labels     = { team = "pay*", tier = "[12]" }
  }
  escalate {
    after = "1h"
    to    = "boss@b.example"
  }
  escalate {
    after = "10m"
    to    = ["c@b.example", "d@b.example"]
  }
  webhook "pager" {
    url         = "https://pager.example:8443/v1?key=1"
    secret_file = "/etc/kinetic/pager"
    format      = "kinetic"
  }
  webhook "chat" { url = "https://chat.example" }
}
"##;

#[test]
fn an_alert_is_what_is_said() {
    let whole = only(WHOLE);
    assert_eq!(whole.analytics, ["gone".into()]);
    assert_eq!((whole.continues, whole.group_by), (false, GroupBy::Site));
    let patterns = |globs: &[kinetic_schema::schema::Glob]| {
        globs.iter().map(|glob| glob.pattern.clone()).collect::<Vec<_>>()
    };
    assert_eq!(patterns(&whole.matching.services), ["check*", "s"]);
    assert_eq!(patterns(&whole.matching.clusters), ["front"]);
    assert_eq!(patterns(&whole.matching.sites), ["berlin", "eu-*"]);
    assert_eq!(whole.matching.severities, [Severity::Critical, Severity::Info]);
    let labels: Vec<(&str, &str)> =
        whole.matching.labels.iter().map(|(name, glob)| (name.as_str(), glob.pattern.as_str())).collect();
    assert_eq!(labels, [("team", "pay*"), ("tier", "[12]")]);
    let steps: Vec<(Duration, usize)> =
        whole.escalations.iter().map(|step| (step.after, step.to.len())).collect();
    assert_eq!(steps, [(secs(600), 2), (secs(3_600), 1)], "soonest first");
    let names: Vec<&str> = whole.webhooks.iter().map(|webhook| webhook.name.as_str()).collect();
    assert_eq!(names, ["pager", "chat"]);
    let pager = &whole.webhooks[0];
    assert_eq!(pager.url, "https://pager.example:8443/v1?key=1");
    assert_eq!(pager.secret_file.as_deref(), Some(Path::new("/etc/kinetic/pager")));
    assert_eq!(pager.format, WebhookFormat::Kinetic);
}

#[test]
fn hours_are_what_is_said() {
    let whole = only(WHOLE);
    let names = |hours: &[kinetic_schema::schema::Hours]| {
        hours.iter().map(|hours| hours.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&whole.during), names(&whole.except)),
        (vec!["business".into(), "late".into(), "always".into()], vec!["sundays".into()])
    );
    let business = &whole.during[0];
    assert_eq!(business.time_zone, "Europe/Berlin", "as the database spells it");
    let days = |days: &str| {
        let mut found = [false; 7];
        for (day, mark) in found.iter_mut().zip(days.chars()) {
            *day = mark == 'x';
        }
        found
    };
    let span = |on: &str, from_min, to_min| HoursSpan { days: days(on), from_min, to_min };
    assert_eq!(business.spans, [span("xxx--x-", 510, 1_080), span("----xxx", 1_320, 360)]);
    assert_eq!(whole.except[0].spans, [span("------x", 0, 1_440)]);
    assert_eq!(whole.during[2].spans, [span("xxxxxxx", 0, 1_440)]);
    assert_eq!(whole.during[1].spans, [span("------x", 1_439, 1_440)], "00:00 is the end of the day");
    let wide = only(&WHOLE.replace("\"fri-sun\"", "\"sat-mon\""));
    assert_eq!(wide.during[0].spans[1].days, days("x----xx"), "days run over the end of the week");
}

#[test]
fn every_time_zone_of_the_database_is_taken() {
    let mut count = 0;
    for name in jiff::tz::TimeZoneDatabase::bundled().available() {
        let text = WHOLE.replace("europe/berlin", name.as_str());
        assert_eq!(only(&text).during[0].time_zone, name.as_str());
        count += 1;
        // The whole list would take seconds and show no more.
        if count == 20 {
            return;
        }
    }
    panic!("only {count} time zones are built in");
}

const THREE: &str = r#"
alert "first" {
  to = "a@b.example"
  match {
    labels = { tier = "[01]", team = "payments" }
  }
}
alert "keeps" {
  to       = "b@b.example"
  continue = false
  match {
    severities = "critical"
    sites      = "*"
  }
}
alert "another" {
  analytics = analytic.slow
  to        = "c@b.example"
  match {
    clusters = ["back", "index"]
  }
}
"#;

#[test]
fn alerts_tell_of_what_they_match_in_their_order() {
    let acme = acme(THREE);
    let told = |analytic: &str, service: &str, cluster: &str| {
        let path = ClusterPath { service: service.into(), cluster: cluster.into() };
        let told = acme.told_by(&analytic.into(), &path);
        told.iter().map(|alert| alert.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    // The analytic's own tier is 0, whatever the cluster's is.
    assert_eq!(told("slow", "checkout", "front"), "first");
    assert_eq!(told("slow", "checkout", "back"), "first another");
    assert_eq!(told("slow", "search", "index"), "another");
    // Another analytic leaves the cluster's tier as it is.
    assert_eq!(told("gone", "checkout", "front"), "first keeps");
    assert_eq!(told("gone", "checkout", "back"), "keeps");
    // What has no site is meant by no glob, not even by the one that means everything.
    assert_eq!(told("gone", "search", "index"), "");
    assert_eq!(told("gone", "search", "nothing"), "");
    assert_eq!(told("nothing", "search", "index"), "");
}

#[test]
fn one_that_does_not_continue_ends_the_search() {
    let text = "alert \"z\" {\n  to = \"a@b.example\"\n  continue = false\n}\nalert \"a\" { to = \"b@b.example\" }\n";
    let acme = acme(text);
    let path = ClusterPath { service: "search".into(), cluster: "index".into() };
    let told = acme.told_by(&"slow".into(), &path);
    assert_eq!(told.iter().map(|alert| alert.name.as_str()).collect::<Vec<_>>(), ["z"]);
}

#[test]
fn order_is_by_file_and_then_by_place() {
    let plain = |name: &str| format!("alert \"{name}\" {{ to = \"a@b.example\" }}\n");
    let own =
        "customer \"acme\" {\n  region = region.local\n  alert \"within\" { to = \"a@b.example\" }\n}\n";
    let (two, later, deep) = (plain("z") + &plain("y"), plain("x"), plain("a"));
    let schema = schema(&[
        ("kinetic.hcl", "region \"local\" {}\n"),
        ("customers/acme/b.hcl", &two),
        ("customers/acme/a/10.hcl", &deep),
        ("customers/acme/c.hcl", &later),
        ("acme.hcl", own),
    ]);
    let acme = &schema.customers[&"acme".into()];
    let names: Vec<&str> = acme.alerts_in_order().iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(names, ["within", "a", "z", "y", "x"]);
    let orders: Vec<u32> = acme.alerts_in_order().iter().map(|alert| alert.order).collect();
    assert_eq!(orders, [0, 1, 2, 3, 4]);
}

fn mail(text: &str) -> Mail {
    schema(&[("kinetic.hcl", text)]).mail.expect("it is there")
}

#[test]
fn mail_is_what_is_said() {
    let plain = mail("mail {\n  relay = \"[::1]:25\"\n  from = \"a@b.example\"\n}\n");
    assert_eq!((plain.relays.len(), plain.relays[0].name.as_str()), (1, "::1:25"));
    assert!(plain.dkim.is_none() && plain.bounces.is_none() && plain.public_url.is_none());
    let whole = mail(
        r#"
mail {
  relay      = "one.example:587"
  from       = "Kinetic <a@alerts.b.example>"
  bounces    = "bounces@b.example"
  public_url = "https://b.example/kinetic/"
  fallback "two" {
    relay         = "two.example:465"
    username      = "u"
    password_file = "/p"
  }
  fallback "here" {
    relay = "localhost:25"
    tls   = "none"
  }
  dkim {
    domain   = "B.example"
    selector = "k1.mail"
    key_file = "/k"
  }
}
"#,
    );
    let relay = |name: &str, host: &str, port, tls, login: Option<(&str, &str)>| Relay {
        name: name.to_owned(),
        host: host.to_owned(),
        port,
        tls,
        username: login.map(|(user, _)| user.to_owned()),
        password_file: login.map(|(_, file)| file.into()),
    };
    assert_eq!(
        whole.relays,
        [
            relay("one.example:587", "one.example", 587, MailTls::StartTls, None),
            relay("two", "two.example", 465, MailTls::Implicit, Some(("u", "/p"))),
            relay("here", "localhost", 25, MailTls::None, None),
        ]
    );
    let dkim = Dkim { domain: "b.example".into(), selector: "k1.mail".into(), key_file: "/k".into() };
    assert_eq!(whole.dkim, Some(dkim));
    assert_eq!(whole.bounces.as_deref(), Some("bounces@b.example"));
    assert_eq!(whole.public_url.as_deref(), Some("https://b.example/kinetic"));
    let local = "mail {\n  relay = \"a:25\"\n  from = \"a@b\"\n  public_url = \"http://127.0.0.1:8080\"\n}\n";
    assert_eq!(mail(local).public_url.as_deref(), Some("http://127.0.0.1:8080"));
}

#[test]
fn no_name_or_site_holds_what_keys_of_coarser_groups_are_made_of() {
    for mark in ['@', '*', '/'] {
        for from in ["\"front\"", "\"checkout\"", "\"slow\"", "\"berlin\"", "\"eu-west.1\""] {
            let name = from.trim_matches('"');
            for marked in [format!("\"{mark}{name}\""), format!("\"{name}{mark}\""), format!("\"{mark}\"")] {
                let text = ACME.replace(from, &marked);
                assert_ne!(text, ACME);
                let files = Files::from([("customers/acme/a.hcl".to_owned(), text.into_bytes())]);
                let told = load(&files).diagnostics;
                assert!(told.iter().any(|told| told.code == "bad-name"), "{marked}: {told:?}");
            }
        }
        let text = format!("alert \"{mark}a\" {{ to = \"a@b.example\" }}\n");
        let files = Files::from([("customers/acme/a.hcl".to_owned(), text.into_bytes())]);
        assert!(load(&files).diagnostics.iter().any(|told| told.code == "bad-name"), "{mark}");
    }
}

#[test]
fn the_seed_of_the_fuzzer_is_well_formed() {
    let schema = schema(&[("kinetic.hcl", include_str!("../../../fuzz/seeds/schema/alerting"))]);
    let shop = &schema.customers[&"shop".into()];
    assert!(shop.alerts.values().any(|alert| !alert.escalations.is_empty() && !alert.during.is_empty()));
    assert!(schema.mail.is_some_and(|mail| mail.dkim.is_some() && mail.relays.len() == 2));
}

#[test]
fn templates_are_taken_in_as_they_stand() {
    let plain = ("kinetic.hcl", "region \"local\" {}\ncustomer \"acme\" { region = region.local }\n");
    assert_eq!(schema(&[plain]).customers[&"acme".into()].templates, Templates::default());
    let html = "<p>{% for feed in feeds %}{{ feed }}{% endfor %}</p>\n";
    let folder = "customers/acme/templates";
    let (html_file, text_file) = (format!("{folder}/html.j2"), format!("{folder}/text.j2"));
    let (other, deep) = (format!("{folder}/README.md"), format!("{folder}/deep/subject.j2"));
    let taken = schema(&[plain, (&html_file, html), (&text_file, ""), (&other, "{{"), (&deep, "{{")]);
    let templates = &taken.customers[&"acme".into()].templates;
    assert_eq!(templates.get(TemplateKind::Html), Some(html));
    assert_eq!((templates.text.as_deref(), templates.subject.as_deref()), (Some(""), None));
}

#[test]
fn templates_are_bounded_and_text() {
    let told = |bytes: Vec<u8>| {
        let mut files = Files::from([(
            "kinetic.hcl".to_owned(),
            b"region \"local\" {}\ncustomer \"acme\" { region = region.local }\n".to_vec(),
        )]);
        files.insert("customers/acme/templates/text.j2".to_owned(), bytes);
        let loaded = load(&files);
        assert!(!render(&loaded.diagnostics, &files, false, 100).is_empty());
        loaded.diagnostics.iter().map(|told| told.code).collect::<Vec<_>>()
    };
    let most = kinetic_schema::limits::TEMPLATE_BYTES_MAX;
    assert_eq!(told(vec![b'a'; most]), [""; 0]);
    assert_eq!(told(vec![b'a'; most + 1]), ["too-large"]);
    assert_eq!(told(vec![b'a', 0xff]), ["not-utf-8"]);
    for nested in ["{{ (", "{% if a %}", "{{ [", "{{ a if ", "{{ -", "{{ not ", "{% raw %}", "{#"] {
        assert_eq!(told(nested.repeat(most / nested.len()).into_bytes()), ["bad-template"], "{nested}");
    }
}

fn codes(alerts: &str) -> Vec<&'static str> {
    let files = Files::from([
        ("kinetic.hcl".to_owned(), b"region \"local\" {}\n".to_vec()),
        ("customers/acme/acme.hcl".to_owned(), ACME.as_bytes().to_vec()),
        ("customers/acme/tell.hcl".to_owned(), alerts.as_bytes().to_vec()),
    ]);
    let told = load(&files).diagnostics;
    told.iter().map(|told| told.code).filter(|code| *code != "false-alerts").collect()
}

#[test]
fn who_tells_of_an_analytic_decides_what_is_said_of_it() {
    const ALL: &str = "alert \"all\" { webhook \"w\" { url = \"https://x.example\" } }\n";
    let alert = |name: &str, rest: &str| {
        format!("alert \"{name}\" {{\n  webhook \"w\" {{ url = \"https://x.example\" }}\n  {rest}\n}}\n")
    };
    assert_eq!(codes(&ALL.replace("{ webhook", "{\n  webhook").replace("} }", "}\n}")), [""; 0]);
    // One cluster of an analytic is enough to have it told of.
    assert_eq!(codes(&alert("a", "match { clusters = \"index\" }")), [""; 0]);
    assert_eq!(codes(&alert("a", "match { severities = \"critical\" }")), ["untold-analytic"]);
    // What one keeps, the next does not hear of; with something left over it is not hidden.
    let keeps = alert("a", "continue = false\n  match { services = \"checkout\" }");
    assert_eq!(codes(&(keeps.clone() + &alert("b", ""))), [""; 0]);
    assert_eq!(
        codes(&(keeps.clone() + &alert("b", "match { clusters = [\"front\", \"back\"] }"))),
        ["hidden-alert"]
    );
    // Two may keep together what neither keeps alone; the order of their places counts and not that of their names.
    let rest = alert("z", "continue = false\n  match { services = \"search\" }");
    assert_eq!(codes(&(keeps.clone() + &rest + &alert("b", ""))), ["hidden-alert"]);
    assert_eq!(codes(&(alert("b", "") + &keeps + &rest)), [""; 0]);
    // What means nothing at all is idle, also after one that keeps everything.
    let nothing = alert("b", "match { sites = \"mars\" }");
    assert_eq!(codes(&(alert("a", "continue = false") + &nothing)), ["idle-alert"]);
}

#[test]
fn in_a_very_large_topology_nobody_is_looked_for() {
    let clusters: String = (0..1_000)
        .map(|at| {
            format!("  cluster \"c{at}\" {{\n    source = source.all\n    members = \"m{at}-*\"\n  }}\n")
        })
        .collect();
    let service = |name: &str| format!("service \"{name}\" {{\n{clusters}}}\n");
    let analytic = |at: usize| {
        format!(
            "analytic \"a{at}\" {{\n  on = [service.one, service.two]\n  metric = \"*\"\n  rule \"silent\" {{ after = \"5m\" }}\n}}\n"
        )
    };
    let alert =
        |at: usize| format!("alert \"t{at}\" {{\n  to = \"a@b.example\"\n  match {{ sites = \"x\" }}\n}}\n");
    let told = |analytics: usize, alerts: usize| {
        let text = "region \"local\" {}\nlimits { clusters = 2000 }\nmail {\n  relay = \"a:25\"\n  from = \"a@b\"\n}\ncustomer \"c\" { region = region.local }\n".to_owned();
        let mut own =
            String::from("source \"all\" { routing = \"#\" }\n") + &service("one") + &service("two");
        own.extend((0..analytics).map(analytic));
        own.extend((0..alerts).map(alert));
        let files = Files::from([
            ("kinetic.hcl".to_owned(), text.into_bytes()),
            ("customers/c/c.hcl".to_owned(), own.into_bytes()),
        ]);
        load(&files).diagnostics.iter().filter(|told| told.code == "idle-alert").count()
    };
    // 2,000 clusters an analytic, two comparisons an alert.
    assert_eq!(told(2, 10), 10);
    assert_eq!(told(2, 600), 0);
}
