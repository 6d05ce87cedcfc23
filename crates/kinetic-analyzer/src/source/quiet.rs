//! What this node can say of a source's publishers where their silence is an event: since when nothing has come, and through
//! when that is certain.
//!
//! Only a probe proves quiet: when it comes back, all that was published before it has come. A new owner begins anew, since
//! it cannot know what its predecessor heard last; what is delivered again was heard then, and counts as nothing now.

use std::time::Duration;

use kinetic_wire::{Listening, Mono};

use super::{Recall, Source};

/// What has been heard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quiet {
    /// Deliveries of the customer's under this owner.
    came: u64,
    /// When the last of them came, or the subscription began.
    since: Mono,
    /// All that was published up to then has come.
    proven: Mono,
    /// When this was last told.
    told: Option<Mono>,
}

impl Quiet {
    /// From now on what is published is heard.
    pub(super) fn begin(&mut self, now: Mono) {
        (self.since, self.proven) = (now, now);
    }

    /// A delivery of the customer's has come.
    pub(super) fn broken(&mut self, now: Mono) {
        self.came += 1;
        self.begin(now);
    }

    /// Nothing but what has been read was published before this.
    pub(super) fn proven(&mut self, through: Mono) {
        self.proven = self.proven.max(through);
    }
}

impl Source {
    /// When the quiet must be proven anew, or has to be for the first time.
    pub(super) fn quiet_unproven_at(&self) -> Option<Mono> {
        let every = self.plan.listened_every.filter(|_| self.listens() && self.probing.is_none())?;
        Some((self.quiet.proven + every).max(self.probe_again))
    }

    /// Whether what is published comes to this node, as far as it knows.
    fn listens(&self) -> bool {
        self.recall == Recall::Done && self.leaves_by.is_none() && !self.arrival.is_unread()
    }

    /// Since when it is due to be told what is heard; `None` while it is not.
    pub(crate) fn listening_due(&self, now: Mono) -> Option<Mono> {
        let every = self.plan.listened_every.filter(|_| self.listens())?;
        // A quorum queue may still hand over what is older.
        let from = self.settled_in.filter(|settled| now >= *settled)?;
        let due = self.quiet.told.map_or(from, |told| told + every);
        (now >= due).then_some(due)
    }

    /// What is heard, which is told by this.
    pub(crate) fn listening(&mut self, now: Mono) -> Listening {
        self.quiet.told = Some(now);
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Listening {
            source: self.key.clone(),
            epoch: self.epoch,
            came: self.quiet.came,
            quiet_ms: ms(now.since(self.quiet.since)),
            proven_ms: ms(now.since(self.quiet.proven)),
        }
    }
}
