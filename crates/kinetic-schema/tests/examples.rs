//! Every folder of `topology-examples` passes the check without a word, and stands in canonical form.

mod common;

use std::path::Path;

use kinetic_schema::schema::{ClusterPath, GroupBy};
use kinetic_schema::{Files, load, render};

fn examples() -> Vec<(String, Files)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topology-examples");
    let found = common::folders(&root);
    assert!(found.len() >= 5, "the examples are where this test looks");
    found
}

#[test]
fn every_example_passes_the_check_without_a_word() {
    for (name, files) in examples() {
        let loaded = load(&files);
        let said = render(&loaded.diagnostics, &files, false, 120);
        assert!(loaded.schema.is_some() && loaded.diagnostics.is_empty(), "{name}:\n{said}");
    }
}

#[test]
fn every_example_is_in_canonical_form() {
    for (name, files) in examples() {
        for (path, bytes) in files.iter().filter(|(path, _)| path.ends_with(".hcl")) {
            let text = std::str::from_utf8(bytes).expect("UTF-8");
            assert_eq!(kinetic_schema::format(text).expect("well formed"), text, "{name}/{path}");
        }
    }
}

#[test]
fn the_on_call_team_is_told_as_its_comments_say() {
    let (_, files) = examples().into_iter().find(|(name, _)| name == "on-call-team").expect("it is there");
    let schema = load(&files).schema.expect("checks");
    let shop = &schema.customers[&"shop".into()];
    let told = |analytic: &str, service: &str, cluster: &str| {
        let path = ClusterPath { service: service.into(), cluster: cluster.into() };
        assert!(shop.analytics[&analytic.into()].on.contains(&path), "{analytic} {path:?}");
        let told = shop.told_by(&analytic.into(), &path);
        told.iter().map(|alert| alert.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(told("gone", "checkout", "canary"), "canaries");
    assert_eq!(told("slow-host", "checkout", "canary"), "canaries");
    assert_eq!(told("gone", "search", "index"), "search");
    assert_eq!(told("gone", "checkout", "frontends"), "on-call");
    assert_eq!(told("slow-host", "checkout", "frontends"), "chat");
    assert_eq!(told("failing-payments", "payments", "workers"), "on-call payments-team");
    assert_eq!(told("slow-host", "payments", "workers-standby"), "payments-team chat");
    let on_call = &shop.alerts["on-call"];
    assert_eq!((on_call.group_by, on_call.escalations.len()), (GroupBy::Service, 2));
    assert_eq!((on_call.webhooks.len(), on_call.during.len()), (1, 0));
}

#[test]
fn the_guide_begins_with_a_file_that_works() {
    let guide = include_str!("../../../docs/topology-language.md");
    let start = guide.find("```hcl\n").expect("a first example") + "```hcl\n".len();
    let end = start + guide[start..].find("```").expect("its end");
    let text = &guide[start..end];
    let files = Files::from([("kinetic.hcl".to_owned(), text.as_bytes().to_vec())]);
    let loaded = load(&files);
    let said = render(&loaded.diagnostics, &files, false, 120);
    assert!(loaded.schema.is_some() && loaded.diagnostics.is_empty(), "{said}");
    assert_eq!(kinetic_schema::format(text).as_deref(), Ok(text));
}
