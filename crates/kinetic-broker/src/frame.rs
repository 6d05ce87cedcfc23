//! Bytes to frames, frames to methods. Nothing here panics or allocates by what a client claims.

use crate::error::{Failure, Outcome};
use crate::table::{Cursor, check_table};
use amq_protocol::protocol::{AMQPClass, parse_class};

/// Bytes of a frame around its payload: type, channel, size, end marker.
pub(crate) const FRAME_OVERHEAD: usize = 8;
/// The smallest `frame_max` a client may choose, and the bound on frames before it has chosen.
pub(crate) const FRAME_MIN: u32 = 4096;
const FRAME_END: u8 = 206;

/// The four frame types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Method,
    Header,
    Body,
    Heartbeat,
}

/// One frame whose payload borrows from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: FrameKind,
    pub(crate) channel: u16,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes on the wire.
    pub(crate) fn size_bytes(&self) -> usize {
        self.payload.len() + FRAME_OVERHEAD
    }
}

/// The first frame in `bytes`; `None` when more bytes are needed.
pub(crate) fn next_frame(bytes: &[u8], frame_max: u32) -> Outcome<Option<Frame<'_>>> {
    let mut cursor = Cursor::new(bytes);
    let Some(kind) = cursor.u8() else { return Ok(None) };
    let kind = match kind {
        1 => FrameKind::Method,
        2 => FrameKind::Header,
        3 => FrameKind::Body,
        8 => FrameKind::Heartbeat,
        other => return Err(Failure::frame(&format!("unknown frame type {other}"))),
    };
    let (Some(channel), Some(size)) = (cursor.u16(), cursor.u32()) else { return Ok(None) };
    // As RabbitMQ: a payload may be as large as the maximum, since some clients forget the framing around it.
    if size > frame_max {
        return Err(Failure::frame(&format!("frame of {size} bytes is larger than the maximum {frame_max}")));
    }
    let size = usize::try_from(size).map_err(|_| Failure::frame("frame too large"))?;
    let Some(payload) = cursor.take(size) else { return Ok(None) };
    match cursor.u8() {
        None => Ok(None),
        Some(FRAME_END) => Ok(Some(Frame { kind, channel, payload })),
        Some(other) => Err(Failure::frame(&format!("frame ends with {other} instead of {FRAME_END}"))),
    }
}

/// A method from a client. The four on the hot path are decoded by hand, borrowing; the codec does the others.
#[derive(Debug)]
pub(crate) enum Method<'a> {
    Publish { exchange: &'a str, routing_key: &'a str, mandatory: bool, immediate: bool },
    Ack { tag: u64, multiple: bool },
    Nack { tag: u64, multiple: bool, requeue: bool },
    Reject { tag: u64, requeue: bool },
    Other(Box<AMQPClass>),
}

/// Class and method ids at the front of a method payload; zeros when they are missing.
pub(crate) fn method_ids(payload: &[u8]) -> (u16, u16) {
    let mut cursor = Cursor::new(payload);
    (cursor.u16().unwrap_or(0), cursor.u16().unwrap_or(0))
}

/// Decodes a method that a client may send; anything else is refused before it is parsed.
pub(crate) fn decode_method(payload: &[u8]) -> Outcome<Method<'_>> {
    let ids = method_ids(payload);
    let bad = || Failure::syntax(&format!("malformed method {}.{}", ids.0, ids.1));
    let mut cursor = Cursor::new(payload.get(4..).ok_or_else(bad)?);
    match ids {
        (60, 40) => decode_publish(cursor).ok_or_else(bad),
        (60, 80) => {
            decode_settle(cursor, |tag, bits| Method::Ack { tag, multiple: bits & 1 != 0 }).ok_or_else(bad)
        }
        (60, 90) => {
            decode_settle(cursor, |tag, bits| Method::Reject { tag, requeue: bits & 1 != 0 }).ok_or_else(bad)
        }
        (60, 120) => decode_settle(cursor, |tag, bits| Method::Nack {
            tag,
            multiple: bits & 1 != 0,
            requeue: bits & 2 != 0,
        })
        .ok_or_else(bad),
        _ => {
            let layout = client_method(ids)
                .ok_or_else(|| Failure::command_invalid(&format!("unknown method {}.{}", ids.0, ids.1)))?;
            skip(&mut cursor, layout).ok_or_else(bad)?;
            // The codec drops the prefetch size of basic.qos, which is to be refused.
            if ids == (60, 10) && cursor.u32().is_some_and(|size| size != 0) {
                return Err(Failure::not_implemented("prefetch_size!=0"));
            }
            match parse_class(payload) {
                Ok(([], class)) => Ok(Method::Other(Box::new(class))),
                _ => Err(bad()),
            }
        }
    }
}

