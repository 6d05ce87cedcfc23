//! What customers' data does that it may not: counted, told to the alert node with the signs of life, and logged now and then.
//!
//! How often something is breached is the sender's choice, so none of this may cost more the more often it is: what is known
//! of each source and kind is one row, the alert node hears of it every ten seconds, and the log once a minute.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_schema::schema::INSTALLATION;
use kinetic_wire::{Breach, BreachKind, Breached, CustomerName, Epoch, Mono, SourceKey};

use crate::machine::{Delivery, Slot};

/// A breach that goes on is told again after this long.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Of one customer and kind one line is logged in this time.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Characters kept of an exchange's name, and of a login.
const NAME_KEPT_MAX: usize = 64;

/// How often something has been breached since the start, by kind; as many entries as there are kinds at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaches(BTreeMap<BreachKind, u64>);

impl Breaches {
    /// How often this: samples of limits on samples, feeds and series, else messages.
    #[must_use]
    pub fn count(&self, kind: BreachKind) -> u64 {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    /// The kinds that have come up, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (BreachKind, u64)> {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }

    /// Security events of all kinds.
    #[must_use]
    pub fn security_events(&self) -> u64 {
        self.iter().filter(|(kind, _)| !kind.is_limit()).map(|(_, count)| count).sum()
    }

    pub(crate) fn add(&mut self, kind: BreachKind, count: u64) {
        *self.0.entry(kind).or_default() += count;
    }
}

/// Whose a breach is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose<'a> {
    pub(crate) slot: Slot,
    pub(crate) source: &'a SourceKey,
    pub(crate) epoch: Epoch,
}

/// A breach that goes on, or did until lately.
#[derive(Debug)]
struct Seen {
    source: SourceKey,
    epoch: Epoch,
    what: Breached,
    since: Mono,
    last: Mono,
    told: Option<Mono>,
}

/// All of them, by what brought them: as many as there are subscriptions and kinds at most.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: BTreeMap<(Slot, BreachKind), Seen>,
    logged: BTreeMap<(CustomerName, BreachKind), Mono>,
}

impl Watch {
    /// Something was breached: `what.dropped` is how often now.
    pub(crate) fn saw(&mut self, now: Mono, whose: Whose<'_>, what: Breached) {
        let Whose { slot, source, epoch } = whose;
        let kind = what.kind;
        match self.seen.get_mut(&(slot, kind)) {
            Some(seen) if now.since(seen.last) < Breach::QUIET => {
                seen.last = now;
                let known = &mut seen.what;
                (known.limit, known.value) = (what.limit, known.value.max(what.value));
                known.dropped += what.dropped;
                known.by = what.by.or(known.by.take());
            }
            _ => {
                let seen = Seen {
                    source: source.clone(),
                    epoch,
                    what: what.clone(),
                    since: now,
                    last: now,
                    told: None,
                };
                self.seen.insert((slot, kind), seen);
            }
        }
        let Some(seen) = self.seen.get(&(slot, kind)) else { return };
        let key = (source.customer.clone(), kind);
        if self.logged.get(&key).is_none_or(|logged| now.since(*logged) >= LOG_EVERY) {
            let Breached { limit, value, dropped, by, .. } = &seen.what;
            let (kind, by) = (kind.as_str(), by.as_deref().unwrap_or_default());
            tracing::warn!(%source, kind, limit, value, dropped, by, "customer's data does what it may not");
            self.logged.insert(key, now);
        }
    }

    /// What is due to be told, at most so many. What is not in it stays due; what is over is forgotten.
    pub(crate) fn tell(&mut self, now: Mono, max: usize) -> Vec<Breach> {
        self.seen.retain(|_, seen| now.since(seen.last) < Breach::QUIET);
        self.logged.retain(|_, logged| now.since(*logged) < LOG_EVERY);
        let is_due = |seen: &&mut Seen| seen.told.is_none_or(|told| now.since(told) >= TELL_EVERY);
        let ms = |since: Mono| u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        let due = self.seen.values_mut().filter(is_due).take(max);
        due.map(|seen| {
            seen.told = Some(now);
            Breach {
                source: seen.source.clone(),
                epoch: seen.epoch,
                since_ms: ms(seen.since),
                last_ms: ms(seen.last),
                what: seen.what.clone(),
            }
        })
        .collect()
    }
}

/// What is wrong with who has published a delivery: the exchange names the customer; login and claim, where they are set, must
/// agree with it. `denied` are logins of the installation's own that may not publish for others.
pub(crate) fn foreign(
    delivery: &Delivery<'_>,
    ingress: &str,
    customer: &str,
    denied: &[String],
) -> Option<BreachKind> {
    let envelope = &delivery.envelope;
    if delivery.exchange != ingress {
        return Some(BreachKind::ForeignExchange);
    }
    let may = |user: &str| {
        let of = user.split('.').next().unwrap_or_default();
        // The broker has checked that it is the login; it lets nobody write here but the customer and our edges.
        of == customer || (of == INSTALLATION && !denied.iter().any(|denied| denied == user))
    };
    if !envelope.user_id.as_deref().is_none_or(may) {
        return Some(BreachKind::ForeignLogin);
    }
    let claims = |claimed: &str| claimed == customer;
    (!envelope.claimed_customer.as_deref().is_none_or(claims)).then_some(BreachKind::ForeignClaim)
}

/// One security event of a delivery.
pub(crate) fn security_event(kind: BreachKind, delivery: &Delivery<'_>) -> Breached {
    let kept = |name: &str| name.escape_debug().take(NAME_KEPT_MAX).collect::<String>();
    let mut by = format!("exchange {}", kept(delivery.exchange));
    if let Some(user) = delivery.envelope.user_id.as_deref() {
        by.push_str(&format!(", login {}", kept(user)));
    }
    if let Some(claimed) = delivery.envelope.claimed_customer.as_deref() {
        by.push_str(&format!(", kin-customer {}", kept(claimed)));
    }
    Breached { kind, limit: 0, value: 0, dropped: 1, by: Some(by) }
}
