//! Makes one frame's payload harmless without changing its length.

/// Frame type of methods.
pub(super) const FRAME_METHOD: u8 = 1;
/// Frame type of content headers.
pub(super) const FRAME_HEAD: u8 = 2;
/// Tables and arrays within each other that are left as they are. Real clients nest two or three.
const DEPTH_MAX: usize = 16;
/// Class `basic`.
const BASIC: u16 = 60;
/// `basic.return`, `basic.deliver` and `basic.get-ok`: what the broker sends with names that a publisher chose.
const RETURN: u16 = 50;
const DELIVER: u16 = 60;
const GET_OK: u16 = 71;
/// Class, weight and body size of a content header.
const HEAD_FIXED: usize = 12;
/// Fields of a content header, from the highest bit of its flags: short strings, the table of headers, and numbers by size.
const FIELDS: [Field; 14] = [
    Field::Short,     // content-type
    Field::Short,     // content-encoding
    Field::Table,     // headers
    Field::Number(1), // delivery-mode
    Field::Number(1), // priority
    Field::Short,     // correlation-id
    Field::Short,     // reply-to
    Field::Short,     // expiration
    Field::Short,     // message-id
    Field::Number(8), // timestamp
    Field::Short,     // type
    Field::Short,     // user-id
    Field::Short,     // app-id
    Field::Short,     // cluster-id
];

enum Field {
    Short,
    Table,
    Number(usize),
}

/// Whether anything had to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mended {
    /// Something.
    Yes,
    /// Nothing.
    No,
}

/// Mends the payload of a method or of a content header; any other frame is left alone.
pub(super) fn mend(kind: u8, payload: &mut [u8]) -> Mended {
    let mut walk = Walk { bytes: payload, at: 0, mended: false };
    let walked = if kind == FRAME_METHOD { walk.method() } else { walk.head() };
    let mended = walk.mended;
    if walked.is_none() && kind == FRAME_HEAD {
        blank(payload);
        return Mended::Yes;
    }
    if mended { Mended::Yes } else { Mended::No }
}

/// Replaces all properties of a content header that cannot be read by something of the same length that can.
fn blank(payload: &mut [u8]) {
    let Some(properties) = payload.get_mut(HEAD_FIXED..) else { return };
    let length = properties.len();
    match properties {
        [] | [_] => {}
        [a, b] => (*a, *b) = (0, 0),
        // One short string, `content-type`.
        [a, b, size, text @ ..] if text.len() < 10 => {
            (*a, *b, *size) = (0x80, 0, u8::try_from(text.len()).unwrap_or_default());
            text.fill(b'?');
        }
        // One table with one value without a name: an array of bytes.
        [a, b, rest @ ..] => {
            (*a, *b) = (0x20, 0);
            let long = |size: usize| u32::try_from(size).unwrap_or_default().to_be_bytes();
            rest[..4].copy_from_slice(&long(length - 6));
            (rest[4], rest[5]) = (0, b'x');
            rest[6..10].copy_from_slice(&long(length - 12));
        }
    }
}

/// Reads on while all is as it should be.
struct Walk<'a> {
    bytes: &'a mut [u8],
    at: usize,
    mended: bool,
}

