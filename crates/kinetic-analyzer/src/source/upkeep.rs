//! What changes a source but no delivery: another schema revision, and series that are not seen any more.

use std::time::Duration;

use kinetic_schema::Schema;
use kinetic_wire::Now;

use super::{Recall, SERIES_IDLE, Shared, Source};
use crate::group::Voice;
use crate::plan::{self, Plan};

impl Source {
    /// Goes over to another revision. Returns `false` where that does not know the source any more.
    pub(crate) fn adopt(&mut self, schema: &Schema, shared: &mut Shared<'_>) -> bool {
        let Some(plan) = Plan::of(schema, &self.key) else { return false };
        if !self.role.fits(&self.key, &plan) {
            // It is taken up again as what it is now: its deliveries come again, and its snapshot says what was judged.
            return false;
        }
        let old = std::mem::replace(&mut self.plan, plan);
        self.lay_lanes();
        let voice =
            Voice { node: shared.node, revision: shared.revision, source: &self.key, epoch: self.epoch };
        let (keeper, effects) = (&mut self.keeper, &mut *shared.effects);
        let mut published = 0;
        self.groups.adopt(&old, &self.plan, &mut self.lanes, voice, &mut |event| {
            if let Some(effect) = keeper.publish(event) {
                effects.push(effect);
                published += 1;
            }
        });
        shared.stats.alerts_published += published;
        self.release_series(self.series.len(), shared);
        self.series.clear();
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_used) {
            lane.discard();
        }
        if self.recall != Recall::Never {
            self.keeper.due();
            self.keep(shared);
        }
        self.move_on(shared);
        true
    }

    /// Forgets series that have not been seen for long, and what only they fed.
    pub(super) fn sweep(&mut self, now: Now, shared: &mut Shared<'_>) {
        if self.sweep_at.is_none_or(|at| now.mono < at) {
            return;
        }
        let longest = self.plan.watches.iter().map(|watch| watch.length).max().unwrap_or_default();
        let twice = Duration::from_nanos(longest.unsigned_abs().saturating_mul(2));
        self.sweep_at = Some(now.mono + SERIES_IDLE.max(twice));
        let mut fed: Vec<Vec<bool>> = vec![Vec::new(); self.lanes.len()];
        let before = self.series.len();
        self.series.sweep(|target| {
            let fed = &mut fed[usize::from(target.lane)];
            let cell = target.cell as usize;
            if cell >= fed.len() {
                fed.resize(cell + 1, false);
            }
            fed[cell] = true;
        });
        self.release_series(before - self.series.len(), shared);
        let is_fed = |lane: u16, cell: u32| fed[usize::from(lane)].get(cell as usize) == Some(&true);
        let idle = plan::nanos(SERIES_IDLE.max(twice));
        self.groups.sweep(&self.plan, &mut self.lanes, idle, is_fed);
    }
}
