//! carbon's plaintext protocol as it comes over a connection: lines, in whatever pieces the network makes of them.
//!
//! ```text
//! pieces   servers.web-1.lo│ad 1.5 1795164112\nservers.w│eb-2.load 2 17951│        (closed)
//! chunks                    └ servers.web-1.load 1.5 …\n ┘                  the rest: unfinished, dropped
//! ```

use memchr::{memchr, memrchr};

use super::proxy;
use crate::batch::LINE_BYTES_MAX;

/// So much without the end of a line, and it is no line protocol that is spoken here.
pub const ENDLESS_BYTES: usize = 64 << 10;

/// What a connection must not begin with: a header that only trusted proxies may send, and have sent by now.
const FORGED: [&[u8]; 4] = [&proxy::SIGNATURE, b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// More than [`ENDLESS_BYTES`] without the end of a line.
    Endless,
    /// Not text: carbon's pickle protocol, for one, whose first bytes are a length or a pickle's mark.
    Binary,
    /// A PROXY header (either version) where none is believed.
    Forged,
}

/// The lines of one connection.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of a line.
    partial: Vec<u8>,
    /// Bytes so far of a line that is too long.
    skipped: usize,
    /// What the connection begins with has been looked at.
    is_begun: bool,
    /// Lines longer than analyzers take, left out.
    pub too_long: u64,
}

impl Lines {
    /// Takes a piece and appends the lines that are whole by it, each with its end.
    ///
    /// # Errors
    /// When the connection must be closed; what was appended is good.
    pub fn feed(&mut self, piece: &[u8], chunk: &mut Vec<u8>) -> Result<(), Broken> {
        if !self.is_begun {
            self.partial.extend_from_slice(piece);
            if self.begins()? {
                self.is_begun = true;
                let begun = std::mem::take(&mut self.partial);
                return self.split(&begun, chunk);
            }
            return Ok(());
        }
        self.split(piece, chunk)
    }

    /// The connection has ended: whether the beginning of a line is left over. It is not passed on: half a number is a number.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        !self.partial.is_empty() || self.skipped > 0
    }

    /// Whether enough has come to tell what it is, and it is text.
    fn begins(&self) -> Result<bool, Broken> {
        let begun = self.partial.as_slice();
        if begun.first().is_some_and(|byte| matches!(byte, 0x00 | 0x80)) {
            return Err(Broken::Binary);
        }
        if FORGED.iter().any(|forged| begun.starts_with(forged)) {
            return Err(Broken::Forged);
        }
        Ok(!FORGED.iter().any(|forged| forged.starts_with(begun)))
    }

    fn split(&mut self, mut piece: &[u8], chunk: &mut Vec<u8>) -> Result<(), Broken> {
        if self.skipped > 0 {
            let Some(end) = memchr(b'\n', piece) else { return self.skip(piece.len()) };
            self.skipped = 0;
            piece = &piece[end + 1..];
        }
        if !self.partial.is_empty()
            && let Some(end) = memchr(b'\n', piece)
        {
            if self.partial.len() + end > LINE_BYTES_MAX {
                self.too_long += 1;
            } else {
                chunk.extend_from_slice(&self.partial);
                chunk.extend_from_slice(&piece[..=end]);
            }
            self.partial.clear();
            piece = &piece[end + 1..];
        }
        if let Some(end) = memrchr(b'\n', piece) {
            chunk.extend_from_slice(&piece[..=end]);
            piece = &piece[end + 1..];
        }
        if self.partial.len() + piece.len() > LINE_BYTES_MAX {
            self.too_long += 1;
            let begun = self.partial.len();
            self.partial = Vec::new();
            return self.skip(begun + piece.len());
        }
        self.partial.extend_from_slice(piece);
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Broken> {
        self.skipped += bytes;
        if self.skipped > ENDLESS_BYTES { Err(Broken::Endless) } else { Ok(()) }
    }
}

