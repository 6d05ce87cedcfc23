//! Exchanges, bindings and routing, pure.

use crate::args::{check_flag, check_same};
use crate::error::{Failure, Outcome};
use crate::queue::QueueId;
use crate::spread::{self, HashOn, Spread};
use crate::topic::Trie;
use amq_protocol::types::{AMQPValue, FieldTable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The four exchange types of AMQP 0-9-1, and the consistent-hash type of RabbitMQ's plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExchangeKind {
    Direct,
    Fanout,
    Topic,
    Headers,
    ConsistentHash,
}

impl ExchangeKind {
    /// The type of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" => Self::Headers,
            "x-consistent-hash" => Self::ConsistentHash,
            _ => return None,
        })
    }
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
        }
    }
}

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Destination {
    Queue(QueueId),
    Exchange(Arc<str>),
}

/// What a declaration says of an exchange.
#[derive(Debug, Clone)]
pub(crate) struct ExchangeSpec {
    pub(crate) kind: ExchangeKind,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: FieldTable,
}

/// Routing key, destination and canonical arguments: what makes a binding one binding.
type BindingId = (Box<str>, Destination, Box<[u8]>);

/// One exchange: what was declared, its bindings, and an index of them by its type.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) name: Arc<str>,
    pub(crate) spec: ExchangeSpec,
    pub(crate) alternate: Option<Arc<str>>,
    bindings: BTreeMap<BindingId, FieldTable>,
    direct: BTreeMap<Box<str>, Vec<Destination>>,
    fanout: Vec<Destination>,
    topic: Trie<Destination>,
    spread: Spread,
}

/// All exchanges of a vhost.
#[derive(Debug)]
pub(crate) struct Exchanges {
    vhost: Arc<str>,
    by_name: hashbrown::HashMap<Arc<str>, Exchange, foldhash::fast::FixedState>,
    /// For each destination, the exchanges that have a binding to it.
    sources: BTreeSet<(Destination, Arc<str>)>,
    bindings: usize,
}

/// What routing reads of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) key: &'a str,
    /// More keys, from `CC` and `BCC`.
    pub(crate) copies: &'a [Box<str>],
    /// As they came: the few exchanges that look into them parse them. What is parsed takes many times the space of what came.
    pub(crate) properties: &'a [u8],
}

fn canonical(arguments: &FieldTable) -> Box<[u8]> {
    // Tables are sorted maps, so equal tables have equal text.
    if arguments.inner().is_empty() { Box::default() } else { format!("{arguments:?}").into_bytes().into() }
}

impl Exchanges {
    /// The predeclared ones, with the default exchange left to the caller: it routes by queue name.
    pub(crate) fn new(vhost: Arc<str>) -> Self {
        let mut exchanges = Self {
            vhost,
            by_name: hashbrown::HashMap::with_hasher(foldhash::fast::FixedState::default()),
            sources: BTreeSet::new(),
            bindings: 0,
        };
        for (name, kind, internal) in [
            ("", ExchangeKind::Direct, false),
            ("amq.direct", ExchangeKind::Direct, false),
            ("amq.fanout", ExchangeKind::Fanout, false),
            ("amq.topic", ExchangeKind::Topic, false),
            ("amq.headers", ExchangeKind::Headers, false),
            ("amq.match", ExchangeKind::Headers, false),
            ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
        ] {
            let spec = ExchangeSpec {
                kind,
                durable: true,
                auto_delete: false,
                internal,
                arguments: FieldTable::default(),
            };
            exchanges.insert(name, spec, HashOn::default(), None);
        }
        exchanges
    }

