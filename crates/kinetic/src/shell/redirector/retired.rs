//! Parts that a source no longer has: what is left in their queues is still to be read.
//!
//! When a revision gives a source fewer parts, nothing is bound any more to the queues of those beyond the number. They stay
//! units of placement, and somebody reads them and forwards their values, until their queues have been empty for
//! [`QUIET`]. The queues stay, empty, for the day on which the number grows again.

use std::collections::BTreeMap;
use std::time::Duration;

use kinetic_amqp::{Address, queue_depth};
use kinetic_schema::Schema;
use kinetic_wire::{Now, SourceKey, names};

use crate::adapter::clock;
use crate::topology;

/// How long the queues must have been empty: whoever reads them holds deliveries back until their windows are closed, which
/// is ten minutes at most, and they come back if he dies.
const QUIET: Duration = Duration::from_secs(15 * 60);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How many parts each source has had, where that is more than it has.
#[derive(Debug, Default)]
pub(super) struct Retired {
    /// Sources with more than one part, as of the last revision.
    split: BTreeMap<SourceKey, u16>,
    parts: BTreeMap<SourceKey, u16>,
}

impl Retired {
    /// Goes over to a revision. Returns the sources that have lost parts, each with how many it had.
    pub(super) fn follow(&mut self, schema: &Schema) -> Vec<(SourceKey, u16)> {
        let mut split = BTreeMap::new();
        for customer in schema.customers.values() {
            for source in customer.sources.values().filter(|source| source.partitions > 1) {
                let key = SourceKey::new(customer.name.as_str(), source.name.as_str());
                split.insert(key, source.partitions);
            }
        }
        let before = std::mem::replace(&mut self.split, split);
        let mut lost = Vec::new();
        for (key, had) in before {
            let is_known =
                schema.customers.get(&key.customer).is_some_and(|c| c.sources.contains_key(&key.source));
            let has = self.split.get(&key).copied().unwrap_or(1);
            if is_known && had > has && self.parts.get(&key).is_none_or(|known| *known < had) {
                self.parts.insert(key.clone(), had);
                lost.push((key, had));
            }
        }
        let split = &self.split;
        self.parts.retain(|key, had| split.get(key).copied().unwrap_or(1) < *had);
        lost
    }

    /// How many parts of a source are to be placed; it is split into `partitions`.
    pub(super) fn parts(&self, key: &SourceKey, partitions: u16) -> u16 {
        self.parts.get(key).copied().unwrap_or_default().max(partitions)
    }

    /// What was left of a source's parts has been read. Returns whether that changes anything.
    pub(super) fn end(&mut self, key: &SourceKey, had: u16) -> bool {
        let is_last = self.parts.get(key) == Some(&had);
        if is_last {
            self.parts.remove(key);
        }
        is_last
    }
}

/// Where the queues of a source's parts are; `None` where the schema does not say any more.
pub(super) fn place(schema: &Schema, control: &Address, key: &SourceKey) -> Option<Address> {
    let customer = schema.customers.get(&key.customer)?;
    Some(topology::region_address(control, schema.regions.get(&customer.region)?))
}

/// Looks at the queues of some parts until they have been empty for long enough.
pub(super) async fn drained(address: Address, key: SourceKey, left: std::ops::RangeInclusive<u16>) {
    let mut empty_since: Option<Now> = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let mut is_empty = true;
        for part in left.clone() {
            match queue_depth(&address, &names::source_queue(&key.with_part(part))).await {
                Ok(depth) => is_empty &= depth.is_none_or(|depth| depth.messages == 0),
                Err(error) => {
                    tracing::debug!(source = %key, part, %error, "cannot look at the queue of a part that is no more");
                    is_empty = false;
                }
            }
        }
        let now = clock::now();
        let since = *empty_since.get_or_insert(now);
        if !is_empty {
            empty_since = None;
        } else if now.mono.since(since.mono) >= QUIET {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(partitions: Option<u16>) -> Schema {
        let source = partitions.map_or_else(String::new, |n| {
            format!("source \"web\" {{\n data_type = \"statsd\"\n routing = [\"#\"]\n partitions = {n}\n}}\n")
        });
        let text =
            format!("region \"local\" {{}}\ncustomer \"acme\" {{\n region = region.local\n{source}}}\n");
        let loaded = kinetic_schema::load(&[("all.hcl".to_owned(), text.into_bytes())].into());
        loaded.schema.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
    }

    #[test]
    fn parts_stay_until_they_are_read() {
        let key = SourceKey::new("acme", "web");
        let mut retired = Retired::default();
        assert_eq!(retired.follow(&schema(Some(4))), []);
        assert_eq!(retired.parts(&key, 4), 4);
        assert_eq!(retired.follow(&schema(Some(2))), [(key.clone(), 4)]);
        assert_eq!(retired.parts(&key, 2), 4);
        assert_eq!(retired.follow(&schema(Some(1))), [], "four of them stay already");
        assert_eq!(retired.parts(&key, 1), 4);
        assert!(!retired.end(&key, 2) && retired.end(&key, 4));
        assert_eq!(retired.parts(&key, 1), 1);
    }

    #[test]
    fn parts_that_are_wanted_again_are_not_retired() {
        let key = SourceKey::new("acme", "web");
        let mut retired = Retired::default();
        retired.follow(&schema(Some(4)));
        retired.follow(&schema(Some(2)));
        retired.follow(&schema(Some(4)));
        assert!(!retired.end(&key, 4));
        retired.follow(&schema(None));
        assert_eq!(retired.parts(&key, 1), 1, "a source that is gone has none");
    }
}
