//! Clients that want to hear when the answer to their `locate` changes. They are told to ask again, not what has changed.

use std::collections::{BTreeMap, BTreeSet};

use kinetic_wire::{Incarnation, Login, Mono};

use crate::machine::Caller;
use crate::nudges::Nudges;
use crate::routes::{Routes, Wanted};

/// Listeners in the table; one more is answered and not listed (counted): it asks again when its answer has run out.
pub const LISTENERS_MAX: usize = 100_000;
/// One client process behind one login.
type Key = (Login, Incarnation);

#[derive(Debug)]
struct Listener {
    caller: Caller,
    /// What it asked for.
    wants: Wanted<Box<str>>,
    /// Short digest of what it was answered, or of why it was refused.
    said: u64,
    forgotten: Mono,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    table: BTreeMap<Key, Listener>,
    deadlines: BTreeSet<(Mono, Key)>,
    /// Clients that found no room.
    pub(crate) refused: u64,
}

impl Listeners {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// A client was answered, or refused, and listens until `forgotten`.
    pub(crate) fn answered(
        &mut self,
        (login, client): (&Login, Incarnation),
        caller: Caller,
        wants: Wanted<&str>,
        said: u64,
        forgotten: Mono,
    ) {
        let key = (login.clone(), client);
        match self.table.get(&key) {
            Some(known) => {
                self.deadlines.remove(&(known.forgotten, key.clone()));
            }
            None if self.table.len() >= LISTENERS_MAX => {
                self.refused += 1;
                return;
            }
            None => {}
        }
        self.deadlines.insert((forgotten, key.clone()));
        let wants = Wanted { profile: wants.profile.map(Box::from), data_types: wants.data_types };
        self.table.insert(key, Listener { caller, wants, said, forgotten });
    }

    /// Forgets those who have not asked again in time.
    pub(crate) fn forget(&mut self, now: Mono) {
        while let Some((at, _)) = self.deadlines.first()
            && *at <= now
            && let Some((_, key)) = self.deadlines.pop_first()
        {
            self.table.remove(&key);
        }
    }

    /// Other routes are answered from now on: whoever gets another answer is to hear of it. Once is enough: they ask again.
    pub(crate) fn changed(&mut self, routes: &Routes, nudges: &mut Nudges) {
        for ((login, _), listener) in &mut self.table {
            let says = routes.says(customer(login), &listener.wants);
            if says != listener.said {
                listener.said = says;
                nudges.add(listener.caller.clone());
            }
        }
    }
}

/// The customer that a login belongs to, without owning it.
pub(crate) fn customer(login: &Login) -> &str {
    login.as_str().split('.').next().unwrap_or_default()
}
