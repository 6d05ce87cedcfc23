//! What is due when: one moment per key, the earliest first.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Steady;

/// Moments by key. Setting, taking and asking for the next are logarithmic.
#[derive(Clone, Debug)]
pub(crate) struct Agenda<K> {
    by_time: BTreeSet<(Steady, K)>,
    by_key: BTreeMap<K, Steady>,
}

impl<K> Default for Agenda<K> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Clone + Ord> Agenda<K> {
    /// Moves `key` to `at`, or takes it off.
    pub(crate) fn set(&mut self, key: &K, at: Option<Steady>) {
        let before = match at {
            Some(at) => self.by_key.insert(key.clone(), at),
            None => self.by_key.remove(key),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.by_time.insert((at, key.clone()));
        }
    }

    /// Takes the earliest key that is due by `now` off the agenda.
    pub(crate) fn take_due(&mut self, now: Steady) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// Whether `key` is on the agenda.
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    /// The earliest moment.
    pub(crate) fn next(&self) -> Option<Steady> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use kinetic_wire::Wall;

    use super::*;

    #[test]
    fn a_key_has_one_moment() {
        let at = |s| Steady::from(Wall::from_secs(s));
        let mut agenda = Agenda::default();
        agenda.set(&"a", Some(at(5)));
        agenda.set(&"b", Some(at(3)));
        agenda.set(&"a", Some(at(1)));
        agenda.set(&"a", Some(at(1)));
        assert_eq!(agenda.take_due(at(0)), None);
        assert_eq!(agenda.take_due(at(4)), Some("a"));
        assert_eq!(agenda.take_due(at(4)), Some("b"));
        assert_eq!(agenda.take_due(at(9)), None);
        agenda.set(&"a", Some(at(5)));
        agenda.set(&"a", None);
        assert_eq!(agenda.next(), None);
    }
}
