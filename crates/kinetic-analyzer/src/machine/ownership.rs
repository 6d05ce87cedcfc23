//! What the node owns: grants taken up, sources let go, the lease kept, and leaving in good order.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_wire::{Epoch, Grant, Hold, Now, SourceKey};

use super::{Analyzer, Effect, Revision, SHUTDOWN_MAX, Slot, Stage};
use crate::carrier::SAID_FOR;
use crate::lease::{News, Report};
use crate::plan::Plan;
use crate::source::{LEAVE_MAX, Source};

/// A probe is given up after this long, or after a fifth of the lease, if that is shorter.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

impl Analyzer {
    /// Does what the redirector's answer, or its absence, asks for.
    pub(super) fn hear(&mut self, now: Now, news: News, effects: &mut Vec<Effect>) {
        if self.muted.is_some_and(|since| self.lease.is_granted_since(since)) {
            self.muted = None;
        }
        match news {
            News::Nothing => {}
            News::Own(grants, moving) => self.own(now, grants, moving, effects),
            News::LetGo => {
                tracing::warn!("the lease is lost, letting go of all sources");
                self.fence(effects);
            }
            News::Drained => {
                if self.stage == Stage::Draining {
                    self.stage = Stage::Confirming;
                }
            }
            News::Gone => self.stop(effects),
        }
    }

    /// Makes the sources owned be exactly the granted ones.
    fn own(&mut self, now: Now, grants: Vec<Grant>, moving: Vec<SourceKey>, effects: &mut Vec<Effect>) {
        // The answer to a registration that was under way when the node was asked to leave: it only lets go.
        if self.stage != Stage::Running {
            return;
        }
        self.moving = moving.into_iter().collect();
        let moving = &self.moving;
        let stays = |source: &Source| {
            !moving.contains(&source.key)
                && grants.iter().any(|grant| grant.source == source.key && grant.region == source.region)
        };
        for source in self.sources.values_mut().filter(|source| !stays(source)) {
            source.leave(now.mono + LEAVE_MAX);
        }
        self.outdated
            .retain(|key, later| grants.iter().any(|grant| grant.source == *key && grant.epoch < *later));
        self.evacuated.retain(|key, (region, epoch, since)| {
            match grants.iter().find(|grant| grant.source == *key) {
                Some(grant) => grant.region == *region && grant.epoch <= *epoch,
                None => now.mono.since(*since) < SAID_FOR,
            }
        });
        self.waiting.clear();
        for grant in grants {
            self.take_up(now, grant, effects);
        }
    }

    /// Consumes a granted source, or goes on with it under the grant's epoch.
    pub(super) fn take_up(&mut self, now: Now, grant: Grant, effects: &mut Vec<Effect>) {
        if self.outdated.contains_key(&grant.source) || self.moves_out(now, &grant, effects) {
            return;
        }
        if let Some((slot, source)) = self.sources.iter_mut().find(|(_, source)| source.key == grant.source) {
            if !source.is_leaving() {
                source.epoch = grant.epoch;
                return;
            }
            // Ours again, or in another region, before it was let go: it has passed over deliveries and begins anew.
            let slot = *slot;
            self.let_go(slot, effects);
        }
        let Some(plan) = Plan::of(&self.schema, &grant.source) else {
            tracing::info!(source = %grant.source, "granted a source that this schema revision does not know");
            self.waiting.insert(grant.source.clone(), grant);
            return;
        };
        let slot = self.new_slot();
        let customer = self.customer(&grant.source);
        let Grant { source: key, region, epoch } = grant;
        tracing::info!(source = %key, %region, %epoch, "source granted");
        effects.push(Effect::Subscribe { slot, source: key.clone(), region: region.clone(), epoch });
        let seed = self.config.seed;
        self.sources.insert(slot, Source::new(key, region, epoch, slot, customer, plan, seed));
    }

    pub(super) fn new_slot(&mut self) -> Slot {
        self.slots += 1;
        Slot(self.slots - 1)
    }

    /// Settles what is closed and gives a source up; the broker delivers the rest to whoever is next.
    pub(super) fn let_go(&mut self, slot: Slot, effects: &mut Vec<Effect>) {
        let Some(mut source) = self.sources.remove(&slot) else { return };
        source.settle(effects);
        self.forget(slot, &source, effects);
    }

    pub(super) fn forget(&mut self, slot: Slot, source: &Source, effects: &mut Vec<Effect>) {
        tracing::info!(source = %source.key, "source given up");
        let key = &source.key;
        self.withheld.retain(|event| event.customer != key.customer || event.source != key.source);
        effects.push(Effect::Unsubscribe { slot });
        self.customers[source.customer].series -= source.series_len();
        self.stats.series -= source.series_len();
        self.leaving
            .insert(slot, Hold { source: source.key.clone(), epoch: source.epoch, rate: source.rate() });
    }

    /// Gives all sources up without settling anything: another may own them already.
    pub(super) fn fence(&mut self, effects: &mut Vec<Effect>) {
        self.stats.fenced += 1;
        self.muted = None;
        self.waiting.clear();
        for (slot, source) in std::mem::take(&mut self.sources) {
            self.forget(slot, &source, effects);
        }
        self.drop_carriers(effects);
    }

