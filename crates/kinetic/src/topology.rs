//! What each role declares on the broker, from the schema: the one place where queues get their arguments.

use kinetic_amqp::{
    Address, Binding, Exchange, ExchangeKind, Leftovers, Overflow, Queue, QueueArgs, Topology,
};
use kinetic_schema::Schema;
use kinetic_schema::schema::{Customer, QueueType, Source};
use kinetic_wire::{CustomerName, Envelope, NodeId, SourceKey, Wall, names};

/// Dead letters of nobody in particular kept for people to look at; the oldest go first.
const DEAD_LETTERS_MAX: u64 = 10_000;
/// Bytes of them.
const DEAD_LETTER_BYTES_MAX: u64 = 64 << 20;
/// Dead letters kept of one customer: of a body that is wrong, the next thousand are wrong in the same way.
const CUSTOMERS_DEAD_MAX: u64 = 1_000;
/// Bytes of them.
const CUSTOMERS_DEAD_BYTES_MAX: u64 = 8 << 20;
/// Notifications that wait for a customer to read them; the oldest go first.
const NOTIFICATIONS_MAX: u64 = 10_000;
/// Bytes of them.
const NOTIFICATION_BYTES_MAX: u64 = 16 << 20;
/// How long one waits.
const NOTIFICATION_TTL_MS: u64 = 24 * 3_600 * 1_000;
/// Alert events that wait for the alert node; beyond it analyzers are told to wait (their publish is refused and
/// tried again), so that none is lost.
const ALERTS_MAX: u64 = 1_000_000;
/// Snapshots kept of one source.
pub(crate) const SNAPSHOTS_MAX: u64 = 8;
/// Signs of life that wait for the alert node: of the largest installation, some seconds' worth.
const BEACONS_MAX: u64 = 50_000;
/// Words on one test event that wait for who follows it.
const TEST_STAGES_MAX: u64 = 1_000;
/// Requests that wait for the redirector; older ones have expired anyway.
const REQUESTS_MAX: u64 = 100_000;
/// Tokens in the leader's queue.
const TOKENS_MAX: u64 = 10_000;
/// Messages of the leader that wait for one standby.
const MAP_CHANGES_MAX: u64 = 10_000;
/// Parts that a source can have, in any revision.
const PARTITIONS_MAX: u16 = 64;
/// Weight of each part of a source on the exchange that splits it: all get the same share.
const PART_WEIGHT: &str = "1";

fn exchange(name: impl Into<String>, kind: ExchangeKind) -> Exchange {
    Exchange { name: name.into(), kind, durable: true, ..Exchange::default() }
}

fn binding(exchange: impl Into<String>, queue: impl Into<String>, routing_key: impl Into<String>) -> Binding {
    Binding { exchange: exchange.into(), queue: queue.into(), routing_key: routing_key.into() }
}

/// A durable queue that forgets the oldest when it is full.
fn forgetting(name: impl Into<String>, messages: u64, bytes: u64) -> Queue {
    Queue::durable(name).with_args(QueueArgs {
        max_length: Some(messages),
        max_length_bytes: Some(bytes),
        overflow: Some(Overflow::DropHead),
        ..QueueArgs::default()
    })
}

/// Where refused and overflowing messages of a vhost go that are no customer's any more.
fn dead_letters_of_nobody() -> Topology {
    let dead = Exchange {
        alternate_exchange: Some(names::DEAD_OTHERS.to_owned()),
        ..exchange(names::DEAD_EXCHANGE, ExchangeKind::Direct)
    };
    Topology {
        exchanges: vec![exchange(names::DEAD_OTHERS, ExchangeKind::Fanout), dead],
        queues: vec![forgetting(names::DEAD_QUEUE, DEAD_LETTERS_MAX, DEAD_LETTER_BYTES_MAX)],
        bindings: vec![binding(names::DEAD_OTHERS, names::DEAD_QUEUE, "")],
    }
}

/// Where a customer's refused and overflowing messages go: a queue of its own, so that one customer's rubbish does not push out
/// another's.
pub(crate) fn dead_letters(customer: &CustomerName) -> Topology {
    let own = names::dead_queue(customer);
    let mut topology = dead_letters_of_nobody();
    topology.bindings.push(binding(names::DEAD_EXCHANGE, own.clone(), customer.as_str()));
    topology.queues.push(forgetting(own, CUSTOMERS_DEAD_MAX, CUSTOMERS_DEAD_BYTES_MAX));
    topology
}

