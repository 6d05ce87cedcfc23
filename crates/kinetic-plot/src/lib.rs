//! Draws a feed against its peers: SVG for pages, PNG for mails, words for those who see neither. Pure.
//!
//! ```text
//! Plot (numbers) ─▶ scale (axes) ─▶ svg (text) ─▶ png (pixels, feature `png`)
//!         └───────▶ words (what the picture says)
//! ```

mod label;
#[cfg(feature = "png")]
pub mod png;
mod scale;
mod svg;
mod words;

use kinetic_wire::Direction;
use serde::{Deserialize, Serialize};

pub use svg::{Theme, svg};
pub use words::describe;

/// Width and height at which a page shows the picture, CSS pixels.
pub const SIZE: (u32, u32) = (svg::WIDTH as u32, svg::HEIGHT as u32);
/// Points drawn; of more, the latest.
pub const POINTS_MAX: usize = 120;

/// Numbers beyond this are not drawn: there must be room around them on the axis.
const VALUE_MAX: f64 = 1e100;

/// One window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its end, milliseconds since the Unix epoch.
    pub end_ms: i64,
    /// The feed's value, where it had one.
    pub value: Option<f64>,
    /// Mean over the cluster, the feed included.
    pub mean: f64,
    /// Standard deviation over the cluster, as the rule reckons it.
    pub deviation: f64,
}

/// What is drawn: a feed's last windows beside its cluster's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// The feed's origin.
    pub feed: String,
    /// What is compared: `checkout.latency mean`.
    pub metric: String,
    /// Feeds of the cluster in the last window, the feed included.
    pub feeds: u32,
    /// The rule's limit, in standard deviations.
    pub deviations: f64,
    /// On which side of the mean a feed is out of line.
    pub direction: Direction,
    /// Windows, oldest first.
    pub points: Vec<Point>,
}

impl Point {
    /// Lower and upper limit at so many deviations.
    pub(crate) fn band(&self, deviations: f64) -> (f64, f64) {
        let reach = deviations * self.deviation;
        (self.mean - reach, self.mean + reach)
    }

    fn is_drawable(&self) -> bool {
        let fits = |value: f64| value.abs() <= VALUE_MAX;
        fits(self.mean) && fits(self.deviation) && self.value.is_none_or(fits)
    }
}

impl Plot {
    /// The points that are drawn: the latest, in order of time, without those that no axis can show.
    pub(crate) fn drawn(&self) -> Vec<Point> {
        let skipped = self.points.len().saturating_sub(POINTS_MAX);
        let mut points: Vec<Point> =
            self.points[skipped..].iter().copied().filter(Point::is_drawable).collect();
        points.sort_by_key(|point| point.end_ms);
        points.dedup_by_key(|point| point.end_ms);
        points
    }

    /// Whether a picture would say more than the numbers beside it: there are two windows with a value.
    #[must_use]
    pub fn is_worth_drawing(&self) -> bool {
        self.drawn().iter().filter(|point| point.value.is_some()).count() >= 2
    }

    /// Whether a window is beyond the limit, on a side that counts.
    pub(crate) fn is_out(&self, point: &Point) -> bool {
        let (low, high) = point.band(self.deviations);
        let (below, above) = match self.direction {
            Direction::Above => (false, true),
            Direction::Below => (true, false),
            Direction::Both => (true, true),
        };
        point.value.is_some_and(|value| (above && value > high) || (below && value < low))
    }
}
