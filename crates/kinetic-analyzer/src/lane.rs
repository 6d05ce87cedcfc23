//! The windows of one length: tumbling, aligned to the Unix epoch, each with a flat vector of cells.

use kinetic_schema::schema::ValueKind;

use crate::cell::{Cell, Observation, Side};

/// Windows of one length that may be open at once; samples of one more are refused (counted). Twice as many as the
/// time by which samples may be late or early asks for, but at least this many, for the first moments of a
/// subscription, in which nothing is closed.
pub(crate) const WINDOWS_OPEN_MIN: usize = 256;
/// Times in which nobody listened that are closer than this count as one.
pub(crate) const DEAF_APART_MIN_NS: i64 = 60_000_000_000;
/// Before anything has been closed.
pub(crate) const NEVER: i64 = i64::MIN;

/// One open window.
#[derive(Debug, Default)]
pub(crate) struct Window {
    pub(crate) cells: Vec<Cell>,
    pub(crate) sides: Vec<Side>,
    /// Trace of a delivery that fed it.
    pub(crate) traceparent: Option<String>,
}

impl Window {
    /// The cell of a feed; an empty one where the feed has come after the window's last sample.
    pub(crate) fn cell(&self, cell: u32) -> Cell {
        self.cells.get(cell as usize).copied().unwrap_or_default()
    }

    fn reset(&mut self) {
        self.cells.clear();
        self.sides.clear();
        self.traceparent = None;
    }
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Counted,
    /// Its window is closed.
    Late,
    /// Too many windows are open.
    Refused,
}

/// The windows of one length.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Length, nanoseconds.
    pub(crate) length: i64,
    /// End of the last closed window.
    pub(crate) closed: i64,
    /// The last time that nobody listened, from one moment to another.
    pub(crate) deaf: (i64, i64),
    /// The last time from which samples were dropped because the customer sends more than it may.
    short: (i64, i64),
    /// `closed` as the last confirmed snapshot says it.
    pub(crate) kept: i64,
    /// Some watch uses it.
    pub(crate) is_used: bool,
    open_max: usize,
    /// Feeds with something to remember, so that windows without samples matter.
    pub(crate) live: usize,
    /// The window of the last sample: start, end, index.
    current: (i64, i64, usize),
    windows: Vec<Window>,
    /// Starts of the open windows, in order, with their indices.
    open: Vec<(i64, usize)>,
    spare: Vec<usize>,
    cells: u32,
    free: Vec<u32>,
}

impl Lane {
    pub(crate) fn new(length: i64) -> Self {
        Self {
            length,
            closed: NEVER,
            deaf: (0, 0),
            short: (0, 0),
            kept: NEVER,
            is_used: true,
            open_max: WINDOWS_OPEN_MIN,
            live: 0,
            current: (0, 0, 0),
            windows: Vec::new(),
            open: Vec::new(),
            spare: Vec::new(),
            cells: 0,
            free: Vec::new(),
        }
    }

    /// Nobody has listened to what came after the last closed window, until a moment. Two such times that follow soon are
    /// one: between them there was hardly time for all to speak.
    pub(crate) fn be_deaf(&mut self, until: i64) {
        if self.closed == NEVER || until <= self.closed {
            return;
        }
        let goes_on = self.deaf.1 > 0 && self.closed.saturating_sub(self.deaf.1) < DEAF_APART_MIN_NS;
        self.deaf = (if goes_on { self.deaf.0 } else { self.closed }, until);
    }

    /// Samples from one moment to another were dropped. What lies between two such times counts as well: both are the
    /// customer's doing.
    pub(crate) fn fall_short(&mut self, (first, last): (i64, i64)) {
        let goes_on = self.short.0 < self.short.1 && self.short.1 > self.closed;
        let (from, until) = if goes_on { self.short } else { (i64::MAX, NEVER) };
        self.short = (from.min(self.start_of(first)), until.max(self.end_of(last)));
    }

    /// Whether samples of a window were dropped.
    pub(crate) fn is_short(&self, start: i64, end: i64) -> bool {
        self.short.0 < end && start < self.short.1
    }

    /// What is closed lies further ahead than the window of a moment.
    pub(crate) fn is_ahead(&self, latest: i64) -> bool {
        self.closed > self.end_of(latest)
    }

