//! Seeded randomness for jitter and lease ids: `SplitMix64` (Steele, Lea and Flood, 2014). Not for secrets.

use kinetic_wire::LeaseId;
use uuid::Builder;

/// One step of the finaliser: a bijection that spreads every input bit over the whole word.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The generator.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in `0..=max`.
    pub(crate) fn up_to(&mut self, max: u64) -> u64 {
        ((u128::from(self.next()) * (u128::from(max) + 1)) >> 64) as u64
    }

    /// A lease id; `wall_ms` is the redirector's wall clock, so that ids sort by the time of their lease.
    pub(crate) fn lease(&mut self, wall_ms: i64) -> LeaseId {
        let mut tail = [0; 10];
        tail[..8].copy_from_slice(&self.next().to_be_bytes());
        tail[8..].copy_from_slice(&self.next().to_be_bytes()[..2]);
        let millis = u64::try_from(wall_ms).unwrap_or(0);
        LeaseId(Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }
}
