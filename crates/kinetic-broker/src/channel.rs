//! A channel as the broker's core sees it: unacknowledged deliveries, consumers, prefetch, confirms. Pure.

use crate::queue::{ConsumerId, Entry, QueueId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Holes in the ring that are kept before it is packed.
const HOLES_MAX: usize = 64;

/// A message handed out and not yet settled.
#[derive(Debug)]
pub(crate) struct Unacked {
    pub(crate) queue: QueueId,
    /// `None` for a message that `basic.get` took.
    pub(crate) consumer: Option<ConsumerId>,
    pub(crate) entry: Entry,
}

/// Unsettled deliveries by tag. Settling in order is O(1); in any order O(log n).
#[derive(Debug, Default)]
pub(crate) struct UnackedRing {
    /// Sorted by tag; `None` where one was settled out of order.
    slots: VecDeque<(u64, Option<Unacked>)>,
    live: usize,
}

impl UnackedRing {
    #[cfg(test)]
    fn len(&self) -> usize {
        self.live
    }

    /// Adds the newest delivery; tags only grow.
    pub(crate) fn push(&mut self, tag: u64, unacked: Unacked) {
        assert!(self.slots.back().is_none_or(|(last, _)| *last < tag), "tags grow");
        self.slots.push_back((tag, Some(unacked)));
        self.live += 1;
    }

    /// Takes the delivery with this tag.
    pub(crate) fn take(&mut self, tag: u64) -> Option<Unacked> {
        // Without holes packed away the place is known from the first tag; else look for it.
        let guess =
            self.slots.front().and_then(|(first, _)| usize::try_from(tag.checked_sub(*first)?).ok())?;
        let index = match self.slots.get(guess) {
            Some((found, _)) if *found == tag => guess,
            _ => self.slots.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?,
        };
        let taken = self.slots[index].1.take()?;
        self.live -= 1;
        self.trim();
        Some(taken)
    }

    /// Takes every delivery up to `tag`, oldest first; 0 means all.
    pub(crate) fn take_up_to(&mut self, tag: u64, taken: &mut Vec<Unacked>) {
        while self.slots.front().is_some_and(|(first, _)| tag == 0 || *first <= tag) {
            let slot = self.slots.pop_front().and_then(|(_, slot)| slot);
            self.live -= usize::from(slot.is_some());
            taken.extend(slot);
        }
        self.trim();
    }

    /// Whether a delivery with this tag is unsettled.
    pub(crate) fn contains(&self, tag: u64) -> bool {
        self.slots
            .binary_search_by_key(&tag, |(tag, _)| *tag)
            .is_ok_and(|index| self.slots[index].1.is_some())
    }

    fn trim(&mut self) {
        while self.slots.front().is_some_and(|(_, slot)| slot.is_none()) {
            self.slots.pop_front();
        }
        // One delivery held for long must not keep the holes of all that came after it.
        if self.slots.len() > HOLES_MAX && self.slots.len() > 4 * self.live {
            self.slots.retain(|(_, slot)| slot.is_some());
        }
    }
}

/// Publisher confirms of a channel.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    /// Sequence number of the last publish.
    last: u64,
    /// Every publish up to here was told to the client.
    told: u64,
}

impl Confirms {
    /// Counts a publish; its sequence number.
    pub(crate) fn publish(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
    /// The acknowledgement that is due for everything before `seq`: its tag, and whether it covers several.
    pub(crate) fn due_before(&mut self, seq: u64) -> Option<(u64, bool)> {
        let upto = seq - 1;
        let due = (upto > self.told).then_some((upto, upto - self.told > 1));
        self.told = self.told.max(upto);
        due
    }
    /// The acknowledgement that is due for everything.
    pub(crate) fn due(&mut self) -> Option<(u64, bool)> {
        self.due_before(self.last + 1)
    }
    /// `seq` was told by itself, as a nack.
    pub(crate) fn tell(&mut self, seq: u64) {
        self.told = seq;
    }
}

/// One channel.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    pub(crate) unacked: UnackedRing,
    tag_last: u64,
    /// Consumers by their tag.
    pub(crate) consumers: BTreeMap<Arc<str>, ConsumerId>,
    /// Prefetch that new consumers get; 0 for no limit.
    pub(crate) prefetch: usize,
    /// Prefetch over all consumers of the channel; 0 for no limit.
    pub(crate) prefetch_global: usize,
    /// Unsettled deliveries to consumers: what the global prefetch counts.
    pub(crate) outstanding: usize,
    /// Confirm mode.
    pub(crate) confirms: Option<Confirms>,
    /// The queue meant by an empty queue name: the last one declared here.
    pub(crate) queue_last: Option<Arc<str>>,
    /// Direct reply-to: the routing key that reaches this channel, and the consumer tag.
    pub(crate) reply: Option<(Arc<str>, Arc<str>)>,
}

