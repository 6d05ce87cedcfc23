//! What the leader tells on `kin.map`, and the pages of the map that it hands out.
//!
//! ```text
//! kin.map   seq 1   2   3 ── 4 (nothing changed) ── 5 …            told at least every TELL_MAX
//! pages          1..1000 (seq 2)   1001..2000 (seq 3)   …          asked for by whoever makes a copy
//! ```
//! A change says how a source or an analyzer is now, not what happened to it: so pages and changes may be put on top of each
//! other as they come, and the copy is right once the changes have passed the number of every page.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kinetic_wire::{Change, MapChange, MapQuestion, MapReply, Mono, NodeId, Now, encode};

use crate::machine::{Effect, Redirector};
use crate::refusal::Refusal;
use crate::request::{Answer, check_version, parse};
use crate::view;

/// Longest silence of a leader.
pub const TELL_MAX: Duration = Duration::from_millis(900);
/// Shortest pause between two messages, so that changes that follow each other travel together.
pub const TELL_MIN: Duration = Duration::from_millis(100);
/// Changes in one message.
pub const CHANGES_MAX: usize = 1_000;
/// Changes that wait to be told; beyond it they are dropped, a number is left out, and copies are made anew (counted).
pub const PENDING_MAX: usize = 20_000;
/// Sources on one page.
pub const PAGE_MAX: u32 = 1_000;

/// What the leader has still to tell.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    seq: u64,
    told_at: Option<Mono>,
    pending: VecDeque<Change>,
    /// Analyzers that have changed, and whether they are still there.
    analyzers: BTreeMap<NodeId, bool>,
    pub(crate) told: u64,
    pub(crate) overflows: u64,
}

impl Teller {
    /// A new term begins: copies are made anew.
    pub(crate) fn begin(&mut self) {
        (self.seq, self.told_at) = (0, None);
        self.pending.clear();
        self.analyzers.clear();
    }

    /// An analyzer has changed.
    pub(crate) fn analyzer(&mut self, node: &NodeId) {
        self.analyzers.insert(node.clone(), true);
    }

    /// An analyzer is gone.
    pub(crate) fn analyzer_gone(&mut self, node: &NodeId) {
        self.analyzers.insert(node.clone(), false);
    }

    /// When the next message is due.
    pub(crate) fn next(&self) -> Mono {
        let quiet = self.pending.is_empty() && self.analyzers.is_empty();
        self.told_at.map_or(Mono(0), |at| at + if quiet { TELL_MAX } else { TELL_MIN })
    }

    fn add(&mut self, changes: Vec<Change>) {
        self.pending.extend(changes);
        if self.pending.len() > PENDING_MAX {
            self.overflow();
        }
    }

    /// More has changed than is told one by one.
    fn overflow(&mut self) {
        self.pending.clear();
        self.seq += 1;
        self.overflows += 1;
    }
}

impl Redirector {
    /// Looks at what has changed: owners are nudged, and standbys told when it is time.
    pub(crate) fn tell(&mut self, now: Now, effects: &mut Vec<Effect>) {
        match self.placing.take_changes() {
            Some(changes) => {
                self.nudge_for(&changes);
                self.teller.add(changes);
            }
            None => {
                self.teller.overflow();
                let nodes: Vec<NodeId> = self.leases.iter().map(|(node, _)| node.clone()).collect();
                nodes.iter().for_each(|node| self.nudge(node));
            }
        }
        if now.mono < self.teller.next() {
            return;
        }
        let mut changes = Vec::new();
        for (node, there) in std::mem::take(&mut self.teller.analyzers) {
            let state = there.then(|| view::analyzer_state(self, now, &node)).flatten();
            changes.push(state.map_or(Change::AnalyzerGone(node), Change::Analyzer));
        }
        let count = self.teller.pending.len().min(CHANGES_MAX);
        changes.extend(self.teller.pending.drain(..count));
        self.teller.seq += 1;
        self.teller.told += 1;
        self.teller.told_at = Some(now.mono);
        let body = encode(&MapChange {
            v: 1,
            leader: self.config.node.clone(),
            term: self.epochs.term(),
            seq: self.teller.seq,
            epoch_max: self.epochs.confirmed(),
            revision: self.answers.routes.map.revision().to_owned(),
            map_epoch: self.answers.version,
            routes: self.answers.routes.digest.clone(),
            changes,
        });
        effects.push(Effect::Tell { body });
    }

    /// Nudges whoever was given something, or is to let go, and was not answered just now.
    fn nudge_for(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Source(source) = change
                && let Some(owner) = &source.owner
                && (!owner.held || owner.leaving)
                && !self.answered.contains(&owner.node)
            {
                self.nudge(&owner.node);
            }
        }
    }

    /// One page of the map.
    pub(crate) fn map_page(&mut self, now: Now, body: &[u8]) -> Result<Answer, Refusal> {
        let question: MapQuestion = parse(body)?;
        check_version(question.v)?;
        if !self.epochs.leads() {
            return Err(Refusal::NOT_LEADER);
        }
        let limit = question.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX) as usize;
        let first = question.after.is_none();
        let (sources, more) = self.placing.page(question.after.as_ref(), limit);
        let next = sources.last().filter(|_| more).map(|last| last.source.clone());
        let nodes: Vec<NodeId> = self.leases.iter().map(|(node, _)| node.clone()).collect();
        let analyzers =
            nodes.iter().filter(|_| first).filter_map(|node| view::analyzer_state(self, now, node));
        let reply = MapReply {
            ok: true,
            leader: self.config.node.clone(),
            term: self.epochs.term(),
            seq: self.teller.seq,
            revision: self.answers.routes.map.revision().to_owned(),
            map_epoch: self.answers.version,
            routes: self.answers.routes.digest.clone(),
            listening: self.listening,
            analyzers: analyzers.collect(),
            sources,
            moves: if first { self.placing.moves_newest_first() } else { Vec::new() },
            unowned: self.placing.table.unowned().len() as u64,
            next,
            now_ms: now.wall.as_ms(),
        };
        Ok(Answer::Body(encode(&reply)))
    }
}
