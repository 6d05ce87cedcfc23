//! Bodies as lines of text: what is allowed in them, where they end, how many there may be.

use memchr::memchr;

use crate::decode::LINES_MAX;
use crate::sample::Reject;

/// The body as text if it is printable ASCII and line feeds only, as nearly every body is. Then no line of it needs a
/// look at its bytes again. Written as a sum over blocks without an early exit, so that the compiler vectorises it.
pub(super) fn plain(body: &[u8]) -> Option<&str> {
    let clean = |block: &[u8]| {
        block.iter().fold(0u8, |odd, b| odd | u8::from((*b < b' ' && *b != b'\n') | (*b > b'~'))) == 0
    };
    let blocks = body.chunks_exact(256);
    let rest = clean(blocks.remainder());
    let mut blocks = blocks;
    (rest && blocks.all(clean)).then(|| std::str::from_utf8(body).ok()).flatten()
}

/// Whether a line holds control characters, other than tabs where `tabs` allows them.
pub(super) fn has_control(line: &str, tabs: Tabs) -> bool {
    line.chars().any(|c| c.is_control() && !(c == '\t' && tabs == Tabs::Allowed))
}

/// Whether tabs are white space or control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tabs {
    /// White space.
    Allowed,
    /// Control characters.
    Refused,
}

/// One line without its end, and as text unless it is refused. Empty ones are skipped.
pub(super) struct Lines<'b> {
    body: &'b [u8],
    text: Option<&'b str>,
    at: usize,
    tabs: Tabs,
    bytes_max: usize,
    /// Lines yielded.
    pub(super) count: u64,
}

impl<'b> Lines<'b> {
    pub(super) fn new(body: &'b [u8], tabs: Tabs, bytes_max: usize) -> Self {
        Self { body, text: plain(body), at: 0, tabs, bytes_max, count: 0 }
    }

    fn check(&self, from: usize, to: usize) -> Result<&'b str, Reject> {
        if to - from > self.bytes_max {
            return Err(Reject::LineTooLong);
        }
        if let Some(text) = self.text {
            return Ok(&text[from..to]);
        }
        if let Some(line) = plain(&self.body[from..to]) {
            return Ok(line);
        }
        let line = std::str::from_utf8(&self.body[from..to]).map_err(|_| Reject::BadText)?;
        if has_control(line, self.tabs) { Err(Reject::BadText) } else { Ok(line) }
    }
}

impl<'b> Iterator for Lines<'b> {
    type Item = (&'b [u8], Result<&'b str, Reject>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let from = self.at;
            if from >= self.body.len() {
                return None;
            }
            let end = memchr(b'\n', &self.body[from..]).map_or(self.body.len(), |n| from + n);
            self.at = end + 1;
            // One carriage return belongs to the line's end; a second one is a control character.
            let to = if end > from && self.body[end - 1] == b'\r' { end - 1 } else { end };
            if to == from {
                continue;
            }
            if self.count == LINES_MAX {
                self.at = self.body.len();
                return Some((head(&self.body[from..], self.bytes_max), Err(Reject::TooManyLines)));
            }
            self.count += 1;
            return Some((head(&self.body[from..to], self.bytes_max), self.check(from, to)));
        }
    }
}

/// The first bytes of a refused line, so that quarantine is bounded too.
pub(super) fn head(line: &[u8], bytes_max: usize) -> &[u8] {
    &line[..line.len().min(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(body: &[u8]) -> Vec<Result<&str, Reject>> {
        Lines::new(body, Tabs::Refused, 16).map(|(_, line)| line).collect()
    }

    #[test]
    fn plain_is_printable_ascii_and_line_feeds() {
        assert_eq!(plain(b"a:1|c\nb ~"), Some("a:1|c\nb ~"));
        for odd in [&b"\t"[..], b"\r", b"\0", b"\x7f", b"\x80", "é".as_bytes()] {
            for before in [0, 1, 255, 256, 600] {
                let mut body = vec![b'a'; before];
                body.extend_from_slice(odd);
                body.extend_from_slice(&[b'z'; 300]);
                assert_eq!(plain(&body), None, "{odd:?} after {before}");
            }
        }
    }

    #[test]
    fn each_line_stands_for_itself() {
        use Reject::{BadText, LineTooLong};
        assert_eq!(lines(b"a\n\nb\r\n\r\nc"), [Ok("a"), Ok("b"), Ok("c")]);
        assert_eq!(
            lines(b"a\0\nb\n\xff\nc\n\td\ne\r\r\n"),
            [Err(BadText), Ok("b"), Err(BadText), Ok("c"), Err(BadText), Err(BadText)]
        );
        assert_eq!(lines("é\nü\u{85}".as_bytes()), [Ok("é"), Err(BadText)]);
        assert_eq!(
            lines(b"0123456789abcdef\n0123456789abcdefg\nx"),
            [Ok("0123456789abcdef"), Err(LineTooLong), Ok("x")]
        );
    }

    #[test]
    fn lines_are_counted_and_capped() {
        let body = b"x\n".repeat(10_002);
        let mut read = Lines::new(&body, Tabs::Refused, 16);
        let last = read.by_ref().last();
        assert_eq!(last, Some((&b"x\nx\n"[..], Err(Reject::TooManyLines))));
        assert_eq!(read.count, LINES_MAX);
    }
}
