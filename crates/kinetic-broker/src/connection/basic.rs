//! Methods of class basic beside publishing: consume, get, settle, qos, recover.

use super::Connection;
use crate::error::{Failure, Outcome};
use crate::frame::Method;
use crate::permission::Right;
use crate::vhost::{ConsumeSpec, VHost, Verdict};
use amq_protocol::protocol::{AMQPClass, basic};
use amq_protocol::types::ShortString;

/// The name that a client consumes from to get replies.
const REPLY_QUEUE: &str = "amq.rabbitmq.reply-to";

/// A name that nobody guesses: 128 random bits.
pub(super) fn token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Connection {
    /// `basic.ack`, `basic.nack` and `basic.reject`.
    pub(super) fn settle(&mut self, vhost: &mut VHost, number: u16, method: &Method<'_>) -> Outcome<()> {
        let put_back = |requeue: bool| if requeue { Verdict::Requeue } else { Verdict::Discard };
        let (tag, multiple, verdict) = match *method {
            Method::Ack { tag, multiple } => (tag, multiple, Verdict::Ack),
            Method::Nack { tag, multiple, requeue } => (tag, multiple, put_back(requeue)),
            Method::Reject { tag, requeue } => (tag, false, put_back(requeue)),
            Method::Publish { .. } | Method::Other(_) => return Ok(()),
        };
        vhost.settle(self.id, number, tag, multiple, verdict)
    }

    pub(super) fn basic(&mut self, vhost: &mut VHost, number: u16, method: basic::AMQPMethod) -> Outcome<()> {
        match method {
            basic::AMQPMethod::Qos(qos) => self.qos(vhost, number, &qos),
            basic::AMQPMethod::Consume(consume) => self.consume(vhost, number, &consume),
            basic::AMQPMethod::Cancel(cancel) => {
                vhost.cancel(self.id, number, cancel.consumer_tag.as_str());
                if !cancel.nowait {
                    let ok = basic::CancelOk { consumer_tag: cancel.consumer_tag };
                    self.reply_basic(number, basic::AMQPMethod::CancelOk(ok));
                }
                Ok(())
            }
            basic::AMQPMethod::Get(get) => self.get(vhost, number, &get),
            basic::AMQPMethod::Recover(recover) => self.recover(vhost, number, recover.requeue, true),
            basic::AMQPMethod::RecoverAsync(recover) => self.recover(vhost, number, recover.requeue, false),
            _ => Err(Failure::command_invalid("unexpected method of class basic")),
        }
    }

    fn reply_basic(&self, number: u16, method: basic::AMQPMethod) {
        self.outbox.method(number, AMQPClass::Basic(method));
    }

    fn qos(&mut self, vhost: &mut VHost, number: u16, qos: &basic::Qos) -> Outcome<()> {
        vhost.set_prefetch(self.id, number, qos.prefetch_count, qos.global);
        self.reply_basic(number, basic::AMQPMethod::QosOk(basic::QosOk {}));
        Ok(())
    }

    fn recover(&mut self, vhost: &mut VHost, number: u16, requeue: bool, answer: bool) -> Outcome<()> {
        if !requeue {
            return Err(Failure::not_implemented("requeue=false"));
        }
        if answer {
            self.reply_basic(number, basic::AMQPMethod::RecoverOk(basic::RecoverOk {}));
        }
        vhost.recover(self.id, number);
        Ok(())
    }

    fn get(&mut self, vhost: &mut VHost, number: u16, get: &basic::Get) -> Outcome<()> {
        let queue = self.queue_name(vhost, number, get.queue.as_str())?;
        self.check(vhost, Right::Read, "queue", &queue)?;
        if !vhost.get(self.id, number, &queue, get.no_ack)? {
            self.reply_basic(number, basic::AMQPMethod::GetEmpty(basic::GetEmpty {}));
        }
        Ok(())
    }

    fn consume(&mut self, vhost: &mut VHost, number: u16, consume: &basic::Consume) -> Outcome<()> {
        let tag = match consume.consumer_tag.as_str() {
            "" => {
                self.consumer_tags += 1;
                format!("amq.ctag-{}-{}", token(), self.consumer_tags)
            }
            tag => tag.to_owned(),
        };
        if vhost.has_consumer(self.id, number, &tag) {
            return Err(Failure::not_allowed(&format!("attempt to reuse consumer tag '{tag}'")));
        }
        let ok = |tag: &str| {
            basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: ShortString::from(tag) })
        };
        if consume.queue.as_str() == REPLY_QUEUE {
            if !consume.no_ack {
                return Err(Failure::precondition("reply consumer cannot acknowledge"));
            }
            vhost.consume_replies(self.id, number, &tag, &token())?;
            if !consume.nowait {
                self.reply_basic(number, ok(&tag));
            }
            return Ok(());
        }
        let queue = self.queue_name(vhost, number, consume.queue.as_str())?;
        self.check(vhost, Right::Read, "queue", &queue)?;
        let spec =
            ConsumeSpec { queue: &queue, tag: &tag, no_ack: consume.no_ack, exclusive: consume.exclusive };
        let id = vhost.consume(self.id, number, &spec)?;
        // The client has to know its consumer before the first delivery to it.
        if !consume.nowait {
            self.reply_basic(number, ok(&tag));
        }
        vhost.serve_queue(id);
        Ok(())
    }
}
