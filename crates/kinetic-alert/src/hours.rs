//! Working hours: when an alert block may speak. A pure function of the clock on the wall of its time zone.
//!
//! A span is open while that clock shows a time in it, and nothing else is meant: where the clock skips an hour a span
//! that would begin in it begins when the clock has skipped, and where the clock shows an hour twice both count. Zones
//! are those of the time zone database that is built in, so that every node and every test reads the same one.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
use kinetic_schema::schema::{self, Hours, HoursSpan};
use kinetic_wire::Wall;

use crate::clock::Steady;

/// Days looked ahead for an opening. Weeks are alike but for a change of the clock, which can swallow one span.
const DAYS_AHEAD: i64 = 15;
/// Minutes of a day.
const DAY_MIN: u16 = 1_440;

/// One list of hours with its zone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Week {
    zone: TimeZone,
    spans: Vec<HoursSpan>,
}

/// When an alert block may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Openings {
    during: Vec<Week>,
    except: Vec<Week>,
}

impl Openings {
    /// Of an alert block; `None` where it may speak at any time.
    pub(crate) fn of(alert: &schema::Alert) -> Option<Arc<Self>> {
        if alert.during.is_empty() && alert.except.is_empty() {
            return None;
        }
        let weeks = |hours: &[Hours]| hours.iter().map(Week::of).collect();
        Some(Arc::new(Self { during: weeks(&alert.during), except: weeks(&alert.except) }))
    }

    /// Whether it may speak at this moment.
    fn is_open(&self, at: Timestamp) -> bool {
        let within = |week: &Week| week.covers(at);
        (self.during.is_empty() || self.during.iter().any(within)) && !self.except.iter().any(within)
    }

    /// The first moment, `at` or later, at which it may speak; `None` where there is none.
    pub(crate) fn next_open(&self, at: Steady) -> Option<Steady> {
        let from = Timestamp::from_nanosecond(i128::from(at.wall().0)).ok()?;
        if self.is_open(from) {
            return Some(at);
        }
        // It opens where some clock passes an edge of a span, or is itself changed.
        let weeks = || self.during.iter().chain(&self.except);
        for day in -1..DAYS_AHEAD {
            let mut edges = BTreeSet::new();
            for week in weeks() {
                week.edges(from, day, &mut edges);
            }
            if let Some(opening) = edges.into_iter().find(|edge| *edge > from && self.is_open(*edge)) {
                return Some(Wall(i64::try_from(opening.as_nanosecond()).ok()?).into());
            }
        }
        None
    }
}

impl Week {
    fn of(hours: &Hours) -> Self {
        // The schema's check has looked the zone up in the same database.
        let zone = TimeZoneDatabase::bundled().get(&hours.time_zone).unwrap_or(TimeZone::UTC);
        Self { zone, spans: hours.spans.clone() }
    }

    /// Whether the clock of this zone shows a time in one of the spans.
    fn covers(&self, at: Timestamp) -> bool {
        let local = self.zone.to_datetime(at);
        let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute()))
            .expect("a time of day has no sign");
        let (today, yesterday) = (day(local.weekday()), day(local.weekday().previous()));
        self.spans.iter().any(|span| {
            if span.to_min > span.from_min {
                return span.days[today] && (span.from_min..span.to_min).contains(&minute);
            }
            (span.days[today] && minute >= span.from_min) || (span.days[yesterday] && minute < span.to_min)
        })
    }

    /// The moments, `ahead` days after `from`, at which the clock passes the edge of a span or is changed.
    fn edges(&self, from: Timestamp, ahead: i64, edges: &mut BTreeSet<Timestamp>) {
        let Ok(date) = self.zone.to_datetime(from).date().checked_add(ahead.days()) else { return };
        for span in &self.spans {
            for minute in [span.from_min, span.to_min] {
                let Some(local) = at_minute(date, minute) else { continue };
                // A time that the clock shows twice is two moments, and one that it skips is none.
                let ambiguous = self.zone.to_ambiguous_timestamp(local);
                edges.extend(ambiguous.earlier());
                edges.extend(ambiguous.later());
            }
        }
        let (Some(begins), Some(ends)) = (at_minute(date, 0), at_minute(date, DAY_MIN)) else { return };
        let moment = |local| self.zone.to_timestamp(local).ok();
        if let (Some(begins), Some(ends)) = (moment(begins), moment(ends)) {
            edges.extend(
                self.zone.following(begins).map(|change| change.timestamp()).take_while(|at| *at <= ends),
            );
        }
    }
}

