//! What is wrong, where, and what to write instead; and the sink that collects it while files are checked.

use std::ops::Range;

use serde::Serialize;

use crate::limits::DIAGNOSTICS_MAX;

/// Whether a revision with this problem may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It may not: there is no schema.
    Error,
    /// It may, but its author should know.
    Warning,
}

/// One problem, at its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable name of the kind of problem, such as `unknown-reference`; `docs/topology-language.md` lists them.
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Path of the file, relative to the repository's root; empty where the problem is the repository as a whole.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Bytes of the file that are meant.
    pub span: Range<usize>,
    /// A few words that stand at the caret.
    pub label: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Other places that matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
}

/// Another place that explains a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// What is there.
    pub message: String,
    /// Path of the file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Bytes of the file that are meant.
    pub span: Range<usize>,
}

/// One file that is being checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'f> {
    pub(crate) name: &'f str,
    pub(crate) text: &'f str,
}

/// A place: bytes of a file, by its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) file: usize,
    pub(crate) span: Range<usize>,
}

impl At {
    pub(crate) fn new(file: usize, span: Range<usize>) -> Self {
        Self { file, span }
    }
}

/// A problem as the checks state it, before its place becomes line and column.
#[derive(Debug)]
pub(crate) struct Problem {
    severity: Severity,
    code: &'static str,
    at: At,
    message: String,
    label: Option<String>,
    help: Option<String>,
    related: Vec<(At, String)>,
}

impl Problem {
    fn new(severity: Severity, code: &'static str, at: &At, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { severity, code, at: at.clone(), message, label: None, help: None, related: Vec::new() }
    }

    pub(crate) fn error(code: &'static str, at: &At, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, at, message)
    }

    pub(crate) fn warning(code: &'static str, at: &At, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, at, message)
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn related(mut self, at: &At, message: impl Into<String>) -> Self {
        self.related.push((at.clone(), message.into()));
        self
    }
}

/// Problems that a piece of text which could not be read may have caused: with a syntax error about, they wait until
/// it is mended. Warnings wait too.
const CONSEQUENTIAL: [&str; 9] = [
    "unknown-reference",
    "missing-attribute",
    "missing-block",
    "missing-customer",
    "empty-service",
    "empty-list",
    "never-fires",
    "never-open",
    "window-too-long",
];

/// Collects problems.
pub(crate) struct Sink<'f> {
    pub(crate) files: Vec<Text<'f>>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Problems beyond `DIAGNOSTICS_MAX`.
    omitted: usize,
    failed: bool,
    /// Part of some file could not be read, so that a name that is not found may well exist.
    pub(crate) incomplete: bool,
}

impl<'f> Sink<'f> {
    pub(crate) fn new() -> Self {
        Self { files: Vec::new(), diagnostics: Vec::new(), omitted: 0, failed: false, incomplete: false }
    }

    /// A file that diagnostics may point into; its index is its number in [`At`].
    pub(crate) fn add_file(&mut self, name: &'f str, text: &'f str) -> usize {
        self.files.push(Text { name, text });
        self.files.len() - 1
    }

    /// Whether there was an error.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    pub(crate) fn push(&mut self, problem: Problem) {
        if self.incomplete && (problem.severity == Severity::Warning || CONSEQUENTIAL.contains(&problem.code))
        {
            return;
        }
        self.failed |= problem.severity == Severity::Error;
        // An error must never be lost among warnings: the exit code and the message both rest on it.
        if self.diagnostics.len() >= DIAGNOSTICS_MAX {
            self.omitted += 1;
            return;
        }
        let (line, column) = position(self.files[problem.at.file].text, problem.at.span.start);
        let related = problem.related.into_iter().map(|(at, message)| self.related(&at, message)).collect();
        self.diagnostics.push(Diagnostic {
            severity: problem.severity,
            code: problem.code,
            message: problem.message,
            file: self.files[problem.at.file].name.to_owned(),
            line,
            column,
            span: problem.at.span,
            label: problem.label.unwrap_or_else(|| "here".to_owned()),
            help: problem.help,
            related,
        });
    }

    /// A problem that no file's text can show.
    pub(crate) fn push_whole(
        &mut self,
        code: &'static str,
        file: &str,
        message: String,
        (span, (line, column)): (Range<usize>, (u32, u32)),
        help: &str,
    ) {
        self.failed = true;
        self.incomplete = true;
        self.diagnostics.push(Diagnostic {
            severity: Severity::Error,
            code,
            message,
            file: file.to_owned(),
            line,
            column,
            span,
            label: "here".to_owned(),
            help: Some(help.to_owned()),
            related: Vec::new(),
        });
    }

    fn related(&self, at: &At, message: String) -> Related {
        let file = self.files[at.file];
        let (line, column) = position(file.text, at.span.start);
        Related { message, file: file.name.to_owned(), line, column, span: at.span.clone() }
    }

    /// All problems, by file and position.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by(|a, b| {
            (&a.file, a.span.start, a.severity, a.span.end, a.code).cmp(&(
                &b.file,
                b.span.start,
                b.severity,
                b.span.end,
                b.code,
            ))
        });
        if self.omitted > 0 {
            self.diagnostics.push(Diagnostic {
                severity: if self.failed { Severity::Error } else { Severity::Warning },
                code: "too-many-problems",
                message: format!("{} more problems are not shown", self.omitted),
                file: String::new(),
                line: 1,
                column: 1,
                span: 0..0,
                label: String::new(),
                help: Some("mend these first and check again".to_owned()),
                related: Vec::new(),
            });
        }
        self.diagnostics
    }
}

/// Line and column, both from 1, of a byte offset; the column counts characters.
pub(crate) fn position(text: &str, offset: usize) -> (u32, u32) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_not_bytes() {
        assert_eq!(position("é = 1\nnext", 2), (1, 2));
        assert_eq!(position("é = 1\nnext", 7), (2, 1));
        assert_eq!(position("", 9), (1, 1));
    }
}
