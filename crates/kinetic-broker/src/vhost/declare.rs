//! Declaring, binding and deleting.

use super::VHost;
use crate::args::{QueueArgs, check_flag, check_same_queue};
use crate::error::{Failure, Outcome};
use crate::exchange::{Destination, ExchangeSpec};
use crate::queue::{Queue, QueueId, QueueSpec, SessionId};
use amq_protocol::protocol::{AMQPClass, basic};
use amq_protocol::types::FieldTable;
use std::sync::Arc;

/// What a `queue.declare` asks for, its name settled.
#[derive(Debug)]
pub(crate) struct DeclareQueue<'a> {
    pub(crate) name: &'a str,
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: FieldTable,
}

/// What `queue.declare-ok` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueInfo {
    pub(crate) messages: u32,
    pub(crate) consumers: u32,
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl VHost {
    /// What a queue holds; 404 and 405 as for any use of it.
    pub(crate) fn inspect_queue(&mut self, session: SessionId, name: &str) -> Outcome<QueueInfo> {
        let id = self.find_queue(session, name)?;
        let now = self.now_ms();
        let queue = self.queues.get_mut(&id).ok_or_else(|| Failure::no_queue(name, &self.name))?;
        queue.used_ms = now;
        Ok(QueueInfo { messages: small(queue.len()), consumers: small(queue.consumers.len()) })
    }

    /// Declares a queue, or checks that what exists is the same.
    pub(crate) fn declare_queue(
        &mut self,
        session: SessionId,
        declare: DeclareQueue<'_>,
    ) -> Outcome<QueueInfo> {
        let what = format!("queue '{}' in vhost '{}'", declare.name, self.name);
        if self.names.contains_key(declare.name) {
            let info = self.inspect_queue(session, declare.name)?;
            let id = self.find_queue(session, declare.name)?;
            let spec = &self.queues.get(&id).ok_or_else(|| Failure::no_queue(declare.name, &self.name))?.spec;
            check_flag("durable", &what, declare.durable, spec.durable)?;
            check_flag("exclusive", &what, declare.exclusive, spec.exclusive.is_some())
                .map_err(|_| Failure::locked(&format!("cannot obtain exclusive access to locked {what}")))?;
            check_flag("auto_delete", &what, declare.auto_delete, spec.auto_delete)?;
            check_same_queue(&what, &declare.arguments, &spec.arguments)?;
            self.arm(id);
            return Ok(info);
        }
        let args = QueueArgs::read(&what, &declare.arguments)?;
        if self.queues.len() >= self.bounds.queues_max {
            return Err(Failure::precondition(&format!(
                "cannot declare {what}: the limit of {} queues is reached",
                self.bounds.queues_max
            )));
        }
        let id = QueueId(self.next_id());
        let name: Arc<str> = declare.name.into();
        let spec = QueueSpec {
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            exclusive: declare.exclusive.then_some(session),
            arguments: declare.arguments,
        };
        if declare.exclusive
            && let Some(owner) = self.dispatch.sessions.get_mut(&session)
        {
            owner.exclusive.insert(id);
        }
        self.names.insert(Arc::clone(&name), id);
        let queue = Queue::new(name, spec, args, self.now_ms());
        self.queues.insert(id, queue);
        self.arm(id);
        Ok(QueueInfo { messages: 0, consumers: 0 })
    }

    /// Declares an exchange, or checks that what exists is the same.
    pub(crate) fn declare_exchange(
        &mut self,
        name: &str,
        spec: ExchangeSpec,
        alternate: Option<Arc<str>>,
    ) -> Outcome<()> {
        if self.exchanges.get(name).is_none() && self.exchanges.len() >= self.bounds.exchanges_max {
            return Err(Failure::precondition(&format!(
                "cannot declare exchange '{name}' in vhost '{}': the limit of {} exchanges is reached",
                self.name, self.bounds.exchanges_max
            )));
        }
        self.exchanges.declare(name, spec, alternate)
    }

    /// The destination of a queue's binding.
    pub(crate) fn queue_destination(&self, session: SessionId, name: &str) -> Outcome<Destination> {
        self.find_queue(session, name).map(Destination::Queue)
    }

    /// Adds a binding.
    pub(crate) fn bind(
        &mut self,
        source: &str,
        to: Destination,
        key: &str,
        arguments: FieldTable,
    ) -> Outcome<()> {
        if self.exchanges.binding_count() >= self.bounds.bindings_max {
            return Err(Failure::precondition(&format!(
                "cannot bind in vhost '{}': the limit of {} bindings is reached",
                self.name, self.bounds.bindings_max
            )));
        }
        self.exchanges.bind(source, to, key, arguments)
    }

    /// Drops the ready messages of a queue; their number.
    pub(crate) fn purge_queue(&mut self, session: SessionId, name: &str) -> Outcome<u32> {
        let id = self.find_queue(session, name)?;
        Ok(self.queues.get_mut(&id).map_or(0, |queue| small(queue.purge())))
    }

    /// Deletes a queue; the number of ready messages that went with it. A queue that is not there is no error.
    pub(crate) fn delete_queue(
        &mut self,
        session: SessionId,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Outcome<u32> {
        if !self.names.contains_key(name) {
            return Ok(0);
        }
        let id = self.find_queue(session, name)?;
        let Some(queue) = self.queues.get(&id) else { return Ok(0) };
        let what = format!("queue '{name}' in vhost '{}'", self.name);
        if if_unused && !queue.consumers.is_empty() {
            return Err(Failure::precondition(&format!("{what} in use")));
        }
        if if_empty && !queue.is_empty() {
            return Err(Failure::precondition(&format!("{what} is not empty")));
        }
        let count = small(queue.len());
        self.remove_queue(id);
        Ok(count)
    }

    /// Removes a queue with its bindings; tells its consumers.
    pub(super) fn remove_queue(&mut self, id: QueueId) {
        let Some(queue) = self.queues.remove(&id) else { return };
        self.names.remove(&queue.name);
        self.exchanges.forget(&Destination::Queue(id));
        if let Some(at) = queue.timer_ms {
            self.timers.remove(&(at, id));
        }
        if let Some(owner) = queue.spec.exclusive.and_then(|owner| self.dispatch.sessions.get_mut(&owner)) {
            owner.exclusive.remove(&id);
        }
        for consumer in queue.consumers {
            let Some(consumer) = self.dispatch.consumers.remove(&consumer) else { continue };
            let Some(session) = self.dispatch.sessions.get_mut(&consumer.session) else { continue };
            if let Some(channel) = session.channels.get_mut(&consumer.channel) {
                channel.consumers.remove(&consumer.tag);
            }
            if session.cancel_notify {
                let cancel = basic::Cancel { consumer_tag: (*consumer.tag).into(), nowait: true };
                let method = AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel));
                session.outbox.method(consumer.channel, method);
                self.dispatch.wake(consumer.session);
            }
        }
    }
}
