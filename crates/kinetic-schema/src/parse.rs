//! Bytes to syntax tree. A syntax error hides only the block it stands in: the rest of the file is read all the same.

use hcl_edit::structure::Body;

use crate::diagnostic::{At, Problem, Sink};
use crate::limits::{NESTING_MAX, SYNTAX_ERRORS_MAX};

/// Parses a file, reporting every syntax error; what could be read is returned.
pub(crate) fn parse(sink: &mut Sink<'_>, file: usize) -> Body {
    let text = sink.files[file].text;
    if let Some(offset) = too_deep(text) {
        sink.incomplete = true;
        let at = At::new(file, offset..offset + 1);
        let message = format!("brackets are nested more than {NESTING_MAX} deep");
        sink.push(Problem::error("too-deep", &at, message).label("one level too many"));
        return Body::new();
    }
    let mut remaining = text.to_owned();
    for _ in 0..SYNTAX_ERRORS_MAX {
        let error = match remaining.parse::<Body>() {
            Ok(body) => return body,
            Err(error) => error,
        };
        sink.incomplete = true;
        let offset = error.location().offset();
        sink.push(syntax_problem(file, text, offset, error.message()));
        let chunk = enclosing_chunk(&remaining, offset);
        blank(&mut remaining, chunk);
        if remaining.trim().is_empty() {
            break;
        }
    }
    Body::new()
}

/// The parser's message in the words of the language, with help for the mistakes that HCL invites.
fn syntax_problem(file: usize, text: &str, offset: usize, message: &str) -> Problem {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let end = text[offset..].chars().next().filter(|c| *c != '\n').map_or(offset, |c| offset + c.len_utf8());
    let at = At::new(file, offset..end);
    let line_start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let (code, message) = if message.contains("redefined attribute") {
        let name = text[offset..].split(|c: char| c == '=' || c.is_whitespace()).next().unwrap_or_default();
        ("duplicate-attribute", format!("`{name}` is set twice in this block"))
    } else {
        ("syntax", format!("this is not HCL: {}", message.replace('\n', " ")))
    };
    let problem = Problem::error(code, &at, message);
    match syntax_help(line, offset - line_start) {
        Some(help) => problem.help(help),
        None => problem,
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
fn enclosing_chunk(text: &str, offset: usize) -> std::ops::Range<usize> {
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
fn blank(text: &mut String, range: std::ops::Range<usize>) {
    let blanks: String =
        text[range.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    text.replace_range(range, &blanks);
}

/// Where brackets are first nested deeper than `NESTING_MAX`. Strings and comments are not told apart from code:
/// brackets in them count too, which only matters to a file that nobody would write. The parser is recursive and has
/// a limit of its own; this one comes first so that its time and stack stay small whatever the input.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'{' | b'[' | b'(' => {
                depth += 1;
                if depth > NESTING_MAX {
                    return Some(offset);
                }
            }
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}
