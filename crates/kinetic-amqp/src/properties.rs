//! Envelope to AMQP properties and back. Reading borrows; nothing here trusts what it reads.

use std::borrow::Cow;

use kinetic_wire::{Envelope, Epoch, Wall};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use uuid::Uuid;

use crate::AmqpError;

/// A short string, or the error that says which one is too long (lapin's own conversion panics).
pub(crate) fn short(what: &'static str, text: &str) -> Result<ShortString, AmqpError> {
    ShortString::try_new(text).map_err(|_| AmqpError::TooLong { what, size_bytes: text.len() })
}

/// The properties that carry `envelope`.
pub(crate) fn to_properties(envelope: &Envelope<'_>) -> Result<BasicProperties, AmqpError> {
    let mut properties =
        BasicProperties::default().with_delivery_mode(if envelope.persistent { 2 } else { 1 });
    let e = envelope;
    if let Some(text) = &e.content_type {
        properties = properties.with_content_type(short("content_type", text)?);
    }
    if let Some(text) = &e.content_encoding {
        properties = properties.with_content_encoding(short("content_encoding", text)?);
    }
    if let Some(text) = &e.kind {
        properties = properties.with_type(short("type", text)?);
    }
    if let Some(text) = &e.message_id {
        properties = properties.with_message_id(short("message_id", text)?);
    }
    if let Some(text) = &e.app_id {
        properties = properties.with_app_id(short("app_id", text)?);
    }
    if let Some(text) = &e.user_id {
        properties = properties.with_user_id(short("user_id", text)?);
    }
    if let Some(text) = &e.correlation_id {
        properties = properties.with_correlation_id(short("correlation_id", text)?);
    }
    if let Some(text) = &e.reply_to {
        properties = properties.with_reply_to(short("reply_to", text)?);
    }
    if let Some(timestamp_s) = e.timestamp_s {
        properties = properties.with_timestamp(timestamp_s);
    }
    if let Some(expiration_ms) = e.expiration_ms {
        properties = properties.with_expiration(short("expiration", &expiration_ms.to_string())?);
    }
    let headers = to_headers(envelope);
    Ok(if headers.inner().is_empty() { properties } else { properties.with_headers(headers) })
}

fn to_headers(envelope: &Envelope<'_>) -> FieldTable {
    let mut headers = FieldTable::default();
    let mut text = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        }
    };
    text(Envelope::ORIGIN, envelope.origin.as_deref());
    text(Envelope::PROFILE, envelope.profile.as_deref());
    text(Envelope::CUSTOMER, envelope.claimed_customer.as_deref());
    text(Envelope::TRACEPARENT, envelope.traceparent.as_deref());
    text(Envelope::MOVED, envelope.moved.as_deref());
    text(Envelope::INC, envelope.inc.map(|inc| inc.to_string()).as_deref());
    let mut number = |name: &str, value: Option<i64>| {
        if let Some(value) = value {
            headers.insert(name.into(), AMQPValue::LongLongInt(value));
        }
    };
    // AMQP's integers are signed; a sequence or epoch beyond 2^63 does not occur in this universe's lifetime.
    number(Envelope::TS_NS, envelope.ts.map(|ts| ts.0));
    number(Envelope::SEQ, envelope.seq.and_then(|seq| i64::try_from(seq).ok()));
    number(Envelope::EPOCH, envelope.epoch.and_then(|epoch| i64::try_from(epoch.0).ok()));
    headers
}

/// What the properties say, borrowed. A field that is not what it should be counts as absent.
pub(crate) fn to_envelope(properties: &BasicProperties) -> Envelope<'_> {
    let mut envelope = Envelope {
        content_type: borrowed(properties.content_type()),
        content_encoding: borrowed(properties.content_encoding()),
        kind: borrowed(properties.kind()),
        message_id: borrowed(properties.message_id()),
        app_id: borrowed(properties.app_id()),
        user_id: borrowed(properties.user_id()),
        timestamp_s: *properties.timestamp(),
        correlation_id: borrowed(properties.correlation_id()),
        reply_to: borrowed(properties.reply_to()),
        expiration_ms: properties.expiration().as_ref().and_then(|text| text.as_str().parse().ok()),
        persistent: *properties.delivery_mode() == Some(2),
        ..Envelope::default()
    };
    if let Some(headers) = properties.headers() {
        for (name, value) in headers.inner() {
            read_header(&mut envelope, name.as_str(), value);
        }
    }
    envelope
}