fn decode_publish(mut cursor: Cursor<'_>) -> Option<Method<'_>> {
    cursor.u16()?;
    let exchange = cursor.short_str()?;
    let routing_key = cursor.short_str()?;
    let bits = cursor.u8()?;
    cursor.is_empty().then_some(Method::Publish {
        exchange,
        routing_key,
        mandatory: bits & 1 != 0,
        immediate: bits & 2 != 0,
    })
}

fn decode_settle<'a>(mut cursor: Cursor<'a>, make: impl Fn(u64, u8) -> Method<'a>) -> Option<Method<'a>> {
    let tag = cursor.u64()?;
    let bits = cursor.u8()?;
    cursor.is_empty().then(|| make(tag, bits))
}

/// The fields up to and including the table of each method that a client may send: `w` two bytes, `b` one, `s` short
/// string, `T` table. Methods without a table have nothing to check before the codec.
fn client_method(ids: (u16, u16)) -> Option<&'static str> {
    Some(match ids {
        (10, 11) => "T",
        (10, 21 | 31 | 40 | 50 | 51 | 70) => "",
        (20, 10 | 20 | 21 | 40 | 41) | (30, 10) => "",
        (40, 10) => "wssbT",
        (40, 30 | 40) => "wsssbT",
        (40, 20) | (50, 30 | 40) => "",
        (50, 10) => "wsbT",
        (50, 20) => "wsssbT",
        (50, 50) => "wsssT",
        (60, 10 | 30 | 31 | 70 | 100 | 110) => "",
        (60, 20) => "wssbT",
        (85, 10) | (90, 10 | 20 | 30) => "",
        _ => return None,
    })
}

fn skip(cursor: &mut Cursor<'_>, layout: &str) -> Option<()> {
    for field in layout.bytes() {
        match field {
            b'w' => cursor.u16().map(drop)?,
            b'b' => cursor.u8().map(drop)?,
            b's' => cursor.short().map(drop)?,
            _ => check_table(cursor.long()?, &mut |_| {})?,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_cut_exactly() {
        let bytes = [8, 0, 0, 0, 0, 0, 0, 206, 1, 0, 7, 0, 0, 0, 1, 42, 206];
        let first = next_frame(&bytes, 4096).unwrap().unwrap();
        assert_eq!((first.kind, first.channel, first.payload), (FrameKind::Heartbeat, 0, &[][..]));
        let second = next_frame(&bytes[first.size_bytes()..], 4096).unwrap().unwrap();
        assert_eq!((second.kind, second.channel, second.payload), (FrameKind::Method, 7, &[42][..]));
        for end in 0..8 {
            assert_eq!(next_frame(&bytes[..end], 4096), Ok(None), "{end}");
        }
    }

    #[test]
    fn wrong_frames_are_refused() {
        assert_eq!(next_frame(&[9], 4096).unwrap_err().code, 501);
        assert_eq!(next_frame(&[8, 0, 0, 0, 0, 0, 0, 205], 4096).unwrap_err().code, 501);
        assert_eq!(next_frame(&[3, 0, 1, 255, 255, 255, 255], 4096).unwrap_err().code, 501);
        let exactly = 4096u32.to_be_bytes();
        assert_eq!(next_frame(&[3, 0, 1, exactly[0], exactly[1], exactly[2], exactly[3]], 4096), Ok(None));
        let above = 4097u32.to_be_bytes();
        assert!(next_frame(&[3, 0, 1, above[0], above[1], above[2], above[3]], 4096).is_err());
    }

    #[test]
    fn deep_tables_never_reach_the_codec() {
        let mut table: Vec<u8> = Vec::new();
        for _ in 0..20_000 {
            let mut outer = vec![1, b'k', b'F'];
            outer.extend(u32::try_from(table.len()).unwrap().to_be_bytes());
            outer.append(&mut table);
            table = outer;
        }
        let mut payload = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
        payload.extend(u32::try_from(table.len()).unwrap().to_be_bytes());
        payload.append(&mut table);
        assert_eq!(decode_method(&payload).unwrap_err().code, 502);
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(next_frame(&bytes, 4096));
            drop(decode_method(&bytes));
        }

        #[test]
        fn methods_with_random_ends_never_panic(
            class in prop::sample::select(vec![10u16, 20, 30, 40, 50, 60, 85, 90]),
            method in 0u16..130,
            rest in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut payload = class.to_be_bytes().to_vec();
            payload.extend(method.to_be_bytes());
            payload.extend(rest);
            drop(decode_method(&payload));
        }
    }
}
