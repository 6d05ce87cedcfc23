//! The bounded table of known series: from what a line says, byte for byte, to the cells that it feeds.
//!
//! A publisher repeats its series in the same order, so every entry remembers which one came after it last time;
//! a right guess costs one comparison and no hash. A wrong one costs a hash and a probe. Neither allocates. Measured
//! (`benches/observe.rs`): 58 ns a sample with guessing, decoding included, against 91 ns without.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use kinetic_schema::schema::ValueKind;
use std::hash::{BuildHasher, Hasher};

use crate::sample::{Field, Kind, Sample};

/// Longest name, tags and origin of one series together, bytes; a longer one is refused like one too many.
pub(crate) const SERIES_BYTES_MAX: usize = 64 * 1024 - 1;

/// Origin of a delivery that names one too many, or one that is too long.
pub(crate) const ORIGIN_REFUSED: u32 = u32::MAX;
/// Longest origin that a delivery may name, bytes.
pub(crate) const ORIGIN_BYTES_MAX: usize = 512;
/// Bytes that the names of a source's series may take on average, once they take more than [`SERIES_BYTES_FREE`]: long names
/// are no way around a limit of their number.
pub(crate) const SERIES_BYTES_MEAN_MAX: usize = 512;
/// Bytes that they may always take.
pub(crate) const SERIES_BYTES_FREE: usize = 1024 * 1024;

/// Number of an entry; `Id::NONE` before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u32);

impl Id {
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// A cell that a series feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) cell: u32,
    pub(crate) lane: u16,
    pub(crate) value: ValueKind,
}

/// Kind and way of joining, in one byte to compare.
fn shape(sample: &Sample<'_>) -> u8 {
    let field = match sample.field {
        None => 0,
        Some(Field::Dotted(_)) => 1,
        Some(Field::Glued(_)) => 2,
    };
    let kind = match sample.kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
        Kind::GaugeDelta => 2,
        Kind::Timer => 3,
        Kind::Set => 4,
        Kind::Total => 5,
    };
    kind * 3 + field
}

/// The four byte strings of a series, in the order in which they are stored.
fn parts<'s>(sample: &Sample<'s>) -> [&'s [u8]; 4] {
    let field = match sample.field {
        None => "",
        Some(Field::Dotted(field) | Field::Glued(field)) => field,
    };
    [sample.name.as_bytes(), field.as_bytes(), sample.tags.as_bytes(), sample.origin.unwrap_or("").as_bytes()]
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where the four strings stand in `bytes`, one after the other, and how long each is.
    bytes: u32,
    lengths: [u16; 4],
    /// Origin of the deliveries it comes in.
    origin: u32,
    targets: u32,
    targets_len: u16,
    shape: u8,
    /// The sweep after which it was last seen.
    seen: u8,
    /// The entry that followed it last time.
    next: Id,
}

/// The table of one source.
#[derive(Debug)]
pub(crate) struct Series {
    hasher: FixedState,
    table: HashTable<u32>,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    targets: Vec<Target>,
    origins: Origins,
    /// The feeds that the series are of, and which of them each entry is of.
    feeds: Origins,
    feed_of: Vec<u32>,
    sweep: u8,
}

impl Series {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            table: HashTable::new(),
            entries: Vec::new(),
            bytes: Vec::new(),
            targets: Vec::new(),
            origins: Origins::default(),
            feeds: Origins::default(),
            feed_of: Vec::new(),
            sweep: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Distinct feeds that the series are of.
    pub(crate) fn feeds(&self) -> usize {
        self.feeds.names.len()
    }

    /// Whether some series is of this feed.
    pub(crate) fn has_feed(&self, feed: &str) -> bool {
        self.feeds.find(feed, &self.hasher).is_some()
    }

    /// Whether the names of a series may be kept, where `series_max` of them may be.
    pub(crate) fn has_room(&self, sample: &Sample<'_>, series_max: usize) -> bool {
        let bytes = parts(sample).iter().map(|part| part.len()).sum::<usize>();
        let bytes_max = SERIES_BYTES_FREE.max(series_max.saturating_mul(SERIES_BYTES_MEAN_MAX));
        self.entries.len() < series_max
            && bytes <= SERIES_BYTES_MAX
            && self.bytes.len().saturating_add(bytes) <= bytes_max
    }

