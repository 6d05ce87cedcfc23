//! What the picture says, for those who do not see it.

use crate::label;
use crate::{Plot, Point};

/// Characters of a name in a sentence.
const NAME_MAX: usize = 80;

/// One line of plain text that says what [`svg`](crate::svg) draws: the latest value, the limit, and how often it was passed.
#[must_use]
pub fn describe(plot: &Plot) -> String {
    let points = plot.drawn();
    let name = plain(&plot.feed);
    let metric = plain(&plot.metric);
    let Some((last, value)) = points.iter().rev().find_map(|point| Some((point, point.value?))) else {
        return format!("{name}: nothing is known of its {metric}.");
    };
    let out = points.iter().filter(|point| plot.is_out(point)).count();
    let peers = match plot.feeds.saturating_sub(1) {
        0 => "its cluster".to_owned(),
        1 => "it and its one peer".to_owned(),
        n => format!("it and its {n} peers"),
    };
    format!(
        "{metric} of {name} was {} at {} UTC; the average of {peers} was {}, the limit {}. It was beyond the limit in {out} of \
         the {} windows shown.",
        label::number(value),
        label::clock(last.end_ms, true),
        label::number(last.mean),
        label::number(limit(plot, last)),
        points.len(),
    )
}

/// The limit that matters in a window: the one on the side where the value is, or the only one.
pub(crate) fn limit(plot: &Plot, point: &Point) -> f64 {
    use kinetic_wire::Direction::{Above, Below, Both};
    let (low, high) = point.band(plot.deviations);
    match plot.direction {
        Above => high,
        Below => low,
        Both if point.value.is_some_and(|value| value < point.mean) => low,
        Both => high,
    }
}

/// A name in one line.
fn plain(text: &str) -> String {
    let mut chars = text.chars().filter(|c| !c.is_control());
    let mut name: String = chars.by_ref().take(NAME_MAX).collect();
    if chars.next().is_some() {
        name.push('…');
    }
    name
}