impl Channel {
    /// The next delivery tag.
    pub(crate) fn next_tag(&mut self) -> u64 {
        self.tag_last += 1;
        self.tag_last
    }
    /// Whether the global prefetch lets another delivery through.
    pub(crate) fn has_room(&self) -> bool {
        self.prefetch_global == 0 || self.outstanding < self.prefetch_global
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, Memory};
    use crate::message::Message;
    use crate::queue::{Queue, QueueSpec};
    use proptest::prelude::*;

    fn entries(count: u64) -> Vec<Entry> {
        let account = Arc::new(Account::new(&Arc::new(Memory::new(usize::MAX))));
        let spec =
            QueueSpec { durable: false, auto_delete: false, exclusive: None, arguments: Default::default() };
        let mut queue = Queue::new("q".into(), spec, Default::default(), 0);
        for _ in 0..count {
            queue.push(Arc::new(Message::new("".into(), Vec::new(), 0, 0, &account)), 0);
        }
        std::iter::from_fn(|| queue.pop()).collect()
    }

    fn ring(count: u64) -> UnackedRing {
        let mut ring = UnackedRing::default();
        for (tag, entry) in (1..).zip(entries(count)) {
            ring.push(tag, Unacked { queue: QueueId(tag), consumer: None, entry });
        }
        ring
    }

    #[test]
    fn a_long_held_delivery_keeps_no_holes() {
        let mut ring = ring(10_000);
        for tag in 2..=9_999 {
            assert_eq!(ring.take(tag).unwrap().queue, QueueId(tag));
        }
        assert_eq!(ring.len(), 2);
        assert!(ring.slots.len() <= HOLES_MAX);
        assert!(ring.contains(1) && ring.contains(10_000) && !ring.contains(5));
        assert!(ring.take(10_000).is_some() && ring.take(10_000).is_none() && ring.take(0).is_none());
    }

    #[test]
    fn confirms_are_batched() {
        let mut confirms = Confirms::default();
        assert_eq!(confirms.due(), None);
        (0..3).for_each(|_| {
            confirms.publish();
        });
        assert_eq!(confirms.due(), Some((3, true)));
        let fourth = confirms.publish();
        let fifth = confirms.publish();
        assert_eq!(confirms.due_before(fifth), Some((fourth, false)));
        confirms.tell(fifth);
        assert_eq!(confirms.due(), None);
    }

    proptest! {
        #[test]
        fn the_ring_agrees_with_a_map(count in 1u64..300, ops in proptest::collection::vec((any::<bool>(), 0u64..310), 0..200)) {
            let mut ring = ring(count);
            let mut model: std::collections::BTreeSet<u64> = (1..=count).collect();
            for (multiple, tag) in ops {
                if multiple && tag % 7 == 0 && tag > 0 {
                    let mut taken = Vec::new();
                    ring.take_up_to(tag, &mut taken);
                    let expect: Vec<u64> = model.iter().copied().filter(|t| *t <= tag).collect();
                    prop_assert_eq!(taken.iter().map(|u| u.queue.0).collect::<Vec<_>>(), expect);
                    model.retain(|t| *t > tag);
                } else {
                    prop_assert_eq!(ring.contains(tag), model.contains(&tag));
                    prop_assert_eq!(ring.take(tag).map(|u| u.queue.0), model.take(&tag));
                }
                prop_assert_eq!(ring.len(), model.len());
            }
        }
    }
}
