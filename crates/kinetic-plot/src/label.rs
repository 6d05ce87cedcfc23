//! Numbers and moments as they stand in a picture, and text that an XML parser takes as text.

/// Units for thousands, and their names: from 1e3 up.
const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];

/// A value on an axis whose marks are `step` apart: as many decimals as tell them apart.
pub(crate) fn value(value: f64, step: f64) -> String {
    let unit = UNITS.iter().find(|(unit, _)| value.abs() >= *unit && value.abs() < 1e15);
    let (per, name) = unit.copied().unwrap_or((1.0, ""));
    let (shown, step) = (value / per, step / per);
    if shown != 0.0 && !(1e-6..1e15).contains(&shown.abs()) {
        return format!("{shown:.1e}");
    }
    let decimals = (-step.log10()).ceil().clamp(0.0, 9.0) as usize;
    let text = format!("{shown:.decimals$}");
    // Nothing has neither decimals nor, after rounding, a sign.
    if text.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.')) {
        return "0".to_owned();
    }
    format!("{text}{name}")
}

/// A value by itself: about three significant digits.
pub(crate) fn number(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let digits = number.abs().log10().floor();
    let text = value(number, 10f64.powf(digits - 2.0));
    match text.split_once('.') {
        Some((_, decimals)) if decimals.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => text,
    }
}

/// Time of the day in UTC.
pub(crate) fn clock(ms: i64, with_seconds: bool) -> String {
    let second = ms.div_euclid(1_000).rem_euclid(86_400);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    if with_seconds { format!("{hour:02}:{minute:02}:{second:02}") } else { format!("{hour:02}:{minute:02}") }
}

/// Text for an XML document: what has a meaning there is escaped, what may not stand there left out, and what is longer than
/// `max` characters cut.
pub(crate) fn xml(text: &str, max: usize) -> String {
    let mut written = String::with_capacity(text.len());
    let mut chars = text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}'));
    for c in chars.by_ref().take(max) {
        match c {
            '&' => written.push_str("&amp;"),
            '<' => written.push_str("&lt;"),
            '>' => written.push_str("&gt;"),
            '"' => written.push_str("&quot;"),
            c => written.push(c),
        }
    }
    if chars.next().is_some() {
        written.push('…');
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        for (value, text) in [
            (0.0, "0"),
            (182.0, "182"),
            (101.234, "101"),
            (10.0, "10"),
            (1.5, "1.5"),
            (0.012_34, "0.0123"),
            (-3.0, "-3"),
            (1_234_567.0, "1.23M"),
            (999.9, "1000"),
            (1e20, "1.0e20"),
            (1e-9, "1.0e-9"),
        ] {
            assert_eq!(number(value), text, "{value}");
        }
        assert_eq!(value(-0.001, 1.0), "0");
    }

    #[test]
    fn text_cannot_leave_its_element() {
        assert_eq!(xml("a<b>&\"c\n\u{1}", 20), "a&lt;b&gt;&amp;&quot;c");
        assert_eq!(xml("abcdef", 3), "abc…");
        assert_eq!(xml("abc", 3), "abc");
    }
}
