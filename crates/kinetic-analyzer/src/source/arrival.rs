//! A source that has come from another region: what was carried after it lies in its queue behind what was published here
//! meanwhile, and is older.
//!
//! So no window is closed before a probe has proven that all of it has been read. As long as any of it is unsettled it would come
//! again, behind later deliveries as before, to this owner or to the next: the snapshots say so until the windows are closed that it fed.

use kinetic_wire::{RegionName, SourceKey, Wall, names};

use crate::carrier::is_moved;
use crate::held::AT_ONCE;
use crate::machine::Delivery;

/// How far that is.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Exchange of the source's parts, to which what is carried to them is published.
    split: String,
    /// Where it came from, as long as that matters.
    from: Option<RegionName>,
    /// It is not known yet that all has been read.
    is_unread: bool,
    /// Latest release time of what was carried.
    until: Wall,
}

impl Arrival {
    pub(super) fn new(key: &SourceKey) -> Self {
        Self { split: names::split_exchange(key), from: None, is_unread: false, until: AT_ONCE }
    }

    /// The last snapshot says that the source has come from a region.
    pub(super) fn begin(&mut self, from: Option<&RegionName>) {
        (self.from, self.is_unread) = (from.cloned(), from.is_some());
    }

    /// Whether a delivery has been carried here.
    pub(super) fn is_carried(&self, delivery: &Delivery<'_>) -> bool {
        is_moved(delivery, &self.split)
    }

    /// A delivery was taken in.
    pub(super) fn saw(&mut self, is_carried: bool, release: Wall) {
        if is_carried && self.from.is_some() {
            self.until = self.until.max(release);
        }
    }

    /// Nothing is closed yet.
    pub(super) fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// All that was in the queue has been read.
    pub(super) fn read(&mut self) {
        self.is_unread = false;
    }

    /// All that is unsettled comes again.
    pub(super) fn lost(&mut self) {
        self.is_unread = self.from.is_some();
    }

    /// Windows are closed through a moment.
    pub(super) fn closed(&mut self, through: Wall) {
        if !self.is_unread && through >= self.until {
            self.from = None;
        }
    }

    /// Where it came from, as long as that matters.
    pub(super) fn from(&self) -> Option<&RegionName> {
        self.from.as_ref()
    }
}

/// A carried delivery as its customer published it.
pub(super) fn as_published<'d>(delivery: &'d Delivery<'_>, ingress: &'d str) -> Delivery<'d> {
    let routing_key = delivery.envelope.moved.as_deref().unwrap_or_default();
    Delivery { exchange: ingress, routing_key, ..delivery.clone() }
}