    /// Number of an origin as a delivery names it; [`ORIGIN_REFUSED`], which no series has, past `max` of them.
    pub(crate) fn origin(&mut self, origin: Option<&str>, max: usize) -> u32 {
        origin.map_or(0, |origin| match origin.len() {
            ..=ORIGIN_BYTES_MAX => self.origins.number(origin, &self.hasher, max),
            _ => ORIGIN_REFUSED,
        })
    }

    /// Finds a series; `previous` is the one found before it in the same body.
    #[inline]
    pub(crate) fn find(&mut self, previous: Id, origin: u32, sample: &Sample<'_>) -> Option<Id> {
        let (parts, shape) = (parts(sample), shape(sample));
        if let Some(guess) = self.entries.get(previous.0 as usize).map(|entry| entry.next)
            && let Some(entry) = self.entries.get_mut(guess.0 as usize)
            && is_at(entry, &self.bytes, origin, shape, parts)
        {
            entry.seen = self.sweep;
            return Some(guess);
        }
        let hash = hash(&self.hasher, origin, shape, parts);
        let (entries, bytes) = (&self.entries, &self.bytes);
        let found = self.table.find(hash, |&at| is_at(&entries[at as usize], bytes, origin, shape, parts));
        let id = Id(*found?);
        self.entries[id.0 as usize].seen = self.sweep;
        self.follow(previous, id);
        Some(id)
    }

    /// Adds a series of a feed for which there is room; `None` where numbers do not reach.
    pub(crate) fn insert(
        &mut self,
        previous: Id,
        origin: u32,
        sample: &Sample<'_>,
        feed: &str,
        targets: &[Target],
    ) -> Option<Id> {
        let (parts, shape) = (parts(sample), shape(sample));
        let entry = Entry {
            bytes: u32::try_from(self.bytes.len()).ok()?,
            lengths: parts.map(|part| u16::try_from(part.len()).unwrap_or(u16::MAX)),
            origin,
            targets: u32::try_from(self.targets.len()).ok()?,
            targets_len: u16::try_from(targets.len()).ok()?,
            shape,
            seen: self.sweep,
            next: Id::NONE,
        };
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.targets.extend_from_slice(targets);
        let id = Id(u32::try_from(self.entries.len()).ok().filter(|id| *id != u32::MAX)?);
        self.entries.push(entry);
        self.feed_of.push(self.feeds.number(feed, &self.hasher, usize::MAX));
        let (hasher, entries, bytes) = (&self.hasher, &self.entries, &self.bytes);
        self.table.insert_unique(hash(hasher, origin, shape, parts), id.0, |&at| {
            rehash(hasher, &entries[at as usize], bytes)
        });
        self.follow(previous, id);
        Some(id)
    }

    fn follow(&mut self, previous: Id, next: Id) {
        if let Some(entry) = self.entries.get_mut(previous.0 as usize) {
            entry.next = next;
        }
    }

    /// The cells that a series feeds; none where no analytic asks for it.
    #[inline]
    pub(crate) fn targets(&self, id: Id) -> &[Target] {
        let entry = &self.entries[id.0 as usize];
        &self.targets[entry.targets as usize..][..entry.targets_len as usize]
    }

