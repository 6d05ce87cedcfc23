//! The picture as SVG: the peers' band, the limit, and the feed in front of them.

use std::fmt::{Arguments, Write as _};

use kinetic_wire::Direction;

use crate::label::{self, xml};
use crate::scale::{self, Scale};
use crate::{Plot, Point, words};

/// Size of the picture in CSS pixels; mails show it at this width or narrower.
pub(crate) const WIDTH: f64 = 600.0;
pub(crate) const HEIGHT: f64 = 240.0;
/// Where values are drawn.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 492.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 208.0;
/// Shortest distance between labels at the right.
const LABEL_HEIGHT: f64 = 14.0;
/// Marks below the axis of time.
const TIME_MARKS: usize = 4;
/// Characters of the title.
const TITLE_MAX: usize = 76;

/// On what the picture is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// On a light ground of its own, which reads well on any page.
    #[default]
    Light,
    /// On a dark ground of its own.
    Dark,
}

/// Colours; each pair that touches differs in lightness, so that it can be told apart without colour.
struct Palette {
    ground: &'static str,
    ink: &'static str,
    faint: &'static str,
    grid: &'static str,
    band: &'static str,
    mean: &'static str,
    limit: &'static str,
    feed: &'static str,
}

impl Theme {
    fn palette(self) -> Palette {
        match self {
            Self::Light => Palette {
                ground: "#fbfbf9",
                ink: "#1f2328",
                faint: "#59636e",
                grid: "#e3e5e8",
                band: "#cfdef0",
                mean: "#4c78a8",
                limit: "#9a6700",
                feed: "#c4320a",
            },
            Self::Dark => Palette {
                ground: "#1b1f24",
                ink: "#f0f3f6",
                faint: "#a4adb8",
                grid: "#343b43",
                band: "#2b4059",
                mean: "#8ab4e0",
                limit: "#e3b341",
                feed: "#ff8a65",
            },
        }
    }
}

/// Draws a plot: 600 by 240 CSS pixels, with a ground, a title and its own description. Whatever the plot holds, this is
/// well-formed XML without scripts, links or outside resources.
#[must_use]
pub fn svg(plot: &Plot, theme: Theme) -> String {
    let points = plot.drawn();
    let palette = theme.palette();
    let mut out = String::with_capacity(8 * 1024);
    add(
        &mut out,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         role=\"img\" font-family=\"DejaVu Sans, Verdana, sans-serif\" font-size=\"11\">\
         <title>{}</title><rect width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"{}\"/>",
            xml(&words::describe(plot), 400),
            palette.ground
        ),
    );
    let title = format!("{} · {}", plot.feed, plot.metric);
    text(
        &mut out,
        (14.0, 24.0),
        "start",
        palette.ink,
        &format!("font-size=\"13\">{}", xml(&title, TITLE_MAX)),
    );
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let canvas = Canvas::new(plot, &points, (first.end_ms, last.end_ms));
        canvas.axes(&mut out, &palette, &points);
        canvas.peers(&mut out, &palette, plot, &points);
        canvas.feed(&mut out, &palette, plot, &points);
        canvas.labels(&mut out, &palette, plot, &points);
    } else {
        text(&mut out, (LEFT, (TOP + BOTTOM) / 2.0), "start", palette.faint, ">no windows to show");
    }
    out.push_str("</svg>");
    out
}

/// Adds text to the picture.
fn add(out: &mut String, words: Arguments<'_>) {
    out.write_fmt(words).expect("a String takes all text");
}

/// `rest` is the end of the start tag and the content.
fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, fill: &str, rest: &str) {
    let space = if rest.starts_with('>') { "" } else { " " };
    add(
        out,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\"{space}{rest}</text>"
        ),
    );
}

/// One of a band's limits.
type Side = fn((f64, f64)) -> f64;

/// Where values and moments stand.
struct Canvas {
    /// The first moment.
    first: i64,
    x: Scale,
    y: Scale,
    range: (f64, f64),
}

impl Canvas {
    fn new(plot: &Plot, points: &[Point], (first, last): (i64, i64)) -> Self {
        let values = points.iter().flat_map(|point| {
            let (low, high) = point.band(plot.deviations);
            [Some(low), Some(high), point.value].into_iter().flatten().filter(|value| value.is_finite())
        });
        let range = scale::range(values);
        // Moments are reckoned from the first, since a number of milliseconds since 1970 may have more digits than one
        // with a point. One window alone stands at the left.
        let span = last.saturating_sub(first).max(1) as f64;
        Self { first, x: Scale::new((0.0, span), (LEFT, RIGHT)), y: Scale::new(range, (BOTTOM, TOP)), range }
    }

    fn x(&self, point: &Point) -> f64 {
        self.moment(point.end_ms)
    }

    fn moment(&self, ms: i64) -> f64 {
        self.x.at(ms.saturating_sub(self.first) as f64)
    }

    /// Limits that are no numbers, or lie beyond the axis, end at its ends.
    fn y(&self, value: f64) -> f64 {
        self.y.at(value.clamp(self.range.0, self.range.1))
    }

