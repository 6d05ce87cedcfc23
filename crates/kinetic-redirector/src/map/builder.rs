//! Makes a map out of what the schema says.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use kinetic_wire::{CustomerName, DataType, RegionName};

use super::{
    AddressOrder, CustomerRow, DISABLED, HASH_SEED, KindRow, Map, NO_KIND, NO_PROFILE, RegionEntry, Span,
    UnitRow, hash_of,
};

/// Makes a [`Map`]: regions first, then each customer followed by its sources. Any order will do. In the order of names,
/// customers and each one's sources, rows are written where they stay; in any other they are put in order at the end, which
/// takes as much room again.
#[derive(Debug)]
pub struct MapBuilder {
    map: Map,
    names: HashTable<u32>,
    kinds: HashTable<u32>,
    /// A name came that does not follow the one before.
    disordered: bool,
    /// Where the rows of the source added last begin, unless it was left out.
    last: Option<usize>,
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
            names: Vec::new(),
            kinds: Vec::new(),
            units: Vec::new(),
            index: HashTable::new(),
        };
        Self { map, names: HashTable::new(), kinds: HashTable::new(), disordered: false, last: None }
    }

    /// Says how many customers and units are to come, so that there is room for just as many.
    pub fn expect(&mut self, customers: usize, units: usize) -> &mut Self {
        self.map.customers.reserve_exact(customers);
        self.map.units.reserve_exact(units);
        self
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

    /// In which order clients of a region are told its addresses: as listed, unless this says otherwise.
    pub fn order(&mut self, region: &RegionName, order: AddressOrder) -> &mut Self {
        let index = usize::from(self.region_index(region));
        self.map.regions[index].order = order;
        self
    }

    fn region_index(&mut self, name: &RegionName) -> u16 {
        let regions = &mut self.map.regions;
        let index = regions.iter().position(|entry| entry.name == *name).unwrap_or_else(|| {
            let (addresses, zones, order) = (Vec::new(), Vec::new(), AddressOrder::Listed);
            regions.push(RegionEntry { name: name.clone(), addresses, zones, order });
            regions.len() - 1
        });
        u16::try_from(index).expect("a schema has far fewer regions than 65,536")
    }

    /// Adds a customer. A region that was not added is one without addresses.
    ///
    /// # Panics
    /// With more than four billion units, or as much text.
    pub fn customer(&mut self, name: &CustomerName, region: &RegionName, disabled: bool) -> &mut Self {
        let region = self.region_index(region);
        let map = &mut self.map;
        let follows = map.customers.last().is_none_or(|before| map.text(before.name) < name.as_str());
        self.disordered |= !follows;
        let first_unit = u32::try_from(map.units.len()).expect("fewer units than four billion");
        let name = push(&mut map.text, name.as_str());
        let kind = if disabled { DISABLED } else { NO_KIND };
        map.customers.push(CustomerRow { name, first_unit, region, kind });
        self.last = None;
        self
    }

    /// Adds a source to the customer added last: into how many `partitions` it is split (1 where it is not), and a digest
    /// of all that the schema says of it. A disabled customer's sources are left out.
    pub fn source(&mut self, name: &str, data_type: DataType, partitions: u16, definition: u32) -> &mut Self {
        self.last = None;
        let Some(customer) = self.map.customers.len().checked_sub(1) else { return self };
        if self.map.customers[customer].is_disabled() {
            return self;
        }
        let name = self.name(name);
        let kind = self.kind(KindRow { profile: NO_PROFILE, data_type });
        let Map { text, customers, names, units, .. } = &mut self.map;
        let word = |name: u32| {
            let span: Span = names[name as usize];
            &text[span.start as usize..(span.start + span.len) as usize]
        };
        let before = units.last().filter(|_| units.len() > customers[customer].first_unit as usize);
        self.disordered |= before.is_some_and(|before| word(before.name) >= word(name));
        self.last = Some(units.len());
        let customer = u32::try_from(customer).expect("fewer customers than four billion");
        let parts = if partitions > 1 { partitions } else { 0 };
        units.extend((0..=parts).map(|part| UnitRow { customer, name, definition, kind, part, parts }));
        self
    }

    /// Gives the source added last a profile, which clients may ask for.
    pub fn profile(&mut self, profile: &str) -> &mut Self {
        if let Some(last) = self.last {
            let data_type = self.map.kinds[self.map.units[last].kind as usize].data_type;
            let profile = self.name(profile);
            let kind = self.kind(KindRow { profile, data_type });
            self.map.units[last..].iter_mut().for_each(|row| row.kind = kind);
        }
        self
    }

    /// Index of a name, which is written once.
    fn name(&mut self, name: &str) -> u32 {
        let Map { text, names, .. } = &mut self.map;
        let word = |text: &String, names: &[Span], index: u32| {
            let span = names[index as usize];
            hash_of(&text[span.start as usize..(span.start + span.len) as usize])
        };
        let same = |&index: &u32| {
            let span = names[index as usize];
            &text[span.start as usize..(span.start + span.len) as usize] == name
        };
        if let Some(known) = self.names.find(hash_of(name), same) {
            return *known;
        }
        let index = names.len() as u32;
        names.push(push(text, name));
        self.names.insert_unique(hash_of(name), index, |&index| word(text, names, index));
        index
    }

    /// Index of a kind, which is written once.
    fn kind(&mut self, kind: KindRow) -> u32 {
        let hash = |kind: &KindRow| FixedState::with_seed(HASH_SEED).hash_one((kind.profile, kind.data_type));
        let rows = &mut self.map.kinds;
        if let Some(known) = self.kinds.find(hash(&kind), |&index| rows[index as usize] == kind) {
            return *known;
        }
        let index = rows.len() as u32;
        rows.push(kind);
        self.kinds.insert_unique(hash(&kind), index, |&index| hash(&rows[index as usize]));
        index
    }

    /// The map.
    #[must_use]
    pub fn build(self) -> Map {
        let Self { mut map, names, kinds, disordered, .. } = self;
        drop((names, kinds));
        if disordered {
            put_in_order(&mut map);
        }
        for customer in 0..map.customers.len() {
            let first = map.units_of(customer as u32).next();
            let kind = first.and_then(|rank| u16::try_from(map.units[rank as usize].kind).ok());
            if let Some(kind) = kind.filter(|kind| *kind < NO_KIND) {
                map.customers[customer].kind = kind;
            }
        }
        map.text.shrink_to_fit();
        map.names.shrink_to_fit();
        map.kinds.shrink_to_fit();
        map.customers.shrink_to_fit();
        map.units.shrink_to_fit();
        let mut index = HashTable::with_capacity(map.customers.len());
        for (customer, row) in (0..).zip(&map.customers) {
            let rehash = |&index: &u32| hash_of(map.text(map.customers[index as usize].name));
            index.insert_unique(hash_of(map.text(row.name)), customer, rehash);
        }
        map.index = index;
        map
    }
}