    /// Forgets all series, as when the schema has changed; each is learnt again when it is next seen.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.entries.clear();
        self.bytes.clear();
        self.targets.clear();
        self.origins = Origins::default();
        self.feeds = Origins::default();
        self.feed_of.clear();
    }

    /// Forgets the series that have not been seen since the last sweep. Calls `each` with the targets that stay.
    pub(crate) fn sweep(&mut self, mut each: impl FnMut(Target)) {
        let fresh = Self { hasher: self.hasher.clone(), sweep: self.sweep.wrapping_add(1), ..Self::new(0) };
        let old = std::mem::replace(self, fresh);
        let stay = old.entries.iter().zip(&old.feed_of).filter(|(entry, _)| entry.seen == old.sweep);
        for (entry, &feed) in stay {
            let feed = old.feeds.name(feed).unwrap_or_default();
            self.feed_of.push(self.feeds.number(feed, &self.hasher, usize::MAX));
            let [name, field, tags, line_origin] = strings(entry, &old.bytes);
            let origin = match old.origins.name(entry.origin) {
                Some(origin) => self.origins.number(origin, &self.hasher, usize::MAX),
                None => 0,
            };
            let targets = &old.targets[entry.targets as usize..][..entry.targets_len as usize];
            self.reinsert(entry, origin, [name, field, tags, line_origin], targets);
            targets.iter().copied().for_each(&mut each);
        }
    }

    fn reinsert(&mut self, entry: &Entry, origin: u32, parts: [&[u8]; 4], targets: &[Target]) {
        let at = |len: usize| u32::try_from(len).expect("a swept table is no larger than it was");
        let kept = Entry {
            bytes: at(self.bytes.len()),
            targets: at(self.targets.len()),
            origin,
            next: Id::NONE,
            ..*entry
        };
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.targets.extend_from_slice(targets);
        let id = at(self.entries.len());
        self.entries.push(kept);
        let (hasher, entries, bytes) = (&self.hasher, &self.entries, &self.bytes);
        self.table.insert_unique(hash(hasher, origin, entry.shape, parts), id, |&at| {
            rehash(hasher, &entries[at as usize], bytes)
        });
    }
}

fn strings<'b>(entry: &Entry, bytes: &'b [u8]) -> [&'b [u8]; 4] {
    let mut rest = &bytes[entry.bytes as usize..];
    entry.lengths.map(|length| {
        let (part, after) = rest.split_at(length as usize);
        rest = after;
        part
    })
}

#[inline]
fn is_at(entry: &Entry, bytes: &[u8], origin: u32, shape: u8, parts: [&[u8]; 4]) -> bool {
    if entry.origin != origin || entry.shape != shape {
        return false;
    }
    let mut rest = &bytes[entry.bytes as usize..];
    for (part, length) in parts.into_iter().zip(entry.lengths) {
        if part.len() != length as usize {
            return false;
        }
        // Most series have a name and nothing else; comparing nothing would cost a call too.
        if !part.is_empty() {
            let Some((stored, after)) = rest.split_at_checked(part.len()) else { return false };
            if stored != part {
                return false;
            }
            rest = after;
        }
    }
    true
}

fn hash(hasher: &FixedState, origin: u32, shape: u8, parts: [&[u8]; 4]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u64(u64::from(origin) << 8 | u64::from(shape));
    // All four lengths in one word: where one part ends and the next begins is part of the key.
    hasher.write_u64(parts.iter().fold(0, |lengths, part| lengths << 16 | (part.len() as u64 & 0xffff)));
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        hasher.write(part);
    }
    hasher.finish()
}

fn rehash(hasher: &FixedState, entry: &Entry, bytes: &[u8]) -> u64 {
    hash(hasher, entry.origin, entry.shape, strings(entry, bytes))
}

/// Origins as deliveries name them, numbered from 1.
#[derive(Debug, Default)]
struct Origins {
    table: HashTable<u32>,
    names: Vec<Box<str>>,
}

impl Origins {
    fn find(&self, origin: &str, hasher: &FixedState) -> Option<u32> {
        let names = &self.names;
        self.table.find(hasher.hash_one(origin), |&at| *names[at as usize] == *origin).copied()
    }

    fn number(&mut self, origin: &str, hasher: &FixedState, max: usize) -> u32 {
        let hash = hasher.hash_one(origin);
        let names = &self.names;
        if let Some(&at) = self.table.find(hash, |&at| *names[at as usize] == *origin) {
            return at + 1;
        }
        let Some(at) = u32::try_from(self.names.len()).ok().filter(|at| (*at as usize) < max) else {
            return ORIGIN_REFUSED;
        };
        self.names.push(origin.into());
        let names = &self.names;
        self.table.insert_unique(hash, at, |&at| hasher.hash_one(&*names[at as usize]));
        at + 1
    }

