//! `customer`, and what holds between customers.

use kinetic_wire::Wall;

use super::{alert, analytic, hours, identity, service, source};
use crate::advice;
use crate::block::{Named, Node};
use crate::diagnostic::{At, Problem, Sink};
use crate::limits::{LIST_MAX, STREAM_SILENT_AFTER};
use crate::load::Declared;
use crate::netblock::Netblock;
use crate::reference;
use crate::schema::{Customer, INSTALLATION, INSTALLATION_SERVICE, Limits, Schema, WATCHDOG};
use crate::value;

/// All customers.
pub(super) fn all(
    sink: &mut Sink<'_>,
    declared: &Declared<'_>,
    schema: &mut Schema,
    limits: Limits,
    today: Option<Wall>,
) {
    let mut networks = Vec::new();
    for (name, parts) in &declared.customers {
        let hours = hours::all(sink, parts);
        let mut customer = Customer {
            name: (*name).into(),
            region: "".into(),
            disabled: false,
            keys: Vec::new(),
            certificates: Vec::new(),
            users: Vec::new(),
            limits,
            netblocks: Vec::new(),
            sources: source::all(sink, parts),
            services: service::all(sink, parts),
            analytics: Default::default(),
            alerts: alert::all(sink, parts, &hours),
            stream_silent_after: None,
            templates: parts.templates.clone(),
        };
        customer.analytics = analytic::all(sink, parts, &customer);
        if let Some(named) = parts.customer {
            own(sink, named, declared, &mut customer, &mut networks, today);
        }
        advice::customer(sink, parts, &customer);
        schema.customers.insert(customer.name.clone(), customer);
    }
    overlaps(sink, networks);
    identity::shared_names(sink, declared);
    advice::installation(sink, declared);
}

/// The attributes and keys of the `customer` block itself.
fn own<'a>(
    sink: &mut Sink<'_>,
    named: Named<'a>,
    declared: &Declared<'_>,
    customer: &mut Customer,
    networks: &mut Vec<(Netblock, &'a str, At)>,
    today: Option<Wall>,
) {
    let node = named.node;
    if named.name == INSTALLATION {
        reserved(sink, node, customer);
    }
    let example = reference::written("region", declared.regions.keys().next().copied().unwrap_or("local"));
    if let Some(region) = node.required(sink, "region", &example)
        && let Some(name) = reference::resolve(sink, region, "region", &declared.regions)
    {
        customer.region = name.into();
    }
    customer.disabled =
        node.get("disabled").and_then(|value| value::boolean(sink, value)).unwrap_or_default();
    if let Some(inner) = node.only(sink, "limits") {
        customer.limits = identity::limits(sink, inner, customer.limits);
    }
    clusters(sink, node, customer);
    customer.stream_silent_after = alert::duration(sink, node, "silent_after", STREAM_SILENT_AFTER);
    if let Some(list) = node.get("netblocks") {
        for block in value::list(sink, list, LIST_MAX) {
            let Some(written) = value::text(sink, block, "a network such as \"203.0.113.0/24\"") else {
                continue;
            };
            match written.parse::<Netblock>() {
                Ok(netblock) => {
                    networks.push((netblock, named.name, block.at()));
                    customer.netblocks.push(netblock);
                }
                Err(problem) => sink.push(block.problem("bad-netblock", problem).label("not a network")),
            }
        }
    }
    identity::all(sink, named, customer, today);
}

/// More clusters than the customer may have.
fn clusters(sink: &mut Sink<'_>, node: Node<'_>, customer: &Customer) {
    let most = customer.limits.clusters;
    let clusters: usize = customer.services.values().map(|service| service.clusters.len()).sum();
    if u32::try_from(clusters).is_ok_and(|clusters| clusters <= most) {
        return;
    }
    let plural = if clusters == 1 { "" } else { "s" };
    let message = format!("customer `{}` has {clusters} cluster{plural}; its limit is {most}", customer.name);
    let problem = Problem::error("too-many", &node.name_at(), message).label("more clusters than its limit");
    sink.push(problem.help("whoever looks after the installation may raise `clusters` in its `limits`"));
}

/// What the customer as which nodes publish their health must leave to the watchdog.
fn reserved(sink: &mut Sink<'_>, node: Node<'_>, customer: &Customer) {
    let service = customer.services.contains_key(&INSTALLATION_SERVICE.into());
    let alert = customer.alerts.contains_key(WATCHDOG);
    let names = [("service", INSTALLATION_SERVICE, service), ("alert", WATCHDOG, alert)];
    for (kind, name, _) in names.into_iter().filter(|(.., has)| *has) {
        let message = format!("customer `{INSTALLATION}` cannot have a {kind} named `{name}`");
        let problem = Problem::error("bad-name", &node.name_at(), message);
        sink.push(
            problem
                .label("the installation's own customer")
                .help("what the watchdog says about Kinetic's own nodes stands under it"),
        );
    }
}

/// Networks that two customers claim: nobody could tell whose a datagram from there is.
fn overlaps(sink: &mut Sink<'_>, mut networks: Vec<(Netblock, &str, At)>) {
    networks.sort_by_key(|(block, customer, _)| (*block, *customer));
    // The network that reaches furthest so far, and the furthest of any other customer: enough to find, for each
    // network, one that overlaps it if there is any.
    let mut reach: Vec<&(Netblock, &str, At)> = Vec::new();
    let mut family = None;
    for network in &networks {
        let (block, customer, at) = network;
        if family.replace(block.v6) != Some(block.v6) {
            reach.clear();
        }
        if let Some((_, other, first)) =
            reach.iter().find(|(held, other, _)| other != customer && held.overlaps(block))
        {
            let message = format!("this network is claimed by `{other}` and by `{customer}`");
            let problem =
                Problem::error("overlapping-netblock", at, message).label(format!("`{customer}` here"));
            sink.push(problem.related(first, format!("`{other}` here")).help(
                "a netblock says whose unauthenticated traffic is, so that each address has one owner",
            ));
        }
        match reach.iter_mut().find(|(_, other, _)| other == customer) {
            Some(held) if held.0.last >= block.last => {}
            Some(held) => *held = network,
            None => reach.push(network),
        }
        reach.sort_by_key(|(held, _, _)| std::cmp::Reverse(held.last));
        reach.truncate(2);
    }
}