    /// A clock that was wrong is right again, and nothing can have happened after a moment: forgets the windows that begin
    /// after it, and takes for closed no more than the one that it lies in. That one stays closed, since it may have been
    /// judged. Who was heard meanwhile nobody knows.
    pub(crate) fn bring_back(&mut self, latest: i64) {
        let end = self.end_of(latest);
        if self.is_ahead(latest) {
            (self.closed, self.kept) = (end, self.kept.min(end));
            self.deaf = (NEVER, end);
        }
        self.deaf.1 = self.deaf.1.min(end);
        while let Some((_, index)) = self.open.pop_if(|(start, _)| *start > latest) {
            self.windows[index].reset();
            self.spare.push(index);
        }
        self.current = (0, 0, 0);
    }

    /// Leaves room for samples that are late or early by a time, nanoseconds.
    pub(crate) fn allow(&mut self, spread: i64) {
        let windows = usize::try_from(spread / self.length).unwrap_or_default().saturating_add(2);
        self.open_max = windows.saturating_mul(2).max(WINDOWS_OPEN_MIN);
    }

    /// More windows are open than lateness accounts for: time to close some.
    pub(crate) fn is_crowded(&self) -> bool {
        self.open.len() > self.open_max / 2
    }

    /// Start of the window that a moment lies in.
    pub(crate) fn start_of(&self, at: i64) -> i64 {
        at.saturating_sub(at.rem_euclid(self.length))
    }

    /// End of the window that a moment lies in.
    pub(crate) fn end_of(&self, at: i64) -> i64 {
        self.start_of(at).saturating_add(self.length)
    }

    /// The first moment from a given one on at which a window begins.
    pub(crate) fn next_start(&self, at: i64) -> i64 {
        if at == self.start_of(at) { at } else { self.end_of(at) }
    }

    /// Takes one sample into its window.
    #[inline]
    pub(crate) fn observe(&mut self, cell: u32, wanted: ValueKind, sample: Observation) -> Fate {
        if (sample.at < self.current.0 || sample.at >= self.current.1)
            && let Some(fate) = self.seek(sample.at)
        {
            return fate;
        }
        let window = &mut self.windows[self.current.2];
        let cell = cell as usize;
        if cell >= window.cells.len() {
            window.cells.resize(self.cells as usize, Cell::default());
        }
        window.cells[cell].observe(wanted, sample, &mut window.sides);
        Fate::Counted
    }

    /// Takes a value that a part has worked out for the window that ends at a moment. The second of the pair says whether
    /// another part has said something of the same feed.
    pub(crate) fn give(&mut self, cell: u32, end: i64, part: u16, value: (f64, u32)) -> (Fate, bool) {
        let at = end.saturating_sub(1);
        if (at < self.current.0 || at >= self.current.1)
            && let Some(fate) = self.seek(at)
        {
            return (fate, false);
        }
        let window = &mut self.windows[self.current.2];
        let cell = cell as usize;
        if cell >= window.cells.len() {
            window.cells.resize(self.cells as usize, Cell::default());
        }
        (Fate::Counted, window.cells[cell].give(part, value.0, value.1))
    }

    /// Makes the window of a moment the current one, opening it if need be; or says why not.
    #[cold]
    fn seek(&mut self, at: i64) -> Option<Fate> {
        if at < self.closed {
            return Some(Fate::Late);
        }
        let start = self.start_of(at);
        let index = match self.open.binary_search_by_key(&start, |(start, _)| *start) {
            Ok(found) => self.open[found].1,
            Err(_) if self.open.len() >= self.open_max => return Some(Fate::Refused),
            Err(place) => {
                let index = self.spare.pop().unwrap_or_else(|| {
                    self.windows.push(Window::default());
                    self.windows.len() - 1
                });
                self.open.insert(place, (start, index));
                index
            }
        };
        self.current = (start, start.saturating_add(self.length), index);
        None
    }

    /// The window of the last sample.
    pub(crate) fn current_mut(&mut self) -> Option<&mut Window> {
        if self.current.1 > self.current.0 { self.windows.get_mut(self.current.2) } else { None }
    }

    /// Open windows.
    pub(crate) fn open_len(&self) -> usize {
        self.open.len()
    }

