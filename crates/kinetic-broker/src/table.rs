//! Walks over AMQP field tables as bytes.
//!
//! The codec parses tables by recursion without a bound, so a frame of nested tables could exhaust the stack and with
//! it every connection. Everything that comes from a client passes [`check_table`] first.

/// Tables inside tables that are accepted. Real clients nest two or three deep.
pub(crate) const TABLE_DEPTH_MAX: usize = 16;

/// A cursor over bytes; every read is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes)
    }
    /// A short string: one length byte, then the bytes.
    pub(crate) fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }
    /// A short string that is UTF-8, which the codec demands everywhere.
    pub(crate) fn short_str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.short()?).ok()
    }
    /// A long string, table or array: four length bytes, then the bytes.
    pub(crate) fn long(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(usize::try_from(len).ok()?)
    }
}

/// Checks the inside of a field table; calls `seen` with each key of the outermost level.
pub(crate) fn check_table<'a>(bytes: &'a [u8], seen: &mut dyn FnMut(&'a str)) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    while !cursor.is_empty() {
        seen(cursor.short_str()?);
        check_value(&mut cursor, TABLE_DEPTH_MAX)?;
    }
    Some(())
}

fn check_value(cursor: &mut Cursor<'_>, depth: usize) -> Option<()> {
    let kind = cursor.u8()?;
    match kind {
        b't' | b'b' | b'B' => cursor.take(1).map(drop),
        b's' | b'U' | b'u' => cursor.take(2).map(drop),
        b'I' | b'i' | b'f' => cursor.take(4).map(drop),
        b'L' | b'l' | b'd' | b'T' => cursor.take(8).map(drop),
        b'D' => cursor.take(5).map(drop),
        b'S' | b'x' => cursor.long().map(drop),
        b'V' => Some(()),
        b'A' => {
            let mut inner = Cursor::new(cursor.long()?);
            let depth = depth.checked_sub(1)?;
            while !inner.is_empty() {
                check_value(&mut inner, depth)?;
            }
            Some(())
        }
        b'F' => {
            let mut inner = Cursor::new(cursor.long()?);
            let depth = depth.checked_sub(1)?;
            while !inner.is_empty() {
                inner.short_str()?;
                check_value(&mut inner, depth)?;
            }
            Some(())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        let mut inner: Vec<u8> = Vec::new();
        for _ in 0..depth {
            let len = u32::try_from(inner.len()).expect("small");
            let mut outer = vec![1, b'k', b'F'];
            outer.extend(len.to_be_bytes());
            outer.extend(&inner);
            inner = outer;
        }
        inner
    }

    #[test]
    fn depth_is_bounded() {
        assert!(check_table(&nested(TABLE_DEPTH_MAX), &mut |_| {}).is_some());
        assert!(check_table(&nested(TABLE_DEPTH_MAX + 1), &mut |_| {}).is_none());
        assert!(check_table(&nested(20_000), &mut |_| {}).is_none());
    }

    #[test]
    fn keys_of_the_outer_level_are_seen() {
        let mut bytes = vec![2, b'C', b'C', b'V'];
        bytes.extend(nested(2));
        let mut keys = Vec::new();
        assert!(check_table(&bytes, &mut |key| keys.push(key)).is_some());
        assert_eq!(keys, ["CC", "k"]);
        assert!(check_table(&bytes[..bytes.len() - 1], &mut |_| {}).is_none());
        assert!(check_table(&[1, b'k', b'?'], &mut |_| {}).is_none());
    }
}
