//! What each role declares on the broker, from the schema: the one place where queues get their arguments.

use kinetic_amqp::{Address, Binding, Exchange, ExchangeKind, Overflow, Queue, QueueArgs, Topology};
use kinetic_schema::Schema;
use kinetic_schema::schema::{Customer, Source};
use kinetic_wire::{SourceKey, names};

/// Dead letters kept for people to look at; the oldest go first.
const DEAD_LETTERS_MAX: u64 = 10_000;
/// Bytes of dead letters kept.
const DEAD_LETTER_BYTES_MAX: u64 = 64 << 20;
/// Alert events that wait for the alert node; beyond it analyzers are told to wait (their publish is refused and
/// tried again), so that none is lost.
const ALERTS_MAX: u64 = 1_000_000;
/// Requests that wait for the redirector; older ones have expired anyway.
const REQUESTS_MAX: u64 = 100_000;

fn exchange(name: impl Into<String>, kind: ExchangeKind) -> Exchange {
    Exchange { name: name.into(), kind, durable: true, ..Exchange::default() }
}

fn binding(exchange: impl Into<String>, queue: impl Into<String>, routing_key: impl Into<String>) -> Binding {
    Binding { exchange: exchange.into(), queue: queue.into(), routing_key: routing_key.into() }
}

/// Where refused and overflowing messages of a vhost go.
fn dead_letters() -> Topology {
    let queue = Queue {
        name: names::DEAD_QUEUE.into(),
        durable: true,
        args: QueueArgs {
            max_length: Some(DEAD_LETTERS_MAX),
            max_length_bytes: Some(DEAD_LETTER_BYTES_MAX),
            overflow: Some(Overflow::DropHead),
            ..QueueArgs::default()
        },
        ..Queue::default()
    };
    Topology {
        exchanges: vec![exchange(names::DEAD_EXCHANGE, ExchangeKind::Fanout)],
        queues: vec![queue],
        bindings: vec![binding(names::DEAD_EXCHANGE, names::DEAD_QUEUE, "")],
    }
}

/// The redirector's request queue.
pub(crate) fn rpc() -> Topology {
    let queue = Queue {
        name: names::RPC_QUEUE.into(),
        durable: true,
        args: QueueArgs {
            max_length: Some(REQUESTS_MAX),
            overflow: Some(Overflow::DropHead),
            single_active_consumer: true,
            ..QueueArgs::default()
        },
        ..Queue::default()
    };
    Topology {
        exchanges: vec![exchange(names::RPC_EXCHANGE, ExchangeKind::Direct)],
        queues: vec![queue],
        bindings: names::rpc::ALL.map(|kind| binding(names::RPC_EXCHANGE, names::RPC_QUEUE, kind)).to_vec(),
    }
}

/// Alert events between analyzers and the alert node.
pub(crate) fn alerts() -> Topology {
    let dead = Queue {
        name: names::ALERTS_DEAD.into(),
        durable: true,
        args: QueueArgs {
            max_length: Some(DEAD_LETTERS_MAX),
            overflow: Some(Overflow::DropHead),
            ..QueueArgs::default()
        },
        ..Queue::default()
    };
    let queue = Queue {
        name: names::ALERTS.into(),
        durable: true,
        args: QueueArgs {
            max_length: Some(ALERTS_MAX),
            overflow: Some(Overflow::RejectPublish),
            dead_letter_exchange: Some(names::ALERTS_DEAD.into()),
            single_active_consumer: true,
            ..QueueArgs::default()
        },
        ..Queue::default()
    };
    Topology {
        exchanges: vec![
            exchange(names::ALERTS, ExchangeKind::Direct),
            exchange(names::ALERTS_DEAD, ExchangeKind::Fanout),
            exchange(names::NOTIFICATIONS_EXCHANGE, ExchangeKind::Topic),
        ],
        queues: vec![queue, dead],
        bindings: vec![
            binding(names::ALERTS, names::ALERTS, names::ALERTS),
            binding(names::ALERTS_DEAD, names::ALERTS_DEAD, ""),
        ],
    }
}

/// Schema notices.
pub(crate) fn schema_notices() -> Topology {
    Topology {
        exchanges: vec![exchange(names::SCHEMA_EXCHANGE, ExchangeKind::Fanout)],
        ..Topology::default()
    }
}

/// Schema notices, and a server-named queue that gets them.
pub(crate) fn schema_notices_subscription() -> Topology {
    let mut topology = schema_notices();
    topology.bindings.push(binding(names::SCHEMA_EXCHANGE, "", ""));
    topology
}

/// One source: the customer's exchange, the queue, its bindings and its dead letters.
pub(crate) fn source(customer: &Customer, source: &Source) -> Topology {
    let ingress = names::ingress_exchange(&customer.name);
    let key = SourceKey { customer: customer.name.clone(), source: source.name.clone(), part: 0 };
    let queue = names::source_queue(&key);
    let mut topology = dead_letters();
    topology.exchanges.push(exchange(ingress.clone(), ExchangeKind::Topic));
    topology.queues.push(Queue {
        name: queue.clone(),
        durable: true,
        args: QueueArgs {
            max_length: Some(source.max_length),
            max_length_bytes: Some(source.max_length_bytes),
            overflow: Some(Overflow::DropHead),
            dead_letter_exchange: Some(names::DEAD_EXCHANGE.into()),
            single_active_consumer: true,
            ..QueueArgs::default()
        },
        ..Queue::default()
    });
    for pattern in &source.routing {
        topology.bindings.push(binding(ingress.clone(), queue.clone(), pattern.clone()));
    }
    topology
}

/// All customers of one vhost: what the redirector declares, so that data waits in the queues even while no analyzer
/// has ever run.
pub(crate) fn ingress(schema: &Schema, vhost: &str) -> Topology {
    let mut topology = rpc();
    for customer in schema.customers.values() {
        if schema.regions.get(&customer.region).is_none_or(|region| region.vhost != vhost) {
            continue;
        }
        topology.exchanges.push(exchange(names::ingress_exchange(&customer.name), ExchangeKind::Topic));
        for declared in customer.sources.values() {
            let one = source(customer, declared);
            topology.exchanges.extend(one.exchanges);
            topology.queues.extend(one.queues);
            topology.bindings.extend(one.bindings);
        }
    }
    topology.exchanges.sort();
    topology.exchanges.dedup();
    topology.queues.sort();
    topology.queues.dedup();
    topology
}

/// The broker of a region, with this process's own login: the addresses that the schema names, or the one that this
/// process was given where the region is served by this installation's own broker.
pub(crate) fn region_address(control: &Address, region: &kinetic_schema::schema::Region) -> Address {
    let mut address = control.clone();
    if !region.amqp.is_empty() {
        address.uris.clone_from(&region.amqp);
    }
    address.vhost.clone_from(&region.vhost);
    address
}