/// In the control vhost, the queues from which customers read their own notifications: those who have a key for that.
pub(crate) fn notifications(schema: &Schema, now: Wall) -> Topology {
    let mut topology = Topology::default();
    topology.exchanges.push(exchange(names::NOTIFICATIONS_EXCHANGE, ExchangeKind::Topic));
    for customer in schema.customers.values() {
        if !kinetic_access::reads_notifications(customer, now) {
            continue;
        }
        let own = names::notification_queue(&customer.name);
        let all = format!("{}.#", customer.name);
        topology.bindings.push(binding(names::NOTIFICATIONS_EXCHANGE, own.clone(), all));
        let mut queue = forgetting(own, NOTIFICATIONS_MAX, NOTIFICATION_BYTES_MAX);
        queue.args.message_ttl_ms = Some(NOTIFICATION_TTL_MS);
        topology.queues.push(queue);
    }
    topology
}

/// The same, with customers' exchanges marked as this installation's.
pub(crate) fn marked(mut topology: Topology, installation: &str) -> Topology {
    let customers =
        topology.exchanges.iter_mut().filter(|one| names::customer_of_exchange(&one.name).is_some());
    for exchange in customers {
        exchange.mark = Some((kinetic_access::INSTALLATION_ARG.to_owned(), installation.to_owned()));
    }
    topology
}

/// The same, with every durable queue kept as this says. Every role must say the same of one vhost.
pub(crate) fn kept(mut topology: Topology, queues: QueueType) -> Topology {
    if queues == QueueType::Quorum {
        for queue in topology.queues.iter_mut().filter(|queue| queue.durable) {
            queue.args.quorum = true;
        }
    }
    topology
}

/// How the queues of a vhost are kept: replicated, where a region of it says so.
pub(crate) fn queues_of(schema: &Schema, vhost: &str) -> QueueType {
    let quorum =
        schema.regions.values().any(|region| region.vhost == vhost && region.queues == QueueType::Quorum);
    if quorum { QueueType::Quorum } else { QueueType::Classic }
}

/// Requests that wait for an answer; who asks has given up on older ones.
fn requests(name: &str, kinds: &[&str], single_active_consumer: bool) -> Topology {
    let args = QueueArgs {
        max_length: Some(REQUESTS_MAX),
        overflow: Some(Overflow::DropHead),
        single_active_consumer,
        ..QueueArgs::default()
    };
    Topology {
        exchanges: vec![exchange(names::RPC_EXCHANGE, ExchangeKind::Direct)],
        queues: vec![Queue::durable(name).with_args(args)],
        bindings: kinds.iter().map(|kind| binding(names::RPC_EXCHANGE, name, *kind)).collect(),
    }
}

/// The leader's request queue, in the control vhost.
pub(crate) fn rpc() -> Topology {
    requests(names::RPC_QUEUE, &names::rpc::LEADER, true)
}

/// The queue that all redirectors answer `locate` from, in the control vhost and in every region's.
pub(crate) fn locate() -> Topology {
    requests(names::LOCATE_QUEUE, &[names::rpc::LOCATE], false)
}

/// The queue whose message makes a redirector the leader. A token is never dropped: there are as many as redirectors have started
/// since somebody led, and a leader makes one of them.
pub(crate) fn leader() -> Topology {
    let args = QueueArgs {
        max_length: Some(TOKENS_MAX),
        overflow: Some(Overflow::RejectPublish),
        single_active_consumer: true,
        ..QueueArgs::default()
    };
    Topology { queues: vec![Queue::durable(names::LEADER_QUEUE).with_args(args)], ..Topology::default() }
}

/// What a redirector publishes to in the control vhost.
pub(crate) fn redirectors_words(queues: QueueType) -> Topology {
    let mut topology = kept(leader(), queues);
    for part in [schema_notices(), map_changes(), alive()] {
        topology.exchanges.extend(part.exchanges);
    }
    topology
}

/// Where the leader tells what has changed.
pub(crate) fn map_changes() -> Topology {
    fanout(names::MAP_EXCHANGE)
}

/// The same, and a server-named queue that gets it; a standby that falls behind begins anew.
pub(crate) fn map_changes_subscription() -> Topology {
    let args = QueueArgs {
        max_length: Some(MAP_CHANGES_MAX),
        overflow: Some(Overflow::DropHead),
        ..QueueArgs::default()
    };
    let mut topology = map_changes();
    topology.queues.push(Queue { args, ..Queue::default() });
    topology.bindings.push(binding(names::MAP_EXCHANGE, "", ""));
    topology
}

