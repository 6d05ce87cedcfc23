//! Bodies that come a second time because their publisher saw no confirm: both copies say the same `kin-inc` and `kin-seq`.
//!
//! Both carry the same time, so they feed the same windows. While one of those is open, the numbers of the body are remembered
//! here, and a second copy is not read. It is held until the release time of the first one, no shorter: then either both are
//! acknowledged or, after a crash, it does not matter which of them comes again. Acknowledged at once, it could be the only one
//! that a full queue had not dropped. When the windows are closed, a copy is late like any other sample and changes nothing.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use kinetic_wire::Wall;
use uuid::Uuid;

#[derive(Clone, Copy, Debug)]
struct Body {
    inc: u128,
    seq: u64,
    release: Wall,
}

/// The bodies of one source that fed open windows.
#[derive(Debug)]
pub(crate) struct Repeats {
    hasher: FixedState,
    bodies: HashTable<Body>,
}

impl Repeats {
    pub(crate) fn new(seed: u64) -> Self {
        Self { hasher: FixedState::with_seed(seed), bodies: HashTable::new() }
    }

    fn hash(&self, inc: u128, seq: u64) -> u64 {
        self.hasher.hash_one((inc, seq))
    }

    /// Release time of the first copy of a body, if there has been one.
    #[inline]
    pub(crate) fn first(&self, inc: Uuid, seq: u64) -> Option<Wall> {
        let inc = inc.as_u128();
        let body = self.bodies.find(self.hash(inc, seq), |body| body.seq == seq && body.inc == inc);
        body.map(|body| body.release)
    }

    /// Remembers a body that has not come before. Returns `false` where there are `max` already.
    #[inline]
    pub(crate) fn remember(&mut self, inc: Uuid, seq: u64, release: Wall, max: usize) -> bool {
        if self.bodies.len() >= max {
            return false;
        }
        let inc = inc.as_u128();
        let hasher = &self.hasher;
        let hash = hasher.hash_one((inc, seq));
        self.bodies
            .insert_unique(hash, Body { inc, seq, release }, |body| hasher.hash_one((body.inc, body.seq)));
        true
    }

    /// Forgets the bodies that only fed windows which are closed now.
    pub(crate) fn forget_through(&mut self, closed: Wall) {
        self.bodies.retain(|body| body.release > closed);
    }

    /// Forgets the bodies that fed windows which cannot have been yet.
    pub(crate) fn forget_after(&mut self, release: Wall) {
        self.bodies.retain(|body| body.release <= release);
    }

    /// Forgets all: they will be delivered again.
    pub(crate) fn clear(&mut self) {
        self.bodies.clear();
    }
}
