//! Methods on channels: the state of the channel first, then exchanges, queues and bindings.

use super::basic::token;
use super::{Connection, Io};
use crate::args::text;
use crate::entrance::Seat;
use crate::error::{Failure, Outcome};
use crate::exchange::{Destination, ExchangeKind, ExchangeSpec};
use crate::frame::{Method, decode_method};
use crate::permission::Right;
use crate::vhost::{DeclareQueue, REPLY_PREFIX, VHost};
use amq_protocol::protocol::{AMQPClass, access, channel, confirm, exchange, queue};
use amq_protocol::types::{FieldTable, ShortString};
use std::sync::Arc;

impl Connection {
    /// A method frame on a channel.
    pub(super) fn channel_method(&mut self, vhost: &mut VHost, number: u16, payload: &[u8]) -> Outcome<()> {
        let method = decode_method(payload)?;
        let Some(io) = self.channels.get(&number) else { return self.open(vhost, number, &method) };
        if io.closing {
            return self.while_closing(number, &method);
        }
        if !io.assembly.is_idle() {
            return Err(Failure::unexpected_frame("expected content, got a method frame"));
        }
        match method {
            Method::Publish { immediate: true, .. } => Err(Failure::not_implemented("immediate=true")),
            Method::Publish { exchange, routing_key, mandatory, .. } => {
                self.publish(vhost, number, (exchange, routing_key), mandatory)
            }
            Method::Other(class) => self.method(vhost, number, *class),
            settled => self.settle(vhost, number, &settled),
        }
    }

