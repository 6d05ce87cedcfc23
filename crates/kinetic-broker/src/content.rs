//! Content headers: the properties of a message, walked as bytes and forwarded as they came.

use crate::error::{Failure, Outcome};
use crate::table::{Cursor, check_table};
use amq_protocol::frame::WriteContext;
use amq_protocol::protocol::basic::{AMQPProperties, gen_properties, parse_properties};

/// What the broker itself reads of a content header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Content<'a> {
    /// Bytes of the body that follow.
    pub(crate) body_bytes: u64,
    /// The property flags and values, as they go out again.
    pub(crate) properties: &'a [u8],
    /// A `CC` or `BCC` header: more routing keys.
    pub(crate) has_copies: bool,
    pub(crate) persistent: bool,
    pub(crate) reply_to: Option<&'a str>,
    pub(crate) expiration: Option<&'a str>,
    pub(crate) user_id: Option<&'a str>,
}

/// Walks the payload of a content header frame.
pub(crate) fn decode_content(payload: &[u8]) -> Outcome<Content<'_>> {
    let mut cursor = Cursor::new(payload);
    match cursor.u16() {
        Some(60) => {}
        Some(class) => return Err(Failure::unexpected_frame(&format!("content header for class {class}"))),
        None => return Err(Failure::syntax("malformed content header")),
    }
    scan(cursor, payload).ok_or_else(|| Failure::syntax("malformed content header"))
}

fn scan<'a>(mut cursor: Cursor<'a>, payload: &'a [u8]) -> Option<Content<'a>> {
    cursor.u16()?;
    let body_bytes = cursor.u64()?;
    let properties = payload.get(12..)?;
    let mut content = Content { body_bytes, properties, ..Content::default() };
    let flags = cursor.u16()?;
    // Bits 1 and 0 would announce properties that class basic does not have.
    if flags & 3 != 0 {
        return None;
    }
    for bit in (2..16u32).rev() {
        if flags & (1 << bit) == 0 {
            continue;
        }
        match 15 - bit {
            2 => {
                check_table(cursor.long()?, &mut |key| content.has_copies |= key == "CC" || key == "BCC")?;
            }
            3 => content.persistent = cursor.u8()? == 2,
            4 => cursor.u8().map(drop)?,
            6 => content.reply_to = Some(cursor.short_str()?),
            7 => content.expiration = Some(cursor.short_str()?),
            9 => cursor.u64().map(drop)?,
            11 => content.user_id = Some(cursor.short_str()?),
            _ => cursor.short_str().map(drop)?,
        }
    }
    cursor.is_empty().then_some(content)
}

/// The properties as values; they have passed [`decode_content`], so they parse.
pub(crate) fn parse(properties: &[u8]) -> AMQPProperties {
    parse_properties(properties).map(|(_, properties)| properties).unwrap_or_default()
}

/// The properties as bytes.
pub(crate) fn write(properties: &AMQPProperties) -> Vec<u8> {
    gen_properties(properties)(WriteContext::from(Vec::new()))
        .map(|context| context.into_inner().0)
        .expect("writing to memory cannot fail")
}

/// A copy of `from` without its expiration, and with other headers.
pub(crate) fn without_expiration(
    from: &AMQPProperties,
    headers: amq_protocol::types::FieldTable,
) -> AMQPProperties {
    let mut to = AMQPProperties::default().with_headers(headers);
    macro_rules! carry {
        ($($get:ident => $set:ident),*) => { $(if let Some(value) = from.$get().clone() { to = to.$set(value); })* };
    }
    carry!(content_type => with_content_type, content_encoding => with_content_encoding,
        delivery_mode => with_delivery_mode, priority => with_priority, correlation_id => with_correlation_id,
        reply_to => with_reply_to, message_id => with_message_id, timestamp => with_timestamp, kind => with_type,
        user_id => with_user_id, app_id => with_app_id, cluster_id => with_cluster_id);
    to
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::types::{AMQPValue, FieldArray, FieldTable};
    use proptest::prelude::*;

    fn header(properties: &AMQPProperties, body_bytes: u64) -> Vec<u8> {
        let mut payload = vec![0, 60, 0, 0];
        payload.extend(body_bytes.to_be_bytes());
        payload.extend(write(properties));
        payload
    }

    #[test]
    fn properties_are_seen() {
        let mut headers = FieldTable::default();
        headers.insert("CC".into(), AMQPValue::FieldArray(FieldArray::default()));
        let properties = AMQPProperties::default()
            .with_content_type("text/plain".into())
            .with_headers(headers)
            .with_delivery_mode(2)
            .with_priority(1)
            .with_correlation_id("c".into())
            .with_reply_to("r".into())
            .with_expiration("100".into())
            .with_message_id("m".into())
            .with_timestamp(7)
            .with_type("t".into())
            .with_user_id("u".into())
            .with_app_id("a".into())
            .with_cluster_id("k".into());
        let payload = header(&properties, 9);
        let content = decode_content(&payload).unwrap();
        assert_eq!(content.body_bytes, 9);
        assert!(content.has_copies && content.persistent);
        assert_eq!(
            (content.reply_to, content.expiration, content.user_id),
            (Some("r"), Some("100"), Some("u"))
        );
        assert_eq!(parse(content.properties), properties);
        assert_eq!(write(&parse(content.properties)), content.properties);
        for end in 0..payload.len() {
            assert!(decode_content(&payload[..end]).is_err(), "{end}");
        }
    }

    proptest! {
        /// Whatever passes the walk also parses: the flags of the one are those of the other.
        #[test]
        fn the_walk_agrees_with_the_codec(rest in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            payload.extend(&rest);
            if let Ok(content) = decode_content(&payload) {
                let (left, parsed) = parse_properties(content.properties).expect("the walk accepted it");
                prop_assert!(left.is_empty());
                prop_assert_eq!(parsed.reply_to().as_ref().map(|s| s.as_str()), content.reply_to);
            }
        }
    }
}
