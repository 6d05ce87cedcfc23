//! npm `statsd` with an AMQP backend, as its users have it: the shapes that the published backend and the one at the
//! head of its repository put on the wire, played exactly as they were captured (`docs/wire.md`).

use std::fmt::Write as _;

use kinetic_tests::amqp::Client;
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{HOSTS, SLOW_HOST, latency, wall_now};
use kinetic_tests::{BrokerKind, World, eventually};
use kinetic_wire::Envelope;

use crate::common::{first_line, is_about, only_mails_about};

on_both_brokers!(every_shape_of_the_statsd_backends_raises_the_alert);

fn every_shape_of_the_statsd_backends_raises_the_alert(kind: BrokerKind) {
    let watch = |name, routing, data_type, template, metric| Watch {
        name,
        routing,
        data_type,
        name_template: Some(template),
        metric,
        value: "last",
        ..Watch::default()
    };
    let acme = Customer::acme(&[
        watch("published", "statsd", "statsd", "{origin}.{metric}", "checkout.heap"),
        watch("head-json", "json_payload", "statsd", "{origin}.{metric}", "checkout.heap"),
        watch("head-gauges", "stats.gauges.#", "graphite", "stats.gauges.{origin}.{metric}", "checkout.heap"),
        watch(
            "head-timers",
            "stats.timers.#",
            "graphite",
            "stats.timers.{origin}.{metric}",
            "checkout.latencymean_90",
        ),
    ]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let engine = world.engine();
    let client = Client::start(world.customer_address(&acme));
    eventually("four mails about the slow host", || {
        flush(&client);
        let about = world.smtp.inbox().iter().filter(|mail| is_about(mail, SLOW_HOST)).count();
        if about == 4 { Ok(()) } else { Err((about, engine.analyzer.metrics())) }
    });
    let lines: Vec<String> = world.smtp.inbox().iter().map(first_line).collect();
    for watch in &acme.watches {
        assert!(
            lines.iter().any(|line| line.contains(&format!("{}/hosts", watch.name))),
            "{}: {lines:?}",
            watch.name
        );
    }
    only_mails_about(&world.smtp, SLOW_HOST, 4);
    let rejected = engine.analyzer.metric("kinetic_analyzer_rejects_total");
    assert_eq!(rejected, 0, "{}", engine.analyzer.metrics());
}

/// One flush of each backend.
fn flush(client: &Client) {
    let octets = Envelope { content_type: Some("application/octet-stream".into()), ..Envelope::default() };
    client.publish("in.acme", "statsd", &octets, metrics_object("{}").as_bytes());
    let head = |content_type: &'static str| Envelope {
        content_type: Some(content_type.into()),
        app_id: Some("statsdAMQP".into()),
        persistent: true,
        ..Envelope::default()
    };
    let sets = r#"{"web-01.checkout.users":{"store":{"abc":true,"def":true}}}"#;
    client.publish("in.acme", "json_payload", &head("application/json"), metrics_object(sets).as_bytes());
    let now_s = wall_now().as_secs();
    for host in HOSTS {
        let value = latency(host, true);
        // The timers' names lack the dot before the statistic: so they are on the wire.
        for name in [
            format!("stats.gauges.{host}.checkout.heap"),
            format!("stats.timers.{host}.checkout.latencymean_90"),
        ] {
            client.publish(
                "in.acme",
                &name,
                &head("text/graphite"),
                format!("{name} {value} {now_s}\n").as_bytes(),
            );
        }
    }
}

/// The object that both backends publish once per flush.
fn metrics_object(sets: &str) -> String {
    let mut gauges = String::new();
    let mut timers = String::new();
    for (place, host) in HOSTS.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let value = latency(host, true);
        write!(gauges, "{comma}\"{host}.checkout.heap\":{value}").expect("write to a string");
        write!(timers, "{comma}\"{host}.checkout.latency\":[100,101.5]").expect("write to a string");
    }
    format!(
        "{{\"counters\":{{\"statsd.bad_lines_seen\":0,\"statsd.packets_received\":16}},\"timers\":{{{timers}}},\
         \"gauges\":{{{gauges}}},\"timer_data\":{{\"web-01.checkout.latency\":{{\"count_90\":2,\"mean_90\":100.75,\
         \"histogram\":{{}}}}}},\"timer_counters\":{{\"web-01.checkout.latency\":2}},\"sets\":{sets},\
         \"counter_rates\":{{\"statsd.bad_lines_seen\":0,\"statsd.packets_received\":1.6}},\"pctThreshold\":[90],\
         \"statsd_metrics\":{{\"processing_time\":1}}}}"
    )
}
