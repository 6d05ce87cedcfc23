//! Decompression, with bounds: a body of a kilobyte may claim to be gigabytes.

use std::io::Read;

use flate2::bufread::GzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::decode::Context;
use crate::sample::Reject;

/// Most bytes that a body may inflate to.
pub const INFLATED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A customer's body may inflate to this many times the bytes that its limit allows a message, and never to more than
/// [`INFLATED_BYTES_MAX`].
pub const INFLATED_PER_MESSAGE_BYTE: usize = 8;
/// Most bytes out per byte in, once more than [`INFLATE_RATIO_FREE_BYTES`] have come out.
pub const INFLATE_RATIO_MAX: usize = 100;
/// Output up to here may have any ratio: very regular small bodies compress very well, and harm nobody.
pub const INFLATE_RATIO_FREE_BYTES: usize = 64 * 1024;
/// Largest window that a zstd frame may ask for; it is memory that is taken before anything comes out. RFC 8878
/// recommends this much for every decoder.
pub const ZSTD_WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Most gzip members or zstd frames in one body: each costs a decoder's tables, however small it is.
pub const INFLATE_MEMBERS_MAX: usize = 64;
/// Capacity that the caller's buffer keeps from one body to the next.
const SCRATCH_BYTES_KEPT: usize = 1024 * 1024;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The body as it was before compression, in `scratch` if it was compressed. Believes the magic bytes, labelled or
/// not; a label of gzip or zstd on anything else is refused, as is a compression that is not read here (`deflate`,
/// `br`, `snappy`). Any other label (`identity`, `utf-8`) is no compression.
///
/// # Errors
/// `BadEncoding` for a stream that is broken, cut off or grows past the bounds above; `Refused` for Prometheus remote
/// write, which comes in snappy.
pub fn inflate<'b>(
    context: &Context<'_>,
    body: &'b [u8],
    scratch: &'b mut Vec<u8>,
) -> Result<&'b [u8], Reject> {
    let label = context.content_encoding.unwrap_or("").trim();
    let labelled = |names: &[&str]| names.iter().any(|name| label.eq_ignore_ascii_case(name));
    scratch.clear();
    scratch.shrink_to(SCRATCH_BYTES_KEPT);
    if body.starts_with(GZIP_MAGIC) {
        gunzip(body, cap(context, body), scratch)?;
        return Ok(scratch);
    }
    if body.starts_with(ZSTD_MAGIC) {
        unzstd(body, cap(context, body), scratch)?;
        return Ok(scratch);
    }
    if labelled(&["snappy"]) && context.content_type.is_some_and(|t| t.starts_with("application/x-protobuf"))
    {
        return Err(Reject::Refused(crate::sample::Foreign::RemoteWrite));
    }
    if labelled(&["gzip", "x-gzip", "zstd", "deflate", "br", "snappy", "compress", "lz4"]) {
        return Err(Reject::BadEncoding);
    }
    Ok(body)
}

/// Most bytes that may come out of a body of this size.
fn cap(context: &Context<'_>, body: &[u8]) -> usize {
    let by_ratio = body.len().saturating_mul(INFLATE_RATIO_MAX).max(INFLATE_RATIO_FREE_BYTES);
    by_ratio.min(context.inflated_bytes_max).min(INFLATED_BYTES_MAX)
}

/// Appends what `from` yields, and refuses it once it goes past the cap.
fn read_capped(from: impl Read, cap: usize, to: &mut Vec<u8>) -> Result<(), Reject> {
    let room = cap.saturating_sub(to.len());
    let limit = u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1);
    let read = from.take(limit).read_to_end(to).map_err(|_| Reject::BadEncoding)?;
    if read > room { Err(Reject::BadEncoding) } else { Ok(()) }
}

/// gzip members one after the other.
fn gunzip(body: &[u8], cap: usize, to: &mut Vec<u8>) -> Result<(), Reject> {
    let mut rest = body;
    for _ in 0..INFLATE_MEMBERS_MAX {
        let mut member = GzDecoder::new(rest);
        read_capped(&mut member, cap, to)?;
        rest = member.into_inner();
        if rest.is_empty() {
            return Ok(());
        }
    }
    Err(Reject::BadEncoding)
}