    fn open(&mut self, vhost: &mut VHost, number: u16, method: &Method<'_>) -> Outcome<()> {
        let Method::Other(class) = method else {
            return Err(Failure::channel_error("expected 'channel.open'"));
        };
        match **class {
            AMQPClass::Channel(channel::AMQPMethod::Open(_)) => {
                if number > self.channel_max {
                    return Err(Failure::not_allowed(&format!(
                        "number of channels opened ({}) has reached the negotiated channel_max ({})",
                        self.channels.len(),
                        self.channel_max
                    )));
                }
                let control = &self.entrance.control;
                let max = self.rights.limits.channels_max;
                let seat = Seat::take(&control.usage, max).ok_or_else(|| {
                    Failure::not_allowed(&format!(
                        "number of channels opened for user '{}' has reached the maximum allowed user limit of ({})",
                        control.user,
                        max.unwrap_or_default()
                    ))
                })?;
                vhost.open_channel(self.id, number);
                self.channels.insert(number, Io { _seat: Some(seat), ..Io::default() });
                self.reply(number, AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})));
                Ok(())
            }
            // An answer to a close that crossed the client's own.
            AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)) => Ok(()),
            _ => Err(Failure::channel_error("expected 'channel.open'")),
        }
    }

    /// The client has not heard yet that the channel is closed: only its end of it counts.
    fn while_closing(&mut self, number: u16, method: &Method<'_>) -> Outcome<()> {
        let Method::Other(class) = method else { return Ok(()) };
        match **class {
            AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)) => {
                self.channels.remove(&number);
            }
            AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
                self.reply(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn reply(&self, number: u16, method: AMQPClass) {
        self.outbox.method(number, method);
    }

    fn method(&mut self, vhost: &mut VHost, number: u16, class: AMQPClass) -> Outcome<()> {
        match class {
            AMQPClass::Basic(method) => self.basic(vhost, number, method),
            AMQPClass::Channel(method) => self.channel(vhost, number, &method),
            AMQPClass::Exchange(method) => self.exchange(vhost, number, method),
            AMQPClass::Queue(method) => self.queue(vhost, number, method),
            AMQPClass::Confirm(confirm::AMQPMethod::Select(select)) => {
                if let Some(channel) = vhost.channel(self.id, number) {
                    channel.confirms.get_or_insert_default();
                }
                if !select.nowait {
                    let ok = confirm::AMQPMethod::SelectOk(confirm::SelectOk {});
                    self.reply(number, AMQPClass::Confirm(ok));
                }
                Ok(())
            }
            AMQPClass::Access(access::AMQPMethod::Request(_)) => {
                let ok = access::AMQPMethod::RequestOk(access::RequestOk {});
                self.reply(number, AMQPClass::Access(ok));
                Ok(())
            }
            AMQPClass::Tx(_) => Err(Failure::not_implemented("transactions")),
            _ => Err(Failure::command_invalid("unexpected method on a channel")),
        }
    }

    fn channel(&mut self, vhost: &mut VHost, number: u16, method: &channel::AMQPMethod) -> Outcome<()> {
        match method {
            channel::AMQPMethod::Close(_) => {
                self.flush_confirms(vhost);
                vhost.close_channel(self.id, number);
                self.channels.remove(&number);
                self.reply(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
                Ok(())
            }
            channel::AMQPMethod::Flow(flow) if flow.active => {
                let ok = channel::AMQPMethod::FlowOk(channel::FlowOk { active: true });
                self.reply(number, AMQPClass::Channel(ok));
                Ok(())
            }
            channel::AMQPMethod::Flow(_) => Err(Failure::not_implemented("active=false")),
            channel::AMQPMethod::Open(_) => Err(Failure::channel_error("second 'channel.open' seen")),
            _ => Ok(()),
        }
    }

    /// The queue meant: an empty name is the last one declared on the channel.
    pub(super) fn queue_name(&self, vhost: &mut VHost, number: u16, name: &str) -> Outcome<Arc<str>> {
        if !name.is_empty() {
            return Ok(name.into());
        }
        let last = vhost.channel(self.id, number).and_then(|channel| channel.queue_last.clone());
        last.ok_or_else(|| Failure::not_found("no previously declared queue"))
    }

    fn queue(&mut self, vhost: &mut VHost, number: u16, method: queue::AMQPMethod) -> Outcome<()> {
        let outbox = Arc::clone(&self.outbox);
        let reply = |method| outbox.method(number, AMQPClass::Queue(method));
        match method {
            queue::AMQPMethod::Declare(declare) => self.declare_queue(vhost, number, declare),
            queue::AMQPMethod::Bind(bind) => {
                let name = self.queue_name(vhost, number, bind.queue.as_str())?;
                // RabbitMQ: with neither queue nor key given, the key is the queue's name.
                let key = match (bind.queue.as_str(), bind.routing_key.as_str()) {
                    ("", "") => &*name,
                    (_, key) => key,
                };
                let ends = Ends { source: bind.exchange.as_str(), queue: Some(&name), exchange: "" };
                let (source, to) = self.check_binding(vhost, &ends)?;
                vhost.bind(source, to, key, bind.arguments)?;
                if !bind.nowait {
                    reply(queue::AMQPMethod::BindOk(queue::BindOk {}));
                }
                Ok(())
            }
            queue::AMQPMethod::Unbind(unbind) => {
                let name = self.queue_name(vhost, number, unbind.queue.as_str())?;
                let key = match (unbind.queue.as_str(), unbind.routing_key.as_str()) {
                    ("", "") => &*name,
                    (_, key) => key,
                };
                let ends = Ends { source: unbind.exchange.as_str(), queue: Some(&name), exchange: "" };
                if let Some((source, to)) = self.check_unbinding(vhost, &ends)? {
                    vhost.exchanges.unbind(source, &to, key, &unbind.arguments)?;
                }
                reply(queue::AMQPMethod::UnbindOk(queue::UnbindOk {}));
                Ok(())
            }
            queue::AMQPMethod::Purge(purge) => {
                let name = self.queue_name(vhost, number, purge.queue.as_str())?;
                self.check(vhost, Right::Read, "queue", &name)?;
                let message_count = vhost.purge_queue(self.id, &name)?;
                if !purge.nowait {
                    reply(queue::AMQPMethod::PurgeOk(queue::PurgeOk { message_count }));
                }
                Ok(())
            }
            queue::AMQPMethod::Delete(delete) => {
                let name = self.queue_name(vhost, number, delete.queue.as_str())?;
                self.check(vhost, Right::Configure, "queue", &name)?;
                let message_count = vhost.delete_queue(self.id, &name, delete.if_unused, delete.if_empty)?;
                if !delete.nowait {
                    reply(queue::AMQPMethod::DeleteOk(queue::DeleteOk { message_count }));
                }
                Ok(())
            }
            _ => Err(Failure::command_invalid("unexpected method of class queue")),
        }
    }

    fn declare_queue(&mut self, vhost: &mut VHost, number: u16, declare: queue::Declare) -> Outcome<()> {
        let given = declare.queue.as_str();
        let ok = |name: &str, message_count, consumer_count| queue::DeclareOk {
            queue: ShortString::from(name),
            message_count,
            consumer_count,
        };
        let answer = if given.starts_with(REPLY_PREFIX) {
            // How an RPC server asks whether its client still listens.
            if !vhost.has_reply(given) {
                return Err(Failure::no_queue(given, &vhost.name));
            }
            ok(given, 0, 1)
        } else {
            let name = match given {
                "" if declare.passive => self.queue_name(vhost, number, "")?.to_string(),
                "" => format!("amq.gen-{}", token()),
                name => name.to_owned(),
            };
            let info = if declare.passive {
                self.check_known(vhost, "queue", &name)?;
                vhost.inspect_queue(self.id, &name)?
            } else {
                if given.starts_with("amq.") {
                    return Err(Failure::access_refused(&format!(
                        "queue name '{given}' contains reserved prefix 'amq.*'"
                    )));
                }
                self.check(vhost, Right::Configure, "queue", &name)?;
                if let Some(dead) = declare.arguments.inner().get("x-dead-letter-exchange").and_then(text) {
                    self.check(vhost, Right::Read, "queue", &name)?;
                    self.check(vhost, Right::Write, "exchange", dead)?;
                }
                let wanted = DeclareQueue {
                    name: &name,
                    durable: declare.durable,
                    exclusive: declare.exclusive,
                    auto_delete: declare.auto_delete,
                    arguments: declare.arguments,
                };
                vhost.declare_queue(self.id, wanted)?
            };
            if let Some(channel) = vhost.channel(self.id, number) {
                channel.queue_last = Some(name.as_str().into());
            }
            ok(&name, info.messages, info.consumers)
        };
        if !declare.nowait {
            self.reply(number, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(answer)));
        }
        Ok(())
    }

    fn exchange(&mut self, vhost: &mut VHost, number: u16, method: exchange::AMQPMethod) -> Outcome<()> {
        let outbox = Arc::clone(&self.outbox);
        let reply = |method| outbox.method(number, AMQPClass::Exchange(method));
        match method {
            exchange::AMQPMethod::Declare(declare) => {
                let nowait = declare.nowait;
                self.declare_exchange(vhost, declare)?;
                if !nowait {
                    reply(exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {}));
                }
                Ok(())
            }
            exchange::AMQPMethod::Delete(delete) => {
                let name = delete.exchange.as_str();
                not_default(name)?;
                self.check(vhost, Right::Configure, "exchange", name)?;
                vhost.exchanges.delete(name, delete.if_unused)?;
                if !delete.nowait {
                    reply(exchange::AMQPMethod::DeleteOk(exchange::DeleteOk {}));
                }
                Ok(())
            }
            exchange::AMQPMethod::Bind(bind) => {
                let ends =
                    Ends { source: bind.source.as_str(), queue: None, exchange: bind.destination.as_str() };
                let (source, to) = self.check_binding(vhost, &ends)?;
                vhost.bind(source, to, bind.routing_key.as_str(), bind.arguments)?;
                if !bind.nowait {
                    reply(exchange::AMQPMethod::BindOk(exchange::BindOk {}));
                }
                Ok(())
            }
            exchange::AMQPMethod::Unbind(unbind) => {
                let ends = Ends {
                    source: unbind.source.as_str(),
                    queue: None,
                    exchange: unbind.destination.as_str(),
                };
                if let Some((source, to)) = self.check_unbinding(vhost, &ends)? {
                    vhost.exchanges.unbind(source, &to, unbind.routing_key.as_str(), &unbind.arguments)?;
                }
                if !unbind.nowait {
                    reply(exchange::AMQPMethod::UnbindOk(exchange::UnbindOk {}));
                }
                Ok(())
            }
            _ => Err(Failure::command_invalid("unexpected method of class exchange")),
        }
    }

    fn declare_exchange(&mut self, vhost: &mut VHost, declare: exchange::Declare) -> Outcome<()> {
        let name = declare.exchange.as_str();
        not_default(name)?;
        if declare.passive {
            self.check_known(vhost, "exchange", name)?;
            return vhost.exchanges.lookup(name).map(|_| ());
        }
        let kind = ExchangeKind::named(declare.kind.as_str()).ok_or_else(|| {
            Failure::command_invalid(&format!("unknown exchange type '{}'", declare.kind.as_str()))
        })?;
        self.check(vhost, Right::Configure, "exchange", name)?;
        let alternate = alternate(&declare.arguments)?;
        if let Some(alternate) = &alternate {
            self.check(vhost, Right::Read, "exchange", name)?;
            self.check(vhost, Right::Write, "exchange", alternate)?;
        }
        let spec = ExchangeSpec {
            kind,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments.clone(),
        };
        vhost.declare_exchange(name, spec, alternate)
    }

    /// Checks both ends of a binding and finds them.
    fn check_binding<'a>(&self, vhost: &VHost, ends: &Ends<'a>) -> Outcome<(&'a str, Destination)> {
        self.may_bind(vhost, ends)?;
        vhost.exchanges.lookup(ends.source)?;
        let to = match ends.queue {
            Some(queue) => vhost.queue_destination(self.id, queue)?,
            None => Destination::Exchange(Arc::clone(&vhost.exchanges.lookup(ends.exchange)?.name)),
        };
        Ok((ends.source, to))
    }

    /// The same for a binding that is to go: `None` where an end of it is gone already, which is no error.
    fn check_unbinding<'a>(&self, vhost: &VHost, ends: &Ends<'a>) -> Outcome<Option<(&'a str, Destination)>> {
        let found = self.check_binding(vhost, ends);
        found.map(Some).or_else(|failure| if failure.code == 404 { Ok(None) } else { Err(failure) })
    }

    /// Write on where a binding leads, read on where it comes from.
    fn may_bind(&self, vhost: &VHost, ends: &Ends<'_>) -> Outcome<()> {
        not_default(ends.source)?;
        match ends.queue {
            Some(queue) => self.check(vhost, Right::Write, "queue", queue)?,
            None => {
                not_default(ends.exchange)?;
                self.check(vhost, Right::Write, "exchange", ends.exchange)?;
            }
        }
        self.check(vhost, Right::Read, "exchange", ends.source)
    }
}

/// The two ends of a binding: a source, and a queue or an exchange.
struct Ends<'a> {
    source: &'a str,
    queue: Option<&'a str>,
    exchange: &'a str,
}

fn not_default(name: &str) -> Outcome<()> {
    if name.is_empty() {
        return Err(Failure::access_refused("operation not permitted on the default exchange"));
    }
    Ok(())
}

fn alternate(arguments: &FieldTable) -> Outcome<Option<Arc<str>>> {
    match arguments.inner().get("alternate-exchange") {
        None => Ok(None),
        Some(value) => match text(value) {
            Some(name) => Ok(Some(name.into())),
            None => Err(Failure::precondition("invalid arg 'alternate-exchange': not a string")),
        },
    }
}
