//! Lines to bodies, by size and age.
//!
//! ```text
//! datagrams   a:1|c\nb:2|c\n      c:3|ms         d:4|g\ne:5|g
//! bodies      └─ a:1|c\nb:2|c\nc:3|ms\nd:4|g ──┘ └─ e:5|g …      never across a line, never across a second
//! ```
//! A body never crosses a second of the wall clock: windows begin and end on whole seconds, so the one time stamp of a
//! body (its first line's arrival) puts every line of it into the window that the line arrived in.

use kinetic_wire::{Mono, Now, Wall};
use memchr::{memchr, memchr_iter, memrchr};

/// Longest line that is passed on; analyzers refuse longer ones.
pub const LINE_BYTES_MAX: usize = 8 << 10;

/// A body that is still being filled.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    body_bytes: usize,
    /// Bytes that a body is given when it is opened.
    reserved: usize,
    opened: Option<Now>,
}

/// A body that is full, old, or of a second that has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The lines, joined by `\n`.
    pub bytes: Vec<u8>,
    /// When its first line arrived.
    pub first: Wall,
}

/// What became of a datagram's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Lines in bodies.
    pub lines: u64,
    /// Their bytes, without separators.
    pub bytes: u64,
    /// Lines that were too long.
    pub too_long: u64,
}

impl Batch {
    /// Nothing yet; bodies will have at most this many bytes.
    #[must_use]
    pub fn new(body_bytes: usize) -> Self {
        Self { bytes: Vec::new(), body_bytes: body_bytes.max(1), reserved: body_bytes.max(1), opened: None }
    }

    /// The same, for one of many that mostly stay small: a body is given memory as it grows.
    #[must_use]
    pub fn growing(body_bytes: usize) -> Self {
        Self { reserved: 0, ..Self::new(body_bytes) }
    }

    /// Changes the size of bodies from the next one on.
    pub fn set_body_bytes(&mut self, body_bytes: usize) {
        self.body_bytes = body_bytes.max(1);
        self.reserved = if self.reserved == 0 { 0 } else { self.body_bytes };
    }

