//! What is said on the terminal: colour and redrawing only where there is one.
//!
//! Much of what is shown was named by customers: origins, metrics, reasons, lines of their files. None of it may steer the
//! terminal of who looks at it, so all that is printed here goes through [`plain`] first.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

/// Prints an error and what caused it, most general first.
pub(crate) fn complain(error: &anyhow::Error) {
    let mut stderr = std::io::stderr().lock();
    // Nothing better can be done about a closed terminal.
    writeln!(stderr, "kinetic: {}", plain(&error.to_string())).ok();
    for cause in error.chain().skip(1) {
        writeln!(stderr, "  because: {}", plain(&cause.to_string())).ok();
    }
}

/// Prints to standard error.
pub(crate) fn warn(text: &str) {
    // Nothing better can be done about a closed terminal.
    std::io::stderr().lock().write_all(plain(text).as_bytes()).ok();
}

/// Prints to standard output. A reader that has gone away (`| head`) ends the process quietly.
pub(crate) fn say(text: &str) {
    steer(&plain(text));
}

/// Prints to standard output what moves the cursor or clears the screen: words of our own, and nothing of anybody else's.
pub(crate) fn steer(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    if written.is_err() {
        std::process::exit(0);
    }
}

/// Rows under their heads, in columns.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Says on standard error what is being done: in one line that is overwritten on a terminal, in a line each elsewhere; an
/// empty text ends it.
pub(crate) fn progress(what: &str) {
    let mut stderr = std::io::stderr().lock();
    // Nothing better can be done about a closed terminal.
    if stderr.is_terminal() {
        write!(stderr, "\r\x1b[K{}", plain(what)).ok();
    } else if !what.is_empty() {
        writeln!(stderr, "{}", plain(what)).ok();
    }
}

/// Whether standard output is a terminal that understands colour.
pub(crate) fn is_fancy() -> bool {
    std::io::stdout().is_terminal()
}

/// Terminal styles; empty where there is no terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Is there a terminal?
    pub(crate) fancy: bool,
}

impl Style {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self { fancy: is_fancy() }
    }

    /// Bold.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Dim.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Red.
    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31;1", text)
    }

    /// Green.
    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.fancy { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The text with nothing in it that steers a terminal but line ends, tabs and colours: everything else of that kind is written as
/// JSON would write it, so that JSON stays what it was.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let kept = if rest.starts_with("\r\n") { 2 } else { colour_bytes(rest) };
        let taken = if kept > 0 { kept } else { c.len_utf8() };
        if kept == 0 && steers(c) {
            write!(safe, "\\u{:04x}", u32::from(c)).expect("a string takes every text");
        } else {
            safe.push_str(&rest[..taken]);
        }
        rest = &rest[taken..];
    }
    Cow::Owned(safe)
}

/// Control characters of either set, and those that turn the direction of writing.
fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && !matches!(c, '\n' | '\t'))
}

/// Length of the colour that a text begins with (`ESC [ … m`, ECMA-48 "select graphic rendition"); 0 for none, and for the one that
/// hides what follows.
fn colour_bytes(text: &str) -> usize {
    let Some((codes, _)) = text.strip_prefix("\x1b[").and_then(|rest| rest.split_once('m')) else { return 0 };
    let numbers = codes.bytes().all(|byte| byte.is_ascii_digit() || byte == b';');
    let hides = codes.split(';').any(|code| code.trim_start_matches('0') == "8");
    if numbers && !hides { codes.len() + 3 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_colours_steers_the_terminal() {
        let check = |text: &str, want: &str| assert_eq!(plain(text), want);
        check("two\tcolumns\nand Grüße\n", "two\tcolumns\nand Grüße\n");
        check("\x1b[31;1mred\x1b[0m", "\x1b[31;1mred\x1b[0m");
        check("web\x1b[2J\x1b]0;title\x07", "web\\u001b[2J\\u001b]0;title\\u0007");
        check("\x1b[8mhidden\x1b[1;08m", "\\u001b[8mhidden\\u001b[1;08m");
        check("\x1b[1", "\\u001b[1");
        check("mail\r\n\x07", "mail\r\n\\u0007");
        check("a\rb\u{9b}2Jc\x7f", "a\\u000db\\u009b2Jc\\u007f");
        check("evil\u{202e}gpj", "evil\\u202egpj");
    }

    #[test]
    fn json_stays_json() {
        let value = serde_json::json!({"origin": "a\u{9b}b\x1b\u{202e}c"});
        let safe = plain(&value.to_string()).into_owned();
        assert!(!safe.chars().any(steers), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).expect("JSON"), value);
    }
}
