//! A leader to whom no requests are delivered: it holds the token and hears nobody.
//!
//! Its connection for requests is one of several, and may be lost alone. Whoever does not hear cannot tell the living from
//! the dead, so that no lease lapses meanwhile; and whoever stays deaf is of no use as a leader, so that it gives the token back.

use std::time::Duration;

use kinetic_wire::{Mono, Now};

use crate::machine::{Effect, Redirector};

/// A leader that has been deaf for so long gives the lead up: a few attempts to connect again, and well within the time for which
/// analyzers go on by themselves.
const DEAF_MAX: Duration = Duration::from_secs(3);

impl Redirector {
    /// No requests are delivered to us from now on.
    pub(crate) fn deafened(&mut self, now: Now) {
        if self.serving && self.deaf_since.is_none() {
            self.deaf_since = Some(now.mono);
        }
    }

    /// Whether nobody can be heard. Who has been deaf for too long gives the lead up.
    pub(crate) fn is_deaf(&mut self, now: Now, effects: &mut Vec<Effect>) -> bool {
        let Some(since) = self.deaf_since else { return false };
        if now.mono >= since + DEAF_MAX {
            self.counted.deafened += 1;
            self.depose(effects);
        }
        true
    }

    /// Requests are delivered to us, or again: leases last longer by the time for which nobody was heard, and it may have taken a
    /// while until they came at all, so that owners have the whole listen period from now.
    pub(crate) fn serves(&mut self, now: Now) {
        if let Some(since) = self.deaf_since.take() {
            self.leases.extend(now.mono.since(since));
        }
        if self.serving && self.listening {
            let listen = self.listen_until.since(self.serving_since);
            self.serving_since = now.mono;
            self.listen_until = self.listen_until.max(now.mono + listen);
        }
    }

    /// When time ends something by itself: the listen period, a lease, or the patience with our own deafness.
    pub(crate) fn next_end(&self) -> Option<Mono> {
        if let Some(since) = self.deaf_since {
            return Some(since + DEAF_MAX);
        }
        let listen = self.listening.then_some(self.listen_until);
        [listen, self.leases.earliest()].into_iter().flatten().min()
    }
}