fn fanout(name: &str) -> Topology {
    Topology { exchanges: vec![exchange(name, ExchangeKind::Fanout)], ..Topology::default() }
}

/// The queue by which the broker bears witness that a node's connection stands.
pub(crate) fn witness(node: &NodeId) -> Queue {
    Queue {
        name: names::witness_queue(node),
        auto_delete: true,
        args: QueueArgs { single_active_consumer: true, ..QueueArgs::default() },
        ..Queue::default()
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
            exchange(names::TRACE_EXCHANGE, ExchangeKind::Topic),
        ],
        queues: vec![queue, dead],
        bindings: vec![
            binding(names::ALERTS, names::ALERTS, names::ALERTS),
            binding(names::ALERTS_DEAD, names::ALERTS_DEAD, ""),
        ],
    }
}

/// A server-named queue that gets what is said of one test event. The exchange is there also where no node has ever run.
pub(crate) fn trace_subscription(trace: &str) -> Topology {
    let args = QueueArgs {
        max_length: Some(TEST_STAGES_MAX),
        overflow: Some(Overflow::DropHead),
        ..QueueArgs::default()
    };
    Topology {
        exchanges: vec![exchange(names::TRACE_EXCHANGE, ExchangeKind::Topic)],
        queues: vec![Queue { exclusive: true, auto_delete: true, args, ..Queue::default() }],
        bindings: vec![binding(names::TRACE_EXCHANGE, "", trace)],
    }
}

/// The alert node's request queue, in the control vhost.
pub(crate) fn alert_requests() -> Topology {
    requests(names::ALERT_QUEUE, &names::rpc::ALERT, true)
}

