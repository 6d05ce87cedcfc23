//! Sources that move to another region: this node empties the queue in the one that the customer has left, and only then lets go.
//!
//! The schema says where a customer is, a grant says where to read. Where the two differ, what is granted is to be carried away: a
//! source that this node has judged until now is left first, as any other is that goes to somebody else, and then carried.

use kinetic_wire::{Evacuated, Grant, Hold, Now, RegionName, SourceKey};

use super::{Analyzer, Effect, Slot, Stage};
use crate::carrier::{Carrier, End};
use crate::lease::Report;
use crate::source::LEAVE_MAX;

impl Analyzer {
    /// Where a source is now, if that is not this region.
    fn destination(&self, key: &SourceKey, region: &RegionName) -> Option<RegionName> {
        let customer = self.schema.customers.get(&key.customer)?;
        customer
            .sources
            .contains_key(&key.source)
            .then_some(&customer.region)
            .filter(|to| *to != region)
            .cloned()
    }

    /// A new schema revision: what is somewhere else by now judges nothing more here, so that no window is closed of which the
    /// rest is being published there.
    pub(super) fn move_out(&mut self, now: Now) {
        let to = |key, region| self.destination(key, region);
        let moving: Vec<Slot> = self
            .sources
            .iter()
            .filter(|(_, source)| to(&source.key, &source.region).is_some())
            .map(|(slot, _)| *slot)
            .collect();
        let astray: Vec<Slot> = self
            .carriers
            .iter()
            .filter(|(_, carrier)| to(&carrier.key, &carrier.from).as_ref() != Some(&carrier.to))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in moving {
            self.sources.get_mut(&slot).into_iter().for_each(|source| source.leave(now.mono + LEAVE_MAX));
        }
        for slot in astray {
            self.carriers.get_mut(&slot).into_iter().for_each(|carrier| carrier.end(End::Dropped));
        }
    }

    /// Whether a grant is about a source that is to be carried away, or has been. What has been begun is finished before
    /// anything else is done with the source.
    pub(super) fn moves_out(&mut self, now: Now, grant: &Grant, effects: &mut Vec<Effect>) -> bool {
        let key = &grant.source;
        if self.carriers.values().any(|carrier| carrier.key == *key) {
            return true;
        }
        if let Some((slot, source)) = self.source(key) {
            let is_told = self.moving.contains(key) && source.region == grant.region;
            let is_moving = is_told || self.destination(key, &source.region).is_some();
            let leaving = self.sources.get_mut(&slot).filter(|_| is_moving);
            leaving.into_iter().for_each(|source| source.leave(now.mono + LEAVE_MAX));
            return is_moving;
        }
        let Some(to) = self.destination(key, &grant.region) else {
            // Where this node's schema does not know yet, the source waits for it.
            let waits = self.moving.contains(key);
            if waits {
                self.waiting.insert(key.clone(), grant.clone());
            }
            return waits;
        };
        let is_done =
            |(region, epoch, _): &(RegionName, _, _)| *region == grant.region && *epoch >= grant.epoch;
        if !self.evacuated.get(key).is_some_and(is_done) {
            self.carry_off(now, grant.clone(), to, effects);
        }
        true
    }

    /// Lets go of a source that has left; what is left of it in a region where it is no more is carried away.
    pub(super) fn let_go_or_move(&mut self, now: Now, slot: Slot, effects: &mut Vec<Effect>) {
        let Some(source) = self.sources.get(&slot) else { return };
        let grant = Grant { source: source.key.clone(), region: source.region.clone(), epoch: source.epoch };
        self.let_go(slot, effects);
        if self.stage != Stage::Running {
            return;
        }
        match self.destination(&grant.source, &grant.region) {
            Some(to) => self.carry_off(now, grant, to, effects),
            None if self.moving.contains(&grant.source) => {
                self.waiting.insert(grant.source.clone(), grant);
            }
            None => {}
        }
    }

    fn carry_off(&mut self, now: Now, grant: Grant, to: RegionName, effects: &mut Vec<Effect>) {
        let Grant { source: key, region: from, epoch } = grant;
        tracing::info!(source = %key, %from, %to, "the customer has moved, its data is carried after it");
        let (slot, customer) = (self.new_slot(), self.customer(&key));
        self.evacuated.remove(&key);
        let mut carrier = Carrier::new(now.mono, key, (from, to), epoch, slot, customer);
        carrier.start(effects);
        self.carriers.insert(slot, carrier);
    }

    pub(super) fn carrier_recalled(&mut self, slot: Slot, snapshots: &[&[u8]], effects: &mut Vec<Effect>) {
        let Some(carrier) = self.carriers.get_mut(&slot) else { return };
        let Some(later) = carrier.recalled(snapshots, &mut self.stats, effects) else { return };
        tracing::warn!(source = %carrier.key, ours = %carrier.epoch, %later, "a later owner has been here");
        self.stats.outdated += 1;
        self.outdated.insert(carrier.key.clone(), later);
        carrier.end(End::Dropped);
    }

    /// Takes the next steps of all that is carried away.
    pub(super) fn carry_on(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let is_leaving = self.stage != Stage::Running;
        for carrier in self.carriers.values_mut() {
            if is_leaving && self.stage != Stage::Draining {
                carrier.end(End::Dropped);
            }
            carrier.advance(now.mono, &mut self.stats, effects);
        }
    }

    pub(super) fn carrier_unsubscribed(&mut self, now: Now, slot: Slot, effects: &mut Vec<Effect>) {
        let Some(carrier) = self.carriers.get_mut(&slot) else { return };
        if let Some(end) = carrier.unsubscribed(effects) {
            self.carrier_ended(now, slot, end);
        }
    }

    pub(super) fn discarded(&mut self, now: Now, slot: Slot, is_empty: bool, effects: &mut Vec<Effect>) {
        let Some(carrier) = self.carriers.get_mut(&slot) else { return };
        if carrier.discarded(is_empty, effects) {
            self.carrier_ended(now, slot, End::Empty);
        }
    }

    fn carrier_ended(&mut self, now: Now, slot: Slot, end: End) {
        let Some(carrier) = self.carriers.remove(&slot) else { return };
        tracing::info!(source = %carrier.key, from = %carrier.from, to = %carrier.to, ?end, "no longer carried");
        if end != End::Dropped {
            self.stats.evacuations += 1;
            self.stats.evacuations_given_up += u64::from(end == End::GivenUp);
            self.evacuated.insert(carrier.key, (carrier.from, carrier.epoch, now.mono));
        }
        self.lease.hurry(now.mono);
    }

    /// Lets go of all that is carried: another may carry it already.
    pub(super) fn drop_carriers(&mut self, effects: &mut Vec<Effect>) {
        self.evacuated.clear();
        for (slot, carrier) in std::mem::take(&mut self.carriers) {
            effects.push(Effect::Unsubscribe { slot });
            self.leaving.insert(slot, Hold { source: carrier.key, epoch: carrier.epoch, rate: 0 });
        }
    }

    /// What is carried is held; of what has been carried, nothing is left.
    pub(super) fn report_moves(&self, report: &mut Report<'_>) {
        for carrier in self.carriers.values() {
            if report.holds.iter().all(|hold| hold.source != carrier.key) {
                report.holds.push(Hold { source: carrier.key.clone(), epoch: carrier.epoch, rate: 0 });
            }
        }
        let evacuated = |(source, (region, epoch, _)): (&SourceKey, &(RegionName, _, _))| Evacuated {
            source: source.clone(),
            region: region.clone(),
            epoch: *epoch,
        };
        report.evacuated = self.evacuated.iter().map(evacuated).collect();
    }
}
