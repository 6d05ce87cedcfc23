//! Diagnostics for a terminal: file, line, caret, help, and a last line that counts them.

use std::borrow::Cow;
use std::fmt;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};

use crate::diagnostic::{Diagnostic, Severity};
use crate::load::Files;

/// Lines longer than this are not shown: they would bury the message.
const LINE_BYTES_SHOWN_MAX: usize = 2_000;
/// Narrowest width that is wrapped to.
const WIDTH_MIN: usize = 40;

/// Renders diagnostics, each with its source, and a summary line. `width` is the terminal's, in columns.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], files: &Files, colour: bool, width: usize) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(width.max(WIDTH_MIN))
        .with_links(false)
        .with_context_lines(1)
        .tab_width(4);
    let mut out = String::new();
    for diagnostic in diagnostics {
        let report = Report::new(diagnostic, files);
        // Writing to a string does not fail; what miette itself refuses (a span it cannot read) is said plainly.
        if handler.render_report(&mut out, &report).is_err() {
            out.push_str(&format!("{}:{}: {}\n", diagnostic.file, diagnostic.line, diagnostic.message));
        }
        out.push('\n');
    }
    out.push_str(&summary(diagnostics));
    out.push('\n');
    out
}

/// "2 errors and 1 warning in 2 files", or that there is nothing to say.
#[must_use]
pub fn summary(diagnostics: &[Diagnostic]) -> String {
    let count = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let several =
        |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let mut names: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.file.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let files = several(names.len(), "file");
    match (errors, warnings) {
        (0, 0) => "no problems".to_owned(),
        (0, _) => format!("{} in {files}", several(warnings, "warning")),
        (_, 0) => format!("{} in {files}", several(errors, "error")),
        _ => format!("{} and {} in {files}", several(errors, "error"), several(warnings, "warning")),
    }
}

/// Text without control characters, which would steer the reader's terminal; each becomes as many `?` as it has bytes,
/// so that spans still fit.
fn printable(text: Cow<'_, str>) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if !text.contains(steers) {
        return text;
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            safe.extend(std::iter::repeat_n('?', c.len_utf8()));
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// A file's text under its name, without copying it.
struct Source<'f> {
    name: &'f str,
    text: Cow<'f, str>,
}

impl SourceCode for Source<'_> {
    fn read_span<'s>(
        &'s self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'s> + 's>, MietteError> {
        let contents = self.text.as_ref().read_span(span, before, after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.to_owned(),
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}

struct Report<'f> {
    severity: miette::Severity,
    code: Option<&'static str>,
    message: String,
    help: Option<Cow<'f, str>>,
    source: Option<Source<'f>>,
    labels: Vec<LabeledSpan>,
    elsewhere: Vec<Self>,
}

impl<'f> Report<'f> {
    fn new(diagnostic: &'f Diagnostic, files: &'f Files) -> Self {
        let source = source(files, &diagnostic.file, diagnostic.span.start);
        let mut labels = Vec::new();
        let mut elsewhere = Vec::new();
        let mut message = printable(Cow::Borrowed(&diagnostic.message)).into_owned();
        if let Some(source) = &source {
            labels.push(label(&source.text, &diagnostic.label, &diagnostic.span));
        } else if !diagnostic.file.is_empty() {
            message = format!("{}:{}:{}: {message}", diagnostic.file, diagnostic.line, diagnostic.column);
        }
        for related in &diagnostic.related {
            match &source {
                Some(source) if related.file == diagnostic.file => {
                    labels.push(label(&source.text, &related.message, &related.span));
                }
                _ => {
                    let source = self::source(files, &related.file, related.span.start);
                    let labels = source.iter().map(|source| label(&source.text, "", &related.span)).collect();
                    elsewhere.push(Self {
                        severity: miette::Severity::Advice,
                        code: None,
                        message: printable(Cow::Borrowed(&related.message)).into_owned(),
                        help: None,
                        source,
                        labels,
                        elsewhere: Vec::new(),
                    });
                }
            }
        }
        let severity = match diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        };
        let help = diagnostic.help.as_deref().map(|help| printable(Cow::Borrowed(help)));
        Self { severity, code: Some(diagnostic.code), message, help, source, labels, elsewhere }
    }
}

/// The text of a file, unless there is none or the line in question is too long to show.
fn source<'f>(files: &'f Files, name: &str, offset: usize) -> Option<Source<'f>> {
    let (name, bytes) = files.get_key_value(name)?;
    let text = printable(String::from_utf8_lossy(bytes));
    let offset = offset.min(text.len());
    let around = &text.as_bytes()[offset.saturating_sub(LINE_BYTES_SHOWN_MAX)..];
    let longest = around
        .get(..2 * LINE_BYTES_SHOWN_MAX)
        .unwrap_or(around)
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::len)
        .max()
        .unwrap_or(0);
    (longest < LINE_BYTES_SHOWN_MAX && !text.is_empty()).then_some(Source { name, text })
}

/// A span that is sure to lie in the text, on whole characters.
fn label(text: &str, words: &str, span: &std::ops::Range<usize>) -> LabeledSpan {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    // A span over several lines is shown by its first.
    let end = floor(span.end.max(start));
    let end = text[start..end].find('\n').map_or(end, |newline| start + newline);
    let words = printable(Cow::Borrowed(words)).into_owned();
    LabeledSpan::new((!words.is_empty()).then_some(words), start, end - start)
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.code.map(|code| Box::new(code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty())
            .then(|| Box::new(self.labels.iter().cloned()) as Box<dyn Iterator<Item = _>>)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        if self.elsewhere.is_empty() {
            return None;
        }
        Some(Box::new(self.elsewhere.iter().map(|report| report as &dyn miette::Diagnostic)))
    }
}
