//! `service` and `cluster`.

use std::collections::BTreeMap;

use kinetic_wire::{ClusterName, ServiceName};

use super::labels;
use crate::block::{Named, checked};
use crate::diagnostic::{At, Problem, Sink};
use crate::graph;
use crate::limits::{CLUSTERS_MAX, LIST_MAX};
use crate::load::{Parts, declare};
use crate::reference::{self, Names};
use crate::schema::{Cluster, Glob, Service};
use crate::value;

/// Arrows of one cycle that are pointed at; the message names all of its services.
const CYCLE_SHOWN_MAX: usize = 8;

/// A customer's services.
pub(super) fn all(sink: &mut Sink<'_>, parts: &Parts<'_>) -> BTreeMap<ServiceName, Service> {
    let names = parts.names("service");
    let mut services = BTreeMap::new();
    let mut edges: BTreeMap<&str, Vec<(&str, At)>> = BTreeMap::new();
    for named in names.values() {
        let depends_on = dependencies(sink, *named, names);
        let mut service = Service {
            name: named.name.into(),
            depends_on: depends_on.iter().map(|(name, _)| (*name).into()).collect(),
            site: labels::site(sink, named.node),
            labels: labels::labels(sink, named.node),
            clusters: clusters(sink, *named, parts.names("source")),
        };
        inherit(&mut service);
        edges.insert(named.name, depends_on);
        services.insert(service.name.clone(), service);
    }
    report_cycles(sink, &edges);
    services
}

/// Gives the clusters what their service says and they do not.
fn inherit(service: &mut Service) {
    for cluster in service.clusters.values_mut() {
        cluster.site = cluster.site.take().or_else(|| service.site.clone());
        for (name, value) in &service.labels {
            cluster.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn dependencies<'a>(sink: &mut Sink<'_>, named: Named<'a>, names: &Names<'_>) -> Vec<(&'a str, At)> {
    let mut found: Vec<(&str, At)> = Vec::new();
    let Some(list) = named.node.get("depends_on") else { return found };
    for value in value::list(sink, list, LIST_MAX) {
        let Some(name) = reference::resolve(sink, value, "service", names) else { continue };
        if found.iter().any(|(other, _)| *other == name) {
            let message = format!("`{name}` stands here twice");
            sink.push(value.problem("duplicate-entry", message).label("again"));
        } else {
            found.push((name, value.at()));
        }
    }
    found
}

fn report_cycles(sink: &mut Sink<'_>, edges: &BTreeMap<&str, Vec<(&str, At)>>) {
    let plain: BTreeMap<&str, Vec<&str>> =
        edges.iter().map(|(from, to)| (*from, to.iter().map(|(name, _)| *name).collect())).collect();
    for cycle in graph::cycles(&plain) {
        let hop = |at: usize| {
            let (from, to) = (cycle[at], cycle[(at + 1) % cycle.len()]);
            edges[from].iter().find(|(name, _)| *name == to).expect("cycles follow edges")
        };
        let shown: Vec<&str> = cycle.iter().copied().chain(cycle.first().copied()).collect();
        let message = format!("services depend on each other in a circle: {}", shown.join(" -> "));
        let (to, at) = hop(0);
        let mut problem = Problem::error("dependency-cycle", at, message)
            .label(format!("`{}` needs `{to}`", cycle[0]))
            .help("`depends_on` says whose failure explains this one's; remove the arrow that does not");
        for (step, from) in cycle.iter().enumerate().take(CYCLE_SHOWN_MAX).skip(1) {
            let (to, at) = hop(step);
            problem = problem.related(at, format!("`{from}` needs `{to}`"));
        }
        sink.push(problem);
    }
}

fn clusters(sink: &mut Sink<'_>, service: Named<'_>, sources: &Names<'_>) -> BTreeMap<ClusterName, Cluster> {
    let mut names = Names::new();
    for node in service.node.blocks("cluster") {
        if let Some(named) = checked(sink, node) {
            declare(sink, &mut names, "cluster", named, CLUSTERS_MAX);
        }
    }
    names.values().map(|named| (named.name.into(), cluster(sink, *named, sources))).collect()
}

fn cluster(sink: &mut Sink<'_>, named: Named<'_>, sources: &Names<'_>) -> Cluster {
    let node = named.node;
    let example = reference::written("source", sources.keys().next().copied().unwrap_or("name"));
    let source = node
        .required(sink, "source", &example)
        .and_then(|value| reference::resolve(sink, value, "source", sources));
    let mut members: Vec<Glob> = Vec::new();
    if let Some(list) = node.required(sink, "members", "[\"web-*\"]") {
        for value in value::some_list(sink, list, LIST_MAX, "[\"*\"] takes every origin of the source") {
            let Some(glob) = value::glob(sink, value) else { continue };
            members.push(glob);
        }
        report_repeats(sink, list, &members);
    }
    Cluster {
        name: named.name.into(),
        source: source.unwrap_or_default().into(),
        members,
        site: labels::site(sink, node),
        labels: labels::labels(sink, node),
    }
}

/// A member that is written twice counts once, which `n` in its author's head does not.
fn report_repeats(sink: &mut Sink<'_>, list: value::Value<'_>, members: &[Glob]) {
    let mut patterns: Vec<&str> = members.iter().map(|glob| glob.pattern.as_str()).collect();
    patterns.sort_unstable();
    if let Some(pair) = patterns.windows(2).find(|pair| pair[0] == pair[1]) {
        let message = format!("\"{}\" stands in `members` twice", pair[0]);
        sink.push(list.problem("duplicate-entry", message).label("holds it twice"));
    }
}
