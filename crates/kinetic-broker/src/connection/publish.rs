//! Publishing: method, header and body of one message put together, checked, routed, confirmed.

use super::Connection;
use crate::account::Held;
use crate::args::{expiration_ms, text};
use crate::content::{self, Content, decode_content};
use crate::error::{Failure, Outcome};
use crate::message::Message;
use crate::outbox::Out;
use crate::permission::Right;
use crate::vhost::VHost;
use amq_protocol::types::{AMQPValue, FieldTable};
use std::sync::Arc;

/// Where a channel stands between `basic.publish` and the last byte of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Method,
    Header,
    Body {
        missing: usize,
    },
}

/// More routing keys of one message.
type CopyKeys = Box<[Box<str>]>;

/// The message a channel is receiving. Its space for the key is kept between messages.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    stage: Stage,
    exchange: Option<Arc<str>>,
    routing_key: Vec<u8>,
    mandatory: bool,
    properties: Vec<u8>,
    /// Routing key, properties, body; empty until the first of the body.
    data: Vec<u8>,
    /// What is here and not yet a message.
    held: Held,
    copies: CopyKeys,
    expiration_ms: Option<u64>,
}

impl Assembly {
    pub(super) fn is_idle(&self) -> bool {
        self.stage == Stage::Method
    }

    /// Makes space for a body of which this is known to come.
    fn begin(&mut self, body_bytes: usize) {
        self.data.reserve_exact(self.routing_key.len() + self.properties.len() + body_bytes);
        self.data.extend_from_slice(&self.routing_key);
        self.data.extend_from_slice(&self.properties);
    }
}

/// A claimed body size reserves no more than this beyond the bytes that have come.
const RESERVE_BYTES_MAX: usize = 128 << 10;
/// Properties of fewer bytes are not put on the account while their body is awaited, nor is their space given back.
const PROPERTIES_BYTES_SMALL: usize = 1024;

impl Connection {
    /// `basic.publish`: everything that can be refused before the content has come.
    pub(super) fn publish(
        &mut self,
        vhost: &VHost,
        number: u16,
        (exchange, routing_key): (&str, &str),
        mandatory: bool,
    ) -> Outcome<()> {
        self.check(vhost, Right::Write, "exchange", exchange)?;
        let found = vhost.exchanges.lookup(exchange)?;
        if found.spec.internal {
            return Err(Failure::access_refused(&format!(
                "cannot publish to internal exchange '{exchange}' in vhost '{}'",
                vhost.name
            )));
        }
        let Some(io) = self.channels.get_mut(&number) else { return Ok(()) };
        let assembly = &mut io.assembly;
        assembly.stage = Stage::Header;
        assembly.exchange = Some(Arc::clone(&found.name));
        assembly.routing_key.clear();
        assembly.routing_key.extend_from_slice(routing_key.as_bytes());
        assembly.mandatory = mandatory;
        Ok(())
    }

    /// A content header frame.
    pub(super) fn content_header(&mut self, vhost: &mut VHost, number: u16, payload: &[u8]) -> Outcome<()> {
        let Some(io) = self.channels.get(&number) else {
            return Err(Failure::channel_error("expected 'channel.open'"));
        };
        if io.closing {
            return Ok(());
        }
        if io.assembly.stage != Stage::Header {
            return Err(Failure::unexpected_frame("expected a method frame, got a content header"));
        }
        let content = decode_content(payload)?;
        let bound = self.shared.config.message_bytes_max;
        let max = self.rights.limits.message_bytes_max.map_or(bound, |max| max.min(bound));
        let size = usize::try_from(content.body_bytes).ok().filter(|size| *size <= max).ok_or_else(|| {
            Failure::precondition(&format!(
                "message size {} is larger than configured max size {max}",
                content.body_bytes
            ))
        })?;
        let login = &self.entrance.control.user;
        if let Some(user) = content.user_id.filter(|user| **user != **login) {
            return Err(Failure::precondition(&format!(
                "user_id property set to '{user}' but authenticated user was '{login}'"
            )));
        }
        let expiration_ms = content.expiration.map(expiration_ms).transpose()?;
        let (rewritten, copies) = self.look_inside(vhost, number, &content)?;
        let properties = rewritten.as_deref().unwrap_or(content.properties);
        let Some(io) = self.channels.get_mut(&number) else { return Ok(()) };
        let assembly = &mut io.assembly;
        assembly.properties.clear();
        assembly.properties.extend_from_slice(properties);
        if size > 0 && properties.len() > PROPERTIES_BYTES_SMALL {
            assembly.held.grow(&self.entrance.control.account, properties.len());
            self.holds_more = true;
        }
        assembly.expiration_ms = expiration_ms;
        assembly.copies = copies;
        assembly.stage = Stage::Body { missing: size };
        if size == 0 { self.complete(vhost, number) } else { Ok(()) }
    }

