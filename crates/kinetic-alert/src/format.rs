//! Numbers, durations and times as a person reads them.

use std::time::Duration;

use kinetic_wire::Wall;
use time::OffsetDateTime;

/// A value with four significant digits, never fewer than its integer part has; scientific only beyond 10^15 and
/// below 10^-9.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        return "not a number".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "infinite" } else { "minus infinite" }.to_owned();
    }
    if magnitude == 0.0 {
        return "0".to_owned();
    }
    if !(1e-9..1e15).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    if magnitude >= 1000.0 {
        return format!("{value:.0}");
    }
    // Between 10^-9 and 10^3, so the exponent lies in -9..=2.
    let decimals = 3 - magnitude.log10().floor() as i32;
    trimmed(format!("{value:.*}", decimals.unsigned_abs() as usize))
}

/// A count of deviations, two decimals at most.
pub(crate) fn deviations(value: f64) -> String {
    if value.abs() < 1000.0 { trimmed(format!("{value:.2}")) } else { number(value) }
}

fn trimmed(text: String) -> String {
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1.5 s`, `45 s`, `5 min 10 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    if secs < 1 {
        return format!("{} ms", duration.as_millis());
    }
    if secs < 10 && duration.subsec_millis() > 0 {
        return format!("{} s", trimmed(format!("{:.1}", duration.as_secs_f64())));
    }
    let (unit, per, lesser, lesser_per) = match secs {
        0..60 => return format!("{secs} s"),
        60..3_600 => ("min", 60, "s", 1),
        3_600..86_400 => ("h", 3_600, "min", 60),
        _ => ("d", 86_400, "h", 3_600),
    };
    match secs % per / lesser_per {
        0 => format!("{} {unit}", secs / per),
        rest => format!("{} {unit} {rest} {lesser}", secs / per),
    }
}

/// A moment without its zone: `12:00:05`, with milliseconds where it has any, with the date where it is not that of
/// `seen_at`.
pub(crate) fn time(ms: i64, seen_at: Wall) -> String {
    let Some(moment) = moment(ms) else { return "an unknown time".to_owned() };
    let (hour, minute, second) = moment.to_hms();
    let mut text = format!("{hour:02}:{minute:02}:{second:02}");
    if moment.millisecond() > 0 {
        text.push_str(&format!(".{:03}", moment.millisecond()));
    }
    let today = self::moment(seen_at.as_ms()).map(OffsetDateTime::date);
    if today == Some(moment.date()) { text } else { format!("{} {text}", moment.date()) }
}

/// A moment with its zone.
pub(crate) fn time_utc(ms: i64, seen_at: Wall) -> String {
    format!("{} UTC", time(ms, seen_at))
}

/// A moment as RFC 3339 has it, with milliseconds where it has any: `2026-11-20T12:00:05Z`.
pub(crate) fn rfc3339(ms: i64) -> Option<String> {
    let moment = moment(ms).filter(|moment| (0..=9_999).contains(&moment.year()))?;
    let (hour, minute, second) = moment.to_hms();
    let millis = match moment.millisecond() {
        0 => String::new(),
        millis => format!(".{millis:03}"),
    };
    Some(format!("{}T{hour:02}:{minute:02}:{second:02}{millis}Z", moment.date()))
}

fn moment(ms: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()
}

/// The time between two stamps in milliseconds.
pub(crate) fn between(from_ms: i64, to_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0))
}

/// `1 feed`, `3 feeds`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits_and_no_surprises() {
        let check = |value: f64, want: &str| assert_eq!(number(value), want);
        check(412.3, "412.3");
        check(98.0, "98");
        check(101.234, "101.2");
        check(0.1 + 0.2, "0.3");
        check(1e-7, "0.0000001");
        check(1.234_56e-7, "0.0000001235");
        check(1.5e-12, "1.500e-12");
        check(999.96, "1000");
        check(1000.0, "1000");
        check(1_234_567.8, "1234568");
        check(1e18, "1.000e18");
        check(-0.0, "0");
        check(-3.5, "-3.5");
        check(f64::NAN, "not a number");
        check(f64::INFINITY, "infinite");
        check(f64::MIN_POSITIVE, "2.225e-308");
    }

    #[test]
    fn deviations_have_two_decimals() {
        assert_eq!(deviations(3.306), "3.31");
        assert_eq!(deviations(3.0), "3");
        assert_eq!(deviations(-12.5), "-12.5");
        assert_eq!(deviations(12_345.6), "12346");
    }

    #[test]
    fn durations_have_two_units() {
        let check = |ms, want: &str| assert_eq!(duration(Duration::from_millis(ms)), want);
        check(0, "0 ms");
        check(250, "250 ms");
        check(1_500, "1.5 s");
        check(10_000, "10 s");
        check(310_000, "5 min 10 s");
        check(300_000, "5 min");
        check(7_500_000, "2 h 5 min");
        check(273_600_000, "3 d 4 h");
    }

    #[test]
    fn times_name_the_date_where_it_is_another() {
        let noon = Wall::from_secs(1_795_176_000);
        assert_eq!(time_utc(noon.as_ms() + 5_000, noon), "12:00:05 UTC");
        assert_eq!(time_utc(noon.as_ms() + 5_250, noon), "12:00:05.250 UTC");
        assert_eq!(time_utc(noon.as_ms() - 86_400_000, noon), "2026-11-19 12:00:00 UTC");
        assert_eq!(time_utc(i64::MAX, noon), "an unknown time UTC");
    }

    #[test]
    fn programs_are_told_times_as_rfc_3339_has_them() {
        let check = |ms, want: Option<&str>| assert_eq!(rfc3339(ms).as_deref(), want);
        check(1_795_176_005_000, Some("2026-11-20T12:00:05Z"));
        check(1_795_176_005_007, Some("2026-11-20T12:00:05.007Z"));
        check(0, Some("1970-01-01T00:00:00Z"));
        check(i64::MAX, None);
        check(-62_198_755_200_001, None);
    }
}