impl Walk<'_> {
    fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let number = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(number)
    }

    fn u16(&mut self) -> Option<u16> {
        self.number().map(u16::from_be_bytes)
    }

    /// Where something ends that begins with its length.
    fn long(&mut self) -> Option<usize> {
        let size = usize::try_from(self.number().map(u32::from_be_bytes)?).ok()?;
        self.at.checked_add(size).filter(|end| *end <= self.bytes.len())
    }

    /// A short string, which must be UTF-8.
    fn short(&mut self) -> Option<()> {
        let [size] = self.number()?;
        let from = self.at;
        self.skip(usize::from(size))?;
        let text = &mut self.bytes[from..self.at];
        if std::str::from_utf8(text).is_err() {
            text.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
            self.mended = true;
        }
        Some(())
    }

    fn method(&mut self) -> Option<()> {
        if self.u16()? != BASIC {
            return Some(());
        }
        match self.u16()? {
            RETURN => {
                self.skip(2)?;
                self.short()?;
            }
            DELIVER => {
                self.short()?;
                self.skip(9)?;
            }
            GET_OK => self.skip(9)?,
            _ => return Some(()),
        }
        self.short()?;
        self.short()
    }

    fn head(&mut self) -> Option<()> {
        self.skip(HEAD_FIXED)?;
        let flags = self.u16()?;
        // The lowest bit announces more flags: no field of this protocol has any there.
        if flags & 0b11 != 0 {
            return None;
        }
        for (place, field) in FIELDS.iter().enumerate() {
            if flags & (0x8000 >> place) == 0 {
                continue;
            }
            match field {
                Field::Short => self.short()?,
                Field::Table => {
                    let end = self.long()?;
                    self.table(end, DEPTH_MAX)?;
                }
                Field::Number(size) => self.skip(*size)?,
            }
        }
        (self.at == self.bytes.len()).then_some(())
    }

    fn table(&mut self, end: usize, depth: usize) -> Option<()> {
        while self.at < end {
            self.short()?;
            self.value(depth)?;
        }
        (self.at == end).then_some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        let place = self.at;
        let [kind] = self.number()?;
        match kind {
            b'V' => Some(()),
            b't' | b'b' | b'B' => self.skip(1),
            b's' | b'U' | b'u' => self.skip(2),
            b'I' | b'i' | b'f' => self.skip(4),
            b'D' => self.skip(5),
            b'L' | b'l' | b'd' | b'T' => self.skip(8),
            b'S' | b'x' => {
                self.at = self.long()?;
                Some(())
            }
            b'A' | b'F' => {
                let end = self.long()?;
                match (depth.checked_sub(1), kind) {
                    (None, _) => {
                        self.bytes[place] = b'x';
                        self.mended = true;
                        self.at = end;
                    }
                    (Some(depth), b'F') => self.table(end, depth)?,
                    (Some(depth), _) => {
                        while self.at < end {
                            self.value(depth)?;
                        }
                    }
                }
                (self.at == end).then_some(())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::frame::parse_frame;

    fn long(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn head(flags: u16, properties: &[u8]) -> Vec<u8> {
        [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &flags.to_be_bytes(), properties].concat()
    }

    /// A header whose table holds tables (or arrays) within each other.
    fn nested(kind: u8, depth: usize) -> Vec<u8> {
        let mut inner = Vec::new();
        for _ in 0..depth {
            let name: &[u8] = if kind == b'F' { b"\x01a" } else { b"" };
            inner = [name, &[kind], &long(&inner)].concat();
        }
        let table = if kind == b'F' { inner } else { [&b"\x01a"[..], &inner].concat() };
        head(0x2000, &long(&table))
    }

    /// Whether lapin's codec reads a content header.
    fn is_read(payload: &[u8]) -> bool {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&[FRAME_HEAD, 0, 1][..], &size, payload, &[0xce]].concat();
        parse_frame(&frame[..]).is_ok()
    }

    #[test]
    fn what_is_good_stays_as_it_is() {
        let table = long(b"\x0akin-originS\0\0\0\x02\xff\xfe\x01nI\0\0\0\x01");
        let properties = [&b"\x0atext/plain"[..], &table, b"\x02", b"\x04kind"].concat();
        for good in [head(0, b""), head(0xb020, &properties), nested(b'F', 3), nested(b'A', 3)] {
            let mut kept = good.clone();
            assert!(is_read(&good));
            assert_eq!((mend(FRAME_HEAD, &mut kept), kept), (Mended::No, good));
        }
    }

    #[test]
    fn names_become_text() {
        let mut bad = head(0x8000, b"\x03a\xffb");
        assert_eq!((mend(FRAME_HEAD, &mut bad), bad), (Mended::Yes, head(0x8000, b"\x03a?b")));
        let mut bad = head(0x2000, &long(b"\x02\xc3\x28V"));
        assert_eq!((mend(FRAME_HEAD, &mut bad), bad), (Mended::Yes, head(0x2000, &long(b"\x02?(V"))));
        let deliver = |key: &[u8]| [&b"\0\x3c\0\x3c\x01t\0\0\0\0\0\0\0\x01\0\x01e\x02"[..], key].concat();
        let mut bad = deliver(b"k\xff");
        assert_eq!((mend(FRAME_METHOD, &mut bad), bad), (Mended::Yes, deliver(b"k?")));
        let mut other = b"\0\x0a\0\x0a\xff\xff".to_vec();
        assert_eq!(mend(FRAME_METHOD, &mut other), Mended::No);
    }

    #[test]
    fn what_is_too_deep_or_broken_can_still_be_read() {
        for kind in [b'F', b'A'] {
            let mut deep = nested(kind, 20_000);
            assert_eq!(mend(FRAME_HEAD, &mut deep), Mended::Yes);
            assert!(is_read(&deep));
        }
        let broken: [Vec<u8>; 7] = [
            head(0x8000, b"\xff"),
            head(0x8000, b"\x01"),
            head(0x0003, b"abcdef"),
            head(0x2000, b"\0\0\0\x05\x01a?ab"),
            head(0x2000, b"\0\0\0\xff\x01aV"),
            head(0x2000, &long(b"\x01aF\0\0\0\x09V")),
            head(0, b"surplus-of-bytes"),
        ];
        for mut broken in broken {
            assert!(!is_read(&broken), "the codec is better than it was");
            assert_eq!(mend(FRAME_HEAD, &mut broken), Mended::Yes, "{broken:?}");
            assert!(is_read(&broken), "{broken:?}");
        }
    }
}
