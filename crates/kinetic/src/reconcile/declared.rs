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
