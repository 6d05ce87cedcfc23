//! `hours`: parts of the week in one time zone.

use std::collections::BTreeMap;

use jiff::tz::TimeZoneDatabase;

use crate::block::{Named, Node};
use crate::diagnostic::{Problem, Sink};
use crate::limits::SPANS_MAX;
use crate::load::Parts;
use crate::notation;
use crate::schema::{Hours, HoursSpan};
use crate::suggest;
use crate::value::{self, Value};

/// Minutes of a day.
const DAY_MIN: u16 = 24 * 60;
/// The days as they are written, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A customer's `hours`, those that are well formed.
pub(super) fn all(sink: &mut Sink<'_>, parts: &Parts<'_>) -> BTreeMap<String, Hours> {
    let blocks = parts.names("hours").values();
    blocks.filter_map(|named| Some((named.name.to_owned(), hours(sink, *named)?))).collect()
}

fn hours(sink: &mut Sink<'_>, named: Named<'_>) -> Option<Hours> {
    let node = named.node;
    let time_zone =
        node.required(sink, "time_zone", "\"Europe/Berlin\"").and_then(|value| time_zone(sink, value));
    let blocks = node.inner(sink, "span", SPANS_MAX);
    if blocks.is_empty() && node.blocks("span").next().is_none() && node.get("span").is_none() {
        let message = format!("{} has no `span`", node.title());
        let problem = Problem::error("missing-block", &node.header(), message).label("`span` is missing");
        sink.push(
            problem.help("add span { … } with days = \"mon-fri\", from = \"09:00\" and to = \"17:00\""),
        );
    }
    let spans: Vec<Option<HoursSpan>> = blocks.iter().map(|named| span(sink, named.node)).collect();
    let spans: Option<Vec<HoursSpan>> = spans.into_iter().collect();
    let spans = spans.filter(|spans| !spans.is_empty())?;
    Some(Hours { name: named.name.to_owned(), time_zone: time_zone?, spans })
}

/// A name of the IANA database, in the database's own spelling.
fn time_zone(sink: &mut Sink<'_>, value: Value<'_>) -> Option<String> {
    let written = value::text(sink, value, "a time zone such as \"Europe/Berlin\"")?;
    let database = TimeZoneDatabase::bundled();
    if let Some(name) = database.get(written).ok().and_then(|zone| zone.iana_name().map(str::to_owned)) {
        return Some(name);
    }
    let problem = value
        .problem("unknown-value", format!("there is no time zone `{written}`"))
        .label("not in the IANA database");
    let names: Vec<String> = database.available().map(|name| name.to_string()).collect();
    let names = || names.iter().map(String::as_str);
    // People know their city and not its continent.
    let city = |name: &&str| name.rsplit('/').next().is_some_and(|city| same_word(city, written));
    sink.push(match names().find(city).or_else(|| suggest::closest(written, names())) {
        Some(near) => problem.help(format!("did you mean \"{near}\"?")),
        None => problem.help("it is a name such as \"Europe/Berlin\", \"America/New_York\" or \"UTC\""),
    });
    None
}

/// Whether two words are the same but for case and for what stands between them.
fn same_word(one: &str, other: &str) -> bool {
    let letters = |word: &str| word.to_lowercase().replace([' ', '-'], "_");
    letters(one) == letters(other)
}

fn span(sink: &mut Sink<'_>, node: Node<'_>) -> Option<HoursSpan> {
    let days = match node.get("days") {
        Some(value) => days(sink, value),
        None => Some([true; 7]),
    };
    let mut clock = |name, default, last| match node.get(name) {
        Some(value) => clock_time(sink, value, last),
        None => Some(default),
    };
    let (from_min, to_min) = (clock("from", 0, DAY_MIN - 1), clock("to", DAY_MIN, DAY_MIN));
    let (from_min, to_min) = (from_min?, to_min?);
    if from_min == to_min
        && let Some(value) = node.get("to")
    {
        let message = "`from` and `to` are the same time, which says neither all day nor never";
        let problem = value.problem("out-of-range", message).label("same as `from`");
        sink.push(problem.help("leave out both for the whole day"));
        return None;
    }
    // The first minute of the next day is the last of this one's end.
    let to_min = if to_min == 0 { DAY_MIN } else { to_min };
    Some(HoursSpan { days: days?, from_min, to_min })
}

/// `"mon"`, `"mon-fri"`, `["mon-wed", "sun"]`.
fn days(sink: &mut Sink<'_>, list: Value<'_>) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    let mut sound = true;
    for value in value::some_list(sink, list, DAYS.len(), "leave it out for every day") {
        let Some(written) = value::text(sink, value, "a day such as \"mon\", or days such as \"mon-fri\"")
        else {
            sound = false;
            continue;
        };
        let (first, last) = written.split_once('-').unwrap_or((written, written));
        let number = |day: &str| DAYS.iter().position(|known| *known == day.trim().to_ascii_lowercase());
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            let message = format!("`{written}` is not a day");
            let problem = value.problem("unknown-value", message).label("not a day");
            sink.push(
                problem
                    .help("days are mon, tue, wed, thu, fri, sat and sun, and \"mon-fri\" is five of them"),
            );
            sound = false;
            continue;
        };
        // `fri-mon` runs over the end of the week.
        let count = (last + 7 - first) % 7;
        for day in (first..=first + count).map(|day| day % 7) {
            if days[day] {
                let message = format!("`{}` stands here twice", DAYS[day]);
                sink.push(value.problem("duplicate-entry", message).label("again"));
                sound = false;
                break;
            }
            days[day] = true;
        }
    }
    (sound && days.contains(&true)).then_some(days)
}

fn clock_time(sink: &mut Sink<'_>, value: Value<'_>, last: u16) -> Option<u16> {
    let written = value::text(sink, value, "a time of day such as \"09:30\"")?;
    let minute = notation::minute_of_day(written).filter(|minute| *minute <= last);
    if minute.is_none() {
        let message = format!("`{}` must be a time of day such as \"09:30\"", value.attribute);
        let problem = value.problem("bad-time", message).label("not a time of day");
        sink.push(match value.attribute {
            "to" => problem
                .help("hours from 00 to 24 and minutes, 24 hours a day; \"24:00\" is the end of the day"),
            _ => problem.help("hours from 00 to 23 and minutes, 24 hours a day"),
        });
    }
    minute
}
