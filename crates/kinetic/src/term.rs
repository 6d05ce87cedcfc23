//! What is said on the terminal: colour and redrawing only where there is one.

use std::io::{IsTerminal, Write};

/// Prints an error and what caused it, most general first.
pub(crate) fn complain(error: &anyhow::Error) {
    let mut stderr = std::io::stderr().lock();
    // Nothing better can be done about a closed terminal.
    writeln!(stderr, "kinetic: {error}").ok();
    for cause in error.chain().skip(1) {
        writeln!(stderr, "  because: {cause}").ok();
    }
}

/// Prints to standard output. A reader that has gone away (`| head`) ends the process quietly.
pub(crate) fn say(text: &str) {
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
        write!(stderr, "\r\x1b[K{what}").ok();
    } else if !what.is_empty() {
        writeln!(stderr, "{what}").ok();
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
