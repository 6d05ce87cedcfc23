//! What the schema says about routing, small enough for a million customers: one arena of text, two tables of rows that
//! point into it, and one hash index.
//!
//! Rows stand in the order of [`SourceKey`]: by customer, source, part. A row's number (its rank) is how placement
//! names a unit, so that nothing there repeats a name.

use std::cmp::Ordering;
use std::fmt;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use kinetic_wire::{CustomerName, DataType, RegionName, SourceKey};

/// Any fixed seed: order cannot show, since nothing goes through all entries of the index.
const HASH_SEED: u64 = 0x6b69_6e65_7469_6300;

/// A region, as far as routing needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionEntry {
    /// Its name.
    pub name: RegionName,
    /// Addresses, best first, each with its vhost: `(uri, vhost)`.
    pub addresses: Vec<(String, String)>,
    /// Zones whose analyzers are preferred for its sources; empty where all are alike.
    pub zones: Vec<String>,
}

/// Where a name stands in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CustomerRow {
    name: Span,
    /// Rank of its first unit; its last is before the next customer's first.
    first_unit: u32,
    region: u16,
    disabled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UnitRow {
    customer: u32,
    /// Index into the names of sources.
    name: u32,
    definition: u32,
    part: u16,
    /// Parts beside part 0; 0 where the source is whole.
    parts: u16,
    data_type: DataType,
}

/// A unit of placement: a source, or one part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitEntry<'m> {
    /// Whose.
    pub customer: &'m str,
    /// Name of the source.
    pub source: &'m str,
    /// 0 for the source itself, 1 to `parts` for its parts.
    pub part: u16,
    /// Into how many parts the source is split; 0 where it is whole.
    pub parts: u16,
    /// What it carries.
    pub data_type: DataType,
    /// Index of its region.
    pub region: u16,
    /// Digest of all that the schema says of the source.
    pub definition: u32,
}

impl UnitEntry<'_> {
    /// Its name as it travels.
    #[must_use]
    pub fn key(&self) -> SourceKey {
        SourceKey::new(self.customer, self.source).with_part(self.part)
    }

    /// The order of [`SourceKey`].
    #[must_use]
    pub fn order(&self, other: &UnitEntry<'_>) -> Ordering {
        (self.customer, self.source, self.part).cmp(&(other.customer, other.source, other.part))
    }
}

/// A customer, as far as routing needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomerEntry<'m> {
    /// Its name.
    pub name: &'m str,
    /// Index of its region.
    pub region: u16,
    /// Switched off: it is told so, and has no units.
    pub disabled: bool,
}

/// What the schema says about routing, made by the shell from a checked schema with a [`MapBuilder`].
#[derive(Clone)]
pub struct Map {
    revision: String,
    generation: u64,
    regions: Vec<RegionEntry>,
    text: String,
    customers: Vec<CustomerRow>,
    sources: Vec<Span>,
    units: Vec<UnitRow>,
    /// Customers by the hash of their name.
    index: HashTable<u32>,
}

impl Default for Map {
    fn default() -> Self {
        MapBuilder::new("", 0).build()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("revision", &self.revision)
            .field("generation", &self.generation)
            .field("regions", &self.regions)
            .field("customers", &self.customers.len())
            .field("units", &self.units.len())
            .finish_non_exhaustive()
    }
}

fn hash_of(name: &str) -> u64 {
    FixedState::with_seed(HASH_SEED).hash_one(name)
}

impl Map {
    /// Commit it was made from.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Commits up to and with that revision; 0 where that is not known.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Regions; customers and units name them by their index here.
    #[must_use]
    pub fn regions(&self) -> &[RegionEntry] {
        &self.regions
    }