    fn insert(&mut self, name: &str, spec: ExchangeSpec, on: HashOn, alternate: Option<Arc<str>>) {
        let name: Arc<str> = name.into();
        self.by_name.insert(
            Arc::clone(&name),
            Exchange {
                name,
                spec,
                alternate,
                bindings: BTreeMap::new(),
                direct: BTreeMap::new(),
                fanout: Vec::new(),
                topic: Trie::default(),
                spread: Spread::new(on),
            },
        );
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
    pub(crate) fn binding_count(&self) -> usize {
        self.bindings
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Exchange> {
        self.by_name.get(name)
    }

    pub(crate) fn lookup(&self, name: &str) -> Outcome<&Exchange> {
        self.get(name).ok_or_else(|| Failure::no_exchange(name, &self.vhost))
    }

    /// Declares, or checks that what exists is the same.
    pub(crate) fn declare(
        &mut self,
        name: &str,
        spec: ExchangeSpec,
        alternate: Option<Arc<str>>,
    ) -> Outcome<()> {
        let Some(current) = self.by_name.get(name) else {
            if name.starts_with("amq.") {
                return Err(Failure::access_refused(&format!(
                    "exchange name '{name}' contains reserved prefix 'amq.*'"
                )));
            }
            let on = match spec.kind {
                ExchangeKind::ConsistentHash => HashOn::read(&spec.arguments)?,
                _ => HashOn::default(),
            };
            self.insert(name, spec, on, alternate);
            return Ok(());
        };
        let what = format!("exchange '{name}' in vhost '{}'", self.vhost);
        if current.spec.kind != spec.kind {
            return Err(Failure::precondition(&format!(
                "inequivalent arg 'type' for {what}: received '{}' but current is '{}'",
                spec.kind.name(),
                current.spec.kind.name()
            )));
        }
        check_flag("durable", &what, spec.durable, current.spec.durable)?;
        check_flag("auto_delete", &what, spec.auto_delete, current.spec.auto_delete)?;
        check_flag("internal", &what, spec.internal, current.spec.internal)?;
        check_same(&["alternate-exchange"], &what, &spec.arguments, &current.spec.arguments)
    }

    /// Deletes with its bindings; an exchange that is not there is no error.
    pub(crate) fn delete(&mut self, name: &str, if_unused: bool) -> Outcome<()> {
        if name.starts_with("amq.") {
            return Err(Failure::access_refused(&format!(
                "exchange name '{name}' contains reserved prefix 'amq.*'"
            )));
        }
        let Some(exchange) = self.by_name.get(name) else { return Ok(()) };
        if if_unused && !exchange.bindings.is_empty() {
            return Err(Failure::precondition(&format!(
                "exchange '{name}' in vhost '{}' in use",
                self.vhost
            )));
        }
        self.remove(name);
        Ok(())
    }

    fn remove(&mut self, name: &str) {
        let Some(exchange) = self.by_name.remove(name) else { return };
        self.bindings -= exchange.bindings.len();
        for (_, destination, _) in exchange.bindings.into_keys() {
            self.sources.remove(&(destination, Arc::clone(&exchange.name)));
        }
        self.forget(&Destination::Exchange(exchange.name));
    }

    /// Adds a binding; a binding that exists already is no error.
    pub(crate) fn bind(
        &mut self,
        source: &str,
        to: Destination,
        key: &str,
        arguments: FieldTable,
    ) -> Outcome<()> {
        let exchange =
            self.by_name.get_mut(source).ok_or_else(|| Failure::no_exchange(source, &self.vhost))?;
        if exchange.spec.kind == ExchangeKind::ConsistentHash {
            spread::weight(key)?;
        }
        let id = (Box::from(key), to.clone(), canonical(&arguments));
        if exchange.bindings.insert(id, arguments).is_none() {
            self.bindings += 1;
            exchange.index(key, &to);
            let name = Arc::clone(&exchange.name);
            self.sources.insert((to, name));
        }
        Ok(())
    }

    /// Removes a binding; one that is not there is no error.
    pub(crate) fn unbind(
        &mut self,
        source: &str,
        to: &Destination,
        key: &str,
        arguments: &FieldTable,
    ) -> Outcome<()> {
        let exchange =
            self.by_name.get_mut(source).ok_or_else(|| Failure::no_exchange(source, &self.vhost))?;
        let id = (Box::from(key), to.clone(), canonical(arguments));
        if exchange.bindings.remove(&id).is_none() {
            return Ok(());
        }
        self.bindings -= 1;
        exchange.unindex(key, to);
        if !exchange.bindings.keys().any(|(_, other, _)| other == to) {
            let name = Arc::clone(&exchange.name);
            self.sources.remove(&(to.clone(), name));
        }
        if self.by_name.get(source).is_some_and(Exchange::is_spent) {
            self.remove(source);
        }
        Ok(())
    }

    /// Removes every binding to a destination that is gone, and auto-delete exchanges that lose their last.
    pub(crate) fn forget(&mut self, destination: &Destination) {
        // An exchange's name is never empty here: nothing can be bound to the default exchange.
        let first = (destination.clone(), Arc::from(""));
        let sources: Vec<Arc<str>> = self
            .sources
            .range(first..)
            .take_while(|(other, _)| other == destination)
            .map(|(_, source)| Arc::clone(source))
            .collect();
        for source in sources {
            self.sources.remove(&(destination.clone(), Arc::clone(&source)));
            let Some(exchange) = self.by_name.get_mut(&source) else { continue };
            let gone: Vec<_> =
                exchange.bindings.keys().filter(|(_, other, _)| other == destination).cloned().collect();
            self.bindings -= gone.len();
            for id in gone {
                exchange.bindings.remove(&id);
                exchange.unindex(&id.0, destination);
            }
            if exchange.is_spent() {
                self.remove(&source);
            }
        }
    }

    /// Collects the queues that a message published to `exchange` reaches, each once. The default exchange is not
    /// asked for here.
    pub(crate) fn route(&self, exchange: &str, route: Route<'_>, queues: &mut Vec<QueueId>) {
        let Some(first) = self.by_name.get(exchange) else { return };
        let mut seen: Vec<&str> = Vec::new();
        self.walk(first, route, queues, &mut seen);
        if queues.len() > 1 {
            queues.sort_unstable();
            queues.dedup();
        }
    }

    /// Follows exchange-to-exchange bindings and alternates without recursion and without going in circles.
    fn walk<'a>(
        &'a self,
        first: &'a Exchange,
        route: Route<'_>,
        queues: &mut Vec<QueueId>,
        seen: &mut Vec<&'a str>,
    ) {
        let mut next = vec![first];
        while let Some(exchange) = next.pop() {
            if seen.contains(&&*exchange.name) {
                continue;
            }
            seen.push(&exchange.name);
            let before = (queues.len(), next.len());
            exchange.destinations(route, &mut |destination| match destination {
                Destination::Queue(id) => queues.push(*id),
                Destination::Exchange(name) => next.extend(self.by_name.get(name)),
            });
            if before == (queues.len(), next.len()) {
                next.extend(exchange.alternate.as_ref().and_then(|name| self.by_name.get(name)));
            }
        }
    }
}

impl Exchange {
    /// An auto-delete exchange goes when its last binding goes.
    fn is_spent(&self) -> bool {
        self.spec.auto_delete && self.bindings.is_empty()
    }

