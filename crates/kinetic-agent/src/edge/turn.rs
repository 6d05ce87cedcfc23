//! Whose turn it is at each broker, and what comes of a publish.

use std::borrow::Cow;
use std::time::Duration;

use kinetic_wire::{Envelope, Mono};

use super::stats::Reason;
use super::tenant::{Pause, Standing};
use super::{Edge, Effect, Flight, Outcome, PublishId};
use crate::spool::BODY_OVERHEAD;
use crate::stamp::types;

/// Pauses of a customer, the first at most and the longest: its queue is full; no queue takes its bodies; the broker closed the channel over
/// one, which costs all customers of its region a new connection.
const NACKED_PAUSE: Pause = (Duration::from_millis(100), Duration::from_secs(10));
const UNROUTABLE_PAUSE: Pause = (Duration::from_secs(1), Duration::from_secs(60));
const REFUSED_PAUSE: Pause = (Duration::from_secs(5), Duration::from_secs(300));

impl Edge {
    /// What happens next with a body that a broker was given.
    pub(super) fn published(&mut self, now: Mono, id: PublishId, outcome: Outcome) {
        let Some(Flight { tenant: at, link, body }) = self.flights.remove(&id) else { return };
        self.links.landed(link);
        let tenant = &mut self.tenants[at];
        tenant.in_flight -= 1;
        let counter = match outcome {
            Outcome::Confirmed => &mut self.counted.confirmed,
            Outcome::Unconfirmed => &mut self.counted.unconfirmed,
            Outcome::Nacked => &mut self.counted.nacked,
            Outcome::Unroutable => &mut self.counted.unroutable,
            Outcome::Refused => &mut self.counted.refused,
        };
        *counter += 1;
        if outcome == Outcome::Confirmed {
            tenant.stats.lines_confirmed += body.lines;
            tenant.strikes = 0;
            if let Some(until) = tenant.paused_until.take() {
                self.pauses.remove(&(until, at));
            }
            self.counted.lines_confirmed += body.lines;
            self.charge(at, 0, body.bytes.len() + BODY_OVERHEAD);
        } else {
            tenant.waiting.insert(body.stamp.seq, body);
            match outcome {
                Outcome::Confirmed | Outcome::Unconfirmed => {}
                Outcome::Nacked => self.pause(now, at, NACKED_PAUSE),
                Outcome::Unroutable => self.pause(now, at, UNROUTABLE_PAUSE),
                Outcome::Refused => self.pause(now, at, REFUSED_PAUSE),
            }
            if !matches!(self.tenants[at].standing, Standing::Served(_)) {
                while self.drop_newest(at, Reason::Gone) {}
            }
        }
        self.vacate_if_gone(at);
        self.enqueue(at);
    }

    /// Publishes nothing of a customer for a while: one pause for all that was in flight when the first of it came back.
    fn pause(&mut self, now: Mono, at: usize, (first, most): Pause) {
        let tenant = &mut self.tenants[at];
        if tenant.paused_until.is_some() {
            return;
        }
        let until = now + self.rng.backoff(first, most, tenant.strikes);
        tenant.strikes = tenant.strikes.saturating_add(1);
        tenant.paused_until = Some(until);
        self.pauses.insert((until, at));
    }

    pub(super) fn end_pauses(&mut self, now: Mono) {
        while let Some(&(until, at)) = self.pauses.first()
            && until <= now
        {
            self.pauses.pop_first();
            self.tenants[at].paused_until = None;
            self.enqueue(at);
        }
    }

    /// A customer with something to publish stands in its link's line, once.
    pub(super) fn enqueue(&mut self, at: usize) {
        let tenant = &mut self.tenants[at];
        if let Standing::Served(link) = tenant.standing
            && !tenant.is_queued
            && tenant.is_ready()
        {
            tenant.is_queued = true;
            self.links.enqueue(link, at);
        }
    }

    /// Publishes what may be published now: of each customer one body in turn.
    pub(super) fn pump(&mut self, effects: &mut Vec<Effect>) {
        while let Some((link, at)) = self.links.next(self.config.in_flight_max) {
            let tenant = &mut self.tenants[at];
            tenant.is_queued = false;
            if !tenant.is_ready() {
                continue;
            }
            let Some((_, body)) = tenant.waiting.pop_first() else { continue };
            let Some(route) = tenant.route(body.key.protocol) else {
                // The source was taken out of the schema meanwhile.
                let (lines, cost) = (body.lines, body.bytes.len() + BODY_OVERHEAD);
                self.charge(at, 0, cost);
                self.dropped(at, Reason::NoSource, lines);
                self.enqueue(at);
                continue;
            };
            let (content_type, kind) = types(body.key.protocol.data_type());
            let envelope = Envelope {
                content_type: Some(Cow::Borrowed(content_type)),
                kind: kind.map(Cow::Borrowed),
                origin: body.key.origin.map(|origin| Cow::Owned(origin.to_string())),
                ..self.stamper.envelope(&body.stamp)
            };
            self.links.open(link, effects);
            self.ids += 1;
            let id = PublishId(self.ids);
            self.counted.published += 1;
            effects.push(Effect::Publish {
                id,
                link,
                exchange: tenant.exchange.clone(),
                routing_key: route.routing_key.clone(),
                envelope: Box::new(envelope),
                body: body.bytes.clone(),
            });
            tenant.in_flight += 1;
            self.links.left(link);
            self.flights.insert(id, Flight { tenant: at, link, body });
            self.enqueue(at);
        }
    }
}