    /// Customers by name.
    pub fn customers(&self) -> impl ExactSizeIterator<Item = CustomerEntry<'_>> {
        self.customers.iter().map(|row| CustomerEntry {
            name: self.text(row.name),
            region: row.region,
            disabled: row.disabled,
        })
    }

    /// A customer by name.
    #[must_use]
    pub fn customer(&self, name: &str) -> Option<CustomerEntry<'_>> {
        let row = self.customers[self.customer_index(name)? as usize];
        Some(CustomerEntry { name: self.text(row.name), region: row.region, disabled: row.disabled })
    }

    /// Number of a customer in the order of names.
    #[must_use]
    pub fn customer_index(&self, name: &str) -> Option<u32> {
        let same = |&index: &u32| self.text(self.customers[index as usize].name) == name;
        self.index.find(hash_of(name), same).copied()
    }

    /// Units of placement.
    #[must_use]
    pub fn units(&self) -> usize {
        self.units.len()
    }

    /// The unit of this rank, below [`units`](Self::units).
    #[must_use]
    pub fn unit(&self, rank: u32) -> UnitEntry<'_> {
        let row = self.units[rank as usize];
        let customer = self.customers[row.customer as usize];
        UnitEntry {
            customer: self.text(customer.name),
            source: self.text(self.sources[row.name as usize]),
            part: row.part,
            parts: row.parts,
            data_type: row.data_type,
            region: customer.region,
            definition: row.definition,
        }
    }

    /// The unit is the whole of a source that is split: its owner judges what the owners of the parts reduce.
    #[must_use]
    pub fn judges(&self, rank: u32) -> bool {
        let row = &self.units[rank as usize];
        row.parts > 0 && row.part == 0
    }

    /// Number of a unit's customer, in the order of names.
    #[must_use]
    pub fn customer_of(&self, rank: u32) -> u32 {
        self.units[rank as usize].customer
    }

    /// What a unit needs of an analyzer: index of its region, and its data type.
    #[must_use]
    pub fn needs(&self, rank: u32) -> (u16, DataType) {
        let row = self.units[rank as usize];
        (self.customers[row.customer as usize].region, row.data_type)
    }

    /// Ranks of the units of the same source, the unit itself included.
    #[must_use]
    pub fn siblings(&self, rank: u32) -> std::ops::Range<u32> {
        let row = self.units[rank as usize];
        let first = rank - u32::from(row.part);
        first..first + u32::from(row.parts) + 1
    }

    /// Rank of a unit.
    #[must_use]
    pub fn rank(&self, key: &SourceKey) -> Option<u32> {
        let customer = self.customer_index(key.customer.as_str())?;
        let range = self.units_of(customer);
        let row = |rank: u32| &self.units[rank as usize];
        let wanted = (key.source.as_str(), key.part);
        let before = |rank: u32| (self.text(self.sources[row(rank).name as usize]), row(rank).part) < wanted;
        let found = partition_point(range.clone(), before);
        let same = |rank: u32| {
            self.text(self.sources[row(rank).name as usize]) == wanted.0 && row(rank).part == wanted.1
        };
        (range.contains(&found) && same(found)).then_some(found)
    }

    /// The first rank whose unit is after this one in order, which need not be in the map.
    #[must_use]
    pub fn rank_after(&self, key: &SourceKey) -> u32 {
        let wanted = (key.customer.as_str(), key.source.as_str(), key.part);
        partition_point(0..self.units.len() as u32, |rank| {
            let unit = self.unit(rank);
            (unit.customer, unit.source, unit.part) <= wanted
        })
    }

    fn units_of(&self, customer: u32) -> std::ops::Range<u32> {
        let next = self.customers.get(customer as usize + 1);
        self.customers[customer as usize].first_unit
            ..next.map_or(self.units.len() as u32, |row| row.first_unit)
    }

    /// Whether both have the same units, rank by rank. Compares the tables as they stand, so that it is cheap.
    #[must_use]
    pub fn same_units(&self, other: &Self) -> bool {
        let row = |row: &UnitRow| (row.customer, row.name, row.part);
        self.text == other.text
            && self.sources == other.sources
            && self.customers.iter().map(|row| row.name).eq(other.customers.iter().map(|row| row.name))
            && self.units.iter().map(row).eq(other.units.iter().map(row))
    }

    fn text(&self, span: Span) -> &str {
        &self.text[span.start as usize..(span.start + span.len) as usize]
    }
}