    /// The rare messages whose properties matter to the broker: rewritten properties, and more routing keys.
    fn look_inside(
        &self,
        vhost: &mut VHost,
        number: u16,
        content: &Content<'_>,
    ) -> Outcome<(Option<Vec<u8>>, CopyKeys)> {
        let direct_reply = content.reply_to == Some("amq.rabbitmq.reply-to");
        if !content.has_copies && !direct_reply {
            return Ok((None, Box::default()));
        }
        if content.has_copies && !self.rights.permission.write.is_all() {
            // RabbitMQ 3.10 checks the exchange only, so these headers would let a user write to routing keys that
            // the exchange's name was meant to keep it from.
            return Err(Failure::access_refused(&format!(
                "CC and BCC headers refused for user '{}'",
                self.entrance.control.user
            )));
        }
        let mut properties = content::parse(content.properties);
        let mut rewritten = false;
        let mut copies = Vec::new();
        if content.has_copies {
            let mut headers = properties.headers().clone().unwrap_or_default();
            for name in ["CC", "BCC"] {
                copies.extend(copy_keys(name, &headers)?);
            }
            if headers.contains_key("BCC") {
                let mut map = headers.inner().clone();
                map.remove("BCC");
                headers = FieldTable::from(map);
                properties = properties.with_headers(headers);
                rewritten = true;
            }
        }
        if direct_reply {
            let reply = vhost.channel(self.id, number).and_then(|channel| channel.reply.as_ref());
            let Some((key, _)) = reply else {
                return Err(Failure::precondition("fast reply consumer does not exist"));
            };
            properties = properties.with_reply_to((**key).into());
            rewritten = true;
        }
        let bytes = rewritten.then(|| content::write(&properties));
        Ok((bytes, copies.into()))
    }

    /// A body frame.
    pub(super) fn content_body(&mut self, vhost: &mut VHost, number: u16, payload: &[u8]) -> Outcome<()> {
        let Some(io) = self.channels.get_mut(&number) else {
            return Err(Failure::channel_error("expected 'channel.open'"));
        };
        if io.closing {
            return Ok(());
        }
        let Stage::Body { missing } = io.assembly.stage else {
            return Err(Failure::unexpected_frame("expected no content body"));
        };
        let missing = missing.checked_sub(payload.len()).ok_or_else(|| {
            Failure::frame(&format!(
                "content body is {} bytes longer than its header said",
                payload.len() - missing
            ))
        })?;
        let assembly = &mut io.assembly;
        if assembly.data.is_empty() {
            assembly.begin(payload.len() + missing.min(RESERVE_BYTES_MAX));
        }
        assembly.data.extend_from_slice(payload);
        assembly.stage = Stage::Body { missing };
        if missing > 0 {
            assembly.held.grow(&self.entrance.control.account, payload.len());
            self.holds_more = true;
        }
        if missing == 0 { self.complete(vhost, number) } else { Ok(()) }
    }

    /// The whole message is there.
    fn complete(&mut self, vhost: &mut VHost, number: u16) -> Outcome<()> {
        let Some(io) = self.channels.get_mut(&number) else { return Ok(()) };
        let assembly = &mut io.assembly;
        assembly.stage = Stage::Method;
        let Some(exchange) = assembly.exchange.take() else { return Ok(()) };
        if assembly.data.is_empty() {
            assembly.begin(0);
        }
        let mut message = Message::new(
            exchange,
            std::mem::take(&mut assembly.data),
            assembly.routing_key.len(),
            assembly.properties.len(),
            &self.entrance.control.account,
        );
        assembly.held = Held::default();
        if assembly.properties.len() > PROPERTIES_BYTES_SMALL {
            assembly.properties = Vec::new();
        }
        message.expiration_ms = assembly.expiration_ms.take();
        message.copies = std::mem::take(&mut assembly.copies);
        let mandatory = assembly.mandatory;
        self.holds_more = true;
        let (published, message) = vhost.publish(message)?;
        let returned = mandatory && !published.routed;
        let seq = vhost.confirms(self.id, number).map(crate::channel::Confirms::publish);
        if let Some(seq) = seq.filter(|_| returned || published.refused) {
            // What was before has to be told first: an acknowledgement of several must not run ahead of the return.
            let due = vhost.confirms(self.id, number).and_then(|confirms| confirms.due_before(seq));
            if let Some((tag, multiple)) = due {
                self.outbox.push(Out::Ack { channel: number, tag, multiple });
            }
        }
        if returned {
            self.outbox.push(Out::Return { channel: number, message });
        }
        let Some(seq) = seq else { return Ok(()) };
        if published.refused || returned {
            if let Some(confirms) = vhost.confirms(self.id, number) {
                confirms.tell(seq);
            }
            self.outbox.push(match published.refused {
                true => Out::Nack { channel: number, tag: seq },
                false => Out::Ack { channel: number, tag: seq, multiple: false },
            });
        } else if !self.confirming.contains(&number) {
            self.confirming.push(number);
        }
        Ok(())
    }
}

/// The routing keys in a `CC` or `BCC` header: an array of strings, as RabbitMQ demands.
fn copy_keys(name: &str, headers: &FieldTable) -> Outcome<Vec<Box<str>>> {
    match headers.inner().get(name) {
        None => Ok(Vec::new()),
        Some(AMQPValue::FieldArray(keys)) => Ok(keys
            .as_slice()
            .iter()
            .filter_map(text)
            .filter(|key| key.len() <= 255)
            .map(Box::from)
            .collect()),
        Some(_) => Err(Failure::precondition(&format!("invalid message: header '{name}' is not an array"))),
    }
}