/// What the owner of a source remembers: the last few, of which only the newest counts.
pub(crate) fn snapshots(source: &SourceKey) -> Queue {
    Queue {
        name: names::snapshot_queue(source),
        durable: true,
        args: QueueArgs {
            max_length: Some(SNAPSHOTS_MAX),
            overflow: Some(Overflow::DropHead),
            ..QueueArgs::default()
        },
        ..Queue::default()
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

/// Signs of life.
pub(crate) fn alive() -> Topology {
    Topology { exchanges: vec![exchange(names::ALIVE_EXCHANGE, ExchangeKind::Fanout)], ..Topology::default() }
}

/// Signs of life, and a server-named queue that gets them. One that is read late says nothing any more.
pub(crate) fn alive_subscription() -> Topology {
    let mut topology = alive();
    let args = QueueArgs {
        max_length: Some(BEACONS_MAX),
        overflow: Some(Overflow::DropHead),
        ..QueueArgs::default()
    };
    topology.queues.push(Queue { args, ..Queue::default() });
    topology.bindings.push(binding(names::ALIVE_EXCHANGE, "", ""));
    topology
}

/// One source: the customer's exchange, the queue, its bindings and its dead letters; of a source that is split, all its
/// parts as well.
///
/// A split source's data goes `in.<customer>` → `split.<customer>.<source>` → one of its parts by a hash of the
/// header `kin-origin`, so that all that one host sends is in one part. Bodies without the header all go to one part, which is as
/// right: what matters is that no feed's samples are in two parts at a time. The source's own queue gets the values of the
/// parts instead (`kin.partials`).
pub(crate) fn source(customer: &Customer, source: &Source) -> Topology {
    let ingress = names::ingress_exchange(&customer.name);
    let key = source_key(customer, source);
    let own = names::source_queue(&key);
    let mut topology = dead_letters(&customer.name);
    topology.exchanges.push(exchange(ingress.clone(), ExchangeKind::Topic));
    topology.queues.push(source_queue(own.clone(), &customer.name, source));
    if source.partitions <= 1 {
        for pattern in &source.routing {
            topology.bindings.push(binding(ingress.clone(), own.clone(), pattern.clone()));
        }
        return topology;
    }
    let split = names::split_exchange(&key);
    topology.exchanges.push(partials());
    topology.exchanges.push(Exchange {
        hash_header: Some(Envelope::ORIGIN.to_owned()),
        takes_from: source.routing.iter().map(|pattern| (ingress.clone(), pattern.clone())).collect(),
        ..exchange(split.clone(), ExchangeKind::ConsistentHash)
    });
    topology.bindings.push(binding(names::PARTIALS_EXCHANGE, own.clone(), own));
    for part in 1..=source.partitions {
        let queue = names::source_queue(&key.with_part(part));
        topology.queues.push(source_queue(queue.clone(), &customer.name, source));
        topology.bindings.push(binding(split.clone(), queue, PART_WEIGHT));
    }
    topology
}

/// What an earlier revision with another number of parts may have left on the broker, and would give data to two queues
/// or to a queue that nobody binds any more. To be removed once [`source`] is declared: for a moment data may then reach
/// both the old and the new queues, which costs less than reaching none.
pub(crate) fn leftovers(customer: &Customer, source: &Source) -> Leftovers {
    let key = source_key(customer, source);
    let split = names::split_exchange(&key);
    if source.partitions <= 1 {
        return Leftovers { exchanges: vec![split], ..Leftovers::default() };
    }
    let (ingress, own) = (names::ingress_exchange(&customer.name), names::source_queue(&key));
    let whole = source.routing.iter().map(|pattern| binding(ingress.clone(), own.clone(), pattern.clone()));
    let beyond = (source.partitions + 1..=PARTITIONS_MAX)
        .map(|part| binding(split.clone(), names::source_queue(&key.with_part(part)), PART_WEIGHT));
    Leftovers { bindings: whole.chain(beyond).collect(), ..Leftovers::default() }
}

/// All that leads data to one queue of a source, in a region that its customer has left. Nobody publishes to a queue that is bound
/// to nothing, so that it can be emptied for good.
pub(crate) fn ways_to(key: &SourceKey, source: &Source) -> Leftovers {
    let (ingress, own) = (names::ingress_exchange(&key.customer), names::source_queue(key));
    let split = names::split_exchange(key);
    if key.part > 0 {
        return Leftovers {
            bindings: vec![binding(split.clone(), own, PART_WEIGHT)],
            exchanges: vec![split],
        };
    }
    let whole = source.routing.iter().map(|pattern| binding(ingress.clone(), own.clone(), pattern.clone()));
    let mut ways = Leftovers { bindings: whole.collect(), exchanges: Vec::new() };
    if source.partitions > 1 {
        ways.bindings.push(binding(names::PARTIALS_EXCHANGE, own.clone(), own));
        ways.exchanges.push(split);
    }
    ways
}

fn source_key(customer: &Customer, source: &Source) -> SourceKey {
    SourceKey { customer: customer.name.clone(), source: source.name.clone(), part: 0 }
}

/// The queue of a source or of a part of it.
pub(crate) fn source_queue(name: String, customer: &CustomerName, source: &Source) -> Queue {
    Queue {
        name,
        durable: true,
        args: QueueArgs {
            max_length: Some(source.max_length),
            max_length_bytes: Some(source.max_length_bytes),
            overflow: Some(Overflow::DropHead),
            dead_letter_exchange: Some(names::DEAD_EXCHANGE.into()),
            dead_letter_routing_key: Some(customer.to_string()),
            single_active_consumer: true,
            ..QueueArgs::default()
        },
        ..Queue::default()
    }
}

/// Where the parts of split sources send their values, within one vhost.
pub(crate) fn partials() -> Exchange {
    exchange(names::PARTIALS_EXCHANGE, ExchangeKind::Direct)
}

/// All customers of one vhost: what the redirector declares, so that data waits in the queues even while no analyzer
/// has ever run.
pub(crate) fn ingress(schema: &Schema, vhost: &str) -> Topology {
    let mut topology = locate();
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
    topology.bindings.sort();
    topology.bindings.dedup();
    kept(topology, queues_of(schema, vhost))
}

/// What earlier revisions may have left in one vhost, of all its customers.
pub(crate) fn ingress_leftovers(schema: &Schema, vhost: &str) -> Leftovers {
    let mut all = Leftovers::default();
    for customer in schema.customers.values() {
        if schema.regions.get(&customer.region).is_none_or(|region| region.vhost != vhost) {
            continue;
        }
        for declared in customer.sources.values() {
            let one = leftovers(customer, declared);
            all.bindings.extend(one.bindings);
            all.exchanges.extend(one.exchanges);
        }
    }
    all
}

/// The broker of a region, with this process's own login: the addresses that the schema names, or the one that this
/// process was given where the region is served by this installation's own broker.
pub(crate) fn region_address(control: &Address, region: &kinetic_schema::schema::Region) -> Address {
    let mut address = control.clone();
    if !region.amqp.is_empty() && !region.amqp.iter().any(|uri| control.is_also(uri)) {
        address.uris.clone_from(&region.amqp);
    }
    address.vhost.clone_from(&region.vhost);
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_reached_where_it_is_or_beside_us() {
        let text = r#"
            region "near" {
              amqp = ["amqps://broker.example"]
            }
            region "far" {
              amqp = ["amqps://elsewhere.example:5671"]
            }
            region "here" {}
        "#;
        let files = [("all.hcl".to_owned(), text.as_bytes().to_vec())].into();
        let schema = kinetic_schema::load(&files).schema.expect("checks");
        let mut control = Address::from_url("amqp://kinetic@127.0.0.1:5672").expect("an address");
        let goes = |control: &Address, region: &str| {
            region_address(control, &schema.regions[&region.into()]).uris.concat()
        };
        assert_eq!(goes(&control, "near"), "amqps://broker.example");
        assert_eq!(control.told(), ["amqp://127.0.0.1:5672"]);
        control.also = vec!["amqps://broker.example:5671".to_owned()];
        assert_eq!(goes(&control, "near"), "amqp://127.0.0.1:5672", "our own broker, by its other name");
        assert_eq!(goes(&control, "far"), "amqps://elsewhere.example:5671");
        assert_eq!(goes(&control, "here"), "amqp://127.0.0.1:5672");
        assert_eq!(control.told(), ["amqps://broker.example:5671"]);
    }

    /// A customer `acme` with a source `web` in so many parts.
    fn schema(partitions: u16) -> Schema {
        let text = r#"
            region "local" {}
            customer "acme" {
              region = region.local
              source "web" {
                data_type = "statsd"
                routing   = ["web.#", "*.cpu"]
              }
            }
        "#;
        let files = [("all.hcl".to_owned(), text.as_bytes().to_vec())].into();
        let loaded = kinetic_schema::load(&files);
        let mut schema = loaded.schema.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        for customer in schema.customers.values_mut() {
            customer.sources.values_mut().for_each(|source| source.partitions = partitions);
        }
        schema
    }

    fn bound(topology: &Topology) -> Vec<String> {
        let own = topology
            .exchanges
            .iter()
            .flat_map(|to| to.takes_from.iter().map(|(from, key)| format!("{from} -{key}-> {}", to.name)));
        let mut bound: Vec<String> = topology
            .bindings
            .iter()
            .map(|binding| format!("{} -{}-> {}", binding.exchange, binding.routing_key, binding.queue))
            .chain(own)
            .filter(|line| !line.starts_with("kin.dead") && !line.starts_with("kin.rpc"))
            .collect();
        bound.sort();
        bound
    }

    #[test]
    fn a_whole_source_is_bound_by_its_patterns() {
        let topology = ingress(&schema(1), "local");
        assert_eq!(bound(&topology), ["in.acme -*.cpu-> src.acme.web", "in.acme -web.#-> src.acme.web"]);
    }

    #[test]
    fn a_split_source_goes_to_its_parts_and_their_values_to_it() {
        let topology = ingress(&schema(2), "local");
        let want = [
            "in.acme -*.cpu-> split.acme.web",
            "in.acme -web.#-> split.acme.web",
            "kin.partials -src.acme.web-> src.acme.web",
            "split.acme.web -1-> src.acme.web.1",
            "split.acme.web -1-> src.acme.web.2",
        ];
        assert_eq!(bound(&topology), want);
        let mut queues: Vec<&str> = topology.queues.iter().map(|queue| queue.name.as_str()).collect();
        queues.retain(|name| name.starts_with("src."));
        assert_eq!(queues, ["src.acme.web", "src.acme.web.1", "src.acme.web.2"]);
        assert!(topology.queues.iter().all(|queue| queue.args.max_length.is_some()));
    }

    /// Whatever another number of parts bound, and this one does not, is removed; what this one binds never is.
    #[test]
    fn leftovers_are_exactly_what_other_numbers_of_parts_bind() {
        for now in [1, 2, 5, PARTITIONS_MAX] {
            let (wanted, removed) =
                (ingress(&schema(now), "local"), ingress_leftovers(&schema(now), "local"));
            let removed_text: Vec<String> = removed
                .bindings
                .iter()
                .map(|binding| format!("{} -{}-> {}", binding.exchange, binding.routing_key, binding.queue))
                .collect();
            assert!(bound(&wanted).iter().all(|line| !removed_text.contains(line)));
            for before in [1, 2, 3, PARTITIONS_MAX] {
                for line in bound(&ingress(&schema(before), "local")) {
                    let is_removed = removed_text.contains(&line)
                        || removed
                            .exchanges
                            .iter()
                            .any(|name| line.contains(&format!("{name} ")) || line.ends_with(name.as_str()));
                    let stays = bound(&wanted).contains(&line) || line.starts_with("kin.partials");
                    assert!(is_removed != stays, "{before} → {now}: {line}");
                }
            }
        }
    }
}