/// Index of a day of the week, Monday first.
fn day(weekday: Weekday) -> usize {
    usize::try_from(weekday.to_monday_zero_offset()).expect("0 to 6")
}

/// A time of a day; of its last minute's end, the next day's beginning.
fn at_minute(date: Date, minute: u16) -> Option<DateTime> {
    let date = if minute >= DAY_MIN { date.tomorrow().ok()? } else { date };
    let minute = i8::try_from(minute % DAY_MIN % 60).ok().zip(i8::try_from(minute % DAY_MIN / 60).ok());
    minute.map(|(minute, hour)| date.at(hour, minute, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEKDAYS: [bool; 7] = [true, true, true, true, true, false, false];
    const DAILY: [bool; 7] = [true; 7];
    const SUNDAYS: [bool; 7] = [false, false, false, false, false, false, true];

    fn week(zone: &str, spans: &[([bool; 7], &str, &str)]) -> Week {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':').unwrap();
            hour.parse::<u16>().unwrap() * 60 + minute.parse::<u16>().unwrap()
        };
        let span = |(days, from, to): &([bool; 7], &str, &str)| HoursSpan {
            days: *days,
            from_min: minute(from),
            to_min: minute(to),
        };
        let spans = spans.iter().map(span).collect();
        Week::of(&Hours { name: "h".into(), time_zone: zone.into(), spans })
    }

    fn during(zone: &str, spans: &[([bool; 7], &str, &str)]) -> Openings {
        Openings { during: vec![week(zone, spans)], except: Vec::new() }
    }

    fn opens(openings: &Openings, at: &str) -> String {
        let at: Timestamp = at.parse().unwrap();
        let at = Steady::from(Wall(i64::try_from(at.as_nanosecond()).unwrap()));
        openings.next_open(at).map_or_else(
            || "never".to_owned(),
            |at| Timestamp::from_nanosecond(i128::from(at.wall().0)).unwrap().to_string(),
        )
    }

    #[test]
    fn business_hours_open_in_the_morning_and_not_at_the_weekend() {
        let office = during("Europe/Berlin", &[(WEEKDAYS, "08:00", "18:00")]);
        // Friday 2026-11-20, an hour ahead of UTC.
        assert_eq!(opens(&office, "2026-11-20T06:59:59Z"), "2026-11-20T07:00:00Z");
        assert_eq!(opens(&office, "2026-11-20T07:00:00Z"), "2026-11-20T07:00:00Z");
        assert_eq!(opens(&office, "2026-11-20T16:59:59Z"), "2026-11-20T16:59:59Z");
        assert_eq!(opens(&office, "2026-11-20T17:00:00Z"), "2026-11-23T07:00:00Z");
    }

    #[test]
    fn a_span_may_cross_midnight_and_a_day_may_be_whole() {
        let night = during("Europe/Berlin", &[(WEEKDAYS, "22:00", "06:00")]);
        assert_eq!(opens(&night, "2026-11-20T20:59:00Z"), "2026-11-20T21:00:00Z");
        // Saturday, 05:59 there: the night of Friday. At 06:00 it is over until Monday.
        assert_eq!(opens(&night, "2026-11-21T04:59:00Z"), "2026-11-21T04:59:00Z");
        assert_eq!(opens(&night, "2026-11-21T05:00:00Z"), "2026-11-23T21:00:00Z");
        // Monday, 03:00 there: the night of Sunday, which is none.
        assert_eq!(opens(&night, "2026-11-23T02:00:00Z"), "2026-11-23T21:00:00Z");
        let whole = during("UTC", &[(SUNDAYS, "00:00", "24:00")]);
        assert_eq!(opens(&whole, "2026-11-21T23:59:59Z"), "2026-11-22T00:00:00Z");
        assert_eq!(opens(&whole, "2026-11-22T23:59:59Z"), "2026-11-22T23:59:59Z");
        assert_eq!(opens(&whole, "2026-11-23T00:00:00Z"), "2026-11-29T00:00:00Z");
    }

    #[test]
    fn the_morning_is_the_local_one_on_both_sides_of_a_change_of_the_clock() {
        let office = during("Europe/Berlin", &[(DAILY, "08:00", "18:00")]);
        // Forward on 2026-03-29, back on 2026-10-25.
        assert_eq!(opens(&office, "2026-03-28T17:00:00Z"), "2026-03-29T06:00:00Z");
        assert_eq!(opens(&office, "2026-10-24T16:00:00Z"), "2026-10-25T07:00:00Z");
    }

    #[test]
    fn a_change_of_the_clock_inside_a_span_makes_it_shorter_or_longer() {
        let night = during("Europe/Berlin", &[(DAILY, "22:00", "06:00")]);
        // Forward: 06:00 there is 04:00 UTC, after seven hours.
        assert_eq!(opens(&night, "2026-03-29T03:59:59Z"), "2026-03-29T03:59:59Z");
        assert_eq!(opens(&night, "2026-03-29T04:00:00Z"), "2026-03-29T20:00:00Z");
        // Back: 06:00 there is 05:00 UTC, after nine.
        assert_eq!(opens(&night, "2026-10-25T04:59:59Z"), "2026-10-25T04:59:59Z");
        assert_eq!(opens(&night, "2026-10-25T05:00:00Z"), "2026-10-25T21:00:00Z");
    }

    #[test]
    fn an_edge_that_the_clock_skips_is_passed_when_it_skips() {
        let early = during("Europe/Berlin", &[(SUNDAYS, "02:30", "05:00")]);
        assert_eq!(opens(&early, "2026-03-29T00:30:00Z"), "2026-03-29T01:00:00Z");
        // All of it is skipped: it opens a week later.
        let skipped = during("Europe/Berlin", &[(SUNDAYS, "02:15", "02:45")]);
        assert_eq!(opens(&skipped, "2026-03-22T02:00:00Z"), "2026-04-05T00:15:00Z");
    }

    #[test]
    fn an_hour_that_the_clock_shows_twice_counts_twice() {
        let early = during("Europe/Berlin", &[(SUNDAYS, "02:00", "02:30")]);
        assert_eq!(opens(&early, "2026-10-25T00:29:59Z"), "2026-10-25T00:29:59Z");
        assert_eq!(opens(&early, "2026-10-25T00:30:00Z"), "2026-10-25T01:00:00Z");
        assert_eq!(opens(&early, "2026-10-25T01:30:00Z"), "2026-11-01T01:00:00Z");
    }

    #[test]
    fn exceptions_are_cut_out_and_several_hours_are_joined() {
        let mut both = during("UTC", &[(DAILY, "08:00", "12:00")]);
        both.during.push(week("America/New_York", &[(WEEKDAYS, "09:00", "17:00")]));
        both.except = vec![week("UTC", &[(DAILY, "09:00", "10:00"), (WEEKDAYS, "14:00", "14:30")])];
        assert_eq!(opens(&both, "2026-11-20T09:20:00Z"), "2026-11-20T10:00:00Z");
        // New York opens at 14:00 UTC, which is an exception for half an hour.
        assert_eq!(opens(&both, "2026-11-20T12:00:00Z"), "2026-11-20T14:30:00Z");
        assert_eq!(opens(&both, "2026-11-20T22:00:00Z"), "2026-11-21T08:00:00Z");
        both.except = vec![week("UTC", &[(DAILY, "00:00", "24:00")])];
        assert_eq!(opens(&both, "2026-11-20T12:00:00Z"), "never");
    }
}
