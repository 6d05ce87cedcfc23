//! Seeded randomness for jitter and ids: `SplitMix64` (Steele, Lea and Flood, 2014). Not for secrets.

use std::time::Duration;

/// The generator.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration in `[min, max]`.
    pub(crate) fn between(&mut self, min: Duration, max: Duration) -> Duration {
        let span = max.saturating_sub(min).as_nanos().min(u128::from(u64::MAX));
        let offset = (u128::from(self.next()) * (span + 1)) >> 64;
        min + Duration::from_nanos(offset as u64)
    }

    /// Full-jitter backoff: anything up to `first * 2^attempts`, and never more than `most`.
    pub(crate) fn backoff(&mut self, first: Duration, most: Duration, attempts: u32) -> Duration {
        let ceiling = first.saturating_mul(1 << attempts.min(16)).min(most);
        self.between(Duration::ZERO, ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_and_is_bounded() {
        let mut rng = Rng::new(1);
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(60));
        for attempts in [0, 1, 5, 6, 16, 17, u32::MAX] {
            let ceiling = Duration::from_secs(1 << attempts.min(16)).min(most);
            let waits: Vec<_> = (0..200).map(|_| rng.backoff(first, most, attempts)).collect();
            assert!(waits.iter().all(|wait| *wait <= ceiling));
            assert!(waits.iter().any(|wait| *wait > ceiling * 3 / 4), "it uses the whole range");
            assert!(waits.iter().any(|wait| *wait < ceiling / 4), "from zero on");
        }
    }
}
