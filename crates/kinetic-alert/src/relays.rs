//! The ways out: relays in the order of the schema, each with a circuit that opens when it fails, so that one which is
//! down costs one attempt from time to time and not one per mail.

use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::schema::{self, Schema};

use crate::circuit::{Circuit, Verdict};
use crate::clock::Steady;

/// Attempts under way at one relay.
pub(crate) const IN_FLIGHT_PER_RELAY_MAX: usize = 32;
/// Attempts under way at all relays; more than one relay's share, so that one that hangs leaves room for the next.
pub(crate) const IN_FLIGHT_MAX: usize = 64;
/// A relay that answers none of its attempts for this long is passed over while another works.
const STALLED_AFTER: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
struct Relay {
    declared: schema::Relay,
    circuit: Circuit,
    /// When it last answered anything, or was last given work while it had none.
    progress: Steady,
    /// The schema names it no more; it leaves with its last attempt.
    gone: bool,
}

/// All relays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relays {
    /// By name, in the order of the schema.
    relays: Vec<(Arc<str>, Relay)>,
}

impl Relays {
    /// Makes the list be that of the schema. A relay whose description has changed begins anew.
    pub(crate) fn follow(&mut self, schema: &Schema, at: Steady) {
        let declared = schema.mail.as_ref().map(|mail| mail.relays.as_slice()).unwrap_or_default();
        let mut before = std::mem::take(&mut self.relays);
        for new in declared {
            let known = before.iter().position(|(name, _)| **name == *new.name);
            let (name, mut relay) = known.map_or_else(
                || {
                    let circuit = Circuit::default();
                    (
                        new.name.as_str().into(),
                        Relay { declared: new.clone(), circuit, progress: at, gone: false },
                    )
                },
                |index| before.remove(index),
            );
            if relay.declared != *new {
                relay.declared = new.clone();
                relay.circuit.close();
            }
            relay.gone = false;
            self.relays.push((name, relay));
        }
        for (name, mut relay) in before {
            relay.gone = true;
            if relay.circuit.in_flight() > 0 {
                self.relays.push((name, relay));
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.relays.iter().map(|(_, relay)| relay.circuit.in_flight()).sum()
    }

    /// Attempts under way, relays known, and how many of these have failed and not worked since.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let failing = self.relays.iter().filter(|(_, relay)| !relay.circuit.is_closed()).count();
        (self.in_flight(), self.relays.len(), failing)
    }

    /// Whether any relay is taken to work.
    pub(crate) fn any_closed(&self) -> bool {
        self.relays.iter().any(|(_, relay)| !relay.gone && relay.circuit.is_closed())
    }

    /// The relay for the next attempt: the first that is not open. One to be avoided, and one that has stalled, only
    /// where there is no other.
    pub(crate) fn choose(&self, now: Steady, avoid: Option<&str>) -> Option<Arc<str>> {
        if self.in_flight() >= IN_FLIGHT_MAX {
            return None;
        }
        let usable = || self.relays.iter().filter(|(_, relay)| relay.takes(now));
        let preferred = usable().find(|(name, relay)| Some(&**name) != avoid && !relay.stalled(now));
        preferred.or_else(|| usable().next()).map(|(name, _)| Arc::clone(name))
    }

    /// An attempt begins.
    pub(crate) fn begin(&mut self, name: &str, now: Steady) {
        let Some(relay) = self.get_mut(name) else { return };
        if relay.circuit.in_flight() == 0 {
            relay.progress = now;
        }
        relay.circuit.begin();
    }

    /// An attempt has ended. Returns whether its circuit has been opened by it.
    pub(crate) fn end(&mut self, name: &str, now: Steady, verdict: Verdict) -> bool {
        let Some(relay) = self.get_mut(name) else { return false };
        relay.progress = now;
        let opens = relay.circuit.end(now, verdict, Duration::ZERO);
        self.relays.retain(|(_, relay)| !relay.gone || relay.circuit.in_flight() > 0);
        opens
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Relay> {
        self.relays.iter_mut().find(|(own, _)| **own == *name).map(|(_, relay)| relay)
    }

    /// When a relay that is passed over now may be used: an open one is probed, a working one passes a stalled one.
    pub(crate) fn next(&self, now: Steady) -> Option<Steady> {
        if self.in_flight() >= IN_FLIGHT_MAX {
            return None;
        }
        let passed = |relay: &Relay| match relay.circuit.probe_at() {
            None if relay.circuit.is_closed() && relay.circuit.in_flight() > 0 => {
                Some(relay.progress + STALLED_AFTER).filter(|at| *at > now)
            }
            probe_at => probe_at,
        };
        self.relays.iter().filter(|(_, relay)| !relay.gone).filter_map(|(_, relay)| passed(relay)).min()
    }
}

impl Relay {
    /// Whether another attempt may begin.
    fn takes(&self, now: Steady) -> bool {
        !self.gone && self.circuit.takes(now, IN_FLIGHT_PER_RELAY_MAX)
    }

    fn stalled(&self, now: Steady) -> bool {
        self.circuit.in_flight() > 0 && self.progress + STALLED_AFTER <= now
    }
}

#[cfg(test)]
mod tests {
    use kinetic_schema::schema::{Mail, MailTls};
    use kinetic_wire::Wall;

    use super::*;

    fn at(secs: i64) -> Steady {
        Wall::from_secs(secs).into()
    }

    fn relays(names: &[&str]) -> Relays {
        let relay = |name: &&str| schema::Relay {
            name: (*name).to_owned(),
            host: "127.0.0.1".into(),
            port: 25,
            tls: MailTls::None,
            username: None,
            password_file: None,
        };
        let mail = Mail {
            relays: names.iter().map(relay).collect(),
            from: "a@mail.example".into(),
            dkim: None,
            bounces: None,
            public_url: None,
        };
        let mut relays = Relays::default();
        relays.follow(&Schema { mail: Some(mail), ..Schema::default() }, at(0));
        relays
    }

    fn chosen(relays: &Relays, secs: i64) -> Option<String> {
        relays.choose(at(secs), None).map(|name| name.to_string())
    }

    #[test]
    fn the_first_that_works_is_used_and_one_probe_looks_for_the_one_that_does_not() {
        let mut relays = relays(&["one", "two"]);
        assert_eq!(chosen(&relays, 1).as_deref(), Some("one"));
        relays.begin("one", at(1));
        assert!(relays.end("one", at(1), Verdict::Failed));
        assert_eq!(chosen(&relays, 1).as_deref(), Some("two"));
        assert_eq!(relays.next(at(1)), Some(at(2)));
        assert_eq!(chosen(&relays, 2).as_deref(), Some("one"));
        relays.begin("one", at(2));
        assert_eq!(chosen(&relays, 2).as_deref(), Some("two"), "one probe at a time");
        assert!(relays.end("one", at(3), Verdict::Failed));
        assert_eq!(chosen(&relays, 4).as_deref(), Some("two"), "open for longer");
        assert_eq!(chosen(&relays, 5).as_deref(), Some("one"));
        relays.begin("one", at(5));
        assert!(!relays.end("one", at(5), Verdict::Works));
        assert_eq!(relays.counts(), (0, 2, 0));
    }

    #[test]
    fn a_relay_that_stalls_is_passed_over_and_has_a_bound() {
        let mut relays = relays(&["one", "two"]);
        relays.begin("one", at(0));
        assert_eq!(chosen(&relays, 29).as_deref(), Some("one"));
        assert_eq!(relays.next(at(29)), Some(at(30)));
        assert_eq!(chosen(&relays, 30).as_deref(), Some("two"));
        for _ in 0..IN_FLIGHT_PER_RELAY_MAX {
            relays.begin("two", at(30));
        }
        assert_eq!(chosen(&relays, 30).as_deref(), Some("one"), "where there is no other");
        while relays.in_flight() < IN_FLIGHT_MAX {
            relays.begin("one", at(30));
        }
        assert_eq!(chosen(&relays, 30), None);
    }
}