    fn name(&self, number: u32) -> Option<&str> {
        self.names.get((number as usize).checked_sub(1)?).map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::TagSyntax;

    fn sample<'a>(name: &'a str, tags: &'a str) -> Sample<'a> {
        Sample {
            name,
            field: None,
            tags,
            tag_syntax: TagSyntax::Dog,
            origin: None,
            kind: Kind::Timer,
            value: 1.0,
            rate: 1.0,
            at: None,
        }
    }

    fn target(cell: u32) -> [Target; 1] {
        [Target { cell, lane: 0, value: ValueKind::Mean }]
    }

    #[test]
    fn every_part_of_the_key_tells_series_apart() {
        let mut series = Series::new(7);
        let base = sample("ab", "c");
        let others = [
            sample("a", "bc"),
            Sample { kind: Kind::Gauge, ..base },
            Sample { origin: Some("h"), ..base },
            Sample { field: Some(Field::Dotted("c")), tags: "", ..base },
            Sample { field: Some(Field::Glued("c")), tags: "", ..base },
        ];
        let web = series.origin(Some("web-1"), 9);
        let id = series.insert(Id::NONE, web, &base, "f", &target(0)).unwrap();
        for (cell, other) in (1..).zip(&others) {
            assert_eq!(series.find(Id::NONE, web, other), None, "{other:?}");
            series.insert(Id::NONE, web, other, "f", &target(cell)).unwrap();
        }
        let elsewhere = series.origin(Some("web-2"), 9);
        assert_eq!(series.find(Id::NONE, elsewhere, &base), None);
        assert_eq!(series.find(Id::NONE, web, &base), Some(id));
        for (cell, other) in (1..).zip(&others) {
            let id = series.find(id, web, other).unwrap();
            assert_eq!(series.targets(id), target(cell));
        }
    }

    #[test]
    fn a_guess_is_only_believed_when_it_is_right() {
        let mut series = Series::new(7);
        let [a, b, c] = ["a", "b", "c"].map(|name| sample(name, ""));
        let first = series.insert(Id::NONE, 0, &a, "f", &target(0)).unwrap();
        let second = series.insert(first, 0, &b, "f", &target(1)).unwrap();
        let third = series.insert(second, 0, &c, "f", &target(2)).unwrap();
        assert_eq!(series.find(first, 0, &c), Some(third));
        assert_eq!(series.find(first, 0, &b), Some(second));
        assert_eq!(series.find(first, 0, &b), Some(second));
    }

    #[test]
    fn what_is_not_seen_for_a_whole_sweep_is_forgotten() {
        let mut series = Series::new(7);
        let origin = series.origin(Some("h"), 9);
        for cell in 0..100 {
            series
                .insert(
                    Id::NONE,
                    origin,
                    &sample(&format!("m{cell}"), "t:1"),
                    &format!("h{}", cell % 10),
                    &target(cell),
                )
                .unwrap();
        }
        series.sweep(|_| {});
        assert_eq!((series.len(), series.feeds()), (100, 10));
        let origin = series.origin(Some("h"), 9);
        series.find(Id::NONE, origin, &sample("m42", "t:1")).expect("known");
        let mut stay = Vec::new();
        series.sweep(|target| stay.push(target.cell));
        assert_eq!((series.len(), stay), (1, vec![42]));
        assert_eq!((series.feeds(), series.has_feed("h2"), series.has_feed("h1")), (1, true, false));
        let origin = series.origin(Some("h"), 9);
        let id = series.find(Id::NONE, origin, &sample("m42", "t:1")).expect("kept");
        assert_eq!(series.targets(id), target(42));
    }

    #[test]
    fn long_names_are_no_way_around_a_number() {
        let (mut series, long) = (Series::new(7), "t".repeat(8_000));
        let mut kept = 0;
        for n in 0..1_000 {
            let (name, tags) = (format!("m{n}"), long.as_str());
            if series.has_room(&sample(&name, tags), 1_000) {
                series.insert(Id::NONE, 0, &sample(&name, tags), "h", &[]).unwrap();
                kept += 1;
            }
        }
        assert_eq!(kept, SERIES_BYTES_FREE / 8_003);
        assert!(series.has_room(&sample("short", ""), 1_000));
        assert!(!series.has_room(&sample("short", ""), kept), "as many as there may be");
        assert_eq!(series.origin(Some(&long), 9), ORIGIN_REFUSED);
    }
}
