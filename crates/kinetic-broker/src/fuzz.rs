//! An entry for fuzzers: bytes as a client could send them, through everything that reads them.

use crate::content::{decode_content, parse};
use crate::frame::{FrameKind, Method, decode_method, next_frame};
use crate::handshake::{amqplain, plain};
use amq_protocol::protocol::{AMQPClass, connection};

/// Reads `data` as a stream of frames until one is refused or bytes are missing; never panics. Returns how many frames
/// were accepted.
pub fn fuzz_frames(data: &[u8]) -> usize {
    let (mut rest, mut accepted) = (data, 0);
    while let Ok(Some(frame)) = next_frame(rest, 131_072) {
        let fine = match frame.kind {
            FrameKind::Method => decode_method(frame.payload).map(|method| login(&method)).is_ok(),
            FrameKind::Header => {
                decode_content(frame.payload).map(|content| parse(content.properties)).is_ok()
            }
            FrameKind::Body | FrameKind::Heartbeat => true,
        };
        accepted += usize::from(fine);
        rest = &rest[frame.size_bytes()..];
    }
    accepted
}

/// What a login would be taken from, in every form.
fn login(method: &Method<'_>) {
    if let Method::Other(class) = method
        && let AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok)) = &**class
    {
        let response = start_ok.response.as_bytes();
        let _either = (plain(response), amqplain(response));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read() {
        let seeds: [&[u8]; 5] = [
            include_bytes!("../../../fuzz/seeds/frames/update_secret"),
            include_bytes!("../../../fuzz/seeds/frames/start_ok_external"),
            include_bytes!("../../../fuzz/seeds/frames/start_ok_amqplain"),
            include_bytes!("../../../fuzz/seeds/frames/start_ok_plain"),
            include_bytes!("../../../fuzz/seeds/frames/publish_copies"),
        ];
        assert_eq!(seeds.map(fuzz_frames), [1, 1, 1, 1, 3]);
    }
}