    fn index(&mut self, key: &str, to: &Destination) {
        let add = |list: &mut Vec<Destination>| {
            if !list.contains(to) {
                list.push(to.clone());
            }
        };
        match self.spec.kind {
            ExchangeKind::Direct => add(self.direct.entry(key.into()).or_default()),
            ExchangeKind::Fanout => add(&mut self.fanout),
            ExchangeKind::Topic => self.topic.insert(key, to.clone()),
            ExchangeKind::ConsistentHash => self.spread.insert(key, to.clone()),
            ExchangeKind::Headers => {}
        }
    }

    /// Takes out of the index what no remaining binding needs: two bindings may differ by arguments only, and a
    /// fanout exchange does not care for keys.
    fn unindex(&mut self, key: &str, to: &Destination) {
        let others = match self.spec.kind {
            ExchangeKind::Fanout => self.bindings.keys().any(|(_, other, _)| other == to),
            _ => {
                let first: BindingId = (key.into(), to.clone(), Box::default());
                let next = self.bindings.range(first..).next();
                next.is_some_and(|((other, destination, _), _)| &**other == key && destination == to)
            }
        };
        if others {
            return;
        }
        match self.spec.kind {
            ExchangeKind::Direct => {
                if let Some(list) = self.direct.get_mut(key) {
                    list.retain(|other| other != to);
                    if list.is_empty() {
                        self.direct.remove(key);
                    }
                }
            }
            ExchangeKind::Fanout => self.fanout.retain(|other| other != to),
            ExchangeKind::Topic => self.topic.remove(key, to),
            ExchangeKind::ConsistentHash => self.spread.remove(key, to),
            ExchangeKind::Headers => {}
        }
    }

    fn destinations<'a>(&'a self, route: Route<'_>, found: &mut impl FnMut(&'a Destination)) {
        let keys = || std::iter::once(route.key).chain(route.copies.iter().map(|key| &**key));
        match self.spec.kind {
            ExchangeKind::Direct => {
                keys().filter_map(|key| self.direct.get(key)).flatten().for_each(found);
            }
            ExchangeKind::Fanout => self.fanout.iter().for_each(found),
            ExchangeKind::Topic => keys().for_each(|key| self.topic.matches(key, found)),
            ExchangeKind::ConsistentHash => self.spread.choose(route).into_iter().for_each(found),
            ExchangeKind::Headers => {
                let properties = crate::content::parse(route.properties);
                let headers = properties.headers().clone().unwrap_or_default();
                let matching =
                    self.bindings.iter().filter(|(_, arguments)| headers_match(arguments, &headers));
                matching.for_each(|((_, destination, _), _)| found(destination));
            }
        }
    }
}

/// The headers exchange: `x-match` says whether all or any of the binding's arguments must be there; a void value asks
/// for presence only; names with `x-` count only under the `-with-x` forms.
fn headers_match(arguments: &FieldTable, headers: &FieldTable) -> bool {
    let mode = arguments.inner().get("x-match").and_then(crate::args::text).unwrap_or("all");
    let with_x = mode.ends_with("-with-x");
    let mut tests = arguments
        .inner()
        .iter()
        .filter(|(name, _)| name.as_str() != "x-match" && (with_x || !name.as_str().starts_with("x-")))
        .map(|(name, wanted)| match headers.inner().get(name.as_str()) {
            None => false,
            Some(value) => matches!(wanted, AMQPValue::Void) || value == wanted,
        });
    if mode.starts_with("any") { tests.any(|hit| hit) } else { tests.all(|hit| hit) }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
