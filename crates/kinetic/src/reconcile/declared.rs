//! What nodes declare over AMQP, as objects of a broker: one place says what queues are like, and the reconciler brings back what
//! is missing in no other form.

use std::collections::BTreeMap;

use kinetic_access::{Args, Binding, Broker, Destination, Exchange, Queue, Value, Vhost};
use kinetic_amqp::{ExchangeKind, Overflow, QueueArgs, Topology};
use kinetic_schema::Schema;
use kinetic_wire::Wall;

use crate::topology;

/// What nodes declare in the vhosts of a broker for customers.
pub(super) fn all(schema: &Schema, now: Wall, broker: &Broker) -> BTreeMap<String, Vhost> {
    let mut vhosts: BTreeMap<String, Vhost> = BTreeMap::new();
    if broker.has_control {
        add(vhosts.entry(broker.control.clone()).or_default(), topology::notifications(schema, now));
    }
    for region in schema.regions.values().filter(|region| broker.regions.contains(&region.name)) {
        let vhost = vhosts.entry(region.vhost.clone()).or_default();
        add(vhost, topology::ingress(schema, &region.vhost));
    }
    vhosts
}

fn add(vhost: &mut Vhost, topology: Topology) {
    for exchange in topology.exchanges {
        for (source, key) in exchange.takes_from {
            let to = Destination::Exchange(exchange.name.clone());
            vhost.bindings.insert(Binding { source, to, key, has_args: false });
        }
        let kind = match exchange.kind {
            ExchangeKind::Direct => "direct",
            ExchangeKind::Fanout => "fanout",
            ExchangeKind::Topic => "topic",
            ExchangeKind::Headers => "headers",
            ExchangeKind::ConsistentHash => "x-consistent-hash",
        };
        let named =
            [("alternate-exchange", exchange.alternate_exchange), ("hash-header", exchange.hash_header)];
        let args = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::Text(value?))));
        let made = Exchange { kind: kind.to_owned(), durable: exchange.durable, args: args.collect() };
        vhost.exchanges.insert(exchange.name, made);
    }
    for queue in topology.queues {
        vhost.queues.insert(queue.name, Queue { durable: queue.durable, args: args(&queue.args) });
    }
    for binding in topology.bindings {
        let to = Destination::Queue(binding.queue);
        let (source, key) = (binding.exchange, binding.routing_key);
        vhost.bindings.insert(Binding { source, to, key, has_args: false });
    }
}

fn args(queue: &QueueArgs) -> Args {
    let number =
        |value: Option<u64>| value.map(|value| Value::Number(i64::try_from(value).unwrap_or(i64::MAX)));
    let text = |value: Option<&str>| value.map(|value| Value::Text(value.to_owned()));
    let overflow = queue.overflow.map(|overflow| match overflow {
        Overflow::DropHead => "drop-head",
        Overflow::RejectPublish => "reject-publish",
        Overflow::RejectPublishDlx => "reject-publish-dlx",
    });
    let all = [
        ("x-max-length", number(queue.max_length)),
        ("x-max-length-bytes", number(queue.max_length_bytes)),
        ("x-message-ttl", number(queue.message_ttl_ms)),
        ("x-expires", number(queue.expires_ms)),
        ("x-overflow", text(overflow)),
        ("x-dead-letter-exchange", text(queue.dead_letter_exchange.as_deref())),
        ("x-dead-letter-routing-key", text(queue.dead_letter_routing_key.as_deref())),
        ("x-queue-type", text(queue.quorum.then_some("quorum"))),
        ("x-single-active-consumer", queue.single_active_consumer.then_some(Value::Flag(true))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

#[cfg(test)]
mod tests {
    use kinetic_access::{Wanted, plan, wanted};

    use super::*;

    /// What is wanted where a customer's source is in so many parts.
    fn wants(partitions: u16) -> Wanted {
        let text = format!(
            "region \"local\" {{}}\ncustomer \"acme\" {{\n  region = region.local\n  source \"web\" {{\n    data_type = \
             \"statsd\"\n    routing = [\"#\"]\n    partitions = {partitions}\n  }}\n}}\n"
        );
        let loaded = kinetic_schema::load(&[("all.hcl".to_owned(), text.into_bytes())].into());
        let schema = loaded.schema.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        let broker = Broker {
            control: "local".to_owned(),
            has_control: true,
            regions: ["local".into()].into(),
            own: "kinetic".to_owned(),
        };
        wanted(&schema, Wall::from_ms(0), &broker, all(&schema, Wall::from_ms(0), &broker))
    }

    fn check(before: u16, after: u16, want: &[&str]) {
        let plan = plan(&wants(before).objects, &wants(after));
        let said: Vec<String> =
            plan.steps.iter().map(|step| format!("{} {}", step.change.word(), step.action)).collect();
        assert_eq!(said, want, "{before} → {after}");
        assert!(plan.notes.is_empty(), "{:?}", plan.notes);
    }

    #[test]
    fn what_nodes_declare_is_what_is_wanted() {
        for partitions in [1, 3] {
            check(partitions, partitions, &[]);
            let wanted = wants(partitions).objects;
            let vhost = &wanted.vhosts["local"];
            for binding in &vhost.bindings {
                assert!(vhost.exchanges.contains_key(&binding.source), "{binding:?}");
                let to = binding.to.name();
                assert!(vhost.queues.contains_key(to) || vhost.exchanges.contains_key(to), "{binding:?}");
            }
        }
    }

    /// The queues of parts that are no more stay until their owners have emptied them.
    #[test]
    fn fewer_parts_are_unbound_and_kept() {
        check(3, 2, &["remove binding split.acme.web → src.acme.web.3 by \"1\" in local"]);
        check(
            2,
            1,
            &[
                "create binding in.acme → src.acme.web by \"#\" in local",
                "remove exchange split.acme.web in local",
            ],
        );
    }
}
