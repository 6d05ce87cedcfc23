//! What happens when: a queue of events in virtual time. Events of one moment keep the order in which they were asked for.

use std::collections::BTreeMap;

use crate::message::{ConnId, Time};
use crate::shell::Tell;

/// A supervised connection of a process: goes on over reconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// A process: its place in the world. Restarts keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcId(pub usize);

/// One start of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life(pub u64);

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process.
    Client,
    /// The broker.
    Broker,
}

/// What happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A frame may have reached the broker.
    Up(ConnId),
    /// A frame may have reached the process.
    Down(ConnId),
    /// A link tries to connect.
    Dial(LinkId),
    /// One end of a connection looks whether anything was heard of the other.
    Beat(ConnId, End),
    /// The client of a connection that was refused something looks whether it is refused everything.
    Refused(ConnId),
    /// A process is told something, if it is still the same start of it.
    Tell(ProcId, Life, Tell),
    /// A machine wants to be woken.
    Wake(ProcId, Life),
    /// The next step of the plan.
    Step(usize),
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    events: BTreeMap<(Time, u64), Event>,
    asked: u64,
}

impl Agenda {
    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.asked += 1;
        self.events.insert((at, self.asked), event);
    }

    pub(crate) fn next(&mut self, until: Time) -> Option<(Time, Event)> {
        let entry = self.events.first_entry().filter(|entry| entry.key().0 <= until)?;
        let ((at, _), event) = entry.remove_entry();
        Some((at, event))
    }
}
