//! An entry for fuzzers: bytes as a client could send them, through everything that reads them.

use crate::content::{decode_content, parse};
use crate::frame::{FrameKind, decode_method, next_frame};

/// Reads `data` as a stream of frames until one is refused or bytes are missing; never panics. Returns how many frames
/// were accepted.
pub fn fuzz_frames(data: &[u8]) -> usize {
    let (mut rest, mut accepted) = (data, 0);
    while let Ok(Some(frame)) = next_frame(rest, 131_072) {
        let fine = match frame.kind {
            FrameKind::Method => decode_method(frame.payload).is_ok(),
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
