//! The ways out: relays in the order of the schema, each with a circuit that opens when it fails, so that one which is
//! down costs one attempt from time to time and not one per mail.

use std::sync::Arc;
use std::time::Duration;

use kinetic_schema::schema::{self, Schema};

use crate::clock::Steady;

/// Attempts under way at one relay.
pub(crate) const IN_FLIGHT_PER_RELAY_MAX: usize = 32;
/// Attempts under way at all relays; more than one relay's share, so that one that hangs leaves room for the next.
pub(crate) const IN_FLIGHT_MAX: usize = 64;
/// Seconds for which a circuit stays open, by how often in a row it has been opened; the last one repeats. Shorter at
/// its end than a mail's own pauses: one probe a minute costs a relay nothing, and all mails wait for it.
const OPEN_S: [u64; 7] = [1, 2, 4, 8, 15, 30, 60];
/// A relay that answers none of its attempts for this long is passed over while another works.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Whether a relay is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It works, as far as is known.
    Closed,
    /// It failed; nothing is sent to it before this moment.
    Open { until: Steady },
    /// One attempt is under way to find out.
    HalfOpen,
}

#[derive(Clone, Debug)]
struct Circuit {
    declared: schema::Relay,
    state: State,
    /// Times that it was opened since it last worked.
    opened: usize,
    in_flight: usize,
    /// When it last answered anything, or was last given work while it had none.
    progress: Steady,
    /// The schema names it no more; it leaves with its last attempt.
    gone: bool,
}

/// What an attempt said about its relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It talks; whatever it said about the mail.
    Works,
    /// It could not be reached or used, or went away.
    Failed,
}

/// All relays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relays {
    /// By name, in the order of the schema.
    circuits: Vec<(Arc<str>, Circuit)>,
}

impl Relays {
    /// Makes the list be that of the schema. A relay whose description has changed begins anew.
    pub(crate) fn follow(&mut self, schema: &Schema, at: Steady) {
        let declared = schema.mail.as_ref().map(|mail| mail.relays.as_slice()).unwrap_or_default();
        let mut before = std::mem::take(&mut self.circuits);
        for relay in declared {
            let known = before.iter().position(|(name, _)| **name == *relay.name);
            let (name, mut circuit) = known.map_or_else(
                || {
                    let circuit = Circuit {
                        declared: relay.clone(),
                        state: State::Closed,
                        opened: 0,
                        in_flight: 0,
                        progress: at,
                        gone: false,
                    };
                    (relay.name.as_str().into(), circuit)
                },
                |index| before.remove(index),
            );
            if circuit.declared != *relay {
                circuit.declared = relay.clone();
                circuit.state = State::Closed;
                circuit.opened = 0;
            }
            circuit.gone = false;
            self.circuits.push((name, circuit));
        }
        for (name, mut circuit) in before {
            circuit.gone = true;
            if circuit.in_flight > 0 {
                self.circuits.push((name, circuit));
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.circuits.iter().map(|(_, circuit)| circuit.in_flight).sum()
    }

    /// Attempts under way, relays known, and how many of these have failed and not worked since.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let failing = self.circuits.iter().filter(|(_, circuit)| circuit.state != State::Closed).count();
        (self.in_flight(), self.circuits.len(), failing)
    }

    /// Whether any relay is taken to work.
    pub(crate) fn any_closed(&self) -> bool {
        self.circuits.iter().any(|(_, circuit)| !circuit.gone && circuit.state == State::Closed)
    }

    /// The relay for the next attempt: the first that is not open. One to be avoided, and one that has stalled, only
    /// where there is no other.
    pub(crate) fn choose(&self, now: Steady, avoid: Option<&str>) -> Option<Arc<str>> {
        if self.in_flight() >= IN_FLIGHT_MAX {
            return None;
        }
        let usable = || self.circuits.iter().filter(|(_, circuit)| circuit.takes(now));
        let preferred = usable().find(|(name, circuit)| Some(&**name) != avoid && !circuit.stalled(now));
        preferred.or_else(|| usable().next()).map(|(name, _)| Arc::clone(name))
    }

    /// An attempt begins.
    pub(crate) fn begin(&mut self, name: &str, now: Steady) {
        let Some(circuit) = self.get_mut(name) else { return };
        if let State::Open { .. } = circuit.state {
            circuit.state = State::HalfOpen;
        }
        if circuit.in_flight == 0 {
            circuit.progress = now;
        }
        circuit.in_flight += 1;
    }

    /// An attempt has ended. Returns whether its circuit has been opened by it.
    pub(crate) fn end(&mut self, name: &str, now: Steady, verdict: Verdict) -> bool {
        let Some(circuit) = self.get_mut(name) else { return false };
        circuit.in_flight -= 1;
        circuit.progress = now;
        let opens = match (verdict, circuit.state) {
            (Verdict::Works, _) => {
                circuit.state = State::Closed;
                circuit.opened = 0;
                false
            }
            // Others of the same moment say what is known already.
            (Verdict::Failed, State::Open { .. }) => false,
            (Verdict::Failed, State::Closed | State::HalfOpen) => {
                let pause = OPEN_S[circuit.opened.min(OPEN_S.len() - 1)];
                circuit.state = State::Open { until: now + Duration::from_secs(pause) };
                circuit.opened += 1;
                true
            }
        };
        self.circuits.retain(|(_, circuit)| !circuit.gone || circuit.in_flight > 0);
        opens
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Circuit> {
        self.circuits.iter_mut().find(|(own, _)| **own == *name).map(|(_, circuit)| circuit)
    }

    /// When a relay that is passed over now may be used: an open one is probed, a working one passes a stalled one.
    pub(crate) fn next(&self, now: Steady) -> Option<Steady> {
        if self.in_flight() >= IN_FLIGHT_MAX {
            return None;
        }
        let opens = |circuit: &Circuit| match circuit.state {
            State::Open { until } => Some(until),
            State::Closed if circuit.in_flight > 0 => {
                Some(circuit.progress + STALLED_AFTER).filter(|at| *at > now)
            }
            State::Closed | State::HalfOpen => None,
        };
        self.circuits.iter().filter(|(_, circuit)| !circuit.gone).filter_map(|(_, c)| opens(c)).min()
    }
}

impl Circuit {
    /// Whether another attempt may begin.
    fn takes(&self, now: Steady) -> bool {
        let state = match self.state {
            State::Closed => true,
            State::Open { until } => until <= now,
            State::HalfOpen => false,
        };
        // A late attempt of before it was opened is no reason not to probe it.
        state && !self.gone && self.in_flight < IN_FLIGHT_PER_RELAY_MAX
    }

    fn stalled(&self, now: Steady) -> bool {
        self.in_flight > 0 && self.progress + STALLED_AFTER <= now
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
