//! What a standby does: it makes a copy of the leader's map, and keeps it by the leader's changes. As leader it then knows who owned
//! what, and needs nobody to move.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kinetic_wire::{
    Change, MapChange, MapQuestion, MapReply, Mono, NodeId, Now, Reply, SourceKey, Term, decode, encode,
};

use crate::machine::{Effect, Redirector, Stored};
use crate::placing::Placing;
use crate::telling::PAGE_MAX;

/// Pause before a page is asked for again, and before a copy is begun anew.
const RETRY: Duration = Duration::from_secs(1);

/// What is asked for next.
#[derive(Debug, Default, PartialEq, Eq)]
enum Pages {
    /// Nothing: nobody leads, as far as we know, or we do, or all pages have come.
    #[default]
    Rest,
    /// The page after this source, then.
    Due(Mono, Option<SourceKey>),
    /// It is asked for.
    Asked(Option<SourceKey>),
}

/// How far the copy is. The owners themselves stand in the table, presumed.
#[derive(Debug, Default)]
pub(crate) struct Copy {
    /// Whose map it is a copy of.
    leader: Option<(Term, NodeId)>,
    /// The last change that was applied.
    seq: u64,
    pages: Pages,
    /// An answer is on its way. It may be to a question that was dropped since; the next is not asked before it is here, so
    /// that none is taken for another's.
    awaits: bool,
    /// The copy is right once the changes have come to this number.
    settled: u64,
    /// Analyzers of the leader.
    pub(crate) analyzers: BTreeSet<NodeId>,
    heard: bool,
    pub(crate) restarts: u64,
}

impl Copy {
    /// Whether another leader was ever heard of.
    pub(crate) fn has_heard(&self) -> bool {
        self.heard
    }

    /// Every page has come, and the changes have passed them.
    pub(crate) fn is_whole(&self) -> bool {
        self.leader.is_some() && self.pages == Pages::Rest && self.seq >= self.settled
    }

    /// When a page is to be asked for.
    pub(crate) fn next(&self) -> Option<Mono> {
        match self.pages {
            Pages::Due(at, _) if !self.awaits => Some(at),
            _ => None,
        }
    }

    /// We lead: there is nobody to copy from.
    pub(crate) fn stop(&mut self) {
        (self.leader, self.pages) = (None, Pages::Rest);
    }

    /// We do not lead any more: what our table says is the copy, until a leader is heard.
    pub(crate) fn begin(&mut self) {
        (self.leader, self.pages) = (None, Pages::Rest);
    }
}

impl Redirector {
    /// A message on `kin.map`.
    pub(crate) fn told(&mut self, now: Now, body: &[u8], effects: &mut Vec<Effect>) {
        let Ok(change) = decode::<MapChange>(body) else {
            self.counted.told_ignored += 1;
            return;
        };
        if change.v != 1 {
            self.counted.told_ignored += 1;
            return;
        }
        if change.leader == self.config.node {
            return; // Our own words, of now or of an earlier lead.
        }
        let theirs = (change.term, &change.leader);
        if !self.epochs.stands_by() {
            if change.term < self.epochs.term() {
                self.counted.told_ignored += 1;
                return;
            }
            // Somebody leads above us, or under our own term: the token is not ours, whatever we were told of it.
            self.depose(effects);
        }
        if self.copy.leader.as_ref().is_some_and(|(term, leader)| theirs < (*term, leader)) {
            self.counted.told_ignored += 1;
            return;
        }
        self.copy.heard = true;
        self.epochs.heard(&Stored { term: change.term, epoch_max: change.epoch_max });
        if self.answers.hear(&change.routes, change.map_epoch) {
            self.answers_changed();
        }
        self.follow(now, change);
    }

    /// Applies a change to the copy, or begins the copy anew.
    fn follow(&mut self, now: Now, change: MapChange) {
        let leader = Some((change.term, change.leader));
        let same = self.copy.leader == leader;
        if same && change.seq <= self.copy.seq {
            return;
        }
        if !same || change.seq != self.copy.seq + 1 {
            self.copy.leader = leader;
            // A gap may be the first of many: do not begin anew with each.
            let pause = if same { RETRY } else { Duration::ZERO };
            self.restart(now.mono + pause);
        }
        self.copy.seq = change.seq;
        for change in change.changes {
            self.apply(now, change);
        }
    }

    fn restart(&mut self, at: Mono) {
        self.copy.restarts += 1;
        self.copy.settled = 0;
        self.copy.pages = Pages::Due(at, None);
        self.copy.analyzers.clear();
        self.placing = Placing::new(self.config.placing.clone(), Arc::clone(&self.answers.newest().map));
    }

    fn apply(&mut self, now: Now, change: Change) {
        match change {
            Change::Source(state) => self.placing.presume(&state),
            Change::SourceGone(source) => self.placing.presume_gone(&source),
            Change::Analyzer(state) => {
                if !state.relieved {
                    self.placing.reinstate(&state.node);
                } else if !self.placing.relieve(now, &state.node, &self.leases) {
                    self.counted.told_ignored += 1;
                }
                self.copy.analyzers.insert(state.node);
            }
            Change::AnalyzerGone(node) => {
                self.copy.analyzers.remove(&node);
            }
        }
    }

    /// Asks for the next page when it is time.
    pub(crate) fn ask_map(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.copy.next().is_none_or(|at| at > now.mono) {
            return;
        }
        if let Pages::Due(_, after) = std::mem::take(&mut self.copy.pages) {
            effects.push(Effect::AskMap {
                body: encode(&MapQuestion { v: 1, after: after.clone(), limit: Some(PAGE_MAX) }),
            });
            self.copy.pages = Pages::Asked(after);
            self.copy.awaits = true;
        }
    }

    /// A page, or none.
    pub(crate) fn page(&mut self, now: Now, body: Option<&[u8]>) {
        self.copy.awaits = false;
        let Pages::Asked(after) = &self.copy.pages else {
            // Asked for in another life: the copy was begun anew since, or we lead. What is due now stays due.
            return;
        };
        let after = after.clone();
        self.copy.pages = Pages::Rest;
        let reply = body.and_then(|body| decode::<Reply<MapReply>>(body).ok());
        let Some(Reply::Ok(reply)) = reply else {
            self.copy.pages = Pages::Due(now.mono + RETRY, after);
            return;
        };
        if self.copy.leader.as_ref() != Some(&(reply.term, reply.leader)) {
            self.restart(now.mono + RETRY);
            return;
        }
        self.copy.settled = self.copy.settled.max(reply.seq);
        let mut changes: VecDeque<Change> = reply.analyzers.into_iter().map(Change::Analyzer).collect();
        changes.extend(reply.sources.into_iter().map(Change::Source));
        for change in changes {
            self.apply(now, change);
        }
        self.copy.pages = reply.next.map_or(Pages::Rest, |next| Pages::Due(now.mono, Some(next)));
    }
}
