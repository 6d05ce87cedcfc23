//! Frames to bytes: the content-bearing ones by hand into one growing buffer, the others by the codec.

use crate::frame::FRAME_OVERHEAD;
use crate::message::Message;
use crate::outbox::Out;
use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::AMQPClass;

const FRAME_END: u8 = 206;

/// Appends one heartbeat frame.
pub(crate) fn heartbeat(buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&[8, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

/// Appends one method frame through the codec.
pub(crate) fn method(buffer: &mut Vec<u8>, channel: u16, method: AMQPClass) {
    let frame = AMQPFrame::Method(channel, method);
    let context = gen_frame(&frame)(WriteContext::from(Vec::with_capacity(128)));
    let bytes = context.map(|context| context.into_inner().0).expect("writing to memory cannot fail");
    buffer.extend_from_slice(&bytes);
}

/// Appends one thing from an outbox. False at the end of what will ever be written.
pub(crate) fn out(buffer: &mut Vec<u8>, frame_max: u32, out: Out) -> bool {
    match out {
        Out::Deliver { channel, consumer_tag, tag, redelivered, message } => {
            let at = start(buffer, channel, 60);
            short(buffer, &consumer_tag);
            buffer.extend_from_slice(&tag.to_be_bytes());
            buffer.push(u8::from(redelivered));
            short(buffer, &message.exchange);
            short(buffer, message.routing_key());
            end(buffer, at);
            content(buffer, frame_max, channel, &message);
        }
        Out::GetOk { channel, tag, redelivered, remaining, message } => {
            let at = start(buffer, channel, 71);
            buffer.extend_from_slice(&tag.to_be_bytes());
            buffer.push(u8::from(redelivered));
            short(buffer, &message.exchange);
            short(buffer, message.routing_key());
            buffer.extend_from_slice(&remaining.to_be_bytes());
            end(buffer, at);
            content(buffer, frame_max, channel, &message);
        }
        Out::Return { channel, message } => {
            let at = start(buffer, channel, 50);
            buffer.extend_from_slice(&312u16.to_be_bytes());
            short(buffer, "NO_ROUTE");
            short(buffer, &message.exchange);
            short(buffer, message.routing_key());
            end(buffer, at);
            content(buffer, frame_max, channel, &message);
        }
        Out::Ack { channel, tag, multiple } => settle(buffer, channel, 80, tag, u8::from(multiple)),
        Out::Nack { channel, tag } => settle(buffer, channel, 120, tag, 0),
        Out::Method { channel, method: class } => method(buffer, channel, *class),
        Out::End => return false,
    }
    true
}

/// Opens a frame of class basic; returns where its size will be written.
fn start(buffer: &mut Vec<u8>, channel: u16, method: u16) -> usize {
    buffer.push(1);
    buffer.extend_from_slice(&channel.to_be_bytes());
    let at = buffer.len();
    buffer.extend_from_slice(&[0, 0, 0, 0, 0, 60]);
    buffer.extend_from_slice(&method.to_be_bytes());
    at
}

fn end(buffer: &mut Vec<u8>, at: usize) {
    let size = u32::try_from(buffer.len() - at - 4).expect("a method is far below 4 GiB");
    buffer[at..at + 4].copy_from_slice(&size.to_be_bytes());
    buffer.push(FRAME_END);
}

fn short(buffer: &mut Vec<u8>, text: &str) {
    let len = u8::try_from(text.len()).expect("names come from short strings");
    buffer.push(len);
    buffer.extend_from_slice(text.as_bytes());
}

fn settle(buffer: &mut Vec<u8>, channel: u16, method: u16, tag: u64, bits: u8) {
    let at = start(buffer, channel, method);
    buffer.extend_from_slice(&tag.to_be_bytes());
    buffer.push(bits);
    end(buffer, at);
}

fn frame(buffer: &mut Vec<u8>, kind: u8, channel: u16, parts: [&[u8]; 3]) {
    let size = u32::try_from(parts.iter().map(|part| part.len()).sum::<usize>()).expect("below frame_max");
    buffer.push(kind);
    buffer.extend_from_slice(&channel.to_be_bytes());
    buffer.extend_from_slice(&size.to_be_bytes());
    for part in parts {
        buffer.extend_from_slice(part);
    }
    buffer.push(FRAME_END);
}

fn content(buffer: &mut Vec<u8>, frame_max: u32, channel: u16, message: &Message) {
    let body = message.body();
    frame(buffer, 2, channel, [&[0, 60, 0, 0], &(body.len() as u64).to_be_bytes(), message.properties()]);
    let chunk = usize::try_from(frame_max).expect("32 bits fit") - FRAME_OVERHEAD;
    for part in body.chunks(chunk) {
        frame(buffer, 3, channel, [part, &[], &[]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, Memory};
    use amq_protocol::frame::parse_frame;
    use amq_protocol::protocol::basic;
    use std::sync::Arc;

    #[test]
    fn a_delivery_reads_back_with_the_codec() {
        let account = Arc::new(Account::new(&Arc::new(Memory::new(1 << 20))));
        let properties = crate::content::write(&basic::AMQPProperties::default().with_app_id("a".into()));
        let mut data = b"key".to_vec();
        data.extend(&properties);
        data.extend(vec![7u8; 5000]);
        let message = Arc::new(Message::new("x".into(), data, 3, properties.len(), &account));
        let mut buffer = Vec::new();
        let deliver =
            Out::Deliver { channel: 3, consumer_tag: "c".into(), tag: 9, redelivered: true, message };
        assert!(out(&mut buffer, 4096, deliver));
        let (rest, first) = parse_frame(&buffer[..]).unwrap();
        let expect = basic::Deliver {
            consumer_tag: "c".into(),
            delivery_tag: 9,
            redelivered: true,
            exchange: "x".into(),
            routing_key: "key".into(),
        };
        assert_eq!(first, AMQPFrame::Method(3, AMQPClass::Basic(basic::AMQPMethod::Deliver(expect))));
        let (rest, header) = parse_frame(rest).unwrap();
        assert!(matches!(header, AMQPFrame::Header(3, header) if header.body_size == 5000
            && header.properties.app_id().as_ref().is_some_and(|a| a.as_str() == "a")));
        let (rest, one) = parse_frame(rest).unwrap();
        let (rest, two) = parse_frame(rest).unwrap();
        assert!(matches!((one, two), (AMQPFrame::Body(3, one), AMQPFrame::Body(3, two))
            if one.len() == 4088 && two.len() == 912));
        assert!(rest.is_empty());
    }
}
