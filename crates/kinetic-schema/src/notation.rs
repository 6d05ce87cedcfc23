//! Small notations inside strings: durations, sizes, shares, dates, hashes, hysteresis, name templates, names.

use std::time::Duration;

use crate::limits::{HYSTERESIS_WINDOWS_MAX, NAME_BYTES_MAX, REGION_NAME_BYTES_MAX};
use crate::schema::{Hysteresis, NamePart, NameTemplate};

/// `"500ms"`, `"10s"`, `"1m30s"`, `"1.5h"`, `"1d"`.
pub(crate) fn duration(written: &str) -> Option<Duration> {
    const UNITS: [(&str, u32); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let mut rest = written.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() || rest.len() > 32 {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 =
            rest[..digits].parse().ok().filter(|_| rest.starts_with(|c: char| c.is_ascii_digit()))?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (_, scale) = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        rest = rest[letters..].trim_start();
        let part = Duration::try_from_secs_f64(number * f64::from(*scale) / 1e3).ok()?;
        total = total.checked_add(part)?;
    }
    Some(total)
}

/// A duration as a schema would say it.
pub(crate) fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, scale) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms >= scale && ms.is_multiple_of(scale) {
            return format!("{}{unit}", ms / scale);
        }
    }
    if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") }
}

/// `"256MiB"`, `"1.5 GB"`, `"512"`.
pub(crate) fn size(written: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 9] = [
        ("", 1),
        ("B", 1),
        ("kB", 1_000),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    let written = written.trim();
    let digits = written.find(|c: char| !c.is_ascii_digit()).unwrap_or(written.len());
    let number: u64 = written[..digits].parse().ok()?;
    let (_, scale) = UNITS.iter().find(|(unit, _)| *unit == written[digits..].trim())?;
    number.checked_mul(*scale)
}