/// Puts customers, and each one's sources, in the order of their names. Of two with one name the later stands.
fn put_in_order(map: &mut Map) {
    let mut customers: Vec<u32> = (0..map.customers.len() as u32).collect();
    let name = |customer: u32| map.text(map.customers[customer as usize].name);
    // Stable, so that of two with one name the later comes last.
    customers.sort_by(|a, b| name(*a).cmp(name(*b)));
    let (mut rows, mut units) = (Vec::with_capacity(customers.len()), Vec::with_capacity(map.units.len()));
    for (place, &customer) in customers.iter().enumerate() {
        if customers.get(place + 1).is_some_and(|next| name(*next) == name(customer)) {
            continue;
        }
        let range = map.units_of(customer);
        let mut sources: Vec<u32> = range.filter(|rank| map.units[*rank as usize].part == 0).collect();
        let source = |rank: u32| map.text(map.names[map.units[rank as usize].name as usize]);
        sources.sort_by(|a, b| source(*a).cmp(source(*b)));
        let first_unit = units.len() as u32;
        for (place, &rank) in sources.iter().enumerate() {
            if sources.get(place + 1).is_none_or(|next| source(*next) != source(rank)) {
                let own = rank as usize..rank as usize + usize::from(map.units[rank as usize].parts) + 1;
                let customer = rows.len() as u32;
                units.extend(map.units[own].iter().map(|row| UnitRow { customer, ..*row }));
            }
        }
        rows.push(CustomerRow { first_unit, ..map.customers[customer as usize] });
    }
    (map.customers, map.units) = (rows, units);
}

fn push(text: &mut String, name: &str) -> Span {
    let start = u32::try_from(text.len()).expect("less text than 4 GiB");
    text.push_str(name);
    Span { start, len: name.len() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn any_order_of_names_makes_the_same_map() {
        let sources = [("a", 1, None), ("b", 3, Some("web")), ("c", 1, Some("web"))];
        let built = |customers: &[&str], turn: usize| {
            let mut builder = MapBuilder::new("r1", 7);
            for name in customers {
                builder.customer(&(*name).into(), &"eu".into(), *name == "off");
                for at in 0..sources.len() {
                    let (name, partitions, profile) = sources[(at + turn) % sources.len()];
                    builder.source(name, DataType::Statsd, partitions, 7);
                    profile.iter().for_each(|profile| _ = builder.profile(profile));
                }
            }
            (builder.disordered, builder.build())
        };
        let (disordered, first) = built(&["acme", "off", "zoo"], 0);
        assert!(!disordered);
        let all = |map: &Map| {
            let units: Vec<_> = (0..map.units() as u32).map(|rank| format!("{:?}", map.unit(rank))).collect();
            let kind = |at: u32| format!("{:?}", map.kind_at(at));
            let kinds: Vec<Vec<_>> = (0..map.customers().len() as u32)
                .map(|customer| map.kinds_of(customer).map(kind).collect())
                .collect();
            (units, kinds)
        };
        assert_eq!(all(&first).1.iter().map(Vec::len).collect::<Vec<_>>(), [3, 0, 3]);
        for (names, turn) in
            [(["acme", "off", "zoo"], 1), (["zoo", "acme", "off"], 0), (["off", "zoo", "acme"], 2)]
        {
            let (disordered, other) = built(&names, turn);
            assert!(disordered);
            assert_eq!(all(&other), all(&first));
            assert!(names.iter().all(|name| other.customer(name) == first.customer(name)));
        }
    }
}
