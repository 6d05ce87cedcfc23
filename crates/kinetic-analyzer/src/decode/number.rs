//! Decimal numbers and timestamps as lines write them. Stricter than `str::parse`: no `inf`, no `nan`, no hexadecimal.

use kinetic_wire::Wall;

/// Powers of ten that an `f64` holds exactly and that the quick reading needs.
const POW10: [f64; 20] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19,
];
/// Digits that a `u64` holds whatever they are.
const DIGITS_MAX: usize = 19;
/// Largest integer up to which every integer is an `f64`.
const EXACT_MAX: u64 = 1 << 53;

/// A number read from the front of some bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quick {
    /// Its value, correctly rounded.
    pub(super) value: f64,
    /// It began with `+` or `-`.
    pub(super) signed: bool,
    /// Bytes it took.
    pub(super) len: usize,
}

/// Reads `[+-]digits[.digits]` from the front, up to the first other byte. `None` where there is no digit or where the
/// short way would not be exact. Exact otherwise: the mantissa and the power of ten are both exact `f64`s, so their
/// one division rounds once, correctly.
#[inline]
pub(super) fn quick(bytes: &[u8]) -> Option<Quick> {
    let first = *bytes.first()?;
    let signed = first == b'-' || first == b'+';
    let from = usize::from(signed);
    let mut at = from;
    let mut mantissa: u64 = 0;
    while let Some(digit) = digit(bytes, at) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    let mut digits = at - from;
    let mut fraction = 0;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        let point = at;
        while let Some(digit) = digit(bytes, at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        fraction = at - point;
        digits += fraction;
    }
    if digits == 0 || digits > DIGITS_MAX || mantissa > EXACT_MAX {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
    let mut value = mantissa as f64;
    if fraction > 0 {
        value /= POW10[fraction];
    }
    if first == b'-' {
        value = -value;
    }
    Some(Quick { value, signed, len: at })
}

#[inline]
fn digit(bytes: &[u8], at: usize) -> Option<u64> {
    let digit = bytes.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// A whole token as a finite decimal number.
#[inline]
pub(super) fn finite(token: &str) -> Option<f64> {
    match quick(token.as_bytes()) {
        Some(quick) if quick.len == token.len() => Some(quick.value),
        _ => long(token),
    }
}

/// Exponents and long mantissas. The words that `str::parse` takes are none of them finite.
#[cold]
fn long(token: &str) -> Option<f64> {
    token.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Whether a token is one of the words for "not a number", with or without a sign.
pub(super) fn is_nan(token: &str) -> bool {
    token.trim_start_matches(['+', '-']).eq_ignore_ascii_case("nan")
}

/// Seconds since the epoch, whole or with a fraction, to the nanosecond (further digits are cut off). `None` where it
/// is negative, no number, or past what `Wall` holds (the year 2262).
pub(super) fn seconds(token: &str) -> Option<Wall> {
    let (whole, fraction) = token.split_once('.').unwrap_or((token, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        // Exponents and the like, as some languages print large floats.
        let nanos = finite(token)? * 1e9;
        #[expect(clippy::cast_possible_truncation, reason = "in range by the check")]
        return (0.0..9.2e18).contains(&nanos).then_some(Wall(nanos as i64));
    }
    let mut nanos = whole.parse::<i64>().ok()?.checked_mul(1_000_000_000)?;
    let mut unit = 100_000_000;
    for digit in fraction.bytes().take(9) {
        nanos = nanos.checked_add(i64::from(digit - b'0') * unit)?;
        unit /= 10;
    }
    Some(Wall(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_decimals_only() {
        for (token, value) in [
            ("1", 1.0),
            ("+4", 4.0),
            ("-10", -10.0),
            ("123.4", 123.4),
            (".5", 0.5),
            ("7.", 7.0),
            ("1e-1", 0.1),
            ("1E3", 1000.0),
        ] {
            assert_eq!(finite(token), Some(value), "{token}");
        }
        for token in [
            "",
            "-",
            "+",
            ".",
            "e",
            "1e",
            "--1",
            "0x10",
            "inf",
            "-Infinity",
            "NaN",
            "1e999",
            " 1",
            "1 ",
            "1_0",
            "١",
        ] {
            assert_eq!(finite(token), None, "{token}");
        }
    }

    #[test]
    fn long_digits_are_rounded_correctly() {
        for token in [
            "9007199254740993",
            "0.1234567890123456789012345",
            "18446744073709551616",
            "99999999999999999999.5",
        ] {
            assert_eq!(finite(token), token.parse().ok(), "{token}");
        }
    }

    #[test]
    fn seconds_to_the_nanosecond() {
        assert_eq!(seconds("1795159693.372"), Some(Wall(1_795_159_693_372_000_000)));
        assert_eq!(seconds("1795159693"), Some(Wall(1_795_159_693_000_000_000)));
        assert_eq!(seconds("1.0000000019"), Some(Wall(1_000_000_001)));
        assert_eq!(seconds("1.8e9"), Some(Wall(1_800_000_000_000_000_000)));
        for token in ["", "-5", ".5x", "N", "99999999999", "nan", "1e30", "1.2.3"] {
            assert_eq!(seconds(token), None, "{token}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            for text in [format!("{value}"), format!("{value:.3}"), format!("{value:e}")] {
                prop_assert_eq!(finite(&text), text.parse().ok());
            }
        }

        #[test]
        fn agrees_on_short_decimals(whole in 0u64..10_000_000_000, fraction in 0u32..1_000_000, digits in 1usize..7) {
            let text = format!("{whole}.{fraction:0digits$}");
            prop_assert_eq!(finite(&text), text.parse().ok());
        }
    }
}
