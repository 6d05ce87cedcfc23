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
use kinetic_wire::{DataType, RegionName, SourceKey};

mod builder;

pub use builder::MapBuilder;

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
    /// In which order clients are told the addresses.
    pub order: AddressOrder,
}

/// In which order clients are told a region's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressOrder {
    /// As the schema lists them.
    #[default]
    Listed,
    /// Each origin in an order of its own, always the same: a fleet spreads over all of them.
    ByOrigin,
}

/// Where a name stands in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

/// Sixteen bytes, so that no row lies in two lines of a cache: to look at one is most of what an answer costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CustomerRow {
    name: Span,
    /// Rank of its first unit; its last is before the next customer's first.
    first_unit: u32,
    region: u16,
    /// Index of its first source's kind, [`NO_KIND`] where that is to be looked up, or [`DISABLED`].
    kind: u16,
}

impl CustomerRow {
    fn is_disabled(&self) -> bool {
        self.kind == DISABLED
    }
}

/// In place of the index of a customer's first kind: it has no source, or the index is larger than fits.
const NO_KIND: u16 = u16::MAX - 1;
/// In place of it: the customer is switched off, and has no sources.
const DISABLED: u16 = u16::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UnitRow {
    customer: u32,
    /// Index into the names.
    name: u32,
    definition: u32,
    /// Index into the kinds.
    kind: u32,
    part: u16,
    /// Parts beside part 0; 0 where the source is whole.
    parts: u16,
}

/// In place of the index of a profile's name: there is none.
const NO_PROFILE: u32 = u32::MAX;

/// What a source is to a client: most installations have a handful of these, however many sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KindRow {
    /// Index into the names, or [`NO_PROFILE`].
    profile: u32,
    data_type: DataType,
}

/// What a source is to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind<'m> {
    /// Its profile, where it has one.
    pub(crate) profile: Option<&'m str>,
    /// What it carries.
    pub(crate) data_type: DataType,
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
    /// Names of sources and of profiles, each once.
    names: Vec<Span>,
    kinds: Vec<KindRow>,
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
            disabled: row.is_disabled(),
        })
    }

    /// A customer by name.
    #[must_use]
    pub fn customer(&self, name: &str) -> Option<CustomerEntry<'_>> {
        Some(self.customer_at(self.customer_index(name)?))
    }

    /// The customer of this number.
    pub(crate) fn customer_at(&self, index: u32) -> CustomerEntry<'_> {
        let row = self.customers[index as usize];
        CustomerEntry { name: self.text(row.name), region: row.region, disabled: row.is_disabled() }
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
            source: self.text(self.names[row.name as usize]),
            part: row.part,
            parts: row.parts,
            data_type: self.kinds[row.kind as usize].data_type,
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
        (self.customers[row.customer as usize].region, self.kinds[row.kind as usize].data_type)
    }

    /// What sources are to clients, each kind once; sources name them by their index here.
    pub(crate) fn kinds(&self) -> impl ExactSizeIterator<Item = Kind<'_>> {
        self.kinds.iter().map(|row| self.kind(row))
    }

    fn kind(&self, row: &KindRow) -> Kind<'_> {
        let profile = (row.profile != NO_PROFILE).then(|| self.text(self.names[row.profile as usize]));
        Kind { profile, data_type: row.data_type }
    }

    /// The kind of a customer's first source, where that is known without a look at its sources: they lie elsewhere in memory.
    pub(crate) fn first_kind(&self, customer: u32) -> Option<Kind<'_>> {
        let kind = self.customers[customer as usize].kind;
        (kind < NO_KIND).then(|| self.kind_at(u32::from(kind)))
    }

    /// Index of the kind of each source of a customer.
    pub(crate) fn kinds_of(&self, customer: u32) -> impl Iterator<Item = u32> {
        let std::ops::Range { start, end } = self.units_of(customer);
        let here = move |rank: u32| (rank < end).then_some(rank);
        let next = move |rank: &u32| here(rank + u32::from(self.units[*rank as usize].parts) + 1);
        std::iter::successors(here(start), next).map(|rank| self.units[rank as usize].kind)
    }

    /// The kind of this index.
    pub(crate) fn kind_at(&self, index: u32) -> Kind<'_> {
        self.kind(&self.kinds[index as usize])
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
        let before = |rank: u32| (self.text(self.names[row(rank).name as usize]), row(rank).part) < wanted;
        let found = partition_point(range.clone(), before);
        let same = |rank: u32| {
            self.text(self.names[row(rank).name as usize]) == wanted.0 && row(rank).part == wanted.1
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
            && self.names == other.names
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
    fn a_customers_first_kind_is_that_of_its_first_source() {
        let map = built();
        for (index, customer) in (0..).zip(map.customers()) {
            let first = map.kinds_of(index).next().map(|kind| map.kind_at(kind));
            assert_eq!(map.first_kind(index), first, "{}", customer.name);
            assert_eq!(first.is_none(), customer.name == "off");
        }
        assert_eq!(size_of::<CustomerRow>(), 16);
    }

    /// More kinds than a customer's row can name.
    #[test]
    fn kinds_beyond_those_that_fit_are_looked_up() {
        let mut builder = MapBuilder::new("r1", 7);
        for number in 0..=u32::from(NO_KIND) + 1 {
            builder.customer(&format!("c{number:05}").as_str().into(), &"us".into(), false);
            builder.source("web", DataType::Statsd, 1, 1).profile(&format!("p{number}"));
        }
        let map = builder.build();
        // The kind without a profile came first.
        assert_eq!(map.first_kind(9).and_then(|kind| kind.profile), Some("p9"));
        let last = u32::from(NO_KIND) + 1;
        assert_eq!(map.first_kind(last), None);
        let own: Vec<_> = map.kinds_of(last).map(|kind| map.kind_at(kind).profile).collect();
        assert_eq!(own, [Some("p65535")]);
    }

    #[test]
    fn equal_tables_are_recognised() {
        assert!(built().same_units(&built()));
        let mut other = MapBuilder::new("r2", 8);
        other.customer(&"acme".into(), &"eu".into(), false).source("db", DataType::Auto, 1, 3);
        assert!(!built().same_units(&other.build()));
    }
}