/// `"5%"` or `"0.5 %"`, as a share of 1.
pub(crate) fn share(written: &str) -> Option<f64> {
    let number = written.trim().strip_suffix('%')?.trim();
    let plain = number.starts_with(|c: char| c.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    number.parse::<f64>().ok().filter(|share| plain && share.is_finite()).map(|share| share / 100.0)
}

/// `"3 of 5"`.
pub(crate) fn hysteresis(written: &str) -> Option<(u32, u32)> {
    let mut words = written.split_whitespace();
    let hits = words.next()?.parse().ok()?;
    let of = (words.next()? == "of").then(|| words.next())??.parse().ok()?;
    words.next().is_none().then_some((hits, of))
}

/// Why an `m of n` cannot be.
pub(crate) fn hysteresis_problem(hysteresis: Hysteresis) -> Option<String> {
    let Hysteresis { hits, of } = hysteresis;
    if hits == 0 {
        Some("0 hits would always hold: at least 1 is needed".to_owned())
    } else if hits > of {
        Some(format!("{hits} of the last {of} windows can never be out of line"))
    } else if of > HYSTERESIS_WINDOWS_MAX {
        Some(format!("at most the last {HYSTERESIS_WINDOWS_MAX} windows are kept"))
    } else {
        None
    }
}

/// Exactly `N` bytes as hexadecimal digits.
pub(crate) fn hex<const N: usize>(written: &str) -> Option<[u8; N]> {
    if written.len() != 2 * N || !written.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(written.as_bytes().chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

/// `YYYY-MM-DD`, as the first millisecond of that day (Unix epoch, UTC).
pub(crate) fn day_ms(written: &str) -> Option<i64> {
    let shape = written.len() == 10 && written.bytes().all(|c| c == b'-' || c.is_ascii_digit());
    let day: jiff::civil::Date = written.parse().ok().filter(|_| shape)?;
    let start = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond();
    (start >= 0).then_some(start)
}

/// A moment of RFC 3339, `2026-12-20T00:00:00Z`, in milliseconds since the Unix epoch.
pub(crate) fn moment_ms(written: &str) -> Option<i64> {
    let shape = written.is_ascii() && written.get(10..11).is_some_and(|mark| mark == "T");
    let zone = written.ends_with('Z') || written.len() > 19 && written[19..].contains(['+', '-']);
    let moment: jiff::Timestamp = written.parse().ok().filter(|_| shape && zone)?;
    Some(moment.as_millisecond()).filter(|ms| *ms >= 0)
}

/// Milliseconds of a day, as the calendar of UTC counts them.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// `"09:30"` as minutes since midnight, to `"24:00"`.
pub(crate) fn minute_of_day(written: &str) -> Option<u16> {
    let (hour, minute) = written.split_once(':')?;
    let number = |digits: &str, max: u16| -> Option<u16> {
        let plain = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse().ok().filter(|number| plain && *number <= max)
    };
    let minutes = number(hour, 24)? * 60 + number(minute, 59)?;
    (minutes <= 24 * 60).then_some(minutes)
}

/// `servers.{origin}.{metric}`; the error says what is wrong with it.
pub(crate) fn name_template(written: &str) -> Result<NameTemplate, String> {
    let mut parts = Vec::new();
    for word in written.split('.') {
        parts.push(match word {
            "{origin}" => NamePart::Origin,
            "{metric}" => NamePart::Metric,
            "*" => NamePart::Any,
            "" => return Err("two dots follow each other, or one stands at an end".to_owned()),
            word if word.contains(['{', '}', '*']) => {
                return Err(format!(
                    "`{word}` is neither a plain word nor `*`, `{{origin}}` or `{{metric}}`"
                ));
            }
            word => NamePart::Literal(word.to_owned()),
        });
    }
    let count = |part: &NamePart| parts.iter().filter(|other| *other == part).count();
    if parts.last() != Some(&NamePart::Metric) || count(&NamePart::Metric) != 1 {
        return Err("`{metric}` stands once, at the end: it takes all that remains".to_owned());
    }
    if count(&NamePart::Origin) > 1 {
        return Err("`{origin}` stands at most once".to_owned());
    }
    Ok(NameTemplate { parts })
}

/// Which rule a name follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// `[a-z0-9][a-z0-9-]{0,62}`: it is part of exchange, queue, login and DNS names.
    Customer,
    /// `[A-Za-z0-9][A-Za-z0-9._-]*`: it is a vhost.
    Region,
    /// `[A-Za-z0-9][A-Za-z0-9_-]*`.
    Other,
    /// `[a-z0-9][a-z0-9.+_@-]*`: what somebody logs in with, such as an e-mail address in lower case, so that nobody's name looks
    /// like another's.
    User,
    /// Any text: it is only shown.
    Free,
}

/// Why a name cannot be, if it cannot.
pub(crate) fn name_problem(rule: NameRule, name: &str) -> Option<String> {
    let (max, allowed, words): (usize, fn(char) -> bool, &str) = match rule {
        NameRule::Customer => (
            NAME_BYTES_MAX,
            |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-',
            "lower-case letters, digits and `-`",
        ),
        NameRule::Region => (
            REGION_NAME_BYTES_MAX,
            |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
            "letters, digits, `-`, `_` and `.`",
        ),
        NameRule::Other => (
            NAME_BYTES_MAX,
            |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'),
            "letters, digits, `-` and `_`",
        ),
        NameRule::User => (
            REGION_NAME_BYTES_MAX,
            |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '+' | '_' | '@' | '-'),
            "lower-case letters, digits and `.+_@-`",
        ),
        NameRule::Free => (REGION_NAME_BYTES_MAX, |c| !c.is_control(), "printable characters"),
    };
    if name.is_empty() {
        Some("a name must not be empty".to_owned())
    } else if name.len() > max {
        Some(format!("a name has at most {max} bytes; this one has {}", name.len()))
    } else if !name.chars().all(allowed) {
        Some(format!("this name is made of {words} only"))
    } else if rule != NameRule::Free && !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Some("a name starts with a letter or a digit".to_owned())
    } else {
        None
    }
}