/// The first number for which `before` no longer holds.
fn partition_point(range: std::ops::Range<u32>, before: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// A customer before the rows are in order.
#[derive(Debug)]
struct Draft {
    row: CustomerRow,
    /// Its sources among the builder's; a half-open range.
    sources: (u32, u32),
}

/// A source before the rows are in order.
#[derive(Clone, Copy, Debug)]
struct SourceDraft {
    name: u32,
    data_type: DataType,
    parts: u16,
    definition: u32,
}

/// Makes a [`Map`]: regions first, then each customer followed by its sources. Any order will do; the order of names is
/// the cheapest.
#[derive(Debug)]
pub struct MapBuilder {
    map: Map,
    names: HashTable<u32>,
    drafts: Vec<Draft>,
    sources: Vec<SourceDraft>,
}

impl MapBuilder {
    /// A map of this commit and generation.
    #[must_use]
    pub fn new(revision: &str, generation: u64) -> Self {
        let map = Map {
            revision: revision.to_owned(),
            generation,
            regions: Vec::new(),
            text: String::new(),
            customers: Vec::new(),
            sources: Vec::new(),
            units: Vec::new(),
            index: HashTable::new(),
        };
        Self { map, names: HashTable::new(), drafts: Vec::new(), sources: Vec::new() }
    }

    /// Adds a region with its addresses, best first, and the zones it prefers.
    pub fn region(
        &mut self,
        name: &RegionName,
        addresses: Vec<(String, String)>,
        zones: Vec<String>,
    ) -> &mut Self {
        let index = usize::from(self.region_index(name));
        let entry = &mut self.map.regions[index];
        (entry.addresses, entry.zones) = (addresses, zones);
        self
    }

    fn region_index(&mut self, name: &RegionName) -> u16 {
        let regions = &mut self.map.regions;
        let index = regions.iter().position(|entry| entry.name == *name).unwrap_or_else(|| {
            regions.push(RegionEntry { name: name.clone(), addresses: Vec::new(), zones: Vec::new() });
            regions.len() - 1
        });
        u16::try_from(index).expect("a schema has far fewer regions than 65,536")
    }

    /// Adds a customer. A region that was not added is one without addresses.
    pub fn customer(&mut self, name: &CustomerName, region: &RegionName, disabled: bool) -> &mut Self {
        let region = self.region_index(region);
        let name = push(&mut self.map.text, name.as_str());
        let first = self.sources.len() as u32;
        let row = CustomerRow { name, first_unit: 0, region, disabled };
        self.drafts.push(Draft { row, sources: (first, first) });
        self
    }

    /// Adds a source to the customer added last: into how many `partitions` it is split (1 where it is not), and a digest
    /// of all that the schema says of it. A disabled customer's sources are left out.
    pub fn source(&mut self, name: &str, data_type: DataType, partitions: u16, definition: u32) -> &mut Self {
        let Some(draft) = self.drafts.last_mut().filter(|draft| !draft.row.disabled) else {
            return self;
        };
        let Map { text, sources, .. } = &mut self.map;
        let get = |sources: &[Span], text: &str, index: u32| {
            let span = sources[index as usize];
            hash_of(&text[span.start as usize..(span.start + span.len) as usize])
        };
        let same = |&index: &u32| {
            let span = sources[index as usize];
            &text[span.start as usize..(span.start + span.len) as usize] == name
        };
        let known = self.names.find(hash_of(name), same).copied();
        let name = known.unwrap_or_else(|| {
            let index = sources.len() as u32;
            sources.push(push(text, name));
            self.names.insert_unique(hash_of(name), index, |&index| get(sources, text, index));
            index
        });
        let parts = if partitions > 1 { partitions } else { 0 };
        self.sources.push(SourceDraft { name, data_type, parts, definition });
        draft.sources.1 = self.sources.len() as u32;
        self
    }

    /// The map.
    ///
    /// # Panics
    /// With more than four billion units, or as much text.
    #[must_use]
    pub fn build(self) -> Map {
        let Self { mut map, names, mut drafts, mut sources } = self;
        drop(names);
        let text = std::mem::take(&mut map.text);
        let name = |span: Span| &text[span.start as usize..(span.start + span.len) as usize];
        if !drafts.is_sorted_by(|a, b| name(a.row.name) < name(b.row.name)) {
            // Stable, so that of two customers of one name the later stands.
            drafts.sort_by(|a, b| name(a.row.name).cmp(name(b.row.name)));
            drafts.dedup_by(|later, kept| {
                let same = name(later.row.name) == name(kept.row.name);
                if same {
                    std::mem::swap(later, kept);
                }
                same
            });
        }
        let units = sources.iter().map(|source| usize::from(source.parts) + 1).sum();
        map.units = Vec::with_capacity(units);
        map.customers = Vec::with_capacity(drafts.len());
        map.index = HashTable::with_capacity(drafts.len());
        for (customer, draft) in drafts.into_iter().enumerate() {
            let customer = u32::try_from(customer).expect("fewer customers than four billion");
            let own = &mut sources[draft.sources.0 as usize..draft.sources.1 as usize];
            own.sort_by(|a, b| name(map.sources[a.name as usize]).cmp(name(map.sources[b.name as usize])));
            let first_unit = u32::try_from(map.units.len()).expect("fewer units than four billion");
            map.customers.push(CustomerRow { first_unit, ..draft.row });
            let rehash = |&index: &u32| hash_of(name(map.customers[index as usize].name));
            map.index.insert_unique(hash_of(name(draft.row.name)), customer, rehash);
            for (index, source) in own.iter().enumerate() {
                if own.get(index + 1).is_some_and(|next| next.name == source.name) {
                    continue;
                }
                let SourceDraft { name, data_type, parts, definition } = *source;
                let row = |part| UnitRow { customer, name, definition, part, parts, data_type };
                map.units.extend((0..=parts).map(row));
            }
        }
        map.text = text;
        map.text.shrink_to_fit();
        map.sources.shrink_to_fit();
        map
    }
}

fn push(text: &mut String, name: &str) -> Span {
    let start = u32::try_from(text.len()).expect("less text than 4 GiB");
    text.push_str(name);
    Span { start, len: name.len() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built() -> Map {
        let mut builder = MapBuilder::new("r1", 7);
        builder.region(&"us".into(), vec![("amqp://us".into(), "us".into())], vec!["a".into()]);
        builder.customer(&"zoo".into(), &"us".into(), false).source("web", DataType::Statsd, 1, 1);
        builder.customer(&"acme".into(), &"eu".into(), false).source("web", DataType::Influx, 3, 2).source(
            "db",
            DataType::Auto,
            1,
            3,
        );
        builder.customer(&"off".into(), &"us".into(), true).source("web", DataType::Statsd, 1, 4);
        builder.build()
    }

    #[test]
    fn units_stand_in_the_order_of_their_keys() {
        let map = built();
        let keys: Vec<SourceKey> = (0..map.units() as u32).map(|rank| map.unit(rank).key()).collect();
        let shown: Vec<String> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["acme/db", "acme/web", "acme/web#1", "acme/web#2", "acme/web#3", "zoo/web"]);
        assert!(keys.is_sorted());
        for (rank, key) in keys.iter().enumerate() {
            assert_eq!(map.rank(key), Some(rank as u32));
            assert_eq!(map.rank_after(key), rank as u32 + 1);
        }
        let absent = |key: SourceKey, after| {
            assert_eq!(map.rank(&key), None, "{key}");
            assert_eq!(map.rank_after(&key), after, "{key}");
        };
        absent(SourceKey::new("acme", "cache"), 0);
        absent(SourceKey::new("acme", "web").with_part(4), 5);
        absent(SourceKey::new("off", "web"), 5);
        absent(SourceKey::new("zz", "a"), 6);
        assert_eq!(map.siblings(3), 1..5);
        assert_eq!(map.siblings(5), 5..6);
    }

    #[test]
    fn customers_are_found_by_name_and_have_their_region() {
        let map = built();
        assert_eq!(map.customers().map(|customer| customer.name).collect::<Vec<_>>(), ["acme", "off", "zoo"]);
        let region =
            |name| map.regions()[usize::from(map.customer(name).expect("known").region)].name.clone();
        assert_eq!((region("acme").as_str(), region("zoo").as_str()), ("eu", "us"));
        assert!(map.customer("off").is_some_and(|customer| customer.disabled));
        assert_eq!(map.customer("nobody"), None);
        assert_eq!(map.regions()[1].addresses, [], "a region that nobody added has no address");
    }

    #[test]
    fn of_two_with_one_name_the_later_stands() {
        let mut builder = MapBuilder::new("r1", 0);
        builder.customer(&"b".into(), &"eu".into(), false).source("x", DataType::Auto, 1, 1);
        builder.customer(&"a".into(), &"eu".into(), false);
        builder.customer(&"b".into(), &"eu".into(), false).source("y", DataType::Auto, 1, 2).source(
            "y",
            DataType::Statsd,
            1,
            3,
        );
        let map = builder.build();
        assert_eq!((map.customers().len(), map.units()), (2, 1));
        assert_eq!(map.unit(0).definition, 3);
    }

    #[test]
    fn equal_tables_are_recognised() {
        assert!(built().same_units(&built()));
        let mut other = MapBuilder::new("r2", 8);
        other.customer(&"acme".into(), &"eu".into(), false).source("db", DataType::Auto, 1, 3);
        assert!(!built().same_units(&other.build()));
    }
}