    pub(super) fn let_go_if_lapsed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.lease.must_let_go(now.mono) {
            tracing::warn!("the lease has run out, letting go of all sources");
            self.fence(effects);
        }
    }

    /// Lets go if the lease has run out, and asks what is due.
    pub(super) fn keep_lease(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.let_go_if_lapsed(now, effects);
        if self.lease.is_due(now.mono) {
            let (sources, waiting, leaving) = (&mut self.sources, &self.waiting, &self.leaving);
            sources.values_mut().for_each(|source| source.measure(now.mono));
            let (revision, held_max) = (&self.revision, self.config.held_max);
            let mut report = report(now, (revision, self.has_witness), held_max, sources, waiting, leaving);
            self.report_moves(&mut report);
            self.lease.ask(now.mono, &self.config, report, effects);
        }
    }

    pub(super) fn witness(&mut self, now: Now, stands: bool) {
        let had = std::mem::replace(&mut self.has_witness, stands);
        if had == stands {
            return;
        }
        if !stands {
            self.stats.witness_lost += 1;
            self.muted.get_or_insert(now.mono);
        }
        self.lease.hurry(now.mono);
    }

    /// Holds alert events back for as long as a lost witness may have cut the lease short, and then lets them go.
    pub(super) fn withhold(&mut self, told: usize, effects: &mut Vec<Effect>) {
        if self.muted.is_none() {
            effects.extend(self.withheld.drain(..).map(|event| Effect::Publish(Box::new(event))));
            return;
        }
        for index in (told..effects.len()).rev() {
            if matches!(effects[index], Effect::Publish(_))
                && let Effect::Publish(event) = effects.remove(index)
            {
                self.stats.alerts_withheld += 1;
                self.withheld.push(*event);
            }
        }
    }

    /// While no redirector answers and the lease has lapsed, a source is kept only for as long as the broker goes on
    /// delivering it to this node; and silence is only silence when the broker says so.
    pub(super) fn prove(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let is_degraded = self.lease.is_degraded(now.mono);
        if is_degraded {
            self.muted = None;
        }
        let interval = self.lease.ttl() / 5;
        for (slot, source) in &mut self.sources {
            let is_due = is_degraded && source.is_unproven(now.mono, interval);
            if source.wants_probe(now) || is_due {
                source.probing(now);
                self.stats.probes += 1;
                effects.push(Effect::Probe { slot: *slot, timeout: PROBE_TIMEOUT.min(interval) });
            }
        }
    }

    pub(super) fn probed(&mut self, now: Now, slot: Slot, ok: bool, effects: &mut Vec<Effect>) {
        let is_degraded = self.lease.is_degraded(now.mono);
        if let Some(carrier) = self.carriers.get_mut(&slot) {
            return carrier.probed(now.mono, ok);
        }
        let is_proven = self.on_source(slot, effects, |source, shared| source.probed(now, ok, shared));
        if is_proven == Some(false) {
            self.stats.probes_failed += 1;
            if is_degraded && let Some(source) = self.sources.remove(&slot) {
                tracing::warn!(source = %source.key, "no lease, and the broker does not answer: letting go");
                self.stats.degraded_lost += 1;
                self.forget(slot, &source, effects);
            }
        }
    }

    pub(super) fn shut_down(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.stage != Stage::Running {
            return;
        }
        self.deadline = now.mono + SHUTDOWN_MAX;
        let asked = self.lease.drain(now.mono, &self.config, SHUTDOWN_MAX, effects);
        self.stage = if asked { Stage::Draining } else { Stage::Confirming };
    }

    /// Takes the next steps of leaving that are possible.
    pub(super) fn lead_out(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.stage == Stage::Confirming {
            let by = self.deadline;
            self.sources.values_mut().for_each(|source| source.leave(by));
        }
        let left = self.sources.iter().filter(|(_, source)| source.has_left(now.mono));
        let left: Vec<Slot> = left.map(|(slot, _)| *slot).collect();
        for slot in left {
            self.let_go_or_move(now, slot, effects);
        }
        self.carry_on(now, effects);
        if self.stage == Stage::Confirming && self.sources.is_empty() && self.carriers.is_empty() {
            self.stage = Stage::Unsubscribing;
        }
        if self.stage == Stage::Unsubscribing && self.leaving.is_empty() {
            self.stage = Stage::Leaving;
            if !self.lease.goodbye(now.mono, &self.config, effects) {
                self.stop(effects);
            }
        }
        if self.stage != Stage::Stopped && now.mono >= self.deadline {
            tracing::warn!(stage = ?self.stage, "could not leave in good order in time");
            self.stop(effects);
        }
    }

    fn stop(&mut self, effects: &mut Vec<Effect>) {
        self.stage = Stage::Stopped;
        effects.push(Effect::Stopped);
    }
}

/// What the node says of itself: what it owns, until nothing more of it comes.
fn report<'a>(
    now: Now,
    (revision, witness): (&'a Revision, bool),
    held_max: usize,
    sources: &BTreeMap<Slot, Source>,
    waiting: &BTreeMap<SourceKey, Grant>,
    leaving: &BTreeMap<Slot, Hold>,
) -> Report<'a> {
    let mut holds: BTreeMap<SourceKey, (Epoch, u64)> = BTreeMap::new();
    holds.extend(leaving.values().map(|hold| (hold.source.clone(), (hold.epoch, hold.rate))));
    holds.extend(waiting.values().map(|grant| (grant.source.clone(), (grant.epoch, 0))));
    holds.extend(sources.values().map(|source| (source.key.clone(), (source.epoch, source.rate()))));
    let fullest = sources.values().map(|source| source.held_len()).max().unwrap_or_default();
    Report {
        revision,
        witness,
        holds: holds.into_iter().map(|(source, (epoch, rate))| Hold { source, epoch, rate }).collect(),
        evacuated: Vec::new(),
        lag: sources.values().map(|source| source.lag(now.mono)).max().unwrap_or_default(),
        load: (fullest as f64 / held_max.max(1) as f64).min(1.0),
    }
}
