//! Bytes to syntax tree. A syntax error hides only the block it stands in: the rest of the file is read all the same.

use std::ops::Range;

use hcl_edit::structure::Body;

use crate::diagnostic::{At, Problem, Sink};
use crate::limits::{NESTING_MAX, SYNTAX_ERRORS_MAX};

/// Parses a file, reporting its syntax errors; what could be read is returned.
pub(crate) fn parse(sink: &mut Sink<'_>, file: usize) -> Body {
    let text = sink.files[file].text;
    let mut remaining = text.to_owned();
    for _ in 0..SYNTAX_ERRORS_MAX {
        let error = match remaining.parse::<Body>() {
            Ok(body) => return body,
            Err(error) => error,
        };
        sink.incomplete = true;
        let offset = error.location().offset();
        if let Some(header) = unclosed(&remaining, offset) {
            let at = At::new(file, header.clone());
            let problem = Problem::error("syntax", &at, "this block is never closed").label("opened here");
            sink.push(problem.help("a `}` is missing before the next block, or at the end of the file"));
            let chunk = enclosing_chunk(&remaining, header.start);
            blank(&mut remaining, chunk);
        } else {
            sink.push(syntax_problem(file, text, offset, error.message()));
            remaining = without(remaining, offset);
        }
        if remaining.trim().is_empty() {
            break;
        }
    }
    Body::new()
}

/// The text without what stands at a syntax error: its line where that is enough to go on, and otherwise the whole
/// block at the margin, so that one slip is not reported once per line that follows it.
fn without(mut text: String, offset: usize) -> String {
    let offset = offset.min(text.len());
    let chunk = enclosing_chunk(&text, offset);
    let start = text.as_bytes()[..offset].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let end =
        text.as_bytes()[offset..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| offset + at);
    let mut attempt = text.clone();
    blank(&mut attempt, start..end);
    let goes_on = match attempt.parse::<Body>() {
        Ok(_) => true,
        Err(error) => {
            error.location().offset() >= chunk.end && unclosed(&attempt, error.location().offset()).is_none()
        }
    };
    if goes_on {
        return attempt;
    }
    blank(&mut text, chunk);
    text
}

/// Where the file ends inside a block: the first line of the block at the margin that the next one, or the end, finds
/// open.
fn unclosed(text: &str, offset: usize) -> Option<Range<usize>> {
    if !text[floor(text, offset)..].trim().is_empty() && offset + 1 < text.len() {
        return None;
    }
    let mut depth = 0i32;
    let mut header: Option<Range<usize>> = None;
    let mut position = 0;
    for line in text.split_inclusive('\n') {
        if starts_block(line) {
            if depth > 0 {
                return header;
            }
            header = Some(position..position + line.trim_end().len());
        }
        depth += brackets(line);
        position += line.len();
    }
    header.filter(|_| depth > 0)
}

/// Brackets that a line leaves open. Those in comments and strings do not count.
fn brackets(line: &str) -> i32 {
    let tokens = crate::format::tokens(line).unwrap_or_default();
    tokens.iter().map(|token| i32::from(token.opens()) - i32::from(token.closes())).sum()
}

/// The parser's message in the words of the language, with help for the mistakes that HCL invites.
fn syntax_problem(file: usize, text: &str, offset: usize, message: &str) -> Problem {
    let offset = floor(text, offset);
    let line_start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let rest = &text[offset..];
    let one = rest.chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    let word = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
    let (code, length, message) = if message.contains("redefined attribute") {
        ("duplicate-attribute", word, format!("`{}` is set twice in this block", &rest[..word]))
    } else if message.contains("nesting depth") {
        ("too-deep", one, format!("brackets are nested more than {NESTING_MAX} deep"))
    } else {
        ("syntax", one, plain_words(message))
    };
    let at = At::new(file, offset..offset + length);
    let problem = Problem::error(code, &at, message);
    match syntax_help(line, offset - line_start) {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// The parser lists tokens; its commonest findings have a plainer name.
fn plain_words(message: &str) -> String {
    if message.contains("invalid expression") {
        "a value is expected here".to_owned()
    } else if message.contains("newline or eof") {
        "nothing more is expected on this line".to_owned()
    } else if message.contains("invalid block body") {
        "a new line or a `}` is expected here".to_owned()
    } else {
        format!("this is not HCL: {}", message.replace('\n', " "))
    }
}

fn syntax_help(line: &str, column: usize) -> Option<&'static str> {
    let code = line.split('#').next().unwrap_or_default();
    if code.contains("rule") && code.contains('=') && code.contains("deviates") {
        return Some("a rule is a block: rule \"deviates\" { … }");
    }
    let before = code.get(..column.min(code.len())).unwrap_or_default();
    let open = before.matches('{').count() > before.matches('}').count();
    if open && before.matches('=').count() >= 1 && code.trim_end().ends_with('}') {
        return Some(
            "a block on one line holds one attribute at most: put each attribute on a line of its own",
        );
    }
    if code.trim_start().starts_with(['}', ']']) && open {
        return None;
    }
    if code.contains('\'') {
        return Some("strings are written in double quotes");
    }
    None
}

/// The lines from the last one at or before `offset` that starts a block at the margin to the next such line.
fn enclosing_chunk(text: &str, offset: usize) -> Range<usize> {
    let mut start = 0;
    let mut position = 0;
    for line in text.split_inclusive('\n') {
        if position > offset && starts_block(line) {
            return start..position;
        }
        if starts_block(line) {
            start = position;
        }
        position += line.len();
    }
    start..text.len()
}

fn starts_block(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Overwrites a range with blanks, so that all that follows keeps its place.
fn blank(text: &mut String, range: Range<usize>) {
    let blanks: String =
        text[range.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    text.replace_range(range, &blanks);
}

/// The last character boundary at or before an offset.
fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