fn read_header<'a>(envelope: &mut Envelope<'a>, name: &str, value: &'a AMQPValue) {
    match name {
        Envelope::ORIGIN => envelope.origin = text(value),
        Envelope::PROFILE => envelope.profile = text(value),
        Envelope::CUSTOMER => envelope.claimed_customer = text(value),
        Envelope::TRACEPARENT => envelope.traceparent = text(value),
        Envelope::MOVED => envelope.moved = text(value),
        Envelope::INC => envelope.inc = text(value).and_then(|text| Uuid::try_parse(&text).ok()),
        Envelope::TS_NS => envelope.ts = integer(value).map(Wall),
        Envelope::SEQ => envelope.seq = integer(value).and_then(|seq| u64::try_from(seq).ok()),
        Envelope::EPOCH => {
            envelope.epoch = integer(value).and_then(|epoch| u64::try_from(epoch).ok()).map(Epoch)
        }
        _ => envelope.copied |= Envelope::COPIES.contains(&name),
    }
}

fn borrowed(property: &Option<ShortString>) -> Option<Cow<'_, str>> {
    property.as_ref().map(|text| Cow::Borrowed(text.as_str()))
}

fn text(value: &AMQPValue) -> Option<Cow<'_, str>> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(Cow::Borrowed),
        AMQPValue::ShortString(text) => Some(Cow::Borrowed(text.as_str())),
        _ => None,
    }
}

/// Any integer type: clients of other languages choose the smallest that fits.
fn integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(value) => Some(i64::from(*value)),
        AMQPValue::ShortShortUInt(value) => Some(i64::from(*value)),
        AMQPValue::ShortInt(value) => Some(i64::from(*value)),
        AMQPValue::ShortUInt(value) => Some(i64::from(*value)),
        AMQPValue::LongInt(value) => Some(i64::from(*value)),
        AMQPValue::LongUInt(value) => Some(i64::from(*value)),
        AMQPValue::LongLongInt(value) => Some(*value),
        AMQPValue::Timestamp(value) => i64::try_from(*value).ok(),
        AMQPValue::LongString(_) | AMQPValue::ShortString(_) => text(value)?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_round_trips() {
        let full = Envelope {
            content_type: Some("text/x-statsd".into()),
            content_encoding: Some("gzip".into()),
            kind: Some("kinetic.data.statsd.v1".into()),
            message_id: Some("0193".into()),
            app_id: Some("kinetic-agent/0".into()),
            user_id: Some("acme".into()),
            timestamp_s: Some(1_700_000_000),
            correlation_id: Some("7".into()),
            reply_to: Some("amq.rabbitmq.reply-to".into()),
            expiration_ms: Some(2_000),
            persistent: true,
            origin: Some("web-1".into()),
            profile: Some("web".into()),
            ts: Some(Wall(1_700_000_000_123_456_789)),
            seq: Some(9),
            inc: Some(Uuid::from_u128(7)),
            epoch: Some(Epoch(3)),
            claimed_customer: Some("acme".into()),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            moved: Some("web".into()),
            copied: false,
        };
        assert_eq!(to_envelope(&to_properties(&full).unwrap()), full);
        let bare = Envelope::default();
        assert_eq!(to_envelope(&to_properties(&bare).unwrap()), bare);
        assert!(to_properties(&bare).unwrap().headers().is_none());
    }

    #[test]
    fn other_clients_integers_and_texts_are_read() {
        let mut headers = FieldTable::default();
        headers.insert("kin-seq".into(), AMQPValue::LongInt(5));
        headers.insert("kin-ts-ns".into(), AMQPValue::LongString("17".into()));
        headers.insert("kin-epoch".into(), AMQPValue::LongLongInt(-1));
        headers.insert("kin-origin".into(), AMQPValue::LongString(vec![0xff].into()));
        headers.insert("kin-inc".into(), AMQPValue::Boolean(true));
        headers.insert("CC".into(), AMQPValue::Boolean(false));
        let properties = BasicProperties::default().with_headers(headers);
        let envelope = to_envelope(&properties);
        assert_eq!((envelope.seq, envelope.ts), (Some(5), Some(Wall(17))));
        assert_eq!((envelope.epoch, envelope.origin, envelope.inc), (None, None, None));
        assert!(envelope.copied, "whatever its value is");
    }

    #[test]
    fn a_property_that_does_not_fit_is_an_error_and_no_panic() {
        let long = "x".repeat(256);
        let envelope = Envelope { message_id: Some(long.into()), ..Envelope::default() };
        assert!(matches!(
            to_properties(&envelope),
            Err(AmqpError::TooLong { what: "message_id", size_bytes: 256 })
        ));
    }
}
