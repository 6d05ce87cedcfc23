//! Random moments that can be played again.

use crate::needs::say;
use crate::traffic::wall_now;

/// Holds the seed of a run that is to be played again.
const SEED: &str = "KINETIC_SEED";

/// Numbers that look random. Its seed is printed, and taken from `KINETIC_SEED` where that is set.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice for a story.
    #[must_use]
    pub fn new(story: &str) -> Self {
        let given = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| wall_now().0.unsigned_abs());
        say(&format!("{story}: {SEED}={seed}"));
        Self::seeded(seed)
    }

    fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `bound - 1`.
    pub fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64 (Steele, Lea and Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// An id that nobody else has.
#[must_use]
pub fn uuid() -> uuid::Uuid {
    uuid::Uuid::from_u128(u128::from(Dice::seeded(wall_now().0.unsigned_abs()).below(u64::MAX)))
}