    /// Start of the oldest open window.
    pub(crate) fn first_open(&self) -> Option<i64> {
        self.open.first().map(|(start, _)| *start)
    }

    /// End of the window that closes next: the one after the last closed, or the oldest open one.
    pub(crate) fn next_end(&self) -> Option<i64> {
        match self.closed {
            NEVER => self.first_open().map(|start| start.saturating_add(self.length)),
            closed => Some(closed.saturating_add(self.length)),
        }
    }

    /// From which moment on there is something to close.
    pub(crate) fn next_close(&self) -> i64 {
        self.closed.saturating_add(self.length)
    }

    /// Takes the oldest open window out if it starts there. Give it back with [`Lane::put_back`].
    pub(crate) fn take(&mut self, start: i64) -> Option<(usize, Window)> {
        let (_, index) = self.open.first().copied().filter(|(first, _)| *first == start)?;
        self.open.remove(0);
        if self.current.2 == index {
            self.current = (0, 0, 0);
        }
        Some((index, std::mem::take(&mut self.windows[index])))
    }

    /// Gives a taken window's memory back.
    pub(crate) fn put_back(&mut self, (index, mut window): (usize, Window)) {
        window.reset();
        self.windows[index] = window;
        self.spare.push(index);
    }

    /// Throws away what the open windows hold; their deliveries will come again.
    pub(crate) fn discard(&mut self) {
        for (_, index) in self.open.drain(..) {
            self.windows[index].reset();
            self.spare.push(index);
        }
        (self.current, self.short) = ((0, 0, 0), (0, 0));
    }

    /// A cell for a new feed.
    pub(crate) fn new_cell(&mut self) -> u32 {
        if let Some(cell) = self.free.pop() {
            return cell;
        }
        let cell = self.cells;
        self.cells += 1;
        cell
    }

    /// Takes a feed's cell back.
    pub(crate) fn free_cell(&mut self, cell: u32) {
        for (_, index) in &self.open {
            if let Some(cell) = self.windows[*index].cells.get_mut(cell as usize) {
                *cell = Cell::default();
            }
        }
        self.free.push(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Kind;

    fn at(at: i64) -> Observation {
        Observation { kind: Kind::Timer, value: 1.0, rate: 1.0, at }
    }

    #[test]
    fn windows_are_aligned_to_the_epoch_before_it_too() {
        let lane = Lane::new(10);
        assert_eq!((lane.start_of(19), lane.end_of(19)), (10, 20));
        assert_eq!((lane.start_of(20), lane.end_of(20)), (20, 30));
        assert_eq!((lane.start_of(-1), lane.end_of(-1)), (-10, 0));
    }

    #[test]
    fn a_closed_window_takes_nothing_and_its_memory_is_used_again() {
        let mut lane = Lane::new(10);
        let cell = lane.new_cell();
        assert_eq!(lane.observe(cell, ValueKind::Count, at(15)), Fate::Counted);
        assert_eq!(lane.observe(cell, ValueKind::Count, at(5)), Fate::Counted);
        let taken = lane.take(0).expect("the oldest");
        assert_eq!(taken.1.cells.len(), 1);
        lane.put_back(taken);
        lane.closed = 10;
        assert_eq!(lane.observe(cell, ValueKind::Count, at(9)), Fate::Late);
        assert_eq!(lane.observe(cell, ValueKind::Count, at(25)), Fate::Counted);
        assert_eq!((lane.windows.len(), lane.first_open(), lane.next_end()), (2, Some(10), Some(20)));
        lane.discard();
        assert_eq!((lane.open_len(), lane.observe(cell, ValueKind::Count, at(9))), (0, Fate::Late));
    }

    #[test]
    fn open_windows_are_bounded() {
        let mut lane = Lane::new(1);
        let cell = lane.new_cell();
        let fates = (0..=256).map(|t| lane.observe(cell, ValueKind::Count, at(t))).collect::<Vec<_>>();
        assert_eq!((fates[255], fates[256]), (Fate::Counted, Fate::Refused));
        lane.allow(1000);
        assert_eq!(
            (lane.observe(cell, ValueKind::Count, at(256)), lane.is_crowded()),
            (Fate::Counted, false)
        );
    }
}