    /// Bytes in the open body.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no body is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.opened.is_none()
    }

    /// When the open body got its first line.
    #[must_use]
    pub fn opened(&self) -> Option<Mono> {
        self.opened.map(|now| now.mono)
    }

    /// Adds a datagram's lines; bodies that fill up are given to `close`, and so is one of a second that has passed.
    pub fn push(&mut self, now: Now, datagram: &[u8], mut close: impl FnMut(Closed)) -> Taken {
        if self.opened.is_some_and(|opened| opened.wall.as_secs() != now.wall.as_secs()) {
            self.close().into_iter().for_each(&mut close);
        }
        let datagram = datagram.strip_suffix(b"\n").unwrap_or(datagram);
        match self.lines_if_clean(datagram) {
            Some(lines) => {
                self.push_clean(now, datagram, &mut close);
                Taken { lines, bytes: datagram.len() as u64 + 1 - lines, too_long: 0 }
            }
            None => self.push_lines(now, datagram, &mut close),
        }
    }

    /// How many lines it has, if none is empty and none too long.
    fn lines_if_clean(&self, datagram: &[u8]) -> Option<u64> {
        let longest = self.body_bytes.min(LINE_BYTES_MAX);
        let (mut start, mut lines) = (0, 0);
        for end in memchr_iter(b'\n', datagram).chain([datagram.len()]) {
            if end == start || end - start > longest {
                return None;
            }
            lines += 1;
            start = end + 1;
        }
        Some(lines)
    }

    /// Adds clean lines, as many at once as fit.
    fn push_clean(&mut self, now: Now, mut rest: &[u8], close: &mut impl FnMut(Closed)) {
        loop {
            let separator = usize::from(!self.bytes.is_empty());
            let space = self.body_bytes.saturating_sub(self.bytes.len() + separator);
            if rest.len() <= space {
                self.append(now, rest);
                return;
            }
            // The end of a line that is the last to fit: its newline may stand just behind the space.
            match memrchr(b'\n', &rest[..=space.min(rest.len() - 1)]) {
                Some(end) if end > 0 && end <= space => {
                    self.append(now, &rest[..end]);
                    rest = &rest[end + 1..];
                }
                _ => {}
            }
            self.close().into_iter().for_each(&mut *close);
        }
    }

    /// Adds lines one by one, leaving out the empty and the too long.
    fn push_lines(&mut self, now: Now, mut rest: &[u8], close: &mut impl FnMut(Closed)) -> Taken {
        let longest = self.body_bytes.min(LINE_BYTES_MAX);
        let mut taken = Taken::default();
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if line.len() > longest {
                taken.too_long += 1;
            } else if !line.is_empty() {
                taken.lines += 1;
                taken.bytes += line.len() as u64;
                self.push_clean(now, line, close);
            }
        }
        taken
    }

    fn append(&mut self, now: Now, lines: &[u8]) {
        if self.opened.is_none() {
            self.opened = Some(now);
            self.bytes.reserve_exact(self.reserved);
        } else {
            self.bytes.push(b'\n');
        }
        self.bytes.extend_from_slice(lines);
    }

    /// Closes the open body, if there is one.
    pub fn close(&mut self) -> Option<Closed> {
        let opened = self.opened.take()?;
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() > 2 * bytes.len() {
            bytes.shrink_to_fit();
        }
        Some(Closed { bytes, first: opened.wall })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(body_bytes: usize, datagrams: &[&str], expect: &[&str]) -> Taken {
        let (mut batch, mut bodies, mut taken) = (Batch::new(body_bytes), Vec::new(), Taken::default());
        for datagram in datagrams {
            let more = batch.push(Now::default(), datagram.as_bytes(), |closed| bodies.push(closed));
            taken.lines += more.lines;
            taken.bytes += more.bytes;
            taken.too_long += more.too_long;
        }
        bodies.extend(batch.close());
        let text: Vec<_> =
            bodies.iter().map(|closed| String::from_utf8(closed.bytes.clone()).expect("text")).collect();
        assert_eq!(text, expect, "{datagrams:?} in bodies of {body_bytes}");
        taken
    }

    #[test]
    fn lines_are_joined_and_never_torn() {
        check(100, &["a:1|c"], &["a:1|c"]);
        check(100, &["a:1|c\n", "b:2|c\nc:3|c"], &["a:1|c\nb:2|c\nc:3|c"]);
        check(11, &["a:1|c\nb:2|c\nc:3|c"], &["a:1|c\nb:2|c", "c:3|c"]);
        check(10, &["a:1|c\nb:2|c\nc:3|c"], &["a:1|c", "b:2|c", "c:3|c"]);
        check(5, &["a:1|c", "b:2|c\nc:3|c"], &["a:1|c", "b:2|c", "c:3|c"]);
        check(12, &["a:1|c", "bb:22|c\nc:3|c"], &["a:1|c", "bb:22|c", "c:3|c"]);
        check(13, &["a:1|c", "bb:22|c\nc:3|c"], &["a:1|c\nbb:22|c", "c:3|c"]);
    }

    #[test]
    fn empty_lines_are_skipped_and_long_ones_counted() {
        let taken = check(100, &["\n\na:1|c\n\n\nb:2|c\n\n", "", "\n"], &["a:1|c\nb:2|c"]);
        assert_eq!(taken, Taken { lines: 2, bytes: 10, too_long: 0 });
        let taken = check(6, &["a:1|c\ntoo-long:1|c\nb:2|c"], &["a:1|c", "b:2|c"]);
        assert_eq!(taken, Taken { lines: 2, bytes: 10, too_long: 1 });
        let (fits, long) = ("x".repeat(LINE_BYTES_MAX), "x".repeat(LINE_BYTES_MAX + 1));
        assert_eq!(check(1 << 20, &[&fits, &long], &[&fits]).too_long, 1);
        check(100, &["a:1|c\r\nb:2|c\r\n"], &["a:1|c\r\nb:2|c\r"]);
    }

    #[test]
    fn a_body_does_not_cross_a_second() {
        let (mut batch, mut bodies) = (Batch::new(1000), Vec::new());
        let at = |ms: u64| Now { mono: Mono(ms * 1_000_000), wall: Wall::from_ms(ms as i64) };
        for ms in [1_200, 1_900, 1_999, 2_000, 2_001] {
            batch.push(at(ms), b"a:1|c", |closed| bodies.push(closed));
        }
        assert_eq!(bodies.len(), 1);
        assert_eq!(bodies[0].first, Wall::from_ms(1_200));
        assert_eq!(batch.opened(), Some(Mono(0) + Duration::from_secs(2)));
    }
}
