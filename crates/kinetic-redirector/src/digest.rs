//! A digest that is the same on every machine and in every version, as `Hash` is not: FNV-1a with 128 bits (Fowler, Noll and
//! Vo). It tells whether two redirectors' schemas give the same answers; it is no defence against anybody.

use std::fmt::Write as _;

const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0100_0000_0000_0000_0000_013b;

/// A digest in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u128);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(OFFSET)
    }

    /// Adds a piece of text. Its end counts, so that `ab, c` and `a, bc` differ.
    pub(crate) fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(PRIME);
        }
    }

    /// Adds a number.
    pub(crate) fn add_number(&mut self, number: u64) {
        for byte in number.to_be_bytes() {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(PRIME);
        }
    }

    /// The digest in hexadecimal.
    pub(crate) fn text(self) -> String {
        let mut text = String::with_capacity(32);
        write!(text, "{:032x}", self.0).expect("a String takes every text");
        text
    }

    /// Half of it, where a collision costs little.
    pub(crate) fn short(self) -> u64 {
        (self.0 >> 64) as u64 ^ self.0 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fnv_and_pieces_have_ends() {
        let mut digest = Digest(OFFSET);
        for byte in b"foobar" {
            digest.0 = (digest.0 ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
        // Test vector of the authors for "foobar".
        assert_eq!(digest.text(), "343e1662793c64bf6f0d3597ba446f18");
        let of = |pieces: &[&str]| {
            let mut digest = Digest::new();
            pieces.iter().for_each(|piece| digest.add(piece));
            digest
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
    }
}