/// What must hold of any bytes; for tests and fuzzing.
///
/// # Panics
/// If it does not hold.
pub fn exercise(bytes: &[u8]) {
    let read = |size: usize| {
        let (mut lines, mut chunk) = (Lines::default(), Vec::new());
        let outcome = bytes.chunks(size).try_for_each(|piece| {
            let outcome = lines.feed(piece, &mut chunk);
            assert!(lines.partial.len() <= LINE_BYTES_MAX.max(size), "what is held of a line is bounded");
            outcome
        });
        (chunk, outcome)
    };
    // One piece after the other: all sizes of pieces give the same lines, as far as a line is short enough to be told alike.
    let (whole, outcome) = read(bytes.len().max(1));
    assert!(whole.is_empty() || whole.ends_with(b"\n"), "only whole lines");
    let longest = bytes.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap_or(0);
    if longest <= LINE_BYTES_MAX {
        for size in [1, 7, 64] {
            assert_eq!(read(size), (whole.clone(), outcome), "in pieces of {size}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(pieces: &[&[u8]]) -> (Lines, Vec<u8>, Result<(), Broken>) {
        let (mut lines, mut chunk) = (Lines::default(), Vec::new());
        let outcome = pieces.iter().try_for_each(|piece| lines.feed(piece, &mut chunk));
        (lines, chunk, outcome)
    }

    #[test]
    fn lines_are_whole_or_not_there() {
        let (lines, chunk, outcome) = feed(&[b"a.b 1", b".5 2\nc.d", b" 3 4\ne.f 12"]);
        assert_eq!((chunk.as_slice(), outcome), (&b"a.b 1.5 2\nc.d 3 4\n"[..], Ok(())));
        assert!(lines.is_unfinished(), "half a line is left");
        assert!(!feed(&[b"a.b 1 2\n"]).0.is_unfinished());
    }

    #[test]
    fn too_long_a_line_is_left_out_and_an_endless_one_ends_it() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        let (lines, chunk, outcome) = feed(&[b"a 1 2\n", &long, b"y\nb 1 2\n"]);
        assert_eq!((chunk.as_slice(), outcome, lines.too_long), (&b"a 1 2\nb 1 2\n"[..], Ok(()), 1));
        assert!(lines.partial.capacity() <= 2 * LINE_BYTES_MAX);
        let (_, _, outcome) = feed(&[&long[..]; 9]);
        assert_eq!(outcome, Err(Broken::Endless));
    }

    #[test]
    fn what_is_no_text_or_a_forged_header_is_refused() {
        assert_eq!(feed(&[&[0, 0, 1, 7, 0x80, 2]]).2, Err(Broken::Binary));
        assert_eq!(feed(&[&[0x80, 2]]).2, Err(Broken::Binary));
        let mut v2: Vec<&[u8]> = proxy::SIGNATURE.chunks(1).collect();
        v2.push(&[0x21, 0x11, 0, 12]);
        assert_eq!(feed(&v2).2, Err(Broken::Forged));
        assert_eq!(feed(&[b"PROXY ", b"TCP4 127.0.1.5 127.0.0.1 1 2\r\na 1 2\n"]).2, Err(Broken::Forged));
        assert_eq!(feed(&[b"PROXY UNKNOWN\r\n"]).2, Err(Broken::Forged));
        assert_eq!(feed(&[b"PROXY", b".load 1 2\n"]).1, b"PROXY.load 1 2\n");
        assert_eq!(feed(&[b"\r\n", b"\r\na 1 2\n"]).1, b"\r\n\r\na 1 2\n");
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            text in prop::collection::vec(prop::sample::select(&b"ab 1\n"[..]), 0..400),
            cuts in prop::collection::vec(1_usize..40, 1..40),
        ) {
            let (mut pieces, mut rest, mut cut) = (Vec::new(), text.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(*cut.next().expect("endless").min(&rest.len()));
                pieces.push(piece);
                rest = after;
            }
            let (lines, chunk, outcome) = feed(&pieces);
            let whole = memrchr(b'\n', &text).map_or(&[][..], |end| &text[..=end]);
            prop_assert_eq!(outcome, Ok(()));
            prop_assert_eq!(&chunk, whole);
            prop_assert_eq!(lines.is_unfinished(), whole.len() < text.len());
        }
    }
}
