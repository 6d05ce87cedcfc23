//! Dead-lettering: the new message with its `x-death` history, and the check against going in circles.

use super::VHost;
use crate::args::{integer, text};
use crate::content;
use crate::exchange::Route;
use crate::message::Message;
use amq_protocol::types::{AMQPValue, FieldArray, FieldTable, ShortString};
use std::sync::Arc;

/// Why a message left its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Rejected,
    Expired,
    MaxLen,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLen => "maxlen",
        }
    }
}

/// A message on its way to a dead-letter exchange.
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) message: Arc<Message>,
    pub(crate) queue: Arc<str>,
    pub(crate) exchange: Arc<str>,
    pub(crate) key: Option<Arc<str>>,
    pub(crate) reason: Reason,
}

impl VHost {
    /// Republishes what was buried. That may bury more; a message never comes to a queue twice in a row of deaths
    /// without somebody having rejected it, so this ends.
    pub(super) fn settle_dead(&mut self) {
        while let Some(dead) = self.dispatch.dead.pop_front() {
            let Some(exchange) = self.exchanges.get(&dead.exchange) else { continue };
            let name = Arc::clone(&exchange.name);
            let (message, headers) = bury(&dead, name, self.wall_s);
            let mut queues = Vec::new();
            if message.exchange.is_empty() {
                queues.extend(self.names.get(message.routing_key()).copied());
            } else {
                let route = Route {
                    key: message.routing_key(),
                    copies: &message.copies,
                    properties: message.properties(),
                };
                self.exchanges.route(&message.exchange, route, &mut queues);
            }
            self.dispatch.counters.dead_lettered += 1;
            let message = Arc::new(message);
            for id in queues {
                let circular = self.queues.get(&id).is_none_or(|queue| is_cycle(&headers, &queue.name));
                if !circular {
                    self.enqueue(id, &message);
                }
            }
        }
    }
}

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn deaths(headers: &FieldTable) -> &[AMQPValue] {
    match headers.inner().get("x-death") {
        Some(AMQPValue::FieldArray(array)) => array.as_slice(),
        _ => &[],
    }
}

fn field<'a>(death: &'a AMQPValue, name: &str) -> Option<&'a AMQPValue> {
    match death {
        AMQPValue::FieldTable(table) => table.inner().get(name),
        _ => None,
    }
}

/// Whether the message was in `queue` before, and nobody rejected it since: only the broker moves it around.
fn is_cycle(headers: &FieldTable, queue: &str) -> bool {
    let deaths = deaths(headers);
    let says = |death: &AMQPValue, name: &str, value: &str| field(death, name).and_then(text) == Some(value);
    match deaths.iter().position(|death| says(death, "queue", queue)) {
        None => false,
        Some(last) => !deaths[..=last].iter().any(|death| says(death, "reason", Reason::Rejected.name())),
    }
}

/// The message that goes to the dead-letter exchange, and its headers.
fn bury(dead: &Dead, exchange: Arc<str>, wall_s: u64) -> (Message, FieldTable) {
    let old = &dead.message;
    let properties = content::parse(old.properties());
    let mut headers = properties.headers().clone().unwrap_or_default();
    let death = death(dead, &headers, properties.expiration().as_ref().map(ShortString::as_str), wall_s);
    let same = |other: &AMQPValue| {
        ["queue", "reason"].iter().all(|name| field(other, name) == death.inner().get(*name))
    };
    let mut array = FieldArray::default();
    array.push(AMQPValue::FieldTable(death.clone()));
    deaths(&headers).iter().filter(|other| !same(other)).for_each(|other| array.push(other.clone()));
    for (name, value) in [
        ("x-first-death-reason", long(dead.reason.name())),
        ("x-first-death-queue", long(&dead.queue)),
        ("x-first-death-exchange", long(&old.exchange)),
    ] {
        if !headers.contains_key(name) {
            headers.insert(name.into(), value);
        }
    }
    headers.insert("x-death".into(), AMQPValue::FieldArray(array));
    if dead.key.is_some() {
        // The new key replaces all keys, and with them the header that named more of them.
        let mut map = headers.inner().clone();
        map.remove("CC");
        headers = FieldTable::from(map);
    }
    let key = dead.key.as_deref().unwrap_or(old.routing_key());
    let properties = content::write(&content::without_expiration(&properties, headers.clone()));
    let mut data = Vec::with_capacity(key.len() + properties.len() + old.body().len());
    data.extend_from_slice(key.as_bytes());
    data.extend_from_slice(&properties);
    data.extend_from_slice(old.body());
    let mut message = Message::new(exchange, data, key.len(), properties.len(), old.account());
    if dead.key.is_none() {
        message.copies.clone_from(&old.copies);
    }
    (message, headers)
}

/// One entry of `x-death`; a queue and reason that were there before count on.
fn death(dead: &Dead, headers: &FieldTable, expiration: Option<&str>, wall_s: u64) -> FieldTable {
    let before = deaths(headers).iter().find(|death| {
        field(death, "queue").and_then(text) == Some(&dead.queue)
            && field(death, "reason").and_then(text) == Some(dead.reason.name())
    });
    if let Some(AMQPValue::FieldTable(before)) = before {
        let count = before.inner().get("count").and_then(integer).unwrap_or(0);
        let mut table = before.clone();
        table.insert("count".into(), AMQPValue::LongLongInt(count.saturating_add(1)));
        return table;
    }
    let mut keys = FieldArray::default();
    keys.push(long(dead.message.routing_key()));
    dead.message.copies.iter().for_each(|key| keys.push(long(key)));
    let mut table = FieldTable::default();
    table.insert("count".into(), AMQPValue::LongLongInt(1));
    table.insert("reason".into(), long(dead.reason.name()));
    table.insert("queue".into(), long(&dead.queue));
    table.insert("time".into(), AMQPValue::Timestamp(wall_s));
    table.insert("exchange".into(), long(&dead.message.exchange));
    table.insert("routing-keys".into(), AMQPValue::FieldArray(keys));
    if let (Reason::Expired, Some(expiration)) = (dead.reason, expiration) {
        table.insert("original-expiration".into(), long(expiration));
    }
    table
}