/// zstd frames one after the other; skippable frames, which hold no data, are skipped.
fn unzstd(body: &[u8], cap: usize, to: &mut Vec<u8>) -> Result<(), Reject> {
    let mut rest = body;
    for _ in 0..INFLATE_MEMBERS_MAX {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
        let mut stream = match StreamingDecoder::new_with_decoder(&mut rest, decoder) {
            Ok(stream) => stream,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let length = usize::try_from(length).map_err(|_| Reject::BadEncoding)?;
                rest = rest.get(length..).ok_or(Reject::BadEncoding)?;
                if rest.is_empty() {
                    return Ok(());
                }
                continue;
            }
            Err(_) => return Err(Reject::BadEncoding),
        };
        read_capped(&mut stream, cap, to)?;
        let decoder = stream.into_frame_decoder();
        let (said, found) = (decoder.get_checksum_from_data(), decoder.get_calculated_checksum());
        if said.is_some() && said != found {
            return Err(Reject::BadEncoding);
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
    Err(Reject::BadEncoding)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use kinetic_wire::Wall;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(body: &[u8]) -> Vec<u8> {
        compress_to_vec(body, CompressionLevel::Fastest)
    }

    /// A zstd frame of `blocks` run-length blocks of 128 KiB each: four bytes in for each.
    fn zstd_bomb(blocks: usize) -> Vec<u8> {
        let mut frame = ZSTD_MAGIC.to_vec();
        frame.extend([0x00, 0x50]); // no checksum, no size; a window of 1 MiB
        for n in 0..blocks {
            let header = u32::from(n + 1 == blocks) | 1 << 1 | (128 * 1024) << 3;
            frame.extend(&header.to_le_bytes()[..3]);
            frame.push(b'x');
        }
        frame
    }

    fn run(encoding: Option<&str>, body: &[u8]) -> Result<Vec<u8>, Reject> {
        let context = Context { content_encoding: encoding, ..Context::bare(Wall(0)) };
        inflate(&context, body, &mut Vec::new()).map(<[u8]>::to_vec)
    }

    #[test]
    fn labelled_or_not_and_in_several_members() {
        let text = b"web.load:1|g\n".repeat(50);
        for packed in [gzip(&text), zstd(&text)] {
            for label in [None, Some("gzip"), Some("zstd"), Some("identity"), Some("utf-8")] {
                assert_eq!(run(label, &packed), Ok(text.clone()));
            }
            assert_eq!(run(None, &[packed.clone(), packed.clone()].concat()), Ok(text.repeat(2)));
        }
        assert_eq!(run(None, &text), Ok(text.clone()));
        assert_eq!(run(Some("UTF-8"), &text), Ok(text.clone()));
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &zstd(&text)].concat();
        assert_eq!(run(None, &[zstd(&text), skippable.clone()].concat()), Ok(text.repeat(2)));
        assert_eq!(run(None, &[&zstd(&text), &skippable[..10]].concat()), Ok(text.clone()));
    }

    #[test]
    fn members_are_capped() {
        for one in [gzip(b"a:1|c\n"), zstd(b"a:1|c\n")] {
            assert_eq!(run(None, &one.repeat(64)), Ok(b"a:1|c\n".repeat(64)));
            assert_eq!(run(None, &one.repeat(65)), Err(Reject::BadEncoding));
        }
    }

    #[test]
    fn a_label_without_the_thing_is_refused() {
        for label in ["gzip", "zstd", "deflate", "br", "snappy"] {
            assert_eq!(run(Some(label), b"a:1|c"), Err(Reject::BadEncoding), "{label}");
        }
    }

    #[test]
    fn broken_and_cut_streams_are_refused() {
        let text: Vec<u8> =
            (0..2000u32).flat_map(|n| format!("m{}:{n}|c\n", n * 7919 % 997).into_bytes()).collect();
        for packed in [gzip(&text), zstd(&text)] {
            assert_eq!(run(None, &packed), Ok(text.clone()));
            for cut in [4, 5, 12, packed.len() / 2, packed.len() - 1] {
                assert_eq!(run(None, &packed[..cut]), Err(Reject::BadEncoding), "cut at {cut}");
            }
            assert_eq!(run(None, &[&packed[..], b"junk"].concat()), Err(Reject::BadEncoding));
            // Both end with a check of what came out (gzip with its length after it).
            let mut wrong = packed.clone();
            let last = wrong.len() - if packed.starts_with(GZIP_MAGIC) { 5 } else { 1 };
            wrong[last] ^= 1;
            assert_eq!(run(None, &wrong), Err(Reject::BadEncoding), "checksum");
        }
    }

    #[test]
    fn bombs_are_capped() {
        let small = gzip(&vec![b'x'; INFLATE_RATIO_FREE_BYTES]);
        assert!(small.len() * INFLATE_RATIO_MAX < INFLATE_RATIO_FREE_BYTES);
        assert_eq!(run(None, &small).map(|b| b.len()), Ok(INFLATE_RATIO_FREE_BYTES));
        assert_eq!(run(None, &gzip(&vec![b'x'; INFLATE_RATIO_FREE_BYTES + 1])), Err(Reject::BadEncoding));
        assert_eq!(run(None, &gzip(&vec![b'x'; 8 << 20])), Err(Reject::BadEncoding));
        assert_eq!(run(None, &zstd_bomb(1)), Err(Reject::BadEncoding));
        assert_eq!(run(None, &zstd_bomb(8000)), Err(Reject::BadEncoding));
    }

    #[test]
    fn the_absolute_cap_binds_where_the_ratio_does_not() {
        let context = Context::bare(Wall(0));
        assert_eq!(cap(&context, &[]), INFLATE_RATIO_FREE_BYTES);
        assert_eq!(cap(&context, &[0; 1000]), 100_000);
        assert_eq!(cap(&context, &vec![0; INFLATED_BYTES_MAX]), INFLATED_BYTES_MAX);
        let tight = Context { inflated_bytes_max: 5_000, ..context };
        assert_eq!(cap(&tight, &[0; 1000]), 5_000, "a customer's own bound holds for small bodies too");
        for (bytes, expect) in [(99, Ok(())), (100, Ok(())), (101, Err(Reject::BadEncoding))] {
            let mut to = b"before".to_vec();
            assert_eq!(read_capped(std::io::repeat(1).take(bytes - 6), 100, &mut to), expect, "{bytes}");
        }
    }

    #[test]
    fn a_zstd_window_past_the_bound_is_refused_before_it_is_taken() {
        // Window descriptor 0xa0 = exponent 20: 1 GiB.
        let frame = [ZSTD_MAGIC, &[0x00, 0xa0, 0x01, 0x00, 0x00]].concat();
        assert_eq!(run(None, &frame), Err(Reject::BadEncoding));
    }
}
