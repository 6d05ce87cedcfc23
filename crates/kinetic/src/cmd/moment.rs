//! Moments and spans of time as people type and read them. UTC where no offset is said, as in mails.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp, ToSpan};

use crate::adapter::{clock, file};
use crate::cli;

/// `30m`, `2h`, `1h30m`, `3d`; a day has 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("`{text}` is no duration: write 30m, 2h, 1h30m or 3d");
    let span: Span = text.trim().parse().map_err(|_| refused())?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| refused())?;
    Duration::try_from(signed).ok().filter(|duration| !duration.is_zero()).ok_or_else(refused)
}

/// Milliseconds since the Unix epoch of `2026-11-21T06:00Z`, `2026-11-21 06:00` or `18:00`, the next one.
pub(crate) fn until(text: &str) -> Result<i64, String> {
    until_at(text, clock::now().wall.as_ms())
}

fn until_at(text: &str, now_ms: i64) -> Result<i64, String> {
    let refused = || {
        format!(
            "`{text}` is no time: write 2026-11-21T06:00Z, 2026-11-21T08:00+02:00, or 18:00 for the next one"
        )
    };
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_millisecond());
    }
    let utc = |local: DateTime| local.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp().as_millisecond());
    if text.len() <= "23:59:59".len() {
        let time: Time = text.parse().map_err(|_| refused())?;
        let today =
            Timestamp::from_millisecond(now_ms).map_err(|_| refused())?.to_zoned(TimeZone::UTC).date();
        let at = utc(today.to_datetime(time)).map_err(|_| refused())?;
        let tomorrow = today.checked_add(1.day()).map_err(|_| refused())?;
        return if at > now_ms { Ok(at) } else { utc(tomorrow.to_datetime(time)).map_err(|_| refused()) };
    }
    utc(text.parse().map_err(|_| refused())?).map_err(|_| refused())
}

impl cli::End {
    /// When something that begins then ends, milliseconds since the Unix epoch.
    pub(crate) fn after(self, begins_ms: i64) -> i64 {
        let lasts = |lasts: Duration| i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX);
        let end = |by: Duration| begins_ms.saturating_add(lasts(by));
        self.until.or(self.lasts.map(end)).unwrap_or(begins_ms)
    }
}

/// Who is asking: as typed, or the user of this machine.
pub(crate) fn author(typed: Option<&str>) -> Result<String> {
    let author = typed.map(str::to_owned).or_else(user).filter(|author| !author.trim().is_empty());
    author.context("nobody can be named as the author: say who you are with --author")
}

/// The user whose process this is: as the machine's table of users says, or else as the terminal does.
#[expect(clippy::disallowed_methods, reason = "who sits at the terminal is no configuration")]
fn user() -> Option<String> {
    let users = file::read_text(Path::new("/etc/passwd")).unwrap_or_default();
    let uid = rustix::process::getuid().as_raw();
    named(&users, uid).or_else(|| ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok()))
}

/// The name of a user in a passwd(5) file.
fn named(users: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    };
    users.lines().find_map(of)
}

/// `2026-11-20 12:00:01 UTC`.
pub(crate) fn utc(ms: i64) -> String {
    Timestamp::from_millisecond(ms)
        .map_or_else(|_| format!("{ms} ms after 1970"), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// `4m 10s`: the two largest parts of a span.
pub(crate) fn span(ms: i64) -> String {
    let secs = ms.max(0) / 1_000;
    let parts = [(secs / 86_400, "d"), (secs / 3_600 % 24, "h"), (secs / 60 % 60, "m"), (secs % 60, "s")];
    let first = parts.iter().position(|(n, _)| *n > 0).unwrap_or(parts.len() - 1);
    let shown = parts.iter().skip(first).take(2).filter(|(n, _)| *n > 0 || first == parts.len() - 1);
    shown.map(|(n, unit)| format!("{n}{unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20 12:00:00 UTC.
    const NOON_MS: i64 = 1_795_176_000_000;

    #[test]
    fn durations_as_people_type_them() {
        let secs = |text| duration(text).map(|duration| duration.as_secs());
        assert_eq!(secs("2h"), Ok(7_200));
        assert_eq!(secs("1h30m"), Ok(5_400));
        assert_eq!(secs(" 3d "), Ok(259_200));
        assert_eq!(secs("90 min"), Ok(5_400));
        for wrong in ["", "2", "0s", "-1h", "soon", "2h ago", "1mo"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments_as_people_type_them() {
        let hours = |text| until_at(text, NOON_MS).map(|ms| (ms - NOON_MS) as f64 / 3_600_000.0);
        assert_eq!(hours("2026-11-20T14:00Z"), Ok(2.0));
        assert_eq!(hours("2026-11-20T14:00:00+02:00"), Ok(0.0));
        assert_eq!(hours("2026-11-20 14:30"), Ok(2.5));
        assert_eq!(hours("18:00"), Ok(6.0));
        assert_eq!(hours("12:00"), Ok(24.0), "the next one");
        for wrong in ["", "25:00", "tomorrow", "2026-13-01T00:00Z"] {
            assert!(until_at(wrong, NOON_MS).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_user_is_found_by_number() {
        let users = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000::/:/bin/sh\nbroken\n";
        assert_eq!(named(users, 1_000).as_deref(), Some("ann"));
        assert_eq!(named(users, 7), None);
        assert_eq!(author(Some("bob")).ok().as_deref(), Some("bob"));
    }

    #[test]
    fn spans_as_people_read_them() {
        let said = [0, 59_000, 250_000, 3_600_000, 5_460_000, 176_400_000].map(span);
        assert_eq!(said, ["0s", "59s", "4m 10s", "1h", "1h 31m", "2d 1h"]);
        assert_eq!(utc(NOON_MS), "2026-11-20 12:00:00 UTC");
    }
}