    fn axes(&self, out: &mut String, palette: &Palette, points: &[Point]) {
        for (value, label) in scale::value_marks(self.range) {
            let y = self.y(value);
            add(
                out,
                format_args!(
                    "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"{}\" fill=\"none\"/>",
                    palette.grid
                ),
            );
            text(out, (LEFT - 6.0, y + 4.0), "end", palette.faint, &format!(">{label}"));
        }
        let moments: Vec<i64> = points.iter().map(|point| point.end_ms).collect();
        let marks = scale::time_marks(&moments, TIME_MARKS);
        let last = marks.len().saturating_sub(1);
        for (index, (ms, label)) in marks.into_iter().enumerate() {
            let zone = if index == last { " UTC" } else { "" };
            let at = (self.moment(ms), BOTTOM + 18.0);
            text(out, at, "middle", palette.faint, &format!(">{label}{zone}"));
        }
    }

    /// The band that the rule allows, its limit, and the mean.
    fn peers(&self, out: &mut String, palette: &Palette, plot: &Plot, points: &[Point]) {
        let edge = |side: Side| {
            points.iter().map(move |point| (self.x(point), self.y(side(point.band(plot.deviations)))))
        };
        let (lower, upper): (Side, Side) = (|band| band.0, |band| band.1);
        let around: Vec<(f64, f64)> =
            edge(upper).chain(edge(lower).collect::<Vec<_>>().into_iter().rev()).collect();
        add(out, format_args!("<path d=\"{}Z\" fill=\"{}\"/>", line(around.into_iter()), palette.band));
        let limits: &[Side] = match plot.direction {
            Direction::Above => &[upper],
            Direction::Below => &[lower],
            Direction::Both => &[upper, lower],
        };
        for side in limits {
            add(
                out,
                format_args!(
                    "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.4\" stroke-dasharray=\"5 3\"/>",
                    line(edge(*side)),
                    palette.limit
                ),
            );
        }
        let mean = points.iter().map(|point| (self.x(point), self.y(point.mean)));
        add(
            out,
            format_args!(
                "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\"/>",
                line(mean),
                palette.mean
            ),
        );
    }

    /// The feed's values, with gaps where it had none; windows beyond the limit are marked.
    fn feed(&self, out: &mut String, palette: &Palette, plot: &Plot, points: &[Point]) {
        for run in points.split(|point| point.value.is_none()).filter(|run| !run.is_empty()) {
            let values = run.iter().filter_map(|point| Some((self.x(point), self.y(point.value?))));
            add(
                out,
                format_args!(
                    "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2.4\" stroke-linejoin=\"round\"/>",
                    line(values),
                    palette.feed
                ),
            );
        }
        for point in points {
            let Some(value) = point.value else { continue };
            let (radius, fill) = if plot.is_out(point) { (4.0, palette.feed) } else { (2.2, palette.ground) };
            add(
                out,
                format_args!(
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\" fill=\"{fill}\" stroke=\"{}\" stroke-width=\"1.4\"/>",
                    self.x(point),
                    self.y(value),
                    palette.feed
                ),
            );
        }
    }

    /// Names at the right, beside where each line ends.
    fn labels(&self, out: &mut String, palette: &Palette, plot: &Plot, points: &[Point]) {
        let Some(last) = points.last() else { return };
        let valued = points.iter().rev().find_map(|point| point.value);
        let limit = words::limit(plot, last);
        let mut labels = vec![
            (self.y(limit), palette.limit, format!("limit {}", label::number(limit))),
            (self.y(last.mean), palette.mean, format!("average {}", label::number(last.mean))),
        ];
        if let Some(value) = valued {
            labels.push((
                self.y(value),
                palette.feed,
                format!("{} {}", short(&plot.feed), label::number(value)),
            ));
        }
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted: Vec<f64> = labels.iter().map(|(y, ..)| *y).collect();
        for ((_, fill, name), y) in labels.iter().zip(apart(&wanted)) {
            let name = xml(name, 40);
            text(out, (RIGHT + 8.0, y + 4.0), "start", fill, &format!(">{name}"));
        }
    }
}

/// A feed's name beside its line.
fn short(name: &str) -> String {
    const SHORT_MAX: usize = 9;
    if name.chars().count() <= SHORT_MAX { name.to_owned() } else { "now".to_owned() }
}

/// Moves labels, given from top to bottom, so far that each can be read, and none leaves the picture.
fn apart(wanted: &[f64]) -> Vec<f64> {
    let mut places = wanted.to_vec();
    for index in 1..places.len() {
        places[index] = places[index].max(places[index - 1] + LABEL_HEIGHT);
    }
    let mut lowest = BOTTOM;
    for place in places.iter_mut().rev() {
        *place = place.min(lowest);
        lowest = *place - LABEL_HEIGHT;
    }
    places
}

/// Path data of a line through points.
fn line(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut data = String::new();
    for (index, (x, y)) in points.enumerate() {
        add(&mut data, format_args!("{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' }));
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_distance_and_stay_inside() {
        assert_eq!(apart(&[50.0, 100.0, 150.0]), [50.0, 100.0, 150.0]);
        assert_eq!(apart(&[100.0, 101.0, 102.0]), [100.0, 114.0, 128.0]);
        assert_eq!(apart(&[207.0, 208.0]), [194.0, 208.0]);
    }
}