/// Why `<customer>.<name>` cannot be the login of a key or a certificate, if it cannot.
#[must_use]
pub fn login_problem(customer: &str, name: &str) -> Option<String> {
    name_problem(NameRule::Customer, customer)
        .map(|problem| format!("customer `{customer}`: {problem}"))
        .or_else(|| name_problem(NameRule::Other, name).map(|problem| format!("`{name}`: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = |written| duration(written).map(|duration| duration.as_millis());
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("10s"), Some(10_000));
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(ms("1.5h"), Some(5_400_000));
        assert_eq!(ms("1d"), Some(86_400_000));
        for wrong in ["", "10", "s", "10 parsecs", "-1s", "1e3s", "1..5s", "99999999999999999999d", "10s,"] {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
        assert_eq!(show_duration(Duration::from_millis(90_000)), "90s");
        assert_eq!(show_duration(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(show_duration(Duration::from_secs(600)), "10m");
    }

    #[test]
    fn sizes_shares_and_hysteresis() {
        assert_eq!(size("256MiB"), Some(256 << 20));
        assert_eq!(size("1 GB"), Some(1_000_000_000));
        assert_eq!(size("99999999999GiB"), None);
        assert_eq!(size("MiB"), None);
        assert_eq!(share("5%"), Some(0.05));
        assert_eq!(share("5"), None);
        assert_eq!(share("-5%"), None);
        assert_eq!(share("inf%"), None);
        assert_eq!(hysteresis("3 of 5"), Some((3, 5)));
        assert_eq!(hysteresis("3 of"), None);
        assert_eq!(hysteresis("3 out of 5"), None);
    }

    #[test]
    fn dates_and_moments() {
        assert_eq!(day_ms("1970-01-01"), Some(0));
        // `date -u -d 2027-03-02 +%s`
        assert_eq!(day_ms("2027-03-02"), Some(1_803_945_600_000));
        assert_eq!(day_ms("2028-03-01"), Some(1_835_481_600_000));
        for wrong in [
            "2027-02-29",
            "2027-13-01",
            "2027-00-10",
            "2027-1-1",
            "27-01-01",
            "2027-01-01T00:00",
            "２０２７",
            "20270301",
            "1969-12-31",
        ] {
            assert_eq!(day_ms(wrong), None, "{wrong}");
        }
        assert_eq!(moment_ms("2027-03-02T00:00:00Z"), Some(1_803_945_600_000));
        assert_eq!(moment_ms("2027-03-02T01:00:00.5+01:00"), Some(1_803_945_600_500));
        for wrong in [
            "2027-03-02",
            "2027-03-02T00:00:00",
            "2027-03-02 00:00:00Z",
            "2027-03-02T25:00:00Z",
            "1969-01-01T00:00:00Z",
        ] {
            assert_eq!(moment_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_of_day() {
        assert_eq!(minute_of_day("00:00"), Some(0));
        assert_eq!(minute_of_day("09:30"), Some(570));
        assert_eq!(minute_of_day("24:00"), Some(1_440));
        for wrong in
            ["", "9:30", "24:01", "25:00", "12:60", "09:30 ", "+9:30", "09.30", "12:00:00", "9am", "١٢:٠٠"]
        {
            assert_eq!(minute_of_day(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn templates_take_names_apart() {
        let template = name_template("servers.{origin}.{metric}").expect("well formed");
        assert_eq!(template.split("servers.web-1.cpu.load"), Some((Some("web-1"), "cpu.load")));
        for wrong in [
            "servers.{origin}",
            "{metric}.{origin}",
            "{origin}.{origin}.{metric}",
            "a..{metric}",
            "a{b}.{metric}",
        ] {
            assert!(name_template(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_follow_their_rule() {
        assert_eq!(name_problem(NameRule::Customer, "acme-2"), None);
        assert_eq!(name_problem(NameRule::Region, "us-west.aws"), None);
        for (rule, wrong) in [
            (NameRule::Customer, "Acme"),
            (NameRule::Customer, "a.b"),
            (NameRule::Customer, "-a"),
            (NameRule::Other, "a.b"),
            (NameRule::Other, ""),
            (NameRule::Other, "é"),
        ] {
            assert!(name_problem(rule, wrong).is_some(), "{wrong}");
        }
        assert!(name_problem(NameRule::Customer, &"a".repeat(64)).is_some());
    }

    #[test]
    fn no_name_that_is_part_of_a_groups_key_holds_what_keys_of_coarser_groups_are_made_of() {
        for rule in [NameRule::Customer, NameRule::Region, NameRule::Other] {
            for mark in ['@', '*', '/'] {
                for name in [format!("{mark}a"), format!("a{mark}b"), mark.to_string()] {
                    assert!(name_problem(rule, &name).is_some(), "{rule:?} {name}");
                }
            }
        }
    }
}
